"""Photograph a virtual stage: a calibration's pictures before the wall exists, and the truth, kept apart.

  ledvolume calibrate simulate SHOW.toml --out FOLDER
  ledvolume calibrate simulate SHOW.toml --out FOLDER --views 16 --pattern dots --size 3000x2000 --wall-mm 30 --seed 2

The stage is the show's, but somewhat wrong, as stages are: surfaces moved and turned, the lens and the tracked point not as
written (--wall-mm and so on: standard deviations). The views are those that `calibrate capture` advises, and then more around
the zone. The wall's pictures are the renderer's own, seen through a lens that bends, is not in focus everywhere and is darker
at the corners, by a sensor with noise; --people stand in the way. Before that it says how well the wall would be known from these views;
--plan takes no pictures and is enough to choose a lens, a number of views and a tracker.

FOLDER then holds what a photographer brings home (pictures, shots.json), and truth.json. Go on with `calibrate detect FOLDER --show SHOW.toml`.
"""

import argparse
import io
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from calibration import guide
from calibration.commands.picture_bar import PictureBar
from calibration.forecast import forecast, in_words
from calibration.photograph import Body, Room, photograph, sight
from calibration.series import cue_of, names_of
from calibration.session import Shot, save
from calibration.truth import (
    FILE_NAME,
    Deviations,
    Truth,
    deviating_rig,
    deviating_surface,
    led_distances_mm,
    noisy,
    save_truth,
    tracker_pose,
    with_surfaces,
)
from ledvolume.camera import Camera, Rig
from ledvolume.commands.quantities import count, not_negative, positive, writable_folder
from ledvolume.config import Show, load_show
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.frame import FrameRequest
from ledvolume.lens import Lens
from ledvolume.outputs.images import file_name
from ledvolume.outputs.whole_file import write_whole
from ledvolume.pose import Pose
from ledvolume.stage import Stage

FILE = "command line"
SHAKY_MM, SHAKY_DEG = 150.0, 3.0  # how well people stand where they are told to
JPEG_QUALITY = 95
SECOND_NS = 1_000_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("show", metavar="SHOW.toml", type=Path, help="the stage and the camera as they are drawn")
    parser.add_argument("--out", metavar="FOLDER", type=writable_folder, required=True, help="where the calibration is to lie")
    parser.add_argument("--views", metavar="N", type=count, default=12, help="from so many places (12)")
    parser.add_argument("--pattern", choices=("gray", "dots"), default="gray", help="gray: a series a view; dots: one picture")
    parser.add_argument("--plan", action="store_true", help="say how well the wall would be known, and take no pictures")
    parser.add_argument("--camera", metavar="ID", help="which of the show's cameras (default: the first)")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="another one, another truth (1)")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the pictures (jpg)")
    body, room = Body(), Room()
    picture = parser.add_argument_group("the picture")
    picture.add_argument("--size", metavar="WxH", type=_size, default=body.resolution_px, help="pixels (1920x1280)")
    picture.add_argument(
        "--exposure", metavar="X", type=positive, default=body.exposure, help="of white; from 1 on it clips (0.8)"
    )
    picture.add_argument("--f-stop", metavar="N", type=positive, default=body.f_stop, help="aperture (5.6)")
    picture.add_argument("--focus-m", metavar="M", type=positive, help="focus distance (default: the wall's middle)")
    picture.add_argument("--full-well", metavar="E", type=positive, default=body.full_well_e, help="electrons (20000)")
    picture.add_argument("--read-noise", metavar="E", type=not_negative, default=body.read_noise_e, help="electrons (5)")
    picture.add_argument("--bayer", action="store_true", help="a sensor behind coloured filters")
    picture.add_argument("--fill", metavar="X", type=_share, default=0.4, help="part of an LED pixel's area that shines (0.4)")
    picture.add_argument("--room-light", metavar="X", type=not_negative, default=room.light, help="1: as the white wall (0.01)")
    picture.add_argument("--people", metavar="N", type=int, default=0, help="who stand in the way (0)")
    truth = parser.add_argument_group("how wrong the show is, and the tracker: standard deviations")
    for name, told in _DEVIATIONS.items():
        default = getattr(Deviations(), name)
        option = f"--{name.replace('_', '-')}"
        truth.add_argument(option, metavar="X", type=not_negative, default=default, help=f"{told} ({default:g})")


def run(args: argparse.Namespace) -> int:
    show = load_show(args.show)
    by = Deviations(**{name: getattr(args, name) for name in _DEVIATIONS})
    body = Body(
        resolution_px=args.size,
        exposure=args.exposure,
        f_stop=args.f_stop,
        full_well_e=args.full_well,
        read_noise_e=args.read_noise,
        is_bayer=args.bayer,
    )
    rig = _rig(show, args.camera)
    truth = truth_of(show, rig, by, body, args.views, args.seed, args.people, args.room_light, args.fill, args.focus_m)
    names = names_of(show.stage.surfaces, [args.pattern])
    try:
        print("\n".join(in_words(forecast(show, truth))))
    except CalibrationError as error:
        print(f"from these views it could not be solved: {error}")
    if args.plan:
        return 0
    save_truth(args.out / FILE_NAME, truth)
    shots = []
    with PictureBar("photographing", len(truth.cameras) * len(names)) as bar:
        for shot, picture in photographs(show, truth, names, args.format):
            write_whole(args.out / shot.picture, encoded(picture, args.format))
            shots.append(shot)
            save(args.out / "shots.json", shots)
            bar.advance(shot)
    for surface, drawn in zip(truth.surfaces, show.stage.surfaces):
        off_mm = led_distances_mm(surface, drawn)
        print(f"{surface.name}: its LEDs are {np.median(off_mm):.1f} mm from where the show has them, {off_mm.max():.1f} at most")
    print(
        f"{args.out}: {len(shots)} pictures of {len(truth.cameras)} views. Next: ledvolume calibrate detect {args.out} --show {args.show}"
    )
    return 0


