"""Other people's programs at the other end: liblo's oscsend and oscdump, and pypsn.

OpenTrackIO's peer would be SMPTE's camdkit, which is on no package index (neither `camdkit` nor `opentrackio` is): what its
sender said is in tests/data and is measured in vectors.py. pypsn only reads; of PosiStageNet senders there is VYV's, there too.
"""

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable

from benchmarks.listening import PATIENCE_S, Listener, free_udp_port, wait_until_bound
from benchmarks.vectors import as_a_turn
from ledvolume.camera import CameraSample, LensReading
from ledvolume.pose import Pose, from_rotation_vector, pan_tilt_roll, rotate
from ledvolume.protocols import open_encoder
from ledvolume.sources import open_sender
from measure import Row

POSES = 30
LIBLO = "liblo-tools"
PRINTED_M = 1e-6  # oscdump prints six digits after the point
# The numbers that pypsn reads in packets of its multicast group, a line each.
PYPSN = """
import json, pypsn, sys
def told(packet):
    if isinstance(packet, pypsn.psn_data_packet):
        for t in packet.trackers:
            print(json.dumps([t.id, list(t.pos), list(t.ori), t.status]), flush=True)
    elif isinstance(packet, pypsn.psn_info_packet):
        print(json.dumps([[t.tracker_id, t.tracker_name.decode()] for t in packet.trackers]), flush=True)
pypsn.receiver(told, "127.0.0.1", int(sys.argv[1]), timeout=None).start()
"""


def peers_liblo() -> Iterable[Row]:
    """liblo's oscsend to `ledvolume listen`, and our OSC sender to liblo's oscdump"""
    if not has_liblo():
        yield Row("liblo's programs here", None)
        return
    for preset, arguments in (("ledvolume", liblo_arguments), ("vmc", liblo_vmc_arguments)):
        with Listener("osc+udp", "--preset", preset, "--sensor", "36,24") as listener:
            right = 0
            for pose in random_poses():
                subprocess.run(["oscsend", "127.0.0.1", str(listener.port), *arguments(pose)], check=True)
                found = listener.said(1)
                right += len(found) == 1 and "position_m" in found[0] and is_same(found[0], pose)
        yield Row(f"poses by oscsend that listen reads right, {preset}", right, f"of {POSES}", ("≥", POSES))
    poses = random_poses()
    lines = dumped([sample for pose in poses for sample in open_encoder("osc", "ledvolume")(sample_at(pose))], len(poses))
    right = sum(map(is_same_dump, lines, poses))
    yield Row("poses of our OSC sender that oscdump reads right", right, f"of {POSES}", ("≥", POSES))


def peers_pypsn() -> Iterable[Row]:
    """our PosiStageNet sender over multicast on loopback to pypsn in a process of its own"""
    port, poses, encode = free_udp_port(), random_poses(), open_encoder("psn")
    receiver = subprocess.Popen([sys.executable, "-u", "-c", PYPSN, str(port)], stdout=subprocess.PIPE, text=True)
    sender = open_sender(f"psn+udp://236.10.10.10:{port}?interface=127.0.0.1")
    try:
        wait_until_bound(port, receiver, "236.10.10.10")
        names, right = [], 0
        for pose in poses:
            for payload in encode(sample_at(pose)):
                sender.send(payload)
                told = json.loads(receiver.stdout.readline())
                if len(told) == 4:
                    number, position, orientation, validity = told
                    right += (number, validity) == (1, 1.0) and is_same_psn(position, orientation, pose)
                else:
                    names += told
    finally:
        sender.close()
        receiver.kill()
        receiver.wait()
    yield Row("poses of our PosiStageNet sender that pypsn reads right", right, f"of {POSES}", ("≥", POSES))
    yield Row("names that it reads", ", ".join(sorted({name for _, name in names})))
    yield Row("names that it reads wrong", sum(name != [1, "camera"] for name in names), "", ("=", 0))


