"""Any rays through a baked place, without a stage: for verifying a bake and for pictures of it."""

import moderngl
import numpy as np

from ledvolume.render import brick_field
from ledvolume.render.brick_field import BrickField
from ledvolume.render.context import compute_shader
from ledvolume.render.renderer import QUALITIES, Quality, see_field
from ledvolume.scenes.bricks import Bricks


class RayViewer:
    """One scene; `see` marches rays of the field's own frame."""

    def __init__(self, context: moderngl.Context, scene: Bricks):
        self.context, self.centre = context, np.asarray(scene.header.centre)
        self.field = BrickField(context, scene)
        self.program = compute_shader(context, (*brick_field.SHADERS, "rays"), brick_field.constants(scene.has_gradients))

    def see(
        self, origins: np.ndarray, directions: np.ndarray, spreads: np.ndarray, quality: Quality = QUALITIES["show"]
    ) -> np.ndarray:
        """origins (n, 3), unit directions (n, 3), spreads (n,): colours (n, 3) as composited, display-encoded."""
        return self._march(origins, directions, spreads, quality)[:, :3]

    def depths(self, origins: np.ndarray, directions: np.ndarray, spreads: np.ndarray) -> np.ndarray:
        """Of the same rays: where half of the light is stopped (n,), field units; -1 where nothing stops that much."""
        return self._march(origins, directions, spreads, QUALITIES["show"])[:, 3]

    def _march(self, origins: np.ndarray, directions: np.ndarray, spreads: np.ndarray, quality: Quality) -> np.ndarray:
        rays = np.zeros((len(directions), 8), "<f4")
        rays[:, :3], rays[:, 3], rays[:, 4:7] = origins - self.centre, spreads, directions
        return see_field(self.context, self.program, self.field, rays, quality)

    def release(self) -> None:
        self.field.release()
