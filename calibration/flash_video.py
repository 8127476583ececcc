"""Brightness in a video, cell by cell: what latency is read from. Nothing else of the pictures is kept.

An instant is that of the middle of the exposure of the picture's middle line, but for a delay that is the camera's own: files
count from their beginning, live pictures are stamped by this machine when they come (the driver's stamp, where it gives one).
"""

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import msgspec
import numpy as np

from calibration.picture_sources import is_live, live_frames
from ledvolume.errors import CalibrationError

COLUMNS, ROWS = 64, 36
LONGEST_S = 3600.0


class Brightness(msgspec.Struct, frozen=True):
    """at_s: (n,) instants on the video's clock. cells: (n, ROWS, COLUMNS) float32, 0 to 1, as encoded (not light). tick_s: what
    the instants are rounded to."""

    at_s: np.ndarray
    cells: np.ndarray
    tick_s: float = 0.0

    @property
    def period_s(self) -> float:
        """From frame to frame, the median."""
        return float(np.median(np.diff(self.at_s)))

    def between(self, from_s: float, to_s: float) -> "Brightness":
        """A part of it."""
        kept = (self.at_s >= from_s) & (self.at_s <= to_s)
        return Brightness(self.at_s[kept], self.cells[kept], self.tick_s)


def grey_frames(source: str, seconds: float | None = None) -> Iterator[tuple[float, float, np.ndarray]]:
    """(instant in seconds, what it is rounded to, (H, W) float32 from 0 to 1) of a video file, or of a live address for so many
    seconds. Live instants are of time.time(). Raises CalibrationError."""
    if is_live(source):
        end_s = time.time() + (seconds or 30.0)
        for at_ns, pixels in live_frames(source):
            at_s = (at_ns or time.time_ns()) / 1e9
            yield at_s, 0.0, cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
            if at_s > end_s:
                return
    else:
        yield from _file_frames(Path(source), seconds)


class BrightnessReader:
    """Pictures in, one after the other; `brightness` at the end. Raises CalibrationError."""

    def __init__(self, source: str):
        self.source = source
        self._at_s: list[float] = []
        self._cells: list[np.ndarray] = []
        self._tick_s = 0.0

    def __len__(self) -> int:
        return len(self._at_s)

    def add(self, at_s: float, tick_s: float, grey: np.ndarray) -> None:
        """As grey_frames has them."""
        if self._at_s and at_s <= self._at_s[-1]:
            raise CalibrationError(
                f"{self.source}: frame {len(self)} is not later than the one before it: its instants are no use"
            )
        if self._at_s and at_s - self._at_s[0] > LONGEST_S:
            raise CalibrationError(f"{self.source}: longer than {LONGEST_S / 60:.0f} minutes: cut out the flashes and the motion")
        self._at_s.append(at_s)
        self._cells.append(cv2.resize(grey, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA))
        self._tick_s = max(self._tick_s, tick_s)

    @property
    def brightness(self) -> Brightness:
        if len(self) < 2:
            raise CalibrationError(f"{self.source}: {len(self)} frames: no video to read latency from")
        return Brightness(np.array(self._at_s), np.array(self._cells), self._tick_s)


def brightness_of(source: str, seconds: float | None = None) -> Brightness:
    """The cells of all frames. Raises CalibrationError."""
    reader = BrightnessReader(source)
    for frame in grey_frames(source, seconds):
        reader.add(*frame)
    return reader.brightness


def _file_frames(file: Path, seconds: float | None) -> Iterator[tuple[float, float, np.ndarray]]:
    import av

    try:
        with av.open(str(file)) as video:
            if not video.streams.video:
                raise CalibrationError(f"{file}: no video in it")
            stream = video.streams.video[0]
            stream.thread_type = "AUTO"
            first: Fraction | None = None
            for number, frame in enumerate(video.decode(stream)):
                if frame.pts is None:
                    raise CalibrationError(f"{file}: frame {number} has no instant (pts): record to MP4, MOV or MKV")
                at = frame.pts * frame.time_base
                first = at if first is None else first
                deep = frame.format.components[0].bits > 8
                grey = frame.to_ndarray(format="gray16le" if deep else "gray")
                yield float(at - first), float(frame.time_base), grey.astype(np.float32) / (65535 if deep else 255)
                if seconds is not None and at - first > seconds:
                    return
    except (OSError, av.FFmpegError) as error:
        raise CalibrationError(f"{file}: not a video that can be read: {error}") from error
