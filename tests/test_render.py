"""The shaders against their slow twin, and what a frame promises: a function of its request alone.

The march is compared on noise (scenes.random_scene): neighbouring bricks do not fit together there, so one wrong cell,
brick, corner or step is seen. The wall is compared on a smooth place, since its rays start from float32 positions and noise
would turn their last bit into light.
"""

import itertools
import math
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scenes import plane_scene, random_rays, random_scene

from ledvolume.camera import Camera, Lens
from ledvolume.colour import code_values
from ledvolume.config import load_show
from ledvolume.errors import ConfigError, RenderError
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint, inner_weight
from ledvolume.moves import looking_at
from ledvolume.outputs.pixels import rgb10_unpacked
from ledvolume.pose import Pose, Similarity, pan_tilt_roll
from ledvolume.render import brick_field, pattern_images, reference
from ledvolume.render.brick_field import BrickField, constants
from ledvolume.render.context import compute_shader
from ledvolume.render.pattern_images import PatternImages
from ledvolume.render.renderer import (
    OUTER_STEPS_MOST,
    QUALITIES,
    Place,
    Quality,
    Renderer,
    see_field,
)
from ledvolume.scenes import bricks
from ledvolume.scenes.mips import with_mips
from ledvolume.stage import Arc, Box, Flat, PositionMap, Stage, Surface, cut, facing, rays_through, surface_points

ROOT = Path(__file__).resolve().parent.parent

MARCH_TOLERANCE = 1e-3  # of full scale: a quarter of an 8-bit code value. Seen: 2e-4, where a long ray is nearly opaque.
WALL_TOLERANCE = 2e-3  # linear light; positions in float32 move the samples of an LED's ray by a thousandth of a voxel


@pytest.fixture(scope="module")
def march(context):
    """(scene, origins, directions, spreads, quality, near) → colours (n, 3), depths (n,) as the shader marches."""
    programs = {has: compute_shader(context, (*brick_field.SHADERS, "rays"), constants(has)) for has in (False, True)}

    def seen(scene, origins, directions, spreads, quality=Quality(), near=0.0):
        rays = np.zeros((len(origins), 8), "<f4")
        rays[:, :3], rays[:, 3], rays[:, 4:7] = origins, spreads, directions
        field = BrickField(context, scene, near)
        found = see_field(context, programs[scene.has_gradients], field, rays, quality)
        field.release()
        return found[:, :3], found[:, 3]

    return seen


def twin(scene, origins, directions, spreads, quality=Quality(), near=0.0):
    return reference.march(scene, origins, directions, spreads, quality, near)


def assert_same(found, wanted):
    """Colours everywhere; depths but for rays whose light is half used up within rounding of the middle of a step."""
    (colours, depths), (twin_colours, twin_depths) = found, wanted
    assert np.isfinite(colours).all() and np.isfinite(depths).all()
    assert np.abs(colours - twin_colours).max() <= MARCH_TOLERANCE
    assert (np.abs(depths - twin_depths) > 1e-4).mean() <= 1e-3


@pytest.mark.parametrize("has_gradients", [False, True], ids=["mean colour", "gradients"])
def test_ten_thousand_random_rays_are_the_twins(march, has_gradients):
    scene = random_scene(has_gradients=has_gradients)
    rays = random_rays(10_000)
    wanted = twin(scene, *rays)
    assert (wanted[1] >= 0).mean() > 0.7  # most hit something
    assert_same(march(scene, *rays), wanted)


@pytest.mark.parametrize("cascades", [1, 2, 5])
def test_any_number_of_cascades(march, cascades):
    scene = random_scene(seed=cascades, has_gradients=False, cascades=cascades, occupancy=0.01)
    rays = random_rays(2000, seed=cascades)
    assert_same(march(scene, *rays), twin(scene, *rays))


@pytest.mark.parametrize(
    "quality",
    [Quality(step_voxels=0.5), Quality(step_voxels=2.3), Quality(pixels_per_voxel=0.25), Quality(pixels_per_voxel=4.0)],
    ids=["short steps", "long steps", "fine bricks", "coarse bricks"],
)
def test_any_quality(march, quality):
    scene, rays = random_scene(seed=3), random_rays(2000, seed=4)
    assert_same(march(scene, *rays, quality), twin(scene, *rays, quality))


