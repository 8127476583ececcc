"""The pictures of a calibration's report, each a PNG file's bytes: wall with residuals, eyes with ellipses, coverage.

Everything small is drawn larger than it is, by a round factor that stands above the picture.
"""

from collections.abc import Mapping
from io import BytesIO

import numpy as np

from calibration.solved import Residuals, Solved, SolvedSurface, SolvedView
from calibration.verdict import PARALLAX_DEG, TIMES_SEEN, Coverage
from ledvolume.stage import Surface, surface_points

INK, FAINT, QUIET, WRONG, HELD, EYE = "#22223b", "#c9c9d6", "#6c6c80", "#c1121f", "#e09f3e", "#2e6fbb"
WITHIN_95 = 2.448  # sigmas of two dimensions: the root of chi² 5.991
LONGEST_ARROW_M = 0.35
LARGEST_ELLIPSE_M = 0.3
MOST_ARROWS = 1500
PLANES = {"plan: from above": (0, 1), "elevation: from the camera's side": (0, 2)}


def wall_png(solved: Solved) -> bytes:
    """Plan and elevation: the LEDs where they were found, and by how much each match was off there."""
    figure, axes = _figure(len(PLANES), (15, 6.5))
    arrows = [one for view in solved.views for one in _arrows(solved, view)]
    at = np.concatenate([a for a, _, _ in arrows]) if arrows else np.empty((0, 3))
    off = np.concatenate([o for _, o, _ in arrows]) if arrows else np.empty((0, 3))
    bad = np.concatenate([r for _, _, r in arrows]) if arrows else np.empty(0, bool)
    kept = np.random.default_rng(1).permutation(len(at))[:MOST_ARROWS]
    at, off, bad = at[kept], off[kept], bad[kept].astype(bool)
    typical_m = float(np.percentile(np.linalg.norm(off[~bad], axis=1), 95)) if (~bad).any() else 0.0
    factor = round_factor(LONGEST_ARROW_M, typical_m)
    for axis, (title, (i, j)) in zip(axes, PLANES.items()):
        _draw_surfaces(axis, solved, i, j)
        for which, colour in ((~bad, EYE), (bad, WRONG)):
            if which.any():
                axis.quiver(
                    at[which, i], at[which, j], off[which, i] * factor, off[which, j] * factor,
                    angles="xy", scale_units="xy", scale=1, width=0.0015, color=colour,
                )  # fmt: skip
        axis.set_title(title, loc="left", fontsize=10, color=QUIET)
    _titled(
        figure, f"Residuals on the wall, {factor:,} times as long: {typical_m * 1000:.2f} mm hold 95 % of them. Red: rejected"
    )
    return _png(figure)


def eyes_png(solved: Solved) -> bytes:
    """Plan and elevation: where the views were taken from, with the ellipses that hold 95 %."""
    figure, axes = _figure(len(PLANES), (15, 6))
    radii_m = [WITHIN_95 * np.sqrt(max(np.linalg.eigvalsh(np.array(v.eye_covariance_mm2)).max(), 0)) / 1000 for v in solved.views]
    factor = round_factor(LARGEST_ELLIPSE_M, float(np.median(radii_m)) if radii_m else 0.0)
    for axis, (title, (i, j)) in zip(axes, PLANES.items()):
        _draw_surfaces(axis, solved, i, j)
        for view in solved.views:
            eye = np.array(view.stage_from_camera.position_m)
            ring = eye[[i, j]] + factor * ellipse_m(view.eye_covariance_mm2, i, j)
            colour = HELD if view.is_held_out else EYE
            axis.plot(*ring.T, color=colour, linewidth=1)
            forward = view.stage_from_camera.matrix()[:3, 1] * 0.4
            axis.plot([eye[i], eye[i] + forward[i]], [eye[j], eye[j] + forward[j]], color=colour, linewidth=1, alpha=0.6)
            axis.annotate(view.name, eye[[i, j]], fontsize=7, color=INK, xytext=(3, 3), textcoords="offset points")
        axis.set_title(title, loc="left", fontsize=10, color=QUIET)
    _titled(figure, f"Eyes, with 95 % ellipses {factor:,} times as large. Orange: held out")
    return _png(figure)


