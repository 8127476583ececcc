"""The wizard: simulated operators and senders of any axes; what is written must give the camera's true motion."""

import math
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import operators
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from operators import in_world, sender_matrix, sender_quaternion

from ledvolume.camera import CameraSample
from ledvolume.cli import main
from ledvolume.config import load_show
from ledvolume.errors import ConfigError, MotionError
from ledvolume.pose import Pose, canonical, multiply, pan_tilt_roll, pan_tilt_roll_of, rotation_vector
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.protocols.axes import named_axes
from ledvolume.recording import TakeWriter
from ledvolume.sources import Datagram
from ledvolume.toml_edit import difference, replace
from ledvolume.wizard.lens import focus_of, zoom_of
from ledvolume.wizard.mapping import Facts
from ledvolume.wizard.session import Session, reading_of
from ledvolume.wizard.show_edit import edited
from ledvolume.wizard.translation import SIGNED_PERMUTATIONS, axes_text, translation_of, unit_of

ROOT = Path(__file__).resolve().parent.parent
START_NS = 1_790_000_000_000_000_000
# of the wire: FreeD's half step in inches, 1/128 in, in each of three axes: 0.344 mm; 32-bit floats of 10 m are off by 1 µm
SAME_M, SAME_DEG = 0.0254 / 128 * math.sqrt(3) + 1e-6, 0.01
# of a world that is turned on the stage: by hands and by eye
YAW_DEG = 4.0


def told(protocol, send, facts=Facts("A"), steps=operators.STEPS, datagrams=None, **operator) -> tuple[Session, list[str]]:
    """A session and all that it said. send(pose, seconds) → datagrams of stage_from_camera."""
    session, said = Session(protocol, facts, steps), []
    for seconds, pose, _ in operators.take(steps, **operator):
        for payload in send(pose, seconds):
            said += session.add(Datagram("test", payload, START_NS + round(seconds * 1e9)))
    return session, said + session.end()


def floats(*arrays) -> list[float]:
    return [float(v) for array in arrays for v in array]


def check_decodes(session: Session, send, yaw_deg=0.0, body=Pose(), seed=2):
    """Poses that the session never saw are decoded to what was sent, up to the yaw that hands can tell."""
    mapping, r = session.mapping, random.Random(seed)
    assert mapping is not None, session.error
    reading = reading_of(session.protocol, mapping.source)
    decoder = open_decoder(session.protocol, **{f: getattr(reading, f) for f in reading.__struct_fields__})
    off_yaw = abs(math.remainder(mapping.yaw_deg - yaw_deg, 360))
    assert off_yaw <= (YAW_DEG if yaw_deg else 0)
    for i in range(20):
        sent = Pose(pan_tilt_roll(*(r.uniform(-1.2, 1.2) for _ in range(3))), tuple(r.uniform(-5, 5) for _ in range(3)))
        samples = []
        for payload in send(sent, 1000.0 + i):
            samples += decoder.decode(Datagram("test", payload, START_NS + i))
        assert len(samples) == 1, decoder.last_reject
        expected, got = in_world(sent, yaw_deg, body), samples[0].world_from_tracker
        assert math.dist(got.position_m, expected.position_m) < SAME_M
        w, x, y, z = expected.wxyz
        assert math.degrees(math.hypot(*rotation_vector(multiply((w, -x, -y, -z), got.wxyz)))) < SAME_DEG


# ---- translation alone: all 48 namings of axes, all units


@pytest.mark.parametrize("unit", operators.UNITS_M)
@pytest.mark.parametrize("axes", SIGNED_PERMUTATIONS, ids=axes_text)
def test_axes_handedness_and_unit_of_every_sender(axes, unit):
    text = axes_text(axes)
    assert named_axes(text, "test", "axes") == axes
    # 0.8 m right with 10 cm forward, 0.95 m forward with 10 cm left, 0.5 m up with 6 cm aside
    moves = {"right": (0.8, 0.1, 0.02), "forward": (-0.1, 0.95, 0.03), "up": (0.06, 0.02, 0.5)}
    seen = {step: tuple(sender_matrix(text) @ np.array(m) / operators.UNITS_M[unit]) for step, m in moves.items()}
    found = translation_of(seen)
    assert found.namings[0].axes == axes
    assert abs(math.degrees(found.namings[0].yaw_rad)) < 8  # both off by 7°: 0.1 / 0.8 and 0.1 / 0.95
    assert found.unit.unit == unit and found.unit.confidence > 0.9


