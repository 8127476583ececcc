"""Pan, tilt, roll: what the sender's angles or quaternion say, found by trying every way to read them.

A reading is right if, read so, the pan turned about up to the left, the tilt about the camera's own right and the roll about
its own forward axis. Hands are off by some degrees, a wrong sign by 180° and a wrong order by about as much as the camera
was turned before, so the motions must not be undone in between.

`stage_from_world` is a yaw. Of angles, how the camera lies at the beginning, facing the wall, tells it. Of a quaternion the
tracked body may lie in any way on the camera: the yaw is told by the moves, and the body by how it lies at the beginning.
"""

import itertools
import math
from collections.abc import Callable

import msgspec

from ledvolume.errors import MotionError
from ledvolume.pose import Quat, canonical, multiply, pan_tilt_roll_of, rotate, rotation_vector
from ledvolume.protocols.axes import Axes
from ledvolume.wizard.translation import SIGNED_PERMUTATIONS, Naming

TURNS = {"pan": (0.0, 0.0, 1.0), "tilt": (1.0, 0.0, 0.0), "roll": (0.0, 1.0, 0.0)}
UNITS_RAD = {"deg": math.pi / 180, "rad": 1.0}
HAND_DEG = 10.0  # standard deviation of the axis about which hands turn a camera
WORST_DEG = 35.0
LEAST_RAD = math.radians(8)
ASKED_RAD = {"pan": math.radians(45), "tilt": math.radians(25), "roll": math.radians(25)}
ASKED_DEG = ", ".join(f"{step} {math.degrees(rad):.0f}°" for step, rad in ASKED_RAD.items())
CLEAR = 5.0  # of cost, between the best reading and the next

Turns = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]  # step → the sender's numbers before and after


class Angles(msgspec.Struct, frozen=True):
    """fields: (name, sign) of the sender's numbers in their order. heading_rad: the camera's at the beginning, + left.

    errors_deg: between the axis of each turn and the one that was asked for. second: the order that fits next best, if it
    cannot be told from this one by the motions.
    """

    fields: tuple[tuple[str, int], ...]
    unit: str
    order: tuple[str, ...]
    heading_rad: float
    turned_deg: dict[str, float]
    errors_deg: dict[str, float]
    second: str = ""


class Quaternion(msgspec.Struct, frozen=True):
    """w: which of the four is the real part. vector: our turn axes in the three others; as the naming's axes have it if
    is_rigid (moves and turns are of the same handedness), else what the turns say alone.

    body: tracker_from_camera's rotation.
    """

    naming: Naming
    w: int
    vector: Axes
    is_rigid: bool
    body: Quat
    turned_deg: dict[str, float]
    errors_deg: dict[str, float]


def angles_of(turns: Turns, start: tuple[float, ...], count: int = 3, is_known: bool = False) -> Angles:
    """Angles in numbers of unknown meaning. start: them at the beginning, the camera level and facing the wall.

    count: 2 = pan and tilt only. is_known: they are pan, tilt, roll in degrees, in this order; only signs are not known.
    Raises MotionError.
    """
    names = tuple(TURNS)[:count]
    orders = (
        [tuple(o) for o in itertools.permutations(TURNS)] if count == 3 else [("pan", "tilt", "roll"), ("tilt", "pan", "roll")]
    )
    found: list[tuple[float, Angles]] = []
    for order in orders[:1] if is_known else orders:
        for assigned in [names] if is_known else itertools.permutations(names):
            for signs in itertools.product((1, -1), repeat=count):
                for unit in ("deg",) if is_known else UNITS_RAD:
                    fields = tuple(zip(assigned, signs))
                    read = _angles_reader(fields, UNITS_RAD[unit], order)
                    cost, turned, errors = _cost(turns, read, lambda before, read=read: read(before))
                    x, y, z = rotate(read(start), (0.0, 0.0, 1.0))
                    cost += (math.degrees(math.atan2(math.hypot(x, y), z)) / HAND_DEG) ** 2
                    cost += 0.0 if order == ("pan", "tilt", "roll") else 3.0
                    heading = pan_tilt_roll_of(read(start))[0]
                    found.append((cost, Angles(fields, unit, order, heading, turned, errors)))
    found.sort(key=lambda pair: pair[0])
    cost, best = found[0]
    _check(best.turned_deg, best.errors_deg)
    second = next((a for c, a in found[1:] if c < cost + CLEAR), None)
    if second is not None and (second.fields, second.unit) != (best.fields, best.unit):
        text = f"the turns fit {_in_words(best)} and {_in_words(second)} alike; turn farther, one axis at a time"
        raise MotionError(text, tuple(turns))
    return msgspec.structs.replace(best, second=" ".join(second.order) if second else "")


