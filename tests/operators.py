"""A simulated operator with a camera in both hands: the wizard's motions as people make them, and senders of any axes.

Nothing here is from the code under test but the rotation arithmetic of pose.py: wires are packed by hand.
"""

import math
import random
import struct
from collections.abc import Iterator

import numpy as np
from pythonosc.osc_message_builder import OscMessageBuilder

from ledvolume.pose import Pose, canonical, from_rotation_vector, multiply, pan_tilt_roll, pan_tilt_roll_of, rotation_vector

STEPS = ("right", "forward", "up", "pan", "tilt", "roll", "prove")
MOVE_S, STILL_S, FIRST_STILL_S = 1.2, 1.5, 4.0
UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}


def take(steps=STEPS, seed=1, rate=60, heading_deg=0.0, far_m=0.85, pan_deg=33.0, **instead) -> Iterator[tuple[float, Pose, str]]:
    """(seconds, stage_from_camera, step) of an operator who moves 0.85 m with 10 cm aside and pans 33° with 5° of tilt,
    whose hands sway by some millimetres and tenths of a degree. instead: step → (move in m, turn vector in degrees)."""
    r = random.Random(seed)
    pose = Pose(pan_tilt_roll(math.radians(heading_deg), math.radians(1.5), math.radians(-1)), (0.4, -2.0, 1.55))
    t, phases = 0.0, [r.random() * 7 for _ in range(6)]

    def held(pose: Pose, t: float) -> Pose:
        sway = [math.sin(t * f + p) for f, p in zip((2.9, 3.7, 4.3, 3.1, 5.3, 4.7), phases)]
        position = tuple(p + 0.003 * s + r.gauss(0, 2e-4) for p, s in zip(pose.position_m, sway))
        turn = from_rotation_vector(tuple(math.radians(0.15 * s + r.gauss(0, 0.01)) for s in sway[3:]))
        return Pose(canonical(multiply(pose.wxyz, turn)), position)

    def hold(seconds: float, step: str):
        nonlocal t
        for _ in range(round(seconds * rate)):
            yield t, held(pose, t), step
            t += 1 / rate

    yield from hold(FIRST_STILL_S, "still")
    for step in steps:
        pan, _, _ = pan_tilt_roll_of(pose.wxyz)
        around = (next(pan_deg) if step == "pan" else 0.0) if isinstance(pan_deg, Iterator) else pan_deg
        aside, down = r.uniform(-0.1, 0.1), r.uniform(-0.05, 0.05)
        moves = {
            "right": (far_m, aside, down), "forward": (aside, far_m * 1.1, down), "up": (aside / 2, down, 0.55),
            "prove": (-far_m * math.sin(pan) + aside * math.cos(pan), far_m * math.cos(pan) + aside * math.sin(pan), 0.03),
        }  # fmt: skip
        turns = {"pan": (5, 2, around), "tilt": (22, 3, -4), "roll": (3, 24, -4)}  # of the camera's own axes, pan's of up
        move, turn = moves.get(step, (aside / 3, 0.02, -0.03)), turns.get(step, (1.0, -1.5, 1.0))
        if step in ("zoom", "focus"):
            move, turn = (0, 0, 0), (0, 0, 0)
        move, turn = instead.get(step, (move, turn))
        start, by = pose, tuple(math.radians(a) for a in turn)
        for i in range(round(MOVE_S * rate)):
            u = (i + 1) / round(MOVE_S * rate)
            s = u**3 * (10 - 15 * u + 6 * u * u)  # minimum jerk, as arms move
            part = from_rotation_vector(tuple(a * s for a in by))
            wxyz = multiply(part, start.wxyz) if step == "pan" else multiply(start.wxyz, part)
            pose = Pose(canonical(wxyz), tuple(p + m * s for p, m in zip(start.position_m, move)))
            yield t, held(pose, t), step
            t += 1 / rate
        yield from hold(STILL_S, step)


def in_world(stage_from_camera: Pose, world_yaw_deg: float = 0.0, tracker_from_camera: Pose = Pose()) -> Pose:
    """world_from_tracker of a tracker whose world is turned by this on the stage."""
    stage_from_world = Pose(pan_tilt_roll(math.radians(world_yaw_deg), 0, 0), (0.3, -1.0, 0.0) if world_yaw_deg else (0, 0, 0))
    return stage_from_world.inverse() @ stage_from_camera @ tracker_from_camera.inverse()


