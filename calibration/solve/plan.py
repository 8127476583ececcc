"""What is to be solved, of what, and what is held: views and a stage → the bundle. Nothing is computed yet.

Views of one camera and one lens state share a lens. Cameras whose stage_from_world are the same in the show share a tracker.
"""

from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from calibration.session import View
from calibration.solve.bow import Bow
from calibration.solve.bundle import Bundle, Observed, State, matrix_of
from calibration.solve.cloth import Cloth
from calibration.solve.gauge import HELD_WALL, TRACKER, Gauge, gauge_of
from calibration.solve.panels import Panels
from calibration.solve.projection import COUNT, FOCAL, OFFSET_X, OFFSET_Y, RADIAL, TANGENTIAL, Glass
from calibration.solve.shapes import Shape
from ledvolume.camera import LensReading, Rig, lens_of
from ledvolume.errors import CalibrationError
from ledvolume.lens import Distortion
from ledvolume.stage import Flat, PositionMap, Stage, Surface, WallTile, cut

ShapeName = Literal["as-shown", "panels", "arc", "map"]
HOLDABLE = ("wall", "lens", "focal-length", "projection-offset", "distortion", "hand-eye", "entrance-pupil")
SPAN_M = 0.5  # of a cloth, between knots
MOST_SPANS = 12
CLOTH_SIGMAS = (0.01, 5e-4)  # where the search for a cloth's begins: bending in 1/m, strain
RADIAL_TERMS = 2


class Options(msgspec.Struct, frozen=True):
    """shape: what the surfaces are solved as. hold: of HOLDABLE. gauge: gauge.py; None: the tracker, where views have samples,
    else the first surface. panel_px: panels of so many LEDs instead of the show's tiles. radial_terms: of k1, k3, k5.

    keeps_unseen: tiles that no view shows well enough stay where the show has them, instead of an error.
    """

    shape: ShapeName = "as-shown"
    hold: frozenset[str] = frozenset()
    gauge: str | None = None
    panel_px: tuple[int, int] | None = None
    tracker_sigma_mm: float = 0.3
    tracker_sigma_deg: float = 0.02
    radial_terms: int = RADIAL_TERMS
    keeps_unseen: bool = False


