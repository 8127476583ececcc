"""The safe camera zone: photographs' cameras from files, support of an eye by hand, the map beside the scene, the watch."""

import json
import math

import cv2
import msgspec
import numpy as np
import pytest
from scenes import plane_scene

from ledvolume import server
from ledvolume.camera import Camera, Lens
from ledvolume.cli import main
from ledvolume.config import load_show
from ledvolume.errors import ConfigError, SceneError
from ledvolume.frame import FrameRequest
from ledvolume.pose import Pose, Similarity
from ledvolume.scenes import bricks, safe_zone
from ledvolume.scenes.photographs import Photograph, cameras_of_run, in_picture, read_photographs
from ledvolume.scenes.safe_zone import ZoneMap, ZoneWatch, map_beside, safe_box, support
from ledvolume.scenes.support import Seen, all_around, at_wall, point_support, support_of
from ledvolume.stage import Box

LENS = {"w": 200, "h": 100, "fl_x": 100.0, "fl_y": 100.0, "cx": 100.0, "cy": 50.0}
LOOKS_ALONG_Y = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # columns: right +x, up +z, back -y


def photograph(centre, rotation=LOOKS_ALONG_Y, **bends) -> Photograph:
    return Photograph("p", "perspective", rotation, np.array(centre, float), (200, 100), (100, 100), (100, 50), **bends)


def transforms(path, matrices, **keys):
    path.write_text(
        json.dumps(LENS | keys | {"frames": [{"file_path": f"{i}.png", "transform_matrix": m} for i, m in enumerate(matrices)]})
    )
    return path


def pose(rotation, centre) -> list:
    return [*(np.column_stack([rotation, centre]).tolist()), [0, 0, 0, 1]]


def test_a_point_is_in_the_picture_up_to_its_border():
    """100 px a unit of tangent, 100 px to the right of the middle and 50 above it: tangents of 1 and 0.5."""
    looking = photograph((0, 0, 0))
    points = np.array([(0.99, 1, 0), (1.01, 1, 0), (0, 1, 0.49), (0, 1, 0.51), (0, -1, 0), (0, 0, 0)], float)
    assert in_picture(looking, points).tolist() == [True, False, True, False, False, False]


BENDS = {
    "perspective": ((-0.12, 0.03, -0.002, 0.0), (0.004, -0.003)),
    "fisheye": ((0.05, -0.01, 0.002, -0.0003), (0.0, 0.0)),
}


@pytest.mark.parametrize("kind", BENDS)
def test_bent_pictures_end_where_opencv_ends_them(kind):
    radial, tangential = BENDS[kind]
    camera = Photograph("p", kind, np.eye(3), np.zeros(3), (200, 100), (90, 95), (97, 52), radial, tangential)
    rng = np.random.default_rng(5)
    points = np.column_stack([rng.uniform(-1.6, 1.6, (4000, 2)), np.full(4000, -1.0)])
    ours = points * (1, -1, -1)  # OpenCV: y down, z ahead
    matrix = np.array([[90.0, 0, 97], [0, 95, 52], [0, 0, 1]])
    if kind == "fisheye":
        pixels = cv2.fisheye.projectPoints(ours[:, None], np.zeros(3), np.zeros(3), matrix, np.array(radial))[0][:, 0]
    else:
        bends = np.array([*radial[:2], *tangential, radial[2]])
        pixels = cv2.projectPoints(ours, np.zeros(3), np.zeros(3), matrix, bends)[0][:, 0]
    expected = ((pixels >= 0) & (pixels <= (200, 100))).all(-1)
    assert 0.1 < expected.mean() < 0.9
    assert (in_picture(camera, points) == expected).all()


def test_a_lens_model_is_not_believed_where_it_folds():
    """r - r³ has its highest at r = 1/√3 = 0.577; a point at 0.95 would come to lie at 0.093, well inside the picture."""
    folding = photograph((0, 0, 0), radial=(-1.0, 0.0, 0.0, 0.0))
    assert in_picture(folding, np.array([(0.5, 1, 0), (0.95, 1, 0)])).tolist() == [True, False]


