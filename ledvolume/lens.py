"""What a lens does to the picture: the OpenLensIO 1.0.1 model, both ways, and how much wider than a pinhole it sees.

Points are millimetres on the sensor from its centre, x right and y DOWN. ε_d is where the light falls; ε_u is where it would
fall through a pinhole of the same focal length. With c = ΔP + ΔC, the centre of distortion (eq. 4):

    ε_u = U(ε_d - c) + c        U is P if the model is "Brown-Conrady D-U", the inverse of P if it is "Brown-Conrady U-D"

    P(x, y) = R·(x, y) + (2 p1 xy + p2 (r² + 2x²), p1 (r² + 2y²) + 2 p2 xy)                                  (eq. 16)
    R = (1 + k1 r² + k3 r⁴ + k5 r⁶) / (1 + k2 r² + k4 r⁴ + k6 r⁶)     numerator and denominator take turns   (eq. 17)

k1 and k2 are in 1/mm², k3 and k4 in 1/mm⁴, and so on; p1 and p2 in 1/mm (the paper's 1/mm² does not add up).

Inside, a point is the complex number z = x + iy, and with q = p2 + i p1: P(z) = R z + q r² + 2 Re(q̄ z) z. Its derivative is
dP = a dz + b dz̄ with a real: a symmetric matrix with the eigenvalues a ± |b|. On a disk where both are positive no two points
fall together. Around it a polynomial folds back, or its denominator is 0, and says nothing of any lens: NaN from there on.
"""

from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np

DistortionModel = Literal["Brown-Conrady D-U", "Brown-Conrady U-D"]

CONVERGED_MM = 1e-9  # a solution that is off by more is none
MOST_STEPS = 50  # of Newton's method; lenses take 3 or 4
_HARMLESS = 0.005  # what a term may be worth for 16 of them together to fold nothing
_FRACTIONS = np.linspace(0, 1, 257)  # of a radius: where folds are looked for
_UNKNOWN = complex(np.nan, np.nan)
_SIDE = np.linspace(-1, 1, 33)[:-1]
_SQUARE = np.concatenate([_SIDE - 1j, 1 + 1j * _SIDE, 1j - _SIDE, -1 - 1j * _SIDE])  # the border of a picture, corners too


