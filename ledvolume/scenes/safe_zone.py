"""How well photographs support each eye position: a small map beside the scene, and the watch that the server keeps by it.

Support is 0 to 1: 1 where everything that the wall shows from there was photographed at least twice from the same direction, at
the LED pixels' resolution; support.py has the formula. It is known at nodes of a grid over a box of the stage, and linear
between them. Outside of the box nobody has looked, and it is 0. The safe zone is where support is at least `safe_from`.

    place.safetensors        the scene
    place.zone.json          its map: ZoneMap as JSON

The map belongs to the checkpoint that the scene was baked from: source_sha256 of both must agree. Nothing here changes a pixel.
"""

import itertools
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ledvolume.errors import SceneError
from ledvolume.frame import FrameRequest
from ledvolume.pose import Similarity, Vec3
from ledvolume.stage import Box

VERSION = 1
SAFE_FROM = 0.5
LARGEST_FILE = 16 << 20
QUIET_NS = 10_000_000_000

Share = Annotated[float, Meta(ge=0, le=1)]
Nodes = Annotated[int, Meta(ge=2, le=256)]


class ZoneMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """support: of nodes[0] × nodes[1] × nodes[2] eyes from min_m to max_m, z fastest, on the stage's axes as
    field_from_stage laid them when the map was made."""

    version: int
    min_m: Vec3
    max_m: Vec3
    nodes: tuple[Nodes, Nodes, Nodes]
    field_from_stage: Similarity
    safe_from: Share
    photographs: int
    source_sha256: str
    support: list[Share]

    @property
    def grid(self) -> np.ndarray:
        """Support, (nx, ny, nz)."""
        return np.array(self.support).reshape(self.nodes)

    def axes_m(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the nodes are along each axis."""
        return tuple(np.linspace(*ends) for ends in zip(self.min_m, self.max_m, self.nodes))


def map_file(scene: Path) -> Path:
    """Where the map of a scene file lies: beside it."""
    return scene.with_suffix(".zone.json")


def save(path: Path, zone: ZoneMap) -> None:
    """The file appears only when it is complete."""
    part = Path(f"{path}.part")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(zone), indent=0) + b"\n")
    part.replace(path)


def load(path: Path) -> ZoneMap:
    """Read and check a map. Raises SceneError."""
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise SceneError(f"{path}: {size} bytes, a zone map has at most {LARGEST_FILE}")
        zone = msgspec.json.decode(path.read_bytes(), type=ZoneMap)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SceneError(f"{path}: not a zone map (make one with `ledvolume zone`): {error}") from None
    if zone.version != VERSION:
        raise SceneError(f"{path}: zone map version {zone.version}, this ledvolume reads {VERSION}: make it anew")
    if len(zone.support) != (expected := int(np.prod(zone.nodes))):
        raise SceneError(f"{path}: support of {len(zone.support)} eyes, expected {expected} for {zone.nodes}")
    corners = np.array([zone.min_m, zone.max_m])
    if not (np.isfinite(corners).all() and (corners[0] < corners[1]).all()):
        raise SceneError(f"{path}: a box from {zone.min_m} to {zone.max_m}, expected the lower corner first")
    if not np.linalg.cond(zone.field_from_stage.matrix()) < 1e12:
        raise SceneError(f"{path}: field_from_stage has no inverse: {zone.field_from_stage}")
    return zone


def map_beside(scene: Path, source_sha256: str) -> tuple[ZoneMap | None, list[str]]:
    """The map of a scene, if it has one that belongs to it; and what to say of one that cannot be used."""
    path = map_file(scene)
    if not path.exists():
        return None, []
    try:
        zone = load(path)
    except SceneError as error:
        return None, [f"no watch of the safe camera zone: {error}"]
    if zone.source_sha256 != source_sha256:
        return None, [f"{path} was made for another checkpoint than the scene, and is not used: `ledvolume zone` makes it anew"]
    return zone, []


def support(zone: ZoneMap, eye: np.ndarray) -> float:
    """Of an eye (3,) in field units: trilinear between the nodes, 0 outside of the box."""
    matrix = zone.field_from_stage.matrix()
    eye_m = np.linalg.solve(matrix[:3, :3], np.asarray(eye, float) - matrix[:3, 3])
    low, high = np.array(zone.min_m), np.array(zone.max_m)
    at = (eye_m - low) / (high - low) * (np.array(zone.nodes) - 1)
    if not ((at > -1e-6) & (at < np.array(zone.nodes) - 1 + 1e-6)).all():
        return 0.0
    first = np.minimum(np.maximum(at, 0).astype(int), np.array(zone.nodes) - 2)
    values, share = zone.grid[tuple(slice(i, i + 2) for i in first)], at - first
    for part in share:
        values = values[0] * (1 - part) + values[1] * part
    return float(min(max(values, 0.0), 1.0))


def safe_box(zone: ZoneMap) -> Box | None:
    """The largest box of the stage with all its nodes in the safe zone: what to write as the show's `zone`; None if there is
    none with a volume."""
    below = np.zeros(tuple(count + 1 for count in zone.nodes), int)
    below[1:, 1:, 1:] = (zone.grid < zone.safe_from).cumsum(0).cumsum(1).cumsum(2)
    axes, best, most_m3 = zone.axes_m(), None, 0.0
    spans = [list(itertools.combinations(range(count), 2)) for count in zone.nodes]
    for (x0, x1), (y0, y1) in itertools.product(spans[0], spans[1]):
        column = below[x1 + 1, y1 + 1] - below[x0, y1 + 1] - below[x1 + 1, y0] + below[x0, y0]
        for z0, z1 in spans[2]:
            low, high = (axes[0][x0], axes[1][y0], axes[2][z0]), (axes[0][x1], axes[1][y1], axes[2][z1])
            if column[z1 + 1] == column[z0] and (m3 := float(np.prod(np.subtract(high, low)))) > most_m3:
                best, most_m3 = Box(tuple(map(float, low)), tuple(map(float, high))), m3
    return best


class ZoneWatch:
    """One run of the server: is the camera where photographs support what the wall shows? zones: place → its map; a place
    without one is not watched. field_from_stage: place → how it lies now."""

    def __init__(self, zones: dict[str, ZoneMap], field_from_stage: dict[str, Similarity]):
        self.zones = zones
        self.matrices = {name: field_from_stage[name].matrix() for name in zones}
        self.frames_outside = 0
        self.lowest = self.now = None  # support
        self._is_told_outside = False
        self._told_ns = -QUIET_NS

    def frame(self, request: FrameRequest) -> list[str]:
        """A frame was sent; returns what is to be said, at most every ten seconds."""
        zone = self.zones.get(request.scene)
        if zone is None:
            self.now = None
            return []
        matrix, at_m = self.matrices[request.scene], request.camera.stage_from_camera.position_m
        self.now = support(zone, matrix[:3, :3] @ at_m + matrix[:3, 3])
        self.lowest = self.now if self.lowest is None else min(self.lowest, self.now)
        is_outside = self.now < zone.safe_from
        self.frames_outside += is_outside
        if is_outside == self._is_told_outside or request.decided_at_ns - self._told_ns < QUIET_NS:
            return []
        self._is_told_outside, self._told_ns = is_outside, request.decided_at_ns
        if not is_outside:
            return [f"camera is back in the safe zone of {request.scene}: support {self.now:.2f}"]
        return [
            f"camera at x {at_m[0]:.2f} y {at_m[1]:.2f} z {at_m[2]:.2f} m has left the safe zone of {request.scene}: support "
            f"{self.now:.2f}, safe from {zone.safe_from:.2f}. What the wall shows from here was hardly photographed from this "
            "side, and may be invented. Come back, or photograph the place from here too"
        ]

    def words(self) -> str:
        """For the live line; empty where nothing is watched."""
        return "" if self.now is None else f" · support {self.now:.2f}"

    def summary(self) -> dict:
        """For the status file."""
        if not self.zones:
            return {}
        lowest = None if self.lowest is None else round(self.lowest, 3)
        return {"frames_outside_safe_zone": self.frames_outside, "lowest_support": lowest}
