"""A baked place: sparse bricks of 8-bit log-density and colour, refined where the wall can see it. Scene kind `bricks`.

Space is a set of nested cubes (cascades) around the zone: cascade c has half-size `half_size · 2^c` and GRID³ cells, so
rays stay straight (nerfacto's contraction would bend them). A cell is empty, or has a brick, and may be split into eight
half-size cells, again and again; a brick is 8³ voxels, stored as 9³ corner values so that neighbours need no lookup.

    nodes      (n, 2) uint32   [brick + 1 or 0, first of eight children or 0]; the first cascades·GRID³ are the cells of the
                               cascades (c, z, y, x). Empty top cells hold EMPTY | distance in the first word: all cells
                               nearer than this Chebyshev distance are empty too.
    bricks     (b, 9, 9, 9, 4) uint8, axes z y x; r, g, b: colour along the direction from the zone's centre, display-encoded
                               in the checkpoint's own space; a: log density over `log_density_range`
    gradients  (b, 3, 5, 5, 5, 3) uint8, colour's change with the ray's direction (x, y, z of direction - mean direction),
                               (v / 255 · 2 - 1) · gradient_range; on every second corner. Together with `bricks` this is
                               spherical harmonics of degree 1, fitted over the zone. Absent in scenes of degree 0.
    far        (h, 2h, 3) float16, what lies beyond the last cascade, by direction (equirectangular, row 0 = +Z)

On disk: one safetensors file whose byte tensors are filtered and zstd-compressed (`pack`); no code is ever executed.
GLSL twin: render/shaders/field_bricks.glsl. numpy twin: render/reference.py.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import zstandard
from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as container

from ledvolume.errors import SceneError

GRID = 64
VOXELS = 8
CORNERS = VOXELS + 1
COARSE_CORNERS = VOXELS // 2 + 1
MOST_DEPTH = 8  # how often a cell may be split
EMPTY = 0x8000_0000
VERSION = 1


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """centre, half_size, zone: field units. zone: box of eyes the bake was made and verified for."""

    version: int
    centre: tuple[float, float, float]
    half_size: Annotated[float, Meta(gt=0)]
    cascades: Annotated[int, Meta(ge=1, le=16)]
    log_density_range: tuple[float, float]
    gradient_range: float
    zone_min: tuple[float, float, float]
    zone_max: tuple[float, float, float]
    pixel_rad: float
    source: str
    source_sha256: str
    credit: str = ""


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many of each a file holds."""

    nodes: Annotated[int, Meta(ge=0)]
    bricks: Annotated[int, Meta(ge=0)]


class Bricks(msgspec.Struct, frozen=True):
    """A loaded scene; arrays as in the module's docstring. `gradients` has length 0 for degree 0."""

    header: Header
    nodes: np.ndarray
    bricks: np.ndarray
    gradients: np.ndarray
    far: np.ndarray

    @property
    def has_gradients(self) -> bool:
        return len(self.gradients) > 0


COMPRESSION = 12  # 19 saves one percent more and takes ten times as long


