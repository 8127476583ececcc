"""Bundle adjustment against the truth of a virtual stage: errors, whether the stated intervals hold it, time, and refusals.

The stage (calibration/virtual_stage.py): a curved wall of 6 m with a ceiling, every tile off by some millimetres by itself, wall
and ceiling by centimetres, a lens that bends, a hand-eye that the show knows nothing of. Matches only, 0.3 px; tracker 0.3 mm and
0.02° on every axis. Real panels are 0.5 m; 16 tiles are 1.5 m × 1 m, 64 are 0.5 m × 0.75 m.
Times are the processor's: other work on the machine does not count.
"""

import contextlib
import io
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix, csr_matrix
from threadpoolctl import threadpool_limits

from calibration import cli, session
from calibration.session import Matches, View
from calibration.solve import Options, solve
from calibration.solve.adjustment import adjusted
from calibration.solve.bundle import Bundle, State
from calibration.solve.gauge import Gauge
from calibration.solve.plan import plan_of
from calibration.solve.start import nominal_state, resected
from calibration.solve.turns import skew, turn_of
from calibration.solved import Solved
from calibration.virtual_stage import CUTS, PICTURE_PX, VirtualStage, photographed, show_toml, virtual_stage
from ledvolume.cli import choose
from ledvolume.moves import looking_at
from ledvolume.pose import Pose, pan_tilt_roll, rotation_matrix
from ledvolume.stage import surface_points
from measure import Row

RUNS = 50
TILES = 16
PANELS = Options(shape="panels")
NORMAL_95 = 1.96


@lru_cache(maxsize=2)
def runs(wall: str = "panels", shape: str = "panels", count: int = RUNS) -> list[tuple[VirtualStage, Solved]]:
    """Solves of stages that differ in everything that is random; seconds: of the processor."""
    found = []
    for seed in range(count):
        stage = virtual_stage(TILES, seed=seed, wall=wall)
        views = photographed(stage, seed)
        began = time.process_time()
        solved = solve(views, stage.nominal, msgspec.structs.replace(PANELS, shape=shape))
        found.append((stage, msgspec.structs.replace(solved, seconds=time.process_time() - began)))
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


def growth() -> Iterator[Row]:
    """Time of a solve with 4, 16, 64 and 128 tiles, each flat by itself; and of an arc and a cloth."""
    for tiles in CUTS:
        seconds, solved, rms_mm = _timed(tiles, "panels", "panels")
        yield Row(f"solve: {tiles} tiles, {solved.unknowns} unknowns, {solved.matches} matches", seconds, "s", ("≤", 2.0))
        yield Row(f"solve: {tiles} tiles, LED positions, RMS", rms_mm, "mm", ("≤", 1.0))
    for wall, shape in (("arc", "as-shown"), ("cloth", "map")):
        seconds, solved, rms_mm = _timed(TILES, wall, shape)
        yield Row(f"solve: {wall} as {shape}, {solved.unknowns} unknowns", seconds, "s")
        yield Row(f"solve: {wall} as {shape}, LED positions, RMS", rms_mm, "mm", ("≤", 1.0))


@threadpool_limits.wrap(1, "blas")  # as `solve` has it: processor time of two threads says little of either
def peer() -> list[Row]:
    """The same least squares by SciPy, with our exact Jacobian, from the same start: 16 and 64 tiles."""
    rows = []
    for tiles in (16, 64):
        stage = virtual_stage(tiles, seed=3)
        plan = plan_of(
            [msgspec.structs.replace(v, world_from_tracker=None) for v in photographed(stage, 3)], stage.nominal, PANELS
        )
        bundle, frame = plan.bundle, Gauge("start", (0, 1))
        start, _ = resected(bundle, nominal_state(bundle, plan.rigs, plan.worlds))
        began = time.process_time()
        fit = adjusted(bundle, start, plan.free, frame)
        ours = time.process_time() - began
        cost = _cost(bundle, fit.state, frame)
        rows.append(Row(f"solve: {tiles} tiles, our steps ({fit.steps})", ours, "s"))
        peers = {"lsmr": "SciPy least_squares, sparse", "exact": "SciPy least_squares, dense"}
        for solver, told in list(peers.items())[: 2 if tiles == 16 else 1]:
            theirs, their_cost, steps = _by_scipy(bundle, start, plan.free, frame, solver)
            rows.append(Row(f"solve: {tiles} tiles, {told} ({steps})", theirs, "s"))
            rows.append(Row(f"solve: {tiles} tiles, {told}: sum of squares over ours", their_cost / cost, "", ("≥", 0.999999)))
            if solver == "lsmr":
                rows.append(Row(f"solve: {tiles} tiles, times faster than SciPy, sparse", theirs / ours, "", ("≥", 1.0)))
    return rows


