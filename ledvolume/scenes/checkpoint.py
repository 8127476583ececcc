"""A nerfstudio run directory, read without executing anything in it.

    run/config.yml                              YAML with Python tags, taken as plain data
    run/dataparser_transforms.json              world → model frame: x_model = scale · (transform @ [x_world; 1])
    run/nerfstudio_models/step-000029999.ckpt   torch zip, read with weights_only=True

nerfstudio itself reads config.yml with an unsafe loader: a run from a stranger runs the stranger's code. Here tags are
never resolved, and what the field needs is checked for type, range, shape and NaN before anything is computed from it.
Layout: nerfstudio 1.0 to 1.1.5, nerfacto, implementation "torch". The field itself is in scenes/nerfstudio.py.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
import yaml
from msgspec import Meta

from ledvolume.errors import CheckpointError
from ledvolume.pose import Pose, Similarity, quaternion

MOST_CONFIG_BYTES = 1 << 20
MOST_LEVELS, MOST_LOG2_TABLE, MOST_WIDTH = 64, 26, 1024
GEOMETRY_FEATURES = 15  # nerfacto's field has 16 outputs: density and these

Count = Annotated[int, Meta(ge=1, le=1 << 16)]
Length = Annotated[float, Meta(gt=0)]


class ProposalConfig(msgspec.Struct, frozen=True):
    """One entry of `proposal_net_args_list`. Level count and table size are read from the tensors instead."""

    base_res: Count = 16
    features_per_level: Annotated[int, Meta(ge=1, le=8)] = 2
    use_linear: bool = False


class NerfactoConfig(msgspec.Struct, frozen=True):
    """What the tensors do not say. Names and defaults are nerfstudio's (`pipeline.model` in config.yml)."""

    near_plane: Length = 0.05
    far_plane: Length = 1000.0
    background_color: Literal["last_sample", "random", "black", "white"] = "last_sample"
    base_res: Count = 16
    features_per_level: Annotated[int, Meta(ge=1, le=8)] = 2
    num_proposal_samples_per_ray: tuple[Count, ...] = (256, 96)
    num_nerf_samples_per_ray: Count = 48
    num_proposal_iterations: Annotated[int, Meta(ge=0, le=8)] = 2
    use_same_proposal_network: bool = False
    proposal_net_args_list: tuple[ProposalConfig, ...] = (ProposalConfig(), ProposalConfig())
    proposal_initial_sampler: Literal["piecewise", "uniform"] = "piecewise"
    use_average_appearance_embedding: bool = True
    disable_scene_contraction: bool = False
    average_init_density: Length = 1.0  # absent before 1.0.3
    eval_num_rays_per_chunk: Annotated[int, Meta(ge=1)] = 32768

    def __post_init__(self):
        for key in ("near_plane", "far_plane", "average_init_density"):
            if not math.isfinite(getattr(self, key)):
                raise ValueError(f"{key} is {getattr(self, key)}, expected a finite number")
        if self.far_plane <= self.near_plane:
            raise ValueError(f"far_plane {self.far_plane} is not beyond near_plane {self.near_plane}")
        if len(self.num_proposal_samples_per_ray) < self.num_proposal_iterations or not self.proposal_net_args_list:
            raise ValueError(f"{self.num_proposal_iterations} proposal iterations need as many sample counts and a network")

    @property
    def proposal_networks(self) -> tuple[ProposalConfig, ...]:
        """One per network in the checkpoint; nerfstudio repeats the last entry of a list that is too short."""
        count = 1 if self.use_same_proposal_network else self.num_proposal_iterations
        entries = self.proposal_net_args_list
        return tuple(entries[min(i, len(entries) - 1)] for i in range(count))


@dataclass(frozen=True)
class NerfstudioRun:
    """A checked run. `tensors`: float32 and int64, named as in the checkpoint without `_model.`.

    `model_from_world` takes points of the photographs' own frame to the frame of the field.
    """

    method: str
    config: NerfactoConfig
    tensors: dict[str, torch.Tensor]
    model_from_world: Similarity
    step: int
    path: Path
    sha256: str


def read_run(path: Path | str) -> NerfstudioRun:
    """The run at a directory, a config.yml or a .ckpt (config.yml beside it or one folder above); else the newest step."""
    config_path, checkpoint_path = run_files(Path(path))
    tree = plain_yaml(config_path)
    method, config = nerfacto_config(tree, config_path)
    step, tensors = read_tensors(checkpoint_path)
    return NerfstudioRun(
        method,
        config,
        nerfacto_tensors(tensors, config, checkpoint_path),
        read_model_from_world(config_path.with_name("dataparser_transforms.json")),
        step,
        checkpoint_path,
        file_sha256(checkpoint_path),
    )


