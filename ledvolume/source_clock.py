"""A sender's own clock on the house clock. Decoder asks for each sample that carries a stamp of its sender.

What is seen of a datagram is received - stamped = offset + drift·time + delay, and a delay is never negative. So the
line under all points, as close to them as can be (Moon, Skelly, Towsley: "Estimation and removal of clock skew", INFOCOM
1999), is the sender's clock plus the shortest delay; the rest is jitter and falls away. The shortest delay itself cannot
be told from the offset: Rig.latency_ns takes it, with the tracker's own.

Points are the smallest of each BUCKET_NS, so that memory and work do not grow with the rate. The mapping follows the
line by slewing, so that stamps that rise are mapped to instants that rise, and never to one after their arrival.
"""

from collections import deque
from typing import Literal, NamedTuple

Mode = Literal["auto", "house", "source", "arrival"]
MODES = ("auto", "house", "source", "arrival")
Kind = Literal["house-utc", "house-tai", "source", "arrival", "none"]

OLDEST_NS = 2_000_000_000  # of a stamp on the house clock, before its arrival
NEWEST_NS = 10_000_000  # a stamp from the future: clocks on PTP agree within microseconds, on NTP within ~1 ms
TAI_AHEAD_NS = 37_000_000_000  # TAI - UTC since 2017: PTP's own time scale, given as if it were UTC
BUCKET_NS = 500_000_000
WINDOW_NS = 40_000_000_000
SLOPE_SPAN_NS = 8_000_000_000  # a shorter line says less about drift than quartz does
STEEPEST_PPM = 300.0
SLEW = 0.002  # s/s
FLAT_SPAN_NS = 3_000_000_000  # so long 200 ppm are 0.6 ms
FIRST_SLEW, FIRST_NS = 0.1, 5_000_000_000  # while the shortest delay is still being found
AHEAD_OF_CLOCK_NS = 100_000_000  # no path gets that much faster: the sender's clock was set
BACK_NS = 500_000_000  # stamps may fall back by reordering, but not so far
BEHIND_NS, BEHIND_SAMPLES, BEHIND_FOR_NS = 250_000_000, 5, 1_000_000_000  # a delay that does not end is no delay
BAD_IN_A_ROW = 3


class _Point(NamedTuple):
    """received - stamped, the smallest of its bucket."""

    at_ns: int
    gap_ns: int


