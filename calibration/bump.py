"""Has anything moved since a wall was calibrated? One view tells: wall, lens and rig are known, so the camera's place follows
from what it sees, and what does not fit has moved. Pure.

Every surface says alone where the camera was. Where they contradict each other, one has moved without which the others agree,
by the rigid motion between its answer and theirs; of two, the one that the tracker contradicts too, or else the smaller. Then every
panel is looked at. One view tells a motion across the line of sight by fractions of a millimetre, along it worse; where
it does not tell, that is said. Whether tracker and wall as a whole have moved against each other only the tracker's sample tells.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from calibration.guide import grid_of
from calibration.resection import CAMERA_FROM_CV, Resection, point_jacobian, resected, tangents_of
from calibration.session import Matches, View
from calibration.solved import Solved, SolvedLens, SolvedRig
from ledvolume.errors import CalibrationError
from ledvolume.pose import Pose, rotation_vector
from ledvolume.stage import PositionMap, Surface, surface_points

FEWEST = 12  # matches that a part is judged by
SIGNIFICANT = 30.0  # chi² of three degrees of freedom: one part in a million that stands still looks so; of four: five
SIGMAS = 4.0
WRONG = 6.0  # times the usual distance from the others of a part: no LED of it
LEAST_MM = 0.5  # what is less is not worth a word: no covariance knows of it
TRACKER_MM, TRACKER_DEG = 1.0, 0.05  # of a tracker whose own errors are not known
MOST_NAMED = 8


class Moved(msgspec.Struct, frozen=True):
    """A surface or a part of it that is not where it was. moved_mm: the place of it that moved most, on the stage's axes;
    within_mm: 95 % of it along the way; turned_deg: with it. rms_px: by how much it is off in the picture.
    is_across: only what is across the line of sight was looked at."""

    name: str
    matches: int
    rms_px: float
    moved_mm: tuple[float, float, float]
    within_mm: float
    across_mm: float
    turned_deg: float
    is_across: bool = False

    @property
    def mm(self) -> float:
        return math.hypot(*self.moved_mm)


class Bump(msgspec.Struct, frozen=True):
    """What one view says. surfaces: rms_px of each by name. tracker_mm, tracker_deg: by how much the tracker and the wall have
    moved against each other, at the wall's middle; None without a sample. words: for people, the gravest first."""

    has_moved: bool
    moved: tuple[Moved, ...]
    surfaces: dict[str, float]
    tracker_mm: float | None
    tracker_deg: float | None
    words: tuple[str, ...]


class Sight(NamedTuple):
    """A view as it is judged: lens, and of every match the LED's place, where it was found, its sigma as expected in one
    direction of the picture, and how well the place is known."""

    lens: SolvedLens
    resolution_px: tuple[int, int]
    points_m: np.ndarray
    picture_px: np.ndarray
    sigma_px: np.ndarray
    led_sigma_mm: np.ndarray

    @property
    def focal_px(self) -> float:
        return self.lens.lens.focal_length_mm / self.lens.lens.sensor_mm[0] * self.resolution_px[0]

    def resected(self, which: np.ndarray, start: Pose | None = None) -> Resection:
        return resected(
            self.lens.lens, self.resolution_px, self.points_m[which], self.picture_px[which], self.sigma_px[which], start
        )  # fmt: skip

    def off_px(self, which: np.ndarray, pose: Pose) -> np.ndarray:
        """Found minus expected, of a camera there."""
        seen = (self.points_m[which] - np.array(pose.position_m)) @ pose.matrix()[:3, :3] @ CAMERA_FROM_CV
        tangents = tangents_of(self.lens.lens, self.resolution_px, self.picture_px[which])
        return np.nan_to_num((tangents - seen[:, :2] / seen[:, 2:]) * self.focal_px)


