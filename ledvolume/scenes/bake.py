"""A nerfstudio field becomes bricks: resolution where the wall can see it and the interpolated field is wrong, nowhere else.

    look      random rays of the view meet the exact field; what gives light there are the samples
    grow      for each of a few voxel sizes, the bricks and corners around samples; the field is evaluated there and only there
    prune     an octree of bricks for a budget: a brick is split where that lowers the error most for its bytes
              (optimal pruning of trees, Chou, Lookabaugh and Gray 1989: minimise error + λ · bytes, bottom up)
    shade     colour's change with direction, fitted over the zone, where it is worth its bytes
    far       what the zone's centre sees, by direction, spread calmly to where nothing was looked at

`look` and `grow` cost the time; from what is grown, `fit` makes a scene of any size in seconds. Positions are relative to
the zone's centre, which is the cascades' centre. Nothing here knows OpenGL: what millions of rays see is asked for (Marks).
"""

import math
from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np

from ledvolume.errors import SceneError
from ledvolume.scenes import octree
from ledvolume.scenes.bake_view import View, unit
from ledvolume.scenes.bricks import COARSE_CORNERS, CORNERS, VERSION, VOXELS, Bricks, Header, packed_bytes
from ledvolume.scenes.nerfstudio import NerfactoField, tensor
from ledvolume.scenes.nerfstudio_rays import converged_render, integration_samples

Progress = Callable[[str, float], None]
Marks = Callable[[Bricks, Callable[[float], None]], tuple[np.ndarray, np.ndarray]]
"""A scene → voxels passed and voxels lit by the view's rays, (b, 8, 8, 8) bool: render/visibility.py."""

LEVELS = 3  # voxel sizes tried, each half of the one before
FAINTEST = 0.004  # share of a pixel below which a sample is not looked at
RAY_SAMPLES = 192
DENSITY_ERROR = 0.1  # colour error that an error of 1 in log density is counted as, measured on rays
BYTES_PER_CORNER = 2.4  # on disk, compressed, before it is measured
BYTES_PER_BRICK = 40


class Options(msgspec.Struct, frozen=True):
    """size_bytes: budget on disk. rays: how many look. seeing_rays: how many say which voxels are passed and lit.
    finest: voxel over footprint diameter, at the finest level.
    gradients: None decides by measurement (`gradient_db`: wanted where the mean colour alone is worse than this)."""

    size_bytes: int = 36_000_000
    rays: int = 60_000
    seeing_rays: int = 1_000_000
    finest: float = 1.0
    gradients: bool | None = None
    gradient_db: float = 46.0
    seed: int = 1


class Samples(msgspec.Struct, frozen=True):
    """What the rays met: x (n, 3), directions (n, 3), voxel = footprint diameter (n,), weight (n,), log density (n,),
    rgb along the mean direction (n, 3), rgb along the ray itself (n, 3)."""

    x: np.ndarray
    direction: np.ndarray
    footprint: np.ndarray
    weight: np.ndarray
    log_density: np.ndarray
    rgb: np.ndarray
    rgb_seen: np.ndarray


class Level(msgspec.Struct):
    """Bricks of one voxel size: keys (b,) sorted, values (b, 9, 9, 9, 4) uint8, corners kept (b,), error (b,)."""

    keys: np.ndarray
    values: np.ndarray
    corners: np.ndarray
    error: np.ndarray


class Grown(msgspec.Struct):
    """Everything a scene of any size is pruned from."""

    samples: Samples
    levels: list[Level]
    half_size: float
    cascades: int
    log_density_range: tuple[float, float]
    centre: np.ndarray
    far: np.ndarray
    mean_colour_db: float


