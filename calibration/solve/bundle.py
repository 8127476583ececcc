"""The bundle: all that was seen, all that is unknown, and the normal equations that join them.

Unknowns stand in one vector, in this order; a step is added by State.moved (translations add, turns multiply, turns.py):

    each surface's (shapes.py) · pitch · each lens state's 8 (projection.py) · each lens state's entrance pupil ·
    each camera's hand-eye 6 · each world's 6 · each view's 6

    picture     = lens(stage_from_camera⁻¹ · LED)                                   every match, its sigma in px
    world_from_tracker = world⁻¹ · stage_from_camera · (hand-eye · pupil)⁻¹         every tracker's sample, its sigmas

No unknown belongs to an LED or a match: a match touches its view, its lens and its piece of wall, so the equations are summed
over runs of matches of one view and one piece: a few hundred unknowns, dense, whatever the number of matches.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from calibration.solve.cloth import Cloth
from calibration.solve.projection import COUNT, DISTORTION_PRIOR, OFFSET_X, Glass, pictured
from calibration.solve.shapes import Shape
from calibration.solve.turns import skew, turn_of, turn_rate, turned
from ledvolume.pose import Pose, quaternion

FAR_PX = 1e4  # what a point behind a camera is off by
OFFSET_PRIOR = 0.05  # sigma of the projection offset, over the half diagonal: without rolled views it is not seen


class Observed(NamedTuple):
    """One view's matches of all surfaces, surface by surface. lens: its lens state. sample: world_from_tracker
    (3, 4), or None."""

    name: str
    lens: int
    surface: np.ndarray
    led_px: np.ndarray
    picture_px: np.ndarray
    sigma_px: np.ndarray
    sample: np.ndarray | None


@dataclass(frozen=True)
class State:
    """Values of all unknowns. Poses are [R | t] (…, 3, 4)."""

    walls: tuple[np.ndarray, ...]
    pitch: float
    lenses: np.ndarray
    pupils_m: np.ndarray
    hand_eyes: np.ndarray
    worlds: np.ndarray
    cameras: np.ndarray


class Constraint(NamedTuple):
    """Linear in a step: residual + by @ step[index], both over sigma. What hangs the frame, and what is known beforehand."""

    residual: np.ndarray
    by: np.ndarray
    index: np.ndarray


class Linear(NamedTuple):
    """The bundle at one state: residuals (found - solved, px) and derivatives of the picture (by_camera, pitch and lens side by
    side), and of the tracker (whitened)."""

    off_px: np.ndarray
    by_shared: np.ndarray
    by_wall: tuple[np.ndarray, ...]
    off_tracker: np.ndarray
    by_tracker: np.ndarray


@dataclass
class Bundle:
    """sigma_px, is_used, tracker sigmas, is_tracker_used and cloth_sigmas (of bending in 1/m, and of strain; by surface) change
    between rounds of a solve; the rest does not.

    camera_of_lens: which rig each lens state belongs to; world_of_camera: which world each rig's tracker counts in.
    """

    shapes: tuple[Shape, ...]
    glasses: tuple[Glass, ...]
    camera_of_lens: tuple[int, ...]
    world_of_camera: tuple[int, ...]
    views: tuple[Observed, ...]
    tracker_sigma_m: float
    tracker_sigma_rad: float
    cloth_sigmas: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self):
        self.views = tuple(self._sorted(view) for view in self.views)
        counts = [len(view.led_px) for view in self.views]
        ends = np.cumsum([0, *counts])
        self.rows = [slice(a, b) for a, b in zip(ends, ends[1:])]
        join = lambda name: np.concatenate([getattr(view, name) for view in self.views])  # noqa: E731
        self.surface, self.led_px, self.picture_px = join("surface"), join("led_px"), join("picture_px")
        self.sigma_px = join("sigma_px").astype(float)
        self.view = np.repeat(np.arange(len(counts)), counts)
        self.is_used = np.ones(len(self.led_px), bool)
        self.of_shape = [np.flatnonzero(self.surface == s) for s in range(len(self.shapes))]
        self.spots = [shape.spots(self.led_px[rows]) for shape, rows in zip(self.shapes, self.of_shape)]
        self.piece = np.zeros(len(self.led_px), int)
        for rows, spots in zip(self.of_shape, self.spots):
            self.piece[rows] = spots.piece
        self.has_sample = np.array([view.sample is not None for view in self.views], bool)
        self.is_tracker_used = self.has_sample.copy()
        self._lay_out()

    def _sorted(self, view: Observed) -> Observed:
        """By surface and piece: so the matches of a piece are a run."""
        piece = np.zeros(len(view.led_px), int)
        for s, shape in enumerate(self.shapes):
            piece[view.surface == s] = shape.spots(view.led_px[view.surface == s]).piece
        order = np.lexsort((piece, view.surface))
        return view._replace(**{name: getattr(view, name)[order] for name in ("surface", "led_px", "picture_px", "sigma_px")})

    def _lay_out(self):
        sizes = [len(shape.units) for shape in self.shapes]
        self.wall_at = np.cumsum([0, *sizes])[:-1]
        at = sum(sizes)
        self.pitch_at = at
        self.lens_at = at + 1 + COUNT * np.arange(len(self.glasses))
        self.pupil_at = at + 1 + COUNT * len(self.glasses) + np.arange(len(self.glasses))
        at = at + 1 + (COUNT + 1) * len(self.glasses)
        self.hand_at = at + 6 * np.arange(len(self.world_of_camera))
        at += 6 * len(self.world_of_camera)
        worlds = max(self.world_of_camera) + 1
        self.world_at = at + 6 * np.arange(worlds)
        self.view_at = at + 6 * worlds + 6 * np.arange(len(self.views))
        self.size = at + 6 * worlds + 6 * len(self.views)
        units = [*(shape.units for shape in self.shapes), [0.01], *(glass.units() for glass in self.glasses)]
        rest = self.size - sum(len(u) for u in units)
        self.units = np.concatenate([*units, np.full(rest, 0.1)])
        # runs of matches of one view and one piece: (first, last + 1) by shape, into that shape's own rows
        self.runs = []
        for rows, spots in zip(self.of_shape, self.spots):
            key = self.view[rows] * (spots.piece.max() + 1 if len(rows) else 1) + spots.piece
            cuts = np.flatnonzero(np.diff(key)) + 1 if len(rows) else []
            self.runs.append([(a, b) for a, b in zip([0, *cuts], [*cuts, len(rows)]) if b > a])

    @property
    def tracker_sigmas(self) -> tuple[float, float]:
        """Metres, radians."""
        return self.tracker_sigma_m, self.tracker_sigma_rad

    def of_views(self, views: tuple[Observed, ...]) -> "Bundle":
        """The same unknowns but for the views'."""
        return replace(self, views=views)

    def camera_of(self, view: int) -> int:
        return self.camera_of_lens[self.views[view].lens]

    def points(self, state: State) -> np.ndarray:
        """Stage points of all matches' LEDs (n, 3)."""
        points = np.empty((len(self.led_px), 3))
        for shape, values, rows, spots in zip(self.shapes, state.walls, self.of_shape, self.spots):
            points[rows] = shape.points(values, spots, state.pitch)
        return points

    def linear(self, state: State) -> Linear:
        points = self.points(state)
        by_pitch = np.empty((len(points), 3))
        for shape, values, rows, spots in zip(self.shapes, state.walls, self.of_shape, self.spots):
            by_pitch[rows] = shape.by_pitch(values, spots, state.pitch)
        off = np.empty((len(points), 2))
        by_point = np.empty((len(points), 2, 3))
        by_shared = np.empty((len(points), 2, 6 + 1 + COUNT))
        for view, rows, camera in zip(self.views, self.rows, state.cameras):
            seen = pictured(self.glasses[view.lens], state.lenses[view.lens], points[rows], camera[:, :3], camera[:, 3])
            off[rows] = np.nan_to_num(self.picture_px[rows] - seen.px, nan=FAR_PX)
            by_point[rows] = seen.by_point
            by_shared[rows, :, :6] = seen.by_camera
            by_shared[rows, :, 7:] = seen.by_lens
        by_shared[:, :, 6] = (by_point @ by_pitch[:, :, None])[..., 0]
        by_wall = tuple(
            shape.by_unknowns(values, spots, state.pitch, by_point[rows])
            for shape, values, rows, spots in zip(self.shapes, state.walls, self.of_shape, self.spots)
        )
        return Linear(off, by_shared, by_wall, *self._tracker(state))

    def _tracker(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Whitened residuals (views, 6), solved minus measured, on the tracker's axes for the turn; and derivatives
        (views, 6, 19): by camera 6, hand-eye 6, world 6, pupil 1. Zero for views without a sample."""
        off, by = np.zeros((len(self.views), 6)), np.zeros((len(self.views), 6, 19))
        for i in np.flatnonzero(self.has_sample):
            sample, lens, camera = self.views[i].sample, self.views[i].lens, self.camera_of(i)
            c, h, w = state.cameras[i], state.hand_eyes[camera], state.worlds[self.world_of_camera[camera]]
            out = w[:, :3].T
            forward = np.array([0.0, 1.0, 0.0])
            tracker = -h[:, :3].T @ h[:, 3] - state.pupils_m[lens] * forward  # on camera axes
            arm = c[:, :3] @ tracker
            from_world = c[:, 3] + arm - w[:, 3]
            off[i, :3] = out @ from_world - sample[:, 3]
            body = h[:, :3] @ c[:, :3].T
            turn = turn_of(sample[:, :3].T @ out @ body.T)
            off[i, 3:] = turn
            rate = turn_rate(turn)
            by[i, :3, 0:3], by[i, :3, 3:6] = out, -out @ skew(arm)
            by[i, :3, 6:9] = -out @ body.T
            by[i, :3, 9:12] = -out @ body.T @ skew(h[:, 3])
            by[i, :3, 12:15], by[i, :3, 15:18] = -out, out @ skew(from_world)
            by[i, :3, 18] = -out @ c[:, :3] @ forward
            by[i, 3:, 3:6], by[i, 3:, 9:12], by[i, 3:, 15:18] = rate @ body, -rate, -rate @ body
        sigma = np.repeat([self.tracker_sigma_m, self.tracker_sigma_rad], 3)
        return off / sigma, by / sigma[:, None]

    def tracker_index(self, view: int) -> np.ndarray:
        """Where a sample's 19 unknowns stand."""
        camera = self.camera_of(view)
        world = self.world_at[self.world_of_camera[camera]]
        six = np.arange(6)
        return np.concatenate(
            [self.view_at[view] + six, self.hand_at[camera] + six, world + six, [self.pupil_at[self.views[view].lens]]]
        )

    def shared_index(self, view: int) -> np.ndarray:
        """Where the unknowns that all matches of a view touch stand: its pose, the pitch, its lens."""
        return np.concatenate(
            [self.view_at[view] + np.arange(6), [self.pitch_at], self.lens_at[self.views[view].lens] + np.arange(COUNT)]
        )

    def normal(
        self, linear: Linear, weights: np.ndarray, tracker_weights: np.ndarray, constraints: list[Constraint]
    ) -> tuple[np.ndarray, np.ndarray]:
        """JᵀWJ (size, size) and the gradient to descend, -JᵀWr. weights (n,): of a match, over those of its sigma."""
        normal, gradient = np.zeros((self.size, self.size)), np.zeros(self.size)
        root = np.sqrt(weights * self.is_used) / self.sigma_px
        shared = np.concatenate([linear.by_shared, linear.off_px[..., None]], -1) * root[:, None, None]
        for i, rows in enumerate(self.rows):
            a = shared[rows].reshape(-1, 7 + COUNT + 1)
            gram, index = a.T @ a, self.shared_index(i)
            normal[np.ix_(index, index)] += gram[:-1, :-1]
            gradient[index] += gram[:-1, -1]
        for shape, at, rows, runs, by_wall, spots in zip(
            self.shapes, self.wall_at, self.of_shape, self.runs, linear.by_wall, self.spots
        ):
            indices, width = at + shape.indices, shape.width
            by_wall = by_wall * root[rows][:, None, None]
            beside, view = shared[rows], self.view[rows]
            across = np.zeros((len(self.views), len(shape.units), 7 + COUNT))
            own = np.zeros((len(indices), width, width))
            for first, last in runs:
                piece = spots.piece[first]
                wall = by_wall[first:last].reshape(-1, width)
                gram = wall.T @ beside[first:last].reshape(-1, 8 + COUNT)
                across[view[first], indices[piece] - at] += gram[:, :-1]
                gradient[indices[piece]] += gram[:, -1]
                own[piece] += wall.T @ wall
            for index, gram in zip(indices, own):
                normal[np.ix_(index, index)] += gram
            here = slice(at, at + len(shape.units))
            for i, gram in enumerate(across):
                index = self.shared_index(i)
                normal[here, index] += gram
                normal[index, here] += gram.T
        for i in np.flatnonzero(self.is_tracker_used):
            index, by = self.tracker_index(i), linear.by_tracker[i]
            normal[np.ix_(index, index)] += tracker_weights[i] * by.T @ by
            gradient[index] -= tracker_weights[i] * by.T @ linear.off_tracker[i]
        for constraint in constraints:
            normal[np.ix_(constraint.index, constraint.index)] += constraint.by.T @ constraint.by
            gradient[constraint.index] -= constraint.by.T @ constraint.residual
        return normal, gradient

    def priors(self, state: State) -> list[Constraint]:
        """What is known of any lens, and of a cloth: how it bends and how little it stretches."""
        found = []
        for glass, at, values in zip(self.glasses, self.lens_at, state.lenses):
            sigma = np.array([*[OFFSET_PRIOR * glass.reach_mm] * 2, *[DISTORTION_PRIOR] * 5])
            off = (values - glass.unknowns())[OFFSET_X:] / sigma
            found.append(Constraint(off, np.diag(1 / sigma), at + np.arange(OFFSET_X, COUNT)))
        for i, (shape, at, values) in enumerate(zip(self.shapes, self.wall_at, state.walls)):
            if not isinstance(shape, Cloth):
                continue
            own = at + np.arange(values.size)
            bending_sigma, strain_sigma = self.cloth_sigmas[i]
            bend = shape.bending() / bending_sigma
            bent = bend @ values.reshape(-1, 3)
            found += [Constraint(bent[:, axis], bend, own[axis::3]) for axis in range(3)]
            strain, rates = shape.stretch(values, state.pitch)
            found.append(Constraint(strain / strain_sigma, rates / strain_sigma, np.append(own, self.pitch_at)))
        return found

    def moved(self, state: State, step: np.ndarray) -> State:
        return State(
            tuple(
                shape.moved(values, step[at : at + len(shape.units)])
                for shape, at, values in zip(self.shapes, self.wall_at, state.walls)
            ),
            state.pitch + float(step[self.pitch_at]),
            state.lenses + step[self.lens_at[0] : self.pupil_at[0]].reshape(-1, COUNT),
            state.pupils_m + step[self.pupil_at],
            _moved(state.hand_eyes, step[self.hand_at[0] : self.world_at[0]]),
            _moved(state.worlds, step[self.world_at[0] : self.view_at[0]]),
            _moved(state.cameras, step[self.view_at[0] :]),
        )

    def led_rates(self, state: State, surface: int, led_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of LEDs (n, 2): stage points (n, 3), their derivatives (n, 3, k), and where those unknowns stand (n, k)."""
        shape, values = self.shapes[surface], state.walls[surface]
        spots = shape.spots(led_px)
        points = shape.points(values, spots, state.pitch)
        by = shape.by_unknowns(values, spots, state.pitch, np.broadcast_to(np.eye(3), (len(points), 3, 3)))
        by_pitch = shape.by_pitch(values, spots, state.pitch)
        index = self.wall_at[surface] + shape.indices[spots.piece]
        return (
            points,
            np.concatenate([by, by_pitch[..., None]], -1),
            np.concatenate([index, np.full((len(index), 1), self.pitch_at)], -1),
        )


def said_by_tracker(bundle: Bundle, state: State, view: int) -> np.ndarray:
    """stage_from_camera (3, 4) as rig and sample have it, at the entrance pupil."""
    hand_eye = state.hand_eyes[bundle.camera_of(view)].copy()
    hand_eye[:, 3] += hand_eye[:, 1] * state.pupils_m[bundle.views[view].lens]
    world = state.worlds[bundle.world_of_camera[bundle.camera_of(view)]]
    return times(times(world, bundle.views[view].sample), hand_eye)


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of poses (3, 4): a_from_c of a_from_b and b_from_c."""
    return np.column_stack([a[:, :3] @ b[:, :3], a[:, :3] @ b[:, 3] + a[:, 3]])


def inverse(a: np.ndarray) -> np.ndarray:
    """b_from_a of a_from_b (3, 4)."""
    return np.column_stack([a[:, :3].T, -a[:, :3].T @ a[:, 3]])


def carried(bundle: Bundle, state: State, rotation: np.ndarray, position_m: np.ndarray) -> State:
    """The same wall and cameras in another frame: p ↦ rotation p + position_m. Worlds and hand-eyes stay."""
    cameras = rotation @ state.cameras
    cameras[:, :, 3] += position_m
    walls = tuple(shape.carried(values, rotation, position_m) for shape, values in zip(bundle.shapes, state.walls))
    return replace(state, walls=walls, cameras=cameras)


def matrix_of(pose: Pose) -> np.ndarray:
    """[R | t] (3, 4)."""
    return pose.matrix()[:3]


def pose_of(m: np.ndarray) -> Pose:
    return Pose(quaternion(m[:, :3]), tuple(float(v) for v in m[:, 3]))


def _moved(poses: np.ndarray, step: np.ndarray) -> np.ndarray:
    step = step.reshape(-1, 6)
    return np.concatenate([turned(step[:, 3:]) @ poses[:, :, :3], (poses[:, :, 3] + step[:, :3])[..., None]], -1)
