"""Where may the camera go? How well a place's photographs support what the wall shows from each eye position.

  ledvolume zone configs/demo.toml --cameras capture/transforms.json --picture zone.png
  ledvolume zone place.safetensors --cameras capture/transforms.json --run outputs/place/nerfacto/run

The map is written beside the scene (place.zone.json), and `ledvolume serve` warns by it when the camera leaves the safe
zone. With a show the eyes look at its wall from in and around its zone; with a scene alone they look all around, and lengths
are units of its field. dataparser_transforms.json of the run says how the photographs lie in the field: --run names its
folder, else it lies beside the scene. docs/scenes.md says what support is.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from ledvolume.commands.quantities import not_negative, positive, writable_file
from ledvolume.errors import ConfigError
from ledvolume.pose import Similarity
from ledvolume.scenes import bricks, safe_zone
from ledvolume.scenes.safe_zone import SAFE_FROM, ZoneMap
from ledvolume.stage import Box, Stage

NODES = (10, 10, 7)
ACROSS = 5  # eyes of the zone along each axis that its numbers are taken over


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", type=Path, metavar="SHOW.toml|SCENE", help="a show, or a baked scene alone")
    parser.add_argument("--cameras", type=Path, required=True, metavar="transforms.json", help="the photographs' cameras")
    parser.add_argument(
        "--run", dest="run_folder", type=Path, metavar="RUN", help="folder of dataparser_transforms.json (default: the scene's)"
    )
    parser.add_argument("--place", help="which place of the show (default: the one it starts with)")
    parser.add_argument(
        "--around", type=not_negative, default=1.0, metavar="SHARE", help="of the zone's size, looked at beyond it (default 1)"
    )
    parser.add_argument("--safe", type=positive, default=SAFE_FROM, metavar="S", help="support that is safe (default 0.5)")
    parser.add_argument("--out", type=writable_file, metavar="ZONE.json", help="default: beside the scene, where serve finds it")
    parser.add_argument("--picture", type=writable_file, metavar="P.png", help="plan view and elevation")
    parser.add_argument("--report", type=writable_file, metavar="R.json", help="the numbers")


def run(args: argparse.Namespace) -> int:
    from ledvolume.config import load_show

    if args.safe > 1:
        raise ConfigError("command line", "--safe", "a support from 0 to 1", args.safe)
    if args.what.suffix == ".toml":
        show = load_show(args.what)
        name = args.place or show.start
        if name not in show.places:
            raise ConfigError(args.what, "--place", f"one of {sorted(show.places)}", name)
        place = show.places[name]
        scene, stage, field_from_stage = place.file, show.stage, place.field_from_stage
    else:
        scene, stage, field_from_stage = args.what, None, Similarity()
    report = make_zone(
        scene,
        args.cameras,
        args.run_folder or scene.parent,
        stage,
        field_from_stage,
        args.around,
        args.safe,
        args.out,
        args.picture,
    )
    if args.report:
        args.report.write_text(json.dumps(report, indent=1) + "\n")
    print(in_words(report))
    return 0


def make_zone(
    scene_file: Path,
    cameras: Path,
    run_folder: Path,
    stage: Stage | None = None,
    field_from_stage: Similarity = Similarity(),
    around: float = 1.0,
    safe_from: float = SAFE_FROM,
    out: Path | None = None,
    picture: Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict:
    """Make the map of a scene file and write it; returns the numbers. Raises LedvolumeError."""
    from ledvolume.render.context import create_context
    from ledvolume.render.rays import RayViewer
    from ledvolume.scenes.checkpoint import read_model_from_world
    from ledvolume.scenes.photographs import read_photographs
    from ledvolume.scenes.support import all_around, at_wall, zone_map
    from ledvolume.scenes.zone_picture import save_picture

    started = time.perf_counter()
    folder = run_folder if run_folder.is_dir() else run_folder.parent
    photographs = read_photographs(cameras, read_model_from_world(folder / "dataparser_transforms.json"))
    scene = bricks.load(scene_file)
    header = scene.header
    zone_m = stage.zone if stage else Box(header.zone_min, header.zone_max)
    aim = at_wall(stage, field_from_stage) if stage else all_around(header.pixel_rad)
    beyond = around * np.subtract(zone_m.max_m, zone_m.min_m)
    box_m = Box(tuple((zone_m.min_m - beyond).tolist()), tuple((zone_m.max_m + beyond).tolist()))
    context = create_context()
    viewer = RayViewer(context, scene)

    def depths(*rays):
        return viewer.meet(*rays)[1]

    zone = zone_map(
        box_m, NODES, field_from_stage, aim, photographs, depths, header.half_size, safe_from, header.source_sha256, progress
    )  # fmt: skip
    viewer.release()
    context.release()
    out = out or safe_zone.map_file(scene_file)
    safe_zone.save(out, zone)
    report = numbers(zone, zone_m) | {"file": str(out), "seconds": round(time.perf_counter() - started, 1)}
    if picture:
        title = f"{scene_file.stem}: support {report['zone_mean']:.2f} in the zone, {100 * report['zone_safe_share']:.0f} % of it safe"
        save_picture(picture, zone, zone_m, photographs, stage, title)
    return report


def numbers(zone: ZoneMap, zone_m: Box) -> dict:
    """What a map says of the zone where cameras are to go; lengths are the map's own."""
    matrix, box = zone.field_from_stage.matrix(), safe_zone.safe_box(zone)
    axes = [np.linspace(*ends, ACROSS) for ends in zip(zone_m.min_m, zone_m.max_m)]
    eyes = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    within = np.array([safe_zone.support(zone, eye) for eye in eyes])
    return {
        "photographs": zone.photographs,
        "safe_from": zone.safe_from,
        "zone": msgspec.to_builtins(zone_m),
        "zone_mean": round(float(within.mean()), 4),
        "zone_lowest": round(float(within.min()), 4),
        "zone_safe_share": round(float((within >= zone.safe_from).mean()), 4),
        "mapped": {"min_m": zone.min_m, "max_m": zone.max_m, "nodes": zone.nodes},
        "mapped_highest": max(zone.support),
        "safe_box": msgspec.to_builtins(box) if box else None,
    }


def in_words(report: dict) -> str:
    """The numbers for people, in two lines."""
    box = report["safe_box"]
    lines = [
        f"{report['file']}: {report['photographs']} photographs; support in the zone {report['zone_mean']:.2f} mean, "
        f"{report['zone_lowest']:.2f} lowest; {100 * report['zone_safe_share']:.0f} % of the zone is safe "
        f"(from {report['safe_from']:g}); {report['seconds']:.0f} s"
    ]
    if box is None:
        lines.append("nowhere around the zone is a safe box: put the zone among the photographs, or take more of them")
    else:
        low, high = ([round(value, 3) for value in box[key]] for key in ("min_m", "max_m"))
        mapped = report["mapped"]
        ends = np.isclose(box["min_m"], mapped["min_m"]) | np.isclose(box["max_m"], mapped["max_m"])
        edge = "; it reaches the edge of the map: --around looks further" if ends.any() else ""
        lines.append(f"the largest safe box: zone = {{ min_m = {low}, max_m = {high} }}{edge}")
    return "\n".join(lines)
