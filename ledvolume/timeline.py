"""Where the camera is at the instant a frame is shown. Between the decoders and the FrameRequest.

Samples come at the tracker's own rate and moments; frames are shown at the wall's. Between two samples the pose is
interpolated; beyond the newest it goes on as prediction.py says for a bounded time, eases out and is then held. When
nothing comes for longer, the inner picture fades into the outer one (Camera.presence):

    captured:   •    •    •    •    •  newest
    frame at:      measured            |   predicted   |  held: eases out, rests  |  lost: fades   |   lost: gone
                                       0           horizon_ns  (2 horizon_ns)   lost_ns     lost_ns + fade_ns   age

Nothing ever makes the picture jump. A sample that no camera can follow (a corrupted datagram, a tracker that mistakes
a marker) is kept aside; when several in a row agree, the tracker means it. After such a jump, or when samples return
after a hold, the pose is blended over from where it stood; a picture that has faded comes back where the camera is.
A sample that arrives after later ones is put in its place, so that a replay of the past uses it; the prediction from a
sample counts only what had come before that one, so a late one never bends what is being shown. All of it is a function
of the samples added so far and of the instant asked for: no clock is read, and asking changes nothing.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from fractions import Fraction
from statistics import median

import msgspec

from ledvolume import lens_table
from ledvolume.camera import Camera, CameraSample, LensReading, Rig, Tracking, entrance_pupil, lens_of, reading_between
from ledvolume.lens import Lens
from ledvolume.pose import Pose, Vec3, interpolate, multiply, rotation_vector
from ledvolume.prediction import AT_REST, HISTORY_S, Motion, eased, motion, moved
from ledvolume.timecode import CodeClock

NEVER_NS = 2**63 - 1  # age of a camera that never had a sample
REMEMBERED_SAMPLES = 1024
REMEMBERED_RETURNS = 16
MOST_IN_HISTORY = 256  # samples that a prediction is made of: no tracker sends more in the time
MOST_PAIRS = 8  # for the velocity that a new sample is judged by: a flood of samples must not cost a flood of pairs


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a pose is trusted, and what a camera can do.

    fade_ns: from lost_ns on, the inner picture takes so long to fade; it comes back within blend_ns.
    velocity_window_ns: for judging the next sample; predictions have their own windows (prediction.py).

    A sample is off if it is farther from where it was expected than slack + speed·jitter + ½·acceleration·dt².
    The accelerations are those of a hand-held whip pan (about five times gravity); the slacks those of a poor tracker;
    `jitter_s` is how far the stamps of datagrams without `captured_at` may be off. Zoom is in natural logarithm, and
    3/s is twenty times in a second.
    """

    horizon_ns: int = 100_000_000
    lost_ns: int = 1_000_000_000
    blend_ns: int = 300_000_000
    fade_ns: int = 1_000_000_000
    velocity_window_ns: int = 50_000_000
    slack_m: float = 0.010
    slack_rad: float = 0.017
    slack_zoom: float = 0.01
    jitter_s: float = 0.010
    acceleration_m_s2: float = 50.0
    acceleration_rad_s2: float = 100.0
    zoom_per_s: float = 3.0
    speed_m_s: float = 10.0
    speed_rad_s: float = 15.0
    agreeing_samples: int = 3


class _Knot(msgspec.Struct):
    """A sample in the timeline. starts_anew: it does not continue the movement of the one before. order: of arrival.
    movement_ns: of the first knot of its movement, since which there was no gap either."""

    at_ns: int
    pose: Pose
    lens: LensReading
    starts_anew: bool
    order: int
    movement_ns: int
    velocity: Motion | None = None  # by the median, for judging; computed when first needed
    motion: Motion | None = None  # for predicting; computed when first needed


class _Return(msgspec.Struct, frozen=True):
    """The movement starts anew at at_ns. Frames from seen_from_ns on know of it; until settled_at_ns they blend over
    from `stood`, the pose that frames before it showed, and from its presence."""

    at_ns: int
    seen_from_ns: int
    settled_at_ns: int
    stood: Pose
    presence: float


