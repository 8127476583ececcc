"""A photograph of coded dots → matches. Dots are joined to lattices; a lattice's large and small dots say where it is.

    picture ─▶ dots at several scales ─▶ lattices: each dot and its neighbours ─▶ large or small ─▶ which part of which
    surface's code is it? every offset, every turn; mirrored ones too, to be able to say so ─▶ centroids

A lattice that is joined up askew (a steep view, where a diagonal is shorter than a side) is found as well: all small unimodular
matrices are tried, not turns alone. Chance is kept out by Chernoff's bound: so many agreeing bits of so many, after so many trials.
"""

import math
from collections import Counter
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import cKDTree

from calibration.gray_code import Found
from ledvolume import patterns
from ledvolume.errors import CalibrationError
from ledvolume.stage import Surface

SCALES_PX = (1.0, 1.5, 2.3, 3.4, 5.0, 7.5, 11.0)  # σ of the smoothing that dots are looked for with
CONTRAST_FLOOR, CONTRAST_SHARE = 4 / 255, 0.15  # of a dot over its surroundings; the share is of the brighter dots'
STEP_WITHIN = 0.22  # of a step: how far a neighbour may be from where the last step says
LEAST_DOTS = 25  # in a lattice
MOST_SEEDS = 1000
CHANCE = 1e-5  # of taking a wrong part of a code
LEAST_STEP_PX = 4.5  # dots that are nearer to one another run together
WINDOW_STEPS = 0.2  # σ of the Gaussian under which a middle is found, in steps
AGREE = 0.7  # share of a dot's neighbours (5 × 5) whose bits must be right
TURNS = np.array(
    [((a, b), (c, d)) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) for d in (-1, 0, 1) if abs(a * d - b * c) == 1]
)


class _Dots(NamedTuple):
    """Candidates at one scale: (n, 2) and (n,)."""

    at_px: np.ndarray
    height: np.ndarray


class _Lattice(NamedTuple):
    """Dots that are joined: which (n,), their places on a lattice of its own (n, 2), bits (n,): 1 large, -1 small, 0 unknown."""

    dots: np.ndarray
    place: np.ndarray
    bits: np.ndarray


class _Reading(NamedTuple):
    """Dots that are known: surface, column and row (n, 3), about where (n, 2), the picture's steps per column and row in the
    columns of (n, 2, 2), and how many others there are."""

    number: np.ndarray
    at_px: np.ndarray
    steps_px: np.ndarray
    thrown_away: Counter


class _Place(NamedTuple):
    """Where a lattice is: dot (column, row) = turn · place + offset."""

    surface: int
    turn: np.ndarray
    offset: np.ndarray
    agree: int
    of: int


def found(picture: np.ndarray, surfaces: list[Surface], pitches_px: list[int]) -> list[Found]:
    """Matches of every surface in a picture, (H, W) float32 0..1, of its dots; pitches_px: LED pixels from dot to dot, of each.

    Raises CalibrationError where the dots are mirrored, or are not these surfaces'.
    """
    codes = [np.where(patterns.dot_bits(s, p), 1.0, -1.0) for s, p in zip(surfaces, pitches_px)]
    readings = sorted((_read(picture, sigma_px, codes) for sigma_px in SCALES_PX), key=lambda r: -len(r.number))
    best = readings[0]
    mirrored, unplaced = (max(r.thrown_away[reason] for r in readings) for reason in ("mirrored", "unplaced"))
    if mirrored > len(best.number):
        raise CalibrationError(
            f"the dots are mirrored, {mirrored} of them: the picture was flipped by the camera's monitor or in an editor, or the "
            "wall is seen from behind or in a mirror"
        )
    if not len(best.number):
        names = ", ".join(
            f"{s.name} ({s.resolution_px[0]} × {s.resolution_px[1]}, dots/{p})" for s, p in zip(surfaces, pitches_px)
        )
        if unplaced:
            raise CalibrationError(
                f"{unplaced} dots lie in rows and columns, but they are no part of {names}: another surface, another resolution, "
                "another pattern, or too few dots"
            )
        raise CalibrationError(
            f"no rows of dots are to be seen, expected {names}: is the picture sharp, are dots 8 px apart or more?"
        )
    number, at_px, steps_px = (np.concatenate([getattr(r, field) for r in readings]) for field in ("number", "at_px", "steps_px"))
    number, first = np.unique(number, axis=0, return_index=True)  # of a dot that is seen at several scales, the best scale's
    middles, sigmas, clear = _middles(picture, at_px[first], steps_px[first])
    thrown = best.thrown_away
    thrown["bits disagree"] += thrown.pop("unplaced", 0)
    thrown["clipped"] = int(np.count_nonzero(~clear))
    on = [clear & (number[:, 0] == index) for index in range(len(surfaces))]
    return [
        Found((number[here, 1:] + 0.5) * pitch_px, middles[here], sigmas[here], +thrown if index == 0 else Counter())
        for index, (here, pitch_px) in enumerate(zip(on, pitches_px))
    ]


