"""Walls come out of other programs' files where they are, and go back in; what is damaged or dangerous is refused in words."""

import io
import json
import math
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calibration.cli import COMMANDS
from calibration.exchange import Assumed, Placement, Wall, corners_of, load_wall, save_wall
from calibration.exchange.axes import AXES, stage_from_file
from calibration.exchange.mesh import cells_of
from calibration.exchange.pfm import pfm_bytes
from calibration.exchange.shapes import map_of
from ledvolume.cli import choose
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.stage import Arc, Flat, PositionMap, Surface, facing, surface_points

STAGES = Path(__file__).parent / "data" / "stages"
PRINTED_M = 2e-6  # files print centimetres to 1e-7, or 32-bit numbers
EXACT_M = 1e-6


def positions(surface: Surface) -> np.ndarray:
    """Of all its LED pixels."""
    w, h = surface.resolution_px
    return surface_points(surface, np.arange(w)[None, :] + 0.5, np.arange(h)[:, None] + 0.5)


def obj(tmp_path, text: str, **assumed) -> Wall:
    (tmp_path / "wall.obj").write_text(text)
    return load_wall(tmp_path / "wall.obj", Assumed(**assumed))


def quads(points: np.ndarray, us, vs, flip=False) -> str:
    """An OBJ of a lattice of points (rows + 1, columns + 1, 3), the first row at v = vs[0]."""
    rows, columns = points.shape[0] - 1, points.shape[1] - 1
    lines = ["o wall"] + ["v {:.9f} {:.9f} {:.9f}".format(*p) for p in points.reshape(-1, 3)]
    lines += [f"vt {u:.9f} {v:.9f}" for v in vs for u in us]
    for j in range(rows):
        for i in range(columns):
            a = j * (columns + 1) + i + 1
            corners = [a, a + 1, a + columns + 2, a + columns + 1]
            lines.append("f " + " ".join(f"{c}/{c}" for c in (corners[::-1] if flip else corners)))
    return "\n".join(lines) + "\n"


def arc_points(radius: float, angles, heights) -> np.ndarray:
    """Upright cylinder in Y-up axes, hollow toward +Z, from the bottom up."""
    return np.array([[[radius * math.sin(a), y, -radius * math.cos(a)] for a in angles] for y in heights])


# the LSU wall: vertices of the file in cm, Y up; stage = (x, -z, y) / 100
LSU_CORNERS_M = [
    (-3.44394135, 3.11675354, 3.0),  # v -344.394135 300 -311.675354: top left, as seen from the stage
    (3.44394135, 3.11675354, 3.0),
    (3.44394135, 3.11675354, 0.0),
    (-3.44394135, 3.11675354, 0.0),
]


@pytest.mark.parametrize("name", ["LSU_LED_Wall.obj", "LSU_LED_Wall.fbx"])
def test_the_lsu_wall_has_its_corners_and_its_radius(name):
    wall = load_wall(STAGES / name, Assumed(resolution_px=(2464, 1056)))
    (surface,), (fit,) = wall.surfaces, wall.fits
    np.testing.assert_allclose(corners_of(surface), LSU_CORNERS_M, rtol=0, atol=PRINTED_M)
    assert (surface.shape.columns, surface.shape.rows) == (14, 6)
    # three vertices of the file: sagitta s = 365.76001 - 311.675354 = 54.084656, half chord c = 344.394135 (cm)
    # R = (c² + s²) / 2s = (118607.320 + 2925.150) / 108.169312 = 1123.539 cm
    assert abs(fit.arc_radius_m - 11.23539) < 1e-5 and abs(fit.arc_radius_m - 11.235) < 0.001
    assert fit.arc_residual_m < PRINTED_M
    # flat cabinets of 0.5 m on it: sagitta 0.5² / 8R = 2.78 mm
    assert abs(fit.facet_m - 0.25 / (8 * 11.23539)) < 1e-5


def test_the_lsu_wall_can_become_an_arc():
    wall = load_wall(STAGES / "LSU_LED_Wall.obj", Assumed(shape="arc", resolution_px=(2464, 1056)))
    surface = wall.surfaces[0]
    assert abs(surface.shape.radius_m - 11.235) < 0.001  # hollow toward the stage: +
    # half the turn is asin(3.44394135 / 11.23539) = 0.3115... ; along the arc 2 R · that
    assert abs(surface.size_m[0] - 2 * 11.235395 * math.asin(3.44394135 / 11.235395)) < 1e-4
    np.testing.assert_allclose(corners_of(surface), LSU_CORNERS_M, rtol=0, atol=PRINTED_M)
    np.testing.assert_allclose(surface_points(surface, 1232, 528), (0, 3.6576001, 1.5), rtol=0, atol=PRINTED_M)


def test_uvs_that_are_a_projection_are_named_and_can_be_had():
    wall = load_wall(STAGES / "LSU_LED_Wall.obj", Assumed(resolution_px=(2464, 1056)))
    assert any("projection" in note for note in wall.notes) and any("read as cm" in note for note in wall.notes)
    # by UV, u = 0.0695748329 is the second column of vertices; by panels 1/14 is
    by_uv = load_wall(STAGES / "LSU_LED_Wall.obj", Assumed(resolution_px=(2464, 1056), cells="uv")).surfaces[0]
    second = (-2.96471771, 3.25938873, 0.0)
    assert np.linalg.norm(surface_points(wall.surfaces[0], 2464 / 14, 1056) - second) < PRINTED_M
    assert np.linalg.norm(surface_points(by_uv, 0.0695748329 * 2464, 1056) - second) < 2e-4


