"""Videos of flashing walls with delays that are known: sensor, shutter, curve and noise computed, really encoded to H.264."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from calibration.flash_search import Flashes, light

WIDTH, HEIGHT = 320, 180  # multiples of the patterns' squares


def flashes_at(rate: float, seconds: float, first: int = 0) -> Flashes:
    """What a wall shows that misses no frame."""
    count = round(rate * seconds)
    return Flashes(1_700_000_000_000_000_000, np.arange(count + 1) / rate, (first + np.arange(count)) % 4096)


def flash_pictures(
    flashes: Flashes,
    walls: dict[str, tuple[float, tuple[float, float, float, float]]],
    rate: Fraction,
    exposure_s: float,
    readout_s: float,
    begins_s: float = -0.7,
    seconds: float | None = None,
    gamma: float = 0.45,
    noise: float = 0.01,
    gain: float = 0.8,
    seed: int = 0,
    drift: float = 0.0,
) -> Iterator[np.ndarray]:
    """(H, W) uint8. walls: surface → (delay in seconds, left, top, right, bottom in parts of the picture). begins_s: the instant of
    the record's clock at which the first frame's middle line is in the middle of its exposure. drift: how much faster the
    video's clock runs."""
    random = np.random.default_rng(seed)
    texture = (0.6 + 0.4 * random.random((HEIGHT // 10, WIDTH // 10))).repeat(10, 0).repeat(10, 1)
    ambient = (0.01 + 0.1 * random.random((HEIGHT // 20, WIDTH // 20))).repeat(20, 0).repeat(20, 1)
    y = (np.arange(HEIGHT) + 0.5) / HEIGHT - 0.5
    for k in range(int((seconds or flashes.edges_s[-1] - begins_s + 0.5) * rate)):
        at_s = begins_s + k / float(rate) * (1 - drift)
        sensor = ambient.copy()
        for surface, (delay_s, box) in walls.items():
            share = light(flashes, flashes.lit_until_s(surface), at_s - delay_s + y * readout_s, exposure_s)
            columns, rows = (slice(int(a * n), int(b * n)) for a, b, n in ((box[0], box[2], WIDTH), (box[1], box[3], HEIGHT)))
            sensor += 0.03 * share[:, None]  # what the room throws back
            sensor[rows, columns] += gain * texture[rows, columns] * share[rows, None]
        values = np.clip(sensor + noise * np.sqrt(sensor + 0.02) * random.normal(size=sensor.shape), 0, 1) ** gamma
        yield np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def write_video(
    file: Path,
    pictures: Iterable[np.ndarray],
    rate: Fraction,
    crf: int = 20,
    dropped: tuple[int, ...] = (),
    closed_up: bool = False,
) -> None:
    """dropped: frames that are missing; closed_up: and the instants do not tell."""
    with av.open(str(file), "w") as video:
        stream = video.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        written = 0
        for k, picture in enumerate(pictures):
            if k in dropped:
                continue
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, 2), "rgb24")
            frame.pts = written if closed_up else k
            written += 1
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
