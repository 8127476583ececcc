"""OpenTrackIO: SMPTE's sender and examples, the traps of its packets, and what hostile senders make of them."""

import json
import math
import struct
import tracemalloc
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledvolume.camera import CameraSample, Distortion, LensReading
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, pan_tilt_roll, rotation_matrix
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.protocols.opentrackio_sample import camera_sample, sample_fields, schema_fault
from ledvolume.sources import Datagram

DATA = Path(__file__).parent / "data" / "opentrackio"
NOW = 1_790_000_000_000_000_000
EXACT = 1e-9
JSON, CBOR = 1, 2
H = math.sqrt(0.5)


def transform(x=0.0, y=0.0, z=0.0, pan=0.0, tilt=0.0, roll=0.0, **more) -> dict:
    return {"translation": {"x": x, "y": y, "z": z}, "rotation": {"pan": pan, "tilt": tilt, "roll": roll}, **more}


def fields(number: int = 1, **more) -> dict:
    """The smallest sample that nothing can be said against."""
    protocol = {"name": "OpenTrackIO", "version": [1, 0, 1]}
    return {"protocol": protocol, "sourceNumber": number, "transforms": [transform(1.0, 2.0, 3.0)], **more}


def header(payload: bytes, sequence=0, offset=0, is_last=True, encoding=JSON, modulus=256) -> bytes:
    """A packet by hand: § Packet structure, and Fletcher-16 as the specification prints it."""
    head = struct.pack(">4sBBHIH", b"OTrk", 0, encoding, sequence, offset, is_last << 15 | len(payload))
    sum1 = sum2 = 0
    for byte in head + payload:
        sum1 = (sum1 + byte) % modulus
        sum2 = (sum2 + sum1) % modulus
    return head + bytes((sum2, sum1)) + payload


def segments(payload: bytes, sizes: tuple[int, ...], sequence: int, step: int) -> list[bytes]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))] + [len(payload)]
    pairs = list(zip(starts, starts[1:]))
    return [header(payload[a:b], (sequence + i * step) % 65536, a, b == len(payload)) for i, (a, b) in enumerate(pairs)]


def feed(decoder, *payloads: bytes, now_ns: int = NOW, every_ns: int = 0) -> list[CameraSample]:
    return [s for i, p in enumerate(payloads) for s in decoder.decode(Datagram("test", p, now_ns + i * every_ns))]


def sample_of(value: dict, decoder=None) -> CameraSample:
    decoder = decoder or open_decoder("opentrackio")
    samples = feed(decoder, header(json.dumps(value).encode()))
    assert len(samples) == 1, decoder.last_reject
    return samples[0]


def captured() -> list[bytes]:
    """UDP payloads of the capture: Ethernet 14 bytes, IPv4 as long as it says, UDP 8."""
    raw, out, at = (DATA / "sender_JSON.pcap").read_bytes(), [], 24
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at + 8)[0]
        ip = raw[at + 16 + 14 : at + 16 + size]
        udp = ip[(ip[0] & 15) * 4 :]
        out.append(udp[8 : struct.unpack_from(">H", udp, 4)[0]])
        at += 16 + size
    return out


def turn(pan: float, tilt: float, roll: float) -> np.ndarray:
    """Rz(pan)·Rx(tilt)·Ry(roll), written out, degrees."""
    (sp, cp), (s, c), (sr, cr) = ((math.sin(math.radians(a)), math.cos(math.radians(a))) for a in (pan, tilt, roll))
    rz = np.array([[cp, -sp, 0], [sp, cp, 0], [0, 0, 1]])
    rx = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    ry = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return rz @ rx @ ry


# ---- what SMPTE's sender and examples say


