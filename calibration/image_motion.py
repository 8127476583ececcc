"""How a camera's picture moves from frame to frame: what is compared with what its tracker says (tracker_offset.py).

Corners are followed from one picture to the next (Lucas and Kanade), there and back; what most of them do together is the
picture's shift, turn and growth (RANSAC). People who walk through the picture are outvoted.
"""

import cv2
import msgspec
import numpy as np

LARGEST_PX = 640  # pictures are made smaller: what is followed are some hundred corners
CORNERS, FEWEST = 300, 12
THERE_AND_BACK_PX, TOGETHER_PX = 0.5, 1.0


class ImageMotion(msgspec.Struct, frozen=True):
    """at_s: (n,) instants. steps: (n - 1, 4) from each picture to the next: right, down (of the picture's width), turn (radians),
    growth (log); NaN where they could not be told. lines: (n - 1,) the mean height of what was followed, -½ to ½."""

    at_s: np.ndarray
    steps: np.ndarray
    lines: np.ndarray


class MotionReader:
    """Pictures in, one after the other; `motion` at the end."""

    def __init__(self):
        self._last: np.ndarray | None = None
        self._at_s: list[float] = []
        self._steps: list[np.ndarray] = []
        self._lines: list[float] = []

    def add(self, at_s: float, grey: np.ndarray) -> None:
        """grey: (H, W) float32, 0 to 1."""
        small = min(1.0, LARGEST_PX / max(grey.shape))
        picture = cv2.resize(grey, None, fx=small, fy=small, interpolation=cv2.INTER_AREA) if small < 1 else grey
        picture = np.rint(picture * 255).astype(np.uint8)
        if self._last is not None:
            step, line = _step(self._last, picture)
            self._steps.append(step)
            self._lines.append(line)
        self._at_s.append(at_s)
        self._last = picture

    @property
    def motion(self) -> ImageMotion:
        return ImageMotion(np.array(self._at_s), np.array(self._steps).reshape(-1, 4), np.array(self._lines))


def _step(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float]:
    unknown = np.full(4, np.nan), 0.0
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 7)
    if corners is None or len(corners) < FEWEST:
        return unknown
    there, is_there, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
    back, is_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None)
    near = np.linalg.norm(back - corners, axis=-1).ravel() < THERE_AND_BACK_PX
    good = near & is_there.ravel().astype(bool) & is_back.ravel().astype(bool)
    if good.sum() < FEWEST:
        return unknown
    cv2.setRNGSeed(0)
    moved, together = cv2.estimateAffinePartial2D(corners[good], there[good], ransacReprojThreshold=TOGETHER_PX)
    if moved is None or together.sum() < max(FEWEST, 0.4 * good.sum()):
        return unknown
    height, width = before.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    right, down = (moved @ [*middle, 1] - middle) / width
    line = float(corners[good][together.ravel() == 1][:, 0, 1].mean() / height - 0.5)
    return np.array([right, down, np.arctan2(moved[1, 0], moved[0, 0]), 0.5 * np.log(np.linalg.det(moved[:, :2]))]), line
