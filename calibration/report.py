"""A calibration as one HTML page that needs nothing else: verdict, pictures, and every number with its uncertainty.

`page(solved, views)` is pure. All text of files and shows is escaped; there is no script in the page, and no address.
"""

import base64
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from calibration.guide import Seen, coverage, patches_of, seen_in
from calibration.report_plots import coverage_png, eyes_png, wall_png
from calibration.session import Matches, View
from calibration.solved import PoseSigma, Solved, SolvedLens, SolvedRig, SolvedView
from calibration.verdict import Coverage, Verdict, verdict_of
from ledvolume.pose import Pose, pan_tilt_roll_of
from ledvolume.stage import Box, Stage, WallTile

SIGMAS_95 = 1.96
SURROUNDING_M = 0.5
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #22223b; max-width: 1180px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: .2em } h2 { font-size: 1.15em; margin: 1.8em 0 .4em }
.verdict { font-size: 1.25em; padding: .7em 1em; border-left: 6px solid #3c8d53; background: #f2f7f3 }
.verdict.bad { border-color: #c1121f; background: #fbf1f1 } img { width: 100% } .quiet { color: #6c6c80 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } td, th { padding: .2em .9em .2em 0; text-align: right }
th { color: #6c6c80; font-weight: normal; border-bottom: 1px solid #d9d9e3 } td:first-child, th:first-child { text-align: left }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } img, table { break-inside: avoid } }
"""


def page(solved: Solved, views: Sequence[View] = ()) -> str:
    """The report. views: what was found in the pictures; without them coverage is told by the residuals."""
    seen = coverage_of(solved, views)
    verdict = verdict_of(solved, seen)
    parts = [
        f"<h1>Calibration of {escape(solved.show)}</h1>",
        _verdict(verdict),
        _summary(solved),
        "<h2>Wall</h2>",
        _image(wall_png(solved), "the wall in plan and elevation, with residuals"),
        _surfaces(solved),
        "<h2>What was seen</h2>",
        _image(coverage_png(solved, seen), "how often every part of the wall was seen"),
        "<h2>Views</h2>",
        _image(eyes_png(solved), "where the views were taken from, with their uncertainty"),
        _views(solved),
        "<h2>Camera</h2>",
        *(_rig(rig) for rig in solved.rigs),
        "<h2>Thrown away</h2>",
        _thrown_away(solved, views),
        "<h2>Solved and held</h2>",
        _list([f"solved: {words}" for words in solved.solved] + [f"held: {words}" for words in solved.held]),
    ]
    title = f"<title>Calibration of {escape(solved.show)}: {escape(verdict.words)}</title>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{title}<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def coverage_of(solved: Solved, views: Sequence[View] = ()) -> dict[str, Coverage]:
    """Of every surface as it was solved, by the views that were not held out. views: with all matches; else the residuals'."""
    stage = stage_of(solved)
    found = {view.name: view for view in views}
    seen: list[Seen] = []
    for view in solved.views:
        if not view.is_held_out:
            seen.append(seen_in(stage, found.get(view.name) or _view_of(view), view.stage_from_camera))
    times, parallax_deg = coverage(stage, seen)
    middles = {patches.surface.name: patches.middles_m for patches in patches_of(stage)}
    return {name: Coverage(times[name], parallax_deg[name], middles[name]) for name in times}


def stage_of(solved: Solved) -> Stage:
    """The stage as it was found; its zone is where the views were taken from, with some room."""
    eyes = np.array([view.stage_from_camera.position_m for view in solved.views] or [(0.0, 0.0, 1.6)])
    low, high = (tuple(float(c) for c in v) for v in (eyes.min(0) - SURROUNDING_M, eyes.max(0) + SURROUNDING_M))
    tiles = tuple(WallTile(s.surface.name, s.surface, (0, 0), s.surface.resolution_px) for s in solved.surfaces)
    return Stage(tiles, tuple(float(c) for c in eyes.mean(0)), Box(low, high), ())


def _view_of(view: SolvedView) -> View:
    matches = tuple(
        Matches(
            r.surface,
            np.asarray(r.led_px).reshape(-1, 2)[~np.asarray(r.is_rejected, bool).ravel()],
            np.empty((0, 2)),
            np.empty(0),
        )
        for r in view.residuals
    )
    return View(view.name, (1, 1), matches, view.camera_id)


def _verdict(verdict: Verdict) -> str:
    kind = "verdict" if verdict.is_good else "verdict bad"
    return f'<p class="{kind}">{escape(_sentence(verdict.words))}</p>' + _list([_sentence(words) for words in verdict.more])


def _summary(solved: Solved) -> str:
    fitted = [view for view in solved.views if not view.is_held_out]
    held = len(solved.views) - len(fitted)
    return (
        f'<p class="quiet">{len(fitted)} views solved, {held} held out; {solved.matches:,} matches, {solved.rejected:,} rejected; '
        f"{solved.rms_px:.3f} px and {solved.rms_mm:.2f} mm RMS; residuals are {solved.sigma_scale:.2f} times what was promised. "
        f"{solved.unknowns:,} unknowns, {solved.iterations} iterations, {solved.seconds:.1f} s. "
        f"The stage's frame hangs on {escape(solved.gauge)}. ± and ellipses hold 95 %.</p>"
    )


def _surfaces(solved: Solved) -> str:
    rows = [
        (s.surface.name, f"{s.rms_px:.3f}", f"{s.rms_mm:.2f}", f"{s.sigma_median_mm:.2f}", f"{s.sigma_worst_mm:.2f}",
         f"{s.moved_mm[0]:.1f}", f"{s.moved_mm[1]:.1f}")
        for s in solved.surfaces
    ]  # fmt: skip
    head = ("surface", "RMS px", "RMS mm", "σ of an LED, median mm", "worst mm", "moved from the show, median mm", "most mm")
    tiles = [
        (tile.name, f"{tile.matches:,}", f"{tile.views}", f"{tile.parallax_deg:.0f}°", f"{tile.sigma_mm:.2f}")
        for surface in solved.surfaces
        for tile in surface.tiles
    ]
    return _table(head, rows) + _table(("tile", "matches", "views", "widest angle", "σ mm"), tiles)


def _views(solved: Solved) -> str:
    rows = []
    for view in sorted(solved.views, key=lambda v: (v.is_held_out, v.name)):
        x, y, z = view.stage_from_camera.position_m
        radius_mm = SIGMAS_95 * math.sqrt(max(float(np.linalg.eigvalsh(np.array(view.eye_covariance_mm2)).max()), 0.0))
        tracker = "-" if view.tracker_mm is None else f"{view.tracker_mm:.2f} mm, {view.tracker_deg or 0:.3f}°"
        rows.append(
            (f"{view.name}{' (held out)' * view.is_held_out}", f"{x:.2f} {y:.2f} {z:.2f}", f"± {radius_mm:.2f}", f"{view.matches:,}",
             f"{view.rejected:,}", f"{view.rms_px:.3f}", f"{view.median_px:.3f}", f"{view.worst_px:.2f}", f"{view.rms_mm:.2f}", tracker)
        )  # fmt: skip
    head = (
        "view",
        "eye m",
        "mm, longest axis",
        "matches",
        "rejected",
        "RMS px",
        "median px",
        "worst px",
        "RMS mm",
        "tracker is off",
    )
    return _table(head, rows)


def _rig(rig: SolvedRig) -> str:
    rows = [*_pose_rows("tracker to stage", rig.stage_from_world, rig.stage_from_world_sigma)]
    rows += _pose_rows("lens on the tracked body (hand-eye)", rig.tracker_from_camera, rig.tracker_from_camera_sigma)
    if rig.tracker_rms_mm is not None:
        rows.append(
            (
                "the tracker's own samples, against the pictures",
                f"{rig.tracker_rms_mm:.2f} mm RMS, {rig.tracker_rms_deg or 0:.3f}°",
            )
        )
    for lens in rig.lenses:
        rows += _lens_rows(lens, f"lens {lens.lens_state}: " if len(rig.lenses) > 1 else "")
    return f"<h3>{escape(rig.camera_id)}</h3>" + _table(("", ""), rows)


def _pose_rows(what: str, pose: Pose, sigma: PoseSigma | None) -> list[tuple[str, str]]:
    position = " ".join(f"{1000 * p:.1f}" for p in pose.position_m)
    angles = " ".join(f"{math.degrees(a):.3f}" for a in pan_tilt_roll_of(pose.wxyz))
    if sigma is None:
        return [(f"{what}: x y z", f"{position} mm, held"), (f"{what}: pan tilt roll", f"{angles} °, held")]
    around = " ".join(f"{SIGMAS_95 * s:.2f}" for s in sigma.position_mm)
    about = " ".join(f"{SIGMAS_95 * s:.4f}" for s in sigma.rotation_deg)
    return [
        (f"{what}: x y z", f"{position} ± {around} mm"),
        (f"{what}: pan tilt roll", f"{angles} °, ± {about} ° about x y z"),
    ]


def _lens_rows(lens: SolvedLens, what: str) -> list[tuple[str, str]]:
    x, y = lens.lens.projection_offset_mm
    offset = lens.projection_offset_sigma_mm
    rows = [
        (f"{what}focal length", f"{lens.lens.focal_length_mm:.3f} mm{_within(lens.focal_length_sigma_mm, 'mm', 3)}"),
        (
            f"{what}middle of the picture",
            f"{x:.3f} {y:.3f} mm"
            + (", held" if offset is None else f" ± {SIGMAS_95 * offset[0]:.3f} {SIGMAS_95 * offset[1]:.3f} mm"),
        ),
        (f"{what}entrance pupil", f"{1000 * lens.lens.entrance_pupil_m:.1f} mm{_within(lens.entrance_pupil_sigma_mm, 'mm', 2)}"),
    ]
    bends = any(lens.lens.distortion.radial) or any(lens.lens.distortion.tangential)
    if bends or lens.distortion_sigma_px is not None:
        rows.append(
            (f"{what}distortion, at the worst point of the border", _within(lens.distortion_sigma_px, "px", 2).lstrip(", "))
        )
    return rows


def _thrown_away(solved: Solved, views: Sequence[View]) -> str:
    reasons: Counter[str] = Counter()
    for view in views:
        reasons.update(view.thrown_away)
    rows = [(reason, f"{number:,}") for reason, number in reasons.most_common()]
    rows.append(("did not fit, and was rejected by the solve", f"{solved.rejected:,}"))
    return _table(("why", "candidates"), rows)


def _within(sigma: float | None, unit: str, digits: int) -> str:
    return ", held" if sigma is None else f" ± {SIGMAS_95 * sigma:.{digits}f} {unit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{top}</tr>\n{body}</table>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _image(png: bytes, what: str) -> str:
    return f'<img alt="{escape(what)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
