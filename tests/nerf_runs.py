"""Writes nerfstudio runs of small fields whose weights are known: of plain torch, of tiny-cuda-nn, of instant-ngp.

The layout rules are written out here a second time, apart from ledvolume's: tiny-cuda-nn's encodings/grid.h, identity.h,
spherical_harmonics.h and fully_fused_mlp.cu as they read, in float64. Nothing here was run on a GPU by tiny-cuda-nn itself.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import yaml

GEOMETRY = 15
MODELS = {
    "nerfacto": "nerfacto.NerfactoModel",
    "depth-nerfacto": "depth_nerfacto.DepthNerfactoModel",
    "instant-ngp": "instant_ngp.NGPModel",
}


def write_run(folder: Path, tensors: dict[str, torch.Tensor], settings: dict, method: str = "nerfacto") -> Path:
    """config.yml, dataparser_transforms.json and a checkpoint, as nerfstudio leaves them."""
    (folder / "nerfstudio_models").mkdir(parents=True)
    lines = [
        f"method_name: {method}",
        "pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig",
        "  model: !!python/object:nerfstudio.models.nerfacto.NerfactoModelConfig",
        f"    _target: !!python/name:nerfstudio.models.{MODELS[method]} ''",
        *(f"    {key}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for key, value in settings.items()),
    ]
    (folder / "config.yml").write_text("\n".join(lines) + "\n")
    transform = {"transform": np.eye(4)[:3].tolist(), "scale": 1.0}
    (folder / "dataparser_transforms.json").write_text(json.dumps(transform))
    pipeline = {"_model." + key: value for key, value in tensors.items()}
    torch.save({"step": 7, "pipeline": pipeline}, folder / "nerfstudio_models" / "step-000000007.ckpt")
    return folder


def up_to(count: int, multiple: int) -> int:
    return math.ceil(count / multiple) * multiple


def grid_of(levels: int, base: int, finest: int, log2_size: int) -> list[tuple[float, int, int]]:
    """tiny-cuda-nn's (scale, resolution, entries) of each level."""
    growth = np.float32(math.exp((math.log(finest) - math.log(base)) / (levels - 1))) if levels > 1 else np.float32(1)
    out = []
    for level in range(levels):
        scale = np.float32(np.exp2(np.float32(level * np.log2(growth))) * np.float32(base)) - np.float32(1)
        resolution = math.ceil(scale) + 1
        out.append((float(scale), resolution, min(up_to(resolution**3, 8), 2**log2_size)))
    return out


def grid_index(resolution: int, entries: int, at: tuple[int, int, int]) -> int:
    """tiny-cuda-nn's grid_index(), line by line."""
    stride, index = 1, 0
    for coordinate in at:
        if stride > entries:
            break
        index += coordinate * stride
        stride *= resolution
    if entries < stride:
        index = at[0] ^ (at[1] * 2654435761 & 0xFFFFFFFF) ^ (at[2] * 805459861 & 0xFFFFFFFF)
    return index % entries


def grid_values(params: np.ndarray, grid: list, features: int, p: np.ndarray) -> np.ndarray:
    """Encoding of one point p (3,)."""
    out, first = [], 0
    for scale, resolution, entries in grid:
        q = np.float32(scale) * p.astype(np.float32) + np.float32(0.5)
        total = np.zeros(features)
        for corner in np.ndindex(2, 2, 2):
            at = tuple(int(math.floor(v)) + c for v, c in zip(q, corner))
            weight = math.prod(float(v - math.floor(v)) if c else float(1 - v + math.floor(v)) for v, c in zip(q, corner))
            row = first + grid_index(resolution, entries, at)
            total += weight * params[row * features : (row + 1) * features]
        out.append(total)
        first += entries
    return np.concatenate(out)


def network_length(inputs: int, width: int, hidden_layers: int, outputs: int) -> int:
    return width * up_to(inputs, 16) + (hidden_layers - 1) * width * width + up_to(outputs, 16) * width


