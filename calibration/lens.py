"""Focal length, optical axis and distortion of a lens in one state, from pictures of a board; how sure that is, and of what not.

    pictures ─ board.corners_in ─▶ Look …  ─ chosen_order ─▶ fitted ─▶ Fit ─ station_of ─▶ lens_table.Station

OpenCV's model and its solver (calib3d, Zhang 2000), with square pixels. What is ours is what is said about the answer:

- the distortion's order is measured: pictures are held out in turn, and the simplest order is taken that foretells them as
  well as the best one (within the standard error of the difference). Residuals of one picture go together (a board that is
  not flat, a little blur), so a criterion that counts corners, such as BIC, would take orders that are not there;
- sigmas come from the normal equations, widened by what the answer changes when a whole picture is left out (jackknife);
- what the pictures do not show is said: no tilt, corners of the picture unseen, a picture that fits worse than the others.
"""

import math
from typing import Literal, NamedTuple

import cv2
import msgspec
import numpy as np

from calibration.board import Corners
from ledvolume.errors import CalibrationError
from ledvolume.lens import Lens, view_overscan
from ledvolume.lens_table import Station
from ledvolume.opencv_lens import SQUARE_WITHIN, from_opencv

Order = Literal["none", "k1", "k1k2", "k1k2p", "k1k2k3p"]
ORDERS: dict[Order, tuple[int, ...]] = {
    "none": (),
    "k1": (0,),
    "k1k2": (0, 1),
    "k1k2p": (0, 1, 2, 3),
    "k1k2k3p": (0, 1, 2, 3, 4),
}
"""Order → the coefficients that it has, of OpenCV's k1 k2 p1 p2 k3."""

FEWEST_PICTURES = 3
FOLDS = 5
GRID = 6  # the picture's cells each way, for telling what was seen
LARGEST_SIGMA = 0.05  # of the focal length: above that it is not known
TILT_DEG = 20.0  # at 20° the near side of a board is some 10 % larger than the far one
WORSE_THAN_OTHERS = 3.0
LARGE_RMS_PX = 0.5
BETTER = 0.9
_FIXED = (cv2.CALIB_FIX_K1, cv2.CALIB_FIX_K2, cv2.CALIB_ZERO_TANGENT_DIST, cv2.CALIB_ZERO_TANGENT_DIST, cv2.CALIB_FIX_K3)
_CORNERS = {"top left": (0, 0), "top right": (0, -1), "bottom left": (-1, 0), "bottom right": (-1, -1)}
_ENOUGH = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-10)


class Look(NamedTuple):
    """The board in one picture."""

    name: str
    corners: Corners


class Fit(NamedTuple):
    """One lens state. numbers: focal, centre x, y, then k1 k2 p1 p2 k3 in OpenCV's counting; sigmas likewise, 0 where an order
    has none. residuals_px: of every look, (n, 2); poses: rotation and translation vectors, camera from board, mm."""

    order: Order
    picture_px: tuple[int, int]
    numbers: np.ndarray
    sigmas: np.ndarray
    covariance: np.ndarray
    residuals_px: list[np.ndarray]
    poses: list[np.ndarray]

    @property
    def rms_px(self) -> float:
        """√ of the mean squared distance, as OpenCV counts it."""
        return _rms(np.concatenate(self.residuals_px))

    @property
    def matrix(self) -> np.ndarray:
        """OpenCV's camera matrix."""
        f, cx, cy = self.numbers[:3]
        return np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])


class Uncertain(msgspec.Struct, frozen=True):
    """1 σ of a station. corner_px: of where the distortion puts the picture's corners."""

    focal_length_mm: float
    projection_offset_mm: tuple[float, float]
    corner_px: float


