"""Videos read back: colours to the code value, tags, rate, timecode; and what happens when one cannot be made.

100 % colour bars in BT.709's limited range, as every table of them has it: Y' = 64 + 876 E', C' = 512 + 896 E'.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ledvolume.errors import OutputError
from ledvolume.outputs.images import png, png_pixels
from ledvolume.outputs.video import ENCODINGS, VideoWriter, encode_sequence
from ledvolume.timecode import Timecode, timecode

RGB_OF_BARS = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]
YCBCR_OF_BARS = [
    (940, 512, 512), (877, 64, 553), (754, 615, 64), (691, 167, 105), (313, 857, 919), (250, 409, 960), (127, 960, 471),
    (64, 512, 512),
]  # fmt: skip
SUFFIX = {"h264": "mp4", "hevc": "mp4", "prores": "mov"}
# ten-bit codes: intra ProRes at HQ's rate keeps flat bars but for the rounding; x265 at crf 14 and x264 in 8 bits are near
TOLERANCE = {"prores": 1, "hevc": 3, "h264": 8}


def bars(dtype) -> np.ndarray:
    """(64, 256, 3): each bar 32 columns."""
    full = np.array(RGB_OF_BARS) * np.iinfo(dtype).max
    return np.repeat(np.repeat(full.astype(dtype)[None], 32, axis=1), 64, axis=0)


def sequence(folder: Path, pictures) -> list[Path]:
    files = [folder / f"{i:08d}.png" for i in range(len(pictures))]
    for file, picture in zip(files, pictures):
        file.write_bytes(png(np.ascontiguousarray(picture)))
    return files


def planes(frame: av.VideoFrame, bits: int) -> list[np.ndarray]:
    """Y', Cb, Cr as the decoder gives them, in ten-bit codes."""
    dtype = np.uint8 if bits == 8 else np.uint16
    found = [np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
    return [plane.astype(int) << (10 - bits) for plane in found]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8-bit files", "16-bit files"])
@pytest.mark.parametrize("codec", ENCODINGS)
def test_colours_come_back_to_the_code_value(tmp_path, codec, dtype):
    path = tmp_path / f"bars.{SUFFIX[codec]}"
    encode_sequence(sequence(tmp_path, [bars(dtype)] * 3), path, 24, codec)
    with av.open(str(path)) as file:
        frame = list(file.decode(video=0))[1]
    luma, cb, cr = planes(frame, ENCODINGS[codec].bits)
    found = [(luma[32, 32 * i + 16], cb[cb.shape[0] // 2, 16 * i + 8], cr[cr.shape[0] // 2, 16 * i + 8]) for i in range(8)]
    np.testing.assert_allclose(found, YCBCR_OF_BARS, atol=TOLERANCE[codec])


@pytest.mark.parametrize(
    "codec, name, pixels, tag", [("h264", "h264", "yuv420p", "avc1"), ("hevc", "hevc", "yuv420p10le", "hvc1"),
                                 ("prores", "prores", "yuv422p10le", "apch")]
)  # fmt: skip
def test_tags_rate_and_timecode_are_those_that_were_asked_for(tmp_path, codec, name, pixels, tag):
    path, told = tmp_path / f"v.{SUFFIX[codec]}", []
    files = sequence(tmp_path, [bars(np.uint8)] * 5)
    rate = Fraction(30000, 1001)
    encode_sequence(files, path, rate, codec, lambda done, of: told.append((done, of)), first_timecode="01:00:59;28")
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    with av.open(str(path)) as file:
        stream, frames = file.streams.video[0], list(file.decode(video=0))
        timecodes = [s.metadata.get("timecode") for s in file.streams if s.type == "data"]
    context = stream.codec_context
    assert (context.name, context.pix_fmt, context.codec_tag) == (name, pixels, tag)
    assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)
    assert stream.average_rate == rate and len(frames) == 5
    assert [Fraction(f.pts) * f.time_base for f in frames] == [i / rate for i in range(5)]
    assert timecodes == ["01:00:59;28"]
    if codec == "prores":
        assert context.profile == "HQ"


@pytest.mark.parametrize("codec", ["hevc", "prores"])
def test_ten_bits_are_ten_bits(tmp_path, codec):
    """A grey ramp in steps of one ten-bit code over 876 columns: eight bits would leave 219 values."""
    ramp = np.linspace(0, 65535, 877).round().astype(np.uint16)[:876]
    path = tmp_path / f"ramp.{SUFFIX[codec]}"
    encode_sequence(sequence(tmp_path, [np.repeat(np.repeat(ramp[None, :, None], 64, 0), 3, 2)]), path, 24, codec)
    with av.open(str(path)) as file:
        luma = planes(next(file.decode(video=0)), 10)[0]
    assert np.abs(luma[32] - (64 + np.arange(876))).max() <= 3
    assert len(np.unique(luma[32])) > 700


def test_chroma_lies_on_the_left_of_its_pair(tmp_path):
    """Red begins at an odd column, 33, in blue: Cb at column 32 sees columns 31, 32, 33 as 1 2 1, so a quarter of the way."""
    picture = np.zeros((64, 64, 3), np.uint16)
    picture[:, :33, 2] = picture[:, 33:, 0] = 65535
    path = tmp_path / "edge.mov"
    encode_sequence(sequence(tmp_path, [picture]), path, 24, "prores")
    with av.open(str(path)) as file:
        cb = planes(next(file.decode(video=0)), 10)[1][32]
    # blue 960, red 409: 960 - 551 / 4 = 822 at chroma column 16; the sharp edge rings in the codec
    assert cb[16] == pytest.approx(822, abs=12) and cb[10] == pytest.approx(960, abs=4) and cb[24] == pytest.approx(409, abs=4)


def test_pictures_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path):
    files = sequence(tmp_path, [bars(np.uint8), bars(np.uint8)[:, :-2]])
    path = tmp_path / "v.mov"
    path.write_bytes(b"the one before")
    with pytest.raises(OutputError, match=r"00000001\.png: expected 256 x 64 pixels as .*00000000\.png has, got 254 x 64"):
        encode_sequence(files, path, 24, "prores")
    files[1].unlink()
    with pytest.raises(OutputError, match="00000001.png: cannot be read as a PNG file: No such file"):
        encode_sequence(files, path, 24, "prores")
    files[1].write_bytes(b"no picture at all")
    with pytest.raises(OutputError, match="00000001.png: cannot be read as a PNG file"):
        encode_sequence(files, path, 24, "prores")
    with pytest.raises(OutputError, match="no pictures"):
        encode_sequence([], path, 24, "prores")
    assert path.read_bytes() == b"the one before" and not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "codec, size_px, words",
    [("h264", (64, 63), "4:2:0 video needs even width and height, got 64 x 63"), ("hevc", (63, 64), "even width and height"),
     ("prores", (63, 64), "4:2:2 video needs an even width, got 63 x 64")],
)  # fmt: skip
def test_sizes_that_a_codec_cannot_hold_are_refused(tmp_path, codec, size_px, words):
    with pytest.raises(OutputError, match=words):
        VideoWriter(tmp_path / "v", size_px, 24, codec)
    VideoWriter(tmp_path / "v.mov", (64, 63), 24, "prores")


@pytest.mark.parametrize("codec", ENCODINGS)
def test_a_full_disk_is_said(tmp_path, codec):
    path = tmp_path / f"v.{SUFFIX[codec]}"
    (tmp_path / f"{path.name}.part").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (128, 256, 3), np.uint8)
    with pytest.raises(OutputError, match="the disk is full"):
        encode_sequence(sequence(tmp_path, [noise] * 30), path, 24, codec)
    assert not path.exists() and not list(tmp_path.glob("*.part"))


