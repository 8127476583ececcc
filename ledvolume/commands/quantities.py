"""Values on the command line, checked where they are typed: for argparse's `type=`. What is refused names its option."""

import argparse
import math
import tempfile
from pathlib import Path


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def not_negative(text: str) -> float:
    """A finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return value


def two_numbers(text: str) -> tuple[float, float]:
    """Two finite numbers with a comma between them."""
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        raise argparse.ArgumentTypeError(f"expected two numbers with a comma between them, got {text!r}")
    return first, second


def count(text: str) -> int:
    """A whole number from 1 on."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return value


def index(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return int(text)


def writable_file(text: str) -> Path:
    """A file that can be written when the work is done: its folder is made now, and tried."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file, {text!r} is a folder")
    writable_folder(str(path.parent))
    return path


def new_file(text: str) -> Path:
    """A file that can be written and is not there yet."""
    path = writable_file(text)
    if path.exists():
        raise argparse.ArgumentTypeError(f"expected a new file, {text!r} is there already")
    return path


def writable_folder(text: str) -> Path:
    """A folder that can be written to; it is made if it is not there."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to {text!r}: {error.strerror}") from None
    return path


def frame_range(text: str) -> tuple[int, int]:
    """Frames "120-239", or one, "120"."""
    first, _, last = text.partition("-")
    try:
        frames = int(first), int(last or first)
    except ValueError:
        frames = (1, 0)
    if not 0 <= frames[0] <= frames[1]:
        raise argparse.ArgumentTypeError(f"expected frames such as 120-239, got {text!r}")
    return frames


def three(text: str) -> tuple[float, float, float]:
    """Three numbers with commas."""
    try:
        x, y, z = (float(number) for number in text.split(","))
    except ValueError:
        x = y = z = math.nan
    if not all(map(math.isfinite, (x, y, z))):
        raise argparse.ArgumentTypeError(f"expected three numbers x,y,z, got {text!r}")
    return x, y, z


def size_px(text: str) -> tuple[int, int]:
    """Width and height, "1920x1080"."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 16384 and 0 < int(height) <= 16384):
        raise argparse.ArgumentTypeError(f"expected width and height such as 1920x1080, got {text!r}")
    return int(width), int(height)


def finite(text: str) -> float:
    """A number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return value
