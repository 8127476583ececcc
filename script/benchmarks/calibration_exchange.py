"""Walls of other programs: are they where they are? And is what is written read back?

The walls, and the corners that were worked by hand from the files' numbers, are those of the tests.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from calibration.exchange import Assumed, Wall, corners_of, load_wall, save_wall
from ledvolume.stage import Flat
from measure import ROOT, Row

sys.path.insert(0, str(ROOT / "tests"))
import test_calibration_exchange as walls

LSU_RADIUS_M = 11.235


def exchange_real_files() -> Iterable[Row]:
    """the LSU wall, OpenVPCal's stage, two MPCDI files and an nDisplay configuration against corners worked by hand"""
    for name in ("LSU_LED_Wall.obj", "LSU_LED_Wall.fbx"):
        wall = load_wall(walls.STAGES / name, Assumed(resolution_px=(2464, 1056)))
        kind = name.rpartition(".")[2].upper()
        radius_m = wall.fits[0].arc_radius_m
        yield Row(f"LSU wall, {kind}: radius", radius_m * 1000, "mm")
        yield Row(f"LSU wall, {kind}: off 11.235 m", abs(radius_m - LSU_RADIUS_M) * 1000, "mm", ("≤", 1))
        yield Row(
            f"LSU wall, {kind}: corners off those of the file", _off_m(wall, {"pPlane1": walls.LSU_CORNERS_M}), "m", ("≤", 2e-6)
        )
    wall = load_wall(walls.STAGES / "openvpcal")
    right = sum((s.size_m, s.resolution_px) == walls.OPENVPCAL_SIZES[s.name] for s in wall.surfaces)
    yield Row("OpenVPCal's stage: walls of the right size and pixels", right, "of 6", ("=", 6))
    main = {"mainWall": walls.OPENVPCAL_MAIN_WALL_M}
    yield Row("OpenVPCal's stage: corners of the main wall off", _off_m(wall.only("mainWall", "stage"), main), "m", ("≤", 1e-6))
    surface = load_wall(walls.STAGES / "Advanced3D.mpcdi").surfaces[0]
    at_m = walls.positions(surface)
    off_m = max(float(np.abs(at_m[j, i] - point).max()) for (i, j), point in walls.MPCDI_POINTS_M.items())
    yield Row("MPCDI 1.0 a3: LED pixels off", off_m, "m", ("≤", 1e-6))
    wall = load_wall(walls.STAGES / "Cube-mapping.mpcdi.xml")
    yield Row("MPCDI 2.0 3d: corners of six views off", _off_m(wall, walls.MPCDI_2_CORNERS_M), "m", ("≤", 1e-6))
    wall = load_wall(walls.STAGES / "NDC_CaveUnwrap.ndisplay")
    yield Row("nDisplay: corners of five screens off", _off_m(wall, walls.NDISPLAY_CORNERS_M), "m", ("≤", 1e-6))


def exchange_round_trips() -> Iterable[Row]:
    """planes, arcs, a ceiling and a measured map, written and read back: the farthest that an LED pixel is off"""
    wall = walls.a_wall()
    for name in ("w.obj", "w.usda", "w.usdc", "w.mpcdi", "w.ndisplay"):
        some = Wall(tuple(s for s in wall.surfaces if name != "w.ndisplay" or isinstance(s.shape, Flat)), "made")
        with tempfile.TemporaryDirectory() as folder:
            save_wall(some, Path(folder) / name)
            back = load_wall(Path(folder) / name)
        pairs = zip(some.surfaces, back.surfaces)
        off_m = max(float(np.linalg.norm(walls.positions(a) - walls.positions(b), axis=-1).max()) for a, b in pairs)
        kept = f"{len(some.surfaces)} surfaces"
        yield Row(f"written and read, {name[1:]} ({kept}): LED pixels off", off_m, "m", ("≤", 1e-6))


def exchange_openvpcal() -> Iterable[Row]:
    """OpenVPCal's stage, read, written and read again: sizes and places in the raster (it holds no places on the stage)"""
    wall = load_wall(walls.STAGES / "openvpcal")
    with tempfile.TemporaryDirectory() as folder:
        save_wall(wall, Path(folder) / "stage.json")
        back = load_wall(Path(folder) / "stage_walls.json")
    off_m = max(float(np.abs(np.subtract(a.size_m, b.size_m)).max()) for a, b in zip(wall.surfaces, back.surfaces))
    yield Row("written and read, OpenVPCal (6 surfaces): sizes off", off_m, "m", ("≤", 1e-6))
    yield Row("written and read, OpenVPCal: pixels and places kept", _pixels(wall) == _pixels(back), "", ("=", True))


def _pixels(wall: Wall):
    return [s.resolution_px for s in wall.surfaces], wall.placements, wall.rasters


def _off_m(wall: Wall, corners_m: dict) -> float:
    """The largest difference of a coordinate; infinite where the names are others."""
    if {surface.name for surface in wall.surfaces} != corners_m.keys():
        return float("inf")
    return max(float(np.abs(corners_of(s) - corners_m[s.name]).max()) for s in wall.surfaces)


MEASUREMENTS = (exchange_real_files, exchange_round_trips, exchange_openvpcal)
