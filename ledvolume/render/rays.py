"""Any rays through a baked place, without a stage: for verifying a bake and for pictures of it."""

import moderngl
import numpy as np

from ledvolume.render import brick_field
from ledvolume.render.brick_field import BrickField
from ledvolume.render.context import compute_shader
from ledvolume.render.renderer import QUALITIES, Quality, see_field
from ledvolume.scenes.bricks import Bricks


class RayViewer:
    """One scene; `see` marches rays of the field's own frame. near_field: nothing nearer to an eye is seen."""

    def __init__(self, context: moderngl.Context, scene: Bricks, near_field: float = 0.0):
        self.context, self.centre = context, np.asarray(scene.header.centre)
        self.field = BrickField(context, scene, near_field)
        self.program = compute_shader(context, (*brick_field.SHADERS, "rays"), brick_field.constants(scene.has_gradients))

    def see(
        self, origins: np.ndarray, directions: np.ndarray, spreads: np.ndarray, quality: Quality = QUALITIES["show"]
    ) -> np.ndarray:
        """origins (n, 3), unit directions (n, 3), spreads (n,): colours (n, 3) as composited, display-encoded."""
        rays = np.zeros((len(directions), 8), "<f4")
        rays[:, :3], rays[:, 3], rays[:, 4:7] = origins - self.centre, spreads, directions
        return see_field(self.context, self.program, self.field, rays, quality)[:, :3]

    def release(self) -> None:
        self.field.release()