def test_photographs_lie_in_the_field_as_nerfstudio_puts_them(tmp_path):
    """nerfstudio: field = s · (T · p_file), and it writes down T · applied_transform and s · applied_scale. Here the file's
    coordinates are x, z, -y of the original ones, half as large; written are a step of (1, 0, 0) without a turn, and 2 = 4 · 0.5.
    So (0.5, 1, 1.5), turned back, is at 4 · ((0.5, 1, 1.5) + (1, 0, 0)) = (6, 4, 6)."""
    applied = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    file = transforms(
        tmp_path / "transforms.json", [pose(applied @ LOOKS_ALONG_Y, 0.5 * applied @ (1, 2, 3))],
        applied_transform=np.column_stack([applied, np.zeros(3)]).tolist(), applied_scale=0.5,
    )  # fmt: skip
    (found,) = read_photographs(file, Similarity(Pose(position_m=(2.0, 0.0, 0.0)), 2.0))  # 2 · (p + (1, 0, 0))
    assert found.centre == pytest.approx((6, 4, 6))
    assert found.rotation == pytest.approx(LOOKS_ALONG_Y)
    assert found.pixel_rad == pytest.approx(0.01)


def test_only_photographs_that_were_trained_on_count(tmp_path):
    file = transforms(
        tmp_path / "t.json", [pose(LOOKS_ALONG_Y, (x, 0, 0)) for x in (0, 1, 2)], train_filenames=["0.png", "2.png"]
    )
    assert [p.centre[0] for p in read_photographs(file, Similarity())] == [0, 2]


GOOD = pose(LOOKS_ALONG_Y, (0, 0, 0))
WRONG_FILES = {
    "not json": "{",
    "no frames": json.dumps(LENS | {"frames": []}),
    "no pose": json.dumps(LENS | {"frames": [{"file_path": "a"}]}),
    "a list": "[1]",
    "deep": "[" * 100_000,
    "no focal length": json.dumps({"w": 4, "h": 4, "frames": [{"transform_matrix": GOOD}]}),
    "no width": json.dumps({"fl_x": 4, "frames": [{"transform_matrix": GOOD}]}),
    "a focal length of nothing": json.dumps(LENS | {"fl_x": 0, "frames": [{"transform_matrix": GOOD}]}),
    "a scaled pose": json.dumps(LENS | {"frames": [{"transform_matrix": pose(2 * LOOKS_ALONG_Y, (0, 0, 0))}]}),
    "a mirrored pose": json.dumps(LENS | {"frames": [{"transform_matrix": pose(-LOOKS_ALONG_Y, (0, 0, 0))}]}),
    "a short pose": json.dumps(LENS | {"frames": [{"transform_matrix": GOOD[:2]}]}),
    "an odd row": json.dumps(LENS | {"frames": [{"transform_matrix": [[1, 0], *GOOD[1:]]}]}),
    "an infinite pose": json.dumps(LENS | {"frames": [{"transform_matrix": GOOD}]}).replace("[1.0, 0.0, 0.0, 0.0]", "[1.0, 0.0, 0.0, 1e999]", 1),
    "an unknown lens": json.dumps(LENS | {"camera_model": "THIN_PRISM", "frames": [{"transform_matrix": GOOD}]}),
    "a scale of nothing": json.dumps(LENS | {"applied_scale": 0, "frames": [{"transform_matrix": GOOD}]}),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_a_wrong_file_of_cameras_is_refused_with_its_name(text, tmp_path):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(ConfigError, match="transforms.json"):
        read_photographs(tmp_path / "transforms.json", Similarity())


def test_the_data_folder_of_a_run_is_found_where_it_is_still_there(tmp_path):
    config = {"data": ["data", "gone"], "pipeline": {"datamanager": {"data": ["/", *tmp_path.parts[1:]]}}}
    assert cameras_of_run(config) is None
    transforms(tmp_path / "transforms.json", [GOOD])
    assert cameras_of_run(config) == tmp_path / "transforms.json"
    assert cameras_of_run({"data": 3, "pipeline": []}) is None


PLANE_M = 1.6


def plane(origins, directions, spreads):
    """Distances to a wall at y = 1.6 that has no end; -1 for rays that go away from it."""
    ahead = directions[:, 1] > 0
    return np.where(ahead, (PLANE_M - origins[:, 1]) / np.where(ahead, directions[:, 1], 1), -1)


def one_ray(spread: float = 0.05) -> Seen:
    """From the origin straight at the wall; the footprint of its LED is 2 · 0.05 · 1.6 = 0.16 wide there."""
    return Seen(np.zeros((1, 3)), np.array([(0.0, 1.0, 0.0)]), np.array([spread]), np.array([PLANE_M]))


def aside(angle_deg: float) -> Photograph:
    """On the line y = 0, seeing the middle of the wall from so many degrees beside the eye; its picture holds ± 45°."""
    return photograph((PLANE_M * math.tan(math.radians(angle_deg)), 0, 0))


@pytest.mark.parametrize(
    ("angles_deg", "expected"),
    [
        ((0, 0), 1.0),
        ((0,), 0.5),  # one photograph cannot say how far away a thing is
        ((15, 15), 0.5),  # 1 - 15/30
        ((-12, 6, 20), (0.6 + 0.8) / 2),  # the best two
        ((30, 35), 0.0),
    ],
    ids=str,
)
def test_support_of_a_point_is_how_near_its_two_best_photographs_looked_from(angles_deg, expected):
    found = point_support(one_ray(), [aside(angle) for angle in angles_deg], plane, 1e5)
    assert found == pytest.approx([expected], abs=1e-6)


def test_a_photograph_that_is_too_coarse_for_the_wall_supports_less():
    """LED footprint 2 · 0.0025 · 1.6 = 0.008; the photograph's pixel is 1/100 rad · 1.6 = 0.016 there: a half."""
    assert point_support(one_ray(0.0025), [aside(0)] * 2, plane, 1e5) == pytest.approx([0.5])


def test_what_a_photograph_could_not_see_it_does_not_support():
    """A post at y = 0.8, where the ray from 15° aside passes at x = 0.8 tan 15° = 0.214, hides the point from there alone."""

    def with_post(origins, directions, spreads):
        to_post = 0.8 / np.maximum(directions[:, 1], 1e-9)
        x = origins[:, 0] + directions[:, 0] * to_post
        return np.where(np.abs(x - 0.214) < 0.05, to_post, plane(origins, directions, spreads))

    photographs = [aside(15), aside(-18), aside(-24)]  # 0.5, 0.4, 0.2
    assert point_support(one_ray(), photographs, plane, 1e5) == pytest.approx([0.45], abs=1e-6)
    assert point_support(one_ray(), photographs, with_post, 1e5) == pytest.approx([0.3], abs=1e-6)


def test_the_sky_is_supported_by_photographs_of_that_direction_wherever_they_stood():
    sky = Seen(np.zeros((1, 3)), np.array([(0.0, -1.0, 0.0)]), np.array([0.05]), np.array([-1.0]))
    back = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])  # columns: looks along -y
    assert point_support(sky, [photograph((3, 0, 0), back), photograph((-2, 1, 0), back)], plane, 1e6) == pytest.approx(
        [1], abs=1e-4
    )
    assert point_support(sky, [photograph((0, 0, 0)), photograph((0, 0, 0))], plane, 1e6) == [0]


