"""See what camera trackers send: every camera's pose and pace, and why anything is refused, with what to check.

  ledvolume listen osc+udp://0.0.0.0:9000
  ledvolume listen opentrackio+udp://239.135.1.7:55555?interface=eth1 psn+udp://236.10.10.10:56565?interface=all
  ledvolume listen freed+udp://0.0.0.0:40000 --profile z-cam --plot freed.png
  ledvolume listen --show my.toml                     its sources, read as the show says
  ledvolume listen native+zmq://10.0.0.5:5550 --json

A table on a terminal, lines in a log, and a summary at the end. With --json one object a line: a sample (camera_id,
position_m, wxyz, pan_tilt_roll_deg, captured_at_ns, received_at_ns, stamped_at_ns, timecode, lens, status), {"reject":
reason, …}, {"flag": kind, …} or {"ignored": kind} for the first message of its kind, {"silence": uri, …}, {"summary": …}.
"""

import argparse
import math
import signal
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.commands.listen_table import camera_line, degrees, screen
from ledvolume.commands.quantities import count, positive, writable_file
from ledvolume.commands.reading import reading_arguments, sources_of
from ledvolume.config import load_show
from ledvolume.protocols import PROTOCOLS, Reading, open_decoder
from ledvolume.protocols.advice import what_it_means, what_to_check
from ledvolume.silence import network_now, reasons
from ledvolume.source_health import News, SourceHealth
from ledvolume.sources import Datagram, UdpSource, ZmqSource, address, open_source, wait_for_any

SHOWN_BYTES = 64
SCREEN_EVERY_S = 0.25
SILENT_S = 2.5
LOG_COLUMNS = 160

