"""Photographs of a virtual wall: every LED is where the projection says, light is neither lost nor made, noise is what it is."""

import math

import cv2
import msgspec
import numpy as np
import pytest

from calibration import photograph
from calibration.photograph import Body, Room
from ledvolume.camera import Camera
from ledvolume.colour import linear_from_srgb
from ledvolume.lens import Distortion, Lens
from ledvolume.moves import looking_at
from ledvolume.opencv_lens import from_opencv
from ledvolume.pose import Pose
from ledvolume.stage import Arc, Box, Flat, PositionMap, Stage, Surface, cut, facing, surface_points

IDEAL = Body((240, 160), 1.0, None, 0.0, 1e9, 0.0, 0.0, 0.0)
DARK = Room(0.0)
PINHOLE = Lens(35.0, (24.0, 16.0))
LEVEL = Camera(Pose(position_m=(0.0, 0.0, 1.6)), PINHOLE, "measured", 0)
X, Y = np.array([-2.0, 0.1, 2.0]), np.array([1.4, 0.0, -1.4])
Z = np.array([0.0, 0.05, -0.04])  # two panels of 2 m side by side and two below them, hanging in and out
HUNG = PositionMap(
    2, 2, np.array([[[[(X[c + i], Y[r + j], Z[(c + r + i) % 3]) for i in (0, 1)] for j in (0, 1)] for c in (0, 1)] for r in (0, 1)])
    .astype("<f8").tobytes(),
)  # fmt: skip
BARREL = Distortion((-3e-4, 0.0, 4e-7), (3e-5, -2e-5), (0.2, -0.1))


def stage_of(shape=Flat(), size_m=(4.0, 2.8), resolution_px=(128, 90), distance_m=4.0) -> Stage:
    surface = Surface("wall", facing(0.0, (0.0, distance_m, 1.6)), size_m, resolution_px, shape)
    return Stage(cut(surface, 1, 1), (0.0, 0.0, 1.6), Box((-1.0,) * 3, (1.0,) * 3), ())


def shown(stage: Stage, *leds: tuple[int, int], colour=(255, 255, 255)) -> dict[str, np.ndarray]:
    """Dark but for these LEDs (column, row); all of them lit if none is named."""
    width, height = stage.surfaces[0].resolution_px
    image = np.full((height, width, 3), colour if not leds else 0, np.uint8)
    for column, row in leds:
        image[row, column] = colour
    return {"wall-0-0": image}


def light_of(stage, images, camera=LEVEL, body=IDEAL, room=DARK, led_fill=0.4) -> np.ndarray:
    return photograph.collected(photograph.sight(stage, camera, body, room, led_fill), stage, images, body)


