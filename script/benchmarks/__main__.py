"""`script/bench [NAME…]`: what the parts cost on this machine, one benchmark after the other."""

import argparse
import sys
from collections.abc import Iterable

import measure
from benchmarks import march, nerfstudio_speed, places, prediction, stream
from measure import Row


def stream_output() -> Iterable[Row]:
    """what sending costs: Python's time at 4 and at 256 tiles, and a 1080p tile against bare ZMQ and memcpy"""
    yield from (Row(**row) for row in stream.rows())


# name on the command line → measurements
BENCHMARKS = {
    "march": march.MEASUREMENTS,
    "places": places.MEASUREMENTS,
    "nerfstudio": nerfstudio_speed.MEASUREMENTS,
    "stream": (stream_output,),
    "prediction": prediction.MEASUREMENTS,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--list", action="store_true", help="say what there is to measure")
    arguments = parser.parse_args()
    unknown = set(arguments.name) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if arguments.list:
        for name, measurements in BENCHMARKS.items():
            print(f"{name}: {'; '.join(measure.what_it_does(m) for m in measurements)}")
        return 0
    chosen = arguments.name or list(BENCHMARKS)
    held = [measure.run(BENCHMARKS[name], measure.ROOT / "out" / "bench" / f"{name}.json") for name in chosen]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
