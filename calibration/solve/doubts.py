"""What makes a calibration impossible, or a number in it useless, in words: before the solve and after it.

Before: too few views, mirrored pictures, matches that are no picture of any wall. After: residuals that say the same of single
views, cameras that all stood in one place, and whatever the covariance says is not known. "Not known" is beyond the limits
below: they are far from what a good calibration reaches, and near what makes a picture on the wall visibly wrong.
"""

import math

import cv2
import numpy as np

from calibration.session import View
from calibration.solve.adjustment import Fit
from calibration.solve.bundle import Bundle, State
from calibration.solve.outcome import TileKnown
from calibration.solve.panels import Panels
from calibration.solve.plan import Plan
from calibration.solve.projection import FOCAL
from calibration.solve.turns import best_fit, turn_of
from ledvolume.errors import CalibrationError
from ledvolume.stage import Surface, WallTile

FEWEST_VIEWS = 3
FEWEST_MATCHES = 12  # of a view
CELL_M = 0.75  # so large, a wall is nearly flat
CELL_MATCHES = 10  # and with so many matches it can be judged
PLANE_WITHIN = 0.03  # of a cell's size in the picture: what a cell of an arc is off its plane
CONSISTENT = 0.5  # of a view's matches must lie on planes
REJECTED = 0.25  # of a view's matches, and the view is not of this wall
REJECTED_ANYWHERE = 0.05  # of the other views' matches, and it is not that view, but the wall
NO_PARALLAX_M, NO_PARALLAX = 0.1, 0.02  # cameras all within that, or within that share of the distance to the wall
ONE_AXIS_DEG = 3.0
ONE_DISTANCE = 1.1
UNKNOWN_LED_MM = 20.0
WEAK_LED_MM = 1.5
UNKNOWN_POSE_MM, UNKNOWN_POSE_DEG = 20.0, 0.5
UNKNOWN_FOCAL = 0.02
DISPLACED = 0.5  # of a panel's size
MOST_NAMED = 6
TRACKER_WRONG = 30.0  # times that: no noise
TRACKER_WORSE = 1.5  # times the sigma that it was given: with the freedom of a dozen views, chance does that once in a thousand


def examine(views: list[View], surfaces: tuple[Surface, ...]) -> None:
    """Raises CalibrationError for views that no wall can have made."""
    if len(views) < FEWEST_VIEWS:
        raise CalibrationError(
            f"{len(views)} view{'s' * (len(views) != 1)} to solve from: at least {FEWEST_VIEWS} are needed, 8 or more are good, "
            "from different places and with the camera turned about two axes"
        )
    if thin := [f"{view.name} ({view.count})" for view in views if view.count < FEWEST_MATCHES]:
        raise CalibrationError(
            f"too few matches in {', '.join(thin)}: expected {FEWEST_MATCHES} at least. Leave the view out (--without), or detect again"
        )
    named = {surface.name: surface for surface in surfaces}
    mirrored, wrong, judged, by_surface = [], [], 0, {}
    for view in views:
        turned, straight, on_plane, count = 0, 0, 0, 0
        for matches in view.matches:
            for cell, is_in, is_mirrored in _cells(named[matches.surface], matches):
                count += cell
                on_plane += is_in
                turned += is_in * is_mirrored
                straight += is_in * (not is_mirrored)
                sides = by_surface.setdefault(matches.surface, [0, 0])
                sides[is_mirrored] += is_in
        judged += count > 0
        if count and on_plane < CONSISTENT * count:
            wrong.append(f"{view.name} ({on_plane / count:.0%})")
        elif turned > straight:
            mirrored.append(view.name)
    if wrong:
        raise CalibrationError(
            f"matches that are no picture of a wall in {', '.join(wrong)} (in brackets: how many lie where their neighbours say): "
            "a wrong pattern, a picture of another series, or another wall. Detect again, or leave the view out (--without)"
        )
    flipped = [name for name, (straight, turned) in by_surface.items() if turned > straight]
    if mirrored and len(mirrored) == judged and len(flipped) == len(by_surface):
        raise CalibrationError(
            f"the wall is mirrored in all {judged} views: were the pictures flipped (a mirror, a camera set to rear projection), "
            "or are the LED columns counted from the right?"
        )
    if flipped and not all(n in flipped for n in by_surface):
        raise CalibrationError(
            f"surface {', '.join(flipped)} is seen mirrored, the rest is not: its LED columns or rows run the other way than in "
            "the show. Check the processor's mapping"
        )
    if mirrored:
        raise CalibrationError(f"the wall is mirrored in {', '.join(mirrored)}, and not in the other views: were they flipped?")


