"""MPCDI 1.x and 2.0 (VESA): a zip with mpcdi.xml and what it names, or that XML beside its files. Read and, as 1.0 `a3`, written.

Profiles a3 and sl: a region's geometryWarpFile is a PFM with the 3-D point of every pixel; the points may be of a coarser
grid than the region's pixels. Profile 3d: a region is what is seen from a point (coordinateFrame: its place, and the axes
that yaw, pitch and roll turn about; roll's looks forward, pitch's to the right), without a distance: a plane is put across the
view, --distance metres away (1). Profile 2d has no geometry. Axes: X right, Y up, Z back to the viewer; the unit is named.
"""

import io
import math
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from calibration.exchange.axes import UNITS_M, stage_from_file
from calibration.exchange.mpcdi_archive import MOST_XML_BYTES, Archive, Folder, xml_of
from calibration.exchange.pfm import MOST_PIXELS, pfm_bytes, pfm_of
from calibration.exchange.pixels import surface_of_pixels
from calibration.exchange.wall import LARGEST_M, Assumed, Fit, Placement, Wall, bytes_of, made_wall, named
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, quaternion
from ledvolume.stage import Flat, Surface, surface_points

MOST_PFM_BYTES = MOST_PIXELS * 12 + 256
MOST_REGIONS = 1024
MOST_PX = 65_535
USUAL_DISTANCE_M = 1.0
AXES = "x,-z,y"


def read(file: Path, assumed: Assumed) -> Wall:
    """One surface for each region. Raises ConfigError."""
    data = bytes_of(file)
    if data[:2] == b"PK":
        members = Archive(data, file)
        root = xml_of(members.read("mpcdi.xml", MOST_XML_BYTES), file)
    else:
        members = Folder(file)
        root = xml_of(data, file)
    profile, version = root.get("profile", "").lower(), root.get("version", "")
    if root.tag.lower() != "mpcdi" or version.partition(".")[0] not in ("1", "2"):
        raise ConfigError(file, "MPCDI", "an MPCDI of version 1.x or 2.x", f"{root.tag} {version}")
    if profile not in ("a3", "sl", "3d"):
        expected = "a3, sl or 3d: other profiles say nothing of where pixels are in space"
        raise ConfigError(file, "profile", expected, profile or "nothing")
    turn = stage_from_file(assumed.axes or AXES)
    filesets = {fileset.get("region"): fileset for fileset in root.iter("fileset")}
    regions = [(buffer, region) for buffer in root.iter("buffer") for region in buffer.iter("region")]
    if not 0 < len(regions) <= MOST_REGIONS:
        raise ConfigError(file, "region", f"1 to {MOST_REGIONS} regions", len(regions))
    taken, surfaces, fits, placements, rasters, notes = set(), [], [], [], {}, []
    for buffer, region in regions:
        wanted = region.get("id") or "region"
        name = named(wanted, taken)
        resolution_px = _resolution(region, file, name)
        warp = filesets[wanted].find("geometryWarpFile") if wanted in filesets else None
        first_px = (0, 0)
        try:
            if profile == "3d":
                surface, fit = _across_view(name, region, turn, resolution_px, assumed, file, notes), Fit(0.0)
            elif warp is None:
                raise ConfigError(file, f"{name}.geometryWarpFile", "a file with the points of this region", "nothing")
            else:
                points = _points(name, warp, members, file, assumed, notes) @ turn.T
                points, first_px = _lit(name, points, resolution_px, notes)
                surface, fit = surface_of_pixels(name, points, assumed, notes)
        except ValueError as error:
            raise ConfigError(file, name, "points that an LED surface can be made of", str(error)) from None
        surfaces.append(surface)
        fits.append(fit)
        placement = _placement(name, buffer, region, surface, first_px, file, rasters)
        placements += [placement] if placement else []
    return made_wall(
        file, "mpcdi", surfaces, fits=tuple(fits), placements=tuple(placements), rasters=rasters, notes=notes
    )  # fmt: skip


