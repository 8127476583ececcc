"""PosiStageNet 2.03 over UDP, usually multicast to 236.10.10.10:56565: trackers with position and orientation, no lens.

A packet is a tree of chunks, little-endian: u16 id, u15 length and a bit for "has sub-chunks", then the data. Chunks that
are not known are passed over, and of ones longer than known the beginning is read, as the standard wants. Every packet is
read as it comes: frames of several packets hold each tracker once.

    DATA 6755: 0 header, 1 trackers → id → 0 position, 2 orientation (axis times radians), 3 validity, 6 stamp (µs)
    INFO 6756: 0 header, 1 name of the system, 2 trackers → id → 0 name

Axes are x right, y up, z depth, left-handed, unless a profile says otherwise: `profile = {axes = "x -z y"}`, our x, y, z in
the sender's axes, - for the other way. A turn about an axis in left-handed axes is one about the mirrored axis, the other
way round: PSN's + about y (up) is to the right, our pan to the right is -.

A camera's id is the tracker's number ("3"), from the first packet on: its name is known a second later at the earliest,
and an id that changes would be another camera. The name is in `status`. `profile = {camera_id = "name"}` waits for names.
"""

import math
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.pose import Pose, from_rotation_vector, rotation_vector
from ledvolume.protocols.axes import named_axes
from ledvolume.protocols.decoder import LONGEST_NAME, Decoder, NotForUs, checked
from ledvolume.sources import Datagram

DATA, INFO = 0x6755, 0x6756
VERSION_1 = {0x6754: "PSN 1 data", 0x503C: "PSN 1 info"}
VERSION = (2, 3)
POSITION, ORIENTATION, VALIDITY, STAMP = 0, 2, 3, 6
MOST_NAMES = 1024
LARGEST_TURN_RAD = 1e4
INFO_EVERY_NS = 1_000_000_000
LATEST_US = (1 << 63) // 1000

_HEADER = struct.Struct("<QBBBB")
_VECTOR = struct.Struct("<3f")
_CHUNK = struct.Struct("<HH")


class PsnProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """axes: our x, y, z (right, forward, up) in the sender's. camera_id: what tells cameras apart."""

    axes: str = "x z y"
    camera_id: Literal["number", "name"] = "number"


def as_profile(profile: dict | PsnProfile | None, file: str = "psn", key: str = "profile") -> PsnProfile:
    """A profile from a table of a show file, checked. Raises ConfigError."""
    if not isinstance(profile, PsnProfile):
        try:
            profile = msgspec.convert({} if profile is None else profile, PsnProfile)
        except msgspec.ValidationError as error:
            expected = f"a table with axes, camera_id (docs/tracking.md): {error}"
            raise ConfigError(file, key, expected, profile) from None
    named_axes(profile.axes, file, f"{key}.axes")
    return profile


def decoder(profile: dict | PsnProfile | None = None) -> Decoder:
    """A decoder of all trackers that a server sends."""
    reader = _Reader(as_profile(profile))
    found = Decoder("psn", messages_in, reader.sample_of)
    reader.flag = found.flag
    return found


def encoder(profile: dict | PsnProfile | None = None):
    """A reference sender: a DATA packet each sample, INFO with the names once a second of stamps.

    It counts time from a second before its first sample, as a server does from its start. A camera id that is a number is
    the tracker's; others get the lowest free from 1 on, and their id as the tracker's name.
    """
    return _Sender(as_profile(profile)).datagrams


class Message(NamedTuple):
    """One tracker of a packet, not read yet. broken: why nothing can be read here; no exception, because one that lies in
    what its own frame has made is a cycle, and the server runs without the garbage collector."""

    packet: int
    tracker: int = 0
    data: bytes = b""
    stamped_us: int = 0
    broken: str = ""


def messages_in(payload: bytes) -> list[Message]:
    """The trackers of a packet. A broken one hides none of those before it."""
    packet, data = _one_packet(payload)
    if packet not in (DATA, INFO):
        return [Message(packet)]
    stamped_us, trackers = None, b""
    for kind, chunk in _chunks(data, payload):
        if kind == 0:
            stamped_us = _stamped_us(chunk, payload)
        elif kind == (1 if packet == DATA else 2):
            trackers += chunk
    if stamped_us is None:
        raise ProtocolError("psn", "no-header", "expected a header in the packet", payload)
    messages = []
    try:
        for tracker, chunk in _chunks(trackers, payload):
            messages.append(Message(packet, tracker, chunk, stamped_us))
    except ProtocolError as error:
        messages.append(Message(packet, broken=error.message))
    return messages or [Message(packet, tracker=-1)]


