"""A worker for tests of the farm: deterministic, quick, and it dies, fails or dawdles when it is told to."""

import os
import signal
import time
import zlib
from pathlib import Path

import msgspec

from ledvolume.errors import OutputError
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered


class TinySpec(msgspec.Struct, frozen=True):
    """killed_at: frames at which the worker kills itself, each the first time only, or always. broken_at: OutputError there.

    seconds: what a frame takes. largest_file: RLIMIT_FSIZE, as a disk that is full.
    """

    out: str
    killed_at: tuple[int, ...] = ()
    always: bool = False
    broken_at: int = -1
    bug_at: int = -1
    seconds: float = 0.0
    largest_file: int = 0


class TinyWorker:
    """A frame is a file of 100 bytes per index; `rendered.log` has a line for each frame that was begun."""

    def __init__(self, spec: TinySpec):
        self.spec, self.out = spec, Path(spec.out)
        (self.out / "tile").mkdir(exist_ok=True)
        with open(self.out / "made.log", "a") as log:
            log.write(f"{os.getpid()} {os.environ.get('LP_NUM_THREADS', '-')}\n")

    def render(self, request: FrameRequest) -> Rendered:
        index, spec = request.index, self.spec
        with open(self.out / "rendered.log", "a") as log:
            log.write(f"{index} {os.getpid()}\n")
        time.sleep(spec.seconds)
        if index in spec.killed_at and (spec.always or not (self.out / f"killed-{index}").exists()):
            (self.out / f"killed-{index}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if index == spec.broken_at:
            raise OutputError(f"frame {index}: no room")
        if index == spec.bug_at:
            raise KeyError("a bug")
        data = f"{index:04d}".encode() * 25
        (self.out / f"tile/{index:08d}.png").write_bytes(data)
        return Rendered(index, {"tile": zlib.crc32(data)}, [f"tile/{index:08d}.png"], len(data))

    def close(self) -> None:
        pass
