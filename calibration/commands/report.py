"""One page about a calibration: how good it is, what is weak, what to do next; pictures and every number with its uncertainty.

  ledvolume calibrate report CALIBRATION
  ledvolume calibrate report CALIBRATION --out report.html

CALIBRATION is the folder with solved.json and, for what was seen and thrown away, views.json. The page needs no network and no
other file. The verdict is printed too. Exit status 0 if the calibration is good, 1 if it is not.
"""

import argparse
from pathlib import Path

from calibration.report import coverage_of, page
from calibration.session import load_views
from calibration.solved import FILE_NAME, load_solved
from calibration.verdict import verdict_of
from ledvolume.commands.quantities import writable_file
from ledvolume.outputs.whole_file import write_whole

VIEWS = "views.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="CALIBRATION", type=Path, help="the calibration's folder")
    parser.add_argument("--out", metavar="FILE.html", type=writable_file, help="default: report.html in the folder")


def run(args: argparse.Namespace) -> int:
    solved = load_solved(args.folder / FILE_NAME)
    views = load_views(args.folder / VIEWS) if (args.folder / VIEWS).exists() else []
    out = args.out or args.folder / "report.html"
    write_whole(out, page(solved, views).encode())
    verdict = verdict_of(solved, coverage_of(solved, views))
    for words in (verdict.words, *verdict.more):
        print(words)
    print(f"{out}: open it in a browser")
    return 0 if verdict.is_good else 1
