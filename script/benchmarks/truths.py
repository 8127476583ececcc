"""What must be exact, as numbers: the shader against its slow twin, rays against Kooima's projection, and equal bytes.

The scenes, walls and independent formulas are those of the tests; here they are run on more cases and told as figures.
"""

import sys
from collections.abc import Iterable

import numpy as np

from ledvolume.render import reference
from ledvolume.render.context import compute_shader, create_context
from ledvolume.render.rays import RayViewer
from ledvolume.render.renderer import Renderer, column_major, tile_words
from ledvolume.stage import cut
from measure import ROOT, Row

sys.path.insert(0, str(ROOT / "tests"))
import scenes
import test_geometry as geometry
import test_render as walls


def shader_and_twin() -> Iterable[Row]:
    """the march's shader against reference.py on 10⁴ random rays of random bricks, of degree 0 and 1"""
    worst, hit = 0.0, 0.0
    context = create_context()
    for has_gradients in (False, True):
        scene = scenes.random_scene(3, has_gradients)
        origins, directions, spreads = scenes.random_rays(10_000, seed=11)
        viewer = RayViewer(context, scene)
        found = viewer.see(origins + viewer.centre, directions, spreads)
        colours, depths = reference.march(scene, origins, directions, spreads)
        worst = max(worst, float(np.abs(found - colours).max()))
        hit = float((depths > 0).mean())
        viewer.release()
    context.release()
    yield Row("shader against twin, 2 × 10⁴ random rays, largest difference", worst, "", ("≤", 1e-3))
    yield Row("share of those rays that met something", hit, "", ("≥", 0.5))


def rays_and_kooima() -> Iterable[Row]:
    """every LED pixel's ray, in numpy and in the wall's shader, against Kooima's off-axis projection: 7 walls and eyes each"""
    context = create_context()
    program = compute_shader(context, ("tiles", "footprint"), {}, geometry.MAIN)
    program["camera_from_stage"] = column_major(np.eye(3))
    in_numpy = in_shader = 0.0
    for surface in geometry.FLAT:
        tile = cut(surface, 1, 1)[0]
        columns, rows = geometry.centres_of(tile)
        ndc = geometry.device_coordinates(surface, columns, rows)
        for eye in geometry.EYES:
            matrix = geometry.projection_of(surface, eye)
            found = geometry.projected(matrix, geometry.surface_points(surface, columns, rows))
            in_numpy = max(in_numpy, float(np.abs(found - ndc).max()))
            clip = np.concatenate([ndc, np.full((len(ndc), 1), -1.0), np.ones((len(ndc), 1))], -1)
            points = clip @ np.linalg.inv(matrix).T
            toward = points[:, :3] / points[:, 3:] - np.array(eye)
            toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
            tiles, seen = context.buffer(tile_words(tile, 0)), context.buffer(reserve=32 * len(ndc))
            program["eye_m"], program["pixel_count"] = eye, len(ndc)
            tiles.bind_to_storage_buffer(0)
            seen.bind_to_storage_buffer(3)
            program.run(-(-len(ndc) // 64))
            context.finish()
            directions = np.frombuffer(seen.read(), "<f4").reshape(-1, 8)[:, 4:7]
            in_shader = max(in_shader, float(np.linalg.norm(directions - toward, axis=-1).max()))
    context.release()
    yield Row("LED pixels in Kooima's projection, numpy, off by", in_numpy, "of half the wall", ("≤", 1e-6))
    yield Row("directions of the shader's rays against Kooima's, off by", in_shader, "rad", ("≤", 1e-6))


def equal_bytes() -> Iterable[Row]:
    """one request rendered twice, after other requests, and the same wall cut into other tiles: bytes that differ"""
    context = create_context()
    request = walls.request_of(outer_steps=40)
    stage = walls.stage_of(2, 1)
    renderer = walls.renderer_of(context, stage)
    first = walls.assembled(stage, renderer.render(request).images)
    again = walls.assembled(stage, renderer.render(request).images)
    renderer.render(walls.request_of(camera=walls.OTHER_CAMERA, outer_steps=90))
    later = walls.assembled(stage, renderer.render(request).images)
    yield Row("bytes that differ between two runs of one request", int((first != again).sum()), "", ("=", 0))
    yield Row("bytes that differ after other requests in between", int((first != later).sum()), "", ("=", 0))
    different = 0
    for columns, rows in ((1, 1), (3, 4), (12, 2), (20, 48)):
        other = walls.stage_of(columns, rows)
        images = Renderer(context, other, {"plane": walls.PLACE}, walls.FOOTPRINT, "rgb16").render(request).images
        different += int((walls.assembled(other, images) != first).sum())
    context.release()
    yield Row("LED pixels that differ between five cuts into tiles", different, "", ("=", 0))


MEASUREMENTS = (shader_and_twin, rays_and_kooima, equal_bytes)
