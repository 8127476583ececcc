"""FreeD D1 over UDP (Vinten Radamec free-d manual 1.4.4, appendices A and B): 29 bytes, or several messages in a datagram.

    0 type D1 · 1 camera · 2 pan · 5 tilt · 8 roll (s24, 1/32768°) · 11 x · 14 y · 17 height (s24, 1/64 mm)
    20 zoom · 23 focus (u24) · 26 spare (u16) · 28 checksum: 0x40 - all bytes before it, mod 256; big-endian

Its axes are ours, X right, Y forward, Z up; its tilt and roll turn as ours, its pan + turns right, ours left. What vendors
do otherwise, and what zoom, focus and spare mean, says a profile (freed_profile.py). The camera's id is its number ("1").

There is no stamp (samples count as captured when they arrive) and nothing that says that tracking is lost. Angles are taken
as far as s24 goes, ±256°, though the manual ends at ±180°: they become a quaternion, so pan has no seam.
"""

import math

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.pose import Pose, pan_tilt_roll, pan_tilt_roll_of
from ledvolume.protocols.axes import named_axes
from ledvolume.protocols.decoder import Decoder, NotForUs, checked
from ledvolume.protocols.freed_profile import UNITS_M, FreedProfile, as_profile, lens_values, lens_words, sequence_of
from ledvolume.sources import Datagram

D1, D1_BYTES = 0xD1, 29
# Commands, status and settings (appendix B), and Radamec's older mode of 30 bytes. Bytes, where the manual has one length.
OTHER_KINDS = dict.fromkeys((*range(0xD0, 0xDC), 0xA2)) | {0xD0: 4, 0xD2: 16, 0xA2: 30}
OTHER_KINDS.pop(D1)
MOST_MESSAGES = 256
MOST_CAMERAS = 256
RAD_PER_STEP = math.pi / 180 / 32768
UNITS_PER_STEP = 1 / 64
S24 = 1 << 23

ProfileLike = str | dict | FreedProfile | None


def decoder(profile: ProfileLike = None, sensor_mm: tuple[float, float] | None = None) -> Decoder:
    """A decoder by a profile ("raw" if none is given). sensor_mm: for profiles with a field of view."""
    reader = _Reader(as_profile(profile), sensor_mm)
    found = Decoder("freed", messages_in, reader.sample_of)
    reader.flag = found.flag
    return found


def encoder(profile: ProfileLike = None, sensor_mm: tuple[float, float] | None = None):
    """A reference sender. A camera id that is a number from 0 to 255 is its number; others get the lowest free from 1 on.

    What does not fit the wire (131 m from the origin, a lens beyond the profile) raises ConfigError.
    """
    return _Sender(as_profile(profile), sensor_mm).datagrams


def checksum(message: bytes) -> int:
    """Of the bytes before it: of the first 28 of a D1 message."""
    return 0x40 - sum(message) & 0xFF


def messages_in(payload: bytes) -> list[bytes]:
    """The messages of a datagram. A broken one never hides a good one beside it: after it the next good D1 is looked for."""
    if not payload:
        raise ProtocolError("freed", "empty", "a datagram without any bytes", payload)
    messages, at = [], 0
    while at < len(payload):
        end = _end_of(payload, at) if len(messages) < MOST_MESSAGES - 1 else len(payload)
        messages.append(payload[at:end])
        at = end
    return messages


