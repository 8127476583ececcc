"""Hostile datagrams: random bytes and mutated real ones between the true poses of a still camera. Does it ever move?

OSC, msgpack and PosiStageNet carry no checksum, and those of OpenTrackIO and FreeD may be right by intent: a flipped bit
can make another valid message. Hence two claims:
a datagram that is refused (by the decoder, or its sample by the timeline) changes nothing, to the last bit;
one that passes as a camera's own movement moves it by no more than such a movement (BOUND_M, BOUND_RAD, BOUND_ZOOM).
"""

import math
import random
import struct
import sys
from collections import Counter
from collections.abc import Callable

import cbor2
import msgspec

from ledvolume.camera import Camera, CameraSample, Lens, LensReading, Rig
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import freed, native, open_decoder, open_encoder, osc, osc_map
from ledvolume.protocols.opentrackio_packet import packets
from ledvolume.sources import Datagram
from ledvolume.timeline import Limits, Timeline

SENSOR_MM = (27.2, 15.3)
RIG = Rig("camera", Lens(35.0, SENSOR_MM))
STILL = Pose(pan_tilt_roll(0.2, -0.1, 0.02), (0.5, -1.25, 1.625))
STEP_NS = 10_000_000  # a tracker of 100 Hz
AHEAD_NS = 40_000_000  # frames ask for the camera this long ahead
START_NS = 1_790_000_000_000_000_000
SETTLED = 20  # true poses after one that passed: each is judged alone

# What the timeline takes for a still camera that begins to move, within one step.
_LIMITS, _STEP_S = Limits(), STEP_NS / 1e9
BOUND_M = _LIMITS.slack_m + _LIMITS.acceleration_m_s2 * _STEP_S**2 / 2
BOUND_RAD = _LIMITS.slack_rad + _LIMITS.acceleration_rad_s2 * _STEP_S**2 / 2
BOUND_ZOOM = _LIMITS.slack_zoom + _LIMITS.zoom_per_s * _STEP_S / 2  # a hostile datagram comes half a step after the last

VMC = osc_map.preset_map("vmc", SENSOR_MM)
WIRES = {
    "ledvolume over OSC": ("osc", osc.encode),
    "VMC over OSC": ("osc", lambda sample: osc.encode(sample, VMC)),
    "native over ZMQ": ("native", native.encode),
    "OpenTrackIO as JSON": ("opentrackio", lambda sample, send=open_encoder("opentrackio"): send(sample)[0]),
    "OpenTrackIO as CBOR": ("opentrackio", lambda sample, send=open_encoder("opentrackio", encoding="cbor"): send(sample)[0]),
    "FreeD": ("freed", lambda sample, send=open_encoder("freed"): send(sample)[0]),
    "PosiStageNet": ("psn", lambda sample, send=open_encoder("psn"): send(sample)[-1]),
}


