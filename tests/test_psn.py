"""PosiStageNet 2.03: VYV's own packets, an independent parser (pypsn) on both ends, turns by hand, broken packets."""

import math
import struct
from pathlib import Path

import pypsn
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.sources import Datagram

NOW = 1_790_000_000_000_000_000
S = 1_000_000_000
DATA = Path(__file__).parent / "data/psn"
VYV_DATA, VYV_INFO = (DATA / "data_1.bin").read_bytes(), (DATA / "info_0.bin").read_bytes()
# wire-formats.md §3: id 3, position 1, 2, 3, orientation 0, π/2, 0, validity 1
REFERENCE = bytes.fromhex(
    "55674c8000000c0040420f000000000002030501010038800300348000000c000000803f000000400000404002000c0000000000"
    "db0fc93f00000000030004000000803f06000800583e0f0000000000"
)
H = math.sqrt(0.5)
FLOAT32 = 2**-23  # relative


def chunk(kind: int, data: bytes, has_chunks: bool = False) -> bytes:
    """By hand: u16 id, u15 length, a bit for sub-chunks."""
    return struct.pack("<I", kind | len(data) << 16 | has_chunks << 31) + data


def vector(*numbers: float) -> bytes:
    return struct.pack("<3f", *numbers)


def tracker(number=1, position=(0, 0, 0), orientation=(0, 0, 0), validity=1.0, *more: bytes) -> bytes:
    chunks = [chunk(0, vector(*position)), chunk(2, vector(*orientation)), chunk(3, struct.pack("<f", validity)), *more]
    return chunk(number, b"".join(chunks), True)


def packet(*trackers: bytes, stamp_us=1_000_000, kind=0x6755, version=(2, 3), more=b"") -> bytes:
    header = chunk(0, struct.pack("<QBBBB", stamp_us, *version, 0, 1))
    return chunk(kind, header + more + chunk(1 if kind == 0x6755 else 2, b"".join(trackers), True), True)


def info(**names: str) -> bytes:
    return packet(*(chunk(int(n[1:]), chunk(0, name.encode()), True) for n, name in names.items()), kind=0x6756)


def decode(decoder, payload: bytes, at_ns: int = NOW) -> list[CameraSample]:
    return decoder.decode(Datagram("test", payload, at_ns))


def only(payload: bytes, **reading) -> CameraSample:
    decoder = open_decoder("psn", **reading)
    [sample] = decode(decoder, payload)
    assert not decoder.rejects, decoder.last_reject
    return sample


def counted(decoder) -> int:
    return decoder.accepted + decoder.rejects.total() + decoder.ignored.total()


# ---- VYV's packets and the reference's


def test_vyvs_data_packet_says_what_its_encoder_was_given():
    decoder = open_decoder("psn")
    one, two = decode(decoder, VYV_DATA)
    # by the bytes: trackers 0 to 2 at (0|1.5|3, 2.25, 0|-0.5|-1), turned by (0|π/4|π/2) about y, validity 0|0.1|0.2,
    # stamps 0|1000|2000 µs. Validity 0 is a lost tracker. Ours: (x, z, y), and + about y is our -z.
    assert decoder.rejects == {"not-tracked": 1}
    assert (one.camera_id, one.status, one.stamped_at_ns) == ("1", "validity 0.1", 1_000_000)
    assert (two.camera_id, two.status, two.stamped_at_ns) == ("2", "validity 0.2", 2_000_000)
    assert one.world_from_tracker.position_m == (1.5, -0.5, 2.25)
    assert two.world_from_tracker.position_m == (3.0, -1.0, 2.25)
    eighth = math.pi / 8
    assert one.world_from_tracker.wxyz == pytest.approx((math.cos(eighth), 0, 0, -math.sin(eighth)), abs=FLOAT32)
    assert two.world_from_tracker.wxyz == pytest.approx((H, 0, 0, -H), abs=FLOAT32)


def test_vyvs_packets_mean_the_same_to_pypsn():
    theirs = pypsn.parse_psn_packet(VYV_DATA)
    ours = decode(open_decoder("psn"), VYV_DATA)
    for their, our in zip(theirs.trackers[1:], ours, strict=True):
        assert str(their.id) == our.camera_id
        assert (their.pos.x, their.pos.z, their.pos.y) == our.world_from_tracker.position_m
        assert their.timestamp * 1000 == our.stamped_at_ns


def test_names_come_with_vyvs_info_packet_and_change_no_id():
    decoder = open_decoder("psn")
    before = decode(decoder, VYV_DATA)
    assert decode(decoder, VYV_INFO) == []
    after = decode(decoder, VYV_DATA)
    assert [s.camera_id for s in before] == [s.camera_id for s in after] == ["1", "2"]
    assert [s.status for s in after] == ["Tracker 1, validity 0.1", "Tracker 2, validity 0.2"]
    assert decoder.accepted == 2 + 3 + 2


