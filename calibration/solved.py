"""What a calibration found: where the LEDs, rigs, lenses and cameras are, and how well each is known. The file solved.json.

Every sigma is one standard deviation and comes from the covariance of the whole solve; 1.96 of them hold 95 % of the time. None:
the value was held, not solved. Positions are of the frame that `gauge` names; the axes of a sigma are those of its value.
"""

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ledvolume.errors import ConfigError
from ledvolume.lens import Lens
from ledvolume.pose import Pose, Vec3
from ledvolume.stage import Surface

FILE_NAME = "solved.json"

Matrix3 = tuple[Vec3, Vec3, Vec3]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value of the file."""


class PoseSigma(_Value):
    """Of a pose a_from_b: its translation, and its rotation as a small turn about the axes of a."""

    position_mm: Vec3
    rotation_deg: Vec3


class Samples(_Value):
    """LEDs across a surface: LED coordinates (n, 2), stage metres (n, 3), covariance (n, 3, 3) mm², and sigma_mm (n,), the
    root of its trace: how far an LED may be from where it is said to be, RMS."""

    led_px: np.ndarray
    position_m: np.ndarray
    covariance_mm2: np.ndarray
    sigma_mm: np.ndarray


class SolvedTile(_Value):
    """What was seen of a tile. parallax_deg: the widest angle between two cameras, as seen from its middle. sigma_mm: None for
    one that was kept where the show has it."""

    name: str
    matches: int
    views: int
    parallax_deg: float
    sigma_mm: float | None


class SolvedSurface(_Value):
    """A surface where it was found. rms_px: of the residuals in the pictures; rms_mm: of the same, on the wall.

    moved_mm: how far its LEDs are from where the show had them, median and largest. sigma_median_mm, sigma_worst_mm: of the
    samples, which leave out tiles that were kept where the show has them.
    """

    surface: Surface
    sigma_median_mm: float
    sigma_worst_mm: float
    rms_px: float
    rms_mm: float
    moved_mm: tuple[float, float]
    samples: Samples
    tiles: tuple[SolvedTile, ...]


class SolvedLens(_Value):
    """The lens in one lens state. lens.entrance_pupil_m is measured from the rig's tracker_from_camera, as in a show.

    distortion_sigma_px: of the place of the worst point of the picture's border, about its best similar picture.
    """

    lens_state: str
    lens: Lens
    zoom_encoder: float | None = None
    focus_encoder: float | None = None
    focal_length_sigma_mm: float | None = None
    projection_offset_sigma_mm: tuple[float, float] | None = None
    entrance_pupil_sigma_mm: float | None = None
    distortion_sigma_px: float | None = None


class SolvedRig(_Value):
    """One camera. tracker_rms_mm, tracker_rms_deg: how far the tracker's samples are from what the pictures say."""

    camera_id: str
    stage_from_world: Pose
    tracker_from_camera: Pose
    lenses: tuple[SolvedLens, ...]
    stage_from_world_sigma: PoseSigma | None = None
    tracker_from_camera_sigma: PoseSigma | None = None
    tracker_rms_mm: float | None = None
    tracker_rms_deg: float | None = None


class Residuals(_Value):
    """Found minus solved, of one surface in one view, at most some hundred: LED coordinates (n, 2); off_px (n, 2) in the
    picture; off_mm (n, 2) the same on the wall, along columns and rows; is_rejected (n,)."""

    surface: str
    led_px: np.ndarray
    off_px: np.ndarray
    off_mm: np.ndarray
    is_rejected: np.ndarray


class SolvedView(_Value):
    """Where a picture was taken from (the entrance pupil), with the eye's covariance in stage axes, mm².

    A view that was held out has had no say in the rest: its pose alone was found, against the solved wall and lens.
    tracker_mm, tracker_deg: from there to where rig and tracker say that it was. Rejected matches count in no RMS.
    """

    name: str
    camera_id: str
    lens_state: str
    stage_from_camera: Pose
    eye_covariance_mm2: Matrix3
    rotation_sigma_deg: Vec3
    is_held_out: bool
    matches: int
    rejected: int
    rms_px: float
    median_px: float
    worst_px: float
    rms_mm: float
    residuals: tuple[Residuals, ...]
    tracker_mm: float | None = None
    tracker_deg: float | None = None


class Solved(_Value):
    """The file. ledvolume_solved: its version. show: the show file it began with. solved, held: in words.

    gauge: what the stage's frame hangs on. sigma_scale: by how much the pictures' residuals are larger than the matches'
    sigmas promised; the sigmas here have it in them. warnings: what a person should know before the result is used.
    """

    ledvolume_solved: Literal[1]
    show: str
    gauge: str
    solved: tuple[str, ...]
    held: tuple[str, ...]
    surfaces: tuple[SolvedSurface, ...]
    rigs: tuple[SolvedRig, ...]
    views: tuple[SolvedView, ...]
    matches: int
    rejected: int
    rms_px: float
    rms_mm: float
    sigma_scale: float
    unknowns: int
    iterations: int
    seconds: float
    warnings: tuple[str, ...] = ()


def save_solved(file: Path, solved: Solved) -> None:
    """Written beside and put in its place when it is whole."""
    text = msgspec.json.format(msgspec.json.encode(solved, enc_hook=_as_list), indent=1) + b"\n"
    beside = file.with_name(file.name + ".part")
    beside.write_bytes(text)
    beside.replace(file)


def load_solved(file: Path) -> Solved:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Solved, dec_hook=_as_array)
    except OSError as error:
        raise ConfigError(file, "file", f"a readable {FILE_NAME}, as calibrate solve writes it", error.strerror) from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(file, "file", "what calibrate solve writes", str(error)) from error


def _as_list(value):
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype == bool else np.round(value.astype(float), 9).tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a {type(value).__name__} in {FILE_NAME}")


def _as_array(kind, value):
    array = np.asarray(value)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "if" and array.size:
        raise ValueError("expected numbers")
    if not np.isfinite(array.astype(float)).all():
        raise ValueError("expected finite numbers")
    return array.astype(float)
