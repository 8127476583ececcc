"""A Gray code's photographs → matches. The edges of its stripes are LED boundaries, found to a fraction of a picture's pixel.

    d = (picture - negative) / (white - black)     -1 … 1 on every pixel, whatever the exposure and the transfer function
    d = 0 in bit k of n                            an edge: LED column m 2^(k+1) + 2^k, m being what the coarser bits say

An edge lies where picture and negative are equally bright. That holds under blooming, blur and any transfer function, as
they do the same to both; and it needs no bit that is finer, so that stripes that the camera cannot resolve are not missed.
d is averaged over about an LED pixel, so that gaps between emitters are no edges. Then the picture is cut into windows; in
each a quadratic is fitted through all its edges, column = f(x, y) and row = g(x, y), and solved for the middle of an LED pixel.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from ledvolume import patterns
from ledvolume.errors import CalibrationError
from ledvolume.stage import Surface

MATCHES = 3000  # windows that a wall that fills the picture is cut into
LEAST_WINDOW_PX = 16
WINDOW_PITCHES = 4.0  # a window has some edges in it, also where LED pixels are large
BLUR_PITCHES, LEAST_BLUR_PX, MOST_BLUR_PX = 0.45, 0.8, 12.0
CONTRAST_FLOOR, CONTRAST_SHARE = 3 / 255, 0.08  # of white over black: at least so much, and so much of what is usual here
BORDER_BLURS = 4.0  # nearer to the lit wall's border an edge has more light on one side, and moves
SURE = 0.25  # |d| that is a bit
RESOLVED = 0.3  # mean |d| of stripes that the camera resolves; a period of 4.5 px has it
OPPOSITE = 0.75  # share of the lit pixels on which a wide stripe and its negative differ
MOST_EDGES = 300  # per window and direction
BEND_PER_PX = 1e-3  # half a window of h px bends from its tangent by some h² times this: steep views, distortion
WIDE_SPREAD_PX = 0.6  # edges that lie about the fit by more say that some bits are wrong
JUMP_SHARE, MOST_JUMPS = 0.04, 0.03


class Found(NamedTuple):
    """Matches of one surface as session.Matches has them, and how many windows were not believed, by reason."""

    led_px: np.ndarray
    picture_px: np.ndarray
    sigma_px: np.ndarray
    thrown_away: Counter


class _Edges(NamedTuple):
    """Points of the picture at which an LED boundary passes."""

    x: np.ndarray
    y: np.ndarray
    boundary: np.ndarray
    weight: np.ndarray


def found(read: Callable[[str], np.ndarray], surface: Surface, here: np.ndarray | None = None) -> Found:
    """read: the picture of a pattern, (H, W) float32, 0..1. here: (H, W), where the surface is; None: it is the only one.

    Raises CalibrationError for pictures that cannot be those of this surface's Gray code.
    """
    lit = _Lit(read("white"), read("black"), here)
    if not lit.any:
        return Found(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), Counter({"no contrast": 1}))
    pitch_px = _led_pitch(read, surface, lit)
    lit.blur(float(np.clip(BLUR_PITCHES * pitch_px, LEAST_BLUR_PX, MOST_BLUR_PX)))
    window_px = round(max(LEAST_WINDOW_PX, WINDOW_PITCHES * pitch_px, (np.count_nonzero(lit.mask) / MATCHES) ** 0.5))
    edges = [_edges(read, surface, axis, lit, pitch_px) for axis in (0, 1)]
    return _windows(edges, surface, lit, window_px)


class _Lit:
    """Where the wall lights the picture, and how d is averaged there."""

    def __init__(self, white: np.ndarray, black: np.ndarray, here: np.ndarray | None):
        self.contrast = np.maximum(white - black, 0.0)
        self.clipped = black >= 0.99
        self.least = max(CONTRAST_FLOOR, CONTRAST_SHARE * float(np.percentile(self.contrast, 99)))
        self.here = here
        self.blur(1.5)

    def blur(self, sigma_px: float) -> None:
        """How far d is averaged from now on. Weighted by the light itself within an LED pixel, so that an emitter's middle
        counts and its rim does not, whatever moiré makes of it; but paint that is lit is as good as paint that is bright."""
        self.sigma_px = sigma_px
        self.mask = cv2.GaussianBlur(self.contrast, (0, 0), sigma_px) > self.least
        if self.here is not None:
            self.mask &= self.here
        mask = self.mask.astype(np.float32)
        share = np.maximum(cv2.GaussianBlur(mask, (0, 0), 2 * sigma_px), 1e-3)
        about = cv2.GaussianBlur(self.contrast * mask, (0, 0), 2 * sigma_px) / share
        self._weight = 1 / np.maximum(about, self.least)
        self._sum = cv2.GaussianBlur(self._weight * self.contrast, (0, 0), sigma_px)
        self._sum[~self.mask] = 1.0
        size = 2 * round(BORDER_BLURS * sigma_px) + 1
        self.inner = cv2.erode(self.mask.astype(np.uint8), np.ones((size, size), np.uint8), borderValue=1) > 0

    @property
    def any(self) -> bool:
        return bool(self.mask.any())

    def d(self, read: Callable[[str], np.ndarray], name: str) -> np.ndarray:
        """(H, W), 0 where the picture is not lit."""
        d = cv2.GaussianBlur((read(name) - read(f"{name}/inverse")) * self._weight, (0, 0), self.sigma_px) / self._sum
        d[~self.mask] = 0.0
        return d


def _led_pitch(read: Callable[[str], np.ndarray], surface: Surface, lit: _Lit) -> float:
    """About how many picture pixels an LED pixel has: from the area of the smallest blocks of LED pixels that are told apart."""
    numbers, counts = [], [patterns.bits(size) for size in surface.resolution_px]
    for axis, count in zip("xy", counts):
        number, parity = np.zeros(lit.mask.shape, np.int32), 0
        for k in range(count):
            parity = parity ^ (lit.d(read, f"gray/{axis}/{k}") > 0)
            number = number * 2 + parity
        numbers.append(number[lit.mask])
    pitch_px = 1.0
    for drop in range(max(counts) - 1, -1, -1):  # blocks of 2^drop LED pixels each way
        columns, rows = (number >> drop for number in numbers)
        _, pixels = np.unique(columns.astype(np.int64) << 32 | rows, return_counts=True)
        typical = np.median(np.repeat(pixels, pixels))  # of the block that a pixel lies in: scattered wrong codes do not count
        if typical < 200 and drop < max(counts) - 1:
            break
        across, down = (min(2**drop, size) for size in surface.resolution_px)
        pitch_px = (typical / (across * down)) ** 0.5
    return pitch_px


def _edges(read: Callable[[str], np.ndarray], surface: Surface, axis: int, lit: _Lit, pitch_px: float) -> _Edges:
    """All edges of one direction's stripes that are resolved."""
    letter, size = "xy"[axis], surface.resolution_px[axis]
    count = patterns.bits(size)
    number, parity, sure = np.zeros(lit.mask.shape, np.int32), np.zeros(lit.mask.shape, bool), lit.inner.copy()
    pieces, beyond = [], 0
    for k in range(count):
        name, step = f"gray/{letter}/{k}", 2 ** (count - 1 - k)
        d = lit.d(read, name)
        strong = np.abs(d) > SURE
        stripe_px = 2 * step * pitch_px
        opposite = np.count_nonzero(strong) / np.count_nonzero(lit.mask)
        if opposite < OPPOSITE and stripe_px > 12 * lit.sigma_px:
            raise CalibrationError(
                f"{name} and its negative differ on {opposite:.0%} of the lit wall, expected nearly all: a picture is missing or "
                "out of order, the camera moved, or the wall showed something else"
            )
        resolved = _mean_about(np.abs(d), lit.mask, stripe_px) > RESOLVED
        if np.count_nonzero(resolved & lit.mask) < 0.02 * np.count_nonzero(lit.mask):
            break
        for dy, dx in ((0, 1), (1, 0)):
            a, b = (slice(0, -dy or None), slice(0, -dx or None)), (slice(dy, None), slice(dx, None))
            both = (d[a] * d[b] < 0) & sure[a] & sure[b] & resolved[a] & (number[a] == number[b])
            y, x = np.nonzero(both)
            before, after = d[a][both], d[b][both]
            along = before / (before - after)
            boundary = number[a][both] * (2 * step) + step
            seen = boundary < size
            beyond += np.count_nonzero(~seen)
            pieces.append(
                np.stack([x + 0.5 + along * dx, y + 0.5 + along * dy, boundary, np.minimum((before - after) ** 2, 1.0)])[:, seen]
            )
        parity = parity ^ (d > 0)
        number = number * 2 + parity
        sure &= strong & resolved
    edges = np.concatenate(pieces, 1) if pieces else np.empty((4, 0))
    if beyond > 0.05 * (edges.shape[1] + beyond):
        what = "columns" if axis == 0 else "rows"
        raise CalibrationError(
            f"surface {surface.name} has {size} {what}, but the pictures show {what} beyond: another surface's or another "
            "resolution's Gray code, or a picture and its negative exchanged"
        )
    return _Edges(*edges)