def test_an_arc_that_is_asked_for_must_be_near():
    with pytest.raises(ConfigError, match=r"nearest plane is \d+\.\d+ mm off"):
        load_wall(STAGES / "LSU_LED_Wall.obj", Assumed(shape="flat"))


# nDisplay. cave_origin (0, 0, 10) + cave_center (0, 0, 100): the centre is at z = 110 cm. Unreal: X forward, Y right, Z up.
# Stage (X right, Y forward, Z up) = (y, x, z) / 100. Corners: top left, top right, bottom right, bottom left.
NDISPLAY_CORNERS_M = {
    # display_front: x 150; 300 wide along Y, 200 high: y ±150, z 110 ± 100
    "scr_front": [(-1.5, 1.5, 2.1), (1.5, 1.5, 2.1), (1.5, 1.5, 0.1), (-1.5, 1.5, 0.1)],
    # angle_left (150, -150, 110), yaw -90: its X is -Y of the cave, its Y is +X. display_left (0, -150) in it:
    # x = 150 + (-150) · 1 = 0, y = -150. Its left end is at x = 0 - 150, its right end at +150
    "scr_left": [(-1.5, -1.5, 2.1), (-1.5, 1.5, 2.1), (-1.5, 1.5, 0.1), (-1.5, -1.5, 0.1)],
    # angle_right (150, 150, 110), yaw +90: its Y is -X. display_right (0, 150): x = 150 - 150 = 0, y = 150
    "scr_right": [(1.5, 1.5, 2.1), (1.5, -1.5, 2.1), (1.5, -1.5, 0.1), (1.5, 1.5, 0.1)],
    # angle_ceiling (150, 0, 210), pitch +90: its Z is -X. display_ceiling (0, 0, 75): x = 150 - 75 = 75; 150 high: x 75 ± 75,
    # the top edge is where its Z points: x = 0
    "scr_ceiling": [(-1.5, 0.0, 2.1), (1.5, 0.0, 2.1), (1.5, 1.5, 2.1), (-1.5, 1.5, 2.1)],
    # display_floor (0, 0, 10), pitch -90: its Z is +X: the top edge is at x = +150
    "scr_floor": [(-1.5, 1.5, 0.1), (1.5, 1.5, 0.1), (1.5, -1.5, 0.1), (-1.5, -1.5, 0.1)],
}


def test_ndisplay_screens_are_where_their_parents_put_them():
    wall = load_wall(STAGES / "NDC_CaveUnwrap.ndisplay")
    assert {s.name for s in wall.surfaces} == set(NDISPLAY_CORNERS_M)
    for surface in wall.surfaces:
        # the file's yaw is -89.99999237°, 1.3e-7 rad, at 1.5 m and more
        np.testing.assert_allclose(corners_of(surface), NDISPLAY_CORNERS_M[surface.name], rtol=0, atol=5e-7)
    assert {s.name: s.resolution_px for s in wall.surfaces}["scr_ceiling"] == (600, 300)
    assert wall.rasters["node_floor"] == (600, 600)


def test_every_ndisplay_screen_looks_into_the_cave():
    for surface in load_wall(STAGES / "NDC_CaveUnwrap.ndisplay").surfaces:
        m = surface.stage_from_surface.matrix()
        assert m[:3, 2] @ (np.array([0, 0, 1.1]) - m[:3, 3]) > 0


CFG = """# as Unreal 4.26
[info] version="23"
[scene_node] id=root loc="X=0.Y=0,Z=1" rot="P=0,Y=90,R=0"
[screen] id=wall loc="X=0,y=-1.5,Z=1.5" rot="P=0,Y=-90,R=0" size="X=3,Y=2" parent=root
[projection] id=p type=simple screen=wall
[viewport] id=vp x=10 y=20 width=600 height=400 projection=p
[window] id=wnd viewports="vp" WinX=0 WinY=0 ResX=1920 ResY=1080
[cluster_node] id=n1 addr=127.0.0.1 window=wnd master=true
"""


def test_old_ndisplay_text_is_in_metres_and_has_parents(tmp_path):
    (tmp_path / "stage.cfg").write_text(CFG)
    wall = load_wall(tmp_path / "stage.cfg")
    # root turns by yaw 90: its Y is -X of the world. Y = -1.5 in it: x = 1.5 forward; z = 1 + 1.5. Yaw -90 + 90: faces as the root
    expected = [(-1.5, 1.5, 3.5), (1.5, 1.5, 3.5), (1.5, 1.5, 1.5), (-1.5, 1.5, 1.5)]
    np.testing.assert_allclose(corners_of(wall.surfaces[0]), expected, rtol=0, atol=EXACT_M)
    assert wall.placements == (Placement("wall", "n1", (10, 20), (0, 0), (600, 400)),)
    assert wall.rasters == {"n1": (1920, 1080)}


def ndisplay(**screen) -> str:
    xforms = {"a": {"parentId": "b"}, "b": {"parentId": "a"}}
    screens = {"s": {"size": {"width": 300, "height": 200}} | screen}
    return json.dumps({"nDisplay": {"scene": {"xforms": xforms, "screens": screens}}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ndisplay(parentId="nobody"), "s.parentId: expected a transform of this file, got 'nobody'"),
        (ndisplay(parentId="a"), "parents that come to an end"),
        (ndisplay(size={"width": 0, "height": 2}), "a width and a height above 0"),
        (ndisplay(location={"x": "far"}), "s.location: expected a number, got 'far'"),
        ('{"nDisplay": {"scene": {}}}', "at least one screen"),
        ('{"other": 1}', "nDisplay's configuration"),
        ("[screen] id=a size=3", 'numbers such as "X=1.5,Y=0,Z=0"'),
        ("just a text", r"nDisplay's JSON, or \[kind\]"),
        ("", "an empty file"),
        ('{"a":' * 5000, "nDisplay's configuration"),
    ],
    ids=["no parent", "a circle of parents", "no size", "no number", "no screens", "JSON", "no parts", "text", "empty", "deep"],
)
def test_ndisplay_files_that_say_nothing_are_refused(tmp_path, text, message):
    (tmp_path / "stage.ndisplay").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_wall(tmp_path / "stage.ndisplay")


