"""How a camera moves on after its newest sample. Timeline asks; it decides how far to trust the answer.

The last tenths of a second are fitted by x(t) = newest + v·t + ½·a·t², each sample weighted exp(t / MEMORY_S) and a held
down by A_RIDGE_S4, so that noise does not become acceleration. The curve goes through the newest sample: a prediction
begins exactly where the measurement ends. Then the fit is tried on its own recent past: what would it have said at
TRIALS earlier samples, and how far did the camera really go? The least-squares factor between the two, 0 to 1, scales
the prediction (it is the Wiener filter's gain for this camera at this moment). A pan goes on in full, a tremor by part,
the noise of a tripod hardly at all; a move faster than any in the trials is believed, as nothing speaks against it.

Positions and rotations have a gain each: a hand turns a camera faster than it can carry it. All constants are in
seconds, so that the rate of the tracker does not matter. They were chosen on the first half of a hand-held track and
judged on the second (script/benchmarks/prediction.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ledvolume.pose import Pose, Quat, canonical, from_rotation_vector, multiply

POSITION_MEMORY_S, POSITION_A_RIDGE_S4 = 0.03, 1e-6
ROTATION_MEMORY_S, ROTATION_A_RIDGE_S4 = 0.02, 1e-5
FITTED_MEMORIES = 6  # older samples weigh less than e⁻⁶
TRIALS = 8
TRIALS_SPAN_S = 0.4
TRIAL_AHEAD_S = 0.05  # the usual age of a pose when its frame is shown
HISTORY_S = TRIALS_SPAN_S + TRIAL_AHEAD_S + 0.1
CLOSEST_S = 0.003  # nearer samples are a burst stamped on arrival: its spacing says nothing
LEAST_SPAN_S = 0.005
MOST_SAMPLES = 64
WIDEST_TURN_RAD = 2.0  # rotation vectors of a wider turn are no longer near a straight line
OUTLIER_M_S2, OUTLIER_RAD_S2, OUTLIER_MEDIANS = 100.0, 200.0, 6.0


class Motion(NamedTuple):
    """From the newest sample on: (3,) each, along the world's axes; m/s, m/s², rad/s, rad/s², the gains in them."""

    velocity: tuple[float, float, float]
    acceleration: tuple[float, float, float]
    turn_rate: tuple[float, float, float]
    turn_acceleration: tuple[float, float, float]


AT_REST = Motion((0.0,) * 3, (0.0,) * 3, (0.0,) * 3, (0.0,) * 3)


def motion(times_s: Sequence[float], poses: Sequence[Pose]) -> Motion:
    """The motion at the last of these samples, times rising. AT_REST where they are too few or too close to tell."""
    times = np.array(times_s, float)
    times -= times[-1]
    rows = np.array([p.position_m + p.wxyz for p in poses])
    kept = _spread(times)
    times, rows = times[kept], rows[kept]
    if len(times) < 2 or times[0] > -LEAST_SPAN_S:
        return AT_REST
    turns = _turns(rows[:, 3:], poses[-1].wxyz)
    wide = np.flatnonzero(np.einsum("ij,ij->i", turns, turns) > WIDEST_TURN_RAD**2)
    if len(wide):
        first = min(wide[-1] + 1, len(times) - 2)
        times, rows, turns = times[first:], rows[first:], turns[first:]
    places = rows[:, :3] - rows[-1, :3]
    trusted = _trusted(times, places, OUTLIER_M_S2) & _trusted(times, turns, OUTLIER_RAD_S2)
    if not trusted[-1]:  # where it is may be true or not; what it says of the motion, the next sample will tell
        times, trusted = times[:-1] - times[-2], trusted[:-1]
        places, turns = places[:-1] - places[-2], turns[:-1] - turns[-2]
    anchors = _anchors(times, trusted)
    since = times - times[anchors][:, None]
    past = (since < 0) & trusted
    v, a = _fit(times, since, past, anchors, places, POSITION_MEMORY_S, POSITION_A_RIDGE_S4)
    w, b = _fit(times, since, past, anchors, turns, ROTATION_MEMORY_S, ROTATION_A_RIDGE_S4)
    return Motion(tuple(v.tolist()), tuple(a.tolist()), tuple(w.tolist()), tuple(b.tolist()))


def moved(pose: Pose, by: Motion, seconds: float) -> Pose:
    """The pose so much later."""
    half = seconds * seconds / 2
    place = tuple(x + v * seconds + a * half for x, v, a in zip(pose.position_m, by.velocity, by.acceleration))
    turn = tuple(w * seconds + b * half for w, b in zip(by.turn_rate, by.turn_acceleration))
    return Pose(canonical(multiply(from_rotation_vector(turn), pose.wxyz)), place)


def eased(seconds: float, horizon_s: float) -> float:
    """Time that the motion is let run: all of it up to the horizon, then slower and slower; it rests at 1½ horizons,
    reached after two. Its derivative has no step, so neither has the camera's velocity."""
    beyond = min(max(seconds - horizon_s, 0.0), horizon_s)
    return min(seconds, horizon_s) + (beyond - beyond * beyond / (2 * horizon_s) if beyond else 0.0)


