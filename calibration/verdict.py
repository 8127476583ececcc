"""Is a calibration good enough, how good, and what would make it better: in words. Pure.

good to      95 % of the LEDs of every surface are nearer than this to where they are said to be: 1.61 of the RMS sigma
             (the root of chi² with three degrees of freedom, 7.815, over 3)
held out     views that had no say fit as well as those that had, or the model is wrong in a way that no sigma knows
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from calibration.guide import PARALLAX_DEG, TIMES_SEEN
from calibration.solved import Solved, SolvedSurface

WITHIN_95 = 1.614
GOOD_MM, USABLE_MM = 2.0, 10.0
WORST_OVER_MEDIAN = 4.0
HELD_OUT_OVER = 1.5  # times the RMS of the views that were solved
HELD_OUT_PX = 0.1  # and by so much more than it
SCALE = 3.0
REJECTED = 0.1
TRACKER_MM, TRACKER_DEG = 2.0, 0.1
FEW_VIEWS = 6
MOVED_MM = 500.0  # farther from the drawing than a wall is ever built
WEAK = 0.15  # of a surface
MOST_UNSEEN = 0.4


class Verdict(msgspec.Struct, frozen=True):
    """good_to_mm: of the worst surface. is_good: may be used as it is. words: the sentence for the top; more: one finding each,
    the gravest first."""

    good_to_mm: float
    is_good: bool
    words: str
    more: tuple[str, ...]


class Coverage(msgspec.Struct, frozen=True):
    """Of the patches of a surface: from how many places each was seen, the widest angle between two of them, degrees, and the
    stage points of their middles (rows, columns, 3)."""

    times: np.ndarray
    parallax_deg: np.ndarray
    middles_m: np.ndarray


def verdict_of(solved: Solved, coverage: Mapping[str, Coverage], eyes_m: Sequence | None = None) -> Verdict:
    """coverage: by surface. eyes_m: where views were taken from; default: the solved ones'."""
    eyes = np.array([v.stage_from_camera.position_m for v in solved.views] if eyes_m is None else eyes_m).reshape(-1, 3)
    good_to_mm = max((WITHIN_95 * surface.sigma_median_mm for surface in solved.surfaces), default=np.inf)
    grave, light = _of_fit(solved), []
    unseen = [name for name, seen in coverage.items() if (seen.times == 0).mean() > MOST_UNSEEN]
    for surface in sorted(solved.surfaces, key=lambda surface: surface.surface.name not in unseen):
        if words := _of_surface(surface, coverage.get(surface.surface.name), eyes):
            light.append(words)
    light += _of_tracker(solved)
    light += solved.warnings
    advice = f"; {light[0]}" if light else ""
    if grave:
        return Verdict(good_to_mm, False, f"not to be trusted: {grave[0]}", (*grave[1:], *light))
    if unseen:
        return Verdict(good_to_mm, False, f"not complete: {light[0]}", tuple(light[1:]))
    if good_to_mm > USABLE_MM:
        return Verdict(good_to_mm, False, f"known to {_mm(good_to_mm)} only{advice}", tuple(light[1:]))
    how = "good" if good_to_mm <= GOOD_MM else "usable, good"
    return Verdict(good_to_mm, True, f"{how} to {_mm(good_to_mm)}{advice}", tuple(light[1:]))


def weak_words(name: str, coverage: Coverage, eyes_m: np.ndarray) -> str:
    """Whether a surface was seen too little, and from where views should be added; "" if not."""
    unseen, few = (coverage.times == 0).mean(), (coverage.times < TIMES_SEEN).mean()
    narrow = (coverage.parallax_deg < PARALLAX_DEG).mean()
    if max(unseen, few, narrow) <= WEAK:
        return ""
    if unseen == 1:
        return f"{name} was not seen: take views of it"
    where = side_to_add(coverage, eyes_m)
    if unseen > WEAK:
        return f"{unseen:.0%} of {name} was not seen: take views of it {where}"
    if few > WEAK:
        lacking = int(np.ceil(np.median((TIMES_SEEN - coverage.times)[coverage.times < TIMES_SEEN])))
        return f"{name} is seen from too few places: add {_number(lacking)} view{'s' * (lacking > 1)} {where}"
    return f"{name} is seen under {np.median(coverage.parallax_deg):.0f}° only: add two views {where}"


