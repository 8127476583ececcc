"""The proof that a picture is frustum-correct: photograph the wall from where the camera was, and compare.

    what the lens saw     rays from the entrance pupil to the wall; the light of the LED pixels that they meet
    what it should see    rays from the entrance pupil into the place, no wall between (Renderer.view)

If tracking, geometry and the eye are right the two pictures are the same, wherever the camera stands. What keeps them from
being equal, with everything right: each LED pixel holds one sample of the place, the wall's surface between two LEDs is
interpolated, code values are of 8 bits (59 dB alone). So a camera pixel must be no finer than LED_PER_CAMERA_PX pixels of
the wall; a finer one would measure the pitch of the LEDs and not the frustum.
"""

import math

import msgspec
import numpy as np

from ledvolume.camera import Camera, view_tangents
from ledvolume.colour import linear_from_srgb, srgb_from_linear
from ledvolume.frame import Frame
from ledvolume.frustum import Footprint, inner_weight, view_directions
from ledvolume.outputs.pixels import code_values
from ledvolume.stage import Stage, Surface, led_coordinates, surface_points

LED_PER_CAMERA_PX = 1.5
ACROSS = 3


class LensCheck(msgspec.Struct, frozen=True):
    """Both pictures, display-encoded (H, W, 3) float32; compared: (H, W) bool, the camera pixels that count."""

    photographed: np.ndarray
    direct: np.ndarray
    compared: np.ndarray

    @property
    def db(self) -> float:
        """PSNR over the camera pixels that count, peak 1. NaN where none does."""
        error = (self.photographed - self.direct)[self.compared]
        return -10 * math.log10(max(float(np.mean(error**2)), 1e-10)) if error.size else math.nan


def check(
    frame: Frame,
    stage: Stage,
    renderer,
    footprint: Footprint,
    camera: Camera | None = None,
    judged_by: Camera | None = None,
    across: int = ACROSS,
) -> LensCheck:
    """Photograph a received frame with the camera of its request, or with another one, and compare with the direct view.

    The picture's size is `camera_resolution`'s. Counted are camera pixels whose ray meets the wall where the request's
    camera, or `judged_by`, has its footprint in full weight. renderer: a Renderer of the same show.
    """
    camera, judged_by = camera or frame.request.camera, judged_by or frame.request.camera
    resolution_px = camera_resolution(stage, camera)
    photographed, seen, points_m = rephotograph(stage, frame.images, camera, resolution_px, across)
    width, height = resolution_px
    direct = renderer.view(frame.request.scene, camera, (width * across, height * across))
    direct = direct.reshape(height, across, width, across, 3).mean((1, 3)).clip(0, 1)
    compared = seen & (inner_weight(judged_by, footprint, np.nan_to_num(points_m)) >= 1)
    return LensCheck(srgb_from_linear(photographed), srgb_from_linear(direct), compared)


def camera_resolution(stage: Stage, camera: Camera, led_per_px: float = LED_PER_CAMERA_PX) -> tuple[int, int]:
    """The picture size (width, height) at which a camera pixel covers led_per_px LED pixels at the middle of the view."""
    forward = view_directions(camera, (1, 1))[0, 0]
    hits = [wall_hit(surface, camera, forward[None, None]) for surface in stage.surfaces]
    distance_m, pitch_m = min((float(distance_m[0, 0]), s.pitch_m) for (_, _, distance_m), s in zip(hits, stage.surfaces))
    if not math.isfinite(distance_m):
        distance_m = max(float(np.linalg.norm(np.subtract(stage.eye_m, camera.stage_from_camera.position_m))), 1.0)
    left, right, bottom, top = view_tangents(camera.lens)
    per_tangent = distance_m / (pitch_m * led_per_px)
    return max(round((right - left) * per_tangent), 1), max(round((top - bottom) * per_tangent), 1)


def rephotograph(
    stage: Stage,
    images: dict[str, np.ndarray],
    camera: Camera,
    resolution_px: tuple[int, int],
    across: int = ACROSS,
    is_bent: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the camera sees of the wall: scene-linear light (H, W, 3) float32, whether its rays meet the wall (H, W) bool,
    and where its middle ray meets it (H, W, 3) stage metres, NaN where it does not.

    images: received code values by tile; a tile that is missing is dark. A camera pixel is the mean of across² rays; a ray
    takes the light of the four LED pixels around it, bilinear: a lens that is not focused on the wall does that, and on set
    it never is (moiré). Where several surfaces are in the way, the nearest is seen. is_bent: as the lens bends the picture.
    """
    width, height = resolution_px
    directions = view_directions(camera, (width * across, height * across), is_bent)
    light = np.zeros((*directions.shape[:2], 3), np.float32)
    points_m = np.full(directions.shape, np.nan)
    nearest_m = np.full(directions.shape[:2], np.inf)
    for surface in stage.surfaces:
        led_px, hit_m, distance_m = wall_hit(surface, camera, directions)
        is_nearer = distance_m < nearest_m
        light[is_nearer] = bilinear(wall_light(stage, surface, images), led_px[is_nearer])
        points_m[is_nearer] = hit_m[is_nearer]
        nearest_m[is_nearer] = distance_m[is_nearer]
    blocks = (height, across, width, across)
    seen = np.isfinite(nearest_m).reshape(blocks).all((1, 3))
    middle = points_m.reshape(*blocks, 3)[:, across // 2, :, across // 2]
    return light.reshape(*blocks, 3).mean((1, 3)), seen, middle


def wall_hit(surface: Surface, camera: Camera, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays from the camera's entrance pupil meet a surface: LED coordinates (..., 2), stage points (..., 3) m, and
    how far that is (...,) m. A ray that misses it: NaN, NaN, inf."""
    eye_m = camera.stage_from_camera.position_m
    led_px = led_coordinates(surface, eye_m, directions)
    hit_m = surface_points(surface, led_px[..., 0], led_px[..., 1])
    distance_m = np.linalg.norm(hit_m - np.asarray(eye_m), axis=-1)
    return led_px, hit_m, np.where(np.isnan(distance_m), np.inf, distance_m)


def wall_light(stage: Stage, surface: Surface, images: dict[str, np.ndarray]) -> np.ndarray:
    """The light of a surface as its tiles were received, flat: (H, W, 3) float32, 1 = the brightest code value."""
    width, height = surface.resolution_px
    light = np.zeros((height, width, 3), np.float32)
    for tile in stage.tiles:
        if tile.surface == surface and tile.name in images:
            (x, y), (w, h) = tile.offset_px, tile.resolution_px
            values, bits = code_values(images[tile.name])
            light[y : y + h, x : x + w] = linear_from_srgb(values / np.float32((1 << bits) - 1))
    return light


def bilinear(picture: np.ndarray, at_px: np.ndarray) -> np.ndarray:
    """picture (H, W, 3) at continuous coordinates (n, 2), pixel centres at + 0.5; the edge goes on beyond itself."""
    height, width = picture.shape[:2]
    x, y = at_px[:, 0].astype(np.float32) - 0.5, at_px[:, 1].astype(np.float32) - 0.5
    x0, y0 = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    left, right = x0.clip(0, width - 1), (x0 + 1).clip(0, width - 1)
    up, down = y0.clip(0, height - 1), (y0 + 1).clip(0, height - 1)
    upper = picture[up, left] * (1 - fx) + picture[up, right] * fx
    lower = picture[down, left] * (1 - fx) + picture[down, right] * fx
    return upper * (1 - fy) + lower * fy
