"""USD stages (.usda, .usdc, .usd), read and written with usd-core (the extra `usd`): every Mesh with UVs is a surface.

The stage says its unit (metersPerUnit) and which axis is up: Z-up stages are taken to have our axes, Y-up ones have our x, z, -y.
Parents are composed, at the earliest time. UVs are the primvar `st`, else the first of two numbers. Invisible meshes and guides
are left out. Written: metres, Z up, each mesh on its surface's own axes, so that 32-bit points are good to a micrometre; the
attributes ledvolume:resolution_px and ledvolume:shape hold what meshes have no place for.
"""

from pathlib import Path

import numpy as np

from calibration.exchange.axes import stage_from_file
from calibration.exchange.mesh import MOST_FACES, Mesh, mesh_of, on_stage, wall_of
from calibration.exchange.wall import MOST_BYTES, Assumed, Wall
from ledvolume.errors import ConfigError
from ledvolume.tracks.usd import pxr_modules, reason

RESOLUTION, SHAPE, NAME = "ledvolume:resolution_px", "ledvolume:shape", "ledvolume:name"
FLOAT_M = 2e-6


def read(file: Path, assumed: Assumed) -> Wall:
    """Raises ConfigError."""
    pxr = pxr_modules(file)
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ConfigError(file, "file", f"at most {MOST_BYTES >> 20} MB", file.stat().st_size)
        stage = pxr.Usd.Stage.Open(str(file))
        metres = pxr.UsdGeom.GetStageMetersPerUnit(stage)
        is_y_up = pxr.UsdGeom.GetStageUpAxis(stage) == pxr.UsdGeom.Tokens.y
        prims = [p for p in stage.Traverse(pxr.Usd.TraverseInstanceProxies()) if p.IsA(pxr.UsdGeom.Mesh) and _is_seen(p, pxr)]
        parts = [_part(prim, file, pxr) for prim in prims]
    except OSError as error:
        raise ConfigError(file, "file", "a file that can be read", error.strerror) from None
    except (pxr.Tf.ErrorException, UnicodeDecodeError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        # a value of another type than its attribute's, in a damaged file, is a TypeError of pxr's
        raise ConfigError(file, "file", "a USD file that can be read", reason(error)) from None
    if not parts:
        raise ConfigError(file, "meshes", "at least one Mesh prim", "none")
    scale_m = assumed.scale_m or metres
    if not (np.isfinite(scale_m) and scale_m > 0):
        raise ConfigError(file, "metersPerUnit", "a number above 0", metres)
    turn = stage_from_file(assumed.axes or ("y-up" if is_y_up else "z-up"))
    return wall_of((on_stage(part, turn, scale_m) for part in parts), assumed, file, "usd", [], FLOAT_M)


def write(wall: Wall, file: Path, assumed: Assumed) -> list[str]:
    """A Mesh for each surface, under /wall."""
    pxr = pxr_modules(file)
    turn, scale_m = stage_from_file(assumed.axes or "stage"), assumed.scale_m or 1.0
    layer = pxr.Sdf.Layer.CreateAnonymous(file.suffix)
    stage = pxr.Usd.Stage.Open(layer)
    is_y_up = turn[2, 1] == 1
    pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.y if is_y_up else pxr.UsdGeom.Tokens.z)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, scale_m)
    root = pxr.UsdGeom.Xform.Define(stage, "/wall")
    stage.SetDefaultPrim(root.GetPrim())
    for number, surface in enumerate(wall.surfaces):
        mesh, m = mesh_of(surface), surface.stage_from_surface.matrix()
        identifier = pxr.Tf.MakeValidIdentifier(surface.name)
        if stage.GetPrimAtPath(f"/wall/{identifier}"):
            identifier = f"{identifier}_{number}"
        written = pxr.UsdGeom.Mesh.Define(stage, f"/wall/{identifier}")
        own = (mesh.points_m - m[:3, 3]) @ m[:3, :3] / scale_m
        written.CreatePointsAttr(pxr.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(own, np.float32)))
        written.CreateFaceVertexCountsAttr(pxr.Vt.IntArray.FromNumpy(mesh.sizes.astype(np.int32)))
        written.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(np.arange(len(own), dtype=np.int32)))
        written.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
        written.CreateExtentAttr(pxr.Vt.Vec3fArray.FromNumpy(np.stack([own.min(0), own.max(0)]).astype(np.float32)))
        place = np.eye(4)
        place[:3, :3], place[3, :3] = (turn.T @ m[:3, :3]).T, turn.T @ m[:3, 3] / scale_m  # USD's vectors are rows
        written.AddTransformOp().Set(pxr.Gf.Matrix4d(*place.ravel().tolist()))
        st = pxr.UsdGeom.PrimvarsAPI(written).CreatePrimvar(
            "st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, pxr.UsdGeom.Tokens.faceVarying
        )
        st.Set(pxr.Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(mesh.uv, np.float32)))
        prim = written.GetPrim()
        prim.CreateAttribute(RESOLUTION, pxr.Sdf.ValueTypeNames.Int2).Set(pxr.Gf.Vec2i(*surface.resolution_px))
        prim.CreateAttribute(SHAPE, pxr.Sdf.ValueTypeNames.Token).Set(mesh.shape)
        prim.CreateAttribute(NAME, pxr.Sdf.ValueTypeNames.String).Set(surface.name)
    try:
        if not layer.Export(str(file)):
            raise ConfigError(file, "file", "a place that can be written to", "USD could not write it")
    except pxr.Tf.ErrorException as error:
        raise ConfigError(file, "file", "a place that can be written to", reason(error)) from None
    return [f"{scale_m:g} m a unit, {'Y' if is_y_up else 'Z'} up"]


