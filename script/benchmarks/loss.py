"""A tracker that falls silent while the server runs: what the wall is sent, and what the operator is told."""

import math
from collections.abc import Iterable
from itertools import groupby, pairwise

from benchmarks.live_show import FRAME_NS, LiveShow, Seen, eye_at, tracker
from benchmarks.vectors import as_a_turn
from ledvolume.clock import SECOND_NS
from ledvolume.frame import FrameRequest
from measure import ROOT, Row

TRACKED_S = 2.0  # before and after each silence
# seconds of silence → what frames' tracking goes through, what is said. Held cameras are said once in ten seconds.
SILENCES = {
    0.5: ("predicted, held, predicted", ("held", "is back")),
    0.1: ("predicted, held, predicted", ()),
    5.0: ("predicted, held, lost, faded, predicted", ("TRACKING LOST", "is back")),
}


def lost_tracking() -> Iterable[Row]:
    """a hand-held camera's tracker stops for 0.1, 0.5 and 5 s in a live run: states, words, the largest step of a frame"""
    stops, at_s = [], TRACKED_S
    for silent_s in SILENCES:
        stops.append((at_s, at_s + silent_s))
        at_s += silent_s + TRACKED_S
    with LiveShow(ROOT / "out" / "figures" / "loss") as live:
        with tracker(live.source, at_s, *stops) as process:
            started_ns = int(process.stdout.readline())
        summary = live.stop()
    own_m, own_deg = own_steps(live, at_s)
    yield Row("frames of the run late or skipped", summary["frames_late"] + summary["frames_skipped"], f"of {summary['frames']}")
    for (begin_s, end_s), (silent_s, (states, words)) in zip(stops, SILENCES.items()):
        begin_ns, end_ns = (started_ns + round(s * SECOND_NS) for s in (begin_s - TRACKED_S / 2, end_s + TRACKED_S / 2))
        frames = [f for f in live.frames if begin_ns <= f.request.present_at_ns < end_ns]
        said = [text for when_ns, text in live.said if begin_ns <= when_ns < end_ns]
        found = ", ".join(state for state, _ in groupby(state_of(f.request) for f in frames))
        name = f"silent for {silent_s:g} s"
        yield Row(f"{name}: tracking", found, "", ("=", states))
        for text in words:
            yield Row(f"{name}: words with {text!r}", sum(text in line for line in said), "", ("≥", 1))
        eye, turn = largest_steps(frames)
        yield Row(f"{name}: largest step of the eye in a frame / the move's own", eye / own_m, "", ("≤", 2))
        yield Row(f"{name}: largest turn in a frame / the move's own", turn / own_deg, "", ("≤", 2))
        yield Row(f"{name}: largest change of presence in a frame", largest_fade(frames), "", ("≤", 0.25))


def state_of(request: FrameRequest) -> str:
    """Tracking, and whether the inner picture is gone. Measured or predicted is the same to the eye."""
    if request.camera.presence == 0:
        return "faded"
    return "predicted" if request.camera.tracking == "measured" else request.camera.tracking


def own_steps(live: LiveShow, seconds: float) -> tuple[float, float]:
    """The largest step (m) and turn (degrees) that the move itself makes in the time of a frame."""
    frame_s = float(FRAME_NS / SECOND_NS)
    eyes = [(eye_at(live.show, t / 100), eye_at(live.show, t / 100 + frame_s)) for t in range(int(seconds * 100))]
    return max(math.dist(a.position_m, b.position_m) for a, b in eyes), max(as_a_turn(a.wxyz, b.wxyz) for a, b in eyes)


def largest_steps(frames: list[Seen]) -> tuple[float, float]:
    """From frame to frame, in m and degrees, as far as they are seen: times the presence of the inner picture."""
    eye_m = turn_deg = 0.0
    for (a, *_), (b, *_) in pairwise(frames):
        shown = min(a.camera.presence, b.camera.presence) / (b.index - a.index)
        p, q = a.camera.stage_from_camera, b.camera.stage_from_camera
        eye_m = max(eye_m, shown * math.dist(p.position_m, q.position_m))
        turn_deg = max(turn_deg, shown * as_a_turn(p.wxyz, q.wxyz))
    return eye_m, turn_deg


def largest_fade(frames: list[Seen]) -> float:
    return max(abs(b.camera.presence - a.camera.presence) / (b.index - a.index) for (a, *_), (b, *_) in pairwise(frames))


MEASUREMENTS = (lost_tracking,)
