"""A surface that is solved as flat panels, each where it hangs."""

from dataclasses import dataclass

import numpy as np

from calibration.solve.spots import Spots, cross, mapped, placed
from calibration.solve.turns import best_fit, turned
from ledvolume.stage import Flat, Surface, surface_points


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
        return np.concatenate([by_point, cross(arm[:, None, :], by_point)], -1)

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
            return placed(self.surface, values[0, :, :3], values[0, :, 3], size, Flat())
        half = size / (self.columns, self.rows) / 2
        corner = half * [[[-1, 1], [1, 1]], [[-1, -1], [1, -1]]]
        corners = np.einsum("pij,abj->pabi", values[:, :, :2], corner) + values[:, None, None, :, 3]
        return mapped(self.surface, corners.reshape(self.rows, self.columns, 2, 2, 3), size)
