"""OpenTrackIO 1.0.1 over UDP: JSON or CBOR, usually to 239.135.1.N:55555, where N is the number of the source.

opentrackio_packet.py has the packets, opentrackio_sample.py what is in them. A camera's id is its source number ("1"); a
show that calls it otherwise says so. Also understood, and named in `flags`: JSON without a header, the checksum of 1.0.0.

A datagram does not say who sent it, so segments of several senders on one socket are told apart by their numbers only;
give every sender of segments a multicast group, that is a source, of its own. Stamps of PTP are TAI and passed on as such.
"""

import uuid
from collections.abc import Callable
from reprlib import repr as brief
from typing import Literal

import cbor2
import msgspec

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.protocols.decoder import Decoder, NotForUs
from ledvolume.protocols.opentrackio_packet import CBOR, FIRST_OF_VENDORS, JSON, Packet, Segments, packet_of, packets
from ledvolume.protocols.opentrackio_sample import (
    SOURCE_NUMBERS,
    VERSION,
    Static,
    camera_id_of,
    camera_sample,
    sample_fields,
    schema_fault,
    static_of,
)
from ledvolume.sources import Datagram

Encoding = Literal["json", "cbor"]

STATIC_EVERY_NS = 2_000_000_000
DEEPEST = 16
MOST_SOURCES = 64
REMEMBERED_IDS = 256
REMEMBERED_PACKETS = 64
DUPLICATE_WINDOW_NS = 20_000_000  # two paths through a network differ by less; a sender whose packets are all alike is not one
OLD_CHECKSUM_PACKETS = 16  # one of two senders on a socket may be an old one

_NAMESPACE = uuid.UUID("6b0f7f0e-8f0c-5d43-9a8e-4f70656e5472")


def decoder(encoding: Encoding | None = None) -> Decoder:
    """A decoder of everything that the header can announce; `encoding` is for senders."""
    del encoding
    schema_fault({})  # compiles the schema: 50 ms, now rather than in the frame of the first sample
    reader = _Reader()
    found = Decoder("opentrackio", lambda payload: [payload], reader.sample_of)
    reader.counts = found
    return found


def encoder(encoding: Encoding | None = None):
    """A reference sender: packets numbered from 0 on, the static block every two seconds of stamps.

    A camera id that is a number from 1 to 200 is the source's number; others get the lowest free ones, in order of
    appearance, and their id as the label of the camera.
    """
    if encoding not in (None, "json", "cbor"):
        raise ConfigError("opentrackio", "encoding", "json or cbor", encoding)
    return _Sender(CBOR if encoding == "cbor" else JSON).datagrams


def fields_encoder() -> Callable[[CameraSample], dict]:
    """What the reference sender says of a sample, before it is packed: for files."""
    return _Sender(JSON).fields


class _Sender:
    def __init__(self, encoding: int):
        self._encoding = encoding
        self._sequence = self._samples = 0
        self._numbers: dict[str, int] = {}
        self._static_at_ns: dict[str, int] = {}

    def fields(self, sample: CameraSample) -> dict:
        camera_id, stamp_ns = sample.camera_id, sample.stamped_at_ns or sample.captured_at_ns
        told_at_ns = self._static_at_ns.get(camera_id)
        is_due = told_at_ns is None or not 0 <= stamp_ns - told_at_ns < STATIC_EVERY_NS
        if is_due:
            self._static_at_ns[camera_id] = stamp_ns
        sample_id = uuid.uuid5(_NAMESPACE, f"{camera_id} {stamp_ns} {self._samples}").urn
        source_id = uuid.uuid5(_NAMESPACE, camera_id).urn
        fields = sample_fields(sample, self._number(camera_id), sample_id, source_id, self._samples, is_due)
        self._samples += 1
        return fields

    def datagrams(self, sample: CameraSample) -> list[bytes]:
        fields = self.fields(sample)
        payload = cbor2.dumps(fields) if self._encoding == CBOR else msgspec.json.encode(fields)
        out = packets(payload, self._encoding, self._sequence)
        self._sequence = (self._sequence + len(out)) % 65536
        return out

    def _number(self, camera_id: str) -> int:
        if camera_id not in self._numbers:
            own = int(camera_id) if camera_id.isascii() and camera_id.isdecimal() else 0
            free = (n for n in SOURCE_NUMBERS if n not in self._numbers.values())
            number = own if own in SOURCE_NUMBERS else next(free, None)
            if number is None:
                raise ConfigError("opentrackio", "cameras", f"at most {len(SOURCE_NUMBERS)}", camera_id)
            self._numbers[camera_id] = number
        return self._numbers[camera_id]


