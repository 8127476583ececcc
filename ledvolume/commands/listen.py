"""Print what a camera tracker sends: decoded samples, and every refused datagram with its reason.

  ledvolume listen osc+udp://0.0.0.0:9000
  ledvolume listen native+zmq://10.0.0.5:5550 --json
  ledvolume listen osc+udp://:39539 --preset vmc --sensor 36,24

With --json one object a line: a sample (camera_id, position_m, wxyz, captured_at_ns, received_at_ns, lens, status),
{"reject": reason, …} or {"ignored": address} for the first message to an address that is not mapped.
"""

import argparse
import math
import statistics
import sys
import time
from collections import deque

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.commands.quantities import count, positive
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.protocols import Decoder, open_decoder
from ledvolume.protocols.osc_map import PRESETS, load_map
from ledvolume.sources import Datagram, UdpSource, ZmqSource, open_source

SHOWN_BYTES = 64
RATE_WINDOW = 240


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="osc+udp://HOST:PORT or native+zmq://HOST:PORT")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    parser.add_argument("--seconds", type=positive, default=math.inf, metavar="N", help="stop after this time")
    parser.add_argument("--count", type=count, default=sys.maxsize, metavar="N", help="stop after this many samples")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--map", default="", metavar="FILE.toml", help="OSC: an address map")
    which.add_argument("--preset", default="", metavar="NAME", help=f"OSC: {', '.join(PRESETS)} (default: all)")
    parser.add_argument("--sensor", metavar="W,H", help="OSC: sensor in mm, to read fields of view as focal lengths")


def run(args: argparse.Namespace) -> int:
    source = open_source(args.uri)
    try:
        osc_map = load_map(args.map) if args.map else None
        decoder = open_decoder(source.protocol, args.preset, osc_map=osc_map, sensor_mm=_sensor_mm(args.sensor))
        show = _print_json if args.json else _LiveLine(source, decoder)
        _listen(source, decoder, show, args.seconds, args.count)
    finally:
        source.close()
    return 0


def _listen(source: UdpSource | ZmqSource, decoder: Decoder, show, seconds: float, count: int) -> None:
    end_s = time.monotonic() + seconds
    known, seen = set(), 0
    while seen < count and (remaining_s := end_s - time.monotonic()) > 0:
        source.wait(min(remaining_s, 0.25))
        for datagram in source.drain():
            rejects_before = decoder.rejects.total()
            for sample in decoder.decode(datagram):
                show(sample, datagram)
                seen += 1
                if seen == count:
                    return
            if decoder.rejects.total() > rejects_before:
                show(decoder.last_reject, datagram)
            for address in decoder.ignored.keys() - known:
                known.add(address)
                show(address, datagram)


def _print_json(what: CameraSample | ProtocolError | str, datagram: Datagram) -> None:
    print(msgspec.json.encode(_record(what, datagram)).decode(), flush=True)


def _record(what: CameraSample | ProtocolError | str, datagram: Datagram) -> dict:
    if isinstance(what, CameraSample):
        pose = what.world_from_tracker
        record = {"camera_id": what.camera_id, "position_m": pose.position_m, "wxyz": pose.wxyz}
        record |= {"captured_at_ns": what.captured_at_ns, "received_at_ns": what.received_at_ns}
        return record | {"lens": what.lens, "status": what.status}
    if isinstance(what, ProtocolError):
        record = {"reject": what.reason, "message": str(what), "received_at_ns": datagram.received_at_ns}
        return record | {"bytes": len(datagram.payload), "payload": datagram.payload[:SHOWN_BYTES].hex()}
    return {"ignored": what, "received_at_ns": datagram.received_at_ns}


class _LiveLine:
    """One line that is rewritten a few times a second, and a line for each new kind of trouble."""

    def __init__(self, source: UdpSource | ZmqSource, decoder: Decoder):
        from rich.console import Console

        self._console = Console(highlight=False)
        self._source, self._decoder = source, decoder
        self._stamps_ns: deque[int] = deque(maxlen=RATE_WINDOW)
        self._reasons: set[str] = set()
        self._next_s = 0.0
        self._console.print(f"listening on {source.uri}, Ctrl+C to stop")

    def __call__(self, what: CameraSample | ProtocolError | str, datagram: Datagram) -> None:
        if isinstance(what, ProtocolError):
            if what.reason not in self._reasons:
                self._reasons.add(what.reason)
                self._console.print(f"[red]refused[/] {_escaped(str(what))}")
        elif isinstance(what, str):
            self._console.print(f"[yellow]not mapped[/] {_escaped(what)}")
        else:
            self._stamps_ns.append(what.received_at_ns)
            if time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + 0.2
                end = "\r" if self._console.is_terminal else "\n"
                is_file = not self._console.is_terminal  # a file takes whole lines
                self._console.print(self._line(what), end=end, overflow="crop", no_wrap=True, soft_wrap=is_file)

    def _line(self, sample: CameraSample) -> str:
        (x, y, z), (qw, qx, qy, qz) = sample.world_from_tracker.position_m, sample.world_from_tracker.wxyz
        age_ms = (sample.received_at_ns - sample.captured_at_ns) / 1e6
        line = f"[bold]{_escaped(sample.camera_id)}[/] x {x:+.3f} y {y:+.3f} z {z:+.3f} m"
        line += f"  q {qw:.3f} {qx:+.3f} {qy:+.3f} {qz:+.3f}  {_rate_and_jitter(self._stamps_ns)}  age {age_ms:.1f} ms"
        if sample.lens.focal_length_mm:
            line += f"  {sample.lens.focal_length_mm:.1f} mm"
        if rejected := self._decoder.rejects.total():
            line += f"  [red]{rejected} refused[/]"
        if self._source.dropped:
            line += f"  [red]{self._source.dropped} dropped by the kernel[/]"
        return line


def _rate_and_jitter(stamps_ns: deque[int]) -> str:
    gaps_ms = [(b - a) / 1e6 for a, b in zip(stamps_ns, list(stamps_ns)[1:])]
    if len(gaps_ms) < 2 or (mean_ms := statistics.fmean(gaps_ms)) <= 0:
        return "-- Hz"
    return f"{1000 / mean_ms:.1f} Hz ±{statistics.pstdev(gaps_ms):.2f} ms"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _sensor_mm(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        width_mm, height_mm = (positive(n) for n in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise ConfigError("command line", "--sensor", "width,height in mm, such as 36,24", text) from None
    return (width_mm, height_mm)
