"""The slow twin: in numpy, step by step, what the shaders do. For tests and for doubts.

`march` is shaders/field_bricks.glsl, `wall` is shaders/wall.glsl.
"""

import numpy as np

from ledvolume.camera import Camera
from ledvolume.colour import linear_from_srgb
from ledvolume.frustum import Footprint, inner_weight
from ledvolume.render.brick_field import CONSTANTS
from ledvolume.render.renderer import OUTER_ACROSS, QUALITIES, REFINEMENT_CLASSES, Place, Quality
from ledvolume.scenes.bricks import EMPTY, GRID, VOXELS, Bricks
from ledvolume.stage import WallTile, rays_through, surface_points


def trilinear(values: np.ndarray, index: np.ndarray, at: np.ndarray) -> np.ndarray:
    """values (b, d, h, w, c) at corner coordinates at (n, 3) = x y z of bricks index (n,): (n, c) float32."""
    size = np.array(values.shape[3:0:-1])
    low = np.minimum(np.floor(at).astype(int), size - 2).clip(0)
    f = (at - low).astype(np.float32)
    total = np.zeros((len(at), values.shape[-1]), np.float32)
    for corner in range(8):
        step = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
        weight = np.where(step, f, 1 - f).prod(-1)
        x, y, z = (low + step).T
        total += weight[:, None] * values[index, z, y, x].astype(np.float32)
    return total


