"""Render a show and stream it to the wall, until Ctrl+C.

  ledvolume serve configs/demo.toml
  ledvolume serve configs/demo.toml --rate 24 --seconds 60 --status out/status.json
  ledvolume serve configs/demo.toml --source osc+udp://0.0.0.0:9000 --output "stream://*:5560?insecure=yes"

  ledvolume serve SHOW.toml --record takes/12A-3.mcap --slate "12A take 3"

--record writes a take: everything that came in, every frame's request, and sums of every tile, for `ledvolume replay`.
--source and --output stand in for the addresses of the show file, in their order. Port 0 takes a free one; the status
file names it. Ends with a summary; exit status 1 if no frame was sent.
"""

import argparse
import signal
from pathlib import Path

import msgspec

from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import new_file, positive, writable_file
from ledvolume.config import Show, load_show
from ledvolume.errors import ConfigError
from ledvolume.server import serve


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("show", metavar="SHOW.toml", type=Path, help="the show file")
    parser.add_argument("--seconds", metavar="N", type=positive, help="stop after N seconds")
    parser.add_argument(
        "--status", metavar="FILE.json", type=writable_file, help="rewritten every second; the summary at the end"
    )
    parser.add_argument("--rate", metavar="FPS", help='frames per second instead of the show\'s, such as "24000/1001"')
    parser.add_argument(
        "--source", metavar="URI", action="append", default=[], help="instead of the show's source; again: the next"
    )
    parser.add_argument("--output", metavar="URI", action="append", default=[], help="instead of the show's outputs")
    parser.add_argument("--record", metavar="TAKE.mcap", type=new_file, help="write a take; a file that is there is refused")
    parser.add_argument("--slate", metavar="TEXT", default="", help="what the take is called")


def run(args: argparse.Namespace) -> int:
    show = load_show(args.show, **({"rate": args.rate} if args.rate else {}))
    show = with_addresses(show, args.source, args.output)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    terminal = LiveLine()
    terminal.say(f"{show.name}: {len(show.stage.tiles)} tiles at {show.rate} fps; loading")
    for words in solved_words(show):
        terminal.say(words)
    summary = serve(
        show,
        seconds=args.seconds,
        status_file=args.status,
        live_line=terminal.show,
        warn=terminal.say,
        is_stopped=lambda: bool(stopped),
        record=args.record,
        slate=args.slate,
    )
    terminal.say(in_words(summary))
    return 0 if summary["frames"] else 1


def solved_words(show: Show) -> list[str]:
    """What of the show was measured, by whom, and how well it is known; a line each."""
    lines = []
    for what, table in show.solved.items():
        values = {field.encode_name: getattr(table, field.name) for field in msgspec.structs.fields(table)}
        known = [f"± {values['sigma_mm']:g} mm"] if values.get("sigma_mm") is not None else []
        for key, value in values.items():
            name, is_sigma, unit = key.partition("_sigma_")
            if is_sigma and value is not None:
                known.append(f"{name} ± {value:g}{'°' if unit == 'deg' else f' {unit}'}")
        left = [f"{values[key]:g} {key[4:]}" for key in ("rms_px", "rms_mm") if values.get(key) is not None]
        views = f" from {table.views} views" if table.views else ""
        facts = ", ".join([*known, *([f"left over {', '.join(left)} RMS"] if left else [])])
        lines.append(f"{what}: solved {table.at:%Y-%m-%d %H:%M} by {table.by}{views}" + (f": {facts}" if facts else ""))
    return lines


def with_addresses(show: Show, sources: list[str], outputs: list[str]) -> Show:
    """The show with other addresses; a source keeps its map."""
    if len(sources) > len(show.sources):
        raise ConfigError(show.file, "--source", f"at most as many as the show has sources, {len(show.sources)}", sources)
    changed = [msgspec.structs.replace(spec, uri=uri) for spec, uri in zip(show.sources, sources)]
    return msgspec.structs.replace(
        show, sources=(*changed, *show.sources[len(sources) :]), outputs=tuple(outputs) or show.outputs
    )


def in_words(summary: dict) -> str:
    """The summary for people, in two lines."""
    latency, frame_ms = summary["pose_to_send_ms"], summary["frame_ms"]
    lines = [
        f"{summary['frames']} frames at {summary['fps']} fps on {summary['renderer']}, {summary['frames_late']} late, "
        f"{summary['frames_skipped']} skipped; {summary['poses_received']} poses, "
        f"{sum(summary['poses_refused'].values())} refused {summary['poses_refused'] or ''}".rstrip()
    ]
    if latency and frame_ms:
        lines.append(
            f"pose to send p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms; "
            f"a frame p50 {frame_ms['p50']:.1f} ms, p99 {frame_ms['p99']:.1f} ms"
        )
    return "\n".join(lines)
