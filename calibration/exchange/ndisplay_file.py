"""What an nDisplay configuration says, as it says it: `.ndisplay` (JSON, from Unreal 4.27 on) and `.cfg` (text, before)."""

import re
from pathlib import Path

import msgspec

from ledvolume.errors import ConfigError

Number = float | int | str  # written as text in places


class Vector(msgspec.Struct):
    """A place."""

    x: Number = 0
    y: Number = 0
    z: Number = 0


class Rotator(msgspec.Struct):
    """Degrees."""

    pitch: Number = 0
    yaw: Number = 0
    roll: Number = 0


class Size(msgspec.Struct):
    """Of a screen."""

    width: Number
    height: Number


class Node(msgspec.Struct, rename="camel"):
    """A transform, a camera, a screen."""

    parent_id: str = ""
    location: Vector = msgspec.field(default_factory=Vector)
    rotation: Rotator = msgspec.field(default_factory=Rotator)
    size: Size | None = None


class Region(msgspec.Struct):
    """A rectangle of pixels."""

    x: Number = 0
    y: Number = 0
    w: Number = 0
    h: Number = 0


class Policy(msgspec.Struct):
    """How a viewport is drawn; `simple` on a screen."""

    type: str = ""
    parameters: dict[str, object] = {}


class Viewport(msgspec.Struct, rename="camel"):
    """A rectangle of a window and what it shows."""

    region: Region = msgspec.field(default_factory=Region)
    projection_policy: Policy = msgspec.field(default_factory=Policy)


class ClusterNode(msgspec.Struct):
    """A machine with a window."""

    window: Region = msgspec.field(default_factory=Region)
    viewports: dict[str, Viewport] = {}


class Scene(msgspec.Struct):
    """Where things are."""

    xforms: dict[str, Node] = {}
    cameras: dict[str, Node] = {}
    screens: dict[str, Node] = {}


class Cluster(msgspec.Struct):
    """The machines."""

    nodes: dict[str, ClusterNode] = {}


class Configuration(msgspec.Struct):
    """All that we read of it."""

    scene: Scene
    cluster: Cluster = msgspec.field(default_factory=Cluster)


class File(msgspec.Struct, rename={"configuration": "nDisplay"}):
    """The file."""

    configuration: Configuration


def of_json(text: str, file: Path) -> Configuration:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(text, type=File).configuration
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigError(file, where.strip("`.") or "file", "nDisplay's configuration", message) from None


def of_text(text: str, file: Path) -> Configuration:
    """A configuration as up to Unreal 4.26: `[kind] key=value key="X=1,Y=2"` a line; # begins a comment."""
    kinds: dict[str, dict[str, dict[str, str]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ConfigError(file, f"line {number}", "nDisplay's JSON, or [kind] key=value …", line.strip()[:80])
        arguments = {key.lower(): value.strip('"').strip() for key, value in _ARGUMENT.findall(match[2])}
        identity = arguments.get("id", f"line {number}")
        group = kinds.setdefault(match[1].lower(), {})
        if identity in group:
            raise ConfigError(file, f"line {number}", "an id of its own", identity)
        group[identity] = arguments | {"line": str(number)}
    if not kinds:
        raise ConfigError(file, "file", "nDisplay's JSON, or [kind] key=value …", "an empty file")
    scene = Scene(*({i: _text_node(a, file) for i, a in kinds.get(k, {}).items()} for k in ("scene_node", "camera", "screen")))
    viewports = {}
    for identity, a in kinds.get("viewport", {}).items():
        projection = kinds.get("projection", {}).get(a.get("projection", ""), {})
        screen = a.get("screen") or projection.get("screen")
        policy = Policy("simple" if screen else projection.get("type", ""), {"screen": screen} if screen else {})
        viewports[identity] = Viewport(Region(*(a.get(key, 0) for key in ("x", "y", "width", "height"))), policy)
    windows, nodes = kinds.get("window", {}), {}
    for identity, a in kinds.get("cluster_node", {}).items():
        window = windows.get(a.get("window", ""), {})
        size = Region(*(window.get(key, 0) for key in ("winx", "winy", "resx", "resy")))
        of_node = [v.strip() for v in window.get("viewports", "").split(",")]
        nodes[identity] = ClusterNode(size, {v: viewports.pop(v) for v in of_node if v in viewports})
    if viewports:
        nodes["viewports"] = ClusterNode(viewports=viewports)
    return Configuration(scene, Cluster(nodes))


def _text_node(arguments: dict[str, str], file: Path) -> Node:
    at, turn, size = (_parts(arguments, key, file) for key in ("loc", "rot", "size"))
    return Node(
        arguments.get("parent", ""),
        Vector(*(at.get(c, 0) for c in "xyz")),
        Rotator(*(turn.get(c, 0) for c in "pyr")),
        Size(size.get("x", 0), size.get("y", 0)) if "size" in arguments else None,
    )


def _parts(arguments: dict[str, str], key: str, file: Path) -> dict[str, float]:
    """X=1,Y=2,Z=3 by its letters. `X=1.5.Y=0`, which Unreal's manual has, is read as it is meant."""
    text = arguments.get(key, "")
    found = {name.lower()[0]: float(value) for name, value in _PART.findall(text)}
    if text and (not found or len(found) != text.count("=")):
        raise ConfigError(file, f"line {arguments['line']}.{key}", 'numbers such as "X=1.5,Y=0,Z=0"', text)
    return found


_LINE = re.compile(r"\s*\[\s*(\w+)\s*\](.*)")
_ARGUMENT = re.compile(r'(\w+)\s*=\s*("[^"]*"|\S+)')
_PART = re.compile(r"([A-Za-z]+)\s*=\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=\s*[,.;\s]|$)")
