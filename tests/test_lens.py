"""The OpenLensIO model: vectors by hand, there and back over real sensors, folds, OpenCV's formula, and the overscan of a bent view."""

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledvolume.camera import Camera, CameraSample, LensReading, Rig
from ledvolume.coverage import Coverage, needed_overscan, reached
from ledvolume.errors import ConfigError
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.lens import (
    Distortion,
    Lens,
    distorted,
    distortion_between,
    fold_mm,
    seen_border,
    undistorted,
    view_overscan,
)
from ledvolume.opencv_lens import from_opencv, to_opencv
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import open_decoder
from ledvolume.protocols.opentrackio_sample import camera_sample
from ledvolume.sources import Datagram
from ledvolume.timeline import Timeline

DU, UD = "Brown-Conrady D-U", "Brown-Conrady U-D"
EXACT = 1e-12
THERE_AND_BACK_MM = 1e-6  # what is asked for; a sensor's pixel is a few 1e-3
OPENTRACKIO = Path(__file__).parent / "data/opentrackio"
SMPTE_EXAMPLE = json.loads((OPENTRACKIO / "complete_dynamic.json").read_text())

# The intrinsics that come with OpenCV's samples (opencv/samples/data/left_intrinsics.yml and intrinsics.yml, Apache-2.0):
# a 640 × 480 camera, called 6.4 mm wide here. fx = fy, cx, cy, distortion coefficients
OPENCV_SAMPLES = {
    "left_intrinsics.yml": (
        (535.91573396163199, 342.28315473308373, 235.57082909788173),
        (-0.26637260909660682, -0.038588898922304653, 0.0017831947042852964, -0.00028122100441115472, 0.23839153080878486),
    ),
    "intrinsics.yml, 1": ((534.80326845051309, 335.68643204394891, 240.66183054066337), (0.29589439552724328, -1.0354662043042675, 0, 0, 0)),
    "intrinsics.yml, 2": ((534.80326845051309, 334.55744527912015, 242.05324573376600), (-0.16916358306948096, -0.11214173641213163, 0, 0, 0)),
}  # fmt: skip
PICTURE_PX, WIDTH_MM = (640, 480), 6.4


def opencv_sample(name: str) -> Lens:
    (f, cx, cy), coefficients = OPENCV_SAMPLES[name]
    return from_opencv([[f, 0, cx], [0, f, cy], [0, 0, 1]], coefficients, PICTURE_PX, WIDTH_MM)


def lens(
    radial=(), tangential=(), offset_mm=(0.0, 0.0), model=DU, projection_offset_mm=(0.0, 0.0), sensor_mm=(36.0, 24.0)
) -> Lens:
    return Lens(35.0, sensor_mm, projection_offset_mm, distortion=Distortion(radial, tangential, offset_mm, model))


def sensor(of: Lens, columns: int = 73, rows: int = 49) -> np.ndarray:
    """Points all over it, the border too, (rows, columns, 2) mm."""
    w, h = of.sensor_mm
    return np.stack(np.meshgrid(np.linspace(-w / 2, w / 2, columns), np.linspace(-h / 2, h / 2, rows)), -1)


def off_mm(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.linalg.norm(a - b, axis=-1)))


# ---- the formula

# r² = 25, r⁴ = 625, r⁶ = 15625 at (3, 4)
VECTORS = {
    "k1 is above the line": ((0.01,), (), (3 * 1.25, 4 * 1.25)),
    "k2 is below it": ((0.0, 0.01), (), (3 / 1.25, 4 / 1.25)),
    "k3 is above, with r⁴": ((0.0, 0.0, 0.0004), (), (3 * 1.25, 4 * 1.25)),
    "k4 is below": ((0.0, 0.0, 0.0, 0.0004), (), (3 / 1.25, 4 / 1.25)),
    "k5 is above, with r⁶": ((0.0, 0.0, 0.0, 0.0, 0.000016), (), (3 * 1.25, 4 * 1.25)),
    "k6 is below": ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0000032), (), (3 / 1.05, 4 / 1.05)),
    # (1 + 0.1 + 0.05 + 0.03125) / (1 + 0.05 + 0.0625 + 0.015625) = 1.18125 / 1.128125
    "all six": ((0.004, 0.002, 8e-5, 1e-4, 2e-6, 1e-6), (), (3 * 1.18125 / 1.128125, 4 * 1.18125 / 1.128125)),
    # x: 2·0.001·12; y: 0.001·(25 + 2·16)
    "p1": ((), (0.001,), (3 + 0.024, 4 + 0.057)),
    # x: 0.001·(25 + 2·9); y: 2·0.001·12
    "p2": ((), (0.0, 0.001), (3 + 0.043, 4 + 0.024)),
    "everything together": ((0.01,), (0.001, 0.002), (3.75 + 0.024 + 0.086, 5 + 0.057 + 0.048)),
}