def test_cameras_may_go_by_name_and_then_wait_for_it():
    decoder = open_decoder("psn", profile={"camera_id": "name"})
    assert decode(decoder, VYV_DATA) == []
    assert decoder.ignored == {"tracker 1: no name yet": 1, "tracker 2: no name yet": 1}
    decode(decoder, VYV_INFO)
    assert [s.camera_id for s in decode(decoder, VYV_DATA)] == ["Tracker 1", "Tracker 2"]


def test_the_packet_of_the_reference():
    sample = only(REFERENCE)
    assert (sample.camera_id, sample.stamped_at_ns) == ("3", 0x0F3E58 * 1000)
    assert sample.world_from_tracker.position_m == (1, 3, 2)
    assert sample.world_from_tracker.wxyz == pytest.approx((H, 0, 0, -H), abs=FLOAT32)


# ---- axes: x right, y up, z depth, left-handed. By hand, with the left hand: the thumb along the axis, fingers turn.

TURNS = {
    # about y (up), clockwise from above: the camera pans right, ours is about -Z
    "pan right": ((0, math.pi / 2, 0), (H, 0, 0, -H), (1, 0, 0)),
    # about x (right): y goes to z, up goes forward, and forward goes down
    "tilt down": ((math.pi / 2, 0, 0), (H, -H, 0, 0), (0, 0, -1)),
    "tilt up": ((-math.pi / 2, 0, 0), (H, H, 0, 0), (0, 0, 1)),
    # about z (forward): x goes to y, the right side up: counter-clockwise seen from behind
    "roll counter-clockwise": ((0, 0, math.pi / 2), (H, 0, -H, 0), (0, 1, 0)),
    # by 120° about (1, 1, 1): x → y → z → x: right goes up, up goes forward, forward goes right
    "a third of a turn": ((2 * math.pi / 3 / math.sqrt(3),) * 3, (0.5, -0.5, -0.5, -0.5), (1, 0, 0)),
}


@pytest.mark.parametrize(("orientation", "wxyz", "forward"), TURNS.values(), ids=TURNS.keys())
def test_a_turn_comes_out_in_our_axes(orientation, wxyz, forward):
    pose = only(packet(tracker(1, (0, 0, 0), orientation))).world_from_tracker
    assert pose.wxyz == pytest.approx(wxyz, abs=FLOAT32)
    assert pose.apply((0, 1, 0)) == pytest.approx(forward, abs=2 * FLOAT32)


def test_a_camera_right_of_the_middle_above_the_floor_in_front_of_the_wall():
    assert only(packet(tracker(1, (1.5, 2, -3)))).world_from_tracker.position_m == (1.5, -3, 2)


def test_a_server_with_other_axes_is_read_by_a_profile():
    # OpenGL's: x right, y up, -z forward, right-handed: + about y turns left there and here
    pose = only(packet(tracker(1, (1, 1.5, 2), (0, math.pi / 2, 0))), profile={"axes": "x -z y"}).world_from_tracker
    assert pose.position_m == (1, -2, 1.5)
    assert pose.wxyz == pytest.approx((H, 0, 0, H), abs=FLOAT32)


@pytest.mark.parametrize("profile", [{"axes": "x y"}, {"axis": "x z y"}, {"camera_id": "label"}, "vyv"])
def test_a_profile_that_makes_no_sense_is_refused(profile):
    with pytest.raises(ConfigError, match="profile"):
        open_decoder("psn", profile=profile)


# ---- the tree of chunks


def test_unknown_chunks_are_passed_over_and_longer_ones_read_from_their_beginning():
    longer = chunk(0, vector(1, 2, 3) + b"newer") + chunk(2, vector(0, 0, 0) + bytes(8)) + chunk(3, struct.pack("<fI", 1, 7))
    payload = packet(chunk(9, chunk(99, b"?") + longer + chunk(6, struct.pack("<QQ", 5, 6)), True), more=chunk(77, b"new"))
    sample = only(payload)
    assert (sample.camera_id, sample.world_from_tracker.position_m, sample.stamped_at_ns) == ("9", (1, 3, 2), 5000)


def test_a_tracker_without_a_stamp_has_its_packets():
    assert only(packet(tracker(), stamp_us=123)).stamped_at_ns == 123_000
    assert only(packet(tracker(1, (0, 0, 0), (0, 0, 0), 1.0, chunk(6, bytes(8))), stamp_us=123)).stamped_at_ns == 123_000
    assert only(packet(tracker(), stamp_us=0)).captured_at_ns == NOW


