"""`cues:FILE`: which cue was on the wall, and when. For those who photograph it (docs/calibration.md).

A line for each change, as JSON: the cue, the frame with which it began, and the instant at which it was shown, or handed over
if that was later. The last line, when the output is closed, has the cue "". What is killed loses no line, and its last one at
most in part. LED processors and cameras show it later still, by some frames.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import Frame

UNENDED_NS = 2**62


class CueLine(msgspec.Struct, frozen=True):
    """A line of the file."""

    cue: str
    index: int
    from_ns: int


class Shown(msgspec.Struct, frozen=True):
    """A cue was on the wall from here until there; UNENDED_NS if nobody knows: walls keep the last frame."""

    cue: str
    from_ns: int
    until_ns: int


class CuesOutput:
    """`cues:FILE` as an output of the server."""

    def __init__(self, uri: str, folder: Path = Path(), now_ns: Callable[[], int] = time.time_ns):
        scheme, _, name = uri.partition(":")
        if scheme != "cues" or not name:
            raise OutputError(f"{uri}: expected cues:FILE")
        self.uri, self._now_ns, self._path = uri, now_ns, folder / name
        self._cue, self._index, self._changes = "", 0, 0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot write there: {error.strerror}") from error

    def send(self, frame: Frame) -> None:
        request = frame.request
        self._index = request.index
        if request.cue != self._cue:
            self._write(CueLine(request.cue, request.index, max(request.present_at_ns, self._now_ns())))

    def counters(self) -> dict[str, int]:
        return {"changes": self._changes}

    def close(self) -> None:
        if self._cue:
            self._write(CueLine("", self._index, self._now_ns()))
        self._file.close()

    def _write(self, line: CueLine) -> None:
        self._cue, self._changes = line.cue, self._changes + 1
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
        except OSError as error:
            raise OutputError(f"{self._path}: cannot write: {error.strerror}") from error


def load_shown(file: Path) -> list[Shown]:
    """What was shown, in order. A line that was cut off at the end is left out. Raises ConfigError."""
    try:
        *whole, _ = file.read_bytes().split(b"\n")
        lines = [msgspec.json.decode(line, type=CueLine) for line in whole]
    except OSError as error:
        raise ConfigError(file, "file", "what an output cues:FILE has written", error.strerror) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(file, "lines", "what an output cues:FILE has written", str(error)) from error
    ends = [line.from_ns for line in lines[1:]] + [UNENDED_NS]
    if any(end < line.from_ns for line, end in zip(lines, ends)):
        raise ConfigError(file, "from_ns", "instants in their order", "a clock that was set back")
    return [Shown(line.cue, line.from_ns, end) for line, end in zip(lines, ends) if line.cue]