def fitted(looks: list[Look], picture_px: tuple[int, int], order: Order) -> Fit:
    """The lens that these looks were taken with. Raises CalibrationError where they do not say it."""
    if len(looks) < FEWEST_PICTURES:
        raise CalibrationError(
            f"{len(looks)} pictures with a board, {FEWEST_PICTURES} are the fewest: take 10 to 20, tilted by 20° to 45° in all "
            "directions, near the corners of the picture too"
        )
    try:
        numbers, poses = _solved(looks, picture_px, order)
    except cv2.error as error:
        raise CalibrationError(
            f"no lens fits these pictures ({error.err}): are they all of one lens state, none mirrored?"
        ) from None
    if not np.isfinite(numbers).all() or numbers[0] <= 0:
        raise CalibrationError("no lens fits these pictures: are they all of one lens state, and the board as described?")
    covariance, residuals = _covariance(looks, numbers, poses, order)
    sigmas = np.sqrt(np.diag(covariance))
    if not sigmas[0] < LARGEST_SIGMA * numbers[0]:
        raise CalibrationError(
            f"the focal length is known to ± {min(sigmas[0] / numbers[0], 9.99):.0%} only: a board that faces the camera looks the same from "
            f"near with a wide lens as from far with a long one. Tilt it by 20° to 45° (the most was {max(tilts_deg(poses)):.0f}°)"
        )
    fit = Fit(order, picture_px, numbers, sigmas, covariance, residuals, poses)
    if view_overscan(lens_of(fit, 36.0)) == math.inf:
        raise CalibrationError(
            f"the distortion ({order}) folds inside the picture, which no lens does: {len(looks)} pictures, {fit.rms_px:.2f} px left "
            "over. Is it this board? Take more pictures, near the corners too, or choose another --order"
        )
    return fit


def chosen_order(stations: list[list[Look]], picture_px: tuple[int, int]) -> tuple[Order, dict[Order, float]]:
    """The order for the stations of one lens, and how well each order foretells pictures that were held out (px, the geometric
    mean). Orders that fold inside the picture are not asked."""
    scores = {order: _held_out(stations, picture_px, order) for order in ORDERS}
    scores = {order: np.log(px) for order, px in scores.items() if px is not None}
    if not scores:
        return "k1k2", {}
    best = min(scores, key=lambda order: scores[order].mean())
    for order, score in scores.items():  # the simplest first
        off = score - scores[best]
        if off.mean() <= off.std() / math.sqrt(len(off)):
            return order, {name: float(np.exp(values.mean())) for name, values in scores.items()}
    raise AssertionError("the best order is as good as itself")


def lens_of(fit: Fit, sensor_width_mm: float) -> Lens:
    """In OpenLensIO's terms."""
    return from_opencv(fit.matrix, fit.numbers[3:], fit.picture_px, sensor_width_mm)


def station_of(
    fit: Fit,
    sensor_width_mm: float,
    zoom_encoder: float = 0.0,
    focus_encoder: float = 0.0,
    focus_distance_m: float | Literal["infinity"] | None = None,
    entrance_pupil_mm: float | None = None,
) -> Station:
    """A station of a lens table."""
    lens = lens_of(fit, sensor_width_mm)
    radial = np.trim_zeros(lens.distortion.radial, "b")
    distortion = msgspec.structs.replace(lens.distortion, radial=tuple(float(f"{k:.9g}") for k in radial))
    return Station(
        round(lens.focal_length_mm, 6),
        zoom_encoder,
        focus_encoder,
        focus_distance_m,
        entrance_pupil_mm,
        tuple(round(mm, 6) for mm in lens.projection_offset_mm),
        distortion,
    )


def uncertainty_of(fit: Fit, sensor_width_mm: float) -> Uncertain:
    """1 σ in millimetres on the sensor."""
    (width, height), (f, cx, cy) = fit.picture_px, fit.numbers[:3]
    mm, corner = sensor_width_mm / width, max(([-0.5, -0.5], [width, height]), key=lambda p: math.hypot(p[0] - cx, p[1] - cy))
    x, y = ((p - c) / f for p, c in zip(corner, (cx, cy)))
    r2 = x * x + y * y
    by_coefficient = np.array([
        [x * r2, x * r2**2, 2 * x * y, r2 + 2 * x * x, x * r2**3],
        [y * r2, y * r2**2, r2 + 2 * y * y, 2 * x * y, y * r2**3],
    ])  # fmt: skip
    moved = f * by_coefficient @ fit.covariance[3:, 3:] @ (f * by_coefficient).T
    f_mm, x_mm, y_mm = (float(sigma) * mm for sigma in fit.sigmas[:3])
    return Uncertain(f_mm, (x_mm, y_mm), math.sqrt(max(float(np.trace(moved)), 0.0)))