@pytest.mark.parametrize("spread", [0.0, 1e-4, 3e-3, 0.03, 0.3])
def test_footprints_from_none_to_coarse(march, spread):
    scene, (origins, directions, _) = random_scene(seed=5, has_gradients=False), random_rays(2000, seed=6)
    rays = origins, directions, np.full(2000, spread)
    assert_same(march(scene, *rays), twin(scene, *rays))


def test_the_shipped_place_is_the_twins(march):
    """The door of Lund as the demo's wall shows it, with its mips: a real scene, and rays that stay close together."""
    show = load_show(ROOT / "configs" / "demo.toml")
    place, surface, eye_m = show.places[show.start], show.stage.surfaces[0], np.array((0.3, 0.2, 1.75))
    scene = with_mips(bricks.load(place.file))
    columns, rows = np.meshgrid(np.arange(0.5, 272, 6), np.arange(0.5, 296, 6))
    directions, spreads = rays_through(surface, columns.ravel(), rows.ravel(), eye_m)
    matrix = place.field_from_stage.matrix()
    origins = np.broadcast_to(matrix[:3, :3] @ eye_m + matrix[:3, 3] - scene.header.centre, directions.shape)
    directions = directions @ place.field_from_stage.pose.matrix()[:3, :3].T
    for quality in (QUALITIES["show"], Quality(pixels_per_voxel=4.0)):
        rays = origins, directions, spreads, quality
        assert_same(march(scene, *rays), twin(scene, *rays))


def test_a_coarser_footprint_stops_at_coarser_bricks():
    """The twin's own choice, by hand: a split cell of side 1/32 at distance ~1 has voxels of 1/256; its children 1/512."""
    values = np.zeros((2, 9, 9, 9, 4), np.uint8)
    values[0], values[1] = (255, 0, 0, 255), (0, 255, 0, 255)  # the coarse brick is red, its eight children are green
    nodes = np.zeros((64**3 + 8, 2), np.uint32)
    cell = (32 * 64 + 60) * 64 + 32  # z = 32, y = 60, x = 32: y from 0.875 to 0.90625
    nodes[cell], nodes[64**3 :, 0] = (1, 64**3), 2
    scene = random_scene(has_gradients=False, cascades=1)
    scene = msgspec.structs.replace(scene, nodes=nodes, bricks=values, gradients=scene.gradients)
    direction = np.array([[0.01, 1.0, 0.01]]) / np.linalg.norm([0.01, 1.0, 0.01])
    for spread, colour in ((1 / 260, [0, 1, 0]), (1 / 200, [1, 0, 0])):  # radius at 0.875: 1/297 and 1/229 against 1/256
        seen, _ = twin(scene, np.zeros((1, 3)), direction, np.array([spread]), Quality(pixels_per_voxel=1.0))
        assert seen[0] == pytest.approx(colour, abs=0.01)


def test_directions_along_the_axes_and_in_their_planes(march):
    rng = np.random.default_rng(7)
    signs = np.array([d for d in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(d)])
    directions = np.repeat(signs, 100, axis=0)
    directions[::2] *= rng.uniform(0.2, 1, directions[::2].shape)  # zeros stay zeros
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = rng.uniform(-0.2, 0.2, directions.shape)
    scene, spreads = random_scene(seed=8), np.full(len(origins), 0.002)
    assert_same(march(scene, origins, directions, spreads), twin(scene, origins, directions, spreads))


def test_a_program_with_gradients_draws_a_scene_without_them(context):
    """A renderer has one program for all its places."""
    scene, rays = random_scene(seed=17, has_gradients=False), np.zeros((1000, 8), "<f4")
    rays[:, :3], rays[:, 4:7], rays[:, 3] = random_rays(1000, seed=18)
    seen = []
    for has_gradients in (False, True):
        program = compute_shader(context, (*brick_field.SHADERS, "rays"), constants(has_gradients))
        seen.append(see_field(context, program, BrickField(context, scene), rays, Quality()))
    assert np.abs(seen[0] - seen[1]).max() <= 1e-6


