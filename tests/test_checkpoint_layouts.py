"""Checkpoints of tiny-cuda-nn and of instant-ngp: read without either, the field is the one their layout rules mean."""

import math

import numpy as np
import pytest
import torch
from nerf_runs import field_values, proposal_value, random_tcnn, write_run
from twin_fields import write_twins

from ledvolume.errors import CheckpointError
from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.nerfstudio import NOTHING, NerfactoField
from ledvolume.scenes.nerfstudio_layout import TINY_CUDA_NN, TORCH, packed_lengths, tcnn_levels
from ledvolume.scenes.nerfstudio_rays import converged_render, nerfstudio_render

ROUNDING = 1e-3  # asked for; single precision against double differs by 1e-5, of the finest level's slope

PROPOSALS = {
    "proposal_net_args_list": [{"hidden_dim": 16, "use_linear": False}, {"hidden_dim": 32, "use_linear": True}],
    "num_proposal_samples_per_ray": [32, 16],
}
SHAPES = [{"levels": 5, "finest": 128, "log2_size": 12}, {"levels": 3, "finest": 50, "log2_size": 11}]
CASES = {
    # name: method, settings, shape. Levels of 16³ = 4096 points are dense in a table of 2^12, 2^15; the others hashed.
    "as nerfacto": ("nerfacto", PROPOSALS, {"levels": 8, "finest": 512, "log2_size": 15, "appearance": 32, "proposals": SHAPES}),
    "one level, no appearance": (
        "depth-nerfacto",
        {"hidden_dim": 16, "hidden_dim_color": 128, "base_res": 7, "num_proposal_iterations": 0, "average_init_density": 0.01},
        {"levels": 1, "finest": 64, "log2_size": 9},
    ),
    "box, four features, an odd width": (
        "nerfacto",
        {"features_per_level": 4, "hidden_dim": 48, "disable_scene_contraction": True, "base_res": 5}
        | {"num_proposal_iterations": 0, "use_average_appearance_embedding": False},
        {"levels": 3, "finest": 40, "log2_size": 10, "appearance": 7},
    ),
    "instant-ngp": (
        "instant-ngp",
        {"use_appearance_embedding": False},
        {"levels": 16, "finest": 2048, "log2_size": 12, "appearance": 32},
    ),
}


