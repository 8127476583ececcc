"""Trains a nerfacto with the settings of an earlier run's config.yml, and leaves a render-only run. Runs in .venv-train.

    python script/train_nerfacto.py CONFIG CAPTURE OUTPUT [--scale 0.5] [--iterations N] [--reference-views 4]

CONFIG   config.yml of a nerfacto run; read as plain data, nothing in it is executed
CAPTURE  a folder with transforms.json (OpenGL camera axes) and its images; --scale shrinks a copy of them first
OUTPUT   becomes a run: config.yml, dataparser_transforms.json, nerfstudio_models/step-*.ckpt without optimizer, scheduler
         and LPIPS; with --reference-views also reference_renders.npz, nerfstudio's own renders of training cameras

One process, nerfstudio's own trainer, model, sampler and optimizers; on the CPU with one thread twice the same to the bit.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ledvolume.scenes import nerfstudio_shim
from ledvolume.scenes.checkpoint import model_config, plain_yaml, read_run, read_tensors

nerfstudio_shim.prepare()

from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig  # noqa: E402
from nerfstudio.configs.base_config import LocalWriterConfig, LoggingConfig, MachineConfig  # noqa: E402
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig  # noqa: E402
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig  # noqa: E402
from nerfstudio.engine.optimizers import AdamOptimizerConfig  # noqa: E402
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig  # noqa: E402
from nerfstudio.engine.trainer import Trainer, TrainerConfig  # noqa: E402
from nerfstudio.models.nerfacto import NerfactoModelConfig  # noqa: E402
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig  # noqa: E402

NEVER = 10**9


def scaled_capture(capture: Path, into: Path, scale: float) -> Path:
    """A copy with images and intrinsics `scale` times as large; lens distortion does not depend on the size."""
    transforms = json.loads((capture / "transforms.json").read_text())
    for frame in transforms["frames"]:
        source = capture / frame["file_path"]
        with Image.open(source) as image:
            width, height = (round(n * scale) for n in image.size)
            ratio = {"fl_x": width / image.width, "fl_y": height / image.height}
            smaller = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        (into / frame["file_path"]).parent.mkdir(parents=True, exist_ok=True)
        frame["file_path"] = str(Path(frame["file_path"]).with_suffix(".png"))
        smaller.save(into / frame["file_path"])
        intrinsics = {k: frame.get(k, transforms.get(k)) for k in ("fl_x", "fl_y", "cx", "cy")}
        for key, value in intrinsics.items():
            if value is not None:
                frame[key] = value * ratio["fl_y" if key in ("fl_y", "cy") else "fl_x"]
        frame |= {"w": width, "h": height}
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        transforms.pop(key, None)
    (into / "transforms.json").write_text(json.dumps(transforms, indent=1))
    return into


def configured(kind: type, tree: dict, **given):
    """A nerfstudio config dataclass with the tree's plain values for its own plain fields."""
    names = {f.name for f in dataclasses.fields(kind)} - {"_target", "camera_optimizer", "optimizer", "scheduler"}
    plain = {k: v for k, v in tree.items() if k in names and k not in given and not isinstance(v, dict)}
    return kind(
        **{k: tuple(v) if isinstance(v, list) and k != "proposal_net_args_list" else v for k, v in plain.items()}, **given
    )