def test_a_unit_that_eyes_cannot_tell_is_not_guessed():
    # 60 is 0.6 m in cm (ln -0.51) and 1.5 m in inches (ln 0.42): inches are nearer, cm more common
    assert unit_of([60.0]).confidence < 0.9
    assert {unit_of([60.0]).unit, unit_of([60.0]).second} == {"cm", "in"}
    assert (unit_of([60.0], moved_m=0.6).unit, unit_of([60.0], moved_m=1.52).unit) == ("cm", "in")


def test_motions_that_cannot_tell_are_asked_again():
    square = {"right": (0.9, 0.0, 0.0), "forward": (0.0, 0.9, 0.0), "up": (0.0, 0.0, 0.5)}
    for changed, again in (
        ({"up": (0.0, 0.4, 0.4)}, ("forward", "up")),  # 45° from forward
        ({"up": (-0.3, -0.3, 0.5)}, ("up",)),  # 40° from every axis of the sender
        ({"forward": (0.7, 0.7, 0.0)}, ("right", "forward")),
        ({"forward": (0.0, 0.01, 0.0)}, ("forward",)),
    ):
        with pytest.raises(MotionError) as error:
            translation_of(square | changed)
        assert error.value.steps == again


# ---- whole takes


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    axes=st.sampled_from(SIGNED_PERMUTATIONS),
    unit=st.sampled_from(("mm", "cm", "in")),  # FreeD has 1/64 of it: a metre would be rounded to 16 mm
    signs=st.tuples(*[st.sampled_from((1, -1))] * 3),
    seed=st.integers(0, 1000),
)
@example(axes=SIGNED_PERMUTATIONS[7], unit="cm", signs=(-1, -1, -1), seed=3)
def test_freed_with_any_axes_signs_and_unit(axes, unit, signs, seed):
    def send(pose, seconds):
        return [operators.freed(pose, axes_text(axes), unit, signs)]

    session, _ = told("freed", send, seed=seed)
    check_decodes(session, send)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(axes=st.sampled_from(SIGNED_PERMUTATIONS), seed=st.integers(0, 1000), yaw_deg=st.sampled_from((0, 30, 90, 180, -135)))
def test_psn_with_any_axes(axes, seed, yaw_deg):
    def send(pose, seconds):
        return [operators.psn(in_world(pose, yaw_deg), axes_text(axes))]

    session, _ = told("psn", send, seed=seed)
    check_decodes(session, send, yaw_deg)


QUATERNION_ORDERS = {"wxyz": (0, 1, 2, 3), "xyzw": (1, 2, 3, 0)}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    axes=st.sampled_from(SIGNED_PERMUTATIONS),
    unit=st.sampled_from(("m", "cm", "mm")),
    order=st.sampled_from(sorted(QUATERNION_ORDERS)),
    seed=st.integers(0, 1000),
)
def test_osc_with_a_quaternion_of_any_order_and_axes(axes, unit, order, seed):
    def send(pose, seconds):
        xyz = sender_matrix(axes_text(axes)) @ np.array(pose.position_m) / operators.UNITS_M[unit]
        q = sender_quaternion(pose, axes_text(axes))
        quaternion = [q[i] for i in QUATERNION_ORDERS[order]]
        # beside the pose: a name, a count of frames, seconds since the start, a number that never changes
        return [operators.osc("/head", "cam", int(seconds * 60), *floats(xyz, quaternion), float(seconds), 25.0)]

    session, _ = told("osc", send, seed=seed)
    check_decodes(session, send)
    [message] = session.mapping.source["map"]["messages"]
    assert [a for a in message["arguments"] if a in ("skip", "camera_id")] == ["camera_id", "skip", "skip", "skip"]


