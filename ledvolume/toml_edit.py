"""TOML files edited as a person would: only the keys that change, comments and layout kept. For whoever writes into a show."""

import difflib
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

import tomlkit
import tomlkit.exceptions
from tomlkit.items import AoT, Comment, Table, Whitespace

from ledvolume.errors import ConfigError


def parsed(text: str, file: Path | str) -> tomlkit.TOMLDocument:
    """The file, to be edited. Raises ConfigError."""
    try:
        return tomlkit.parse(text)
    except tomlkit.exceptions.TOMLKitError as error:
        raise ConfigError(file, "file", "valid TOML", str(error)) from None


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


def add_key(table: MutableMapping, key: str, value) -> None:
    """A key after the last one of its table, before blank lines and comments, which are the next table's."""
    tail = take_tail(table)
    table[key] = value
    put_back(table, tail)


def inline_table(value):
    """A table on one line, spaced as people space it."""
    return tomlkit.value(_as_toml(value)) if isinstance(value, dict) else value


def take_tail(table) -> list:
    """The blank lines and comments at the end of a table and of the last one in it, taken out: the next table's."""
    body = _last_table(table).value.body
    tail = []
    while body and body[-1][0] is None:
        item = body.pop()[1]
        if isinstance(item, Whitespace | Comment):
            tail.insert(0, item)
    return tail


def put_back(table, tail: list) -> None:
    for item in tail:
        _last_table(table).add(item)


def _last_table(table):
    """The table that is written last of those in this one: itself, where there are none."""
    inner = [item for item in table.values() if isinstance(item, AoT | Table)]
    if not inner:
        return table
    return _last_table(inner[-1][len(inner[-1]) - 1] if isinstance(inner[-1], AoT) else inner[-1])


def _as_toml(value) -> str:
    if isinstance(value, dict):
        keys = (key if key.isidentifier() else tomlkit.item(key).as_string() for key in value)
        return "{ " + ", ".join(f"{key} = {_as_toml(inner)}" for key, inner in zip(keys, value.values())) + " }"
    return tomlkit.item(value).as_string()
