"""A place's light from all round one point, as lighting tools take it: directions of the pixels of an environment picture.

Equirectangular (long/lat), as seen from inside: the middle looks along the stage's +Y, to the wall; right of it is +X, the
stage's right; the top row is +Z, up; the left and the right edge meet behind, at -Y. Cube: six pictures of 90°, one below
the other, each as a camera there would take it, in the order of cube maps in OpenGL and Direct3D:

    right (+X), left (-X), up (+Z), down (-Z), front (+Y), back (-Y)        in a cube map's own words px nx py ny pz nz

`up` joins `front` with its lower edge, `down` with its upper one. Pixels are areas, their centres at + 0.5: nothing is there
twice, and no edge is left out. `latlong_directions` and `cube_directions` know no scene; `panorama` asks one for its light.
"""

import math
from collections.abc import Callable

import numpy as np

from ledvolume.colour import linear_from_srgb

FACES = ("right", "left", "up", "down", "front", "back")
# of each face: the direction of its middle, of its right and of its lower edge
FACE_AXES = np.array(
    [
        [(1, 0, 0), (0, -1, 0), (0, 0, -1)],
        [(-1, 0, 0), (0, 1, 0), (0, 0, -1)],
        [(0, 0, 1), (1, 0, 0), (0, 1, 0)],
        [(0, 0, -1), (1, 0, 0), (0, -1, 0)],
        [(0, 1, 0), (1, 0, 0), (0, 0, -1)],
        [(0, -1, 0), (-1, 0, 0), (0, 0, -1)],
    ],
    float,
)
RAYS_AT_ONCE = 1 << 20


def latlong_directions(rows_px: np.ndarray, width_px: int) -> np.ndarray:
    """Unit directions (len(rows_px), width_px, 3) of rows of a picture half as high as wide; rows_px: 0.5 is the first."""
    azimuth = ((np.arange(width_px) + 0.5) / width_px - 0.5) * math.tau
    elevation = (0.5 - np.asarray(rows_px, float)[:, None] * 2 / width_px) * math.pi
    across = np.cos(elevation)
    up = np.broadcast_to(np.sin(elevation), (len(rows_px), width_px))
    return np.stack([across * np.sin(azimuth), across * np.cos(azimuth), up], -1)


def cube_directions(rows_px: np.ndarray, width_px: int) -> np.ndarray:
    """Unit directions (len(rows_px), width_px, 3) of rows of six faces, one below the other."""
    face, down_px = np.divmod(np.asarray(rows_px, float), width_px)
    middle, right, down = np.moveaxis(FACE_AXES[face.astype(int)], 1, 0)
    along = (np.arange(width_px) + 0.5) * 2 / width_px - 1
    below = (down_px * 2 / width_px - 1)[:, None, None]
    toward = middle[:, None] + along[:, None] * right[:, None] + below * down[:, None]
    return toward / np.linalg.norm(toward, axis=-1, keepdims=True)


def panorama(
    seen: Callable[[np.ndarray, float], np.ndarray], width_px: int, is_cube: bool = False, across: int = 2
) -> np.ndarray:
    """Scene-linear light (H, width_px, 3) float32: long/lat, or six faces. across² rays a pixel, averaged in linear light.

    seen: what meets rays from the eye, (unit directions (n, 3), spread) → display-encoded colours (n, 3).
    """
    height_px, directions = (6 * width_px, cube_directions) if is_cube else (width_px // 2, latlong_directions)
    # half a pixel's angle; of a cube's in the middle of a face, where pixels are largest
    spread = 1 / width_px if is_cube else math.pi / width_px
    picture = np.empty((height_px, width_px, 3), np.float32)
    band = max(1, RAYS_AT_ONCE // (width_px * across**2))
    for top in range(0, height_px, band):
        bottom = min(top + band, height_px)
        rays = directions(np.arange(top * across, bottom * across) + 0.5, width_px * across)
        light = linear_from_srgb(seen(rays.reshape(-1, 3), spread).clip(0, 1))
        picture[top:bottom] = light.reshape(bottom - top, across, width_px, across, 3).mean((1, 3))
    return picture
