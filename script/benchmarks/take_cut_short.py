"""kill -9 in the middle of a recording: how much of the take is lost, and is the rest exact?"""

import time
from collections.abc import Iterable

from benchmarks.command import empty_folder, ended, ran, started
from benchmarks.live_show import LiveShow, small_show, tracker
from benchmarks.take_exact import ANY_PORT
from ledvolume.commands.demo import SHOW, operator
from ledvolume.take import Take
from measure import Row

KILLED_AFTER_S = (3.3, 4.5, 5.7)  # the small show, at 24 frames a second
DEMO_KILLED_AFTER_S = 6.0


def killed_recording() -> Iterable[Row]:
    """kill -9 of a server that records, the demo's and three times a small one's: what is lost, is what is left exact"""
    folder = empty_folder("take-cut-short")
    takes = [folder / f"small-{number}.mcap" for number in range(len(KILLED_AFTER_S))]
    show_file, lost = small_show(folder), []  # written once: a scene file that is written again has other bytes
    for take, seconds in zip(takes, KILLED_AFTER_S):
        with LiveShow(folder, "--record", take, show_file=show_file) as live, tracker(live.source, 60) as sender:
            time.sleep(seconds)
            lost.append(killed(live, take))
            sender.kill()
    takes.append(folder / "demo.mcap")
    with LiveShow(folder, *ANY_PORT, "--record", takes[-1], show_file=SHOW) as live:
        operating = started(*operator(live.show, live.source))
        time.sleep(DEMO_KILLED_AFTER_S)
        lost.append(killed(live, takes[-1]))
        operating.terminate()
        ended(operating)
    checks = [ran("replay", take, "--as-it-happened", "--check") for take in takes]
    frames = [len(list(Take(take).frames())) for take in takes]
    for name, which in (("small show, three times", slice(3)), ("demo", slice(3, 4))):
        yield Row(f"killed, {name}: frames in the take", sum(frames[which]), "", ("≥", 1))
        yield Row(f"killed, {name}: lost at the end, most", max(s for s, _ in lost[which]), "s", ("≤", 1))
        yield Row(f"killed, {name}: frames that the wall got and the take has not", sum(n for _, n in lost[which]), "", ("≤", 3))
        exact = sum(
            done.returncode == 0 and done.stdout.startswith(f"{count} frames") and "all as it was" in done.stdout
            for done, count in zip(checks[which], frames[which])
        )
        yield Row(f"killed, {name}: takes whose every frame replays to the last bit", exact, "", ("=", len(frames[which])))


def killed(live: LiveShow, take) -> tuple[float, int]:
    """(seconds from the last frame in the take to the kill, frames that the wall got and the take has not)."""
    now_ns = time.time_ns()
    live.kill()
    records = [frame.record for frame in Take(take).frames()]
    missing = {seen.request.index for seen in live.frames} - {record.request.index for record in records}
    return (now_ns - records[-1].sent_at_ns) / 1e9, len(missing)


MEASUREMENTS = (killed_recording,)
