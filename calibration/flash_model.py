"""What the lines of a picture see of walls that flash: latency.py's model, and how it is fitted. Pure.

    value = a + g · h(share of [m - e/2, m + e/2] in which the wall was lit)        m = t_k - δ + y·readout

Of frame k at the height y of the picture, -½ to ½, of a wall that is late by δ; e is the exposure, h the camera's curve from
light to code value, six points with straight lines between them.
"""

from typing import NamedTuple

import numpy as np

from calibration.flash_search import Flashes, light

KNOTS = np.array([0, 1 / 64, 1 / 16, 1 / 4, 9 / 16, 1.0])  # of h: encoded values rise fast where it is dark
CURVE, CURVE_SIGMA, BAND_SIGMA = KNOTS[1:-1] ** 0.6, 0.2, 0.05  # of the camera; of a band against the others
CURVES = len(CURVE)
DRIFT_SIGMA = 50e-6  # of two crystals against each other
SHORTEST_EXPOSURE_S = 2.5e-4
_KNOT, _INNER = np.arange(CURVES + 2), np.arange(CURVES)


class Bands(NamedTuple):
    """Of one wall: lit_until_s; y (b,); values (b, n), in units of their noise."""

    lit_until_s: np.ndarray
    y: np.ndarray
    values: np.ndarray


class Shares:
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


class Model:
    """Residuals of all walls by x = (δ of each wall, exposure, readout, drift, h's inner points)."""

    def __init__(
        self, flashes: Flashes, at_s: np.ndarray, bands: list[Bands], frame_s: float, exposure_s: tuple[float, float] | None
    ):
        self.flashes, self.at_s, self.bands = flashes, at_s, bands
        self.exposure_s, self.exposure_sigma_s = exposure_s or (0.0, np.inf)
        self.middle_s = float(at_s.mean())
        self._shares: dict[bytes, list[Shares]] = {}
        self.low = np.array([-np.inf] * len(bands) + [SHORTEST_EXPOSURE_S, 0.0, -1e-3] + [0.0] * CURVES)
        self.high = np.array([np.inf] * len(bands) + [frame_s, frame_s, 1e-3] + [1.0] * CURVES)
        self.steps = np.array([1e-5] * len(bands) + [1e-5, 1e-5, 1e-7] + [1e-4] * CURVES)

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """Of all bands' frames, then of what was known before."""
        instants = x[:-CURVES].tobytes()
        if instants not in self._shares:  # the curve is asked about several times with the same instants
            if len(self._shares) > 1:
                self._shares.pop(next(iter(self._shares)))
            self._shares[instants] = [Shares(share, wall.values) for share, wall in zip(self._lit(x), self.bands)]
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

    def part(self, frames: int) -> "Model":
        """The same with some of the frames only."""
        chosen = np.unique(np.linspace(0, len(self.at_s) - 1, frames).astype(int))
        bands = [wall._replace(values=wall.values[:, chosen]) for wall in self.bands]
        told = (self.exposure_s, self.exposure_sigma_s)
        return Model(self.flashes, self.at_s[chosen], bands, self.high[len(self.bands)], told)

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
