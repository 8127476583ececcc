"""Known datagrams through real sockets: is what `ledvolume listen` says of them what they mean? And our own, there and back.

Expected values are those of the reference, of independent codecs (tests/data: FreeD's, VYV's) and of SMPTE's own decoding
of its capture; none comes from our decoders.
"""

import json
import math
import random
import struct
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.listening import Listener
from ledvolume.camera import CameraSample, LensReading
from ledvolume.pose import Pose, Quat, multiply, pan_tilt_roll, pan_tilt_roll_of
from ledvolume.protocols import open_encoder
from measure import ROOT, Row

DATA = ROOT / "tests" / "data"
U24 = 0xFFFFFF
H = math.sqrt(0.5)
SENT_POSES = 300


class Vector(NamedTuple):
    """A datagram, and for each line that is to be said of it what must be in it, refusals last.

    "position_m" and "wxyz" are compared to `tolerance` (m; the chord of the quaternions, whatever their sign), other
    numbers to 1e-6 of themselves, "lens" by the readings named.
    """

    name: str
    payload: bytes
    said: tuple[dict, ...]
    tolerance: float = 1e-9


def vectors() -> Iterable[Row]:
    """every known datagram (the reference, FreeD's 21, SMPTE's 68, VYV's) over loopback UDP to `ledvolume listen --json`"""
    for name, (protocol, more, known) in KNOWN.items():
        known = known()
        with Listener(protocol, *more) as listener:
            wrong = [v.name for v in known if not all_right(listener.answers([v.payload], len(v.said)), v)]
            too_many = listener.more_said()
        if wrong:
            print(f"        {name}, wrong: {', '.join(wrong)}")
        yield Row(f"{name}: vectors right", len(known) - len(wrong), f"of {len(known)}", ("≥", len(known)))
        yield Row(f"{name}: lines that nobody expects", too_many, "", ("=", 0))


def round_trips() -> Iterable[Row]:
    """300 poses from our own sender of each protocol through UDP to `ledvolume listen --json`, against the wire's resolution"""
    r = random.Random(1)
    for name, trip in ROUND_TRIPS.items():
        encode = open_encoder(trip.protocol, trip.preset, encoding=trip.encoding)
        off_mm = off_deg = 0.0
        lost = 0
        more = ("--preset", trip.preset) if trip.preset else ()
        with Listener(f"{trip.protocol}+udp", *more) as listener:
            for _ in range(SENT_POSES):
                angles = (r.uniform(-math.pi, math.pi), r.uniform(-1.5, 1.5), r.uniform(-math.pi, math.pi))
                pose = Pose(pan_tilt_roll(*angles), tuple(r.uniform(-8, 8) for _ in range(3)))
                now_ns = time.time_ns()
                found = listener.answers(encode(CameraSample("1", now_ns, now_ns, pose, LensReading(35.0))))
                if not found or "position_m" not in found[0]:
                    lost += 1
                    continue
                off_mm = max(off_mm, *(1000 * abs(a - b) for a, b in zip(found[0]["position_m"], pose.position_m)))
                off_deg = max(off_deg, trip.off_deg(pose.wxyz, tuple(found[0]["wxyz"])))
        yield Row(f"{name}: poses that did not come back", lost, f"of {SENT_POSES}", ("=", 0))
        yield Row(f"{name}: farthest on an axis", off_mm, "mm", ("≤", trip.step_mm))
        yield Row(f"{name}: {trip.off_deg.__doc__}", off_deg, "°", ("≤", trip.step_deg))


def all_right(found: list[dict], vector: Vector) -> bool:
    """Does every line say what it must?"""
    found = sorted(found, key=lambda line: "reject" in line)  # said of a datagram in no order
    return len(found) == len(vector.said) and all(
        key in line and is_right(key, line[key], value, vector.tolerance)
        for line, expected in zip(found, vector.said)
        for key, value in expected.items()
    )


def is_right(key: str, got, expected, tolerance: float) -> bool:
    if key == "wxyz":
        return min(math.dist(got, expected), math.dist(got, [-c for c in expected])) <= tolerance
    if key == "position_m":
        return math.dist(got, expected) <= tolerance
    if key == "lens":
        return all(name in got and math.isclose(got[name], value, rel_tol=1e-6) for name, value in expected.items())
    return got == expected


