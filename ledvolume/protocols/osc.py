"""OSC 1.0 over UDP, read by the address map of the show (osc_map.py).

python-osc parses messages; bundles are taken apart here, because python-osc's OscBundle loops for ever on a negative
element size and recurses as deep as a sender likes. Its Dispatcher is not used: it sleeps until time tags are due.
The time tag of a bundle is not believed either (most senders say "immediately"): a stamp is an argument, captured_at.

Messages that carry only part of a pose are put together per camera. Parts belong together if they arrive within
PART_WINDOW_NS and none comes twice; a pose that stays incomplete is counted as `incomplete-pose`.
"""

import math
import re
from collections.abc import Set
from typing import NamedTuple

import msgspec
from pythonosc.osc_message import OscMessage as ParsedMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from ledvolume.camera import CameraSample, LensReading
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.pose import Pose, Quat, multiply, pan_tilt_roll_of
from ledvolume.protocols.decoder import Decoder, NotForUs, checked
from ledvolume.protocols.osc_map import EULER, FIELDS, POSITION, QUATERNION, OscMap, Rule, preset_map, rules
from ledvolume.sources import Datagram

LONGEST_ADDRESS = 256
LONGEST_MESSAGE = 2048
DEEPEST_BUNDLE = 8
MOST_MESSAGES = 256  # in one bundle: a VMC performer sends some 120
PART_WINDOW_NS = 20_000_000
MOST_CAMERAS = 64

_FIXED_SIZES = {"i": 4, "f": 4, "h": 8, "d": 8, "t": 8, "T": 0, "F": 0, "N": 0}
_HALF_AXES = {"pan": (0.0, 0.0, 1.0), "tilt": (1.0, 0.0, 0.0), "roll": (0.0, 1.0, 0.0)}
_MAPPED_CACHE = 256
_BUNDLE = b"#bundle\0" + (1).to_bytes(8, "big")  # time tag 1: immediately
_ENCODERS = ("zoom_encoder", "focus_encoder", "iris_encoder")


def decoder(osc_map: OscMap | None = None, sensor_mm: tuple[float, float] | None = None) -> Decoder:
    """A decoder for this map; without one, for all presets. sensor_mm: for maps that have none of their own."""
    osc_map = osc_map or preset_map()
    reader = _Reader(msgspec.structs.replace(osc_map, sensor_mm=osc_map.sensor_mm or sensor_mm))
    found = Decoder("osc", messages_in, reader.sample_of)
    reader.flag = found.flag
    return found


def messages_in(payload: bytes) -> list[bytes]:
    """The messages of a packet: itself, or those of a bundle (§ "OSC Bundles"), nested ones included."""
    if payload.startswith(b"/"):
        return [payload]
    if not payload:
        raise ProtocolError("osc", "empty", "a datagram without any bytes", payload)
    messages: list[bytes] = []
    _unpack_bundle(payload, messages, DEEPEST_BUNDLE)
    if not messages:
        raise ProtocolError("osc", "empty", "a bundle without messages", payload)
    return messages


def _unpack_bundle(bundle: bytes, messages: list[bytes], depth: int) -> None:
    if not bundle.startswith(b"#bundle\0"):
        raise ProtocolError("osc", "not-osc", f"expected / or #bundle first, got {bundle[:8]!r}", bundle)
    if depth == 0:
        raise ProtocolError("osc", "bad-bundle", f"bundles nested deeper than {DEEPEST_BUNDLE}", bundle)
    if len(bundle) < 16:
        raise ProtocolError("osc", "truncated", f"expected a time tag of 8 bytes, got {len(bundle) - 8}", bundle)
    start = 16
    while start < len(bundle):
        size = int.from_bytes(bundle[start : start + 4], "big")
        end = start + 4 + size
        if start + 4 > len(bundle) or end > len(bundle):
            raise ProtocolError("osc", "truncated", f"element of {size} bytes, {len(bundle) - start - 4} left", bundle)
        if size == 0 or size % 4:
            raise ProtocolError("osc", "bad-bundle", f"element of {size} bytes, expected a multiple of 4", bundle)
        element = bundle[start + 4 : end]
        if len(messages) == MOST_MESSAGES:
            raise ProtocolError("osc", "bad-bundle", f"more than {MOST_MESSAGES} messages", bundle)
        if element.startswith(b"/"):
            messages.append(element)
        else:
            _unpack_bundle(element, messages, depth - 1)
        start = end


