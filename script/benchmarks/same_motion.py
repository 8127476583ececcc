"""One motion over every wire at once, through real sockets into timelines: is it the same camera that comes out?

A hand-held camera that pans through ±180°, nods and rolls. All wires get each pose at the same instant. Those without a stamp
of the house's clock (FreeD, VMC, PosiStageNet) are timed by their arrival: how well the machine keeps time is in what is read
between their samples, so there they are told apart, and asked for at the samples themselves.
"""

import math
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.listening import free_udp_port
from benchmarks.vectors import as_a_turn
from ledvolume.camera import Camera, CameraSample, Lens, LensReading, Rig, entrance_pupil
from ledvolume.clock import SECOND_NS
from ledvolume.moves import open_move
from ledvolume.pose import Pose, multiply, pan_tilt_roll
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.sources import open_sender, open_source
from ledvolume.timeline import Limits, Timeline
from measure import Row

SECONDS, HERTZ = 8, 100
SAMPLES = SECONDS * HERTZ
AHEAD_NS = 40_000_000  # a server at 24 fps asks for its cameras that long before they are shown
SAME = 1e-4  # m, rad
HELD = open_move("builtin:handheld?at=0.3,-0.2,1.6&look=0,4,1.6&amount=0.3").pose_at
# A stage that is not the tracker's world, a camera that is not its tracked point.
RIG = Rig(
    "A",
    Lens(35.0, (36.0, 24.0), entrance_pupil_m=0.08),
    stage_from_world=Pose(pan_tilt_roll(0.5, 0.01, -0.02), (1.0, -2.0, 0.1)),
    tracker_from_camera=Pose(pan_tilt_roll(0.02, 0.1, -0.03), (0.05, 0.1, -0.12)),
)


class Wire(NamedTuple):
    """is_stamped: on the house clock. encoding, preset: of the sender."""

    protocol: str
    is_stamped: bool
    preset: str | None = None
    encoding: str | None = None


# Those without a stamp first: they are timed by their arrival.
WIRES = {
    "FreeD": Wire("freed+udp", False),
    "OSC, vmc": Wire("osc+udp", False, preset="vmc"),
    "PosiStageNet": Wire("psn+udp", False),
    "OSC, ledvolume": Wire("osc+udp", True, preset="ledvolume"),
    "OpenTrackIO, JSON": Wire("opentrackio+udp", True),
    "OpenTrackIO, CBOR": Wire("opentrackio+udp", True, encoding="cbor"),
    "native": Wire("native+zmq", True),
}


def pose_at(t: float) -> Pose:
    """Pan from 140° to 300° and so through ±180°, tilt ±30°, roll ±25°, on a hand-held camera."""
    turn = pan_tilt_roll(math.radians(140 + 20 * t), 0.5 * math.sin(0.9 * t), 0.4 * math.sin(1.3 * t + 1))
    held = HELD(t)
    return Pose(multiply(turn, held.wxyz), held.position_m)


def same_motion() -> Iterable[Row]:
    """a hand-held pan through ±180° over seven wires at once, through sockets into timelines: the same stage_from_camera?"""
    began_ns, samples = sent_over_all()
    timelines = {name: filled(found) for name, found in samples.items()}
    native = timelines["native"]
    instants = range(began_ns + SECOND_NS, began_ns + (SECONDS - 1) * SECOND_NS, 1_000_000)  # 1 kHz
    reference = [native.camera_at(t) for t in instants]
    for name, wire in WIRES.items():
        found = samples[name]
        yield Row(f"{name}: samples that did not arrive", SAMPLES - len(found), f"of {SAMPLES}", ("=", 0))
        pairs = [
            (timelines[name].camera_at(a.captured_at_ns), native.camera_at(b.captured_at_ns))
            for a, b in zip(found, samples["native"])
        ]
        m, rad = differences(pairs)
        yield Row(f"{name}: farthest from native's camera, at a sample", m.max(), "m", ("≤", SAME))
        yield Row(f"{name}: turned most from native's camera, at a sample", rad.max(), "rad", ("≤", SAME))
        m, rad = differences([(timelines[name].camera_at(t), camera) for t, camera in zip(instants, reference)])
        if wire.is_stamped:
            yield Row(f"{name}: farthest, 1 kHz", m.max(), "m", ("≤", SAME))
            yield Row(f"{name}: turned most, 1 kHz", rad.max(), "rad", ("≤", SAME))
        else:
            yield Row(f"{name}: apart at 1 kHz, timed by arrival, median", float(np.median(m)), "m")
            yield Row(f"{name}: turned apart at 1 kHz, timed by arrival, median", float(np.median(rad)), "rad")
    yield from through_180(samples["FreeD"], timelines["FreeD"], began_ns, instants)


