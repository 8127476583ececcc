"""`images:DIR`: every tile of every frame as a PNG file, and `frames.jsonl` with what each frame was asked to be.

Layout, also of `ledvolume tile --save`:

    DIR/TILE/00000120.png     or .npy: the pixels as they were sent
    DIR/NAME.jsonl            one JSON object per image: file, tile, pixel_format, request, and what the stream adds

`saved_frames` puts the tiles of one index together again, whoever wrote them.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ledvolume.errors import OutputError
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs.pixels import PixelFormat, code_values, pixel_format, rgb10_packed

FileFormat = Literal["png", "npy"]


class SavedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a .jsonl file. The last four are the stream's, 0 where no stream was between."""

    file: str
    tile: str
    pixel_format: PixelFormat
    request: FrameRequest
    sequence: int = 0
    sent_at_ns: int = 0
    received_at_ns: int = 0
    crc32: int = 0


class ImageFolder:
    """Writes images below `folder` and their lines into `folder/name.jsonl`. Several may share a folder, not a name."""

    def __init__(self, folder: Path, name: str, file_format: FileFormat = "png"):
        self._folder, self._file_format = Path(folder), file_format
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lines = open(self._folder / f"{file_name(name)}.jsonl", "wb")
        except OSError as error:
            raise OutputError(f"{folder}: cannot write there: {error}") from error

    def write(self, tile: str, image: np.ndarray, request: FrameRequest, **stream_fields: int) -> None:
        """`stream_fields` are SavedImage's: sequence, sent_at_ns, received_at_ns, crc32."""
        file = f"{file_name(tile)}/{request.index:08d}.{self._file_format}"
        path = self._folder / file
        try:
            path.parent.mkdir(exist_ok=True)
            if self._file_format == "npy":
                np.save(path, image)
            else:
                path.write_bytes(png(image))
            line = SavedImage(file, tile, pixel_format(image), request, **stream_fields)
            self._lines.write(msgspec.json.encode(line) + b"\n")
            self._lines.flush()
        except OSError as error:
            raise OutputError(f"{path}: cannot write: {error}") from error

    def close(self) -> None:
        self._lines.close()


class ImagesOutput:
    """`images:DIR` as an output of the server. Waits for the disk: for takes that are rendered, not for a live wall."""

    def __init__(self, uri: str, folder: Path = Path()):
        scheme, _, name = uri.partition(":")
        if scheme != "images" or not name:
            raise OutputError(f"{uri}: expected images:DIR")
        self.uri, self._frames = uri, 0
        self._images = ImageFolder(folder / name, "frames")

    def send(self, frame: Frame) -> None:
        for tile, image in frame.images.items():
            self._images.write(tile, image, frame.request)
        self._frames += 1

    def counters(self) -> dict[str, int]:
        return {"frames": self._frames}

    def close(self) -> None:
        self._images.close()


def saved_frames(folder: Path) -> Iterator[Frame]:
    """The frames of a folder by index, each with the tiles that were saved of it. Images are as they were sent."""
    lines = [
        msgspec.json.decode(line, type=SavedImage)
        for file in sorted(Path(folder).glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]
    by_index: dict[int, list[SavedImage]] = {}
    for line in lines:
        by_index.setdefault(line.request.index, []).append(line)
    for _, images in sorted(by_index.items()):
        pixels = {image.tile: saved_image(Path(folder) / image.file, image.pixel_format) for image in images}
        yield Frame(images[0].request, pixels)


def saved_image(path: Path, name: PixelFormat) -> np.ndarray:
    """The pixels of one file, in the format they were sent in."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    values = png_pixels(path)
    return rgb10_packed(values >> 6) if name == "rgb10" else values


def png_pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 of a PNG file, as many bits as it has. Raises OutputError."""
    import av

    try:
        with av.open(str(path), format="png_pipe") as file:
            image = next(file.decode(video=0))
    except (OSError, av.FFmpegError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "no picture in it"
        raise OutputError(f"{path}: cannot be read as a PNG file: {reason}") from error
    is_deep = max(component.bits for component in image.format.components) > 8
    # PyAV's rows may be padded
    return np.ascontiguousarray(image.to_ndarray(format="rgb48le" if is_deep else "rgb24"))


def png(image: np.ndarray) -> bytes:
    """A PNG file (ISO/IEC 15948) of an image in any pixel format: 8 or 16 bits per channel, lossless.

    10 bits are widened to 16 by repeating their upper bits (v << 6 | v >> 4, so 1023 is white) and marked by sBIT.
    """
    values, bits = code_values(image)
    if bits == 10:
        values = values << 6 | values >> 4
    height, width = values.shape[:2]
    rows = np.ascontiguousarray(values, ">u2" if bits > 8 else "u1").reshape(height, -1).view(np.uint8)
    # Filter 2 (Up): each byte minus the one above; walls are smooth, this halves the file.
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16 if bits > 8 else 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered, 1)), (b"IEND", b"")]
    if bits == 10:
        chunks.insert(1, (b"sBIT", bytes([10, 10, 10])))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def file_name(tile: str) -> str:
    """Tile names come over the network; one that is not a plain file name is refused, never repaired."""
    if not re.fullmatch(r"[\w-][\w .+-]*", tile):
        raise OutputError(f"tile name {tile!r} cannot be a folder: expected letters, digits, . _ - + and spaces")
    return tile
