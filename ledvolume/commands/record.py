"""Record what camera trackers send: every datagram as it came, of one source or several, in one file.

  ledvolume record osc+udp://0.0.0.0:9000 --out take3.mcap
  ledvolume record freed+udp://:40000 opentrackio+udp://239.135.1.14:55555 --profile z-cam --out take3.mcap
  ledvolume record --show show.toml --out take3.mcap --seconds 60

Ends with Ctrl+C or after --seconds. What is on the disk by then can be read, also if this machine is switched off: at most
the last second is lost. Datagrams are decoded only to be counted; what is refused is recorded too. `ledvolume convert`
makes tracks of a take, `ledvolume simulate --raw` sends it again. Exit status 1 if nothing came.
"""

import argparse
import shutil
import signal
import time
from collections.abc import Callable, Iterable

import msgspec

from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import positive, writable_file
from ledvolume.commands.reading import reading_arguments, sources_of
from ledvolume.config import load_show
from ledvolume.protocols import Decoder, Reading, open_decoder
from ledvolume.recording import TakeWriter
from ledvolume.sources import UdpSource, ZmqSource, address, open_source, wait_for_any

WAIT_S = 0.05
DECODED_PER_TURN = 64  # of each source: a flood must be written down, it need not be understood
LINE_EVERY_NS = 200_000_000
SYNC_EVERY_NS = 1_000_000_000
LITTLE_SPACE_BYTES = 1 << 30


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uris", metavar="URI", nargs="*", help="sources, such as osc+udp://HOST:PORT")
    parser.add_argument("--out", required=True, metavar="TAKE.mcap", type=writable_file, help="a new file")
    parser.add_argument("--seconds", type=positive, metavar="N", help="stop after this time")
    parser.add_argument("--show", default="", metavar="SHOW.toml", help="record this show's sources, and the show file too")
    reading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    wanted = sources_of(args, args.uris, args.show)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    line = LiveLine()
    inputs: list[_Input] = []
    try:
        for uri, reading in wanted:
            inputs.append(_Input(uri, reading))
        writer = TakeWriter(args.out)
        try:
            if args.show:
                show = load_show(args.show)
                writer.show(show.file, show.toml, show.files)
            for uri, source in zip((uri for uri, _ in wanted), inputs):
                line.say(f"recording {uri}{source.told_port()}")
            line.say(f"to {args.out}, Ctrl+C to stop")
            record(inputs, writer, args.seconds, lambda: bool(stopped), line.show, line.say)
            writer.metadata("received", {source.uri: source.in_words() for source in inputs})
        finally:
            writer.close()
    finally:
        for source in inputs:
            source.close()
    for source in inputs:
        line.say(f"{source.uri}: {source.in_words()}")
    line.say(f"{args.out}: {args.out.stat().st_size} bytes")
    return 0 if any(source.received for source in inputs) else 1


class _Input:
    """A source that is recorded, and a decoder that looks at it for the live line."""

    def __init__(self, uri: str, reading: Reading):
        self.uri, self.reading, self.protocol = uri, reading, address(uri).protocol
        self._decoder: Decoder = open_decoder(self.protocol, **msgspec.structs.asdict(reading))
        self.source: UdpSource | ZmqSource = open_source(uri)
        self.channel = 0
        self.samples = self.bytes = self.looked_at = 0
        self.close = self.source.close

    @property
    def received(self) -> int:
        return self.source.received

    @property
    def refused(self) -> int:
        return self._decoder.rejects.total()

    def told_port(self) -> str:
        """The port that was taken, where the address leaves it open."""
        return f" (port {self.source.port})" if address(self.uri).port == 0 else ""

    def drain_into(self, writer: TakeWriter) -> list:
        """What has arrived, written down."""
        datagrams = self.source.drain()
        for datagram in datagrams:
            writer.datagram(self.channel, datagram)
            self.bytes += len(datagram.payload)
        return datagrams

    def look_at(self, datagrams: list) -> None:
        """Count what can be understood."""
        self.looked_at += len(datagrams)
        for datagram in datagrams:
            self.samples += len(self._decoder.decode(datagram))

    def in_words(self) -> str:
        """Counts of everything."""
        words = f"{self.received} datagrams, {self.bytes} bytes, {self.samples} poses"
        rejects = self._decoder.rejects
        if rejects:
            words += f", {rejects.total()} refused ({', '.join(f'{n} {reason}' for reason, n in rejects.most_common(3))})"
        if self.looked_at < self.received:
            words += f", {self.received - self.looked_at} recorded without a look at them"
        if self._decoder.ignored:
            words += f", {self._decoder.ignored.total()} ignored"
        if self.source.dropped:
            words += f", {self.source.dropped} dropped by the kernel"
        return words


def record(
    inputs: list[_Input],
    writer: TakeWriter,
    seconds: float | None,
    is_stopped: Callable[[], bool],
    show: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Write down what arrives until the time is over. Each turn's datagrams are handed to the system before they are read."""
    for source in inputs:
        source.channel = writer.source(source.uri, source.protocol, source.reading)
    begin_ns = time.monotonic_ns()
    end_ns = begin_ns + round(seconds * 1e9) if seconds else None
    next_line_ns = next_sync_ns = begin_ns
    sources, has_warned = [source.source for source in inputs], False
    while not is_stopped() and (end_ns is None or time.monotonic_ns() < end_ns):
        wait_for_any(sources, WAIT_S)
        drained = [source.drain_into(writer) for source in inputs]
        writer.flush()
        for source, datagrams in zip(inputs, drained):
            source.look_at(datagrams[:DECODED_PER_TURN])
        now_ns = time.monotonic_ns()
        if now_ns >= next_sync_ns:
            next_sync_ns = now_ns + SYNC_EVERY_NS
            writer.sync()
        if now_ns >= next_line_ns:
            next_line_ns = now_ns + LINE_EVERY_NS
            free_bytes = shutil.disk_usage(writer.path.parent).free
            show(_line(inputs, writer, (now_ns - begin_ns) / 1e9, free_bytes))
            if free_bytes < LITTLE_SPACE_BYTES and not has_warned:
                has_warned = True
                say(f"{writer.path.parent}: only {_size(free_bytes)} free")


def _line(inputs: Iterable[_Input], writer: TakeWriter, elapsed_s: float, free_bytes: int) -> str:
    inputs = list(inputs)
    counts = "  ".join(
        f"{source.protocol} {source.received}" + (f" ({r} refused)" if (r := source.refused) else "") for source in inputs
    )
    return f"{elapsed_s:6.1f} s  {counts}  {_size(writer.bytes_written)}  {_size(free_bytes)} free"


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