def doubts(fit: Fit, looks: list[Look]) -> list[str]:
    """What these pictures leave open, in words: what was seen and what to take."""
    said, (width, height) = [], fit.picture_px
    if len(looks) < 8:
        said.append(f"{len(looks)} pictures: take 10 to 20")
    tilts = tilts_deg(fit.poses)
    if sum(tilt > TILT_DEG for tilt in tilts) < 3:
        said.append(
            f"the board is hardly tilted (at most {max(tilts):.0f}°): tilt it by {TILT_DEG:.0f}° to 45°, for the focal length"
        )
    points = np.concatenate([look.corners.picture_px for look in looks])
    cells = np.zeros((GRID, GRID), bool)
    columns, rows = ((points / [width, height]) * GRID).clip(0, GRID - 1).astype(int).T
    cells[rows, columns] = True
    unseen = [name for name, cell in _CORNERS.items() if not cells[cell]]
    reach = np.linalg.norm((points - fit.numbers[1:3]) / (math.hypot(width, height) / 2), axis=1).max()
    if reach < 0.6:
        said.append(
            f"corners only in the middle, out to {reach:.0%} of the way to the picture's corners: distortion is a guess beyond"
        )
    elif unseen:
        said.append(f"no corners of the board in the picture's {', '.join(unseen)}: hold it there; distortion is extrapolated")
    each = [_rms(off) for off in fit.residuals_px]
    for look, rms in zip(looks, each):
        if rms > WORSE_THAN_OTHERS * np.median(each):
            said.append(
                f"{look.name} fits {rms / np.median(each):.0f} times worse than the others ({rms:.2f} px): look at it, leave it out"
            )
    squeeze = _squeeze(looks, fit)
    if abs(squeeze - 1) > SQUARE_WITHIN:
        said.append(f"pixels are not square: {squeeze:.4f} times as far apart across as down; was the picture squeezed?")
    if fit.rms_px > LARGE_RMS_PX:
        said.append(
            f"{fit.rms_px:.2f} px are left over, a few tenths are usual: is the board flat, is it this board, is it sharp?"
        )
    return said


def tilts_deg(poses: list[np.ndarray]) -> list[float]:
    """How far the board's normal is off the line of sight to it."""
    normals = [cv2.Rodrigues(pose[:3])[0][:, 2] for pose in poses]
    return [
        math.degrees(math.acos(min(1.0, abs(float(n @ pose[3:])) / np.linalg.norm(pose[3:])))) for n, pose in zip(normals, poses)
    ]


def _solved(looks: list[Look], picture_px: tuple[int, int], order: Order, free_aspect: bool = False):
    """The numbers of a Fit and the poses; with free_aspect, (fx, fy) and the RMS."""
    flags = 0 if free_aspect else cv2.CALIB_FIX_ASPECT_RATIO
    for coefficient, fixed in enumerate(_FIXED):
        flags |= 0 if coefficient in ORDERS[order] else fixed
    objects = [look.corners.board_mm.astype(np.float32) for look in looks]
    points = [look.corners.picture_px.astype(np.float32).reshape(-1, 1, 2) for look in looks]
    rms_px, matrix, distortion, rotations, translations = cv2.calibrateCamera(
        objects, points, picture_px, np.eye(3), np.zeros(5), flags=flags, criteria=_ENOUGH
    )
    numbers = np.array([matrix[0, 0], matrix[0, 2], matrix[1, 2], *distortion.ravel()[:5]])
    poses = [np.concatenate([r.ravel(), t.ravel()]) for r, t in zip(rotations, translations)]
    return (np.array([matrix[0, 0], matrix[1, 1]]), rms_px) if free_aspect else (numbers, poses)


