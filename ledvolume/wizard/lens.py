"""Zoom and focus: what a number means that changed while the operator zoomed in, or focused near.

A focal length grows on zooming in, a field of view shrinks; encoders run 0 (wide, far) to 1. What two meanings explain is
not guessed: with the focal length from the lens' barrel before zooming in, a vertical field of view is told from a horizontal.
"""

import math
from typing import NamedTuple

from ledvolume.protocols.freed_profile import UNITS_M
from ledvolume.wizard.translation import SURE, unit_of

NEAR_LOG = 0.12  # ln of a reading over what the barrel says: by eye, between marks
NEAR_M = 1.0


class LensField(NamedTuple):
    """argument: as an OSC map has it ("fov_vertical deg"); "skip" where it cannot be told, and words say why."""

    argument: str
    words: str


def zoom_of(before: float, after: float, focal_mm: float | None, sensor_mm: tuple[float, float] | None) -> LensField:
    """The meaning of a number that went from before to after while zooming in. focal_mm: the lens before."""
    if not focal_mm:
        if 0 <= before < after <= 1.0 and after > 0.3:
            return LensField("zoom_encoder", "zoom runs 0 to 1")
        if 4 <= before < after <= 2000:
            return LensField("focal_length mm", "grows on zooming in, as millimetres do")
        text = f"zoom went {before:.4g} to {after:.4g}: say --focal-mm, the focal length before zooming in"
        return LensField("skip", text)
    meanings = {}
    if after > before > 0:
        meanings = {f"focal_length {unit}": before * metres * 1000 for unit, metres in UNITS_M.items()}
    elif 0 < after < before and sensor_mm:
        for unit, rad in (("deg", math.pi / 180), ("rad", 1.0)):
            if 0 < before * rad < math.pi:
                for name, side_mm in (("fov_horizontal", sensor_mm[0]), ("fov_vertical", sensor_mm[1])):
                    meanings[f"{name} {unit}"] = side_mm / 2 / math.tan(before * rad / 2)
    near = sorted((abs(math.log(mm / focal_mm)), name) for name, mm in meanings.items())
    if near and near[0][0] < 2 * NEAR_LOG and (len(near) == 1 or near[1][0] > near[0][0] + NEAR_LOG):
        return LensField(near[0][1], f"{before:.4g} is {focal_mm:g} mm as {near[0][1]}")
    if 0 <= before < after <= 1.0:
        return LensField("zoom_encoder", "zoom runs 0 to 1")
    got = ", ".join(f"{meanings[name]:.3g} mm as {name}" for _, name in near[:2]) or "no meaning that fits"
    return LensField("skip", f"zoom went {before:.4g} to {after:.4g}, the lens says {focal_mm:g} mm: {got}")


def focus_of(before: float, after: float) -> LensField:
    """The meaning of a number that went from before to after while focusing on something about 1 m away."""
    if 0 <= before < after <= 1.0:
        return LensField("focus_encoder", "focus runs 0 (far) to 1 (near)")
    if 0 < after < before:
        guess = unit_of([after], None, NEAR_M)
        if guess.confidence >= SURE:
            return LensField(f"focus_distance {guess.unit}", f"{after:.4g} {guess.unit} is near")
        return LensField("skip", f"focus went {before:.4g} to {after:.4g}: {guess.unit} or {guess.second}, not told apart")
    return LensField("skip", f"focus went {before:.4g} to {after:.4g}, which is neither a distance nor 0 to 1 from far to near")
