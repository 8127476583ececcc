"""From socket to sample: what trackers send, what is made of it, and what is refused. Other programs do the sending."""

import gc
import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import time

import msgspec
import pytest
import zmq
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient

from benchmarks.fuzz_protocols import HOSTILE, fuzz
from ledvolume.camera import CameraSample, LensReading
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, multiply, pan_tilt_roll
from ledvolume.protocols import PROTOCOLS, open_decoder, open_encoder
from ledvolume.protocols.osc_map import PRESETS, OscMap, OscMessage, as_map, load_map, preset_map
from ledvolume.sources import SO_TIMESTAMPNS, Datagram, address, open_sender, open_source

NOW = 1_790_000_000_000_000_000
H = math.sqrt(0.5)
FLOAT32 = 1e-6  # relative rounding of the wire's floats, at metres
SAMPLE = CameraSample("A", NOW, NOW, Pose(pan_tilt_roll(0.3, -0.2, 0.1), (1.5, -2.25, 1.625)), LensReading(35.0, 2.5))


def datagram(payload: bytes) -> Datagram:
    return Datagram("test", payload, NOW)


def osc(address: str, *arguments, types: str | None = None) -> bytes:
    """A message made by python-osc."""
    builder = OscMessageBuilder(address)
    for i, argument in enumerate(arguments):
        builder.add_arg(argument, types[i] if types else None)
    return builder.build().dgram


def bundle(*contents: bytes) -> bytes:
    """A bundle, by hand (OSC 1.0): "#bundle", time tag "immediately", elements with their sizes."""
    return b"#bundle\0" + bytes(7) + b"\x01" + b"".join(struct.pack(">i", len(c)) + c for c in contents)


def decoded(decoder, payload: bytes) -> list[CameraSample]:
    samples = decoder.decode(datagram(payload))
    assert not decoder.rejects, decoder.last_reject
    return samples


def only(samples: list[CameraSample]) -> CameraSample:
    assert len(samples) == 1
    return samples[0]


def same_pose(sample: CameraSample, wxyz, position_m) -> bool:
    pose = sample.world_from_tracker
    return pose.wxyz == pytest.approx(wxyz, abs=FLOAT32) and pose.position_m == pytest.approx(position_m, abs=FLOAT32)


# ---- /ledvolume/camera


def test_our_message_says_pose_lens_and_time():
    message = osc("/ledvolume/camera", "A", 1.0, -2.0, 1.5, H, 0.0, 0.0, H, 35.0, 2.5, NOW - 7_000_000, types="sfffffffffh")
    sample = only(decoded(open_decoder("osc", "ledvolume"), message))
    assert same_pose(sample, (H, 0, 0, H), (1, -2, 1.5))
    assert sample.lens == LensReading(focal_length_mm=35.0, focus_distance_m=2.5)
    assert (sample.camera_id, sample.captured_at_ns, sample.received_at_ns) == ("A", NOW - 7_000_000, NOW)


def test_what_follows_the_pose_may_be_left_out_or_0():
    decoder = open_decoder("osc")
    for tail in ((), (0.0,), (0.0, 0.0), (0.0, 0.0, 0)):
        sample = only(decoded(decoder, osc("/ledvolume/camera", "A", 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, *tail)))
        assert sample.lens == LensReading()
        assert sample.captured_at_ns == NOW


@pytest.mark.parametrize("types", ["sfffffff", "sddddddd", "siiiiiii", "shhhhhhh"])
def test_numbers_of_any_size_are_numbers(types):
    values = [float(v) if t in "fd" else v for t, v in zip(types[1:], (1, 2, 3, 1, 0, 0, 0))]
    sample = only(decoded(open_decoder("osc"), osc("/ledvolume/camera", "A", *values, types=types)))
    assert sample.world_from_tracker == Pose((1.0, 0.0, 0.0, 0.0), (1.0, 2.0, 3.0))


def test_a_quaternion_of_the_other_sign_is_the_same_rotation():
    sample = only(decoded(open_decoder("osc"), osc("/ledvolume/camera", "A", 0.0, 0.0, 0.0, -H, 0.0, 0.0, -H)))
    assert same_pose(sample, (H, 0, 0, H), (0, 0, 0))


# ---- VMC: Unity's axes, X right, Y up, Z forward, left-handed. Expected values by hand.
# A positive turn about an axis is clockwise seen from its tip there (left hand), counter-clockwise in ours, so a turn
# about Unity's (x, y, z) is one about ours (-x, -z, -y).

