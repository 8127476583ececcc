"""The server: one process per GPU, one thread, one loop.

    for request in schedule:                  drain the sockets, decide the camera
        frame = renderer.render(request)      every LED pixel
        for output in outputs:
            output.send(frame)                tiles to their receivers

Everything around the loop is done before the clock starts (load, compile, first picture, garbage collection off) or
after it has ended. A frame that misses its instant is counted and said; the wall keeps the one before.
"""

import gc
import itertools
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import numpy as np

from ledvolume import schedule
from ledvolume.clock import SECOND_NS, FrameClock
from ledvolume.config import Show
from ledvolume.coverage import Coverage
from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import FrameRequest
from ledvolume.outputs import Output, open_output
from ledvolume.protocols import open_decoder
from ledvolume.protocols.advice import what_to_check
from ledvolume.render.context import create_context
from ledvolume.render.renderer import OUTER_STEPS_MOST, QUALITIES, Place, Renderer
from ledvolume.report import Report, Timing
from ledvolume.scenes import bricks
from ledvolume.scenes.mips import with_mips
from ledvolume.scenes.safe_zone import ZoneMap, ZoneWatch, map_beside
from ledvolume.sources import open_source
from ledvolume.take import ShowRecorder
from ledvolume.timeline import Timeline

LINE_EVERY_NS = 250_000_000
STATUS_EVERY_NS = SECOND_NS
LENS_WORDS = {
    "beyond-table": "the lens' rings are beyond the stations of its table: the nearest are used. Measure the ends too",
    "no-zoom-encoder": "the lens table is NOT used: it has several zooms, and no zoom encoder comes (docs/tracking.md, Lens)",
    "no-focus-encoder": "the lens table is NOT used: it has several focus stations, and no focus encoder comes (docs/tracking.md, Lens)",
}


