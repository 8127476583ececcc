"""How well the photographs of a field support what is seen of it from an eye: the numbers of a zone map (safe_zone.py).

From an eye, rays go through points of the wall (or all around) to the surfaces of the baked scene. A photograph supports the
point that a ray comes to by

    nearness · sharpness     nearness   1 - angle / 30°, not below 0: between the directions in which eye and photograph see it
                             sharpness  LED pixel's footprint / photograph's pixel there, not above 1

if it lies in the picture and the scene shows nothing before it: the ray from the photograph is stopped no earlier than a tenth
before the point. Two photographs are needed to know how far away a thing is, so a point has the mean of its two best, where
one that lacks counts 0; an eye has the mean of its points. Where nothing stops a ray, the point lies at infinity.

Angle and resolution are the penalties of unstructured lumigraphs (Buehler et al. 2001, §3); 30° and two are ours.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from ledvolume.pose import Similarity
from ledvolume.scenes.bake_view import unit
from ledvolume.scenes.photographs import Photograph, in_picture
from ledvolume.scenes.safe_zone import VERSION, ZoneMap
from ledvolume.stage import Box, Stage, surface_points

WIDEST_RAD = np.radians(30)
STOPPED_BEFORE = 0.1  # share of the distance: surfaces of a field are that soft, and its photographs that far off
POINTS = 256  # of the wall, from each eye
AT_ONCE = 16384  # points: times a thousand photographs this is 64 MB
INFINITY = 1e5  # half-sizes of the scene

Depths = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""origins (n, 3), unit directions (n, 3), spreads (n,) → distances (n,) at which the scene stops them, -1: not at all."""

