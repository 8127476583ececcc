"""Where LED pixels are, and the rays through them: numpy and shader, against Kooima's projection and points made by hand.

Kooima, "Generalized Perspective Projection" (2009): the off-axis matrix of a flat screen with the corners pa (bottom left),
pb (bottom right), pc (top left), seen from the eye pe. It is what every other LED renderer draws with; here it is only a
judge, since our rays need no matrix.
"""

import math

import msgspec
import numpy as np
import pytest

from ledvolume.camera import Camera, Lens, view_tangents
from ledvolume.frustum import Footprint, in_camera, inner_weight, picture_coordinates, view_directions
from ledvolume.moves import looking_at
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.render.context import compute_shader
from ledvolume.render.renderer import column_major, corner_words, tile_words
from ledvolume.stage import Arc, PositionMap, Surface, WallTile, cut, facing, led_coordinates, rays_through, surface_points

KOOIMA_TOLERANCE = 1e-6  # of the half picture, which is 1 in normalised device coordinates
FLOAT32_POSITION_M = 2e-6  # four steps of float32 at 4 to 8 m
FLOAT32_DIRECTION = 1e-6

WALL = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (4.0, 2.8), (256, 176))
SIDE = Surface("side", facing(math.radians(72), (-3.5, 1.5, 1.4)), (3.0, 2.5), (120, 100))
CEILING = Surface("ceiling", Pose(pan_tilt_roll(0.3, math.pi, 0.0), (0.2, 2.0, 3.8)), (3.0, 4.0), (60, 80))
TILTED = Surface("tilted", Pose(pan_tilt_roll(0.4, 1.1, -0.3), (1.0, 3.0, 2.0)), (1.0, 0.5), (33, 17))
BENT = Surface("bent", facing(0.2, (0.3, 4.0, 1.6)), (4.0, 2.8), (250, 170), Arc(5.0))
BULGING = Surface("bulging", facing(-0.3, (0.0, 4.0, 1.6)), (3.0, 2.0), (90, 60), Arc(-4.0))
HALF_CIRCLE = Surface("half", facing(0.0, (0.0, 3.0, 1.6)), (3.0 * math.pi, 2.0), (400, 80), Arc(3.0))


def panels(surface: Surface, columns: int, rows: int, off_m: float, seed: int = 0) -> Surface:
    """A wall of panels that hang a little askew, with a gap around each, so that none hides a part of another."""
    rng = np.random.default_rng(seed)
    corners = np.empty((rows, columns, 2, 2, 3))
    step_x, step_y = surface.size_m[0] / columns, surface.size_m[1] / rows
    for row, column, down, across in np.ndindex(corners.shape[:4]):
        x = step_x * (column + (0.01, 0.99)[across]) - surface.size_m[0] / 2
        y = surface.size_m[1] / 2 - step_y * (row + (0.01, 0.99)[down])
        corners[row, column, down, across] = np.array([x, y, 0.0]) + rng.uniform(-off_m, off_m, 3)
    return msgspec.structs.replace(surface, shape=PositionMap.of(corners))


PANELS = panels(Surface("panels", facing(0.1, (0.2, 4.0, 1.6), 0.2, -0.1), (4.0, 2.8), (256, 176)), 8, 4, 0.002)
TWISTED = panels(Surface("twisted", facing(-0.2, (0.0, 4.0, 1.6)), (3.0, 2.0), (90, 60)), 2, 3, 0.004, seed=1)

FLAT = [WALL, SIDE, CEILING, TILTED]
CURVED = [BENT, BULGING, HALF_CIRCLE, PANELS, TWISTED]
EYES = [(0.0, 0.0, 1.6), (0.9, 0.4, 1.2), (-0.7, 0.2, 2.3)]
LENS = Lens(35.0, (24.0, 16.0), projection_offset_mm=(0.4, -0.3))

each_flat = pytest.mark.parametrize("surface", FLAT, ids=lambda s: s.name)
each_surface = pytest.mark.parametrize("surface", FLAT + CURVED, ids=lambda s: s.name)
each_eye = pytest.mark.parametrize("eye", EYES, ids=str)