def test_another_photograph_never_takes_support_away():
    rng = np.random.default_rng(2)
    photographs = [photograph((*rng.uniform(-0.8, 0.8, 2), rng.uniform(-0.5, 0.5))) for _ in range(8)]
    eyes = rng.uniform(-0.3, 0.3, (6, 3))
    found = [support_of(eyes, all_around(0.1), photographs[:count], plane, 1e5) for count in range(1, 9)]
    assert (np.diff(found, axis=0) >= -1e-9).all() and found[-1].max() > 0.05


def test_directions_all_around_are_even():
    directions, _ = all_around(0.1, 500)(np.zeros(3))
    assert np.linalg.norm(directions, axis=-1) == pytest.approx(1)
    assert directions.mean(0) == pytest.approx(0, abs=0.01)
    assert directions.T @ directions / 500 == pytest.approx(np.eye(3) / 3, abs=0.01)


def linear_map(**changed) -> ZoneMap:
    """Support 0.1 + 0.2 x + 0.1 y + 0.05 z over (0, 0, 0) … (2, 3, 1) m, 3 × 4 × 2 nodes; the field is half as large, 5 up."""
    x, y, z = np.meshgrid(np.arange(3), np.arange(4), np.arange(2), indexing="ij")
    values = (0.1 + 0.2 * x + 0.1 * y + 0.05 * z).ravel().tolist()
    known = dict(
        version=1, min_m=(0.0, 0.0, 0.0), max_m=(2.0, 3.0, 1.0), nodes=(3, 4, 2), safe_from=0.5, photographs=4,
        field_from_stage=Similarity(Pose(position_m=(0.0, 0.0, 5.0)), 0.5), source_sha256="abc", support=values,
    )  # fmt: skip
    return ZoneMap(**(known | changed))


