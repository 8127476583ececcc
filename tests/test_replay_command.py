"""`ledvolume replay`: from tracks to pictures, with one worker and several, on a farm, in parts, and in the words of errors."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import av
import pytest
from scenes import plane_scene

from ledvolume.camera import CameraSample
from ledvolume.cli import main
from ledvolume.errors import ConfigError
from ledvolume.farm.openjd import job_template, parts_of
from ledvolume.moves import open_move
from ledvolume.recording import TakeWriter
from ledvolume.scenes import bricks

ROOT = Path(__file__).resolve().parent.parent
SHOW = """
name = "small"
rate = "24"
[stage]
eye_m = [0, 0, 1.6]
zone = { min_m = [-1, -1, 1], max_m = [1, 1, 2.2] }
surface = [{ name = "wall", shape = "arc", radius_m = 5.0, centre_m = [0, 4, 1.6], size_m = [4, 2.8], resolution_px = [64, 44], tiles = [2, 1] }]
[[camera]]
id = "A"
focal_length_mm = 35
sensor_mm = [24, 16]
[[place]]
name = "plane"
file = "plane.scene"
field_from_stage = { scale = 0.2, position = [0, 0, -0.32] }
[[place]]
name = "nearer"
file = "plane.scene"
field_from_stage = { scale = 0.4, position = [0, 0, -0.64] }
"""


def samples(seconds: float = 1.0) -> list[CameraSample]:
    """100 Hz with the timecode of a counter at 24 frames a second, from 01:00:00:00 on."""
    move = open_move("builtin:handheld?at=0,0,1.6&look=0,4,1.6")
    found = []
    for i in range(round(seconds * 100) + 1):
        at_ns, frame = 1_700_000_000_000_000_000 + i * 10_000_000, i * 24 // 100
        code = f"01:00:{frame // 24:02d}:{frame % 24:02d}"
        found.append(CameraSample("A", at_ns, at_ns, move.pose_at(i / 100), timecode=code))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small show, a take of a second with the show in it, the same track as CSV, a damaged scene."""
    folder = tmp_path_factory.mktemp("replay")
    bricks.save(folder / "plane.scene", plane_scene(depth=0))
    (folder / "show.toml").write_text(SHOW)
    writer = TakeWriter(folder / "take.mcap")
    writer.attach("show.toml", SHOW.encode(), "application/toml")
    for sample in samples():
        writer.sample(sample)
    writer.close()
    assert main(["convert", str(folder / "take.mcap"), str(folder / "track.csv")]) == 0
    return folder


def replay(folder: Path, *words: str) -> int:
    return main(["replay", str(folder / "take.mcap"), *map(str, words)])


def lines(out: Path, name: str = "frames.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def hashes(out: Path) -> dict[int, dict]:
    return {line["index"]: line["tile_hashes"] for line in lines(out)}


@pytest.fixture(scope="module")
def one_worker(folder, tmp_path_factory) -> Path:
    """The whole take, by one worker."""
    out = tmp_path_factory.mktemp("one")
    assert replay(folder, "--out", out) == 0
    return out


def test_a_take_becomes_pictures_of_every_frame(one_worker):
    # 1 s of samples: frames 0 to 24 at 24 a second
    assert [line["index"] for line in lines(one_worker)] == list(range(25))
    assert {line["timecode"]: line["present_at_ns"] for line in lines(one_worker)}["01:00:00:12"] == 1_700_000_000_500_000_000
    assert sorted(p.name for p in (one_worker / "wall-0-0").iterdir()) == [f"{i:08d}.png" for i in range(25)]
    assert {p.name for p in one_worker.iterdir()} >= {"job.json", "wall-1-0", "camera.jsonl", "hashes.sfv"}
    assert not list(one_worker.rglob("*.part"))
    for line in (one_worker / "hashes.sfv").read_text().splitlines():
        name, crc = line.rsplit(" ", 1)
        assert zlib.crc32((one_worker / name).read_bytes()) == int(crc, 16)


def test_two_workers_render_the_same_bytes(folder, one_worker, tmp_path):
    assert replay(folder, "--out", tmp_path, "--workers", 2) == 0
    assert hashes(tmp_path) == hashes(one_worker) and len(hashes(tmp_path)) == 25
    for file in one_worker.glob("wall-*/*.png"):
        assert (tmp_path / file.relative_to(one_worker)).read_bytes() == file.read_bytes()


def test_a_ray_cluster_renders_the_same_bytes(folder, one_worker, tmp_path):
    """In a process of its own: Ray starts a cluster there, on this machine."""
    words = [
        sys.executable,
        "-m",
        "ledvolume",
        "replay",
        folder / "take.mcap",
        "--out",
        tmp_path,
        "--ray",
        "local",
        "--workers",
        "2",
    ]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path) == hashes(one_worker)


