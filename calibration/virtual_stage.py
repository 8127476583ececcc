"""A volume that is simulated: a curved wall of 6 m with a ceiling, as drawn and as it really is, and what a camera sees of it.

Matches only, without pictures: LEDs are projected, with the noise of a detector and of a tracker. So a solve can be judged some
thousand times. calibration/commands/simulate.py photographs any show's stage through the renderer instead.
"""

import math

import msgspec
import numpy as np

from calibration.session import Matches, View
from calibration.solve.projection import picture_of
from calibration.truth import noisy, tracker_pose
from ledvolume.camera import Rig
from ledvolume.lens import Distortion, Lens
from ledvolume.moves import looking_at
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.stage import Arc, Box, Flat, PositionMap, Stage, Surface, cut, seen_by, surface_points

PITCH_M = 0.5 / 176  # panels of 0.5 m with 176 LEDs
WALL_M, CEILING_M = (6.0, 3.0), (4.0, 3.0)
RADIUS_M = 4.0
SENSOR_MM, PICTURE_PX = (28.25, 15.89), (4096, 2304)
GRAZING_DEG = 75.0
CUTS = {4: ((3, 1), (1, 1)), 16: ((4, 3), (2, 2)), 64: ((12, 4), (4, 4)), 128: ((16, 6), (8, 4))}  # tiles: wall, ceiling


class Noise(msgspec.Struct, frozen=True):
    """Standard deviations of each coordinate; wrong: the share of matches that are anywhere in the picture."""

    picture_px: float = 0.3
    tracker_mm: float = 0.3
    tracker_deg: float = 0.02
    wrong: float = 0.0


class VirtualStage(msgspec.Struct, frozen=True):
    """nominal: the stage with its rig as its show has it. surfaces, rigs: how they really are, one rig for each lens state.

    cameras: stage_from_camera of every view, and its lens state.
    """

    nominal: Stage
    surfaces: tuple[Surface, ...]
    rigs: tuple[Rig, ...]
    cameras: tuple[tuple[Pose, int], ...]


def virtual_stage(
    tiles: int = 16, views: int = 12, seed: int = 0, *, wall: str = "panels", lens_states: int = 1, wrong: float = 1.0
) -> VirtualStage:
    """A stage of so many tiles (a key of CUTS), of which something is wrong: wall and ceiling by some centimetres, and

    wall: "panels", every tile flat, off by some 3 mm and 0.2° by itself; "arc", the radius by some per cent; "cloth", bent
    smoothly by some 10 mm more. The hand-eye is not known, and in the show it is the identity. wrong: times all that.
    """
    rng = np.random.default_rng(seed)
    nominal = drawn(tiles)
    surfaces = tuple(_really(surface, counts, wall, wrong, rng) for surface, counts in zip(nominal.surfaces, CUTS[tiles]))
    rigs = tuple(_rig(state, nominal.rigs[0], wrong, rng) for state in range(lens_states))
    return VirtualStage(nominal, surfaces, rigs, tuple((pose, i % lens_states) for i, pose in enumerate(around(views, rng))))


def drawn(tiles: int = 16) -> Stage:
    """The stage as it was planned."""
    high, deep = WALL_M[1], CEILING_M[1]
    grid = [tuple(round(m / PITCH_M) for m in size) for size in (WALL_M, CEILING_M)]
    main = Surface("main", seen_by(Pose((1, 0, 0, 0), (0.0, 4.0, high / 2 + 0.1))), WALL_M, grid[0], Arc(RADIUS_M))
    up = pan_tilt_roll(0.0, math.pi / 2, 0.0)  # seen by whoever looks straight up
    ceiling = Surface("ceiling", seen_by(Pose(up, (0.0, 3.6 - deep / 2, high + 0.4))), CEILING_M, grid[1], Flat())
    rig = Rig(
        "A",
        Lens(20.5, SENSOR_MM),
        stage_from_world=Pose(pan_tilt_roll(math.radians(30), 0.0, 0.0), (0.4, -0.2, 0.05)),
    )
    cells = [tile for surface, counts in zip((main, ceiling), CUTS[tiles]) for tile in cut(surface, *counts)]
    return Stage(tuple(cells), (0.0, 0.0, 1.7), Box((-1.8, -1.5, 0.6), (1.8, 1.8, 2.4)), (rig,))


