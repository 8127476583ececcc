"""What was calibrated, written into a show file as a person would: only the keys that change, comments and layout kept.

Wall maps and lens tables become files beside the show, named by what is in them, so that no file of an earlier calibration is
ever written over. The text is read as `serve` reads it before anyone gets it: what is returned loads.
"""

import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from ledvolume.camera import Rig
from ledvolume.config import Show, read_show
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion
from ledvolume.lens_table import LensTable, Station, as_json
from ledvolume.outputs.whole_file import write_whole
from ledvolume.pose import Pose, Quat, pan_tilt_roll_of
from ledvolume.show_file import SolvedCameraTable, SolvedSurfaceTable
from ledvolume.stage import Arc, Flat, PositionMap, Surface, seen_by
from ledvolume.toml_edit import add_key, inline_table, parsed
from ledvolume.wall_map import wall_map_file

DECIMALS = 10  # of metres, millimetres and degrees: 1e-10° is 2e-11 m at 10 m
ANGLES = ("pan_deg", "tilt_deg", "roll_deg")


class CalibratedShow(msgspec.Struct, frozen=True):
    """toml: the show's text. files: what it names that is new, by their names in it, to lie beside it."""

    toml: str
    files: dict[str, bytes]


def calibrated(
    show: Show,
    surfaces: Sequence[Surface] = (),
    rigs: Sequence[Rig] = (),
    solved: Mapping[str, SolvedSurfaceTable | SolvedCameraTable] = MappingProxyType({}),
    folder: Path | None = None,
) -> CalibratedShow:
    """The show with surfaces where they are, and rigs as they are. Raises ConfigError, for what no show can say, too.

    surfaces, rigs: those that were calibrated; found in the show by name and camera id. Resolution and sensor are the show's.
    A lens that bends without a lens table becomes a table of one station. solved: by `surface NAME` and `camera ID`, as in
    Show.solved; sigmas that it does not have stay as they are written. folder: where the show is going to lie, if not where
    it does: places, lens tables and wall maps are then named from there (outputs and keys are not).
    """
    text = show.toml.decode()
    toml = parsed(text.replace("\r\n", "\n"), show.file)
    tables = {f"surface {table['name']}": table for table in toml["stage"]["surface"]}
    tables |= {f"camera {table['id']}": table for table in toml["camera"]}
    there = {f"surface {surface.name}": surface for surface in show.stage.surfaces}
    there |= {f"camera {rig.camera_id}": rig for rig in show.stage.rigs}
    found = {f"surface {surface.name}": surface for surface in surfaces} | {f"camera {rig.camera_id}": rig for rig in rigs}
    if unknown := (found.keys() | solved.keys()) - tables.keys():
        raise ConfigError(show.file, "calibration", f"one of {', '.join(tables)}", ", ".join(sorted(unknown)))
    named = dict(show.files)
    if folder is not None and folder.resolve() != show.file.parent:
        named = _moved(toml, show, folder.resolve())
    files: dict[str, bytes] = {}
    for what, value in found.items():
        edit = _set_surface if isinstance(value, Surface) else _set_rig
        edit(tables[what], there[what], value, files)
    for what, table in solved.items():
        _set_solved(tables[what], table)
    edited = toml.as_string()
    edited = edited.replace("\n", "\r\n") if "\r\n" in text else edited
    read_show((folder or show.file.parent) / show.file.name, edited.encode(), named | files)
    return CalibratedShow(edited, files)


def save(show: CalibratedShow, file: Path) -> None:
    """The show, and before it the files that it names. Raises OutputError."""
    for name, data in show.files.items():
        write_whole(file.parent / name, data)
    write_whole(file, show.toml.encode())


def _set_surface(table: MutableMapping, was: Surface, now: Surface, files: dict[str, bytes]) -> None:
    if now.resolution_px != was.resolution_px:
        raise ConfigError(now.name, "resolution_px", f"the show's, {was.resolution_px}", now.resolution_px)
    _set_numbers(table, "size_m", was.size_m, now.size_m)
    _set_numbers(table, "centre_m", was.stage_from_surface.position_m, now.stage_from_surface.position_m)
    facing_back = seen_by(Pose()).inverse()
    _set_rotation(table, *((surface.stage_from_surface @ facing_back).wxyz for surface in (was, now)))
    if now.shape == was.shape:
        return
    table["shape"] = {Flat: "flat", Arc: "arc", PositionMap: "map"}[type(now.shape)]
    _set(table, "radius_m", round(now.shape.radius_m, DECIMALS) if isinstance(now.shape, Arc) else None)
    name = None
    if isinstance(now.shape, PositionMap):
        name = _name_file(files, now.name, "wall.safetensors", wall_map_file(now.shape, now.name))
    _set(table, "map", name)


