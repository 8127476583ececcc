"""How late the wall's light is: the delay between a record of flashes and a video of them, far below a frame, and its sigma.

What a line of the picture sees in frame k, at the height y (from -½, the top, to ½) of the picture, of a wall that is late by δ:

    value = a + g · h(share of [m - e/2, m + e/2] in which the wall was lit)        m = t_k - δ + y·readout

e is the exposure, readout the time from the first line to the last, h the camera's curve from light to code value (six
points). δ of every wall and e, readout, h and the clocks' drift are found together by least squares; a and g, of each band of
lines, fall out linearly. t_k is the video's instant of the frame, taken as the middle of the exposure of the middle line: what
a camera stamps otherwise is its own delay, and part of δ.

The likelihood of δ is gone along, everything else being solved for again at each step, because it is not always a parabola. It
is widened by what the residuals of a quarter of a second have in common (encoders' artefacts last for a while), and by two
things that videos with known delays taught: LAG_S, IN_STEP. A camera that runs in step with the wall sees its changes always
at the same place of its exposure, or not at all: that tells a delay to a frame only, and that is what is said then.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.interpolate import PchipInterpolator

from calibration.flash_search import FEWEST_FLASHES, Flashes, Found, light
from calibration.flash_video import Brightness
from ledvolume.errors import CalibrationError

BANDS = 12
KNOTS = np.array([0, 1 / 64, 1 / 16, 1 / 4, 9 / 16, 1.0])  # of h: encoded values rise fast where it is dark
CURVE, CURVE_SIGMA, BAND_SIGMA = KNOTS[1:-1] ** 0.6, 0.2, 0.05  # of the camera; of a band against the others
CURVES = len(CURVE)
EXPOSURE_SIGMA = 0.02  # of an exposure that was told: shutters are as good
DRIFT_SIGMA = 50e-6  # of two crystals against each other
SHORTEST_EXPOSURE_S = 2.5e-4
FAR = 14.0  # of -2 log likelihood: 3.7 σ
BLOCK_S = 0.25
PARTS, JUMP = 6, 0.4  # of the video, and of its frame: instants that are off by more are no instants
CLEAR = 100.0  # of what is left over, squared: that much better another instant has to be
UNSURE = 0.1  # of a wall's frame
LEAST_SIGMA_S = 2e-5
LAG_S = 2.5e-3  # measured on H.264 from crf 18 to 35: what an encoder leaves over, it shows late, by so much of all of it
IN_STEP_S, FEW_FRAMES, WHOLE_GAP = 0.002, 100, 0.9
IN_STEP = 0.15  # measured: errors, in parts of the wall's frame in which no exposure has its middle, if exposures are as short
_KNOT, _INNER = np.arange(CURVES + 2), np.arange(CURVES)
_NEAR = np.arange(-15, 16) / 10  # frames


class WallDelay(msgspec.Struct, frozen=True):
    """One wall: video's instants minus the record's. low_ms, high_ms: 95 %. flashes: that were seen to begin or end."""

    surface: str
    delay_ms: float
    sigma_ms: float
    low_ms: float
    high_ms: float
    flashes: int
    cells: int
    correlation: float


class FlashLatency(msgspec.Struct, frozen=True):
    """All walls of a video. at_s: the instant of the video that the delays are told for; the video's clock runs fast by drift.
    left_over: beside the walls' own flicker, rms."""

    walls: tuple[WallDelay, ...]
    exposure_ms: float
    exposure_sigma_ms: float
    readout_ms: float
    readout_sigma_ms: float
    drift_ppm: float
    drift_sigma_ppm: float
    at_s: float
    left_over: float
    notes: tuple[str, ...] = ()


class _Bands(NamedTuple):
    """Of one wall: lit_until_s; y (b,); values (b, n), in units of their noise."""

    lit_until_s: np.ndarray
    y: np.ndarray
    values: np.ndarray


