"""How late everything is, from a video of the wall's flashes and of a moving camera: milliseconds, each with its sigma.

  ledvolume calibrate patterns SHOW.toml --series flash --shown shown.jsonl     the wall flashes; the camera stands still and films
  ledvolume record --show SHOW.toml --out take.mcap                             then it pans and tilts, without a cut in the video
  ledvolume calibrate latency A001.mov --shown shown.jsonl --track take.mcap --camera A --show SHOW.toml --write calibrated.toml

VIDEO: a file, or a live address (v4l2:/dev/video0, rtsp://…) that is filmed from for --seconds. Several walls flash at once,
each by a code of its own; where they are in the picture is found.

What is measured depends on whose clock the video is on:
- no common clock (most cameras): how much later one wall is than another, and, with --track, how much older the tracker's
  pose is than the picture on the wall. That is what `latency_ms` of the camera has to be, and all that the server needs: the
  camera's own delay is in both and falls out.
- the house clock (--begins-at, or a live address, stamped here): also each wall's own delay, from the instant that a frame was
  made for to its light. The camera's delay up to its stamp is in it, unless --camera-ms says how much that is.

Let the camera run at another rate than the wall (25 against 24, 30 against 25): in step, it sees the wall's changes always at
the same place of its exposure, and the delay is known to a frame only.
"""

import argparse
import math
import sys
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import msgspec

from calibration.flash_search import Flashes, flashes_of, walls_in
from calibration.flash_video import Brightness, BrightnessReader, grey_frames
from calibration.image_motion import ImageMotion, MotionReader
from calibration.latency import FlashLatency, WallDelay, latency_of
from calibration.latency_plot import plot_latency
from calibration.picture_sources import is_live
from calibration.series import name_of
from calibration.show_edit import calibrated, save
from calibration.tracker_offset import TrackerOffset, tracker_offset
from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import positive, two_numbers, writable_file
from ledvolume.commands.reading import sensor_argument
from ledvolume.commands.track_files import assumed_of, open_track, track_arguments
from ledvolume.config import Show, load_show
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.outputs.cues import load_shown
from ledvolume.outputs.whole_file import write_whole
from ledvolume.show_file import SolvedCameraTable

FILE = "command line"
POSSIBLE_S = (-0.5, 3.0)  # delays on a common clock
RIG_S = (-0.3, 1.5)  # how much later than the tracker's stamps a wall can be
LARGEST_MS = 60_000


class RigLatency(msgspec.Struct, frozen=True):
    """latency_ms of a camera in a show: how much older the tracker's pose is than the light of `surface`."""

    camera: str
    surface: str
    latency_ms: float
    sigma_ms: float


