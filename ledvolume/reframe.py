"""Another camera than the one that was there: what is changed of every frame when a take is rendered again."""

import math

import msgspec

from ledvolume.camera import Camera
from ledvolume.pose import Pose, Vec3, pan_tilt_roll, pan_tilt_roll_of


class Reframe(msgspec.Struct, frozen=True):
    """focal_length_mm: instead of the lens' own. move_m: on the stage, X right, Y toward the wall, Z up.

    pan, tilt, roll: added to the camera's own angles (degrees; pan + left, tilt + up, roll + clockwise from behind).
    """

    focal_length_mm: float | None = None
    move_m: Vec3 = (0.0, 0.0, 0.0)
    pan_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0


def reframed(camera: Camera, reframe: Reframe) -> Camera:
    """The camera as it shall be. A camera that nothing is said of stays as it is, to the last bit."""
    pose, lens = camera.stage_from_camera, camera.lens
    if any(reframe.move_m):
        pose = Pose(pose.wxyz, tuple(p + d for p, d in zip(pose.position_m, reframe.move_m)))
    offsets = (reframe.pan_deg, reframe.tilt_deg, reframe.roll_deg)
    if any(offsets):
        angles = (angle + math.radians(offset) for angle, offset in zip(pan_tilt_roll_of(pose.wxyz), offsets))
        pose = Pose(pan_tilt_roll(*angles), pose.position_m)
    if reframe.focal_length_mm is not None:
        lens = msgspec.structs.replace(lens, focal_length_mm=reframe.focal_length_mm)
    return msgspec.structs.replace(camera, stage_from_camera=pose, lens=lens)
