"""Takes of shows: what `serve --record` writes is what happened, and what differs is found and named."""

import json
import resource
import signal
import struct
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from scenes import plane_scene
from test_server import SHOW, status_when

from ledvolume import server
from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError, SceneError
from ledvolume.offline import Rendered
from ledvolume.outputs.wire import crc32
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import open_encoder
from ledvolume.recording import TakeWriter
from ledvolume.scenes import bricks
from ledvolume.sources import Datagram, open_sender
from ledvolume.take import FRAMES, FrameRecord, Take
from ledvolume.take_check import Comparison, input_differences

SOURCES = """
[[source]]
uri = "freed+udp://127.0.0.1:0"
cameras = { "1" = "A" }
"""
PATIENCE_S = 60
Y_0_1 = struct.pack(">f", 0.1)


@pytest.fixture(scope="module")
def show_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    bricks.save(folder / "plane.safetensors", plane_scene(depth=0))
    (folder / "show.toml").write_text(SHOW + SOURCES)
    return folder / "show.toml"


@contextmanager
def serving(show_file: Path, folder: Path, *more: str, **options):
    """A server that records, with its status once its sockets are open."""
    arguments = [str(show_file), "--record", str(folder / "take.mcap"), "--status", str(folder / "status.json"), *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "ledvolume", "serve", *arguments], stderr=subprocess.PIPE, text=True, **options
    )
    try:
        yield process, status_when(folder / "status.json", process, lambda status: True)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def drive(process, status: dict, until) -> None:
    """A moving camera over OSC, junk, and from the second source the same camera now and then, until `until()`."""
    osc, freed = open_encoder("osc", "ledvolume"), open_encoder("freed")
    with (
        closing(open_sender(status["sources"][0]["uri"])) as osc_sender,
        closing(open_sender(status["sources"][1]["uri"])) as freed_sender,
    ):
        deadline_s, step = time.monotonic() + PATIENCE_S, 0
        while not until():
            assert time.monotonic() < deadline_s and process.poll() in (None, 0), process.communicate()
            pose = Pose(pan_tilt_roll(0.002 * step, 0.0, 0.0), (0.3 * (step % 200) / 200, 0.1, 1.7))
            now_ns = time.time_ns()
            for payload in osc(CameraSample("A", now_ns, now_ns, pose)):
                osc_sender.send(payload)
            if step % 7 == 0:
                osc_sender.send(b"/nonsense")
            if step % 50 == 0:
                for payload in freed(CameraSample("1", now_ns, now_ns, pose)):
                    freed_sender.send(payload)
            step += 1
            time.sleep(0.008)


@pytest.fixture(scope="module")
def taken(show_file, tmp_path_factory) -> tuple[Path, dict]:
    """A take of three seconds, and the server's summary."""
    folder = tmp_path_factory.mktemp("take")
    with serving(show_file, folder, "--seconds", "3", "--slate", "12A take 3") as (process, status):
        ends_s = time.monotonic() + 4
        drive(process, status, lambda: time.monotonic() > ends_s)
        _, words = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, words
    return folder / "take.mcap", json.loads((folder / "status.json").read_text())


def altered(take: Path, folder: Path, found: bytes, instead: bytes) -> Path:
    """A copy of the take with one occurrence of some bytes replaced."""
    data = take.read_bytes()
    assert data.count(found) == 1 and len(found) == len(instead)
    (folder / "altered.mcap").write_bytes(data.replace(found, instead))
    return folder / "altered.mcap"


def test_a_take_holds_all_that_happened(taken, show_file):
    path, summary = taken
    take = Take(path)
    frames = list(take.frames())
    assert len(frames) == summary["frames"] == summary["frames_recorded"] > 40
    # what came for a frame that was not made any more, at the end, is not in it
    assert summary["datagrams"] - 40 < sum(len(frame.datagrams) for frame in frames) <= summary["datagrams"]
    assert {number for frame in frames for number, _ in frame.datagrams} == {0, 1}
    assert [source.protocol for source in take.sources] == ["osc", "freed"]
    assert take.facts["slate"] == "12A take 3" and take.toml == show_file.read_bytes() and take.show_file == show_file
    assert sum(frame.record.is_late for frame in frames) == summary["frames_late"]
    assert not take.trouble and take.lost_bytes == 0
    assert 0 < summary["recording_ms"]["p50"] < summary["loop_ms"]["p99"]


def test_the_datagrams_of_a_take_give_its_requests(taken):
    take = Take(taken[0])
    assert list(input_differences(take, take.show())) == []


