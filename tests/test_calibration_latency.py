"""How late the wall is: real H.264 of flashes and of moving cameras whose delays are known, and videos that say nothing."""

import json
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from flash_videos import flash_pictures, flashes_at, write_video
from moving_videos import HandHeld, moving_pictures, track_of

from calibration.cli import COMMANDS
from calibration.flash_search import Flashes, flashes_of, light, walls_in
from calibration.flash_video import Brightness, brightness_of, grey_frames
from calibration.image_motion import ImageMotion, MotionReader
from calibration.latency import latency_of
from calibration.series import name_of, names_of
from calibration.tracker_offset import tracker_offset
from ledvolume import flash_code, patterns
from ledvolume.cli import choose
from ledvolume.config import load_show
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.outputs.cues import CueLine, Shown
from ledvolume.stage import Surface, cut, facing
from ledvolume.tracks import Track, save_track

WALL = (0.1, 0.15, 0.75, 0.9)
CEILING = (0.2, 0.0, 0.9, 0.12)
ORIGIN_NS = 1_700_000_000_000_000_000
SHOW = """
name = "Stage 2"
rate = "25"

[stage]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
eye_m = [0.0, 0.0, 1.6]

[[stage.surface]]
name = "main"
shape = "flat"
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [64, 48]

[[stage.surface]]
name = "ceiling"
shape = "flat"
centre_m = [0.0, 2.0, 4.0]
tilt_deg = 90
size_m = [3.0, 2.0]
resolution_px = [60, 40]

[[camera]]
id = "A"
focal_length_mm = 35
sensor_mm = [28.25, 18.17]
latency_ms = 3  # a guess

[[place]]
name = "door"
file = "scenes/door.safetensors"
[place.field_from_stage]
scale = 0.5
"""


def filmed(file: Path, flashes: Flashes, rate, exposure_s, readout_s, walls=None, crf=20, dropped=(), closed_up=False, **sensor):
    walls = walls or {"main": (0.12, WALL)}
    write_video(
        file,
        flash_pictures(flashes, walls, Fraction(rate), exposure_s, readout_s, **sensor),
        Fraction(rate),
        crf,
        dropped,
        closed_up,
    )
    return brightness_of(str(file))


def calibrate(*words) -> int:
    return choose("calibrate", "", COMMANDS, ["latency", *map(str, words)])


# the wall runs at another rate than the camera; begins_s is -0.7, so that 120 ms are 820 ms of the video
@pytest.mark.parametrize(
    ("wall_hz", "rate", "exposure_s", "readout_s", "delay_s"),
    [(25, "24", 1 / 48, 0.012, 0.02), (60, "25", 1 / 50, 0.0, 0.12), (60, "24000/1001", 1 / 200, 0.02, 0.3), (50, "60", 1 / 100, 0.008, 0.2),
     (50, "30", 1 / 60, 0.015, 0.08)],
    ids=lambda value: str(value)[:6],
)  # fmt: skip
def test_a_known_delay_is_found_to_half_a_millisecond(tmp_path, wall_hz, rate, exposure_s, readout_s, delay_s):
    flashes = flashes_at(wall_hz, 4)
    video = filmed(tmp_path / "a.mp4", flashes, rate, exposure_s, readout_s, {"main": (delay_s, WALL)})
    walls, _ = walls_in(video, flashes, ["main"])
    found = latency_of(video, flashes, walls)
    (wall,) = found.walls
    assert wall.delay_ms == pytest.approx(1000 * (delay_s + 0.7), abs=0.5)
    assert wall.low_ms <= 1000 * (delay_s + 0.7) <= wall.high_ms or abs(wall.delay_ms - 1000 * (delay_s + 0.7)) < 0.1
    assert wall.sigma_ms < 0.5
    assert found.exposure_ms == pytest.approx(1000 * exposure_s, abs=1.5)
    assert found.readout_ms == pytest.approx(1000 * readout_s, abs=1.5)


