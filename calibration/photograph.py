"""A photograph of a wall, with all that makes real ones hard to read; where every LED is, is known.

    camera, stage ─▶ Sight: how much of each LED's light comes to each part of a picture pixel                 (once a view)
    Sight, what the wall shows ─▶ defocus ─▶ pixels ─▶ vignetting, exposure, blooming, clipping, noise ─▶ 8 bits   (a picture)

Light adds up, so the first step is a sparse matrix: the pictures of a Gray code differ in what the LEDs show and in nothing
else. An LED is a bright square in a dark pitch. A picture pixel is cut into across² parts, so that the lens blurs before the
pixels sample; each part is a box in LED coordinates, as wide as the camera's ray bundle is there, which LEDs overlap or not.
"""

import math

import cv2
import msgspec
import numpy as np
from scipy import sparse

from ledvolume.camera import Camera
from ledvolume.colour import srgb_from_linear
from ledvolume.frustum import in_camera, view_directions
from ledvolume.lens import Lens, distorted
from ledvolume.lens_check import wall_hit, wall_light
from ledvolume.stage import Stage, Surface

RAYS_AT_ONCE = 1 << 19
WIDEST_LED = 1.3  # of a part of a picture pixel: a wider one would meet three LEDs in a row
MOST_ACROSS = 4
WALL_REFLECTS = 0.15  # of the room's light: the mask between LEDs is black
PERSON_REFLECTS = 0.4
BLUR_STEP_PX = 0.5
LEAST_BLUR_PX = 0.05


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What takes the picture, beside its lens and place.

    exposure: how much of a full sensor the white wall gives in the middle of the picture; above 1 it clips. f_stop: None is a
    pinhole; the lens' own focus_distance_m, None too, is where it is sharp. softness_px: sigma of what the best lens blurs.
    full_well_e, read_noise_e: electrons. vignetting: light that the barrel takes in the corners, beside cos⁴. bloom: share of
    the light beyond clipping that runs over into what is around it, bloom_px wide (sigma). across: see the module; None: as
    many as the finest pitch in the picture asks for.
    """

    resolution_px: tuple[int, int] = (1920, 1280)
    exposure: float = 0.8
    f_stop: float | None = 5.6
    softness_px: float = 0.4
    full_well_e: float = 20_000.0
    read_noise_e: float = 5.0
    vignetting: float = 0.2
    bloom: float = 0.3
    bloom_px: float = 3.0
    is_bayer: bool = False
    across: int | None = None


class Room(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What there is beside the wall. light: of a grey room, 1 = the white wall. people_m: where they stand on the floor, (x, y);
    they are in the way."""

    light: float = 0.01
    people_m: tuple[tuple[float, float], ...] = ()


class Sight(msgspec.Struct, frozen=True):
    """What a camera's picture is made of, whatever the wall shows. Parts are those of pixels, in one fine picture.

    shares: (parts, LEDs) sparse float32, LEDs in the order of stage.surfaces, row by row. room: (H · across, W · across)
    float32, light that is there with a dark wall. blur_parts: likewise, the radius of a point's disk, in parts. falloff:
    (H, W) float32, vignetting.
    """

    shares: sparse.csr_matrix
    room: np.ndarray
    blur_parts: np.ndarray
    falloff: np.ndarray
    across: int


def sight(stage: Stage, camera: Camera, body: Body, room: Room = Room(), led_fill: float = 0.4) -> Sight:
    """led_fill: share of an LED pixel's area that shines; the wall's mean light is the same whatever it is."""
    width, height = body.resolution_px
    across = body.across or _parts_across(stage, camera, body)
    edges = np.linspace(0, height * across, 1 + math.ceil(width * height * across**2 / RAYS_AT_ONCE)).astype(int).tolist()
    rows = [slice(top, bottom) for top, bottom in zip(edges, edges[1:])]
    shares, lit, depth_m = zip(*(_band(stage, camera, body, across, room, led_fill, each) for each in rows))
    return Sight(
        sparse.vstack(shares, "csr"),
        np.concatenate(lit),
        across * _blur_px(camera.lens, body, np.concatenate(depth_m)),
        _falloff(camera.lens, body),
        across,
    )


def photograph(seen: Sight, stage: Stage, images: dict[str, np.ndarray], body: Body, seed: int | tuple[int, ...]) -> np.ndarray:
    """A picture of the wall that shows `images` (code values by tile): (H, W, 3) uint8, sRGB. The same seed, the same noise."""
    return developed(collected(seen, stage, images, body), body, seed)


