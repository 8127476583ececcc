"""Coded pictures that the wall shows while it is photographed: what a cue `pattern:NAME` puts on the LED pixels.

    white  black  identify          all on, all off, every tile's name and its pixel (0, 0)
    surface/NAME                    white on one surface, black on the others: which surface is where in the picture
    gray/x/K  gray/x/K/inverse      bit K of the columns' Gray code, 0 the coarsest, and its negative; gray/y/K: rows
    flash/N                         white or black all over, each surface by a code of its own (flash_code.py)
    dots  dots/P                    one dot for every P × P LED pixels, large or small: a code that one picture is read by

Gray code: c ^ (c >> 1), so that neighbouring columns differ in one bit, and an edge of a bit can be told from all others by
the coarser bits alone. A surface that has no bit K shows black for it and for its negative.

Dots: whether one is large or small is a bit drawn from a hash of the surface's name, its resolution and P, so that any fifty
dots tell where on which surface they are, and whether the picture is mirrored, however many of them are hidden. Everything
is black or white, as nothing between them survives a wall's transfer function and a camera's clipping; a dot is as symmetric
as its LED pixels are, so that its middle stays where it is under blooming, blur and overexposure.
"""

import hashlib
import math
import re

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ledvolume import flash_code
from ledvolume.errors import ConfigError
from ledvolume.stage import Surface, WallTile

LEAST_PITCH_PX = 8  # below, large and small dots are hard to tell apart
MOST_DOTS_ACROSS = 128  # a picture of 2000 px then has some 15 px for a dot
LARGE, SMALL = 0.3, 0.15  # radii of dots, in pitches
_NAME = re.compile(r"white|black|identify|surface/.+|gray/[xy]/\d{1,2}(/inverse)?|dots(/\d{1,4})?|flash/\d{1,4}")


def check(name: str) -> None:
    """Raises ConfigError for a pattern that cannot be drawn."""
    pitch_px = int(name[5:]) if re.fullmatch(r"dots/\d{1,4}", name) else LEAST_PITCH_PX
    is_no_flash = name.startswith("flash/") and flash_code.number_of(name) is None
    if not _NAME.fullmatch(name) or pitch_px < LEAST_PITCH_PX or pitch_px % 2 or is_no_flash:
        known = f"white, black, identify, surface/NAME, gray/x/K, gray/y/K (/inverse), dots, dots/P (P even, ≥ {LEAST_PITCH_PX}), flash/N"
        raise ConfigError("pattern", "name", known, name)


def series(surface: Surface) -> list[str]:
    """Names of all pictures of the surface's Gray code, in the order in which they are shown."""
    codes = [f"gray/{axis}/{k}" for axis, size in zip("xy", surface.resolution_px) for k in range(bits(size))]
    return ["white", "black", f"surface/{surface.name}"] + [name for code in codes for name in (code, f"{code}/inverse")]


def draw(tile: WallTile, name: str) -> np.ndarray:
    """What a tile shows, (H, W, 3) float32 from 0, black, to 1, the wall's brightest. Raises ConfigError as check does."""
    check(name)
    (width, height), (left, top) = tile.resolution_px, tile.offset_px
    columns, rows = left + np.arange(width), top + np.arange(height)
    kind, _, rest = name.partition("/")
    if kind == "gray":
        axis, k, *inverse = rest.split("/")
        size = tile.surface.resolution_px["xy".index(axis)]
        values = gray_bit(columns[None] if axis == "x" else rows[:, None], bits(size), int(k), bool(inverse))
    elif kind == "dots":
        values = _dots(tile.surface, columns, rows, int(rest) if rest else dots_pitch(tile.surface))
    elif kind == "flash":
        values = np.array([[flash_code.is_lit(tile.surface.name, int(rest))]])
    elif kind == "identify":
        values = _identify(tile)
    else:
        values = np.array([[kind == "white" or (kind == "surface" and rest == tile.surface.name)]])
    return np.broadcast_to(values.astype(np.float32)[..., None], (height, width, 3)).copy()


def bits(size: int) -> int:
    """How many bits number so many columns or rows."""
    return (size - 1).bit_length()


def gray_bit(numbers: np.ndarray, count: int, k: int, is_inverse: bool = False) -> np.ndarray:
    """Whether columns or rows of these numbers are lit in bit k, 0 the coarsest of count; none where there is no such bit."""
    if k >= count:
        return np.zeros(numbers.shape, bool)
    return ((numbers ^ (numbers >> 1)) >> (count - 1 - k) & 1 == 1) != is_inverse


def dots_pitch(surface: Surface) -> int:
    """LED pixels from dot to dot in "dots": 8, 16, 32 …, the least that has no more dots across than pictures resolve."""
    across = max(surface.resolution_px) / MOST_DOTS_ACROSS
    return max(LEAST_PITCH_PX, 2 ** math.ceil(math.log2(across)))


def dot_bits(surface: Surface, pitch_px: int) -> np.ndarray:
    """(rows, columns) bool: which dots are large. Dot (0, 0) has its middle at LED coordinates (pitch / 2, pitch / 2); a
    rest of the surface that is narrower than a pitch has none."""
    width, height = surface.resolution_px
    columns, rows = width // pitch_px, height // pitch_px
    key = f"ledvolume dots {surface.name} {width}x{height} {pitch_px}"
    code = hashlib.shake_256(key.encode()).digest((columns * rows + 7) // 8)
    return np.unpackbits(np.frombuffer(code, np.uint8))[: columns * rows].reshape(rows, columns).astype(bool)


def _dots(surface: Surface, columns: np.ndarray, rows: np.ndarray, pitch_px: int) -> np.ndarray:
    """(rows, columns) bool."""
    large = dot_bits(surface, pitch_px)
    radii_px = np.pad(np.where(large, LARGE, SMALL) * pitch_px, ((0, 1), (0, 1)))  # the rest that has no dots
    across, down = (np.minimum(v // pitch_px, n) for v, n in ((columns, large.shape[1]), (rows, large.shape[0])))
    x, y = (v % pitch_px + 0.5 - pitch_px / 2 for v in (columns, rows))
    return x[None] ** 2 + y[:, None] ** 2 <= radii_px[down[:, None], across[None]] ** 2


def _identify(tile: WallTile) -> np.ndarray:
    """Name, resolution and place for people to read, a frame of one LED pixel, a wedge at the tile's pixel (0, 0)."""
    width, height = tile.resolution_px
    picture = Image.new("L", (width, height))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, width - 1, height - 1), outline=255)
    wedge = min(width, height) // 6
    pen.polygon([(0, 0), (wedge, 0), (0, wedge)], fill=255)
    text = f"{tile.name}\n{width} x {height}\nfrom {tile.offset_px[0]}, {tile.offset_px[1]}"
    font = ImageFont.load_default(max(min(height / 5, 1.5 * width / max(map(len, text.split("\n")))), 6))
    pen.multiline_text((width / 2, height / 2), text, fill=255, font=font, anchor="mm", align="center")
    return np.asarray(picture) / 255.0