def refusals() -> Iterator[Row]:
    """Views that do not say where things are, through the command: each is named, and nothing is written."""
    stage = virtual_stage(4, seed=5)
    views = photographed(stage, 5, matches=300)
    for what, (wrong, said) in _wrong_views(stage, views).items():
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder)
            (there / "show.toml").write_text(show_toml(4))
            session.save(there / "views.json", wrong)
            before = {file.name: file.read_bytes() for file in there.iterdir()}
            command = ["solve", folder, "--show", f"{folder}/show.toml", "--out", f"{folder}/out.toml", "--shape", "panels"]
            with contextlib.redirect_stderr(io.StringIO()) as errors:
                status = choose("calibrate", cli.__doc__, cli.COMMANDS, command)
            is_untouched = before == {file.name: file.read_bytes() for file in there.iterdir()}
            yield Row(f"solve refuses: {what}", bool(status and said in errors.getvalue() and is_untouched), "", ("=", True))


def _timed(tiles: int, wall: str, shape: str) -> tuple[float, Solved, float]:
    stage = virtual_stage(tiles, seed=1, wall=wall)
    views = photographed(stage, 1)
    began = time.process_time()
    solved = solve(views, stage.nominal, Options(shape=shape))
    seconds = time.process_time() - began
    off = np.concatenate([off for off, _ in led_errors_mm(stage, solved)])
    return seconds, solved, float(np.sqrt(np.mean(np.sum(off**2, 1))))


def _cost(bundle: Bundle, state: State, frame: Gauge) -> float:
    return float(np.sum(_residuals(bundle, state, frame) ** 2))


def _residuals(bundle: Bundle, state: State, frame: Gauge) -> np.ndarray:
    off = bundle.linear(state).off_px / bundle.sigma_px[:, None]
    rest = [c.residual for c in bundle.priors(state) + frame.constraints(bundle, state)]
    return np.concatenate([-off.ravel(), *rest])


def _by_scipy(bundle: Bundle, start: State, free: np.ndarray, frame: Gauge, solver: str) -> tuple[float, float, int]:
    """Seconds, sum of squares, evaluations. Its unknowns are one step from the start, whose turns are rotation vectors."""
    turns = [at + 3 for at in (*bundle.hand_at, *bundle.world_at, *bundle.view_at)]
    turns += [at + first + 3 for shape, at in zip(bundle.shapes, bundle.wall_at) for first in range(0, len(shape.units), 6)]

    def whole(x: np.ndarray) -> np.ndarray:
        step = np.zeros(bundle.size)
        step[free] = x
        return step

    def jacobian(x: np.ndarray):
        by = _jacobian(bundle, bundle.moved(start, whole(x)), frame) @ _turning(bundle.size, turns, whole(x))
        return by[:, free] if solver == "lsmr" else by[:, free].toarray()

    began = time.process_time()
    found = least_squares(
        lambda x: _residuals(bundle, bundle.moved(start, whole(x)), frame),
        np.zeros(len(free)),
        jacobian,
        x_scale="jac",
        tr_solver=solver,
        ftol=3e-8,  # of 33 000: what we call enough, too
        xtol=1e-12,
        gtol=1e-12,
        max_nfev=200,
    )
    return time.process_time() - began, 2 * float(found.cost), int(found.nfev)


def _jacobian(bundle: Bundle, state: State, frame: Gauge) -> csr_matrix:
    """Of _residuals, by a step from the state."""
    linear, scale = bundle.linear(state), bundle.sigma_px[:, None, None]
    blocks = []
    for i, rows in enumerate(bundle.rows):
        blocks.append((np.arange(rows.start, rows.stop), bundle.shared_index(i)[None], (linear.by_shared / scale)[rows]))
    for shape, at, rows, spots, by in zip(bundle.shapes, bundle.wall_at, bundle.of_shape, bundle.spots, linear.by_wall):
        blocks.append((rows, at + shape.indices[spots.piece], by / scale[rows]))
    r, c, v = [], [], []
    for matches, columns, by in blocks:
        row = (2 * matches[:, None] + [0, 1])[..., None]
        r.append(np.broadcast_to(row, by.shape).ravel())
        c.append(np.broadcast_to(columns[:, None, :], by.shape).ravel())
        v.append(by.ravel())
    count = 2 * len(bundle.led_px)
    for constraint in bundle.priors(state) + frame.constraints(bundle, state):
        rows, columns = np.meshgrid(count + np.arange(len(constraint.residual)), constraint.index, indexing="ij")
        r.append(rows.ravel())
        c.append(columns.ravel())
        v.append(constraint.by.ravel())
        count += len(constraint.residual)
    return coo_matrix((np.concatenate(v), (np.concatenate(r), np.concatenate(c))), (count, bundle.size)).tocsr()


