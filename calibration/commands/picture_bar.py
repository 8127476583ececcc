"""Progress of a command that goes through pictures: which one, how many, and the time left, on stderr."""

from calibration.session import Shot


class PictureBar:
    """verb: what is done to the pictures, until the first one is."""

    def __init__(self, verb: str, pictures: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(verb, total=pictures)

    def __enter__(self) -> "PictureBar":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def advance(self, shot: Shot) -> None:
        self._progress.update(self._task, advance=1, description=f"{shot.view} {shot.pattern}")
