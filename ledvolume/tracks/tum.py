"""TUM trajectories: `t tx ty tz qx qy qz qw` a line, seconds and metres, # comments (the TUM RGB-D benchmark's format).

The rotation and the axes are taken to be ours: a SLAM system's optical axes (x right, y down, z forward) are not turned, so
its hand-eye belongs into the show's tracker_from_camera.
"""

import math
from pathlib import Path

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose, canonical
from ledvolume.tracks.track import (
    Assumed,
    Progress,
    Track,
    checked_sample,
    lines_of,
    made_track,
    nanoseconds,
    no_progress,
    only_camera,
    seconds_text,
)

COLUMNS = "time_s x y z qx qy qz qw"


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """A track; times must rise. Raises ConfigError."""
    samples = []
    for number, line in lines_of(path, progress):
        try:
            cells = line.split()
            if len(cells) != 8:
                raise ValueError(f"{len(cells)} values")
            x, y, z, *q = map(float, cells[1:])
            if not all(map(math.isfinite, (x, y, z, *q))):
                raise ValueError("a value that is not finite")
            at_ns = nanoseconds(cells[0])
            if samples and at_ns <= samples[-1].captured_at_ns:
                raise ValueError("times that do not rise")
            pose = Pose(canonical((q[3], q[0], q[1], q[2])), (x, y, z))
        except ValueError as error:
            raise ConfigError(path, f"line {number}", f"{COLUMNS}, all numbers", str(error)) from None
        samples.append(checked_sample(CameraSample(assumed.camera, at_ns, at_ns, pose), path, f"line {number}"))
    return made_track(path, "tum", samples)


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """Poses of one camera, to the micrometre and 1e-9 of a quaternion."""
    samples = only_camera(track, path, "a TUM file")
    with open(path, "w", encoding="utf-8") as file:
        file.write("# timestamp tx ty tz qx qy qz qw: metres, X right, Y forward, Z up\n")
        for sample in samples:
            w, *v = sample.world_from_tracker.wxyz
            numbers = [f"{c:.6f}" for c in sample.world_from_tracker.position_m] + [f"{c:.9f}" for c in (*v, w)]
            file.write(f"{seconds_text(sample.captured_at_ns)} {' '.join(numbers)}\n")
    return []
