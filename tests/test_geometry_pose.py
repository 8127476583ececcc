"""Poses are a group, quaternions and matrices agree, and pan, tilt, roll turn the way OpenTrackIO says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledvolume.camera import Lens, LensReading, Rig, entrance_pupil, view_tangents
from ledvolume.pose import (
    Pose,
    Similarity,
    canonical,
    from_rotation_vector,
    interpolate,
    multiply,
    pan_tilt_roll,
    quaternion,
    rotate,
    rotation_matrix,
    rotation_vector,
)

settings.register_profile("house", deadline=None, derandomize=True)  # the same cases on every machine, however busy
settings.load_profile("house")

EXACT = 1e-9  # float64 through a few products, at metres
DEG = math.pi / 180
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

numbers = st.floats(-10, 10)
points = st.tuples(numbers, numbers, numbers)
quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1).map(canonical)
poses = st.builds(Pose, quaternions, points)


def same_rotation(a, b) -> bool:
    return abs(sum(p * q for p, q in zip(a, b))) == pytest.approx(1, abs=EXACT)


def same(a: Pose, b: Pose) -> bool:
    return same_rotation(a.wxyz, b.wxyz) and a.position_m == pytest.approx(b.position_m, abs=1e-8)


@given(poses, poses, poses)
def test_composition_is_associative(a, b, c):
    assert same((a @ b) @ c, a @ (b @ c))


@given(poses)
def test_identity_changes_nothing(a):
    assert same(a @ Pose(), a) and same(Pose() @ a, a)


@given(poses)
def test_the_inverse_undoes(a):
    assert same(a @ a.inverse(), Pose()) and same(a.inverse() @ a, Pose())


@given(poses, poses, points)
def test_composition_applies_the_right_one_first(a, b, p):
    assert (a @ b).apply(p) == pytest.approx(a.apply(b.apply(p)), abs=1e-8)


@given(poses, poses)
def test_matrices_compose_as_poses_do(a, b):
    np.testing.assert_allclose((a @ b).matrix(), a.matrix() @ b.matrix(), atol=1e-8)


@given(quaternions, points)
def test_a_quaternion_turns_as_its_matrix(q, p):
    np.testing.assert_allclose(rotate(q, p), rotation_matrix(q) @ p, atol=EXACT * 100)


@given(quaternions)
def test_rotations_keep_lengths_and_handedness(q):
    m = rotation_matrix(q)
    np.testing.assert_allclose(m @ m.T, np.eye(3), atol=EXACT)
    assert np.linalg.det(m) == pytest.approx(1)


@given(quaternions)
def test_quaternion_of_matrix_and_back(q):
    assert same_rotation(quaternion(rotation_matrix(q)), q)


@given(quaternions)
def test_rotation_vector_and_back(q):
    assert same_rotation(from_rotation_vector(rotation_vector(q)), q)


@given(poses, poses)
def test_interpolation_ends_at_its_ends(a, b):
    assert same(interpolate(a, b, 0.0), a) and same(interpolate(a, b, 1.0), b)


@given(poses, poses, st.floats(0, 1))
def test_interpolation_has_a_constant_rate(a, b, fraction):
    """The turn from a to the interpolated pose is that fraction of the whole turn."""

    def angle(p, q):
        return math.hypot(*rotation_vector(multiply(q.wxyz, Pose(p.wxyz).inverse().wxyz)))

    assert angle(a, interpolate(a, b, fraction)) == pytest.approx(fraction * angle(a, b), abs=1e-6)


@pytest.mark.parametrize("q", [(0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), (math.inf, 0.0, 0.0, 0.0)])
def test_what_has_no_direction_is_no_rotation(q):
    with pytest.raises(ValueError, match="no direction"):
        canonical(q)


def test_canonical_has_one_of_the_two_signs():
    assert canonical((-2.0, 0.0, 0.0, 0.0)) == (1.0, 0.0, 0.0, 0.0)


# Camera axes: X right, Y forward, Z up. Where an axis of the camera points on the stage, by hand (OpenTrackIO 1.0.1).
TURNS = {
    "pan 90 looks left": ((90, 0, 0), Y, (-1, 0, 0)),
    "pan 90 right hand points forward": ((90, 0, 0), X, (0, 1, 0)),
    "tilt 90 looks up": ((0, 90, 0), Y, (0, 0, 1)),
    "tilt 90 top points back": ((0, 90, 0), Z, (0, -1, 0)),
    "roll 90 top points right, clockwise from behind": ((0, 0, 90), Z, (1, 0, 0)),
    "roll 90 right hand points down": ((0, 0, 90), X, (0, 0, -1)),
    "pan 90 then tilt 45 looks left and up": ((90, 45, 0), Y, (-math.sqrt(0.5), 0, math.sqrt(0.5))),
    "all three: roll takes X to -Z, tilt -Z to Y, pan Y to -X": ((90, 90, 90), X, (-1, 0, 0)),
}


@pytest.mark.parametrize(("angles", "axis", "on_stage"), TURNS.values(), ids=TURNS.keys())
def test_pan_tilt_roll(angles, axis, on_stage):
    q = pan_tilt_roll(*(a * DEG for a in angles))
    assert rotate(q, axis) == pytest.approx(on_stage, abs=EXACT)


@given(poses, st.floats(0.01, 100), points)
def test_a_similarity_scales_then_moves(pose, scale, p):
    moved = Similarity(pose, scale).matrix() @ (*p, 1.0)
    turned = rotate(pose.wxyz, p)
    np.testing.assert_allclose(moved[:3], [scale * c + t for c, t in zip(turned, pose.position_m)], rtol=1e-9, atol=1e-6)


def test_the_entrance_pupil_lies_forward_along_the_turned_lens():
    # The tracker sits 1 m above a stage origin that is 2 m forward in the world, looks left (pan 90°), and is mounted
    # 0.2 m above the camera. The lens' pupil is 0.1 m in front of the sensor: forward is -X on the stage.
    # stage = world - (0, 2, 0); tracker at world (0, 2, 1) → stage (0, 0, 1); camera 0.2 m lower; pupil at x = -0.1.
    rig = Rig(
        "A",
        Lens(35.0, (36.0, 24.0), entrance_pupil_m=0.1),
        stage_from_world=Pose(position_m=(0.0, -2.0, 0.0)),
        tracker_from_camera=Pose(position_m=(0.0, 0.0, -0.2)),
    )
    pose, lens = entrance_pupil(rig, Pose(pan_tilt_roll(90 * DEG, 0, 0), (0.0, 2.0, 1.0)), LensReading())
    assert pose.position_m == pytest.approx((-0.1, 0.0, 0.8), abs=EXACT)
    assert rotate(pose.wxyz, Y) == pytest.approx((-1, 0, 0), abs=EXACT)
    assert lens.focal_length_mm == 35.0

    reading = LensReading(focal_length_mm=50.0, focus_distance_m=2.0, entrance_pupil_m=0.3)
    pose, lens = entrance_pupil(rig, Pose(pan_tilt_roll(90 * DEG, 0, 0), (0.0, 2.0, 1.0)), reading)
    assert pose.position_m == pytest.approx((-0.3, 0.0, 0.8), abs=EXACT)
    assert (lens.focal_length_mm, lens.focus_distance_m, lens.entrance_pupil_m) == (50.0, 2.0, 0.3)


def test_a_shifted_sensor_sees_more_of_one_side():
    # 36 × 24 mm at 36 mm: ±0.5, ±1/3. The axis meets the sensor 3.6 mm right and 1.8 mm down of its centre: on the
    # picture (already turned upright) the left edge is then 21.6 mm from the axis, the right 14.4; top 13.8, bottom 10.2.
    assert view_tangents(Lens(36.0, (36.0, 24.0))) == pytest.approx((-0.5, 0.5, -1 / 3, 1 / 3))
    shifted = view_tangents(Lens(36.0, (36.0, 24.0), projection_offset_mm=(3.6, 1.8)))
    assert shifted == pytest.approx((-21.6 / 36, 14.4 / 36, -10.2 / 36, 13.8 / 36))