def test_several_walls_flash_at_once_each_with_a_delay_of_its_own(tmp_path):
    flashes = flashes_at(60, 4)
    video = filmed(tmp_path / "a.mp4", flashes, 25, 1 / 50, 0.01, {"main": (0.08, WALL), "ceiling": (0.113, CEILING)})
    walls, missing = walls_in(video, flashes, ["ceiling", "main", "floor"])
    delays = {wall.surface: wall.delay_ms - 700 for wall in latency_of(video, flashes, walls).walls}
    assert delays == pytest.approx({"main": 80, "ceiling": 113}, abs=0.5)
    assert list(missing) == ["floor"] and "no part of the picture" in missing["floor"]
    main = next(wall for wall in walls if wall.surface == "main").in_wall
    assert main[20, 30] and not main[1, 40] and not main[34, 62]  # of 36 × 64 cells: in it, in the ceiling, outside


def test_a_drifting_clock_is_noticed(tmp_path):
    flashes = flashes_at(60, 8)
    video = filmed(tmp_path / "a.mp4", flashes, 25, 1 / 50, 0.01, drift=60e-6)
    walls, _ = walls_in(video, flashes, ["main"])
    found = latency_of(video, flashes, walls)
    assert found.drift_ppm == pytest.approx(60, abs=max(4 * found.drift_sigma_ppm, 8))


def test_a_camera_in_step_is_told_to_a_frame_only(tmp_path):
    flashes = flashes_at(24, 4)
    video = filmed(tmp_path / "a.mp4", flashes, 24, 1 / 200, 0.0)
    walls, _ = walls_in(video, flashes, ["main"])
    found = latency_of(video, flashes, walls)
    (wall,) = found.walls
    assert wall.sigma_ms >= 1000 / 24 / 12**0.5 - 0.01  # of a frame all of whose instants are as likely
    assert wall.low_ms < 820 < wall.high_ms
    assert "run in step" in found.notes[0] and "another rate" in found.notes[0]


def test_frames_that_the_instants_tell_to_be_missing_do_no_harm(tmp_path):
    flashes = flashes_at(60, 4)
    video = filmed(tmp_path / "a.mp4", flashes, 25, 1 / 50, 0.01, dropped=(40, 41, 90))
    walls, _ = walls_in(video, flashes, ["main"])
    assert latency_of(video, flashes, walls).walls[0].delay_ms == pytest.approx(820, abs=0.5)


def test_frames_that_are_missing_in_secret_are_named(tmp_path):
    flashes = flashes_at(60, 4)
    video = filmed(tmp_path / "a.mp4", flashes, 25, 1 / 50, 0.01, dropped=(55, 56, 57), closed_up=True)
    with pytest.raises(CalibrationError, match="dropped"):
        walls, _ = walls_in(video, flashes, ["main"])
        latency_of(video, flashes, walls)


def test_flashes_that_are_not_there_are_not_found(tmp_path):
    flashes = flashes_at(60, 4)
    video = filmed(tmp_path / "a.mp4", flashes, 25, 1 / 50, 0.01)
    with pytest.raises(CalibrationError, match="surfaces named"):
        walls_in(video, flashes, ["another wall"])
    with pytest.raises(CalibrationError, match="not found"):
        walls_in(video, flashes_at(60, 6, first=1000), ["main"])
    dark = Brightness(video.at_s, np.full_like(video.cells, 0.3) + np.random.default_rng(1).normal(0, 0.01, video.cells.shape))
    with pytest.raises(CalibrationError, match="not found"):
        walls_in(dark, flashes, ["main"])


def test_too_few_flashes_are_refused():
    shown = [Shown(f"pattern:flash/{i}", i * 10, i * 10 + 10) for i in range(20)]
    with pytest.raises(CalibrationError, match="20 flashes"):
        flashes_of(shown, name_of)
    with pytest.raises(CalibrationError, match="0 flashes"):
        flashes_of([Shown("pattern:white", 0, 10)], name_of)


