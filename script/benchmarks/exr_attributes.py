"""What EXR files say of the camera, read by OpenImageIO, against what was asked, worked out here without any of our code."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
from scipy.spatial.transform import Rotation, Slerp

from benchmarks.command import empty_folder, ran
from benchmarks.tracks_of_others import OPTICAL_TILT_DEG, registered_demo, tum_track
from ledvolume.commands.demo import SHOW
from measure import Row

FPS, SAMPLES_HZ = 24, 100
FRAMES = range(3, 15)
SIZE_PX = (192, 144)
SENSOR_MM, CAMERA_ID = (24.89, 18.66), "camera"  # the demo's
TUM_FRAMES = range(40, 48)
DEMO_PUPIL_M = 0.06
FLOAT32 = 2.0**-22  # relative; worldToCamera and the lens' numbers are written in 32 bits

COLUMNS = ("time_s", "x", "y", "z", "qw", "qx", "qy", "qz", "camera_id", "focal_length_mm", "focus_distance_m",
           "entrance_pupil_m", "projection_offset_x_mm", "projection_offset_y_mm", "timecode")  # fmt: skip


def exr_metadata() -> Iterable[Row]:
    """a zooming, panning camera with timecode, and TUM's, to EXR: every attribute against what it has to be"""
    folder = empty_folder("exr-attributes")
    track = written_track(folder / "move.csv")
    words = ("--what", "view", "--format", "exr", "--size", "{}x{}".format(*SIZE_PX), "--rate", str(FPS))
    part = ("--frames", f"{FRAMES[0]}-{FRAMES[-1]}")
    done = ran("replay", track, "--show", SHOW, *words, *part, "--out", folder / "move")
    yield Row("replay to EXR, exit status", done.returncode, "", ("=", 0))
    found = {n: attributes(folder / "move" / "view" / f"{n:08d}.exr") for n in FRAMES}
    expected = {n: asked_for(n) for n in FRAMES}
    for name in expected[FRAMES[0]]:
        right = sum(is_same(found[n].get(name), expected[n][name]) for n in FRAMES)
        yield Row(f"EXR, as OpenImageIO reads it: {name}", right, f"of {len(FRAMES)}", ("=", len(FRAMES)))

    show, stage_from_world = registered_demo(folder, tum_track())
    part = ("--frames", f"{TUM_FRAMES[0]}-{TUM_FRAMES[-1]}")
    done = ran("replay", tum_track(), "--show", show, *words, *part, "--out", folder / "tum")
    expected = tum_cameras(tum_track(), stage_from_world, TUM_FRAMES)
    off = [
        np.abs(np.reshape(attributes(folder / "tum" / "view" / f"{n:08d}.exr")["worldToCamera"], (4, 4)) - matrix).max()
        for n, matrix in zip(TUM_FRAMES, expected)
    ]
    yield Row("TUM: worldToCamera in EXR from SciPy's slerp of the file's poses, farthest", float(max(off)), "", ("≤", 2e-6))
    has_none = sum("smpte:TimeCode" in attributes(folder / "tum" / "view" / f"{n:08d}.exr") for n in TUM_FRAMES)
    yield Row("TUM has no timecode: EXR files with one", has_none, "", ("=", 0))


def camera_at(t: float) -> dict[str, float]:
    """The move: it goes right and up, pans to the right, zooms, pulls the focus; each at a constant speed."""
    return {
        "x": -0.3 + 0.6 * t, "y": 0.05, "z": 1.7 + 0.3 * t, "pan_deg": 4 - 8 * t, "tilt_deg": 2.0,
        "focal_mm": 35 + 15 * t, "focus_m": 3 + t, "pupil_m": 0.055 + 0.01 * t,
    }  # fmt: skip