class _Shares:
    """What is left over of bands' values (b, n) for shares of light (b, n), if every band has a level, a gain and a curve of its
    own near the camera's. Curves of their own are needed where camera and wall run in step: a level between black and white is
    then all that is seen, and tells the time only as well as the curve is known."""

    def __init__(self, share: np.ndarray, values: np.ndarray):
        (bands, frames), self.values = share.shape, values
        corner = np.clip(np.searchsorted(KNOTS, share, side="right") - 1, 0, CURVES)
        toward = (share - KNOTS[corner]) / np.diff(KNOTS)[corner]
        self.design = np.zeros((bands, frames, CURVES + 2))
        b, n = np.arange(bands)[:, None], np.arange(frames)[None]
        self.design[b, n, corner], self.design[b, n, corner + 1] = 1 - toward, toward
        self.normal = self.design.transpose(0, 2, 1) @ self.design
        self.normal[:, _KNOT, _KNOT] += 1e-9 * frames
        self.seen = self.design.transpose(0, 2, 1) @ values[..., None]
        self.unit = (BAND_SIGMA * 2 * values.std(1))[:, None, None]

    def through_curves(self, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is left over, and how unusual the bands' curves are in sigmas, both flat."""
        near = np.zeros((len(self.values), CURVES, CURVES + 2))  # (c_j - c_0) - w_j (c_last - c_0) of the knots' values c
        near[:, :, 0], near[:, _INNER, _INNER + 1], near[:, :, -1] = curve - 1, 1, -curve
        near /= self.unit
        at_knots = np.linalg.solve(self.normal + near.transpose(0, 2, 1) @ near, self.seen)
        return (self.values - (self.design @ at_knots)[..., 0]).ravel(), (near @ at_knots).ravel()


class _Model:
    """Residuals of all walls by x = (δ of each wall, exposure, readout, drift, h's inner points)."""

    def __init__(
        self, flashes: Flashes, at_s: np.ndarray, bands: list[_Bands], frame_s: float, exposure_s: tuple[float, float] | None
    ):
        self.flashes, self.at_s, self.bands = flashes, at_s, bands
        self.exposure_s, self.exposure_sigma_s = exposure_s or (0.0, np.inf)
        self.middle_s = float(at_s.mean())
        self._shares: dict[bytes, list[_Shares]] = {}
        self.low = np.array([-np.inf] * len(bands) + [SHORTEST_EXPOSURE_S, 0.0, -1e-3] + [0.0] * CURVES)
        self.high = np.array([np.inf] * len(bands) + [frame_s, frame_s, 1e-3] + [1.0] * CURVES)
        self.steps = np.array([1e-5] * len(bands) + [1e-5, 1e-5, 1e-7] + [1e-4] * CURVES)

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """Of all bands' frames, then of what was known before."""
        instants = x[:-CURVES].tobytes()
        if instants not in self._shares:  # the curve is asked about several times with the same instants
            if len(self._shares) > 1:
                self._shares.pop(next(iter(self._shares)))
            self._shares[instants] = [_Shares(share, wall.values) for share, wall in zip(self._lit(x), self.bands)]
        off, unusual = zip(*(shares.through_curves(x[-CURVES:]) for shares in self._shares[instants]))
        exposure_s, _, drift = x[len(self.bands) : len(self.bands) + 3]
        known = (drift / DRIFT_SIGMA, (exposure_s - self.exposure_s) / self.exposure_sigma_s)
        return np.concatenate([*off, *unusual, (x[-CURVES:] - CURVE) / CURVE_SIGMA, known])

    def _lit(self, x: np.ndarray):
        exposure_s, readout_s, drift = x[len(self.bands) : len(self.bands) + 3]
        since_s = self.at_s - drift * (self.at_s - self.middle_s)
        for delay_s, wall in zip(x, self.bands):
            middle_s = since_s[None] - delay_s + wall.y[:, None] * readout_s
            yield light(self.flashes, wall.lit_until_s, middle_s, exposure_s)

    def jacobian(self, x: np.ndarray, free: np.ndarray) -> np.ndarray:
        columns = []
        for i in free:
            up, down = x.copy(), x.copy()
            up[i], down[i] = min(x[i] + self.steps[i], self.high[i]), max(x[i] - self.steps[i], self.low[i])
            columns.append((self.residuals(up) - self.residuals(down)) / (up[i] - down[i]))
        return np.stack(columns, 1)

    def solved(self, x: np.ndarray, free: np.ndarray, most: int = 30) -> tuple[np.ndarray, float]:
        """Levenberg and Marquardt within bounds: x and the sum of squares."""
        residuals = self.residuals(x)
        cost, damping = float(residuals @ residuals), 1e-3
        for _ in range(most):
            jacobian = self.jacobian(x, free)
            slope, curvature = jacobian.T @ residuals, jacobian.T @ jacobian
            scale = np.diag(curvature) + 1e-12 * np.trace(curvature)
            better = False
            while damping < 1e8 and not better:
                step = np.zeros_like(x)
                step[free] = -np.linalg.solve(curvature + damping * np.diag(scale), slope)
                there = np.clip(x + step, self.low, self.high)
                left = self.residuals(there)
                better = left @ left < cost
                damping = damping / 5 if better else damping * 4
            if not better:
                break
            gained, x, residuals, cost = cost - left @ left, there, left, float(left @ left)
            if gained < 1e-4 * max(cost / len(residuals), 1e-12):
                break
        return x, cost

    def weigh(self, x: np.ndarray) -> None:
        """Values in units of what is left over in their band; not less than a ten-thousandth of it."""
        left, at = self.residuals(x), 0
        self._shares.clear()
        for i, wall in enumerate(self.bands):
            off = left[at : at + wall.values.size].reshape(wall.values.shape)
            at += wall.values.size
            noise = np.maximum(off.std(1, keepdims=True), 1e-4 * wall.values.std(1, keepdims=True))
            self.bands[i] = wall._replace(values=wall.values / noise)

    def part(self, frames: int) -> "_Model":
        """The same with some of the frames only."""
        chosen = np.unique(np.linspace(0, len(self.at_s) - 1, frames).astype(int))
        bands = [wall._replace(values=wall.values[:, chosen]) for wall in self.bands]
        told = (self.exposure_s, self.exposure_sigma_s)
        return _Model(self.flashes, self.at_s[chosen], bands, self.high[len(self.bands)], told)

    def by_frame(self, values: np.ndarray) -> np.ndarray:
        """(n,) sums of what belongs to residuals, frame by frame."""
        return values[: self.count].reshape(-1, len(self.at_s)).sum(0)

    @property
    def count(self) -> int:
        """Of values."""
        return sum(wall.values.size for wall in self.bands)

    def left_over(self, x: np.ndarray) -> float:
        """RMS of the residuals beside that of the values."""
        values = np.concatenate([wall.values.ravel() for wall in self.bands])
        return float(np.std(self.residuals(x)[: self.count]) / np.std(values))


def latency_of(video: Brightness, flashes: Flashes, walls: Sequence[Found], exposure_s: float | None = None) -> FlashLatency:
    """Delays of the walls that flash_search found. exposure_s: where the shutter is known.

    Raises CalibrationError for videos whose instants are not what they seem.
    """
    roughly_s = float(np.median([wall.delay_s for wall in walls]))
    margin = 2 * max(video.period_s, flashes.period_s)
    video = video.between(flashes.edges_s[0] + roughly_s + margin, flashes.edges_s[-1] + roughly_s - margin)
    if len(video.at_s) < FEWEST_FLASHES:
        raise CalibrationError(f"only {len(video.at_s)} frames of the video show the flashes, {FEWEST_FLASHES} are the fewest")
    told = None if exposure_s is None else (exposure_s, EXPOSURE_SIGMA * exposure_s)
    model = _Model(flashes, video.at_s, [_bands_of(video, flashes, wall) for wall in walls], video.period_s, told)
    x = _start(model, walls, min(video.period_s, flashes.period_s))
    for _ in range(2):  # then bands are weighed by their own noise
        x, _ = model.solved(x, np.arange(len(x)))
        model.weigh(x)
    x, cost = model.solved(x, np.arange(len(x)))
    variance = cost / (model.count - 2 * sum(len(wall.y) for wall in model.bands) - len(x))
    _check_clock(model, x, video, variance)
    jacobian = model.jacobian(x, np.arange(len(x)))
    wider = [_wider(model, x, jacobian, i, variance) for i in range(len(x) - CURVES)]
    sigmas = [math.sqrt(variance * w) * s for w, s in zip(wider, _sigmas(jacobian))]
    delays, notes, asked, tries = [], [], model, []
    is_in_step = _gap_s(video.at_s - x[0], flashes) > WHOLE_GAP * flashes.period_s
    lines_s = max((wall.y for wall in model.bands), key=np.ptp) * x[len(walls) + 1]
    gap_s = _gap_s((video.at_s[:, None] + lines_s).ravel() - x[0], flashes)
    unseen_s = flashes.period_s / math.sqrt(12) if is_in_step else IN_STEP * gap_s * min(1.0, gap_s / x[len(walls)]) ** 4
    besides_s = math.hypot(LEAST_SIGMA_S, video.tick_s / math.sqrt(12), LAG_S * model.left_over(x), unseen_s)
    if IN_STEP_S < gap_s and not is_in_step:  # exposure, readout and delay can then stand in for one another
        asked = model.part(FEW_FRAMES)
        longest_s = video.period_s
        exposures = [exposure_s] if exposure_s else [longest_s * share for share in (0.1, 0.3, 0.6, 0.9)]
        tries = [np.array([exposure, longest_s * share]) for exposure in exposures for share in (0.05, 0.3, 0.7)]
    for i, (found, wall) in enumerate(zip(walls, model.bands)):
        along = _along(asked, x, i, sigmas[i], variance * wider[i], flashes.period_s, tries)
        delay_s, sigma_s, low_s, high_s = interval(*along)
        sigma_s = math.hypot(sigma_s, besides_s)
        low_s, high_s = (delay_s + side * math.hypot(end - delay_s, 1.96 * besides_s) for side, end in ((-1, low_s), (1, high_s)))
        changes = int(np.count_nonzero(np.diff(np.diff(wall.lit_until_s) > 0)))
        ms = [round(1000 * seconds, 4) for seconds in (delay_s, sigma_s, low_s, high_s)]
        delays.append(WallDelay(found.surface, *ms, changes, int(found.in_wall.sum()), round(found.correlation, 3)))
        if sigma_s > UNSURE * flashes.period_s:
            notes.append(_why_unsure(found.surface, x[len(walls)], video, flashes, sigma_s))
    n = len(walls)
    ms = [round(1000 * float(v), 3) for v in (x[n], sigmas[n], x[n + 1], sigmas[n + 1])]
    ppm = [round(1e6 * float(v), 2) for v in (x[n + 2], sigmas[n + 2])]
    return FlashLatency(tuple(delays), *ms, *ppm, round(model.middle_s, 3), round(model.left_over(x), 4), tuple(notes))


def _bands_of(video: Brightness, flashes: Flashes, wall: Found) -> _Bands:
    """Means of the wall's cells, some rows of them together, without their own mean."""
    rows = np.flatnonzero(wall.in_wall.any(1))
    y, values = [], []
    for band in np.array_split(rows, min(BANDS, len(rows))):
        here = wall.in_wall[band]
        y.append(float((here.sum(1) * (band + 0.5)).sum() / here.sum()) / wall.in_wall.shape[0] - 0.5)
        values.append(video.cells[:, band][:, here].mean(1))
    values = np.array(values, np.float64)
    values -= values.mean(1, keepdims=True)
    return _Bands(flashes.lit_until_s(wall.surface), np.array(y), values / (0.1 * values.std(1, keepdims=True)))


def _start(model: _Model, walls: Sequence[Found], frame_s: float) -> np.ndarray:
    """The best of a grid, for one wall first: exposures and readouts have valleys of their own."""
    told = (model.exposure_s, model.exposure_sigma_s)
    first = _Model(model.flashes, model.at_s, model.bands[:1], model.high[len(walls)], told)
    tries = []
    longest_s, shutter_s = first.high[1], model.exposure_s if math.isfinite(model.exposure_sigma_s) else None
    for exposure_s in [shutter_s] if shutter_s else longest_s * np.array([0.08, 0.25, 0.5, 0.95]):
        for readout_s in longest_s * np.array([0.02, 0.2, 0.4, 0.6, 0.8]):
            at = [np.array([walls[0].delay_s + off, exposure_s, readout_s, 0, *CURVE]) for off in _NEAR * frame_s]
            costs = [float((first.residuals(x) ** 2).sum()) for x in at]
            tries.append((min(costs), at[int(np.argmin(costs))]))
    tries.sort(key=lambda t: t[0])
    shared = min((first.solved(x, np.arange(len(x))) for _, x in tries[:4]), key=lambda solved: solved[1])[0]
    delays = [shared[0]]
    for bands, wall in zip(model.bands[1:], walls[1:]):
        alone = _Model(model.flashes, model.at_s, [bands], first.high[1], told)
        at = [np.concatenate([[wall.delay_s + off], shared[1:]]) for off in _NEAR * frame_s]
        delays.append(min(at, key=lambda x: float((alone.residuals(x) ** 2).sum()))[0])
    return np.concatenate([delays, shared[1:]])


def _sigmas(jacobian: np.ndarray) -> np.ndarray:
    scale = 1 / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-12)
    return scale * np.sqrt(np.diag(np.linalg.pinv((jacobian * scale).T @ (jacobian * scale), rcond=1e-10, hermitian=True)))


