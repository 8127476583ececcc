"""The exact field and its ray integrals: against nerfstudio's own renders, against slow twins, against themselves."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ledvolume.pose import Similarity
from ledvolume.scenes import nerfstudio_native
from ledvolume.scenes.checkpoint import NerfstudioRun, read_run
from ledvolume.scenes.nerfstudio import NOTHING, HashGrid, NerfactoField
from ledvolume.scenes.nerfstudio_config import NerfactoConfig, ProposalConfig
from ledvolume.scenes.nerfstudio_layout import level_resolutions, torch_levels
from ledvolume.scenes.nerfstudio_rays import converged_render, nerfstudio_render

RUN = Path(__file__).parent / "data" / "nerfacto_good"


@pytest.fixture(scope="module")
def field() -> NerfactoField:
    return NerfactoField(read_run(RUN))


def pinhole_rays(c2w, fx, fy, cx, cy, width, height) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3) each, row by row through pixel centres; OpenGL camera axes."""
    v, u = np.mgrid[0 : int(height), 0 : int(width)] + 0.5
    d = np.stack([(u - cx) / fx, -(v - cy) / fy, -np.ones_like(u)], -1).reshape(-1, 3) @ c2w[:, :3].T
    d = torch.from_numpy(d / np.linalg.norm(d, axis=1, keepdims=True)).float()
    return torch.from_numpy(c2w[:, 3]).float().expand_as(d).contiguous(), d


