"""Nuke's and Houdini's .chan: `frame tx ty tz rx ry rz [vfov]` a line, with white space between; degrees.

As Nuke's own import_chan_file.tcl reads it: Y is up, the camera looks along its -Z, the eighth number is the vertical field
of view. Rotations are applied about Z, then X, then Y (Nuke's default order ZXY: R = Ry·Rx·Rz), or, for xyz (Maya, Houdini),
about X, then Y, then Z. The file says neither this order nor its rate, unit or sensor; what is not said is 24 frames a
second and metres. Its x, y, z are our x, z, -y; a rotation of ry, rx, rz in zxy is our pan, tilt and -roll.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from ledvolume.camera import CameraSample, LensReading
from ledvolume.clock import SECOND_NS
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, Quat, canonical, multiply, rotation_matrix
from ledvolume.tracks.resample import resampled
from ledvolume.tracks.track import (
    Assumed,
    Progress,
    Track,
    checked_sample,
    frames_per_second,
    lines_of,
    made_track,
    no_progress,
    only_camera,
)

COLUMNS = "frame tx ty tz rx ry rz"
USUAL_RATE = Fraction(24)
MOST_FRAMES = 10**9


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """A track that begins at 0 s with its first frame; frames must rise. Raises ConfigError."""
    rate, notes = assumed.rate or USUAL_RATE, []
    samples, first, last, width = [], None, None, 0
    for number, line in lines_of(path, progress):
        try:
            values = [float(cell) for cell in line.split()]
            if len(values) not in (7, 8) or width not in (0, len(values)):
                raise ValueError(f"{len(values)} values" + (f" after lines of {width}" if width else ""))
            width = len(values)
            if not all(map(math.isfinite, values)) or abs(values[0]) > MOST_FRAMES:
                raise ValueError("a value that is not finite")
            frame = Fraction(values[0]).limit_denominator(1000)
            if last is not None and frame <= last:
                raise ValueError(f"frame {line.split()[0]} after {last}")
        except ValueError as error:
            raise ConfigError(path, f"line {number}", f"{COLUMNS} and, in all lines or none, vfov", str(error)) from None
        first, last = frame if first is None else first, frame
        at_ns = int((frame - first) * SECOND_NS / rate)
        pose = _pose(values[1:4], values[4:7], assumed)
        lens = _lens(values[7], assumed, path, number) if width == 8 else LensReading()
        samples.append(checked_sample(CameraSample(assumed.camera, at_ns, at_ns, pose, lens), path, f"line {number}"))
    if assumed.rate is None:
        notes.append(f"read as {USUAL_RATE} frames a second (--file-rate)")
    if width == 8 and assumed.sensor_mm is None:
        notes.append("the field of view is not used: the sensor is not known (--sensor)")
    return made_track(path, "chan", samples, rate, notes)


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """Frames from start_frame on, to the 1e-6 of the unit and of a degree. With fields of view where all samples have one."""
    only_camera(track, path, "a .chan file")
    track = resampled(track, rate := frames_per_second(track, path))
    notes = list(track.notes[-1:]) if track.notes and track.notes[-1].startswith("resampled") else []
    first_ns = track.samples[0].captured_at_ns
    fields_of_view = [_vertical_deg(sample.lens, assumed) for sample in track.samples]
    has_fov = None not in fields_of_view
    with open(path, "w", encoding="utf-8") as file:
        for sample, fov_deg in zip(track.samples, fields_of_view):
            frame = assumed.start_frame + round(Fraction(sample.captured_at_ns - first_ns, SECOND_NS) * rate)
            x, y, z = (c / assumed.unit_m for c in sample.world_from_tracker.position_m)
            numbers = [x, z, -y, *_euler_deg(sample.world_from_tracker.wxyz, assumed)] + ([fov_deg] if has_fov else [])
            file.write(" ".join([str(frame), *(f"{number:.6f}" for number in numbers)]) + "\n")
    if not has_fov and any(sample.lens.focal_length_mm for sample in track.samples):
        notes.append("no field of view: a focal length in every sample and the sensor (--sensor) are needed")
    notes.append(f"{rate} frames a second, frames {assumed.start_frame} to {frame}, rotation order {assumed.rotation_order}")
    return notes


def _pose(translate: list[float], rotate_deg: list[float], assumed: Assumed) -> Pose:
    x, y, z = (c * assumed.unit_m for c in translate)
    q: Quat = (1.0, 0.0, 0.0, 0.0)
    for axis in assumed.rotation_order:  # the first one is applied first, so it stands rightmost
        half = math.radians(rotate_deg["xyz".index(axis)]) / 2
        s = math.sin(half)
        turn = {"x": (s, 0.0, 0.0), "y": (0.0, 0.0, s), "z": (0.0, -s, 0.0)}[axis]  # their axes in ours
        q = multiply((math.cos(half), *turn), q)
    return Pose(canonical(q), (x, -z, y))


def _euler_deg(q: Quat, assumed: Assumed) -> Iterator[float]:
    """rx, ry, rz; at the poles of the order, where two of them are one, the last of the order is 0."""
    ours = rotation_matrix(q)
    # rows and columns of R in their axes: x, z, -y of ours
    m = [[sign_i * sign_j * ours[i][j] for j, sign_j in ((0, 1), (2, 1), (1, -1))] for i, sign_i in ((0, 1), (2, 1), (1, -1))]
    if assumed.rotation_order == "zxy":  # R = Ry·Rx·Rz: R[1][2] = -sin rx
        rx = math.atan2(-m[1][2], math.hypot(m[1][0], m[1][1]))
        if math.hypot(m[1][0], m[1][1]) > 1e-9:
            ry, rz = math.atan2(m[0][2], m[2][2]), math.atan2(m[1][0], m[1][1])
        else:
            ry, rz = 0.0, math.atan2(-m[0][1], m[0][0])
    else:  # R = Rz·Ry·Rx: R[2][0] = -sin ry
        ry = math.atan2(-m[2][0], math.hypot(m[0][0], m[1][0]))
        if math.hypot(m[0][0], m[1][0]) > 1e-9:
            rx, rz = math.atan2(m[2][1], m[2][2]), math.atan2(m[1][0], m[0][0])
        else:
            rx, rz = math.atan2(-m[1][2], m[1][1]), 0.0
    return map(math.degrees, (rx, ry, rz))


def _lens(fov_deg: float, assumed: Assumed, path: Path, number: int) -> LensReading:
    if not 0 < fov_deg < 180:
        raise ConfigError(path, f"line {number}: vfov", "degrees between 0 and 180", fov_deg)
    if assumed.sensor_mm is None:
        return LensReading()
    focal_mm = assumed.sensor_mm[1] / 2 / math.tan(math.radians(fov_deg) / 2)
    return LensReading(focal_length_mm=focal_mm, sensor_mm=assumed.sensor_mm)


def _vertical_deg(lens: LensReading, assumed: Assumed) -> float | None:
    sensor_mm = assumed.sensor_mm or lens.sensor_mm
    if not (lens.focal_length_mm and sensor_mm):
        return None
    return math.degrees(2 * math.atan(sensor_mm[1] / 2 / lens.focal_length_mm))
