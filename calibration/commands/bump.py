"""Has anything moved since the wall was calibrated? One picture tells.

  ledvolume calibrate bump CALIBRATION today.jpg                      one picture of the dots, by the camera that was solved
  ledvolume calibrate bump CALIBRATION today.jpg --track take3.mcap   and whether tracker and wall have moved against each other
  ledvolume calibrate bump CALIBRATION today/                         the views of a folder, captured and detected

CALIBRATION is the folder with solved.json. Show the pattern with `calibrate patterns SHOW.toml --series dots --seconds 600`,
with zoom and focus as they were solved (--lens-state, where several were). A folder is one of `calibrate capture` and
`calibrate detect`: its views may be of the dots or the Gray code, and have the tracker's samples.

Says which surface or panel has moved, how far and where to, in millimetres as far as one view tells. Exit status 0: all is
where it was; 1: something has moved; 2: the picture says nothing.
"""

import argparse
from pathlib import Path

import msgspec

from calibration.bump import bump_of
from calibration.commands.report import VIEWS
from calibration.looking import dots_view
from calibration.picture_sources import read_picture
from calibration.session import Shot, View, load_views
from calibration.solved import FILE_NAME, Solved, load_solved
from calibration.tracker_samples import Samples
from ledvolume.commands.quantities import finite
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.patterns import check
from ledvolume.tracks import load_track


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="CALIBRATION", type=Path, help="the calibration's folder, with solved.json")
    parser.add_argument("picture", metavar="PICTURE", type=Path, help="a picture of the dots, or a folder with views.json")
    parser.add_argument("--view", metavar="NAME", help="of a folder: this view (default: all)")
    parser.add_argument("--camera", metavar="ID", default="", help="a picture: the camera that took it (the one that was solved)")
    parser.add_argument("--lens-state", metavar="NAME", default="0", help="a picture: how zoom and focus stand (0)")
    parser.add_argument("--pitch", metavar="PX", type=int, default=0, help="a picture: LED pixels from dot to dot, of dots/PX")
    parser.add_argument("--track", metavar="FILE", type=Path, help="a picture: a take or any track, for the tracker's sample")
    parser.add_argument("--offset-s", metavar="S", type=finite, default=0.0, help="added to the picture's instant")


def run(args: argparse.Namespace) -> int:
    solved = load_solved(args.folder / FILE_NAME)
    if args.picture.is_dir():
        views = load_views(args.picture / VIEWS)
        if args.view and args.view not in (names := [view.name for view in views]):
            raise ConfigError(args.picture / VIEWS, "--view", f"one of {', '.join(names)}", args.view)
        views = [view for view in views if args.view in (None, view.name)]
    else:
        views = [_of_picture(args, solved)]
    if not views:
        raise ConfigError(args.picture / VIEWS, "views", "at least one", "none")
    has_moved = False
    for view in views:
        bump = bump_of(solved, view)
        has_moved |= bump.has_moved
        off = ", ".join(f"{name} {rms_px:.2f} px" for name, rms_px in bump.surfaces.items())
        tracker = "" if bump.tracker_mm is None else f"; tracker {bump.tracker_mm:.1f} mm, {bump.tracker_deg:.2f}°"
        print(f"{view.name}: {'MOVED' if bump.has_moved else 'nothing has moved'} ({off}{tracker})")
        for words in bump.words:
            print(f"  {words}")
    return 1 if has_moved else 0


def _of_picture(args: argparse.Namespace, solved: Solved) -> View:
    """Raises CalibrationError where no dots are to be seen."""
    picture = read_picture(args.picture)
    pattern = f"dots/{args.pitch}" if args.pitch else "dots"
    check(pattern)
    shot = Shot("", picture.name, pattern, args.camera, lens_state=args.lens_state)
    view = dots_view(picture.pixels, shot, [one.surface for one in solved.surfaces])
    return view if args.track is None else _with_tracker(args, solved, view, picture.at_ns)


def _with_tracker(args: argparse.Namespace, solved: Solved, view: View, at_ns: int) -> View:
    if not at_ns:
        raise CalibrationError(f"{args.picture}: it does not say when it was taken: no sample of the tracker belongs to it")
    track = load_track(args.track)
    wanted = args.camera or solved.rigs[0].camera_id
    camera_id = wanted if wanted in track.cameras or len(track.cameras) > 1 else track.cameras[0]
    sample = Samples.of_track(track, camera_id).at(at_ns + round(args.offset_s * 1e9))
    if sample is None:
        raise CalibrationError(f"{args.track}: nothing within 0.1 s of {args.picture}: are the clocks the same? --offset-s")
    return msgspec.structs.replace(view, world_from_tracker=sample.world_from_tracker)