def test_the_reference_senders_capture_decodes_to_what_it_says():
    decoder = open_decoder("opentrackio")
    samples = feed(decoder, *captured(), every_ns=41_708_333)
    expected = json.loads((DATA / "sender_JSON.decoded.json").read_text())
    assert len(samples) == len(expected) == 68 and not decoder.rejects and not decoder.flags
    for sample, value in zip(samples, expected):
        translation, rotation = value["transforms"][0]["translation"], value["transforms"][0]["rotation"]
        assert sample.world_from_tracker.position_m == pytest.approx(tuple(translation.values()), abs=EXACT)
        assert rotation_matrix(sample.world_from_tracker.wxyz) == pytest.approx(turn(*rotation.values()), abs=EXACT)
        focus, iris, zoom = value["lens"]["encoders"].values()
        distortion = Distortion((1.0, 2.0, 3.0), (1.0, 2.0))
        assert sample.lens == LensReading(24.305, 10.0, 4.0, 0.123, zoom, focus, iris, (0.1, 0.2), distortion, None, 3.1)
        stamp, code = value["timing"]["sampleTimestamp"], value["timing"]["timecode"]
        assert sample.stamped_at_ns == stamp["seconds"] * 10**9 + stamp["nanoseconds"]
        assert sample.timecode == f"{code['hours']:02}:{code['minutes']:02}:{code['seconds']:02}:{code['frames']:02}"
        assert (sample.camera_id, sample.status) == ("1", "Optical Good")


def test_the_vector_of_1_0_1_is_a_packet_whose_sample_has_no_pose():
    decoder = open_decoder("opentrackio")
    assert feed(decoder, bytes.fromhex("4f54726b0001000700000000800754177b2261223a317d")) == []
    assert decoder.ignored == {"no-transforms": 1} and not decoder.rejects


