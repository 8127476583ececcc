"""One field in both of nerfstudio's layouts, exactly: a run of plain torch and a run of tiny-cuda-nn.

In general a field of the one cannot be written in the other. This one can be:
- grid: torch has lattice points at k / resolution, tiny-cuda-nn at (k - 0.5) / scale. With resolutions 1 and 2 the only inner
  lattice plane is at 1/2, and every odd scale has one there: 3 and 15, from base 4 to 16. The values at tiny-cuda-nn's dense
  lattice are those of torch's trilinear function, continued where a point lies outside of the cube. In the last half cell at
  the upper sides tiny-cuda-nn's rows run on into the next line, a quirk of its own: there the two are not the same field, so
  all of the torch field's values that lead there are taken only below p = 1 - 1/6: model points within -2..4/3, contracted.
- harmonics: torch evaluates them at (d + 1) / 2. For unit d that is a polynomial of degree 3, so a mix of tiny-cuda-nn's 16.
- biases: tiny-cuda-nn has none. A feature of the grid that is 1 everywhere, then one hidden neuron that carries it on; before
  a network of its own the padding is 1.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from nerf_runs import tcnn_harmonics, up_to, write_run

LOG2_SIZE, HIDDEN, COLOUR, APPEARANCE, PROPOSAL_HIDDEN = 16, 31, 31, 8, 15
RESOLUTIONS, SCALES = (1, 2), (3, 15)
FEATURES = 2


def write_twins(folder: Path, seed: int = 11) -> tuple[Path, Path]:
    """Directories of the torch run and of the tiny-cuda-nn run."""
    rng = np.random.default_rng(seed)
    layers = {
        "base": linear_layers(rng, [len(RESOLUTIONS) * FEATURES, HIDDEN, 16]),
        "head": linear_layers(rng, [31 + APPEARANCE, COLOUR, COLOUR, 3]),
        "proposal": linear_layers(rng, [len(RESOLUTIONS) * FEATURES, PROPOSAL_HIDDEN, 1]),
    }
    values = [corner_values(rng, resolution) for resolution in RESOLUTIONS]
    table = {"field.embedding_appearance.embedding.weight": torch.from_numpy(rng.normal(size=(6, APPEARANCE))).float()}
    network = {"use_linear": False}
    settings = {"num_proposal_samples_per_ray": [48, 24], "num_nerf_samples_per_ray": 32, "use_same_proposal_network": True}
    plain = settings | {"base_res": 1, "proposal_net_args_list": [network | {"base_res": 1}]}
    packed = settings | {"base_res": 4, "hidden_dim": HIDDEN + 1, "hidden_dim_color": COLOUR + 1}
    packed |= {"proposal_net_args_list": [network | {"base_res": 4, "hidden_dim": PROPOSAL_HIDDEN + 1}]}
    return (
        write_run(folder / "torch", table | torch_tensors(values, layers), plain),
        write_run(folder / "tcnn", table | tcnn_tensors(values, layers), packed),
    )


def linear_layers(rng: np.random.Generator, widths: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rng.normal(0, 1.4 / a**0.5, (b, a)), rng.normal(0, 0.3, b)) for a, b in itertools.pairwise(widths)]


def corner_values(rng: np.random.Generator, resolution: int) -> np.ndarray:
    """(n, n, n, features) at the lattice of p = k / resolution; the last feature of the first level is 1 everywhere."""
    values = rng.normal(size=[resolution + 1] * 3 + [FEATURES])
    if resolution == RESOLUTIONS[0]:
        values[..., -1] = 1
    return values


def trilinear(values: np.ndarray, p: np.ndarray) -> np.ndarray:
    """At one point p (3,), continued beyond the cube."""
    q = p * (len(values) - 1)
    cell = np.clip(np.floor(q), 0, len(values) - 2).astype(int)
    out = np.zeros(values.shape[-1])
    for corner in np.ndindex(2, 2, 2):
        out += np.prod(np.where(corner, q - cell, 1 - (q - cell))) * values[tuple(cell + corner)]
    return out


def header(prefix: str, finest: int) -> dict[str, torch.Tensor]:
    numbers = {"num_levels": len(RESOLUTIONS), "max_res": finest, "log2_hashmap_size": LOG2_SIZE}
    return {prefix + key: torch.tensor(value) for key, value in numbers.items()} | {
        prefix + "aabb": torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
    }


def torch_tensors(values: list[np.ndarray], layers: dict) -> dict[str, torch.Tensor]:
    table = np.zeros((len(values) << LOG2_SIZE, FEATURES))
    for level, lattice in enumerate(values):
        rows = set()
        for at in np.ndindex(lattice.shape[:3]):
            x, y, z = (int(v) for v in at)
            row = (level << LOG2_SIZE) + (x ^ y * 2654435761 ^ z * 805459861) % (1 << LOG2_SIZE)
            table[row] = lattice[at]
            rows.add(row)
        assert len(rows) == len(lattice) ** 3, "two lattice points share a row"
    out = header("field.", 2) | header("proposal_networks.0.", 2)
    for key in ("field.mlp_base.model.0.hash_table", "proposal_networks.0.encoding.hash_table"):
        out[key] = torch.from_numpy(table).float()
    names = {"base": "field.mlp_base.model.1", "head": "field.mlp_head", "proposal": "proposal_networks.0.mlp_base.1"}
    for which, name in names.items():
        for i, (weight, bias) in enumerate(layers[which]):
            out[f"{name}.layers.{i}.weight"] = torch.from_numpy(weight).float()
            out[f"{name}.layers.{i}.bias"] = torch.from_numpy(bias).float()
    return out


def tcnn_tensors(values: list[np.ndarray], layers: dict) -> dict[str, torch.Tensor]:
    levels = []
    for lattice, scale in zip(values, SCALES):
        side = scale + 1
        nodes = [trilinear(lattice, (np.array([x, y, z]) - 0.5) / scale) for z, y, x in np.ndindex(side, side, side)]
        levels.append(np.array(nodes))  # 4³ and 16³ rows, both multiples of eight
    grid = np.concatenate(levels).reshape(-1)
    one = np.zeros(len(RESOLUTIONS) * FEATURES)
    one[FEATURES - 1] = 1
    base = packed(layers["base"], one, 0)
    head = [(harmonics_moved(layers["head"][0][0]), layers["head"][0][1]), *layers["head"][1:]]
    vectors = {
        "field.mlp_base.model.params": np.concatenate([base, grid]),
        "field.mlp_head.tcnn_encoding.params": packed(head, None, 1),
        "proposal_networks.0.encoding.tcnn_encoding.params": grid,
        "proposal_networks.0.mlp_base.1.tcnn_encoding.params": packed(layers["proposal"], None, 1),
    }
    vectors = {key: torch.from_numpy(vector).float() for key, vector in vectors.items()}
    return header("field.", 16) | header("proposal_networks.0.", 16) | vectors


def packed(layers: list[tuple[np.ndarray, np.ndarray]], one: np.ndarray | None, padding: float) -> np.ndarray:
    """The vector of layers with biases: `one` is the mix of inputs that is 1, or the first padded input is."""
    (weight, bias), *others = layers
    inputs, width = weight.shape[1], len(weight) + 1
    first = np.zeros((width, up_to(inputs, 16)))
    carried = np.concatenate([weight, np.zeros((1, inputs))])
    biases = np.concatenate([bias, [1.0]])  # the last neuron is 1
    first[:, :inputs] = carried if one is None else carried + np.outer(biases, one)
    if one is None:
        assert padding == 1 and up_to(inputs, 16) > inputs
        first[:, inputs] = biases
    matrices = [first]
    for number, (weight, bias) in enumerate(others):
        is_last = number == len(others) - 1
        matrix = np.zeros((up_to(len(weight), 16) if is_last else width, width))
        matrix[: len(weight), :-1], matrix[: len(weight), -1] = weight, bias
        if not is_last:
            matrix[-1, -1] = 1
        matrices.append(matrix)
    return np.concatenate([matrix.reshape(-1) for matrix in matrices])


def harmonics_moved(weight: np.ndarray) -> np.ndarray:
    """Weights on torch's harmonics of (d + 1) / 2 → weights on tiny-cuda-nn's of d, equal for every unit d."""
    d = np.random.default_rng(0).normal(size=(200, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    signs = np.where(np.isin(np.arange(16), [1, 3, 5, 7, 9, 11, 13, 15]), -1.0, 1.0)
    theirs = np.array([tcnn_harmonics(*v) for v in d])
    plain = np.array([tcnn_harmonics(*v) * signs for v in (d + 1) / 2])
    mix, *_ = np.linalg.lstsq(theirs, plain, rcond=None)
    assert np.abs(theirs @ mix - plain).max() < 1e-9, "not a polynomial of degree 3 on the sphere"
    return np.concatenate([weight[:, :16] @ mix.T, weight[:, 16:]], 1)