def test_the_requests_of_a_take_give_its_pictures(taken):
    take = Take(taken[0])
    show = take.show()
    names, comparison = take.tiles, Comparison(take)
    assert names == [tile.name for tile in show.stage.tiles]
    renderer = server.open_renderer(show)
    with closing_context(renderer):
        frames = list(take.frames())
        for frame in reversed(frames):  # in another order than live: what is kept between frames changes nothing
            sums = {name: crc32(image) for name, image in renderer.render(frame.record.request).images.items()}
            index = frame.record.request.index
            assert comparison.difference(Rendered(index, sums, [], 0)) is None
        # and what differs is told
        difference = comparison.difference(Rendered(index, sums | {names[2]: 1}, [], 0))
        assert difference.stage == "picture" and f"tile {names[2]}: CRC-32 00000001" in str(difference)


@contextmanager
def closing_context(renderer):
    try:
        yield
    finally:
        renderer.context.release()


@pytest.mark.parametrize("what", ["a pose", "junk", "a checksum"])
def test_one_bit_of_one_datagram_is_found_and_named(taken, tmp_path, what):
    """Also in a datagram that does not move the camera: the sums of all that came are in the take."""
    take = Take(taken[0])
    frames = list(take.frames())[10:]
    wanted = {"a pose": b"/ledvolume/camera", "junk": b"/nonsense", "a checksum": b"\xd1"}[what]
    chosen, place, datagram = next(
        (frame, place, datagram)
        for frame in frames
        for place, (_, datagram) in reversed([*enumerate(frame.datagrams, 1)])
        if datagram.payload.startswith(wanted)
    )
    # the MCAP message of this datagram: log and publish time before its bytes, so that just this one is found
    stamp = datagram.received_at_ns.to_bytes(8, "little") * 2
    flipped = bytearray(datagram.payload)
    flipped[datagram.payload.index(Y_0_1) + 1 if what == "a pose" else -2] ^= 0x10  # a pose: y becomes 0.094 m
    bit = bytes(flipped)
    copy = Take(altered(taken[0], tmp_path, stamp + datagram.payload, stamp + bit))
    first, *more = input_differences(copy, copy.show())
    assert (first.index, first.stage) == (chosen.record.request.index, "datagrams")
    assert f"number {place} of {len(chosen.datagrams)}, from {datagram.source}" in first.what
    # a pose that is another one, or is not there any more, is seen in the camera as well
    assert any(difference.stage == "camera" for difference in more) == (what != "junk")


def test_a_server_that_is_killed_leaves_a_take_up_to_its_last_frames(show_file, tmp_path):
    with serving(show_file, tmp_path) as (process, status):
        began_s = time.monotonic()
        drive(process, status, lambda: time.monotonic() > began_s + 3)
        told = json.loads((tmp_path / "status.json").read_text())
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
    take = Take(tmp_path / "take.mcap")
    frames = list(take.frames())
    assert take.trouble == "not closed by its writer" and len(frames) >= told["frames"]
    assert time.time_ns() - frames[-1].record.sent_at_ns < 2_000_000_000
    assert list(input_differences(take, take.show())) == []