def _set_rig(table: MutableMapping, was: Rig, now: Rig, files: dict[str, bytes]) -> None:
    for key in ("stage_from_world", "tracker_from_camera"):
        _set_pose(table, key, getattr(was, key), getattr(now, key))
    _set_numbers(table, "focal_length_mm", was.lens.focal_length_mm, now.lens.focal_length_mm)
    _set_numbers(table, "projection_offset_mm", was.lens.projection_offset_mm, now.lens.projection_offset_mm)
    _set_numbers(table, "entrance_pupil_mm", was.lens.entrance_pupil_m * 1000, now.lens.entrance_pupil_m * 1000)
    _set_numbers(table, "latency_ms", was.latency_ns / 1e6, now.latency_ns / 1e6)
    lens_table = now.lens_table
    if lens_table is None and now.lens.distortion != Distortion():
        lens_table = LensTable(1, (_station(now),), now.camera_id)
    if lens_table != was.lens_table:
        name = None if lens_table is None else _name_file(files, now.camera_id, "lens.json", as_json(lens_table))
        _set(table, "lens_table", name)


def _station(rig: Rig) -> Station:
    lens = rig.lens
    return Station(
        focal_length_mm=lens.focal_length_mm,
        entrance_pupil_mm=lens.entrance_pupil_m * 1000,
        projection_offset_mm=lens.projection_offset_mm,
        distortion=lens.distortion,
    )


def _set_solved(table: MutableMapping, solved: SolvedSurfaceTable | SolvedCameraTable) -> None:
    keys = {field.encode_name: getattr(solved, field.name) for field in msgspec.structs.fields(solved)}
    keys["at"] = keys["at"].isoformat(timespec="seconds").replace("+00:00", "Z")
    keys = {key: value for key, value in keys.items() if value is not None}
    written = table.get("solved")
    if written is None:
        add_key(table, "solved", inline_table(keys))
        return
    for key in [key for key in ("from", "views", "rms_px", "rms_mm") if key in written]:  # of who wrote it before
        del written[key]
    for key, value in keys.items():
        written[key] = value


def _set_pose(table: MutableMapping, key: str, was: Pose, now: Pose) -> None:
    if key in table:
        _set_numbers(table[key], "position_m", was.position_m, now.position_m)
        _set_rotation(table[key], was.wxyz, now.wxyz)
        return
    pose: dict = {}
    _set_numbers(pose, "position_m", was.position_m, now.position_m)
    _set_rotation(pose, was.wxyz, now.wxyz)
    if pose:
        add_key(table, key, inline_table(pose))


def _set_rotation(table: MutableMapping, was: Quat, now: Quat) -> None:
    """As angles, whatever it was written as: people turn walls and cameras by angles."""
    if max(abs(a - b) for a, b in zip(was, now)) < 1e-13:
        return
    if "wxyz" in table:
        del table["wxyz"]
    for key, radians in zip(ANGLES, pan_tilt_roll_of(now)):
        degrees = _rounded(math.degrees(radians))
        if degrees or key in table:
            _set(table, key, degrees)


def _set_numbers(table: MutableMapping, key: str, was, now) -> None:
    """A number or several, if they are others than they were."""
    old, new = ([*map(_rounded, value)] if isinstance(value, Iterable) else _rounded(value) for value in (was, now))
    if old != new:
        _set(table, key, new)


def _set(table: MutableMapping, key: str, value) -> None:
    """None: the key goes."""
    if value is None:
        table.pop(key, None)
    elif key in table or not hasattr(table, "value"):
        table[key] = value
    else:
        add_key(table, key, value)


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS) + 0.0  # no -0.0


def _name_file(files: dict[str, bytes], of: str, kind: str, data: bytes) -> str:
    """Its name, by whose it is and what is in it; and it is one of the files now."""
    plain = re.sub(r"[^\w-]+", "-", of).strip("-") or "camera"
    name = f"{plain}-{hashlib.sha256(data).hexdigest()[:6]}.{kind}"
    files[name] = data
    return name


def _moved(toml: MutableMapping, show: Show, folder: Path) -> dict[str, bytes]:
    """Files are named from another folder; returns those of Show.files by their new names."""
    named = {}
    tables = [(toml["place"], "file"), (toml["camera"], "lens_table"), (toml["stage"]["surface"], "map")]
    for table, key in ((table, key) for rows, key in tables for table in rows if key in table):
        name = str(table[key])
        if Path(name).is_absolute():
            continue
        table[key] = Path(os.path.relpath(show.file.parent / name, folder)).as_posix()
        if name in show.files:
            named[str(table[key])] = show.files[name]
    return named
