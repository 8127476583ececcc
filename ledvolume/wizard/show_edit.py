"""What was learnt, written into a show file as a person would: only the keys that change, comments and layout kept."""

import difflib
import math
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

import tomlkit
import tomlkit.exceptions
from tomlkit.items import AoT, Comment, Table, Whitespace

from ledvolume.errors import ConfigError
from ledvolume.pose import multiply, pan_tilt_roll
from ledvolume.sources import address
from ledvolume.wizard.mapping import Mapping

CALIBRATED_DEG = {"stage_from_world": 5.0, "tracker_from_camera": 15.0}  # hands cannot better what is written


def edited(text: str, file: Path | str, uri: str, camera_id: str, mapping: Mapping) -> str:
    """The show file with this mapping. Raises ConfigError where it cannot be read or has no such camera."""
    try:
        show = tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise ConfigError(file, "file", "valid TOML", str(error)) from None
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
            _add(source, "cameras", _inline({mapping.wire_id: camera_id}))
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


def difference(before: str, after: str, file: Path | str) -> str:
    """A unified diff; empty if nothing changed."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(file), f"{file} (new)", n=2)
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def replace(file: Path, text: str) -> None:
    """The whole file or nothing: written beside it, then put in its place with its rights and its kind of line ends."""
    file = file.resolve()
    try:
        text = text.replace("\n", "\r\n") if b"\r\n" in file.read_bytes() else text
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, file.stat().st_mode & 0o777)
        os.replace(name, file)
    except OSError as error:
        raise ConfigError(file, "file", "a file that can be written", error.strerror) from None


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
        tail = _tail(last)
        _put_back(last, [tomlkit.nl()])
    sources.append(source)
    _put_back(sources[len(sources) - 1], tail)
    return sources[len(sources) - 1]


def _is_like(uri: str, asked) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme == f"{asked.protocol}+{asked.transport}" and parts.port == asked.port
    except ValueError:
        return False


def _set_source(source: MutableMapping, keys: dict) -> None:
    if "map" in keys or "preset" in keys:
        tail = _tail(source)
        for key in ("map", "preset"):
            source.pop(key, None)
        if "map" in keys:
            _add_map(source, keys["map"]["messages"])
        else:
            source["preset"] = keys["preset"]
        _put_back(source, tail)
    if "profile" in keys:
        profile, old = keys["profile"], source.get("profile")
        if isinstance(profile, dict) and isinstance(old, MutableMapping):
            tail = _tail(old) if isinstance(old, Table) else []
            for key in [key for key in old if key not in profile]:
                del old[key]
            for key, value in profile.items():
                if old.get(key) != value:
                    old[key] = _inline(value)
            _put_back(old, tail)
        else:
            tail = _tail(source)
            source.pop("profile", None)
            if profile != "raw":
                source["profile"] = _inline(profile)
            _put_back(source, tail)


def _inline(value):
    """A table on one line, spaced as people space it."""
    return tomlkit.value(_as_toml(value)) if isinstance(value, dict) else value


def _as_toml(value) -> str:
    if isinstance(value, dict):
        keys = (key if key.isidentifier() else tomlkit.item(key).as_string() for key in value)
        return "{ " + ", ".join(f"{key} = {_as_toml(inner)}" for key, inner in zip(keys, value.values())) + " }"
    return tomlkit.item(value).as_string()


def _add(table: MutableMapping, key: str, value) -> None:
    """A key after the last one of its table, before blank lines and comments, which are the next table's."""
    tail = _tail(table)
    table[key] = value
    _put_back(table, tail)


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


def _tail(table) -> list:
    """The blank lines and comments at the end of a table and of the last one in it, taken out: the next table's."""
    body = _last_table(table).value.body
    tail = []
    while body and body[-1][0] is None:
        item = body.pop()[1]
        if isinstance(item, Whitespace | Comment):
            tail.insert(0, item)
    return tail


def _put_back(table, tail: list) -> None:
    for item in tail:
        _last_table(table).add(item)


def _last_table(table):
    """The table that is written last of those in this one: itself, where there are none."""
    inner = [item for item in table.values() if isinstance(item, AoT | Table)]
    if not inner:
        return table
    return _last_table(inner[-1][len(inner[-1]) - 1] if isinstance(inner[-1], AoT) else inner[-1])


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
        _add(camera, key, _inline({name: value for name, value in angles.items() if value}))
        return
    for name in ("wxyz", "pan_deg", "tilt_deg", "roll_deg"):
        if name in old and not angles.get(name):
            del old[name]
    for name, value in angles.items():
        if value:
            old[name] = value
