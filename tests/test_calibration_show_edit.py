"""What was calibrated is written into the show: it loads, it says the same, and all else is as people wrote it."""

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.show_edit import calibrated, save
from ledvolume.camera import Rig
from ledvolume.config import Show, load_show, read_show
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion, Lens
from ledvolume.lens_table import LensTable, Station
from ledvolume.pose import Pose, canonical
from ledvolume.show_file import SolvedCameraTable, SolvedSurfaceTable
from ledvolume.stage import Arc, Flat, PositionMap, Surface

VALUES_TOLERANCE = 1e-9  # metres, millimetres, and the components of unit quaternions

SHOW = """
# Stage 2. Ask Ana before you touch this.
name = "Stage 2"
rate = "24"

[stage]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
eye_m = [0.0, 0.0, 1.6]

[[stage.surface]]
shape = "arc"                # as the builders say
radius_m = 6.0               # +: hollow
name = "main"
tiles = [4, 2]
resolution_px = [64, 48]
centre_m = [0.0, 4.0, 1.6]   # taped on the floor
size_m = [3.2, 2.4]

# The ceiling hangs on motors.
[[stage.surface]]
name = "ceiling"
shape = "flat"
centre_m = [0.0, 2.0, 4.0]
tilt_deg = 90
size_m = [3.0, 2.0]
resolution_px = [60, 40]

# The first one is on air.
[[camera]]
id = "A"
focal_length_mm = 35         # nominal
sensor_mm = [28.25, 18.17]
CAMERA

[[place]]
name = "door"
file = "scenes/door.safetensors"
[place.field_from_stage]
scale = 0.5
"""

POSES = {
    "none": "",
    "on one line": "stage_from_world = { pan_deg = 90.0 } # registered in May\ntracker_from_camera = { position_m = [0, 0.06, -0.18] }",
    "tables": "[camera.stage_from_world]\nwxyz = [0.7071067811865476, 0.0, 0.0, 0.7071067811865476]  # from the vendor\n\n"
    "[camera.tracker_from_camera]\nposition_m = [0.0, 0.06, -0.18]\n",
    "dotted": "stage_from_world.pan_deg = 90.0\ntracker_from_camera.position_m = [0, 0.06, -0.18]",
}

each_layout = pytest.mark.parametrize("poses", POSES.values(), ids=POSES)


def read(text: str, files: dict | None = None) -> Show:
    return read_show(Path("/shows/show.toml"), text.encode(), files or {})


def show_of(poses: str = "") -> Show:
    return read(SHOW.replace("CAMERA", poses))


def numbers_of(value) -> list[float]:
    """Every number of a value, in order."""
    if isinstance(value, msgspec.Struct):
        return [number for name in value.__struct_fields__ for number in numbers_of(getattr(value, name))]
    if isinstance(value, tuple | list):
        return [number for inner in value for number in numbers_of(inner)]
    return [float(value)] if isinstance(value, int | float) else []


def assert_same(found, wanted):
    assert numbers_of(found) == pytest.approx(numbers_of(wanted), abs=VALUES_TOLERANCE, rel=0)


QUARTER = canonical((0.9, 0.1, -0.2, 0.37))
FOUND = Rig(
    "A",
    Lens(34.871234567891, (28.25, 18.17), (0.0123456789, -0.05), 0.1234567891),
    Pose(canonical((0.7, 0.02, -0.01, 0.71)), (0.0123456789, -1.5, 0.25)),
    Pose(canonical((1.0, 0.002, -0.001, 0.003)), (0.001, 0.0612, -0.1795)),
    8_123_456,
)
MAIN = Surface("main", Pose(QUARTER, (0.012345678901, 4.1, 1.6)), (3.21, 2.41), (64, 48), Arc(5.987654321))
CORNERS = np.random.default_rng(1).normal(scale=0.002, size=(2, 4, 2, 2, 3))
for row, column, down, across in np.ndindex(2, 4, 2, 2):
    CORNERS[row, column, down, across] += (-1.6 + 0.8 * (column + across), 1.2 - 1.2 * (row + down), 0.0)
MAP = msgspec.structs.replace(MAIN, shape=PositionMap.of(CORNERS))


@each_layout
def test_a_calibrated_show_says_what_was_found(poses):
    ceiling = Surface("ceiling", Pose(QUARTER, (0.1, 2.0, 4.02)), (3.0, 2.0), (60, 40), Flat())
    edited = calibrated(show_of(poses), [MAIN, ceiling], [FOUND])
    stage = read(edited.toml).stage
    for found, wanted in zip((*stage.surfaces, *stage.rigs), (MAIN, ceiling, FOUND)):
        assert_same(found, wanted)
    assert edited.files == {} and type(stage.surfaces[0].shape) is Arc


