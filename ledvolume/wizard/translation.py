"""Right, forward, up: which of the sender's numbers, in which direction, in which unit, and is it left-handed?

The tracker's world may be turned about up on the stage. So three motions leave four ways to name the sender's axes, a
quarter turn apart, each with the rest of the turn as a yaw. Which of them is meant, rotations tell (rotation.py): the one
in which the sender's "not turned" looks along our +Y.
"""

import itertools
import math

import msgspec

from ledvolume.errors import MotionError
from ledvolume.pose import Vec3
from ledvolume.protocols.axes import Axes
from ledvolume.protocols.freed_profile import UNITS_M

ASKED_M = {"right": 1.0, "forward": 1.0}
SQUARE_DEG = 30.0  # hands: right, forward and up are asked for, not a machine's axes
UPRIGHT_DEG = 35.0
PEOPLE_LOG, TAPE_LOG = 0.3, 0.07  # standard deviation of ln(moved / asked): "about 1 m" by eye, and by tape
METRIC_ODDS = 4.0  # metric senders are more common
SURE = 0.9
LEAST_M, MOST_M = 0.25, 4.0

_PARITY = {order: 1 if order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else -1 for order in itertools.permutations(range(3))}
SIGNED_PERMUTATIONS = tuple(
    Axes(tuple(zip(order, signs)), math.prod(signs) * _PARITY[order] < 0)
    for order in _PARITY
    for signs in itertools.product((1.0, -1.0), repeat=3)
)


class UnitGuess(msgspec.Struct, frozen=True):
    """The likeliest unit, how likely it is (0 to 1), and the runner-up."""

    unit: str
    confidence: float
    second: str


class Naming(msgspec.Struct, frozen=True):
    """One way to name the sender's axes, and how the world so named is turned about up on the stage."""

    axes: Axes
    yaw_rad: float


class Translation(msgspec.Struct, frozen=True):
    """What three motions say. namings: four, a quarter turn apart, the least yaw first. yaw_sigma_rad: how sure the yaw is."""

    namings: tuple[Naming, ...]
    yaw_sigma_rad: float
    unit: UnitGuess
    moved: dict[str, float]


def translation_of(moves: dict[str, Vec3], moved_m: float | None = None) -> Translation:
    """moves: "right", "forward", "up" → change of the sender's three numbers. Raises MotionError.

    moved_m: how far right and forward really were, by tape.
    """
    lengths = {step: math.hypot(*move) for step, move in moves.items()}
    for step, length in lengths.items():
        if length < 0.15 * max(lengths.values()):
            text = (
                f"{step}: {length:.3g}, while {max(lengths, key=lengths.get)} was {max(lengths.values()):.3g}: too little to tell"
            )
            raise MotionError(f"{text}; is this axis tracked?", (step,))
    _check_square(moves)
    up = moves["up"]
    index = max(range(3), key=lambda i: abs(up[i]))
    if abs(up[index]) < math.cos(math.radians(UPRIGHT_DEG)) * lengths["up"]:
        text = f"up changed more than one of the sender's numbers: {in_numbers(up)}"
        raise MotionError(f"{text}; move straight up, or its world is not level", ("up",))
    handedness = _triple(moves["right"], moves["forward"], up)
    namings, sigmas = [], []
    for axes in SIGNED_PERMUTATIONS:
        if axes.is_mirrored != (handedness < 0) or axes.signed[2] != (index, math.copysign(1.0, up[index])):
            continue
        rx, ry, _ = axes.ours(moves["right"])
        fx, fy, _ = axes.ours(moves["forward"])
        of_right, of_forward = math.atan2(-ry, rx), math.atan2(fx, fy)
        between = math.remainder(of_forward - of_right, math.tau)
        namings.append(Naming(axes, math.remainder(of_right + between / 2, math.tau)))
        sigmas.append(max(abs(between) / 2, math.radians(4)))
    namings.sort(key=lambda naming: abs(naming.yaw_rad))
    unit = unit_of([lengths[step] for step in ASKED_M], moved_m)
    if not moved_m and unit.confidence >= SURE:
        for step in ASKED_M:
            if not LEAST_M <= lengths[step] * UNITS_M[unit.unit] <= MOST_M:
                text = f"{step}: {lengths[step]:.3g}, in {unit.unit} {lengths[step] * UNITS_M[unit.unit]:.2g} m"
                raise MotionError(f"{text}: about 1 m was asked for", (step,))
    return Translation(tuple(namings), sigmas[0], unit, lengths)


def unit_of(lengths: list[float], moved_m: float | None = None, asked_m: float = 1.0) -> UnitGuess:
    """Which unit makes these lengths about what was asked for. By eye, cm and inches are no farther apart than two people."""
    sigma = TAPE_LOG if moved_m else PEOPLE_LOG
    mean_log = sum(map(math.log, lengths)) / len(lengths) - math.log(moved_m or asked_m)
    odds = {}
    for unit, metres in UNITS_M.items():
        prior = 1.0 if moved_m or unit in ("in", "ft") else METRIC_ODDS
        odds[unit] = math.log(prior) - 0.5 * ((mean_log + math.log(metres)) / sigma) ** 2
    best, second = sorted(odds, key=odds.get, reverse=True)[:2]
    total = sum(math.exp(value - odds[best]) for value in odds.values())
    return UnitGuess(best, 1 / total, second)


def in_numbers(v: Vec3) -> str:
    """The change of the sender's x, y, z in words."""
    return ", ".join(f"{axis} {value:+.3g}" for axis, value in zip("xyz", v))


def axes_text(axes: Axes) -> str:
    """As a show writes it: our x, y, z in the sender's axes."""
    return " ".join(("-" if sign < 0 else "") + "xyz"[index] for index, sign in axes.signed)


def _check_square(moves: dict[str, Vec3]) -> None:
    for a, b in itertools.combinations(moves, 2):
        cosine = sum(p * q for p, q in zip(moves[a], moves[b])) / math.hypot(*moves[a]) / math.hypot(*moves[b])
        degrees = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
        if abs(degrees - 90) > SQUARE_DEG:
            text = f"{a} ({in_numbers(moves[a])}) and {b} ({in_numbers(moves[b])}) are {degrees:.0f}° apart, expected about 90°"
            raise MotionError(text, (a, b))


def _triple(a: Vec3, b: Vec3, c: Vec3) -> float:
    return sum(a[i] * (b[(i + 1) % 3] * c[(i + 2) % 3] - b[(i + 2) % 3] * c[(i + 1) % 3]) for i in range(3))