# pixel (i, j) is at (i / 300, (199 - j) / 200, 0); X right, Y up: stage (i / 300, 0, (199 - j) / 200)
MPCDI_POINTS_M = {
    (0, 0): (0, 0, 199 / 200),
    (299, 0): (299 / 300, 0, 199 / 200),
    (299, 199): (299 / 300, 0, 0),
    (150, 100): (0.5, 0, 0.495),
}


def test_the_reference_librarys_mpcdi_is_a_plane():
    wall = load_wall(STAGES / "Advanced3D.mpcdi")
    surface = wall.surfaces[0]
    assert surface.resolution_px == (300, 200) and isinstance(surface.shape, Flat)
    for (i, j), expected in MPCDI_POINTS_M.items():
        np.testing.assert_allclose(positions(surface)[j, i], expected, rtol=0, atol=EXACT_M)
    # 31 × 21 pixels of the corner are zeros: 651, all but one of which would lie elsewhere
    assert any("651 of 60000 pixels have no place" in note for note in wall.notes)
    # x = 0.01 of 300 px, y = 0.07 of 200
    assert wall.placements == (Placement("proj1", "buffer1", (3, 14), (0, 0), (300, 200)),)


# tan 21.801409° = 0.4, tan 12.680382° = 0.225; the plane is 1 m ahead. MPCDI (x, y, z) is stage (x, -z, y).
MPCDI_2_CORNERS_M = {
    # at (0, 0.5, 3), looks along -z: at z = 2: stage y = -2; x ±0.4, height 0.5 ± 0.225
    "Rear": [(-0.4, -2, 0.725), (0.4, -2, 0.725), (0.4, -2, 0.275), (-0.4, -2, 0.275)],
    # at (0, 0.5, -3), turned by 180°: looks along +z, its right is -x
    "Front": [(0.4, 2, 0.725), (-0.4, 2, 0.725), (-0.4, 2, 0.275), (0.4, 2, 0.275)],
    # at (3, 0.5, 0), yaw -90 about -y: to the left, looks along -x; its right is -z: stage +y
    "Left": [(2, -0.4, 0.725), (2, 0.4, 0.725), (2, 0.4, 0.275), (2, -0.4, 0.275)],
    "Right": [(-2, 0.4, 0.725), (-2, -0.4, 0.725), (-2, -0.4, 0.275), (-2, 0.4, 0.275)],
    # at (0, 3, 0), yaw 180, pitch -90: looks down; its top is where it would look level, +z: stage -y; its right is -x
    "Top": [(0.4, -0.225, 2), (-0.4, -0.225, 2), (-0.4, 0.225, 2), (0.4, 0.225, 2)],
    # at (0, -3, 0), pitch +90: looks up; its top is -z: stage +y
    "Bottom": [(0.4, 0.225, -2), (-0.4, 0.225, -2), (-0.4, -0.225, -2), (0.4, -0.225, -2)],
}


def test_the_views_of_an_mpcdi_2_are_planes_across_them():
    walls = {s.name: s for s in load_wall(STAGES / "Cube-mapping.mpcdi.xml").surfaces}
    assert walls.keys() == MPCDI_2_CORNERS_M.keys()
    for name, corners in MPCDI_2_CORNERS_M.items():
        np.testing.assert_allclose(corners_of(walls[name]), corners, rtol=0, atol=1e-6)  # angles are printed to 1e-6°
    further = load_wall(STAGES / "Cube-mapping.mpcdi.xml", Assumed(distance_m=2.5)).surfaces[0]
    np.testing.assert_allclose(corners_of(further)[0], (-1.0, -0.5, 0.5 + 0.5625), rtol=0, atol=2e-6)


def mpcdi(tmp_path, xml: str, **files: bytes) -> Path:
    file = tmp_path / "wall.mpcdi"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mpcdi.xml", xml)
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return file


def a3(path="w.pfm", unit="m", size=(8, 6), head="", profile="a3", version="1.0") -> str:
    return f"""<?xml version="1.0"?>{head}<MPCDI profile="{profile}" version="{version}"><display><buffer id="b">
    <region id="r" Xresolution="{size[0]}" Yresolution="{size[1]}" x="0" y="0" xsize="1" ysize="1"/></buffer></display>
    <files><fileset region="r"><geometryWarpFile><path>{path}</path><geometricUnit>{unit}</geometricUnit>
    <originof3DData>floorCenter</originof3DData></geometryWarpFile></fileset></files></MPCDI>"""


def plane(w=8, h=6, pitch=0.1) -> np.ndarray:
    """Points of a plane 4 m in front, its first row the top, in MPCDI's axes."""
    x, y = np.meshgrid((np.arange(w) + 0.5) * pitch, (h - 0.5 - np.arange(h)) * pitch)
    return np.stack([x, y, np.full_like(x, -4.0)], -1)