def test_a_track_without_a_show_needs_one(folder, one_worker, tmp_path, capsys):
    track = str(folder / "track.csv")
    assert main(["replay", track, "--out", str(tmp_path)]) == 2
    assert "--show: expected a show file: this track brings none with it" in capsys.readouterr().err
    assert main(["replay", track, "--out", str(tmp_path), "--show", str(folder / "show.toml"), "--frames", "3-5"]) == 0
    assert {line["index"]: line["tile_hashes"] for line in lines(tmp_path, "frames-3-5.jsonl")} == {
        index: tiles for index, tiles in hashes(one_worker).items() if 3 <= index <= 5
    }


@pytest.mark.parametrize("track", ["nerfstudio_camera_path/one_lap_cut.json", "tum/freiburg1_xyz_cut.txt"])
def test_real_tracks_are_rendered(track, folder, tmp_path):
    """nerfstudio's camera path and a motion capture, made by others."""
    file, show = ROOT / "tests" / "data" / track, folder / "show.toml"
    words = ["replay", file, "--show", show, "--out", tmp_path, "--format", "none", "--frames", "5-6"]
    assert main(list(map(str, words))) == 0
    assert [line["index"] for line in lines(tmp_path, "frames-5-6.jsonl")] == [5, 6]


def test_resume_renders_only_what_is_missing(folder, tmp_path, capsys):
    assert replay(folder, "--out", tmp_path, "--frames", "4-9", "--frames-only") == 0
    (tmp_path / "wall-1-0" / "00000006.png").unlink()
    capsys.readouterr()
    assert replay(folder, "--out", tmp_path, "--resume") == 0
    assert "25 frames" in (said := capsys.readouterr().err) and "20 rendered now, 5 were there" in said
    assert replay(folder, "--out", tmp_path, "--resume") == 0
    assert "0 rendered now, 25 were there" in capsys.readouterr().err


def test_another_job_does_not_go_on_in_this_folder(folder, tmp_path, capsys):
    assert replay(folder, "--out", tmp_path, "--frames", "0-1", "--frames-only") == 0
    assert replay(folder, "--out", tmp_path, "--resume", "--quality", "final") == 2
    assert re.search("job.json: quality: expected '', as of the frames that are here.* got 'final'", capsys.readouterr().err)
    assert replay(folder, "--out", tmp_path, "--resume", "--rate", "25") == 2
    assert "job.json: frames: expected 25, as of" in capsys.readouterr().err
    assert replay(folder, "--out", tmp_path) == 2
    assert "or --resume to go on with it, got '2 finished frames'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [("--scene", "nearer"), ("--focal-mm", "70"), ("--move", "0.2,0,0"), ("--pan", "5"), ("--quality", "final")],
    ids=lambda words: words[0],
)
def test_overrides_change_the_picture(words, folder, one_worker, tmp_path):
    assert replay(folder, "--out", tmp_path, "--frames", "10", "--format", "none", *words) == 0
    (line,) = lines(tmp_path, "frames-10-10.jsonl")
    assert line["tile_hashes"].keys() == hashes(one_worker)[10].keys() and line["tile_hashes"] != hashes(one_worker)[10]


