"""Simulated calibrations: the truth is as far from the show as was asked, apart from the pictures, and the same every time."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from calibration import cli
from calibration.commands import simulate
from calibration.forecast import forecast
from calibration.photograph import Body, Room, picture_points
from calibration.session import load_shots
from calibration.truth import (
    Deviations,
    Truth,
    deviating_rig,
    deviating_surface,
    led_distances_mm,
    load_truth,
    noisy,
    save_truth,
    tracker_pose,
)
from ledvolume.camera import Camera, LensReading, Rig, entrance_pupil
from ledvolume.cli import choose
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.lens import Lens, distorted
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.stage import Arc, PositionMap, Surface, facing, surface_points

STILL = Deviations(**dict.fromkeys(Deviations.__struct_fields__, 0.0))
SURFACE = Surface("wall", facing(0.3, (1.0, 4.0, 1.6)), (4.0, 2.5), (80, 50), Arc(5.0))
RIG = Rig(
    "A",
    Lens(35.0, (36.0, 24.0), (0.1, -0.2), entrance_pupil_m=0.09),
    Pose(pan_tilt_roll(0.4, 0.02, 0.0), (0.5, -0.3, 0.1)),
    Pose(pan_tilt_roll(0.1, -0.2, 0.05), (0.02, -0.1, -0.15)),
)
SHOW = """
name = "two surfaces"
rate = "24"
[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-1.0, -1.0, 1.0], max_m = [1.0, 1.0, 2.0] }
[[stage.surface]]
name = "wall"
shape = "arc"
radius_m = 5.0
centre_m = [0.0, 3.5, 1.5]
size_m = [4.0, 2.4]
resolution_px = [96, 64]
tiles = [2, 1]
[[stage.surface]]
name = "ceiling"
shape = "flat"
centre_m = [0.0, 2.0, 3.2]
tilt_deg = 90.0
size_m = [3.0, 2.0]
resolution_px = [72, 48]
[[camera]]
id = "A"
sensor_mm = [36.0, 24.0]
focal_length_mm = 24.0
[[place]]
name = "none"
file = "none.safetensors"
field_from_stage = {}
"""


@pytest.fixture
def show_file(tmp_path: Path) -> Path:
    file = tmp_path / "show.toml"
    file.write_text(SHOW)
    return file


def test_without_deviations_the_truth_is_the_show():
    rng = np.random.default_rng(1)
    assert led_distances_mm(deviating_surface(SURFACE, STILL, rng), SURFACE).max() < 1e-9
    rig = deviating_rig(RIG, STILL, rng)
    assert rig.lens == RIG.lens and rig.stage_from_world == RIG.stage_from_world
    assert np.allclose(rig.tracker_from_camera.matrix(), RIG.tracker_from_camera.matrix(), atol=1e-15)


def test_a_surface_is_off_by_what_was_asked():
    """Its middle moves by a normal deviation along each of three axes: 3σ² in the mean of squares, of 400 stages."""
    rng, by = np.random.default_rng(2), msgspec.structs.replace(STILL, wall_mm=20.0)
    moved = [deviating_surface(SURFACE, by, rng).stage_from_surface.position_m for _ in range(400)]
    off_mm = 1000 * (np.array(moved) - SURFACE.stage_from_surface.position_m)
    assert np.mean(np.sum(off_mm**2, -1)) == pytest.approx(3 * 20**2, rel=0.15)
    radii = [
        deviating_surface(SURFACE, msgspec.structs.replace(STILL, radius_percent=2.0), rng).shape.radius_m for _ in range(400)
    ]
    assert np.std(radii) == pytest.approx(0.1, rel=0.15)


def test_panels_hang_each_by_itself():
    by = msgspec.structs.replace(STILL, panel_mm=1.0, panel_m=0.5)
    hung = deviating_surface(SURFACE, by, np.random.default_rng(3))
    assert isinstance(hung.shape, PositionMap) and (hung.shape.columns, hung.shape.rows) == (8, 5)
    # a panel is moved as a whole, but is flat where the arc is not: 0.5 m of a radius of 5 m sag by 0.5²/(8 · 5) = 6.25 mm
    off_mm = 1000 * (surface_points(hung, 5.0 + 10 * np.arange(8), 5.0) - surface_points(SURFACE, 5.0 + 10 * np.arange(8), 5.0))
    assert 4 < np.median(np.linalg.norm(off_mm, axis=-1)) < 9
    flat = msgspec.structs.replace(SURFACE, shape=Arc(1e6))
    off_mm = led_distances_mm(deviating_surface(flat, by, np.random.default_rng(3)), flat)
    assert np.sqrt(np.mean(off_mm**2)) == pytest.approx(math.sqrt(3), rel=0.25)


def test_a_lens_that_bends_by_a_percent_moves_the_corner_by_one():
    by = msgspec.structs.replace(STILL, bend_percent=1.0)
    bends = []
    for seed in range(200):
        lens = msgspec.structs.replace(deviating_rig(RIG, by, np.random.default_rng(seed)).lens, projection_offset_mm=(0.0, 0.0))
        bends.append(np.linalg.norm(distorted(lens, np.array([18.0, 12.0]))) / math.hypot(18, 12) - 1)
    assert np.std(bends) == pytest.approx(0.01, rel=0.2)


def test_the_tracker_says_what_the_server_needs_to_find_the_pupil():
    eye = Pose(pan_tilt_roll(0.2, 0.1, -0.3), (0.3, -0.5, 1.7))
    found, _ = entrance_pupil(RIG, tracker_pose(RIG, eye), LensReading())
    assert np.allclose(found.matrix(), eye.matrix(), atol=1e-12)


def test_noise_has_the_deviation_that_is_said():
    rng = np.random.default_rng(4)
    poses = [noisy(Pose(position_m=(1.0, 2.0, 3.0)), 0.3, 0.02, rng) for _ in range(2000)]
    assert np.std([p.position_m[1] for p in poses]) == pytest.approx(0.0003, rel=0.06)
    assert np.std([2 * p.wxyz[3] for p in poses]) == pytest.approx(math.radians(0.02), rel=0.06)  # small angles: 2 sin(a/2)


def test_the_truth_comes_back_from_its_file(tmp_path):
    hung = deviating_surface(SURFACE, Deviations(panel_mm=1.0), np.random.default_rng(3))
    truth = Truth(1, "show.toml", 7, Deviations(), (SURFACE, hung), RIG, {"view-01": Pose()}, Body(), Room(), 0.4)
    save_truth(tmp_path / "truth.json", truth)
    assert load_truth(tmp_path / "truth.json") == truth
    (tmp_path / "truth.json").write_text('{"ledvolume_truth": 2}')
    with pytest.raises(ConfigError, match="truth.json"):
        load_truth(tmp_path / "truth.json")


def test_views_are_as_many_as_asked_and_see_every_surface_from_several_places(show_file):
    show = load_show(show_file)
    poses = simulate.planned(show.stage, show.stage.rigs[0].lens, 14, np.random.default_rng(1))
    assert len(poses) == 14
    for surface in show.stage.surfaces:
        middle_m = np.array([surface_points(surface, *(np.array(surface.resolution_px) / 2))])
        views = [Camera(pose, show.stage.rigs[0].lens, "measured", 0) for pose in poses]
        at_px = np.concatenate([picture_points(camera, middle_m, (36, 24)) for camera in views])
        assert ((at_px > 0) & (at_px < (36, 24))).all(-1).sum() >= 4


def command(*words) -> int:
    return choose("calibrate", cli.__doc__, cli.COMMANDS, ["simulate", *map(str, words)])


def test_the_command_writes_what_a_photographer_brings_home_and_the_truth_apart(show_file, tmp_path):
    options = ("--views", 2, "--pattern", "dots", "--size", "240x160", "--format", "png", "--seed", 5)
    for folder in ("first", "again"):
        assert command(show_file, "--out", tmp_path / folder, *options) == 0
    shots, truth = load_shots(tmp_path / "first" / "shots.json"), load_truth(tmp_path / "first" / "truth.json")
    assert [shot.pattern for shot in shots] == ["dots", "dots"] and [shot.view for shot in shots] == [*truth.cameras]
    for shot in shots:
        picture = (tmp_path / "first" / shot.picture).read_bytes()
        assert Image.open(tmp_path / "first" / shot.picture).size == (240, 160)
        assert picture == (tmp_path / "again" / shot.picture).read_bytes()
        true = tracker_pose(truth.rig, truth.cameras[shot.view])
        off_mm = 1000 * np.subtract(shot.world_from_tracker.position_m, true.position_m)
        assert 0 < np.abs(off_mm).max() < 5 * truth.deviations.tracker_mm
    assert (tmp_path / "first" / "truth.json").read_text() == (tmp_path / "again" / "truth.json").read_text()


def test_the_pictures_are_of_the_true_wall(show_file, tmp_path):
    """The ceiling alone is white: LEDs near its true corners are lit in the picture, and what is beyond it is dark."""
    show = load_show(show_file)
    truth = simulate.truth_of(show, show.stage.rigs[0], Deviations(wall_mm=200.0), Body((360, 240), bloom=0.0), 4, 3)
    inside = outside = 0
    for shot, picture in simulate.photographs(show, truth, ["surface/ceiling"]):
        camera = Camera(truth.cameras[shot.view], truth.rig.lens, "measured", 0)
        [ceiling] = (surface for surface in truth.surfaces if surface.name == "ceiling")
        for column, row in ((4, 4), (68, 4), (68, 44), (4, 44), (-9, 24), (81, 24)):
            is_on = 0 < column < 72
            x, y = picture_points(camera, surface_points(ceiling, column, row), (360, 240))
            if 8 < x < 352 and 8 < y < 232:
                around = picture[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5]
                assert (around.max() > 150) == is_on
                inside, outside = inside + is_on, outside + (not is_on)
    assert inside >= 4 and outside >= 1


def test_a_plan_says_how_well_the_wall_would_be_known_and_takes_no_pictures(show_file, tmp_path, capsys):
    assert command(show_file, "--out", tmp_path / "plan", "--views", 10, "--plan") == 0
    said = capsys.readouterr().out
    assert "wall: would be known to" in said and "ceiling: would be known to" in said and "its place on the tracker" in said
    assert not list((tmp_path / "plan").iterdir())
    assert command(show_file, "--out", tmp_path / "plan", "--views", 2, "--plan") == 0
    assert "could not be solved: 2 views" in capsys.readouterr().out


def test_a_forecast_is_as_good_as_it_says_and_a_worse_tracker_is_worse(show_file):
    """Twice the tracker's noise: twice the sigma, as the frame hangs on the tracker and pictures are far better than it."""
    show, sigmas = load_show(show_file), []
    for noise in (1.0, 2.0):
        by = Deviations(tracker_mm=0.3 * noise, tracker_deg=0.02 * noise)
        truth = simulate.truth_of(show, show.stage.rigs[0], by, Body(), 10, 4)
        solved = forecast(show, truth)
        for found, true in zip(solved.surfaces, truth.surfaces):
            off_mm = np.sqrt(np.mean(led_distances_mm(found.surface, true) ** 2))
            assert off_mm < 3 * found.sigma_median_mm
        sigmas.append(solved.surfaces[0].sigma_median_mm)
    assert sigmas[1] == pytest.approx(2 * sigmas[0], rel=0.4)


def test_what_cannot_be_asked_is_refused(show_file, tmp_path, capsys):
    assert command(show_file, "--out", tmp_path / "a", "--camera", "B") == 2
    assert "one of A" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command(show_file, "--out", tmp_path / "a", "--size", "huge")
