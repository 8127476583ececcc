"""Bundle adjustment: Levenberg and Marquardt's steps on the bundle's normal equations, first robust, then plain.

While it starts, a match weighs 1 / (1 + (r/c)²) (Cauchy), c following the residuals down, so that a wrong match has no say.
Then what is off by more than REJECT sigmas is set aside, and the rest is least squares: so the covariance is that of normal
errors, (JᵀWJ)⁻¹, with two scales found on the way, never assumed: that of the pictures' residuals (sigma_scale), and for a
cloth those of bending and strain, by MacKay's evidence (what there is of it, over as many numbers as the pictures determine).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from calibration.solve.bundle import Bundle, Constraint, Linear, State
from calibration.solve.cloth import Cloth
from calibration.solve.gauge import Gauge

REJECT = 4.5  # sigmas, of a match's distance: 4 in 100 000 good ones are lost
NEAR_PX = 0.3  # never an outlier: where matches are good to hundredths, their sigmas do not say of all how good they are
TRACKER_REJECT = 6.0  # sigmas, RMS of a sample's six
RAYLEIGH_MEDIAN = 1.1774  # of a distance whose two coordinates have sigma 1
ENOUGH = 1e-3  # a fall of the sum of squares that moves no unknown by more than a thirtieth of its sigma
ENOUGH_ROBUST = 1e-5  # of it: what comes after is plain
UNDAMPED = 1e-13
MOST_STEPS = 60
CLOTH_RANGES = ((1e-5, 1.0), (1e-4, 1e-2))  # of its sigmas: a seam may be off by 0.05 mm on half a metre, always
LEAST_INFORMATION = 1e-10  # of a direction, in units: 10 km, or many turns


class Fit(NamedTuple):
    """A state, the equations there, and how many steps it took."""

    state: State
    linear: Linear
    steps: int


@dataclass(frozen=True)
class Loss:
    """Squares for c = inf; Cauchy's c² log(1 + r²/c²) else, of matches and of tracker samples."""

    matches: float = np.inf
    tracker: float = np.inf

    def weights(self, bundle: Bundle, linear: Linear) -> tuple[np.ndarray, np.ndarray]:
        return (
            1 / (1 + match_squares(bundle, linear) / self.matches**2),
            1 / (1 + tracker_squares(linear) / self.tracker**2),
        )

    def cost(self, bundle: Bundle, linear: Linear, constraints: list[Constraint]) -> float:
        matches = _cauchy(match_squares(bundle, linear)[bundle.is_used], self.matches)
        tracker = _cauchy(tracker_squares(linear)[bundle.is_tracker_used], self.tracker)
        return float(matches + tracker + sum(c.residual @ c.residual for c in constraints))


def match_squares(bundle: Bundle, linear: Linear) -> np.ndarray:
    """Squared distance of each match, over its sigma: 2 on average."""
    return np.einsum("ni,ni->n", linear.off_px, linear.off_px) / bundle.sigma_px**2


def tracker_squares(linear: Linear) -> np.ndarray:
    """Squared distance of each sample, over its sigmas: 6 on average."""
    return np.einsum("ni,ni->n", linear.off_tracker, linear.off_tracker)


def adjusted(
    bundle: Bundle, state: State, free: np.ndarray, gauge: Gauge, *, is_robust: bool = False, most: int = MOST_STEPS
) -> Fit:
    """The state with the least loss, moving the unknowns that `free` (indices) names."""
    linear, damping, taken, growth, is_enough = bundle.linear(state), 1e-4, 0, 2.0, False
    while taken < most:
        loss = _loss(bundle, linear) if is_robust else Loss()
        constraints = bundle.priors(state) + gauge.constraints(bundle, state)
        cost = loss.cost(bundle, linear, constraints)
        normal, gradient = bundle.normal(linear, *loss.weights(bundle, linear), constraints)
        units = bundle.units[free]
        scaled = normal[np.ix_(free, free)] * units * units[:, None]
        diagonal = np.maximum(np.diag(scaled), 1e-6)
        while True:
            taken += 1
            step = np.zeros(bundle.size)
            step[free] = units * _solution(scaled + np.diag(damping * diagonal), gradient[free] * units)
            moved = bundle.moved(state, step)
            moved_linear = bundle.linear(moved)
            rest = bundle.priors(moved) + gauge.constraints(bundle, moved)
            fall = cost - loss.cost(bundle, moved_linear, rest)
            if fall > 0 or is_enough or taken >= most:
                break
            if np.max(np.abs(step[free] / units)) < 1e-9:
                return Fit(state, linear, taken)
            damping, growth = damping * growth, growth * 2
        if fall <= 0:
            break
        state, linear = moved, moved_linear
        is_enough = fall < (ENOUGH_ROBUST * cost if is_robust else ENOUGH)
        if is_enough and (is_robust or damping <= UNDAMPED):
            break  # what the tracker alone holds is soft beside thousands of matches: only an undamped step moves it
        damping, growth = UNDAMPED if is_enough else max(damping / 10, UNDAMPED), 2.0
    return Fit(state, linear, taken)