def freed_vectors() -> list[Vector]:
    """The reference's message and the 21 of an independent codec."""
    # camera 1, pan 12.5° to the left, tilt 3.25°, roll 0.5°, 1500, -2250.5, 1800.25 mm
    turn = pan_tilt_roll(*map(math.radians, (12.5, 3.25, 0.5)))
    lens = {"zoom_encoder": 0x0ABCDE / U24, "focus_encoder": 0x012345 / U24}
    said = {"camera_id": "1", "position_m": (1.5, -2.2505, 1.80025), "wxyz": turn, "lens": lens}
    reference = "d101f9c00001a000004000017700fdcd6001c2100abcde012345000052"
    found = [Vector("the reference's", bytes.fromhex(reference), (said,))]
    # pan 180°, tilt -90°, roll -180°: straight down, the top toward +Y (tests/test_freed.py has it by hand)
    extremes = bytes.fromhex("d1005a0000d30000a6000000") + bytes(16) + b"\x9c"
    found.append(Vector("the reference's extremes", extremes, ({"camera_id": "0", "wxyz": (H, -H, 0, 0)},)))
    not_one = {
        "bad_checksum": ({"reject": "bad-checksum"},),
        "short28": ({"reject": "wrong-length"},),
        "type_D2": ({"ignored": "D2"},),
        # the second one's pan: 0x050000 / 32768 = 10° to the right
        "two_in_one_datagram": ({"wxyz": (1, 0, 0, 0)}, {"wxyz": pan_tilt_roll(math.radians(-10), 0, 0)}),
    }
    for vector in json.loads((DATA / "freed" / "freed_d1_vectors.json").read_text()):
        said = not_one.get(vector["name"]) or (_freed_said(vector["expect"]),)
        found.append(Vector(vector["name"], bytes.fromhex(vector["hex"]), said))
    return found


def _freed_said(expect: dict) -> dict:
    degrees = (-expect["Pan"], expect["Tilt"], expect["Roll"])
    lens = {"zoom_encoder": expect["Zoom"] / U24, "focus_encoder": expect["Focus"] / U24}
    return {
        "camera_id": str(expect["ID"]),
        "position_m": [expect[axis] / 1000 for axis in "XYZ"],
        "wxyz": pan_tilt_roll(*map(math.radians, degrees)),
        "lens": lens,
    }


def opentrackio_vectors() -> list[Vector]:
    """The reference's packet, which has no pose, and SMPTE's capture."""
    reference = bytes.fromhex("4f54726b0001000700000000800754177b2261223a317d")
    found = [Vector("the reference's", reference, ({"ignored": "no-transforms"},))]
    values = json.loads((DATA / "opentrackio" / "sender_JSON.decoded.json").read_text())
    for number, (payload, value) in enumerate(zip(captured(), values, strict=True)):
        [transform] = value["transforms"]
        turn = (transform["rotation"][name] for name in ("pan", "tilt", "roll"))
        said = {
            "camera_id": str(value["sourceNumber"]),
            "position_m": [transform["translation"][axis] for axis in "xyz"],
            "wxyz": pan_tilt_roll(*map(math.radians, turn)),
            "status": value["tracker"]["status"],
            "lens": {
                "focal_length_mm": value["lens"]["pinholeFocalLength"],
                "focus_distance_m": value["lens"]["focusDistance"],
                "entrance_pupil_m": value["lens"]["entrancePupilOffset"],
                "f_stop": value["lens"]["fStop"],
                "zoom_encoder": value["lens"]["encoders"]["zoom"],
                "focus_encoder": value["lens"]["encoders"]["focus"],
                "iris_encoder": value["lens"]["encoders"]["iris"],
            },
        }
        found.append(Vector(f"SMPTE's {number}", payload, (said,)))
    return found


def captured() -> Iterable[bytes]:
    """UDP payloads of SMPTE's capture: pcap's record, Ethernet 14 bytes, IPv4 as long as it says, UDP 8."""
    raw, at = (DATA / "opentrackio" / "sender_JSON.pcap").read_bytes(), 24
    while at < len(raw):
        [size] = struct.unpack_from("<I", raw, at + 8)
        ip = raw[at + 16 + 14 : at + 16 + size]
        udp = ip[(ip[0] & 15) * 4 :]
        yield udp[8 : struct.unpack_from(">H", udp, 4)[0]]
        at += 16 + size


