"""Taking the pictures of a calibration: which view is next, which picture shows what, what the tracker said, what is wrong."""

import io
import math
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from led_photographs import Camera as Photographer
from PIL import Image

from calibration import picture_check
from calibration.capture import Assigned, Capture, by_time, in_order
from calibration.guide import TIMES_SEEN, VIEWS, Seen, needs, next_view, seen_from, seen_in
from calibration.looking import dots_view, roughly_at
from calibration.picture_sources import CameraPictures, FolderPictures, Picture, natural, read_picture, video_pictures
from calibration.series import Stepped, Timed, gray, names_of
from calibration.session import Matches, Shot, View, load_shots
from calibration.tracker_samples import LiveTracker, Samples
from ledvolume import patterns
from ledvolume.camera import CameraSample
from ledvolume.cli import main
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.lens import Lens
from ledvolume.moves import looking_at
from ledvolume.outputs.cues import UNENDED_NS, Shown, load_shown
from ledvolume.outputs.images import saved_frames
from ledvolume.pose import Pose, pan_tilt_roll, rotate
from ledvolume.protocols import Reading, open_encoder
from ledvolume.sources import open_sender
from ledvolume.stage import Box, Stage, Surface, WallTile, cut, facing

LENS = Lens(24.0, (24.0, 16.0))  # sees 53° across: 6 m at 6 m
WALL = Surface("main", facing(0.0, (0.0, 5.0, 2.0)), (6.0, 3.0), (96, 48))
CEILING = Surface("ceiling", Pose((0.0, 1.0, 0.0, 0.0), (0.0, 3.0, 4.5)), (6.0, 3.0), (60, 24))  # looks down
STAGE = Stage((*cut(WALL, 2, 1), *cut(CEILING, 1, 1)), (0.0, 0.0, 1.6), Box((-1.5, -1.5, 1.0), (1.5, 1.0, 2.2)), ())
SECOND = 1_000_000_000
ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 30.0


# which view is next


def follow(advised_by=next_view, most=40, stage=STAGE, lens=LENS) -> tuple[list[Seen], list]:
    views, said = [], []
    for _ in range(most):
        advice = advised_by(stage, lens, views)
        said.append(advice)
        if advice.pose is None:
            break
        views.append(seen_from(stage, lens, advice.pose))
    return views, said


def test_whoever_follows_the_advice_gets_what_a_calibration_needs():
    views, said = follow()
    assert said[-1].is_enough and VIEWS <= len(views) <= 14
    assert not needs(STAGE, views)
    for name in ("main", "ceiling"):  # counted here, not by the guide: views in which a patch is
        assert (np.sum([view.patches[name] for view in views], 0) >= TIMES_SEEN).mean() > 0.9
    forward = np.array([rotate(view.stage_from_camera.wxyz, (0.0, 1.0, 0.0)) for view in views])
    assert np.ptp(np.degrees(np.arctan2(forward[:, 0], forward[:, 1]))) > 15 and np.ptp(np.degrees(np.arcsin(forward[:, 2]))) > 15
    assert np.ptp([view.stage_from_camera.position_m for view in views], axis=0)[:2].min() > 1.5


def test_the_first_view_shows_most_of_the_wall_and_words_say_where_and_why():
    first = next_view(STAGE, LENS, [])
    assert first.words.startswith("first ") and "as much of the wall as it can see" in first.words
    assert not first.is_enough
    second = next_view(STAGE, LENS, [seen_from(STAGE, LENS, first.pose)])
    assert second.pose.position_m != first.pose.position_m and " m), looking at " in second.words


def test_a_ceiling_that_nobody_looked_at_is_asked_for_by_name():
    level = [
        seen_from(STAGE, LENS, looking_at((x, y, 1.6), (0.0, 5.0, 1.2))) for x in (-2.0, -0.7, 0.7, 2.0) for y in (-2.0, 0.5)
    ]
    level = [msgspec.structs.replace(view, patches=view.patches | {"ceiling": np.zeros((6, 12), bool)}) for view in level]
    assert needs(STAGE, level)["seen"] == "ceiling has not been seen"
    advice = next_view(STAGE, LENS, level)
    assert "ceiling has not been seen" in advice.words and "looking at" in advice.words
    assert seen_from(STAGE, LENS, advice.pose).patches["ceiling"].any()


