"""What cannot be done: does it end with an error that names the thing in one line, and is what was there before kept?"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

from benchmarks.altered_take import altered, facts_changed
from benchmarks.command import PATIENCE_S, empty_folder, ran
from benchmarks.farm import finished, sums
from benchmarks.live_show import LiveShow, limit_files, small_show, tracker
from ledvolume.take import Take
from measure import ROOT, Row

RECORDED_S = 2.5
FULL_KB = 300  # of a disk in memory
LARGEST_LIST = 6_000  # bytes of frames.jsonl
LARGEST_TAKE = 16_000  # bytes: the show and about a second of frames
CHECK = ("--as-it-happened", "--check")
# A disk of our own: in a namespace of users and mounts nobody needs to be root. Its files go with it, so they are copied out.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size={size}k tmpfs {disk} && {command} --out {disk}/out
status=$?
cp -r {disk}/out {kept}
exit $status
"""


def refusals() -> Iterable[Row]:
    """full disks, folders that cannot be written, takes and scenes that are not what they should be: status, words, what stays"""
    folder = empty_folder("replay-refusals")
    show, take = small_show(folder), folder / "take.mcap"
    with LiveShow(folder, "--record", take, show_file=show) as live, tracker(live.source, 60) as sender:
        time.sleep(RECORDED_S)
        live.stop()
        sender.kill()
    again = ran("replay", take, "--as-it-happened", "--out", folder / "again")
    yield Row("the take as it is, exit status", again.returncode, "", ("=", 0))
    yield from full_disk(take, folder, sums(folder / "again"))
    yield from full_disk_while_recording(folder, show)
    yield from no_folder(take, folder)
    yield from takes_that_are_none(take, folder)
    yield from scenes(take, folder)


def full_disk(take: Path, folder: Path, whole: dict) -> Iterable[Row]:
    """A file system with room for a part of the frames; then --resume on one with room for all."""
    disk, kept = folder / "disk", folder / "kept"
    disk.mkdir()
    command = f"{sys.executable} -m ledvolume replay {take} --as-it-happened --what walls"
    script = ON_A_SMALL_DISK.format(size=FULL_KB, disk=disk, command=command, kept=kept)
    if not may_mount(disk):
        print("        no namespace of mounts here: a limit on the size of files instead of a disk")
        yield from file_size_limit(take, folder, whole)
        return
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    yield from refused("disk full", done, "the disk is full: ")
    yield from goes_on("disk full", take, kept, whole, "--what", "walls")


def file_size_limit(take: Path, folder: Path, whole: dict) -> Iterable[Row]:
    """Where no disk can be made: no file may be larger than this, so that frames.jsonl cannot grow."""
    limited = partial(limit_files, LARGEST_LIST)
    done = ran("replay", take, "--as-it-happened", "--format", "none", "--out", folder / "kept", limited=limited)
    yield from refused("file too large", done, "File too large")
    yield from goes_on("file too large", take, folder / "kept", whole, "--format", "none")


def goes_on(name: str, take: Path, kept: Path, whole: dict, *words: str) -> Iterable[Row]:
    """What was rendered is kept and right, and --resume adds what is missing."""
    there = sums(kept)
    yield Row(f"{name}: frames that were kept", len(there), f"of {len(whole)}", ("≥", 1))
    yield Row(f"{name}: frames kept that are right, their files whole", len(whole_frames(kept, whole)), "", ("=", len(there)))
    done = ran("replay", take, "--as-it-happened", *words, "--out", kept, "--resume")
    said = f"{len(whole) - len(there)} rendered now, {len(there)} were there" in done.stderr
    yield Row(f"{name}: --resume renders just the others", said and sums(kept) == whole, "", ("=", True))


def whole_frames(out: Path, whole: dict) -> list[int]:
    """Frames whose sums are right, and whose files are as large as was written of them."""
    return [
        line["index"]
        for line in finished(out)
        if tuple(sorted(line["tile_hashes"].items())) == whole[line["index"]]
        and sum((out / file).stat().st_size for file in line["files"]) == line["bytes"]
    ]