def points(count: int, reach: float = 2.5) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(4)
    d = torch.randn(count, 3, generator=g)
    return (torch.rand(count, 3, generator=g) * 2 - 1) * reach, d / d.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("native", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize(("method", "settings", "shape"), CASES.values(), ids=CASES)
def test_a_field_of_tiny_cuda_nn_is_what_its_layout_rules_say(tmp_path, method, settings, shape, native):
    tensors = random_tcnn(settings, shape, method)
    run = read_run(write_run(tmp_path / "run", tensors, settings, method))
    field = NerfactoField(run, native=native)
    x, d = points(150)
    log_density, rgb = field.query(x, d)
    expected = [field_values(tensors, settings, shape, *(v.double().numpy() for v in pair)) for pair in zip(x, d)]
    held = field.occupancy.holds(x) if field.occupancy else torch.ones(len(x), dtype=torch.bool)
    assert run.layout is TINY_CUDA_NN and held.sum() > 20
    assert (log_density[~held] == NOTHING).all()
    expected_density = torch.tensor([e[0] for e in expected]).float()
    torch.testing.assert_close(log_density[held], expected_density[held], atol=ROUNDING, rtol=0)
    is_inside = expected_density > NOTHING
    expected_rgb = torch.from_numpy(np.array([e[1] for e in expected])).float()
    torch.testing.assert_close(rgb[is_inside], expected_rgb[is_inside], atol=ROUNDING, rtol=0)
    assert rgb.std() > 0.05 and log_density[held & is_inside].std() > 0.05  # something was compared
    for i in range(len(shape.get("proposals", ()))):
        said = [proposal_value(tensors, settings, shape, i, v.double().numpy()) for v in x]
        torch.testing.assert_close(field.proposal_density(i, x), torch.tensor(said).float(), rtol=ROUNDING, atol=ROUNDING)


def test_the_same_field_through_both_layouts_is_the_same(tmp_path):
    """Points, proposals and whole renders; how one field can be in both layouts is told in twin_fields.py."""
    plain, packed = (NerfactoField(read_run(folder)) for folder in write_twins(tmp_path))
    x, d = points(4000, 1.3)  # every coordinate below 4/3, where one field can be in both
    for ours, theirs in zip(plain.query(x, d), packed.query(x, d)):
        torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(plain.proposal_density(0, x), packed.proposal_density(0, x), atol=ROUNDING, rtol=ROUNDING)
    origins, directions = x[:200] / 3, -d[:200].abs()
    for render in (nerfstudio_render, converged_render):
        ours, theirs = render(plain, origins, directions), render(packed, origins, directions)
        torch.testing.assert_close(ours["rgb"], theirs["rgb"], atol=ROUNDING, rtol=0)
        assert ours["rgb"].std() > 0.02


@pytest.mark.parametrize(
    ("levels", "finest", "log2_size", "numbers"),
    [(16, 2048, 19, 12_196_240), (16, 8192, 21, 47_857_600), (5, 128, 17, 766_528), (5, 256, 17, 860_160)],
    ids=["nerfacto", "nerfacto-huge", "first proposal", "second proposal"],
)
def test_grids_are_as_long_as_tiny_cuda_nn_prints(levels, finest, log2_size, numbers):
    """The first two as an issue of instruct-nerf2nerf (#49) shows them of real checkpoints; two features a row."""
    last = tcnn_levels(levels, 16, finest, log2_size)[-1]
    assert 2 * (last.first + last.entries) == numbers


@pytest.mark.parametrize(
    ("widths", "length"),
    [([32, 64, 16], 3072), ([63, 64, 64, 3], 9216), ([10, 16, 1], 512)],
    ids=["nerfacto's base", "its head", "a proposal network"],
)
def test_networks_are_padded_to_sixteen(widths, length):
    """32·64 + 16·64; 64·64 + 64·64 + 16·64; 16·16 + 16·16."""
    assert packed_lengths(widths)[0] == length


def test_a_network_padded_to_eight_is_read(tmp_path):
    """Old builds of CutlassMLP: 7 + 31 = 38 inputs come to 40, not 48, and 3 outputs to 8."""
    method, settings, shape = CASES["box, four features, an odd width"]
    settings = settings | {"hidden_dim_color": 40}
    tensors = random_tcnn(settings, shape, method)
    weight = torch.randn(40, 48), torch.randn(40, 40), torch.randn(16, 40)
    weight[0][:, 40:] = 0
    fields = []
    for name, parts in {"16": weight, "8": (weight[0][:, :40], weight[1], weight[2][:8])}.items():
        tensors["field.mlp_head.tcnn_encoding.params"] = torch.cat([part.reshape(-1) for part in parts])
        fields.append(NerfactoField(read_run(write_run(tmp_path / name, tensors, settings, method))))
    x, d = points(50, 0.9)
    torch.testing.assert_close(fields[0].query(x, d)[1], fields[1].query(x, d)[1], atol=1e-6, rtol=0)


PARAMS = "field.mlp_base.model.params"
DAMAGES = {
    "short": (
        {PARAMS: lambda v: v[:-8].clone()},
        {},
        r"mlp_base\.model\.params: expected 134144 floats \(16 levels of 2 features",
    ),
    "nan": ({PARAMS: lambda v: v.index_fill(0, torch.tensor([5]), math.nan)}, {}, "expected finite numbers, got 1 NaN or Inf"),
    "missing head": ({"field.mlp_head.tcnn_encoding.params": None}, {}, r"mlp_head\.tcnn_encoding\.params: expected a tensor"),
    "wrong table": ({"field.log2_hashmap_size": lambda v: v + 1}, {}, "mlp_base.model.params: expected"),
    "before 1.0": ({"field.mlp_base.params": lambda v: torch.zeros(3)}, {}, "expected the layout of nerfstudio 1.0 to 1.1.5"),
    "no occupancy": ({"occupancy_grid.binaries": None}, {}, "occupancy_grid.binaries: expected a tensor"),
    "never trained": ({"occupancy_grid.binaries": torch.zeros_like}, {}, "expected an occupied cell, got none"),
    "cells of floats": ({"occupancy_grid.binaries": lambda v: v.float()}, {}, "expected levels×x×y×z booleans"),
    "posing cells": ({"occupancy_grid.binaries": lambda v: v[:1, :1, :1, :1].expand(2, 128, 128, 128)}, {}, "booleans"),
    "boxes crossed": ({"occupancy_grid.aabbs": lambda v: v.flip(0).contiguous()}, {}, "each within the next"),
    "a box too few": ({"occupancy_grid.aabbs": lambda v: v[:1].clone()}, {}, "occupancy_grid.aabbs: expected 2×6 floats"),
    "endless steps": ({}, {"render_step_size": 1e-9}, "expected a render_step_size of more than"),
    "cone": ({}, {"cone_angle": -1}, "cone_angle"),
    "background": ({}, {"background_color": "last_sample"}, "background_color"),
}


@pytest.mark.parametrize(("tensors_changed", "settings_changed", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_instant_ngp_of_tiny_cuda_nn_gives_one_clear_error(tmp_path, tensors_changed, settings_changed, said):
    method, settings, shape = CASES["instant-ngp"]
    tensors = random_tcnn(settings, shape, method)
    for key, change in tensors_changed.items():
        old = tensors.pop(key, None)
        if change is not None:
            tensors[key] = change(old)
    run = write_run(tmp_path / "run", tensors, settings | settings_changed, method)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_run(run)
    assert "step-000000007.ckpt" in str(caught.value) or "config.yml" in str(caught.value)


@pytest.mark.parametrize("key", ["hidden_dim", "hidden_dim_color"])
def test_a_width_that_is_not_the_checkpoints_is_named(tmp_path, key):
    method, settings, shape = CASES["one level, no appearance"]
    run = write_run(tmp_path / "run", random_tcnn(settings, shape, method), settings | {key: 64}, method)
    with pytest.raises(CheckpointError, match=f"{key} 64"):
        read_run(run)


def instant_ngp(tmp_path, **changed) -> NerfactoField:
    method, settings, shape = CASES["instant-ngp"]
    return NerfactoField(read_run(write_run(tmp_path / "run", random_tcnn(settings, shape, method), settings | changed, method)))


def test_instant_ngp_shows_only_its_occupied_cells(tmp_path):
    """Cell of a point by hand: 8 cells a side; inside ±1 those of the first level, else of the second, else nothing."""
    field = instant_ngp(tmp_path)
    cells = field.occupancy.cells
    x = torch.tensor([[0.3, -0.9, 0.99], [1.3, -0.9, 0.1], [2.1, 0.0, 0.0], [-1.99, 1.99, -0.01]])
    # (0.3 + 1) / 2 · 8 = 5.2, 0.4, 7.96; (1.3 + 2) / 4 · 8 = 6.6, 2.2, 4.2; 0.02, 7.98, 3.98
    expected = [cells[0, 5, 0, 7], cells[1, 6, 2, 4], torch.tensor(False), cells[1, 0, 7, 3]]
    assert field.occupancy.holds(x).tolist() == [bool(v) for v in expected]
    assert (field.log_density(x) > NOTHING).tolist() == [bool(v) for v in expected]


def test_instant_ngp_is_marched_as_nerfacc_does(tmp_path):
    """One ray at a time, step by step: t += max(t · cone, step), counted where the middle's cell is occupied."""
    field = instant_ngp(tmp_path, cone_angle=0.02)
    x, d = points(12, 1.0)
    ours = nerfstudio_render(field, x, d)
    step = math.sqrt(12) / 1000  # of the diagonal of ±1
    for ray in range(len(x)):
        t, passed, light, depth = 0.05, 1.0, np.zeros(3), 0.0
        while t < 6:
            dt = max(t * 0.02, step)
            middle = x[ray] + d[ray] * (t + dt / 2)
            if field.occupancy.holds(middle[None])[0]:
                log_density, colour = field.query(middle[None], d[ray][None])
                share = passed * -math.expm1(-math.exp(log_density[0]) * dt)
                light, depth, passed = light + share * colour[0].numpy(), depth + share * (t + dt / 2), passed - share
            t += dt
        np.testing.assert_allclose(ours["rgb"][ray].numpy(), light, atol=2e-3)  # background "random" is black at inference
        assert float(ours["accumulation"][ray]) == pytest.approx(1 - passed, abs=2e-3)


def test_instant_ngp_converges_to_what_it_marches(tmp_path):
    """The march begins at the near plane and steps evenly; it is the same field within 0.03, root mean square."""
    field = instant_ngp(tmp_path)
    x, d = points(100, 0.5)
    marched, converged = nerfstudio_render(field, x, d)["rgb"], converged_render(field, x, d)["rgb"]
    assert float(((marched - converged) ** 2).mean().sqrt()) < 0.03


def test_plain_torch_is_told_by_its_tensors(tmp_path):
    assert read_run(next(iter(write_twins(tmp_path)))).layout is TORCH
