"""The tensors of a checkpoint that rendering needs, each with the shape that the others ask for, finite, under one set of names.

The names and shapes are those of nerfstudio 1.0 to 1.1.5, implementation "torch"; flat vectors of tiny-cuda-nn are taken apart
into them (scenes/nerfstudio_layout.py), their padding folded into biases and their harmonics' signs into the colour network.
"""

from pathlib import Path

import torch

from ledvolume.errors import CheckpointError
from ledvolume.scenes.nerfstudio_config import MOST_WIDTH, InstantNgpConfig, ModelConfig
from ledvolume.scenes.nerfstudio_layout import ODD_HARMONICS, TINY_CUDA_NN, TORCH, Layout, Level, packed_lengths, unpacked

MOST_LEVELS, MOST_LOG2_TABLE, MOST_CELLS, MOST_STEPS = 64, 26, 1 << 27, 100_000
GEOMETRY_FEATURES = 15  # nerfacto's field has 16 outputs: density and these
HARMONICS = 16
APPEARANCE = "field.embedding_appearance.embedding.weight"
OLD_KEYS = ("field.mlp_base_grid.", "field.mlp_base.params", "field.mlp_head.params")  # before 1.0

Tensors = dict[str, torch.Tensor]


def model_tensors(tensors: Tensors, config: ModelConfig, path: Path) -> tuple[Layout, Tensors]:
    """Layout and checked copies. What was trained and is not asked for at inference is left out."""
    reader = _TensorReader(tensors, path)
    if any(key.startswith(OLD_KEYS) for key in tensors):
        raise reader.fail("field.mlp_base", "the layout of nerfstudio 1.0 to 1.1.5", "one of before 1.0: train it anew")
    is_packed = any(key.startswith("field.") and key.endswith(".params") for key in tensors)
    reader.box("field.aabb")
    (_take_packed if is_packed else _take_torch)(reader, config)
    if isinstance(config, InstantNgpConfig):
        _take_occupancy(reader, config)
    return (TINY_CUDA_NN if is_packed else TORCH), reader.taken


def _take_torch(reader: "_TensorReader", config: ModelConfig) -> None:
    def grid(prefix: str, key: str, base_res: int, features: int) -> int:
        levels = reader.levels(TORCH, prefix, base_res)
        reader.take(prefix + key, (levels[-1].first + levels[-1].entries, features))
        return len(levels) * features

    def layers(key: str, inputs: int, count: int, outputs: int) -> None:
        hidden = reader.width(f"{key}.0.bias")
        widths = [inputs, *[hidden] * (count - 1), outputs]
        for i in range(count):
            reader.linear(f"{key}.{i}", widths[i + 1], widths[i])

    features = grid("field.", "mlp_base.model.0.hash_table", config.base_res, config.features_per_level)
    layers("field.mlp_base.model.1.layers", features, 2, 1 + GEOMETRY_FEATURES)
    layers("field.mlp_head.layers", HARMONICS + GEOMETRY_FEATURES + reader.appearance(), 3, 3)
    for i, network in enumerate(config.proposal_networks):
        prefix = f"proposal_networks.{i}."
        reader.box(prefix + "aabb")
        features = grid(prefix, "encoding.hash_table", network.base_res, network.features_per_level)
        if network.use_linear:
            reader.linear(prefix + "linear", 1, features)
        else:
            layers(prefix + "mlp_base.1.layers", features, 2, 1)


def _take_packed(reader: "_TensorReader", config: ModelConfig) -> None:
    def layers(key: str, params: torch.Tensor, widths: list[int], padding: float) -> None:
        for i, (weight, bias) in enumerate(unpacked(params, widths, padding)):
            reader.taken |= {f"{key}.{i}.weight": weight, f"{key}.{i}.bias": bias}

    levels = reader.levels(TINY_CUDA_NN, "field.", config.base_res)
    rows = levels[-1].first + levels[-1].entries
    widths = [len(levels) * config.features_per_level, config.hidden_dim, 1 + GEOMETRY_FEATURES]
    table = rows * config.features_per_level
    params = reader.vector(
        "field.mlp_base.model.params",
        [length + table for length in packed_lengths(widths)],
        f"{len(levels)} levels of {config.features_per_level} features and hidden_dim {config.hidden_dim}",
    )
    layers("field.mlp_base.model.1.layers", params[:-table], widths, 0.0)
    reader.taken["field.mlp_base.model.0.hash_table"] = params[-table:].view(rows, -1).clone()
    widths = [HARMONICS + GEOMETRY_FEATURES + reader.appearance(), config.hidden_dim_color, config.hidden_dim_color, 3]
    said = f"hidden_dim_color {config.hidden_dim_color}"
    params = reader.vector("field.mlp_head.tcnn_encoding.params", packed_lengths(widths), said)
    layers("field.mlp_head.layers", params, widths, 1.0)
    reader.taken["field.mlp_head.layers.0.weight"][:, ODD_HARMONICS] *= -1
    for i, network in enumerate(config.proposal_networks):
        prefix = f"proposal_networks.{i}."
        reader.box(prefix + "aabb")
        levels = reader.levels(TINY_CUDA_NN, prefix, network.base_res)
        rows, features = levels[-1].first + levels[-1].entries, network.features_per_level
        said = f"{len(levels)} levels of {features} features"
        params = reader.vector(prefix + "encoding.tcnn_encoding.params", [rows * features], said)
        reader.taken[prefix + "encoding.hash_table"] = params.view(rows, features)
        if network.use_linear:
            reader.linear(prefix + "linear", 1, len(levels) * features)
        else:
            widths = [len(levels) * features, network.hidden_dim, 1]
            said = f"hidden_dim {network.hidden_dim}"
            params = reader.vector(prefix + "mlp_base.1.tcnn_encoding.params", packed_lengths(widths), said)
            layers(prefix + "mlp_base.1.layers", params, widths, 1.0)


