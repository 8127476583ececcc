"""A camera as OpenCV calibrates it (calib3d: camera matrix, distortion coefficients) ⇄ Lens.

OpenCV counts in pixels and in units of the focal length; with w mm and W pixels across (and square pixels):

    F = (w/W) f          ΔP = (w/W) (c + 0.5 - (W, H)/2)          ΔC = 0
    k1, k3, k5 = K1/F², K2/F⁴, K3/F⁶     k2, k4, k6 = K4/F², K5/F⁴, K6/F⁶     p1, p2 = P1/F, P2/F

0.5: OpenCV's pixel centres are at whole numbers, so that its picture begins at -0.5. OpenCV takes undistorted points to
distorted ones, so the model is always "Brown-Conrady U-D", which is not OpenLensIO's default. SMPTE's note on the conversion
has P/F² (and no 0.5); the units ask for P/F: F·(P x²) = (P/F)·(F x)².
"""

from collections.abc import Sequence

import numpy as np

from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion, Lens

SQUARE_WITHIN = 1e-3  # calibrations with fx and fy free are off by some 1e-4 where pixels are square
COUNTS = (0, 4, 5, 8, 12, 14)  # of coefficients: K1 K2 P1 P2 [K3 [K4 K5 K6 [S1 S2 S3 S4 [τx τy]]]]


def from_opencv(
    camera_matrix: np.ndarray,
    distortion: Sequence[float],
    picture_px: tuple[int, int],
    sensor_width_mm: float,
    square_within: float = SQUARE_WITHIN,
) -> Lens:
    """The lens of a calibration whose pictures are picture_px (width, height) and cover sensor_width_mm.

    Raises ConfigError for what OpenLensIO cannot say: pixels that are not square (fx and fy differ by more than
    square_within of them; up to that, their mean is used), skew, thin prisms, a tilted sensor.
    """
    m = np.asarray(camera_matrix, float)
    if m.shape != (3, 3) or not np.isfinite(m).all() or m[0, 0] <= 0 or m[1, 1] <= 0:
        raise ConfigError("opencv", "camera_matrix", "3 × 3 numbers, focal lengths above 0", camera_matrix)
    (fx, skew, cx), (_, fy, cy), _ = m.tolist()
    coefficients = [float(c) for c in np.ravel(distortion)]
    if len(coefficients) not in COUNTS or not np.isfinite(coefficients).all():
        raise ConfigError("opencv", "distortion", f"{', '.join(map(str, COUNTS))} numbers", coefficients)
    if abs(fx - fy) > square_within * (fx + fy) / 2:
        expected = f"fx = fy within {square_within:.2%}: OpenLensIO has one focal length (was the picture squeezed?)"
        raise ConfigError("opencv", "camera_matrix", expected, f"fx {fx:.6g}, fy {fy:.6g}, {fy / fx - 1:+.3%}")
    if abs(skew) > square_within * fx:
        raise ConfigError("opencv", "camera_matrix", "no skew", skew)
    k1, k2, p1, p2, k3, k4, k5, k6, *rest = coefficients + [0.0] * (14 - len(coefficients))
    if any(rest):
        raise ConfigError("opencv", "distortion", "no thin prisms and no tilt (s1 to s4, τ): OpenLensIO has none", rest)
    (width, height), mm = picture_px, sensor_width_mm / picture_px[0]
    f = mm * (fx + fy) / 2
    radial = (k1 / f**2, k4 / f**2, k2 / f**4, k5 / f**4, k3 / f**6, k6 / f**6)
    return Lens(
        f,
        (sensor_width_mm, mm * height),
        (mm * (cx + 0.5 - width / 2), mm * (cy + 0.5 - height / 2)),
        distortion=Distortion(radial, (p1 / f, p2 / f), model="Brown-Conrady U-D"),
    )


def to_opencv(lens: Lens, picture_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Camera matrix (3, 3) and distortion coefficients (8,) for pictures of picture_px (width, height) of the whole sensor.

    Raises ConfigError for what OpenCV cannot say: pixels that are not square, a polynomial from distorted to undistorted
    points, a centre of distortion of its own, powers beyond r⁶.
    """
    (width, height), (w, h), distortion, f = picture_px, lens.sensor_mm, lens.distortion, lens.focal_length_mm
    mm = w / width
    if abs(h / height / mm - 1) > SQUARE_WITHIN:
        raise ConfigError("opencv", "picture_px", f"the sensor's proportions, {w:g} to {h:g}", picture_px)
    if any(distortion.radial) or any(distortion.tangential):
        if distortion.model != "Brown-Conrady U-D":
            raise ConfigError("opencv", "distortion.model", "Brown-Conrady U-D: OpenCV's goes that way", distortion.model)
        if any(distortion.offset_mm):
            raise ConfigError("opencv", "distortion.offset_mm", "0: OpenCV has no centre of its own", distortion.offset_mm)
        if any(distortion.radial[6:]):
            raise ConfigError("opencv", "distortion.radial", "up to 6 coefficients", distortion.radial)
    k1, k4, k2, k5, k3, k6 = (*distortion.radial[:6], *[0.0] * 6)[:6]
    p1, p2 = (*distortion.tangential, 0.0, 0.0)[:2]
    (dx, dy), f_px = lens.projection_offset_mm, f / mm
    camera_matrix = [[f_px, 0, dx / mm + width / 2 - 0.5], [0, f_px, dy / mm + height / 2 - 0.5], [0, 0, 1]]
    coefficients = [k1 * f**2, k2 * f**4, p1 * f, p2 * f, k3 * f**6, k4 * f**2, k5 * f**4, k6 * f**6]
    return np.array(camera_matrix, float), np.array(coefficients)
