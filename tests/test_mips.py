"""Coarser bricks over finer ones: what they must keep, and what they are good for."""

import msgspec
import numpy as np
import pytest
from scenes import plane_scene

from ledvolume.colour import psnr_db
from ledvolume.render import reference
from ledvolume.render.renderer import Quality
from ledvolume.scenes import bricks
from ledvolume.scenes.bricks import Bricks
from ledvolume.scenes.mips import with_mips
from ledvolume.scenes.octree import cell_boxes, leaves_of

VOXEL = 4.0 / bricks.GRID / 2 / bricks.VOXELS  # of plane_scene: second cascade, split once
DISTANCE = 1.6


def noisy_plane() -> Bricks:
    """A plane whose colour is another at every corner, the same in neighbouring bricks; its cells are split once."""
    scene = plane_scene(DISTANCE)
    keys, numbers = leaves_of(scene.nodes, scene.header.cascades)
    low, side = cell_boxes(keys, scene.header.half_size)
    corners = np.stack(np.meshgrid(*[np.arange(bricks.CORNERS)] * 3, indexing="ij")[::-1], -1) / bricks.VOXELS
    at = np.round((low[:, None, None, None] + corners * side[:, None, None, None, None]) / VOXEL).astype(np.int64)
    mixed = (at[..., 0] * 73856093 ^ at[..., 1] * 19349663 ^ at[..., 2] * 83492791) * 2654435761
    values = scene.bricks.copy()
    for channel in range(3):
        values[numbers, ..., channel] = mixed >> (8 + 5 * channel) & 255
    return msgspec.structs.replace(scene, bricks=values)


def look(scene: Bricks, across: int, pixel: float, quality: float) -> np.ndarray:
    """400 pixels of the plane, across² rays each, mean colour (400, 3)."""
    x, z = np.meshgrid(np.linspace(-0.25, 0.25, 20), np.linspace(-0.25, 0.25, 20))
    steps = (np.arange(across) + 0.5) / across - 0.5
    dx, dz = (s.ravel() * pixel for s in np.meshgrid(steps, steps))
    d = np.stack([x.reshape(-1, 1) + dx, np.ones((400, across**2)), z.reshape(-1, 1) + dz], -1).reshape(-1, 3)
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    spread = np.full(len(d), 0.0 if across > 1 else pixel / 2)
    colours, _ = reference.march(scene, np.zeros_like(d), d, spread, Quality(pixels_per_voxel=quality))
    return colours.reshape(400, -1, 3).mean(1)


def test_every_split_cell_gets_a_brick_and_nothing_else_changes():
    scene = noisy_plane()
    split = np.flatnonzero(scene.nodes[:, 1])
    assert len(split) and (scene.nodes[split, 0] == 0).all()
    mipped = with_mips(scene)
    bricks.check(mipped, "mips")
    assert (mipped.nodes[split, 0] > len(scene.bricks)).all()
    assert len(mipped.bricks) == len(scene.bricks) + len(split)
    others = np.setdiff1d(np.arange(len(scene.nodes)), split)
    assert (mipped.nodes[others] == scene.nodes[others]).all()
    assert (mipped.bricks[: len(scene.bricks)] == scene.bricks).all()


def test_a_fine_footprint_sees_the_same_with_and_without():
    scene = noisy_plane()
    without, with_them = (look(s, 1, 1e-4, 1.5) for s in (scene, with_mips(scene)))
    assert (without == with_them).all()


@pytest.mark.parametrize("voxels_wide", [3, 4])
def test_a_wide_footprint_comes_nearer_to_the_mean_of_its_rays(voxels_wide):
    scene = noisy_plane()
    pixel = voxels_wide * VOXEL / DISTANCE
    truth = look(scene, 6, pixel, 1.5)
    without, with_them = (psnr_db(look(s, 1, pixel, 1.5), truth) for s in (scene, with_mips(scene)))
    assert with_them > without + 3


def test_a_uniform_block_stays_what_it_is():
    """Constant density and colour: any average of them is the same; at the border it is thinner, not another colour."""
    scene = noisy_plane()
    uniform = np.broadcast_to(np.array([200, 100, 50, 180], np.uint8), scene.bricks.shape).copy()
    mipped = with_mips(msgspec.structs.replace(scene, bricks=uniform))
    made = mipped.bricks[len(uniform) :]
    solid = made[..., 3] > 0
    assert solid.mean() > 0.3
    assert np.abs(made[solid][:, :3].astype(int) - [200, 100, 50]).max() <= 1
    assert abs(int(made[..., 3].max()) - 180) <= 1 and (made[..., 3] >= 179).any((1, 2, 3)).all()
