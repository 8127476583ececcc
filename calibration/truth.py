"""How a stage really is, where its show file is somewhat wrong: for calibrations of walls that are simulated.

truth.json lies in the folder of such a calibration, beside what a photographer would bring home. No step of a calibration reads
it; whoever judges one does.
"""

import math
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from calibration.photograph import Body, Room
from ledvolume.camera import LensReading, Rig, lens_of
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion
from ledvolume.pose import Pose, canonical, from_rotation_vector, multiply
from ledvolume.stage import Arc, PositionMap, Stage, Surface, surface_points

FILE_NAME = "truth.json"


class Deviations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the truth is from the show file: standard deviations of each coordinate, of normal distributions.

    wall: of each surface; radius_percent: of an arc's. panel: of every panel_m of a surface by itself, on top of that; 0: they
    hang as drawn. hand_eye: of tracker_from_camera. focal_percent, offset_mm: of the lens' focal length and projection
    offset; bend_percent: how much it moves the corners of the picture. tracker: of every sample.
    """

    wall_mm: float = 20.0
    wall_deg: float = 0.5
    radius_percent: float = 1.0
    panel_mm: float = 0.0
    panel_deg: float = 0.0
    panel_m: float = 0.5
    hand_eye_mm: float = 15.0
    hand_eye_deg: float = 0.7
    focal_percent: float = 1.0
    offset_mm: float = 0.1
    bend_percent: float = 1.0
    tracker_mm: float = 0.3
    tracker_deg: float = 0.02


class Truth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. rig: with the true hand-eye and lens; its stage_from_world is the show's, which says where the stage is.

    cameras: view → stage_from_camera at the entrance pupil, where each was really taken from.
    """

    ledvolume_truth: Literal[1]
    show: str
    seed: int
    deviations: Deviations
    surfaces: tuple[Surface, ...]
    rig: Rig
    cameras: dict[str, Pose]
    body: Body
    room: Room
    led_fill: float


def deviating_surface(surface: Surface, by: Deviations, rng: np.random.Generator) -> Surface:
    """The surface as it might stand: moved and turned about its middle, an arc of another radius, panels that hang askew."""
    shape = surface.shape
    if isinstance(shape, Arc):
        shape = Arc(shape.radius_m * (1 + by.radius_percent / 100 * float(rng.standard_normal())))
    moved = surface.stage_from_surface @ noisy(Pose(), by.wall_mm, by.wall_deg, rng)
    surface = msgspec.structs.replace(surface, stage_from_surface=moved, shape=shape)
    return msgspec.structs.replace(surface, shape=_panels(surface, by, rng)) if by.panel_mm or by.panel_deg else surface


def deviating_rig(rig: Rig, by: Deviations, rng: np.random.Generator) -> Rig:
    """The rig with its true hand-eye and lens; without a lens table, whose lens is that at no encoder's reading."""
    lens = lens_of(rig, LensReading())
    corner_mm = math.hypot(*lens.sensor_mm) / 2
    focal, dx, dy, bend = rng.standard_normal(4).tolist()
    distortion = lens.distortion
    if by.bend_percent:
        distortion = Distortion((bend * by.bend_percent / 100 / corner_mm**2,), model="Brown-Conrady U-D")
    lens = msgspec.structs.replace(
        lens,
        focal_length_mm=lens.focal_length_mm * (1 + focal * by.focal_percent / 100),
        projection_offset_mm=tuple(v + d * by.offset_mm for v, d in zip(lens.projection_offset_mm, (dx, dy))),
        distortion=distortion,
    )
    hand_eye = noisy(rig.tracker_from_camera, by.hand_eye_mm, by.hand_eye_deg, rng)
    return msgspec.structs.replace(rig, lens=lens, lens_table=None, tracker_from_camera=hand_eye)


def noisy(pose: Pose, mm: float, deg: float, rng: np.random.Generator) -> Pose:
    """A pose a_from_b, moved along a's axes and turned about b's, each by a normal deviation."""
    shift, turn = rng.standard_normal(3) * mm / 1000, np.radians(rng.standard_normal(3) * deg)
    position_m = tuple(float(p + s) for p, s in zip(pose.position_m, shift))
    return Pose(canonical(multiply(pose.wxyz, from_rotation_vector(tuple(turn.tolist())))), position_m)


def tracker_pose(rig: Rig, stage_from_camera: Pose) -> Pose:
    """world_from_tracker of a camera whose entrance pupil is there."""
    tracker_from_pupil = rig.tracker_from_camera @ Pose(position_m=(0.0, rig.lens.entrance_pupil_m, 0.0))
    return rig.stage_from_world.inverse() @ stage_from_camera @ tracker_from_pupil.inverse()


def with_surfaces(stage: Stage, surfaces: tuple[Surface, ...]) -> Stage:
    """The stage, cut into the same tiles, with these surfaces by their names."""
    named = {surface.name: surface for surface in surfaces}
    tiles = tuple(msgspec.structs.replace(tile, surface=named[tile.surface.name]) for tile in stage.tiles)
    return msgspec.structs.replace(stage, tiles=tiles)


def led_distances_mm(surface: Surface, other: Surface, most_across: int = 200) -> np.ndarray:
    """(n,) how far each LED of one surface is from the same LED of another; of large surfaces every second, third, … one."""
    columns, rows = (np.arange(0, size, -(-size // most_across)) + 0.5 for size in surface.resolution_px)
    u, v = np.meshgrid(columns, rows)
    return 1000 * np.linalg.norm(surface_points(surface, u, v) - surface_points(other, u, v), axis=-1).ravel()


def save_truth(file: Path, truth: Truth) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(truth), indent=1) + b"\n")


def load_truth(file: Path) -> Truth:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Truth)
    except OSError as error:
        raise ConfigError(file, "file", "a readable truth.json, as calibrate simulate writes it", error.strerror) from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(file, "file", "what calibrate simulate writes", str(error)) from error


def _panels(surface: Surface, by: Deviations, rng: np.random.Generator) -> PositionMap:
    columns, rows = (_divisor(px, m / by.panel_m) for px, m in zip(surface.resolution_px, surface.size_m))
    (width, height), flat = surface.resolution_px, msgspec.structs.replace(surface, stage_from_surface=Pose())
    corners = np.empty((rows, columns, 2, 2, 3))
    for row in range(rows):
        for column in range(columns):
            u, v = np.meshgrid((column + np.array([0, 1])) * width / columns, (row + np.array([0, 1])) * height / rows)
            points = surface_points(flat, u, v)
            middle, hung = points.mean((0, 1)), noisy(Pose(), by.panel_mm, by.panel_deg, rng).matrix()
            corners[row, column] = (points - middle) @ hung[:3, :3].T + middle + hung[:3, 3]
    return PositionMap(columns, rows, corners.astype("<f8").tobytes())


def _divisor(pixels: int, wanted: float) -> int:
    """The number of cells nearest to `wanted` that so many pixels divide into."""
    return min((n for n in range(1, pixels + 1) if pixels % n == 0), key=lambda n: abs(n - wanted))
