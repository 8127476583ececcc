"""AprilTags in a photograph: printed marks whose places were measured. Tag 36h11, through OpenCV's ArUco module.

OpenCV reads tags that AprilTag's own quads are too small or too slanted for, AprilTag's quads have the better corners: what one
reads is given the corners of the other. AprilTag's corners are picture coordinates as ours are, (0, 0) the top left corner of
the picture; OpenCV's own count from the middle of the first pixel.
"""

from typing import NamedTuple

import cv2
import numpy as np

SAME_CORNER_PX = 4.0  # both kinds of corners of one tag are nearer than this
CONTOUR_SIGMA_PX, QUAD_SIGMA_PX = 0.7, 0.15


class Tag(NamedTuple):
    """corners_px: (4, 2), of the black square: top left, top right, bottom right, bottom left as the tag was printed."""

    id: int
    corners_px: np.ndarray
    sigma_px: float


def found(picture: np.ndarray) -> list[Tag]:
    """Tags of a picture, (H, W) uint8, from left to right."""
    tags, _ = _read(picture, cv2.aruco.CORNER_REFINE_CONTOUR)
    finer, quads = _read(picture, cv2.aruco.CORNER_REFINE_APRILTAG)
    quads = [corners for _, corners in finer] + quads
    known = [(number, corners + 0.5) for number, corners in tags]
    for number, corners in finer:
        if not any(_apart(corners, other) < SAME_CORNER_PX for _, other in known):
            known.append((number, corners))
    said = []
    for number, corners in known:
        turned = [np.roll(quad[::way], turn, 0) for quad in quads for turn in range(4) for way in (1, -1)]
        best = min(turned, key=lambda quad: _apart(quad, corners), default=corners)
        is_finer = _apart(best, corners) < SAME_CORNER_PX and bool(turned)
        said.append(Tag(number, best if is_finer else corners, QUAD_SIGMA_PX if is_finer else CONTOUR_SIGMA_PX))
    return sorted(said, key=lambda tag: tuple(tag.corners_px.mean(0)))


def _read(picture: np.ndarray, refinement: int) -> tuple[list[tuple[int, np.ndarray]], list[np.ndarray]]:
    """Tags, and quads that hold none that OpenCV can read."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = refinement
    parameters.aprilTagQuadDecimate = 0.0
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    corners, ids, others = cv2.aruco.ArucoDetector(dictionary, parameters).detectMarkers(picture)
    numbers = [] if ids is None else ids.ravel().tolist()
    return [(n, c.reshape(4, 2).astype(float)) for n, c in zip(numbers, corners)], [o.reshape(4, 2).astype(float) for o in others]


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b, axis=1).max())