def truth_of(
    show: Show,
    rig: Rig,
    by: Deviations,
    body: Body,
    views: int,
    seed: int,
    people: int = 0,
    room_light: float = 0.01,
    led_fill: float = 0.4,
    focus_m: float | None = None,
) -> Truth:
    """A stage like the show's, and from where it is photographed. The same seed, the same truth."""
    rng = np.random.default_rng(seed)
    surfaces = tuple(deviating_surface(surface, by, rng) for surface in show.stage.surfaces)
    true_rig = deviating_rig(rig, by, rng)
    poses = planned(show.stage, true_rig.lens, views, rng)
    if focus_m is None:
        middles_m = np.array([surface.stage_from_surface.position_m for surface in show.stage.surfaces])
        eyes_m = np.array([pose.position_m for pose in poses])
        focus_m = float(np.median(np.linalg.norm(middles_m[:, None] - eyes_m, axis=-1).min(0)))
    true_rig = msgspec.structs.replace(true_rig, lens=msgspec.structs.replace(true_rig.lens, focus_distance_m=focus_m))
    (x0, y0, _), (x1, y1, _) = show.stage.zone.min_m, show.stage.zone.max_m
    stand = [(float(rng.uniform(x0 - 1, x1 + 1)), float(rng.uniform(y0, y1 + 1))) for _ in range(people)]
    cameras = {f"view-{number:02d}": pose for number, pose in enumerate(poses, 1)}
    room = Room(room_light, tuple(stand))
    return Truth(1, show.file.name, seed, by, surfaces, true_rig, cameras, body, room, led_fill)


def planned(stage: Stage, lens: Lens, views: int, rng: np.random.Generator) -> list[Pose]:
    """Where one would stand who does what the guide says, and when it is content, begins again: not quite there."""
    poses, since = [], 0
    while len(poses) < views:
        seen = [guide.seen_from(stage, lens, pose) for pose in poses[since:]]
        advised = guide.next_view(stage, lens, seen).pose
        if advised is None:
            if since == len(poses):
                raise ConfigError(stage, "zone", "a place from where a surface of the stage is seen", stage.zone)
            since = len(poses)
            continue
        poses.append(noisy(advised, SHAKY_MM, SHAKY_DEG, rng))
    return poses


def photographs(show: Show, truth: Truth, names: list[str], suffix: str = "jpg") -> Iterator[tuple[Shot, np.ndarray]]:
    """Every view's pictures of these patterns, (H, W, 3) uint8, each with what is known of it on set."""
    from ledvolume.server import open_renderer  # with OpenGL

    stage = with_surfaces(show.stage, truth.surfaces)
    renderer = open_renderer(msgspec.structs.replace(show, places={}))
    rng = np.random.default_rng((truth.seed, 1))
    at_ns = SECOND_NS
    for i, (view, pose) in enumerate(truth.cameras.items()):
        camera = Camera(pose, truth.rig.lens, "measured", 0)
        sample = noisy(tracker_pose(truth.rig, pose), truth.deviations.tracker_mm, truth.deviations.tracker_deg, rng)
        seen = sight(stage, camera, truth.body, truth.room, truth.led_fill)
        for k, name in enumerate(names):
            request = FrameRequest(k, at_ns, at_ns, camera, show.start, cue_of(name))
            picture = photograph(seen, stage, renderer.render(request).images, truth.body, (truth.seed, i, k))
            file = f"{view}/{file_name(name.replace('/', '-'))}.{suffix}"
            yield Shot(file, view, name, truth.rig.camera_id, sample, at_ns), picture
            at_ns += SECOND_NS
    renderer.context.release()


def encoded(picture: np.ndarray, suffix: str) -> bytes:
    """As a camera writes it: JPEG or PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, *(("JPEG",) if suffix == "jpg" else ("PNG",)), quality=JPEG_QUALITY)
    return buffer.getvalue()


def _rig(show: Show, camera_id: str | None) -> Rig:
    rigs = {rig.camera_id: rig for rig in show.stage.rigs}
    if camera_id is not None and camera_id not in rigs:
        raise ConfigError(FILE, "--camera", f"one of {', '.join(rigs)}", camera_id)
    return rigs[camera_id] if camera_id is not None else show.stage.rigs[0]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT, as 1920x1280, got {text!r}")
    return int(found[1]), int(found[2])


def _share(text: str) -> float:
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a share, up to 1, got {text!r}")
    return value


_DEVIATIONS = {
    "wall_mm": "each surface's place, mm",
    "wall_deg": "each surface's rotation, degrees",
    "radius_percent": "an arc's radius, percent",
    "panel_mm": "each panel's own place, mm",
    "panel_deg": "each panel's own rotation, degrees",
    "panel_m": "how large panels are, m",
    "hand_eye_mm": "the tracked point from the camera, mm",
    "hand_eye_deg": "its rotation, degrees",
    "focal_percent": "focal length, percent",
    "offset_mm": "the optical axis on the sensor, mm",
    "bend_percent": "how far the lens moves the picture's corners, percent",
    "tracker_mm": "the tracker's noise, mm",
    "tracker_deg": "the tracker's noise, degrees",
}