@each_layout
def test_only_what_changed_is_another_line(poses):
    before = SHOW.replace("CAMERA", poses)
    moved = msgspec.structs.replace(
        show_of().stage.surfaces[0],
        stage_from_surface=Pose(show_of().stage.surfaces[0].stage_from_surface.wxyz, (0.01, 4.0, 1.6)),
    )
    rig = show_of(poses).stage.rigs[0]
    rig = msgspec.structs.replace(rig, lens=msgspec.structs.replace(rig.lens, focal_length_mm=34.9))
    wanted = before.replace("centre_m = [0.0, 4.0, 1.6]   # taped", "centre_m = [0.01, 4.0, 1.6]   # taped")
    wanted = wanted.replace("focal_length_mm = 35         # nominal", "focal_length_mm = 34.9         # nominal")
    assert calibrated(show_of(poses), [moved], [rig]).toml == wanted


@each_layout
def test_what_is_as_it_was_stays_as_it_is_written(poses):
    show = show_of(poses)
    assert calibrated(show, show.stage.surfaces, show.stage.rigs).toml == SHOW.replace("CAMERA", poses)
    edited = calibrated(show, [MAP], [FOUND])
    again = read(edited.toml, edited.files)
    assert calibrated(again, again.stage.surfaces, again.stage.rigs) == msgspec.structs.replace(edited, files={})


@each_layout
def test_comments_stay_where_they_were(poses):
    before = SHOW.replace("CAMERA", poses)
    after = calibrated(show_of(poses), [MAP], [FOUND]).toml
    gone = {"hollow", "vendor"}  # of keys that are no more
    comments = [c for c in re.findall(r"#.*", before) if not any(word in c for word in gone)]
    assert [c for c in re.findall(r"#.*", after) if not any(word in c for word in gone)] == comments
    assert (
        after.index("# The ceiling") > after.index('name = "main"')
        and "\n# The ceiling hangs on motors.\n[[stage.surface]]" in after
    )
    assert "\n\n[[place]]" in after


SHAPES = {"flat": Flat(), "arc": Arc(6.5), "bulging": Arc(-7.0), "map": PositionMap.of(CORNERS)}


@pytest.mark.parametrize("before", SHAPES)
@pytest.mark.parametrize("after", SHAPES)
def test_a_wall_may_turn_out_to_have_another_shape(before, after):
    first = calibrated(show_of(), [msgspec.structs.replace(MAIN, shape=SHAPES[before])])
    show = read(first.toml, first.files)
    then = calibrated(show, [msgspec.structs.replace(MAIN, shape=SHAPES[after])])
    assert read(then.toml, show.files | then.files).stage.surfaces[0].shape == SHAPES[after]


def test_a_map_becomes_a_file_beside_the_show(tmp_path):
    file = tmp_path / "show.toml"
    file.write_text(SHOW.replace("CAMERA", ""))
    save(calibrated(load_show(file), [MAP]), file)
    assert load_show(file).stage.surfaces[0].shape == MAP.shape  # to the last bit: it is not rounded
    other = msgspec.structs.replace(MAP, shape=PositionMap.of(CORNERS + 0.001))
    save(calibrated(load_show(file), [other]), file)
    assert load_show(file).stage.surfaces[0].shape == other.shape
    assert len(list(tmp_path.glob("main-*.wall.safetensors"))) == 2  # the first one is still there


def test_a_lens_that_bends_becomes_a_lens_table():
    lens = msgspec.structs.replace(FOUND.lens, distortion=Distortion((-2.1e-4, 0.0, 1.5e-7), (1e-6, 0.0)))
    edited = calibrated(show_of(), rigs=[msgspec.structs.replace(FOUND, lens=lens)])
    rig = read(edited.toml, edited.files).stage.rigs[0]
    station = rig.lens_table.stations[0]
    assert station.distortion == lens.distortion
    assert (station.focal_length_mm, station.projection_offset_mm) == (lens.focal_length_mm, lens.projection_offset_mm)
    assert station.entrance_pupil_mm == pytest.approx(123.4567891, abs=1e-9)
    assert_same(rig.lens, FOUND.lens)


def test_a_lens_table_is_written_and_taken_away_again():
    table = LensTable(1, (Station(20.0, 0.0, 0.0), Station(60.0, 1.0, 0.0)))
    edited = calibrated(show_of(), rigs=[msgspec.structs.replace(FOUND, lens_table=table)])
    show = read(edited.toml, edited.files)
    assert show.stage.rigs[0].lens_table == table
    assert "lens_table" not in calibrated(show, rigs=[FOUND]).toml


