"""Where a solve starts from: cameras against the wall as the show has it, or, where that is not how the wall is, panel by panel.

Against the nominal wall each view is resected by itself (PnP). Without one, every panel in every view says where it is from
that camera, because its size is known (IPPE, two answers); a view that sees two panels says how they hang to one another, and so
on through all views: a chain. The tracker then says where all that is: A X = Z B.
"""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from calibration.solve.bundle import Bundle, State, carried, inverse, matrix_of, said_by_tracker, times
from calibration.solve.projection import tangents_of
from calibration.solve.turns import best_fit, nearest_rotation, turn_of
from ledvolume.camera import Rig
from ledvolume.errors import CalibrationError
from ledvolume.stage import surface_points

CAMERA_FROM_CV = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
FEWEST = 6  # matches for a pose
THRESHOLDS_PX = (10.0, 60.0, 300.0)  # RANSAC's: the wall as drawn, a little off, decimetres off
HALF = 0.5  # of the matches that a pose should explain
SAMPLE = 400  # matches of a view that are enough to resect it


def nominal_state(bundle: Bundle, rigs: tuple[Rig, ...], worlds: np.ndarray) -> State:
    """Everything as the show has it; cameras at the stage's origin."""
    return State(
        tuple(shape.start() for shape in bundle.shapes),
        1.0,
        np.array([glass.unknowns() for glass in bundle.glasses]),
        np.array([glass.lens.entrance_pupil_m for glass in bundle.glasses]),
        np.array([matrix_of(rig.tracker_from_camera) for rig in rigs]),
        worlds,
        np.repeat(np.eye(3, 4)[None], len(bundle.views), 0),
    )


def resected(bundle: Bundle, state: State, is_known: np.ndarray | None = None) -> tuple[State, np.ndarray]:
    """Each view by itself against the wall of this state; and the share of its matches that its pose explains, 0 if none does.

    is_known (n,): matches whose LEDs' places are known; default: all.
    """
    points, tangents = bundle.points(state), _tangents(bundle)
    cameras, shares = state.cameras.copy(), np.zeros(len(bundle.views))
    for i, rows in enumerate(bundle.rows):
        known = np.arange(rows.start, rows.stop)
        known = known[np.isfinite(tangents[known]).all(1) & (True if is_known is None else is_known[known])]
        if len(known) >= FEWEST:
            px = bundle.glasses[bundle.views[i].lens]
            pose, shares[i] = _resected(points[known], tangents[known], px.lens.focal_length_mm * px.px_per_mm[0])
            cameras[i] = cameras[i] if pose is None else pose
    return replace(state, cameras=cameras), shares


def chained(bundle: Bundle, state: State) -> State:
    """Walls and cameras from panels alone, as near to the nominal wall as they come as a whole; bundle's shapes are all Panels.

    Raises CalibrationError where no view joins one part of the wall to another.
    """
    tangents = _tangents(bundle)
    offsets = np.cumsum([0, *[len(values) for values in state.walls]])
    piece = offsets[bundle.surface] + bundle.piece
    sights = _sights(bundle, piece, tangents)
    if not sights:
        raise CalibrationError(f"no panel has {FEWEST} matches in any view: photograph closer, or more LEDs at a time")
    seen = [{p: sight for (v, p), sight in sights.items() if v == i} for i in range(len(bundle.views))]
    first = max(range(len(seen)), key=lambda i: sum(sight.count for sight in seen[i].values()))
    cameras = {first: np.eye(3, 4)}
    while True:
        panels = {p: _best_panel(p, sights, cameras) for p in {p for v in cameras for p in seen[v]}}
        left = [v for v in range(len(seen)) if v not in cameras and seen[v].keys() & panels.keys()]
        if not left:
            break
        best = max(left, key=lambda v: sum(seen[v][p].count for p in seen[v].keys() & panels.keys()))
        known = seen[best].keys() & panels.keys()
        points = np.concatenate([_on_panel(panels[p], seen[best][p].basis) for p in known])
        at = np.concatenate([seen[best][p].tangents for p in known])
        glass = bundle.glasses[bundle.views[best].lens]
        pose, _ = _resected(points, at, glass.lens.focal_length_mm * glass.px_per_mm[0])
        if pose is None:
            seen[best] = {}
        else:
            cameras[best] = pose
    _say_what_is_apart(bundle, offsets, cameras, panels, sights)
    walls = []
    for values, (a, b) in zip(state.walls, pairwise(offsets)):
        placed = values.copy()
        for p in range(a, b):
            if p in panels:
                placed[p - a] = panels[p]
        walls.append(placed)
    all_cameras = state.cameras.copy()
    for v, camera in cameras.items():
        all_cameras[v] = camera
    return _onto_nominal(bundle, replace(state, walls=tuple(walls), cameras=all_cameras))


