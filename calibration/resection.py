"""Where a picture was taken from, by LEDs whose places are known: the camera's pose, its covariance, and what does not fit.

OpenCV finds a pose that most points agree on (SQPnP in RANSAC); from there weighted least squares go on, with Huber's weights.
The lens is known: points are tangents of their directions, undistorted, in cv axes (x right, y down, z forward).
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from ledvolume.errors import CalibrationError
from ledvolume.lens import Lens, undistorted
from ledvolume.pose import Pose, quaternion

FEWEST = 6
HUBER = 2.0  # sigmas
NEAR_PX = 1.0  # at least so much a point may be off and still be one of those that agree
NEAR_SIGMAS = 5.0
FAR = 6.0  # times the median, where the camera is known about
STEPS = 30
NOWHERE = "no place of the camera agrees with what it sees: is this the wall that was calibrated, and its lens?"
CAMERA_FROM_CV = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


class Resection(NamedTuple):
    """stage_from_camera at the entrance pupil. covariance (6, 6): of the eye on the stage's axes, m, and of a small turn about
    the cv axes, rad. off_px (n, 2): found minus expected, right and down. is_near (n,): those that agree."""

    stage_from_camera: Pose
    covariance: np.ndarray
    off_px: np.ndarray
    is_near: np.ndarray


def tangents_of(lens: Lens, resolution_px: tuple[int, int], picture_px: np.ndarray) -> np.ndarray:
    """(n, 2): x / z and y / z in cv axes of where picture points look to; NaN where no lens can look so."""
    mm = (np.asarray(picture_px, float) / resolution_px - 0.5) * lens.sensor_mm
    return (undistorted(lens, mm) - lens.projection_offset_mm) / lens.focal_length_mm


def resected(
    lens: Lens,
    resolution_px: tuple[int, int],
    points_m: np.ndarray,
    picture_px: np.ndarray,
    sigma_px: np.ndarray,
    start: Pose | None = None,
) -> Resection:
    """The camera that sees stage points (n, 3) at picture points (n, 2). start: about where it is; else it is looked for.
    Points that are far from where most are have no say. Raises CalibrationError."""
    tangents = tangents_of(lens, resolution_px, picture_px)
    focal_px = lens.focal_length_mm / lens.sensor_mm[0] * resolution_px[0]
    is_known = np.isfinite(tangents).all(-1)
    if is_known.sum() < FEWEST:
        raise CalibrationError(
            f"{int(is_known.sum())} LEDs were found, a camera's place takes {FEWEST} at least: show it more of the wall"
        )
    sigma = np.asarray(sigma_px, float) / focal_px
    if start is None:
        rotation, eye = _agreed(points_m[is_known], tangents[is_known], _reach(sigma[is_known], focal_px))
    else:
        rotation, eye = start.matrix()[:3, :3] @ CAMERA_FROM_CV, np.array(start.position_m)
    for _ in range(STEPS):
        off, jacobian = _linearised(points_m, tangents, rotation, eye)
        length = np.linalg.norm(off, axis=-1)
        is_near = is_known & (length < _reach(sigma, focal_px) + (FAR * np.median(length[is_known]) if start is not None else 0))
        if is_near.sum() < FEWEST:
            raise CalibrationError(NOWHERE)
        w = _weights(off[is_near], sigma[is_near])
        j = (jacobian[is_near] * w[:, None, None]).reshape(-1, 6)
        step, *_ = np.linalg.lstsq(j, (off[is_near] * w[:, None]).reshape(-1), rcond=None)
        eye = eye + step[:3]
        rotation = rotation @ _turn(step[3:])
        if np.abs(step).max() < 1e-9:
            break
    off, jacobian = _linearised(points_m, tangents, rotation, eye)
    w = _weights(off[is_near], sigma[is_near])
    j, r = (jacobian[is_near] * w[:, None, None]).reshape(-1, 6), (off[is_near] * w[:, None]).reshape(-1)
    scale = max(1.0, float(r @ r) / max(len(r) - 6, 1))
    pose = Pose(quaternion(rotation @ CAMERA_FROM_CV.T), tuple(float(c) for c in eye))
    return Resection(pose, np.linalg.pinv(j.T @ j) * scale, off * focal_px, is_near)


def point_jacobian(rotation: np.ndarray, eye: np.ndarray, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) in cv axes, and their derivative (n, 3, 6) by the eye and by a turn of the camera about the cv axes."""
    seen = (points_m - eye) @ rotation
    x, y, z = seen.T
    zero = np.zeros_like(x)
    by_turn = np.stack([np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))], -2)
    return seen, np.concatenate([np.broadcast_to(-rotation.T, (len(seen), 3, 3)), by_turn], -1)


def _linearised(points_m, tangents, rotation, eye) -> tuple[np.ndarray, np.ndarray]:
    """Found minus expected tangents (n, 2), and the derivative of the expected ones (n, 2, 6)."""
    seen, by_pose = point_jacobian(rotation, eye, points_m)
    z = np.where(seen[:, 2] > 1e-3, seen[:, 2], np.nan)
    u, v = seen[:, 0] / z, seen[:, 1] / z
    zero = np.zeros_like(u)
    projection = np.stack([np.stack([1 / z, zero, -u / z], -1), np.stack([zero, 1 / z, -v / z], -1)], -2)
    return np.nan_to_num(tangents - np.stack([u, v], -1), nan=1.0), np.nan_to_num(projection @ by_pose)


def _agreed(points_m: np.ndarray, tangents: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, turn, shift, _ = cv2.solvePnPRansac(
        np.ascontiguousarray(points_m, np.float64), np.ascontiguousarray(tangents, np.float64), np.eye(3), None,
        iterationsCount=500, reprojectionError=float(np.median(reach)), confidence=0.9999, flags=cv2.SOLVEPNP_SQPNP,
    )  # fmt: skip
    if not found:
        raise CalibrationError(NOWHERE)
    cv_from_stage, _ = cv2.Rodrigues(turn)
    return cv_from_stage.T, -cv_from_stage.T @ shift.ravel()


def _reach(sigma: np.ndarray, focal_px: float) -> np.ndarray:
    return np.maximum(NEAR_SIGMAS * sigma, NEAR_PX / focal_px)


def _weights(off: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(off, axis=-1) / sigma
    return np.sqrt(np.minimum(1.0, HUBER / np.maximum(length, 1e-12))) / sigma


def _turn(v: np.ndarray) -> np.ndarray:
    rotation, _ = cv2.Rodrigues(np.asarray(v, float))
    return rotation if math.isfinite(rotation.sum()) else np.eye(3)
