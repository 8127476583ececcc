"""From requests to files: what is written is what was rendered, says what it is, and is read back by programs that are not ours."""

import json
import os
import subprocess
import sys
import zlib
from fractions import Fraction

import msgspec
import numpy as np
import OpenImageIO as oiio
import pytest
from PIL import Image
from scenes import plane_scene

from ledvolume.camera import Camera, Distortion, Lens
from ledvolume.colour import code_values, srgb_from_linear
from ledvolume.errors import ConfigError, OutputError, SceneError
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint, picture_coordinates, view_directions
from ledvolume.moves import looking_at
from ledvolume.offline import OfflineRenderer, Rendered, RenderSpec, show_of, view_size
from ledvolume.outputs.exr import light_exr, request_attributes
from ledvolume.outputs.pixels import code_values as codes_of
from ledvolume.outputs.whole_file import remove_parts, write_whole
from ledvolume.pose import Pose, Similarity, pan_tilt_roll
from ledvolume.render.renderer import OUTER_STEPS_MOST, Place, Renderer
from ledvolume.scenes import bricks
from ledvolume.sidecar import st_maps
from ledvolume.stage import Box, Stage, Surface, cut, facing

LENS = Lens(35.0, (24.0, 16.0), (0.4, -0.3), 0.12, 2.5)
CAMERA = Camera(looking_at((0.3, -0.2, 1.75), (0.1, 4.0, 1.5)), LENS, "measured", 0, "A")
FIELD_FROM_STAGE = Similarity(Pose(position_m=(0.0, 0.0, -0.32)), 0.2)  # a plane 8 m from the eye, 4 m behind the wall
SHOW = """
name = "small"
rate = "24000/1001"
[stage]
eye_m = [0, 0, 1.6]
zone = { min_m = [-1, -1, 1], max_m = [1, 1, 2.2] }
surface = [{ name = "wall", shape = "arc", radius_m = 5.0, centre_m = [0, 4, 1.6], size_m = [4, 2.8], resolution_px = [64, 44], tiles = [2, 2] }]
[[camera]]
id = "A"
focal_length_mm = 35
sensor_mm = [24, 16]
[[place]]
name = "plane"
file = "plane.scene"
credit = "by us"
field_from_stage = { scale = 0.2, position = [0, 0, -0.32] }
"""


def request(index: int = 7, camera: Camera = CAMERA, **others) -> FrameRequest:
    return FrameRequest(index, 1_700_000_000_000_000_000 + index, 0, camera, "plane", **others)


@pytest.fixture(scope="module")
def show_folder(tmp_path_factory):
    """A show's folder with its scene, and another scene that is not in the show."""
    folder = tmp_path_factory.mktemp("show")
    bricks.save(folder / "plane.scene", plane_scene())
    bricks.save(folder / "farther.scene", plane_scene(distance=1.8))
    return folder


@pytest.fixture
def spec(show_folder, tmp_path):
    """A job: SHOW's tiles as PNG files into tmp_path / "out"; its fields can be given otherwise."""

    def made(**others) -> RenderSpec:
        base = dict(show_toml=SHOW.encode(), show_folder=str(show_folder), out=str(tmp_path / "out"))
        return RenderSpec(**base | others)

    return made


def rendered(spec: RenderSpec, *requests: FrameRequest):
    with OfflineRenderer(spec) as renderer:
        return [renderer.render(request) for request in requests]


def read_exr(path) -> tuple[np.ndarray, dict]:
    """(pixels, attributes) by OpenImageIO."""
    file = oiio.ImageInput.open(str(path))
    assert file is not None, oiio.geterror()
    pixels, attributes = file.read_image(), {a.name: a.value for a in file.spec().extra_attribs}
    attributes["format"] = str(file.spec().format)
    file.close()
    return pixels, attributes


