"""H.264 in an .mp4 that every player shows in the right colours: BT.709, limited range, 4:2:0. Through PyAV."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ledvolume.errors import OutputError


class VideoWriter:
    """`with VideoWriter(path, (width, height), 24) as video: video.write(rgb)`. rate: frames per second, exact."""

    def __init__(self, path: Path, size_px: tuple[int, int], rate: Fraction | int, *, crf: int = 18):
        import av

        if size_px[0] % 2 or size_px[1] % 2 or min(size_px) < 2:
            raise OutputError(f"{path}: a 4:2:0 video needs even width and height, got {size_px[0]} x {size_px[1]}")
        self._av, self._path, self._size_px = av, Path(path), tuple(size_px)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = av.open(str(path), "w", options={"movflags": "faststart"})
        options = {"crf": str(crf), "preset": "veryfast"}
        self._stream = self._file.add_stream("libx264", rate=Fraction(rate), options=options)
        self._stream.width, self._stream.height = size_px
        self._stream.pix_fmt = "yuv420p"
        # Untagged, players guess BT.601 for small pictures and BT.709 for large ones: greens shift.
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # limited
        self._frames = 0

    def write(self, rgb: np.ndarray) -> None:
        """rgb: (H, W, 3) uint8, display-referred."""
        expected = (self._size_px[1], self._size_px[0], 3)
        if rgb.shape != expected or rgb.dtype != np.uint8:
            raise OutputError(f"{self._path}: expected a frame of {expected} uint8, got {rgb.shape} {rgb.dtype}")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, self._frames = self._frames, self._frames + 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()
