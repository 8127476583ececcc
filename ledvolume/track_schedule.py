"""Requests for the frames of a recorded track, where the time before and after each frame is known: schedule.py's third kind.

    live      the camera is predicted from what has come            (schedule.live)
    track     the camera is interpolated between the samples on both sides of the frame, and never predicted

Frames lie at exactly clock.frame_start_ns, at any rate. Before the first sample and after the last there is no frame.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from statistics import median

import msgspec

from ledvolume.camera import Camera, CameraSample, Rig, entrance_pupil
from ledvolume.clock import SECOND_NS, frame_index, frame_start_ns
from ledvolume.coverage import needed_overscan
from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.pose import interpolate
from ledvolume.reframe import Reframe, reframed
from ledvolume.timecode import JUMP_FRAMES, can_drop, frame_number, numbered, timecode
from ledvolume.timeline import Limits
from ledvolume.tracks.resample import Playing

SHORTEST_GAP_NS = 100_000_000
GAP_STEPS = 3  # times the usual distance of two samples
MOST_GAPS_TOLD = 4
USUAL_RATES = tuple(map(Fraction, ("24", "25", "30000/1001", "30", "50", "60000/1001", "60")))


class Schedule(msgspec.Struct, frozen=True):
    """Requests in the order of their frames, and what somebody should know of them."""

    requests: list[FrameRequest]
    warnings: list[str]


def from_track(
    samples: Sequence[CameraSample],
    rig: Rig,
    rate: Fraction,
    scene: str,
    *,
    quality: str = "show",
    outer_steps: int = 16,
    epoch_ns: int | None = None,
    footprint: Footprint = Footprint(),
    reframe: Reframe = Reframe(),
    limits: Limits = Limits(),
    timecode_rates: Sequence[Fraction] = (),
) -> Schedule:
    """The frames of one camera's samples. Raises ConfigError where there is none.

    epoch_ns: instant of frame 0; default: the first sample's. timecode_rates: what the samples' timecode may be counted at,
    beside `rate` and the usual ones; which one it is, the samples tell.
    """
    ordered = sorted(samples, key=lambda sample: sample.captured_at_ns)
    kept = without_spikes(ordered, limits)
    instants = [sample.captured_at_ns - rig.latency_ns for sample in kept]
    first_ns, last_ns = instants[0], instants[-1]
    epoch_ns = first_ns if epoch_ns is None else epoch_ns
    index, frames = frame_index(first_ns, rate, epoch_ns), []
    while (at_ns := frame_start_ns(index, rate, epoch_ns)) <= last_ns:
        frames.append((index, at_ns))
        index += 1
    if not frames:
        raise ConfigError(
            "track", "samples", f"a frame's instant between the first and the last, at {rate} fps", f"{len(kept)} samples"
        )
    warnings = gaps_in_words(instants, epoch_ns)
    if len(kept) < len(ordered):
        warnings.append(
            f"{len(ordered) - len(kept)} samples lie where no camera can have been between their neighbours: left out"
        )
    codes = carried_timecodes(
        [(at_ns, sample.timecode) for at_ns, sample in zip(instants, kept) if sample.timecode],
        [at_ns for _, at_ns in frames],
        rate,
        timecode_rates,
    )
    if not all(codes) and any(sample.timecode for sample in kept):
        warnings.append(f"{codes.count('')} of {len(frames)} frames have no timecode: what the samples say is none")
    playing, newest, requests = Playing(tuple(kept)), 0, []
    for (index, at_ns), code in zip(frames, codes):
        sample = playing.at(at_ns + rig.latency_ns)
        while newest + 1 < len(instants) and instants[newest + 1] <= at_ns:
            newest += 1
        stage_from_camera, lens = entrance_pupil(rig, sample.world_from_tracker, sample.lens)
        camera = reframed(Camera(stage_from_camera, lens, "measured", at_ns - instants[newest], rig.camera_id), reframe)
        requests.append(
            FrameRequest(
                index=index,
                present_at_ns=at_ns,
                decided_at_ns=at_ns,
                camera=camera,
                scene=scene,
                quality=quality,
                outer_steps=outer_steps,
                overscan=min(needed_overscan(camera.lens, 0.0), footprint.most),
                timecode=code,
            )
        )
    return Schedule(requests, warnings)


def without_spikes(ordered: Sequence[CameraSample], limits: Limits) -> list[CameraSample]:
    """The samples, but of those at one instant the last, and none that is a spike: far off the line between its neighbours,
    which agree with each other. A live timeline refuses such jumps as well; a cut, after which samples agree, is none."""
    once = list({sample.captured_at_ns: sample for sample in ordered}.values())
    kept = once[:1]
    for sample, after in zip(once[1:], once[2:]):
        if not _is_spike(kept[-1], sample, after, limits):
            kept.append(sample)
    return kept + (once[-1:] if len(once) > 1 else [])


def _is_spike(before: CameraSample, sample: CameraSample, after: CameraSample, limits: Limits) -> bool:
    span_ns, since_ns = after.captured_at_ns - before.captured_at_ns, sample.captured_at_ns - before.captured_at_ns
    if span_ns > limits.horizon_ns:
        return False
    expected = interpolate(before.world_from_tracker, after.world_from_tracker, since_ns / span_ns)
    off_m, off_rad = _between(expected, sample.world_from_tracker)
    apart_m, apart_rad = _between(before.world_from_tracker, after.world_from_tracker)
    bend_s2 = since_ns * (span_ns - since_ns) / 2e18
    return (off_m > limits.slack_m + limits.acceleration_m_s2 * bend_s2 and apart_m < off_m / 2) or (
        off_rad > limits.slack_rad + limits.acceleration_rad_s2 * bend_s2 and apart_rad < off_rad / 2
    )


def _between(a, b) -> tuple[float, float]:
    dot = abs(sum(p * q for p, q in zip(a.wxyz, b.wxyz)))
    return math.dist(a.position_m, b.position_m), 2 * math.acos(min(dot, 1.0))


def gaps_in_words(instants: Sequence[int], epoch_ns: int) -> list[str]:
    """What to say of times without samples, over which the camera is interpolated all the same. Seconds count from frame 0."""
    steps = [b - a for a, b in zip(instants, instants[1:])]
    if not steps:
        return []
    longest_ns = max(SHORTEST_GAP_NS, GAP_STEPS * median(steps))
    gaps = [(a, b) for a, b in zip(instants, instants[1:]) if b - a > longest_ns]
    if not gaps:
        return []
    told = ", ".join(f"{(a - epoch_ns) / 1e9:.3f} to {(b - epoch_ns) / 1e9:.3f} s" for a, b in gaps[:MOST_GAPS_TOLD])
    more = f" and {len(gaps) - MOST_GAPS_TOLD} more" if len(gaps) > MOST_GAPS_TOLD else ""
    return [f"no samples from {told}{more}: the camera goes straight from one to the next"]


def carried_timecodes(
    told: Sequence[tuple[int, str]], instants: Sequence[int], rate: Fraction, others: Sequence[Fraction] = ()
) -> list[str]:
    """Timecode of frames at `rate` from what samples had: (instant, text). "" where there is none.

    Samples say in which frame of the timecode they were captured, not where in it. All that belong to one run of the counter
    together say when it changes, to within their distance. Frames count on from the first one in the run exactly, so that
    at the timecode's own rate no number comes twice. Where the counter was set anew, another run begins.
    """
    if not told:
        return [""] * len(instants)
    counter_rate, is_drop = _counter(told, rate, others)
    runs = _runs(told, counter_rate)
    out_drops = is_drop and can_drop(rate)
    codes, run, first = [], -1, None
    for at_ns in instants:
        while run + 1 < len(runs) and (runs[run + 1][0] <= at_ns or run < 0):
            run, first = run + 1, None
        if run < 0:
            codes.append("")
            continue
        if first is None:
            # a nanosecond: instants are rounded down to whole ones
            first = at_ns, math.floor((at_ns + 1) * counter_rate / SECOND_NS - runs[run][1])
        since = round((at_ns - first[0]) * rate / SECOND_NS)  # frames, exactly
        number = first[1] + since * counter_rate / rate
        if rate != counter_rate:
            seconds = number / (counter_rate if is_drop else ceil(counter_rate))
            number = math.floor(seconds * (rate if out_drops else ceil(rate)) + Fraction(1, 2))
        codes.append(str(numbered(math.floor(number), rate, out_drops)))
    return codes


def _counter(told: Sequence[tuple[int, str]], rate: Fraction, others: Sequence[Fraction]) -> tuple[Fraction, bool]:
    """(what the timecode is counted at, does it drop frames). Told by the highest frame number that was seen."""
    texts = [text for _, text in told]
    is_drop = any(";" in text for text in texts)
    highest = max((int(text[9:]) for text in texts if text[9:].isdecimal()), default=0)
    possible = [r for r in (rate, *others, *USUAL_RATES) if ceil(r) > highest and (can_drop(r) or not is_drop)]
    return min(possible, key=ceil, default=Fraction(highest + 1)), is_drop


def _runs(told: Sequence[tuple[int, str]], rate: Fraction) -> list[tuple[int, Fraction]]:
    """(instant of its first sample, frames from instant 0 to its number 0) of every run of the counter."""
    runs, day = [], 24 * 3600 * ceil(rate)
    reference = Fraction(0)
    for at_ns, text in told:
        try:
            zero = at_ns * rate / SECOND_NS - frame_number(timecode(text, rate), rate)
        except OutputError:
            continue
        off = (zero - reference + day // 2) % day - day // 2 if runs else None  # midnight is no jump
        if off is None or abs(off) > JUMP_FRAMES:
            runs.append((at_ns, zero))
            reference = zero
        elif off < runs[-1][1] - reference:
            runs[-1] = (runs[-1][0], reference + off)
    return runs
