"""Frames of a recorded track: exactly where and when, with which timecode; gaps, spikes, and another framing."""

import math
from fractions import Fraction
from pathlib import Path

import pytest

from ledvolume.camera import Camera, CameraSample, Lens, LensReading, Rig
from ledvolume.clock import SECOND_NS
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, pan_tilt_roll, pan_tilt_roll_of
from ledvolume.reframe import Reframe, reframed
from ledvolume.timeline import Limits
from ledvolume.track_schedule import carried_timecodes, from_track, without_spikes
from ledvolume.tracks import load_track

MS = 1_000_000
START = 1_700_000_000 * SECOND_NS
LENS = Lens(40.0, (24.0, 18.0))
RIG = Rig("A", LENS)
FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


def sample(ms: float, pose: Pose = Pose(), lens: LensReading = LensReading(), timecode: str = "") -> CameraSample:
    at_ns = START + round(ms * MS)
    return CameraSample("A", at_ns, at_ns, pose, lens, timecode=timecode)


def walking(ms: float) -> Pose:
    """1.5 m/s along x, turning left at 0.4 rad/s: interpolation at constant velocity is exact on it."""
    return Pose(pan_tilt_roll(0.4 * ms / 1000, 0.0, 0.0), (1.5 * ms / 1000, 0.0, 1.6))


def test_the_camera_is_where_it_was_at_each_exact_instant():
    # a jittered tracker of about 100 Hz
    samples = [sample(ms, walking(ms)) for ms in (10 * i + (i * 7 % 5) for i in range(300))]
    requests = from_track(samples, RIG, FILM, "place").requests
    assert [r.index for r in requests] == list(range(len(requests)))
    assert requests[24].present_at_ns - START == 1_001_000_000  # 24 frames at 24000/1001 are 1.001 s
    for request in requests:
        ms = (request.present_at_ns - START) / MS
        assert request.camera.stage_from_camera.position_m == pytest.approx((1.5 * ms / 1000, 0.0, 1.6), abs=1e-9)
        assert pan_tilt_roll_of(request.camera.stage_from_camera.wxyz)[0] == pytest.approx(0.4 * ms / 1000, abs=1e-9)
        assert request.camera.tracking == "measured" and request.camera.age_ns < 15 * MS


def test_nothing_is_rendered_before_the_first_sample_and_after_the_last():
    samples = [sample(ms) for ms in range(505, 1496, 10)]
    schedule = from_track(samples, RIG, Fraction(10), "place", epoch_ns=START)
    assert [r.index for r in schedule.requests] == list(range(6, 15))  # 0.6 to 1.4 s: samples from 0.505 to 1.495
    assert [r.present_at_ns for r in schedule.requests[:2]] == [START + 600 * MS, START + 700 * MS]


def test_a_track_between_two_frames_is_refused():
    with pytest.raises(ConfigError, match="a frame's instant between the first and the last, at 10 fps"):
        from_track([sample(1), sample(20)], RIG, Fraction(10), "place", epoch_ns=START)


def test_the_rig_stands_between_sample_and_camera():
    """Pupil 60 mm in front, tracker 20 ms late: at 0.1 s the frame shows what was captured at 0.12 s."""
    rig = Rig("A", Lens(40.0, (24.0, 18.0), entrance_pupil_m=0.06), latency_ns=20 * MS)
    samples = [sample(ms, Pose(position_m=(ms / 1000, 0.0, 0.0))) for ms in range(0, 300, 10)]
    request = from_track(samples, rig, Fraction(10), "place", epoch_ns=START).requests[1]
    assert request.present_at_ns == START + 100 * MS
    assert request.camera.stage_from_camera.position_m == pytest.approx((0.12, 0.06, 0.0), abs=1e-12)


def test_zoom_is_interpolated_too():
    samples = [sample(0, lens=LensReading(focal_length_mm=30.0)), sample(80, lens=LensReading(focal_length_mm=50.0))]
    focal = [r.camera.lens.focal_length_mm for r in from_track(samples, RIG, Fraction(25), "place").requests]
    assert focal == pytest.approx([30.0, 40.0, 50.0])


