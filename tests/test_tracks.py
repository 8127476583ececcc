"""A track is the same in every format, as far as the format can say it; and what other programs write is what it means."""

import json
import math
import os
import random
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from pxr import Gf, Usd, UsdGeom

from ledvolume.camera import CameraSample, LensReading
from ledvolume.cli import main
from ledvolume.clock import frame_start_ns
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion
from ledvolume.pose import Pose, Similarity, canonical, multiply, pan_tilt_roll, rotation_vector
from ledvolume.protocols import open_decoder
from ledvolume.protocols.opentrackio_sample import schema_fault
from ledvolume.recording import TakeReader, TakeWriter
from ledvolume.sources import Datagram, open_source
from ledvolume.tracks import FORMATS, Assumed, Track, dropped, format_of, load_track, save_track
from ledvolume.tracks.resample import playing, resampled
from ledvolume.tracks.track import made_track, nanoseconds

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).resolve().parent / "data"
LAP = DATA / "nerfstudio_camera_path" / "one_lap_cut.json"
FILM = Fraction(24000, 1001)
BEGIN = 1_789_000_000_123_456_789
SENSOR = (36.0, 24.0)
S = math.sqrt(0.5)


def move(camera_id: str, count: int = 30, begin_ns: int = BEGIN, seed: int = 1) -> list[CameraSample]:
    """A camera that turns every way, with a complete lens, on the frames of film."""
    r, samples = random.Random(seed), []
    for frame in range(count):
        at_ns = frame_start_ns(frame, FILM, begin_ns)
        pose = Pose(canonical(tuple(r.gauss(0, 1) for _ in range(4))), tuple(r.uniform(-5, 5) for _ in range(3)))
        lens = LensReading(
            focal_length_mm=r.uniform(20, 90), focus_distance_m=r.uniform(0.5, 9), f_stop=2.8, entrance_pupil_m=0.07,
            zoom_encoder=r.random(), focus_encoder=r.random(), iris_encoder=0.25, projection_offset_mm=(0.11, -0.22),
            distortion=Distortion((1e-4, 2e-7), (1e-6, -2e-6), (0.01, 0.02)), sensor_mm=SENSOR, overscan=1.1,
        )  # fmt: skip
        samples.append(CameraSample(camera_id, at_ns, at_ns, pose, lens, "ok", 0, f"10:00:00:{frame % 24:02}"))
    return samples


ONE = made_track(Path("one"), "made", move("A"))
TWO = made_track(Path("two"), "made", move("A") + move("B", seed=2))


def turned_by(a: Pose, b: Pose) -> float:
    """Radians between two poses."""
    w, x, y, z = a.wxyz
    return math.hypot(*rotation_vector(multiply((w, -x, -y, -z), b.wxyz)))


def off_by(a: Pose, b: Pose) -> float:
    """Metres between two poses."""
    return math.dist(a.position_m, b.position_m)


# ---- there and back

# format: suffix, metres, radians that its digits can be off (half of the last one, and what that makes in three axes)
EXACT = 1e-12
RESOLUTION = {
    "mcap": (".mcap", EXACT, EXACT),
    "opentrackio": (".jsonl", EXACT, 1e-9),  # quaternion → angles in degrees → quaternion
    "csv": (".csv", EXACT, EXACT),
    "tum": (".tum", 1e-6, 3e-9),
    "chan": (".chan", 1e-6, 5e-8),  # 1e-6 of a degree is 1.7e-8 rad
    "nerfstudio": (".json", EXACT, 1e-9),
    "usd": (".usda", EXACT, 1e-9),
    "usdc": (".usdc", EXACT, 1e-9),
}
ROTATION_FLOOR = 3e-8  # acos of a dot product of quaternions near 1 is no better


def there_and_back(track: Track, path: Path, **assumed) -> Track:
    save_track(track, path, Assumed(**assumed))
    return load_track(path, Assumed(**{"camera": "A", "sensor_mm": SENSOR} | assumed))


@pytest.mark.parametrize("name", RESOLUTION)
def test_a_track_comes_back_from_every_format(name, tmp_path):
    suffix, metres, radians = RESOLUTION[name]
    holds_many = name not in ("tum", "chan", "nerfstudio")
    track = TWO if holds_many else ONE
    back = there_and_back(track, tmp_path / f"a{suffix}", **({"rate": FILM} if name == "chan" else {}))
    assert back.cameras == track.cameras and back.rate == FILM
    assert len(back.samples) == len(track.samples)
    begin_ns = back.samples[0].captured_at_ns
    assert begin_ns == (BEGIN if "dates" in FORMATS[format_of(f"a{suffix}")].holds else 0)
    for a, b in zip(track.samples, back.samples):
        assert a.captured_at_ns - BEGIN == pytest.approx(b.captured_at_ns - begin_ns, abs=1)
        assert off_by(a.world_from_tracker, b.world_from_tracker) <= metres
        assert turned_by(a.world_from_tracker, b.world_from_tracker) <= radians + ROTATION_FLOOR


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_holds_of_lens_and_timecode_comes_back(name, tmp_path):
    back = there_and_back(ONE, tmp_path / f"a{FORMATS[name].suffixes[0]}", **({"rate": FILM} if name == "chan" else {}))
    told = [field for field in LensReading.__struct_fields__ if field in FORMATS[name].holds]
    for a, b in zip(ONE.samples, back.samples):
        for field in told:
            one, other = getattr(a.lens, field), getattr(b.lens, field)
            if field == "distortion":
                assert one == other
            else:  # USD has floats of 32 bits; chan's fields of view have 1e-6 of a degree
                assert other == pytest.approx(one, rel=1e-6), field
        assert b.timecode == (a.timecode if "timecode" in FORMATS[name].holds else "")
        assert b.status == (a.status if "status" in FORMATS[name].holds else "")