@pytest.mark.parametrize(
    ("unit", "metres"), [("m", 1), ("cm", 0.01), ("mm", 0.001), ("in", 0.0254), ("ft", 0.3048), ("yd", 0.9144), ("dm", 0.1)]
)
def test_units_of_mpcdi_are_minded(tmp_path, unit, metres):
    wall = load_wall(mpcdi(tmp_path, a3(unit=unit), w_pfm=pfm_bytes(plane())))
    np.testing.assert_allclose(wall.surfaces[0].size_m, (0.8 * metres, 0.6 * metres), rtol=1e-5)
    assert not wall.notes


def test_a_coarser_grid_of_points_is_interpolated_and_big_endian_is_read(tmp_path):
    data = b"PF\n8 6\n1.0\n" + plane().astype(">f4").tobytes()
    wall = load_wall(mpcdi(tmp_path, a3(size=(80, 60)), w_pfm=data))
    surface = wall.surfaces[0]
    assert surface.resolution_px == (80, 60)
    np.testing.assert_allclose(surface.size_m, (0.8, 0.6), atol=EXACT_M)  # 8 pixels of 0.1 m, whatever they are cut into


def test_pixels_without_points_at_the_border_are_not_of_the_surface(tmp_path):
    points = plane(12, 8)
    points[:, :3] = 0
    points[7:] = np.nan
    wall = load_wall(mpcdi(tmp_path, a3(size=(12, 8)), w_pfm=pfm_bytes(points)))
    assert wall.surfaces[0].resolution_px == (9, 7)
    assert wall.placements[0].raster_px == (3, 0)
    np.testing.assert_allclose(positions(wall.surfaces[0])[0, 0], (0.35, 4.0, 0.75), rtol=0, atol=EXACT_M)


BILLION_LAUGHS = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (a3(head=BILLION_LAUGHS), "XML without a DTD"),
        (a3(head='<!DOCTYPE x SYSTEM "file:///etc/passwd">'), "XML without a DTD"),
        (a3(path="../../etc/passwd"), "without a folder"),
        (a3(path="/etc/passwd"), "without a folder"),
        (a3(path="C:\\w.pfm"), "without a folder"),
        (a3(path="gone.pfm"), "a file of this name in the zip"),
        (a3(profile="2d"), "say nothing of where pixels are"),
        (a3(version="3.0"), "version 1.x or 2.x"),
        (a3(size=(0, 6)), "the region's pixels, got '0 × 6'"),
        ("<MPCDI", "XML that can be read"),
        ("<a>" * 1000 + "</a>" * 1000, "at most 64 levels"),
    ],
    ids=["laughs", "external", "up", "absolute", "drive", "gone", "2d", "version", "no pixels", "cut", "deep"],
)
def test_dangerous_and_useless_mpcdi_is_refused(tmp_path, xml, message):
    with pytest.raises(ConfigError, match=message):
        load_wall(mpcdi(tmp_path, xml, w_pfm=pfm_bytes(plane())))


def test_a_zip_bomb_is_refused_without_unpacking_it(tmp_path):
    file = tmp_path / "bomb.mpcdi"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("mpcdi.xml", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
    with pytest.raises(ConfigError, match="mpcdi.xml: expected at most 16777216 bytes, got 67108864"):
        load_wall(file)


def test_a_pfm_that_claims_more_than_it_has_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="bytes of 8 × 6 points"):
        load_wall(mpcdi(tmp_path, a3(), w_pfm=pfm_bytes(plane())[:-5]))
    with pytest.raises(ConfigError, match="at most 40000000 pixels"):
        load_wall(mpcdi(tmp_path, a3(), w_pfm=b"PF\n99999 99999\n-1\n"))


# BP2 v2: 500 / 2.84 = 176.06: 176 px; INFiLED: 500 / 5.95 = 84.03: 84; AOTO: 500 / 1.875 = 266.67: 266, as OpenVPCal counts
OPENVPCAL_SIZES = {
    "leftSide": ((8.5, 2.5), (17 * 176, 5 * 176)),
    "mainWall": ((10.5, 5.0), (21 * 176, 10 * 176)),
    "rightSide": ((8.5, 2.5), (17 * 176, 5 * 176)),
    "backWall": ((2.0, 3.5), (4 * 176, 7 * 176)),
    "floorWall": ((6.5, 6.5), (13 * 84, 13 * 84)),
    "videoWall": ((4.0, 3.0), (8 * 266, 6 * 266)),
}
# in a row with 1 m between: 8.5 + 10.5 + 8.5 + 2 + 6.5 + 4 + 5 = 45 m, the main wall from -22.5 + 9.5 = -13 on
OPENVPCAL_MAIN_WALL_M = [(-13, 4, 5), (-2.5, 4, 5), (-2.5, 4, 0), (-13, 4, 0)]


@pytest.mark.parametrize("name", ["test_panels.json", "test_walls.json", "test_raster.json", ""])
def test_openvpcals_stage_is_read_from_any_of_its_files(name):
    wall = load_wall(STAGES / "openvpcal" / name)
    surfaces = {s.name: s for s in wall.surfaces}
    assert {n: (s.size_m, s.resolution_px) for n, s in surfaces.items()} == OPENVPCAL_SIZES
    np.testing.assert_allclose(corners_of(surfaces["mainWall"]), OPENVPCAL_MAIN_WALL_M, rtol=0, atol=EXACT_M)
    # raster_v 5 and raster_u 17 are panels: 5 · 176 = 880, 17 · 176 = 2992; as pixels the walls would overlap
    assert {p.surface: p.raster_px for p in wall.placements} == {"leftSide": (0, 0), "rightSide": (0, 880), "backWall": (2992, 0)}
    assert wall.rasters == {"raster1": (4096, 2160)}
    assert any("read as panels" in note for note in wall.notes) and any("266.67" in note for note in wall.notes)


