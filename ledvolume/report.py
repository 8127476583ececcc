"""What the server says of itself: counts, times, the live line, warnings in words, the summary. Pure: instants are arguments.

late          handed to the outputs after the instant at which it was to be shown
skipped       never made, because its time had passed; the wall kept the frame before
pose to send  from the capture of the newest pose in a frame until the frame was handed to the outputs
"""

from collections import Counter, deque

import numpy as np

from ledvolume.frame import FrameRequest
from ledvolume.stage import Box
from ledvolume.timeline import NEVER_NS

REMEMBERED = 100_000  # frames that percentiles are taken over: an hour at 24 fps
RECENT_NS = 2_000_000_000


class Timing:
    """Durations of one kind."""

    def __init__(self):
        self.durations_ns: deque[int] = deque(maxlen=REMEMBERED)

    def add(self, duration_ns: int) -> None:
        self.durations_ns.append(duration_ns)

    def ms(self) -> dict[str, float] | None:
        """p50 and p99 in milliseconds; None where nothing was measured."""
        if not self.durations_ns:
            return None
        p50, p99 = np.percentile(self.durations_ns, (50, 99)) / 1e6
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


class Report:
    """One run of the server, frame by frame. available_ns: what a frame may take."""

    def __init__(self, zone: Box, available_ns: int):
        self.zone, self.available_ns = zone, available_ns
        self.frames = self.late = self.skipped = self.outside_zone = 0
        self.tracking: Counter[str] = Counter()
        self.pose_to_send, self.frame_time, self.render_time, self.python_time = Timing(), Timing(), Timing(), Timing()
        self.first_sent_ns = self.last_sent_ns = 0
        self.request: FrameRequest | None = None
        self._sent: deque[tuple[int, bool]] = deque()  # (instant, is_late) of the last RECENT_NS
        self._told: dict[str, int] = {}  # warning → when it was last said
        self._was_outside = False
        self._lost_since_ns: int | None = None  # capture of the last pose before a loss that was said

    def frame(self, request: FrameRequest, started_ns: int, decided_ns: int, rendered_ns: int, sent_ns: int) -> list[str]:
        """A frame has been sent; the instants are those of its way through the loop. Returns warnings to be said now."""
        before, self.request = self.request, request
        is_late = sent_ns > request.present_at_ns
        self.frames += 1
        self.late += is_late
        self.skipped += request.index - before.index - 1 if before else 0
        self.tracking[request.camera.tracking] += 1
        self.frame_time.add(sent_ns - started_ns)
        self.render_time.add(rendered_ns - decided_ns)
        self.python_time.add((decided_ns - started_ns) + (sent_ns - rendered_ns))
        if request.camera.tracking in ("measured", "predicted"):
            self.pose_to_send.add(sent_ns - captured_ns(request))
        self.first_sent_ns = self.first_sent_ns or sent_ns
        self.last_sent_ns = sent_ns
        self._sent.append((sent_ns, is_late))
        while self._sent[0][0] < sent_ns - RECENT_NS:
            self._sent.popleft()
        return [*self._zone_warnings(request), *self._tracking_warnings(before, request), *self._late_warnings(sent_ns)]

    @property
    def fps(self) -> float:
        """Of the last two seconds."""
        span_ns = self._sent[-1][0] - self._sent[0][0] if self._sent else 0
        return (len(self._sent) - 1) * 1e9 / span_ns if span_ns else 0.0

    def line(self, poses: int, refused: int) -> str:
        """The live line."""
        request = self.request
        if request is None:
            return "waiting for the first frame"
        latency_ms = self.pose_to_send.durations_ns[-1] / 1e6 if self.pose_to_send.durations_ns else None
        return " · ".join(
            (
                f"frame {request.index}",
                f"{self.fps:.1f} fps",
                f"{self.late} late" + (f", {self.skipped} skipped" if self.skipped else ""),
                f"render {self.render_time.durations_ns[-1] / 1e6:.0f} ms",
                f"{poses} poses, {refused} refused",
                _age_in_words(request),
                "pose to send " + (f"{latency_ms:.0f} ms" if latency_ms is not None else "-"),
            )
        )

    def summary(self) -> dict:
        """Counts and times for the status file."""
        span_s = (self.last_sent_ns - self.first_sent_ns) / 1e9
        return {
            "frames": self.frames,
            "frames_late": self.late,
            "frames_skipped": self.skipped,
            "fps": round((self.frames - 1) / span_s, 2) if span_s else 0.0,
            "pose_to_send_ms": self.pose_to_send.ms(),
            "frame_ms": self.frame_time.ms(),
            "render_ms": self.render_time.ms(),
            "python_ms": self.python_time.ms(),
            "tracking": dict(self.tracking),
            "frames_outside_zone": self.outside_zone,
            "outer_steps": self.request.outer_steps if self.request else 0,
        }

    def _zone_warnings(self, request: FrameRequest) -> list[str]:
        at = request.camera.stage_from_camera.position_m
        is_outside = not self.zone.contains(at)
        self.outside_zone += is_outside
        changed, self._was_outside = is_outside != self._was_outside, is_outside
        if not changed or not self._may_say("zone", request.decided_at_ns):
            return []
        if not is_outside:
            return ["camera is back in the zone"]
        off = [max(lo - p, p - hi, 0.0) for lo, p, hi in zip(self.zone.min_m, at, self.zone.max_m)]
        where = ", ".join(f"{name} by {o:.2f} m" for name, o in zip("xyz", off) if o > 0)
        return [
            f"camera at x {at[0]:.2f} y {at[1]:.2f} z {at[2]:.2f} m is outside the zone in {where}: the place was baked for "
            "the zone and may look wrong from here. If the camera stands right, check stage_from_world"
        ]

    def _tracking_warnings(self, before: FrameRequest | None, now: FrameRequest) -> list[str]:
        """What to say when tracking is lost or comes back. A network that loses packets now and then is not said each time."""
        was, tracking = before.camera.tracking if before else "lost", now.camera.tracking
        if tracking in ("measured", "predicted"):
            since_ns, self._lost_since_ns = self._lost_since_ns, None
            if before is None or before.camera.age_ns == NEVER_NS:
                return [f"tracking of {now.camera.camera_id} is there"]
            if since_ns is None:
                return []
            return [f"tracking of {now.camera.camera_id} is back, after {(captured_ns(now) - since_ns) / 1e9:.1f} s"]
        if tracking == was:
            return []
        silent = _age_in_words(now)
        if tracking == "held":
            if not self._may_say("held", now.decided_at_ns):
                return []
            words = "the camera is held where it was. Has the tracker lost it, or the network a packet or two?"
        else:
            words = "the picture stands still and fades. Is the tracker sending? `ledvolume listen` tells"
        self._lost_since_ns = captured_ns(now)
        return [f"{silent}: {words}"]

    def _late_warnings(self, now_ns: int) -> list[str]:
        late = sum(is_late for _, is_late in self._sent)
        if len(self._sent) < 8 or late * 4 < len(self._sent) or not self._may_say("late", now_ns):
            return []
        took_ms, has_ms = np.median(list(self.frame_time.durations_ns)[-len(self._sent) :]) / 1e6, self.available_ns / 1e6
        advice = "Lower `rate`, or the wall's resolution, or use a faster GPU"
        if took_ms < 0.8 * has_ms and late * 2 < len(self._sent):
            advice = "Most are in time: does another program take this machine now and then?"
        return [
            f"{late} of the last {len(self._sent)} frames were late: a frame takes {took_ms:.0f} ms and has {has_ms:.0f}. {advice}"
        ]

    def _may_say(self, subject: str, now_ns: int, quiet_ns: int = 10_000_000_000) -> bool:
        if now_ns - self._told.get(subject, -quiet_ns) < quiet_ns:
            return False
        self._told[subject] = now_ns
        return True


def captured_ns(request: FrameRequest) -> int:
    """When the newest pose in a frame was captured."""
    return request.present_at_ns - request.camera.age_ns


def _age_in_words(request: FrameRequest) -> str:
    if request.camera.age_ns == NEVER_NS:
        return "no pose yet"
    tracking = "TRACKING LOST" if request.camera.tracking == "lost" else request.camera.tracking
    return f"{tracking}, pose {max(request.decided_at_ns - captured_ns(request), 0) / 1e6:.0f} ms old"
