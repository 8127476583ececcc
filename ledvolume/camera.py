"""The tracked camera: what a tracker says (CameraSample), what is fixed about the body (Rig), what is rendered (Camera).

Camera axes: X right, Y forward, Z up, origin at the lens' entrance pupil (docs/frames.md).
"""

from typing import Literal

import msgspec

from ledvolume.pose import Pose

DistortionModel = Literal["Brown-Conrady D-U", "Brown-Conrady U-D"]


class Distortion(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a lens bends the picture: OpenLensIO 1.0.1 (lens.py has the formulas). Coefficients in powers of 1/mm.

    radial: k1, k2, … as OpenLensIO counts them: odd ones above the fraction's line, even ones below it.
    offset_mm: ΔC, the centre of distortion from the projection's centre, right and down. model: which way the polynomial
    goes, from distorted to undistorted points (D-U, the standard's default) or the other way.
    """

    radial: tuple[float, ...] = ()
    tangential: tuple[float, ...] = ()
    offset_mm: tuple[float, float] = (0.0, 0.0)
    model: DistortionModel = "Brown-Conrady D-U"


class LensReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tracker reports of the lens; None = not reported. Encoders run 0..1 (OpenTrackIO).

    sensor_mm, overscan: told for the operator's eyes; the show's own sensor and measured overscan are used.
    """

    focal_length_mm: float | None = None
    focus_distance_m: float | None = None
    f_stop: float | None = None
    entrance_pupil_m: float | None = None
    zoom_encoder: float | None = None
    focus_encoder: float | None = None
    iris_encoder: float | None = None
    projection_offset_mm: tuple[float, float] | None = None
    distortion: Distortion | None = None
    sensor_mm: tuple[float, float] | None = None
    overscan: float | None = None


class CameraSample(msgspec.Struct, frozen=True):
    """One measurement of a tracker, already in our axes and metres. What goes over native ZMQ, as msgpack.

    `captured_at_ns` is on the house clock; equal to `received_at_ns` where the wire has no stamp. stamped_at_ns: the
    sender's own clock, as it was sent (0: none). timecode: HH:MM:SS:FF, ; before the frames where they drop.
    """

    camera_id: str
    captured_at_ns: int
    received_at_ns: int
    world_from_tracker: Pose
    lens: LensReading = LensReading()
    status: str = ""
    stamped_at_ns: int = 0
    timecode: str = ""


class Lens(msgspec.Struct, frozen=True):
    """A lens in one state, in OpenLensIO's meanings (SMPTE RIS-OSVP 1.0.1).

    projection_offset_mm: where the optical axis meets the sensor, right and down from its centre.
    entrance_pupil_m: + toward the object, from the tracked point (here: from the sensor plane) along +Y.
    """

    focal_length_mm: float
    sensor_mm: tuple[float, float]
    projection_offset_mm: tuple[float, float] = (0.0, 0.0)
    entrance_pupil_m: float = 0.0
    focus_distance_m: float | None = None
    distortion: Distortion = Distortion()


class Rig(msgspec.Struct, frozen=True):
    """What is fixed about one physical camera: registration, hand-eye, lens, the tracker's own latency."""

    camera_id: str
    lens: Lens
    stage_from_world: Pose = Pose()
    tracker_from_camera: Pose = Pose()
    latency_ns: int = 0


Tracking = Literal["measured", "predicted", "held", "lost"]


class Camera(msgspec.Struct, frozen=True):
    """Ready to render: where the entrance pupil is and what the lens sees. Nothing optional.

    age_ns: present time minus capture time of the newest sample used. presence: of the inner picture, 1 in full, 0 when it
    has faded to the outer one because the tracker is lost.
    """

    stage_from_camera: Pose
    lens: Lens
    tracking: Tracking
    age_ns: int
    camera_id: str = "camera"
    presence: float = 1.0


def entrance_pupil(rig: Rig, world_from_tracker: Pose, reading: LensReading) -> tuple[Pose, Lens]:
    """stage_from_camera at the entrance pupil, and the lens as the reading has it.

    Chain: stage_from_world · world_from_tracker · tracker_from_camera · (0, entrance_pupil_m, 0).
    """
    pupil_m = rig.lens.entrance_pupil_m if reading.entrance_pupil_m is None else reading.entrance_pupil_m
    focal_mm = reading.focal_length_mm or rig.lens.focal_length_mm
    focus_m = reading.focus_distance_m or rig.lens.focus_distance_m
    lens = Lens(focal_mm, rig.lens.sensor_mm, rig.lens.projection_offset_mm, pupil_m, focus_m)
    forward = Pose(position_m=(0.0, pupil_m, 0.0))
    return rig.stage_from_world @ world_from_tracker @ rig.tracker_from_camera @ forward, lens


def view_tangents(lens: Lens) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of the sensor as tangents from the optical axis, + right and up.

    A sensor point x mm right and y mm down of the centre is seen along ((x - ΔPx)/F, 1, -(y - ΔPy)/F).
    """
    half_w, half_h = lens.sensor_mm[0] / 2, lens.sensor_mm[1] / 2
    dx, dy = lens.projection_offset_mm
    f = lens.focal_length_mm
    return (-half_w - dx) / f, (half_w - dx) / f, (-half_h + dy) / f, (half_h + dy) / f
