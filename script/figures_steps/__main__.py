"""`script/figures STEP [--only PATTERN] [--list]`: every figure of one step, measured anew."""

import argparse
import importlib
import sys
from pathlib import Path

import measure

STEPS = sorted(p.stem.replace("_", "-") for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/figures", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--only", metavar="PATTERN", help="only measurements whose name contains this; writes another file")
    parser.add_argument("--list", action="store_true", help="say what would be measured")
    arguments = parser.parse_args()

    step = importlib.import_module(f"figures_steps.{arguments.step.replace('-', '_')}")
    chosen = measure.matching(step.MEASUREMENTS, arguments.only)
    if arguments.list:
        for measurement in chosen:
            print(f"{measurement.__name__}: {measure.what_it_does(measurement)}")
        return 0
    if not chosen:
        parser.error(f"no measurement of {arguments.step} has {arguments.only!r} in its name (see --list)")
    name = arguments.step if arguments.only is None else f"{arguments.step}.only-{arguments.only}"
    if arguments.only is not None:
        print(f"only {len(chosen)} of {len(step.MEASUREMENTS)} measurements: a partial table")
    return 0 if measure.run(chosen, measure.ROOT / "out" / "figures" / f"{name}.json") else 1


if __name__ == "__main__":
    sys.exit(main())
