"""Videos of a textured wall from a camera that is panned and tilted by hand, with the track of its tracker: the truth is known."""

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from ledvolume.camera import CameraSample
from ledvolume.pose import Pose, pan_tilt_roll, rotation_matrix

WIDTH, HEIGHT, FOCAL_PX, PX_PER_M, BLOCKS = 320, 180, 300.0, 300.0, 15


class HandHeld:
    """A motion without a beat: sums of sines, up to some 8° to the sides, and some centimetres."""

    def __init__(self, seed: int, degrees: float = 8.0):
        random = np.random.default_rng(seed)
        self.hertz = random.uniform(0.15, 1.1, (6, 4))
        self.phase = random.uniform(0, 6.28, (6, 4))
        size = np.array([degrees, degrees * 0.6, degrees * 0.2, 0.04, 0.03, 0.02])[:, None]
        self.size = size * random.uniform(0.3, 1, (6, 4)) / self.hertz**0.5 / 2

    def pose(self, at_s: float) -> Pose:
        """stage from camera, from the middle of it all."""
        pan, tilt, roll, x, y, z = (self.size * np.sin(2 * np.pi * self.hertz * at_s + self.phase)).sum(1)
        return Pose(pan_tilt_roll(*np.radians([pan, tilt, roll])), (float(x), float(y), float(z)))


def track_of(
    move: HandHeld, seconds: float, hertz: float, latency_s: float, origin_ns: int, seed: int
) -> tuple[CameraSample, ...]:
    """What a tracker sends whose stamps are late by latency_s, with noise of 0.2 mm and 0.01°; it sits askew on the camera."""
    random, tracker = np.random.default_rng(seed), Pose(pan_tilt_roll(1.1, -0.4, 0.3), (0.1, -0.05, 0.2))
    samples = []
    for at_s in np.arange(0, seconds, 1 / hertz):
        noise = Pose(pan_tilt_roll(*np.radians(random.normal(0, 0.01, 3))), tuple(random.normal(0, 0.0002, 3).tolist()))
        stamp_ns = origin_ns + round((at_s + latency_s) * 1e9)
        samples.append(CameraSample("A", stamp_ns, stamp_ns, move.pose(at_s) @ tracker @ noise))
    return tuple(samples)


def moving_pictures(
    move: HandHeld, rate: Fraction, seconds: float, begins_s: float, readout_s: float, seed: int, noise: float = 0.01
) -> Iterator[np.ndarray]:
    """(H, W) uint8. begins_s: the instant at which the first frame's middle line is exposed."""
    random = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(random.random((1600, 2400)).astype(np.float32), (0, 0), 4)
    texture = np.clip((texture - texture.mean()) / texture.std() * 0.18 + 0.45, 0, 1)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
    directions = np.stack([x / FOCAL_PX, np.ones_like(x), -y / FOCAL_PX], -1)
    for k in range(int(seconds * rate)):
        points = np.empty((HEIGHT, WIDTH, 2), np.float32)
        for rows in np.array_split(np.arange(HEIGHT), BLOCKS):
            line = (rows.mean() + 0.5) / HEIGHT - 0.5
            pose = move.pose(begins_s + k / float(rate) + line * readout_s)
            rays = directions[rows] @ rotation_matrix(pose.wxyz).T
            far_m = (4.0 - pose.position_m[1]) / rays[..., 1]
            points[rows, :, 0] = 1200 + PX_PER_M * (rays[..., 0] * far_m + pose.position_m[0])
            points[rows, :, 1] = 800 - PX_PER_M * (rays[..., 2] * far_m + pose.position_m[2])
        picture = cv2.remap(texture, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        yield np.rint(np.clip(picture + noise * random.normal(size=picture.shape), 0, 1) * 255).astype(np.uint8)
