"""Walls of any shape: the file, the show that names it, and that every part takes such a wall as it takes a flat one."""

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scenes import plane_scene

from ledvolume.camera import Camera, Lens
from ledvolume.config import load_show, read_show
from ledvolume.errors import ConfigError
from ledvolume.farm.job import job_of
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.lens_check import check
from ledvolume.moves import looking_at
from ledvolume.offline import RenderSpec, show_of
from ledvolume.patches import patch_coordinates, patch_points
from ledvolume.pose import Pose, Similarity
from ledvolume.render.renderer import Place, Renderer
from ledvolume.scenes import bricks
from ledvolume.scenes.bake_view import WallView
from ledvolume.scenes.mips import with_mips
from ledvolume.schedule import Inputs
from ledvolume.stage import Box, PositionMap, Stage, Surface, cut, facing, surface_points
from ledvolume.take import ShowRecorder, Take
from ledvolume.wall_map import load_wall_map, wall_map_file

SHOW = """
name = "a wall of any shape"
rate = "24"
stage.eye_m = [0.0, 0.0, 1.6]
stage.zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }

[[stage.surface]]
name = "wall"
shape = "map"
map = "maps/wall.safetensors"
centre_m = [0.0, 4.0, 1.6]
size_m = [3.0, 2.0]
resolution_px = [60, 40]
tiles = [2, 2]

[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 24.0

[[place]]
name = "door"
file = "door.safetensors"
field_from_stage = { scale = 0.5 }
"""


def sampled(surface: Surface, columns: int, rows: int) -> PositionMap:
    """Cells whose corners lie on another surface."""
    (width, height), inverse = surface.resolution_px, surface.stage_from_surface.inverse().matrix()
    x, y = np.meshgrid(np.arange(columns + 1) * width / columns, np.arange(rows + 1) * height / rows)
    grid_m = surface_points(surface, x, y) @ inverse[:3, :3].T + inverse[:3, 3]
    grid_m = np.round(grid_m, 12)  # a turn and back leaves 1e-16
    upper = np.stack([grid_m[:-1, :-1], grid_m[:-1, 1:]], 2)
    return PositionMap.of(np.stack([upper, np.stack([grid_m[1:, :-1], grid_m[1:, 1:]], 2)], 2))


FLAT = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (3.0, 2.0), (60, 40))
CELLS = sampled(FLAT, 6, 4)


@pytest.fixture
def show_file(tmp_path) -> Path:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "wall.safetensors").write_bytes(wall_map_file(CELLS, "wall"))
    (tmp_path / "show.toml").write_text(SHOW)
    return tmp_path / "show.toml"


def test_a_map_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "wall.safetensors"
    file.write_bytes(wall_map_file(CELLS, "wall"))
    assert load_wall_map(file) == CELLS
    # 3 × 2 m in 6 × 4 cells around the middle: the first cell is 0.5 m wide and high, its top left corner at (-1.5, 1)
    assert CELLS.corners_m[0, 0].tolist() == [[[-1.5, 1, 0], [-1, 1, 0]], [[-1.5, 0.5, 0], [-1, 0.5, 0]]]
    assert CELLS.size_m == (3.0, 2.0)


def test_the_file_is_what_other_programs_read():
    data = wall_map_file(CELLS, "wall")
    assert load(data)["corners"].tobytes() == CELLS.corners
    length = int.from_bytes(data[:8], "little")  # the format's own words: then JSON, then numbers
    assert json.loads(data[8 : 8 + length])["__metadata__"] == {"ledvolume_wall_map": "1", "name": "wall"}
    assert length % 8 == 0 and np.frombuffer(data[8 + length :], "<f8")[:3].tolist() == [-1.5, 1.0, 0.0]


VERSION = {"ledvolume_wall_map": "1"}
C = CELLS.corners_m


def with_(place, value) -> dict:
    corners = C.copy()
    corners[place] = value
    return {"corners": corners}


# tensors, metadata; the key that is named; what must be said of it
REFUSED = {
    "no version": ({"corners": C}, {}, "ledvolume_wall_map", "1"),
    "another version": ({"corners": C}, {"ledvolume_wall_map": "2"}, "ledvolume_wall_map", "1"),
    "no corners": ({"points": C}, VERSION, "corners", "tensor"),
    "half as exact": ({"corners": C.astype("f4")}, VERSION, "corners", "F64"),
    "points instead of cells": ({"corners": C[:, :, 0, 0].copy()}, VERSION, "corners", "(rows, columns, 2, 2, 3)"),
    "no cell": ({"corners": C[:0].copy()}, VERSION, "corners", "(rows, columns, 2, 2, 3)"),
    "not a number": (with_((1, 2, 0, 1, 2), math.nan), VERSION, "corners[1, 2]", "finite"),
    "millimetres": ({"corners": C * 1000}, VERSION, "corners[0, 0]", "metres"),
    "a cell without area": (with_((3, 5), C[3, 5, 0, 0]), VERSION, "corners[3, 5]", "area"),
}


