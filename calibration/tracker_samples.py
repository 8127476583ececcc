"""What the tracker said when a picture was taken: from sockets while it is taken, or afterwards from a take or any track.

The same answer either way: between the two samples on both sides of the instant. Pure but for LiveTracker's sockets.
"""

import math
from bisect import bisect_left, bisect_right, insort

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.pose import Pose, rotation_vector
from ledvolume.protocols import Reading, open_decoder
from ledvolume.sources import open_source
from ledvolume.tracks import Track
from ledvolume.tracks.resample import Playing

NEAR_NS = 100_000_000  # a sample that is farther from the instant of a picture says nothing of it
KEPT_NS = 60_000_000_000
STILL_NS = 150_000_000  # on both sides of a picture
STILL_MM, STILL_DEG = 3.0, 0.1
MOVED_MM, MOVED_DEG = 5.0, 0.1  # between the pictures of a view


class Samples:
    """The samples of one camera by the instants at which they were true. latency_ns: the tracker's own, of the rig."""

    def __init__(self, latency_ns: int = 0):
        self._latency_ns = latency_ns
        self._samples: list[CameraSample] = []

    def add(self, sample: CameraSample) -> None:
        """In any order; what is a minute older than the newest goes."""
        at_ns = sample.captured_at_ns - self._latency_ns
        insort(self._samples, msgspec.structs.replace(sample, captured_at_ns=at_ns), key=_at_ns)
        while self._samples[0].captured_at_ns < self._samples[-1].captured_at_ns - KEPT_NS:
            self._samples.pop(0)

    @classmethod
    def of_track(cls, track: Track, camera_id: str, latency_ns: int = 0) -> "Samples":
        """All of one camera. Raises ConfigError."""
        samples = cls(latency_ns)
        samples._samples = [
            msgspec.structs.replace(sample, captured_at_ns=sample.captured_at_ns - latency_ns)
            for sample in track.of_camera(camera_id).samples
        ]
        return samples

    @property
    def newest(self) -> CameraSample | None:
        return self._samples[-1] if self._samples else None

    def at(self, instant_ns: int) -> CameraSample | None:
        """Between the samples on both sides; None if the nearest is more than NEAR_NS away."""
        near = self._within(instant_ns, NEAR_NS)
        return Playing(tuple(near)).at(instant_ns) if near else None

    def motion(self, instant_ns: int) -> tuple[float, float]:
        """How far the camera moved (mm) and turned (degrees) within STILL_NS of an instant."""
        return spread(sample.world_from_tracker for sample in self._within(instant_ns, STILL_NS))

    def _within(self, instant_ns: int, reach_ns: int) -> list[CameraSample]:
        first = bisect_left(self._samples, instant_ns - reach_ns, key=_at_ns)
        return self._samples[first : bisect_right(self._samples, instant_ns + reach_ns, key=_at_ns)]


class LiveTracker:
    """Sockets that samples of one camera come from. camera_id "": the first that speaks."""

    def __init__(self, wanted: list[tuple[str, Reading]], camera_id: str = "", latency_ns: int = 0):
        self.samples, self.camera_id = Samples(latency_ns), camera_id
        self.refused = 0
        self._sources = []
        try:
            for uri, reading in wanted:
                source = open_source(uri)
                self._sources.append((source, open_decoder(source.protocol, **msgspec.structs.asdict(reading))))
        except Exception:
            self.close()
            raise

    @property
    def ports(self) -> list[int]:
        return [source.port for source, _ in self._sources]

    def drain(self) -> None:
        """What has arrived. Never waits."""
        for source, decoder in self._sources:
            for datagram in source.drain():
                for sample in decoder.decode(datagram):
                    self.camera_id = self.camera_id or sample.camera_id
                    if sample.camera_id == self.camera_id:
                        self.samples.add(sample)
        self.refused = sum(decoder.rejects.total() for _, decoder in self._sources)

    def close(self) -> None:
        for source, _ in self._sources:
            source.close()


def spread(poses) -> tuple[float, float]:
    """How far the poses are from the first one: mm, degrees."""
    first, *rest = list(poses) or [Pose()]
    apart = [first.inverse() @ pose for pose in rest]
    return (
        1000 * max((math.hypot(*pose.position_m) for pose in apart), default=0.0),
        math.degrees(max((math.hypot(*rotation_vector(pose.wxyz)) for pose in apart), default=0.0)),
    )


def _at_ns(sample: CameraSample) -> int:
    return sample.captured_at_ns
