"""An OpenGL context without a window, and shader programs put together from files."""

import os
from importlib.resources import files

import moderngl

from ledvolume.errors import RenderError

VERSION = 430
Context = moderngl.Context


def create_context() -> moderngl.Context:
    """A standalone EGL context: the GPU where there is one, else Mesa's llvmpipe. Raises RenderError with what to install.

    llvmpipe filters 8-bit textures with 8-bit arithmetic unless told otherwise, two code values off: not for a wall.
    """
    os.environ.setdefault("GALLIVM_PERF", "no_aos_sampling")
    try:
        context = moderngl.create_context(standalone=True, backend="egl", require=VERSION)
    except Exception as error:
        raise RenderError(
            f"no OpenGL {VERSION / 100:.1f} through EGL ({error}). Install a GPU driver with EGL, or Mesa's software "
            "renderer: libegl1 libgl1 libgl1-mesa-dri (Debian, Ubuntu)"
        ) from error
    return context


def compute_shader(
    context: moderngl.Context, names: tuple[str, ...], constants: dict[str, object], main: str = ""
) -> moderngl.ComputeShader:
    """Compile render/shaders/NAME.glsl, one after the other, behind `#define`s of the constants.

    main: source that goes last, where the files are functions only. Raises RenderError with the driver's words.
    """
    defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    parts = [f"#line 1 {i}\n" + (files(__package__) / "shaders" / f"{name}.glsl").read_text() for i, name in enumerate(names)]
    try:
        return context.compute_shader(f"#version {VERSION} core\n{defines}" + "".join(parts) + main)
    except moderngl.Error as error:
        numbered = ", ".join(f"{i} = {name}.glsl" for i, name in enumerate(names))
        raise RenderError(f"shader does not compile ({numbered}): {error}") from error