def test_gaps_are_bridged_and_named():
    times = [*range(0, 1000, 10), *range(1500, 2000, 10), *range(2300, 2500, 10)]
    schedule = from_track([sample(ms, walking(ms)) for ms in times], RIG, Fraction(10), "place")
    assert schedule.warnings == [
        "no samples from 0.990 to 1.500 s, 1.990 to 2.300 s: the camera goes straight from one to the next"
    ]
    assert len(schedule.requests) == 25
    assert schedule.requests[12].camera.stage_from_camera.position_m[0] == pytest.approx(1.8)  # 1.5 m/s · 1.2 s


def test_a_slow_track_has_no_gaps():
    assert not from_track([sample(500 * i) for i in range(10)], RIG, Fraction(24), "place").warnings


def test_a_spike_is_left_out_and_a_cut_stays():
    poses = [walking(10 * i) for i in range(20)]
    spiked = [sample(10 * i, pose) for i, pose in enumerate(poses)]
    spiked[7] = sample(70, Pose(position_m=(0.6, 0.0, 1.6)))  # half a metre off for one sample
    spiked[12] = sample(120, Pose(pan_tilt_roll(1.0, 0.0, 0.0), poses[12].position_m))
    assert [s.captured_at_ns for s in spiked if s not in without_spikes(spiked, Limits())] == [START + 70 * MS, START + 120 * MS]
    assert "2 samples lie where no camera can have been" in from_track(spiked, RIG, Fraction(100), "place").warnings[0]
    cut = spiked[:5] + [sample(50 + 10 * i, Pose(position_m=(4.0, 0.0, 1.6))) for i in range(5)]
    assert without_spikes(cut, Limits()) == cut


def test_of_samples_at_one_instant_the_last_counts():
    samples = [sample(0), sample(10, walking(5)), sample(10, walking(10)), sample(20, walking(20))]
    assert without_spikes(samples, Limits()) == [samples[0], samples[2], samples[3]]


def every(step_ms: float, texts: list[str]) -> list[tuple[int, str]]:
    return [(START + round(step_ms * i * MS), text) for i, text in enumerate(texts)]


