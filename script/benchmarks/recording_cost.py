"""What recording costs the frame loop: the demo's server with and without --record, in turns."""

import statistics
import time
from collections.abc import Iterable

from benchmarks.command import empty_folder, ended, started
from benchmarks.live_show import LiveShow
from benchmarks.take_exact import ANY_PORT
from ledvolume.commands.demo import SHOW, operator
from measure import Row

TIMES = 5
RUN_S = 6.0
RATE = "10"


def recording_cost() -> Iterable[Row]:
    """the demo's server at 10 fps, with and without --record in turns: all that a frame costs its loop until it waits again"""
    folder = empty_folder("recording-cost")
    summaries: dict[bool, list[dict]] = {False: [], True: []}
    for turn in range(TIMES):
        for is_recorded in (False, True) if turn % 2 else (True, False):
            words = ("--record", folder / f"{turn}.mcap") if is_recorded else ()
            with LiveShow(folder, *ANY_PORT, "--rate", RATE, *words, show_file=SHOW) as live:
                operating = started(*operator(live.show, live.source))
                time.sleep(RUN_S)
                summaries[is_recorded].append(live.stop())
                operating.terminate()
                ended(operating)
    loops = {key: [summary["loop_ms"]["p50"] for summary in found] for key, found in summaries.items()}
    print(f"        without {loops[False]}, with {loops[True]} ms")
    without, recorded = (statistics.median(loops[key]) for key in (False, True))
    ratio = statistics.median(b / a for a, b in zip(loops[False], loops[True]))
    for name, key in (("without", False), ("with", True)):
        frames = [summary["frames"] for summary in summaries[key]]
        yield Row(f"frames {name} recording", sum(frames))
    yield Row("a frame costs the loop without recording, median", without, "ms")
    yield Row("with recording", recorded, "ms")
    yield Row("with / without, median of the pairs", ratio, "", ("≤", 1.03))
    written_ms = [summary["recording_ms"]["p50"] for summary in summaries[True]]
    yield Row("of that, sums of the tiles and writing, median", statistics.median(written_ms), "ms")
    yield Row("of what the frame costs", statistics.median(w / loop for w, loop in zip(written_ms, loops[True])), "", ("≤", 0.03))


MEASUREMENTS = (recording_cost,)
