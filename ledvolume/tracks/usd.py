"""Cameras of USD stages (.usda, .usdc, .usd), read and written with usd-core (the extra `usd`).

A USD camera looks along its -Z with Y up. A stage says its unit (metersPerUnit) and which axis is up: Z-up stages are taken
to have our axes, Y-up ones have our x, z, -y. Parents are composed, their scale only moves the camera. Focal length, aperture
and its offset are in tenths of the stage's unit, as UsdGeomCamera has it; many programs write millimetres whatever the unit
is, so where the aperture would be more than LARGEST_APERTURE_MM by the rule and makes a sensor as it stands, it is taken so.
A focus distance and an F-number of 0 mean that there is none. Time codes are seconds at the stage's timeCodesPerSecond.

Written in centimetres, so that tenths are millimetres by either reading, Z up, with translate and orient for each sample.
"""

import math
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np

from ledvolume.camera import CameraSample, LensReading
from ledvolume.clock import SECOND_NS
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, multiply, quaternion
from ledvolume.protocols.decoder import LONGEST_NAME
from ledvolume.tracks.track import Assumed, Progress, Track, checked_sample, made_track, no_progress

LARGEST_APERTURE_MM = 300.0
NOT_A_ROTATION = 1e-3
MOST_TIMES = 1_000_000
METRES_PER_UNIT = 0.01
USUAL_RATE = Fraction(24)
CAMERA_ID = "ledvolume:camera_id"


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """Every camera of the stage, at every time at which it or a parent has a sample. Raises ConfigError."""
    pxr = pxr_modules(path)
    try:
        return _read(path, pxr, progress)
    except (pxr.Tf.ErrorException, UnicodeDecodeError) as error:
        raise ConfigError(path, "track", "a USD file that can be read", reason(error)) from None


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """A stage with a Camera for each camera. Time code start_frame is the first sample."""
    pxr = pxr_modules(path)
    rate = track.rate or USUAL_RATE
    layer = pxr.Sdf.Layer.CreateAnonymous(path.suffix)
    stage = pxr.Usd.Stage.Open(layer)
    pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.z)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, METRES_PER_UNIT)
    stage.SetTimeCodesPerSecond(float(rate))
    stage.SetFramesPerSecond(float(rate))
    first_ns, last_ns = track.samples[0].captured_at_ns, track.samples[-1].captured_at_ns

    def code_of(instant_ns: int) -> float:
        return assumed.start_frame + float(Fraction(instant_ns - first_ns, SECOND_NS) * rate)

    stage.SetStartTimeCode(code_of(first_ns))
    stage.SetEndTimeCode(code_of(last_ns))
    root = pxr.UsdGeom.Xform.Define(stage, "/ledvolume")
    stage.SetDefaultPrim(root.GetPrim())
    made = {camera_id: _Written(stage, camera_id, index, pxr) for index, camera_id in enumerate(track.cameras)}
    for sample in track.samples:
        made[sample.camera_id].add(sample, code_of(sample.captured_at_ns))
    try:
        if not layer.Export(str(path)):
            raise ConfigError(path, "file", "a place that can be written to", "USD could not write it")
    except pxr.Tf.ErrorException as error:
        raise ConfigError(path, "file", "a place that can be written to", reason(error)) from None
    return [f"{float(rate):g} time codes a second, from {assumed.start_frame} on; centimetres, Z up"]


