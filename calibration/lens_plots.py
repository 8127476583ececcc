"""One picture for each station of a lens: what is left over at every corner, what of the picture was seen, how it is bent."""

from pathlib import Path

import numpy as np

from calibration.lens import Fit, Look, lens_of
from ledvolume.lens import undistorted

ARROWS_ACROSS = 0.08  # of the picture, for three times the RMS


def plot_station(fit: Fit, looks: list[Look], title: str, file: Path) -> None:
    """Left: residuals, arrows magnified. Right: a grid of the picture (grey) and where a pinhole would see its lines."""
    from matplotlib.figure import Figure

    (width, height), rms = fit.picture_px, fit.rms_px
    figure = Figure(figsize=(14, 7 * height / width + 0.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = np.concatenate([look.corners.picture_px for look in looks]) + 0.5
    off = np.concatenate(fit.residuals_px)
    magnified = ARROWS_ACROSS * width / (3 * rms)
    of_look = np.repeat(np.arange(len(looks)), [len(look.corners.picture_px) for look in looks])
    left.quiver(*points.T, *off.T, of_look, cmap="turbo", angles="xy", scale_units="xy", scale=1 / magnified, width=0.0015)
    left.set_title(f"what is left over, {magnified:.0f} times: rms {rms:.3f} px, {len(points)} corners of {len(looks)} pictures")
    lens = lens_of(fit, float(width))  # a millimetre is a pixel
    fine, half = np.linspace(-0.5, 0.5, 97), np.array([width, height]) / 2
    lines = [np.stack([np.full_like(fine, x), fine], -1) for x in np.linspace(-0.5, 0.5, 17)]
    lines += [np.stack([fine, np.full_like(fine, y)], -1) for y in np.linspace(-0.5, 0.5, 11)]
    for line in lines:
        sensor = line * [width, height]
        right.plot(*(sensor + half).T, color="0.8", linewidth=0.7)
        right.plot(*(undistorted(lens, sensor) + half).T, color="tab:blue", linewidth=1.0)
    right.plot(*(fit.numbers[1:3] + 0.5), "+", color="tab:red", markersize=12)
    right.set_title(f"distortion ({fit.order}): grey the picture, blue seen by a pinhole, red the optical axis")
    for axes in (left, right):
        axes.set(aspect="equal", xlim=(-0.06 * width, 1.06 * width), ylim=(1.06 * height, -0.06 * height))
        axes.add_patch(_frame(width, height))
    figure.suptitle(title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _frame(width: int, height: int):
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), width, height, fill=False, edgecolor="0.5")