@pytest.mark.parametrize("pixel_format", ["rgb8", "rgb10", "rgb16"])
def test_light_is_what_render_encodes(context, pixel_format):
    surface = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (4.0, 2.8), (90, 66))
    stage = Stage(cut(surface, 2, 2), (0.0, 0.0, 1.6), Box((-1.0, -1.0, 1.0), (1.0, 1.0, 2.2)), ())
    places = {"plane": Place(plane_scene(), FIELD_FROM_STAGE, exposure=1.5)}
    renderer = Renderer(context, stage, places, Footprint(1.1, 0.1), pixel_format)
    frame, light = renderer.render(request()), renderer.light(request())
    assert max(tile.max() for tile in light.values()) > 1.05  # exposed beyond white, and still there
    for name, image in frame.images.items():
        codes, bits = codes_of(image)
        # one code: the GPU's power function and numpy's differ in the last bits
        assert np.abs(codes.astype(int) - code_values(light[name], bits)).max() <= 1
        assert light[name].shape == codes.shape and light[name].dtype == np.float32


def test_light_changes_no_frame_and_needs_none_before_it(context):
    surface = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (4.0, 2.8), (64, 48))
    stage = Stage(cut(surface, 2, 1), (0.0, 0.0, 1.6), Box((-1.0, -1.0, 1.0), (1.0, 1.0, 2.2)), ())
    places = {"plane": Place(plane_scene(), FIELD_FROM_STAGE)}
    one, other = (Renderer(context, stage, places) for _ in range(2))
    near = msgspec.structs.replace(CAMERA, stage_from_camera=looking_at((-0.4, 0.5, 1.4), (0.4, 4.0, 1.7)))
    alone = {i: one.render(request(i, near if i else CAMERA)).images for i in range(2)}
    light = other.light(request(1, near))
    mixed = {0: other.render(request(0)).images}
    other.light(request(1, near))
    mixed[1] = other.render(request(1, near)).images
    for i in range(2):
        for name in alone[i]:
            np.testing.assert_array_equal(alone[i][name], mixed[i][name])
    for name, tile in one.light(request(1, near)).items():
        np.testing.assert_array_equal(tile, light[name])


def test_a_pinholes_view_goes_through_the_pixels_of_its_picture():
    directions = view_directions(CAMERA, (6, 4))
    at_px = picture_coordinates(CAMERA, np.array(CAMERA.stage_from_camera.position_m) + 3 * directions, (6, 4))
    columns, rows = np.meshgrid(np.arange(6) + 0.5, np.arange(4) + 0.5)
    np.testing.assert_allclose(at_px, np.stack([columns, rows], -1), atol=1e-9)
    np.testing.assert_array_equal(view_directions(CAMERA, (6, 4), rows=slice(1, 3)), directions[1:3])
    np.testing.assert_array_equal(view_directions(CAMERA, (6, 4), is_bent=True), directions)  # without distortion


def test_a_bent_view_looks_where_the_lens_does():
    """OpenLensIO D-U, k1 = 0.001 / mm², the axis in the middle: light that falls at (9, -6) mm, r² = 117 mm², would have fallen
    at 1.117 times that without distortion: tangents 9 · 1.117 / 30 = 0.3351 right and 6 · 1.117 / 30 = 0.2234 up."""
    lens = Lens(30.0, (24.0, 16.0), distortion=Distortion((0.001,)))
    directions = view_directions(Camera(Pose(), lens, "measured", 0), (4, 4), is_bent=True)
    right, forward, up = directions[0, 3]  # the pixel's centre: (3.5 / 4 - 1/2) · 24 = 9, (0.5 / 4 - 1/2) · 16 = -6
    assert (right / forward, up / forward) == pytest.approx((0.3351, 0.2234), abs=1e-12)


