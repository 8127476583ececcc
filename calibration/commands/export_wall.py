"""A show's wall for other programs: MPCDI, nDisplay, OBJ, USD, OpenVPCal.

  ledvolume calibrate export show.toml --to wall.mpcdi
  ledvolume calibrate export show.toml --to wall.obj --to-axes unreal --scale 0.01
  ledvolume calibrate export show.toml --to stage.json       stage_panels.json, stage_walls.json, stage_raster.json

What is read back is what was written, to a micrometre; what a format has no place for is said.
"""

import argparse
from pathlib import Path

from calibration.commands.import_wall import axes_arguments
from calibration.exchange import FORMATS, Assumed, Wall, save_wall
from ledvolume.commands.quantities import writable_file
from ledvolume.config import load_show


def arguments(parser: argparse.ArgumentParser) -> None:
    written = {name: f for name, f in FORMATS.items() if f.is_written}
    listed = "\n".join(f"  {name:12}{', '.join(f.suffixes):24}{f.help_line}" for name, f in written.items())
    parser.epilog = f"formats:\n{listed}"
    parser.add_argument("show", metavar="SHOW", type=Path, help="a show file")
    parser.add_argument("--to", required=True, metavar="FILE", type=writable_file, help="the file to write")
    parser.add_argument("--format", default="", metavar="NAME", help="of FILE (default: by its suffix)")
    parser.add_argument("--surface", default="", metavar="NAME", help="only this one of the show's surfaces")
    axes_arguments(parser, "--to-axes", "to write, along the stage's X, Y and Z (default: the format's)")


def run(args: argparse.Namespace) -> int:
    show = load_show(args.show)
    wall = Wall(show.stage.surfaces, "show")
    if args.surface:
        wall = wall.only(args.surface, args.show)
    notes = save_wall(wall, args.to, Assumed(axes=args.axes, scale_m=args.scale), args.format)
    print(f"{args.to}: {', '.join(surface.name for surface in wall.surfaces)}")
    for note in notes:
        print(f"  {note}")
    return 0