def has_liblo() -> bool:
    """Are oscsend and oscdump here? Installed where that is allowed, as script/bootstrap does; else said."""
    if not shutil.which("oscsend") and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"        installing {LIBLO} with apt-get", flush=True)
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", LIBLO]):
            subprocess.run(
                ["apt-get", *command], env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), stdout=subprocess.DEVNULL
            )
    if not shutil.which("oscsend"):
        print(f"        oscsend is missing. Debian and Ubuntu: sudo apt-get install {LIBLO}", flush=True)
    return shutil.which("oscsend") is not None


def random_poses() -> list[Pose]:
    r = random.Random(2)
    return [
        Pose(
            pan_tilt_roll(r.uniform(-math.pi, math.pi), r.uniform(-1.5, 1.5), r.uniform(-math.pi, math.pi)),
            tuple(r.uniform(-8, 8) for _ in range(3)),
        )
        for _ in range(POSES)
    ]


def sample_at(pose: Pose) -> CameraSample:
    now_ns = time.time_ns()
    return CameraSample("camera", now_ns, now_ns, pose, LensReading(focal_length_mm=35.0))


def liblo_arguments(pose: Pose) -> list[str]:
    """/ledvolume/camera as docs/tracking.md says it."""
    return ["/ledvolume/camera", "sffffffff", "camera", *(f"{v:.9g}" for v in (*pose.position_m, *pose.wxyz, 35.0))]


def liblo_vmc_arguments(pose: Pose) -> list[str]:
    """VMC's camera in Unity's axes: x right, y up, z forward, left-handed, so a turn about an axis goes the other way."""
    (x, y, z), (qw, qx, qy, qz) = pose.position_m, pose.wxyz
    numbers = (x, z, y, -qx, -qz, -qy, qw, 35.0)
    return ["/VMC/Ext/Cam", "sffffffff", "camera", *(f"{v:.9g}" for v in numbers)]


def dumped(payloads: list[bytes], lines: int) -> list[str]:
    """What oscdump prints of these datagrams."""
    port = free_udp_port()
    dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
    sender = open_sender(f"osc+udp://127.0.0.1:{port}")
    try:
        wait_until_bound(port, dump)
        found = []
        for payload in payloads:
            sender.send(payload)
            found.append(dump.stdout.readline())
        return found[:lines]
    finally:
        sender.close()
        dump.kill()
        dump.wait(PATIENCE_S)


def is_same(found: dict, pose: Pose) -> bool:
    """Within what 32-bit floats of up to 8 m and of a quaternion can say."""
    return math.dist(found["position_m"], pose.position_m) <= 2**-20 and as_a_turn(pose.wxyz, tuple(found["wxyz"])) <= 2e-5


def is_same_dump(line: str, pose: Pose) -> bool:
    """`TIME /ledvolume/camera sffff… "camera" x y z qw qx qy qz mm m ns`."""
    _, address, _, name, *numbers = line.split()
    x, y, z, *wxyz = map(float, numbers[:7])
    is_there = math.dist((x, y, z), pose.position_m) <= 2 * PRINTED_M
    is_turned = max(abs(a - b) for a, b in zip(wxyz, pose.wxyz)) <= PRINTED_M
    return (address, name) == ("/ledvolume/camera", '"camera"') and is_there and is_turned


def is_same_psn(position: list[float], orientation: list[float], pose: Pose) -> bool:
    """Their x right, y up, z depth, left-handed. A turn is judged by where the lens and its top point, in their axes."""
    turn = from_rotation_vector(tuple(orientation))  # by the left hand in their axes: the same numbers as by the right in ours
    for ours, theirs in (((0, 1, 0), (0, 0, 1)), ((0, 0, 1), (0, 1, 0))):
        x, y, z = rotate(pose.wxyz, ours)
        if math.dist(rotate(turn, theirs), (x, z, y)) > 2e-6:
            return False
    x, y, z = pose.position_m
    return math.dist(position, (x, z, y)) <= 2**-20


MEASUREMENTS = (peers_liblo, peers_pypsn)