def test_a_turned_segment_of_a_wall_is_placed(tmp_path):
    folder = tmp_path / "stage"
    folder.mkdir()
    (folder / "panels.json").write_text((STAGES / "openvpcal" / "test_panels.json").read_text())
    wall = {"name": "w", "panel_name": "BP2 v2", "panel_count_width": 24, "panel_count_height": 8}
    (folder / "walls.json").write_text(json.dumps([wall]))
    first = dict(wall_name="w", wall_segment_u_end=3520, wall_segment_v_end=1408)
    turned = dict(wall_name="w", raster_v=1450, wall_segment_u_start=3520, wall_segment_u_end=4224, wall_segment_v_end=1408)
    turned["wall_segment_orientation"] = 90
    raster = dict(name="r", resolution_width=3840, resolution_height=2160, mappings=[first, turned])
    (folder / "raster.json").write_text(json.dumps([raster]))
    assert load_wall(folder).placements == (
        Placement("w", "r", (0, 0), (0, 0), (3520, 1408)),
        Placement("w", "r", (0, 1450), (3520, 0), (704, 1408), 90),
    )


def test_axes_are_named_by_those_of_the_file():
    # a point 2 to the right, 3 ahead, 5 up, in the axes of each program
    own = {"stage": (2, 3, 5), "z-up": (2, 3, 5), "y-up": (2, 5, -3), "y-up-left": (2, 5, 3), "unreal": (3, 2, 5)}
    assert own.keys() == AXES.keys()
    for name, point in own.items():
        np.testing.assert_array_equal(stage_from_file(name) @ point, (2, 3, 5))
    for wrong in ("x,y", "x,y,y", "x,y,w", "", "x,-y,z,"):
        with pytest.raises(ConfigError, match="three different axes"):
            stage_from_file(wrong)


ANGLES = np.linspace(-0.5, 0.5, 11)


def test_a_finely_meshed_arc_is_an_arc(tmp_path):
    # steps of 5 m · 0.02 = 0.1 m: sagitta 0.25 mm
    points = arc_points(5.0, np.linspace(-0.5, 0.5, 51), (0.0, 1.0, 3.0))
    wall = obj(tmp_path, quads(points, np.linspace(0, 1, 51), (0.0, 1 / 3, 1.0)), scale_m=1.0)
    surface = wall.surfaces[0]
    assert isinstance(surface.shape, Arc) and abs(surface.shape.radius_m - 5.0) < 1e-6
    np.testing.assert_allclose(surface.size_m, (5.0, 3.0), atol=1e-6)


def test_flat_panels_on_an_arc_are_kept_flat(tmp_path):
    points = arc_points(5.0, ANGLES, np.linspace(0, 3, 7))
    wall = obj(tmp_path, quads(points, np.linspace(0, 1, 11), np.linspace(0, 1, 7)), scale_m=1.0)
    assert (wall.surfaces[0].shape.columns, wall.surfaces[0].shape.rows) == (10, 6)
    # the sagitta of 0.1 rad at 5 m: R (1 - cos 0.05) = 6.248 mm
    assert abs(wall.fits[0].arc_radius_m - 5) < 1e-6 and abs(wall.fits[0].facet_m - 5 * (1 - math.cos(0.05))) < 1e-6


def test_panels_of_two_sizes_are_cut_alike(tmp_path):
    # 1.5 m in UV thirds: panels of 1 m and 0.5 m side by side, the second turned by 90° toward the stage; rows 1 m and 0.5 m
    points = np.array([[[0, y, -4], [1, y, -4], [1, y, -3.5]] for y in (0, 1, 1.5)], float)
    wall = obj(tmp_path, quads(points, (0, 2 / 3, 1), (0, 2 / 3, 1)), scale_m=1.0, resolution_px=(300, 300))
    surface = wall.surfaces[0]
    assert (surface.shape.columns, surface.shape.rows) == (3, 3) and not any("sampled" in note for note in wall.notes)
    for px, point in {
        (100, 200): (0.5, 4, 0.5),
        (200, 100): (1, 4, 1),
        (250, 0): (1, 3.75, 1.5),
        (300, 300): (1, 3.5, 0),
    }.items():
        np.testing.assert_allclose(surface_points(surface, *px), point, rtol=0, atol=EXACT_M)


def test_mirrored_uvs_are_named_and_kept(tmp_path):
    points = arc_points(5.0, ANGLES, (0.0, 3.0))
    us = np.linspace(0, 1, 11)
    right = obj(tmp_path, quads(points, us, (0, 1)), scale_m=1.0)
    mirrored = obj(tmp_path, quads(points, us[::-1], (0, 1)), scale_m=1.0)
    back = obj(tmp_path, quads(points, us, (0, 1), flip=True), scale_m=1.0)
    assert not any("mirrored" in note or "wound" in note for note in right.notes)
    assert any("mirrored as seen from the stage" in note for note in mirrored.notes)
    assert any("wound to the back" in note for note in back.notes)
    np.testing.assert_allclose(corners_of(mirrored.surfaces[0])[[1, 0, 3, 2]], corners_of(right.surfaces[0]), atol=EXACT_M)
    np.testing.assert_allclose(corners_of(back.surfaces[0]), corners_of(right.surfaces[0]), atol=EXACT_M)


