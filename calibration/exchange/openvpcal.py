"""OpenVPCal's stage: panels, walls made of panels, and raster maps of video processors, as JSON; read and written.

Three files, each a table or a list of things with names, told apart by what is in them; any of them, or their folder, is read
with those that lie beside it. A wall is columns × rows panels, and a panel has as many whole LED pixels as fit it at its
pitch, as OpenVPCal counts them. Millimetres. No file says where a wall stands, or that it is bent: walls are stood in a row,
upright, flat, on the floor. Written: panels are a map's cells, else about half a metre large.

Raster maps place rectangles of a wall's pixels, turned clockwise, in a raster, from its top left. An empty segment is the
whole wall. Older files count the places in panels; they are read so where walls overlap if they are pixels and fit if they
are panels.
"""

import math
from itertools import combinations
from pathlib import Path

import msgspec

from calibration.exchange.wall import Assumed, Fit, Placement, Resolution, Wall, bytes_of, made_wall
from ledvolume.errors import ConfigError
from ledvolume.show_file import Name
from ledvolume.stage import Flat, PositionMap, Surface, facing

MOST_BYTES = 16 << 20
MOST_FILES = 64
MOST_PX = 65_535
MM = 0.001
GAP_M = 1.0
ABOUT_A_PANEL_M = 0.5
DISTANCE_M = 4.0

Number = float | int