def bump_of(solved: Solved, view: View) -> Bump:
    """Raises CalibrationError if the view cannot be judged."""
    lens, rig = _lens_of(solved, view)
    surfaces = {one.surface.name: one for one in solved.surfaces}
    known = [m for m in view.matches if m.surface in surfaces and len(m.led_px) >= FEWEST]
    if not known:
        seen = ", ".join(f"{len(m.led_px)} LEDs of {m.surface}" for m in view.matches) or "nothing"
        raise CalibrationError(f"{view.name}: {seen} found; calibrated are {', '.join(surfaces)}: is this their wall?")
    names = np.concatenate([np.full(len(m.led_px), m.surface, object) for m in known])
    led_px = np.concatenate([np.asarray(m.led_px, float) for m in known])
    sight = _sight(solved, lens, view, known)
    everything = np.ones(len(led_px), bool)
    start = sight.resected(everything).stage_from_camera
    told = _told_by_tracker(rig, lens, view)

    alone = {name: sight.resected(names == name, start) for name in dict.fromkeys(names)}

    def worst(left: list[str]) -> float:
        """How far the surfaces contradict each other at most."""
        if len(left) < 2:
            return 0.0
        rest = {name: np.isin(names.astype(str), [n for n in left if n != name]) for name in left}
        return max(_contradiction(sight, names == n, alone[n], sight.resected(rest[n], start)) for n in left)

    still = list(alone)
    while worst(still) > SIGNIFICANT:
        without = {name: worst([n for n in still if n != name]) for name in still}
        agree = {name: 0.0 if away <= SIGNIFICANT else away for name, away in without.items()}
        still.remove(min(still, key=lambda n: (agree[n], -_from_tracker(alone[n], told), (names == n).sum())))
    rest = np.isin(names.astype(str), still)
    reference = sight.resected(rest, start)
    moved = [_moved(name, sight, names == name, alone[name], reference) for name in alone if name not in still]
    for name in still:
        moved += _moved_parts(sight, surfaces[name].surface, led_px, names == name, reference)
    rms = {name: _rms(sight.off_px(names == name, reference.stage_from_camera)) for name in alone}
    return _bump(moved, rms, _against_tracker(rig, sight, told, reference, rest))


def _bump(moved: list[Moved], rms: dict[str, float], tracker: tuple[float, float, bool] | None) -> Bump:
    words = [_in_words(m) for m in moved[:MOST_NAMED]]
    if len(moved) > MOST_NAMED:
        words.append(f"and {len(moved) - MOST_NAMED} more parts")
    tracker_mm, tracker_deg, is_off = tracker or (None, None, False)
    if is_off:
        words.append(
            f"the tracker or the whole wall moved by {tracker_mm:.1f} mm and {tracker_deg:.2f}° relative to one another, "
            "at the wall's middle"
        )
    return Bump(bool(moved) or is_off, tuple(moved), rms, tracker_mm, tracker_deg, tuple(words))


def _sight(solved: Solved, lens: SolvedLens, view: View, known: list[Matches]) -> Sight:
    surfaces = {one.surface.name: one for one in solved.surfaces}
    points_m = np.concatenate([surface_points(surfaces[m.surface].surface, *np.asarray(m.led_px, float).T) for m in known])
    picture_px = np.concatenate([np.asarray(m.picture_px, float) for m in known])
    led_sigma_mm = np.concatenate([np.full(len(m.led_px), surfaces[m.surface].sigma_median_mm) for m in known]) / math.sqrt(3)
    sigma_px = np.concatenate([np.asarray(m.sigma_px, float) for m in known]) * max(solved.sigma_scale, 1.0)
    sight = Sight(lens, view.resolution_px, points_m, picture_px, sigma_px, led_sigma_mm)
    eye_m = sight.resected(np.ones(len(points_m), bool)).stage_from_camera.position_m
    distance_mm = 1000 * np.linalg.norm(points_m - np.array(eye_m), axis=1)
    return sight._replace(sigma_px=np.hypot(sigma_px, led_sigma_mm / distance_mm * sight.focal_px))


def _from_tracker(alone: Resection, told: Pose | None) -> float:
    return 0.0 if told is None else round(math.dist(alone.stage_from_camera.position_m, told.position_m), 4)


def _motion(sight: Sight, which: np.ndarray, alone: Resection, reference: Resection):
    """Where the reference sees places of a part, from where they were: the places (k, 3), shifts (k, 3) m, covariances."""
    motion = reference.stage_from_camera @ alone.stage_from_camera.inverse()
    points_m = sight.points_m[which]
    places = np.stack([points_m.mean(0), *(points_m[i] for axis in points_m.T for i in (axis.argmin(), axis.argmax()))])
    m = motion.matrix()
    shift = places @ m[:3, :3].T + m[:3, 3] - places
    covariance = np.eye(3) * (sight.led_sigma_mm[which].mean() / 1000) ** 2 * 2
    for resection in (alone, reference):
        rotation = resection.stage_from_camera.matrix()[:3, :3] @ CAMERA_FROM_CV
        _, by_pose = point_jacobian(rotation, np.array(resection.stage_from_camera.position_m), places)
        by_pose = rotation @ by_pose
        covariance = covariance + by_pose @ resection.covariance @ by_pose.swapaxes(-1, -2)
    return places, shift, covariance, motion


