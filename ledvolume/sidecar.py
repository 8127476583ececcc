"""What goes beside the pictures of a take, for those who work on them: the camera, the lens, the check sums.

camera.jsonl                   OpenTrackIO samples of the rendered frames, one a line
camera.usda                    the same as a USD camera; time codes are the frames' numbers
stmap/undistort.00000120.exr   ST maps of the lens, from this frame on until the next file's: for undistorting the picture
stmap/distort.00000120.exr     and for distorting what is laid over it; none for a lens without distortion
hashes.sfv                     CRC-32 of every file, as `cksfv` and `rhash` read them
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import msgspec
import numpy as np

from ledvolume.camera import CameraSample, LensReading
from ledvolume.config import Show
from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import FrameRequest
from ledvolume.lens import Distortion, Lens, distorted, undistorted
from ledvolume.offline import view_size
from ledvolume.outputs.exr import exr
from ledvolume.outputs.whole_file import words, write_whole
from ledvolume.pose import Pose

HASHES = "hashes.sfv"
NOT_HASHED = ("*.part", HASHES, "job.json", "frames*.jsonl")  # what a job notes for itself still grows
NOWHERE = -1.0  # an ST map's coordinate where no lens can be what its coefficients say: outside of every picture


def write_sidecars(
    out: Path | str, requests: Sequence[FrameRequest], show: Show, view_px: tuple[int, int] | None = None
) -> list[str]:
    """All of them into a job's folder, when its pictures and videos are there; what could not be said comes back in words.

    view_px: the ST maps' size; default: the view's. Raises OutputError.
    """
    out = Path(out)
    notes = _write_cameras(out, requests, show)
    maps = write_st_maps(out / "stmap", requests, view_px)
    notes += [] if maps else ["the lens has no distortion: no ST maps"]
    write_hashes(out)
    return notes


def write_st_maps(folder: Path, requests: Iterable[FrameRequest], view_px: tuple[int, int] | None = None) -> list[Path]:
    """A pair of ST maps for every frame at which the lens begins to bend otherwise; returns their files."""
    files, before = [], None
    for request in requests:
        lens = request.camera.lens
        state = lens.distortion, lens.projection_offset_mm, lens.sensor_mm
        if state == before or (before is None and not bends(lens.distortion)):
            continue
        before = state
        for name, st in zip(("undistort", "distort"), st_maps(lens, view_px or view_size(lens))):
            file = folder / f"{name}.{request.index:08d}.exr"
            attributes = {"ledvolume/frame": request.index, "ledvolume/lens": msgspec.json.encode(lens).decode()}
            write_whole(file, exr({"R": st[..., 0].copy(), "G": st[..., 1].copy()}, attributes))
            files.append(file)
    return files


def bends(distortion: Distortion) -> bool:
    return any(distortion.radial) or any(distortion.tangential)


def st_maps(lens: Lens, size_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(undistort, distort), each (H, W, 2) float32: where in the source picture a pixel's value is found.

    As Nuke's STMap has it: (0, 0) is the source's bottom left corner, (1, 1) its top right one, pixel centres are at half
    pixels; row 0 of the array is the top. Both pictures are as large as the sensor: what undistorts to beyond it is cut off.
    """
    (width, height), sensor_mm = size_px, np.asarray(lens.sensor_mm)
    s = (np.arange(width) + 0.5) / width
    t = 1 - (np.arange(height) + 0.5) / height
    st = np.stack(np.meshgrid(s, t), -1)
    right_down = np.array([1.0, -1.0]) * sensor_mm
    points_mm = (st - 0.5) * right_down
    maps = (np.nan_to_num((f(lens, points_mm) / right_down + 0.5), nan=NOWHERE) for f in (distorted, undistorted))
    undistort, distort = (m.astype(np.float32) for m in maps)
    return undistort, distort


def write_hashes(out: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> Path:
    """hashes.sfv of all files below a folder. Raises OutputError."""
    files = sorted(f for f in out.rglob("*") if f.is_file() and not any(fnmatch(f.name, name) for name in NOT_HASHED))
    lines = []
    for done, file in enumerate(files, 1):
        crc = 0
        try:
            with open(file, "rb") as data:
                while block := data.read(1 << 20):
                    crc = zlib.crc32(block, crc)
        except OSError as error:
            raise OutputError(f"{file}: cannot be read for its check sum: {error.strerror}") from error
        lines.append(f"{file.relative_to(out).as_posix()} {crc:08X}\n")
        progress(done, len(files))
    write_whole(out / HASHES, "".join(lines).encode())
    return out / HASHES


def camera_samples(requests: Iterable[FrameRequest], at_pupil: bool) -> tuple[CameraSample, ...]:
    """The cameras of frames as a tracker on the stage would have sent them, at the instants at which the frames are shown.

    at_pupil: the pose of the entrance pupil, for pinhole cameras; else of the sensor, with the pupil's offset in the lens.
    """
    return tuple(_sample(request, at_pupil) for request in requests)


def _sample(request: FrameRequest, at_pupil: bool) -> CameraSample:
    camera, lens = request.camera, request.camera.lens
    back = Pose(position_m=(0.0, 0.0 if at_pupil else -lens.entrance_pupil_m, 0.0))
    focus_m = lens.focus_distance_m
    reading = LensReading(
        focal_length_mm=lens.focal_length_mm,
        focus_distance_m=focus_m if focus_m is not None and np.isfinite(focus_m) else None,
        entrance_pupil_m=None if at_pupil else lens.entrance_pupil_m,
        projection_offset_mm=lens.projection_offset_mm,
        distortion=lens.distortion if bends(lens.distortion) and not at_pupil else None,
        sensor_mm=lens.sensor_mm,
    )
    at_ns = request.present_at_ns
    pose = camera.stage_from_camera @ back
    return CameraSample(camera.camera_id, at_ns, at_ns, pose, reading, camera.tracking, 0, request.timecode)


def _write_cameras(out: Path, requests: Sequence[FrameRequest], show: Show) -> list[str]:
    """camera.jsonl and camera.usda; returns why there is none of them."""
    from ledvolume.tracks import Assumed, Track, save_track

    notes = []
    ordered = sorted(requests, key=lambda request: request.index)
    for file, name, at_pupil in (("camera.jsonl", "opentrackio", False), ("camera.usda", "usd", True)):
        track = Track(camera_samples(ordered, at_pupil), name, show.rate)
        part = out / f"part.{file}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            save_track(track, part, Assumed(rate=show.rate, start_frame=ordered[0].index), name)
            part.replace(out / file)
        except OSError as error:
            raise OutputError(words(out / file, error, 0)) from error
        except ConfigError as error:
            if error.key == "file":
                raise OutputError(f"{out / file}: cannot write: {error.got}") from error
            notes.append(f"no {file}: expected {error.expected}, got {error.got}")
    return notes
