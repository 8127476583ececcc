"""One picture of a place from one camera: of a baked scene, or of the nerfstudio run that it was baked from.

    ledvolume still door.safetensors --camera camera_path.json --frame 30 --out look.png
    ledvolume still outputs/door/nerfacto/run --camera transforms.json --frame 3 --out photograph.exr      the exact field
    ledvolume still --show my.toml --at 0,0,1.9 --look 0,4,1.9 --out look.exr              with the lens of the show's camera
    ledvolume still --show my.toml --at 0,0,1.9 --look 0,4,1.9 --out look.png --compare outputs/door/nerfacto/run

PNG is display-encoded (sRGB), EXR scene-linear with what the camera was. With --compare the same rays go through another
scene or run, and how near the two pictures are is printed. The exact field takes minutes for a million rays on two cores.
"""

import argparse
import time
from pathlib import Path

import msgspec
import numpy as np

from ledvolume.camera import Camera, LensReading, lens_of
from ledvolume.colour import code_values
from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import count, index, positive, size_px, three, writable_file
from ledvolume.commands.reading import sensor_mm
from ledvolume.config import Show, load_show
from ledvolume.errors import ConfigError
from ledvolume.lens import Lens
from ledvolume.moves import looking_at
from ledvolume.pose import Similarity
from ledvolume.still import Still, difference_db, light
from ledvolume.still_camera import camera_of_file, checked_size, is_photographs_file, lens_of_fov, read_camera_file
from ledvolume.tracks.nerfstudio_path import RENDER_PX


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scene", nargs="?", type=Path, metavar="SCENE", help="baked scene or nerfstudio run; default: the show's")
    parser.add_argument("--out", required=True, type=writable_file, metavar="FILE", help="picture.png or picture.exr")
    parser.add_argument("--renderer", choices=("gl", "exact"), help="default: what SCENE is for: a bake gl, a run exact")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="render another scene or run too: how near are they?")
    where = parser.add_argument_group("the camera")
    where.add_argument("--camera", type=Path, metavar="FILE.json", help="camera_path.json, transforms.json or a pose of our own")
    where.add_argument("--frame", type=index, default=0, metavar="N", help="of the file, from 0 (default 0)")
    where.add_argument("--transforms", type=Path, metavar="FILE", help="dataparser_transforms.json, for a camera of transforms.json "
                       "(default: beside SCENE)")  # fmt: skip
    where.add_argument("--at", type=three, metavar="X,Y,Z", help="stage metres; without --show field units")
    where.add_argument("--look", type=three, metavar="X,Y,Z", help="what a camera --at looks at, level")
    where.add_argument("--show", type=Path, help="where the place lies, its near limit and exposure, and the camera's lens")
    where.add_argument("--place", help="which place of the show (default: the one it starts with)")
    where.add_argument("--camera-id", metavar="ID", help="which camera of the show (default: the first)")
    picture = parser.add_argument_group("the picture")
    picture.add_argument("--size", type=size_px, metavar="WxH", help="default: the file's, or 1920 wide")
    picture.add_argument("--fov", type=positive, metavar="DEG", help="vertical field of view, instead of the camera's own")
    picture.add_argument("--focal-mm", type=positive, metavar="F", help="focal length, instead of the camera's own")
    picture.add_argument("--sensor", metavar="W,H", help="of --focal-mm, mm (default: the show's)")
    picture.add_argument("--across", type=count, default=1, metavar="N", help="N x N samples a pixel (default 1)")
    picture.add_argument(
        "--quality", choices=("show", "final"), default="final", help="of gl: steps of its march (default final)"
    )
    picture.add_argument("--samples", type=count, default=512, metavar="N", help="of exact: along a ray (default 512)")


