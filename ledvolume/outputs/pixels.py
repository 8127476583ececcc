"""Pixel formats of wall images: how code values lie in memory, from the read-back to the receiver.

    rgb8    (H, W, 3) uint8
    rgb10   (H, W) uint32, R in bits 0-9, G 10-19, B 20-29, bits 30-31 unused (GL_UNSIGNED_INT_2_10_10_10_REV)
    rgb16   (H, W, 3) uint16

Little-endian, row 0 at the top, no padding between rows.
"""

from typing import Literal, get_args

import numpy as np

from ledvolume.errors import OutputError

PixelFormat = Literal["rgb8", "rgb10", "rgb16"]

PIXEL_FORMATS: dict[str, tuple[np.dtype, int]] = {
    "rgb8": (np.dtype("u1"), 3),
    "rgb10": (np.dtype("<u4"), 1),
    "rgb16": (np.dtype("<u2"), 3),
}
"""name → (element type, elements per pixel)."""

assert set(PIXEL_FORMATS) == set(get_args(PixelFormat))


def pixel_format(image: np.ndarray) -> PixelFormat:
    """The format that an image's type and shape say. Raises OutputError for an image that cannot be sent as it lies."""
    if image.flags.c_contiguous and image.size:
        for name, (dtype, channels) in PIXEL_FORMATS.items():
            if image.dtype == dtype and image.shape[2:] == ((channels,) if channels > 1 else ()) and image.ndim >= 2:
                return name
    raise OutputError(
        f"an image is {image.shape} {image.dtype}, contiguous: {image.flags.c_contiguous}; "
        "expected contiguous (H, W, 3) uint8, (H, W, 3) uint16 or (H, W) uint32 = rgb10"
    )


def shaped(buffer, resolution_px: tuple[int, int], name: PixelFormat) -> np.ndarray:
    """The image that lies in a buffer, without a copy. resolution_px: width, height."""
    dtype, channels = PIXEL_FORMATS[name]
    width, height = resolution_px
    return np.frombuffer(buffer, dtype).reshape((height, width, channels) if channels > 1 else (height, width))


def byte_count(resolution_px: tuple[int, int], name: PixelFormat) -> int:
    """Bytes of an image. resolution_px: width, height."""
    dtype, channels = PIXEL_FORMATS[name]
    return resolution_px[0] * resolution_px[1] * channels * dtype.itemsize


def rgb10_packed(code_values: np.ndarray) -> np.ndarray:
    """(H, W, 3) integers 0..1023 → (H, W) uint32."""
    r, g, b = np.moveaxis(code_values.astype(np.uint32), -1, 0)
    return r | g << 10 | b << 20


def rgb10_unpacked(packed: np.ndarray) -> np.ndarray:
    """(H, W) uint32 → (H, W, 3) uint16, 0..1023."""
    return (packed[..., None] >> np.array([0, 10, 20], np.uint32) & 1023).astype(np.uint16)


def code_values(image: np.ndarray) -> tuple[np.ndarray, int]:
    """((H, W, 3) code values, bits per channel) of an image in any of the formats."""
    name = pixel_format(image)
    return (rgb10_unpacked(image), 10) if name == "rgb10" else (image, 8 * image.itemsize)


def eight_bit(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 for screens and previews: the upper eight bits."""
    values, bits = code_values(image)
    return values if bits == 8 else (values >> (bits - 8)).astype(np.uint8)
