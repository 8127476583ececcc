"""The lens model there and back: over the whole sensor, for lenses of every kind that OpenLensIO can say."""

import math
from collections.abc import Iterable

import numpy as np

from ledvolume.lens import Distortion, Lens, distorted, undistorted
from measure import Row

SENSOR_MM = (36.0, 24.0)
# Coefficients at 24 mm: a point 20 mm off the centre is moved by 0.4 mm and more.
KINDS = {
    "barrel": Distortion((-2e-4,)),
    "pincushion": Distortion((2e-4, 0.0, 1e-7)),
    "moustache": Distortion((-3e-4, 0.0, 6e-7)),
    "a fraction": Distortion((1e-4, 3e-4, 1e-7, 2e-7, 1e-11, 1e-11)),
    "tangential, off the centre": Distortion((-1e-4, 0.0, 1e-7), (3e-5, -2e-5), (0.4, -0.3)),
}


def distortion() -> Iterable[Row]:
    """undistorted(distorted(x)) and distorted(undistorted(x)) at 200 × 200 points of the sensor, both models"""
    x, y = (np.linspace(-side / 2, side / 2, 200) for side in SENSOR_MM)
    points = np.stack(np.meshgrid(x, y), -1)
    for name, bent in KINDS.items():
        for model in ("Brown-Conrady D-U", "Brown-Conrady U-D"):
            lens = Lens(24.0, SENSOR_MM, (0.2, -0.1), distortion=Distortion(bent.radial, bent.tangential, bent.offset_mm, model))
            away_mm = distance_mm(undistorted(lens, points), points)
            off_mm = distance_mm(undistorted(lens, distorted(lens, points)), points)
            back_mm = distance_mm(distorted(lens, undistorted(lens, points)), points)
            kind = f"{name}, {model.rpartition(' ')[2]}"
            yield Row(f"{kind}: moves a point by up to", away_mm, "mm", ("≥", 0.3))
            yield Row(f"{kind}: there and back is off by at most", max(off_mm, back_mm), "mm", ("≤", 1e-6))


def distance_mm(a: np.ndarray, b: np.ndarray) -> float:
    """The largest; inf where one of them is no number."""
    largest = float(np.max(np.linalg.norm(a - b, axis=-1)))
    return largest if math.isfinite(largest) else math.inf


MEASUREMENTS = (distortion,)
