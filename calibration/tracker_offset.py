"""How much later than the tracker's stamps a video shows the same motion.

Between two pictures the tracker turned by ω and moved by v, on the axes of its own body; the picture went right, down, turned
and grew. One is a linear function of the other, with numbers that nobody needs to know (how the tracker sits on the camera, the
focal length, how far away things are): they are fitted anew for every offset, and the offset at which least is left over is
the right one. Steps are compared over the very same time, so no rates are made up between samples.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.ndimage import gaussian_filter1d

from calibration.image_motion import ImageMotion
from calibration.latency import BLOCK_S, interval
from ledvolume.camera import CameraSample
from ledvolume.errors import CalibrationError

FEWEST_STEPS = 48
GRID_S = 0.005
EXPLAINED = 0.7  # of the picture's motion: less is another camera's, or another time's
NEXT_BEST = 1.5  # of what the best offset leaves over: another one that leaves no more is as good, the motion repeats itself
APART_S = 0.1
TURN_DEG = 5.0
FINE_S, SMOOTH_S = 0.001, 0.008
FAR = 14.0


class TrackerOffset(msgspec.Struct, frozen=True):
    """Video's instants minus the tracker's stamps. low_ms, high_ms: 95 %. explained: share of the picture's motion. at_s: the
    middle of the motion, on the video's clock."""

    offset_ms: float
    sigma_ms: float
    low_ms: float
    high_ms: float
    explained: float
    steps: int
    at_s: float


class _Track(NamedTuple):
    """Instants (n,), quaternions (n, 4) that go on without a change of sign, positions (n, 3)."""

    at_s: np.ndarray
    wxyz: np.ndarray
    position_m: np.ndarray


def tracker_offset(
    motion: ImageMotion,
    samples: tuple[CameraSample, ...],
    origin_ns: int,
    between_s: tuple[float, float] | None = None,
    readout_s: float = 0.0,
) -> TrackerOffset:
    """samples: of one camera. origin_ns: of the house clock, that the tracker's seconds are counted from. between_s: offsets that
    are possible; None: all at which they overlap. Raises CalibrationError where they do not say it."""
    track = _track_of(samples, origin_ns)
    at_s = motion.at_s.copy()
    at_s[:-1] += motion.lines * readout_s
    at_s[-1] += motion.lines[-1] * readout_s if len(motion.lines) else 0.0
    known = np.isfinite(motion.steps).all(1)
    if known.sum() < FEWEST_STEPS:
        raise CalibrationError(
            f"the picture's motion could be told in {known.sum()} frames, {FEWEST_STEPS} are the fewest: film something with texture, in "
            "focus and well lit, and pan and tilt to and fro for 10 seconds"
        )
    low, high = track.at_s[0] - at_s[0], track.at_s[-1] - at_s[-1]
    low, high = -max(low, high), -min(low, high)  # offsets at which the shorter one lies within the longer one
    overlap = (at_s[0] - track.at_s[-1] + 2, at_s[-1] - track.at_s[0] - 2)
    low, high = between_s or (min(low, overlap[1]) - 1, max(high, overlap[0]) + 1)
    grid = np.arange(low, high + GRID_S, GRID_S)
    explained = np.array([_explained(motion, at_s, known, track, offset) for offset in grid])
    if not len(grid) or explained.max() < EXPLAINED:
        most = f"{explained.max():.0%}" if len(grid) else "nothing"
        raise CalibrationError(
            f"the picture does not move as the tracker says (at best {most} of it goes together): is it this camera's track, of the same "
            "time, does the camera move while it films, does the picture show something with texture?"
        )
    best = grid[explained.argmax()]
    elsewhere = np.abs(grid - best) > APART_S
    if elsewhere.any() and 1 - explained[elsewhere].max() < NEXT_BEST * (1 - explained.max()):
        other = grid[elsewhere][explained[elsewhere].argmax()]
        raise CalibrationError(
            f"the motion repeats itself: {1000 * best:.0f} and {1000 * other:.0f} ms fit about as well. Pan and tilt to and fro without a "
            "beat, with pauses"
        )
    return _told(motion, at_s, known, track, best)


