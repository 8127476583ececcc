"""Camera tracks in files: a format is one module with `read(path, assumed, progress) -> Track` and `write(track, path,
assumed) -> notes`, and one line of FORMATS. docs/takes.md lists their axes and units.
"""

import importlib
from pathlib import Path
from typing import NamedTuple

from ledvolume.camera import LensReading
from ledvolume.errors import ConfigError
from ledvolume.tracks.track import Assumed, Progress, Track, no_progress

__all__ = ["FORMATS", "Assumed", "Format", "Track", "dropped", "format_of", "load_track", "save_track"]

_LENS = LensReading.__struct_fields__
_ORDER = (*_LENS, "status", "timecode", "stamped_at_ns", "received_at_ns", "dates")


class Format(NamedTuple):
    """module: its name in this package. holds: what of a sample it keeps beside pose, instants and order."""

    module: str
    suffixes: tuple[str, ...]
    help_line: str
    holds: frozenset[str]


FORMATS = {
    "mcap": Format(
        "take", (".mcap",), "a take: samples, or datagrams decoded as they were live",
        frozenset(_ORDER),
    ),
    "opentrackio": Format(
        "opentrackio_lines", (".jsonl",), "OpenTrackIO 1.0.1, a JSON sample a line",
        frozenset((*_LENS, "status", "timecode", "dates")),
    ),
    "csv": Format(
        "table", (".csv",), "CSV with a header: time_s,x,y,z,qw,qx,qy,qz and more",
        frozenset(_ORDER),
    ),
    "tum": Format("tum", (".tum", ".txt"), "TUM: t tx ty tz qx qy qz qw", frozenset({"dates"})),
    "chan": Format("chan", (".chan",), "Nuke, Houdini: frame tx ty tz rx ry rz vfov", frozenset({"focal_length_mm"})),
    "nerfstudio": Format(
        "nerfstudio_path", (".json",), "nerfstudio's camera_path.json", frozenset({"focal_length_mm", "sensor_mm"})
    ),
    "usd": Format(
        "usd", (".usda", ".usdc", ".usd"), "USD cameras (extra: usd)",
        frozenset({"focal_length_mm", "focus_distance_m", "f_stop", "projection_offset_mm", "sensor_mm"}),
    ),
}  # fmt: skip


def format_of(path: Path | str, name: str = "") -> str:
    """The format by name, else by the file's suffix. Raises ConfigError."""
    if name:
        if name not in FORMATS:
            raise ConfigError(path, "format", f"one of {', '.join(FORMATS)}", name)
        return name
    suffix = Path(path).suffix.lower()
    for found, format in FORMATS.items():
        if suffix in format.suffixes:
            return found
    suffixes = ", ".join(suffix for format in FORMATS.values() for suffix in format.suffixes)
    raise ConfigError(path, "format", f"a file that ends in {suffixes}, or a format by name", suffix or "no suffix")


def load_track(path: Path | str, assumed: Assumed = Assumed(), name: str = "", progress: Progress = no_progress) -> Track:
    """A track from a file. A file without suffix is CSV if its first line has commas, else TUM. Raises ConfigError."""
    path = Path(path)
    if not name and not path.suffix:
        name = _sniffed(path)
    return _module(format_of(path, name)).read(path, assumed, progress)


def save_track(track: Track, path: Path | str, assumed: Assumed = Assumed(), name: str = "") -> list[str]:
    """Write a track; what the target has no place for, and what was assumed, is returned in words. Raises ConfigError."""
    path, name = Path(path), format_of(path, name)
    try:
        notes = _module(name).write(track, path, assumed)
    except OSError as error:
        raise ConfigError(path, "file", "a place that can be written to", error.strerror) from None
    lost = dropped(track, name)
    return notes + ([f"{name} has no place for {', '.join(lost)}"] if lost else [])


def dropped(track: Track, name: str) -> list[str]:
    """What the samples have and this format does not keep."""
    has = set()
    for sample in track.samples:
        has.update(field for field in _LENS if getattr(sample.lens, field) is not None)
        has.update(field for field in ("status", "timecode", "stamped_at_ns") if getattr(sample, field))
        if sample.received_at_ns != sample.captured_at_ns:
            has.add("received_at_ns")
    if track.samples[0].captured_at_ns != 0:
        has.add("dates")
    return [_IN_WORDS.get(field, field) for field in _ORDER if field in has - FORMATS[name].holds]


def _module(name: str):
    return importlib.import_module(f"ledvolume.tracks.{FORMATS[name].module}")


def _sniffed(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return "csv" if b"," in file.readline(4096) else "tum"
    except OSError as error:
        raise ConfigError(path, "track", "a file that can be read", error.strerror) from None


_IN_WORDS = {"stamped_at_ns": "senders' stamps", "received_at_ns": "times of arrival", "dates": "dates (it begins at 0)"}
