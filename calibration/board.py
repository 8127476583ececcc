"""Boards whose corners are known, and where they are in a picture, to hundredths of a pixel.

    chessboard:9x6:25mm                       inner corners across × down, side of a square
    charuco:11x8:30mm:22mm[:DICT_5X5_100]     squares across × down, their side, side of a marker; …:legacy for boards of
                                              OpenCV before 4.6, whose first square is the other colour
    apriltags:6x6:88mm:26.4mm[:DICT_…]        tags across × down, their side, the gap between them; DICT_APRILTAG_36h11

Makers count the rows of tag boards from the top or from the bottom, and start a tag at any of its corners: which it is, the
picture tells (the one reading of eight that is a plane).
"""

import math
import re
from typing import Literal, NamedTuple

import cv2
import msgspec
import numpy as np

from ledvolume.errors import ConfigError

WINDOW_OF_SQUARE = 0.35  # a corner's sub-pixel window reaches this far to the next corner
WINDOW_OF_GAP = 0.8  # and this far to the next edge of a marker
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 60, 1e-4)
FEWEST = {"chessboard": 9, "charuco": 8, "apriltags": 12}  # corners; a plane's homography has eight numbers
SAME_CORNER_PX = 4.0  # contours and lines of one tag are nearer than this
PLANE_WITHIN = 0.02  # of the board's size in the picture: lenses bend a plane less than that
DICTIONARIES = tuple(name for name in dir(cv2.aruco) if name.startswith("DICT_"))

Kind = Literal["chessboard", "charuco", "apriltags"]


class Board(msgspec.Struct, frozen=True):
    """A board. across, down: as its kind counts. side_mm: of a square, or of a tag. inner_mm: of a marker in its square, or the
    gap between tags."""

    kind: Kind
    across: int
    down: int
    side_mm: float
    inner_mm: float = 0.0
    dictionary: str = ""
    is_legacy: bool = False


class Corners(NamedTuple):
    """Corners of a board in one picture. board_mm: (n, 3) on the board; picture_px: (n, 2), OpenCV's counting (session.py says
    how pictures are counted elsewhere); edge_px: how wide an edge is from black to white; spacing_px: between neighbours."""

    board_mm: np.ndarray
    picture_px: np.ndarray
    edge_px: float
    spacing_px: float


class NotFound(NamedTuple):
    """Why a picture has no corners. reason: short, for counting."""

    reason: str
    words: str


def board_of(text: str) -> Board:
    """The board that is described. Raises ConfigError."""
    form = "chessboard:9x6:25mm, charuco:11x8:30mm:22mm[:DICT_5X5_100] or apriltags:6x6:88mm:26.4mm[:DICT_APRILTAG_36h11]"
    kind, *parts = text.split(":")
    is_legacy = kind == "charuco" and parts[-1:] == ["legacy"]
    parts = parts[:-1] if is_legacy else parts
    size = re.fullmatch(r"(\d{1,3})x(\d{1,3})", parts[0]) if parts else None
    lengths = [_millimetres(part) for part in parts[1 : 2 if kind == "chessboard" else 3]]
    names = parts[1 + len(lengths) :]
    wanted = 1 if kind == "chessboard" else 2
    if kind not in FEWEST or not size or len(lengths) != wanted or None in lengths or len(names) > wanted - 1:
        raise ConfigError("board", "--board", form, text)
    across, down = int(size[1]), int(size[2])
    if not (3 <= across <= 200 and 3 <= down <= 200) and kind != "apriltags" or across * down < 1:
        raise ConfigError("board", "--board", "3 to 200 corners or squares each way", text)
    if kind == "chessboard":
        return Board(kind, across, down, lengths[0])
    dictionary = names[0] if names else {"charuco": "DICT_5X5_100", "apriltags": "DICT_APRILTAG_36h11"}[kind]
    if dictionary not in DICTIONARIES:
        raise ConfigError("board", "--board", f"a dictionary of OpenCV: {', '.join(DICTIONARIES)}", dictionary)
    if kind == "charuco" and lengths[1] >= lengths[0]:
        raise ConfigError("board", "--board", "markers smaller than their squares", text)
    board = Board(kind, across, down, *lengths, dictionary, is_legacy)
    held, needed = len(_dictionary(board).bytesList), across * down // (2 if kind == "charuco" else 1)
    if needed > held:
        raise ConfigError("board", "--board", f"a dictionary with {needed} markers", f"{dictionary}, which has {held}")
    return board