VMC_POSES = {
    "at rest, 2 m back, 1.5 m up": ((0, 1.5, -2), (0, 0, 0, 1), (0, -2, 1.5), (1, 0, 0, 0)),
    "a metre to the right": ((1, 0, 0), (0, 0, 0, 1), (1, 0, 0), (1, 0, 0, 0)),
    # Unity: +90° about Y turns the camera to the right. Ours: pan -90°, about Z.
    "turned right": ((0, 0, 0), (0, H, 0, H), (0, 0, 0), (H, 0, 0, -H)),
    # Unity: +30° about X looks down. Ours: tilt -30°.
    "looking down": ((0, 0, 0), (math.sin(math.pi / 12), 0, 0, math.cos(math.pi / 12)), (0, 0, 0),
                     (math.cos(math.pi / 12), -math.sin(math.pi / 12), 0, 0)),
    # Unity: +90° about Z (forward) rolls counter-clockwise seen from behind. Ours: roll -90°.
    "rolled": ((0, 0, 0), (0, 0, H, H), (0, 0, 0), (H, 0, -H, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("p", "q", "position_m", "wxyz"), VMC_POSES.values(), ids=VMC_POSES.keys())
def test_vmc_comes_out_in_our_axes(p, q, position_m, wxyz):
    message = osc("/VMC/Ext/Cam", "Camera", *map(float, p + q), 60.0)
    assert same_pose(only(decoded(open_decoder("osc", "vmc"), message)), wxyz, position_m)


def test_vmc_camera_looks_where_unity_says():
    # Turned right by 90°, then (about its own X) down by 45°, in Unity: q = qy(90°)·qx(45°). It looks along X and down.
    c, s = math.cos(math.pi / 8), math.sin(math.pi / 8)
    q = (H * s, H * c, -H * s, H * c)  # (x, y, z, w) of (0, H, 0, H)·(s, 0, 0, c)
    sample = only(decoded(open_decoder("osc"), osc("/VMC/Ext/Cam", "Camera", 0.0, 0.0, 0.0, *q, 60.0)))
    turn = Pose(sample.world_from_tracker.wxyz)
    assert turn.apply((0, 1, 0)) == pytest.approx((H, 0, -H), abs=FLOAT32)
    assert turn.apply((1, 0, 0)) == pytest.approx((0, -1, 0), abs=FLOAT32)
    assert turn.apply((0, 0, 1)) == pytest.approx((H, 0, H), abs=FLOAT32)


def test_vmc_bytes_as_they_are_on_the_wire():
    # VMC 2.3 camera at (0, 1.5, -2), at rest, 35°: 68 bytes
    wire = bytes.fromhex(
        "2f564d432f4578742f43616d00000000"  # /VMC/Ext/Cam
        "2c7366666666666666660000"  # ,sffffffff
        "43616d6572610000"  # Camera
        "000000003fc00000c0000000"  # 0, 1.5, -2
        "0000000000000000000000003f800000"  # 0, 0, 0, 1
        "420c0000"  # 35
    )
    assert len(wire) == 68
    sample = only(decoded(open_decoder("osc", "vmc", sensor_mm=(36.0, 24.0)), wire))
    assert same_pose(sample, (1, 0, 0, 0), (0, -2, 1.5))
    # vertical 35° on 24 mm: 12 / tan 17.5° = 38.06 mm
    assert sample.lens.focal_length_mm == pytest.approx(38.0591, abs=1e-4)


def test_a_field_of_view_says_nothing_without_a_sensor():
    sample = only(decoded(open_decoder("osc", "vmc"), osc("/VMC/Ext/Cam", "C", *[0.0] * 6, 1.0, 35.0)))
    assert sample.lens == LensReading()


# ---- VRChat's trackers: Unity's axes in two messages, Euler angles about Unity's x, y, z, applied z, x, y.


def test_a_vrchat_tracker_is_as_the_same_rotation_in_vmc():
    # Unity's Quaternion.Euler(x, y, z) is qy·qx·qz; by hand with the quaternions of the half angles
    x, y, z = (math.radians(a) for a in (20.0, 35.0, -50.0))
    half = [(math.cos(a / 2), math.sin(a / 2)) for a in (x, y, z)]
    (cx, sx), (cy, sy), (cz, sz) = half
    q = multiply(multiply((cy, 0, sy, 0), (cx, sx, 0, 0)), (cz, 0, 0, sz))
    vmc = only(decoded(open_decoder("osc"), osc("/VMC/Ext/Cam", "C", 1.0, 2.0, 3.0, *q[1:], q[0], 60.0)))
    position = osc("/tracking/trackers/3/position", 1.0, 2.0, 3.0)
    rotation = osc("/tracking/trackers/3/rotation", 20.0, 35.0, -50.0)
    for decoder in (open_decoder("osc", "vrchat"), open_decoder("osc")):
        sample = only(decoded(decoder, bundle(rotation, position)))
        assert sample.camera_id == "3"
        assert same_pose(sample, vmc.world_from_tracker.wxyz, vmc.world_from_tracker.position_m)


# ---- LOLED Reality Field: position, angles about the same axes, focus, iris, zoom.


def test_a_loled_tracker_is_read():
    message = osc("/tracker/position/cam1", 1.0, 2.0, 1.5, 0.0, 0.0, 90.0, 0.25, 0.5, 0.75)
    sample = only(decoded(open_decoder("osc", "loled"), message))
    assert sample.camera_id == "cam1" and same_pose(sample, (H, 0, 0, H), (1, 2, 1.5))
    assert sample.lens == LensReading(focus_encoder=0.25, iris_encoder=0.5, zoom_encoder=0.75)


def test_a_lens_encoder_out_of_range_does_not_cost_the_pose():
    decoder = open_decoder("osc", "loled")
    sample = only(decoded(decoder, osc("/tracker/position/cam1", 1.0, 2.0, 1.5, 0.0, 0.0, 0.0, 312.5, 0.5, -1.0)))
    assert sample.lens == LensReading(iris_encoder=0.5)
    assert decoder.flags == {"lens-value": 2} and "expected 0 to 1" in decoder.flagged["lens-value"]


def test_a_vmc_stream_is_mostly_not_for_us():
    bones = [osc("/VMC/Ext/Bone/Pos", "Hips", *[0.0] * 6, 1.0), osc("/VMC/Ext/OK", 1)]
    decoder = open_decoder("osc")
    sample = only(decoded(decoder, bundle(*bones, osc("/VMC/Ext/Cam", "C", *[0.0] * 6, 1.0, 35.0), bones[0])))
    assert sample.camera_id == "C"
    assert (decoder.accepted, decoder.ignored) == (1, {"/VMC/Ext/Bone/Pos": 2, "/VMC/Ext/OK": 1})


# ---- address maps

MAPS = {
    "centimetres, degrees, pan the other way, camera in the address": (
        OscMessage("/tracker/*/pose", ("x cm", "y cm", "z cm", "-pan deg", "tilt deg", "roll deg")),
        osc("/tracker/A/pose", 150.0, -200.0, 160.0, 90.0, 0.0, 0.0),
        (1.5, -2.0, 1.6),
        (H, 0, 0, -H),
    ),
    "inches": (
        OscMessage("/t", ("camera_id", "x in", "y in", "z in", "qw", "qx", "qy", "qz")),
        osc("/t", "A", 100.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        (2.54, 0, 0),
        (1, 0, 0, 0),
    ),
    # OpenGL: X right, Y up, -Z forward, right-handed: ours is (x, -z, y). Turning left is +Y there, +Z here.
    "OpenGL axes": (
        OscMessage("/t", ("x m", "y m", "z m", "qx", "qy", "qz", "qw"), axes="x -z y", camera_id="A"),
        osc("/t", 1.0, 1.5, 2.0, 0.0, H, 0.0, H),
        (1, -2, 1.5),
        (H, 0, 0, H),
    ),
    # Unreal: X forward, Y right, Z up, left-handed, cm: ours is (y, x, z). Its yaw, + to the right, is about Z.
    "Unreal axes": (
        OscMessage("/t", ("x cm", "y cm", "z cm", "qx", "qy", "qz", "qw"), axes="y x z", camera_id="A"),
        osc("/t", -200.0, 100.0, 150.0, 0.0, 0.0, H, H),
        (1, -2, 1.5),
        (H, 0, 0, -H),
    ),
    "radians, what we need not skipped": (
        OscMessage("/t", ("skip", "x mm", "y mm", "z mm", "pan rad", "tilt rad", "roll rad", "skip"), camera_id="A"),
        osc("/t", "note", 1000.0, 0.0, 0.0, math.pi / 2, 0.0, 0.0, 7),
        (1, 0, 0),
        (H, 0, 0, H),
    ),
    # Tilt first, then pan about the camera's own axis: up by 90°, then left about what is now its top (-Y): its forward
    # axis ends at -X... by quaternions: (H, H, 0, 0)·(H, 0, 0, H) = (½, ½, -½, ½)
    "tilt before pan": (
        OscMessage("/t", ("x m", "y m", "z m", "tilt deg", "pan deg"), rotation_order="tilt pan roll", camera_id="A"),
        osc("/t", 0.0, 0.0, 0.0, 90.0, 90.0),
        (0, 0, 0),
        (0.5, 0.5, -0.5, 0.5),
    ),
}


@pytest.mark.parametrize(("message", "payload", "position_m", "wxyz"), MAPS.values(), ids=MAPS.keys())
def test_a_map_says_what_a_message_means(message, payload, position_m, wxyz):
    sample = only(decoded(open_decoder("osc", osc_map=OscMap((message,))), payload))
    assert sample.camera_id == "A"
    assert same_pose(sample, wxyz, position_m)


def test_a_map_file_gives_lens_and_time_too(tmp_path):
    (tmp_path / "stage.toml").write_text("""
        sensor_mm = [36.0, 24.0]
        [[messages]]
        address = "/cam/*"
        arguments = ["x m", "y m", "z m", "pan deg", "tilt deg", "roll deg", "fov_horizontal deg", "focus_distance cm",
                     "f_stop", "zoom_encoder", "entrance_pupil mm", "captured_at ms", "status"]
        required = 6
    """)
    decoder = open_decoder("osc", osc_map=load_map(tmp_path / "stage.toml"))
    stamp_ms = (NOW - 5_000_000) / 1e6
    message = osc("/cam/7", *[0.0] * 6, 90.0, 250.0, 2.8, 0.5, 120.0, stamp_ms, "ok", types="fffffffffffds")
    sample = only(decoded(decoder, message))
    # horizontal 90° on 36 mm: 18 mm
    assert sample.lens.focal_length_mm == pytest.approx(18.0)
    assert sample.lens.focus_distance_m == pytest.approx(2.5)
    assert (sample.lens.f_stop, sample.lens.entrance_pupil_m) == pytest.approx((2.8, 0.12))
    assert (sample.camera_id, sample.status) == ("7", "ok")
    assert sample.captured_at_ns == pytest.approx(NOW - 5_000_000, abs=500)  # a double of ms resolves 244 ns today
    assert only(decoded(decoder, osc("/cam/7", *[0.0] * 6))).lens == LensReading()


def test_a_pose_in_several_messages_is_put_together_per_camera():
    osc_map = OscMap((OscMessage("/*/position", ("x m", "y m", "z m")), OscMessage("/*/rotation", ("qw", "qx", "qy", "qz"))))
    decoder = open_decoder("osc", osc_map=osc_map)
    assert decoded(decoder, osc("/A/position", 1.0, 2.0, 3.0)) == []
    assert decoded(decoder, osc("/B/rotation", 1.0, 0.0, 0.0, 0.0)) == []
    assert same_pose(only(decoded(decoder, osc("/A/rotation", H, 0.0, 0.0, H))), (H, 0, 0, H), (1, 2, 3))
    assert same_pose(only(decoded(decoder, osc("/B/position", 4.0, 5.0, 6.0))), (1, 0, 0, 0), (4, 5, 6))
    both = bundle(osc("/A/rotation", 1.0, 0.0, 0.0, 0.0), osc("/A/position", 0.0, 0.0, 0.0))
    assert same_pose(only(decoded(decoder, both)), (1, 0, 0, 0), (0, 0, 0))


def test_parts_of_different_poses_are_never_joined():
    osc_map = OscMap((OscMessage("/*/position", ("x m", "y m", "z m")), OscMessage("/*/rotation", ("qw", "qx", "qy", "qz"))))
    decoder = open_decoder("osc", osc_map=osc_map)
    position, rotation = osc("/A/position", 1.0, 2.0, 3.0), osc("/A/rotation", 1.0, 0.0, 0.0, 0.0)
    assert decoder.decode(Datagram("", position, NOW)) == []
    assert decoder.decode(Datagram("", position, NOW + 10_000_000)) == []  # a rotation was lost on the way
    assert decoder.rejects == {"incomplete-pose": 1}
    assert len(decoder.decode(Datagram("", rotation, NOW + 11_000_000))) == 1
    assert decoder.decode(Datagram("", position, NOW + 20_000_000)) == []
    assert decoder.decode(Datagram("", rotation, NOW + 50_000_000)) == []  # of a later pose: its position was lost
    assert decoder.rejects == {"incomplete-pose": 2}


def test_cameras_that_stop_halfway_do_not_keep_new_ones_out():
    osc_map = OscMap((OscMessage("/*/position", ("x m", "y m", "z m")), OscMessage("/*/rotation", ("qw", "qx", "qy", "qz"))))
    decoder = open_decoder("osc", osc_map=osc_map)
    for k in range(100):
        decoder.decode(Datagram("", osc(f"/{k}/position", 1.0, 2.0, 3.0), NOW))
    assert decoder.rejects == {"too-many-cameras": 36}
    decoder.decode(Datagram("", osc("/A/position", 1.0, 2.0, 3.0), NOW + 10**9))
    assert len(decoder.decode(Datagram("", osc("/A/rotation", 1.0, 0.0, 0.0, 0.0), NOW + 10**9))) == 1


BAD_MAPS = {
    "unknown field": ({"address": "/t", "arguments": ["pitch deg"]}, r"messages\[0\].arguments\[0\].*one of x, y"),
    "no unit": ({"address": "/t", "arguments": ["x"]}, "x with a unit, one of m, cm, mm, in, ft"),
    "a unit of something else": ({"address": "/t", "arguments": ["pan m"]}, "pan with a unit, one of deg, rad"),
    "a unit too many": ({"address": "/t", "arguments": ["qw deg"]}, "qw with no unit"),
    "twice": ({"address": "/t/*", "arguments": ["x m", "x m"]}, "each field once"),
    "no pose": ({"address": "/t/*", "arguments": ["f_stop"]}, "some of x y z"),
    "half a quaternion": ({"address": "/t/*", "arguments": ["qw", "qx"]}, "all of qw qx qy qz"),
    "never whole": ({"address": "/t/*", "arguments": ["x m", "y m", "z m"]}, "together give x y z and a rotation"),
    "nobody's": ({"address": "/t", "arguments": ["x m", "y m", "z m", "pan deg", "tilt deg"]}, "a camera_id"),
    "optional pose": ({"address": "/t/*", "arguments": ["x m", "y m", "z m", "pan deg", "tilt deg"], "required": 3}, "5 to 5"),
    "axes": ({"address": "/t/*", "arguments": ["x m", "y m", "z m", "pan deg", "tilt deg"], "axes": "x y y"}, "each of x y z"),
    "no address": ({"address": "t/*", "arguments": ["x m"]}, "starts with /"),
    "misspelt": ({"adress": "/t"}, "adress"),
}


@pytest.mark.parametrize(("message", "told"), BAD_MAPS.values(), ids=BAD_MAPS.keys())
def test_a_map_that_makes_no_sense_is_explained(message, told):
    with pytest.raises(ConfigError, match=told):
        open_decoder("osc", osc_map=as_map({"messages": [message]}, "show.toml"))


# ---- what is refused, and why

POSE = (0.0, 0.0, 1.5, 1.0, 0.0, 0.0, 0.0)
OURS = osc("/ledvolume/camera", "A", *POSE)
NESTED = OURS
for _ in range(3000):
    NESTED = bundle(NESTED)

REFUSED_OSC = {
    "time as a 32-bit float": (osc("/ledvolume/camera", "A", *POSE, 0.0, 0.0, float(NOW)), "argument-type"),
    "nothing": (b"", "empty"),
    "no OSC": (b"hello, stage", "not-osc"),
    "no end of the address": (b"/" * 400, "bad-address"),
    "address that is not ASCII": (b"/\xff\xfe\0,\0\0\0", "bad-address"),
    "no type tags": (b"/ledvolume/camera\0\0\0", "bad-type-tags"),
    "too few arguments": (osc("/ledvolume/camera", "A", 0.0, 0.0, 1.5), "argument-count"),
    "too many arguments": (osc("/ledvolume/camera", "A", *POSE, 35.0, 2.0, 0, 1.0), "argument-count"),
    "text for a number": (osc("/ledvolume/camera", "A", "0", *POSE[1:]), "argument-type"),
    "number for a name": (osc("/ledvolume/camera", 1.0, *POSE), "argument-type"),
    "a type that nobody knows": (OURS.replace(b",sfffffff", b",sfffffX\0"), "argument-count"),
    "true is no number": (OURS.replace(b",sfffffff", b",sffffffT"), "argument-type"),
    "the last number cut off": (OURS[:-4], "truncated"),
    "the last byte cut off": (OURS[:-1], "truncated"),
    "bytes after the end": (OURS + bytes(4), "truncated"),
    "not a number": (osc("/ledvolume/camera", "A", math.nan, *POSE[1:]), "not-finite"),
    "infinite": (osc("/ledvolume/camera", "A", 0.0, 0.0, math.inf, *POSE[3:]), "not-finite"),
    "infinite focal length": (osc("/ledvolume/camera", "A", *POSE, math.inf), "not-finite"),
    "zero quaternion": (osc("/ledvolume/camera", "A", 0.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0), "not-a-rotation"),
    "long quaternion": (osc("/ledvolume/camera", "A", 0.0, 0.0, 1.5, 1.0, 0.1, 0.0, 0.0), "not-a-rotation"),
    "20 km away": (osc("/ledvolume/camera", "A", 20_000.0, *POSE[1:]), "too-far"),
    "focal length of 0.1 mm": (osc("/ledvolume/camera", "A", *POSE, 0.1), "bad-lens"),
    "negative focal length": (osc("/ledvolume/camera", "A", *POSE, -35.0), "bad-lens"),
    "no name": (osc("/ledvolume/camera", "", *POSE), "bad-camera-id"),
    "a name that rings the bell": (osc("/ledvolume/camera", "A\a", *POSE), "bad-camera-id"),
    "captured an hour ago": (osc("/ledvolume/camera", "A", *POSE, 0.0, 0.0, NOW - 3600 * 10**9), "bad-stamp"),
    "captured tomorrow": (osc("/ledvolume/camera", "A", *POSE, 0.0, 0.0, NOW + 86400 * 10**9), "bad-stamp"),
    "vertical field of view of 0°": (osc("/VMC/Ext/Cam", "C", *[0.0] * 6, 1.0, 0.0), "bad-lens"),
    "empty bundle": (bundle(), "empty"),
    "bundle without time tag": (b"#bundle\0\0\0\0\0", "truncated"),
    "bundle with a size that lies": (bundle(OURS)[:-8], "truncated"),
    # python-osc's own OscBundle never comes back from this one
    "bundle with a negative size": (bundle() + struct.pack(">i", -4), "truncated"),
    "bundles 3000 deep": (NESTED, "bad-bundle"),
    "bundle of more messages than anyone sends": (bundle(*[OURS] * 300), "bad-bundle"),
    "bundle of empty elements": (bundle(b"", b""), "bad-bundle"),
}


@pytest.mark.parametrize(("payload", "reason"), REFUSED_OSC.values(), ids=REFUSED_OSC.keys())
def test_osc_that_is_not_a_camera_is_refused_with_its_reason(payload, reason):
    decoder = open_decoder("osc")
    assert decoder.decode(datagram(payload)) == []
    assert decoder.rejects == {reason: 1}
    assert (decoder.last_reject.reason, decoder.last_reject.protocol) == (reason, "osc")
    assert len(decoder.decode(datagram(OURS))) == 1, "and the next good one is taken"


def test_one_bad_message_in_a_bundle_does_not_hide_the_others():
    lost = osc("/ledvolume/camera", "B", *[math.nan] * 7)
    decoder = open_decoder("osc")
    samples = decoder.decode(datagram(bundle(OURS, lost, osc("/ledvolume/camera", "C", *POSE))))
    assert [s.camera_id for s in samples] == ["A", "C"]
    assert (decoder.accepted, decoder.rejects) == (2, {"not-finite": 1})


def test_a_bundle_made_by_python_osc_is_understood():
    builder = OscBundleBuilder(IMMEDIATELY)
    message = OscMessageBuilder("/ledvolume/camera")
    for argument in ("A", *POSE):
        message.add_arg(argument)
    builder.add_content(message.build())
    assert only(decoded(open_decoder("osc"), builder.build().dgram)).camera_id == "A"


def native(**changes) -> dict:
    """A sample as another program would pack it."""
    pose = {"wxyz": [1.0, 0.0, 0.0, 0.0], "position_m": [0.0, 0, 1.5]}
    return {"camera_id": "A", "captured_at_ns": NOW, "received_at_ns": 0, "world_from_tracker": pose} | changes


def posed(wxyz=(1.0, 0.0, 0.0, 0.0), position_m=(0.0, 0.0, 1.5)) -> dict:
    return native(world_from_tracker={"wxyz": wxyz, "position_m": position_m})


REFUSED_NATIVE = {
    "no msgpack": (b"\xc1", "not-msgpack"),
    "nothing": (b"", "not-msgpack"),
    "cut off": (msgspec.msgpack.encode(native())[:-3], "not-msgpack"),
    "bytes after the end": (msgspec.msgpack.encode(native()) + b"\0", "not-msgpack"),
    "nested without end": (b"\x81\xa1a" + b"\x91" * 60_000, "not-msgpack"),
    "an array that says it has 4 billion members": (b"\xdd\xff\xff\xff\xff", "bad-fields"),
    "a list": (msgspec.msgpack.encode([1, 2]), "bad-fields"),
    "no pose": (msgspec.msgpack.encode({"camera_id": "A"}), "bad-fields"),
    "three numbers for a quaternion": (msgspec.msgpack.encode(posed(wxyz=(1.0, 0.0, 0.0))), "bad-fields"),
    "text for a number": (msgspec.msgpack.encode(posed(position_m=("0", 0.0, 0.0))), "bad-fields"),
    "time as a float": (msgspec.msgpack.encode(native(captured_at_ns=1.5)), "bad-fields"),
    "not a number": (msgspec.msgpack.encode(posed(position_m=(math.nan, 0.0, 0.0))), "not-finite"),
    "zero quaternion": (msgspec.msgpack.encode(posed(wxyz=(0.0, 0.0, 0.0, 0.0))), "not-a-rotation"),
    "quaternion 0.2 % too long": (msgspec.msgpack.encode(posed(wxyz=(1.002, 0.0, 0.0, 0.0))), "not-a-rotation"),
    "far away": (msgspec.msgpack.encode(posed(position_m=(0.0, -20_000.0, 0.0))), "too-far"),
    "lens that is not one": (msgspec.msgpack.encode(native(lens={"focal_length_mm": math.nan})), "bad-lens"),
    "encoder out of range": (msgspec.msgpack.encode(native(lens={"zoom_encoder": 1.5})), "bad-lens"),
    "a clock of its own": (msgspec.msgpack.encode(native(captured_at_ns=12_345)), "bad-stamp"),
    "a name of 100 characters": (msgspec.msgpack.encode(native(camera_id="x" * 100)), "bad-camera-id"),
}


@pytest.mark.parametrize(("payload", "reason"), REFUSED_NATIVE.values(), ids=REFUSED_NATIVE.keys())
def test_native_that_is_not_a_camera_is_refused_with_its_reason(payload, reason):
    decoder = open_decoder("native")
    assert decoder.decode(datagram(payload)) == []
    assert decoder.rejects == {reason: 1}
    assert len(decoder.decode(datagram(msgspec.msgpack.encode(native())))) == 1


def test_a_native_sample_of_another_program_is_understood():
    lens = {"focal_length_mm": 35, "f_stop": 2.8, "colour_of_the_lens_cap": "black"}
    payload = msgspec.msgpack.encode(native(lens=lens, status="ok", captured_at_ns=0))
    sample = only(decoded(open_decoder("native"), payload))
    assert sample == CameraSample("A", NOW, NOW, Pose(position_m=(0.0, 0.0, 1.5)), LensReading(35.0, f_stop=2.8), "ok")


def test_a_quaternion_a_little_off_is_made_exactly_unit():
    sample = only(decoded(open_decoder("native"), msgspec.msgpack.encode(posed(wxyz=(-0.7075, 0.0, 0.0, -0.7072)))))
    assert math.hypot(*sample.world_from_tracker.wxyz) == pytest.approx(1, abs=1e-15)
    assert sample.world_from_tracker.wxyz[0] > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_what_we_send_over_osc_is_what_we_receive(preset):
    osc_map = preset_map(preset, sensor_mm=(36.0, 24.0))
    sample = only(decoded(open_decoder("osc", osc_map=osc_map), open_encoder("osc", osc_map=osc_map)(SAMPLE)[0]))
    assert sample.camera_id == SAMPLE.camera_id
    assert same_pose(sample, SAMPLE.world_from_tracker.wxyz, SAMPLE.world_from_tracker.position_m)
    has_lens = preset in ("ledvolume", "vmc")
    assert sample.lens.focal_length_mm == (pytest.approx(35.0, rel=1e-6) if has_lens else None)


def test_angles_of_another_order_cannot_be_sent():
    other = OscMessage("/cam", ("x m", "y m", "z m", "pan deg", "tilt deg"), rotation_order="tilt pan roll", camera_id="A")
    with pytest.raises(ConfigError, match="pan tilt roll: only this order"):
        open_encoder("osc", osc_map=OscMap((other,)))(SAMPLE)


def test_what_we_send_natively_is_what_we_receive():
    sample = only(decoded(open_decoder("native"), open_encoder("native")(SAMPLE)[0]))
    assert same_pose(sample, SAMPLE.world_from_tracker.wxyz, SAMPLE.world_from_tracker.position_m)
    assert (sample.lens, sample.captured_at_ns) == (SAMPLE.lens, NOW)


def test_every_protocol_can_be_received_and_sent():
    assert PROTOCOLS.keys() == HOSTILE.keys()


# ---- hostile datagrams


def test_hostile_datagrams_raise_nothing_are_counted_and_move_nothing():
    figures = fuzz(5_000, seed=7)
    assert figures["first_exception"] is None
    assert (figures["datagrams"], figures["exceptions"], figures["not_counted"]) == (5_000, 0, 0)
    assert figures["refused_but_moved"] == 0
    assert figures["farthest_m"] <= figures["bound_m"]
    assert figures["farthest_rad"] <= figures["bound_rad"]
    assert figures["farthest_zoom"] <= figures["bound_zoom"]
    assert min(figures["rejected"], figures["accepted"], figures["implausible"]) > 0, "the fuzz reaches every gate"


WHOLE = {
    "ledvolume over OSC": ("osc", open_encoder("osc", "ledvolume")(SAMPLE)[0]),
    "VMC over OSC": ("osc", open_encoder("osc", "vmc")(SAMPLE)[0]),
    "a bundle": ("osc", bundle(open_encoder("osc", "ledvolume")(SAMPLE)[0])),
    "native": ("native", open_encoder("native")(SAMPLE)[0]),
}  # the others': test_freed.py, test_opentrackio.py, test_psn.py


@pytest.mark.parametrize(("protocol", "payload"), WHOLE.values(), ids=WHOLE.keys())
def test_every_truncation_is_refused(protocol, payload):
    assert len(decoded(open_decoder(protocol), payload)) == 1
    for size in range(len(payload)):
        decoder = open_decoder(protocol)
        assert decoder.decode(Datagram("test", payload[:size], NOW)) == []
        assert (decoder.rejects.total(), decoder.ignored) == (1, {}), size


@pytest.mark.parametrize("protocol", HOSTILE)
def test_what_is_refused_leaves_no_cycle_behind(protocol):
    """The server runs without the garbage collector: what refers to itself would stay for ever."""
    r, decoder, real = random.Random(5), open_decoder(protocol), open_encoder(protocol)(SAMPLE)[-1]
    gc.collect()
    gc.disable()
    try:
        for k in range(2000):
            decoder.decode(Datagram("test", r.choice(HOSTILE[protocol])(r, real), NOW + k * 1_000_000))
        assert decoder.rejects.total() > 100 and gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("protocol", ["osc+udp", "opentrackio+udp", "native+zmq"])
def test_hostile_datagrams_over_real_sockets_leave_the_source_alive(protocol):
    r = random.Random(3)
    source, sender, decoder = connected(protocol)
    name = protocol.partition("+")[0]
    [real] = open_encoder(name)(SAMPLE)
    hostile = [r.choice(HOSTILE[name])(r, real) for _ in range(300)]
    for payload in hostile:
        sender.send(payload)
    arrived = drained(source, len(hostile))
    assert [d.payload for d in arrived] == hostile
    for d in arrived:
        decoder.decode(d)
    assert decoder.accepted + decoder.rejects.total() + decoder.ignored.total() >= 300
    close(source, sender)


# ---- sockets


def connected(protocol: str):
    """A source on a free port of this machine, a sender that reaches it, a decoder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"{protocol}://127.0.0.1:{free.getsockname()[1]}"
    source, sender = open_source(uri), open_sender(uri)
    if protocol.endswith("zmq"):  # PUB drops what it sends before SUB has subscribed
        deadline = time.monotonic() + 5
        while not source.drain() and time.monotonic() < deadline:
            sender.send(b"hello")
            source.wait(0.02)
        source.wait(0.1)
        source.drain()
    return source, sender, open_decoder(source.protocol)


def drained(source, count: int, seconds: float = 5.0) -> list[Datagram]:
    """Drains as a renderer does, until that many have come."""
    out, deadline = [], time.monotonic() + seconds
    while len(out) < count and time.monotonic() < deadline:
        source.wait(0.05)
        out += source.drain()
    return out


def close(*sockets) -> None:
    for s in sockets:
        s.close()


def test_a_conversation_with_python_osc():
    source = open_source("osc+udp://127.0.0.1:0")
    tracker, decoder = SimpleUDPClient("127.0.0.1", source.port), open_decoder("osc")
    assert source.drain() == []

    tracker.send_message("/ledvolume/camera", ["A", 1.0, -2.0, 1.5, 1.0, 0.0, 0.0, 0.0, 35.0])
    d = drained(source, 1)[0]
    sample = only(decoder.decode(d))
    assert sample.world_from_tracker.position_m == (1.0, -2.0, 1.5)
    assert sample.captured_at_ns == sample.received_at_ns == d.received_at_ns

    tracker.send_message("/ledvolume/camera", ["A", math.nan, 0.0, 1.5, 1.0, 0.0, 0.0, 0.0])
    assert decoder.decode(drained(source, 1)[0]) == []
    assert decoder.rejects == {"not-finite": 1}

    tracker.send_message("/synth/volume", 11)
    assert decoder.decode(drained(source, 1)[0]) == []
    assert decoder.ignored == {"/synth/volume": 1}
    assert (source.received, source.dropped) == (3, 0)
    close(source)


def test_the_kernel_stamps_a_datagram_when_it_arrives_not_when_it_is_read():
    source = open_source("osc+udp://127.0.0.1:0")
    tracker = SimpleUDPClient("127.0.0.1", source.port)
    time.sleep(0.05)  # the kernel starts stamping a moment after it is asked to
    before_ns = time.time_ns()
    tracker.send_message("/x", 1)
    after_ns = time.time_ns()
    time.sleep(0.25)  # the renderer is busy
    d = only(source.drain())
    assert before_ns - 1_000_000 <= d.received_at_ns <= after_ns + 1_000_000  # the kernel's clock ticks on its own
    assert time.time_ns() - d.received_at_ns > 240_000_000
    assert source.unstamped == 0
    close(source)


def test_a_datagram_that_the_kernel_did_not_stamp_is_stamped_when_read_and_counted():
    source, sender, _ = connected("osc+udp")
    source._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 0)  # as on another kernel than Linux
    sender.send(b"/x")
    d = only(drained(source, 1))
    assert abs(time.time_ns() - d.received_at_ns) < 1_000_000_000
    assert source.unstamped == 1
    close(source, sender)


def test_a_drain_takes_no_more_than_a_frame_can_bear():
    source, sender, _ = connected("osc+udp")
    for k in range(600):
        sender.send(b"%d" % k)
    assert [len(source.drain(limit=256)) for _ in range(4)] == [256, 256, 88, 0]
    close(source, sender)


def test_what_the_kernel_drops_in_a_flood_is_counted():
    source, sender, _ = connected("osc+udp")
    for _ in range(10_000):
        sender.send(bytes(1000))
    received = 0
    while batch := source.drain():
        received += len(batch)
    sender.send(b"after")  # the count of drops comes with the next datagram
    assert drained(source, 1)[0].payload == b"after"
    assert source.dropped > 0
    assert received + source.dropped == 10_000
    close(source, sender)


@pytest.mark.parametrize("bind", ["", "?bind=1"])
def test_native_samples_come_over_zmq_whoever_binds(bind):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"native+zmq://127.0.0.1:{port}{bind}"
    tracker = zmq.Context.instance().socket(zmq.PUB)  # an ordinary PUB socket, as a tracker's author would write it
    tracker.linger = 0
    source = open_source(uri) if bind else None
    (tracker.connect if bind else tracker.bind)(f"tcp://127.0.0.1:{port}")
    source = source or open_source(uri)
    decoder, samples, deadline = open_decoder("native"), [], time.monotonic() + 5
    while not samples and time.monotonic() < deadline:
        tracker.send(msgspec.msgpack.encode(native(captured_at_ns=0)))
        tracker.send_multipart([b"camera.A", msgspec.msgpack.encode(native(captured_at_ns=0))])
        source.wait(0.02)
        for d in source.drain():
            samples += decoder.decode(d)
    assert samples[0].camera_id == "A"
    assert not decoder.rejects
    close(source, tracker)


def test_multicast_reaches_two_receivers_of_one_machine():
    uri = "osc+udp://239.255.77.1:39771?interface=127.0.0.1"
    first, second, sender = open_source(uri), open_source(uri), open_sender(uri)
    sender.send(b"to all")
    assert only(drained(first, 1)).payload == only(drained(second, 1)).payload == b"to all"
    close(first, second, sender)


def test_no_host_means_this_machine_only():
    assert address("osc+udp://:9000").host == "127.0.0.1"
    assert address("osc+udp://0.0.0.0:9000").host == "0.0.0.0"


BAD_ADDRESSES = {
    "no transport": ("osc://127.0.0.1:9000", r"osc\+udp://127.0.0.1:9000"),
    "no protocol": ("udp://127.0.0.1:9000", r"osc\+udp://127.0.0.1:9000"),
    "unknown transport": ("osc+tcp://127.0.0.1:9000", "PROTOCOL.udp"),
    "only a port": ("osc+udp://9000", "port"),
    "no port": ("osc+udp://127.0.0.1", "port"),
    "port out of range": ("osc+udp://127.0.0.1:99999", "address"),
    "a path": ("osc+udp://127.0.0.1:9000/camera", "nothing after the port"),
    "unknown option": ("osc+udp://127.0.0.1:9000?bnid=1", "one of interface"),
    "bind what": ("native+zmq://127.0.0.1:9000?bind=yes", "bind=1"),
    "not ours": ("osc+udp://203.0.113.1:9000", "an address of this machine"),
    "nothing at all": ("", "PROTOCOL.udp"),
}


@pytest.mark.parametrize(("uri", "told"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
def test_an_address_that_cannot_be_had_is_explained(uri, told):
    with pytest.raises(ConfigError, match=told):
        open_source(uri)


def test_a_port_in_use_is_explained():
    first = open_source("osc+udp://127.0.0.1:0")
    with pytest.raises(ConfigError, match="a free port: another program"):
        open_source(f"osc+udp://127.0.0.1:{first.port}")
    close(first)


def test_an_unknown_protocol_is_explained():
    with pytest.raises(ConfigError, match="one of osc, "):
        open_decoder("morse")
    with pytest.raises(ConfigError, match="one of ledvolume, vmc, vrchat, loled"):
        open_decoder("osc", "unity")
    with pytest.raises(ConfigError, match="only osc has them"):
        open_decoder("native", "vmc")


# ---- commands, as people use them


def command(*arguments: str, **options) -> subprocess.Popen:
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    return subprocess.Popen([sys.executable, "-m", "ledvolume", *arguments], text=True, env=environment, **options)


def test_listen_prints_what_a_tracker_sends_and_what_it_refuses():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listener = command("listen", f"osc+udp://:{port}", "--json", "--seconds", "20", "--count", "2", stdout=subprocess.PIPE)
    tracker = SimpleUDPClient("127.0.0.1", port)
    while not has_bound(port):
        time.sleep(0.02)
    tracker.send_message("/ledvolume/camera", ["A", 1.0, -2.0, 1.5, 1.0, 0.0, 0.0, 0.0, 35.0])
    tracker.send_message("/ledvolume/camera", ["A", 1.0])
    tracker.send_message("/other", 1)
    tracker.send_message("/VMC/Ext/Cam", ["B", 0.0, 1.5, -2.0, 0.0, 0.0, 0.0, 1.0, 35.0])
    first, refused, ignored, second, last = (json.loads(line) for line in listener.communicate(timeout=20)[0].splitlines())
    assert listener.returncode == 0
    stamps = {"captured_at_ns", "received_at_ns", "stamped_at_ns", "timecode"}
    assert first.keys() == {"camera_id", "position_m", "wxyz", "pan_tilt_roll_deg", "lens", "status"} | stamps
    assert (first["camera_id"], first["position_m"], first["wxyz"]) == ("A", [1.0, -2.0, 1.5], [1.0, 0.0, 0.0, 0.0])
    assert first["lens"] == {"focal_length_mm": 35.0}
    assert refused["reject"] == "argument-count" and "expected 8 to 11 arguments, got 2" in refused["message"]
    assert bytes.fromhex(refused["payload"]).startswith(b"/ledvolume/camera\0")
    assert ignored["ignored"] == "/other"
    assert second["camera_id"] == "B" and second["position_m"] == pytest.approx([0.0, -2.0, 1.5])
    [summary] = last["summary"]
    assert (summary["datagrams"], summary["accepted"], summary["ignored"]) == (4, 2, {"/other": 1})


def has_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@pytest.mark.parametrize("protocol", ["osc+udp", "native+zmq"])
def test_simulate_sends_a_move_at_its_rate_with_exact_stamps(protocol):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"{protocol}://127.0.0.1:{free.getsockname()[1]}"
    source, decoder, samples = open_source(uri), None, []
    decoder = open_decoder(source.protocol)
    move = "builtin:dolly?at=0,-1,1.5&look=0,3,1.5&amount=0.5&period=4"
    sender = command("simulate", move, "--to", uri, "--rate", "100", "--seconds", "1", "--camera", "A", stdout=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while sender.poll() is None and time.monotonic() < deadline:
        source.wait(0.02)
        for d in source.drain():
            samples += decoder.decode(d)
    assert sender.communicate()[0].startswith("sent ")
    assert not decoder.rejects
    assert len(samples) > 50  # of 101: a busy machine skips some, and a PUB socket loses those before the first handshake
    gaps_ns = [b.captured_at_ns - a.captured_at_ns for a, b in zip(samples, samples[1:])]
    assert all(gap_ns % 10_000_000 == 0 for gap_ns in gaps_ns)  # exactly on the rate, skipped ones included
    # on rails: y and z stay, x follows -0.5·cos(2π t / 4 s): within ±0.5, never faster than 0.5·2π/4 = 0.79 m/s
    for a, b in zip(samples, samples[1:]):
        (xa, ya, za), (xb, _, _) = a.world_from_tracker.position_m, b.world_from_tracker.position_m
        assert (ya, za) == pytest.approx((-1.0, 1.5)) and abs(xa) <= 0.5
        assert abs(xb - xa) <= 0.79 * (b.captured_at_ns - a.captured_at_ns) / 1e9 + 1e-6
    close(source)


def test_a_mistake_is_one_line_and_exit_code_2():
    listener = command("listen", "osc://9000", stderr=subprocess.PIPE)
    told = listener.communicate(timeout=20)[1]
    assert listener.returncode == 2
    assert told.count("\n") == 1 and told.startswith("ledvolume listen: osc://9000: scheme: expected PROTOCOL+udp")


def test_help_lists_every_command_and_imports_none():
    program = "import sys; from ledvolume.cli import main, COMMANDS\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    program += "print([m for m in ('numpy', 'zmq', 'moderngl', 'rich') if m in sys.modules], *COMMANDS)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    *help_lines, last = shown.splitlines()
    imported, *names = last.split()
    assert imported == "[]"
    assert all(any(line.split()[:1] == [name] for line in help_lines) for name in names)
