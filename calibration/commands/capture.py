"""Take the pictures that a calibration needs: says which view is next and why, and looks at each picture at once.

  ledvolume calibrate capture CALIBRATION --show SHOW.toml --from v4l2:/dev/video0 --drive --tracker osc+udp://0.0.0.0:9000
  ledvolume calibrate capture CALIBRATION --show SHOW.toml --from rtsp://10.0.0.7/stream --series dots --drive
  ledvolume calibrate capture CALIBRATION --show SHOW.toml --from tethered/ --watch --drive --tracker show
  ledvolume calibrate capture CALIBRATION --show SHOW.toml --from card/DCIM --track take3.mcap --offset-s 3600
  ledvolume calibrate capture CALIBRATION --show SHOW.toml --from walk.mov --shown shown.jsonl --track take3.mcap

CALIBRATION is a folder: shots.json and the pictures. --drive shows the patterns through the show's outputs, waits --settle,
takes the picture, and goes on; Enter when the camera stands at the next place (--pause S: no keyboard, S seconds instead).
Without it the wall was driven by `calibrate patterns`: pictures follow its series in their order (a subfolder is a view), or
--shown says what was on the wall when they were taken. With one pattern, such as --series dots, every picture is a view.

The tracker's sample comes from --tracker (addresses as of `ledvolume listen`, or `show`: its sources), or afterwards from
--track, a take or any track. A picture's instant is its EXIF's, its frame's in a video, or when it came from a camera;
--offset-s is added to it. Exit status 0 when enough was taken, 1 when views are missing or something is wrong with some.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

from calibration.capture import Assigned, Capture, by_time, in_order, of_one
from calibration.commands.patterns import STDIN, Lines
from calibration.guide import Advice, Seen, next_view, seen_from, seen_in
from calibration.picture_sources import CameraPictures, FolderPictures, Picture, is_live, video_pictures
from calibration.series import names_of
from calibration.session import View
from calibration.tracker_samples import STILL_NS, LiveTracker, Samples
from calibration.wall import Wall
from ledvolume.camera import LensReading, Rig, entrance_pupil
from ledvolume.commands.quantities import count, finite, positive, writable_folder
from ledvolume.commands.reading import reading_arguments, sources_of
from ledvolume.config import Show, load_show
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.outputs.cues import load_shown
from ledvolume.tracks import load_track

POLL_S = 0.1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="CALIBRATION", type=writable_folder, help="the calibration's folder")
    parser.add_argument("--show", metavar="SHOW.toml", type=Path, required=True, help="the show: stage, camera and lens as built")
    parser.add_argument(
        "--from", dest="source", metavar="SOURCE", required=True, help="a folder, a video file, a camera's address"
    )
    parser.add_argument(
        "--series", metavar="NAME", nargs="+", default=["gray"], help="what the wall shows (gray); dots: one picture"
    )
    parser.add_argument("--drive", action="store_true", help="show the patterns, through the show's outputs")
    parser.add_argument("--output", metavar="URI", action="append", default=[], help="--drive: instead of the show's outputs")
    parser.add_argument("--shown", metavar="FILE.jsonl", type=Path, help="what `calibrate patterns` has shown, and when")
    parser.add_argument("--settle", metavar="S", type=positive, default=0.4, help="wall and camera are late: wait so long (0.4)")
    parser.add_argument("--every", metavar="S", type=positive, default=2.0, help="a video of dots: a view every S seconds (2)")
    parser.add_argument("--watch", action="store_true", help="a folder: wait for more pictures, until Ctrl+C")
    parser.add_argument("--views", metavar="N", type=count, help="stop after N new views")
    parser.add_argument("--pause", metavar="S", type=positive, help="--drive: S seconds between views instead of Enter")
    parser.add_argument("--seconds", metavar="N", type=positive, help="stop after N seconds")
    parser.add_argument("--camera", metavar="ID", default="", help="the show's camera that takes the pictures (its first)")
    parser.add_argument("--lens-state", metavar="NAME", default="0", help="zoom and focus stay: a name for how they stand (0)")
    parser.add_argument("--tracker", metavar="URI", nargs="+", help="live: as of `ledvolume listen`, or the word show")
    parser.add_argument("--track", metavar="FILE", type=Path, help="afterwards: a take, or any track")
    parser.add_argument("--offset-s", metavar="S", type=finite, default=0.0, help="added to the pictures' instants")
    parser.add_argument("--latency-ms", metavar="MS", type=finite, default=0.0, help="a camera's pictures come so late")
    reading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    show = load_show(args.show)
    rig = _rig(show, args.camera)
    names = names_of(show.stage.surfaces, args.series)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    end_s = time.monotonic() + args.seconds if args.seconds else float("inf")
    with ExitStack() as opened:
        samples, drain = _tracker(args, rig, opened)
        capture = Capture(args.folder, samples, rig.camera_id, args.lens_state, round(args.offset_s * 1e9))
        guide = Guide(show, rig, capture, samples is not None)
        taking = Taking(args, names, capture, guide, drain, lambda: bool(stopped) or time.monotonic() > end_s)
        say(
            f"{len(capture.views)} views in {args.folder}; a view is {len(names)} picture{'s' * (len(names) > 1)}. {guide.words()}"
        )
        if args.drive:
            wall = opened.enter_context(closing(Wall(args.show, args.folder / "shown.jsonl", args.output)))
            taking.driven(wall, _one_by_one(args, taking, opened))
        elif is_live(args.source):
            if len(names) > 1:
                raise ConfigError(
                    "command line", "--drive", "this, or one pattern: a camera's pictures are taken as they are shown", names
                )
            taking.driven(None, _one_by_one(args, taking, opened))
        else:
            taking.given(_given(args, taking))
    say(f"{len(capture.views)} views, {len(capture.shots)} pictures in {args.folder}. {guide.words()}")
    return 0 if guide.advice().is_enough and not taking.troubles else 1


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


class Guide:
    """Which view is next, by what was found in pictures of dots; else by tracker and show; with neither, as if every view had
    been taken where it was advised."""

    def __init__(self, show: Show, rig: Rig, capture: Capture, has_tracker: bool):
        self._show, self._rig, self._capture, self._has_tracker = show, rig, capture, has_tracker
        self._found: dict[str, View] = {}
        self._can_look = find_spec("cv2") is not None and find_spec("scipy") is not None

    def look(self, view: str) -> list[str]:
        """Look for the wall in a view of dots; what is wrong is returned in words."""
        shot = next((s for s in self._capture.of_view(view) if s.pattern.startswith("dots")), None)
        if shot is None or not self._can_look:
            return []
        from calibration.looking import dots_in

        try:
            self._found[view] = dots_in(self._capture.folder / shot.picture, shot, self._show.stage.surfaces)
        except CalibrationError as error:
            return [f"{view}: {error}"]
        say(f"{view}: " + ", ".join(f"{len(m.led_px)} dots of {m.surface}" for m in self._found[view].matches))
        return []

    def advice(self) -> Advice:
        """For the views that are in the folder."""
        stage, lens = self._show.stage, self._rig.lens
        views: list[Seen] = []
        for view in self._capture.views:
            shot = next((s for s in self._capture.of_view(view) if s.world_from_tracker is not None), None)
            pose = entrance_pupil(self._rig, shot.world_from_tracker, LensReading())[0] if shot else None
            if found := self._found.get(view):
                from calibration.looking import roughly_at

                if (pose := pose or roughly_at(stage, lens, found)) is not None:
                    views.append(seen_in(stage, found, pose))
                    continue
            if pose is None and (pose := next_view(stage, lens, views, self._has_tracker).pose) is None:
                continue
            views.append(seen_from(stage, lens, pose))
        return next_view(stage, lens, views, self._has_tracker)

    def words(self) -> str:
        advice = self.advice()
        return f"Next view: {advice.words}" if advice.pose else advice.words


class Taking:
    """Takes pictures one view after the other, and says what is to be said. troubles: how many were said."""

    def __init__(self, args, names: list[str], capture: Capture, guide: Guide, drain: Callable, is_stopped: Callable[[], bool]):
        self.args, self.names, self.capture, self.guide = args, names, capture, guide
        self.drain, self.is_stopped = drain, is_stopped
        self.troubles = self.views = 0
        self._lines, self._typed = Lines(STDIN), []

    def given(self, pictures: Iterator[Assigned]) -> None:
        """Pictures that come by themselves."""
        view = None
        for assigned in pictures:
            if assigned.view != view and view is not None:
                self._end_view(view)
                if self.is_done():
                    return
            view = assigned.view
            self._add(assigned)
            if assigned.pattern == self.names[-1]:
                self._end_view(view)
                view = None
                if self.is_done():
                    return
        if view is not None:
            self._end_view(view)

    def driven(self, wall: Wall | None, take: Callable[[int], Picture | None]) -> None:
        """take(instant): a picture that was taken then or later."""
        for view in self.capture.view_names():
            if not self._is_camera_there():
                return
            for name in self.names:
                from_ns = wall.show(name, self.drain) if wall else time.time_ns()
                picture = take(from_ns + round(self.args.settle * 1e9) if wall else from_ns)
                if picture is None:
                    say(f"{view} was not finished: {name} is missing")
                    self.troubles += 1
                    return
                self._wait(STILL_NS / 1e9 if self.capture.samples else 0.0)  # for the samples after it
                self._add(Assigned(picture, name, view))
            if wall:
                wall.show("white", self.drain)  # light to walk by
            self._end_view(view)
            if self.is_done():
                return

    def is_done(self) -> bool:
        return self.is_stopped() or (self.args.views is not None and self.views >= self.args.views)

    def _add(self, assigned: Assigned) -> None:
        self.drain()
        said = self.capture.add(assigned)
        self.troubles += len(said)
        for words in said:
            say(words)

    def _end_view(self, view: str) -> None:
        said = self.capture.end_view(view) + self.guide.look(view)
        missing = len(self.names) - len(self.capture.of_view(view))
        said += [f"{view}: {missing} of {len(self.names)} patterns are missing"] if missing > 0 else []
        self.troubles += len(said)
        self.views += 1
        for words in said:
            say(words)
        say(f"{view} taken. {self.guide.words()}")

    def _is_camera_there(self) -> bool:
        if self.args.pause is not None:
            self._wait(self.args.pause)
            return not self.is_stopped()
        say("Enter when the camera stands there; q ends")
        while not self.is_stopped():
            if typed := self._typed or self._lines.new():
                self._typed = typed[1:]
                return typed[0].strip() != "q"
            self._wait(POLL_S)
        return False

    def _wait(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not self.is_stopped():
            self.drain()
            time.sleep(min(left_s, 0.02))


def _one_by_one(args: argparse.Namespace, taking: Taking, opened: ExitStack) -> Callable[[int], Picture | None]:
    """take(instant) of a camera, or of a folder into which somebody's camera puts the next picture."""
    if is_live(args.source):
        camera = opened.enter_context(closing(CameraPictures(args.source, round(args.latency_ms * 1e6))))
        return lambda instant_ns: camera.after(instant_ns, while_waiting=taking.drain)
    if not Path(args.source).is_dir():
        raise ConfigError("command line", "--drive", "a camera, or a folder that is filled", args.source)
    pictures = FolderPictures(Path(args.source))
    pictures.new(is_filling=False)  # those of before

    def next_picture(instant_ns: int) -> Picture | None:
        while not taking.is_stopped():
            new, said = pictures.new()
            for words in said:
                say(words)
            if new:
                picture = new[-1]
                return picture if picture.at_ns else picture._replace(at_ns=time.time_ns() - taking.capture.offset_ns)
            taking.drain()
            time.sleep(POLL_S)
        return None

    return next_picture


