"""Figures of step 4, calibration: walls, lenses and delays from photographs."""

from benchmarks import calibration_exchange, calibration_latency, calibration_lens

MEASUREMENTS = (
    *calibration_exchange.MEASUREMENTS,
    *calibration_lens.MEASUREMENTS,
    *calibration_latency.MEASUREMENTS,
)
