"""Flashes that say when they were: which surfaces are lit in `flash/N`. A new N with every frame (patterns.py).

Whether a surface is lit is a bit drawn from a hash of its name and N: no two surfaces flash alike, any two seconds of it are
like no others, and half of all frames begin or end a flash, which is what tells the time.
"""

import hashlib
import re

NUMBERS = 4096  # then it begins again: 68 s at 60 frames a second
NAME = re.compile(r"flash/(\d{1,4})")


def is_lit(surface: str, number: int) -> bool:
    """Whether the whole surface is white, else black."""
    block, bit = divmod(number % NUMBERS, 512)
    code = hashlib.sha512(f"ledvolume flash {surface} {block}".encode()).digest()
    return bool(code[bit // 8] >> (7 - bit % 8) & 1)


def number_of(name: str) -> int | None:
    """N of a pattern's name; None for another pattern."""
    found = NAME.fullmatch(name)
    return int(found[1]) if found and int(found[1]) < NUMBERS else None
