"""An OSC map from motions alone: which numbers of which addresses are position, rotation and lens, and what to skip.

Numbers that moved most with right, forward or up are the position, four that stay of unit length are a quaternion, others
that moved most with pan, tilt or roll are angles. A preset that reads the take as the camera moved is preferred to a map.
"""

import itertools

import numpy as np

from ledvolume.errors import MotionError
from ledvolume.wizard.lens import focus_of, zoom_of
from ledvolume.wizard.mapping import (
    MOVES,
    ROTATIONS,
    Evidence,
    Facts,
    Mapping,
    angles_mapping,
    moves_of,
    quaternion_mapping,
)
from ledvolume.wizard.rotation import vector_fields
from ledvolume.wizard.translation import axes_text

UNIT_TOLERANCE = 3e-3


def learn_osc(evidence: Evidence, facts: Facts) -> Mapping:
    """A map of all messages that carry a part of the pose. Raises MotionError."""
    most, step_of = _responses(evidence)
    quaternions = [q for q in _quaternions(evidence) if max(map(abs, evidence.change("pan", q))) > 0.05]
    in_quaternions = {i for q in quaternions for i in q}
    free = [i for i in range(len(most)) if most[i] > 0 and i not in in_quaternions]
    positions = _triples(evidence, [i for i in free if step_of[i] in MOVES])
    if not positions:
        moved = ", ".join(evidence.trace.columns[i][2] for i in free if step_of[i] in MOVES) or "none"
        raise MotionError(f"no three numbers that are a position: moved with right, forward and up: {moved}", MOVES)
    angles = [i for i in free if step_of[i] in ROTATIONS]
    position, translation = _first_that_fits(positions, lambda p: moves_of(evidence, p, facts))
    fields: dict[int, str] = {i: f"{axis} {translation.unit.unit}" for axis, i in zip("xyz", position)}
    body_deg, is_rigid, order = None, True, ROTATIONS
    if quaternions:
        rotation = min(quaternions, key=lambda q: not _same_stream(evidence, q, position))
        found, yaw_deg, body_deg, words = quaternion_mapping(evidence, translation, rotation)
        naming, is_rigid = found.naming, found.is_rigid
        rest = [i for n, i in enumerate(rotation) if n != found.w]
        fields[rotation[found.w]] = "qw"
        for i, (field, sign) in zip(rest, vector_fields(found.vector, naming.axes)):
            fields[i] = ("-" if sign < 0 else "") + field
    else:
        candidates = _triples(evidence, angles) or ([angles] if len(angles) == 2 else [])
        if not candidates:
            missing = tuple(s for s in ROTATIONS if not any(step_of[i] == s for i in angles))
            text = f"no numbers that are a rotation: nothing changed with {', '.join(missing or ROTATIONS)} alone"
            raise MotionError(text, missing or ROTATIONS)
        candidates.sort(key=lambda a: not _same_stream(evidence, a, position))
        rotation, (found, naming, yaw_deg, words) = _first_that_fits(
            candidates, lambda a: angles_mapping(evidence, translation, a)
        )
        order = found.order
        for i, (name, sign) in zip(rotation, found.fields):
            fields[i] = f"{'-' if sign < 0 else ''}{name} {found.unit}"
    words += _add_lens(evidence, facts, fields, [i for i in free if i not in angles], step_of)
    messages, wire_id = _messages(evidence, fields, facts.camera_id)
    for message in messages:
        message |= {"axes": axes_text(naming.axes)} if naming.axes.signed != ((0, 1.0), (1, 1.0), (2, 1.0)) else {}
        message |= {"rotation_order": " ".join(order)} if order != ROTATIONS else {}
    handed = ", left-handed" if naming.axes.is_mirrored else ""
    said = (f"position in {translation.unit.unit}, axes {axes_text(naming.axes)}{handed}", *words)
    return Mapping({"map": {"messages": messages}}, wire_id, yaw_deg, body_deg, said, is_rigid)


def _responses(evidence: Evidence) -> tuple[np.ndarray, list[str]]:
    """How strongly each number ever moved (0: never for sure), and in which step it went farthest."""
    steps = [step for step in evidence.motions if step != "prove"]
    strength = np.array([evidence.strength(step) for step in steps])
    changes = np.zeros_like(strength)
    for row, step in zip(changes, steps):
        change = evidence.motions[step].change()
        row[: len(change)] = np.abs(change)
    return strength.max(0), [steps[k] for k in np.argmax(np.where(strength > 0, changes, 0.0), axis=0)]


