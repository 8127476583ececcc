"""The light of a place from all round one point, as an EXR file for lighting tools.

  ledvolume environment show.toml --out out/place.exr                          # from the stage's eye
  ledvolume environment show.toml --place forest --eye 0.5,1,1.6 --size 4096x2048 --out out/actor.exr
  ledvolume environment scene.safetensors --cube --size 1024x1024 --out out/cube.exr

Of a show: in stage axes and metres, with the place's exposure. Of a scene file alone: in the axes and units of its field,
from the middle of the zone that it was baked for. Long/lat (equirectangular): the middle looks along +Y, toward the wall, right
of it is +X, the top is +Z. --cube: six faces of 90° in one picture, one below the other: +X -X +Z -Z +Y -Y. Scene-linear
half floats, Rec. 709. Brighter than the photographs could be it never is: docs/light.md.
"""

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import count, size_px, three, writable_file
from ledvolume.config import load_show
from ledvolume.environment import FACES, panorama
from ledvolume.errors import ConfigError
from ledvolume.outputs.exr import environment_exr
from ledvolume.outputs.whole_file import write_whole
from ledvolume.pose import Similarity
from ledvolume.render.context import create_context
from ledvolume.render.rays import RayViewer
from ledvolume.render.renderer import QUALITIES
from ledvolume.scenes import bricks
from ledvolume.scenes.mips import with_mips

SIZE_PX, FACE_PX = (2048, 1024), (512, 512)


class Seat(msgspec.Struct, frozen=True):
    """A scene and where one sits in it. show, place: "" of a scene file alone, whose stage is its field."""

    file: Path
    field_from_stage: Similarity
    eye_m: tuple[float, float, float] | None
    near_m: float = 0.0
    exposure: float = 1.0
    credit: str = ""
    show: str = ""
    place: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scene", type=Path, metavar="SCENE|SHOW.toml", help="a baked scene, or a show")
    parser.add_argument("--out", type=writable_file, required=True, metavar="FILE.exr", help="where to write")
    parser.add_argument("--place", default="", metavar="NAME", help="which place of the show (default: the one it starts with)")
    eye = "from where (default: the stage's eye_m; of a scene the middle of its zone); write --eye=-0.1,…"
    parser.add_argument("--eye", type=three, metavar="X,Y,Z", help=eye)
    parser.add_argument("--cube", action="store_true", help="six faces instead of long/lat")
    parser.add_argument("--size", type=size_px, metavar="WxH", help="2048x1024; of a cube's face 512x512")
    parser.add_argument("--samples", type=count, default=4, metavar="N", help="rays a pixel, a square number (default 4)")


def run(args: argparse.Namespace) -> int:
    width, height = args.size or (FACE_PX if args.cube else SIZE_PX)
    if width != (height if args.cube else 2 * height):
        expected = "a face as high as wide" if args.cube else "a picture twice as wide as high"
        raise ConfigError("command line", "--size", expected, f"{width}x{height}")
    across = round(args.samples**0.5)
    if across**2 != args.samples or across > 16:
        raise ConfigError("command line", "--samples", "1, 4, 9, 16, … up to 256", args.samples)
    seat = seat_of(args)
    scene = with_mips(bricks.load(seat.file))
    header = scene.header
    eye_m = seat.eye_m or tuple((low + high) / 2 for low, high in zip(header.zone_min, header.zone_max))
    matrix = seat.field_from_stage.matrix()
    eye = matrix[:3, :3] @ eye_m + matrix[:3, 3]
    line = LiveLine(sys.stderr)
    if np.any(eye < header.zone_min) or np.any(eye > header.zone_max):
        line.say(
            f"warning: {seat.file} was baked for eyes in {header.zone_min} to {header.zone_max} of its field; this one is at "
            f"{tuple(round(float(c), 3) for c in eye)}"
        )
    line.say(
        "a scene baked for a wall (bake --show) holds what that wall shows, and calm colours elsewhere; --zone bakes all round"
    )
    light = light_around(scene, seat, eye_m, width, args.cube, across)
    attributes = {
        "ledvolume/eye_m": tuple(map(float, eye_m)),
        "ledvolume/frame": "stage, metres" if seat.show else "field",
        "ledvolume/projection": f"cube: {' '.join(FACES)}" if args.cube else "latlong: middle +Y, right +X, top +Z",
        "ledvolume/source_sha256": header.source_sha256,
        "ledvolume/exposure": seat.exposure,
        "ledvolume/credit": seat.credit or header.credit,
        "ledvolume/show": seat.show,
        "ledvolume/place": seat.place,
    }
    size = write_whole(args.out, environment_exr(light, {k: v for k, v in attributes.items() if v != ""}, args.cube))
    mean = " ".join(f"{value:.4f}" for value in light.mean((0, 1)))
    print(f"{args.out}: {light.shape[1]} x {light.shape[0]}, {size / 1e6:.1f} MB, mean light {mean}")
    return 0


def seat_of(args: argparse.Namespace) -> Seat:
    """What the command line names. Raises ConfigError."""
    if args.scene.suffix != ".toml":
        if args.place:
            raise ConfigError("command line", "--place", "a show, of which it is a place", str(args.scene))
        return Seat(args.scene, Similarity(), args.eye)
    show = load_show(args.scene)
    name = args.place or show.start
    if name not in show.places:
        raise ConfigError(args.scene, "--place", f"one of {', '.join(show.places)}", name)
    place = show.places[name]
    eye_m = args.eye or show.stage.eye_m
    return Seat(place.file, place.field_from_stage, eye_m, place.near_m, place.exposure, place.credit, show.name, name)


def light_around(scene: bricks.Bricks, seat: Seat, eye_m, width_px: int, is_cube: bool, across: int) -> np.ndarray:
    """(H, W, 3) float32, scene-linear, with the place's exposure."""
    matrix, rotation = seat.field_from_stage.matrix(), seat.field_from_stage.pose.matrix()[:3, :3]
    eye = matrix[:3, :3] @ eye_m + matrix[:3, 3]
    context = create_context()
    try:
        viewer = RayViewer(context, scene, seat.near_m * seat.field_from_stage.scale)

        def seen(directions: np.ndarray, spread: float) -> np.ndarray:
            return viewer.see(eye, directions @ rotation.T, np.full(len(directions), spread), QUALITIES["final"])

        return panorama(seen, width_px, is_cube, across) * np.float32(seat.exposure)
    finally:
        context.release()
