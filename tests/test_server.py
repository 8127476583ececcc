"""The running server: poses in over real sockets, frames out over real sockets, and what it says of itself."""

import gc
import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scenes import plane_scene

from ledvolume import schedule, server
from ledvolume.camera import Camera, CameraSample, Lens, Rig
from ledvolume.clock import FrameClock
from ledvolume.config import load_show
from ledvolume.errors import ConfigError, SceneError
from ledvolume.frame import FrameRequest
from ledvolume.outputs.receive import TileReceiver
from ledvolume.outputs.tally import TileTally
from ledvolume.pose import Pose
from ledvolume.protocols import open_decoder, osc
from ledvolume.protocols.osc_map import preset_map
from ledvolume.report import Report
from ledvolume.scenes import bricks
from ledvolume.sources import Datagram, open_sender
from ledvolume.stage import Box
from ledvolume.timeline import NEVER_NS, Timeline

PATIENCE_S = 20.0
PUPIL_M = 0.08
SHOW = """
name = "test"
rate = "20"
[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
[[stage.surface]]
name = "wall"
shape = "arc"
radius_m = 6.0
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [64, 48]
tiles = [2, 2]
[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 40.0
entrance_pupil_mm = 80.0
[[place]]
name = "plane"
file = "plane.safetensors"
field_from_stage = { scale = 0.2, position = [0.0, 0.0, -0.32] }
[[source]]
uri = "osc+udp://127.0.0.1:0"
preset = "ledvolume"
[[output]]
uri = "stream://127.0.0.1:0"
"""


@pytest.fixture(scope="module")
def show_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("show")
    bricks.save(folder / "plane.safetensors", plane_scene(depth=0))
    (folder / "show.toml").write_text(SHOW)
    return folder / "show.toml"


@contextmanager
def command(*arguments: str):
    """`ledvolume …` as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ledvolume", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def status_when(file: Path, process: subprocess.Popen, is_reached) -> dict:
    """The status file's first content for which `is_reached`."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if file.exists() and is_reached(status := json.loads(file.read_text())):
            return status
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the server did not come that far")


def osc_pose(pose: Pose) -> bytes:
    now_ns = time.time_ns()
    return osc.encode(CameraSample("A", now_ns, now_ns, pose), osc_map=preset_map("ledvolume"))


