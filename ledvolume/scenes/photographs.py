"""The cameras of the photographs that a field was trained on, in the field's own frame: nerfstudio's transforms.json as plain data.

A frame's `transform_matrix` is camera_to_world with OpenGL's camera (X right, Y up, looking along -Z). The run's
dataparser_transforms.json takes *original* coordinates to the field. `ns-process-data` turns those before it writes
transforms.json and says so in `applied_transform` (and `applied_scale`), so a pose of the file is turned back first:

    field = (model_from_world · applied_transform⁻¹ · camera_to_world) / applied_scale

Lens models are nerfstudio's: OPENCV and its simpler kin (k1 k2 k3 k4 in powers of r², p1 p2), OPENCV_FISHEYE (equidistant,
k1 … k4 in powers of θ²), EQUIRECTANGULAR.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ledvolume.errors import ConfigError
from ledvolume.pose import Similarity

LARGEST_FILE = 256 << 20
NOT_A_ROTATION = 1e-2  # structure from motion writes 1e-6; a scaled or skewed camera is something else
WIDEST_TANGENT = 12.0  # 85° off the axis: no lens of a straight-line model sees further
PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


class Photograph(msgspec.Struct, frozen=True):
    """rotation (3, 3): columns are the camera's right, up and back axes in the field. centre (3,) field units. radial: k1 … k4."""

    name: str
    kind: Literal["perspective", "fisheye", "equirectangular"]
    rotation: np.ndarray
    centre: np.ndarray
    size_px: tuple[float, float]
    focal_px: tuple[float, float] = (0.0, 0.0)
    principal_px: tuple[float, float] = (0.0, 0.0)
    radial: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)

    @property
    def pixel_rad(self) -> float:
        """Angle of a pixel in the middle of the picture."""
        return 2 * np.pi / self.size_px[0] if self.kind == "equirectangular" else 1 / max(self.focal_px)


class _Lens(msgspec.Struct):
    """Of the file, or of a frame where it has its own."""

    w: float | None = None
    h: float | None = None
    fl_x: float | None = None
    fl_y: float | None = None
    cx: float | None = None
    cy: float | None = None
    k1: float | None = None
    k2: float | None = None
    k3: float | None = None
    k4: float | None = None
    p1: float | None = None
    p2: float | None = None
    camera_model: str | None = None


class _Frame(_Lens, kw_only=True):
    transform_matrix: list[list[float]]
    file_path: str = ""


class _Capture(_Lens, kw_only=True):
    frames: list[_Frame]
    applied_transform: list[list[float]] | None = None
    applied_scale: float = 1.0
    train_filenames: list[str] | None = None


def read_photographs(path: Path, model_from_world: Similarity) -> list[Photograph]:
    """The photographs of a transforms.json; only those that were trained on, where the file says which. Raises ConfigError."""
    found = _parsed(path)
    frames = [
        (number, frame)
        for number, frame in enumerate(found.frames)
        if found.train_filenames is None or frame.file_path in found.train_filenames
    ]
    if not frames:
        raise ConfigError(path, "frames", "photographs with their poses", f"{len(found.frames)} frames, none to train on")
    if not 0 < found.applied_scale < np.inf:
        raise ConfigError(path, "applied_scale", "a number above 0", found.applied_scale)
    turned = np.eye(4)
    if found.applied_transform is not None:
        turned = _rigid(found.applied_transform, path, "applied_transform")
    field_from_file = model_from_world.matrix() @ np.linalg.inv(turned)
    field_from_file[:3] /= found.applied_scale
    scale = np.linalg.norm(field_from_file[:3, 0])
    photographs = []
    for number, frame in frames:
        pose = field_from_file @ _rigid(frame.transform_matrix, path, f"frames[{number}].transform_matrix")
        photographs.append(_photograph(frame, found, pose[:3, :3] / scale, pose[:3, 3], path, f"frames[{number}]"))
    return photographs


def cameras_of_run(config: dict[str, Any]) -> Path | None:
    """transforms.json in the data folder that a run's config.yml names (checkpoint.plain_yaml), if it is still there."""
    pipeline = config.get("pipeline")
    manager = pipeline.get("datamanager") if isinstance(pipeline, dict) else None
    parser = manager.get("dataparser") if isinstance(manager, dict) else None
    for table in (config, manager, parser):
        parts = table.get("data") if isinstance(table, dict) else None
        if not (isinstance(parts, list) and parts and all(isinstance(part, str) and "\0" not in part for part in parts)):
            continue
        data = Path(*parts)
        file = data if data.suffix == ".json" else data / "transforms.json"
        if file.is_file():
            return file
    return None


