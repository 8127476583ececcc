"""A fit and its covariance → what solved.json says: LEDs, rigs, lenses and views, each with its sigma."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from calibration.session import View
from calibration.solve.adjustment import REJECT, Fit, adjusted, covariance, match_squares
from calibration.solve.bundle import Bundle, pose_of, said_by_tracker
from calibration.solve.gauge import HELD_WALL, Gauge
from calibration.solve.plan import Plan, observed
from calibration.solve.projection import FOCAL, OFFSET_X, OFFSET_Y, tangents_of, through_lens
from calibration.solve.start import resected
from calibration.solve.turns import turn_of
from calibration.solved import PoseSigma, Residuals, Samples, SolvedLens, SolvedRig, SolvedSurface, SolvedTile, SolvedView
from ledvolume.errors import CalibrationError
from ledvolume.stage import WallTile, surface_points

MOST_ARROWS = 300  # of a surface in a view, for the report
SAMPLES = (5, 4)  # of a tile, across and down, its corners among them
FEW_SAMPLES = (3, 3)
MOST_SAMPLES = 3000
HELD_OUT_ROUNDS = 3


class Found(NamedTuple):
    """All that a solve ended with. spread: covariance of all unknowns. kept: tiles that stay where the show has them."""

    plan: Plan
    fit: Fit
    spread: np.ndarray
    sigma_scale: float
    kept: frozenset[str]


class TileKnown(NamedTuple):
    """What is known of a tile."""

    samples: Samples
    matches: int
    views: int
    parallax_deg: float

    @property
    def sigma_mm(self) -> float:
        return float(self.samples.sigma_mm.max())


def tiles_known(plan: Plan, fit: Fit, spread: np.ndarray, tiles: tuple[WallTile, ...]) -> dict[str, TileKnown]:
    """By tile: samples of its LEDs, used matches, views that see it, the widest angle between two of them."""
    bundle, found = plan.bundle, {}
    names = [shape.surface.name for shape in bundle.shapes]
    counts = SAMPLES if len(tiles) * SAMPLES[0] * SAMPLES[1] <= MOST_SAMPLES else FEW_SAMPLES
    for tile in tiles:
        s = names.index(tile.surface.name)
        u, v = np.meshgrid(*(np.linspace(0.5, size - 0.5, n) for size, n in zip(tile.resolution_px, counts)))
        led = np.stack([u.ravel(), v.ravel()], -1) + tile.offset_px
        points, rates, index = bundle.led_rates(fit.state, s, led)
        square_mm = 1e6 * np.einsum("nij,njk,nlk->nil", rates, spread[index[:, :, None], index[:, None, :]], rates)
        samples = Samples(led, points, square_mm, np.sqrt(np.trace(square_mm, axis1=1, axis2=2)))
        rows = bundle.of_shape[s]
        at = bundle.led_px[rows] - tile.offset_px
        mine = rows[((at >= 0) & (at < tile.resolution_px)).all(1) & bundle.is_used[rows]]
        views = np.unique(bundle.view[mine])
        rays = fit.state.cameras[views][:, :, 3] - points.mean(0)
        rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        widest = float(np.degrees(np.arccos(np.clip(rays @ rays.T, -1, 1).min()))) if len(views) > 1 else 0.0
        found[tile.name] = TileKnown(samples, len(mine), len(views), widest)
    return found


def solved_surfaces(found: Found, known: dict[str, TileKnown], tiles: tuple[WallTile, ...]) -> tuple[SolvedSurface, ...]:
    """Every surface with its samples and tiles."""
    bundle, fit = found.plan.bundle, found.fit
    off_mm, surfaces = _off_mm(bundle, fit), []
    for s, shape in enumerate(bundle.shapes):
        mine = [tile for tile in tiles if tile.surface.name == shape.surface.name]
        every = _joined([known[tile.name].samples for tile in mine])
        solved = [known[tile.name].samples for tile in mine if tile.name not in found.kept]
        samples = _joined(solved) if solved else every
        moved = 1000 * np.linalg.norm(every.position_m - surface_points(mine[0].surface, *every.led_px.T), axis=1)
        rows = bundle.of_shape[s][bundle.is_used[bundle.of_shape[s]]]
        surfaces.append(
            SolvedSurface(
                shape.solved(fit.state.walls[s], fit.state.pitch) if found.plan.is_wall_free else mine[0].surface,
                float(np.median(samples.sigma_mm)),
                float(samples.sigma_mm.max()),
                _rms(fit.linear.off_px[rows]),
                _rms(off_mm[rows]),
                (float(np.median(moved)), float(moved.max())),
                samples,
                tuple(_tile(tile.name, known[tile.name], tile.name in found.kept) for tile in mine),
            )
        )
    return tuple(surfaces)


def solved_rigs(found: Found) -> tuple[SolvedRig, ...]:
    """Every camera, with the lens of each of its lens states."""
    plan, fit, bundle = found.plan, found.fit, found.plan.bundle
    sigma, rigs = np.sqrt(np.maximum(np.diag(found.spread), 0)), []
    for c, rig in enumerate(plan.rigs):
        world = bundle.world_of_camera[c]
        rows = [i for i in np.flatnonzero(bundle.is_tracker_used) if bundle.camera_of(i) == c]
        off = fit.linear.off_tracker[rows] * np.repeat(bundle.tracker_sigmas, 3)
        rigs.append(
            SolvedRig(
                rig.camera_id,
                pose_of(fit.state.worlds[world]),
                pose_of(fit.state.hand_eyes[c]),
                tuple(_lens(found, sigma, i) for i, (camera, _, _) in enumerate(plan.lens_states) if camera == c),
                _pose_sigma(sigma, plan.is_free, bundle.world_at[world]),
                _pose_sigma(sigma, plan.is_free, bundle.hand_at[c]),
                1000 * _rms(off[:, :3]) if rows else None,
                float(np.degrees(_rms(off[:, 3:]))) if rows else None,
            )
        )
    return tuple(rigs)


def solved_views(found: Found) -> tuple[SolvedView, ...]:
    """Every view that was solved from."""
    bundle, fit = found.plan.bundle, found.fit
    off_mm = _off_mm(bundle, fit)
    return tuple(_view(found.plan, bundle, fit, found.spread, off_mm, i) for i in range(len(bundle.views)))


def held_out_view(found: Found, view: View) -> SolvedView:
    """A view's own pose against wall and lens as they were found; nothing else moves. Raises CalibrationError."""
    plan, bundle = found.plan, found.plan.bundle
    ids = [rig.camera_id for rig in plan.rigs]
    keys = [(ids[camera], state) for camera, state, _ in plan.lens_states]
    key = (view.camera_id or ids[0], view.lens_state)
    if key not in keys:
        raise CalibrationError(
            f"view {view.name} is held out, and no other view has its lens (camera {key[0]}, lens state {key[1]}): "
            "there is nothing to judge it by"
        )
    own = bundle.of_views((observed(view, bundle.shapes, keys.index(key)),))
    own.is_tracker_used[:] = False
    own.sigma_px = own.sigma_px * found.sigma_scale
    state, shares = resected(own, replace(found.fit.state, cameras=np.eye(3, 4)[None]))
    if shares[0] == 0:
        raise CalibrationError(f"view {view.name}, held out, is no picture of this wall: a wrong pattern, or something had moved")
    free, gauge = own.view_at[0] + np.arange(6), Gauge(HELD_WALL)
    fit = adjusted(own, state, free, gauge, is_robust=True)
    for _ in range(HELD_OUT_ROUNDS):
        own.is_used = match_squares(own, fit.linear) <= REJECT**2 * max(1.0, np.median(match_squares(own, fit.linear)) / 1.386)
        fit = adjusted(own, fit.state, free, gauge)
    return _view(plan, own, fit, covariance(own, fit, free, gauge), _off_mm(own, fit), 0, is_held_out=True)


