"""What an operator wants to know of a source: does every camera come steadily, by what clock, and what is refused and why.
For `ledvolume listen`. A function of the datagrams that it is given: no clock is read, and memory is bounded.

    rate      of the newest samples, by their arrival
    interval  the median one: what the sender means
    jitter    half of what holds the middle nine tenths of the intervals of arrival
    missing   samples that should lie between two that came, by the sender's stamps, or by arrival where it has none.
              What comes late in a burst after a gap is not missing
    age       arrival - capture; what it would be to be captured on arrival is unknown, where there is no stamp
"""

import statistics
from collections import Counter, deque
from typing import NamedTuple

from ledvolume.camera import CameraSample
from ledvolume.errors import ProtocolError
from ledvolume.pose import Pose
from ledvolume.protocols.advice import what_it_means, what_to_check
from ledvolume.protocols.decoder import Decoder
from ledvolume.source_clock import SourceClock
from ledvolume.sources import Datagram

RECENT = 256
MOST_CAMERAS = 64
MOST_IGNORED_SHOWN = 16
SHOWN_CHARACTERS = 300
MEDIAN_EVERY = 16
FEWEST = 8  # intervals that a median is taken of
GAP, BURST = 1.75, 0.25  # of the usual interval
FROZEN_NS = 1_000_000_000
STOPPED_NS = 1_000_000_000
BIN_NS = 100_000
LONGEST_BIN = 10_000  # of the histogram: 1 s


