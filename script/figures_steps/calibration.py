"""Figures of step 4, calibration: walls, lenses and delays from photographs."""

from benchmarks import (
    calibration_exchange,
    calibration_latency,
    calibration_lens,
    calibration_photographs,
    calibration_picture,
    calibration_pixels,
    calibration_solve,
)

MEASUREMENTS = (
    *calibration_solve.MEASUREMENTS,
    *calibration_pixels.MEASUREMENTS,
    *calibration_photographs.MEASUREMENTS,
    *calibration_lens.MEASUREMENTS,
    *calibration_picture.MEASUREMENTS,
    *calibration_exchange.MEASUREMENTS,
    *calibration_latency.MEASUREMENTS,
)