def fuzz(n: int, seed: int) -> dict:
    """n hostile datagrams, shared evenly between the wires. Counts, and how far the camera ever stood from the truth."""
    out = Counter(datagrams=0, exceptions=0, not_counted=0, refused_but_moved=0, accepted=0, rejected=0, ignored=0, implausible=0)
    reasons: Counter[str] = Counter()
    farthest_m = farthest_rad = farthest_zoom = 0.0
    first_exception = None
    for index, (protocol, encode) in enumerate(WIRES.values()):
        random_numbers = random.Random(f"{seed} {index}")
        decoder = open_decoder(protocol, sensor_mm=SENSOR_MM, cameras={"1": "camera"})
        timeline = Timeline(RIG)
        now_ns = START_NS
        while now_ns < START_NS + 10 * STEP_NS:
            now_ns = _true_pose(encode, decoder, timeline, now_ns)
        truth = timeline.camera_at(now_ns + AHEAD_NS)
        for _ in range(n // len(WIRES) + (index < n % len(WIRES))):
            real = encode(_sample(now_ns))
            payload = random_numbers.choice(HOSTILE[protocol])(random_numbers, real)
            before, counts_before = timeline.camera_at(now_ns + AHEAD_NS), _messages(decoder)
            accepted_before, timeline_before = decoder.accepted, timeline.accepted
            out["datagrams"] += 1
            try:
                for sample in decoder.decode(Datagram("fuzz", payload, now_ns + STEP_NS // 2)):
                    timeline.add(sample)
            except Exception as error:
                out["exceptions"] += 1
                first_exception = first_exception or f"{error!r} on {payload.hex()}"
            after = timeline.camera_at(now_ns + AHEAD_NS)
            out["not_counted"] += _messages(decoder) == counts_before
            out["accepted"] += decoder.accepted > accepted_before
            if timeline.accepted == timeline_before:
                out["refused_but_moved"] += after != before
            off_m, off_rad, off_zoom = _distance(after, truth)
            farthest_m, farthest_rad = max(farthest_m, off_m), max(farthest_rad, off_rad)
            farthest_zoom = max(farthest_zoom, off_zoom)
            out["moved"] += max(off_m, off_rad, off_zoom) > 1e-6
            for _ in range(1 if timeline.accepted == timeline_before else SETTLED):
                now_ns = _true_pose(encode, decoder, timeline, now_ns)
        out["rejected"] += decoder.rejects.total()
        out["ignored"] += decoder.ignored.total()
        out["implausible"] += timeline.rejects["implausible-jump"]
        reasons += decoder.rejects
    extremes = {"farthest_m": farthest_m, "farthest_rad": farthest_rad, "farthest_zoom": farthest_zoom}
    extremes |= {"bound_m": BOUND_M, "bound_rad": BOUND_RAD, "bound_zoom": BOUND_ZOOM}
    return {**out, **extremes, "reasons": dict(reasons), "first_exception": first_exception}


def _sample(at_ns: int) -> CameraSample:
    return CameraSample("camera", at_ns, at_ns, STILL, LensReading(focal_length_mm=35.0, focus_distance_m=3.0), "ok")


def _true_pose(encode: Callable, decoder, timeline: Timeline, now_ns: int) -> int:
    now_ns += STEP_NS
    for sample in decoder.decode(Datagram("tracker", encode(_sample(now_ns)), now_ns)):
        timeline.add(sample)
    return now_ns


def _messages(decoder) -> int:
    return decoder.accepted + decoder.rejects.total() + decoder.ignored.total()


def _distance(a: Camera, b: Camera) -> tuple[float, float, float]:
    """(m, rad, log of zoom); the angle through its sine, which is exact near zero."""
    p, q = a.stage_from_camera, b.stage_from_camera
    chord = math.dist(p.wxyz, q.wxyz)
    zoom = abs(math.log(a.lens.focal_length_mm / b.lens.focal_length_mm))
    return math.dist(p.position_m, q.position_m), 4 * math.asin(min(chord / 2, 1.0)), zoom


def random_bytes(r: random.Random, real: bytes) -> bytes:
    return r.randbytes(r.choice((0, 1, 3, 4, 20, 84, 300, 1472)))


def random_after_a_real_beginning(r: random.Random, real: bytes) -> bytes:
    return real[: r.randrange(len(real))] + r.randbytes(r.randrange(200))


def flipped_bits(r: random.Random, real: bytes) -> bytes:
    out = bytearray(real)
    for _ in range(r.choice((1, 1, 2, 8))):
        out[r.randrange(len(out))] ^= 1 << r.randrange(8)
    return bytes(out)


def changed_bytes(r: random.Random, real: bytes) -> bytes:
    out = bytearray(real)
    for _ in range(r.choice((1, 2, 4, 16))):
        out[r.randrange(len(out))] = r.choice((0x00, 0xFF, 0x7F, 0x80, 0x2C, 0x2F, r.randrange(256)))
    return bytes(out)


def cut_short(r: random.Random, real: bytes) -> bytes:
    return real[: r.randrange(len(real))]


def grown(r: random.Random, real: bytes) -> bytes:
    at = r.randrange(len(real) + 1)
    return real[:at] + r.randbytes(r.randrange(1, 9)) + real[at:]


def spliced(r: random.Random, real: bytes) -> bytes:
    a, b, c = (r.randrange(len(real) + 1) for _ in range(3))
    return real[:a] + real[min(b, c) : max(b, c)] + real[a:]


def strange_numbers(r: random.Random, real: bytes) -> bytes:
    """A number written over wherever it falls, aligned as in OSC: NaN, infinities, huge, tiny, plausible ones."""
    out = bytearray(real)
    at = r.randrange(0, len(real) - 7, 4)
    value = r.choice((math.nan, math.inf, -math.inf, 1e30, -1e-30, 0.0, 1.0, 1e4, r.uniform(-5, 5)))
    out[at : at + 4] = struct.pack(">f", value)
    return bytes(out)


def osc_bundles(r: random.Random, real: bytes) -> bytes:
    """Bundles with real and hostile elements, nested, with sizes that lie."""
    element = r.choice((real, flipped_bits(r, real), b"", b"/x\0\0", r.randbytes(12)))
    for _ in range(r.choice((1, 1, 2, 9, 60))):
        size = r.choice((len(element),) * 6 + (0, -4, -20, 3, 2**31 - 1, len(element) + 4))
        element = b"#bundle\0" + r.randbytes(8) + struct.pack(">i", size) + element
    return element


def osc_types(r: random.Random, real: bytes) -> bytes:
    """A real address with type tags and arguments that do not fit it, or each other."""
    address = real[: real.index(b",")]
    tags = "," + "".join(r.choice("sfdihtbrmTFN[]IcSX") for _ in range(r.randrange(12)))
    padded = tags.encode() + b"\0" * (4 - len(tags) % 4)
    return address + padded + r.randbytes(4 * r.randrange(20))


def msgpack_fields(r: random.Random, real: bytes) -> bytes:
    """A real sample, one or more of its fields replaced by something else."""
    fields = msgspec.msgpack.decode(real)
    strange = (None, True, -1, 2**63, "x" * 100, b"", [], [1.0] * 4, {}, math.nan, math.inf, 1e30, 0.0, [0.0] * 4, [math.nan] * 3)
    for _ in range(r.choice((1, 1, 2))):
        where = r.choice((fields, fields, fields["world_from_tracker"], fields["lens"]))
        if not isinstance(where, dict) or not where:
            break
        where[r.choice(list(where))] = r.choice(strange)
        if not isinstance(fields["world_from_tracker"], dict) or not isinstance(fields.get("lens"), dict):
            break
    return msgspec.msgpack.encode(fields)


def msgpack_bombs(r: random.Random, real: bytes) -> bytes:
    """Lengths that lie and nesting without end."""
    return r.choice(
        (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5000, b"\x81\xa1a" * 5000)
    )


def opentrackio_fields(r: random.Random, real: bytes) -> bytes:
    """A real OpenTrackIO sample with parts replaced, in a packet whose checksum is right."""
    encoding, payload = real[5], real[16:]
    fields = cbor2.loads(payload) if encoding == 2 else msgspec.json.decode(payload)
    fields["sampleId"] = f"urn:uuid:{r.getrandbits(128):032x}"

    def strange() -> list:  # made anew each time, or a list could come to lie in itself
        of_json = [None, True, -1, 0, 2**63, "x" * 100, [], [1.0] * 4, {}, 1e30, 0.0, [[]] * 3, {"x": {}}]
        of_cbor = [math.nan, math.inf, b"x", 2**70, {1: 2}, cbor2.CBORTag(35, "("), cbor2.undefined]
        return of_json + of_cbor if encoding == 2 else of_json

    for _ in range(r.choice((1, 1, 2))):
        where = fields
        while True:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            key = r.choice(keys)
            if not isinstance(where[key], dict | list) or not where[key] or r.random() < 0.2:
                break
            where = where[key]
        where[key] = r.choice(strange())
    payload = cbor2.dumps(fields) if encoding == 2 else msgspec.json.encode(fields)
    return packets(payload, encoding, r.randrange(65536))[0]


def opentrackio_packets(r: random.Random, real: bytes) -> bytes:
    """Anything in a packet whose checksum is right: segments without end, offsets and encodings at will, mutated payloads."""
    payload = r.choice(_ANY_WIRE)(r, real[16:] or b"{}") or b"\0"
    whole = packets(payload, r.choice((1, 1, 2, 2, 0, 3, 128, 255)), r.randrange(65536), r.choice((1, 64, 1456, 1456, 1456)))
    return r.choice(whole)


def freed_numbers(r: random.Random, real: bytes) -> bytes:
    """Messages of any numbers whose checksum is right, several in a datagram, broken ones between them."""
    out = b""
    for _ in range(r.choice((1, 1, 2, 5))):
        message = bytearray(real[:28])
        for _ in range(r.choice((0, 1, 1, 3))):
            message[r.choice((0, *range(2, 28)))] = r.choice((0x00, 0x7F, 0x80, 0xFF, r.randrange(256)))
        whole = bytes(message) + bytes((freed.checksum(message),))
        out += r.choice((whole, whole, whole, flipped_bits(r, whole), cut_short(r, whole)))
    return out or b"\xd1"


def psn_chunks(r: random.Random, real: bytes) -> bytes:
    """A tree of chunks with known ids, lengths that are right or lie, and any numbers in the leaves."""

    def chunk(kind: int, data: bytes) -> bytes:
        length = r.choice((len(data),) * 20 + (0, len(data) + 1, max(len(data) - 1, 0), 0x7FFF))
        return struct.pack("<HH", kind, length | r.choice((0, 0x8000))) + data

    def leaf() -> bytes:
        number = r.choice((math.nan, math.inf, 0.0, 1e30, 1.0, r.uniform(-5, 5)))
        sizes = (4, 8, 12, 12, 12, 16)
        return r.choice((struct.pack("<f", number) * 3, struct.pack("<f", number), r.randbytes(r.choice(sizes)), bytes(12)))

    packet = r.choice((0x6755, 0x6755, 0x6755, 0x6756, 0x6754))
    header = chunk(0, struct.pack("<QBBBB", r.choice((0, 1, 10**6, 2**64 - 1)), r.choice((2, 2, 2, 1)), 3, 0, 1))
    trackers = b"".join(
        chunk(r.choice((1, 1, 2, 65535)), b"".join(chunk(kind, leaf()) for kind in r.sample(range(9), r.randrange(6))))
        for _ in range(r.randrange(4))
    )
    return chunk(packet, header + chunk(1 if packet == 0x6755 else 2, trackers) + chunk(7, r.randbytes(5)))


_ANY_WIRE = (
    random_bytes,
    random_after_a_real_beginning,
    flipped_bits,
    flipped_bits,
    changed_bytes,
    cut_short,
    grown,
    spliced,
    strange_numbers,
)
HOSTILE = {
    "osc": _ANY_WIRE + (osc_bundles, osc_types),
    "native": _ANY_WIRE + (msgpack_fields, msgpack_bombs),
    "opentrackio": _ANY_WIRE + (opentrackio_fields,) * 6 + (opentrackio_packets,) * 3,
    "freed": _ANY_WIRE + (freed_numbers,) * 6,
    "psn": _ANY_WIRE + (psn_chunks,) * 6,
}


def main() -> int:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for name, value in fuzz(n, seed=1).items():
        print(f"{name:18} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
