"""Show files: what is written is what is meant, and what cannot be taken literally is refused with where, what and why."""

import math
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ledvolume.commands.serve import solved_words
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose
from ledvolume.protocols.freed_profile import PROFILES
from ledvolume.stage import Arc, Flat, facing, surface_points
from ledvolume.timeline import Limits

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

SHOW = """
name = "test"
rate = "24"

[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }

[[stage.surface]]
name = "wall"
shape = "arc"
radius_m = 6.0
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [64, 48]
tiles = [4, 2]

[[camera]]
id = "A"
sensor_mm = [36.0, 24.0]
focal_length_mm = 35.0
entrance_pupil_mm = 80.0
latency_ms = 8

[[place]]
name = "door"
file = "scenes/door.safetensors"
[place.field_from_stage]
scale = 0.5
position = [1.0, 2.0, 3.0]
pan_deg = 90.0

[[source]]
uri = "osc+udp://127.0.0.1:9000"

[[output]]
uri = "stream://127.0.0.1:5560"
"""


@pytest.fixture
def written(tmp_path):
    """Writes SHOW with replacements; returns the file."""

    def write(*replacements: tuple[str, str], more: str = "") -> Path:
        text = SHOW
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        file = tmp_path / "show.toml"
        file.write_text(text + more)
        return file

    return write


def refusal(file: Path, **instead) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_show(file, **instead)
    assert caught.value.file == str(file)
    return caught.value


def test_a_show_is_what_its_file_says(written, tmp_path):
    show = load_show(written())
    assert (show.name, show.rate, show.lead_ns, show.start) == ("test", Fraction(24), 41_666_667, "door")
    assert show.places["door"].file == tmp_path / "scenes/door.safetensors"
    assert show.outputs == ("stream://127.0.0.1:5560",) and show.sources[0].uri == "osc+udp://127.0.0.1:9000"
    rig = show.stage.rigs[0]
    assert (rig.camera_id, rig.lens.entrance_pupil_m, rig.latency_ns) == ("A", 0.08, 8_000_000)
    assert show.initial["A"] == Pose(position_m=(0.0, 0.0, 1.6))  # the middle of the zone


def test_tiles_are_cut_from_the_surface_that_was_written(written):
    tiles = load_show(written()).stage.tiles
    assert [t.name for t in tiles[:3]] == ["wall-0-0", "wall-0-1", "wall-1-0"] and len(tiles) == 8
    surface = tiles[0].surface
    assert surface.shape == Arc(6.0) and tiles[0].resolution_px == (16, 24)
    # the middle of the surface is its centre; the top is half the height above it
    assert surface_points(surface, 32, 24) == pytest.approx([0.0, 4.0, 1.6])
    assert surface_points(surface, 32, 0) == pytest.approx([0.0, 4.0, 2.8])


def test_a_surface_with_a_pan_faces_who_looks_along_it(written):
    file = written(("radius_m = 6.0\n", "pan_deg = 90.0\n"), ('"arc"', '"flat"'))
    surface = load_show(file).stage.tiles[0].surface
    assert surface.shape == Flat()
    # 90° to the left is -X; the surface's right edge is then toward +Y
    assert surface_points(surface, 64, 24) == pytest.approx([0.0, 4.0 + 1.6, 1.6])


