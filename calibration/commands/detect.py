"""Find LED pixels in photographs: which LED pixel is where in the picture, and how sure that is.

  ledvolume calibrate detect FOLDER --show SHOW.toml
  ledvolume calibrate detect FOLDER --show SHOW.toml --pictures looked-at      what was found, drawn over the photographs

FOLDER holds shots.json and the pictures, as `calibrate capture` leaves them; views.json is written there, for `calibrate solve`.
The show says which surfaces there are and how many LEDs they have; where they are does not matter.

A view that cannot be read is named with its reason and left out; exit status 1 if there is one, 2 if none can be read.
"""

import argparse
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.detect import view_of
from calibration.picture_sources import read_picture
from calibration.session import Shot, View, load_shots, save
from ledvolume.config import load_show
from ledvolume.errors import CalibrationError
from ledvolume.outputs.whole_file import write_whole

SHOTS, VIEWS = "shots.json", "views.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=f"the calibration's folder, with {SHOTS}")
    parser.add_argument("--show", metavar="SHOW.toml", type=Path, required=True, help="its surfaces and their resolutions")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="draw matches over each view's brightest picture")
    parser.add_argument("--json", action="store_true", help="counts by view as JSON, on the standard output")


def run(args: argparse.Namespace) -> int:
    surfaces = load_show(args.show).stage.surfaces
    by_view: dict[str, list[Shot]] = {}
    for shot in load_shots(args.folder / SHOTS):
        by_view.setdefault(shot.view, []).append(shot)
    console = Console(stderr=True)
    views, refused = [], {}
    for name, shots in track(by_view.items(), "detect", console=console, transient=True):
        try:
            views.append(view_of(shots, surfaces, args.folder))
        except CalibrationError as error:
            refused[name] = str(error)
            console.print(f"[red]{error}[/]", highlight=False)
            continue
        if args.pictures:
            _draw(views[-1], shots, args.folder, args.pictures)
    if not views:
        raise CalibrationError(f"{args.folder}: none of {len(by_view)} views can be read; nothing is written")
    save(args.folder / VIEWS, views)
    if args.json:
        said = [
            {"view": v.name, "matches": {m.surface: len(m.led_px) for m in v.matches}, "thrown_away": v.thrown_away}
            for v in views
        ]
        sys.stdout.write(msgspec.json.encode({"views": said, "refused": refused}).decode() + "\n")
    else:
        Console().print(_table(views, [surface.name for surface in surfaces]))
        print(f"{args.folder / VIEWS}: {len(views)} of {len(by_view)} views, {sum(v.count for v in views)} matches")
    return 1 if refused else 0


def _table(views: list[View], surfaces: list[str]) -> Table:
    table = Table("view", *surfaces, "σ px, median", "not believed")
    for view in views:
        counts = {m.surface: len(m.led_px) for m in view.matches}
        sigma_px = np.median(np.concatenate([m.sigma_px for m in view.matches]))
        thrown = ", ".join(f"{reason} {n}" for reason, n in sorted(view.thrown_away.items(), key=lambda item: -item[1]))
        table.add_row(view.name, *(str(counts.get(name, "-")) for name in surfaces), f"{sigma_px:.2f}", thrown)
    return table


def _draw(view: View, shots: list[Shot], folder: Path, into: Path) -> None:
    """Each match as a dot, its colour where on the surface it is: a smooth play of colours is right, a speckle is not."""
    shot = next((s for s in shots if s.pattern == "white" or s.pattern.startswith("dots")), shots[0])
    pixels = read_picture(folder / shot.picture).pixels
    grey = pixels if pixels.ndim == 2 else pixels.mean(-1)
    canvas = cv2.cvtColor((grey * (160 / np.iinfo(pixels.dtype).max)).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    radius = max(round(max(view.resolution_px) / 500), 1)
    for matches in view.matches:
        place = matches.led_px / matches.led_px.max(0)
        for (x, y), (u, v) in zip(matches.picture_px, place):
            cv2.circle(
                canvas, (round(x - 0.5), round(y - 0.5)), radius, (int(255 * u), int(255 * v), 255 - int(127 * (u + v))), -1
            )
    _, png = cv2.imencode(".png", canvas)
    into.mkdir(parents=True, exist_ok=True)
    write_whole(into / f"{view.name}.png", png.tobytes())
