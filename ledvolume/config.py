"""Show files: TOML → Show, a frozen value. The first thing the server does; nothing after it checks a show again.

A show names its frame rate, its places (baked scenes and where they lie on the stage), the stage, cameras, sources and
outputs. configs/demo.toml is the annotated example; docs/show.md lists every key. Files named in a show are relative to it.
What is refused is refused with file, key path, what was expected and what was got.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import msgspec

from ledvolume.camera import Rig
from ledvolume.clock import SECOND_NS, frame_rate
from ledvolume.errors import ConfigError
from ledvolume.fixtures import CHANNELS, SLOTS, UNIVERSES, Fixture, overlap, patch
from ledvolume.frustum import Footprint
from ledvolume.lens import Distortion, Lens, view_overscan
from ledvolume.lens_table import LensTable, lens_table_of
from ledvolume.outputs.pixels import PixelFormat
from ledvolume.pose import Pose, Quat, Similarity, canonical, pan_tilt_roll
from ledvolume.protocols import Reading, checked_profile
from ledvolume.protocols.osc_map import as_map, preset_map
from ledvolume.show_file import (
    CameraTable,
    FieldFromStage,
    FixtureTable,
    PlaceTable,
    PoseTable,
    ShowFile,
    SolvedCameraTable,
    SolvedSurfaceTable,
    SourceTable,
    SurfaceTable,
    TrackingTable,
)
from ledvolume.stage import Arc, Flat, PositionMap, Stage, Surface, WallTile, cut, facing, seen_by
from ledvolume.struct_file import convert
from ledvolume.timeline import Limits
from ledvolume.wall_map import wall_map_of


class PlaceSpec(msgspec.Struct, frozen=True):
    """A scene file and where it lies. exposure: factor on linear light."""

    file: Path
    field_from_stage: Similarity
    near_m: float
    exposure: float
    credit: str


class SourceSpec(msgspec.Struct, frozen=True):
    """A source's address, and how what comes there is read."""

    uri: str
    reading: Reading = Reading()


class Show(msgspec.Struct, frozen=True):
    """A show, checked; radians, nanoseconds, absolute files. start: the place that is put up first.

    toml, instead, files: what the show was read from, for recordings: the file's bytes, the keys that stood in for its own,
    and the lens tables and wall maps that it names, by these names.
    The camera on air is the first of `stage.rigs`. initial: camera id → stage_from_camera before the tracker speaks.
    lead_ns: how long before it is shown a frame is decided; default one frame.
    solved: who measured what of it, by `surface NAME` and `camera ID`.
    """

    file: Path
    name: str
    rate: Fraction
    lead_ns: int
    places: dict[str, PlaceSpec]
    start: str
    stage: Stage
    initial: dict[str, Pose]
    limits: Limits
    sources: tuple[SourceSpec, ...]
    outputs: tuple[str, ...]
    footprint: Footprint
    pixel_format: PixelFormat
    quality: str
    solved: dict[str, SolvedSurfaceTable | SolvedCameraTable] = {}
    fixtures: tuple[Fixture, ...] = ()
    toml: bytes = b""
    instead: dict = {}
    files: dict[str, bytes] = {}


def load_show(path: Path | str, **instead) -> Show:
    """Read a show file; `instead` replaces keys of its top level (rate="24"). Raises ConfigError."""
    path = Path(path)
    try:
        toml = path.read_bytes()
    except OSError as error:
        raise ConfigError(path, "file", "a readable show file", error.strerror) from error
    return read_show(path, toml, **instead)


def read_show(path: Path, toml: bytes, files: Mapping[str, bytes] = MappingProxyType({}), **instead) -> Show:
    """A show from the text of its file, which need not be at `path` any more: files are named relative to its folder.
    files: by their names in the show, in place of those in the folder."""
    try:
        raw = tomllib.loads(toml.decode()) | instead
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, "file", "valid TOML", str(error)) from error
    return msgspec.structs.replace(show(path, convert(path, raw, ShowFile), files), toml=toml, instead=instead)


