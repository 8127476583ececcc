"""Lens tables: what a lens is with its rings at (zoom encoder, focus encoder). A JSON file; calibration writes it, a show names it.

    {"ledvolume_lens_table": 1, "name": "19-90 no. 1234", "stations": [
      {"zoom_encoder": 0.0, "focus_encoder": 0.0, "focal_length_mm": 19.4, "focus_distance_m": "infinity",
       "entrance_pupil_mm": 210.0, "projection_offset_mm": [0.02, -0.05],
       "distortion": {"radial": [-2.1e-4, 0.0, 1.5e-7], "tangential": [1e-6, 0.0], "model": "Brown-Conrady D-U"}}, …]}

Encoders run 0..1, as trackers report them. Stations of one zoom encoder are a ring; each ring has focus stations of its own.
A prime lens is one ring. What a station leaves out, all leave out, and then it is not this table's to say.

Between stations every value runs on a monotone cubic (Fritsch and Carlson 1980; Fritsch and Butland's slopes): exact at the
stations, smooth, never beyond its two neighbours; first along the focus of up to four rings, then across them. Beyond the
first and the last station it stays. What runs on the curve is what changes evenly: ln F, 1/focus distance, millimetres, and
the coefficients in 1/mm. In units of F, as OpenCV counts, coefficients grow with F⁻² to F⁻⁶ as the zoom turns, and half way
between a wide and a long end they mean more distortion than either has; in mm they are a blend of the two pictures.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion
from ledvolume.struct_file import convert

END_SLACK = 0.002  # of an encoder's way: rings stop a little beside where they stopped when they were measured

Encoder = Annotated[float, msgspec.Meta(ge=0, le=1)]
FocalLength = Annotated[float, msgspec.Meta(ge=1, le=5000)]
FocusDistance = Annotated[float, msgspec.Meta(gt=0, le=100_000)]
PupilOffset = Annotated[float, msgspec.Meta(ge=-2000, le=2000)]
SensorOffset = Annotated[float, msgspec.Meta(ge=-100, le=100)]
OPTIONAL = ("focus_distance_m", "entrance_pupil_mm", "projection_offset_mm", "distortion")


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The lens with its rings here. entrance_pupil_mm: as in a show, from the camera's origin along +Y."""

    focal_length_mm: FocalLength
    zoom_encoder: Encoder = 0.0
    focus_encoder: Encoder = 0.0
    focus_distance_m: FocusDistance | Literal["infinity"] | None = None
    entrance_pupil_mm: PupilOffset | None = None
    projection_offset_mm: tuple[SensorOffset, SensorOffset] | None = None
    distortion: Distortion | None = None


class LensTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """The file. ledvolume_lens_table: its version."""

    ledvolume_lens_table: Literal[1]
    stations: Annotated[tuple[Station, ...], msgspec.Meta(min_length=1)]
    name: str = ""


class _Ring(NamedTuple):
    """The stations of one zoom encoder, by focus: values (n, what runs on the curve), slopes likewise."""

    zoom: float
    focus: np.ndarray
    values: np.ndarray
    slopes: np.ndarray


def load_lens_table(file: Path) -> LensTable:
    """Read and check a table. Raises ConfigError."""
    try:
        return lens_table_of(file.read_bytes(), file)
    except OSError as error:
        raise ConfigError(file, "file", "a readable lens table", error.strerror) from error


def lens_table_of(text: bytes, file: Path) -> LensTable:
    """The table that `file` with this text is. Raises ConfigError."""
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(file, "file", "valid JSON", str(error)) from error
    return checked(file, convert(file, raw, LensTable))


def as_json(table: LensTable) -> bytes:
    """The file of a table, for people to read too."""
    return msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n"


def checked(file: Path | str, table: LensTable) -> LensTable:
    """The table, if it makes sense: what types cannot say. Raises ConfigError."""
    first, places = table.stations[0], {}
    for i, station in enumerate(table.stations):
        key, place = f"stations[{i}]", (station.zoom_encoder, station.focus_encoder)
        if place in places:
            raise ConfigError(file, key, f"encoders of its own: stations[{places[place]}] has the same", place)
        places[place] = i
        for name in OPTIONAL:
            given = getattr(station, name)
            if (given is None) != (getattr(first, name) is None):
                raise ConfigError(file, f"{key}.{name}", "a value at every station, or at none", given)
        if station.distortion is None:
            continue
        radial, tangential, offset_mm, model = msgspec.structs.astuple(station.distortion)
        if model != first.distortion.model:
            raise ConfigError(file, f"{key}.distortion.model", f"one model in a table, {first.distortion.model}", model)
        if len(radial) > 16 or len(tangential) > 2 or max(map(abs, offset_mm)) > 100:
            expected = "up to 16 radial and 2 tangential coefficients, an offset within 100 mm"
            raise ConfigError(file, f"{key}.distortion", expected, station.distortion)
    return table


def station_at(table: LensTable, zoom_encoder: float | None, focus_encoder: float | None) -> Station | None:
    """The station between the stations. None where the table has several stations along a ring whose encoder is not known."""
    return _station_at(table, zoom_encoder, focus_encoder)


def trouble(table: LensTable, zoom_encoder: float | None, focus_encoder: float | None) -> str:
    """Why the table does not answer from its midst, in one word for counting: no-zoom-encoder, no-focus-encoder, beyond-table;
    "" if it does."""
    rings = _rings(table)
    if zoom_encoder is None and len(rings) > 1:
        return "no-zoom-encoder"
    if focus_encoder is None and any(len(ring.focus) > 1 for ring in rings):
        return "no-focus-encoder"
    zooms = [ring.zoom for ring in rings]
    if len(rings) > 1 and not zooms[0] - END_SLACK <= zoom_encoder <= zooms[-1] + END_SLACK:
        return "beyond-table"
    i = _interval(zooms, zoom_encoder or 0.0)
    for ring in rings[i : i + 2]:
        if len(ring.focus) > 1 and not ring.focus[0] - END_SLACK <= focus_encoder <= ring.focus[-1] + END_SLACK:
            return "beyond-table"
    return ""


