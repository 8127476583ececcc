"""What was learnt, as keys of a show file: a profile of FreeD or PSN, a preset or a map of OSC, the camera's registration.

OpenTrackIO and our native protocol say their axes themselves: there a sender that moved otherwise is wrong, and is told so.
"""

import math

import msgspec
import numpy as np

from ledvolume.errors import MotionError
from ledvolume.pose import Quat, multiply, pan_tilt_roll, pan_tilt_roll_of
from ledvolume.protocols.axes import named_axes
from ledvolume.protocols.freed_profile import PROFILES, as_profile
from ledvolume.wizard.motions import PEAK, Motion, Trace
from ledvolume.wizard.readings import FREED
from ledvolume.wizard.rotation import Angles, Quaternion, angles_of, quaternion_of
from ledvolume.wizard.translation import SURE, Naming, Translation, axes_text, translation_of

MOVES, ROTATIONS = ("right", "forward", "up"), ("pan", "tilt", "roll")
HEADING_SIGMA_RAD = math.radians(3)  # of a camera that faces the wall by eye
LEAST_YAW_DEG, BODY_DEG, SNAP_DEG = 5.0, 15.0, 12.0
MOST_DISAGREEMENT_DEG = 22.0
OURS = named_axes("x y z", "wizard", "axes")


class Facts(msgspec.Struct, frozen=True):
    """What the operator or the show says beforehand. profile: what FreeD's is based on."""

    camera_id: str
    moved_m: float | None = None
    focal_mm: float | None = None
    sensor_mm: tuple[float, float] | None = None
    profile: str | dict | None = None


class Mapping(msgspec.Struct, frozen=True):
    """source: keys of [[source]] (profile, preset, map). wire_id: what the wire calls the camera.

    yaw_deg: stage_from_world's pan. body_deg: pan, tilt, roll of tracker_from_camera; None: the camera's axes.
    is_rigid: moves and turns have the same handedness. No rigid body has not, but a sender may.
    """

    source: dict
    wire_id: str
    yaw_deg: float
    body_deg: tuple[float, float, float] | None
    words: tuple[str, ...]
    is_rigid: bool = True


class Evidence(msgspec.Struct, frozen=True):
    """All numbers of the wire and what they did in each motion."""

    trace: Trace
    motions: dict[str, Motion]

    def columns(self, stream: str) -> list[int]:
        """Of one stream, in the order of its message."""
        return [i for i, column in enumerate(self.trace.columns) if column[0] == stream]

    def change(self, step: str, columns) -> tuple[float, ...]:
        """Of these numbers in a motion."""
        change = self.motions[step].change()
        return tuple(float(change[i]) if i < len(change) else 0.0 for i in columns)

    def start(self, columns) -> tuple[float, ...]:
        """These numbers before the first motion."""
        motion = min(self.motions.values(), key=lambda m: m.before_at_ns)
        return _at(motion.before, motion.after, columns)

    def turns(self, columns, steps: tuple[str, ...] = ROTATIONS) -> dict:
        """step → these numbers before and after."""
        found = {step: self.motions[step] for step in steps}
        return {s: (_at(m.before, m.after, columns), tuple(float(m.after[i]) for i in columns)) for s, m in found.items()}

    def strength(self, step: str) -> np.ndarray:
        """(columns,) how far each number went, in its own sway; 0 if it did not move for sure."""
        motion = self.motions[step]
        ratio = np.abs(motion.change()) / motion.sway
        out = np.zeros(len(self.trace.columns))
        out[: len(ratio)] = np.where(ratio > PEAK / 2, ratio, 0.0)
        return out

    def moving_stream(self) -> str:
        """The camera that was moved to the right, where a sender has several."""
        strength = self.strength("right")
        streams = {stream for stream, _, _ in self.trace.columns}
        return max(sorted(streams), key=lambda s: max(strength[i] for i in self.columns(s)))


def learn_freed(evidence: Evidence, facts: Facts) -> Mapping:
    """A FreeD profile: axes, signs, unit."""
    stream = evidence.moving_stream()
    columns = evidence.columns(stream)
    translation = moves_of(evidence, columns[:3], facts)
    angles = columns[3:6]
    turns = evidence.turns(angles)
    try:
        found = angles_of(turns, evidence.start(angles), is_known=True)
    except MotionError as error:
        _check_fields(turns, evidence.start(angles), error)
        raise
    naming, yaw_deg, words = _yaw_of_angles(translation, found)
    signs = dict(found.fields)
    learnt = {"axes": axes_text(naming.axes), "position_unit": translation.unit.unit}
    learnt |= {"pan_sign": -signs["pan"], "tilt_sign": signs["tilt"], "roll_sign": signs["roll"]}
    base = facts.profile or "raw"
    profile = as_profile(base)
    for step, field, index in (("zoom", "zoom", 6), ("focus", "focus", 7)):
        number = getattr(profile, field)
        if step in evidence.motions and number.means.endswith("_encoder"):
            [change] = evidence.change(step, columns[index : index + 1])
            runs_up = number.raw[1] > number.raw[0]
            if change and (change > 0) != runs_up:
                learnt[field] = {"means": number.means, "raw": [number.raw[1], number.raw[0]]}
                learnt[field] |= {"bits": list(number.bits)} if number.bits != (0, 24) else {}
                words.append(f"{field} runs the other way: its range is turned")
    name = base if isinstance(base, str) else base.get("based_on", "raw")
    kept = {} if isinstance(base, str) else {k: v for k, v in base.items() if k != "based_on"}
    plain = msgspec.to_builtins(PROFILES[name])
    table = {key: value for key, value in (kept | learnt).items() if plain.get(key) != value}
    if table:
        result = ({"based_on": name} if name != "raw" else {}) | table
    else:
        result = name
    said = [f"axes {learnt['axes']}, position in {translation.unit.unit}"]
    said += [f"{step} turns {_other(sign, step)}" for step, sign in signs.items()]
    return Mapping({"profile": result}, stream, yaw_deg, None, (*said, *words))


