"""Make a scene for the wall from a nerfstudio checkpoint, and say how true it is.

    ledvolume bake outputs/door/nerfacto/run --show configs/demo.toml --report bake.json --picture bake.png
    ledvolume bake run/config.yml --zone=-0.1,0.5,0,0.2,0.7,0.2 --out place.safetensors --size 50

With --show the place is baked for that show's wall, as seen from its zone: resolution follows the footprints of its LED
pixels, and what the wall cannot show is left out. With --zone (a box in the checkpoint's own units) it is baked for all
directions. The result is verified from eyes in the zone that the bake has not used. Takes minutes on two CPU cores.
Where the cameras of the photographs are known, the safe camera zone is mapped too (`ledvolume zone`).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from ledvolume.commands.quantities import positive, writable_file
from ledvolume.errors import ConfigError
from ledvolume.pose import Similarity


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CONFIG_OR_CHECKPOINT", help="nerfstudio run: folder, config.yml or .ckpt"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--show", type=Path, help="show file: bake for its wall and zone")
    where.add_argument("--zone", metavar="X0,Y0,Z0,X1,Y1,Z1", help="box where cameras go, in field units; write --zone=-0.1,…")
    parser.add_argument("--place", help="which place of the show (default: the one it starts with)")
    parser.add_argument("--pixel-deg", type=positive, default=0.1, help="with --zone: angle of a pixel (default 0.1)")
    parser.add_argument(
        "--out", type=writable_file, metavar="SCENE", help="where to write (default with --show: the place's file)"
    )
    parser.add_argument("--size", type=positive, default=36.0, metavar="MB", help="budget on disk (default 36)")
    parser.add_argument("--gradients", choices=("auto", "on", "off"), default="auto", help="colour that changes with direction")
    parser.add_argument("--credit", default="", help="whose photographs these are; kept in the scene")
    parser.add_argument("--report", type=writable_file, metavar="R.json", help="write what was measured")
    parser.add_argument(
        "--picture", type=writable_file, metavar="P.png", help="write exact field, bake and difference side by side"
    )
    parser.add_argument(
        "--cameras", type=Path, metavar="transforms.json",
        help="the photographs' cameras: also map the safe camera zone (default: of the run's data, where it is there)",
    )  # fmt: skip
    parser.add_argument("--table", type=sizes_mb, default=(), metavar="MB,MB,…", help="also measure these sizes, for the report")


def run(args: argparse.Namespace) -> int:
    from ledvolume.commands.zone import in_words, make_zone
    from ledvolume.scenes.baking import bake
    from ledvolume.scenes.checkpoint import run_files

    view, out, show = _view(args)
    config_file, _ = run_files(args.checkpoint)
    cameras = _cameras(args.cameras, config_file)
    started = time.perf_counter()
    with Bars() as bars:
        report = bake(
            args.checkpoint,
            view,
            out,
            size_bytes=round(args.size * 1e6),
            gradients={"auto": None, "on": True, "off": False}[args.gradients],
            credit=args.credit,
            sizes=[round(size * 1e6) for size in args.table],
            picture=args.picture,
            progress=bars.show,
            say=bars.say,
        )
    if cameras:
        stage, field_from_stage = (view.stage, view.field_from_stage) if args.show else (None, Similarity())
        report["safe_zone"] = make_zone(out, cameras, config_file.parent, stage, field_from_stage)
        print(in_words(report["safe_zone"]))
    report["seconds"]["all"] = round(time.perf_counter() - started, 1)
    report["show"] = show
    if args.report:
        args.report.write_text(json.dumps(report, indent=1) + "\n")
    fidelity = report["fidelity"]
    print(
        f"{out}: {report['bytes'] / 1e6:.1f} MB, {report['bricks']:,} bricks, "
        f"{fidelity['mean_db']:.1f} dB mean and {fidelity['worst_db']:.1f} dB worst from held-out eyes, "
        f"{report['seconds']['all']:.0f} s"
    )
    return 0


def sizes_mb(text: str) -> list[float]:
    """Sizes with commas between."""
    return [positive(size) for size in text.split(",")]


def _cameras(asked: Path | None, config_file: Path) -> Path | None:
    """The photographs' cameras, read once before hours are spent: those that were asked for, or those of the run's data."""
    from ledvolume.scenes.checkpoint import plain_yaml, read_model_from_world
    from ledvolume.scenes.photographs import cameras_of_run, read_photographs

    file = asked or cameras_of_run(plain_yaml(config_file))
    if file is None:
        return None
    try:
        read_photographs(file, read_model_from_world(config_file.with_name("dataparser_transforms.json")))
    except ConfigError as error:
        if asked:
            raise
        print(f"the safe camera zone is not mapped: {error}")
        return None
    return file


def _view(args: argparse.Namespace):
    from ledvolume.config import load_show
    from ledvolume.scenes.bake_view import SphereView, WallView

    if args.show:
        show = load_show(args.show)
        name = args.place or show.start
        if name not in show.places:
            raise ConfigError(args.show, "--place", f"one of {sorted(show.places)}", name)
        place = show.places[name]
        try:
            out = args.out or writable_file(str(place.file))
        except argparse.ArgumentTypeError as error:
            raise ConfigError(args.show, f"place {name}: file", "a file to write, or --out", str(error)) from None
        return WallView(show.stage, place.field_from_stage), out, show.name
    try:
        box = np.array([float(text) for text in args.zone.split(",")]).reshape(2, 3)
    except ValueError:
        raise ConfigError("command line", "--zone", "six numbers X0,Y0,Z0,X1,Y1,Z1", args.zone) from None
    if not (np.isfinite(box).all() and (box[0] < box[1]).all()):
        raise ConfigError("command line", "--zone", "the lower corner first, then the upper", args.zone)
    if not args.out:
        raise ConfigError("command line", "--out", "a file to write, when there is no --show", None)
    return SphereView(box[0], box[1], float(np.radians(args.pixel_deg))), args.out, None


class Bars:
    """A progress bar per stage of the work, with time left; plain lines where there is no terminal."""

    def __enter__(self) -> "Bars":
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = TextColumn("{task.description:12}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
        self.progress = Progress(*columns)
        self.progress.start()
        self.stages: dict[str, int] = {}
        return self

    def __exit__(self, *_) -> None:
        for task in self.stages.values():
            self.progress.update(task, completed=1)
        self.progress.stop()

    def show(self, stage: str, share: float) -> None:
        if stage not in self.stages:
            for task in self.stages.values():
                self.progress.update(task, completed=1)
            self.stages[stage] = self.progress.add_task(stage, total=1)
        self.progress.update(self.stages[stage], completed=share)

    def say(self, line: str) -> None:
        self.progress.console.print(line, highlight=False)
