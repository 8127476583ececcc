"""Lenses from pictures of boards: real photographs, drawn ones, and corners of cameras that are known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from boards import drawn, grid_mm, photographed, poses_around, seen

from calibration import lens
from calibration.board import NotFound, board_of, corners_in
from calibration.cli import COMMANDS
from calibration.lens import ORDERS, Look, chosen_order, doubts, fitted, station_of, uncertainty_of
from calibration.pupil import CAMERA_FROM_CV, along_from, pupils_of
from ledvolume.cli import choose
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.lens import distorted
from ledvolume.lens_table import load_lens_table
from ledvolume.pose import Pose, pan_tilt_roll, quaternion

PHOTOGRAPHS = Path(__file__).parent / "data" / "chessboard_left"
TRUE = np.array([1900.0, 955.0, 548.0, -0.11, 0.07, 0.0006, -0.0004, 0.0])
SIZE = (1920, 1080)


def calibrate(*words: str) -> int:
    return choose("calibrate", "", COMMANDS, ["lens", *map(str, words)])


@pytest.fixture(scope="module")
def photographs():
    board = board_of("chessboard:9x6:25mm")
    pictures = {file.name: cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in sorted(PHOTOGRAPHS.glob("*.jpg"))}
    return lambda window_px=None: [Look(name, corners_in(picture, board, window_px)) for name, picture in pictures.items()]


def test_opencvs_photographs_give_opencvs_lens_with_its_windows(photographs):
    # left_intrinsics.yml: fx 535.916, rms 0.3926, with k1 to k3, p1, p2; SOURCE.md. Corners differ a little by its version.
    fit = fitted(photographs(window_px=11), (640, 480), "k1k2k3p")
    assert fit.numbers[0] == pytest.approx(535.92, abs=1.5) and fit.rms_px <= 0.45
    assert fit.numbers[1:3] == pytest.approx([342.28, 235.57], abs=1.0)


def test_a_window_that_fits_beside_the_next_corner_halves_what_is_left_over(photographs):
    looks = photographs()
    order, scores = chosen_order([looks], (640, 480))
    fit = fitted(looks, (640, 480), order)
    assert fit.rms_px < 0.2
    assert order == "k1k2p" and scores["none"] > 1 > 5 * scores[order]
    assert abs(fit.numbers[0] - 535.92) < 5 * fit.sigmas[0]


def test_a_picture_that_fits_worse_than_the_others_is_named(photographs):
    looks = photographs(window_px=11)
    said = doubts(fitted(looks, (640, 480), "k1k2p"), looks)
    assert [words for words in said if "worse" in words][0].startswith("left02.jpg")


@pytest.mark.parametrize("together_px", [0.0, 0.25], ids=["every corner for itself", "pictures that err together"])
def test_sigmas_are_honest(together_px):
    board_mm, off = grid_mm(11, 8, 30.0), []
    for seed in range(60):
        poses = poses_around(14, seed, 900, (300, 210))
        fit = fitted(seen(board_mm, poses, TRUE, 0.1, seed, together_px), SIZE, "k1k2p")
        off.append((fit.numbers[:7] - TRUE[:7]) / fit.sigmas[:7])
    # 420 errors of 7 numbers, some of them together: 68 % and 95 % of a normal distribution, and a little on the safe side
    within = np.abs(np.array(off))
    assert 0.6 <= (within < 1).mean() <= 0.85
    assert 0.90 <= (within < 1.96).mean() <= 0.995


@pytest.mark.parametrize(
    ("numbers", "order"),
    [([0, 0, 0, 0], "none"), ([-0.12, 0, 0, 0], "k1"), ([-0.12, 0.3, 0, 0], "k1k2"), ([-0.12, 0.3, 0.004, -0.003], "k1k2p")],
    ids=["none", "k1", "k1k2", "k1k2p"],
)
def test_the_order_is_the_lenss_own(numbers, order):
    true = np.array([1500.0, 960, 540, *numbers, 0])
    stations = [seen(grid_mm(11, 8, 30.0), poses_around(15, s, 700, (300, 210)), true, 0.08, s, 0.1) for s in (1, 2)]
    chosen, _ = chosen_order(stations, SIZE)
    assert chosen == order


def test_a_station_puts_points_where_opencv_puts_them():
    fit = fitted(seen(grid_mm(11, 8, 30.0), poses_around(15, 3, 700, (300, 210)), TRUE, 0.0, 3), SIZE, "k1k2p")
    station = station_of(fit, 28.25, 0.25, 0.5, 2.0)
    # F = f·w/W = 1900 · 28.25 / 1920; the axis 955 + 0.5 - 960 = -4.5 px and 548 + 0.5 - 540 = 8.5 px off the middle
    assert station.focal_length_mm == pytest.approx(27.9557, abs=2e-4)
    assert station.projection_offset_mm == pytest.approx((-4.5 * 28.25 / 1920, 8.5 * 28.25 / 1920), abs=2e-4)
    there = np.array([0.3, -0.2, 1.0])
    (expected,), _ = cv2.projectPoints(there[None], np.zeros(3), np.zeros(3), fit.matrix, fit.numbers[3:])
    mm = 28.25 / 1920
    pinhole = np.array([0.3, -0.2]) * station.focal_length_mm + station.projection_offset_mm
    model = lens.lens_of(fit, 28.25)
    seen_mm = distorted(model, pinhole)
    assert seen_mm / mm + [960, 540] - 0.5 == pytest.approx(expected[0], abs=1e-3)


def test_a_board_that_faces_the_camera_says_nothing_of_the_focal_length():
    poses = poses_around(10, 1, 900, (300, 210), tilt_deg=0.4, aim=0.05)
    with pytest.raises(CalibrationError, match="Tilt it|no lens fits"):
        fitted(seen(grid_mm(9, 6, 30.0), poses, TRUE, 0.2, 1), SIZE, "none")


def test_what_was_not_seen_is_said():
    poses = poses_around(6, 2, 1500, (240, 150), aim=0.02)
    looks = seen(grid_mm(9, 6, 30.0), poses, TRUE, 0.05, 2)
    said = " ".join(doubts(fitted(looks, SIZE, "none"), looks))
    assert "6 pictures" in said and "only in the middle" in said
    looks = seen(grid_mm(9, 6, 30.0), poses_around(20, 2, 700, (240, 150), aim=0.3), TRUE, 0.05, 2)
    looks = [look for look in looks if look.corners.picture_px[:, 0].max() < 1600]
    assert "right" in " ".join(doubts(fitted(looks, SIZE, "k1k2"), looks))


def test_squeezed_pictures_are_noticed():
    looks = seen(grid_mm(11, 8, 30.0), poses_around(15, 4, 900, (300, 210)), TRUE, 0.05, 4)
    squeezed = [Look(n, c._replace(picture_px=c.picture_px * [0.9, 1])) for n, c in looks]
    assert any("not square" in words for words in doubts(fitted(squeezed, SIZE, "k1k2p"), squeezed))


def test_two_pictures_are_too_few(photographs):
    with pytest.raises(CalibrationError, match="10 to 20"):
        fitted(photographs()[:2], (640, 480), "k1")


@pytest.mark.parametrize("text", ["charuco:8x6:40mm:30mm:DICT_5X5_100", "apriltags:5x4:40mm:12mm"])
def test_drawn_boards_are_found_to_hundredths_of_a_pixel(text):
    board = board_of(text)
    picture_px = drawn(board, 4.0)
    off = []
    for pose in poses_around(6, 5, 620, (300, 220), tilt_deg=30, aim=0.05):
        picture = photographed(picture_px, 4.0, board.side_mm, pose, 1500.0, (1280, 960))
        found = corners_in(picture, board)
        assert not isinstance(found, NotFound), found
        matrix = np.array([[1500.0, 0, 639.5], [0, 1500, 479.5], [0, 0, 1]])
        true, _ = cv2.projectPoints(found.board_mm, pose[:3], pose[3:], matrix, np.zeros(5))
        off.append(found.picture_px - true[:, 0])
    off = np.concatenate(off)
    assert len(off) > 150
    # blur rounds a tag's corners off, by a tenth of a pixel toward its middle; where squares meet it does nothing
    assert np.sqrt((off**2).sum(1).mean()) < (0.1 if board.kind == "charuco" else 0.2)
    assert np.abs(off.mean(0)).max() < 0.02


def test_tags_are_read_whatever_their_maker_counts_from():
    board = board_of("apriltags:5x4:40mm:12mm")
    print_px, margin = drawn(board, 4.0), 160
    upright = photographed(print_px, 4.0, 40.0, np.array([0, 0, 0, -120.0, -90, 600]), 1500.0, (1280, 960))
    # kalibr's boards: rows counted from below, tags upright: the same tags put into the rows in the other order
    rows = [print_px[margin + round(r * 208) : margin + round(r * 208) + 160] for r in range(4)]
    from_below = print_px.copy()
    for r, row in enumerate(reversed(rows)):
        from_below[margin + round(r * 208) : margin + round(r * 208) + 160] = row
    other = photographed(from_below, 4.0, 40.0, np.array([0.2, 0, 0, -120.0, -90, 600]), 1500.0, (1280, 960))
    turned = cv2.rotate(upright, cv2.ROTATE_180)
    for picture in (upright, other, turned):
        found = corners_in(picture, board)
        assert not isinstance(found, NotFound) and len(found.board_mm) == 80


def test_a_mirrored_board_and_another_one_are_no_board():
    board = board_of("charuco:8x6:40mm:30mm:DICT_5X5_100")
    picture = photographed(drawn(board, 4.0), 4.0, 40.0, np.array([0.2, 0.1, 0, -160.0, -120, 620]), 1500.0, (1280, 960))
    assert not isinstance(corners_in(picture, board), NotFound)
    assert corners_in(picture[:, ::-1].copy(), board).reason in ("no-board", "few-corners", "not-a-plane")
    assert isinstance(corners_in(picture, board_of("apriltags:5x4:40mm:12mm")), NotFound)
    assert isinstance(corners_in(np.full((480, 640), 128, np.uint8), board_of("chessboard:9x6:25mm")), NotFound)


@pytest.mark.parametrize(
    "text",
    ["chessboard:9x6", "chessboard:9x6:25", "checker:9x6:25mm", "charuco:8x6:30mm:40mm", "charuco:8x6:40mm:30mm:DICT_9X9", "",
     "apriltags:6x6:88mm", "chessboard:1x6:25mm", "charuco:80x60:40mm:30mm"],
)  # fmt: skip
def test_boards_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError, match="board"):
        board_of(text)


def test_the_command_writes_a_table_that_the_server_loads(tmp_path, capsys):
    out, told = tmp_path / "lens.json", tmp_path / "told.json"
    words = ["--board", "chessboard:9x6:25mm", "--sensor-width", "36", "--zoom", "0.25", "--focus", "0.5"]
    assert calibrate(PHOTOGRAPHS, *words, "--out", out, "--json", told, "--plots", tmp_path / "plots") == 0
    (station,) = load_lens_table(out).stations
    # fx 533.3 of SOURCE.md on 36 mm and 640 px
    assert station.focal_length_mm == pytest.approx(533.3 * 36 / 640, abs=0.05)
    assert (station.zoom_encoder, station.focus_encoder, station.entrance_pupil_mm) == (0.25, 0.5, None)
    (report,) = json.loads(told.read_bytes())
    assert report["pictures"] == 13 and 0 < report["sigma"]["focal_length_mm"] < 0.2
    assert len(list((tmp_path / "plots").glob("*.png"))) == 1
    assert "entrance pupil: left out" in capsys.readouterr().out


def test_pictures_that_are_not_used_are_named_with_why(tmp_path, capsys):
    for number in ("01", "03", "04", "06", "08", "12"):
        (tmp_path / f"left{number}.jpg").write_bytes((PHOTOGRAPHS / f"left{number}.jpg").read_bytes())
    sharp = cv2.imread(str(PHOTOGRAPHS / "left09.jpg"))
    cv2.imwrite(str(tmp_path / "blurred.png"), cv2.GaussianBlur(sharp, (0, 0), 5))
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((480, 640, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "turned.png"), cv2.rotate(sharp, cv2.ROTATE_90_CLOCKWISE))
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    assert calibrate(tmp_path, "--board", "chessboard:9x6:25mm", "--sensor-width", "36") == 0
    told = capsys.readouterr().out
    for name, why in [("blurred", "blurred"), ("wall", "no chessboard"), ("turned", "on its side"), ("broken", "not a picture")]:
        assert [line for line in told.splitlines() if name in line and why in line], (name, why, told)


def test_a_wrong_board_writes_nothing(tmp_path, capsys):
    out = tmp_path / "lens.json"
    for number in ("01", "04", "12"):  # in which OpenCV makes up a seventh row
        (tmp_path / f"left{number}.jpg").write_bytes((PHOTOGRAPHS / f"left{number}.jpg").read_bytes())
    assert calibrate(tmp_path, "--board", "chessboard:9x7:25mm", "--sensor-width", "36", "--out", out) == 2
    assert not out.exists() and "10 to 20" in capsys.readouterr().err


def test_stations_are_told_by_toml_or_by_their_folders(tmp_path):
    for name in ("near", "zoom0.5_focus0.25_distance3m"):
        (tmp_path / name).mkdir()
        for file in sorted(PHOTOGRAPHS.glob("*.jpg"))[:4]:
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="zoom0.25_focus0.5"):
        lens_stations(tmp_path)
    (tmp_path / "stations.toml").write_text(
        '[[station]]\npictures = "near"\nzoom_encoder = 0.1\nfocus_distance_m = "infinity"\nentrance_pupil_mm = 120\n'
        '[[station]]\npictures = "zoom0.5_focus0.25_distance3m"\nzoom_encoder = 0.5\nfocus_distance_m = 3\nentrance_pupil_mm = 100\n'
    )
    first, second = lens_stations(tmp_path)
    assert (first.zoom_encoder, first.focus_distance_m, first.entrance_pupil_mm, len(first.files)) == (0.1, "infinity", 120, 4)
    (tmp_path / "stations.toml").unlink()
    (tmp_path / "near").rename(tmp_path / "zoom0_focus1")
    first, second = lens_stations(tmp_path)
    assert (second.zoom_encoder, second.focus_encoder, second.focus_distance_m) == (0.5, 0.25, 3.0)


def lens_stations(folder: Path):
    from calibration.stations import stations_in

    return stations_in(folder)


def test_the_entrance_pupil_goes_where_it_was_put():
    """Two stations, the second pupil 35 mm farther forward; tracker noise 0.3 mm and 0.02°, corners 0.1 px."""
    hand_eye = Pose(pan_tilt_roll(0.03, -0.02, 0.05), (0.05, 0.12, -0.08))
    off = []
    for seed in range(10):
        random, fits, trackers = np.random.default_rng(seed), [], []
        for station, forward_m in enumerate((0.0, 0.035)):
            numbers = np.array([1500.0 + 900 * station, 960, 540, -0.05, 0, 0, 0, 0])
            poses = poses_around(14, seed * 2 + station, 900 + 500 * station, (300, 210), tilt_deg=30, aim=0.15)
            fits.append(fitted(seen(grid_mm(11, 8, 30.0), poses, numbers, 0.1, seed), SIZE, "k1"))
            trackers.append([tracker_at(pose, hand_eye, forward_m, random) for pose in poses])
        pupils = pupils_of(fits, trackers)
        off.append((pupils.along_mm[1] - 35.0) / pupils.sigma_mm[1])
        assert abs(pupils.along_mm[1] - 35.0) < 3.5
        # the camera's origin of a show 20 mm behind the first pupil: both stations are 20 mm farther from it
        from_show = along_from(pupils, hand_eye @ Pose(position_m=(0.0, -0.02, 0.0)))
        assert from_show == pytest.approx([20.0, 55.0], abs=3.5)
    assert np.abs(off).max() < 3 and 0.2 < np.mean(np.square(off)) < 2.5


def tracker_at(pose: np.ndarray, hand_eye: Pose, forward_m: float, random) -> Pose:
    """world_from_tracker of a camera that sees a board at the world's (1, 2, 1.5) m, with noise."""
    board_from_camera = Pose(
        quaternion(CAMERA_FROM_CV @ cv2.Rodrigues(pose[:3])[0]), tuple(CAMERA_FROM_CV @ pose[3:] / 1000)
    ).inverse()
    world_from_board = Pose(pan_tilt_roll(0.4, 0.1, 0.0), (1.0, 2.0, 1.5))
    tracker_from_pupil = hand_eye @ Pose(position_m=(0.0, forward_m, 0.0))
    exact = world_from_board @ board_from_camera @ tracker_from_pupil.inverse()
    turned = pan_tilt_roll(*(np.radians(random.normal(0, 0.02)) for _ in range(3)))
    return exact @ Pose(turned, tuple(random.normal(0, 0.0003, 3).tolist()))


def test_a_camera_that_only_pans_says_nothing_of_the_pupil():
    poses = np.array([[0, a, 0, -150 + 300 * np.sin(-a), -100, 900] for a in np.linspace(-0.5, 0.5, 8)])
    hand_eye, random = Pose(), np.random.default_rng(1)
    fit = fitted(seen(grid_mm(11, 8, 30.0), poses, TRUE, 0.05, 1), SIZE, "k1")
    with pytest.raises(CalibrationError, match="one axis only"):
        pupils_of([fit], [[tracker_at(pose, hand_eye, 0.0, random) for pose in fit.poses]])


def test_every_order_has_fewer_coefficients_than_the_next():
    counts = [len(coefficients) for coefficients in ORDERS.values()]
    assert counts == sorted(set(counts))


def test_the_corners_sigma_grows_with_what_the_order_leaves_free():
    looks = seen(grid_mm(11, 8, 30.0), poses_around(12, 6, 900, (300, 210), aim=0.1), TRUE, 0.1, 6)
    corner_px = [uncertainty_of(fitted(looks, SIZE, order), 28.25).corner_px for order in ("none", "k1", "k1k2", "k1k2k3p")]
    assert corner_px[0] == 0 and corner_px == sorted(corner_px)
