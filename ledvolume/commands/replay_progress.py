"""How far a long job is: frames, frames a second, bytes, time left. A bar on a terminal, a line now and then in a log."""

import sys
import time
from datetime import timedelta

from ledvolume.commands.live_line import LiveLine


class Progress:
    """`with Progress(frames, there) as progress: progress.show(finished, bytes)`. there: frames that were finished before."""

    def __init__(self, frames: int, there: int):
        self.frames, self.there = frames, there
        self._line = LiveLine(sys.stderr)
        self._bar = self._task = None
        self._first: tuple[int, float] | None = None

    def __enter__(self) -> "Progress":
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal:
            columns = ("[progress.description]{task.description}", progress.BarColumn(), progress.MofNCompleteColumn())
            self._bar = progress.Progress(*columns, "{task.fields[told]}", console=console)
            self._task = self._bar.add_task("frames", total=self.frames, completed=self.there, told="loading")
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, finished: int, size: int) -> None:
        """finished: of all frames, those that were there too. size: bytes of those that were rendered now."""
        told = f"{self._speed_in_words(finished)} · {size_in_words(size)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=finished, told=told)
        else:
            self._line.show(f"{finished} of {self.frames} frames · {told}")

    def say(self, words: str) -> None:
        """A line that stays."""
        if self._bar is not None and self._bar.live.is_started:
            self._bar.console.print(words, highlight=False, markup=False)
        else:
            self._line.say(words)

    def _speed_in_words(self, finished: int) -> str:
        """Counted from the first frame that was rendered: before it, scenes are loaded."""
        now_s = time.monotonic()
        if self._first is None and finished > self.there:
            self._first = finished, now_s
        if self._first is None or finished == self._first[0]:
            return "- fps"
        fps = (finished - self._first[0]) / max(now_s - self._first[1], 1e-6)
        return f"{fps:.2f} fps · {timedelta(seconds=round((self.frames - finished) / fps))} left"


def size_in_words(size: int) -> str:
    """Bytes, in units of a thousand."""
    from rich.filesize import decimal

    return decimal(size)
