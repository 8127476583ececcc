"""What shape a grid of points is: a plane, an arc, or cells of their own. Points of an LED surface → stage.Surface.

A grid is points (rows, columns, 3) at LED coordinates u (columns,) and v (rows,), fractions of the surface's width and height
from the top left. Cells that do not share corners are a grid in which coordinates come twice.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from calibration.exchange.wall import Assumed, Fit, Resolution
from ledvolume.pose import Pose, quaternion
from ledvolume.stage import Arc, Flat, PositionMap, Surface, surface_points

EXACT_M = 1e-6
FACETS_OF_AN_ARC_M = 0.0005  # a mesh of an arc is an arc; panels on a curve lie farther off it
LARGEST_FIT_M = 0.02  # asked for a plane or an arc: at most this far off, unless --tolerance says more
AT_ONCE = 500_000  # points that are compared
STRAIGHT = 1e-4  # an arc that turns by less is none (radians)


class Grid(NamedTuple):
    """u, v: of every column and every row; facets_m: points between those of the file, with their own u and v."""

    points_m: np.ndarray
    u: np.ndarray
    v: np.ndarray
    facets: "Grid | None" = None


def grid_of_cells(corners_m: np.ndarray, us: np.ndarray | None = None, vs: np.ndarray | None = None) -> Grid:
    """From (rows, columns, 2, 2, 3); the middles of the cells are its facets. us, vs: the cells' borders, if they are not even."""
    rows, columns = corners_m.shape[:2]
    points = corners_m.transpose(0, 2, 1, 3, 4).reshape(rows * 2, columns * 2, 3)
    borders = [np.arange(n + 1) / n if given is None else given for given, n in ((us, columns), (vs, rows))]
    u, v = (np.stack([lines[:-1], lines[1:]], -1).ravel() for lines in borders)
    middles = Grid(corners_m.mean((2, 3)), *((lines[:-1] + lines[1:]) / 2 for lines in borders))
    return Grid(points, u, v, middles)


def flat_of(name: str, grid: Grid, resolution_px: Resolution) -> Surface:
    """The plane whose LED pixels are nearest. Raises ValueError for points on a line."""
    centre, across, up = _affine(grid)
    width_m, height_m = float(np.linalg.norm(across)), float(np.linalg.norm(up))
    rotation = _axes(across, up)
    return Surface(name, Pose(quaternion(rotation), tuple(centre.tolist())), (width_m, height_m), resolution_px, Flat())


def arc_of(name: str, grid: Grid, resolution_px: Resolution) -> Surface | None:
    """The upright (on the surface's own Y) cylinder through the points, or None where they are as good as straight."""
    centre, across, up = _affine(grid)
    axes = _axes(across, up)
    x, y, z = np.moveaxis((grid.points_m - centre) @ axes, -1, 0)
    circle = _circle(x.ravel(), z.ravel())
    if circle is None or np.linalg.norm(across) / circle[2] < STRAIGHT:
        return None
    cx, cz, radius_m = circle
    side = math.copysign(1.0, cz - z.mean())  # +: hollow toward the surface's Z
    turned = np.unwrap(np.arctan2((x - cx) * side, (cz - z) * side), axis=1)
    turned -= math.tau * np.round((turned.mean(1, keepdims=True) - turned.mean()) / math.tau)
    along = np.broadcast_to(grid.u - 0.5, turned.shape).ravel()
    turn, middle = np.polyfit(along, turned.ravel(), 1)
    drop, height = np.polyfit(np.broadcast_to((0.5 - grid.v)[:, None], y.shape).ravel(), y.ravel(), 1)
    r = side * radius_m
    if turn * r <= 0 or abs(turn) > math.tau or drop <= 0:
        return None
    cos, sin = math.cos(middle), math.sin(middle)
    origin = centre + axes @ (cx + r * sin, height, cz - r * cos)
    rotation = axes @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    size_m = (float(turn * r), float(drop))
    return Surface(name, Pose(quaternion(rotation), tuple(origin.tolist())), size_m, resolution_px, Arc(float(r)))


def map_of(name: str, corners_m: np.ndarray, resolution_px: Resolution) -> Surface:
    """Cells (rows, columns, 2, 2, 3) in stage metres as they are, on the axes of the plane nearest to them."""
    rows, columns = corners_m.shape[:2]
    pose = flat_of(name, grid_of_cells(corners_m), resolution_px).stage_from_surface
    m = pose.matrix()
    own = np.ascontiguousarray((corners_m - m[:3, 3]) @ m[:3, :3], "<f8")
    across, down = (np.linalg.norm(a - b, axis=-1) for a, b in ((own[..., 1, :], own[..., 0, :]), (own[:, :, 1], own[:, :, 0])))
    size_m = (float(np.median(across)) * columns, float(np.median(down)) * rows)
    return Surface(name, pose, size_m, resolution_px, PositionMap(columns, rows, own.tobytes()))


