"""CSV with a header: `time_s,x,y,z,qw,qx,qy,qz` at least, in seconds, metres and our axes; every other column of COLUMNS if
it is there, and any other column is passed over. Lists (distortion) are numbers with spaces between them.

Written with all columns, and with as many digits as the numbers have: what is read is what was written.
"""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from ledvolume.camera import CameraSample, Distortion, LensReading
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, canonical
from ledvolume.tracks.track import (
    Assumed,
    Progress,
    Track,
    checked_sample,
    lines_of,
    made_track,
    nanoseconds,
    no_progress,
    seconds_text,
)

NEEDED = ("time_s", "x", "y", "z", "qw", "qx", "qy", "qz")
NUMBERS = ("focal_length_mm", "focus_distance_m", "f_stop", "entrance_pupil_m", "zoom_encoder", "focus_encoder",
           "iris_encoder", "overscan")  # fmt: skip
PAIRS = {"projection_offset_mm": ("projection_offset_x_mm", "projection_offset_y_mm"),
         "sensor_mm": ("sensor_width_mm", "sensor_height_mm")}  # fmt: skip
DISTORTION = ("distortion_model", "radial", "tangential", "distortion_offset_x_mm", "distortion_offset_y_mm")
COLUMNS = (*NEEDED, "camera_id", *NUMBERS, *(name for pair in PAIRS.values() for name in pair), *DISTORTION,
           "timecode", "status", "received_s", "stamped_s")  # fmt: skip


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """A track; times of a camera must rise. Raises ConfigError."""
    lines = lines_of(path, progress)
    header = next(lines, (0, ""))[1]
    columns = [column.strip() for column in next(csv.reader([header]), [])]
    if missing := [name for name in NEEDED if name not in columns]:
        raise ConfigError(path, "header", ",".join(NEEDED), f"no {', '.join(missing)} in {header[:200]}" if header else "nothing")
    if len(set(columns)) < len(columns):
        raise ConfigError(path, "header", "each column once", header[:200])
    samples, last_ns = [], {}
    for number, cells in _rows(path, lines):
        try:
            if len(cells) != len(columns):
                raise ValueError(f"{len(cells)} values")
            sample = _sample(dict(zip(columns, map(str.strip, cells))), assumed)
            if sample.captured_at_ns <= last_ns.get(sample.camera_id, -math.inf):
                raise ValueError("times that do not rise")
        except ValueError as error:
            raise ConfigError(path, f"line {number}", f"{' '.join(columns)[:200]}, as the header says", str(error)) from None
        last_ns[sample.camera_id] = sample.captured_at_ns
        samples.append(checked_sample(sample, path, f"line {number}"))
    return made_track(path, "csv", samples)


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """All there is of each sample."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows(map(_cells, track.samples))
    return []


def _rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        try:
            [cells] = csv.reader(io.StringIO(line), strict=True)
        except (csv.Error, ValueError) as error:
            raise ConfigError(path, f"line {number}", "one row of CSV", str(error)) from None
        yield number, cells


def _sample(row: dict[str, str], assumed: Assumed) -> CameraSample:
    position_m = tuple(_number(row, name) for name in ("x", "y", "z"))
    wxyz = canonical(tuple(_number(row, name) for name in ("qw", "qx", "qy", "qz")))
    at_ns = nanoseconds(row["time_s"])
    return CameraSample(
        row.get("camera_id") or assumed.camera,
        at_ns,
        nanoseconds(row["received_s"]) if row.get("received_s") else at_ns,
        Pose(wxyz, position_m),
        _lens(row),
        row.get("status", ""),
        nanoseconds(row["stamped_s"]) if row.get("stamped_s") else 0,
        row.get("timecode", ""),
    )


def _lens(row: dict[str, str]) -> LensReading:
    fields = {name: _number(row, name) for name in NUMBERS if row.get(name)}
    for field, names in PAIRS.items():
        if row.get(names[0]):
            fields[field] = tuple(_number(row, name) for name in names)
    if row.get("radial"):
        offset = tuple(_number(row, name) if row.get(name) else 0.0 for name in DISTORTION[3:])
        model = row.get("distortion_model") or Distortion().model
        if model not in ("Brown-Conrady D-U", "Brown-Conrady U-D"):
            raise ValueError(f"distortion_model {model!r} is neither Brown-Conrady D-U nor U-D")
        radial, tangential = (tuple(map(_finite, row.get(name, "").split())) for name in ("radial", "tangential"))
        if len(radial) > 16 or len(tangential) not in (0, 2):
            raise ValueError(f"{len(radial)} radial and {len(tangential)} tangential coefficients")
        fields["distortion"] = Distortion(radial, tangential, offset, model)
    return LensReading(**fields)


def _number(row: dict[str, str], name: str) -> float:
    try:
        return _finite(row.get(name, ""))
    except ValueError:
        raise ValueError(f"{name} {row.get(name, '')!r} is no finite number") from None


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text!r} is not finite")
    return value


def _cells(sample: CameraSample) -> list[str]:
    pose, lens = sample.world_from_tracker, sample.lens
    cells = [seconds_text(sample.captured_at_ns), *map(repr, map(float, (*pose.position_m, *pose.wxyz))), sample.camera_id]
    cells += [_text(getattr(lens, name)) for name in NUMBERS]
    for field in PAIRS:
        cells += map(_text, getattr(lens, field) or (None, None))
    bent = lens.distortion
    if bent is None:
        cells += [""] * len(DISTORTION)
    else:
        radial = bent.radial or (0.0,)
        cells += [bent.model, " ".join(map(_text, radial)), " ".join(map(_text, bent.tangential)), *map(_text, bent.offset_mm)]
    received = seconds_text(sample.received_at_ns) if sample.received_at_ns != sample.captured_at_ns else ""
    stamped = seconds_text(sample.stamped_at_ns) if sample.stamped_at_ns else ""
    return [*cells, sample.timecode, sample.status, received, stamped]


def _text(value: float | None) -> str:
    return "" if value is None else repr(float(value))