def learn_psn(evidence: Evidence, facts: Facts) -> Mapping:
    """A PSN profile: axes. The unit is the standard's."""
    stream = evidence.moving_stream()
    columns = evidence.columns(stream)
    translation = moves_of(evidence, columns[:3], facts)
    if translation.unit.unit != "m":
        raise MotionError(
            f"moves of {_lengths(translation)}: the server sends {translation.unit.unit}, PosiStageNet has metres; set it there"
        )
    found = quaternion_of(evidence.turns(columns[3:7]), evidence.start(columns[3:7]), translation.namings, (0,), is_tied=True)
    if not found.is_rigid:
        raise MotionError(_contradiction(translation, "a PSN profile cannot say that"), ROTATIONS)
    yaw_deg, body_deg, words = _yaw_of_quaternion(translation, found)
    axes = axes_text(found.naming.axes)
    said = (f"axes {axes}{', left-handed' if found.naming.axes.is_mirrored else ''}, metres", *words)
    return Mapping({"profile": {"axes": axes}}, stream, yaw_deg, body_deg, said)


def learn_sample(evidence: Evidence, facts: Facts) -> Mapping:
    """Verify a protocol that fixes axes and units; what is left is registration. Raises MotionError with what is wrong."""
    stream = evidence.moving_stream()
    columns = evidence.columns(stream)
    translation = moves_of(evidence, columns[:3], facts)
    found = quaternion_of(evidence.turns(columns[3:7]), evidence.start(columns[3:7]), translation.namings, (0,), is_tied=True)
    wrong = []
    if translation.unit.unit != "m":
        wrong.append(f"moves of {_lengths(translation)} look like {translation.unit.unit}, the standard has metres")
    if found.naming.axes.is_mirrored:
        wrong.append("its position is left-handed")
    if found.naming.axes != OURS:
        wrong.append(f"its axes are not X right, Y forward, Z up: these are its {axes_text(found.naming.axes)}")
    if not found.is_rigid:
        wrong.append("its rotations turn the other way than its positions say: inverted, or angles of another handedness")
    if wrong:
        raise MotionError(f"the sender is wrong, set it there: {'; '.join(wrong)}")
    yaw_deg, body_deg, words = _yaw_of_quaternion(translation, found)
    return Mapping({}, stream, yaw_deg, body_deg, ("axes, signs and unit are those of the standard", *words))


def moves_of(evidence: Evidence, columns, facts: Facts) -> Translation:
    """The three moves by these numbers. Raises MotionError, also where the unit cannot be told."""
    found = translation_of({step: evidence.change(step, columns) for step in MOVES}, facts.moved_m)
    unit = found.unit
    if unit.confidence < SURE:
        text = f"moves of {_lengths(found)}: {unit.unit} or {unit.second}? ({unit.confidence:.0%} for {unit.unit})"
        raise MotionError(f"{text}. Measure how far the camera goes to the right and forward, and say --moved METRES")
    return found


def quaternion_mapping(
    evidence: Evidence, translation: Translation, columns
) -> tuple[Quaternion, float, tuple | None, list[str]]:
    """A quaternion in these numbers, its yaw and its body (degrees) and words."""
    found = quaternion_of(evidence.turns(columns), evidence.start(columns), translation.namings, (0, 1, 2, 3))
    return found, *_yaw_of_quaternion(translation, found)


def angles_mapping(evidence: Evidence, translation: Translation, columns) -> tuple[Angles, Naming, float, list[str]]:
    """Angles in these two or three numbers, their naming of axes, yaw (degrees) and words."""
    found = angles_of(evidence.turns(columns, ROTATIONS[: len(columns)]), evidence.start(columns), len(columns))
    return found, *_yaw_of_angles(translation, found)


