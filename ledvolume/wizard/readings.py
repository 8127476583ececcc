"""Datagrams as plain numbers, before anything is known of their axes, signs and units: what the wizard looks at.

osc             all numbers of every message, whatever its address
freed           x y z (mm by the manual), pan tilt roll (degrees, as the wire has them), zoom, focus, spare
psn             x y z and the turn as a quaternion about the sender's axes, as if they were right-handed
opentrackio, native   x y z, quaternion and lens of the decoded sample
"""

import math
from typing import NamedTuple

from pythonosc.osc_message import OscMessage as ParsedMessage

from ledvolume.camera import CameraSample
from ledvolume.errors import ProtocolError
from ledvolume.protocols import freed, open_decoder, osc
from ledvolume.sources import Datagram

POSITION = ("x", "y", "z")
QUATERNION = ("qw", "qx", "qy", "qz")
ANGLES = ("pan", "tilt", "roll")
LENS = ("focal_length_mm", "focus_distance_m", "zoom_encoder", "focus_encoder")
FREED = (*POSITION, *ANGLES, "zoom", "focus", "spare")
SAMPLE = (*POSITION, *QUATERNION, *LENS)
MOST_STREAMS = 64
MOST_NUMBERS = 64


class Reading(NamedTuple):
    """Numbers of one message. stream: OSC address, or the camera's id; values: NaN where it is not a number."""

    stream: str
    at_ns: int
    values: tuple[float, ...]
    labels: tuple[str, ...]
    texts: tuple[str, ...] = ()


class Reader:
    """Datagrams of one protocol in, readings out. `unread` counts what could not be taken apart, by reason."""

    def __init__(self, protocol: str):
        self.protocol = protocol
        self.unread: dict[str, int] = {}
        self._decoder = open_decoder(protocol, profile={"axes": "x y z"} if protocol == "psn" else None, clock="arrival")
        self._read = {"osc": _of_osc, "freed": _of_freed}.get(protocol, self._of_samples)
        self._streams: set[str] = set()

    def read(self, datagram: Datagram) -> list[Reading]:
        """Every reading in it, at most of MOST_STREAMS streams."""
        try:
            found = self._read(datagram)
        except ProtocolError as error:
            self._count(error.reason)
            return []
        for reading in found:
            if len(self._streams) < MOST_STREAMS:
                self._streams.add(reading.stream)
        return [reading for reading in found if reading.stream in self._streams]

    def _of_samples(self, datagram: Datagram) -> list[Reading]:
        before = self._decoder.rejects.total()
        samples = self._decoder.decode(datagram)
        if self._decoder.rejects.total() > before:
            self._count(self._decoder.last_reject.reason)
        return [Reading(s.camera_id, datagram.received_at_ns, _numbers_of(s), SAMPLE) for s in samples]

    def _count(self, reason: str) -> None:
        self.unread[reason] = self.unread.get(reason, 0) + 1


def _numbers_of(sample: CameraSample) -> tuple[float, ...]:
    lens = (getattr(sample.lens, name) for name in LENS)
    pose = sample.world_from_tracker
    return (*pose.position_m, *pose.wxyz, *(math.nan if value is None else value for value in lens))


def _of_freed(datagram: Datagram) -> list[Reading]:
    out = []
    for message in freed.messages_in(datagram.payload):
        if message[0] != freed.D1 or len(message) != freed.D1_BYTES or freed.checksum(message[:-1]) != message[-1]:
            continue
        pan, tilt, roll, x, y, z = (int.from_bytes(message[i : i + 3], "big", signed=True) for i in range(2, 20, 3))
        lens = (int.from_bytes(message[a:b], "big") for a, b in ((20, 23), (23, 26), (26, 28)))
        values = (x / 64, y / 64, z / 64, pan / 32768, tilt / 32768, roll / 32768, *map(float, lens))
        out.append(Reading(str(message[1]), datagram.received_at_ns, values, FREED))
    return out


def _of_osc(datagram: Datagram) -> list[Reading]:
    out = []
    for message in osc.messages_in(datagram.payload):
        try:
            parsed = ParsedMessage(message)
            address, arguments = parsed.address, parsed.params[:MOST_NUMBERS]
        except Exception as error:  # by input: ParseError, UnicodeDecodeError, OverflowError, struct.error
            raise ProtocolError("osc", "unparsable", str(error), message) from None
        values = tuple(_number(a) for a in arguments)
        texts = tuple(a if isinstance(a, str) else "" for a in arguments)
        labels = tuple(f"{address} argument {i + 1}" for i in range(len(values)))
        out.append(Reading(address, datagram.received_at_ns, values, labels, texts))
    return out


def _number(argument) -> float:
    if isinstance(argument, bool) or not isinstance(argument, float | int) or not math.isfinite(argument):
        return math.nan
    return float(argument)
