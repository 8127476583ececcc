"""When did the camera stand still, and what did every number do in between? Readings in, motions out.

All numbers of a sender lie on one time line, a row every BIN_NS (`Trace`). What standing still looks like, and so what is a
motion, is learnt from the numbers themselves (`MotionFinder`): nobody knows yet whether they are metres or millimetres. The
hands of an operator sway, so "still" is no change beyond the sway of the first stillness and beyond a part of the motion.
"""

from collections import deque

import msgspec
import numpy as np

from ledvolume.wizard.readings import Reading

BIN_NS = 50_000_000
GAP_NS = 1_000_000_000  # a sender silent for longer: nothing is known of that time
STILL_ROWS = 20  # 1 s
SETTLE_ROWS = 60  # of the first stillness, from which the sway is learnt
BEFORE_ROWS = (16, 6)  # before the row in which a motion is noticed: it began earlier
START, PEAK = 6.0, 12.0  # of the sway: a motion begins; a motion is one, not a wobble
LEAST_SWAY = 0.005  # metres, radians and quaternions are the smallest numbers: 3 cm or 2° begin a motion
LEAST_SWAY_OF_LENS = 0.0005
TURN_DEG, TURN_RAD = 360.0, 2 * np.pi


class Motion(msgspec.Struct, frozen=True):
    """What every number was before and after, averaged over a stillness. sway: its range in stillness.

    has_returned: it went somewhere and came back. before_at_ns, after_at_ns: the middle of the two stillnesses.
    """

    before: np.ndarray
    after: np.ndarray
    sway: np.ndarray
    has_returned: bool
    before_at_ns: int
    after_at_ns: int

    def change(self) -> np.ndarray:
        """(columns,) after - before; numbers that were not there before: 0."""
        out = self.after.copy()
        out[: len(self.before)] -= self.before
        out[len(self.before) :] = 0.0
        return out


class Trace:
    """Readings of all streams as rows of one time line: the mean of a bin, or the last value of what sends less often.

    Angles go on beyond their seam (±180°, 0 and 360°), quaternions keep their sign: numbers are continuous.
    `columns`: (stream, index, label) of every number. New streams append columns.
    """

    def __init__(self):
        self.columns: list[tuple[str, int, str]] = []
        self.texts: dict[str, tuple[str, ...]] = {}
        self._first: dict[str, int] = {}
        self._continuous: dict[str, _Continuous] = {}
        self._held = np.zeros(0)
        self._sum, self._count = np.zeros(0), np.zeros(0)
        self._bin: int | None = None

    def quanta(self) -> np.ndarray:
        """(columns,) the smallest step that each number ever made, 0 if none: what the wire rounds to, or less."""
        steps = np.concatenate([of_stream.quantum for of_stream in self._continuous.values()])
        return np.where(np.isfinite(steps), steps, 0.0)

    def add(self, reading: Reading) -> list[tuple[int, np.ndarray]]:
        """The rows that this reading completes: (at_ns, values)."""
        rows, number = [], reading.at_ns // BIN_NS
        if self._bin is not None and number > self._bin:
            gap = (number - self._bin) * BIN_NS > GAP_NS
            rows = [self._row(n) for n in range(self._bin, self._bin + 1 if gap else number)]
        if self._bin is None or number > self._bin:
            self._bin = number
        stream = reading.stream
        if stream not in self._first:
            self._first[stream] = len(self.columns)
            self.columns += [(stream, i, label) for i, label in enumerate(reading.labels)]
            self._continuous[stream] = _Continuous(len(reading.values))
            new = np.nan_to_num(np.array(reading.values, float))
            self._held = np.concatenate((self._held, new))
            self._sum = np.concatenate((self._sum, np.zeros(len(new))))
            self._count = np.concatenate((self._count, np.zeros(len(new))))
            self.texts[stream] = reading.texts
        values = self._continuous[stream].next(np.array(reading.values, float))
        if values is not None:
            here = slice(self._first[stream], self._first[stream] + len(values))
            known = np.isfinite(values)
            self._sum[here] += np.where(known, values, 0.0)
            self._count[here] += known
        return rows

    def _row(self, number: int) -> tuple[int, np.ndarray]:
        counted = self._count > 0
        self._held = np.where(counted, self._sum / np.maximum(self._count, 1), self._held)
        self._sum, self._count = np.zeros_like(self._sum), np.zeros_like(self._count)
        return number * BIN_NS + BIN_NS // 2, self._held.copy()