def _contradiction(sight: Sight, which: np.ndarray, alone: Resection, reference: Resection) -> float:
    """chi² of the place of a part that has moved most, for three degrees of freedom; 0 where nothing worth saying has."""
    _, shift, covariance, _ = _motion(sight, which, alone, reference)
    if 1000 * np.linalg.norm(shift, axis=1).max() < LEAST_MM:
        return 0.0
    return float(np.einsum("ki,kij,kj->k", shift, np.linalg.inv(covariance), shift).max())


def _moved(name: str, sight: Sight, which: np.ndarray, alone: Resection, reference: Resection) -> Moved:
    places, shift, covariance, motion = _motion(sight, which, alone, reference)
    most = int(np.einsum("ki,kij,kj->k", shift, np.linalg.inv(covariance), shift).argmax())
    way = shift[most] / max(np.linalg.norm(shift[most]), 1e-12)
    ray = places[most] - np.array(reference.stage_from_camera.position_m)
    ray /= np.linalg.norm(ray)
    return Moved(
        name,
        int(which.sum()),
        _rms(sight.off_px(which, reference.stage_from_camera)),
        tuple((1000 * shift[most]).tolist()),
        1960 * math.sqrt(float(way @ covariance[most] @ way)),
        1000 * float(np.linalg.norm(shift[most] - (shift[most] @ ray) * ray)),
        math.degrees(math.hypot(*rotation_vector(motion.wxyz))),
    )


def _moved_parts(sight: Sight, surface: Surface, led_px: np.ndarray, which: np.ndarray, reference: Resection) -> list[Moved]:
    """The panels of a surface that contradict the rest, the farthest first."""
    found = []
    for name, part in _parts(surface, led_px, which):
        if part.sum() >= FEWEST and (moved := _moved_part(name, sight, part, reference)):
            found.append(moved)
    return sorted(found, key=lambda m: -m.mm)