@pytest.mark.parametrize(("tensors", "metadata", "key", "said"), REFUSED.values(), ids=REFUSED)
def test_a_map_that_no_wall_can_be_is_refused(tmp_path, tensors, metadata, key, said):
    file = tmp_path / "wall.safetensors"
    file.write_bytes(save(tensors, metadata))
    with pytest.raises(ConfigError) as refused:
        load_wall_map(file)
    assert (refused.value.file, refused.value.key) == (str(file), key) and said in refused.value.expected


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 7, b"\xff" * 64, wall_map_file(CELLS)[:-1], wall_map_file(CELLS) + b"\0", b"PK\3\4", b"\2\0\0\0\0\0\0\0{}"],
    ids=["empty", "short", "endless header", "cut off", "too long", "another format", "nothing in it"],
)
def test_a_file_that_is_no_map_is_refused(tmp_path, data):
    file = tmp_path / "wall.safetensors"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        load_wall_map(file)
    assert refused.value.file == str(file)


def test_a_show_names_its_map(show_file):
    show = load_show(show_file)
    surface = show.stage.surfaces[0]
    assert surface.shape == CELLS and len(show.stage.tiles) == 4
    # the cells lie on the plane 4 m ahead, so its top left corner is that of a flat wall
    assert surface_points(surface, 0, 0) == pytest.approx((-1.5, 4.0, 2.6), abs=1e-12)
    assert show.files == {"maps/wall.safetensors": wall_map_file(CELLS, "wall")}


# what is replaced, by what; the key that is named; what must be said of it
MISFITS = {
    "no file named": ('map = "maps/wall.safetensors"', "", "stage.surface[0].map", "relative to the show"),
    "no such file": ("maps/wall", "maps/left", "stage.surface[0].map", "a wall map, relative to the show"),
    "a map of a flat wall": ('shape = "map"', 'shape = "flat"', "stage.surface[0].map", "no map"),
    "a radius": ("tiles", "radius_m = 5.0\ntiles", "stage.surface[0].radius_m", "no radius_m"),
    "pixels of no cell": ("resolution_px = [60, 40]", "resolution_px = [64, 40]", "stage.surface[0].map", "64 × 40 px"),
    "another wall's map": ("size_m = [3.0, 2.0]", "size_m = [12.0, 2.0]", "stage.surface[0].map", "12 × 2 m"),
}


@pytest.mark.parametrize(("old", "new", "key", "said"), MISFITS.values(), ids=MISFITS)
def test_a_map_that_does_not_fit_its_surface_is_refused(show_file, old, new, key, said):
    assert old in SHOW
    show_file.write_text(SHOW.replace(old, new, 1))
    with pytest.raises(ConfigError) as refused:
        load_show(show_file)
    assert (refused.value.file, refused.value.key) == (str(show_file), key) and said in refused.value.expected


def test_mistakes_of_a_map_are_told_of_its_own_file(show_file):
    file = show_file.parent / "maps" / "wall.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(ConfigError) as refused:
        load_show(show_file)
    assert refused.value.file == str(file)


def test_a_take_and_a_job_bring_the_map_with_them(show_file, tmp_path):
    """On another machine, and after the wall was measured again, the frames are those of the wall as it was."""
    (tmp_path / "door.safetensors").write_bytes(b"not looked into here")
    show = load_show(show_file)
    recorder = ShowRecorder(tmp_path / "take.mcap", show, Inputs([], {}), "no driver")
    recorder.close()
    (show_file.parent / "maps" / "wall.safetensors").unlink()
    take = Take(tmp_path / "take.mcap")
    assert take.show().stage.surfaces[0].shape == CELLS
    spec = RenderSpec(show_toml=show.toml, show_folder="/nowhere", show_files=show.files, out="out")
    assert show_of(spec).stage == show.stage
    assert read_show(Path("/nowhere/show.toml"), take.toml, take.files).stage == show.stage


def test_a_job_goes_on_only_with_the_same_map(show_file):
    show, requests = load_show(show_file), [FrameRequest(0, 0, 0, None, "door")]
    spec = RenderSpec(show_toml=show.toml, show_folder="", show_files=show.files, out="out")
    moved = wall_map_file(PositionMap.of(CELLS.corners_m + 0.001), "wall")
    other = msgspec.structs.replace(spec, show_files={"maps/wall.safetensors": moved})
    here, there = job_of(spec, requests), job_of(other, requests)
    assert here["show_files"] != there["show_files"]
    assert here["show_files"]["maps/wall.safetensors"].startswith("sha256:")


# Rays: the closed form against what makes sense without it.


