"""What lies beside the pictures of a take, read by other programs: SMPTE's schema, usd-core, OpenImageIO, zlib."""

import json
import zlib
from pathlib import Path

import msgspec
import numpy as np
import OpenImageIO as oiio
import pytest
from pxr import Usd, UsdGeom

from ledvolume.camera import Camera, Distortion, Lens
from ledvolume.config import load_show
from ledvolume.errors import OutputError
from ledvolume.frame import FrameRequest
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols.opentrackio_sample import schema_fault
from ledvolume.sidecar import st_maps, write_hashes, write_sidecars, write_st_maps

SHOW = load_show(Path(__file__).resolve().parent.parent / "configs" / "demo.toml", rate="24")
BENT = Lens(30.0, (24.0, 16.0), (0.4, -0.3), 0.12, 2.5, Distortion((0.001,), offset_mm=(0.1, 0.2)))
# panned 90° to the left: it looks along -X of the stage
CAMERA = Camera(Pose(pan_tilt_roll(np.pi / 2, 0.0, 0.0), (1.0, 2.0, 1.5)), BENT, "measured", 0, "A")
T0_NS = 1_700_000_000_000_000_000


def requests(count: int, camera: Camera = CAMERA) -> list[FrameRequest]:
    """24 frames a second from frame 100 on, timecode 10:00:00:00 and on."""
    return [FrameRequest(100 + i, T0_NS + i * 10**9 // 24, 0, camera, "door", timecode=f"10:00:00:{i:02}") for i in range(count)]


def with_lens(camera: Camera, **lens) -> Camera:
    return msgspec.structs.replace(camera, lens=msgspec.structs.replace(camera.lens, **lens))


def read_exr(path) -> tuple[np.ndarray, dict]:
    file = oiio.ImageInput.open(str(path))
    assert file is not None, oiio.geterror()
    pixels, attributes = file.read_image(), {a.name: a.value for a in file.spec().extra_attribs}
    attributes |= {"format": str(file.spec().format), "channels": tuple(file.spec().channelnames)}
    file.close()
    return pixels, attributes


def test_opentrackio_samples_are_those_of_the_rendered_frames(tmp_path):
    write_sidecars(tmp_path, requests(3), SHOW, (12, 8))
    lines = [json.loads(line) for line in (tmp_path / "camera.jsonl").read_text().splitlines()]
    assert [schema_fault(line) for line in lines] == [""] * 3
    first = lines[0]
    assert first["static"]["camera"]["label"] == "A"
    assert first["timing"]["sampleTimestamp"] == {"seconds": 1_700_000_000, "nanoseconds": 0}
    assert lines[2]["timing"]["sampleTimestamp"] == {"seconds": 1_700_000_000, "nanoseconds": 2 * 10**9 // 24}
    timecode = lines[2]["timing"]["timecode"]
    assert [timecode[key] for key in ("hours", "minutes", "seconds", "frames")] == [10, 0, 0, 2]
    # the transforms give the sensor, 0.12 m behind the pupil, which is at x = 1 and looks along -X
    (transform,) = first["transforms"]
    assert [transform["translation"][axis] for axis in "xyz"] == pytest.approx([1.12, 2.0, 1.5])
    assert [transform["rotation"][angle] for angle in ("pan", "tilt", "roll")] == pytest.approx([90, 0, 0])
    lens = first["lens"]
    assert (lens["pinholeFocalLength"], lens["focusDistance"], lens["entrancePupilOffset"]) == (30, 2.5, 0.12)
    assert lens["distortion"][0]["radial"] == [0.001] and lens["distortionOffset"] == {"x": 0.1, "y": 0.2}
    assert lens["projectionOffset"] == {"x": 0.4, "y": -0.3}


def test_the_usd_camera_is_at_the_entrance_pupil_at_the_frames_numbers(tmp_path):
    write_sidecars(tmp_path, requests(3), SHOW, (12, 8))
    stage = Usd.Stage.Open(str(tmp_path / "camera.usda"))
    (camera,) = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Camera)]
    codes = stage.GetStartTimeCode(), stage.GetEndTimeCode()
    assert stage.GetTimeCodesPerSecond() == 24 and codes == pytest.approx((100, 102), abs=1e-6)  # instants are whole ns
    metres = UsdGeom.GetStageMetersPerUnit(stage)
    to_stage = UsdGeom.Camera(camera).GetCamera(101).transform
    # rows: USD's camera looks along -z, y is up
    np.testing.assert_allclose(np.array(to_stage.GetRow3(3)) * metres, (1.0, 2.0, 1.5), atol=1e-6)
    np.testing.assert_allclose(-np.array(to_stage.GetRow3(2)), (-1.0, 0.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(np.array(to_stage.GetRow3(1)), (0.0, 0.0, 1.0), atol=1e-6)


def test_st_maps_say_where_a_pixel_is_found():
    """k1 = 0.001 / mm², no offsets: the light that falls at (9, -6) mm would have fallen at 1.117 of it (r² = 117). So the
    distorted picture's pixel there is found in the undistorted one at 9 · 1.117 = 10.053 mm right, 6.702 mm up: s = 1/2 +
    10.053 / 24, t = 1/2 + 6.702 / 16, counted from the bottom left."""
    lens = Lens(30.0, (24.0, 16.0), distortion=Distortion((0.001,)))
    undistort, distort = st_maps(lens, (4, 4))
    assert distort[0, 3].tolist() == pytest.approx([0.918875, 0.918875])
    assert distort[3, 0].tolist() == pytest.approx([1 - 0.918875, 1 - 0.918875])
    # the other way: what is at s of the undistorted picture comes from u with u (1 + 0.001 |u|²) = that point
    right_mm, up_mm = (undistort[0, 3] - 0.5) * (24, 16)
    assert (right_mm * (1 + 0.001 * (right_mm**2 + up_mm**2))) == pytest.approx(9, abs=1e-5)
    straight, _ = st_maps(Lens(30.0, (24.0, 16.0)), (4, 2))
    assert straight[0].tolist() == [[0.125, 0.75], [0.375, 0.75], [0.625, 0.75], [0.875, 0.75]]  # row 0 is the top


def test_st_maps_are_written_when_the_lens_changes(tmp_path):
    wide = with_lens(CAMERA, distortion=Distortion((0.002,)))
    zoomed = with_lens(CAMERA, focal_length_mm=60.0)  # bends the sensor's picture as before
    asked = requests(8)
    asked = asked[:2] + [msgspec.structs.replace(r, camera=c) for r, c in zip(asked[2:], (zoomed, wide, wide, CAMERA))]
    write_st_maps(tmp_path, asked, (12, 8))
    expected = [f"{name}.{frame:08d}.exr" for name in ("distort", "undistort") for frame in (100, 103, 105)]
    assert sorted(f.name for f in tmp_path.iterdir()) == expected
    pixels, attributes = read_exr(tmp_path / "distort.00000103.exr")
    np.testing.assert_array_equal(pixels[..., :2], st_maps(wide.lens, (12, 8))[1])
    assert attributes["format"] == "float" and attributes["channels"] == ("R", "G")
    assert json.loads(attributes["ledvolume/lens"])["distortion"]["radial"] == [0.002]


def test_a_lens_that_bends_nothing_has_no_st_maps(tmp_path):
    notes = write_sidecars(tmp_path, requests(2, with_lens(CAMERA, distortion=Distortion())), SHOW)
    assert notes == ["the lens has no distortion: no ST maps"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["camera.jsonl", "camera.usda", "hashes.sfv"]


def test_what_a_lens_cannot_be_is_nowhere_in_the_map():
    undistort, distort = st_maps(Lens(35.0, (24.0, 16.0), distortion=Distortion((-0.01,))), (48, 32))
    assert distort[0, 0].tolist() == [-1, -1] and np.isfinite(undistort).all() and distort[16, 24].min() > 0.4


def test_hashes_are_those_of_zlib_and_stay_out_of_their_own_way(tmp_path):
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "00000100.png").write_bytes(b"123456789")
    (tmp_path / "take.mov").write_bytes(bytes(3_000_000))
    (tmp_path / "view" / "00000101.png.77.part").write_bytes(b"half")
    for name in ("frames.jsonl", "frames-0-99.jsonl", "job.json"):
        (tmp_path / name).write_bytes(b"{}")
    for _ in range(2):
        write_hashes(tmp_path)
    # CBF43926 is the check value of CRC-32: every catalogue has it
    zeros = zlib.crc32(bytes(3_000_000))
    assert (tmp_path / "hashes.sfv").read_text() == f"take.mov {zeros:08X}\nview/00000100.png CBF43926\n"


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    file = tmp_path / "out"
    file.write_text("no folder")
    with pytest.raises(OutputError, match="camera.jsonl"):
        write_sidecars(file, requests(1), SHOW)
