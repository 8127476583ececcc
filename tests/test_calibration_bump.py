"""Has anything moved? Views of a wall that was moved by known amounts, and a picture of dots through detection.

Views are made by an independent camera: rays and pixels by hand, no resection, no code of the solve.
"""

import math

import msgspec
import numpy as np
import pytest
from led_photographs import Camera as Photographer
from test_calibration_report import CEILING, WALL, solved, solved_surface

from calibration.bump import bump_of
from calibration.resection import resected
from calibration.session import Matches, View
from calibration.session import save as save_views
from calibration.solved import SolvedLens, save_solved
from ledvolume.cli import main
from ledvolume.errors import CalibrationError
from ledvolume.lens import Distortion, Lens, distorted
from ledvolume.moves import looking_at
from ledvolume.outputs.images import png
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.stage import PositionMap, Surface, facing, surface_points

PICTURE_PX = (1920, 1280)
NOISE_PX = 0.3
LENS = Lens(24.0, (24.0, 16.0), (0.1, -0.05), 0.08, distortion=Distortion((1e-4,), (), (0.0, 0.0), "Brown-Conrady U-D"))
CAMERA = looking_at((0.5, -3.0, 1.6), (0.0, 4.5, 2.6), math.radians(8.0))
COLUMNS, ROWS = 12, 6