def registered(bundle: Bundle, state: State, is_tracker_gauge: bool, is_hand_eye_free: bool) -> State:
    """Hand-eyes and worlds that fit the cameras; with the tracker's gauge, everything carried to the stage.

    Of the closed form of A X = Z B (Shah) and of the hand-eye as it is nominally, what fits the samples better.
    """
    done: set[int] = set()
    for camera in range(len(bundle.world_of_camera)):
        views = [i for i in np.flatnonzero(bundle.has_sample) if bundle.camera_of(i) == camera]
        world = bundle.world_of_camera[camera]
        if not views:
            continue
        if world in done:  # another camera has said where this world is
            own = [inverse(times(state.worlds[world], bundle.views[i].sample)) for i in views]
            found = _middle([times(a, state.cameras[i]) for a, i in zip(own, views)])
            if is_hand_eye_free:
                state = _with_hand_eye(bundle, state, camera, found, views)
            continue
        answers = [state.hand_eyes[camera]]
        if is_hand_eye_free and len(views) >= 3:
            answers += _robot_world(bundle, state, camera, views)
        candidates = []
        for hand_eye in answers:
            hand_eyes = state.hand_eyes.copy()
            hand_eyes[camera] = hand_eye
            candidate = replace(state, hand_eyes=hand_eyes)
            frames = [
                times(state.cameras[i], inverse(times(bundle.views[i].sample, _at_pupil(bundle, candidate, i)))) for i in views
            ]
            here_from_world = _middle(frames)
            if is_tracker_gauge and not done:
                onto = times(state.worlds[world], inverse(here_from_world))
                candidate = carried(bundle, candidate, onto[:, :3], onto[:, 3])
            else:
                worlds = state.worlds.copy()
                worlds[world] = here_from_world
                candidate = replace(candidate, worlds=worlds)
            candidates.append(candidate)
        state = min(candidates, key=lambda c: _tracker_cost(bundle, c, views))
        done.add(world)
    return state


def _onto_nominal(bundle: Bundle, state: State) -> State:
    goal = np.empty((len(bundle.led_px), 3))
    for shape, rows in zip(bundle.shapes, bundle.of_shape):
        goal[rows] = surface_points(shape.surface, *bundle.led_px[rows].T)
    return carried(bundle, state, *best_fit(bundle.points(state), goal))


class _Sight:
    """One panel in one view: camera_from_panel (3, 4), one or two answers, and what they are from."""

    def __init__(self, basis: np.ndarray, tangents: np.ndarray, answers: list[np.ndarray]):
        self.basis, self.tangents, self.answers, self.count = basis, tangents, answers, len(basis)

    def off(self, camera_from_panel: np.ndarray) -> float:
        """Median distance in tangents, of this panel there."""
        local = self.basis @ camera_from_panel[:, :2].T + camera_from_panel[:, 3]
        forward = np.maximum(local[:, 1], 1e-3)
        at = np.stack([local[:, 0], -local[:, 2]], -1) / forward[:, None]
        return float(np.median(np.linalg.norm(at - self.tangents, axis=1)))