def quaternion_of(
    turns: Turns, start: tuple[float, ...], namings: tuple[Naming, ...], w_choices: tuple[int, ...], is_tied: bool = False
) -> Quaternion:
    """A quaternion in four numbers of unknown order. is_tied: their handedness and order are those of the position (PSN,
    standards), and its real part is first. Raises MotionError."""
    found: list[tuple[float, Quaternion]] = []
    for naming in namings:
        stage_from_world = (math.cos(naming.yaw_rad / 2), 0.0, 0.0, math.sin(naming.yaw_rad / 2))
        camera_at_start = _inverse(stage_from_world)
        for w, vector in itertools.product(w_choices, SIGNED_PERMUTATIONS):
            is_rigid = vector == rigid_turns(naming.axes)
            if is_tied and not is_rigid and vector != _opposite(rigid_turns(naming.axes)):
                continue
            read = _quaternion_reader(w, vector)
            body = canonical(multiply(_inverse(read(start)), camera_at_start))
            cost, turned, errors = _cost(turns, read, lambda before, read=read, body=body: multiply(read(before), body))
            off_deg = math.degrees(2 * math.acos(min(1.0, body[0])))
            cost += min(off_deg / 20, 3.0) ** 2 + (0.0 if is_rigid else 8.0) + (0.0 if w in (0, 3) else 3.0)
            # alike but for a body turned about the same axis: the world that needs no such turn
            cost += 0.01 * abs(math.degrees(naming.yaw_rad)) / 90
            found.append((cost, Quaternion(naming, w, vector, is_rigid, body, turned, errors)))
    found.sort(key=lambda pair: pair[0])
    best = found[0][1]
    _check(best.turned_deg, best.errors_deg)
    return best


def rigid_turns(axes: Axes) -> Axes:
    """The axes that rotation vectors go by where the position goes by `axes`: mirrored twice is not mirrored."""
    return _opposite(axes) if axes.is_mirrored else axes


def vector_fields(wanted: Axes, axes: Axes) -> tuple[tuple[str, int], ...]:
    """(field, sign) of the three numbers of a quaternion's vector part that a map with `axes` needs, to read it as `wanted`."""
    fields = [("", 1)] * 3
    for ours, (index, sign) in enumerate(wanted.signed):
        named, named_sign = rigid_turns(axes).signed[ours]
        fields[index] = ("q" + "xyz"[named], int(sign * named_sign))
    return tuple(fields)


def _cost(turns: Turns, read: Callable, camera: Callable) -> tuple[float, dict, dict]:
    """How badly the turns fit what was asked for, how far each went (degrees), and how far its axis was off (degrees).

    camera(numbers): the camera's rotation in our world, by the reading of them.
    """
    cost, turned, errors = 0.0, {}, {}
    for step, (before, after) in turns.items():
        was = camera(before)
        turn = rotation_vector(multiply(read(after), _inverse(read(before))))
        asked = TURNS[step] if step == "pan" else rotate(was, TURNS[step])
        size = math.hypot(*turn)
        cosine = sum(a * b for a, b in zip(turn, asked)) / size if size > 1e-9 else 0.0
        errors[step] = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
        turned[step] = math.degrees(size)
        cost += (errors[step] / HAND_DEG) ** 2 + (math.log(max(size, 1e-4) / ASKED_RAD[step]) / 0.8) ** 2
    return cost, turned, errors


def _check(turned_deg: dict[str, float], errors_deg: dict[str, float]) -> None:
    small = tuple(step for step, degrees in turned_deg.items() if degrees < math.degrees(LEAST_RAD))
    if small:
        words = ", ".join(f"{step} {turned_deg[step]:.1f}°" for step in small)
        raise MotionError(f"turned too little to tell: {words}; {ASKED_DEG} were asked for", small)
    wrong = tuple(step for step, degrees in errors_deg.items() if degrees > WORST_DEG)
    if wrong:
        words = ", ".join(_wrong_turn(step, turned_deg[step], errors_deg[step]) for step in wrong)
        raise MotionError(f"{words}: no reading of the sender's numbers fits all motions; turn about one axis at a time", wrong)


def _wrong_turn(step: str, turned_deg: float, error_deg: float) -> str:
    if error_deg > 180 - WORST_DEG:
        asked = {"pan": "LEFT", "tilt": "UP", "roll": "CLOCKWISE"}[step]
        return f"{step} turned {turned_deg:.0f}° the other way than the moves say (did you {step} {asked}?)"
    return f"{step} turned {turned_deg:.0f}° about an axis {error_deg:.0f}° off"


def _angles_reader(fields: tuple, unit_rad: float, order: tuple[str, ...]) -> Callable[[tuple], Quat]:
    def read(numbers: tuple[float, ...]) -> Quat:
        named = {name: sign * unit_rad * number for (name, sign), number in zip(fields, numbers)}
        q = (1.0, 0.0, 0.0, 0.0)
        for name in order:
            half = named.get(name, 0.0) / 2
            x, y, z = TURNS[name]
            q = multiply(q, (math.cos(half), math.sin(half) * x, math.sin(half) * y, math.sin(half) * z))
        return q

    return read


def _quaternion_reader(w: int, vector: Axes) -> Callable[[tuple], Quat]:
    def read(numbers: tuple[float, ...]) -> Quat:
        rest = numbers[:w] + numbers[w + 1 :]
        return canonical((numbers[w], *vector.ours(rest)))

    return read


def _inverse(q: Quat) -> Quat:
    return (q[0], -q[1], -q[2], -q[3])


def _opposite(axes: Axes) -> Axes:
    return Axes(tuple((index, -sign) for index, sign in axes.signed), not axes.is_mirrored)


def _in_words(angles: Angles) -> str:
    names = " ".join(("-" if sign < 0 else "") + name for name, sign in angles.fields)
    return f"{names} ({angles.unit}, order {' '.join(angles.order)})"