def through_180(found: list[CameraSample], timeline: Timeline, began_ns: int, instants: range) -> Iterable[Row]:
    """FreeD's pan ends at ±180°: does the camera turn on?"""
    own = [entrance_pupil(RIG, pose_at((t - began_ns) / SECOND_NS), LensReading())[0].wxyz for t in instants]
    read = [timeline.camera_at(t).stage_from_camera.wxyz for t in instants]
    live, waiting, shown = Timeline(RIG, lead_ns=AHEAD_NS), list(found), []
    for t in instants:
        while waiting and waiting[0].received_at_ns <= t:
            live.add(waiting.pop(0))
        shown.append(live.camera_at(t + AHEAD_NS).stage_from_camera.wxyz)
    own, read, shown = (np.array([as_a_turn(a, b) for a, b in pairwise(q)]) for q in (own, read, shown))
    # A seam would be 360° within a sample's 10 ms, 600 times the move's own. Two samples that a busy machine lets arrive at
    # once are twice what ten readings would have brought.
    name = "FreeD through 180°: turn in a ms / the move's own"
    yield Row(f"{name}, 99 % of readings", float(np.percentile(read, 99) / np.percentile(own, 99)), "", ("≤", 2))
    yield Row(f"{name}, the largest", read.max() / own.max(), "", ("≤", 20))
    yield Row(f"{name}, foretold by 40 ms, the largest", shown.max() / own.max())


def sent_over_all() -> tuple[int, dict[str, list[CameraSample]]]:
    """(instant at which the move began, samples by wire)."""
    ends = {}
    for name, wire in WIRES.items():
        uri = f"{wire.protocol}://127.0.0.1:{free_udp_port()}"
        protocol = wire.protocol.partition("+")[0]
        decoder = open_decoder(protocol, wire.preset, cameras={"1": "A"})
        encode = open_encoder(protocol, wire.preset, encoding=wire.encoding)
        sender = open_sender(uri)
        ends[name] = (open_source(uri), decoder, sender, encode)
    samples: dict[str, list[CameraSample]] = {name: [] for name in WIRES}
    time.sleep(0.5)  # ZMQ's subscription takes a moment
    began_ns = time.time_ns()
    for k in range(SAMPLES):
        sleep_until(began_ns + k * SECOND_NS // HERTZ)
        at_ns = time.time_ns() + 2_000_000  # encoding takes one
        sample = CameraSample("A", at_ns, at_ns, pose_at((at_ns - began_ns) / SECOND_NS))
        payloads = [(sender, payload) for _, _, sender, encode in ends.values() for payload in encode(sample)]
        sleep_until(at_ns)
        for sender, payload in payloads:
            sender.send(payload)
        for name, (source, decoder, *_) in ends.items():
            samples[name] += [s for datagram in source.drain() for s in decoder.decode(datagram)]
    for name, (source, decoder, sender, _) in ends.items():
        source.wait(0.2)
        samples[name] += [s for datagram in source.drain() for s in decoder.decode(datagram)]
        source.close()
        sender.close()
    return began_ns, samples


def sleep_until(instant_ns: int) -> None:
    """To some microseconds: the last millisecond is not slept, the system would make it two."""
    while (remaining_ns := instant_ns - time.time_ns()) > 0:
        if remaining_ns > 1_000_000:
            time.sleep((remaining_ns - 1_000_000) / SECOND_NS)


def filled(samples: list[CameraSample]) -> Timeline:
    """A timeline that never takes a gap for a loss: where this machine stalls, the wires' stamps have it in different places."""
    timeline = Timeline(RIG, limits=Limits(horizon_ns=SECOND_NS, lost_ns=2 * SECOND_NS))
    for sample in samples:
        timeline.add(sample)
    return timeline


def differences(pairs: list[tuple[Camera, Camera]]) -> tuple[np.ndarray, np.ndarray]:
    """(m, rad) between two cameras each."""
    poses = [(a.stage_from_camera, b.stage_from_camera) for a, b in pairs]
    m = np.array([math.dist(p.position_m, q.position_m) for p, q in poses])
    return m, np.radians([as_a_turn(p.wxyz, q.wxyz) for p, q in poses])


MEASUREMENTS = (same_motion,)
