"""Baked scenes on disk and in memory: what is saved comes back, what is damaged is refused, the octree is what it says."""

import json
import struct

import msgspec
import numpy as np
import pytest
import zstandard
from safetensors.numpy import save_file
from scenes import plane_scene, random_scene

from ledvolume.errors import SceneError
from ledvolume.scenes import bricks, octree
from ledvolume.scenes.bricks import EMPTY, GRID


@pytest.mark.parametrize("shape", [(1, 9, 9, 9, 4), (7, 3, 5, 5, 5, 3), (0, 9, 9, 9, 4), (3, 1, 2)], ids=str)
def test_pack_and_unpack_are_inverse(shape):
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert (bricks.unpack(bricks.pack(array), shape) == array).all()


def test_packing_does_not_change_what_is_packed():
    array = np.random.default_rng(1).integers(0, 256, (2, 9, 9, 9, 4), dtype=np.uint8)
    before = array.copy()
    bricks.pack(array)
    assert (array == before).all()


def test_a_smooth_brick_packs_to_little():
    """A ramp has the same difference everywhere: 1000 bricks of 2916 bytes become a few kilobytes."""
    ramp = np.broadcast_to((np.arange(9) * 20)[:, None], (1000, 9, 9, 9, 4)).astype(np.uint8)
    assert bricks.pack(ramp).nbytes < 5000