def test_an_eye_on_the_corner_of_cells(march):
    """The middle of the cascades is a corner of eight cells, and every ray along an axis runs in their faces."""
    scene, (_, directions, spreads) = random_scene(seed=9, has_gradients=False), random_rays(2000, seed=10)
    origins = np.zeros((2000, 3))
    origins[1000:] = np.random.default_rng(11).integers(-8, 8, (1000, 3)) / 32
    assert_same(march(scene, origins, directions, spreads), twin(scene, origins, directions, spreads))


def test_eyes_inside_bricks(march):
    scene = random_scene(seed=12, has_gradients=False)
    occupied = np.argwhere(scene.nodes[: 64**3, 0].reshape(64, 64, 64) < 0x8000_0000)[:, ::-1]
    rng = np.random.default_rng(13)
    cells = occupied[rng.integers(0, len(occupied), 2000)]
    origins = (cells + rng.random((2000, 3))) / 32 - 1
    _, directions, spreads = random_rays(2000, seed=14)
    for near in (0.0, 0.1):
        wanted = twin(scene, origins, directions, spreads, near=near)
        assert_same(march(scene, origins, directions, spreads, near=near), wanted)


def test_eyes_beyond_the_last_cascade_see_the_far_map(march):
    scene, (_, directions, spreads) = random_scene(seed=15, has_gradients=False), random_rays(500, seed=16)
    origins = np.full((500, 3), 4.1)  # the last of three cascades ends at 4
    colours, depths = march(scene, origins, directions, spreads)
    assert (depths == -1).all()
    assert np.abs(colours - reference.far_colour(scene, directions)).max() <= MARCH_TOLERANCE


# Row 0 is +Z; azimuth 0 (+X) is the middle column, +Y a quarter to the right of it, -X the seam.
@pytest.mark.parametrize(
    "direction, row, column",
    [
        ((1, 0, 0), 3.5, 7.5),
        ((0, 1, 0), 3.5, 11.5),
        ((0, -1, 0), 3.5, 3.5),
        ((-1, 1e-9, 0), 3.5, 15.5),
        ((-1, -1e-9, 0), 3.5, -0.5),
        ((1, 0, 1), 1.5, 7.5),
        ((1, 0, -1), 5.5, 7.5),
        ((0, 0, 1), -0.5, None),
        ((0, 0, -1), 7.5, None),
    ],
    ids=str,
)
def test_rays_that_miss_everything_see_the_far_map(march, direction, row, column):
    """8 × 16 pixels: red tells the row, green the column, as pixel numbers / 16; between them it is bilinear."""
    scene = random_scene(has_gradients=False, cascades=1)
    rows, columns = np.meshgrid(np.arange(8), np.arange(16), indexing="ij")
    far = np.stack([rows, columns, np.zeros_like(rows)], -1) / 16
    nodes = np.tile(np.array([0x8000_0000, 0], np.uint32), (64**3, 1))
    scene = msgspec.structs.replace(scene, nodes=nodes, far=far.astype(np.float16))
    unit = np.array([direction], float) / np.linalg.norm(direction)
    for colour, depth in (march(scene, np.zeros((1, 3)), unit, np.zeros(1)), twin(scene, np.zeros((1, 3)), unit, np.zeros(1))):
        assert depth[0] == -1
        assert colour[0, 0] * 16 == pytest.approx(np.clip(row, 0, 7), abs=1e-3)  # nothing above the first row but itself
        if column is not None:
            # column 15.5 and -0.5 are the seam: half of column 15, half of column 0
            wanted = column if 0 <= column <= 15 else 7.5
            assert colour[0, 1] * 16 == pytest.approx(wanted, abs=1e-3)