def show_toml(tiles: int = 16) -> str:
    """The show file of the stage as it was planned."""
    (columns, rows), (over, deep) = CUTS[tiles]
    return f"""name = "Virtual stage"
rate = "24"

[stage]
eye_m = [0.0, 0.0, 1.7]
zone = {{ min_m = [-1.8, -1.5, 0.6], max_m = [1.8, 1.8, 2.4] }}

[[stage.surface]]
name = "main"            # as it was drawn
shape = "arc"
radius_m = {RADIUS_M}
centre_m = [0.0, 4.0, 1.6]
size_m = [6.0, 3.0]
resolution_px = [2112, 1056]
tiles = [{columns}, {rows}]

[[stage.surface]]
name = "ceiling"
shape = "flat"
centre_m = [0.0, 2.1, 3.4]
tilt_deg = 90.0
size_m = [4.0, 3.0]
resolution_px = [1408, 1056]
tiles = [{over}, {deep}]

[[camera]]
id = "A"
sensor_mm = [28.25, 15.89]
focal_length_mm = 20.5
stage_from_world = {{ position_m = [0.4, -0.2, 0.05], pan_deg = 30.0 }}

[[place]]
name = "place"
file = "place.safetensors"
field_from_stage = {{ scale = 1.0 }}
"""


def around(views: int, rng: np.random.Generator) -> list[Pose]:
    """Places all over the zone and half a metre around it, near and far, low and high; half of them look at the wall, half at
    where it meets the ceiling; every third is level, the others are rolled."""
    poses = []
    for i in range(views):
        turn = 2 * math.pi * (i * 0.618 % 1)  # the golden angle: few views are spread as well as many
        reach = 0.6 + 0.4 * (i * 0.755 % 1)
        eye = (
            2.4 * reach * math.cos(turn) + float(rng.normal(0, 0.1)),
            0.1 + 1.9 * reach * math.sin(turn) + float(rng.normal(0, 0.1)),
            0.8 + 1.5 * (i * 0.57 % 1) + float(rng.normal(0, 0.05)),
        )
        high = i % 2 == 1
        target = (
            0.8 * (-1 if i % 4 < 2 else 1) - 0.3 * eye[0] + float(rng.normal(0, 0.2)),
            (2.6 if high else 4.0) + float(rng.normal(0, 0.1)),
            (3.2 if high else 1.6) + float(rng.normal(0, 0.1)),
        )
        roll_deg = (0.0, 25.0, -25.0)[i % 3] + float(rng.normal(0, 3))
        poses.append(looking_at(eye, target, math.radians(roll_deg)))
    return poses


def photographed(stage: VirtualStage, seed: int = 0, noise: Noise = Noise(), matches: int = 1500) -> list[View]:
    """What is found in each picture: about so many matches, of LEDs that face the camera, and the tracker's sample."""
    rng = np.random.default_rng([seed, 1])
    views = []
    for i, (pose, state) in enumerate(stage.cameras):
        rig = stage.rigs[state]
        seen = [_seen(surface, rig.lens, pose, matches, rng) for surface in stage.surfaces]
        share = min(1.0, matches / max(sum(len(led) for led, _ in seen), 1))
        found = []
        for surface, (led, picture) in zip(stage.surfaces, seen):
            kept = rng.random(len(led)) < share
            led, picture = led[kept], picture[kept] + rng.normal(0, noise.picture_px, (kept.sum(), 2))
            is_wrong = rng.random(len(led)) < noise.wrong
            picture[is_wrong] = rng.random((is_wrong.sum(), 2)) * PICTURE_PX
            if len(led):
                found.append(Matches(surface.name, led, picture, np.full(len(led), noise.picture_px)))
        sample = noisy(tracker_pose(rig, pose), noise.tracker_mm, noise.tracker_deg, rng)
        views.append(View(f"v{i:02}", PICTURE_PX, tuple(found), rig.camera_id, sample, str(state)))
    return views


def _really(surface: Surface, counts: tuple[int, int], wall: str, wrong: float, rng: np.random.Generator) -> Surface:
    moved = surface.stage_from_surface @ noisy(Pose(), 25 * wrong, 0.5 * wrong, rng)
    surface = msgspec.structs.replace(surface, stage_from_surface=moved)
    if isinstance(surface.shape, Arc):
        radius_m = surface.shape.radius_m * (1 + 0.03 * wrong * float(rng.normal()))
        surface = msgspec.structs.replace(surface, shape=Arc(radius_m))
    if wall == "arc":
        return surface
    flat = msgspec.structs.replace(surface, stage_from_surface=Pose())
    if wall == "cloth":
        return msgspec.structs.replace(surface, shape=_bent(flat, wrong, rng))
    columns, rows = counts
    corners = np.empty((rows, columns, 2, 2, 3))
    (width, height), (wide, high) = surface.resolution_px, np.array(surface.size_m) / counts / 2
    for row in range(rows):
        for column in range(columns):
            at = (column + np.array([0.5, 0.49, 0.51])) * width / columns, (row + np.array([0.5, 0.49, 0.51])) * height / rows
            middle = surface_points(flat, at[0][0], at[1][0])
            across = surface_points(flat, at[0][2], at[1][0]) - surface_points(flat, at[0][1], at[1][0])
            x = across / np.linalg.norm(across)
            axes = np.stack([x, [0, 1, 0], np.cross(x, [0, 1, 0])], 1)
            hung = noisy(Pose(), 3 * wrong, 0.2 * wrong, rng).matrix()
            corner = np.array([[[-wide, high, 0], [wide, high, 0]], [[-wide, -high, 0], [wide, -high, 0]]])
            corners[row, column] = middle + (corner @ hung[:3, :3].T + hung[:3, 3]) @ axes.T
    return msgspec.structs.replace(surface, shape=PositionMap(columns, rows, corners.astype("<f8").tobytes()))


