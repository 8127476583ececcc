"""nerfstudio's camera_path.json, as its viewer writes and `ns-render camera-path` reads it: frames at `fps`, each with
camera_to_world (4×4, OpenGL's camera: X right, Y up, looking along -Z) and `fov`, the vertical one in degrees.

camera_to_world is a list of 16, row after row, or 4 lists of 4, or text that holds either; older viewers wrote text column
after column (three.js), which shows: the last row of a pose is 0 0 0 1. Keyframes, from which the viewer made the frames,
are passed over.

Positions are in the NeRF's own frame, normalised by nerfstudio, not in metres: field_from_stage of a show's place says
where that lies on the stage. Without it they are taken as they are.
"""

import json
import math
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np

from ledvolume.camera import CameraSample, LensReading
from ledvolume.clock import frame_start_ns
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, Similarity, quaternion, rotation_matrix
from ledvolume.tracks.resample import resampled
from ledvolume.tracks.track import (
    RATES,
    Assumed,
    Progress,
    Track,
    checked_sample,
    frames_per_second,
    made_track,
    no_progress,
    only_camera,
)

LARGEST_FILE = 256 << 20
NOT_A_ROTATION = 1e-3  # what a pose's rotation may be off; files have 1e-7
USUAL_FOV_DEG = 50.0  # the viewer's
RENDER_PX = (1920, 1080)


class _Frame(msgspec.Struct):
    camera_to_world: list | str
    fov: float | None = None
    aspect: float | None = None


class _Path(msgspec.Struct):
    camera_path: list[_Frame]
    fps: float = 24.0
    camera_type: str = "perspective"


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """A track from 0 s on. Raises ConfigError."""
    found = _parsed(path)
    frames, rate = found.camera_path, assumed.rate or _rate(found.fps, path)
    keyed = [(frame.camera_to_world, f"camera_path[{index}].camera_to_world") for index, frame in enumerate(frames)]
    matrices = np.array([sixteen(given, path, key) for given, key in keyed]).reshape(-1, 4, 4)
    if not np.allclose(matrices[:, 3], (0, 0, 0, 1)):
        matrices = matrices.transpose(0, 2, 1)
    notes, samples = [], []
    field_from_stage = assumed.field_from_stage or Similarity()
    for index, (frame, matrix) in enumerate(zip(frames, matrices)):
        key = f"camera_path[{index}]"
        pose = stage_pose(matrix, field_from_stage, path, f"{key}.camera_to_world")
        at_ns = frame_start_ns(index, rate, 0)
        lens = _lens(frame, assumed, path, key) if found.camera_type == "perspective" else LensReading()
        samples.append(checked_sample(CameraSample(assumed.camera, at_ns, at_ns, pose, lens), path, key))
        if index % 1024 == 0:
            progress(index / len(frames))
    if assumed.field_from_stage is None:
        notes.append("positions are in the NeRF's own frame and units, not metres on a stage (--show, --field-from-stage)")
    if found.camera_type != "perspective":
        notes.append(f"the field of view is not used: camera_type {found.camera_type[:40]}")
    elif assumed.sensor_mm is None and any(frame.fov for frame in frames):
        notes.append("the field of view is not used: the sensor is not known (--sensor, --show)")
    return made_track(path, "nerfstudio", samples, rate, notes)


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """A path that `ns-render camera-path` renders. One without a lens gets the viewer's usual field of view."""
    only_camera(track, path, "a camera path")
    track = resampled(track, rate := frames_per_second(track, path))
    notes = list(track.notes[-1:]) if track.notes and track.notes[-1].startswith("resampled") else []
    field_from_stage = assumed.field_from_stage or Similarity()
    frames, without_lens = [], 0
    for sample in track.samples:
        sensor_mm = assumed.sensor_mm or sample.lens.sensor_mm
        fov_deg, aspect = USUAL_FOV_DEG, RENDER_PX[0] / RENDER_PX[1]
        if sensor_mm and sample.lens.focal_length_mm:
            fov_deg = math.degrees(2 * math.atan(sensor_mm[1] / 2 / sample.lens.focal_length_mm))
            aspect = sensor_mm[0] / sensor_mm[1]
        else:
            without_lens += 1
        matrix = _field_matrix(sample.world_from_tracker, field_from_stage)
        frames.append({"camera_to_world": matrix.ravel().tolist(), "fov": fov_deg, "aspect": aspect})
    if without_lens:
        notes.append(f"{without_lens} frames have a fov of {USUAL_FOV_DEG:.0f}°: no focal length, or no sensor (--sensor)")
    if assumed.field_from_stage is None:
        notes.append("positions are metres on the stage, not in a NeRF's frame (--show, --field-from-stage)")
    facts = {"camera_type": "perspective", "render_height": RENDER_PX[1], "render_width": RENDER_PX[0], "keyframes": []}
    facts |= {"fps": float(rate), "seconds": float(len(frames) / rate), "is_cycle": False, "smoothness_value": 0.0}
    path.write_text(json.dumps(facts | {"camera_path": frames}, indent=1) + "\n")
    return notes