def unseen_tiles(plan: Plan, tiles: tuple[WallTile, ...]) -> list[str]:
    """Names of tiles without a match."""
    bundle, found = plan.bundle, []
    names = [shape.surface.name for shape in bundle.shapes]
    for tile in tiles:
        led = bundle.led_px[bundle.of_shape[names.index(tile.surface.name)]] - tile.offset_px
        if not ((led >= 0) & (led < tile.resolution_px)).all(1).any():
            found.append(tile.name)
    return found


def judge_fit(plan: Plan, fit: Fit, scale: float) -> list[str]:
    """Warnings about residuals. Raises CalibrationError for views that are not of this wall."""
    bundle, warnings = plan.bundle, []
    rejected = np.array([1 - bundle.is_used[rows].mean() for rows in bundle.rows])
    bad = np.flatnonzero(rejected > REJECTED)
    median_px = float(np.median(np.linalg.norm(fit.linear.off_px, axis=1)))
    others = np.delete(rejected, bad)
    if len(bad) and (len(bad) > len(bundle.views) / 2 or np.median(others) > REJECTED_ANYWHERE):
        raise CalibrationError(
            f"the matches fit no wall of this shape: {rejected.mean():.0%} are off by far more than the rest, whose median is "
            f"{median_px:.1f} px. Another shape (--shape panels or map), another wall, or a wrong pattern"
        )
    if len(bad):
        named = ", ".join(f"{bundle.views[i].name} ({rejected[i]:.0%})" for i in bad)
        raise CalibrationError(
            f"matches that do not fit the wall that the other views see: {named}. A wrong pattern or lens state, or something had "
            "moved. Leave the view out (--without)"
        )
    if wrong := _rejected_pieces(bundle):
        raise CalibrationError(
            f"matches that fit nowhere, in all views alike: of {', '.join(wrong)}. A wrong pattern there, a tile fed with another "
            "one's picture, or LEDs that are not one flat panel (--shape)"
        )
    if scale > 2.5:
        warnings.append(
            f"the residuals are {scale:.1f} times what the matches' sigmas promise (median {median_px:.2f} px): the wall is not of "
            "this shape (--shape panels, map), the lens bends otherwise (--radial-terms), or the pictures are worse than detect "
            "thought. The sigmas have this in them"
        )
    for i in np.flatnonzero(bundle.has_sample & ~bundle.is_tracker_used):
        off = fit.linear.off_tracker[i] * np.repeat([bundle.tracker_sigma_m * 1000, np.degrees(bundle.tracker_sigma_rad)], 3)
        warnings.append(
            f"{bundle.views[i].name}: the tracker's sample is {np.linalg.norm(off[:3]):.0f} mm and {np.linalg.norm(off[3:]):.2f}° "
            "off what the picture says, and was not used: a sample of another moment, or a wrong pattern"
        )
    return warnings


def displaced_panels(plan: Plan, fit: Fit) -> list[str]:
    """A warning, if panels are not beside those that they are beside in the show: half their size off."""
    found = []
    for shape, values in zip(plan.bundle.shapes, fit.state.walls):
        if not isinstance(shape, Panels) or len(values) < 4:
            continue
        drawn, hung = (
            np.concatenate([v[:, :, 3], v[:, :, 3] + v[:, :, 0], v[:, :, 3] + v[:, :, 1]]) for v in (shape.start(), values)
        )
        near = np.ones(len(drawn), bool)
        for _ in range(
            3
        ):  # carried by those that fit; a metre along two axes of each, for panels in a row say nothing of their tilt
            rotation, position_m = best_fit(drawn[near], hung[near])
            off = np.linalg.norm(drawn @ rotation.T + position_m - hung, axis=1)
            near = off <= np.median(off)
        off = off[: len(values)]
        size_m = min(np.array(shape.surface.size_m) / (shape.columns, shape.rows))
        for piece in np.flatnonzero(off > DISPLACED * size_m):
            found.append(f"{shape.surface.name}-{piece % shape.columns}-{piece // shape.columns} ({off[piece]:.2f} m)")
    if not found:
        return []
    return [
        f"not where the show has them beside the others: {', '.join(found[:MOST_NAMED])}. If they do not hang there, they are fed "
        "with another tile's picture"
    ]


def _rejected_pieces(bundle: Bundle) -> list[str]:
    """Pieces most of whose matches are off."""
    found = []
    for shape, rows, spots in zip(bundle.shapes, bundle.of_shape, bundle.spots):
        off, count = np.bincount(spots.piece, ~bundle.is_used[rows]), np.bincount(spots.piece)
        for piece in np.flatnonzero((off > CONSISTENT * count) & (count >= CELL_MATCHES)):
            column, row = piece % getattr(shape, "columns", 1), piece // getattr(shape, "columns", 1)
            found.append(f"{shape.surface.name}-{column}-{row} ({off[piece] / count[piece]:.0%} of {count[piece]})")
    return found


