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
    for _ in range(PASSES):
        from_neighbours, own, known = _off(led_px, picture_px, sigma_px, weak)
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
    led_px: np.ndarray, picture_px: np.ndarray, sigma_px: np.ndarray, weak: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far each match is from what its neighbours say (n, 2), the sigma of what they say (n,), and whether enough say it."""
    count = len(led_px)
    distance, near = cKDTree(led_px).query(led_px, min(NEIGHBOURS + 1, count))
    distance, near = distance[:, 1:], near[:, 1:]
    reach = LONELY * np.median(distance[:, min(3, distance.shape[1] - 1)])
    heard = distance <= reach
    known = heard.sum(1) >= LEAST_NEIGHBOURS
    size = np.maximum(np.where(heard, distance, 0).max(1), 1e-9)[:, None]
    d = (led_px[near] - led_px[:, None]) / size[..., None]
    x, y = d[..., 0], d[..., 1]
    design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    weight = heard * np.exp(-2 * (d**2).sum(-1)) / (sigma_px[near] * (1 + weak[near])) ** 2
    normal = np.einsum("nki,nk,nkj->nij", design, weight, design)
    # with few neighbours no bend: as if it were known to be 0 within what a tenth of the neighbours' weight says
    few = np.where(heard.sum(1) < 10, 1e6, 1e-3) * np.maximum(weight.sum(1), 1e-12)
    normal += few[:, None, None] * np.diag([0, 0, 0, 1, 1, 1]) + 1e-9 * np.maximum(weight.sum(1), 1e-12)[:, None, None] * np.eye(
        6
    )
    of_middle = np.linalg.solve(normal, np.broadcast_to(np.eye(6)[:, :1], (count, 6, 1)))[..., 0]
    taken = np.einsum("ni,nki,nk->nk", of_middle, design, weight)  # what each neighbour has to say in the prediction
    taken_off = picture_px[near] - picture_px[:, None]
    said = np.einsum("nk,nkc->nc", taken, taken_off)
    own = np.sqrt(np.einsum("nk,nk->n", taken**2, np.where(heard, sigma_px[near], 0) ** 2))
    return -said, own, known
