"""A take of a show: what `serve --record` writes, and what replay reads back. The file itself is recording.py's.

    metadata take           format, slate, name of the show, keys of it that were given otherwise, rate, tiles, driver
    metadata scene/PLACE    file, sha256
    the show                as recording.py has it, with the lens tables and wall maps that it names
    /datagrams/N            those that a frame was decided by lie before its record
    /frames                 a FrameRecord as msgpack, written when the outputs had the frame; log time = presented

A frame is a function of its request, and the request one of the datagrams before it, so a take holds all that is needed
to make every frame again. The sums of datagrams and tiles say where two runs part (take_check.py).
"""

import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import msgspec

from ledvolume.config import Show, read_show
from ledvolume.errors import ConfigError, OutputError, SceneError
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs.wire import crc32
from ledvolume.recording import (
    DATAGRAMS,
    FORMAT,
    TOML,
    Attachment,
    Metadata,
    TakeReader,
    TakeWriter,
    source_of,
)
from ledvolume.schedule import Inputs
from ledvolume.sources import Datagram

FRAMES = "/frames"


class FrameRecord(msgspec.Struct, frozen=True):
    """One frame of a take. sent_at_ns: when the outputs had it. datagrams: CRC-32 of each payload that came since the frame
    before; tiles: of each tile's code values, in the show's order."""

    request: FrameRequest
    sent_at_ns: int
    datagrams: list[int]
    tiles: list[int]

    @property
    def is_late(self) -> bool:
        return self.sent_at_ns > self.request.present_at_ns


_encode = msgspec.msgpack.Encoder().encode
_RECORD = msgspec.msgpack.Decoder(FrameRecord)


class ShowRecorder:
    """Writes the take of a running show, once a frame; what was written outlives the process.

    A disk that is full stops the recording, which is said, and not the show. Raises ConfigError, SceneError at the start.
    """

    def __init__(self, path: Path, show: Show, inputs: Inputs, driver: str, slate: str = "", warn: Callable[[str], None] = print):
        self.path, self.frames, self.trouble = path, 0, ""
        self._inputs, self._warn = inputs, warn
        sums = {name: sha256(place.file) for name, place in show.places.items()}
        self._writer = TakeWriter(path)
        self._writer.metadata("take", _facts(show, driver, slate))
        self._writer.show(show.file, show.toml, show.files)
        for name, place in show.places.items():
            self._writer.metadata(f"scene/{name}", {"file": str(place.file), "sha256": sums[name]})
        self._channels = [
            self._writer.source(spec.uri, source.protocol, spec.reading)
            for spec, (source, _) in zip(show.sources, inputs.sources)
        ]
        self._channel = self._writer.channel(FRAMES, "msgpack")
        inputs.recorded = []
        self._flush_or_stop()

    def frame(self, frame: Frame, sent_at_ns: int) -> None:
        """A frame was sent: the datagrams since the last one, then its record."""
        if self.trouble:
            return
        arrived, self._inputs.recorded = self._inputs.recorded, []
        for source, datagram in arrived:
            self._writer.datagram(self._channels[source], datagram)
        sums = [crc32(datagram.payload) for _, datagram in arrived]
        record = FrameRecord(frame.request, sent_at_ns, sums, [crc32(image) for image in frame.images.values()])
        self._writer.message(self._channel, _encode(record), frame.request.present_at_ns, sent_at_ns)
        self.frames += self._flush_or_stop()

    def close(self) -> None:
        """Complete the file."""
        self._inputs.recorded = None
        if not self.trouble:
            self._flush_or_stop(self._writer.close)

    def summary(self) -> dict:
        """For the status file."""
        return {"take": str(self.path), "frames_recorded": self.frames, "recording_stopped": self.trouble or None}

    def _flush_or_stop(self, write: Callable[[], None] | None = None) -> bool:
        try:
            (write or self._writer.flush)()
        except OutputError as error:
            self.trouble, self._inputs.recorded = str(error), None
            self._warn(f"RECORDING STOPPED after {self.frames} frames, the show goes on: {error}")
            return False
        return True


class TakenFrame(msgspec.Struct, frozen=True):
    """A frame of a take with the datagrams that it was decided by: (number of the source, datagram)."""

    record: FrameRecord
    datagrams: list[tuple[int, Datagram]]