def worse_tracker(plan: Plan, fit: Fit, spread: np.ndarray) -> str:
    """Sets the tracker's sigmas to what its samples show, if that is clearly more than was said of it; "" if not.

    Raises CalibrationError for samples that are off by far more than any tracker is.
    """
    bundle, squares, freedom = plan.bundle, np.zeros(2), np.zeros(2)
    for i in np.flatnonzero(bundle.is_tracker_used):
        index, by = bundle.tracker_index(i), fit.linear.by_tracker[i]
        taken = np.einsum("ij,jk,ik->i", by, spread[np.ix_(index, index)], by)
        off = fit.linear.off_tracker[i]
        squares += [off[:3] @ off[:3], off[3:] @ off[3:]]
        freedom += [3 - taken[:3].sum(), 3 - taken[3:].sum()]
    scales = np.where(freedom > 1, np.sqrt(squares / np.maximum(freedom, 1)), 1.0)
    if (scales <= TRACKER_WORSE).all():
        return ""
    was_mm, was_deg = bundle.tracker_sigma_m * 1000, np.degrees(bundle.tracker_sigma_rad)
    if scales.max() > TRACKER_WRONG:
        raise CalibrationError(
            f"the tracker and the pictures do not belong together: the samples are off by {was_mm * scales[0]:.0f} mm and "
            f"{was_deg * scales[1]:.1f}° (sigma). Samples of other moments, other units or axes, or something held (--hold) that is "
            "not so"
        )
    scales = np.where(scales > TRACKER_WORSE, scales, 1.0)
    bundle.tracker_sigma_m *= scales[0]
    bundle.tracker_sigma_rad *= scales[1]
    return (
        f"the tracker's samples are off by {was_mm * scales[0]:.2f} mm and {was_deg * scales[1]:.3f}° (sigma), not by "
        f"{was_mm:.2f} mm and {was_deg:.3f}°: solved with that. Was the camera still, and each sample of its picture's moment?"
    )


def judge_places(plan: Plan, state: State) -> None:
    """Raises CalibrationError where all cameras stood in one place."""
    eyes = state.cameras[:, :, 3]
    apart = float(np.linalg.norm(eyes[:, None] - eyes[None], axis=-1).max())
    away = float(np.median(_distances(plan.bundle, state)))
    if apart < max(NO_PARALLAX_M, NO_PARALLAX * away):
        raise CalibrationError(
            f"views without parallax: all cameras are within {apart:.2f} m of one another, the wall {away:.1f} m away. Turning the "
            "camera on its tripod does not help: move it by a metre or more, to both sides, and near and far"
        )


def judge_knowledge(plan: Plan, fit: Fit, spread: np.ndarray) -> None:
    """Raises CalibrationError for hand-eyes, registrations and focal lengths that the views do not tell."""
    bundle = plan.bundle
    sigma = np.sqrt(np.maximum(np.diag(spread), 0))
    unknown = []
    for what, starts, names in (
        ("the hand-eye of camera", bundle.hand_at, [rig.camera_id for rig in plan.rigs]),
        ("the tracker's registration", bundle.world_at, [""] * len(bundle.world_at)),
    ):
        for at, name in zip(starts, names):
            mm, deg = sigma[at : at + 3].max() * 1000, np.degrees(sigma[at + 3 : at + 6].max())
            if mm > UNKNOWN_POSE_MM or deg > UNKNOWN_POSE_DEG:
                unknown.append(f"{what} {name}".strip() + f" (± {_figure(mm)} mm, ± {_figure(deg)}°)")
    for at, (camera, state, _), values in zip(bundle.lens_at, plan.lens_states, fit.state.lenses):
        if sigma[at + FOCAL] > UNKNOWN_FOCAL * values[FOCAL]:
            told = f"of camera {plan.rigs[camera].camera_id}, lens state {state} (± {sigma[at + FOCAL] / values[FOCAL]:.1%})"
            unknown.append(f"the focal length {told}")
    if unknown:
        raise CalibrationError(f"the views do not tell {'; '.join(unknown)}. {_causes(plan, fit)}")


def weak_tiles(known: dict[str, TileKnown], kept: frozenset[str]) -> frozenset[str]:
    """Tiles whose LEDs are not known."""
    return frozenset(name for name, tile in known.items() if name not in kept and not tile.sigma_mm <= UNKNOWN_LED_MM)


def in_words(weak: frozenset[str], known: dict[str, TileKnown], plan: Plan, fit: Fit) -> str:
    """Tiles that are not known, from how many places they were seen, and why that is not enough."""
    told = [_tile(name, known[name]) for name in sorted(weak)[:MOST_NAMED]]
    more = f" and {len(weak) - MOST_NAMED} more" if len(weak) > MOST_NAMED else ""
    few = "Photograph them from two more places, some metres apart, or leave them where the show has them (--keep-unseen)"
    cause = _causes(plan, fit) if 2 * len(weak) > len(known) else few
    return f"the views do not tell where these are: {', '.join(told)}{more}. {cause}"


