"""A calibration's folder while it fills: every picture becomes a Shot with its pattern, its view and the tracker's sample, and
is looked at at once. What is said of it is returned in words. shots.json is whole after every picture.

Which pattern a picture shows is told by one of three:

    order     the series, again and again: a round is a view. Subfolders, where there are some, are views
    time      the instants of pictures, and what was shown when (outputs/cues.py)
    one       the wall shows one pattern: every picture is a view of its own
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibration import picture_check
from calibration.picture_sources import Picture
from calibration.series import name_of
from calibration.session import Shot, load_shots, save
from calibration.tracker_samples import MOVED_DEG, MOVED_MM, STILL_DEG, STILL_MM, Samples, spread
from ledvolume.errors import CalibrationError
from ledvolume.outputs.cues import Shown
from ledvolume.outputs.images import png
from ledvolume.outputs.whole_file import write_whole

SHOTS = "shots.json"


class Assigned(NamedTuple):
    """A picture with what it shows, and the view that it belongs to."""

    picture: Picture
    pattern: str
    view: str


class Capture:
    """Pictures in, shots.json and words out. samples: None without a tracker. offset_ns: added to the pictures' instants, to
    have them on the tracker's clock."""

    def __init__(
        self,
        folder: Path,
        samples: Samples | None = None,
        camera_id: str = "",
        lens_state: str = "0",
        offset_ns: int = 0,
    ):
        self.folder, self.samples, self.camera_id, self.lens_state = folder, samples, camera_id, lens_state
        self.offset_ns = offset_ns
        file = folder / SHOTS
        self.shots: list[Shot] = load_shots(file) if file.exists() else []
        self._seen: dict[
            str, dict[str, np.ndarray]
        ] = {}  # view → white, black or what else: luminance, of those that are being taken
        self._thumbs: dict[str, dict[str, np.ndarray]] = {}  # the same of whole views, small

    @property
    def views(self) -> list[str]:
        """Names, in the order in which they were begun."""
        return list(dict.fromkeys(shot.view for shot in self.shots))

    def view_names(self) -> Iterator[str]:
        """For views that are not there yet."""
        taken = set(self.views)
        return (name for number in count(1) if (name := f"view-{number:02d}") not in taken)

    def of_view(self, view: str) -> list[Shot]:
        return [shot for shot in self.shots if shot.view == view]

    def has(self, file: Path) -> bool:
        """Whether a picture was taken up before, here or from elsewhere."""
        if not file.is_file():
            return False
        ours = [self.folder / shot.picture for shot in self.shots]
        same = [one for one in ours if one.is_file() and one.stat().st_size == file.stat().st_size]
        return any(one.samefile(file) or one.read_bytes() == file.read_bytes() for one in same)

    def add(self, assigned: Assigned) -> list[str]:
        """A picture is taken up; one of the same view and pattern is replaced. Returns what is wrong with it, and with the
        tracker then. Raises OutputError."""
        picture, pattern, view = assigned
        luminance = picture_check.luminance(picture.pixels)
        said = picture_check.troubles(luminance, pattern)
        sample, at_ns = None, picture.at_ns + self.offset_ns if picture.at_ns else 0
        if self.samples is not None:
            sample = self.samples.at(at_ns) if at_ns else None
            said += self._tracker_troubles(sample, at_ns, view)
        shot = Shot(
            picture=self._kept(assigned),
            view=view,
            pattern=pattern,
            camera_id=sample.camera_id if sample else self.camera_id,
            world_from_tracker=sample.world_from_tracker if sample else None,
            captured_at_ns=at_ns,
            lens_state=self.lens_state,
            zoom_encoder=sample.lens.zoom_encoder if sample else None,
            focus_encoder=sample.lens.focus_encoder if sample else None,
        )
        kept = [s for s in self.shots if (s.view, s.pattern) != (view, pattern)]
        self.shots = [*kept, shot]
        save(self.folder / SHOTS, self.shots)
        if pattern in ("white", "black") or not self._seen.get(view):
            self._seen.setdefault(view, {})[pattern] = luminance.astype(np.float16)
        return [f"{view}, {pattern} ({picture.name}): {words}" for words in said]

    def end_view(self, view: str) -> list[str]:
        """What is wrong with a view as a whole, now that all of it is there."""
        pictures, said = self._seen.pop(view, {}), []
        if {"white", "black"} <= pictures.keys():
            said += picture_check.series_troubles(pictures["white"], pictures["black"])
        thumbs = {pattern: _thumb(picture) for pattern, picture in pictures.items()}
        for before, other in self._thumbs.items():
            common = thumbs.keys() & other.keys() - {"black"}
            if common and all(picture_check.is_same_place(thumbs[p], other[p]) for p in common):
                said.append(f"the same place as {before}: it says nothing new. Go somewhere else")
                break
        self._thumbs[view] = thumbs
        return [f"{view}: {words}" for words in said]

    def _tracker_troubles(self, sample, at_ns: int, view: str) -> list[str]:
        if not at_ns:
            return ["it does not say when it was taken: no sample of the tracker belongs to it"]
        if sample is None:
            return [f"the tracker said nothing within 0.1 s of it{self._how_far(at_ns)}: no pose of this picture is known"]
        mm, degrees = self.samples.motion(at_ns)
        if mm > STILL_MM or degrees > STILL_DEG:
            return [f"the camera moves: {mm:.0f} mm and {degrees:.1f}° within 0.3 s. Hold it still"]
        others = [s.world_from_tracker for s in self.of_view(view) if s.world_from_tracker is not None]
        if others:
            mm, degrees = spread([others[0], sample.world_from_tracker])
            if mm > MOVED_MM or degrees > MOVED_DEG:
                return [
                    f"the camera has moved since the view was begun, {mm:.0f} mm and {degrees:.1f}°: take all of it from one place"
                ]
        return []

    def _how_far(self, at_ns: int) -> str:
        if (newest := self.samples.newest) is None:
            return " (nothing at all)"
        return f" (its nearest end is {abs(at_ns - newest.captured_at_ns) / 1e9:.1f} s away: are the clocks the same? --offset-s)"

    def _kept(self, assigned: Assigned) -> str:
        """Where the picture lies in the folder; it is brought there if it does not."""
        picture, pattern, view = assigned
        if picture.file is not None and picture.file.resolve().is_relative_to(self.folder.resolve()):
            return picture.file.resolve().relative_to(self.folder.resolve()).as_posix()
        suffix = picture.file.suffix.lower() if picture.file else ".png"
        name = f"pictures/{view}/{pattern.replace('/', '_')}{suffix}"
        data = picture.file.read_bytes() if picture.file else png(_three(picture.pixels))
        write_whole(self.folder / name, data)
        return name


