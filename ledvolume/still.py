"""One picture of a place from one camera, whatever renders it: the baked scene in OpenGL, or the exact field in torch.

Both answer rays of the field (scenes/verify.py has the same shape), so both are given the very same ones, and what differs
between two stills is the place alone. Without a show the "stage" is the field itself and a metre is one of its units.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from ledvolume.camera import Camera, view_tangents
from ledvolume.colour import linear_from_srgb, psnr_db, srgb_from_linear
from ledvolume.frustum import view_directions
from ledvolume.lens import Distortion
from ledvolume.pose import Similarity

See = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""origins (n, 3), directions (n, 3), spreads (n,) of the field → display-encoded colours (n, 3)."""


class Still(msgspec.Struct, frozen=True):
    """What is asked for. exposure: factor on linear light. across: samples of a pixel along each axis."""

    camera: Camera
    size_px: tuple[int, int]
    field_from_stage: Similarity = Similarity()
    near_m: float = 0.0
    exposure: float = 1.0
    across: int = 1


def light(still: Still, see: See, rays_at_once: int, progress: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """(H, W, 3) float32, scene-linear, bent as the lens bends it. What no ray of the lens comes to is black."""
    camera, (width, height), across = still.camera, still.size_px, still.across
    rotation, matrix = still.field_from_stage.pose.matrix()[:3, :3], still.field_from_stage.matrix()
    origin = matrix[:3, :3] @ camera.stage_from_camera.position_m + matrix[:3, 3]
    left, right = view_tangents(camera.lens)[:2]
    spread = 0.5 * (right - left) / width / across
    is_bent = camera.lens.distortion != Distortion()
    fine_px, band = (width * across, height * across), max(1, rays_at_once // (width * across**2))
    picture = np.empty((height, width, 3), np.float32)
    for top in range(0, height, band):
        progress(top / height)
        bottom = min(top + band, height)
        directions = view_directions(camera, fine_px, is_bent, slice(top * across, bottom * across)).reshape(-1, 3)
        is_ray = np.isfinite(directions).all(-1)
        aimed = directions[is_ray] @ rotation.T
        linear = np.zeros((len(directions), 3), np.float32)
        if len(aimed):
            seen = see(np.broadcast_to(origin, aimed.shape), aimed, np.full(len(aimed), spread))
            linear[is_ray] = linear_from_srgb(np.clip(seen, 0, 1)) * still.exposure
        picture[top:bottom] = linear.reshape(bottom - top, across, width, across, 3).mean((1, 3))
    progress(1.0)
    return picture


def difference_db(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR of two stills as a display shows them, peak 1."""
    return psnr_db(*(srgb_from_linear(np.clip(light, 0, 1)) for light in (a, b)))