def test_csv_and_takes_hold_everything(tmp_path):
    live = [msgspec.structs.replace(s, received_at_ns=s.captured_at_ns + 7_000_003, stamped_at_ns=99) for s in move("A")]
    track = made_track(Path("live"), "made", live)
    for suffix in (".csv", ".mcap"):
        back = there_and_back(track, tmp_path / f"a{suffix}")
        assert [msgspec.structs.replace(s, world_from_tracker=Pose()) for s in back.samples] == [
            msgspec.structs.replace(s, world_from_tracker=Pose()) for s in live
        ]
        assert save_track(track, tmp_path / f"b{suffix}") == []


def test_what_a_format_has_no_place_for_is_said(tmp_path):
    assert dropped(ONE, "csv") == []
    assert "timecode" in dropped(ONE, "usd") and "focal_length_mm" not in dropped(ONE, "usd")
    [note] = save_track(ONE, tmp_path / "a.tum")
    assert note.startswith("tum has no place for focal_length_mm") and "timecode" in note


def test_formats_of_one_camera_ask_which(tmp_path):
    for suffix in (".tum", ".chan", ".json"):
        with pytest.raises(ConfigError, match="choose with --camera.*'A, B'"):
            save_track(TWO, tmp_path / f"a{suffix}")


# ---- what others write: CSV, TUM


def test_csv_by_hand(tmp_path):
    (tmp_path / "a.csv").write_text(
        "time_s, x,y,z,qw,qx,qy,qz,camera_id,focal_length_mm,timecode,mood\n"
        "# a comment\n"
        '10.5,1,2,3,0.8,0,0,0.6,"A",35,01:02:03:04,good\n'
        "10.5,4,5,6,1,0,0,0,B,,,\n"
        "10.516666667,1,2,3.5,-1,0,0,0,A,36.5,01:02:03;05,\n"
    )
    a, b, c = load_track(tmp_path / "a.csv").samples
    assert (a.camera_id, a.captured_at_ns, a.world_from_tracker) == (
        "A",
        10_500_000_000,
        Pose((0.8, 0.0, 0.0, 0.6), (1.0, 2.0, 3.0)),
    )
    assert (a.lens, a.timecode) == (LensReading(focal_length_mm=35.0), "01:02:03:04")
    assert (b.camera_id, b.lens, b.timecode) == ("B", LensReading(), "")
    assert (c.captured_at_ns, c.world_from_tracker.wxyz, c.timecode) == (10_516_666_667, (1.0, 0.0, 0.0, 0.0), "01:02:03;05")


def test_tum_by_hand_and_of_the_benchmark(tmp_path):
    (tmp_path / "a.tum").write_text("# t x y z qx qy qz qw\n1305031113.7657 1.2737 0.5893 1.601 0 0 0.6 0.8\n")
    [sample] = load_track(tmp_path / "a.tum", Assumed(camera="X")).samples
    assert (sample.camera_id, sample.captured_at_ns) == ("X", 1_305_031_113_765_700_000)
    assert sample.world_from_tracker == Pose((0.8, 0.0, 0.0, 0.6), (1.2737, 0.5893, 1.601))
    real = load_track(DATA / "tum" / "freiburg1_xyz_cut.txt")
    assert (len(real.samples), real.format) == (1000, "tum")
    assert real.rate is None  # a real tracker's 100 Hz: up to 2.4 ms off its frames


# ---- chan


@pytest.mark.parametrize(
    ("rotate", "order", "forward", "up"),
    [
        # by hand, Y up, forward (0, 0, -1), then (x, y, z) → ours (x, -z, y); right-hand rule
        ("0 0 0", "zxy", (0, 1, 0), (0, 0, 1)),
        ("0 90 0", "zxy", (-1, 0, 0), (0, 0, 1)),  # ry +: to the left
        ("30 0 0", "zxy", (0, math.sqrt(0.75), 0.5), (0, -0.5, math.sqrt(0.75))),  # rx +: up
        ("0 0 90", "zxy", (0, 1, 0), (-1, 0, 0)),  # rz +: counter-clockwise, up goes to the left
        ("30 90 0", "zxy", (-math.sqrt(0.75), 0, 0.5), None),  # X first, then Y
        ("90 0 90", "zxy", (0, 0, 1), None),  # Z leaves forward alone, X turns it up
        ("90 0 90", "xyz", (-1, 0, 0), None),  # X turns it up, Z turns up to the left
    ],
)
def test_chan_by_hand(tmp_path, rotate, order, forward, up):
    (tmp_path / "a.chan").write_text(f"1001 100 200 300 {rotate} 37.849289\n1002.5 0 0 0 0 0 0 60\n")
    assumed = Assumed(rate=Fraction(25), unit_m=0.01, rotation_order=order, sensor_mm=SENSOR)
    first, second = load_track(tmp_path / "a.chan", assumed).samples
    assert first.world_from_tracker.position_m == pytest.approx((1.0, -3.0, 2.0))
    turn = Pose(first.world_from_tracker.wxyz)
    assert turn.apply((0.0, 1.0, 0.0)) == pytest.approx(forward, abs=1e-12)
    assert up is None or turn.apply((0.0, 0.0, 1.0)) == pytest.approx(up, abs=1e-12)
    assert (first.captured_at_ns, second.captured_at_ns) == (0, 60_000_000)
    # 2·atan(12/35) = 37.849289°; 12/tan(30°) = 20.7846
    assert first.lens.focal_length_mm == pytest.approx(35.0, rel=1e-6)
    assert second.lens.focal_length_mm == pytest.approx(20.784610, rel=1e-6)