def panels(moved: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Surface:
    """WALL as 12 × 6 panels of 0.5 m; the one in column 5, row 3 is shifted on the wall's axes."""
    corners = np.zeros((ROWS, COLUMNS, 2, 2, 3))
    for row, column, down, right in np.ndindex(ROWS, COLUMNS, 2, 2):
        corners[row, column, down, right] = (-3 + 0.5 * (column + right), 1.5 - 0.5 * (row + down), 0)
    corners[2, 4] += moved
    shape = PositionMap(COLUMNS, ROWS, corners.astype("<f8").tobytes())
    return Surface("wall", WALL.stage_from_surface, WALL.size_m, WALL.resolution_px, shape)


def view_of(surfaces, moves: dict[str, Pose] | None = None, count=400, seed=0, pose=CAMERA, noise_px=NOISE_PX) -> View:
    """LEDs here and there on the surfaces, seen where they are after they were moved."""
    random, matches = np.random.default_rng(seed), []
    m = pose.matrix()
    for surface in surfaces:
        led = random.uniform(0, surface.resolution_px, (count, 2))
        points = surface_points(surface, *led.T)
        if moves and surface.name in moves:
            move = moves[surface.name].matrix()
            points = points @ move[:3, :3].T + move[:3, 3]
        right, forward, up = ((points - m[:3, 3]) @ m[:3, :3]).T
        mm = LENS.focal_length_mm * np.stack([right / forward, -up / forward], -1) + LENS.projection_offset_mm
        px = (distorted(LENS, mm) / LENS.sensor_mm + 0.5) * PICTURE_PX + random.normal(0, noise_px, (count, 2))
        seen = (forward > 0) & (px > 0).all(-1) & (px < PICTURE_PX).all(-1)
        matches.append(Matches(surface.name, led[seen], px[seen], np.full(seen.sum(), noise_px)))
    return View("now", PICTURE_PX, tuple(matches), "A")


def calibrated(*surfaces, sigma_mm=0.5):
    rig = solved().rigs[0]
    lens = SolvedLens("0", LENS)
    rig = msgspec.structs.replace(rig, lenses=(lens,), stage_from_world=Pose())
    return solved(tuple(solved_surface(s, sigma_mm) for s in surfaces), rigs=(rig,))


BOTH = calibrated(WALL, CEILING)


def test_a_camera_is_found_where_it_stands_and_knows_how_well():
    """Against the truth, 60 times: inside of 95 % about 95 times of 100 (binomial: 51 of 60 or more with 99.5 %)."""
    inside = 0
    for seed in range(60):
        view = view_of((WALL, CEILING), seed=seed, count=60)
        points = np.concatenate([surface_points(s, *m.led_px.T) for s, m in zip((WALL, CEILING), view.matches)])
        picture = np.concatenate([m.picture_px for m in view.matches])
        found = resected(LENS, PICTURE_PX, points, picture, np.full(len(points), NOISE_PX))
        off = np.array(found.stage_from_camera.position_m) - CAMERA.position_m
        inside += off @ np.linalg.inv(found.covariance[:3, :3]) @ off < 7.815  # chi², three degrees of freedom
        assert np.linalg.norm(off) < 0.01
    assert 51 <= inside


@pytest.mark.parametrize("seed", range(12))
def test_nothing_has_moved_where_nothing_has(seed):
    bump = bump_of(calibrated(panels(), CEILING), view_of((panels(), CEILING), count=1500, seed=seed))
    assert not bump.has_moved and not bump.words
    assert all(rms_px == pytest.approx(NOISE_PX * math.sqrt(2), rel=0.1) for rms_px in bump.surfaces.values())


@pytest.mark.parametrize("shift_m", [(0.003, 0.0, -0.005), (0.0, 0.009, 0.0), (-0.01, 0.004, 0.01)])
def test_a_surface_that_has_moved_is_named_with_where_to(shift_m):
    bump = bump_of(BOTH, view_of((WALL, CEILING), {"ceiling": Pose(position_m=shift_m)}))
    [moved] = bump.moved
    assert moved.name == "ceiling" and bump.words[0].startswith("ceiling moved by ")
    # the ceiling as a whole is shifted; the place that is told is one of its border, within what is said
    assert np.linalg.norm(np.subtract(moved.moved_mm, np.multiply(shift_m, 1000))) < 1.5 * moved.within_mm
    assert moved.within_mm < 4


def test_of_three_surfaces_the_one_that_contradicts_both_others_has_moved():
    side = Surface("side", facing(math.radians(70), (-3.2, 3.0, 2.0)), (2.0, 3.0), (200, 300))
    for name, others in (("ceiling", (WALL, side)), ("side", (WALL, CEILING)), ("wall", (side, CEILING))):
        move = {name: Pose(position_m=(0.004, 0.0, 0.014) if name != "ceiling" else (0.012, 0.008, 0.0))}
        bump = bump_of(calibrated(WALL, CEILING, side), view_of((WALL, CEILING, side), move))
        assert {m.name for m in bump.moved} == {name}, (others, bump.words)


def test_a_surface_that_has_turned_is_named():
    hinge = Pose(position_m=(-3.0, 3.0, 4.0))
    turn = hinge @ Pose(pan_tilt_roll(0.0, 0.0, math.radians(-0.15))) @ hinge.inverse()  # its right end is 16 mm lower
    [moved] = bump_of(BOTH, view_of((WALL, CEILING), {"ceiling": turn})).moved
    assert moved.name == "ceiling" and moved.turned_deg == pytest.approx(0.15, abs=0.04) and moved.mm > 10


@pytest.mark.parametrize(("shift_m", "told_mm"), [((0.01, 0.0, 0.0), 10.0), ((0.0, -0.015, 0.0), 15.0)])
def test_one_panel_that_was_bumped_is_named_by_its_column_and_row(shift_m, told_mm):
    """Shifted along the wall, across the line of sight."""
    bump = bump_of(calibrated(panels(), CEILING), view_of((panels(shift_m), CEILING), count=4000))
    [moved] = bump.moved
    assert moved.name == "panel in column 5 of 12, row 3 of 6 of wall"
    assert moved.across_mm == pytest.approx(told_mm, abs=2.0)


def test_of_two_surfaces_the_one_that_contradicts_the_tracker_has_moved():
    """Without the tracker nobody can tell whether the wall went one way or the ceiling the other; the smaller is named."""
    shift = {"wall": Pose(position_m=(0.012, 0.0, 0.0))}
    view = view_of((WALL, CEILING), shift)
    assert [m.name for m in bump_of(BOTH, view).moved] == ["ceiling"]
    body = CAMERA @ Pose(position_m=(0.0, -LENS.entrance_pupil_m, 0.0))
    [moved] = bump_of(BOTH, msgspec.structs.replace(view, world_from_tracker=body)).moved
    assert moved.name == "wall" and moved.mm == pytest.approx(12, abs=1.5 * moved.within_mm)


def test_tracker_and_wall_that_moved_against_each_other_are_told():
    body = CAMERA @ Pose(position_m=(0.0, -LENS.entrance_pupil_m, 0.0))
    view = view_of((WALL, CEILING))
    still = bump_of(BOTH, msgspec.structs.replace(view, world_from_tracker=body))
    assert not still.has_moved and still.tracker_mm < 2
    away = bump_of(BOTH, msgspec.structs.replace(view, world_from_tracker=Pose(position_m=(0.0, 0.008, 0.0)) @ body))
    assert away.has_moved and not away.moved and away.tracker_mm == pytest.approx(8, abs=1)
    assert "the tracker or the whole wall moved by" in away.words[0]


def test_wrong_matches_move_nothing():
    """One LED of twenty is taken for another one."""
    view = view_of((WALL, CEILING), count=600)
    random, spoilt = np.random.default_rng(3), []
    for m in view.matches:
        wrong = random.random(len(m.led_px)) < 0.05
        spoilt.append(
            msgspec.structs.replace(
                m, picture_px=np.where(wrong[:, None], random.uniform(0, 1280, m.picture_px.shape), m.picture_px)
            )
        )
    bump = bump_of(BOTH, msgspec.structs.replace(view, matches=tuple(spoilt)))
    assert not bump.moved


def test_what_cannot_be_judged_is_said():
    view = view_of((WALL, CEILING))
    with pytest.raises(CalibrationError, match="roof found; calibrated are wall, ceiling"):
        bump_of(
            BOTH,
            msgspec.structs.replace(view, matches=(msgspec.structs.replace(view.matches[0], surface="roof"),)),
        )
    with pytest.raises(CalibrationError, match="camera B with its lens as 0 was not solved; known: A"):
        bump_of(BOTH, msgspec.structs.replace(view, camera_id="B"))


def test_the_command_reads_a_folder_of_views(tmp_path, capsys):
    save_solved(tmp_path / "solved.json", BOTH)
    (tmp_path / "today").mkdir()
    still = view_of((WALL, CEILING))
    moved = msgspec.structs.replace(view_of((WALL, CEILING), {"ceiling": Pose(position_m=(0.0, 0.02, 0.0))}), name="later")
    save_views(tmp_path / "today" / "views.json", [still, moved])
    command = ["calibrate", "bump", str(tmp_path), str(tmp_path / "today")]
    assert main([*command, "--view", "now"]) == 0 and "now: nothing has moved" in capsys.readouterr().out
    assert main(command) == 1 and "later: MOVED" in capsys.readouterr().out
    assert main([*command, "--view", "x"]) == 2


def test_one_picture_of_the_dots_is_enough(tmp_path, capsys):
    """A wall of 6 × 3 m, photographed by another camera model through a homography: its corners stand where a pinhole at
    (0.4, -1, 1.7) that looks along +Y sees them; f = 24 mm on 24 × 18 mm, 480 × 360."""
    surface = Surface("wall", WALL.stage_from_surface, WALL.size_m, (96, 48))
    size_px = (480, 360)
    corners_m = surface_points(surface, np.array([0.0, 96, 96, 0]), np.array([0.0, 0, 48, 48]))
    x, y, z = (corners_m - (0.4, -1.0, 1.7)).T
    corners_px = np.stack([240 + 480 * x / y, 180 - 480 * z / y], -1)
    photograph = Photographer({surface: corners_px}, size_px, k1=0.0).photographs(["dots"])["dots"]
    (tmp_path / "dots.png").write_bytes(png(np.repeat(photograph[..., None], 3, -1)))
    result = calibrated(surface)
    lens = SolvedLens("0", Lens(24.0, (24.0, 18.0)))
    result = msgspec.structs.replace(result, rigs=(msgspec.structs.replace(result.rigs[0], lenses=(lens,)),))
    save_solved(tmp_path / "solved.json", result)
    assert main(["calibrate", "bump", str(tmp_path), str(tmp_path / "dots.png")]) == 0, capsys.readouterr()
    assert "dots.png: nothing has moved (wall 0." in capsys.readouterr().out
    (tmp_path / "black.png").write_bytes(png(np.zeros((360, 480, 3), np.uint8)))
    assert main(["calibrate", "bump", str(tmp_path), str(tmp_path / "black.png")]) == 2
