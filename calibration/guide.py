"""Which view to take next, and why: `next_view(stage, lens, views so far)`. Pure.

What makes a calibration observable (the wall's shape, hand-eye, entrance pupil and focal length are solved together):

    seen       every patch of every surface, from three places or more
    parallax   seen under different angles: two rays that are nearly parallel do not say how far a point is
    turned     the camera turned about two axes, or the pupil's place on the tracked body is not known in one direction
    distance   near and far, or a longer lens looks like a nearer pupil
    level      with the horizon of the picture tilted once, or a projection offset looks like a turn of the camera
    count      so many views that each can be judged by the others

Places are tried in and around the zone; the one that adds most is advised, and what it adds is said.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import msgspec
import numpy as np

from calibration.session import View
from ledvolume.camera import view_tangents
from ledvolume.lens import Lens
from ledvolume.moves import looking_at
from ledvolume.pose import Pose, pan_tilt_roll_of, rotation_vector
from ledvolume.stage import Stage, Surface, surface_points

PATCH_M = 0.5  # as large as a panel
MOST_PATCHES = 24  # across and up
TIMES_SEEN = 3
PARALLAX_DEG = 12.0
APART_DEG = 4.0  # rays that are nearer to each other than this are from one place
TURN_DEG = 15.0
FAR_OVER_NEAR = 1.4
LEVEL_DEG = 15.0
VIEWS = 8
MARGIN = 0.97  # of half the picture: what is nearer to its border is not counted on
GRAZING_DEG = 70.0  # LEDs are not bright, and codes not read, beyond
AROUND_M = 1.0  # how far a camera that calibrates may leave the zone, which is where cameras go that shoot
CLEAR_M = 0.6  # of the wall
HEIGHTS_M = (0.4, 3.0)
LITTLE = 0.05  # of a surface: what lacks less is let be
ROLLS_DEG = (0.0, 25.0, -25.0)
WORTH = {"seen": 4.0, "parallax": 2.0, "turned": 1.5, "distance": 1.0, "level": 0.7, "count": 0.1}


class Patches(msgspec.Struct, frozen=True):
    """A surface in pieces of about a panel: middles (rows, columns, 3) m and their normals, toward the viewer."""

    surface: Surface
    middles_m: np.ndarray
    normals: np.ndarray


class Seen(msgspec.Struct, frozen=True):
    """A view: where it was taken from, the lens' entrance pupil, and which patches are in it: surface → (rows, columns) bool."""

    stage_from_camera: Pose
    patches: dict[str, np.ndarray]


class Advice(msgspec.Struct, frozen=True):
    """What to do next. pose: where to go, None if nothing is left to do, or nothing can be done. is_enough: one may solve."""

    words: str
    pose: Pose | None
    is_enough: bool


def next_view(stage: Stage, lens: Lens, views: Sequence[Seen], has_tracker: bool = True) -> Advice:
    """The view that adds most to those that are there. has_tracker: its hand-eye is to be solved too."""
    missing = needs(stage, views, has_tracker)
    if not missing:
        return Advice(f"enough: {len(views)} views. More make it surer; solve, and the report says what is weak", None, True)
    candidates = [c for c in _candidates(stage, lens) if "level" in missing or abs(_roll_deg(c.stage_from_camera)) < 1]
    if not views:
        most = max(candidates, key=lambda c: sum(p.sum() for p in c.patches.values()) - 5 * _cost(c))
        return Advice(f"first {place_in_words(stage, most)}: as much of the wall as it can see", most.stage_from_camera, False)
    state = _state(stage, views)
    gains = [_gains(state, candidate, missing, stage) for candidate in candidates]
    worth = [sum(WORTH[need] * gain for need, gain in gain.items()) - _cost(c) for gain, c in zip(gains, candidates)]
    number = int(np.argmax(worth))
    best, added = candidates[number], {need: gain for need, gain in gains[number].items() if gain > 0.01}
    if not added:
        left = "; ".join(missing.values())
        words = f"no place in or around the zone makes it better with this lens, but: {left}. A wider lens, or solve as it is"
        return Advice(words, None, "seen" not in missing)
    why = max(added, key=lambda need: WORTH[need] * added[need])
    reason = missing[why] if why not in ("seen", "parallax") else _lack_of(state, best)
    return Advice(f"{place_in_words(stage, best)}: {reason}", best.stage_from_camera, False)


