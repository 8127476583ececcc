"""Does the footprint cover what the lens sees? How much overscan a frame needs, and afterwards: was it enough?

A lens that bends the picture into a barrel sees more than a pinhole of its focal length (lens.py). And a frame is drawn for
where the camera is expected to be: until it is shown the camera may turn otherwise, by at most about its turn rate times the
age of the newest pose. So much wider is the footprint made. Later, when poses from both sides of the frame's instant have
come, the camera that was drawn is compared with the one that was there. Pure: no clock is read.
"""

import math
from collections import deque

import numpy as np

from ledvolume.camera import Camera, Lens, view_tangents
from ledvolume.frame import FrameRequest
from ledvolume.frustum import Footprint
from ledvolume.lens import seen_border, view_overscan
from ledvolume.timeline import Timeline

RATE_OVER_NS = 20_000_000
WIDEST_RAD = math.radians(80)  # half a view: tangents beyond are no picture
REMEMBERED = 100_000  # frames that percentiles are taken over
SETTLED_BY_NS = 1_000_000_000  # a frame whose instant no pose has reached by then is not judged


def turn_rad(timeline: Timeline, camera: Camera, present_at_ns: int) -> float:
    """How far the camera turns, at its present rate, in the time for which nobody has measured it; 0 where it is held."""
    if camera.tracking not in ("measured", "predicted"):
        return 0.0
    before = timeline.camera_at(present_at_ns - RATE_OVER_NS)
    return angle_rad(before, camera) * camera.age_ns / RATE_OVER_NS


def needed_overscan(lens: Lens, turn: float) -> float:
    """The multiple of the half view that holds all that the bent lens sees, still after a turn (rad) about any axis.

    inf where the lens data fold inside the sensor (lens.py): nobody knows what the lens sees there.
    """
    seen = view_overscan(lens)
    if seen == math.inf:
        return seen
    tangents = [side_mm / 2 / lens.focal_length_mm for side_mm in lens.sensor_mm]
    halves = [math.atan(tangent * seen) for tangent in tangents]
    turned = [math.tan(max(min(half + turn, WIDEST_RAD), half)) for half in halves]
    return max(reach / tangent for reach, tangent in zip(turned, tangents))


def angle_rad(a: Camera, b: Camera) -> float:
    """The angle between two cameras' orientations."""
    dot = abs(sum(p * q for p, q in zip(a.stage_from_camera.wxyz, b.stage_from_camera.wxyz)))
    return 2 * math.acos(min(dot, 1.0))


def reached(drawn: Camera, seen: Camera) -> float:
    """How far the view of `seen`, through its bent lens, reaches in the picture of `drawn`, in half views of it; inf behind it.

    Rays to what is far: the few millimetres between two eyes do not matter there.
    """
    lens = seen.lens
    x, y = ((seen_border(lens) - lens.projection_offset_mm) / lens.focal_length_mm).T
    rays = np.stack([x, np.ones_like(x), -y], -1)
    turned = rays @ (drawn.stage_from_camera.inverse() @ seen.stage_from_camera).matrix()[:3, :3].T
    if not np.all(turned[:, 1] > 1e-6):  # or not known: NaN
        return math.inf
    left, right, bottom, top = view_tangents(drawn.lens)
    u = np.abs(turned[:, 0] / turned[:, 1] - (left + right) / 2) / ((right - left) / 2)
    v = np.abs(turned[:, 2] / turned[:, 1] - (bottom + top) / 2) / ((top - bottom) / 2)
    return float(max(u.max(), v.max()))


class Coverage:
    """What came of the frames of one camera: covered or not, and how far off the prediction was."""

    def __init__(self, footprint: Footprint):
        self.footprint = footprint
        self.covered = self.uncovered = 0
        self.is_covered: bool | None = None  # of the frame that was judged last
        self.off_mm: deque[float] = deque(maxlen=REMEMBERED)
        self.off_deg: deque[float] = deque(maxlen=REMEMBERED)
        self._waiting: deque[FrameRequest] = deque()

    def add(self, request: FrameRequest) -> None:
        """A frame was sent. Held and lost cameras are not judged: there is nothing that was foretold."""
        if request.camera.tracking in ("measured", "predicted"):
            self._waiting.append(request)

    def settle(self, timeline: Timeline, now_ns: int) -> None:
        """Judge the frames whose instants poses have reached since."""
        while self._waiting:
            request = self._waiting[0]
            there = timeline.camera_at(request.present_at_ns)
            if there.tracking == "measured":
                self._judge(request, there)
            elif now_ns - request.present_at_ns < SETTLED_BY_NS:
                return
            self._waiting.popleft()

    def _judge(self, request: FrameRequest, there: Camera) -> None:
        self.is_covered = reached(request.camera, there) <= max(self.footprint.overscan, request.overscan) + 1e-9
        self.covered += self.is_covered
        self.uncovered += not self.is_covered
        drawn_m, there_m = request.camera.stage_from_camera.position_m, there.stage_from_camera.position_m
        self.off_mm.append(1000 * math.dist(drawn_m, there_m))
        self.off_deg.append(math.degrees(angle_rad(request.camera, there)))

    def words(self) -> str:
        """For the live line."""
        return {None: "coverage not known yet", True: "covered", False: "NOT COVERED"}[self.is_covered]

    def summary(self) -> dict:
        """Counts and the errors of prediction, for the status file."""
        return {
            "frames_covered": self.covered,
            "frames_not_covered": self.uncovered,
            "prediction_off_mm": _p50_p95(self.off_mm),
            "prediction_off_deg": _p50_p95(self.off_deg),
        }


def _p50_p95(values: deque[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p95 = np.percentile(values, (50, 95))
    return {"p50": round(float(p50), 4), "p95": round(float(p95), 4)}
