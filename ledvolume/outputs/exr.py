"""OpenEXR files: scene-linear light in half floats with what the camera was, in the standard's own attributes.

Names, units and axes are those of OpenEXR's "Standard Attributes" (3.2); what it has no name for is under `ledvolume/`.
docs/replay.md lists them all.
"""

import io
from fractions import Fraction
from math import ceil

import msgspec
import numpy as np

from ledvolume.camera import Camera
from ledvolume.errors import OutputError
from ledvolume.frame import FrameRequest
from ledvolume.timecode import timecode

REC709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)  # x, y of red, green, blue, white

# worldToCamera's camera: x right, y up, z forward, left-handed. Ours: x right, y forward, z up.
EXR_FROM_CAMERA = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])


def exr(channels: dict[str, np.ndarray], attributes: dict[str, object]) -> bytes:
    """An OpenEXR file, ZIP-compressed: {"RGB": (H, W, 3)} or a plane (H, W) by channel; float16 or float32."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **attributes}
    stream = io.BytesIO()
    OpenEXR.File(header, channels).write(stream)
    return stream.getvalue()


def light_exr(light: np.ndarray, attributes: dict[str, object]) -> bytes:
    """Scene-linear light (H, W, 3) with Rec. 709 primaries in half floats. Raises OutputError for what they cannot hold."""
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(light, np.float16)
    if not np.isfinite(half).all():
        raise OutputError(f"light up to {np.max(light):g} does not fit in half floats (65504): lower exposure_stops of the place")
    return exr({"RGB": half}, {"chromaticities": REC709, "colorInteropID": "lin_rec709_scene", **attributes})


def environment_exr(light: np.ndarray, attributes: dict[str, object], is_cube: bool = False) -> bytes:
    """An environment picture (environment.py). OpenEXR's own `envmap` says long/lat in these very directions; it has another
    way to lay out a cube, so cubes are not called one. Raises OutputError."""
    import OpenEXR

    kind = {} if is_cube else {"envmap": OpenEXR.ENVMAP_LATLONG}
    return light_exr(light, kind | attributes)


def camera_attributes(camera: Camera) -> dict[str, object]:
    """What is known of a camera and its lens."""
    lens = camera.lens
    dx, dy = lens.projection_offset_mm
    attributes = {
        "cameraLabel": camera.camera_id,
        "pinholeFocalLength": float(lens.focal_length_mm),
        "entrancePupilOffset": float(lens.entrance_pupil_m * 1000),
        "sensorOverallDimensions": tuple(map(float, lens.sensor_mm)),
        # the sensor's centre from the axis, where ΔP is the axis from the centre; micrometres, right and down in the picture
        "sensorCenterOffset": (-1000.0 * dx, -1000.0 * dy),
        "worldToCamera": world_to_camera(camera),
        "ledvolume/camera_id": camera.camera_id,
        "ledvolume/wxyz": list(map(float, camera.stage_from_camera.wxyz)),
        "ledvolume/position_m": tuple(map(float, camera.stage_from_camera.position_m)),
    }
    if lens.focus_distance_m is not None:
        attributes["focus"] = float(lens.focus_distance_m)
    return attributes


def request_attributes(request: FrameRequest, rate: Fraction, picture: str) -> dict[str, object]:
    """What is known of a frame. picture: the tile, surface or view that the file shows."""
    attributes = camera_attributes(request.camera) | {
        "framesPerSecond": rate,
        "imageCounter": request.index,
        "ledvolume/picture": picture,
        "ledvolume/frame": request.index,
        "ledvolume/present_at_ns": str(request.present_at_ns),  # OpenEXR's integers have 32 bits
        "ledvolume/scene": request.scene,
        "ledvolume/tracking": request.camera.tracking,
        "ledvolume/request": msgspec.json.encode(request).decode(),
    }
    if request.timecode:
        attributes["timeCode"] = time_code(request.timecode, rate)
    return attributes


def world_to_camera(camera: Camera) -> np.ndarray:
    """(4, 4) float32 for row vectors, as OpenEXR has them: p_camera = p_stage · M. Its camera looks along +z, y is up."""
    camera_from_stage = camera.stage_from_camera.inverse().matrix()
    return np.ascontiguousarray((EXR_FROM_CAMERA @ camera_from_stage).T, np.float32)


def time_code(text: str, rate: Fraction):
    """OpenEXR's TimeCode. Above 30 frames a second, as in ST 12-1: pairs of frames are counted, and the field phase says
    which of the two it is (above 60: groups, without a phase)."""
    import OpenEXR

    code, group = timecode(text, rate), ceil(rate / 30)
    phase = code.frames % 2 if group == 2 else 0
    flags_and_user_data = (0, phase, *[0] * 11)  # colour frame, field phase, bgf0 to 2, eight binary groups
    return OpenEXR.TimeCode(code.hours, code.minutes, code.seconds, code.frames // group, int(code.is_drop), *flags_and_user_data)
