"""Camera moves for the simulated operator: time in seconds → Pose of the camera, and nothing else. No random numbers.

Built in, each with its parameters and their defaults:

    builtin:handheld?at=0,0,1.6&look=0,4,1.6&amount=0.3     an operator who drifts about, breathes, steps, trembles
    builtin:dolly?at=0,0,1.6&look=0,4,1.6&amount=1&period=8   sideways on rails, always looking at the point
    builtin:still?at=0,0,1.6&look=0,4,1.6                   a tripod

A track file of any format (tracks/) with one camera is one too: its first sample is time 0, at its end the camera stays.
"""

import math
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from ledvolume.clock import SECOND_NS
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, Vec3, canonical, multiply, pan_tilt_roll
from ledvolume.tracks import load_track
from ledvolume.tracks.resample import playing

TAU = 2 * math.pi


class Move(msgspec.Struct, frozen=True):
    """pose_at(seconds) → world_from_camera. duration_s: inf for moves that never end."""

    pose_at: Callable[[float], Pose]
    duration_s: float = math.inf


class MoveParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where (m), at what (m), how far (m), how long for one go and return (s)."""

    at: Vec3 = (0.0, 0.0, 1.6)
    look: Vec3 = (0.0, 4.0, 1.6)
    amount: float | None = None
    period: float = 8.0


def open_move(track: str) -> Move:
    """A built-in move or a track file."""
    if track.startswith("builtin:"):
        name, _, query = track.removeprefix("builtin:").partition("?")
        if name not in BUILTINS:
            raise ConfigError(track, "move", f"one of {', '.join(BUILTINS)}", name)
        return Move(BUILTINS[name](_parameters(track, query)))
    return _from_file(Path(track))


def looking_at(at: Vec3, look: Vec3, roll_rad: float = 0.0) -> Pose:
    """A camera at `at` whose forward axis goes through `look`, level unless it is rolled."""
    dx, dy, dz = (b - a for a, b in zip(at, look))
    return Pose(pan_tilt_roll(math.atan2(-dx, dy), math.atan2(dz, math.hypot(dx, dy)), roll_rad), at)


def still(p: MoveParameters) -> Callable[[float], Pose]:
    pose = looking_at(p.at, p.look)
    return lambda t: pose


def dolly(p: MoveParameters) -> Callable[[float], Pose]:
    """Along the stage's X, from -amount to +amount and back in one period, slow at the ends."""
    amount = 1.0 if p.amount is None else p.amount

    def pose_at(t: float) -> Pose:
        x, y, z = p.at
        return looking_at((x - amount * math.cos(TAU * t / p.period), y, z), p.look)

    return pose_at


def handheld(p: MoveParameters) -> Callable[[float], Pose]:
    """Sums of sines: drift to ±amount below 0.25 Hz, breath 0.3 Hz, steps 1.8 Hz, tremor 7 to 10 Hz.

    Frequencies have no common period, so the move does not repeat within a show. Rotation: the operator keeps the
    point in frame to about a degree, with a tremor of hundredths of one.
    """
    amount = 0.3 if p.amount is None else p.amount

    def pose_at(t: float) -> Pose:
        def s(hertz: float, phase: float) -> float:
            return math.sin(TAU * (hertz * t + phase))

        x, y, z = p.at
        x += amount * (0.72 * s(0.071, 0.0) + 0.28 * s(0.193, 0.31)) + 0.004 * s(0.9, 0.2) + 0.0002 * s(8.3, 0.7)
        y += amount * (0.40 * s(0.053, 0.55) + 0.15 * s(0.167, 0.12)) + 0.003 * s(0.9, 0.6) + 0.0002 * s(7.1, 0.4)
        z += amount * 0.25 * s(0.061, 0.83) + 0.004 * s(0.31, 0.1) + 0.003 * s(1.8, 0.5) + 0.0002 * s(9.7, 0.9)
        pan = 0.012 * s(0.23, 0.4) + 0.005 * s(0.61, 0.9) + 0.0012 * s(1.7, 0.3) + 0.0002 * s(8.9, 0.1)
        tilt = 0.008 * s(0.19, 0.7) + 0.004 * s(0.53, 0.2) + 0.0012 * s(1.8, 0.8) + 0.0002 * s(7.7, 0.6)
        roll = 0.006 * s(0.13, 0.1) + 0.002 * s(0.47, 0.5) + 0.0002 * s(9.1, 0.3)
        aimed = looking_at((x, y, z), p.look)
        return Pose(canonical(multiply(aimed.wxyz, pan_tilt_roll(pan, tilt, roll))), aimed.position_m)

    return pose_at


BUILTINS = {"handheld": handheld, "dolly": dolly, "still": still}


def _parameters(track: str, query: str) -> MoveParameters:
    values = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        try:
            numbers = tuple(float(n) for n in text.split(","))
        except ValueError:
            raise ConfigError(track, name, "a number, or three with commas", text) from None
        values[name] = numbers if len(numbers) > 1 else numbers[0]
    try:
        parameters = msgspec.convert(values, MoveParameters)
    except msgspec.ValidationError as error:
        raise ConfigError(track, "parameters", ", ".join(MoveParameters.__struct_fields__), str(error)) from None
    if parameters.at == parameters.look:
        raise ConfigError(track, "look", "another point than `at`", parameters.look)
    if not 0 < parameters.period < math.inf:
        raise ConfigError(track, "period", "a time above 0 s", parameters.period)
    return parameters


def _from_file(path: Path) -> Move:
    if not path.is_file():
        expected = f"a track file, or builtin:{', builtin:'.join(BUILTINS)}"
        raise ConfigError(path, "track", expected, "a folder" if path.is_dir() else "no such file")
    track = load_track(path)
    [camera_id, *others] = track.cameras
    if others:
        raise ConfigError(path, "cameras", "one camera", ", ".join(track.cameras))
    camera, first_ns = playing(track)[camera_id], track.samples[0].captured_at_ns
    return Move(lambda t: camera.at(first_ns + round(t * SECOND_NS)).world_from_tracker, track.duration_ns / SECOND_NS)
