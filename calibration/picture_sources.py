"""Where pictures come from: a folder that fills, a video file, a camera. They are told apart by what is written:

    photographs/                     a folder: of a tethered camera, of a card that is copied, or all at once
    walk.mov                         a video file
    v4l2:/dev/video0?size=1920x1080  a camera at this machine (UVC, capture cards), through OpenCV
    rtsp://10.0.0.7/stream           any live address that FFmpeg opens (rtsp, udp, srt, tcp, http), through PyAV

Pictures are as they came: nothing is turned, cropped or brought to another size, as the lens is solved on the sensor.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image

from ledvolume.errors import CalibrationError, ConfigError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
RAW = (".cr2", ".cr3", ".nef", ".arw", ".raf", ".dng", ".orf", ".rw2", ".braw", ".r3d", ".ari", ".heic")
BROKEN_AFTER_NS = 10_000_000_000  # a file that has not grown for so long, and is no picture yet, will be none
OLDEST_FRAME_S = 10.0
OPEN_S = 10.0
RECENT = 250  # frames that a stream's delay is judged by
_EXIF, _ORIGINAL, _SUBSECOND, _OFFSET = 0x8769, 0x9003, 0x9291, 0x9011


class Picture(NamedTuple):
    """pixels: (H, W) or (H, W, 3), uint8 or uint16. at_ns: when it was taken, 0 if it does not say. file: the picture's own,
    of a folder; else None. folder: the subfolder that it lay in."""

    name: str
    at_ns: int
    pixels: np.ndarray
    file: Path | None = None
    folder: str = ""


class FolderPictures:
    """The pictures of a folder and of its subfolders, each handed out once, when it is complete. Asked again and again."""

    def __init__(self, folder: Path, now_ns: Callable[[], int] = time.monotonic_ns):
        if not Path(folder).is_dir():
            raise ConfigError(folder, "pictures", "a folder, a video file, or an address such as rtsp://…", "no such folder")
        self.folder, self._now_ns = Path(folder), now_ns
        self._handed: set[Path] = set()
        self._sizes: dict[Path, tuple[int, int, int]] = {}  # size, time of change, since when it is so

    def pass_over(self, files: set[Path]) -> None:
        """Files that were used before are not handed out again."""
        self._handed |= files

    def new(self, is_filling: bool = True) -> tuple[list[Picture], list[str]]:
        """New pictures in the order of their names (numbers count as numbers), or of the instants that they say if all do;
        and what to say of files that are none. is_filling: a file may still grow: it is left until it stays as it is."""
        pictures, said = [], []
        for file in sorted(self.folder.rglob("*"), key=natural):
            if file in self._handed or file.name.startswith(".") or not file.is_file():
                continue
            if file.suffix.lower() in RAW:
                self._handed.add(file)
                said.append(f"{file.name}: a raw file: develop it to JPEG or TIFF, without lens correction")
            elif file.suffix.lower() in SUFFIXES and (not is_filling or self._is_still(file)):
                try:
                    picture = read_picture(file, self.folder)
                except CalibrationError as error:
                    if is_filling and self._now_ns() - self._sizes[file][2] < BROKEN_AFTER_NS:
                        continue
                    said.append(str(error))
                else:
                    pictures.append(picture)
                self._handed.add(file)
        if pictures and all(picture.at_ns for picture in pictures):
            pictures.sort(key=lambda picture: (picture.folder, picture.at_ns, natural(picture.file)))
        return pictures, said

    def _is_still(self, file: Path) -> bool:
        try:
            now = file.stat()
        except OSError:
            return False  # moved away, as tethering programs do
        size, changed_ns, since_ns = self._sizes.get(file, (-1, 0, 0))
        if (now.st_size, now.st_mtime_ns) != (size, changed_ns):
            self._sizes[file] = (now.st_size, now.st_mtime_ns, self._now_ns())
            return False
        return size > 0


def natural(path: Path) -> list:
    """IMG_9 before IMG_10."""
    return [
        [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
        for name in path.parts
    ]


def read_picture(file: Path, folder: Path | None = None) -> Picture:
    """A photograph. Raises CalibrationError for a file that is none, or not yet."""
    try:
        data = file.read_bytes()
        with Image.open(BytesIO(data)) as image:
            image.load()
            at_ns = _exif_ns(image)
            if image.mode not in ("L", "RGB", "I;16", "I;16B"):
                image = image.convert("I;16" if image.mode == "I" else "RGB")
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CalibrationError(f"{file}: not a picture that can be read: {error}") from error
    pixels = pixels.astype(np.uint16) if pixels.dtype.itemsize > 1 else pixels
    inside = "" if folder is None or file.parent == folder else file.parent.relative_to(folder).as_posix()
    return Picture(file.name, at_ns, pixels, file, inside)


def _exif_ns(image: Image.Image) -> int:
    """When it was taken, by the camera's clock; a camera that does not say its time zone is in this machine's."""
    tags = image.getexif().get_ifd(_EXIF)
    try:
        taken = datetime.strptime(str(tags[_ORIGINAL]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        if _OFFSET in tags:
            taken = taken.replace(tzinfo=datetime.strptime(str(tags[_OFFSET]).strip("\0 "), "%z").tzinfo)
        subsecond = str(tags.get(_SUBSECOND, "0")).strip("\0 ") or "0"
        return int(taken.timestamp()) * 1_000_000_000 + int(float(f"0.{subsecond}") * 1e9)
    except (KeyError, ValueError, OverflowError, OSError):
        return 0


def video_pictures(file: Path) -> Iterator[Picture]:
    """The frames of a video file in order; at_ns counts from the instant at which the file says that it was begun, else from
    0. Raises CalibrationError."""
    import av

    try:
        with av.open(str(file)) as video:
            if not video.streams.video:
                raise CalibrationError(f"{file}: no video in it")
            begins_ns = _begins_ns(video.metadata)
            for number, frame in enumerate(video.decode(video=0)):
                if frame.pts is None:
                    raise CalibrationError(f"{file}: frame {number} has no instant")
                at_ns = begins_ns + round(frame.pts * frame.time_base * 1_000_000_000)
                yield Picture(f"{file.stem}-{number:06d}", at_ns, frame.to_ndarray(format="rgb24"))
    except (OSError, av.FFmpegError) as error:
        raise CalibrationError(f"{file}: not a video that can be read: {error}") from error


def _begins_ns(metadata: dict[str, str]) -> int:
    try:
        began = datetime.fromisoformat(metadata["creation_time"].replace("Z", "+00:00"))
        return round(began.replace(tzinfo=began.tzinfo or UTC).timestamp() * 1e6) * 1000
    except (KeyError, ValueError):
        return 0


class CameraPictures:
    """The newest picture of a live camera. A thread of its own reads them, so that none is old. latency_ns: from the light to
    the stamp."""

    def __init__(self, address: str, latency_ns: int = 0):
        self.address, self._latency_ns = address, latency_ns
        self.frames = 0
        self._error: Exception | None = None
        self._newest: Picture | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._read, args=(live_frames(address),), daemon=True, name=f"camera {address}")
        self._thread.start()

    def after(self, instant_ns: int, timeout_s: float = OLDEST_FRAME_S, while_waiting: Callable[[], None] = lambda: None):
        """The first picture that is read from now on and was taken at or after an instant. Raises CalibrationError."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while self._newest is None or self._newest.at_ns < instant_ns:
                if self._error is not None:
                    raise CalibrationError(f"{self.address}: no more pictures: {self._error}") from self._error
                if time.monotonic() > end_s:
                    raise CalibrationError(f"{self.address}: no picture for {timeout_s:.0f} s. Is the camera on?")
                self._changed.wait(0.02)
                while_waiting()
            return self._newest

    def close(self) -> None:
        self._is_closed = True
        self._thread.join(OPEN_S)

    def _read(self, frames: Iterator[tuple[int, np.ndarray]]) -> None:
        try:
            for at_ns, pixels in frames:
                if self._is_closed:
                    break
                with self._changed:
                    self.frames += 1
                    self._newest = Picture(f"{self.frames:06d}", (at_ns or time.time_ns()) - self._latency_ns, pixels)
                    self._changed.notify_all()
            raise CalibrationError("its end")
        except Exception as error:  # told to whoever waits for a picture
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            frames.close()