def run(args: argparse.Namespace) -> int:
    if args.out.suffix.lower() not in (".png", ".exr"):
        raise ConfigError("command line", "--out", "a file that ends in .png or .exr", args.out.name)
    show = load_show(args.show) if args.show else None
    field_from_stage, near_m, exposure, scene = _placed(args, show)
    camera, size = _camera(args, show, field_from_stage, scene)
    still = Still(camera, size, field_from_stage, near_m, exposure, args.across)
    line = LiveLine()
    pixels, facts = _rendered(still, scene, args, line, args.renderer)
    _write(args.out, pixels, still, facts, is_staged=show is not None)
    print(f"{args.out}: {size[0]} x {size[1]}, {facts['renderer']}, {facts['seconds']:.1f} s")
    if args.compare:
        other, other_facts = _rendered(still, args.compare, args, line)
        print(f"PSNR {difference_db(pixels, other):.2f} dB against {args.compare} ({other_facts['renderer']}, "
              f"{other_facts['seconds']:.1f} s)")  # fmt: skip
    return 0


def is_bake(scene: Path) -> bool:
    """A run of nerfstudio is a folder, a config.yml or a .ckpt."""
    return scene.suffix.lower() == ".safetensors"


def _placed(args: argparse.Namespace, show: Show | None) -> tuple[Similarity, float, float, Path]:
    """Where the place lies, how near it is drawn, its exposure, and what is to be rendered."""
    if show is None:
        for option, value in (("--place", args.place), ("--camera-id", args.camera_id)):
            if value:
                raise ConfigError("command line", option, "--show with it", value)
        if not args.scene:
            raise ConfigError("command line", "SCENE", "a baked scene or a nerfstudio run, or --show", "nothing")
        return Similarity(), 0.0, 1.0, args.scene
    name = args.place or show.start
    if name not in show.places:
        raise ConfigError(args.show, "--place", f"one of {sorted(show.places)}", name)
    place = show.places[name]
    return place.field_from_stage, place.near_m, place.exposure, args.scene or place.file


def _lens(args: argparse.Namespace, show: Show | None) -> tuple[Lens | None, bool]:
    """The lens of the command line, else of the show; whether it was asked for on the command line."""
    rigs = {rig.camera_id: rig for rig in show.stage.rigs} if show else {}
    if args.camera_id and args.camera_id not in rigs:
        raise ConfigError(args.show, "--camera-id", f"one of {sorted(rigs)}", args.camera_id)
    rig = rigs.get(args.camera_id) or (show.stage.rigs[0] if show else None)
    lens = lens_of(rig, LensReading()) if rig else None
    if args.fov is not None:
        if args.focal_mm or args.sensor:
            raise ConfigError("command line", "--fov", "a field of view or a focal length", "both")
        if args.fov >= 180:
            raise ConfigError("command line", "--fov", "less than 180 degrees", args.fov)
        return lens_of_fov(args.fov, args.size or RENDER_PX), True
    if args.focal_mm is None and args.sensor is None:
        return lens, False
    focal_mm, sides_mm = args.focal_mm or (lens and lens.focal_length_mm), sensor_mm(args.sensor) or (lens and lens.sensor_mm)
    if not (focal_mm and sides_mm):
        raise ConfigError("command line", "--sensor", "--focal-mm and --sensor, or --show", "one of them")
    return (
        msgspec.structs.replace(lens, focal_length_mm=focal_mm, sensor_mm=sides_mm) if lens else Lens(focal_mm, sides_mm)
    ), True


def _camera(
    args: argparse.Namespace, show: Show | None, field_from_stage: Similarity, scene: Path
) -> tuple[Camera, tuple[int, int]]:
    lens, is_asked = _lens(args, show)
    if (args.camera is None) == (args.at is None) or (args.at is None) != (args.look is None):
        raise ConfigError("command line", "--camera", "a file, or --at and --look", "both" if args.camera else "neither")
    if args.at is not None:
        if args.at == args.look:
            raise ConfigError("command line", "--look", "another point than --at", args.look)
        if lens is None:
            raise ConfigError("command line", "--fov", "a field of view, or --focal-mm and --sensor, or --show", "nothing")
        camera_id = args.camera_id or (show.stage.rigs[0].camera_id if show else "camera")
        return Camera(looking_at(args.at, args.look), lens, "measured", 0, camera_id), checked_size(lens, args.size)
    raw = read_camera_file(args.camera)
    model_from_world = None
    if is_photographs_file(raw):
        from ledvolume.scenes.checkpoint import read_model_from_world

        model_from_world = read_model_from_world(args.transforms or _beside(scene))
        lens = lens if is_asked else None
    elif "camera_path" in raw:
        lens = lens if is_asked else None
    elif is_asked:
        raw = {key: value for key, value in raw.items() if key not in ("fov_deg", "focal_length_mm", "sensor_mm")}
    return camera_of_file(args.camera, raw, args.frame, field_from_stage, args.size, lens, model_from_world)