# centre (0, 4, 1.6), 3.2 × 2.4 m: where the middle of the right edge and the middle of the top are from there
@pytest.mark.parametrize(
    ("keys", "right", "top"),
    [
        # up: right stays right, and what was above is now behind
        ("tilt_deg = 90", (1.6, 0.0, 0.0), (0.0, -1.2, 0.0)),
        ("tilt_deg = -90", (1.6, 0.0, 0.0), (0.0, 1.2, 0.0)),
        # first to the left, so that right is +Y, then up: the top is toward +X
        ("pan_deg = 90\ntilt_deg = 90", (0.0, 1.6, 0.0), (1.2, 0.0, 0.0)),
        # a wall that stands on its left edge: the viewer's head is turned clockwise, right is down, the top is right
        ("roll_deg = 90", (0.0, 0.0, -1.6), (1.2, 0.0, 0.0)),
        # a quarter turn about X is tilt 90
        ("wxyz = [0.7071067811865476, 0.7071067811865476, 0.0, 0.0]", (1.6, 0.0, 0.0), (0.0, -1.2, 0.0)),
    ],
    ids=["ceiling", "floor", "ceiling seen from a side", "on its edge", "quaternion"],
)
def test_a_surface_faces_who_looks_straight_at_it(written, keys, right, top):
    file = written(("radius_m = 6.0\n", f"{keys}\n"), ('"arc"', '"flat"'))
    surface = load_show(file).stage.tiles[0].surface
    centre = np.array([0.0, 4.0, 1.6])
    assert surface_points(surface, 64, 24) - centre == pytest.approx(right, abs=1e-12)
    assert surface_points(surface, 32, 0) - centre == pytest.approx(top, abs=1e-12)


def test_a_surface_that_is_only_panned_has_the_bits_it_always_had():
    for pan_rad in np.random.default_rng(3).uniform(-math.pi, math.pi, 200):
        half = math.sqrt(0.5)
        turned = Pose((math.cos(pan_rad / 2), 0.0, 0.0, math.sin(pan_rad / 2)), (1.0, 2.0, 3.0)) @ Pose((half, half, 0.0, 0.0))
        assert facing(pan_rad, (1.0, 2.0, 3.0)) == turned


def test_the_place_is_turned_scaled_and_then_moved(written):
    field_from_stage = load_show(written()).places["door"].field_from_stage
    # 90° to the left takes (1, 0, 0) to (0, 1, 0); times 0.5; plus (1, 2, 3)
    assert field_from_stage.matrix() @ [1, 0, 0, 1] == pytest.approx([1.0, 2.5, 3.0, 1.0])


def test_the_rate_is_exact_and_may_be_given_from_outside(written):
    assert load_show(written(('"24"', '"24000/1001"'))).rate == Fraction(24000, 1001)
    assert load_show(written(('"24"', "25"))).rate == 25
    assert load_show(written(), rate="60").rate == 60


def test_tracking_limits_are_written_in_the_units_of_people(written):
    table = (
        "[tracking]\nhorizon_ms = 80\nlost_ms = 2000\njitter_ms = 5\nslack_mm = 4\nslack_deg = 90\nacceleration_deg_s2 = 180\n"
    )
    limits = load_show(written(more=table)).limits
    assert (limits.horizon_ns, limits.lost_ns, limits.jitter_s, limits.slack_m) == (80_000_000, 2_000_000_000, 0.005, 0.004)
    assert (limits.slack_rad, limits.acceleration_rad_s2) == pytest.approx((math.pi / 2, math.pi))
    assert limits.acceleration_m_s2 == Limits().acceleration_m_s2


def test_a_slow_show_predicts_at_least_as_far_as_its_frames_lead(written):
    assert load_show(written()).limits.horizon_ns == 100_000_000
    assert load_show(written(), rate="5").limits.horizon_ns == 250_000_000  # 1.25 frames of 200 ms


def test_an_osc_map_in_the_show_is_the_one_that_is_used(written):
    table = (
        'map = { messages = [{ address = "/cam", arguments = ["x m", "y m", "z m", "pan deg", "tilt deg"], camera_id = "A" }] }'
    )
    file = written(('uri = "osc+udp://127.0.0.1:9000"', f'uri = "osc+udp://127.0.0.1:9000"\n{table}'))
    assert load_show(file).sources[0].reading.osc_map.messages[0].address == "/cam"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.name)
def test_the_shows_that_come_with_the_project_load(file):
    show = load_show(file)
    assert show.stage.zone.contains(show.stage.eye_m)
    for camera_id, pose in show.initial.items():
        assert show.stage.zone.contains(pose.position_m), camera_id


