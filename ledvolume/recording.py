"""A take: everything that came in, in one MCAP file (mcap.dev), to be looked at, converted, sent again and replayed.

    /datagrams/N        what source N's socket gave, byte for byte; log time = when it was received. The channel's metadata
                        are uri, protocol and reading (a `protocols.Reading` as JSON): enough to decode it again as live
    /samples/CAMERA     a CameraSample as JSON with its schema; log time = received, publish time = captured
    attachments         files: a show (application/toml, the first such one), and those that it names
    metadata            names with values of text; `show` has the folder that the show's files are relative to

What else is in a file (requests of frames, other programs' topics) is passed over by who does not ask for it.

Records lie in the file one by one, not in chunks, and `flush` hands all there are to the operating system: what is killed
loses nothing that was flushed. (Measured, four datagrams and a request a frame: 18 µs a frame, nothing lost to kill -9;
chunks of 16 and 64 KiB with zstd are four times as small, but cost 24 and 21 µs and lost up to 5 and 26 frames.) A power
cut takes what the system had not written to the disk: `sync` waits for that.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import mcap.records
import msgspec
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.writer import MCAP0_MAGIC, Writer

from ledvolume import __version__
from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError, OutputError
from ledvolume.protocols import PROTOCOLS, Reading, checked_profile
from ledvolume.protocols.osc_map import as_map
from ledvolume.sources import Datagram

DATAGRAMS, SAMPLES = "/datagrams/", "/samples/"
FORMAT = "1"  # of the metadata `take`: of the takes of shows (take.py)
BYTES, TOML = "application/octet-stream", "application/toml"
LARGEST_RECORD = 1 << 30  # a file that is attached; a datagram has 64 KiB

_RECORD = struct.Struct("<BQ")
_SAMPLE = msgspec.json.Decoder(CameraSample)


class Channel(msgspec.Struct, frozen=True):
    """Messages of one kind: where they belong, how they are encoded, what is fixed about them."""

    topic: str
    encoding: str
    metadata: dict[str, str] = {}


class Message(msgspec.Struct, frozen=True):
    """One message of a channel."""

    channel: Channel
    log_time_ns: int
    publish_time_ns: int
    data: bytes


class Attachment(msgspec.Struct, frozen=True):
    """A file that lies in the take."""

    name: str
    media_type: str
    data: bytes


class Metadata(msgspec.Struct, frozen=True):
    """Facts by name."""

    name: str
    values: dict[str, str]


class RecordedSource(msgspec.Struct, frozen=True):
    """Where the datagrams of a channel came from, and how they were read."""

    uri: str
    protocol: str
    reading: Reading


class TakeWriter:
    """Writes a new take. Call `flush` once a frame or a drain; `close` completes the file. Raises OutputError."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            self._file = open(self.path, "xb", buffering=0)
        except FileExistsError:
            raise ConfigError(path, "take", "a new file: no take is ever written over", "a file that is there") from None
        except OSError as error:
            raise ConfigError(path, "take", "a file that can be written", error.strerror) from None
        self._pending = bytearray()
        self._flushed_bytes = 0
        self._samples: dict[str, int] = {}
        self._sources = 0
        self._mcap = Writer(self, use_chunking=False)
        self._mcap.start("ledvolume", f"ledvolume {__version__}")
        self.metadata("ledvolume", {"version": __version__})

    @property
    def bytes_written(self) -> int:
        """All so far, flushed or not."""
        return self._flushed_bytes + len(self._pending)

    def source(self, uri: str, protocol: str, reading: Reading = Reading()) -> int:
        """A channel for the datagrams of one source; its number is for `datagram`."""
        facts = {"uri": uri, "protocol": protocol, "reading": reading_to_json(reading)}
        self._sources += 1
        return self.channel(f"{DATAGRAMS}{self._sources - 1}", BYTES, facts)

    def datagram(self, source: int, datagram: Datagram) -> None:
        """Exactly what the socket gave."""
        self.message(source, datagram.payload, datagram.received_at_ns)

    def sample(self, sample: CameraSample) -> None:
        """A sample, on the channel of its camera."""
        if sample.camera_id not in self._samples:
            topic = f"{SAMPLES}{sample.camera_id}"
            self._samples[sample.camera_id] = self.channel(topic, "json", schema=("CameraSample", _sample_schema()))
        channel = self._samples[sample.camera_id]
        self.message(channel, msgspec.json.encode(sample), sample.received_at_ns, sample.captured_at_ns)

    def channel(
        self, topic: str, encoding: str, metadata: dict[str, str] | None = None, schema: tuple[str, bytes] | None = None
    ) -> int:
        """Any other kind of message. schema: (name, JSON schema)."""
        schema_id = self._mcap.register_schema(schema[0], "jsonschema", schema[1]) if schema else 0
        return self._mcap.register_channel(topic, encoding, schema_id, metadata or {})

    def message(self, channel: int, data: bytes, log_time_ns: int, publish_time_ns: int | None = None) -> None:
        """One message of a channel. MCAP's times begin in 1970 and are not negative."""
        publish_time_ns = log_time_ns if publish_time_ns is None else publish_time_ns
        self._mcap.add_message(channel, max(log_time_ns, 0), data, max(publish_time_ns, 0))

    def attach(self, name: str, data: bytes, media_type: str, at_ns: int = 0) -> None:
        """A file."""
        self._mcap.add_attachment(at_ns, at_ns, name, media_type, data)

    def show(self, path: Path, toml: bytes, files: dict[str, bytes]) -> None:
        """The show that all this is of. files: those that it names and that are to be here, by these names."""
        self.metadata("show", {"name": path.name, "folder": str(path.parent)})
        self.attach(path.name, toml, TOML)
        for name, data in files.items():
            self.attach(name, data, BYTES)

    def metadata(self, name: str, values: dict[str, str]) -> None:
        """Facts by name."""
        self._mcap.add_metadata(name, values)

    def write(self, data: bytes) -> int:
        """For the MCAP library, which writes to a stream."""
        self._pending += data
        return len(data)

    def tell(self) -> int:
        """For the MCAP library."""
        return self.bytes_written

    def flush(self) -> None:
        """Hand everything to the operating system: from here on it outlives this process."""
        while self._pending:
            try:
                written = self._file.write(self._pending)
            except OSError as error:
                text = f"{self.path}: {error.strerror} after {self._flushed_bytes} bytes: what is there can be read"
                raise OutputError(text) from None
            del self._pending[:written]
            self._flushed_bytes += written

    def sync(self) -> None:
        """Wait until everything is on the disk, where a power cut does not reach it."""
        self.flush()
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}: the disk may have lost what was written") from None

    def close(self) -> None:
        """Complete the file with its summary. A take without one can be read as well."""
        if self._file.closed:
            return
        try:
            self._mcap.finish()
            self.flush()
        finally:
            self._file.close()