def settled(bundle: Bundle, state: State, free: np.ndarray, gauge: Gauge) -> tuple[Fit, float]:
    """From a rough state to the least squares of what is believed: the fit, and the pictures' sigma_scale.

    Sets bundle.is_used, is_tracker_used, sigma_px (times the scale) and cloth_sigmas.
    """
    fit = adjusted(bundle, state, free, gauge, is_robust=True)
    steps, total = fit.steps, 1.0
    for _ in range(6):
        squares = match_squares(bundle, fit.linear)
        scale = max(float(np.sqrt(np.median(squares))) / RAYLEIGH_MEDIAN, 1e-6)
        before, before_tracker = bundle.is_used.copy(), bundle.is_tracker_used.copy()
        is_near = np.linalg.norm(fit.linear.off_px, axis=1) < NEAR_PX
        bundle.is_used = (squares <= (REJECT * scale) ** 2) | is_near
        bundle.is_tracker_used = bundle.has_sample & believed_samples(bundle, fit.linear)
        stiffer = _stiffness(bundle, fit, free, gauge)
        fit = adjusted(bundle, fit.state, free, gauge)
        steps += fit.steps
        used = match_squares(bundle, fit.linear)[bundle.is_used]
        freedom = 2 * len(used) - len(free)
        ratio = float(np.sqrt(used.sum() / max(freedom, 1)))
        bundle.sigma_px = bundle.sigma_px * ratio
        total *= ratio
        same = (bundle.is_used == before).all() and (bundle.is_tracker_used == before_tracker).all()
        if same and abs(ratio - 1) < 0.01 and not stiffer:
            break
    return fit._replace(steps=steps), total


def believed_samples(bundle: Bundle, linear: Linear) -> np.ndarray:
    """(views,): a sample that is off by far more than the others, and than its sigmas, is not believed."""
    rms = np.sqrt(tracker_squares(linear) / 6)
    usual = np.median(rms[bundle.has_sample]) if bundle.has_sample.any() else 1.0
    return rms <= TRACKER_REJECT * max(1.0, usual)


def covariance(bundle: Bundle, fit: Fit, free: np.ndarray, gauge: Gauge) -> np.ndarray:
    """(size, size) of all unknowns, zero where they were held. What nothing determines has a sigma beyond all measure."""
    constraints = bundle.priors(fit.state) + gauge.constraints(bundle, fit.state)
    normal, _ = bundle.normal(fit.linear, *Loss().weights(bundle, fit.linear), constraints)
    units = bundle.units[free]
    scaled = normal[np.ix_(free, free)] * units * units[:, None]
    try:
        inverse = cho_solve(cho_factor(scaled), np.eye(len(free)))
    except LinAlgError:
        values, vectors = np.linalg.eigh(scaled)
        inverse = (vectors / np.maximum(values, LEAST_INFORMATION)) @ vectors.T
    found = np.zeros((bundle.size, bundle.size))
    found[np.ix_(free, free)] = inverse * units * units[:, None]
    return found


def _loss(bundle: Bundle, linear: Linear) -> Loss:
    """Three times the usual residual, as long as that is more than the sigmas say."""
    matches = np.sqrt(np.median(match_squares(bundle, linear)[bundle.is_used])) / RAYLEIGH_MEDIAN
    samples = tracker_squares(linear)[bundle.is_tracker_used]
    tracker = np.sqrt(np.median(samples) / 6) if len(samples) else 1.0
    return Loss(3 * max(1.0, float(matches)), 3 * np.sqrt(6) * max(1.0, float(tracker)))


def _stiffness(bundle: Bundle, fit: Fit, free: np.ndarray, gauge: Gauge) -> bool:
    """Sets each cloth's sigmas to the most likely ones; whether any moved by more than a tenth."""
    cloths = [i for i, shape in enumerate(bundle.shapes) if isinstance(shape, Cloth) and bundle.wall_at[i] in free]
    if not cloths:
        return False
    spread, moved = covariance(bundle, fit, free, gauge), False
    for i in cloths:
        shape, at, values = bundle.shapes[i], bundle.wall_at[i], fit.state.walls[i]
        own = spread[at : at + values.size, at : at + values.size]
        bend = shape.bending()
        strain, rates = shape.stretch(values, fit.state.pitch)
        rates = rates[:, :-1]
        left = (
            sum(float(np.einsum("ij,ij->", bend @ own[a::3, a::3], bend)) for a in range(3)),
            float(np.einsum("ij,ij->", rates @ own, rates)),
        )
        squares = float(np.sum((bend @ values.reshape(-1, 3)) ** 2)), float(strain @ strain)
        counts = values.size - 9, len(strain)  # 9: the displacements of an affine map are 3 × 3, and bend nothing
        now = []
        for was, count, over, square, (least, most) in zip(bundle.cloth_sigmas[i], counts, left, squares, CLOTH_RANGES):
            determined = max(count - over / was**2, 1.0)
            now.append(float(np.clip(np.sqrt(square / determined), least, most)))
        moved |= bool(np.abs(np.log(np.divide(now, bundle.cloth_sigmas[i]))).max() > 0.1)
        bundle.cloth_sigmas[i] = tuple(now)
    return moved


def _solution(normal: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    try:
        return cho_solve(cho_factor(normal, check_finite=False), gradient, check_finite=False)
    except LinAlgError:
        return np.linalg.lstsq(normal, gradient, rcond=1e-12)[0]


def _cauchy(squares: np.ndarray, c: float) -> float:
    return float(squares.sum() if c == np.inf else c * c * np.log1p(squares / c**2).sum())