def _turning(size: int, turns: list[int], step: np.ndarray) -> csr_matrix:
    """∂(turn by which the state moves on)/∂(rotation vector), the left Jacobian of each turn; the identity for the rest."""
    dense = {at: _left_jacobian(step[at : at + 3]) for at in turns}
    r, c, v = [np.arange(size)], [np.arange(size)], [np.ones(size)]
    for at, block in dense.items():
        v[0][at : at + 3] = 0
        rows, columns = np.meshgrid(at + np.arange(3), at + np.arange(3), indexing="ij")
        r.append(rows.ravel())
        c.append(columns.ravel())
        v.append(block.ravel())
    return coo_matrix((np.concatenate(v), (np.concatenate(r), np.concatenate(c))), (size, size)).tocsr()


def _left_jacobian(v: np.ndarray) -> np.ndarray:
    angle, k = float(np.linalg.norm(v)), skew(v)
    if angle < 1e-6:
        return np.eye(3) + 0.5 * k
    return np.eye(3) + (1 - np.cos(angle)) / angle**2 * k + (angle - np.sin(angle)) / angle**3 * k @ k


def _wrong_views(stage: VirtualStage, views: list[View]) -> dict[str, tuple[list[View], str]]:
    """By what is wrong with them: the views, and what must be said."""
    rng = np.random.default_rng(0)

    def mirrored(m: Matches) -> Matches:
        return msgspec.structs.replace(m, picture_px=np.column_stack([PICTURE_PX[0] - m.picture_px[:, 0], m.picture_px[:, 1]]))

    def shuffled(m: Matches) -> Matches:
        return msgspec.structs.replace(m, led_px=rng.permutation(m.led_px))

    def shifted(m: Matches) -> Matches:
        return msgspec.structs.replace(m, led_px=np.maximum(m.led_px - [64, 0], 0))

    def without_tile(m: Matches) -> Matches:
        kept = (m.surface != "main") | (m.led_px[:, 0] > 704)
        return Matches(m.surface, m.led_px[kept], m.picture_px[kept], m.sigma_px[kept])

    def every(change) -> list[View]:
        return [msgspec.structs.replace(v, matches=tuple(change(m) for m in v.matches)) for v in views]

    def one(change) -> list[View]:
        return [every(change)[4] if i == 4 else view for i, view in enumerate(views)]

    def from_places(poses: list[Pose]) -> list[View]:
        return photographed(msgspec.structs.replace(stage, cameras=tuple((pose, 0) for pose in poses)), 1, matches=300)

    tripod = [
        looking_at((0.0, 0.0, 1.6), (x, 3.5, 2.0 + 0.6 * (i % 3)), math.radians(10 * x))
        for i, x in enumerate(np.linspace(-1.5, 1.5, 9))
    ]
    ahead = pan_tilt_roll(0.0, 0.35, 0.0)
    places = [Pose(ahead, (x, y, z)) for x in (-1.2, 0.0, 1.2) for y, z in ((-1.4, 1.0), (-0.8, 1.4), (0.0, 1.2))]
    return {
        "too few views": (views[:2], "2 views to solve from: at least 3"),
        "views without parallax": (from_places(tripod), "views without parallax"),
        "a camera that never turned": (from_places(places), "turned about one axis only"),
        "a tile that was never seen": (every(without_tile), "never seen: main-0-0"),
        "mirrored photographs": (every(mirrored), "mirrored in all 12 views"),
        "one mirrored photograph": (one(mirrored), "mirrored in v04"),
        "a wrong pattern in one view": (one(shuffled), "no picture of a wall in v04"),
        "a wrong pattern in all views": (every(shuffled), "no picture of a wall in v00"),
        "a code that is one bit off in one view": (one(shifted), "do not fit the wall that the other views see: v04"),
    }


MEASUREMENTS = (accuracy, coverage, growth, peer, refusals)