def weak_but_known(known: dict[str, TileKnown], kept: frozenset[str]) -> list[str]:
    """A warning, if some tiles are known much less well than the others."""
    sigmas = {name: tile.sigma_mm for name, tile in known.items() if name not in kept}
    usual = float(np.median(list(sigmas.values()))) if sigmas else 0.0
    weak = sorted((name for name, mm in sigmas.items() if mm > max(3 * usual, WEAK_LED_MM)), key=lambda n: -sigmas[n])
    if not weak:
        return []
    told = ", ".join(_tile(name, known[name]) for name in weak[:MOST_NAMED])
    return [f"less well known than the rest (sigma {usual:.2g} mm): {told}. Views of them from elsewhere would help"]


def _tile(name: str, tile: TileKnown) -> str:
    return f"{name} (± {_figure(tile.sigma_mm)} mm: {tile.views} view{'s' * (tile.views != 1)}, {tile.parallax_deg:.0f}° apart)"


def _causes(plan: Plan, fit: Fit) -> str:
    """Likely reasons, from where the cameras were and how they were turned."""
    bundle, found = plan.bundle, []
    turns = _turns(bundle, fit)
    if turns < ONE_AXIS_DEG:
        found.append(f"the camera turned about one axis only (about others by {turns:.1f}°): roll or tilt it as well as panning")
    distances = _distances(bundle, fit.state)
    if distances.max() < ONE_DISTANCE * distances.min():
        found.append(
            f"all views are at one distance ({distances.min():.1f} to {distances.max():.1f} m), where focal length and distance "
            "trade: go nearer and farther"
        )
    sampled = int(bundle.is_tracker_used.sum())
    if 0 < sampled < 5:
        found.append(f"only {sampled} views have a tracker's sample: five or more, well spread")
    if not found:
        found.append("add views from other places, with the camera turned and rolled")
    return "; ".join(found) + ". What is known beforehand can be held (--hold)"


def _turns(bundle: Bundle, fit: Fit) -> float:
    """How far the camera turned about a second axis, degrees: the lesser part of its turns, RMS."""
    turns = fit.state.cameras[:, :, :3]
    vectors = turn_of(turns[0].T @ turns)
    vectors = vectors - vectors.mean(0)
    return float(np.degrees(np.linalg.svd(vectors, compute_uv=False)[1] / math.sqrt(len(vectors))))


def _distances(bundle: Bundle, state: State) -> np.ndarray:
    """From every view to the middle of what it sees."""
    points = bundle.points(state)
    return np.array([np.linalg.norm(points[rows].mean(0) - camera[:, 3]) for rows, camera in zip(bundle.rows, state.cameras)])


def _cells(surface: Surface, matches) -> list[tuple[int, int, bool]]:
    """Of each cell of a view with enough matches: how many, how many of them are on one plane's picture, is it mirrored."""
    led, picture = np.asarray(matches.led_px, float), np.asarray(matches.picture_px, float)
    sizes = [max(1, round(m / CELL_M)) for m in surface.size_m]
    while len(led) / (sizes[0] * sizes[1]) < CELL_MATCHES and max(sizes) > 1:
        sizes = [max(1, n // 2) for n in sizes]
    cells = Panels(surface, *sizes)
    spots = cells.spots(led)
    found = []
    for piece in np.unique(spots.piece):
        mine = spots.piece == piece
        a, b = spots.basis[mine] * [1, -1], picture[mine]
        if len(a) < CELL_MATCHES or np.linalg.svd(a - a.mean(0), compute_uv=False)[1] < 0.05:
            continue
        size = np.linalg.norm(np.percentile(b, 90, axis=0) - np.percentile(b, 10, axis=0))
        threshold = max(5 * float(np.median(matches.sigma_px[mine])), PLANE_WITHIN * size)
        cv2.setRNGSeed(1)
        plane, is_in = cv2.findHomography(a, b, cv2.RANSAC, threshold)
        if plane is None:
            found.append((len(a), 0, False))
            continue
        is_in = is_in.ravel() > 0
        if is_in.sum() < 4:
            found.append((len(a), int(is_in.sum()), False))
            continue
        affine = np.linalg.lstsq(np.column_stack([a[is_in], np.ones(is_in.sum())]), b[is_in], rcond=None)[0]
        found.append((len(a), int(is_in.sum()), bool(np.linalg.det(affine[:2]) < 0)))
    return found


def _figure(value: float) -> str:
    return "any number of" if value >= 1e4 else f"{value:.0f}" if value >= 10 else f"{value:.2g}"
