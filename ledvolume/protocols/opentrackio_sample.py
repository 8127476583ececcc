"""OpenTrackIO samples: a dictionary (of JSON or CBOR, from a packet or from a line of a track file) ⇄ CameraSample.

Source: SMPTE RIS-OSVP, OpenTrackIO 1.0.1; its schema is beside this file (opentrackio_schema.json, BSD-3-Clause, licence
beside it). Axes are ours: X camera-right, Y forward, Z up. Angles are degrees, pan + to the left, tilt + up, roll +
clockwise seen from behind. `transforms` are composed in the order of the list and give the sensor, not the entrance pupil.

Everything is optional in a sample, so whatever is unusable is left out and flagged while there is a pose. Not used:
scales, rawEncoders, tStop, exposureFalloff, globalStage, synchronization offsets. A component that is not there is 0.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from reprlib import repr as brief  # of what was sent, however long or deep it is
from typing import get_args

import fastjsonschema
import msgspec

from ledvolume.camera import CameraSample, LensReading
from ledvolume.errors import ProtocolError
from ledvolume.lens import Distortion, DistortionModel
from ledvolume.pose import Pose, pan_tilt_roll, pan_tilt_roll_of
from ledvolume.protocols.decoder import LENS_RANGES, MOST_OFFSET_MM, MOST_RADIAL, MOST_TANGENTIAL, NotForUs, checked

VERSION = (1, 0, 1)
SOURCE_NUMBERS = range(1, 201)  # others must be discarded: they are the last byte of a multicast address
DEEPEST_CHAIN = 32
LONGEST_STATUS = 1023

_PACKAGE_SCHEMA = Path(__file__).with_name("opentrackio_schema.json")
_MODELS = {model.casefold(): model for model in get_args(DistortionModel)}
_LENS = {
    "focal_length_mm": ("pinholeFocalLength",),
    "focus_distance_m": ("focusDistance",),
    "f_stop": ("fStop",),
    "entrance_pupil_m": ("entrancePupilOffset",),
    "zoom_encoder": ("encoders", "zoom"),
    "focus_encoder": ("encoders", "focus"),
    "iris_encoder": ("encoders", "iris"),
}

Flag = Callable[[str, str], None]


class Static(msgspec.Struct, frozen=True):
    """What we keep of the `static` block, which comes every two seconds or so."""

    label: str = ""
    sensor_mm: tuple[float, float] | None = None
    overscan: float | None = None


def ignore_flag(kind: str, text: str) -> None:
    """For files, where nobody counts."""


def schema_fault(fields: object) -> str:
    """What SMPTE's schema has against this sample; "" if nothing. 15 to 40 µs, but 50 ms the first time."""
    try:
        _validator()(fields)
    except Exception as fault:  # JsonSchemaException; by input also TypeError (CBOR's byte strings as keys)
        return str(fault)[:300] or type(fault).__name__
    return ""


def camera_id_of(fields: dict) -> str:
    """The number of the source; without one, its sourceId. Both are there from the first packet on, a label is not."""
    number, source_id = fields.get("sourceNumber"), fields.get("sourceId")
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number) if 0 <= number < 2**32 else "opentrackio"
    return source_id if isinstance(source_id, str) and source_id else "opentrackio"


def static_of(fields: dict, before: Static = Static()) -> Static:
    """What is known of the camera after this sample: what it says of itself, and what was known before."""
    if not isinstance(fields.get("static"), dict):
        return before
    label = _at(fields, "static", "camera", "label")
    size = _at(fields, "static", "camera", "activeSensorPhysicalDimensions")
    width, height = _number(_at(size, "width")), _number(_at(size, "height"))
    overscan = _number(_at(fields, "static", "lens", "distortionOverscanMax"))
    return Static(
        label if isinstance(label, str) and 0 < len(label) <= LONGEST_STATUS else before.label,
        (width, height) if width and height and min(width, height) > 0 else before.sensor_mm,
        overscan if overscan and overscan >= 1 else before.overscan,
    )


def camera_sample(
    fields: dict, received_at_ns: int | None = None, static: Static = Static(), flag: Flag = ignore_flag
) -> CameraSample:
    """The sample that these fields are. received_at_ns None: of a file, captured and received when it was stamped.

    static: what is known of the camera (static_of). Raises ProtocolError, and NotForUs where there is no pose at all.
    """
    if not fields.get("transforms"):
        raise NotForUs("no-transforms")
    stamped_at_ns = _stamp(fields, flag)
    if received_at_ns is None:
        received_at_ns = stamped_at_ns
    status = _at(fields, "tracker", "status") or ""
    if not (isinstance(status, str) and len(status) <= LONGEST_STATUS and status.isprintable()):
        flag("status", f"expected up to {LONGEST_STATUS} printable characters, got {brief(status)}")
        status = ""
    sample = CameraSample(
        camera_id_of(fields),
        received_at_ns,
        received_at_ns,
        _pose(fields["transforms"], flag),
        _lens(fields, static, flag),
        status,
        stamped_at_ns,
        _timecode(fields, flag),
    )
    return checked(sample, "opentrackio", b"")


