"""A track: what cameras did, from beginning to end. The value that every format is read to and written from.

Poses are world_from_tracker in our axes and metres, as a tracker would have sent them. Time is `captured_at_ns`: since 1970
where the file has dates, else from a zero of its own.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.clock import SECOND_NS, frame_index, frame_start_ns
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.pose import Similarity
from ledvolume.protocols.decoder import checked

MOST_SAMPLES = 4_000_000  # 4.6 h at 240 Hz
LONGEST_LINE = 1 << 20
LATEST_S = 9_000_000_000  # what 64 bits of nanoseconds hold
ON_FRAME_NS = 1_050_000  # instants that are printed in milliseconds still lie on their frames, counted from one of them
EXACT_NS = 2_000
FEW = 12  # samples that could lie on frames within ON_FRAME_NS by chance
RATES = tuple(
    Fraction(r) for r in "24000/1001 24 25 30000/1001 30 48000/1001 48 50 60000/1001 60 100 120000/1001 120 240".split()
)

_TIMECODE = re.compile(r"[0-2][0-9]:[0-5][0-9]:[0-5][0-9][:;][0-9]{2,3}", re.ASCII)

RotationOrder = Literal["zxy", "xyz"]
Progress = Callable[[float], None]


class Track(msgspec.Struct, frozen=True):
    """Samples of one or more cameras, in the order of their capture.

    rate: of the frames, where the instants are those of frames. notes: what was found, passed over or assumed on the way.
    """

    samples: tuple[CameraSample, ...]
    format: str
    rate: Fraction | None = None
    notes: tuple[str, ...] = ()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Their ids, in the order of appearance."""
        return tuple(dict.fromkeys(sample.camera_id for sample in self.samples))

    @property
    def duration_ns(self) -> int:
        """From the first sample to the last."""
        return self.samples[-1].captured_at_ns - self.samples[0].captured_at_ns

    def of_camera(self, camera_id: str, file: Path | str = "track") -> "Track":
        """One camera of it. Raises ConfigError."""
        if camera_id not in (cameras := self.cameras):
            raise ConfigError(file, "camera", f"one of {', '.join(cameras)}", camera_id)
        samples = tuple(sample for sample in self.samples if sample.camera_id == camera_id)
        return msgspec.structs.replace(self, samples=samples)


class Assumed(msgspec.Struct, frozen=True):
    """What a format leaves open and the user says.

    camera: the name, where the file has none. rate: where the file counts frames without a rate. start_frame: the number of
    the first frame, in writing. unit_m: the file's unit of length. sensor_mm: w, h, to read fields of view as focal lengths.
    field_from_stage: where a NeRF's own frame lies (nerfstudio's camera paths).
    """

    camera: str = "camera"
    rate: Fraction | None = None
    start_frame: int = 1
    unit_m: float = 1.0
    rotation_order: RotationOrder = "zxy"
    sensor_mm: tuple[float, float] | None = None
    field_from_stage: Similarity | None = None


def no_progress(fraction: float) -> None:
    """For small files, where nobody waits."""


def made_track(
    path: Path, format: str, samples: Iterable[CameraSample], rate: Fraction | None = None, notes: Iterable[str] = ()
) -> Track:
    """A track of what was read, put in order; its rate is found if it has one. Raises ConfigError where nothing was."""
    ordered = tuple(sorted(samples, key=lambda sample: sample.captured_at_ns))
    if not ordered:
        raise ConfigError(path, "track", "at least one pose", "; ".join(notes) or "an empty file")
    if len(ordered) > MOST_SAMPLES:
        raise ConfigError(path, "track", f"at most {MOST_SAMPLES} samples", len(ordered))
    return Track(ordered, format, rate or _rate_of(ordered), tuple(notes))