class TakeReader:
    """Reads a take, also one that was cut off anywhere: up to its last whole record.

    A take of a show whose format is not known here is refused by `records`, whatever it is read for: what lies in it may mean
    another thing there.
    After `records` has ended: is_complete, the file was closed by its writer; lost_bytes at its end could not be read, and
    why is in `trouble`. read_bytes of size_bytes tells how far it is. channels: by their number in the file, so far.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.is_complete = False
        self.trouble = ""
        self.channels: dict[int, Channel] = {}
        try:
            self.size_bytes = self.path.stat().st_size
            with open(self.path, "rb") as file:
                magic = file.read(len(MCAP0_MAGIC))
        except OSError as error:
            raise ConfigError(path, "take", "a file that can be read", error.strerror) from None
        if magic != MCAP0_MAGIC:
            raise ConfigError(path, "take", "an MCAP file, which begins with 89 4D 43 41 50", magic.hex(" ") or "an empty file")
        self.read_bytes = len(MCAP0_MAGIC)

    @property
    def lost_bytes(self) -> int:
        return self.size_bytes - self.read_bytes

    def records(self) -> Iterator[Message | Attachment | Metadata]:
        """In the order of the file, which is the order in which they were written. Raises ConfigError for lack of a codec, and
        for a take of another FORMAT."""
        self.is_complete, self.trouble, self.read_bytes = False, "", len(MCAP0_MAGIC)
        known = self.channels = {}
        with open(self.path, "rb") as file:
            file.seek(self.read_bytes)
            while not self.is_complete and not self.trouble:
                kind, body = self._next_record(file)
                try:
                    found = [] if self.trouble else list(self._read(kind, body, known))
                except (McapError, ValueError, OverflowError, struct.error) as error:  # UnicodeDecodeError is a ValueError
                    self.trouble, found = f"a damaged record: {error or type(error).__name__}", []
                if not self.trouble:
                    self.read_bytes = file.tell()
                yield from found

    def _next_record(self, file) -> tuple[int, bytes]:
        head = file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            self.trouble = "cut off in a record" if head else "not closed by its writer"
            return 0, b""
        kind, length = _RECORD.unpack(head)
        left = self.size_bytes - file.tell()
        if kind == 0 or (length > LARGEST_RECORD and length <= left):
            self.trouble = "damaged: no record begins where one should"
        elif length > left or len(body := file.read(length)) < length:
            self.trouble = "cut off in a record"
        elif kind == Opcode.FOOTER:
            self.is_complete = file.read(len(MCAP0_MAGIC)) == MCAP0_MAGIC
            self.trouble = "" if self.is_complete else "cut off at its end"
        return (0, b"") if self.trouble else (kind, body)

    def _read(self, kind: int, body: bytes, known: dict[int, Channel]) -> Iterator[Message | Attachment | Metadata]:
        stream = ReadDataStream(BytesIO(body))
        if kind == Opcode.MESSAGE:
            message = mcap.records.Message.read(stream, len(body))
            if message.channel_id in known:
                channel = known[message.channel_id]
                yield Message(channel, message.log_time, message.publish_time, message.data)
        elif kind == Opcode.CHANNEL:
            channel = mcap.records.Channel.read(stream)
            known[channel.id] = Channel(channel.topic, channel.message_encoding, channel.metadata)
        elif kind == Opcode.METADATA:
            metadata = mcap.records.Metadata.read(stream)
            if metadata.name == "take" and (format := metadata.metadata.get("format", FORMAT)) != FORMAT:
                raise ConfigError(self.path, "take: format", f"{FORMAT}: this version of ledvolume reads no other", format)
            yield Metadata(metadata.name, metadata.metadata)
        elif kind == Opcode.ATTACHMENT:
            attachment = mcap.records.Attachment.read(stream)
            yield Attachment(attachment.name, attachment.media_type, attachment.data)
        elif kind == Opcode.CHUNK:
            data = _unpacked(mcap.records.Chunk.read(stream), self.path)
            at = 0
            while at < len(data):
                inner, length = _RECORD.unpack_from(data, at)
                at += _RECORD.size + length
                if at > len(data):
                    raise ValueError("a chunk ends within a record")
                yield from self._read(inner, data[at - length : at], known)


def source_of(channel: Channel, path: Path | str = "take") -> RecordedSource:
    """What the metadata of a channel of datagrams say. Raises ConfigError."""
    uri, protocol = channel.metadata.get("uri", ""), channel.metadata.get("protocol", "")
    key = channel.topic
    if protocol not in PROTOCOLS:
        raise ConfigError(path, f"{key}: protocol", f"one of {', '.join(PROTOCOLS)}", protocol)
    return RecordedSource(uri, protocol, reading_from_json(channel.metadata.get("reading", "{}"), protocol, str(path), key))


def sample_of(message: Message) -> CameraSample:
    """The sample that a message of /samples is. Raises msgspec.ValidationError and DecodeError."""
    return _SAMPLE.decode(message.data)


def reading_to_json(reading: Reading) -> str:
    """All that is said in a reading; its profile with every key."""
    said = {name: getattr(reading, name) for name in reading.__struct_fields__ if getattr(reading, name) is not None}
    return msgspec.json.encode(said).decode()


def reading_from_json(text: str, protocol: str, file: str, key: str) -> Reading:
    """The inverse, checked. Raises ConfigError."""
    try:
        said = msgspec.json.decode(text, type=dict)
        osc_map, profile = said.pop("osc_map", None), said.pop("profile", None)
        reading = msgspec.convert(said, _PlainReading)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ConfigError(file, f"{key}: reading", "a reading as JSON", str(error)) from None
    return Reading(
        osc_map=None if osc_map is None else as_map(osc_map, file),
        profile=None if profile is None else checked_profile(protocol, profile, file, f"{key}: profile"),
        **msgspec.structs.asdict(reading),
    )


# Reading without osc_map and profile, whose tables are checked by their protocols
_PlainReading = msgspec.defstruct(
    "_PlainReading",
    [(f.name, f.type, None) for f in msgspec.structs.fields(Reading) if f.name not in ("osc_map", "profile")],
    forbid_unknown_fields=True,
)


def _sample_schema() -> bytes:
    """JSON schema of a CameraSample as viewers understand it: parts in place of references, and vectors as lists of numbers
    instead of prefixItems, which came with JSON schema 2020-12."""
    schema = msgspec.json.schema(CameraSample)
    parts = schema.pop("$defs")

    def in_place(node):
        if isinstance(node, dict):
            node = parts[node["$ref"].rpartition("/")[2]] if "$ref" in node else dict(node)
            if "prefixItems" in node:
                node["items"] = node.pop("prefixItems")[0]
            return {key: in_place(value) for key, value in node.items()}
        return [in_place(value) for value in node] if isinstance(node, list) else node

    return msgspec.json.encode(in_place(schema))


def _unpacked(chunk: mcap.records.Chunk, path: Path) -> bytes:
    size = chunk.uncompressed_size
    if size > LARGEST_RECORD:
        raise ValueError(f"a chunk of {size} bytes")
    if chunk.compression == "":
        data = chunk.data
    elif chunk.compression == "zstd":
        import zstandard

        try:
            data = zstandard.ZstdDecompressor().stream_reader(chunk.data).read(size + 1)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
    elif chunk.compression == "lz4":
        import lz4.frame

        try:
            data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    else:
        raise ConfigError(path, "chunk", "no compression, zstd or lz4", chunk.compression)
    if len(data) != size or (chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc):
        raise ValueError("a chunk that does not add up")
    return data