class _Continuous:
    """Values of one stream without the jumps of angles at their seam and of quaternions from q to -q."""

    def __init__(self, size: int):
        self._raw = self._step = None
        self._turns, self._signs = np.zeros(size), np.ones(size)
        self.quantum = np.full(size, np.inf)

    def next(self, raw: np.ndarray) -> np.ndarray | None:
        """None if the message has another length than the first one of its stream."""
        if len(raw) != len(self._turns):
            return None
        if self._raw is not None:
            step = raw - self._raw
            with np.errstate(invalid="ignore"):
                # mm move by 6.28 between samples too, but not from rest: only a jump out of small steps is a seam
                alone = np.abs(self._step) < 0.1 * np.abs(step) if self._step is not None else np.zeros(len(raw), bool)
                for turn, near in ((TURN_DEG, 15.0), (TURN_RAD, 0.26)):
                    inside = np.maximum(np.abs(raw), np.abs(self._raw)) < 1.05 * turn
                    jumped = alone & inside & (np.abs(np.abs(step) - turn) < near)
                    self._turns -= np.where(jumped, np.sign(step) * turn, 0.0)
                    step = np.where(jumped, 0.0, step)
            self._flip(raw)
            self._step = step
            changed = np.abs(step) > 0
            self.quantum = np.where(changed, np.minimum(self.quantum, np.abs(step)), self.quantum)
        self._raw = raw
        return self._signs * raw + self._turns

    def _flip(self, raw: np.ndarray) -> None:
        at = 0
        while at + 4 <= len(raw):
            here = slice(at, at + 4)
            old, new = self._raw[here], raw[here]
            is_quaternion = abs(old @ old - 1) < 4e-3 and abs(new @ new - 1) < 4e-3
            if is_quaternion and old @ new < -0.5:
                self._signs[here] *= -1
            at += 4 if is_quaternion else 1


