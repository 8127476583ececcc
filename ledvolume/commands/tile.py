"""Receive wall tiles from a server: to look at them, to save them or to check the stream.

  ledvolume tile stream://127.0.0.1:5560 --tile left --window
  ledvolume tile stream://127.0.0.1:5560 --tile left --tile right --verify --seconds 60 --json
  ledvolume tile "stream://10.0.0.5:5560?server_key_file=keys/stream.key" --save out/tiles --every 5

--save and --save-raw write DIR/TILE/INDEX.png or .npy, and into DIR a line of JSON per image. Ends with a summary, also
on SIGINT and SIGTERM; the exit status is 0 if every tile asked for arrived and no message was refused, else 1.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

import msgspec

from ledvolume.commands.quantities import count, positive
from ledvolume.outputs.images import ImageFolder
from ledvolume.outputs.receive import TileReceiver
from ledvolume.outputs.tally import TileTally
from ledvolume.outputs.wire import ReceivedTile

QUIET_S = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="stream://HOST:PORT[?server_key_file=keys/stream.key]")
    parser.add_argument("--tile", metavar="NAME", action="append", default=[], help="may be given again; none: all tiles")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--verify", action="store_true", help="count frames, gaps and crc errors, measure latency")
    what.add_argument("--save", metavar="DIR", type=Path, help="write PNG files")
    what.add_argument("--save-raw", metavar="DIR", type=Path, help="write .npy files: larger, faster")
    what.add_argument("--window", action="store_true", help="show the tiles side by side (needs glfw and a display)")
    parser.add_argument("--every", metavar="N", type=count, default=1, help="save only frames whose index is a multiple of N")
    parser.add_argument("--seconds", metavar="S", type=positive, help="stop after S seconds")
    parser.add_argument("--frames", metavar="N", type=count, help="stop when every tile has had N frames")
    parser.add_argument("--json", action="store_true", help="end with a summary as one line of JSON, on stdout")


def run(args: argparse.Namespace) -> int:
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    receiver = TileReceiver(args.uri, args.tile)
    sink = _sink(args)
    tallies = {name: TileTally() for name in args.tile}
    started_s = time.monotonic()
    said_s, heard_s = started_s, started_s
    try:
        while not (stopped or sink.is_closed or _is_enough(args, tallies, time.monotonic() - started_s)):
            tiles = receiver.receive(0.1)
            for tile in tiles:
                tallies.setdefault(tile.header.tile, TileTally()).add(tile)
            sink.take(tiles)
            now_s = time.monotonic()
            heard_s = now_s if tiles else heard_s
            if now_s - said_s >= 1.0:
                said_s = now_s
                print(_live_line(args, tallies, receiver, now_s - heard_s), file=sys.stderr, flush=True)
    finally:
        sink.close()
        receiver.close()
    summary = _summary(args.uri, time.monotonic() - started_s, tallies, receiver)
    print(msgspec.json.encode(summary).decode() if args.json else _report(summary), flush=True)
    is_complete = bool(tallies) and all(tally.frames for tally in tallies.values())
    return 0 if is_complete and not receiver.rejected else 1


class _Verify:
    """Looks at nothing: the tallies say it all."""

    is_closed = False

    def take(self, tiles: list[ReceivedTile]) -> None: ...

    def close(self) -> None: ...


class _Save:
    """Files of the frames whose index is a multiple of `every`: the same frames in every receiver."""

    is_closed = False

    def __init__(self, folder: Path, name: str, file_format: str, every: int):
        self._images, self._every = ImageFolder(folder, name, file_format), every

    def take(self, tiles: list[ReceivedTile]) -> None:
        for tile in tiles:
            header = tile.header
            if header.request.index % self._every == 0:
                self._images.write(
                    header.tile, tile.pixels, header.request,
                    sequence=header.sequence, sent_at_ns=header.sent_at_ns,
                    received_at_ns=tile.received_at_ns, crc32=header.crc32,
                )  # fmt: skip

    def close(self) -> None:
        self._images.close()


class _Window:
    """The newest picture of every tile, side by side in the order of --tile."""

    def __init__(self, args: argparse.Namespace):
        from ledvolume.outputs.window import Window

        self._window, self._order = Window(f"{' '.join(args.tile) or 'all tiles'} · {args.uri}"), args.tile
        self._newest: dict[str, ReceivedTile] = {}

    @property
    def is_closed(self) -> bool:
        return self._window.is_closed

    def take(self, tiles: list[ReceivedTile]) -> None:
        self._newest.update({tile.header.tile: tile for tile in tiles})
        names = self._order or sorted(self._newest)
        self._window.show([self._newest[name].pixels for name in names if name in self._newest])

    def close(self) -> None:
        self._window.close()


def _sink(args: argparse.Namespace) -> _Verify | _Save | _Window:
    name = "+".join(args.tile)[:100] or "all"
    if args.save:
        return _Save(args.save, name, "png", args.every)
    if args.save_raw:
        return _Save(args.save_raw, name, "npy", args.every)
    return _Window(args) if args.window else _Verify()


def _is_enough(args: argparse.Namespace, tallies: dict[str, TileTally], seconds: float) -> bool:
    if args.seconds is not None and seconds >= args.seconds:
        return True
    return args.frames is not None and bool(tallies) and all(t.frames >= args.frames for t in tallies.values())


def _summary(uri: str, seconds: float, tallies: dict[str, TileTally], receiver: TileReceiver) -> dict:
    return {
        "uri": uri,
        "seconds": round(seconds, 3),
        "frames": sum(tally.frames for tally in tallies.values()),
        "lost": sum(tally.lost for tally in tallies.values()),
        "crc_errors": receiver.rejected["crc"],
        "rejected": dict(+receiver.rejected),
        "tiles": {name: tally.summary() for name, tally in tallies.items()},
    }


def _live_line(args: argparse.Namespace, tallies: dict[str, TileTally], receiver: TileReceiver, quiet_s: float) -> str:
    missing = [name for name, tally in tallies.items() if not tally.frames]
    if quiet_s >= QUIET_S:
        return (
            f"nothing from {args.uri} for {quiet_s:.0f} s. Is the server running there"
            + (f", with tiles named {', '.join(missing)}" if missing else "")
            + "? Does it use keys (?server_key_file=)?"
        )
    heard = [tally for tally in tallies.values() if tally.frames]
    newest = max((tally.last.header.request.index for tally in heard), default="-")
    worst_ms = max((tally.ms("decided_to_received")["p99"] for tally in heard), default=0.0)
    return (
        f"frame {newest} · {len(heard)} tiles · {sum(tally.frames for tally in heard)} received"
        f" · {sum(tally.lost for tally in heard)} lost · {receiver.rejected['crc']} crc errors"
        f" · decided to received p99 {worst_ms:.1f} ms" + (f" · nothing yet of {', '.join(missing)}" if missing else "")
    )


def _report(summary: dict) -> str:
    lines = [f"{'tile':16} {'frames':>7} {'lost':>5} {'skipped':>7} {'fps':>7}   decided to received, ms (p50, p99)"]
    for name, tile in summary["tiles"].items():
        if tile["frames"]:
            age = tile["decided_to_received_ms"]
            numbers = f"{tile['frames']:7} {tile['lost']:5} {tile['skipped']:7} {tile['fps']:7.2f}"
            lines.append(f"{name:16} {numbers}   {age['p50']:.1f}, {age['p99']:.1f}")
        else:
            lines.append(f"{name:16} {'nothing received':>7}")
    lines.append(f"refused messages: {summary['rejected'] or 'none'}")
    return "\n".join(lines)