def full_disk_while_recording(folder: Path, show: Path) -> Iterable[Row]:
    """The show goes on; the take is there up to then. A limit on the size of files, as a disk that takes no more."""
    take = folder / "full.mcap"
    with (
        LiveShow(folder, "--record", take, show_file=show, largest_file=LARGEST_TAKE) as live,
        tracker(live.source, 60) as sender,
    ):
        time.sleep(RECORDED_S + 1)
        summary = live.stop()
        sender.kill()
    said = sum("RECORDING STOPPED" in words for _, words in live.said)
    yield Row("no room while recording: said, once", said, "", ("=", 1))
    frames = len(list(Take(take).frames()))
    yield Row("no room while recording: frames that were shown after it", summary["frames"] - frames, "", ("≥", 24))
    done = ran("replay", take, *CHECK)
    exact = done.returncode == 0 and done.stdout.startswith(f"{frames} frames") and frames > 0
    yield Row("no room while recording: what is in the take replays to the last bit", exact, "", ("=", True))


def no_folder(take: Path, folder: Path) -> Iterable[Row]:
    """Root may write everywhere but where there is no place: below a file, and below /proc."""
    (folder / "file").write_text("a file where a folder should be")
    done = ran("replay", take, "--as-it-happened", "--out", folder / "file" / "out")
    yield from refused("output folder below a file", done, "file/out: cannot write: Not a directory")
    done = ran("replay", take, "--as-it-happened", "--out", "/proc/out")
    yield from refused("output folder below /proc", done, "/proc/out: cannot write: ")


def takes_that_are_none(take: Path, folder: Path) -> Iterable[Row]:
    """Cut in its frames, cut before its show, of a version that is not known; as it happened and better."""
    data, cut = take.read_bytes(), folder / "cut.mcap"
    cut.write_bytes(data[: len(data) * 2 // 3])
    done = ran("replay", cut, *CHECK)
    frames = len(list(Take(cut).frames()))
    warned = "cut off in a record" in done.stderr and "bytes at its end cannot be read" in done.stderr
    yield Row("take cut in its frames: said", warned, "", ("=", True))
    exact = done.returncode == 0 and done.stdout.startswith(f"{frames} frames") and frames > 0
    yield Row("take cut in its frames: what is left replays to the last bit", exact, "", ("=", True))
    cut.write_bytes(data[:300])
    yield from refused("take cut before its show", ran("replay", cut, *CHECK), "cut.mcap: take: expected a ")
    cut.write_bytes(data[:4])
    yield from refused("take cut in its first bytes", ran("replay", cut, *CHECK), "cut.mcap: take: expected an MCAP file")

    other = altered(take, folder / "version.mcap", facts_changed("take", format="9"))
    words = "version.mcap: take: format: expected 1: this version of ledvolume reads no other, got '9'"
    yield from refused("take of an unknown version, as it happened", ran("replay", other, *CHECK), words)
    better = ran("replay", other, "--format", "none", "--out", folder / "better")
    yield from refused("take of an unknown version, better", better, words)


def scenes(take: Path, folder: Path) -> Iterable[Row]:
    """The scene's file is gone; it is another one; and the first one, elsewhere, is taken."""
    scene, away = folder / "plane.safetensors", folder / "away.safetensors"
    scene.rename(away)
    yield from refused("scene missing, as it happened", ran("replay", take, *CHECK), f"the scene of plane is not at {scene}")
    better = ran("replay", take, "--format", "none", "--out", folder / "better-missing")
    yield from refused("scene missing, better", better, f"{scene}: no such scene file")
    shutil.copy(away, scene)
    with open(scene, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    another = "another scene than the one that "
    yield from refused("scene with another bit", ran("replay", take, *CHECK), f"{scene}: {another}")
    done = ran("replay", take, *CHECK, "--scene", f"plane={away}")
    yield Row("scene that has moved, named with --scene: exit status", done.returncode, "", ("=", 0))


def refused(name: str, done: CompletedProcess, words: str) -> Iterable[Row]:
    """Status 2, one line of error, with these words in it, and no traceback."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ledvolume replay: ")]
    is_clear = done.returncode == 2 and len(errors) == 1 and words in errors[0] and "Traceback" not in done.stderr
    print(f"        {name}: {errors[0] if errors else f'status {done.returncode}: {done.stderr}'}")
    yield Row(f"{name}: status 2 and one line that names it", is_clear, "", ("=", True))


def may_mount(folder: Path) -> bool:
    """May this user mount a file system, in a namespace of its own?"""
    if not shutil.which("unshare"):
        return False
    words = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True).returncode == 0


MEASUREMENTS = (refusals,)