EULER = {
    "radians, tilt first": ("pan tilt roll", ("tilt", "-pan", "roll"), 1.0),
    "degrees": ("pan tilt roll", ("pan", "-tilt", "-roll"), 180 / math.pi),
    "roll before pan": ("roll pan tilt", ("roll", "pan", "tilt"), 1.0),
    "tilt before pan": ("tilt pan roll", ("-pan", "tilt", "roll"), 180 / math.pi),
}


@pytest.mark.parametrize(("order", "fields", "scale"), EULER.values(), ids=EULER)
@pytest.mark.parametrize("axes", ["x y z", "x z y", "-z x -y"])
def test_osc_with_angles_in_messages_of_their_own(order, fields, scale, axes):
    def send(pose, seconds):
        angles = operators.angles_of(pose, order)
        signed = [scale * (-angles[f[1:]] if f[0] == "-" else angles[f]) for f in fields]
        xyz = 100 * sender_matrix(axes) @ np.array(pose.position_m)
        return [operators.osc("/track/A/position", *floats(xyz)), operators.osc("/track/A/rotation", *floats(signed))]

    session, _ = told("osc", send, pan_deg=42, rate=30)
    check_decodes(session, send)
    messages = session.mapping.source["map"]["messages"]
    assert [m["address"] for m in messages] == ["/track/*/position", "/track/*/rotation"]
    assert all(m.get("rotation_order", "pan tilt roll") == order for m in messages)
    assert session.mapping.wire_id == "A"


@pytest.mark.parametrize("yaw_deg", [0, 25, 90, 180, -120])
def test_a_world_that_is_turned_on_the_stage_becomes_registration(yaw_deg):
    """Pan reads 180° at the beginning in one of them: its seam, where the value flips with the hands."""

    def send(pose, seconds):
        return [operators.freed(in_world(pose, yaw_deg), "y -x z", "cm")]

    session, _ = told("freed", send)
    check_decodes(session, send, yaw_deg)


def test_numbers_that_flicker_by_whole_steps_are_still():
    """Whole centimetres and tenths of a degree: 0.5 cm of rounding on 85 cm is 0.3°."""

    def send(pose, seconds):
        angles = [10 * math.degrees(a) for a in pan_tilt_roll_of(pose.wxyz)]
        return [operators.osc("/c", *(round(100 * v) for v in pose.position_m), *(round(a) / 10 for a in angles))]

    session, _ = told("osc", send)
    [message] = session.mapping.source["map"]["messages"]
    assert message["arguments"] == ["x cm", "y cm", "z cm", "pan deg", "tilt deg", "roll deg"]


def test_a_tracked_body_that_lies_across_the_camera_becomes_hand_eye():
    body = Pose(pan_tilt_roll(0, math.radians(90), 0))

    def send(pose, seconds):
        return [operators.psn(in_world(pose, 20, body), "x z y")]

    session, _ = told("psn", send)
    assert session.mapping.body_deg == (0, 90, 0)
    check_decodes(session, send, 20, body)


@pytest.mark.parametrize("protocol", ["native", "opentrackio"])
def test_a_sender_of_the_standard_is_verified(protocol):
    encode = open_encoder(protocol)

    def send(pose, seconds):
        at_ns = START_NS + round(seconds * 1e9)
        return encode(CameraSample("7", at_ns, at_ns, in_world(pose, 90)))

    session, _ = told(protocol, send)
    assert (session.mapping.source, session.mapping.wire_id, session.mapping.yaw_deg) == ({}, "7", 90)


def test_a_sender_that_breaks_the_standard_is_told_how():
    encode = open_encoder("native")

    def send(pose, seconds):  # Y up, and cm
        x, y, z = (100 * v for v in pose.position_m)
        w, i, j, k = pose.wxyz
        return encode(CameraSample("7", 0, 0, Pose((w, i, k, -j), (x, z, -y))))

    session, _ = told("native", send)
    assert session.mapping is None
    assert "cm, the standard has metres" in str(session.error) and "these are its x -z y" in str(session.error)


def test_a_preset_that_reads_the_take_is_preferred_to_a_map():
    encode = open_encoder("osc", "vmc")
    session, _ = told("osc", lambda pose, seconds: encode(CameraSample("head", 0, 0, pose)))
    assert (session.mapping.source, session.mapping.wire_id) == ({"preset": "vmc"}, "head")


