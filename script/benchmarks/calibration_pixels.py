"""From pixels, not from matches: photographs of a virtual stage → detect → solve → how far every LED is from its truth.

Everything between a show file and a calibrated one is done by the commands, as a person would: `calibrate simulate`, `detect`,
`solve`. The stage: an arc of 4 m and a ceiling, LEDs every 12.5 mm; the show has them some centimetres off, the lens a per cent
too long and without distortion, the tracked point 15 mm from where it is.
"""

import argparse
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from calibration import cli
from calibration.solved import FILE_NAME, Solved, load_solved
from calibration.truth import Truth, led_distances_mm, load_truth
from ledvolume.cli import choose
from ledvolume.config import Show, load_show
from ledvolume.pose import multiply, rotation_vector
from measure import ROOT, Row

OUT = ROOT / "out" / "figures" / "calibration-pixels"
SHOW = OUT / "stage.toml"
VIEWS = 12
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
