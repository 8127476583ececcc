"""nDisplay, Unreal's cluster configuration: `.ndisplay` (JSON, from 4.27 on), read and written; `.cfg` (text), read.

Screens are flat: their X looks through them, away from the viewer, Y is right, Z up; width along Y, height along Z, the origin
in the middle. Each has a place in its parent, which may have a parent again. Axes: X forward, Y right, Z up, left-handed;
`.ndisplay` is in centimetres, `.cfg` in metres (Unreal's manual). Turned by yaw, then pitch, then roll, as FRotator is: pitch +
is up, yaw + to the right. LED pixels and their place in a node's window are those of the viewport that shows the screen.

Viewports that are drawn on a mesh or an MPCDI file are named: their geometry is not in this file.
"""

import math
from pathlib import Path

import msgspec
import numpy as np

from calibration.exchange.axes import stage_from_file
from calibration.exchange.ndisplay_file import Configuration, Node, Number, of_json, of_text
from calibration.exchange.wall import USUAL_PITCH_M, Assumed, Fit, Placement, Wall, made_wall, named, text_of
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, quaternion
from ledvolume.stage import Flat, Surface

MOST_BYTES = 64 << 20
MOST_PARENTS = 100
MOST_PX = 65_535
AXES = "unreal"
CM_M, CFG_M = 0.01, 1.0


def read(file: Path, assumed: Assumed) -> Wall:
    """One surface for each screen. Raises ConfigError."""
    text = text_of(file, MOST_BYTES)
    is_json = text.lstrip()[:1] == "{"
    configuration = of_json(text, file) if is_json else of_text(text, file)
    scale_m = assumed.scale_m or (CM_M if is_json else CFG_M)
    turn = stage_from_file(assumed.axes or AXES)
    scene = configuration.scene
    nodes = scene.xforms | scene.cameras | scene.screens
    shown, placements, rasters, notes = _shown(configuration, file)
    if not is_json and assumed.scale_m is None:
        notes.append("a text configuration is in metres (--scale)")
    if not scene.screens:
        raise ConfigError(file, "screens", "at least one screen", "none" + "".join(f"; {note}" for note in notes[:1]))
    taken, surfaces, names = set(), [], {}
    for identity, screen in scene.screens.items():
        key = f"screens.{identity}"
        if screen.size is None:
            raise ConfigError(file, f"{key}.size", "width and height", "nothing")
        size_m = tuple(_finite(side, file, f"{key}.size") * scale_m for side in (screen.size.width, screen.size.height))
        if not all(side > 0 for side in size_m):
            raise ConfigError(file, f"{key}.size", "a width and a height above 0", (screen.size.width, screen.size.height))
        rotation, position = _placed(identity, nodes, file)
        names[identity] = named(identity, taken)
        own = turn @ rotation @ _SCREEN_FROM_SURFACE
        pose = Pose(quaternion(own), tuple((turn @ position * scale_m).tolist()))
        if np.linalg.det(own) < 0:
            raise ConfigError(file, "axes", "axes of a left-handed frame, as Unreal's", assumed.axes)
        resolution_px = assumed.resolution_px or shown.get(identity)
        if resolution_px is None or assumed.pitch_m:
            pitch_m = assumed.pitch_m or USUAL_PITCH_M
            resolution_px = tuple(max(1, round(side / pitch_m)) for side in size_m)
            if not assumed.pitch_m:
                told = f"{resolution_px[0]} × {resolution_px[1]} at a pitch of {pitch_m * 1000:g} mm"
                notes.append(f"{identity}: no viewport shows it: its LED pixels are {told} (--resolution, --pitch)")
        surfaces.append(Surface(names[identity], pose, size_m, resolution_px, Flat()))
    if shown and not assumed.resolution_px and not assumed.pitch_m:
        notes.append("LED pixels are those of the viewports, which may be rendered at another size (--resolution, --pitch)")
    sizes = {surface.name: surface.resolution_px for surface in surfaces}
    kept = []
    for placement in placements:
        name = names[placement.surface]
        if placement.resolution_px == sizes[name]:
            kept.append(msgspec.structs.replace(placement, surface=name))
    return made_wall(
        file, "ndisplay", surfaces, fits=(Fit(0.0),) * len(surfaces), placements=tuple(kept),
        rasters={p.raster: rasters[p.raster] for p in kept}, notes=notes,
    )  # fmt: skip


