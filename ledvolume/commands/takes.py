"""List takes: slate, timecode, length, frames and how many of them were late.

  ledvolume takes              those in this folder and below
  ledvolume takes takes/ --json
  ledvolume takes 12A-3.mcap

A take that was cut off (a killed server, a full disk) is listed as far as it goes. Exit status 1 if one cannot be read.
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

import msgspec

from ledvolume.errors import ConfigError
from ledvolume.take import Summary, Take, summary_of


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("where", metavar="TAKE|FOLDER", nargs="*", type=Path, default=[Path()], help="default: this folder")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")


def run(args: argparse.Namespace) -> int:
    files = [file for where in args.where for file in (sorted(where.rglob("*.mcap")) if where.is_dir() else [where])]
    summaries, unread = [], 0
    for file in files:
        try:
            summaries.append((file, summary_of(Take(file))))
        except ConfigError as error:
            unread += 1
            print(f"ledvolume takes: {error}", file=sys.stderr)
    if args.json:
        for file, summary in summaries:
            print(msgspec.json.encode({"file": str(file)} | msgspec.to_builtins(summary)).decode())
    elif summaries:
        _print_table(summaries)
    elif not unread:
        print("no takes here; `ledvolume serve SHOW.toml --record TAKE.mcap` makes one")
    return 1 if unread else 0


def _print_table(summaries: list[tuple[Path, Summary]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("take", "slate", "began", "timecode"):
        table.add_column(name, no_wrap=True)
    for name in ("length", "frames", "late", "skipped", "lost", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for file, summary in summaries:
        began = datetime.fromtimestamp(summary.began_at_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S") if summary.frames else "-"
        late = f"[red]{summary.frames_late}[/]" if summary.frames_late else "0"
        table.add_row(
            escape(str(file)), escape(summary.slate), began, summary.timecode, f"{summary.seconds:.1f} s", str(summary.frames),
            late, str(summary.frames_skipped), str(summary.frames_lost), f"{summary.bytes / 1e6:.1f}",
            f"[yellow]{escape(summary.trouble)}[/]" if summary.trouble else "",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 200).print(table)
