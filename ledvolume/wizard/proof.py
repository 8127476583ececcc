"""The take once more, decoded by what was learnt: did the camera go where it was sent?

This is the way that poses go on a show, decoder, registration and all, so it finds what the inference has wrong. The last
motion, forward to where the lens looks, ties turns to moves: a pan that was asked for, and done, the wrong way is found here.
"""

import math
from bisect import bisect_left

import msgspec

from ledvolume.pose import Pose, multiply, rotate, rotation_vector
from ledvolume.protocols import Reading, open_decoder
from ledvolume.sources import Datagram
from ledvolume.wizard.motions import Motion
from ledvolume.wizard.rotation import TURNS

DIRECTIONS = {"right": (1.0, 0.0, 0.0), "forward": (0.0, 1.0, 0.0), "up": (0.0, 0.0, 1.0)}
MOST_DEG = 35.0
WINDOW_NS = 200_000_000


class Shown(msgspec.Struct, frozen=True):
    """One motion as the mapping has it. off_deg: from the direction or the axis that was asked for. size: m or degrees."""

    step: str
    size: float
    off_deg: float

    def in_words(self) -> str:
        unit = "°" if self.step in TURNS else " m"
        return f"{self.step} {self.size:.2f}{unit}" + (f", {self.off_deg:.0f}° off" if self.off_deg >= 1 else "")


class Proof(msgspec.Struct, frozen=True):
    """poses: how many were decoded. wrong: steps that went elsewhere, or were not seen at all."""

    poses: int
    refused: dict[str, int]
    shown: tuple[Shown, ...]
    wrong: tuple[str, ...]


def proof_of(
    protocol: str,
    reading: Reading,
    camera_id: str,
    stage_from_world: Pose,
    tracker_from_camera: Pose,
    datagrams: list[Datagram],
    motions: dict[str, Motion],
) -> Proof:
    """All datagrams through a decoder by this reading. camera_id "*": whoever comes. Raises ConfigError if it makes no sense."""
    decoder = open_decoder(protocol, **{f: getattr(reading, f) for f in reading.__struct_fields__})
    times, poses = [], []
    for datagram in datagrams:
        for sample in decoder.decode(datagram):
            if camera_id in ("*", sample.camera_id):
                times.append(sample.received_at_ns)
                poses.append(stage_from_world @ sample.world_from_tracker @ tracker_from_camera)
    shown, wrong = [], []
    for step, motion in motions.items():
        before, after = _mean(times, poses, motion.before_at_ns), _mean(times, poses, motion.after_at_ns)
        if step in ("zoom", "focus"):
            continue
        if before is None or after is None:
            wrong.append(step)
            continue
        shown.append(_shown(step, before, after))
        if shown[-1].off_deg > MOST_DEG or shown[-1].size < (0.05 if step not in TURNS else 4):
            wrong.append(step)
    return Proof(len(poses), dict(decoder.rejects), tuple(shown), tuple(wrong))


def _shown(step: str, before: Pose, after: Pose) -> Shown:
    move = tuple(b - a for a, b in zip(before.position_m, after.position_m))
    if step in TURNS:
        w, x, y, z = before.wxyz
        turn = rotation_vector(multiply(after.wxyz, (w, -x, -y, -z)))
        asked = TURNS[step] if step == "pan" else rotate(before.wxyz, TURNS[step])
        return Shown(step, math.degrees(math.hypot(*turn)), _between_deg(turn, asked))
    if step == "prove":  # level: where the lens looks, on the floor
        x, y, _ = rotate(before.wxyz, (0.0, 1.0, 0.0))
        move, asked = (*move[:2], 0.0), (x, y, 0.0)
    else:
        asked = DIRECTIONS[step]
    return Shown(step, math.hypot(*move), _between_deg(move, asked))


def _between_deg(a, b) -> float:
    size = math.hypot(*a) * math.hypot(*b)
    cosine = sum(p * q for p, q in zip(a, b)) / size if size > 1e-12 else -1.0
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _mean(times: list[int], poses: list[Pose], at_ns: int) -> Pose | None:
    """The middle pose of a stillness, its position averaged; None if nothing was decoded then."""
    first, last = bisect_left(times, at_ns - WINDOW_NS), bisect_left(times, at_ns + WINDOW_NS)
    if first == last:
        return None
    positions = [pose.position_m for pose in poses[first:last]]
    return Pose(poses[(first + last) // 2].wxyz, tuple(sum(axis) / len(positions) for axis in zip(*positions)))