def test_the_longest_run_of_flashes_is_taken():
    shown = [Shown(f"pattern:flash/{i}", ORIGIN_NS + i * 10**7, ORIGIN_NS + (i + 1) * 10**7) for i in range(30)]
    shown += [Shown("show", ORIGIN_NS + 3 * 10**8, ORIGIN_NS + 10**9)]
    shown += [
        Shown(f"pattern:flash/{7 + i}", ORIGIN_NS + 10**9 + i * 10**7, ORIGIN_NS + 10**9 + (i + 1) * 10**7) for i in range(50)
    ]
    flashes = flashes_of(shown, name_of)
    assert flashes.origin_ns == ORIGIN_NS + 10**9 and list(flashes.numbers) == list(range(7, 57))
    assert flashes.edges_s[-1] == pytest.approx(0.5) and flashes.period_s == pytest.approx(0.01)


def test_light_is_the_share_of_the_exposure_in_which_the_wall_was_lit():
    # dark, lit, dark, each a second: an exposure of 1 s around 1.25 s has 0.75 s of the lit one
    flashes = Flashes(0, np.array([0.0, 1, 2, 3]), np.array([0, 0, 0]))
    lit = np.array([0.0, 0, 1, 1])
    assert light(flashes, lit, np.array([0.25, 1.25, 1.5, 2.25]), 1.0) == pytest.approx([0.0, 0.75, 1.0, 0.25])


def test_codes_are_balanced_and_of_each_surface_alone():
    codes = (
        np.array([[flash_code.is_lit(name, n) for n in range(4096)] for name in ("main", "ceiling", "Main", "wall 2")]) * 2 - 1
    )
    # of 4096 bits that know nothing of each other, means and correlations are within 1/64 · 4 σ
    assert np.abs(codes.mean(1)).max() < 4 / 64
    assert np.abs(codes @ codes.T / 4096 - np.eye(4)).max() < 4 / 64
    assert flash_code.is_lit("main", 4096 + 17) == flash_code.is_lit("main", 17)


def test_a_wall_shows_its_flashes():
    tile = cut(Surface("main", facing(0.0, (0.0, 4.0, 1.6)), (3.2, 2.4), (64, 48)), 2, 1)[1]
    for number in (0, 1, 2, 3, 4095):
        assert (patterns.draw(tile, f"flash/{number}") == flash_code.is_lit("main", number)).all()
    for name in ("flash/4096", "flash/", "flash/x", "flash/12345"):
        with pytest.raises(ConfigError, match="flash/N"):
            patterns.check(name)
    assert names_of([tile.surface], ["flash"])[-1] == "flash/4095"


@pytest.fixture(scope="module")
def pan(tmp_path_factory):
    """A camera at 25 Hz whose tracker stamps 40 ms late; the first picture is at 1.3 s of the tracker's clock."""
    move = HandHeld(3)
    file = tmp_path_factory.mktemp("pan") / "pan.mp4"
    write_video(file, moving_pictures(move, Fraction(25), 7, 1.3, 0.01, 3), Fraction(25), 23)
    reader = MotionReader()
    for at_s, _, grey in grey_frames(str(file)):
        reader.add(at_s, grey)
    return move, reader.motion


def test_the_trackers_offset_is_found_whatever_its_place_on_the_camera(pan):
    move, motion = pan
    found = tracker_offset(motion, track_of(move, 10, 60, 0.04, ORIGIN_NS, 1), ORIGIN_NS, None, 0.01)
    # an instant of the video is 1.3 s less than the truth, a stamp 40 ms more
    assert found.offset_ms == pytest.approx(-1340, abs=2)
    assert found.low_ms <= -1340 <= found.high_ms and found.sigma_ms < 1
    assert found.explained > 0.99


def test_another_cameras_track_is_refused(pan):
    _, motion = pan
    with pytest.raises(CalibrationError, match="does not move as the tracker says"):
        tracker_offset(motion, track_of(HandHeld(77), 10, 60, 0.0, ORIGIN_NS, 1), ORIGIN_NS)


def test_a_camera_that_stands_still_says_nothing(pan):
    move, motion = pan
    still = ImageMotion(motion.at_s, np.full_like(motion.steps, np.nan), motion.lines)
    with pytest.raises(CalibrationError, match="texture"):
        tracker_offset(still, track_of(move, 10, 60, 0.0, ORIGIN_NS, 1), ORIGIN_NS)