def test_a_servers_clock_is_followed():
    decoder = open_decoder("psn")
    for k in range(50):  # 60 Hz, arriving 0 or 3 ms late
        sent_us = k * 16_667
        [sample] = decode(decoder, packet(tracker(), stamp_us=5_000_000 + sent_us), NOW + sent_us * 1000 + k % 2 * 3_000_000)
    assert (decoder.clocks["1"].kind, sample.captured_at_ns) == ("source", NOW + 49 * 16_667_000)


def test_frames_of_several_packets_are_read_as_they_come():
    decoder = open_decoder("psn")
    ids = [s.camera_id for part in ([1, 2], [3], [4, 5]) for s in decode(decoder, packet(*(tracker(n) for n in part)))]
    assert ids == ["1", "2", "3", "4", "5"]


REJECTED = {
    "not-psn": b"/ledvolume/camera\0\0\0",
    "truncated": b"Ug",
    "bad-version": packet(tracker(), version=(3, 0)),
    "no-header": chunk(0x6755, chunk(1, tracker(), True), True),
    "no-position": packet(chunk(1, chunk(2, vector(0, 0, 0)))),
    "not-tracked": packet(tracker(validity=0.0)),
    "not-finite": packet(tracker(position=(math.nan, 0, 0))),
    "bad-orientation": packet(tracker(orientation=(0, 1e5, 0))),
    "too-far": packet(tracker(position=(0, 20_000, 0))),
    "bad-stamp": packet(tracker(), stamp_us=2**64 - 1),
    "bad-name": info(t1="x" * 65),
}


@pytest.mark.parametrize(("reason", "payload"), REJECTED.items(), ids=REJECTED.keys())
def test_what_is_wrong_is_counted_by_reason(reason, payload):
    decoder = open_decoder("psn")
    assert decode(decoder, payload) == []
    assert (decoder.rejects, decoder.ignored) == ({reason: 1}, {})


def test_a_name_that_is_no_text_is_refused():
    decoder = open_decoder("psn")
    decode(decoder, packet(chunk(1, chunk(0, b"\xff\xfe"), True), kind=0x6756))
    assert decoder.rejects == {"bad-name": 1}


IGNORED = {
    "tracker 1: position only": packet(chunk(1, chunk(0, vector(1, 2, 3)), True)),
    "no trackers": packet(),
    "PSN 1 data": chunk(0x6754, b"anything"),
    "PSN 1 info": chunk(0x503C, b"anything"),
}


@pytest.mark.parametrize(("kind", "payload"), IGNORED.items(), ids=IGNORED.keys())
def test_what_is_not_for_us_is_ignored_by_kind(kind, payload):
    decoder = open_decoder("psn")
    assert decode(decoder, payload) == []
    assert (decoder.ignored, decoder.rejects) == ({kind: 1}, {})


def test_a_broken_tracker_hides_no_good_one():
    short = chunk(2, chunk(0, b"\0\0")[:-1] + chunk(2, b""), True)
    decoder = open_decoder("psn")
    samples = decode(decoder, packet(tracker(1), short, tracker(3), tracker(4, validity=0.0), tracker(5)))
    assert [s.camera_id for s in samples] == ["1", "3", "5"]
    assert decoder.rejects == {"truncated": 1, "not-tracked": 1}
    # a length that lies takes what follows with it, not what came before
    decoder = open_decoder("psn")
    assert [s.camera_id for s in decode(decoder, packet(tracker(1), struct.pack("<HH", 2, 500)))] == ["1"]
    assert decoder.rejects == {"truncated": 1}


def test_more_than_a_turn_is_used_and_flagged():
    decoder = open_decoder("psn")
    [sample] = decode(decoder, packet(tracker(orientation=(0, 90.0, 0))))
    assert decoder.flags == {"more-than-a-turn": 1} and "degrees" in decoder.flagged["more-than-a-turn"]
    half = 45.0  # rad, of 90 about -Z; w made positive
    assert abs(sample.world_from_tracker.wxyz[3]) == pytest.approx(abs(math.sin(half)), abs=1e-6)


# ---- the sender


@pytest.mark.parametrize("axes", ["x z y", "x -z y", "x y z"])
@given(st.tuples(*[st.floats(-100, 100)] * 3), st.tuples(*[st.floats(-math.pi, math.pi)] * 3))
def test_what_is_sent_comes_back_to_the_wires_floats(axes, position, angles):
    sent = CameraSample("7", NOW, NOW, Pose(pan_tilt_roll(*angles), position))
    reading = {"profile": {"axes": axes}}
    [_, payload] = open_encoder("psn", **reading)(sent)
    got = only(payload, **reading)
    assert got.camera_id == "7"
    assert got.world_from_tracker.position_m == pytest.approx(position, rel=FLOAT32, abs=1e-30)
    chord = min(
        math.dist(got.world_from_tracker.wxyz, q)
        for q in (sent.world_from_tracker.wxyz, [-c for c in sent.world_from_tracker.wxyz])
    )
    assert 2 * chord <= 4 * math.pi * FLOAT32