class _Reader:
    """Datagrams to samples. Remembers, within bounds, segments, what came lately, and static blocks."""

    counts: Decoder

    def __init__(self):
        self._segments = Segments()
        self._packets: dict[int, int] = {}
        self._ids: dict[str, None] = {}
        self._statics: dict[str, Static] = {}
        self._since_old_checksum = OLD_CHECKSUM_PACKETS

    def sample_of(self, message: bytes, datagram: Datagram) -> CameraSample | None:
        """A sample, or None while segments of it are missing."""
        now_ns = datagram.received_at_ns
        for _ in range(self._segments.lost(now_ns)):
            self.counts.reject(ProtocolError("opentrackio", "lost-segment", "a segment of a payload never came"))
        packet = packet_of(message)
        if self._is_duplicate(message, packet, datagram):
            raise NotForUs("duplicate")
        whole = self._segments.add(packet, datagram.source, now_ns)
        if whole is None:
            return None
        fields = _fields_of(whole, message)
        if not isinstance(fields, dict):
            raise ProtocolError("opentrackio", "bad-fields", f"expected an object, got {brief(fields)}", message)
        self._check_protocol(fields, whole, message)
        number = fields.get("sourceNumber")
        if isinstance(number, int) and number not in SOURCE_NUMBERS:
            text = f"expected {SOURCE_NUMBERS.start} to {SOURCE_NUMBERS.stop - 1}, got {brief(number)}"
            raise ProtocolError("opentrackio", "bad-source-number", text, message)
        self._note_sample_id(fields)
        if fault := schema_fault(fields):
            self.counts.flag("schema-invalid", fault)
        if isinstance(sync := fields.get("timing"), dict) and isinstance(sync := sync.get("synchronization"), dict):
            if sync.get("locked") is False:
                self.counts.flag("not-locked", f"camera {camera_id_of(fields)} is not locked to its sync source")
        return camera_sample(fields, now_ns, self._static(fields), self.counts.flag)

    def _is_duplicate(self, message: bytes, packet: Packet, datagram: Datagram) -> bool:
        key, now_ns = hash((datagram.source, message)), datagram.received_at_ns
        since_ns = self._packets.get(key)
        if since_ns is not None and abs(now_ns - since_ns) <= DUPLICATE_WINDOW_NS:
            return True
        if since_ns is not None:
            del self._packets[key]
        elif len(self._packets) == REMEMBERED_PACKETS:
            del self._packets[next(iter(self._packets))]
        self._packets[key] = now_ns
        return self._segments.has(packet, datagram.source)

    def _check_protocol(self, fields: dict, whole: Packet, message: bytes) -> None:
        """Name what is not 1.0.1. The old checksum is believed of old samples, and where another had it a moment ago."""
        protocol = fields.get("protocol")
        name, version = (protocol.get("name"), protocol.get("version")) if isinstance(protocol, dict) else (None, None)
        if name is not None and name != "OpenTrackIO":
            raise NotForUs(f"protocol {brief(name)}")
        if not (isinstance(version, list) and len(version) == 3 and all(type(v) is int and 0 <= v <= 9 for v in version)):
            version = None
        if not whole.framing:
            self.counts.flag("no-header", "JSON without OpenTrackIO's header")
        was_recent = self._since_old_checksum < OLD_CHECKSUM_PACKETS
        self._since_old_checksum = 0 if whole.framing == "1.0.0" else min(self._since_old_checksum + 1, OLD_CHECKSUM_PACKETS)
        if whole.framing == "1.0.0":
            if version is not None and tuple(version) > (1, 0, 0) and not was_recent:
                raise ProtocolError("opentrackio", "bad-checksum", f"that of 1.0.0, but the sample is {version}", message)
            self.counts.flag("checksum-1.0.0", "Fletcher-16 modulo 255, as in OpenTrackIO 1.0.0")
        if version is None:
            self.counts.flag("no-version", f"expected protocol name and version, got {brief(protocol)}")
        elif tuple(version) != VERSION:
            named = ".".join(map(str, version))
            self.counts.flag(f"version-{named}", f"read as OpenTrackIO 1.0.1, says it is {named}")

    def _note_sample_id(self, fields: dict) -> None:
        sample_id = fields.get("sampleId")
        if not isinstance(sample_id, str) or len(sample_id) > 64:
            return
        if sample_id in self._ids:
            raise NotForUs("duplicate")
        if len(self._ids) == REMEMBERED_IDS:
            del self._ids[next(iter(self._ids))]
        self._ids[sample_id] = None

    def _static(self, fields: dict) -> Static:
        source_id = fields.get("sourceId")
        key = camera_id_of(fields)  # one source can have several streams
        if isinstance(source_id, str) and len(source_id) <= 64:
            key = f"{source_id} {key}"
        before = self._statics.get(key, Static())
        static = static_of(fields, before)
        if static != before:
            if key not in self._statics and len(self._statics) == MOST_SOURCES:
                del self._statics[next(iter(self._statics))]
            self._statics[key] = static
        return static


def _fields_of(whole: Packet, message: bytes) -> object:
    encoding, payload = whole.encoding, whole.payload
    if encoding == JSON:
        try:
            return msgspec.json.decode(payload)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if b"NaN" in payload or b"Infinity" in payload:
                text = "NaN or Infinity, which JSON does not have: has the tracker lost the camera?"
                raise ProtocolError("opentrackio", "not-finite", text, message) from None
            raise ProtocolError("opentrackio", "not-json", str(error)[:200], message) from None
    if encoding == CBOR:
        try:
            return cbor2.loads(
                payload, max_depth=DEEPEST, tag_hook=_refuse_tag, semantic_decoders=_NO_TAGS, strict_hashable_types=True
            )
        except Exception as error:  # by input: CBORDecodeError, and what cbor2 may let through of what it wraps
            raise ProtocolError("opentrackio", "not-cbor", f"{type(error).__name__}: {error}"[:200], message) from None
    if encoding >= FIRST_OF_VENDORS:
        raise NotForUs(f"vendor encoding {encoding:#04x}")
    raise ProtocolError("opentrackio", "bad-encoding", f"expected 1 (JSON) or 2 (CBOR), got {encoding}", message)


def _refuse_tag(*_):
    """OpenTrackIO has no tags, and cbor2's make regular expressions, e-mails and cycles."""
    raise ValueError("a CBOR tag")


_NO_TAGS = dict.fromkeys((*range(264), 1004, 43000, 55799), _refuse_tag)
