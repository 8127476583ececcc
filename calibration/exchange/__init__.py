"""Walls in the files of other programs: a format is one module with `read(file, assumed) -> Wall` and, where we write it,
`write(wall, file, assumed) -> notes`, and one line of FORMATS. docs/calibration.md lists their axes, units and what is lost.
"""

import importlib
from pathlib import Path
from typing import NamedTuple

from calibration.exchange.axes import stage_from_file
from calibration.exchange.wall import Assumed, Fit, Placement, Wall, corners_of
from ledvolume.errors import ConfigError

__all__ = ["FORMATS", "Assumed", "Fit", "Format", "Placement", "Wall", "corners_of", "format_of", "load_wall", "save_wall"]


class Format(NamedTuple):
    """module: its name in this package."""

    module: str
    suffixes: tuple[str, ...]
    help_line: str
    is_written: bool = True


FORMATS = {
    "mpcdi": Format("mpcdi", (".mpcdi", ".xml"), "MPCDI 1.x and 2.0: a point for every pixel (a3, sl), views (3d)"),
    "ndisplay": Format("ndisplay", (".ndisplay", ".cfg"), "nDisplay's screens; .cfg is read only"),
    "obj": Format("obj", (".obj",), "meshes with UVs"),
    "fbx": Format("fbx", (".fbx",), "meshes with UVs (extra: calibrate)", is_written=False),
    "usd": Format("usd", (".usda", ".usdc", ".usd"), "meshes with UVs (extra: usd)"),
    "openvpcal": Format("openvpcal", (".json",), "OpenVPCal's panels, walls and raster maps, or their folder"),
}


def format_of(file: Path, name: str = "") -> str:
    """The format by name, else by the file's suffix. Raises ConfigError."""
    if name:
        if name not in FORMATS:
            raise ConfigError(file, "format", f"one of {', '.join(FORMATS)}", name)
        return name
    if file.is_dir():
        return "openvpcal"
    for found, format in FORMATS.items():
        if file.suffix.lower() in format.suffixes:
            return found
    suffixes = ", ".join(suffix for format in FORMATS.values() for suffix in format.suffixes)
    raise ConfigError(file, "format", f"a file that ends in {suffixes}, or a format by name", file.suffix or "no suffix")


def load_wall(file: Path, assumed: Assumed = Assumed(), name: str = "") -> Wall:
    """Raises ConfigError."""
    if assumed.axes:
        stage_from_file(assumed.axes, "--from-axes")
    return _module(format_of(file, name)).read(file, assumed)


def save_wall(wall: Wall, file: Path, assumed: Assumed = Assumed(), name: str = "") -> list[str]:
    """What was written how, and what is lost, is returned in words. Raises ConfigError."""
    name = format_of(file, name)
    if not FORMATS[name].is_written or (name == "ndisplay" and file.suffix.lower() == ".cfg"):
        written = ", ".join(f.suffixes[0] for f in FORMATS.values() if f.is_written)
        raise ConfigError(file, "format", f"one that is written: {written}", name)
    try:
        return _module(name).write(wall, file, assumed)
    except OSError as error:
        raise ConfigError(file, "file", "a place that can be written to", error.strerror) from None


def _module(name: str):
    return importlib.import_module(f"calibration.exchange.{FORMATS[name].module}")