def test_a_scene_can_be_read_by_whoever_may_read_other_files(tmp_path):
    bricks.save(tmp_path / "s.safetensors", plane_scene(depth=0))
    (tmp_path / "other").touch()
    assert (tmp_path / "s.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("has_gradients", [False, True], ids=["degree 0", "degree 1"])
def test_a_scene_comes_back_as_it_was_saved(tmp_path, has_gradients):
    scene = random_scene(has_gradients=has_gradients, occupancy=0.002)
    size = bricks.save(tmp_path / "s.safetensors", scene)
    assert size == (tmp_path / "s.safetensors").stat().st_size
    found = bricks.load(tmp_path / "s.safetensors")
    assert found.header == scene.header and found.has_gradients == has_gradients
    for name in ("nodes", "bricks", "gradients", "far"):
        assert getattr(found, name).dtype == getattr(scene, name).dtype
        assert np.array_equal(getattr(found, name), getattr(scene, name))


def test_saving_leaves_no_half_file(tmp_path):
    bricks.save(tmp_path / "s.safetensors", plane_scene(depth=0))
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_the_size_of_a_scene_is_known_before_it_is_saved(tmp_path):
    scene = random_scene(occupancy=0.002)
    assert bricks.save(tmp_path / "s.safetensors", scene) == pytest.approx(bricks.packed_bytes(scene), abs=4096)


SMALL = random_scene(has_gradients=False, cascades=1, occupancy=0.001)
TOP = GRID**3


def with_nodes(values: dict[int, tuple[int, int]]) -> bricks.Bricks:
    nodes = SMALL.nodes.copy()
    for index, value in values.items():
        nodes[index] = value
    return msgspec.structs.replace(SMALL, nodes=nodes)


def with_splits(times: int) -> bricks.Bricks:
    """The first cell is split, its first child again, and so on; all else is empty."""
    nodes = np.zeros((TOP + 8 * times, 2), np.uint32)
    nodes[1:TOP, 0] = EMPTY
    nodes[0, 1] = TOP
    nodes[TOP:-8:8, 1] = TOP + 8 * np.arange(1, times)
    return msgspec.structs.replace(SMALL, nodes=nodes)


def with_header(**changes) -> bricks.Bricks:
    return msgspec.structs.replace(SMALL, header=msgspec.structs.replace(SMALL.header, **changes))


DAMAGED_SCENES = {
    "a brick that is not stored": (with_nodes({5: (len(SMALL.bricks) + 1, 0)}), "brick 501 named, 500 stored"),
    "children beyond the end": (with_nodes({5: (0, len(SMALL.nodes) - 7)}), "node .* named, .* stored"),
    "a node that is its own child": (with_nodes({TOP + 3: (0, TOP)}), "their own children"),
    "two nodes that are each other's children": (with_nodes({TOP + 9: (0, TOP), TOP + 3: (0, TOP + 8)}), "their own children"),
    "children among the top cells": (with_nodes({5: (0, 100)}), "among the top cells"),
    "a cell that is split nine times": (with_splits(9), "split more than 8 times"),
    "a skip below the top": (with_nodes({TOP + 1: (EMPTY | 3, 0)}), "skip"),
    "a skip over the edge of all tables": (with_nodes({5: (0xFFFF_FFFF, 0)}), "skip"),
    "fewer nodes than the cascades have": (
        msgspec.structs.replace(SMALL, nodes=SMALL.nodes[: TOP - 1]),
        "262143 nodes, expected",
    ),
    "more cascades than nodes": (with_header(cascades=2), "expected at least 524288 for 2 cascades"),
    "no cascades": (with_header(cascades=0), "cascades"),
    "a million cascades": (with_header(cascades=1_000_000), "cascades"),
    "no extent": (with_header(half_size=0.0), "half_size"),
    "a negative extent": (with_header(half_size=-1.0), "half_size"),
    "gradients for other bricks": (
        msgspec.structs.replace(SMALL, gradients=np.zeros((3, 3, 5, 5, 5, 3), np.uint8)),
        "expected 562500",
    ),
    "a far map that is no map": (msgspec.structs.replace(SMALL, far=np.zeros((8, 16), np.float16)), "far"),
    "a far map of whole numbers": (msgspec.structs.replace(SMALL, far=np.zeros((8, 16, 3), np.uint8)), "far"),
    "a far map with holes": (msgspec.structs.replace(SMALL, far=np.full((8, 16, 3), np.nan, np.float16)), "far"),
}


@pytest.mark.parametrize("damage", DAMAGED_SCENES)
def test_a_scene_that_would_lead_the_renderer_astray_is_refused(tmp_path, damage):
    scene, words = DAMAGED_SCENES[damage]
    bricks.save(tmp_path / "bad.safetensors", scene)
    with pytest.raises(SceneError, match=words) as raised:
        bricks.load(tmp_path / "bad.safetensors")
    assert "bad.safetensors" in str(raised.value)


@pytest.fixture(scope="module")
def file_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "s.safetensors"
    bricks.save(path, SMALL)
    return path.read_bytes()


def tensors_and_metadata(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What is in a file, read by hand: eight bytes of length, JSON, bytes (the safetensors format)."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body = data[8 + length :]
    dtypes = {"U8": np.uint8, "F16": np.float16}
    tensors = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], dtypes[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }
    return tensors, metadata


def changed(edit):
    """A damage that edits (tensors, metadata) and writes a sound safetensors file again."""

    def damage(data: bytes, path) -> None:
        tensors, metadata = tensors_and_metadata(data)
        edit(tensors, metadata)
        save_file(tensors, path, metadata)

    return damage


def edit_header(**changes):
    def edit(tensors, metadata):
        metadata["ledvolume"] = json.dumps(json.loads(metadata["ledvolume"]) | changes)

    return changed(edit)


def put(name: str, value: str):
    return changed(lambda tensors, metadata: metadata.__setitem__(name, value))


def compressed(data: bytes) -> np.ndarray:
    return np.frombuffer(zstandard.ZstdCompressor().compress(data), np.uint8)


DAMAGED_FILES = {
    "empty": lambda data, path: path.write_bytes(b""),
    "cut in its header": lambda data, path: path.write_bytes(data[:100]),
    "cut in its tensors": lambda data, path: path.write_bytes(data[:-1000]),
    "not safetensors": lambda data, path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000)),
    "a header longer than the file": lambda data, path: path.write_bytes(b"\xff" * 7 + b"\x7f" + data[8:]),
    "a directory": lambda data, path: path.mkdir(),
    "nothing there": lambda data, path: None,
    "another program's": lambda data, path: save_file({"x": np.zeros(3)}, path),
    "a later version": edit_header(version=99),
    "no version": put("ledvolume", "{}"),
    "a header that is a list": put("ledvolume", "[]"),
    "a header that is no JSON": put("ledvolume", "{"),
    "an unknown key": edit_header(colour="blue"),
    "a word for a number": edit_header(half_size="large"),
    "a key missing": changed(lambda t, m: m.__setitem__("ledvolume", json.dumps({"version": bricks.VERSION, "half_size": 1.0}))),
    "counts that are a list": put("counts", "[]"),
    "counts that are words": put("counts", '{"nodes": "many", "bricks": 1}'),
    "no counts": changed(lambda t, m: m.pop("counts")),
    "negative counts": put("counts", '{"nodes": -1, "bricks": -1}'),
    "counts of another scene": put("counts", json.dumps({"nodes": TOP, "bricks": 500})),
    "huge counts": put("counts", '{"nodes": 1000000000000, "bricks": 1000000000000}'),
    "no bricks": changed(lambda t, m: t.pop("bricks")),
    "bricks not compressed": changed(lambda t, m: t.update(bricks=np.zeros(999, np.uint8))),
    "too few bricks": changed(lambda t, m: t.update(bricks=compressed(bytes(2916 * 499)))),
    "bricks that unpack to far too much": changed(lambda t, m: t.update(bricks=compressed(bytes(2**27)))),
    "nodes that unpack to far too much": changed(lambda t, m: t.update(nodes=compressed(bytes(2**27)))),
    "a byte turned in the bricks": changed(
        lambda t, m: t.update(bricks=np.concatenate([t["bricks"][:6], ~t["bricks"][6:90], t["bricks"][90:]]))
    ),
    "no far map": changed(lambda t, m: t.pop("far")),
}


