"""Environment pictures: which pixel looks where, that nothing is torn at an edge, and that the light is the place's."""

import math
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import OpenEXR
import OpenImageIO
import pytest
from scenes import plane_scene, random_scene

from ledvolume.cli import main
from ledvolume.colour import linear_from_srgb
from ledvolume.environment import FACES, cube_directions, latlong_directions, panorama
from ledvolume.render import reference
from ledvolume.render.rays import RayViewer
from ledvolume.render.renderer import QUALITIES
from ledvolume.scenes import bricks
from ledvolume.scenes.bricks import EMPTY, GRID
from ledvolume.scenes.mips import with_mips

HALF_FLOAT = 1e-3  # relative: 11 bits, and the march's own 2e-4
SHOW = """
name = "light"
rate = "24"
[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
[[stage.surface]]
name = "wall"
shape = "flat"
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [64, 48]
[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 40.0
[[place]]
name = "place"
file = "place.safetensors"
exposure_stops = 1.0
credit = "A. Photographer"
field_from_stage = { scale = 0.2, position = [0.1, 0.0, -0.32], pan_deg = 90.0 }
"""


def sky(far: np.ndarray) -> bricks.Bricks:
    """Nothing but a far map (h, 2h, 3): row 0 is the field's +Z, its middle column +X, +Y a quarter to the right."""
    scene = random_scene(has_gradients=False, cascades=1)
    nodes = np.tile(np.array([EMPTY, 0], np.uint32), (GRID**3, 1))
    return msgspec.structs.replace(scene, nodes=nodes, far=far.astype(np.float16))


def smooth_sky(height: int = 64) -> bricks.Bricks:
    """Red, green, blue: how far the direction is along X, Y, Z, from 0.1 to 0.9."""
    polar, azimuth = np.meshgrid(
        (np.arange(height) + 0.5) / height * math.pi,
        ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * math.tau,
        indexing="ij",
    )
    toward = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], -1)
    return sky(0.5 + 0.4 * toward)


# By hand, of a picture of 8 × 4: columns are 45° wide from -180° (behind) on, rows 45° high from +90° on.
@pytest.mark.parametrize(
    "row, column, azimuth_deg, elevation_deg",
    [
        (1, 3, -22.5, 22.5),
        (1, 4, 22.5, 22.5),
        (2, 0, -157.5, -22.5),
        (2, 7, 157.5, -22.5),
        (0, 5, 67.5, 67.5),
        (3, 2, -67.5, -67.5),
    ],
)
def test_a_pixel_of_a_long_lat_picture_looks_where_it_should(row, column, azimuth_deg, elevation_deg):
    """Azimuth from +Y to the right, +X; elevation up, +Z."""
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    found = latlong_directions(np.arange(4) + 0.5, 8)[row, column]
    assert found == pytest.approx((math.cos(e) * math.sin(a), math.cos(e) * math.cos(a), math.sin(e)), abs=1e-12)


@pytest.mark.parametrize(
    "face, middle, right, down",
    [
        ("right", (1, 0, 0), (0, -1, 0), (0, 0, -1)),
        ("left", (-1, 0, 0), (0, 1, 0), (0, 0, -1)),
        ("up", (0, 0, 1), (1, 0, 0), (0, 1, 0)),
        ("down", (0, 0, -1), (1, 0, 0), (0, -1, 0)),
        ("front", (0, 1, 0), (1, 0, 0), (0, 0, -1)),
        ("back", (0, -1, 0), (-1, 0, 0), (0, 0, -1)),
    ],
)
def test_the_faces_are_those_of_an_opengl_cube_map(face, middle, right, down):
    """The order, and the table of OpenGL 4.6 §8.13 (s along `right`, t along `down`) with its x, y, z our x, z, y."""
    table = {"px": "-rz -ry", "nx": "+rz -ry", "py": "+rx +rz", "ny": "+rx -rz", "pz": "+rx -ry", "nz": "-rx -ry"}
    name, (s, t) = list(table)[FACES.index(face)], list(table.values())[FACES.index(face)].split()
    ours = {"x": 0, "y": 2, "z": 1}
    for axis, signed in ((right, s), (down, t), (middle, ("+" if name[0] == "p" else "-") + "r" + name[1])):
        assert axis[ours[signed[2]]] == (1 if signed[0] == "+" else -1)
    found = cube_directions(np.arange(6 * 3) + 0.5, 3)[3 * FACES.index(face) :][:3]
    assert found[1, 1] == pytest.approx(middle)
    assert found[1, 2] - found[1, 1] @ found[1, 2] * found[1, 1] == pytest.approx(
        np.multiply(right, 2 / math.sqrt(13)), abs=1e-12
    )
    assert found[2, 1] - found[1, 1] @ found[2, 1] * found[1, 1] == pytest.approx(np.multiply(down, 2 / math.sqrt(13)), abs=1e-12)


@pytest.mark.parametrize("is_cube", [False, True], ids=["long/lat", "cube"])
def test_no_seam_and_no_pole_is_seen(context, is_cube):
    """A smooth sky has in every pixel the light of its direction, at the edges as in the middle."""
    viewer = RayViewer(context, smooth_sky())
    found = panorama(lambda d, spread: viewer.see(np.zeros(3), d, np.full(len(d), spread)), 64, is_cube, across=1)
    toward = cube_directions(np.arange(384) + 0.5, 64) if is_cube else latlong_directions(np.arange(32) + 0.5, 64)
    # the far map itself is bilinear between samples 2.8° apart, and flat within half a sample of its poles: sin(1.4°) · 0.4
    wanted = linear_from_srgb(0.5 + 0.4 * toward)
    assert found.shape == wanted.shape and np.abs(found - wanted).max() < 0.02
    if not is_cube:
        assert np.abs(found[:, 0] - found[:, -1]).max() < 1.5 * np.abs(np.diff(found, axis=1)).max()