def test_moves_and_turns_of_different_handedness_are_believed_only_with_a_proof():
    def send(pose, seconds):
        xyz = sender_matrix("x z y") @ np.array(pose.position_m)
        return [operators.osc("/rig", *floats(xyz, sender_quaternion(pose, "x z -y")))]

    session, _ = told("osc", send)
    assert not session.mapping.is_rigid
    check_decodes(session, send)
    session, _ = told("osc", send, steps=operators.STEPS[:-1])
    assert session.mapping is None and "different handedness" in "".join(str(session.error)) + " ".join(_)


# ---- what is asked again


def test_a_pan_to_the_wrong_side_is_found_by_the_proof_and_done_again():
    """The operator pans right, walks to where the lens looks, then pans left as asked, and walks again."""
    steps = (*operators.STEPS, "pan", "prove")
    wrong_first = iter((-35.0, 70.0))

    def send(pose, seconds):
        return [operators.freed(pose)]

    session, said = Session("freed", Facts("A"), operators.STEPS), []
    for seconds, pose, _ in operators.take(steps, pan_deg=wrong_first):
        for payload in send(pose, seconds):
            said += session.add(Datagram("test", payload, START_NS + round(seconds * 1e9)))
    assert any("the proof failed" in line for line in said)
    assert session.mapping.source == {"profile": "raw"}


def test_a_move_to_the_same_side_twice_is_asked_again():
    _, said = told("freed", lambda pose, s: [operators.freed(pose)], forward=((0.9, 0.05, 0.0), (0, 0, 0)))
    assert any("expected about 90°" in line for line in said) and any(line.startswith("again: move to") for line in said)


def test_a_frozen_tracker_is_not_a_still_one_for_ever():
    session, said = told("freed", lambda pose, s: [operators.freed(Pose())], far_m=1.0)
    assert session.mapping is None and "frozen" in said[-1]


def test_a_camera_that_comes_back_is_asked_to_stay():
    session, said = Session("freed", Facts("A")), []
    for i in range(60 * 12):
        out = 800 * math.sin(math.pi * min(max(i / 60 - 5, 0), 2) / 2)  # out and back between 5 s and 7 s
        at_ns = START_NS + i * 1_000_000_000 // 60
        said += session.add(Datagram("test", operators.freed(Pose(position_m=(out / 1000, 0, 0))), at_ns))
    assert any("came back" in line for line in said) and not session.motions


def test_numbers_that_are_not_told_apart_need_the_tape():
    def send(pose, seconds):
        return [operators.freed(pose, unit="in")]

    session, _ = told("freed", send, far_m=1.3)  # 51 and 56: 0.5 m in cm or 1.3 m in inches
    assert "--moved" in str(session.error)
    session, _ = told("freed", send, far_m=1.3, facts=Facts("A", moved_m=1.35))
    check_decodes(session, send)


# ---- lens


def test_zoom_and_focus_by_what_they_did():
    # 24 mm high, 36 wide: 35 mm sees 2 atan(12/35) = 37.85° up and down, 2 atan(18/35) = 54.43° across
    assert zoom_of(37.85, 20.0, 35.0, (36.0, 24.0)).argument == "fov_vertical deg"
    assert zoom_of(54.43, 30.0, 35.0, (36.0, 24.0)).argument == "fov_horizontal deg"
    assert zoom_of(0.95, 0.5, 35.0, (36.0, 24.0)).argument == "fov_horizontal rad"
    assert zoom_of(35.2, 70.0, 35.0, None).argument == "focal_length mm"
    assert zoom_of(0.035, 0.07, 35.0, None).argument == "focal_length m"
    assert zoom_of(0.1, 0.9, None, None).argument == "zoom_encoder"
    assert zoom_of(54.43, 30.0, None, (36.0, 24.0)).argument == "skip"
    assert focus_of(4.0, 1.1).argument == "focus_distance m"
    assert focus_of(400.0, 95.0).argument == "focus_distance cm"
    assert focus_of(0.2, 0.8).argument == "focus_encoder"
    assert focus_of(100.0, 63.0).argument == "skip"  # cm or inches


