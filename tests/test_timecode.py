"""Counting frames as SMPTE ST 12-1 has it: what is dropped, and that nothing else is."""

import math
from fractions import Fraction

import pytest

from ledvolume.errors import OutputError
from ledvolume.timecode import CodeClock, frame_number, numbered, timecode

NTSC, NTSC60 = Fraction(30000, 1001), Fraction(60000, 1001)

# Counted by hand. Drop frame at 29.97: minutes that are no multiple of ten have 1798 frames, ten minutes 9·1798 + 1800 = 17982,
# an hour 107892, a day 2589408. At 59.94 all of it twice. Without drop frame an hour of 24 is 86400, of 25 90000.
CASES = [
    ("00:00:00:00", "24", 0),
    ("01:00:00:00", "24000/1001", 86400),
    ("10:11:12:13", "25", 916_813),  # 36672 s · 25 + 13
    ("00:00:59;29", NTSC, 1799),
    ("00:01:00;02", NTSC, 1800),
    ("00:01:59;29", NTSC, 3597),
    ("00:02:00;02", NTSC, 3598),
    ("00:09:59;29", NTSC, 17981),
    ("00:10:00;00", NTSC, 17982),
    ("00:10:59;29", NTSC, 19781),
    ("00:11:00;02", NTSC, 19782),
    ("01:00:00;00", NTSC, 107_892),
    ("23:59:59;29", NTSC, 2_589_407),
    ("01:00:00:00", NTSC, 108_000),  # 29.97 without drop frame
    ("00:00:59;59", NTSC60, 3599),
    ("00:01:00;04", NTSC60, 3600),
    ("01:00:00;00", NTSC60, 215_784),
    ("00:00:01:47", "48", 95),
    ("00:00:00:119", "120", 119),
]


@pytest.mark.parametrize("text, rate, number", CASES, ids=[f"{text} at {rate}" for text, rate, _ in CASES])
def test_frames_are_counted_and_numbered(text, rate, number):
    code = timecode(text, Fraction(rate))
    assert frame_number(code, Fraction(rate)) == number
    assert numbered(number, Fraction(rate), code.is_drop) == code
    assert str(code) == text


@pytest.mark.parametrize(
    "number, rate, is_drop, text",
    [
        (2_589_408, NTSC, True, "00:00:00;00"),
        (2_073_600, Fraction(24), False, "00:00:00:00"),
        (-1, NTSC, True, "23:59:59;29"),
        (-1, Fraction(25), False, "23:59:59:24"),
    ],
)
def test_a_day_ends_at_midnight(number, rate, is_drop, text):
    assert str(numbered(number, rate, is_drop)) == text


def test_every_number_of_a_drop_frame_hour_has_a_timecode_of_its_own():
    texts = [str(numbered(number, NTSC, True)) for number in range(107_892)]
    assert texts == sorted(texts) and len(set(texts)) == len(texts)
    assert not [text for text in texts if text[6:8] == "00" and text[-2:] in ("00", "01") and text[4] != "0"]
    assert all(frame_number(timecode(text, NTSC), NTSC) == number for number, text in enumerate(texts))


@pytest.mark.parametrize(
    "text, rate, told",
    [
        ("00:01:00;00", NTSC, "leaves this number out; the next one is ;02"),
        ("00:00:00;00", Fraction(24), "exists at 29.97 and 59.94"),
        ("00:00:00:24", Fraction(24000, 1001), "frames to 23"),
        ("24:00:00:00", Fraction(24), "hours to 23"),
        ("1:2:3:4", Fraction(24), "expected HH:MM:SS:FF"),
    ],
)
def test_what_is_no_timecode_is_refused(text, rate, told):
    with pytest.raises(OutputError, match=told):
        timecode(text, rate)


# ---- the timecode of a live camera


def test_numbers_of_a_live_timecode_rise_by_one_though_samples_come_anywhere_in_their_frame():
    import random

    rate, r = Fraction(24000, 1001), random.Random(4)
    frame_ns = 1_001_000_000 / 24
    zero_ns = 1_790_000_000_000_000_000
    clock = CodeClock(rate)
    assert clock.at(zero_ns) == ""
    codes = []
    for n in range(2000):
        at_ns = zero_ns + round((n + r.random()) * frame_ns)
        clock.add(at_ns, str(numbered(86_000 + math.floor((at_ns - zero_ns) / frame_ns), rate)))
        codes.append(frame_number(timecode(clock.at(zero_ns + round((n + 2.5) * frame_ns)), rate), rate))
    assert codes[100:] == list(range(86_102, 86_002 + 2000))


def test_a_live_timecode_goes_on_over_midnight_and_begins_anew_where_it_was_set():
    clock, second_ns = CodeClock(Fraction(25)), 1_000_000_000
    clock.add(0, "23:59:59:24")
    assert clock.at(second_ns) == "00:00:00:24"
    clock.add(second_ns, "00:00:00:24")
    clock.add(2 * second_ns, "10:00:00:00")
    assert clock.at(3 * second_ns) == "10:00:01:00"
    clock.add(3 * second_ns, "nonsense")
    clock.add(3 * second_ns, "10:00:01:29")  # no such frame at 25
    assert clock.at(3 * second_ns) == "10:00:01:00"
