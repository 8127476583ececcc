"""A track at other instants than its own: between two samples the pose goes on as `pose.interpolate` has it, and so does the
lens (camera.reading_between); status and timecode are those of the sample before. Nothing is made up outside it.
"""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction

import msgspec

from ledvolume.camera import CameraSample, reading_between
from ledvolume.clock import SECOND_NS, frame_index, frame_start_ns
from ledvolume.pose import interpolate
from ledvolume.tracks.track import ON_FRAME_NS, Track


class Playing:
    """The samples of one camera, to be asked at any instant."""

    def __init__(self, samples: tuple[CameraSample, ...]):
        self.samples = samples
        self._instants = [sample.captured_at_ns for sample in samples]
        self.begins_at_ns, self.ends_at_ns = self._instants[0], self._instants[-1]

    def at(self, instant_ns: int) -> CameraSample:
        """What it was then; before its first sample and after its last, that one. Its instants are `instant_ns`."""
        i = bisect_right(self._instants, instant_ns)
        if i == 0 or i == len(self.samples):
            sample = self.samples[max(i - 1, 0)]
        else:
            sample = _between(self.samples[i - 1], self.samples[i], instant_ns)
        return msgspec.structs.replace(sample, captured_at_ns=instant_ns, received_at_ns=instant_ns, stamped_at_ns=0)


def playing(track: Track) -> dict[str, Playing]:
    """camera id → its samples."""
    by_camera: dict[str, list[CameraSample]] = {camera_id: [] for camera_id in track.cameras}
    for sample in track.samples:
        by_camera[sample.camera_id].append(sample)
    return {camera_id: Playing(tuple(samples)) for camera_id, samples in by_camera.items()}


def resampled(track: Track, rate: Fraction) -> Track:
    """The track on the frames of an exact clock that begins with its first sample; each camera while it has samples."""
    if track.rate == rate and _is_on_frames(track, rate):
        return track
    samples = sorted(
        (sample for camera in playing(track).values() for sample in _frames(camera, rate, track.samples[0].captured_at_ns)),
        key=lambda sample: sample.captured_at_ns,
    )
    note = f"resampled to {rate} a second: {len(track.samples)} samples became {len(samples)}"
    return msgspec.structs.replace(track, samples=tuple(samples), rate=rate, notes=(*track.notes, note))


def _is_on_frames(track: Track, rate: Fraction) -> bool:
    first_ns = track.samples[0].captured_at_ns
    return all(
        frame_start_ns(_nearest_frame(sample.captured_at_ns - first_ns, rate), rate, first_ns) == sample.captured_at_ns
        for sample in track.samples
    )


def _nearest_frame(since_ns: int, rate: Fraction) -> int:
    return round(Fraction(since_ns, SECOND_NS) * rate)


def _frames(camera: Playing, rate: Fraction, first_ns: int) -> Iterator[CameraSample]:
    frame = frame_index(camera.begins_at_ns - ON_FRAME_NS, rate, first_ns)
    while (instant_ns := frame_start_ns(frame, rate, first_ns)) <= camera.ends_at_ns + ON_FRAME_NS:
        yield camera.at(instant_ns)
        frame += 1


def _between(a: CameraSample, b: CameraSample, instant_ns: int) -> CameraSample:
    fraction = (instant_ns - a.captured_at_ns) / (b.captured_at_ns - a.captured_at_ns)
    if fraction == 0:
        return a
    pose = interpolate(a.world_from_tracker, b.world_from_tracker, fraction)
    return msgspec.structs.replace(a, world_from_tracker=pose, lens=reading_between(a.lens, b.lens, fraction))