def random_patches(seed: int, rows: int, columns: int, off_m: float) -> np.ndarray:
    """Cells of about 0.5 m on a hollow shell of 4 m around the origin; their corners off_m beside it, each where it likes."""
    rng = np.random.default_rng(seed)
    row, column, down, across = np.indices((rows, columns, 2, 2))
    azimuth, height = (column + across - columns / 2) * 0.125, (rows / 2 - row - down) * 0.5
    radius = 4 - 0.1 * height**2
    on_shell = np.stack([radius * np.sin(azimuth), radius * np.cos(azimuth), height], -1)
    return on_shell + rng.uniform(-off_m, off_m, on_shell.shape)


eyes = st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(-1, 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), eyes, st.sampled_from([0.0, 0.003, 0.05]))
def test_rays_come_back_to_where_they_were_sent(seed, eye, off_m):
    """Or, where a patch stands before another, to a nearer point on the same ray."""
    corners, eye = random_patches(seed, 4, 24, off_m), np.array(eye)
    sent = np.random.default_rng(seed).uniform(0, (24, 4), (400, 2))
    toward = patch_points(corners, *sent.T) - eye
    found = patch_coordinates(corners, eye, toward)
    assert np.isfinite(found).all()
    hit = patch_points(corners, *found.T) - eye
    share = (hit * toward).sum(-1) / (toward * toward).sum(-1)
    is_same = np.abs(found - sent).max(-1) < 1e-9
    # on the ray, and no farther than the point that it was sent through
    assert np.linalg.norm(hit - share[:, None] * toward, axis=-1)[is_same].max() < 1e-9
    assert (share[~is_same] < 1 + 1e-9).all() and (share > 0).all()
    if off_m == 0.0:
        assert is_same.all()  # neighbours share their corners, and from within nothing is hidden


def first_triangle(corners: np.ndarray, eye: np.ndarray, directions: np.ndarray, pieces: int = 24) -> np.ndarray:
    """Distances (n,) to patches cut into flat triangles (Möller and Trumbore 1997); inf: missed. Slow, and another way."""
    rows, columns = corners.shape[:2]
    nearest = np.full(len(directions), np.inf)
    steps = np.linspace(0, 1, pieces + 1)
    u, v = np.meshgrid(steps, steps)
    for row, column in np.ndindex(rows, columns):
        (a, b), (c, d) = corners[row, column]
        u_, v_ = u[..., None], v[..., None]
        grid = (1 - v_) * ((1 - u_) * a + u_ * b) + v_ * ((1 - u_) * c + u_ * d)
        halves = (grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1]), (grid[1:, 1:], grid[1:, :-1], grid[:-1, 1:])
        for p, q, r in ([side.reshape(-1, 3) for side in half] for half in halves):
            for i in range(len(p)):
                e1, e2, s = q[i] - p[i], r[i] - p[i], eye - p[i]
                h = np.cross(directions, e2)
                det = h @ e1
                with np.errstate(divide="ignore", invalid="ignore"):
                    x, y = h @ s / det, directions @ np.cross(s, e1) / det
                    distance = e2 @ np.cross(s, e1) / det
                    is_in = (x >= 0) & (y >= 0) & (x + y <= 1) & (distance > 0)
                nearest = np.where(is_in & (distance < nearest), distance, nearest)
    return nearest


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("off_m", [0.02, 0.3], ids=["askew", "twisted through one another"])
def test_the_first_of_the_patches_is_hit(seed, off_m):
    rng = np.random.default_rng(seed)
    corners, eye = random_patches(seed, 2, 3, off_m), rng.uniform(-0.5, 0.5, 3)
    aims = np.stack([rng.uniform(-1.1, 1.1, 600), np.full(600, 4.0), rng.uniform(-0.9, 0.9, 600)], -1)
    directions = (aims - eye) * rng.uniform(0.2, 3, (600, 1))
    found = patch_coordinates(corners, eye, directions)
    points = patch_points(corners, *found.T) - eye
    distance = (points * directions).sum(-1) / (directions * directions).sum(-1)
    wanted = first_triangle(corners, eye, directions)
    misses, wanted_misses = np.isnan(found[:, 0]), np.isinf(wanted)
    assert 50 < wanted_misses.sum() < 550
    assert (misses != wanted_misses).mean() < 0.01  # rims of twisted patches are curved, those of triangles are not
    both = ~misses & ~wanted_misses
    # a triangle of a 24th of a patch that is twisted by 1 m is at most 1 / (4 · 24²) = 0.4 mm off it; a ray may come in flat
    assert (np.abs(distance - wanted)[both] * np.linalg.norm(directions[both], axis=-1) > 5e-3).mean() < 0.01


