"""LEDs on a surface that is being solved, and the surface that it becomes."""

from typing import NamedTuple

import numpy as np

from calibration.solve.turns import best_fit, nearest_rotation
from ledvolume.pose import Pose, quaternion
from ledvolume.stage import PositionMap, Surface, surface_points


class Spots(NamedTuple):
    """Where LEDs are on a shape: piece (n,), and what their places are made of (n, …), which no unknown changes."""

    piece: np.ndarray
    basis: np.ndarray

    def __getitem__(self, chosen) -> "Spots":
        return Spots(self.piece[chosen], self.basis[chosen])


def placed(surface: Surface, rotation: np.ndarray, position_m: np.ndarray, size_m: np.ndarray, shape) -> Surface:
    """The surface at [rotation | position_m], of this size and shape."""
    pose = Pose(quaternion(nearest_rotation(rotation)), tuple(float(v) for v in position_m))
    return Surface(surface.name, pose, tuple(float(v) for v in size_m), surface.resolution_px, shape)


def mapped(surface: Surface, corners_m: np.ndarray, size_m: np.ndarray) -> Surface:
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
    return placed(surface, rotation, position_m, size_m, shape)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a × b over the last axis; numpy's is several times slower."""
    return np.stack(
        [
            a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1],
            a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2],
            a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0],
        ],
        -1,
    )
