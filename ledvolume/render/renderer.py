"""FrameRequest → Frame. Two dispatches a frame, whatever the number and shape of the tiles.

    wall     every LED pixel: footprint? eye, ray, march; the outer picture is kept per LED pixel     → radiance
    encode   exposure, transfer function, packing                                                    → code values

then one read-back into a fresh host buffer, of which every tile's image is a view: outputs may keep it as long as they
like. `light` reads back what lies between the two, for files that are graded later. The frame is a function of the request
alone: what is kept between frames (the outer picture) is brought to exactly the state the request names. A request whose
cue is a pattern is no scene at all (pattern_images.py).
"""

import moderngl
import msgspec
import numpy as np

from ledvolume.camera import Camera, view_tangents
from ledvolume.colour import linear_from_srgb
from ledvolume.errors import RenderError
from ledvolume.fixtures import Fixture, rays, universes
from ledvolume.frame import Frame, FrameRequest, pattern_of
from ledvolume.frustum import Footprint, view_directions
from ledvolume.patterns import draw
from ledvolume.pose import Similarity
from ledvolume.render import brick_field
from ledvolume.render.brick_field import BrickField
from ledvolume.render.context import compute_shader
from ledvolume.render.pattern_images import PatternImages
from ledvolume.scenes.bricks import Bricks
from ledvolume.stage import PositionMap, Stage, Surface, WallTile

BLOCK = 8
OUTER_ACROSS = 3
REFINEMENT_CLASSES = 16
OUTER_STEPS_MOST = REFINEMENT_CLASSES * OUTER_ACROSS**2
BITS = {"rgb8": 8, "rgb10": 10, "rgb16": 16}
BYTES_PER_PIXEL = {"rgb8": 3, "rgb10": 4, "rgb16": 6}
LAYOUT = {"rgb8": ("u1", 3), "rgb10": ("<u4", 0), "rgb16": ("<u2", 3)}
RAYS_AT_ONCE = 1 << 20  # of `view`: 64 MB, and no dispatch that a driver takes for hung
OUTER = {"REFINEMENT_CLASSES": REFINEMENT_CLASSES, "OUTER_ACROSS": OUTER_ACROSS}


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """inner_across: samples per LED pixel and axis in the footprint. pixels_per_voxel: coarsest brick used, in footprint
    radii per voxel. step_voxels: march step; on the door of Lund steps of 0.5, 1, 1.5 and 2 voxels come within 75, 64, 58
    and 52 dB of ever shorter ones, and 1.5 draws a fifth faster than 1."""

    inner_across: int = 1
    step_voxels: float = 1.5
    pixels_per_voxel: float = 1.5


QUALITIES = {"show": Quality(), "final": Quality(inner_across=3, step_voxels=0.5)}


class Place(msgspec.Struct, frozen=True):
    """A scene on the stage. near_m: nothing nearer to the eye is drawn. exposure: factor on linear light."""

    scene: Bricks
    field_from_stage: Similarity
    near_m: float = 0.0
    exposure: float = 1.0


def tile_words(tile: WallTile, first_pixel: int, first_corner: int = 0) -> bytes:
    """One `Tile` of tiles.glsl, std430. first_corner: of its surface's map, in the corners of all."""
    surface = tile.surface
    rows = surface.stage_from_surface.matrix()[:3].astype("<f4")
    numbers = np.array([*surface.size_m, surface.curvature_per_m, surface.pitch_m], "<f4")
    grid = np.array([*surface.resolution_px, *tile.offset_px, *tile.resolution_px, first_pixel, 0], "<u4")
    cells = (surface.shape.columns, surface.shape.rows) if isinstance(surface.shape, PositionMap) else (0, 0)
    return rows.tobytes() + numbers.tobytes() + grid.tobytes() + np.array([*cells, first_corner, 0], "<u4").tobytes()


def corner_words(surface: Surface) -> bytes:
    """The corners of a surface's map as tiles.glsl reads them; none of another shape."""
    if not isinstance(surface.shape, PositionMap):
        return b""
    return np.pad(surface.shape.corners_m.reshape(-1, 3).astype("<f4"), ((0, 0), (0, 1))).tobytes()


