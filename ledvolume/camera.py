"""The tracked camera: what a tracker says (CameraSample), what is fixed about the body (Rig), what is rendered (Camera).

Camera axes: X right, Y forward, Z up, origin at the lens' entrance pupil (docs/frames.md).
"""

import math
from typing import Literal

import msgspec

from ledvolume.lens import Distortion, Lens, distortion_between
from ledvolume.lens_table import LensTable, station_at
from ledvolume.pose import Pose


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


class Rig(msgspec.Struct, frozen=True):
    """What is fixed about one physical camera: registration, hand-eye, lens, the tracker's own latency.

    lens: where neither the table nor the tracker says anything.
    """

    camera_id: str
    lens: Lens
    stage_from_world: Pose = Pose()
    tracker_from_camera: Pose = Pose()
    latency_ns: int = 0
    lens_table: LensTable | None = None


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
    """stage_from_camera at the entrance pupil, and the lens as lens_of has it.

    Chain: stage_from_world · world_from_tracker · tracker_from_camera · (0, entrance_pupil_m, 0).
    """
    lens = lens_of(rig, reading)
    forward = Pose(position_m=(0.0, lens.entrance_pupil_m, 0.0))
    return rig.stage_from_world @ world_from_tracker @ rig.tracker_from_camera @ forward, lens


def lens_of(rig: Rig, reading: LensReading) -> Lens:
    """The lens at a reading. Each value is the lens table's at the reading's encoders; else the reading's own; else the rig's.

    The table was measured with this lens on this body, a tracker's values are those of a make of lenses, or nominal: so the
    table is believed in what it holds. Without the encoders that it needs it says nothing (lens_table.trouble).
    """
    lens, table = rig.lens, rig.lens_table
    values = {
        "focal_length_mm": reading.focal_length_mm or None,
        "projection_offset_mm": reading.projection_offset_mm,
        "entrance_pupil_m": reading.entrance_pupil_m,
        "focus_distance_m": reading.focus_distance_m or None,
        "distortion": reading.distortion,
    }
    station = None if table is None else station_at(table, reading.zoom_encoder, reading.focus_encoder)
    if station is not None:
        pupil_mm, focus_m = station.entrance_pupil_mm, station.focus_distance_m
        held = {
            "focal_length_mm": station.focal_length_mm,
            "projection_offset_mm": station.projection_offset_mm,
            "entrance_pupil_m": None if pupil_mm is None else pupil_mm / 1000,
            "focus_distance_m": math.inf if focus_m == "infinity" else focus_m,
            "distortion": station.distortion,
        }
        values |= {name: value for name, value in held.items() if value is not None}
    return msgspec.structs.replace(lens, **{name: value for name, value in values.items() if value is not None})


def reading_between(a: LensReading, b: LensReading, fraction: float) -> LensReading:
    """A reading between two; a value that only one of them has, or that is infinite, is that of a."""
    if a == b:
        return a
    values = {}
    for name in LensReading.__struct_fields__:
        p, q = getattr(a, name), getattr(b, name)
        if p is None or q is None or p == q or math.inf in (p, q):
            values[name] = p
        elif isinstance(p, Distortion):
            values[name] = distortion_between(p, q, fraction)
        elif isinstance(p, tuple):
            values[name] = tuple(x + (y - x) * fraction for x, y in zip(p, q))
        else:
            values[name] = p + (q - p) * fraction
    return LensReading(**values)


def view_tangents(lens: Lens) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of the sensor as tangents from the optical axis, + right and up.

    A sensor point x mm right and y mm down of the centre is seen along ((x - ΔPx)/F, 1, -(y - ΔPy)/F).
    """
    half_w, half_h = lens.sensor_mm[0] / 2, lens.sensor_mm[1] / 2
    dx, dy = lens.projection_offset_mm
    f = lens.focal_length_mm
    return (-half_w - dx) / f, (half_w - dx) / f, (-half_h + dy) / f, (half_h + dy) / f
