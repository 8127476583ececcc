"""Show coded patterns on the wall, through the server's own outputs: what is photographed is what the wall really shows.

  ledvolume calibrate patterns SHOW.toml                                the Gray code, half a second each, once
  ledvolume calibrate patterns SHOW.toml --series dots --seconds 600    one pattern: every photograph of it is a view
  ledvolume calibrate patterns SHOW.toml --step                         Enter: the next; a name: that one; back; q: the end
  ledvolume calibrate patterns SHOW.toml --series gray --pictures out/patterns        as pictures, for other players

  ledvolume calibrate patterns SHOW.toml --series flash                 for `calibrate latency`: a flash a frame, 15 seconds

Flashes of a whole wall can harm people with photosensitive epilepsy: say it, and clear the stage.

--series: gray, dots, flash, white, black, identify, or names of patterns (gray/x/3/inverse, surface/ceiling); several. The show's
baked scenes need not be there. Which pattern was on the wall when is written to --shown (shown.jsonl), a line a change:
`calibrate capture --shown` gives each picture its pattern by that.
--pictures writes FOLDER/0003_gray_x_0/TILE.png for each pattern and tile, and SURFACE.png for surfaces of several tiles, in
the show's pixel format, black 0 and white the largest value; no graphics are needed for it.
"""

import argparse
import os
import select
import signal
import sys
from pathlib import Path

import msgspec
import numpy as np

from calibration.series import Stepped, Timed, name_of, names_of
from ledvolume import patterns
from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import count, positive, writable_file
from ledvolume.config import Show, load_show
from ledvolume.errors import ConfigError
from ledvolume.outputs.images import file_name, png
from ledvolume.outputs.pixels import PixelFormat, rgb10_packed
from ledvolume.outputs.whole_file import write_whole
from ledvolume.stage import WallTile

SHOWN = Path("shown.jsonl")
SECONDS_EACH, FLASH_SECONDS = 0.5, 15.0
STDIN = 0
WHITE = {"rgb8": (np.uint8, 255), "rgb10": (np.uint16, 1023), "rgb16": (np.uint16, 65535)}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("show", metavar="SHOW.toml", type=Path, help="the show file: its stage and its outputs")
    parser.add_argument("--series", metavar="NAME", nargs="+", default=["gray"], help="gray (default), dots, white, identify, …")
    parser.add_argument("--seconds-each", metavar="S", type=positive, help="how long each is shown (0.5; flashes a frame)")
    parser.add_argument("--rounds", metavar="N", type=count, default=1, help="how often the series is shown (1)")
    parser.add_argument("--step", action="store_true", help="Enter shows the next one, a name that one")
    parser.add_argument("--seconds", metavar="N", type=positive, help="stop after N seconds")
    parser.add_argument("--output", metavar="URI", action="append", default=[], help="instead of the show's outputs")
    parser.add_argument("--shown", metavar="FILE.jsonl", type=writable_file, default=SHOWN, help="what was shown, and when")
    parser.add_argument("--status", metavar="FILE.json", type=writable_file, help="as of `ledvolume serve`")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="write pictures instead of showing anything")


def run(args: argparse.Namespace) -> int:
    show = load_show(args.show)
    names = names_of(show.stage.surfaces, args.series)
    if args.pictures:
        return _write_pictures(show, names, args.pictures)
    from ledvolume.server import serve  # with OpenGL

    if not show.outputs and not args.output:
        raise ConfigError(show.file, "output", "at least one [[output]], or --output", "none: nobody would see it")
    outputs = (*(args.output or show.outputs), f"cues:{args.shown.absolute()}")
    show = msgspec.structs.replace(show, outputs=outputs, places={}, sources=())
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    terminal = LiveLine()
    are_flashes = all(name.startswith("flash/") for name in names)
    each_s = args.seconds_each or (float(1 / show.rate) if are_flashes else SECONDS_EACH)
    cue_at = Stepped(names) if args.step else Timed(names, int(each_s * 1e9), args.rounds)
    how = "Enter: the next, a name: that one, back, q: the end" if args.step else f"{each_s:.3g} s each"
    terminal.say(f"{show.name}: {len(names)} patterns on {len(show.stage.tiles)} tiles, {how}")
    said = Said(cue_at, names, Lines(STDIN) if args.step else None, terminal.say)
    summary = serve(
        show,
        seconds=args.seconds or (FLASH_SECONDS if are_flashes else None),
        status_file=args.status,
        warn=lambda words: None if "no pose" in words else terminal.say(words),
        is_stopped=lambda: bool(stopped),
        cue_at=said,
    )
    late = f", {summary['frames_late']} late" if summary["frames_late"] else ""
    terminal.say(f"{summary['frames']} frames{late}; what was shown and when: {args.shown}")
    return 0 if summary["frames"] else 1


class Said:
    """cue_at of a run, which says what is shown next and hears what is typed."""

    def __init__(self, cue_at: Timed | Stepped, names: list[str], lines: "Lines | None", say):
        self._cue_at, self._names, self._lines, self._say = cue_at, names, lines, say
        self._cue: str | None = ""

    def __call__(self, at_ns: int) -> str | None:
        for line in self._lines.new() if self._lines else ():
            try:
                self._cue_at.say(line)
            except ConfigError as error:
                self._say(str(error))
        cue = self._cue_at(at_ns)
        name = name_of(cue or "")
        if cue != self._cue and name and not name.startswith("flash/"):
            place = f"{self._names.index(name) + 1} of {len(self._names)}" if name in self._names else "not of the series"
            self._say(f"{place}: {name}")
        self._cue = cue
        return cue


class Lines:
    """Lines of a terminal or a pipe, without ever waiting for one. Its end is the line `q`."""

    def __init__(self, descriptor: int):
        self._descriptor, self._rest, self._is_ended = descriptor, b"", False

    def new(self) -> list[str]:
        """What has been typed since it was asked last."""
        lines: list[str] = []
        while not self._is_ended and select.select([self._descriptor], [], [], 0)[0]:
            data = os.read(self._descriptor, 4096)
            self._is_ended = not data
            *whole, self._rest = (self._rest + data).split(b"\n")
            lines += [line.decode(errors="replace") for line in whole] + ["q"] * self._is_ended
        return lines


def _write_pictures(show: Show, names: list[str], folder: Path) -> int:
    of_surface: dict[str, list[WallTile]] = {}
    for tile in show.stage.tiles:
        of_surface.setdefault(tile.surface.name, []).append(tile)
    taken = {tile.name for tile in show.stage.tiles}
    whole = {
        surface: WallTile(surface, tiles[0].surface, (0, 0), tiles[0].surface.resolution_px)
        for surface, tiles in of_surface.items()
        if len(tiles) > 1 and surface not in taken
    }
    wanted = [*show.stage.tiles, *whole.values()]
    for number, name in enumerate(names):
        for tile in wanted:
            file = folder / f"{number:04d}_{name.replace('/', '_')}" / f"{file_name(tile.name)}.png"
            write_whole(file, png(code_values(patterns.draw(tile, name), show.pixel_format)))
    print(f"{len(names)} patterns × {len(wanted)} pictures in {folder}", file=sys.stderr)
    return 0


def code_values(values: np.ndarray, pixel_format: PixelFormat) -> np.ndarray:
    """A pattern (H, W, 3), 0 to 1, in a pixel format: straight to the wall, with no transfer function between."""
    dtype, white = WHITE[pixel_format]
    codes = np.rint(np.asarray(values, np.float64) * white).astype(dtype)
    return rgb10_packed(codes) if pixel_format == "rgb10" else codes
