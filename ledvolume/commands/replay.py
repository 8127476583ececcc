"""Render a take, or any camera track, for a show: off line, as well as it can be done, on as many processors as there are.

  ledvolume replay take.mcap --show show.toml --what view --format prores --quality final --out out/take3
  ledvolume replay camera_path.json --show show.toml --rate 24000/1001 --frames 0-239 --workers 2 --out out/path
  ledvolume replay take.mcap --what walls --format exr --focal-mm 65 --pan 3 --out out/tighter --plan
  ledvolume replay take.mcap --as-it-happened --check

The camera is interpolated between the samples on both sides of each frame, not predicted. A take brings its show with it.
--as-it-happened renders the very requests of the take instead, and gives the very bytes that were sent, on the same driver.
--check decodes its datagrams again, too, and ends with exit status 1 at the first difference: which frame, stage and tile.
--plan says what would be rendered, how long it will take and how large it will be. What was interrupted is gone on with by
--resume. docs/replay.md tells of all of it.
"""

import argparse
import math
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import get_args

import msgspec

from ledvolume.camera import Lens
from ledvolume.clock import frame_rate
from ledvolume.commands import replay_exact
from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import count, finite, frame_range, positive, size_px, three, writable_file
from ledvolume.commands.replay_exact import as_it_happened, moved_scenes, say_difference, taken
from ledvolume.commands.replay_progress import Progress, size_in_words
from ledvolume.commands.replay_show import LyingShow, scene_warnings, show_lying
from ledvolume.commands.track_files import open_track
from ledvolume.config import Show
from ledvolume.contact_sheet import FILM_PX
from ledvolume.errors import ConfigError, LedvolumeError
from ledvolume.farm import render_all
from ledvolume.farm.forecast import forecast
from ledvolume.farm.job import JobFolder, this_part
from ledvolume.farm.openjd import job_template, parts_of
from ledvolume.frame import FrameRequest
from ledvolume.offline import Format, OfflineRenderer, Rendered, RenderSpec, What, show_of, view_size
from ledvolume.outputs.video import ENCODINGS, check_size, encode_sequence
from ledvolume.outputs.whole_file import remove_parts
from ledvolume.protocols.freed_profile import UNITS_M
from ledvolume.reframe import Reframe
from ledvolume.render.renderer import OUTER_STEPS_MOST
from ledvolume.sidecar import write_sidecars
from ledvolume.take_check import Comparison, Difference, input_differences
from ledvolume.track_schedule import Schedule, from_track
from ledvolume.tracks import FORMATS, Assumed

