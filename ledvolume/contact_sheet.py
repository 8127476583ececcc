"""Pictures of a run for people: the contact sheet, and the frames of the film through the lens.

The wall is shown as it was sent, unrolled flat, with the camera's view drawn on it. Only for looking at: what is measured
is measured in lens_check.py.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ledvolume.camera import Camera, view_tangents
from ledvolume.colour import srgb_from_linear
from ledvolume.config import Show
from ledvolume.frame import Frame
from ledvolume.lens_check import LensCheck, camera_resolution, rephotograph, wall_light
from ledvolume.stage import Stage, led_coordinates

BACKGROUND, INK, FAINT, MARK = (18, 19, 22), (236, 236, 232), (150, 152, 156), (255, 176, 46)
DIFFERENCE_GAIN = 8
FILM_PX = (1280, 720)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, which is always there."""
    return ImageFont.load_default(size)


def picture(display: np.ndarray, size_px: tuple[int, int], resample=Image.Resampling.BICUBIC) -> Image.Image:
    """Display-encoded (H, W, 3) float 0..1 as an image of a size."""
    return Image.fromarray((np.clip(display, 0, 1) * 255 + 0.5).astype(np.uint8)).resize(size_px, resample)


def wall_picture(stage: Stage, images: dict[str, np.ndarray], camera: Camera, overscan: float, height_px: int) -> Image.Image:
    """The wall's first surface as sent, unrolled, at its true proportions; the camera's view in a line, its overscan dashed."""
    surface = stage.surfaces[0]
    size_px = (round(height_px * surface.size_m[0] / surface.size_m[1] / 2) * 2, height_px)
    wall = picture(srgb_from_linear(wall_light(stage, surface, images)), size_px)
    draw = ImageDraw.Draw(wall)
    scale = np.divide(size_px, surface.resolution_px)
    for factor, colour, dash in ((overscan, INK, 3), (1.0, MARK, 1)):
        points = led_coordinates(surface, camera.stage_from_camera.position_m, _border_directions(camera, factor)) * scale
        for i, (a, b) in enumerate(zip(points, points[1:])):
            if i % dash == 0 and np.isfinite((a, b)).all():
                draw.line((*a, *b), colour, 2)
    return wall


def contact_sheet(
    title: str,
    facts: list[str],
    credit: str,
    wall: Image.Image,
    photographed: np.ndarray,
    direct: np.ndarray,
    check: LensCheck,
    without_tracking: LensCheck,
) -> Image.Image:
    """One page: the wall as sent, what the lens sees of it, the direct render of that view, their difference, and what the
    difference would be on a wall that is drawn for the stage's fixed eye."""
    margin, caption, cell_w = 40, 84, 680
    cell_h = round(cell_w * photographed.shape[0] / photographed.shape[1])
    top = 130
    right = margin + wall.width + margin
    sheet = Image.new(
        "RGB",
        (right + 2 * cell_w + 24 + margin, top + max(wall.height + caption + 38 * len(facts), 2 * (cell_h + caption)) + 70),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, 36), title, INK, font(44))
    sheet.paste(wall, (margin, top))
    _caption(draw, (margin, top + wall.height), "The wall as sent, unrolled", "yellow: the camera's view · dashes: with overscan")
    for i, fact in enumerate(facts):
        draw.text((margin, top + wall.height + caption + 18 + 36 * i), fact, FAINT, font(24))
    cells = (
        (picture(photographed, (cell_w, cell_h)), "Through the lens", "the wall, photographed from the tracked camera"),
        (picture(direct, (cell_w, cell_h)), "Direct render", "the place from the same camera, no wall between"),
        (
            _difference(check, (cell_w, cell_h)),
            f"Their difference, {DIFFERENCE_GAIN} times",
            f"{check.db:.1f} dB: the frustum is right",
        ),
        (
            _difference(without_tracking, (cell_w, cell_h)),
            f"Without tracking: difference, {DIFFERENCE_GAIN} times",
            f"{without_tracking.db:.1f} dB: the same wall drawn for the stage's fixed eye",
        ),
    )
    for i, (image, name, words) in enumerate(cells):
        at = right + i % 2 * (cell_w + 24), top + i // 2 * (cell_h + caption + 14)
        sheet.paste(image, at)
        _caption(draw, (at[0], at[1] + cell_h), name, words)
    draw.text((margin, sheet.height - 52), credit, FAINT, font(22))
    return sheet


def through_the_lens(show: Show, frame: Frame, credit: str) -> np.ndarray:
    """A film frame of a wall that was sent, as its camera saw it."""
    camera, stage = frame.request.camera, show.stage
    fine_px = camera_resolution(stage, camera, led_per_px=0.7)
    seen, _, _ = rephotograph(stage, frame.images, camera, fine_px, across=1, is_bent=True)
    wall = wall_picture(stage, frame.images, camera, show.footprint.overscan, 640)
    x, y, z = camera.stage_from_camera.position_m
    lines = [
        "left: the wall as sent, with the camera's view · right: through the lens",
        f"frame {frame.request.index} · camera x {x:+.2f} y {y:+.2f} z {z:.2f} m · {camera.tracking}",
    ]
    return film_frame(f"ledvolume · {show.name}", lines, credit, wall, srgb_from_linear(seen))


def film_frame(title: str, lines: list[str], credit: str, wall: Image.Image, photographed: np.ndarray) -> np.ndarray:
    """(720, 1280, 3) uint8: the wall at the left, what the lens sees of it at the right."""
    frame = Image.new("RGB", FILM_PX, BACKGROUND)
    draw = ImageDraw.Draw(frame)
    frame.paste(wall, (24, 24))
    left = wall.width + 48
    width = FILM_PX[0] - left - 24
    height = round(width * photographed.shape[0] / photographed.shape[1])
    frame.paste(picture(photographed, (width, height), Image.Resampling.BILINEAR), (left, 24))
    draw.text((left, height + 40), title, INK, font(24))
    for i, line in enumerate(lines):
        draw.text((left, height + 78 + 26 * i), line, FAINT, font(18))
    draw.text((24, FILM_PX[1] - 34), credit, FAINT, font(15))
    return np.asarray(frame)


def _caption(draw: ImageDraw.ImageDraw, at: tuple[int, int], name: str, words: str) -> None:
    draw.text((at[0], at[1] + 10), name, INK, font(30))
    draw.text((at[0], at[1] + 47), words, FAINT, font(24))


def _difference(check: LensCheck, size_px: tuple[int, int]) -> Image.Image:
    difference = np.where(check.compared[..., None], np.abs(check.photographed - check.direct) * DIFFERENCE_GAIN, 0.12)
    return picture(difference, size_px, Image.Resampling.NEAREST)


def _border_directions(camera: Camera, factor: float, per_side: int = 40) -> np.ndarray:
    """Directions (4 · per_side + 1, 3) along the border of `factor` times the camera's view, closed."""
    left, right, bottom, top = view_tangents(camera.lens)
    middle, half = ((left + right) / 2, (bottom + top) / 2), ((right - left) / 2, (top - bottom) / 2)
    t = np.linspace(-1, 1, per_side, endpoint=False)
    one = np.ones_like(t)
    x = np.concatenate([t, one, -t, -one, [-1]]) * half[0] * factor + middle[0]
    z = np.concatenate([one, -t, -one, t, [1]]) * half[1] * factor + middle[1]
    return np.stack([x, np.ones_like(x), z], -1) @ camera.stage_from_camera.matrix()[:3, :3].T