class CameraHealth:
    """One camera of a source.

    gaps: times that samples were missing, `missing` of them. bursts: samples on the heels of the one before. unchanged_ns:
    for how long the newest pose has been the same to the last bit; longest_unchanged_ns. intervals: histogram of the
    intervals of arrival, by BIN_NS.
    """

    def __init__(self, camera_id: str):
        self.camera_id = camera_id
        self.samples = self.gaps = self.missing = self.bursts = 0
        self.longest_interval_ns = self.longest_unchanged_ns = self.oldest_ns = 0
        self.first_at_ns = 0
        self.newest: CameraSample | None = None
        self.is_stamped = False
        self.intervals: Counter[int] = Counter()
        self._arrivals: deque[int] = deque(maxlen=RECENT)
        self._steps: deque[int] = deque(maxlen=RECENT)  # from sample to sample, on the clock that tells of missing ones
        self._ages: deque[int] = deque(maxlen=RECENT)
        self._usual_ns = 0
        self._late = 0  # samples of the last gap that may yet come
        self._same_since_ns = 0

    def add(self, sample: CameraSample) -> None:
        """The next sample, in the order of arrival."""
        before, self.newest = self.newest, sample
        self.samples += 1
        self.is_stamped |= bool(sample.stamped_at_ns) or sample.captured_at_ns != sample.received_at_ns
        age_ns = sample.received_at_ns - sample.captured_at_ns
        self._ages.append(age_ns)
        self.oldest_ns = max(self.oldest_ns, age_ns)
        self._arrivals.append(sample.received_at_ns)
        if before is None:
            self.first_at_ns = self._same_since_ns = sample.received_at_ns
            return
        interval_ns = max(sample.received_at_ns - before.received_at_ns, 0)
        self.intervals[min(interval_ns // BIN_NS, LONGEST_BIN)] += 1
        self.longest_interval_ns = max(self.longest_interval_ns, interval_ns)
        if _pose_of(sample) != _pose_of(before):
            self._same_since_ns = sample.received_at_ns
        self.longest_unchanged_ns = max(self.longest_unchanged_ns, self.unchanged_ns)
        self._look_for_gap(interval_ns, _paced_at_ns(sample) - _paced_at_ns(before))

    def _look_for_gap(self, interval_ns: int, step_ns: int) -> None:
        if step_ns > interval_ns + STOPPED_NS:
            step_ns = interval_ns  # the sender's clock was set
        if 0 < step_ns < STOPPED_NS:
            self._steps.append(step_ns)
            if len(self._steps) >= FEWEST and (self.samples % MEDIAN_EVERY == 0 or not self._usual_ns):
                self._usual_ns = round(statistics.median(self._steps))
        if not (usual_ns := self._usual_ns):
            return
        is_burst = interval_ns < BURST * usual_ns
        self.bursts += is_burst
        if step_ns > GAP * usual_ns:
            self._late = round(step_ns / usual_ns) - 1
            self.gaps += 1
            self.missing += self._late
        elif is_burst and self._late and step_ns <= interval_ns:
            self._late -= 1
            self.missing -= 1
            self.gaps -= not self._late
        else:
            self._late = 0

    @property
    def unchanged_ns(self) -> int:
        return self.newest.received_at_ns - self._same_since_ns if self.newest else 0

    @property
    def rate_hz(self) -> float | None:
        """None before there are enough."""
        if len(self._arrivals) <= FEWEST or self._arrivals[-1] <= self._arrivals[0]:
            return None
        return (len(self._arrivals) - 1) * 1e9 / (self._arrivals[-1] - self._arrivals[0])

    @property
    def jitter_ms(self) -> float | None:
        """None before there are enough."""
        arrivals = list(self._arrivals)
        if len(arrivals) <= FEWEST:
            return None
        low, high = _percentiles([b - a for a, b in zip(arrivals, arrivals[1:])], 0.05, 0.95)
        return (high - low) / 2e6

    @property
    def age_ms(self) -> float | None:
        """The median of the newest; None where nothing is stamped."""
        return statistics.median(self._ages) / 1e6 if self.is_stamped and self._ages else None

    def summary(self, clock: SourceClock | None) -> dict:
        """For programs. clock: the decoder's of this camera."""
        seconds = (self.newest.received_at_ns - self.first_at_ns) / 1e9 if self.newest else 0.0
        return {
            "samples": self.samples,
            "seconds": round(seconds, 3),
            "rate_hz": _rounded((self.samples - 1) / seconds if seconds > 0 else None),
            "jitter_ms": _rounded(self.jitter_ms),
            "longest_interval_ms": _rounded(self.longest_interval_ns / 1e6),
            "gaps": self.gaps,
            "missing": self.missing,
            "bursts": self.bursts,
            "age_ms": _rounded(self.age_ms),
            "oldest_ms": _rounded(self.oldest_ns / 1e6) if self.is_stamped else None,
            "longest_unchanged_ms": _rounded(self.longest_unchanged_ns / 1e6),
            "clock": clock_summary(clock) if clock else {"kind": "house" if self.is_stamped else "arrival"},
        }


class News(NamedTuple):
    """What one datagram brought: samples, refusals (the newest of each datagram), and what is heard of for the first time."""

    samples: list[CameraSample]
    reject: ProtocolError | None
    flags: list[str]
    ignored: list[str]


class SourceHealth:
    """One source: its decoder, its cameras, and the newest text of every kind of trouble.

    unlisted: samples of cameras beyond MOST_CAMERAS.
    """

    def __init__(self, uri: str, decoder: Decoder):
        self.uri, self.decoder = uri, decoder
        self.cameras: dict[str, CameraHealth] = {}
        self.datagrams = self.unlisted = 0
        self.newest_at_ns = 0
        self.refused: dict[str, str] = {}  # reason → the newest text
        self._told: set[tuple[str, str]] = set()

    def add(self, datagram: Datagram) -> News:
        """Decode the next datagram."""
        decoder, refused_before = self.decoder, self.decoder.rejects.total()
        samples = decoder.decode(datagram)
        self.datagrams += 1
        self.newest_at_ns = datagram.received_at_ns
        for sample in samples:
            camera = self.cameras.get(sample.camera_id)
            if camera is None and len(self.cameras) < MOST_CAMERAS:
                camera = self.cameras[sample.camera_id] = CameraHealth(sample.camera_id)
            if camera is None:
                self.unlisted += 1
            else:
                camera.add(sample)
        reject = None
        if decoder.rejects.total() > refused_before:
            reject = decoder.last_reject
            self.refused[reject.reason] = str(reject)[:SHOWN_CHARACTERS]
        return News(samples, reject, self._new("flag", decoder.flags), self._new("ignored", decoder.ignored))

    def _new(self, what: str, kinds: Counter[str]) -> list[str]:
        new = [kind for kind in kinds if (what, kind) not in self._told] if len(kinds) else []
        self._told |= {(what, kind) for kind in new}
        return new

    def clock_of(self, camera_id: str) -> SourceClock | None:
        """The clock of a camera's sender, if it stamps by one of its own."""
        clocks = self.decoder.clocks
        return next((clock for wire_id, clock in clocks.items() if self.decoder.cameras.get(wire_id, wire_id) == camera_id), None)

    def troubles(self) -> list[tuple[str, str, int, str, str]]:
        """(refused or flagged or ignored, which kind, how often, the newest text, what to check), most frequent first."""
        decoder, found = self.decoder, []
        for reason, times in decoder.rejects.most_common():
            found.append(("refused", reason, times, self.refused.get(reason, ""), what_to_check(reason)))
        for kind, times in decoder.flags.most_common():
            found.append(("flagged", kind, times, decoder.flagged.get(kind, "")[:SHOWN_CHARACTERS], what_it_means(kind)))
        for kind, times in decoder.ignored.most_common(MOST_IGNORED_SHOWN):
            found.append(("ignored", kind, times, "", ""))
        return found

    def warnings(self, camera: CameraHealth, now_ns: int) -> list[str]:
        """What is wrong with a camera's samples, in words."""
        words, silent_ns = [], now_ns - camera.newest.received_at_ns
        if silent_ns > STOPPED_NS:
            words.append(f"nothing for {silent_ns / 1e9:.1f} s")
        elif camera.unchanged_ns > FROZEN_NS:
            no_word = " (FreeD has no word for a lost camera)" if self.decoder.protocol == "freed" else ""
            words.append(f"the same pose for {camera.unchanged_ns / 1e9:.1f} s: locked off, or is the tracker frozen?{no_word}")
        if camera.missing:
            words.append(f"{camera.missing} samples missing in {camera.gaps} gaps: cables, Wi-Fi, a switch that is too slow")
        if camera.bursts > camera.samples / 10:
            words.append(f"{camera.bursts} of {camera.samples} samples come in bursts: the sender or the network holds them back")
        clock = self.clock_of(camera.camera_id)
        if clock is not None and clock.resets:
            words.append(f"the sender's clock was set, or it restarted, {clock.resets} times")
        return words

    def summary(self) -> dict:
        """For programs."""
        decoder, troubles = self.decoder, self.troubles()
        told = {what: {} for what in ("refused", "flagged", "ignored")}
        for what, kind, times, newest, advice in troubles:
            told[what][kind] = times if what == "ignored" else {"count": times, "newest": newest, "check": advice}
        return {
            "uri": self.uri,
            "datagrams": self.datagrams,
            "accepted": decoder.accepted,
            "cameras": {name: camera.summary(self.clock_of(name)) for name, camera in self.cameras.items()},
            **({"unlisted": self.unlisted} if self.unlisted else {}),
            **told,
        }


def clock_summary(clock: SourceClock) -> dict:
    """A sender's clock for programs."""
    return {
        "kind": clock.kind,
        "offset_ms": _rounded(clock.offset_ns / 1e6),
        "drift_ppm": _rounded(clock.drift_ppm),
        "jitter_ms": _rounded(clock.jitter_ns / 1e6),
        "resets": clock.resets,
    }


def _paced_at_ns(sample: CameraSample) -> int:
    """On the clock that tells best when a sample was made: the sender's, else when it was captured or came."""
    return sample.stamped_at_ns or sample.captured_at_ns


def _pose_of(sample: CameraSample) -> Pose:
    return sample.world_from_tracker


def _percentiles(values: list[int], *fractions: float) -> list[float]:
    ordered = sorted(values)
    return [ordered[round(fraction * (len(ordered) - 1))] for fraction in fractions]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