def test_pypsn_reads_what_is_sent():
    encode = open_encoder("psn")
    turn = pan_tilt_roll(-math.pi / 2, 0, 0)  # to the right: + about their y
    said, seen = encode(CameraSample("A", NOW, NOW, Pose(turn, (1.5, -3, 2))))
    names = pypsn.parse_psn_packet(said)
    assert [(t.tracker_id, t.tracker_name) for t in names.trackers] == [(1, b"A")]
    assert names.name == b"ledvolume"
    data = pypsn.parse_psn_packet(seen)
    assert (data.info.version_high, data.info.version_low, data.info.packet_count) == (2, 3, 1)
    [their] = data.trackers
    assert (their.id, tuple(their.pos), their.status) == (1, (1.5, 2.0, -3.0), 1.0)
    assert tuple(their.ori) == pytest.approx((0, math.pi / 2, 0), abs=4 * FLOAT32)
    assert their.timestamp == data.info.timestamp == 1_000_000


def test_names_are_told_once_a_second():
    encode = open_encoder("psn")
    sent = [len(encode(CameraSample("A", NOW + k * S // 10, 0, Pose()))) for k in range(25)]
    assert [k for k, n in enumerate(sent) if n == 2] == [0, 10, 20]
    assert len(encode(CameraSample("B", NOW + 25 * S // 10, 0, Pose()))) == 2


def test_frames_are_numbered():
    encode = open_encoder("psn")
    frames = [encode(CameraSample("A", NOW + k, 0, Pose()))[-1] for k in range(258)]
    numbers = [pypsn.parse_psn_packet(frame).info.frame_id for frame in frames]
    assert numbers == [k % 256 for k in range(258)]


def test_the_stamps_of_a_sender_keep_their_rhythm_through_the_decoder():
    encode, decoder = open_encoder("psn"), open_decoder("psn", cameras={"1": "A"})
    captured = []
    for k in range(10):
        at_ns = NOW + k * S // 60
        for payload in encode(CameraSample("A", at_ns, at_ns, Pose())):
            captured += [(s.camera_id, s.captured_at_ns - at_ns) for s in decode(decoder, payload, at_ns)]
    assert all(camera == "A" and abs(off_ns) <= 1000 for camera, off_ns in captured)  # the wire's µs


def test_cameras_without_a_number_get_the_lowest_free_ones():
    encode = open_encoder("psn")
    samples = [encode(CameraSample(name, NOW, NOW, Pose()))[-1] for name in ("A", "7", "1", "A")]
    assert [only(payload).camera_id for payload in samples] == ["1", "7", "2", "1"]


# ---- hostile bytes


@pytest.mark.parametrize("payload", [VYV_DATA, VYV_INFO, REFERENCE], ids=["VYV data", "VYV info", "reference"])
def test_every_truncation_is_refused(payload):
    for size in range(len(payload)):
        decoder = open_decoder("psn")
        assert decode(decoder, payload[:size]) == []
        assert (decoder.rejects, counted(decoder)) == ({"truncated": 1}, 1)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_counted_and_raise_nothing(payload):
    decoder = open_decoder("psn")
    for beginning in (b"", b"\x55\x67", b"\x56\x67"):
        before = counted(decoder)
        decode(decoder, beginning + payload)
        assert counted(decoder) > before


@given(st.recursive(st.binary(max_size=20), lambda c: st.lists(st.tuples(st.integers(0, 9), c), max_size=5), max_leaves=20))
def test_trees_of_any_shape_are_counted_and_raise_nothing(tree):
    def written(node) -> bytes:
        return node if isinstance(node, bytes) else b"".join(chunk(kind, written(data)) for kind, data in node)

    header = chunk(0, struct.pack("<QBBBB", 1, 2, 3, 0, 1))
    for kind in (0x6755, 0x6756):
        decoder = open_decoder("psn")
        decode(decoder, chunk(kind, header + chunk(kind - 0x6754, written(tree), True), True))
        assert counted(decoder) > 0


def test_memory_of_names_is_bounded():
    decoder = open_decoder("psn")
    for number in range(5000):
        decode(decoder, info(**{f"t{number}": f"tracker {number}"}))
    decode(decoder, packet(tracker(4999)))
    assert decoder.accepted == 5001