def network_values(params: np.ndarray, x: np.ndarray, width: int, hidden_layers: int, outputs: int, padding: float) -> np.ndarray:
    """x (inputs,) through matrices that lie one after the other, row-major, no biases, ReLU between them."""
    x = np.concatenate([x, np.full(up_to(len(x), 16) - len(x), padding)])
    start = 0
    for rows in [width] * hidden_layers + [up_to(outputs, 16)]:
        matrix = params[start : start + rows * len(x)].reshape(rows, len(x))
        x = matrix @ (x if start == 0 else np.maximum(x, 0))
        start += matrix.size
    assert start == len(params)
    return x[:outputs]


def tcnn_harmonics(x: float, y: float, z: float) -> np.ndarray:
    """Degree 4 of spherical_harmonics.h, whose signs they are."""
    xy, xz, yz, xx, yy, zz = x * y, x * z, y * z, x * x, y * y, z * z
    return np.array(
        [
            0.28209479177387814,
            -0.48860251190291987 * y,
            0.48860251190291987 * z,
            -0.48860251190291987 * x,
            1.0925484305920792 * xy,
            -1.0925484305920792 * yz,
            0.94617469575755997 * zz - 0.31539156525251999,
            -1.0925484305920792 * xz,
            0.54627421529603959 * xx - 0.54627421529603959 * yy,
            0.59004358992664352 * y * (-3 * xx + yy),
            2.8906114426405538 * xy * z,
            0.45704579946446572 * y * (1 - 5 * zz),
            0.3731763325901154 * z * (5 * zz - 3),
            0.45704579946446572 * x * (1 - 5 * zz),
            1.4453057213202769 * z * (xx - yy),
            0.59004358992664352 * x * (-xx + 3 * yy),
        ]
    )


def random_tcnn(settings: dict, shape: dict, method: str = "nerfacto", seed: int = 3) -> dict[str, torch.Tensor]:
    """Tensors of a tiny-cuda-nn checkpoint. shape: levels, finest, log2_size, appearance, proposals (a list of the same)."""
    rng = np.random.default_rng(seed)

    def numbers(count: int, scale: float) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0, scale, count)).float()

    def header(prefix: str, of: dict) -> dict[str, torch.Tensor]:
        names = {"num_levels": "levels", "max_res": "finest", "log2_hashmap_size": "log2_size"}
        box = torch.tensor([[-1.5, -1.0, -2.0], [1.5, 1.0, 1.0]])
        return {prefix + "aabb": box} | {prefix + name: torch.tensor(of[key]) for name, key in names.items()}

    def rows(of: dict, base: int) -> int:
        return sum(entries for _, _, entries in grid_of(of["levels"], base, of["finest"], of["log2_size"]))

    base, features = settings.get("base_res", 16), settings.get("features_per_level", 2)
    width, colour = settings.get("hidden_dim", 64), settings.get("hidden_dim_color", 64)
    mlp = numbers(network_length(shape["levels"] * features, width, 1, 16), width**-0.5)
    tensors = header("field.", shape)
    tensors["field.mlp_base.model.params"] = torch.cat([mlp, numbers(rows(shape, base) * features, 1.0)])
    appearance = shape.get("appearance", 0)
    if appearance:
        tensors["field.embedding_appearance.embedding.weight"] = numbers(5 * appearance, 1.0).view(5, appearance)
    length = network_length(31 + appearance, colour, 2, 3)
    tensors["field.mlp_head.tcnn_encoding.params"] = numbers(length, 3 * colour**-0.5)
    tensors |= {f"field.{name}.tcnn_encoding.params": torch.zeros(0) for name in ("direction_encoding", "position_encoding")}
    for i, (of, network) in enumerate(zip(shape.get("proposals", ()), settings.get("proposal_net_args_list", ()))):
        prefix = f"proposal_networks.{i}."
        tensors |= header(prefix, of)
        tensors[prefix + "encoding.tcnn_encoding.params"] = numbers(rows(of, 16) * 2, 1.0)
        inputs = 2 * of["levels"]
        if network.get("use_linear"):
            tensors |= {prefix + "linear.weight": numbers(inputs, 1.0)[None], prefix + "linear.bias": numbers(1, 1.0)}
        else:
            length = network_length(inputs, network["hidden_dim"], 1, 1)
            tensors[prefix + "mlp_base.1.tcnn_encoding.params"] = numbers(length, 0.3)
    return tensors | (occupancy(rng) if method == "instant-ngp" else {})