def write(wall: Wall, file: Path, assumed: Assumed) -> list[str]:
    """MPCDI 1.0, profile a3, level 1: a region, a PFM in metres and a white alpha map for each surface. Raises ConfigError."""
    from PIL import Image

    turn = stage_from_file(assumed.axes or AXES)
    placed = {p.surface: p for p in wall.placements if p.rotation_deg == 0 and p.offset_px == (0, 0)}
    root = ElementTree.Element("MPCDI", profile="a3", level="1", version="1.0", date="1970-01-01T00:00:00Z")
    display, files = ElementTree.SubElement(root, "display"), ElementTree.SubElement(root, "files")
    buffers: dict[str, ElementTree.Element] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, surface in enumerate(wall.surfaces):
            w, h = surface.resolution_px
            if w * h > MOST_PIXELS:
                raise ConfigError(file, surface.name, f"at most {MOST_PIXELS} LED pixels", w * h)
            place = placed.get(surface.name)
            if place is None or place.resolution_px != (w, h):
                place = Placement(surface.name, surface.name, (0, 0), (0, 0), (w, h))
            size = wall.rasters.get(place.raster, (w, h))
            if place.raster not in buffers:
                attributes = dict(id=place.raster, Xresolution=str(size[0]), Yresolution=str(size[1]))
                buffers[place.raster] = ElementTree.SubElement(display, "buffer", attributes)
            x, y = (f"{at / of:.12g}" for at, of in zip(place.raster_px, size))
            xsize, ysize = (f"{px / of:.12g}" for px, of in zip((w, h), size))
            attributes = dict(id=surface.name, Xresolution=str(w), Yresolution=str(h), x=x, y=y, xsize=xsize, ysize=ysize)
            ElementTree.SubElement(buffers[place.raster], "region", attributes)
            fileset = ElementTree.SubElement(files, "fileset", region=surface.name)
            warp, alpha = f"geometry-{number}.pfm", f"alpha-{number}.png"
            _children(
                ElementTree.SubElement(fileset, "geometryWarpFile"),
                path=warp, geometricUnit="m", interpolation="linear", originof3DData="floorCenter",
            )  # fmt: skip
            _children(
                ElementTree.SubElement(fileset, "alphaMap"),
                path=alpha, componentDepth="1", bitDepth="8", gammaEmbedded="1",
            )  # fmt: skip
            points = np.empty((h, w, 3), np.float32)
            for row in range(h):
                points[row] = surface_points(surface, np.arange(w) + 0.5, np.full(w, row + 0.5)) @ turn
            archive.writestr(zipfile.ZipInfo(warp), pfm_bytes(points), zipfile.ZIP_DEFLATED)
            white = io.BytesIO()
            Image.new("L", (w, h), 255).save(white, "png")
            archive.writestr(zipfile.ZipInfo(alpha), white.getvalue())
        ElementTree.indent(root)
        archive.writestr(zipfile.ZipInfo("mpcdi.xml"), ElementTree.tostring(root, "UTF-8", xml_declaration=True))
    return ["metres as 32-bit numbers, the origin on the floor; no blending: the alpha maps are white"]


def _number(element: ElementTree.Element | None, tag: str, file: Path, key: str) -> float:
    text = element.findtext(tag) if element is not None else None
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < 1e6:
        raise ConfigError(file, f"{key}.{tag}", "a number below a million", text or "nothing")
    return value