def checked_sample(sample: CameraSample, path: Path, key: str) -> CameraSample:
    """The sample if a camera on a stage can have it: the same bounds as for what trackers send. Raises ConfigError."""
    if sample.timecode and not _TIMECODE.fullmatch(sample.timecode):
        raise ConfigError(path, f"{key}: timecode", "HH:MM:SS:FF, or ; before the frames where they drop", sample.timecode[:80])
    if max(abs(sample.captured_at_ns), abs(sample.received_at_ns)) > LATEST_S * SECOND_NS:
        raise ConfigError(path, f"{key}: time", f"within {LATEST_S} s of 1970", sample.captured_at_ns)
    try:
        here = checked(msgspec.structs.replace(sample, received_at_ns=sample.captured_at_ns), "track", b"")
    except ProtocolError as error:
        raise ConfigError(path, key, "a pose and a lens that a camera can have", str(error)) from None
    return msgspec.structs.replace(here, received_at_ns=sample.received_at_ns)


def nanoseconds(seconds: str) -> int:
    """Exactly what is printed, to the nearest nanosecond. Raises ValueError."""
    try:
        value = Decimal(seconds.strip())
    except InvalidOperation:
        raise ValueError(f"{seconds!r} is no time in seconds") from None
    if not value.is_finite() or value.copy_abs() > LATEST_S:
        raise ValueError(f"{seconds!r} is no time in seconds")
    return int((value * SECOND_NS).to_integral_value())


def seconds_text(instant_ns: int) -> str:
    """The inverse of `nanoseconds`, with nine decimals."""
    whole, rest = divmod(abs(instant_ns), SECOND_NS)
    return f"{'-' if instant_ns < 0 else ''}{whole}.{rest:09d}"


def lines_of(path: Path, progress: Progress = no_progress) -> Iterator[tuple[int, str]]:
    """(number from 1 on, text) of the lines that are neither empty nor comments (#). Raises ConfigError."""
    try:
        size_bytes, read_bytes = max(path.stat().st_size, 1), 0
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number, read_bytes = number + 1, read_bytes + len(line)
                if len(line) > LONGEST_LINE:
                    raise ConfigError(path, f"line {number}", f"at most {LONGEST_LINE} bytes", f"{len(line)} and more")
                if number % 1024 == 0:
                    progress(read_bytes / size_bytes)
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text and not text.startswith("#"):
                    yield number, text
    except OSError as error:
        raise ConfigError(path, "track", "a file that can be read", error.strerror) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, f"line {number}", "text in UTF-8", f"{error.reason} at byte {error.start}") from None


def only_camera(track: Track, path: Path, format: str) -> tuple[CameraSample, ...]:
    """The samples of a track that has one camera, for formats that hold one. Raises ConfigError."""
    if len(cameras := track.cameras) > 1:
        raise ConfigError(path, "cameras", f"one camera in {format}: choose with --camera", ", ".join(cameras))
    return track.samples


def frames_per_second(track: Track, path: Path) -> Fraction:
    """The rate of the frames that are to be written. Raises ConfigError where the track has none."""
    if track.rate is None:
        expected = "frames per second: this format counts frames, and the track's instants are not those of frames"
        raise ConfigError(path, "--rate", expected, f"{len(track.samples)} samples in {track.duration_ns / 1e9:.3f} s")
    return track.rate


def _rate_of(samples: tuple[CameraSample, ...]) -> Fraction | None:
    """The usual rate on whose frames the samples of the first camera lie, most of them one after the other."""
    first_id, first_ns = samples[0].camera_id, samples[0].captured_at_ns
    instants = [sample.captured_at_ns for sample in samples if sample.camera_id == first_id]
    if len(instants) < 3:
        return None
    fits = [(_farthest_off_ns(instants, rate, first_ns), rate) for rate in RATES]
    best_ns = min(off_ns for off_ns, _ in fits)
    return (
        next(rate for off_ns, rate in fits if off_ns <= best_ns + EXACT_NS)
        if best_ns <= (ON_FRAME_NS if len(instants) >= FEW else EXACT_NS)
        else None
    )


def _farthest_off_ns(instants: list[int], rate: Fraction, first_ns: int) -> float:
    half_ns = frame_start_ns(1, rate, 0) // 2
    frames = [frame_index(instant_ns - half_ns, rate, first_ns) for instant_ns in instants]
    steps = sorted(b - a for a, b in zip(frames, frames[1:]))
    if steps[0] < 1 or steps[len(steps) // 2] > 1:
        return math.inf
    return max(abs(frame_start_ns(frame, rate, first_ns) - instant_ns) for frame, instant_ns in zip(frames, instants))
