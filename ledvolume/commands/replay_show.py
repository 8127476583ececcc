"""The show of `ledvolume replay`: the file that was named, or the one that lies in the take."""

import argparse
from pathlib import Path

import msgspec

from ledvolume.config import Show, load_show
from ledvolume.errors import ConfigError
from ledvolume.recording import TOML, Attachment, Message, TakeReader
from ledvolume.take import another_scene
from ledvolume.tracks import format_of


class LyingShow(msgspec.Struct, frozen=True):
    """A show file as it lies somewhere, the folder that it is relative to, its name, and files that it names.
    In a take also: keys of it that were given otherwise when it ran; the SHA-256 of the scene of each place."""

    toml: bytes
    folder: Path
    name: str
    files: dict[str, bytes] = {}
    instead: dict = {}
    scenes: dict[str, str] = {}


def show_lying(args: argparse.Namespace) -> LyingShow:
    """The show file that was named, or else the one in the take. Raises ConfigError."""
    if not args.show:
        return show_of_take(Path(args.track), args.from_format)
    show = load_show(args.show)
    return LyingShow(show.toml, show.file.parent, show.file.name, show.files)


def show_of_take(path: Path, format: str) -> LyingShow:
    """The show that lies in a take. Raises ConfigError."""
    expected = "a show file: this track brings none with it"
    if format_of(path, format) != "mcap":
        raise ConfigError("command line", "--show", expected, "nothing")
    folder, found, files, instead, scenes = path.resolve().parent, None, {}, {}, {}
    for record in TakeReader(path).records():
        if isinstance(record, Message):
            break
        if isinstance(record, Attachment) and record.media_type == TOML and found is None:
            found = record
        elif isinstance(record, Attachment):
            files[record.name] = record.data
        elif record.name == "show":
            folder = Path(record.values.get("folder", folder))
        elif record.name == "take":
            instead = msgspec.json.decode(record.values.get("instead", "{}"))
        elif record.name.startswith("scene/"):
            scenes[record.name.removeprefix("scene/")] = record.values.get("sha256", "")
    if found is None:
        raise ConfigError(path, "--show", expected, "nothing")
    return LyingShow(found.data, folder, found.name, files, instead, scenes)


def scene_warnings(args: argparse.Namespace, lying: LyingShow, show: Show) -> list[str]:
    """What to say of a scene that is not the one which the take was made with, unless it was asked for."""
    file, recorded = show.places[show.start].file, lying.scenes.get(show.start)
    if args.scene or recorded is None or not file.is_file():
        return []
    words = another_scene(Path(args.track), file, recorded)
    return [words] if words else []