def _whole(element: ElementTree.Element, name: str) -> int:
    """Xresolution of 1.0 or xResolution of 2.0; 0 where it is not a whole number."""
    text = next((value for key, value in element.items() if key.lower() == name.lower()), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _resolution(region: ElementTree.Element, file: Path, key: str) -> tuple[int, int]:
    w, h = _whole(region, "xResolution"), _whole(region, "yResolution")
    if not (0 < w <= MOST_PX and 0 < h <= MOST_PX and w * h <= 4 * MOST_PIXELS):
        raise ConfigError(file, f"{key}.xResolution, yResolution", "the region's pixels", f"{w} × {h}")
    return w, h


def _points(name: str, warp: ElementTree.Element, members, file: Path, assumed: Assumed, notes: list[str]) -> np.ndarray:
    """(H, W, 3) metres in the file's axes; NaN where there is none."""
    points = pfm_of(members.read((warp.findtext("path") or "").strip(), MOST_PFM_BYTES), file, f"{name}.geometryWarpFile")
    unit = (warp.findtext("geometricUnit") or "").strip()
    scale_m = assumed.scale_m or UNITS_M.get(unit)
    if scale_m is None:
        scale_m = 1.0
        notes.append(f"{name}: its unit is {unit or 'not told'}: read as metres (--scale)")
    origin = (warp.findtext("originof3DData") or "").strip()
    if origin != "floorCenter":
        notes.append(f"{name}: the origin is {_ORIGINS.get(origin, 'not told')}: see to its height above the floor (--move)")
    no_point = ~np.isfinite(points).all(-1)
    zero = (points == 0).all(-1)
    if zero.sum() > 1:  # a surface goes through the origin once at most; writers mark pixels that light nothing by zeros
        no_point |= zero
    points[no_point] = np.nan
    if not np.nanmax(np.abs(points), initial=0.0) * scale_m <= LARGEST_M:
        expected = f"points within {LARGEST_M:g} m (is the unit right? --scale)"
        raise ConfigError(file, f"{name}.geometryWarpFile", expected, float(np.nanmax(np.abs(points))) * scale_m)
    return points * scale_m


_ORIGINS = {"idealEyePoint": "the ideal eye point", "centerOfMass": "the middle of the screen"}


def _lit(name: str, points: np.ndarray, resolution_px: tuple[int, int], notes: list[str]) -> tuple[np.ndarray, tuple[int, int]]:
    """The rectangle of pixels that have points, at the region's resolution, and which is its first. Raises ValueError."""
    has = ~np.isnan(points[..., 0])
    if not has.any():
        raise ValueError("no pixel has a point")
    (top, bottom), (left, right) = ((i[0], i[-1] + 1) for i in (np.flatnonzero(has.any(axis)) for axis in (1, 0)))
    h, w = points.shape[:2]
    points = points[top:bottom, left:right]
    if min(points.shape[:2]) < 2:
        raise ValueError(f"points of {points.shape[1]} × {points.shape[0]} pixels, which make no area")
    if points.shape[:2] != (h, w):
        notes.append(f"{name}: only its pixels {left} to {right - 1}, {top} to {bottom - 1} have points: the surface is these")
        if (w, h) != resolution_px:
            raise ValueError("a part of the region without points, and points on a coarser grid than its pixels")
    elif (w, h) != resolution_px:
        notes.append(f"{name}: {w} × {h} points for {resolution_px[0]} × {resolution_px[1]} pixels: interpolated")
        points = _stretched(points, resolution_px)
    return points, (int(left), int(top))


def _stretched(points: np.ndarray, resolution_px: tuple[int, int]) -> np.ndarray:
    """Points of a coarser grid's pixel centres at those of a finer one, linear between them and on beyond the outermost."""
    for axis, count in ((1, resolution_px[0]), (0, resolution_px[1])):
        had = points.shape[axis]
        at = (np.arange(count) + 0.5) * had / count - 0.5
        low = np.clip(np.floor(at).astype(int), 0, had - 2)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        points = points.take(low, axis) * (1 - part) + points.take(low + 1, axis) * part
    return points


def _across_view(name, region, turn, resolution_px, assumed: Assumed, file: Path, notes: list[str]) -> Surface:
    """The plane across a frustum at a distance from its eye, seen from there."""
    frustum, frame = region.find("frustum"), region.find("coordinateFrame")
    at = np.array([_number(frame, f"pos{axis}", file, f"{name}.coordinateFrame") for axis in "xyz"])
    axes = np.array([[_number(frame, f"{a}{axis}", file, f"{name}.coordinateFrame") for axis in "xyz"] for a in _TURNS])
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-3:
        expected = "axes of yaw, pitch and roll at right angles and of length 1"
        raise ConfigError(file, f"{name}.coordinateFrame", expected, axes.tolist())
    rotation = np.eye(3)
    for angle, axis in zip(_TURNS, axes):
        rotation = rotation @ _about(axis, math.radians(_number(frustum, angle, file, f"{name}.frustum")))
    sides = {side: _number(frustum, f"{side}Angle", file, f"{name}.frustum") for side in ("left", "right", "down", "up")}
    if not (-89 < sides["left"] < sides["right"] < 89 and -89 < sides["down"] < sides["up"] < 89):
        raise ConfigError(file, f"{name}.frustum", "left below right and down below up, within 89°", sides)
    left, right, down, up = (math.tan(math.radians(sides[side])) for side in ("left", "right", "down", "up"))
    _, to_right, forward = axes
    upward = np.cross(to_right, forward)
    distance_m = assumed.distance_m or USUAL_DISTANCE_M
    if assumed.distance_m is None:
        notes.append(f"a view has no distance: its plane is put {USUAL_DISTANCE_M:g} m from its eye (--distance)")
    scale_m = assumed.scale_m or 1.0
    middle = rotation @ (forward + to_right * (left + right) / 2 + upward * (down + up) / 2) * distance_m
    own = turn @ rotation @ np.stack([to_right, upward, -forward], -1)
    if np.linalg.det(own) < 0:
        raise ConfigError(file, f"{name}.coordinateFrame", "right-handed axes (--from-axes)", axes.tolist())
    size_m = ((right - left) * distance_m, (up - down) * distance_m)
    centre = turn @ (at * scale_m + middle)
    return Surface(name, Pose(quaternion(own), tuple(centre.tolist())), size_m, resolution_px, Flat())


_TURNS = ("yaw", "pitch", "roll")


def _about(axis: np.ndarray, angle_rad: float) -> np.ndarray:
    """Rodrigues' rotation."""
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle_rad) * k + (1 - math.cos(angle_rad)) * k @ k