def kooima(pa: np.ndarray, pb: np.ndarray, pc: np.ndarray, pe: np.ndarray, near: float = 0.1, far: float = 100.0) -> np.ndarray:
    """(4, 4) clip_from_stage of the screen pa, pb, pc for the eye pe."""
    vr, vu = (pb - pa) / np.linalg.norm(pb - pa), (pc - pa) / np.linalg.norm(pc - pa)
    vn = np.cross(vr, vu)
    va, vb, vc = pa - pe, pb - pe, pc - pe
    d = -vn @ va
    left, right, bottom, top = (vr @ va * near / d, vr @ vb * near / d, vu @ va * near / d, vu @ vc * near / d)
    frustum = np.array(
        [
            [2 * near / (right - left), 0, (right + left) / (right - left), 0],
            [0, 2 * near / (top - bottom), (top + bottom) / (top - bottom), 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )
    view = np.eye(4)
    view[:3, :3] = [vr, vu, vn]
    view[:3, 3] = -view[:3, :3] @ pe
    return frustum @ view


def projection_of(surface: Surface, eye: tuple[float, float, float]) -> np.ndarray:
    half_w, half_h = surface.size_m[0] / 2, surface.size_m[1] / 2
    pa, pb, pc = (
        np.array(surface.stage_from_surface.apply((x * half_w, y * half_h, 0.0))) for x, y in ((-1, -1), (1, -1), (-1, 1))
    )
    return kooima(pa, pb, pc, np.array(eye))


def projected(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., 3) to normalised device coordinates (..., 2)."""
    clip = points @ matrix[:3, :3].T + matrix[:3, 3]
    w = points @ matrix[3, :3] + matrix[3, 3]
    return clip[..., :2] / w[..., None]


def pixel_centres(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.meshgrid(np.arange(surface.resolution_px[0]) + 0.5, np.arange(surface.resolution_px[1]) + 0.5)
    return columns, rows


def centres_of(tile: WallTile) -> tuple[np.ndarray, np.ndarray]:
    """LED coordinates (n,), (n,) of a tile's pixels, row by row."""
    (x, y), (w, h) = tile.offset_px, tile.resolution_px
    columns, rows = np.meshgrid(x + np.arange(w) + 0.5, y + np.arange(h) + 0.5)
    return columns.ravel(), rows.ravel()


def device_coordinates(surface: Surface, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where a projector draws LED coordinates: -1..1, x right, y up."""
    return np.stack([2 * columns / surface.resolution_px[0] - 1, 1 - 2 * rows / surface.resolution_px[1]], -1)


# Two of the surfaces face away from some eyes: the sign of d turns, the picture does not. Kooima's matrix allows it too.
@each_flat
@each_eye
def test_led_pixels_of_a_flat_surface_are_where_kooima_projects_them(surface, eye):
    columns, rows = pixel_centres(surface)
    found = projected(projection_of(surface, eye), surface_points(surface, columns, rows))
    assert np.abs(found - device_coordinates(surface, columns, rows)).max() < KOOIMA_TOLERANCE


@each_flat
@each_eye
def test_any_point_of_a_ray_is_projected_onto_its_led_pixel(surface, eye):
    columns, rows = pixel_centres(surface)
    directions, _ = rays_through(surface, columns, rows, np.array(eye))
    wanted = device_coordinates(surface, columns, rows)
    for distance_m in (0.3, 2.0, 50.0):
        found = projected(projection_of(surface, eye), np.array(eye) + distance_m * directions)
        assert np.abs(found - wanted).max() < KOOIMA_TOLERANCE


def test_kooimas_matrix_in_this_file_takes_the_corners_to_the_corners():
    """A screen 2 × 1 at x = 0..2, z = 0..1, y = 1 from an eye at the origin: its corners are the corners of the picture."""
    corners = np.array([[0.0, 1, 0], [2, 1, 0], [0, 1, 1], [2, 1, 1]])
    found = projected(kooima(*corners[:3], np.zeros(3)), corners)
    assert np.allclose(found, [[-1, -1], [1, -1], [-1, 1], [1, 1]], atol=1e-12)


ARC = Surface("arc", Pose(), (2 * math.pi, 2.0), (100, 10), Arc(4.0))  # 90° of a circle of 4 m


@pytest.mark.parametrize(
    "column, row, point",
    [
        (50, 5, (0.0, 0.0, 0.0)),
        (100, 5, (4 * math.sqrt(0.5), 0.0, 4 * (1 - math.sqrt(0.5)))),  # 45° along the circle, toward the viewer
        (0, 0, (-4 * math.sqrt(0.5), 1.0, 4 * (1 - math.sqrt(0.5)))),
        (50 + 100 / 3, 10, (4 * 0.5, -1.0, 4 * (1 - math.sqrt(0.75)))),  # 30°
    ],
)
def test_an_arc_is_part_of_a_circle(column, row, point):
    assert surface_points(ARC, column, row) == pytest.approx(point, abs=1e-12)


def test_an_arc_of_negative_radius_bends_away_from_the_viewer():
    away = msgspec.structs.replace(ARC, shape=Arc(-4.0))
    assert surface_points(away, 100, 5) == pytest.approx((4 * math.sqrt(0.5), 0.0, -4 * (1 - math.sqrt(0.5))), abs=1e-12)


def test_a_wall_that_is_looked_at_along_y_has_its_first_pixel_at_the_left_on_top():
    # 4 m wide, 2.8 m high around (0, 4, 1.6): from x = -2 and z = 3 on, a pixel of 15.625 mm × 15.909 mm
    assert surface_points(WALL, 0, 0) == pytest.approx((-2.0, 4.0, 3.0), abs=1e-12)
    assert surface_points(WALL, 0.5, 0.5) == pytest.approx((-2 + 4 / 512, 4.0, 3 - 2.8 / 352), abs=1e-12)


def test_a_surface_faced_by_a_camera_panned_left_stands_on_the_left():
    # a quarter turn to the left looks along -x; such a wall's columns run along +y
    left = Surface("left", facing(math.pi / 2, (-4.0, 0.0, 1.6)), (4.0, 2.8), (256, 176))
    assert surface_points(left, 0, 88) == pytest.approx((-4.0, -2.0, 1.6), abs=1e-12)
    assert surface_points(left, 256, 88) == pytest.approx((-4.0, 2.0, 1.6), abs=1e-12)


@each_surface
@each_eye
def test_led_coordinates_are_the_inverse_of_surface_points(surface, eye):
    columns, rows = pixel_centres(surface)
    # Seen from outside, a curved wall hides parts of itself: then the first hit is another pixel, and none of these eyes is.
    directions, _ = rays_through(surface, columns, rows, np.array(eye))
    assert np.abs(led_coordinates(surface, np.array(eye), directions) - np.stack([columns, rows], -1)).max() < 1e-8


@each_surface
def test_rays_that_miss_a_surface_have_no_led_coordinates(surface):
    eye = np.array(EYES[0])
    (width, height), beyond = surface.resolution_px, 0.01
    for column, row in ((-beyond, 5), (width + beyond, 5), (5, -beyond), (5, height + beyond)):
        directions, _ = rays_through(surface, np.array(column), np.array(row), eye)
        assert np.isnan(led_coordinates(surface, eye, directions)).all()


def test_spread_is_half_a_pitch_at_the_walls_distance():
    _, spread = rays_through(WALL, np.array(128.0), np.array(88.0), np.array((0.0, 0.0, 1.6)))
    assert spread == pytest.approx(0.5 * 2.8 / 176 / 4.0, rel=1e-12)  # 15.909 mm is the larger pitch; 4 m away


def cut_somehow(surface: Surface) -> tuple[WallTile, ...]:
    """Into columns and rows of tiles whose pixels are no multiple of the shaders' blocks, where the pixels allow it."""
    columns = next(n for n in (3, 5, 2, 1) if surface.resolution_px[0] % n == 0)
    rows = next(n for n in (7, 5, 2, 1) if surface.resolution_px[1] % n == 0)
    return cut(surface, columns, rows)


@each_surface
def test_a_pixel_has_the_same_bits_in_every_cut(surface):
    """Whichever tile a pixel is in, its place is computed from the surface's own coordinates."""
    whole = surface_points(surface, *pixel_centres(surface))
    for tile in cut_somehow(surface):
        (x, y), (w, h) = tile.offset_px, tile.resolution_px
        part = surface_points(surface, *centres_of(tile)).reshape(h, w, 3)
        assert part.tobytes() == np.ascontiguousarray(whole[y : y + h, x : x + w]).tobytes()


def test_a_cut_covers_every_pixel_once():
    covered = np.zeros((176, 256), int)
    for tile in cut(WALL, 8, 11):
        (x, y), (w, h) = tile.offset_px, tile.resolution_px
        covered[y : y + h, x : x + w] += 1
    assert (covered == 1).all()


def test_pixels_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="256 × 176 px do not divide into 3 × 1"):
        cut(WALL, 3, 1)


def test_view_tangents_follow_the_shift_of_the_lens():
    # A 24 × 16 mm sensor, 20 mm lens, its axis 2 mm right of and 1 mm below the centre of the sensor:
    # the left edge is 14 mm left of the axis, the right edge 10 mm; the upper edge 9 mm above it, the lower 7 mm below.
    lens = Lens(20.0, (24.0, 16.0), projection_offset_mm=(2.0, 1.0))
    assert view_tangents(lens) == pytest.approx((-14 / 20, 10 / 20, -7 / 20, 9 / 20), abs=1e-12)


LEVEL = Camera(Pose(position_m=(1.0, 2.0, 1.5)), Lens(20.0, (24.0, 16.0), (2.0, 1.0)), "measured", 0)


def test_the_picture_of_a_shifted_lens_is_off_centre():
    # straight ahead is 14 of 24 from the left, 9 of 16 from the top
    assert picture_coordinates(LEVEL, np.array((1.0, 12.0, 1.5)), (240, 160)) == pytest.approx((140, 90), abs=1e-9)
    assert np.isnan(picture_coordinates(LEVEL, np.array((1.0, -12.0, 1.5)), (240, 160))).all()


def test_view_directions_go_through_the_pixels_they_are_made_for():
    camera = msgspec.structs.replace(LEVEL, stage_from_camera=looking_at((0.3, -0.2, 1.75), (0.1, 4.0, 1.5)))
    directions = view_directions(camera, (30, 20))
    assert np.allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-12)
    found = picture_coordinates(camera, np.array(camera.stage_from_camera.position_m) + 3.7 * directions, (30, 20))
    columns, rows = np.meshgrid(np.arange(30) + 0.5, np.arange(20) + 0.5)
    assert np.abs(found - np.stack([columns, rows], -1)).max() < 1e-9


# 10 m ahead of LEVEL the view is x = 1 - 7 .. 1 + 5 (half 6, middle 0), z = 1.5 - 3.5 .. 1.5 + 4.5 (half 4, middle 2).
@pytest.mark.parametrize(
    "point, weight",
    [
        ((0.0, 12.0, 2.0), 1.0),  # the middle
        ((6.59, 12.0, 2.0), 1.0),  # 1.0983 half views right: within the overscan of 1.1
        ((6.0 * 1.2, 12.0, 2.0), 0.5),  # 1.2: half way through the feather of 0.2
        ((6.0 * 1.15, 12.0, 2.0), 1 - (3 * 0.25**2 - 2 * 0.25**3)),  # a quarter: smoothstep
        ((6.0 * 1.31, 12.0, 2.0), 0.0),
        ((-6.0 * 1.2, 12.0, 2.0), 0.5),  # as much to the left of the shifted middle
        ((0.0, 12.0, 2.0 + 4.0 * 1.2), 0.5),
        ((0.0, 12.0, 2.0 - 4.0 * 1.31), 0.0),
        ((7.2, 12.0, 2.0 + 4.0 * 1.25), 1 - (3 * 0.75**2 - 2 * 0.75**3)),  # in a corner the worse of both counts
        ((0.0, -8.0, 2.0), 0.0),  # behind
        ((1.0, 2.0, 1.5), 0.0),  # at the pupil
    ],
)
def test_inner_weight_by_hand(point, weight):
    found = inner_weight(LEVEL, Footprint(overscan=1.1, feather=0.2), np.array(point))
    assert found == pytest.approx(weight, abs=1e-12)


def test_without_a_feather_the_footprint_has_an_edge():
    at = np.array([[5.99, 12.0, 2.0], [6.01, 12.0, 2.0]])
    assert inner_weight(LEVEL, Footprint(overscan=1.0, feather=0.0), at).tolist() == [1.0, 0.0]


def test_in_camera_a_point_to_the_right_of_a_panned_camera_has_positive_x():
    camera = msgspec.structs.replace(LEVEL, stage_from_camera=Pose(pan_tilt_roll(math.pi / 2, 0.0, 0.0), (1.0, 2.0, 1.5)))
    # panned left by 90° it looks along -x, and its right is +y
    assert in_camera(camera, np.array((-2.0, 2.7, 1.9))) == pytest.approx((0.7, 3.0, 0.4), abs=1e-12)


# What the shaders make of the same: positions, rays and weights of every LED pixel of a tile.
MAIN = """
layout(local_size_x = 64) in;
layout(std430, binding = 3) writeonly buffer Found { vec4 found[]; };
uniform vec3 eye_m;
uniform uint pixel_count;

void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i >= pixel_count) return;
    Tile tile = tiles[0];
    vec2 led_px = vec2(tile.grid.zw + uvec2(i % tile.image.x, i / tile.image.x)) + 0.5;
    LedRay ray = ray_through(tile, led_px, eye_m);
    found[2u * i] = vec4(surface_point(tile, led_px), inner_weight(surface_point(tile, led_px)));
    found[2u * i + 1u] = vec4(ray.direction, ray.spread);
}
"""
CAMERA = Camera(looking_at((0.3, -0.2, 1.75), (0.1, 4.0, 1.5)), LENS, "measured", 0)
FOOTPRINT = Footprint(1.1, 0.2)


@pytest.fixture(scope="module")
def shader_rays(context):
    """(tile, eye) → positions (n, 3), weights (n,), directions (n, 3), spreads (n,) as the wall's shader computes them."""
    program = compute_shader(context, ("tiles", "footprint"), {}, MAIN)
    program["camera_from_stage"] = column_major(CAMERA.stage_from_camera.matrix()[:3, :3].T)
    program["pupil_m"] = CAMERA.stage_from_camera.position_m
    program["view_tangents"] = view_tangents(CAMERA.lens)
    program["overscan"], program["feather"] = FOOTPRINT.overscan, FOOTPRINT.feather

    def rays(tile, eye):
        count = tile.resolution_px[0] * tile.resolution_px[1]
        tiles, found = context.buffer(tile_words(tile, 0)), context.buffer(reserve=32 * count)
        corners = context.buffer(corner_words(tile.surface) or bytes(16))
        program["eye_m"], program["pixel_count"] = eye, count
        tiles.bind_to_storage_buffer(0)
        found.bind_to_storage_buffer(3)
        corners.bind_to_storage_buffer(6)
        program.run(-(-count // 64))
        context.finish()
        values = np.frombuffer(found.read(), "<f4").reshape(count, 8)
        return values[:, :3], values[:, 3], values[:, 4:7], values[:, 7]

    return rays


@each_surface
@each_eye
def test_the_shaders_rays_are_numpys(shader_rays, surface, eye):
    tile = cut(surface, 1, 1)[0]
    positions, weights, directions, spreads = shader_rays(tile, eye)
    columns, rows = centres_of(tile)
    wanted = surface_points(surface, columns, rows)
    wanted_directions, wanted_spreads = rays_through(surface, columns, rows, np.array(eye))
    assert np.abs(positions - wanted).max() <= FLOAT32_POSITION_M
    assert np.abs(directions - wanted_directions).max() <= FLOAT32_DIRECTION
    assert np.abs(spreads / wanted_spreads - 1).max() <= 1e-6
    assert np.abs(weights - inner_weight(CAMERA, FOOTPRINT, wanted)).max() <= 3e-5  # position error over feather width


@each_flat
@each_eye
def test_the_shaders_rays_are_projected_by_kooima_onto_their_pixels(shader_rays, surface, eye):
    """As angles: the direction through the pixel, got back from Kooima's matrix, and the shader's differ by ≤ 1e-6 rad."""
    tile = cut(surface, 1, 1)[0]
    _, _, directions, _ = shader_rays(tile, eye)
    ndc = device_coordinates(surface, *centres_of(tile))
    # Unproject: a point of each pixel's ray on the near plane, from the inverse of the matrix.
    clip = np.concatenate([ndc, np.full((len(ndc), 1), -1.0), np.ones((len(ndc), 1))], -1)
    points = clip @ np.linalg.inv(projection_of(surface, eye)).T
    toward = points[:, :3] / points[:, 3:] - np.array(eye)
    toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
    assert np.linalg.norm(directions - toward, axis=-1).max() <= FLOAT32_DIRECTION


@each_surface
def test_the_shaders_pixels_have_the_same_bits_in_every_cut(shader_rays, surface):
    (width, height), eye = surface.resolution_px, EYES[1]
    whole = [values.reshape(height, width, -1) for values in shader_rays(cut(surface, 1, 1)[0], eye)]
    for tile in cut_somehow(surface):
        (x, y), (w, h) = tile.offset_px, tile.resolution_px
        for values, all_values in zip(shader_rays(tile, eye), whole):
            assert values.tobytes() == np.ascontiguousarray(all_values[y : y + h, x : x + w]).tobytes()


def test_a_camera_that_fades_takes_its_footprint_with_it():
    ahead = np.array([0.0, 5.0, 1.6])
    footprint = Footprint(overscan=1.1, feather=0.2)
    assert inner_weight(LEVEL, footprint, ahead) == 1
    assert inner_weight(msgspec.structs.replace(LEVEL, presence=0.25), footprint, ahead) == 0.25
