"""Options for files with camera tracks, the same for convert and simulate: what a format leaves open, the user says."""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

from ledvolume.clock import frame_rate
from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.reading import FILE, sensor_mm
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, Similarity, pan_tilt_roll
from ledvolume.protocols.freed_profile import UNITS_M
from ledvolume.tracks import FORMATS, Assumed, Track, load_track

SAID_AFTER_S = 0.5  # what takes longer says how far it is


def track_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. --sensor is declared by `reading`."""
    group = parser.add_argument_group("what a track file leaves open")
    group.add_argument("--from", dest="from_format", default="", metavar="FORMAT", help=f"of the file: {', '.join(FORMATS)}")
    group.add_argument("--camera", default="", metavar="ID", help="this camera of the track, or its name where it has none")
    group.add_argument("--file-rate", default="", metavar="FPS", help="chan: frames per second of the file (default 24)")
    group.add_argument("--unit", choices=UNITS_M, default="m", help="chan: unit of length (default m)")
    orders = "chan: zxy (Nuke's default) or xyz (Maya, Houdini)"
    group.add_argument("--rotation-order", choices=("zxy", "xyz"), default="zxy", help=orders)
    group.add_argument("--show", default="", metavar="SHOW.toml", help="nerfstudio: a show whose place the path is for")
    group.add_argument("--place", default="", metavar="NAME", help="which of its places (default: the one it starts with)")
    similarity = "nerfstudio, instead of a show: field_from_stage"
    group.add_argument("--field-from-stage", default="", metavar="SCALE,X,Y,Z[,PAN,TILT,ROLL]", help=similarity)


def assumed_of(args: argparse.Namespace, start_frame: int = 1) -> Assumed:
    """What was said. The show also says the sensor of its camera. Raises ConfigError."""
    field_from_stage, sensor = None, sensor_mm(args.sensor)
    if args.show:
        from ledvolume.config import load_show

        show = load_show(args.show)
        if args.field_from_stage:
            raise ConfigError(FILE, "--field-from-stage", "either this or --show", args.field_from_stage)
        name = args.place or show.start
        if name not in show.places:
            raise ConfigError(args.show, "--place", f"one of {', '.join(show.places)}", name)
        field_from_stage = show.places[name].field_from_stage
        rigs = {rig.camera_id: rig for rig in show.stage.rigs}
        sensor = sensor or rigs.get(args.camera, show.stage.rigs[0]).lens.sensor_mm
    elif args.place:
        raise ConfigError(FILE, "--place", "a --show to find it in", args.place)
    elif args.field_from_stage:
        field_from_stage = _similarity(args.field_from_stage)
    return Assumed(
        camera=args.camera or "camera",
        rate=frame_rate(args.file_rate, "--file-rate") if args.file_rate else None,
        start_frame=start_frame,
        unit_m=UNITS_M[args.unit],
        rotation_order=args.rotation_order,
        sensor_mm=sensor,
        field_from_stage=field_from_stage,
    )


def open_track(path: str, args: argparse.Namespace, assumed: Assumed) -> Track:
    """The track of a file, with how far it is on the terminal where that takes a while. Raises ConfigError."""
    line = LiveLine()
    if not Path(path).is_file():
        raise ConfigError(path, "track", "a file", "a folder" if Path(path).is_dir() else "no such file")
    track = load_track(path, assumed, args.from_format, _said(line, f"reading {path}"))
    return track.of_camera(args.camera, path) if args.camera else track


def in_words(track: Track) -> str:
    """Cameras, samples, seconds, rate."""
    cameras = track.cameras
    rate = f", {track.rate} a second" if track.rate else ""
    named = f"{len(cameras)} cameras ({', '.join(cameras[:8])}{', …' if len(cameras) > 8 else ''})"
    named = f"camera {cameras[0]}" if len(cameras) == 1 else named
    return f"{named}, {len(track.samples)} samples in {track.duration_ns / 1e9:.3f} s{rate}"


def _said(line: LiveLine, what: str) -> Callable[[float], None]:
    begin_s = next_s = time.monotonic()

    def progress(fraction: float) -> None:
        nonlocal next_s
        now_s = time.monotonic()
        if now_s >= next_s and now_s - begin_s > SAID_AFTER_S:
            next_s = now_s + 0.2
            line.show(f"{what}: {fraction:4.0%}")

    return progress


def _similarity(text: str) -> Similarity:
    try:
        scale, x, y, z, *degrees = (float(number) for number in text.split(","))
        if len(degrees) not in (0, 3) or not 0 < scale < math.inf:
            raise ValueError
    except ValueError:
        raise ConfigError(FILE, "--field-from-stage", "scale,x,y,z or scale,x,y,z,pan,tilt,roll (degrees)", text) from None
    return Similarity(Pose(pan_tilt_roll(*(math.radians(angle) for angle in degrees or (0.0, 0.0, 0.0))), (x, y, z)), scale)
