"""FBX, read with ufbx (the extra `calibrate`): every mesh, where its node puts it. The file says its axes and its unit.

Not written: programs that read FBX read OBJ too. Materials, animation and what files are referred to are left alone.
"""

from pathlib import Path

import numpy as np

from calibration.exchange.axes import stage_from_file
from calibration.exchange.mesh import MOST_FACES, Mesh, on_stage, wall_of
from calibration.exchange.wall import Assumed, Wall, bytes_of
from ledvolume.errors import ConfigError

FLOAT_M = 2e-6  # meshes are often kept in 32 bits


def read(file: Path, assumed: Assumed) -> Wall:
    """Raises ConfigError."""
    try:
        import ufbx
    except ImportError:
        expected = "ufbx, which reads FBX: pip install 'ledvolume[calibrate]'; or the same wall as OBJ"
        raise ConfigError(file, "format", expected, "it is not installed") from None
    data = bytes_of(file)
    try:
        scene = ufbx.load_memory(data)
        axes, unit_m = scene.settings.axes, scene.settings.unit_meters
        nodes = [(node.name or mesh.name, node, mesh) for mesh in scene.meshes for node in mesh.instances]
        parts = [_part(name, node, mesh, file) for name, node, mesh in nodes]
    except (ufbx.UfbxError, UnicodeDecodeError) as error:
        raise ConfigError(file, "file", "an FBX file that ufbx can read", str(error)) from None
    notes: list[str] = []
    directions = [int(axis) for axis in (axes.right, axes.up, axes.front)]
    if assumed.axes:
        turn = stage_from_file(assumed.axes)
    elif all(0 <= direction < 6 for direction in directions):
        right, up, front = (np.eye(3)[d // 2] * (-1 if d % 2 else 1) for d in directions)
        turn = np.stack([right, -front, up])
    else:
        turn = stage_from_file("y-up")
        notes.append("no axes in the file: taken as Y up, looking along -Z (--from-axes)")
    scale_m = assumed.scale_m or unit_m
    if not (np.isfinite(scale_m) and scale_m > 0 and np.linalg.matrix_rank(turn) == 3):
        raise ConfigError(file, "settings", "three axes and a unit above 0", f"{unit_m} m a unit")
    if not parts:
        raise ConfigError(file, "meshes", "at least one mesh", "none")
    return wall_of((on_stage(part, turn, scale_m) for part in parts), assumed, file, "fbx", notes, FLOAT_M)


def _part(name: str, node, mesh, file: Path) -> Mesh:
    """A mesh at its node, in the file's axes and units; faces of more than 4 corners are cut into fans."""
    if not mesh.vertex_uv.exists:
        raise ConfigError(file, name, "UVs: they say where its LED pixels are", "none")
    if mesh.num_faces > MOST_FACES or mesh.num_indices > 8 * MOST_FACES:
        raise ConfigError(file, name, f"at most {MOST_FACES} faces", mesh.num_faces)
    to = node.geometry_to_world
    m = np.array([[c.x, c.y, c.z] for c in (to.c0, to.c1, to.c2, to.c3)])
    points = np.array(mesh.vertices, float).reshape(-1, 3)[np.array(mesh.vertex_indices, int)]
    uv = np.array(mesh.vertex_uv.values, float).reshape(-1, 2)[np.array(mesh.vertex_uv.indices, int)]
    with np.errstate(over="ignore", invalid="ignore"):
        points = points @ m[:3] + m[3]
    sizes, corners = [], []
    for face in mesh.faces:
        first, count = face.index_begin, face.num_indices
        for fan in [range(4)] if count == 4 else [(0, i, i + 1) for i in range(1, count - 1)]:
            sizes.append(len(fan))
            corners += [first + i for i in fan]
    return Mesh(name or file.stem, np.array(sizes, int), points[corners], uv[corners])
