"""Bundle adjustment against the truth of a virtual stage: errors, whether the stated intervals hold it, time, and refusals.

The stage (calibration/virtual_stage.py): a curved wall of 6 m with a ceiling, every tile off by some millimetres by itself, wall
and ceiling by centimetres, a lens that bends, a hand-eye that the show knows nothing of. Matches only, 0.3 px; tracker 0.3 mm and
0.02° on every axis. Real panels are 0.5 m; 16 tiles are 1.5 m × 1 m, 64 are 0.5 m × 0.75 m.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

import msgspec
import numpy as np

from calibration.session import Matches, View
from calibration.solve import Options, solve
from calibration.solve.turns import turn_of
from calibration.solved import Solved
from calibration.virtual_stage import Noise, VirtualStage, photographed, virtual_stage
from ledvolume.errors import CalibrationError
from ledvolume.pose import rotation_matrix
from ledvolume.stage import surface_points
from measure import Row

RUNS = 50
TILES = 16
PANELS = Options(shape="panels")
NORMAL_95 = 1.96


@lru_cache(maxsize=2)
def runs(wall: str = "panels", shape: str = "panels", count: int = RUNS) -> list[tuple[VirtualStage, Solved]]:
    """Solves of stages that differ in everything that is random."""
    found = []
    for seed in range(count):
        stage = virtual_stage(TILES, seed=seed, wall=wall)
        found.append((stage, solve(photographed(stage, seed), stage.nominal, msgspec.structs.replace(PANELS, shape=shape))))
    return found


def led_errors_mm(stage: VirtualStage, solved: Solved) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each surface: errors (n, 3) of its samples and their sigmas (n, 3)."""
    found = []
    for truth, surface in zip(stage.surfaces, solved.surfaces):
        samples = surface.samples
        off = 1000 * (samples.position_m - surface_points(truth, *samples.led_px.T))
        found.append((off, np.sqrt(np.einsum("nii->ni", samples.covariance_mm2))))
    return found


def hand_eye_errors(stage: VirtualStage, solved: Solved) -> tuple[np.ndarray, np.ndarray]:
    """Millimetres and degrees, each (3,)."""
    found, truth = solved.rigs[0].tracker_from_camera, stage.rigs[0].tracker_from_camera
    turn = turn_of(rotation_matrix(found.wxyz) @ rotation_matrix(truth.wxyz).T)
    return 1000 * np.subtract(found.position_m, truth.position_m), np.degrees(turn)


def in_sigmas(stage: VirtualStage, solved: Solved) -> dict[str, np.ndarray]:
    """Errors over their sigmas, by kind."""
    rig, lens, truth = solved.rigs[0], solved.rigs[0].lenses[0], stage.rigs[0].lens
    mm, deg = hand_eye_errors(stage, solved)
    sigma = rig.tracker_from_camera_sigma
    eyes = []
    for view, (pose, _) in zip(solved.views, stage.cameras):
        off = 1000 * np.subtract(view.stage_from_camera.position_m, pose.position_m)
        eyes.append(off / np.sqrt(np.diag(view.eye_covariance_mm2)))
    offset = np.subtract(lens.lens.projection_offset_mm, truth.projection_offset_mm)
    return {
        "LED positions": np.concatenate([(off / s).ravel() for off, s in led_errors_mm(stage, solved)]),
        "hand-eye, translation": mm / sigma.position_mm,
        "hand-eye, rotation": deg / sigma.rotation_deg,
        "focal length": np.array([(lens.lens.focal_length_mm - truth.focal_length_mm) / lens.focal_length_sigma_mm]),
        "projection offset": offset / lens.projection_offset_sigma_mm,
        "eyes": np.concatenate(eyes),
    }


def accuracy() -> Iterator[Row]:
    """50 stages of 16 tiles, 12 views each: errors against the truth, the worst of all runs."""
    leds, hands_mm, hands_deg, focal, seconds = [], [], [], [], []
    for stage, solved in runs():
        distance = np.concatenate([np.linalg.norm(off, axis=1) for off, _ in led_errors_mm(stage, solved)])
        leds.append((np.sqrt(np.mean(distance**2)), distance.max()))
        mm, deg = hand_eye_errors(stage, solved)
        hands_mm.append(np.linalg.norm(mm))
        hands_deg.append(np.linalg.norm(deg))
        focal.append(abs(solved.rigs[0].lenses[0].lens.focal_length_mm / stage.rigs[0].lens.focal_length_mm - 1))
        seconds.append(solved.seconds)
    rms, most = np.array(leds).T
    yield Row(f"solve, {RUNS} runs: LED positions, RMS of a run, median", float(np.median(rms)), "mm")
    yield Row(f"solve, {RUNS} runs: LED positions, RMS of a run, worst", float(rms.max()), "mm", ("≤", 1.0))
    yield Row(f"solve, {RUNS} runs: LED positions, farthest off", float(most.max()), "mm", ("≤", 3.0))
    yield Row(f"solve, {RUNS} runs: hand-eye translation, RMS", float(np.sqrt(np.mean(np.square(hands_mm)))), "mm", ("≤", 1.0))
    yield Row(f"solve, {RUNS} runs: hand-eye translation, worst", float(max(hands_mm)), "mm", ("≤", 1.0))
    yield Row(f"solve, {RUNS} runs: hand-eye rotation, RMS", float(np.sqrt(np.mean(np.square(hands_deg)))), "°", ("≤", 0.02))
    yield Row(f"solve, {RUNS} runs: hand-eye rotation, worst", float(max(hands_deg)), "°")
    yield Row(f"solve, {RUNS} runs: focal length, worst", float(100 * max(focal)), "%", ("≤", 0.1))
    yield Row(f"solve, {RUNS} runs: time of a solve, median", float(np.median(seconds)), "s", ("≤", 2.0))


def coverage() -> Iterator[Row]:
    """How often the stated 95 % intervals hold the truth, in the same 50 runs, by kind and in all."""
    counted = defaultdict(list)
    for stage, solved in runs():
        for kind, off in in_sigmas(stage, solved).items():
            counted[kind].append(np.abs(off) <= NORMAL_95)
    for kind, inside in counted.items():
        share = 100 * float(np.mean(np.concatenate(inside)))
        yield Row(f"solve: 95 % intervals hold the truth, {kind}", share, "%", ("≥", 90))
        yield Row(f"solve: 95 % intervals are no wider than they need be, {kind}", share, "%", ("≤", 98))
    each_kind_alike = 100 * float(np.mean([np.mean(np.concatenate(inside)) for inside in counted.values()]))
    yield Row("solve: 95 % intervals hold the truth, all kinds alike", each_kind_alike, "%", ("≥", 90))