@pytest.mark.parametrize(("radial", "tangential", "expected"), VECTORS.values(), ids=VECTORS.keys())
def test_the_polynomial_is_the_standards(radial, tangential, expected):
    assert undistorted(lens(radial, tangential), [3.0, 4.0]) == pytest.approx(expected, abs=EXACT)
    assert distorted(lens(radial, tangential, model=UD), [3.0, 4.0]) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("radial", "tangential", "expected"), VECTORS.values(), ids=VECTORS.keys())
def test_the_other_way_is_its_inverse(radial, tangential, expected):
    assert distorted(lens(radial, tangential), expected) == pytest.approx((3, 4), abs=1e-9)
    assert undistorted(lens(radial, tangential, model=UD), expected) == pytest.approx((3, 4), abs=1e-9)


def test_it_bends_about_the_sum_of_both_offsets_and_the_centre_stays():
    # ΔP (1, -0.5) + ΔC (0.25, 0.25): the centre is (1.25, -0.25)
    shifted = lens((0.01,), (), (0.25, 0.25), projection_offset_mm=(1.0, -0.5))
    assert undistorted(shifted, [1.25 + 3, -0.25 + 4]) == pytest.approx((1.25 + 3.75, -0.25 + 5), abs=EXACT)
    assert undistorted(shifted, [1.25, -0.25]) == pytest.approx((1.25, -0.25), abs=EXACT)


def test_a_lens_without_coefficients_bends_nothing():
    points = sensor(lens())
    for straight in (lens(), lens((0.0, 0.0)), lens(offset_mm=(1.0, 2.0), projection_offset_mm=(3.0, 4.0))):
        assert off_mm(undistorted(straight, points), points) == 0 == off_mm(distorted(straight, points), points)


def test_points_keep_their_shape_and_the_callers_array_is_not_written_to():
    points = np.zeros((2, 3, 2))
    assert undistorted(lens((0.01,)), points).shape == (2, 3, 2) and not points.any()
    assert undistorted(lens((0.01,)), np.zeros((0, 2))).shape == (0, 2)
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\)"):
        undistorted(lens(), np.zeros((2, 3)))


# ---- there and back


def test_there_and_back_over_the_whole_sensor_of_a_real_camera():
    real = opencv_sample("left_intrinsics.yml")
    points = sensor(real)
    assert off_mm(distorted(real, undistorted(real, points)), points) <= THERE_AND_BACK_MM
    assert off_mm(undistorted(real, distorted(real, points)), points) <= THERE_AND_BACK_MM
    other_way = msgspec.structs.replace(real, distortion=msgspec.structs.replace(real.distortion, model=DU))
    assert off_mm(distorted(other_way, undistorted(other_way, points)), points) <= THERE_AND_BACK_MM


# P(r) = r (1 + k1 r² + k2 r⁴) rises up to 1 + 3 k1 s + 5 k2 s² = 0, in units of F:
#   1: 5.17733 s² - 0.88768 s - 1 = 0: s = 0.533498, r = 0.730409, P = r (1 + 0.157858 - 0.294711) = 0.630450
#   2: 0.560709 s² + 0.507491 s - 1 = 0: s = 0.957512, r = 0.978525, P = r (1 - 0.161976 - 0.102815) = 0.719421
FOLDS = {"intrinsics.yml, 1": (0.730409, 0.630450), "intrinsics.yml, 2": (0.978525, 0.719421)}