def residual_m(surface: Surface, grid: Grid) -> float:
    """The farthest that the surface's LED positions are from the grid's points; those that are NaN do not count."""
    (w, h), worst = surface.resolution_px, 0.0
    step = max(1, AT_ONCE // len(grid.u))
    for first in range(0, len(grid.v), step):
        rows = slice(first, first + step)
        off = surface_points(surface, (grid.u * w)[None, :], (grid.v[rows] * h)[:, None]) - grid.points_m[rows]
        worst = max(worst, float(np.nanmax(np.square(off).sum(-1), initial=0.0)))
    return math.sqrt(worst)


def recognised(
    name: str, grid: Grid, resolution_px: Resolution, assumed: Assumed, exact_m: float = EXACT_M
) -> tuple[Surface | None, Fit]:
    """The plane or the arc that the points are, or that was asked for; None for cells of their own. Raises ValueError.

    By itself a plane or an arc is taken where no point moves by more than `tolerance_m` (else exact_m), and, of an arc, what
    lies between the points by no more than FACETS_OF_AN_ARC_M.
    """
    flat, arc = flat_of(name, grid, resolution_px), arc_of(name, grid, resolution_px)
    fit = Fit(0.0)
    if arc is not None:
        facet_m = residual_m(arc, grid.facets) if grid.facets else None
        fit = Fit(0.0, arc.shape.radius_m, residual_m(arc, grid), facet_m)
    near_m = exact_m if assumed.tolerance_m is None else max(assumed.tolerance_m, exact_m)
    flat_m = max(residual_m(flat, grid), residual_m(flat, grid.facets) if grid.facets else 0.0)
    chosen = assumed.shape
    if chosen == "auto":
        facets_m = max(near_m, FACETS_OF_AN_ARC_M)
        is_arc = arc is not None and fit.arc_residual_m <= near_m and (fit.facet_m or 0.0) <= facets_m
        chosen = "flat" if flat_m <= near_m else "arc" if is_arc else "map"
    if chosen == "map":
        return None, fit
    surface, off_m = (flat, flat_m) if chosen == "flat" else (arc, max(fit.arc_residual_m or 0.0, fit.facet_m or 0.0))
    if surface is None:
        raise ValueError("the wall is as good as straight: no arc fits it")
    most_m = LARGEST_FIT_M if assumed.tolerance_m is None else max(assumed.tolerance_m, exact_m)
    if assumed.shape != "auto" and off_m > most_m:
        kind = "plane" if chosen == "flat" else f"arc of radius {arc.shape.radius_m:.3f} m"
        raise ValueError(f"the nearest {kind} is {off_m * 1000:.2f} mm off (--tolerance allows {most_m * 1000:g} mm)")
    return surface, msgspec.structs.replace(fit, residual_m=off_m)


def _affine(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """centre + (u - ½) across + (½ - v) up, by least squares. Raises ValueError where they make no area."""
    if not np.isfinite(grid.points_m).all():
        raise ValueError("points that are not finite")
    u, v = np.broadcast_arrays((grid.u - 0.5)[None, :], (0.5 - grid.v)[:, None])
    design = np.stack([np.ones_like(u), u, v], -1).reshape(-1, 3)
    (centre, across, up), _, rank, _ = np.linalg.lstsq(design, grid.points_m.reshape(-1, 3), rcond=None)
    area = np.linalg.norm(np.cross(across, up))
    if rank < 3 or not area > 1e-9 * (np.linalg.norm(across) ** 2 + np.linalg.norm(up) ** 2) or not area > 1e-12:
        raise ValueError("points that make no area")
    return centre, across, up


def _axes(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(3, 3), columns X, Y, Z: Y is up, X as near to across as it may be. For a plane that is not skewed both are exact."""
    y = up / np.linalg.norm(up)
    x = across - y * (across @ y)
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], -1)


def _circle(x: np.ndarray, z: np.ndarray) -> tuple[float, float, float] | None:
    """Centre and radius: the algebraic fit, then Gauss and Newton on distances. None for points on a line."""
    spread = max(np.ptp(x), np.ptp(z))
    if not spread > 0:
        return None
    x, z = x / spread, z / spread
    design = np.stack([2 * x, 2 * z, np.ones_like(x)], -1)
    (cx, cz, c), _, rank, _ = np.linalg.lstsq(design, x * x + z * z, rcond=1e-10)
    if rank < 3 or c + cx * cx + cz * cz <= 0:
        return None
    r = math.sqrt(c + cx * cx + cz * cz)
    for _ in range(10):
        dx, dz = x - cx, z - cz
        distance = np.hypot(dx, dz)
        if not distance.min() > 0 or not r < 1e6:
            return None
        step, *_ = np.linalg.lstsq(np.stack([-dx / distance, -dz / distance, -np.ones_like(x)], -1), r - distance, rcond=None)
        cx, cz, r = cx + step[0], cz + step[1], r + step[2]
        if np.abs(step).max() < 1e-14 * r:
            break
    return (float(cx * spread), float(cz * spread), float(r * spread)) if 0 < r < 1e6 else None
