"""Is a photograph of the wall good enough to be calibrated from? Looked at when it is taken, and told in words. Pure.

Brightness is in code values, 0 to 1, as the camera wrote them.
"""

import numpy as np

DARK = 0.25  # the brightest part of a picture of a lit wall
CLIPPED = 0.985
MOST_CLIPPED = 0.1  # of the lit part
EDGE_PX, EDGE_OF_WIDTH = 6.0, 1 / 500  # edges that are wider are blurred: a pixel of a step, five of a blur of 2 px RMS
LEAST_EDGE = 0.1
LIT = 0.08  # by how much white is brighter than black where the wall is
LEAST_SEEN = 0.01
SAME = 0.02  # the mean difference between pictures from one place
ROWS = 512  # that edges are looked for in


def luminance(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32, 0 to 1, of (H, W) or (H, W, 3) integers."""
    scale = np.float32(1 / np.iinfo(pixels.dtype).max)
    if pixels.ndim == 2:
        return pixels.astype(np.float32) * scale
    return (
        pixels[..., 0] * np.float32(0.2126) + pixels[..., 1] * np.float32(0.7152) + pixels[..., 2] * np.float32(0.0722)
    ) * scale


def troubles(picture: np.ndarray, pattern: str) -> list[str]:
    """What is wrong with a picture (its luminance) of a pattern, and what to do."""
    if pattern == "black":
        return []
    height, width = picture.shape
    few = picture[:: max(height // ROWS, 1), :: max(width // ROWS, 1)]
    brightest = float(np.percentile(few, 99.5))
    if brightest < DARK:
        return [
            f"too dark: its brightest part has {brightest:.0%} of white. Open the iris, or expose longer (by {_stops(brightest)})"
        ]
    said = []
    lit = few > max(brightest / 2, DARK)
    clipped = float((few[lit] > CLIPPED).mean())
    if clipped > MOST_CLIPPED:
        said.append(f"overexposed: {clipped:.0%} of what is lit is clipped. Close the iris, or expose shorter, by a stop or two")
    edge_px, limit_px = edge_width_px(picture), max(EDGE_PX, width * EDGE_OF_WIDTH)
    if edge_px is not None and edge_px > limit_px:
        said.append(f"blurred: its edges are {edge_px:.0f} px wide, not {limit_px:.0f} or less. Focus on the wall, use a tripod")
    return said


def edge_width_px(picture: np.ndarray) -> float | None:
    """How wide the sharper half of the strongest upright and level edges is: what they rise by, over how steeply. 2 for a
    step. None where there is no edge."""
    widths = [w for axis in (picture, picture.T) if (w := _edge_widths(axis)).size]
    return float(np.percentile(np.concatenate(widths), 25)) if widths else None


def _edge_widths(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape
    reach = round(2 * max(EDGE_PX, max(height, width) * EDGE_OF_WIDTH))
    if width < 4 * reach:
        return np.empty(0)
    rows = picture[:: max(height // ROWS, 1)]
    slope = np.abs(rows[:, 2:] - rows[:, :-2]) / 2  # of columns 1 to width - 1
    inner = slope[:, reach : width - 2 - reach]
    best = inner.argmax(1)  # one edge of a row: the steepest
    row = np.arange(len(rows))
    steep = inner[row, best]
    around = rows[row[:, None], (best + reach + 1)[:, None] + np.arange(-reach, reach + 1)]
    rise = around.max(1) - around.min(1)
    is_edge = rise > LEAST_EDGE
    return rise[is_edge] / steep[is_edge]


def seen_fraction(white: np.ndarray, black: np.ndarray) -> float:
    """How much of the picture the wall fills, by what is brighter when it is lit."""
    return float((white - black > LIT).mean())


def series_troubles(white: np.ndarray, black: np.ndarray) -> list[str]:
    """What is wrong with a pair of pictures from one place."""
    if white.shape != black.shape:
        return ["pictures of two sizes in one view: take it again with one camera, not turned"]
    if (fraction := seen_fraction(white, black)) >= LEAST_SEEN:
        return []
    if seen_fraction(black, white) >= LEAST_SEEN:
        return ["black is brighter than white: the pictures are not in the order of the patterns, or one is missing"]
    return [
        f"the wall is not seen: white and black look alike ({fraction:.1%} of the picture differs). Does the wall show the "
        "patterns, does the camera look at it, is the room dark?"
    ]


def is_same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Two pictures of one pattern from (nearly) the same place: they hardly differ."""
    if a.shape != b.shape:
        return False
    step = max(min(a.shape) // 256, 1)
    return float(np.abs(a[::step, ::step] - b[::step, ::step]).mean()) < SAME


def _stops(brightest: float) -> str:
    return f"{np.log2(0.7 / max(brightest, 1 / 255)) * 2.2:.0f} stops"