@pytest.mark.parametrize("order", ["zxy", "xyz"])
def test_chan_rotations_are_those_of_an_independent_matrix(tmp_path, order):
    """Gf composes row vectors: what is applied first stands first."""
    r = random.Random(4)
    for _ in range(20):
        angles = [r.uniform(-180, 180) for _ in range(3)]
        (tmp_path / "a.chan").write_text("1 0 0 0 {} {} {}\n".format(*angles))
        [sample] = load_track(tmp_path / "a.chan", Assumed(rotation_order=order)).samples
        matrix = Gf.Matrix4d(1)
        for axis in order:
            unit = Gf.Vec3d(*(float(axis == other) for other in "xyz"))
            matrix *= Gf.Matrix4d().SetRotate(Gf.Rotation(unit, angles["xyz".index(axis)]))
        for theirs, ours in (((1, 0, 0), (1, 0, 0)), ((0, 0, -1), (0, 1, 0)), ((0, 1, 0), (0, 0, 1))):
            x, y, z = matrix.TransformDir(Gf.Vec3d(*theirs))
            assert Pose(sample.world_from_tracker.wxyz).apply(ours) == pytest.approx((x, -z, y), abs=1e-12)


@pytest.mark.parametrize("order", ["zxy", "xyz"])
def test_chan_comes_back_where_its_angles_meet(tmp_path, order):
    """Straight up, down, and to the sides: where two of the three axes are one."""
    poses = [pan_tilt_roll(*(math.radians(90 * k) for k in (i, j, l))) for i in range(4) for j in (-1, 0, 1) for l in range(4)]
    samples = [CameraSample("A", 0, 0, Pose(q)) for q in poses]
    samples = [msgspec.structs.replace(s, captured_at_ns=frame_start_ns(i, Fraction(24), 0)) for i, s in enumerate(samples)]
    back = there_and_back(made_track(Path("x"), "made", samples), tmp_path / "a.chan", rotation_order=order)
    assert max(turned_by(a.world_from_tracker, b.world_from_tracker) for a, b in zip(samples, back.samples)) < 1e-7


def test_a_chan_file_without_what_it_needs_says_so(tmp_path):
    notes = save_track(ONE, tmp_path / "a.chan", Assumed(start_frame=1001))
    assert "24000/1001 frames a second, frames 1001 to 1030, rotation order zxy" in notes
    assert (tmp_path / "a.chan").read_text().splitlines()[0].split()[0] == "1001"
    assert load_track(tmp_path / "a.chan").notes == (
        "read as 24 frames a second (--file-rate)",
        "the field of view is not used: the sensor is not known (--sensor)",
    )
    uneven = made_track(
        Path("x"), "made", [msgspec.structs.replace(s, captured_at_ns=i * i * 10**7) for i, s in enumerate(move("A"))]
    )
    with pytest.raises(ConfigError, match="--rate: expected frames per second"):
        save_track(uneven, tmp_path / "b.chan")


# ---- nerfstudio


def test_a_real_camera_path_is_what_its_matrices_say():
    track = load_track(LAP, Assumed(sensor_mm=SENSOR))
    frames = json.loads(LAP.read_text())["camera_path"]
    assert (len(track.samples), track.rate) == (24, 24)
    assert track.samples[6].captured_at_ns == 250_000_000
    for sample, frame in zip(track.samples, frames):
        m = frame["camera_to_world"]  # row after row; columns: right, up, back, position
        turn = Pose(sample.world_from_tracker.wxyz)
        assert sample.world_from_tracker.position_m == pytest.approx((m[3], m[7], m[11]))
        assert turn.apply((1.0, 0.0, 0.0)) == pytest.approx((m[0], m[4], m[8]), abs=1e-6)
        assert turn.apply((0.0, 0.0, 1.0)) == pytest.approx((m[1], m[5], m[9]), abs=1e-6)
        assert turn.apply((0.0, 1.0, 0.0)) == pytest.approx((-m[2], -m[6], -m[10]), abs=1e-6)
        assert sample.lens.focal_length_mm == pytest.approx(12.0)  # fov 90: 24 mm / 2 / tan 45°
    assert any("NeRF's own frame" in note for note in track.notes)


def rows(m: list) -> list:
    return [m[i : i + 4] for i in (0, 4, 8, 12)]


