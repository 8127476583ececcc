"""Photographs of one view → matches: which patterns there are, which surfaces to look for, what is wrong with the set. Pure.

Gray code before dots, where a view has both. What gray_code and dots find is judged by its neighbours on the wall: what lies
off is thrown away, and sigmas are what they are seen to be. See docs/calibration.md for what the reasons mean.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from calibration import dots, gray_code
from calibration.gray_code import Found
from calibration.neighbours import judged
from calibration.picture_check import luminance
from calibration.session import Matches, Shot, View
from calibration.tracker_samples import MOVED_DEG, MOVED_MM, spread
from ledvolume import patterns
from ledvolume.errors import CalibrationError
from ledvolume.pose import Pose, canonical
from ledvolume.stage import Surface

MOST_MATCHES = 4000  # per view; more do not tell more, and a solve takes longer
MOST_SIGMA_PX, UNSURE = 0.5, 5.0  # what is known worse, and so much worse than usual, tells nothing
CONTRADICTIONS = ("bits disagree", "mirrored", "off the neighbours' fit")
MOST_CONTRADICTIONS = 0.35
BRIGHTER, MOST_BRIGHTER = 0.15, 0.25  # than white little may be (somebody walks by), by so much on so much of what is lit
MOST_SHIFT_PX, EXPLAINED = 0.7, 0.7  # between pictures of one view, if it explains so much of how they differ
HERE_BLUR_PX = 2.0
SAME_CONTRAST = 0.5  # of white over black: where a surface is alone, it is at least so bright


def by_view(shots: Sequence[Shot]) -> dict[str, dict[str, Shot]]:
    """View → pattern → shot; of pictures that were taken again, the last."""
    views: dict[str, dict[str, Shot]] = {}
    for shot in shots:
        views.setdefault(shot.view, {})[shot.pattern] = shot
    return views


def view_of(shots: Mapping[str, Shot], pictures: Mapping[str, np.ndarray], surfaces: Sequence[Surface]) -> View:
    """Pattern → shot and pattern → picture, (H, W) or (H, W, 3) integers, of one view. Raises CalibrationError."""
    matches, thrown = matches_of(pictures, surfaces)
    first = next(iter(shots.values()))
    height, width = next(iter(pictures.values())).shape[:2]
    return View(
        first.view, (width, height), matches, first.camera_id, _sample([shot.world_from_tracker for shot in shots.values()]), first.lens_state,
        first.zoom_encoder, first.focus_encoder, dict(thrown),
    )  # fmt: skip


def matches_of(pictures: Mapping[str, np.ndarray], surfaces: Sequence[Surface]) -> tuple[tuple[Matches, ...], Counter]:
    """Pattern → picture, from one place → matches of every surface that is seen; how many were thrown away, by reason.

    Raises CalibrationError for pictures that are no such set: one missing, of different size, in wrong order, of another wall.
    """
    sizes = {picture.shape[:2] for picture in pictures.values()}
    if len(sizes) > 1:
        told = ", ".join(sorted(f"{width} × {height}" for height, width in sizes))
        raise CalibrationError(f"pictures of one view have {len(sizes)} sizes, {told}: one camera, one setting, not turned")
    is_gray = any(name.startswith("gray/") for name in pictures)
    coded = [name for name in pictures if name.split("/")[0] == "dots"]
    if is_gray:
        found = _gray(pictures, surfaces)
    elif coded:
        found = [(surface, f) for name in coded for surface, f in zip(surfaces, _dots(pictures[name], name, surfaces))]
    else:
        raise CalibrationError(f"expected pictures of the Gray code or of dots, got {', '.join(sorted(pictures)) or 'none'}")
    kept, thrown, count = [], Counter(), 0
    for surface, f in found:
        thrown += f.thrown_away
        if not len(f.led_px):
            continue
        verdict = judged(f.led_px, f.picture_px, f.sigma_px)
        thrown["lonely"] += int(np.count_nonzero(verdict.is_lonely))
        thrown["off the neighbours' fit"] += int(np.count_nonzero(verdict.is_off & ~verdict.is_lonely))
        count += len(f.led_px)
        believed = ~verdict.is_lonely & ~verdict.is_off
        sure = verdict.sigma_px <= max(MOST_SIGMA_PX, UNSURE * float(np.median(verdict.sigma_px)))
        thrown["unsure"] += int(np.count_nonzero(believed & ~sure))
        good = believed & sure
        if good.any():
            kept.append(Matches(surface.name, f.led_px[good], f.picture_px[good], verdict.sigma_px[good]))
    if not kept:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in (+thrown).items())
        raise CalibrationError(
            f"no LED pixel was found ({reasons or 'nothing is lit'}): does the wall show the pattern, is it sharp?"
        )
    wrong, count = sum(thrown[reason] for reason in CONTRADICTIONS), count + thrown["bits disagree"]
    if is_gray and wrong > MOST_CONTRADICTIONS * count:
        raise CalibrationError(
            f"{wrong} of {count} places of the picture contradict themselves or their neighbours: the pictures are out of order, the "
            "camera moved between them, or the wall showed something else"
        )
    return _thinned(kept, next(iter(sizes))), +thrown


def _gray(pictures: Mapping[str, np.ndarray], surfaces: Sequence[Surface]) -> list[tuple[Surface, Found]]:
    alone = {surface.name: f"surface/{surface.name}" for surface in surfaces}
    unknown = [name for name in pictures if name.startswith("surface/") and name not in alone.values()]
    if unknown:
        raise CalibrationError(
            f"{', '.join(unknown)}: no such surface in the show, which has {', '.join(alone)}: another show's?"
        )
    shown = [surface for surface in surfaces if alone[surface.name] in pictures]
    if len(surfaces) == 1:
        shown = list(surfaces)
    elif not shown:
        told = ", ".join(alone.values())
        raise CalibrationError(f"of {len(surfaces)} surfaces none was photographed alone, expected {told}: which is where?")
    wanted = [name for surface in shown for name in patterns.series(surface) if not name.startswith("surface/")]
    missing = [name for name in dict.fromkeys(wanted) if name not in pictures]
    if missing:
        told = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise CalibrationError(f"pictures are missing from the series: {told}. Take the view again, or name what they show")

    def read(name: str) -> np.ndarray:
        return luminance(pictures[name])

    white, black = read("white"), read("black")
    if float(np.mean(black > white + 0.05)) > max(float(np.mean(white > black + 0.05)), 0.01):
        raise CalibrationError(
            "black is brighter than white: the pictures are not in the order of the patterns, or one is missing"
        )
    codes = [name for name in wanted if name.startswith("gray/") and not name.endswith("/inverse")]
    for name in (codes[0], codes[len(codes) // 2], codes[-1]):
        _check_pair(np.maximum(read(name), read(f"{name}/inverse")), white, black, name)
    contrast = cv2.GaussianBlur(white - black, (0, 0), HERE_BLUR_PX)
    found = []
    for surface in shown:
        here = None
        if len(surfaces) > 1:
            here = cv2.GaussianBlur(read(alone[surface.name]) - black, (0, 0), HERE_BLUR_PX) > SAME_CONTRAST * contrast
        found.append((surface, gray_code.found(read, surface, here)))
    return found


def _check_pair(brighter: np.ndarray, white: np.ndarray, black: np.ndarray, name: str) -> None:
    """A pattern and its negative, whichever is brighter, are white again, at the same place. Raises CalibrationError."""
    lit = np.count_nonzero(brighter > black + BRIGHTER)
    if np.count_nonzero(brighter > white + BRIGHTER) > MOST_BRIGHTER * lit:
        raise CalibrationError(f"{name} is brighter than white: pictures are missing or out of order, or the camera moved")
    window = cv2.createHanningWindow(white.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(white * window, brighter * window)
    if np.hypot(dx, dy) > MOST_SHIFT_PX:
        moved = cv2.warpAffine(white, np.float64([[1, 0, dx], [0, 1, dy]]), white.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        # it may be somebody who walks by: then the rest fits worse
        if np.abs(moved - brighter).mean() < EXPLAINED * np.abs(white - brighter).mean():
            raise CalibrationError(f"the camera moved by {np.hypot(dx, dy):.1f} px between white and {name}: take the view again")


def _dots(picture: np.ndarray, name: str, surfaces: Sequence[Surface]) -> list[Found]:
    _, _, pitch = name.partition("/")
    patterns.check(name)
    return dots.found(luminance(picture), list(surfaces), [int(pitch) if pitch else patterns.dots_pitch(s) for s in surfaces])


def _thinned(kept: list[Matches], size: tuple[int, int]) -> tuple[Matches, ...]:
    """The best of every cell of the picture, if there are too many; cells grow until few enough are left."""
    count, cell_px = sum(len(m.led_px) for m in kept), 4.0
    while count > MOST_MATCHES:
        cell_px *= 1.2
        across = size[1] // cell_px + 1
        thin = []
        for m in kept:
            cell = np.floor(m.picture_px[:, 1] / cell_px) * across + np.floor(m.picture_px[:, 0] / cell_px)
            order = np.lexsort((m.sigma_px, cell))
            first = order[np.diff(cell[order], prepend=-1) > 0]
            thin.append(Matches(m.surface, m.led_px[first], m.picture_px[first], m.sigma_px[first]))
        count = sum(len(m.led_px) for m in thin)
        if count <= MOST_MATCHES:
            return tuple(thin)
    return tuple(kept)


def _sample(poses: Sequence[Pose | None]) -> Pose | None:
    """The mean of what the tracker said while the view's pictures were taken. Raises CalibrationError if it moved."""
    known = [pose for pose in poses if pose is not None]
    if not known:
        return None
    mm, degrees = spread(known)
    if mm > MOVED_MM or degrees > MOVED_DEG:
        raise CalibrationError(
            f"the tracker moved by {mm:.0f} mm and {degrees:.2f}° while its pictures were taken: take it again"
        )
    turns = np.array([pose.wxyz for pose in known])
    turn = (turns * np.sign(turns @ turns[0])[:, None]).mean(0)
    place = np.mean([pose.position_m for pose in known], 0)
    return Pose(canonical(tuple((turn / np.linalg.norm(turn)).tolist())), tuple(place.tolist()))


def grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W) of the picture's own integers: its luminance."""
    if pixels.ndim == 2:
        return pixels
    return np.round(luminance(pixels) * np.iinfo(pixels.dtype).max).astype(pixels.dtype)
