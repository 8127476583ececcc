"""Wall geometry from the files of other programs: look at it, draw it, put it into a show.

  ledvolume calibrate import wall.obj --pitch 2.84 --picture out/wall.png
  ledvolume calibrate import stage.ndisplay --show show.toml --out imported.toml
  ledvolume calibrate import wall.fbx --as arc --resolution 2464x1056 --surface pPlane1 --show show.toml --out imported.toml

Prints a line for each surface: size, LED pixels, pitch, shape, corners (of its LED pixels: top left, top right, bottom right,
bottom left), and what was guessed. With --show and --out, a show whose surfaces are those of the file is written; with
--surface, that one takes the place of the show's of the same name, or is added.
"""

import argparse
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from calibration.exchange import FORMATS, Assumed, Fit, Wall, corners_of, format_of, load_wall
from calibration.exchange.axes import AXES
from calibration.exchange.picture import save_picture
from calibration.exchange.show_stage import with_surfaces
from calibration.show_edit import save
from ledvolume.commands.quantities import new_file, positive, three, writable_file
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.show_file import SolvedSurfaceTable
from ledvolume.stage import Arc, Flat, PositionMap, Surface


def arguments(parser: argparse.ArgumentParser) -> None:
    listed = "\n".join(f"  {name:12}{', '.join(f.suffixes):24}{f.help_line}" for name, f in FORMATS.items())
    parser.epilog = f"formats:\n{listed}\n\naxes: {', '.join(f'{name} ({axes})' for name, axes in AXES.items())}"
    parser.add_argument("file", metavar="FILE", type=Path, help="a file that holds a wall")
    parser.add_argument("--format", default="", metavar="NAME", help="of FILE (default: by its suffix)")
    parser.add_argument("--surface", default="", metavar="NAME", help="only this one of its surfaces")
    parser.add_argument("--resolution", type=resolution, metavar="WxH", help="LED pixels of the surface, or of each")
    parser.add_argument("--pitch", type=positive, metavar="MM", help="LED pitch, where the pixels are not told")
    parser.add_argument(
        "--as", dest="shape", choices=("auto", "arc", "map", "flat"), default="auto",
        help="what surfaces shall become (auto: what they are exactly, a map of cells where they are no plane and no arc)",
    )  # fmt: skip
    parser.add_argument("--tolerance", type=positive, metavar="MM", help="how far LED pixels may be moved by --as")
    parser.add_argument(
        "--cells", choices=("auto", "uv", "panels"), default="auto",
        help="of meshes: LED pixels by UV, or equally many in each panel (auto: by UV, unless the panels are of one size)",
    )  # fmt: skip
    axes_arguments(parser, "--from-axes", "of the file, along the stage's X, Y and Z, where the format does not say")
    parser.add_argument("--distance", type=positive, metavar="M", help="of the wall, for an MPCDI that holds only views (1)")
    parser.add_argument("--pan", type=float, default=0.0, metavar="DEG", help="turn all of it about the origin, + left")
    parser.add_argument("--move", type=three, default=(0.0, 0.0, 0.0), metavar="X,Y,Z", help="and move it, metres")
    parser.add_argument("--show", metavar="SHOW", type=Path, help="a show, to be written with these surfaces")
    parser.add_argument("--out", metavar="NEW.toml", type=new_file, help="the show to write")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--picture", metavar="FILE.png", type=writable_file, help="draw it: plan and elevations")


def axes_arguments(parser: argparse.ArgumentParser, option: str, which: str) -> None:
    """--from-axes or --to-axes, and --scale."""
    parser.add_argument(option, dest="axes", default="", metavar="AXES", help=f'such as "x,-z,y" or y-up: the axes {which}')
    parser.add_argument("--scale", type=positive, metavar="M", help="metres per unit of the file")


def run(args: argparse.Namespace) -> int:
    if (args.show is None) != (args.out is None):
        raise ConfigError("command line", "--show, --out", "both or none", args.show or args.out)
    if not all(map(math.isfinite, (args.pan, *args.move))):
        raise ConfigError("command line", "--pan, --move", "finite numbers", (args.pan, args.move))
    assumed = Assumed(
        axes=args.axes,
        scale_m=args.scale,
        resolution_px=args.resolution,
        pitch_m=None if args.pitch is None else args.pitch / 1000,
        shape=args.shape,
        tolerance_m=None if args.tolerance is None else args.tolerance / 1000,
        cells=args.cells,
        distance_m=args.distance,
    )
    wall = load_wall(args.file, assumed, args.format)
    if args.surface:
        wall = wall.only(args.surface, args.file)
    if args.pan or any(args.move):
        wall = wall.moved(args.move, math.radians(args.pan))
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(wall)), indent=1).decode())
    else:
        count = "1 surface" if len(wall.surfaces) == 1 else f"{len(wall.surfaces)} surfaces"
        print(f"{args.file}: {format_of(args.file, args.format)}, {count}")
        print("\n".join(lines(wall)))
    if args.picture:
        save_picture(wall, args.picture, args.file.name)
        _say(args, f"wrote {args.picture}")
    if args.show:
        write_show(wall, args)
        _say(args, f"wrote {args.out}")
    return 0


