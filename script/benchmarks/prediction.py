"""How well is a camera predicted? Real hand-held motion, several predictors, errors where the picture is shown.

As in a show: frames at 60 Hz, and the newest sample that is known is `age_s` old when its frame is shown. Truth is the
track itself, interpolated: its own noise is part of every error. Constants of ledvolume/prediction.py were chosen on the
first half of rgbd_dataset_freiburg1_xyz; rows are told for the second half, of which the repository holds 10 s.
"""

import math
import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from ledvolume.moves import open_move
from ledvolume.pose import Pose, canonical, from_rotation_vector, interpolate, multiply, rotation_vector
from ledvolume.prediction import HISTORY_S, motion, moved
from measure import ROOT, Row

TRACK = ROOT / "tests" / "data" / "tum" / "freiburg1_xyz_cut.txt"
FRAMES_HZ = 60
WARM_UP_S = 1.0

Samples = Sequence[tuple[float, Pose]]  # (seconds, pose), the newest last
Predictor = Callable[[Samples, float], Pose]


def hold(samples: Samples, ahead_s: float) -> Pose:
    """Where it was."""
    return samples[-1][1]


def last_two(samples: Samples, ahead_s: float) -> Pose:
    """The velocity between the last two samples."""
    (a_s, a), (b_s, b) = samples[-2:]
    return interpolate(a, b, 1 + ahead_s / (b_s - a_s))


