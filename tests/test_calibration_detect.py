"""Photographs of one view → matches: what calibration.detect makes of series and dots, and what it says where it cannot."""

import json
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calibration import session
from calibration.cli import COMMANDS
from calibration.detect import MOST_MATCHES, by_view, view_of
from calibration.picture_sources import read_picture
from calibration.session import Shot
from ledvolume import patterns
from ledvolume.cli import choose
from ledvolume.errors import CalibrationError
from ledvolume.pose import Pose
from ledvolume.stage import Surface, WallTile

LEFT = Surface("left", Pose(), (1.6, 1.2), (96, 72))
RIGHT = Surface("right", Pose(), (1.6, 1.2), (64, 48))
SIZE_PX = (720, 400)  # of the picture, width and height
CORNERS_PX = {  # where the corners of each surface's LED grid are in the picture: top left, top right, bottom right, bottom left
    "left": [(30, 40), (340, 70), (335, 340), (25, 365)],
    "right": [(390, 65), (690, 30), (700, 370), (385, 345)],
}
SHOW = """
name = "two walls"
rate = "24"
[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
[[stage.surface]]
name = "left"
shape = "flat"
centre_m = [-1.0, 3.0, 1.6]
size_m = [1.6, 1.2]
resolution_px = [96, 72]
[[stage.surface]]
name = "right"
shape = "flat"
centre_m = [1.0, 3.0, 1.6]
size_m = [1.6, 1.2]
resolution_px = [64, 48]
[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 24.0
[[place]]
name = "none"
file = "none.safetensors"
field_from_stage = {}
"""


def homography(surface: Surface) -> np.ndarray:
    """LED coordinates → picture coordinates, both with pixel centres at + 0.5."""
    width, height = surface.resolution_px
    grid = np.float32([(0, 0), (width, 0), (width, height), (0, height)])
    return cv2.getPerspectiveTransform(grid, np.float32(CORNERS_PX[surface.name]))


