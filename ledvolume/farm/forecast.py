"""What a job will cost, from a few of its frames rendered now, by the same workers, into a folder that is thrown away."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ledvolume.farm import finished, open_crew
from ledvolume.frame import FrameRequest

FRAMES_A_WORKER = 3  # the first of which also waits for the scene, and for what is kept between frames


class Forecast(msgspec.Struct, frozen=True):
    """start_s: until the first frame. frame_s: of all workers together, from one frame to the next. bytes: of a frame."""

    start_s: float
    frame_s: float
    bytes: int


def forecast(worker_class: type, spec: msgspec.Struct, requests: Sequence[FrameRequest], workers: int, ray: str = "") -> Forecast:
    """Renders up to FRAMES_A_WORKER frames a worker, from all over the job. Raises LedvolumeError."""
    with tempfile.TemporaryDirectory() as folder:
        crew = open_crew(worker_class, msgspec.structs.replace(spec, out=str(Path(folder))), workers, ray)
        try:
            count = min(len(requests), FRAMES_A_WORKER * crew.size)
            chosen = [requests[i * len(requests) // count] for i in range(count)]
            begin_s, ends_s, sizes = time.monotonic(), [], []
            for rendered in finished(crew, chosen):
                ends_s.append(time.monotonic() - begin_s)
                sizes.append(rendered.bytes)
        finally:
            crew.close()
    warm = min(crew.size, count - 1)  # by then every worker has done its first, or about
    frame_s = (ends_s[-1] - ends_s[warm - 1]) / (count - warm) if warm else ends_s[0]
    return Forecast(ends_s[0], frame_s, sum(sizes) // count)
