"""The photographs of one view → View: every surface's matches, judged by their neighbours, spread evenly over the picture.

Dots are read from each of a view's dot pictures alone. A Gray code is read surface by surface: the pictures of `surface/NAME`
say where each is. What is not believed is counted by reason; what cannot be this stage's wall is a CalibrationError.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from calibration import dots, gray_code, neighbours
from calibration.gray_code import Found
from calibration.picture_check import luminance
from calibration.picture_sources import read_picture
from calibration.session import Matches, Shot, View
from ledvolume import patterns
from ledvolume.errors import CalibrationError
from ledvolume.pose import Pose, canonical
from ledvolume.stage import Surface

MOST_MATCHES = 2000  # of one surface in one view: more say nothing new
LIT_BY_ONE = 0.5  # share of white's light that `surface/NAME` gives where the surface is
STAYED_MM, STAYED_DEG = 10.0, 0.5  # how far a tracker's samples of one view may lie apart
FEWEST = 12  # matches of a view; fewer place no camera


def view_of(shots: Sequence[Shot], surfaces: Sequence[Surface], folder: Path) -> View:
    """What the pictures of one view show. Raises CalibrationError."""
    view = shots[0].view
    files = {shot.pattern: folder / shot.picture for shot in shots}
    sizes: dict[tuple[int, int], str] = {}

    @lru_cache(maxsize=4)
    def read(pattern: str) -> np.ndarray:
        picture = luminance(read_picture(files[pattern]).pixels)
        sizes.setdefault(picture.shape, pattern)
        if len(sizes) > 1:
            said = ", ".join(f"{width} × {height} ({files[name].name})" for (height, width), name in sizes.items())
            raise CalibrationError(f"view {view}: pictures of several sizes: {said}; expected one camera, not turned")
        return picture

    by_dots = [name for name in files if name.partition("/")[0] == "dots"]
    if not by_dots and "white" not in files:
        raise CalibrationError(
            f"view {view}: has {', '.join(files)}; expected a picture of dots, or a Gray code's with its white"
        )
    found = [_dots_in(read(name), name, surfaces) for name in by_dots] or [_gray_in(read, files, surfaces, view)]
    thrown, matches = Counter(), []
    for surface, of_surface in zip(surfaces, zip(*found)):
        kept = _believed(_joined(of_surface), thrown)
        if len(kept.led_px):
            matches.append(Matches(surface.name, kept.led_px, kept.picture_px, kept.sigma_px))
    count = sum(len(m.led_px) for m in matches)
    if count < FEWEST:
        reasons = ", ".join(f"{reason} {n}" for reason, n in thrown.most_common()) or "nothing there"
        raise CalibrationError(f"view {view}: {count} LED pixels found, expected {FEWEST} at least: {reasons}")
    [(height, width)] = sizes
    first = shots[0]
    return View(
        view, (width, height), tuple(matches), first.camera_id, _where(shots), first.lens_state, first.zoom_encoder,
        first.focus_encoder, dict(+thrown),
    )  # fmt: skip


def _dots_in(picture: np.ndarray, name: str, surfaces: Sequence[Surface]) -> list[Found]:
    pitch = name.partition("/")[2]
    return dots.found(picture, list(surfaces), [int(pitch) if pitch else patterns.dots_pitch(s) for s in surfaces])


def _gray_in(read: Callable[[str], np.ndarray], files: dict[str, Path], surfaces: Sequence[Surface], view: str) -> list[Found]:
    """Surfaces of which no picture says where they are cannot be told from the only one that is there."""
    needed = {name for surface in surfaces for name in patterns.series(surface)}
    if len(surfaces) == 1:
        needed.discard(f"surface/{surfaces[0].name}")
    if missing := sorted(needed - files.keys()):
        raise CalibrationError(
            f"view {view}: {len(missing)} of {len(needed)} pictures of the Gray code are missing: {', '.join(missing[:6])}"
            f"{', …' if len(missing) > 6 else ''}"
        )
    if len(surfaces) == 1:
        return [gray_code.found(read, surfaces[0])]
    black, white = read("black"), read("white")
    half = LIT_BY_ONE * np.maximum(white - black, gray_code.CONTRAST_FLOOR)
    return [gray_code.found(read, s, read(f"surface/{s.name}") - black > half) for s in surfaces]


def _joined(found: Sequence[Found]) -> Found:
    """Of several pictures of one surface."""
    arrays = (np.concatenate([getattr(f, name) for f in found]) for name in ("led_px", "picture_px", "sigma_px"))
    return Found(*arrays, sum((f.thrown_away for f in found), Counter()))


def _believed(found: Found, thrown: Counter) -> Found:
    """Those that agree with their neighbours, evenly spread. What is left out for disbelief is counted."""
    judged = neighbours.judged(found.led_px, found.picture_px, found.sigma_px)
    thrown.update(found.thrown_away)
    thrown["lonely"] += int(np.count_nonzero(judged.is_lonely))
    thrown["off the neighbours' fit"] += int(np.count_nonzero(judged.is_off & ~judged.is_lonely))
    good = np.flatnonzero(~judged.is_lonely & ~judged.is_off)
    kept = good[_spread(found.picture_px[good], judged.sigma_px[good])]
    return Found(found.led_px[kept], found.picture_px[kept], judged.sigma_px[kept], Counter())


def _spread(picture_px: np.ndarray, sigma_px: np.ndarray) -> np.ndarray:
    """Indices of at most MOST_MATCHES matches: the surest of every square of the picture, squares as large as need be."""
    side_px = 1.0
    while True:
        square = np.floor(picture_px / side_px).astype(np.int64) @ np.array([1, 1 << 32])
        if len(np.unique(square)) <= MOST_MATCHES:
            order = np.lexsort((sigma_px, square))
            _, first = np.unique(square[order], return_index=True)
            return np.sort(order[first])
        side_px *= 1.25


def _where(shots: Sequence[Shot]) -> Pose | None:
    """The mean of the tracker's samples. Raises CalibrationError if the camera moved while its pictures were taken."""
    poses = [shot.world_from_tracker for shot in shots if shot.world_from_tracker is not None]
    if not poses:
        return None
    positions_m, turns = np.array([p.position_m for p in poses]), np.array([p.wxyz for p in poses])
    turns *= np.where(turns @ turns[0] < 0, -1, 1)[:, None]
    middle_m, turn = positions_m.mean(0), turns.mean(0) / np.linalg.norm(turns.mean(0))
    off_mm = 1000 * float(np.linalg.norm(positions_m - middle_m, axis=1).max())
    off_deg = float(np.degrees(2 * np.arccos(np.clip(turns @ turn, -1, 1))).max())
    if off_mm > STAYED_MM or off_deg > STAYED_DEG:
        raise CalibrationError(
            f"view {shots[0].view}: the camera moved while its pictures were taken, {off_mm:.0f} mm and {off_deg:.1f}° by the tracker; "
            f"expected it to stand still, within {STAYED_MM:g} mm and {STAYED_DEG:g}°"
        )
    return Pose(canonical(tuple(turn.tolist())), tuple(middle_m.tolist()))