def run_files(path: Path) -> tuple[Path, Path]:
    """config.yml and the checkpoint that a path means."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory, expected a nerfstudio run (the folder with config.yml)")
    if path.suffix == ".ckpt":
        for folder in (path.parent, path.parent.parent):
            if (folder / "config.yml").is_file():
                return folder / "config.yml", path
        raise CheckpointError(f"{path}: no config.yml beside it or one folder above, expected the one of the run that made it")
    if path.is_file() and path.suffix not in (".yml", ".yaml"):
        raise CheckpointError(f"{path}: expected a nerfstudio run: its folder, its config.yml or one of its .ckpt files")
    folder = path if path.is_dir() else path.parent
    config_path = folder / "config.yml" if path.is_dir() else path
    if not config_path.is_file():
        raise CheckpointError(f"{config_path}: missing, expected nerfstudio's config.yml of the run")
    found = [p for pattern in ("nerfstudio_models/step-*.ckpt", "step-*.ckpt") for p in folder.glob(pattern)]
    steps = {int(m[1]): p for p in found if (m := re.fullmatch(r"step-(\d{1,18})\.ckpt", p.name))}
    if not steps:
        raise CheckpointError(f"{folder}: no checkpoint, expected nerfstudio_models/step-*.ckpt (was the training saved?)")
    return config_path, steps[max(steps)]


class PlainLoader(yaml.SafeLoader):
    """YAML whose Python tags are taken as the plain value under them; a `python/name` as the name it says."""


def _plain(loader: PlainLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return tag.partition(":")[2] if tag.startswith("name:") else loader.construct_scalar(node)


PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def plain_yaml(path: Path) -> dict[str, Any]:
    """config.yml as dicts, lists and scalars; no object of it is built, no name of it imported."""
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, expected at most {MOST_CONFIG_BYTES}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not YAML that nerfstudio writes: {type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: expected a mapping with method_name and pipeline, got {type(tree).__name__}")
    return tree


def nerfacto_config(tree: dict[str, Any], path: Path) -> tuple[str, NerfactoConfig]:
    """Method name and checked model settings."""
    method = tree.get("method_name")
    pipeline = tree.get("pipeline")
    model = pipeline.get("model") if isinstance(pipeline, dict) else None
    if not isinstance(method, str) or not isinstance(model, dict):
        raise CheckpointError(
            f"{path}: method_name and pipeline.model: expected text and a mapping, got {method!r} and {type(model).__name__}"
        )
    kind = str(model.get("_target", "")).rpartition(".")[2]
    if kind not in ("NerfactoModel", "DepthNerfactoModel"):
        hint = " (splats have no density to bake: train nerfacto on the same photographs)" if kind == "SplatfactoModel" else ""
        raise CheckpointError(
            f"{path}: method_name: {method!r} with model {kind or 'unknown'!r} is not supported, expected nerfacto{hint}"
        )
    try:
        return method, msgspec.convert({k: v for k, v in model.items() if isinstance(k, str)}, NerfactoConfig)
    except (msgspec.ValidationError, RecursionError) as error:
        raise CheckpointError(f"{path}: pipeline.model: {error}") from None


def read_model_from_world(path: Path) -> Similarity:
    """dataparser_transforms.json: a rigid 3x4 `transform`, then `scale`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, expected the transform of the run (nerfstudio writes it when training starts)")
    try:
        tree = json.loads(path.read_bytes()[:MOST_CONFIG_BYTES])
        transform, scale = np.asarray(tree["transform"], np.float64), float(tree["scale"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected transform (3x4) and scale, got {type(error).__name__}: {error}") from None
    if transform.shape != (3, 4) or not np.isfinite(transform).all() or not 0 < scale < math.inf:
        raise CheckpointError(f"{path}: expected a finite 3x4 transform and scale > 0, got {transform.shape} and {scale}")
    rotation = transform[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise CheckpointError(f"{path}: transform: expected a rotation and a translation, got {rotation.tolist()}")
    return Similarity(Pose(tuple(map(float, quaternion(rotation))), tuple((scale * transform[:, 3]).tolist())), scale)


def read_tensors(path: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """Step and the model's tensors, memory-mapped; names without `_model.` (and DDP's `module.`)."""
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            tree = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the damage or the attack leads to
        told = str(error).split("\n")[0][:200]
        unsafe = "Weights only load failed" in str(error) or "Unsupported" in str(error)
        why = "holds objects other than tensors and numbers, and is not opened" if unsafe else "cannot be read"
        raise CheckpointError(f"{path}: {why}: {type(error).__name__}: {told}") from None
    pipeline = tree.get("pipeline") if isinstance(tree, dict) else None
    if not isinstance(pipeline, dict):
        raise CheckpointError(f"{path}: pipeline: expected a dict of tensors, got {type(pipeline).__name__}")
    named = {k: v for k, v in pipeline.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    tensors = {k.removeprefix("_model.").removeprefix("module."): v for k, v in named.items() if k.startswith("_model.")}
    step = tree.get("step", 0)
    return step if isinstance(step, int) else 0, tensors


def _numpy_scalars() -> list:
    """What a learning-rate scheduler's np.float64 is pickled with, by numpy 1 and 2; torch refuses them by default."""
    scalar = np._core.multiarray.scalar if hasattr(np, "_core") else np.core.multiarray.scalar
    dtypes = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *dtypes]


def nerfacto_tensors(tensors: dict[str, torch.Tensor], config: NerfactoConfig, path: Path) -> dict[str, torch.Tensor]:
    """The tensors that rendering needs, each with the shape that the others ask for, finite, copied from the file."""
    if any("tcnn_encoding" in key or key.endswith(("mlp_base.params", "model.params")) for key in tensors):
        raise CheckpointError(
            f"{path}: field.mlp_base: tiny-cuda-nn layout is not yet supported: "
            "retrain with --pipeline.model.implementation torch"
        )
    reader = _TensorReader(tensors, path)
    reader.box("field.aabb")
    features = reader.hash_grid("field.", "mlp_base.model.0.hash_table", config.features_per_level)
    hidden = reader.width("field.mlp_base.model.1.layers.0.bias")
    reader.linear("field.mlp_base.model.1.layers.0", hidden, features)
    reader.linear("field.mlp_base.model.1.layers.1", 1 + GEOMETRY_FEATURES, hidden)
    appearance = 0
    if "field.embedding_appearance.embedding.weight" in tensors:
        appearance = reader.width("field.embedding_appearance.embedding.weight", axis=1)
        reader.take("field.embedding_appearance.embedding.weight", (None, appearance))
    hidden = reader.width("field.mlp_head.layers.0.bias")
    reader.linear("field.mlp_head.layers.0", hidden, 16 + GEOMETRY_FEATURES + appearance)
    reader.linear("field.mlp_head.layers.1", hidden, hidden)
    reader.linear("field.mlp_head.layers.2", 3, hidden)
    for i, network in enumerate(config.proposal_networks):
        prefix = f"proposal_networks.{i}."
        reader.box(prefix + "aabb")
        features = reader.hash_grid(prefix, "encoding.hash_table", network.features_per_level)
        if network.use_linear:
            reader.linear(prefix + "linear", 1, features)
        else:
            hidden = reader.width(prefix + "mlp_base.1.layers.0.bias")
            reader.linear(prefix + "mlp_base.1.layers.0", hidden, features)
            reader.linear(prefix + "mlp_base.1.layers.1", 1, hidden)
    return reader.taken


class _TensorReader:
    """Collects checked tensors of one checkpoint in `taken`."""

    def __init__(self, tensors: dict[str, torch.Tensor], path: Path):
        self.tensors, self.path, self.taken = tensors, path, {}

    def fail(self, key: str, expected: str, got: object) -> CheckpointError:
        return CheckpointError(f"{self.path}: {key}: expected {expected}, got {got}")

    def find(self, key: str) -> torch.Tensor:
        if key not in self.tensors:
            raise self.fail(key, "a tensor", "nothing (another nerfstudio version, or not a nerfacto?)")
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

    def linear(self, key: str, outputs: int, inputs: int) -> None:
        self.take(key + ".weight", (outputs, inputs))
        self.take(key + ".bias", (outputs,))

    def width(self, key: str, axis: int = 0) -> int:
        shape = self.find(key).shape
        if not len(shape) > axis or not 1 <= shape[axis] <= MOST_WIDTH:
            raise self.fail(key, f"a layer of 1 to {MOST_WIDTH}", tuple(shape))
        return shape[axis]

    def integer(self, key: str, low: int, high: int) -> int:
        tensor = self.find(key)
        if tensor.numel() != 1 or tensor.is_floating_point() or not low <= int(tensor) <= high:
            got = tensor.tolist() if tensor.numel() < 8 else tuple(tensor.shape)
            raise self.fail(key, f"an integer from {low} to {high}", got)
        self.taken[key] = tensor.reshape(()).to(torch.int64, copy=True)
        return int(tensor)

    def hash_grid(self, prefix: str, table: str, features: int) -> int:
        """Takes the grid and returns the length of its encoding."""
        levels = self.integer(prefix + "num_levels", 1, MOST_LEVELS)
        log2_size = self.integer(prefix + "log2_hashmap_size", 1, MOST_LOG2_TABLE)
        self.integer(prefix + "max_res", 1, 1 << 20)
        self.take(prefix + table, (levels << log2_size, features))
        return levels * features


def file_sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
