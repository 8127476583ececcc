"""Convert camera tracks between formats: takes, OpenTrackIO lines, CSV, TUM, Nuke's chan, nerfstudio's paths, USD.

  ledvolume convert take.mcap camera.csv --camera A
  ledvolume convert take.mcap camera.chan --camera A --rate 24000/1001 --sensor 36,24
  ledvolume convert camera_path.json path.usda --show show.toml --place lund-door

The format is told by the file's suffix, or by --from and --to. A take that was cut off is read as far as it goes. Says what
it wrote, and what the target has no place for.
"""

import argparse
import os
from pathlib import Path

from ledvolume.clock import frame_rate
from ledvolume.commands.quantities import writable_file
from ledvolume.commands.reading import sensor_argument
from ledvolume.commands.track_files import assumed_of, in_words, open_track, track_arguments
from ledvolume.errors import ConfigError
from ledvolume.tracks import FORMATS, format_of, save_track
from ledvolume.tracks.resample import resampled


def arguments(parser: argparse.ArgumentParser) -> None:
    listed = "\n".join(f"  {name:12}{', '.join(f.suffixes):22}{f.help_line}" for name, f in FORMATS.items())
    parser.epilog = f"formats:\n{listed}"
    parser.add_argument("track", metavar="IN", help="a file with a camera track")
    parser.add_argument("out", metavar="OUT", type=writable_file, help="the file to write")
    parser.add_argument("--to", dest="to_format", default="", metavar="FORMAT", help="of OUT (default: by its suffix)")
    parser.add_argument("--rate", default="", metavar="FPS", help="resample to this many frames a second, exactly")
    parser.add_argument("--start-frame", type=int, default=1, metavar="N", help="chan, USD: number of the first frame (1)")
    sensor_argument(parser)
    track_arguments(parser)


def run(args: argparse.Namespace) -> int:
    target = format_of(args.out, args.to_format)
    assumed = assumed_of(args, args.start_frame)
    if args.out.exists() and target == "mcap":
        raise ConfigError(args.out, "OUT", "a new file: no take is ever written over", "a file that is there")
    if args.out.exists() and Path(args.track).exists() and args.out.samefile(args.track):
        raise ConfigError(args.out, "OUT", "another file than IN", args.track)
    track = open_track(args.track, args, assumed)
    print(f"read {args.track} ({track.format}): {in_words(track)}")
    _say(track.notes)
    if args.rate:
        before = len(track.notes)
        track = resampled(track, frame_rate(args.rate, "--rate"))
        _say(track.notes[before:])
    part = args.out.with_name(f".{os.getpid()}-{args.out.name}")
    try:
        notes = save_track(track, part, assumed, target)
        part.replace(args.out)
    except ConfigError as error:
        raise ConfigError(
            str(args.out) if error.file == str(part) else error.file, error.key, error.expected, error.got
        ) from None
    finally:
        part.unlink(missing_ok=True)
    print(f"wrote {args.out} ({target}): {in_words(track)}, {args.out.stat().st_size} bytes")
    _say(notes)
    return 0


def _say(notes) -> None:
    for note in notes:
        print(f"  {note}")