def test_columns_that_run_up_are_named(tmp_path):
    text = "o side\nv 0 0 -4\nv 2 0 -4\nv 2 3 -4\nv 0 3 -4\nvt 0 1\nvt 0 0\nvt 1 0\nvt 1 1\nf 1/1 2/2 3/3 4/4\n"
    wall = obj(tmp_path, text, scale_m=1.0, resolution_px=(300, 200))
    assert any("columns run up" in note for note in wall.notes)
    # u = 0, v = 1 (the first LED pixel) is the bottom left; u runs up
    np.testing.assert_allclose(corners_of(wall.surfaces[0]), [(0, 4, 0), (0, 4, 3), (2, 4, 3), (2, 4, 0)], atol=EXACT_M)
    np.testing.assert_allclose(wall.surfaces[0].size_m, (3, 2))


def test_pairs_of_triangles_and_gaps_between_panels_are_panels(tmp_path):
    # two panels of 1 m, 20 mm apart, the second 10 mm behind; the first of two triangles
    text = """o wall
v 0 0 -4
v 1 0 -4
v 1 1 -4
v 0 1 -4
v 1.02 0 -4.01
v 2.02 0 -4.01
v 2.02 1 -4.01
v 1.02 1 -4.01
vt 0 0
vt 0.5 0
vt 0.5 1
vt 0 1
vt 1 0
vt 1 1
f 1/1 2/2 3/3
f 1/1 3/3 4/4
f 5/2 6/5 7/6 8/3
"""
    wall = obj(tmp_path, text, scale_m=1.0, pitch_m=0.01)
    surface = wall.surfaces[0]
    assert surface.resolution_px == (200, 100) and (surface.shape.columns, surface.shape.rows) == (2, 1)
    np.testing.assert_allclose(surface_points(surface, 99.999999, 100), (1, 4, 0), atol=EXACT_M)
    np.testing.assert_allclose(surface_points(surface, 100, 100), (1.02, 4.01, 0), atol=EXACT_M)


def test_an_irregular_mesh_is_sampled_and_the_error_told(tmp_path):
    rng = np.random.default_rng(5)
    us, vs = np.meshgrid(np.linspace(0, 1, 17), np.linspace(0, 1, 7))
    us[:, 1:-1] += rng.uniform(-0.02, 0.02, us[:, 1:-1].shape)
    points = np.stack([4 * us, 3 * vs, -5 + 0.5 * np.square(us - 0.5)], -1)
    text = quads(points, [0], [0])
    uv = [f"vt {u:.9f} {v:.9f}" for u, v in zip(us.ravel(), vs.ravel())]
    text = re.sub(r"vt 0.000000000 0.000000000", "\n".join(uv), text)
    wall = obj(tmp_path, text, scale_m=1.0, resolution_px=(400, 300), tolerance_m=0.001)
    (note,) = [note for note in wall.notes if "sampled in" in note]
    told_mm = float(re.search(r"at most ([\d.]+) mm off the mesh", note)[1])
    # the mesh's own facets are 0.5 · (1/16)² / 4 = 0.5 mm off the parabola
    u, v = (np.arange(400)[None] + 0.5) / 400, 1 - (np.arange(300)[:, None] + 0.5) / 300
    true = np.stack(np.broadcast_arrays(4 * u, 5 - 0.5 * np.square(u - 0.5), 3 * v), -1)
    off_mm = np.linalg.norm(positions(wall.surfaces[0]) - true, axis=-1).max() * 1000
    assert told_mm < 1.0 and off_mm < told_mm + 0.8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("o a\nv 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n", r"UVs \(vt\) at every corner"),
        ("o a\nv 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nf 1/1 2/1 3/1\n", "UVs that cover an area"),
        ("o a\nv 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nf 1/1 2/2 3/3\n", "uncovered"),
        ("o a\nv 0 0 0\nv 1 0 0\nvt 0 0\nf 1/1 2/1 3/1\n", "line 5: .* got 'index 3 of 2'"),
        ("v 0 0\n", "line 1: .* got '2 coordinates'"),
        ("v 0 0 nan\nv 2 0 0\nv 2 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nf 1/1 2/2 3/3\n", "numbers up to 1000 m|or --scale"),
        ("", "at least one face"),
    ],
    ids=["no UVs", "one UV", "half", "index", "point", "nan", "empty"],
)
def test_meshes_that_no_wall_can_be_made_of_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        obj(tmp_path, text)


def test_a_usd_stage_of_another_program(tmp_path):
    """Y up, centimetres, vertex UVs, a parent that turns it by 90° to the left, triangles."""
    (tmp_path / "wall.usda").write_text("""#usda 1.0
(
    metersPerUnit = 0.01
    upAxis = "Y"
)
def Xform "stage"
{
    float xformOp:rotateY = 90
    uniform token[] xformOpOrder = ["xformOp:rotateY"]
    def Mesh "left"
    {
        int[] faceVertexCounts = [3, 3]
        int[] faceVertexIndices = [0, 1, 2, 0, 2, 3]
        point3f[] points = [(-200, 0, -400), (200, 0, -400), (200, 300, -400), (-200, 300, -400)]
        texCoord2f[] primvars:st = [(0, 0), (1, 0), (1, 1), (0, 1)] (
            interpolation = "vertex"
        )
    }
    def Mesh "hidden"
    {
        token visibility = "invisible"
    }
}
""")
    wall = load_wall(tmp_path / "wall.usda", Assumed(pitch_m=0.01))
    (surface,) = wall.surfaces
    # ahead of the camera before, after a turn of +90° about up it is to the left: x = -4 m; its left end toward the camera
    expected = [(-4, -2, 3), (-4, 2, 3), (-4, 2, 0), (-4, -2, 0)]
    np.testing.assert_allclose(corners_of(surface), expected, rtol=0, atol=EXACT_M)
    assert surface.name == "left" and surface.resolution_px == (400, 300)


