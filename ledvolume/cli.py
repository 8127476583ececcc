"""The command line: parsing and plain errors only. A command is one module of `commands` and one line here.

A command module has `arguments(parser)`, which declares, and `run(args) -> int`, which does; or it has COMMANDS of its own.
It is imported only when it is the one that was asked for, so that `ledvolume --help` and the light commands start at once,
and so that only a command that needs an extra asks for it.
"""

import argparse
import importlib
import os
import sys

from ledvolume.errors import LedvolumeError

# name: module, one line of help
COMMANDS = {
    "demo": ("ledvolume.commands.demo", "the whole job on this machine, with pictures of it"),
    "serve": ("ledvolume.commands.serve", "render a show and stream it to the wall"),
    "tile": ("ledvolume.commands.tile", "receive one tile: show, save or verify it"),
    "takes": ("ledvolume.commands.takes", "list takes: slate, timecode, length, frames late"),
    "inspect": ("ledvolume.commands.inspect", "look at a take or a baked scene: its facts, and a picture of it"),
    "bake": ("ledvolume.commands.bake", "make a scene for the wall from a nerfstudio checkpoint"),
    "zone": ("ledvolume.commands.zone", "where the camera may go: how well photographs support what the wall shows"),
    "still": ("ledvolume.commands.still", "one picture of a place from one camera, baked or exact"),
    "environment": ("ledvolume.commands.environment", "a place's light from all round a point, as EXR for lighting tools"),
    "listen": ("ledvolume.commands.listen", "print what a camera tracker sends, and why it is refused"),
    "lens": ("ledvolume.commands.lens", "look at a lens table: stations, overscan, the bent picture"),
    "wizard": ("ledvolume.commands.wizard", "learn a tracker's axes, signs and units by moving the camera"),
    "record": ("ledvolume.commands.record", "record what camera trackers send, in one file"),
    "convert": ("ledvolume.commands.convert", "convert camera tracks: takes, OpenTrackIO, CSV, TUM, chan, nerfstudio, USD"),
    "replay": ("ledvolume.commands.replay", "render a take or any camera track, as well as it can be done"),
    "calibrate": ("calibration.cli", "find out where wall, camera and lens are, from photographs"),
    "simulate": ("ledvolume.commands.simulate", "send a recorded or built-in camera move, as a tracker would"),
}

# module → the extra that has it (pyproject.toml), for modules that commands import as they need them
EXTRAS = {
    **dict.fromkeys(("cv2", "scipy", "threadpoolctl", "ufbx"), "calibrate"),
    **dict.fromkeys(("torch", "yaml"), "bake"),
    "pxr": "usd",
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return choose("ledvolume", "Live NeRF environments on LED volumes.", COMMANDS, argv)


def choose(program: str, description: str, commands: dict[str, tuple[str, str]], argv: list[str]) -> int:
    """Run the one of `commands` that argv begins with: its exit code."""
    try:
        module = importlib.import_module(commands[argv[0]][0]) if argv and argv[0] in commands else None
    except ModuleNotFoundError as error:
        return _missing(program, argv[0], error)
    if hasattr(module, "COMMANDS"):
        return choose(f"{program} {argv[0]}", module.__doc__, module.COMMANDS, argv[1:])
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, help_line) in commands.items():
        command = subparsers.add_parser(name, help=help_line, description=help_line)
        if module is not None and name == argv[0]:
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            command.description = module.__doc__
            module.arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except LedvolumeError as error:
        print(f"{program} {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        return _missing(program, args.command, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever read our output has gone (`| head`): nothing is wrong, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _missing(program: str, command: str, error: ModuleNotFoundError) -> int:
    """Say which extra a command needs; a module of ours that is not there is a mistake, and stays one."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        raise error
    extra = EXTRAS[module]
    print(f"{program} {command}: needs {module}, of the extra `{extra}`: pip install 'ledvolume[{extra}]'", file=sys.stderr)
    return 2
