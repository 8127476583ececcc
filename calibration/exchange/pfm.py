"""PFM, as MPCDI has it: float32 x, y, z of every pixel. Row 0 is the top, as MPCDI's reference library writes and reads it,
though PFM files of pictures begin at the bottom.
"""

import re
from pathlib import Path

import numpy as np

from ledvolume.errors import ConfigError

MOST_PIXELS = 40_000_000
_HEADER = re.compile(rb"(P[Ff])\s+(\d{1,6})\s+(\d{1,6})\s+([-+0-9.eE]{1,32})\s", re.ASCII)


def pfm_of(data: bytes, file: Path, key: str) -> np.ndarray:
    """(H, W, 3) float64, as the file has them; NaN where it has. Raises ConfigError."""
    header = _HEADER.match(data[:256])
    if header is None:
        raise ConfigError(file, key, "a PFM header: PF, width and height, scale", data[:24])
    kind, width, height = header[1], int(header[2]), int(header[3])
    try:
        scale = float(header[4])
    except ValueError:
        scale = 0.0
    if kind != b"PF" or not 0 < width * height <= MOST_PIXELS or scale == 0 or not np.isfinite(scale):
        expected = f"PF (three channels), at most {MOST_PIXELS} pixels, a scale"
        raise ConfigError(file, key, expected, header[0].decode("ascii", "replace"))
    size = width * height * 12
    if len(data) - header.end() < size:
        raise ConfigError(file, key, f"{size} bytes of {width} × {height} points", len(data) - header.end())
    values = np.frombuffer(data, "<f4" if scale < 0 else ">f4", width * height * 3, header.end())
    return values.reshape(height, width, 3).astype(float)


def pfm_bytes(points: np.ndarray) -> bytes:
    """The file of (H, W, 3), little endian."""
    height, width = points.shape[:2]
    return f"PF\n{width} {height}\n-1.000000\n".encode() + np.ascontiguousarray(points, "<f4").tobytes()