def _sights(bundle: Bundle, piece: np.ndarray, tangents: np.ndarray) -> dict[tuple[int, int], _Sight]:
    basis = np.empty((len(piece), 2))
    for rows, spots in zip(bundle.of_shape, bundle.spots):
        basis[rows] = spots.basis
    found = {}
    for v, rows in enumerate(bundle.rows):
        good = np.arange(rows.start, rows.stop)
        good = good[np.isfinite(tangents[good]).all(1)]
        glass = bundle.glasses[bundle.views[v].lens]
        threshold = THRESHOLDS_PX[0] / (glass.lens.focal_length_mm * glass.px_per_mm[0])
        for p in np.unique(piece[good]):
            mine = good[piece[good] == p]
            if len(mine) < FEWEST or np.linalg.svd(basis[mine] - basis[mine].mean(0))[1][1] < 0.05:
                continue
            plane, is_in = cv2.findHomography(basis[mine], tangents[mine], cv2.RANSAC, threshold)
            if plane is None or is_in.sum() < max(FEWEST, HALF * len(mine)):
                continue
            mine = mine[is_in.ravel() > 0]
            object_points = np.column_stack([basis[mine], np.zeros(len(mine))])
            _, turns, shifts, _ = cv2.solvePnPGeneric(object_points, tangents[mine], np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
            answers = [CAMERA_FROM_CV @ np.column_stack([cv2.Rodrigues(r)[0], t]) for r, t in zip(turns, shifts)]
            answers = [a for a in answers if a[1, 3] > 0 and np.isfinite(a).all()]
            if answers:
                found[v, int(p)] = _Sight(basis[mine], tangents[mine], answers)
    return found


def _best_panel(p: int, sights: dict, cameras: dict[int, np.ndarray]) -> np.ndarray:
    """Of all answers of the placed views that see it, the one with which they all see it best."""
    placed = [(cameras[v], sight) for (v, q), sight in sights.items() if q == p and v in cameras]
    candidates = [times(camera, answer) for camera, sight in placed for answer in sight.answers]
    return min(candidates, key=lambda c: sum(min(s.off(times(inverse(camera), c)), 0.05) for camera, s in placed))


def _say_what_is_apart(bundle: Bundle, offsets: np.ndarray, cameras: dict, panels: dict, sights: dict) -> None:
    apart = [view.name for i, view in enumerate(bundle.views) if i not in cameras and any(v == i for v, _ in sights)]
    if not apart:
        return
    seen = sorted({p for (v, p) in sights if p not in panels})
    names = {bundle.shapes[int(np.searchsorted(offsets, p, "right")) - 1].surface.name for p in seen}
    raise CalibrationError(
        f"the wall is not where the show has it, and nothing joins its parts: {', '.join(apart)} see panels of "
        f"{', '.join(sorted(names))} that no other view sees together with the rest. Add a view that sees both"
    )


def _resected(points: np.ndarray, tangents: np.ndarray, focal_px: float) -> tuple[np.ndarray | None, float]:
    chosen = np.linspace(0, len(points) - 1, min(SAMPLE, len(points))).astype(int)
    points, tangents = points[chosen], tangents[chosen]
    best, share = None, 0.0
    for threshold_px in THRESHOLDS_PX:
        try:
            cv2.setRNGSeed(1)
            good, turn, shift, is_in = cv2.solvePnPRansac(
                points, tangents, np.eye(3), None, reprojectionError=threshold_px / focal_px, flags=cv2.SOLVEPNP_SQPNP
            )
        except cv2.error:
            continue
        if good and is_in is not None and len(is_in) / len(points) > max(share, 0.2):
            camera = CAMERA_FROM_CV @ np.column_stack([cv2.Rodrigues(turn)[0], shift])
            best, share = inverse(camera), len(is_in) / len(points)
        if share > HALF:
            break
    return best, share


def _robot_world(bundle: Bundle, state: State, camera: int, views: list[int]) -> list[np.ndarray]:
    camera_from_here = [inverse(state.cameras[i]) for i in views]
    tracker_from_world = [inverse(bundle.views[i].sample) for i in views]
    try:
        *_, turn, shift = cv2.calibrateRobotWorldHandEye(
            [m[:, :3] for m in camera_from_here],
            [m[:, 3:] for m in camera_from_here],
            [m[:, :3] for m in tracker_from_world],
            [m[:, 3:] for m in tracker_from_world],
            method=cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH,
        )
    except cv2.error:
        return []
    if not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return []
    tracker_from_pupil = inverse(np.column_stack([nearest_rotation(turn), shift]))
    return [_with_hand_eye(bundle, state, camera, tracker_from_pupil, views).hand_eyes[camera]]


def _with_hand_eye(bundle: Bundle, state: State, camera: int, tracker_from_pupil: np.ndarray, views: list[int]) -> State:
    """The pupil of the first of its views is where this says."""
    hand_eyes = state.hand_eyes.copy()
    pupil = np.array([0, state.pupils_m[bundle.views[views[0]].lens], 0])
    hand_eyes[camera] = tracker_from_pupil
    hand_eyes[camera, :, 3] -= tracker_from_pupil[:, :3] @ pupil
    return replace(state, hand_eyes=hand_eyes)


def _at_pupil(bundle: Bundle, state: State, view: int) -> np.ndarray:
    hand_eye = state.hand_eyes[bundle.camera_of(view)].copy()
    hand_eye[:, 3] += hand_eye[:, 1] * state.pupils_m[bundle.views[view].lens]
    return hand_eye


def _tracker_cost(bundle: Bundle, state: State, views: list[int]) -> float:
    """How far the samples are off, each in metres and radians of a wall some metres away, the worst ones less."""
    off = 0.0
    for i in views:
        said = said_by_tracker(bundle, state, i)
        shift = np.linalg.norm(said[:, 3] - state.cameras[i][:, 3])
        turn = np.linalg.norm(turn_of(said[:, :3].T @ state.cameras[i][:, :3]))
        off += min(shift + 5 * turn, 1.0)
    return float(off)


def _tangents(bundle: Bundle) -> np.ndarray:
    found = np.empty((len(bundle.picture_px), 2))
    for view, rows in zip(bundle.views, bundle.rows):
        glass = bundle.glasses[view.lens]
        found[rows] = tangents_of(glass.lens, glass.resolution_px, bundle.picture_px[rows])
    return found


def _on_panel(panel: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return basis @ panel[:, :2].T + panel[:, 3]


def _middle(poses: list[np.ndarray]) -> np.ndarray:
    """The mean of poses, those far from the others left out."""
    poses = np.asarray(poses)
    distance = np.linalg.norm(poses[:, None, :, 3] - poses[None, :, :, 3], axis=-1) + np.linalg.norm(
        poses[:, None, :, :3] - poses[None, :, :, :3], axis=(-2, -1)
    )
    central = int(np.argmin(np.median(distance, 1)))
    near = poses[distance[central] <= 3 * np.median(distance[central]) + 1e-9]
    return np.column_stack([nearest_rotation(near[:, :, :3].mean(0)), near[:, :, 3].mean(0)])
