"""Stage point → picture point, through a lens that is being solved, and the derivatives by everything in between.

With X = Rᵀ(p - t) on camera axes (X right, Y forward, Z up) and lens.py's meanings:

    z = F·(X/Y, -Z/Y) - ΔC       z' = P(z), or P⁻¹(z) for "Brown-Conrady D-U"       picture = (z' + ΔP + ΔC)/sensor + ½

The unknowns of a lens state: F, ΔP (mm), and k1, k3, k5, p1, p2 times the power of the reach ρ (half the sensor's diagonal)
that makes them numbers without a unit: what a term moves the picture's corner by, over ρ. What else a lens says is kept.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from ledvolume.lens import Distortion, Lens, distorted, undistorted

FOCAL, OFFSET_X, OFFSET_Y = 0, 1, 2
RADIAL, TANGENTIAL = slice(3, 6), slice(6, 8)
COUNT = 8
DISTORTION_PRIOR = 0.5  # sigma of each term at the corner, over ρ: more than any lens, so that what nobody sees stays finite


class Glass(NamedTuple):
    """A lens as it is nominally, and the picture it makes: what stays while its unknowns move."""

    lens: Lens
    resolution_px: tuple[int, int]

    @property
    def reach_mm(self) -> float:
        return float(np.hypot(*self.lens.sensor_mm) / 2)

    @property
    def px_per_mm(self) -> np.ndarray:
        return np.array(self.resolution_px) / self.lens.sensor_mm

    def unknowns(self) -> np.ndarray:
        """(8,) of the nominal lens."""
        d, reach = self.lens.distortion, self.reach_mm
        k = (*d.radial, *[0.0] * 6)[0:6:2]
        p = (*d.tangential, 0.0, 0.0)[:2]
        powers = [k[0] * reach**2, k[1] * reach**4, k[2] * reach**6, p[0] * reach, p[1] * reach]
        return np.array([self.lens.focal_length_mm, *self.lens.projection_offset_mm, *powers])

    def units(self) -> np.ndarray:
        """(8,): steps of each that are of a size: a tenth of the focal length, a twentieth of the reach, a tenth."""
        return np.array([0.1 * self.lens.focal_length_mm, *[0.05 * self.reach_mm] * 2, *[0.1] * 5])

    def lens_of(self, unknowns: np.ndarray, entrance_pupil_m: float) -> Lens:
        """The lens that these unknowns are."""
        d, reach = self.lens.distortion, self.reach_mm
        k = [float(v) / reach ** (2 * (i + 1)) for i, v in enumerate(unknowns[RADIAL])]
        even = (*d.radial[1::2], 0.0, 0.0, 0.0)
        radial = [v for i in range(3) for v in (k[i], even[i])] + list(d.radial[6:])
        while radial and radial[-1] == 0:
            radial.pop()
        tangential = tuple(float(v) / reach for v in unknowns[TANGENTIAL])
        return msgspec.structs.replace(
            self.lens,
            focal_length_mm=float(unknowns[FOCAL]),
            projection_offset_mm=(float(unknowns[OFFSET_X]), float(unknowns[OFFSET_Y])),
            entrance_pupil_m=float(entrance_pupil_m),
            distortion=Distortion(tuple(radial), tangential if any(tangential) else (), d.offset_mm, d.model),
        )


class Pictured(NamedTuple):
    """Picture points (n, 2) px, and their derivatives: by the stage point (n, 2, 3), by the camera's translation and turn in
    stage axes (n, 2, 6), by the lens' unknowns (n, 2, 8). Rows of points that are behind the camera, or where no lens can be
    what the numbers say, are NaN in px and 0 in all else."""

    px: np.ndarray
    by_point: np.ndarray
    by_camera: np.ndarray
    by_lens: np.ndarray


def pictured(glass: Glass, unknowns: np.ndarray, points_m: np.ndarray, rotation: np.ndarray, eye_m: np.ndarray) -> Pictured:
    """Of points (n, 3) of the stage by one camera, [rotation | eye_m] = stage_from_camera."""
    from_eye = points_m - eye_m
    local = from_eye @ rotation
    forward = np.where(local[:, 1] > 1e-6, local[:, 1], np.nan)
    tangents = np.stack([local[:, 0] / forward, -local[:, 2] / forward], -1)
    n = len(points_m)
    by_local = np.zeros((n, 2, 3))
    by_local[:, 0, 0] = by_local[:, 1, 2] = 1 / forward
    by_local[:, 1, 2] *= -1
    by_local[:, :, 1] = -tangents / forward[:, None]
    px, by_tangents, by_lens = through_lens(glass, unknowns, tangents)
    by_point = by_tangents @ by_local @ rotation.T
    by_camera = np.empty((n, 2, 6))
    by_camera[..., :3] = -by_point
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):  # g · (-ω × a) = (g × a) · ω
        by_camera[..., 3 + i] = by_point[..., j] * from_eye[:, None, k] - by_point[..., k] * from_eye[:, None, j]
    bad = ~np.isfinite(px).all(1)
    if bad.any():
        px[bad] = np.nan
        by_point[bad] = by_camera[bad] = by_lens[bad] = 0
    return Pictured(px, by_point, by_camera, by_lens)


def through_lens(glass: Glass, unknowns: np.ndarray, tangents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture points (n, 2) px of tangents (n, 2), right and down; by the tangents (n, 2, 2) and by the unknowns (n, 2, 8)."""
    d, reach = glass.lens.distortion, glass.reach_mm
    shift = np.array(d.offset_mm)
    z = unknowns[FOCAL] * tangents - shift
    if d.model == "Brown-Conrady U-D":
        bent, by_z, by_terms = _bent(d, unknowns, z, reach)
    else:  # z = P(bent): dz = P' dbent + ∂P/∂terms dterms
        bent = undistorted_terms(glass, unknowns, z)
        _, slope, terms = _bent(d, unknowns, bent, reach)
        by_z = np.linalg.inv(np.where(np.isfinite(slope), slope, np.eye(2)))
        by_terms = -by_z @ terms
    scale = glass.px_per_mm
    px = (bent + unknowns[OFFSET_X : OFFSET_Y + 1] + shift) * scale + np.array(glass.resolution_px) / 2
    by_lens = np.zeros((len(z), 2, COUNT))
    by_lens[:, :, FOCAL] = np.einsum("nij,nj->ni", by_z, tangents)
    by_lens[:, 0, OFFSET_X] = by_lens[:, 1, OFFSET_Y] = 1
    by_lens[:, :, 3:] = by_terms
    return px, by_z * (unknowns[FOCAL] * scale[:, None]), by_lens * scale[:, None]


