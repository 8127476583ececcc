"""What the steps of a calibration hand to one another: shots (pictures taken) and views (what was found in them).

Pictures: continuous coordinates, x right and y down, (0, 0) is the top left corner of the picture and pixel centres are at
+ 0.5, as LED coordinates are (stage.py). OpenCV counts from the centre of the first pixel: add 0.5 to what it says.
"""

from pathlib import Path

import msgspec
import numpy as np

from ledvolume.errors import ConfigError
from ledvolume.outputs.whole_file import write_whole
from ledvolume.pose import Pose


class Shot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One picture. view: pictures of one view were taken from one place (Gray code needs a series; a coded dot pattern one).

    picture: file, relative to the folder. pattern: what the wall showed (ledvolume/patterns.py). world_from_tracker: the
    tracker's sample, None without a tracker. lens_state: pictures of one lens state have one focal length and one
    distortion; encoders where they are known.
    """

    picture: str
    view: str
    pattern: str
    camera_id: str = ""
    world_from_tracker: Pose | None = None
    captured_at_ns: int = 0
    lens_state: str = "0"
    zoom_encoder: float | None = None
    focus_encoder: float | None = None


class Matches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """LED coordinates of one surface and where they are in the picture: (n, 2), (n, 2), and the picture's sigma (n,) px."""

    surface: str
    led_px: np.ndarray
    picture_px: np.ndarray
    sigma_px: np.ndarray


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The wall from one place. thrown_away: how many candidates were not believed, by reason. is_held_out: judged, not solved."""

    name: str
    resolution_px: tuple[int, int]
    matches: tuple[Matches, ...]
    camera_id: str = ""
    world_from_tracker: Pose | None = None
    lens_state: str = "0"
    zoom_encoder: float | None = None
    focus_encoder: float | None = None
    thrown_away: dict[str, int] = {}
    is_held_out: bool = False

    @property
    def count(self) -> int:
        return sum(len(matches.led_px) for matches in self.matches)


def save(file: Path, values: list[Shot] | list[View]) -> None:
    """shots.json, views.json. The file is always whole: what is killed leaves what was there before. Raises OutputError."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(values, enc_hook=_as_list), indent=1) + b"\n")


def load_shots(file: Path) -> list[Shot]:
    """Raises ConfigError."""
    return _load(file, list[Shot])


def load_views(file: Path) -> list[View]:
    """Raises ConfigError."""
    return _load(file, list[View])


def _load(file: Path, kind):
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind, dec_hook=_as_array)
    except OSError as error:
        raise ConfigError(file, "file", "a readable file of a calibration", error.strerror) from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(file, "file", "shots or views as ledvolume writes them", str(error)) from error


def _as_list(value):
    if isinstance(value, np.ndarray):
        return np.round(value, 6).tolist()
    raise NotImplementedError(f"a {type(value).__name__} in a calibration's file")


def _as_array(kind, value):
    array = np.asarray(value, float)
    if not np.isfinite(array).all():
        raise ValueError("expected finite numbers")
    return array
