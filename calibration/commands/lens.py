"""A lens table from photographs of a board: focal length, optical axis and distortion at every zoom and focus.

  ledvolume calibrate lens photos/ --board charuco:11x8:30mm:22mm --sensor-width 28.25 --out lenses/19-90.json
  ledvolume calibrate lens chessboards/ --board chessboard:9x6:25mm --show show.toml --camera A --zoom 0 --focus 0.4
  ledvolume calibrate lens session/ --board apriltags:6x6:88mm:26.4mm --show show.toml --write show-calibrated.toml

FOLDER holds the pictures of one station, or a folder for each, named zoom0.25_focus0.5 or zoom0_focus1_distance3m; or it has
a stations.toml ([[station]] pictures, zoom_encoder, focus_encoder, focus_distance_m, entrance_pupil_mm); or the shots.json of
`calibrate capture`. 10 to 20 pictures of each station: the board tilted by 20° to 45° in all directions, near the corners too.

With the tracker's poses in shots.json and the board standing still, the entrance pupil of each station is solved as well:
from the camera's origin of --show, else from the first station's pupil. Without them the table leaves it out, and
`ledvolume calibrate solve` finds it for one station.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from calibration.board import Board, Corners, NotFound, board_of, corners_in
from calibration.lens import (
    ORDERS,
    Fit,
    Look,
    Order,
    Uncertain,
    chosen_order,
    doubts,
    fitted,
    station_of,
    uncertainty_of,
)
from calibration.lens_plots import plot_station
from calibration.picture_sources import read_picture
from calibration.pupil import Pupils, along_from, pupils_of
from calibration.show_edit import calibrated, save
from calibration.stations import Pictures, stations_in
from ledvolume.commands.live_line import LiveLine
from ledvolume.commands.quantities import count, finite, positive, writable_file, writable_folder
from ledvolume.config import Show, load_show
from ledvolume.errors import CalibrationError, ConfigError
from ledvolume.lens_table import LensTable, Station, as_json, checked
from ledvolume.outputs.whole_file import write_whole
from ledvolume.show_file import SolvedCameraTable

BLURRED_OF_SPACING = 0.3  # an edge that is this wide beside the corners' spacing
BLURRED_AGAINST_OTHERS, BLURRED_PX = 2.5, 4.0
SMALLEST = 0.1  # of the picture's width or height: a board that is smaller in it says nothing of the lens


class StationReport(msgspec.Struct, frozen=True):
    """A station as --json tells it. rejected: picture → why. sigma: 1 σ; pupil_sigma_mm: against the first station."""

    name: str
    station: Station
    sigma: Uncertain
    order: Order
    rms_px: float
    pictures: int
    corners: int
    rejected: dict[str, str]
    doubts: list[str]
    pupil_sigma_mm: float | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="pictures of a board, or folders of them")
    parser.add_argument("--board", required=True, help="chessboard:9x6:25mm, charuco:…, apriltags:… (calibration/board.py)")
    parser.add_argument("--sensor-width", metavar="MM", type=positive, help="what the pictures' width covers of the sensor")
    parser.add_argument("--show", metavar="SHOW.toml", type=Path, help="a show: the sensor and the camera's origin")
    parser.add_argument("--camera", metavar="ID", default="", help="which camera of the show (its only one)")
    parser.add_argument("--zoom", metavar="0..1", type=finite, default=0.0, help="zoom encoder of a folder of pictures (0)")
    parser.add_argument("--focus", metavar="0..1", type=finite, default=0.0, help="focus encoder of a folder of pictures (0)")
    parser.add_argument("--order", choices=("auto", *ORDERS), default="auto", help="of the distortion (auto: measured)")
    parser.add_argument("--window", metavar="PX", type=count, help="half the window around a corner (0.35 of their spacing)")
    parser.add_argument("--without", metavar="PICTURE", nargs="+", default=[], help="leave these pictures out")
    parser.add_argument("--name", default="", help="of the lens, for the table")
    parser.add_argument("--out", metavar="LENS.json", type=writable_file, help="write the lens table")
    parser.add_argument("--write", metavar="SHOW.toml", type=writable_file, help="write the show with this lens table")
    parser.add_argument("--json", metavar="FILE.json", type=writable_file, help="write all numbers, with sigmas and doubts")
    parser.add_argument("--plots", metavar="FOLDER", type=writable_folder, help="a picture for each station")


def run(args: argparse.Namespace) -> int:
    board, show = board_of(args.board), load_show(args.show) if args.show else None
    if args.write and show is None:
        raise ConfigError("command line", "--show", "the show to write into", "nothing")
    rig = _rig(show, args.camera) if show else None
    width_mm = args.sensor_width or (rig.lens.sensor_mm[0] if rig else None)
    if width_mm is None or not 1 <= width_mm <= 200:
        raise ConfigError("command line", "--sensor-width", "1 to 200 mm, or a --show that has the camera's sensor", width_mm)
    stations = stations_in(args.folder, args.zoom, args.focus)
    line = LiveLine()
    seen = [looks_of(station, board, args.window, set(args.without), line.show) for station in stations]
    line.say(f"{sum(len(looks) for looks, _, _ in seen)} of {sum(len(s.files) for s in stations)} pictures can be used")
    sizes = {size for _, size, _ in seen if size}
    if len(sizes) > 1:
        raise CalibrationError(
            f"pictures of several sizes, {sorted(sizes)}: one lens table is for one recorded part of the sensor"
        )
    _say_rejected(stations, seen)
    if not sizes:
        raise CalibrationError("no picture could be used: is the board as it is described, all of it in sight?")
    size = sizes.pop()
    all_looks = [looks for looks, _, _ in seen]
    order, scores = (args.order, {}) if args.order != "auto" else chosen_order(all_looks, size)
    if scores:
        told = ", ".join(f"{name} {px:.3f}" for name, px in scores.items())
        print(f"distortion: {order}, by pictures that were held out (px: {told})")
    fits = [_fitted(station, looks, size, order) for station, looks in zip(stations, all_looks)]
    pupils = _pupils(stations, fits, all_looks)
    along_mm = [station.entrance_pupil_mm for station in stations]
    if pupils is not None:
        along_mm = along_from(pupils, rig.tracker_from_camera) if rig else pupils.along_mm
    reports = []
    for i, (station, (looks, _, rejected), fit) in enumerate(zip(stations, seen, fits)):
        value = station_of(fit, width_mm, station.zoom_encoder, station.focus_encoder, station.focus_distance_m, along_mm[i])
        said = doubts(fit, looks)
        sigma_mm = pupils.sigma_mm[i] if pupils else None
        corners = sum(len(look.corners.picture_px) for look in looks)
        numbers = (uncertainty_of(fit, width_mm), order, fit.rms_px, len(looks), corners, rejected, said, sigma_mm)
        reports.append(StationReport(station.name, value, *numbers))
        _say(reports[-1])
        if args.plots:
            title = f"{args.name or 'lens'} · {station.name}: {value.focal_length_mm:.3f} mm"
            plot_station(fit, looks, title, args.plots / f"{i:02d}_{station.name}.png")
    _say_pupils(pupils, rig is not None, along_mm)
    table = checked(args.out or "lens table", LensTable(1, tuple(report.station for report in reports), args.name))
    if args.out:
        write_whole(args.out, as_json(table))
        print(f"wrote {args.out}: {len(table.stations)} stations")
    if args.json:
        write_whole(args.json, msgspec.json.format(msgspec.json.encode(reports), indent=1) + b"\n")
    if args.write:
        _write(show, rig, table, reports, args)
    return 0


def looks_of(
    station: Pictures, board: Board, window_px: int | None, without: set[str], progress=lambda name: None
) -> tuple[list[Look], tuple[int, int] | None, dict[str, str]]:
    """The board in every picture of a station; the pictures' size; what was rejected, and why."""
    looks, rejected, size = [], {}, None
    for file in station.files:
        progress(file.name)
        if file.name in without:
            rejected[file.name] = "left out, as you said"
            continue
        try:
            picture = _grey(read_picture(file).pixels)
        except CalibrationError as error:
            rejected[file.name] = str(error)
            continue
        here = (picture.shape[1], picture.shape[0])
        size = size or here
        found = corners_in(picture, board, window_px)
        why = found.words if isinstance(found, NotFound) else _why_not(found, here, size)
        if why:
            rejected[file.name] = why
        else:
            looks.append(Look(file.name, found))
    if looks:
        usual_px = sorted(look.corners.edge_px for look in looks)[len(looks) // 2]
        limit_px = max(BLURRED_AGAINST_OTHERS * usual_px, BLURRED_PX)
        for look in [look for look in looks if look.corners.edge_px > limit_px]:
            looks.remove(look)
            rejected[look.name] = f"blurred: edges are {look.corners.edge_px:.1f} px wide, of the others {usual_px:.1f}"
    return looks, size, rejected


def _why_not(found: Corners, here: tuple[int, int], size: tuple[int, int]) -> str:
    if here != size:
        return f"{here[0]} × {here[1]} px, the others are {size[0]} × {size[1]}: was the camera turned on its side?"
    if found.edge_px > max(BLURRED_OF_SPACING * found.spacing_px, BLURRED_PX):
        return f"blurred: edges are {found.edge_px:.1f} px wide, corners {found.spacing_px:.0f} px apart"
    extent = ((found.picture_px.max(0) - found.picture_px.min(0)) / size).max()
    if extent < SMALLEST:
        return f"the board is too small in it: {extent:.0%} of the picture across"
    return ""


def _grey(pixels):
    import cv2
    import numpy as np

    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels


def _fitted(station: Pictures, looks: list[Look], size: tuple[int, int], order: Order) -> Fit:
    try:
        return fitted(looks, size, order)
    except CalibrationError as error:
        raise CalibrationError(f"{station.name}: {error}") from None


def _pupils(stations: list[Pictures], fits: list[Fit], all_looks: list[list[Look]]) -> Pupils | None:
    if not all(station.world_from_tracker for station in stations):
        return None
    poses = []
    for station, looks in zip(stations, all_looks):
        by_name = {file.name: pose for file, pose in zip(station.files, station.world_from_tracker)}
        poses.append([by_name[look.name] for look in looks])
    try:
        return pupils_of(fits, poses)
    except CalibrationError as error:
        print(f"  {error}", file=sys.stderr)
        return None


def _rig(show: Show, camera: str):
    rigs = {rig.camera_id: rig for rig in show.stage.rigs}
    if (camera or len(rigs) > 1) and camera not in rigs:
        raise ConfigError(show.file, "--camera", f"one of {', '.join(rigs)}", camera or "nothing")
    return rigs[camera] if camera else show.stage.rigs[0]


def _write(show: Show, rig, table: LensTable, reports: list[StationReport], args) -> None:
    views, worst = sum(r.pictures for r in reports), max(reports, key=lambda r: r.sigma.focal_length_mm)
    solved = SolvedCameraTable(
        "ledvolume calibrate lens",
        datetime.now(UTC),
        str(args.folder),
        views,
        round(max(r.rms_px for r in reports), 4),
        focal_length_sigma_mm=round(worst.sigma.focal_length_mm, 5),
        entrance_pupil_sigma_mm=None if reports[-1].pupil_sigma_mm is None else round(max(r.pupil_sigma_mm for r in reports), 3),
    )
    now = msgspec.structs.replace(rig, lens_table=table)
    edited = calibrated(show, rigs=[now], solved={f"camera {rig.camera_id}": solved}, folder=args.write.parent)
    save(edited, args.write)
    print(f"wrote {args.write} and {', '.join(edited.files)}")


def _say(report: StationReport) -> None:
    s, sigma = report.station, report.sigma
    offset = " ".join(f"{mm:+.3f} ± {one:.3f}" for mm, one in zip(s.projection_offset_mm, sigma.projection_offset_mm))
    print(
        f"{report.name}: zoom {s.zoom_encoder:.4f} focus {s.focus_encoder:.4f}  F {s.focal_length_mm:.3f} ± {sigma.focal_length_mm:.3f} mm"
        f"  axis {offset} mm  rms {report.rms_px:.3f} px  ({report.pictures} pictures, {report.corners} corners)"
    )
    for doubt in report.doubts:
        print(f"  {doubt}")


def _say_rejected(stations: list[Pictures], seen) -> None:
    for station, (_, _, rejected) in zip(stations, seen):
        for name, why in rejected.items():
            print(f"{station.name}/{name}: not used: {why}")


def _say_pupils(pupils: Pupils | None, has_show: bool, along_mm: list[float | None]) -> None:
    if pupils is None:
        if None in along_mm:
            print("entrance pupil: left out (no tracker's poses here): `ledvolume calibrate solve` finds it, for one lens state")
        return
    where = "the camera's origin in the show" if has_show else "the first station's"
    told = ", ".join(f"{mm:.1f} ± {sigma:.1f}" for mm, sigma in zip(along_mm, pupils.sigma_mm))
    print(
        f"entrance pupil, mm from {where}: {told} (circles close to {pupils.rms_mm:.2f} mm, off one axis {pupils.off_axis_mm:.1f})"
    )
    if not has_show:
        x, y, z = pupils.tracker_from_camera.position_m
        print(
            f"  the first one is at tracker_from_camera {x:.5f}, {y:.5f}, {z:.5f} m: pass --show, for a table that fits a show's"
        )