def test_a_png_keeps_its_bits(tmp_path):
    for dtype in (np.uint8, np.uint16):
        picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (9, 7, 3), dtype)
        (file,) = sequence(tmp_path, [picture])
        np.testing.assert_array_equal(png_pixels(file), picture)


def test_timecodes_are_read_and_those_that_cannot_be_are_refused():
    assert timecode("10:11:12:23", Fraction(24000, 1001)) == Timecode(10, 11, 12, 23)
    assert timecode("00:10:00;00", Fraction(30000, 1001)) == Timecode(0, 10, 0, 0, True)  # every tenth minute drops none
    assert timecode("00:01:00;04", Fraction(60000, 1001)) == Timecode(0, 1, 0, 4, True)
    assert timecode("00:00:00:119", Fraction(120)).frames == 119
    for text, rate, words in (
        ("10:11:12", Fraction(24), "expected HH:MM:SS:FF"),
        ("10:11:12:24", Fraction(24), "frames to 23 at 24"),
        ("24:00:00:00", Fraction(24), "hours to 23"),
        ("10:11:12;10", Fraction(24), "drops frame numbers"),
        ("10:11:12;10", Fraction(30), "drops frame numbers"),
        ("00:01:00;01", Fraction(30000, 1001), "leaves this number out; the next one is ;02"),
        ("00:01:00;03", Fraction(60000, 1001), "the next one is ;04"),
    ):
        with pytest.raises(OutputError, match=words):
            timecode(text, rate)
