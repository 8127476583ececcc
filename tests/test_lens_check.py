"""The lens check: a right wall passes it, a wrong one cannot."""

import math

import msgspec
import numpy as np
import pytest
from scenes import plane_scene

from ledvolume import lens_check
from ledvolume.camera import Camera, Lens
from ledvolume.colour import srgb_from_linear
from ledvolume.frame import Frame, FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.moves import looking_at
from ledvolume.outputs.pixels import rgb10_packed
from ledvolume.pose import Pose, Similarity
from ledvolume.render.renderer import Place, Renderer
from ledvolume.stage import Arc, Box, Flat, Stage, Surface, cut, facing, surface_points

EYE_M = (0.0, 0.0, 1.6)
LENS = Lens(35.0, (24.0, 16.0), projection_offset_mm=(0.4, -0.3))
CAMERA = Camera(looking_at((0.3, -0.2, 1.75), (0.1, 4.0, 1.5)), LENS, "measured", 0)
FOOTPRINT = Footprint(1.1, 0.1)
# The place: a plane 8 m from the eye, 4 m behind the wall, so that parallax between eyes is half of their distance.
FIELD_FROM_STAGE = Similarity(Pose(position_m=(0.0, 0.0, -0.32)), 0.2)


def stage_of(shape: Flat | Arc, shifted_m=(0.0, 0.0, 0.0)) -> Stage:
    centre_m = tuple(a + b for a, b in zip((0.0, 4.0, 1.6), shifted_m))
    surface = Surface("wall", facing(0.0, centre_m), (4.0, 2.8), (256, 176), shape)
    return Stage(cut(surface, 2, 2), EYE_M, Box((-1.0, -1.0, 1.0), (1.0, 1.0, 2.2)), ())


@pytest.fixture(scope="module", params=[Flat(), Arc(5.0)], ids=["flat", "arc"])
def wall(request, context):
    """(stage, renderer) of a wall of 16 mm pitch."""
    stage = stage_of(request.param)
    return stage, Renderer(context, stage, {"plane": Place(plane_scene(), FIELD_FROM_STAGE)}, FOOTPRINT)


def shown(renderer: Renderer, camera: Camera) -> Frame:
    return renderer.render(FrameRequest(0, 0, 0, camera, "plane"))


def test_a_frustum_correct_wall_shows_the_lens_what_a_direct_render_shows(wall):
    stage, renderer = wall
    check = lens_check.check(shown(renderer, CAMERA), stage, renderer, FOOTPRINT)
    assert check.compared.mean() > 0.95  # the whole view is on the wall
    assert check.db >= 40  # 8 bits alone allow 59; the rest is the LEDs' pitch


def test_it_holds_for_any_camera_that_looks_at_the_wall(wall):
    stage, renderer = wall
    for at, look in (((-0.8, 0.5, 1.2), (0.4, 4.0, 1.7)), ((0.9, -0.9, 2.1), (-0.3, 4.0, 1.4))):
        camera = msgspec.structs.replace(CAMERA, stage_from_camera=looking_at(at, look))
        assert lens_check.check(shown(renderer, camera), stage, renderer, FOOTPRINT).db >= 38


@pytest.mark.parametrize("shift_m", [(0.03, 0, 0), (0, 0.03, 0), (0, 0, -0.03)], ids=["sideways", "back", "down"])
def test_a_wall_that_stands_30_mm_from_where_it_is_said_to_stand_fails(wall, shift_m):
    stage, renderer = wall
    frame = shown(renderer, CAMERA)
    right = lens_check.check(frame, stage, renderer, FOOTPRINT)
    real_stage = stage_of(stage.surfaces[0].shape, shift_m)
    assert lens_check.check(frame, real_stage, renderer, FOOTPRINT).db < right.db - 6


def test_a_wall_drawn_for_the_tripod_instead_of_the_pupil_fails(wall):
    stage, renderer = wall
    right = lens_check.check(shown(renderer, CAMERA), stage, renderer, FOOTPRINT)
    tripod = CAMERA.stage_from_camera @ Pose(position_m=(0.0, -0.09, -0.14))
    frame = shown(renderer, msgspec.structs.replace(CAMERA, stage_from_camera=tripod))
    assert lens_check.check(frame, stage, renderer, FOOTPRINT, CAMERA).db < right.db - 6


def test_a_camera_that_is_mirrored_on_the_way_fails(wall):
    stage, renderer = wall
    (x, y, z), (qw, qx, qy, qz) = CAMERA.stage_from_camera.position_m, CAMERA.stage_from_camera.wxyz
    frame = shown(renderer, msgspec.structs.replace(CAMERA, stage_from_camera=Pose((qw, qx, -qy, -qz), (-x, y, z))))
    assert lens_check.check(frame, stage, renderer, FOOTPRINT, CAMERA).db < 25