def test_the_field_of_view_is_found_beside_the_pose():
    steps = (*operators.STEPS[:-1], "zoom", "prove")

    def send_at(step_of_zoom):
        def send(pose, seconds):
            # zoom is the seventh step: 4 s, then 2.7 s each
            share = min(max((seconds - 4 - 6 * 2.7) / 1.2, 0), 1)
            fov_deg = 37.85 - 17.85 * share * share * (3 - 2 * share)
            return [operators.osc("/cam/A/pose", *floats(pose.position_m, pose.wxyz), fov_deg)]

        return send

    session, _ = told("osc", send_at(7), Facts("A", focal_mm=35.0, sensor_mm=(36.0, 24.0)), steps)
    assert session.mapping.source["map"]["messages"][0]["arguments"][-1] == "fov_vertical deg"


# ---- the show file


SHOW = """# Stage 2, do not touch the wall!
name = "wizard"
rate = "24"

[stage]
eye_m = [0.0, 0.0, 1.7]
zone = { min_m = [-2, -3, 0.5], max_m = [2, 1, 2.5] }
[[stage.surface]]
name = "main"
shape = "flat"
centre_m = [0.0, 4.0, 2.0]
size_m = [3.0, 2.0]
resolution_px = [96, 64]

[[camera]]
id = "A"          # the red one
sensor_mm = [36.0, 24.0]
focal_length_mm = 35.0

[[place]]
name = "here"
file = "here.safetensors"
field_from_stage = { scale = 1.0 }

[[source]]
uri = "URI"
clock = "arrival"   # no genlock yet

# Keys: ask Kim.
[[output]]
uri = "stream://127.0.0.1:5560"
"""


def lines_lost(before: str, after: str) -> list[str]:
    return [line for line in before.splitlines() if line not in after.splitlines()]


def test_only_what_was_learnt_changes_in_the_file(tmp_path):
    session, _ = told("freed", lambda pose, s: [operators.freed(in_world(pose, 90), "-x y z", "cm", (-1, 1, 1), camera=7)])
    uri = "freed+udp://0.0.0.0:40000"
    before = SHOW.replace("URI", uri)
    after = edited(before, "show", uri, "A", session.mapping)
    assert not lines_lost(before, after)
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert added == [
        "stage_from_world = { pan_deg = 90.0 }",
        'profile = { axes = "-x y z", position_unit = "cm", pan_sign = -1 }',
        'cameras = { "7" = "A" }',
    ]
    assert after.index("# Keys: ask Kim.") > after.index("profile =")
    assert edited(after, "show", uri, "A", session.mapping) == after
    assert difference(before, after, "show").count("\n+") == len(added) + 1
    (tmp_path / "show.toml").write_text(after)
    show = load_show(tmp_path / "show.toml")
    assert show.sources[0].reading.cameras == {"7": "A"}
    assert math.degrees(2 * math.acos(show.stage.rigs[0].stage_from_world.wxyz[0])) == pytest.approx(90)


def test_a_map_is_written_before_the_comment_of_the_next_table_and_replaces_a_preset(tmp_path):
    def send(pose, seconds):
        return [operators.osc("/tracker/A/p", *floats(pose.position_m)), operators.osc("/tracker/A/q", *floats(pose.wxyz))]

    session, _ = told("osc", send)
    before = SHOW.replace("URI", "osc+udp://127.0.0.1:9000").replace("clock =", 'preset = "vmc"\nclock =')
    after = edited(before, "show", "osc+udp://0.0.0.0:9000", "A", session.mapping)  # the same port: the same source
    assert lines_lost(before, after) == ['preset = "vmc"']
    assert after.index("[[source.map.messages]]") < after.index("# Keys: ask Kim.") < after.index("[[output]]")
    (tmp_path / "show.toml").write_text(after)
    assert load_show(tmp_path / "show.toml").sources[0].reading.osc_map.messages[1].arguments == ("qw", "qx", "qy", "qz")