def show(path: Path, table: ShowFile, given: Mapping[str, bytes] = MappingProxyType({})) -> Show:
    """Check what types cannot say, and turn the written file into values. Raises ConfigError."""
    folder = path.resolve().parent
    files = {name: given[name] if name in given else _read(path, key, what, name) for key, what, name in _named_files(table)}
    _unlike(path, "place", "name", [place.name for place in table.place])
    _unlike(path, "stage.surface", "name", [surface.name for surface in table.stage.surface])
    _unlike(path, "camera", "id", [camera.id for camera in table.camera])
    places = {place.name: _place(path, f"place[{i}]", place) for i, place in enumerate(table.place)}
    start = table.place[0].name if table.start is None else table.start
    if start not in places:
        raise ConfigError(path, "start", f"one of {', '.join(places)}", start)
    if table.pixel_format not in get_args(PixelFormat):
        raise ConfigError(path, "pixel_format", f"one of {', '.join(get_args(PixelFormat))}", table.pixel_format)
    zone = table.stage.zone
    if not all(lo < hi for lo, hi in zip(zone.min_m, zone.max_m)):
        raise ConfigError(path, "stage.zone", "min_m below max_m in x, y and z", (zone.min_m, zone.max_m))
    if not 1 <= table.footprint.overscan <= table.footprint.most or table.footprint.feather < 0:
        raise ConfigError(path, "footprint", "overscan from 1 to `most`, feather from 0 on", table.footprint)
    rate = _told_by(path, "rate", frame_rate, str(table.rate))
    lead_ns = round(SECOND_NS / rate) if table.lead_ms is None else round(table.lead_ms * 1e6)
    tiles = [tile for i, s in enumerate(table.stage.surface) for tile in _tiles(path, f"stage.surface[{i}]", s, files)]
    rigs = tuple(_rig(path, f"camera[{i}]", camera, files) for i, camera in enumerate(table.camera))
    at_centre = Pose(position_m=zone.centre_m)
    return Show(
        file=path.resolve(),
        name=table.name,
        rate=rate,
        lead_ns=lead_ns,
        places={name: msgspec.structs.replace(place, file=folder / place.file) for name, place in places.items()},
        start=start,
        stage=Stage(tuple(tiles), table.stage.eye_m, zone, rigs),
        initial={
            camera.id: _pose(path, f"camera[{i}].initial", camera.initial) if camera.initial else at_centre
            for i, camera in enumerate(table.camera)
        },
        limits=_limits(path, table.tracking, lead_ns),
        sources=tuple(_source(path, f"source[{i}]", source) for i, source in enumerate(table.source)),
        outputs=tuple(output.uri for output in table.output),
        footprint=table.footprint,
        pixel_format=table.pixel_format,
        quality=table.quality,
        solved={
            **{f"surface {surface.name}": surface.solved for surface in table.stage.surface if surface.solved},
            **{f"camera {camera.id}": camera.solved for camera in table.camera if camera.solved},
        },
        fixtures=_fixtures(path, table),
        files=files,
    )


def _pose(path: Path, key: str, table: PoseTable | FieldFromStage) -> Pose:
    position = table.position if isinstance(table, FieldFromStage) else table.position_m
    if wxyz := _written_quaternion(path, key, table):
        return Pose(wxyz, position)
    return Pose(pan_tilt_roll(*map(math.radians, (table.pan_deg, table.tilt_deg, table.roll_deg))), position)


def _written_quaternion(path: Path, key: str, table: PoseTable | FieldFromStage | SurfaceTable) -> Quat | None:
    """wxyz of a table whose rotation is written so, and not as angles."""
    degrees = (table.pan_deg, table.tilt_deg, table.roll_deg)
    if table.wxyz is None:
        return None
    if any(degrees):
        raise ConfigError(path, key, "either wxyz or pan_deg, tilt_deg, roll_deg", f"wxyz and {degrees}")
    if abs(math.hypot(*table.wxyz) - 1) > 1e-3:
        raise ConfigError(path, f"{key}.wxyz", "a unit quaternion, scalar first", table.wxyz)
    return canonical(table.wxyz)


def _place(path: Path, key: str, table: PlaceTable) -> PlaceSpec:
    field_from_stage = Similarity(_pose(path, f"{key}.field_from_stage", table.field_from_stage), table.field_from_stage.scale)
    return PlaceSpec(Path(table.file), field_from_stage, table.near_m, 2.0**table.exposure_stops, table.credit)


def _named_files(table: ShowFile) -> Iterator[tuple[str, str, str]]:
    """(key, what it is, name) of every file that a show is not whole without. Scenes are not among them: they are large."""
    for i, surface in enumerate(table.stage.surface):
        if surface.map is not None:
            yield f"stage.surface[{i}].map", "a wall map", surface.map
    for i, camera in enumerate(table.camera):
        if camera.lens_table is not None:
            yield f"camera[{i}].lens_table", "a lens table", camera.lens_table


def _read(path: Path, key: str, what: str, name: str) -> bytes:
    try:
        return (path.resolve().parent / name).read_bytes()
    except OSError:
        raise ConfigError(path, key, f"the file of {what}, relative to the show", name) from None


