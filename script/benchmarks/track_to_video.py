"""Tracks that others made, rendered for the demo's wall: films with the wall as sent and what the lens sees of it beside."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from benchmarks.command import empty_folder, ran
from benchmarks.tracks_of_others import nerfstudio_path, registered_demo, tum_track
from ledvolume.commands.demo import SHOW
from ledvolume.tracks import load_track
from measure import Row

FILM_PX = "1280 x 720"
# Of a film frame (contact_sheet.film_frame): where the wall's picture is, and where the lens' is. Rows, columns.
WALL, LENS = (slice(40, 640), slice(40, 590)), (slice(40, 480), slice(650, 1240))
PLAIN = 8  # codes of 255: a picture whose brightest and darkest pixel are not farther apart shows nothing


def tracks_to_films() -> Iterable[Row]:
    """TUM's freiburg1_xyz and a camera path of nerfstudio's viewer as films of the demo's wall, read back by FFmpeg"""
    folder = empty_folder("track-to-video")
    track = tum_track()
    samples = load_track(track).samples
    seconds = (samples[-1].captured_at_ns - samples[0].captured_at_ns) / 1e9
    show, _ = registered_demo(folder, track)
    film = rendered(track, show, folder / "tum", "prores", "5")
    yield from rows("TUM", film, folder / "tum" / "film.mov", int(seconds * 5) + 1, ("5", "prores", "yuv422p10le"))
    seen = shown_in(folder / "tum" / "film.mov")
    yield Row("TUM: film frames in which the wall shows something", 100 * float(np.mean(seen[:, 0])), "%", ("=", 100))
    yield Row("TUM: in which the lens sees something of it", 100 * float(np.mean(seen[:, 1])), "%", ("=", 100))

    track = nerfstudio_path()
    frames = 240 if track.name.endswith("final.json") else 24
    film = rendered(track, SHOW, folder / "nerfstudio", "hevc", "6")
    expected = (frames - 1) // 4 + 1  # of 24 a second every fourth
    yield from rows("nerfstudio", film, folder / "nerfstudio" / "film.mp4", expected, ("6", "hevc", "yuv420p10le"))
    seen = shown_in(folder / "nerfstudio" / "film.mp4")
    yield Row("nerfstudio: film frames in which the wall shows something", 100 * float(np.mean(seen[:, 0])), "%", ("=", 100))
    # the lap leads round: for a part of it the camera has the wall behind it
    yield Row("nerfstudio: in which the lens sees something of it", 100 * float(np.mean(seen[:, 1])), "%", ("≥", 20))


def rendered(track: Path, show: Path, out: Path, codec: str, rate: str):
    """The film's command, ended."""
    words = ("--show", show, "--what", "film", "--format", codec, "--rate", rate, "--workers", "2", "--out", out)
    return ran("replay", track, *words)


def rows(name: str, done, video: Path, frames: int, asked: tuple[str, str, str]) -> Iterable[Row]:
    """What the command said, and what FFmpeg's demuxer and decoder find in the file. asked: rate, codec, pixel format."""
    yield Row(f"{name}: replay to a film, exit status", done.returncode, "", ("=", 0))
    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        found = str(stream.average_rate), stream.codec_context.name, stream.codec_context.pix_fmt
        size = f"{stream.width} x {stream.height}"
        count = sum(1 for _ in file.decode(stream))
    yield Row(f"{name}: frames in the video", count, "", ("=", frames))
    yield Row(f"{name}: size", size, "", ("=", FILM_PX))
    for what, is_there, wanted in zip(("frames per second", "codec", "pixel format"), found, asked):
        yield Row(f"{name}: {what}", is_there, "", ("=", wanted))
    yield Row(f"{name}: bytes", video.stat().st_size / 1e6, "MB")


def shown_in(video: Path) -> np.ndarray:
    """(frames, 2) bool: does the wall's picture show something, does the lens'?"""
    seen = []
    with av.open(str(video)) as file:
        for frame in file.decode(video=0):
            luma = frame.to_ndarray(format="gray")
            seen.append([int(np.ptp(luma[part])) > PLAIN for part in (WALL, LENS)])
    return np.array(seen)


MEASUREMENTS = (tracks_to_films,)
