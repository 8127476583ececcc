"""Look at a lens table: its stations, the lens between them, how it bends the picture.

  ledvolume lens lenses/19-90.json --sensor 28.25,18.17
  ledvolume lens lenses/19-90.json --sensor 28.25,18.17 --at 0.3,0.7 --plot out/lens.png

A line for each station: encoders, focal length, focus distance, entrance pupil; with --sensor, how much more than a pinhole the
lens sees (overscan) and how far the picture's farthest corner is moved. --at ZOOM,FOCUS: the same of the lens there, between
the stations. --plot: the sensor's grid as a pinhole would see it, for --at or, without it, for the first station.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from ledvolume.commands.quantities import two_numbers, writable_file
from ledvolume.errors import ConfigError
from ledvolume.lens import Distortion, Lens, undistorted, view_overscan
from ledvolume.lens_table import Station, load_lens_table, station_at, trouble

ACROSS = 16  # squares of the plotted grid


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="FILE.json", type=Path, help="the lens table")
    parser.add_argument("--sensor", metavar="W,H", type=two_numbers, help="the recorded part of the sensor, mm")
    parser.add_argument("--at", metavar="ZOOM,FOCUS", type=two_numbers, help="encoders, 0 to 1")
    parser.add_argument("--plot", metavar="FILE.png", type=writable_file, help="draw the distortion; needs --sensor")


def run(args: argparse.Namespace) -> int:
    if args.sensor is not None and not all(1 <= mm <= 200 for mm in args.sensor):
        raise ConfigError("command line", "--sensor", "width,height in mm, 1 to 200", args.sensor)
    if args.at is not None and not all(0 <= encoder <= 1 for encoder in args.at):
        raise ConfigError("command line", "--at", "two encoders, 0 to 1", args.at)
    if args.plot and args.sensor is None:
        raise ConfigError("command line", "--sensor", "the sensor's size, to plot on", "nothing")
    table = load_lens_table(args.table)
    stations = sorted(table.stations, key=lambda s: (s.zoom_encoder, s.focus_encoder))
    print(f"{table.name or args.table.name}: {len(stations)} stations, {len({s.zoom_encoder for s in stations})} zooms")
    for station in stations:
        print(line(station, args.sensor))
    chosen = stations[0]
    if args.at is not None:
        chosen = station_at(table, *args.at)
        print("between the stations:")
        print(line(chosen, args.sensor) + (f"  {trouble(table, *args.at)}" if trouble(table, *args.at) else ""))
    if args.plot:
        plot(chosen, args.sensor, args.plot)
        print(f"wrote {args.plot}")
    return 0


def line(station: Station, sensor_mm: tuple[float, float] | None) -> str:
    """A station for people; what the table does not hold is left out."""
    parts = [f"  zoom {station.zoom_encoder:.4f}  focus {station.focus_encoder:.4f}  {station.focal_length_mm:8.3f} mm"]
    if station.focus_distance_m is not None:
        distance_m = station.focus_distance_m
        parts.append("       ∞  " if distance_m == "infinity" else f"{distance_m:7.2f} m")
    if station.entrance_pupil_mm is not None:
        parts.append(f"pupil {station.entrance_pupil_mm:7.1f} mm")
    if sensor_mm and station.distortion is not None:
        lens, corner = _lens(station, sensor_mm), np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * sensor_mm / 2
        moved_mm = np.linalg.norm(undistorted(lens, corner) - corner, axis=-1).max()
        overscan = view_overscan(lens)
        parts.append("FOLDS INSIDE THE SENSOR" if overscan == math.inf else f"overscan {overscan:.4f}  corner {moved_mm:6.3f} mm")
    return "  ".join(parts)


def plot(station: Station, sensor_mm: tuple[float, float], file: Path) -> None:
    """The sensor's grid, and where a pinhole would see its lines."""
    from matplotlib.figure import Figure  # a third of a second, and only here

    lens, (w, h) = _lens(station, sensor_mm), sensor_mm
    down = max(round(ACROSS * h / w), 2)
    figure = Figure(figsize=(9, 9 * h / w + 0.8), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlabel="mm, right", ylabel="mm, down")
    fine = np.linspace(-0.5, 0.5, 129)
    lines = [np.stack([np.full_like(fine, x), fine], -1) * sensor_mm for x in np.linspace(-0.5, 0.5, ACROSS + 1)]
    lines += [np.stack([fine, np.full_like(fine, y)], -1) * sensor_mm for y in np.linspace(-0.5, 0.5, down + 1)]
    for points in lines:
        axes.plot(*points.T, color="0.8", linewidth=0.7)
        axes.plot(*undistorted(lens, points).T, color="tab:blue", linewidth=1.0)
    axes.plot(*lens.projection_offset_mm, "+", color="tab:red", markersize=12)
    axes.invert_yaxis()
    axes.set_title(
        f"{station.focal_length_mm:.2f} mm at zoom {station.zoom_encoder:.3f}, focus {station.focus_encoder:.3f}: "
        f"overscan {view_overscan(lens):.4f}\ngrey: the sensor · blue: seen by a pinhole · red: the optical axis"
    )
    figure.savefig(file, dpi=120)


def _lens(station: Station, sensor_mm: tuple[float, float]) -> Lens:
    offset_mm = station.projection_offset_mm or (0.0, 0.0)
    return Lens(station.focal_length_mm, sensor_mm, offset_mm, distortion=station.distortion or Distortion())
