"""A picture of a wall, to see at once whether it stands right: from above, from the stage, from its left."""

from pathlib import Path

import numpy as np

from calibration.exchange.wall import Wall
from ledvolume.pose import rotate
from ledvolume.stage import PositionMap, Surface, surface_points

ALONG = 65
ARROW_M = 0.5
VIEWS = (  # title, across, up, their names
    ("plan: from above", 0, 1, "X, m: to the camera's right", "Y, m: toward the wall"),
    ("elevation: from the stage", 0, 2, "X, m", "Z, m: up"),
    ("from the camera's right", 1, 2, "Y, m", "Z, m"),
)


def save_picture(wall: Wall, file: Path, title: str) -> None:
    """Outlines and cells; a dot at the first LED pixel, an arrow where the LEDs look to."""
    from matplotlib.figure import Figure  # a third of a second, and only here

    figure = Figure(figsize=(15, 6), layout="constrained")
    figure.suptitle(title)
    for place, (name, x, y, xlabel, ylabel) in enumerate(VIEWS):
        axes = figure.add_subplot(1, 3, place + 1, aspect="equal", title=name, xlabel=xlabel, ylabel=ylabel)
        axes.axhline(0, color="0.85", linewidth=0.8)
        axes.plot(0, 0, "+", color="0.5", markersize=12)
        for i, surface in enumerate(wall.surfaces):
            colour = f"C{i % 10}"
            for line in _lines(surface):
                axes.plot(line[:, x], line[:, y], color=colour, linewidth=0.4)
            border = _border(surface)
            axes.plot(border[:, x], border[:, y], color=colour, linewidth=1.6, label=surface.name)
            axes.plot(border[0, x], border[0, y], "o", color=colour, markersize=5)
            w, h = surface.resolution_px
            middle = surface_points(surface, np.array(w / 2), np.array(h / 2))
            tip = middle + ARROW_M * np.array(rotate(surface.stage_from_surface.wxyz, (0.0, 0.0, 1.0)))
            axes.annotate("", tip[[x, y]], middle[[x, y]], arrowprops={"arrowstyle": "->", "color": colour})
        if place == 0:
            axes.legend(loc="best", fontsize="small")
    figure.savefig(file, dpi=110)


def _border(surface: Surface) -> np.ndarray:
    w, h = surface.resolution_px
    u, v = np.linspace(0, w, ALONG), np.linspace(0, h, ALONG)
    columns = np.concatenate([u, np.full(ALONG, w), u[::-1], np.zeros(ALONG)])
    rows = np.concatenate([np.zeros(ALONG), v, np.full(ALONG, h), v[::-1]])
    return surface_points(surface, columns, rows)


def _lines(surface: Surface) -> list[np.ndarray]:
    """Between the cells of a map, where there are not too many to see."""
    shape = surface.shape
    if not isinstance(shape, PositionMap) or max(shape.columns, shape.rows) > 64:
        return []
    w, h = surface.resolution_px
    u, v = np.linspace(0, w, ALONG), np.linspace(0, h, ALONG)
    columns = [surface_points(surface, np.full(ALONG, w * i / shape.columns), v) for i in range(1, shape.columns)]
    return columns + [surface_points(surface, u, np.full(ALONG, h * i / shape.rows)) for i in range(1, shape.rows)]