def test_a_swapped_scene_file_is_rendered(folder, one_worker, tmp_path):
    bricks.save(tmp_path / "other.scene", plane_scene(distance=1.2, depth=0))
    assert (
        replay(folder, "--out", tmp_path / "out", "--frames", "10", "--format", "none", "--scene", tmp_path / "other.scene") == 0
    )
    assert lines(tmp_path / "out", "frames-10-10.jsonl")[0]["tile_hashes"] != hashes(one_worker)[10]


def test_a_video_has_every_frame_and_the_timecode(folder, tmp_path):
    assert replay(folder, "--out", tmp_path, "--what", "view", "--size", "96x64", "--format", "prores", "--rate", "48") == 0
    with av.open(str(tmp_path / "view.mov")) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, 48)
        assert sum(1 for _ in video.decode(stream)) == 49  # 1 s, both ends
        assert stream.metadata["timecode"] == "01:00:00:00"


def test_the_plan_renders_nothing_that_stays(folder, tmp_path, capsys):
    assert replay(folder, "--out", tmp_path / "out", "--plan") == 0
    said = capsys.readouterr()
    assert re.search(r"frames +25\nbytes +about .*kB, .* a frame; .* free in .*\ntime +about 0:00:\d\d, ", said.out)
    assert "small, place plane: 25 frames at 24 fps, 0 to 24, timecode 01:00:00:00 to 01:00:01:00" in said.err
    assert "wall-0-0 32 x 44, wall-1-0 32 x 44: 2,816 pixels a frame" in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, told",
    [
        (["--frames", "20-90"], "--frames: expected frames of the track, 0 to 24, got '20-90'"),
        (["--frames", "9-3"], "--frames: expected frames such as 120-239, got '9-3'"),
        (["--camera", "B"], "camera: expected one of A, got 'B'"),
        (["--scene", "nowhere"], r"--scene: expected a place of the show \(plane, nearer\), or a scene file, got 'nowhere'"),
        (["--move", "1,2"], "--move: expected three numbers x,y,z, got '1,2'"),
        (["--size", "0x3"], "--size: expected width and height such as 1920x1080, got '0x3'"),
        (["--what", "view", "--size", "95x64", "--format", "hevc"], "needs even width and height, got 95 x 64"),
        (["--ray", "127.0.0.1:1"], "--ray 127.0.0.1:1: no Ray cluster there"),
        (["--what", "film", "--format", "exr"], "expected format png"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_what_cannot_be_done_is_said_at_once(words, told, folder, tmp_path, capsys):
    try:
        status = replay(folder, "--out", tmp_path / "out", *words)
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status == 2 and re.search(told, said) and "Traceback" not in said, said


def test_ray_that_is_not_installed_is_named_with_its_command(monkeypatch, folder, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert replay(folder, "--out", tmp_path, "--ray", "local") == 2
    assert "pip install 'ledvolume[cluster]'" in capsys.readouterr().err


def test_a_scene_that_is_missing_is_an_error_of_the_show(folder, tmp_path, capsys):
    (tmp_path / "show.toml").write_text(SHOW)
    assert replay(folder, "--show", tmp_path / "show.toml", "--out", tmp_path / "out") == 2
    assert re.search("plane.scene", capsys.readouterr().err)


def command(folder: Path, out: Path, *words: str, **options) -> subprocess.Popen:
    whole = [sys.executable, "-m", "ledvolume", "replay", str(folder / "take.mcap"), "--out", str(out), *words]
    return subprocess.Popen(whole, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def until(frames: int, out: Path, process: subprocess.Popen) -> None:
    """Wait until so many frames are finished."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s and process.poll() is None:
        if (out / "frames.jsonl").exists() and len(lines(out)) >= frames:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(process.communicate())


def children(process_id: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]


def test_a_worker_killed_while_it_renders_costs_nothing_but_time(folder, one_worker, tmp_path):
    process = command(folder, tmp_path, "--workers", "2", "--rate", "240", "--quality", "final")
    until(10, tmp_path, process)
    for victim in children(process.pid):
        os.kill(victim, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert Counter(line["index"] for line in lines(tmp_path)) == Counter(range(241))
    assert len(list((tmp_path / "wall-0-0").glob("*.png"))) == 241 and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_job_goes_on_where_it_was(number, folder, tmp_path, capsys):
    process = command(folder, tmp_path, "--rate", "240", "--quality", "final", start_new_session=True)
    until(10, tmp_path, process)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=20)
    there = len(lines(tmp_path))
    if number != signal.SIGKILL:
        assert process.returncode == 130 and "Traceback" not in said
        assert f"stopped: {there} of 241 frames are finished, --resume goes on" in said
    assert 10 <= there < 241
    time.sleep(0.5)  # a worker without its master ends with its frame
    assert replay(folder, "--out", tmp_path, "--rate", "240", "--quality", "final", "--resume") == 0
    assert "241 frames, " in (said := capsys.readouterr().err) and f"{241 - there} rendered now, {there} were there" in said
    assert Counter(line["index"] for line in lines(tmp_path)) == Counter(range(241))


def test_a_disk_that_is_full_is_said_and_what_was_written_stays(folder, tmp_path):
    """A limit on the size of files, as a disk that takes no more: the manifest of ten frames fits, and not that of 25."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3500, 3500))

    process = command(folder, tmp_path, "--format", "none", preexec_fn=limited)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in said and "frames.jsonl: " in said, said
    there = (tmp_path / "frames.jsonl").read_bytes().count(b"\n")
    assert 5 < there < 25
    process = command(folder, tmp_path, "--format", "none", "--resume")
    _, said = process.communicate(timeout=60)
    assert f"{25 - there} rendered now, {there} were there" in said


def test_a_folder_that_cannot_be_written_to_is_said(folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert replay(folder, "--out", tmp_path / "file" / "out") == 2
    assert "file/out: cannot write: Not a directory. Is the folder writable" in capsys.readouterr().err


def test_parts_cover_every_frame_once():
    for first, last in ((0, 0), (0, 6), (5, 100), (0, 86_399), (0, 500_000)):
        parts = parts_of(first, last)
        assert [i for a, b in parts for i in range(a, b + 1)] == list(range(first, last + 1))
        assert len(parts) <= 1024


def openjd(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = Path(sys.executable).with_name("openjd")
    return subprocess.run([found, *map(str, words)], capture_output=True, text=True, env=environment, timeout=120)


def test_a_render_farm_renders_the_same(folder, one_worker, tmp_path):
    """Names that a shell or a template would take for something else are names."""
    out = tmp_path / 'it\'s {{Param.Take}} $(touch harm) "here"'
    file = tmp_path / "job.json"
    assert replay(folder, "--out", out, "--frames", "0-3", "--openjd", file) == 0
    assert not out.exists()
    checked = openjd("check", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = openjd("run", file, "--step", "render", "--run-dependencies")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line["index"] for file in out.glob("frames-*.jsonl") for line in lines(out, file.name)} == {0, 1, 2, 3}
    assert not (out / "hashes.sfv").exists()
    done = openjd("run", file, "--step", "finish")
    assert done.returncode == 0, done.stdout + done.stderr
    for file in out.glob("wall-*/*.png"):
        assert file.read_bytes() == (one_worker / file.relative_to(out)).read_bytes()
    assert (out / "hashes.sfv").exists() and len(list(out.glob("wall-0-0/*.png"))) == 4


def test_a_word_that_no_template_holds_is_refused():
    with pytest.raises(ConfigError, match="Out: expected at most 1024 characters"):
        job_template("job", "take", {"--out": "x" * 2000}, [(0, 1)])
