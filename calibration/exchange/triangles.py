"""Where a triangulated mesh is at given UVs: barycentric interpolation, triangles found through bins of the UV square."""

from typing import NamedTuple

import numpy as np

MOST_BINS = 64  # in each direction
OUTSIDE = 1e-6  # barycentric coordinates down to minus this count as inside
NEAR = 0.02  # of the UV square: points in no triangle are taken from the nearest one that is not farther
MOST_NEAR = 256
MOST_AT_ONCE = 4_000_000


class Located(NamedTuple):
    """Triangles: uv (n, 3, 2) within 0 to 1, points (n, 3, 3), and, for every bin, which triangles reach into it."""

    uv: np.ndarray
    points_m: np.ndarray
    bins: list[np.ndarray]
    across: int

    def bin_of(self, uv: np.ndarray) -> np.ndarray:
        """Which bin UVs (..., 2) are in."""
        return np.clip((uv * self.across).astype(int), 0, self.across - 1) @ (1, self.across)

    @classmethod
    def of(cls, sizes: np.ndarray, points_m: np.ndarray, uv: np.ndarray) -> "Located":
        """Quads are cut along the diagonal from their first corner. Raises ValueError where no triangle has an area."""
        starts = np.cumsum(sizes) - sizes
        fans = [starts[:, None] + (0, 1, 2), starts[sizes == 4][:, None] + (0, 2, 3)]
        corners = np.concatenate(fans)
        triangles = uv[corners]
        has_area = np.abs(_twice_area(triangles)) > 1e-14
        triangles, points_m = triangles[has_area], points_m[corners[has_area]]
        if not len(triangles):
            raise ValueError("no face has an area in UV")
        bins = int(np.clip(np.sqrt(len(triangles)) / 2, 2, MOST_BINS))
        low, high = (np.clip((f(triangles, 1) * bins).astype(int), 0, bins - 1) for f in (np.min, np.max))
        reach = high - low + 1
        count = reach[:, 0] * reach[:, 1]
        which = np.repeat(np.arange(len(triangles)), count)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        across = reach[which, 0]
        index = (low[which, 1] + nth // across) * bins + low[which, 0] + nth % across
        order = np.argsort(index, kind="stable")
        ends = np.searchsorted(index[order], np.arange(1, bins * bins))
        return cls(triangles, points_m, np.split(which[order], ends), bins)


def positions_at(located: Located, uv: np.ndarray) -> np.ndarray:
    """(..., 3) at UVs (..., 2). Raises ValueError where the mesh leaves them uncovered."""
    flat = uv.reshape(-1, 2)
    out = np.full((len(flat), 3), np.nan)
    index = located.bin_of(flat)
    order = np.argsort(index, kind="stable")
    for points in np.split(order, np.flatnonzero(np.diff(index[order])) + 1):
        triangles = located.bins[index[points[0]]]
        step = max(1, MOST_AT_ONCE // max(len(triangles), 1))
        for some in (points[i : i + step] for i in range(0, len(points), step)) if len(triangles) else ():
            out[some] = _inside(located, triangles, flat[some])
    missing = np.flatnonzero(np.isnan(out[:, 0]))
    if len(missing) <= MOST_NEAR + len(flat) // 4:
        for i in missing:
            out[i] = _nearest(located, flat[i])
    if np.isnan(out).any():
        share = np.isnan(out[:, 0]).mean()
        raise ValueError(f"UVs that leave {max(share, 0.001):.1%} of their rectangle uncovered")
    return out.reshape(*uv.shape[:-1], 3)


def _inside(located: Located, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Positions (n, 3) in the triangle that each UV is deepest in; NaN where it is in none."""
    weights = _barycentric(located.uv[triangles], uv)  # (n, triangles, 3)
    depth = weights.min(-1)
    best = depth.argmax(1)
    rows = np.arange(len(uv))
    found = np.einsum("nk,nkx->nx", weights[rows, best], located.points_m[triangles[best]])
    found[depth[rows, best] < -OUTSIDE] = np.nan
    return found


def _nearest(located: Located, uv: np.ndarray) -> np.ndarray:
    """Extended from the nearest triangle, for the fringes of a mesh whose border is not quite straight."""
    around = located.bin_of(uv + NEAR * np.array([[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1)]))
    triangles = np.unique(np.concatenate([located.bins[i] for i in set(around.tolist())]))
    if not len(triangles):
        return np.full(3, np.nan)
    weights = _barycentric(located.uv[triangles], uv[None])[0]
    held = np.clip(weights, 0, None)
    held /= held.sum(-1, keepdims=True)
    away = np.linalg.norm(np.einsum("tk,tkx->tx", held, located.uv[triangles]) - uv, axis=-1)
    best = away.argmin()
    return weights[best] @ located.points_m[triangles[best]] if away[best] <= NEAR else np.full(3, np.nan)


def _barycentric(triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(n, triangles, 3)."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    twice = _twice_area(triangles)
    to_a = uv[:, None] - a[None]
    ab, ac = b - a, c - a
    second = (to_a[..., 0] * ac[:, 1] - to_a[..., 1] * ac[:, 0]) / twice
    third = (ab[:, 0] * to_a[..., 1] - ab[:, 1] * to_a[..., 0]) / twice
    return np.stack([1 - second - third, second, third], -1)


def _twice_area(triangles: np.ndarray) -> np.ndarray:
    a, b, c = np.moveaxis(triangles, 1, 0)
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
