"""How late the wall is, from H.264 of flashes whose delays are known; and the tracker's offset, from H.264 of a moving camera.

Every run is another camera (24 to 60 frames a second, 1/48 to 1/200 s, 0 to 20 ms of rolling shutter), another wall (24 to 60 Hz),
delay (20 to 300 ms), brightness, noise, curve and quality of the encoder.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from calibration.flash_search import walls_in
from calibration.flash_video import brightness_of, grey_frames
from calibration.image_motion import MotionReader
from calibration.latency import WallDelay, latency_of
from calibration.tracker_offset import tracker_offset
from measure import ROOT, Row

sys.path.append(str(ROOT / "tests"))
from flash_videos import flash_pictures, flashes_at, write_video
from moving_videos import HandHeld, moving_pictures, track_of

CAMERAS = [Fraction(24), Fraction(25), Fraction(30), Fraction(60), Fraction(24000, 1001), Fraction(60000, 1001)]
WALLS, SHUTTERS = (24, 25, 30, 50, 60), (48, 50, 60, 100, 200)
FREE, IN_STEP, MOVING, FLASH_S = 50, 10, 12, 7  # runs, seconds


def free_running() -> Iterable[Row]:
    """50 videos, camera and wall at rates of their own: how far off the delay is, and how often it lies where it is said to."""
    started, off, sigmas, within = time.monotonic(), [], [], []
    for seed in range(FREE):
        wall, true_ms = _measured(seed, is_in_step=False)
        off.append(wall.delay_ms - true_ms)
        sigmas.append(wall.sigma_ms)
        within.append(wall.low_ms <= true_ms <= wall.high_ms)
    off, sigmas = np.abs(off), np.array(sigmas)
    yield Row("latency off, rms", float(np.sqrt((off**2).mean())), "ms", ("≤", 0.5))
    yield Row("latency off, at most", float(off.max()), "ms", ("≤", 2))
    yield Row("latency σ, median", float(np.median(sigmas)), "ms")
    yield Row("latency within 1 σ", 100 * float((off < sigmas).mean()), "%", ("≥", 60))
    yield Row("latency within 95 %", 100 * float(np.mean(within)), "%", ("≥", 90))
    yield Row("time for a run, with the video", (time.monotonic() - started) / FREE, "s")


def in_step() -> Iterable[Row]:
    """10 videos, camera and wall in step, which tells the delay to a frame only: is that said?"""
    runs = [_measured(1000 + seed, is_in_step=True) for seed in range(IN_STEP)]
    yield Row("in step, off at most", max(abs(wall.delay_ms - true_ms) for wall, true_ms in runs), "ms")
    yield Row("in step, σ at least", min(wall.sigma_ms for wall, _ in runs), "ms")
    yield Row(
        "in step, within 95 %", 100 * float(np.mean([wall.low_ms <= t <= wall.high_ms for wall, t in runs])), "%", ("≥", 90)
    )


def trackers_offset() -> Iterable[Row]:
    """12 videos of a wall from a panned camera with its tracker's track: how far off the offset is, and what is said of it."""
    off, sigmas = [], []
    for seed in range(MOVING):
        random, rate = np.random.default_rng(seed), CAMERAS[seed % 4]
        latency_s, begins_s, readout_s = random.uniform(0, 0.15), random.uniform(1, 2), random.uniform(0, 0.015)
        move, hertz = HandHeld(seed), random.choice([60, 100, 120, 240])
        reader = MotionReader()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pan.mp4"
            write_video(file, moving_pictures(move, rate, 8, begins_s, readout_s, seed), rate, 23)
            for at_s, _, grey in grey_frames(str(file)):
                reader.add(at_s, grey)
        found = tracker_offset(reader.motion, track_of(move, 12, hertz, latency_s, 10**18, seed), 10**18, None, readout_s)
        off.append(abs(found.offset_ms + 1000 * (begins_s + latency_s)))
        sigmas.append(found.sigma_ms)
    off, sigmas = np.array(off), np.array(sigmas)
    yield Row("tracker's offset off, rms", float(np.sqrt((off**2).mean())), "ms")
    yield Row("tracker's offset off, at most", float(off.max()), "ms", ("≤", 2))
    yield Row("tracker's offset within 1.96 σ", 100 * float((off < 1.96 * sigmas).mean()), "%", ("≥", 90))


def _measured(seed: int, is_in_step: bool) -> tuple[WallDelay, float]:
    random = np.random.default_rng(seed)
    rate = CAMERAS[seed % 4] if is_in_step else CAMERAS[random.integers(len(CAMERAS))]
    others = [hertz for hertz in WALLS if not _are_in_step(float(rate), hertz)]
    wall_hz = float(rate) if is_in_step else random.choice(others)
    exposure_s, readout_s = min(1 / random.choice(SHUTTERS), 1 / float(rate)), min(random.uniform(0, 0.02), 0.9 / float(rate))
    delay_s, begins_s = random.uniform(0.02, 0.3), -0.7 + random.uniform(0, 0.2)
    sensor = dict(noise=10 ** random.uniform(-2, -1), gain=random.uniform(0.15, 0.9), gamma=random.uniform(0.4, 1.0), seed=seed)
    flashes = flashes_at(wall_hz, FLASH_S, int(random.integers(3000)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flashes.mp4"
        walls = {"main": (delay_s, (0.1, 0.1, 0.7, 0.9))}
        pictures = flash_pictures(flashes, walls, rate, exposure_s, readout_s, begins_s, **sensor)
        write_video(file, pictures, rate, int(random.integers(18, 36)))
        video = brightness_of(str(file))
    found, _ = walls_in(video, flashes, ["main"])
    return latency_of(video, flashes, found).walls[0], 1000 * (delay_s - begins_s)


def _are_in_step(camera_hz: float, wall_hz: float) -> bool:
    ratio = max(camera_hz / wall_hz, wall_hz / camera_hz)
    return abs(ratio - round(ratio)) < 0.02


MEASUREMENTS = (free_running, in_step, trackers_offset)
