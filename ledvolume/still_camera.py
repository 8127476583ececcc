"""The camera of a still, from a file: a frame of nerfstudio's camera_path.json or transforms.json, or a pose of our own.

    {"camera_path": […], …}   nerfstudio's viewer: tracks/nerfstudio_path.py; `fov` is the vertical one
    {"frames": […], …}        transforms.json: camera_to_world (OpenGL's camera) in the photographs' frame, lens in pixels as
                              nerfstudio reads it (nerfstudio_dataparser.py, cameras.py of 1.1.5): picture from 0 to w, 0 to h
    {"position_m": …, …}      ours: CameraFile

The first two lie in the field, whatever the show; ours lies on the stage, or without a show in the field.
"""

import math
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from ledvolume.camera import Camera
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion, Lens
from ledvolume.moves import looking_at
from ledvolume.offline import view_size
from ledvolume.pose import Pose, Similarity, canonical, pan_tilt_roll
from ledvolume.show_file import FocalLength, Millimetres, PoseTable, SensorSide
from ledvolume.struct_file import convert
from ledvolume.tracks.nerfstudio_path import RENDER_PX, USUAL_FOV_DEG, sixteen, stage_pose

LARGEST_FILE = 256 << 20
SENSOR_WIDTH_MM = 36.0  # of lenses that are told as angles or in pixels; only proportions show
PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")

Angle = Annotated[float, msgspec.Meta(gt=0, lt=180)]
Pixels = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Rigid = tuple[tuple[float, float, float, float], ...]


class CameraFile(PoseTable):
    """A pose as in a show, or look: the point that it looks at, level. fov_deg: vertical; or a focal length and a sensor."""

    look: tuple[float, float, float] | None = None
    fov_deg: Angle | None = None
    focal_length_mm: FocalLength | None = None
    sensor_mm: tuple[SensorSide, SensorSide] | None = None
    projection_offset_mm: tuple[Millimetres, Millimetres] = (0.0, 0.0)


class _Path(msgspec.Struct):
    """What camera_path.json says beside its poses."""

    camera_path: list[dict]
    camera_type: str = "perspective"
    render_width: Pixels | None = None
    render_height: Pixels | None = None


class _Intrinsics(msgspec.Struct):
    """Of a transforms.json; a frame may have its own."""

    w: Pixels | None = None
    h: Pixels | None = None
    fl_x: Pixels | None = None
    fl_y: Pixels | None = None
    cx: float | None = None
    cy: float | None = None
    camera_angle_x: Annotated[float, msgspec.Meta(gt=0, lt=math.pi)] | None = None
    camera_model: str = "OPENCV"
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0


def is_photographs_file(raw: dict) -> bool:
    """Whether a camera file is a transforms.json, whose frame is the photographs'."""
    return "frames" in raw


def read_camera_file(path: Path) -> dict:
    """What a JSON file holds. Raises ConfigError."""
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ConfigError(path, "file", f"at most {LARGEST_FILE} bytes", size)
        raw = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(path, "camera", "a file that can be read", error.strerror) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(path, "file", "a camera as JSON", str(error)) from None
    if not isinstance(raw, dict):
        raise ConfigError(path, "file", "a JSON object", type(raw).__name__)
    return raw


def camera_of_file(
    path: Path,
    raw: dict,
    frame: int,
    field_from_stage: Similarity,
    size_px: tuple[int, int] | None,
    lens: Lens | None,
    model_from_world: Similarity | None = None,
) -> tuple[Camera, tuple[int, int]]:
    """The camera, and the size of its picture where none was asked for. Raises ConfigError.

    lens: of the command line or the show, instead of the file's for camera_path.json, for want of the file's for ours.
    model_from_world: where the photographs' frame of a transforms.json lies in the field.
    """
    if "camera_path" in raw:
        return _of_path(path, raw, frame, field_from_stage, size_px, lens)
    if is_photographs_file(raw):
        return _of_photograph(path, raw, frame, field_from_stage, size_px, lens, model_from_world or Similarity())
    if frame:
        raise ConfigError(path, "--frame", "0: the file holds one camera", frame)
    table = convert(path, raw, CameraFile)
    if table.fov_deg is not None:
        if table.focal_length_mm is not None:
            raise ConfigError(path, "fov_deg", "a field of view or a focal length", "both")
        lens = lens_of_fov(table.fov_deg, size_px or RENDER_PX)
    elif table.focal_length_mm is not None or table.sensor_mm is not None:
        sensor_mm, focal_mm = (
            table.sensor_mm or (lens and lens.sensor_mm),
            table.focal_length_mm or (lens and lens.focal_length_mm),
        )
        if not (sensor_mm and focal_mm):
            raise ConfigError(path, "sensor_mm", "focal_length_mm and sensor_mm, or a show whose camera has them", "one of them")
        lens = Lens(focal_mm, sensor_mm, table.projection_offset_mm)
    if lens is None:
        raise ConfigError(path, "fov_deg", "a lens: fov_deg, or focal_length_mm and sensor_mm, or --fov, or --show", "nothing")
    return Camera(_pose_of(path, table), lens, "measured", 0), checked_size(lens, size_px)


