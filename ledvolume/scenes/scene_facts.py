"""What is to know of a baked scene without looking at it: where it is from, how large, how fine, for which eyes."""

from pathlib import Path

import msgspec
import numpy as np

from ledvolume.scenes import octree
from ledvolume.scenes.bricks import COARSE_CORNERS, CORNERS, GRID, VOXELS, Bricks


class Voxels(msgspec.Struct, frozen=True):
    """How many bricks have voxels of a size (field units). pixels: that size over the footprint's diameter where they lie."""

    size: float
    bricks: int
    pixels: float


class SceneFacts(msgspec.Struct, frozen=True):
    """Lengths in field units. far_px: width and height of what lies behind everything. reach: half side of the outermost cube.

    gpu_bytes: what a server's GPU holds of it: with mips, as textures are padded. pixel_deg: angle of an LED pixel that it was
    baked for.
    """

    file: str
    bytes: int
    sha256: str
    source: str
    source_sha256: str
    credit: str
    zone_min: tuple[float, float, float]
    zone_max: tuple[float, float, float]
    pixel_deg: float
    cascades: int
    reach: float
    bricks: int
    mips: int
    voxels: list[Voxels]
    has_gradients: bool
    log_density_range: tuple[float, float]
    far_px: tuple[int, int]
    gpu_bytes: int


def facts_of(path: Path, scene: Bricks, sha256: str) -> SceneFacts:
    """The facts of a scene that was read from a file with that digest."""
    header = scene.header
    mips = int(np.sum((scene.nodes[:, 1] > 0) & (scene.nodes[:, 0] == 0)))
    padded = _bricks_in_texture(len(scene.bricks) + mips)
    gpu_bytes = padded * CORNERS**3 * 4 + scene.nodes.nbytes + header.cascades * GRID**3 + 4 * scene.far.size
    if scene.has_gradients:
        gpu_bytes += padded * 3 * COARSE_CORNERS**3 * 4
    return SceneFacts(
        file=str(path),
        bytes=path.stat().st_size,
        sha256=sha256,
        source=header.source,
        source_sha256=header.source_sha256,
        credit=header.credit,
        zone_min=header.zone_min,
        zone_max=header.zone_max,
        pixel_deg=float(np.degrees(header.pixel_rad)),
        cascades=header.cascades,
        reach=header.half_size * 2.0 ** (header.cascades - 1),
        bricks=len(scene.bricks),
        mips=mips,
        voxels=voxel_sizes(scene),
        has_gradients=scene.has_gradients,
        log_density_range=header.log_density_range,
        far_px=(scene.far.shape[1], scene.far.shape[0]),
        gpu_bytes=int(gpu_bytes),
    )


def voxel_sizes(scene: Bricks) -> list[Voxels]:
    """Bricks by the size of their voxels, fine to coarse."""
    keys, _ = octree.leaves_of(scene.nodes, scene.header.cascades)
    low, side = octree.cell_boxes(keys, scene.header.half_size)
    away = np.linalg.norm(low + side[:, None] / 2, axis=-1)
    voxel = side / VOXELS
    sizes = []
    for size in np.unique(voxel):
        of = voxel == size
        footprint = float(np.median(away[of])) * scene.header.pixel_rad
        sizes.append(Voxels(float(size), int(of.sum()), float(size / footprint) if footprint > 0 else 0.0))
    return sizes


def _bricks_in_texture(count: int) -> int:
    """How many places the texture of so many bricks has: render/brick_field.py lays them side by side, near a cube."""
    across = max(1, int(np.ceil(count ** (1 / 3))))
    return across * across * max(1, -(-count // (across * across)))
