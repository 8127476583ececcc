"""Lens tables: exact at the stations, smooth between them, still beyond them; whose word counts; files that make no sense."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledvolume.camera import CameraSample, LensReading, Rig, lens_of
from ledvolume.cli import main
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion, Lens, undistorted
from ledvolume.lens_table import LensTable, Station, as_json, checked, load_lens_table, station_at, trouble
from ledvolume.pose import Pose
from ledvolume.schedule import Inputs
from ledvolume.server import refusal_warnings
from ledvolume.timeline import Timeline

EXACT = 1e-12
RIG_LENS = Lens(35.0, (36.0, 24.0), (0.5, 0.6), 0.08, 4.0)


def table(*stations: Station) -> LensTable:
    return checked("lens.json", LensTable(1, stations))


def bent(k1: float) -> Distortion:
    return Distortion((k1,), (0.0, 0.0))


# A zoom as it is measured: each ring has focus stations of its own, the long end fewer, and not in order.
ZOOM = table(
    Station(20.0, 0.0, 0.0, "infinity", 100.0, (0.0, 0.0), bent(2e-4)),
    Station(20.2, 0.0, 0.6, 2.0, 104.0, (0.0, 0.0), bent(1.9e-4)),
    Station(20.8, 0.0, 1.0, 0.8, 110.0, (0.0, 0.0), bent(1.7e-4)),
    Station(80.0, 1.0, 1.0, 1.0, 70.0, (0.2, -0.1), bent(-1e-5)),
    Station(78.0, 1.0, 0.1, "infinity", 60.0, (0.2, -0.1), bent(-2e-5)),
    Station(40.0, 0.5, 0.0, "infinity", 90.0, (0.1, 0.0), bent(1e-4)),
    Station(41.0, 0.5, 0.5, 3.0, 92.0, (0.1, 0.0), bent(9e-5)),
    Station(43.0, 0.5, 1.0, 1.0, 96.0, (0.1, 0.0), bent(8e-5)),
)
PRIME = table(
    Station(50.0, focus_encoder=0.0, focus_distance_m="infinity", entrance_pupil_mm=60.0),
    Station(52.0, focus_encoder=1.0, focus_distance_m=0.5, entrance_pupil_mm=70.0),
)
ONE = table(Station(50.0, distortion=bent(1e-4)))


# ---- the curve


@pytest.mark.parametrize("station", ZOOM.stations, ids=lambda s: f"{s.zoom_encoder} {s.focus_encoder}")
def test_a_station_is_what_was_measured_there(station):
    got = station_at(ZOOM, station.zoom_encoder, station.focus_encoder)
    assert got.focal_length_mm == pytest.approx(station.focal_length_mm, rel=EXACT)
    assert got.focus_distance_m == station.focus_distance_m or got.focus_distance_m == pytest.approx(station.focus_distance_m)
    assert got.entrance_pupil_mm == pytest.approx(station.entrance_pupil_mm, rel=EXACT)
    assert got.projection_offset_mm == pytest.approx(station.projection_offset_mm, abs=EXACT)
    assert got.distortion.radial == pytest.approx(station.distortion.radial, rel=EXACT)


def test_half_way_between_two_stations_is_the_middle_of_what_changes_evenly():
    two = table(
        Station(20.0, 0.0, focus_distance_m="infinity", entrance_pupil_mm=100.0, distortion=bent(2e-4)),
        Station(80.0, 1.0, focus_distance_m=1.0, entrance_pupil_mm=60.0, distortion=Distortion((0.0, 4e-4), (1e-6,), (1.0, 0.0))),
    )
    got = station_at(two, 0.5, None)
    # √(20 · 80) = 40 mm; 0 and 1 dioptres: 2 m
    assert (got.focal_length_mm, got.focus_distance_m, got.entrance_pupil_mm) == pytest.approx((40, 2, 80))
    assert got.distortion.radial == pytest.approx((1e-4, 2e-4)) and got.distortion.tangential == pytest.approx((5e-7, 0))
    assert got.distortion.offset_mm == (0.5, 0.0)


def test_between_two_zooms_the_picture_is_bent_by_something_between_them():
    # counted in units of F, half way (at 77 mm) would be k = (-3e-4·400 + 1e-5·300²)/2 / 77.5² = 6.5e-5: 3 % at the corner,
    # more of a pincushion than the long end's 0.5 %
    ends = (Station(20.0, 0.0, distortion=bent(-3e-4)), Station(300.0, 1.0, distortion=bent(1e-5)))
    corner = [18.0, 12.0]
    lengths = []
    for zoom in np.linspace(0, 1, 21):
        station = station_at(table(*ends), zoom, None)
        lengths.append(
            np.linalg.norm(undistorted(Lens(station.focal_length_mm, (36.0, 24.0), distortion=station.distortion), corner))
        )
    assert np.all(np.diff(lengths) > 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(10, 300)), min_size=2, max_size=9, unique_by=lambda s: round(s[0], 3)))
def test_no_value_leaves_its_two_neighbours(stations):
    ring = table(*(Station(f, focus_encoder=round(at, 3)) for at, f in stations))
    ordered = sorted((round(at, 3), f) for at, f in stations)
    for (a, f_a), (b, f_b) in zip(ordered, ordered[1:]):
        got = [station_at(ring, None, at).focal_length_mm for at in np.linspace(a, b, 9)]
        low, high = min(f_a, f_b) * (1 - 1e-9), max(f_a, f_b) * (1 + 1e-9)
        assert all(low <= f <= high for f in got)
        assert got == sorted(got, reverse=f_a > f_b) or np.ptp(got) < 1e-9


def test_evenly_measured_is_evenly_played():
    # ln F in a straight line over uneven stations: the curve is that line
    ring = table(*(Station(20 * math.exp(at), focus_encoder=at) for at in (0.0, 0.1, 0.35, 0.4, 1.0)))
    for at in np.linspace(0, 1, 41):
        assert station_at(ring, None, at).focal_length_mm == pytest.approx(20 * math.exp(at), rel=1e-12)


def test_the_curve_has_no_corners():
    # the slope on both sides of every station along both rings is the same, to what a step of 1e-6 shows
    step = 1e-6
    for zoom, focus in ((0.5, 0.3), (0.0, 0.6), (0.5, 0.5), (0.5, 0.8)):
        for dz, df in ((step, 0.0), (0.0, step)):
            before, at, after = (
                (
                    math.log(station_at(ZOOM, zoom + k * dz, focus + k * df).focal_length_mm) / step
                    for k in (-1, 0, 1)
                    if 0 <= zoom + k * dz
                )
                if zoom or not dz
                else (0.0, 0.0, 0.0)
            )
            assert after - at == pytest.approx(at - before, abs=1e-3)


def test_a_lens_that_is_smooth_is_met_between_its_stations():
    # a made-up 19 to 90 mm with 1 % of breathing, measured at six zooms and five focuses. 0.2 %: 1 pixel in 500
    def focal_mm(z, f):
        return 19 * (90 / 19) ** (0.7 * z + 0.3 * z * z) * (1 + 0.01 * f * f)

    zooms, focuses = np.linspace(0, 1, 6).tolist(), np.linspace(0, 1, 5).tolist()
    lattice = table(*(Station(focal_mm(z, f), z, f) for z in zooms for f in focuses))
    for z, f in np.random.default_rng(3).uniform(size=(200, 2)):
        assert station_at(lattice, z, f).focal_length_mm == pytest.approx(focal_mm(z, f), rel=2e-3)


# ---- the ends, and what is not known


def test_beyond_the_ends_the_lens_stays_what_it_was_there_and_it_is_said():
    assert station_at(ZOOM, 1.0, 0.0).focal_length_mm == pytest.approx(78)  # this ring begins at 0.1
    assert trouble(ZOOM, 1.0, 0.0) == "beyond-table" and trouble(ZOOM, 1.0, 0.099) == trouble(ZOOM, 0.3, 0.7) == ""
    inner = table(Station(20.0, 0.2), Station(80.0, 0.8))
    assert station_at(inner, 0.0, None).focal_length_mm == pytest.approx(20)
    assert station_at(inner, 1.0, None).focal_length_mm == pytest.approx(80)
    assert [trouble(inner, zoom, None) for zoom in (0.0, 0.199, 0.5, 0.9)] == ["beyond-table", "", "", "beyond-table"]


def test_a_table_wants_the_encoders_along_which_it_was_measured_and_no_others():
    cases = [  # table, zoom, focus; what is wrong
        (ZOOM, 0.5, 0.5, ""), (ZOOM, None, 0.5, "no-zoom-encoder"), (ZOOM, 0.5, None, "no-focus-encoder"),
        (PRIME, None, 0.5, ""), (PRIME, 0.7, 0.5, ""), (PRIME, 0.5, None, "no-focus-encoder"),
        (ONE, None, None, ""), (ONE, 0.9, 0.9, ""),
    ]  # fmt: skip
    for lens_table, zoom, focus, word in cases:
        assert trouble(lens_table, zoom, focus) == word
        assert (station_at(lens_table, zoom, focus) is None) == word.startswith("no-")
    assert station_at(PRIME, None, 0.5).focus_distance_m == pytest.approx(1)  # 0 and 2 dioptres


# ---- whose word counts


def test_the_table_wins_in_what_it_holds_then_the_tracker_then_the_show():
    rig = Rig("A", RIG_LENS, lens_table=PRIME)
    told = LensReading(48.0, 9.0, entrance_pupil_m=0.2, projection_offset_mm=(0.1, 0.2), distortion=bent(1e-4))
    without_encoders = lens_of(rig, told)
    assert without_encoders == Lens(48.0, (36.0, 24.0), (0.1, 0.2), 0.2, 9.0, bent(1e-4))
    got = lens_of(rig, msgspec.structs.replace(told, focus_encoder=1.0))
    assert (got.focal_length_mm, got.focus_distance_m, got.entrance_pupil_m) == pytest.approx((52, 0.5, 0.07))
    assert (got.projection_offset_mm, got.distortion) == ((0.1, 0.2), bent(1e-4))  # of these the table says nothing
    got = lens_of(rig, LensReading(focus_encoder=0.0))
    assert got.projection_offset_mm == (0.5, 0.6) and got.focus_distance_m == math.inf
    assert lens_of(rig, LensReading()) == RIG_LENS


def test_one_station_gives_a_prime_its_distortion_without_any_encoder():
    assert lens_of(Rig("A", RIG_LENS, lens_table=ONE), LensReading()).distortion.radial == (1e-4,)


def test_encoders_are_interpolated_before_the_table_is_asked():
    timeline = Timeline(Rig("A", RIG_LENS, lens_table=PRIME))
    for at_ns, encoder in ((0, 0.5), (10_000_000, 0.6)):
        timeline.add(CameraSample("A", at_ns, at_ns, Pose(), LensReading(focus_encoder=encoder)))
    assert timeline.camera_at(5_000_000).lens.focus_distance_m == pytest.approx(1 / 1.1)  # 2 dioptres · 0.55
    assert not timeline.lens_flags


def test_the_entrance_pupil_of_the_table_moves_the_eye():
    timeline = Timeline(Rig("A", RIG_LENS, lens_table=PRIME))
    for at_ns in (0, 10_000_000):
        timeline.add(CameraSample("A", at_ns, at_ns, Pose(), LensReading(focus_encoder=1.0)))
    assert timeline.camera_at(0).stage_from_camera.position_m == pytest.approx((0, 0.07, 0))


def test_readings_that_the_table_does_not_answer_are_counted_and_told_once():
    timeline = Timeline(Rig("A", RIG_LENS, lens_table=ZOOM))
    readings = [(0.5, 0.5), (0.5, None), (None, None), (1.0, 0.0)]
    for i, (zoom, focus) in enumerate(readings):
        reading = LensReading(35.0, zoom_encoder=zoom, focus_encoder=focus)
        timeline.add(CameraSample("A", i * 10_000_000, i * 10_000_000, Pose(), reading))
    assert timeline.lens_flags == {"no-focus-encoder": 1, "no-zoom-encoder": 1, "beyond-table": 1}
    inputs, told = Inputs([], {"A": timeline}), set()
    inputs.timelines["A"].rejects.clear()
    assert len(refusal_warnings(inputs, told)) == 3 and refusal_warnings(inputs, told) == []


# ---- the file


def test_a_table_is_written_and_read(tmp_path):
    file = tmp_path / "lens.json"
    file.write_bytes(as_json(ZOOM))
    assert load_lens_table(file) == ZOOM
    assert json.loads(file.read_text())["stations"][0]["focus_distance_m"] == "infinity"


STATION = {"zoom_encoder": 0.5, "focus_encoder": 0.5, "focal_length_mm": 40.0}


def written(*stations: dict, **instead) -> dict:
    return {"ledvolume_lens_table": 1, "stations": [STATION, *stations]} | instead


REFUSED = {
    "no JSON": ("{", "file", "valid JSON"),
    "another version": (written(ledvolume_lens_table=2), "ledvolume_lens_table", ""),
    "no version": ({"stations": [STATION]}, "ledvolume_lens_table", "to be given"),
    "no station": (written(stations=[]), "stations", "length >= 1"),
    "a misspelt key": (written({"zoom": 0.5, "focal_length_mm": 40.0}), "stations[1].zoom", "zoom_encoder"),
    "no focal length": (written({"zoom_encoder": 0.6}), "stations[1].focal_length_mm", "to be given"),
    "counts for 0 to 1": (written({**STATION, "zoom_encoder": 40_000}), "stations[1].zoom_encoder", "<= 1"),
    "metres for mm": (written({**STATION, "focal_length_mm": 0.04}), "stations[1].focal_length_mm", ">= 1"),
    "one place twice": (written({**STATION, "focal_length_mm": 41.0}), "stations[1]", "stations[0] has the same"),
    "endless": ('{"ledvolume_lens_table": 1, "stations": [{"focal_length_mm": 1e999}]}', None, ""),
    "a pupil at one station only": (
        written({**STATION, "zoom_encoder": 0.6, "entrance_pupil_mm": 80}), "stations[1].entrance_pupil_mm", "at every station",
    ),
    "a misspelt model": (
        written(stations=[{**STATION, "distortion": {"model": "Brown-Conrady"}}]), "stations[0].distortion.model", "",
    ),
    "a misspelt coefficient": (
        written(stations=[{**STATION, "distortion": {"k1": 1e-4}}]), "stations[0].distortion.k1", "radial",
    ),
    "two models": (
        written(
            stations=[
                {**STATION, "distortion": {"radial": [1e-4]}},
                {**STATION, "zoom_encoder": 0.6, "distortion": {"radial": [1e-4], "model": "Brown-Conrady U-D"}},
            ]
        ), "stations[1].distortion.model", "one model in a table, Brown-Conrady D-U",
    ),
    "three tangential ones": (
        written(stations=[{**STATION, "distortion": {"tangential": [0, 0, 0]}}]), "stations[0].distortion", "2 tangential",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "key", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_a_table_that_makes_no_sense_is_refused(content, key, expected, tmp_path):
    file = tmp_path / "lens.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError) as refused:
        load_lens_table(file)
    assert refused.value.file == str(file)
    assert key is None or refused.value.key == key
    assert expected in refused.value.expected


# ---- the show

SHOW = """
name = "test"
rate = "24"
[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
[[stage.surface]]
name = "wall"
shape = "flat"
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [64, 48]
[[camera]]
id = "A"
sensor_mm = [36.0, 24.0]
focal_length_mm = 35.0
lens_table = "lenses/a.json"
[[place]]
name = "door"
file = "door.safetensors"
field_from_stage = {}
"""


def test_a_show_names_the_table_of_a_camera(tmp_path):
    show, file = tmp_path / "show.toml", tmp_path / "lenses" / "a.json"
    show.write_text(SHOW)
    with pytest.raises(ConfigError) as refused:
        load_show(show)
    assert (refused.value.key, refused.value.got) == ("camera[0].lens_table", "lenses/a.json")
    file.parent.mkdir()
    file.write_bytes(as_json(ZOOM))
    assert load_show(show).stage.rigs[0].lens_table == ZOOM
    # r (1 - 0.01 r²) folds at 5.8 mm: on no part of a full-frame sensor's border does it say anything
    file.write_bytes(as_json(table(Station(20.0, 0.0, distortion=bent(1e-4)), Station(40.0, 1.0, distortion=bent(-0.01)))))
    with pytest.raises(ConfigError) as refused:
        load_show(show)
    assert refused.value.key == "camera[0].lens_table" and "stations[1]" in refused.value.got


# ---- the command


def test_the_command_shows_stations_and_draws_the_picture(tmp_path, capsys):
    file, picture = tmp_path / "lens.json", tmp_path / "out" / "lens.png"
    file.write_bytes(as_json(ZOOM))
    words = ["lens", str(file), "--sensor", "36,24", "--at", "0.5,0.5", "--plot", str(picture)]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "lens.json: 8 stations, 3 zooms"
    # 2e-4 · 468 mm² in the corner, 21.633 mm from the middle
    assert "20.000 mm" in said[1] and "overscan 1.0936" in said[1] and "corner  2.025 mm" in said[1]
    assert said[-2].split() == said[5].split() and "41.000 mm" in said[-2]  # the station at 0.5, 0.5
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_names_a_polynomial_that_folds(tmp_path, capsys):
    file = tmp_path / "lens.json"
    file.write_bytes(as_json(table(Station(20.0, distortion=bent(-0.01)))))
    assert main(["lens", str(file), "--sensor", "36,24"]) == 0
    assert "FOLDS INSIDE THE SENSOR" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, told",
    [
        (["--sensor", "36x24"], "expected two numbers with a comma"),
        (["--sensor", "0,24"], "--sensor: expected width,height in mm"),
        (["--at", "0.5,2"], "--at: expected two encoders"),
        (["--plot", "PNG"], "--sensor: expected the sensor's size"),
    ],
)
def test_a_wrong_word_is_named(words, told, tmp_path, capsys):
    file = tmp_path / "lens.json"
    file.write_bytes(as_json(ONE))
    words = [word.replace("PNG", str(tmp_path / "a.png")) for word in words]
    try:
        status = main(["lens", str(file), *words])
    except SystemExit as end:
        status = end.code
    assert status == 2 and told in capsys.readouterr().err