def test_what_no_ray_of_a_lens_comes_to_is_black(context):
    """k1 = -0.01 / mm²: r (1 - 0.01 r²) turns back at r² = 100 / 3, 5.77 mm; the corner's pixels lie at 13 mm."""
    camera = msgspec.structs.replace(CAMERA, lens=Lens(35.0, (24.0, 16.0), distortion=Distortion((-0.01,))))
    surface = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (4.0, 2.8), (8, 8))
    stage = Stage(cut(surface, 1, 1), (0.0, 0.0, 1.6), Box((-1.0,) * 3, (1.0,) * 3), ())
    renderer = Renderer(context, stage, {"plane": Place(plane_scene(), FIELD_FROM_STAGE)})
    seen = renderer.view("plane", camera, (48, 32), is_bent=True)
    assert np.isfinite(seen).all() and seen[0, 0].max() == 0 and seen[16, 24].min() > 0


def test_a_bent_view_undistorted_by_the_st_map_is_the_straight_view(context):
    """The whole way round: our bent picture, warped as a compositor would, lies on the pinhole's picture."""
    camera = msgspec.structs.replace(CAMERA, lens=msgspec.structs.replace(LENS, distortion=Distortion((0.0004, 0.0, 1e-7))))
    surface = Surface("wall", facing(0.0, (0.0, 4.0, 1.6)), (4.0, 2.8), (8, 8))
    stage = Stage(cut(surface, 1, 1), (0.0, 0.0, 1.6), Box((-1.0,) * 3, (1.0,) * 3), ())
    renderer = Renderer(context, stage, {"plane": Place(plane_scene(), FIELD_FROM_STAGE)})
    straight, bent = (renderer.view("plane", camera, (360, 240), 2, is_bent=is_bent) for is_bent in (False, True))
    undistort, distort = st_maps(camera.lens, (360, 240))
    for source, st, wanted in ((bent, undistort, straight), (straight, distort, bent)):
        within = ((st > 0.01) & (st < 0.99)).all(-1)
        error = (srgb_from_linear(warped(source, st)) - srgb_from_linear(wanted))[within]
        still = (srgb_from_linear(source) - srgb_from_linear(wanted))[within]
        assert within.mean() > 0.7
        # bilinear sampling of the pattern costs some; unwarped, the pictures are 0.1 apart
        assert np.sqrt((error**2).mean()) < 0.02 < np.sqrt((still**2).mean()) / 3


def warped(source: np.ndarray, st: np.ndarray) -> np.ndarray:
    """As STMap does: each pixel is the source's at st, (0, 0) its bottom left corner; bilinear."""
    height, width = source.shape[:2]
    x, y = st[..., 0] * width - 0.5, (1 - st[..., 1]) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros_like(source)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - dx - (x - x0)) * np.abs(1 - dy - (y - y0))
        total += weight[..., None] * source[(y0 + dy).clip(0, height - 1), (x0 + dx).clip(0, width - 1)]
    return total


def test_tiles_are_written_as_they_go_to_the_wall(spec, tmp_path):
    job = spec(instead={"pixel_format": "rgb16"})
    (frame,) = rendered(job, request())
    with OfflineRenderer(job) as renderer:
        images = renderer.renderer.render(request()).images
    assert frame.files == [f"wall-{c}-{r}/00000007.png" for c in (0, 1) for r in (0, 1)]
    assert frame.bytes == sum((tmp_path / "out" / file).stat().st_size for file in frame.files)
    assert frame.tile_hashes == {name: zlib.crc32(image.tobytes()) for name, image in images.items()}
    for name, image in images.items():
        file = oiio.ImageInput.open(str(tmp_path / "out" / name / "00000007.png"))
        np.testing.assert_array_equal(file.read_image("uint16"), image)


def test_a_pattern_is_written_as_it_was_on_the_wall(spec, tmp_path):
    """Its request alone says it, so a take of a calibration is replayed like any other."""
    recorded = msgspec.msgpack.decode(msgspec.msgpack.encode(request(cue="pattern:gray/x/0")), type=FrameRequest)
    (frame,) = rendered(spec(what="walls"), recorded)
    file = oiio.ImageInput.open(str(tmp_path / "out" / frame.files[0]))
    wall = file.read_image("uint8")
    assert (wall[:, :32] == 0).all() and (wall[:, 32:] == 255).all()  # 64 columns: the coarsest bit is their right half
    assert rendered(spec(format="none"), recorded)[0].tile_hashes == frame.tile_hashes