@pytest.mark.parametrize(("name", "fold"), FOLDS.items(), ids=FOLDS.keys())
def test_a_calibration_that_folds_before_the_corner_says_so_there_and_holds_everywhere_else(name, fold):
    real, points = opencv_sample(name), sensor(opencv_sample(name))
    u, d = (of_f * real.focal_length_mm for of_f in fold)
    assert fold_mm(real.distortion, 10.0) == pytest.approx(u, rel=1e-5)
    r = np.linalg.norm(points - real.projection_offset_mm, axis=-1)
    straight = undistorted(real, points)
    assert np.array_equal(np.isnan(straight).any(-1), r > d) and (r > d).any()
    within = points[r < d * 0.9999]  # at the fold itself nothing can be solved for: the derivative is 0
    assert off_mm(distorted(real, undistorted(real, within)), within) <= THERE_AND_BACK_MM
    assert view_overscan(real) == math.inf


def test_smptes_example_is_no_lens_but_its_radial_part_is_a_mild_one():
    sample = camera_sample(SMPTE_EXAMPLE)
    assert sample.lens.distortion == Distortion((1, 2, 3, 4, 5, 6), (1, 2), (1, 2), UD)
    for model in (UD, DU):
        distortion = msgspec.structs.replace(sample.lens.distortion, model=model)
        example = Lens(24.305, (36.0, 24.0), (0.1, 0.2), distortion=distortion)
        # p1 = 1, p2 = 2 per mm: 1 - 3 r² = 6 √5 r is at 0.0733 mm from the centre (1.1, 2.2), further terms not counted
        assert fold_mm(distortion, 10.0) == pytest.approx(0.0733, abs=1e-3)
        points = np.array([1.1, 2.2]) + 0.02 * (sensor(example) / 18)
        assert off_mm(distorted(example, undistorted(example, points)), points) <= THERE_AND_BACK_MM
        assert np.isnan(undistorted(example, [18.0, 12.0])).all() and np.isnan(distorted(example, [18.0, 12.0])).all()
        assert view_overscan(example) == math.inf
        radial = msgspec.structs.replace(example, distortion=msgspec.structs.replace(distortion, tangential=()))
        points = sensor(radial)
        assert off_mm(distorted(radial, undistorted(radial, points)), points) <= THERE_AND_BACK_MM
        assert off_mm(undistorted(radial, distorted(radial, points)), points) <= THERE_AND_BACK_MM


