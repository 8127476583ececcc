"""What the server decides (FrameRequest) and what comes of it (Frame).

A frame is a pure function of its request: whoever holds the request, the show and the scene can make the frame again.
"""

import msgspec
import numpy as np

from ledvolume.camera import Camera

PATTERN_CUE = "pattern:"


class FrameRequest(msgspec.Struct, frozen=True):
    """One frame to be shown at `present_at_ns` (house clock). Serialisable: recorded, and sent to other nodes.

    decided_at_ns: when the camera was chosen, for measuring; it never changes a pixel.
    scene: name of a scene of the show. quality: name of a quality of the renderer.
    outer_steps: how far the picture outside the footprint is refined (renderer.REFINEMENT_CLASSES steps = one sample of
    every LED pixel); the server raises it when there is time.
    cue: "show", or "pattern:NAME": a coded picture for calibration instead of the scene (patterns.py).
    overscan: what this frame's footprint needs, in half views (coverage.py); the show's own overscan is the least.
    timecode: HH:MM:SS:FF of the camera's samples, ; before the frames where they drop; "" if they had none.
    """

    index: int
    present_at_ns: int
    decided_at_ns: int
    camera: Camera
    scene: str
    cue: str = "show"
    quality: str = "show"
    outer_steps: int = 16
    overscan: float = 1.0
    timecode: str = ""


def pattern_of(request: FrameRequest) -> str | None:
    """The name of the pattern that is on the wall instead of the show, if one is."""
    return request.cue.removeprefix(PATTERN_CUE) if request.cue.startswith(PATTERN_CUE) else None


class Frame(msgspec.Struct, frozen=True):
    """The images of one request. tile name → (H, W, 3) uint8 or uint16 code values, row 0 at the top.

    universes: DMX universe → its 512 slots, what the stage's light fixtures are told (fixtures.py).
    """

    request: FrameRequest
    images: dict[str, np.ndarray]
    universes: dict[int, bytes] = {}