def middle_and_spread(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the green light: its centroid (x, y), and its variance along x and y, px."""
    weight = light[..., 1].astype(float) / light[..., 1].sum(dtype=float)
    rows, columns = np.indices(weight.shape) + 0.5
    middle = np.array([(weight * columns).sum(), (weight * rows).sum()])
    return middle, np.array([(weight * (columns - middle[0]) ** 2).sum(), (weight * (rows - middle[1]) ** 2).sum()])


def test_points_are_where_opencv_projects_them():
    matrix, coefficients = np.array([[280.0, 0, 118.7], [0, 280.0, 81.4], [0, 0, 1]]), (-0.12, 0.05, 0.003, -0.002, 0.01)
    lens = from_opencv(matrix, coefficients, (240, 160), 24.0)
    points_m = np.random.default_rng(1).uniform((-1.2, 3.0, 0.9), (1.2, 6.0, 2.3), (50, 3))
    right, forward, up = np.moveaxis(points_m - LEVEL.stage_from_camera.position_m, -1, 0)
    cv_points = np.stack([right, -up, forward], -1)  # OpenCV: y down, z forward, pixel centres at whole numbers
    expected, _ = cv2.projectPoints(cv_points, np.zeros(3), np.zeros(3), matrix, np.array(coefficients))
    found = photograph.picture_points(msgspec.structs.replace(LEVEL, lens=lens), points_m, (240, 160))
    assert np.allclose(found, expected[:, 0] + 0.5, atol=1e-6)


@pytest.mark.parametrize("model", ["Brown-Conrady D-U", "Brown-Conrady U-D"])
@pytest.mark.parametrize("shape", [Flat(), Arc(5.0), HUNG], ids=["flat", "arc", "panels"])
@pytest.mark.parametrize("resolution_px", [(48, 34), (128, 90), (360, 250)], ids=["large", "middling", "fine"])
def test_an_led_is_seen_where_the_projection_says(shape, model, resolution_px):
    """An LED is 7, 2.6 and 0.9 picture pixels wide; the camera is oblique, rolled, and its lens bends."""
    stage = stage_of(shape, resolution_px=resolution_px)
    lens = Lens(35.0, (24.0, 16.0), (0.3, -0.2), distortion=msgspec.structs.replace(BARREL, model=model))
    pose = looking_at((0.9, -0.2, 1.2), (0.1, 4.0, 1.7)) @ Pose((math.cos(0.1), 0.0, math.sin(0.1), 0.0))
    camera = Camera(pose, lens, "measured", 0)
    body = msgspec.structs.replace(IDEAL, softness_px=0.6)  # else a dot that is smaller than a pixel is anywhere in it
    seen = photograph.sight(stage, camera, body, DARK)
    width, height = resolution_px
    for across, down in ((0.5, 0.5), (0.3, 0.35), (0.65, 0.6), (0.62, 0.3)):
        column, row = int(width * across), int(height * down)
        middle, _ = middle_and_spread(photograph.collected(seen, stage, shown(stage, (column, row)), body))
        point_m = surface_points(stage.surfaces[0], column + 0.5, row + 0.5)
        expected = photograph.picture_points(camera, point_m, IDEAL.resolution_px)
        assert np.abs(middle - expected).max() < 0.03


@pytest.mark.parametrize("led_fill", [0.15, 0.4, 1.0])
def test_a_white_wall_is_white_whatever_part_of_it_shines(led_fill):
    stage = stage_of(resolution_px=(140, 98))  # 87.5 px/m: an LED is 2.5 px wide
    light = light_of(stage, shown(stage), led_fill=led_fill)
    axis = light[60:100, 90:150, 0]  # 24 × 16 LEDs, within 4 degrees of the axis: cos⁴ takes less than 1 %
    assert axis.mean() == pytest.approx(1.0, abs=0.01)
    assert (axis.std() < 0.02) == (led_fill == 1.0)  # else the dark between LEDs is seen


@pytest.mark.parametrize("resolution_px", [(64, 45), (512, 360), (1024, 717)], ids=["few", "many", "three in a pixel"])
def test_the_light_of_one_led_is_its_share_of_the_picture(resolution_px):
    """The wall is 4 m wide at 4 m, the picture 24/35 of the distance: 240 px / 2.743 m = 87.5 px/m. An LED covers
    (87.5 · 4 / columns)² px, and so much light it gives, at 1 for a pixel that is full of it."""
    stage = stage_of(resolution_px=resolution_px)
    width, height = resolution_px
    leds = [(width // 2 + i, height // 2 + i) for i in range(-4, 5)]
    light = light_of(stage, shown(stage, *leds))
    expected = (87.5 * 4.0 / width) * (87.5 * 2.8 / height)
    assert light[..., 0].sum() / len(leds) == pytest.approx(expected, rel=0.01)


def test_defocus_is_that_of_a_thin_lens():
    """A lens of f = 50 mm focused at 2 m: the sensor is 50 · 2000/1950 = 51.282 mm behind it. The image of a point at 4 m is
    at 50 · 4000/3950 = 50.633 mm. Of an aperture of 50/2.5 = 20 mm, 20 · (51.282 - 50.633)/50.633 = 0.25641 mm are left."""
    lens = Lens(51.28205, (24.0, 16.0), focus_distance_m=2.0)
    assert photograph.disk_radius_mm(lens, 2.5, np.array(4.0)) == pytest.approx(0.25641 / 2, rel=1e-4)
    assert photograph.disk_radius_mm(lens, 2.5, np.array(2.0)) == pytest.approx(0.0, abs=1e-12)
    far = msgspec.structs.replace(lens, focus_distance_m=math.inf, focal_length_mm=50.0)
    assert photograph.disk_radius_mm(far, 2.5, np.array(4.0)) == pytest.approx(20 * 50 / 4000 / 2)


def test_an_led_out_of_focus_is_spread_as_a_disk_and_keeps_its_light():
    """F 35 mm, f/2, focus 2 m, wall at 4 m: f = 35 · 2000/2035 = 34.398; 17.199 · 35 · (1/2000 - 1/4000) = 0.15049 mm across.
    10 px are 1 mm: the radius is 0.752 px, and a disk's variance r²/4 = 0.1415 px²."""
    stage, led, body = stage_of(), (64, 45), msgspec.structs.replace(IDEAL, softness_px=0.6)
    sharp = light_of(stage, shown(stage, led), body=body)
    lens = msgspec.structs.replace(PINHOLE, focus_distance_m=2.0)
    camera, body = msgspec.structs.replace(LEVEL, lens=lens), msgspec.structs.replace(body, f_stop=2.0)
    soft = light_of(stage, shown(stage, led), camera, body)
    (before, narrow), (after, wide) = middle_and_spread(sharp), middle_and_spread(soft)
    assert wide - narrow == pytest.approx([0.1415, 0.1415], abs=0.003)
    assert after == pytest.approx(before, abs=3e-3) and soft.sum() == pytest.approx(sharp.sum(), rel=1e-4)


@pytest.mark.parametrize("radius_px", [0.3, 0.57, 0.9, 1.0, 1.1, 1.5, 2.3, 7.0, 15.0])
def test_a_disk_of_pixels_has_the_moment_of_a_disk(radius_px):
    kernel = photograph.disk(radius_px)
    reach = len(kernel) // 2
    at = np.arange(-reach, reach + 1)
    assert kernel.sum() == pytest.approx(1, abs=1e-6) and kernel.min() >= 0
    assert (kernel * at**2).sum() == pytest.approx(radius_px**2 / 4, rel=1e-4)


def test_where_depth_varies_each_place_has_a_blur_of_its_own():
    light = np.zeros((60, 120, 3), np.float32)
    light[30, 20] = light[30, 100] = 1
    radii = np.broadcast_to(np.linspace(0.5, 5.0, 120, dtype=np.float32), (60, 120))
    soft = photograph.defocused(light, radii)
    for half, column in ((soft[:, :60], 20), (soft[:, 60:], 100)):
        _, spread = middle_and_spread(half)
        assert half[..., 0].sum() == pytest.approx(1, rel=0.02)
        assert spread[1] == pytest.approx(radii[0, column] ** 2 / 4, rel=0.1)


@pytest.mark.parametrize("light, expected", [(0.5, 0.5 / 400), (0.1, 0.1 / 400), (0.02, 0.02 / 400)])
def test_noise_is_that_of_photons_and_of_reading(light, expected):
    """σ² = light / full well + (read noise / full well)², of a full sensor. 8 bits add less than a hundredth."""
    body = msgspec.structs.replace(IDEAL, full_well_e=400.0, read_noise_e=2.0)
    picture = photograph.developed(np.full((200, 200, 3), light, np.float32), body, 3)
    linear = linear_from_srgb(picture / np.float32(255))
    assert linear.var() == pytest.approx(expected + (2 / 400) ** 2, rel=0.05)
    assert linear.mean() == pytest.approx(light, rel=0.01)


def test_the_same_seed_gives_the_same_picture_and_another_another():
    stage, body = stage_of(), Body((120, 80))
    seen = photograph.sight(stage, LEVEL, body)
    first, again, other = (photograph.photograph(seen, stage, shown(stage), body, seed) for seed in ((7, 1), (7, 1), (7, 2)))
    assert (first == again).all() and (first != other).any()
    assert (photograph.sight(stage, LEVEL, body).shares != seen.shares).nnz == 0


def test_what_is_too_bright_clips_and_runs_over():
    stage, led = stage_of(resolution_px=(48, 34)), (24, 17)
    body = msgspec.structs.replace(IDEAL, exposure=6.0)
    dry = photograph.developed(light_of(stage, shown(stage, led), body=body), body, 1)
    wet_body = msgspec.structs.replace(body, bloom=0.5, bloom_px=3.0)
    wet = photograph.developed(light_of(stage, shown(stage, led), body=body), wet_body, 1)
    assert dry.max() == wet.max() == 255
    assert (wet > 20).sum() > 2 * (dry > 20).sum() and (wet >= dry).all()


def test_corners_are_darker_as_cos4_says():
    """A sensor of 20 mm before a lens of 10 mm: its side's middle is 45° off the axis, cos⁴ is a quarter."""
    camera = msgspec.structs.replace(LEVEL, lens=Lens(10.0, (20.0, 20.0)))
    body = msgspec.structs.replace(IDEAL, resolution_px=(201, 201), vignetting=0.5)
    falloff = photograph.sight(stage_of(), camera, body).falloff
    assert falloff[100, 100] == pytest.approx(1)
    assert falloff[100, 0] == pytest.approx(0.25 * (1 - 0.5 * 0.5**2), rel=0.02)  # r²: half of the corner's
    assert falloff[0, 0] == pytest.approx(0.5 / 9, rel=0.05)  # 1 + tan² = 3


def test_a_person_hides_the_wall_and_the_room_is_grey():
    stage, room = stage_of(), Room(0.1, ((0.0, 2.0),))
    light = light_of(stage, shown(stage), room=room, led_fill=1.0)
    # 2 m away a metre is 175 px: the head is from 1.49 to 1.75 m, the eye at 1.6 m in row 80
    assert light[75:82, 116:124].max() < 0.05 and light[75:82, 60:100].min() > 0.9
    away = msgspec.structs.replace(LEVEL, stage_from_camera=looking_at((0.0, 0.0, 1.6), (0.0, -4.0, 1.6)))
    assert light_of(stage, shown(stage), away, room=Room(0.1))[80, 120] == pytest.approx([0.1] * 3, rel=1e-3)


def test_a_sensor_behind_coloured_filters_sees_colours():
    stage = stage_of()
    body = msgspec.structs.replace(IDEAL, is_bayer=True, softness_px=0.7)
    picture = photograph.developed(light_of(stage, shown(stage, colour=(255, 0, 0)), body=body), body, 1)
    red, green, blue = picture[40:120, 60:180].reshape(-1, 3).mean(0)
    assert red > 150 and green < 5 and blue < 5


def test_a_surface_behind_another_is_not_seen():
    near = Surface("near", facing(0.0, (0.0, 2.0, 1.6)), (4.0, 4.0), (16, 16))
    far = Surface("far", facing(0.0, (0.0, 4.0, 1.6)), (8.0, 8.0), (16, 16))
    stage = Stage((*cut(far, 1, 1), *cut(near, 1, 1)), (0.0, 0.0, 1.6), Box((-1.0,) * 3, (1.0,) * 3), ())
    images = {"far-0-0": np.full((16, 16, 3), 255, np.uint8), "near-0-0": np.zeros((16, 16, 3), np.uint8)}
    assert light_of(stage, images).max() == 0
