"""A surface that is solved as a smooth map: a base surface and a B-spline of displacements from it."""

from dataclasses import dataclass

import numpy as np

from calibration.solve.spots import Spots, mapped
from ledvolume.stage import Surface, surface_points

MAP_ERROR_M = 2e-5  # of the bilinear cells that it is written as
MOST_CELLS = 256


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
        return mapped(self.surface, corners, np.array(self.surface.size_m) * pitch)

    def _at(self, values: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        spots = self.spots(np.stack([across.ravel(), down.ravel()], -1))
        return self.points(values, spots, 1.0).reshape(*across.shape, 3)


def _cubic(u: np.ndarray) -> np.ndarray:
    """The four uniform cubic B-splines at u in 0..1, (n, 4)."""
    v = 1 - u
    return np.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3], -1) / 6


def _slopes(u: np.ndarray) -> np.ndarray:
    v = 1 - u
    return np.stack([-(v**2), 3 * u**2 - 4 * u, -3 * v**2 + 4 * v, u**2], -1) / 2