def median_velocity(samples: Samples, ahead_s: float) -> Pose:
    """The median velocity of pairs half a window of 50 ms apart."""
    window = [s for s in samples if samples[-1][0] - s[0] <= 0.0501]
    window = window if len(window) > 1 else samples[-2:]
    pairs = [(a, b) for a, b in zip(window, window[len(window) // 2 :]) if b[0] - a[0] >= 0.005]
    if not pairs:
        return samples[-1][1]
    rates = [(_between(a[1], b[1]) / (b[0] - a[0])) for a, b in pairs]
    return _stepped(samples[-1][1], np.median(rates, 0) * ahead_s)


def damped_velocity(samples: Samples, ahead_s: float) -> Pose:
    """The weighted velocity, fading with a time constant of 100 ms."""
    times, x = _relative(samples, 0.15)
    weight = np.exp(times / 0.015)
    rate = (weight * times) @ x / (weight @ times**2)
    return _stepped(samples[-1][1], rate * 0.1 * (1 - math.exp(-ahead_s / 0.1)))


def savitzky_golay(samples: Samples, ahead_s: float) -> Pose:
    """A parabola of least squares through 150 ms."""
    return _polynomial(samples, ahead_s, 0.15, math.inf, 0.0)


def weighted_parabola(samples: Samples, ahead_s: float) -> Pose:
    """A parabola, weights exp(t / 30 ms), its acceleration held down: ours without the trials."""
    return _polynomial(samples, ahead_s, 0.3, 0.03, 3e-7)


def gaussian_process(samples: Samples, ahead_s: float) -> Pose:
    """Matérn 5/2 of 1.2 s with 0.1 % noise: what a Kalman filter of constant acceleration settles to."""
    times, x = _relative(samples, 0.3)

    def kernel(a, b):
        r = math.sqrt(5) * np.abs(a - b) / 1.2
        return (1 + r + r * r / 3) * np.exp(-r)

    known = kernel(times[:, None], times[None]) + 1e-6 * np.eye(len(times))
    one, there = np.linalg.solve(known, np.stack([np.ones(len(times)), kernel(ahead_s, times)], 1)).T
    weight = there + one * (1 - there.sum()) / one.sum()
    return _stepped(samples[-1][1], weight @ x)


def ours(samples: Samples, ahead_s: float) -> Pose:
    """ledvolume/prediction.py."""
    return moved(samples[-1][1], motion([t for t, _ in samples], [p for _, p in samples]), ahead_s)


PREDICTORS: dict[str, Predictor] = {
    "hold": hold,
    "velocity of the last two": last_two,
    "median velocity": median_velocity,
    "damped velocity": damped_velocity,
    "Savitzky-Golay 150 ms": savitzky_golay,
    "weighted parabola": weighted_parabola,
    "Gaussian process": gaussian_process,
    "ours": ours,
}


def prediction_table(
    track: Path | str = TRACK, age_s: float = 0.05, hertz: float | None = None, jitter_s: float = 0.0, part=(0.0, 1.0)
) -> dict[str, dict[str, float]]:
    """predictor → median_mm, p95_mm, median_deg, p95_deg of the camera shown against the track. hertz: the track thinned;
    jitter_s: mean delay of stamps behind capture (exponential); part: of the track's time, for judging apart from tuning.

    The camera's entrance pupil is the tracked point. `fitted afterwards`: a linear filter of the last 200 ms for each of the
    six axes, by least squares on the very frames it is judged by. It is a yardstick and no bound: it minimises squares, not
    medians, and does not adapt.
    """
    cases = _cases(track, age_s, hertz, jitter_s, part)
    table = {}
    for name, predictor in PREDICTORS.items():
        off = [_off(predictor(samples, ahead_s), truth) for samples, ahead_s, truth in cases]
        table[name] = _summary(off)
    table["fitted afterwards"] = _summary(_fitted_afterwards(cases))
    return table


def wiener_bound(track: Path | str = TRACK, ahead_s: float = 0.06, hertz: float = 100.0) -> float:
    """The rotation's rms error of the best linear predictor that can be, whatever its memory, over that of hold.

    Wiener and Kolmogorov: with the spectrum P = |H|², H minimum phase (its logarithm is the causal part of log P, folded), what
    cannot be foretold n steps ahead is the first n taps of H. Each axis for itself; P by Welch from the very track. ahead_s: the
    newest sample is 50 ms old when its frame is shown, and half a sample older on average.
    """
    move, steps, window = open_move(str(track)), round(ahead_s * hertz), 512
    poses = [move.pose_at(k / hertz) for k in range(int(move.duration_s * hertz))]
    angles = np.array([_between(poses[0], pose)[3:] for pose in poses])
    spans = np.stack([angles[k : k + window] for k in range(0, len(angles) - window + 1, window // 8)])
    taper = np.hanning(window)[:, None]
    spectrum = (np.abs(np.fft.fft((spans - spans.mean(1, keepdims=True)) * taper, axis=1)) ** 2).mean(0) / (taper**2).sum()
    cepstrum = np.fft.ifft(np.log(spectrum), axis=0).real
    cepstrum[0] /= 2
    cepstrum[window // 2 :] = 0
    taps = np.fft.ifft(np.exp(np.fft.fft(cepstrum, axis=0)), axis=0).real
    return math.sqrt((taps[:steps] ** 2).sum() / ((angles[steps:] - angles[:-steps]) ** 2).mean(0).sum())


def table_text(table: dict[str, dict[str, float]]) -> str:
    """The table, a line each, with the ratio to hold."""
    held = table["hold"]
    lines = [f"{'':26}{'median':>17}{'p95':>17}{'median':>19}{'p95':>19}"]
    for name, row in table.items():
        cells = [
            f"{row[k]:8.3f} {k[-3:].strip('_')} ×{row[k] / held[k]:4.2f}"
            for k in ("median_mm", "p95_mm", "median_deg", "p95_deg")
        ]
        lines.append(f"{name:26}" + "  ".join(cells))
    return "\n".join(lines)


def real_motion() -> Iterable[Row]:
    """real hand-held motion, 50 ms ahead: every predictor against hold"""
    table = prediction_table()
    print(table_text(table))
    for name, row in table.items():
        for key in ("median_mm", "p95_mm", "median_deg", "p95_deg"):
            yield Row(f"{name}: {key[:-3].rstrip('_')}", row[key], key.split("_")[1])
    for unit in ("mm", "deg"):
        key = f"median_{unit}"
        yield Row(f"ours / hold, median of {unit}", table["ours"][key] / table["hold"][key], "", ("≤", 0.5))
        yield Row(f"fitted afterwards / hold, median of {unit}", table["fitted afterwards"][key] / table["hold"][key])
    yield Row("the best linear predictor of this very track / hold, rms of deg", wiener_bound())


def still_and_sudden() -> Iterable[Row]:
    """a tripod's noise, made moves, a whip pan that stops dead"""
    for hertz in (30, 100, 240):
        yield Row(f"tripod, {hertz} Hz: jitter / hold's", tripod_jitter(hertz), "", ("≤", 1.5))
    for name in ("handheld", "dolly"):
        for hertz in (24, 60, 240):
            yield Row(f"{name}, {hertz} Hz: worst, 50 ms ahead", 1000 * worst_of_move(f"builtin:{name}", hertz), "mm", ("≤", 4))
    for hertz in (30, 60, 240):
        overshoot_rad = sudden_stop(hertz)
        yield Row(f"pan of 180°/s stops dead, {hertz} Hz: overshoot / (rate · 50 ms + a sample)", overshoot_rad, "", ("≤", 1.1))


def cost() -> Iterable[Row]:
    """what one prediction takes"""
    for hertz in (60, 240):
        poses = [Pose(position_m=(k / hertz, 0.0, 0.0)) for k in range(int(HISTORY_S * hertz) + 1)]
        times = [k / hertz for k in range(len(poses))]
        took = []
        for _ in range(300):
            start = time.perf_counter()
            motion(times, poses)
            took.append(time.perf_counter() - start)
        yield Row(f"a prediction at {hertz} Hz", median(took) * 1e6, "µs")


MEASUREMENTS = (real_motion, still_and_sudden, cost)


def tripod_jitter(hertz: float, noise_m: float = 0.001) -> float:
    """RMS of the shown position over the tracker's own, for a still camera with white noise."""
    r = random.Random(1)
    samples = [(k / hertz, Pose(position_m=tuple(r.gauss(0, noise_m) for _ in range(3)))) for k in range(int(8 * hertz))]
    shown = [ours(samples[max(k - int(HISTORY_S * hertz), 0) : k + 1], 0.05).position_m for k in range(20, len(samples))]
    return math.sqrt(sum(c * c for p in shown for c in p) / len(shown) / 3) / noise_m


def worst_of_move(track: str, hertz: float, ahead_s: float = 0.05) -> float:
    """Metres: the largest error over 20 s of a made move without noise."""
    move, worst_m = open_move(track).pose_at, 0.0
    history = int(HISTORY_S * hertz) + 1
    for k in range(history, int(20 * hertz)):
        samples = [(j / hertz, move(j / hertz)) for j in range(k - history, k + 1)]
        shown = ours(samples, ahead_s).position_m
        worst_m = max(worst_m, math.dist(shown, move(k / hertz + ahead_s).position_m))
    return worst_m


def sudden_stop(hertz: float, rate_rad_s: float = math.pi, ahead_s: float = 0.05) -> float:
    """How far beyond its end the pan is shown, over what a motion unknown to have stopped must be: rate · (ahead + 1/hertz)."""

    def pan_at(t: float) -> float:
        return rate_rad_s * min(t, 1.0)

    beyond, history = 0.0, int(HISTORY_S * hertz)
    for k in range(history, int(2 * hertz)):
        samples = [(j / hertz, Pose(from_rotation_vector((0.0, 0.0, pan_at(j / hertz))))) for j in range(k - history, k + 1)]
        shown = ours(samples, ahead_s).wxyz
        over = rotation_vector(multiply(from_rotation_vector((0.0, 0.0, -pan_at(1.0))), shown))[2]
        beyond = max(beyond, over)
    return beyond / (rate_rad_s * (ahead_s + 1 / hertz))


def _cases(track: Path | str, age_s: float, hertz: float | None, jitter_s: float, part) -> list[tuple[Samples, float, Pose]]:
    move, r = open_move(str(track)), random.Random(1)
    first_s, last_s = (move.duration_s * p for p in part)
    instants = _instants(track) if hertz is None else [k / hertz for k in range(int(move.duration_s * hertz))]
    samples = sorted((t + (r.expovariate(1 / jitter_s) if jitter_s else 0.0), move.pose_at(t)) for t in instants)
    times, cases = [t for t, _ in samples], []
    for n in range(math.ceil((first_s + WARM_UP_S) * FRAMES_HZ), int(last_s * FRAMES_HZ)):
        shown_s = n / FRAMES_HZ
        known = bisect_right(times, shown_s - age_s)
        oldest = bisect_right(times, times[known - 1] - HISTORY_S)
        cases.append((samples[oldest:known], shown_s - times[known - 1], move.pose_at(shown_s)))
    return cases


def _instants(track: Path | str) -> list[float]:
    stamps = [float(line.split()[0]) for line in Path(track).read_text().splitlines() if line.strip() and line[0] != "#"]
    return [t - stamps[0] for t in stamps]


def _between(a: Pose, b: Pose) -> np.ndarray:
    w, x, y, z = a.wxyz
    turn = rotation_vector(multiply(b.wxyz, (w, -x, -y, -z)))
    return np.array([q - p for p, q in zip(a.position_m, b.position_m)] + list(turn))


def _stepped(pose: Pose, step: np.ndarray) -> Pose:
    position_m = tuple(p + d for p, d in zip(pose.position_m, step[:3].tolist()))
    return Pose(canonical(multiply(from_rotation_vector(tuple(step[3:].tolist())), pose.wxyz)), position_m)


def _relative(samples: Samples, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and (N, 6) steps from the newest sample."""
    newest_s, newest = samples[-1]
    window = [s for s in samples if newest_s - s[0] <= window_s + 1e-6]
    window = window if len(window) > 2 else samples[-3:]
    return np.array([t - newest_s for t, _ in window]), np.stack([_between(newest, p) for _, p in window])


def _polynomial(samples: Samples, ahead_s: float, window_s: float, memory_s: float, ridge_s4: float) -> Pose:
    times, x = _relative(samples, window_s)
    weight = np.exp(times / memory_s)
    basis = np.stack([np.ones(len(times)), times, times**2], 1)
    normal = (basis * weight[:, None]).T @ basis
    normal[2, 2] += ridge_s4 * weight.sum() + 1e-12
    c = np.linalg.solve(normal, (basis * weight[:, None]).T @ x)
    return _stepped(samples[-1][1], c[0] + c[1] * ahead_s + c[2] * ahead_s**2)


def _off(shown: Pose, truth: Pose) -> tuple[float, float]:
    """(mm, degrees)."""
    off = _between(truth, shown)
    return 1000 * float(np.linalg.norm(off[:3])), math.degrees(float(np.linalg.norm(off[3:])))


def _fitted_afterwards(cases) -> list[tuple[float, float]]:
    lags = np.arange(1, 21) * 0.01
    past, future = [], []
    for samples, _, truth in cases:
        times, x = _relative(samples, 0.4)
        past.append([np.interp(-lags, times, x[:, k]) for k in range(6)])
        future.append(_between(samples[-1][1], truth))
    past, future = np.array(past), np.array(future)  # (cases, 6, lags), (cases, 6)
    off = np.zeros_like(future)
    for axis in range(6):
        a, b = past[:, axis], future[:, axis]
        normal = a.T @ a
        weights = np.linalg.solve(normal + 1e-6 * np.trace(normal) / len(lags) * np.eye(len(lags)), a.T @ b)
        off[:, axis] = a @ weights - b
    return [(1000 * float(np.linalg.norm(o[:3])), math.degrees(float(np.linalg.norm(o[3:])))) for o in off]


def _summary(off: list[tuple[float, float]]) -> dict[str, float]:
    mm, deg = np.array(off).T
    return {
        "median_mm": float(np.median(mm)),
        "p95_mm": float(np.percentile(mm, 95)),
        "median_deg": float(np.median(deg)),
        "p95_deg": float(np.percentile(deg, 95)),
    }