def encoder(osc_map: OscMap | None = None, sensor_mm: tuple[float, float] | None = None):
    """Samples as messages of the map's first rule; where it has only a part of a pose, as a bundle of all its parts."""
    osc_map = osc_map or preset_map("ledvolume")
    osc_map = msgspec.structs.replace(osc_map, sensor_mm=osc_map.sensor_mm or sensor_mm)
    return lambda sample: [encode(sample, osc_map)]


def encode(sample: CameraSample, osc_map: OscMap | None = None) -> bytes:
    """The datagram that says this sample. Lens readings that it does not have are 0."""
    osc_map = preset_map("ledvolume") if osc_map is None else osc_map
    all_rules = rules(osc_map)
    is_partial = [not _is_whole({argument.field for argument in rule.arguments}) for rule in all_rules]
    chosen = [rule for rule, partial in zip(all_rules, is_partial) if partial] if is_partial[0] else all_rules[:1]
    messages = [_message(sample, rule, osc_map.sensor_mm) for rule in chosen]
    return messages[0] if len(messages) == 1 else _BUNDLE + b"".join(len(m).to_bytes(4, "big") + m for m in messages)


def _message(sample: CameraSample, rule: Rule, sensor_mm: tuple[float, float] | None) -> bytes:
    values = _sender_fields(sample, rule, sensor_mm)
    builder = OscMessageBuilder(rule.address.replace("*", sample.camera_id, 1))
    for argument in rule.arguments:
        value = values.get(argument.field, 0.0)
        if isinstance(value, str):
            builder.add_arg(value, "s")
        elif argument.field == "captured_at":
            builder.add_arg(value, "h") if argument.unit == "ns" else builder.add_arg(value / argument.scale, "d")
        else:
            builder.add_arg(value / argument.scale, "f")
    return builder.build().dgram


class _Part(NamedTuple):
    """Fields of a pose that is not complete yet, and when the first of them came."""

    since_ns: int
    fields: dict


class _Reader:
    """Messages to samples by a map. Holds the poses of which only parts have come."""

    def __init__(self, osc_map: OscMap):
        self._rules = rules(osc_map)
        self._sensor_mm = osc_map.sensor_mm
        self._patterns = [re.compile(re.escape(r.address).replace(r"\*", "([^/]+)") + r"\Z") for r in self._rules]
        self._known: dict[bytes, tuple[Rule, str]] = {}
        self._parts: dict[str, _Part] = {}
        self._parts_wanted = _parts_wanted(self._rules)

    def sample_of(self, message: bytes, datagram: Datagram) -> CameraSample | None:
        """A sample, or None while only part of its pose has come."""
        rule, camera_id = self._rule_of(message)
        fields = _read_arguments(message, rule)
        camera_id = rule.camera_id or fields.pop("camera_id", camera_id)
        if not _is_whole(fields.keys()):
            fields = self._joined(camera_id, fields, datagram.received_at_ns, message)
            if fields is None:
                return None
        captured_at_ns = fields.get("captured_at") or datagram.received_at_ns
        sample = CameraSample(
            camera_id,
            captured_at_ns,
            datagram.received_at_ns,
            Pose(_rotation(fields, rule), rule.axes.ours((fields["x"], fields["y"], fields["z"]))),
            _lens(self._with_encoders_in_range(fields, rule), self._sensor_mm, message),
            fields.get("status", ""),
        )
        return checked(sample, "osc", message)

    def flag(self, kind: str, text: str) -> None:
        """Set by `decoder` to what counts it."""

    def _with_encoders_in_range(self, fields: dict, rule: Rule) -> dict:
        """An encoder beyond 0 to 1 is left out and told: what a lens says wrong is no reason to lose the pose."""
        for name in _ENCODERS:
            if name in fields and not 0 <= fields[name] <= 1:
                self.flag("lens-value", f"{rule.address}: {name} {fields[name]:g}, expected 0 to 1")
                fields = {k: v for k, v in fields.items() if k != name}
        return fields

    def _rule_of(self, message: bytes) -> tuple[Rule, str]:
        end = message.find(b"\0", 0, LONGEST_ADDRESS)
        if end < 0:
            raise ProtocolError("osc", "bad-address", f"no end of the address in {LONGEST_ADDRESS} bytes", message)
        address = message[:end]
        if found := self._known.get(address):
            return found
        try:
            text = address.decode("ascii")
        except UnicodeDecodeError:
            raise ProtocolError("osc", "bad-address", f"expected ASCII, got {address!r}", message) from None
        for rule, pattern in zip(self._rules, self._patterns):
            if match := pattern.match(text):
                found = (rule, match.group(1) if pattern.groups else "")
                if len(self._known) < _MAPPED_CACHE:
                    self._known[address] = found
                return found
        raise NotForUs(text)

    def _joined(self, camera_id: str, fields: dict, now_ns: int, message: bytes) -> dict | None:
        """All fields once the last part has come; None before. A part that comes twice starts the pose anew."""
        part = self._parts.pop(camera_id, None)
        is_stale = part is not None and (
            now_ns - part.since_ns > PART_WINDOW_NS or not self._parts_wanted.isdisjoint(fields.keys() & part.fields.keys())
        )
        if part is None or is_stale:
            if len(self._parts) >= MOST_CAMERAS:
                self._parts = {c: p for c, p in self._parts.items() if now_ns - p.since_ns <= PART_WINDOW_NS}
            if len(self._parts) >= MOST_CAMERAS:
                raise ProtocolError("osc", "too-many-cameras", f"{MOST_CAMERAS} incomplete poses already", message)
            part = _Part(now_ns, {})
        part.fields.update(fields)
        if self._parts_wanted <= part.fields.keys():
            return part.fields
        self._parts[camera_id] = part
        if is_stale:
            text = f"{camera_id}: parts of the last pose never came, expected {', '.join(sorted(self._parts_wanted))}"
            raise ProtocolError("osc", "incomplete-pose", text, message)
        return None


