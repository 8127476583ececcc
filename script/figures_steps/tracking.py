"""Figures of step 2, tracking: protocols, time, prediction, loss, hostile and flooded networks."""

from benchmarks import distortion, flood, loss, million, peers, prediction, same_motion, vectors

MEASUREMENTS = (
    *vectors.MEASUREMENTS,
    *peers.MEASUREMENTS,
    *same_motion.MEASUREMENTS,
    *distortion.MEASUREMENTS,
    *prediction.MEASUREMENTS,
    *loss.MEASUREMENTS,
    *million.MEASUREMENTS,
    *flood.MEASUREMENTS,
)
