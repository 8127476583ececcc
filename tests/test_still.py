"""`ledvolume still`: the same camera from any file, through either renderer, in PNG or EXR; and inspect's page of a scene."""

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scenes import plane_scene, random_scene

from ledvolume import cli
from ledvolume.camera import Camera, Lens
from ledvolume.colour import linear_from_srgb
from ledvolume.config import load_show
from ledvolume.errors import ConfigError
from ledvolume.moves import looking_at
from ledvolume.opencv_lens import from_opencv
from ledvolume.outputs.images import png_pixels
from ledvolume.pose import Pose, Similarity, pan_tilt_roll
from ledvolume.render.brick_field import BrickField
from ledvolume.render.rays import RayViewer
from ledvolume.render.renderer import QUALITIES, Place, Renderer
from ledvolume.scenes import bricks
from ledvolume.scenes.mips import with_mips
from ledvolume.scenes.point_values import density_and_colour
from ledvolume.scenes.scene_facts import facts_of
from ledvolume.still import Still, difference_db, light
from ledvolume.still_camera import camera_of_file

ROOT = Path(__file__).resolve().parent.parent
DEMO, DOOR = ROOT / "configs" / "demo.toml", ROOT / "configs" / "places" / "lund-door"
LEVEL = [[1, 0, 0, 0.1], [0, 0, -1, -0.2], [0, 1, 0, 0.05], [0, 0, 0, 1]]  # OpenGL's camera at (0.1, -0.2, 0.05), toward +Y
PATH = {"camera_path": [{"camera_to_world": LEVEL, "fov": 40}], "render_width": 90, "render_height": 60, "fps": 24}


