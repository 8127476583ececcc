"""What a wall surface may be while it is solved: flat panels, an arc, or a cloth. Few unknowns, and no unknown per LED.

A shape knows the pieces of its surface and how their LEDs move with its unknowns; an LED depends on the unknowns of its own
piece alone, which is what keeps the normal equations small. The LED pitch is the maker's: `pitch` is the one factor that all
surfaces share where it is solved (gauge by a measured length), 1 otherwise.

    Panels   columns × rows flat panels, each a rigid body: 6 unknowns each (translation, turn)
    Bow      part of a cylinder, as Arc: 6 and the curvature in 1/m, so that a plane is nothing special
    Cloth    base surface + bicubic B-spline of displacements: 3 for each knot; stiff as its priors say
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calibration.solve.turns import best_fit, nearest_rotation, turned
from ledvolume.pose import Pose, quaternion
from ledvolume.stage import Arc, Flat, PositionMap, Surface, surface_points

FLAT_BELOW_PER_M = 1e-5  # a sagitta of 0.01 mm on 3 m
MAP_ERROR_M = 2e-5  # of the bilinear cells that a cloth is written as
MOST_CELLS = 256


class Spots(NamedTuple):
    """Where LEDs are on a shape: piece (n,), and what their places are made of (n, …), which no unknown changes."""

    piece: np.ndarray
    basis: np.ndarray

    def __getitem__(self, chosen) -> "Spots":
        return Spots(self.piece[chosen], self.basis[chosen])


@dataclass(frozen=True)
class Panels:
    """values: (panels, 3, 4), each [R | t] of stage_from_panel, origin in its middle."""

    surface: Surface
    columns: int
    rows: int

    width = 6

    def in_words(self) -> str:
        return f"{self.columns * self.rows} flat panels" if self.columns * self.rows > 1 else "flat"

    @property
    def indices(self) -> np.ndarray:
        return np.arange(self.columns * self.rows * 6).reshape(-1, 6)

    @property
    def units(self) -> np.ndarray:
        return np.tile([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], self.columns * self.rows)

    def spots(self, led_px: np.ndarray) -> Spots:
        """Panels row by row; basis: metres right and up of the panel's middle."""
        cells = np.array([self.columns, self.rows])
        at = led_px * (cells / self.surface.resolution_px)
        cell = np.floor(at).clip(0, cells - 1)
        size = np.array(self.surface.size_m) / cells
        basis = (at - cell - 0.5) * size * [1, -1]
        return Spots((cell[:, 1] * self.columns + cell[:, 0]).astype(int), basis)

    def start(self) -> np.ndarray:
        """Rigid panels where the nominal surface has them."""
        across, down = np.meshgrid(np.linspace(0, 1, 5)[:-1] + 0.125, np.linspace(0, 1, 5)[:-1] + 0.125)
        px = np.array(self.surface.resolution_px) / (self.columns, self.rows)
        values = np.empty((self.columns * self.rows, 3, 4))
        for i in range(len(values)):
            led = (np.stack([across.ravel(), down.ravel()], -1) + (i % self.columns, i // self.columns)) * px
            basis = self.spots(led).basis
            values[i] = np.column_stack(
                best_fit(np.column_stack([basis, np.zeros(len(basis))]), surface_points(self.surface, *led.T))
            )
        return values

    def points(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        m = values[spots.piece]
        return np.einsum("nij,nj->ni", m[:, :, :2], spots.basis * pitch) + m[:, :, 3]

    def by_unknowns(self, values: np.ndarray, spots: Spots, pitch: float, by_point: np.ndarray) -> np.ndarray:
        """∂r/∂unknowns (n, m, 6) of ∂r/∂point (n, m, 3). The arm a turns as ω × a, and g · (ω × a) = (a × g) · ω."""
        arm = np.einsum("nij,nj->ni", values[spots.piece][:, :, :2], spots.basis * pitch)
        return np.concatenate([by_point, _cross(arm[:, None, :], by_point)], -1)

    def by_pitch(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        return np.einsum("nij,nj->ni", values[spots.piece][:, :, :2], spots.basis)

    def moved(self, values: np.ndarray, step: np.ndarray) -> np.ndarray:
        step = step.reshape(-1, 6)
        return np.concatenate([turned(step[:, 3:]) @ values[:, :, :3], (values[:, :, 3] + step[:, :3])[..., None]], -1)

    def carried(self, values: np.ndarray, rotation: np.ndarray, position_m: np.ndarray) -> np.ndarray:
        moved = rotation @ values
        moved[:, :, 3] += position_m
        return moved

    def solved(self, values: np.ndarray, pitch: float) -> Surface:
        """Flat, if there is one panel only; else a map whose cells are the panels as they hang."""
        size = np.array(self.surface.size_m) * pitch
        if len(values) == 1:
            return _placed(self.surface, values[0, :, :3], values[0, :, 3], size, Flat())
        half = size / (self.columns, self.rows) / 2
        corner = half * [[[-1, 1], [1, 1]], [[-1, -1], [1, -1]]]
        corners = np.einsum("pij,abj->pabi", values[:, :, :2], corner) + values[:, None, None, :, 3]
        return _mapped(self.surface, corners.reshape(self.rows, self.columns, 2, 2, 3), size)


@dataclass(frozen=True)
class Bow:
    """values: (3, 5): [R | t] of stage_from_surface, and the curvature in 1/m at [0, 4]."""

    surface: Surface

    width = 7

    def in_words(self) -> str:
        return "arc"

    @property
    def indices(self) -> np.ndarray:
        return np.arange(7)[None]

    @property
    def units(self) -> np.ndarray:
        return np.array([0.1] * 6 + [0.05])

    def spots(self, led_px: np.ndarray) -> Spots:
        """One piece; basis: arc length from the middle and height, m."""
        basis = (led_px / self.surface.resolution_px - 0.5) * self.surface.size_m * [1, -1]
        return Spots(np.zeros(len(led_px), int), basis)

    def start(self) -> np.ndarray:
        m = self.surface.stage_from_surface.matrix()[:3]
        return np.column_stack([m, [self.surface.curvature_per_m, 0, 0]])

    def points(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        return self._local(values, spots, pitch) @ values[:, :3].T + values[:, 3]

    def by_unknowns(self, values: np.ndarray, spots: Spots, pitch: float, by_point: np.ndarray) -> np.ndarray:
        arm = self._local(values, spots, pitch) @ values[:, :3].T
        s, k = spots.basis[:, 0] * pitch, values[0, 4]
        ks = k * s
        near = np.abs(ks) < 1e-3
        safe = np.where(near, 1.0, ks)
        # d/dk of sin(ks)/k and of (1 - cos ks)/k, with their series where ks is small
        x = np.where(near, -ks / 3, (safe * np.cos(safe) - np.sin(safe)) / safe**2) * s * s
        z = np.where(near, 0.5 - ks * ks / 8, (safe * np.sin(safe) - 1 + np.cos(safe)) / safe**2) * s * s
        bent = np.outer(x, values[:, 0]) + np.outer(z, values[:, 2])
        return np.concatenate([by_point, _cross(arm[:, None, :], by_point), by_point @ bent[..., None]], -1)

    def by_pitch(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        ks = values[0, 4] * spots.basis[:, 0] * pitch
        s, y = spots.basis.T
        return np.stack([np.cos(ks) * s, y, np.sin(ks) * s], -1) @ values[:, :3].T

    def _local(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        s, k = spots.basis[:, 0] * pitch, values[0, 4]
        half = np.sinc(k * s / (2 * np.pi))  # sin(ks/2) / (ks/2)
        return np.stack([np.sinc(k * s / np.pi) * s, spots.basis[:, 1] * pitch, 0.5 * k * s * s * half * half], -1)

    def moved(self, values: np.ndarray, step: np.ndarray) -> np.ndarray:
        return np.column_stack([turned(step[3:6]) @ values[:, :3], values[:, 3] + step[:3], values[:, 4] + [step[6], 0, 0]])

    def carried(self, values: np.ndarray, rotation: np.ndarray, position_m: np.ndarray) -> np.ndarray:
        return np.column_stack([rotation @ values[:, :3], rotation @ values[:, 3] + position_m, values[:, 4]])

    def solved(self, values: np.ndarray, pitch: float) -> Surface:
        k = float(values[0, 4])
        shape = Flat() if abs(k) < FLAT_BELOW_PER_M else Arc(1 / k)
        return _placed(self.surface, values[:, :3], values[:, 3], np.array(self.surface.size_m) * pitch, shape)


@dataclass(frozen=True)
class Cloth:
    """values: (rows + 3, columns + 3, 3), displacements at the knots of columns × rows spans, in metres of the stage.

    How much such a wall bends (1/m) and stretches is not known beforehand: the sigmas of both are found (adjustment.py).
    """

    surface: Surface
    columns: int
    rows: int

    width = 48

    def in_words(self) -> str:
        return f"map, {self.columns} × {self.rows} spans"

    @property
    def indices(self) -> np.ndarray:
        knots = np.arange((self.rows + 3) * (self.columns + 3) * 3).reshape(self.rows + 3, self.columns + 3, 3)
        windows = np.lib.stride_tricks.sliding_window_view(knots, (4, 4), (0, 1))  # rows, columns, 3, 4, 4
        return np.moveaxis(windows, 2, -1).reshape(self.columns * self.rows, 48)

    @property
    def units(self) -> np.ndarray:
        return np.full((self.rows + 3) * (self.columns + 3) * 3, 0.1)

    def spots(self, led_px: np.ndarray) -> Spots:
        """Pieces are the spans between knots; basis: the base surface's point (3), the 4 × 4 knots' weights (16)."""
        weights, cell = self._weights(led_px)
        base = surface_points(self.surface, *np.asarray(led_px, float).T)
        return Spots((cell[:, 1] * self.columns + cell[:, 0]).astype(int), np.concatenate([base, weights], -1))

    def _weights(self, led_px: np.ndarray, slope: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(n, 16) of rows × columns; slope: along columns (0) or rows (1), per LED pixel."""
        cells = np.array([self.columns, self.rows])
        at = np.asarray(led_px, float) * (cells / self.surface.resolution_px)
        cell = np.floor(at).clip(0, cells - 1)
        u = at - cell
        b = [_slopes(u[:, i]) * (cells / self.surface.resolution_px)[i] if slope == i else _cubic(u[:, i]) for i in (0, 1)]
        return (b[1][:, :, None] * b[0][:, None, :]).reshape(-1, 16), cell

    def start(self) -> np.ndarray:
        return np.zeros((self.rows + 3, self.columns + 3, 3))

    def points(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        knots = values.reshape(-1)[self.indices].reshape(-1, 16, 3)[spots.piece]
        return spots.basis[:, :3] + np.einsum("nk,nki->ni", spots.basis[:, 3:], knots)

    def by_unknowns(self, values: np.ndarray, spots: Spots, pitch: float, by_point: np.ndarray) -> np.ndarray:
        n, m, _ = by_point.shape
        return (by_point[:, :, None, :] * spots.basis[:, None, 3:, None]).reshape(n, m, 48)

    def by_pitch(self, values: np.ndarray, spots: Spots, pitch: float) -> np.ndarray:
        return np.zeros((len(spots.piece), 3))  # the pitch is in the strain

    def moved(self, values: np.ndarray, step: np.ndarray) -> np.ndarray:
        return values + step.reshape(values.shape)

    def carried(self, values: np.ndarray, rotation: np.ndarray, position_m: np.ndarray) -> np.ndarray:
        """The knots' displacements that carry the surface: the spline holds every affine map of a flat base exactly, of a
        curved one nearly."""
        led = self._sites(3)
        spots = self.spots(led)
        wanted = self.points(values, spots, 1.0) @ rotation.T + position_m - spots.basis[:, :3]
        matrix = np.zeros((len(led), values.size // 3))
        np.put_along_axis(matrix, self.indices[:, ::3][spots.piece] // 3, spots.basis[:, 3:], 1)
        return np.linalg.lstsq(matrix, wanted, rcond=None)[0].reshape(values.shape)

    def _sites(self, per_span: int = 1) -> np.ndarray:
        """LED coordinates evenly over the spans."""
        counts = np.array([self.columns, self.rows]) * per_span
        across, down = np.meshgrid(*((np.arange(n) + 0.5) / n * size for n, size in zip(counts, self.surface.resolution_px)))
        return np.stack([across.ravel(), down.ravel()], -1)

    def bending(self) -> np.ndarray:
        """(rows, knots): second derivatives across, down and (twice) mixed, 1/m per metre of displacement. Times a
        coordinate's displacements these are the bendings that are to be small."""
        across, down = self.columns + 3, self.rows + 3
        su, sv = np.array(self.surface.size_m) / (self.columns, self.rows)
        second = [np.diff(np.eye(n), 2, axis=0) for n in (across, down)]
        first = [np.diff(np.eye(n), 1, axis=0) for n in (across, down)]
        mean = [np.eye(n)[1:-1] for n in (across, down)]
        twist = np.kron(first[1], first[0]) * (np.sqrt(2) / (su * sv))
        return np.concatenate([np.kron(mean[1], second[0]) / su**2, np.kron(second[1], mean[0]) / sv**2, twist])

    def stretch(self, values: np.ndarray, pitch: float) -> tuple[np.ndarray, np.ndarray]:
        """Strains at the middle of each span (n,): along columns, along rows, shear; and their derivatives by all unknowns
        (n, unknowns), the last column by the pitch."""
        led = self._sites()
        slopes, base = [], []
        for axis in (0, 1):
            weights, cell = self._weights(led, axis)
            step = np.eye(2)[axis] * 0.25
            base.append((surface_points(self.surface, *(led + step).T) - surface_points(self.surface, *(led - step).T)) / 0.5)
            slopes.append(weights)
        piece = (cell[:, 1] * self.columns + cell[:, 0]).astype(int)
        index = self.indices[piece]
        knots = values.reshape(-1)[index].reshape(-1, 16, 3)
        per_led = np.array(self.surface.size_m) / self.surface.resolution_px
        tangents = [(b + np.einsum("nk,nki->ni", w, knots)) / s for b, w, s in zip(base, slopes, per_led)]
        rows = []
        for i, j in ((0, 0), (1, 1), (0, 1)):
            value = (np.einsum("ni,ni->n", tangents[i], tangents[j]) - (pitch**2 if i == j else 0)) / (2 if i == j else 1)
            by = (
                slopes[i][:, :, None] / per_led[i] * tangents[j][:, None, :]
                + slopes[j][:, :, None] / per_led[j] * tangents[i][:, None, :]
            ) / (2 if i == j else 1)
            full = np.zeros((len(led), values.size + 1))
            np.put_along_axis(full, index, by.reshape(len(led), 48), 1)
            full[:, -1] = -pitch if i == j else 0
            rows.append((value, full))
        return np.concatenate([v for v, _ in rows]), np.concatenate([f for _, f in rows])

    def solved(self, values: np.ndarray, pitch: float) -> Surface:
        """A map of as many cells as it takes for their bilinear patches to be within MAP_ERROR_M."""
        columns, rows = self.columns, self.rows
        while True:
            grid = [np.linspace(0, size, n + 1) for size, n in zip(self.surface.resolution_px, (columns, rows))]
            across, down = np.meshgrid(*grid)
            at = self._at(values, across, down)
            off = []
            for axis, n in ((1, columns), (0, rows)):
                middle = [g.copy() for g in grid]
                middle[1 - axis] = (middle[1 - axis][1:] + middle[1 - axis][:-1]) / 2
                chord = (np.take(at, range(n), axis) + np.take(at, range(1, n + 1), axis)) / 2
                off.append(np.abs(self._at(values, *np.meshgrid(*middle)) - chord).max())
            finer = [min(2 * n, MOST_CELLS) if e > MAP_ERROR_M else n for n, e in zip((columns, rows), off)]
            if finer == [columns, rows]:
                break
            columns, rows = finer
        corners = np.stack([np.stack([at[:-1, :-1], at[:-1, 1:]], 2), np.stack([at[1:, :-1], at[1:, 1:]], 2)], 2)
        return _mapped(self.surface, corners, np.array(self.surface.size_m) * pitch)

    def _at(self, values: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        spots = self.spots(np.stack([across.ravel(), down.ravel()], -1))
        return self.points(values, spots, 1.0).reshape(*across.shape, 3)


Shape = Panels | Bow | Cloth


def fitted(shape: Shape, led_px: np.ndarray, points_m: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
    """The unknowns with which LEDs (n, 2) are nearest to points (n, 3): how a shape starts from another one."""
    spots = shape.spots(led_px)
    values = shape.start() if values is None else values
    values = shape.carried(values, *best_fit(shape.points(values, spots, 1.0), points_m))
    units, indices = shape.units, shape.indices
    for _ in range(20):
        off = points_m - shape.points(values, spots, 1.0)
        by = shape.by_unknowns(values, spots, 1.0, np.broadcast_to(np.eye(3), (len(off), 3, 3)))
        normal, gradient = np.diag(1e-9 / units**2), np.zeros(len(units))
        for piece in np.unique(spots.piece):
            chosen, index = spots.piece == piece, indices[piece]
            j = by[chosen].reshape(-1, shape.width)
            normal[np.ix_(index, index)] += j.T @ j
            gradient[index] += j.T @ off[chosen].ravel()
        step = np.linalg.solve(normal, gradient)
        values = shape.moved(values, step)
        if np.max(np.abs(step / units)) < 1e-7:
            break
    return values


def _placed(surface: Surface, rotation: np.ndarray, position_m: np.ndarray, size_m: np.ndarray, shape) -> Surface:
    pose = Pose(quaternion(nearest_rotation(rotation)), tuple(float(v) for v in position_m))
    return Surface(surface.name, pose, tuple(float(v) for v in size_m), surface.resolution_px, shape)


def _mapped(surface: Surface, corners_m: np.ndarray, size_m: np.ndarray) -> Surface:
    """A map with these corners (rows, columns, 2, 2, 3) in stage metres; its axes are those of the nominal surface, carried
    along as a whole."""
    rows, columns = corners_m.shape[:2]
    middle = corners_m.mean((2, 3)).reshape(-1, 3)
    px = np.array(surface.resolution_px) / (columns, rows)
    across, down = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    nominal = surface_points(surface, across.ravel() * px[0], down.ravel() * px[1])
    if min(rows, columns) == 1:  # points on a line do not say how the surface is turned about it
        middle = corners_m.reshape(-1, 3)
        ends = np.stack([across, across + 1], -1) - 0.5, np.stack([down, down + 1], -1) - 0.5
        u = np.broadcast_to(ends[0][:, :, None, :], (rows, columns, 2, 2)).ravel() * px[0]
        v = np.broadcast_to(ends[1][:, :, :, None], (rows, columns, 2, 2)).ravel() * px[1]
        nominal = surface_points(surface, u, v)
    m = surface.stage_from_surface.matrix()
    rotation, position_m = best_fit((nominal - m[:3, 3]) @ m[:3, :3], middle)
    corners = (corners_m - position_m) @ rotation
    shape = PositionMap(columns, rows, np.ascontiguousarray(corners, "<f8").tobytes())
    return _placed(surface, rotation, position_m, size_m, shape)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ],
        -1,
    )


def _cubic(u: np.ndarray) -> np.ndarray:
    """The four uniform cubic B-splines at u in 0..1, (n, 4)."""
    v = 1 - u
    return np.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3], -1) / 6


def _slopes(u: np.ndarray) -> np.ndarray:
    v = 1 - u
    return np.stack([-(v**2), 3 * u**2 - 4 * u, -3 * v**2 + 4 * v, u**2], -1) / 2
