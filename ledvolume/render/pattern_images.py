"""Patterns as code values: what the wall shows while a request's cue is `pattern:NAME` (patterns.py).

They go to the wall as they are: no scene, no exposure, no transfer function, and nothing of a camera. A pattern is drawn when
it is first asked for; those that were shown last are kept.
"""

import numpy as np

from ledvolume.frame import Frame, FrameRequest, pattern_of
from ledvolume.outputs.pixels import PIXEL_FORMATS, PixelFormat, rgb10_packed
from ledvolume.patterns import draw
from ledvolume.stage import Stage

KEPT_BYTES = 1 << 30


class PatternImages:
    """The patterns of a stage in a pixel format. bits: of its code values."""

    def __init__(self, stage: Stage, pixel_format: PixelFormat, bits: int):
        self.stage, self.pixel_format, self.bits = stage, pixel_format, bits
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    def frame(self, request: FrameRequest) -> Frame:
        """Raises ConfigError for a pattern that cannot be drawn."""
        name = pattern_of(request)
        images = self._kept.pop(name, None) or {tile.name: self._encoded(draw(tile, name)) for tile in self.stage.tiles}
        self._kept[name] = images  # the last one is the newest
        size = sum(image.nbytes for image in images.values())
        while len(self._kept) > max(1, KEPT_BYTES // size):
            del self._kept[next(iter(self._kept))]
        return Frame(request, dict(images))

    def _encoded(self, values: np.ndarray) -> np.ndarray:
        """values (H, W, 3) from 0 to 1: the nearest code values, which nobody can change any more."""
        codes = np.floor(values * np.float32((1 << self.bits) - 1) + np.float32(0.5))
        image = rgb10_packed(codes) if self.pixel_format == "rgb10" else codes.astype(PIXEL_FORMATS[self.pixel_format][0])
        image.flags.writeable = False
        return image
