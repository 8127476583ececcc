"""What the stage's frame hangs on: photographs alone say nothing of where the stage's origin is, and the tracker's frame is free.

    tracker                              stage_from_world is held as the show has it: the stage is where the tracker says
    wall:NAME                            NAME's LEDs are, in the mean over the surface, where the show has them; the tracker's
                                         registration is solved
    length:NAME:X,Y:X,Y=METRES[±MM]      as wall, for all surfaces together, but the pitch is not believed: the distance
                                         between two LEDs of NAME, measured with a tape, says how large everything is

A frame that hangs on a wall hangs by six conditions, S-transforms in the surveyor's language: that the mean displacement and
the mean turn of its LEDs are 0. They bend nothing.
"""

import re
from dataclasses import dataclass

import numpy as np

from calibration.solve.bundle import Bundle, Constraint, State
from calibration.solve.turns import skew
from ledvolume.errors import CalibrationError
from ledvolume.stage import surface_points

TRACKER = "tracker"
HELD_WALL = "wall, held"  # the wall is where the show has it, to the last LED
DATUM_SIGMA_M = 1e-6  # of the conditions on the frame: nothing else wants to move it
TAPE_SIGMA_M = 1e-3
LENGTH = re.compile(r"length:(?P<name>[^:]+):(?P<a>[^:,]+,[^:,]+):(?P<b>[^:,=]+,[^:,=]+)=(?P<m>[^±]+)(±(?P<mm>.+))?")


@dataclass(frozen=True)
class Gauge:
    """text: as it was asked for. surfaces: by index, the frame hangs on them; none: on the tracker. length: surface, two LEDs
    (2, 2), metres, sigma."""

    text: str
    surfaces: tuple[int, ...] = ()
    length: tuple[int, np.ndarray, float, float] | None = None

    @property
    def is_tracker(self) -> bool:
        return self.text == TRACKER

    def constraints(self, bundle: Bundle, state: State) -> list[Constraint]:
        """The conditions, where this state is."""
        found = []
        if self.surfaces:
            points, rates, indices, nominal = [], [], [], []
            for s in self.surfaces:
                led = evenly(bundle.shapes[s].surface.resolution_px)
                for part, into in zip(bundle.led_rates(state, s, led), (points, rates, indices)):
                    into.append(part)
                nominal.append(surface_points(bundle.shapes[s].surface, *led.T))
            index = np.unique(np.concatenate([i.ravel() for i in indices]))
            goal = np.concatenate(nominal)
            arm = (goal - goal.mean(0)) / np.sqrt(np.mean(np.sum((goal - goal.mean(0)) ** 2, 1)))
            off = np.concatenate(points) - goal
            residual = np.concatenate([off.mean(0), np.cross(arm, off).mean(0)]) / DATUM_SIGMA_M
            by, row = np.zeros((6, len(index))), 0
            for rate, columns in zip(rates, indices):
                turn = skew(arm[row : row + len(rate)]) @ rate
                row += len(rate)
                at = np.broadcast_to(np.searchsorted(index, columns)[:, None], rate.shape)
                for half, part in zip((by[:3], by[3:]), (rate, turn)):
                    np.add.at(half, (np.arange(3)[None, :, None], at), part)
            found.append(Constraint(residual, by / (len(goal) * DATUM_SIGMA_M), index))
        if self.length:
            s, led, metres, sigma = self.length
            points, rates, indices = bundle.led_rates(state, s, led)
            index = np.unique(indices)
            between = points[1] - points[0]
            distance = np.linalg.norm(between)
            by = np.zeros((1, len(index)))
            for sign, rate, columns in zip((-1, 1), rates, indices):
                by[0, np.searchsorted(index, columns)] += sign * (between / distance) @ rate
            found.append(Constraint(np.array([(distance - metres) / sigma]), by / sigma, index))
        return found


def gauge_of(text: str, names: list[str]) -> Gauge:
    """The gauge of a command line, for surfaces of these names. Raises CalibrationError."""
    if text == TRACKER:
        return Gauge(text)
    kind, _, rest = text.partition(":")
    if kind == "wall":
        return Gauge(text, (_named(rest, names),))
    said = LENGTH.fullmatch(text)
    if said is None:
        expected = "tracker, wall:NAME or length:NAME:X,Y:X,Y=METRES±MM (two LEDs and how far apart they are)"
        raise CalibrationError(f"gauge {text!r}: expected {expected}")
    try:
        led = np.array([[float(v) for v in said[end].split(",")] for end in "ab"])
        metres, sigma = float(said["m"]), float(said["mm"]) / 1000 if said["mm"] else TAPE_SIGMA_M
    except ValueError as error:
        raise CalibrationError(f"gauge {text!r}: {error}") from error
    if not (metres > 0 and sigma > 0 and np.ptp(led, axis=0).max() > 0):
        raise CalibrationError(f"gauge {text!r}: expected two different LEDs, a length and a sigma above 0")
    return Gauge(text, tuple(range(len(names))), (_named(said["name"], names), led, metres, sigma))


def evenly(resolution_px: tuple[int, int], columns: int = 12, rows: int = 8) -> np.ndarray:
    """LED coordinates evenly over a surface, (columns · rows, 2)."""
    across, down = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    return np.stack([across.ravel(), down.ravel()], -1) * resolution_px


def _named(name: str, names: list[str]) -> int:
    if name not in names:
        raise CalibrationError(f"gauge: no surface is called {name!r}; there are {', '.join(names)}")
    return names.index(name)
