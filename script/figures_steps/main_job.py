"""Figures of step 1, the main job: poses in, a real place rendered for every LED pixel, frames out."""

import math
from collections.abc import Iterable

import numpy as np
import torch

from benchmarks import demo, march, nerfstudio_speed, places, truths
from benchmarks.fuzz_protocols import fuzz
from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.nerfstudio import NerfactoField
from ledvolume.scenes.nerfstudio_rays import nerfstudio_render
from measure import ROOT, Row

FIXTURE = ROOT / "tests" / "data" / "nerfacto_good"


def hostile_datagrams() -> Iterable[Row]:
    """10⁵ random and mutated OSC and ZMQ datagrams between the true poses of a still camera"""
    found = fuzz(100_000, seed=1)
    if found["first_exception"]:
        print(f"        first exception: {found['first_exception']}")
    yield Row("hostile datagrams", found["datagrams"], "", ("≥", 100_000))
    yield Row("exceptions that left a decoder", found["exceptions"], "", ("=", 0))
    yield Row("hostile datagrams not counted", found["not_counted"], "", ("=", 0))
    yield Row("times the camera moved on a refused datagram", found["refused_but_moved"], "", ("=", 0))
    # Neither wire has a checksum: a flipped bit can make another valid pose, which moves as a camera may.
    yield Row("times one passed as the camera's own movement", found["moved"])
    yield Row("farthest it then stood from the truth", 1000 * found["farthest_m"], "mm", ("≤", 1000 * found["bound_m"]))


def agreement_with_nerfstudio() -> Iterable[Row]:
    """our exact field, sampled where nerfstudio samples, against nerfstudio's own renders of a real checkpoint"""
    field = NerfactoField(read_run(FIXTURE))
    renders = np.load(FIXTURE / "reference_renders.npz")
    worst = math.inf
    for view in range(sum(name.startswith("rgb_") for name in renders)):
        origins, directions = pinhole_rays(renders[f"c2w_{view}"], *renders[f"K_{view}"])
        ours = nerfstudio_render(field, torch.from_numpy(origins), torch.from_numpy(directions))["rgb"]
        worst = min(worst, psnr_db(ours.numpy(), renders[f"rgb_{view}"].reshape(-1, 3)))
    yield Row("our field against nerfstudio's renders, worst view", worst, "dB", ("≥", 60))


def stock_nerfstudio() -> Iterable[Row]:
    """nerfstudio's own renderer on the shipped place: how fast, and whether our exact field shows the same"""
    origins, directions = nerfstudio_speed.door_rays()
    stock = nerfstudio_speed.stock_render(origins, directions)
    yield from nerfstudio_speed.speed_rows(stock)
    field = NerfactoField(read_run(nerfstudio_speed.DOOR))
    ours = nerfstudio_render(field, torch.from_numpy(origins), torch.from_numpy(directions))["rgb"]
    yield Row("our field against nerfstudio, shipped place", psnr_db(ours.numpy(), stock["rgb"]), "dB", ("≥", 60))


def pinhole_rays(c2w: np.ndarray, fx: float, fy: float, cx: float, cy: float, width: float, height: float):
    """Origins and unit directions (N, 3) float32 through the pixel centres of a camera that looks along its -Z, row by row."""
    u, v = np.meshgrid(np.arange(int(width)) + 0.5, np.arange(int(height)) + 0.5)
    seen = np.stack([(u - cx) / fx, -(v - cy) / fy, -np.ones_like(u)], -1) @ c2w[:, :3].T
    directions = (seen / np.linalg.norm(seen, axis=-1, keepdims=True)).reshape(-1, 3).astype(np.float32)
    return np.broadcast_to(c2w[:, 3], directions.shape).astype(np.float32), directions


def psnr_db(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak 1; infinite where the two are equal."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


MEASUREMENTS = (
    *demo.MEASUREMENTS,
    *truths.MEASUREMENTS,
    *places.MEASUREMENTS,
    agreement_with_nerfstudio,
    stock_nerfstudio,
    *march.MEASUREMENTS,
    hostile_datagrams,
)
