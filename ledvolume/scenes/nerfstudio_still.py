"""Stills of the exact field: the integral along each ray until it converges, as a bake is judged by (scenes/verify.py)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.nerfstudio import NerfactoField, tensor
from ledvolume.scenes.nerfstudio_rays import converged_render
from ledvolume.scenes.verify import TRUTH_SAMPLES

RAYS_AT_ONCE = 1 << 13  # a second or two of work between two words about progress


def exact_see(
    run_path: Path, near: float, samples: int = TRUTH_SAMPLES
) -> tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], str, str]:
    """What answers rays with display-encoded colours, the method of the run and its sha256. near: field units, along the ray."""
    run = read_run(run_path)
    field = NerfactoField(run)

    def see(origins: np.ndarray, directions: np.ndarray, spreads: np.ndarray) -> np.ndarray:
        return converged_render(field, tensor(origins + near * directions), tensor(directions), samples)["rgb"].numpy()

    return see, run.method, run.sha256
