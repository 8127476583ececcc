"""Do matches agree with their neighbours? A wall is smooth and so is a lens: where a match should be, the matches around tell.

Every match is predicted by a quadratic in LED coordinates through its nearest neighbours on the surface, itself left out.
What lies off is not believed; how far the rest lies off says how large their sigma really is.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

NEIGHBOURS = 20
LEAST_NEIGHBOURS = 5  # an affine map has three unknowns: with two to spare one bad neighbour is noticed
LONELY = 6.0  # neighbours count within so many times the usual distance to the fourth nearest
OFF_SIGMAS = 5.0
OFF_LEAST_PX = 0.05  # what rounding leaves of perfect pictures is nobody's outlier
PASSES = 4
SIGMA_FLOOR_PX = 0.01


class Judged(NamedTuple):
    """sigma_px (n,): as the neighbours show it to be; NaN where a match is lonely. is_off (n,): farther off than believable."""

    sigma_px: np.ndarray
    is_lonely: np.ndarray
    is_off: np.ndarray


def judged(led_px: np.ndarray, picture_px: np.ndarray, sigma_px: np.ndarray) -> Judged:
    """Matches of one surface, (n, 2), (n, 2), (n,): sigma_px as far as it is known, its scale does not matter."""
    count = len(led_px)
    is_off, is_lonely = np.zeros(count, bool), np.ones(count, bool)
    if count <= LEAST_NEIGHBOURS:
        return Judged(sigma_px, is_lonely, is_off)
    weak = np.zeros(count)  # 0: fully believed as a neighbour
    bend = np.inf
    for _ in range(PASSES):
        from_neighbours, own, known, bend = _off(led_px, picture_px, sigma_px, weak, bend)
        is_lonely = ~known
        expected = np.sqrt(own**2 + sigma_px**2)
        off = np.linalg.norm(from_neighbours, axis=1) / expected
        typical = np.median(off[known]) / 1.177 if known.any() else 1.0  # the median of a Rayleigh distribution of σ = 1
        relative = np.where(known, off / np.maximum(typical, 1e-12), np.inf)
        is_off = known & (relative > OFF_SIGMAS) & (np.linalg.norm(from_neighbours, axis=1) > OFF_LEAST_PX)
        weak = np.where(known, np.maximum(relative / 2, 1) - 1, 10.0)
    good = known & ~is_off
    scale = typical * np.sqrt(np.mean(relative[good] ** 2) / 2) if good.any() else 1.0
    return Judged(np.maximum(sigma_px * scale, SIGMA_FLOOR_PX), is_lonely, is_off)


def _off(
    led_px: np.ndarray, picture_px: np.ndarray, sigma_px: np.ndarray, weak: np.ndarray, bend: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """How far each match is from what its neighbours say (n, 2), the sigma of what they say (n,), whether enough say it.

    bend: second derivatives of the picture that are usual here, picture px per LED px²; handed on, better known. At a border,
    where the neighbours lie on one side, it keeps the quadratic from going astray, and so from excusing what is off.
    """
    count = len(led_px)
    distance, near = cKDTree(led_px).query(led_px, min(NEIGHBOURS + 1, count))
    distance, near = distance[:, 1:], near[:, 1:]
    heard = distance <= LONELY * np.median(distance[:, min(3, distance.shape[1] - 1)])
    number = heard.sum(1)
    known = number >= LEAST_NEIGHBOURS
    size = np.maximum(np.where(heard, distance, 0).max(1), 1e-9)
    d = (led_px[near] - led_px[:, None]) / size[:, None, None]
    x, y = d[..., 0], d[..., 1]
    design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    weight = heard * np.exp(-2 * (d**2).sum(-1)) / (sigma_px[near] * (1 + weak[near])) ** 2
    ridge = np.full((count, 6), 1e-9) * np.maximum(weight.sum(1), 1e-12)[:, None]
    ridge[:, 3:] += (1 / np.maximum(bend * size**2, 1e-9) ** 2)[:, None]
    normal = np.einsum("nki,nk,nkj->nij", design, weight, design) + ridge[..., None] * np.eye(6)
    beside = picture_px[near] - picture_px[:, None]
    terms = np.linalg.solve(normal, np.einsum("nki,nk,nkc->nic", design, weight, beside))
    of_middle = np.linalg.solve(normal, np.broadcast_to(np.eye(6)[:, :1], (count, 6, 1)))[..., 0]
    said_by = np.einsum("ni,nki,nk->nk", of_middle, design, weight)  # how much of each neighbour is in the prediction
    own = np.sqrt(np.einsum("nk,nk->n", said_by**2, np.where(heard, sigma_px[near], 0) ** 2))
    surrounded = known & (number > 12) & (np.linalg.norm((heard[..., None] * d).sum(1), axis=1) < 0.2 * number)
    if surrounded.any():
        bends = np.abs(terms[surrounded, 3:]) / size[surrounded, None, None] ** 2
        bend = 3 * float(np.median(bends.max((1, 2))))
    return -terms[:, 0], own, known, bend
