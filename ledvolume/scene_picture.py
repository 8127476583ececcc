"""A baked scene as a page: the place all round, from eyes of its zone, in plan, what lies behind it, and its numbers.

Everything is in the field's own frame and units: X to the right and Y up the page in the plan, +Y in the middle of panoramas.
"""

from pathlib import Path

import numpy as np

from ledvolume.camera import Camera
from ledvolume.colour import srgb_from_linear
from ledvolume.errors import OutputError
from ledvolume.moves import looking_at
from ledvolume.render.context import create_context
from ledvolume.render.rays import RayViewer
from ledvolume.render.reference import far_colour
from ledvolume.scenes.bricks import Bricks
from ledvolume.scenes.mips import with_mips
from ledvolume.scenes.point_values import density_and_colour
from ledvolume.scenes.scene_facts import SceneFacts
from ledvolume.still import Still, light
from ledvolume.still_camera import lens_of_fov

INK, FAINT, QUIET, BLUE = "#22223b", "#d9d9e3", "#6c6c80", "#2e6fbb"
PANORAMA_PX, EYE_PX, PLAN_PX, PLAN_HEIGHTS = (900, 450), 260, 480, 7
WIDEST_TANGENT = 1.2
RAYS_AT_ONCE = 1 << 17


def save_scene_picture(file: Path, scene: Bricks, facts: SceneFacts) -> None:
    """Write it. Raises OutputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    viewer = RayViewer(create_context(), with_mips(scene))
    around, depths, directions = panorama(viewer, scene)
    forward, tangent, radius = outlook(depths, directions)
    figure = Figure(figsize=(16, 11), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(Path(facts.file).name, x=0.01, ha="left", fontsize=15, fontweight="bold", color=INK)
    round_about, from_eyes, below = figure.subfigures(3, 1, height_ratios=(1.25, 0.9, 1.6))
    left, right = round_about.subplots(1, 2)
    _panorama(left, around, "from the middle of the zone")
    behind = far_colour(scene, directions.reshape(-1, 3)).reshape(around.shape)
    _panorama(right, behind, "far field: what lies behind everything")
    named = eyes(scene)
    for axes, (name, eye) in zip(from_eyes.subplots(1, len(named)), named.items()):
        axes.imshow(seen_from(viewer, eye, forward, tangent))
        axes.set_axis_off()
        axes.set_title(f"{name}\n" + " ".join(f"{c:.3g}" for c in eye), fontsize=9, color=QUIET)
    viewer.release()
    from_above, voxels, words = below.subplots(1, 3, width_ratios=(1, 0.8, 1))
    _draw_plan(from_above, scene, radius)
    _draw_voxels(voxels, facts)
    words.set_axis_off()
    told = "\n".join(f"{name:14} {value[:54]}" for name, value in in_words(facts).items())
    words.text(0.02, 0.98, told, va="top", fontsize=9.5, family="monospace", color=INK, transform=words.transAxes)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot write the picture: {error}") from error


def in_words(facts: SceneFacts) -> dict[str, str]:
    """The facts as people read them, by name."""

    def box(corner: tuple[float, float, float]) -> str:
        return ", ".join(f"{c:.4g}" for c in corner)

    return {
        "size": f"{facts.bytes / 1e6:.1f} MB, {facts.gpu_bytes / 1e6:.0f} MB on the GPU",
        "sha256": f"{facts.sha256[:16]}…",
        "source": f"{facts.source}, sha256 {facts.source_sha256[:16]}…" if facts.source_sha256 else facts.source,
        "credit": facts.credit or "none",
        "zone": f"{box(facts.zone_min)} to {box(facts.zone_max)}",
        "pixel": f"{facts.pixel_deg:.3f}°",
        "cubes": f"{facts.cascades}, the outermost ±{facts.reach:.4g}",
        "bricks": f"{facts.bricks:,} and {facts.mips:,} mips",
        **{f"voxel {v.size:.3g}": f"{v.bricks:,} bricks, {v.pixels:.2g} pixels wide" for v in facts.voxels},
        "directions": "colour changes with direction" if facts.has_gradients else "one colour a point",
        "log density": f"{facts.log_density_range[0]:.2f} to {facts.log_density_range[1]:.2f}",
        "far": "{} x {}".format(*facts.far_px),
    }


def panorama(viewer: RayViewer, scene: Bricks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All round from the middle of the zone: colours (h, w, 3), depths (h, w) and directions (h, w, 3); +Y in the middle."""
    width, height = PANORAMA_PX
    turn, tilt = np.meshgrid(
        ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi, (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    )
    directions = np.stack([np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), np.sin(tilt)], -1)
    flat = directions.reshape(-1, 3)
    eye, spread = np.mean([scene.header.zone_min, scene.header.zone_max], 0), np.pi / height / 2
    parts = []
    for start in range(0, len(flat), RAYS_AT_ONCE):
        part = flat[start : start + RAYS_AT_ONCE]
        parts.append(viewer.meet(np.broadcast_to(eye, part.shape), part, np.full(len(part), spread)))
    colours, depths = (np.concatenate(column) for column in zip(*parts))
    return colours.reshape(height, width, 3), depths.reshape(height, width), directions


