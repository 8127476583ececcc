"""Transfer functions and code values. GLSL twin: render/shaders/transfer.glsl."""

import numpy as np


def linear_from_srgb(value: np.ndarray) -> np.ndarray:
    """Display-encoded 0..1 to linear light 0..1 (IEC 61966-2-1)."""
    value = np.asarray(value, np.float32)
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def srgb_from_linear(value: np.ndarray) -> np.ndarray:
    """Linear light 0..1 to display-encoded 0..1 (IEC 61966-2-1)."""
    value = np.asarray(value, np.float32)
    return np.where(value > 0.0031308, 1.055 * np.maximum(value, 0) ** (1 / 2.4) - 0.055, value * 12.92)


def code_values(linear: np.ndarray, bits: int) -> np.ndarray:
    """Linear light to whole numbers 0..2^bits - 1, float32; what is out of range is cut off."""
    return np.floor(srgb_from_linear(np.clip(linear, 0, 1)) * np.float32(2**bits - 1) + np.float32(0.5))


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio of two display-encoded pictures, peak 1."""
    error = float(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2))
    return 99.0 if error <= 10**-9.9 else -10 * float(np.log10(error))