def _read_arguments(message: bytes, rule: Rule) -> dict:
    """field → value in our units. The whole message must be what the rule says, to the last byte."""

    def refuse(reason: str, text: str):
        raise ProtocolError("osc", reason, f"{rule.address}: {text}", message)

    if len(message) % 4 or len(message) > LONGEST_MESSAGE:
        refuse("truncated", f"{len(message)} bytes, expected a multiple of 4 up to {LONGEST_MESSAGE}")
    tags_start = message.index(b"\0") // 4 * 4 + 4
    tags_end = message.find(b"\0", tags_start)
    if tags_end < 0 or message[tags_start : tags_start + 1] != b",":
        refuse("bad-type-tags", "expected type tags after the address")
    tags = message[tags_start + 1 : tags_end].decode("latin-1")
    if not rule.required <= len(tags) <= len(rule.arguments):
        refuse("argument-count", f"expected {rule.required} to {len(rule.arguments)} arguments, got {len(tags)}")
    for tag, argument in zip(tags, rule.arguments):
        types = FIELDS[argument.field].types
        if tag not in types:
            refuse("argument-type", f"{argument.field}: expected an argument of type {' or '.join(types)}, got {tag!r}")
    try:
        values = ParsedMessage(message).params
    except Exception as error:  # by input: ParseError, UnicodeDecodeError, OverflowError (time tags), struct.error
        refuse("unparsable", f"{type(error).__name__}: {error}")
    # python-osc fills a number that is cut off with zeros, so the length is checked here.
    size = tags_end // 4 * 4 + 4
    size += sum(_FIXED_SIZES[t] if t != "s" else len(v.encode()) // 4 * 4 + 4 for t, v in zip(tags, values))
    if len(values) != len(tags) or size != len(message):
        refuse("truncated", f"expected {size} bytes for ,{tags}, got {len(message)}")
    fields = {}
    for value, argument in zip(values, rule.arguments):
        if argument.field == "skip":
            continue
        if isinstance(value, (float, int)):
            if not math.isfinite(value):
                refuse("not-finite", f"{argument.field} is {value}: has the tracker lost the camera?")
            value = value * argument.scale
            value = round(value) if argument.field == "captured_at" else float(value)
        fields[argument.field] = value
    return fields


def _is_whole(fields: Set[str]) -> bool:
    return POSITION <= fields and (QUATERNION <= fields or {"pan", "tilt"} <= fields)


def _parts_wanted(all_rules: tuple[Rule, ...]) -> frozenset:
    """The fields that make a pose out of partial messages: all pose fields that those of the map mention."""
    pose_fields = [{a.field for a in rule.arguments} & (POSITION | QUATERNION | EULER) for rule in all_rules]
    partial = [(rule, fields) for rule, fields in zip(all_rules, pose_fields) if not _is_whole(fields)]
    wanted = frozenset().union(*(fields for _, fields in partial))
    if partial and not _is_whole(wanted):
        raise ConfigError("osc map", "messages", "messages that together give x y z and a rotation", sorted(wanted))
    if len({(rule.axes, rule.rotation_order) for rule, _ in partial}) > 1:
        raise ConfigError("osc map", "messages", "the same axes in all messages that share a pose", "different ones")
    return wanted


def _rotation(fields: dict, rule: Rule) -> Quat:
    if "qw" in fields:
        return (fields["qw"], *rule.axes.turn_ours((fields["qx"], fields["qy"], fields["qz"])))
    q = (1.0, 0.0, 0.0, 0.0)
    for name in rule.rotation_order:
        half = fields.get(name, 0.0) / 2
        s = math.sin(half)
        x, y, z = _HALF_AXES[name]
        q = multiply(q, (math.cos(half), s * x, s * y, s * z))
    return q


def _lens(fields: dict, sensor_mm: tuple[float, float] | None, message: bytes) -> LensReading:
    focal_length_mm = fields.get("focal_length", 0.0) * 1000
    for field, side in (("fov_horizontal", 0), ("fov_vertical", 1)):
        if field not in fields:
            continue
        if not 0 < fields[field] < math.pi:
            raise ProtocolError("osc", "bad-lens", f"{field} {fields[field]} rad: expected 0 to 180°", message)
        if sensor_mm is not None:
            focal_length_mm = sensor_mm[side] / 2 / math.tan(fields[field] / 2)
    return LensReading(
        focal_length_mm=focal_length_mm or None,
        focus_distance_m=fields.get("focus_distance") or None,
        f_stop=fields.get("f_stop"),
        entrance_pupil_m=fields.get("entrance_pupil"),
        zoom_encoder=fields.get("zoom_encoder"),
        focus_encoder=fields.get("focus_encoder"),
        iris_encoder=fields.get("iris_encoder"),
    )


def _sender_fields(sample: CameraSample, rule: Rule, sensor_mm: tuple[float, float] | None) -> dict:
    """field → value in our units, but along the sender's axes."""
    pose, lens = sample.world_from_tracker, sample.lens
    if any(a.field in EULER for a in rule.arguments) and rule.rotation_order != ("pan", "tilt", "roll"):
        raise ConfigError("osc map", rule.address, "pan tilt roll: only this order can be sent", " ".join(rule.rotation_order))
    w, *v = pose.wxyz
    pan, tilt, roll = pan_tilt_roll_of(pose.wxyz)
    qx, qy, qz = rule.axes.turn_theirs(tuple(v))
    x, y, z = rule.axes.theirs(pose.position_m)
    focal_length_mm = lens.focal_length_mm or 0.0
    values = dict(x=x, y=y, z=z, qw=w, qx=qx, qy=qy, qz=qz, pan=pan, tilt=tilt, roll=roll)
    values |= dict(camera_id=sample.camera_id, status=sample.status, captured_at=sample.captured_at_ns)
    values |= dict(focal_length=focal_length_mm / 1000, focus_distance=lens.focus_distance_m or 0.0)
    for field, side in (("fov_horizontal", 0), ("fov_vertical", 1)):
        # a receiver that does not know the sensor must still get a field of view it can accept
        values[field] = 2 * math.atan(sensor_mm[side] / 2 / focal_length_mm) if sensor_mm and focal_length_mm else 1.0
    for field in ("f_stop", "entrance_pupil", "zoom_encoder", "focus_encoder", "iris_encoder"):
        values[field] = getattr(lens, "entrance_pupil_m" if field == "entrance_pupil" else field) or 0.0
    return values