AT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def test_who_solved_it_is_written_and_what_was_not_solved_again_keeps_its_sigma():
    wall = SolvedSurfaceTable(by="ledvolume calibrate 0.2", at=AT, from_file="views.json", views=12, rms_px=0.31, sigma_mm=0.3)
    rig = SolvedCameraTable(by="ledvolume calibrate 0.2", at=AT, views=12, tracker_from_camera_sigma_mm=0.4)
    edited = calibrated(show_of(), solved={"surface main": wall, "camera A": rig})
    assert 'at = "2026-11-24T10:00:00Z", from = "views.json", views = 12' in edited.toml
    show = read(edited.toml)
    assert show.solved == {"surface main": wall, "camera A": rig}
    latency = SolvedCameraTable(by="ledvolume calibrate latency", at=AT, latency_sigma_ms=0.8)
    then = read(calibrated(show, solved={"camera A": latency}).toml).solved["camera A"]
    assert then == msgspec.structs.replace(latency, tracker_from_camera_sigma_mm=0.4)


def test_a_show_for_another_folder_finds_its_files(tmp_path):
    shows, session = tmp_path / "shows", tmp_path / "calibrations" / "may"
    (shows / "lenses").mkdir(parents=True)
    session.mkdir(parents=True)
    (shows / "lenses" / "a.json").write_text('{"ledvolume_lens_table": 1, "stations": [{"focal_length_mm": 20.0}]}')
    (shows / "show.toml").write_text(SHOW.replace("CAMERA", 'lens_table = "lenses/a.json"'))
    show = load_show(shows / "show.toml")
    save(calibrated(show, [MAP], folder=session), session / "calibrated.toml")
    moved = load_show(session / "calibrated.toml")
    assert moved.places["door"].file.resolve() == shows / "scenes" / "door.safetensors"
    assert moved.stage.rigs == show.stage.rigs and moved.stage.surfaces[0].shape == MAP.shape


def test_line_ends_stay_as_they_are():
    text = SHOW.replace("CAMERA", "").replace("\n", "\r\n")
    after = calibrated(read(text), [MAIN], [FOUND]).toml
    assert after.count("\n") == after.count("\r\n")


@pytest.mark.parametrize(
    ("surfaces", "rigs", "solved", "said"),
    [
        ([msgspec.structs.replace(MAIN, name="left")], [], {}, "surface main, surface ceiling, camera A"),
        ([], [msgspec.structs.replace(FOUND, camera_id="B")], {}, "camera A"),
        ([], [], {"surface left": SolvedSurfaceTable(by="x", at=AT)}, "surface main"),
        ([msgspec.structs.replace(MAIN, resolution_px=(64, 64))], [], {}, "(64, 48)"),
        ([msgspec.structs.replace(MAIN, size_m=(3200.0, 2400.0))], [], {}, "<= 500"),
        ([msgspec.structs.replace(MAP, shape=PositionMap.of(CORNERS[:, :3]))], [], {}, "divide 64 × 48 px"),
        ([msgspec.structs.replace(MAP, shape=PositionMap.of(CORNERS * np.nan))], [], {}, "finite"),
    ],
    ids=["another wall", "another camera", "by another", "other pixels", "millimetres", "other cells", "not a number"],
)
def test_what_no_show_can_say_is_refused(surfaces, rigs, solved, said):
    with pytest.raises(ConfigError) as refused:
        calibrated(show_of(), surfaces, rigs, solved)
    assert said in refused.value.expected


component = st.floats(-1, 1)
rotations = st.tuples(component, component, component, component).filter(lambda q: math.hypot(*q) > 0.1).map(canonical)
places = st.tuples(*[st.floats(-20, 20)] * 3)


@settings(max_examples=60, deadline=None)
@given(rotations, places, rotations, places)
def test_any_pose_comes_back(surface_wxyz, surface_m, rig_wxyz, rig_m):
    surface = msgspec.structs.replace(MAIN, stage_from_surface=Pose(surface_wxyz, surface_m))
    rig = msgspec.structs.replace(FOUND, stage_from_world=Pose(rig_wxyz, rig_m), tracker_from_camera=Pose(surface_wxyz, rig_m))
    stage = read(calibrated(show_of(), [surface], [rig]).toml).stage
    for found, wanted in (
        (stage.surfaces[0].stage_from_surface, surface.stage_from_surface),
        (stage.rigs[0].stage_from_world, rig.stage_from_world),
        (stage.rigs[0].tracker_from_camera, rig.tracker_from_camera),
    ):
        assert np.abs(found.matrix() - wanted.matrix()).max() < VALUES_TOLERANCE
