"""Colour, depth and opacity along rays of the exact field: as nerfstudio renders it, and converged.

nerfstudio places a few dozen samples; its picture has the noise of that. The wall shows a bake, and a bake is judged by the
converged integral: the same field, so many samples that twice as many change nothing that can be seen.
Formulas: nerfstudio 1.1.5, model_components/ray_samplers.py and renderers.py. Depths are in model units along the unit ray.
"""

from collections.abc import Callable

import numpy as np
import torch

from ledvolume.scenes import nerfstudio_threads
from ledvolume.scenes.nerfstudio import NOTHING, NerfactoField

Rendered = dict[str, torch.Tensor]
_RAYS = 256  # rays at a time in the converged integral: their samples fill a chunk of the field
_SEGMENT = 64  # coarse samples between two looks at which rays are already opaque
_OPAQUE = 12.0  # optical depth beyond which nothing is seen: exp(-12) = 6e-6
_FAINTEST = 4e-4  # of a pixel: a tenth of one 8-bit code


@torch.no_grad()
def nerfstudio_render(field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor) -> Rendered:
    """What nerfstudio itself shows for rays (N, 3), unit directions: its sampler, its number of samples, its background.

    rgb (N, 3); accumulation, depth (median) and expected_depth (N,). Chunks are nerfstudio's: expected_depth is clipped by them.
    instant-ngp marches through its occupied cells; its chunks are smaller than nerfstudio's, and both depths the expected one.
    """
    if field.occupancy:
        return _in_chunks(lambda o, d: _marched_chunk(field, o, d), origins, directions, _RAYS)
    size = field.config.eval_num_rays_per_chunk
    return _in_chunks(lambda o, d: _nerfstudio_chunk(field, o, d), origins, directions, size)


def _in_chunks(work: Callable[..., Rendered], origins: torch.Tensor, directions: torch.Tensor, size: int) -> Rendered:
    chunks = list(zip(origins.split(size), directions.split(size)))
    parts = nerfstudio_threads.each(torch.no_grad()(lambda chunk: work(*chunk)), chunks)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _nerfstudio_chunk(field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor) -> Rendered:
    config = field.config
    counts = [*config.num_proposal_samples_per_ray[: config.num_proposal_iterations], config.num_nerf_samples_per_ray]
    bins = torch.linspace(0, 1, counts[0] + 1, device=origins.device).expand(len(origins), -1)
    for i, count in enumerate(counts[1:]):
        edges = _distance(field, bins)
        x = _points(origins, directions, (edges[:, :-1] + edges[:, 1:]) / 2)
        density = field.proposal_density(i, x).view(len(origins), -1)
        bins = _bins_by_weight(bins, _weights(density, edges), count)
    edges = _distance(field, bins)
    middles = (edges[:, :-1] + edges[:, 1:]) / 2
    log_density, rgb = field.query(_points(origins, directions, middles), _repeated(directions, middles.shape[1]))
    rgb = rgb.view(*middles.shape, 3)
    density = torch.where(log_density > NOTHING, log_density.exp(), 0).view(middles.shape)
    weights = _weights(density, edges)
    accumulation = weights.sum(1)
    median = torch.searchsorted(weights.cumsum(1), accumulation.new_full((len(origins), 1), 0.5)).clamp(max=middles.shape[1] - 1)
    expected = (weights * middles).sum(1) / (accumulation + 1e-10)
    return {
        "rgb": _over_background(field, (weights[..., None] * rgb).sum(1), accumulation, rgb[:, -1]),
        "accumulation": accumulation,
        "depth": middles.gather(1, median)[:, 0],
        "expected_depth": expected.clip(middles.min(), middles.max()),
    }


def _marched_chunk(field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor) -> Rendered:
    """As nerfacc samples: steps that grow with distance; one counts if its middle is in an occupied cell."""
    edges = torch.tensor(_march(field, field.occupancy.reach(origins)), device=origins.device)
    middles, steps = (edges[:-1] + edges[1:]) / 2, edges.diff()
    x = _points(origins, directions, middles.expand(len(origins), -1))
    seen = field.occupancy.holds(x).view(len(origins), -1)
    ray, step = seen.nonzero(as_tuple=True)
    log_density, colours = field.query(x[seen.view(-1)], directions[ray])
    optical = origins.new_zeros(seen.shape)
    optical[seen] = torch.where(log_density > NOTHING, log_density.exp(), 0) * steps[step]
    weights = _weights_of_depths(optical)
    accumulation = weights.sum(1)
    rgb = torch.zeros_like(origins).index_add_(0, ray, weights[seen][:, None] * colours)
    met = middles[step] if len(step) else middles.new_ones(1)  # nerfstudio's stand-in where a chunk meets nothing
    depth = ((weights * middles).sum(1) / (accumulation + 1e-10)).clip(met.min(), met.max())
    return {
        "rgb": _over_background(field, rgb, accumulation, rgb),
        "accumulation": accumulation,
        "depth": depth,
        "expected_depth": depth,
    }