def corners_in(picture: np.ndarray, board: Board, window_px: int | None = None) -> Corners | NotFound:
    """The board's corners in a grey picture, (H, W) uint8. window_px: half the side of the sub-pixel window; None: what is
    clear around a corner. A window that reaches the next corner takes its edges for its own: that is pixels, not hundredths."""
    found = {"chessboard": _chessboard, "charuco": _charuco, "apriltags": _apriltags}[board.kind](picture, board)
    if isinstance(found, NotFound):
        return found
    board_mm, rough_px = found
    spacing_px = _spacing_px(board, board_mm, rough_px)
    clear_px = _clear_mm(board) * spacing_px / _step_mm(board)
    half = window_px or int(np.clip(clear_px, 2, 40))
    picture_px = cv2.cornerSubPix(picture, rough_px.reshape(-1, 1, 2).copy(), (half, half), (-1, -1), STEPS).reshape(-1, 2)
    stays = np.linalg.norm(picture_px - rough_px, axis=1) <= half
    if board.kind != "apriltags":
        crosses = _are_crossings(picture, picture_px, clear_px)
        if board.kind == "chessboard" and crosses.mean() < 0.9:
            words = f"{(~crosses).sum()} of its {len(crosses)} corners are no crossings of squares: has it fewer rows or columns?"
            return NotFound("not-a-board", words)
        stays &= crosses | (window_px is not None)  # whoever chooses a window gets what it gives
    board_mm, picture_px = board_mm[stays], picture_px[stays].astype(float)
    if len(board_mm) < FEWEST[board.kind]:
        return NotFound("few-corners", f"{len(board_mm)} corners are clear, {FEWEST[board.kind]} are needed")
    if _off_plane(board_mm, picture_px) > PLANE_WITHIN:
        return NotFound("not-a-plane", "what was found is not the board: its corners do not lie in a plane as they should")
    return Corners(board_mm, picture_px, _edge_px(picture, picture_px, spacing_px), spacing_px)


def _chessboard(picture: np.ndarray, board: Board):
    size = (board.across, board.down)
    quick = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
    small = min(1.0, 1600 / max(picture.shape))  # quads are looked for with a window of a few pixels: not in 20 megapixels
    looked_at = cv2.resize(picture, None, fx=small, fy=small, interpolation=cv2.INTER_AREA) if small < 1 else picture
    is_there, corners = cv2.findChessboardCorners(looked_at, size, flags=quick)
    if not is_there:
        is_there, corners = cv2.findChessboardCornersSB(looked_at, size, flags=cv2.CALIB_CB_EXHAUSTIVE)
    if not is_there:
        return NotFound("no-board", f"no chessboard of {board.across} × {board.down} inner corners, all of them in sight")
    rows, columns = np.divmod(np.arange(board.across * board.down), board.across)
    points = np.stack([columns, rows, np.zeros(len(rows))], -1) * board.side_mm
    return points, ((corners.reshape(-1, 2) + 0.5) / small - 0.5).astype(np.float32)


def _charuco(picture: np.ndarray, board: Board):
    made = cv2.aruco.CharucoBoard((board.across, board.down), board.side_mm, board.inner_mm, _dictionary(board))
    made.setLegacyPattern(board.is_legacy)
    corners, ids, _, markers = cv2.aruco.CharucoDetector(made).detectBoard(picture)
    if markers is None or len(markers) == 0:
        return NotFound("no-board", f"no marker of {board.dictionary}")
    if ids is None or len(ids) < FEWEST["charuco"]:
        seen = 0 if ids is None else len(ids)
        return NotFound("few-corners", f"{seen} of {(board.across - 1) * (board.down - 1)} corners, 8 are needed")
    return np.asarray(made.getChessboardCorners(), float)[ids.ravel()], corners.reshape(-1, 2).astype(np.float32)


def _apriltags(picture: np.ndarray, board: Board):
    found, ids = tags_in(picture, board.dictionary)
    known = [i for i, tag in enumerate(ids) if tag < board.across * board.down]
    if not known:
        return NotFound("no-board", f"no tag of {board.dictionary} with a number below {board.across * board.down}")
    if len(known) * 4 < FEWEST["apriltags"]:
        return NotFound("few-corners", f"{len(known)} tags, 3 are needed")
    picture_px = np.concatenate([found[i] for i in known]).astype(np.float32)
    tags = ids[known]
    readings = [_tag_corners(board, tags, first, is_from_top) for first in range(4) for is_from_top in (True, False)]
    return min(readings, key=lambda board_mm: _off_plane(board_mm, picture_px)), picture_px


def tags_in(picture: np.ndarray, dictionary: str) -> tuple[np.ndarray, np.ndarray]:
    """Corners (n, 4, 2), as OpenCV counts, and numbers (n,) of all tags of a dictionary's name.

    AprilTag's own lines through the edges say where corners are, as its library does: from the corner of the first pixel, which
    OpenCV leaves as it is. Narrow tags that cannot be read so are read by OpenCV's contours, and have AprilTag's lines if it saw
    them.
    """
    fine, fine_ids, lines = _tags(picture, dictionary, cv2.aruco.CORNER_REFINE_APRILTAG)
    rough, rough_ids, _ = _tags(picture, dictionary, cv2.aruco.CORNER_REFINE_CONTOUR)
    corners, numbers, lines = list(fine - 0.5), list(fine_ids), lines - 0.5
    for tag, number in zip(rough, rough_ids):
        if any(np.linalg.norm(other.mean(0) - tag.mean(0)) < np.ptp(tag, 0).max() / 2 for other in corners):
            continue
        turns = [np.roll(quad[::way], turn, 0) for quad in lines for turn in range(4) for way in (1, -1)]
        near = min(turns, key=lambda quad: np.abs(quad - tag).max(), default=tag)
        corners.append(near if np.abs(near - tag).max() < SAME_CORNER_PX else tag)
        numbers.append(number)
    return np.array(corners, np.float32).reshape(-1, 4, 2), np.array(numbers, int)