@pytest.mark.parametrize(
    ("poses", "missing"),
    [
        # always level and straight on: nothing but moves aside
        ([looking_at((x, -1.0, 1.6), (x, 5.0, 1.6)) for x in np.linspace(-2, 2, 9)], {"turned", "distance", "level"}),
        # panned only, from one distance: one axis
        ([looking_at((3 * math.sin(a), 5 - 6 * math.cos(a), 1.6), (0.0, 5.0, 1.6)) for a in np.linspace(-0.5, 0.5, 9)], {"turned", "level"}),
    ],
    ids=["moved aside", "panned"],
)  # fmt: skip
def test_what_hand_eye_and_focal_length_need_is_missed(poses, missing):
    views = [seen_from(STAGE, LENS, pose) for pose in poses]
    assert missing <= needs(STAGE, views).keys()
    assert "turned" not in needs(STAGE, views, has_tracker=False)


def test_views_from_one_place_count_once():
    here = looking_at((0.0, -1.0, 1.6), (0.0, 5.0, 2.0))
    views = [seen_from(STAGE, LENS, here)] * 9
    assert "from 1 place only" in needs(STAGE, views)["seen"] or "not been seen" in needs(STAGE, views)["seen"]


def test_what_was_found_in_pictures_counts_as_seen_there_only():
    """Matches in the left half of main: 12 × 6 patches of half a metre, columns 0 to 5."""
    columns, rows = np.meshgrid(np.linspace(1, 47, 40), np.linspace(1, 47, 40))
    led = np.stack([columns.ravel(), rows.ravel()], -1)
    view = View("a", (100, 100), (Matches("main", led, led, np.ones(len(led))),))
    seen = seen_in(STAGE, view, Pose())
    assert seen.patches["main"].shape == (6, 12)
    assert seen.patches["main"][:, :6].all() and not seen.patches["main"][:, 6:].any() and not seen.patches["ceiling"].any()


# series, and what was on the wall when


def test_a_gray_series_is_for_all_surfaces_at_once():
    """96 columns take 7 bits, 48 rows 6 (ceiling: 60 and 24, 6 and 5): white, black, two surfaces, 2 · (7 + 6)."""
    names = gray((WALL, CEILING))
    assert names[:4] == ["white", "black", "surface/main", "surface/ceiling"] and len(names) == 4 + 26
    assert names[4:6] == ["gray/x/0", "gray/x/0/inverse"] and names[-1] == "gray/y/5/inverse"
    with pytest.raises(ConfigError, match="known|white, black"):
        names_of((WALL,), ["plaid"])
    with pytest.raises(ConfigError, match="one of the surfaces main"):
        names_of((WALL,), ["surface/roof"])


