"""Figures of step 2, tracking: protocols, time, prediction, loss, hostile and flooded networks."""

from benchmarks import prediction, vectors

MEASUREMENTS = (
    *vectors.MEASUREMENTS,
    *prediction.MEASUREMENTS,
)