def collected(seen: Sight, stage: Stage, images: dict[str, np.ndarray], body: Body) -> np.ndarray:
    """The light on the sensor, (H, W, 3) float32; 1 is a full one, and nothing is cut off yet."""
    leds = np.concatenate([wall_light(stage, surface, images).reshape(-1, 3) for surface in stage.surfaces])
    if (leds == leds[:, :1]).all():  # grey, as patterns are: a third of the work
        leds = leds[:, :1]
    light = (seen.shares @ leds).reshape(*seen.room.shape, -1) + seen.room[..., None]
    light = defocused(light, seen.blur_parts)
    (width, height), n = body.resolution_px, seen.across
    light = light.reshape(height, n, width, n, -1).mean((1, 3)) * (seen.falloff * np.float32(body.exposure))[..., None]
    return np.broadcast_to(light, (height, width, 3))


def developed(light: np.ndarray, body: Body, seed: int | tuple[int, ...]) -> np.ndarray:
    """What the sensor makes of the light: (H, W, 3) uint8, sRGB."""
    if body.bloom and (beyond := np.maximum(light - 1, 0)).any():
        light = np.minimum(light, 1) + np.float32(body.bloom) * cv2.GaussianBlur(beyond, None, body.bloom_px)
    light = np.minimum(light, 1)
    if body.is_bayer:
        light = _mosaic(light)
    variance = light / np.float32(body.full_well_e) + np.float32((body.read_noise_e / body.full_well_e) ** 2)
    noise = np.random.default_rng(seed).standard_normal(light.shape, np.float32)
    light = np.clip(light + noise * np.sqrt(variance), 0, 1)
    if body.is_bayer:
        light = cv2.demosaicing((light * 65535).round().astype(np.uint16), cv2.COLOR_BayerRGGB2RGB) / np.float32(65535)
    return np.floor(srgb_from_linear(light) * 255 + np.float32(0.5)).astype(np.uint8)


def picture_points(camera: Camera, points_m: np.ndarray, resolution_px: tuple[int, int]) -> np.ndarray:
    """Where stage points (..., 3) are in the photograph: (..., 2) px as the lens bends it; NaN behind the camera."""
    p, lens = in_camera(camera, points_m), camera.lens
    forward = np.where(p[..., 1] > 1e-6, p[..., 1], np.nan)
    right_down = np.stack([p[..., 0] / forward, -p[..., 2] / forward], -1)
    at_mm = distorted(lens, lens.focal_length_mm * right_down + lens.projection_offset_mm)
    return (at_mm / lens.sensor_mm + 0.5) * resolution_px


def disk_radius_mm(lens: Lens, f_stop: float, depth_m: np.ndarray) -> np.ndarray:
    """Radius on the sensor of the disk that a point becomes, depth_m along the optical axis from the entrance pupil.

    Thin lens: the sensor is F behind it (F: the lens' focal length as it projects), in focus at S, so f = F S / (F + S); the
    aperture is f / N wide, and the disk half of (f / N) · F · |1/S - 1/depth|.
    """
    focus_m = math.inf if lens.focus_distance_m is None else lens.focus_distance_m
    projection_m = lens.focal_length_mm / 1000
    focal_m = projection_m if focus_m == math.inf else projection_m * focus_m / (projection_m + focus_m)
    return 1000 * (focal_m / f_stop) * projection_m * np.abs(1 / focus_m - 1 / depth_m) / 2


def defocused(light: np.ndarray, radius_px: np.ndarray) -> np.ndarray:
    """Every point of (H, W, C) as a disk of the radius that radius_px (H, W) has there.

    Disks of a few radii are drawn, their squares in equal steps, and each pixel takes its own between two of them, so that
    the second moment is right.
    """
    low, high = float(radius_px.min()), float(radius_px.max())
    if high < LEAST_BLUR_PX:
        return light
    levels = 1 + math.ceil((high - low) / BLUR_STEP_PX) if high - low > LEAST_BLUR_PX else 1
    squares = np.linspace(low**2, high**2, levels) if levels > 1 else [(low**2 + high**2) / 2]
    drawn = (
        cv2.filter2D(light, -1, disk(math.sqrt(square)), borderType=cv2.BORDER_REPLICATE).reshape(light.shape)
        for square in squares
    )
    if levels == 1:
        return next(drawn)
    at = (radius_px**2 - np.float32(low**2)) * np.float32((levels - 1) / (high**2 - low**2))
    return sum(picture * np.maximum(1 - np.abs(at - np.float32(i)), 0)[..., None] for i, picture in enumerate(drawn))


