"""What the tracked camera sees: its footprint on the wall, and rays through its own picture.

Inside the footprint an LED pixel is lit for the entrance pupil, outside it for the stage's eye. The wall is never
pre-distorted for the lens: the real lens does that; distortion only decides how much overscan is needed.
GLSL twin: render/shaders/footprint.glsl.
"""

import msgspec
import numpy as np

from ledvolume.camera import Camera, view_tangents
from ledvolume.lens import undistorted


class Footprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """overscan: full weight up to this multiple of the lens' half view. feather: width of the fade beyond it, likewise.

    most: a camera that turns fast gets more overscan, up to this multiple.
    """

    overscan: float = 1.15
    feather: float = 0.1
    most: float = 2.0


def in_camera(camera: Camera, points_m: np.ndarray) -> np.ndarray:
    """Stage points (..., 3) to camera axes at the entrance pupil (X right, Y forward, Z up), float64."""
    m = camera.stage_from_camera.matrix()
    return (np.asarray(points_m, float) - m[:3, 3]) @ m[:3, :3]


def inner_weight(camera: Camera, footprint: Footprint, points_m: np.ndarray) -> np.ndarray:
    """1 inside the footprint, 0 outside, smooth in the feather; all of it times the camera's presence;
    (...,) float64. Behind the camera: 0."""
    left, right, bottom, top = view_tangents(camera.lens)
    p = in_camera(camera, points_m)
    forward = np.maximum(p[..., 1], 1e-6)
    u = np.abs(p[..., 0] / forward - (left + right) / 2) / ((right - left) / 2)
    v = np.abs(p[..., 2] / forward - (bottom + top) / 2) / ((top - bottom) / 2)
    x = np.clip((np.maximum(u, v) - footprint.overscan) / max(footprint.feather, 1e-6), 0, 1)
    return np.where(p[..., 1] > 1e-6, camera.presence * (1 - x * x * (3 - 2 * x)), 0.0)


def view_directions(
    camera: Camera, resolution_px: tuple[int, int], is_bent: bool = False, rows: slice = slice(None)
) -> np.ndarray:
    """Unit directions in the stage through the pixel centres of the camera's picture, (H, W, 3); of some rows only.

    is_bent: as the lens bends them: a pixel is a point of the sensor, where the light falls; its ray goes where that light
    would have fallen without distortion. NaN where no lens can be what the coefficients say. Else as a pinhole sees.
    """
    (width, height), (width_mm, height_mm) = resolution_px, camera.lens.sensor_mm
    x_mm = ((np.arange(width) + 0.5) / width - 0.5) * width_mm
    y_mm = ((np.arange(height)[rows] + 0.5) / height - 0.5) * height_mm
    points_mm = np.stack(np.meshgrid(x_mm, y_mm), -1)
    if is_bent:
        points_mm = undistorted(camera.lens, points_mm)
    right_down = (points_mm - np.asarray(camera.lens.projection_offset_mm)) / camera.lens.focal_length_mm
    d = np.stack([right_down[..., 0], np.ones(right_down.shape[:2]), -right_down[..., 1]], -1)
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    return d @ camera.stage_from_camera.matrix()[:3, :3].T


def picture_coordinates(camera: Camera, points_m: np.ndarray, resolution_px: tuple[int, int]) -> np.ndarray:
    """Where stage points (..., 3) fall in the camera's picture: (..., 2) px, (0, 0) its top left corner; NaN behind."""
    left, right, bottom, top = view_tangents(camera.lens)
    p = in_camera(camera, points_m)
    forward = np.where(p[..., 1] > 1e-6, p[..., 1], np.nan)
    x = (p[..., 0] / forward - left) / (right - left) * resolution_px[0]
    y = (p[..., 2] / forward - top) / (bottom - top) * resolution_px[1]
    return np.stack([x, y], -1)
