"""Look at a take or a baked scene: what it is, in numbers and as a picture.

  ledvolume inspect 12A-3.mcap                      facts, and 12A-3.png beside the take
  ledvolume inspect 12A-3.mcap --plot out/look.png
  ledvolume inspect door.safetensors --plot out/door.png
  ledvolume inspect 12A-3.mcap --json               facts only, for programs

The picture of a take: its track in plan view, speeds, ages of the poses and late frames; one that was cut off is shown as
far as it goes. Of a scene: the place all round, from eyes of its zone and in plan, what lies behind it, bricks by voxel size.
"""

import argparse
from pathlib import Path

import msgspec

from ledvolume.commands.quantities import writable_file
from ledvolume.take import Take, sha256, summary_of
from ledvolume.take_picture import save_picture


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="TAKE.mcap|SCENE.safetensors", type=Path)
    parser.add_argument("--plot", metavar="FILE.png", type=writable_file, help="default: beside the file")
    parser.add_argument("--json", action="store_true", help="facts as JSON; a picture only with --plot")


def run(args: argparse.Namespace) -> int:
    plot = args.plot or (None if args.json else args.file.with_suffix(".png"))
    (_scene if args.file.suffix.lower() == ".safetensors" else _take)(args.file, args.json, plot)
    if plot and not args.json:
        print(f"{'picture':16} {plot}")
    return 0


def _scene(file: Path, is_json: bool, plot: Path | None) -> None:
    from ledvolume.scene_picture import in_words, save_scene_picture
    from ledvolume.scenes import bricks
    from ledvolume.scenes.scene_facts import facts_of

    scene = bricks.load(file)
    facts = facts_of(file, scene, sha256(file))
    if is_json:
        print(msgspec.json.encode(facts).decode())
    else:
        for name, value in in_words(facts).items():
            print(f"{name:16} {value}")
    if plot:
        save_scene_picture(plot, scene, facts)


def _take(file: Path, is_json: bool, plot: Path | None) -> None:
    take = Take(file)
    summary = summary_of(take)
    if is_json:
        print(msgspec.json.encode({"file": str(file)} | msgspec.to_builtins(summary) | take.facts).decode())
    else:
        for name, value in {**take.facts, **msgspec.to_builtins(summary)}.items():
            print(f"{name:16} {value}")
        for place, scene in take.scenes.items():
            print(f"{'scene ' + place:16} {scene['file']}, sha256 {scene['sha256'][:16]}…")
        for number, source in enumerate(take.sources):
            print(f"{f'source {number}':16} {source.uri}")
    if plot:
        save_picture(plot, take)
