"""A wall as other programs hold it: the value that every format of exchange is read to and written from.

Surfaces are in stage axes and metres, whatever the file's were. Where a format says how LED pixels lie in a video processor's
raster, that is a Placement. What a file does not say is assumed, and every assumption that was made is a note.
"""

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.stage import Surface, surface_points

MOST_BYTES = 256 << 20
LARGEST_M = 1000.0
USUAL_PITCH_M = 0.00284

Shape = Literal["auto", "flat", "arc", "map"]
Resolution = tuple[int, int]


class Assumed(msgspec.Struct, frozen=True):
    """What files do not say, or what a person knows better.

    axes: the file's axes that run along the stage's X, Y and Z, such as "x,-z,y" (axes.py); empty: the format's. scale_m: metres
    per unit. resolution_px, pitch_m: of surfaces whose LED pixels are not told. shape: what they shall become; "auto": what
    they are. tolerance_m: how far LED pixels may be moved by that. cells: LED pixels by "uv" or by equal "panels".
    distance_m: from its eye to the wall, for files that hold only a view of it.
    """

    axes: str = ""
    scale_m: float | None = None
    resolution_px: Resolution | None = None
    pitch_m: float | None = None
    shape: Shape = "auto"
    tolerance_m: float | None = None
    cells: Literal["auto", "uv", "panels"] = "auto"
    distance_m: float | None = None


class Fit(msgspec.Struct, frozen=True):
    """How well a surface's shape is that of the file. residual_m: the farthest that an LED pixel is off.

    arc_radius_m, arc_residual_m: the arc that fits best through the corners of the file's cells, where one does; facet_m: how
    far the middles of its cells are off this arc (flat panels on a curved wall).
    """

    residual_m: float
    arc_radius_m: float | None = None
    arc_residual_m: float | None = None
    facet_m: float | None = None


class Placement(msgspec.Struct, frozen=True):
    """A rectangle of a surface's LED pixels and where a raster has it: its top left corner, after a clockwise turn."""

    surface: str
    raster: str
    raster_px: tuple[int, int]
    offset_px: tuple[int, int]
    resolution_px: Resolution
    rotation_deg: int = 0


class Wall(msgspec.Struct, frozen=True):
    """Surfaces with their fits, one for each; rasters: their names and sizes; notes: what was guessed and passed over."""

    surfaces: tuple[Surface, ...]
    format: str
    fits: tuple[Fit, ...] = ()
    placements: tuple[Placement, ...] = ()
    rasters: dict[str, Resolution] = {}
    notes: tuple[str, ...] = ()

    def only(self, name: str, file: Path | str) -> "Wall":
        """This surface of the wall alone. Raises ConfigError."""
        names = [surface.name for surface in self.surfaces]
        if name not in names:
            raise ConfigError(file, "surface", f"one of {', '.join(names)}", name)
        i = names.index(name)
        placements = tuple(placement for placement in self.placements if placement.surface == name)
        rasters = {p.raster: self.rasters[p.raster] for p in placements}
        return msgspec.structs.replace(
            self, surfaces=self.surfaces[i : i + 1], fits=self.fits[i : i + 1], placements=placements, rasters=rasters
        )

    def moved(self, by_m: tuple[float, float, float], pan_rad: float) -> "Wall":
        """Turned about the stage's origin, pan + to the left, then moved."""
        there = Pose(pan_tilt_roll(pan_rad, 0.0, 0.0), by_m)
        surfaces = (msgspec.structs.replace(s, stage_from_surface=there @ s.stage_from_surface) for s in self.surfaces)
        return msgspec.structs.replace(self, surfaces=tuple(surfaces))


def corners_of(surface: Surface) -> np.ndarray:
    """Top left, top right, bottom right, bottom left of its LED pixels, (4, 3) stage metres."""
    w, h = surface.resolution_px
    return surface_points(surface, np.array([0, w, w, 0]), np.array([0, 0, h, h]))


def made_wall(file: Path, format: str, surfaces: list[Surface], **more) -> Wall:
    """A wall with names of their own for its surfaces, and of a size that a stage has. Raises ConfigError."""
    if not surfaces:
        raise ConfigError(file, "surfaces", "at least one surface", "none")
    for surface in surfaces:
        corners = corners_of(surface)
        if not (np.isfinite(corners).all() and np.abs(corners).max() <= LARGEST_M and min(surface.size_m) > 0):
            size = " × ".join(f"{side:.4g}" for side in surface.size_m)
            expected = f"a surface within {LARGEST_M:g} m of the stage's origin (is the unit right? --scale)"
            raise ConfigError(file, surface.name, expected, f"{size} m, its first corner at {corners[0].tolist()}")
    names = [surface.name for surface in surfaces]
    if len(set(names)) < len(names):
        raise ConfigError(file, "surfaces", "a name of its own for each", names)
    more["notes"] = tuple(dict.fromkeys(more.get("notes", ())))
    return Wall(tuple(surfaces), format, **more)


def bytes_of(file: Path, most: int = MOST_BYTES) -> bytes:
    """All of a file that is not too long. Raises ConfigError."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise ConfigError(file, "file", "a file that can be read", error.strerror) from None
    if len(data) > most:
        raise ConfigError(file, "file", f"at most {most >> 20} MB", "more")
    return data


def text_of(file: Path, most: int = MOST_BYTES) -> str:
    """Its text: UTF-8, or UTF-16 with a mark, as Windows writes. Raises ConfigError."""
    data = bytes_of(file, most)
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(file, "file", "text in UTF-8", str(error)) from None


def named(wanted: str, taken: set[str]) -> str:
    """A surface's name as shows have them: what was wanted, shortened to 64 characters, with a number if it is taken."""
    name, number = wanted.strip()[:64] or "wall", 2
    while name in taken:
        name, number = f"{wanted.strip()[:58] or 'wall'}-{number}", number + 1
    taken.add(name)
    return name