def _mean_about(values: np.ndarray, mask: np.ndarray, size_px: float) -> np.ndarray:
    size = int(np.clip(2 * round(size_px) + 1, 9, 127))
    weight = cv2.blur(mask.astype(np.float32), (size, size))
    return cv2.blur(values * mask, (size, size)) / np.maximum(weight, 1e-3)


def _windows(edges: list[_Edges], surface: Surface, lit: _Lit, window_px: int) -> Found:
    """One match for every window in which the edges of both directions say where an LED pixel's middle is."""
    across, down = (-(-n // window_px) for n in lit.mask.shape[::-1])
    windows = [(e.y // window_px).astype(int) * across + (e.x // window_px).astype(int) for e in edges]
    area = np.bincount(_window_of_pixels(lit.mask, window_px, across), minlength=across * down) / window_px**2
    thrown, half = Counter(), window_px / 2
    middle = (np.stack(np.meshgrid(np.arange(across), np.arange(down)), -1).reshape(-1, 2) + 0.5) * window_px
    fits = [_fit(e, w, across * down, middle, half) for e, w in zip(edges, windows)]
    candidates = area > 0.25
    enough = fits[0].enough & fits[1].enough
    spread = np.maximum(fits[0].spread_px, fits[1].spread_px)
    thrown["no contrast"] = int(np.count_nonzero((area > 0.02) & ~candidates))
    thrown["lonely"] = int(np.count_nonzero(candidates & ~enough))
    thrown["bits disagree"] = int(np.count_nonzero(candidates & enough & (spread > WIDE_SPREAD_PX)))
    thrown["clipped"] = int(np.count_nonzero(np.bincount(_window_of_pixels(lit.clipped, window_px, across)) > window_px**2 / 2))
    kept = np.flatnonzero(candidates & enough & (spread <= WIDE_SPREAD_PX))
    _continuous(fits, kept, surface, across, window_px)
    at = sum(f.centre[kept] for f in fits) / 2  # in half windows, from the window's middle
    led = np.floor(np.stack([_value(f.terms[kept], at) for f in fits], -1)) + 0.5
    for _ in range(4):
        jacobian = np.stack([_slope(f.terms[kept], at) for f in fits], 1)
        turned = np.linalg.det(jacobian)
        jacobian[np.abs(turned) < 1e-9] = np.eye(2)
        off = led - np.stack([_value(f.terms[kept], at) for f in fits], -1)
        at = at + np.clip(np.linalg.solve(jacobian, off[..., None])[..., 0], -1, 1)
    rows = _terms(at[:, 0], at[:, 1])
    variance = np.stack([np.einsum("ni,nij,nj->n", rows, f.covariance[kept], rows) for f in fits], -1)
    inverse = np.linalg.inv(jacobian)
    sigma_px = half * np.sqrt(np.einsum("nij,nj->n", inverse**2, variance) / 2)
    within = (np.abs(at) <= 1.2).all(1) & (led > 0).all(1) & (led < surface.resolution_px).all(1) & (np.abs(turned) >= 1e-9)
    thrown["lonely"] += int(np.count_nonzero(~within))
    mirrored = within & (turned < 0)
    if np.count_nonzero(mirrored) > 0.5 * max(np.count_nonzero(within), 1):
        raise CalibrationError(
            f"surface {surface.name} is mirrored in the pictures: flipped by the camera's monitor or in an editor, seen from "
            "behind or in a mirror, or pictures and their negatives exchanged"
        )
    thrown["mirrored"] = int(np.count_nonzero(mirrored))
    good = within & ~mirrored
    return Found(led[good], middle[kept][good] + half * at[good], sigma_px[good], +thrown)


def _window_of_pixels(mask: np.ndarray, window_px: int, across: int) -> np.ndarray:
    y, x = np.nonzero(mask)
    return y // window_px * across + x // window_px


class _Fit(NamedTuple):
    """Per window: LED coordinate = terms · (1, x, y, x², xy, y²), x and y in half windows from its middle; covariance; how far
    edges lie about it in the picture; where they lie on average; whether they suffice."""

    terms: np.ndarray
    covariance: np.ndarray
    spread_px: np.ndarray
    centre: np.ndarray
    enough: np.ndarray


def _terms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)


def _value(terms: np.ndarray, at: np.ndarray) -> np.ndarray:
    return (terms * _terms(at[:, 0], at[:, 1])).sum(-1)


def _slope(terms: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n, 2) per half window."""
    x, y = at.T
    _, a, b, c, d, e = terms.T
    return np.stack([a + 2 * c * x + d * y, b + d * x + 2 * e * y], -1)


def _fit(edges: _Edges, window: np.ndarray, count: int, middle: np.ndarray, half: float) -> _Fit:
    """Quadratics of all windows at once: reweighted least squares (Cauchy), first affine, then with a prior on the bend."""
    order = np.argsort(window, kind="stable")
    starts = np.searchsorted(window[order], np.arange(count + 1))
    stride = np.maximum(np.diff(starts) // MOST_EDGES, 1)
    order = order[(np.arange(len(order)) - starts[window[order]]) % stride[window[order]] == 0]
    window, (x, y, boundary, weight) = window[order], (v[order] for v in edges)
    starts = np.searchsorted(window, np.arange(count + 1))
    number = np.diff(starts)
    p = np.stack([x, y], -1)
    p = (p - middle[window]) / half
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, window, boundary)
    np.maximum.at(high, window, boundary)
    enough = (number >= 8) & (high > low)
    base = np.where(enough, low, 0.0)  # differences keep the normal equations small
    rows, value = _terms(p[:, 0], p[:, 1]), boundary - base[window]
    upper = [(i, j) for i in range(6) for j in range(i, 6)]
    scale, per_px, robust = np.maximum(high - low, 1.0), np.ones(count), np.ones(len(window))
    for step in range(6):
        w = weight * robust
        normal, right = np.empty((count, 6, 6)), np.empty((count, 6))
        for i, j in upper:
            normal[:, i, j] = normal[:, j, i] = np.bincount(window, w * rows[:, i] * rows[:, j], count)
        for i in range(6):
            right[:, i] = np.bincount(window, w * rows[:, i] * value, count)
        typical = np.maximum(np.bincount(window, w, count), 1e-9)
        bend = 1e6 if step == 0 else (scale / (BEND_PER_PX * half**2 * per_px)) ** 2
        ridge = np.zeros((count, 6))
        ridge[:, 3:] = (typical / np.maximum(number, 1) * bend)[:, None]
        ridge[:, :3] = 1e-9 * typical[:, None]
        normal += ridge[..., None] * np.eye(6)
        terms = np.linalg.solve(normal, right[..., None])[..., 0]
        per_px = np.maximum(np.hypot(terms[:, 1], terms[:, 2]) / half, 1e-9)  # LED pixels per picture pixel
        off = np.abs((rows * terms[window]).sum(-1) - value)
        scale = np.maximum(1.4826 * _medians(off, window, starts), 0.02 * per_px)
        robust = 1 / (1 + (off / (3 * scale[window])) ** 2) ** (1 if step < 4 else 2)
    spread = np.sqrt(np.bincount(window, w * off**2, count) / typical)
    freedom = np.maximum(number - 6, 1) / np.maximum(number, 1)
    # weights are 1/σ² up to a factor, and that is what the edges' own spread says
    factor = np.bincount(window, w * off**2, count) / np.maximum(number, 1) / freedom
    covariance = np.linalg.inv(normal) * factor[:, None, None]
    centre = np.stack([np.bincount(window, w * p[:, i], count) / typical for i in (0, 1)], -1)
    terms[:, 0] += base
    return _Fit(terms, covariance, spread / per_px, centre, enough & (number > 0))


def _medians(values: np.ndarray, group: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Of every group; 0 for none. group rises."""
    if not len(values):
        return np.zeros(len(starts) - 1)
    ordered = values[np.lexsort((values, group))]
    middle = np.minimum((starts[:-1] + starts[1:]) // 2, len(values) - 1)
    return np.where(np.diff(starts) > 0, ordered[middle], 0.0)


def _continuous(fits: list[_Fit], kept: np.ndarray, surface: Surface, across: int, window_px: int) -> None:
    """Raises CalibrationError where neighbouring windows see places of the wall that are far apart: bits in wrong order."""
    is_kept = np.zeros(len(fits[0].enough), bool)
    is_kept[kept] = True
    jumps = pairs = 0
    for to, axis in ((1, 0), (across, 1)):
        first = kept[(kept + to < len(is_kept)) & ((kept % across < across - 1) | (axis == 1))]
        first = first[is_kept[first + to]]
        pairs += len(first)
        jumped = np.zeros(len(first), bool)
        for f, size in zip(fits, surface.resolution_px):
            slope = (f.terms[first, 1 + axis] + f.terms[first + to, 1 + axis]) / 2
            off = np.abs(f.terms[first + to, 0] - f.terms[first, 0] - 2 * slope)
            jumped |= off > max(JUMP_SHARE * size, 4.0) + np.abs(slope)
        jumps += np.count_nonzero(jumped)
    if pairs >= 20 and jumps > MOST_JUMPS * pairs:
        raise CalibrationError(
            f"surface {surface.name}: {jumps} of {pairs} neighbouring places of the picture show LED pixels that are far apart: the "
            "pictures are out of order, or the wall showed another pattern"
        )