FORMS = {
    "four lists": rows,
    "three lists": lambda m: rows(m)[:3],
    "text": lambda m: json.dumps(m),
    "text of four lists": lambda m: json.dumps(rows(m)),
    "column after column, as text": lambda m: json.dumps([m[i + 4 * j] for i in range(4) for j in range(4)]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_matrix_is_the_same_pose(tmp_path, form):
    path = json.loads(LAP.read_text())
    for frame in path["camera_path"]:
        frame["camera_to_world"] = form(frame["camera_to_world"])
    (tmp_path / "path.json").write_text(json.dumps(path))
    assert load_track(tmp_path / "path.json").samples == load_track(LAP).samples


def test_the_text_of_a_real_keyframe_is_the_pose_of_its_frame(tmp_path):
    """nerfstudio made the first frame of the path of its first keyframe, which it wrote column after column."""
    path = json.loads(LAP.read_text())
    path["camera_path"] = [{"camera_to_world": path["keyframes"][0]["matrix"], "fov": 90}]
    (tmp_path / "path.json").write_text(json.dumps(path))
    [key], frame = load_track(tmp_path / "path.json").samples, load_track(LAP).samples[0]
    assert off_by(key.world_from_tracker, frame.world_from_tracker) < 1e-6
    assert turned_by(key.world_from_tracker, frame.world_from_tracker) < 1e-6


def test_a_camera_path_lies_on_the_stage_by_the_place_it_is_for(tmp_path):
    """By hand: the stage's x is the field's y (pan 90°), half as large, from (10, 20, 30) on."""
    place = Similarity(Pose((S, 0.0, 0.0, S), (10.0, 20.0, 30.0)), 0.5)
    # a camera at the field's (10, 20.5, 30), looking along its +y with up +z: right +x, back -y
    matrix = [1, 0, 0, 10, 0, 0, -1, 20.5, 0, 1, 0, 30, 0, 0, 0, 1]
    (tmp_path / "path.json").write_text(json.dumps({"fps": 23.976, "camera_path": [{"camera_to_world": matrix, "fov": 50}]}))
    track = load_track(tmp_path / "path.json", Assumed(field_from_stage=place))
    [sample] = track.samples
    assert track.rate == FILM and not track.notes[:0]
    assert sample.world_from_tracker.position_m == pytest.approx((1.0, 0.0, 0.0))
    assert Pose(sample.world_from_tracker.wxyz).apply((0.0, 1.0, 0.0)) == pytest.approx((1.0, 0.0, 0.0))  # the field's y
    save_track(track, tmp_path / "back.json", Assumed(field_from_stage=place))
    [frame] = json.loads((tmp_path / "back.json").read_text())["camera_path"]
    assert frame["camera_to_world"] == pytest.approx(matrix, abs=1e-12)


# ---- OpenTrackIO


def test_every_line_of_opentrackio_is_valid_by_the_schema_of_smpte(tmp_path):
    relative = made_track(Path("x"), "made", move("A", begin_ns=0) + move("7", begin_ns=0))
    save_track(relative, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == 60 and not [fault for line in lines if (fault := schema_fault(line))]
    assert len({line["sampleId"] for line in lines}) == 60
    back = load_track(tmp_path / "a.jsonl")
    assert back.cameras == ("A", "7") and back.samples[0].captured_at_ns == 0


def test_the_examples_of_smpte_are_lines_of_a_track(tmp_path):
    text = json.dumps(json.loads((DATA / "opentrackio" / "complete_static.json").read_text()))
    (tmp_path / "a.jsonl").write_text(text + "\n")
    [sample] = load_track(tmp_path / "a.jsonl").samples
    fields = json.loads(text)
    stamp = fields["timing"]["sampleTimestamp"]
    assert sample.captured_at_ns == stamp["seconds"] * 10**9 + stamp["nanoseconds"]
    assert sample.lens.focal_length_mm == fields["lens"]["pinholeFocalLength"]


def test_lines_without_stamps_are_at_their_rate(tmp_path):
    pose = {"translation": {"x": 1, "y": 2, "z": 3}, "rotation": {"pan": 0, "tilt": 0, "roll": 0}}
    line = {"transforms": [pose], "sourceNumber": 5, "timing": {"sampleRate": {"num": 50, "denom": 1}}}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for _ in range(4)))
    assert [s.captured_at_ns for s in load_track(tmp_path / "a.jsonl").samples] == [0, 20_000_000, 40_000_000, 60_000_000]
    del line["timing"]
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    with pytest.raises(ConfigError, match="line 1: timing: expected a sampleTimestamp or a sampleRate"):
        load_track(tmp_path / "a.jsonl")


# ---- USD


def test_a_written_stage_is_what_usd_reads(tmp_path):
    """By USD's own means: UsdGeom's attributes, transforms and GfCamera's frustum."""
    save_track(TWO, tmp_path / "a.usda", Assumed(start_frame=1001))
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 0.01
    assert stage.GetTimeCodesPerSecond() == pytest.approx(24000 / 1001) and stage.GetStartTimeCode() == 1001
    for camera_id in ("A", "B"):
        camera = UsdGeom.Camera(stage.GetPrimAtPath(f"/ledvolume/{camera_id}"))
        for frame, sample in enumerate(TWO.of_camera(camera_id).samples):
            seen = camera.GetCamera(1001 + frame)
            assert [c / 100 for c in seen.transform.ExtractTranslation()] == pytest.approx(sample.world_from_tracker.position_m)
            turn = Pose(sample.world_from_tracker.wxyz)
            view = seen.frustum.ComputeViewDirection()
            up = seen.frustum.ComputeUpVector()
            assert list(view) == pytest.approx(turn.apply((0.0, 1.0, 0.0)), abs=1e-6)
            assert list(up) == pytest.approx(turn.apply((0.0, 0.0, 1.0)), abs=1e-6)
            assert seen.focalLength == pytest.approx(sample.lens.focal_length_mm)
            assert (seen.horizontalAperture, seen.verticalAperture) == SENSOR
            assert seen.focusDistance == pytest.approx(sample.lens.focus_distance_m * 100)
            # the window on the focal plane, as our own view_tangents has it: (±18 - 0.11)/F to the right, (±12 - 0.22)/F up
            window, f = seen.frustum.GetWindow(), sample.lens.focal_length_mm
            assert window.GetMin()[0] == pytest.approx((-18 - 0.11) / f) and window.GetMax()[1] == pytest.approx((12 - 0.22) / f)


Y_UP = """#usda 1.0
(
    metersPerUnit = {metres}
    timeCodesPerSecond = 25
    upAxis = "{up}"
)
def Xform "dolly"
{{
    double3 xformOp:translate.timeSamples = {{ 10: (1, 0, 0), 20: (2, 0, 0) }}
    double xformOp:rotateY = 90
    double3 xformOp:scale = (2, 2, 2)
    uniform token[] xformOpOrder = ["xformOp:translate", "xformOp:rotateY", "xformOp:scale"]
    def Camera "hero"
    {{
        float focalLength = {focal}
        float horizontalAperture = {aperture}
        float verticalAperture = {aperture}
        float focusDistance = 5
        float fStop = 0
        float horizontalApertureOffset = 0
        double3 xformOp:translate = (0, 1, 3)
        uniform token[] xformOpOrder = ["xformOp:translate"]
    }}
}}
"""


@pytest.mark.parametrize(
    ("metres", "focal", "aperture", "is_noted"),
    [(0.01, 35, 24, False), (1, 0.35, 0.24, False), (1, 35, 24, True), (0.001, 350, 240, False)],
    ids=["centimetres", "metres, by the rule", "metres, lens in millimetres", "millimetres, by the rule"],
)
def test_a_stage_with_y_up_a_parent_and_any_unit(tmp_path, metres, focal, aperture, is_noted):
    """By hand: the camera is at (0, 1, 3) of its parent, doubled (0, 2, 6), turned by 90° about Y (6, 2, 0), moved by 1 or 2;
    so at (7, 2, 0) and (8, 2, 0) with Y up, (7, 0, 2) and (8, 0, 2) with Z up. It looks along -Z, turned: along -X."""
    (tmp_path / "a.usda").write_text(Y_UP.format(metres=metres, up="Y", focal=focal, aperture=aperture))
    track = load_track(tmp_path / "a.usda")
    first, second = track.samples
    assert track.cameras == ("hero",) and (first.captured_at_ns, second.captured_at_ns) == (0, 400_000_000)
    assert first.world_from_tracker.position_m == pytest.approx((7 * metres, 0.0, 2 * metres))
    assert second.world_from_tracker.position_m == pytest.approx((8 * metres, 0.0, 2 * metres))
    turn = Pose(first.world_from_tracker.wxyz)
    assert turn.apply((0.0, 1.0, 0.0)) == pytest.approx((-1.0, 0.0, 0.0), abs=1e-12)
    assert turn.apply((0.0, 0.0, 1.0)) == pytest.approx((0.0, 0.0, 1.0), abs=1e-12)
    assert (first.lens.focal_length_mm, first.lens.focus_distance_m) == pytest.approx((35.0, 5 * metres))
    assert first.lens.sensor_mm == pytest.approx((24.0, 24.0)) and first.lens.f_stop is None
    assert bool(track.notes) == is_noted


def test_a_stage_with_z_up_has_our_axes(tmp_path):
    """The same numbers as with Y up: (7, 2, 0), looking along -X, with the camera's up along +Y of the stage."""
    (tmp_path / "a.usda").write_text(Y_UP.format(metres=1, up="Z", focal=0.35, aperture=0.24))
    first = load_track(tmp_path / "a.usda").samples[0]
    assert first.world_from_tracker.position_m == pytest.approx((7.0, 2.0, 0.0))
    turn = Pose(first.world_from_tracker.wxyz)
    assert turn.apply((0.0, 1.0, 0.0)) == pytest.approx((-1.0, 0.0, 0.0), abs=1e-12)
    assert turn.apply((0.0, 0.0, 1.0)) == pytest.approx((0.0, 1.0, 0.0), abs=1e-12)


def test_without_usd_core_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pxr.Gf", None)
    with pytest.raises(ConfigError, match=r"usd-core: pip install 'ledvolume\[usd\]'"):
        load_track(tmp_path / "a.usda")


# ---- malformed

LATE = json.dumps(
    {"transforms": [{"translation": {}, "rotation": {}}], "timing": {"sampleTimestamp": {"seconds": 2**48 - 1, "nanoseconds": 0}}}
)
POSE_LINE = "1 0 0 0 0 0 0"
UPRIGHT = "[1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1]"


MIRRORED = """#usda 1.0
def Camera "a" {
    double3 xformOp:scale = (-1, 1, 1)
    uniform token[] xformOpOrder = ["xformOp:scale"]
}"""


def one_frame(matrix: str, **more) -> str:
    """A camera path of one frame."""
    return json.dumps({"camera_path": [{"camera_to_world": json.loads(matrix), **more}]})


MALFORMED = {
    "a.csv": [
        ("", "header: expected time_s.*nothing"),
        ("time_s,x\n", "no y, z, qw"),
        ("time_s,x,y,z,qw,qx,qy,qz,x\n", "each column once"),
        ("time_s,x,y,z,qw,qx,qy,qz\n", "at least one pose"),
        ("time_s,x,y,z,qw,qx,qy,qz\n0,0,0,0,1,0,0\n", "line 2.*7 values"),
        ("time_s,x,y,z,qw,qx,qy,qz\n0,0,0,zero,1,0,0,0\n", "line 2.*z 'zero' is no finite number"),
        ("time_s,x,y,z,qw,qx,qy,qz\n0,0,0,nan,1,0,0,0\n", "line 2.*z 'nan'"),
        ("time_s,x,y,z,qw,qx,qy,qz\n1e300,0,0,0,1,0,0,0\n", "line 2.*no time in seconds"),
        ("time_s,x,y,z,qw,qx,qy,qz\n1e999999,0,0,0,1,0,0,0\n", "line 2.*no time in seconds"),
        ("time_s,x,y,z,qw,qx,qy,qz\n0,0,0,1e9,1,0,0,0\n", "line 2.*too-far"),
        ("time_s,x,y,z,qw,qx,qy,qz,f_stop\n0,0,0,0,1,0,0,0,-4\n", "line 2.*f_stop -4"),
        ("time_s,x,y,z,qw,qx,qy,qz,timecode\n0,0,0,0,1,0,0,0,noon\n", "timecode: expected HH:MM:SS:FF"),
        ('time_s,x,y,z,qw,qx,qy,qz\n0,0,0,0,1,0,0,"0\n', "line 2: expected one row of CSV"),
        (b"time_s,x,y,z,qw,qx,qy,qz\n0,0,0,0,1,0,0,\xff\n", "line 2: expected text in UTF-8"),
        ("time_s,x,y,z,qw,qx,qy,qz\n" + "0" * 2_000_000, "line 2: expected at most 1048576 bytes"),
    ],
    "a.tum": [("0 0 0 0 0 0 1\n", "line 1.*7 values"), ("0 0 0 0 0 0 0 inf\n", "line 1.*not finite")],
    "a.chan": [
        ("1 0 0 0\n", "line 1.*4 values"),
        (f"{POSE_LINE}\n{POSE_LINE} 50\n", "line 2.*8 values after lines of 7"),
        (f"{POSE_LINE}\n{POSE_LINE}\n", "line 2.*frame 1 after 1"),
        (f"{POSE_LINE} 180\n", "line 1: vfov: expected degrees between 0 and 180"),
        ("1 0 0 0 0 0 nan\n", "line 1.*not finite"),
        ("1e400000000 0 0 0 0 0 0\n", "line 1.*not finite"),
        (f"{POSE_LINE}\n1e-400000000 0 0 0 0 0 0\n", "line 2.*frame 1e-400000000 after 1"),
    ],
    "a.jsonl": [
        ("{}\n", "at least one pose.*no-transforms"),
        ("[]\n", "line 1: expected an OpenTrackIO sample as JSON"),
        ('{"transforms": [{"translation": 3}]}\n', "line 1.*bad-transform"),
        (LATE + "\n", "line 1: time: expected within 9000000000 s of 1970"),
        ("{" * 100_000, "line 1: expected an OpenTrackIO sample"),
        ('{"a":' * 100_000, "line 1: expected an OpenTrackIO sample"),
    ],
    "a.json": [
        ("[]", "expected a camera path of nerfstudio"),
        ("{", "expected a camera path of nerfstudio"),
        ('{"camera_path": []}', "camera_path: expected frames"),
        ('{"fps": 0, "camera_path": [{"camera_to_world": []}]}', "fps: expected frames per second"),
        ('{"camera_path": [{"camera_to_world": [1, 2]}]}', r"camera_path\[0\].camera_to_world: expected a 4×4 matrix"),
        ('{"camera_path": [{"camera_to_world": "__import__(1)"}]}', r"camera_path\[0\].camera_to_world: expected a 4×4"),
        (one_frame("[2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2]"), "0 0 0 1 as the last row"),
        (one_frame(UPRIGHT.replace("1", "2", 1)), "expected a rotation"),
        (one_frame(UPRIGHT.replace("1", "-1", 1)), "expected a rotation"),
        (one_frame(UPRIGHT, fov="wide"), "Expected `float | null`"),
    ],
    "a.usda": [
        ("garbage", "expected a USD file that can be read"),
        ("#usda 1.0\n", "cameras: expected at least one Camera prim"),
        (MIRRORED, "neither sheared nor mirrored"),
        ('#usda 1.0\n( timeCodesPerSecond = 0 )\ndef Camera "a" {}', "timeCodesPerSecond"),
    ],
    "a.mcap": [("no", "expected an MCAP file")],
    "a.fbx": [("", "format: expected a file that ends in .mcap, .jsonl")],
}  # fmt: skip
CASES = [(name, text, told) for name, cases in MALFORMED.items() for text, told in cases]


@pytest.mark.parametrize(("name", "text", "told"), CASES, ids=lambda case: str(case)[:30])
def test_a_malformed_file_is_explained(tmp_path, name, text, told):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=told) as refused:
        load_track(tmp_path / name, Assumed(sensor_mm=SENSOR))
    assert refused.value.file.endswith(name)