class Timeline:
    """The recent past of one camera, and so its near future.

    rig: camera_id "*" takes every camera. initial: stage_from_camera until the first sample has come.
    lead_ns: how long before a frame is shown its camera is asked for (FrameClock.lead_ns): a blend begins with the
    first frame that can know of it. rate: at which the samples' timecode counts; `timecode` tells it. `accepted` and `rejects`
    count samples; `reordered` those of the accepted that came after later ones; `lens_flags` those to which the rig's lens
    table has no full answer (lens_table.trouble).
    """

    def __init__(
        self, rig: Rig, initial: Pose = Pose(), limits: Limits = Limits(), lead_ns: int = 0, rate: Fraction = Fraction(24)
    ):
        self.timecode = CodeClock(rate)
        self.rig, self.initial, self.limits, self.lead_ns = rig, initial, limits, lead_ns
        self.accepted = 0
        self.reordered = 0
        self.rejects: Counter[str] = Counter()
        self.lens_flags: Counter[str] = Counter()
        self._knots: list[_Knot] = []
        self._times: list[int] = []
        self._returns: list[_Return] = []
        self._suspects: list[CameraSample] = []

    def add(self, sample: CameraSample) -> None:
        """Take a sample in, or count why not: other-camera, duplicate, late, implausible-jump."""
        if self.rig.camera_id not in ("*", sample.camera_id):
            self.rejects["other-camera"] += 1
            return
        if self.rig.lens_table is not None:
            word = lens_table.trouble(self.rig.lens_table, sample.lens.zoom_encoder, sample.lens.focus_encoder)
            self.lens_flags.update([word] if word else [])
        at_ns = sample.captured_at_ns - self.rig.latency_ns
        if self._knots and at_ns <= self._times[-1]:
            self._insert(sample, at_ns)
            return
        if not self._knots or self._follows(sample, at_ns):
            self._suspects.clear()
            was_held = bool(self._knots) and at_ns - self._times[-1] > self.limits.horizon_ns
            self._append(sample, at_ns, known_at_ns=sample.received_at_ns if was_held else None)
            return
        if self._suspects and not self._agrees(self._suspects[-1], sample):
            self._suspects.clear()
        self._suspects.append(sample)
        if len(self._suspects) < self.limits.agreeing_samples:
            self.rejects["implausible-jump"] += 1
            return
        for i, suspect in enumerate(self._suspects):
            known_at_ns = sample.received_at_ns if i == 0 else None
            self._append(suspect, suspect.captured_at_ns - self.rig.latency_ns, known_at_ns)
        self.accepted += 1 - len(self._suspects)  # the earlier ones were counted as jumps when they came
        self._suspects.clear()

    def camera_at(self, present_at_ns: int) -> Camera:
        """The camera as it will be at this instant, by all that is known now."""
        if not self._knots:
            _, lens = entrance_pupil(self.rig, Pose(), LensReading())
            return Camera(self.initial, lens, "lost", NEVER_NS, self.rig.camera_id)
        pose, reading, tracking, age_ns, presence = self._state_at(present_at_ns)
        stage_from_camera, lens = entrance_pupil(self.rig, pose, reading)
        return Camera(stage_from_camera, lens, tracking, age_ns, self.rig.camera_id, presence)

    def _state_at(self, t_ns: int) -> tuple[Pose, LensReading, Tracking, int, float]:
        """Pose of the tracked point, lens, tracking, age (since the newest sample not after t), presence."""
        known, latest_return = bisect_right(self._times, t_ns), None
        for latest_return in reversed(self._returns):
            if t_ns >= latest_return.seen_from_ns:
                break
            known, latest_return = min(known, bisect_left(self._times, latest_return.at_ns)), None
        i = max(known - 1, 0)
        knot = self._knots[i]
        age_ns = max(t_ns - knot.at_ns, 0)
        following = self._knots[i + 1] if i + 1 < len(self._knots) else None
        if t_ns < knot.at_ns:
            pose, lens, tracking = knot.pose, knot.lens, "held"
        elif following is not None and not following.starts_anew:
            fraction = (t_ns - knot.at_ns) / (following.at_ns - knot.at_ns)
            pose = interpolate(knot.pose, following.pose, fraction)
            lens, tracking = reading_between(knot.lens, following.lens, fraction), "measured"
        else:
            ahead_s = eased(age_ns / 1e9, self.limits.horizon_ns / 1e9)
            pose, lens = moved(knot.pose, self._motion(i), ahead_s), knot.lens
            tracking = self._tracking(age_ns)
        presence = 1.0 if tracking != "lost" else 1 - _smooth((age_ns - self.limits.lost_ns) / max(self.limits.fade_ns, 1))
        if latest_return is not None and t_ns < latest_return.settled_at_ns:
            weight = _smooth((t_ns - latest_return.seen_from_ns) / self.limits.blend_ns)
            if latest_return.presence > 0:
                pose = interpolate(latest_return.stood, pose, weight)
            presence = latest_return.presence + (presence - latest_return.presence) * weight
            tracking = "predicted" if tracking == "measured" else tracking
        return pose, lens, tracking, age_ns, presence

    def _tracking(self, age_ns: int) -> Tracking:
        if age_ns == 0:
            return "measured"
        if age_ns <= self.limits.horizon_ns:
            return "predicted"
        return "held" if age_ns <= self.limits.lost_ns else "lost"

    def _append(self, sample: CameraSample, at_ns: int, known_at_ns: int | None) -> None:
        """known_at_ns: the movement starts anew with this sample, as we know since then."""
        if known_at_ns is not None:
            seen_from_ns = max(known_at_ns + self.lead_ns, at_ns)
            stood, *_, presence = self._state_at(seen_from_ns)
            self._returns = self._returns[1 - REMEMBERED_RETURNS :]
            self._returns.append(_Return(at_ns, seen_from_ns, seen_from_ns + self.limits.blend_ns, stood, presence))
        if sample.timecode:
            self.timecode.add(at_ns, sample.timecode)
        before = self._knots[-1] if self._knots else None
        goes_on = before is not None and known_at_ns is None and at_ns - before.at_ns <= self.limits.horizon_ns
        movement_ns = before.movement_ns if goes_on else at_ns
        pose, lens = sample.world_from_tracker, sample.lens
        self._knots.append(_Knot(at_ns, pose, lens, known_at_ns is not None, self.accepted, movement_ns))
        self._times.append(at_ns)
        self.accepted += 1
        if len(self._knots) > 2 * REMEMBERED_SAMPLES:
            del self._knots[:REMEMBERED_SAMPLES], self._times[:REMEMBERED_SAMPLES]

    def _insert(self, sample: CameraSample, at_ns: int) -> None:
        """A sample that came after later ones goes to its place, if it lies near enough to the line between its neighbours."""
        i = bisect_left(self._times, at_ns)
        if self._times[i] == at_ns:
            self.rejects["duplicate"] += 1
            return
        after, limits = self._knots[i], self.limits
        if i == 0 or after.starts_anew or after.at_ns - self._times[i - 1] > limits.horizon_ns:
            self.rejects["late"] += 1
            return
        before = self._knots[i - 1]
        since_s, span_s = (at_ns - before.at_ns) / 1e9, (after.at_ns - before.at_ns) / 1e9
        fraction = since_s / span_s
        expected = interpolate(before.pose, after.pose, fraction)
        lens = reading_between(before.lens, after.lens, fraction)
        off_m, off_rad, off_zoom = self._difference(expected, lens, sample.world_from_tracker, sample.lens)
        bend = since_s * (span_s - since_s) / 2
        if (
            off_m > limits.slack_m + limits.acceleration_m_s2 * bend
            or off_rad > limits.slack_rad + limits.acceleration_rad_s2 * bend
            or off_zoom > limits.slack_zoom + limits.zoom_per_s * span_s
        ):
            self.rejects["late"] += 1
            return
        pose, lens = sample.world_from_tracker, sample.lens
        self._knots.insert(i, _Knot(at_ns, pose, lens, False, self.accepted, before.movement_ns))
        self._times.insert(i, at_ns)
        self.accepted += 1
        self.reordered += 1

    def _motion(self, i: int) -> Motion:
        """How the camera moves on from knot i, by the samples that had come when it came."""
        knot = self._knots[i]
        if knot.motion is None:
            first = self._since(i, round(HISTORY_S * 1e9))
            window = [k for k in self._knots[first : i + 1] if k.order <= knot.order]
            window = window[:: -1 - len(window) // MOST_IN_HISTORY][::-1]
            knot.motion = motion([(k.at_ns - knot.at_ns) / 1e9 for k in window], [k.pose for k in window])
        return knot.motion

    def _since(self, i: int, window_ns: int) -> int:
        """Index of the oldest knot of the movement that knot i continues, in a window before it and without a gap."""
        oldest = bisect_right(self._times, self._times[i] - window_ns) - 1
        began = bisect_left(self._times, self._knots[i].movement_ns)
        return max(oldest, began, 0)

    def _velocity(self, i: int) -> Motion | None:
        """At knot i, for judging the next sample: the median over pairs half a window apart, so that one bad sample has no
        say. None where samples are too few or too close to tell."""
        knot = self._knots[i]
        if knot.velocity is None:
            window = self._knots[self._since(i, self.limits.velocity_window_ns) : i + 1]
            window = window[:: -(-len(window) // (2 * MOST_PAIRS))] if len(window) > 2 * MOST_PAIRS else window
            half = len(window) // 2
            # Bursts of datagrams stamped on arrival lie microseconds apart: such pairs say nothing about velocity.
            pairs = [(a, b) for a, b in zip(window, window[half:]) if b.at_ns - a.at_ns >= self.limits.jitter_s * 5e8]
            knot.velocity = _median_velocity(pairs) if pairs else None
        return knot.velocity

    def _follows(self, sample: CameraSample, at_ns: int) -> bool:
        """Can a camera that moved as ours did be here now? Judged at the entrance pupil. After `lost_ns`: anywhere."""
        newest, limits = self._knots[-1], self.limits
        dt_s = (at_ns - newest.at_ns) / 1e9
        if dt_s * 1e9 > limits.lost_ns:
            return True
        velocity = self._velocity(len(self._knots) - 1)
        expected = moved(newest.pose, velocity or AT_REST, dt_s)
        off_m, off_rad, off_zoom = self._difference(expected, newest.lens, sample.world_from_tracker, sample.lens)
        if velocity is None:
            speed_m_s, speed_rad_s, span_s = limits.speed_m_s, limits.speed_rad_s, limits.jitter_s + dt_s
        else:
            speed_m_s, speed_rad_s, span_s = math.hypot(*velocity.velocity), math.hypot(*velocity.turn_rate), limits.jitter_s
        return (
            off_m <= limits.slack_m + speed_m_s * span_s + limits.acceleration_m_s2 * dt_s * dt_s / 2
            and off_rad <= limits.slack_rad + speed_rad_s * span_s + limits.acceleration_rad_s2 * dt_s * dt_s / 2
            and off_zoom <= limits.slack_zoom + limits.zoom_per_s * dt_s
        )

    def _agrees(self, suspect: CameraSample, sample: CameraSample) -> bool:
        """Do two samples in a row speak of the same camera, at any speed that a camera can have?"""
        limits = self.limits
        dt_s = (sample.captured_at_ns - suspect.captured_at_ns) / 1e9
        if not 0 < dt_s * 1e9 <= limits.horizon_ns:
            return False
        off_m, off_rad, off_zoom = self._difference(
            suspect.world_from_tracker, suspect.lens, sample.world_from_tracker, sample.lens
        )
        span_s = dt_s + limits.jitter_s
        return (
            off_m <= limits.slack_m + limits.speed_m_s * span_s
            and off_rad <= limits.slack_rad + limits.speed_rad_s * span_s
            and off_zoom <= limits.slack_zoom + limits.zoom_per_s * span_s
        )

    def _difference(self, a: Pose, a_reading: LensReading, b: Pose, b_reading: LensReading) -> tuple[float, float, float]:
        """(m, rad, log of zoom) between two cameras, at the entrance pupil; in the world, where distances are the same."""
        a_lens, b_lens = lens_of(self.rig, a_reading), lens_of(self.rig, b_reading)
        off_m = math.dist(self._pupil_in_world(a, a_lens), self._pupil_in_world(b, b_lens))
        dot = abs(sum(p * q for p, q in zip(a.wxyz, b.wxyz)))
        return off_m, 2 * math.acos(min(dot, 1.0)), abs(math.log(b_lens.focal_length_mm / a_lens.focal_length_mm))

    def _pupil_in_world(self, world_from_tracker: Pose, lens: Lens) -> Vec3:
        return world_from_tracker.apply(self.rig.tracker_from_camera.apply((0.0, lens.entrance_pupil_m, 0.0)))


def _smooth(fraction: float) -> float:
    """0 to 1 without a step in speed."""
    f = min(max(fraction, 0.0), 1.0)
    return f * f * (3 - 2 * f)


def _median_velocity(pairs: list[tuple[_Knot, _Knot]]) -> Motion:
    linear, angular = [], []
    for a, b in pairs:
        seconds = (b.at_ns - a.at_ns) / 1e9
        w, x, y, z = a.pose.wxyz
        turn = rotation_vector(multiply(b.pose.wxyz, (w, -x, -y, -z)))
        linear.append([(q - p) / seconds for p, q in zip(a.pose.position_m, b.pose.position_m)])
        angular.append([c / seconds for c in turn])
    still = AT_REST.acceleration
    return Motion(tuple(map(median, zip(*linear))), still, tuple(map(median, zip(*angular))), still)