def written_track(path: Path) -> Path:
    """A second of it, with the timecode of a counter that was at 10:20:30:00 when it began."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for i in range(SAMPLES_HZ + 1):
            c = camera_at(i / SAMPLES_HZ)
            qx, qy, qz, qw = (Rotation.from_euler("ZX", (c["pan_deg"], c["tilt_deg"]), degrees=True)).as_quat()
            counted = i * FPS // SAMPLES_HZ
            timecode = f"10:20:{30 + counted // FPS}:{counted % FPS:02d}"
            lens = (c["focal_mm"], c["focus_m"], c["pupil_m"], 0.4, -0.3)
            rows.writerow((i / SAMPLES_HZ, c["x"], c["y"], c["z"], qw, qx, qy, qz, CAMERA_ID, *lens, timecode))
    return path


def asked_for(n: int) -> dict[str, object]:
    """The attributes of frame n, under OpenImageIO's names."""
    c = camera_at(n / FPS)
    turn = Rotation.from_euler("ZX", (c["pan_deg"], c["tilt_deg"]), degrees=True).as_matrix()
    width, height = SIZE_PX
    return {
        "smpte:TimeCode": (0x10203000 + n // 10 * 16 + n % 10, 0),  # ST 12-1: binary-coded decimals, no flags, no user bits
        "framesPerSecond": (FPS, 1),
        "imageCounter": n,
        "cameraLabel": CAMERA_ID,
        "pinholeFocalLength": c["focal_mm"],
        "focus": c["focus_m"],
        "entrancePupilOffset": 1000 * c["pupil_m"],
        "sensorOverallDimensions": SENSOR_MM,
        "sensorCenterOffset": (-400.0, 300.0),
        "PixelAspectRatio": (SENSOR_MM[0] / width) / (SENSOR_MM[1] / height),
        "worldToCamera": world_to_camera(turn, np.array((c["x"], c["y"], c["z"])) + turn @ (0, c["pupil_m"], 0)).ravel(),
        "ledvolume/present_at_ns": str(n * 1_000_000_000 // FPS),
        "ledvolume/frame": n,
        "ledvolume/scene": "lund-door",
        "ledvolume/tracking": "measured",
    }


def world_to_camera(turn: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(4, 4) for row vectors. turn: columns are where the camera's right, forward, up point; OpenEXR's are right, up, forward."""
    axes = turn[:, [0, 2, 1]]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[3, :3] = axes, -at @ axes
    return matrix


def tum_cameras(track: Path, stage_from_world, frames: range) -> list[np.ndarray]:
    """worldToCamera of frames at FPS, from the file's own lines: SciPy's slerp, numpy's interpolation of positions."""
    t, *xyz, qx, qy, qz, qw = np.loadtxt(track).T
    w, x, y, z = stage_from_world.wxyz
    stage_turn = Rotation.from_quat((x, y, z, w))
    at_s = t[0] + np.array(frames) / FPS
    turns = stage_turn * Slerp(t, Rotation.from_quat(np.stack((qx, qy, qz, qw), -1)))(at_s)
    turns = turns * Rotation.from_euler("X", OPTICAL_TILT_DEG, degrees=True)
    at_m = stage_turn.apply(np.stack([np.interp(at_s, t, p) for p in xyz], -1)) + stage_from_world.position_m
    at_m = at_m + turns.apply((0, DEMO_PUPIL_M, 0))
    return [world_to_camera(turn, at) for turn, at in zip(turns.as_matrix(), at_m)]


def attributes(path: Path) -> dict[str, object]:
    """What OpenImageIO finds."""
    file = oiio.ImageInput.open(str(path))
    if file is None:
        raise OSError(oiio.geterror())
    found = {attribute.name: attribute.value for attribute in file.spec().extra_attribs}
    file.close()
    return found


def is_same(found: object, expected: object) -> bool:
    """Numbers within what 32 bits can say."""
    if isinstance(expected, float | np.ndarray) or (isinstance(expected, tuple) and isinstance(expected[0], float)):
        there, wanted = np.ravel(np.asarray(found, float)), np.ravel(expected)
        return there.shape == wanted.shape and bool((np.abs(there - wanted) <= FLOAT32 * np.maximum(1, np.abs(wanted))).all())
    return found == expected and not (isinstance(found, float) and math.isnan(found))


MEASUREMENTS = (exr_metadata,)