def test_the_demo_stands_where_its_place_was_baked_for():
    show = load_show(CONFIGS / "demo.toml")
    place, zone = show.places["lund-door"], show.stage.zone
    field_from_stage = place.field_from_stage.matrix()
    assert field_from_stage @ [*zone.centre_m, 1] == pytest.approx([0.06, 0.6, 0.1, 1.0])
    surface = show.stage.surfaces[0]
    x, y, z = zone.centre_m
    assert surface_points(surface, 136, 148) == pytest.approx([x, y + 4.0, z])  # the middle of 272 × 296 pixels


# what is replaced, by what; the key that is named; what must be said of it; the value that is quoted
OSC = "osc+udp://127.0.0.1:9000"
REFUSED = {
    "misspelt key": ("focal_length_mm", "focal_lenght_mm", "camera[0].focal_lenght_mm", "did you mean `focal_length_mm`", 35.0),
    "wrong unit in the key": ("entrance_pupil_mm", "entrance_pupil_m", "camera[0].entrance_pupil_m", "`entrance_pupil_mm`", 80.0),
    "degrees in radians": ("pan_deg", "pan_rad", "place[0].field_from_stage.pan_rad", "`pan_deg`", 90.0),
    "key of nowhere": ('name = "test"', 'name = "test"\nxyzzy = 1', "xyzzy", "one of name, rate, place", 1),
    "misspelt key of the zone": ("min_m", "min", "stage.zone.min", "`min_m`", [-0.5, -0.5, 1.1]),
    "missing key": ('rate = "24"', "", "rate", "to be given", "nothing"),
    "missing key in a list": ("sensor_mm = [36.0, 24.0]", "", "camera[0].sensor_mm", "to be given", "nothing"),
    "text for a number": ("focal_length_mm = 35.0", 'focal_length_mm = "35"', "camera[0].focal_length_mm", "a number", "35"),
    "number for text": ('name = "test"', "name = 7", "name", "text in quotes", 7),
    "fraction for a count": ("resolution_px = [64, 48]", "resolution_px = [64.5, 48]", "stage.surface[0].resolution_px[0]", "whole", 64.5),
    "two numbers for a point": ("eye_m = [0.0, 0.0, 1.6]", "eye_m = [0.0, 1.6]", "stage.eye_m", "length 3", [0.0, 1.6]),
    "not a number": ("eye_m = [0.0", "eye_m = [nan", "stage.eye_m[0]", "finite", "nan"),
    "endless": ("focal_length_mm = 35.0", "focal_length_mm = inf", "camera[0].focal_length_mm", "finite", "inf"),
    "focal length in metres": ("focal_length_mm = 35.0", "focal_length_mm = 0.035", "camera[0].focal_length_mm", ">= 1", 0.035),
    "sensor in metres": ("sensor_mm = [36.0", "sensor_mm = [0.036", "camera[0].sensor_mm[0]", ">= 1", 0.036),
    "wall in millimetres": ("size_m = [3.2", "size_m = [3200", "stage.surface[0].size_m[0]", "<= 500", 3200),
    "place in millimetres": ("centre_m = [0.0, 4.0", "centre_m = [0.0, 4000.0", "stage.surface[0].centre_m[1]", "<= 1000", 4000.0),
    "pupil in no camera": ("entrance_pupil_mm = 80.0", "entrance_pupil_mm = 8e4", "camera[0].entrance_pupil_mm", "<= 2000", 80000.0),
    "negative latency": ("latency_ms = 8", "latency_ms = -8", "camera[0].latency_ms", ">= 0", -8),
    "scale of nothing": ("scale = 0.5", "scale = 0.0", "place[0].field_from_stage.scale", "> 0", 0.0),
    "decimal rate": ('rate = "24"', 'rate = "23.976"', "rate", "60000/1001", "23.976"),
    "rate of nothing": ('rate = "24"', 'rate = "0"', "rate", "frames per second", "0"),
    "unknown shape": ('"arc"', '"dome"', "stage.surface[0].shape", '"flat", "arc" or "map"', "dome"),
    "arc without radius": ("radius_m = 6.0", "", "stage.surface[0].radius_m", "metres", None),
    "plane with radius": ('"arc"', '"flat"', "stage.surface[0].radius_m", "no radius", 6.0),
    "more than a turn": ("radius_m = 6.0", "radius_m = 0.5", "stage.surface[0].size_m", "one full turn", 3.2),
    "uneven cut": ("tiles = [4, 2]", "tiles = [5, 2]", "stage.surface[0].tiles", "equal tiles", "64 × 48 px do not divide into 5 × 2 tiles"),
    "zone inside out": ("min_m = [-0.5", "min_m = [0.9", "stage.zone", "min_m below max_m", ((0.9, -0.5, 1.1), (0.5, 0.5, 2.1))),
    "unknown start": ('name = "test"', 'name = "test"\nstart = "gate"', "start", "one of door", "gate"),
    "unknown pixels": ('name = "test"', 'name = "test"\npixel_format = "rgb12"', "pixel_format", "rgb8, rgb10, rgb16", "rgb12"),
    "unknown preset": ("9000", '9000"\npreset = "vcm', "source[0].preset", "ledvolume, vmc, vrchat, loled", "vcm"),
    "preset of another protocol": ('"osc+udp://127.0.0.1:9000"', '"native+zmq://127.0.0.1:9000"\npreset = "vmc"', "source[0]", "only osc", "native+zmq://127.0.0.1:9000"),
    "unknown profile": (OSC, 'freed+udp://:40000"\nprofile = "zcam', "source[0].profile", "raw, z-cam", "zcam"),
    "bad sign in a profile": (
        OSC, 'freed+udp://:40000"\nprofile = { pan_sign = 2 }\ncameras."1" = "A',
        "source[0].profile.pan_sign", "2", {"pan_sign": 2},
    ),
    "bad axes in a profile": (
        OSC, 'psn+udp://236.10.10.10:56565"\nprofile = { axes = "x y" }\ncameras."1" = "A',
        "source[0].profile.axes", "each of x y z once", "x y",
    ),
    "profile of another protocol": (OSC, f'{OSC}"\nprofile = "z-cam', "source[0].profile", "only freed and psn", "z-cam"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "expected", "got"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_literally_is_refused(written, old, new, key, expected, got):
    error = refusal(written((old, new)))
    assert error.key == key
    assert expected in error.expected
    assert error.got == got or str(error.got) == got
    assert str(error.file) in str(error) and key in str(error) and expected in str(error)


def test_a_horizon_shorter_than_the_lead_of_a_frame_is_refused(written):
    error = refusal(written(more="[tracking]\nhorizon_ms = 30\n"))
    assert error.key == "tracking.horizon_ms" and "41.7 ms" in error.expected and error.got == 30


def test_lost_before_held_is_refused(written):
    error = refusal(written(more="[tracking]\nhorizon_ms = 500\nlost_ms = 400\n"))
    assert (error.key, error.got) == ("tracking.lost_ms", 400)


def test_an_osc_map_that_makes_no_sense_is_refused_where_it_stands(written):
    bad = 'map = { messages = [{ address = "/cam", arguments = ["x furlong", "y m", "z m", "pan deg", "tilt deg"] }] }'
    error = refusal(written(('uri = "osc+udp://127.0.0.1:9000"', f'uri = "osc+udp://127.0.0.1:9000"\n{bad}')))
    assert error.key == "source[0].map.messages[0].arguments[0]" and error.got == "x furlong"


def test_a_profile_is_given_by_name_or_written_out(written):
    uri = 'uri = "osc+udp://127.0.0.1:9000"'
    by_name = load_show(written((uri, 'uri = "freed+udp://:40000"\nprofile = "z-cam"'))).sources[0].reading.profile
    assert by_name == PROFILES["z-cam"]
    more = 'profile = { based_on = "z-cam", axes = "y x z", pan_sign = -1 }'
    written_out = load_show(written((uri, f'uri = "freed+udp://:40000"\n{more}'))).sources[0].reading.profile
    assert written_out == msgspec.structs.replace(PROFILES["z-cam"], axes="y x z", pan_sign=-1)


def test_a_show_says_who_measured_it_and_how_well(written):
    wall = '{ by = "ledvolume calibrate 0.2", at = "2026-11-24T10:00:00Z", from = "views.json", views = 12, rms_px = 0.31, sigma_mm = 0.3 }'
    rig = '{ by = "hand", at = 2026-11-25T00:30:00+02:00, tracker_from_camera_sigma_mm = 0.5, tracker_from_camera_sigma_deg = 0.02 }'
    file = written(("radius_m = 6.0", f"radius_m = 6.0\nsolved = {wall}"), ('id = "A"', f'id = "A"\nsolved = {rig}'))
    show = load_show(file)
    solved = show.solved["surface wall"]
    assert (solved.from_file, solved.views, solved.sigma_mm) == ("views.json", 12, 0.3)
    assert solved_words(show) == [
        "surface wall: solved 2026-11-24 10:00 by ledvolume calibrate 0.2 from 12 views: ± 0.3 mm, left over 0.31 px RMS",
        "camera A: solved 2026-11-25 00:30 by hand: tracker_from_camera ± 0.5 mm, tracker_from_camera ± 0.02°",
    ]
    assert load_show(written()).solved == {}


@pytest.mark.parametrize(
    ("solved", "key", "expected"),
    [
        ('{ at = "2026-11-24T10:00:00Z" }', "solved.by", "to be given"),
        ('{ by = "x", at = "yesterday" }', "solved.at", "such as 2026-11-24T10:00:00Z"),
        ('{ by = "x", at = "2026-11-24T10:00:00" }', "solved.at", "with its zone"),
        ('{ by = "x", at = 2026-11-24 }', "solved.at", "with its zone"),
        ('{ by = "x", at = 2026-11-24T10:00:00Z, sigma_mm = -1 }', "solved.sigma_mm", ">= 0"),
        ('{ by = "x", at = 2026-11-24T10:00:00Z, latency_sigma_ms = 1 }', "solved.latency_sigma_ms", "a key of this table"),
    ],
    ids=["by nobody", "no time", "no zone", "a day", "negative", "of a camera"],
)
def test_what_a_show_says_of_its_measuring_is_checked(written, solved, key, expected):
    error = refusal(written(("radius_m = 6.0", f"radius_m = 6.0\nsolved = {solved}")))
    assert error.key == f"stage.surface[0].{key}" and expected in error.expected


def test_two_cameras_of_one_id_are_refused(written):
    second = '[[camera]]\nid = "A"\nsensor_mm = [36.0, 24.0]\nfocal_length_mm = 35.0\n'
    error = refusal(written(more=second))
    assert (error.key, error.got) == ("camera", ["A", "A"])


def test_a_rotation_is_said_in_one_way_only(written):
    error = refusal(written(("pan_deg = 90.0", "pan_deg = 90.0\nwxyz = [1.0, 0.0, 0.0, 0.0]")))
    assert error.key == "place[0].field_from_stage"
    error = refusal(written(("radius_m = 6.0", "radius_m = 6.0\ntilt_deg = 5.0\nwxyz = [1.0, 0.0, 0.0, 0.0]")))
    assert error.key == "stage.surface[0]"
    error = refusal(written(("pan_deg = 90.0", "wxyz = [1.0, 1.0, 0.0, 0.0]")))
    assert error.key == "place[0].field_from_stage.wxyz" and "unit" in error.expected


def test_a_file_that_is_no_toml_and_one_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("name = \n")
    assert "valid TOML" in refusal(tmp_path / "bad.toml").expected
    assert "readable" in refusal(tmp_path / "nowhere.toml").expected
