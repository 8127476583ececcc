"""Light fixtures: lamps on DMX that give the stage the light which comes from where they hang. Pure.

A fixture is a very coarse wall: a flat surface of one pixel, or of a panel's columns × rows, around its position. Each pixel
takes the mean, over the solid angle that it fills as seen from the subject, of the place's light behind it. What it then
sends is a function of that light alone:

    light · gain → red, green, blue, and what is made of them (white, dimmer) → each ^ (1 / gamma) → code values → DMX slots

The first slot of a universe is address 1, as on the fixture's display. Pixels follow each other as one reads them, seen from
the subject; one that would not fit into a universe whole is the first of the next.
"""

import msgspec
import numpy as np

from ledvolume.pose import Vec3
from ledvolume.stage import Surface, rays_through

SLOTS = 512
ACROSS = 8  # rays per pixel and axis
UNIVERSES = (0, 63999)  # sACN has 1 to 63999, Art-Net 0 to 32767: the output refuses what it cannot send to
CHANNELS = "rgbwd"
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of Rec. 709


class Fixture(msgspec.Struct, frozen=True):
    """channels: letters in the order of the slots: r, g, b, w (what red, green and blue have in common is given to white), d
    (dimmer: alone the luminance, with colours the brightest of them, which then are shares of it). bits: 8, or 16: coarse and
    fine. gain: factor on light; 1 at the fixture is full. gamma: of the dimming curve that is set on it, 1 is linear, 2
    square law."""

    surface: Surface
    subject_m: Vec3
    universe: int
    address: int
    channels: str = "rgb"
    bits: int = 8
    gain: float = 1.0
    gamma: float = 1.0

    @property
    def name(self) -> str:
        return self.surface.name

    @property
    def pixels(self) -> int:
        return self.surface.resolution_px[0] * self.surface.resolution_px[1]

    @property
    def slots_per_pixel(self) -> int:
        return len(self.channels) * self.bits // 8


def rays(fixture: Fixture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the subject, ACROSS² for each pixel: unit directions (pixels, ACROSS², 3), spreads and weights (pixels, ACROSS²).

    Weights are shares of the pixel's solid angle, cos / distance², and sum up to 1.
    """
    (columns, rows), surface = fixture.surface.resolution_px, fixture.surface
    at = (np.arange(ACROSS) + 0.5) / ACROSS
    row, column, down, across = np.meshgrid(np.arange(rows), np.arange(columns), at, at, indexing="ij")
    directions, spreads = rays_through(surface, column + across, row + down, np.asarray(fixture.subject_m, float))
    normal = surface.stage_from_surface.matrix()[:3, 2]
    weights = np.abs(directions @ normal) * spreads**2  # spreads go with 1 / distance
    weights = weights.reshape(fixture.pixels, -1)
    weights /= weights.sum(1, keepdims=True)
    return directions.reshape(fixture.pixels, -1, 3), spreads.reshape(fixture.pixels, -1) / ACROSS, weights


def levels(fixture: Fixture, light: np.ndarray) -> np.ndarray:
    """light (pixels, 3), scene-linear, exposure applied: levels (pixels, channels) from 0 to 1, as the fixture is told them.
    What is brighter than it can be is cut off."""
    rgb = np.asarray(light, float) * fixture.gain
    dimmer = np.minimum(rgb @ LUMINANCE, 1)
    if "d" in fixture.channels and len(fixture.channels) > 1:
        peak = rgb.max(-1)
        rgb = rgb / np.where(peak > 0, peak, 1)[:, None]
        dimmer = np.minimum(peak, 1)
    white = np.minimum(rgb.min(-1), 1)
    if "w" in fixture.channels:
        rgb = rgb - white[:, None]
    found = dict(zip("rgbwd", (*rgb.T, white, dimmer)))
    return np.stack([found[letter] for letter in fixture.channels], -1).clip(0, 1) ** (1 / fixture.gamma)


def slots(fixture: Fixture, light: np.ndarray) -> np.ndarray:
    """(pixels, slots_per_pixel) uint8: the nearest code values of its levels; of 16 bits the upper byte first."""
    codes = np.floor(levels(fixture, light) * (2**fixture.bits - 1) + 0.5)
    return codes.astype(">u2" if fixture.bits == 16 else "u1").view("u1").reshape(fixture.pixels, -1)


def patch(fixture: Fixture) -> list[tuple[int, int]]:
    """(universe, slot from 0 on) of each pixel's first slot."""
    places, universe, first = [], fixture.universe, fixture.address - 1
    for _ in range(fixture.pixels):
        if first + fixture.slots_per_pixel > SLOTS:
            universe, first = universe + 1, 0
        places.append((universe, first))
        first += fixture.slots_per_pixel
    return places


def universes(fixtures: tuple[Fixture, ...], light: dict[str, np.ndarray]) -> dict[int, bytes]:
    """All 512 slots of every universe that a fixture has a slot of; those of no fixture are 0. light: (pixels, 3) by name; a
    fixture that is not in it is dark."""
    found: dict[int, bytearray] = {}
    for fixture in fixtures:
        values = slots(fixture, light.get(fixture.name, np.zeros((fixture.pixels, 3))))
        for (universe, first), pixel in zip(patch(fixture), values):
            found.setdefault(universe, bytearray(SLOTS))[first : first + len(pixel)] = pixel.tobytes()
    return {universe: bytes(found[universe]) for universe in sorted(found)}


def overlap(fixtures: tuple[Fixture, ...]) -> str:
    """The first slot that two fixtures have, in words; "" if none has one."""
    owners: dict[tuple[int, int], str] = {}
    for fixture in fixtures:
        for universe, first in patch(fixture):
            for slot in range(first, first + fixture.slots_per_pixel):
                if (owner := owners.setdefault((universe, slot), fixture.name)) != fixture.name:
                    return f"{owner} and {fixture.name} both at universe {universe}, address {slot + 1}"
    return ""