def _moved_part(name: str, sight: Sight, part: np.ndarray, reference: Resection) -> Moved | None:
    """A panel is too small for all six degrees of freedom: what one view tells of it is a shift of its picture, a turn about
    the line of sight and a change of size, the shift of a millimetre toward the lens. None if it has not moved."""
    pose, points_m = reference.stage_from_camera, sight.points_m[part]
    off_px, sigma_px = sight.off_px(part, pose), sight.sigma_px[part]
    centred = np.linalg.norm(off_px - np.median(off_px, axis=0), axis=1)
    good = centred <= WRONG * max(np.median(centred), float(np.median(sigma_px)))
    if good.sum() < FEWEST:
        return None
    off_px, sigma_px = off_px[good], sigma_px[good]
    x, y = (sight.picture_px[part][good] - sight.picture_px[part][good].mean(0)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    model = np.stack([np.stack([one, zero, -y, x], -1), np.stack([zero, one, x, y], -1)], 1) / sigma_px[:, None, None]
    design, seen = model.reshape(-1, 4), (off_px / sigma_px[:, None]).reshape(-1)
    covariance = np.linalg.pinv(design.T @ design)
    shift = covariance @ design.T @ seen
    left = seen - design @ shift
    covariance *= max(1.0, float(left @ left) / max(len(left) - 4, 1))
    middle = points_m[good].mean(0)
    distance_m = float(np.linalg.norm(middle - np.array(pose.position_m)))
    mm_of_px = 1000 * distance_m / sight.focal_px
    place_px = sight.led_sigma_mm[part].mean() / mm_of_px
    size_px = math.sqrt(float(np.mean(x**2 + y**2)) / 2) + 1e-9
    covariance += np.diag([place_px**2] * 2 + [(place_px / size_px) ** 2] * 2)
    at_border_mm = mm_of_px * max(math.hypot(*shift[:2]), abs(shift[2]) * size_px)
    if float(shift @ np.linalg.solve(covariance, shift)) < SIGNIFICANT or at_border_mm < LEAST_MM:
        return None
    in_stage = pose.matrix()[:3, :3] @ CAMERA_FROM_CV @ np.array([*shift[:2], 0.0]) * mm_of_px
    within_mm = 1.96 * mm_of_px * math.sqrt(float(np.diag(covariance)[:2].max()))
    across_mm = float(np.linalg.norm(in_stage))
    return Moved(
        name, int(good.sum()), _rms(off_px), tuple(in_stage.tolist()), within_mm, across_mm, abs(math.degrees(shift[2])), True
    )  # fmt: skip


def _lens_of(solved: Solved, view: View) -> tuple[SolvedLens, SolvedRig]:
    """The lens in the view's state, and its rig."""
    rigs = [rig for rig in solved.rigs if not view.camera_id or rig.camera_id == view.camera_id]
    for rig in rigs:
        for lens in rig.lenses:
            if lens.lens_state == view.lens_state or len(rig.lenses) == 1:
                return lens, rig
    known = ", ".join(f"{rig.camera_id} ({', '.join(lens.lens_state for lens in rig.lenses)})" for rig in solved.rigs)
    raise CalibrationError(
        f"{view.name}: camera {view.camera_id or '?'} with its lens as {view.lens_state} was not solved; known: {known}"
    )


def _parts(surface: Surface, led_px: np.ndarray, which: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The panels of a measured surface, pieces of about a panel of another; and which matches are theirs."""
    if isinstance(surface.shape, PositionMap):
        columns, rows, what = surface.shape.columns, surface.shape.rows, "panel"
    else:
        columns, rows, what = *grid_of(surface), "part"
    if columns * rows == 1:
        return
    cell = np.floor(led_px / surface.resolution_px * (columns, rows)).astype(int).clip(0, (columns - 1, rows - 1))
    for row, column in sorted({(int(r), int(c)) for c, r in cell[which]}):
        at = f"column {column + 1} of {columns}, row {row + 1} of {rows}"
        yield f"{what} in {at} of {surface.name}", which & (cell == (column, row)).all(-1)


def _told_by_tracker(rig: SolvedRig, lens: SolvedLens, view: View) -> Pose | None:
    """Where tracker and rig say that the pupil was."""
    if view.world_from_tracker is None:
        return None
    pupil = Pose(position_m=(0.0, lens.lens.entrance_pupil_m, 0.0))
    return rig.stage_from_world @ view.world_from_tracker @ rig.tracker_from_camera @ pupil


def _against_tracker(rig: SolvedRig, sight: Sight, told: Pose | None, reference: Resection, rest: np.ndarray):
    """(mm at the wall's middle, degrees, whether that is more than can be expected); None without a sample."""
    if told is None:
        return None
    motion = told @ reference.stage_from_camera.inverse()
    middle = tuple(sight.points_m[rest].mean(0).tolist())
    mm = 1000 * math.dist(motion.apply(middle), middle)
    degrees = math.degrees(math.hypot(*rotation_vector(motion.wxyz)))
    distance_mm = 1000 * math.dist(middle, reference.stage_from_camera.position_m)
    rms_mm, rms_deg = rig.tracker_rms_mm or TRACKER_MM, rig.tracker_rms_deg or TRACKER_DEG
    eye_mm = 1000 * math.sqrt(max(float(np.trace(reference.covariance[:3, :3])), 0.0))
    turn_deg = math.degrees(math.sqrt(max(float(np.trace(reference.covariance[3:, 3:])), 0.0)))
    expected_deg = math.hypot(rms_deg, turn_deg)
    expected_mm = math.hypot(rms_mm, eye_mm, math.radians(expected_deg) * distance_mm)
    eye_off_mm = 1000 * math.dist(told.position_m, reference.stage_from_camera.position_m)
    is_off = mm > SIGMAS * expected_mm or degrees > SIGMAS * expected_deg or eye_off_mm > SIGMAS * math.hypot(rms_mm, eye_mm)
    return mm, degrees, is_off


def _in_words(moved: Moved) -> str:
    x, y, z = moved.moved_mm
    turned = f", turned by {moved.turned_deg:.2f}°" if moved.turned_deg > 0.05 else ""
    if moved.within_mm > moved.mm:  # along the line of sight it is not known
        return f"{moved.name} moved, by {moved.across_mm:.1f} mm or more{turned}: it is off by {moved.rms_px:.1f} px"
    way = f"x {x:+.1f} y {y:+.1f} z {z:+.1f}{', across the line of sight' if moved.is_across else ''}"
    return f"{moved.name} moved by {moved.mm:.1f} ± {moved.within_mm:.1f} mm ({way}){turned}: it is off by {moved.rms_px:.1f} px"


def _rms(off_px: np.ndarray) -> float:
    return float(np.sqrt((off_px**2).sum(-1).mean()))