def lenses(bend: float = 0.08):
    """Each coefficient by itself bends the corner of a full-frame sensor, 21.6 mm from its centre, by up to `bend` of that."""
    part, r = st.floats(-bend, bend), 21.6
    radial = st.lists(part, max_size=6).map(lambda parts: tuple(p / r ** (2 * (i // 2 + 1)) for i, p in enumerate(parts)))
    tangential = st.tuples(part, part).map(lambda pair: tuple(p / 10 / r for p in pair))
    offset = st.tuples(st.floats(-1, 1), st.floats(-1, 1))
    return st.builds(lens, radial, st.one_of(st.just(()), tangential), offset, st.sampled_from([DU, UD]), offset)


@given(lenses())
def test_any_lens_there_and_back(any_lens):
    points = sensor(any_lens, 19, 13)
    straight = undistorted(any_lens, points)
    back = distorted(any_lens, straight)
    known = np.isfinite(straight).all(-1)
    assert known.any() and off_mm(back[known], points[known]) <= THERE_AND_BACK_MM


@given(lenses(0.01))
def test_a_mild_lens_has_no_gaps(mild):
    assert np.isfinite(undistorted(mild, sensor(mild))).all() and np.isfinite(distorted(mild, sensor(mild))).all()
    assert view_overscan(mild) < 1.5


number = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(number, max_size=16).map(tuple), st.lists(number, max_size=2).map(tuple), st.sampled_from([DU, UD]))
def test_coefficients_of_any_kind_raise_nothing_and_never_answer_wrongly(radial, tangential, model):
    wild = lens(radial, tangential, model=model)
    points = sensor(wild, 7, 5)
    solve, other = (distorted, undistorted) if model == DU else (undistorted, distorted)
    solved = solve(wild, points)
    known = np.isfinite(solved).all(-1)
    assert off_mm(other(wild, solved)[known], points[known]) <= 1e-8 if known.any() else True
    assert view_overscan(wild) > 0


# ---- folds and poles


def test_beyond_a_fold_nothing_is_said():
    # r (1 - 0.01 r²): 1 = 0.03 r² at 5.7735, where it is 3.8490
    folded = lens((-0.01,))
    assert fold_mm(folded.distortion, 100.0) == pytest.approx(5.773503, abs=1e-6)
    assert fold_mm(folded.distortion, 5.0) == math.inf
    assert undistorted(folded, [5.7, 0.0]) == pytest.approx((5.7 * (1 - 0.3249), 0))
    assert np.isnan(undistorted(folded, [[5.8, 0.0], [30.0, 0.0]])).all()
    assert np.isfinite(distorted(folded, [0.0, 3.848])).all() and np.isnan(distorted(folded, [0.0, 3.85])).all()


def test_beyond_a_pole_nothing_is_said():
    # r / (1 - 0.04 r²): infinite at 5; at 4 it is 4 / 0.36
    pole = lens((0.0, -0.04))
    assert undistorted(pole, [4.0, 0.0]) == pytest.approx((4 / 0.36, 0))
    assert distorted(pole, [4 / 0.36, 0.0]) == pytest.approx((4, 0), abs=1e-9)
    assert np.isnan(undistorted(pole, [[5.0, 0.0], [6.0, 0.0]])).all()


def test_a_fold_near_the_centre_is_not_overlooked_for_a_point_far_away():
    # r (1 - 0.01 s + 2e-5 s²): 1 - 0.03 s + 1e-4 s² = 0 at s = 38.2 and 261.8: folds at 6.18 mm, rises again from 16.2 mm
    moustache = lens((-0.01, 0.0, 2e-5))
    points = np.array([[6.0, 0.0], [6.3, 0.0], [20.0, 0.0], [5000.0, 0.0]])
    assert np.isnan(undistorted(moustache, points)).any(-1).tolist() == [False, True, True, True]


def test_a_point_that_is_not_known_stays_unknown_and_spoils_no_other():
    bent = lens((1e-4,), model=UD)
    got = undistorted(bent, [[np.nan, 0.0], [3.0, 4.0], [np.inf, 1.0]])
    assert np.isnan(got[[0, 2]]).any(-1).all() and np.isfinite(got[1]).all()


# ---- OpenCV


def opencv_pixel(x: float, y: float, fx: float, fy: float, cx: float, cy: float, d: tuple) -> tuple[float, float]:
    """calib3d's documentation, "Detailed Description", of the point (x, y, 1): written from its formula, not from ours."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0, 0, 0, 0)[:8]
    r2 = x * x + y * y
    factor = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    x2 = x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    y2 = y * factor + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return fx * x2 + cx, fy * y2 + cy


RATIONAL = (0.12, -0.31, 0.0011, -0.0007, 0.21, 0.38, -0.27, 0.33)


@pytest.mark.parametrize("coefficients", [OPENCV_SAMPLES["left_intrinsics.yml"][1], RATIONAL], ids=["5", "8"])
def test_a_ray_falls_on_the_pixel_that_opencv_says(coefficients):
    f, cx, cy = OPENCV_SAMPLES["left_intrinsics.yml"][0]
    ours = from_opencv([[f, 0, cx], [0, f, cy], [0, 0, 1]], coefficients, PICTURE_PX, WIDTH_MM)
    assert ours.focal_length_mm == pytest.approx(f / 100) and ours.sensor_mm == pytest.approx((6.4, 4.8))  # 0.01 mm pixels
    for x, y in np.random.default_rng(7).uniform((-0.5, -0.4), (0.5, 0.4), (50, 2)):
        straight_mm = np.array(ours.projection_offset_mm) + ours.focal_length_mm * np.array([x, y])
        # our origin is the sensor's middle, 320 pixels from its edge; OpenCV's is the first pixel's centre, half a pixel from it
        pixel = distorted(ours, straight_mm) / 0.01 + np.array(PICTURE_PX) / 2 - 0.5
        assert pixel == pytest.approx(opencv_pixel(x, y, f, f, cx, cy, coefficients), abs=1e-9)


def test_the_middle_of_opencvs_picture_is_the_middle_of_the_sensor():
    # four columns 0, 1, 2, 3: their middle is at 1.5
    centred = from_opencv([[4, 0, 1.5], [0, 4, 0.5], [0, 0, 1]], (), (4, 2), 8.0)
    assert centred == Lens(8.0, (8.0, 4.0), (0.0, 0.0), distortion=Distortion((0.0,) * 6, (0.0, 0.0), model=UD))


def test_coefficients_are_counted_in_millimetres():
    # F = 10 mm: K / 100, / 10⁴, / 10⁶; P / 10
    got = from_opencv([[100, 0, 31.5], [0, 100, 23.5], [0, 0, 1]], (1, 2, 3, 4, 5, 6, 7, 8), (64, 48), 6.4).distortion
    assert got.radial == pytest.approx((1e-2, 6e-2, 2e-4, 7e-4, 5e-6, 8e-6)) and got.tangential == pytest.approx((0.3, 0.4))


@pytest.mark.parametrize("name", OPENCV_SAMPLES)
def test_what_came_from_opencv_goes_back(name):
    (f, cx, cy), coefficients = OPENCV_SAMPLES[name]
    matrix, back = to_opencv(opencv_sample(name), PICTURE_PX)
    assert matrix == pytest.approx(np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]))
    assert back[:5] == pytest.approx(coefficients) and not back[5:].any()


SQUARE = [[500, 0, 320], [0, 500, 240], [0, 0, 1]]
NOT_OURS = {
    "two focal lengths": ([[500, 0, 320], [0, 505, 240], [0, 0, 1]], (), "fx 500, fy 505, +1.000%"),
    "skew": ([[500, 2, 320], [0, 500, 240], [0, 0, 1]], (), "skew"),
    "three coefficients": (SQUARE, (1, 2, 3), "0, 4, 5, 8, 12, 14 numbers"),
    "not a number": (SQUARE, (math.nan, 0, 0, 0), "numbers"),
    "thin prism": (SQUARE, (0,) * 8 + (1e-3, 0, 0, 0), "thin prisms"),
    "no matrix": ([500, 500], (), "3 × 3"),
}


@pytest.mark.parametrize(("matrix", "coefficients", "words"), NOT_OURS.values(), ids=NOT_OURS.keys())
def test_what_openlensio_cannot_say_is_told(matrix, coefficients, words):
    with pytest.raises(ConfigError) as refused:
        from_opencv(matrix, coefficients, PICTURE_PX, WIDTH_MM)
    assert words in str(refused.value)


def test_focal_lengths_that_differ_by_the_noise_of_a_calibration_are_one():
    assert from_opencv([[500, 0, 320], [0, 500.2, 240], [0, 0, 1]], (), PICTURE_PX, 6.4).focal_length_mm == pytest.approx(5.001)
    assert (
        from_opencv([[500, 0, 320], [0, 505, 240], [0, 0, 1]], (), PICTURE_PX, 6.4, square_within=0.02).focal_length_mm == 5.025
    )


NOT_OPENCVS = {
    "distorted to undistorted": (lens((1e-4,)), "Brown-Conrady U-D"),
    "a centre of its own": (lens((1e-4,), offset_mm=(0.1, 0.0), model=UD), "no centre"),
    "a seventh coefficient": (lens((0.0,) * 6 + (1e-9,), model=UD), "up to 6"),
    "pixels that are not square": (lens(sensor_mm=(36.0, 20.0)), "36 to 20"),
}


@pytest.mark.parametrize(("ours", "words"), NOT_OPENCVS.values(), ids=NOT_OPENCVS.keys())
def test_what_opencv_cannot_say_is_told(ours, words):
    with pytest.raises(ConfigError) as refused:
        to_opencv(ours, (3600, 2400))
    assert words in str(refused.value)


# ---- what a bent lens sees

BARREL = lens((1e-4,))  # 36 × 24: r² in the corner 324 + 144 = 468


def test_a_barrel_sees_more_than_a_pinhole_most_in_the_corner():
    assert view_overscan(BARREL) == pytest.approx(1.0468, abs=EXACT)
    # the same lens told the other way round: r (1 + k r²) = 21.633 · 1 in the corner at r = 21.633 · 1.0468, k = -0.0468 / (468 · 1.0468³)
    other_way = lens((-0.0468 / (468 * 1.0468**3),), model=UD)
    assert view_overscan(other_way) == pytest.approx(1.0468, abs=1e-4)


def test_a_pincushion_sees_less_least_in_the_corner():
    # right edge 1 - 0.0324, corner 1 - 0.0468, top 1 - 0.0144
    assert view_overscan(lens((-1e-4,))) == pytest.approx(0.9856, abs=EXACT)


def test_a_shifted_sensor_alone_is_no_overscan():
    # the footprint is shifted too; about the axis, where eq. 15 has it, 19 mm of 18 are needed
    shifted = lens(projection_offset_mm=(-1.0, 0.0))
    assert view_overscan(shifted) == 1
    assert view_overscan(shifted, about_mm=(-1.0, 0.0)) == pytest.approx(19 / 18)


def test_the_standards_equations_differ_by_the_centre():
    # R in the corner (-18, 12) seen from the centre of distortion (1, 0) + (0.5, 0): 19.5² + 12² = 524.25; x: -19.5 · 1.052425
    shifted = lens((1e-4,), offset_mm=(0.5, 0.0), projection_offset_mm=(1.0, 0.0))
    x = -19.5 * 1.052425
    assert view_overscan(shifted) == pytest.approx(-(x + 1.5) / 18)  # eq. 4
    assert view_overscan(shifted, about_mm=(1.0, 0.0)) == pytest.approx(-(x + 0.5) / 18)  # eq. 15
    assert view_overscan(shifted, about_mm=(1.5, 0.0)) == pytest.approx(-x / 18)  # eq. 8


@given(lenses())
def test_no_point_of_the_sensor_is_seen_outside_the_overscan(any_lens):
    overscan = view_overscan(any_lens)
    seen = undistorted(any_lens, sensor(any_lens, 101, 67)) / (np.array(any_lens.sensor_mm) / 2)
    # the border is sampled, 32 points a side: between two of them it can bow out by a thousandth at most
    assert np.isnan(seen).any() or np.abs(seen).max() <= overscan * 1.001


def test_what_is_drawn_for_a_still_camera_is_what_its_lens_sees():
    assert needed_overscan(BARREL, 0.0) == pytest.approx(1.0468)
    # atan(0.5143 · 1.0468) = 28.2964°, + 10°: tan 38.2964° = 0.78961 of 0.51429; the lower half needs more: atan(0.34286 · 1.0468)
    # = 19.7440°, tan 29.7440° = 0.57137 of 0.34286
    assert needed_overscan(BARREL, math.radians(10)) == pytest.approx(0.57137 / 0.342857, abs=1e-4)
    assert needed_overscan(lens((-0.01,)), 0.1) == math.inf


def test_a_frame_that_was_drawn_for_a_pinhole_does_not_cover_a_barrel():
    def camera(of, pan_deg=0.0):
        return Camera(Pose(pan_tilt_roll(math.radians(pan_deg), 0.0, 0.0)), of, "predicted", 0)

    assert reached(camera(BARREL), camera(BARREL)) == pytest.approx(1.0468)
    assert reached(camera(lens()), camera(BARREL)) == pytest.approx(1.0468)
    assert reached(camera(BARREL), camera(lens())) == pytest.approx(1)
    # turned by 10° to the left: the far corner's ray (-0.5143, 1, ±0.3429) · 1.0468; in the turned picture
    # x = tan(28.2964° + 10°) = 0.78961
    assert reached(camera(lens()), camera(BARREL, 10.0)) == pytest.approx(0.78961 / 0.514286, abs=1e-4)
    assert reached(camera(lens()), camera(lens((-0.01,)))) == math.inf  # nobody knows: not covered

    timeline = Timeline(Rig("A", lens()))
    for at_ns in range(0, 100_000_000, 10_000_000):
        timeline.add(CameraSample("A", at_ns, at_ns, Pose(), LensReading(distortion=BARREL.distortion)))
    for overscan, covered in ((1.0, (0, 1)), (1.05, (1, 0))):
        coverage = Coverage(Footprint(overscan=1.0))
        coverage.add(FrameRequest(0, 55_000_000, 0, camera(BARREL), "door", overscan=overscan))
        coverage.settle(timeline, 200_000_000)
        assert (coverage.covered, coverage.uncovered) == covered


def test_the_seen_border_is_shared_and_cannot_be_spoilt():
    border = seen_border(BARREL)
    assert seen_border(msgspec.structs.replace(BARREL, focal_length_mm=70.0)) is border
    with pytest.raises(ValueError, match="read-only"):
        border[0] = 0


# ---- readings of trackers

NEAR = LensReading(
    50.0, 2.0, projection_offset_mm=(0.1, 0.2), sensor_mm=(36.0, 24.0), distortion=Distortion((1e-4,), (1e-6,), (0.1, 0.0))
)
FAR = LensReading(
    51.0, 3.0, projection_offset_mm=(0.3, 0.0), sensor_mm=(36.0, 24.0), distortion=Distortion((2e-4, 4e-4), (), (0.3, 0.2))
)


def test_between_two_samples_distortion_and_offsets_are_interpolated():
    timeline = Timeline(Rig("A", Lens(35.0, (36.0, 24.0))))
    for at_ns, reading in ((0, NEAR), (10_000_000, FAR)):
        timeline.add(CameraSample("A", at_ns, at_ns, Pose(), reading))
    got = timeline.camera_at(2_500_000).lens
    assert got.projection_offset_mm == pytest.approx((0.15, 0.15))
    assert got.distortion.radial == pytest.approx((1.25e-4, 1e-4))
    assert got.distortion.tangential == pytest.approx((0.75e-6,))
    assert got.distortion.offset_mm == pytest.approx((0.15, 0.05))
    assert timeline.camera_at(0).lens.distortion.radial == (1e-4, 0.0)


def test_polynomials_of_two_directions_are_not_mixed():
    a, b = Distortion((1e-4,)), Distortion((2e-4,), model=UD)
    assert distortion_between(a, b, 0.9) is a


def test_samples_that_report_different_things_are_interpolated_all_the_same():
    timeline = Timeline(Rig("A", Lens(35.0, (36.0, 24.0))))
    readings = [NEAR, LensReading(), FAR, LensReading(50.5), NEAR]
    for i, reading in enumerate(readings):
        timeline.add(CameraSample("A", i * 10_000_000, i * 10_000_000, Pose(), reading))
    assert timeline.rejects == {"implausible-jump": 1}  # from 50 to the show's 35 mm at once
    for at_ns in range(0, 60_000_000, 1_000_000):
        assert timeline.camera_at(at_ns).lens.sensor_mm == (36.0, 24.0)


WORTHLESS = {
    "an offset that no sensor has": LensReading(projection_offset_mm=(0.0, 101.0)),
    "an unknown offset": LensReading(projection_offset_mm=(math.nan, 0.0)),
    "a centre that no sensor has": LensReading(distortion=Distortion((1e-4,), (), (-101.0, 0.0))),
    "an endless coefficient": LensReading(distortion=Distortion((math.inf,))),
    "seventeen coefficients": LensReading(distortion=Distortion((0.0,) * 17)),
}


@pytest.mark.parametrize("reading", WORTHLESS.values(), ids=WORTHLESS.keys())
def test_a_lens_that_cannot_be_is_refused_with_its_pose(reading):
    decoder = open_decoder("native")
    sample = CameraSample("A", 10**18, 10**18, Pose(), reading)
    assert decoder.decode(Datagram("test", msgspec.msgpack.encode(sample), 10**18)) == []
    assert decoder.rejects == {"bad-lens": 1}


def test_a_tracker_that_streams_nonsense_gets_a_wide_footprint_and_a_picture():
    sample = msgspec.structs.replace(camera_sample(SMPTE_EXAMPLE), camera_id="A")
    timeline = Timeline(Rig("A", Lens(35.0, (36.0, 24.0))))
    timeline.add(sample)
    camera = timeline.camera_at(sample.captured_at_ns)
    assert camera.lens.distortion == sample.lens.distortion and camera.lens.projection_offset_mm == (0.1, 0.2)
    assert needed_overscan(camera.lens, 0.1) == math.inf