def test_support_between_nodes_is_linear_and_nothing_is_known_outside():
    zone = linear_map()

    def at(x, y, z):
        return support(zone, np.array((x / 2, y / 2, 5 + z / 2)))

    assert at(0, 0, 0) == pytest.approx(0.1)
    assert at(0.6, 2.3, 0.25) == pytest.approx(0.1 + 0.12 + 0.23 + 0.0125)
    assert at(2, 3, 1) == pytest.approx(0.85)
    assert at(2.01, 3, 1) == 0 and at(1, -0.01, 0.5) == 0


def test_the_largest_safe_box_holds_safe_nodes_only():
    """Safe from 0.5: of z = 0 the nodes with 2x + y ≥ 4. (2, 0 … 3) × one step has no width; (1 … 2, 2 … 3) has all three."""
    assert safe_box(linear_map()) == Box((1.0, 2.0, 0.0), (2.0, 3.0, 1.0))
    assert safe_box(linear_map(safe_from=0.84)) is None  # a single node


def test_a_map_is_read_as_it_was_written(tmp_path):
    safe_zone.save(tmp_path / "place.zone.json", linear_map())
    assert safe_zone.load(tmp_path / "place.zone.json") == linear_map()
    assert map_beside(tmp_path / "place.safetensors", "abc") == (linear_map(), [])
    assert map_beside(tmp_path / "other.safetensors", "abc") == (None, [])


def test_a_map_of_another_checkpoint_is_told_and_not_used(tmp_path):
    safe_zone.save(tmp_path / "place.zone.json", linear_map())
    zone, (words,) = map_beside(tmp_path / "place.safetensors", "def")
    assert zone is None and "another checkpoint" in words


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2}, {"support": [0.5]}, {"support": [1.5] * 24}, {"nodes": [1, 4, 6]}, {"min_m": [3, 0, 0]}, {"extra": 1},
        {"field_from_stage": {"scale": 0.0}}, {"nodes": [3, 4]}, {"safe_from": "much"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_map_is_refused_and_the_show_goes_on(changed, tmp_path):
    file = tmp_path / "place.zone.json"
    file.write_text(json.dumps(msgspec.to_builtins(linear_map()) | changed))
    with pytest.raises(SceneError, match="place.zone.json"):
        safe_zone.load(file)
    zone, (words,) = map_beside(tmp_path / "place.safetensors", "abc")
    assert zone is None and "place.zone.json" in words


def request(at_m, decided_s: float, scene: str = "place") -> FrameRequest:
    camera = Camera(Pose(position_m=at_m), Lens(40.0, (24.0, 16.0)), "measured", 0)
    return FrameRequest(0, 0, round(decided_s * 1e9), camera, scene)


def test_leaving_the_safe_zone_is_said_once_and_counted_every_time():
    watch = ZoneWatch({"place": linear_map()}, {"place": Similarity(Pose(position_m=(0.0, 0.0, 5.0)), 0.5)})
    inside, outside = (2, 3, 1), (0, 1, 0)  # 0.85 and 0.2
    assert watch.frame(request(inside, 0)) == []
    (words,) = watch.frame(request(outside, 1))
    assert "x 0.00 y 1.00 z 0.00 m has left the safe zone" in words and "support 0.20, safe from 0.50" in words
    assert watch.frame(request(outside, 2)) == [] and watch.words() == " · support 0.20"
    assert watch.frame(request(inside, 3)) == []  # ten seconds have not gone by
    (words,) = watch.frame(request(inside, 11.5))
    assert "back" in words
    assert watch.frame(request(outside, 12, scene="another")) == [] and watch.words() == ""
    assert watch.summary() == {"frames_outside_safe_zone": 2, "lowest_support": 0.2}


def test_a_place_that_now_lies_otherwise_is_looked_up_where_the_eye_is_in_its_field():
    """The stage was moved by 1 m in x: what was x = 2 m of the map is x = 1 m now."""
    watch = ZoneWatch({"place": linear_map()}, {"place": Similarity(Pose(position_m=(0.5, 0.0, 5.0)), 0.5)})
    watch.frame(request((1, 3, 1), 0))
    assert watch.now == pytest.approx(0.85)


SHOW = """
name = "test"
rate = "10"
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
sensor_mm = [24.0, 16.0]
focal_length_mm = 40.0
[[place]]
name = "plane"
file = "plane.safetensors"
field_from_stage = { scale = 0.2, position = [0.0, 0.0, -0.32] }
[[source]]
uri = "osc+udp://127.0.0.1:0"
preset = "ledvolume"
[[output]]
uri = "stream://127.0.0.1:0"
"""


@pytest.fixture
def show_file(tmp_path):
    bricks.save(tmp_path / "plane.safetensors", plane_scene(depth=0))
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps({"transform": np.eye(3, 4).tolist(), "scale": 1.0}))
    (tmp_path / "show.toml").write_text(SHOW)
    return tmp_path / "show.toml"