@dataclass(frozen=True)
class Plan:
    """The bundle with its rigs and lens states (camera, lens_state, a view of it), and which unknowns move."""

    bundle: Bundle
    gauge: Gauge
    rigs: tuple[Rig, ...]
    lens_states: tuple[tuple[int, str, View], ...]
    worlds: np.ndarray
    is_free: np.ndarray
    options: Options

    @property
    def free(self) -> np.ndarray:
        return np.flatnonzero(self.is_free)

    @property
    def is_wall_free(self) -> bool:
        return "wall" not in self.options.hold

    def in_words(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is solved, and what is held."""
        b, told = self.bundle, ([], [])
        for shape, at in zip(b.shapes, b.wall_at):
            free = self.is_free[at : at + len(shape.units)]
            told[not free.any()].append(f"wall {shape.surface.name} ({shape.in_words()})")
        told[not self.is_free[b.pitch_at]].append("LED pitch")
        for at, pupil, (c, state, _) in zip(b.lens_at, b.pupil_at, self.lens_states):
            of = f" of {self.rigs[c].camera_id}, lens state {state}"
            told[not self.is_free[at + FOCAL]].append(f"focal length{of}")
            told[not self.is_free[at + OFFSET_X]].append(f"projection offset{of}")
            radial = int(self.is_free[at + RADIAL.start : at + RADIAL.stop].sum())
            told[not radial].append(f"distortion{of}" + (f" ({radial} radial terms, 2 tangential)" if radial else ""))
            told[not self.is_free[pupil]].append(f"entrance pupil{of}")
        for rig, at, world in zip(self.rigs, b.hand_at, b.world_of_camera):
            told[not self.is_free[at]].append(f"hand-eye of {rig.camera_id}")
            told[not self.is_free[b.world_at[world]]].append(f"tracker's registration of {rig.camera_id}")
        told[0].append(f"{len(b.views)} camera poses")
        return tuple(told[0]), tuple(told[1])


def plan_of(views: list[View], stage: Stage, options: Options, shapes: tuple[Shape, ...] | None = None) -> Plan:
    """For views that are not held out. shapes: instead of those that the options ask for. Raises CalibrationError."""
    if unknown := options.hold - set(HOLDABLE):
        raise CalibrationError(f"hold: {', '.join(sorted(unknown))} unknown; there are {', '.join(HOLDABLE)}")
    rigs = _rigs_of(views, stage)
    ids = [rig.camera_id for rig in rigs]
    lens_states: list[tuple[int, str, View]] = []
    for view in views:
        key = (_camera(view, ids), view.lens_state)
        if key not in [(c, name) for c, name, _ in lens_states]:
            lens_states.append((*key, view))
    keys = [(c, name) for c, name, _ in lens_states]
    glasses = tuple(_glass(rigs[c], view) for c, _, view in lens_states)
    worlds, world_of_camera = [], []
    for rig in rigs:
        if rig.stage_from_world not in worlds:
            worlds.append(rig.stage_from_world)
        world_of_camera.append(worlds.index(rig.stage_from_world))
    shapes = shapes or tuple(shape_of(surface, stage, options) for surface in stage.surfaces)
    names = [shape.surface.name for shape in shapes]
    bundle = Bundle(
        shapes,
        glasses,
        tuple(c for c, _ in keys),
        tuple(world_of_camera),
        tuple(observed(view, shapes, keys.index((_camera(view, ids), view.lens_state))) for view in views),
        options.tracker_sigma_mm / 1000,
        np.radians(options.tracker_sigma_deg),
        {i: CLOTH_SIGMAS for i, shape in enumerate(shapes) if isinstance(shape, Cloth)},
    )
    gauge = _gauge(bundle, options, names)
    free = _free(bundle, gauge, options)
    return Plan(bundle, gauge, rigs, tuple(lens_states), np.array([matrix_of(w) for w in worlds]), free, options)


def areas(stage: Stage, options: Options) -> tuple[WallTile, ...]:
    """What is named when a part of the wall is not seen: tiles, or panels where the options have others."""
    if options.shape != "panels" or options.panel_px is None:
        return stage.tiles
    return tuple(tile for surface in stage.surfaces for tile in cut(surface, *_grid(surface, stage, options)))


def keeping(plan: Plan, state: State, tiles: tuple[WallTile, ...], names: frozenset[str]) -> tuple[Plan, State, frozenset[str]]:
    """The plan with these tiles held where the show has them: panels of their own, and surfaces all of whose tiles they are.
    Of an arc or a cloth no part can be held: those are not among the names that come back."""
    free, walls, kept = plan.is_free.copy(), list(state.walls), set()
    for s, (shape, at) in enumerate(zip(plan.bundle.shapes, plan.bundle.wall_at)):
        mine = [tile for tile in tiles if tile.surface.name == shape.surface.name]
        if all(tile.name in names for tile in mine):
            free[at : at + len(shape.units)] = False
            walls[s] = shape.start()
            kept |= {tile.name for tile in mine}
        elif isinstance(shape, Panels):
            values = walls[s].copy()
            for tile in mine:
                if tile.name in names:
                    middle = np.add(tile.offset_px, np.array(tile.resolution_px) / 2)
                    piece = shape.spots(middle[None]).piece[0]
                    free[at + shape.indices[piece]] = False
                    values[piece] = shape.start()[piece]
                    kept.add(tile.name)
            walls[s] = values
    return replace(plan, is_free=free), replace(state, walls=tuple(walls)), frozenset(kept)


def observed(view: View, shapes: tuple[Shape, ...], lens: int) -> Observed:
    """A view's matches, of all surfaces. Raises CalibrationError for matches of no such stage."""
    names = [shape.surface.name for shape in shapes]
    parts = []
    for matches in view.matches:
        if matches.surface not in names:
            raise CalibrationError(
                f"view {view.name} has matches of surface {matches.surface!r}; the show has {', '.join(names)}"
            )
        s = names.index(matches.surface)
        led, picture, sigma = (np.asarray(v, float) for v in (matches.led_px, matches.picture_px, matches.sigma_px))
        if not led.size:
            continue
        if led.shape != (len(led), 2) or picture.shape != led.shape or sigma.shape != (len(led),):
            raise CalibrationError(
                f"view {view.name}, {matches.surface}: expected matches (n, 2), (n, 2), (n,), got "
                f"{led.shape}, {picture.shape}, {sigma.shape}"
            )
        if not (np.isfinite(led).all() and np.isfinite(picture).all() and (sigma > 0).all() and np.isfinite(sigma).all()):
            raise CalibrationError(f"view {view.name}, {matches.surface}: expected finite matches and sigmas above 0")
        width, height = shapes[s].surface.resolution_px
        if (led < 0).any() or (led > (width, height)).any():
            low, high = led.min(0), led.max(0)
            raise CalibrationError(
                f"view {view.name}: LEDs {low.round(1).tolist()} to {high.round(1).tolist()} of {matches.surface}, which has "
                f"{width} × {height}: were the patterns shown by another show?"
            )
        parts.append((np.full(len(led), s), led, picture, sigma))
    parts = parts or [(np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))]
    sample = None if view.world_from_tracker is None else matrix_of(view.world_from_tracker)
    return Observed(view.name, lens, *(np.concatenate(column) for column in zip(*parts)), sample)


def shape_of(surface: Surface, stage: Stage, options: Options) -> Shape:
    """What a surface is solved as; for a map of a plane or an arc, first: the cloth then starts from where that was found."""
    if options.shape == "panels":
        return Panels(surface, *_grid(surface, stage, options))
    if isinstance(surface.shape, PositionMap):
        if options.shape == "arc":
            raise CalibrationError(f"{surface.name} is a map in the show, where no arc starts from: solve panels or a map")
        return cloth_of(surface)
    return Panels(surface, 1, 1) if isinstance(surface.shape, Flat) and options.shape == "as-shown" else Bow(surface)