def random_rays(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """From anywhere among the training cameras towards the middle."""
    g = torch.Generator().manual_seed(seed)
    origins = torch.rand(count, 3, generator=g) * 2 - 1
    d = torch.rand(count, 3, generator=g) * 0.6 - 0.3 - origins
    return origins, d / d.norm(dim=1, keepdim=True)


def random_points(count: int, reach: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    d = torch.randn(count, 3, generator=g)
    return (torch.rand(count, 3, generator=g) * 2 - 1) * reach, d / d.norm(dim=1, keepdim=True)


def psnr_db(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(max(float(((a - b) ** 2).mean()), 1e-20))


@pytest.mark.parametrize(("view", "native"), [(0, True), (1, True), (2, True), (3, True), (3, False)])
def test_the_field_renders_what_nerfstudio_renders(view, native):
    """Measured 106 to 121 dB, all of it float rounding; 80 would already be invisible in 10 bits."""
    field = NerfactoField(read_run(RUN), native=native)
    truth = {k: torch.from_numpy(v) for k, v in np.load(RUN / "reference_renders.npz").items() if k.endswith(f"_{view}")}
    ours = nerfstudio_render(field, *pinhole_rays(truth[f"c2w_{view}"].numpy(), *truth[f"K_{view}"].tolist()))
    assert psnr_db(ours["rgb"], truth[f"rgb_{view}"].view(-1, 3)) > 80
    assert psnr_db(ours["accumulation"], truth[f"accumulation_{view}"].view(-1)) > 70
    # A sample one bin over is another median, and samples at distances up to 1000 stretch the rounding of their weights:
    # the worst hundredth of the pixels is left out.
    for key, tolerance in (("depth", 1e-3), ("expected_depth", 5e-3)):
        expected = truth[f"{key}_{view}"].view(-1)
        assert ((ours[key] - expected).abs() / expected).quantile(0.99) < tolerance, key


@pytest.mark.parametrize("kind", ["contracted", "box"])
def test_compiled_field_and_torch_twin_agree(kind):
    """Rounding of a position is seen by the finest level: 1e-7 · 256 cells · slope. In the log of density, not relative."""
    run = read_run(RUN) if kind == "contracted" else random_run()
    compiled, twin = NerfactoField(run), NerfactoField(run, native=False)
    x, d = random_points(5000)  # not a multiple of the block
    log_density, rgb = compiled.query(x, d)
    expected_density, expected_rgb = twin.query(x, d)
    torch.testing.assert_close(log_density, expected_density, atol=1e-3, rtol=0)
    torch.testing.assert_close(rgb, expected_rgb, atol=1e-3, rtol=0)
    torch.testing.assert_close(compiled.log_density(x), log_density, atol=1e-6, rtol=0)
    again, geometry = compiled.density_and_geometry(x)
    torch.testing.assert_close(again, log_density, atol=1e-6, rtol=0)
    torch.testing.assert_close(compiled.colour(geometry, d), rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(twin.colour(geometry, d), rgb, atol=1e-5, rtol=0)


def test_with_a_c_compiler_the_field_is_compiled(field):
    assert field.native == any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def test_without_a_c_compiler_torch_computes_the_field(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    nerfstudio_native.library.cache_clear()
    try:
        assert not NerfactoField(read_run(RUN)).native
    finally:
        nerfstudio_native.library.cache_clear()


@pytest.mark.parametrize(
    ("levels", "base", "finest", "expected"),
    [
        (16, 16, 2048, [16, 22, 30, 42, 58, 80, 111, 153, 212, 294, 406, 561, 776, 1072, 1482, 2047]),
        (5, 16, 128, [16, 26, 45, 76, 128]),  # float64 would say 127
        (5, 16, 256, [16, 32, 64, 128, 256]),
        (1, 16, 64, [16]),
    ],
)
def test_level_resolutions_are_those_nerfstudio_prints(levels, base, finest, expected):
    assert level_resolutions(levels, base, finest) == expected


def test_hash_encoding_is_instant_ngps():
    """Twin in Python's own integers: x ^ y·2654435761 ^ z·805459861 modulo the table, trilinear."""
    table = torch.rand(3 << 6, 2, generator=torch.Generator().manual_seed(0))
    p = (0.31, 0.97, 0.505)
    expected = []
    for level, resolution in enumerate(level_resolutions(3, 16, 300)):
        q = [float(np.float32(v) * np.float32(resolution)) for v in p]
        total = np.zeros(2)
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (math.floor(v) + c for v, c in zip(q, corner))
            weight = math.prod(v - math.floor(v) if c else 1 - v + math.floor(v) for v, c in zip(q, corner))
            total += weight * table[(level << 6) + (x ^ y * 2654435761 ^ z * 805459861) % 64].double().numpy()
        expected += total.tolist()
    ours = HashGrid(table, torch_levels(3, 16, 300, 6)).encode(torch.tensor(p)[:, None])[:, 0]
    torch.testing.assert_close(ours, torch.tensor(expected).float(), atol=1e-5, rtol=0)


def test_outside_of_its_box_a_field_is_empty():
    field = NerfactoField(random_run())
    x = torch.tensor([[0.0, 0.0, 0.0], [1.01, 0.0, 0.0], [0.0, -1.5, 0.0], [1e9, 0.0, 0.0]])
    density = field.log_density(x)
    assert density[0] > NOTHING and density[1:].tolist() == [NOTHING] * 3
    assert field.proposal_density(0, x)[1:].tolist() == [0.0] * 3


def test_a_contracted_field_reaches_everywhere(field):
    assert (field.log_density(torch.tensor([[1e3, 0, 0], [-1e3, 1e3, 5.0]])) > NOTHING).all()


def test_no_points_are_no_trouble(field):
    nothing = torch.zeros(0, 3)
    assert field.log_density(nothing).shape == (0,)
    assert field.query(nothing, nothing)[1].shape == (0, 3)


def random_run() -> NerfstudioRun:
    """What the fixture is not: a box, three features, no appearance, one shared linear proposal network, uniform, white."""
    g = torch.Generator().manual_seed(5)
    number = torch.tensor
    tensors = {"field.num_levels": number(4), "field.log2_hashmap_size": number(8), "field.max_res": number(64)}
    tensors |= {"field.mlp_base.model.0.hash_table": torch.randn(4 << 8, 3, generator=g)}
    sizes = {"field.mlp_base.model.1.layers": [12, 20, 16], "field.mlp_head.layers": [31, 24, 24, 3]}
    for name, widths in sizes.items():
        for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
            tensors[f"{name}.{i}.weight"] = torch.randn(outputs, inputs, generator=g) / inputs**0.5
            tensors[f"{name}.{i}.bias"] = torch.randn(outputs, generator=g) / 4
    prefix = "proposal_networks.0."
    tensors |= {prefix + "num_levels": number(2), prefix + "log2_hashmap_size": number(6), prefix + "max_res": number(32)}
    tensors |= {prefix + "encoding.hash_table": torch.randn(2 << 6, 2, generator=g)}
    tensors |= {prefix + "linear.weight": torch.randn(1, 4, generator=g), prefix + "linear.bias": torch.zeros(1)}
    tensors |= {"field.aabb": number([[-1.0, -1, -1], [1, 1, 1]]), prefix + "aabb": number([[-1.0, -1, -1], [1, 1, 1]])}
    config = NerfactoConfig(
        features_per_level=3,
        disable_scene_contraction=True,
        background_color="white",
        proposal_initial_sampler="uniform",
        far_plane=6.0,
        use_same_proposal_network=True,
        proposal_net_args_list=(ProposalConfig(use_linear=True),),
        num_proposal_samples_per_ray=(16, 8),
        num_nerf_samples_per_ray=8,
    )
    return NerfstudioRun("nerfacto", config, tensors, Similarity(), 0, Path(), "")


def even_samples(field: NerfactoField, origins, directions, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The integral as one would first write it: midpoints of equal steps in nerfstudio's spacing. rgb, accumulation."""
    s = np.linspace(0, 1 - 1 / 2000, count + 1)  # s = 1 - 1 / 2t at far_plane 1000
    edges = torch.from_numpy(np.where(s < 0.5, 2 * s, 1 / (2 - 2 * np.minimum(s, 0.9999)))).float()
    t = (edges[1:] + edges[:-1]) / 2
    rgb, accumulation = [], []
    for o, d in zip(origins, directions):
        log_density, colours = field.query(o + d * t[:, None], d.expand(count, 3))
        optical = log_density.double().exp() * (edges[1:] - edges[:-1])
        weights = torch.exp(optical - optical.cumsum(0)) * -torch.expm1(-optical)
        accumulation.append(weights.sum())
        rgb.append((weights[:, None] * colours).sum(0) + (1 - weights.sum()) * colours[-1])
    return torch.stack(rgb).float(), torch.stack(accumulation).float()


def test_converged_render_is_the_integral_of_the_field(field):
    """Against 8192 even samples, which themselves differ by 1e-3 at worst from twice as many. Measured 80 dB."""
    rays = random_rays(96)
    ours = converged_render(field, *rays)
    rgb, accumulation = even_samples(field, *rays, 8192)
    assert psnr_db(ours["rgb"], rgb) > 70
    assert (ours["rgb"] - rgb).abs().max() < 3e-3
    assert (ours["accumulation"] - accumulation).abs().max() < 4e-3


def test_twice_the_samples_change_nothing(field):
    """Root mean square below 1e-3 (measured 1e-4) and no ray by 3e-3 (measured 6e-4)."""
    rays = random_rays(1024)
    once, twice = converged_render(field, *rays), converged_render(field, *rays, samples=2048)
    assert psnr_db(once["rgb"], twice["rgb"]) > 60
    assert (once["rgb"] - twice["rgb"]).abs().max() < 3e-3
    assert psnr_db(once["accumulation"], twice["accumulation"]) > 60


def test_depth_is_where_half_of_the_light_is_stopped(field):
    """Integrate to that depth only: accumulation must be one half."""
    origins, directions = random_rays(64)
    depth = converged_render(field, origins, directions)["depth"]
    met = depth < 100
    assert met.sum() > 20
    steps = (torch.arange(20000) + 0.5) / 20000
    for o, d, far in zip(origins[met][:16], directions[met][:16], depth[met][:16]):
        optical = field.log_density(o + d * (steps * far)[:, None]).exp().mean() * far
        assert float(optical) == pytest.approx(math.log(2), abs=0.02)


@pytest.mark.parametrize(("background", "expected"), [("white", 1.0), ("black", 0.0), ("random", 0.0)])
def test_what_the_field_does_not_fill_shows_the_background(background, expected):
    run = random_run()
    empty = replace(run, config=msgspec.structs.replace(run.config, background_color=background, average_init_density=1e-9))
    rays = random_rays(5)
    for render in (nerfstudio_render, converged_render):
        assert torch.allclose(render(NerfactoField(empty), *rays)["rgb"], torch.tensor(expected), atol=1e-4)


def test_last_sample_is_the_colour_farthest_along_the_ray(field):
    config = msgspec.structs.replace(field.config, average_init_density=1e-12)
    empty = NerfactoField(replace(read_run(RUN), config=config))
    origins, directions = random_rays(50)
    expected = empty.query(origins + directions * 1000.0, directions)[1]
    torch.testing.assert_close(converged_render(empty, origins, directions)["rgb"], expected, atol=1e-4, rtol=0)