def test_photographs_around_the_zone_make_it_safe_and_the_server_watches(show_file, capsys):
    """Photographs every 0.05 units across the zone's ± 0.1, 1.6 from the plane: none further than 2° from any eye's view.
    Every LED is 2 · 0.5 · 50 mm · 0.2 wide, 0.8 units away: 0.02 at the plane, where a photograph's pixel is 0.016."""
    folder = show_file.parent
    steps = np.arange(-0.1, 0.11, 0.05)
    cameras = transforms(folder / "transforms.json", [pose(LOOKS_ALONG_Y, (x, 0, z)) for x in steps for z in steps])
    outputs = ["--picture", str(folder / "zone.png"), "--report", str(folder / "report.json")]
    assert main(["zone", str(show_file), "--cameras", str(cameras), *outputs]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["zone_lowest"] > 0.9 and report["zone_safe_share"] == 1 and report["photographs"] == 25
    assert "largest safe box" in capsys.readouterr().out
    assert (folder / "zone.png").read_bytes().startswith(b"\x89PNG")
    said = []
    summary = server.serve(load_show(show_file), seconds=0.5, warn=said.append)
    assert summary["frames_outside_safe_zone"] == 0 and summary["lowest_support"] > 0.9
    assert not any("safe zone" in words for words in said)


def test_photographs_from_elsewhere_support_nothing_and_the_server_says_so(show_file, capsys):
    """From 3 units aside the directions to all that the wall shows differ from any eye's by more than 30°."""
    folder = show_file.parent
    cameras = transforms(folder / "transforms.json", [pose(LOOKS_ALONG_Y, (x, 0, 0)) for x in (-3.0, 3.0)])
    assert main(["zone", str(show_file), "--cameras", str(cameras), "--report", str(folder / "report.json")]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["zone_mean"] == 0 and report["safe_box"] is None
    assert "nowhere" in capsys.readouterr().out
    said, lines = [], []
    summary = server.serve(load_show(show_file), seconds=0.5, warn=said.append, live_line=lines.append)
    assert summary["frames_outside_safe_zone"] == summary["frames"] > 0 and summary["lowest_support"] == 0
    assert sum("has left the safe zone of plane: support 0.00" in words for words in said) == 1
    assert any("support 0.00" in line for line in lines)


def test_a_scene_alone_is_mapped_all_around(show_file, capsys):
    """Nothing but the plane is there: of all directions, photographs of 90° × 53° across know at most a seventh."""
    folder = show_file.parent
    cameras = transforms(folder / "transforms.json", [pose(LOOKS_ALONG_Y, (x, 0, 0)) for x in (-0.1, 0.1)])
    assert main(["zone", str(folder / "plane.safetensors"), "--cameras", str(cameras), "--report", str(folder / "r.json")]) == 0
    assert 0 < json.loads((folder / "r.json").read_text())["mapped_highest"] < 1 / 7
    assert main(["zone", str(folder / "plane.safetensors"), "--cameras", str(folder / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_the_wall_is_looked_at_evenly(show_file):
    show = load_show(show_file)
    directions, spreads = at_wall(show.stage, Similarity())(np.array((0.0, 0.0, 1.6)))
    at = directions * (4 / directions[:, 1:2])
    assert 200 < len(at) < 320
    assert at[:, 0].mean() == pytest.approx(0, abs=1e-9) and np.abs(at[:, 0]).max() == pytest.approx(1.6, rel=0.1)
    assert spreads.max() == pytest.approx(0.5 * 0.05 / 4, rel=0.01)  # 50 mm LEDs, about straight ahead, 4 m away
