"""FreeD D1: vectors of an independent codec, turns by hand, vendors' profiles, and what is wrong on the wire."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledvolume.camera import CameraSample, LensReading
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, pan_tilt_roll, pan_tilt_roll_of
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.protocols.freed import checksum
from ledvolume.protocols.freed_profile import PROFILES, as_profile
from ledvolume.sources import Datagram

NOW = 1_790_000_000_000_000_000
VECTORS = json.loads((Path(__file__).parent / "data/freed/freed_d1_vectors.json").read_text())
H = math.sqrt(0.5)
EXACT = 1e-12
# of the wire, by the manual: half a step of rounding
HALF_STEP_M = 0.001 / 64 / 2
HALF_STEP_RAD = math.radians(1 / 32768) / 2
HALF_STEP_U24 = 1 / 0xFFFFFF / 2

# wire-formats.md §1: camera 1, pan -12.5, tilt 3.25, roll 0.5, 1500, -2250.5, 1800.25 mm, zoom 0x0ABCDE, focus 0x012345
REFERENCE = bytes.fromhex("d101f9c00001a000004000017700fdcd6001c2100abcde012345000052")


def message(pan=0, tilt=0, roll=0, x=0, y=0, z=0, zoom=0, focus=0, spare=0, camera=1, kind=0xD1) -> bytes:
    """A message by hand: degrees and mm."""
    steps = [round(v * 32768) for v in (pan, tilt, roll)] + [round(v * 64) for v in (x, y, z)]
    body = bytes((kind, camera)) + b"".join((s & 0xFFFFFF).to_bytes(3, "big") for s in [*steps, zoom, focus])
    body += spare.to_bytes(2, "big")
    return body + bytes(((0x40 - sum(body)) % 256,))


def samples_of(payload: bytes, **reading) -> list[CameraSample]:
    decoder = open_decoder("freed", **reading)
    samples = decoder.decode(Datagram("test", payload, NOW))
    assert not decoder.rejects, decoder.last_reject
    return samples


def only(payload: bytes, **reading) -> CameraSample:
    [sample] = samples_of(payload, **reading)
    return sample


def counted(decoder) -> int:
    return decoder.accepted + decoder.rejects.total() + decoder.ignored.total()


def turned(sample: CameraSample) -> tuple:
    return sample.world_from_tracker.wxyz


# ---- the wire


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["valid"]], ids=lambda v: v["name"])
def test_a_vector_decodes_to_what_an_independent_codec_says(vector):
    sample, expected = only(bytes.fromhex(vector["hex"])), vector["expect"]
    assert sample.camera_id == str(expected["ID"])
    assert sample.world_from_tracker.position_m == pytest.approx([expected[k] / 1000 for k in "XYZ"], abs=EXACT)
    degrees = (-expected["Pan"], expected["Tilt"], expected["Roll"])
    same = pan_tilt_roll(*map(math.radians, degrees))
    assert turned(sample) == pytest.approx(same, abs=EXACT) or turned(sample) == pytest.approx([-c for c in same], abs=EXACT)
    assert sample.lens.zoom_encoder * 0xFFFFFF == pytest.approx(expected["Zoom"])
    assert sample.lens.focus_encoder * 0xFFFFFF == pytest.approx(expected["Focus"])
    assert (sample.captured_at_ns, sample.received_at_ns, sample.stamped_at_ns) == (NOW, NOW, 0)


REFUSED = {
    "bad_checksum": ({"bad-checksum": 1}, {}, 0),
    "short28": ({"wrong-length": 1}, {}, 0),
    "type_D2": ({}, {"D2": 1}, 0),
    "two_in_one_datagram": ({}, {}, 2),
}


def test_every_vector_is_used():
    assert len(VECTORS) == 21
    assert {v["name"] for v in VECTORS if not v["valid"]} | {"two_in_one_datagram"} == REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_a_vector_that_is_not_one_message_is_counted_by_reason(name):
    [vector] = [v for v in VECTORS if v["name"] == name]
    decoder = open_decoder("freed")
    samples = decoder.decode(Datagram("test", bytes.fromhex(vector["hex"]), NOW))
    assert (decoder.rejects, decoder.ignored, len(samples)) == REFUSED[name]
    if name == "two_in_one_datagram":  # the second one's pan: 0x050000 / 32768 = 10° to the right
        assert [math.degrees(pan_tilt_roll_of(turned(s))[0]) for s in samples] == pytest.approx([0, -10])


def test_the_message_of_the_reference():
    sample = only(REFERENCE)
    assert sample.world_from_tracker.position_m == pytest.approx((1.5, -2.2505, 1.80025), abs=EXACT)
    angles = [math.degrees(a) for a in pan_tilt_roll_of(turned(sample))]
    assert angles == pytest.approx([12.5, 3.25, 0.5], abs=1e-9)
    assert sample.lens == LensReading(zoom_encoder=0x0ABCDE / 0xFFFFFF, focus_encoder=0x012345 / 0xFFFFFF)
    [again] = open_encoder("freed")(sample)
    assert again == REFERENCE


def test_the_extremes_of_the_reference():
    # pan 180, tilt -90, roll -180; the reference gives the beginning and the checksum
    wire = bytes.fromhex("d1005a0000d30000a6000000") + bytes(16) + b"\x9c"
    assert wire == message(180, -90, -180, camera=0)
    # looking straight down: the forward axis is -Z. Top after tilt: +Y; pan 180°: -Y; roll 180° turns it about -Z: +Y
    turn = Pose(turned(only(wire)))
    assert turn.apply((0, 1, 0)) == pytest.approx((0, 0, -1), abs=EXACT)
    assert turn.apply((0, 0, 1)) == pytest.approx((0, 1, 0), abs=EXACT)


TURNS = {  # what the operator does, the wire's degrees, our quaternion by hand
    "pan right by 90: about -Z": (dict(pan=90), (H, 0, 0, -H)),
    "tilt up by 90: about X": (dict(tilt=90), (H, H, 0, 0)),
    "roll clockwise by 90: about Y": (dict(roll=90), (H, 0, H, 0)),
    # (H,0,0,-H)·(H,H,0,0) = (½, ½, -½, -½): -k·i = -j
    "pan right, then tilt up": (dict(pan=90, tilt=90), (0.5, 0.5, -0.5, -0.5)),
}


@pytest.mark.parametrize(("angles", "wxyz"), TURNS.values(), ids=TURNS.keys())
def test_a_turn_comes_out_in_our_axes(angles, wxyz):
    assert turned(only(message(**angles))) == pytest.approx(wxyz, abs=EXACT)


def test_a_camera_panned_right_looks_along_x():
    assert Pose(turned(only(message(pan=90)))).apply((0, 1, 0)) == pytest.approx((1, 0, 0), abs=EXACT)


def test_pan_goes_on_through_180_degrees_with_and_without_the_jump_to_minus_180():
    def steps(pans):
        q = [turned(only(message(pan=pan))) for pan in pans]
        return [2 * math.degrees(math.acos(min(1.0, abs(sum(a * b for a, b in zip(p, r)))))) for p, r in zip(q, q[1:])]

    for pans in ([178, 179, 180, -179, -178], [178, 179, 180, 181, 182], [-254, -255, -256, 103, 102]):
        assert steps(pans) == pytest.approx([1, 1, 1, 1], abs=1e-6)


def test_good_messages_beside_broken_ones_are_kept():
    good, bad = message(pan=10, camera=7), bytearray(message(camera=8))
    bad[5] ^= 1
    cases = [
        (bytes(bad) + good, 1, {"bad-checksum": 1}, {}),
        (good + bytes(bad) + good, 2, {"bad-checksum": 1}, {}),
        (good + good[:20], 1, {"wrong-length": 1}, {}),
        (good[:20] + good, 1, {"wrong-length": 1}, {}),
        (b"noise" + good + good, 2, {"not-freed": 1}, {}),
        (bytes((0xD0, 7, 0xD1, 0x98)) + good, 1, {}, {"D0": 1}),  # 0x40 - 0xD0 - 7 - 0xD1 = 0x98 mod 256
        (message(kind=0xD2) + good, 1, {}, {"D2": 1}),
        (bytes(bad) + bytes(bad) + good, 1, {"bad-checksum": 2}, {}),
    ]
    for payload, samples, rejects, ignored in cases:
        decoder = open_decoder("freed")
        found = decoder.decode(Datagram("test", payload, NOW))
        assert (len(found), decoder.rejects, decoder.ignored) == (samples, rejects, ignored), payload.hex()
        assert {s.camera_id for s in found} == {"7"}


@pytest.mark.parametrize("kind", [0xD0, *range(0xD2, 0xDC)])
def test_other_kinds_of_message_are_ignored_by_kind(kind):
    decoder = open_decoder("freed")
    assert not decoder.decode(Datagram("test", message(kind=kind)[:29], NOW))
    assert (decoder.ignored, decoder.rejects) == ({f"{kind:02X}": 1}, {})


def test_radamecs_older_mode_is_ignored():
    decoder = open_decoder("freed")
    decoder.decode(Datagram("test", b"\xa2" + bytes(29), NOW))
    assert (decoder.ignored, decoder.rejects) == ({"A2": 1}, {})


def test_a_datagram_of_nothing_but_messages_is_bounded():
    decoder = open_decoder("freed")
    assert len(decoder.decode(Datagram("test", message() * 2000, NOW))) == 255
    assert decoder.rejects == {"wrong-length": 1}


# ---- profiles


def test_z_cam_says_focal_length_focus_and_iris():
    [vector] = [v for v in VECTORS if v["name"] == "zcam_iris"]
    lens = only(bytes.fromhex(vector["hex"]), profile="z-cam").lens
    # its note: 9.50 mm, 1230 mm, F2.8
    assert (lens.focal_length_mm, lens.focus_distance_m, lens.f_stop) == pytest.approx((9.5, 1.23, 2.8))
    assert lens.zoom_encoder is None


def test_z_cams_counter_shows_what_was_lost():
    decoder = open_decoder("freed", profile="z-cam")
    for number in (14, 15, 0, 0, 2, 3):
        decoder.decode(Datagram("test", message(zoom=3500, focus=10_000, spare=number << 12 | 280), NOW))
    assert decoder.flags == {"sequence-gap": 1} and "2 after 0" in decoder.flagged["sequence-gap"]


def test_an_encoder_ends_at_its_stops_and_says_so():
    decoder = open_decoder("freed", profile="panasonic")
    # 0x555 to 0xFFF: the middle of 1365 and 4095 is 2730; 1300 lies before the stop
    [a, b] = decoder.decode(Datagram("test", message(zoom=2730, focus=4095, spare=1365) + message(zoom=1300, focus=1365), NOW))
    assert a.lens == LensReading(zoom_encoder=0.5, focus_encoder=1.0, iris_encoder=0.0)
    assert b.lens.zoom_encoder == 0.0
    assert decoder.flags["lens-out-of-range"] == 2  # zoom, and the spare bytes' 0


def test_a_focal_length_of_nothing_is_not_reported():
    decoder = open_decoder("freed", profile="z-cam")
    [sample] = decoder.decode(Datagram("test", message(zoom=0, focus=10_000, spare=280), NOW))
    assert sample.lens == LensReading(focus_distance_m=1.0, f_stop=2.8)
    assert decoder.flags["lens-out-of-range"] == 1


def test_a_vertical_angle_of_view_becomes_a_focal_length_of_the_sensor():
    profile = {"zoom": {"means": "fov_vertical deg", "raw": [0, 1000], "values": [0, 1]}, "focus": {"means": "skip"}}
    # 35° on 24 mm: 12 / tan 17.5° = 38.0591 mm
    lens = only(message(zoom=35_000), profile=profile, sensor_mm=(36.0, 24.0)).lens
    assert lens.focal_length_mm == pytest.approx(38.0591, abs=1e-4)
    assert only(message(zoom=35_000), profile=profile).lens == LensReading()


def test_a_profile_corrects_axes_signs_and_unit():
    # This sender: x forward, y left, z up, cm, and everything turns the other way.
    profile = {"axes": "-y x z", "pan_sign": -1, "tilt_sign": -1, "roll_sign": -1, "position_unit": "cm"}
    sample = only(message(pan=90, x=200, y=-100, z=150), profile=profile)
    assert sample.world_from_tracker.position_m == pytest.approx((1, 2, 1.5), abs=EXACT)
    assert turned(sample) == pytest.approx((H, 0, 0, H), abs=EXACT)
    assert turned(only(message(tilt=90), profile=profile)) == pytest.approx((H, -H, 0, 0), abs=EXACT)
    assert turned(only(message(roll=90), profile=profile)) == pytest.approx((H, 0, -H, 0), abs=EXACT)


def test_a_profile_may_be_based_on_a_built_in_one():
    profile = as_profile({"based_on": "z-cam", "pan_sign": -1})
    assert (profile.zoom, profile.pan_sign) == (PROFILES["z-cam"].zoom, -1)


BAD_PROFILES = {
    "unknown name": ("zcam", "profile", "raw, z-cam"),
    "unknown base": ({"based_on": "zcam"}, "profile.based_on", "raw, z-cam"),
    "unknown key": ({"pan": -1}, "profile", "unknown field `pan`"),
    "a sign of 2": ({"pan_sign": 2}, "profile.pan_sign", "2"),
    "an axis twice": ({"axes": "x x z"}, "profile.axes", "each of x y z once"),
    "unknown unit": ({"position_unit": "km"}, "profile.position_unit", "km"),
    "unknown meaning": ({"zoom": {"means": "zoom"}}, "profile.zoom.means", "zoom_encoder"),
    "an empty range": ({"zoom": {"means": "zoom_encoder", "raw": [5, 5]}}, "profile.zoom", "two different"),
    "bits that are not there": ({"spare": [{"means": "f_stop", "bits": [12, 8]}]}, "profile.spare[0].bits", "16 bits"),
    "a counter in the zoom": ({"zoom": {"means": "sequence"}}, "profile.zoom.means", "spare"),
    "a number": (7, "profile", "table"),
}


@pytest.mark.parametrize(("profile", "key", "expected"), BAD_PROFILES.values(), ids=BAD_PROFILES.keys())
def test_a_profile_that_makes_no_sense_is_refused(profile, key, expected):
    with pytest.raises(ConfigError) as refused:
        open_decoder("freed", profile=profile)
    assert refused.value.key == key and expected in str(refused.value)


# ---- the sender


@pytest.mark.parametrize("profile", PROFILES)
@given(st.data())
def test_what_is_sent_comes_back_to_half_a_step(profile, data):
    number = st.floats(-130, 130)
    angle = st.floats(-math.pi, math.pi)
    pose = Pose(pan_tilt_roll(*(data.draw(angle) for _ in range(3))), tuple(data.draw(number) for _ in range(3)))
    unit = st.floats(0, 1)
    if profile == "z-cam":
        lens = LensReading(data.draw(st.floats(4, 300)), data.draw(st.floats(0.1, 1000)), data.draw(st.floats(1, 40)))
    else:
        iris = data.draw(unit) if PROFILES[profile].spare else None
        lens = LensReading(zoom_encoder=data.draw(unit), focus_encoder=data.draw(unit), iris_encoder=iris)
    sent = CameraSample("9", NOW, NOW, pose, lens)
    [payload] = open_encoder("freed", profile=profile)(sent)
    assert len(payload) == 29
    got = only(payload, profile=profile)
    assert got.camera_id == "9"
    assert math.dist(got.world_from_tracker.position_m, pose.position_m) <= HALF_STEP_M * math.sqrt(3) + EXACT
    # three angles of half a step each, and what acos of near 1 loses
    chord = min(math.dist(turned(got), q) for q in (pose.wxyz, [-c for c in pose.wxyz]))
    assert 2 * chord <= 3 * HALF_STEP_RAD + 1e-9
    if profile == "raw":
        assert got.lens.zoom_encoder == pytest.approx(lens.zoom_encoder, abs=HALF_STEP_U24 + EXACT)
        assert got.lens.focus_encoder == pytest.approx(lens.focus_encoder, abs=HALF_STEP_U24 + EXACT)
    if profile == "z-cam":
        assert got.lens.focal_length_mm == pytest.approx(lens.focal_length_mm, abs=0.005 + EXACT)
        assert got.lens.focus_distance_m == pytest.approx(lens.focus_distance_m, abs=0.00005 + 1e-9)
        assert got.lens.f_stop == pytest.approx(lens.f_stop, abs=0.005 + EXACT)


def test_a_sender_with_other_axes_is_read_by_the_same_profile():
    profile = {"axes": "-y x z", "pan_sign": -1, "roll_sign": -1, "position_unit": "in"}
    sent = CameraSample("1", NOW, NOW, Pose(pan_tilt_roll(0.3, -0.2, 0.1), (1.5, -2.25, 1.625)))
    [payload] = open_encoder("freed", profile=profile)(sent)
    got = only(payload, profile=profile)
    assert got.world_from_tracker.position_m == pytest.approx(sent.world_from_tracker.position_m, abs=0.0254 / 64)
    assert turned(got) == pytest.approx(turned(sent), abs=2e-6)


def test_what_does_not_fit_the_wire_is_not_sent():
    encode = open_encoder("freed")
    with pytest.raises(ConfigError, match="within 131.072 m"):
        encode(CameraSample("1", NOW, NOW, Pose(position_m=(0, 131.1, 0))))
    with pytest.raises(ConfigError, match="24 bits"):
        encode(CameraSample("1", NOW, NOW, Pose(), LensReading(zoom_encoder=1.01)))
    with pytest.raises(ConfigError, match="12 bits"):
        open_encoder("freed", profile="z-cam")(CameraSample("1", NOW, NOW, Pose(), LensReading(f_stop=64.0)))


def test_cameras_without_a_number_get_the_lowest_free_ones():
    encode = open_encoder("freed")
    sent = [encode(CameraSample(name, NOW, NOW, Pose()))[0][1] for name in ("A", "7", "B", "A", "0", "300")]
    assert sent == [1, 7, 2, 1, 0, 3]


def test_the_sum_of_the_manual():
    assert checksum(bytes.fromhex("d101") + bytes(26)) == 0x6E


# ---- hostile bytes


def test_every_truncation_is_counted():
    for payload in (REFERENCE, REFERENCE * 3, message(kind=0xD2) + REFERENCE):
        for size in range(len(payload)):
            decoder = open_decoder("freed")
            decoder.decode(Datagram("test", payload[:size], NOW))
            assert counted(decoder) > 0
            assert (decoder.accepted, decoder.rejects.total()) == (
                size // 29 - decoder.ignored["D2"],
                int(size % 29 > 0 or not size),
            )


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_counted_and_raise_nothing(payload):
    decoder = open_decoder("freed", profile="z-cam")
    decoder.decode(Datagram("test", payload, NOW))
    assert counted(decoder) > 0


@given(st.binary(min_size=27, max_size=27), st.sampled_from(list(PROFILES)))
def test_any_numbers_with_a_right_sum_are_a_pose_or_counted(numbers, profile):
    body = b"\xd1" + numbers
    decoder = open_decoder("freed", profile=profile)
    [sample] = decoder.decode(Datagram("test", body + bytes((checksum(body),)), NOW))
    assert all(map(math.isfinite, (*sample.world_from_tracker.position_m, *turned(sample))))


def test_most_flipped_bits_do_not_get_past_the_checksum():
    r, decoder = random.Random(1), open_decoder("freed")
    for _ in range(1000):
        payload = bytearray(REFERENCE)
        payload[r.randrange(29)] ^= 1 << r.randrange(8)
        decoder.decode(Datagram("test", bytes(payload), NOW))
    assert decoder.accepted == 0 and counted(decoder) == 1000  # of one bit none does