@lru_cache(maxsize=64)  # of a still lens, every frame and every pose asks the same
def _station_at(table: LensTable, zoom_encoder: float | None, focus_encoder: float | None) -> Station | None:
    if trouble(table, zoom_encoder, focus_encoder) in ("no-zoom-encoder", "no-focus-encoder"):
        return None
    rings, zoom, focus = _rings(table), zoom_encoder or 0.0, focus_encoder or 0.0
    zooms = [ring.zoom for ring in rings]
    i = _interval(zooms, zoom)
    near = range(max(i - 1, 0), min(i + 3, len(rings)))
    values = np.array([_curve(rings[k].focus, rings[k].values, rings[k].slopes, focus) for k in near])
    x = np.array([zooms[k] for k in near])
    return _station(table.stations[0], zoom, focus, _curve(x, values, _slopes(x, values), zoom).tolist())


@lru_cache(maxsize=16)
def _rings(table: LensTable) -> list[_Ring]:
    width = max(len(station.distortion.radial) if station.distortion else 0 for station in table.stations)
    rings = []
    for zoom in sorted({station.zoom_encoder for station in table.stations}):
        stations = sorted((s for s in table.stations if s.zoom_encoder == zoom), key=lambda s: s.focus_encoder)
        focus = np.array([station.focus_encoder for station in stations])
        values = np.array([_values(station, width) for station in stations])
        rings.append(_Ring(zoom, focus, values, _slopes(focus, values)))
    return rings


def _values(station: Station, width: int) -> list[float]:
    """What runs on the curve; 0 for what the table does not hold. width: of the radial coefficients."""
    distance_m, distortion = station.focus_distance_m, station.distortion or Distortion()
    dioptres = 0.0 if distance_m in ("infinity", None) else 1 / distance_m
    padding = [0.0] * (width - len(distortion.radial))
    tangential = (*distortion.tangential, 0.0, 0.0)[:2]
    return [
        float(np.log(station.focal_length_mm)),
        dioptres,
        station.entrance_pupil_mm or 0.0,
        *(station.projection_offset_mm or (0.0, 0.0)),
        *distortion.offset_mm,
        *tangential,
        *distortion.radial,
        *padding,
    ]


def _station(like: Station, zoom: float, focus: float, values: list[float]) -> Station:
    """The inverse of _values. like: any station, for what the table holds."""
    log_f, dioptres, pupil_mm, px, py, cx, cy, p1, p2, *radial = values
    distortion = like.distortion
    return Station(
        focal_length_mm=float(np.exp(log_f)),
        zoom_encoder=zoom,
        focus_encoder=focus,
        focus_distance_m=None if like.focus_distance_m is None else 1 / dioptres if dioptres > 1e-5 else "infinity",
        entrance_pupil_mm=None if like.entrance_pupil_mm is None else pupil_mm,
        projection_offset_mm=None if like.projection_offset_mm is None else (px, py),
        distortion=distortion and Distortion(tuple(radial), (p1, p2), (cx, cy), distortion.model),
    )


def _interval(x: list[float], at: float) -> int:
    """i with x[i] ≤ at < x[i + 1]; the first or the last interval beyond the ends."""
    return min(max(int(np.searchsorted(x, at, side="right")) - 1, 0), max(len(x) - 2, 0))


def _curve(x: np.ndarray, y: np.ndarray, slopes: np.ndarray, at: float) -> np.ndarray:
    """Hermite's cubic through (x, y) with these slopes; y of the end beyond it."""
    if at <= x[0] or len(x) == 1:
        return y[0]
    if at >= x[-1]:
        return y[-1]
    i = _interval(x, at)
    h = float(x[i + 1] - x[i])
    t = (at - float(x[i])) / h
    u = 1 - t
    return (1 + 2 * t) * u * u * y[i] + h * t * u * u * slopes[i] + t * t * (1 + 2 * u) * y[i + 1] - h * t * t * u * slopes[i + 1]


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes (n, k) for y (n, k) at x (n,) with which no cubic leaves its two ends.

    Within: 0 at an extreme, else the weighted harmonic mean of the two neighbouring secants. At the ends: of the parabola
    through three points, held within 0 and three times the secant.
    """
    if len(x) == 1:
        return np.zeros_like(y)
    h = np.diff(x)[:, None]
    secants = np.diff(y, axis=0) / h
    if len(x) == 2:
        return np.repeat(secants, 2, axis=0)
    slopes = np.zeros_like(y)
    before, after = secants[:-1], secants[1:]
    wide_after, wide_before = h[:-1] + 2 * h[1:], 2 * h[:-1] + h[1:]
    same = before * after > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (wide_after + wide_before) / (wide_after / before + wide_before / after)
    slopes[1:-1] = np.where(same, mean, 0)
    for end, step, h0, h1 in ((0, 1, h[0, 0], h[1, 0]), (-1, -1, h[-1, 0], h[-2, 0])):
        s0, s1 = (secants[0], secants[1]) if step == 1 else (secants[-1], secants[-2])
        slope = ((2 * h0 + h1) * s0 - h0 * s1) / (h0 + h1)
        slopes[end] = np.where(slope * s0 > 0, np.sign(s0) * np.minimum(np.abs(slope), 3 * np.abs(s0)), 0)
    return slopes