def test_a_table_that_is_there_is_changed_in_place_and_comments_stay_where_they_are():
    session, _ = told("freed", lambda pose, s: [operators.freed(pose, "-y x z", "cm", camera=4)])
    table = '[source.profile]   # vendor\nbased_on = "sony"\naxes = "x y z"\nroll_sign = -1\n\n# Keys'
    before = SHOW.replace("URI", "freed+udp://0.0.0.0:1").replace("# Keys", table)
    profile = {"based_on": "sony", "axes": "-y x z", "position_unit": "cm"}
    mapping = msgspec.structs.replace(session.mapping, source={"profile": profile})
    after = edited(before, "show", "freed+udp://0.0.0.0:1", "A", mapping)
    assert lines_lost(before, after) == ['axes = "x y z"', "roll_sign = -1"]
    assert after.index("position_unit") < after.index("# Keys")
    assert tomllib.loads(after)["source"][0]["profile"] == profile


def test_a_source_that_the_show_does_not_have_is_added():
    session, _ = told("osc", lambda pose, s: [operators.osc("/pose", "cam1", *floats(pose.position_m, pose.wxyz))])
    before = SHOW.replace("URI", "native+zmq://10.0.0.5:5550")
    after = edited(before, "show", "osc+udp://0.0.0.0:9000", "A", session.mapping)
    assert not lines_lost(before, after)
    assert after.index("# no genlock yet") < after.index("osc+udp") < after.index("[[source.map") < after.index("# Keys")
    new = tomllib.loads(after)["source"][1]
    assert (new["cameras"], new["map"]["messages"][0]["arguments"][0]) == ({"cam1": "A"}, "camera_id")


def test_a_file_keeps_its_line_ends_and_its_rights(tmp_path):
    file = tmp_path / "show.toml"
    file.write_bytes(b"a = 1\r\nb = 2\r\n")
    file.chmod(0o640)
    replace(file, "a = 1\nb = 3\n")
    assert file.read_bytes() == b"a = 1\r\nb = 3\r\n" and file.stat().st_mode & 0o777 == 0o640


def test_a_measured_registration_is_not_overwritten_by_hands():
    session, _ = told("freed", lambda pose, s: [operators.freed(in_world(pose, 31))])
    written = "stage_from_world = { position_m = [1.0, 2.0, 0.0], pan_deg = 30.2 }  # measured"
    before = SHOW.replace("URI", "freed+udp://0.0.0.0:1").replace('id = "A"  ', f'{written}\nid = "A"  ')
    assert written in edited(before, "show", "freed+udp://0.0.0.0:1", "A", session.mapping)


def test_a_camera_that_the_show_does_not_have_is_refused():
    session, _ = told("freed", lambda pose, s: [operators.freed(pose)])
    with pytest.raises(ConfigError, match="a camera B"):
        edited(SHOW, "show", "freed+udp://0.0.0.0:1", "B", session.mapping)


# ---- the command, with sockets and a show file


def osc_of_a_wrong_hand(pose, seconds):
    """Unity's axes in cm, quaternion last, in two messages."""
    q = sender_quaternion(pose, "x z y")
    xyz = 100 * sender_matrix("x z y") @ np.array(pose.position_m)
    return [operators.osc("/unity/cam/pos", *floats(xyz)), operators.osc("/unity/cam/rot", *floats(q[1:], q[:1]))]


LIVE = {
    "osc of the wrong hand, in cm": ("osc", osc_of_a_wrong_hand, 0),
    "freed, permuted, signs flipped, cm": ("freed", lambda p, s: [operators.freed(p, "-y x z", "cm", (-1, -1, 1), 4)], 0),
    "psn, another naming": ("psn", lambda p, s: [operators.psn(p, "x -z y")], 0),
}