def test_a_wall_is_its_tiles_put_together(spec, tmp_path):
    tiles, walls = rendered(spec(), request())[0], rendered(spec(what="walls"), request())[0]
    assert walls.tile_hashes == tiles.tile_hashes and walls.files == ["wall/00000007.png"]
    wall = np.asarray(Image.open(tmp_path / "out" / "wall" / "00000007.png"))
    assert wall.shape == (44, 64, 3)
    for c in (0, 1):
        for r in (0, 1):
            tile = np.asarray(Image.open(tmp_path / "out" / f"wall-{c}-{r}" / "00000007.png"))
            np.testing.assert_array_equal(wall[22 * r : 22 * r + 22, 32 * c : 32 * c + 32], tile)


def test_an_exr_is_the_light_in_half_floats(spec, tmp_path):
    (frame,) = rendered(spec(what="walls", format="exr"), request())
    assert frame.tile_hashes == rendered(spec(format="none"), request())[0].tile_hashes  # of the code values, whatever is written
    pixels, attributes = read_exr(tmp_path / "out" / "wall" / "00000007.exr")
    with OfflineRenderer(spec()) as renderer:
        light = renderer.renderer.light(request())
    assert attributes["format"] == "half" and attributes["compression"] == "zip"
    for name, tile in light.items():
        c, r = (int(n) for n in name.split("-")[1:])
        np.testing.assert_array_equal(pixels[22 * r : 22 * r + 22, 32 * c : 32 * c + 32], tile.astype(np.float16))


def test_an_exr_says_what_the_camera_was(spec, tmp_path):
    rendered(spec(what="view", format="exr", view_px=(24, 20)), request(7, timecode="10:11:12:13"))
    _, found = read_exr(tmp_path / "out" / "view" / "00000007.exr")
    assert found["framesPerSecond"] == (24000, 1001)
    # ST 12-1 packed for 60-field television: BCD, hours to frames from the top; no flag set
    assert found["smpte:TimeCode"] == (0x10111213, 0)
    assert found["imageCounter"] == 7 and found["cameraLabel"] == "A"
    assert found["focus"] == 2.5 and found["pinholeFocalLength"] == 35
    assert found["entrancePupilOffset"] == pytest.approx(120)  # mm from the sensor
    assert found["sensorOverallDimensions"] == (24, 16)
    # ΔP = (0.4, -0.3) mm: the axis is right of and above the sensor's centre, so the centre is left of and below it
    assert found["sensorCenterOffset"] == pytest.approx((-400, 300))
    assert found["chromaticities"] == pytest.approx((0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290))
    assert found["PixelAspectRatio"] == pytest.approx(1.25)  # 1 mm wide, 0.8 mm high
    assert found["ledvolume/scene"] == "plane" and found["ledvolume/tracking"] == "measured"
    assert found["ledvolume/camera_id"] == "A" and found["ledvolume/credit"] == "by us" and found["ledvolume/picture"] == "view"
    assert int(found["ledvolume/present_at_ns"]) == 1_700_000_000_000_000_007
    assert found["ledvolume/wxyz"] == pytest.approx(CAMERA.stage_from_camera.wxyz, abs=1e-7)
    assert found["ledvolume/position_m"] == pytest.approx((0.3, -0.2, 1.75))
    assert msgspec.json.decode(found["ledvolume/request"], type=FrameRequest) == request(7, timecode="10:11:12:13")


