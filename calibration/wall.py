"""The wall while somebody photographs it: `calibrate patterns --step` as a process of its own, told which pattern to show.

A process, because the server's loop is one thread that never waits for anything else.
"""

import subprocess
import sys
import time
from pathlib import Path

from calibration.series import cue_of
from ledvolume.errors import CalibrationError
from ledvolume.outputs.cues import Shown, load_shown

PATIENCE_S = 60.0  # until the first pattern is there: OpenGL, shaders
ENDS_IN_S = 10.0


class Wall:
    """The outputs of a show, showing patterns. shown: the file in which it is written down, new."""

    def __init__(self, show: Path, shown: Path, outputs: list[str]):
        self._shown = shown
        shown.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "calibration",
            "patterns",
            str(show),
            "--step",
            "--series",
            "black",
            "--shown",
            str(shown),
        ]
        command += [word for uri in outputs for word in ("--output", uri)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def show(self, name: str, while_waiting=lambda: None) -> int:
        """Put a pattern up; returns the instant from which the wall's outputs have had it. Raises CalibrationError."""
        self._say(name)
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            if self._process.poll() is not None:
                raise CalibrationError(
                    f"the wall has ended: {self._process.stderr.read().decode(errors='replace')[-400:].strip()}"
                )
            if (now := self._now()) and now.cue == cue_of(name):
                return now.from_ns
            while_waiting()
            time.sleep(0.01)
        raise CalibrationError(f"the wall did not show {name} within {PATIENCE_S:.0f} s")

    def close(self) -> None:
        if self._process.poll() is None:
            try:
                self._say("q")
                self._process.wait(ENDS_IN_S)
            except (CalibrationError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.stdin.close()
        self._process.stderr.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended; why is said by whoever waits for it

    def _now(self) -> Shown | None:
        if not self._shown.exists():
            return None
        shown = load_shown(self._shown)
        return shown[-1] if shown else None