def _read(picture: np.ndarray, sigma_px: float, codes: list[np.ndarray]) -> _Reading:
    """What is legible at one scale."""
    dots, thrown = _dots(picture, sigma_px), Counter()
    pieces = [(np.empty((0, 3), int), np.empty((0, 2)), np.empty((0, 2, 2)))]
    thrown["lonely"] = len(dots.at_px)
    for lattice in _lattices(dots, sigma_px):
        thrown["lonely"] -= len(lattice.dots)
        place = _placed(lattice, codes)
        if place is None or np.linalg.det(place.turn) < 0:
            thrown["unplaced" if place is None else "mirrored"] += len(lattice.dots)
            continue
        number = lattice.place @ place.turn.T + place.offset
        good = _agreeing(lattice, number, codes[place.surface])
        thrown["bits disagree"] += int(np.count_nonzero(~good))
        at_px = dots.at_px[lattice.dots]
        steps_px = _steps(number, at_px)
        fine = np.linalg.svd(steps_px, compute_uv=False)[:, 1] < LEAST_STEP_PX
        thrown["not resolved"] += int(np.count_nonzero(good & fine))
        good &= ~fine
        pieces.append((np.insert(number[good], 0, place.surface, axis=1), at_px[good], steps_px[good]))
    return _Reading(*(np.concatenate(field) for field in zip(*pieces)), thrown)


def _dots(picture: np.ndarray, sigma_px: float) -> _Dots:
    """Bright blobs of about this size: maxima of a difference of Gaussians."""
    smooth = cv2.GaussianBlur(picture, (0, 0), sigma_px)
    height = smooth - cv2.GaussianBlur(picture, (0, 0), 2.5 * sigma_px)
    size = 2 * round(1.3 * sigma_px) + 1
    peak = (height == cv2.dilate(height, np.ones((size, size)))) & (height > CONTRAST_FLOOR / 2)
    peak[:2], peak[-2:], peak[:, :2], peak[:, -2:] = False, False, False, False
    y, x = np.nonzero(peak)
    if not len(x):
        return _Dots(np.empty((0, 2)), np.empty(0))
    # small dots are fainter than large ones, and the far ones than the near: compared with what is usual about them
    usual = cv2.dilate(height, np.ones((3, 3)))
    usual = cv2.dilate(cv2.resize(usual, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.ones((9, 9)), iterations=2)
    usual = cv2.resize(usual, picture.shape[::-1])
    kept = height[y, x] > CONTRAST_SHARE * usual[y, x]
    y, x = y[kept], x[kept]
    dx = _vertex(height[y, x - 1], height[y, x], height[y, x + 1])
    dy = _vertex(height[y - 1, x], height[y, x], height[y + 1, x])
    return _Dots(np.stack([x + 0.5 + dx, y + 0.5 + dy], -1), height[y, x])


def _vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray) -> np.ndarray:
    bend = before - 2 * at + after
    return np.where(bend < 0, np.clip((before - after) / (2 * np.minimum(bend, -1e-12)), -0.5, 0.5), 0.0)


def _lattices(dots: _Dots, sigma_px: float) -> list[_Lattice]:
    """Dots joined to lattices, the largest first. From a dot to its neighbour the step may change little by little."""
    count = len(dots.at_px)
    if count < LEAST_DOTS:
        return []
    tree = cKDTree(dots.at_px)
    _, near = tree.query(dots.at_px, min(9, count))
    free, found_ones = np.ones(count, bool), []
    order = np.argsort(-dots.height)
    for seed in order[:MOST_SEEDS]:
        if not free[seed]:
            continue
        steps = _first_steps(dots.at_px, seed, near[seed][1:], sigma_px)
        if steps is None:
            continue
        members = _joined(dots.at_px, tree, seed, steps, free)
        if len(members) < LEAST_DOTS:
            continue
        index = np.array(list(members))
        free[index] = False
        place = np.array([members[i] for i in index])
        found_ones.append(_Lattice(index, place, np.zeros(len(index))))
    found_ones = [lattice._replace(bits=_bits(dots.height[lattice.dots], lattice.place)) for lattice in found_ones]
    return sorted(found_ones, key=lambda lattice: -len(lattice.dots))