@pytest.fixture(scope="module")
def plane(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("plane") / "plane.safetensors"
    bricks.save(file, plane_scene())
    return file


def still(*arguments) -> int:
    return cli.main(["still", *map(str, arguments)])


def pattern(x, z) -> np.ndarray:
    """plane_scene's own colours at y = 1.6, display-encoded."""
    waves = [np.sin(2 * np.pi * (a * x + b * z)) for a, b in ((9, 0), (0, 7), (4, 4), (-3.3, 5))]
    return np.stack([0.5 + 0.2 * waves[0] + 0.2 * waves[1], 0.5 + 0.3 * waves[2] + 0.1 * waves[1], 0.5 + 0.3 * waves[3]], -1)


def plane_seen(width: int, height: int, eye, vertical_fov_deg: float) -> np.ndarray:
    """What a pinhole at `eye` that looks along +Y sees of that plane: similar triangles."""
    pitch = 2 * np.tan(np.radians(vertical_fov_deg) / 2) / height
    u, v = np.meshgrid((np.arange(width) + 0.5 - width / 2) * pitch, (height / 2 - np.arange(height) - 0.5) * pitch)
    reach = 1.6 - eye[1]
    return pattern(eye[0] + u * reach, eye[2] + v * reach)


def test_a_still_is_what_similar_triangles_say(plane, tmp_path):
    """30 dB would be a shift of half a pixel; the surface lies up to a voxel (1/512) behind the plane, and is 8 bits deep."""
    assert (
        still(plane, "--at=0.1,-0.2,0.05", "--look=0.1,1,0.05", "--fov", 40, "--size", "90x60", "--out", tmp_path / "a.png") == 0
    )
    seen = png_pixels(tmp_path / "a.png") / 255
    assert -10 * np.log10(np.mean((seen - plane_seen(90, 60, (0.1, -0.2, 0.05), 40)) ** 2)) > 34


CAMERAS = {
    "camera path": PATH,
    "camera path by columns": PATH | {"camera_path": [{"camera_to_world": json.dumps(np.ravel(LEVEL, "F").tolist()), "fov": 40}]},
    "transforms": {"frames": [{"transform_matrix": LEVEL}], "w": 90, "h": 60, "fl_x": 30 / np.tan(np.radians(20))},
    "transforms, angle": {
        "frames": [{"transform_matrix": LEVEL, "w": 90, "h": 60}],
        "camera_angle_x": 2 * np.arctan(45 / 30 * np.tan(np.radians(20))),
    },
    "ours, look": {"position_m": [0.1, -0.2, 0.05], "look": [0.1, 3.0, 0.05], "fov_deg": 40},
    "ours, quaternion": {"position_m": [0.1, -0.2, 0.05], "wxyz": [2, 0, 0, 0], "fov_deg": 40},
    "ours, millimetres": {
        "position_m": [0.1, -0.2, 0.05],
        "sensor_mm": [30, 20],
        "focal_length_mm": 10 / np.tan(np.radians(20)),
    },
}


@pytest.mark.parametrize("raw", CAMERAS.values(), ids=CAMERAS)
def test_the_same_camera_in_any_file_makes_the_same_picture(plane, tmp_path, raw):
    (tmp_path / "camera.json").write_text(json.dumps(raw))
    (tmp_path / "none.json").write_text(json.dumps({"transform": np.eye(4)[:3].tolist(), "scale": 1.0}))
    told = "--at=0.1,-0.2,0.05", "--look=0.1,1,0.05", "--fov", 40
    given = "--camera", tmp_path / "camera.json", "--transforms", tmp_path / "none.json"
    for name, camera in (("told", told), ("file", given)):
        assert still(plane, *camera, "--size", "90x60", "--out", tmp_path / f"{name}.png") == 0
    told, found = (png_pixels(tmp_path / f"{name}.png").astype(int) for name in ("told", "file"))
    assert np.abs(told - found).max() <= 1  # a code value, where rounding falls the other way


def test_a_photographs_camera_comes_into_the_field_and_onto_the_stage():
    """By hand: world (2, 0, 0) · scale 0.5 after a quarter turn left and a shift of (0, 1, 0) is field (0, 1.5, 0), and the
    camera that looked along world +Y now looks along field -X. On a stage of 0.1 field units a metre that is (0, 15, 0) m."""
    raw = {"frames": [{"transform_matrix": [[1, 0, 0, 2], [0, 0, -1, 0], [0, 1, 0, 0]]}], "w": 40, "h": 30, "fl_x": 40}
    model_from_world = Similarity(Pose(pan_tilt_roll(np.pi / 2, 0, 0), (0.0, 0.5, 0.0)), 0.5)
    field_from_stage = Similarity(scale=0.1)
    camera, size = camera_of_file(Path("t.json"), raw, 0, field_from_stage, None, None, model_from_world)
    assert size == (40, 30)
    assert camera.stage_from_camera.position_m == pytest.approx((0, 15, 0), abs=1e-9)
    assert camera.stage_from_camera.apply((0, 1, 0)) == pytest.approx((-1, 15, 0), abs=1e-9)


def test_what_was_applied_to_the_photographs_frame_is_taken_back_once():
    """ns-process-data turned COLMAP's frame by A and scaled it by 2; the run's transform holds both: field = s T A⁻¹ file / 2."""
    applied = [[0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 0]]  # file = A · original
    original = np.array([0.3, -0.4, 0.5])
    in_file = np.array(applied)[:, :3] @ original + [0.5, 0, 0]
    pose = np.eye(4)
    pose[:3, 3] = in_file
    raw = {"frames": [{"transform_matrix": pose.tolist()}], "applied_transform": applied, "applied_scale": 2.0}
    raw |= {"w": 40, "h": 30, "fl_x": 40}
    model_from_world = Similarity(Pose(position_m=(0.0, 0.0, 3.0)), 6.0)  # s = 6, T: up by 0.5
    camera, _ = camera_of_file(Path("t.json"), raw, 0, Similarity(), None, None, model_from_world)
    assert camera.stage_from_camera.position_m == pytest.approx(6 / 2 * (original + [0, 0, 0.5]))


def test_a_photographs_lens_is_opencvs_with_pixels_that_begin_at_zero():
    """nerfstudio's pixel centres are at + 0.5, OpenCV's at whole numbers: c is half a pixel less there."""
    raw = {"frames": [{"transform_matrix": np.eye(4).tolist()}], "w": 324, "h": 484, "fl_x": 608.8, "fl_y": 608.8}
    raw |= {"cx": 160.0, "cy": 245.0, "k1": -0.03, "k2": 0.02, "p1": 1e-3, "p2": -2e-3}
    camera, _ = camera_of_file(Path("t.json"), raw, 0, Similarity(), None, None)
    twin = from_opencv([[608.8, 0, 159.5], [0, 608.8, 244.5], [0, 0, 1]], [-0.03, 0.02, 1e-3, -2e-3], (324, 484), 36.0)
    assert camera.lens.focal_length_mm == pytest.approx(twin.focal_length_mm)
    assert camera.lens.sensor_mm == pytest.approx(twin.sensor_mm)
    assert camera.lens.projection_offset_mm == pytest.approx(twin.projection_offset_mm)
    assert camera.lens.distortion.radial[:6] == pytest.approx(twin.distortion.radial, abs=1e-15)
    assert camera.lens.distortion.tangential == pytest.approx(twin.distortion.tangential)
    assert camera.lens.distortion.model == twin.distortion.model


def test_a_still_on_a_stage_is_the_servers_view(context):
    """The renderer's own `view` of the show's place: the same camera, near limit and exposure."""
    show = load_show(DEMO)
    spec, scene = show.places[show.start], plane_scene()
    near_m, exposure = 0.3, 1.7
    camera = Camera(looking_at((0.1, 0.0, 1.9), (0.3, 4.0, 1.8)), show.stage.rigs[0].lens, "measured", 0)
    placed = msgspec.structs.replace(spec.field_from_stage, pose=Pose(pan_tilt_roll(0.2, 0, 0), (0.0, 0.1, -0.6)))
    wanted = Renderer(context, show.stage, {"p": Place(scene, placed, near_m, exposure)}).view("p", camera, (64, 48), across=2)
    viewer = RayViewer(context, scene, near_m * placed.scale)
    asked = Still(camera, (64, 48), placed, near_m, exposure, across=2)
    # the renderer's spread is of a whole pixel, a still's of a sample
    found = light(asked, lambda o, d, s: viewer.see(o, d, 2 * s, QUALITIES["show"]), rays_at_once=1000)
    assert wanted.max() > 0.5 and np.abs(found - wanted).max() < 1e-3


def test_a_bake_is_compared_with_the_run_it_was_made_from(tmp_path, capsys):
    """The picture on the door is the bake's within what figures.md reports of LED pixels; of another camera it is not."""
    camera = "--at", "0,0,1.9", "--look", "0,4,1.9", "--size", "40x30"
    assert still("--show", DEMO, *camera, "--across", 3, "--out", tmp_path / "a.exr", "--compare", DOOR) == 0
    assert float(capsys.readouterr().out.split("PSNR ")[1].split()[0]) > 34
    assert still("--show", DEMO, "--at", "0.1,0,1.9", *camera[2:], "--out", tmp_path / "b.exr") == 0
    import OpenImageIO as oiio

    a, b = (oiio.ImageBuf(str(tmp_path / f"{name}.exr")).get_pixels(oiio.FLOAT) for name in "ab")
    assert difference_db(a, b) < 30


def test_an_exr_is_linear_light_and_says_what_the_camera_was(plane, tmp_path):
    """As OpenImageIO, another program, reads it."""
    import OpenImageIO as oiio

    told = "--at=0.1,-0.2,0.05", "--look=0.1,1,0.05", "--fov", 40, "--size", "90x60"
    for name in ("a.png", "a.exr"):
        assert still(plane, *told, "--out", tmp_path / name) == 0
    image = oiio.ImageBuf(str(tmp_path / "a.exr"))
    spec, pixels = image.spec(), image.get_pixels(oiio.FLOAT)
    display = png_pixels(tmp_path / "a.png") / 255
    assert np.abs(pixels - linear_from_srgb(display)).max() < 0.006  # half an 8-bit code, where the curve is steepest: 2.3 / 510
    assert spec.getattribute("ledvolume/renderer") == "gl" and spec.getattribute("ledvolume/units") == "field units"
    assert spec.getattribute("ledvolume/position_m") == pytest.approx((0.1, -0.2, 0.05))
    assert spec.getattribute("pinholeFocalLength") == pytest.approx(12 / np.tan(np.radians(20)))  # 36 × 24 mm
    assert spec.getattribute("ledvolume/scene") == "plane.safetensors"


PATH_FILE, LOOKS = "camera.json", ("--at", "0,0,0", "--look", "0,1,0")
REFUSED = {
    "no camera": ((), None, "--camera: expected a file, or --at and --look"),
    "no lens": (LOOKS, None, "--fov"),
    "no direction": (("--at", "0,0,0", "--look", "0,0,0", "--fov", 50), None, "--look"),
    "another format": ((*LOOKS, "--fov", 50, "--out", "x.jpg"), None, ".png or .exr"),
    "a bake by torch": ((*LOOKS, "--fov", 50, "--renderer", "exact"), None, "exact renders nerfstudio runs"),
    "a frame that is not there": (("--camera", PATH_FILE, "--frame", 7), PATH, "from 0 to 0, got 7"),
    "a squeezed picture": (
        ("--camera", PATH_FILE),
        {"position_m": [0, 0, 0], "focal_length_mm": 20, "sensor_mm": [30, 20]},
        None,
    ),
    "a fisheye path": (("--camera", PATH_FILE), PATH | {"camera_type": "fisheye"}, "camera_type"),
    "a fisheye lens": (("--camera", PATH_FILE), CAMERAS["transforms"] | {"camera_model": "OPENCV_FISHEYE"}, "camera_model"),
    "a mirror": (("--camera", PATH_FILE), {"camera_path": [{"camera_to_world": np.diag([1, 1, -1, 1]).tolist()}]}, "rotation"),
    "a misspelt key": (("--camera", PATH_FILE), {"position": [0, 0, 0]}, "position_m"),
    "no JSON": (("--camera", PATH_FILE), "{", "a camera as JSON"),
    "two ways to look": (("--camera", PATH_FILE), {"look": [0, 1, 0], "pan_deg": 3, "fov_deg": 40}, "look"),
    "not a number": (("--camera", PATH_FILE), {"position_m": [0, 0, 1e999], "fov_deg": 40}, None),
}


@pytest.mark.parametrize("arguments, camera, words", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(plane, tmp_path, capsys, monkeypatch, arguments, camera, words):
    monkeypatch.chdir(tmp_path)
    Path("camera.json").write_text(camera if isinstance(camera, str) else json.dumps(camera))
    Path("none.json").write_text(json.dumps({"transform": np.eye(4)[:3].tolist(), "scale": 1.0}))
    size = ("--size", "90x70") if words is None else ()
    assert still(plane, "--out", "x.png", "--transforms", "none.json", *arguments, *size) == 2
    told = capsys.readouterr().err
    assert told.startswith("ledvolume still: ") and told.count("\n") == 1 and (words or "expected") in told
    assert not Path("x.png").exists()


def test_a_size_of_other_proportions_is_refused():
    with pytest.raises(ConfigError, match="such as 90x60"):
        raw = {"focal_length_mm": 20, "sensor_mm": [30, 20]}
        camera_of_file(Path("c.json"), raw, 0, Similarity(), (90, 70), Lens(20, (30, 20)))


# ---- inspect


def test_facts_of_a_scene_are_those_of_its_making(plane, capsys):
    """plane_scene: 64 cells across ±2 (the second cube), each split once: cells of 1/32, voxels of 1/256."""
    assert cli.main(["inspect", str(plane), "--json"]) == 0
    facts, scene = json.loads(capsys.readouterr().out), plane_scene()
    assert facts["sha256"] == hashlib.sha256(plane.read_bytes()).hexdigest() and facts["bytes"] == plane.stat().st_size
    [voxels] = facts["voxels"]
    assert (voxels["size"], voxels["bricks"]) == (1 / 256, len(scene.bricks)) and facts["reach"] == 2.0
    assert (facts["zone_min"], facts["zone_max"], facts["source"]) == ([-0.2] * 3, [0.2] * 3, "plane")
    assert not plane.with_suffix(".png").exists()  # --json writes no picture that was not asked for


@pytest.mark.parametrize("has_gradients", [False, True], ids=["mean colour", "gradients"])
def test_gpu_bytes_are_those_of_the_textures_that_a_server_makes(context, tmp_path, has_gradients):
    scene = random_scene(has_gradients=has_gradients, cascades=1, occupancy=0.001)
    bricks.save(tmp_path / "random.safetensors", scene)
    facts = facts_of(tmp_path / "random.safetensors", scene, "")
    served = with_mips(scene)
    assert facts.mips == len(served.bricks) - len(scene.bricks) > 0
    field = BrickField(context, served)
    textures = [np.prod(texture.size) * texture.components for texture in (field.bricks, field.skips)]
    if has_gradients:
        textures.append(np.prod(field.gradients.size) * 4)
    assert facts.gpu_bytes == sum(textures) + field.nodes.size + 4 * np.prod(field.far.size) * 3
    field.release()


def test_points_of_a_scene_have_its_density_and_colour():
    """Nothing before the plane at y = 1.6; e⁹ from two voxels behind it on, and the pattern's colours: ± an 8-bit code and
    what a line between corners 1/256 apart is off a sine of nine waves a unit: (2π·9/256)²/8 · 0.2 = 0.0012."""
    rng = np.random.default_rng(0)
    x, z = rng.uniform(-1, 1, (2, 500))
    for y, wanted in ((1.55, 0.0), (1.612, np.exp(9))):
        density, colour = density_and_colour(plane_scene(), np.stack([x, np.full_like(x, y), z], -1))
        assert density == pytest.approx(wanted, rel=1e-4)
    assert np.abs(colour - pattern(x, z)).max() < 0.004
    assert density_and_colour(plane_scene(), np.array([[0.0, 9.0, 0.0]]))[0].tolist() == [0]  # beyond it all


def test_a_scene_is_drawn_on_a_page(plane, tmp_path, capsys):
    from PIL import Image

    assert cli.main(["inspect", str(plane), "--plot", str(tmp_path / "page.png")]) == 0
    told = capsys.readouterr().out
    assert "voxel 0.00391" in told and "picture" in told
    colours = Image.open(tmp_path / "page.png").convert("RGB").getcolors(1 << 21)
    shades = {colour: count for count, colour in colours}
    assert shades.get((0x2E, 0x6F, 0xBB), 0) > 200, "the zone in the plan, and the bars"
    assert shades.get((0, 0, 0), 0) > 100, "the plane in the plan is opaque"


def test_what_is_no_scene_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "no.safetensors").write_bytes(b"not a scene")
    assert cli.main(["inspect", str(tmp_path / "no.safetensors")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