# What decides the pictures, and so goes into a job for a farm.
OPTIONS = (
    "show out what format size quality rate scene camera focal-mm move pan tilt roll from file-rate unit rotation-order".split()
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("track", metavar="TAKE", help=f"a take, or a camera track: {', '.join(FORMATS)}")
    parser.add_argument("--out", default="", metavar="DIR", help="folder of the pictures, and of what is known of them")
    parser.add_argument("--show", default="", metavar="SHOW.toml", help="default: the show that lies in the take")
    replay_exact.arguments(parser)
    group = parser.add_argument_group("the pictures")
    what = "tiles, whole walls; the camera's view of the place, the wall through the lens, a film frame of both (default tiles)"
    group.add_argument("--what", choices=get_args(What), default="tiles", help=what)
    format = "exr: scene-linear. prores, hevc, h264: videos, of PNG files that stay (default png)"
    group.add_argument("--format", choices=(*get_args(Format), *ENCODINGS), default="png", help=format)
    group.add_argument("--size", type=size_px, metavar="WxH", help="of view and through (default: 1920 wide)")
    quality = "final: nine rays for an LED pixel (default: the show's)"
    group.add_argument("--quality", choices=("show", "final"), default="", help=quality)
    rate = 'frames per second, exactly, such as "24000/1001" (default: the show\'s)'
    group.add_argument("--rate", default="", metavar="FPS", help=rate)
    group.add_argument("--frames", type=frame_range, metavar="A-B", help="only these; frame 0 is at the first sample")
    scene = "another place of the show, or a scene file in its place; PLACE=FILE: where its file lies now"
    group.add_argument("--scene", default="", metavar="NAME|FILE", help=scene)
    group = parser.add_argument_group("the camera")
    group.add_argument("--camera", default="", metavar="ID", help="which one of the track (default: the one on air)")
    group.add_argument("--focal-mm", type=positive, metavar="MM", help="instead of the lens' own")
    group.add_argument("--move", type=three, metavar="X,Y,Z", help="metres on the stage: right, toward the wall, up")
    for angle, way in (("pan", "left"), ("tilt", "up"), ("roll", "clockwise from behind")):
        group.add_argument(f"--{angle}", type=finite, default=0.0, metavar="DEG", help=f"added to its own; + {way}")
    group = parser.add_argument_group("what a track file leaves open")
    group.add_argument("--from", dest="from_format", default="", metavar="FORMAT", help="of the file (default: by its name)")
    group.add_argument("--file-rate", default="", metavar="FPS", help="chan: frames per second of the file (default 24)")
    group.add_argument("--unit", choices=UNITS_M, default="m", help="chan: unit of length (default m)")
    orders = "chan: zxy (Nuke's default) or xyz (Maya, Houdini)"
    group.add_argument("--rotation-order", choices=("zxy", "xyz"), default="zxy", help=orders)
    group = parser.add_argument_group("the work")
    group.add_argument("--plan", action="store_true", help="say what would be rendered, how long and how large; render no more")
    workers = "processes (default 1; with --ray: as many as the cluster has place for)"
    group.add_argument("--workers", type=count, default=0, metavar="N", help=workers)
    group.add_argument("--ray", default="", metavar="ADDRESS", help='a Ray cluster, host:port, or "local" to start one here')
    group.add_argument("--resume", action="store_true", help="go on with this job in its folder: render what is missing")
    frames_only = "no videos and sidecars: another run with --resume makes them"
    group.add_argument("--frames-only", action="store_true", help=frames_only)
    openjd = "write an Open Job Description template for a render farm, and render nothing"
    group.add_argument("--openjd", type=writable_file, metavar="FILE.json", help=openjd)


def run(args: argparse.Namespace) -> int:
    line = LiveLine(sys.stderr)
    take = taken(args)
    lying = show_lying(args)
    spec = spec_of(args, lying)
    show = show_of(spec)
    schedule = requests_of(args, show, line) if take is None else as_it_happened(take)
    part = checked_part(args.frames, schedule.requests)
    requests = this_part(schedule.requests, part)
    for words in in_words(args, spec, show, requests):
        line.say(words)
    for words in [*schedule.warnings, *([] if take else scene_warnings(args, lying, show))]:
        line.say(f"warning: {words}")
    if args.openjd:
        return write_template(args, requests, part, line)
    if args.plan:
        return say_plan(args, spec, requests, line)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.check and (difference := next(input_differences(take, show), None)):
        return say_difference(difference)
    differs = Comparison(take).difference if args.check else lambda frame: None
    with JobFolder(args.out, spec, schedule.requests, part, args.resume) as job:
        rendered, difference = render(args, spec, requests, job, differs)
    if difference:
        return say_difference(difference)
    if not args.frames_only and spec.format != "none":
        finish(args, show, requests, rendered, line)
    if args.check:
        print(f"{len(requests)} frames, {len(requests) * len(take.tiles)} tiles: all as it was")
    return 0


def spec_of(args: argparse.Namespace, lying: LyingShow) -> RenderSpec:
    """The job. Raises ConfigError."""
    name, is_video = lying.name, args.format in ENCODINGS
    instead = lying.instead | ({"rate": str(frame_rate(args.rate, "--rate"))} if args.rate else {})
    instead |= {"pixel_format": "rgb16"} if is_video and ENCODINGS[args.format].bits > 8 else {}
    spec = RenderSpec(
        show_toml=lying.toml,
        show_folder=str(lying.folder),
        show_name=name,
        show_files=lying.files,
        out=str(Path(args.out).resolve()),
        what=args.what,
        format="png" if is_video else args.format,
        instead=instead,
        view_px=args.size,
        quality=args.quality,
    )
    if not args.scene or moved_scenes(args.scene):
        return msgspec.structs.replace(spec, scenes=moved_scenes(args.scene))
    show = show_of(spec)
    if args.scene in show.places:
        return msgspec.structs.replace(spec, instead=instead | {"start": args.scene})
    if not Path(args.scene).is_file():
        raise ConfigError(name, "--scene", f"a place of the show ({', '.join(show.places)}), or a scene file", args.scene)
    return msgspec.structs.replace(spec, scenes={show.start: str(Path(args.scene).resolve())})


def requests_of(args: argparse.Namespace, show: Show, line: LiveLine) -> Schedule:
    """Every frame of the track, before --frames. Raises ConfigError."""
    path = Path(args.track)
    rigs = {rig.camera_id: rig for rig in show.stage.rigs}
    on_air = show.stage.rigs[0]
    assumed = Assumed(
        camera=args.camera or on_air.camera_id,
        rate=frame_rate(args.file_rate, "--file-rate") if args.file_rate else None,
        unit_m=UNITS_M[args.unit],
        rotation_order=args.rotation_order,
        sensor_mm=rigs.get(args.camera, on_air).lens.sensor_mm,
        field_from_stage=show.places[show.start].field_from_stage,
    )
    track = open_track(args.track, args, assumed)
    for note in track.notes:
        line.say(f"{path}: {note}")
    cameras = track.cameras
    camera_id = args.camera or (cameras[0] if len(cameras) == 1 else on_air.camera_id)
    track = track.of_camera(camera_id, path)
    rig = rigs.get(camera_id) or rigs.get("*") or on_air
    line.say(f"{path}: camera {camera_id}, {len(track.samples)} samples in {track.duration_ns / 1e9:.3f} s")
    if camera_id not in rigs:
        line.say(f"the show has no camera {camera_id}: its lens and where it stands are those of {rig.camera_id}")
    return from_track(
        track.samples,
        rig,
        show.rate,
        show.start,
        quality=args.quality or show.quality,
        outer_steps=OUTER_STEPS_MOST,
        footprint=show.footprint,
        reframe=Reframe(args.focal_mm, args.move or (0.0, 0.0, 0.0), args.pan, args.tilt, args.roll),
        limits=show.limits,
        timecode_rates=() if track.rate is None else (track.rate,),
    )


def checked_part(part: tuple[int, int] | None, requests: list[FrameRequest]) -> tuple[int, int] | None:
    """--frames, if there are such frames; None for all. Raises ConfigError."""
    first, last = requests[0].index, requests[-1].index
    if part is not None and not first <= part[0] <= part[1] <= last:
        raise ConfigError("command line", "--frames", f"frames of the track, {first} to {last}", f"{part[0]}-{part[1]}")
    return None if part == (first, last) else part


def picture_sizes(spec: RenderSpec, show: Show, lens: Lens) -> dict[str, tuple[int, int]]:
    """Width and height of the pictures that each frame becomes, by name."""
    if spec.what == "film":
        return {"film": FILM_PX}
    if spec.what in ("view", "through"):
        return {spec.what: spec.view_px or view_size(lens)}
    if spec.what == "walls":
        return {tile.surface.name: tile.surface.resolution_px for tile in show.stage.tiles}
    return {tile.name: tile.resolution_px for tile in show.stage.tiles}


def in_words(args: argparse.Namespace, spec: RenderSpec, show: Show, requests: list[FrameRequest]) -> list[str]:
    """What is rendered. Raises OutputError for pictures that no video can be made of."""
    first, last = requests[0], requests[-1]
    sizes = picture_sizes(spec, show, first.camera.lens)
    if args.format in ENCODINGS:
        for name, size in sizes.items():
            check_size(Path(args.out) / name, size, args.format)
    codes = f", timecode {first.timecode} to {last.timecode}" if first.timecode and last.timecode else ""
    px = sum(width * height for width, height in sizes.values())
    named = ", ".join(f"{name} {width} x {height}" for name, (width, height) in list(sizes.items())[:3])
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    return [
        f"{show.name}, place {first.scene}: {len(requests)} frames at {show.rate} fps, {first.index} to {last.index}{codes}",
        f"{named}{more}: {px:,} pixels a frame, as {args.format} in quality {spec.quality or show.quality}, to {args.out}",
    ]


def render(
    args: argparse.Namespace, spec: RenderSpec, requests: list[FrameRequest], job: JobFolder, differs: Callable
) -> tuple[list[Rendered], Difference | None]:
    """All of the frames that are not there yet; ends early with the first difference. What is finished when that, an error or
    Ctrl+C ends it is kept."""
    before = len(job.done)
    with Progress(len(requests), before) as progress:
        rendered = []
        try:
            for frame in render_all(OfflineRenderer, spec, requests, args.workers, args.ray, job):
                rendered.append(frame)
                progress.show(job.finished, job.bytes)
                if difference := differs(frame):
                    return rendered, difference
        except (LedvolumeError, KeyboardInterrupt):
            progress.say(f"stopped: {job.finished} of {len(requests)} frames are finished, --resume goes on with them")
            raise
    size = size_in_words(sum(frame.bytes for frame in rendered))
    progress.say(f"{len(requests)} frames, {size}: {len(requests) - before} rendered now, {before} were there")
    return rendered, None


def finish(args: argparse.Namespace, show: Show, requests: list[FrameRequest], rendered: list[Rendered], line: LiveLine) -> None:
    """Videos of the pictures, and what goes beside them. Raises OutputError."""
    out = Path(args.out)
    if args.format in ENCODINGS:
        pictures: dict[str, list[Path]] = {}
        for frame in rendered:
            for file in frame.files:
                pictures.setdefault(str(Path(file).parent), []).append(out / file)
        for name, files in pictures.items():
            video = out / f"{name}.{ENCODINGS[args.format].container}"
            encode_sequence(
                files, video, show.rate, args.format,
                lambda done, of, video=video: line.show(f"{video}: {done} of {of} frames"), requests[0].timecode,
            )  # fmt: skip
            line.say(f"{video}: {len(files)} frames, {size_in_words(video.stat().st_size)}")
    if args.frames is None:
        remove_parts(out)  # of workers that were killed; now nobody is writing
    for note in write_sidecars(out, requests, show, args.size):
        line.say(note)


def say_plan(args: argparse.Namespace, spec: RenderSpec, requests: list[FrameRequest], line: LiveLine) -> int:
    """Time and size, from a few frames that are rendered now and thrown away."""
    line.say("rendering a few frames to see how long they take")
    told = forecast(OfflineRenderer, spec, requests, args.workers, args.ray)
    seconds = told.start_s + told.frame_s * (len(requests) - 1)
    folder = next(path for path in (Path(args.out).resolve(), *Path(args.out).resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    size = told.bytes * len(requests)
    print(f"frames   {len(requests)}")
    print(
        f"bytes    about {size_in_words(size)}, {size_in_words(told.bytes)} a frame; {size_in_words(free)} are free in {folder}"
    )
    print(
        f"time     about {timedelta(seconds=math.ceil(seconds))}, {told.frame_s:.3f} s a frame, {told.start_s:.1f} s until the first"
    )
    if size > free:
        print("THIS DOES NOT FIT ON THE DISK")
    return 0


def write_template(args: argparse.Namespace, requests: list[FrameRequest], part: tuple[int, int] | None, line: LiveLine) -> int:
    """--openjd: files are named by their absolute paths, which all machines of the farm must have."""
    options = {}
    for option in OPTIONS:
        value = getattr(args, "from_format" if option == "from" else option.replace("-", "_"))
        if value in (None, "", 0.0):
            continue
        if option in ("show", "out") or (option == "scene" and Path(value).is_file()):
            value = Path(value).resolve()
        joint = "x" if option == "size" else ","
        options[f"--{option}"] = joint.join(map(str, value)) if isinstance(value, tuple) else str(value)
    parts = parts_of(requests[0].index, requests[-1].index)
    name = f"replay {Path(args.track).name}"
    track = str(Path(args.track).resolve())
    args.openjd.write_bytes(job_template(name, track, options, parts, part is not None, str(args.openjd)))
    line.say(f"{args.openjd}: {len(parts)} tasks of {parts[0][1] - parts[0][0] + 1} frames; openjd run {args.openjd}")
    return 0
