"""Which patterns are shown, one after the other, and when: by the clock, or as somebody says. Pure: instants are arguments.

gray       white, black, every surface alone, all bits of the columns' and rows' Gray codes with their negatives
flash      every frame another one of the flashes that latency is measured by
dots, white, black, identify, …      one pattern (ledvolume/patterns.py)
"""

from collections.abc import Sequence

from ledvolume import flash_code, patterns
from ledvolume.errors import ConfigError
from ledvolume.frame import PATTERN_CUE
from ledvolume.stage import Surface


def names_of(surfaces: Sequence[Surface], words: Sequence[str]) -> list[str]:
    """Patterns in the order in which they are shown. `gray` stands for those of all surfaces together: a surface with fewer
    bits than another is black in what it does not have. Raises ConfigError."""
    names = []
    for word in words:
        if word == "gray":
            names += gray(surfaces)
        elif word == "flash":
            names += [f"flash/{number}" for number in range(flash_code.NUMBERS)]
        else:
            if word.startswith("surface/") and word[8:] not in (known := [surface.name for surface in surfaces]):
                raise ConfigError("pattern", word, f"one of the surfaces {', '.join(known)}", word[8:])
            patterns.check(word)
            names.append(word)
    if not names:
        raise ConfigError("pattern", "--series", "gray, dots, flash, white, identify, or names of patterns", "none")
    return list(dict.fromkeys(names))


def gray(surfaces: Sequence[Surface]) -> list[str]:
    """One series for all surfaces at once: as patterns.series has it, in the order of the first that needs a name."""
    of_each = [patterns.series(surface) for surface in surfaces]
    whole = [name for names in of_each for name in names if "/" not in name]
    alone = [name for names in of_each for name in names if name.startswith("surface/")]
    codes = [[name for name in names if name.startswith("gray/")] for names in of_each]
    by_axis = [max(([name for name in names if name.startswith(f"gray/{axis}/")] for names in codes), key=len) for axis in "xy"]
    return list(dict.fromkeys([*whole, *alone, *by_axis[0], *by_axis[1]]))


def cue_of(name: str) -> str:
    return PATTERN_CUE + name


def name_of(cue: str) -> str:
    """The pattern of a cue; "" where it is none."""
    return cue.removeprefix(PATTERN_CUE) if cue.startswith(PATTERN_CUE) else ""


class Timed:
    """Every pattern for as long, from the first instant that is asked for. rounds: how often."""

    def __init__(self, names: Sequence[str], each_ns: int, rounds: int = 1):
        self.names, self.each_ns, self.rounds = list(names), each_ns, rounds
        self._first_ns: int | None = None

    def __call__(self, at_ns: int) -> str | None:
        """The cue at an instant; None when all were shown."""
        self._first_ns = at_ns if self._first_ns is None else self._first_ns
        number = (at_ns - self._first_ns) // self.each_ns
        return cue_of(self.names[number % len(self.names)]) if number < self.rounds * len(self.names) else None


class Stepped:
    """The next pattern when it is asked for, or one by its name; after the last one the first again, until it is ended."""

    def __init__(self, names: Sequence[str]):
        self.names, self.now = list(names), names[0]
        self._is_ended = False

    def __call__(self, at_ns: int) -> str | None:
        return None if self._is_ended else cue_of(self.now)

    def say(self, line: str) -> None:
        """A line that somebody typed: nothing for the next, `back`, the name of a pattern, or `q`. Raises ConfigError."""
        word = line.strip()
        if word == "q":
            self._is_ended = True
        elif word in ("", "back"):
            place = self.names.index(self.now) if self.now in self.names else -1
            self.now = self.names[(place + (1 if not word else -1)) % len(self.names)]
        else:
            patterns.check(word)
            self.now = word
