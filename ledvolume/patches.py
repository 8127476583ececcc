"""Bilinear patches: points on them, and where rays from one eye meet them. What PositionMaps are made of (stage.py).

A patch between the corners a, b above and c, d below is P(u, v) = (1 - v)((1 - u) a + u b) + v ((1 - u) c + u d). A ray meets
it where P - eye is a multiple of its direction: where it meets the line of the patch at u, from the upper edge to the lower
one. They do not pass each other by where a quadratic in u is 0 (Reshetov, "Cool patches", Ray Tracing Gems, chapter 8), whose
coefficients are linear in the direction: with one eye they are three dot products a ray.
"""

import math

import numpy as np

ON_THE_BORDER = 1e-9  # of a patch: rays through the border of two meet one of them


def patch_points(corners: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Points (..., 3) of patches (rows, columns, 2, 2, 3) at (across, down) from the top left, 1 a patch. On the border of two,
    the right or the lower one's."""
    rows, columns = corners.shape[:2]
    column, row = (np.floor(v).clip(0, n - 1) for v, n in ((across, columns), (down, rows)))
    u, v = (across - column)[..., None], (down - row)[..., None]
    there = np.isfinite(column) & np.isfinite(row)
    chosen = corners[np.where(there, row, 0).astype(int), np.where(there, column, 0).astype(int)]
    upper = chosen[..., 0, 0, :] * (1 - u) + chosen[..., 0, 1, :] * u
    lower = chosen[..., 1, 0, :] * (1 - u) + chosen[..., 1, 1, :] * u
    return upper * (1 - v) + lower * v


def patch_coordinates(corners: np.ndarray, eye: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Where rays (n, 3) from an eye first meet patches (rows, columns, 2, 2, 3), from either side: (n, 2), the inverse of
    patch_points; NaN where they meet none. Directions need not be unit."""
    rows, columns = corners.shape[:2]
    found, nearest = np.full((len(directions), 2), np.nan), np.full(len(directions), np.inf)
    seen = corners - eye
    lengths = np.linalg.norm(directions, axis=-1)
    blocks = [(0, rows, 0, columns, np.flatnonzero(lengths > 0))]
    while blocks:
        top, bottom, left, right, rays = blocks.pop()
        rays = _within_cone(seen[top:bottom, left:right].reshape(-1, 3), directions, lengths, rays)
        if not len(rays):
            continue
        if bottom - top == right - left == 1:
            uv, distance = _hits(seen[top, left], directions[rays])
            nearer = distance < nearest[rays]
            found[rays[nearer]] = uv[nearer] + (left, top)
            nearest[rays[nearer]] = distance[nearer]
        elif bottom - top > right - left:
            middle = (top + bottom) // 2
            blocks += [(top, middle, left, right, rays), (middle, bottom, left, right, rays)]
        else:
            middle = (left + right) // 2
            blocks += [(top, bottom, left, middle, rays), (top, bottom, middle, right, rays)]
    return found


def _within_cone(points: np.ndarray, directions: np.ndarray, lengths: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Those of the rays that may meet patches between these points (seen from the eye): they lie in a cone around them, which
    holds all that is between them if it is narrower than a half space."""
    away = np.linalg.norm(points, axis=-1)
    if away.min() == 0:
        return rays
    units = points / away[:, None]
    axis = units.sum(0)
    axis /= np.linalg.norm(axis) or 1.0
    cosine = (units @ axis).min()
    if cosine <= 1e-6:
        return rays
    widened = math.cos(min(math.acos(min(cosine, 1.0)) * (1 + 1e-6) + 1e-7, math.pi / 2))
    return rays[directions[rays] @ axis >= widened * lengths[rays]]


def _hits(corners: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one patch (2, 2, 3) seen from the eye: (u, v) (n, 2) and the distance along the ray (n,), in directions; inf: missed."""
    (a, b), (c, d) = corners
    left, right = c - a, d - b
    constant = directions @ np.cross(left, a)
    quadratic = directions @ np.cross(d - c, b - a)
    linear = directions @ np.cross(right, b) - constant - quadratic
    uv, nearest = np.full((len(directions), 2), np.nan), np.full(len(directions), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(linear * linear - 4 * quadratic * constant)
        stable = -0.5 * (linear + np.copysign(root, linear))
        for u in (stable / quadratic, constant / stable):
            upper, across = a + u[:, None] * (b - a), left + u[:, None] * (right - left)
            normal = np.cross(across, directions)
            v = -(np.cross(upper, directions) * normal).sum(-1) / (normal * normal).sum(-1)
            hit = upper + v[:, None] * across
            distance = (hit * directions).sum(-1) / (directions * directions).sum(-1)
            is_on = (np.abs(u - 0.5) <= 0.5 + ON_THE_BORDER) & (np.abs(v - 0.5) <= 0.5 + ON_THE_BORDER)
            nearer = is_on & (distance > 0) & (distance < nearest)
            uv[nearer] = np.stack([u, v], -1)[nearer].clip(0, 1)
            nearest[nearer] = distance[nearer]
    return uv, nearest
