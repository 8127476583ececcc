"""Files that people write, as values: what a TOML or JSON file holds → a msgspec struct, or a ConfigError that names the key."""

import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ledvolume.errors import ConfigError


def convert(path: Path, raw: dict, kind: type):
    """What a file holds as a struct. Raises ConfigError with the key path and, for a misspelt key, the nearest right one."""
    for key, value in _numbers(raw, ""):
        if not math.isfinite(value):
            raise ConfigError(path, key, "a finite number", value)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        where = where.rstrip("`").lstrip(".")
        unknown = re.search(r"unknown field `(.+)`", message)
        missing = re.search(r"missing required field `(.+)`", message)
        table = _value_at(raw, where)
        if unknown:
            known = _keys_at(kind, where)
            near = difflib.get_close_matches(unknown[1], known, 1, 0.5)
            expected = f"a key of this table (did you mean `{near[0]}`?)" if near else f"one of {', '.join(known)}"
            raise ConfigError(path, f"{where}.{unknown[1]}".lstrip("."), expected, table[unknown[1]]) from None
        if missing:
            raise ConfigError(path, f"{where}.{missing[1]}".lstrip("."), "this key to be given", "nothing") from None
        expected = re.sub(r"^Expected |, got .*$|`", "", message)
        raise ConfigError(path, where, _IN_WORDS.get(expected, expected), table) from None


def _numbers(raw, key: str) -> Iterator[tuple[str, float]]:
    """Every floating-point number of the raw file with its key path."""
    if isinstance(raw, float):
        yield key, raw
    elif isinstance(raw, dict):
        for name, value in raw.items():
            yield from _numbers(value, f"{key}.{name}".lstrip("."))
    elif isinstance(raw, list):
        for i, value in enumerate(raw):
            yield from _numbers(value, f"{key}[{i}]")


def _value_at(raw, where: str):
    """The value that a key path like `stage.surface[0].size_m` names."""
    for name, index in _PATH.findall(where):
        raw = raw[name] if name else raw[int(index)]
    return raw


def _keys_at(kind: type, where: str) -> list[str]:
    """The keys that the table at a key path may have."""
    info = msgspec.inspect.type_info(kind)
    for name, _ in _PATH.findall(where):
        info = next(f.type for f in info.fields if f.encode_name == name) if name else info.item_type
        if isinstance(info, msgspec.inspect.UnionType):
            info = next(t for t in info.types if isinstance(t, msgspec.inspect.StructType))
    return [f.encode_name for f in info.fields]


_PATH = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_TIME = "a date and time with its zone, such as 2026-11-24T10:00:00Z"
_IN_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text in quotes",
    "array": "a list",
    "object": "a table",
    "datetime": _TIME,
    "datetime with a timezone component": _TIME,
    "Invalid RFC3339 encoded datetime": _TIME,
}