def _placement(name, buffer, region, surface: Surface, first_px, file: Path, rasters: dict) -> Placement | None:
    """Where the region is in its buffer: the fractions x, y of it, from the top left. A buffer without size: of its regions."""
    raster = buffer.get("id") or "buffer"
    size = _whole(buffer, "xResolution"), _whole(buffer, "yResolution")
    try:
        x, y, xsize, ysize = (float(region.get(key) or "nan") for key in ("x", "y", "xsize", "ysize"))
    except ValueError:
        raise ConfigError(file, f"{name}.x, y, xsize, ysize", "fractions of the buffer", dict(region.items())) from None
    w, h = surface.resolution_px
    if not all(map(math.isfinite, (x, y, xsize, ysize))) or not (
        0 < xsize <= 1 and 0 < ysize <= 1 and 0 <= x <= 1 and 0 <= y <= 1
    ):
        return None
    if 0 in size:
        size = round(w / xsize), round(h / ysize)
    if not all(0 < side <= MOST_PX for side in size):
        raise ConfigError(file, f"{raster}.xResolution, yResolution", f"1 to {MOST_PX} pixels", size)
    rasters[raster] = max(rasters.get(raster, (0, 0))[0], size[0]), max(rasters.get(raster, (0, 0))[1], size[1])
    at_px = round(x * size[0]) + first_px[0], round(y * size[1]) + first_px[1]
    return Placement(name, raster, at_px, (0, 0), (w, h))


def _children(element: ElementTree.Element, **texts: str) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(element, tag).text = text