def frames_at(rate: Fraction, count: int, offset_ms: float = 0.0) -> list[int]:
    return [START + round(offset_ms * MS) + i * SECOND_NS * rate.denominator // rate.numerator for i in range(count)]


@pytest.mark.parametrize("offset_ms", [0.0, 3.0, 39.0])
def test_timecode_of_a_faster_tracker_is_found_at_every_frame(offset_ms):
    """100 Hz at 25 frames a second: four samples a frame. The frame's instant lies anywhere in it."""
    told = every(10, [f"10:00:00:{i // 4:02d}" for i in range(100)])
    codes = carried_timecodes(told, frames_at(Fraction(25), 24, offset_ms), Fraction(25))
    assert codes == [f"10:00:00:{i:02d}" for i in range(24)]


def test_timecode_drops_frames_where_its_counter_does():
    told = [
        (at_ns, text) for at_ns, text in zip(frames_at(NTSC, 4), ["00:00:59;28", "00:00:59;29", "00:01:00;02", "00:01:00;03"])
    ]
    codes = carried_timecodes(told, frames_at(NTSC, 5), NTSC)
    assert codes == ["00:00:59;28", "00:00:59;29", "00:01:00;02", "00:01:00;03", "00:01:00;04"]


def test_timecode_at_another_rate_tells_the_same_time():
    told = every(1000 / 24, [f"01:00:00:{i:02d}" for i in range(24)])
    assert carried_timecodes(told, frames_at(Fraction(48), 4), Fraction(48)) == [f"01:00:00:{i:02d}" for i in range(4)]
    # 12 of 24 frames are half a second, which is 30 of 60
    halfway = [START + 500 * MS]
    assert carried_timecodes(told, halfway, Fraction(60)) == ["01:00:00:30"]
    assert carried_timecodes(told, halfway, Fraction(12)) == ["01:00:00:06"]


def test_timecode_that_is_set_anew_is_followed_from_there():
    told = every(40, ["10:00:00:00", "10:00:00:01", "10:00:00:02", "20:00:00:10", "20:00:00:11"])
    codes = carried_timecodes(told, frames_at(Fraction(25), 6), Fraction(25))
    assert codes == ["10:00:00:00", "10:00:00:01", "10:00:00:02", "20:00:00:10", "20:00:00:11", "20:00:00:12"]


def test_timecode_passes_midnight():
    told = every(40, ["23:59:59:23", "23:59:59:24", "00:00:00:00", "00:00:00:01"])
    codes = carried_timecodes(told, frames_at(Fraction(25), 4), Fraction(25))
    assert codes == ["23:59:59:23", "23:59:59:24", "00:00:00:00", "00:00:00:01"]


def test_jitter_of_stamps_gives_no_number_twice():
    jitter_ms = [0.0, 2.1, -1.7, 0.9, -2.9, 1.3, 2.8, -0.4]
    told = [
        (START + round((1000 / 24 * i + jitter_ms[i % 8]) * MS), f"01:00:{i // 24:02d}:{i % 24:02d}") for i in range(240)
    ]  # fmt: skip
    codes = carried_timecodes(told, frames_at(Fraction(24), 240, 5.0), Fraction(24))
    assert codes == [f"01:00:{i // 24:02d}:{i % 24:02d}" for i in range(240)]


def test_the_rate_of_a_timecode_is_told_by_its_frames():
    """Frames to 24: it counts 25 a second, whatever the frames are rendered at."""
    told = every(40, [f"00:00:00:{i:02d}" for i in range(25)])
    assert carried_timecodes(told, [START + 960 * MS], Fraction(50)) == ["00:00:00:48"]


@pytest.mark.parametrize("text", ["", "garbage", "99:00:00:00"])
def test_no_timecode_stays_none(text):
    told = every(40, [text] * 3) if text else []
    assert carried_timecodes(told, frames_at(Fraction(25), 2), Fraction(25)) == ["", ""]


def test_frames_carry_the_timecode_of_their_samples():
    samples = [sample(40 * i, timecode=f"10:00:00:{i:02d}") for i in range(5)]
    assert [r.timecode for r in from_track(samples, RIG, Fraction(25), "place").requests] == [s.timecode for s in samples]


def test_a_reframed_camera_turns_moves_and_zooms():
    camera = Camera(Pose(pan_tilt_roll(0.2, 0.1, 0.3), (1.0, 2.0, 3.0)), LENS, "measured", 0)
    other = reframed(camera, Reframe(85.0, (0.5, -1.0, 0.25), pan_deg=90.0, tilt_deg=-5.0, roll_deg=10.0))
    assert other.stage_from_camera.position_m == (1.5, 1.0, 3.25)
    angles = (0.2 + math.pi / 2, 0.1 - math.radians(5), 0.3 + math.radians(10))
    assert pan_tilt_roll_of(other.stage_from_camera.wxyz) == pytest.approx(angles)
    assert other.lens.focal_length_mm == 85.0 and other.lens.sensor_mm == LENS.sensor_mm
    assert reframed(camera, Reframe()) == camera


def test_a_real_hand_held_track_has_no_spikes_and_is_met_at_its_samples():
    """TUM fr1/xyz: motion capture at 100 Hz with real jitter. At the instant of a sample, the frame has that sample's pose."""
    track = load_track(Path(__file__).parent / "data" / "tum" / "freiburg1_xyz_cut.txt")
    assert without_spikes(track.samples, Limits()) == list(track.samples)
    requests = from_track(track.samples, RIG, Fraction(100), "place").requests
    by_instant = {s.captured_at_ns: s for s in track.samples}
    met = [r for r in requests if r.present_at_ns in by_instant]
    assert met
    for request in met:
        pose, measured = request.camera.stage_from_camera, by_instant[request.present_at_ns].world_from_tracker
        assert pose.position_m == measured.position_m and pose.wxyz == pytest.approx(measured.wxyz, abs=1e-15)
