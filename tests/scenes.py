"""Small scenes made in the test, for comparing the shader with its twin."""

import numpy as np

from ledvolume.scenes.bricks import CORNERS, EMPTY, GRID, VERSION, VOXELS, Bricks, Header, skip_distances
from ledvolume.scenes.octree import cell_boxes, cells_of, node_table


def random_scene(seed: int = 0, has_gradients: bool = True, cascades: int = 3, occupancy: float = 0.03) -> Bricks:
    """Noise: random cells of every cascade hold one of 500 random bricks; half are split, up to three times.

    Neighbours do not fit together, so a march that takes one wrong cell, brick, corner or step is seen.
    """
    rng = np.random.default_rng(seed)
    bricks = 500
    levels = []
    for cascade in range(cascades):
        occupied = rng.random((GRID,) * 3) < occupancy
        inside = np.zeros_like(occupied)
        if cascade:
            inside[GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4] = True
        words = np.where(occupied, rng.integers(1, bricks + 1, occupied.shape), EMPTY | skip_distances(occupied, inside))
        levels.append(np.stack([words.ravel(), np.zeros(GRID**3)], -1).astype(np.uint32))
    levels = [np.concatenate(levels)]
    first_child = len(levels[0])
    for _ in range(3):
        cells = levels[-1]
        split = np.flatnonzero((cells[:, 0] < EMPTY) & (rng.random(len(cells)) < 0.5))
        cells[split, 1] = first_child + 8 * np.arange(len(split))
        cells[split, 0] *= rng.random(len(split)) < 0.8  # some have nothing to show from afar
        children = np.zeros((8 * len(split), 2), np.uint32)
        children[:, 0] = rng.integers(1, bricks + 1, len(children)) * (rng.random(len(children)) < 0.6)
        levels.append(children)
        first_child += len(children)
    values = rng.integers(0, 256, (bricks, 9, 9, 9, 4), dtype=np.uint8)
    # Log density 0 to 7 (opaque within a brick), a quarter of the bricks down to -2, a quarter with nothing at some corners.
    values[..., 3] = values[..., 3] // 2 + 110
    values[: bricks // 4, ..., 3] -= 40
    values[bricks // 4 : bricks // 2, ..., 3] *= rng.random((bricks // 4, 9, 9, 9)) < 0.7
    gradients = rng.integers(0, 256, (bricks if has_gradients else 0, 3, 5, 5, 5, 3), dtype=np.uint8)
    header = Header(VERSION, (0.1, -0.2, 0.3), 1.0, cascades, (-6.0, 8.0), 0.5, (-0.1,) * 3, (0.1,) * 3, 0.002, "random", "")
    return Bricks(header, np.concatenate(levels), values, gradients, rng.random((16, 32, 3)).astype(np.float16))


def random_rays(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origins near the middle, directions all round, footprints from none to coarse."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return rng.uniform(-0.2, 0.2, (count, 3)), directions, rng.choice([0.0, 0.001, 0.01, 0.05], count)


def plane_scene(distance: float = 1.6, extent: float = 1.1, half_size: float = 1.0, depth: int = 1) -> Bricks:
    """An opaque square y = distance, |x| and |z| < extent, with a smooth pattern; everything else is empty. Two cascades.

    The pattern is sines of 0.11 to 0.3 units, so that a wall can show it and a shift of it is seen.
    """
    cascades = 2
    at = np.linspace(-extent, extent, 2 * GRID << depth)
    x, z = np.meshgrid(at, at)
    points = np.stack([x, np.full_like(x, distance + 1e-4), z], -1).reshape(-1, 3)
    keys = np.unique(cells_of(points, np.full(len(points), depth), half_size, cascades))
    low, side = cell_boxes(keys, half_size)
    corner = np.arange(CORNERS) / VOXELS
    gz, gy, gx = np.meshgrid(corner, corner, corner, indexing="ij")
    place = low[:, None, None, None] + np.stack([gx, gy, gz], -1) * side[:, None, None, None, None]
    x, y, z = np.moveaxis(place, -1, 0)
    waves = [np.sin(2 * np.pi * (a * x + b * z)) for a, b in ((9, 0), (0, 7), (4, 4), (-3.3, 5))]
    rgb = np.stack([0.5 + 0.2 * waves[0] + 0.2 * waves[1], 0.5 + 0.3 * waves[2] + 0.1 * waves[1], 0.5 + 0.3 * waves[3]], -1)
    # log density rises from nothing to 9 (opaque within a thousandth) over two voxels behind the plane
    solid = np.clip((y - distance) / (2 * side[:, None, None, None] / VOXELS), 0, 1)
    values = np.round(np.concatenate([rgb, solid[..., None]], -1) * 255).astype(np.uint8)
    header = Header(VERSION, (0.0,) * 3, half_size, cascades, (-6.0, 9.0), 0.5, (-0.2,) * 3, (0.2,) * 3, 0.002, "plane", "")
    gradients = np.zeros((0, 3, 5, 5, 5, 3), np.uint8)
    return Bricks(header, node_table(keys, cascades), values, gradients, np.full((8, 16, 3), 0.2, np.float16))
