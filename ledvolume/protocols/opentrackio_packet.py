"""OpenTrackIO's packets: a header of 16 bytes, a payload or a segment of one, a Fletcher-16 checksum. Big-endian.

    0  "OTrk"            8  offset of this segment in the payload, u32
    4  reserved         12  bit 15: the last segment; bits 14–0: bytes of payload in this packet
    5  encoding         14  checksum of bytes 0–13 and the payload
    6  sequence, u16    16  payload

Source: SMPTE RIS-OSVP, OpenTrackIO 1.0.1 § "Packet structure". 1.0.0 has the same header, but takes its checksum modulo
255 instead of 256 (camdkit's change log), so both are understood.

A segment does not say whose it is or how many there are, and senders disagree: the reference sender numbers every packet,
others give all segments of a payload one number. Segments belong together if their offsets and numbers fit.
"""

import struct
from bisect import bisect
from functools import cache
from typing import NamedTuple

import numpy as np

from ledvolume.errors import ProtocolError

JSON, CBOR, FIRST_OF_VENDORS = 1, 2, 0x80
IDENTIFIER = b"OTrk"
LONGEST_SEGMENT = 1456  # an Ethernet frame's 1500 bytes less IP, UDP and our header: no packet is cut up on its way
LARGEST_PAYLOAD = 65_536  # a full sample is 5 kB
MOST_SEGMENTS = 64  # of one payload
MOST_PARTIAL = 16
SEGMENT_WINDOW_NS = 200_000_000

_HEADER = struct.Struct(">4sBBHIHH")


class Packet(NamedTuple):
    """A packet whose checksum is right. framing: the version whose checksum it is, where they differ; "": no header."""

    encoding: int
    sequence: int
    offset: int
    is_last: bool
    payload: bytes
    framing: str = "1.0.1"


def fletcher16(data: bytes, modulus: int = 256) -> int:
    """sum2 << 8 | sum1, where sum1 is the sum of the bytes and sum2 that of all sum1 on the way."""
    sum1, sum2 = _sums(data)
    return sum2 % modulus << 8 | sum1 % modulus


def packet_of(datagram: bytes) -> Packet:
    """The packet in a datagram; JSON without a header is one too. Raises ProtocolError."""
    if not datagram.startswith(IDENTIFIER):
        if datagram[:64].lstrip()[:1] == b"{":
            return Packet(JSON, 0, 0, True, datagram, "")
        if not datagram:
            _refuse("empty", "a datagram without any bytes", datagram)
        _refuse("not-opentrackio", f"expected OTrk or JSON first, got {datagram[:8]!r}", datagram)
    if len(datagram) < _HEADER.size:
        _refuse("truncated", f"expected a header of {_HEADER.size} bytes, got {len(datagram)}", datagram)
    _, _, encoding, sequence, offset, last_and_length, checksum = _HEADER.unpack_from(datagram)
    payload, length = datagram[_HEADER.size :], last_and_length & 0x7FFF
    if len(payload) != length:
        reason = "truncated" if len(payload) < length else "bad-length"
        _refuse(reason, f"expected {length} bytes of payload, got {len(payload)}", datagram)
    sum1, sum2 = _sums(datagram[:14] + payload)
    if checksum == sum2 % 256 << 8 | sum1 % 256:
        framing = "1.0.1"
    elif checksum == sum2 % 255 << 8 | sum1 % 255:
        framing = "1.0.0"
    else:
        _refuse("bad-checksum", f"expected {sum2 % 256 << 8 | sum1 % 256:#06x}, got {checksum:#06x}", datagram)
    if length == 0:
        _refuse("empty", "a packet without payload", datagram)
    if offset + length > LARGEST_PAYLOAD:
        _refuse("too-large", f"a payload of at least {offset + length} bytes, expected up to {LARGEST_PAYLOAD}", datagram)
    return Packet(encoding, sequence, offset, last_and_length >= 0x8000, payload, framing)