def test_world_to_camera_is_in_openexrs_axes(spec, tmp_path):
    """Row vectors; the camera's x is right, y up, z forward. At (1, 2, 3), panned 90° to the left: it looks along -X, its
    right is +Y."""
    camera = msgspec.structs.replace(CAMERA, stage_from_camera=Pose(pan_tilt_roll(np.pi / 2, 0, 0), (1.0, 2.0, 3.0)))
    rendered(spec(what="view", format="exr", view_px=(6, 4)), request(0, camera))
    _, found = read_exr(tmp_path / "out" / "view" / "00000000.exr")
    matrix = np.reshape(found["worldToCamera"], (4, 4))
    for point_m, in_camera in (((-4, 2, 3), (0, 0, 5)), ((1, 4, 3), (2, 0, 0)), ((1, 2, 6), (0, 3, 0))):
        np.testing.assert_allclose((*point_m, 1) @ matrix, (*in_camera, 1), atol=1e-6)


@pytest.mark.parametrize(
    "text, rate, packed",
    [
        ("10:11:12;13", Fraction(30000, 1001), 0x10111253),  # bit 6: drop frame
        ("23:59:59:24", Fraction(25), 0x23595924),
        ("00:00:00:47", Fraction(48), 0x00008023),  # the second of pair 23: field phase, bit 15
        ("00:00:00:46", Fraction(48), 0x00000023),
        ("00:00:00:59", Fraction(60), 0x00008029),
    ],
)
def test_timecodes_in_exr_are_those_of_st_12(tmp_path, text, rate, packed):
    data = light_exr(np.zeros((2, 2, 3)), request_attributes(request(0, timecode=text), rate, "view"))
    (tmp_path / "t.exr").write_bytes(data)
    assert read_exr(tmp_path / "t.exr")[1]["smpte:TimeCode"] == (packed, 0)


def test_light_that_half_floats_cannot_hold_is_refused():
    with pytest.raises(OutputError, match="70000 does not fit in half floats"):
        light_exr(np.full((2, 2, 3), 70000.0), {})


def test_what_the_wall_shows_through_the_lens_is_the_view_it_was_drawn_for(spec, tmp_path):
    fine = SHOW.replace("[64, 44]", "[256, 176]").encode()
    for what in ("view", "through"):
        rendered(spec(show_toml=fine, what=what, view_px=(120, 80)), request())
    view, through = (np.asarray(Image.open(tmp_path / "out" / what / "00000007.png")) / 255 for what in ("view", "through"))
    assert np.sqrt(((view - through) ** 2).mean()) < 0.03
    (frame,) = rendered(spec(show_toml=fine, what="film"), request())
    assert Image.open(tmp_path / "out" / "film" / "00000007.png").size == (1280, 720) and len(frame.tile_hashes) == 4


def test_a_view_has_the_sensors_shape_in_even_pixels():
    assert view_size(Lens(35.0, (24.0, 16.0))) == (1920, 1280)
    assert view_size(Lens(35.0, (23.76, 13.365))) == (1920, 1080)
    assert view_size(Lens(35.0, (36.0, 15.0))) == (1920, 800)


def test_frames_are_the_same_in_any_order_and_in_any_process(spec):
    near = msgspec.structs.replace(CAMERA, stage_from_camera=looking_at((-0.4, 0.5, 1.4), (0.4, 4.0, 1.7)))
    requests = [request(0), request(1, near, outer_steps=40), request(2, outer_steps=20, quality="final")]
    job = spec(format="none")
    there, back = rendered(job, *requests), rendered(job, *requests[::-1])
    assert there == back[::-1] and not any(frame.files for frame in there)
    program = (
        "import sys, msgspec; from ledvolume.offline import *;"
        "spec, requests = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=tuple[RenderSpec, list[FrameRequest]]);"
        "r = OfflineRenderer(spec); sys.stdout.buffer.write(msgspec.json.encode([r.render(q) for q in requests]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], input=msgspec.msgpack.encode((job, requests)), capture_output=True, check=True
    )
    assert msgspec.convert(json.loads(ran.stdout), list[Rendered]) == there


