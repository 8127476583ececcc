"""Bytes become camera samples here, or are counted with a reason. No I/O, no clock: the same for live and for replay.

A protocol gives two functions: one takes a payload apart into messages, one makes a sample of a message. Both raise
ProtocolError for what they cannot take literally; `Decoder` counts it, so nothing that arrives can stop the server.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.errors import ProtocolError
from ledvolume.lens import Distortion
from ledvolume.pose import Pose
from ledvolume.source_clock import NEWEST_NS, OLDEST_NS, Mode, SourceClock
from ledvolume.sources import Datagram

FARTHEST_M = 10_000.0
UNIT_TOLERANCE = 1e-3  # float32 quaternions are off by 1e-7, ones printed with four decimals by 2e-4
LONGEST_NAME = 64
MOST_IGNORED_KINDS = 64
MOST_CLOCKS = 256  # senders whose clocks are followed; a FreeD camera id is one byte

# field: lowest, highest value that a real lens can report
LENS_RANGES = {
    "focal_length_mm": (1.0, 5000.0),
    "focus_distance_m": (0.0, 100_000.0),
    "f_stop": (0.1, 256.0),
    "entrance_pupil_m": (-2.0, 2.0),
    "zoom_encoder": (0.0, 1.0),
    "focus_encoder": (0.0, 1.0),
    "iris_encoder": (0.0, 1.0),
}
MOST_OFFSET_MM = 100.0  # of the projection or the distortion, right or down: a sensor's half, generously
MOST_RADIAL, MOST_TANGENTIAL = 16, 2


class Decoder:
    """Datagrams in, samples out, counts of everything.

    accepted, rejects, ignored count messages; a datagram is one message, except an OSC bundle, which has several.
    A payload that cannot be taken apart counts as one rejected message. `ignored`: well-formed, but not for us.
    `flags`: what was not as the standard has it in messages that could be used all the same; `flagged` has the newest text.
    clock: what senders' stamps are taken for (SourceClock.mode). cameras: ids of the wire → ids of the show.
    `clocks`: by the wire's camera id, of the senders that stamp by a clock of their own (CameraSample.stamped_at_ns).
    """

    def __init__(
        self,
        protocol: str,
        messages_in: Callable[[bytes], list],
        sample_of: Callable[[Any, Datagram], CameraSample | None],
        clock: Mode = "auto",
        cameras: dict[str, str] | None = None,
    ):
        self.protocol = protocol
        self.clock, self.cameras = clock, cameras or {}
        self.clocks: dict[str, SourceClock] = {}
        self.accepted = 0
        self.rejects: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.last_reject: ProtocolError | None = None
        self.flags: Counter[str] = Counter()
        self.flagged: dict[str, str] = {}
        self._messages_in, self._sample_of = messages_in, sample_of

    def decode(self, datagram: Datagram) -> list[CameraSample]:
        """Every sample in it. A bad message never hides a good one beside it, and never raises."""
        samples = []
        try:
            messages = self._messages_in(datagram.payload)
        except ProtocolError as error:
            self.reject(error)
            return samples
        for message in messages:
            try:
                sample = self._sample_of(message, datagram)
                if sample is not None:
                    sample = self._placed(sample, datagram.payload)
            except NotForUs as other:
                known = other.kind in self.ignored or len(self.ignored) < MOST_IGNORED_KINDS
                self.ignored[other.kind if known else "others"] += 1
            except ProtocolError as error:
                self.reject(error)
            else:
                self.accepted += 1
                if sample is not None:
                    samples.append(sample)
        return samples

    def _placed(self, sample: CameraSample, payload: bytes) -> CameraSample:
        """On the house clock, and under the show's name."""
        wire_id = sample.camera_id
        camera_id, captured_at_ns = self.cameras.get(wire_id, wire_id), sample.captured_at_ns
        if self.clock == "arrival":
            captured_at_ns = sample.received_at_ns
        elif sample.stamped_at_ns and captured_at_ns == sample.received_at_ns:
            clock = self.clocks.get(wire_id) or SourceClock(self.clock)
            if len(self.clocks) < MOST_CLOCKS:
                self.clocks[wire_id] = clock
            captured_at_ns = clock.captured_at_ns(sample.stamped_at_ns, sample.received_at_ns)
            _check_stamp(captured_at_ns, sample.received_at_ns, self.protocol, payload)
        if camera_id == wire_id and captured_at_ns == sample.captured_at_ns:
            return sample
        return msgspec.structs.replace(sample, camera_id=camera_id, captured_at_ns=captured_at_ns)

    def reject(self, error: ProtocolError) -> None:
        """Count what was refused; for a protocol, what it refuses beside the message at hand (a payload that lost a part)."""
        self.rejects[error.reason] += 1
        self.last_reject = error

    def flag(self, kind: str, text: str) -> None:
        """Count what a usable message has wrong. kind: a short stable word."""
        kind = kind if kind in self.flags or len(self.flags) < MOST_IGNORED_KINDS else "others"
        self.flags[kind] += 1
        self.flagged[kind] = text


