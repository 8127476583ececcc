"""Wavefront OBJ, read and written: every object (`o`, else `g`) with faces is a surface; `vt` says where its LED pixels are.

An OBJ says neither axes nor unit. Without --axes it is taken Y up, looking along -Z, as Maya, Houdini and disguise write;
without --scale, as metres, centimetres or millimetres by its size. Written: metres, Y up, nanometres. Comments that begin
with `# ledvolume` hold what OBJ has no place for: unit, axes, LED pixels, and whether the mesh was a plane, an arc or cells.
"""

import re
from array import array
from pathlib import Path

import numpy as np

from calibration.exchange.axes import AXES, UNITS_M, guessed_scale, stage_from_file
from calibration.exchange.mesh import MOST_FACES, Mesh, mesh_of, wall_of
from calibration.exchange.wall import Assumed, Wall, text_of
from ledvolume.errors import ConfigError

USUAL_AXES = "y-up"
_OURS = re.compile(r"#\s*ledvolume\b(.*)")


def read(file: Path, assumed: Assumed) -> Wall:
    """Raises ConfigError."""
    points, uvs, groups, told = _parsed(text_of(file), file)
    notes: list[str] = []
    axes = assumed.axes or told.get("axes", "")
    if not axes:
        notes.append("no axes in the file: taken as Y up, looking along -Z (--from-axes)")
    if assumed.scale_m is None and told.get("unit") in UNITS_M:
        scale_m = UNITS_M[told["unit"]]
    else:
        scale_m = guessed_scale(points[np.unique(_used(groups, 0))], file, assumed.scale_m, notes)
    turn = stage_from_file(axes or USUAL_AXES)
    with np.errstate(over="ignore", invalid="ignore"):
        points = points @ turn.T * scale_m
    return wall_of((_mesh(group, points, uvs, file) for group in groups), assumed, file, "obj", notes)


def write(wall: Wall, file: Path, assumed: Assumed) -> list[str]:
    """One object for each surface."""
    axes = assumed.axes or USUAL_AXES
    turn, scale_m = stage_from_file(axes), assumed.scale_m or 1.0
    unit = next((name for name, metres in UNITS_M.items() if metres == scale_m), "")
    lines = [f"# ledvolume axes={AXES.get(axes, axes)}" + (f" unit={unit}" if unit else "")]
    first = 1
    for surface in wall.surfaces:
        mesh = mesh_of(surface)
        w, h = surface.resolution_px
        lines += [f"o {surface.name}", f"# ledvolume resolution_px={w}x{h} shape={mesh.shape}"]
        lines += ["v {:.12g} {:.12g} {:.12g}".format(*p) for p in (mesh.points_m @ turn / scale_m).tolist()]
        lines += [f"vt {u:.12g} {v:.12g}" for u, v in mesh.uv.tolist()]
        corners = range(first, first + len(mesh.points_m), 4)
        lines += ["f " + " ".join(f"{i}/{i}" for i in range(start, start + 4)) for start in corners]
        first += len(mesh.points_m)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"{AXES.get(axes, axes)} along the stage's X, Y, Z; {unit or f'{scale_m:g} m'} a unit"]


class _Group:
    """An object while it is being read. corners: point and uv of each, counted from 0; uv -1: none."""

    def __init__(self, name: str):
        self.name, self.sizes, self.corners = name, array("q"), array("q")
        self.told: dict[str, str] = {}


def _parsed(text: str, file: Path) -> tuple[np.ndarray, np.ndarray, list[_Group], dict[str, str]]:
    points, uvs, told = array("d"), array("d"), {}
    objects: list[_Group] = [_Group("")]
    has_objects = bool(re.search(r"^o\s", text, re.MULTILINE))
    faces = number = 0
    try:
        for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
            number += 1
            word, _, rest = line.strip().partition(" ")
            if word == "v":
                points.extend(float(cell) for cell in _three(rest.split()))
            elif word == "vt":
                u, v, *_ = [*rest.split(), "0"]
                uvs.extend((float(u), float(v)))
            elif word == "f":
                faces += _add_face(objects[-1], rest.split(), len(points) // 3, len(uvs) // 2)
                if faces > MOST_FACES:
                    raise ValueError(f"more than {MOST_FACES} faces")
            elif word == "o" or (word == "g" and not has_objects):
                objects.append(_Group(rest.strip()))
            elif match := _OURS.match(line.strip()):
                pairs = dict(pair.partition("=")[::2] for pair in match[1].split())
                told.update(pairs)
                objects[-1].told.update(pairs)
    except ValueError as error:
        raise ConfigError(file, f"line {number}", "v x y z, vt u v, f of points/uvs", str(error)) from None
    objects = [group for group in objects if len(group.sizes)]
    if not objects:
        raise ConfigError(file, "faces", "at least one face (f)", "none")
    return np.array(points).reshape(-1, 3), np.array(uvs).reshape(-1, 2), objects, told


def _three(cells: list[str]) -> list[str]:
    if len(cells) < 3:
        raise ValueError(f"{len(cells)} coordinates")
    return cells[:3]


def _add_face(group: _Group, cells: list[str], points: int, uvs: int) -> int:
    """Faces of more than 4 corners are cut into a fan. Returns how many were added."""
    if len(cells) < 3:
        raise ValueError(f"a face of {len(cells)} corners")
    corners = []
    for cell in cells:
        point, _, rest = cell.partition("/")
        uv = rest.partition("/")[0]
        corners.append((_index(point, points), _index(uv, uvs) if uv else -1))
    if len(corners) == 4:
        fan = [corners]
    else:
        fan = [[corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)]
    for face in fan:
        group.sizes.append(len(face))
        for corner in face:
            group.corners.extend(corner)
    return len(fan)


def _index(text: str, count: int) -> int:
    """From 1, or from the end where negative, to 0 and up."""
    i = int(text)
    i = i - 1 if i > 0 else count + i
    if not 0 <= i < count or text in ("0", "-0"):
        raise ValueError(f"index {text} of {count}")
    return i


def _used(groups: list[_Group], column: int) -> np.ndarray:
    return np.concatenate([np.array(group.corners).reshape(-1, 2)[:, column] for group in groups])


def _mesh(group: _Group, points_m: np.ndarray, uvs: np.ndarray, file: Path) -> Mesh:
    corners = np.array(group.corners).reshape(-1, 2)
    if (corners[:, 1] < 0).any():
        expected = "UVs (vt) at every corner of its faces: they say where its LED pixels are"
        raise ConfigError(file, group.name or "wall", expected, f"{(corners[:, 1] < 0).sum()} corners without")
    resolution = re.fullmatch(r"(\d{1,5})x(\d{1,5})", group.told.get("resolution_px", ""))
    resolution_px = (int(resolution[1]), int(resolution[2])) if resolution and "0" not in resolution.groups() else None
    shape = group.told.get("shape", "auto")
    shape = shape if shape in ("flat", "arc", "map") else "auto"
    name = group.name or file.stem
    return Mesh(name, np.array(group.sizes), points_m[corners[:, 0]], uvs[corners[:, 1]], resolution_px, shape)
