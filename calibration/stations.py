"""Pictures of a board sorted by what the lens was at: the folders that `calibrate lens` reads.

a folder with stations.toml     [[station]] pictures = "wide-near", zoom_encoder, focus_encoder, focus_distance_m ("infinity"
                                or metres), entrance_pupil_mm, one table for each station
a folder with shots.json        as `calibrate capture` writes it: pictures by their encoders, with the tracker's poses
a folder of folders             named for their station: zoom0.25_focus0.5, zoom0_focus1_distance3m
a folder of pictures            one station; its encoders by option
"""

import re
import tomllib
from pathlib import Path

import msgspec

from calibration.picture_sources import SUFFIXES, natural
from calibration.session import load_shots
from ledvolume.errors import ConfigError
from ledvolume.lens_table import Encoder, FocusDistance, PupilOffset
from ledvolume.pose import Pose
from ledvolume.struct_file import convert

_NAME = re.compile(r"zoom([\d.]+)[_-]focus([\d.]+)(?:[_-]distance(infinity|[\d.]+m))?", re.ASCII)


class StationTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of stations.toml. pictures: a folder, from that of the file."""

    pictures: str
    zoom_encoder: Encoder = 0.0
    focus_encoder: Encoder = 0.0
    focus_distance_m: FocusDistance | str | None = None
    entrance_pupil_mm: PupilOffset | None = None


class StationsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """stations.toml."""

    station: list[StationTable]


class Pictures(msgspec.Struct, frozen=True):
    """The pictures of one station, and what is known of it. world_from_tracker: of each picture, where there is a tracker."""

    name: str
    files: tuple[Path, ...]
    zoom_encoder: float = 0.0
    focus_encoder: float = 0.0
    focus_distance_m: float | str | None = None
    entrance_pupil_mm: float | None = None
    world_from_tracker: tuple[Pose, ...] = ()


def stations_in(folder: Path, zoom_encoder: float = 0.0, focus_encoder: float = 0.0) -> list[Pictures]:
    """The stations of a folder, in the order of their encoders. Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(folder, "FOLDER", "a folder with pictures of a board", "no such folder")
    if (folder / "stations.toml").exists():
        found = _listed(folder)
    elif (folder / "shots.json").exists():
        found = _shot(folder)
    elif pictures := _pictures_in(folder):
        found = [Pictures(folder.name, pictures, zoom_encoder, focus_encoder)]
    else:
        found = [_named(sub) for sub in sorted(folder.iterdir()) if sub.is_dir() and _pictures_in(sub)]
    if not found:
        raise ConfigError(folder, "FOLDER", f"pictures ({', '.join(SUFFIXES)}), or folders of them", "none")
    return sorted(found, key=lambda station: (station.zoom_encoder, station.focus_encoder))


def _listed(folder: Path) -> list[Pictures]:
    file = folder / "stations.toml"
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", "TOML", str(error)) from None
    found = []
    for i, table in enumerate(convert(file, raw, StationsFile).station):
        distance = table.focus_distance_m
        if isinstance(distance, str) and distance != "infinity":
            raise ConfigError(file, f"station[{i}].focus_distance_m", 'metres or "infinity"', distance)
        files = _pictures_in(folder / table.pictures)
        if not files:
            raise ConfigError(file, f"station[{i}].pictures", "a folder with pictures", table.pictures)
        known = (table.zoom_encoder, table.focus_encoder, distance, table.entrance_pupil_mm)
        found.append(Pictures(table.pictures, files, *known))
    return found


def _shot(folder: Path) -> list[Pictures]:
    by_state: dict[tuple, list] = {}
    for shot in load_shots(folder / "shots.json"):
        by_state.setdefault((shot.zoom_encoder or 0.0, shot.focus_encoder or 0.0, shot.lens_state), []).append(shot)
    found = []
    for (zoom, focus, state), shots in by_state.items():
        poses = tuple(shot.world_from_tracker for shot in shots if shot.world_from_tracker is not None)
        files = tuple(folder / shot.picture for shot in shots)
        found.append(Pictures(state, files, zoom, focus, world_from_tracker=poses if len(poses) == len(shots) else ()))
    return found


def _named(folder: Path) -> Pictures:
    name = _NAME.fullmatch(folder.name)
    try:
        zoom, focus = float(name[1]), float(name[2])
        distance = name[3] if name[3] in (None, "infinity") else float(name[3][:-1])
    except (TypeError, ValueError):
        zoom = focus = distance = -1
    if not (0 <= zoom <= 1 and 0 <= focus <= 1):
        expected = "a name such as zoom0.25_focus0.5 or zoom0_focus1_distance3m, encoders 0 to 1; or a stations.toml"
        raise ConfigError(folder.parent, folder.name, expected, folder.name)
    return Pictures(folder.name, _pictures_in(folder), zoom, focus, distance)


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return tuple(sorted(files, key=natural))