def side_to_add(coverage: Coverage, eyes_m: np.ndarray) -> str:
    """The side from which the patches that were seen too little have been looked at least."""
    weak = (coverage.times < TIMES_SEEN) | (coverage.parallax_deg < PARALLAX_DEG)
    middle = coverage.middles_m[weak].mean(0) if weak.any() else coverage.middles_m.reshape(-1, 3).mean(0)
    left, right = (eyes_m[:, 0] < middle[0]).sum(), (eyes_m[:, 0] >= middle[0]).sum()
    return "from camera left" if left < right else "from camera right" if right < left else "from both sides"


def _of_fit(solved: Solved) -> list[str]:
    """What makes all of it doubtful."""
    found = []
    fitted, held = [v for v in solved.views if not v.is_held_out], [v for v in solved.views if v.is_held_out]
    if held:
        rms_px = float(np.sqrt(np.mean([v.rms_px**2 for v in held])))
        own_px = float(np.sqrt(np.mean([v.rms_px**2 for v in fitted]))) if fitted else solved.rms_px
        if rms_px > HELD_OUT_OVER * own_px and rms_px > own_px + HELD_OUT_PX:
            found.append(
                f"views that were held out are off by {rms_px:.2f} px, those that were solved by {own_px:.2f} px: the wall or "
                "the lens is not of the shape that was asked for, or a view was mixed up"
            )
    if solved.sigma_scale > SCALE:
        found.append(
            f"the pictures fit {solved.sigma_scale:.1f} times worse than they were measured: the wall's shape or the lens' model "
            "is too simple, or something moved while pictures were taken"
        )
    if solved.matches and solved.rejected / (solved.matches + solved.rejected) > REJECTED:
        share = solved.rejected / (solved.matches + solved.rejected)
        worst = max(solved.views, key=lambda v: v.rejected / max(v.matches + v.rejected, 1))
        found.append(
            f"{share:.0%} of what was found in the pictures does not fit, most of it in {worst.name}: look at it, or leave it out"
        )
    return found


def _of_surface(surface: SolvedSurface, coverage: Coverage | None, eyes_m: np.ndarray) -> str:
    name = surface.surface.name
    if coverage is not None and (words := weak_words(name, coverage, eyes_m)):
        return words
    if unseen := [tile.name for tile in surface.tiles if not tile.matches]:
        return f"tile {', '.join(unseen[:4])}{' and more' * (len(unseen) > 4)} of {name} was not seen: take views of it"
    if surface.sigma_median_mm and surface.sigma_worst_mm > WORST_OVER_MEDIAN * surface.sigma_median_mm:
        return f"the worst part of {name} is known to {_mm(WITHIN_95 * surface.sigma_worst_mm)} only: add views of its borders"
    if surface.moved_mm[1] > MOVED_MM:
        return f"{name} is up to {surface.moved_mm[1]:.0f} mm from where the show has it: is the drawing right?"
    return ""


def _of_tracker(solved: Solved) -> list[str]:
    found = []
    for rig in solved.rigs:
        if rig.tracker_rms_mm is not None and (rig.tracker_rms_mm > TRACKER_MM or (rig.tracker_rms_deg or 0) > TRACKER_DEG):
            found.append(
                f"the tracker of {rig.camera_id} is off by {_mm(rig.tracker_rms_mm)} and {rig.tracker_rms_deg or 0:.2f}° against "
                "the pictures: was it in step, did it slip, does it see its markers?"
            )
    fitted = [v for v in solved.views if not v.is_held_out]
    if len(fitted) < FEW_VIEWS:
        found.append(f"{len(fitted)} views were solved: with {FEW_VIEWS} or more each can be judged by the others")
    if not any(v.is_held_out for v in solved.views):
        found.append("no view was held out: nothing but the solve itself says that it is right")
    return found


def _mm(mm: float) -> str:
    return f"{mm:.1f} mm" if mm < 10 else f"{mm:.0f} mm"


def _number(n: int) -> str:
    return {1: "one", 2: "two", 3: "three"}.get(n, str(n))