Listened = list[tuple[UdpSource | ZmqSource, SourceHealth]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", nargs="*", help=f"PROTOCOL+udp://HOST:PORT, of {', '.join(PROTOCOLS)}; several")
    parser.add_argument("--show", metavar="SHOW.toml", type=Path, help="the sources of this show instead of URIs")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    parser.add_argument("--every", type=positive, metavar="S", help="a log line a camera, or a JSON summary, every S seconds")
    parser.add_argument("--plot", type=writable_file, metavar="FILE.png", help="a picture of it all at the end")
    parser.add_argument("--seconds", type=positive, default=math.inf, metavar="N", help="stop after this time")
    parser.add_argument("--count", type=count, default=sys.maxsize, metavar="N", help="stop after this many samples")
    reading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    with ExitStack() as opened:
        wanted, known = _wanted(args)
        listened: Listened = []
        for uri, reading in wanted:
            source = opened.enter_context(closing(open_source(uri)))
            listened.append((source, SourceHealth(uri, open_decoder(source.protocol, **msgspec.structs.asdict(reading)))))
        plot = None
        if args.plot:
            from ledvolume.commands.listen_plot import Plot

            plot = Plot()
        shown = _Json(args.every) if args.json else _Screen(listened, known, args.every or 1.0)
        opened.enter_context(shown)
        _listen(listened, shown, plot, args.seconds, args.count, lambda: bool(stopped))
    shown.end(listened)
    if plot is not None:
        plot.save(args.plot, listened)
    return 0


def _wanted(args: argparse.Namespace) -> tuple[list[tuple[str, Reading]], frozenset[str]]:
    """Addresses with their readings, and the cameras of the show if there is one."""
    wanted = sources_of(args, args.uri, args.show or "")
    cameras = (rig.camera_id for rig in load_show(args.show).stage.rigs) if args.show else ()
    return wanted, frozenset(cameras)


def _listen(listened: Listened, shown, plot, seconds: float, count: int, is_stopped) -> None:
    end_s = time.monotonic() + seconds
    quiet = [_Quiet(source) for source, _ in listened]
    sources, seen = [source for source, _ in listened], 0
    while seen < count and not is_stopped() and (remaining_s := end_s - time.monotonic()) > 0:
        wait_for_any(sources, min(remaining_s, SCREEN_EVERY_S))
        for source, health in listened:
            for datagram in source.drain():
                news = health.add(datagram)
                shown.add(health, datagram, news)
                if plot is not None:
                    plot.add(health, datagram, news)
                seen += len(news.samples)
                if seen >= count:
                    return
        silence = {source.uri: words for source, one in zip(sources, quiet) if (words := one.words())}
        shown.refresh(listened, silence)


class _Quiet:
    """Whether a source is silent, and then why that may be; asked again only after it has spoken."""

    def __init__(self, source: UdpSource | ZmqSource):
        self._source, self._where = source, address(source.uri)
        self._before = network_now(source.port)
        self._since_s, self._received = time.monotonic(), 0
        self._words: list[str] = []

    def words(self) -> list[str]:
        """Empty unless nothing has come for SILENT_S."""
        source = self._source
        if source.received != self._received:
            self._since_s, self._received, self._words = time.monotonic(), source.received, []
        elif not self._words and (silent_s := time.monotonic() - self._since_s) > SILENT_S:
            if source.received:
                heard = f" from {next(iter(source.senders))}" if source.senders else ""
                return [f"nothing for {silent_s:.0f} s, after {source.received} datagrams{heard}: has the tracker stopped?"]
            checks = reasons(self._where, source.port, source.joined, self._before, network_now(source.port))
            self._words = ["nothing has come. What to check:", *(f"- {check}" for check in checks)]
        return self._words


class _Json:
    """One object a line."""

    def __init__(self, every_s: float | None):
        self._every_s = every_s or math.inf
        self._next_s = time.monotonic() + self._every_s
        self._silent: set[str] = set()

    def __enter__(self) -> "_Json":
        return self

    def __exit__(self, *_) -> None:
        pass

    def add(self, health: SourceHealth, datagram: Datagram, news: News) -> None:
        decoder, at = health.decoder, {"received_at_ns": datagram.received_at_ns}
        for sample in news.samples:
            _print(_record(sample))
        if news.reject is not None:
            record = {"reject": news.reject.reason, "message": str(news.reject), "check": what_to_check(news.reject.reason)}
            _print(record | at | {"bytes": len(datagram.payload), "payload": datagram.payload[:SHOWN_BYTES].hex()})
        for kind in news.flags:
            _print({"flag": kind, "message": decoder.flagged.get(kind, ""), "means": what_it_means(kind)} | at)
        for kind in news.ignored:
            _print({"ignored": kind} | at)

    def refresh(self, listened: Listened, silence: dict[str, list[str]]) -> None:
        for uri, words in silence.items():
            if uri not in self._silent:
                _print({"silence": uri, "check": words})
        self._silent = set(silence)
        if time.monotonic() >= self._next_s:
            self._next_s += self._every_s
            self.end(listened)

    def end(self, listened: Listened) -> None:
        _print({"summary": [_summary(source, health) for source, health in listened]})


class _Screen:
    """A table that is redrawn on a terminal; in a log, a line a camera now and then, and a line for each new trouble."""

    def __init__(self, listened: Listened, known: frozenset[str], every_s: float):
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False, markup=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, markup=False, width=LOG_COLUMNS)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        self._known, self._listened = known, listened
        self._every_s = SCREEN_EVERY_S if self._live else every_s
        self._next_s = time.monotonic()
        self._silent: set[str] = set()

    def __enter__(self) -> "_Screen":
        for source, _ in self._listened:
            joined = f", joined on {', '.join(source.joined)}" if source.joined else ""
            self._console.print(f"listening on {source.uri}{joined}, Ctrl+C to stop", soft_wrap=True)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        if self._live:
            self._live.stop()

    def add(self, health: SourceHealth, datagram: Datagram, news: News) -> None:
        if self._live:
            return  # the table has it
        if news.reject is not None and health.decoder.rejects[news.reject.reason] == 1:
            self._say(f"refused {news.reject}\n  check: {what_to_check(news.reject.reason)}")
        for kind in news.flags:
            self._say(f"flagged {kind}: {health.decoder.flagged.get(kind, '')}\n  {what_it_means(kind)}")
        for kind in news.ignored:
            self._say(f"ignored {kind}")

    def refresh(self, listened: Listened, silence: dict[str, list[str]]) -> None:
        for uri, (first, *more) in silence.items():
            if uri not in self._silent and not self._live:
                self._say("\n  ".join([f"{uri}: {first}", *more]))
        self._silent = set(silence)
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + self._every_s
        if self._live:
            self._live.update(screen(listened, time.time_ns(), self._known, silence), refresh=True)
            return
        for _, health in listened:
            for camera in health.cameras.values():
                self._say(camera_line(health, camera))

    def end(self, listened: Listened) -> None:
        self._console.print(screen(listened, max(health.newest_at_ns for _, health in listened), self._known, {}))

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


def _record(sample: CameraSample) -> dict:
    pose = sample.world_from_tracker
    record = {"camera_id": sample.camera_id, "position_m": pose.position_m, "wxyz": pose.wxyz}
    record |= {"pan_tilt_roll_deg": degrees(sample)}
    record |= {"captured_at_ns": sample.captured_at_ns, "received_at_ns": sample.received_at_ns}
    record |= {"stamped_at_ns": sample.stamped_at_ns, "timecode": sample.timecode}
    return record | {"lens": sample.lens, "status": sample.status}


def _summary(source: UdpSource | ZmqSource, health: SourceHealth) -> dict:
    return health.summary() | {
        "senders": dict(source.senders),
        "interfaces": dict(source.interfaces),
        "joined": source.joined,
        "dropped_by_kernel": source.dropped,
        "without_kernel_stamp": source.unstamped,
    }


def _print(record: dict) -> None:
    print(msgspec.json.encode(record).decode(), flush=True)
