"""The tables of a show file as they are written: TOML's keys, in the units of people. config.py makes values of them.

Types say what a key may hold; what types cannot say is checked in config.py. docs/show.md lists every key.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from ledvolume.frustum import Footprint
from ledvolume.stage import Box

# Ranges that no stage leaves: they catch millimetres written as metres, and metres as millimetres.
Metres = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
Width = Annotated[float, msgspec.Meta(gt=0, le=500)]
Millimetres = Annotated[float, msgspec.Meta(ge=-2000, le=2000)]
FocalLength = Annotated[float, msgspec.Meta(ge=1, le=5000)]
SensorSide = Annotated[float, msgspec.Meta(ge=1, le=200)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=60_000)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Point = tuple[Metres, Metres, Metres]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the show file."""


class PoseTable(Table):
    """A pose as people write it: metres and degrees (pan + left, tilt + up, roll + clockwise from behind), or wxyz."""

    position_m: Point = (0.0, 0.0, 0.0)
    pan_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    wxyz: tuple[float, float, float, float] | None = None


class FieldFromStage(Table):
    """Where the place lies: field = scale · R stage_m + position; scale in field units per metre, position in field units."""

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pan_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    wxyz: tuple[float, float, float, float] | None = None
    scale: Positive = 1.0


class PlaceTable(Table):
    """A baked scene on the stage. credit: whom to name under pictures of it; default: what the scene file says."""

    name: Name
    file: str
    field_from_stage: FieldFromStage
    near_m: NotNegative = 0.0
    exposure_stops: Annotated[float, msgspec.Meta(ge=-16, le=16)] = 0.0
    credit: str = ""


class SolvedTable(Table):
    """Who found the values of a table, when, from what file and how many views; rms_px: what was left over in the pictures.

    Sigmas are standard deviations of the values that they are named for.
    """

    by: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    from_file: str | None = msgspec.field(name="from", default=None)
    views: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rms_px: NotNegative | None = None


class SolvedSurfaceTable(SolvedTable):
    """rms_mm: what was left over, on the wall. sigma_mm: how far an LED may be from where it is said to be."""

    rms_mm: NotNegative | None = None
    sigma_mm: NotNegative | None = None


class SolvedCameraTable(SolvedTable):
    """None: was not solved."""

    stage_from_world_sigma_mm: NotNegative | None = None
    stage_from_world_sigma_deg: NotNegative | None = None
    tracker_from_camera_sigma_mm: NotNegative | None = None
    tracker_from_camera_sigma_deg: NotNegative | None = None
    focal_length_sigma_mm: NotNegative | None = None
    entrance_pupil_sigma_mm: NotNegative | None = None
    latency_sigma_ms: NotNegative | None = None


class SurfaceTable(Table):
    """A wall surface, cut into columns × rows tiles. It faces a viewer of this rotation: pan, tilt, roll, or wxyz.

    map: a file (wall_map.py).
    """

    name: Name
    shape: str
    centre_m: Point
    size_m: tuple[Width, Width]
    resolution_px: tuple[Count, Count]
    tiles: tuple[Count, Count] = (1, 1)
    pan_deg: float = 0.0
    tilt_deg: float = 0.0
    roll_deg: float = 0.0
    wxyz: tuple[float, float, float, float] | None = None
    radius_m: float | None = None
    map: str | None = None
    solved: SolvedSurfaceTable | None = None


class StageTable(Table):
    """The volume."""

    eye_m: Point
    zone: Box
    surface: Annotated[list[SurfaceTable], msgspec.Meta(min_length=1)]


class CameraTable(Table):
    """What is fixed about one tracked camera. initial: stage_from_camera until the tracker speaks; default: zone's centre.

    lens_table: a file (lens_table.py).
    """

    id: Name
    focal_length_mm: FocalLength
    sensor_mm: tuple[SensorSide, SensorSide]
    projection_offset_mm: tuple[Millimetres, Millimetres] = (0.0, 0.0)
    entrance_pupil_mm: Millimetres = 0.0
    lens_table: str | None = None
    latency_ms: Milliseconds = 0.0
    stage_from_world: PoseTable = PoseTable()
    tracker_from_camera: PoseTable = PoseTable()
    initial: PoseTable | None = None
    solved: SolvedCameraTable | None = None


class FixtureTable(Table):
    """A light fixture: fixtures.Fixture, in the units of people. It faces the subject unless angles say otherwise.

    size_m: the rectangle around its position whose light it gives. pixels: columns, rows.
    subject_m: what it lights; default: the stage's eye_m.
    """

    name: Name
    position_m: Point
    universe: Annotated[int, msgspec.Meta(ge=0, le=63999)]
    address: Annotated[int, msgspec.Meta(ge=1, le=512)]
    size_m: tuple[Width, Width] = (0.5, 0.5)
    pixels: tuple[Count, Count] = (1, 1)
    pan_deg: float | None = None
    tilt_deg: float | None = None
    roll_deg: float = 0.0
    subject_m: Point | None = None
    channels: str = "rgb"
    bits: Literal[8, 16] = 8
    gain: Positive = 1.0
    gamma: Annotated[float, msgspec.Meta(ge=0.2, le=5)] = 1.0


class TrackingTable(Table):
    """How long a pose is trusted and what a camera can do: timeline.Limits, in the units of people. None: its default.

    horizon_ms: by default at least 1.25 times the lead of a frame, so that a slow show still predicts.
    """

    horizon_ms: Milliseconds | None = None
    lost_ms: Milliseconds | None = None
    fade_ms: Milliseconds | None = None
    blend_ms: Milliseconds | None = None
    velocity_window_ms: Milliseconds | None = None
    jitter_ms: Milliseconds | None = None
    slack_mm: NotNegative | None = None
    slack_deg: NotNegative | None = None
    acceleration_m_s2: NotNegative | None = None
    acceleration_deg_s2: NotNegative | None = None


class SourceTable(Table):
    """Where poses come from. OSC: preset, a built-in map by name, or map, the map itself (docs/tracking.md).

    clock: what its stamps are counted on. cameras: the id on the wire → the show's camera id. profile: FreeD and PSN, what
    the vendor does otherwise, by name or as a table.
    """

    uri: str
    preset: str | None = None
    map: dict | None = None
    clock: Literal["auto", "house", "source", "arrival"] = "auto"
    cameras: dict[str, Name] = {}
    profile: str | dict | None = None


class OutputTable(Table):
    """Where frames go."""

    uri: str


class ShowFile(Table):
    """The whole file, as written."""

    name: str
    rate: str | int
    place: Annotated[list[PlaceTable], msgspec.Meta(min_length=1)]
    stage: StageTable
    camera: Annotated[list[CameraTable], msgspec.Meta(min_length=1)]
    fixture: list[FixtureTable] = []
    source: list[SourceTable] = []
    output: list[OutputTable] = []
    footprint: Footprint = Footprint()
    tracking: TrackingTable = TrackingTable()
    pixel_format: str = "rgb8"
    quality: str = "show"
    start: str | None = None
    lead_ms: Milliseconds | None = None