def test_the_rays_of_a_pixel_fill_it(context):
    """Mean of light, not of codes: a chequered far map of 0 and 1, four rays in every pixel, two of them on each."""
    far = np.zeros((32, 64, 3))
    far[:, 1::2] = 1
    viewer = RayViewer(context, sky(far))
    found = panorama(lambda d, spread: viewer.see(np.zeros(3), d, np.full(len(d), spread)), 32, across=2)
    assert found[8] == pytest.approx(np.full((32, 3), 0.5), abs=2e-3)


@pytest.fixture(scope="module")
def show(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("light")
    bricks.save(folder / "place.safetensors", plane_scene())
    (folder / "show.toml").write_text(SHOW)
    return folder / "show.toml"


def test_a_show_from_its_eye_is_the_twins(show, capsys):
    """The place is turned, scaled and shifted: stage +Y is the field's -X (pan 90°). Read back by OpenImageIO."""
    out = show.parent / "out" / "place.exr"
    assert main(["environment", str(show), "--out", str(out), "--size", "128x64", "--samples", "1"]) == 0
    picture = OpenImageIO.ImageBuf(str(out))
    assert picture.spec().format == "half" and picture.spec().channelnames == ("R", "G", "B")
    found = picture.get_pixels(OpenImageIO.FLOAT)
    toward = latlong_directions(np.arange(64) + 0.5, 128).reshape(-1, 3)
    field = np.stack([-toward[:, 1], toward[:, 0], toward[:, 2]], -1)
    eye = np.array([0.1, 0.0, -0.32 + 0.2 * 1.6])  # the stage's eye, (0, 0, 1.6) m
    rays = np.broadcast_to(eye, field.shape), field, np.full(len(field), math.pi / 128)
    seen, depth = reference.march(with_mips(plane_scene()), *rays, QUALITIES["final"])
    assert (depth > 0).mean() > 0.05  # the plane is there, at the right: the field's +Y
    wanted = 2 * linear_from_srgb(seen)  # one stop up
    off = np.abs(found.reshape(-1, 3) - wanted)
    assert (off > 4 * HALF_FLOAT).mean() < 2e-3  # a ray at the plane's edge may pass it
    middle = found[32, 95]  # azimuth 88.6°, the stage's right: the plane, not the grey of everything else
    assert np.abs(middle - 2 * linear_from_srgb(np.full(3, 0.2))).max() > 0.05


def test_what_the_file_says_of_itself(show):
    out = show.parent / "place.exr"
    assert main(["environment", str(show), "--eye=-0.1,0.2,1.5", "--out", str(out), "--size", "16x8", "--samples", "1"]) == 0
    header = OpenEXR.File(str(out)).header()
    assert header["envmap"] == OpenEXR.ENVMAP_LATLONG
    assert header["ledvolume/eye_m"] == pytest.approx((-0.1, 0.2, 1.5))
    assert (header["ledvolume/show"], header["ledvolume/place"], header["ledvolume/exposure"]) == ("light", "place", 2.0)
    assert header["ledvolume/credit"] == "A. Photographer"
    assert header["colorInteropID"] == "lin_rec709_scene"


def test_a_scene_alone_as_a_cube(show):
    """From the middle of its zone, (0, 0, 0): the plane y = 1.6 fills |x|, |z| < 1.1 of it, the middle 11/16 of `front`."""
    out = show.parent / "cube.exr"
    scene = show.parent / "place.safetensors"
    assert main(["environment", str(scene), "--cube", "--out", str(out), "--size", "32x32", "--samples", "1"]) == 0
    file = OpenEXR.File(str(out))
    assert "envmap" not in file.header() and file.header()["ledvolume/projection"] == "cube: right left up down front back"
    faces = file.channels()["RGB"].pixels.reshape(6, 32, 32, 3).astype(float)
    grey = float(linear_from_srgb(0.2))
    is_grey = np.abs(faces - grey).max(-1) < HALF_FLOAT
    assert is_grey[[0, 1, 2, 3, 5]].all()
    assert is_grey[4, :4].all() and is_grey[4, :, -4:].all() and is_grey[4, 7:25, 7:25].mean() < 0.05


@pytest.mark.parametrize(
    "more, words",
    [
        (["--size", "100x100"], "twice as wide as high, got '100x100'"),
        (["--cube", "--size", "64x32"], "as high as wide"),
        (["--samples", "3"], "1, 4, 9, 16"),
        (["--place", "moon"], "one of place, got 'moon'"),
    ],
)
def test_what_cannot_be_is_refused(show, capsys, more, words):
    assert main(["environment", str(show), "--out", str(show.parent / "no.exr"), *more]) == 2
    assert words in capsys.readouterr().err
    assert not (show.parent / "no.exr").exists()


def test_an_eye_outside_the_zone_is_told(show, capsys):
    main(["environment", str(show), "--eye=0,5,1.6", "--out", str(show.parent / "far.exr"), "--size", "16x8", "--samples", "1"])
    assert "was baked for eyes in" in capsys.readouterr().err


def test_light_needs_no_torch():
    program = "import sys, ledvolume.commands.environment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1]).returncode == 0
