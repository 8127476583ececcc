"""Rays per second of our renderer on the shipped place, beside nerfstudio's own renderer of the same checkpoint, and what
a frame costs Python at 4 and at 256 tiles.

The views are those of the demo: every LED pixel of its wall, from eyes in its zone. Ours is timed as the server runs it,
from the request to the encoded pixels in host memory; nerfstudio gets every third pixel and row of the same views.
"""

import time
from collections.abc import Iterable
from fractions import Fraction

import msgspec
import numpy as np

from benchmarks import nerfstudio_speed
from benchmarks.stream import receiver
from ledvolume.camera import Camera, CameraSample, Lens
from ledvolume.clock import SECOND_NS
from ledvolume.config import Show, load_show
from ledvolume.frame import FrameRequest
from ledvolume.outputs.stream import StreamOutput
from ledvolume.pose import Pose
from ledvolume.protocols import native
from ledvolume.schedule import Inputs
from ledvolume.server import open_renderer
from ledvolume.sources import Datagram
from ledvolume.stage import Flat, Stage, Surface, cut, facing, pixel_positions
from ledvolume.timeline import Timeline
from measure import ROOT, Row

DEMO = ROOT / "configs" / "demo.toml"
EVERYTHING = Lens(4.0, (24.0, 24.0))  # a view so wide that every LED pixel is in the footprint
EYES_M = ((0.0, 0.0, 1.9), (0.3, 0.2, 1.75), (-0.35, -0.2, 2.1))


def request(show: Show, eye_m, index: int = 0) -> FrameRequest:
    return FrameRequest(index, 0, 0, Camera(Pose(position_m=eye_m), EVERYTHING, "measured", 0), show.start)


def ours_rays_per_s(show: Show, rounds: int = 4) -> float:
    """All pixels inner, whole frames, best round over the eyes."""
    renderer = open_renderer(show)
    pixels = sum(width * height for width, height in (tile.resolution_px for tile in show.stage.tiles))
    best = float("inf")
    for eye_m in EYES_M:
        renderer.render(request(show, eye_m))
    for _ in range(rounds):
        started = time.perf_counter()
        for eye_m in EYES_M:
            renderer.render(request(show, eye_m))
        best = min(best, time.perf_counter() - started)
    renderer.context.release()
    return pixels * len(EYES_M) / best


def nerfstudio_rays(show: Show) -> tuple[np.ndarray, np.ndarray]:
    """Every third pixel and row of the same views, in the field's frame, (n, 3) float32 each."""
    matrix = show.places[show.start].field_from_stage.matrix()
    origins, directions = [], []
    for eye_m in EYES_M[:1]:
        points = np.concatenate([pixel_positions(tile)[::3, ::3].reshape(-1, 3) for tile in show.stage.tiles])
        toward = (points - eye_m) @ matrix[:3, :3].T
        directions.append(toward / np.linalg.norm(toward, axis=-1, keepdims=True))
        origins.append(np.broadcast_to(np.asarray(eye_m) @ matrix[:3, :3].T + matrix[:3, 3], toward.shape))
    return np.concatenate(origins).astype(np.float32), np.concatenate(directions).astype(np.float32)


def against_nerfstudio() -> Iterable[Row]:
    """our renderer and nerfstudio's own on the same views of the shipped place, same CPU, one run"""
    show = load_show(DEMO)
    before = ours_rays_per_s(show)
    stock = nerfstudio_speed.stock_render(*nerfstudio_rays(show))
    yield from nerfstudio_speed.speed_rows(stock)
    ours = max(before, ours_rays_per_s(show))
    yield Row("ours, whole frames of the demo's wall", ours, "rays/s")
    yield Row("ours over nerfstudio's", ours / stock["best"]["rays_per_s"], "×", ("≥", 30))


class Timed:
    """Stands for an OpenGL object; adds up the seconds spent inside some of its methods."""

    def __init__(self, inner, methods: tuple[str, ...], spent: list[float]):
        self.__dict__.update(_inner=inner, _methods=methods, _spent=spent)

    def __getattr__(self, name: str):
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found

        def timed(*arguments):
            started = time.perf_counter()
            result = found(*arguments)
            self._spent[0] += time.perf_counter() - started
            return result

        return timed

    def __setitem__(self, name, value):
        self._inner[name] = value


def python_ms(tiles: tuple[int, int], frames: int = 150) -> tuple[float, float, float]:
    """Median ms per frame outside of OpenGL (dispatch, barrier, read-back), its p99, and dispatches per frame.

    A frame: decode a tracker's sample, decide the camera, render, send every tile to a receiver that takes them all.
    65,536 LED pixels however they are cut; OpenGL's uniforms and bindings count as Python.
    """
    show = load_show(DEMO)
    surface = Surface("wall", facing(0.0, (0.0, 4.0, 1.9)), (3.0, 3.0), (256, 256), Flat())
    rig = show.stage.rigs[0]
    stage = Stage(cut(surface, *tiles), show.stage.eye_m, show.stage.zone, (rig,))
    renderer = open_renderer(msgspec.structs.replace(show, stage=stage))
    spent = [0.0]
    renderer.wall = Timed(renderer.wall, ("run",), spent)
    renderer.encode = Timed(renderer.encode, ("run",), spent)
    renderer.codes = Timed(renderer.codes, ("read_into",), spent)
    renderer.context = Timed(renderer.context, ("memory_barrier",), spent)
    timeline, decoder = Timeline(rig, show.initial[rig.camera_id]), native.decoder()
    inputs = Inputs([], {rig.camera_id: timeline})
    output = StreamOutput("stream://127.0.0.1:0?queue_frames=4")
    process = receiver(output.uri.replace("stream", "tcp"))
    took = []
    try:
        start_ns, period_ns = time.time_ns(), round(SECOND_NS / Fraction(24))
        for index in range(frames):
            at_ns = start_ns + index * period_ns
            sample = CameraSample(rig.camera_id, at_ns, at_ns, Pose(position_m=(0.001 * index, 0.0, 1.9)))
            datagram = Datagram("native", native.encode(sample), at_ns)
            spent[0], started = 0.0, time.perf_counter()
            inputs.drain()
            for found in decoder.decode(datagram):
                timeline.add(found)
            camera = timeline.camera_at(at_ns + period_ns)
            frame = renderer.render(FrameRequest(index, at_ns + period_ns, at_ns, camera, show.start))
            output.send(frame)
            took.append(time.perf_counter() - started - spent[0])
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
        output.close()
    warm = took[frames // 3 :]
    p50, p99 = np.percentile(warm, (50, 99)) * 1e3
    return float(p50), float(p99), renderer.dispatches / frames


def python_per_frame() -> Iterable[Row]:
    """what a frame costs Python (everything but OpenGL's dispatches and read-back) at 4 and at 256 tiles"""
    few, few_p99, few_dispatches = python_ms((2, 2))
    many, many_p99, many_dispatches = python_ms((16, 16))
    yield Row("Python per frame, 4 tiles, median", few, "ms")
    yield Row("Python per frame, 256 tiles, median", many, "ms", ("≤", 2))
    yield Row("Python per frame, 256 tiles, p99", many_p99, "ms")
    yield Row("OpenGL dispatches per frame, 4 tiles", few_dispatches)
    yield Row("OpenGL dispatches per frame, 256 tiles", many_dispatches, "", ("=", few_dispatches))


MEASUREMENTS = (against_nerfstudio, python_per_frame)
