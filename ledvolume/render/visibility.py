"""What rays pass and what gives them light, voxel by voxel: lets a bake keep only what is seen. Millions of rays, on the GPU."""

import moderngl
import numpy as np

from ledvolume.render import brick_field
from ledvolume.render.brick_field import BrickField
from ledvolume.render.context import compute_shader
from ledvolume.scenes.bricks import VOXELS, Bricks

PASSED_LIGHT = 0.004
LIT_WEIGHT = 0.001


class Visibility:
    """Marks of one scene. `look` as often as there are rays, then read `marks`."""

    def __init__(self, context: moderngl.Context, scene: Bricks):
        constants = brick_field.constants(has_gradients=False) | {"PASSED_LIGHT": PASSED_LIGHT, "LIT_WEIGHT": LIT_WEIGHT}
        self.context, self.scene = context, scene
        self.program = compute_shader(context, ("visit_marks", "field_bricks", "visibility"), constants)
        self.field = BrickField(context, scene)
        self.field.set_uniforms(self.program, step_voxels=1.0, pixels_per_voxel=0.01)
        self.passed = context.buffer(bytes(64 * len(scene.bricks)))
        self.lit = context.buffer(bytes(64 * len(scene.bricks)))

    def look(self, origins: np.ndarray, directions: np.ndarray, spreads: np.ndarray) -> None:
        """origins (n, 3) in field units, unit directions (n, 3), spreads (n,)."""
        rays = np.zeros((len(origins), 8), "<f4")
        rays[:, :3], rays[:, 3], rays[:, 4:7] = origins - np.asarray(self.scene.header.centre), spreads, directions
        buffer = self.context.buffer(rays.tobytes())
        self.program["ray_count"] = len(rays)
        self.field.bind()
        buffer.bind_to_storage_buffer(0)
        self.passed.bind_to_storage_buffer(1)
        self.lit.bind_to_storage_buffer(2)
        groups = -(-len(rays) // 64)
        self.program.run(min(groups, 32768), -(-groups // 32768))
        self.context.finish()
        buffer.release()

    def marks(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels passed and voxels lit, (b, 8, 8, 8) bool, axes z y x."""
        return tuple(
            np.unpackbits(np.frombuffer(buffer.read(), np.uint8), bitorder="little")
            .reshape(-1, VOXELS, VOXELS, VOXELS)
            .astype(bool)
            for buffer in (self.passed, self.lit)
        )

    def release(self) -> None:
        self.field.release()
        self.passed.release()
        self.lit.release()