def _tags(picture: np.ndarray, dictionary: str, refinement: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (n, 4, 2) and numbers of tags, corners of quads that could not be read."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = refinement
    parameters.perspectiveRemovePixelPerCell = 8  # 4 reads small tags wrong
    tags = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary))
    seen, ids, others = cv2.aruco.ArucoDetector(tags, parameters).detectMarkers(picture)
    numbers = np.array([] if ids is None else ids.ravel(), int)
    return np.array(seen, float).reshape(-1, 4, 2), numbers, np.array(others, float).reshape(-1, 4, 2)


def _tag_corners(board: Board, tags: np.ndarray, first: int, is_from_top: bool) -> np.ndarray:
    """(4 n, 3): a tag's corners go round clockwise from its `first` one."""
    rows, columns = np.divmod(tags, board.across)
    rows = rows if is_from_top else board.down - 1 - rows
    ring = np.roll(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * board.side_mm, -first, axis=0)
    at = np.stack([columns, rows], -1)[:, None] * (board.side_mm + board.inner_mm) + ring
    return np.concatenate([at, np.zeros((len(tags), 4, 1))], -1).reshape(-1, 3)


def _are_crossings(picture: np.ndarray, picture_px: np.ndarray, clear_px: float) -> np.ndarray:
    """(n,) bool: where two black squares meet, a circle around is the same after half a turn, and the negative after a quarter."""
    turns = np.arange(16) * (2 * np.pi / 16)
    ring = max(0.9 * clear_px, 2.0) * np.stack([np.cos(turns), np.sin(turns)], -1)
    at = (picture_px[:, None] + ring).astype(np.float32)
    values = cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(float)
    values -= values.mean(1, keepdims=True)
    return (values * np.roll(values, 8, axis=1)).sum(1) > 0.5 * (values**2).sum(1)


def _off_plane(board_mm: np.ndarray, picture_px: np.ndarray) -> float:
    """How far the corners are off the plane that fits them best, median, in sizes of the board in the picture."""
    homography, _ = cv2.findHomography(board_mm[:, :2], picture_px, cv2.LMEDS)
    if homography is None:
        return math.inf
    drawn = cv2.perspectiveTransform(board_mm[:, None, :2], homography)[:, 0]
    return float(np.median(np.linalg.norm(drawn - picture_px, axis=1)) / max(np.ptp(picture_px, axis=0).max(), 1e-9))


def _spacing_px(board: Board, board_mm: np.ndarray, picture_px: np.ndarray) -> float:
    """From a corner to its nearest neighbour, where the board is smallest in the picture (5th percentile)."""
    step_mm = _step_mm(board)
    near = np.linalg.norm(board_mm[:, None] - board_mm[None], axis=-1)
    pairs = np.argwhere(np.triu((near > 1e-6) & (near < 1.01 * step_mm)))
    lengths = np.linalg.norm(picture_px[pairs[:, 0]] - picture_px[pairs[:, 1]], axis=1)
    return float(np.percentile(lengths, 5)) if len(lengths) else 8.0


def _step_mm(board: Board) -> float:
    return board.side_mm if board.kind != "apriltags" else min(board.side_mm, board.inner_mm)


def _clear_mm(board: Board) -> float:
    """How far around a corner nothing else is but its own two edges. The black border of a marker is a cell wide."""
    if board.kind == "charuco":
        return min(WINDOW_OF_SQUARE * board.side_mm, WINDOW_OF_GAP * (board.side_mm - board.inner_mm) / 2)
    if board.kind == "apriltags":
        cells = _dictionary(board).markerSize + 2
        return WINDOW_OF_GAP * min(board.side_mm / cells, board.inner_mm)
    return WINDOW_OF_SQUARE * board.side_mm


def _edge_px(picture: np.ndarray, picture_px: np.ndarray, spacing_px: float) -> float:
    """Contrast over the steepest slope, the median of the corners: 1 to 2 in a sharp picture."""
    half = int(np.clip(0.4 * spacing_px, 3, 24))
    widths = []
    for x, y in np.round(picture_px).astype(int):
        patch = picture[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1].astype(np.float32)
        if min(patch.shape) > 4:
            slope = np.hypot(cv2.Sobel(patch, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(patch, cv2.CV_32F, 0, 1) / 8)[1:-1, 1:-1]
            black, white = np.percentile(patch, (10, 90))
            widths.append((white - black) / max(float(np.percentile(slope, 98)), 1e-3))
    return float(np.median(widths)) if widths else math.inf


def _dictionary(board: Board):
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))


def _millimetres(text: str) -> float | None:
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(mm|cm|m)", text)
    length = float(number[1]) * {"mm": 1, "cm": 10, "m": 1000}[number[2]] if number else 0.0
    return length if 0.1 <= length <= 20_000 else None
