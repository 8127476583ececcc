"""Coarser bricks over finer ones, for LED pixels whose footprint is wider than a voxel. Made when a scene is put up.

A split cell gets a brick of its own from the bricks below it: density is averaged as density, so that a coarse voxel stops
as much light as the fine ones did, and colour is averaged by the density it belongs to. The march takes the first brick on
its way down whose voxel is fine enough for the footprint.
"""

import msgspec
import numpy as np

from ledvolume.scenes.bricks import CORNERS, VOXELS, Bricks

CHUNK = 256
FINE = 2 * VOXELS + 1


def with_mips(scene: Bricks) -> Bricks:
    """The scene with a brick in every split cell; a coarse brick's gradients are those of one of its children."""
    nodes = scene.nodes.copy()
    levels = [cells[nodes[cells, 0] == 0] for cells in _split_cells(nodes)]
    extra = sum(map(len, levels))
    bricks = np.concatenate([scene.bricks, np.zeros((extra, *scene.bricks.shape[1:]), np.uint8)])
    gradients = scene.gradients
    if scene.has_gradients:
        gradients = np.concatenate([gradients, np.zeros((extra, *gradients.shape[1:]), np.uint8)])
    made = len(scene.bricks)
    for cells in reversed(levels):
        for start in range(0, len(cells), CHUNK):
            part = cells[start : start + CHUNK]
            children = nodes[nodes[part, 1].astype(np.int64)[:, None] + np.arange(8), 0].astype(np.int64) - 1
            numbers = made + np.arange(len(part))
            bricks[numbers] = _averaged(bricks, children, scene.header)
            if scene.has_gradients:
                gradients[numbers] = gradients[children.max(1)]
            nodes[part, 0] = numbers + 1
            made += len(part)
    return msgspec.structs.replace(scene, nodes=nodes, bricks=bricks, gradients=gradients)


def _split_cells(nodes: np.ndarray) -> list[np.ndarray]:
    """Node numbers of split cells, by depth."""
    parents = np.flatnonzero(nodes[:, 1])
    is_child = np.zeros(len(nodes), bool)
    is_child[(nodes[parents, 1].astype(np.int64)[:, None] + np.arange(8)).ravel()] = True
    level, levels = parents[~is_child[parents]], []
    while len(level):
        levels.append(level)
        below = (nodes[level, 1].astype(np.int64)[:, None] + np.arange(8)).ravel()
        level = below[nodes[below, 1] > 0]
    return levels


def _averaged(bricks: np.ndarray, children: np.ndarray, header) -> np.ndarray:
    """children (n, 8), -1 where there is none → (n, 9, 9, 9, 4) uint8: (1, 2, 1) / 4 along each axis at every second corner."""
    low, high = header.log_density_range
    fine = np.zeros((len(children), FINE, FINE, FINE, 4), np.float32)
    for octant in range(8):
        x, y, z = (VOXELS * (octant >> axis & 1) for axis in range(3))
        here = np.flatnonzero(children[:, octant] >= 0)
        values = bricks[children[here, octant]].astype(np.float32) / 255
        density = np.where(values[..., 3:] > 0, np.exp(low + values[..., 3:] * (high - low)), 0)
        block = np.concatenate([values[..., :3] * density, density], -1)
        fine[here, z : z + CORNERS, y : y + CORNERS, x : x + CORNERS] = block
    for axis in (1, 2, 3):
        padded = np.concatenate([fine.take([0], axis), fine, fine.take([-1], axis)], axis)
        count = fine.shape[axis]
        before, middle, after = (padded.take(range(k, k + count, 2), axis) for k in (0, 1, 2))
        fine = (before + 2 * middle + after) / 4
    density = fine[..., 3:]
    colour = fine[..., :3] / np.maximum(density, 1e-20)
    a = np.where(density > 0, (np.log(np.maximum(density, 1e-20)) - low) / (high - low), 0)
    return (np.concatenate([colour, a], -1).clip(0, 1) * 255 + 0.5).astype(np.uint8)