def _beside(scene: Path) -> Path:
    """The dataparser_transforms.json of a run or beside a scene."""
    folders = (scene, scene.parent, scene.parent.parent) if not is_bake(scene) else (scene.parent,)
    files = [folder / "dataparser_transforms.json" for folder in folders]
    return next((file for file in files if file.is_file()), files[0])


def _rendered(
    still: Still, scene: Path, args: argparse.Namespace, line: LiveLine, renderer: str | None = None
) -> tuple[np.ndarray, dict]:
    """(H, W, 3) light, and what it is of: renderer, source, sha256, credit, seconds."""
    renderer = renderer or ("gl" if is_bake(scene) else "exact")
    started, near = time.perf_counter(), still.near_m * still.field_from_stage.scale
    if renderer == "gl" and not is_bake(scene):
        raise ConfigError(scene, "--renderer", "exact: gl draws baked scenes, .safetensors (`ledvolume bake` makes one)", "gl")
    if renderer == "exact" and is_bake(scene):
        raise ConfigError(scene, "--renderer", "gl: exact renders nerfstudio runs; --compare RUN renders both", "exact")

    def progress(share: float) -> None:
        spent = time.perf_counter() - started
        if spent > 2 and 0 < share < 1:
            line.show(f"{scene}: {share:.0%}, {spent * (1 / share - 1):.0f} s left")

    if renderer == "gl":
        from ledvolume.render.context import create_context
        from ledvolume.render.rays import RayViewer
        from ledvolume.render.renderer import QUALITIES, RAYS_AT_ONCE
        from ledvolume.scenes import bricks
        from ledvolume.scenes.mips import with_mips
        from ledvolume.take import sha256

        baked = bricks.load(scene)
        viewer = RayViewer(create_context(), with_mips(baked), near)
        pixels = light(still, lambda *rays: viewer.see(*rays, QUALITIES[args.quality]), RAYS_AT_ONCE, progress)
        viewer.release()
        found = {"source": baked.header.source, "sha256": sha256(scene), "credit": baked.header.credit}
    else:
        from ledvolume.scenes.nerfstudio_still import RAYS_AT_ONCE, exact_see

        see, method, digest = exact_see(scene, near, args.samples)
        pixels = light(still, see, RAYS_AT_ONCE, progress)
        found = {"source": method, "sha256": digest, "credit": ""}
    return pixels, found | {"file": scene.name, "renderer": renderer, "seconds": time.perf_counter() - started}


def _write(out: Path, pixels: np.ndarray, still: Still, facts: dict, is_staged: bool) -> None:
    from ledvolume.outputs.images import png
    from ledvolume.outputs.whole_file import write_whole

    if out.suffix.lower() == ".png":
        write_whole(out, png(np.ascontiguousarray(code_values(pixels, 8).astype(np.uint8))))
        return
    from ledvolume.outputs.exr import camera_attributes, light_exr

    placed = still.field_from_stage
    attributes = camera_attributes(still.camera) | {
        "ledvolume/picture": "still",
        "ledvolume/renderer": facts["renderer"],
        "ledvolume/scene": facts["file"],
        "ledvolume/scene_sha256": facts["sha256"],
        "ledvolume/source": facts["source"],
        "ledvolume/across": still.across,
        "ledvolume/exposure": float(still.exposure),
        "ledvolume/units": "stage metres" if is_staged else "field units",
        "ledvolume/field_from_stage": [placed.scale, *placed.pose.wxyz, *placed.pose.position_m],
    }
    if facts["credit"]:
        attributes["owner"] = facts["credit"]
    write_whole(out, light_exr(pixels, attributes))
