"""Scene kind `bricks` on the GPU: its tables as textures and a buffer, for shaders/field_bricks.glsl."""

import math

import moderngl
import numpy as np

from ledvolume.errors import RenderError
from ledvolume.pose import Similarity
from ledvolume.scenes import bricks as scene_bricks
from ledvolume.scenes.bricks import Bricks

SHADERS = ("visit_nothing", "field_bricks")
CONSTANTS = {
    "GRID": scene_bricks.GRID,
    "VOXELS": scene_bricks.VOXELS,
    "CORNERS": scene_bricks.CORNERS,
    "COARSE_CORNERS": scene_bricks.COARSE_CORNERS,
    "EMPTY": f"0x{scene_bricks.EMPTY:x}u",
    "TAU": repr(math.tau),
    "LOG2_E": repr(math.log2(math.e)),
    "MAX_PASSES": 1024,
    "MIN_TRANSMITTANCE": 0.002,
    "MIN_GRADIENT_WEIGHT": 0.004,
    "CELL_EPSILON": 1e-4,
    "STEP_STRETCH": 1.001,  # a straight way through a brick is 8 steps long, give or take rounding: never 9
}


def constants(has_gradients: bool) -> dict[str, object]:
    """What the shaders are compiled with; a program with gradients draws scenes without them too."""
    return CONSTANTS | {"HAS_GRADIENTS": str(has_gradients).lower()}


def skip_table(scene: Bricks) -> np.ndarray:
    """(cascades · GRID, GRID, GRID) uint8: 0 for top cells that hold something, 1 + skip distance for the others."""
    grid = scene_bricks.GRID
    words = scene.nodes[: scene.header.cascades * grid**3, 0]
    skips = np.where(words >= scene_bricks.EMPTY, words - scene_bricks.EMPTY + 1, 0)
    return skips.astype(np.uint8).reshape(-1, grid, grid)


def atlas(values: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """(b, d, h, w, 4) bricks side by side: ((nz·d, ny·h, nx·w, 4), (nx, ny, nz)), as near a cube as can be."""
    count, depth, height, width, channels = values.shape
    nx = ny = max(1, math.ceil(count ** (1 / 3)))
    nz = max(1, math.ceil(count / (nx * ny)))
    padded = np.zeros((nz * ny * nx, depth, height, width, channels), values.dtype)
    padded[:count] = values
    grid = padded.reshape(nz, ny, nx, depth, height, width, channels).transpose(0, 3, 1, 4, 2, 5, 6)
    return np.ascontiguousarray(grid).reshape(nz * depth, ny * height, nx * width, channels), (nx, ny, nz)


class BrickField:
    """One scene in the memory of the GPU. `bind` before a dispatch; `uniforms` once per program."""

    def __init__(self, context: moderngl.Context, scene: Bricks, near_field: float = 0.0):
        self.header = scene.header
        self.near_field = near_field
        self.gradient_range = self.header.gradient_range if scene.has_gradients else 0.0
        values, self.bricks_across = atlas(scene.bricks)
        self.bricks = self._texture(context, values)
        if scene.has_gradients:
            alpha = np.zeros((*scene.gradients.shape[:-1], 1), np.uint8)
            stacked = np.concatenate([scene.gradients, alpha], -1).reshape(len(scene.gradients), -1, 5, 5, 4)
            self.gradients = self._texture(context, atlas(stacked)[0])
        else:
            self.gradients = self._texture(context, np.zeros((1, 1, 1, 4), np.uint8))
        height, width = scene.far.shape[:2]
        self.far = context.texture((width, height), 3, np.ascontiguousarray(scene.far, np.float32).tobytes(), dtype="f4")
        self.far.repeat_x, self.far.repeat_y = True, False
        skips = skip_table(scene)
        self.skips = context.texture3d(skips.shape[::-1], 1, skips.tobytes(), dtype="u1")
        self.skips.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self.nodes = context.buffer(np.ascontiguousarray(scene.nodes).tobytes())

    @staticmethod
    def _texture(context: moderngl.Context, values: np.ndarray) -> moderngl.Texture3D:
        depth, height, width = values.shape[:3]
        limit = context.info["GL_MAX_3D_TEXTURE_SIZE"]
        if max(depth, height, width) > limit:
            raise RenderError(
                f"scene needs a 3D texture of {width} × {height} × {depth}, this driver takes {limit}: bake it smaller (--size)"
            )
        texture = context.texture3d((width, height, depth), 4, values.tobytes(), dtype="f1")
        texture.repeat_x = texture.repeat_y = texture.repeat_z = False
        texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
        return texture

    def release(self) -> None:
        """Give the memory back at once; the garbage collector would later."""
        for held in (self.bricks, self.gradients, self.far, self.skips, self.nodes):
            held.release()

    def bind(self) -> None:
        self.bricks.use(0)
        self.gradients.use(1)
        self.far.use(2)
        self.skips.use(3)
        self.nodes.bind_to_storage_buffer(4)

    def set_uniforms(self, program: moderngl.ComputeShader, step_voxels: float, pixels_per_voxel: float) -> None:
        header = self.header
        values = {
            "half_size": header.half_size,
            "cascades": header.cascades,
            "log_density_range": header.log_density_range,
            "gradient_range": self.gradient_range,
            "bricks_across": self.bricks_across,
            "step_voxels": step_voxels,
            "pixels_per_voxel": pixels_per_voxel,
            "near_distance": self.near_field,
        }
        for name, value in values.items():
            if program.get(name, None) is not None:  # a pass that needs no colour has lost the uniforms of colour
                program[name] = value

    def offset(self, field_from_stage: Similarity) -> np.ndarray:
        """(3,) translation of field_from_stage relative to the cascades' centre."""
        return np.asarray(field_from_stage.pose.position_m) - np.asarray(self.header.centre)