@pytest.mark.parametrize("suffix", [".csv", ".tum", ".chan", ".jsonl", ".json", ".usda"])
def test_a_damaged_file_is_read_or_explained_and_nothing_else(tmp_path, suffix):
    save_track(made_track(Path("x"), "made", move("A", 4)), tmp_path / f"a{suffix}")
    data, r = (tmp_path / f"a{suffix}").read_bytes(), random.Random(3)
    for number in range(150):
        bad = bytearray(data)
        for _ in range(r.randint(1, 6)):
            at = r.randrange(len(bad))
            bad[at : at + r.randint(0, 2)] = r.choice(
                [b"", b"-", b"9", b"e9", b",", b"[", b"nan", b'"', bytes([r.randrange(256)])]
            )
        path = tmp_path / f"b{number}{suffix}"  # USD remembers files by their names
        path.write_bytes(bad)
        try:
            track = load_track(path, Assumed(sensor_mm=SENSOR))
        except ConfigError as error:
            assert error.file == str(path)
        else:
            assert all(map(math.isfinite, (c for s in track.samples for c in s.world_from_tracker.position_m)))


# ---- other instants


def test_between_two_samples_pose_and_lens_go_on_and_the_rest_is_the_one_before():
    a = CameraSample("A", 0, 0, Pose(), LensReading(focal_length_mm=20.0, zoom_encoder=0.0), "ok", 0, "00:00:00:01")
    b = CameraSample("A", 10**9, 10**9, Pose((S, 0.0, 0.0, S), (4.0, 0.0, 0.0)), LensReading(focal_length_mm=40.0), "lost")
    [camera] = playing(made_track(Path("x"), "made", [a, b])).values()
    quarter = camera.at(250_000_000)
    assert quarter.world_from_tracker.position_m == pytest.approx((1.0, 0.0, 0.0))
    assert turned_by(quarter.world_from_tracker, Pose()) == pytest.approx(math.pi / 8)
    assert (quarter.lens.focal_length_mm, quarter.lens.zoom_encoder) == (25.0, 0.0)
    assert (quarter.status, quarter.timecode, quarter.captured_at_ns) == ("ok", "00:00:00:01", 250_000_000)
    assert camera.at(-5).world_from_tracker == a.world_from_tracker
    assert camera.at(2 * 10**9).world_from_tracker == b.world_from_tracker