def look(field: NerfactoField, view: View, options: Options, progress: Progress) -> Samples:
    """Meet the field with random rays of the view."""
    rng = np.random.default_rng(options.seed)
    centre = (view.zone_min + view.zone_max) / 2
    origins, directions, spreads = view.rays(options.rays, rng)
    parts = []
    for start in range(0, len(origins), 2048):
        progress("look", start / len(origins))
        o, d = origins[start : start + 2048], directions[start : start + 2048]
        t, log_density, weights, _ = integration_samples(field, tensor(o), tensor(d), RAY_SAMPLES)
        ray, k = (weights > FAINTEST).nonzero(as_tuple=True)
        t, ray_of = t[ray, k].numpy(), ray.numpy()
        x = o[ray_of] + d[ray_of] * t[:, None]
        geometry = field.density_and_geometry(tensor(x))[1]
        mean_direction = unit(x - centre)
        parts.append(
            (
                x - centre,
                d[ray_of],
                2 * spreads[start + ray_of] * t,
                weights[ray, k].numpy(),
                log_density[ray, k].numpy(),
                field.colour(geometry, tensor(mean_direction)).numpy(),
                field.colour(geometry, tensor(d[ray_of])).numpy(),
            )
        )
    return Samples(*(np.concatenate(column).astype(np.float32) for column in zip(*parts)))


def grow(field: NerfactoField, view: View, samples: Samples, options: Options, marks_of: Marks, progress: Progress) -> Grown:
    """Evaluate the field at LEVELS voxel sizes, coarse to fine: where a brick gives light and its samples want finer voxels,
    its lit octants are bricks of the next level."""
    centre = (view.zone_min + view.zone_max) / 2
    reach = np.abs(samples.x).max(-1)
    pixel_rad = float(np.median(samples.footprint / np.linalg.norm(samples.x, axis=-1)))
    half_size = float(np.quantile(reach, 0.02)) / 2
    cascades = int(np.clip(math.ceil(math.log2(float(np.quantile(reach, 0.999)) * 1.01 / half_size)) + 1, 1, 8))
    depth = octree.depth_for(samples.x, samples.footprint * options.finest, half_size, cascades)
    low = float(np.log(0.002 / np.median(samples.footprint)))
    high = float(np.quantile(samples.log_density, 0.999))
    far = far_map(field, view, pixel_rad, half_size * 2.0 ** (cascades - 1), progress)
    grown = Grown(samples, [], half_size, cascades, (low, max(high, low + 1)), centre, far, 0.0)
    difference = (samples.rgb - samples.rgb_seen) ** 2
    grown.mean_colour_db = -10 * math.log10(max(float(np.average(difference.mean(-1), weights=samples.weight)), 1e-9))

    first = np.maximum(depth - (LEVELS - 1), 0)
    keys = _keys_around(samples.x, first, half_size, cascades)
    for number in range(LEVELS):
        if not len(keys):  # the levels before were fine enough everywhere
            grown.levels.append(Level(keys, np.zeros((0, CORNERS, CORNERS, CORNERS, 4), np.uint8), np.zeros(0), np.zeros(0)))
            continue
        level = Level(keys, _values(field, keys, grown, progress, f"grow {number + 1}/{LEVELS}"), np.zeros(0), np.zeros(0))
        passed, lit = marks_of(_alone(grown, level), partial(progress, f"see {number + 1}/{LEVELS}"))
        at_level = np.minimum(first + number, depth)
        level.error = _errors(level, grown, at_level)
        wants_finer = np.isin(keys, octree.cells_of(samples.x[at_level < depth], at_level[at_level < depth], half_size, 99))
        kept = lit.any((1, 2, 3))
        grown.levels.append(keep_seen(level, passed, lit))
        keys = _lit_octants(keys[kept & wants_finer], lit[kept & wants_finer])
    return grown


def _keys_around(x: np.ndarray, depth: np.ndarray, half_size: float, cascades: int) -> np.ndarray:
    """Cells of points and of what is within a voxel of them."""
    _, side = octree.cell_boxes(octree.cells_of(x, depth, half_size, 99), half_size)
    near = np.array([[0, 0, 0], *(np.array(list(np.ndindex(2, 2, 2))) * 2 - 1)]) / VOXELS
    found = [np.unique(octree.cells_of(x + offset * side[:, None], depth, half_size, cascades)) for offset in near]
    return np.unique(np.concatenate(found))