def test_patterns_follow_the_clock_or_whoever_steps():
    timed = Timed(["white", "black"], SECOND, rounds=2)
    assert [timed(7 * SECOND + t * SECOND // 2) for t in range(9)] == ["pattern:white"] * 2 + ["pattern:black"] * 2 + [
        "pattern:white"
    ] * 2 + ["pattern:black"] * 2 + [None]
    stepped = Stepped(["white", "black"])
    shown = [stepped(0)]
    for line in ("", "", "back", "dots", "", "q"):
        stepped.say(line)
        shown.append(stepped(0))
    assert shown == [f"pattern:{name}" for name in ("white", "black", "white", "black", "dots", "white")] + [None]
    with pytest.raises(ConfigError):
        stepped.say("plaid")


def test_what_was_shown_is_read_back_whole_or_cut_off(tmp_path):
    file = tmp_path / "shown.jsonl"
    file.write_bytes(
        b'{"cue":"pattern:white","index":3,"from_ns":100}\n{"cue":"pattern:black","index":9,"from_ns":200}\n{"cue":"","index":12,"from'
    )
    assert load_shown(file) == [Shown("pattern:white", 100, 200), Shown("pattern:black", 200, UNENDED_NS)]
    file.write_bytes(file.read_bytes() + b'_ns":300}\n')
    assert load_shown(file)[-1] == Shown("pattern:black", 200, 300)
    file.write_bytes(b'{"cue":"a","index":3,"from_ns":100}\n{"cue":"b","index":4,"from_ns":90}\n')
    with pytest.raises(ConfigError, match="set back"):
        load_shown(file)


# which picture shows what


def picture(at_ns=0, name="p", folder="", value=128) -> Picture:
    return Picture(name, at_ns, np.full((64, 96), value, np.uint8), None, folder)


def views():
    return (f"v{n}" for n in range(1, 99))


def test_pictures_in_order_are_views_by_rounds_or_by_subfolders():
    names = ["white", "black", "gray/x/0"]
    assigned = list(in_order([picture()] * 6, names, views()))
    assert [(a.view, a.pattern) for a in assigned] == [("v1", n) for n in names] + [("v2", n) for n in names]
    by_folder = [picture(folder=f) for f in ("left", "right/up") for _ in names]
    assert [a.view for a in in_order(by_folder, names, views())] == ["left"] * 3 + ["right-up"] * 3
    with pytest.raises(CalibrationError, match="left: 2 pictures, the series has 3"):
        list(in_order([picture(folder="left")] * 2 + [picture(folder="right")] * 3, names, views()))
    with pytest.raises(CalibrationError, match="left: more than 3"):
        list(in_order([picture(folder="left")] * 4, names, views()))


def test_pictures_by_time_take_the_middle_of_what_was_shown_and_never_its_beginning():
    """Each pattern is up for 1 s; with 0.2 s to settle its middle is at 0.6 s. Pictures come every 0.25 s, from 0.05 s on."""
    shown = [Shown(f"pattern:{name}", i * SECOND, (i + 1) * SECOND) for i, name in enumerate(["white", "black"] * 2)]
    pictures = [picture(round((0.05 + 0.25 * n) * SECOND), f"{n}") for n in range(16)]
    found = list(by_time(pictures, shown, SECOND // 5, SECOND, 0, views()))
    assert [(a.view, a.pattern, a.picture.name) for a in found] == [
        ("v1", "white", "2"), ("v1", "black", "6"), ("v2", "white", "10"), ("v2", "black", "14"),
    ]  # fmt: skip
    # a camera whose clock is 10 s behind
    assert len(list(by_time(pictures, shown, SECOND // 5, SECOND, -10 * SECOND, views()))) == 0
    late = [p._replace(at_ns=p.at_ns - 10 * SECOND) for p in pictures]
    assert len(list(by_time(late, shown, SECOND // 5, SECOND, 10 * SECOND, views()))) == 4


def test_of_a_video_of_dots_the_sharpest_of_every_while_is_a_view():
    sharp = np.zeros((120, 200), np.uint8)
    sharp[:, 100:] = 200
    soft = np.broadcast_to(np.clip((np.arange(200) - 85) * 6.7, 0, 200).astype(np.uint8), (120, 200)).copy()
    shown = [Shown("pattern:dots", 0, UNENDED_NS)]
    pictures = [Picture(f"{n}", SECOND // 2 + n * SECOND // 10, sharp if n in (3, 14) else soft) for n in range(20)]
    found = list(by_time(pictures, shown, SECOND // 2, SECOND, 0, views()))
    assert [(a.view, a.picture.name) for a in found] == [("v1", "3"), ("v2", "14")]


# what is wrong with a picture


def photograph(edge_px=2.0, bright=0.8, dark=0.05, size=(480, 720)) -> np.ndarray:
    """Luminance: dark room, a lit wall in the middle with stripes whose edges rise over so many pixels."""
    height, width = size
    x = np.arange(width)
    ramp = np.clip((np.abs((x % 120) - 60) - 30) / edge_px + 0.5, 0, 1)
    rows = np.clip((200 - np.abs(np.arange(height) - height / 2)) / edge_px + 0.5, 0, 1)
    return (dark + (bright - dark) * ramp[None] * rows[:, None]).astype(np.float32)


@pytest.mark.parametrize(
    ("luminance", "pattern", "told"),
    [
        (photograph(), "gray/x/1", None),
        (photograph(bright=0.15, dark=0.01), "white", "too dark"),
        (photograph(bright=1.0), "white", "overexposed"),
        (photograph(edge_px=13), "gray/x/1", "blurred: its edges are 13 px wide"),
        (photograph(bright=0.02, dark=0.01), "black", None),
    ],
    ids=["good", "dark", "overexposed", "blurred", "black"],
)
def test_a_picture_is_looked_at_when_it_is_taken(luminance, pattern, told):
    said = picture_check.troubles(luminance, pattern)
    assert [words for words in said if told and told in words] if told else not said, said


def test_a_wall_that_is_not_seen_and_a_series_out_of_order_are_told_apart():
    lit, dark = photograph(), photograph(bright=0.06)
    assert not picture_check.series_troubles(lit, dark)
    assert "the wall is not seen" in picture_check.series_troubles(dark, dark)[0]
    assert "not in the order" in picture_check.series_troubles(dark, lit)[0]
    assert picture_check.is_same_place(lit, lit + np.float32(0.01))
    assert not picture_check.is_same_place(lit, np.roll(lit, 40, 1))


# sources


def jpeg(pixels: np.ndarray, taken="2026:03:01 12:00:00", subsecond="250", offset="+01:00") -> bytes:
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    tags = exif.get_ifd(0x8769)
    tags[0x9003], tags[0x9291], tags[0x9011] = taken, subsecond, offset
    data = io.BytesIO()
    image.save(data, "JPEG", exif=exif, quality=92)
    return data.getvalue()


def test_a_picture_says_when_it_was_taken(tmp_path):
    """2026-03-01 12:00:00.25 at +01:00 is 11:00 UTC: 1772362800.25 s since 1970 (date -u -d @1772362800)."""
    (tmp_path / "a.jpg").write_bytes(jpeg(np.zeros((8, 8, 3), np.uint8)))
    assert read_picture(tmp_path / "a.jpg").at_ns == 1_772_362_800_250_000_000
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png").at_ns == 0 and read_picture(tmp_path / "b.png").pixels.dtype == np.uint16


def test_a_folder_that_is_filled_gives_every_picture_once_when_it_is_whole(tmp_path):
    """A thread writes pictures in pieces, as a tethered camera does; none is read before its end has come."""
    pixels = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    whole = jpeg(pixels)

    def fill() -> None:
        for n in (9, 10, 11):
            with open(tmp_path / f"IMG_{n}.JPG", "wb") as file:
                for start in range(0, len(whole), len(whole) // 4 + 1):
                    file.write(whole[start : start + len(whole) // 4 + 1])
                    file.flush()
                    time.sleep(0.03)

    folder, found = FolderPictures(tmp_path), []
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "IMG_1.CR3").write_bytes(b"raw")
    filling = threading.Thread(target=fill)
    filling.start()
    said, end_s = [], time.monotonic() + DEADLINE_S
    while len(found) < 3 and time.monotonic() < end_s:
        new, words = folder.new()
        found, said = found + new, said + words
        time.sleep(0.01)
    filling.join()
    assert [p.name for p in found] == ["IMG_9.JPG", "IMG_10.JPG", "IMG_11.JPG"]
    assert all(p.pixels.shape == pixels.shape for p in found)
    assert len(said) == 1 and "IMG_1.CR3: a raw file" in said[0]
    assert folder.new() == ([], [])


def test_a_file_that_will_never_be_a_picture_is_said_once(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    now = [0]
    folder = FolderPictures(tmp_path, now_ns=lambda: now[0])
    folder.new()
    assert folder.new() == ([], [])
    now[0] = 11 * SECOND
    _, said = folder.new()
    assert "a.png: not a picture that can be read" in said[0] and folder.new() == ([], [])
    assert natural(Path("a/IMG_9")) < natural(Path("a/IMG_10"))


def written_video(file, seconds=2.0, fps=20, creation=None, values=None) -> None:
    with av.open(str(file), "w") as video:
        if creation:
            video.metadata["creation_time"] = creation
        stream = video.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for n in range(round(seconds * fps)):
            value = values(n / fps) if values else 128
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), value, np.uint8), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, fps)
            for packet in stream.encode(frame):
                video.mux(packet)
        for packet in stream.encode():
            video.mux(packet)


def test_a_video_gives_its_frames_with_their_instants(tmp_path):
    file = tmp_path / "walk.mov"
    written_video(file, 1.0, 20, "2026-03-01T11:00:00Z", lambda t: 200 if t < 0.5 else 40)
    pictures = list(video_pictures(file))
    assert len(pictures) == 20
    assert pictures[0].at_ns == 1_772_362_800 * SECOND and pictures[10].at_ns - pictures[0].at_ns == SECOND // 2
    assert pictures[5].pixels.mean() == pytest.approx(200, abs=4) and pictures[15].pixels.mean() == pytest.approx(40, abs=4)
    (tmp_path / "no.mov").write_text("no video")
    with pytest.raises(CalibrationError, match="not a video"):
        list(video_pictures(tmp_path / "no.mov"))


@contextmanager
def wall_camera(*wall: str):
    """The address of tests/wall_camera.py, running."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).parent / "wall_camera.py"), str(port), *wall]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        while not is_listening(port):
            assert process.poll() is None
            time.sleep(0.05)
        yield f"tcp://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def free_port(kind=socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_listening(port: int) -> bool:
    """Without connecting, which would be the one connection that it takes."""
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in open("/proc/net/tcp"))


def test_a_live_stream_gives_its_newest_picture():
    """A real stream over loopback, MPEG-TS in TCP, as FFmpeg sends it; its pictures become brighter by 1 a frame."""
    with wall_camera() as address:
        camera = CameraPictures(address)
        try:
            begin_ns = time.time_ns()
            first = camera.after(begin_ns, DEADLINE_S)
            later = camera.after(first.at_ns + SECOND // 2, DEADLINE_S)
            assert begin_ns <= first.at_ns and later.at_ns - first.at_ns >= SECOND // 2
            assert first.pixels.shape == (320, 480, 3)
            assert 8 <= (later.pixels.mean() - first.pixels.mean()) % 120 <= 40  # 25 a second
        finally:
            camera.close()


def test_a_camera_that_is_not_there_is_said():
    camera = CameraPictures("tcp://127.0.0.1:9")
    with pytest.raises(CalibrationError, match="no more pictures"):
        camera.after(0, DEADLINE_S)
    camera.close()
    camera = CameraPictures("/dev/video97")
    with pytest.raises(CalibrationError, match="cannot be opened"):
        camera.after(0, DEADLINE_S)
    camera.close()


# the tracker


def sample(at_ns: int, x_m: float, pan_deg=0.0, camera="A") -> CameraSample:
    return CameraSample(camera, at_ns, at_ns, Pose(pan_tilt_roll(math.radians(pan_deg), 0, 0), (x_m, 0.0, 1.6)))


def test_a_picture_gets_what_the_tracker_said_then():
    """Samples every 20 ms that go 1 m a second; a tracker that is 30 ms late says at 1.00 s what was at 0.97 s."""
    samples = Samples(latency_ns=30_000_000)
    for n in range(100):
        samples.add(sample(n * 20_000_000, n * 0.02))
    assert samples.at(SECOND).world_from_tracker.position_m[0] == pytest.approx(1.03)
    assert samples.at(10 * SECOND) is None
    assert samples.motion(SECOND)[0] == pytest.approx(280, abs=21)  # 14 steps of 20 mm within 150 ms on both sides


@pytest.mark.parametrize("protocol", ["osc+udp", "native+zmq"])
def test_a_live_tracker_is_heard_over_real_sockets(protocol):
    port = free_port(socket.SOCK_DGRAM if "udp" in protocol else socket.SOCK_STREAM)
    uri = f"{protocol}://127.0.0.1:{port}"
    name = protocol.partition("+")[0]
    encode, sender = open_encoder(name), open_sender(uri) if "zmq" in protocol else None
    tracker = LiveTracker([(uri, Reading())], "A")
    sender = sender or open_sender(uri)
    try:
        end_s = time.monotonic() + DEADLINE_S
        while tracker.samples.newest is None and time.monotonic() < end_s:
            now_ns = time.time_ns()
            for camera in ("A", "B"):
                for payload in encode(sample(now_ns, 0.5 if camera == "A" else 9.0, camera=camera)):
                    sender.send(payload)
            time.sleep(0.02)
            tracker.drain()
        assert tracker.samples.newest.camera_id == "A"
        assert tracker.samples.newest.world_from_tracker.position_m[0] == pytest.approx(0.5, abs=1e-6)
    finally:
        sender.close()
        tracker.close()


# the folder


def eight_bit(luminance: np.ndarray) -> np.ndarray:
    return np.repeat((luminance * 255).round().astype(np.uint8)[..., None], 3, -1)


def shown_picture(pattern: str, at_ns: int, shift=0) -> Picture:
    luminance = photograph(bright=0.06) if pattern == "black" else np.roll(photograph(), shift, 1)
    return Picture("frame", at_ns, eight_bit(luminance))


def test_shots_are_whole_after_every_picture_and_go_on_where_they_ended(tmp_path):
    samples = Samples()
    for n in range(300):
        samples.add(sample(n * 20_000_000, 0.0 if n < 200 else 0.03))
    capture = Capture(tmp_path, samples, "A", "35 mm")
    for n, pattern in enumerate(("white", "black")):
        assert not capture.add(Assigned(shown_picture(pattern, (n + 1) * SECOND), pattern, "view-01"))
        assert len(load_shots(tmp_path / "shots.json")) == n + 1
    assert not capture.end_view("view-01")
    first = load_shots(tmp_path / "shots.json")[0]
    assert first.pattern == "white" and first.camera_id == "A" and first.lens_state == "35 mm" and first.captured_at_ns == SECOND
    assert first.world_from_tracker.position_m == (0.0, 0.0, 1.6)
    assert read_picture(tmp_path / first.picture).pixels.shape == (480, 720, 3)

    again = Capture(tmp_path, samples, "A")
    assert again.views == ["view-01"] and next(again.view_names()) == "view-02"
    # a picture is taken once more: it stands in for the other
    again.add(Assigned(shown_picture("white", 3 * SECOND), "white", "view-01"))
    assert [s.pattern for s in again.shots] == ["black", "white"] and len(list(tmp_path.glob("*.part"))) == 0
    # 3 cm on, in the middle of a view; without a sample; without an instant
    assert (
        "the camera has moved since the view was begun, 30 mm"
        in again.add(Assigned(shown_picture("black", 5 * SECOND), "black", "view-01"))[0]
    )
    assert (
        "the tracker said nothing within 0.1 s" in again.add(Assigned(shown_picture("white", 50 * SECOND), "white", "view-02"))[0]
    )
    assert "does not say when it was taken" in again.add(Assigned(shown_picture("black", 0), "black", "view-02"))[0]


def test_the_same_place_twice_is_said(tmp_path):
    capture = Capture(tmp_path)
    for view, shift in (("a", 0), ("b", 30), ("c", 1)):
        for pattern in ("white", "black"):
            capture.add(Assigned(shown_picture(pattern, 0, shift), pattern, view))
        said = capture.end_view(view)
        assert bool(said) == (view == "c"), said
    assert said == ["c: the same place as a: it says nothing new. Go somewhere else"]


SHOWN_WALL = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (3.2, 2.4), (64, 48))  # the pattern is that of any shape
SHOW = """
name = "test"
rate = "20"
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
tiles = [2, 2]
[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 24.0
[[place]]
name = "plane"
file = "not-baked-yet.safetensors"
field_from_stage = { scale = 0.2 }
[[output]]
uri = "images:sent"
"""


@pytest.fixture
def show_file(tmp_path) -> Path:
    (tmp_path / "show.toml").write_text(SHOW)
    return tmp_path / "show.toml"


def test_pictures_that_were_taken_by_hand_are_taken_up_with_a_track(show_file, tmp_path, capsys):
    """dots: every picture is a view. EXIF in local time without a zone would be this machine's; here it has one."""
    card = tmp_path / "card"
    card.mkdir()
    for n in range(3):
        (card / f"IMG_{n + 8}.jpg").write_bytes(jpeg(eight_bit(np.roll(photograph(), 30 * n, 1)), f"2026:03:01 12:00:0{n}"))
    begin_s = 1_772_362_800
    track = "".join(f"{begin_s - 3600 + t / 10:.1f} {0.5 * (t // 10 % 10)} 0 1.6 0 0 0 1\n" for t in range(-5, 40))
    (tmp_path / "camera.tum").write_text(track)
    command = ["calibrate", "capture", str(tmp_path / "cal"), "--show", str(show_file), "--from", str(card), "--series", "dots"]
    assert main([*command, "--track", str(tmp_path / "camera.tum"), "--offset-s", "-3600"]) == 1  # three views are too few
    said = capsys.readouterr().err
    assert "view-03 taken. Next view: " in said and "blurred" not in said
    assert "view-01: " in said and "dots" in said  # stripes are no dots, which is found at once
    shots = load_shots(tmp_path / "cal" / "shots.json")
    assert [(s.view, s.pattern) for s in shots] == [(f"view-0{n}", "dots") for n in (1, 2, 3)]
    assert [s.world_from_tracker.position_m[0] for s in shots] == pytest.approx([0.0, 0.5, 1.0])
    assert (tmp_path / "cal" / shots[0].picture).read_bytes() == (card / "IMG_8.jpg").read_bytes()
    # again: nothing is new
    main([*command, "--track", str(tmp_path / "camera.tum"), "--offset-s", "-3600"])
    assert len(load_shots(tmp_path / "cal" / "shots.json")) == 3
    with pytest.raises(SystemExit):
        main(["calibrate", "capture", str(tmp_path / "cal"), "--show", str(show_file)])


def test_a_video_of_patterns_gives_each_its_frame_and_the_tracker_s_sample(show_file, tmp_path, capsys):
    """3 s at 20 fps from 11:00:00 UTC on. white and black change places every second, on a clock that is 2 s ahead."""
    written_video(tmp_path / "walk.mov", 3.0, 20, "2026-03-01T11:00:00Z", lambda t: 30 if 1 <= t < 2 else 180)
    begin_ns = (1_772_362_800 + 2) * SECOND
    lines = [("pattern:white", 0), ("pattern:black", 1), ("pattern:white", 2), ("", 3)]
    (tmp_path / "shown.jsonl").write_text(
        "".join(f'{{"cue":"{cue}","index":{i},"from_ns":{begin_ns + i * SECOND}}}\n' for cue, i in lines)
    )
    track = "".join(f"{1_772_362_802 + t / 10:.1f} {t / 10:.1f} 0 1.6 0 0 0 1\n" for t in range(32))
    (tmp_path / "camera.tum").write_text(track)
    command = ["calibrate", "capture", str(tmp_path / "cal"), "--show", str(show_file), "--from", str(tmp_path / "walk.mov")]
    command += ["--series", "white", "black", "--shown", str(tmp_path / "shown.jsonl"), "--settle", "0.2"]
    assert main([*command, "--track", str(tmp_path / "camera.tum"), "--offset-s", "2"]) == 1
    said = capsys.readouterr().err
    shots = load_shots(tmp_path / "cal" / "shots.json")
    assert [(s.view, s.pattern) for s in shots] == [("view-01", "white"), ("view-01", "black"), ("view-02", "white")]
    # the middle of what is left of a second after 0.2 s is at 0.6 s
    assert [s.world_from_tracker.position_m[0] for s in shots] == pytest.approx([0.6, 1.6, 2.6], abs=0.026)
    assert "view-02: 1 of 2 patterns are missing" in said and "the camera moves: 200 mm" in said
    means = [read_picture(tmp_path / "cal" / s.picture).pixels.mean() for s in shots]
    assert means == pytest.approx([180, 30, 180], abs=4)


def test_a_view_of_dots_is_looked_at_and_what_it_shows_counts(show_file, tmp_path, capsys):
    """A flat wall of 96 × 48 LEDs, seen straight on from 4 m; where the camera stands is found by it."""
    surface = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (3.2, 1.6), (96, 48))
    stage = Stage(cut(surface, 1, 1), (0.0, 0.0, 1.6), STAGE.zone, ())
    corners = np.array([(80.0, 60.0), (400.0, 60.0), (400.0, 220.0), (80.0, 220.0)])  # 100 px a metre: f = 400 px of 480
    picture = Photographer({surface: corners}, (480, 320), k1=0.0).photographs(["dots"])["dots"]
    view = dots_view(picture, Shot("a.png", "a", "dots"), [surface])
    assert sum(len(m.led_px) for m in view.matches) > 60
    pose = roughly_at(stage, Lens(20.0, (24.0, 16.0)), view)
    # principal point (240, 160); the wall's middle at (240, 140), 20 px = 0.2 m above the axis
    assert pose.position_m == pytest.approx((0.0, 0.0, 1.4), abs=0.05)
    assert seen_in(stage, view, pose).patches["wall"].all()


def test_what_capture_cannot_do_is_said(show_file, tmp_path, capsys):
    common = ["calibrate", "capture", str(tmp_path / "cal"), "--show", str(show_file)]
    for words, told in (
        (["--from", str(tmp_path / "none")], "--from: expected a folder, a video file, or an address"),
        (["--from", str(tmp_path), "--camera", "Z"], "--camera: expected one of A"),
        (["--from", "rtsp://127.0.0.1:9/x"], "--drive: expected this, or one pattern"),
        (["--from", str(tmp_path), "--series", "plaid"], "name: expected white, black"),
    ):
        assert main([*common, *words]) == 2
        assert told in capsys.readouterr().err


def test_the_wall_is_driven_and_photographed_in_one_command(show_file, tmp_path):
    """Real processes: the server's loop and its stream, a camera that sees the tiles and streams video, a tracker over UDP."""
    tiles_port, tracker_port = free_port(), free_port(socket.SOCK_DGRAM)
    wall = f"stream://127.0.0.1:{tiles_port}"
    at = {(c, r): (100 + c * 32 * 4, 60 + r * 24 * 4) for c in range(2) for r in range(2)}
    is_over = threading.Event()
    sender, encode = open_sender(f"osc+udp://127.0.0.1:{tracker_port}"), open_encoder("osc")

    def track() -> None:
        while not is_over.is_set():
            for payload in encode(sample(time.time_ns(), 0.25)):
                sender.send(payload)
            time.sleep(0.02)

    tracker = threading.Thread(target=track, daemon=True)
    tracker.start()
    try:
        with wall_camera(wall, *(f"wall-{c}-{r}={x},{y}" for (c, r), (x, y) in at.items())) as camera:
            command = [sys.executable, "-m", "ledvolume", "calibrate", "capture", str(tmp_path / "cal"), "--show", str(show_file)]
            command += ["--from", camera, "--drive", "--output", wall, "--pause", "2", "--views", "2", "--settle", "0.6"]
            command += ["--series", "white", "black", "gray/x/1", "dots", "--tracker", f"osc+udp://127.0.0.1:{tracker_port}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)
    finally:
        is_over.set()
        tracker.join()
        sender.close()
    assert done.returncode == 1, done.stderr  # two views from one place are not enough, which is said
    assert "view-02: the same place as view-01" in done.stderr and "Next view: " in done.stderr, done.stderr
    shots = load_shots(tmp_path / "cal" / "shots.json")
    assert [(s.view, s.pattern) for s in shots] == [
        (view, name) for view in ("view-01", "view-02") for name in ("white", "black", "gray/x/1", "dots")
    ]
    shown = load_shown(tmp_path / "cal" / "shown.jsonl")
    for shot in shots:
        assert shot.world_from_tracker.position_m == pytest.approx((0.25, 0.0, 1.6), abs=1e-6)
        assert any(s.cue == f"pattern:{shot.pattern}" and s.from_ns <= shot.captured_at_ns < s.until_ns for s in shown)
        seen = picture_check.luminance(read_picture(tmp_path / "cal" / shot.picture).pixels)[60:252, 100:356]
        wanted = patterns.draw(WallTile("wall", SHOWN_WALL, (0, 0), (64, 48)), shot.pattern)[..., 0]
        middles = seen.reshape(48, 4, 64, 4)[:, 1:3, :, 1:3].mean((1, 3))
        assert ((middles > 0.4) == (wanted > 0.5)).mean() > 0.97, shot.pattern  # a few at edges that MPEG has washed


def test_patterns_are_shown_as_their_pictures_are_written_and_it_is_written_down_when(show_file, tmp_path):
    assert main(["calibrate", "patterns", str(show_file), "--series", "white", "dots", "--seconds-each", "0.3",
                 "--shown", str(tmp_path / "shown.jsonl")]) == 0  # fmt: skip
    assert (
        main(["calibrate", "patterns", str(show_file), "--series", "white", "dots", "--pictures", str(tmp_path / "pictures")])
        == 0
    )
    shown = load_shown(tmp_path / "shown.jsonl")
    assert [s.cue for s in shown] == ["pattern:white", "pattern:dots"]
    assert 0.25 * SECOND <= shown[0].until_ns - shown[0].from_ns <= 0.5 * SECOND
    sent = {frame.request.cue: frame for frame in saved_frames(tmp_path / "sent")}
    for number, name in enumerate(("white", "dots")):
        for tile, image in sent[f"pattern:{name}"].images.items():
            written = read_picture(tmp_path / "pictures" / f"{number:04d}_{name}" / f"{tile}.png").pixels
            assert np.array_equal(written, image)


@pytest.mark.parametrize("module", ["cv2", "scipy"])
def test_what_needs_the_extra_says_so_and_what_does_not_runs_without(module, tmp_path, show_file):
    """In a process of its own where the module cannot be imported."""
    program = f"import sys; sys.modules[{module!r}] = None; from ledvolume.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=Path(__file__).parent.parent
        )

    pictures = tmp_path / "pictures"
    light = run("calibrate", "patterns", str(show_file), "--series", "white", "--pictures", str(pictures))
    assert light.returncode == 0, light.stderr
    assert {p.name for p in pictures.rglob("*.png")} == {f"wall-{c}-{r}.png" for c in "01" for r in "01"} | {"wall.png"}
    assert run("calibrate", "--help").returncode == 0 and run("calibrate", "capture", "--help").returncode == 0
    if module == "cv2":
        heavy = run("calibrate", "bump", str(tmp_path), str(tmp_path))
        assert heavy.returncode == 2 and heavy.stderr.count("\n") == 1
        assert "needs cv2, of the extra `calibrate`: pip install 'ledvolume[calibrate]'" in heavy.stderr
