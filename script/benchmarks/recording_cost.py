"""What recording costs the frame loop: the server's own loop on the demo, in which every other frame or so is recorded.

Two frames one after the other are a pair: one of them, by the toss of a coin, is recorded as `serve --record` does it, from
the drained datagrams to the sums and the file; in the other one nothing is kept. Whatever else this machine does meanwhile
it does to both. What a frame costs is all from the tick until the loop waits for the next one, and no waiting.
"""

import random
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

from benchmarks.command import empty_folder, ended, started
from benchmarks.listening import free_udp_port
from ledvolume import server
from ledvolume.commands.demo import SHOW, operator
from ledvolume.commands.serve import with_addresses
from ledvolume.config import load_show
from ledvolume.frame import Frame
from ledvolume.take import ShowRecorder, Take
from measure import Row

RUN_S = 50.0
RATE = "10"
WARM_UP = 20  # frames in which the picture outside the footprint is still refined


class SwitchedRecorder(ShowRecorder):
    """Records one of two frames. was_on: of each frame, was it recorded? took_ns: sums and writing of those that were."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.was_on: list[bool] = []
        self.took_ns: list[int] = []
        self._switch = tosses(random.Random(7))
        self._turn()

    def frame(self, frame: Frame, sent_at_ns: int) -> None:
        if self._is_on:
            began_ns = time.perf_counter_ns()
            super().frame(frame, sent_at_ns)
            self.took_ns.append(time.perf_counter_ns() - began_ns)
        self.was_on.append(self._is_on)
        self._turn()

    def _turn(self) -> None:
        self._is_on = next(self._switch)
        self._inputs.recorded = [] if self._is_on else None


def recording_cost() -> Iterable[Row]:
    """the server's loop on the demo at 10 fps, one of every two frames recorded: what a frame costs, with / without"""
    pairs, took_ns = paired_costs(empty_folder("recording-cost") / "take.mcap")
    without, recorded = (statistics.median(pair[i] for pair in pairs) / 1e6 for i in (0, 1))
    yield Row("pairs of frames, with and without recording", len(pairs))
    yield Row("a frame costs the loop without recording, median", without, "ms")
    yield Row("with recording, median", recorded, "ms")
    ratio = statistics.median(with_ns / without_ns for without_ns, with_ns in pairs)
    yield Row("with / without, median of the pairs", ratio, "", ("≤", 1.03))
    took_ms = statistics.median(took_ns) / 1e6
    yield Row("sums of the tiles and writing alone, median", took_ms, "ms", ("≤", 0.03 * without))


def paired_costs(take: Path) -> tuple[list[tuple[int, int]], list[int]]:
    """((without, with) of all pairs after the warm-up, what recording alone took of each recorded frame), in ns."""
    show = load_show(SHOW, rate=RATE)
    source, output = (f"{kind}://127.0.0.1:{free_udp_port()}" for kind in ("osc+udp", "stream"))
    made: dict[type, object] = {}  # what the server makes of these classes

    def kept(kind: type):
        def make(*arguments):
            made[kind] = kind(*arguments)
            return made[kind]

        return make

    others = [started(*operator(show, source)), started("tile", output, "--verify")]
    try:
        with (
            patch.object(server, "ShowRecorder", kept(SwitchedRecorder)),
            patch.object(server, "WokenClock", kept(server.WokenClock)),
        ):
            summary = server.serve(with_addresses(show, [source], [output]), seconds=RUN_S, record=take)
    finally:
        for process in others:
            process.terminate()
            ended(process)
    recorder, clock = made[SwitchedRecorder], made[server.WokenClock]
    if not summary["poses_received"] or len(list(Take(take).frames())) != sum(recorder.was_on):
        raise RuntimeError(f"no poses came, or frames were not recorded: {summary}")
    costs = list(zip(recorder.was_on, clock.busy.durations_ns))
    return list(both(costs[WARM_UP:])), recorder.took_ns


def tosses(r: random.Random) -> Iterator[bool]:
    """Pairs of one True and one False, for ever."""
    while True:
        yield from r.choice(((True, False), (False, True)))


def both(costs: list[tuple[bool, int]]) -> Iterator[tuple[int, int]]:
    """(without, with) of each whole pair."""
    for pair in zip(costs[::2], costs[1::2]):
        yield tuple(cost for _, cost in sorted(pair))


MEASUREMENTS = (recording_cost,)