def _view(
    plan: Plan, bundle: Bundle, fit: Fit, spread: np.ndarray, off_mm: np.ndarray, i: int, is_held_out: bool = False
) -> SolvedView:
    rows, seen = bundle.rows[i], bundle.views[i]
    used, at = bundle.is_used[rows], bundle.view_at[i]
    off_px, off_mm = fit.linear.off_px[rows], off_mm[rows]
    own = spread[at : at + 6, at : at + 6]
    distance = np.linalg.norm(off_px[used], axis=1) if used.any() else np.zeros(1)
    apart = None
    if seen.sample is not None:
        said = said_by_tracker(bundle, fit.state, i)
        apart = said[:, 3] - fit.state.cameras[i][:, 3], turn_of(said[:, :3].T @ fit.state.cameras[i][:, :3])
    arrows = []
    for s, shape in enumerate(bundle.shapes):
        mine = np.flatnonzero(seen.surface == s)
        if len(mine):
            mine = mine[np.unique(np.linspace(0, len(mine) - 1, min(MOST_ARROWS, len(mine))).astype(int))]
            arrows.append(Residuals(shape.surface.name, seen.led_px[mine], off_px[mine], off_mm[mine], ~used[mine]))
    camera, state, _ = plan.lens_states[seen.lens]
    return SolvedView(
        seen.name,
        plan.rigs[camera].camera_id,
        state,
        pose_of(fit.state.cameras[i]),
        tuple(tuple(float(v) for v in line) for line in 1e6 * own[:3, :3]),
        tuple(float(v) for v in np.degrees(np.sqrt(np.maximum(np.diag(own)[3:], 0)))),
        is_held_out,
        len(used),
        int((~used).sum()),
        _rms(off_px[used]),
        float(np.median(distance)),
        float(distance.max()),
        _rms(off_mm[used]),
        tuple(arrows),
        None if apart is None else float(1000 * np.linalg.norm(apart[0])),
        None if apart is None else float(np.degrees(np.linalg.norm(apart[1]))),
    )