class Distortion(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a lens bends the picture: OpenLensIO 1.0.1. Coefficients in powers of 1/mm.

    radial: k1, k2, … as OpenLensIO counts them: odd ones above the fraction's line, even ones below it.
    offset_mm: ΔC, the centre of distortion from the projection's centre, right and down. model: which way the polynomial
    goes, from distorted to undistorted points (D-U, the standard's default) or the other way.
    """

    radial: tuple[float, ...] = ()
    tangential: tuple[float, ...] = ()
    offset_mm: tuple[float, float] = (0.0, 0.0)
    model: DistortionModel = "Brown-Conrady D-U"


class Lens(msgspec.Struct, frozen=True):
    """A lens in one state, in OpenLensIO's meanings (SMPTE RIS-OSVP 1.0.1).

    projection_offset_mm: ΔP, where the optical axis meets the sensor, right and down from its centre.
    entrance_pupil_m: + toward the object, from the tracked point (here: from the sensor plane) along +Y.
    """

    focal_length_mm: float
    sensor_mm: tuple[float, float]
    projection_offset_mm: tuple[float, float] = (0.0, 0.0)
    entrance_pupil_m: float = 0.0
    focus_distance_m: float | None = None
    distortion: Distortion = Distortion()


def undistorted(lens: Lens, points_mm: np.ndarray) -> np.ndarray:
    """ε_u of ε_d, (..., 2) float64 mm. NaN where no lens can be what the coefficients say (fold_mm)."""
    return _mapped(lens, points_mm, forwards=lens.distortion.model == "Brown-Conrady D-U")


def distorted(lens: Lens, points_mm: np.ndarray) -> np.ndarray:
    """ε_d of ε_u, (..., 2) float64 mm; the inverse of `undistorted`. NaN where there is none."""
    return _mapped(lens, points_mm, forwards=lens.distortion.model == "Brown-Conrady U-D")


def fold_mm(distortion: Distortion, within_mm: float) -> float:
    """How far from its centre the polynomial can be believed; inf if that is farther than within_mm.

    On the side of the polynomial's argument: distorted points for D-U, undistorted ones for U-D. The tangential part counts
    as in its worst direction, 6 |q| r, so that the answer is a circle.
    """
    with np.errstate(all="ignore"):
        return _along_a_ray(distortion, within_mm)[2]


def view_overscan(lens: Lens, about_mm: tuple[float, float] = (0.0, 0.0)) -> float:
    """The multiple of the half view, the same across and up, that holds all that the sensor sees; inf if it holds a fold.

    Below 1 where the lens sees less than a pinhole does (a pincushion). This is OpenLensIO's Ω (A.1: the largest |ε_u| over
    the half size on the border), which the standard bounds below by 1. about_mm is the point that the view is widened about.
    The sensor's centre is eq. 4's, and how our footprint is made. Eq. 15 has ΔP (Ω', for renderers that know a field of view
    only); eq. 8, taken literally, ΔP + ΔC, because it does not add the centre back as eq. 4 does: a slip, we think.
    """
    off = seen_border(lens) - np.asarray(about_mm)
    widest = float(np.max(np.abs(off) / (np.asarray(lens.sensor_mm) / 2)))
    return widest if widest < np.inf else np.inf  # NaN is not below


def seen_border(lens: Lens) -> np.ndarray:
    """ε_u of the sensor's border, 128 points in a ring, (128, 2) mm; not to be written to."""
    return _seen_border(lens.distortion, lens.projection_offset_mm, lens.sensor_mm)


def distortion_between(a: Distortion, b: Distortion, fraction: float) -> Distortion:
    """Coefficient by coefficient; a, where the models differ: they count in different directions."""
    if a == b or a.model != b.model:
        return a
    radial, tangential, offset_mm = (
        tuple(p + (q - p) * fraction for p, q in zip(*_same_length(x, y)))
        for x, y in ((a.radial, b.radial), (a.tangential, b.tangential), (a.offset_mm, b.offset_mm))
    )
    return Distortion(radial, tangential, offset_mm, a.model)


def _same_length(x: tuple[float, ...], y: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    size = max(len(x), len(y))
    return x + (0.0,) * (size - len(x)), y + (0.0,) * (size - len(y))


@lru_cache(maxsize=256)  # a zoom or a focus pull is a new key in every frame, everything else is found again
def _seen_border(distortion: Distortion, projection_offset_mm: tuple[float, float], sensor_mm: tuple[float, float]) -> np.ndarray:
    border = _SQUARE.real * (sensor_mm[0] / 2) + _SQUARE.imag * (0.5j * sensor_mm[1])
    if any(distortion.radial) or any(distortion.tangential):
        (dx, dy), (cx, cy) = projection_offset_mm, distortion.offset_mm
        centre = complex(dx + cx, dy + cy)
        with np.errstate(all="ignore"):
            if distortion.model == "Brown-Conrady D-U":
                border = _bent(distortion, border - centre) + centre
            else:
                rough, fold = _unbent_roughly(distortion, border - centre)
                border = (rough if fold == np.inf else _unbent(distortion, border - centre)) + centre
    seen = border.view(np.float64).reshape(-1, 2)
    seen.flags.writeable = False
    return seen


def _mapped(lens: Lens, points_mm: np.ndarray, forwards: bool) -> np.ndarray:
    points = np.array(points_mm, np.float64)
    distortion = lens.distortion
    if points.shape[-1:] != (2,):
        raise ValueError(f"points of shape (..., 2) expected, got {points.shape}")
    if not (any(distortion.radial) or any(distortion.tangential)) or not points.size:
        return points
    (dx, dy), (cx, cy) = lens.projection_offset_mm, distortion.offset_mm
    centre = complex(dx + cx, dy + cy)
    with np.errstate(all="ignore"):
        z = points.view(np.complex128)[..., 0] - centre
        mapped = (_bent if forwards else _unbent)(distortion, z) + centre
    return np.stack([mapped.real, mapped.imag], -1)


def _bent(distortion: Distortion, z: np.ndarray) -> np.ndarray:
    """P(z); NaN beyond the fold."""
    r = np.abs(z)
    _, _, fold = _along_a_ray(distortion, _farthest(r))
    value, _, _ = _with_derivative(distortion, z)
    return value if fold == np.inf else np.where(r < fold, value, _UNKNOWN)


def _unbent(distortion: Distortion, bent: np.ndarray) -> np.ndarray:
    """z with P(z) = bent, by Newton's method; NaN where there is none."""
    z, fold = _unbent_roughly(distortion, bent)
    for _ in range(MOST_STEPS):
        before, z = z, _nearer(distortion, bent, z)
        if fold < np.inf:
            z = z * np.minimum(1, fold / np.abs(z))
        if not np.any(np.abs(z - before) > CONVERGED_MM / 1000):
            break
    value, a, b = _with_derivative(distortion, z)
    solved = (np.abs(value - bent) <= CONVERGED_MM) & (a > np.abs(b)) & (np.abs(z) < fold)
    return np.where(solved, z, _UNKNOWN)


def _unbent_roughly(distortion: Distortion, bent: np.ndarray) -> tuple[np.ndarray, float]:
    """z with P(z) = bent, to about a ten-thousandth: the radial part from a table, the tangential one by a step or two. And
    the fold, if one is near (inf: none): then what lies beyond is put to its edge."""
    r = np.abs(bent)
    farthest = _farthest(r)
    within = 2 * farthest
    radii, lengths, fold = _along_a_ray(distortion, within)
    while fold == np.inf and lengths[-1] < farthest and within < 1e4 * farthest:
        within *= 2
        radii, lengths, fold = _along_a_ray(distortion, within)
    z = bent * (np.interp(r, lengths, radii) / np.where(r > 0, r, 1))
    for _ in range(5 if any(distortion.tangential) else 0):
        before, z = z, _nearer(distortion, bent, z)
        if not np.any(np.abs(z - before) > farthest / 100):  # the next one would be the square of it
            break
    return z, fold


def _nearer(distortion: Distortion, bent: np.ndarray, z: np.ndarray) -> np.ndarray:
    """One step of Newton's method: dz of a dz + b dz̄ = bent - P(z)."""
    value, a, b = _with_derivative(distortion, z)
    off = bent - value
    return z + (a * off - b * off.conj()) / (a * a - (b * b.conj()).real)


def _farthest(r: np.ndarray) -> float:
    finite = r[np.isfinite(r)]
    return float(finite.max()) if finite.size else 0.0


def _with_derivative(distortion: Distortion, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P, a, b of the module's docstring."""
    s = z.real**2 + z.imag**2
    ratio, slope, _ = _radial(distortion.radial, s)
    value, a, b = ratio * z, ratio + slope * s, slope * z * z
    q = _tangential(distortion)
    if q:
        t = 2 * (q.conjugate() * z).real
        value, a, b = value + q * s + t * z, a + 2 * t, b + 2 * q * z
    return value, a, b


def _along_a_ray(distortion: Distortion, within: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Radii up to `within` or to the fold before it, where the radial part takes them, and the fold (inf: none)."""
    radii = within * _FRACTIONS
    harmless = _harmless_mm(distortion.radial)
    if harmless < radii[1]:  # no lens, or a point very far off: at every scale then
        radii = np.append(0, np.geomspace(max(harmless, 1e-300), within, 1024))
    lengths, rises = _lengths(distortion, radii)
    if rises.all():
        return radii, lengths, np.inf
    first = max(int(np.argmin(rises)), 1)
    low, high = radii[first - 1], radii[first]
    for _ in range(4):  # each time 256 times closer
        between = low + (high - low) * _FRACTIONS
        i = max(int(np.argmin(_lengths(distortion, between)[1])), 1)
        low, high = between[i - 1], between[i]
    radii = np.append(radii[:first], low)
    return radii, _lengths(distortion, radii)[0], float(low)


def _harmless_mm(radial: tuple[float, ...]) -> float:
    """The radius up to which no term k rⁿ is worth more than _HARMLESS · 2/n, so that no fold can hide there."""
    return min(((_HARMLESS / (i // 2 + 1) / abs(k)) ** (0.5 / (i // 2 + 1)) for i, k in enumerate(radial) if k), default=np.inf)


def _lengths(distortion: Distortion, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R r, and whether P rises there in every direction, with the tangential part at its worst."""
    s = radii * radii
    ratio, slope, below = _radial(distortion.radial, s)
    rise = np.minimum(ratio, ratio + 2 * slope * s) - 6 * np.abs(_tangential(distortion)) * radii
    return ratio * radii, (rise > 0) & (below > 0)


def _radial(radial: tuple[float, ...], s: np.ndarray):
    """R, dR/ds and the denominator at s = r²."""
    above, above_slope = _series(radial[0::2], s)
    if not any(radial[1::2]):
        return above, above_slope, 1.0
    below, below_slope = _series(radial[1::2], s)
    ratio = above / below
    return ratio, (above_slope - ratio * below_slope) / below, below


def _series(coefficients: tuple[float, ...], s: np.ndarray):
    """1 + c1 s + c2 s² + …, and its derivative."""
    value, slope = 0.0, 0.0
    for c in (*reversed(coefficients), 1.0):
        value, slope = value * s + c, slope * s + value
    return value, slope


def _tangential(distortion: Distortion) -> complex:
    p1, p2 = (*distortion.tangential, 0.0, 0.0)[:2]
    return complex(p2, p1)