Aim = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""An eye (3,) of the field → unit directions (n, 3) and spreads (n,) through what is lit."""


class Seen(msgspec.Struct, frozen=True):
    """What eyes see: for each ray its eye (n, 3), direction (n, 3), spread (n,), and distance (n,), -1 where nothing is met."""

    eyes: np.ndarray
    directions: np.ndarray
    spreads: np.ndarray
    distances: np.ndarray


def at_wall(stage: Stage, field_from_stage: Similarity, points: int = POINTS) -> Aim:
    """Through about so many points spread evenly over the wall's LED pixels."""
    matrix = field_from_stage.matrix()
    led_px = sum(width * height for width, height in (tile.resolution_px for tile in stage.tiles))
    places, radii = [], []
    for tile in stage.tiles:
        width, height = tile.resolution_px
        side_px = np.sqrt(led_px / points)
        counts = max(1, round(width / side_px)), max(1, round(height / side_px))
        columns, rows = (
            (np.arange(count) + 0.5) / count * length + first
            for count, length, first in zip(counts, tile.resolution_px, tile.offset_px)
        )
        columns, rows = np.meshgrid(columns, rows)
        places.append(surface_points(tile.surface, columns, rows).reshape(-1, 3))
        radii.append(np.full(len(places[-1]), 0.5 * tile.surface.pitch_m * field_from_stage.scale))
    targets, radius = np.concatenate(places) @ matrix[:3, :3].T + matrix[:3, 3], np.concatenate(radii)

    def aim(eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        toward = targets - eye
        distance = np.linalg.norm(toward, axis=-1)
        return toward / distance[:, None], radius / distance

    return aim


def all_around(pixel_rad: float, points: int = POINTS) -> Aim:
    """In so many directions, evenly over the sphere (Fibonacci's spiral): for a scene whose stage is not known."""
    number = np.arange(points) + 0.5
    z, azimuth = 1 - 2 * number / points, np.pi * (1 + 5**0.5) * number
    across = np.sqrt(1 - z * z)
    directions = np.stack([across * np.cos(azimuth), across * np.sin(azimuth), z], -1)
    return lambda eye: (directions, np.full(points, pixel_rad / 2))


def zone_map(
    box_m: Box,
    nodes: tuple[int, int, int],
    field_from_stage: Similarity,
    aim: Aim,
    photographs: list[Photograph],
    depths: Depths,
    half_size: float,
    safe_from: float,
    source_sha256: str,
    progress: Callable[[float], None] = lambda share: None,
) -> ZoneMap:
    """The map of a box of the stage."""
    matrix = field_from_stage.matrix()
    axes = [np.linspace(*ends) for ends in zip(box_m.min_m, box_m.max_m, nodes)]
    eyes_m = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    eyes = eyes_m @ matrix[:3, :3].T + matrix[:3, 3]
    found, group = [], max(1, AT_ONCE // POINTS)
    for start in range(0, len(eyes), group):
        progress(start / len(eyes))
        found.append(support_of(eyes[start : start + group], aim, photographs, depths, half_size * INFINITY))
    support = np.concatenate(found).round(4).tolist()
    return ZoneMap(
        VERSION, box_m.min_m, box_m.max_m, nodes, field_from_stage, safe_from, len(photographs), source_sha256, support
    )


def support_of(eyes: np.ndarray, aim: Aim, photographs: list[Photograph], depths: Depths, infinity: float) -> np.ndarray:
    """Support of eyes (n, 3): (n,) in 0..1. infinity: how far away a point is put where nothing stops its ray."""
    rays = [aim(eye) for eye in eyes]
    directions, spreads = (np.concatenate(part) for part in zip(*rays))
    origins = np.repeat(eyes, [len(direction) for direction, _ in rays], 0)
    seen = Seen(origins, directions, spreads, depths(origins, directions, spreads))
    owner = np.repeat(np.arange(len(eyes)), [len(direction) for direction, _ in rays])
    points = point_support(seen, photographs, depths, infinity)
    return np.bincount(owner, points, len(eyes)) / np.bincount(owner, minlength=len(eyes))


def point_support(seen: Seen, photographs: list[Photograph], depths: Depths, infinity: float) -> np.ndarray:
    """Support of each point (n,): half the sum of its two best photographs, the best first asked whether it sees the point."""
    is_far = seen.distances < 0
    distances = np.where(is_far, infinity, seen.distances)
    points = seen.eyes + seen.directions * distances[:, None]
    scores = np.stack([_scores(p, points, seen.directions, 2 * seen.spreads * distances) for p in photographs], -1)
    best_first = np.argsort(-scores, -1, kind="stable")
    total, found = np.zeros(len(points)), np.zeros(len(points), int)
    centres = np.array([photograph.centre for photograph in photographs])
    pixel_rad = np.array([photograph.pixel_rad for photograph in photographs])
    for rank in range(len(photographs)):
        chosen = best_first[:, rank]
        asked = np.flatnonzero((found < 2) & (scores[np.arange(len(points)), chosen] > 0))
        if not len(asked):
            break
        by = chosen[asked]
        toward = points[asked] - centres[by]
        away = np.linalg.norm(toward, axis=-1)
        stopped = depths(centres[by], toward / away[:, None], pixel_rad[by] / 2)
        is_open = (stopped < 0) | (~is_far[asked] & (stopped > (1 - STOPPED_BEFORE) * away))
        kept = asked[is_open]
        total[kept] += scores[kept, by[is_open]]
        found[kept] += 1
    return total / 2


def _scores(photograph: Photograph, points: np.ndarray, directions: np.ndarray, footprints: np.ndarray) -> np.ndarray:
    """nearness · sharpness (n,) float32; 0 outside of the picture. footprints: diameters of LED pixels at the points."""
    toward = points - photograph.centre
    away = np.linalg.norm(toward, axis=-1)
    # not acos of the dot product: near 1 it has lost half its digits
    angle = 2 * np.arcsin(np.minimum(np.linalg.norm(unit(toward) - directions, axis=-1) / 2, 1))
    nearness = np.maximum(0, 1 - angle / WIDEST_RAD)
    sharpness = np.minimum(1, footprints / (photograph.pixel_rad * away))
    return np.where(in_picture(photograph, points), nearness * sharpness, 0).astype(np.float32)