class MotionFinder:
    """Rows in, motions out. `is_still`: the camera has stood still and may be moved. `moved`: how far it is on its way to
    be noticed as a motion, from 1 on it is one. is_fine: look for small changes too (encoders of a lens).
    """

    def __init__(self):
        self.is_still = False
        self.is_fine = False
        self.moved = 0.0
        self.counters = np.zeros(0, bool)
        self._rows: deque = deque(maxlen=160)
        self._low = self._high = np.zeros(0)
        self._reference = self._sway = np.zeros(0)
        self._waited = 0
        self._since = 0  # rows since the motion was noticed; 0: none is
        self._above = 0
        self._before: tuple[int, np.ndarray] | None = None
        self._peak = np.zeros(0)
        self._span: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, at_ns: int, row: np.ndarray, quanta: np.ndarray) -> Motion | None:
        """A motion once it has come to rest. quanta: what the wire rounds to; a flicker of one step is no motion."""
        self._grow(row)
        if self._rows and at_ns - self._rows[-1][0] > GAP_NS:
            self._rows.clear()  # nobody knows what happened meanwhile: wait for a stillness again
            self._waited = self._since = self._above = 0
            self.is_still = False
        self._rows.append((at_ns, row))
        self._low, self._high = np.minimum(self._low, row), np.maximum(self._high, row)
        if not self.is_still and not self._since:
            self._settle()
            return None
        away = np.where(self.counters, 0.0, np.abs(row - self._reference))
        sway = np.maximum(np.maximum(self._sway, 1.2 * quanta), LEAST_SWAY_OF_LENS if self.is_fine else LEAST_SWAY)
        if not self._since:
            self.moved = float(np.max(away / (START * sway), initial=0.0))
            self._above = self._above + 1 if self.moved > 1 else 0
            if self._above >= 3:
                self._begin(row)
            return None
        self._since += 1
        self._peak = np.maximum(self._peak, away)
        self._span = np.minimum(self._span[0], row), np.maximum(self._span[1], row)
        self.moved = float(np.max(away / (START * sway), initial=0.0))
        if self._since < STILL_ROWS:
            return None
        newest = self._newest(STILL_ROWS)
        patience = 1 + max(0.0, self._since * BIN_NS / 1e9 - 4) / 4
        most = patience * np.maximum(3 * sway, 0.03 * (self._span[1] - self._span[0]))
        if not np.all((np.ptp(newest, axis=0) <= most) | self.counters):
            return None
        return self._end(newest, sway)

    def _settle(self) -> None:
        """Still: no change to speak of, or little of all that was ever seen, or hands that sway about one place: then 3 s
        span little more than each of them. Who walks spans three times as much."""
        self._waited += 1
        if len(self._rows) < SETTLE_ROWS:
            return
        rows = self._newest(SETTLE_ROWS)
        spans = np.ptp(rows.reshape(-1, STILL_ROWS, rows.shape[1]), axis=1)
        allowed = min(2.0 + self._waited * BIN_NS / 60e9, 2.6)
        is_swaying = np.ptp(rows, axis=0) <= allowed * np.median(spans, axis=0)
        is_quiet = (spans[-1] <= 2 * LEAST_SWAY) | (spans[-1] <= 0.06 * (self._high - self._low)) | is_swaying
        self.counters = _are_counters(rows[STILL_ROWS:])
        if np.all(is_quiet | self.counters):
            self.is_still = True
            self._reference, self._sway = rows[-STILL_ROWS:].mean(0), 1.3 * spans[-1]

    def _begin(self, row: np.ndarray) -> None:
        rows = list(self._rows)[-BEFORE_ROWS[0] - 3 : -BEFORE_ROWS[1]] or [self._rows[0]]
        self._before = rows[len(rows) // 2][0], np.mean([values for _, values in rows], axis=0)
        self._since, self._peak, self._span = 1, np.abs(row - self._reference), (row, row)
        self.is_still = False

    def _end(self, newest: np.ndarray, sway: np.ndarray) -> Motion | None:
        before_at_ns, before = self._before
        after_at_ns = self._rows[-STILL_ROWS // 2][0]
        after, peak = newest.mean(0), np.where(self.counters, 0.0, self._peak)
        self._since = self._above = 0
        self._reference, self.is_still, self.moved = after, True, 0.0
        if not np.any(peak > PEAK * sway):
            self._sway = np.maximum(self._sway, peak / 4)  # a wobble: the hands are less steady than they were
            return None
        is_large = peak > PEAK * sway
        has_returned = bool(np.all(np.abs(after - before)[is_large] < 0.35 * peak[is_large]))
        return Motion(before, after, np.where(self.counters, np.inf, sway), has_returned, before_at_ns, after_at_ns)

    def _newest(self, count: int) -> np.ndarray:
        return np.array([values for _, values in list(self._rows)[-count:]])

    def _grow(self, row: np.ndarray) -> None:
        """Numbers that appear later were always what they are now."""
        have = len(self._reference)
        if len(row) == have:
            return
        new = row[have:]
        self._rows = deque(((at, np.concatenate((r, new))) for at, r in self._rows), maxlen=self._rows.maxlen)
        for name in ("_reference", "_low", "_high"):
            setattr(self, name, np.concatenate((getattr(self, name), new)))
        for name in ("_sway", "_peak"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate((old, np.zeros(len(row) - len(old)))))
        self.counters = np.concatenate((self.counters, np.zeros(len(row) - len(self.counters), bool)))
        if self._span is not None:
            self._span = tuple(np.concatenate((s, row[len(s) :])) for s in self._span)
        if self._before is not None:
            at, before = self._before
            self._before = at, np.concatenate((before, row[len(before) :]))


def _are_counters(rows: np.ndarray) -> np.ndarray:
    """Which columns only count: stamps, numbers of frames. They rise evenly, or never fall; where they wrap does not count."""
    steps = np.diff(rows, axis=0)
    never_falls = np.all(steps >= 0, axis=0) & (np.sum(steps > 0, axis=0) >= 2) & np.all(rows >= 0, axis=0)
    usual = np.median(steps, axis=0)
    unwrapped = np.cumsum(np.where(steps < 0, usual, steps), axis=0)
    time = np.arange(len(unwrapped), dtype=float)
    time -= time.mean()
    centred = unwrapped - unwrapped.mean(0)
    spread = np.sqrt(np.sum(centred**2, axis=0) * np.sum(time**2))
    evenness = np.where(spread > 0, time @ centred / np.maximum(spread, 1e-300), 0.0)
    return (usual > 0) & (evenness > 0.9995) & (np.mean(steps > 0, axis=0) > 0.9) | never_falls & (evenness > 0.8)
