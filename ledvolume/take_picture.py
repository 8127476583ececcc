"""A take as a picture: the track in plan view before the wall, how fast the camera was, how old its poses, what was late."""

from pathlib import Path

import numpy as np

from ledvolume.camera import Camera
from ledvolume.config import read_show
from ledvolume.errors import OutputError
from ledvolume.pose import rotate, rotation_vector
from ledvolume.stage import Stage, surface_points
from ledvolume.take import FrameRecord, Take

INK, FAINT, QUIET = "#22223b", "#d9d9e3", "#6c6c80"
TRACKING = {"measured": "#3c8d53", "predicted": "#2e6fbb", "held": "#e09f3e", "lost": "#c1121f"}
LATE = "#c1121f"
MOST_POINTS = 20_000
ARROWS = 12


def save_picture(file: Path, take: Take) -> None:
    """Write it. Raises OutputError, and ConfigError for a take that cannot be read."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stage = read_show(take.show_file, take.toml, take.files).stage
    records = [frame.record for frame in take.frames()]
    figure = Figure(figsize=(14, 8), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    late = sum(record.is_late for record in records)
    title = f"{take.facts['slate'] or take.path.stem}   {len(records)} frames at {take.facts['rate']} fps, {late} late"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    if records:
        plan, *rows = _layout(figure)
        t = np.array([(r.request.present_at_ns - records[0].request.present_at_ns) / 1e9 for r in records])
        _draw_plan(plan, stage, records)
        _draw_rows(rows, t, records)
    else:
        figure.text(0.5, 0.5, "no frame is whole in this take", ha="center", va="center", fontsize=16, color=INK)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot write the picture: {error}") from error


def _layout(figure):
    grid = figure.add_gridspec(4, 2, width_ratios=(1, 1.25))
    plan = figure.add_subplot(grid[:, 0])
    first = figure.add_subplot(grid[0, 1])
    return plan, first, *(figure.add_subplot(grid[row, 1], sharex=first) for row in (1, 2, 3))


def _draw_plan(axes, stage: Stage, records: list[FrameRecord]) -> None:
    """From above: +X to the right, the wall at the top."""
    for surface in stage.surfaces:
        (width, height), t = surface.resolution_px, np.linspace(0, 1, 65)
        columns = np.concatenate([t, np.ones(65), 1 - t, np.zeros(65)]) * width  # around its border: ceilings lie flat
        rows = np.concatenate([np.zeros(65), t, np.ones(65), 1 - t]) * height
        points = surface_points(surface, columns, rows)
        axes.plot(points[:, 0], points[:, 1], color=INK, linewidth=3, solid_capstyle="butt")
    (x0, y0, _), (x1, y1, _) = stage.zone.min_m, stage.zone.max_m
    axes.fill([x0, x1, x1, x0], [y0, y0, y1, y1], color=FAINT, alpha=0.5, label="zone")
    axes.plot(*stage.eye_m[:2], "+", color=QUIET, markersize=10, label="outer eye")
    cameras = [record.request.camera for record in records]
    places = np.array([camera.stage_from_camera.position_m for camera in cameras])
    for tracking, colour in TRACKING.items():
        of = np.array([camera.tracking == tracking for camera in cameras])
        if of.any():
            line = np.where(of[:, None], places[:, :2], np.nan)
            axes.plot(line[:, 0], line[:, 1], ".-", color=colour, markersize=2.5, linewidth=1, label=tracking)
    late = places[[record.is_late for record in records]]
    if len(late):
        axes.plot(late[:, 0], late[:, 1], "x", color=LATE, markersize=6, label="late")
    for camera in cameras[:: max(1, len(cameras) // ARROWS)]:
        forward = rotate(camera.stage_from_camera.wxyz, (0.0, 0.35, 0.0))
        x, y, _ = camera.stage_from_camera.position_m
        tip = {"arrowstyle": "->", "color": QUIET, "linewidth": 0.8}
        axes.annotate("", (x + forward[0], y + forward[1]), (x, y), arrowprops=tip)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m (toward the wall)")
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_rows(rows, t: np.ndarray, records: list[FrameRecord]) -> None:
    cameras = [record.request.camera for record in records]
    speed, turn = speeds(t, cameras)
    shown = slice(None, None, max(1, len(t) // MOST_POINTS))
    ages = np.array([camera.age_ns / 1e6 for camera in cameras])
    spare = np.array([(record.request.present_at_ns - record.sent_at_ns) / 1e6 for record in records])
    for axes, values, label, colour in (
        (rows[0], speed, "m/s", "#2e6fbb"),
        (rows[1], turn, "°/s", "#3c8d53"),
        (rows[2], np.where(ages < 1e7, ages, np.nan), "pose's age, ms", "#5b6cb3"),
        (rows[3], spare, "sent before\nits instant, ms", "#5b6cb3"),
    ):
        axes.plot(t[shown], values[shown], color=colour, linewidth=1)
        axes.set_ylabel(label)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    late = spare < 0
    rows[3].plot(t[late], spare[late], "x", color=LATE)
    rows[3].axhline(0, color=LATE, linewidth=0.8, linestyle=":")
    rows[3].set_xlabel("seconds")


def speeds(t: np.ndarray, cameras: list[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) m/s and degrees/s of the entrance pupil from each frame to the next; the last repeats."""
    if len(t) < 2:
        return np.zeros(len(t)), np.zeros(len(t))
    seconds = np.maximum(np.diff(t), 1e-9)
    steps = [a.stage_from_camera.inverse() @ b.stage_from_camera for a, b in zip(cameras, cameras[1:])]
    far = np.array([np.linalg.norm(step.position_m) for step in steps]) / seconds
    turned = np.degrees([np.linalg.norm(rotation_vector(step.wxyz)) for step in steps]) / seconds
    return np.append(far, far[-1]), np.append(turned, turned[-1])