def test_a_jobs_quality_is_instead_of_the_requests_and_final_refines_all(spec):
    (plain,) = rendered(spec(format="none"), request())
    (final,) = rendered(spec(format="none", quality="final"), request())
    (asked,) = rendered(spec(format="none"), request(quality="final", outer_steps=OUTER_STEPS_MOST))
    assert final == asked and final.tile_hashes != plain.tile_hashes


def test_a_job_can_put_another_scene_in_a_place(spec):
    (ours,) = rendered(spec(format="none"), request())
    (other,) = rendered(spec(format="none", scenes={"plane": "farther.scene"}), request())
    assert ours.tile_hashes != other.tile_hashes
    with pytest.raises(ConfigError, match=r"scene: expected places of the show, plane, got \['moon'\]"):
        show_of(spec(scenes={"moon": "farther.scene"}))
    with pytest.raises(SceneError, match="gone.scene: no such scene file"):
        OfflineRenderer(spec(scenes={"plane": "gone.scene"}))


@pytest.mark.parametrize(
    "others, words",
    [
        ({"what": "ceiling"}, "what: expected one of tiles, walls, view, through, film, got 'ceiling'"),
        ({"format": "jpeg"}, "format: expected one of png, exr, none, got 'jpeg'"),
        ({"quality": "best"}, "quality: expected one of show, final, got 'best'"),
        ({"instead": {"rate": "fast"}}, "rate"),
        ({"show_toml": b"name = "}, "valid TOML"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_a_job_that_cannot_be_is_refused(spec, others, words):
    with pytest.raises(ConfigError, match=words):
        show_of(spec(**others))


def test_a_request_for_another_show_is_refused(spec):
    with OfflineRenderer(spec(format="none")) as renderer:
        with pytest.raises(ConfigError, match="expected one named moon, as in frame 3, got \\['plane'\\]"):
            renderer.render(msgspec.structs.replace(request(3), scene="moon"))
        with pytest.raises(ConfigError, match="expected one of show, final, got 'best'"):
            renderer.render(request(quality="best"))
        with pytest.raises(ConfigError, match="white, black, .* got 'stripes'"):
            renderer.render(request(cue="pattern:stripes"))
    with pytest.raises(OutputError, match="expected format png, got exr"):
        OfflineRenderer(spec(what="film", format="exr"))


def test_a_full_disk_is_said_and_what_was_written_stays(spec, tmp_path):
    """/dev/full says what a full disk says. The file is written beside its place: there stands a link to it."""
    with OfflineRenderer(spec(what="walls")) as renderer:
        renderer.render(request(1))
        before = (tmp_path / "out" / "wall" / "00000001.png").read_bytes()
        full = tmp_path / "out" / "wall" / f"00000002.png.{os.getpid()}.part"
        full.symlink_to("/dev/full")
        with pytest.raises(OutputError, match=r"00000002\.png: the disk is full: 0\.0 MB to write, .* MB free"):
            renderer.render(request(2))
        renderer.render(request(2))  # there is room again
    assert (tmp_path / "out" / "wall" / "00000001.png").read_bytes() == before
    assert sorted(f.name for f in (tmp_path / "out" / "wall").iterdir()) == ["00000001.png", "00000002.png"]


def test_a_folder_that_cannot_be_written_is_said(spec, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with OfflineRenderer(spec()) as renderer, pytest.raises(OutputError, match="cannot write: Not a directory"):
        renderer.render(request())


def test_a_file_keeps_what_it_had_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "a.png"
    assert write_whole(file, b"old") == 3
    part = tmp_path / f"a.png.{os.getpid()}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(OutputError):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old" and not part.is_symlink()
    (tmp_path / "b.png.123.part").write_bytes(b"half")
    assert remove_parts(tmp_path) == 1 and [f.name for f in tmp_path.iterdir()] == ["a.png"]