def _lens(found: Found, sigma: np.ndarray, i: int) -> SolvedLens:
    plan, bundle, state = found.plan, found.plan.bundle, found.fit.state
    at, pupil, glass = bundle.lens_at[i], bundle.pupil_at[i], bundle.glasses[i]
    _, name, view = plan.lens_states[i]
    free = plan.is_free[at : at + 8]
    return SolvedLens(
        name,
        glass.lens_of(state.lenses[i], state.pupils_m[i]),
        view.zoom_encoder,
        view.focus_encoder,
        float(sigma[at + FOCAL]) if free[FOCAL] else None,
        tuple(float(v) for v in sigma[at + OFFSET_X : at + OFFSET_Y + 1]) if free[OFFSET_X] else None,
        float(1000 * sigma[pupil]) if plan.is_free[pupil] else None,
        _bend_sigma_px(found, i) if free[3:].any() else None,
    )


def _bend_sigma_px(found: Found, i: int) -> float:
    """How well the picture's border is known, apart from where it is, how large and how it is turned."""
    bundle, unknowns = found.plan.bundle, found.fit.state.lenses[i]
    glass, at = bundle.glasses[i], bundle.lens_at[i]
    width, height = glass.resolution_px
    s = np.linspace(0, 1, 17)[:-1]
    sides = [(s, 0 * s), (1 + 0 * s, s), (1 - s, 1 + 0 * s), (0 * s, 1 - s)]
    border = np.concatenate([np.stack([x * width, y * height], -1) for x, y in sides])
    px, _, by_lens = through_lens(glass, unknowns, tangents_of(glass.lens_of(unknowns, 0.0), glass.resolution_px, border))
    x, y = (px - px.mean(0)).T / width
    similar = np.zeros((len(px), 2, 4))
    similar[:, 0, 0] = similar[:, 1, 1] = 1
    similar[:, 0, 2], similar[:, 1, 2], similar[:, 0, 3], similar[:, 1, 3] = x, y, -y, x
    q, _ = np.linalg.qr(similar.reshape(-1, 4))
    by = by_lens.reshape(-1, 8)
    by = by - q @ (q.T @ by)
    square = np.einsum("ij,jk,ik->i", by, found.spread[at : at + 8, at : at + 8], by)
    return float(np.sqrt(square.reshape(-1, 2).sum(1).max()))


def _off_mm(bundle: Bundle, fit: Fit) -> np.ndarray:
    """Residuals (n, 2) on the wall: along columns and rows, mm. A match that is seen edge-on says nothing of its plane: 0."""
    off = np.zeros_like(fit.linear.off_px)
    for shape, values, rows in zip(bundle.shapes, fit.state.walls, bundle.of_shape):
        led, by_point = bundle.led_px[rows], -fit.linear.by_shared[rows][:, :, :3]
        steps = []
        for step in 0.25 * np.eye(2):
            ends = [shape.points(values, shape.spots(led + sign * step), fit.state.pitch) for sign in (-1, 1)]
            steps.append((ends[1] - ends[0]) / 0.5)
        axes = np.stack(steps, -1)
        by_led = by_point @ axes
        is_flat = np.abs(np.linalg.det(by_led)) > 1e-9
        by_led[~is_flat] = np.eye(2)
        moved = np.linalg.solve(by_led, fit.linear.off_px[rows][..., None])[..., 0]
        off[rows] = np.where(is_flat[:, None], moved * np.linalg.norm(axes, axis=1) * 1000, 0)
    return off


def _tile(name: str, known: TileKnown, is_kept: bool) -> SolvedTile:
    return SolvedTile(name, known.matches, known.views, known.parallax_deg, None if is_kept else known.sigma_mm)


def _joined(samples: list[Samples]) -> Samples:
    parts = [(s.led_px, s.position_m, s.covariance_mm2, s.sigma_mm) for s in samples]
    return Samples(*(np.concatenate(column) for column in zip(*parts)))


def _pose_sigma(sigma: np.ndarray, is_free: np.ndarray, at: int) -> PoseSigma | None:
    if not is_free[at]:
        return None
    mm, deg = 1000 * sigma[at : at + 3], np.degrees(sigma[at + 3 : at + 6])
    return PoseSigma(tuple(float(v) for v in mm), tuple(float(v) for v in deg))


def _rms(off: np.ndarray) -> float:
    """Of the lengths of vectors (n, k)."""
    return float(np.sqrt(np.mean(np.sum(off**2, -1)))) if len(off) else 0.0
