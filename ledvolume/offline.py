"""From a FrameRequest to files, in one process: the other end of the path of a frame, where time does not matter.

A RenderSpec is all that a process needs to know of a job. It is small and serialisable, so that it can be sent to worker
processes and to other machines; frames are functions of their requests, so whoever renders one makes the same.

    OUT/PICTURE/00000120.png      .exr: scene-linear; PICTURE is the tile, the surface, `view`, `through` or `film`
"""

from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np

from ledvolume import contact_sheet, lens_check, patterns
from ledvolume.camera import Lens
from ledvolume.colour import code_values
from ledvolume.config import Show, read_show
from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import FrameRequest, pattern_of
from ledvolume.outputs.exr import light_exr, request_attributes
from ledvolume.outputs.images import file_name, png
from ledvolume.outputs.pixels import PixelFormat, rgb10_packed
from ledvolume.outputs.whole_file import write_whole
from ledvolume.outputs.wire import crc32
from ledvolume.render.renderer import BITS, OUTER_STEPS_MOST, QUALITIES
from ledvolume.server import open_renderer
from ledvolume.stage import Stage

What = Literal["tiles", "walls", "view", "through", "film"]
Format = Literal["png", "exr", "none"]

VIEW_WIDTH_PX = 1920


class RenderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A job: which show, what of it, and where to.

    show_toml, show_folder: the show file's text, and where the files that it names are relative to; show_files: those of them
    that come with the job (Show.files). show_name: what errors call the show. instead: keys of its top level with other
    values (rate, pixel_format). scenes: place → other scene file.
    what: tiles, whole walls (surfaces), the camera's own view of the place with no wall between, the wall seen through the
    lens, or a film frame: the wall as sent, and seen through the lens beside it.
    format: png holds code values as they go to the wall, exr scene-linear light; none writes nothing, for the hashes.
    view_px: width, height of view and through; default: 1920 wide, as the sensor is.
    quality: instead of the requests' own; with "final" the picture outside the footprint is refined to the end, too.
    """

    show_toml: bytes
    show_folder: str
    show_files: dict[str, bytes] = {}
    out: str
    what: What = "tiles"
    format: Format = "png"
    instead: dict = {}
    scenes: dict[str, str] = {}
    view_px: tuple[int, int] | None = None
    quality: str = ""
    show_name: str = "show.toml"


class Rendered(msgspec.Struct, frozen=True):
    """A finished frame. tile_hashes: CRC-32 of the code values by tile, or of the picture where no tile was rendered.

    files: relative to the job's folder. bytes: of these files.
    """

    index: int
    tile_hashes: dict[str, int]
    files: list[str]
    bytes: int


class Pictures(msgspec.Struct, frozen=True):
    """What one request becomes: the wall's tiles, the pictures that are asked for as code values, and their light (for exr)."""

    tiles: dict[str, np.ndarray]
    shown: dict[str, np.ndarray]
    light: dict[str, np.ndarray]


