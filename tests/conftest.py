"""What every test run needs before its first test: an OpenGL that runs our shaders. Missing, the run fails; it never skips."""

import pytest

from ledvolume.errors import RenderError
from ledvolume.render.context import create_context


def pytest_sessionstart(session: pytest.Session) -> None:
    """Makes and drops one context without a window, and says what will render.

    It is made as the server makes its own: llvmpipe reads its settings once a process, when the first context is made.
    """
    try:
        context = create_context()
    except RenderError as error:
        pytest.exit(
            f"the tests run the real shaders: {error}\n"
            "script/bootstrap installs Mesa's software renderer (libegl1 libgl1 libgl1-mesa-dri) where there is no GPU.",
            returncode=1,
        )
    session.config.stash[RENDERER] = f"{context.info['GL_RENDERER']}, OpenGL {context.version_code / 100:.1f}"
    context.release()


def pytest_report_header(config: pytest.Config) -> str:
    return f"renderer: {config.stash.get(RENDERER, 'none')}"


@pytest.fixture(scope="module")
def context():
    """An OpenGL context for the tests of one module."""
    context = create_context()
    yield context
    context.release()


RENDERER = pytest.StashKey[str]()