def test_a_homogeneous_brick_dims_as_beer_and_lambert_say(march):
    """One cell of density ρ = e^3 and colour 1 before a far map of 0, crossed straight: 1 - exp(-ρ / 32) of its colour."""
    nodes = np.tile(np.array([0x8000_0000, 0], np.uint32), (64**3, 1))
    nodes[(32 * 64 + 60) * 64 + 32] = 1, 0
    values = np.full((1, 9, 9, 9, 4), 255, np.uint8)
    header = msgspec.structs.replace(random_scene().header, cascades=1, log_density_range=(-5.0, 3.0))
    scene = msgspec.structs.replace(
        random_scene(has_gradients=False), header=header, nodes=nodes, bricks=values, far=np.zeros((4, 8, 3), np.float16)
    )
    rays = np.array([[1 / 64, 0.0, 1 / 64]]), np.array([[0.0, 1.0, 0.0]]), np.zeros(1)
    wanted = 1 - np.exp(-np.exp(3) / 32)
    for colours, _ in (march(scene, *rays), twin(scene, *rays)):
        assert colours[0] == pytest.approx([wanted] * 3, abs=2e-4)


# A small wall, whose place is a patterned plane 8 m from the eye, in a field that is turned, shifted and scaled.
EYE_M = (0.1, -0.2, 1.6)
CAMERA = Camera(looking_at((0.4, -0.1, 1.75), (0.3, 4.0, 1.5)), Lens(50.0, (24.0, 16.0), (0.4, -0.3)), "measured", 0)
OTHER_CAMERA = msgspec.structs.replace(CAMERA, stage_from_camera=looking_at((-0.5, 0.3, 1.5), (-0.4, 4.0, 1.9)))
FOOTPRINT = Footprint(overscan=1.05, feather=0.3)
TURN = Pose(pan_tilt_roll(0.1, -0.05, 0.07))
PLACE = Place(plane_scene(), Similarity(Pose(TURN.wxyz, (0.01, 0.02, -0.32)), 0.2), exposure=0.9)
SURFACE = Surface("wall", facing(0.1, (0.0, 4.0, 1.6)), (3.0, 2.4), (60, 48), Arc(5.0))


def stage_of(columns: int, rows: int, surface: Surface = SURFACE) -> Stage:
    return Stage(cut(surface, columns, rows), EYE_M, Box((-1.0, -1.0, 1.0), (1.0, 1.0, 2.2)), ())


def request_of(camera: Camera = CAMERA, **changes) -> FrameRequest:
    return FrameRequest(**({"index": 0, "present_at_ns": 0, "decided_at_ns": 0, "camera": camera, "scene": "plane"} | changes))


def renderer_of(context, stage: Stage, pixel_format: str = "rgb16") -> Renderer:
    return Renderer(context, stage, {"plane": PLACE}, FOOTPRINT, pixel_format)


@pytest.fixture(scope="module")
def renderer(context):
    return renderer_of(context, stage_of(2, 1))