def _projected(look: Look, numbers: np.ndarray, pose: np.ndarray):
    """Points (n, 2) px; derivatives (2n, 8) by the lens' numbers and (2n, 6) by the pose."""
    f, cx, cy = numbers[:3]
    points, by = cv2.projectPoints(
        look.corners.board_mm, pose[:3], pose[3:], np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]), numbers[3:]
    )
    by_lens = np.concatenate([by[:, 6:7] + by[:, 7:8], by[:, 8:10], by[:, 10:15]], axis=1)
    return points[:, 0], by_lens, by[:, :6]


def _covariance(looks: list[Look], numbers: np.ndarray, poses: list[np.ndarray], order: Order):
    """(8, 8), zeros where the order has no coefficient, and the residuals.

    The poses are eliminated picture by picture; S_v is what picture v says of the lens, g_v what it would like to change.
    Without it, the answer would be (S - S_v)⁻¹ g_v away (one Gauss-Newton step).
    """
    free = np.array([0, 1, 2, *(3 + c for c in ORDERS[order])])
    parts, pulls, residuals = [], [], []
    for look, pose in zip(looks, poses):
        points, by_lens, by_pose = _projected(look, numbers, pose)
        off = look.corners.picture_px - points
        a, b = by_lens[:, free], by_pose
        a = a - b @ np.linalg.lstsq(b, a, rcond=None)[0]
        parts.append(a.T @ a)
        pulls.append(a.T @ off.ravel())
        residuals.append(off)
    total = sum(parts)
    scale = 1 / np.sqrt(np.diag(total))  # focal lengths in pixels beside k3
    inverse = np.linalg.pinv(total * scale[:, None] * scale, rcond=1e-14, hermitian=True)
    count = sum(off.size for off in residuals) - 6 * len(looks) - len(free)
    variance = sum(float((off**2).sum()) for off in residuals) / max(count, 1)
    model = variance * inverse * scale[:, None] * scale
    moved = []
    for part, pull in zip(parts, pulls):
        rest = (total - part) * scale[:, None] * scale
        moved.append(scale * (np.linalg.pinv(rest, rcond=1e-12, hermitian=True) @ (scale * pull)))
    jackknife = (len(looks) - 1) / len(looks) * np.cov(np.array(moved).T, bias=True) * len(looks)
    wider = max(1.0, float(np.median(np.diag(jackknife) / np.diag(model))))
    covariance = np.zeros((8, 8))
    covariance[np.ix_(free, free)] = wider * model
    return covariance, residuals


def _held_out(stations: list[list[Look]], picture_px: tuple[int, int], order: Order) -> np.ndarray | None:
    """RMS px of every picture that could be foretold; None if this order cannot be solved or is no lens."""
    found = []
    for looks in stations:
        folds = min(FOLDS, len(looks))
        if not looks or len(looks) - math.ceil(len(looks) / folds) < FEWEST_PICTURES:
            continue
        for fold in range(folds):
            kept = [look for i, look in enumerate(looks) if i % folds != fold]
            try:
                numbers, poses = _solved(kept, picture_px, order)
                lens = lens_of(Fit(order, picture_px, numbers, numbers, np.eye(8), [], poses), 36.0)
                if view_overscan(lens) == math.inf:
                    return None
                found += [_foretold_px(look, numbers) for look in looks[fold::folds]]
            except (cv2.error, np.linalg.LinAlgError):
                return None
    return np.array(found) if found else None


def _foretold_px(look: Look, numbers: np.ndarray) -> float:
    f, cx, cy = numbers[:3]
    matrix, points = np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]), look.corners.picture_px
    _, r, t = cv2.solvePnP(look.corners.board_mm, points, matrix, numbers[3:], flags=cv2.SOLVEPNP_SQPNP)
    r, t = cv2.solvePnPRefineLM(look.corners.board_mm, points, matrix, numbers[3:], r, t)
    drawn, _ = cv2.projectPoints(look.corners.board_mm, r, t, matrix, numbers[3:])
    return max(_rms(drawn[:, 0] - points), 1e-6)


def _squeeze(looks: list[Look], fit: Fit) -> float:
    """fy/fx with both free, where the pictures fit clearly better so; else 1."""
    (fx, fy), rms_px = _solved(looks, fit.picture_px, fit.order, free_aspect=True)
    return float(fy / fx) if rms_px < BETTER * fit.rms_px else 1.0


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt((off**2).sum(1).mean()))