def is_v4l2(address: str) -> bool:
    return address.startswith(("v4l2:", "/dev/video"))


def is_live(address: str) -> bool:
    """A camera, not a file or a folder."""
    return is_v4l2(address) or "://" in address


def live_frames(address: str) -> Iterator[tuple[int, np.ndarray]]:
    """(instant, or 0 where the camera does not stamp its frames; (H, W, 3)) of every picture, as they come."""
    return _v4l2_frames(address) if is_v4l2(address) else _stream_frames(address)


def _v4l2_frames(address: str) -> Iterator[tuple[int, np.ndarray]]:
    """(instant, (H, W, 3)); the kernel's own stamp where the driver gives one."""
    import cv2

    device, _, options = address.removeprefix("v4l2:").partition("?")
    wanted = dict(parse_qsl(options, keep_blank_values=True))
    if unknown := set(wanted) - {"size", "fourcc"}:
        raise ConfigError(address, "option", "size=1920x1080, fourcc=MJPG", ", ".join(sorted(unknown)))
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    try:
        if not capture.isOpened():
            raise CalibrationError("cannot be opened: is it there, is it free (`v4l2-ctl --list-devices`), may we read it?")
        if "fourcc" in wanted:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted["fourcc"]))
        if "size" in wanted:
            width, _, height = wanted["size"].partition("x")
            if not (width.isdecimal() and height.isdecimal()):
                raise ConfigError(address, "size", "width and height such as 1920x1080", wanted["size"])
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, int(width))
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, int(height))
        while True:
            is_read, pixels = capture.read()
            if not is_read:
                return
            stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # CLOCK_MONOTONIC, of most drivers
            age_s = time.monotonic() - stamp_s
            yield (time.time_ns() - round(age_s * 1e9) if 0 < age_s < OLDEST_FRAME_S else 0), pixels[..., ::-1].copy()
    finally:
        capture.release()


def _stream_frames(address: str) -> Iterator[tuple[int, np.ndarray]]:
    """(instant, (H, W, 3)): as paced by the sender, as if those that came soonest had been on the way for no time. So what
    waited in a buffer, as all does that came while the stream was being opened, is not taken for new."""
    import av

    options = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "1000000"}  # µs: by default it waits for 5 s
    if address.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    delays_ns: deque[int] = deque(maxlen=RECENT)
    with av.open(address, options=options, timeout=(OPEN_S, OPEN_S)) as stream:
        if not stream.streams.video:
            raise CalibrationError("no video in it")
        for frame in stream.decode(video=0):
            at_ns = 0
            if frame.pts is not None:
                sent_ns = round(frame.pts * frame.time_base * 1_000_000_000)
                delays_ns.append(time.time_ns() - sent_ns)
                at_ns = sent_ns + min(delays_ns)
            yield at_ns, frame.to_ndarray(format="rgb24")