@pytest.mark.parametrize("damage", DAMAGED_FILES)
def test_a_damaged_file_is_one_clear_error(tmp_path, file_bytes, damage):
    path = tmp_path / "scene.safetensors"
    DAMAGED_FILES[damage](file_bytes, path)
    with pytest.raises(SceneError, match="scene.safetensors: "):
        bricks.load(path)


def test_the_undamaged_file_of_these_tests_is_read(tmp_path, file_bytes):
    changed(lambda tensors, metadata: None)(file_bytes, tmp_path / "s.safetensors")
    assert np.array_equal(bricks.load(tmp_path / "s.safetensors").nodes, SMALL.nodes)


def test_skip_distances_are_those_of_brute_force():
    rng = np.random.default_rng(2)
    for share in (0.002, 0.03):
        occupied, blocked = rng.random((12, 13, 14)) < share, np.zeros((12, 13, 14), bool)
        blocked[4:7, 5:8, 6:9] = True
        solid = np.argwhere(occupied | blocked)
        cells = np.argwhere(np.ones_like(occupied))
        nearest = np.abs(cells[:, None] - solid[None]).max(-1).min(-1).reshape(occupied.shape)
        wanted = np.maximum(nearest - 1, 0)  # what lies nearer is empty; a solid cell itself has none
        assert (bricks.skip_distances(occupied, blocked) == wanted).all()


def test_nothing_far_and_wide_is_skipped_as_far_as_the_limit():
    nothing = np.zeros((8, 8, 8), bool)
    assert (bricks.skip_distances(nothing, nothing, most=5) == 5).all()


HALF_SIZE, CASCADES = 0.7, 3


