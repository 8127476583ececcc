"""Where FrameRequests come from. Live, replay and follow are iterators here, and differ in nothing else: the server's
loop, the renderer and the outputs cannot tell them apart.

    live      the house clock's next tick, whatever poses have arrived until then     → the camera at the tick's instant
    replay    the requests of a take, once more (take.py)                             → the same frames
    cued      live, with what is shown instead of the show           → coded pictures for calibration
    track     the samples on both sides of each frame (track_schedule.py)             → the camera as it was

Everything that is decided about a frame is decided here and is inside the request.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from ledvolume import coverage
from ledvolume.camera import Camera
from ledvolume.clock import FrameClock, Tick
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.protocols.decoder import Decoder
from ledvolume.sources import Datagram, UdpSource, ZmqSource
from ledvolume.timeline import Timeline

FIRST_STEPS = 16  # renderer.REFINEMENT_CLASSES: one sample of every LED pixel


class Inputs:
    """Sockets with their decoders, and the timelines that their samples go to. `newest_ns`: capture of the newest sample.

    unknown: samples of cameras that the show does not have, by id. recorded: where it is a list, what is drained is kept
    there, with the number of its source.
    """

    def __init__(self, sources: list[tuple[UdpSource | ZmqSource, Decoder]], timelines: dict[str, Timeline]):
        self.sources, self.timelines = sources, timelines
        self.unknown: Counter[str] = Counter()
        self.datagrams = 0
        self.recorded: list[tuple[int, Datagram]] | None = None

    def drain(self) -> None:
        """What has arrived goes to the timelines, in a flood the newest. Never waits, never raises for what was sent to us."""
        for number, (source, _) in enumerate(self.sources):
            for datagram in source.newest():
                self.take(number, datagram)

    def take(self, number: int, datagram: Datagram) -> None:
        """One datagram of the source with this number, to the timelines."""
        self.datagrams += 1
        if self.recorded is not None:
            self.recorded.append((number, datagram))
        for sample in self.sources[number][1].decode(datagram):
            timeline = self.timelines.get(sample.camera_id) or self.timelines.get("*")
            if timeline is not None:
                timeline.add(sample)
            elif sample.camera_id in self.unknown or len(self.unknown) < 64:
                self.unknown[sample.camera_id] += 1

    def discard(self) -> None:
        """Throw away what came while the server was still loading: minutes of old poses would be read before new ones."""
        for source, _ in self.sources:
            for _ in range(64):  # not for ever: a flood may be faster than we are
                if not source.drain():
                    break

    @property
    def accepted(self) -> int:
        """Samples that the timelines took in."""
        return sum(timeline.accepted for timeline in self.timelines.values())

    def rejects(self) -> Counter[str]:
        """What was refused, by reason: datagrams by the decoders, samples by the timelines."""
        total = Counter({"unknown-camera": self.unknown.total()})
        for _, decoder in self.sources:
            total += decoder.rejects
        for timeline in self.timelines.values():
            total += timeline.rejects
        return +total

    def lens_flags(self) -> Counter[str]:
        """What the lens tables had no full answer to, by word (lens_table.trouble)."""
        return sum((timeline.lens_flags for timeline in self.timelines.values()), Counter())

    def close(self) -> None:
        for source, _ in self.sources:
            source.close()


class Refinement:
    """How far the picture outside the footprint is refined: rises while frames leave time, never falls.

    steps: for FrameRequest.outer_steps.
    """

    def __init__(self, most: int, steps: int = FIRST_STEPS):
        self.most, self.steps = most, steps

    def frame_took(self, took_ns: int, available_ns: int) -> None:
        """A frame took so long of what it had. One step traces a 16th of the LED pixels once, and the next frame pays it."""
        idle = 1 - took_ns / available_ns
        rise = 16 if idle > 0.9 else 4 if idle > 0.7 else 1 if idle > 0.35 else 0
        self.steps = min(self.steps + rise, self.most)


def live(
    clock: FrameClock,
    inputs: Inputs,
    on_air: str,
    scene: str,
    quality: str,
    refinement: Refinement,
    now_ns: Callable[[], int],
    footprint: Footprint = Footprint(),
) -> Iterator[FrameRequest]:
    """For every tick: drain, then decide where the camera `on_air` will be when the frame is shown. Never ends."""
    timeline = inputs.timelines[on_air]
    while True:
        tick = clock.next_tick()
        inputs.drain()
        yield decided(timeline, tick, now_ns(), scene, quality, refinement.steps, footprint)


def cued(requests: Iterator[FrameRequest], cue_at: Callable[[int], str | None]) -> Iterator[FrameRequest]:
    """The requests with the cue of the instant at which each is shown. Ends with the first that has none."""
    for request in requests:
        cue = cue_at(request.present_at_ns)
        if cue is None:
            return
        yield msgspec.structs.replace(request, cue=cue)


def decided(
    timeline: Timeline, tick: Tick, decided_at_ns: int, scene: str, quality: str, outer_steps: int, footprint: Footprint
) -> FrameRequest:
    """The request of a frame by what the timeline knows now. Replay checks a take by asking the same of the same datagrams."""
    camera: Camera = timeline.camera_at(tick.present_at_ns)
    turn = coverage.turn_rad(timeline, camera, tick.present_at_ns)
    return FrameRequest(
        index=tick.index,
        present_at_ns=tick.present_at_ns,
        decided_at_ns=decided_at_ns,
        camera=camera,
        scene=scene,
        quality=quality,
        outer_steps=outer_steps,
        overscan=min(coverage.needed_overscan(camera.lens, turn), footprint.most),
        timecode=timeline.timecode.at(tick.present_at_ns),
    )
