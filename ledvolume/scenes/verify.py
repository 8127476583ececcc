"""How true a baked place is: LED pixel by LED pixel, from eyes that the bake has not seen, against the exact field.

The truth of a pixel: the field integrated along the ray until it converges (nerfstudio_rays.converged_render), averaged in
linear light over across² rays through the pixel. PSNR is of display-encoded values, peak 1, over all pixels of one eye.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from ledvolume.colour import linear_from_srgb, psnr_db, srgb_from_linear
from ledvolume.scenes.bake_view import View
from ledvolume.scenes.nerfstudio import NerfactoField, tensor
from ledvolume.scenes.nerfstudio_rays import converged_render, nerfstudio_render

See = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""origins (n, 3), directions (n, 3), spreads (n,) of the field → colours (n, 3) as the bake shows them."""

TRUTH_SAMPLES = 512  # 67 dB from converged on the door of Lund
HELD_OUT_SEED = 7919


class Truth(msgspec.Struct, frozen=True):
    """Pixels of held-out eyes: centre rays (e, n, …), what they should show (e, n, 3), what the exact centre ray shows."""

    origins: np.ndarray
    directions: np.ndarray
    spreads: np.ndarray
    pixels: np.ndarray
    centre_rays: np.ndarray


class Fidelity(msgspec.Struct, frozen=True):
    """PSNR in dB: over all eyes, and of the worst eye."""

    mean_db: float
    worst_db: float
    eyes_db: list[float]


def held_out(
    field: NerfactoField, view: View, eyes: int, pixels: int, across: int, progress: Callable[[str, float], None]
) -> Truth:
    """The truth for `pixels` random pixels from each of `eyes` random eyes of the zone."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    rows = []
    for number, eye in enumerate(view.eyes(eyes, rng)):
        progress("truth", number / eyes)
        seed = int(rng.integers(1 << 30))
        origins, directions, _ = view.pixel_rays(eye, pixels, across, np.random.default_rng(seed))
        fine = converged_render(field, tensor(origins), tensor(directions), TRUTH_SAMPLES)["rgb"].numpy()
        mean = srgb_from_linear(linear_from_srgb(fine).reshape(pixels, across**2, 3).mean(1))
        rays = view.pixel_rays(eye, pixels, 1, np.random.default_rng(seed))
        centre = fine.reshape(pixels, across**2, 3)[:, across**2 // 2]
        rows.append((*rays, mean, centre))
    return Truth(*(np.stack(column).astype(np.float32) for column in zip(*rows)))


def fidelity(truth: Truth, see: See) -> Fidelity:
    """How near the bake comes to the truth."""
    eyes_db = []
    for origins, directions, spreads, pixels in zip(truth.origins, truth.directions, truth.spreads, truth.pixels):
        eyes_db.append(psnr_db(see(origins, directions, spreads), pixels))
    return Fidelity(_mean_db(eyes_db), min(eyes_db), [round(v, 2) for v in eyes_db])


def sampler_db(field: NerfactoField, truth: Truth) -> float:
    """nerfstudio's own sampler against the converged render of the same rays, mean over the eyes."""
    values = []
    for origins, directions, centre in zip(truth.origins, truth.directions, truth.centre_rays):
        values.append(psnr_db(nerfstudio_render(field, tensor(origins), tensor(directions))["rgb"].numpy(), centre))
    return _mean_db(values)


def _mean_db(values: list[float]) -> float:
    return float(np.mean(values))