def _say(args: argparse.Namespace, text: str) -> None:
    """On the other channel where the first one is JSON."""
    print(text, file=sys.stderr if args.json else sys.stdout)


def write_show(wall: Wall, args: argparse.Namespace) -> None:
    """The show with the wall's surfaces. Raises ConfigError."""
    now = datetime.now(UTC)
    solved = {
        f"surface {surface.name}": SolvedSurfaceTable(f"calibrate import ({wall.format})", now, args.file.name)
        for surface in wall.surfaces
    }
    show = load_show(args.show)
    save(with_surfaces(show, wall.surfaces, bool(args.surface), solved, args.out.resolve().parent), args.out)
    load_show(args.out)


def lines(wall: Wall) -> list[str]:
    """A wall for people."""
    told = []
    width = max(len(surface.name) for surface in wall.surfaces)
    for surface, fit in zip(wall.surfaces, wall.fits):
        (w_m, h_m), (w, h) = surface.size_m, surface.resolution_px
        pitch = f"{w_m / w * 1000:.3f} × {h_m / h * 1000:.3f} mm"
        told.append(f"  {surface.name:{width}}  {w_m:.3f} × {h_m:.3f} m  {w} × {h} px  pitch {pitch}  {shape_in_words(surface)}")
        corners = "  ".join("(" + ", ".join(f"{c + 0.0:.3f}" for c in corner.round(3)) + ")" for corner in corners_of(surface))
        told.append(f"  {'':{width}}  corners, m: {corners}")
        if fit.residual_m > 0:
            told.append(f"  {'':{width}}  LED pixels are at most {fit.residual_m * 1000:.3f} mm from where the file has them")
        if fit.arc_radius_m is not None and not isinstance(surface.shape, Flat):
            told.append(f"  {'':{width}}  {arc_in_words(fit)}")
    if wall.placements:
        told.append("in the processors' rasters:")
    for p in wall.placements:
        turn = f", turned {p.rotation_deg}° clockwise" if p.rotation_deg else ""
        part = "" if p.offset_px == (0, 0) else f" from {p.offset_px[0]}, {p.offset_px[1]}"
        size = " × ".join(map(str, wall.rasters[p.raster]))
        told.append(
            f"  {p.raster} ({size} px): {p.surface}{part}, {p.resolution_px[0]} × {p.resolution_px[1]} px, "
            f"at {p.raster_px[0]}, {p.raster_px[1]}{turn}"
        )
    return told + [f"note: {note}" for note in wall.notes]


def shape_in_words(surface: Surface) -> str:
    """`arc, R 11.235 m, hollow`."""
    shape = surface.shape
    if isinstance(shape, Arc):
        side = "hollow toward the viewer" if shape.radius_m > 0 else "bulging toward the viewer"
        return f"arc, R {abs(shape.radius_m):.4f} m, {side}"
    return f"map of {shape.columns} × {shape.rows} cells" if isinstance(shape, PositionMap) else "flat"


def arc_in_words(fit: Fit) -> str:
    """What the arc that fits best says of the file's cells."""
    text = f"nearest arc: R {abs(fit.arc_radius_m):.4f} m, at most {fit.arc_residual_m * 1000:.3f} mm off"
    return text + (f" at the corners of cells, {fit.facet_m * 1000:.3f} mm in their middles" if fit.facet_m is not None else "")


def as_json(wall: Wall) -> dict:
    """A wall for programs."""
    surfaces = []
    for surface, fit in zip(wall.surfaces, wall.fits):
        shape, pose = surface.shape, surface.stage_from_surface
        kind = {Flat: "flat", Arc: "arc", PositionMap: "map"}[type(shape)]
        entry = {
            "name": surface.name,
            "shape": kind,
            "size_m": surface.size_m,
            "resolution_px": surface.resolution_px,
            "stage_from_surface": pose,
            "corners_m": corners_of(surface).tolist(),
            "fit": fit,
        }
        if kind == "arc":
            entry["radius_m"] = shape.radius_m
        elif kind == "map":
            entry["cells"] = (shape.columns, shape.rows)
        surfaces.append(entry)
    return {
        "format": wall.format,
        "surfaces": surfaces,
        "placements": wall.placements,
        "rasters": wall.rasters,
        "notes": wall.notes,
    }


def resolution(text: str) -> tuple[int, int]:
    """2464x1056."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 65536 for part in parts):
        raise argparse.ArgumentTypeError(f"expected LED pixels such as 2464x1056, got {text!r}")
    return int(parts[0]), int(parts[1])
