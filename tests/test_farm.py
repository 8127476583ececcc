"""Frames over workers: all of them, once, in order, whoever dies; and going on with a job that was interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from farm_workers import TinySpec, TinyWorker

from ledvolume.camera import Camera, Lens
from ledvolume.errors import ConfigError, LedvolumeError, OutputError, RenderError
from ledvolume.farm import finished, render_all
from ledvolume.farm.crew import order_for
from ledvolume.farm.job import JobFolder, this_part
from ledvolume.farm.local import LocalCrew, in_words, thread_shares
from ledvolume.frame import FrameRequest
from ledvolume.pose import Pose

ROOT = Path(__file__).resolve().parent.parent
CAMERA = Camera(Pose(), Lens(40.0, (24.0, 18.0)), "measured", 0)


def frames(count: int, first: int = 0) -> list[FrameRequest]:
    return [FrameRequest(first + i, 1000 + i, 0, CAMERA, "place", timecode=f"01:00:00:{i:02d}") for i in range(count)]


def begun(out: Path) -> list[int]:
    """Indices of the frames that workers began, in order."""
    return [int(line.split()[0]) for line in (out / "rendered.log").read_text().splitlines()]


def processes(out: Path) -> set[int]:
    return {int(line.split()[0]) for line in (out / "made.log").read_text().splitlines()}


def hash_of(index: int) -> int:
    return zlib.crc32(f"{index:04d}".encode() * 25)


@pytest.mark.parametrize("workers", [1, 2])
def test_frames_come_in_order_each_once(workers, tmp_path):
    rendered = list(render_all(TinyWorker, TinySpec(str(tmp_path)), frames(50, first=7), workers))
    assert [r.index for r in rendered] == list(range(7, 57))
    assert all(r.tile_hashes == {"tile": hash_of(r.index)} for r in rendered)
    assert Counter(begun(tmp_path)) == Counter(range(7, 57))
    assert len(processes(tmp_path)) == workers


def test_a_worker_that_is_killed_costs_the_frame_that_it_was_at(tmp_path):
    spec = TinySpec(str(tmp_path), killed_at=(5, 6, 30))
    rendered = list(render_all(TinyWorker, spec, frames(40), 2))
    assert [r.index for r in rendered] == list(range(40))
    # each of the three was begun twice, every other frame once
    assert Counter(begun(tmp_path)) == Counter(range(40)) + Counter([5, 6, 30])
    assert len(processes(tmp_path)) == 2 + 3


def test_a_worker_killed_from_outside_costs_its_chunk_only(tmp_path):
    """SIGKILL at any moment, also between two frames."""
    crew = LocalCrew(order_for(TinyWorker, TinySpec(str(tmp_path), seconds=0.01)), 2)
    indices = []
    for rendered in finished(crew, frames(40)):
        indices.append(rendered.index)
        if len(indices) in (8, 16, 24):
            os.kill(next(iter(crew.process_ids.values())), signal.SIGKILL)
    crew.close()
    assert sorted(indices) == list(range(40))
    assert len(begun(tmp_path)) <= 40 + 3


def test_a_frame_that_kills_its_workers_is_named_and_the_others_are_kept(tmp_path):
    spec = TinySpec(str(tmp_path), killed_at=(9,), always=True)
    with JobFolder(tmp_path, spec, frames(20)) as job:
        with pytest.raises(RenderError, match="frame 9: 3 workers died at it, the last one killed by SIGKILL.*memory"):
            list(render_all(TinyWorker, spec, frames(20), 1, job=job))
    assert begun(tmp_path).count(9) == 3
    assert {line["index"] for line in lines(tmp_path)} >= set(range(9))


def test_an_error_of_a_worker_comes_back_as_it_is_and_ends_the_job(tmp_path):
    spec = TinySpec(str(tmp_path), broken_at=12)
    with JobFolder(tmp_path, spec, frames(20)) as job:
        with pytest.raises(OutputError, match="^frame 12: no room$"):
            list(render_all(TinyWorker, spec, frames(20), 1, job=job))
    assert [line["index"] for line in lines(tmp_path)] == list(range(12))


def test_a_bug_in_a_worker_names_the_frame(tmp_path):
    with pytest.raises(LedvolumeError, match="frame 3: KeyError: 'a bug'"):
        list(render_all(TinyWorker, TinySpec(str(tmp_path), bug_at=3), frames(5), 1))


def test_workers_go_when_nobody_listens_any_more(tmp_path):
    rendered = render_all(TinyWorker, TinySpec(str(tmp_path), seconds=0.05), frames(100), 2)
    next(rendered)
    rendered.close()
    time.sleep(0.1)
    assert not [pid for pid in processes(tmp_path) if Path(f"/proc/{pid}").exists()]
    assert len(begun(tmp_path)) < 20


def test_ctrl_c_ends_cleanly_and_resume_renders_what_is_missing(tmp_path):
    """The interrupt goes to the whole process group, as from a terminal."""
    program = (
        "import sys; from test_farm import *\n"
        f"out = {str(tmp_path)!r}; spec = TinySpec(out, seconds=0.02)\n"
        "with JobFolder(out, spec, frames(60), resume=True) as job:\n"
        "    print(len(job.done), flush=True)\n"
        "    try:\n"
        "        for r in render_all(TinyWorker, spec, frames(60), 2, job=job): print(r.index, flush=True)\n"
        "    except KeyboardInterrupt: sys.exit(130)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}

    def started():
        return subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    first = started()
    for line in first.stdout:
        if line.strip() == "20":
            os.killpg(first.pid, signal.SIGINT)
            break
    _, said = first.communicate(timeout=20)
    assert first.returncode == 130 and said == ""
    finished_before = len(lines(tmp_path))
    begun_before = len(begun(tmp_path))
    assert 20 <= finished_before < 60

    second = started()
    output, said = second.communicate(timeout=20)
    assert second.returncode == 0, said
    assert [int(word) for word in output.split()] == [finished_before, *range(60)]
    assert len(begun(tmp_path)) - begun_before == 60 - finished_before
    assert Counter(line["index"] for line in lines(tmp_path)) == Counter(range(60))


def lines(out: Path, name: str = "frames.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def rendered_job(out: Path, count: int = 10, **options) -> int:
    """Renders a job to its end; how many frames were rendered now."""
    spec = TinySpec(str(out))
    with JobFolder(out, spec, frames(count), **options) as job:
        part = this_part(frames(count), options.get("part"))
        assert [r.index for r in render_all(TinyWorker, spec, part, 1, job=job)] == [request.index for request in part]
        return len(part) - len(job.done)


def test_the_manifest_has_a_line_for_each_frame(tmp_path):
    rendered_job(tmp_path, 3)
    assert lines(tmp_path) == [
        {
            "index": i,
            "present_at_ns": 1000 + i,
            "timecode": f"01:00:00:0{i}",
            "tile_hashes": {"tile": hash_of(i)},
            "files": [f"tile/0000000{i}.png"],
            "bytes": 100,
        }
        for i in range(3)
    ]


def test_resume_does_again_what_is_not_whole(tmp_path):
    """A torn last line, a file that is gone, one that is too short."""
    assert rendered_job(tmp_path) == 10
    whole = (tmp_path / "frames.jsonl").read_bytes()
    (tmp_path / "frames.jsonl").write_bytes(whole[:-20])
    (tmp_path / "tile/00000002.png").unlink()
    (tmp_path / "tile/00000004.png").write_bytes(b"short")
    assert rendered_job(tmp_path, resume=True) == 3
    assert rendered_job(tmp_path, resume=True) == 0
    assert (tmp_path / "tile/00000004.png").stat().st_size == 100


def test_parts_of_a_job_share_a_folder(tmp_path):
    """As the machines of a farm do: each has lines of its own, and the whole job finds all of them."""
    assert rendered_job(tmp_path, part=(0, 3), resume=True) == 4
    assert rendered_job(tmp_path, part=(6, 7), resume=True) == 2
    assert len(lines(tmp_path, "frames-6-7.jsonl")) == 2
    assert rendered_job(tmp_path, resume=True) == 4


def test_finished_frames_are_never_written_over_unasked(tmp_path):
    rendered_job(tmp_path)
    with pytest.raises(ConfigError, match="--out: expected a folder without finished frames, or --resume .* got '10 finished"):
        rendered_job(tmp_path)


@pytest.mark.parametrize(
    "other, count, told",
    [
        (TinySpec("", seconds=0.5), 10, r"seconds: expected 0.0, as of the frames that are here; .* got 0.5"),
        (TinySpec(""), 11, "frames: expected 10, as of the frames"),
    ],
    ids=["spec", "frames"],
)
def test_another_job_is_refused_and_the_difference_is_named(other, count, told, tmp_path):
    rendered_job(tmp_path)
    with pytest.raises(ConfigError, match=told):
        JobFolder(tmp_path, other, frames(count), resume=True)


def test_other_requests_of_the_same_frames_are_another_job(tmp_path):
    rendered_job(tmp_path)
    other = [msgspec.structs.replace(request, scene="elsewhere") for request in frames(10)]
    with pytest.raises(ConfigError, match="requests: expected 'sha256:"):
        JobFolder(tmp_path, TinySpec(""), other, resume=True)


def test_threads_are_divided_among_workers():
    cores = len(os.sched_getaffinity(0))
    assert thread_shares(1, {}) == {}
    assert thread_shares(cores, {}) == {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    assert thread_shares(10 * cores, {})["LP_NUM_THREADS"] == "1"
    assert thread_shares(cores, {"LP_NUM_THREADS": "0"})["LP_NUM_THREADS"] == "0"  # asked for fewer: so be it


@pytest.mark.parametrize(
    "status, words",
    [(3, "it ended with exit status 3"), (-11, "killed by SIGSEGV"), (-9, "killed by SIGKILL: was there enough memory?")],
)
def test_the_end_of_a_process_in_words(status, words):
    assert in_words(status) == words
