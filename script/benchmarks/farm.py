"""One job by one worker, by two, by a Ray cluster on this machine; with workers killed; interrupted and gone on with."""

import os
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from subprocess import Popen

import msgspec
import psutil

from benchmarks.command import PATIENCE_S, empty_folder, ended, ran, started
from benchmarks.tracks_of_others import registered_demo, tum_track
from measure import Row

RATE = "8"
TIMES = 3  # each, one after the other in turns
RAY_FRAMES, BROKEN_FRAMES = range(0, 60), range(0, 120)  # of the job, for what need not be all of it
SLACK = 1.05  # of a ratio of two times that were measured on a machine with other things to do
RENDERED = re.compile(r"(\d+) frames, .*: (\d+) rendered now, (\d+) were there")


def workers() -> Iterable[Row]:
    """TUM's track on the demo's wall as PNG: 1 and 2 workers in turns; a Ray cluster; killed workers; interrupted, resumed"""
    folder = empty_folder("farm")
    track = tum_track()
    show, _ = registered_demo(folder, track)
    job = ("replay", track, "--show", show, "--rate", RATE)
    took_s: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(TIMES):
        for count in (1, 2) if turn % 2 else (2, 1):
            began_s = time.monotonic()
            ran(*job, "--workers", str(count), "--out", folder / f"{count}-{turn}").check_returncode()
            took_s[count].append(time.monotonic() - began_s)
    whole = sums(folder / "1-0")
    frames = len(whole)
    yield Row("frames of the job, eight PNG files each", frames)
    same = [len(sums(folder / f"{count}-{turn}").items() & whole.items()) for turn in range(TIMES) for count in (1, 2)]
    yield Row("frames with the same tile sums, 1 and 2 workers, every time", min(same), f"of {frames}", ("=", frames))
    for count in (1, 2):
        yield Row(f"it took {count} worker{'s' * (count - 1)}, median of {TIMES}", statistics.median(took_s[count]), "s")
    ratio = statistics.median(took_s[2]) / statistics.median(took_s[1])
    yield Row("2 workers / 1 worker, wall time", ratio, "", ("≤", SLACK))

    part = f"{RAY_FRAMES[0]}-{RAY_FRAMES[-1]}"
    done = ran(*job, "--workers", "2", "--ray", "local", "--frames", part, "--out", folder / "ray")
    yield Row("a Ray cluster of this machine, exit status", done.returncode, "", ("=", 0))
    same = len(sums(folder / "ray").items() & whole.items())
    yield Row("frames with the same tile sums, Ray and 1 worker", same, f"of {len(RAY_FRAMES)}", ("=", len(RAY_FRAMES)))

    job = (*job, "--workers", "2", "--frames", f"{BROKEN_FRAMES[0]}-{BROKEN_FRAMES[-1]}")
    whole = {index: whole[index] for index in BROKEN_FRAMES}
    yield from killed_workers(job, folder / "killed", whole)
    yield from interrupted("SIGINT", job, folder / "ctrl-c", whole)
    yield from interrupted("SIGKILL", job, folder / "kill-9", whole)


def killed_workers(job: tuple, out: Path, whole: dict) -> Iterable[Row]:
    """One of two workers is killed at a quarter of the job, the other one at half of it."""
    process, killed = started(*job, "--out", out), 0
    for share in (0.25, 0.5):
        until(share * len(whole), out, process)
        victims = psutil.Process(process.pid).children()
        os.kill(victims[killed % len(victims)].pid, signal.SIGKILL)
        killed += 1
    done = ended(process)
    yield Row("workers killed with SIGKILL in a job, exit status of the job", done.returncode, "", ("=", 0))
    yield Row("workers killed", killed, "", ("=", 2))
    yield from whole_once("killed workers", out, whole)


def interrupted(name: str, job: tuple, out: Path, whole: dict) -> Iterable[Row]:
    """The process and its workers, at a third of the job; then --resume."""
    process = started(*job, "--out", out)
    until(len(whole) / 3, out, process)
    groups = [process.pid, *(child.pid for child in psutil.Process(process.pid).children())]
    os.killpg(process.pid, signal.Signals[name])
    if name == "SIGKILL":
        for group in groups[1:]:
            os.killpg(group, signal.SIGKILL)
    status = ended(process).returncode
    yield Row(f"{name}: exit status", status, "", ("=", 130 if name == "SIGINT" else -signal.SIGKILL))
    there = {file: (out / file).stat().st_mtime_ns for line in finished(out) for file in line["files"]}
    frames_there = len(sums(out))
    again = ran(*job, "--out", out, "--resume")
    said = RENDERED.search(again.stderr)
    frames, now, before = map(int, said.groups()) if said else (0, 0, 0)
    yield Row(f"{name}: finished when it was interrupted", frames_there, f"of {len(whole)}", ("≥", 1))
    yield Row(f"{name}: --resume says that it found", before, f"of {frames}", ("=", frames_there))
    yield Row(f"{name}: --resume says that it rendered", now, f"of {frames}", ("=", len(whole) - frames_there))
    written = sum((out / file).stat().st_mtime_ns != before_ns for file, before_ns in there.items())
    yield Row(f"{name}: files of finished frames that --resume wrote again", written, "", ("=", 0))
    yield from whole_once(f"{name} and --resume", out, whole)


def whole_once(name: str, out: Path, whole: dict) -> Iterable[Row]:
    """Nothing missing, nothing twice, every file there, the sums those of one worker."""
    lines = Counter(line["index"] for line in finished(out))
    files = {path.relative_to(out) for path in out.rglob("*.png")}
    named = {Path(file) for line in finished(out) for file in line["files"]}
    yield Row(f"{name}: frames or files missing", len(whole.keys() - lines.keys()) + len(named - files), "", ("=", 0))
    yield Row(f"{name}: frames twice, files of no frame", sum(n > 1 for n in lines.values()) + len(files - named), "", ("=", 0))
    same = len(sums(out).items() & whole.items())
    yield Row(f"{name}: frames with the sums of one worker", same, f"of {len(whole)}", ("=", len(whole)))


def until(frames: float, out: Path, process: Popen) -> None:
    """Wait until so many frames are finished. Raises RuntimeError where the job ends before."""
    deadline_s = time.monotonic() + PATIENCE_S
    while len(finished(out)) < frames:
        if process.poll() is not None or time.monotonic() > deadline_s:
            process.kill()
            raise RuntimeError(f"{out}: {len(finished(out))} frames, wanted {frames}: {process.communicate()}")
        time.sleep(0.02)


def finished(out: Path) -> list[dict]:
    """The lines of all finished frames; one that is being written is none."""
    return [
        msgspec.json.decode(line)
        for file in out.glob("frames*.jsonl")
        for line in file.read_bytes().splitlines(keepends=True)
        if line.endswith(b"}\n")
    ]


def sums(out: Path) -> dict[int, tuple]:
    """Frame → its tiles' sums."""
    return {line["index"]: tuple(sorted(line["tile_hashes"].items())) for line in finished(out)}


MEASUREMENTS = (workers,)