def psn_vectors() -> list[Vector]:
    """The reference's packet and two of VYV's encoder."""
    reference = bytes.fromhex(
        "55674c8000000c0040420f000000000002030501010038800300348000000c000000803f000000400000404002000c0000000000"
        "db0fc93f00000000030004000000803f06000800583e0f0000000000"
    )
    # VYV's, by its bytes: trackers 0 to 2 at (0|1.5|3, 2.25, 0|-0.5|-1), turned by (0|π/4|π/2) to the right, validity
    # 0|0.1|0.2. Validity 0 is a lost tracker. Its names come with INFO, of which nothing is said.
    eighth = math.pi / 8
    seen = (
        {"camera_id": "1", "position_m": (1.5, -0.5, 2.25), "wxyz": (math.cos(eighth), 0, 0, -math.sin(eighth))},
        {"camera_id": "2", "position_m": (3.0, -1.0, 2.25), "wxyz": (H, 0, 0, -H)},
    )
    lost = {"reject": "not-tracked"}
    data, info = ((DATA / "psn" / name).read_bytes() for name in ("data_1.bin", "info_0.bin"))
    named = ({**line, "status": f"Tracker {n}, validity 0.{n}"} for n, line in enumerate(seen, 1))
    single = 2**-22  # quaternions of 32-bit rotation vectors
    return [
        Vector("the reference's", reference, ({"camera_id": "3", "position_m": (1, 3, 2), "wxyz": (H, 0, 0, -H)},), single),
        Vector("VYV's data", data, (*seen, lost), single),
        Vector("VYV's info", info, ()),
        Vector("VYV's data after its info", data, (*named, lost), single),
    ]


def osc_vectors() -> list[Vector]:
    """The reference's VMC camera: at (0, 1.5, -2) in Unity's axes, at rest, 35° of field; 24 mm / 2 / tan 17.5° = 38.06 mm."""
    wire = "2f564d432f4578742f43616d000000002c736666666666666666000043616d657261000000000000" + "3fc00000c0000000"
    wire += "0000000000000000000000003f800000420c0000"
    lens = {"focal_length_mm": 12 / math.tan(math.radians(17.5))}
    said = {"camera_id": "Camera", "position_m": (0, -2, 1.5), "wxyz": (1, 0, 0, 0), "lens": lens}
    return [Vector("the reference's", bytes.fromhex(wire), (said,))]


KNOWN: dict[str, tuple[str, tuple[str, ...], Callable[[], list[Vector]]]] = {
    "FreeD": ("freed+udp", (), freed_vectors),
    "OpenTrackIO": ("opentrackio+udp", (), opentrackio_vectors),
    "PosiStageNet": ("psn+udp", (), psn_vectors),
    "OSC": ("osc+udp", ("--preset", "vmc", "--sensor", "36,24"), osc_vectors),
}


def on_an_axis(a: Quat, b: Quat) -> float:
    """largest error of pan, tilt or roll"""
    differences = (p - q for p, q in zip(pan_tilt_roll_of(a), pan_tilt_roll_of(b)))
    return math.degrees(max(abs(math.remainder(d, math.tau)) for d in differences))


def as_a_turn(a: Quat, b: Quat) -> float:
    """largest angle between what was sent and what came"""
    w, x, y, z = a
    _, *sine = multiply((w, -x, -y, -z), b)
    return math.degrees(2 * math.asin(min(math.hypot(*sine), 1.0)))


class RoundTrip(NamedTuple):
    """Of a protocol over UDP. step_mm, step_deg: what the wire can tell apart, within 8 m; off_deg: by what it is judged."""

    protocol: str
    step_mm: float
    step_deg: float
    preset: str | None = None
    encoding: str | None = None
    off_deg: Callable[[Quat, Quat], float] = as_a_turn


# 32-bit floats from 4 to 8 m are 2⁻²¹ m apart, quaternions' components from ½ to 1 are 2⁻²⁴ apart (half of that in each of
# four, and an angle is twice its chord: 2⁻²³), rotation vectors' from 2 to 4 rad 2⁻²². Of 64-bit floats only the rounding
# of our arithmetic is left.
SINGLE_MM, DOUBLE_MM, DOUBLE_DEG = 1000 * 2**-21, 1e-9, 1e-9
ROUND_TRIPS = {
    "FreeD": RoundTrip("freed", 1 / 64, 1 / 32768, off_deg=on_an_axis),
    "OpenTrackIO, JSON": RoundTrip("opentrackio", DOUBLE_MM, DOUBLE_DEG),
    "OpenTrackIO, CBOR": RoundTrip("opentrackio", DOUBLE_MM, DOUBLE_DEG, encoding="cbor"),
    "PosiStageNet": RoundTrip("psn", SINGLE_MM, math.degrees(2**-22)),
    "OSC, ledvolume": RoundTrip("osc", SINGLE_MM, math.degrees(2**-23), preset="ledvolume"),
    "OSC, vmc": RoundTrip("osc", SINGLE_MM, math.degrees(2**-23), preset="vmc"),
    "native": RoundTrip("native", DOUBLE_MM, DOUBLE_DEG),
}

MEASUREMENTS = (vectors, round_trips)
