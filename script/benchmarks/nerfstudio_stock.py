"""Renders rays with nerfstudio's own model of a nerfacto run, and says how fast. Runs in .venv-train, as a process.

    python nerfstudio_stock.py RUN RAYS.npz [--threads 1,2] [--chunks config,1024] [--repeats 2] [--save RGB.npy]

RUN is a directory with config.yml and nerfstudio_models/*.ckpt. RAYS.npz has `origins` and `directions`, (N, 3), in the
run's own frame. Prints one JSON object; `best` is the fastest of all threads and chunks tried.

The model is built from its config by nerfstudio's own classes and rendered by its `get_outputs_for_camera_ray_bundle`.
`eval_setup` is not used: it runs code from config.yml and wants the photographs.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from ledvolume.scenes import nerfstudio_shim
from ledvolume.scenes.checkpoint import plain_yaml, read_tensors, run_files

nerfstudio_shim.prepare()

from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig  # noqa: E402
from nerfstudio.cameras.rays import RayBundle  # noqa: E402
from nerfstudio.data.scene_box import SceneBox  # noqa: E402
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig  # noqa: E402


def stock_nerfacto(run: Path) -> NerfactoModel:
    """nerfstudio's model of a run, in evaluation mode, on the CPU."""
    config, checkpoint = run_files(run)
    settings = plain_yaml(config)["pipeline"]["model"]
    known = {k: v for k, v in settings.items() if k in NerfactoModelConfig.__dataclass_fields__ and k != "_target"}
    known["camera_optimizer"] = CameraOptimizerConfig(mode=settings["camera_optimizer"]["mode"])
    _, state = read_tensors(checkpoint)
    photographs = len(state["field.embedding_appearance.embedding.weight"])

    model = NerfactoModelConfig(**known).setup(
        scene_box=SceneBox(aabb=state["field.aabb"]), num_train_data=photographs, metadata={}, device="cpu"
    )
    missing, unexpected = model.load_state_dict(state, strict=False)
    lost = [name for name in missing if not name.startswith("lpips.")]
    if lost or unexpected:
        raise SystemExit(f"{checkpoint}: not the model of its config.yml: missing {lost}, unexpected {unexpected}")
    return model.eval()


def ray_bundle(origins: np.ndarray, directions: np.ndarray) -> RayBundle:
    """(N, 3) rays as one row of an image, for nerfstudio."""
    column = torch.ones(len(origins), 1)
    return RayBundle(
        origins=torch.from_numpy(origins).float()[None],
        directions=torch.nn.functional.normalize(torch.from_numpy(directions).float(), dim=-1)[None],
        pixel_area=column[None],
        camera_indices=torch.zeros_like(column, dtype=torch.long)[None],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("rays", type=Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--chunks", default="config,1024")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()

    model = stock_nerfacto(arguments.run)
    rays = np.load(arguments.rays)
    bundle = ray_bundle(rays["origins"], rays["directions"])
    own_chunk = model.config.eval_num_rays_per_chunk
    tried = []
    for threads in map(int, arguments.threads.split(",")):
        torch.set_num_threads(threads)
        for chunk in dict.fromkeys(own_chunk if c == "config" else int(c) for c in arguments.chunks.split(",")):
            model.config.eval_num_rays_per_chunk = chunk
            seconds = []
            for _ in range(arguments.repeats):
                started = time.perf_counter()
                rgb = model.get_outputs_for_camera_ray_bundle(bundle)["rgb"]
                seconds.append(time.perf_counter() - started)
            best_s = min(seconds)
            tried.append({"rays_per_s": len(bundle) / best_s, "seconds": best_s, "threads": threads, "chunk": chunk})
    if arguments.save:
        np.save(arguments.save, rgb[0].numpy())
    print(json.dumps({"n_rays": len(bundle), "best": max(tried, key=lambda t: t["rays_per_s"]), "tried": tried}))


if __name__ == "__main__":
    main()
