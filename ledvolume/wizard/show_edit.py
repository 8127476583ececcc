"""What was learnt, written into a show file as a person would: only the keys that change, comments and layout kept."""

import math
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

import tomlkit
from tomlkit.items import Table

from ledvolume.errors import ConfigError
from ledvolume.pose import multiply, pan_tilt_roll
from ledvolume.sources import address
from ledvolume.toml_edit import add_key, inline_table, parsed, put_back, take_tail
from ledvolume.wizard.mapping import Mapping

CALIBRATED_DEG = {"stage_from_world": 5.0, "tracker_from_camera": 15.0}  # hands cannot better what is written


def edited(text: str, file: Path | str, uri: str, camera_id: str, mapping: Mapping) -> str:
    """The show file with this mapping. Raises ConfigError where it cannot be read or has no such camera."""
    show = parsed(text, file)
    source = _source(show, uri)
    _set_source(source, mapping.source)
    camera = next((c for c in show.get("camera", []) if c.get("id") == camera_id), None)
    if camera is None:
        known = ", ".join(str(c.get("id")) for c in show.get("camera", [])) or "none"
        raise ConfigError(file, "camera", f"a camera {camera_id} (there: {known})", camera_id)
    cameras = source.get("cameras", {})
    if camera_id != "*" and cameras.get(mapping.wire_id, mapping.wire_id) != camera_id:
        if "cameras" in source:
            source["cameras"][mapping.wire_id] = camera_id
        else:
            add_key(source, "cameras", inline_table({mapping.wire_id: camera_id}))
    _set_angles(camera, "stage_from_world", {"pan_deg": mapping.yaw_deg})
    body = mapping.body_deg or (0.0, 0.0, 0.0)
    _set_angles(camera, "tracker_from_camera", dict(zip(("pan_deg", "tilt_deg", "roll_deg"), body)))
    return tomlkit.dumps(show)


def snippet(uri: str, mapping: Mapping) -> str:
    """The mapping as TOML for people who have no show file yet."""
    show = tomlkit.document()
    source = _source(show, uri)
    _set_source(source, mapping.source)
    text = tomlkit.dumps(show)
    if mapping.yaw_deg:
        text += f"\n# of the camera:\n# stage_from_world = {{ pan_deg = {mapping.yaw_deg:g} }}\n"
    if mapping.body_deg:
        pan, tilt, roll = mapping.body_deg
        text += f"# tracker_from_camera = {{ pan_deg = {pan:g}, tilt_deg = {tilt:g}, roll_deg = {roll:g} }}\n"
    return text


def _source(show: tomlkit.TOMLDocument, uri: str) -> MutableMapping:
    """The source of this address: the same URI, else the same protocol and port, else a new one."""
    sources = show.get("source")
    if sources is None:
        sources = show["source"] = tomlkit.aot()
    asked = address(uri)
    same = [s for s in sources if s.get("uri") == uri] or [s for s in sources if _is_like(str(s.get("uri", "")), asked)]
    if same:
        return same[0]
    source = tomlkit.table()
    source["uri"] = uri
    tail = []
    if len(sources):
        last = sources[len(sources) - 1]
        tail = take_tail(last)
        put_back(last, [tomlkit.nl()])
    sources.append(source)
    put_back(sources[len(sources) - 1], tail)
    return sources[len(sources) - 1]


def _is_like(uri: str, asked) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme == f"{asked.protocol}+{asked.transport}" and parts.port == asked.port
    except ValueError:
        return False


def _set_source(source: MutableMapping, keys: dict) -> None:
    if "map" in keys or "preset" in keys:
        tail = take_tail(source)
        for key in ("map", "preset"):
            source.pop(key, None)
        if "map" in keys:
            _add_map(source, keys["map"]["messages"])
        else:
            source["preset"] = keys["preset"]
        put_back(source, tail)
    if "profile" in keys:
        profile, old = keys["profile"], source.get("profile")
        if isinstance(profile, dict) and isinstance(old, MutableMapping):
            tail = take_tail(old) if isinstance(old, Table) else []
            for key in [key for key in old if key not in profile]:
                del old[key]
            for key, value in profile.items():
                if old.get(key) != value:
                    old[key] = inline_table(value)
            put_back(old, tail)
        else:
            tail = take_tail(source)
            source.pop("profile", None)
            if profile != "raw":
                source["profile"] = inline_table(profile)
            put_back(source, tail)


def _add_map(source: MutableMapping, messages: list[dict]) -> None:
    written = tomlkit.aot()
    for message in messages:
        table = tomlkit.table()
        for key, value in message.items():
            table[key] = value
        written.append(table)
    holder = tomlkit.table(is_super_table=True)
    holder.append("messages", written)
    source["map"] = holder


def _set_angles(camera: MutableMapping, key: str, angles: dict[str, float]) -> None:
    """The rotation of a pose of the camera's table. What is written and agrees with the hands stays: it was measured."""
    old = camera.get(key)
    written = [float(old.get(f"{name}_deg", 0.0)) if old else 0.0 for name in ("pan", "tilt", "roll")]
    wxyz = old.get("wxyz") if old else None
    was = tuple(map(float, wxyz)) if wxyz else pan_tilt_roll(*map(math.radians, written))
    wanted = pan_tilt_roll(*(math.radians(angles.get(f"{name}_deg", 0.0)) for name in ("pan", "tilt", "roll")))
    w, x, y, z = was
    rest = multiply((w, -x, -y, -z), wanted)
    off_deg = 2 * math.degrees(math.acos(min(1.0, abs(rest[0]))))
    if off_deg <= CALIBRATED_DEG[key]:
        return
    if old is None:
        add_key(camera, key, inline_table({name: value for name, value in angles.items() if value}))
        return
    for name in ("wxyz", "pan_deg", "tilt_deg", "roll_deg"):
        if name in old and not angles.get(name):
            del old[name]
    for name, value in angles.items():
        if value:
            old[name] = value