def occupancy(rng: np.random.Generator, levels: int = 2, across: int = 8) -> dict[str, torch.Tensor]:
    """Tensors of an instant-ngp: boxes of ±1 and ±2, half of their cells occupied."""
    boxes = torch.stack([torch.tensor([-1.0, -1, -1, 1, 1, 1]) * 2**level for level in range(levels)])
    cells = torch.from_numpy(rng.random((levels, across, across, across)) < 0.5)
    return {"scene_aabb": boxes[0].clone(), "occupancy_grid.aabbs": boxes, "occupancy_grid.binaries": cells}


def field_values(tensors: dict, settings: dict, shape: dict, x: np.ndarray, d: np.ndarray) -> tuple[float, np.ndarray]:
    """Log density and colour of one point and direction by the rules of tiny-cuda-nn; -40 outside of the field."""
    t = {key: value.double().numpy() for key, value in tensors.items()}
    base, features = settings.get("base_res", 16), settings.get("features_per_level", 2)
    width, colour = settings.get("hidden_dim", 64), settings.get("hidden_dim_color", 64)
    low, high = t["field.aabb"]
    p = (x - low) / (high - low) if settings.get("disable_scene_contraction") else (contracted(x) + 2) / 4
    is_inside = bool(((p > 0) & (p < 1)).all())
    grid = grid_of(shape["levels"], base, shape["finest"], shape["log2_size"])
    length = network_length(shape["levels"] * features, width, 1, 16)
    params = t["field.mlp_base.model.params"]
    encoding = grid_values(params[length:], grid, features, p * is_inside)
    raw = network_values(params[:length], encoding, width, 1, 16, padding=0)
    inputs = [tcnn_harmonics(*d), raw[1:]]
    if shape.get("appearance"):
        table = t["field.embedding_appearance.embedding.weight"]
        averages = settings.get("use_average_appearance_embedding", True) and "use_appearance_embedding" not in settings
        inputs.append(table.mean(0) * averages)
    logits = network_values(t["field.mlp_head.tcnn_encoding.params"], np.concatenate(inputs), colour, 2, 3, padding=1)
    density = raw[0] + math.log(settings.get("average_init_density", 1.0))
    return (density if is_inside else -40.0), 1 / (1 + np.exp(-logits))


def contracted(x: np.ndarray) -> np.ndarray:
    reach = np.abs(x).max()
    return x if reach < 1 else (2 - 1 / reach) * x / reach


def proposal_value(tensors: dict, settings: dict, shape: dict, i: int, x: np.ndarray) -> float:
    """Density of proposal network i; its point is contracted."""
    prefix, of, network = f"proposal_networks.{i}.", shape["proposals"][i], settings["proposal_net_args_list"][i]
    t = {key.removeprefix(prefix): value.double().numpy() for key, value in tensors.items()}
    grid = grid_of(of["levels"], 16, of["finest"], of["log2_size"])
    encoding = grid_values(t["encoding.tcnn_encoding.params"], grid, 2, (contracted(x) + 2) / 4)
    if network.get("use_linear"):
        raw = t["linear.weight"] @ encoding + t["linear.bias"]
    else:
        raw = network_values(t["mlp_base.1.tcnn_encoding.params"], encoding, network["hidden_dim"], 1, 1, padding=1)
    return settings.get("average_init_density", 1.0) * math.exp(raw[0])
