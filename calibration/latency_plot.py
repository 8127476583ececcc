"""A picture of a latency measurement: where the walls are in the video, and the model beside what was seen."""

from pathlib import Path

import numpy as np

from calibration.flash_search import Flashes, Found, light
from calibration.flash_video import Brightness
from calibration.latency import FlashLatency

SECONDS = 1.5


def plot_latency(video: Brightness, flashes: Flashes, walls: list[Found], found: FlashLatency, file: Path) -> None:
    """Left: the walls' cells. Right: a second and a half of each wall, in the video's instants."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 1.5 + 2.2 * len(walls)), layout="constrained")
    grid = figure.add_gridspec(len(walls), 3)
    where = figure.add_subplot(grid[:, 0])
    where.imshow(video.cells.mean(0), cmap="gray")
    for i, (wall, told) in enumerate(zip(walls, found.walls)):
        where.contour(wall.in_wall, [0.5], colors=f"C{i}")
        axes = figure.add_subplot(grid[i, 1:])
        delay_s, exposure_s, readout_s = told.delay_ms / 1000, found.exposure_ms / 1000, found.readout_ms / 1000
        begins_s = flashes.edges_s[0] + delay_s + 0.5
        seen = video.between(begins_s, begins_s + SECONDS)
        rows = np.flatnonzero(wall.in_wall.any(1))
        row = rows[len(rows) // 2]
        values = seen.cells[:, row][:, wall.in_wall[row]].mean(1)
        fine_s = np.arange(begins_s, begins_s + SECONDS, 0.001)
        middle_s = fine_s - delay_s + ((row + 0.5) / wall.in_wall.shape[0] - 0.5) * readout_s
        share = light(flashes, flashes.lit_until_s(told.surface), middle_s, exposure_s)
        low, high = values.min(), values.max()
        axes.plot(fine_s - begins_s, low + (high - low) * share**0.6, color="0.7", label="expected, in any curve of the camera")
        axes.plot(seen.at_s - begins_s, values, ".", color=f"C{i}", label="seen")
        axes.set(title=f"{told.surface}: ± {told.sigma_ms:.2f} ms", ylabel="code value", xlim=(0, SECONDS))
        axes.legend(loc="upper right", fontsize=8)
    where.set_title("walls")
    where.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
