"""Images and videos on disk, read back by programs that are not ours."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from ledvolume.camera import Camera, Lens
from ledvolume.errors import OutputError
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs import open_output
from ledvolume.outputs.images import ImageFolder, png, saved_frames
from ledvolume.outputs.pixels import eight_bit, pixel_format, rgb10_packed, rgb10_unpacked
from ledvolume.outputs.video import VideoWriter
from ledvolume.outputs.window import Window
from ledvolume.pose import Pose

RANDOM = np.random.default_rng(1)
IMAGES = {
    "rgb8": RANDOM.integers(0, 256, (9, 7, 3), np.uint8),
    "rgb10": rgb10_packed(RANDOM.integers(0, 1024, (9, 7, 3))),
    "rgb16": RANDOM.integers(0, 65536, (9, 7, 3), np.uint16),
}


def request(index: int) -> FrameRequest:
    camera = Camera(Pose(position_m=(1.0, 2.0, 3.0)), Lens(35.0, (36.0, 20.25)), "measured", 0)
    return FrameRequest(index, 10**9 * index, 10**9 * index - 40_000_000, camera, "door")


@pytest.mark.parametrize("file_format", ["png", "npy"])
def test_saved_frames_come_back_bit_exact(tmp_path, file_format):
    # two receivers share the folder: each has its own tiles and its own lines
    left, right = ImageFolder(tmp_path, "left", file_format), ImageFolder(tmp_path, "right", file_format)
    for index in (20, 5):
        left.write("rgb8", IMAGES["rgb8"], request(index), sequence=index, crc32=7)
        right.write("rgb10", IMAGES["rgb10"], request(index))
        right.write("rgb16", IMAGES["rgb16"], request(index))
    left.close()
    right.close()
    frames = list(saved_frames(tmp_path))
    assert [frame.request for frame in frames] == [request(5), request(20)]
    for frame in frames:
        assert {name: pixel_format(image) for name, image in frame.images.items()} == {name: name for name in IMAGES}
        for name, image in IMAGES.items():
            np.testing.assert_array_equal(frame.images[name], image)


def test_the_images_output_writes_every_tile_of_every_frame(tmp_path):
    output = open_output("images:take3", tmp_path)
    output.send(Frame(request(4), IMAGES))
    output.close()
    assert sorted(path.name for path in (tmp_path / "take3").iterdir()) == ["frames.jsonl", *sorted(IMAGES)]
    assert Image.open(tmp_path / "take3" / "rgb8" / "00000004.png").size == (7, 9)


def test_an_8_bit_png_is_what_pillow_reads():
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(IMAGES["rgb8"])))), IMAGES["rgb8"])


def test_a_10_bit_png_has_black_at_0_and_white_at_65535():
    packed = np.array([[0, 1023 | 1023 << 10 | 1023 << 20, 512]], np.uint32)
    with av.open(io.BytesIO(png(packed))) as file:
        values = next(file.decode(video=0)).to_ndarray(format="rgb48le")
    # 512 repeated to 16 bits: 512 · 64 + 512 // 16 = 32800
    assert values.tolist() == [[[0, 0, 0], [65535, 65535, 65535], [32800, 0, 0]]]


def test_rgb10_has_red_in_the_low_bits():
    packed = rgb10_packed(np.array([[[1, 2, 3]]]))
    assert packed.item() == 1 + 2 * 1024 + 3 * 1024 * 1024
    assert rgb10_unpacked(packed | np.uint32(3 << 30)).tolist() == [[[1, 2, 3]]]  # the top bits carry nothing


def test_eight_bits_are_the_upper_ones():
    assert eight_bit(np.array([[1023 << 10 | 4]], np.uint32)).tolist() == [[[1, 255, 0]]]
    assert eight_bit(np.array([[[65535, 256, 255]]], np.uint16)).tolist() == [[[255, 1, 0]]]


@pytest.mark.parametrize("tile", ["../up", "a/b", ".hidden", "..", "", "nul\0", "c:\\x"])
def test_a_tile_name_from_the_network_cannot_leave_the_folder(tmp_path, tile):
    images = ImageFolder(tmp_path / "out", "all")
    with pytest.raises(OutputError, match="cannot be a folder"):
        images.write(tile, IMAGES["rgb8"], request(0))
    images.close()
    assert list(tmp_path.rglob("*.png")) == []


def test_a_video_keeps_its_colours_its_rate_and_its_length(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0)]
    bars = np.repeat(np.array(colours, np.uint8)[None], 16, axis=1).repeat(64, axis=0)
    with VideoWriter(tmp_path / "bars.mp4", (96, 64), Fraction(24000, 1001)) as video:
        for _ in range(10):
            video.write(bars)
    with av.open(str(tmp_path / "bars.mp4")) as file:
        stream = file.streams.video[0]
        frames = list(file.decode(video=0))
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert stream.average_rate == Fraction(24000, 1001)
    assert len(frames) == 10
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)  # BT.709, limited
    shown = frames[5].reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    # x264 at crf 18 and 8-bit YUV: 4 code values; BT.601 read as BT.709 would be off by 20
    np.testing.assert_allclose(shown[32, 8::16].astype(int), colours, atol=4)


def test_a_video_refuses_what_it_cannot_show(tmp_path):
    with pytest.raises(OutputError, match="even width and height, got 95 x 64"):
        VideoWriter(tmp_path / "odd.mp4", (95, 64), 24)
    with VideoWriter(tmp_path / "even.mp4", (96, 64), 24) as video:
        with pytest.raises(OutputError, match=r"expected a frame of \(64, 96, 3\) uint8"):
            video.write(np.zeros((96, 64, 3), np.uint8))
        video.write(np.zeros((64, 96, 3), np.uint8))


def test_a_window_without_a_display_says_so(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match="glfw"):
        Window("tiles")