def _march(field: NerfactoField, reach: float) -> np.ndarray:
    """Edges of the steps from the near plane until `reach`, (n + 1,) float32, one after the other as nerfacc adds them."""
    step, cone, end = (
        np.float32(field.occupancy.step_size),
        np.float32(field.config.cone_angle),
        min(reach, field.config.far_plane),
    )
    edges = [np.float32(field.config.near_plane)]
    while len(edges) < 2 or edges[-1] < end:
        edges.append(edges[-1] + max(edges[-1] * cone, step))
    return np.array(edges, np.float32)


def _distance(field: NerfactoField, b: torch.Tensor) -> torch.Tensor:
    """Position 0..1 on the ray → distance 0..far_plane. Piecewise: linear to 1, then linear in 1/distance.

    The near plane is 0 at inference, whatever the config says.
    """
    far = field.config.far_plane
    if field.config.proposal_initial_sampler == "uniform":
        return b * far
    s = b * (far / 2 if far < 1 else 1 - 1 / (2 * far))
    return torch.where(s < 0.5, 2 * s, 1 / (2 - 2 * s))


def _bins_by_weight(bins: torch.Tensor, weights: torch.Tensor, count: int) -> torch.Tensor:
    """count + 1 edges per ray, so that each new bin has the same share of the weight. bins (R, n + 1), weights (R, n)."""
    weights = weights + 0.01
    total = weights.sum(1, keepdim=True)
    padding = torch.relu(1e-5 - total)
    weights, total = weights + padding / weights.shape[1], total + padding
    cdf = torch.cat([torch.zeros_like(total), (weights / total).cumsum(1).clamp(max=1)], 1)
    edges = count + 1
    u = torch.linspace(0, 1 - 1 / edges, edges, device=bins.device) + 1 / (2 * edges)
    return _inverse(cdf, bins, u.expand(len(bins), -1).contiguous())