class LatencyReport(msgspec.Struct, frozen=True):
    """As --json tells it. clock: house, if the walls' delays are their own; video, if only their differences mean something."""

    video: str
    clock: str
    flashes: FlashLatency
    camera_ms: tuple[float, float] | None
    missing: dict[str, str]
    tracker: TrackerOffset | None = None
    rig: RigLatency | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="a video file, or v4l2:/dev/video0, rtsp://…")
    parser.add_argument("--shown", metavar="FILE.jsonl", type=Path, required=True, help="of `calibrate patterns --series flash`")
    parser.add_argument("--track", metavar="TRACK", help="what the tracker said meanwhile: a take, or any track")
    parser.add_argument("--surface", default="", help="whose light `latency_ms` is for (the one that the picture has most of)")
    parser.add_argument("--shutter", metavar="1/48", default="", help="the exposure, seconds, where it is known")
    parser.add_argument(
        "--begins-at", metavar="TIME", default="", help="of the video's first frame on the house clock: ISO 8601, or ns"
    )
    parser.add_argument(
        "--camera-ms", metavar="MS,SIGMA", type=two_numbers, help="from the light to the video's stamp, and how sure"
    )
    parser.add_argument("--seconds", metavar="N", type=positive, help="how much of the video; of a live address (30)")
    parser.add_argument("--write", metavar="SHOW.toml", type=writable_file, help="write the show with the camera's latency_ms")
    parser.add_argument("--json", metavar="FILE.json", type=writable_file, help="write all numbers")
    parser.add_argument("--plot", metavar="FILE.png", type=writable_file, help="draw where the walls are, and how the model fits")
    sensor_argument(parser)
    track_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if not args.show:
        raise ConfigError(FILE, "--show", "the show whose wall flashed", "nothing")
    show = load_show(args.show)
    begins_s = _begins_s(args.begins_at)
    if args.write and not args.track:
        raise ConfigError(FILE, "--track", "what the tracker said, to find latency_ms of", "nothing")
    flashes = flashes_of(load_shown(args.shown), name_of)
    samples = None
    if args.track:
        camera = args.camera or show.stage.rigs[0].camera_id
        samples = open_track(args.track, args, assumed_of(args)).of_camera(camera, args.track).samples
    video, motion = _read(args.video, args.seconds, args.track is not None)
    on_house_clock = begins_s is not None or is_live(args.video)
    if on_house_clock:  # seconds of the record
        shift_s = (begins_s or 0.0) - flashes.origin_ns / 1e9
        video = msgspec.structs.replace(video, at_s=video.at_s + shift_s)
        motion = msgspec.structs.replace(motion, at_s=motion.at_s + shift_s) if motion else None
    surfaces = [surface.name for surface in show.stage.surfaces]
    walls, missing = walls_in(video, flashes, surfaces, POSSIBLE_S if on_house_clock else None)
    found = latency_of(video, flashes, walls, _shutter_s(args.shutter))
    tracker = rig = None
    if motion is not None:
        wall = _wall(found, args.surface)
        late_s = wall.delay_ms / 1000
        between_s = (late_s - RIG_S[1], late_s - RIG_S[0])
        motion = _without(motion, flashes.edges_s[0] + late_s - 0.5, flashes.edges_s[-1] + late_s + 0.5)
        tracker = tracker_offset(motion, samples, flashes.origin_ns, between_s, found.readout_ms / 1000)
        rig = _rig(camera, wall, found, tracker)
    report = LatencyReport(args.video, "house" if on_house_clock else "video", found, args.camera_ms, missing, tracker, rig)
    _say(report, flashes, video)
    if args.plot:
        plot_latency(video, flashes, walls, found, args.plot)
    if args.json:
        write_whole(args.json, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if args.write:
        _write(show, rig, args)
    return 0


def _read(source: str, seconds: float | None, with_motion: bool) -> tuple[Brightness, ImageMotion | None]:
    line, cells, moves = LiveLine(), BrightnessReader(source), MotionReader()
    for at_s, tick_s, grey in grey_frames(source, seconds):
        cells.add(at_s, tick_s, grey)
        if with_motion:
            moves.add(at_s, grey)
        line.show(f"{source}: {len(cells)} frames")
    return cells.brightness, moves.motion if with_motion else None


def _without(motion: ImageMotion, from_s: float, to_s: float) -> ImageMotion:
    """Flashes are no motion."""
    steps = motion.steps.copy()
    steps[(motion.at_s[1:] > from_s) & (motion.at_s[:-1] < to_s)] = float("nan")
    return msgspec.structs.replace(motion, steps=steps)


def _rig(camera: str, wall: WallDelay, found: FlashLatency, tracker: TrackerOffset) -> RigLatency:
    """The flashes came before or after the motion, and the two clocks drift meanwhile."""
    apart_s = tracker.at_s - found.at_s
    then_ms = wall.delay_ms + 1e-3 * found.drift_ppm * apart_s
    sigma_ms = math.hypot(wall.sigma_ms, tracker.sigma_ms, 1e-3 * found.drift_sigma_ppm * apart_s)
    return RigLatency(camera, wall.surface, round(then_ms - tracker.offset_ms, 3), round(sigma_ms, 3))


def _wall(found: FlashLatency, surface: str) -> WallDelay:
    by_name = {wall.surface: wall for wall in found.walls}
    if surface and surface not in by_name:
        raise CalibrationError(f"--surface {surface}: found in the video: {', '.join(by_name)}")
    return by_name[surface] if surface else max(found.walls, key=lambda wall: wall.cells)


def _write(show: Show, rig: RigLatency, args) -> None:
    if not 0 <= rig.latency_ms <= LARGEST_MS:
        raise CalibrationError(
            f"latency_ms of {rig.camera} would be {rig.latency_ms:.1f}: the wall's light would be earlier than the tracker's pose. Are "
            "the record, the track and the video of the same minutes and the same clocks? Nothing was written"
        )
    now = next(r for r in show.stage.rigs if r.camera_id == rig.camera)
    now = msgspec.structs.replace(now, latency_ns=round(rig.latency_ms * 1e6))
    solved = SolvedCameraTable(
        "ledvolume calibrate latency", datetime.now(UTC), Path(args.video).name, latency_sigma_ms=rig.sigma_ms
    )
    edited = calibrated(show, rigs=[now], solved={f"camera {rig.camera}": solved}, folder=args.write.parent)
    save(edited, args.write)
    print(f"wrote {args.write}")


def _say(report: LatencyReport, flashes: Flashes, video: Brightness) -> None:
    found = report.flashes
    print(
        f"{len(flashes.numbers)} flashes at {1 / flashes.period_s:.2f} Hz, video at {1 / video.period_s:.2f} Hz: exposure "
        f"{found.exposure_ms:.1f} ± {found.exposure_sigma_ms:.1f} ms, readout {found.readout_ms:.1f} ± {found.readout_sigma_ms:.1f} ms, clocks "
        f"apart by {found.drift_ppm:+.0f} ± {found.drift_sigma_ppm:.0f} ppm"
    )
    first = found.walls[0]
    for wall in found.walls:
        if report.clock == "house":
            off_ms, sigma_ms = report.camera_ms or (0.0, 0.0)
            what = "from a frame's instant to its light" + ("" if report.camera_ms else ", and through the camera to its stamp")
            print(f"{wall.surface}: {wall.delay_ms - off_ms:.2f} ± {math.hypot(wall.sigma_ms, sigma_ms):.2f} ms {what}")
        elif wall is not first:
            apart_ms, sigma_ms = wall.delay_ms - first.delay_ms, math.hypot(wall.sigma_ms, first.sigma_ms)
            print(f"{wall.surface}: {apart_ms:+.2f} ± {sigma_ms:.2f} ms against {first.surface}")
        else:
            print(f"{wall.surface}: found, ± {wall.sigma_ms:.2f} ms on the video's own clock")
    for surface, why in report.missing.items():
        print(f"{surface}: not measured: {why}", file=sys.stderr)
    for note in found.notes:
        print(f"  {note}", file=sys.stderr)
    if report.rig is not None:
        rig, tracker = report.rig, report.tracker
        print(
            f"tracker: {tracker.explained:.1%} of the picture's motion goes with it ({tracker.steps} frames), ± {tracker.sigma_ms:.2f} ms"
        )
        print(
            f"camera {rig.camera}: latency_ms = {rig.latency_ms:.1f} ± {rig.sigma_ms:.1f}: by so much its pose is older than the light of "
            f"{rig.surface}"
        )


def _begins_s(text: str) -> float | None:
    if not text:
        return None
    if text.isdecimal():
        return int(text) / 1e9
    try:
        begins = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(FILE, "--begins-at", "2026-03-01T14:05:09.120+01:00, or nanoseconds since 1970", text) from None
    if begins.tzinfo is None:
        raise ConfigError(FILE, "--begins-at", "a time with its zone, such as …+01:00 or …Z", text)
    return begins.timestamp()


def _shutter_s(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        seconds = 0.0
    if not 1e-4 <= seconds <= 1:
        raise ConfigError(FILE, "--shutter", "an exposure in seconds, such as 1/48", text)
    return seconds