def in_order(pictures: Iterable[Picture], names: Sequence[str], views: Iterator[str]) -> Iterator[Assigned]:
    """By the order in which they come. views: names for views where no subfolders are."""
    place, view, folder = 0, "", None
    for picture in pictures:
        if picture.folder != folder:
            if 0 < place < len(names):
                raise CalibrationError(f"{folder or 'the folder'}: {place} pictures, the series has {len(names)}: one is missing")
            place, folder = 0, picture.folder
        if place == len(names):
            if picture.folder:
                raise CalibrationError(f"{folder}: more than {len(names)} pictures, as many as the series has")
            place = 0
        if place == 0:
            view = picture.folder.replace("/", "-") or next(views)
        yield Assigned(picture, names[place], view)
        place += 1


def by_time(
    pictures: Iterable[Picture], shown: Sequence[Shown], settle_ns: int, every_ns: int, offset_ns: int, views: Iterator[str]
) -> Iterator[Assigned]:
    """By what was on the wall when they were taken; the pictures must come in the order of their instants.

    Of several pictures of one pattern the one nearest to the middle is taken, after settle_ns: walls and cameras are late.
    Of dots, which one picture is read by, the sharpest of every `every_ns` is a view of its own.
    """
    names = [name_of(one.cue) for one in shown]
    of_view: dict[int, str] = {}
    in_view: set[str] = set()
    for i, name in enumerate(names):
        if name and not _is_single(name):
            if not in_view or name in in_view:
                in_view, view = set(), next(views)
            in_view.add(name)
            of_view[i] = view
    found: tuple[tuple[int, int], float, Picture] | None = None  # which window, how bad, picture
    place = 0
    for picture in pictures:
        at_ns = picture.at_ns + offset_ns
        while place < len(shown) and at_ns >= shown[place].until_ns:
            place += 1
        if place == len(shown):
            break
        one = shown[place]
        if not names[place] or at_ns < one.from_ns + settle_ns:
            continue
        if _is_single(names[place]):
            window = (place, (at_ns - one.from_ns - settle_ns) // every_ns)
            bad = picture_check.edge_width_px(picture_check.luminance(picture.pixels)) or np.inf
        else:
            window, bad = (place, 0), abs(at_ns - (one.from_ns + settle_ns + one.until_ns) / 2)
        if found and found[0] != window:
            yield _assigned(found, names, of_view, views)
            found = None
        if found is None or bad < found[1]:
            found = (window, bad, picture)
    if found:
        yield _assigned(found, names, of_view, views)


def of_one(pictures: Iterable[Picture], name: str, views: Iterator[str]) -> Iterator[Assigned]:
    """The wall shows one pattern all the time."""
    for picture in pictures:
        yield Assigned(picture, name, next(views))


def _assigned(found, names: list[str], of_view: dict[int, str], views: Iterator[str]) -> Assigned:
    (place, _), _, picture = found
    return Assigned(picture, names[place], of_view.get(place) or next(views))


def _is_single(name: str) -> bool:
    return name.startswith("dots")


def _thumb(picture: np.ndarray) -> np.ndarray:
    step = max(min(picture.shape) // 128, 1)
    return picture[::step, ::step].astype(np.float32)


def _three(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1))