def cloth_of(surface: Surface) -> Cloth:
    """Knots every half metre, 3 spans at least."""
    return Cloth(surface, *(int(np.clip(round(m / SPAN_M), 3, MOST_SPANS)) for m in surface.size_m))


def _grid(surface: Surface, stage: Stage, options: Options) -> tuple[int, int]:
    """Columns and rows of panels."""
    if options.panel_px is None:
        tiles = [tile for tile in stage.tiles if tile.surface.name == surface.name]
        return len({tile.offset_px[0] for tile in tiles}), len({tile.offset_px[1] for tile in tiles})
    if any(size % panel for size, panel in zip(surface.resolution_px, options.panel_px)):
        raise CalibrationError(
            f"{surface.name} of {surface.resolution_px[0]} × {surface.resolution_px[1]} px does not divide into panels of "
            f"{options.panel_px[0]} × {options.panel_px[1]}"
        )
    return tuple(size // panel for size, panel in zip(surface.resolution_px, options.panel_px))


def _rigs_of(views: list[View], stage: Stage) -> tuple[Rig, ...]:
    """Those that took the views, in the show's order."""
    there = [rig.camera_id for rig in stage.rigs]
    wanted = set()
    for view in views:
        if not view.camera_id and len(there) > 1:
            raise CalibrationError(f"view {view.name} does not say which camera took it; the show has {', '.join(there)}")
        if view.camera_id and view.camera_id not in there:
            raise CalibrationError(f"view {view.name} was taken by camera {view.camera_id!r}; the show has {', '.join(there)}")
        wanted.add(view.camera_id or there[0])
    return tuple(rig for rig in stage.rigs if rig.camera_id in wanted)


def _camera(view: View, ids: list[str]) -> int:
    return ids.index(view.camera_id) if view.camera_id else 0


def _glass(rig: Rig, view: View) -> Glass:
    """The nominal lens at the view's encoders. A lens without distortion gets OpenCV's kind, which needs no inversion."""
    lens = lens_of(rig, LensReading(zoom_encoder=view.zoom_encoder, focus_encoder=view.focus_encoder))
    bend = lens.distortion
    if not any(bend.radial) and not any(bend.tangential):
        bend = Distortion(offset_mm=bend.offset_mm, model="Brown-Conrady U-D")
    return Glass(msgspec.structs.replace(lens, distortion=bend), view.resolution_px)


def _gauge(bundle: Bundle, options: Options, names: list[str]) -> Gauge:
    if "wall" in options.hold:
        if options.gauge and not options.gauge.startswith("wall:"):
            raise CalibrationError(f"the wall is held, so that the frame hangs on it, and not on {options.gauge}")
        return Gauge(HELD_WALL)
    text = options.gauge or (TRACKER if bundle.has_sample.any() else f"wall:{names[0]}")
    gauge = gauge_of(text, names)
    if gauge.is_tracker and not bundle.has_sample.any():
        raise CalibrationError(f"no view has a tracker's sample, so that the frame cannot hang on it: --gauge wall:{names[0]}")
    return gauge


def _free(bundle: Bundle, gauge: Gauge, options: Options) -> np.ndarray:
    """(size,) bool."""
    hold, free = options.hold, np.ones(bundle.size, bool)
    if "wall" in hold:
        free[: bundle.pitch_at] = False
    free[bundle.pitch_at] = gauge.length is not None
    for at in bundle.lens_at:
        lens = np.ones(COUNT, bool)
        lens[RADIAL.start + options.radial_terms : RADIAL.stop] = False
        if "lens" in hold or "focal-length" in hold:
            lens[FOCAL] = False
        if "lens" in hold or "projection-offset" in hold:
            lens[OFFSET_X : OFFSET_Y + 1] = False
        if "lens" in hold or "distortion" in hold:
            lens[RADIAL] = lens[TANGENTIAL] = False
        free[at : at + COUNT] = lens
    views = np.flatnonzero(bundle.has_sample)
    tracked_lenses = sorted({bundle.views[i].lens for i in views})
    seen_cameras = set()
    free[bundle.pupil_at] = False
    for lens in tracked_lenses:
        camera = bundle.camera_of_lens[lens]
        # of one lens state, the pupil and the hand-eye are one; further ones say how far the pupil moves
        free[bundle.pupil_at[lens]] = camera in seen_cameras and not {"lens", "entrance-pupil"} & hold
        seen_cameras.add(camera)
    for camera, at in enumerate(bundle.hand_at):
        free[at : at + 6] = camera in seen_cameras and "hand-eye" not in hold
    tracked_worlds = [bundle.world_of_camera[camera] for camera in sorted(seen_cameras)]
    for world, at in enumerate(bundle.world_at):
        is_gauge = gauge.is_tracker and tracked_worlds and world == tracked_worlds[0]
        free[at : at + 6] = world in tracked_worlds and not is_gauge
    return free
