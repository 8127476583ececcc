"""Figures of step 2, tracking: protocols, time, prediction, loss, hostile and flooded networks."""

from benchmarks import flood, loss, million, peers, prediction, vectors

MEASUREMENTS = (
    *vectors.MEASUREMENTS,
    *peers.MEASUREMENTS,
    *prediction.MEASUREMENTS,
    *loss.MEASUREMENTS,
    *million.MEASUREMENTS,
    *flood.MEASUREMENTS,
)
