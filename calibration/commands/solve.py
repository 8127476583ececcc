"""Solve wall, tracker, hand-eye and lens from what detect found, and write a show that serve loads.

  ledvolume calibrate solve FOLDER --show SHOW.toml --out calibrated.toml
  ledvolume calibrate solve FOLDER --show SHOW.toml --out calibrated.toml --shape panels --panel-px 176x176 --held-out v07 v11
  ledvolume calibrate solve FOLDER --show SHOW.toml --out calibrated.toml --gauge wall:main --hold lens

FOLDER holds views.json; solved.json is written beside it, for `calibrate report`. The stage's frame hangs on the tracker as the
show registers it (--gauge tracker, the default where views have samples), on a surface, as a whole where the show has it
(wall:NAME), or that with the LED pitch solved, from a length that was measured between two LEDs: length:NAME:X,Y:X,Y=METRES±MM.

± is where the truth is 95 times in 100, if the matches' noise is as their residuals say, and the wall of the shape that was asked
for. What the views do not tell is an error, and nothing is written: take the views that it asks for, or hold what is known.
"""

import argparse
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from calibration import session, show_edit, solved_show
from calibration.session import View
from calibration.solve import HOLDABLE, Options, solve
from calibration.solve.plan import RADIAL_TERMS
from calibration.solved import FILE_NAME, PoseSigma, Solved, save_solved
from ledvolume.commands.quantities import positive, size_px, writable_file
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.pose import pan_tilt_roll_of
from ledvolume.stage import Arc

VIEWS = "views.json"
FILE = "command line"
INTERVAL = 1.96  # sigmas: 95 %


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=f"the calibration's folder, with {VIEWS}")
    parser.add_argument(
        "--show", metavar="SHOW.toml", type=Path, required=True, help="stage, cameras and lenses as they are drawn"
    )
    parser.add_argument("--out", metavar="SHOW.toml", type=writable_file, required=True, help="the calibrated show")
    parser.add_argument(
        "--shape",
        choices=("as-shown", "panels", "arc", "map"),
        default="as-shown",
        help="what surfaces are: as the show has them; flat panels, each by itself (its tiles); arcs; smooth maps",
    )
    parser.add_argument("--panel-px", metavar="WxH", type=size_px, help="panels: of so many LEDs, instead of the show's tiles")
    parser.add_argument("--hold", metavar="WHAT,…", default="", help=f"as the show has it: {', '.join(HOLDABLE)}")
    parser.add_argument("--gauge", metavar="WHAT", help="what the frame hangs on: tracker, wall:NAME, length:…")
    parser.add_argument("--held-out", metavar="VIEW", nargs="+", default=[], help="views that judge, and do not solve")
    parser.add_argument("--without", metavar="VIEW", nargs="+", default=[], help="views to leave out altogether")
    parser.add_argument("--tracker-mm", metavar="MM", type=positive, default=0.3, help="the tracker's sigma, each axis (0.3)")
    parser.add_argument("--tracker-deg", metavar="DEG", type=positive, default=0.02, help="the tracker's sigma, each axis (0.02)")
    parser.add_argument(
        "--radial-terms", metavar="N", type=int, choices=(0, 1, 2, 3), default=RADIAL_TERMS, help="of the distortion, 0 to 3 (2)"
    )
    parser.add_argument("--keep-unseen", action="store_true", help="tiles that no view shows stay where the show has them")
    parser.add_argument("--json", action="store_true", help="the table as JSON, on the standard output")


def run(args: argparse.Namespace) -> int:
    show = load_show(args.show)
    if args.out.resolve() == args.show.resolve():
        raise ConfigError(FILE, "--out", "another file than --show: what was drawn is kept", str(args.out))
    views = chosen(session.load_views(args.folder / VIEWS), args.held_out, args.without)
    options = Options(
        args.shape,
        frozenset(word for word in args.hold.replace(" ", "").split(",") if word),
        args.gauge,
        args.panel_px,
        args.tracker_mm,
        args.tracker_deg,
        args.radial_terms,
        args.keep_unseen,
    )
    if args.panel_px and args.shape != "panels":
        raise ConfigError(FILE, "--panel-px", "--shape panels", args.shape)
    solved = solve(views, show.stage, options, str(args.show))
    calibrated = solved_show.show_of(show, solved, VIEWS, datetime.now(UTC), args.out.resolve().parent)
    save_solved(args.folder / FILE_NAME, solved)
    show_edit.save(calibrated, args.out)
    lines = rows(solved)
    if args.json:
        said = [dict(zip(("what", "value", "plus_minus_95", "unit"), line)) for line in lines]
        sys.stdout.write(msgspec.json.encode({"rows": said, "warnings": solved.warnings}).decode() + "\n")
        return 0
    print(table(lines))
    print(f"\nsolved: {', '.join(solved.solved)}\nheld:   {', '.join(solved.held)}\nframe:  {solved.gauge}")
    for warning in solved.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"written: {args.out}, {args.folder / FILE_NAME}")
    return 0