def _read(path: Path, pxr, progress: Progress) -> Track:
    stage = pxr.Usd.Stage.Open(str(path))
    prims = [prim for prim in stage.Traverse(pxr.Usd.TraverseInstanceProxies()) if prim.IsA(pxr.UsdGeom.Camera)]
    per_second = stage.GetTimeCodesPerSecond()
    metres = pxr.UsdGeom.GetStageMetersPerUnit(stage)
    if not prims:
        raise ConfigError(path, "cameras", "at least one Camera prim", "none")
    if not (0 < per_second < 1e6 and 0 < metres < 1e6):
        got = f"{per_second} and {metres}"
        raise ConfigError(path, "stage", "timeCodesPerSecond and metersPerUnit above 0", got)
    is_y_up = pxr.UsdGeom.GetStageUpAxis(stage) == pxr.UsdGeom.Tokens.y
    samples, notes = [], []
    names = _names(prims)
    times = [_times(prim, pxr, path) for prim in prims]
    first = min((codes[0] for codes in times if codes), default=0.0)
    for index, prim in enumerate(prims):
        key, lens_of = str(prim.GetPath()), _Lens(prim, pxr, metres)
        for code in times[index] or [first]:
            at_ns = round((code - first) * SECOND_NS / per_second)
            pose = _pose(prim, code, pxr, metres, is_y_up, path)
            sample = CameraSample(names[key], at_ns, at_ns, pose, lens_of(code))
            samples.append(checked_sample(sample, path, f"{key} at time code {code:g}"))
        notes += lens_of.notes
        progress((index + 1) / len(prims))
    return made_track(path, "usd", samples, notes=dict.fromkeys(notes))


class _Lens:
    """What a camera prim says of its lens at a time code. A value that is only the schema's default says nothing."""

    def __init__(self, prim, pxr, metres: float):
        self._camera, self._pxr, self._metres = pxr.UsdGeom.Camera(prim), pxr, metres
        self.notes: list[str] = []
        self._mm = metres * 100  # tenths of the unit
        aperture = self._camera.GetHorizontalApertureAttr().Get(pxr.Usd.TimeCode.EarliestTime())
        if aperture * self._mm > LARGEST_APERTURE_MM >= aperture:
            self._mm = 1.0
            text = f"an aperture of {aperture:g} tenths of {metres:g} m is no sensor's: lens values are taken as millimetres"
            self.notes.append(f"{prim.GetPath()}: {text}")

    def __call__(self, code: float) -> LensReading:
        camera = self._camera
        width, height = (self._told(a, code) for a in (camera.GetHorizontalApertureAttr(), camera.GetVerticalApertureAttr()))
        offset_attributes = camera.GetHorizontalApertureOffsetAttr(), camera.GetVerticalApertureOffsetAttr()
        right, up = (self._told(attribute, code) for attribute in offset_attributes)
        focal, focus = self._told(camera.GetFocalLengthAttr(), code), self._told(camera.GetFocusDistanceAttr(), code)
        has_offset = right or up
        return LensReading(
            focal_length_mm=focal * self._mm if focal else None,
            focus_distance_m=focus * self._metres if focus else None,
            f_stop=self._told(camera.GetFStopAttr(), code) or None,
            # the window moves by the offset, the optical axis meets it the other way; ours is + down
            projection_offset_mm=(-(right or 0.0) * self._mm, (up or 0.0) * self._mm) if has_offset else None,
            sensor_mm=(width * self._mm, height * self._mm) if width and height else None,
        )

    def _told(self, attribute, code: float) -> float | None:
        return attribute.Get(self._pxr.Usd.TimeCode(code)) if attribute.HasAuthoredValue() else None


class _Written:
    """A Camera prim that samples are added to."""

    def __init__(self, stage, camera_id: str, index: int, pxr):
        name = pxr.Tf.MakeValidIdentifier(camera_id)
        if stage.GetPrimAtPath(f"/ledvolume/{name}"):
            name = f"{name}_{index}"
        self._pxr, self._camera = pxr, pxr.UsdGeom.Camera.Define(stage, f"/ledvolume/{name}")
        self._camera.GetPrim().SetCustomDataByKey(CAMERA_ID, camera_id)
        self._translate = self._camera.AddTranslateOp()
        self._orient = self._camera.AddOrientOp(pxr.UsdGeom.XformOp.PrecisionDouble)

    def add(self, sample: CameraSample, code: float) -> None:
        """One sample at a time code, in the units of `write`."""
        pxr, camera, lens, time = self._pxr, self._camera, sample.lens, self._pxr.Usd.TimeCode(code)
        self._translate.Set(pxr.Gf.Vec3d(*(c / METRES_PER_UNIT for c in sample.world_from_tracker.position_m)), time)
        # their camera's axes in ours: X right, Y up, -Z forward is ours turned by 90° about X
        w, *v = multiply(sample.world_from_tracker.wxyz, (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0))
        self._orient.Set(pxr.Gf.Quatd(w, pxr.Gf.Vec3d(*v)), time)
        values = [
            (camera.GetFocalLengthAttr(), lens.focal_length_mm),
            (camera.GetFocusDistanceAttr(), lens.focus_distance_m and lens.focus_distance_m / METRES_PER_UNIT),
            (camera.GetFStopAttr(), lens.f_stop),
        ]
        if lens.sensor_mm:
            values += zip((camera.GetHorizontalApertureAttr(), camera.GetVerticalApertureAttr()), lens.sensor_mm)
        if lens.projection_offset_mm:
            right, down = lens.projection_offset_mm
            values += [(camera.GetHorizontalApertureOffsetAttr(), -right), (camera.GetVerticalApertureOffsetAttr(), down)]
        for attribute, value in values:
            if value is not None:
                attribute.Set(value, time)