def _first_steps(at_px: np.ndarray, seed: int, near: np.ndarray, sigma_px: float) -> np.ndarray | None:
    """(2, 2): two steps from a dot to neighbours, each with a neighbour on its other side too, right-handed
    as x and y; None if there are none."""
    offsets = at_px[near] - at_px[seed]
    length = np.linalg.norm(offsets, axis=1)
    opposite = np.linalg.norm(offsets[:, None] + offsets[None], axis=-1).min(1) < STEP_WITHIN * length
    usable = np.flatnonzero(opposite & (length > 2 * sigma_px))
    if not len(usable):
        return None
    a = offsets[usable[0]]
    for b in offsets[usable[1:]]:
        if abs(a[0] * b[1] - a[1] * b[0]) > 0.3 * np.linalg.norm(a) * np.linalg.norm(b):
            return np.array([a, b] if a[0] * b[1] > a[1] * b[0] else [b, a])
    return None


def _joined(at_px: np.ndarray, tree: cKDTree, seed: int, steps: np.ndarray, free: np.ndarray) -> dict[int, tuple[int, int]]:
    """Dot → place, of all that can be reached from a seed one step at a time."""
    members, taken, front = {seed: (0, 0)}, {(0, 0): seed}, [(seed, steps)]
    while front:
        following = []
        wanted, sources = [], []
        for dot, steps in front:
            column, row = members[dot]
            for axis, (dc, dr) in enumerate(((1, 0), (0, 1))):
                for sign in (1, -1):
                    place = (column + sign * dc, row + sign * dr)
                    if place not in taken:
                        wanted.append(at_px[dot] + sign * steps[axis])
                        sources.append((place, axis, sign, dot, steps))
        if not wanted:
            break
        distance, nearest = tree.query(np.array(wanted))
        for off, dot, (place, axis, sign, source, steps) in zip(distance, nearest, sources):
            step = steps[axis]
            if off > STEP_WITHIN * math.hypot(*step) or place in taken or dot in members or not free[dot]:
                continue
            members[int(dot)], taken[place] = place, int(dot)
            moved = steps.copy()
            moved[axis] = 0.5 * step + 0.5 * sign * (at_px[dot] - at_px[source])
            following.append((int(dot), moved))
        front = following
    return members


