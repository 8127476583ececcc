"""Videos that every player shows in the right colours: BT.709, limited range, tagged as such. Through PyAV.

    h264     8 bits, 4:2:0, .mp4     for looking at, anywhere
    hevc    10 bits, 4:2:0, .mp4     small, for reviews (Main 10, tagged hvc1: QuickTime plays no other)
    prores  10 bits, 4:2:2, .mov     ProRes 422 HQ, for editing; with a timecode track

RGB becomes Y'CbCr here and not in FFmpeg's scaler, whose white is three of 1023 codes too high. Chroma lies on the left of its
pair, as H.264, HEVC and ProRes have it: the mean of three columns, weights 1 2 1; in 4:2:0 of two rows as well.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ledvolume.errors import OutputError
from ledvolume.outputs.images import png_pixels
from ledvolume.outputs.whole_file import words
from ledvolume.timecode import timecode

Codec = Literal["h264", "hevc", "prores"]


class Encoding(msgspec.Struct, frozen=True):
    """How a codec is written. rows: of the picture that share one row of chroma."""

    encoder: str
    pixel_format: str
    bits: int
    rows: int
    container: str
    options: dict[str, str]
    tag: str = ""


X265 = "bframes=0:log-level=error"
ENCODINGS = {
    "h264": Encoding("libx264", "yuv420p", 8, 2, "mp4", {"preset": "veryfast", "crf": "18"}),
    # with B-frames, x265 makes up the decoding times of a sequence that is shorter than its look-ahead: random numbers
    "hevc": Encoding("libx265", "yuv420p10le", 10, 2, "mp4", {"preset": "fast", "crf": "14", "x265-params": X265}, "hvc1"),
    # prores_aw is ten times as fast as prores_ks. 3: HQ
    "prores": Encoding("prores_aw", "yuv422p10le", 10, 1, "mov", {"profile": "3"}),
}
"""Codec → how it is written."""

BT709 = 1  # of primaries, transfer and matrix alike (ITU-T H.273)
LIMITED = 1
CB_SPAN, CR_SPAN = 1.8556, 1.5748  # BT.709: 2 (1 - 0.0722), 2 (1 - 0.2126)
YCBCR_FROM_RGB = np.array(
    [
        [0.2126, 0.7152, 0.0722],
        [-0.2126 / CB_SPAN, -0.7152 / CB_SPAN, 0.9278 / CB_SPAN],
        [0.7874 / CR_SPAN, -0.7152 / CR_SPAN, -0.0722 / CR_SPAN],
    ],
    np.float32,
)


def encode_sequence(
    files: Sequence[Path],
    path: Path,
    rate: Fraction | int,
    codec: Codec,
    progress: Callable[[int, int], None] = lambda done, of: None,
    first_timecode: str = "",
) -> None:
    """A video of PNG files of 8 or 16 bits, in their order. progress(done, of) is called after every picture.

    Raises OutputError: no files, one that is missing or has another size than the first, a full disk.
    """
    if not files:
        raise OutputError(f"{path}: no pictures to make a video of")
    height, width = png_pixels(Path(files[0])).shape[:2]
    with VideoWriter(path, (width, height), rate, codec, first_timecode) as video:
        for done, file in enumerate(files, 1):
            picture = png_pixels(Path(file))
            if picture.shape != (height, width, 3):
                size = f"{picture.shape[1]} x {picture.shape[0]}"
                raise OutputError(f"{file}: expected {width} x {height} pixels as {files[0]} has, got {size}")
            video.write(picture)
            progress(done, len(files))


class VideoWriter:
    """`with VideoWriter(path, (width, height), 24) as video: video.write(rgb)`. rate: frames per second, exact.

    The file appears when the block ends well. first_timecode: of the first picture.
    """

    def __init__(
        self, path: Path, size_px: tuple[int, int], rate: Fraction | int, codec: Codec = "h264", first_timecode: str = ""
    ):
        import av

        self._encoding = encoding = ENCODINGS[codec]
        self._av, self._path, self._size_px = av, Path(path), tuple(size_px)
        self._part = self._path.with_name(f"{self._path.name}.part")
        rate = Fraction(rate)
        check_size(path, size_px, codec)
        container_options = {"movflags": "faststart"}
        if first_timecode:
            timecode(first_timecode, rate)
            container_options["write_tmcd"] = "1"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = av.open(str(self._part), "w", format=encoding.container, options=container_options)
        except OSError as error:
            raise OutputError(words(self._path, error, 0)) from error
        self._stream = self._file.add_stream(encoding.encoder, rate=rate, options=dict(encoding.options))
        self._stream.width, self._stream.height = size_px
        self._stream.pix_fmt = encoding.pixel_format
        if first_timecode:
            self._stream.metadata["timecode"] = first_timecode
        # Untagged, players guess BT.601 for small pictures and BT.709 for large ones: greens shift.
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        if encoding.tag:
            context.codec_tag = encoding.tag
        self._frames = 0

    def write(self, rgb: np.ndarray) -> None:
        """rgb: (H, W, 3) uint8 or uint16, display-referred."""
        expected = (self._size_px[1], self._size_px[0], 3)
        if rgb.shape != expected or rgb.dtype not in (np.uint8, np.uint16):
            raise OutputError(f"{self._path}: expected a frame of {expected} uint8 or uint16, got {rgb.shape} {rgb.dtype}")
        frame = self._av.VideoFrame(*self._size_px, self._encoding.pixel_format)
        for plane, values in zip(frame.planes, ycbcr_planes(rgb, self._encoding.bits, self._encoding.rows)):
            rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
            rows[:, : plane.width] = values
        # ProRes writes those of each picture into it, whatever the stream says
        frame.colorspace = frame.color_primaries = frame.color_trc = BT709
        frame.color_range = LIMITED
        frame.pts, self._frames = self._frames, self._frames + 1
        self._mux(lambda: self._file.mux(self._stream.encode(frame)))

    def close(self) -> None:
        self._mux(lambda: self._file.mux(self._stream.encode()))
        self._mux(self._file.close)
        self._part.replace(self._path)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def _mux(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            size = self._part.stat().st_size if self._part.exists() else 0
            raise OutputError(words(self._path, error, size)) from error
        except self._av.FFmpegError as error:
            raise OutputError(f"{self._path}: {self._encoding.encoder} gave up at picture {self._frames}: {error}") from error

    def _discard(self) -> None:
        try:
            self._file.close()
        except (OSError, self._av.FFmpegError):
            pass  # why it cannot be finished was said already
        self._part.unlink(missing_ok=True)


def check_size(path: Path, size_px: tuple[int, int], codec: Codec) -> None:
    """Raises OutputError for pictures that a codec cannot hold: chroma is shared by two columns, and in 4:2:0 by two rows."""
    (width, height), rows = size_px, ENCODINGS[codec].rows
    if width % 2 or height % rows or min(size_px) < 2:
        even = "even width and height" if rows == 2 else "an even width"
        raise OutputError(f"{path}: a 4:2:{0 if rows == 2 else 2} video needs {even}, got {width} x {height}")


def ycbcr_planes(rgb: np.ndarray, bits: int, rows: int) -> list[np.ndarray]:
    """Y', Cb, Cr in BT.709's limited range: luma (H, W), chroma (H / rows, W / 2); uint8, or uint16 of more bits."""
    unit = 1 << bits - 8
    ycbcr = rgb.astype(np.float32) @ (YCBCR_FROM_RGB.T / np.iinfo(rgb.dtype).max)
    chroma = ycbcr[..., 1:]
    if rows == 2:
        chroma = (chroma[0::2] + chroma[1::2]) / 2
    left = np.concatenate([chroma[:, :1], chroma[:, 1:-1:2]], 1)
    chroma = (left + 2 * chroma[:, 0::2] + chroma[:, 1::2]) / 4
    planes = [(16 + 219 * ycbcr[..., 0]) * unit, *((128 + 224 * chroma[..., i]) * unit for i in (0, 1))]
    return [np.rint(plane).astype(np.uint8 if bits == 8 else np.uint16) for plane in planes]