def random_leaves(seed: int = 3) -> np.ndarray:
    """Leaves of depths 0..4 of which none lies in another: cells split at random."""
    rng = np.random.default_rng(seed)
    cascade, depth = np.arange(CASCADES).repeat(40), np.zeros(CASCADES * 40, int)
    place = rng.integers(0, GRID, (CASCADES * 40, 3))
    keys = np.unique(octree.pack_keys(cascade, depth, place))
    leaves = []
    for _ in range(4):
        is_split = rng.random(len(keys)) < 0.5
        leaves.append(keys[~is_split])
        c, d, p = octree.unpack_keys(keys[is_split])
        eight = (p[:, None] * 2 + np.array(list(np.ndindex(2, 2, 2)))).reshape(-1, 3)
        keys = octree.pack_keys(c.repeat(8), d.repeat(8) + 1, eight)
        keys = keys[rng.random(len(keys)) < 0.6]
    return np.sort(np.concatenate([*leaves, keys]))


def brick_at(nodes: np.ndarray, point: np.ndarray) -> int:
    """Walks the table down to the finest brick at a point, by the rules in scenes/bricks.py; -1: none."""
    cascade, half_cube = 0, HALF_SIZE
    while np.abs(point).max() >= half_cube:
        cascade, half_cube = cascade + 1, half_cube * 2
    side = 2 * half_cube / GRID
    x, y, z = np.floor((point + half_cube) / side).astype(int)
    low = np.array([x, y, z]) * side - half_cube
    first, child = (int(word) for word in nodes[((cascade * GRID + z) * GRID + y) * GRID + x])
    if first >= EMPTY:
        return -1
    while child:
        side /= 2
        upper = point >= low + side
        low = low + upper * side
        first, child = (int(word) for word in nodes[child + upper[0] + 2 * upper[1] + 4 * upper[2]])
    return first - 1


def test_a_point_is_in_the_brick_of_the_leaf_that_holds_it():
    leaves = random_leaves()
    nodes = octree.node_table(leaves, CASCADES)
    low, side = octree.cell_boxes(leaves, HALF_SIZE)
    rng = np.random.default_rng(4)
    inside = low[:, None] + rng.uniform(0.01, 0.99, (len(leaves), 3, 3)) * side[:, None, None]
    # Cells of an outer cascade that lie in an inner one are never looked up.
    half_cube = HALF_SIZE * 2.0 ** octree.unpack_keys(leaves)[0]
    reached = (np.abs(inside).max(-1) >= half_cube[:, None] / 2) | (half_cube[:, None] == HALF_SIZE)
    assert reached.mean() > 0.8
    for number, points in enumerate(inside):
        for point in points[reached[number]]:
            assert brick_at(nodes, point) == number
    for point in rng.uniform(-1, 1, (1000, 3)) * HALF_SIZE * 4:
        half_cube = HALF_SIZE * 2.0 ** max(0, int(np.floor(np.log2(np.abs(point).max() / HALF_SIZE))) + 1)
        holds = ((point >= low) & (point < low + side[:, None])).all(-1)
        own = holds & (half_cube == HALF_SIZE * 2.0 ** octree.unpack_keys(leaves)[0])
        assert brick_at(nodes, point) == (np.flatnonzero(own)[0] if own.any() else -1)


def test_leaves_of_a_table_are_those_it_was_made_of():
    leaves = random_leaves()
    keys, numbers = octree.leaves_of(octree.node_table(leaves, CASCADES), CASCADES)
    order = np.argsort(keys)
    assert (keys[order] == leaves).all() and (numbers[order] == np.arange(len(leaves))).all()


def test_empty_cells_of_a_table_may_be_skipped():
    leaves = random_leaves()
    words = octree.node_table(leaves, CASCADES)[: CASCADES * TOP, 0].reshape(CASCADES, GRID, GRID, GRID)
    child = octree.node_table(leaves, CASCADES)[: CASCADES * TOP, 1].reshape(words.shape)
    for cascade in range(CASCADES):
        solid = (words[cascade] < EMPTY) | (child[cascade] > 0)
        if cascade:
            solid[GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4] = True  # there the inner one rules
        at = np.argwhere(solid)
        for z, y, x in np.random.default_rng(cascade).integers(0, GRID, (300, 3)):
            if not solid[z, y, x]:
                nearest = np.abs(at - (z, y, x)).max(-1).min()
                assert words[cascade, z, y, x] - EMPTY == nearest - 1