def test_tiles_that_did_not_arrive_are_dark():
    stage = stage_of(Flat())
    images = {tile.name: np.full((88, 128, 3), 255, np.uint8) for tile in stage.tiles if tile.name != "wall-1-0"}
    light = lens_check.wall_light(stage, stage.surfaces[0], images)
    assert light[0, 0].tolist() == [1, 1, 1] and light[0, -1].tolist() == [0, 0, 0] and light[-1, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("pixel_format", ["rgb8", "rgb10", "rgb16"])
def test_code_values_of_every_format_become_light(pixel_format):
    surface = Surface("w", Pose(), (1.0, 1.0), (2, 2))
    tiles = cut(surface, 1, 1)
    half = {"rgb8": 188, "rgb10": 754, "rgb16": 48_302}[pixel_format]  # 0.7370 of the top: half the light by IEC 61966-2-1
    codes = np.full((2, 2, 3), half, np.uint8 if pixel_format == "rgb8" else np.uint16)
    image = rgb10_packed(codes) if pixel_format == "rgb10" else codes
    light = lens_check.wall_light(Stage(tiles, EYE_M, Box((0,) * 3, (1,) * 3), ()), surface, {tiles[0].name: image})
    assert np.allclose(light, 0.5, atol=0.004)


def test_a_picture_on_the_wall_is_seen_where_it_hangs():
    """A wall with one bright LED pixel: the photograph's centre of light is that pixel's direction."""
    stage = stage_of(Arc(5.0))
    images = {tile.name: np.zeros((88, 128, 3), np.uint8) for tile in stage.tiles}
    images["wall-1-1"][10, 20] = 255  # LED column 128 + 20, row 88 + 10
    seen, _, _ = lens_check.rephotograph(stage, images, CAMERA, (300, 200), across=2)
    weight = seen[..., 0] / seen[..., 0].sum()
    rows, columns = np.indices(weight.shape) + 0.5
    toward = surface_points(stage.surfaces[0], 148.5, 98.5) - np.array(CAMERA.stage_from_camera.position_m)
    right, forward, up = toward @ CAMERA.stage_from_camera.matrix()[:3, :3]
    # sensor mm right and down of its centre: the optical axis is at (0.4, -0.3)
    mm = 35.0 * right / forward + 0.4, -35.0 * up / forward - 0.3
    assert (weight * columns).sum() == pytest.approx((mm[0] / 24 + 0.5) * 300, abs=0.1)
    assert (weight * rows).sum() == pytest.approx((mm[1] / 16 + 0.5) * 200, abs=0.1)


def test_of_two_surfaces_the_nearer_is_seen():
    near = Surface("near", facing(0.0, (0.0, 2.0, 1.6)), (4.0, 4.0), (8, 8))
    far = Surface("far", facing(0.0, (0.0, 4.0, 1.6)), (8.0, 8.0), (8, 8))
    tiles = (*cut(far, 1, 1), *cut(near, 1, 1))
    images = {"far-0-0": np.full((8, 8, 3), 255, np.uint8), "near-0-0": np.zeros((8, 8, 3), np.uint8)}
    stage = Stage(tiles, EYE_M, Box((-1,) * 3, (3,) * 3), ())
    level = Camera(Pose(position_m=EYE_M), Lens(35.0, (24.0, 16.0)), "measured", 0)
    light, seen, points_m = lens_check.rephotograph(stage, images, level, (6, 4))
    assert seen.all() and light.max() == 0 and np.allclose(points_m[..., 1], 2.0)


def test_a_camera_pixel_covers_the_led_pixels_it_is_said_to_cover():
    stage = stage_of(Flat())
    level = Camera(Pose(position_m=EYE_M), Lens(35.0, (24.0, 16.0)), "measured", 0)
    # 4 m away the view is 4 · 24/35 = 2.743 m wide; 2.743 / (2 · 15.9 mm) = 86.2; height 2/3 of it. Pitch: 2.8 m / 176
    assert lens_check.camera_resolution(stage, level, led_per_px=2.0) == (86, 57)


def test_a_view_that_misses_the_wall_has_no_decibels(wall):
    stage, renderer = wall
    away = msgspec.structs.replace(CAMERA, stage_from_camera=looking_at((0.0, 0.0, 1.6), (0.0, -4.0, 1.6)))
    check = lens_check.check(shown(renderer, away), stage, renderer, FOOTPRINT)
    assert not check.compared.any() and math.isnan(check.db)


def test_decibels_are_those_of_the_compared_pixels_alone():
    zero, compared = np.zeros((1, 2, 3), np.float32), np.array([[True, False]])
    other = zero.copy()
    other[0, 0], other[0, 1] = 0.1, 1.0
    assert lens_check.LensCheck(zero, other, compared).db == pytest.approx(20.0)  # -10 log10(0.1²)
    assert srgb_from_linear(np.float32(0)) == 0
