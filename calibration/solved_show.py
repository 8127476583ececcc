"""What was solved → a show that `serve` loads, through show_edit.py: walls, rigs, lenses, and how well each is known."""

from datetime import datetime
from pathlib import Path

import msgspec

from calibration.show_edit import CalibratedShow, calibrated
from calibration.solved import PoseSigma, Solved, SolvedLens, SolvedRig
from ledvolume.camera import Rig
from ledvolume.config import Show
from ledvolume.lens_table import END_SLACK, OPTIONAL, LensTable, Station
from ledvolume.show_file import SolvedCameraTable, SolvedSurfaceTable

BY = "ledvolume calibrate solve"


def show_of(show: Show, solved: Solved, from_file: str, at: datetime, folder: Path) -> CalibratedShow:
    """The show with everything that was solved. folder: where it is going to lie. Raises ConfigError."""
    rigs = {rig.camera_id: rig for rig in show.stage.rigs}
    views = [view for view in solved.views if not view.is_held_out]
    tables: dict[str, SolvedSurfaceTable | SolvedCameraTable] = {}
    for surface in solved.surfaces:
        tables[f"surface {surface.surface.name}"] = SolvedSurfaceTable(
            BY, at, from_file, len(views), _short(surface.rms_px), _short(surface.rms_mm), _short(surface.sigma_worst_mm)
        )
    for rig in solved.rigs:
        lens = rig.lenses[0]
        mine = [view for view in views if view.camera_id == rig.camera_id]
        world, hand = _sigmas(rig.stage_from_world_sigma), _sigmas(rig.tracker_from_camera_sigma)
        rms_px = (sum(view.rms_px**2 for view in mine) / len(mine)) ** 0.5
        tables[f"camera {rig.camera_id}"] = SolvedCameraTable(
            BY,
            at,
            from_file,
            len(mine),
            _short(rms_px),
            *world,
            *hand,
            _short(lens.focal_length_sigma_mm),
            _short(lens.entrance_pupil_sigma_mm),
        )
    surfaces = [surface.surface for surface in solved.surfaces]
    return calibrated(show, surfaces, [rig_of(rigs[rig.camera_id], rig) for rig in solved.rigs], tables, folder)


def rig_of(nominal: Rig, solved: SolvedRig) -> Rig:
    """The show's rig with what was solved; its lens is that of the first lens state.

    A lens table gets a station for every lens state whose encoders are known, in place of the one that was there; several lens
    states make one. Without encoders a table says nothing, and the lens stands in the rig.
    """
    lens = solved.lenses[0].lens
    placed = [found for found in solved.lenses if found.zoom_encoder is not None or found.focus_encoder is not None]
    table = nominal.lens_table
    if placed and (table is not None or len(placed) > 1):
        table = _table(table, placed, nominal.camera_id)
    elif table is not None and len(table.stations) == 1:
        table = None  # a lens with one station: show_edit writes the new one
    return msgspec.structs.replace(
        nominal,
        lens=lens,
        stage_from_world=solved.stage_from_world,
        tracker_from_camera=solved.tracker_from_camera,
        lens_table=table,
    )


def _table(table: LensTable | None, solved: list[SolvedLens], name: str) -> LensTable:
    """What the table's stations leave out, the new ones leave out, too."""
    told = [key for key in OPTIONAL if table is None or getattr(table.stations[0], key) is not None]
    new = []
    for found in solved:
        focus_m = found.lens.focus_distance_m
        values = {
            "focus_distance_m": None if focus_m is None else "infinity" if focus_m == float("inf") else focus_m,
            "entrance_pupil_mm": found.lens.entrance_pupil_m * 1000,
            "projection_offset_mm": found.lens.projection_offset_mm,
            "distortion": found.lens.distortion,
        }
        if table is None and any(other.lens.focus_distance_m is None for other in solved):
            values["focus_distance_m"] = None
        new.append(
            Station(
                found.lens.focal_length_mm,
                found.zoom_encoder or 0.0,
                found.focus_encoder or 0.0,
                **{key: values[key] for key in told},
            )
        )
    kept = [] if table is None else [station for station in table.stations if not any(_same_place(station, n) for n in new)]
    stations = sorted((*kept, *new), key=lambda s: (s.zoom_encoder, s.focus_encoder))
    return LensTable(1, tuple(stations), name if table is None else table.name)


def _same_place(a: Station, b: Station) -> bool:
    return max(abs(a.zoom_encoder - b.zoom_encoder), abs(a.focus_encoder - b.focus_encoder)) <= END_SLACK


def _sigmas(sigma: PoseSigma | None) -> tuple[float | None, float | None]:
    """The longest each is likely to be off, one sigma in each of three directions."""
    if sigma is None:
        return None, None
    return tuple(_short(sum(v * v for v in part) ** 0.5) for part in (sigma.position_mm, sigma.rotation_deg))


def _short(value: float | None) -> float | None:
    """Three digits: a sigma is not known better."""
    return None if value is None else float(f"{value:.3g}")