class Panel(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A kind of panel. Millimetres, nits, hertz."""

    name: Name
    manufacturer: str = ""
    panel_width: Number
    panel_height: Number
    panel_depth: Number = 0
    pixel_pitch: Number
    brightness: Number = 0
    refresh_rate: str | Number = "0"
    scan_rate: str | Number = ""

    @property
    def resolution_px(self) -> Resolution:
        return int(self.panel_width / self.pixel_pitch), int(self.panel_height / self.pixel_pitch)


class PanelWall(msgspec.Struct, kw_only=True):
    """A wall of panels of one kind."""

    id: int = 0
    name: Name
    panel_name: str
    panel_count_width: int
    panel_count_height: int
    wall_default_color: tuple[Number, Number, Number] = (0, 1, 0)


class Mapping(msgspec.Struct, kw_only=True):
    """A segment of a wall in a raster; ends are not part of it."""

    wall_name: str
    raster_u: int = 0
    raster_v: int = 0
    wall_segment_u_start: int = 0
    wall_segment_u_end: int = 0
    wall_segment_v_start: int = 0
    wall_segment_v_end: int = 0
    wall_segment_orientation: Number = 0


class Raster(msgspec.Struct, kw_only=True):
    """What one video processor is fed."""

    name: Name
    resolution_width: int
    resolution_height: int
    mappings: list[Mapping] = []


def read(file: Path, assumed: Assumed) -> Wall:
    """Raises ConfigError."""
    panels, walls, rasters, notes = _gathered(file)
    if not walls:
        raise ConfigError(file, "walls", "at least one wall, here or in a file beside", "none")
    surfaces, counted = [], {}
    for wall in walls.values():
        panel = panels.get(wall.panel_name)
        if panel is None:
            expected = f"one of {', '.join(panels) or 'the panels of a file beside'}"
            raise ConfigError(file, f"{wall.name}.panel_name", expected, wall.panel_name)
        if not (panel.panel_width > 0 and panel.panel_height > 0 and panel.pixel_pitch > 0 and min(panel.resolution_px) > 0):
            got = (panel.panel_width, panel.panel_height, panel.pixel_pitch)
            raise ConfigError(file, f"panels.{panel.name}", "a size and a pitch above 0, the pitch the smaller", got)
        columns, rows = wall.panel_count_width, wall.panel_count_height
        w, h = panel.resolution_px
        if not (0 < columns * w <= MOST_PX and 0 < rows * h <= MOST_PX):
            raise ConfigError(file, f"{wall.name}.panel_count_width, panel_count_height", "1 panel and more", (columns, rows))
        for side, px in zip((panel.panel_width, panel.panel_height), (w, h)):
            if abs(side / panel.pixel_pitch - px) > 0.1:
                notes.append(
                    f"{panel.name}: {side:g} mm at {panel.pixel_pitch:g} mm are {side / panel.pixel_pitch:.2f} LED pixels, "
                    f"counted as {px}, as OpenVPCal does: the pitch is rounded, or pixels are missing (--resolution)"
                )
        size_m = (columns * panel.panel_width * MM, rows * panel.panel_height * MM)
        resolution_px = assumed.resolution_px or (columns * w, rows * h)
        counted[wall.name] = (w, h) if resolution_px == (columns * w, rows * h) else None
        surfaces.append(Surface(wall.name, facing(0.0, (0.0, 0.0, 0.0)), size_m, resolution_px, Flat()))
    total_m = sum(surface.size_m[0] for surface in surfaces) + GAP_M * (len(surfaces) - 1)
    left_m = -total_m / 2
    for i, surface in enumerate(surfaces):
        centre_m = (left_m + surface.size_m[0] / 2, DISTANCE_M, surface.size_m[1] / 2)
        surfaces[i] = msgspec.structs.replace(surface, stage_from_surface=facing(0.0, centre_m))
        left_m += surface.size_m[0] + GAP_M
    notes.append("the files do not say where walls are: they stand in a row, upright and flat, on the floor")
    placements, sizes = [], {}
    for raster in rasters.values():
        if not (0 < raster.resolution_width <= MOST_PX and 0 < raster.resolution_height <= MOST_PX):
            got = (raster.resolution_width, raster.resolution_height)
            raise ConfigError(file, f"{raster.name}.resolution_width, resolution_height", f"1 to {MOST_PX}", got)
        sizes[raster.name] = (raster.resolution_width, raster.resolution_height)
        placements += _placed(raster, {s.name: s for s in surfaces}, counted, file, notes)
    return made_wall(
        file, "openvpcal", surfaces, fits=(Fit(0.0),) * len(surfaces), placements=tuple(placements), rasters=sizes,
        notes=notes,
    )  # fmt: skip


def write(wall: Wall, file: Path, assumed: Assumed) -> list[str]:
    """Three files: NAME_panels.json, NAME_walls.json, NAME_raster.json for file NAME.json. Raises ConfigError."""
    panels, walls, rasters = {}, {}, {}
    for number, surface in enumerate(wall.surfaces):
        columns, rows = _panel_counts(surface)
        w, h = surface.resolution_px[0] // columns, surface.resolution_px[1] // rows
        width, height = (side / MM / n for side, n in zip(surface.size_m, (columns, rows)))
        pitch = min(width / w, height / h) * (1 - 1e-9)
        panel = Panel(name=f"{surface.name} panel"[:64], panel_width=width, panel_height=height, pixel_pitch=pitch)
        if panel.resolution_px != (w, h):
            got = f"{width / w:.4f} × {height / h:.4f} mm, {w} × {h} px a panel"
            raise ConfigError(file, surface.name, "LED pixels as wide as they are high: OpenVPCal has one pitch", got)
        same = next(
            (p for p in panels.values() if (p.panel_width, p.panel_height, p.pixel_pitch) == (width, height, pitch)), panel
        )
        panels[same.name] = same
        walls[surface.name] = PanelWall(
            id=number, name=surface.name, panel_name=same.name, panel_count_width=columns, panel_count_height=rows
        )
    placements = wall.placements or [
        Placement(s.name, f"raster {s.name}"[:64], (0, 0), (0, 0), s.resolution_px) for s in wall.surfaces
    ]
    for placement in placements:
        (u, v), (w, h) = placement.offset_px, placement.resolution_px
        size = wall.rasters.get(placement.raster, (w, h))
        raster = rasters.setdefault(
            placement.raster, Raster(name=placement.raster, resolution_width=size[0], resolution_height=size[1], mappings=[])
        )
        raster.mappings.append(
            Mapping(
                wall_name=placement.surface,
                raster_u=placement.raster_px[0],
                raster_v=placement.raster_px[1],
                wall_segment_u_start=u,
                wall_segment_u_end=u + w,
                wall_segment_v_start=v,
                wall_segment_v_end=v + h,
                wall_segment_orientation=placement.rotation_deg,
            )
        )
    notes = ["where walls stand and that they are bent has no place in these files"]
    for kind, table in (("panels", panels), ("walls", walls), ("raster", rasters)):
        part = beside(file, kind)
        part.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n")
        notes.append(f"wrote {part}")
    return notes


def beside(file: Path, kind: str) -> Path:
    """NAME_panels.json for NAME.json."""
    return file.with_name(f"{file.stem}_{kind}.json")


def _gathered(file: Path) -> tuple[dict[str, Panel], dict[str, PanelWall], dict[str, Raster], list[str]]:
    """What is in a file, or in a folder's; what it lacks is taken from the JSON files beside it."""
    found: dict[type, dict] = {Panel: {}, PanelWall: {}, Raster: {}}
    notes: list[str] = []
    if file.is_dir():
        first, others = [], sorted(file.glob("*.json"))
        if not others:
            raise ConfigError(file, "folder", "JSON files of panels, walls and rasters", "none")
    else:
        first, others = [file], sorted(path for path in file.parent.glob("*.json") if path.name != file.name)
        if file.stem.endswith(ours := ("_panels", "_walls", "_raster")):
            stem = file.stem[: -len(next(end for end in ours if file.stem.endswith(end)))]
            family = [path for path in others if path.stem.removeprefix(stem) in ours]
            others = family if len(family) == 2 else others
    for path in first:
        kind, things = _things(path)
        found[kind] |= things
    lacking = {kind for kind, things in found.items() if not things}
    for path in others[:MOST_FILES]:
        try:
            kind, things = _things(path)
        except ConfigError:
            continue  # some other JSON file that lies there
        if kind in lacking:
            for name, thing in things.items():
                if found[kind].setdefault(name, thing) != thing:
                    raise ConfigError(path, name, "what another file says of it, too: name the file to read", "something else")
            notes.append(f"{_WORDS[kind]} from {path.name}")
    return found[Panel], found[PanelWall], found[Raster], notes


_WORDS = {Panel: "panels", PanelWall: "walls", Raster: "raster maps"}
_MARKS = {"pixel_pitch": Panel, "panel_count_width": PanelWall, "mappings": Raster}


def _things(path: Path) -> tuple[type, dict]:
    """What kind of things a file has, and those by name. Raises ConfigError."""
    try:
        raw = msgspec.json.decode(bytes_of(path, MOST_BYTES))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(path, "file", "JSON of panels, walls or rasters", str(error)) from None
    rows = list(raw.values()) if isinstance(raw, dict) and "name" not in raw else raw if isinstance(raw, list) else [raw]
    kinds = {kind for row in rows if isinstance(row, dict) for mark, kind in _MARKS.items() if mark in row}
    if len(kinds) != 1:
        raise ConfigError(path, "file", "OpenVPCal's panels, walls or raster maps", "none of these" if not kinds else "several")
    kind = kinds.pop()
    try:
        things = msgspec.convert(rows, list[kind])
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigError(path, where.strip("`.") or "file", f"{_WORDS[kind]} as OpenVPCal has them", message) from None
    if len({thing.name for thing in things}) < len(things):
        raise ConfigError(path, "name", "a name of its own for each", [thing.name for thing in things])
    return kind, {thing.name: thing for thing in things}


def _placed(raster: Raster, surfaces: dict[str, Surface], counted: dict, file: Path, notes: list[str]) -> list[Placement]:
    """Placements of a raster, in pixels."""
    placements = []
    for m in raster.mappings:
        surface = surfaces.get(m.wall_name)
        if surface is None:
            raise ConfigError(file, f"{raster.name}.wall_name", f"one of {', '.join(surfaces)}", m.wall_name)
        if m.wall_segment_orientation % 90:
            expected = "quarter turns, clockwise"
            raise ConfigError(file, f"{raster.name}.wall_segment_orientation", expected, m.wall_segment_orientation)
        offset = (m.wall_segment_u_start, m.wall_segment_v_start)
        end = (m.wall_segment_u_end or surface.resolution_px[0], m.wall_segment_v_end or surface.resolution_px[1])
        if not all(0 <= a < b <= size for a, b, size in zip(offset, end, surface.resolution_px)):
            got = f"{offset} to {end}"
            raise ConfigError(file, f"{raster.name}.{m.wall_name}", f"a part of its {surface.resolution_px} LED pixels", got)
        size = (end[0] - offset[0], end[1] - offset[1])
        turn = int(m.wall_segment_orientation) % 360
        placements.append(Placement(m.wall_name, raster.name, (m.raster_u, m.raster_v), offset, size, turn))
    in_panels = [
        msgspec.structs.replace(p, raster_px=(p.raster_px[0] * px[0], p.raster_px[1] * px[1]))
        for p in placements
        if (px := counted[p.surface])
    ]
    if _overlap(placements):
        is_whole = all(p.resolution_px == surfaces[p.surface].resolution_px for p in placements)
        if is_whole and len(in_panels) == len(placements) and not _overlap(in_panels) and _fit(in_panels, raster):
            notes.append(f"{raster.name}: raster_u and raster_v are read as panels: as pixels its walls would overlap")
            return in_panels
        notes.append(f"{raster.name}: its walls overlap")
    if not _fit(placements, raster):
        notes.append(f"{raster.name}: its walls are larger than it is")
    return placements


def _rectangle(p: Placement) -> tuple[int, int, int, int]:
    w, h = p.resolution_px if p.rotation_deg % 180 == 0 else p.resolution_px[::-1]
    return (*p.raster_px, p.raster_px[0] + w, p.raster_px[1] + h)


def _overlap(placements: list[Placement]) -> bool:
    return any(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in combinations(map(_rectangle, placements[:512]), 2)
    )


def _fit(placements: list[Placement], raster: Raster) -> bool:
    rectangles = map(_rectangle, placements)
    return all(
        r[0] >= 0 and r[1] >= 0 and r[2] <= raster.resolution_width and r[3] <= raster.resolution_height for r in rectangles
    )


def _panel_counts(surface: Surface) -> tuple[int, int]:
    """A map's cells, else whole panels of about ABOUT_A_PANEL_M with the same whole number of pixels."""
    shape = surface.shape
    wanted = (
        (shape.columns, shape.rows)
        if isinstance(shape, PositionMap)
        else [max(1, round(s / ABOUT_A_PANEL_M)) for s in surface.size_m]
    )
    counts = []
    for count, px in zip(wanted, surface.resolution_px):
        divisors = [n for n in range(1, min(px, 4096) + 1) if px % n == 0]
        counts.append(min(divisors, key=lambda n: (abs(math.log(n / count)), n)))
    return counts[0], counts[1]