def test_a_full_disk_ends_the_recording_and_not_the_show(show_file, tmp_path):
    def no_more_than_32_kb():
        resource.setrlimit(resource.RLIMIT_FSIZE, (32_000, 32_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    with serving(show_file, tmp_path, "--seconds", "3", preexec_fn=no_more_than_32_kb) as (process, status):
        ends_s = time.monotonic() + 4
        drive(process, status, lambda: time.monotonic() > ends_s)
        _, words = process.communicate(timeout=PATIENCE_S)
    summary = json.loads((tmp_path / "status.json").read_text())
    assert process.returncode == 0
    assert words.count("RECORDING STOPPED after") == 1 and "File too large" in summary["recording_stopped"]
    assert 0 < summary["frames_recorded"] < summary["frames"]
    assert len(list(Take(tmp_path / "take.mcap").frames())) == summary["frames_recorded"]


def test_what_is_no_take_of_a_show_is_refused(tmp_path, taken):
    with closing(TakeWriter(tmp_path / "other.mcap")) as writer:
        writer.datagram(writer.source("osc+udp://127.0.0.1:9000", "osc"), Datagram("", b"/x", 1))
    with pytest.raises(ConfigError, match="expected a take of a show"):
        Take(tmp_path / "other.mcap")
    copy = altered(taken[0], tmp_path, b"\x06\x00\x00\x00format\x01\x00\x00\x001", b"\x06\x00\x00\x00format\x01\x00\x00\x009")
    with pytest.raises(ConfigError, match="take: format: expected 1.*got '9'"):
        Take(copy)
    # whoever reads it: what its datagrams mean is not known either
    for command in (["replay", str(copy), "--out", str(tmp_path / "out")], ["convert", str(copy), str(tmp_path / "a.csv")]):
        done = ledvolume(*command)
        assert done.returncode == 2 and "take: format: expected 1" in done.stderr and "got '9'" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize("size", [300, 600])
def test_a_take_that_was_cut_before_its_show_is_called_cut(tmp_path, taken, size):
    (tmp_path / "cut.mcap").write_bytes(taken[0].read_bytes()[:size])
    with pytest.raises(ConfigError, match="expected a (show in it|take of a show).*got 'a file that is cut off in a record'"):
        Take(tmp_path / "cut.mcap")


def test_a_better_replay_says_that_a_scene_is_another_now(taken, tmp_path, show_file):
    """It renders what is there: replaying with a finer bake is one of the things that it is for."""
    words = ["replay", str(taken[0]), "--format", "none", "--frames", "3-3", "--out"]
    done = ledvolume(*words, str(tmp_path / "same"))
    assert done.returncode == 0 and "another scene" not in done.stderr, done.stderr
    scene = show_file.parent / "plane.safetensors"
    before = scene.read_bytes()
    try:
        bricks.save(scene, plane_scene(depth=1))
        done = ledvolume(*words, str(tmp_path / "other"))
        assert done.returncode == 0 and f"warning: {scene}: another scene than the one that" in done.stderr, done.stderr
        done = ledvolume(*words, str(tmp_path / "named"), "--scene", f"plane={scene}")
        assert done.returncode == 0 and "another scene" not in done.stderr, done.stderr
    finally:
        scene.write_bytes(before)


def test_a_scene_that_is_missing_or_another_is_named(taken, tmp_path, show_file):
    take = Take(taken[0])
    with pytest.raises(SceneError, match=r"the scene of plane is not at .*nowhere.safetensors: name it with --scene plane=FILE"):
        take.show({"plane": str(tmp_path / "nowhere.safetensors")})
    bricks.save(tmp_path / "other.safetensors", plane_scene(depth=1))
    with pytest.raises(SceneError, match="another scene than the one that .* was made with: expected sha256"):
        take.show({"plane": str(tmp_path / "other.safetensors")})
    (tmp_path / "moved.safetensors").write_bytes((show_file.parent / "plane.safetensors").read_bytes())
    assert take.show({"plane": str(tmp_path / "moved.safetensors")}).places["plane"].file.name == "moved.safetensors"


def test_a_record_that_is_no_record_is_an_error_in_words(tmp_path, taken):
    frame = next(Take(taken[0]).frames())
    data = msgspec.msgpack.encode(frame.record)
    assert msgspec.msgpack.decode(data, type=FrameRecord) == frame.record
    copy = altered(taken[0], tmp_path, data, b"\xc1" + data[1:])
    with pytest.raises(ConfigError, match=f"{FRAMES}: expected records of frames"):
        list(Take(copy).frames())


# ---- takes, inspect


def ledvolume(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "ledvolume", *arguments], capture_output=True, text=True, timeout=PATIENCE_S)


def test_takes_are_listed_also_those_that_were_cut_off(taken, tmp_path):
    whole, summary = taken
    data = whole.read_bytes()
    (tmp_path / "day 1").mkdir()
    (tmp_path / "day 1" / "whole.mcap").write_bytes(data)
    (tmp_path / "half.mcap").write_bytes(data[: len(data) // 2])
    listed = ledvolume("takes", str(tmp_path), "--json")
    assert listed.returncode == 0, listed.stderr
    first, second = (json.loads(line) for line in listed.stdout.splitlines())
    assert first["slate"] == second["slate"] == "12A take 3"
    assert (first["frames"], first["frames_late"]) == (summary["frames"], summary["frames_late"])
    assert first["seconds"] == pytest.approx((summary["frames"] + summary["frames_skipped"]) / 20)
    # now and then the half ends with a record
    assert second["trouble"] in ("cut off in a record", "not closed by its writer") and 0 < second["frames"] < first["frames"]
    table = ledvolume("takes", str(tmp_path)).stdout
    assert "whole.mcap" in table and "12A take 3" in table and "cut off in a record" in table


def test_a_file_that_is_no_take_is_told_and_the_others_are_listed(taken, tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"not a take")
    (tmp_path / "b.mcap").write_bytes(taken[0].read_bytes())
    listed = ledvolume("takes", str(tmp_path))
    assert listed.returncode == 1 and "a.mcap: take: expected an MCAP file" in listed.stderr and "b.mcap" in listed.stdout


def test_a_take_is_drawn(taken, tmp_path):
    from PIL import Image

    done = ledvolume("inspect", str(taken[0]), "--plot", str(tmp_path / "look.png"))
    assert done.returncode == 0, done.stderr
    assert "slate            12A take 3" in done.stdout and "source 1         freed+udp" in done.stdout
    colours = Image.open(tmp_path / "look.png").convert("RGB").getcolors(1 << 20)
    shades = {colour: count for count, colour in colours}
    assert shades.get((0x2E, 0x6F, 0xBB), 0) > 200, "the track of predicted poses"
    assert shades.get((0x22, 0x22, 0x3B), 0) > 500, "the wall"


# ---- replay --as-it-happened


def test_a_take_is_rendered_again_as_it_happened_and_checked(taken, tmp_path):
    path, summary = taken
    done = ledvolume("replay", str(path), "--as-it-happened", "--check", "--out", str(tmp_path / "again"), "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{summary['frames']} frames, {summary['frames'] * 4} tiles: all as it was\n"
    # the pictures are those that were sent: their sums are those in the take
    from ledvolume.outputs.images import saved_image

    for frame in list(Take(path).frames())[::20]:
        for name, was in zip(Take(path).tiles, frame.record.tiles):
            file = tmp_path / "again" / name / f"{frame.record.request.index:08d}.png"
            assert crc32(saved_image(file, "rgb8")) == was


def test_a_check_names_the_first_tile_that_differs_and_its_frame(taken, tmp_path):
    frames = list(Take(taken[0]).frames())
    record = frames[20].record
    tiles = [*record.tiles[:3], record.tiles[3] ^ 1]
    data = msgspec.msgpack.encode(record)
    other = msgspec.msgpack.encode(msgspec.structs.replace(record, tiles=tiles))
    copy = altered(taken[0], tmp_path, data, other)
    done = ledvolume("replay", str(copy), "--as-it-happened", "--check")
    assert done.returncode == 1, done.stderr
    told = f"DIFFERENT: frame {record.request.index}, picture: tile wall-1-1: CRC-32 {record.tiles[3]:08x}, was {tiles[3]:08x}; "
    assert done.stdout.startswith(f"{told}the take was made on llvmpipe")


def test_a_check_names_the_datagram_that_differs(taken, tmp_path):
    frame = next(frame for frame in list(Take(taken[0]).frames())[10:] if len(frame.datagrams) > 2)
    [*_, (_, datagram)] = frame.datagrams
    stamp = datagram.received_at_ns.to_bytes(8, "little") * 2
    bit = datagram.payload[:-1] + bytes([datagram.payload[-1] ^ 1])
    copy = altered(taken[0], tmp_path, stamp + datagram.payload, stamp + bit)
    done = ledvolume("replay", str(copy), "--as-it-happened", "--check")
    assert done.returncode == 1
    assert done.stdout.startswith(f"DIFFERENT: frame {frame.record.request.index}, datagrams: number {len(frame.datagrams)} of")


@pytest.mark.parametrize(
    ("options", "words"),
    {
        "a check of another replay": (["--check"], "--check: expected --as-it-happened with it"),
        "no folder": (["--as-it-happened"], "--out: expected a folder for the pictures"),
        "another camera": (["--as-it-happened", "--check", "--pan", "3"], "--pan: expected nothing: --as-it-happened takes"),
        "another show": (["--as-it-happened", "--check", "--show", "x.toml"], "--show: expected nothing"),
        "the camera's view": (["--as-it-happened", "--check", "--what", "view"], "--check: expected tiles, walls, through"),
        "a scene that is not there": (
            ["--as-it-happened", "--check", "--scene", "plane=/nowhere"],
            "the scene of plane is not at",
        ),
    }.values(),
)
def test_what_makes_no_sense_as_it_happened_is_refused(taken, options, words):
    done = ledvolume("replay", str(taken[0]), *options)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_a_take_is_replayed_better_with_the_show_that_lies_in_it(taken, tmp_path):
    done = ledvolume("replay", str(taken[0]), "--out", str(tmp_path / "better"), "--format", "none", "--rate", "24")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "better" / "frames.jsonl").read_text().splitlines()]
    assert len(lines) > 60 and all(len(line["tile_hashes"]) == 4 for line in lines)
