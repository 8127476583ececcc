"""A look at a picture of the dots while pictures are taken: what of the wall is in it, and from about where it was taken.

The wall is not calibrated yet: it may be tens of centimetres from where the show has it, and the place is as rough.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calibration.detect import view_of
from calibration.picture_sources import read_picture
from calibration.resection import FEWEST, resected
from calibration.session import Shot, View
from ledvolume.errors import CalibrationError
from ledvolume.lens import Lens
from ledvolume.pose import Pose
from ledvolume.stage import Stage, Surface, surface_points

ROUGH_OF_WIDTH = 0.03  # of the picture's width: how far off LEDs may be whose places are as in the show


def dots_in(file: Path, shot: Shot, surfaces: Sequence[Surface]) -> View:
    """What is found of every surface. Raises CalibrationError where no dots are to be seen, or are not these surfaces'."""
    pixels = read_picture(file).pixels
    return dots_view(pixels, shot, surfaces)


def dots_view(pixels: np.ndarray, shot: Shot, surfaces: Sequence[Surface]) -> View:
    """Of a picture (H, W) or (H, W, 3) of `dots` or `dots/P`. Raises CalibrationError."""
    return view_of({shot.pattern: shot}, {shot.pattern: pixels}, surfaces)


def roughly_at(stage: Stage, lens: Lens, view: View) -> Pose | None:
    """Where a view was taken from, if the wall is where the show has it; None if that cannot be told."""
    surfaces = {surface.name: surface for surface in stage.surfaces}
    known = [m for m in view.matches if m.surface in surfaces]
    if sum(len(m.led_px) for m in known) < FEWEST:
        return None
    points_m = np.concatenate([surface_points(surfaces[m.surface], *np.asarray(m.led_px, float).T) for m in known])
    picture_px = np.concatenate([np.asarray(m.picture_px, float) for m in known])
    sigma_px = np.full(len(points_m), ROUGH_OF_WIDTH * view.resolution_px[0])
    try:
        return resected(lens, view.resolution_px, points_m, picture_px, sigma_px).stage_from_camera
    except CalibrationError:
        return None