def test_a_show_is_served_to_the_wall_and_stops_when_it_is_told(show_file, tmp_path):
    """Real processes, real sockets: a camera that moves, stands, and a stranger's datagrams in between."""
    status_file = tmp_path / "status.json"
    with command("serve", str(show_file), "--status", str(status_file)) as process:
        status = status_when(status_file, process, lambda status: True)
        assert status["tiles"] == 4 and status["led_px"] == 64 * 48
        tallies = {f"wall-{c}-{r}": TileTally() for c in range(2) for r in range(2)}
        eyes, frames = [], {}
        with (
            closing(open_sender(status["sources"][0]["uri"])) as tracker,
            closing(TileReceiver(status["outputs"][0]["uri"], tallies)) as receiver,
        ):
            x, deadline_s = -0.3, time.monotonic() + PATIENCE_S
            while len(eyes) < 30 or eyes[-1] != pytest.approx(eyes[-5], abs=1e-9):
                assert time.monotonic() < deadline_s, "the camera did not arrive"
                x = min(x + 0.004, 0.3)
                tracker.send(osc_pose(Pose(position_m=(x, 0.1, 1.7))))
                tracker.send(b"/nonsense")
                for tile in receiver.receive(0.01):
                    tallies[tile.header.tile].add(tile)
                    frames.setdefault(tile.header.request.index, {})[tile.header.tile] = tile
                    if tile.header.tile == "wall-0-0" and tile.header.request.camera.tracking == "predicted":
                        eyes.append(tile.header.request.camera.stage_from_camera.position_m[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    summary = json.loads(status_file.read_text())
    assert all(tally.frames >= 29 and tally.restarts == 0 for tally in tallies.values())  # the last may be on its way
    assert not receiver.rejected
    # It moved to where it was sent without a jump; it is predicted 50 ms ahead, so it overshoots where it stops suddenly.
    assert eyes[-1] == pytest.approx(0.3, abs=1e-6) and max(eyes) < 0.4 and np.abs(np.diff(eyes)).max() < 0.1
    # The pupil is 80 mm in front of the tracked point.
    last = max(index for index, tiles in frames.items() if len(tiles) == 4)
    request = frames[last]["wall-0-0"].header.request
    assert request.camera.stage_from_camera.position_m == pytest.approx((0.3, 0.1 + PUPIL_M, 1.7), abs=1e-6)
    assert summary["state"] == "stopped" and summary["frames"] >= 30
    assert summary["poses_received"] > 100 and sum(summary["poses_refused"].values()) > 100
    assert summary["pose_to_send_ms"]["p50"] > 0 and summary["renderer"]

    # A frame is a function of its request: made again, elsewhere and later, it has the same bytes.
    renderer = server.open_renderer(load_show(show_file))
    again = renderer.render(request)
    different = {n: int(np.abs(again.images[n].astype(int) - tile.pixels).max()) for n, tile in frames[last].items()}
    assert not any(different.values()), different
    renderer.context.release()


def test_it_ends_by_itself_after_its_seconds_and_gives_the_collector_back(show_file):
    seen = Counter()
    show = load_show(show_file)
    summary = server.serve(
        show, seconds=1.0, live_line=lambda line: seen.update(["line"]), warn=lambda words: seen.update([words.split(":")[0]])
    )
    assert gc.isenabled()
    # 20 frames in a second, some of which a busy machine skips; nobody sent a pose
    assert 0 < summary["frames"] <= 20 and summary["frames"] + summary["frames_skipped"] <= 20
    assert summary["tracking"] == {"lost": summary["frames"]} and summary["pose_to_send_ms"] is None
    assert seen["line"] >= 1


def test_a_rate_that_cannot_be_held_is_counted_and_said(show_file):
    warnings = []
    summary = server.serve(load_show(show_file, rate="1000", quality="final"), seconds=0.5, warn=warnings.append)
    assert summary["frames_late"] > 0
    assert summary["frames"] + summary["frames_skipped"] <= 500
    assert any("were late" in words and "Lower `rate`" in words for words in warnings)


def test_a_scene_that_is_not_there_is_said_before_anything_starts(show_file, tmp_path):
    (tmp_path / "show.toml").write_text(show_file.read_text())
    with pytest.raises(SceneError, match="plane.safetensors"):
        server.serve(load_show(tmp_path / "show.toml"), seconds=0.1)
    with pytest.raises(ConfigError, match="one of show, final"):
        server.serve(load_show(show_file, quality="best"), seconds=0.1)


def test_a_place_that_was_baked_for_another_zone_is_said(show_file):
    show = load_show(show_file)
    # the show's zone is (±0.5, ±0.5, 1.1 … 2.1) m: times 0.2 and 0.32 lower, ±0.1 in x, y and z of the field
    header = plane_scene(depth=0).header
    assert server.zone_warnings(show, {"plane": header}) == []
    small = msgspec.structs.replace(header, zone_max=(0.05, 0.1, 0.1))
    (words,) = server.zone_warnings(show, {"plane": small})
    assert "(0.05, 0.1, 0.1)" in words and "(0.1, 0.1, 0.1)" in words


def test_the_demo_shows_what_it_promises(show_file, tmp_path):
    with command("demo", "--show", str(show_file), "--out", str(tmp_path / "out"), "--seconds", "2", "--rate", "20") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    promised = (
        "renderer tiles led_px frames frames_late fps poses_received tiles_received crc_errors pose_to_send_ms lens_check_db"
    )
    assert set(promised.split()) <= summary.keys() and set(summary["pose_to_send_ms"]) == {"p50", "p99"}
    assert summary["crc_errors"] == 0 and summary["poses_received"] > 60 and min(summary["frames_of_tile"].values()) > 0
    assert summary["lens_check_db"] >= 34 > summary["lens_check_without_tracking_db"] + 6
    assert (tmp_path / "out" / "contact-sheet.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "through-the-lens.mp4").stat().st_size > 1_000
    assert "What to try next" in out


# The schedule, with a clock that the test moves.

RIG = Rig("A", Lens(35.0, (36.0, 24.0)))
RATE = Fraction(10)


class Tracker:
    """A source that has what the test puts in."""

    uri, protocol, flooded = "test", "osc", 0

    def __init__(self):
        self.waiting: list[Datagram] = []

    def drain(self) -> list[Datagram]:
        taken, self.waiting = self.waiting, []
        return taken

    newest = drain

    def put(self, camera_id: str, at_ns: int, x: float) -> None:
        sample = CameraSample(camera_id, at_ns, at_ns, Pose(position_m=(x, 0.0, 0.0)))
        self.waiting.append(Datagram("test", osc.encode(sample, osc_map=preset_map("ledvolume")), at_ns))


@pytest.fixture
def live():
    """(tracker, inputs, requests, now): a live schedule at 10 fps whose clock stands at now[0]."""
    now = [1_000_000_000_000_000_000]
    epoch_ns = now[0]

    def sleep_s(seconds: float) -> None:
        now[0] += max(round(seconds * 1e9), 1)

    clock = FrameClock(RATE, epoch_ns, now_ns=lambda: now[0], sleep_s=sleep_s)
    tracker = Tracker()
    inputs = schedule.Inputs([(tracker, open_decoder("osc", "ledvolume"))], {"A": Timeline(RIG)})
    refinement = schedule.Refinement(most=144)
    return tracker, inputs, schedule.live(clock, inputs, "A", "door", "show", refinement, lambda: now[0]), now


def test_a_frame_knows_every_pose_that_came_before_it_was_decided(live):
    tracker, inputs, requests, now = live
    first = next(requests)
    assert first.camera.tracking == "lost" and first.camera.age_ns == NEVER_NS
    for k in range(5):  # 1 m/s, newest 60 ms after the first frame's decision
        tracker.put("A", now[0] + (k + 1) * 12_000_000, 0.012 * (k + 1))
    second = next(requests)
    assert (second.index, second.present_at_ns - first.present_at_ns) == (first.index + 1, 100_000_000)
    assert second.decided_at_ns == second.present_at_ns - 100_000_000  # one frame ahead
    # newest at 60 ms is 40 ms old when decided, 140 ms when shown. Beyond the horizon of 100 ms the motion eases out until
    # 200 ms: 0.1 + 0.04 - 0.04²/(2 · 0.1) = 0.132 s of travel at 1 m/s
    assert second.camera.age_ns == 140_000_000
    assert second.camera.stage_from_camera.position_m[0] == pytest.approx(0.06 + 0.132, abs=1e-3)
    assert inputs.accepted == 5 and not inputs.rejects()


def test_poses_of_strangers_and_garbage_are_counted_and_change_nothing(live):
    tracker, inputs, requests, now = live
    tracker.put("A", now[0] + 1, 0.5)
    before = next(requests)
    tracker.put("B", now[0] + 2, 9.0)
    tracker.waiting.append(Datagram("test", b"garbage", now[0]))
    after = next(requests)
    assert after.camera.stage_from_camera == before.camera.stage_from_camera
    assert inputs.rejects() == {"unknown-camera": 1, "not-osc": 1} and inputs.unknown == {"B": 1}
    told = set()
    not_osc, unknown = server.refusal_warnings(inputs, told)
    assert "not-osc" in not_osc and "camera B" in unknown and "the show has A" in unknown
    assert server.refusal_warnings(inputs, told) == []


def test_what_came_while_the_server_was_loading_is_not_shown(live):
    tracker, inputs, requests, now = live
    for k in range(1000):
        tracker.put("A", now[0] - 10_000_000_000 + k, 9.0)
    inputs.discard()
    tracker.put("A", now[0], 0.5)
    assert next(requests).camera.stage_from_camera.position_m == (0.5, 0.0, 0.0)
    assert inputs.accepted == 1


def test_a_camera_named_star_takes_every_name():
    tracker, timeline = Tracker(), Timeline(msgspec.structs.replace(RIG, camera_id="*"))
    inputs = schedule.Inputs([(tracker, open_decoder("osc", "ledvolume"))], {"*": timeline})
    tracker.put("whoever", 1_000_000_000_000_000_000, 0.5)
    inputs.drain()
    assert inputs.accepted == 1 and not inputs.rejects()


@pytest.mark.parametrize(("took_ms", "rise"), [(5, 16), (25, 4), (60, 1), (80, 0), (150, 0)])
def test_the_outer_picture_is_refined_only_while_there_is_time(took_ms, rise):
    refinement = schedule.Refinement(most=144)
    refinement.frame_took(took_ms * 1_000_000, 100_000_000)
    assert refinement.steps == 16 + rise


def test_refinement_never_falls_and_ends():
    refinement = schedule.Refinement(most=144)
    steps = []
    for took_ms in itertools.chain(itertools.repeat(20, 40), [500, 20]):
        refinement.frame_took(took_ms * 1_000_000, 100_000_000)
        steps.append(refinement.steps)
    assert steps == sorted(steps) and steps[-1] == 144


# The report.

ZONE = Box((-1.0, -1.0, 1.0), (1.0, 1.0, 2.0))
MS = 1_000_000


def request(index: int, tracking="measured", at=(0.0, 0.0, 1.5), age_ms: int = 50) -> FrameRequest:
    camera = Camera(Pose(position_m=at), RIG.lens, tracking, age_ms * MS, "A")
    present_at_ns = (1000 + 100 * index) * MS
    return FrameRequest(index, present_at_ns, present_at_ns - 40 * MS, camera, "door")


def sent(report: Report, which: FrameRequest, late_ms: int = -10) -> list[str]:
    """Woken 1 ms before it was decided, rendered 5 ms before it was sent."""
    sent_ns = which.present_at_ns + late_ms * MS
    return report.frame(which, which.decided_at_ns - MS, which.decided_at_ns, sent_ns - 5 * MS, sent_ns)


def test_frames_and_times_are_counted_as_they_were():
    report = Report(ZONE, 100 * MS)
    for index in range(10):
        sent(report, request(index), late_ms=20 if index == 7 else -10)
    summary = report.summary()
    assert (summary["frames"], summary["frames_late"]) == (10, 1)
    # sent 10 ms before it is shown, the pose is 50 ms old when shown: 40 ms from capture to send
    assert summary["pose_to_send_ms"]["p50"] == 40.0
    # woken 41 ms before it is shown, sent 10 ms before: 31 ms; 25 of them rendering, 1 deciding and 5 sending
    assert (summary["frame_ms"]["p50"], summary["render_ms"]["p50"], summary["python_ms"]["p50"]) == (31.0, 25.0, 6.0)
    assert summary["fps"] == 10.0 and report.fps == 10.0
    assert "1 late" in report.line(poses=3, refused=0)


def test_frames_that_were_never_made_are_counted_as_skipped():
    report = Report(ZONE, 100 * MS)
    for index in (4, 5, 8, 9):
        sent(report, request(index))
    assert report.summary()["frames_skipped"] == 2 and "2 skipped" in report.line(0, 0)


@pytest.mark.parametrize(
    "late_indices, advice", [(range(8), "Lower `rate`"), ((1, 4, 7), "another program")], ids=["always", "now and then"]
)
def test_late_frames_are_said_with_what_to_do(late_indices, advice):
    report = Report(ZONE, 100 * MS)
    said = [sent(report, request(index), late_ms=20 if index in late_indices else -10) for index in range(8)]
    # in time: 31 ms of the 100; late: 61 ms
    assert advice in said[-1][-1] and f"{len(late_indices)} of the last 8" in said[-1][-1]


def test_a_camera_that_leaves_the_zone_is_said_once_with_where_and_how_far():
    report = Report(ZONE, 100 * MS)
    assert not any("zone" in words for words in sent(report, request(0)))
    (words,) = sent(report, request(1, at=(1.25, 0.0, 1.5)))
    assert "outside the zone in x by 0.25 m" in words
    assert sent(report, request(2, at=(1.3, 0.0, 1.5))) == []
    assert report.summary()["frames_outside_zone"] == 2


def test_lost_tracking_is_said_and_so_is_its_return():
    report = Report(ZONE, 100 * MS)
    assert sent(report, request(0)) == ["tracking of A is there"]
    assert sent(report, request(1, "predicted")) == []
    (held,) = sent(report, request(2, "held", age_ms=240))
    assert "held" in held and "200 ms old" in held  # decided 40 ms before it is shown
    assert "held, pose 200 ms old" in report.line(0, 0)
    (lost,) = sent(report, request(13, "lost", age_ms=1340))
    assert "TRACKING LOST" in lost and "1300 ms old" in lost and "ledvolume listen" in lost
    assert sent(report, request(14, "lost", age_ms=1440)) == []
    assert "TRACKING LOST" in report.line(0, 0)
    # the last pose before was captured 240 ms before frame 2, this one 50 ms before frame 15: 1300 + 240 - 50 ms
    assert sent(report, request(15)) == ["tracking of A is back, after 1.5 s"]
    assert sent(report, request(16, "predicted")) == []


def test_a_camera_that_is_held_now_and_then_is_said_once_in_ten_seconds():
    report = Report(ZONE, 100 * MS)
    said = [
        words for index in range(80) for words in sent(report, request(index, "held" if index % 2 else "measured", age_ms=150))
    ]
    assert [words.split(",")[0] for words in said] == ["tracking of A is there", "held", "tracking of A is back"]
    (lost,) = sent(report, request(80, "lost", age_ms=1100))  # this is always said
    assert "TRACKING LOST" in lost
    assert len(sent(report, request(81))) == 1


def test_a_tracker_that_has_never_been_there_is_no_loss():
    report = Report(ZONE, 100 * MS)
    never = msgspec.structs.replace(request(0).camera, tracking="lost", age_ns=NEVER_NS)
    assert sent(report, msgspec.structs.replace(request(0), camera=never)) == []
    assert sent(report, request(1)) == ["tracking of A is there"]


def test_no_latency_is_claimed_of_poses_that_are_not_there():
    report = Report(ZONE, 100 * MS)
    never = msgspec.structs.replace(request(0).camera, tracking="lost", age_ns=NEVER_NS)
    sent(report, msgspec.structs.replace(request(0), camera=never))
    assert report.summary()["pose_to_send_ms"] is None and "no pose yet" in report.line(0, 0)