def lens_of_fov(fov_deg: float, size_px: tuple[int, int]) -> Lens:
    """The lens of a vertical field of view, with square pixels."""
    height_mm = SENSOR_WIDTH_MM * size_px[1] / size_px[0]
    return Lens(height_mm / 2 / math.tan(math.radians(fov_deg) / 2), (SENSOR_WIDTH_MM, height_mm))


def checked_size(lens: Lens, size_px: tuple[int, int] | None) -> tuple[int, int]:
    """The size that was asked for, if it has the sensor's proportions within a pixel; else one that has. Raises ConfigError."""
    if size_px is None:
        return view_size(lens)
    width_mm, height_mm = lens.sensor_mm
    if abs(size_px[0] * height_mm / width_mm - size_px[1]) > 1:
        fitting = f"{size_px[0]}x{round(size_px[0] * height_mm / width_mm)}"
        raise ConfigError("command line", "--size", f"the picture's proportions, such as {fitting}", "{}x{}".format(*size_px))
    return size_px


def _pose_of(path: Path, table: CameraFile) -> Pose:
    turns = (table.pan_deg, table.tilt_deg, table.roll_deg)
    if (table.look is not None) + (table.wxyz is not None) + any(turns) > 1:
        raise ConfigError(path, "look", "one of look, wxyz, and pan, tilt, roll", "several")
    if table.look is not None:
        if table.look == table.position_m:
            raise ConfigError(path, "look", "another point than position_m", table.look)
        return looking_at(table.position_m, table.look)
    if table.wxyz is None:
        return Pose(pan_tilt_roll(*map(math.radians, turns)), table.position_m)
    try:
        return Pose(canonical(table.wxyz), table.position_m)
    except ValueError as error:
        raise ConfigError(path, "wxyz", "a quaternion", str(error)) from None


def _of_path(
    path: Path, raw: dict, frame: int, field_from_stage: Similarity, size_px: tuple[int, int] | None, lens: Lens | None
) -> tuple[Camera, tuple[int, int]]:
    found = _told(path, raw, _Path)
    if found.camera_type != "perspective":
        raise ConfigError(path, "camera_type", "perspective", found.camera_type)
    given, key = _numbered(path, found.camera_path, "camera_path", frame), f"camera_path[{frame}]"
    named = enumerate(one.get("camera_to_world") for one in found.camera_path)
    matrices = np.array([sixteen(one, path, f"camera_path[{i}].camera_to_world") for i, one in named]).reshape(-1, 4, 4)
    is_by_columns = not np.allclose(matrices[:, 3], (0, 0, 0, 1))  # as older viewers wrote
    matrix = matrices[frame].T if is_by_columns else matrices[frame]
    pose = stage_pose(matrix, field_from_stage, path, f"{key}.camera_to_world")
    if lens is None:
        if size_px is None and found.render_width and found.render_height:
            size_px = round(found.render_width), round(found.render_height)
        size_px, fov_deg = size_px or RENDER_PX, given.get("fov", USUAL_FOV_DEG)
        if not (isinstance(fov_deg, int | float) and 0 < fov_deg < 180):
            raise ConfigError(path, f"{key}.fov", "degrees between 0 and 180", fov_deg)
        lens = lens_of_fov(fov_deg, size_px)
    return Camera(pose, lens, "measured", 0), checked_size(lens, size_px)


