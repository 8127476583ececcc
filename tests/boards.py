"""Boards seen by cameras that are known exactly: corners with noise, and photographs drawn by a homography."""

import cv2
import numpy as np

from calibration.board import Board, Corners
from calibration.lens import Look


def poses_around(
    count: int, seed: int, distance_mm: float, size_mm: tuple[float, float], tilt_deg: float = 35.0, aim: float = 0.35
):
    """camera from board, (count, 6): tilted in all directions, anywhere in the picture (aim: tangent of how far off the middle)."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        about = 2 * np.pi * i / count
        tilt = np.radians(tilt_deg) * random.uniform(0.6, 1.0)
        rotation = (
            cv2.Rodrigues(np.array([np.cos(about), np.sin(about), 0]) * tilt)[0]
            @ cv2.Rodrigues(np.array([0, 0, random.uniform(-0.3, 0.3)]))[0]
        )
        far = distance_mm * random.uniform(0.8, 1.25)
        middle = np.array([random.uniform(-aim, aim), random.uniform(-aim, aim) * 0.6, 1]) * far
        place = middle - rotation @ np.array([size_mm[0] / 2, size_mm[1] / 2, 0])
        found.append(np.concatenate([cv2.Rodrigues(rotation)[0].ravel(), place]))
    return np.array(found)


def seen(
    board_mm: np.ndarray, poses: np.ndarray, numbers: np.ndarray, noise_px: float, seed: int, together_px: float = 0.0
) -> list[Look]:
    """What a camera of these numbers (f, cx, cy, k1, k2, p1, p2, k3) sees. together_px: a smooth error, as of a board that is
    bent, another one in every picture."""
    random = np.random.default_rng(seed)
    f, cx, cy = numbers[:3]
    looks = []
    for i, pose in enumerate(poses):
        points, _ = cv2.projectPoints(board_mm, pose[:3], pose[3:], np.array([[f, 0, cx], [0, f, cy], [0, 0, 1.0]]), numbers[3:])
        points = points[:, 0] + random.normal(0, noise_px, (len(board_mm), 2))
        u = 2 * (board_mm[:, :2] - board_mm[:, :2].mean(0)) / np.ptp(board_mm[:, :2], axis=0)
        bend = np.stack([u[:, 0] ** 2, u[:, 1] ** 2, u[:, 0] * u[:, 1], np.ones(len(u))], -1)
        points = points + together_px * bend @ random.normal(0, 1, (4, 2))
        looks.append(Look(f"{i:02d}.png", Corners(board_mm, points, 2.0, 40.0)))
    return looks


def grid_mm(across: int, down: int, side_mm: float) -> np.ndarray:
    """Corners of a chessboard."""
    rows, columns = np.divmod(np.arange(across * down), across)
    return np.stack([columns, rows, np.zeros(across * down)], -1) * side_mm


def drawn(board: Board, px_per_mm: float) -> np.ndarray:
    """A board as it is printed, with a white margin of one side; its origin is at that margin's corner."""
    margin = round(board.side_mm * px_per_mm)
    dictionary = None if not board.dictionary else cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))
    if board.kind == "charuco":
        made = cv2.aruco.CharucoBoard((board.across, board.down), board.side_mm, board.inner_mm, dictionary)
        size = (round(board.across * board.side_mm * px_per_mm), round(board.down * board.side_mm * px_per_mm))
        return cv2.copyMakeBorder(made.generateImage(size), *[margin] * 4, cv2.BORDER_CONSTANT, value=255)
    made = cv2.aruco.GridBoard((board.across, board.down), board.side_mm, board.inner_mm, dictionary)
    step = board.side_mm + board.inner_mm
    size = tuple(round((n * step - board.inner_mm) * px_per_mm) for n in (board.across, board.down))
    return cv2.copyMakeBorder(made.generateImage(size), *[margin] * 4, cv2.BORDER_CONSTANT, value=255)


def photographed(
    print_px: np.ndarray, px_per_mm: float, margin_mm: float, pose: np.ndarray, f: float, size_px: tuple[int, int]
) -> np.ndarray:
    """The print through a pinhole in the middle of the picture; each pixel is the mean of 16."""
    fine, (width, height) = 4, size_px
    matrix = np.array([[f, 0, width / 2 - 0.5], [0, f, height / 2 - 0.5], [0, 0, 1]])
    rotation = cv2.Rodrigues(pose[:3])[0]
    plane = matrix @ np.column_stack([rotation[:, 0], rotation[:, 1], pose[3:]])
    # centres of the print's pixels lie half a pixel in
    board_from_print = np.array(
        [[1 / px_per_mm, 0, 0.5 / px_per_mm - margin_mm], [0, 1 / px_per_mm, 0.5 / px_per_mm - margin_mm], [0, 0, 1]]
    )
    finer = np.array([[fine, 0, (fine - 1) / 2], [0, fine, (fine - 1) / 2], [0, 0, 1]])
    large = cv2.warpPerspective(print_px, finer @ plane @ board_from_print, (width * fine, height * fine), borderValue=110)
    return cv2.GaussianBlur(cv2.resize(large, size_px, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
