"""Look at a take: what ran, and its track in plan view, speeds, ages of the poses and late frames as a picture.

  ledvolume inspect 12A-3.mcap                      facts, and 12A-3.png beside the take
  ledvolume inspect 12A-3.mcap --plot out/look.png
  ledvolume inspect 12A-3.mcap --json               facts only, for programs

A take that was cut off is shown as far as it goes.
"""

import argparse
from pathlib import Path

import msgspec

from ledvolume.commands.quantities import writable_file
from ledvolume.take import Take, summary_of
from ledvolume.take_picture import save_picture


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("take", metavar="TAKE.mcap", type=Path)
    parser.add_argument("--plot", metavar="FILE.png", type=writable_file, help="default: beside the take")
    parser.add_argument("--json", action="store_true", help="facts as JSON; a picture only with --plot")


def run(args: argparse.Namespace) -> int:
    take = Take(args.take)
    summary = summary_of(take)
    if args.json:
        print(msgspec.json.encode({"file": str(args.take)} | msgspec.to_builtins(summary) | take.facts).decode())
    else:
        for name, value in {**take.facts, **msgspec.to_builtins(summary)}.items():
            print(f"{name:16} {value}")
        for place, scene in take.scenes.items():
            print(f"{'scene ' + place:16} {scene['file']}, sha256 {scene['sha256'][:16]}…")
        for number, source in enumerate(take.sources):
            print(f"{f'source {number}':16} {source.uri}")
    plot = args.plot or (None if args.json else args.take.with_suffix(".png"))
    if plot:
        save_picture(plot, take)
        if not args.json:
            print(f"{'picture':16} {plot}")
    return 0