def test_a_table_without_leaves_is_empty():
    nodes = octree.node_table(np.zeros(0, np.int64), 1)
    assert len(nodes) == TOP and (nodes[:, 0] == EMPTY + 63).all() and (nodes[:, 1] == 0).all()


def test_a_cell_may_be_split_eight_times():
    bricks.check(with_splits(8), "made")


def test_every_table_of_the_octree_passes_the_check():
    leaves = random_leaves()
    scene = msgspec.structs.replace(
        SMALL,
        header=msgspec.structs.replace(SMALL.header, cascades=CASCADES),
        nodes=octree.node_table(leaves, CASCADES),
        bricks=np.zeros((len(leaves), 9, 9, 9, 4), np.uint8),
    )
    bricks.check(scene, "made")


def test_keys_hold_their_parts():
    rng = np.random.default_rng(5)
    depth = rng.integers(0, octree.MOST_DEPTH + 1, 500)
    cascade, place = rng.integers(0, 8, 500), rng.integers(0, GRID << octree.MOST_DEPTH, (500, 3))
    found = octree.unpack_keys(octree.pack_keys(cascade, depth, place))
    for part, wanted in zip(found, (cascade, depth, place)):
        assert (part == wanted).all()


def test_parents_hold_their_children():
    leaves = random_leaves()
    leaves = leaves[octree.unpack_keys(leaves)[1] > 0]
    (low, side), (parent_low, parent_side) = (octree.cell_boxes(k, HALF_SIZE) for k in (leaves, octree.parents(leaves)))
    assert parent_side == pytest.approx(2 * side)
    assert (parent_low <= low + 1e-12).all()
    assert (parent_low + parent_side[:, None] >= low + side[:, None] - 1e-12).all()


def test_points_are_in_the_cells_that_are_found_for_them():
    rng = np.random.default_rng(6)
    points = rng.normal(size=(2000, 3)) * 0.5
    depths = rng.integers(0, 5, 2000)
    low, side = octree.cell_boxes(octree.cells_of(points, depths, HALF_SIZE, 9), HALF_SIZE)
    assert ((points >= low - 1e-9) & (points <= low + side[:, None] + 1e-9)).all()
    cascade, depth, _ = octree.unpack_keys(octree.cells_of(points, depths, HALF_SIZE, 9))
    assert (depth == depths).all()
    reach = np.abs(points).max(-1)
    assert (reach < HALF_SIZE * 2.0**cascade).all() and ((cascade == 0) | (reach >= HALF_SIZE * 2.0 ** (cascade - 1))).all()


def test_points_beyond_the_last_cascade_have_no_cell():
    points = np.array([[0.1, 0.2, 0.3], [1.39, 0, 0], [1.41, 0, 0], [0, 0, -5.0]])  # two cascades end at 1.4
    assert len(octree.cells_of(points, np.zeros(4, int), HALF_SIZE, 2)) == 2


def test_a_depth_is_the_coarsest_whose_voxel_is_small_enough():
    # at 0.5 in the first cascade, half size 0.7: a voxel of depth 0 is 1.4 / 64 / 8 = 0.002734; at 1.0, twice that
    points = np.array([[0.5, 0, 0]] * 4 + [[1.0, 0, 0]])
    voxels = np.array([0.01, 0.002735, 0.002733, 0.0005, 0.002733])
    assert octree.depth_for(points, voxels, HALF_SIZE, CASCADES).tolist() == [0, 0, 1, 3, 2]