def pxr_modules(path: Path):
    """usd-core's modules: a heavy import, and an extra."""
    try:
        import pxr.Gf
        import pxr.Sdf
        import pxr.Tf
        import pxr.Usd
        import pxr.UsdGeom
    except ImportError as error:
        raise ConfigError(path, "format", "usd-core: pip install 'ledvolume[usd]'", str(error)) from None
    return pxr


def reason(error: Exception) -> str:
    """What USD says, without where in its sources it says so."""
    try:
        said = re.findall(r" : '(.*)'$", str(error), re.MULTILINE)
        return "; ".join(said)[:300] or str(error)[:300]
    except UnicodeDecodeError:  # pxr quotes what it could not read
        return "a file that is not text in UTF-8"


def _names(prims: list) -> dict[str, str]:
    """path of a prim → camera id: what we wrote, else its name where no other has it, else its path."""
    said = {str(prim.GetPath()): prim.GetCustomDataByKey(CAMERA_ID) for prim in prims}
    names = {path: name if isinstance(name, str) and name else path.rpartition("/")[2] for path, name in said.items()}
    counts = Counter(names.values())
    return {path: name if counts[name] == 1 else path[-LONGEST_NAME:] for path, name in names.items()}


def _times(prim, pxr, path: Path) -> list[float]:
    """Every time code at which the camera or a parent has a sample."""
    camera = pxr.UsdGeom.Camera(prim)
    attributes = (camera.GetFocalLengthAttr(), camera.GetFocusDistanceAttr(), camera.GetFStopAttr())
    codes = {code for attribute in attributes for code in attribute.GetTimeSamples()}
    while prim and not prim.IsPseudoRoot():
        if prim.IsA(pxr.UsdGeom.Xformable):
            codes.update(pxr.UsdGeom.Xformable(prim).GetTimeSamples())
        prim = prim.GetParent()
    if len(codes) > MOST_TIMES:
        raise ConfigError(path, "time samples", f"at most {MOST_TIMES} of a camera", len(codes))
    return sorted(codes)


def _pose(prim, code: float, pxr, metres: float, is_y_up: bool, path: Path) -> Pose:
    matrix = np.array(pxr.UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(pxr.Usd.TimeCode(code)))
    lengths = np.linalg.norm(matrix[:3, :3], axis=1)
    key = f"{prim.GetPath()} at time code {code:g}"
    if not np.all(np.isfinite(matrix)) or lengths.min() < 1e-9:
        raise ConfigError(path, key, "a transform with three axes", matrix.tolist())
    right, up, back = matrix[:3, :3] / lengths[:, None]  # rows are the axes: USD's vectors are rows
    turn = np.column_stack((right, -back, up))
    if np.abs(turn.T @ turn - np.eye(3)).max() > NOT_A_ROTATION or np.linalg.det(turn) < 0:
        raise ConfigError(path, key, "a camera that is neither sheared nor mirrored", matrix.tolist())
    position = matrix[3, :3] * metres
    if is_y_up:
        turn, position = _OURS_OF_Y_UP @ turn, _OURS_OF_Y_UP @ position
    return Pose(quaternion(turn), tuple(position.tolist()))


_OURS_OF_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