def _is_seen(prim, pxr) -> bool:
    imageable = pxr.UsdGeom.Imageable(prim)
    is_visible = imageable.ComputeVisibility(pxr.Usd.TimeCode.EarliestTime()) != pxr.UsdGeom.Tokens.invisible
    return is_visible and imageable.ComputePurpose() in (pxr.UsdGeom.Tokens.default_, pxr.UsdGeom.Tokens.render)


def _part(prim, file: Path, pxr) -> Mesh:
    """A mesh where its parents put it, in the stage's axes and units; faces of more than 4 corners are cut into fans."""
    key, at = str(prim.GetPath()), pxr.Usd.TimeCode.EarliestTime()
    mesh = pxr.UsdGeom.Mesh(prim)
    points, counts, indices = (
        np.array([] if (values := attribute.Get(at)) is None else values)
        for attribute in (mesh.GetPointsAttr(), mesh.GetFaceVertexCountsAttr(), mesh.GetFaceVertexIndicesAttr())
    )
    points, counts, indices = points.reshape(-1, 3).astype(float), counts.astype(int), indices.astype(int)
    if not len(points) or not len(counts) or counts.min() < 3 or counts.sum() != len(indices) or len(counts) > MOST_FACES:
        raise ConfigError(file, key, f"1 to {MOST_FACES} faces of 3 and more corners", f"{len(counts)} faces")
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(points):
        raise ConfigError(file, f"{key}.faceVertexIndices", f"indices of its {len(points)} points", int(indices.max()))
    uv = _uv(prim, indices, len(points), file, key, pxr)
    m = np.array(pxr.UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(at))
    with np.errstate(over="ignore", invalid="ignore"):
        points = (points @ m[:3, :3] + m[3, :3])[indices]
    starts = np.cumsum(counts) - counts
    if (counts > 4).any():
        sizes, corners = [], []
        for first, count in zip(starts.tolist(), counts.tolist()):
            for fan in [range(count)] if count <= 4 else [(0, i, i + 1) for i in range(1, count - 1)]:
                sizes.append(len(fan))
                corners += [first + i for i in fan]
        counts, points, uv = np.array(sizes), points[corners], uv[corners]
    resolution = prim.GetAttribute(RESOLUTION).Get() if prim.HasAttribute(RESOLUTION) else None
    resolution_px = None
    if isinstance(resolution, pxr.Gf.Vec2i) and 0 < min(resolution) <= max(resolution) <= 65_535:
        resolution_px = (int(resolution[0]), int(resolution[1]))
    shape, name = (prim.GetAttribute(told).Get() if prim.HasAttribute(told) else None for told in (SHAPE, NAME))
    name = name if isinstance(name, str) and name else prim.GetName()
    return Mesh(name, counts, points, uv, resolution_px, shape if shape in ("flat", "arc", "map") else "auto")


def _uv(prim, indices: np.ndarray, points: int, file: Path, key: str, pxr) -> np.ndarray:
    """UVs (m, 2) of every corner."""
    api = pxr.UsdGeom.PrimvarsAPI(prim)
    found = [p for p in api.GetPrimvarsWithValues() if "2" in str(p.GetTypeName()) and p.GetTypeName().isArray]
    found.sort(key=lambda p: (p.GetPrimvarName() != "st", str(p.GetTypeName()).partition("2")[0] != "texCoord"))
    for primvar in found:
        values = np.array(primvar.ComputeFlattened(pxr.Usd.TimeCode.EarliestTime()), float)
        interpolation = primvar.GetInterpolation()
        if values.ndim != 2 or values.shape[1] != 2:
            continue
        if interpolation == pxr.UsdGeom.Tokens.faceVarying and len(values) == len(indices):
            return values
        if interpolation in (pxr.UsdGeom.Tokens.vertex, pxr.UsdGeom.Tokens.varying) and len(values) == points:
            return values[indices]
    raise ConfigError(file, key, "UVs (primvars:st) at every corner: they say where its LED pixels are", "none")