def _of_photograph(
    path: Path,
    raw: dict,
    frame: int,
    field_from_stage: Similarity,
    size_px: tuple[int, int] | None,
    lens: Lens | None,
    model_from_world: Similarity,
) -> tuple[Camera, tuple[int, int]]:
    frames = raw["frames"]
    if not isinstance(frames, list) or not all(isinstance(one, dict) for one in frames):
        raise ConfigError(path, "frames", "a list of frames", type(frames).__name__)
    given, key = _numbered(path, frames, "frames", frame), f"frames[{frame}].transform_matrix"
    world_from_camera = np.array(sixteen(given.get("transform_matrix"), path, key)).reshape(4, 4)
    # What ns-process-data did to COLMAP's frame is in the file's poses, and in dataparser_transforms.json once more.
    applied = np.array(sixteen(raw.get("applied_transform", np.eye(4).tolist()), path, "applied_transform")).reshape(4, 4)
    stage_pose(applied, Similarity(), path, "applied_transform")
    applied_scale = raw.get("applied_scale", 1.0)
    if not (isinstance(applied_scale, int | float) and 0 < applied_scale < math.inf):
        raise ConfigError(path, "applied_scale", "a number above 0", applied_scale)
    rigid = Similarity(
        Pose(model_from_world.pose.wxyz, tuple(np.divide(model_from_world.pose.position_m, model_from_world.scale)))
    )
    matrix = rigid.matrix() @ np.linalg.inv(applied) @ world_from_camera
    matrix[:3, 3] *= model_from_world.scale / applied_scale
    pose = stage_pose(matrix, field_from_stage, path, key)
    if lens is None:
        lens, photograph_px = _photograph_lens(
            path, {k: v for k, v in (raw | given).items() if k in _Intrinsics.__struct_fields__}
        )
        return Camera(pose, lens, "measured", 0), checked_size(lens, size_px) if size_px else photograph_px
    return Camera(pose, lens, "measured", 0), checked_size(lens, size_px)


def _photograph_lens(path: Path, raw: dict) -> tuple[Lens, tuple[int, int]]:
    """The lens of a photograph, and its size. nerfstudio counts distortion in units of the focal length, up to r⁸."""
    found = _told(path, raw, _Intrinsics)
    if found.camera_model not in PERSPECTIVE:
        raise ConfigError(path, "camera_model", f"one of {', '.join(PERSPECTIVE)}, or --fov", found.camera_model)
    if not (found.w and found.h):
        raise ConfigError(path, "w", "w and h, the size of the photographs in pixels, or --fov and --size", "nothing")
    fl_x = found.fl_x or (found.camera_angle_x and found.w / 2 / math.tan(found.camera_angle_x / 2))
    if not fl_x:
        raise ConfigError(path, "fl_x", "fl_x or camera_angle_x, or --fov", "nothing")
    fl_y = found.fl_y or fl_x
    f = SENSOR_WIDTH_MM / found.w * fl_x
    mm_x, mm_y = f / fl_x, f / fl_y
    cx, cy = (half if c is None else c for c, half in ((found.cx, found.w / 2), (found.cy, found.h / 2)))
    radial = (found.k1 / f**2, 0.0, found.k2 / f**4, 0.0, found.k3 / f**6, 0.0, found.k4 / f**8)
    tangential = (found.p1 / f, found.p2 / f)
    distortion = Distortion()
    if any(radial) or any(tangential):
        distortion = Distortion(radial, tangential, model="Brown-Conrady U-D")
    offset_mm = mm_x * (cx - found.w / 2), mm_y * (cy - found.h / 2)
    lens = Lens(f, (SENSOR_WIDTH_MM, mm_y * found.h), offset_mm, distortion=distortion)
    return lens, (round(found.w), round(found.h))


def _numbered(path: Path, frames: list, name: str, frame: int):
    if not 0 <= frame < len(frames):
        raise ConfigError(path, "--frame", f"a frame of {name} that is there, from 0 to {len(frames) - 1}", frame)
    return frames[frame]


def _told(path: Path, raw: dict, kind: type):
    """Of a file of another program: what it has beyond our keys is its own."""
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(path, "file", "a camera file of nerfstudio", str(error)) from None
