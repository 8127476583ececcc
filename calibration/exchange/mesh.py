"""Meshes with UVs ⇄ surfaces: u runs along the LED columns, v up its rows, (0, 1) is the top left LED pixel.

A mesh of quads (or of pairs of triangles) that lie on a regular lattice in UV becomes that lattice of cells. Cells that are
equally large on the wall but not in UV are panels, and the UVs a projection of a picture onto them: then LED pixels go by
panels (`cells = "uv"` has it otherwise). Other meshes are sampled on a lattice by barycentric interpolation; how far the
lattice is off the mesh is told. Nothing is turned round: UVs that are mirrored as seen from the stage are named.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from calibration.exchange.shapes import EXACT_M, grid_of_cells, map_of, recognised
from calibration.exchange.triangles import Located, positions_at
from calibration.exchange.wall import LARGEST_M, USUAL_PITCH_M, Assumed, Fit, Resolution, Shape, Wall, made_wall, named
from ledvolume.errors import ConfigError
from ledvolume.stage import Arc, PositionMap, Surface, surface_points

SAME_UV = 2e-5  # of the UVs' extent: printed with five digits
EVEN = 1e-3  # of a cell
EQUAL_PANELS = 0.02
MOST_FACES = 2_000_000
MOST_CELLS = 65_536
MOST_SAMPLED = 32_768
SAMPLED_TO_M = 1e-4
PROBES = 64  # in each direction, to see how far a sampled lattice is off
ARC_TO_M = 5e-5
LARGEST_UV = 1e4
MOST_PARTS = 512


class Mesh(NamedTuple):
    """Faces of 3 or 4 corners: sizes (n,), and, for all their corners, points (m, 3) in stage metres and uv (m, 2).

    resolution_px, shape: what the file says beside the mesh, where it was written by us.
    """

    name: str
    sizes: np.ndarray
    points_m: np.ndarray
    uv: np.ndarray
    resolution_px: Resolution | None = None
    shape: Shape = "auto"


def on_stage(mesh: Mesh, turn: np.ndarray, scale_m: float) -> Mesh:
    """A mesh whose points are on the file's axes and in its unit, in stage metres. What overflows is refused by surface_of."""
    with np.errstate(over="ignore", invalid="ignore"):
        return mesh._replace(points_m=mesh.points_m @ turn.T * scale_m)


def wall_of(
    meshes: Iterable[Mesh], assumed: Assumed, file: Path, format: str, notes: list[str], exact_m: float = EXACT_M
) -> Wall:
    """The wall that a file's meshes are, a surface each. notes: what was said of the file so far. Raises ConfigError."""
    taken, surfaces, fits = set(), [], []
    for mesh in meshes:
        surface, fit = surface_of(mesh._replace(name=named(mesh.name, taken)), assumed, file, notes, exact_m)
        surfaces.append(surface)
        fits.append(fit)
    return made_wall(file, format, surfaces, fits=tuple(fits), notes=notes)


def surface_of(mesh: Mesh, assumed: Assumed, file: Path, notes: list[str], exact_m: float = EXACT_M) -> tuple[Surface, Fit]:
    """The LED surface that a mesh is. Raises ConfigError."""
    key = mesh.name
    if not len(mesh.sizes):
        raise ConfigError(file, key, "a mesh with faces", "none")
    for what, values, most in (("points", mesh.points_m, LARGEST_M), ("UVs", mesh.uv, LARGEST_UV)):
        if not (np.abs(values) <= most).all():  # NaN is not
            expected = f"{what} that are numbers up to {most:g}" + (" m (--scale)" if what == "points" else "")
            raise ConfigError(file, key, expected, float(np.abs(values).max()))
    if assumed.shape == "auto":
        assumed = msgspec.structs.replace(assumed, shape=mesh.shape)
    low, extent = mesh.uv.min(0), np.ptp(mesh.uv, axis=0)
    if not extent.min() > 1e-9:
        raise ConfigError(file, key, "UVs that cover an area", f"u {extent[0]:g} by v {extent[1]:g}")
    if np.abs(low).max() > 1e-3 or np.abs(extent - 1).max() > 1e-3:
        u, v = ((lo, lo + e) for lo, e in zip(low, extent))
        notes.append(f"{key}: its UVs are u {u[0]:.4g} to {u[1]:.4g}, v {v[0]:.4g} to {v[1]:.4g}: taken as the whole of its LEDs")
    left_top = np.stack([(mesh.uv[:, 0] - low[0]) / extent[0], 1 - (mesh.uv[:, 1] - low[1]) / extent[1]], -1)
    mesh = mesh._replace(uv=left_top)
    notes += _about_sides(mesh)
    try:
        lattice = _lattice(mesh)
        if lattice is None:
            return _of_samples(mesh, assumed, notes, exact_m)
        corners_m, us, vs = lattice
        if not _is_even(us, vs):
            if assumed.cells == "panels" or (assumed.cells == "auto" and _is_of_equal_panels(corners_m)):
                notes.append(
                    f"{key}: {_by(corners_m)} panels of one size, but not in UV, where they are a projection: LED pixels go by "
                    "panels (--cells uv: by UV)"
                )
            else:
                return _of_uneven(mesh, corners_m, us, vs, assumed, notes, exact_m)
        resolution_px = _resolution(mesh, corners_m, assumed, notes)
        surface, fit = recognised(key, grid_of_cells(corners_m), resolution_px, assumed, exact_m)
        return surface or map_of(key, corners_m, resolution_px), fit
    except ValueError as error:
        raise ConfigError(file, key, "a mesh that an LED surface can be made of", str(error)) from None