def needs(stage: Stage, views: Sequence[Seen], has_tracker: bool = True) -> dict[str, str]:
    """What is not there yet, by need, in words."""
    state, found = _state(stage, views), {}
    if words := _lack(state.times, TIMES_SEEN, _times_in_words):
        found["seen"] = words
    if words := _lack(state.parallax_deg, PARALLAX_DEG, _parallax_in_words):
        found["parallax"] = words
    if has_tracker and _turned_deg(state.poses) < TURN_DEG:
        found["turned"] = "the camera has turned about one axis only: where its pupil is on it needs two (pan, and tilt or roll)"
    if _ratio(state.distances_m) < FAR_OVER_NEAR:
        found["distance"] = "all views are from one distance: near and far tell the focal length from the pupil"
    if max((abs(_roll_deg(pose)) for pose in state.poses), default=0.0) < LEVEL_DEG:
        found["level"] = "no view has a tilted horizon: it tells the middle of the picture from a turn of the camera"
    if len(views) < VIEWS:
        found["count"] = f"{len(views)} views so far: from {VIEWS} on each can be judged by the others"
    return found


def seen_from(stage: Stage, lens: Lens, stage_from_camera: Pose) -> Seen:
    """What a view from there would hold, as the stage is described; nothing hides anything."""
    return Seen(stage_from_camera, {p.surface.name: _in_picture(p, lens, stage_from_camera) for p in patches_of(stage)})


def seen_in(stage: Stage, view: View, stage_from_camera: Pose) -> Seen:
    """What was found in a view."""
    found = {}
    for patches in patches_of(stage):
        rows, columns = patches.middles_m.shape[:2]
        there = np.zeros((rows, columns), bool)
        for matches in view.matches:
            if matches.surface == patches.surface.name and len(matches.led_px):
                cell = np.asarray(matches.led_px) / patches.surface.resolution_px * (columns, rows)
                column, row = (np.floor(v).astype(int).clip(0, n - 1) for v, n in zip(cell.T, (columns, rows)))
                there[row, column] = True
        found[patches.surface.name] = there
    return Seen(stage_from_camera, found)


def patches_of(stage: Stage) -> list[Patches]:
    """All surfaces in patches."""
    return [_patches(surface) for surface in stage.surfaces]


def grid_of(surface: Surface) -> tuple[int, int]:
    """Patches across and down."""
    columns, rows = (max(1, min(MOST_PATCHES, round(m / PATCH_M))) for m in surface.size_m)
    return columns, rows


@lru_cache(maxsize=64)
def _patches(surface: Surface) -> Patches:
    columns, rows = grid_of(surface)
    (width, height), e = surface.resolution_px, 0.25
    u, v = np.meshgrid((np.arange(columns) + 0.5) / columns * width, (np.arange(rows) + 0.5) / rows * height)
    middles = surface_points(surface, u, v)
    across = surface_points(surface, u + e, v) - surface_points(surface, u - e, v)
    up = surface_points(surface, u, v - e) - surface_points(surface, u, v + e)
    normals = np.cross(across, up)
    return Patches(surface, middles, normals / np.linalg.norm(normals, axis=-1, keepdims=True))


class _State(msgspec.Struct, frozen=True):
    """times: how many places each patch was seen from; parallax_deg: the widest angle between two of them; rays: toward the
    eyes that see it, (views, rows, columns, 3), NaN where they do not."""

    times: dict[str, np.ndarray]
    parallax_deg: dict[str, np.ndarray]
    rays: dict[str, np.ndarray]
    poses: list[Pose]
    distances_m: list[float]


