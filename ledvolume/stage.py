"""The physical volume: wall surfaces cut into tiles, the outer eye, the zone where cameras go.

A surface maps LED coordinates to stage points; a tile is a rectangle of its LED pixels. That is all the renderer knows
of a wall. Because a pixel's place depends on the surface alone, however it is cut, every cut gives the same bits.
The GLSL twin of `surface_points` and `rays_through` is render/shaders/tiles.glsl.
"""

import math

import msgspec
import numpy as np

from ledvolume.camera import Rig
from ledvolume.patches import patch_coordinates, patch_points
from ledvolume.pose import Pose, Vec3, multiply


class Flat(msgspec.Struct, frozen=True, tag="flat", tag_field="kind", forbid_unknown_fields=True):
    """A plane."""


class Arc(msgspec.Struct, frozen=True, tag="arc", tag_field="kind", forbid_unknown_fields=True):
    """Part of an upright cylinder; the width is measured along the arc. radius_m > 0: hollow toward the viewer."""

    radius_m: float


class PositionMap(msgspec.Struct, frozen=True, tag="map", tag_field="kind", forbid_unknown_fields=True):
    """Any shape: columns × rows cells of as many LED pixels each, every cell a bilinear patch between four corners of its own.

    Neighbours need not share corners: a cell is a panel as it hangs, or a piece of a smooth surface. corners: float64, little
    endian, (rows, columns, 2, 2, 3) metres on the surface's axes; the 2 × 2 are top and bottom, left and right.
    """

    columns: int
    rows: int
    corners: bytes

    @classmethod
    def of(cls, corners_m: np.ndarray) -> "PositionMap":
        """The map of these corners (rows, columns, 2, 2, 3)."""
        rows, columns = corners_m.shape[:2]
        return cls(columns, rows, np.ascontiguousarray(corners_m, "<f8").tobytes())

    @property
    def corners_m(self) -> np.ndarray:
        """(rows, columns, 2, 2, 3) float64."""
        return np.frombuffer(self.corners, "<f8").reshape(self.rows, self.columns, 2, 2, 3)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of a wall of so many cells of the median cell's size."""
        c = self.corners_m
        edges_m = (np.linalg.norm(c[:, :, :, 1] - c[:, :, :, 0], axis=-1), np.linalg.norm(c[:, :, 1] - c[:, :, 0], axis=-1))
        return float(np.median(edges_m[0])) * self.columns, float(np.median(edges_m[1])) * self.rows


class Surface(msgspec.Struct, frozen=True):
    """One continuous grid of LED pixels. Axes: +X along columns, +Y up, +Z out to the viewer, origin in the middle.

    LED coordinates: (0, 0) is the top left corner, pixel centres are at + 0.5.
    """

    name: str
    stage_from_surface: Pose
    size_m: tuple[float, float]
    resolution_px: tuple[int, int]
    shape: Flat | Arc | PositionMap = Flat()

    @property
    def curvature_per_m(self) -> float:
        return 1.0 / self.shape.radius_m if isinstance(self.shape, Arc) else 0.0

    @property
    def pitch_m(self) -> float:
        """LED pitch, the larger of the two directions."""
        return max(self.size_m[0] / self.resolution_px[0], self.size_m[1] / self.resolution_px[1])


class WallTile(msgspec.Struct, frozen=True):
    """The unit of rendering and streaming: resolution_px (width, height) of a surface's pixels from offset_px on."""

    name: str
    surface: Surface
    offset_px: tuple[int, int]
    resolution_px: tuple[int, int]


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An axis-aligned box of the stage."""

    min_m: Vec3
    max_m: Vec3

    def contains(self, point_m: Vec3) -> bool:
        return all(lo <= p <= hi for lo, p, hi in zip(self.min_m, point_m, self.max_m))

    @property
    def centre_m(self) -> Vec3:
        return tuple((lo + hi) / 2 for lo, hi in zip(self.min_m, self.max_m))


class Stage(msgspec.Struct, frozen=True):
    """Tiles; eye_m, from where the wall outside the camera's footprint is drawn; zone, where cameras go; their rigs."""

    tiles: tuple[WallTile, ...]
    eye_m: Vec3
    zone: Box
    rigs: tuple[Rig, ...]

    @property
    def surfaces(self) -> tuple[Surface, ...]:
        return tuple({tile.surface.name: tile.surface for tile in self.tiles}.values())