def undistorted_terms(glass: Glass, unknowns: np.ndarray, z: np.ndarray) -> np.ndarray:
    """P⁻¹(z) by lens.py, about the centre of distortion."""
    lens = msgspec.structs.replace(glass.lens_of(unknowns, 0.0), projection_offset_mm=(0.0, 0.0))
    lens = msgspec.structs.replace(
        lens, distortion=msgspec.structs.replace(lens.distortion, model="Brown-Conrady U-D", offset_mm=(0.0, 0.0))
    )
    return undistorted(lens, z)


def tangents_of(lens: Lens, resolution_px: tuple[int, int], picture_px: np.ndarray) -> np.ndarray:
    """Directions (n, 2) = (X/Y, -Z/Y) of picture points (n, 2): the inverse of `through_lens`. NaN where there is none."""
    on_sensor_mm = (picture_px / resolution_px - 0.5) * lens.sensor_mm
    return (undistorted(lens, on_sensor_mm) - lens.projection_offset_mm) / lens.focal_length_mm


def picture_of(lens: Lens, resolution_px: tuple[int, int], points_m: np.ndarray, stage_from_camera: np.ndarray) -> np.ndarray:
    """Picture points (n, 2) of stage points by a lens as a show has it; (4, 4) pose. NaN behind the camera."""
    local = (points_m - stage_from_camera[:3, 3]) @ stage_from_camera[:3, :3]
    forward = np.where(local[:, 1] > 1e-6, local[:, 1], np.nan)
    ideal_mm = lens.focal_length_mm * np.stack([local[:, 0], -local[:, 2]], -1) / forward[:, None] + lens.projection_offset_mm
    return (distorted(lens, ideal_mm) / lens.sensor_mm + 0.5) * resolution_px


def _bent(d: Distortion, unknowns: np.ndarray, z: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(z) of lens.py (n, 2), by z (n, 2, 2), by the five terms (n, 2, 5). In units of the reach: powers are of order 1."""
    x, y = z.T / reach
    s = x * x + y * y
    k1, k3, k5 = unknowns[RADIAL]
    p1, p2 = unknowns[TANGENTIAL]
    high = [k * reach ** (2 * i + 8) for i, k in enumerate(d.radial[6::2])]  # k7 and on are kept
    above = [k1, k3, k5, *high]
    below = [k * reach ** (2 * i + 2) for i, k in enumerate(d.radial[1::2])]
    (n, n_slope), (m, m_slope) = _series(above, s), _series(below, s)
    ratio = n / m
    slope = 2 * (n_slope - ratio * m_slope) / m
    value = np.stack([ratio * x + 2 * p1 * x * y + p2 * (s + 2 * x * x), ratio * y + p1 * (s + 2 * y * y) + 2 * p2 * x * y], -1)
    by_z = np.empty((len(x), 2, 2))
    by_z[:, 0, 0] = ratio + slope * x * x + 2 * p1 * y + 6 * p2 * x
    by_z[:, 0, 1] = by_z[:, 1, 0] = slope * x * y + 2 * p1 * x + 2 * p2 * y
    by_z[:, 1, 1] = ratio + slope * y * y + 6 * p1 * y + 2 * p2 * x
    by_terms = np.empty((len(x), 2, 5))
    for i in range(3):
        by_terms[:, 0, i], by_terms[:, 1, i] = x * s ** (i + 1) / m, y * s ** (i + 1) / m
    by_terms[:, 0, 3], by_terms[:, 1, 3] = 2 * x * y, s + 2 * y * y
    by_terms[:, 0, 4], by_terms[:, 1, 4] = s + 2 * x * x, 2 * x * y
    return value * reach, by_z, by_terms * reach


def _series(coefficients, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 + c1 s + c2 s² + …, and its derivative."""
    value, slope = np.zeros_like(s), np.zeros_like(s)
    for c in (*reversed(list(coefficients)), 1.0):
        value, slope = value * s + c, slope * s + value
    return value, slope
