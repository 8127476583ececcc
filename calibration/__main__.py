"""`python -m calibration`: the same as `ledvolume calibrate`."""

import sys

from calibration import cli
from ledvolume.cli import choose

sys.exit(choose("python -m calibration", cli.__doc__, cli.COMMANDS, sys.argv[1:]))
