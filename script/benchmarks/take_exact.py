"""The demo, live for half a minute and recorded, then rendered again as it happened: is it the same, and is a bit found?"""

import math
import random
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.altered_take import altered, frame_changed, message_changed
from benchmarks.command import empty_folder, ended, ran, started
from benchmarks.live_show import TILE, LiveShow
from ledvolume.commands.demo import SHOW, operator
from ledvolume.recording import DATAGRAMS
from ledvolume.take import Take, TakenFrame
from measure import Row

LIVE_S = 30.0
SLATE = "12A take 3"
BITS = 6  # of datagrams, each in a copy of the take of its own
ANY_PORT = ("--source", "osc+udp://127.0.0.1:0", "--output", "stream://127.0.0.1:0")


def exact_replay() -> Iterable[Row]:
    """the demo runs for 30 s and is recorded; the take is rendered again as it happened and checked; then bits of it flip"""
    take = empty_folder("take-exact") / "take.mcap"
    live, summary = recorded_demo(take, LIVE_S)
    taken = list(Take(take).frames())
    records = {frame.record.request.index: frame.record for frame in taken}
    yield Row("seconds live, recorded", (taken[-1].record.sent_at_ns - taken[0].record.sent_at_ns) / 1e9, "s", ("≥", LIVE_S - 1))
    yield Row("frames shown that are in the take", len(taken), f"of {summary['frames']}", ("=", summary["frames"]))
    yield Row("datagrams in the take", sum(len(frame.datagrams) for frame in taken), f"of {summary['datagrams']}")
    tile = Take(take).tiles.index(TILE)
    same = sum(records[seen.request.index].tiles[tile] == seen.crc32 for seen in live.frames)
    yield Row("tiles as a receiver got them, their sums in the take", same, f"of {len(live.frames)}", ("=", len(live.frames)))

    began_s = time.monotonic()
    again = ran("replay", take, "--as-it-happened", "--check", "--out", take.parent / "again", "--format", "none")
    took_s = time.monotonic() - began_s
    compared, equal = tiles_compared(Take(take), take.parent / "again" / "frames.jsonl")
    yield Row("replay --as-it-happened --check, exit status", again.returncode, "", ("=", 0))
    yield Row("tile sums compared", compared, "", ("=", 8 * summary["frames"]))
    yield Row("tile sums equal", 100 * equal / compared, "%", ("=", 100))
    yield Row("it took", took_s, "s")
    yield Row("said by --check", again.stdout.strip(), "", ("=", f"{len(taken)} frames, {compared} tiles: all as it was"))
    yield from flipped_bits(take, taken)


def flipped_bits(take: Path, taken: list[TakenFrame]) -> Iterable[Row]:
    """One bit in a copy of the take, checked by the command."""
    r, copy_file = random.Random(5), take.parent / "bit.mcap"
    expected = [
        (f"frame {frame.record.request.index}, datagrams: number {place} of {len(frame.datagrams)}, from {datagram.source}", datagram)
        for frame in taken
        for place, (_, datagram) in enumerate(frame.datagrams, 1)
    ]  # fmt: skip
    named = []
    for number in r.sample(range(len(expected)), BITS):
        words, datagram = expected[number]
        bit = r.randrange(8 * len(datagram.payload))
        copy = altered(take, copy_file, message_changed(DATAGRAMS, number, lambda data, bit=bit: flipped(data, bit)))
        named.append(is_named(copy, words))
    yield Row("one bit of a datagram: status 1, frame and datagram named", sum(named), f"of {BITS}", ("=", BITS))

    frame = taken[len(taken) // 8].record
    number, index = len(taken) // 8, frame.request.index
    tiles = [*frame.tiles[:5], frame.tiles[5] ^ 1, *frame.tiles[6:]]
    copy = altered(take, copy_file, frame_changed(number, lambda f: msgspec.structs.replace(f, tiles=tiles)))
    words = f"frame {index}, picture: tile {Take(take).tiles[5]}: CRC-32 {frame.tiles[5]:08x}, was {tiles[5]:08x}"
    yield Row("one bit of a tile's sum: status 1, frame, stage and tile named", is_named(copy, words), "", ("=", True))

    copy = altered(take, copy_file, frame_changed(number, lambda f: msgspec.structs.replace(f, request=nudged(f.request))))
    words = f"frame {index}, camera: the datagrams give camera.stage_from_camera.position_m"
    yield Row("one bit of a camera's position: status 1, frame and stage named", is_named(copy, words), "", ("=", True))


def recorded_demo(take: Path, seconds: float, *words: str) -> tuple[LiveShow, dict]:
    """(the show that ran, its summary). take: is written; its poses come from the demo's operator."""
    with LiveShow(take.parent, *ANY_PORT, "--record", take, "--slate", SLATE, *words, show_file=SHOW) as live:
        tracker = started(*operator(live.show, live.source), "--seconds", str(seconds + 60))
        time.sleep(seconds)
        summary = live.stop()
        tracker.terminate()
        ended(tracker)
    return live, summary


def tiles_compared(take: Take, lines: Path) -> tuple[int, int]:
    """(compared, equal): the sums that the take has against those of the frames that were rendered again."""
    again = [msgspec.json.decode(line) for line in lines.read_bytes().splitlines()]
    sums = {frame["index"]: frame["tile_hashes"] for frame in again}
    pairs = [
        (was, sums.get(frame.record.request.index, {}).get(name))
        for frame in take.frames()
        for name, was in zip(take.tiles, frame.record.tiles)
    ]
    return len(pairs), sum(was == now for was, now in pairs)


def is_named(take: Path, words: str) -> bool:
    """Does --check end with status 1 and say just this difference?"""
    done = ran("replay", take, "--as-it-happened", "--check")
    if found := done.returncode == 1 and done.stdout.startswith(f"DIFFERENT: {words}"):
        return found
    print(f"        expected {words}, got status {done.returncode}: {done.stdout}{done.stderr}")
    return False


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def nudged(request):
    """The camera's x is the next number of 64 bits."""
    pose = request.camera.stage_from_camera
    x, y, z = pose.position_m
    moved = msgspec.structs.replace(pose, position_m=(math.nextafter(x, math.inf), y, z))
    camera = msgspec.structs.replace(request.camera, stage_from_camera=moved)
    return msgspec.structs.replace(request, camera=camera)


MEASUREMENTS = (exact_replay,)