def _rig(path: Path, key: str, table: CameraTable, files: dict[str, bytes]) -> Rig:
    lens = Lens(table.focal_length_mm, table.sensor_mm, table.projection_offset_mm, table.entrance_pupil_mm / 1000)
    stage_from_world = _pose(path, f"{key}.stage_from_world", table.stage_from_world)
    tracker_from_camera = _pose(path, f"{key}.tracker_from_camera", table.tracker_from_camera)
    lens_table = None if table.lens_table is None else _lens_table(path, f"{key}.lens_table", table, files)
    return Rig(table.id, lens, stage_from_world, tracker_from_camera, round(table.latency_ms * 1e6), lens_table)


def _lens_table(path: Path, key: str, table: CameraTable, files: dict[str, bytes]) -> LensTable:
    """Its own file's mistakes are told of that file; that it does not fit this camera, of the show."""
    lens_table = lens_table_of(files[table.lens_table], path.resolve().parent / table.lens_table)
    for i, station in enumerate(lens_table.stations):
        offset_mm = station.projection_offset_mm or table.projection_offset_mm
        distortion = station.distortion or Distortion()
        if view_overscan(Lens(station.focal_length_mm, table.sensor_mm, offset_mm, distortion=distortion)) == math.inf:
            expected = f"distortion that holds for all of this sensor, {table.sensor_mm[0]:g} × {table.sensor_mm[1]:g} mm"
            raise ConfigError(path, key, expected, f"{table.lens_table}, stations[{i}]: it folds within")
    return lens_table


