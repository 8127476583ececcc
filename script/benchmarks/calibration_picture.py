"""The picture proves it: a wall drawn with the calibrated stage looks right through the true lens, one that is 30 mm off does not.

The demo's place and wall. The stage is really somewhat other than the show says; it was calibrated from photographs (of dots).
Then a camera goes about its zone. The server renders for where the calibrated rig says that its entrance pupil is, on the wall
that the calibrated show has; the true lens at its true place photographs the true wall. Direct view: the same lens, no wall.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from benchmarks.calibration_pixels import calibrated
from benchmarks.march import DEMO
from calibration.truth import Truth, tracker_pose, with_surfaces
from ledvolume import lens_check
from ledvolume.camera import Camera, LensReading, Rig, entrance_pupil
from ledvolume.config import Show, load_show
from ledvolume.frame import FrameRequest
from ledvolume.moves import looking_at
from ledvolume.pose import Pose
from ledvolume.server import open_renderer
from ledvolume.stage import Stage
from measure import Row

# In the demo's zone, 0.8 × 0.6 × 0.5 m about (0, 0, 1.9), looking at its wall.
EYES = (
    looking_at((0.0, 0.0, 1.9), (0.0, 4.0, 1.9)),
    looking_at((-0.35, 0.2, 1.75), (0.2, 4.0, 1.8)),
    looking_at((0.35, -0.25, 2.1), (-0.1, 4.0, 2.1)),
    looking_at((0.3, 0.25, 1.7), (0.1, 4.0, 1.6)),
)
MOVED_M = {"sideways": (0.03, 0.0, 0.0), "back": (0.0, 0.03, 0.0), "up": (0.0, 0.0, 0.03)}


def picture() -> Iterable[Row]:
    """lens check on the true wall, drawn with the true stage, the calibrated one, and one whose wall is said 30 mm off"""
    show = load_show(DEMO)
    solved_show, truth = calibrated(DEMO, "dots")
    true_stage = with_surfaces(show.stage, truth.surfaces)
    best_db = decibels(show, true_stage, truth.rig, truth)
    solved_db = decibels(show, solved_show.stage, solved_show.stage.rigs[0], truth)
    drawn_db = decibels(show, show.stage, truth.rig, truth)
    yield Row("lens check, drawn with the true stage", best_db.mean(), "dB", ("≥", 34))
    yield Row("lens check, with the calibrated stage", solved_db.mean(), "dB")
    yield Row("lost by calibrating, mean over eyes", best_db.mean() - solved_db.mean(), "dB", ("≤", 0.5))
    yield Row("lost by calibrating, worst eye", float((best_db - solved_db).max()), "dB")
    for way, by_m in MOVED_M.items():
        off_db = decibels(show, moved(true_stage, by_m), truth.rig, truth)
        bar = ("≥", 3) if way != "back" else None
        yield Row(f"lost if the wall is said 30 mm {way} of where it is", best_db.mean() - off_db.mean(), "dB", bar)
    yield Row("lost with the show as it was before", best_db.mean() - drawn_db.mean(), "dB")


def decibels(show: Show, drawn: Stage, rig: Rig, truth: Truth) -> np.ndarray:
    """Of every eye: the wall drawn as `drawn` and `rig` say, photographed where it truly is."""
    renderer = open_renderer(msgspec.structs.replace(show, stage=drawn))
    true_stage, found = with_surfaces(show.stage, truth.surfaces), []
    for eye in EYES:
        pupil, lens = entrance_pupil(rig, tracker_pose(truth.rig, eye), LensReading())
        frame = renderer.render(FrameRequest(0, 0, 0, Camera(pupil, lens, "measured", 0), show.start))
        camera = Camera(eye, truth.rig.lens, "measured", 0)
        found.append(lens_check.check(frame, true_stage, renderer, show.footprint, camera, judged_by=camera).db)
    renderer.context.release()
    return np.array(found)


def moved(stage: Stage, by_m: tuple[float, float, float]) -> Stage:
    """The stage with all its surfaces moved along its axes."""
    away = Pose(position_m=by_m)
    surfaces = (msgspec.structs.replace(s, stage_from_surface=away @ s.stage_from_surface) for s in stage.surfaces)
    return with_surfaces(stage, tuple(surfaces))


MEASUREMENTS = (picture,)