def sample_fields(
    sample: CameraSample, source_number: int, sample_id: str, source_id: str, sequence_number: int, static: bool = False
) -> dict:
    """The OpenTrackIO sample that says this, with what is fixed about the camera if `static`. To be sent or written down."""
    lens, stamp_ns = sample.lens, sample.stamped_at_ns or sample.captured_at_ns
    pan, tilt, roll = (math.degrees(angle) for angle in pan_tilt_roll_of(sample.world_from_tracker.wxyz))
    x, y, z = sample.world_from_tracker.position_m
    timing: dict = {"mode": "internal" if stamp_ns > 0 else "external"}
    if stamp_ns > 0:
        timing["sampleTimestamp"] = {"seconds": stamp_ns // 10**9, "nanoseconds": stamp_ns % 10**9}
    timing["sequenceNumber"] = sequence_number % 2**32
    if sample.timecode:
        timing["timecode"] = _timecode_fields(sample.timecode)
    fields = {
        "protocol": {"name": "OpenTrackIO", "version": list(VERSION)},
        "sampleId": sample_id,
        "sourceId": source_id,
        "sourceNumber": source_number,
        "timing": timing,
        "lens": _lens_fields(lens),
        "transforms": [
            {"translation": {"x": x, "y": y, "z": z}, "rotation": {"pan": pan, "tilt": tilt, "roll": roll}, "id": "Camera"}
        ],
    }
    if not fields["lens"]:
        del fields["lens"]
    if sample.status:
        fields["tracker"] = {"status": sample.status}
    if static:
        fields["static"] = {"camera": {"label": sample.camera_id}}
        if lens.sensor_mm:
            width, height = lens.sensor_mm
            fields["static"]["camera"]["activeSensorPhysicalDimensions"] = {"width": width, "height": height}
        if lens.overscan:
            fields["static"]["lens"] = {"distortionOverscanMax": lens.overscan}
    return fields


@cache
def _validator() -> Callable:
    return fastjsonschema.compile(json.loads(_PACKAGE_SCHEMA.read_text()))


def _at(value: object, *keys: str) -> object:
    """What lies under these keys; None if they lead nowhere."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(value: object) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64:
        return float(value)
    return None


def _whole_number(value: object, lowest: int, highest: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest else None


def _refuse(reason: str, text: str):
    raise ProtocolError("opentrackio", reason, text)


def _pose(transforms: object, flag: Flag) -> Pose:
    if not isinstance(transforms, list | tuple) or len(transforms) > DEEPEST_CHAIN:
        _refuse("bad-transform", f"transforms: expected a list of up to {DEEPEST_CHAIN}, got {brief(transforms)}")
    pose = Pose()
    for index, transform in enumerate(transforms):
        x, y, z = _three(transform, index, "translation", ("x", "y", "z"))
        pan, tilt, roll = (math.radians(v) for v in _three(transform, index, "rotation", ("pan", "tilt", "roll")))
        scale = transform.get("scale")
        if isinstance(scale, dict) and any(_number(v) != 1 for v in scale.values()):
            flag("scale", f"transforms[{index}]: scale {brief(scale)} is not used: positions may be wrong")
        pose = pose @ Pose(pan_tilt_roll(pan, tilt, roll), (x, y, z))
    return pose


def _three(transform: object, index: int, part: str, names: tuple[str, str, str]) -> tuple[float, ...]:
    values = _at(transform, part)
    if not isinstance(values, dict):
        _refuse("bad-transform", f"transforms[{index}].{part}: expected {', '.join(names)}, got {brief(values)}")
    out = []
    for name in names:
        value = _number(values.get(name, 0.0))
        if value is None:
            bad = values[name]
            is_lost = isinstance(bad, float)
            text = f"transforms[{index}].{part}.{name}: expected a number, got {brief(bad)}"
            _refuse(
                "not-finite" if is_lost else "bad-transform", text + (": has the tracker lost the camera?" if is_lost else "")
            )
        out.append(value)
    return tuple(out)


def _stamp(fields: dict, flag: Flag) -> int:
    stamp = _at(fields, "timing", "sampleTimestamp")
    if stamp is None:
        return 0
    seconds = _whole_number(_at(stamp, "seconds"), 0, 2**48 - 1)
    nanoseconds = _whole_number(_at(stamp, "nanoseconds"), 0, 999_999_999)
    if seconds is None or nanoseconds is None:
        flag("sample-timestamp", f"expected whole seconds and nanoseconds, got {brief(stamp)}")
        return 0
    return seconds * 10**9 + nanoseconds


def _timecode(fields: dict, flag: Flag) -> str:
    timecode = _at(fields, "timing", "timecode")
    if timecode is None:
        return ""
    hours, minutes = _whole_number(_at(timecode, "hours"), 0, 23), _whole_number(_at(timecode, "minutes"), 0, 59)
    seconds, frames = _whole_number(_at(timecode, "seconds"), 0, 59), _whole_number(_at(timecode, "frames"), 0, 119)
    if None in (hours, minutes, seconds, frames):
        flag("timecode", f"expected hours, minutes, seconds, frames, got {brief(timecode)}")
        return ""
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if _at(timecode, 'dropFrame') is True else ':'}{frames:02}"


def _timecode_fields(timecode: str) -> dict:
    """A sample does not say the rate: it is the lowest of 30, 60 and 120 that has such a frame, 29.97 where frames drop."""
    hours, minutes, seconds, frames = (int(v) for v in timecode.replace(";", ":").split(":"))
    is_drop, rate = ";" in timecode, 30 if frames < 30 else 60 if frames < 60 else 120
    fields = {"hours": hours, "minutes": minutes, "seconds": seconds, "frames": frames}
    fields["frameRate"] = {"num": rate * 1000, "denom": 1001} if is_drop else {"num": rate, "denom": 1}
    return fields | ({"dropFrame": True} if is_drop else {})


def _lens(fields: dict, static: Static, flag: Flag) -> LensReading:
    lens = fields.get("lens")
    values = {}
    for name, keys in _LENS.items():
        given = _at(lens, *keys)
        if given is None:
            continue
        value, (lowest, highest) = _number(given), LENS_RANGES[name]
        if value is None or not lowest <= value <= highest:
            flag("lens-value", f"{'.'.join(keys)}: expected {lowest} to {highest}, got {brief(given)}")
        else:
            values[name] = value
    distortion, overscan = _distortion(lens, flag)
    return LensReading(
        **values,
        projection_offset_mm=_offset(lens, "projectionOffset", flag),
        distortion=distortion,
        sensor_mm=static.sensor_mm,
        overscan=static.overscan if overscan is None else overscan,
    )


def _offset(lens: object, name: str, flag: Flag) -> tuple[float, float] | None:
    given = _at(lens, name)
    if given is None:
        return None
    x, y = _number(_at(given, "x")), _number(_at(given, "y"))
    if x is None or y is None or max(abs(x), abs(y)) > MOST_OFFSET_MM:
        flag("lens-value", f"{name}: expected x and y within {MOST_OFFSET_MM:g} mm, got {brief(given)}")
        return None
    return x, y


def _distortion(lens: object, flag: Flag) -> tuple[Distortion | None, float | None]:
    """The first of the list whose model we know, and its overscan."""
    given = _at(lens, "distortion")
    if given is None:
        return None, None
    for entry in given if isinstance(given, list) else ():
        model = _at(entry, "model")
        model = "Brown-Conrady D-U" if model is None else _MODELS.get(str(model).casefold())
        radial, tangential = _coefficients(_at(entry, "radial")), _coefficients(_at(entry, "tangential") or [])
        if model and radial and tangential is not None and len(tangential) <= MOST_TANGENTIAL:
            tangential = (*tangential, 0.0) if len(tangential) == 1 else tangential
            overscan = _number(_at(entry, "overscan"))
            offset = _offset(lens, "distortionOffset", flag) or (0.0, 0.0)
            return Distortion(radial, tangential, offset, model), overscan if overscan and overscan >= 1 else None
    flag("distortion", f"expected one that is {' or '.join(_MODELS.values())}, got {brief(given)}")
    return None, None


def _coefficients(given: object) -> tuple[float, ...] | None:
    if not isinstance(given, list) or len(given) > MOST_RADIAL:
        return None
    values = tuple(_number(v) for v in given)
    return None if None in values else values


def _lens_fields(lens: LensReading) -> dict:
    fields: dict = {}
    for name, keys in _LENS.items():
        value = getattr(lens, name)
        # 0 m is no focus distance: the schema wants more
        if value is not None and (value or name != "focus_distance_m"):
            (fields.setdefault(keys[0], {}) if len(keys) == 2 else fields)[keys[-1]] = value
    if lens.projection_offset_mm is not None:
        fields["projectionOffset"] = dict(zip("xy", lens.projection_offset_mm))
    if lens.distortion is not None:
        entry: dict = {"model": lens.distortion.model, "radial": list(lens.distortion.radial) or [0.0]}
        if lens.distortion.tangential:
            entry["tangential"] = list(lens.distortion.tangential)
        if lens.overscan:
            entry["overscan"] = lens.overscan
        fields["distortion"] = [entry]
        fields["distortionOffset"] = dict(zip("xy", lens.distortion.offset_mm))
    return fields
