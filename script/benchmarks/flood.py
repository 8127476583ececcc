"""A network that floods the server: 50,000 datagrams a second to its socket, while a tracker goes on as always.

    python -m benchmarks.flood URI KIND BEGAN_NS      the flood alone; prints how many datagrams it sent in how many seconds

What is compared is what the wall gets: when frames are sent, and how old the newest pose in them is then. Each kind of flood
is measured against quiet stretches of the same run.
"""

import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks.fuzz_protocols import HOSTILE
from benchmarks.live_show import FRAME_NS, MOVE, LiveShow, tracker
from ledvolume.camera import CameraSample, LensReading
from ledvolume.clock import SECOND_NS
from ledvolume.moves import open_move
from ledvolume.protocols import open_encoder
from ledvolume.report import captured_ns
from ledvolume.sources import address
from measure import ROOT, Row

RATE = 50_000
FLOOD_S, QUIET_S = 10.0, 4.0
FRAME_MS = float(FRAME_NS / 1_000_000)
UDP_SEGMENT = 103  # Linux: the kernel cuts what is sent at once into datagrams of this size
AT_ONCE = 40


class Stretch(NamedTuple):
    """What the wall got in a stretch of the run: when frames were sent after they could be begun, age of their newest poses."""

    took_ms: np.ndarray
    pose_ms: np.ndarray
    skipped: int
    late: int


def flood() -> Iterable[Row]:
    """50,000 datagrams/s for 10 s at a live server's OSC socket, of each of three kinds, against quiet stretches of the run"""
    spans: dict[str, tuple[int, int]] = {}
    with LiveShow(ROOT / "out" / "figures" / "flood") as live:
        with tracker(live.source, 3 * (FLOOD_S + QUIET_S) + 2 * QUIET_S + 10) as sender:
            began_ns = int(sender.stdout.readline())
            time.sleep(QUIET_S)
            server = psutil.Process(live.pid)
            before_mb, rates = server.memory_info().rss / 1e6, {}
            for kind in FLOODS:
                rates[kind], *spans[kind] = flooded(live.source, kind, began_ns)
                time.sleep(QUIET_S)
            grew_mb = server.memory_info().rss / 1e6 - before_mb
            sender.kill()
        summary = live.stop()
    begins_ns = [began_ns + SECOND_NS, *(end_ns + SECOND_NS for _, end_ns in spans.values())]
    quiet = joined([stretch(live, begin_ns, begin_ns + round((QUIET_S - 2) * SECOND_NS)) for begin_ns in begins_ns])
    yield from rows("quiet", quiet, None)
    for kind, span in spans.items():
        yield Row(f"{kind}: datagrams sent per second", rates[kind], "", ("≥", RATE))
        yield from rows(kind, stretch(live, *span), quiet)
    [source] = summary["sources"]
    yield Row("datagrams that the server took from the kernel", source["datagrams"])
    yield Row("that the kernel dropped", source["dropped_by_kernel"])
    yield Row("the server's memory grew by", grew_mb, "MB", ("≤", 20))


def rows(name: str, found: Stretch, quiet: Stretch | None) -> Iterable[Row]:
    """What the wall got; against `quiet`, what is asked of it: one frame more, of all frames but one in a hundred."""
    yield Row(f"{name}: frames late", found.late, f"of {len(found.took_ms)}")
    yield Row(f"{name}: frames skipped", found.skipped)
    if quiet is None:
        yield Row(f"{name}: frames with a pose of this moment", int(np.sum(found.pose_ms < 100)), "", ("≥", len(found.pose_ms)))
    of_quiet = (quiet.took_ms, quiet.pose_ms) if quiet else (None, None)
    for what, ms, quiet_ms in zip(("a frame takes", "newest pose of a frame when sent"), found[:2], of_quiet):
        bar = None if quiet_ms is None else ("≤", float(quiet_ms.max()) + FRAME_MS)
        yield Row(f"{name}: {what}, median", float(np.median(ms)), "ms")
        yield Row(f"{name}: {what}, 99 %", float(np.percentile(ms, 99)), "ms", bar)
        yield Row(f"{name}: {what}, most", float(ms.max()), "ms")


def stretch(live: LiveShow, begin_ns: int, end_ns: int) -> Stretch:
    frames = [f for f in live.frames if begin_ns <= f.sent_at_ns < end_ns]
    took_ms = np.array([f.sent_at_ns - (f.request.present_at_ns - live.show.lead_ns) for f in frames]) / 1e6
    pose_ms = np.array([f.sent_at_ns - captured_ns(f.request) for f in frames]) / 1e6
    skipped = frames[-1].request.index - frames[0].request.index + 1 - len(frames)
    return Stretch(took_ms, pose_ms, skipped, sum(f.sent_at_ns > f.request.present_at_ns for f in frames))


def joined(stretches: list[Stretch]) -> Stretch:
    took_ms, pose_ms, skipped, late = zip(*stretches)
    return Stretch(np.concatenate(took_ms), np.concatenate(pose_ms), sum(skipped), sum(late))


def flooded(uri: str, kind: str, began_ns: int) -> tuple[float, int, int]:
    """(datagrams a second, first, last instant) of a flood from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.flood", uri, kind, str(began_ns)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    begin_ns, end_ns, sent = map(int, told)
    return sent / (end_ns - begin_ns) * SECOND_NS, begin_ns, end_ns


def poses(camera_id: str, began_ns: int) -> Callable[[int], bytes]:
    """Of the tracker's own move, each with a stamp of its own: the last argument of the preset "ledvolume"."""
    encode, move = open_encoder("osc", "ledvolume"), open_move(MOVE)

    def at(now_ns: int) -> bytes:
        pose = move.pose_at((now_ns - began_ns) / SECOND_NS)
        [message] = encode(CameraSample(camera_id, now_ns, now_ns, pose, LensReading()))
        stamp = struct.Struct(">q")
        return b"".join(message[:-8] + stamp.pack(now_ns - AT_ONCE + k) for k in range(AT_ONCE))

    return at


def garbage(began_ns: int) -> Callable[[int], bytes]:
    """Mutated messages, cut or filled to one length."""
    r, messages = random.Random(began_ns), poses("A", began_ns)(began_ns)
    real = messages[: len(messages) // AT_ONCE]
    made = [r.choice(HOSTILE["osc"])(r, real)[: len(real)].ljust(len(real), b"\xa5") for _ in range(5000)]
    return lambda now_ns: b"".join(r.sample(made, AT_ONCE))


FLOODS = {
    "poses of another camera": lambda began_ns: poses("B", began_ns),
    "poses of our camera": lambda began_ns: poses("A", began_ns),
    "garbage": garbage,
}


def main() -> None:
    uri, kind, began_ns = sys.argv[1:]
    where, datagrams = address(uri), FLOODS[kind](int(began_ns))
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(datagrams(int(began_ns))) // AT_ONCE)
    out.connect((where.host, where.port))
    sent, begin_ns = 0, time.time_ns()
    while (now_ns := time.time_ns()) < begin_ns + FLOOD_S * SECOND_NS:
        while sent < (now_ns - begin_ns) * 1.01 * RATE / SECOND_NS:
            out.send(datagrams(now_ns))
            sent += AT_ONCE
        time.sleep(0.0005)
    print(begin_ns, time.time_ns(), sent)


MEASUREMENTS = (flood,)

if __name__ == "__main__":
    main()