def _parsed(path: Path) -> _Path:
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ConfigError(path, "file", f"at most {LARGEST_FILE} bytes", size)
        found = msgspec.json.decode(path.read_bytes(), type=_Path)
    except OSError as error:
        raise ConfigError(path, "track", "a file that can be read", error.strerror) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(path, "file", "a camera path of nerfstudio's viewer", str(error)) from None
    if not found.camera_path:
        raise ConfigError(path, "camera_path", "frames; from keyframes alone the viewer makes them", [])
    return found


def _rate(fps: float, path: Path) -> Fraction:
    if not 0 < fps <= 1000:
        raise ConfigError(path, "fps", "frames per second", fps)
    usual = [rate for rate in RATES if abs(rate - fps) < 1e-3]
    return usual[0] if usual else Fraction(fps).limit_denominator(1001)


def sixteen(given: list | str, path: Path, key: str) -> list[float]:
    """The numbers of a matrix, in the order of the file; of a 3×4 one with the row that it lacks. Raises ConfigError."""
    expected = "a 4×4 matrix: 16 numbers, or 4 lists of 4, or text that holds them"
    try:
        values = msgspec.json.decode(given) if isinstance(given, str) else given
        if isinstance(values, list) and values and isinstance(values[0], list):
            values = [value for row in values for value in row] if all(isinstance(row, list) for row in values) else []
        if not (isinstance(values, list) and len(values) in (12, 16) and all(type(v) in (int, float) for v in values)):
            raise ValueError(f"{str(given)[:80]} …")
        return [*map(float, values), *((0.0, 0.0, 0.0, 1.0) if len(values) == 12 else ())]
    except (ValueError, OverflowError, RecursionError) as error:  # msgspec.DecodeError is a ValueError
        raise ConfigError(path, key, expected, str(error)) from None


def stage_pose(matrix: np.ndarray, field_from_stage: Similarity, path: Path, key: str) -> Pose:
    """stage_from_camera of a camera_to_world (4, 4), OpenGL's axes, in the NeRF's own frame. Raises ConfigError."""
    turn = matrix[:3, :3]
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > NOT_A_ROTATION:
        raise ConfigError(path, key, "0 0 0 1 as the last row (or column) of every frame", matrix[3].tolist())
    if not np.abs(turn.T @ turn - np.eye(3)).max() < NOT_A_ROTATION or np.linalg.det(turn) < 0:
        raise ConfigError(path, key, "a rotation: columns of length 1 at right angles, right-handed", turn.tolist())
    field_turn, field_at = rotation_matrix(field_from_stage.pose.wxyz), np.array(field_from_stage.pose.position_m)
    ours = field_turn.T @ np.column_stack((turn[:, 0], -turn[:, 2], turn[:, 1]))
    position = field_turn.T @ (matrix[:3, 3] - field_at) / field_from_stage.scale
    return Pose(quaternion(ours), tuple(position.tolist()))


def _field_matrix(pose: Pose, field_from_stage: Similarity) -> np.ndarray:
    """camera_to_world of a pose on the stage."""
    field_turn = rotation_matrix(field_from_stage.pose.wxyz)
    ours = field_turn @ rotation_matrix(pose.wxyz)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack((ours[:, 0], ours[:, 2], -ours[:, 1]))
    matrix[:3, 3] = field_from_stage.scale * field_turn @ pose.position_m + np.array(field_from_stage.pose.position_m)
    return matrix


def _lens(frame: _Frame, assumed: Assumed, path: Path, key: str) -> LensReading:
    if frame.fov is None or assumed.sensor_mm is None:
        return LensReading()
    if not 0 < frame.fov < 180:
        raise ConfigError(path, f"{key}.fov", "degrees between 0 and 180", frame.fov)
    focal_mm = assumed.sensor_mm[1] / 2 / math.tan(math.radians(frame.fov) / 2)
    return LensReading(focal_length_mm=focal_mm, sensor_mm=assumed.sensor_mm)
