"""Figures of step 3, live = replay: takes that render again to the last bit, tracks to pictures, many workers, refusals."""

from benchmarks import take_cut_short, take_exact

MEASUREMENTS = (*take_exact.MEASUREMENTS, *take_cut_short.MEASUREMENTS)
