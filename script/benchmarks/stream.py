"""What sending costs: Python's time per frame at 4 and 256 tiles, and MB/s of a 1080p tile against bare ZMQ and memcpy.

    python script/benchmarks/stream.py

A receiver process of its own takes everything, as on a wall.
"""

import subprocess
import sys
import time

import numpy as np
import zmq

from ledvolume.camera import Camera, Lens
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs.stream import StreamOutput
from ledvolume.pose import Pose

CAMERA = Camera(Pose(), Lens(35.0, (36.0, 20.25)), "measured", 0)
RECEIVER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.rcvhwm = 1024
socket.subscribe(b"")
socket.connect(sys.argv[1])
while True:
    parts = socket.recv_multipart(copy=False)
    if len(parts[-1]) == 1:
        break
    print(1, flush=True) if len(sys.argv) > 2 else None
"""


def frame(index: int, images: dict[str, np.ndarray]) -> Frame:
    now_ns = time.time_ns()
    return Frame(FrameRequest(index, now_ns, now_ns, CAMERA, "scene"), images)


def receiver(address: str, *each: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", RECEIVER, address, *each], stdout=subprocess.PIPE)


def send_us(tiles: int, frames: int = 200) -> dict[str, float]:
    """Microseconds of `send` per frame of `tiles` 64 × 64 rgb8 tiles, paced at 60 per second."""
    atlas = np.random.default_rng(0).integers(0, 255, (tiles, 64, 64, 3), np.uint8)
    images = {f"tile.{i}": image for i, image in enumerate(atlas)}
    output = StreamOutput("stream://127.0.0.1:0?queue_frames=4")
    process = receiver(output.uri.replace("stream", "tcp"))
    try:
        while not output.counters()["tiles_listened"]:
            output.send(frame(0, images))
            time.sleep(0.02)
        took_ns, cpu_ns = [], []
        for index in range(frames):
            request = frame(index, images)
            started_ns, started_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            output.send(request)
            took_ns.append(time.perf_counter_ns() - started_ns)
            cpu_ns.append(time.thread_time_ns() - started_cpu_ns)
            time.sleep(1 / 60)
    finally:
        process.kill()
        process.wait()
        output.close()
    p50, p99 = np.percentile(took_ns, (50, 99)) / 1e3
    return {"p50": float(p50), "p99": float(p99), "CPU p50": float(np.median(cpu_ns)) / 1e3}


def output_mb_s(image: np.ndarray, frames: int = 150) -> float:
    """One tile through StreamOutput, crc included, sent as fast as the receiver takes it."""
    output = StreamOutput("stream://127.0.0.1:0?queue_frames=4")
    process = receiver(output.uri.replace("stream", "tcp"), "each")
    try:
        while not output.counters()["tiles_listened"]:
            output.send(frame(0, {"tile": image}))
            time.sleep(0.02)
        return _mb_s(process, lambda index: output.send(frame(index, {"tile": image})), image.nbytes, frames)
    finally:
        process.kill()
        process.wait()
        output.close()


def bare_mb_s(image: np.ndarray, frames: int = 150) -> float:
    """The same through a bare PUB socket without header or crc, `copy=False`."""
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.sndhwm = 4
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    process = receiver(f"tcp://127.0.0.1:{port}", "each")
    try:
        socket.recv()
        return _mb_s(process, lambda _: socket.send_multipart([b"tile\n", image], copy=False), image.nbytes, frames)
    finally:
        process.kill()
        process.wait()
        context.destroy(linger=0)


def memcpy_mb_s(image: np.ndarray, frames: int = 300) -> float:
    copy = image.copy()
    started_s = time.perf_counter()
    for _ in range(frames):
        np.copyto(copy, image)
    return image.nbytes * frames / (time.perf_counter() - started_s) / 1e6


def _mb_s(process: subprocess.Popen, send, size: int, frames: int) -> float:
    """Two frames under way at a time; ends when the receiver has said `frames` times that it has one."""
    send(0), send(1)
    process.stdout.readline()
    started_s = time.perf_counter()
    for index in range(frames):
        send(index)
        process.stdout.readline()
    return size * frames / (time.perf_counter() - started_s) / 1e6


def rows() -> list[dict]:
    image = np.random.default_rng(1).integers(0, 255, (1080, 1920, 3), np.uint8)
    found = []
    for tiles in (4, 256):
        for name, value in send_us(tiles).items():
            found.append({"name": f"stream send, {tiles} tiles of 64 x 64, {name}", "value": value, "unit": "us"})
    for name, measure in (("StreamOutput", output_mb_s), ("bare ZMQ", bare_mb_s), ("memcpy", memcpy_mb_s)):
        value = float(np.median([measure(image) for _ in range(3)]))
        found.append({"name": f"1080p rgb8 tile, {name}", "value": value, "unit": "MB/s"})
    return found


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']:44} {row['value']:10.1f} {row['unit']}")