def test_the_command_writes_a_show_that_gives_the_true_motion(tmp_path):
    """All three at once: an operator is as slow as people are."""
    runs = {}
    for number, (name, (protocol, send, _)) in enumerate(LIVE.items()):
        port = free_port()
        show = tmp_path / f"{number}.toml"
        show.write_text(SHOW.replace("URI", f"{protocol}+udp://127.0.0.1:{port}"))
        words = ["wizard", f"{protocol}+udp://127.0.0.1:{port}", "--show", str(show), "--yes", "--seconds", "60"]
        words += ["--steps", ",".join(operators.STEPS)]
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "ledvolume", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        )
        assert "hold still" in process.stdout.readline()
        runs[name] = process, show, port, send
    threads = [threading.Thread(target=operate, args=(port, send)) for _, _, port, send in runs.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (process, show, _, send) in runs.items():
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 0, f"{name}: {said}"
        assert re.search(r"got it: right, [-+]\d", said) and "proof: " in said and "written to" in said
        check_show(show, LIVE[name][0], send)
        assert not lines_lost(SHOW.split("[[source]]")[0], show.read_text())
        assert list(tmp_path.glob(".*")) == []  # no half-written file is left


def test_a_recorded_take_is_answered_like_a_live_one(tmp_path, capsys):
    uri, other = "freed+udp://0.0.0.0:40000", "native+zmq://127.0.0.1:5550"
    writer = TakeWriter(tmp_path / "take.mcap")
    source, _ = writer.source(uri, "freed"), writer.source(other, "native")
    for seconds, pose, _ in operators.take():
        payload = operators.freed(pose, "-z x -y", "in", (1, -1, 1))
        writer.datagram(source, Datagram(uri, payload, START_NS + round(seconds * 1e9)))
    writer.close()
    show = tmp_path / "show.toml"
    show.write_text(SHOW.replace("URI", uri))
    words = ["wizard", uri, "--take", str(tmp_path / "take.mcap"), "--show", str(show), "--steps", ",".join(operators.STEPS)]
    assert main([*words, "--yes"]) == 0
    assert "got it: right" in capsys.readouterr().out
    check_show(show, "freed", lambda pose, _: [operators.freed(pose, "-z x -y", "in", (1, -1, 1))])
    assert main([*words, "--yes"]) == 0 and "nothing to write" in capsys.readouterr().out
    assert main(["wizard", other, "--take", str(tmp_path / "take.mcap")]) == 2
    assert "expected datagrams of native+zmq" in capsys.readouterr().err


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def operate(port: int, send) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        begun_s = time.monotonic()
        for seconds, pose, _ in operators.take(rate=50, seed=port):
            time.sleep(max(0.0, begun_s + seconds - time.monotonic()))
            for payload in send(pose, seconds):
                s.sendto(payload, ("127.0.0.1", port))


def check_show(file: Path, protocol: str, send) -> None:
    """The show as the server loads it, given poses that the wizard never saw."""
    show = load_show(file)
    reading, [rig] = show.sources[0].reading, show.stage.rigs
    decoder = open_decoder(protocol, **{f: getattr(reading, f) for f in reading.__struct_fields__})
    r = random.Random(5)
    for _ in range(20):
        sent = Pose(canonical(tuple(r.gauss(0, 1) for _ in range(4))), tuple(r.uniform(-5, 5) for _ in range(3)))
        samples = []
        for payload in send(sent, 1000.0):
            samples += decoder.decode(Datagram("test", payload, START_NS))
        [sample] = samples
        assert sample.camera_id == "A"
        got = rig.stage_from_world @ sample.world_from_tracker @ rig.tracker_from_camera
        assert math.dist(got.position_m, sent.position_m) < SAME_M
        w, x, y, z = sent.wxyz
        assert math.degrees(math.hypot(*rotation_vector(multiply((w, -x, -y, -z), got.wxyz)))) < SAME_DEG


def test_nothing_that_comes_is_said_and_nothing_is_written(tmp_path, capsys):
    show = tmp_path / "show.toml"
    show.write_text(SHOW.replace("URI", "freed+udp://127.0.0.1:0"))
    before = show.read_text()
    assert main(["wizard", "freed+udp://127.0.0.1:0", "--show", str(show), "--yes", "--seconds", "0.3"]) == 1
    assert "nothing readable came" in capsys.readouterr().out and show.read_text() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "right,up"], "--steps: expected at least right, forward, up, pan, tilt, roll"),
        (["--steps", "left"], "--steps: expected of right, forward"),
        (["--moved", "-1"], "--moved: expected a number above 0"),
        (["--profile", "zcam"], "--profile: invalid choice"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_a_wrong_word_is_named(words, told, capsys):
    try:
        status = main(["wizard", "freed+udp://127.0.0.1:0", *words])
    except SystemExit as end:
        status = end.code
    assert status == 2 and told in capsys.readouterr().err
