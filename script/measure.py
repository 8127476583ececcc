"""Measured rows with their bars: how script/figures and script/bench run, print and keep what they measure.

A measurement is a function that returns rows; its name is how it is chosen and its docstring says what it does.
Measurements run one after the other, so that none competes with another for the machine.
"""

import json
import math
import operator
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELATIONS = {"≥": operator.ge, "≤": operator.le, "=": operator.eq}


@dataclass(frozen=True)
class Row:
    """One number with what is asked of it. bar: relation and number in the row's unit, e.g. ("≥", 35); None: told only."""

    name: str
    value: float | int | bool | str | None
    unit: str = ""
    bar: tuple[str, float | str] | None = None

    @property
    def holds(self) -> bool:
        """False for what could not be measured (None) and for NaN, whatever the bar."""
        if self.value is None or (isinstance(self.value, float) and math.isnan(self.value)):
            return False
        return self.bar is None or bool(RELATIONS[self.bar[0]](self.value, self.bar[1]))

    @property
    def bar_text(self) -> str:
        """`≥ 35 dB`, or empty."""
        return "" if self.bar is None else f"{self.bar[0]} {figure(self.bar[1])} {self.unit}".rstrip()

    def as_dict(self) -> dict:
        """As in the JSON file. A value that JSON has no number for is written as text."""
        odd = isinstance(self.value, float) and not math.isfinite(self.value)
        value = str(self.value) if odd else self.value
        return {"name": self.name, "value": value, "unit": self.unit, "bar": self.bar_text, "holds": self.holds}


Measurement = Callable[[], Iterable[Row]]


def figure(value: float | int | bool | str | None) -> str:
    """Four significant digits, thousands marked, small numbers as powers of ten; text as it is."""
    if value is None:
        return "not measured"
    if isinstance(value, bool | str):
        return str(value).lower() if isinstance(value, bool) else value
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(rows: list[Row]) -> str:
    """Aligned columns name, value, bar, holds."""
    cells = [("name", "value", "bar", "holds")]
    for row in rows:
        told = "yes" if row.holds else "NO"
        told = "" if row.bar is None and row.holds else told
        cells.append((row.name, f"{figure(row.value)} {row.unit}".rstrip(), row.bar_text, told))
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    name, value, bar, holds = widths
    return "\n".join(f"{a:<{name}}  {b:>{value}}  {c:<{bar}}  {d:<{holds}}".rstrip() for a, b, c, d in cells)


def run(measurements: Iterable[Measurement], out: Path) -> bool:
    """Measures, saying so; prints the table; writes the rows to `out` as JSON. True where every row holds.

    A measurement that raises becomes a row without a value, which does not hold, and the others go on.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background our children would never hear of Ctrl+C
    rows: list[Row] = []
    chosen = list(measurements)
    for number, measurement in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {measurement.__name__}: {what_it_does(measurement)}", flush=True)
        started = time.monotonic()
        try:
            measured = list(measurement())
        except Exception:
            traceback.print_exc()
            measured = [Row(measurement.__name__, None)]
        rows += measured
        print(f"        {time.monotonic() - started:.1f} s", flush=True)
        for row in measured:
            told = "" if row.holds else f"   falls short of {row.bar_text}" if row.bar else "   not measured"
            print(f"        {row.name}: {f'{figure(row.value)} {row.unit}'.rstrip()}{told}", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([row.as_dict() for row in rows], indent=1, ensure_ascii=False) + "\n")
    short = [row for row in rows if not row.holds]
    print(f"\n{table(rows)}\n")
    print(f"{len(rows) - len(short)} of {len(rows)} rows hold; written to {out.relative_to(ROOT)}")
    return bool(rows) and not short


def what_it_does(measurement: Measurement) -> str:
    """The first line of its docstring."""
    return (measurement.__doc__ or measurement.__name__).strip().splitlines()[0]


def matching(measurements: Iterable[Measurement], pattern: str | None) -> list[Measurement]:
    """Those whose name contains the pattern, dashes and underscores being the same."""
    wanted = (pattern or "").replace("-", "_")
    return [m for m in measurements if wanted in m.__name__]
