"""Positions of every LED pixel → surface: a plane or an arc if they are one, else cells as few as say the same.

A cell is a bilinear patch fitted to the centres of its pixels. As many columns and rows of cells are taken as are needed to
stay within what the numbers' own precision is; where no reasonable number does, within the tolerance (else SAMPLED_TO_M).
"""

import msgspec
import numpy as np

from calibration.exchange.mesh import MOST_CELLS, SAMPLED_TO_M
from calibration.exchange.shapes import Grid, map_of, recognised, residual_m
from calibration.exchange.wall import Assumed, Fit
from ledvolume.stage import Surface

LINES = 33  # of pixels that are looked at to find how many cells there are
MOST_LINES = 2048  # cells in one direction
FLOAT_EPS = 1.2e-7


def surface_of_pixels(name: str, points_m: np.ndarray, assumed: Assumed, notes: list[str]) -> tuple[Surface, Fit]:
    """From the centres of all LED pixels, (H, W, 3) stage metres, finite, as 32-bit numbers were. Raises ValueError."""
    h, w = points_m.shape[:2]
    exact_m = max(1e-6, 4 * FLOAT_EPS * float(np.abs(points_m).max()))
    few = np.ix_(_spread(h, 257), _spread(w, 257))
    grid = Grid(points_m[few], (few[1].ravel() + 0.5) / w, (few[0].ravel() + 0.5) / h)
    surface, fit = recognised(name, grid, (w, h), assumed, exact_m)
    full = Grid(points_m, (np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    if surface is not None:
        off_m = residual_m(surface, full)
        if assumed.shape != "auto" or off_m <= max(exact_m, assumed.tolerance_m or 0.0):
            return surface, msgspec.structs.replace(fit, residual_m=off_m)
    aim_m = assumed.tolerance_m or SAMPLED_TO_M
    rows, columns = _spread(h, LINES), _spread(w, LINES)
    counts = _counts(points_m[rows], exact_m, aim_m), _counts(points_m[:, columns].transpose(1, 0, 2), exact_m, aim_m)
    for across, down in zip(*counts):
        if across * down > MOST_CELLS:
            continue
        u, v = _bases(w, across), _bases(h, down)
        corners = _fitted(points_m, u, v)
        surface = map_of(name, corners, (w, h))
        off_m = residual_m(surface, full)
        if off_m <= 2 * aim_m:
            notes.append(f"{name}: {w} × {h} positions in {across} × {down} cells, at most {off_m * 1000:.4f} mm off")
            return surface, msgspec.structs.replace(fit, residual_m=off_m)
    raise ValueError(f"no {MOST_CELLS} cells come within {aim_m * 1000:g} mm of its pixels (--tolerance)")


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of count indices, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _counts(lines: np.ndarray, exact_m: float, aim_m: float) -> tuple[int, int]:
    """How many cells along the second axis of (n, count, 3): for exactness, and for the tolerance. Where exactness needs more
    than there may be, the tolerance's; a count of at least two pixels to a cell."""
    count = lines.shape[1]
    most = max(1, min(count // 2, MOST_LINES))
    divisors = {k for k in range(1, most + 1) if count % k == 0}
    near = None
    for cells in sorted(divisors | set(range(1, min(most, 64) + 1)) | set(np.geomspace(64, max(64, most), 24).astype(int))):
        if cells > most:
            break
        off_m = 0.0
        for which, basis, inverse in _bases(count, int(cells)):
            off = basis @ (inverse @ lines[:, which]) - lines[:, which]
            off_m = max(off_m, float(np.abs(off).max()))
        if near is None and off_m <= aim_m:
            near = int(cells)
        if off_m <= exact_m:
            return int(cells), near or int(cells)
    return near or most, near or most


def _bases(count: int, cells: int) -> list[tuple[slice, np.ndarray, np.ndarray]]:
    """For every cell along a line of pixels: which pixels, their values from its two ends (n, 2), and the inverse (2, n)."""
    at = (np.arange(count) + 0.5) * cells / count
    edges = np.searchsorted(at, np.arange(cells + 1))
    found = []
    for cell, (first, last) in enumerate(zip(edges[:-1], edges[1:])):
        right = at[first:last] - cell
        basis = np.stack([1 - right, right], -1)
        found.append((slice(int(first), int(last)), basis, np.linalg.pinv(basis)))
    return found


def _fitted(points_m: np.ndarray, across: list, down: list) -> np.ndarray:
    """Corners (rows, columns, 2, 2, 3) of the bilinear patches nearest to the pixels."""
    tops = np.stack([inverse @ points_m[which].reshape(which.stop - which.start, -1) for which, _, inverse in down])
    lines = tops.reshape(len(down), 2, points_m.shape[1], 3)
    return np.stack([inverse @ lines[:, :, which] for which, _, inverse in across], 1)