def surface_points(surface: Surface, columns_px: np.ndarray, rows_px: np.ndarray) -> np.ndarray:
    """Stage points (..., 3) float64 of continuous LED coordinates.

    Arc: with arc length s from the middle and curvature k = 1/R, x = sin(k s) / k and z = (1 - cos(k s)) / k. PositionMap: on
    the border of two cells, the right or the lower one's.
    """
    m = surface.stage_from_surface.matrix()
    (width_m, height_m), (width_px, height_px) = surface.size_m, surface.resolution_px
    if isinstance(cells := surface.shape, PositionMap):
        across, down = np.broadcast_arrays(np.asarray(columns_px, float), np.asarray(rows_px, float))
        points = patch_points(cells.corners_m, across * (cells.columns / width_px), down * (cells.rows / height_px))
        return points @ m[:3, :3].T + m[:3, 3]
    s = (np.asarray(columns_px, float) / width_px - 0.5) * width_m
    y = (0.5 - np.asarray(rows_px, float) / height_px) * height_m
    k = surface.curvature_per_m
    x, z = (s, np.zeros_like(s)) if k == 0 else (np.sin(k * s) / k, (1 - np.cos(k * s)) / k)
    return np.stack(np.broadcast_arrays(x, y, z), -1) @ m[:3, :3].T + m[:3, 3]


def rays_through(
    surface: Surface, columns_px: np.ndarray, rows_px: np.ndarray, eye_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From an eye of the stage through LED coordinates: unit directions (..., 3), and spreads (...,): the radius of an LED
    pixel's footprint per metre of distance."""
    toward = surface_points(surface, columns_px, rows_px) - eye_m
    distance_m = np.linalg.norm(toward, axis=-1)
    return toward / distance_m[..., None], 0.5 * surface.pitch_m / distance_m


def pixel_positions(tile: WallTile) -> np.ndarray:
    """Centres of all LED pixels of a tile, (H, W, 3) float64, stage metres."""
    (width, height), (left, top) = tile.resolution_px, tile.offset_px
    columns, rows = np.meshgrid(left + np.arange(width) + 0.5, top + np.arange(height) + 0.5)
    return surface_points(tile.surface, columns, rows)


def led_coordinates(surface: Surface, origin_m: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Where rays from one stage point hit the surface: (..., 2) LED coordinates, NaN where they miss it.

    The first hit within the surface's bounds, from either side. Inverse of `surface_points`.
    """
    m = surface.stage_from_surface.matrix()
    o = (np.asarray(origin_m, float) - m[:3, 3]) @ m[:3, :3]
    d = np.asarray(directions, float) @ m[:3, :3]
    (width_m, height_m), (width_px, height_px) = surface.size_m, surface.resolution_px
    if isinstance(cells := surface.shape, PositionMap):
        found = patch_coordinates(cells.corners_m, o, d.reshape(-1, 3)).reshape(*d.shape[:-1], 2)
        return found * (width_px / cells.columns, height_px / cells.rows)
    k = surface.curvature_per_m
    best = np.full((*d.shape[:-1], 2), np.nan)
    best_t = np.full(d.shape[:-1], np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        if k == 0:
            hits = [-o[2] / d[..., 2]]
        else:  # |(x, z - R)| = R
            oz = o[2] - 1 / k
            a = d[..., 0] ** 2 + d[..., 2] ** 2
            b = d[..., 0] * o[0] + d[..., 2] * oz
            root = np.sqrt(b * b - a * (o[0] ** 2 + oz**2 - 1 / k**2))
            hits = [(-b - root) / a, (-b + root) / a]
        for t in hits:
            p = o + d * t[..., None]
            s = p[..., 0] if k == 0 else np.arctan2(p[..., 0] * k, 1 - p[..., 2] * k) / k
            column, row = (s / width_m + 0.5) * width_px, (0.5 - p[..., 1] / height_m) * height_px
            seen = (t > 0) & (t < best_t) & (column >= 0) & (column <= width_px) & (row >= 0) & (row <= height_px)
            best[seen] = np.stack([column, row], -1)[seen]
            best_t[seen] = t[seen]
    return best


def facing(pan_rad: float, centre_m: Vec3, tilt_rad: float = 0.0, roll_rad: float = 0.0) -> Pose:
    """stage_from_surface of a surface that a viewer with this pan, tilt and roll looks straight at (0: looks along +Y, at an
    upright wall; tilt + 90°: up at a ceiling; pose.py has the angles)."""
    turns = zip((pan_rad, tilt_rad, roll_rad), ((0, 0, 1), (1, 0, 0), (0, 1, 0)))
    pan, tilt, roll = ((math.cos(a / 2), *(math.sin(a / 2) * i for i in axis)) for a, axis in turns)
    return seen_by(Pose(multiply(multiply(pan, tilt), roll), centre_m))


def seen_by(stage_from_viewer: Pose) -> Pose:
    """stage_from_surface of a surface that is in front of a viewer: right is right, up is up, its +Z looks back."""
    half = math.sqrt(0.5)
    return stage_from_viewer @ Pose((half, half, 0.0, 0.0))


def cut(surface: Surface, columns: int, rows: int) -> tuple[WallTile, ...]:
    """Columns × rows tiles named `surface-column-row` from the top left. Raises ValueError if the pixels do not divide."""
    width, height = surface.resolution_px
    if width % columns or height % rows:
        raise ValueError(f"{width} × {height} px do not divide into {columns} × {rows} tiles")
    w, h = width // columns, height // rows
    return tuple(
        WallTile(f"{surface.name}-{c}-{r}", surface, (c * w, r * h), (w, h)) for c in range(columns) for r in range(rows)
    )
