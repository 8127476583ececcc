"""Where the entrance pupil goes along the axis as zoom and focus turn: from pictures of a board that stands still, with the
tracker's sample of each.

Every picture closes one circle, and the board and the camera's place on the tracker are what is common to them:

    world_from_tracker(picture) · tracker_from_camera(station) = world_from_board · board_from_camera(picture)

The camera's axes are common to all stations (zooming turns nothing); its origin, the pupil, is each station's own. Solved by
least squares with the tracker's noise as the unit; a sigma is from the normal equations and what is left over, and from the
focal length's: a camera that is thought to be 0.1 % longer is thought to be 0.1 % farther away.
"""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import least_squares

from calibration.lens import Fit
from ledvolume.errors import CalibrationError
from ledvolume.pose import Pose, from_rotation_vector, quaternion, rotation_matrix

CAMERA_FROM_CV = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x right, y down, z forward → X right, Y forward, Z up
NOISE_M, NOISE_RAD = 5e-4, 5e-4  # of a tracker: how a millimetre is weighed against a degree
FEWEST = 3
TURN_DEG = 15.0


class Pupils(NamedTuple):
    """tracker_from_camera: at the first station's pupil. along_mm: each station's pupil from there, along +Y; sigma_mm of it, and
    of the first one's own place. off_axis_mm: how far the pupils are off one axis. rms_mm: what is left over of the circles."""

    tracker_from_camera: Pose
    along_mm: list[float]
    sigma_mm: list[float]
    off_axis_mm: float
    rms_mm: float


def pupils_of(fits: list[Fit], world_from_tracker: list[list[Pose]]) -> Pupils:
    """One fit per station, and the tracker's pose for each of its looks. Raises CalibrationError where they do not say it."""
    samples = [
        (station, tracker.matrix(), _camera_from_board(pose))
        for station, (fit, trackers) in enumerate(zip(fits, world_from_tracker, strict=True))
        for pose, tracker in zip(fit.poses, trackers, strict=True)
    ]
    if min(len(fit.poses) for fit in fits) < FEWEST:
        raise CalibrationError(f"entrance pupil: {FEWEST} pictures with the tracker's pose are the fewest at every station")
    _check_turns(np.array([tracker[:3, :3] for _, tracker, _ in samples]))
    rotation, place = cv2.calibrateHandEye(
        [t[:3, :3] for _, t, _ in samples],
        [t[:3, 3] for _, t, _ in samples],
        [b[:3, :3] for _, _, b in samples],
        [b[:3, 3] for _, _, b in samples],
        method=cv2.CALIB_HAND_EYE_PARK,
    )
    hand_eye = np.eye(4)
    hand_eye[:3, :3], hand_eye[:3, 3] = rotation, place.ravel()
    board = samples[0][1] @ hand_eye @ samples[0][2]
    start = np.concatenate([_vector(rotation), _vector(board[:3, :3]), board[:3, 3], np.tile(place.ravel(), len(fits))])
    station = np.array([s for s, _, _ in samples])
    trackers, boards = np.array([t for _, t, _ in samples]), np.array([b for _, _, b in samples])

    def left_over(x: np.ndarray) -> np.ndarray:
        turn, board_turn = cv2.Rodrigues(x[:3])[0], cv2.Rodrigues(x[3:6])[0]
        eyes = x[9:].reshape(-1, 3)[station]
        board_turns = trackers[:, :3, :3] @ turn @ boards[:, :3, :3]
        # the camera, by the tracker and by the board
        by_tracker = np.einsum("nij,nj->ni", trackers[:, :3, :3], eyes) + trackers[:, :3, 3]
        by_board = x[6:9] - np.einsum("ij,nkj,nk->ni", board_turn, boards[:, :3, :3], boards[:, :3, 3])
        off = np.einsum("nji,jk->nik", board_turns, board_turn)
        angles = np.stack([off[:, 2, 1] - off[:, 1, 2], off[:, 0, 2] - off[:, 2, 0], off[:, 1, 0] - off[:, 0, 1]], -1) / 2
        return np.concatenate([((by_tracker - by_board) / NOISE_M).ravel(), (angles / NOISE_RAD).ravel()])

    solved = least_squares(left_over, start, x_scale="jac", method="trf")
    count = len(solved.fun) - len(solved.x)
    covariance = np.linalg.pinv(solved.jac.T @ solved.jac) * (solved.fun @ solved.fun) / max(count, 1)
    turn, eyes = cv2.Rodrigues(solved.x[:3])[0], solved.x[9:].reshape(-1, 3)
    forward = turn[:, 1]
    from_first = eyes - eyes[0]
    along = from_first @ forward
    by_focal_m = [fit.sigmas[0] / fit.numbers[0] * np.mean([pose[5] for pose in fit.poses]) / 1000 for fit in fits]
    sigmas = []
    for i, (own_m, first_m) in enumerate(zip(by_focal_m, [0.0] + [by_focal_m[0]] * (len(fits) - 1))):
        by = np.zeros(len(solved.x))
        by[9 + 3 * i : 12 + 3 * i] = forward
        by[9:12] -= forward if i else 0
        sigmas.append(1000 * float(np.sqrt(by @ covariance @ by + own_m**2 + first_m**2)))
    off_axis = np.linalg.norm(from_first - along[:, None] * forward, axis=1).max()
    rms_m = NOISE_M * float(np.sqrt((solved.fun[: 3 * len(samples)] ** 2).sum() / len(samples)))
    hand_eye = Pose(quaternion(turn), tuple(eyes[0].tolist()))
    return Pupils(hand_eye, [1000 * float(m) for m in along], sigmas, 1000 * float(off_axis), 1000 * rms_m)


def along_from(pupils: Pupils, tracker_from_camera: Pose) -> list[float]:
    """entrance_pupil_mm of the stations of a show whose camera's origin is tracker_from_camera."""
    off = tracker_from_camera.inverse().apply(pupils.tracker_from_camera.position_m)
    return [1000 * off[1] + mm for mm in pupils.along_mm]


def _camera_from_board(pose: np.ndarray) -> np.ndarray:
    """(4, 4) in metres and our axes, of OpenCV's vectors in millimetres."""
    m = np.eye(4)
    m[:3, :3] = CAMERA_FROM_CV @ rotation_matrix(from_rotation_vector(tuple(pose[:3])))
    m[:3, 3] = CAMERA_FROM_CV @ pose[3:] / 1000
    return m


def _vector(rotation: np.ndarray) -> np.ndarray:
    return cv2.Rodrigues(rotation)[0].ravel()


def _check_turns(turns: np.ndarray) -> None:
    """A hand-eye needs turns about two axes."""
    vectors = np.array([_vector(turns[0].T @ turn) for turn in turns[1:]])
    second = np.degrees(np.sqrt(max(np.linalg.eigvalsh(vectors.T @ vectors / len(vectors))[1], 0)))
    if second < TURN_DEG / 3:
        raise CalibrationError(
            f"entrance pupil: the camera turned about one axis only ({second:.1f}° about a second one): pan, tilt and roll it "
            f"by {TURN_DEG:.0f}° and more between the pictures, the board standing still"
        )
