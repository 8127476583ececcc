"""Small scenes made in the test, for comparing the shader with its twin."""

import numpy as np

from ledvolume.scenes.bricks import CORNERS, EMPTY, GRID, VERSION, VOXELS, Bricks, Header, skip_distances
from ledvolume.scenes.octree import cell_boxes, cells_of, node_table


def random_scene(seed: int = 0, has_gradients: bool = True, cascades: int = 3) -> Bricks:
    """Random brick values in a few hundred random cells of every cascade, some of them split once or twice."""
    rng = np.random.default_rng(seed)
    top = GRID**3
    nodes = np.zeros((cascades * top, 2), np.uint32)
    extra, brick = [], 0
    for cascade in range(cascades):
        occupied = rng.random((GRID,) * 3) < 0.002
        inside = np.zeros_like(occupied)
        if cascade:
            inside[GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4] = True
        words = np.where(occupied, 0, EMPTY | skip_distances(occupied, inside)).astype(np.uint32)
        nodes[cascade * top : (cascade + 1) * top, 0] = words.ravel()
        for cell in np.flatnonzero(occupied) + cascade * top:
            brick += 1
            nodes[cell] = brick, 0
            if rng.random() < 0.5:
                nodes[cell, 1] = len(nodes) + len(extra)
                children = np.zeros((8, 2), np.uint32)
                for i in np.flatnonzero(rng.random(8) < 0.6):
                    brick += 1
                    children[i, 0] = brick
                extra.extend(children)
    nodes = np.concatenate([nodes, np.array(extra, np.uint32).reshape(-1, 2)])
    values = rng.integers(0, 256, (brick, 9, 9, 9, 4), dtype=np.uint8)
    values[..., 3] = values[..., 3] // 2 + 60
    gradients = rng.integers(0, 256, (brick if has_gradients else 0, 3, 5, 5, 5, 3), dtype=np.uint8)
    header = Header(VERSION, (0.1, -0.2, 0.3), 1.0, cascades, (-6.0, 8.0), 0.5, (-0.1,) * 3, (0.1,) * 3, 0.002, "random", "")
    return Bricks(header, nodes, values, gradients, rng.random((16, 32, 3)).astype(np.float16))


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