def outlook(depths: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Where a place lies for who stands in it, from a panorama: mean direction, tangent of the half view that holds most of
    it, horizontal distance within which most of it is."""
    weight = np.where(depths >= 0, np.hypot(directions[..., 0], directions[..., 1]), 0)  # rows near the poles are short
    if weight.sum() == 0:
        return np.array([0.0, 1.0, 0.0]), WIDEST_TANGENT, 1.0
    mean = (weight[..., None] * directions).sum((0, 1)) / weight.sum()
    forward = mean / np.linalg.norm(mean) if np.linalg.norm(mean) > 0.2 else np.array([0.0, 1.0, 0.0])
    met = depths >= 0
    ahead = directions[met] @ forward
    off = np.sqrt(np.maximum(1 - ahead**2, 0)) / np.maximum(ahead, 1e-3)
    radius = float(np.quantile(np.hypot(*(directions[met] * depths[met, None]).T[:2]), 0.98))
    return forward, float(np.clip(np.quantile(off, 0.8), 0.1, WIDEST_TANGENT)), max(radius, 1e-6)


def eyes(scene: Bricks) -> dict[str, np.ndarray]:
    """Middle of the zone, and the middles of its faces."""
    low, high = np.array(scene.header.zone_min), np.array(scene.header.zone_max)
    middle, found = (low + high) / 2, {}
    found["middle"] = middle
    for axis, name in enumerate("xyz"):
        for sign, bound in (("-", low), ("+", high)):
            eye = middle.copy()
            eye[axis] = bound[axis]
            found[f"{sign}{name}"] = eye
    return found


def seen_from(viewer: RayViewer, eye: np.ndarray, forward: np.ndarray, tangent: float) -> np.ndarray:
    """(EYE_PX, EYE_PX, 3) display-encoded."""
    lens = lens_of_fov(float(np.degrees(2 * np.arctan(tangent))), (EYE_PX, EYE_PX))
    camera = Camera(looking_at(tuple(eye), tuple(eye + forward)), lens, "measured", 0)
    return srgb_from_linear(light(Still(camera, (EYE_PX, EYE_PX)), viewer.see, RAYS_AT_ONCE))


def plan(scene: Bricks, radius: float) -> np.ndarray:
    """(PLAN_PX, PLAN_PX): how opaque a cell of the plan is, 0..1, the most of some heights of the zone. Row 0: largest y."""
    low, high = np.array(scene.header.zone_min), np.array(scene.header.zone_max)
    middle, cell = (low + high) / 2, 2 * radius / PLAN_PX
    steps = (np.arange(PLAN_PX) + 0.5) * cell - radius
    x, y = np.meshgrid(middle[0] + steps, middle[1] - steps)
    opacity = np.zeros((PLAN_PX, PLAN_PX), np.float32)
    for z in np.linspace(low[2], high[2], PLAN_HEIGHTS):
        density, _ = density_and_colour(scene, np.stack([x, y, np.full_like(x, z)], -1).reshape(-1, 3))
        opacity = np.maximum(opacity, 1 - np.exp(-density.reshape(opacity.shape) * cell))
    return opacity


def _panorama(axes, colours: np.ndarray, title: str) -> None:
    axes.imshow(np.clip(colours, 0, 1), extent=(-180, 180, -90, 90), aspect="auto")
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xticks((-90, 0, 90), ("-X", "+Y", "+X"))
    axes.set_yticks((-90, 0, 90), ("-Z", "", "+Z"))


def _draw_plan(axes, scene: Bricks, radius: float) -> None:
    radius *= 1.2
    low, high = np.array(scene.header.zone_min), np.array(scene.header.zone_max)
    x, y, _ = (low + high) / 2
    axes.imshow(plan(scene, radius), extent=(x - radius, x + radius, y - radius, y + radius), cmap="Greys", vmin=0, vmax=1)
    axes.plot(*np.array([[low[0], high[0], high[0], low[0], low[0]], [low[1], low[1], high[1], high[1], low[1]]]), color=BLUE)
    axes.set_title("plan at the zone's heights: dark is opaque, blue the zone", fontsize=10, loc="left", color=INK)
    axes.set_xlabel("x, field units")
    axes.set_ylabel("y")


def _draw_voxels(axes, facts: SceneFacts) -> None:
    names, bricks = [f"{v.size:.3g}" for v in facts.voxels], [v.bricks for v in facts.voxels]
    axes.barh(names, bricks, color=BLUE)
    axes.set_title("bricks by voxel size, field units", fontsize=10, loc="left", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