@lru_cache(maxsize=4)
def seen(surface: Surface, across: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of across² samples of every picture pixel see the surface (H, W) bool, and the LED pixels (n, 2) that those see."""
    columns, rows = (np.arange(n * across) / across + 0.5 / across for n in SIZE_PX)
    points = np.stack([*np.meshgrid(columns, rows), np.ones((len(rows), len(columns)))], -1)
    led = points @ np.linalg.inv(homography(surface)).T
    led = np.floor(led[..., :2] / led[..., 2:]).astype(int)
    on = ((led >= 0) & (led < surface.resolution_px)).all(-1)
    return on, led[on]


def photograph(pattern: str, surfaces=(LEFT, RIGHT), noise: float = 0.01, seed: int = 0) -> np.ndarray:
    """(H, W) uint8 with gamma: each picture pixel is the mean of 4 × 4 samples of the LED pixels behind it, room light 4 %."""
    across, light = 4, np.full((SIZE_PX[1], SIZE_PX[0]), 0.04)
    for surface in surfaces:
        tile = WallTile("t", surface, (0, 0), surface.resolution_px)
        on, led = seen(surface, across)
        value = np.zeros(on.shape, np.float32)
        value[on] = patterns.draw(tile, pattern)[led[:, 1], led[:, 0], 0]
        light += 0.7 * value.reshape(SIZE_PX[1], across, SIZE_PX[0], across).mean((1, 3))
    light = cv2.GaussianBlur(light, (0, 0), 0.7) + np.random.default_rng(seed).normal(0, noise, light.shape)
    return np.round(255 * light.clip(0, 1) ** (1 / 2.2)).astype(np.uint8)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A folder with both surfaces' Gray code and its shots."""
    folder, shots = tmp_path_factory.mktemp("series"), []
    for number, name in enumerate(dict.fromkeys(name for s in (LEFT, RIGHT) for name in patterns.series(s))):
        Image.fromarray(photograph(name, seed=number)).save(folder / f"{number:02}.png")
        shots.append(Shot(f"{number:02}.png", "v01", name, "A", Pose(position_m=(0.0, 0.0, 1.6 + 1e-4 * (number % 2)))))
    return folder, shots


def view_in(folder: Path, shots: list[Shot]) -> session.View:
    """The one view of the shots, both walls looked for."""
    [by_pattern] = by_view(shots).values()
    pictures = {name: read_picture(folder / shot.picture).pixels for name, shot in by_pattern.items()}
    return view_of(by_pattern, pictures, (LEFT, RIGHT))


def off_px(matches: session.Matches) -> np.ndarray:
    surface = {"left": LEFT, "right": RIGHT}[matches.surface]
    there = cv2.perspectiveTransform(matches.led_px[None], homography(surface))[0]
    return np.linalg.norm(matches.picture_px - there, axis=1)


def test_each_surface_is_found_where_it_is_and_to_a_fraction_of_a_pixel(series):
    folder, shots = series
    view = view_in(folder, shots)
    assert [m.surface for m in view.matches] == ["left", "right"]
    assert view.resolution_px == SIZE_PX
    for matches in view.matches:
        off = off_px(matches)
        assert len(off) > 100 and np.median(off) < 0.1 and off.max() < 1.0
        normalised = np.sqrt(np.mean((off / matches.sigma_px) ** 2) / 2)
        assert 0.4 < normalised < 2.0  # sigma says how far off they are, within a factor of 2
    assert view.world_from_tracker.position_m == pytest.approx((0, 0, 1.60005), abs=1e-5)  # half of them 0.1 mm higher


def test_one_picture_of_dots_finds_both_surfaces(tmp_path):
    Image.fromarray(photograph("dots/8")).save(tmp_path / "a.png")
    view = view_in(tmp_path, [Shot("a.png", "v", "dots/8")])
    assert [m.surface for m in view.matches] == ["left", "right"]
    assert max(np.median(off_px(m)) for m in view.matches) < 0.15
    assert view.world_from_tracker is None


def test_matches_are_thinned_evenly(monkeypatch, tmp_path):
    Image.fromarray(photograph("dots/8")).save(tmp_path / "a.png")
    monkeypatch.setattr("calibration.detect.MOST_MATCHES", 40)
    view = view_in(tmp_path, [Shot("a.png", "v", "dots/8")])
    assert MOST_MATCHES > 40 and 20 <= view.count <= 40
    left, _ = view.matches
    assert np.ptp(left.led_px, axis=0) == pytest.approx((88, 64), abs=17)  # 12 × 9 dots: from edge to edge still


def replaced(series, into, pattern: str, pixels: np.ndarray) -> list[Shot]:
    """The shots, one picture of them another one."""
    folder, shots = series
    kept = []
    for shot in shots:
        picture = str(folder / shot.picture)
        if shot.pattern == pattern:
            Image.fromarray(pixels).save(into / "other.png")
            picture = "other.png"
        kept.append(Shot(picture, shot.view, shot.pattern, shot.camera_id, shot.world_from_tracker))
    return kept


def test_a_picture_of_another_size_is_named(series, tmp_path):
    shots = replaced(series, tmp_path, "black", photograph("black")[:-8])
    with pytest.raises(CalibrationError, match=r"2 sizes, 720 × 392, 720 × 400"):
        view_in(tmp_path, shots)


def test_a_picture_that_is_missing_is_named(series):
    folder, shots = series
    with pytest.raises(CalibrationError, match=r"missing from the series: gray/y/2/inverse\."):
        view_in(folder, [s for s in shots if s.pattern != "gray/y/2/inverse"])


def test_a_picture_out_of_order_is_named(series):
    folder, shots = series
    swapped = {"gray/x/0": "gray/x/3", "gray/x/3": "gray/x/0"}
    shots = [Shot(s.picture, s.view, swapped.get(s.pattern, s.pattern)) for s in shots]
    with pytest.raises(CalibrationError, match="out of order|missing|far apart|exchanged"):
        view_in(folder, shots)


def test_a_camera_that_moved_during_a_series_is_named(series):
    folder, shots = series
    moved = Pose(position_m=(0.3, 0.0, 1.6))
    shots = [*shots[:-1], Shot(shots[-1].picture, "v01", shots[-1].pattern, "A", moved)]
    with pytest.raises(CalibrationError, match=r"the tracker moved by \d+ mm"):
        view_in(folder, shots)


@pytest.mark.parametrize("pattern", ["dots/8", "series"])
def test_mirrored_photographs_are_named(series, tmp_path, pattern):
    folder, shots = series
    if pattern == "series":
        for shot in shots:
            Image.fromarray(np.asarray(Image.open(folder / shot.picture))[:, ::-1]).save(tmp_path / shot.picture)
    else:
        shots = [Shot("a.png", "v", pattern)]
        Image.fromarray(photograph(pattern)[:, ::-1].copy()).save(tmp_path / "a.png")
    with pytest.raises(CalibrationError, match="mirrored"):
        view_in(tmp_path, shots)


def test_dots_of_another_wall_are_named(tmp_path):
    other = Surface("left", Pose(), (1.6, 1.2), (104, 72))
    Image.fromarray(photograph("dots/8", (other,))).save(tmp_path / "a.png")
    with pytest.raises(CalibrationError, match="no part of left"):
        view_in(tmp_path, [Shot("a.png", "v", "dots/8")])


def test_the_command_writes_what_can_be_read_and_names_the_rest(series, tmp_path, capsys):
    folder, shots = series
    Image.fromarray(photograph("dots/8")).save(tmp_path / "a.png")
    Image.fromarray(photograph("black")).save(tmp_path / "b.png")
    (tmp_path / "show.toml").write_text(SHOW)
    session.save(tmp_path / "shots.json", [Shot("a.png", "good", "dots/8"), Shot("b.png", "dark", "dots/8")])
    words = ["detect", str(tmp_path), "--show", str(tmp_path / "show.toml"), "--json", "--pictures"]
    assert choose("calibrate", "", COMMANDS, words) == 1
    said = json.loads(capsys.readouterr().out)
    assert list(said["failed"]) == ["dark"] and said["views"][0]["view"] == "good"
    [view] = session.load_views(tmp_path / "views.json")
    assert view.name == "good" and view.count == said["views"][0]["matches"]
    assert Image.open(tmp_path / "detected" / "good.png").size == SIZE_PX
    session.save(tmp_path / "shots.json", [Shot("b.png", "dark", "dots/8")])
    (tmp_path / "views.json").unlink()
    assert choose("calibrate", "", COMMANDS, words) == 2
    assert "nothing is written" in capsys.readouterr().err and not (tmp_path / "views.json").exists()