def _bits(height: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Large (1) or small (-1), by the heights of the dots about each (7 × 7): theirs lie in two heaps. 0 where they do not."""
    log = np.log(height)
    low, high = place.min(0), place.max(0)
    grid = np.full(tuple(high - low + 1)[::-1], np.nan, np.float32)
    grid[tuple((place - low).T[::-1])] = log
    known = np.isfinite(grid)
    brightest = cv2.dilate(np.where(known, grid, -1e9).astype(np.float32), np.ones((7, 7)))
    faintest = -cv2.dilate(np.where(known, -grid, -1e9).astype(np.float32), np.ones((7, 7)))
    middle, half = (brightest + faintest) / 2, (brightest - faintest) / 2
    bits = np.where(half > 0.15, np.clip((grid - middle) / np.maximum(half, 1e-6) / 0.2, -1, 1), 0.0)
    return np.sign(np.trunc(bits[tuple((place - low).T[::-1])]))


def _placed(lattice: _Lattice, codes: list[np.ndarray]) -> _Place | None:
    """Where on which surface the lattice's bits fit best; None where that could be chance."""
    best = None
    trials = sum(len(TURNS) * code.size * 4 for code in codes)
    for turn in TURNS:
        place = lattice.place @ turn.T
        low = place.min(0)
        place = place - low
        width, height = place.max(0) + 1
        for surface, code in enumerate(codes):
            rows, columns = code.shape
            shape = tuple(cv2.getOptimalDFTSize(int(n)) for n in (rows + height, columns + width))
            bits, known = np.zeros(shape), np.zeros(shape)
            bits[place[:, 1], place[:, 0]] = lattice.bits
            known[place[:, 1], place[:, 0]] = lattice.bits != 0
            there, inside = np.zeros(shape), np.zeros(shape)
            there[:rows, :columns], inside[:rows, :columns] = code, 1.0
            score = np.fft.irfft2(np.fft.rfft2(there) * np.conj(np.fft.rfft2(bits)), shape)
            of = np.fft.irfft2(np.fft.rfft2(inside) * np.conj(np.fft.rfft2(known)), shape)
            score = np.where(of > 0.5 * len(place), score, -1.0)  # most of a lattice lies on the surface
            at = np.unravel_index(np.argmax(score), shape)
            if best is None or score[at] > best[0]:
                row, column = (v - n if v >= n - size else v for v, n, size in zip(at, shape, (height, width)))
                compared = round(float(of[at]))
                agree = round((float(score[at]) + compared) / 2)
                best = (score[at], _Place(surface, turn, np.array([column, row]) - low, agree, compared))
    place = best[1]
    return place if place.of and _chance(place.agree, place.of) * trials < CHANCE else None


def _chance(agree: int, of: int) -> float:
    """Chernoff's bound for as many heads or more of so many coins."""
    share = agree / of
    if share <= 0.5:
        return 1.0
    tails = 0.0 if share == 1 else (1 - share) * math.log(2 * (1 - share))
    return math.exp(-of * (share * math.log(2 * share) + tails))


def _agreeing(lattice: _Lattice, number: np.ndarray, code: np.ndarray) -> np.ndarray:
    """(n,) bool: on the surface, with most of the bits about it right (5 × 5)."""
    rows, columns = code.shape
    inside = ((number >= 0) & (number < (columns, rows))).all(1)
    right, known = np.zeros(code.shape), np.zeros(code.shape)
    column, row = number[inside].T
    right[row, column] = lattice.bits[inside] == code[row, column]
    known[row, column] = lattice.bits[inside] != 0
    share = cv2.blur(right, (5, 5), borderType=cv2.BORDER_CONSTANT) / np.maximum(
        cv2.blur(known, (5, 5), borderType=cv2.BORDER_CONSTANT), 1e-9
    )
    good = inside.copy()
    good[inside] = share[row, column] >= AGREE
    return good


def _steps(number: np.ndarray, at_px: np.ndarray) -> np.ndarray:
    """(n, 2, 2): how far in the picture, down the rows, from a dot to the next of its row and of its column; 0 where neither
    neighbour is known."""
    low = number.min(0)
    width, height = number.max(0) - low + 3
    grid = np.full((height, width, 2), np.nan)
    column, row = (number - low + 1).T
    grid[row, column] = at_px
    steps = []
    for before, after in (
        (grid[row, column - 1], grid[row, column + 1]),
        (grid[row - 1, column], grid[row + 1, column]),
    ):
        both = np.stack([at_px - before, after - at_px])
        known = np.isfinite(both)
        steps.append(np.where(known, both, 0).sum(0) / np.maximum(known.sum(0), 1))
    return np.stack(steps, -1)


def _middles(picture: np.ndarray, at_px: np.ndarray, steps_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles of dots (n, 2), their sigma (n,) and whether they stand clear of their surroundings.

    Centroids under a Gaussian that has the dot's own slant and is centred on it (it moves until both agree): pixels that
    hold noise alone have little to say. What the surroundings give, the rim half a step away, is taken off.
    """
    height, width = picture.shape
    middles, sigmas, clear = at_px.copy(), np.full(len(at_px), np.inf), np.zeros(len(at_px), bool)
    sizes = np.ceil(0.6 * np.linalg.norm(steps_px, axis=2).max(1)).astype(int) + 1
    dots_from_picture = np.linalg.inv(steps_px)
    for n in np.unique(sizes):
        inside = (at_px >= n + 1).all(1) & (at_px < (width - n - 1, height - n - 1)).all(1)
        those = np.flatnonzero((sizes == n) & inside)
        corner = np.floor(at_px[those]).astype(int) - n
        px = np.arange(2 * n + 1)
        patch = picture[corner[:, 1, None, None] + px[:, None], corner[:, 0, None, None] + px]
        x, y = (at_px[those] - corner).T
        for _ in range(12):
            dx, dy = px + 0.5 - x[:, None], px + 0.5 - y[:, None]
            d = np.stack(np.broadcast_arrays(dx[:, None, :], dy[:, :, None]), -1)
            away2 = (np.einsum("nij,nabj->nabi", dots_from_picture[those], d) ** 2).sum(-1)  # in steps
            rim = np.where(np.abs(np.sqrt(away2) - 0.5) < 0.1, patch, np.nan)
            ground = np.nanmedian(rim, (1, 2))
            weight = np.exp(-away2 / (2 * WINDOW_STEPS**2)) * (away2 < 0.25)
            light = weight * (patch - ground[:, None, None])
            total = np.maximum(light.sum((1, 2)), 1e-9)
            # 2: the window pulls the centroid about half-way back to its own middle
            moved = 2 * np.einsum("nab,nabi->ni", light, d) / total[:, None]
            x, y = x + np.clip(moved[:, 0], -0.5, 0.5), y + np.clip(moved[:, 1], -0.5, 0.5)
        noise = np.maximum(1.4826 * np.nanmedian(np.abs(rim - ground[:, None, None]), (1, 2)), 0.3 / 255)
        peak = patch.max((1, 2)) - ground
        middles[those] = corner + np.stack([x, y], -1)
        strayed = np.linalg.norm(np.einsum("nij,nj->ni", dots_from_picture[those], middles[those] - at_px[those]), axis=1)
        clear[those] = (ground < 0.95) & (peak > CONTRAST_FLOOR) & (strayed < 0.2) & (np.hypot(*moved.T) < 0.1)
        sigmas[those] = 2 * noise * np.sqrt((weight**2 * (d**2).sum(-1)).sum((1, 2)) / 2) / total
    return middles, np.hypot(sigmas, 0.01), clear
