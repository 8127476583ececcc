"""How well a calibration would know the wall, before a picture is taken: LEDs projected into planned views, and solved for.

What the pictures would say is what the projection says, with a detector's noise; nothing hides anything. So the answer is the
geometry's: too few places, too little parallax, a tracker that is too noisy. Takes seconds.
"""

import math

import numpy as np

from calibration.photograph import picture_points
from calibration.session import Matches, View
from calibration.solve import Options, solve
from calibration.solved import Solved
from calibration.truth import Truth, noisy, tracker_pose
from ledvolume.camera import Camera
from ledvolume.config import Show
from ledvolume.stage import Surface, surface_points

ACROSS, DOWN = 24, 16  # LEDs of a surface
SIGMA_PX = 0.3
GRAZING_DEG = 70.0
EDGE_PX = 4.0


def forecast(show: Show, truth: Truth) -> Solved:
    """What the solve would make of the truth's views. Raises CalibrationError as it does, for views that say too little."""
    rng = np.random.default_rng((truth.seed, 2))
    by = truth.deviations
    views = []
    for name, pose in truth.cameras.items():
        camera = Camera(pose, truth.rig.lens, "measured", 0)
        sample = noisy(tracker_pose(truth.rig, pose), by.tracker_mm, by.tracker_deg, rng)
        found = (_seen(surface, camera, truth.body.resolution_px, rng) for surface in truth.surfaces)
        matches = tuple(each for each in found if len(each.led_px))
        views.append(View(name, truth.body.resolution_px, matches, truth.rig.camera_id, sample))
    # a tracker without noise is none that can be weighed: a tenth of what is usual stands for it
    options = Options(tracker_sigma_mm=max(by.tracker_mm, 0.03), tracker_sigma_deg=max(by.tracker_deg, 0.002))
    return solve(views, show.stage, options, show.file.name)


def in_words(solved: Solved) -> list[str]:
    """A line for every surface, and one for the tracked point."""
    lines = [
        f"{found.surface.name}: would be known to {found.sigma_median_mm:.2f} mm, {found.sigma_worst_mm:.2f} where it is worst"
        for found in solved.surfaces
    ]
    for rig in solved.rigs:
        if rig.tracker_from_camera_sigma is not None:
            mm, deg = (
                math.hypot(*v) for v in (rig.tracker_from_camera_sigma.position_mm, rig.tracker_from_camera_sigma.rotation_deg)
            )
            lines.append(f"camera {rig.camera_id}: its place on the tracker to {mm:.2f} mm and {deg:.3f}°")
    return lines + [f"but: {warning}" for warning in solved.warnings]


def _seen(surface: Surface, camera: Camera, resolution_px: tuple[int, int], rng: np.random.Generator) -> Matches:
    (width, height), e = surface.resolution_px, 0.25
    u, v = np.meshgrid((np.arange(ACROSS) + 0.5) / ACROSS * width, (np.arange(DOWN) + 0.5) / DOWN * height)
    u, v = u.ravel(), v.ravel()
    points = surface_points(surface, u, v)
    across = surface_points(surface, u + e, v) - surface_points(surface, u - e, v)
    up = surface_points(surface, u, v - e) - surface_points(surface, u, v + e)
    normal, toward = np.cross(across, up), np.asarray(camera.stage_from_camera.position_m) - points
    facing = (normal * toward).sum(-1) / np.linalg.norm(normal, axis=-1) / np.linalg.norm(toward, axis=-1)
    at_px = picture_points(camera, points, resolution_px)
    with np.errstate(invalid="ignore"):
        inside = ((at_px > EDGE_PX) & (at_px < np.subtract(resolution_px, EDGE_PX))).all(-1)
    seen = inside & (facing > math.cos(math.radians(GRAZING_DEG)))
    led_px = np.stack([u, v], -1)[seen]
    return Matches(surface.name, led_px, at_px[seen] + rng.normal(0, SIGMA_PX, led_px.shape), np.full(len(led_px), SIGMA_PX))