def _spread(times: np.ndarray) -> np.ndarray:
    """Indices of at most MOST_SAMPLES samples, CLOSEST_S apart or more, the newest among them."""
    kept = np.arange(len(times))
    if len(times) > 1 and np.diff(times).min() < CLOSEST_S:
        far = [len(times) - 1]
        for i in range(len(times) - 2, -1, -1):
            if times[far[-1]] - times[i] >= CLOSEST_S:
                far.append(i)
        kept = np.array(far[::-1])
    stride = -(-len(kept) // MOST_SAMPLES)
    return kept[::-stride][::-1] if stride > 1 else kept


def _turns(wxyz: np.ndarray, newest: Quat) -> np.ndarray:
    """(N, 3) rotation vectors from the newest to each, along the world's axes: log(q · newest⁻¹)."""
    w, x, y, z = newest
    by_conjugate = np.array([[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]])
    q = wxyz @ by_conjugate
    q *= np.where(q[:, :1] < 0, -1.0, 1.0)
    sine = np.sqrt(np.einsum("ij,ij->i", q[:, 1:], q[:, 1:]))
    factor = np.full(len(q), 2.0)
    np.divide(2 * np.arctan2(sine, q[:, 0]), sine, out=factor, where=sine > 1e-12)
    return q[:, 1:] * factor[:, None]


def _fit(
    times: np.ndarray, since: np.ndarray, past: np.ndarray, anchors: np.ndarray, x: np.ndarray, memory_s: float, ridge_s4: float
) -> tuple[np.ndarray, np.ndarray]:
    """(v, a) at the newest sample, (3,) each, gain included. times (N,) and x (N, 3): 0 at the newest, which anchors[0]
    is; since, past (A, N): seconds from each anchor, and whether the sample counts for it."""
    oldest = np.minimum(since[np.arange(len(anchors)), np.maximum(anchors - 1, 0)], -FITTED_MEMORIES * memory_s)
    counts = past & (since >= oldest[:, None])  # of a slow tracker at least the sample before
    t = np.where(counts, since, 0.0)
    weight = np.exp(t / memory_s)
    wt = weight * t
    wtt = wt * t
    p, q = wtt.sum(1), (wtt * t).sum(1)
    r = (wtt * t * t).sum(1) + ridge_s4 * (np.where(counts, weight, 0.0).sum(1) + 1)
    scale = (1 / np.maximum(p * r - q * q, 1e-30))[:, None]
    moved_by = wt @ x - wt.sum(1)[:, None] * x[anchors]
    bent_by = wtt @ x - p[:, None] * x[anchors]
    v = (r[:, None] * moved_by - q[:, None] * bent_by) * scale
    half_a = (p[:, None] * bent_by - q[:, None] * moved_by) * scale
    said = v * TRIAL_AHEAD_S + half_a * TRIAL_AHEAD_S**2
    gain = _gain(times, x, anchors, said)
    return gain * v[0], 2 * gain * half_a[0]


def _gain(times: np.ndarray, x: np.ndarray, anchors: np.ndarray, said: np.ndarray) -> float:
    """How much of what the trials said came true; what is said now counts as a trial that was right."""
    now = float(said[0] @ said[0])
    if len(anchors) == 1 or now == 0.0:
        return 1.0
    then = times[anchors[1:]] + TRIAL_AHEAD_S
    after = np.minimum(np.searchsorted(times, then), len(times) - 1)
    left = ((times[after] - then) / (times[after] - times[after - 1]))[:, None]
    happened = x[after] - (x[after] - x[after - 1]) * left - x[anchors[1:]]
    right, told = float(np.sum(said[1:] * happened)) + now, float(np.sum(said[1:] * said[1:])) + now
    return min(max(right / told, 0.0), 1.0)


def _anchors(times: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Indices: the newest sample, then the trials' ones, at which two earlier samples are known and the end as well."""
    wanted = -TRIAL_AHEAD_S - np.arange(TRIALS) * (TRIALS_SPAN_S / TRIALS)
    found = np.searchsorted(times, wanted + 1e-6, side="right") - 1
    found = found[(found >= 2) & trusted[found] & (np.diff(found, prepend=len(times)) != 0)]
    return np.concatenate([[len(times) - 1], found])


def _trusted(times: np.ndarray, x: np.ndarray, outlier: float) -> np.ndarray:
    """(N,) False for a sample that lies off the line between its neighbours, the newest off that of the two before it, by
    more than `outlier` (per s²) explains and by OUTLIER_MEDIANS times what is usual here: one bad sample has no say."""
    trusted = np.ones(len(times), bool)
    if len(times) < 5:
        return trusted
    before, after = times[1:-1] - times[:-2], times[2:] - times[1:-1]
    off = x[1:-1] - x[:-2] - (x[2:] - x[:-2]) * (before / (before + after))[:, None]
    newest = x[-1] - x[-2] - (x[-2] - x[-3]) * (after[-1] / before[-1])
    off = np.concatenate([off, newest[None]])
    off = np.sqrt(np.einsum("ij,ij->i", off, off))
    bend = outlier / 2 * before * after
    usual = OUTLIER_MEDIANS * np.partition(off, len(off) // 2)[len(off) // 2]
    trusted[1:] = (off <= np.concatenate([bend, bend[-1:]])) | (off <= usual)
    if not trusted[-1]:  # one of the three is wrong; the newest, unless the oldest of them does not fit its own neighbours
        trusted[-1], trusted[-2] = not trusted[-3], trusted[-3]
    return trusted