def a_wall() -> Wall:
    """A plane, a hollow and a bulging arc, a ceiling, and a measured map whose cells are off by millimetres."""
    arc = Surface("arc", facing(0.3, (1, 4.2, 2.1)), (6.3, 3.0), (630, 300), Arc(5.0))
    off = np.random.default_rng(1).normal(0, 2e-3, (6, 12, 2, 2, 3))
    return Wall(
        (
            Surface("flat one", facing(-0.4, (-3, 4, 1.5)), (4.0, 2.5), (400, 250)),
            arc,
            Surface("bulging", facing(0.0, (12, 5, 2)), (3, 2), (300, 200), Arc(-7.0)),
            Surface("ceiling", facing(0.2, (0, 1, 5), math.pi / 2), (4.0, 3.0), (400, 300)),
            map_of("measured", cells_of(arc, 12, 6) + off, (360, 180)),
        ),
        "made",
    )


@pytest.mark.parametrize("name", ["w.obj", "w.usda", "w.usdc", "w.mpcdi", "w.ndisplay"])
def test_what_is_written_is_read_back_to_a_micrometre(tmp_path, name):
    wall = a_wall()
    if name == "w.ndisplay":
        with pytest.raises(ConfigError, match="flat surfaces: nDisplay has others as meshes"):
            save_wall(wall, tmp_path / name)
        wall = Wall(tuple(s for s in wall.surfaces if isinstance(s.shape, Flat)), "made")
    save_wall(wall, tmp_path / name)
    back = load_wall(tmp_path / name)
    assert [s.name for s in back.surfaces] == [s.name for s in wall.surfaces]
    for was, now in zip(wall.surfaces, back.surfaces):
        assert type(now.shape) is type(was.shape) and now.resolution_px == was.resolution_px
        assert np.linalg.norm(positions(was) - positions(now), axis=-1).max() < EXACT_M
        assert abs(np.array(was.size_m) - now.size_m).max() < 1e-5


def test_openvpcals_files_are_read_back(tmp_path):
    wall = Wall(
        tuple(Surface(n, facing(0, (x, 4, h / 2)), (w, h), px) for n, x, w, h, px in
              [("a", -6, 8.5, 2.5, (2992, 880)), ("b", 6, 6.5, 6.5, (1092, 1092)), ("c", 0, 0.3, 0.4, (30, 40))]),
        "made",
        placements=(Placement("a", "r", (100, 40), (0, 0), (1000, 880), 90), Placement("b", "r", (1200, 0), (0, 0), (1092, 1092))),
        rasters={"r": (4096, 2160)},
    )  # fmt: skip
    save_wall(wall, tmp_path / "stage.json")
    back = load_wall(tmp_path / "stage_walls.json")
    assert back.placements == wall.placements and back.rasters == wall.rasters
    for was, now in zip(wall.surfaces, back.surfaces):
        assert now.name == was.name and now.resolution_px == was.resolution_px
        np.testing.assert_allclose(now.size_m, was.size_m, rtol=0, atol=EXACT_M)


def test_placements_of_an_mpcdi_are_written_and_read(tmp_path):
    surface = Surface("a", facing(0, (0, 4, 1.5)), (4, 3), (400, 300))
    wall = Wall((surface,), "made", placements=(Placement("a", "p", (17, 5), (0, 0), (400, 300)),), rasters={"p": (1920, 1080)})
    save_wall(wall, tmp_path / "w.mpcdi")
    back = load_wall(tmp_path / "w.mpcdi")
    assert back.placements == wall.placements and back.rasters == wall.rasters


def test_a_wall_can_be_moved_and_turned():
    wall = load_wall(STAGES / "NDC_CaveUnwrap.ndisplay").only("scr_front", "f").moved((1, 2, 3), math.pi / 2)
    # a quarter turn to the left: what was ahead is on the left, its left end toward the camera; then moved
    expected = [(-0.5, 0.5, 5.1), (-0.5, 3.5, 5.1), (-0.5, 3.5, 3.1), (-0.5, 0.5, 3.1)]
    np.testing.assert_allclose(corners_of(wall.surfaces[0]), expected, rtol=0, atol=EXACT_M)


FUZZED = [
    ("LSU_LED_Wall.obj", 25), ("LSU_LED_Wall.fbx", 60), ("Advanced3D.mpcdi", 60), ("Cube-mapping.mpcdi.xml", 80),
    ("NDC_CaveUnwrap.ndisplay", 100), ("openvpcal/test_walls.json", 60), ("openvpcal/test_raster.json", 60),
    ("stage.cfg", 100), ("w.usda", 60), ("w.mpcdi", 40),
]  # fmt: skip
NUMBERS = [b"0", b"-1", b"1e308", b"1e400", b"nan", b"inf", b"99999999999", b'""', b"null", b"[]", b"{}", b"1e-300", b"65536"]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Cut off, with other bytes, without some, with some twice, or with another number."""
    some, at, count = bytearray(data), chance.randrange(len(data)), chance.randrange(1, 40)
    kind = chance.randrange(5)
    if kind == 0:
        del some[at:]
    elif kind == 1:
        for _ in range(chance.randrange(1, 6)):
            some[chance.randrange(len(some))] = chance.randrange(256)
    elif kind == 2:
        del some[at : at + count]
    elif kind == 3:
        some[at:at] = some[at // 2 : at // 2 + count]
    else:
        numbers = [m.span() for m in re.finditer(rb"-?\d+\.?\d*", data[:20000])]
        first, last = chance.choice(numbers)
        some[first:last] = chance.choice(NUMBERS)
    return bytes(some)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "times"), FUZZED, ids=[name for name, _ in FUZZED])
def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path, name, times):
    if name == "stage.cfg":
        (tmp_path / name).write_text(CFG)
    elif name.startswith("w."):
        save_wall(load_wall(STAGES / "NDC_CaveUnwrap.ndisplay", Assumed(resolution_px=(8, 6))), tmp_path / name)
    else:
        for part in STAGES.glob("openvpcal/*.json"):
            (tmp_path / part.name).write_bytes(part.read_bytes())
        (tmp_path / Path(name).name).write_bytes((STAGES / name).read_bytes())
    file = tmp_path / Path(name).name
    data, chance = file.read_bytes(), random.Random(name)
    for _ in range(times):
        file.write_bytes(damaged(data, chance))
        try:
            load_wall(file)
        except ConfigError as error:
            assert str(error)


@pytest.mark.parametrize("name", ["wall.docx", "wall", "nowhere.obj"])
def test_files_that_are_none_are_named(tmp_path, name):
    with pytest.raises(ConfigError, match="a file that ends in|No such file"):
        load_wall(tmp_path / name)


SHOW = """
name = "Stage 2"
rate = "24"
[stage]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
eye_m = [0.0, 0.0, 1.6]
[[stage.surface]]
name = "pPlane1"   # built by Ana
shape = "arc"
radius_m = 6.0
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [64, 48]
tiles = [4, 2]
[[stage.surface]]
name = "ceiling"
shape = "flat"
centre_m = [0.0, 2.0, 4.0]
size_m = [3.0, 2.0]
resolution_px = [60, 40]

