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
    """From the centres of all LED pixels, (H, W, 3) stage metres, as 32-bit numbers were; NaN where one has no place.
    Raises ValueError."""
    h, w = points_m.shape[:2]
    exact_m = max(1e-6, 4 * FLOAT_EPS * float(np.nanmax(np.abs(points_m))))
    full = Grid(points_m, (np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h)
    has = ~np.isnan(points_m[..., 0])
    if missing := int((~has).sum()):
        notes.append(f"{name}: {missing} of {w * h} pixels have no place: they are put where the others go on")
    rows, columns = np.flatnonzero(has.all(1)), np.flatnonzero(has.all(0))
    if len(rows) >= 2:
        columns = np.arange(w)
    elif len(columns) >= 2:
        rows = np.arange(h)
    else:
        points_m = _filled(points_m, has)
        rows, columns = np.arange(h), np.arange(w)
    rows, columns = rows[_spread(len(rows), 257)], columns[_spread(len(columns), 257)]
    grid = Grid(points_m[np.ix_(rows, columns)], full.u[columns], full.v[rows])
    surface, fit = recognised(name, grid, (w, h), assumed, exact_m)
    if surface is not None:
        off_m = residual_m(surface, full)
        if assumed.shape != "auto" or off_m <= max(exact_m, assumed.tolerance_m or 0.0):
            return surface, msgspec.structs.replace(fit, residual_m=off_m)
    points_m = _filled(points_m, has)
    aim_m = assumed.tolerance_m or SAMPLED_TO_M
    lines = points_m[_spread(h, LINES)], points_m[:, _spread(w, LINES)].transpose(1, 0, 2)
    for across, down in zip(*(_counts(some, exact_m, aim_m) for some in lines)):
        if across * down > MOST_CELLS:
            continue
        surface = map_of(name, _fitted(points_m, _bases(w, across), _bases(h, down)), (w, h))
        off_m = residual_m(surface, full)
        if off_m <= 2 * aim_m:
            notes.append(f"{name}: {w} × {h} positions in {across} × {down} cells, at most {off_m * 1000:.4f} mm off")
            return surface, msgspec.structs.replace(fit, residual_m=off_m)
    raise ValueError(f"no {MOST_CELLS} cells come within {aim_m * 1000:g} mm of its pixels (--tolerance)")


def _filled(points_m: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Pixels without a place where the straight line through their neighbours in the row (else in the column) goes on."""
    if has.all():
        return points_m
    out = points_m.copy()
    for lines, there in ((out, has), (out.transpose(1, 0, 2), None)):
        there = ~np.isnan(lines[..., 0]) if there is None else there
        for line, known in zip(lines, there):
            at = np.flatnonzero(known)
            if 2 <= len(at) < len(line):
                missing = np.flatnonzero(~known)
                low = np.clip(np.searchsorted(at, missing) - 1, 0, len(at) - 2)
                part = ((missing - at[low]) / (at[low + 1] - at[low]))[:, None]
                line[missing] = line[at[low]] * (1 - part) + line[at[low + 1]] * part
    if np.isnan(out).any():
        raise ValueError(f"{int((~has).sum())} of {has.size} pixels have no place, and whole rows and columns of them")
    return out


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
