"""`ledvolume replay --as-it-happened` and `--check`: the very requests of a take, and whether all of it is as it was."""

import argparse
import atexit
import shutil
import tempfile
from pathlib import Path

from ledvolume.errors import ConfigError
from ledvolume.outputs.video import ENCODINGS
from ledvolume.take import Take
from ledvolume.take_check import Difference
from ledvolume.track_schedule import Schedule

# What a better replay may change, and how it is when it is left alone
NEUTRAL = {"--show": "", "--quality": "", "--rate": "", "--camera": "", "--focal-mm": None, "--move": None}
NEUTRAL |= {"--pan": 0.0, "--tilt": 0.0, "--roll": 0.0}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-it-happened", action="store_true", help="the requests of a take of `serve --record`, not its track")
    parser.add_argument("--check", action="store_true", help="with it: is everything as it was? Exit status 1 if not")


def taken(args: argparse.Namespace) -> Take | None:
    """The take, with --as-it-happened. Its requests say all of a frame, so nothing else may. --check without --out writes no
    pictures. Raises ConfigError, and SceneError where a scene is missing or another."""
    if args.check and not args.as_it_happened:
        raise ConfigError("command line", "--check", "--as-it-happened with it", "a better replay, which is another one")
    if not (args.out or args.check):
        raise ConfigError("command line", "--out", "a folder for the pictures", "nothing")
    if not args.as_it_happened:
        return None
    if args.openjd:
        raise ConfigError(
            "command line", "--openjd", "a better replay: --as-it-happened is for the machine that made the take", "both"
        )
    for option, left_alone in NEUTRAL.items():
        value = getattr(args, option[2:].replace("-", "_"))
        if value != left_alone:
            raise ConfigError("command line", option, "nothing: --as-it-happened takes all of a frame from the take", value)
    if args.scene and not moved_scenes(args.scene):
        raise ConfigError("command line", "--scene", "PLACE=FILE, where the scene of a place lies now", args.scene)
    if args.check and (args.what == "view" or args.format in ENCODINGS):
        expected = "tiles, walls, through or film as png, exr or none: what was sent to the wall is compared"
        raise ConfigError("command line", "--check", expected, f"{args.what} as {args.format}")
    if not args.out:
        args.format, args.out = "none", tempfile.mkdtemp(prefix="ledvolume-check-")
        atexit.register(shutil.rmtree, args.out, ignore_errors=True)
    take = Take(args.track)
    take.show(moved_scenes(args.scene))
    return take


def as_it_happened(take: Take) -> Schedule:
    """The requests of a take, once more. Raises ConfigError where none is whole."""
    requests = [frame.record.request for frame in take.frames()]
    if not requests:
        raise ConfigError(take.path, "take", "at least one whole frame", take.trouble or "none")
    warnings = [f"{take.path}: {take.trouble}; {take.lost_bytes} bytes at its end cannot be read"] if take.trouble else []
    return Schedule(requests, warnings)


def moved_scenes(scene: str) -> dict[str, str]:
    """--scene PLACE=FILE: where the scene file of a place lies now."""
    place, equals, file = scene.partition("=")
    return {place: str(Path(file).resolve())} if equals else {}


def say_difference(difference: Difference) -> int:
    """Exit status 1."""
    print(f"DIFFERENT: {difference}")
    return 1
