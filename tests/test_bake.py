"""A real checkpoint baked for a coarse wall: what comes out is the field, within the budget, the same every time."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ledvolume.errors import SceneError
from ledvolume.pose import Pose, Similarity
from ledvolume.render.rays import RayViewer
from ledvolume.scenes import bake, bricks, octree, verify
from ledvolume.scenes.bake_view import WallView
from ledvolume.scenes.baking import grown_for
from ledvolume.scenes.checkpoint import read_run
from ledvolume.scenes.nerfstudio import NerfactoField
from ledvolume.stage import Arc, Box, Stage, Surface, cut, facing

DOOR = Path(__file__).parent.parent / "configs" / "places" / "lund-door"
# The demo's wall and zone with LED pixels of 25 mm: few voxels, the same code.
SURFACE = Surface("wall", facing(0.0, (0.0, 4.0, 1.9)), (3.36, 3.7), (136, 148), Arc(6.0))
STAGE = Stage(cut(SURFACE, 2, 2), (0.0, 0.0, 1.9), Box((-0.4, -0.3, 1.65), (0.4, 0.3, 2.15)), ())
FIELD_FROM_STAGE = Similarity(Pose(position_m=(0.06, 0.6, 0.1 - 1.9 / 3)), 1 / 3)
OPTIONS = bake.Options(size_bytes=9_000_000, rays=6000, seeing_rays=60_000, gradients=False)


def quiet(stage: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def field():
    return NerfactoField(read_run(DOOR))


@pytest.fixture(scope="module")
def view():
    return WallView(STAGE, FIELD_FROM_STAGE)


@pytest.fixture(scope="module")
def grown(context, field, view):
    return grown_for(context, field, view, OPTIONS)


@pytest.fixture(scope="module")
def truth(field, view):
    return verify.held_out(field, view, eyes=3, pixels=250, across=2, progress=quiet)


def fitted(field, grown, view, **changes):
    return bake.fit(field, grown, view, msgspec.structs.replace(OPTIONS, **changes), bake.Origin("test"), quiet)


def db_of(context, scene, truth) -> verify.Fidelity:
    viewer = RayViewer(context, scene)
    found = verify.fidelity(truth, viewer.see)
    viewer.release()
    return found


def test_the_bake_shows_the_exact_field_from_eyes_it_has_not_used(context, field, grown, view, truth):
    scene, counts = fitted(field, grown, view)
    bricks.check(scene, "bake")
    assert sum(counts) == len(scene.bricks) > 100
    found = db_of(context, scene, truth)
    assert found.mean_db > 30 and found.worst_db > 28


def test_more_bytes_show_more(context, field, grown, view, truth):
    sizes = [fitted(field, grown, view, size_bytes=size)[0] for size in (8_200_000, 12_000_000)]
    small, large = (db_of(context, scene, truth).mean_db for scene in sizes)
    assert large > small + 0.5


@pytest.mark.parametrize("size_bytes", [8_500_000, 11_000_000])
def test_the_file_is_within_its_budget(field, grown, view, tmp_path, size_bytes):
    scene, _ = fitted(field, grown, view, size_bytes=size_bytes)
    written = bricks.save(tmp_path / "scene.safetensors", scene)
    assert 0.7 * size_bytes < written <= size_bytes
    assert np.array_equal(bricks.load(tmp_path / "scene.safetensors").bricks, scene.bricks)


def test_a_budget_that_cannot_be_met_is_refused(field, grown, view):
    with pytest.raises(SceneError, match="too little: what the zone sees takes"):
        fitted(field, grown, view, size_bytes=20_000)


def test_two_fits_of_the_same_are_the_same_bytes(field, grown, view):
    one, other = (fitted(field, grown, view)[0] for _ in range(2))
    assert one.bricks.tobytes() == other.bricks.tobytes() and one.nodes.tobytes() == other.nodes.tobytes()


def test_gradients_bring_colour_nearer_to_what_a_turned_ray_sees(context, field, grown, view, truth):
    flat, _ = fitted(field, grown, view, size_bytes=9_000_000)
    turned = bake.shaded(field, flat, grown, view)
    bricks.check(turned, "shaded")
    assert turned.has_gradients and not flat.has_gradients
    assert db_of(context, turned, truth).mean_db > db_of(context, flat, truth).mean_db - 0.05


def test_leaves_are_read_back_from_the_table_they_were_written_to(field, grown, view):
    scene, _ = fitted(field, grown, view)
    keys, numbers = octree.leaves_of(scene.nodes, scene.header.cascades)
    assert sorted(numbers) == list(range(len(scene.bricks)))
    again = octree.node_table(keys[np.argsort(numbers)], scene.header.cascades)
    assert np.array_equal(again, scene.nodes)


def test_what_no_light_reaches_is_not_kept_and_nothing_else_changes():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 255, (3, 9, 9, 9, 4), dtype=np.uint8)
    passed, lit = np.zeros((3, 8, 8, 8), bool), np.zeros((3, 8, 8, 8), bool)
    passed[0, 2:5, 2:5, 2:5] = lit[0, 3, 3, 3] = True
    passed[1] = True  # passed, but gives no light: dropped
    lit[2], passed[2] = True, True
    level = bake.keep_seen(bake.Level(np.arange(3), values.copy(), np.zeros(3), np.arange(3.0)), passed, lit)
    assert list(level.keys) == [0, 2] and list(level.error) == [0.0, 2.0]
    assert np.array_equal(level.values[1], values[2])
    assert np.array_equal(level.values[0, 2:6, 2:6, 2:6, 3], values[0, 2:6, 2:6, 2:6, 3])
    assert np.array_equal(level.values[0, 3:5, 3:5, 3:5, :3], values[0, 3:5, 3:5, 3:5, :3])


def test_unknown_directions_are_filled_from_their_neighbours_and_known_ones_stay():
    picture, known = np.zeros((8, 16, 3)), np.zeros((8, 16), bool)
    picture[3:5, 6:9], known[3:5, 6:9] = (0.2, 0.5, 0.8), True
    filled = bake.spread_calmly(picture, known)
    assert np.allclose(filled, (0.2, 0.5, 0.8))
