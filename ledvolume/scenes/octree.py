"""Cells of the baked scene while it is made: sets of cells as integer keys, and the node table that the shader walks.

A cell has a cascade c, a depth k and a place (x, y, z) among GRID·2^k cells along each axis of the cascade's cube. Keys
pack place in 18 bits an axis, depth and cascade above them, so a set of cells is a sorted int64 array.
"""

import numpy as np

from ledvolume.scenes.bricks import EMPTY, GRID, MOST_DEPTH, VOXELS, skip_distances

_BITS = 18
_MASK = (1 << _BITS) - 1


def pack_keys(cascade: np.ndarray, depth: np.ndarray, place: np.ndarray) -> np.ndarray:
    """cascade (n,), depth (n,), place (n, 3) → keys (n,) int64."""
    place = place.astype(np.int64)
    inner = place[:, 0] | place[:, 1] << _BITS | place[:, 2] << (2 * _BITS)
    return inner | np.asarray(depth, np.int64) << (3 * _BITS) | np.asarray(cascade, np.int64) << (3 * _BITS + 4)


def unpack_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse of `pack_keys`."""
    place = np.stack([keys & _MASK, keys >> _BITS & _MASK, keys >> (2 * _BITS) & _MASK], -1)
    return keys >> (3 * _BITS + 4), keys >> (3 * _BITS) & 15, place


def parents(keys: np.ndarray) -> np.ndarray:
    """The cells one depth up."""
    cascade, depth, place = unpack_keys(keys)
    return pack_keys(cascade, depth - 1, place >> 1)


def cell_boxes(keys: np.ndarray, half_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest corners (n, 3) and side lengths (n,), float64, relative to the cascades' centre."""
    cascade, depth, place = unpack_keys(keys)
    half_cube = half_size * 2.0**cascade
    side = 2 * half_cube / (GRID << depth)
    return place * side[:, None] - half_cube[:, None], side


def cells_of(points: np.ndarray, depths: np.ndarray, half_size: float, cascades: int) -> np.ndarray:
    """Keys of the cells of wanted depths that hold the points; points beyond the last cascade are left out."""
    reach = np.abs(points).max(-1)
    cascade = np.maximum(0, np.floor(np.log2(np.maximum(reach, 1e-12) / half_size)).astype(int) + 1)
    kept = cascade < cascades
    cascade, depths, points = cascade[kept], depths[kept], points[kept]
    half_cube = half_size * 2.0**cascade
    across = GRID << depths
    place = np.floor((points + half_cube[:, None]) / (2 * half_cube / across)[:, None]).astype(np.int64)
    return pack_keys(cascade, depths, place.clip(0, across[:, None] - 1))


def depth_for(points: np.ndarray, voxels: np.ndarray, half_size: float, cascades: int) -> np.ndarray:
    """Depth (n,) at which a voxel is at most the wanted size, 0..MOST_DEPTH."""
    reach = np.abs(points).max(-1)
    cascade = np.maximum(0, np.floor(np.log2(np.maximum(reach, 1e-12) / half_size)).astype(int) + 1).clip(0, cascades - 1)
    top_voxel = 2 * half_size * 2.0**cascade / GRID / VOXELS
    return np.ceil(np.log2(top_voxel / voxels) - 1e-9).astype(int).clip(0, MOST_DEPTH)


def node_table(leaves: np.ndarray, cascades: int) -> np.ndarray:
    """Nodes (n, 2) uint32 as scenes/bricks.py has them, for leaves (b,) of which none lies in another; leaf i is brick i."""
    cascade, depth, place = unpack_keys(leaves)
    blocks, first = [], cascades * GRID**3
    top = np.zeros((cascades, GRID, GRID, GRID, 2), np.uint32)
    inner = _with_ancestors(leaves, depth)
    table_of: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for k in range(int(depth.max(initial=0)) + 1):
        level = inner[k]
        children = first + 8 * np.arange(len(level), dtype=np.int64)
        table_of[k] = (level, children)
        blocks.append(np.zeros((8 * len(level), 2), np.uint32))
        first += 8 * len(level)
    tail = np.concatenate(blocks) if blocks else np.zeros((0, 2), np.uint32)
    base = cascades * GRID**3

    def place_of(keys: np.ndarray, k: int) -> np.ndarray:
        c, _, p = unpack_keys(keys)
        if k == 0:
            return ((c * GRID + p[:, 2]) * GRID + p[:, 1]) * GRID + p[:, 0]
        level, children = table_of[k - 1]
        octant = (p & 1) @ np.array([1, 2, 4])
        return children[np.searchsorted(level, parents(keys))] + octant

    flat = np.concatenate([top.reshape(-1, 2), tail])
    for k in range(int(depth.max(initial=0)) + 1):
        at = depth == k
        flat[place_of(leaves[at], k), 0] = np.flatnonzero(at) + 1
        level, children = table_of[k]
        if len(level):
            flat[place_of(level, k), 1] = children
    cells = flat[:base].reshape(cascades, GRID, GRID, GRID, 2)
    for c in range(cascades):
        occupied = cells[c].any(-1)
        covered = np.zeros_like(occupied)
        if c:
            covered[GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4] = True
        distance = skip_distances(occupied, covered)
        cells[c, ..., 0] = np.where(occupied, cells[c, ..., 0], EMPTY | distance)
    return flat


def _with_ancestors(leaves: np.ndarray, depth: np.ndarray) -> dict[int, np.ndarray]:
    """Depth → sorted keys of the cells of that depth that are split."""
    deepest = int(depth.max(initial=0))
    split = {deepest: np.zeros(0, np.int64)}
    below = np.zeros(0, np.int64)
    for k in range(deepest, 0, -1):
        below = np.unique(parents(np.concatenate([leaves[depth == k], below])))
        split[k - 1] = below
    return split


def leaves_of(nodes: np.ndarray, cascades: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (b,) and brick numbers (b,) of a node table: the inverse of `node_table`."""
    place = np.stack(np.unravel_index(np.arange(cascades * GRID**3), (cascades, GRID, GRID, GRID)), -1)
    keys = pack_keys(place[:, 0], np.zeros(len(place), np.int64), place[:, :0:-1])
    at = np.arange(len(keys))
    found_keys, found_bricks = [], []
    offsets = np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)])
    while len(at):
        first, child = nodes[at, 0], nodes[at, 1].astype(np.int64)
        is_brick = (first > 0) & (first < EMPTY)
        found_keys.append(keys[is_brick])
        found_bricks.append(first[is_brick].astype(np.int64) - 1)
        split = child > 0
        cascade, depth, p = unpack_keys(keys[split])
        eight = (p[:, None] * 2 + offsets).reshape(-1, 3)
        keys = pack_keys(np.repeat(cascade, 8), np.repeat(depth + 1, 8), eight)
        at = (child[split, None] + np.arange(8)).ravel()
    return np.concatenate(found_keys), np.concatenate(found_bricks)
