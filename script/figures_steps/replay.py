"""Figures of step 3, live = replay: takes that render again to the last bit, tracks to pictures, many workers, refusals."""

from benchmarks import exr_attributes, farm, recording_cost, replay_refusals, take_cut_short, take_exact, track_to_video

MEASUREMENTS = (
    *take_exact.MEASUREMENTS,
    *take_cut_short.MEASUREMENTS,
    *track_to_video.MEASUREMENTS,
    *exr_attributes.MEASUREMENTS,
    *farm.MEASUREMENTS,
    *recording_cost.MEASUREMENTS,
    *replay_refusals.MEASUREMENTS,
)