def _told(motion: ImageMotion, at_s: np.ndarray, known: np.ndarray, track: _Track, best: float) -> TrackerOffset:
    used = known & _inside(at_s, track, best, 0.05)
    turns = _steps_of(track, at_s, best)[used, :3]
    if math.degrees(float(np.abs(np.cumsum(turns, axis=0)).max(initial=0.0))) < TURN_DEG:
        raise CalibrationError(
            f"the camera turned by less than {TURN_DEG:.0f}°: pan and tilt to and fro, briskly, for 10 seconds"
        )
    noise = _left_over(motion, at_s, used, track, best).std(0)

    def deviance(offset: float) -> float:
        left = _left_over(motion, at_s, used, track, offset)
        return float((len(left) * np.log((left**2).sum(0) / (noise**2 * len(left)))).sum())

    for step in (GRID_S / 2, GRID_S / 8, GRID_S / 32):
        near = best + step * np.arange(-3, 4)
        best = float(near[np.argmin([deviance(offset) for offset in near])])
    slope = (
        (_left_over(motion, at_s, used, track, best + 1e-4) - _left_over(motion, at_s, used, track, best - 1e-4)) / 2e-4 / noise
    )
    pulls = (slope * _left_over(motion, at_s, used, track, best) / noise).sum(1)
    blocks = ((at_s[:-1][used] - at_s[0]) / BLOCK_S).astype(int)
    wider = max(1.0, float((np.bincount(blocks, pulls) ** 2).sum() / (slope**2).sum()))
    found, least = [], deviance(best)
    for side in (-1, 1):
        step = offset = 0.5 / math.sqrt(float((slope**2).sum()))
        while (far := (deviance(best + side * offset) - least) / wider) < FAR and offset < 0.5:
            found.append((best + side * offset, far))
            step *= 1.3
            offset += step
        found.append((best + side * offset, far))
    offsets, far = np.array(sorted([*found, (best, 0.0)])).T
    ms = [round(1000 * seconds, 4) for seconds in interval(offsets, far - far.min())]
    explained = _explained(motion, at_s, known, track, best)
    middle_s = float(np.average(at_s[:-1][used], weights=(turns**2).sum(1)))
    return TrackerOffset(*ms, round(explained, 4), int(used.sum()), round(middle_s, 3))


def _explained(motion: ImageMotion, at_s: np.ndarray, known: np.ndarray, track: _Track, offset: float) -> float:
    """Share of right, down and turn, each in its own units, that goes with the tracker."""
    used = known & _inside(at_s, track, offset, 0.0)
    if used.sum() < max(FEWEST_STEPS, known.sum() / 2):
        return 0.0
    spread = (motion.steps[used, :3] ** 2).sum(0) + 1e-12
    left = (_left_over(motion, at_s, used, track, offset)[:, :3] ** 2).sum(0)
    return float(1 - left[:2].sum() / spread[:2].sum())


def _inside(at_s: np.ndarray, track: _Track, offset: float, margin_s: float) -> np.ndarray:
    """(n - 1,) bool: steps that begin and end while there are samples."""
    there = (at_s - offset > track.at_s[0] + margin_s) & (at_s - offset < track.at_s[-1] - margin_s)
    return there[:-1] & there[1:]


def _left_over(motion: ImageMotion, at_s: np.ndarray, used: np.ndarray, track: _Track, offset: float) -> np.ndarray:
    """(m, 4) of the picture's steps that no linear function of the tracker's explains."""
    tracked = np.column_stack([_steps_of(track, at_s, offset)[used], np.diff(at_s)[used]])
    scale = np.sqrt((tracked**2).mean(0)) + 1e-12
    steps = motion.steps[used]
    return steps - tracked / scale @ np.linalg.lstsq(tracked / scale, steps, rcond=1e-6)[0]


def _steps_of(track: _Track, at_s: np.ndarray, offset: float) -> np.ndarray:
    """(n - 1, 6): turn and shift between the instants, on the axes of the body."""
    then = at_s - offset
    position_m = np.stack([np.interp(then, track.at_s, track.position_m[:, i]) for i in range(3)], -1)
    q = np.stack([np.interp(then, track.at_s, track.wxyz[:, i]) for i in range(4)], -1)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    w, v = q[:, :1], q[:, 1:]
    turn = 2 * (w[:-1] * v[1:] - w[1:] * v[:-1] - np.cross(v[:-1], v[1:]))  # of a⁻¹ b, small
    back = np.cross(-v[:-1], np.diff(position_m, axis=0)) + w[:-1] * np.diff(position_m, axis=0)
    shift = np.diff(position_m, axis=0) + 2 * np.cross(-v[:-1], back)
    return np.concatenate([turn, shift], 1)


def _track_of(samples: tuple[CameraSample, ...], origin_ns: int) -> _Track:
    """On a fine grid, smoothed. Half way between two samples a straight line has half the noise, and offsets at which the
    pictures fall there would seem to fit better: by up to 2 ms, at 60 Hz and 0.01°. Smoothed over a sample, all are alike."""
    at_s = np.array([(sample.captured_at_ns - origin_ns) / 1e9 for sample in samples])
    later = np.diff(at_s, prepend=-np.inf) > 0
    at_s = at_s[later]
    if len(at_s) < FEWEST_STEPS:
        raise CalibrationError(f"{len(at_s)} samples in the track, {FEWEST_STEPS} are the fewest")
    wxyz = np.array([sample.world_from_tracker.wxyz for sample in samples])[later]
    flips = np.cumprod(np.concatenate([[1.0], np.where((wxyz[1:] * wxyz[:-1]).sum(1) < 0, -1.0, 1.0)]))
    position_m = np.array([sample.world_from_tracker.position_m for sample in samples])[later]
    values = np.column_stack([wxyz * flips[:, None], position_m])
    fine_s = np.arange(at_s[0], at_s[-1], FINE_S)
    fine = np.stack([np.interp(fine_s, at_s, column) for column in values.T], -1)
    fine = gaussian_filter1d(fine, max(SMOOTH_S, float(np.median(np.diff(at_s)))) / FINE_S, axis=0, mode="nearest")
    return _Track(fine_s, fine[:, :4], fine[:, 4:])