def chosen(views: list[View], held_out: list[str], without: list[str]) -> list[View]:
    """The views with those that are held out marked, and without those that are left out. Raises ConfigError."""
    names = {view.name for view in views}
    if unknown := (set(held_out) | set(without)) - names:
        raise ConfigError(FILE, "--held-out, --without", f"of {', '.join(sorted(names))}", ", ".join(sorted(unknown)))
    return [
        msgspec.structs.replace(view, is_held_out=view.is_held_out or view.name in held_out)
        for view in views
        if view.name not in without
    ]


def rows(solved: Solved) -> list[tuple[str, str, str, str]]:
    """What was found, its value, ± and unit."""
    found = []
    for s in solved.surfaces:
        name = s.surface.name
        median, worst = (INTERVAL * v for v in (s.sigma_median_mm, s.sigma_worst_mm))
        found.append(
            (f"{name}: LEDs", f"moved {s.moved_mm[0]:.1f}, at most {s.moved_mm[1]:.1f}", f"{median:.2f} to {worst:.2f}", "mm")
        )
        if isinstance(s.surface.shape, Arc):
            found.append((f"{name}: radius", f"{s.surface.shape.radius_m:.4f}", "", "m"))
        found.append((f"{name}: residuals", f"{s.rms_px:.3f} px, {s.rms_mm:.2f} mm on the wall", "", ""))
    for rig in solved.rigs:
        found += _pose(f"camera {rig.camera_id}: tracker_from_camera", rig.tracker_from_camera, rig.tracker_from_camera_sigma)
        found += _pose(f"camera {rig.camera_id}: stage_from_world", rig.stage_from_world, rig.stage_from_world_sigma)
        if rig.tracker_rms_mm is not None:
            told = f"{rig.tracker_rms_mm:.2f} mm, {rig.tracker_rms_deg:.3f}°"
            found.append((f"camera {rig.camera_id}: samples off", told, "", ""))
        for lens in rig.lenses:
            of = f"camera {rig.camera_id}, lens {lens.lens_state}"
            found.append((f"{of}: focal length", f"{lens.lens.focal_length_mm:.4f}", _pm(lens.focal_length_sigma_mm, 4), "mm"))
            offset = ", ".join(f"{v:+.4f}" for v in lens.lens.projection_offset_mm)
            sigmas = lens.projection_offset_sigma_mm
            found.append((f"{of}: projection offset", offset, _pm(max(sigmas) if sigmas else None, 4), "mm"))
            pupil = f"{1000 * lens.lens.entrance_pupil_m:.2f}"
            found.append((f"{of}: entrance pupil", pupil, _pm(lens.entrance_pupil_sigma_mm, 2), "mm"))
            if lens.distortion_sigma_px is not None:
                found.append((f"{of}: distortion, at the border", "", _pm(lens.distortion_sigma_px, 3), "px"))
    eyes = [max(row[i] for i, row in enumerate(v.eye_covariance_mm2)) ** 0.5 for v in solved.views if not v.is_held_out]
    found.append(("eyes", "", f"{INTERVAL * min(eyes):.2f} to {INTERVAL * max(eyes):.2f}", "mm"))
    told = f"{solved.rms_px:.3f} px, {solved.rms_mm:.2f} mm on the wall"
    found.append(("residuals, RMS", told, "", f"{solved.matches - solved.rejected} of {solved.matches} matches"))
    for view in solved.views:
        if view.is_held_out:
            tracker = "" if view.tracker_mm is None else f"; tracker {view.tracker_mm:.2f} mm, {view.tracker_deg:.3f}° off"
            found.append((f"held out {view.name}", f"{view.rms_px:.3f} px, {view.rms_mm:.2f} mm on the wall{tracker}", "", ""))
    found.append(("solved in", f"{solved.seconds:.2f}", "", f"s, {solved.unknowns} unknowns, {solved.iterations} steps"))
    return found


def table(lines: list[tuple[str, str, str, str]]) -> str:
    """Aligned columns."""
    cells = [("", "value", "± 95 %", ""), *lines]
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in cells)


def _pose(what: str, pose, sigma: PoseSigma | None) -> list[tuple[str, str, str, str]]:
    angles = ", ".join(f"{math.degrees(v):+.4f}" for v in pan_tilt_roll_of(pose.wxyz))
    position = ", ".join(f"{1000 * v:+.2f}" for v in pose.position_m)
    return [
        (f"{what}, x y z", position, _pm(max(sigma.position_mm) if sigma else None, 2), "mm"),
        (f"{what}, pan tilt roll", angles, _pm(max(sigma.rotation_deg) if sigma else None, 4), "°"),
    ]


def _pm(sigma: float | None, digits: int) -> str:
    return "held" if sigma is None else f"{INTERVAL * sigma:.{digits}f}"