def test_a_wall_that_the_driver_cannot_hold_is_refused(context):
    side = math.isqrt(context.info["GL_MAX_SHADER_STORAGE_BLOCK_SIZE"] // 16) + 8
    surface = msgspec.structs.replace(SURFACE, resolution_px=(side, side))
    with pytest.raises(RenderError, match="LED pixels"):
        renderer_of(context, stage_of(1, 1, surface))


def assembled(stage: Stage, images: dict[str, np.ndarray]) -> np.ndarray:
    """The whole surface's picture out of its tiles'."""
    width, height = stage.tiles[0].surface.resolution_px
    whole = np.zeros((height, width, *next(iter(images.values())).shape[2:]), next(iter(images.values())).dtype)
    for tile in stage.tiles:
        (x, y), (w, h) = tile.offset_px, tile.resolution_px
        whole[y : y + h, x : x + w] = images[tile.name]
    return whole


def bytes_of(frame) -> bytes:
    return b"".join(frame.images[name].tobytes() for name in sorted(frame.images))


@pytest.mark.parametrize("outer_steps", [0, 7, 16, 20, OUTER_STEPS_MOST])
@pytest.mark.parametrize("quality", ["show", "final"])
def test_the_wall_is_the_twins(renderer, outer_steps, quality):
    """Footprint, feather, both eyes, sub-pixels, and the outer picture at any state of its refinement."""
    frame = renderer.render(request_of(outer_steps=outer_steps, quality=quality))
    for tile in renderer.stage.tiles:
        wanted = reference.wall(tile, EYE_M, PLACE, FOOTPRINT, CAMERA, outer_steps, QUALITIES[quality])
        weight = wanted[..., 3]
        assert ((weight > 0) & (weight < 1)).any() and (weight == 0).any()
        codes = code_values(wanted[..., :3] * PLACE.exposure, 16)
        off = np.abs(frame.images[tile.name] - codes).max(-1) / 65535
        assert (off > WALL_TOLERANCE).mean() <= 1e-3 and off.max() < 0.02


def test_both_eyes_are_seen_on_the_wall(context):
    """The inner picture moves with the camera, the outer picture does not."""
    stage = stage_of(1, 1)
    renderer = renderer_of(context, stage)
    one, other = (renderer.render(request_of(camera)).images["wall-0-0"].astype(int) for camera in (CAMERA, OTHER_CAMERA))
    columns, rows = np.meshgrid(np.arange(60) + 0.5, np.arange(48) + 0.5)
    points = surface_points(SURFACE, columns, rows)
    weights = [inner_weight(camera, FOOTPRINT, points) for camera in (CAMERA, OTHER_CAMERA)]
    outside = (weights[0] == 0) & (weights[1] == 0)
    inside = (weights[0] == 1) & (weights[1] == 1)
    assert outside.sum() > 200 and inside.sum() > 100
    assert (one == other)[outside].all()
    assert np.abs(one - other)[inside].mean() > 0.02 * 65535  # parallax


def map_of(surface: Surface, columns: int, rows: int, off_m: float = 0.0) -> Surface:
    """The same surface as cells whose corners lie on it, or up to off_m beside it, each where it likes."""
    (width, height), back = surface.resolution_px, surface.stage_from_surface.inverse().matrix()
    row, column, down, across = np.indices((rows, columns, 2, 2))
    points_m = surface_points(surface, (column + across) * width / columns, (row + down) * height / rows)
    corners_m = points_m @ back[:3, :3].T + back[:3, 3]
    corners_m += np.random.default_rng(2).uniform(-off_m, off_m, corners_m.shape)
    return msgspec.structs.replace(surface, shape=PositionMap.of(corners_m))


ASKEW = map_of(SURFACE, 6, 4, 0.01)  # panels of 0.5 × 0.6 m that hang up to 1 cm off


@pytest.mark.parametrize("surface", [ASKEW, map_of(SURFACE, 30, 12, 0.002)], ids=["panels", "cells of 2 × 4 pixels"])
def test_a_wall_of_any_shape_is_the_twins(context, surface):
    renderer = renderer_of(context, stage_of(2, 1, surface))
    frame = renderer.render(request_of(outer_steps=20))
    for tile in renderer.stage.tiles:
        wanted = reference.wall(tile, EYE_M, PLACE, FOOTPRINT, CAMERA, 20, QUALITIES["show"])
        off = np.abs(frame.images[tile.name] - code_values(wanted[..., :3] * PLACE.exposure, 16)).max(-1) / 65535
        assert (off > WALL_TOLERANCE).mean() <= 1e-3 and off.max() < 0.02


def picture_of(context, surface: Surface) -> np.ndarray:
    stage = stage_of(1, 1, surface)
    return renderer_of(context, stage).render(request_of(outer_steps=20)).images["wall-0-0"] / 65535


def test_two_walls_each_have_their_own_map(context):
    """Corners of all maps lie in one buffer: the second wall finds its own."""
    other = msgspec.structs.replace(map_of(SURFACE, 3, 2, 0.01), name="other")
    stage = msgspec.structs.replace(stage_of(1, 1, ASKEW), tiles=cut(ASKEW, 2, 1) + cut(other, 1, 2))
    images = renderer_of(context, stage).render(request_of(outer_steps=20)).images
    both = np.concatenate([images["other-0-0"], images["other-0-1"]])
    assert (both / 65535 == picture_of(context, msgspec.structs.replace(other, name="wall"))).all()
    assert (np.concatenate([images["wall-0-0"], images["wall-1-0"]], 1) / 65535 == picture_of(context, ASKEW)).all()


def test_flat_cells_are_a_flat_wall(context):
    flat = msgspec.structs.replace(SURFACE, shape=Flat())
    off = np.abs(picture_of(context, map_of(flat, 6, 4)) - picture_of(context, flat))
    assert (off > WALL_TOLERANCE / 10).mean() <= 1e-3 and off.max() < WALL_TOLERANCE  # 1e-6 m at 8 m from the pattern


def test_fine_cells_on_an_arc_are_the_arc(context):
    """Cells of 0.1 m on a radius of 5 m: their middle is 0.1² / (8 · 5) = 0.25 mm off the arc, toward the eye at up to 0.35 of
    a right angle's sine, so 0.1 mm to the side; twice as far, on the plane, 0.2 mm. Its pattern turns once in 0.55 m with an
    amplitude of 0.5, so 2π · 0.5 · 0.2 / 550 = 1.1e-3 of encoded light."""
    arc, cells = picture_of(context, SURFACE), picture_of(context, map_of(SURFACE, 30, 1))
    assert 0 < np.abs(cells - arc).max() < 1.5e-3


@pytest.mark.parametrize("shape", [Flat(), Arc(5.0), Arc(-5.0), ASKEW.shape], ids=["flat", "hollow", "bulging", "panels askew"])
def test_an_led_pixel_has_the_same_bits_in_any_partition(context, shape):
    surface = msgspec.structs.replace(SURFACE, shape=shape)
    pictures = []
    for columns, rows in ((1, 1), (3, 4), (12, 2), (20, 48)):  # tiles of 60 × 48, 20 × 12, 5 × 24, 3 × 1 pixels
        stage = stage_of(columns, rows, surface)
        frame = renderer_of(context, stage).render(request_of(outer_steps=20))
        pictures.append(assembled(stage, frame.images).tobytes())
    assert pictures[1:] == pictures[:1] * 3


def test_two_runs_of_a_request_are_the_same_bytes(renderer):
    request = request_of(outer_steps=40)
    assert bytes_of(renderer.render(request)) == bytes_of(renderer.render(request))


@pytest.fixture(scope="module")
def used(context):
    """A renderer of two places, a request, and the bytes that a fresh renderer makes of it."""
    places = {"plane": PLACE, "other": Place(plane_scene(distance=1.2), PLACE.field_from_stage, exposure=0.5)}
    renderer, fresh = (Renderer(context, stage_of(2, 2), places, FOOTPRINT) for _ in range(2))
    request = request_of(outer_steps=20)
    return renderer, request, bytes_of(fresh.render(request))


@pytest.mark.parametrize(
    "before",
    [
        [dict(camera=OTHER_CAMERA)],
        [dict(outer_steps=0), dict(outer_steps=5), dict(outer_steps=16)],
        [dict(outer_steps=OUTER_STEPS_MOST)],
        [dict(quality="final", outer_steps=33)],
        [dict(scene="other", outer_steps=24), dict(camera=OTHER_CAMERA, outer_steps=30), dict(scene="other")],
        [dict(index=7, present_at_ns=1, decided_at_ns=2)],
    ],
    ids=["another camera", "refined in steps", "refined further", "another quality", "another scene", "another time"],
)
def test_a_frame_does_not_depend_on_the_frames_before_it(used, before):
    renderer, request, fresh = used
    for changes in before:
        renderer.render(request_of(**changes))
    assert bytes_of(renderer.render(request)) == fresh


def test_rays_that_were_asked_for_between_two_frames_do_not_change_them(context):
    stage = stage_of(2, 2)
    renderer = renderer_of(context, stage)
    first = bytes_of(renderer.render(request_of()))
    renderer.see("plane", np.zeros(3), np.array([[0.0, 1.0, 0.0]]), 0.001, Quality(step_voxels=0.3))
    assert bytes_of(renderer.render(request_of())) == first


def test_a_frame_keeps_its_images_when_the_next_is_rendered(renderer):
    frame = renderer.render(request_of())
    kept = bytes_of(frame)
    renderer.render(request_of(OTHER_CAMERA))
    assert bytes_of(frame) == kept


ENCODE_MAIN_TOLERANCE = {"rgb8": 1, "rgb10": 1, "rgb16": 2}  # code values: pow in float32, at the edge between two codes


@pytest.mark.parametrize("pixel_format, bits", [("rgb8", 8), ("rgb10", 10), ("rgb16", 16)])
def test_code_values_are_packed_as_the_protocol_says(context, pixel_format, bits):
    """The encode pass alone on known light, against numpy: every format, below 0, above 1, and both branches of sRGB."""
    stage = stage_of(2, 3)
    renderer = renderer_of(context, stage, pixel_format)
    renderer.render(request_of())
    light = np.random.default_rng(1).uniform(-0.1, 1.3, (renderer.pixels, 4)).astype("<f4")
    light[::4] *= 0.01
    renderer.radiance.write(light.tobytes())
    renderer.encode.run(*renderer._encode_groups)
    context.finish()
    raw = renderer.codes.read()
    for _, shape, offset in renderer.spans:
        image = np.ndarray(shape, renderer.dtype, raw, offset)
        codes = rgb10_unpacked(image) if pixel_format == "rgb10" else image
        number = offset * renderer.pixels // len(raw)
        wanted = code_values(light[number : number + shape[0] * shape[1], :3] * np.float32(PLACE.exposure), bits)
        off = np.abs(codes.reshape(-1, 3).astype(int) - wanted)
        assert off.max() <= ENCODE_MAIN_TOLERANCE[pixel_format]
        assert (off > 0).mean() < (0.01 if bits < 16 else 0.5)
        assert codes.min() == 0 and codes.max() == 2**bits - 1


def test_known_light_has_the_code_values_of_the_standard():
    # IEC 61966-2-1 by hand: 0.5 → 1.055 · 0.5^(1/2.4) - 0.055 = 0.735357; 0.002 → 12.92 · 0.002 = 0.02584; 0.18 → 0.461356
    assert code_values(np.array([0, 0.002, 0.18, 0.5, 1, 2, -1]), 8).tolist() == [0, 7, 118, 188, 255, 255, 0]
    assert code_values(np.array([0.18, 0.5]), 10).tolist() == [472, 752]
    assert code_values(np.array([0.18, 0.5]), 16).tolist() == [30235, 48192]


@pytest.mark.parametrize("pixel_format, sample", [("rgb8", (np.uint8, 3)), ("rgb10", (np.uint32, 2)), ("rgb16", (np.uint16, 3))])
def test_images_have_the_shape_of_their_tiles(context, pixel_format, sample):
    dtype, dimensions = sample
    stage = stage_of(20, 16)  # tiles of 3 × 3 pixels: 27 bytes, padded to the next multiple of four pixels
    frame = renderer_of(context, stage, pixel_format).render(request_of())
    assert list(frame.images) == [tile.name for tile in stage.tiles]
    assert {image.dtype for image in frame.images.values()} == {np.dtype(dtype)}
    assert {image.shape for image in frame.images.values()} == {(3, 3, 3)[:dimensions]}
    assert all(image.flags.c_contiguous for image in frame.images.values())


@pytest.mark.parametrize("pixel_format, most", [("rgb8", 255), ("rgb10", 1023), ("rgb16", 65535)])
def test_a_pattern_goes_to_the_wall_as_it_is(context, pixel_format, most):
    """All of the first column's pixels are dark in the coarsest bit, all of the last one's lit; no light of the scene, no
    exposure, no transfer function, whatever the camera does."""
    renderer = renderer_of(context, stage_of(2, 2), pixel_format)
    for camera in (CAMERA, msgspec.structs.replace(OTHER_CAMERA, tracking="lost", presence=0.0)):
        frame = renderer.render(request_of(camera, cue="pattern:gray/x/0", outer_steps=3))
        assert list(frame.images) == [tile.name for tile in renderer.stage.tiles]
        whole = assembled(renderer.stage, frame.images)
        whole = rgb10_unpacked(whole) if pixel_format == "rgb10" else whole
        # 60 columns are numbered by 6 bits: the coarsest is 1 from column 32 on
        assert (whole[:, :32] == 0).all() and (whole[:, 32:] == most).all()


def test_half_a_pattern_is_half_the_code_values():
    """Of whatever a pattern draws between black and white: 0.5 · 255 = 127.5 and 0.25 · 1023 = 255.75, to the nearest."""
    values = np.full((1, 2, 3), (0.5, 0.25, 1.0), np.float32)
    stage = stage_of(1, 1)
    assert PatternImages(stage, "rgb8", 8)._encoded(values)[0, 0].tolist() == [128, 64, 255]
    assert rgb10_unpacked(PatternImages(stage, "rgb10", 10)._encoded(values))[0, 0].tolist() == [512, 256, 1023]


def test_a_pattern_leaves_the_show_as_it_was(used):
    renderer, request, fresh = used
    pattern = msgspec.structs.replace(request, cue="pattern:dots")
    shown = bytes_of(renderer.render(pattern))
    assert bytes_of(renderer.render(request)) == fresh
    light = renderer.light(request)
    assert bytes_of(renderer.render(pattern)) == shown  # out of what is kept
    assert set(np.unique(np.concatenate([image.ravel() for image in renderer.light(pattern).values()]))) == {0.0, 1.0}
    assert all((light[name] == image).all() for name, image in renderer.light(request).items())


def test_a_pattern_costs_no_dispatch_and_is_drawn_once(renderer):
    request = request_of(cue="pattern:dots")
    assert opengl_runs(lambda: renderer.render(request)) == 0
    one, other = (renderer.render(request).images["wall-0-0"] for _ in range(2))
    assert one is other and not one.flags.writeable


def test_only_so_many_patterns_are_kept(context, monkeypatch):
    monkeypatch.setattr(pattern_images, "KEPT_BYTES", 3 * 60 * 48 * 6)  # three of a wall of 60 × 48 pixels of 6 bytes
    renderer = renderer_of(context, stage_of(1, 1))
    shown = [renderer.render(request_of(cue=f"pattern:gray/x/{k}")).images["wall-0-0"] for k in range(4)]
    again = [renderer.render(request_of(cue=f"pattern:gray/x/{k}")).images["wall-0-0"] for k in (3, 2, 1, 0)]
    assert [a is b for a, b in zip(again, shown[::-1])] == [True, True, True, False]
    assert (again[3] == shown[0]).all()


def test_a_pattern_that_nobody_knows_is_refused(renderer):
    with pytest.raises(ConfigError, match="white, black, identify, surface/NAME, gray/x/K"):
        renderer.render(request_of(cue="pattern:stripes"))


def opengl_runs(function) -> int:
    """How many dispatches moderngl hands to the driver while the function runs, counted by the interpreter."""
    calls = []
    sys.setprofile(lambda frame, event, called: calls.append(called.__name__) if event == "c_call" else None)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls.count("run")


def test_dispatches_do_not_grow_with_the_number_of_tiles(context):
    runs = []
    for columns, rows in ((2, 2), (16, 16)):
        surface = msgspec.structs.replace(SURFACE, resolution_px=(64, 48))
        renderer = renderer_of(context, stage_of(columns, rows, surface))
        renderer.render(request_of())
        runs.append(opengl_runs(lambda renderer=renderer: renderer.render(request_of(OTHER_CAMERA))))
    assert runs == [2, 2]


def test_a_near_field_is_not_drawn(context):
    """The plane is 8 m away: with nothing drawn nearer than 12 m, only the far map is left, 0.2 everywhere."""
    stage = stage_of(1, 1)
    place = msgspec.structs.replace(PLACE, near_m=12.0)
    frame = Renderer(context, stage, {"plane": place}, FOOTPRINT).render(request_of())
    # 0.2 display-encoded → linear 0.0331 · 0.9 → encoded 0.1896 · 255 = 48.3
    assert (np.abs(frame.images["wall-0-0"].astype(int) - 48) <= 1).all()
