"""Walls of any shape: the file, the show that names it, and that every part takes such a wall as it takes a flat one."""

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from ledvolume.config import load_show, read_show
from ledvolume.errors import ConfigError
from ledvolume.farm.job import job_of
from ledvolume.frame import FrameRequest
from ledvolume.offline import RenderSpec, show_of
from ledvolume.schedule import Inputs
from ledvolume.stage import PositionMap, Surface, facing, surface_points
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


def test_the_file_is_what_other_programs_read(tmp_path):
    """By the format's own words: 8 bytes with the length of the header, JSON, then numbers, little endian."""
    data = wall_map_file(CELLS, "wall")
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"] == {"ledvolume_wall_map": "1", "name": "wall"}
    assert (header["corners"]["dtype"], header["corners"]["shape"]) == ("F64", [4, 6, 2, 2, 3])
    assert np.frombuffer(data[8 + length :], "<f8")[:3].tolist() == [-1.5, 1.0, 0.0]


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