def disk(radius_px: float) -> np.ndarray:
    """A disk of sum 1 as a kernel of pixels whose second moment along an axis is that of the disk, r²/4.

    Of a disk that is smaller than a pixel, the neighbours take what the moment asks for. Pixels are squares, and squares
    alone widen by 1/12: the disk that is drawn is smaller by almost that, and its middle takes the rest.
    """
    if radius_px < 1:
        one = np.array([0, 1, 0]) + radius_px**2 / 8 * np.array([1, -2, 1])
        return np.outer(one, one).astype(np.float32)
    drawn, parts = math.sqrt(radius_px**2 - 0.2), 32
    reach = math.ceil(drawn - 0.5)
    at = (np.arange((2 * reach + 1) * parts) + 0.5) / parts - reach - 0.5
    inside = np.hypot(*np.meshgrid(at, at)) <= drawn
    kernel = inside.reshape(2 * reach + 1, parts, 2 * reach + 1, parts).sum((1, 3)) / inside.sum()
    kernel *= radius_px**2 / 4 / (kernel * np.arange(-reach, reach + 1) ** 2).sum()
    kernel[reach, reach] += 1 - kernel.sum()
    return kernel.astype(np.float32)


def _parts_across(stage: Stage, camera: Camera, body: Body) -> int:
    """Two, or so many that where the picture is finest on the wall, 5 % of it aside, a part is no wider than WIDEST_LED."""
    coarse = 16
    directions = view_directions(camera, tuple(max(2, size // coarse) for size in body.resolution_px), True)
    wide = [np.zeros(1)]
    for surface in stage.surfaces:
        led_px, _, _ = wall_hit(surface, camera, directions)
        squares = sum(_squared_steps(led_px, axis) for axis in (0, 1))[~np.isnan(led_px)]
        wide.append(np.sqrt(squares) / coarse)
    widest = float(np.percentile(np.concatenate(wide), 95))
    return min(max(2, math.ceil(widest / WIDEST_LED)), MOST_ACROSS)


def _band(stage: Stage, camera: Camera, body: Body, across: int, room: Room, led_fill: float, rows: slice):
    """Some rows of a Sight: shares, room's light and depths."""
    width, height = (size * across for size in body.resolution_px)
    directions = view_directions(camera, (width, height), True, rows)
    nearest_m = np.full(directions.shape[:2], np.inf)
    room_light = np.full(directions.shape[:2], room.light, np.float32)
    hits = []
    for surface in stage.surfaces:
        led_px, _, distance_m = wall_hit(surface, camera, directions)
        hits.append((led_px, distance_m))
        nearest_m = np.minimum(nearest_m, distance_m)
    room_light[np.isfinite(nearest_m)] *= WALL_REFLECTS
    for at_m in room.people_m:
        distance_m = _person_m(camera, directions, at_m)
        is_person = distance_m < nearest_m
        nearest_m[is_person], room_light[is_person] = distance_m[is_person], room.light * PERSON_REFLECTS
    entries, first = [], 0
    for surface, (led_px, distance_m) in zip(stage.surfaces, hits):
        is_seen = (distance_m <= nearest_m) & np.isfinite(distance_m)
        parts = np.flatnonzero(is_seen).astype(np.int32)
        for led, share in _overlaps(surface, led_px, is_seen, led_fill):
            is_lit = share > 0
            entries.append((parts[is_lit], first + led[is_lit], share[is_lit]))
        first += surface.resolution_px[0] * surface.resolution_px[1]
    part, led, share = (np.concatenate(each) for each in zip(*entries))
    forward = camera.stage_from_camera.matrix()[:3, 1]
    depth_m = np.where(np.isfinite(nearest_m), nearest_m, np.nan) * (directions @ forward)
    return sparse.csr_matrix((share, (part, led)), (nearest_m.size, first)), room_light, depth_m.astype(np.float32)


def _overlaps(surface: Surface, led_px: np.ndarray, is_seen: np.ndarray, led_fill: float):
    """The four LEDs around each part of a pixel that is_seen: (number of the LED, its share of the part's light) four times."""
    width, height = surface.resolution_px
    wide = np.sqrt(sum(_squared_steps(led_px, axis) for axis in (0, 1))[is_seen]).clip(1e-3, WIDEST_LED)
    at = led_px[is_seen]
    columns, rows = (_overlap(at[:, i], wide[:, i], size, led_fill) for i, size in enumerate((width, height)))
    for row, down in rows:
        for column, right in columns:
            yield row * np.int32(width) + column, right * down


def _overlap(at_px: np.ndarray, wide_px: np.ndarray, size: int, led_fill: float):
    """Along one axis: the LED before each place and the one behind it, as (its number, its share) twice."""
    half = math.sqrt(led_fill) / 2
    before = np.floor(at_px - 0.5)
    ahead, wide_px = (at_px - 0.5 - before).astype(np.float32), wide_px.astype(np.float32)
    before, pair = before.astype(np.int32), []
    for step in (0, 1):
        off, led = ahead - np.float32(step), before + np.int32(step)
        overlap = np.minimum(off + wide_px / 2, half) - np.maximum(off - wide_px / 2, -half)
        share = np.maximum(overlap, 0) / (wide_px * np.float32(2 * half))
        pair.append((led, np.where((led >= 0) & (led < size), share, 0)))
    return pair


def _squared_steps(led_px: np.ndarray, axis: int) -> np.ndarray:
    """Squared distances (H, W, 2) to the nearer of both neighbours along an axis, in LED pixels; 0 where there is none.

    The nearer: at the edge of a surface the other is none, or on another panel.
    """
    steps = np.diff(led_px, axis=axis) ** 2
    nothing = np.full_like(np.take(led_px, [0], axis), np.nan)
    return np.nan_to_num(np.fmin(np.concatenate([steps, nothing], axis), np.concatenate([nothing, steps], axis)))


def _person_m(camera: Camera, directions: np.ndarray, at_m: tuple[float, float]) -> np.ndarray:
    """How far along rays a standing person is met, 1.75 m tall: a cut-out that faces the camera. inf: missed."""
    eye_m = np.asarray(camera.stage_from_camera.position_m)
    toward = np.asarray(at_m) - eye_m[:2]
    far_m = float(np.hypot(*toward))
    forward = toward / max(far_m, 1e-6)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance_m = far_m / (directions[..., :2] @ forward)
        side_m = (directions[..., :2] @ np.array([forward[1], -forward[0]])) * distance_m
        up_m = eye_m[2] + directions[..., 2] * distance_m
        head = (side_m / 0.1) ** 2 + ((up_m - 1.62) / 0.13) ** 2 < 1
        rest = (np.abs(side_m) < np.interp(up_m, (0, 1.2, 1.38, 1.48), (0.17, 0.23, 0.22, 0.06))) & (up_m > 0) & (up_m < 1.55)
        return np.where((head | rest) & (distance_m > 0), distance_m, np.inf)


def _blur_px(lens: Lens, body: Body, depth_m: np.ndarray) -> np.ndarray:
    """Radius of the disk of the same second moment as defocus and softness together (a disk's is r²/4, a Gaussian's σ²)."""
    softness = np.float32((2 * body.softness_px) ** 2)
    if body.f_stop is None or lens.focus_distance_m is None:
        return np.full(depth_m.shape, np.sqrt(softness), np.float32)
    depth_m = np.where(np.isnan(depth_m), lens.focus_distance_m, depth_m)  # where there is nothing, nothing is blurred
    radius_px = disk_radius_mm(lens, body.f_stop, depth_m) * body.resolution_px[0] / lens.sensor_mm[0]
    return np.sqrt(radius_px**2 + softness).astype(np.float32)


def _falloff(lens: Lens, body: Body) -> np.ndarray:
    """cos⁴ of the angle to the optical axis, times what the barrel lets through: 1 - vignetting · (r / half diagonal)⁴."""
    (width, height), (width_mm, height_mm) = body.resolution_px, lens.sensor_mm
    dx, dy = lens.projection_offset_mm
    x_mm = ((np.arange(width) + 0.5) / width - 0.5) * width_mm - dx
    y_mm = ((np.arange(height) + 0.5) / height - 0.5) * height_mm - dy
    squares = x_mm**2 + y_mm[:, None] ** 2
    half = np.hypot(width_mm, height_mm) / 2
    return ((1 + squares / lens.focal_length_mm**2) ** -2 * (1 - body.vignetting * (squares / half**2) ** 2)).astype(np.float32)


def _mosaic(light: np.ndarray) -> np.ndarray:
    """One colour a pixel: red and green, green and blue in turns, (H, W)."""
    mosaic = light[..., 1].copy()
    mosaic[0::2, 0::2] = light[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = light[1::2, 1::2, 2]
    return mosaic