def _lit_octants(keys: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """Children of cells, those with a lit voxel or one beside it."""
    padded = np.pad(lit, ((0, 0), (1, 1), (1, 1), (1, 1)))
    wide = np.zeros_like(lit)
    for z, y, x in np.ndindex(3, 3, 3):
        wide |= padded[:, z : z + VOXELS, y : y + VOXELS, x : x + VOXELS]
    half = VOXELS // 2
    octants = wide.reshape(-1, 2, half, 2, half, 2, half).any((2, 4, 6))
    brick, z, y, x = np.nonzero(octants)
    cascade, depth, place = octree.unpack_keys(keys)
    return np.sort(octree.pack_keys(cascade[brick], depth[brick] + 1, place[brick] * 2 + np.stack([x, y, z], -1)))


def _values(field: NerfactoField, keys: np.ndarray, grown: Grown, progress: Progress, title: str) -> np.ndarray:
    """The field at all corners of bricks, (b, 9, 9, 9, 4) uint8."""
    values = np.zeros((len(keys), CORNERS, CORNERS, CORNERS, 4), np.uint8)
    low, side = octree.cell_boxes(keys, grown.half_size)
    corners = np.stack(np.meshgrid(*[np.arange(CORNERS)] * 3, indexing="ij")[::-1], -1).reshape(-1, 3) / VOXELS
    for start in range(0, len(keys), 256):
        progress(title, start / len(keys))
        part = slice(start, start + 256)
        points = (low[part, None] + corners * side[part, None, None]).reshape(-1, 3)
        log_density, rgb = field.query(tensor(points + grown.centre), tensor(unit(points)))
        value = encoded(rgb.numpy(), log_density.numpy(), grown.log_density_range)
        values[part] = value.reshape(-1, CORNERS, CORNERS, CORNERS, 4)
    return values


def _alone(grown: Grown, level: Level) -> Bricks:
    """All bricks of a level as a scene, in its order, for looking at."""
    header = Header(
        VERSION, tuple(grown.centre.tolist()), grown.half_size, grown.cascades, grown.log_density_range, 1.0,
        (0.0,) * 3, (0.0,) * 3, 0.0, "", "",
    )  # fmt: skip
    none = np.zeros((0, 3, *[COARSE_CORNERS] * 3, 3), np.uint8)
    return Bricks(header, octree.node_table(level.keys, grown.cascades), level.values, none, grown.far)


def keep_seen(level: Level, passed: np.ndarray, lit: np.ndarray) -> Level:
    """Without bricks that give no light; corners that no light reaches, and colours that give none, become cheap to store.

    passed, lit: marks of render/visibility.py, (b, 8, 8, 8) bool. Nothing that a marked voxel interpolates is changed.
    """
    kept = lit.any((1, 2, 3))
    passed, lit = corners_of(passed[kept]), corners_of(lit[kept])
    values = level.values[kept]
    for channels, mask in ((slice(3), lit), (slice(3, 4), passed)):
        part = values[..., channels]
        part[~mask] = 0
        for x in range(1, CORNERS):
            part[..., x, :] = np.where(mask[..., x, None], part[..., x, :], part[..., x - 1, :])
    return Level(level.keys[kept], values, passed.sum((1, 2, 3)), level.error[kept])


def corners_of(voxels: np.ndarray) -> np.ndarray:
    """(b, 8, 8, 8) bool → (b, 9, 9, 9): the corners of marked voxels."""
    corners = np.zeros((len(voxels), CORNERS, CORNERS, CORNERS), bool)
    for z, y, x in np.ndindex(2, 2, 2):
        corners[:, z : z + VOXELS, y : y + VOXELS, x : x + VOXELS] |= voxels
    return corners


def encoded(rgb: np.ndarray, log_density: np.ndarray, log_density_range: tuple[float, float]) -> np.ndarray:
    """(n, 4) uint8. Where the density is below the range there is nothing: colour 0 too, so that it packs well."""
    low, high = log_density_range
    a = (log_density - low) / (high - low)
    return (np.concatenate([rgb, a[:, None]], -1).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def interpolated(values: np.ndarray, brick: np.ndarray, at: np.ndarray) -> np.ndarray:
    """values (b, 9, 9, 9, c) uint8 at corner coordinates at (n, 3) of brick (n,): (n, c) float32 in 0..1."""
    low = np.minimum(at.astype(np.int32), VOXELS - 1)
    f = (at - low).astype(np.float32)
    total = np.zeros((len(at), values.shape[-1]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, f, 1 - f).prod(-1)
        x, y, z = (low + corner).T
        total += weight[:, None] * values[brick, z, y, x]
    return total / 255


def _errors(level: Level, grown: Grown, depth: np.ndarray) -> np.ndarray:
    """Sum over the samples of each brick of the squared error that it makes in a pixel, (b,)."""
    samples = grown.samples
    key = octree.cells_of(samples.x, depth, grown.half_size, 99)
    brick = np.searchsorted(level.keys, key).clip(0, len(level.keys) - 1)
    has_brick = level.keys[brick] == key
    brick, samples = brick[has_brick], Samples(*(getattr(samples, name)[has_brick] for name in Samples.__struct_fields__))
    low, side = octree.cell_boxes(level.keys, grown.half_size)
    at = ((samples.x - low[brick]) / side[brick, None] * VOXELS).clip(0, VOXELS)
    value = interpolated(level.values, brick, at)
    span = grown.log_density_range[1] - grown.log_density_range[0]
    log_density = grown.log_density_range[0] + value[:, 3] * span
    colour = ((value[:, :3] - samples.rgb) ** 2).sum(-1)
    density = np.minimum(np.abs(log_density - samples.log_density), 3.0) * DENSITY_ERROR
    return np.bincount(brick, samples.weight**2 * (colour + density**2), len(level.keys))


def prune(grown: Grown, multiplier: float) -> list[np.ndarray]:
    """Which bricks of each level are leaves, for a price of `multiplier` squared error per byte: bool arrays (b,)."""
    cost = [_cost(level, multiplier) for level in grown.levels]
    is_split = [np.zeros(len(level.keys), bool) for level in grown.levels]
    best = cost[-1]
    for number in range(LEVELS - 2, -1, -1):
        coarse, fine = grown.levels[number], grown.levels[number + 1]
        # At depth 0 a finer level may hold the very same cells: then there is nothing to split.
        parent = np.searchsorted(coarse.keys, octree.parents(fine.keys)).clip(0, len(coarse.keys) - 1)
        belongs = coarse.keys[parent] == octree.parents(fine.keys)
        total = np.bincount(parent[belongs], best[belongs], len(coarse.keys))
        has_children = np.bincount(parent[belongs], minlength=len(coarse.keys)) > 0
        is_split[number] = has_children & (total < cost[number])
        best = np.where(is_split[number], total, cost[number])
    leaves = []
    alive = np.ones(len(grown.levels[0].keys), bool)
    for number, level in enumerate(grown.levels):
        leaves.append(alive & ~is_split[number])
        if number + 1 < LEVELS:
            opened = level.keys[alive & is_split[number]]
            alive = np.isin(octree.parents(grown.levels[number + 1].keys), opened)
    return leaves


def _cost(level: Level, multiplier: float) -> np.ndarray:
    return level.error + multiplier * (BYTES_PER_BRICK + BYTES_PER_CORNER * level.corners)


class Origin(msgspec.Struct, frozen=True):
    """Where a scene comes from, for its header."""

    source: str = ""
    sha256: str = ""
    credit: str = ""


def fit(
    field: NerfactoField, grown: Grown, view: View, options: Options, origin: Origin, progress: Progress
) -> tuple[Bricks, list[int]]:
    """The best scene within `options.size_bytes`, and how many bricks it has of each voxel size, coarse to fine.

    The price per byte is found by bisection on an estimate of the size, and the estimate corrected by what packing gives.
    """
    wants_gradients = grown.mean_colour_db < options.gradient_db if options.gradients is None else options.gradients
    bytes_per_estimate = 1.6 if wants_gradients else 1.0
    for attempt in range(5):
        progress("fit", attempt / 5)
        leaves = _leaves_for(grown, 0.985 * options.size_bytes / bytes_per_estimate)
        scene = scene_of(grown, view, leaves, origin)
        if wants_gradients:
            scene = shaded(field, scene, grown, view)
        size = packed_bytes(scene)
        uses_all = all(not level_leaves.any() for level_leaves in leaves[:-1])
        if size <= options.size_bytes and (size > 0.95 * options.size_bytes or uses_all):
            break
        bytes_per_estimate = size / _estimate(grown, leaves)
    if size > options.size_bytes:
        raise SceneError(
            f"{options.size_bytes / 1e6:.1f} MB is too little: what the zone sees takes {size / 1e6:.1f} MB with the coarsest voxels"
        )
    return scene, [int(chosen.sum()) for chosen in leaves]


def _estimate(grown: Grown, leaves: list[np.ndarray]) -> float:
    return sum(
        float((BYTES_PER_BRICK + BYTES_PER_CORNER * level.corners)[chosen].sum()) for level, chosen in zip(grown.levels, leaves)
    )


def _leaves_for(grown: Grown, estimate: float) -> list[np.ndarray]:
    low, high = -24.0, 0.0  # log10 of the price; the highest leaves only the coarsest bricks
    for _ in range(32):
        middle = (low + high) / 2
        if _estimate(grown, prune(grown, 10**middle)) > estimate:
            low = middle
        else:
            high = middle
    return prune(grown, 10**high)


def scene_of(grown: Grown, view: View, leaves: list[np.ndarray], origin: Origin) -> Bricks:
    """Put the chosen bricks into a scene of degree 0."""
    keys = np.concatenate([level.keys[chosen] for level, chosen in zip(grown.levels, leaves)])
    values = np.concatenate([level.values[chosen] for level, chosen in zip(grown.levels, leaves)])
    # Neighbours in space are neighbours in the file and in the texture: they look alike, and are used together.
    order = np.argsort(_morton(keys, grown.half_size))
    keys, values = keys[order], values[order]
    pixel_rad = float(np.median(grown.samples.footprint / np.linalg.norm(grown.samples.x, axis=-1)))
    header = Header(
        VERSION,
        tuple(grown.centre.tolist()),
        grown.half_size,
        grown.cascades,
        grown.log_density_range,
        1.0,
        tuple(view.zone_min.tolist()),
        tuple(view.zone_max.tolist()),
        pixel_rad,
        origin.source,
        origin.sha256,
        origin.credit,
    )
    none = np.zeros((0, 3, *[COARSE_CORNERS] * 3, 3), np.uint8)
    return Bricks(header, octree.node_table(keys, grown.cascades), values, none, grown.far)


def shaded(field: NerfactoField, scene: Bricks, grown: Grown, view: View) -> Bricks:
    """The scene with gradients: at every second corner, least squares of colour - mean colour over directions from the zone.

    With eyes e_i, u_i = direction(x - e_i) - direction(x), y_i = colour along it - colour along the mean direction:
    G = argmin Σ |y_i - G u_i|² + ridge |G|².
    """
    eyes = view.eyes(12, np.random.default_rng(4)) - grown.centre
    low, side, order = _brick_boxes(scene)
    corners = np.stack(np.meshgrid(*[np.arange(COARSE_CORNERS)] * 3, indexing="ij")[::-1], -1).reshape(-1, 3) / (VOXELS // 2)
    slopes = np.zeros((len(order), len(corners), 3, 3), np.float32)
    for start in range(0, len(order), 512):
        part = slice(start, start + 512)
        points = (low[part, None] + corners * side[part, None, None]).reshape(-1, 3)
        mean = unit(points)
        _, geometry = field.density_and_geometry(tensor(points + grown.centre))
        middle = field.colour(geometry, tensor(mean)).numpy()
        normal, right = np.zeros((len(points), 3, 3)), np.zeros((len(points), 3, 3))
        for eye in eyes:
            direction = unit(points - eye)
            u, y = direction - mean, field.colour(geometry, tensor(direction)).numpy() - middle
            normal += u[:, :, None] * u[:, None, :]
            right += u[:, :, None] * y[:, None, :]
        ridge = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-9
        slopes[part] = np.linalg.solve(normal + ridge * np.eye(3), right).reshape(-1, len(corners), 3, 3)
    reach = float(np.quantile(np.abs(slopes), 0.999)) or 1.0
    coded = ((slopes / reach).clip(-1, 1) * 127.5 + 127.5 + 0.5).astype(np.uint8)
    gradients = np.zeros((len(order), 3, *[COARSE_CORNERS] * 3, 3), np.uint8)
    gradients[order] = coded.reshape(-1, *[COARSE_CORNERS] * 3, 3, 3).transpose(0, 4, 1, 2, 3, 5)
    header = msgspec.structs.replace(scene.header, gradient_range=reach)
    return msgspec.structs.replace(scene, header=header, gradients=gradients)


def _brick_boxes(scene: Bricks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest corners (b, 3), sides (b,) and brick numbers (b,) of all leaves of a scene."""
    keys, bricks = octree.leaves_of(scene.nodes, scene.header.cascades)
    low, side = octree.cell_boxes(keys, scene.header.half_size)
    return low, side, bricks


def _morton(keys: np.ndarray, half_size: float) -> np.ndarray:
    low, side = octree.cell_boxes(keys, half_size)
    grid = ((low + side[:, None] / 2 - low.min()) / (np.ptp(low) + 1e-9) * 1023).astype(np.int64).clip(0, 1023)
    code = np.zeros(len(keys), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= (grid[:, axis] >> bit & 1) << (3 * bit + axis)
    return code


def far_map(field: NerfactoField, view: View, pixel_rad: float, outermost: float, progress: Progress) -> np.ndarray:
    """What the zone's centre sees beyond the last cascade, (h, 2 h, 3) float16, by direction.

    Where something nearer hides that, what hides it; where no ray of the view goes, spread from around. outermost: half-size
    of the last cascade. A texel is a pixel, within 96 to 512 rows.
    """
    height = int(np.clip(math.pi / pixel_rad, 96, 512))
    centre = (view.zone_min + view.zone_max) / 2
    rng = np.random.default_rng(2)
    _, aimed, _ = view.rays(200_000, rng)
    width = 2 * height
    seen = np.zeros((height, width), bool)
    column = ((np.arctan2(aimed[:, 1], aimed[:, 0]) / (2 * np.pi) + 0.5) * width).astype(int) % width
    row = (np.arccos(aimed[:, 2].clip(-1, 1)) / np.pi * height).astype(int).clip(0, height - 1)
    seen[row, column] = True
    rows, columns = np.nonzero(seen)
    azimuth, polar = ((columns + 0.5) / width - 0.5) * 2 * np.pi, (rows + 0.5) / height * np.pi
    directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], -1)
    colours = []
    for start in range(0, len(directions), 4096):
        progress("far", start / len(directions))
        d = tensor(directions[start : start + 4096])
        seen_there = converged_render(field, tensor(centre).expand(len(d), 3), d, RAY_SAMPLES)
        colour, exit_distance = seen_there["rgb"], outermost / d.abs().amax(1)
        beyond = seen_there["depth"] > exit_distance
        origins = tensor(centre) + d[beyond] * exit_distance[beyond, None]
        if beyond.any():
            colour[beyond] = converged_render(field, origins, d[beyond], RAY_SAMPLES)["rgb"]
        colours.append(colour.numpy())
    picture = np.zeros((height, width, 3))
    picture[rows, columns] = np.concatenate(colours)
    return spread_calmly(picture, seen).astype(np.float16)


def spread_calmly(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels from coarser and coarser averages of the known ones (pull-push); known ones stay."""
    if known.all() or not known.any():
        return picture
    height, width = known.shape
    if height == 1 or width == 1:
        return np.where(known[..., None], picture, picture[known].mean(0))
    h, w = -(-height // 2), -(-width // 2)
    padded = np.pad(picture * known[..., None], ((0, 2 * h - height), (0, 2 * w - width), (0, 0)))
    count = np.pad(known.astype(float), ((0, 2 * h - height), (0, 2 * w - width)))
    total, count = padded.reshape(h, 2, w, 2, 3).sum((1, 3)), count.reshape(h, 2, w, 2).sum((1, 3))
    coarse = spread_calmly(total / np.maximum(count, 1)[..., None], count > 0)
    y = np.clip((np.arange(height) + 0.5) / 2 - 0.5, 0, h - 1)
    x = ((np.arange(width) + 0.5) / 2 - 0.5) % w
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, h - 1), (x0 + 1) % w
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    smooth = (coarse[y0][:, x0] * (1 - fx) + coarse[y0][:, x1] * fx) * (1 - fy)
    smooth += (coarse[y1][:, x0] * (1 - fx) + coarse[y1][:, x1] * fx) * fy
    return np.where(known[..., None], picture, smooth)