def _yaw_of_angles(translation: Translation, found: Angles) -> tuple[Naming, float, list[str]]:
    """Angles say where the camera looks in the world: the position must be named so that it is the same world."""
    of_lens = -found.heading_rad

    def off(naming: Naming) -> float:
        return math.degrees(math.remainder(of_lens - naming.yaw_rad, math.tau))

    naming = min(translation.namings, key=lambda n: abs(off(n)))
    if abs(off(naming)) > MOST_DISAGREEMENT_DEG:
        text = (
            f"pan says that the camera looks {-math.degrees(of_lens):+.0f}° off the sender's axis, the moves say "
            f"{-math.degrees(naming.yaw_rad):+.0f}° (+ left): move along the camera's own right and forward, "
            "or pan's zero is not along an axis of the position; set it at the sender"
        )
        raise MotionError(text, ("right", "forward"))
    yaw_deg, words = _yaw(of_lens, HEADING_SIGMA_RAD, naming.yaw_rad, translation.yaw_sigma_rad)
    if found.order != ROTATIONS:
        words.append(f"rotation order {' '.join(found.order)}")
    elif found.second:
        words.append(f"rotation order pan tilt roll, as usual; {found.second} would fit as well: turn farther to be sure")
    return naming, yaw_deg, words


def _yaw_of_quaternion(translation: Translation, found: Quaternion) -> tuple[float, tuple | None, list[str]]:
    naming = found.naming
    if _off_deg(found.body) < BODY_DEG:
        of_lens = naming.yaw_rad + pan_tilt_roll_of(found.body)[0]
        yaw_deg, words = _yaw(of_lens, HEADING_SIGMA_RAD, naming.yaw_rad, translation.yaw_sigma_rad)
        return yaw_deg, None, words
    yaw_deg, words = _yaw(naming.yaw_rad, translation.yaw_sigma_rad, naming.yaw_rad, translation.yaw_sigma_rad)
    body = _body_deg(found.body)
    words.append(f"the tracked body lies pan {body[0]:g}°, tilt {body[1]:g}°, roll {body[2]:g}° to the camera (± 5°)")
    return yaw_deg, body, words


def _yaw(a: float, sigma_a: float, b: float, sigma_b: float) -> tuple[float, list[str]]:
    """The mean of two yaws by their certainty, in whole degrees; quarter turns are exact. Radians in, degrees out."""
    weight_b = sigma_a**2 / (sigma_a**2 + sigma_b**2)
    yaw_deg = math.degrees(math.remainder(a + weight_b * math.remainder(b - a, math.tau), math.tau))
    sigma_deg = math.degrees(math.hypot(sigma_a * (1 - weight_b), sigma_b * weight_b))
    snapped = _snapped(yaw_deg, LEAST_YAW_DEG)
    if not snapped:
        return 0.0, [f"the sender's world is not turned on the stage ({yaw_deg:+.0f}°, ± {sigma_deg:.0f}°)"]
    return float(snapped), [f"the sender's world is turned by {snapped:+d}° (± {sigma_deg:.0f}°) on the stage"]


def _snapped(degrees: float, within: float) -> int:
    quarter = 90 * round(degrees / 90)
    value = quarter if abs(degrees - quarter) < within else round(degrees)
    return 180 if value == -180 else value


def _body_deg(body: Quat) -> tuple[float, float, float]:
    """Pan, tilt, roll in whole degrees; of a body that was mounted square to the camera, exactly so."""
    quarters = (0.0, 90.0, -90.0, 180.0)
    square = [(pan, tilt, roll) for tilt in quarters[:3] for roll in quarters for pan in quarters]
    w, x, y, z = body
    off = {angles: _off_deg(multiply((w, -x, -y, -z), pan_tilt_roll(*map(math.radians, angles)))) for angles in square}
    nearest = min(square, key=lambda angles: (round(off[angles]), sum(map(abs, angles))))
    if off[nearest] < SNAP_DEG:
        return nearest
    return tuple(float(round(math.degrees(a))) for a in pan_tilt_roll_of(body))


def _off_deg(q: Quat) -> float:
    return math.degrees(2 * math.acos(min(1.0, abs(q[0]))))


def _check_fields(turns: dict, start: tuple, error: MotionError) -> None:
    """FreeD has its fields by name: a sender that swapped them cannot be read by a profile."""
    try:
        found = angles_of(turns, start)
    except MotionError:
        raise error from None
    names = [name for name, _ in found.fields]
    if names != list(ROTATIONS) or found.unit != "deg":
        where = ", ".join(f"{name} in {field}" for name, field in zip(names, FREED[3:6]) if name != field)
        text = f"the sender has {where or 'radians'}: a profile cannot mend that, set it at the sender"
        raise MotionError(text) from None


def _contradiction(translation: Translation, consequence: str) -> str:
    handed = "left" if translation.namings[0].axes.is_mirrored else "right"
    other = "right" if handed == "left" else "left"
    return f"the moves say {handed}-handed axes, the turns {other}-handed ones; {consequence}. Did you pan LEFT, tilt UP?"


def _lengths(translation: Translation) -> str:
    return " and ".join(f"{translation.moved[step]:.3g}" for step in ("right", "forward"))


def _other(sign: int, step: str) -> str:
    usual = sign == (-1 if step == "pan" else 1)
    return "as the manual has it" if usual else "the other way than the manual has it"


def _at(before, after, columns) -> tuple[float, ...]:
    return tuple(float(before[i]) if i < len(before) else float(after[i]) for i in columns)


LEARN = {"freed": learn_freed, "psn": learn_psn, "opentrackio": learn_sample, "native": learn_sample}
