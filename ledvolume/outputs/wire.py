"""The tile stream on the wire: one ZMQ message per tile and frame, [topic, header, pixels]. Used by both ends.

docs/protocol.md is the specification; this module is its only implementation. No sockets, no clock.

The header is one JSON object, written in three pieces so that 256 tiles cost what a frame costs: what all tiles of
a frame share is encoded once per frame, what a tile always says once per show, and only the crc per message.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec
import numpy as np

from ledvolume.errors import OutputError, ProtocolError
from ledvolume.frame import FrameRequest
from ledvolume.outputs.pixels import PixelFormat, byte_count, pixel_format, shaped

try:
    from isal.isal_zlib import crc32  # 32 GB/s where zlib makes 3: 1080p in 0.15 ms instead of 1.8
except ImportError:
    from zlib import crc32

VERSION = 1
DEFAULT_PORT = 5560


class Header(msgspec.Struct, frozen=True):
    """What a message says about its pixels.

    sequence counts the frames that the output sent since `started_at_ns`: a gap in it is a loss on the way, while a
    gap in `request.index` alone is a frame that the server was too late for.
    """

    stream: int
    started_at_ns: int
    sequence: int
    sent_at_ns: int
    request: FrameRequest
    tile: str
    resolution_px: tuple[int, int]
    pixel_format: PixelFormat
    crc32: int


class ReceivedTile(msgspec.Struct, frozen=True):
    """One tile of one frame, complete and intact. `pixels` lies in the message's own memory and is read-only."""

    header: Header
    pixels: np.ndarray
    received_at_ns: int


def topic(tile: str) -> bytes:
    """ZMQ matches topics by prefix; the newline keeps a receiver of `wall.1` from being sent `wall.10` too."""
    if not tile or "\n" in tile:
        raise OutputError(f"tile name {tile!r} cannot be a topic: expected at least one character, no newline")
    return tile.encode() + b"\n"


def frame_piece(started_at_ns: int, sequence: int, sent_at_ns: int, request: FrameRequest) -> bytes:
    """The header's start, the same for all tiles of a frame."""
    fields = (VERSION, started_at_ns, sequence, sent_at_ns, msgspec.json.encode(request))
    return b'{"stream":%d,"started_at_ns":%d,"sequence":%d,"sent_at_ns":%d,"request":%b,' % fields


def tile_piece(tile: str, image: np.ndarray) -> bytes:
    """The header's middle, the same for all frames of a tile. Raises OutputError for pixels that have no format."""
    height, width = image.shape[:2]
    fields = {"tile": tile, "resolution_px": (width, height), "pixel_format": pixel_format(image)}
    return msgspec.json.encode(fields)[1:-1] + b',"crc32":'


def header(frame: bytes, tile: bytes, image: np.ndarray) -> bytes:
    return b"%b%b%d}" % (frame, tile, crc32(image))


_decoder = msgspec.json.Decoder(Header)


def received_tile(parts, received_at_ns: int) -> ReceivedTile:
    """The tile in the buffers of one message. Raises ProtocolError: parts, header, version, size, crc."""
    if len(parts) != 3:
        raise ProtocolError("stream", "parts", f"expected 3 parts, got {len(parts)}")
    try:
        header = _decoder.decode(parts[1])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError("stream", "header", str(error), bytes(parts[1][:2000])) from error
    if header.stream != VERSION:
        raise ProtocolError("stream", "version", f"expected version {VERSION}, got {header.stream}")
    size, got = byte_count(header.resolution_px, header.pixel_format), len(parts[2])
    if min(header.resolution_px) < 1 or size != got:
        raise ProtocolError("stream", "size", f"{header.resolution_px} {header.pixel_format} is {size} B, got {got}")
    crc = crc32(parts[2])
    if crc != header.crc32:
        raise ProtocolError("stream", "crc", f"{header.tile}: header says {header.crc32:08x}, pixels are {crc:08x}")
    pixels = shaped(parts[2], header.resolution_px, header.pixel_format)
    pixels.flags.writeable = False
    return ReceivedTile(header, pixels, received_at_ns)


class Address(NamedTuple):
    """`stream://HOST:PORT?option=value`."""

    uri: str
    host: str
    port: str
    options: dict[str, str]

    @property
    def endpoint(self) -> str:
        return f"tcp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    def file(self, option: str, folder: Path) -> Path | None:
        """The file an option names, relative to `folder` (the show's)."""
        return folder / self.options[option] if option in self.options else None


def address(uri: str, known_options: frozenset[str]) -> Address:
    """Raises OutputError for what is not a stream's address, and for an option that this end does not know."""
    expected = "expected stream://HOST:PORT, for example stream://127.0.0.1:5560"
    try:
        parts = urlsplit(uri)
        port = "*" if parts.port == 0 else str(parts.port or DEFAULT_PORT)
    except ValueError as error:
        raise OutputError(f"{uri}: {error}; {expected}") from error
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "stream" or parts.path.strip("/"):
        raise OutputError(f"{uri}: {expected}")
    if unknown := set(options) - known_options:
        raise OutputError(f"{uri}: unknown option {sorted(unknown)}; known here: {sorted(known_options)}")
    return Address(uri, parts.hostname or "127.0.0.1", port, options)