def _take_occupancy(reader: "_TensorReader", config: InstantNgpConfig) -> None:
    """instant-ngp's grid of cells, coarser boxes around finer ones: outside of an occupied cell nothing is shown."""
    key = "occupancy_grid.binaries"
    cells = reader.find(key)
    if cells.dtype != torch.bool or cells.ndim != 4 or not cells.is_contiguous() or not 0 < cells.numel() <= MOST_CELLS:
        raise reader.fail(key, f"levels×x×y×z booleans, at most {MOST_CELLS}", f"{tuple(cells.shape)} {cells.dtype}")
    if not cells.any():
        raise reader.fail(key, "an occupied cell", "none (was it trained at all?)")
    reader.taken[key] = cells.clone()
    low, high = reader.take("occupancy_grid.aabbs", (len(cells), 6)).view(-1, 2, 3).unbind(1)
    if not (high > low).all() or (low.diff(dim=0) > 0).any() or (high.diff(dim=0) < 0).any():
        raise reader.fail("occupancy_grid.aabbs", "boxes of a positive size, each within the next", low.tolist())
    scene = reader.take("scene_aabb", (6,))
    diagonal = float((scene[3:] - scene[:3]).norm())
    if not diagonal > 0:
        raise reader.fail("scene_aabb", "a box with a positive size", scene.tolist())
    across = float((high[-1] - low[-1]).norm())
    if config.render_step_size is not None and config.render_step_size * MOST_STEPS < across:
        said = f"a render_step_size of more than {across / MOST_STEPS:.3g}, for at most {MOST_STEPS} steps a ray"
        raise reader.fail("pipeline.model", said, config.render_step_size)


class _TensorReader:
    """Collects checked tensors of one checkpoint in `taken`."""

    def __init__(self, tensors: dict[str, torch.Tensor], path: Path):
        self.tensors, self.path, self.taken = tensors, path, {}

    def fail(self, key: str, expected: str, got: object) -> CheckpointError:
        return CheckpointError(f"{self.path}: {key}: expected {expected}, got {got}")

    def find(self, key: str) -> torch.Tensor:
        if key not in self.tensors:
            raise self.fail(key, "a tensor", "nothing (another nerfstudio version, or not the model of config.yml?)")
        return self.tensors[key]

    def take(self, key: str, shape: tuple[int | None, ...]) -> torch.Tensor:
        """None in `shape` is any length of at least one. Contiguous: no small storage that poses as a huge tensor."""
        tensor = self.find(key)
        fits = tensor.ndim == len(shape) and all(n == m or (m is None and n > 0) for n, m in zip(tensor.shape, shape))
        if not fits or not tensor.is_floating_point() or not tensor.is_contiguous():
            said = f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "")
            raise self.fail(key, f"{'×'.join('n' if n is None else str(n) for n in shape)} floats", said)
        if not torch.isfinite(tensor).all():
            raise self.fail(key, "finite numbers", f"{int((~torch.isfinite(tensor)).sum())} NaN or Inf (a diverged training?)")
        self.taken[key] = tensor.to(torch.float32, copy=True)
        return self.taken[key]

    def box(self, key: str) -> None:
        low, high = self.take(key, (2, 3))
        if not (high > low).all():
            raise self.fail(key, "a box with a positive size", torch.stack([low, high]).tolist())

    def vector(self, key: str, lengths: list[int], what: str) -> torch.Tensor:
        """A flat vector of tiny-cuda-nn, not kept in `taken`: the names and shapes there are torch's."""
        length = self.find(key).numel()
        if length not in lengths:
            raise self.fail(key, f"{' or '.join(f'{n}' for n in dict.fromkeys(lengths))} floats ({what})", length)
        vector = self.take(key, (length,))
        del self.taken[key]
        return vector

    def linear(self, key: str, outputs: int, inputs: int) -> None:
        self.take(key + ".weight", (outputs, inputs))
        self.take(key + ".bias", (outputs,))

    def width(self, key: str, axis: int = 0) -> int:
        shape = self.find(key).shape
        if not len(shape) > axis or not 1 <= shape[axis] <= MOST_WIDTH:
            raise self.fail(key, f"a layer of 1 to {MOST_WIDTH}", tuple(shape))
        return shape[axis]

    def appearance(self) -> int:
        """Takes the vectors of the photographs' appearance, where there are any, and returns their length."""
        if APPEARANCE not in self.tensors:
            return 0
        self.take(APPEARANCE, (None, self.width(APPEARANCE, axis=1)))
        return self.taken[APPEARANCE].shape[1]

    def integer(self, key: str, low: int, high: int) -> int:
        tensor = self.find(key)
        if tensor.numel() != 1 or tensor.is_floating_point() or not low <= int(tensor) <= high:
            got = tensor.tolist() if tensor.numel() < 8 else tuple(tensor.shape)
            raise self.fail(key, f"an integer from {low} to {high}", got)
        self.taken[key] = tensor.reshape(()).to(torch.int64, copy=True)
        return int(tensor)

    def levels(self, layout: Layout, prefix: str, base_res: int) -> list[Level]:
        """Takes the three numbers of a grid."""
        count = self.integer(prefix + "num_levels", 1, MOST_LEVELS)
        log2_size = self.integer(prefix + "log2_hashmap_size", 1, MOST_LOG2_TABLE)
        return layout.levels(count, base_res, self.integer(prefix + "max_res", 1, 1 << 20), log2_size)