def _one_packet(payload: bytes) -> tuple[int, bytes]:
    if len(payload) < _CHUNK.size:
        raise ProtocolError("psn", "truncated", f"expected a chunk's header of 4 bytes, got {len(payload)}", payload)
    packet, _ = _CHUNK.unpack_from(payload)
    if packet in VERSION_1:
        return packet, b""
    if packet not in (DATA, INFO):
        text = f"expected a packet {DATA:04X} or {INFO:04X}, got {packet:04X}: does another program send here?"
        raise ProtocolError("psn", "not-psn", text, payload)
    return next(_chunks(payload, payload))


def _chunks(data: bytes, payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if at + _CHUNK.size > len(data):
            raise ProtocolError("psn", "truncated", f"{len(data) - at} bytes where a chunk should begin", payload)
        kind, length = _CHUNK.unpack_from(data, at)
        start, length = at + _CHUNK.size, length & 0x7FFF
        at = start + length
        if at > len(data):
            raise ProtocolError("psn", "truncated", f"chunk {kind:04X} of {length} bytes, {len(data) - start} left", payload)
        yield kind, data[start:at]


def _stamped_us(header: bytes, payload: bytes) -> int:
    if len(header) < _HEADER.size:
        raise ProtocolError("psn", "truncated", f"expected a header of {_HEADER.size} bytes, got {len(header)}", payload)
    stamped_us, major, minor, _, _ = _HEADER.unpack_from(header)
    if major != VERSION[0]:
        raise ProtocolError("psn", "bad-version", f"expected version 2, got {major}.{minor}", payload)
    return stamped_us


class _Reader:
    """Messages to samples. Remembers the names of trackers."""

    def __init__(self, profile: PsnProfile):
        self._axes = named_axes(profile.axes, "psn", "profile.axes")
        self._by_name = profile.camera_id == "name"
        self._names: dict[int, str] = {}

    def flag(self, kind: str, text: str) -> None:
        """Set by `decoder` to what counts it."""

    def sample_of(self, message: Message, datagram: Datagram) -> CameraSample | None:
        """A sample of a tracker; None of its name."""
        if message.broken:
            raise ProtocolError("psn", "truncated", message.broken, datagram.payload)
        if message.packet in VERSION_1:
            raise NotForUs(VERSION_1[message.packet])
        if message.tracker < 0:
            raise NotForUs("no trackers")
        payload = datagram.payload
        chunks = dict(_chunks(message.data, payload))
        if message.packet == INFO:
            return self._learn(message.tracker, chunks, payload)
        validity = self._validity(message.tracker, chunks, payload)
        if ORIENTATION not in chunks:
            raise NotForUs(f"tracker {message.tracker}: position only")
        position = _vector(chunks[POSITION], "position", payload)
        turn = _vector(chunks[ORIENTATION], "orientation", payload)
        if not all(map(math.isfinite, position + turn)):
            text = f"tracker {message.tracker}: position {position}, orientation {turn}: has the tracker lost it?"
            raise ProtocolError("psn", "not-finite", text, payload)
        if math.hypot(*turn) > LARGEST_TURN_RAD:
            text = f"tracker {message.tracker}: orientation {turn}: expected an axis times radians"
            raise ProtocolError("psn", "bad-orientation", text, payload)
        if math.hypot(*turn) > math.tau:
            self.flag("more-than-a-turn", f"tracker {message.tracker}: orientation {turn} rad: are these degrees?")
        name = self._names.get(message.tracker, "")
        if self._by_name and not name:
            raise NotForUs(f"tracker {message.tracker}: no name yet")
        sample = CameraSample(
            name if self._by_name else str(message.tracker),
            datagram.received_at_ns,
            datagram.received_at_ns,
            Pose(from_rotation_vector(self._axes.turn_ours(turn)), self._axes.ours(position)),
            status=", ".join(filter(None, (name, "" if validity is None else f"validity {validity:.3g}"))),
            stamped_at_ns=1000 * _stamp_us(chunks, message.stamped_us, payload),
        )
        return checked(sample, "psn", payload)

    def _learn(self, tracker: int, chunks: dict[int, bytes], payload: bytes) -> None:
        try:
            name = chunks.get(0, b"").rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise ProtocolError("psn", "bad-name", f"tracker {tracker}: expected UTF-8, got {chunks[0]!r}", payload) from None
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
            text = f"tracker {tracker}: expected 1 to {LONGEST_NAME} printable characters, got {name[:80]!r}"
            raise ProtocolError("psn", "bad-name", text, payload)
        if tracker in self._names or len(self._names) < MOST_NAMES:
            self._names[tracker] = name

    def _validity(self, tracker: int, chunks: dict[int, bytes], payload: bytes) -> float | None:
        if POSITION not in chunks:
            raise ProtocolError("psn", "no-position", f"tracker {tracker} without a position: is it lost?", payload)
        if VALIDITY not in chunks:
            return None
        if len(chunks[VALIDITY]) < 4:
            raise ProtocolError("psn", "truncated", f"expected a validity of 4 bytes, got {len(chunks[VALIDITY])}", payload)
        [validity] = struct.unpack_from("<f", chunks[VALIDITY])
        if not 0 < validity < math.inf:
            raise ProtocolError("psn", "not-tracked", f"tracker {tracker}: validity {validity:g}, it is lost", payload)
        return validity


def _vector(chunk: bytes, name: str, payload: bytes) -> tuple[float, float, float]:
    if len(chunk) < _VECTOR.size:
        raise ProtocolError("psn", "truncated", f"expected {name} of {_VECTOR.size} bytes, got {len(chunk)}", payload)
    return _VECTOR.unpack_from(chunk)


def _stamp_us(chunks: dict[int, bytes], of_packet_us: int, payload: bytes) -> int:
    """The tracker's own, else the packet's: both count from the server's start."""
    chunk = chunks.get(STAMP, b"")
    if STAMP in chunks and len(chunk) < 8:
        raise ProtocolError("psn", "truncated", f"expected a stamp of 8 bytes, got {len(chunk)}", payload)
    stamped_us = int.from_bytes(chunk[:8], "little") or of_packet_us
    if stamped_us >= LATEST_US:
        raise ProtocolError("psn", "bad-stamp", f"{stamped_us} µs since the server was started", payload)
    return stamped_us


class _Sender:
    def __init__(self, profile: PsnProfile):
        self._axes = named_axes(profile.axes, "psn", "profile.axes")
        self._trackers: dict[str, int] = {}
        self._started_ns: int | None = None
        self._told_at_ns: dict[int, int] = {}
        self._frames = {DATA: 0, INFO: 0}

    def datagrams(self, sample: CameraSample) -> list[bytes]:
        """INFO where it is due, then DATA."""
        tracker = self._tracker(sample.camera_id)
        stamp_ns = sample.stamped_at_ns or sample.captured_at_ns
        if self._started_ns is None or stamp_ns < self._started_ns:
            self._started_ns = stamp_ns - 1_000_000_000
        since_us = (stamp_ns - self._started_ns) // 1000
        pose, out = sample.world_from_tracker, []
        told_at_ns = self._told_at_ns.get(tracker)
        if told_at_ns is None or not 0 <= stamp_ns - told_at_ns < INFO_EVERY_NS:
            self._told_at_ns[tracker] = stamp_ns
            name = _chunk(tracker, _chunk(0, sample.camera_id.encode()), True)
            out.append(self._packet(INFO, since_us, _chunk(1, b"ledvolume") + _chunk(2, name, True)))
        turn = self._axes.turn_theirs(rotation_vector(pose.wxyz))
        fields = _chunk(POSITION, _VECTOR.pack(*self._axes.theirs(pose.position_m)))
        fields += _chunk(ORIENTATION, _VECTOR.pack(*turn))
        fields += _chunk(VALIDITY, struct.pack("<f", 1.0)) + _chunk(STAMP, struct.pack("<Q", since_us))
        out.append(self._packet(DATA, since_us, _chunk(1, _chunk(tracker, fields, True), True)))
        return out

    def _packet(self, packet: int, since_us: int, data: bytes) -> bytes:
        header = _HEADER.pack(since_us, *VERSION, self._frames[packet], 1)
        self._frames[packet] = (self._frames[packet] + 1) % 256
        return _chunk(packet, _chunk(0, header) + data, True)

    def _tracker(self, camera_id: str) -> int:
        if camera_id not in self._trackers:
            taken = self._trackers.values()
            own = int(camera_id) if camera_id.isascii() and camera_id.isdecimal() and len(camera_id) < 5 else MOST_NAMES
            free = (n for n in range(1, MOST_NAMES) if n not in taken)
            number = own if own < MOST_NAMES and own not in taken else next(free, None)
            if number is None:
                raise ConfigError("psn", "cameras", f"at most {MOST_NAMES}", camera_id)
            self._trackers[camera_id] = number
        return self._trackers[camera_id]


def _chunk(kind: int, data: bytes, has_chunks: bool = False) -> bytes:
    return _CHUNK.pack(kind, len(data) | has_chunks << 15) + data
