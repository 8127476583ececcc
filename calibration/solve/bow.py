"""A surface that is solved as an arc: part of a cylinder, or a plane."""

from dataclasses import dataclass

import numpy as np

from calibration.solve.spots import Spots, cross, placed
from calibration.solve.turns import turned
from ledvolume.stage import Arc, Flat, Surface

FLAT_BELOW_PER_M = 1e-5  # a sagitta of 0.01 mm on 3 m


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
        return np.concatenate([by_point, cross(arm[:, None, :], by_point), by_point @ bent[..., None]], -1)

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
        return placed(self.surface, values[:, :3], values[:, 3], np.array(self.surface.size_m) * pitch, shape)