def _quaternions(evidence: Evidence) -> list[tuple[int, ...]]:
    out = []
    for stream in dict.fromkeys(stream for stream, _, _ in evidence.trace.columns):
        columns, at = evidence.columns(stream), 0
        while at + 4 <= len(columns):
            four = tuple(columns[at : at + 4])
            values = [evidence.start(four)] + [v for pair in evidence.turns(four).values() for v in pair]
            is_unit = all(abs(np.linalg.norm(v) - 1) < UNIT_TOLERANCE for v in values)
            if is_unit:
                out.append(four)
            at += 4 if is_unit else 1
    return out


def _triples(evidence: Evidence, columns: list[int]) -> list[list[int]]:
    """Three numbers that belong together: all there are, or neighbours in a message."""
    if len(columns) == 3:
        return [columns]
    return [
        list(three)
        for three in itertools.combinations(columns, 3)
        if three[2] - three[0] == 2 and len({evidence.trace.columns[i][0] for i in three}) == 1
    ]


def _first_that_fits(candidates, learn):
    errors = []
    for candidate in candidates:
        try:
            return candidate, learn(candidate)
        except MotionError as error:
            errors.append(error)
    raise errors[0]


def _same_stream(evidence: Evidence, a, b) -> bool:
    return evidence.trace.columns[a[0]][0] == evidence.trace.columns[b[0]][0]


def _add_lens(evidence: Evidence, facts: Facts, fields: dict[int, str], free: list[int], step_of: list[str]) -> list[str]:
    """Zoom and focus, where numbers beside the pose moved with them. Words for what was taken and what was not."""
    words = []
    streams = {evidence.trace.columns[i][0] for i in fields}
    for step in ("zoom", "focus"):
        if step not in evidence.motions:
            continue
        moved = [i for i in free if step_of[i] == step and i not in fields]
        for i in moved:
            motion = evidence.motions[step]
            before = float(motion.before[i]) if i < len(motion.before) else float(motion.after[i])
            after = float(motion.after[i])
            found = zoom_of(before, after, facts.focal_mm, facts.sensor_mm) if step == "zoom" else focus_of(before, after)
            label = evidence.trace.columns[i][2]
            if evidence.trace.columns[i][0] not in streams:
                words.append(f"{step} is in {label}: left out, it must come in a message of the pose")
            elif found.argument == "skip" or found.argument in fields.values():
                words.append(f"{label}: left out; {found.words}")
            else:
                fields[i] = found.argument
                words.append(f"{label}: {found.words}")
        if not moved:
            words.append(f"nothing moved with {step}")
    return words


def _messages(evidence: Evidence, fields: dict[int, str], camera_id: str) -> tuple[list[dict], str]:
    """Tables of the map, and what the wire calls the camera."""
    streams = list(dict.fromkeys(evidence.trace.columns[i][0] for i in sorted(fields)))
    part, name = _named_part(evidence, streams, camera_id)
    messages, wire_id = [], name
    for stream in streams:
        columns = evidence.columns(stream)
        arguments = [fields.get(i, "skip") for i in columns]
        message = {"address": stream, "arguments": arguments}
        texts = evidence.trace.texts[stream]
        text_at = next((n for n, text in enumerate(texts) if text and arguments[n] == "skip"), None)
        if part is not None:
            parts = stream.split("/")
            parts[part] = "*"
            message["address"] = "/".join(parts)
        elif text_at is not None and len(streams) == 1:
            arguments[text_at] = "camera_id"
            wire_id = texts[text_at]
        else:
            wire_id = camera_id if camera_id != "*" else "camera"
            message["camera_id"] = wire_id
        messages.append(message)
    return messages, wire_id


def _named_part(evidence: Evidence, streams: list[str], camera_id: str) -> tuple[int | None, str]:
    """Which part of the address names the camera: it is the camera's id, or another camera has it otherwise."""
    parts = [stream.split("/") for stream in streams]
    if min(map(len, parts)) < 3:
        return None, ""  # "/*" would take every message
    for at in range(1, min(map(len, parts))):
        if len({p[at] for p in parts}) == 1 and parts[0][at].casefold() == camera_id.casefold():
            return at, parts[0][at]
    others = {stream for stream, _, _ in evidence.trace.columns} - set(streams)
    for other in sorted(others):
        q = other.split("/")
        for p in parts:
            unlike = [i for i, (a, b) in enumerate(zip(p, q)) if a != b]
            same_shape = len(p) == len(q) and len(evidence.columns(other)) == len(evidence.columns("/".join(p)))
            at = unlike[0] if same_shape and len(unlike) == 1 else None
            if at is not None and all(len(r) > at and r[at] == p[at] for r in parts):
                return at, p[at]
    return None, ""