def serve(
    show: Show,
    *,
    seconds: float | None = None,
    status_file: Path | None = None,
    live_line: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda words: None,
    is_stopped: Callable[[], bool] = lambda: False,
    record: Path | None = None,
    slate: str = "",
    cue_at: Callable[[int], str | None] | None = None,
) -> dict:
    """Run a show until it is stopped or its seconds are over; returns the summary. Raises LedvolumeError.

    record: a take of the whole run is written there (take.py), named by the slate.
    cue_at: what is shown at an instant in place of the show, such as a pattern; None ends it.
    status_file: JSON, rewritten every second. `state` is warming-up (sockets are open, their addresses in it), running,
    stopped; the last one is the summary.
    """
    with ExitStack() as opened:
        timelines = timelines_of(show)
        show = with_sensor(show)
        inputs = opened.enter_context(closing(open_inputs(show, timelines)))
        outputs = [opened.enter_context(closing(open_output(uri, show.file.parent))) for uri in show.outputs]
        status = Status(status_file, show, inputs, outputs)
        status.write("warming-up")
        renderer = open_renderer(show)
        status.renderer = renderer.context.info["GL_RENDERER"]
        opened.callback(renderer.context.release)
        headers = {name: place.scene.header for name, place in renderer.places.items()}
        zone_maps, unusable = open_zone_maps(show, headers)
        for words in (*zone_warnings(show, headers), *unusable):
            warn(words)
        for words in fixture_warnings(show):
            warn(words)
        warm_up(renderer, show)
        take = ShowRecorder(record, show, inputs, driver_of(renderer), slate, warn) if record else None
        if take:
            opened.callback(take.close)

        gc.collect()
        gc.freeze()
        gc.disable()
        opened.callback(gc.unfreeze)
        opened.callback(gc.enable)

        epoch_ns = (time.time_ns() // SECOND_NS + 1) * SECOND_NS
        end_ns = epoch_ns + round(seconds * SECOND_NS) if seconds is not None else None
        available_ns = min(round(SECOND_NS / show.rate), show.lead_ns)  # for one frame, from decision to sockets
        clock = FrameClock(show.rate, epoch_ns, show.lead_ns)
        ticks = WokenClock(clock)
        refinement = schedule.Refinement(OUTER_STEPS_MOST)
        report, recording = Report(show.stage.zone, available_ns), Timing()
        on_air = show.stage.rigs[0].camera_id
        refusals_told: set[str] = set()
        said_ns = written_ns = 0
        inputs.discard()
        coverage = Coverage(show.footprint)
        watch = ZoneWatch(zone_maps, {name: spec.field_from_stage for name, spec in show.places.items()})
        decide = schedule.live(ticks, inputs, on_air, show.start, show.quality, refinement, time.time_ns, show.footprint)
        for request in schedule.cued(decide, cue_at) if cue_at else decide:
            if is_stopped() or end_ns is not None and request.present_at_ns >= end_ns:
                break
            frame = renderer.render(request)
            rendered_ns = time.time_ns()
            for output in outputs:
                output.send(frame)
            sent_ns = time.time_ns()
            if take:
                take.frame(frame, sent_ns)
                recording.add(time.time_ns() - sent_ns)
            coverage.add(request)
            coverage.settle(timelines[on_air], sent_ns)
            for words in report.frame(request, ticks.woken_ns, request.decided_at_ns, rendered_ns, sent_ns):
                warn(words)
            for words in watch.frame(request):
                warn(words)
            refinement.frame_took(sent_ns - ticks.woken_ns, available_ns)
            if sent_ns - said_ns >= LINE_EVERY_NS:
                said_ns = sent_ns
                for words in refusal_warnings(inputs, refusals_told):
                    warn(words)
                live_line(f"{report.line(inputs.accepted, inputs.rejects().total())} · {coverage.words()}{watch.words()}")
            if sent_ns - written_ns >= STATUS_EVERY_NS:
                written_ns = sent_ns
                try:
                    status.write("running", frames=report.frames, frames_late=report.late, fps=round(report.fps, 2))
                except OutputError as error:  # a full disk is no reason to leave the wall dark
                    warn(str(error))
        taken = take.summary() | {"recording_ms": recording.ms()} if take else {}
        return status.write(
            "stopped", **report.summary(), loop_ms=ticks.busy.ms(), **coverage.summary(), **watch.summary(), **taken
        )


class WokenClock:
    """A clock that remembers when its last tick was handed out: from then on the frame costs time. `busy`: until its loop came
    back for the next one, everything in it."""

    def __init__(self, clock: FrameClock):
        self.clock, self.woken_ns = clock, 0
        self.busy = Timing()

    def next_tick(self):
        if self.woken_ns:
            self.busy.add(time.time_ns() - self.woken_ns)
        tick = self.clock.next_tick()
        self.woken_ns = time.time_ns()
        return tick


class Status:
    """The status file, and what of it never changes."""

    def __init__(self, file: Path | None, show: Show, inputs: schedule.Inputs, outputs: list[Output]):
        self.file, self.show, self.inputs, self.outputs = file, show, inputs, outputs
        self.renderer = ""

    def write(self, state: str, **facts) -> dict:
        """Returns what was written. The file is always whole: written beside and moved into place. Raises OutputError."""
        resolutions = [tile.resolution_px for tile in self.show.stage.tiles]
        status = {
            "state": state,
            "show": self.show.name,
            "process": os.getpid(),
            "renderer": self.renderer,
            "rate": str(self.show.rate),
            "tiles": len(resolutions),
            "led_px": sum(width * height for width, height in resolutions),
            **facts,
            "poses_received": self.inputs.accepted,
            "poses_refused": dict(self.inputs.rejects()),
            "lens_table_flags": dict(self.inputs.lens_flags()),
            "datagrams": self.inputs.datagrams,
            "sources": [_source_status(source) for source, _ in self.inputs.sources],
            "outputs": [{"uri": output.uri, **output.counters()} for output in self.outputs],
        }
        if self.file is not None:
            part = self.file.with_name(self.file.name + ".part")
            try:
                part.write_bytes(msgspec.json.format(msgspec.json.encode(status)))
                part.replace(self.file)
            except OSError as error:
                raise OutputError(f"{self.file}: cannot write the status: {error.strerror}") from error
        return status


def timelines_of(show: Show) -> dict[str, Timeline]:
    """camera id → its timeline, empty."""
    return {
        rig.camera_id: Timeline(rig, show.initial[rig.camera_id], show.limits, show.lead_ns, show.rate) for rig in show.stage.rigs
    }


def with_sensor(show: Show) -> Show:
    """Sources that do not say how large the sensor is read fields of view by that of the camera on air."""
    sensor_mm = show.stage.rigs[0].lens.sensor_mm
    sources = tuple(
        msgspec.structs.replace(
            spec, reading=msgspec.structs.replace(spec.reading, sensor_mm=spec.reading.sensor_mm or sensor_mm)
        )
        for spec in show.sources
    )
    return msgspec.structs.replace(show, sources=sources)


def driver_of(renderer: Renderer) -> str:
    """Whose pixels these are: equal requests give equal bytes on the same driver."""
    info = renderer.context.info
    return f"{info['GL_RENDERER']}; OpenGL {info['GL_VERSION']}"


def open_inputs(show: Show, timelines: dict[str, Timeline]) -> schedule.Inputs:
    """The show's sources, listening. Raises ConfigError."""
    inputs = schedule.Inputs([], timelines)
    try:
        for spec in show.sources:
            source = open_source(spec.uri)
            inputs.sources.append((source, open_decoder(source.protocol, **msgspec.structs.asdict(spec.reading))))
    except ConfigError:
        inputs.close()
        raise
    return inputs


def open_renderer(show: Show) -> Renderer:
    """A renderer with the show's places in it. Raises RenderError, SceneError, ConfigError."""
    if show.quality not in QUALITIES:
        raise ConfigError(show.file, "quality", f"one of {', '.join(QUALITIES)}", show.quality)
    places = {
        name: Place(with_mips(bricks.load(spec.file)), spec.field_from_stage, spec.near_m, spec.exposure)
        for name, spec in show.places.items()
    }
    return Renderer(create_context(), show.stage, places, show.footprint, show.pixel_format, show.fixtures)


def zone_warnings(show: Show, headers: dict[str, bricks.Header]) -> list[str]:
    """What to say of places that were baked for a smaller zone than the show's: cameras may go where nobody has looked."""
    warnings = []
    zone = show.stage.zone
    corners_m = np.array([*itertools.product(*zip(zone.min_m, zone.max_m))])
    for name, header in headers.items():
        m = show.places[name].field_from_stage.matrix()
        corners = corners_m @ m[:3, :3].T + m[:3, 3]
        slack = 0.02 * np.subtract(header.zone_max, header.zone_min)
        if np.any(corners < header.zone_min - slack) or np.any(corners > header.zone_max + slack):
            low, high = (tuple(round(float(c), 3) for c in pick(corners, 0)) for pick in (np.min, np.max))
            warnings.append(
                f"place {name} was baked for eyes in {header.zone_min} to {header.zone_max} of its field; the show's zone is "
                f"{low} to {high} there. Bake it for this show (ledvolume bake RUN --show), or check field_from_stage"
            )
    return warnings


def open_zone_maps(show: Show, headers: dict[str, bricks.Header]) -> tuple[dict[str, ZoneMap], list[str]]:
    """Place → its map of the safe camera zone, for those that have one beside their scene; and what to say of the others'."""
    found = {name: map_beside(show.places[name].file, header.source_sha256) for name, header in headers.items()}
    maps = {name: zone for name, (zone, _) in found.items() if zone is not None}
    return maps, [words for _, told in found.values() for words in told]


def fixture_warnings(show: Show) -> list[str]:
    """What to say of light fixtures that nothing is sent to, and of outputs that have nothing to send."""
    lit = [uri for uri in show.outputs if uri.startswith(("sacn:", "artnet:"))]
    if show.fixtures and not lit:
        return [
            f"the show has {len(show.fixtures)} light fixtures, and no output to tell them: add sacn://… or artnet://… (docs/light.md)"
        ]
    return [f"{uri}: nothing to send: the show has no [[fixture]] (docs/light.md)" for uri in lit if not show.fixtures]


def refusal_warnings(inputs: schedule.Inputs, told: set[str]) -> list[str]:
    """What to say of kinds of refusal that are not in `told` yet, and of readings that a lens table does not answer; they
    are then."""
    rejects = inputs.rejects()
    new, unanswered = rejects.keys() - told, inputs.lens_flags().keys() - told
    flooded = [source for source, _ in inputs.sources if source.flooded and f"flooded {source.uri}" not in told]
    told |= new | unanswered | {f"flooded {source.uri}" for source in flooded}
    warnings = [LENS_WORDS[word] for word in sorted(unanswered)] + [
        f"poses of camera {', '.join(sorted(inputs.unknown)[:4])} are refused: the show has {', '.join(inputs.timelines)} ([[camera]] id)"
        if reason == "unknown-camera"
        else f"poses are refused, {reason}: {what_to_check(reason)}; `ledvolume listen` shows the datagrams"
        for reason in sorted(new)
    ]
    for source in flooded:
        [(sender, _)] = source.senders.most_common(1) or [("its sender", 0)]
        warnings.append(
            f"{source.uri} is flooded: more comes than a frame can take, most of it from {sender}. The newest are taken"
        )
    return warnings


def warm_up(renderer: Renderer, show: Show) -> None:
    """Draw the outer picture once and let drivers compile what they compile at first use."""
    if not renderer.places:  # patterns need none
        return
    rig = show.stage.rigs[0]
    camera = Timeline(rig, show.initial[rig.camera_id]).camera_at(0)
    for _ in range(2):
        renderer.render(FrameRequest(0, 0, 0, camera, show.start, quality=show.quality))


def _source_status(source) -> dict:
    before, option, options = source.uri.partition("?")
    return {
        "uri": f"{before.rpartition(':')[0]}:{source.port}{option}{options}",  # where the show says port 0: the real one
        "datagrams": source.received,
        "flooded": source.flooded,
        "dropped_by_kernel": source.dropped,
        "without_kernel_stamp": source.unstamped,
    }
