"""Timecode as people read it: HH:MM:SS:FF, with ; before the frames where frame numbers are dropped (SMPTE ST 12-1).

29.97 and 59.94 frames a second are counted as 30 and 60; drop frame leaves out the numbers (not the pictures) 0 and 1 (59.94:
0 to 3) of every minute that is no multiple of ten, so that the count keeps to the clock.
"""

import re
from fractions import Fraction
from math import ceil

import msgspec

from ledvolume.errors import OutputError

JUMP_FRAMES = 2  # a timecode that is off by more is another one: the clock was set


class Timecode(msgspec.Struct, frozen=True):
    """The address of one frame."""

    hours: int
    minutes: int
    seconds: int
    frames: int
    is_drop: bool = False

    def __str__(self) -> str:
        return f"{self.hours:02}:{self.minutes:02}:{self.seconds:02}{';' if self.is_drop else ':'}{self.frames:02}"


def timecode(text: str, rate: Fraction) -> Timecode:
    """Raises OutputError for what is no timecode at this rate."""
    found = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;])(\d\d\d?)", text)
    counted = ceil(rate)
    if found is None:
        raise OutputError(f"timecode {text!r}: expected HH:MM:SS:FF, with ; before FF for drop frame")
    hours, minutes, seconds, frames = (int(found[i]) for i in (1, 2, 3, 5))
    if hours > 23 or minutes > 59 or seconds > 59 or frames >= counted:
        raise OutputError(f"timecode {text}: expected hours to 23, minutes and seconds to 59, frames to {counted - 1} at {rate}")
    is_drop = found[4] == ";"
    if is_drop and not can_drop(rate):
        raise OutputError(f"timecode {text} drops frame numbers; that exists at 29.97 and 59.94 frames a second, not at {rate}")
    if is_drop and frames < counted // 15 and seconds == 0 and minutes % 10:
        raise OutputError(f"timecode {text}: drop frame leaves this number out; the next one is ;{counted // 15:02}")
    return Timecode(hours, minutes, seconds, frames, is_drop)


def frame_number(code: Timecode, rate: Fraction) -> int:
    """How many frames a counter has counted since 00:00:00:00 when it shows this."""
    counted, minutes = ceil(rate), 60 * code.hours + code.minutes
    dropped = counted // 15 * (minutes - minutes // 10) if code.is_drop else 0
    return counted * (60 * minutes + code.seconds) + code.frames - dropped


def numbered(number: int, rate: Fraction, is_drop: bool = False) -> Timecode:
    """The inverse of `frame_number`; after 24 hours it begins again. is_drop: for rates at which `can_drop`."""
    counted = ceil(rate)
    if is_drop:
        dropped = counted // 15
        in_minute = 60 * counted - dropped  # of the nine minutes of ten that begin with dropped numbers
        number %= 144 * (10 * in_minute + dropped)
        tens, rest = divmod(number, 10 * in_minute + dropped)
        number += dropped * (9 * tens + max(0, rest - dropped) // in_minute)
    seconds, frames = divmod(number % (24 * 3600 * counted), counted)
    return Timecode(seconds // 3600, seconds // 60 % 60, seconds % 60, frames, is_drop)


def can_drop(rate: Fraction) -> bool:
    """Drop frame exists at 29.97 and 59.94 (and 119.88) frames a second."""
    return rate.denominator == 1001 and ceil(rate) % 30 == 0


class CodeClock:
    """A camera's timecode at any instant, by the samples that carried it. rate: at which it is counted, the show's.

    A sample says in which frame of the counter it was captured, not where in it. The earliest that the counter can have been
    at 0, by all samples of one run, is where its numbers change; a number that is off by more than JUMP_FRAMES begins another.
    """

    def __init__(self, rate: Fraction):
        self.rate = rate
        self._zero_ns: int | None = None
        self._is_drop = False

    def add(self, at_ns: int, text: str) -> None:
        """The timecode of a sample; what is none at this rate is passed over."""
        try:
            code = timecode(text, self.rate)
        except OutputError:
            return
        frame_ns = Fraction(1_000_000_000) / self.rate
        zero_ns, day_ns = at_ns - round(frame_number(code, self.rate) * frame_ns), round(24 * 3600 * ceil(self.rate) * frame_ns)
        if self._zero_ns is not None:
            off_ns = (zero_ns - self._zero_ns + day_ns // 2) % day_ns - day_ns // 2  # midnight is no jump
            if abs(off_ns) <= JUMP_FRAMES * frame_ns:
                self._zero_ns += min(off_ns, 0)
                return
        self._zero_ns, self._is_drop = zero_ns, code.is_drop

    def at(self, instant_ns: int) -> str:
        """ "" where no sample has had one."""
        if self._zero_ns is None:
            return ""
        return str(numbered((instant_ns - self._zero_ns) * self.rate // 1_000_000_000, self.rate, self._is_drop))
