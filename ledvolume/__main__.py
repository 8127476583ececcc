"""`python -m ledvolume` is the same as `ledvolume`."""

import sys

from ledvolume.cli import main

sys.exit(main())
