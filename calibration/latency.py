"""How late the wall's light is: the delay between a record of flashes and a video of them, far below a frame, and its sigma.

The model of what the picture's lines see is flash_model.py's. δ of every wall, exposure, readout, the camera's curve and the
clocks' drift are found together by least squares. A frame's instant is taken as the middle of the exposure of the middle line:
what a camera stamps otherwise is its own delay, and part of δ.

The likelihood of δ is gone along, everything else being solved for again at each step, because it is not always a parabola. It
is widened by what the residuals of a quarter of a second have in common (encoders' artefacts last for a while), and by two
things that videos with known delays taught: LAG_S, IN_STEP. A camera that runs in step with the wall sees its changes always
at the same place of its exposure, or not at all: that tells a delay to a frame only, and that is what is said then.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.interpolate import PchipInterpolator

from calibration.flash_model import CURVE, CURVES, Bands, Model
from calibration.flash_search import FEWEST_FLASHES, Flashes, Found
from calibration.flash_video import Brightness
from ledvolume.errors import CalibrationError

BANDS = 12
EXPOSURE_SIGMA = 0.02  # of an exposure that was told: shutters are as good
FAR = 14.0  # of -2 log likelihood: 3.7 σ
BLOCK_S = 0.25
PARTS, JUMP = 6, 0.4  # of the video, and of its frame: instants that are off by more are no instants
CLEAR = 100.0  # of what is left over, squared: that much better another instant has to be
UNSURE = 0.1  # of a wall's frame
LEAST_SIGMA_S = 2e-5
LAG_S = 2.5e-3  # measured on H.264 from crf 18 to 35: what an encoder leaves over, it shows late, by so much of all of it
IN_STEP_S, FEW_FRAMES, WHOLE_GAP = 0.002, 100, 0.9
IN_STEP = 0.15  # measured: errors, in parts of the wall's frame in which no exposure has its middle, if exposures are as short
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
    model = Model(flashes, video.at_s, [_bands_of(video, flashes, wall) for wall in walls], video.period_s, told)
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
    gap_s, unseen_s = _unseen(model, x)
    besides_s = math.hypot(LEAST_SIGMA_S, video.tick_s / math.sqrt(12), LAG_S * model.left_over(x), unseen_s)
    if IN_STEP_S < gap_s < flashes.period_s:  # exposure, readout and delay can then stand in for one another
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


def _bands_of(video: Brightness, flashes: Flashes, wall: Found) -> Bands:
    """Means of the wall's cells, some rows of them together, without their own mean."""
    rows = np.flatnonzero(wall.in_wall.any(1))
    y, values = [], []
    for band in np.array_split(rows, min(BANDS, len(rows))):
        here = wall.in_wall[band]
        y.append(float((here.sum(1) * (band + 0.5)).sum() / here.sum()) / wall.in_wall.shape[0] - 0.5)
        values.append(video.cells[:, band][:, here].mean(1))
    values = np.array(values, np.float64)
    values -= values.mean(1, keepdims=True)
    return Bands(flashes.lit_until_s(wall.surface), np.array(y), values / (0.1 * values.std(1, keepdims=True)))


def _start(model: Model, walls: Sequence[Found], frame_s: float) -> np.ndarray:
    """The best of a grid, for one wall first: exposures and readouts have valleys of their own."""
    told = (model.exposure_s, model.exposure_sigma_s)
    first = Model(model.flashes, model.at_s, model.bands[:1], model.high[len(walls)], told)
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
        alone = Model(model.flashes, model.at_s, [bands], first.high[1], told)
        at = [np.concatenate([[wall.delay_s + off], shared[1:]]) for off in _NEAR * frame_s]
        delays.append(min(at, key=lambda x: float((alone.residuals(x) ** 2).sum()))[0])
    return np.concatenate([delays, shared[1:]])


def _sigmas(jacobian: np.ndarray) -> np.ndarray:
    scale = 1 / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-12)
    return scale * np.sqrt(np.diag(np.linalg.pinv((jacobian * scale).T @ (jacobian * scale), rcond=1e-10, hermitian=True)))


def _wider(model: Model, x: np.ndarray, jacobian: np.ndarray, i: int, variance: float) -> float:
    """How much more the residuals of a quarter of a second pull together at x[i] than as many that know nothing of each other."""
    others = np.delete(jacobian, i, 1)
    scale = 1 / np.maximum(np.linalg.norm(others, axis=0), 1e-12)
    own = jacobian[:, i] - others * scale @ np.linalg.lstsq(others * scale, jacobian[:, i], rcond=1e-8)[0]
    pulls = model.by_frame(own * model.residuals(x))
    blocks = ((model.at_s - model.at_s[0]) / BLOCK_S).astype(int)
    return max(1.0, float((np.bincount(blocks, pulls) ** 2).sum() / max(variance * float(own @ own), 1e-12)))


def _along(model: Model, x: np.ndarray, i: int, sigma_s: float, variance: float, period_s: float, tries: Sequence[np.ndarray]):
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


def _unseen(model: Model, x: np.ndarray) -> tuple[float, float]:
    """The part of the wall's frame that no exposure of no line has its middle in, and the sigma that this makes. A camera in step
    with the wall: the whole frame, whatever its lines tell."""
    flashes, (exposure_s, readout_s) = model.flashes, x[len(model.bands) :][:2]
    if _gap_s(model.at_s - x[0], flashes) > WHOLE_GAP * flashes.period_s:
        return flashes.period_s, flashes.period_s / math.sqrt(12)
    lines_s = max((wall.y for wall in model.bands), key=np.ptp) * readout_s
    gap_s = _gap_s((model.at_s[:, None] + lines_s).ravel() - x[0], flashes)
    return gap_s, IN_STEP * gap_s * min(1.0, gap_s / exposure_s) ** 4


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


def _check_clock(model: Model, x: np.ndarray, video: Brightness, variance: float) -> None:
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