class Renderer:
    """One stage and its places on one GPU. `render` is what the server calls; `light` and `view` are for files, `see` answers
    any rays."""

    def __init__(
        self,
        context: moderngl.Context,
        stage: Stage,
        places: dict[str, Place],
        footprint: Footprint = Footprint(),
        pixel_format: str = "rgb8",
        fixtures: tuple[Fixture, ...] = (),
    ):
        self.context, self.stage, self.footprint, self.pixel_format = context, stage, footprint, pixel_format
        self.places = places
        self.patterns = PatternImages(stage, pixel_format, BITS[pixel_format])
        self.fields = {
            name: BrickField(context, place.scene, place.near_m * place.field_from_stage.scale) for name, place in places.items()
        }
        names = ("transfer", "tiles", "footprint", *brick_field.SHADERS, "wall")
        constants = brick_field.constants(any(place.scene.has_gradients for place in places.values()))
        self.wall = compute_shader(context, names, constants | OUTER)
        self.encode = compute_shader(context, ("transfer", "encode"), {})
        self.rays = compute_shader(context, (*brick_field.SHADERS, "rays"), constants)
        self.dispatches = 0
        self._put_up: tuple[str, str] | None = None
        self._outer_steps = 0
        self._lit: FrameRequest | None = None
        self._lay_out()
        # The subject does not move, nor does the place: what fixtures are told is known before the first frame.
        self.universes = {name: universes(fixtures, self.fixture_light(name, fixtures)) for name in places}
        self.dark_universes = universes(fixtures, {})

    def _lay_out(self) -> None:
        tiles, blocks, first, spans = [], [], 0, []
        corners, first_corner = bytearray(), {}
        for surface in self.stage.surfaces:
            first_corner[surface.name] = len(corners) // 16
            corners += corner_words(surface)
        self.dtype, channels = LAYOUT[self.pixel_format]
        for number, tile in enumerate(self.stage.tiles):
            width, height = tile.resolution_px
            tiles.append(tile_words(tile, first, first_corner[tile.surface.name]))
            across, down = -(-width // BLOCK), -(-height // BLOCK)
            columns, rows = np.meshgrid(np.arange(across, dtype="<u4"), np.arange(down, dtype="<u4"))
            places = columns.ravel() | rows.ravel() << 16
            blocks.append(np.stack([np.full_like(places, number), places], -1))
            shape = (height, width, channels) if channels else (height, width)
            spans.append((tile.name, shape, first * BYTES_PER_PIXEL[self.pixel_format]))
            first += padded(width * height)
        self.pixels = first
        limit = self.context.info["GL_MAX_SHADER_STORAGE_BLOCK_SIZE"] // 16
        if 0 < limit < first:  # below 0: more than 31 bits can say
            raise RenderError(
                f"a wall of {first:,} LED pixels, {self.context.info['GL_RENDERER']} takes {limit:,}: a larger GPU, "
                "or fewer surfaces in the show of this machine"
            )
        table = np.concatenate(blocks)
        self.block_count = len(table)
        self._wall_groups = (min(self.block_count, 32768), -(-self.block_count // 32768))
        self.group_count = first // 4
        work = -(-self.group_count // 64)
        self._encode_groups = (min(work, 32768), -(-work // 32768))
        self.tile_buffer = self.context.buffer(b"".join(tiles))
        self.block_buffer = self.context.buffer(table.tobytes())
        self.corner_buffer = self.context.buffer(bytes(corners) or bytes(16))
        self.outer = self.context.buffer(bytes(16 * first))
        self.radiance = self.context.buffer(reserve=16 * first)
        self.codes = self.context.buffer(reserve=BYTES_PER_PIXEL[self.pixel_format] * first)
        self.spans = spans
        self.wall["block_count"] = self.block_count
        self.encode["group_count"] = self.group_count
        self.encode["bits"] = BITS[self.pixel_format]

    def _put(self, name: str, quality_name: str) -> None:
        """Set what a place and a quality fix in the wall's program; anything kept of another one is forgotten."""
        if self._put_up == (name, quality_name):
            return
        place, field, quality = self.places[name], self.fields[name], QUALITIES[quality_name]
        field.set_uniforms(self.wall, quality.step_voxels, quality.pixels_per_voxel)
        self.wall["inner_across"] = quality.inner_across
        self.wall["field_rotation"] = column_major(place.field_from_stage.pose.matrix()[:3, :3])
        self.wall["field_scale"] = place.field_from_stage.scale
        self.wall["field_offset"] = tuple(field.offset(place.field_from_stage))
        self.wall["outer_eye_m"] = self.stage.eye_m
        self.wall["feather"] = self.footprint.feather
        self.encode["exposure"] = place.exposure
        self._forget_outer()
        self._put_up = (name, quality_name)

    def _forget_outer(self) -> None:
        self.outer.clear()
        self._outer_steps = 0

    def render(self, request: FrameRequest) -> Frame:
        """Raises KeyError for a scene or quality that the show does not have (the server checks requests it takes), and
        ConfigError for a pattern that cannot be drawn."""
        if pattern_of(request) is not None:
            return msgspec.structs.replace(self.patterns.frame(request), universes=self.dark_universes)
        self._light_up(request)
        self.codes.bind_to_storage_buffer(5)
        self.encode.run(*self._encode_groups)
        self.context.memory_barrier()
        self.dispatches += 1
        buffer = np.empty(self.codes.size, np.uint8)
        self.codes.read_into(buffer)
        images = {name: np.ndarray(shape, self.dtype, buffer, offset) for name, shape, offset in self.spans}
        return Frame(request, images, self.universes[request.scene])

    def light(self, request: FrameRequest) -> dict[str, np.ndarray]:
        """Scene-linear light by tile, (H, W, 3) float32, exposure applied: what `render` encodes, before it is cut off at 1.

        Of the request that was rendered last it costs the read-back alone. Of a pattern: the light that its codes stand for.
        """
        if (name := pattern_of(request)) is not None:
            return {tile.name: linear_from_srgb(draw(tile, name)) for tile in self.stage.tiles}
        if request != self._lit:
            self._light_up(request)
        buffer = np.empty((self.pixels, 4), "<f4")
        self.radiance.read_into(buffer)
        exposure, first, tiles = np.float32(self.places[request.scene].exposure), 0, {}
        for tile in self.stage.tiles:
            width, height = tile.resolution_px
            tiles[tile.name] = buffer[first : first + width * height, :3].reshape(height, width, 3) * exposure
            first += padded(width * height)
        return tiles

    def _light_up(self, request: FrameRequest) -> None:
        """The wall's pass: the radiance of a request is in its buffer, bound as the encoder reads it."""
        self._lit = None
        self._put(request.scene, request.quality)
        if request.outer_steps < self._outer_steps:
            self._forget_outer()
        camera = request.camera
        self.wall["camera_from_stage"] = column_major(camera.stage_from_camera.matrix()[:3, :3].T)
        self.wall["pupil_m"] = camera.stage_from_camera.position_m
        self.wall["view_tangents"] = view_tangents(camera.lens)
        self.wall["overscan"] = max(self.footprint.overscan, request.overscan)
        self.wall["presence"] = camera.presence
        self.wall["outer_steps"] = self._outer_steps = request.outer_steps
        self.fields[request.scene].bind()
        self.tile_buffer.bind_to_storage_buffer(0)
        self.block_buffer.bind_to_storage_buffer(1)
        self.corner_buffer.bind_to_storage_buffer(6)
        self.outer.bind_to_storage_buffer(2)
        self.radiance.bind_to_storage_buffer(3)
        self.wall.run(*self._wall_groups)
        self.context.memory_barrier()
        self.dispatches += 1
        self._lit = request

    def see(
        self,
        scene: str,
        origins_m: np.ndarray,
        directions: np.ndarray,
        spread: float | np.ndarray,
        quality: Quality = QUALITIES["show"],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any rays of the stage: colours (n, 3) as composited (display-encoded), depths (n,) m, -1 where nothing was met.

        origins_m (n, 3) or (3,), directions (n, 3) unit, spread: footprint radius per metre of distance.
        """
        place, field = self.places[scene], self.fields[scene]
        rotation, scale = place.field_from_stage.pose.matrix()[:3, :3], place.field_from_stage.scale
        count = len(directions)
        rays = np.zeros((count, 8), "<f4")
        rays[:, :3] = scale * np.asarray(origins_m) @ rotation.T + field.offset(place.field_from_stage)
        rays[:, 3] = spread
        rays[:, 4:7] = directions @ rotation.T
        seen = see_field(self.context, self.rays, field, rays, quality)
        return seen[:, :3], np.where(seen[:, 3] < 0, -1, seen[:, 3] / scale)

    def fixture_light(self, scene: str, fixtures: tuple[Fixture, ...]) -> dict[str, np.ndarray]:
        """The place's light that comes from where each fixture is: (pixels, 3) by name, scene-linear, exposure applied."""
        found = {}
        for fixture in fixtures:
            directions, spreads, weights = rays(fixture)
            seen, _ = self.see(scene, fixture.subject_m, directions.reshape(-1, 3), spreads.ravel())
            light = linear_from_srgb(seen.clip(0, 1)).reshape(directions.shape) * self.places[scene].exposure
            found[fixture.name] = (light * weights[..., None]).sum(1)
        return found

    def view(
        self,
        scene: str,
        camera: Camera,
        resolution_px: tuple[int, int],
        across: int = 1,
        quality: Quality = QUALITIES["show"],
        is_bent: bool = False,
    ) -> np.ndarray:
        """What the camera would see of the place without a wall: (H, W, 3) float32, scene-linear. across² samples a pixel.

        is_bent: as the lens bends it. What no ray of the lens comes to is black.
        """
        width, height = resolution_px
        left, right = view_tangents(camera.lens)[:2]
        spread = 0.5 * (right - left) / width
        fine_px, band = (width * across, height * across), max(1, RAYS_AT_ONCE // (width * across**2))
        picture = np.empty((height, width, 3), np.float32)
        for top in range(0, height, band):
            bottom = min(top + band, height)
            directions = view_directions(camera, fine_px, is_bent, slice(top * across, bottom * across)).reshape(-1, 3)
            is_ray = np.isfinite(directions).all(-1)
            seen, _ = self.see(scene, camera.stage_from_camera.position_m, directions[is_ray], spread, quality)
            linear = np.zeros((len(directions), 3), np.float32)
            linear[is_ray] = linear_from_srgb(seen.clip(0, 1)) * self.places[scene].exposure
            picture[top:bottom] = linear.reshape(bottom - top, across, width, across, 3).mean((1, 3))
        return picture


def see_field(
    context: moderngl.Context, program: moderngl.ComputeShader, field: BrickField, rays: np.ndarray, quality: Quality
) -> np.ndarray:
    """March rays (n, 8) float32 [origin, spread, direction, 0] in field units: (n, 4) float32 [rgb, depth]."""
    field.set_uniforms(program, quality.step_voxels, quality.pixels_per_voxel)
    program["ray_count"] = len(rays)
    given, seen = context.buffer(rays.tobytes()), context.buffer(reserve=16 * len(rays))
    field.bind()
    given.bind_to_storage_buffer(0)
    seen.bind_to_storage_buffer(3)
    groups = -(-len(rays) // 64)
    program.run(min(groups, 32768), -(-groups // 32768))
    context.memory_barrier()
    result = np.frombuffer(seen.read(), "<f4").reshape(-1, 4)
    given.release()
    seen.release()
    return result


def padded(pixels: int) -> int:
    return -(-pixels // 4) * 4


def column_major(matrix: np.ndarray) -> tuple[float, ...]:
    return tuple(matrix.T.ravel().tolist())