def write(wall: Wall, file: Path, assumed: Assumed) -> list[str]:
    """A screen, a viewport and a node for each surface. Raises ConfigError for surfaces that are not flat."""
    turn, scale_m = stage_from_file(assumed.axes or AXES), assumed.scale_m or CM_M
    screens, nodes = {}, {}
    placed = {placement.surface: placement for placement in wall.placements}
    for surface in wall.surfaces:
        if not isinstance(surface.shape, Flat):
            expected = "flat surfaces: nDisplay has others as meshes (write .obj, and use the mesh policy) or as .mpcdi"
            raise ConfigError(file, surface.name, expected, type(surface.shape).__name__)
        m = surface.stage_from_surface.matrix()
        axes = turn.T @ m[:3, :3] @ _SCREEN_FROM_SURFACE.T
        width, height = (side / scale_m for side in surface.size_m)
        screens[surface.name] = {
            "size": {"width": width, "height": height},
            "parentId": "",
            "location": dict(zip("xyz", (turn.T @ m[:3, 3] / scale_m).tolist())),
            "rotation": dict(zip(("pitch", "yaw", "roll"), _rotator(axes))),
        }
        w, h = surface.resolution_px
        place = placed.get(surface.name)
        raster, (x, y) = (place.raster, place.raster_px) if place else (f"node_{surface.name}", (0, 0))
        size = wall.rasters.get(raster, (w, h))
        node = nodes.setdefault(raster, {"host": "127.0.0.1", "window": {"x": 0, "y": 0, "w": size[0], "h": size[1]}})
        node.setdefault("viewports", {})[f"vp_{surface.name}"] = {
            "camera": "",
            "bufferRatio": 1,
            "region": {"x": x, "y": y, "w": w, "h": h},
            "projectionPolicy": {"type": "simple", "parameters": {"screen": surface.name}},
        }
    primary = {"id": next(iter(nodes)), "ports": {"ClusterSync": 41001, "ClusterEventsJson": 41003}}
    content = {
        "description": "nDisplay configuration",
        "version": "5.00",
        "scene": {"xforms": {}, "cameras": {}, "screens": screens},
        "cluster": {"primaryNode": primary, "nodes": nodes},
    }
    file.write_bytes(msgspec.json.format(msgspec.json.encode({"nDisplay": content}), indent=2) + b"\n")
    return ["centimetres, left-handed; hosts are 127.0.0.1: give them their own"]


_SCREEN_FROM_SURFACE = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def _placed(identity: str, nodes: dict[str, Node], file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and position of a node in the root, in the file's axes and units: through all of its parents."""
    rotation, position = np.eye(3), np.zeros(3)
    seen, child = [], identity
    while identity:
        if identity in seen or len(seen) >= MOST_PARENTS:
            raise ConfigError(file, f"{child}.parentId", "parents that come to an end", " in ".join([*seen, identity][:8]))
        if identity not in nodes:
            raise ConfigError(file, f"{child}.parentId", "a transform of this file", identity)
        node = nodes[identity]
        turn, at = node.rotation, node.location
        own = _rotation(*(_finite(a, file, f"{identity}.rotation") for a in (turn.pitch, turn.yaw, turn.roll)))
        rotation, position = own @ rotation, own @ position
        position = position + [_finite(c, file, f"{identity}.location") for c in (at.x, at.y, at.z)]
        seen.append(identity)
        child, identity = identity, node.parent_id.strip()
    return rotation, position


def _rotation(pitch_deg: float, yaw_deg: float, roll_deg: float) -> np.ndarray:
    """(3, 3), columns are the turned X, Y and Z: Unreal's FRotationMatrix, whose rows they are."""
    (sp, cp), (sy, cy), (sr, cr) = ((math.sin(a), math.cos(a)) for a in map(math.radians, (pitch_deg, yaw_deg, roll_deg)))
    return np.array(
        [
            [cp * cy, sr * sp * cy - cr * sy, -(cr * sp * cy + sr * sy)],
            [cp * sy, sr * sp * sy + cr * cy, cy * sr - cr * sp * sy],
            [sp, -sr * cp, cr * cp],
        ]
    )


def _rotator(axes: np.ndarray) -> tuple[float, float, float]:
    """Pitch, yaw and roll in degrees: the inverse of `_rotation`. Straight up and down, roll is 0."""
    level = math.hypot(axes[0, 0], axes[1, 0])
    pitch = math.atan2(axes[2, 0], level)
    if level > 1e-9:
        yaw, roll = math.atan2(axes[1, 0], axes[0, 0]), math.atan2(-axes[2, 1], axes[2, 2])
    else:
        yaw, roll = math.atan2(-axes[0, 1], axes[1, 1]), 0.0
    return math.degrees(pitch), math.degrees(yaw), math.degrees(roll)


def _shown(configuration: Configuration, file: Path):
    """LED pixels of screens by viewport, where they are in their node's window, the windows' sizes, and notes."""
    shown, placements, rasters, notes = {}, [], {}, []
    for node_id, node in configuration.cluster.nodes.items():
        for name, viewport in node.viewports.items():
            policy, region = viewport.projection_policy, viewport.region
            screen = policy.parameters.get("screen")
            key = f"nodes.{node_id}.viewports.{name}.region"
            if policy.type.lower() != "simple" or not isinstance(screen, str):
                notes.append(f"{name}: drawn by the policy {policy.type or 'none'}: its geometry is not in this file")
                continue
            if screen not in configuration.scene.screens:
                raise ConfigError(file, f"nodes.{node_id}.viewports.{name}", "a screen of this file", screen)
            x, y, w, h = (_pixels(c, file, key) for c in (region.x, region.y, region.w, region.h))
            if w and h and screen not in shown:
                shown[screen] = (w, h)
                window = tuple(_pixels(c, file, f"nodes.{node_id}.window") for c in (node.window.w, node.window.h))
                rasters[node_id] = window if all(window) else (x + w, y + h)
                placements.append(Placement(screen, node_id, (x, y), (0, 0), (w, h)))
            elif w and h and shown[screen] != (w, h):
                notes.append(f"{screen}: shown by several viewports: the LED pixels are those of the first")
    return shown, placements, rasters, notes


def _finite(value: Number, file: Path, key: str) -> float:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) < 1e9:
        raise ConfigError(file, key, "a number", value)
    return number


def _pixels(value: Number, file: Path, key: str) -> int:
    number = _finite(value, file, key)
    if number != round(number) or not -MOST_PX <= number <= MOST_PX:
        raise ConfigError(file, key, f"whole pixels, at most {MOST_PX}", value)
    return int(number)