def _limits(path: Path, table: TrackingTable, lead_ns: int) -> Limits:
    written = {name: value for name, value in msgspec.structs.asdict(table).items() if value is not None}
    of_people = {"ms": ("ns", 1e6), "mm": ("m", 1e-3), "deg": ("rad", math.pi / 180), "deg_s2": ("rad_s2", math.pi / 180)}
    values = {}
    for name, value in written.items():
        noun, unit = re.fullmatch(r"([a-z_]+?)_(ms|mm|m_s2|deg|deg_s2)", name).groups()
        if noun == "jitter":
            unit, value = "s", value / 1000
        our_unit, factor = of_people.get(unit, (unit, 1))
        values[f"{noun}_{our_unit}"] = round(value * factor) if our_unit == "ns" else value * factor
    limits = Limits(**({"horizon_ns": max(Limits().horizon_ns, lead_ns * 5 // 4)} | values))
    if limits.horizon_ns < lead_ns:
        # every frame is decided lead_ns before it is shown: with less, the pose would be held in every one of them
        expected = f"at least the lead of a frame, {lead_ns / 1e6:.1f} ms (lead_ms, or one frame)"
        raise ConfigError(path, "tracking.horizon_ms", expected, table.horizon_ms)
    if limits.lost_ns <= limits.horizon_ns:
        raise ConfigError(path, "tracking.lost_ms", f"more than horizon_ms, {limits.horizon_ns / 1e6:.0f}", table.lost_ms)
    return limits


def _source(path: Path, key: str, table: SourceTable) -> SourceSpec:
    is_osc = table.uri.startswith("osc+")
    if (table.preset or table.map) and not is_osc:
        raise ConfigError(path, key, "no preset and no map: only osc has them", table.uri)
    if table.preset and table.map:
        raise ConfigError(path, key, "either a preset or a map", f"{table.preset} and a map")
    osc_map = None
    if table.map is not None:
        osc_map = _told_by(path, f"{key}.map", as_map, table.map, "map")
    elif table.preset is not None:
        osc_map = _told_by(path, f"{key}.preset", preset_map, table.preset)
    profile = None
    if table.profile is not None:
        profile = checked_profile(table.uri.partition("+")[0], table.profile, str(path), f"{key}.profile")
    return SourceSpec(table.uri, Reading(osc_map=osc_map, clock=table.clock, cameras=table.cameras, profile=profile))


def _tiles(path: Path, key: str, table: SurfaceTable, files: dict[str, bytes]) -> tuple[WallTile, ...]:
    if table.shape not in ("flat", "arc", "map"):
        raise ConfigError(path, f"{key}.shape", '"flat", "arc" or "map"', table.shape)
    for shape, name in (("arc", "radius_m"), ("map", "map")):
        if table.shape != shape and getattr(table, name) is not None:
            raise ConfigError(path, f"{key}.{name}", f'no {name} for shape = "{table.shape}"', getattr(table, name))
    if table.shape == "flat":
        shape = Flat()
    elif table.shape == "arc":
        if not table.radius_m:
            raise ConfigError(path, f"{key}.radius_m", "metres, + if the wall is hollow toward the viewer", table.radius_m)
        if table.size_m[0] > math.tau * abs(table.radius_m):
            raise ConfigError(path, f"{key}.size_m", "a width of at most one full turn of radius_m", table.size_m[0])
        shape = Arc(table.radius_m)
    else:
        shape = _wall_map(path, key, table, files)
    if wxyz := _written_quaternion(path, key, table):
        pose = seen_by(Pose(wxyz, table.centre_m))
    else:
        pan_rad, tilt_rad, roll_rad = map(math.radians, (table.pan_deg, table.tilt_deg, table.roll_deg))
        pose = facing(pan_rad, table.centre_m, tilt_rad, roll_rad)
    surface = Surface(table.name, pose, table.size_m, table.resolution_px, shape)
    try:
        return cut(surface, *table.tiles)
    except ValueError as error:
        raise ConfigError(path, f"{key}.tiles", "a cut into equal tiles", str(error)) from None


def _wall_map(path: Path, key: str, table: SurfaceTable, files: dict[str, bytes]) -> PositionMap:
    """Its own file's mistakes are told of that file; that it does not fit this surface, of the show."""
    if table.map is None:
        raise ConfigError(path, f"{key}.map", "the file of a wall map, relative to the show", None)
    cells = wall_map_of(files[table.map], path.resolve().parent / table.map)
    (width, height), said_m, found_m = table.resolution_px, table.size_m, cells.size_m
    if width % cells.columns or height % cells.rows:
        expected = f"cells that divide {width} × {height} px"
        raise ConfigError(path, f"{key}.map", expected, f"{table.map}: {cells.columns} × {cells.rows} cells")
    if not all(0.5 < found / said < 2 for found, said in zip(found_m, said_m)):
        expected = f"cells that make a wall of about size_m, {said_m[0]:g} × {said_m[1]:g} m"
        raise ConfigError(path, f"{key}.map", expected, f"{table.map}: {found_m[0]:.3g} × {found_m[1]:.3g} m")
    return cells


def _fixtures(path: Path, table: ShowFile) -> tuple[Fixture, ...]:
    _unlike(path, "fixture", "name", [fixture.name for fixture in table.fixture])
    fixtures = tuple(_fixture(path, f"fixture[{i}]", f, table.stage.eye_m) for i, f in enumerate(table.fixture))
    if words := overlap(fixtures):
        raise ConfigError(path, "fixture", "slots of its own for each", words)
    return fixtures


def _fixture(path: Path, key: str, table: FixtureTable, eye_m: tuple[float, float, float]) -> Fixture:
    letters = list(table.channels)
    if not letters or set(letters) - set(CHANNELS) or len(set(letters)) < len(letters):
        expected = "letters of r, g, b, w, d in the order of the fixture's channels, each once"
        raise ConfigError(path, f"{key}.channels", expected, table.channels)
    subject_m = table.subject_m or eye_m
    right, forward, up = (p - s for p, s in zip(table.position_m, subject_m))
    if not any((right, forward, up)):
        raise ConfigError(path, f"{key}.position_m", "another place than the subject's, which it lights", table.position_m)
    pan_rad = math.atan2(-right, forward) if table.pan_deg is None else math.radians(table.pan_deg)
    tilt_rad = math.atan2(up, math.hypot(right, forward)) if table.tilt_deg is None else math.radians(table.tilt_deg)
    pose = facing(pan_rad, table.position_m, tilt_rad, math.radians(table.roll_deg))
    out = pose.matrix()[:3, 2]
    if abs(out @ (right, forward, up)) < 0.05 * math.hypot(right, forward, up):
        expected = "a fixture that the subject does not see edge-on, or no pan_deg and tilt_deg"
        raise ConfigError(path, f"{key}.pan_deg", expected, (table.pan_deg, table.tilt_deg))
    surface = Surface(table.name, pose, table.size_m, table.pixels)
    fixture = Fixture(surface, subject_m, table.universe, table.address, table.channels, table.bits, table.gain, table.gamma)
    if table.address - 1 + fixture.slots_per_pixel > SLOTS:
        expected = f"at most {SLOTS + 1 - fixture.slots_per_pixel}, so that its first pixel fits into the universe"
        raise ConfigError(path, f"{key}.address", expected, table.address)
    if (last := patch(fixture)[-1][0]) > UNIVERSES[1]:
        raise ConfigError(path, f"{key}.universe", f"universes up to {UNIVERSES[1]}", last)
    return fixture


def _unlike(path: Path, key: str, field: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ConfigError(path, key, f"a {field} of its own for each", names)


def _told_by(path: Path, key: str, check, *values):
    """check(*values), whose ConfigError speaks of the show file and of the key in it."""
    try:
        return check(*values)
    except ConfigError as error:
        where = key if error.key in ("rate", "preset", "messages", "[[messages]]") else f"{key}.{error.key}"
        raise ConfigError(path, where, error.expected, error.got) from None
