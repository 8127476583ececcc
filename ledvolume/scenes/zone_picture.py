"""A zone map as a picture: where the photographs were taken, and support in plan view and elevation."""

from pathlib import Path

import numpy as np

from ledvolume.errors import OutputError
from ledvolume.scenes.photographs import Photograph
from ledvolume.scenes.safe_zone import ZoneMap, safe_box
from ledvolume.stage import Box, Stage, surface_points

INK, FAINT, ZONE, SAFE = "#22223b", "#d9d9e3", "#2e6fbb", "#3c8d53"
NEAR_SIZES = 12  # photographs further from the box than so many of its sizes are told, not drawn


def save_picture(file: Path, zone: ZoneMap, zone_m: Box, photographs: list[Photograph], stage: Stage | None, title: str) -> None:
    """Write it; metres of the stage, or units of the field where there is no stage. Raises OutputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.6), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    overview, plan, elevation = figure.subplots(1, 3)
    unit = "m" if stage else "field units"
    _draw_overview(overview, zone, zone_m, photographs, stage)
    middle = [count // 2 for count in zone.nodes]
    axes = zone.axes_m()
    grid = zone.grid
    shown = _draw_support(plan, axes[0], axes[1], grid[:, :, middle[2]], zone, zone_m, (0, 1))
    plan.set_title(f"from above, at z {axes[2][middle[2]]:.2f} {unit}", loc="left", fontsize=11)
    _draw_support(elevation, axes[1], axes[2], grid[middle[0]], zone, zone_m, (1, 2))
    elevation.set_title(f"from the side, at x {axes[0][middle[0]]:.2f} {unit}", loc="left", fontsize=11)
    for view, (across, up) in ((overview, "xy"), (plan, "xy"), (elevation, "yz")):
        view.set_xlabel(f"{across} ({unit})")
        view.set_ylabel(f"{up} ({unit})")
        view.set_aspect("equal")
    figure.colorbar(shown, ax=elevation, label="support")
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot write the picture: {error}") from error


def _draw_overview(view, zone: ZoneMap, zone_m: Box, photographs: list[Photograph], stage: Stage | None) -> None:
    """From above: the wall, the zone, and the photographs with where they look."""
    matrix = zone.field_from_stage.matrix()
    centres = np.array([p.centre for p in photographs]) - matrix[:3, 3]
    centres_m = np.linalg.solve(matrix[:3, :3], centres.T).T
    looking = np.linalg.solve(matrix[:3, :3], -np.array([p.rotation[:, 2] for p in photographs]).T).T
    looking /= np.linalg.norm(looking, axis=-1, keepdims=True)
    size_m = max(np.subtract(zone.max_m, zone.min_m))
    is_near = np.abs(centres_m - zone_m.centre_m).max(-1) < NEAR_SIZES * size_m
    view.quiver(*centres_m[is_near, :2].T, *looking[is_near, :2].T, color=INK, width=0.006, scale=14, pivot="tail")
    view.plot(*centres_m[is_near, :2].T, "o", color=INK, markersize=3, label=f"{len(photographs)} photographs")
    for surface in stage.surfaces if stage else ():
        (width, height), t = surface.resolution_px, np.linspace(0, 1, 65)
        columns = np.concatenate([t, np.ones(65), 1 - t, np.zeros(65)]) * width
        rows = np.concatenate([np.zeros(65), t, np.ones(65), 1 - t]) * height
        view.plot(*surface_points(surface, columns, rows)[:, :2].T, color="#c1121f", linewidth=2, label="wall")
    _outline(view, zone_m, (0, 1), ZONE, "-", "zone")
    told = "" if is_near.all() else f"; {int((~is_near).sum())} too far away to be drawn"
    view.set_title(f"photographs, from above{told}", loc="left", fontsize=11)
    view.legend(fontsize=8, loc="best")
    view.grid(color=FAINT, linewidth=0.6)


def _draw_support(
    view, across: np.ndarray, up: np.ndarray, values: np.ndarray, zone: ZoneMap, zone_m: Box, axes: tuple[int, int]
):
    shown = view.contourf(across, up, values.T, levels=np.linspace(0, 1, 21), cmap="RdYlGn")
    if values.min() < zone.safe_from < values.max():
        view.contour(across, up, values.T, levels=[zone.safe_from], colors=INK, linewidths=2)
    _outline(view, zone_m, axes, ZONE, "-", "zone")
    if (box := safe_box(zone)) is not None:
        _outline(view, box, axes, SAFE, "--", f"largest box of support ≥ {zone.safe_from:g}")
    view.legend(fontsize=8, loc="best")
    return shown


def _outline(view, box: Box, axes: tuple[int, int], colour: str, style: str, label: str) -> None:
    (a, b), low, high = axes, box.min_m, box.max_m
    x, y = [low[a], high[a], high[a], low[a], low[a]], [low[b], low[b], high[b], high[b], low[b]]
    view.plot(x, y, style, color=colour, linewidth=2, label=label)