def sender_matrix(axes: str) -> np.ndarray:
    """(3, 3): the sender's x, y, z of ours, for a sender whose axes a show would name so."""
    ours_of_theirs = np.zeros((3, 3))
    for row, part in enumerate(axes.split()):
        ours_of_theirs[row, "xyz".index(part[-1])] = -1 if part[0] == "-" else 1
    return ours_of_theirs.T


def freed(pose: Pose, axes="x y z", unit="mm", signs=(1, 1, 1), camera=1, zoom=0, focus=0) -> bytes:
    """One D1 message. signs: of pan, tilt, roll to the manual's, whose pan + is to the right."""
    pan, tilt, roll = (math.degrees(a) for a in pan_tilt_roll_of(pose.wxyz))
    angles = (-pan * signs[0], tilt * signs[1], roll * signs[2])
    xyz = sender_matrix(axes) @ np.array(pose.position_m) / UNITS_M[unit]
    numbers = [round(a * 32768) for a in angles] + [round(v * 64) for v in xyz]
    body = bytes((0xD1, camera)) + b"".join((n & 0xFFFFFF).to_bytes(3, "big") for n in numbers)
    body += zoom.to_bytes(3, "big") + focus.to_bytes(3, "big") + bytes(2)
    return body + bytes(((0x40 - sum(body)) & 0xFF,))


def sender_quaternion(pose: Pose, axes: str) -> tuple[float, ...]:
    """w, x, y, z about the sender's axes. A turn in mirrored axes goes the other way round."""
    m = sender_matrix(axes)
    w, *v = pose.wxyz
    return (w, *(np.linalg.det(m) * (m @ np.array(v))))


def psn(pose: Pose, axes: str, tracker=3, stamp_us=1) -> bytes:
    """A DATA packet with one tracker."""
    m = sender_matrix(axes)
    turn = np.linalg.det(m) * (m @ np.array(rotation_vector(pose.wxyz)))
    fields = _chunk(0, struct.pack("<3f", *(m @ np.array(pose.position_m)))) + _chunk(2, struct.pack("<3f", *turn))
    header = _chunk(0, struct.pack("<QBBBB", stamp_us, 2, 3, 0, 1))
    return _chunk(0x6755, header + _chunk(1, _chunk(tracker, fields, True), True), True)


def _chunk(kind: int, data: bytes, has_chunks: bool = False) -> bytes:
    return struct.pack("<HH", kind, len(data) | has_chunks << 15) + data


def osc(address: str, *arguments) -> bytes:
    """One message: strings as s, ints as i, floats as f."""
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument, "s" if isinstance(argument, str) else "i" if isinstance(argument, int) else "f")
    return builder.build().dgram


def angles_of(pose: Pose, order: str) -> dict[str, float]:
    """pan, tilt, roll in radians that compose to this in this order, found numerically (Newton's method)."""
    axes = {"pan": (0.0, 0.0, 1.0), "tilt": (1.0, 0.0, 0.0), "roll": (0.0, 1.0, 0.0)}
    guess = dict(zip(("pan", "tilt", "roll"), pan_tilt_roll_of(pose.wxyz)))

    def compose(values: dict[str, float]):
        q = (1.0, 0.0, 0.0, 0.0)
        for name in order.split():
            q = multiply(q, from_rotation_vector(tuple(values[name] * a for a in axes[name])))
        return q

    def error(values: dict[str, float]) -> np.ndarray:
        w, x, y, z = compose(values)
        return np.array(rotation_vector(multiply((w, -x, -y, -z), pose.wxyz)))

    for _ in range(20):
        e = error(guess)
        slope = np.array([(error(guess | {n: guess[n] + 1e-6}) - e) / 1e-6 for n in guess]).T
        step = np.linalg.lstsq(slope, -e, rcond=None)[0]
        guess = {n: v + d for (n, v), d in zip(guess.items(), step)}
    assert np.abs(error(guess)).max() < 1e-9
    return guess
