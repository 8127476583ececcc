"""What OSC messages mean: there is no standard for cameras over OSC, so a show says it, in TOML.

    [[messages]]
    address = "/tracker/*/pose"        # * is one part of the address; the first one names the camera
    arguments = ["x cm", "y cm", "z cm", "-pan deg", "tilt deg", "roll deg", "focal_length mm"]
    required = 6                       # the others may be left out, from the end; default: none
    axes = "x -z y"                    # our x, y, z (right, forward, up) in the sender's axes; default "x y z"
    rotation_order = "pan tilt roll"   # intrinsic; the default
    camera_id = "A"                    # a fixed name, where neither address nor arguments have one

An argument is a field with its unit, - before it turns its sign:

    x y z                      m cm mm in ft      position
    qw qx qy qz                                   quaternion, about the sender's axes
    pan tilt roll              deg rad            about our Z (left +), X (up +), Y (clockwise from behind +)
    fov_vertical fov_horizontal deg rad           becomes a focal length if the map has `sensor_mm`, else unused
    focal_length focus_distance entrance_pupil    m cm mm in ft; focal length and focus 0 = not known
    f_stop zoom_encoder focus_encoder iris_encoder    no unit; encoders 0 to 1
    captured_at                ns us ms s         house clock since 1970, as OSC type h or d; 0 = not known
    camera_id status           text
    skip                       anything

A pose may be spread over several messages (one for position, one for rotation, or one per axis): see osc.py.
"""

import math
import tomllib
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from ledvolume.errors import ConfigError
from ledvolume.protocols.axes import Axes, named_axes


class Kind(NamedTuple):
    """A kind of argument: the OSC types it may come in, its units with what makes ours of them, whether - turns it."""

    types: str
    units: dict[str, float | int]
    is_signed: bool = True


NUMBER = Kind("fdih", {"": 1.0})
LENGTH = Kind("fdih", {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048})
ANGLE = Kind("fdih", {"deg": math.pi / 180, "rad": 1.0})
# No 32-bit floats for time: seconds since 1970 would be two minutes apart.
TIME = Kind("hdi", {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}, is_signed=False)
TEXT = Kind("s", {"": 1}, is_signed=False)
ANY = Kind("sfdihtTFN", {"": 1}, is_signed=False)

FIELDS = {
    **dict.fromkeys(("x", "y", "z", "focal_length", "focus_distance", "entrance_pupil"), LENGTH),
    **dict.fromkeys(("pan", "tilt", "roll", "fov_vertical", "fov_horizontal"), ANGLE),
    **dict.fromkeys(("qw", "qx", "qy", "qz", "f_stop", "zoom_encoder", "focus_encoder", "iris_encoder"), NUMBER),
    "captured_at": TIME,
    **dict.fromkeys(("camera_id", "status"), TEXT),
    "skip": ANY,
}
POSITION = frozenset("xyz")
QUATERNION = frozenset(("qw", "qx", "qy", "qz"))
EULER = frozenset(("pan", "tilt", "roll"))


class OscMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of message, as TOML says it."""

    address: str
    arguments: tuple[str, ...]
    required: int | None = None
    axes: str = "x y z"
    rotation_order: str = "pan tilt roll"
    camera_id: str = ""


class OscMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All messages that a source understands. sensor_mm (w, h): needed only to read fields of view."""

    messages: tuple[OscMessage, ...]
    sensor_mm: tuple[float, float] | None = None


PRESETS = {
    # Our own. Trailing arguments may be left out after the quaternion. Numbers may be f, d, i or h; captured_at h.
    "ledvolume": (
        OscMessage(
            "/ledvolume/camera",
            ("camera_id", "x m", "y m", "z m", "qw", "qx", "qy", "qz",
             "focal_length mm", "focus_distance m", "captured_at ns"),
            required=8,
        ),
    ),
    # VMC protocol 2.3 on, https://protocol.vmc.info/specification. Unity's axes: X right, Y up, Z forward, left-handed.
    # Unity's field of view is the vertical one.
    "vmc": (
        OscMessage(
            "/VMC/Ext/Cam",
            ("camera_id", "x m", "y m", "z m", "qx", "qy", "qz", "qw", "fov_vertical deg"),
            axes="x z y",
        ),
    ),
    # https://docs.vrchat.com/docs/osc-trackers. Unity's axes too; Euler angles of Unity about its X, Y, Z, applied Z, X, Y,
    # which is pan, tilt, roll, each turning the other way than ours because the axes are mirrored.
    "vrchat": (
        OscMessage("/tracking/trackers/*/position", ("x m", "y m", "z m"), axes="x z y"),
        OscMessage("/tracking/trackers/*/rotation", ("-tilt deg", "-pan deg", "-roll deg"), axes="x z y"),
    ),
    # LOLED Reality Field, "OSC output" of its documentation, which names the numbers but no axes and no ranges: the axes are
    # set in Reality Field. Here: right, forward, up, and degrees about them.
    "loled": (
        OscMessage(
            "/tracker/position/*",
            ("x m", "y m", "z m", "tilt deg", "roll deg", "pan deg", "focus_encoder", "iris_encoder", "zoom_encoder"),
            required=6,
        ),
    ),
}  # fmt: skip


