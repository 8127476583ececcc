"""Density and colour at any points of a baked scene, in numpy: for plans and for doubts. Rays are what it is made for."""

import numpy as np

from ledvolume.scenes.bricks import EMPTY, GRID, VOXELS, Bricks

CHUNK = 1 << 17


def density_and_colour(scene: Bricks, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """points (n, 3) in field units → density per field unit (n,) float32, colour (n, 3) float32, display-encoded.

    From the finest brick that holds a point, without its colour's change with direction. 0 where there is no brick.
    """
    parts = [_values(scene, points[start : start + CHUNK]) for start in range(0, len(points), CHUNK)]
    value = np.concatenate(parts) if parts else np.zeros((0, 4), np.float32)
    low, high = scene.header.log_density_range
    return np.where(value[:, 3] > 0, np.exp(low + value[:, 3] * (high - low)), 0).astype(np.float32), value[:, :3]


def _values(scene: Bricks, points: np.ndarray) -> np.ndarray:
    """(n, 4) in 0..1 as the bricks have them, trilinear between corners."""
    header = scene.header
    x = points - np.asarray(header.centre)
    reach = np.abs(x).max(-1)
    cascade = np.maximum(np.frexp(reach / header.half_size)[1], 0)
    inside = np.flatnonzero(cascade < header.cascades)
    value, x, cascade = np.zeros((len(points), 4), np.float32), x[inside], cascade[inside]
    half_cube = np.ldexp(header.half_size, cascade)
    cell = 2 * half_cube / GRID
    index = np.floor((x + half_cube[:, None]) / cell[:, None]).astype(int).clip(0, GRID - 1)
    low = index * cell[:, None] - half_cube[:, None]
    node = ((cascade * GRID + index[:, 2]) * GRID + index[:, 1]) * GRID + index[:, 0]
    while len(split := np.flatnonzero(scene.nodes[node, 1])):
        cell[split] /= 2
        upper = x[split] >= low[split] + cell[split, None]
        low[split] += upper * cell[split, None]
        node[split] = scene.nodes[node[split], 1] + upper @ np.array([1, 2, 4])
    first = scene.nodes[node, 0].astype(np.int64)
    has = np.flatnonzero((first > 0) & (first < EMPTY))
    at = ((x[has] - low[has]) / cell[has, None] * VOXELS).clip(0, VOXELS)
    corner = np.minimum(at.astype(int), VOXELS - 1)
    f = (at - corner).astype(np.float32)
    total = np.zeros((len(has), 4), np.float32)
    for step in np.ndindex(2, 2, 2):
        weight = np.where(step, f, 1 - f).prod(-1)
        i, j, k = (corner + step).T
        total += weight[:, None] * scene.bricks[first[has] - 1, k, j, i]
    value[inside[has]] = total / 255
    return value