class Take:
    """A take as it is read. Facts are there at once, frames by iterating; what is known after that: lost_bytes, trouble.

    Raises ConfigError for files that are no takes of a show, and of a format that is not known here.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._reader = TakeReader(path)
        self.show_file, self.toml, self.files = Path(), b"", {}
        self.scenes: dict[str, dict[str, str]] = {}
        facts: dict[str, str] = {}
        for record in self._reader.records():
            if isinstance(record, Attachment):
                if record.media_type == TOML and not self.toml:
                    self.toml = record.data
                else:
                    self.files[record.name] = record.data
            elif not isinstance(record, Metadata):
                break
            elif record.name == "take":
                facts = record.values
            elif record.name == "show":
                self.show_file = Path(record.values["folder"]) / record.values["name"]
            elif record.name.startswith("scene/"):
                self.scenes[record.name.removeprefix("scene/")] = record.values
        trouble = f"a file that is {self.trouble}" if self.trouble else ""
        if "format" not in facts:
            expected = "a take of a show, as `ledvolume serve --record` writes it"
            other = "a recording of other things (`ledvolume convert` reads its track)"
            raise ConfigError(path, "take", expected, trouble or other)
        if not self.toml:
            raise ConfigError(path, "take", "a show in it", trouble or "a file without one")
        self.facts = facts
        channels = [channel for channel in self._reader.channels.values() if channel.topic.startswith(DATAGRAMS)]
        self.sources = [source_of(channel, self.path) for channel in channels]

    @property
    def instead(self) -> dict:
        """Keys of the show's top level that were given otherwise when it ran."""
        return msgspec.json.decode(self.facts["instead"])

    @property
    def tiles(self) -> list[str]:
        """Names, in the order of FrameRecord.tiles."""
        return msgspec.json.decode(self.facts["tiles"])

    @property
    def lost_bytes(self) -> int:
        return self._reader.lost_bytes

    @property
    def trouble(self) -> str:
        """Why the file ends where it does; empty for one that was closed by its writer."""
        return self._reader.trouble

    def show(self, scenes: dict[str, str] | None = None) -> Show:
        """The show that ran. scenes: place → where its file lies here. Raises ConfigError, SceneError (missing, or another)."""
        show = read_show(self.show_file, self.toml, self.files, **self.instead)
        places = {}
        for name, place in show.places.items():
            file = Path((scenes or {}).get(name, place.file))
            recorded = self.scenes.get(name, {})
            _check_scene(self.path, name, file, recorded.get("sha256", ""))
            places[name] = msgspec.structs.replace(place, file=file)
        return msgspec.structs.replace(show, places=places)

    def frames(self) -> Iterator[TakenFrame]:
        """In the order in which they were shown; a frame whose record was cut off is not there."""
        datagrams: list[tuple[int, Datagram]] = []
        for message in self._reader.records():
            if isinstance(message, Attachment | Metadata):
                continue
            topic = message.channel.topic
            if topic.startswith(DATAGRAMS):
                number = int(topic.removeprefix(DATAGRAMS))
                datagrams.append((number, Datagram(self.sources[number].uri, message.data, message.log_time_ns)))
            elif topic == FRAMES:
                try:
                    record = _RECORD.decode(message.data)
                except msgspec.MsgspecError as error:
                    raise ConfigError(self.path, FRAMES, "records of frames", str(error)) from None
                yield TakenFrame(record, datagrams)
                datagrams = []


class Summary(msgspec.Struct, frozen=True):
    """A take in numbers. frames_lost: in which tracking was held or lost. timecode: of its first frame. trouble: why it ends
    where it does, if its writer did not close it; lost_bytes: at its end, that could not be read."""

    slate: str
    timecode: str
    began_at_ns: int
    seconds: float
    frames: int
    frames_late: int
    frames_skipped: int
    frames_lost: int
    datagrams: int
    bytes: int
    lost_bytes: int
    trouble: str


def summary_of(take: Take) -> Summary:
    """Reads the whole take."""
    first = last = None
    frames = late = lost = datagrams = 0
    for frame in take.frames():
        last = frame.record
        first = first or last
        frames += 1
        late += last.is_late
        lost += last.request.camera.tracking in ("held", "lost")
        datagrams += len(frame.datagrams)
    span = last.request.index - first.request.index + 1 if first else 0
    return Summary(
        slate=take.facts["slate"],
        timecode=first.request.timecode if first else "",
        began_at_ns=first.request.present_at_ns if first else 0,
        seconds=round(float(span / Fraction(take.facts["rate"])), 3),
        frames=frames,
        frames_late=late,
        frames_skipped=span - frames,
        frames_lost=lost,
        datagrams=datagrams,
        bytes=take.path.stat().st_size,
        lost_bytes=take.lost_bytes,
        trouble=take.trouble,
    )


def sha256(file: Path) -> str:
    """Of a file's bytes, in hex. Raises SceneError."""
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise SceneError(f"{file}: cannot be read: {error.strerror}") from error


def _facts(show: Show, driver: str, slate: str) -> dict[str, str]:
    return {
        "format": FORMAT,
        "slate": slate,
        "show": show.name,
        "instead": msgspec.json.encode(show.instead).decode(),
        "rate": str(show.rate),
        "lead_ns": str(show.lead_ns),
        "tiles": msgspec.json.encode([tile.name for tile in show.stage.tiles]).decode(),
        "driver": driver,
    }


def another_scene(take: Path, file: Path, recorded: str) -> str:
    """What to say of a scene file that has not the SHA-256 which was recorded; "" if it has. Raises SceneError."""
    if (found := sha256(file)) == recorded:
        return ""
    return f"{file}: another scene than the one that {take} was made with: expected sha256 {recorded[:16]}…, got {found[:16]}…"


def _check_scene(take: Path, place: str, file: Path, recorded: str) -> None:
    hint = f"name it with --scene {place}=FILE"
    if not file.is_file():
        raise SceneError(f"{take}: the scene of {place} is not at {file}: {hint}")
    if words := another_scene(take, file, recorded):
        raise SceneError(f"{words}; {hint}")