class SourceClock:
    """Maps one sender's stamps. A function of the datagrams seen so far: no clock is read.

    mode: "house" (stamps are UTC or TAI of the house), "source" (the sender's own), "arrival" (stamps are ignored), or
    "auto": house while the stamps lie OLDEST_NS before to NEWEST_NS after their arrival, else source.
    kind: what it is taken for now. offset_ns: received - stamped of the shortest delay, now. drift_ppm: + if the
    sender's clock is slow. jitter_ns: mean change of the delay from one datagram to the next (RFC 3550 §6.4.1).
    resets: times that the sender's clock was set or that it restarted.
    """

    def __init__(self, mode: Mode = "auto"):
        self.mode = mode
        self.kind: Kind = "arrival" if mode == "arrival" else "none"
        self.offset_ns = 0
        self.drift_ppm = 0.0
        self.jitter_ns = 0.0
        self.resets = 0
        self._last: tuple[int, int] | None = None  # (stamped, received)
        self._bad = 0
        self._forget()

    def captured_at_ns(self, stamped_at_ns: int, received_at_ns: int) -> int:
        """When the sample was captured, on the house clock; not after it was received, but for the house clock's own
        NEWEST_NS. A house stamp out of its bounds is mapped as it is in mode "house", for the caller to refuse."""
        if self.kind == "arrival":
            return received_at_ns
        gap_ns = received_at_ns - stamped_at_ns
        if self._last is None:
            self.kind = self._kind_of(gap_ns)
        else:
            self._watch(stamped_at_ns, received_at_ns, gap_ns)
        if self._last is not None:
            self.jitter_ns += (abs(gap_ns - (self._last[1] - self._last[0])) - self.jitter_ns) / 16
        self._last = (stamped_at_ns, received_at_ns)
        self._learn(received_at_ns, gap_ns)
        if self.kind == "source":
            return min(stamped_at_ns + self.offset_ns, received_at_ns)
        house_ns = stamped_at_ns - (TAI_AHEAD_NS if self.kind == "house-tai" else 0)
        if self.mode == "auto" and not _is_house(received_at_ns - house_ns):
            return received_at_ns  # one bad stamp; a few in a row are another kind of clock
        return house_ns

    def _kind_of(self, gap_ns: int) -> Kind:
        if self.mode == "source":
            return "source"
        if _is_house(gap_ns):
            return "house-utc"
        if _is_house(gap_ns + TAI_AHEAD_NS):
            return "house-tai"
        return "house-utc" if self.mode == "house" else "source"

    def _watch(self, stamped_ns: int, received_ns: int, gap_ns: int) -> None:
        """Was the sender's clock set? Then all that was learnt of it is forgotten."""
        if self.kind == "source":
            behind_ns = gap_ns - self._line_at(received_ns)
            set_back = stamped_ns < self._last[0] - BACK_NS and behind_ns > BACK_NS
            self._behind = self._behind + 1 if behind_ns > BEHIND_NS else 0
            self._behind_since_ns = received_ns if self._behind <= 1 else self._behind_since_ns
            stays_behind = self._behind >= BEHIND_SAMPLES and received_ns - self._behind_since_ns >= BEHIND_FOR_NS
            house_set_back = received_ns < self._last[1] - BACK_NS
            is_other = set_back or stays_behind or house_set_back or behind_ns < -AHEAD_OF_CLOCK_NS
        else:
            fits = _is_house(gap_ns + (TAI_AHEAD_NS if self.kind == "house-tai" else 0))
            self._bad = 0 if fits else self._bad + 1
            is_other = self._bad >= BAD_IN_A_ROW and self._kind_of(gap_ns) != self.kind
        if is_other:
            self._forget()
            self._last = None
            self._bad = 0
            self.resets += 1
            self.kind = self._kind_of(gap_ns)

    def _forget(self) -> None:
        self._points: deque[_Point] = deque()
        self._behind = self._behind_since_ns = 0
        self._since_ns = self._base_at_ns = self._mapped_at_ns = self._base_ns = 0
        self.drift_ppm = 0.0
        self.jitter_ns = 0.0

    def _learn(self, received_ns: int, gap_ns: int) -> None:
        if not self._points:
            self._since_ns = self._since_ns or received_ns
            self._points.append(_Point(received_ns, gap_ns))
            self._draw()
            self.offset_ns, self._mapped_at_ns = gap_ns, received_ns
            return
        newest = self._points[-1]
        if received_ns // BUCKET_NS > newest.at_ns // BUCKET_NS:
            self._points.append(_Point(received_ns, gap_ns))
            while received_ns - self._points[0].at_ns > WINDOW_NS:
                self._points.popleft()
            self._draw()
        elif gap_ns < newest.gap_ns + self.drift_ppm * (received_ns - newest.at_ns) / 1e6:
            self._points[-1] = _Point(received_ns, gap_ns)
            if gap_ns < self._line_at(received_ns) or received_ns - self._since_ns < FIRST_NS:
                self._draw()
        self._slew(received_ns)

    def _line_at(self, at_ns: int) -> int:
        return self._base_ns + round(self.drift_ppm * (at_ns - self._base_at_ns) / 1e6)

    def _draw(self) -> None:
        """The line under the points: the edge of their lower hull above which the points' mean time lies."""
        points = self._points
        if points[-1].at_ns - points[0].at_ns < SLOPE_SPAN_NS:
            flat = self.drift_ppm / 1e6  # 0 at first; as it was after a pause
            recent = [p for p in points if points[-1].at_ns - p.at_ns <= FLAT_SPAN_NS]
            lowest = min(recent, key=lambda p: p.gap_ns - flat * (p.at_ns - recent[0].at_ns))
            self._base_at_ns, self._base_ns = lowest
            return
        hull: list[_Point] = []
        for p in points:
            while len(hull) > 1 and _turns_right(hull[-2], hull[-1], p):
                hull.pop()
            hull.append(p)
        mean_ns = sum(p.at_ns - points[0].at_ns for p in points) / len(points) + points[0].at_ns
        right = next(k for k in range(1, len(hull)) if hull[k].at_ns >= mean_ns or k == len(hull) - 1)
        a, b = hull[right - 1], hull[right]
        self.drift_ppm = min(max((b.gap_ns - a.gap_ns) / (b.at_ns - a.at_ns) * 1e6, -STEEPEST_PPM), STEEPEST_PPM)
        self._base_at_ns, self._base_ns = b

    def _slew(self, received_ns: int) -> None:
        """offset_ns goes on with the drift and toward the line, no faster than may be."""
        passed_ns = max(received_ns - self._mapped_at_ns, 0)
        rate = FIRST_SLEW if received_ns - self._since_ns < FIRST_NS else SLEW
        follows = self.offset_ns + self.drift_ppm * passed_ns / 1e6
        most = rate * passed_ns
        self.offset_ns = round(follows + min(max(self._line_at(received_ns) - follows, -most), most))
        self._mapped_at_ns = max(received_ns, self._mapped_at_ns)


def _is_house(gap_ns: int) -> bool:
    return -NEWEST_NS <= gap_ns <= OLDEST_NS


def _turns_right(a: _Point, b: _Point, c: _Point) -> bool:
    """b lies on or above the line from a to c."""
    return (b.gap_ns - a.gap_ns) * (c.at_ns - a.at_ns) >= (c.gap_ns - a.gap_ns) * (b.at_ns - a.at_ns)