def test_rays_from_within_behind_and_along_a_patch():
    square = np.array([[[[[-1.0, 2, 1], [1, 2, 1]], [[-1, 2, -1], [1, 2, -1]]]]])
    eye = np.zeros(3)
    directions = np.array([[0, 1.0, 0], [0, -1, 0], [1, 0, 0], [0.25, 1, 0.25], [0, 0, 0], [np.nan, 1, 0], [1, 2, 1]])
    found = patch_coordinates(square, eye, directions)
    assert found[[0, 3]].tolist() == [[0.5, 0.5], [0.75, 0.25]]
    assert np.isnan(found[[1, 2, 4, 5]]).all()
    assert found[6] == pytest.approx([1, 0], abs=1e-9)  # its corner
    assert patch_coordinates(square, np.array([0.0, 4, 0]), -directions[:1])[0].tolist() == [0.5, 0.5]  # from behind
    assert np.isnan(patch_coordinates(square, np.array([0.0, 2, 0]), np.array([[1.0, 0, 0]]))).all()  # in its plane
    assert np.isnan(patch_points(square, np.array([np.nan]), np.array([0.5]))).all()


def test_a_wall_around_the_eye_is_hit_all_round():
    """A whole turn: no cone holds it, and half of it is behind any camera."""
    drum = random_patches(0, 4, 50, 0.0)  # 50 · 0.125 rad = 358°
    azimuth = np.linspace(-3.1, 3.1, 1000)
    found = patch_coordinates(drum, np.zeros(3), np.stack([np.sin(azimuth), np.cos(azimuth), 0.1 * np.ones(1000)], -1))
    assert np.abs(found[:, 0] - (azimuth / 0.125 + 25)).max() < 0.01  # chords of 7°: a hundredth of one off the arc


def test_the_lens_check_of_a_wall_of_panels_askew(context):
    """The proof of the picture holds for any shape; with the wall 30 mm from where it is believed to be, it does not."""
    place = Place(plane_scene(), Similarity(Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -0.32)), 0.2))
    rng = np.random.default_rng(5)
    flat = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (4.0, 2.8), (256, 176))
    cells = PositionMap.of(sampled(flat, 8, 8).corners_m + rng.uniform(-0.02, 0.02, (8, 8, 2, 2, 3)))
    surface = msgspec.structs.replace(flat, shape=cells)
    camera = Camera(looking_at((0.3, -0.1, 1.7), (0.1, 4.0, 1.6)), Lens(40.0, (24.0, 16.0)), "measured", 0)
    believed = msgspec.structs.replace(surface, stage_from_surface=facing(0.0, (0.03, 4.0, 1.6)))
    decibels = []
    for wall in (surface, believed):
        drawn, real = (Stage(cut(s, 2, 2), (0.0, 0.0, 1.6), Box((-1, -1, 1), (1, 1, 2)), ()) for s in (wall, surface))
        renderer = Renderer(context, drawn, {"plane": place}, Footprint(), "rgb16")
        frame = renderer.render(FrameRequest(0, 0, 0, camera, "plane"))
        decibels.append(check(frame, real, renderer, Footprint()).db)
    assert decibels[0] > 45 and decibels[1] < 30


def test_the_demos_arc_as_a_fine_map_shows_the_same_picture(context):
    """Cells of 4 pixels, 49 mm: 0.049² / (8 · 6) = 0.05 mm off the arc in their middle, a 250th of a pixel: one code value
    of 255 here and there, two at most on the hard edges of a photographed place."""
    show = load_show(Path(__file__).resolve().parent.parent / "configs" / "demo.toml")
    place, surface = show.places[show.start], show.stage.surfaces[0]
    places = {show.start: Place(with_mips(bricks.load(place.file)), place.field_from_stage, place.near_m, place.exposure)}
    camera = Camera(show.initial["camera"], show.stage.rigs[0].lens, "measured", 0)
    pictures = []
    for wall in (surface, msgspec.structs.replace(surface, shape=sampled(surface, 68, 2))):
        stage = msgspec.structs.replace(show.stage, tiles=cut(wall, 1, 1))
        frame = Renderer(context, stage, places, show.footprint).render(FrameRequest(0, 0, 0, camera, show.start))
        pictures.append(frame.images["wall-0-0"].astype(int))
    off = np.abs(pictures[1] - pictures[0])
    assert (off > 1).mean() < 1e-3 and off.max() <= 2 and 0 < off.mean() < 0.02


def test_a_bake_looks_through_the_pixels_of_a_map():
    surface = msgspec.structs.replace(FLAT, shape=CELLS)
    views = [WallView(Stage(cut(s, 2, 2), (0, 0, 1.6), Box((-1, -1, 1), (1, 1, 2)), ()), Similarity()) for s in (FLAT, surface)]
    for of_flat, of_map in zip(*(view.rays(500, np.random.default_rng(1)) for view in views)):
        assert of_map == pytest.approx(of_flat, abs=1e-12)