class OfflineRenderer:
    """Loads the scenes and makes the OpenGL context once; then renders requests of the show, in any order."""

    def __init__(self, spec: RenderSpec):
        self.spec, self.out = spec, Path(spec.out)
        self.show = show_of(spec)
        if spec.format == "exr" and spec.what == "film":
            raise OutputError(f"{spec.out}: a film frame is display-encoded, for looking at: expected format png, got exr")
        for tile in self.show.stage.tiles:
            file_name(tile.name)
        self.renderer = open_renderer(self.show)

    def render(self, request: FrameRequest) -> Rendered:
        """Renders, writes, answers. Raises ConfigError for a place or quality that is not there, OutputError for a file that
        cannot be written; what was written before stays."""
        request = self._as_asked(request)
        pictures = self._pictures(request)
        files, size = [], 0
        for name, image in pictures.shown.items() if self.spec.format != "none" else ():
            file = f"{file_name(name)}/{request.index:08d}.{self.spec.format}"
            if self.spec.format == "exr":
                data = light_exr(pictures.light[name], self._attributes(request, name))
            else:
                data = png(image)
            size += write_whole(self.out / file, data)
            files.append(file)
        hashes = {name: crc32(np.ascontiguousarray(image)) for name, image in (pictures.tiles or pictures.shown).items()}
        return Rendered(request.index, hashes, files, size)

    def close(self) -> None:
        self.renderer.context.release()

    def __enter__(self) -> "OfflineRenderer":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _as_asked(self, request: FrameRequest) -> FrameRequest:
        """The request in the job's quality, checked against the show."""
        if self.spec.quality:
            outer_steps = OUTER_STEPS_MOST if self.spec.quality == "final" else request.outer_steps
            request = msgspec.structs.replace(request, quality=self.spec.quality, outer_steps=outer_steps)
        if request.scene not in self.show.places:
            raise ConfigError(
                self.show.file, "place", f"one named {request.scene}, as in frame {request.index}", [*self.show.places]
            )
        if request.quality not in QUALITIES:
            raise ConfigError(self.show.file, "quality", f"one of {', '.join(QUALITIES)}", request.quality)
        if (pattern := pattern_of(request)) is not None:
            patterns.check(pattern)
        return request

    def _pictures(self, request: FrameRequest) -> Pictures:
        what, stage, camera = self.spec.what, self.show.stage, request.camera
        size_px, quality = self.spec.view_px or view_size(camera.lens), QUALITIES[request.quality]
        if what == "view":
            light = self.renderer.view(request.scene, camera, size_px, quality.inner_across, quality, is_bent=True)
            return Pictures({}, {"view": encoded(light, self.show.pixel_format)}, {"view": light})
        frame = self.renderer.render(request)
        if what == "film":
            return Pictures(frame.images, {"film": contact_sheet.through_the_lens(self.show, frame, self._credit(request))}, {})
        if what == "through":
            light, _, _ = lens_check.rephotograph(stage, frame.images, camera, size_px, quality.inner_across, is_bent=True)
            return Pictures(frame.images, {"through": encoded(light, self.show.pixel_format)}, {"through": light})
        light = self.renderer.light(request) if self.spec.format == "exr" else {}
        if what == "walls":
            return Pictures(frame.images, whole_surfaces(stage, frame.images), whole_surfaces(stage, light))
        return Pictures(frame.images, frame.images, light)

    def _attributes(self, request: FrameRequest, picture: str) -> dict[str, object]:
        attributes = request_attributes(request, self.show.rate, picture)
        if self.spec.what in ("view", "through"):
            width_px, height_px = self.spec.view_px or view_size(request.camera.lens)
            width_mm, height_mm = request.camera.lens.sensor_mm
            attributes["pixelAspectRatio"] = (width_mm / width_px) / (height_mm / height_px)
        if credit := self._credit(request):
            attributes["ledvolume/credit"] = credit
        return attributes

    def _credit(self, request: FrameRequest) -> str:
        return self.show.places[request.scene].credit or self.renderer.places[request.scene].scene.header.credit


def show_of(spec: RenderSpec) -> Show:
    """The show that a job renders. Raises ConfigError."""
    for key, kind in (("what", What), ("format", Format)):
        if getattr(spec, key) not in get_args(kind):
            raise ConfigError(spec.show_name, key, f"one of {', '.join(get_args(kind))}", getattr(spec, key))
    if spec.quality and spec.quality not in QUALITIES:
        raise ConfigError(spec.show_name, "quality", f"one of {', '.join(QUALITIES)}", spec.quality)
    show = read_show(Path(spec.show_folder) / spec.show_name, spec.show_toml, spec.show_files, **spec.instead)
    if missing := spec.scenes.keys() - show.places.keys():
        raise ConfigError(show.file, "scene", f"places of the show, {', '.join(show.places)}", sorted(missing))
    places = {
        name: msgspec.structs.replace(place, file=Path(spec.show_folder) / spec.scenes.get(name, place.file))
        for name, place in show.places.items()
    }
    return msgspec.structs.replace(show, places=places)


def view_size(lens: Lens) -> tuple[int, int]:
    """Width and height of a camera's picture, both even: videos need that."""
    width_mm, height_mm = lens.sensor_mm
    return VIEW_WIDTH_PX, max(2, 2 * round(VIEW_WIDTH_PX * height_mm / width_mm / 2))


def whole_surfaces(stage: Stage, tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tiles put together: surface name → (H, W, …), of whatever the tiles are. None from none."""
    walls = {}
    for tile in stage.tiles if tiles else ():
        (x, y), (w, h), (width, height) = tile.offset_px, tile.resolution_px, tile.surface.resolution_px
        image = tiles[tile.name]
        if tile.surface.name not in walls:
            walls[tile.surface.name] = np.zeros((height, width, *image.shape[2:]), image.dtype)
        walls[tile.surface.name][y : y + h, x : x + w] = image
    return walls


def encoded(light: np.ndarray, pixel_format: PixelFormat) -> np.ndarray:
    """Scene-linear light as code values of a format, as the wall's pass 2 makes them."""
    codes = code_values(light, BITS[pixel_format])
    if pixel_format == "rgb10":
        return rgb10_packed(codes)
    return codes.astype(np.uint8 if pixel_format == "rgb8" else np.uint16)
