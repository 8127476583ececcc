"""A nerfstudio run directory, read without executing anything in it.

    run/config.yml                              YAML with Python tags, taken as plain data (scenes/nerfstudio_config.py)
    run/dataparser_transforms.json              world → model frame: x_model = scale · (transform @ [x_world; 1])
    run/nerfstudio_models/step-000029999.ckpt   torch zip, read with weights_only=True (scenes/nerfstudio_tensors.py)

What the field needs is checked for type, range, shape and NaN before anything is computed from it. nerfstudio 1.0 to 1.1.5:
nerfacto, depth-nerfacto and instant-ngp, of plain torch or of tiny-cuda-nn. The field itself is in scenes/nerfstudio.py.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ledvolume.errors import CheckpointError
from ledvolume.pose import Pose, Similarity, quaternion
from ledvolume.scenes.nerfstudio_config import MOST_CONFIG_BYTES, ModelConfig, model_config, plain_yaml
from ledvolume.scenes.nerfstudio_layout import TORCH, Layout
from ledvolume.scenes.nerfstudio_tensors import model_tensors


@dataclass(frozen=True)
class NerfstudioRun:
    """A checked run. `tensors`: float32 and int64, named as a checkpoint of plain torch names them, without `_model.`.

    `model_from_world` takes points of the photographs' own frame to the frame of the field.
    """

    method: str
    config: ModelConfig
    tensors: dict[str, torch.Tensor]
    model_from_world: Similarity
    step: int
    path: Path
    sha256: str
    layout: Layout = TORCH


def read_run(path: Path | str) -> NerfstudioRun:
    """The run at a directory, a config.yml or a .ckpt (config.yml beside it or one folder above); else the newest step."""
    config_path, checkpoint_path = run_files(Path(path))
    tree = plain_yaml(config_path)
    method, config = model_config(tree, config_path)
    step, named = read_tensors(checkpoint_path)
    layout, tensors = model_tensors(named, config, checkpoint_path)
    return NerfstudioRun(
        method,
        config,
        tensors,
        read_model_from_world(config_path.with_name("dataparser_transforms.json")),
        step,
        checkpoint_path,
        file_sha256(checkpoint_path),
        layout,
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


def file_sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