def test_a_lens_that_is_zoomed_bends_less_and_less_between_two_samples():
    wide = LensReading(projection_offset_mm=(0.4, 0.0), distortion=Distortion(radial=(-4e-4,)), focus_distance_m=math.inf)
    tele = LensReading(projection_offset_mm=(0.0, 0.2), distortion=Distortion(radial=(-1e-4, 0.0, 8e-8)), focus_distance_m=2.0)
    samples = [CameraSample("A", at_ns, at_ns, Pose(), lens) for at_ns, lens in ((0, wide), (100, tele))]
    [camera] = playing(made_track(Path("x"), "made", samples)).values()
    lens = camera.at(25).lens
    assert lens.projection_offset_mm == pytest.approx((0.3, 0.05))
    assert lens.distortion.radial == pytest.approx((-3.25e-4, 0.0, 2e-8))  # -4e-4 + 3e-4 / 4, 8e-8 / 4
    assert lens.focus_distance_m == math.inf  # there is no way half from infinity to 2 m


def test_a_resampled_track_is_on_the_frames_of_an_exact_clock():
    hundred = load_track(DATA / "tum" / "freiburg1_xyz_cut.txt")
    film = resampled(hundred, FILM)
    begin_ns = hundred.samples[0].captured_at_ns
    assert [s.captured_at_ns for s in film.samples] == [begin_ns + n * 10**9 * 1001 // 24000 for n in range(240)]
    assert film.samples[0].world_from_tracker == hundred.samples[0].world_from_tracker
    assert film.notes[-1] == "resampled to 24000/1001 a second: 1000 samples became 240"
    assert resampled(film, FILM) is film


@pytest.mark.parametrize("rate", ["24000/1001", "24", "25", "30000/1001", "60", "100", "240"])
@pytest.mark.parametrize("step_ns", [1, 1_000_000], ids=["exact", "printed in milliseconds"])
def test_the_rate_of_a_track_is_found(rate, step_ns):
    pose = Pose()
    instants = [round(frame_start_ns(n, Fraction(rate), BEGIN) / step_ns) * step_ns for n in range(100) if n not in (7, 8)]
    samples = [CameraSample("A", at_ns, at_ns, pose) for at_ns in instants]
    assert made_track(Path("x"), "made", samples).rate == Fraction(rate)


def test_instants_that_are_no_frames_have_no_rate():
    r = random.Random(2)
    samples = [CameraSample("A", at_ns, at_ns, Pose()) for at_ns in sorted(r.randrange(10**10) for _ in range(100))]
    assert made_track(Path("x"), "made", samples).rate is None


def test_seconds_are_read_to_the_nanosecond():
    assert nanoseconds("1305031113.765700001") == 1_305_031_113_765_700_001  # a float has 2e-7
    assert nanoseconds("-0.5") == -500_000_000


# ---- the commands


def test_convert_says_what_it_read_wrote_and_left_out(tmp_path, capsys):
    save_track(TWO, tmp_path / "take.mcap")
    assert main(["convert", str(tmp_path / "take.mcap"), str(tmp_path / "a.chan"), "--camera", "B", "--rate", "25"]) == 0
    told = capsys.readouterr().out
    assert "camera B, 30 samples in 1.210 s, 24000/1001 a second" in told
    assert "resampled to 25 a second: 30 samples became 31" in told
    assert "chan has no place for focus_distance_m" in told
    assert main(["convert", str(tmp_path / "a.chan"), str(tmp_path / "b.csv"), "--file-rate", "25", "--sensor", "36,24"]) == 0
    assert load_track(tmp_path / "b.csv").rate == 25


def test_convert_takes_a_place_of_a_show(tmp_path, capsys):
    words = ["convert", str(LAP), str(tmp_path / "a.csv"), "--show", str(ROOT / "configs" / "demo.toml")]
    assert main(words) == 0
    assert "NeRF's own frame" not in capsys.readouterr().out
    track = load_track(tmp_path / "a.csv")
    # on the stage and back into the field of that place: what the file says
    assert main(["convert", str(tmp_path / "a.csv"), str(tmp_path / "b.json"), *words[3:]]) == 0
    for a, b in zip(*(json.loads(Path(p).read_text())["camera_path"] for p in (LAP, tmp_path / "b.json"))):
        assert b["camera_to_world"] == pytest.approx(a["camera_to_world"], abs=1e-5) and b["fov"] == pytest.approx(a["fov"])
    assert track.samples[0].lens.focal_length_mm


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["IN", "OUT.csv", "--camera", "C"], "camera: expected one of A, B, got 'C'"),
        (["IN", "OUT.doc"], "format: expected a file that ends in"),
        (["IN", "OUT.csv", "--to", "fbx"], "format: expected one of mcap, opentrackio"),
        (["IN", "IN"], "no take is ever written over"),
        (["IN", "OUT.tum"], "OUT.tum: cameras: expected one camera"),
        (["IN", "OUT.csv", "--rate", "23.976"], "--rate: expected frames per second"),
        (["IN", "OUT.json", "--place", "door"], "--place: expected a --show"),
        (["IN", "OUT.json", "--field-from-stage", "1,2"], "--field-from-stage: expected scale,x,y,z"),
        (["missing.csv", "OUT.tum"], "missing.csv: track: expected a file, got 'no such file'"),
    ],
)
def test_convert_explains_what_is_wrong_and_leaves_nothing_behind(tmp_path, capsys, words, told):
    save_track(TWO, tmp_path / "IN.mcap")
    names = {"IN": "IN.mcap"}
    words = [str(tmp_path / names.get(w, w)) if w in names or w.startswith("OUT") else w for w in words]
    assert main(["convert", *words]) == 2
    assert told in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["IN.mcap"]


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(tmp_path, capsys):
    save_track(TWO, tmp_path / "a.mcap")
    (tmp_path / "a.tum").write_text("mine")
    assert main(["convert", str(tmp_path / "a.mcap"), str(tmp_path / "a.tum")]) == 2
    assert (tmp_path / "a.tum").read_text() == "mine"
    assert main(["convert", str(tmp_path / "a.mcap"), str(tmp_path / "a.tum"), "--camera", "A"]) == 0
    assert len(load_track(tmp_path / "a.tum").samples) == 30