def _wider(model: _Model, x: np.ndarray, jacobian: np.ndarray, i: int, variance: float) -> float:
    """How much more the residuals of a quarter of a second pull together at x[i] than as many that know nothing of each other."""
    others = np.delete(jacobian, i, 1)
    scale = 1 / np.maximum(np.linalg.norm(others, axis=0), 1e-12)
    own = jacobian[:, i] - others * scale @ np.linalg.lstsq(others * scale, jacobian[:, i], rcond=1e-8)[0]
    pulls = model.by_frame(own * model.residuals(x))
    blocks = ((model.at_s - model.at_s[0]) / BLOCK_S).astype(int)
    return max(1.0, float((np.bincount(blocks, pulls) ** 2).sum() / max(variance * float(own @ own), 1e-12)))


def _along(model: _Model, x: np.ndarray, i: int, sigma_s: float, variance: float, period_s: float, tries: Sequence[np.ndarray]):
    """Delays, and -2 log likelihood there, on both sides of x[i] to where it is out of the question. tries: exposure and readout
    to begin with, beside those of the step before."""
    free, n = np.delete(np.arange(len(x)), i), len(model.bands)
    found = [(float(x[i]), float((model.residuals(x) ** 2).sum()))]
    for side in (-1, 1):
        here, step = x.copy(), float(np.clip(sigma_s / 2, 1e-6, period_s / 20))
        if len(tries):
            step = max(step, period_s / 40)
        while abs(here[i] - x[i]) < 1.5 * period_s:
            here[i] += side * step
            starts = [here, *(np.concatenate([here[:n], shutter, here[n + 2 :]]) for shutter in tries)]
            here, cost = min((model.solved(start, free, 6) for start in starts), key=lambda solved: solved[1])
            found.append((float(here[i]), cost))
            if (cost - min(cost for _, cost in found)) / variance > FAR:
                break
            step = min(step * 1.35, period_s / 12)
    delays, costs = np.array(sorted(found)).T
    return delays, (costs - costs.min()) / variance


