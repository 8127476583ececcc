"""Figures of step 4, calibration: walls, lenses and delays from photographs."""

from benchmarks import calibration_exchange, calibration_picture, calibration_pixels, calibration_solve

MEASUREMENTS = (
    *calibration_solve.MEASUREMENTS,
    *calibration_pixels.MEASUREMENTS,
    *calibration_picture.MEASUREMENTS,
    *calibration_exchange.MEASUREMENTS,
)