def trainer_config(tree: dict, name: str, capture: Path, output: Path, iterations: int | None) -> TrainerConfig:
    """nerfstudio's configuration of the same training on another capture."""
    manager, model = tree["pipeline"]["datamanager"], tree["pipeline"]["model"]
    parser = configured(NerfstudioDataParserConfig, manager["dataparser"], data=capture)
    given = {"_target", "dataparser", "data", "pixel_sampler", "collate_fn", "camera_optimizer"}
    sampling = {k: v for k, v in manager.items() if k not in given}
    groups = {
        name: {
            "optimizer": configured(AdamOptimizerConfig, group["optimizer"]),
            "scheduler": configured(ExponentialDecaySchedulerConfig, group["scheduler"]) if group["scheduler"] else None,
        }
        for name, group in tree["optimizers"].items()
    }
    return TrainerConfig(
        method_name=tree["method_name"],
        experiment_name=name,
        timestamp="run",
        output_dir=output,
        data=capture,
        max_num_iterations=iterations or tree["max_num_iterations"],
        steps_per_save=NEVER,
        steps_per_eval_batch=NEVER,
        steps_per_eval_image=NEVER,
        steps_per_eval_all_images=NEVER,
        mixed_precision=False,
        vis="tensorboard",
        machine=MachineConfig(seed=tree["machine"]["seed"], device_type="cuda" if torch.cuda.is_available() else "cpu"),
        logging=LoggingConfig(local_writer=LocalWriterConfig(enable=False), steps_per_log=50),
        optimizers=groups,
        pipeline=VanillaPipelineConfig(
            datamanager=configured(VanillaDataManagerConfig, sampling, dataparser=parser, data=capture),
            model=configured(
                NerfactoModelConfig, model, camera_optimizer=CameraOptimizerConfig(mode=model["camera_optimizer"]["mode"])
            ),
        ),
    )


def trained(config: TrainerConfig) -> Trainer:
    """A trainer that has saved its last step."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(config.machine.seed)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.train()
    return trainer


def save_render_only(run: Path, output: Path) -> None:
    """The run as `output`, its checkpoint with the model's own tensors only."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.yml", "dataparser_transforms.json"):
        shutil.copy(run / name, output / name)
    checkpoint = max((run / "nerfstudio_models").glob("step-*.ckpt"))
    step, tensors = read_tensors(checkpoint)
    kept = {f"_model.{k}": v for k, v in tensors.items() if not k.startswith("lpips.")}
    (output / "nerfstudio_models").mkdir(exist_ok=True)
    torch.save({"step": step, "pipeline": kept}, output / "nerfstudio_models" / checkpoint.name)


@torch.no_grad()
def save_reference_renders(trainer: Trainer, file: Path, count: int) -> None:
    """nerfstudio's own pictures from `count` training cameras, with the cameras in the model frame."""
    model = trainer.pipeline.model.eval()
    model.proposal_sampler.set_anneal(1.0)  # as in a loaded run; short trainings end before they are there
    cameras = trainer.pipeline.datamanager.train_dataset.cameras.to(model.device)
    arrays = {}
    for i, number in enumerate(np.linspace(0, len(cameras) - 1, count).round().astype(int).tolist()):
        camera = cameras[number : number + 1]
        seen = model.get_outputs_for_camera(camera)
        for key in ("rgb", "depth", "accumulation", "expected_depth"):
            arrays[f"{key}_{i}"] = seen[key].cpu().numpy()
        arrays[f"c2w_{i}"] = camera.camera_to_worlds[0].cpu().numpy()
        k = [float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy", "width", "height")]
        arrays[f"K_{i}"] = np.array(k)
    np.savez_compressed(file, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("capture", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of the images, 1")
    parser.add_argument("--iterations", type=int, help="as in CONFIG")
    parser.add_argument("--reference-views", type=int, default=0, help="0")
    arguments = parser.parse_args()
    tree = plain_yaml(arguments.config)
    model_config(tree, arguments.config)
    output = arguments.output.resolve()
    capture = arguments.capture.resolve()
    with tempfile.TemporaryDirectory() as folder:
        # config.yml records these paths: relative ones say nothing of this machine.
        os.chdir(folder)
        data = Path("data")
        if arguments.scale == 1:
            data.symlink_to(capture)
        else:
            scaled_capture(capture, data, arguments.scale)
        config = trainer_config(tree, output.name, data, Path("outputs"), arguments.iterations)
        trainer = trained(config)
        save_render_only(config.get_base_dir(), output)
        if arguments.reference_views:
            save_reference_renders(trainer, output / "reference_renders.npz", arguments.reference_views)
        measured = trainer.pipeline.get_average_eval_image_metrics()
    run = read_run(output)
    print(f"{run.path}: step {run.step}, held-out views {measured['psnr']:.1f} dB, SSIM {measured['ssim']:.3f}")


if __name__ == "__main__":
    main()
