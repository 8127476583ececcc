"""The axes of other programs, and units that a file does not name. A name such as "x,-z,y" says which of the file's axes
run along the stage's X (to the camera's right), Y (toward the wall) and Z (up). Left-handed files are named in the same way.
"""

from pathlib import Path

import numpy as np

from ledvolume.errors import ConfigError

AXES = {
    "stage": "x,y,z",
    "z-up": "x,y,z",  # Blender, 3ds Max, Rhino
    "y-up": "x,-z,y",  # Maya, Houdini, disguise's meshes, MPCDI; looks along -Z
    "y-up-left": "x,z,y",  # Unity, Cinema 4D; left-handed
    "unreal": "y,x,z",  # X forward, left-handed
}
UNITS_M = {
    "m": 1.0,
    "dm": 0.1,
    "cm": 0.01,
    "mm": 0.001,
    "in": 0.0254,
    "ft": 0.3048,
    "yd": 0.9144,
}
LARGEST_WALL_M, SMALLEST_WALL_M = 40.0, 0.4


def stage_from_file(axes: str, key: str = "axes") -> np.ndarray:
    """(3, 3), rows are the stage's axes in those of the file; determinant -1 from left-handed ones. Raises ConfigError."""
    rows = np.zeros((3, 3))
    parts = AXES.get(axes, axes).replace(" ", "").split(",")
    for row, part in zip(rows, parts):
        letter = part.lstrip("+-").lower()
        if len(letter) == 1 and letter in "xyz" and len(part) <= 2:
            row["xyz".index(letter)] = -1.0 if part[0] == "-" else 1.0
    if len(parts) != 3 or not np.array_equal(np.abs(rows).sum(0), np.ones(3)):
        raise ConfigError("command line", key, f'three different axes such as "x,-z,y", or one of {", ".join(AXES)}', axes)
    return rows


def guessed_scale(points: np.ndarray, file: Path, scale_m: float | None, notes: list[str]) -> float:
    """Metres per unit of a file without unit: of metres, centimetres and millimetres, the first by which it is a wall."""
    if scale_m is not None:
        return scale_m
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    for name in ("m", "cm", "mm"):
        if SMALLEST_WALL_M <= extent * UNITS_M[name] <= LARGEST_WALL_M:
            notes.append(f"no unit in the file: read as {name}, by which it is {extent * UNITS_M[name]:.2f} m large (--scale)")
            return UNITS_M[name]
    expected = f"a wall of {SMALLEST_WALL_M:g} to {LARGEST_WALL_M:g} m in m, cm or mm, or --scale"
    raise ConfigError(file, "unit", expected, f"{extent:.4g} units")