def coverage_png(solved: Solved, coverage: Mapping[str, Coverage]) -> bytes:
    """Of every surface: from how many places, and under what angle, its patches were seen."""
    shown = [surface.surface for surface in solved.surfaces if surface.surface.name in coverage]
    figure, axes = _figure(2 * len(shown), (15, 2.4 * max(len(shown), 1)), columns=2)
    for surface, (left, right) in zip(shown, zip(axes[::2], axes[1::2])):
        seen = coverage[surface.name]
        for axis, values, most, what in (
            (left, seen.times, 2 * TIMES_SEEN, "places that it was seen from"),
            (right, seen.parallax_deg, 3 * PARALLAX_DEG, "degrees between the widest two"),
        ):
            extent = (0, surface.resolution_px[0], surface.resolution_px[1], 0)
            image = axis.imshow(values, vmin=0, vmax=most, cmap="viridis", extent=extent, interpolation="nearest", aspect="auto")
            figure.colorbar(image, ax=axis, shrink=0.9)
            axis.set_title(f"{surface.name}: {what}", loc="left", fontsize=9, color=QUIET)
    _titled(figure, f"What was seen (LED pixels across and down). {TIMES_SEEN} places and {PARALLAX_DEG:.0f}° are enough")
    return _png(figure)


def off_m(surface: Surface, residuals: Residuals) -> tuple[np.ndarray, np.ndarray]:
    """Stage points (n, 3) of the LEDs, and what they were off by, (n, 3) m of the stage."""
    (u, v), h = np.asarray(residuals.led_px, float).reshape(-1, 2).T, 0.25
    across = surface_points(surface, u + h, v) - surface_points(surface, u - h, v)
    down = surface_points(surface, u, v + h) - surface_points(surface, u, v - h)
    across, down = (d / np.maximum(np.linalg.norm(d, axis=-1, keepdims=True), 1e-12) for d in (across, down))
    off_mm = np.asarray(residuals.off_mm, float).reshape(-1, 2)
    return surface_points(surface, u, v), (off_mm[:, :1] * across + off_mm[:, 1:] * down) / 1000


def ellipse_m(covariance_mm2, i: int, j: int) -> np.ndarray:
    """(65, 2) m: the border of what holds 95 %, in the plane of two of the stage's axes."""
    block = np.asarray(covariance_mm2, float)[np.ix_((i, j), (i, j))] / 1e6
    values, axes = np.linalg.eigh(block)
    turn = np.linspace(0, 2 * np.pi, 65)
    return WITHIN_95 * (np.stack([np.cos(turn), np.sin(turn)], -1) * np.sqrt(np.maximum(values, 0))) @ axes.T


def round_factor(wanted_m: float, typical_m: float) -> int:
    """1, 2 or 5 times a power of ten, at least 1: what brings the one to about the other."""
    if typical_m <= 0:
        return 1
    ratio = max(wanted_m / typical_m, 1.0)
    power = 10 ** int(np.floor(np.log10(ratio)))
    return int(power * max(step for step in (1, 2, 5) if step * power <= ratio))


def _arrows(solved: Solved, view: SolvedView):
    surfaces = {one.surface.name: one.surface for one in solved.surfaces}
    for residuals in view.residuals:
        if residuals.surface in surfaces and len(residuals.led_px):
            yield *off_m(surfaces[residuals.surface], residuals), np.asarray(residuals.is_rejected, bool).ravel()


def _draw_surfaces(axis, solved: Solved, i: int, j: int) -> None:
    for one in solved.surfaces:
        points = _outline(one)
        axis.plot(points[:, i], points[:, j], color=INK, linewidth=1.2)
        middle = points.mean(0)
        axis.annotate(one.surface.name, middle[[i, j]], fontsize=8, color=QUIET, ha="center")
    axis.set_aspect("equal", adjustable="datalim")
    axis.grid(color=FAINT, linewidth=0.4)
    axis.set_xlabel("xyz"[i] + " m", fontsize=8)
    axis.set_ylabel("xyz"[j] + " m", fontsize=8)
    axis.tick_params(labelsize=8)


def _outline(one: SolvedSurface) -> np.ndarray:
    """Around the surface's border, (n, 3)."""
    width, height = one.surface.resolution_px
    s, e = np.linspace(0, 1, 49), 1e-6
    zero, whole = np.full_like(s, e), np.full_like(s, 1 - e)
    u = np.concatenate([s, whole, s[::-1], zero]).clip(e, 1 - e) * width
    v = np.concatenate([zero, s, whole, s[::-1]]).clip(e, 1 - e) * height
    return surface_points(one.surface, u, v)


def _figure(count: int, size: tuple[float, float], columns: int | None = None):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    columns = columns or count
    return figure, [figure.add_subplot(max(-(-count // columns), 1), columns, n + 1) for n in range(count)]


def _titled(figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)


def _png(figure) -> bytes:
    data = BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
