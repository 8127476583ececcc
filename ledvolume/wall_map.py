"""Wall maps: where the cells of a surface of any shape are (stage.PositionMap). Calibration writes the file, a show names it.

A safetensors file with one tensor, `corners`: float64 (rows, columns, 2, 2, 3), metres on the surface's axes, the 2 × 2 being
top and bottom, left and right. Its metadata: ledvolume_wall_map, the version, and name. No code is ever executed.
"""

from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError, deserialize

from ledvolume.errors import ConfigError
from ledvolume.stage import PositionMap

VERSION = "1"
MOST_BYTES = 64 << 20  # 700 000 cells
FARTHEST_M = 1000.0  # from the surface's origin: catches millimetres


def load_wall_map(file: Path) -> PositionMap:
    """Read and check a map. Raises ConfigError."""
    try:
        return wall_map_of(file.read_bytes(), file)
    except OSError as error:
        raise ConfigError(file, "file", "a readable wall map", error.strerror) from error


def wall_map_of(data: bytes, file: Path | str) -> PositionMap:
    """The map that `file` with these bytes is. Raises ConfigError."""
    if len(data) > MOST_BYTES:
        raise ConfigError(file, "file", f"a wall map of at most {MOST_BYTES >> 20} MB", f"{len(data) >> 20} MB")
    try:
        tensors = dict(deserialize(data))
        metadata = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")], type=_Header).metadata
    except (SafetensorError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(file, "file", "a wall map, in the format of safetensors", str(error)) from None
    if metadata.get("ledvolume_wall_map") != VERSION:
        expected = f"{VERSION}, the version of wall maps that this ledvolume reads"
        raise ConfigError(file, "ledvolume_wall_map", expected, metadata.get("ledvolume_wall_map", "nothing"))
    corners = tensors.get("corners")
    if corners is None:
        raise ConfigError(file, "corners", "the tensor of the cells' corners", sorted(tensors) or "nothing")
    rows, columns, *rest = (*corners["shape"], 0, 0)
    if corners["dtype"] != "F64" or rest != [2, 2, 3, 0, 0] or rows < 1 or columns < 1:
        expected = "F64 of (rows, columns, 2, 2, 3)"
        raise ConfigError(file, "corners", expected, f"{corners['dtype']} of {tuple(corners['shape'])}")
    return checked(PositionMap(columns, rows, bytes(corners["data"])), file)


def checked(cells: PositionMap, file: Path | str) -> PositionMap:
    """The map, if a wall can be so. Raises ConfigError."""
    corners_m = cells.corners_m
    across, down = corners_m[:, :, 1, 1] - corners_m[:, :, 0, 0], corners_m[:, :, 1, 0] - corners_m[:, :, 0, 1]
    for is_wrong, expected in (
        (~np.isfinite(corners_m).all((2, 3, 4)), "finite numbers"),
        (np.abs(corners_m).max((2, 3, 4)) > FARTHEST_M, f"metres on the surface's axes, at most {FARTHEST_M:g}"),
        (~np.any(np.cross(across, down), -1), "four corners that make an area"),
    ):
        if is_wrong.any():
            row, column = np.argwhere(is_wrong)[0].tolist()
            raise ConfigError(file, f"corners[{row}, {column}]", expected, corners_m[row, column].tolist())
    return cells


def wall_map_file(cells: PositionMap, name: str = "") -> bytes:
    """The file of a map, the same bytes for the same map: the library's own writer puts metadata in any order. Raises
    ConfigError for a map that no show would take."""
    corners = np.ascontiguousarray(checked(cells, name or "wall map").corners_m, "<f8")
    tensor = {"dtype": "F64", "shape": corners.shape, "data_offsets": [0, corners.nbytes]}
    header = msgspec.json.encode({"__metadata__": {"ledvolume_wall_map": VERSION, "name": name}, "corners": tensor})
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + corners.tobytes()


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)
