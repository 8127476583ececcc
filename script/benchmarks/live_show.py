"""A small show that runs: the server as a process of its own, its frames as a wall receives them, what it says, and a tracker.

python -m benchmarks.live_show URI SECONDS [STOP…]      the tracker alone; STOP: from,to in seconds, when it is silent
"""

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from benchmarks.listening import PATIENCE_S
from ledvolume.camera import CameraSample, LensReading, entrance_pupil
from ledvolume.clock import SECOND_NS, FrameClock
from ledvolume.config import Show, load_show
from ledvolume.frame import FrameRequest
from ledvolume.moves import open_move
from ledvolume.outputs.receive import TileReceiver
from ledvolume.pose import Pose
from ledvolume.protocols import open_encoder
from ledvolume.scenes import bricks
from ledvolume.sources import open_sender
from measure import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from scenes import plane_scene

RATE = Fraction(24)
FRAME_NS = SECOND_NS / RATE
TRACKER_HZ = Fraction(100)
TILE = "wall-0-0"
MOVE = "builtin:handheld?at=0,0,1.6&look=0,4,1.6&amount=0.3"
SHOW = """
name = "small"
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
tiles = [2, 2]
[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 40.0
entrance_pupil_mm = 80.0
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


def small_show(folder: Path) -> Path:
    """The show file, with its scene beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    bricks.save(folder / "plane.safetensors", plane_scene(depth=0))
    (folder / "show.toml").write_text(SHOW)
    return folder / "show.toml"


class Seen(NamedTuple):
    """A frame as it came to the wall."""

    request: FrameRequest
    sent_at_ns: int
    crc32: int


class LiveShow:
    """`ledvolume serve` of a show, the small one if none is named. frames: as TILE received them; said: (when, words) of its log.

    words: more of the command line. largest_file: bytes of any file that it writes, as on a disk that is full.
    """

    def __init__(self, folder: Path, *words: str | Path, show_file: Path | None = None, largest_file: int | None = None):
        show_file = show_file or small_show(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.show = load_show(show_file)
        self._status_file = folder / "status.json"
        self._status_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "ledvolume", "serve", show_file, "--status", self._status_file, *words]
        limit = None if largest_file is None else lambda: limit_files(largest_file)
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=limit)
        self.pid = self._process.pid
        self.frames: list[Seen] = []
        self.said: list[tuple[int, str]] = []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._read_log)]
        self._threads[0].start()
        status = self._when("running")
        self.source, self.output = status["sources"][0]["uri"], status["outputs"][0]["uri"]
        self._threads.append(threading.Thread(target=self._receive))
        self._threads[1].start()

    def __enter__(self) -> "LiveShow":
        return self

    def __exit__(self, *_) -> None:
        if self._process.poll() is None:
            self.stop()

    def stop(self) -> dict:
        """The summary."""
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self.kill()
        return self.status()

    def kill(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        self._process.wait()
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def status(self) -> dict:
        """The status file: as it was within the last second."""
        return json.loads(self._status_file.read_text())

    def _when(self, state: str) -> dict:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            if self._status_file.exists() and (status := self.status())["state"] == state:
                return status
            time.sleep(0.05)
        self._process.kill()
        raise RuntimeError(f"the server did not come to {state}: {self.said}")

    def _read_log(self) -> None:
        for line in self._process.stderr:
            self.said.append((time.time_ns(), line.rstrip()))

    def _receive(self) -> None:
        receiver = TileReceiver(self.output, [TILE])
        while not self._is_over.is_set():
            self.frames += [
                Seen(tile.header.request, tile.header.sent_at_ns, tile.header.crc32) for tile in receiver.receive(0.1)
            ]
        receiver.close()


def limit_files(size: int) -> None:
    """In a process that is about to begin: files grow to so many bytes, and then it is told EFBIG."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def eye_at(show: Show, t_s: float) -> Pose:
    """stage_from_camera of the tracker's camera, at its entrance pupil, t_s after it began."""
    return entrance_pupil(show.stage.rigs[0], open_move(MOVE).pose_at(t_s), LensReading())[0]


def tracker(uri: str, seconds: float, *stops: tuple[float, float]) -> subprocess.Popen:
    """A process that sends MOVE to this address for so long, but not from the beginning to the end of each of the stops.

    Its first line of output is the instant at which the move began, in house ns.
    """
    command = [sys.executable, "-m", "benchmarks.live_show", uri, str(seconds), *(f"{a},{b}" for a, b in stops)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> None:
    uri, seconds, *stops = sys.argv[1:]
    spans = [tuple(float(t) for t in stop.split(",")) for stop in stops]
    sender, encode, move = open_sender(uri), open_encoder("osc", "ledvolume"), open_move(MOVE)
    clock = FrameClock(TRACKER_HZ, time.time_ns(), lead_ns=0)
    print(clock.epoch_ns, flush=True)
    t = 0.0
    while t < float(seconds):
        at_ns = clock.next_tick().present_at_ns
        t = (at_ns - clock.epoch_ns) / SECOND_NS
        if not any(begin <= t < end for begin, end in spans):
            for payload in encode(CameraSample("A", at_ns, at_ns, move.pose_at(t))):
                sender.send(payload)


if __name__ == "__main__":
    main()