def _parsed(path: Path) -> _Capture:
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise ConfigError(path, "file", f"at most {LARGEST_FILE} bytes", size)
        return msgspec.json.decode(path.read_bytes(), type=_Capture)
    except OSError as error:
        raise ConfigError(path, "file", "nerfstudio's transforms.json of the photographs", error.strerror) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(path, "file", "nerfstudio's transforms.json of the photographs", str(error)) from None


def _rigid(rows: list[list[float]], path: Path, key: str) -> np.ndarray:
    """(4, 4) of three or four rows."""
    if len(rows) not in (3, 4) or any(len(row) != 4 for row in rows):
        raise ConfigError(path, key, "3 or 4 rows of 4 numbers", rows)
    matrix = np.vstack([np.array(rows[:3]), (0.0, 0.0, 0.0, 1.0)])
    turn = matrix[:3, :3]
    if not np.abs(turn.T @ turn - np.eye(3)).max() < NOT_A_ROTATION or np.linalg.det(turn) < 0 or not np.isfinite(matrix).all():
        raise ConfigError(path, key, "a rotation and a position: columns of length 1 at right angles, right-handed", rows)
    return matrix


def _photograph(frame: _Frame, capture: _Capture, rotation: np.ndarray, centre: np.ndarray, path: Path, key: str) -> Photograph:
    def told(name: str, otherwise: float | str | None = None):
        values = (getattr(frame, name), getattr(capture, name), otherwise)
        return next((value for value in values if value is not None), None)

    def length(name: str, otherwise: float | None = None) -> float:
        value = told(name, otherwise)
        if value is None or not 0 < value < np.inf:
            raise ConfigError(path, f"{key}.{name}", "pixels, above 0, of the frame or of the file", value)
        return value

    model = told("camera_model", "PERSPECTIVE")
    size_px = length("w"), length("h")
    if model == "EQUIRECTANGULAR":
        return Photograph(frame.file_path, "equirectangular", rotation, centre, size_px)
    if model not in PERSPECTIVE and model != "OPENCV_FISHEYE":
        raise ConfigError(path, f"{key}.camera_model", f"one of {', '.join(PERSPECTIVE)}, OPENCV_FISHEYE, EQUIRECTANGULAR", model)
    focal_x = length("fl_x")
    bends = [told(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2")]
    return Photograph(
        frame.file_path,
        "fisheye" if model == "OPENCV_FISHEYE" else "perspective",
        rotation,
        centre,
        size_px,
        (focal_x, length("fl_y", focal_x)),
        (told("cx", size_px[0] / 2), told("cy", size_px[1] / 2)),
        tuple(bends[:4]),
        tuple(bends[4:]),
    )


def in_picture(photograph: Photograph, points: np.ndarray) -> np.ndarray:
    """Which points (n, 3) of the field lie in the picture, as if nothing stood before them: (n,) bool."""
    if photograph.kind == "equirectangular":
        return np.ones(len(points), bool)
    right, up, back = ((points - photograph.centre) @ photograph.rotation).T
    off_axis, ahead = np.hypot(right, up), -back
    if photograph.kind == "fisheye":
        reach = np.arctan2(off_axis, ahead)  # θ
    else:
        reach = np.divide(off_axis, ahead, out=np.full(len(points), np.inf), where=ahead > 0)  # tan θ
    is_seen = reach < _unfolded(photograph)
    reach = np.where(is_seen, reach, 0.0)
    bent = _polynomial(photograph.radial, reach * reach)
    across = np.maximum(off_axis, 1e-300)
    x, y = right / across * reach, -up / across * reach  # OpenCV's: y down
    p1, p2 = photograph.tangential
    u = x * bent + 2 * p1 * x * y + p2 * (reach * reach + 2 * x * x)
    v = y * bent + 2 * p2 * x * y + p1 * (reach * reach + 2 * y * y)
    column = u * photograph.focal_px[0] + photograph.principal_px[0]
    row = v * photograph.focal_px[1] + photograph.principal_px[1]
    width, height = photograph.size_px
    return is_seen & (column >= 0) & (column <= width) & (row >= 0) & (row <= height)


def _polynomial(radial: tuple[float, ...], square: np.ndarray) -> np.ndarray:
    k1, k2, k3, k4 = radial
    return 1 + square * (k1 + square * (k2 + square * (k3 + square * k4)))


def _unfolded(photograph: Photograph) -> float:
    """How far off the axis the lens model can be believed: until a point further out would come to lie further in."""
    reach = np.linspace(0, np.pi if photograph.kind == "fisheye" else WIDEST_TANGENT, 4097)
    bent = reach * _polynomial(photograph.radial, reach * reach)
    folds = np.flatnonzero(np.diff(bent) <= 0)
    return float(reach[folds[0]] if len(folds) else reach[-1])