def test_a_motion_with_a_beat_is_named():
    at_s = np.arange(300) / 25
    beat = np.column_stack([np.sin(at_s * 2 * np.pi)] * 4) * [0.3, 0.02, 0.001, 0.001]
    motion = ImageMotion(at_s, np.diff(beat, axis=0), np.zeros(299))
    from ledvolume.camera import CameraSample
    from ledvolume.pose import Pose, pan_tilt_roll

    samples = tuple(
        CameraSample("A", ns, ns, Pose(pan_tilt_roll(0.3 * np.sin(ns * 2e-9 * np.pi), 0.0, 0.0)))
        for ns in range(0, 20 * 10**9, 10**7)
    )
    with pytest.raises(CalibrationError, match="repeats itself"):
        tracker_offset(motion, samples, 0)


def test_the_command_writes_the_rigs_latency_into_the_show(tmp_path, capsys):
    """A camera's file with a clock of its own: it films flashes, then it is panned. The wall's light is 90 ms after its frame,
    the tracker stamps 25 ms late: the pose has to be brought forward by 115 ms."""
    rate, flashes, move = Fraction(24000, 1001), flashes_at(25, 6), HandHeld(5)
    walls = {"main": (0.09, WALL), "ceiling": (0.12, CEILING)}
    first = list(flash_pictures(flashes, walls, rate, 1 / 48, 0.01, -0.4, 7.0))
    second = moving_pictures(move, rate, 7, -0.4 + len(first) / float(rate), 0.01, 5)
    write_video(tmp_path / "A001.mp4", [*first, *second], rate)
    lines = [
        CueLine(f"pattern:flash/{n}", n, flashes.origin_ns + round(at_s * 1e9))
        for n, at_s in zip(flashes.numbers.tolist(), flashes.edges_s)
    ] + [CueLine("", 150, flashes.origin_ns + round(flashes.edges_s[-1] * 1e9))]
    (tmp_path / "shown.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    save_track(Track(track_of(move, 16, 100, 0.025, flashes.origin_ns, 5), "test"), tmp_path / "track.csv")
    (tmp_path / "show.toml").write_text(SHOW)
    words = [tmp_path / "A001.mp4", "--shown", tmp_path / "shown.jsonl", "--track", tmp_path / "track.csv", "--camera", "A"]
    words += ["--show", tmp_path / "show.toml", "--write", tmp_path / "calibrated.toml", "--json", tmp_path / "told.json"]
    assert calibrate(*words, "--plot", tmp_path / "plot.png") == 0, capsys.readouterr()
    show = load_show(tmp_path / "calibrated.toml")
    assert show.stage.rigs[0].latency_ns / 1e6 == pytest.approx(115, abs=1.5)
    assert 0 < show.solved["camera A"].latency_sigma_ms < 1.5
    told = json.loads((tmp_path / "told.json").read_bytes())
    assert told["clock"] == "video" and told["rig"]["surface"] == "main"
    main, ceiling = told["flashes"]["walls"]
    assert ceiling["delay_ms"] - main["delay_ms"] == pytest.approx(30, abs=1)
    assert "latency_ms = 11" in capsys.readouterr().out and (tmp_path / "plot.png").stat().st_size > 10_000
    # on the house clock, each wall's own: the video's first frame was 0.4 s before the first flash
    begins = ["--begins-at", str(flashes.origin_ns - 400_000_000), "--camera-ms", "0,0.5"]
    assert calibrate(*words[:3], "--show", tmp_path / "show.toml", *begins, "--json", tmp_path / "told.json") == 0
    told = json.loads((tmp_path / "told.json").read_bytes())
    assert [wall["delay_ms"] for wall in told["flashes"]["walls"]] == pytest.approx([90, 120], abs=1)


def test_files_that_are_no_videos_are_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(CalibrationError, match="not a video"):
        brightness_of(str(tmp_path / "a.mp4"))
    with pytest.raises(CalibrationError, match="not a video"):
        brightness_of(str(tmp_path / "missing.mp4"))