def _given(args: argparse.Namespace, taking: Taking) -> Iterator[Assigned]:
    """Pictures that were taken before, or that somebody takes now."""
    source, names, capture = Path(args.source), taking.names, taking.capture
    pictures = _of_folder(args, taking, source) if source.is_dir() else video_pictures(source)
    views = capture.view_names()
    if args.shown:
        shown = load_shown(args.shown)
        return by_time(pictures, shown, round(args.settle * 1e9), round(args.every * 1e9), capture.offset_ns, views)
    if not source.is_dir() and not source.is_file():
        raise ConfigError("command line", "--from", "a folder, a video file, or an address such as rtsp://…", args.source)
    if len(names) == 1:
        return of_one(pictures if source.is_dir() else _thinned(pictures, round(args.every * 1e9)), names[0], views)
    if not source.is_dir():
        raise ConfigError("command line", "--shown", "what was on the wall when, for a video of several patterns", "nothing")
    return in_order(pictures, names, views)


def _of_folder(args: argparse.Namespace, taking: Taking, folder: Path) -> Iterator[Picture]:
    pictures = FolderPictures(folder)
    pictures.pass_over({file for file in folder.rglob("*") if taking.capture.has(file)})
    while True:
        new, said = pictures.new(is_filling=args.watch)
        for words in said:
            say(words)
            taking.troubles += 1
        yield from new
        if not args.watch or taking.is_stopped():
            return
        taking.drain()
        time.sleep(POLL_S)