def mesh_of(surface: Surface) -> Mesh:
    """Quads: one for a plane, strips that stay within ARC_TO_M for an arc, a map's own cells. uv: v up."""
    columns, rows = 1, 1
    if isinstance(surface.shape, PositionMap):
        columns, rows = surface.shape.columns, surface.shape.rows
    elif isinstance(surface.shape, Arc):
        strip_m = math.sqrt(8 * abs(surface.shape.radius_m) * ARC_TO_M)
        columns = max(8, math.ceil(surface.size_m[0] / strip_m))
    corners_m = cells_of(surface, columns, rows)
    u, v = np.meshgrid(np.arange(columns + 1) / columns, 1 - np.arange(rows + 1) / rows)
    uv = np.stack([u, v], -1)
    order = ((1, 0), (1, 1), (0, 1), (0, 0))  # bottom left first, to the left: the front is where Z points
    points = np.stack([corners_m[:, :, down, right] for down, right in order], 2)
    uvs = np.stack([uv[down : rows + down, right : columns + right] for down, right in order], 2)
    shape = {"Flat": "flat", "Arc": "arc"}.get(type(surface.shape).__name__, "map")
    sizes = np.full(columns * rows, 4)
    return Mesh(surface.name, sizes, points.reshape(-1, 3), uvs.reshape(-1, 2), surface.resolution_px, shape)


def cells_of(surface: Surface, columns: int, rows: int) -> np.ndarray:
    """Corners of equal cells (rows, columns, 2, 2, 3), stage metres; of a map, its own cells."""
    if isinstance(surface.shape, PositionMap):
        m = surface.stage_from_surface.matrix()
        return surface.shape.corners_m @ m[:3, :3].T + m[:3, 3]
    w, h = surface.resolution_px
    nodes = surface_points(surface, np.arange(columns + 1)[None, :] * w / columns, np.arange(rows + 1)[:, None] * h / rows)
    return np.stack([np.stack([nodes[a : rows + a, b : columns + b] for b in (0, 1)], 2) for a in (0, 1)], 2)


def _of_samples(mesh: Mesh, assumed: Assumed, notes: list[str], exact_m: float) -> tuple[Surface, Fit]:
    located = Located.of(mesh.sizes, mesh.points_m, mesh.uv)
    corners_m, off_m = _sampled(located, assumed)
    notes.append(f"{mesh.name}: no even lattice; sampled in {_by(corners_m)} cells, at most {off_m * 1000:.3f} mm off the mesh")
    resolution_px = _resolution(mesh, corners_m, assumed, notes)
    surface, fit = recognised(mesh.name, grid_of_cells(corners_m), resolution_px, assumed, exact_m)
    return surface or map_of(mesh.name, corners_m, resolution_px), msgspec.structs.replace(fit, residual_m=fit.residual_m + off_m)


def _of_uneven(mesh: Mesh, corners_m, us, vs, assumed: Assumed, notes: list[str], exact_m: float) -> tuple[Surface, Fit]:
    """A lattice whose lines are not even in UV: a plane or an arc; cells where its lines are among those of an even lattice."""
    columns, rows = (_common(lines) for lines in (us, vs))
    if columns and rows:
        corners_m = _divided(corners_m, us, vs, columns, rows)
        us, vs = np.arange(columns + 1) / columns, np.arange(rows + 1) / rows
    told: list[str] = []
    resolution_px = _resolution(mesh, corners_m, assumed, told)
    surface, fit = recognised(mesh.name, grid_of_cells(corners_m, us, vs), resolution_px, assumed, exact_m)
    if surface is None and not (columns and rows):
        return _of_samples(mesh, assumed, notes, exact_m)
    notes += told
    return surface or map_of(mesh.name, corners_m, resolution_px), fit


