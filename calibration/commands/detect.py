"""Find LED pixels in the photographs of a calibration: which point of the picture shows which LED pixel, how exactly.

  ledvolume calibrate detect FOLDER --show SHOW.toml
  ledvolume calibrate detect FOLDER --show SHOW.toml --pictures

FOLDER holds shots.json and the pictures; views.json is written beside them, for `calibrate solve`. The show names the surfaces
and their LED pixels; where they stand does not matter. A table says of every view how many matches each surface has, their
median sigma, and what was thrown away and why (docs/calibration.md). --pictures draws the matches: FOLDER/detected/VIEW.png.

A view whose pictures cannot be read as what they should show is named and left out; exit status 1 if there is one. When no view
is left nothing is written.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from calibration.commands.picture_bar import PictureBar
from calibration.detect import by_view, grey, view_of
from calibration.picture_sources import natural, read_picture
from calibration.session import Shot, View, load_shots, load_views, save
from ledvolume.config import load_show
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.outputs.images import file_name, png
from ledvolume.outputs.whole_file import write_whole

SHOTS, VIEWS, DRAWN = "shots.json", "views.json", "detected"
COLOURS = ("#00e060", "#40a0ff", "#ffb000", "#ff50c0", "#00d8d8", "#c0ff40")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the calibration's folder, with shots.json and pictures")
    parser.add_argument("--show", metavar="SHOW.toml", type=Path, required=True, help="the show: its surfaces are looked for")
    parser.add_argument(
        "--views", metavar="VIEW", nargs="+", default=[], help="only these (all); the others stay as they were found"
    )
    parser.add_argument("--pictures", action="store_true", help=f"draw what was found into FOLDER/{DRAWN}")
    parser.add_argument("--json", action="store_true", help="the table as JSON, on the standard output")


def run(args: argparse.Namespace) -> int:
    surfaces = load_show(args.show).stage.surfaces
    chosen = by_view(load_shots(args.folder / SHOTS))
    if unknown := set(args.views) - set(chosen):
        raise ConfigError(args.folder / SHOTS, "--views", f"of {', '.join(chosen)}", ", ".join(sorted(unknown)))
    chosen = {name: shots for name, shots in chosen.items() if not args.views or name in args.views}
    if not chosen:
        raise ConfigError(args.folder / SHOTS, "shots", "pictures of at least one view", "none")
    views, failed = [], {}
    with PictureBar("reading", sum(map(len, chosen.values()))) as bar:
        for name, shots in chosen.items():
            try:
                pictures = {pattern: _picture(args.folder, shot, bar) for pattern, shot in shots.items()}
                view = view_of(shots, pictures, surfaces)
            except CalibrationError as error:
                failed[name] = str(error)
            else:
                views.append(view)
                if args.pictures:
                    _draw(args.folder / DRAWN / f"{file_name(name)}.png", view, pictures, [s.name for s in surfaces])
    if not views:
        raise CalibrationError("\n".join(["no view could be read, nothing is written:", *_told(failed)]))
    file = args.folder / VIEWS
    kept = []
    if args.views and file.exists():
        kept = [view for view in load_views(file) if view.name not in chosen]
    save(file, sorted([*kept, *views], key=lambda view: natural(Path(view.name))))
    names = [surface.name for surface in surfaces]
    if args.json:
        said = {"views": [row_of(view) for view in views], "failed": failed, "file": str(file)}
        sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
    else:
        _print_table(views, names)
        print(f"written: {file}")
    for line in _told(failed):
        print(line, file=sys.stderr)
    return 1 if failed else 0


def row_of(view: View) -> dict:
    """One view of the table, as values."""
    surfaces = {m.surface: {"matches": len(m.led_px), "sigma_px": round(float(np.median(m.sigma_px)), 4)} for m in view.matches}
    return {"view": view.name, "matches": view.count, "surfaces": surfaces, "thrown_away": view.thrown_away}


def _told(failed: dict[str, str]) -> list[str]:
    return [f"view {name}: {reason}" for name, reason in failed.items()]


def _picture(folder: Path, shot: Shot, bar: PictureBar) -> np.ndarray:
    bar.advance(shot)
    return grey(read_picture(folder / shot.picture).pixels)


def _print_table(views: list[View], surfaces: list[str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("view")
    for name in surfaces:
        table.add_column(escape(name), justify="right")
    table.add_column("σ px", justify="right")
    table.add_column("thrown away")
    for view in views:
        counts = Counter()
        for m in view.matches:
            counts[m.surface] += len(m.led_px)
        sigma = np.median(np.concatenate([m.sigma_px for m in view.matches]))
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(view.thrown_away.items(), key=lambda r: -r[1]))
        table.add_row(escape(view.name), *(f"{counts[name]}" for name in surfaces), f"{sigma:.3f}", reasons)
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)


def _draw(file: Path, view: View, pictures: dict[str, np.ndarray], surfaces: list[str]) -> None:
    """The picture, dim, with a dot at every match in its surface's colour; LED pixel numbers at some of them."""
    name = next((n for n in ("white", *(p for p in pictures if p.startswith("dots"))) if n in pictures), next(iter(pictures)))
    values = pictures[name]
    dim = (values.astype(np.float32) * (150 / np.iinfo(values.dtype).max)).astype(np.uint8)
    image = Image.fromarray(dim).convert("RGB")
    pen, size = ImageDraw.Draw(image), max(view.resolution_px[0] / 1200, 1.0)
    for m in view.matches:
        colour = COLOURS[surfaces.index(m.surface) % len(COLOURS)]
        for x, y in m.picture_px:
            pen.ellipse((x - 0.5 - 1.5 * size, y - 0.5 - 1.5 * size, x - 0.5 + 1.5 * size, y - 0.5 + 1.5 * size), outline=colour)
        for (column, row), (x, y) in list(zip(m.led_px, m.picture_px))[:: max(len(m.led_px) // 24, 1)]:
            pen.text((x + 2 * size, y), f"{column:g},{row:g}", fill=colour, font_size=11 * size)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, png(np.asarray(image)))
