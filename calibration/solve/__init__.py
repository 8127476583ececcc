"""Bundle adjustment of a whole volume: walls, cameras, lenses, tracker and hand-eye at once, with what is not known said.

    views ─▶ examine (doubts) ─▶ plan ─▶ start: against the nominal wall, or panel by panel ─▶ register with the tracker
                                                                                                       │
    Solved ◀─ outcome ◀─ judge (doubts) ◀─ covariance ◀─ settle: robust, reject, least squares ◀───────┘

    shapes       what a wall may be               projection   stage point → picture point, and derivatives
    bundle       unknowns, normal equations       adjustment   the steps to the least squares, the covariance
    gauge        what the frame hangs on          start        the state to begin with

The entrance pupil along the optical axis and the hand-eye's translation are one number as long as the lens stays as it is: with
one lens state the pupil is held where the show has it and the hand-eye takes the rest, which gives the same pictures. Further
lens states say how the pupil moves from the first one's.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from calibration.session import View
from calibration.solve import doubts, outcome
from calibration.solve.adjustment import Fit, adjusted, covariance, settled
from calibration.solve.bundle import Bundle, State
from calibration.solve.gauge import HELD_WALL, Gauge
from calibration.solve.outcome import Found
from calibration.solve.panels import Panels
from calibration.solve.plan import HOLDABLE, Options, Plan, areas, cloth_of, keeping, plan_of
from calibration.solve.shapes import Shape, fitted
from calibration.solve.start import chained, nominal_state, registered, resected
from calibration.solved import Solved
from ledvolume.errors import CalibrationError
from ledvolume.stage import Stage, WallTile

__all__ = ["HOLDABLE", "Options", "solve"]

FITS_PX = 10.0  # a start explains a match that is off by less: what is off by more is on another panel, or turned over
FITS_SHARE = 0.8  # of all matches
FITS_PIECE = 0.5  # of those of each panel
CELL_M = 0.6  # panels that a wall is cut into to find it anew
START_STEPS = 30


def solve(views: Sequence[View], stage: Stage, options: Options = Options(), show: str = "") -> Solved:
    """Everything that the views tell. stage: nominal surfaces, tiles and rigs. show: its file, for the record.

    Linear algebra on one thread: some hundred unknowns are too few to share out (two threads on two idle cores took a quarter
    longer, and twice the processor). Raises CalibrationError, with what was seen and what to do, for views that do not say where
    things are.
    """
    with threadpool_limits(1, "blas"):
        return _solved(views, stage, options, show)


def _solved(views: Sequence[View], stage: Stage, options: Options, show: str) -> Solved:
    began = time.monotonic()
    judged = [view for view in views if view.is_held_out]
    views = [view for view in views if not view.is_held_out]
    plan, tiles = plan_of(views, stage, options), areas(stage, options)
    doubts.examine(views, stage.surfaces)
    unseen = frozenset(doubts.unseen_tiles(plan, tiles)) if plan.is_wall_free else frozenset()
    if unseen and not options.keeps_unseen:
        raise CalibrationError(
            f"never seen: {', '.join(sorted(unseen))}. Photograph them, from two places at least, or leave them where the show has "
            "them (--keep-unseen)"
        )
    state, started = _started(plan)
    doubts.judge_places(plan, state)
    if options.shape == "map" and plan.is_wall_free:
        plan, state, more = _as_cloths(plan, state, views, stage)
        started += more
    found, known, settling, warnings = _settled(plan, state, tiles, unseen)
    bundle = found.plan.bundle
    solved_views = outcome.solved_views(found)
    counts = np.array([view.matches - view.rejected for view in solved_views])
    squares = np.array([(view.rms_px**2, view.rms_mm**2) for view in solved_views])
    rms_px, rms_mm = np.sqrt(counts @ squares / counts.sum())
    return Solved(
        1,
        show,
        found.plan.gauge.text,
        *found.plan.in_words(),
        outcome.solved_surfaces(found, known, tiles),
        outcome.solved_rigs(found),
        solved_views + tuple(outcome.held_out_view(found, view) for view in judged),
        len(bundle.led_px),
        int((~bundle.is_used).sum()),
        float(rms_px),
        float(rms_mm),
        found.sigma_scale,
        len(found.plan.free),
        started + settling,
        time.monotonic() - began,
        tuple(warnings),
    )


def _started(plan: Plan) -> tuple[State, int]:
    """Wall and cameras without the tracker, then registered with it; and the steps that took."""
    bundle = plan.bundle
    nominal = nominal_state(bundle, plan.rigs, plan.worlds)
    fit = _without_tracker(plan, resected(bundle, nominal)[0])
    steps = fit.steps
    if plan.is_wall_free and not _fits(bundle, fit):
        anew = _found_anew(plan, nominal)
        if anew is not None:
            other = _without_tracker(plan, anew)
            steps += other.steps
            fit = max(fit, other, key=_share)
    hand_eye_free = bool(plan.is_free[bundle.hand_at].any())
    return registered(bundle, fit.state, plan.gauge.is_tracker, hand_eye_free), steps


def _without_tracker(plan: Plan, state: State) -> Fit:
    """Robustly adjusted, the frame hanging on the wall as a whole."""
    bundle, free = plan.bundle, plan.is_free.copy()
    free[bundle.pitch_at] = False
    free[bundle.pupil_at[0] : bundle.view_at[0]] = False  # pupils, hand-eyes, worlds
    frame = Gauge("start", tuple(range(len(bundle.shapes)))) if plan.is_wall_free else Gauge(HELD_WALL)
    bundle.is_tracker_used[:] = False
    fit = adjusted(bundle, state, np.flatnonzero(free), frame, is_robust=True, most=START_STEPS)
    bundle.is_tracker_used = bundle.has_sample.copy()
    return fit


def _found_anew(plan: Plan, nominal: State) -> State | None:
    """From panels that nobody knows the places of; None if the views do not join them."""
    bundle = plan.bundle
    shapes = tuple(_cut(shape) for shape in bundle.shapes)
    panels = replace(bundle, shapes=shapes)
    try:
        state = chained(panels, replace(nominal, walls=tuple(shape.start() for shape in shapes)))
    except CalibrationError:
        return None
    free = np.ones(panels.size, bool)
    free[panels.pitch_at : panels.view_at[0]] = False
    panels.is_tracker_used[:] = False
    frame = Gauge("start", tuple(range(len(shapes))))
    state = adjusted(panels, state, np.flatnonzero(free), frame, is_robust=True, most=START_STEPS).state
    walls = []
    for s, (shape, panel) in enumerate(zip(bundle.shapes, shapes)):
        led = panels.led_px[panels.of_shape[s]]
        walls.append(state.walls[s] if shape is panel else fitted(shape, led, panel.points(state.walls[s], panels.spots[s], 1.0)))
    return replace(state, walls=tuple(walls))


def _cut(shape: Shape) -> Panels:
    if isinstance(shape, Panels):
        return shape
    return Panels(shape.surface, *(max(1, round(m / CELL_M)) for m in shape.surface.size_m))


def _fits(bundle: Bundle, fit: Fit) -> bool:
    explained = np.linalg.norm(fit.linear.off_px, axis=1) < FITS_PX
    pieces = [
        np.bincount(spots.piece, explained[rows]) >= FITS_PIECE * np.bincount(spots.piece)
        for spots, rows in zip(bundle.spots, bundle.of_shape)
    ]
    return explained.mean() >= FITS_SHARE and all(piece.all() for piece in pieces)


def _share(fit: Fit) -> float:
    return float(np.mean(np.linalg.norm(fit.linear.off_px, axis=1) < FITS_PX))


def _as_cloths(plan: Plan, state: State, views: list[View], stage: Stage) -> tuple[Plan, State, int]:
    """Every surface a cloth, on the plane or arc that is nearest to it."""
    fit = adjusted(plan.bundle, state, plan.free, plan.gauge, is_robust=True)
    shapes = tuple(cloth_of(shape.solved(values, fit.state.pitch)) for shape, values in zip(plan.bundle.shapes, fit.state.walls))
    cloths = plan_of(views, stage, plan.options, shapes)
    return cloths, replace(fit.state, walls=tuple(shape.start() for shape in shapes)), fit.steps


def _settled(plan: Plan, state: State, tiles: tuple[WallTile, ...], unseen: frozenset[str]):
    """The least squares, judged: what was found, what is known of each tile, steps, warnings.

    Tiles that are not known are kept where the show has them if the options say so; a tracker that is worse than its sigmas
    gets those that it has.
    """
    kept, steps, scale, told = frozenset(), 0, 1.0, []
    if unseen:
        plan, state, kept = keeping(plan, state, tiles, unseen)
        told.append(f"kept where the show has them, unseen: {', '.join(sorted(unseen))}")
    is_tracker_told = False
    while True:  # ends: a tile is kept once, the tracker's sigmas are set once
        fit, more = settled(plan.bundle, state, plan.free, plan.gauge)
        state, steps, scale = fit.state, steps + fit.steps, scale * more
        warnings = doubts.judge_fit(plan, fit, scale)
        spread = covariance(plan.bundle, fit, plan.free, plan.gauge)
        if not is_tracker_told and (worse := doubts.worse_tracker(plan, fit, spread)):
            told.append(worse)
            is_tracker_told = True
            continue
        doubts.judge_knowledge(plan, fit, spread)
        known = outcome.tiles_known(plan, fit, spread, tiles)
        weak = doubts.weak_tiles(known, kept)
        if weak:
            further = keeping(plan, state, tiles, kept | weak) if plan.options.keeps_unseen else (plan, state, kept)
            if further[2] == kept:
                raise CalibrationError(doubts.in_words(weak, known, plan, fit))
            plan, state, kept = further
            told.append(f"kept where the show has them, seen too little: {', '.join(sorted(weak))}")
            continue
        break
    warnings = told + warnings + doubts.displaced_panels(plan, fit) + doubts.weak_but_known(known, kept)
    return Found(plan, fit, spread, scale, kept), known, steps, warnings
