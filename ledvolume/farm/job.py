"""The folder of a job, and going on with it: what is rendered there, and which frames are finished.

    OUT/job.json            what the job is: everything that decides a pixel, and which frames there are
    OUT/frames.jsonl        a line for each finished frame, in the order in which they were finished
    OUT/frames-0-99.jsonl   the same of a part (--frames): machines that share a folder never write the same file

A line is written after the files that it names are whole. So whatever is killed, and when: a frame that has a line is
finished, one that has none is rendered again, and a last line that is torn counts for nothing.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered
from ledvolume.outputs.whole_file import words, write_whole

NO_PART_OF_A_PICTURE = {"out", "show_folder", "show_name"}  # of a spec: a job may be moved, and its machines mount it elsewhere


class FinishedFrame(msgspec.Struct, frozen=True):
    """A line of frames.jsonl. tile_hashes, files, bytes: as in Rendered."""

    index: int
    present_at_ns: int
    timecode: str
    tile_hashes: dict[str, int]
    files: list[str]
    bytes: int


class JobFolder:
    """requests: the whole job's; `part`, first and last frame: this run's, default: all.

    `done`: the frames of this run that were finished before, by index. `finished` counts these and those that were added,
    `bytes` are of the added.
    """

    def __init__(
        self,
        folder: Path | str,
        spec: msgspec.Struct,
        requests: Sequence[FrameRequest],
        part: tuple[int, int] | None = None,
        resume: bool = False,
    ):
        self.folder = Path(folder)
        job = job_of(spec, requests)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            there = self._there()
            if there and not resume:
                expected = "a folder without finished frames, or --resume to go on with it"
                raise ConfigError(folder, "--out", expected, f"{len(there)} finished frames")
            if there:
                self._check_is(job)
            else:
                write_whole(self.folder / "job.json", msgspec.json.format(msgspec.json.encode(job)) + b"\n")
            wanted = {request.index for request in this_part(requests, part)}
            self.done = {index: frame for index, frame in there.items() if index in wanted and self._is_whole(frame)}
            self.finished, self.bytes = len(self.done), 0
            name = f"frames-{part[0]}-{part[1]}.jsonl" if part else "frames.jsonl"
            self._lines = open(self.folder / name, "ab", buffering=0)
            if not _ends_with_a_line(self.folder / name):
                self._lines.write(b"\n")
        except OSError as error:
            raise OutputError(words(self.folder, error, 0)) from error

    def add(self, request: FrameRequest, rendered: Rendered) -> None:
        """A frame is finished, and its files are whole. Raises OutputError."""
        line = FinishedFrame(
            index=request.index, present_at_ns=request.present_at_ns, timecode=request.timecode, **_said(rendered)
        )
        data = msgspec.json.encode(line) + b"\n"
        try:
            if self._lines.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(words(Path(self._lines.name), error, len(data))) from error
        self.finished += 1
        self.bytes += rendered.bytes

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> "JobFolder":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _there(self) -> dict[int, Rendered]:
        frames = {}
        for file in sorted(self.folder.glob("frames*.jsonl")):
            for line in file.read_bytes().splitlines():
                try:
                    frame = msgspec.json.decode(line, type=FinishedFrame)
                except msgspec.DecodeError:  # torn: whoever wrote it was killed, or the disk was full
                    continue
                frames[frame.index] = Rendered(frame.index, frame.tile_hashes, frame.files, frame.bytes)
        return frames

    def _is_whole(self, frame: Rendered) -> bool:
        try:
            return sum((self.folder / file).stat().st_size for file in frame.files) == frame.bytes
        except OSError:
            return False

    def _check_is(self, job: dict) -> None:
        file = self.folder / "job.json"
        try:
            there = msgspec.json.decode(file.read_bytes(), type=dict)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(file, "--resume", "the job that the frames here are of", str(error)) from None
        for key in sorted(job.keys() | there.keys()):
            if job.get(key) != there.get(key):
                expected = f"{there.get(key)!r}, as of the frames that are here; another job needs another --out"
                raise ConfigError(file, key, expected, job.get(key))


def job_of(spec: msgspec.Struct, requests: Sequence[FrameRequest]) -> dict:
    """What decides every pixel of a job, for job.json. Files and the requests are in it by their SHA-256."""
    said = {name: value for name, value in _said(spec).items() if name not in NO_PART_OF_A_PICTURE}
    said = {name: _by_sum(value) for name, value in said.items()}
    decided = msgspec.msgpack.encode(requests)
    frames = {"frames": len(requests), "first": requests[0].index, "last": requests[-1].index, "requests": _sha256(decided)}
    return msgspec.json.decode(msgspec.json.encode(said | frames))  # as it will be read back


def this_part(requests: Sequence[FrameRequest], part: tuple[int, int] | None) -> Sequence[FrameRequest]:
    """The requests of a part, from its first frame to its last."""
    return requests if part is None else [request for request in requests if part[0] <= request.index <= part[1]]


def _said(struct: msgspec.Struct) -> dict:
    return {name: getattr(struct, name) for name in struct.__struct_fields__ if name != "index"}


def _by_sum(value):
    if isinstance(value, dict):
        return {name: _by_sum(inner) for name, inner in value.items()}
    return _sha256(value) if isinstance(value, bytes) else value


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _ends_with_a_line(file: Path) -> bool:
    with open(file, "rb") as lines:
        size = lines.seek(0, os.SEEK_END)
        lines.seek(max(size - 1, 0))
        return lines.read(1) in (b"", b"\n")