class NotForUs(Exception):
    """A well-formed message of a kind that nobody asked for. Caught by `Decoder`, never seen outside."""

    def __init__(self, kind: str):
        self.kind = kind


def checked(sample: CameraSample, protocol: str, payload: bytes) -> CameraSample:
    """The sample with an exactly unit quaternion, or ProtocolError: what no camera on a stage can say is refused."""

    def refuse(reason: str, message: str):
        raise ProtocolError(protocol, reason, message, payload)

    name = sample.camera_id
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        refuse("bad-camera-id", f"expected 1 to {LONGEST_NAME} printable characters, got {name[:80]!r}")
    position, q = sample.world_from_tracker.position_m, sample.world_from_tracker.wxyz
    if not all(map(math.isfinite, position + q)):
        refuse("not-finite", f"position {position}, quaternion {q}: has the tracker lost the camera?")
    if max(map(abs, position)) > FARTHEST_M:
        refuse("too-far", f"position {position} m: expected within {FARTHEST_M:.0f} m; is the unit cm or mm?")
    norm = math.sqrt(sum(c * c for c in q))
    if abs(norm - 1) > UNIT_TOLERANCE:
        refuse("not-a-rotation", f"quaternion {q} has length {norm:.4g}, expected 1")
    _check_stamp(sample.captured_at_ns, sample.received_at_ns, protocol, payload)
    for field, (lowest, highest) in LENS_RANGES.items():
        value = getattr(sample.lens, field)
        if value is not None and not lowest <= value <= highest:
            refuse("bad-lens", f"{field} {value}: expected {lowest} to {highest}")
    offset_mm, distortion = sample.lens.projection_offset_mm or (0.0, 0.0), sample.lens.distortion
    if not all(abs(mm) <= MOST_OFFSET_MM for mm in offset_mm):
        refuse("bad-lens", f"projection_offset_mm {offset_mm}: expected within {MOST_OFFSET_MM:g} mm")
    if distortion is not None and not is_distortion(distortion):
        refuse("bad-lens", f"{str(distortion)[:300]}: expected up to {MOST_RADIAL} + {MOST_TANGENTIAL} finite coefficients")
    sign = -1.0 if q[0] < 0 else 1.0
    w, x, y, z = (sign * c / norm for c in q)
    return msgspec.structs.replace(sample, world_from_tracker=Pose((w, x, y, z), position))


def is_distortion(distortion: Distortion) -> bool:
    """Whether its numbers can be used at all; that they fit a lens, only lens.py can say."""
    coefficients = distortion.radial + distortion.tangential
    return (
        len(distortion.radial) <= MOST_RADIAL
        and len(distortion.tangential) <= MOST_TANGENTIAL
        and all(map(math.isfinite, coefficients))
        and all(abs(mm) <= MOST_OFFSET_MM for mm in distortion.offset_mm)
    )


def _check_stamp(captured_at_ns: int, received_at_ns: int, protocol: str, payload: bytes) -> None:
    early_ns = captured_at_ns - received_at_ns
    if not -OLDEST_NS <= early_ns <= NEWEST_NS:
        text = (
            f"captured {-early_ns / 1e9:.3f} s before it was received: the tracker must be on the house clock (PTP),"
            " or send 0 to have its datagrams stamped on arrival"
        )
        raise ProtocolError(protocol, "bad-stamp", text, payload)