def _gap_s(middle_s: np.ndarray, flashes: Flashes) -> float:
    """The longest part of a wall's frame in which none of these instants lies."""
    inside = middle_s[(middle_s > flashes.edges_s[0]) & (middle_s < flashes.edges_s[-1])]
    since = np.sort(np.mod(inside - flashes.edges_s[np.searchsorted(flashes.edges_s, inside) - 1], flashes.period_s))
    return float(np.diff(np.append(since, since[0] + flashes.period_s)).max())


def interval(delays: np.ndarray, deviance: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, standard deviation and 95 % of exp(-deviance / 2)."""
    fine = np.linspace(delays[0], delays[-1], 4001)
    density = np.exp(-PchipInterpolator(delays, deviance)(fine) / 2)
    share = np.cumsum(density) / density.sum()
    mean = float((fine * density).sum() / density.sum())
    sigma = math.sqrt(float(((fine - mean) ** 2 * density).sum() / density.sum()))
    return mean, sigma, float(fine[np.searchsorted(share, 0.025)]), float(fine[np.searchsorted(share, 0.975)])


def _check_clock(model: _Model, x: np.ndarray, video: Brightness, variance: float) -> None:
    """Frames that were dropped, and whose instants close up over the gap: parts of the video are then late by whole frames."""
    walls, offsets = len(model.bands), np.linspace(-6, 6, 61) * video.period_s
    costs = []
    for off in offsets:
        there = x.copy()
        there[:walls] += off
        costs.append(model.by_frame(model.residuals(there) ** 2))
    best = []
    for part in np.array_split(np.arange(len(model.at_s)), PARTS):
        cost = np.array([here[part].sum() for here in costs])
        is_clear = cost[len(cost) // 2] - cost.min() > max(CLEAR * variance, 0.5 * cost[len(cost) // 2])
        best.append(float(offsets[cost.argmin()]) if is_clear else 0.0)
    if max(best) - min(best) > JUMP * video.period_s:
        told = ", ".join(f"{1000 * off:+.0f}" for off in best)
        raise CalibrationError(
            f"the video's instants are not those of its frames: over its length the flashes come {told} ms off. Frames were dropped "
            "and their instants closed up, or the rate was changed. Record with constant quality to a faster disk, or without a "
            "conversion of the rate"
        )


def _why_unsure(surface: str, exposure_s: float, video: Brightness, flashes: Flashes, sigma_s: float) -> str:
    camera, wall = 1 / video.period_s, 1 / flashes.period_s
    in_step = abs(camera / wall - round(camera / wall)) < 0.002 or abs(wall / camera - round(wall / camera)) < 0.002
    why = (
        f"camera ({camera:.2f} Hz) and wall ({wall:.2f} Hz) run in step, and no exposure (1/{1 / exposure_s:.0f} s) sees the wall change: "
        "all delays between two of them are as likely. For the measurement, let the camera run at another rate, or expose longer"
        if in_step
        else "the flashes are faint beside the noise: more light on the sensor, more of the wall in the picture, a longer recording"
    )
    return f"{surface}: ± {1000 * sigma_s:.1f} ms: {why}"