def packets(payload: bytes, encoding: int, sequence: int, longest: int = LONGEST_SEGMENT) -> list[bytes]:
    """The datagrams of a payload, numbered from `sequence` on, each with its own number as the reference sender does."""
    out = []
    for index, start in enumerate(range(0, len(payload), longest)):
        segment = payload[start : start + longest]
        last = 0x8000 if start + longest >= len(payload) else 0
        header = _HEADER.pack(IDENTIFIER, 0, encoding, (sequence + index) % 65536, start, last | len(segment), 0)[:14]
        out.append(header + struct.pack(">H", fletcher16(header + segment)) + segment)
    return out


class Segments:
    """Puts payloads together, of a bounded number of senders. Order does not matter, and a packet that comes twice counts once.

    A payload that is not whole after SEGMENT_WINDOW_NS, or when MOST_PARTIAL newer ones have begun, is lost.
    """

    def __init__(self):
        self._partial: list[_Partial] = []

    def add(self, packet: Packet, source: str, now_ns: int) -> Packet | None:
        """The whole payload as one packet, or None while segments are missing."""
        if packet.offset == 0 and packet.is_last:
            return packet
        for partial in reversed(self._partial):
            if partial.source == source and partial.takes(packet):
                break
        else:
            partial = _Partial(source, now_ns)
            partial.takes(packet)
            self._partial.append(partial)
        if not partial.is_whole():
            return None
        self._partial.remove(partial)
        return partial.joined()

    def has(self, packet: Packet, source: str) -> bool:
        """Whether this very segment is here already."""
        return any(packet in partial.segments and partial.source == source for partial in self._partial)

    def lost(self, now_ns: int) -> int:
        """How many payloads will not become whole any more. They are forgotten."""
        before = len(self._partial)
        if before:
            self._partial = [p for p in self._partial if abs(now_ns - p.since_ns) <= SEGMENT_WINDOW_NS][-MOST_PARTIAL:]
        return before - len(self._partial)


class _Partial:
    """Segments of one payload, by offset."""

    def __init__(self, source: str, since_ns: int):
        self.source, self.since_ns = source, since_ns
        self.segments: list[Packet] = []
        self._offsets: list[int] = []
        self._numbering: int | None = None

    def takes(self, packet: Packet) -> bool:
        """Take the packet if it fits between its neighbours: no overlap, and their numbers as far apart as they can be."""
        at = bisect(self._offsets, packet.offset)
        before, after = self.segments[at - 1] if at else None, self.segments[at] if at < len(self.segments) else None
        numbering = self._numbering
        for a, b in ((before, packet), (packet, after)):
            if a is None or b is None:
                continue
            gap = b.offset - a.offset - len(a.payload)
            step = (b.sequence - a.sequence) % 65536
            kind = min(step, 1)
            if gap < 0 or a.is_last or a.encoding != b.encoding or (numbering is not None and kind != numbering):
                return False
            if step and not (step == 1 if gap == 0 else 2 <= step < MOST_SEGMENTS):
                return False
            numbering = kind
        if len(self.segments) == MOST_SEGMENTS:
            return False
        self.segments.insert(at, packet)
        self._offsets.insert(at, packet.offset)
        self._numbering = numbering
        return True

    def is_whole(self) -> bool:
        last = self.segments[-1]
        return last.is_last and sum(len(s.payload) for s in self.segments) == last.offset + len(last.payload)

    def joined(self) -> Packet:
        first = self.segments[0]
        framing = min(s.framing for s in self.segments)
        return Packet(first.encoding, first.sequence, 0, True, b"".join(s.payload for s in self.segments), framing)


def _sums(data: bytes) -> tuple[int, int]:
    """Both sums, before any modulus: the byte at i of n is in sum2 n - i times. numpy: 10 µs a packet, a loop takes 100."""
    values = np.frombuffer(data, np.uint8)
    return int(values.sum(dtype=np.int64)), int(_weights()[-len(values) :] @ values) if data else 0


@cache
def _weights() -> np.ndarray:
    return np.arange(65_536 + _HEADER.size, 0, -1, dtype=np.int64)


def _refuse(reason: str, text: str, datagram: bytes):
    raise ProtocolError("opentrackio", reason, text, datagram)
