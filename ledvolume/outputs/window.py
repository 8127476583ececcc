"""Pictures in a desktop window, side by side, for looking at tiles. Needs glfw and a display; calls OpenGL.

A preview: eight bits, no vertical sync with other walls.
"""

from pathlib import Path

import numpy as np

from ledvolume.errors import OutputError
from ledvolume.outputs.pixels import eight_bit

SHADERS = Path(__file__).parent


class Window:
    """Opens at once; `is_closed` when its user has closed it."""

    def __init__(self, title: str, size_px: tuple[int, int] = (1280, 480)):
        try:
            import glfw
        except ImportError as error:
            raise OutputError("a window needs the package glfw: pip install glfw") from error
        import moderngl

        if not glfw.init():
            raise OutputError("no window: glfw found no display. Is DISPLAY or WAYLAND_DISPLAY set?")
        for hint, value in (
            (glfw.CONTEXT_VERSION_MAJOR, 3),
            (glfw.CONTEXT_VERSION_MINOR, 3),
            (glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE),
            (glfw.OPENGL_FORWARD_COMPAT, True),
        ):
            glfw.window_hint(hint, value)
        self._glfw, self._window = glfw, glfw.create_window(*size_px, title, None, None)
        if not self._window:
            glfw.terminate()
            raise OutputError("no window: the display gave no OpenGL 3.3")
        glfw.make_context_current(self._window)
        glfw.swap_interval(0)
        self._context = moderngl.create_context()
        sources = {f"{stage}_shader": (SHADERS / f"window.{stage[:4]}").read_text() for stage in ("vertex", "fragment")}
        self._triangle = self._context.vertex_array(self._context.program(**sources), [])
        self._textures: list = []

    @property
    def is_closed(self) -> bool:
        self._glfw.poll_events()
        return bool(self._glfw.window_should_close(self._window))

    def show(self, images: list[np.ndarray]) -> None:
        """images: in any pixel format; one height for all, widths as their shapes have it, as large as fits."""
        width, height = self._glfw.get_framebuffer_size(self._window)
        aspects = [image.shape[1] / image.shape[0] for image in images]
        scale = min(width / sum(aspects), height) if images else 0
        self._context.screen.use()
        self._context.viewport = (0, 0, width, height)
        self._context.clear()
        x = (width - scale * sum(aspects)) / 2
        for i, (image, aspect) in enumerate(zip(images, aspects)):
            self._texture(i, image.shape).write(np.ascontiguousarray(eight_bit(image)))
            self._textures[i].use(0)
            right = x + scale * aspect
            self._context.viewport = (round(x), round((height - scale) / 2), round(right) - round(x), round(scale))
            self._triangle.render(vertices=3)
            x = right
        self._glfw.swap_buffers(self._window)

    def close(self) -> None:
        self._glfw.terminate()

    def _texture(self, i: int, shape: tuple[int, ...]):
        size = (shape[1], shape[0])
        if i == len(self._textures):
            self._textures.append(self._context.texture(size, 3, alignment=1))
        if self._textures[i].size != size:
            self._textures[i].release()
            self._textures[i] = self._context.texture(size, 3, alignment=1)
        return self._textures[i]
