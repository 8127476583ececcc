"""Camera tracks that others made, and the demo's show for them.

Whole files are taken where there is a folder shared/data/tracking beside the checkout, else the parts of them in tests/data.
"""

from pathlib import Path

import tomlkit

from ledvolume.commands.demo import SHOW
from ledvolume.config import load_show
from ledvolume.pose import Pose
from ledvolume.tracks import load_track
from measure import ROOT

WHOLE, PARTS = ROOT.parent / "shared" / "data" / "tracking", ROOT / "tests" / "data"
# The benchmark's poses are of the colour camera's optical frame, x right, y down, z forward
OPTICAL_TILT_DEG = 90.0


def tum_track() -> Path:
    """TUM RGB-D's freiburg1_xyz: a camera in somebody's hands, by a motion capture system at 100 Hz; 30 s, or 10 of them."""
    whole = WHOLE / "tum" / "freiburg1_xyz-groundtruth.txt"
    return whole if whole.exists() else PARTS / "tum" / "freiburg1_xyz_cut.txt"


def nerfstudio_path() -> Path:
    """One lap, drawn in nerfstudio's viewer: 240 frames, or 24 of them."""
    whole = WHOLE / "nerfstudio-camera-path" / "camera_path_one_lap_final.json"
    return whole if whole.exists() else PARTS / "nerfstudio_camera_path" / "one_lap_cut.json"


def registered_demo(folder: Path, track: Path) -> tuple[Path, Pose]:
    """(the demo's show file, `stage_from_world` in it): halfway through the track the camera stands in the zone's middle and
    looks straight at the wall."""
    samples = load_track(track).samples
    tracker_from_camera = Pose(quarter_turn())
    halfway = samples[len(samples) // 2].world_from_tracker @ tracker_from_camera
    stage_from_world = Pose(position_m=load_show(SHOW).stage.zone.centre_m) @ halfway.inverse()
    text = tomlkit.parse(SHOW.read_text())
    text["place"][0]["file"] = str(SHOW.parent / text["place"][0]["file"])
    camera = text["camera"][0]
    camera["stage_from_world"] = {"position_m": list(stage_from_world.position_m), "wxyz": list(stage_from_world.wxyz)}
    camera["tracker_from_camera"] = {"tilt_deg": OPTICAL_TILT_DEG}
    (folder / "show.toml").write_text(tomlkit.dumps(text))
    return folder / "show.toml", stage_from_world


def quarter_turn() -> tuple[float, float, float, float]:
    """OPTICAL_TILT_DEG about x, as a quaternion."""
    return (0.5**0.5, 0.5**0.5, 0.0, 0.0)
