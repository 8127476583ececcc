"""How true the shipped place is, what it would be at other sizes, and what a bake loses against a photograph."""

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from benchmarks.march import DEMO, EYES_M, request
from benchmarks.nerfstudio_speed import DOOR
from ledvolume.colour import psnr_db
from ledvolume.config import load_show
from ledvolume.render.context import create_context
from ledvolume.render.rays import RayViewer
from ledvolume.scenes import bake as making
from ledvolume.scenes import bricks, verify
from ledvolume.scenes.bake_view import PhotographView, WallView
from ledvolume.scenes.baking import HELD_OUT, grown_for
from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.mips import with_mips
from ledvolume.scenes.nerfstudio import NerfactoField, tensor
from ledvolume.scenes.nerfstudio_rays import nerfstudio_render
from ledvolume.server import open_renderer
from measure import ROOT, Row

PHOTOGRAPH = ROOT / "tests" / "data" / "lund_door_held_out"
TABLE_MB = (12, 16, 20, 28, 36, 48)
MEGABYTE = 1_000_000
# Its pixels are half as wide as the LED pixels of the demo's wall: four times as many, for a zone of 0.3 m instead of 0.8 m.
PHOTOGRAPH_MB = 64
PHOTOGRAPH_ZONE = 0.04


def shipped_place() -> Iterable[Row]:
    """the shipped place on LED-pixel footprints of the demo's wall, from held-out eyes, against the converged exact field"""
    show = load_show(DEMO)
    spec = show.places[show.start]
    field = NerfactoField(read_run(DOOR))
    truth = verify.held_out(field, WallView(show.stage, spec.field_from_stage), **HELD_OUT, progress=lambda stage, share: None)
    context = create_context()
    found = verify.fidelity(truth, RayViewer(context, with_mips(bricks.load(spec.file))).see)
    context.release()
    yield Row("shipped place on disk", spec.file.stat().st_size / MEGABYTE, "MB", ("≤", 36))
    yield Row("shipped place, mean over held-out eyes", found.mean_db, "dB", ("≥", 35))
    yield Row("shipped place, worst held-out eye", found.worst_db, "dB", ("≥", 32))
    yield Row("nerfstudio's own sampler against the converged render", verify.sampler_db(field, truth), "dB")
    middle = [psnr_db(centre, pixels) for centre, pixels in zip(truth.centre_rays, truth.pixels)]
    yield Row("one exact ray through each LED pixel's middle", float(np.mean(middle)), "dB")


def sizes_of_the_place() -> Iterable[Row]:
    """size on disk against fidelity and rays per second, for the demo's place and wall: baked anew"""
    show = load_show(DEMO)
    spec = show.places[show.start]
    view = WallView(show.stage, spec.field_from_stage)
    field = NerfactoField(read_run(DOOR))
    context = create_context()
    options = making.Options()
    grown = grown_for(context, field, view, options)
    truth = verify.held_out(field, view, **HELD_OUT, progress=lambda stage, share: None)
    reached = None
    for megabytes in TABLE_MB:
        sized = msgspec.structs.replace(options, size_bytes=megabytes * MEGABYTE)
        scene, _ = making.fit(field, grown, view, sized, making.Origin(), lambda stage, share: None)
        with context:
            viewer = RayViewer(context, scene)
            found = verify.fidelity(truth, viewer.see)
            viewer.release()
        size = bricks.packed_bytes(scene) / MEGABYTE
        speed = rays_per_s(scene)
        yield Row(f"{megabytes} MB budget ({size:.1f} MB, {len(scene.bricks):,} bricks): mean", found.mean_db, "dB")
        yield Row(f"{megabytes} MB budget: worst eye", found.worst_db, "dB")
        yield Row(f"{megabytes} MB budget: speed", speed, "rays/s")
        if found.mean_db >= 40 and reached is None:
            reached = size
    yield Row("40 dB mean is reached at", reached or f"more than {TABLE_MB[-1]}", "MB")
    context.release()


def rays_per_s(scene: bricks.Bricks) -> float:
    """Whole frames of the demo's wall with another scene in place of its own."""
    show = load_show(DEMO)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scene.safetensors"
        bricks.save(file, scene)
        places = {name: msgspec.structs.replace(spec, file=file) for name, spec in show.places.items()}
        renderer = open_renderer(msgspec.structs.replace(show, places=places))
    best = float("inf")
    for turn in range(4):
        started = time.perf_counter()
        for eye_m in EYES_M:
            renderer.render(request(show, eye_m))
        best = min(best, time.perf_counter() - started) if turn else best
    renderer.context.release()
    pixels = sum(width * height for width, height in (tile.resolution_px for tile in show.stage.tiles))
    return pixels * len(EYES_M) / best


def held_out_photograph() -> Iterable[Row]:
    """what a bake loses against a photograph that the checkpoint never saw, seen from around where it was taken"""
    run = read_run(DOOR)
    field = NerfactoField(run)
    frame = json.loads((PHOTOGRAPH / "transforms.json").read_text())["frames"][0]
    photograph = np.asarray(Image.open(PHOTOGRAPH / frame["file_path"])).reshape(-1, 3) / 255
    to_model = run.model_from_world.matrix()
    camera = np.array(frame["transform_matrix"])
    rotation = run.model_from_world.pose.matrix()[:3, :3] @ camera[:3, :3]
    centre = to_model[:3, :3] @ camera[:3, 3] + to_model[:3, 3]
    directions = photograph_directions(frame) @ rotation.T
    origins = np.broadcast_to(centre, directions.shape)
    pixel_rad = 1 / frame["fl_x"]
    checkpoint = nerfstudio_render(field, tensor(origins), tensor(directions))["rgb"].numpy()
    tangents = (frame["w"] / 2 / frame["fl_x"] * 1.05, frame["h"] / 2 / frame["fl_y"] * 1.05)
    view = PhotographView(centre, PHOTOGRAPH_ZONE, rotation, tangents, pixel_rad)
    context = create_context()
    options = making.Options(size_bytes=PHOTOGRAPH_MB * MEGABYTE, finest=0.5)
    grown = grown_for(context, field, view, options)
    scene, _ = making.fit(field, grown, view, options, making.Origin(), lambda stage, share: None)
    baked = RayViewer(context, scene).see(origins, directions, np.full(len(directions), pixel_rad / 2))
    context.release()
    own, ours = psnr_db(checkpoint, photograph), psnr_db(baked, photograph)
    yield Row("checkpoint through nerfstudio's sampler, held-out photograph", own, "dB")
    yield Row(f"bake for its pixels, {PHOTOGRAPH_MB} MB, held-out photograph", ours, "dB")
    yield Row("lost against the photograph by baking", own - ours, "dB", ("≤", 0.3))


def photograph_directions(frame: dict) -> np.ndarray:
    """Unit directions (h·w, 3) in the camera's OpenGL axes through pixel centres; k1 of OpenCV's model undone by iteration."""
    u, v = np.meshgrid(np.arange(frame["w"]) + 0.5, np.arange(frame["h"]) + 0.5)
    distorted = np.stack([(u - frame["cx"]) / frame["fl_x"], (v - frame["cy"]) / frame["fl_y"]], -1).reshape(-1, 2)
    straight = distorted.copy()
    for _ in range(20):
        straight = distorted / (1 + frame.get("k1", 0.0) * (straight**2).sum(-1, keepdims=True))
    seen = np.stack([straight[:, 0], -straight[:, 1], -np.ones(len(straight))], -1)
    return seen / np.linalg.norm(seen, axis=-1, keepdims=True)


MEASUREMENTS = (shipped_place, sizes_of_the_place, held_out_photograph)
