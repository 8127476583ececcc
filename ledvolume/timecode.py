"""Timecode as people read it: HH:MM:SS:FF, with ; before the frames where frame numbers are dropped (SMPTE ST 12-1).

29.97 and 59.94 frames a second are counted as 30 and 60; drop frame leaves out the numbers (not the pictures) 0 and 1 (59.94:
0 to 3) of every minute that is no multiple of ten, so that the count keeps to the clock.
"""

import re
from fractions import Fraction
from math import ceil

import msgspec

from ledvolume.errors import OutputError


class Timecode(msgspec.Struct, frozen=True):
    """The address of one frame."""

    hours: int
    minutes: int
    seconds: int
    frames: int
    is_drop: bool = False


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
    if is_drop and (rate.denominator != 1001 or counted % 30):
        raise OutputError(f"timecode {text} drops frame numbers; that exists at 29.97 and 59.94 frames a second, not at {rate}")
    if is_drop and frames < counted // 15 and seconds == 0 and minutes % 10:
        raise OutputError(f"timecode {text}: drop frame leaves this number out; the next one is ;{counted // 15:02}")
    return Timecode(hours, minutes, seconds, frames, is_drop)