def exit_distance(origin: np.ndarray, inverse: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Distance (n,) at which rays leave boxes, for rays that start inside."""
    return np.maximum((low - origin) * inverse, (high - origin) * inverse).min(-1)


def far_colour(scene: Bricks, direction: np.ndarray) -> np.ndarray:
    """Bilinear in the equirectangular map, wrapping around the horizon, (n, 3) float32."""
    height, width = scene.far.shape[:2]
    x = (np.arctan2(direction[:, 1], direction[:, 0]) / (2 * np.pi) + 0.5) * width - 0.5
    y = np.arctan2(np.hypot(direction[:, 0], direction[:, 1]), direction[:, 2]) / np.pi * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    rows = [y0.clip(0, height - 1), (y0 + 1).clip(0, height - 1)]
    columns = [x0 % width, (x0 + 1) % width]
    far = scene.far.astype(np.float32)
    upper = far[rows[0], columns[0]] * (1 - fx) + far[rows[0], columns[1]] * fx
    lower = far[rows[1], columns[0]] * (1 - fx) + far[rows[1], columns[1]] * fx
    return upper * (1 - fy) + lower * fy


def march(
    scene: Bricks,
    origins: np.ndarray,
    directions: np.ndarray,
    spreads: np.ndarray,
    quality: Quality = QUALITIES["show"],
    near_distance: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) as composited and depths (n,), -1 where nothing was met.

    origins (n, 3) are relative to the header's centre, in field units; directions unit; spreads: footprint radius per unit.
    """
    header = scene.header
    o, d, spreads = (np.asarray(given, np.float32) for given in (origins, directions, spreads))
    safe = np.where(np.abs(d) < 1e-12, np.float32(1e-12), d)
    inverse = 1 / safe
    count = len(o)
    t = np.full(count, near_distance, np.float32)
    through, depth = np.ones(count, np.float32), np.full(count, -1.0, np.float32)
    colour = np.zeros((count, 3), np.float32)
    outermost = header.half_size * 2.0 ** (header.cascades - 1)
    low_density, high_density = header.log_density_range
    opaque, epsilon = CONSTANTS["MIN_TRANSMITTANCE"], np.float32(CONSTANTS["CELL_EPSILON"])
    alive = np.arange(count)
    for _ in range(CONSTANTS["MAX_PASSES"]):
        x = o[alive] + d[alive] * t[alive, None]
        reach = np.abs(x).max(-1)
        going = (reach < outermost) & (through[alive] > opaque)
        alive, x, reach = alive[going], x[going], reach[going]
        if len(alive) == 0:
            break
        cascade = np.frexp(reach / np.float32(header.half_size))[1].clip(0, header.cascades - 1)
        half_cube = np.ldexp(np.float32(header.half_size), cascade)
        cell = half_cube * 2 / GRID
        index = np.floor((x + half_cube[:, None]) / cell[:, None]).astype(int).clip(0, GRID - 1)
        node = scene.nodes[((cascade * GRID + index[:, 2]) * GRID + index[:, 1]) * GRID + index[:, 0]].copy()
        low = index * cell[:, None] - half_cube[:, None]
        low = low.astype(np.float32)

        empty = node[:, 0] >= EMPTY
        wide = np.where(empty, node[:, 0] - EMPTY, 0)[:, None] * cell[:, None]
        near_side = np.maximum(low - wide, -half_cube[:, None])
        far_side = np.minimum(low + cell[:, None] + wide, half_cube[:, None])
        leave = np.maximum(t[alive], exit_distance(o[alive], inverse[alive], near_side, far_side)) + cell * epsilon

        fine_enough = VOXELS * np.float32(quality.pixels_per_voxel) * spreads[alive] * t[alive]
        while np.any(split := ~empty & (node[:, 1] != 0) & ((node[:, 0] == 0) | (cell > fine_enough))):
            cell = np.where(split, cell * np.float32(0.5), cell)
            upper = (x >= low + cell[:, None]) & split[:, None]
            low = low + upper * cell[:, None]
            child = node[:, 1] + upper @ np.array([1, 2, 4])
            node[split] = scene.nodes[child[split]]
        inside = np.maximum(t[alive], exit_distance(o[alive], inverse[alive], low, low + cell[:, None])) + cell * epsilon
        leave = np.where(empty, leave, inside)

        has_brick = np.flatnonzero(~empty & (node[:, 0] != 0))
        if len(has_brick):
            rays, brick = alive[has_brick], node[has_brick, 0].astype(int) - 1
            voxel, base = cell[has_brick] / VOXELS, low[has_brick]
            step = voxel * np.float32(quality.step_voxels * CONSTANTS["STEP_STRETCH"])
            start, end, shift = t[rays].copy(), leave[has_brick], o[rays] - base
            while len(live := np.flatnonzero((start < end) & (through[rays] > opaque))):
                ray, s, dt = rays[live], start[live], np.minimum(step, end - start)[live]
                at = (shift[live] + d[ray] * (s + np.float32(0.5) * dt)[:, None]) / voxel[live, None]
                place = at.clip(0, VOXELS)
                value = trilinear(scene.bricks, brick[live], place) / 255
                density = np.exp(low_density + value[:, 3] * (high_density - low_density))
                density = np.where(value[:, 3] <= 0, 0, density)
                alpha = 1 - np.exp(-density * dt)
                weight = through[ray] * alpha
                rgb = value[:, :3]
                if scene.has_gradients:
                    point = base[live] + place * voxel[live, None]
                    turn = d[ray] - point / np.linalg.norm(point, axis=-1, keepdims=True)
                    change = np.zeros_like(rgb)
                    for axis in range(3):
                        slope = trilinear(scene.gradients[:, axis], brick[live], place / 2) / 255 * 2 - 1
                        change += slope * turn[:, axis : axis + 1]
                    shaded = (rgb + change * header.gradient_range).clip(0, 1)
                    rgb = np.where((weight > CONSTANTS["MIN_GRADIENT_WEIGHT"])[:, None], shaded, rgb)
                colour[ray] += weight[:, None] * rgb
                through[ray] *= 1 - alpha
                met = (depth[ray] < 0) & (through[ray] < 0.5)
                depth[ray[met]] = (s + 0.5 * dt)[met]
                start[live] = s + step[live]
        t[alive] = leave
    rest = through > opaque
    colour[rest] += through[rest, None] * far_colour(scene, safe[rest])
    colour[~rest] /= (1 - through[~rest])[:, None]
    return colour, depth


def subpixels(across: int) -> np.ndarray:
    """Offsets (across², 2) from a pixel's centre in the order in which they are sampled: the middle first."""
    steps = (np.arange(across) + 0.5) / across - 0.5
    return np.roll(np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2), -(across**2 // 2), axis=0)


def wall(
    tile: WallTile, eye_m: np.ndarray, place: Place, footprint: Footprint, camera: Camera, outer_steps: int, quality: Quality
) -> np.ndarray:
    """Linear light of a tile's LED pixels before exposure, and the weight of the inner picture: (H, W, 4).

    eye_m: the stage's, for outside the footprint. outer_steps: as in frame.FrameRequest.
    """
    (x, y), (width, height) = tile.offset_px, tile.resolution_px
    columns, rows = np.meshgrid(x + np.arange(width), y + np.arange(height))
    field_from_stage, rotation = place.field_from_stage.matrix(), place.field_from_stage.pose.matrix()[:3, :3]

    def seen_from(eye_m: np.ndarray, chosen: np.ndarray, offset: np.ndarray) -> np.ndarray:
        at = columns[chosen] + 0.5 + offset[0], rows[chosen] + 0.5 + offset[1]
        directions, spreads = rays_through(tile.surface, *at, eye_m)
        origin = field_from_stage[:3, :3] @ eye_m + field_from_stage[:3, 3] - place.scene.header.centre
        origins = np.broadcast_to(origin, directions.shape)
        near = place.near_m * place.field_from_stage.scale
        return linear_from_srgb(march(place.scene, origins, directions @ rotation.T, spreads, quality, near)[0])

    weight = inner_weight(camera, footprint, surface_points(tile.surface, columns + 0.5, rows + 0.5))
    inner, outer = np.zeros((height, width, 3)), np.zeros((height, width, 3))
    for offset in subpixels(quality.inner_across):
        inner[weight > 0] += seen_from(np.asarray(camera.stage_from_camera.position_m), weight > 0, offset)
    phase = (columns // 8 * 5 + rows // 8 * 3) % REFINEMENT_CLASSES
    wanted = np.minimum((outer_steps + REFINEMENT_CLASSES - 1 - phase) // REFINEMENT_CLASSES, OUTER_ACROSS**2)
    for k, offset in enumerate(subpixels(OUTER_ACROSS)):
        outer[wanted > k] += seen_from(np.asarray(eye_m), wanted > k, offset)
    inner, outer = inner / quality.inner_across**2, outer / np.maximum(wanted, 1)[..., None]
    return np.concatenate([outer + (inner - outer) * weight[..., None], weight[..., None]], -1)
