"""A small camera for tests of detection, independent of the renderer: a flat wall of LED pixels through a homography and a
lens that distorts, with gaps between emitters, blur, overexposure, noise, a transfer function and 8 bits."""

from dataclasses import dataclass

import cv2
import numpy as np

from ledvolume.patterns import draw
from ledvolume.stage import Surface, WallTile, facing

SAMPLES = 3  # per pixel and direction


def flat(name: str, resolution_px: tuple[int, int]) -> Surface:
    """A surface of 10 mm LED pixels."""
    return Surface(name, facing(0.0, (0.0, 3.0, 1.0)), (resolution_px[0] / 100, resolution_px[1] / 100), resolution_px)


@dataclass(frozen=True)
class Camera:
    """corners: where the walls' corners (0, 0), (w, 0), (w, h), (0, h) are before the lens, a (4, 2) for every wall. k1: radial distortion
    in half diagonals. emitter: lit part of a LED pixel's side. exposure: of a white emitter, 1 just clips. glow: light
    spread over 15 px. hand: (x, y, radius) px, in front of everything. room: light of the room, on the black wall."""

    walls: dict[Surface, np.ndarray]
    resolution_px: tuple[int, int] = (640, 480)
    k1: float = -0.05
    blur_px: float = 0.6
    emitter: float = 0.6
    exposure: float = 1.6
    glow: float = 0.0
    noise: float = 0.01
    gamma: float = 2.2
    room: float = 0.01
    hand: tuple[float, float, float] | None = None

    def pictured(self, surface: Surface, led_px: np.ndarray) -> np.ndarray:
        """The truth: where LED coordinates (n, 2) are in the picture, (n, 2)."""
        p = cv2.perspectiveTransform(np.float64(led_px)[None], self._homography(surface))[0]
        middle, half = np.array(self.resolution_px) / 2, np.hypot(*self.resolution_px) / 2
        r = (p - middle) / half
        return middle + half * r * (1 + self.k1 * (r**2).sum(1, keepdims=True))

    def photographs(self, names: list[str], seed: int = 1) -> dict[str, np.ndarray]:
        """Pattern name → (H, W) uint8."""
        random, seen = np.random.default_rng(seed), {s: self._seen(s) for s in self.walls}
        return {name: self._exposed(self._light(name, seen), random) for name in names}

    def _homography(self, surface: Surface) -> np.ndarray:
        w, h = surface.resolution_px
        return cv2.getPerspectiveTransform(np.float32([(0, 0), (w, 0), (w, h), (0, h)]), np.float32(self.walls[surface]))

    def _seen(self, surface: Surface) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of the LED pixels that the sub-samples see, and how much of its emitter they see."""
        width, height = self.resolution_px
        x, y = np.meshgrid(*((np.arange(n * SAMPLES) + 0.5) / SAMPLES for n in (width, height)))
        half = np.hypot(width, height) / 2
        d = np.stack([x - width / 2, y - height / 2], -1) / half
        u = d.copy()
        for _ in range(15):
            u = d / (1 + self.k1 * (u**2).sum(-1, keepdims=True))
        u = u * half + np.array([width, height]) / 2
        led = cv2.perspectiveTransform(u.reshape(1, -1, 2), np.linalg.inv(self._homography(surface))).reshape(u.shape)
        w, h = surface.resolution_px
        inside = (led >= 0).all(-1) & (led[..., 0] < w) & (led[..., 1] < h)
        lit = inside * self._share(led[..., 0], 1) * self._share(led[..., 1], 0)
        index = np.where(inside, np.floor(led[..., 1]) * w + np.floor(led[..., 0]), 0).astype(np.int32)
        return index, lit.astype(np.float32)

    def _share(self, led: np.ndarray, axis: int) -> np.ndarray:
        """Of a sub-sample's side, what emitters light."""
        half = np.maximum(np.abs(np.gradient(led, axis=axis)), 1e-3) / 2
        start, end = (
            np.floor(t) * self.emitter + np.clip(t % 1 - (1 - self.emitter) / 2, 0, self.emitter)
            for t in (led - half, led + half)
        )
        return (end - start) / (2 * half)

    def _light(self, name: str, seen: dict) -> np.ndarray:
        """On the sensor, of a pixel, 1 = clips: blurred before it is sampled."""
        width, height = self.resolution_px
        light = np.zeros((height * SAMPLES, width * SAMPLES), np.float32)
        for surface, (index, lit) in seen.items():
            shown = draw(WallTile("all", surface, (0, 0), surface.resolution_px), name)[..., 0].ravel()
            light += shown[index] * lit
        light = cv2.GaussianBlur(light, (0, 0), self.blur_px * SAMPLES)
        light = light.reshape(height, SAMPLES, width, SAMPLES).mean((1, 3)) * self.exposure + self.room
        if self.glow:
            light = (1 - self.glow) * light + self.glow * cv2.GaussianBlur(light, (0, 0), 15)
        if self.hand is not None:
            cx, cy, radius = self.hand
            x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
            light[np.hypot(x - cx, y - cy) < radius] = 0.05
        return light

    def _exposed(self, light: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Shot noise and read noise, transfer function, 8 bits."""
        noisy = light + random.normal(size=light.shape) * self.noise * np.sqrt(np.maximum(light, 0) + 0.05)
        return np.round(np.clip(noisy, 0, 1) ** (1 / self.gamma) * 255).astype(np.uint8)
