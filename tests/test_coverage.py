"""Overscan for what a camera may do until a frame is shown, and whether it was enough."""

import math

import msgspec
import pytest

from ledvolume.camera import Camera, CameraSample, Lens, Rig
from ledvolume.coverage import Coverage, needed_overscan, reached, turn_rad
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.timeline import Timeline

LENS = Lens(18.0, (36.0, 20.25))  # half view 45° across: its tangent is 1
MS = 1_000_000


def turned(degrees: float) -> Camera:
    return Camera(Pose(pan_tilt_roll(math.radians(degrees), 0.0, 0.0)), LENS, "predicted", 0)


def panning(rate_deg_s: float, until_ms: int) -> Timeline:
    timeline = Timeline(Rig("A", LENS))
    for at_ms in range(0, until_ms + 1, 10):
        pose = Pose(pan_tilt_roll(math.radians(rate_deg_s * at_ms / 1000), 0.0, 0.0))
        timeline.add(CameraSample("A", at_ms * MS, at_ms * MS, pose))
    return timeline


def test_a_still_camera_needs_no_overscan():
    assert needed_overscan(LENS, 0.0) == 1


def test_the_overscan_holds_the_view_after_the_turn():
    # across tan 55° / tan 45° = 1.428; the lower half view, atan(0.5625) = 29.36°, needs tan 39.36° / 0.5625 = 1.458
    assert needed_overscan(LENS, math.radians(10)) == pytest.approx(1.458, abs=1e-3)


def test_a_turn_beyond_any_picture_is_bounded():
    assert needed_overscan(LENS, 3.0) == pytest.approx(math.tan(math.radians(80)) / 0.5625)


def test_the_turn_is_the_rate_over_the_age():
    timeline = panning(20.0, 500)
    camera = timeline.camera_at(550 * MS)
    assert math.degrees(turn_rad(timeline, camera, 550 * MS)) == pytest.approx(1.0, rel=0.1)  # 20°/s for 50 ms


def test_a_view_reaches_itself_exactly_and_a_turned_one_farther():
    assert reached(turned(0), turned(0)) == pytest.approx(1)
    assert reached(turned(0), turned(10)) == pytest.approx(math.tan(math.radians(55)), rel=0.2)
    assert reached(turned(0), turned(60)) == math.inf


@pytest.mark.parametrize("drawn_deg, overscan, is_covered", [(10.0, 1.0, False), (10.0, 1.7, True), (20.0, 1.0, False)])
def test_a_frame_is_judged_once_poses_have_passed_it(drawn_deg, overscan, is_covered):
    coverage = Coverage(Footprint(overscan=1.15))
    coverage.add(FrameRequest(0, 505 * MS, 0, turned(drawn_deg), "door", overscan=overscan))
    coverage.settle(panning(0.0, 500), 505 * MS)
    assert coverage.is_covered is None  # its instant is not measured yet
    coverage.settle(panning(0.0, 600), 606 * MS)
    assert coverage.is_covered is is_covered
    assert coverage.summary()["prediction_off_deg"]["p50"] == pytest.approx(drawn_deg)


def test_a_held_camera_is_not_judged():
    coverage = Coverage(Footprint())
    coverage.add(FrameRequest(0, 505 * MS, 0, msgspec.structs.replace(turned(0), tracking="held"), "door"))
    coverage.settle(panning(0.0, 600), 606 * MS)
    assert (coverage.covered, coverage.uncovered) == (0, 0)
