"""Lenses from photographs of boards: OpenCV's thirteen chessboards, and cameras that are known exactly."""

import sys
import time
from collections.abc import Iterable

import cv2
import numpy as np

from calibration.board import board_of, corners_in
from calibration.lens import Look, chosen_order, fitted
from measure import ROOT, Row

sys.path.append(str(ROOT / "tests"))
from boards import grid_mm, poses_around, seen

PHOTOGRAPHS = ROOT / "tests" / "data" / "chessboard_left"
OPENCV_FX, OPENCV_WINDOW_PX = 535.92, 11  # left_intrinsics.yml; of its sample program
TRUE, SIZE, RUNS = np.array([1900.0, 955.0, 548.0, -0.11, 0.07, 0.0006, -0.0004, 0.0]), (1920, 1080), 200


def chessboards() -> Iterable[Row]:
    """OpenCV's photographs, with the window around a corner that its sample has, and with one that fits beside the next corner."""
    board = board_of("chessboard:9x6:25mm")
    pictures = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    as_opencv = [Look(str(i), corners_in(picture, board, OPENCV_WINDOW_PX)) for i, picture in enumerate(pictures)]
    started = time.monotonic()
    ours = [Look(str(i), corners_in(picture, board)) for i, picture in enumerate(pictures)]
    order, scores = chosen_order([ours], (640, 480))
    fit = fitted(ours, (640, 480), order)
    took_s = time.monotonic() - started
    stock = fitted(as_opencv, (640, 480), "k1k2k3p")
    yield Row("chessboards found", len(ours), "", ("=", 13))
    yield Row("fx, windows as OpenCV's", stock.numbers[0].item(), "px")
    yield Row("fx, windows as OpenCV's, off 536", abs(stock.numbers[0].item() - 536), "px", ("≤", 1.5))
    yield Row("rms, windows as OpenCV's", stock.rms_px, "px", ("≤", 0.45))
    yield Row("fx, windows that fit", fit.numbers[0].item(), "px")
    yield Row("fx, windows that fit, 1 σ", fit.sigmas[0].item(), "px")
    yield Row("rms, windows that fit", fit.rms_px, "px", ("≤", 0.45))
    yield Row("order chosen", order)
    yield Row("held-out pictures, windows that fit", scores[order], "px")
    yield Row("held-out pictures, windows as OpenCV's", chosen_order([as_opencv], (640, 480))[1][order], "px")
    yield Row("time for 13 pictures", took_s, "s")


def lens_intervals() -> Iterable[Row]:
    """200 cameras of 14 pictures, corners off by 0.1 px and pictures by 0.2 px together: does the lens lie where it is said to?"""
    off, focal = [], []
    for seed in range(RUNS):
        looks = seen(grid_mm(11, 8, 30.0), poses_around(14, seed, 900, (300, 210)), TRUE, 0.1, seed, 0.2)
        fit = fitted(looks, SIZE, "k1k2p")
        off.append(np.abs(fit.numbers[:7] - TRUE[:7]) / fit.sigmas[:7])
        focal.append(fit.numbers[0] / TRUE[0] - 1)
    off = np.array(off)
    yield Row("focal length off, rms", 100 * float(np.sqrt(np.mean(np.square(focal)))), "%", ("≤", 0.3))
    yield Row("within 1 σ", 100 * float((off < 1).mean()), "%")
    yield Row("within 95 %", 100 * float((off < 1.96).mean()), "%", ("≥", 90))
    yield Row("within 95 %, not all", 100 * float((off < 1.96).mean()), "%", ("≤", 99))


MEASUREMENTS = (chessboards, lens_intervals)
