"""From pixels, not from matches: photographs of a virtual stage → detect → solve → how far every LED is from its truth.

Everything between a show file and a calibrated one is done by the commands, as a person would: `calibrate simulate`, `detect`,
`solve`. The stage: an arc of 4 m and a ceiling, LEDs every 12.5 mm; the show has them some centimetres off, the lens a per cent
too long and without distortion, the tracked point 15 mm from where it is.
"""

import contextlib
import io
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from calibration import cli
from calibration.photograph import picture_points
from calibration.session import load_views
from calibration.solved import FILE_NAME, Solved, load_solved
from calibration.truth import FILE_NAME as TRUTH
from calibration.truth import Truth, led_distances_mm, load_truth
from ledvolume.camera import Camera
from ledvolume.cli import choose
from ledvolume.config import load_show
from ledvolume.pose import rotation_vector
from ledvolume.stage import surface_points
from measure import ROOT, Row

OUT = ROOT / "out" / "figures" / "calibration"
STAGE = """
name = "An arc and a ceiling"
rate = "24"

[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-1.2, -1.2, 1.0], max_m = [1.2, 0.8, 2.0] }

[[stage.surface]]
name = "wall"
shape = "arc"
radius_m = 5.0
centre_m = [0.0, 3.5, 1.4]
size_m = [4.0, 2.4]
resolution_px = [320, 192]
tiles = [4, 2]

[[stage.surface]]
name = "ceiling"
shape = "flat"
centre_m = [0.0, 2.0, 3.0]
tilt_deg = 90.0
size_m = [3.0, 2.0]
resolution_px = [240, 160]
tiles = [2, 2]

[[camera]]
id = "A"
sensor_mm = [28.25, 18.83]
focal_length_mm = 21.0

[[place]]
name = "none"
file = "none.safetensors"
field_from_stage = {}
"""


def pixels_gray() -> Iterable[Row]:
    """an arc and a ceiling from 9 places, 1200 × 800 px, Gray code: photographs → detect → solve, against the truth"""
    yield from rows_of("Gray code", calibrated(stage_file(), "gray", 9, "1200x800"))


def pixels_dots() -> Iterable[Row]:
    """the same from 12 places, 1440 × 960 px, one picture of dots each"""
    yield from rows_of("dots", calibrated(stage_file(), "dots", 12, "1440x960"))


def pixels_hard() -> Iterable[Row]:
    """dots, twice overexposed, people in the way, a bright room, a noisy sensor behind coloured filters, little in focus"""
    bad = "--exposure 2 --people 3 --room-light 0.05 --full-well 2000 --read-noise 20 --bayer --f-stop 2 --seed 4".split()
    yield from rows_of("hard", calibrated(stage_file("hard"), "dots", 12, "1440x960", *bad))


@lru_cache(maxsize=4)
def calibrated(show: Path, pattern: str, views: int, size: str, *more: str) -> Path:
    """A folder with pictures, truth.json, views.json, solved.json and calibrated.toml, all of them made by the commands."""
    folder = OUT / f"{show.stem}-{pattern}"
    command("simulate", show, "--out", folder, "--pattern", pattern, "--views", views, "--size", size, *more)
    command("detect", folder, "--show", show)
    command("solve", folder, "--show", show, "--out", folder / "calibrated.toml")
    return folder


def rows_of(name: str, folder: Path) -> Iterable[Row]:
    """How far everything is from the truth."""
    solved, truth = load_solved(folder / FILE_NAME), load_truth(folder / TRUTH)
    off_mm = [led_distances_mm(found.surface, true) for found, true in zip(solved.surfaces, truth.surfaces)]
    drawn_mm = [led_distances_mm(*pair) for pair in zip(load_show(stage_file()).stage.surfaces, truth.surfaces)]
    off_px, matches = detected_off_px(folder, truth)
    yield Row(f"{name}: matches", matches, "", ("≥", 1000))
    yield Row(f"{name}: matches from where the LEDs are in the picture, median", float(np.median(off_px)), "px", ("≤", 0.3))
    yield Row(f"{name}: LED positions in the show, RMS", rms(np.concatenate(drawn_mm)), "mm")
    yield Row(f"{name}: LED positions, RMS", rms(np.concatenate(off_mm)), "mm", ("≤", 2))
    yield Row(f"{name}: LED positions, largest", float(np.concatenate(off_mm).max()), "mm")
    yield Row(f"{name}: what solve says of it (sigma, worst LED)", max(s.sigma_worst_mm for s in solved.surfaces), "mm")
    yield Row(f"{name}: reprojection, RMS", solved.rms_px, "px", ("≤", 0.7))
    yield from rig_rows(name, solved, truth)


def rig_rows(name: str, solved: Solved, truth: Truth) -> Iterable[Row]:
    [rig] = solved.rigs
    off = truth.rig.tracker_from_camera.inverse() @ rig.tracker_from_camera
    turn_deg = np.degrees(np.linalg.norm(rotation_vector(off.wxyz)))
    yield Row(f"{name}: hand-eye off by", 1000 * float(np.linalg.norm(off.position_m)), "mm")
    yield Row(f"{name}: hand-eye turned by", float(turn_deg), "°")
    focal = rig.lenses[0].lens.focal_length_mm / truth.rig.lens.focal_length_mm - 1
    yield Row(f"{name}: focal length off by", 100 * abs(focal), "%", ("≤", 0.1))


def detected_off_px(folder: Path, truth: Truth) -> tuple[np.ndarray, int]:
    """How far each match is from where the true camera sees the true LED."""
    surfaces, off = {surface.name: surface for surface in truth.surfaces}, []
    for view in load_views(folder / "views.json"):
        camera = Camera(truth.cameras[view.name], truth.rig.lens, "measured", 0)
        for found in view.matches:
            true = picture_points(camera, surface_points(surfaces[found.surface], *found.led_px.T), view.resolution_px)
            off.append(np.linalg.norm(found.picture_px - true, axis=-1))
    return np.concatenate(off), sum(map(len, off))


def stage_file(name: str = "stage") -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{name}.toml"
    file.write_text(STAGE)
    return file


def command(*words) -> None:
    """`calibrate WORDS`, quietly. Raises RuntimeError with what it said if it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = choose("calibrate", cli.__doc__, cli.COMMANDS, [str(word) for word in words])
    if code:
        raise RuntimeError(f"calibrate {words[0]}: exit status {code}: {said.getvalue()[-2000:]}")


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


MEASUREMENTS = (pixels_gray, pixels_dots, pixels_hard)