def _bent(flat: Surface, wrong: float, rng: np.random.Generator, columns: int = 96, rows: int = 48) -> PositionMap:
    """Curved along its columns as it likes, by some 10 mm in waves of metres, and straight along its rows: a sheet of paper."""
    (wide, high), fine = flat.size_m, 16
    s = (np.arange(columns * fine + 1) / (columns * fine) - 0.5) * wide
    heading = flat.curvature_per_m * s
    for _ in range(3):
        waves, phase, mm = rng.uniform(0.4, 1.8), rng.uniform(0, 2 * np.pi), rng.normal(0, 6)
        rate = 2 * np.pi * waves / wide
        heading = heading + wrong * mm / 1000 * rate * np.cos(rate * s + phase)
    middle = (heading[1:] + heading[:-1]) / 2
    x, z = (np.concatenate([[0], np.cumsum(f(middle))])[::fine] * (wide / columns / fine) for f in (np.cos, np.sin))
    x, z = x - x[columns // 2], z - z[columns // 2]
    y = np.linspace(high / 2, -high / 2, rows + 1)
    points = np.stack(np.broadcast_arrays(x, y[:, None], z), -1)
    corners = np.stack([np.stack([points[:-1, :-1], points[:-1, 1:]], 2), np.stack([points[1:, :-1], points[1:, 1:]], 2)], 2)
    return PositionMap(columns, rows, corners.astype("<f8").tobytes())


def _rig(state: int, nominal: Rig, wrong: float, rng: np.random.Generator) -> Rig:
    """The same body; a longer and a nearer lens in every further state."""
    body = np.random.default_rng(7)  # one hand-eye for all states
    offset = tuple((np.array([0.035, -0.16, -0.09]) * wrong + body.normal(0, 0.01, 3) * wrong).tolist())
    hand_eye = Pose(pan_tilt_roll(*np.radians([2.5, -3.5, 1.5]) * wrong), offset)
    reach = math.hypot(*SENSOR_MM) / 2
    focal_mm = nominal.lens.focal_length_mm * (1 + 0.02 * wrong * float(rng.normal())) * 1.25**state
    bend = Distortion(
        (-0.06 * wrong / reach**2, 0.0, 0.012 * wrong / reach**4),
        (4e-4 * wrong / reach, -3e-4 * wrong / reach),
        model="Brown-Conrady U-D",
    )
    offset_mm = tuple((rng.normal(0, 0.08, 2) * wrong).tolist())
    lens = Lens(focal_mm, SENSOR_MM, offset_mm, entrance_pupil_m=0.03 * state, distortion=bend)
    return msgspec.structs.replace(nominal, lens=lens, tracker_from_camera=hand_eye)


def _seen(surface: Surface, lens: Lens, pose: Pose, about: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """LEDs of a grid whose place is drawn, (n, 2), and picture points; those in the picture that are not seen grazingly."""
    spacing_m = math.sqrt(0.6 * surface.size_m[0] * surface.size_m[1] / about)
    counts = [max(2, round(m / spacing_m)) for m in surface.size_m]
    u, v = np.meshgrid(*((np.arange(n) + rng.random()) / n * px for n, px in zip(counts, surface.resolution_px)))
    led = np.floor(np.stack([u.ravel(), v.ravel()], -1)) + 0.5
    points = surface_points(surface, *led.T)
    m = pose.matrix()
    picture = picture_of(lens, PICTURE_PX, points, m)
    e = 0.2
    across = surface_points(surface, led[:, 0] + e, led[:, 1]) - surface_points(surface, led[:, 0] - e, led[:, 1])
    up = surface_points(surface, led[:, 0], led[:, 1] - e) - surface_points(surface, led[:, 0], led[:, 1] + e)
    normal, toward = np.cross(across, up), m[:3, 3] - points
    facing = np.einsum("ni,ni->n", normal, toward) / np.linalg.norm(normal, axis=1) / np.linalg.norm(toward, axis=1)
    with np.errstate(invalid="ignore"):
        inside = ((picture > 8) & (picture < np.array(PICTURE_PX) - 8)).all(1) & (facing > math.cos(math.radians(GRAZING_DEG)))
    return led[inside], picture[inside]