# The first one is on air.
[[camera]]
id = "A"
focal_length_mm = 35
sensor_mm = [28.25, 18.17]
[[place]]
name = "door"
file = "door.safetensors"
[place.field_from_stage]
"""


def calibrate(*arguments) -> int:
    return choose("ledvolume calibrate", "", COMMANDS, [str(a) for a in arguments])


def test_an_imported_wall_takes_its_place_in_a_show(tmp_path, capsys):
    (tmp_path / "show.toml").write_text(SHOW)
    new, picture = tmp_path / "new.toml", tmp_path / "wall.png"
    lsu = STAGES / "LSU_LED_Wall.obj"
    arguments = ("--resolution", "280x120", "--show", tmp_path / "show.toml", "--out", new, "--picture", picture)
    assert calibrate("import", lsu, "--surface", "pPlane1", *arguments) == 0
    told = capsys.readouterr().out
    assert "nearest arc: R 11.2354 m" in told and "note: no unit in the file: read as cm" in told
    assert picture.read_bytes()[:4] == b"\x89PNG"
    show = load_show(new)
    surfaces = {s.name: s for s in show.stage.surfaces}
    assert surfaces.keys() == {"pPlane1", "ceiling"} and isinstance(surfaces["pPlane1"].shape, PositionMap)
    read = load_wall(lsu, Assumed(resolution_px=(280, 120))).surfaces[0]
    assert np.linalg.norm(positions(surfaces["pPlane1"]) - positions(read), axis=-1).max() < EXACT_M
    assert len([t for t in show.stage.tiles if t.surface.name == "pPlane1"]) == 8
    text = new.read_text()
    assert "# built by Ana" in text and "# The first one is on air.\n[[camera]]" in text and "radius_m" not in text
    assert 'from = "LSU_LED_Wall.obj"' in text


def test_a_whole_stage_takes_the_place_of_a_shows_and_goes_out_again(tmp_path, capsys):
    (tmp_path / "show.toml").write_text(SHOW)
    new = tmp_path / "new.toml"
    cave = STAGES / "NDC_CaveUnwrap.ndisplay"
    assert calibrate("import", cave, "--show", tmp_path / "show.toml", "--out", new) == 0
    assert {s.name for s in load_show(new).stage.surfaces} == set(NDISPLAY_CORNERS_M)
    for name in ("w.obj", "w.usda", "w.mpcdi", "w.ndisplay", "w.json"):
        assert calibrate("export", new, "--to", tmp_path / name) == 0
        back = load_wall(tmp_path / ("w_walls.json" if name == "w.json" else name))
        assert {s.name: s.resolution_px for s in back.surfaces}["scr_ceiling"] == (600, 300)
        if name != "w.json":
            for surface in back.surfaces:
                np.testing.assert_allclose(corners_of(surface), NDISPLAY_CORNERS_M[surface.name], rtol=0, atol=EXACT_M)
    capsys.readouterr()
    assert calibrate("import", tmp_path / "w.obj", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [s["shape"] for s in told["surfaces"]] == ["flat"] * 5 and len(told["surfaces"][0]["corners_m"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--surface", "wall"), "surface: expected one of pPlane1, got 'wall'"),
        (("--from-axes", "x,y"), "--from-axes: expected three different axes"),
        (("--out", "x.toml"), "--show, --out: expected both or none"),
        (("--as", "flat"), "the nearest plane is"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert calibrate("import", STAGES / "LSU_LED_Wall.obj", *arguments) == 2
    assert message in capsys.readouterr().err


def test_fbx_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="one that is written: .mpcdi, .ndisplay, .obj"):
        save_wall(a_wall(), tmp_path / "w.fbx")


def test_an_archive_that_is_none_is_refused(tmp_path):
    (tmp_path / "w.mpcdi").write_bytes(b"PK" + bytes(30))
    with pytest.raises(ConfigError, match="a zip with mpcdi.xml"):
        load_wall(tmp_path / "w.mpcdi")
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "w.mpcdi").write_bytes(empty.getvalue())
    with pytest.raises(ConfigError, match="mpcdi.xml: expected a file of this name in the zip"):
        load_wall(tmp_path / "w.mpcdi")