def _lattice(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Corners (rows, columns, 2, 2, 3) of cells between lines of u and of v, and these lines; None for other meshes."""
    (columns, us), (rows, vs) = (_lines(mesh.uv[:, axis]) for axis in (0, 1))
    cells = (len(us) - 1) * (len(vs) - 1)
    if not 0 < cells <= 2 * len(mesh.sizes):
        return None
    ends = np.cumsum(mesh.sizes)
    face = np.repeat(np.arange(len(ends)), mesh.sizes)
    starts = ends - mesh.sizes
    left, top = np.minimum.reduceat(columns, starts), np.minimum.reduceat(rows, starts)
    right, bottom = np.maximum.reduceat(columns, starts), np.maximum.reduceat(rows, starts)
    if (right - left != 1).any() or (bottom - top != 1).any():
        return None
    corners_m = np.full((len(vs) - 1, len(us) - 1, 2, 2, 3), np.nan)
    where = (top[face], left[face], rows - top[face], columns - left[face])
    corners_m[where] = mesh.points_m
    if np.isnan(corners_m).any() or np.abs(corners_m[where] - mesh.points_m).max() > EXACT_M * max(
        1.0, np.abs(mesh.points_m).max()
    ):
        return None  # a cell is not covered, or covered by two faces that do not agree
    area = np.bincount(top * (len(us) - 1) + left, np.where(mesh.sizes == 4, 1.0, 0.5), minlength=cells)
    return None if (area != 1).any() else (corners_m, us, vs)


def _is_even(us: np.ndarray, vs: np.ndarray) -> bool:
    return all(np.abs(np.diff(lines) * (len(lines) - 1) - 1).max() <= EVEN for lines in (us, vs))


def _common(lines: np.ndarray) -> int | None:
    """Into how many even parts lines from 0 to 1 divide it, if they do."""
    for count in range(len(lines) - 1, MOST_PARTS + 1):
        at = lines * count
        if np.abs(at - np.round(at)).max() <= EVEN and np.diff(np.round(at)).min() >= 1:
            return count
    return None


def _divided(corners_m: np.ndarray, us: np.ndarray, vs: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Corners of columns × rows even cells, each a part of a cell between uneven lines."""
    for axis, lines, count in ((1, us, columns), (0, vs, rows)):
        first = np.round(lines * count).astype(int)
        cell = np.repeat(np.arange(len(lines) - 1), np.diff(first))
        ends = ((np.arange(count) + i - first[cell]) / (first[cell + 1] - first[cell]) for i in (0, 1))
        there = corners_m.take(cell, axis)
        low, high = (there.take(i, axis + 2) for i in (0, 1))  # left and right for columns, top and bottom for rows
        sides = [low + (high - low) * end.reshape([-1 if i == axis else 1 for i in range(4)]) for end in ends]
        corners_m = np.stack(sides, axis + 2)
    return corners_m


def _lines(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which line of the lattice each value is on, and the lines' own values; those nearer than SAME_UV are one."""
    order = np.argsort(values, kind="stable")
    step = np.diff(values[order]) > SAME_UV
    index = np.empty(len(values), int)
    index[order] = np.concatenate([[0], np.cumsum(step)])
    return index, np.bincount(index, values) / np.bincount(index)


def _is_of_equal_panels(corners_m: np.ndarray) -> bool:
    """Edges of the cells, along columns and rows, of the same length in all."""
    across = np.linalg.norm(corners_m[..., 1, :] - corners_m[..., 0, :], axis=-1)
    down = np.linalg.norm(corners_m[:, :, 1] - corners_m[:, :, 0], axis=-1)
    return all(np.ptp(edges) <= EQUAL_PANELS * np.median(edges) for edges in (across, down))


def _sampled(located: Located, assumed: Assumed) -> tuple[np.ndarray, float]:
    """The coarsest lattice, of those tried, that stays within the tolerance of the mesh, else the finest, and how far off it is.
    Raises ValueError where UVs leave a part of their rectangle uncovered."""
    aim_m = (assumed.tolerance_m if assumed.shape in ("auto", "map") else None) or SAMPLED_TO_M
    steps = (np.arange(PROBES) + 0.5) / PROBES
    probes = np.stack(np.broadcast_arrays(steps[None, :], steps[:, None]), -1)
    true_m = positions_at(located, probes)
    columns, rows, best = 1, 1, None
    while columns * rows <= MOST_SAMPLED:
        u, v = np.arange(columns + 1) / columns, np.arange(rows + 1) / rows
        nodes = positions_at(located, np.stack(np.broadcast_arrays(u[None, :], v[:, None]), -1))
        off = _bilinear(nodes, steps) - true_m
        off_m = float(np.linalg.norm(off, axis=-1).max())
        if best is None or off_m < best[1]:
            best = (np.stack([np.stack([nodes[a : rows + a, b : columns + b] for b in (0, 1)], 2) for a in (0, 1)], 2), off_m)
        if off_m <= aim_m:
            break
        # whichever direction bends more: how far nodes of twice the density are off the lines between these
        mid_u = positions_at(located, np.stack(np.broadcast_arrays(((u[1:] + u[:-1]) / 2)[None, :], v[:, None]), -1))
        mid_v = positions_at(located, np.stack(np.broadcast_arrays(u[None, :], ((v[1:] + v[:-1]) / 2)[:, None]), -1))
        bend_u = np.linalg.norm(mid_u - (nodes[:, 1:] + nodes[:, :-1]) / 2, axis=-1).max()
        bend_v = np.linalg.norm(mid_v - (nodes[1:] + nodes[:-1]) / 2, axis=-1).max()
        if bend_u >= bend_v:
            columns += max(1, columns // 2) if columns > 8 else 1
        if bend_v >= bend_u:
            rows += max(1, rows // 2) if rows > 8 else 1
    return best


def _bilinear(nodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """A lattice of nodes (rows + 1, columns + 1, 3) at steps × steps of its height and width."""
    rows, columns = nodes.shape[0] - 1, nodes.shape[1] - 1
    column, row = (np.minimum((steps * n).astype(int), n - 1) for n in (columns, rows))
    u, v = (steps * columns - column)[None, :, None], (steps * rows - row)[:, None, None]
    r, c = row[:, None], column[None, :]
    return (nodes[r, c] * (1 - u) + nodes[r, c + 1] * u) * (1 - v) + (nodes[r + 1, c] * (1 - u) + nodes[r + 1, c + 1] * u) * v


def _resolution(mesh: Mesh, corners_m: np.ndarray, assumed: Assumed, notes: list[str]) -> Resolution:
    """LED pixels across and up: as said, else as many whole pixels to a cell as come nearest to the pitch."""
    if assumed.resolution_px or (mesh.resolution_px and not assumed.pitch_m):
        return assumed.resolution_px or mesh.resolution_px
    pitch_m = assumed.pitch_m or USUAL_PITCH_M
    rows, columns = corners_m.shape[:2]
    across = float(np.median(np.linalg.norm(corners_m[..., 1, :] - corners_m[..., 0, :], axis=-1)))
    down = float(np.median(np.linalg.norm(corners_m[:, :, 1] - corners_m[:, :, 0], axis=-1)))
    w, h = (max(1, round(edge / pitch_m)) * n for edge, n in ((across, columns), (down, rows)))
    if not assumed.pitch_m:
        notes.append(
            f"{mesh.name}: no LED pixels in the file: {w} × {h} at a pitch of {pitch_m * 1000:g} mm (--resolution, --pitch)"
        )
    return w, h


def _about_sides(mesh: Mesh) -> list[str]:
    """Mirrored UVs, faces that are wound the other way, LED columns that do not run level."""
    starts = np.concatenate([[0], np.cumsum(mesh.sizes)[:-1]])
    ends = starts + mesh.sizes - 1
    p, uv, sides = mesh.points_m, mesh.uv * (1, -1), starts + 1
    wound = np.cross(p[sides] - p[starts], p[ends] - p[starts])
    a, b = uv[sides] - uv[starts], uv[ends] - uv[starts]
    sign = np.sign(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])[:, None]
    lit, back = (sign * wound).sum(0), wound.sum(0)
    inside = p.mean(0) * (0, 0, 1)  # the stage's middle, at the wall's height
    faces_in = float(lit @ (inside - p.mean(0)))
    notes = []
    if lit @ back < 0 and faces_in < 0:
        notes.append(f"{mesh.name}: its UVs are mirrored as seen from the stage: a picture reads backwards; kept as they are")
    elif lit @ back < 0:
        notes.append(f"{mesh.name}: its faces are wound to the back; the UVs are right as seen from the stage")
    elif faces_in < 0:
        notes.append(f"{mesh.name}: it faces away from the stage's origin")
    across = _gradient(mesh)
    if np.abs(across[2]) > 0.5 * np.linalg.norm(across) and np.abs(lit[2]) < 0.5 * np.linalg.norm(lit):
        notes.append(f"{mesh.name}: its LED columns run {'up' if across[2] > 0 else 'down'}")
    return notes


def _gradient(mesh: Mesh) -> np.ndarray:
    """How the points move with u, by least squares."""
    design = np.concatenate([np.ones((len(mesh.uv), 1)), mesh.uv], 1)
    return np.linalg.lstsq(design, mesh.points_m, rcond=None)[0][1]


def _by(corners_m: np.ndarray) -> str:
    return f"{corners_m.shape[1]} × {corners_m.shape[0]}"