def _end_of(payload: bytes, at: int) -> int:
    kind, length = payload[at], len(payload)
    if kind == D1:
        lengths = (D1_BYTES,)
    else:
        lengths = (OTHER_KINDS[kind], D1_BYTES, length - at) if kind in OTHER_KINDS else ()
    for size in lengths:
        if size and at + size <= length and _adds_up(payload[at : at + size]):
            return at + size
    next_at = at + D1_BYTES
    if kind == D1 and next_at <= length and (next_at == length or payload[next_at] == D1):
        return next_at
    # 29 bytes with a right sum can stand anywhere once in 65536; counted from the datagram's end there are few of them
    for start in range(length - (length - at - 1) // D1_BYTES * D1_BYTES, length, D1_BYTES):
        if payload[start] == D1 and _adds_up(payload[start : start + D1_BYTES]):
            return start
    return length


def _adds_up(message: bytes) -> bool:
    return sum(message) & 0xFF == 0x40


class _Reader:
    """Messages to samples by a profile. Remembers the last sequence number of each camera."""

    def __init__(self, profile: FreedProfile, sensor_mm: tuple[float, float] | None):
        self._profile, self._sensor_mm = profile, sensor_mm
        self._axes = named_axes(profile.axes, "freed", "profile.axes")
        self._sequence: dict[int, int] = {}

    def sample_of(self, message: bytes, datagram: Datagram) -> CameraSample:
        """A sample of one D1 message."""
        _check(message)
        profile = self._profile
        pan, tilt, roll, *xyz = (int.from_bytes(message[i : i + 3], "big", signed=True) for i in range(2, 20, 3))
        zoom, focus, spare = (int.from_bytes(message[a:b], "big") for a, b in ((20, 23), (23, 26), (26, 28)))
        metres = UNITS_M[profile.position_unit] * UNITS_PER_STEP
        x, y, z = self._axes.ours(tuple(metres * step for step in xyz))
        turn = pan_tilt_roll(
            -profile.pan_sign * pan * RAD_PER_STEP,
            profile.tilt_sign * tilt * RAD_PER_STEP,
            profile.roll_sign * roll * RAD_PER_STEP,
        )
        lens = lens_values(profile, zoom, focus, spare, self._sensor_mm, self.flag)
        self._watch(message[1], spare)
        received_at_ns = datagram.received_at_ns
        sample = CameraSample(str(message[1]), received_at_ns, received_at_ns, Pose(turn, (x, y, z)), lens)
        return checked(sample, "freed", message)

    def flag(self, kind: str, text: str) -> None:
        """Set by `decoder` to what counts it."""

    def _watch(self, camera: int, spare: int) -> None:
        found = sequence_of(self._profile, spare)
        if found is None:
            return
        number, wrap = found
        last = self._sequence.get(camera)
        self._sequence[camera] = number
        if last is not None and number not in (last, (last + 1) % wrap):
            self.flag("sequence-gap", f"camera {camera}: {number} after {last}; messages were lost or came out of order")


def _check(message: bytes) -> None:
    kind, size = message[0], len(message)
    if kind in OTHER_KINDS and (_adds_up(message) or size == OTHER_KINDS[kind] == 30):
        raise NotForUs(f"{kind:02X}")  # of A2 the manual has no checksum
    if kind != D1 and kind not in OTHER_KINDS:
        raise ProtocolError("freed", "not-freed", f"expected D1 first, got {kind:02X}: does another program send here?", message)
    if kind == D1 and size != D1_BYTES:
        raise ProtocolError("freed", "wrong-length", f"expected {D1_BYTES} bytes or a multiple, got {size}", message)
    if not _adds_up(message):
        text = f"expected {checksum(message[:-1]):02X} for the bytes of this {kind:02X} message, got {message[-1]:02X}"
        raise ProtocolError("freed", "bad-checksum", text, message)


class _Sender:
    def __init__(self, profile: FreedProfile, sensor_mm: tuple[float, float] | None):
        self._profile, self._sensor_mm = profile, sensor_mm
        self._axes = named_axes(profile.axes, "freed", "profile.axes")
        self._numbers: dict[str, int] = {}
        self._sent: dict[str, int] = {}

    def datagrams(self, sample: CameraSample) -> list[bytes]:
        profile, pose = self._profile, sample.world_from_tracker
        pan, tilt, roll = pan_tilt_roll_of(pose.wxyz)
        angles = (-profile.pan_sign * pan, profile.tilt_sign * tilt, profile.roll_sign * roll)
        metres = UNITS_M[profile.position_unit] * UNITS_PER_STEP
        steps = [round(angle / RAD_PER_STEP) for angle in angles]
        for name, value in zip("xyz", self._axes.theirs(pose.position_m)):
            if not -S24 <= (step := round(value / metres)) < S24:
                raise ConfigError("freed", name, f"within {S24 * metres:.6g} m: FreeD has 24 bits", f"{value} m")
            steps.append(step)
        sequence = self._sent.get(sample.camera_id, 0)
        self._sent[sample.camera_id] = sequence + 1
        zoom, focus, spare = lens_words(profile, sample.lens, self._sensor_mm, sequence)
        if spare >= 1 << 16:
            raise ConfigError("freed", "spare", "what 16 bits hold by this profile", sample.lens)
        message = bytes((D1, self._number(sample.camera_id)))
        message += b"".join(step.to_bytes(3, "big", signed=True) for step in steps)
        message += zoom.to_bytes(3, "big") + focus.to_bytes(3, "big") + spare.to_bytes(2, "big")
        return [message + bytes((checksum(message),))]

    def _number(self, camera_id: str) -> int:
        if camera_id not in self._numbers:
            taken = self._numbers.values()
            own = int(camera_id) if camera_id.isascii() and camera_id.isdecimal() and len(camera_id) < 5 else MOST_CAMERAS
            free = (n for n in range(1, MOST_CAMERAS) if n not in taken)
            number = own if own < MOST_CAMERAS and own not in taken else next(free, None)
            if number is None:
                raise ConfigError("freed", "cameras", f"at most {MOST_CAMERAS}", camera_id)
            self._numbers[camera_id] = number
        return self._numbers[camera_id]