def pack(array: np.ndarray, level: int = COMPRESSION) -> np.ndarray:
    """(b, ..., channels) uint8 → zstd bytes: one plane per channel, each byte minus its neighbour (mod 256) along x."""
    planes = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    planes[..., 1:] -= planes[..., :-1].copy()
    return np.frombuffer(zstandard.ZstdCompressor(level, threads=2).compress(planes.tobytes()), np.uint8)


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack`, for a known shape. Raises ValueError if the bytes do not make it."""
    planes = _decompressed(packed, int(np.prod(shape))).reshape(shape[-1], *shape[:-1])
    return np.moveaxis(np.cumsum(planes, axis=-1, dtype=np.uint8), 0, -1).copy()


def _decompressed(packed: np.ndarray, size: int) -> np.ndarray:
    """(size,) uint8. Nothing of another size is unpacked at all: a few bytes can say that they become terabytes."""
    found = zstandard.frame_content_size(packed.tobytes())
    if found != size:
        raise ValueError(f"a compressed tensor holds {found} bytes, expected {size}")
    return np.frombuffer(zstandard.ZstdDecompressor().decompress(packed.tobytes()), np.uint8)


def _tensors(scene: Bricks) -> dict[str, np.ndarray]:
    tensors = {
        "nodes": np.frombuffer(zstandard.ZstdCompressor(COMPRESSION).compress(scene.nodes.tobytes()), np.uint8),
        "bricks": pack(scene.bricks),
        "far": scene.far,
    }
    if scene.has_gradients:
        tensors["gradients"] = pack(scene.gradients)
    return tensors


def packed_bytes(scene: Bricks) -> int:
    """What the scene takes on disk, but for a header of about a kilobyte."""
    return sum(tensor.nbytes for tensor in _tensors(scene).values()) + 2048


def save(path: Path, scene: Bricks) -> int:
    """Write the scene; returns its size in bytes. The file appears only when it is complete."""
    tensors = _tensors(scene)
    counts = Counts(len(scene.nodes), len(scene.bricks))
    metadata = {"ledvolume": msgspec.json.encode(scene.header).decode(), "counts": msgspec.json.encode(counts).decode()}
    part = Path(f"{path}.part")
    part.write_bytes(container(tensors, metadata))  # not save_file: its files are for their owner alone
    part.replace(path)
    return path.stat().st_size


def load(path: Path) -> Bricks:
    """Read and check a scene file. Raises SceneError, saying what was found and what was expected."""
    if not path.is_file():
        raise SceneError(f"{path}: no such scene file. Its name in the show is relative to the show; `ledvolume bake` makes one")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if "ledvolume" not in metadata:
                raise SceneError(f"{path}: not a baked scene of ledvolume (make one with `ledvolume bake`)")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise SceneError(f"{path}: cannot be read as a scene: {error}") from error
    try:
        found = msgspec.json.decode(metadata["ledvolume"], type=dict)
        if found.get("version") != VERSION:
            raise SceneError(f"{path}: scene format {found.get('version')}, this ledvolume reads {VERSION}: bake it anew")
        header = msgspec.convert(found, Header)
        counts = msgspec.json.decode(metadata["counts"], type=Counts)
        nodes = _decompressed(tensors["nodes"], 8 * counts.nodes).view(np.uint32).reshape(counts.nodes, 2)
        bricks = unpack(tensors["bricks"], (counts.bricks, CORNERS, CORNERS, CORNERS, 4))
        gradients = np.zeros((0, 3, *[COARSE_CORNERS] * 3, 3), np.uint8)
        if "gradients" in tensors:
            gradients = unpack(tensors["gradients"], (counts.bricks, *gradients.shape[1:]))
        scene = Bricks(header, nodes, bricks, gradients, tensors["far"])
    except KeyError as error:
        raise SceneError(f"{path}: damaged scene: {error} is missing") from error
    except (ValueError, msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise SceneError(f"{path}: damaged scene: {error}") from error
    check(scene, str(path))
    return scene


def check(scene: Bricks, name: str) -> None:
    """Every index must stay inside its table: a damaged file must not make the GPU read elsewhere."""
    top = scene.header.cascades * GRID**3
    if len(scene.nodes) < top:
        raise SceneError(f"{name}: {len(scene.nodes)} nodes, expected at least {top} for {scene.header.cascades} cascades")
    first, child = scene.nodes[:, 0], scene.nodes[:, 1]
    is_brick = first < EMPTY
    if first[is_brick].max(initial=0) > len(scene.bricks):
        raise SceneError(f"{name}: brick {first[is_brick].max()} named, {len(scene.bricks)} stored")
    if child.max(initial=0) + 8 > len(scene.nodes):
        raise SceneError(f"{name}: node {child.max()} named, {len(scene.nodes)} stored")
    if np.any(child[child > 0] < top):
        raise SceneError(f"{name}: a node has its children among the top cells")
    if np.any(first[top:] >= EMPTY) or first[:top].max(initial=0) > EMPTY + GRID:
        raise SceneError(f"{name}: a node that is no top cell has a skip distance, or one has more than {GRID}")
    level = np.arange(top)
    for _ in range(MOST_DEPTH + 1):
        level = (np.unique(child[level][child[level] > 0])[:, None] + np.arange(8)).ravel()
    if len(level):
        raise SceneError(f"{name}: nodes are split more than {MOST_DEPTH} times, or are their own children")
    far = scene.far
    if far.dtype != np.float16 or far.ndim != 3 or far.shape[1:] != (2 * len(far), 3) or not np.isfinite(far).all():
        raise SceneError(f"{name}: far map {far.shape} {far.dtype}, expected finite (h, 2h, 3) float16")


def skip_distances(occupied: np.ndarray, blocked: np.ndarray, most: int = 63) -> np.ndarray:
    """Chebyshev distance of every empty cell of (G, G, G) to the nearest occupied or blocked one, less one; uint32.

    Three separable passes of a running minimum would do for Euclid; for Chebyshev, growing a cube step by step does.
    """
    solid = occupied | blocked
    distance = np.zeros(solid.shape, np.uint32)
    grown = solid
    for _ in range(most):
        for axis in range(3):
            wider = grown.copy()
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            wider[tuple(ahead)] |= grown[tuple(behind)]
            wider[tuple(behind)] |= grown[tuple(ahead)]
            grown = wider
        if grown.all():
            break
        distance += ~grown
    else:
        return distance
    return distance
