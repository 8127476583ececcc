"""Real photographs: a Gray code that a projector threw on a chessboard, and AprilTags whose corners their library tells.

The Gray code: kamino410/procam-calibration (MIT), 42 frames, a projector of 1024 × 768 px. A plane maps to a plane: camera
points of the board are a homography of the projector's pixels, but for the distortion of both lenses, which is left in.
The tags: a photograph by NASA with the corners that AprilRobotics' library finds.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from calibration.board import tags_in
from calibration.detect import matches_of
from calibration.picture_sources import read_picture
from ledvolume.pose import Pose
from ledvolume.stage import Surface
from measure import ROOT, Row

DATA = ROOT.parent / "shared" / "data" / "calibration"
PROJECTOR = Surface("projector", Pose(), (1.024, 0.768), (1024, 768))
CORNERS = (9, 7)  # of the chessboard


def gray_code_capture() -> Iterable[Row]:
    """a real Gray-code capture, decoded, against the plane of its board"""
    folder = DATA / "graycode-procam"
    pictures = {name: read_picture(folder / f"graycode_{number:02}.jpg").pixels for number, name in enumerate(pattern_names())}
    [matches], _ = matches_of(pictures, [PROJECTOR])
    is_found, corners = cv2.findChessboardCornersSB(pictures["white"], CORNERS)
    hull = cv2.convexHull(corners + np.float32(0.5))
    on_board = np.array([cv2.pointPolygonTest(hull, tuple(map(float, p)), False) > 0 for p in matches.picture_px])
    led_px, picture_px = matches.led_px[on_board], matches.picture_px[on_board]
    board, _ = cv2.findHomography(led_px, picture_px, cv2.RANSAC, 2.0)
    off_px = np.linalg.norm(cv2.perspectiveTransform(led_px[None], board)[0] - picture_px, axis=1)
    yield Row("Gray-code capture: the board's corners are seen", bool(is_found), "", ("=", True))
    yield Row("Gray-code capture: matches", len(matches.led_px), "", ("≥", 1000))
    yield Row("Gray-code capture: of them on the board", int(on_board.sum()), "", ("≥", 200))
    yield Row("Gray-code capture: off the board's plane, median", float(np.median(off_px)), "px", ("≤", 0.4))
    yield Row("Gray-code capture: off the board's plane, 95th percentile", float(np.percentile(off_px, 95)), "px")


def apriltag_photograph() -> Iterable[Row]:
    """a real photograph of 12 AprilTags, against the corners that their own library finds"""
    [picture] = (DATA / "apriltag").glob("*.jpg")
    expected = expected_corners(picture.with_suffix(".txt"))
    found, _ = tags_in(cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE), "DICT_APRILTAG_36h11")
    off_px = np.array([off_corners(found + 0.5, tag) for tag in expected])
    seen = np.isfinite(off_px)
    yield Row("AprilTags: found of 12", int(seen.sum()), "", ("=", 12))
    yield Row("AprilTags: corners as the library's within 0.01 px", int(np.count_nonzero(off_px < 0.01)), "tags", ("≥", 9))
    yield Row("AprilTags: corners, median of the tags' worst", float(np.median(off_px[seen])), "px", ("≤", 0.1))
    yield Row("AprilTags: corners, worst of all", float(off_px[seen].max()), "px", ("≤", 0.2))


MEASUREMENTS = (gray_code_capture, apriltag_photograph)


def pattern_names() -> list[str]:
    """What the capture's pictures show, in their order: columns, rows, each with its negative, white, black."""
    names = [name for axis in "xy" for k in range(10) for name in (f"gray/{axis}/{k}", f"gray/{axis}/{k}/inverse")]
    return [*names, "white", "black"]


def expected_corners(file: Path) -> np.ndarray:
    """(tags, 4, 2), from the picture's corner on as AprilTag counts, from lines `number, (x y), (x y), …`."""
    lines = [re.findall(r"\(([\d.]+) ([\d.]+)\)", line) for line in file.read_text().splitlines()]
    return np.array([line for line in lines if len(line) == 4], float)


def off_corners(found: np.ndarray, tag: np.ndarray) -> float:
    """The worst corner of the nearest tag, whichever corner is counted first and whichever way round; NaN if none is near."""
    near = found[np.linalg.norm(found.mean(1) - tag.mean(0), axis=1) < 15]
    turns = [np.roll(other[::way], first, 0) for other in near for first in range(4) for way in (1, -1)]
    return min((float(np.linalg.norm(turn - tag, axis=1).max()) for turn in turns), default=np.nan)
