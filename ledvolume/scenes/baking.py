"""One bake from checkpoint to verified scene file: reads, forecasts, bakes, looks through OpenGL, verifies, reports.

Where scenes/bake.py (torch) and render/ (OpenGL) meet. Everything measured goes into the report, a plain dict.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ledvolume.colour import linear_from_srgb, srgb_from_linear
from ledvolume.render.context import Context, create_context
from ledvolume.render.rays import RayViewer
from ledvolume.render.visibility import Visibility
from ledvolume.scenes import bake as making
from ledvolume.scenes import bricks as scene_file
from ledvolume.scenes import verify
from ledvolume.scenes.bake_view import View, sub_pixels, unit
from ledvolume.scenes.bricks import Bricks
from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.nerfstudio import NerfactoField, tensor
from ledvolume.scenes.nerfstudio_rays import converged_render

HELD_OUT = {"eyes": 8, "pixels": 1200, "across": 3}
PICTURE_PX = 384


class Stopwatch:
    """Seconds of each stage, for the report."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._since, 1)
        self._since = now


def bake(
    run_path: Path,
    view: View,
    out: Path,
    size_bytes: int,
    gradients: bool | None = None,
    credit: str = "",
    sizes: list[int] = (),
    picture: Path | None = None,
    progress: making.Progress = lambda stage, share: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Bake, write `out`, verify, and return the report. sizes: also measured, not written."""
    watch = Stopwatch()
    run = read_run(run_path)
    field = NerfactoField(run)
    context = create_context()
    say(f"{run.method}, step {run.step}; looking and verifying with {context.info['GL_RENDERER']}")
    options = making.Options(size_bytes=size_bytes, gradients=gradients)
    grown = grown_for(context, field, view, options, progress, say, watch)
    origin = making.Origin(run.method, run.sha256, credit)
    scene, counts = making.fit(field, grown, view, options, origin, progress)
    written = scene_file.save(out, scene)
    watch.lap("fit")
    truth = verify.held_out(field, view, **HELD_OUT, progress=progress)
    watch.lap("truth")

    def measured(scene: Bricks) -> dict:
        viewer = RayViewer(context, scene)
        found = verify.fidelity(truth, viewer.see)
        viewer.release()
        return {"mean_db": round(found.mean_db, 2), "worst_db": round(found.worst_db, 2), "eyes_db": found.eyes_db}

    report = {
        "source": run.method,
        "step": run.step,
        "sha256": run.sha256,
        "zone": [view.zone_min.tolist(), view.zone_max.tolist()],
        "bytes": written,
        "gpu_bytes": int(scene.bricks.nbytes + scene.gradients.size // 3 * 4 + scene.nodes.nbytes + scene.far.nbytes * 2),
        "bricks": len(scene.bricks),
        "bricks_by_level": counts,
        "voxel_over_footprint_finest": options.finest,
        "has_gradients": scene.has_gradients,
        "mean_colour_db": round(grown.mean_colour_db, 2),
        "fidelity": measured(scene) | HELD_OUT,
        "nerfstudio_sampler_db": round(verify.sampler_db(field, truth), 2),
        "exact_centre_ray_db": round(float(np.mean(exact_centre_db(truth))), 2),
        "sizes": [],
    }
    for size in sizes:
        other, _ = making.fit(field, grown, view, msgspec.structs.replace(options, size_bytes=size), origin, progress)
        size_found = {"bytes": scene_file.packed_bytes(other), "bricks": len(other.bricks)}
        report["sizes"].append(size_found | measured(other))
    watch.lap("verify")
    if picture:
        compare(field, view, RayViewer(context, scene), report, picture, progress)
        watch.lap("picture")
    report["seconds"] = watch.seconds
    return report


def grown_for(
    context: Context,
    field: NerfactoField,
    view: View,
    options: making.Options,
    progress: making.Progress = lambda stage, share: None,
    say: Callable[[str], None] = lambda line: None,
    watch: Stopwatch | None = None,
) -> making.Grown:
    """The part that takes the time: what scenes of any size are pruned from."""
    watch = watch or Stopwatch()

    def marks_of(scene: Bricks, tell: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        rng, count = np.random.default_rng(3), options.seeing_rays
        step = min(count, 100_000)
        visibility = Visibility(context, scene)
        for done in range(0, count, step):
            tell(done / count)
            visibility.look(*view.rays(step, rng))
        marks = visibility.marks()
        visibility.release()
        return marks

    samples = making.look(field, view, options, progress)
    watch.lap("look")
    say(forecast(samples, options, watch.seconds["look"]))
    grown = making.grow(field, view, samples, options, marks_of, progress)
    watch.lap("grow")
    return grown


def forecast(samples: making.Samples, options: making.Options, look_s: float) -> str:
    """What this bake will take, from how long looking took: measured on the door of Lund, ± a factor of 2."""
    first = options.rays * making.RAY_SAMPLES / max(look_s, 1e-3)
    footprints = len(np.unique((samples.x / samples.footprint[:, None] / 8).astype(np.int64), axis=0))
    evaluations = footprints * 1.5 * 729 * 1.4
    minutes = (evaluations / first * 2.5 + 150) / 60
    memory = footprints * 1.5 * 2916 * 4 / 1e9
    return f"forecast: about {minutes:.0f} min from here, {memory:.1f} GB of memory, {options.size_bytes / 1e6:.0f} MB on disk"


def exact_centre_db(truth: verify.Truth) -> list[float]:
    """What one exact ray through each pixel's middle would reach: the limit of a bake that does not filter."""
    return [verify.psnr_db(centre, pixels) for centre, pixels in zip(truth.centre_rays, truth.pixels)]


def compare(field: NerfactoField, view: View, viewer: RayViewer, report: dict, path: Path, progress: making.Progress) -> None:
    """Exact field (2 × 2 rays a pixel), the bake (one), and their difference × 8, seen from a held-out eye."""
    rng = np.random.default_rng(verify.HELD_OUT_SEED + 1)
    eye = view.eyes(1, rng)[0]
    _, aimed, _ = view.pixel_rays(eye, 4000, 1, rng)
    forward = unit(aimed.mean(0)) if np.linalg.norm(aimed.mean(0)) > 0.2 else np.array([0.0, 1.0, 0.0])
    right = unit(np.cross(forward, [0.0, 0.0, 1.0]))
    up = np.cross(right, forward)
    ahead = aimed[aimed @ forward > 0.3]
    half = min(1.2, float(np.quantile(np.abs(np.stack([ahead @ right, ahead @ up]) / (ahead @ forward)), 0.8)))
    pitch = 2 * half / PICTURE_PX
    column, row = np.meshgrid(np.arange(PICTURE_PX), np.arange(PICTURE_PX))
    centres = np.stack([column.ravel() + 0.5, row.ravel() + 0.5], -1)

    def directions(offsets: np.ndarray) -> np.ndarray:
        at = (centres[:, None] + offsets).reshape(-1, 2) * pitch - half
        return unit(forward + at[:, :1] * right - at[:, 1:] * up)

    fine, exact = directions(sub_pixels(2)), []
    for start in range(0, len(fine), 8192):
        progress("picture", start / len(fine))
        d = tensor(fine[start : start + 8192])
        exact.append(converged_render(field, tensor(eye).expand(len(d), 3), d, verify.TRUTH_SAMPLES)["rgb"].numpy())
    shape = (PICTURE_PX, PICTURE_PX, 3)
    truth = srgb_from_linear(linear_from_srgb(np.concatenate(exact)).reshape(-1, 4, 3).mean(1)).reshape(shape)
    middle = directions(np.zeros((1, 2)))
    baked = viewer.see(np.broadcast_to(eye, middle.shape), middle, np.full(len(middle), pitch / 2)).reshape(shape)
    difference = np.abs(truth - baked) * 8
    sheet = Image.new("RGB", (3 * PICTURE_PX + 40, PICTURE_PX + 50), (24, 24, 24))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    captions = (
        "exact field, converged",
        f"baked, {report['bytes'] / 1e6:.0f} MB: {verify.psnr_db(truth, baked):.1f} dB here",
        "difference, 8 times",
    )
    for number, (image, caption) in enumerate(zip((truth, baked, difference), captions)):
        x = 10 + number * (PICTURE_PX + 10)
        sheet.paste(Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8)), (x, 36))
        draw.text((x, 10), caption, (220, 220, 220), font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