def _thinned(pictures: Iterator[Picture], every_ns: int) -> Iterator[Picture]:
    next_ns = None
    for picture in pictures:
        if next_ns is None or picture.at_ns >= next_ns:
            next_ns = picture.at_ns + every_ns
            yield picture


def _rig(show: Show, camera_id: str) -> Rig:
    rigs = {rig.camera_id: rig for rig in show.stage.rigs}
    if camera_id and camera_id not in rigs:
        raise ConfigError(show.file, "--camera", f"one of {', '.join(rigs)}", camera_id)
    return rigs[camera_id] if camera_id else show.stage.rigs[0]


def _tracker(args: argparse.Namespace, rig: Rig, opened: ExitStack) -> tuple[Samples | None, Callable[[], None]]:
    """Samples of the camera, None without a tracker; and what reads more of them."""
    if args.tracker and args.track:
        raise ConfigError("command line", "--track", "either this or --tracker", args.track)
    if args.track:
        track = load_track(args.track)
        camera_id = rig.camera_id if rig.camera_id in track.cameras or len(track.cameras) > 1 else track.cameras[0]
        return Samples.of_track(track, camera_id, rig.latency_ns), lambda: None
    if not args.tracker:
        return None, lambda: None
    is_show = args.tracker == ["show"]
    wanted = sources_of(args, [] if is_show else args.tracker, str(args.show) if is_show else "")
    only = rig.camera_id if is_show else args.camera
    tracker = opened.enter_context(closing(LiveTracker(wanted, only, rig.latency_ns)))
    for uri, port in zip((uri for uri, _ in wanted), tracker.ports):
        say(f"listening on {uri} (port {port})")
    return tracker.samples, tracker.drain