def coverage(stage: Stage, views: Sequence[Seen]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of every patch (rows, columns): from how many places it was seen, and the widest angle between two of them, degrees."""
    state = _state(stage, views)
    return state.times, state.parallax_deg


def _state(stage: Stage, views: Sequence[Seen]) -> _State:
    times, parallax, rays = {}, {}, {}
    for patches in patches_of(stage):
        toward = np.full((len(views), *patches.middles_m.shape), np.nan)
        count = np.zeros(patches.middles_m.shape[:2])
        widest = np.zeros_like(count)
        for i, view in enumerate(views):
            there = view.patches.get(patches.surface.name, np.zeros(count.shape, bool))
            ray = _toward(patches, view.stage_from_camera)
            angle = _least_and_widest_deg(toward[:i], ray)
            count += there & ~(angle[0] < APART_DEG)
            widest = np.where(there, np.fmax(widest, angle[1]), widest)
            toward[i][there] = ray[there]
        times[patches.surface.name], parallax[patches.surface.name], rays[patches.surface.name] = count, widest, toward
    return _State(times, parallax, rays, [v.stage_from_camera for v in views], [_distance_m(stage, v) for v in views])


def _toward(patches: Patches, pose: Pose) -> np.ndarray:
    ray = np.asarray(pose.position_m) - patches.middles_m
    return ray / np.linalg.norm(ray, axis=-1, keepdims=True)


def _least_and_widest_deg(rays: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles from a ray of each patch to the nearest and to the farthest of those that are there; NaN, NaN if none is."""
    if not len(rays):
        return np.full(ray.shape[:-1], np.nan), np.full(ray.shape[:-1], np.nan)
    angle = np.degrees(np.arccos(np.clip((rays * ray).sum(-1), -1, 1)))
    none = np.isnan(angle).all(0)
    least, widest = np.nanmin(np.where(none, 0, angle), 0), np.nanmax(np.where(none, 0, angle), 0)
    return np.where(none, np.nan, least), np.where(none, np.nan, widest)


def _in_picture(patches: Patches, lens: Lens, pose: Pose) -> np.ndarray:
    left, right, bottom, top = view_tangents(lens)
    m = pose.matrix()
    p = (patches.middles_m - m[:3, 3]) @ m[:3, :3]
    forward = np.maximum(p[..., 1], 1e-6)
    u = np.abs(p[..., 0] / forward - (left + right) / 2) / ((right - left) / 2)
    v = np.abs(p[..., 2] / forward - (bottom + top) / 2) / ((top - bottom) / 2)
    facing = (_toward(patches, pose) * patches.normals).sum(-1) > math.cos(math.radians(GRAZING_DEG))
    return (p[..., 1] > 0.1) & (np.maximum(u, v) < MARGIN) & facing


def _gains(before: _State, candidate: Seen, needs: dict[str, str], stage: Stage) -> dict[str, float]:
    """By need, what a candidate would add of what is missing: 0 nothing, 1 all that one view could."""
    gains = {}
    seen = wide = missing = narrow = 0.0
    for patches in patches_of(stage):
        name = patches.surface.name
        there, times, parallax = candidate.patches[name], before.times[name], before.parallax_deg[name]
        least, widest = _least_and_widest_deg(before.rays[name], _toward(patches, candidate.stage_from_camera))
        want = np.maximum(TIMES_SEEN - times, 0) / TIMES_SEEN
        weight = 1 / want.size + want / 50  # every surface counts, whatever its size
        seen += (want * weight)[there & ~(least < APART_DEG)].sum()
        missing += (want * weight).sum()
        lack = np.maximum(PARALLAX_DEG - parallax, 0)
        wide += (weight * np.minimum(np.maximum(np.nan_to_num(widest) - parallax, 0), lack))[there].sum()
        narrow += (weight * lack).sum()
    share = {"seen": seen / max(missing, 1e-9), "parallax": wide / max(narrow, 1e-9)}
    poses = [*before.poses, candidate.stage_from_camera]
    share["turned"] = min(_turned_deg(poses) / TURN_DEG, 1) - min(_turned_deg(before.poses) / TURN_DEG, 1)
    distances = [*before.distances_m, _distance_m(stage, candidate)]
    ratio, ratio_before = (min(_ratio(d), FAR_OVER_NEAR) for d in (distances, before.distances_m))
    share["distance"] = (ratio - ratio_before) / (FAR_OVER_NEAR - 1)
    share["level"] = float(abs(_roll_deg(candidate.stage_from_camera)) >= LEVEL_DEG)
    share["count"] = 0.02 + 0.98 * share["seen"] if any(p.any() for p in candidate.patches.values()) else 0.0
    sees = sum(p.mean() for p in candidate.patches.values()) > 0.1
    for need in needs:
        gains[need] = share[need] if sees else 0.0
    return gains


def _cost(candidate: Seen) -> float:
    """What is laborious, and wins only if it is worth it: a camera that is rolled, high, low or far aside."""
    roll_deg = abs(_roll_deg(candidate.stage_from_camera))
    x, _, z = candidate.stage_from_camera.position_m
    return (0.3 if roll_deg > 1 else 0.0) + 0.05 * abs(z - 1.6) + 0.01 * abs(x)


@lru_cache(maxsize=4)
def _candidates(stage: Stage, lens: Lens) -> tuple[Seen, ...]:
    """Views from a grid of places around the zone, of each surface's middle and quarters, and of the wall's."""
    (x0, y0, z0), (x1, y1, z1) = stage.zone.min_m, stage.zone.max_m
    xs = np.linspace(x0 - AROUND_M, x1 + AROUND_M, 5)
    ys = np.linspace(y0 - AROUND_M, y1 + AROUND_M, 3)
    zs = np.unique(np.clip([z0 - AROUND_M / 2, (z0 + z1) / 2, z1 + AROUND_M / 2], *HEIGHTS_M))
    patches = patches_of(stage)
    all_points = np.concatenate([p.middles_m.reshape(-1, 3) for p in patches])
    targets = [all_points.mean(0)]
    for p in patches:
        (width, height) = p.surface.resolution_px
        for u, v in ((0.5, 0.5), (0.2, 0.25), (0.8, 0.25), (0.2, 0.75), (0.8, 0.75)):
            targets.append(surface_points(p.surface, u * width, v * height))
    seen = []
    for x, y, z in product(xs, ys, zs):
        eye = np.array([x, y, z])
        if np.linalg.norm(all_points - eye, axis=1).min() < CLEAR_M or not _is_in_front(patches, eye):
            continue
        for target, roll_deg in product(targets, ROLLS_DEG):
            candidate = seen_from(stage, lens, looking_at(tuple(eye.tolist()), tuple(target.tolist()), math.radians(roll_deg)))
            if any(p.any() for p in candidate.patches.values()):
                seen.append(candidate)
    if not seen:
        seen.append(seen_from(stage, lens, looking_at(stage.zone.centre_m, tuple(all_points.mean(0).tolist()))))
    return tuple(seen)


def _is_in_front(patches: list[Patches], eye: np.ndarray) -> bool:
    """On the side of every surface's viewers, by the patch that is nearest."""
    for p in patches:
        off = eye - p.middles_m
        nearest = np.unravel_index(np.linalg.norm(off, axis=-1).argmin(), off.shape[:2])
        if off[nearest] @ p.normals[nearest] < 0:
            return False
    return True


def place_in_words(stage: Stage, seen: Seen) -> str:
    """Where to stand, and what to look at."""
    x, y, z = seen.stage_from_camera.position_m
    (x0, y0, _), (x1, y1, _) = stage.zone.min_m, stage.zone.max_m
    across = (
        "from camera left" if x < x0 + (x1 - x0) / 3 else "from camera right" if x > x1 - (x1 - x0) / 3 else "from the middle"
    )
    along = "close to the wall" if y > y1 - (y1 - y0) / 3 else "far back" if y < y0 + (y1 - y0) / 3 else "halfway"
    high = "low" if z < 1.1 else "high" if z > 2.1 else "at eye height"
    roll_deg = _roll_deg(seen.stage_from_camera)
    roll = (
        f", the camera rolled {abs(roll_deg):.0f}° {'clockwise' if roll_deg > 0 else 'the other way'}"
        if abs(roll_deg) > 1
        else ""
    )
    return f"{across}, {along}, {high} (x {x:+.1f} y {y:+.1f} z {z:.1f} m), looking at {_looked_at(seen)}{roll}"


def _looked_at(seen: Seen) -> str:
    shares = {name: float(p.mean()) for name, p in seen.patches.items() if p.any()}
    if len(shares) > 1 and min(shares.values()) > 0.6 and len(shares) == len(seen.patches):
        return "the whole wall"
    name = max(shares, key=shares.get, default="the wall")
    if name not in shares or shares[name] > 0.6:
        return name
    rows, columns = np.nonzero(seen.patches[name])
    height, width = seen.patches[name].shape
    u, v = (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height
    side = "left" if u < 0.4 else "right" if u > 0.6 else ""
    level = "upper" if v < 0.4 else "lower" if v > 0.6 else ""
    part = " ".join(w for w in (level, side) if w) or "middle"
    return f"the {part} part of {name}"


def _lack(values: dict[str, np.ndarray], wanted: float, in_words) -> str:
    """The surface that lacks most, in words; "" if none does."""
    lacking = {name: float((v < wanted).mean()) for name, v in values.items() if (v < wanted).mean() > LITTLE}
    if not lacking:
        return ""
    name = max(lacking, key=lambda n: (not values[n].any(), lacking[n]))
    part = name if lacking[name] > 1 - LITTLE else f"{lacking[name]:.0%} of {name}"
    return in_words(part, float(np.median(values[name][values[name] < wanted])))


def _lack_of(state: _State, candidate: Seen) -> str:
    """What a candidate sees that has been seen too little."""
    lacking = {n: p & (state.times[n] < TIMES_SEEN) for n, p in candidate.patches.items()}
    narrow = {n: p & (state.parallax_deg[n] < PARALLAX_DEG) for n, p in candidate.patches.items()}
    which, values, in_words = lacking, state.times, _times_in_words
    if not any(there.any() for there in lacking.values()):
        which, values, in_words = narrow, state.parallax_deg, _parallax_in_words
    name = max(which, key=lambda n: which[n].sum())
    return in_words(name, float(np.median(values[name][which[name]])))


def _times_in_words(part: str, times: float) -> str:
    return (
        f"{part} has been seen from {times:.0f} place{'s' if times > 1 else ''} only"
        if times >= 1
        else f"{part} has not been seen"
    )


def _parallax_in_words(part: str, degrees: float) -> str:
    return (
        f"{part} has been seen under {degrees:.0f}° only: from farther to the sides, or from higher and lower, its depth is told"
    )


def _turned_deg(poses: Sequence[Pose]) -> float:
    """How far the camera has turned about a second axis: the largest part of a turn across another turn's axis, degrees, where
    neither is larger than the other."""
    if len(poses) < 3:
        return 0.0
    turns = np.array([rotation_vector((poses[0].inverse() @ pose).wxyz) for pose in poses[1:]])
    lengths = np.maximum(np.linalg.norm(turns, axis=1), 1e-9)
    across = np.linalg.norm(np.cross(turns[:, None], turns[None]), axis=-1)
    return float(np.degrees((across / np.maximum(lengths[:, None], lengths[None])).max()))


def _roll_deg(pose: Pose) -> float:
    return math.degrees(pan_tilt_roll_of(pose.wxyz)[2])


def _distance_m(stage: Stage, seen: Seen) -> float:
    """From the eye to the middle of what it sees."""
    points = [p.middles_m[seen.patches[p.surface.name]] for p in patches_of(stage) if p.surface.name in seen.patches]
    there = np.concatenate(points) if points else np.empty((0, 3))
    return float(np.linalg.norm(there.mean(0) - seen.stage_from_camera.position_m)) if len(there) else 1.0


def _ratio(distances_m: Sequence[float]) -> float:
    return max(distances_m) / min(distances_m) if distances_m else 1.0