def simulated(track: Path, protocol: str, *words: str) -> tuple[list[Datagram], str]:
    """What `ledvolume simulate` sends, and what it says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        uri = f"{protocol}://127.0.0.1:{free.getsockname()[1]}"
    source, found = open_source(uri), []
    command = [sys.executable, "-m", "ledvolume", "simulate", str(track), "--to", uri, *words]
    sender = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while sender.poll() is None and time.monotonic() < deadline:
        source.wait(0.02)
        found += source.drain()
    found += source.drain()
    source.close()
    return found, sender.communicate()[0]


ALL_LENS = {"focal_length_mm", "focus_distance_m", "f_stop", "entrance_pupil_m", "zoom_encoder", "distortion", "sensor_mm"}
SENDERS = {
    # protocol: words, reading of the receiver, ids, metres of its resolution, what arrives of the lens, whether the timecode
    "osc+udp": ([], {}, ("A", "B"), 1e-6, {"focal_length_mm", "focus_distance_m"}, False),
    "native+udp": ([], {}, ("A", "B"), EXACT, ALL_LENS, True),
    "freed+udp": (["--profile", "z-cam"], {"profile": "z-cam"}, ("1", "2"), 1.4e-5, {"focal_length_mm", "f_stop"}, False),
    "opentrackio+udp": (["--encoding", "cbor"], {}, ("1", "2"), EXACT, ALL_LENS, True),
    "psn+udp": ([], {}, ("1", "2"), 1e-6, set(), False),
}


@pytest.mark.parametrize("protocol", SENDERS)
def test_a_track_is_sent_over_every_protocol_with_its_lens_and_timecode(protocol, tmp_path):
    words, reading, ids, metres, lens_fields, has_timecode = SENDERS[protocol]
    save_track(TWO, tmp_path / "two.csv")
    found, said = simulated(tmp_path / "two.csv", protocol, "--rate", "track", *words)
    assert said.startswith("sent 60 poses to ")
    decoder, samples = open_decoder(protocol.partition("+")[0], **reading), []
    for datagram in found:
        samples += decoder.decode(datagram)
    assert not decoder.rejects and not decoder.flags
    for camera_id, wire_id in zip(("A", "B"), ids):
        sent, came = TWO.of_camera(camera_id).samples, [sample for sample in samples if sample.camera_id == wire_id]
        assert len(sent) == len(came)
        for a, b in zip(sent, came):
            assert off_by(a.world_from_tracker, b.world_from_tracker) <= metres
            assert turned_by(a.world_from_tracker, b.world_from_tracker) <= 2e-6  # freed: 1/32768° is 5e-7 rad an axis
            assert b.timecode == (a.timecode if has_timecode else "")
            for field in lens_fields - {"distortion"}:
                assert getattr(b.lens, field) == pytest.approx(getattr(a.lens, field), rel=3e-4), field  # z-cam: 1/100 mm
            assert "distortion" not in lens_fields or b.lens.distortion == a.lens.distortion


def test_a_track_keeps_its_own_instants_and_can_be_played_at_another_rate(tmp_path):
    save_track(ONE, tmp_path / "one.mcap")
    found, _ = simulated(tmp_path / "one.mcap", "native+udp", "--rate", "track")
    stamps = [s.captured_at_ns for d in found for s in open_decoder("native").decode(d)]
    assert [stamp - stamps[0] for stamp in stamps] == [frame_start_ns(n, FILM, 0) for n in range(30)]
    found, _ = simulated(tmp_path / "one.mcap", "native+udp", "--rate", "50", "--camera", "A")
    samples = [s for d in found for s in open_decoder("native").decode(d)]
    assert len(samples) > 40  # of 61, on a busy machine
    assert {(s.captured_at_ns - samples[0].captured_at_ns) % 20_000_000 for s in samples} == {0}


def test_raw_datagrams_are_sent_again_as_they_came(tmp_path):
    """Of the sources of this protocol: bytes, order and time, also what nobody can read."""
    writer, r = TakeWriter(tmp_path / "take.mcap"), random.Random(5)
    osc, freed = writer.source("osc+udp://:9000", "osc"), writer.source("freed+udp://:40000", "freed")
    payloads = [r.randbytes(r.randint(1, 80)) for _ in range(50)]
    for step, payload in enumerate(payloads):
        writer.datagram(freed, Datagram("", payload, BEGIN + step * 10_000_000))
        writer.datagram(osc, Datagram("", b"other", BEGIN + step * 10_000_000))
    writer.close()
    found, said = simulated(tmp_path / "take.mcap", "freed+udp", "--raw")
    assert said.startswith("sent 50 datagrams")
    assert [d.payload for d in found] == payloads
    assert (found[-1].received_at_ns - found[0].received_at_ns) / 1e9 == pytest.approx(0.49, abs=0.15)
    assert TakeReader(tmp_path / "take.mcap").size_bytes
