"""Imported walls in a show: its surfaces become these, everything else stays as people wrote it.

A surface of the same name keeps its comments and, where the new LED pixels divide by it, its cut into tiles.
"""

from collections.abc import Mapping
from pathlib import Path

import tomlkit

from calibration.show_edit import CalibratedShow, calibrated
from ledvolume.config import Show, read_show
from ledvolume.errors import ConfigError
from ledvolume.show_file import SolvedSurfaceTable
from ledvolume.stage import Surface
from ledvolume.toml_edit import parsed, put_back, take_tail

SHAPED = ("radius_m", "map", "solved", "wxyz", "pan_deg", "tilt_deg", "roll_deg")


def with_surfaces(
    show: Show,
    surfaces: tuple[Surface, ...],
    keep_others: bool,
    solved: Mapping[str, SolvedSurfaceTable],
    folder: Path,
) -> CalibratedShow:
    """The show with these surfaces, to lie in a folder. keep_others: the show's own of other names stay. Raises ConfigError."""
    toml = parsed(show.toml.decode().replace("\r\n", "\n"), show.file)
    written = toml["stage"]["surface"]
    if not isinstance(written, tomlkit.items.AoT):
        raise ConfigError(show.file, "stage.surface", "[[stage.surface]] tables, to write into", "a list on one line")
    tail = take_tail(written[-1])
    there = {str(table["name"]): table for table in written}
    kept = [table for name, table in there.items() if keep_others and name not in {s.name for s in surfaces}]
    tables = tomlkit.aot()
    for table in kept + [_nominal(there.get(surface.name), surface) for surface in surfaces]:
        tables.append(table)
    toml["stage"]["surface"] = tables
    put_back(tables[len(tables) - 1], tail)
    nominal = read_show(show.file, toml.as_string().encode(), show.files, **show.instead)
    return calibrated(nominal, surfaces, solved=solved, folder=folder)


def _nominal(table, surface: Surface):
    """Its name, size and pixels, flat at its place: what show_edit then turns, bends and maps."""
    w, h = surface.resolution_px
    if table is None:
        table = tomlkit.table()
        table["name"] = surface.name
    for key in SHAPED:
        table.pop(key, None)
    table["shape"] = "flat"
    table["centre_m"] = [round(c, 10) + 0.0 for c in surface.stage_from_surface.position_m]
    table["size_m"] = [round(side, 10) for side in surface.size_m]
    table["resolution_px"] = [w, h]
    columns, rows = table.get("tiles", [1, 1])
    if w % columns or h % rows:
        table["tiles"] = [1, 1]
    return table
