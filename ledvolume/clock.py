"""House clock: when each frame is shown, and waiting for it.

Instants are integer nanoseconds of CLOCK_REALTIME, the clock on which the kernel stamps datagrams (SO_TIMESTAMPNS).
PTP or NTP keeps it in step with the other machines from outside. Frame n is shown at
epoch + n·10⁹·den // num: integers only, so no rate ever drifts and all nodes agree on every frame.
"""

import time
from collections.abc import Callable
from fractions import Fraction

import msgspec

from ledvolume.errors import ConfigError

SECOND_NS = 1_000_000_000
LONGEST_SLEEP_NS = 50_000_000


class Tick(msgspec.Struct, frozen=True):
    """One frame to be made: its index and when it is shown."""

    index: int
    present_at_ns: int


class FrameClock:
    """Hands out ticks in order; late ones are skipped and counted, never queued.

    lead_ns: how long before `present_at_ns` a tick is handed out; default one frame.
    shortest_lead_ns: a frame that has less time than this left is skipped; default half of `lead_ns`.
    `skipped`: frames that were never handed out because their time had passed.
    The clock never hands out an index twice: if the house clock is stepped back, it waits.
    """

    def __init__(
        self,
        rate: Fraction,
        epoch_ns: int,
        lead_ns: int | None = None,
        shortest_lead_ns: int | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ):
        self.rate, self.epoch_ns = rate, epoch_ns
        self.lead_ns = frame_start_ns(1, rate, 0) if lead_ns is None else lead_ns
        self.shortest_lead_ns = self.lead_ns // 2 if shortest_lead_ns is None else shortest_lead_ns
        self.skipped = 0
        self._now_ns, self._sleep_s = now_ns, sleep_s
        self._last_index = -1

    def present_at_ns(self, index: int) -> int:
        return frame_start_ns(index, self.rate, self.epoch_ns)

    def next_tick(self) -> Tick:
        """Wait for, and return, the next frame that can still be made in time."""
        index = max(self._last_index + 1, frame_index(self._now_ns() + self.shortest_lead_ns, self.rate, self.epoch_ns))
        if self._last_index >= 0:
            self.skipped += index - self._last_index - 1
        self._last_index = index
        present_at_ns = self.present_at_ns(index)
        self._sleep_until(present_at_ns - self.lead_ns)
        return Tick(index, present_at_ns)

    def _sleep_until(self, instant_ns: int) -> None:
        # The remaining time is computed afresh after each sleep: errors do not add up, and a stepped clock is noticed.
        while (remaining_ns := instant_ns - self._now_ns()) > 0:
            self._sleep_s(min(remaining_ns, LONGEST_SLEEP_NS) / SECOND_NS)


def frame_start_ns(index: int, rate: Fraction, epoch_ns: int) -> int:
    """epoch + index·10⁹·den // num."""
    return epoch_ns + index * SECOND_NS * rate.denominator // rate.numerator


def frame_index(instant_ns: int, rate: Fraction, epoch_ns: int) -> int:
    """The first frame, from 0 on, that starts at or after this instant."""
    frames, period = (instant_ns - epoch_ns) * rate.numerator, SECOND_NS * rate.denominator
    index = max(0, frames // period)
    while frame_start_ns(index, rate, epoch_ns) < instant_ns:
        index += 1
    return index


def frame_rate(text: str, key: str = "rate") -> Fraction:
    """Frames per second, exactly, from "24" or "24000/1001". "23.976" is refused: it is neither."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000 or "." in text:
        raise ConfigError("frame rate", key, 'frames per second such as "24", "60000/1001"', text)
    return rate