class Argument(NamedTuple):
    """One argument taken apart; scale makes our unit of the sender's, with its sign."""

    field: str
    scale: float | int
    unit: str


class Rule(NamedTuple):
    """An OscMessage taken apart."""

    address: str
    arguments: tuple[Argument, ...]
    required: int
    axes: Axes
    rotation_order: tuple[str, ...]
    camera_id: str


def load_map(path: str | Path) -> OscMap:
    """A map from a TOML file of its own."""
    try:
        return as_map(tomllib.loads(Path(path).read_text()), path)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, "file", "a TOML file with [[messages]]", str(error)) from None


def as_map(table: dict, file: str | Path) -> OscMap:
    """A map from a table of a show file, checked."""
    try:
        osc_map = msgspec.convert(table, OscMap)
    except msgspec.ValidationError as error:
        raise ConfigError(file, "[[messages]]", "an OSC map (docs/tracking.md)", str(error)) from None
    rules(osc_map, str(file))
    return osc_map


def preset_map(name: str = "", sensor_mm: tuple[float, float] | None = None) -> OscMap:
    """The map of one preset, or of all of them where none is named: their addresses do not collide."""
    if name and name not in PRESETS:
        raise ConfigError("osc", "preset", f"one of {', '.join(PRESETS)}", name)
    return OscMap(PRESETS[name] if name else tuple(chain.from_iterable(PRESETS.values())), sensor_mm)


def rules(osc_map: OscMap, file: str = "osc map") -> tuple[Rule, ...]:
    """The map ready for use. Raises ConfigError with the key path where it makes no sense."""
    out = tuple(_rule(message, file, f"messages[{i}]") for i, message in enumerate(osc_map.messages))
    if not out:
        raise ConfigError(file, "messages", "at least one [[messages]]", [])
    return out


def _rule(message: OscMessage, file: str, key: str) -> Rule:
    if not message.address.startswith("/"):
        raise ConfigError(file, f"{key}.address", "an OSC address that starts with /", message.address)
    arguments = tuple(_argument(text, file, f"{key}.arguments[{i}]") for i, text in enumerate(message.arguments))
    fields = [a.field for a in arguments if a.field != "skip"]
    if len(set(fields)) < len(fields):
        raise ConfigError(file, f"{key}.arguments", "each field once", list(message.arguments))
    if not POSITION & set(fields) and not (QUATERNION | EULER) & set(fields):
        raise ConfigError(file, f"{key}.arguments", "some of x y z, qw qx qy qz, pan tilt roll", list(fields))
    if QUATERNION & set(fields) and not QUATERNION <= set(fields):
        raise ConfigError(file, f"{key}.arguments", "all of qw qx qy qz in one message", list(fields))
    required = len(arguments) if message.required is None else message.required
    pose_ends = max(i + 1 for i, a in enumerate(arguments) if a.field in POSITION | QUATERNION | EULER | {"camera_id"})
    if not pose_ends <= required <= len(arguments):
        raise ConfigError(file, f"{key}.required", f"{pose_ends} to {len(arguments)}: a pose is never optional", required)
    if not message.camera_id and "camera_id" not in fields and "*" not in message.address:
        raise ConfigError(file, key, "a camera_id: in the address (*), the arguments, or fixed", message.address)
    axes = named_axes(message.axes, file, f"{key}.axes")
    order = tuple(message.rotation_order.split())
    if sorted(order) != ["pan", "roll", "tilt"]:
        raise ConfigError(file, f"{key}.rotation_order", "pan, tilt and roll in some order", message.rotation_order)
    return Rule(message.address, arguments, required, axes, order, message.camera_id)


def _argument(text: str, file: str, key: str) -> Argument:
    field, _, unit = text.removeprefix("-").partition(" ")
    kind = FIELDS.get(field)
    if kind is None:
        raise ConfigError(file, key, f"one of {', '.join(FIELDS)}", text)
    if unit not in kind.units:
        units = "no unit" if "" in kind.units else f"a unit, one of {', '.join(kind.units)}"
        raise ConfigError(file, key, f"{field} with {units}", text)
    is_turned = text.startswith("-")
    if is_turned and not kind.is_signed:
        raise ConfigError(file, key, f"{field} without a sign", text)
    return Argument(field, -kind.units[unit] if is_turned else kind.units[unit], unit)
