"""From where, and at what, a baked place will be looked at: what the bake is made for and verified on.

A view hands out rays of the field: eyes in the zone, directions through what is to be lit, and the radius of a pixel's
footprint per unit of distance. Random rays make the bake; a held-out eye with neighbouring sub-pixel rays judges it.
"""

from typing import Protocol

import numpy as np

from ledvolume.pose import Similarity
from ledvolume.stage import Box, Stage, surface_points

Rays = tuple[np.ndarray, np.ndarray, np.ndarray]


class View(Protocol):
    """zone_min, zone_max (3,) in field units; `rays`: origins (n, 3), unit directions (n, 3), spreads (n,)."""

    zone_min: np.ndarray
    zone_max: np.ndarray

    def rays(self, count: int, rng: np.random.Generator) -> Rays:
        """From random eyes of the zone through random pixels."""
        ...

    def pixel_rays(self, eye: np.ndarray, count: int, across: int, rng: np.random.Generator) -> Rays:
        """Through across² points of each of `count` random pixels, pixel by pixel: (count · across², …)."""
        ...

    def eyes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Random eyes of the zone (n, 3)."""
        ...


def sub_pixels(across: int) -> np.ndarray:
    """Offsets (across², 2) from a pixel's centre, in pixels."""
    steps = (np.arange(across) + 0.5) / across - 0.5
    return np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)


class WallView:
    """The LED pixels of a stage, seen from its zone: the view a show's place is baked for."""

    def __init__(self, stage: Stage, field_from_stage: Similarity):
        self.stage, self.field_from_stage, self.matrix = stage, field_from_stage, field_from_stage.matrix()
        corners = self._field(np.array(list(np.ndindex(2, 2, 2))) * _size(stage.zone) + stage.zone.min_m)
        self.zone_min, self.zone_max = corners.min(0), corners.max(0)
        self._weights = np.array([float(np.prod(tile.resolution_px)) for tile in stage.tiles])

    def _field(self, points_m: np.ndarray) -> np.ndarray:
        return points_m @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def _leds(self, count: int, offsets: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Field points (count, k, 3) of offsets (1 or count, k, 2) in random LED pixels; half their pitch there (count, 1)."""
        offsets = np.broadcast_to(offsets, (count, *offsets.shape[-2:]))
        points, radii = np.empty((count, offsets.shape[1], 3)), np.empty((count, 1))
        chosen = rng.choice(len(self._weights), count, p=self._weights / self._weights.sum())
        for number in np.unique(chosen):
            tile = self.stage.tiles[number]
            here = np.flatnonzero(chosen == number)
            led = rng.integers(0, tile.resolution_px, (len(here), 2)) + 0.5 + np.array(tile.offset_px)
            led = led[:, None] + offsets[here]
            points[here] = self._field(surface_points(tile.surface, led[..., 0], led[..., 1]))
            radii[here] = 0.5 * tile.surface.pitch_m * np.linalg.norm(self.matrix[:3, 0])
        return points, radii

    def rays(self, count: int, rng: np.random.Generator) -> Rays:
        points, radii = self._leds(count, rng.uniform(-0.5, 0.5, (count, 1, 2)), rng)
        return _aimed(self.eyes(count, rng)[:, None], points, radii)

    def pixel_rays(self, eye: np.ndarray, count: int, across: int, rng: np.random.Generator) -> Rays:
        return _aimed(eye, *self._leds(count, sub_pixels(across), rng))

    def eyes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        zone = self.stage.zone
        return self._field(rng.uniform(zone.min_m, zone.max_m, (count, 3)))


class SphereView:
    """All directions from a box of the field, pixel_rad apart: for a place whose stage is not known yet."""

    def __init__(self, zone_min: np.ndarray, zone_max: np.ndarray, pixel_rad: float):
        self.zone_min, self.zone_max, self.pixel_rad = np.asarray(zone_min, float), np.asarray(zone_max, float), pixel_rad

    def rays(self, count: int, rng: np.random.Generator) -> Rays:
        eyes = self.eyes(count, rng)
        return eyes, unit(rng.normal(size=(count, 3))), np.full(count, self.pixel_rad / 2)

    def pixel_rays(self, eye: np.ndarray, count: int, across: int, rng: np.random.Generator) -> Rays:
        return _fanned(eye, unit(rng.normal(size=(count, 3))), across, self.pixel_rad)

    def eyes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.zone_min, self.zone_max, (count, 3))


class PhotographView:
    """Around a photograph's own camera, through its pixels: for comparing a bake with the photograph.

    rotation (3, 3): columns are the camera's right, up and back axes in the field (OpenGL); tangents of half the picture.
    """

    def __init__(self, centre: np.ndarray, half: float, rotation: np.ndarray, tangents: tuple[float, float], pixel_rad: float):
        self.centre, self.rotation, self.tangents, self.pixel_rad = np.asarray(centre, float), rotation, tangents, pixel_rad
        self.zone_min, self.zone_max = self.centre - half, self.centre + half

    def _directions(self, count: int, rng: np.random.Generator) -> np.ndarray:
        x, y = (rng.uniform(-t, t, count) for t in self.tangents)
        return unit(np.stack([x, y, np.full(count, -1.0)], -1) @ self.rotation.T)

    def rays(self, count: int, rng: np.random.Generator) -> Rays:
        return self.eyes(count, rng), self._directions(count, rng), np.full(count, self.pixel_rad / 2)

    def pixel_rays(self, eye: np.ndarray, count: int, across: int, rng: np.random.Generator) -> Rays:
        return _fanned(eye, self._directions(count, rng), across, self.pixel_rad)

    def eyes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.zone_min, self.zone_max, (count, 3))


def _aimed(eyes: np.ndarray, points: np.ndarray, radii: np.ndarray) -> Rays:
    toward = points - eyes
    distance = np.linalg.norm(toward, axis=-1)
    origins = np.broadcast_to(eyes, points.shape)
    return origins.reshape(-1, 3), (toward / distance[..., None]).reshape(-1, 3), (radii / distance).reshape(-1)


def _fanned(eye: np.ndarray, directions: np.ndarray, across: int, pixel_rad: float) -> Rays:
    """across² rays around each direction, in a square of one pixel."""
    helper = np.where(np.abs(directions[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    right = unit(np.cross(directions, helper))
    up = np.cross(right, directions)
    offsets = sub_pixels(across) * pixel_rad
    fan = directions[:, None] + offsets[:, :1] * right[:, None] + offsets[:, 1:] * up[:, None]
    origins = np.broadcast_to(eye, fan.shape).reshape(-1, 3)
    return origins, unit(fan).reshape(-1, 3), np.full(len(origins), pixel_rad / 2)


def unit(v: np.ndarray) -> np.ndarray:
    """v (…, 3) at length 1."""
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _size(box: Box) -> np.ndarray:
    return np.asarray(box.max_m) - np.asarray(box.min_m)
