"""What a command that runs for a while says of itself, on stderr."""

import shutil
import sys
import time

LINE_EVERY_S = 5.0  # where the live line cannot be rewritten: a log


class LiveLine:
    """One line on a terminal that is rewritten, with lasting lines above it; in a log, a line now and then."""

    def __init__(self, file=None):
        self._file = sys.stderr if file is None else file
        self._is_terminal = self._file.isatty()
        self._next_s = 0.0
        self._open = False

    def show(self, line: str) -> None:
        if self._is_terminal:
            self._file.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
            self._open = True
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + LINE_EVERY_S
            self._file.write(f"{line}\n")
        self._file.flush()

    def say(self, words: str) -> None:
        self._file.write(f"{chr(10) if self._open else ''}{words}\n")
        self._file.flush()
        self._open = False