def _inverse(cdf: torch.Tensor, bins: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Where each row's rising piecewise-linear cdf(bins) reaches u."""
    above = torch.searchsorted(cdf, u, right=True).clamp(max=cdf.shape[1] - 1)
    below = (above - 1).clamp(min=0)
    low, high = cdf.gather(1, below), cdf.gather(1, above)
    share = torch.nan_to_num((u - low) / (high - low)).clip(0, 1)
    start = bins.gather(1, below)
    return start + share * (bins.gather(1, above) - start)


def _weights(density: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Share of each sample in the pixel: transmittance before it times its opacity. density (R, n), edges (R, n + 1)."""
    return _weights_of_depths(density * (edges[:, 1:] - edges[:, :-1]))


def _weights_of_depths(optical: torch.Tensor) -> torch.Tensor:
    before = torch.exp(optical - optical.cumsum(1))
    return torch.nan_to_num(before * -torch.expm1(-optical))


def _points(origins: torch.Tensor, directions: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(R, 3), (R, 3), (R, n) → (R · n, 3)."""
    return (origins[:, None] + directions[:, None] * t[..., None]).view(-1, 3)


def _repeated(directions: torch.Tensor, n: int) -> torch.Tensor:
    return directions[:, None].expand(-1, n, -1).reshape(-1, 3)


def _over_background(field: NerfactoField, rgb: torch.Tensor, accumulation: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    missing = (1 - accumulation)[:, None]
    if field.background == "last_sample":
        rgb = rgb + last * missing
    elif field.background == "white":
        rgb = rgb + missing
    return rgb.clamp(0, 1)


@torch.no_grad()
def converged_render(field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor, samples: int = 1024) -> Rendered:
    """The integral of the field along rays (N, 3), unit directions, from 0 to far_plane: rgb (N, 3), accumulation, depth (N,).

    Five eighths of the samples lie evenly in nerfstudio's spacing and find where there is anything, front to back until the
    ray is opaque; the others by the weight found. Density is taken exponential between samples: nerfacto's log density is
    smooth there, its density is not. depth: where half of the light is stopped; far_plane if it never is.
    Measured against 16384 even samples, random rays of the door of Lund: 1024 samples 73 dB, 512 63 dB, 256 55 dB.
    """
    return _in_chunks(lambda o, d: _converged_chunk(field, o, d, samples), origins, directions, _RAYS)


def _converged_chunk(field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor, samples: int) -> Rendered:
    t, _, weights, optical = integration_samples(field, origins, directions, samples)
    passed = torch.cat([torch.zeros_like(optical[:, :1]), optical.cumsum(1)], 1)
    accumulation = -torch.expm1(-passed[:, -1])
    ray, t_seen, share = _coloured_samples(t, weights)
    behind = torch.arange(0)
    if field.background == "last_sample":
        behind = (accumulation < 1 - _FAINTEST).nonzero()[:, 0]
        ray, t_seen = torch.cat([ray, behind]), torch.cat([t_seen, t[behind, -1]])
    colours = field.query(origins[ray] + directions[ray] * t_seen[:, None], directions[ray])[1]
    in_front = len(share)
    rgb = torch.zeros_like(origins).index_add_(0, ray[:in_front], share[:, None] * colours[:in_front])
    last = torch.zeros_like(origins)
    last[behind] = colours[in_front:]
    half = torch.full_like(accumulation, 0.5).log().neg()[:, None]
    depth = torch.where(passed[:, -1:] >= half, _inverse(passed, t, half), field.config.far_plane)
    return {
        "rgb": _over_background(field, rgb, accumulation, last),
        "accumulation": accumulation,
        "depth": depth[:, 0],
    }


def _coloured_samples(t: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which samples the colour network is asked for: ray (m,), t (m,) and their share of the pixel (m,).

    A sample of _FAINTEST and more is, and every so many fainter ones that they come to it: haze is hundreds of samples
    and little light. What the others hold goes half to the one before and half to the one behind them.
    """
    sums = weights.cumsum(1)
    group = (sums * (1 / _FAINTEST)).to(torch.int32)
    chosen = torch.diff(group, dim=1, prepend=torch.zeros_like(group[:, :1])) > 0
    ray = chosen.nonzero()[:, 0]
    own, sums_chosen = weights[chosen], sums[chosen]
    is_first = torch.diff(ray, prepend=ray.new_full((1,), -1)) > 0
    is_last = torch.diff(ray, append=ray.new_full((1,), len(t))) > 0
    before = sums_chosen - own - torch.where(is_first, 0, sums_chosen.roll(1))
    after = torch.where(is_last, sums[ray, -1] - sums_chosen, before.roll(-1) / 2)
    return ray, t[chosen], own + after + torch.where(is_first, before, before / 2)


@torch.no_grad()
def integration_samples(
    field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor, samples: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where `converged_render` looks: t (R, n), log density (R, n), share in the pixel (R, n), optical depths (R, n - 1)."""
    coarse = samples * 5 // 8
    bins = torch.linspace(0, 1, coarse, device=origins.device).expand(len(origins), -1).contiguous()
    log_density = _coarse_log_density(field, origins, directions, bins)
    fine = _bins_of_mass(field, bins, log_density, samples - coarse)
    fine_density = field.log_density(_points(origins, directions, _distance(field, fine))).view(fine.shape)
    bins, order = torch.cat([bins, fine], 1).sort(1)
    log_density = torch.cat([log_density, fine_density], 1).gather(1, order)
    t = _distance(field, bins)
    optical = _optical_depths(log_density, t)
    between = _weights_of_depths(optical)  # of intervals; a sample's colour stands for half of each neighbour
    weights = torch.zeros_like(t)
    weights[:, :-1] += between / 2
    weights[:, 1:] += between / 2
    return t, log_density, weights, optical


def _coarse_log_density(
    field: NerfactoField, origins: torch.Tensor, directions: torch.Tensor, bins: torch.Tensor
) -> torch.Tensor:
    """(R, n) at bins (R, n); NOTHING behind where a ray has become opaque."""
    out = torch.full_like(bins, NOTHING)
    t = _distance(field, bins)
    live = torch.arange(len(bins), device=bins.device)
    for start in range(0, bins.shape[1], _SEGMENT):
        stop = start + _SEGMENT
        x = _points(origins[live], directions[live], t[live, start:stop])
        out[live, start:stop] = field.log_density(x).view(len(live), -1)
        live = live[_optical_depths(out[live, :stop], t[live, :stop]).sum(1) < _OPAQUE]
        if not len(live):
            break
    return out


def _optical_depths(log_density: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(R, n - 1): ∫ density dt between neighbours for a density that is exponential there: Δt (b - a) / (ln b - ln a)."""
    density = torch.where(log_density > NOTHING, log_density.clamp(max=60).exp(), 0)
    a, b = density[:, :-1], density[:, 1:]
    rise = log_density[:, 1:] - log_density[:, :-1]
    mean = torch.where(rise.abs() < 0.02, (a + b) / 2, (b - a) / rise)
    return mean * (t[:, 1:] - t[:, :-1])


def _bins_of_mass(field: NerfactoField, bins: torch.Tensor, log_density: torch.Tensor, count: int) -> torch.Tensor:
    """count positions per ray, dense where there is weight or a neighbour has it; every interval gets a little."""
    weights = _weights_of_depths(_optical_depths(log_density, _distance(field, bins)))
    around = torch.nn.functional.max_pool1d(weights[:, None], 3, 1, 1)[:, 0]
    around = around + 1e-3 / weights.shape[1]
    cdf = torch.cat([torch.zeros_like(around[:, :1]), (around / around.sum(1, keepdim=True)).cumsum(1)], 1)
    u = (torch.arange(count, device=bins.device) + 0.5) / count
    return _inverse(cdf, bins, u.expand(len(bins), -1).contiguous())
