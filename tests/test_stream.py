"""The tile stream over real sockets: servers here, receivers in processes of their own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
import zmq.auth

from ledvolume.camera import Camera, Lens
from ledvolume.errors import OutputError, ProtocolError
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs import OUTPUTS, open_output, wire
from ledvolume.outputs.images import saved_frames
from ledvolume.outputs.receive import TileReceiver
from ledvolume.outputs.stream import StreamOutput
from ledvolume.outputs.tally import TileTally
from ledvolume.pose import Pose

LOOPBACK = "stream://127.0.0.1:0"
CAMERA = Camera(Pose(position_m=(0.5, -4.25, 1.5)), Lens(35.0, (36.0, 20.25)), "measured", 8_000_000)
PATIENCE_S = 10.0  # for what takes milliseconds on an idle machine

TILE_PROGRAM = """
import argparse, sys
from ledvolume.commands import tile
parser = argparse.ArgumentParser()
tile.arguments(parser)
sys.exit(tile.run(parser.parse_args()))
"""


def frame(index: int, images: dict[str, np.ndarray]) -> Frame:
    now_ns = time.time_ns()
    return Frame(FrameRequest(index, now_ns + 40_000_000, now_ns, CAMERA, "door"), images)


def noise(index: int, shape=(48, 64, 3), dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(index).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@contextmanager
def tile_command(uri: str, *arguments: str):
    """`ledvolume tile` as a process of its own; ended with SIGTERM if it still runs."""
    command = [sys.executable, "-c", TILE_PROGRAM, uri, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def send_until(output: StreamOutput, is_done, images_of, first_index: int = 0, rate: float = 100.0) -> int:
    """Send frames until `is_done()`; the index after the last. Fails after PATIENCE_S."""
    index, deadline_s = first_index, time.monotonic() + PATIENCE_S
    while not is_done():
        assert time.monotonic() < deadline_s, "it did not happen"
        output.send(frame(index, images_of(index)))
        index += 1
        time.sleep(1 / rate)
    return index


def listened(output: StreamOutput, tiles: int):
    return lambda: output.counters()["tiles_listened"] == tiles


FORMATS = {
    "rgb8": lambda index: noise(index),
    "rgb10": lambda index: noise(index, (48, 64), np.uint32),
    "rgb16": lambda index: noise(index, dtype=np.uint16),
}


def test_pixels_of_every_format_arrive_bit_exact_in_another_process(tmp_path):
    # large is above the size from which pixels are sent without a copy
    def images(index):
        atlas = noise(1000 + index, (2, 160, 200, 3))
        return {name: make(index) for name, make in FORMATS.items()} | {"large": atlas[1]}

    with (
        closing(StreamOutput(LOOPBACK)) as output,
        tile_command(output.uri, "--save-raw", str(tmp_path), "--every", "3", "--frames", "8", "--json") as process,
    ):
        send_until(output, lambda: process.poll() is not None, images, rate=50)
        summary = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert summary["crc_errors"] == 0
    assert {name: tile["pixel_format"] for name, tile in summary["tiles"].items()} == {
        "rgb8": "rgb8", "rgb10": "rgb10", "rgb16": "rgb16", "large": "rgb8",
    }  # fmt: skip
    frames = list(saved_frames(tmp_path))
    assert len(frames) >= 2
    for saved in frames:
        assert saved.request.index % 3 == 0
        assert saved.request.camera == CAMERA
        for name, image in images(saved.request.index).items():
            assert saved.images[name].dtype == image.dtype
            np.testing.assert_array_equal(saved.images[name], image)


def test_a_stopped_receiver_holds_neither_the_server_nor_the_others():
    def images(index):
        return {"stopped": noise(index, (512, 512, 3)), "running": noise(index, (64, 64, 3))}

    with (
        closing(StreamOutput(LOOPBACK)) as output,
        tile_command(output.uri, "--tile", "stopped", "--verify") as stopped,
        tile_command(output.uri, "--tile", "running", "--verify", "--json") as running,
    ):
        index = send_until(output, listened(output, 2), images)
        os.kill(stopped.pid, signal.SIGSTOP)
        took_s = []
        first = index
        for index in range(first, first + 150):  # 118 MB, far more than queue and socket buffers hold
            ready = frame(index, images(index))
            started_s = time.perf_counter()
            output.send(ready)
            took_s.append(time.perf_counter() - started_s)
            time.sleep(0.01)
        time.sleep(0.3)
        running.terminate()
        summary = json.loads(running.communicate(timeout=PATIENCE_S)[0])
    # A send that waited for the stopped receiver would not return at all; the bounds allow for a busy machine.
    assert np.percentile(took_s, 95) < 0.02
    assert max(took_s) < 0.5
    assert summary["tiles"]["running"]["frames"] >= 100
    assert summary["tiles"]["running"]["last_index"] == index


def test_a_receiver_that_was_stopped_comes_back_to_the_newest_and_knows_what_it_lost():
    with closing(StreamOutput(LOOPBACK)) as output, tile_command(output.uri, "--verify", "--json") as process:

        def images(index):
            return {"tile": noise(0, (512, 512, 3))}

        index = send_until(output, listened(output, 1), images)
        os.kill(process.pid, signal.SIGSTOP)
        first = index
        for index in range(first, first + 60):
            output.send(frame(index, images(index)))
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.5)
        first = index + 1
        for index in range(first, first + 10):
            output.send(frame(index, images(index)))
            time.sleep(0.02)
        time.sleep(0.3)
        process.terminate()
        tile = json.loads(process.communicate(timeout=PATIENCE_S)[0])["tiles"]["tile"]
    assert tile["last_index"] == index
    assert tile["lost"] > 0
    assert tile["frames"] + tile["lost"] == tile["last_index"] - tile["first_index"] + 1


class FlippingProxy:
    """Relays TCP both ways; what the server sends has `find` replaced by `replacement`, of equal length."""

    def __init__(self, server_port: int, find: bytes, replacement: bytes):
        self._server_port, self._find, self._replacement = server_port, find, replacement
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", self._server_port))
        self._sockets += [client, server]
        threading.Thread(target=self._relay, args=(client, server, b""), daemon=True).start()
        self._relay(server, client, self._find)

    def _relay(self, source, target, find):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data.replace(find, self._replacement) if find else data)
        except OSError:
            pass

    def close(self):
        for each in self._sockets:
            each.close()


def test_a_flipped_bit_on_the_way_is_a_crc_error_and_not_a_picture():
    mark, flipped = b"exactly these 24 bytes..", b"exactly these 24 bytes./"

    def images(index):
        image = noise(index)
        if index % 2:
            image.reshape(-1)[5000:5024] = np.frombuffer(mark, np.uint8)
        return {"tile": image}

    with closing(StreamOutput(LOOPBACK)) as output:
        proxy = FlippingProxy(int(output.uri.rpartition(":")[2]), mark, flipped)
        with closing(proxy), closing(TileReceiver(f"stream://127.0.0.1:{proxy.port}", ["tile"])) as receiver:
            received = []
            send_until(output, lambda: receiver.rejected["crc"] >= 5 or received.extend(receiver.receive(0)), images)
    assert set(receiver.rejected) == {"crc"}
    assert len(received) >= 4
    for tile in received:
        np.testing.assert_array_equal(tile.pixels, images(tile.header.request.index)["tile"])


def test_a_late_joiner_starts_at_the_frame_of_now():
    with closing(StreamOutput(LOOPBACK)) as output:
        for index in range(20):
            output.send(frame(index, {"tile": noise(index)}))
        with closing(TileReceiver(output.uri, ["tile"])) as receiver:
            received = []
            send_until(
                output, lambda: received.extend(receiver.receive(0)) or len(received) > 5,
                lambda index: {"tile": noise(index)}, first_index=20,
            )  # fmt: skip
    indices = [tile.header.request.index for tile in received]
    assert indices[0] >= 20
    assert indices == list(range(indices[0], indices[0] + len(indices)))


def test_a_receiver_survives_the_restart_of_the_server():
    output = StreamOutput(LOOPBACK)
    uri = output.uri
    with closing(TileReceiver(uri, ["tile"])) as receiver:
        tally = TileTally()

        def has(frames):
            def is_done():
                for tile in receiver.receive(0):
                    tally.add(tile)
                return tally.frames >= frames

            return is_done

        index = send_until(output, has(5), lambda index: {"tile": noise(index)})
        output.close()
        before = tally.frames
        with closing(StreamOutput(uri)) as output:
            send_until(output, has(before + 5), lambda index: {"tile": noise(index)}, first_index=index)
    assert tally.restarts == 1


def test_a_receiver_of_one_tile_is_not_sent_those_whose_names_begin_alike():
    images = {"wall.1": noise(1), "wall.10": noise(10), "wall.2": noise(2)}
    with closing(StreamOutput(LOOPBACK)) as output, closing(TileReceiver(output.uri, ["wall.1"])) as receiver:
        send_until(output, listened(output, 1), lambda _: images)
        before = output.counters()
        output.send(frame(1000, images))
        after = output.counters()
        names = {tile.header.tile for tile in receiver.receive(1.0)}
    assert names == {"wall.1"}
    assert after["messages"] - before["messages"] == 1
    assert after["bytes"] - before["bytes"] == 48 * 64 * 3


def test_with_no_receiver_nothing_is_sent():
    with closing(StreamOutput(LOOPBACK)) as output:
        output.send(frame(0, {"tile": noise(0)}))
        assert output.counters() == {"frames": 1, "messages": 0, "bytes": 0, "tiles_listened": 0}


def test_a_tile_may_change_its_format_between_frames():
    with closing(StreamOutput(LOOPBACK)) as output, closing(TileReceiver(output.uri)) as receiver:
        send_until(output, listened(output, 1), lambda index: {"tile": FORMATS["rgb8"](index)})
        receiver.receive(1.0)
        output.send(frame(5000, {"tile": FORMATS["rgb16"](5000)}))
        deadline_s = time.monotonic() + PATIENCE_S
        last = None
        while (last is None or last.header.request.index != 5000) and time.monotonic() < deadline_s:
            last = (receiver.receive(0.1) or [last])[-1]
    assert last.header.pixel_format == "rgb16"
    np.testing.assert_array_equal(last.pixels, FORMATS["rgb16"](5000))


def test_the_receiver_in_the_protocol_document_works(tmp_path):
    document = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
    program = re.search(r"```python\n(import json.*?)```", document, re.S).group(1)
    assert len([line for line in program.splitlines() if line.strip()]) <= 30
    (tmp_path / "receiver.py").write_text(program)
    # By hand: each channel constant, so the mean is the mean of three numbers.
    images = {
        "wall.1": np.full((4, 6, 3), (10, 20, 60), np.uint8),  # 30
        "wall.2": np.full((2, 3), 1023 | 512 << 10 | 1 << 20, np.uint32),  # 1536 / 3 = 512
        "wall.3": np.full((5, 1, 3), (0, 300, 65535), np.uint16),  # 65835 / 3 = 21945
    }
    expected = {"wall.1": "(4, 6, 3) mean 30.0", "wall.2": "(2, 3, 3) mean 512.0", "wall.3": "(5, 1, 3) mean 21945.0"}
    with closing(StreamOutput(LOOPBACK)) as output:
        command = [sys.executable, str(tmp_path / "receiver.py"), output.uri.replace("stream", "tcp")]
        processes = {name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in images}
        try:
            first = send_until(output, listened(output, 3), lambda _: images)
            for index in range(first, first + 5):
                output.send(frame(index, images))
                time.sleep(0.02)
            for name, process in processes.items():
                line = process.stdout.readline().strip()
                assert re.fullmatch(r"frame \d+ " + re.escape(f"{expected[name]} eye [0.5, -4.25, 1.5]"), line)
        finally:
            for process in processes.values():
                process.kill()
                process.communicate()


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]", "192.0.2.7", "eth0"])
def test_listening_beyond_loopback_without_keys_is_refused_with_what_to_do(host):
    with pytest.raises(OutputError, match="secret_key_file=.*insecure=yes"):
        StreamOutput(f"stream://{host}:0")


def test_listening_beyond_loopback_in_the_clear_has_to_be_asked_for():
    with closing(StreamOutput("stream://*:0?insecure=yes")) as output:
        assert output.uri.startswith("stream://0.0.0.0:")


def test_curve_receivers_need_the_servers_key(tmp_path):
    zmq.auth.create_certificates(tmp_path, "stream")
    zmq.auth.create_certificates(tmp_path, "other")
    with pytest.raises(OutputError, match="stream.key: has no secret key"):
        StreamOutput("stream://*:0?secret_key_file=stream.key", tmp_path)
    images = {"tile": noise(3)}
    with closing(StreamOutput("stream://*:0?secret_key_file=stream.key_secret", tmp_path)) as output:
        uri = output.uri.replace("0.0.0.0", "127.0.0.1")
        with (
            closing(TileReceiver(f"{uri}?server_key_file=stream.key", ["tile"], tmp_path)) as trusted,
            closing(TileReceiver(f"{uri}?server_key_file=other.key", ["tile"], tmp_path)) as mistaken,
            closing(TileReceiver(uri, ["tile"])) as keyless,
        ):
            received = []
            send_until(output, lambda: received.extend(trusted.receive(0)) or len(received) > 20, lambda _: images)
            assert mistaken.receive(0.3) == []
            assert keyless.receive(0.3) == []
    np.testing.assert_array_equal(received[-1].pixels, images["tile"])


@pytest.mark.parametrize(
    "uri, words",
    [
        ("stream://127.0.0.1:0?key=x", "unknown option.*key.*known here.*secret_key_file"),
        ("stream://127.0.0.1:0?queue_frames=0", "queue_frames.*1 to 100.*'0'"),
        ("stream://127.0.0.1:0?secret_key_file=absent", "absent.*cannot read the key"),
        ("stream://127.0.0.1:99999", "expected stream://HOST:PORT"),
        ("stream://127.0.0.1:5560/tile", "expected stream://HOST:PORT"),
        ("streem://127.0.0.1:5560", "unknown kind of output 'streem'.*images.*stream"),
    ],
)
def test_a_wrong_address_says_what_is_wrong(uri, words):
    with pytest.raises(OutputError, match=words):
        open_output(uri)


def test_a_taken_port_is_said():
    with closing(StreamOutput(LOOPBACK)) as output, pytest.raises(OutputError, match="another server"):
        StreamOutput(output.uri)


@pytest.mark.parametrize(
    "image",
    [noise(0).astype(np.float32), noise(0)[:, ::2], noise(0, (4, 4, 4)), noise(0, (0, 4, 3)), noise(0).astype(">u2")],
    ids=["float", "strided", "rgba", "empty", "big-endian"],
)
def test_pixels_without_a_format_are_refused_and_do_not_break_the_next_frame(image):
    with closing(StreamOutput(LOOPBACK)) as output, closing(TileReceiver(output.uri)) as receiver:
        with pytest.raises(OutputError, match="expected contiguous"):
            output.send(frame(0, {"tile": image}))
        received = []
        send_until(output, lambda: received.extend(receiver.receive(0)) or received, lambda i: {"tile": noise(i)})
    assert receiver.rejected == {}


def test_tile_verifies_and_sums_up_on_sigterm():
    images = {"left": noise(0), "right": noise(1)}
    with closing(StreamOutput(LOOPBACK)) as output:
        arguments = ["--tile", "left", "--tile", "right", "--verify", "--json"]
        with tile_command(output.uri, *arguments) as process:
            first = send_until(output, listened(output, 2), lambda _: images)
            for index in (first, first + 1, first + 5, first + 6):  # the server was late for three
                output.send(frame(index, images))
                time.sleep(0.05)
            process.terminate()
            summary = json.loads(process.communicate(timeout=PATIENCE_S)[0])
    assert process.returncode == 0
    assert summary["crc_errors"] == 0 and summary["lost"] == 0
    for tile in summary["tiles"].values():
        assert tile["skipped"] == 3
        assert tile["last_index"] == index
        assert tile["resolution_px"] == [64, 48]
        # decided just before it was sent, to be shown 40 ms after
        assert 0 < tile["sent_to_received_ms"]["p50"] <= tile["decided_to_received_ms"]["p50"] < 1000
        assert abs(tile["decided_to_received_ms"]["p50"] - 40 - tile["present_to_received_ms"]["p50"]) < 0.01


def test_tile_without_its_frames_fails_and_says_where_to_look():
    with tile_command("stream://127.0.0.1:9", "--tile", "left", "--verify", "--seconds", "3.5") as process:
        out, err = process.communicate(timeout=3 * PATIENCE_S)
    assert process.returncode == 1
    assert "nothing received" in out
    assert "Is the server running" in err and "left" in err


def received(sequence: int, index: int, started_at_ns: int = 0) -> wire.ReceivedTile:
    request = FrameRequest(index, 1_000_000_000, 960_000_000, CAMERA, "door")
    header = wire.Header(wire.VERSION, started_at_ns, sequence, 980_000_000, request, "tile", (1, 1), "rgb8", 0)
    return wire.ReceivedTile(header, np.zeros((1, 1, 3), np.uint8), 990_000_000)


@pytest.mark.parametrize(
    "seen, lost, skipped, restarts",
    [
        ([(0, 0), (1, 1), (2, 2)], 0, 0, 0),
        ([(7, 90), (8, 91)], 0, 0, 0),  # joined late
        ([(0, 0), (3, 3)], 2, 0, 0),  # 1 and 2 did not arrive
        ([(0, 0), (1, 4)], 0, 3, 0),  # 1, 2, 3 were never rendered
        ([(0, 0), (2, 5)], 1, 3, 0),  # five ticks, two sent, one of them lost
        ([(8, 8), (0, 20, 1), (1, 21, 1)], 0, 0, 1),  # a new server
        ([(8, 8), (12, 40, 1)], 0, 0, 1),  # a new server, joined late
    ],
    ids=["all", "late join", "lost", "skipped", "both", "restart", "restart and late join"],
)
def test_gaps_are_told_apart(seen, lost, skipped, restarts):
    tally = TileTally()
    for each in seen:
        tally.add(received(*each))
    assert (tally.frames, tally.lost, tally.skipped, tally.restarts) == (len(seen), lost, skipped, restarts)


def test_ages_are_from_the_stamps_of_the_header():
    tally = TileTally()
    tally.add(received(0, 0))  # decided 960, sent 980, received 990, present 1000 ms
    assert tally.ms("decided_to_received") == {"p50": 30.0, "p99": 30.0}
    assert tally.ms("sent_to_received") == {"p50": 10.0, "p99": 10.0}
    assert tally.ms("present_to_received") == {"p50": -10.0, "p99": -10.0}


def message(image: np.ndarray) -> list[bytes]:
    shared = wire.frame_piece(4, 5, 6, frame(7, {}).request)
    header = wire.header(shared, wire.tile_piece("left", image), image)
    return [wire.topic("left"), header, image.tobytes()]


@pytest.mark.parametrize("name", FORMATS)
def test_the_header_is_plain_json_and_its_crc_is_zlibs(name):
    image = FORMATS[name](7)
    header = json.loads(message(image)[1])
    assert [header[key] for key in ("stream", "started_at_ns", "sequence", "sent_at_ns")] == [1, 4, 5, 6]
    assert header["tile"] == "left" and header["resolution_px"] == [64, 48] and header["pixel_format"] == name
    assert header["crc32"] == zlib.crc32(image.tobytes())
    assert header["request"]["camera"]["stage_from_camera"]["position_m"] == [0.5, -4.25, 1.5]


def changed(header: bytes, **fields) -> bytes:
    return json.dumps({**json.loads(header), **fields}).encode()


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda topic, header, pixels: [topic, header], "parts"),
        (lambda topic, header, pixels: [topic, header[:-1], pixels], "header"),
        (lambda topic, header, pixels: [topic, b"\xff" + header, pixels], "header"),
        (lambda topic, header, pixels: [topic, changed(header, pixel_format="yuv"), pixels], "header"),
        (lambda topic, header, pixels: [topic, changed(header, stream=2), pixels], "version"),
        (lambda topic, header, pixels: [topic, header, pixels[:-1]], "size"),
        (lambda topic, header, pixels: [topic, changed(header, resolution_px=[-64, -48]), pixels], "size"),
        (lambda topic, header, pixels: [topic, changed(header, resolution_px=[0, 0]), b""], "size"),
        (lambda topic, header, pixels: [topic, header, pixels[:-1] + bytes([pixels[-1] ^ 1])], "crc"),
    ],
)
def test_a_damaged_message_is_refused_by_reason(damage, reason):
    with pytest.raises(ProtocolError) as refused:
        wire.received_tile(damage(*message(noise(0))), 0)
    assert refused.value.reason == reason


def test_whatever_comes_is_a_tile_or_a_protocol_error():
    random = np.random.default_rng(8)
    good = message(noise(0, (4, 4, 3)))
    for _ in range(3000):
        parts = [bytearray(part) for part in good]
        part = parts[random.integers(1, 3)]
        for _ in range(random.integers(1, 4)):
            part[random.integers(len(part))] = random.integers(256)
        try:
            tile = wire.received_tile(parts, 0)
        except ProtocolError:
            continue
        assert tile.pixels.shape == (4, 4, 3) or tile.pixels.size == 48


def test_a_later_version_may_add_keys():
    topic, header, pixels = message(noise(0))
    tile = wire.received_tile([topic, changed(header, new_key=[1, 2]), pixels], 5)
    assert tile.received_at_ns == 5


def test_received_pixels_cannot_be_changed_by_accident():
    tile = wire.received_tile([bytearray(part) for part in message(noise(0))], 0)
    with pytest.raises(ValueError, match="read-only"):
        tile.pixels[0, 0] = 0


@pytest.mark.parametrize("name", ["", "two\nlines"])
def test_a_tile_name_that_cannot_be_a_topic_is_refused(name):
    with pytest.raises(OutputError, match="tile name"):
        wire.topic(name)


def test_the_header_repeats_the_request_exactly():
    pose = Pose((0.1 + 0.2, 1 / 3, -0.7, 1e-9), (1e-17, -123456.789, 3.3333333333333335))
    camera = Camera(pose, Lens(35.0, (36.0, 20.25), focus_distance_m=None), "predicted", 3, "b")
    request = FrameRequest(2**40, 2**62 + 1, 2**62, camera, "dämmerung", "cue 7", "preview")
    image = noise(0)
    header = wire.header(wire.frame_piece(0, 0, 0, request), wire.tile_piece("t", image), image)
    assert msgspec.json.decode(header, type=wire.Header).request == request


def test_every_output_has_the_three_methods_of_the_loop():
    for output in OUTPUTS.values():
        assert all(callable(getattr(output, name)) for name in ("send", "counters", "close"))