@pytest.mark.parametrize("name", ["complete_static", "complete_dynamic", "recommended_static", "recommended_dynamic"])
def test_smptes_examples_decode(name):
    value, decoder = json.loads((DATA / f"{name}.json").read_text()), open_decoder("opentrackio")
    sample = sample_of(value, decoder)
    rotation, at = np.eye(3), np.zeros(3)
    for _ in value["transforms"]:
        at = at + rotation @ (1, 2, 3)
        rotation = rotation @ turn(180, 90, 45)
    assert rotation_matrix(sample.world_from_tracker.wxyz) == pytest.approx(rotation, abs=EXACT)
    assert sample.world_from_tracker.position_m == pytest.approx(at, abs=EXACT)
    is_complete = name.startswith("complete")
    assert sample.timecode == ("01:02:03;04" if is_complete else "01:02:03:04")
    assert sample.lens.sensor_mm == ((36.0, 24.0) if name.endswith("static") else None)
    assert sample.lens.distortion == (
        Distortion((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (1.0, 2.0), (1.0, 2.0), "Brown-Conrady U-D")
        if is_complete
        else Distortion((1.0, 2.0, 3.0), (1.0, 2.0))
    )
    assert sample.stamped_at_ns == (1718806554_500000000 if is_complete else 0)
    assert dict(decoder.flags) == ({"scale": 2} if is_complete else {})


# ---- axes. By hand: at rest the camera looks along +Y.


@pytest.mark.parametrize(
    ("angles", "forward", "up"),
    [
        (dict(pan=90.0), (-1, 0, 0), (0, 0, 1)),  # to the left
        (dict(tilt=90.0), (0, 0, 1), (0, -1, 0)),  # up
        (dict(roll=90.0), (0, 1, 0), (1, 0, 0)),  # clockwise from behind: its top goes to the right
        (dict(pan=90.0, tilt=45.0), (-H, 0, H), (H, 0, H)),  # pan first, then tilt about the camera's own axis
    ],
    ids=["pan", "tilt", "roll", "pan, then tilt"],
)
def test_pan_turns_left_tilt_up_roll_clockwise(angles, forward, up):
    pose = sample_of(fields(transforms=[transform(**angles)])).world_from_tracker
    assert pose.apply((0, 1, 0)) == pytest.approx(forward, abs=EXACT)
    assert pose.apply((0, 0, 1)) == pytest.approx(up, abs=EXACT)


def test_transforms_are_composed_in_the_order_of_the_list():
    # a dolly 10 m along X turned left by 90°; a crane arm 2 m forward on it, thus to -X; a head 1 m up, tilted down
    chain = [transform(10.0, pan=90.0), transform(0.0, 2.0), transform(0.0, 0.0, 1.0, tilt=-90.0)]
    pose = sample_of(fields(transforms=chain)).world_from_tracker
    assert pose.position_m == pytest.approx((8, 0, 1), abs=EXACT)
    assert pose.apply((0, 1, 0)) == pytest.approx((8, 0, 0), abs=EXACT)


def test_the_pose_is_the_sensors_and_the_entrance_pupil_is_told_beside_it():
    sample = sample_of(fields(lens={"entrancePupilOffset": 0.123}))
    assert sample.world_from_tracker.position_m == (1.0, 2.0, 3.0)
    assert sample.lens.entrance_pupil_m == 0.123


# ---- packets


def test_the_checksum_of_1_0_0_is_understood_and_named():
    value = fields() | {"protocol": {"name": "OpenTrackIO", "version": [1, 0, 0]}}
    decoder = open_decoder("opentrackio")
    assert len(feed(decoder, header(json.dumps(value).encode(), modulus=255))) == 1
    assert dict(decoder.flags) == {"checksum-1.0.0": 1, "version-1.0.0": 1}


def test_a_sender_of_1_0_1_that_kept_the_old_checksum_is_understood_from_its_second_packet_on():
    decoder = open_decoder("opentrackio")
    old = [header(json.dumps(fields()).encode(), sequence, modulus=255) for sequence in range(5)]
    assert len(feed(decoder, *old)) == 4
    assert decoder.rejects == {"bad-checksum": 1} and decoder.flags == {"checksum-1.0.0": 4}


def test_json_without_a_header_is_understood_and_named():
    decoder = open_decoder("opentrackio")
    assert len(feed(decoder, b" \n" + json.dumps(fields()).encode())) == 1
    assert decoder.flags == {"no-header": 1}


def test_the_reserved_byte_is_not_read():
    payload = json.dumps(fields()).encode()
    head = struct.pack(">4sBBHIH", b"OTrk", 0x5A, JSON, 0, 0, 0x8000 | len(payload))
    sum1 = sum2 = 0
    for byte in head + payload:
        sum1, sum2 = (sum1 + byte) % 256, (sum2 + sum1 + byte) % 256
    assert len(feed(open_decoder("opentrackio"), head + bytes((sum2, sum1)) + payload)) == 1


def test_cbor_says_the_same_as_json():
    value = json.loads((DATA / "complete_static.json").read_text())
    [a] = feed(open_decoder("opentrackio"), header(json.dumps(value).encode()))
    [b] = feed(open_decoder("opentrackio"), header(cbor2.dumps(value), encoding=CBOR))
    assert a == b


def test_vendor_encodings_are_not_for_us_and_unknown_ones_are_refused():
    decoder = open_decoder("opentrackio")
    feed(decoder, header(b"x", encoding=0x80), header(b"x", encoding=0xFF), header(b"x", encoding=3))
    assert decoder.ignored == {"vendor encoding 0x80": 1, "vendor encoding 0xff": 1}
    assert decoder.rejects == {"bad-encoding": 1}


LONG = json.dumps(fields(number=7)).encode()
SIZES = {"three": (60, 60, 1), "uneven": (100, 1, 30), "two": (50, 1)}


@pytest.mark.parametrize("step", [1, 0], ids=["a number per packet", "a number per payload"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_segments_are_put_together_in_any_order_across_the_wrap(sizes, step):
    parts = segments(LONG, sizes, 65535, step)
    for order in (parts, parts[::-1], parts[1:] + parts[:1], [p for p in parts for _ in "ab"]):
        decoder = open_decoder("opentrackio")
        assert [s.camera_id for s in feed(decoder, *order)] == ["7"]
        assert not decoder.rejects
        assert decoder.ignored.total() == len(order) - len(parts)


@pytest.mark.parametrize("step", [1, 0], ids=["a number per packet", "a number per payload"])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_lost_segment_discards_its_payload_and_no_other(step, missing):
    decoder, stream = open_decoder("opentrackio"), []
    for i in range(3):
        parts = segments(LONG, SIZES["three"], 10 + (3 * i if step else i), step)
        stream += [p for j, p in enumerate(parts) if (i, j) != (1, missing)]
    assert len(feed(decoder, *stream, every_ns=5_000_000)) == 2
    assert not decoder.rejects, "it may still come"
    feed(decoder, header(LONG, 500), now_ns=NOW + 10**9)
    assert decoder.rejects == {"lost-segment": 1}


def test_segments_of_two_senders_are_told_apart_by_their_numbers():
    a = segments(LONG, SIZES["three"], 10, 1)
    b = segments(LONG.replace(b"7", b"8"), SIZES["three"], 4000, 1)
    decoder = open_decoder("opentrackio")
    assert [s.camera_id for s in feed(decoder, *(p for pair in zip(a, b) for p in pair))] == ["7", "8"]


def test_half_finished_segments_fill_no_memory():
    decoder = open_decoder("opentrackio")

    def flood(n, start):
        for i in range(n):
            payload = (start + i).to_bytes(4, "big") * 350
            decoder.decode(Datagram("test", header(payload, i * 97 % 65536, i % 40 * 1456, False), NOW + i * 1000))

    flood(200, 0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    flood(800, 10_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000  # of 1.1 MB sent
    assert decoder.rejects["lost-segment"] > 900
    assert len(feed(decoder, *segments(LONG, SIZES["three"], 30_000, 1), now_ns=NOW + 10**9)) == 1


def test_the_same_packet_and_the_same_sample_id_count_once():
    decoder = open_decoder("opentrackio")
    named = json.dumps(fields(sampleId="urn:uuid:0d1e1222-c0f7-410e-a51d-da3eb15fbe6c")).encode()
    assert len(feed(decoder, header(LONG, 1), header(LONG, 1), header(named, 2), header(named, 3))) == 2
    assert decoder.ignored == {"duplicate": 2}


def test_a_still_camera_whose_packets_are_all_alike_is_no_duplicate():
    decoder = open_decoder("opentrackio")
    assert len(feed(decoder, *[LONG] * 10, every_ns=40_000_000)) == 10


# ---- samples


@pytest.mark.parametrize("number", [0, 201, 255, -1])
def test_source_numbers_that_no_group_has_are_discarded(number):
    decoder = open_decoder("opentrackio")
    assert feed(decoder, header(json.dumps(fields(number)).encode())) == []
    assert decoder.rejects == {"bad-source-number": 1}


def test_the_static_block_is_remembered_per_source():
    a, b = (f"urn:uuid:{n * 8}-0000-4000-8000-000000000000" for n in "ab")
    size = {"activeSensorPhysicalDimensions": {"width": 27.2, "height": 15.3}}
    decoder = open_decoder("opentrackio")
    assert sample_of(fields(sourceId=a), decoder).lens.sensor_mm is None
    assert sample_of(fields(sourceId=a, static={"camera": size}), decoder).lens.sensor_mm == (27.2, 15.3)
    assert sample_of(fields(sourceId=a, static={"lens": {"distortionOverscanMax": 1.2}}), decoder).lens.overscan == 1.2
    later = sample_of(fields(sourceId=a, sampleId="next"), decoder).lens
    assert (later.sensor_mm, later.overscan) == ((27.2, 15.3), 1.2)
    assert sample_of(fields(sourceId=b), decoder).lens.sensor_mm is None


INVALID = {
    "an encoder past its end": ({"lens": {"encoders": {"focus": 1.02}, "fStop": 4.0}}, {"schema-invalid", "lens-value"}),
    "a focus distance of 0": ({"lens": {"focusDistance": 0, "fStop": 4.0}}, {"schema-invalid"}),
    "a focal length in words": ({"lens": {"pinholeFocalLength": "35", "fStop": 4.0}}, {"schema-invalid", "lens-value"}),
    "a model that nobody knows": ({"lens": {"distortion": [{"model": "3DE", "radial": [1]}], "fStop": 4.0}}, {"distortion"}),
    "25 hours": ({"timing": {"timecode": {"hours": 25}}, "lens": {"fStop": 4.0}}, {"schema-invalid", "timecode"}),
    "a stamp before 1970": (
        {"timing": {"sampleTimestamp": {"seconds": -1, "nanoseconds": 0}}, "lens": {"fStop": 4.0}},
        {"schema-invalid", "sample-timestamp"},
    ),
    "a key of its own": ({"tracker": {"battery": 3}, "lens": {"fStop": 4.0}}, {"schema-invalid"}),
    "no protocol": ({"protocol": None, "lens": {"fStop": 4.0}}, {"schema-invalid", "no-version"}),
}


@pytest.mark.parametrize(("more", "flags"), INVALID.values(), ids=INVALID.keys())
def test_what_the_schema_forbids_is_flagged_and_the_pose_is_used(more, flags):
    decoder = open_decoder("opentrackio")
    sample = sample_of(fields() | more, decoder)
    assert sample.world_from_tracker.position_m == (1.0, 2.0, 3.0)
    assert sample.lens.f_stop == 4.0
    assert set(decoder.flags) == set(decoder.flagged) == flags


UNUSABLE = {
    "NaN": (fields(transforms=[transform(x=math.nan)]), "not-finite"),
    "no rotation": (fields(transforms=[{"translation": {}}]), "bad-transform"),
    "words": (fields(transforms=[transform(pan="north")]), "bad-transform"),
    "millimetres": (fields(transforms=[transform(x=15_000.0)]), "too-far"),
    "a list": ([1], "bad-fields"),
}


@pytest.mark.parametrize("encoding", [JSON, CBOR])
@pytest.mark.parametrize(("value", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_pose_that_cannot_be_is_refused(value, reason, encoding):
    decoder = open_decoder("opentrackio")
    payload = cbor2.dumps(value) if encoding == CBOR else json.dumps(value).encode()
    assert feed(decoder, header(payload, encoding=encoding)) == []
    assert decoder.rejects == {reason: 1}


def test_a_camera_that_lost_its_sync_is_named():
    decoder = open_decoder("opentrackio")
    sample_of(fields(timing={"synchronization": {"locked": False, "source": "genlock"}}), decoder)
    assert decoder.flags == {"not-locked": 1}


# ---- what we send

LENS = LensReading(
    35.1, 2.5, 2.8, -0.0123, 0.3, 0.2, 0.1, (0.11, -0.22), Distortion((1e-5, -2e-9), (1e-6, 3e-7), (0.1, 0.2)), (27.2, 15.3), 1.15
)
SENT = CameraSample(
    "7", NOW, NOW, Pose(pan_tilt_roll(3.0, -0.4, 0.2), (1.1, -2.2, 1.7)), LENS, "ok", NOW - 5 * 10**6, "10:11:12;13"
)


@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_what_we_send_is_what_we_receive(encoding):
    send, decoder = open_encoder("opentrackio", encoding=encoding), open_decoder("opentrackio")
    [sample] = feed(decoder, *send(SENT))
    assert not decoder.flags
    assert sample.world_from_tracker.position_m == SENT.world_from_tracker.position_m
    assert sample.world_from_tracker.wxyz == pytest.approx(SENT.world_from_tracker.wxyz, abs=1e-12)
    assert (sample.lens, sample.status, sample.timecode) == (LENS, "ok", "10:11:12;13")
    assert (sample.camera_id, sample.stamped_at_ns) == ("7", NOW - 5 * 10**6)


@given(*[st.floats(-math.pi, math.pi)] * 3)
@settings(max_examples=200, deadline=None)
def test_any_rotation_survives_straight_up_too(pan, tilt, roll):
    for t in (tilt, math.pi / 2, -math.pi / 2, math.pi / 2 - 1e-9):
        pose = Pose(pan_tilt_roll(pan, t, roll), (0.0, 0.0, 1.0))
        sent = CameraSample("1", NOW, NOW, pose)
        back = camera_sample(sample_fields(sent, 1, "", "", 0)).world_from_tracker
        assert rotation_matrix(back.wxyz) == pytest.approx(rotation_matrix(pose.wxyz), abs=EXACT)


def test_our_sender_counts_packets_past_the_wrap_and_fits_into_a_frame():
    send = open_encoder("opentrackio")
    long = CameraSample("1", NOW, NOW, Pose(), LENS, "x" * 1000)
    seen = []
    for _ in range(40_000):
        out = send(long)
        seen += [struct.unpack_from(">H", p, 6)[0] for p in out]
    assert len(out) == 2 and max(map(len, out)) == 1472  # 1500 less IP and UDP
    assert seen == [i % 65536 for i in range(80_000)]
    assert len(feed(open_decoder("opentrackio"), *out)) == 1


def test_our_sender_says_what_is_fixed_every_two_seconds_and_never_offends_the_schema():
    send = open_encoder("opentrackio")
    told = []
    for i in range(101):  # 5 s at 20 Hz
        at_ns = NOW + i * 50_000_000
        [packet] = send(CameraSample("A camera", at_ns, at_ns, Pose(), LENS))
        value = json.loads(packet[16:])
        assert schema_fault(value) == ""
        if "static" in value:
            told.append(i)
            assert value["static"]["camera"]["label"] == "A camera"
    assert told == [0, 40, 80]


def test_cameras_without_a_number_get_one_each_and_numbers_are_kept():
    send = open_encoder("opentrackio")
    ids = [json.loads(send(CameraSample(c, NOW, NOW, Pose()))[0][16:])["sourceNumber"] for c in ("A", "B", "7", "A", "200")]
    assert ids == [1, 2, 7, 1, 200]


def test_an_encoding_that_we_cannot_send_is_explained():
    with pytest.raises(ConfigError, match="json or cbor"):
        open_encoder("opentrackio", encoding="xml")


# ---- hostile senders

REAL = open_encoder("opentrackio")(SENT)[0]


def test_every_truncation_is_refused():
    decoder = open_decoder("opentrackio")
    assert feed(decoder, *(REAL[:n] for n in range(len(REAL)))) == []
    assert decoder.rejects.total() == len(REAL)
    assert set(decoder.rejects) == {"truncated", "empty", "not-opentrackio"}


def test_every_flipped_bit_is_noticed():
    flips = [bytes(b ^ (1 << bit) if i == at else b for i, b in enumerate(REAL)) for at in range(len(REAL)) for bit in range(8)]
    decoder = open_decoder("opentrackio")
    assert feed(decoder, *flips) == []
    assert decoder.rejects.total() == len(flips)


BOMBS = {
    "a list of 2^63": b"\x9b\x7f" + b"\xff" * 7,
    "4 GB of bytes": b"\x5b\x00\x00\x00\x01" + bytes(4),
    "a map of 2^32": b"\xba\xff\xff\xff\xff",
    "nested": b"\x81" * 5000,
    "lists as keys": b"\xa1\x81\x01\x01",
    "a cycle": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a regular expression": b"\xd8\x23\x63(a+",
    "a number of 2040 bits": b"\xc2\x58\xff" + b"\xff" * 255,
    "not UTF-8": b"\x62\xff\xff",
    "nothing": b"\xa1",
}


@pytest.mark.parametrize("payload", BOMBS.values(), ids=BOMBS.keys())
def test_cbor_bombs_are_refused(payload):
    decoder = open_decoder("opentrackio")
    assert feed(decoder, header(payload, encoding=CBOR)) == []
    assert decoder.rejects == {"not-cbor": 1}


def test_no_cbor_tag_is_followed():
    decoder = open_decoder("opentrackio")
    for tag in (*range(2000), 43000, 55799, 65535, 2**32):
        content = header(b"\xa1\x61a" + cbor2.dumps(cbor2.CBORTag(tag, [1, 2])), tag % 65536, encoding=CBOR)
        assert feed(decoder, content) == []
    assert set(decoder.rejects) == {"not-cbor"}


@pytest.mark.parametrize("payload", [b"[" * 30_000, b'{"a":' * 5000, b'{"transforms":' + b"[" * 900 + b"]" * 900 + b"}"])
def test_json_bombs_are_refused(payload):
    decoder = open_decoder("opentrackio")
    assert feed(decoder, header(payload), payload) == []
    assert decoder.rejects.total() == 2


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4))
COMPLETE = json.loads((DATA / "complete_static.json").read_text())


def paths_of(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [p for key, inner in items for p in paths_of(inner, (*path, key))]


@given(path=st.sampled_from(paths_of(COMPLETE)), tree=TREES, encoding=st.sampled_from((JSON, CBOR)))
@settings(max_examples=300, deadline=None)
def test_anything_anywhere_in_a_sample_is_counted_and_raises_nothing(path, tree, encoding):
    value = json.loads(json.dumps(COMPLETE))
    where = value
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = tree
    try:
        payload = cbor2.dumps(value) if encoding == CBOR else json.dumps(value, default=lambda b: b.hex()).encode()
    except UnicodeEncodeError:
        return
    decoder = open_decoder("opentrackio")
    samples = feed(decoder, header(payload, encoding=encoding))
    assert decoder.accepted + decoder.rejects.total() + decoder.ignored.total() == 1
    assert all(math.isfinite(c) for s in samples for c in s.world_from_tracker.position_m)


@given(st.binary(min_size=1, max_size=400), st.sampled_from((JSON, CBOR)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_in_a_right_packet_are_counted_and_raise_nothing(payload, encoding):
    decoder = open_decoder("opentrackio")
    feed(decoder, header(payload, encoding=encoding), header(payload, 5, 3, True, encoding), payload)
    assert decoder.accepted + decoder.rejects.total() + decoder.ignored.total() == 3
