"""Checkpoints of tiny-cuda-nn and of instant-ngp, read without either: how far the field is from what the layouts mean."""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.nerfstudio import NerfactoField
from ledvolume.scenes.nerfstudio_rays import converged_render
from measure import ROOT, Row

sys.path.insert(0, str(ROOT / "tests"))

from nerf_runs import field_values, random_tcnn, write_run
from twin_fields import write_twins

SETTINGS = {"num_proposal_iterations": 0, "average_init_density": 0.01}
SHAPE = {"levels": 16, "finest": 2048, "log2_size": 14, "appearance": 32}


def layouts_agree() -> Iterable[Row]:
    """one field written in both of nerfstudio's layouts, and read back from both; random weights against a second evaluator"""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = (NerfactoField(read_run(run)) for run in write_twins(Path(folder)))
        x, d = _points(20_000, 1.3)
        worst = [float((a - b).abs().max()) for a, b in zip(plain.query(x, d), packed.query(x, d))]
        yield Row("torch and tiny-cuda-nn layout of one field: log density, worst of 20,000 points", worst[0], "", ("≤", 1e-3))
        yield Row("torch and tiny-cuda-nn layout of one field: colour, worst", worst[1], "", ("≤", 1e-3))
        rays = x[:500] / 3, -d[:500].abs()
        rgb = [converged_render(field, *rays)["rgb"] for field in (plain, packed)]
        yield Row("the same, rendered along 500 rays, worst", float((rgb[0] - rgb[1]).abs().max()), "", ("≤", 1e-3))
        tensors = random_tcnn(SETTINGS, SHAPE)
        field = NerfactoField(read_run(write_run(Path(folder) / "random", tensors, SETTINGS)))
        x, d = _points(300, 2.5)
        density, colour = field.query(x, d)
        said = [field_values(tensors, SETTINGS, SHAPE, *(v.double().numpy() for v in pair)) for pair in zip(x, d)]
        apart = float(np.abs(density.numpy() - np.array([s[0] for s in said])).max())
        yield Row("tiny-cuda-nn layout, 16 levels: log density against float64 from the layout's rules", apart, "", ("≤", 1e-3))
        apart = float(np.abs(colour.numpy() - np.array([s[1] for s in said])).max())
        yield Row("tiny-cuda-nn layout, 16 levels: colour against the same", apart, "", ("≤", 1e-3))


def _points(count: int, reach: float) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(8)
    d = torch.randn(count, 3, generator=g)
    return (torch.rand(count, 3, generator=g) * 2 - 1) * reach, d / d.norm(dim=1, keepdim=True)


MEASUREMENTS = [layouts_agree]
