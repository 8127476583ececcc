"""Where in a video, and when, surfaces flash: found by their codes, to about a wall's frame. latency.py goes on from there."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from calibration.flash_video import Brightness
from ledvolume import flash_code
from ledvolume.errors import CalibrationError
from ledvolume.outputs.cues import UNENDED_NS, Shown

FEWEST_FLASHES = 24
BLOCK = 4  # cells, each way: walls are looked for in means of so many
CHANCE = 8.0  # standard deviations of a correlation that is none; of some 10⁷ tries, 6 happen
NEXT_BEST = 0.75  # another delay that fits as well as this: the code was too short to tell
IN_WALL, AS_BRIGHT = 0.5, 0.4  # of a cell that shows the wall: its correlation, and its flicker beside the best ones'


class Flashes(msgspec.Struct, frozen=True):
    """What was on the wall: flash numbers[i] from edges_s[i] to edges_s[i + 1], counted from origin_ns of the house clock."""

    origin_ns: int
    edges_s: np.ndarray
    numbers: np.ndarray

    @property
    def period_s(self) -> float:
        """Of the wall's frames, the median."""
        return float(np.median(np.diff(self.edges_s)))

    def lit_until_s(self, surface: str) -> np.ndarray:
        """(n + 1,) for how long the surface was lit until each edge: its light, integrated."""
        lit = np.array([flash_code.is_lit(surface, int(number)) for number in self.numbers])
        return np.concatenate([[0.0], np.cumsum(lit * np.diff(self.edges_s))])


class Found(NamedTuple):
    """A wall in a video. delay_s: what the video's instants are later than the record's, roughly. cells: (ROWS, COLUMNS) how well
    each goes with the code; 0 where another wall's does better."""

    surface: str
    delay_s: float
    cells: np.ndarray

    @property
    def in_wall(self) -> np.ndarray:
        """(ROWS, COLUMNS) bool."""
        return self.cells > IN_WALL

    @property
    def correlation(self) -> float:
        """Of the best cells."""
        return float(np.sort(self.cells.ravel())[-8:].mean())


def flashes_of(shown: Sequence[Shown], name_of) -> Flashes:
    """The longest run of flashes in what was shown. name_of: a cue's pattern. Raises CalibrationError."""
    runs, run = [], []
    for entry in shown:
        number = flash_code.number_of(name_of(entry.cue))
        if number is not None and entry.until_ns < UNENDED_NS:
            if run and run[-1][2] != entry.from_ns:
                runs.append(run)
                run = []
            run.append((number, entry.from_ns, entry.until_ns))
    runs = [*runs, run]
    best = max(runs, key=len)
    if len(best) < FEWEST_FLASHES:
        raise CalibrationError(
            f"{len(best)} flashes in what was shown, {FEWEST_FLASHES} are the fewest: show them with "
            "`ledvolume calibrate patterns SHOW.toml --series flash`, for 10 seconds or more"
        )
    origin_ns = best[0][1]
    edges = [(from_ns - origin_ns) / 1e9 for _, from_ns, _ in best] + [(best[-1][2] - origin_ns) / 1e9]
    return Flashes(origin_ns, np.array(edges), np.array([number for number, _, _ in best]))


def walls_in(
    video: Brightness, flashes: Flashes, surfaces: Sequence[str], between_s: tuple[float, float] | None = None
) -> tuple[list[Found], dict[str, str]]:
    """The surfaces that flash in the video; and of the others, why not. between_s: delays that are possible; None: all.

    Raises CalibrationError if none was found.
    """
    found, missing = [], {}
    frame_s = min(video.period_s, flashes.period_s)
    lags = _lags(video, flashes, between_s, frame_s / 4)
    blocks = _blocks(video.cells)
    for surface in surfaces:
        scores, best, rest = _scores(blocks, video.at_s, flashes, surface, lags, video.period_s)
        if not scores.size or scores[best] < CHANCE:
            most = f"{scores[best]:.1f}" if scores.size else "none"
            missing[surface] = (
                f"no part of the picture flashes with its code (at most {most} of the {CHANCE:.0f} σ that chance makes)"
            )
            continue
        if rest > NEXT_BEST * scores[best]:
            missing[surface] = (
                f"the video shows too few of its flashes to tell when: another delay fits {rest / scores[best]:.0%} as well. Flash for "
                "10 seconds and more, all of them in the video"
            )
            continue
        delay_s, correlation = _cells(video, flashes, surface, lags[best], frame_s)
        found.append(Found(surface, delay_s, correlation))
    if not found:
        told = "; ".join(f"{surface}: {why}" for surface, why in missing.items())
        raise CalibrationError(
            f"flashes were not found in the video. {told}. Is it the right video and the right record, are the wall's surfaces named "
            "as in the show, does the camera see the wall and stand still, is the wall not overexposed?"
        )
    best = np.stack([wall.cells for wall in found]).argmax(0)
    apart = [wall._replace(cells=np.where(best == i, wall.cells, 0)) for i, wall in enumerate(found)]
    missing |= {wall.surface: "it is seen by another wall's light only" for wall in apart if not wall.in_wall.any()}
    return [wall for wall in apart if wall.in_wall.any()], missing


def light(flashes: Flashes, lit_until_s: np.ndarray, middle_s: np.ndarray, exposure_s: float) -> np.ndarray:
    """How much of an exposure around an instant of the record the surface was lit, 0 to 1."""
    end, begin = (np.interp(middle_s + side * exposure_s / 2, flashes.edges_s, lit_until_s) for side in (1, -1))
    return (end - begin) / exposure_s


def _lags(video: Brightness, flashes: Flashes, between_s: tuple[float, float] | None, step_s: float) -> np.ndarray:
    least = FEWEST_FLASHES * flashes.period_s
    low, high = video.at_s[0] - flashes.edges_s[-1] + least, video.at_s[-1] - flashes.edges_s[0] - least
    if between_s is not None:
        low, high = max(low, between_s[0]), min(high, between_s[1])
    return np.arange(low, high + step_s, step_s) if high > low else np.zeros(0)


def _blocks(cells: np.ndarray) -> np.ndarray:
    """(n, blocks): means, and the mean of the whole picture taken off no block: walls light it all."""
    n, rows, columns = cells.shape
    return cells.reshape(n, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).mean((2, 4)).reshape(n, -1).astype(np.float64)


def _scores(blocks: np.ndarray, at_s: np.ndarray, flashes: Flashes, surface: str, lags: np.ndarray, frame_s: float):
    """(lags,) how many standard deviations the three best blocks are beyond chance; where the best is; the best elsewhere."""
    if not lags.size:
        return np.zeros(0), 0, 0.0
    lit = flashes.lit_until_s(surface)
    blocks = blocks - blocks.mean(0)
    sums, squares = (np.concatenate([np.zeros((1, blocks.shape[1])), np.cumsum(b, 0)]) for b in (blocks, blocks**2))
    scores = np.zeros(len(lags))
    for part in np.array_split(np.arange(len(lags)), max(len(lags) * len(at_s) // 2_000_000, 1)):
        middle_s = at_s[None] - lags[part, None]
        first = (middle_s < flashes.edges_s[0] + frame_s).sum(1)
        last = (middle_s <= flashes.edges_s[-1] - frame_s).sum(1)
        expected = light(flashes, lit, middle_s, 0.5 * frame_s)
        numbers = np.arange(len(at_s))
        expected[(numbers < first[:, None]) | (numbers >= last[:, None])] = 0
        n = np.maximum(last - first, 1)[:, None]
        of_code = expected.sum(1)[:, None]
        code_spread = (expected**2).sum(1)[:, None] - of_code**2 / n
        of_block = sums[last] - sums[first]
        block_spread = squares[last] - squares[first] - of_block**2 / n
        together = expected @ blocks - of_code * of_block / n
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.nan_to_num(together / np.sqrt(code_spread * np.maximum(block_spread, n * 1e-7)))
        z = np.arctanh(np.clip(r, 0, 0.9999)) * np.sqrt(np.maximum(n - 3, 0))
        z[(n < FEWEST_FLASHES / 2).ravel()] = 0
        scores[part] = np.sort(z, axis=1)[:, -3:].mean(1)
    best = int(scores.argmax())
    elsewhere = np.abs(lags - lags[best]) > 2.5 * max(frame_s, flashes.period_s)
    return scores, best, float(scores[elsewhere].max()) if elsewhere.any() else 0.0


def _cells(video: Brightness, flashes: Flashes, surface: str, delay_s: float, frame_s: float) -> tuple[float, np.ndarray]:
    """The delay that the most cells agree with, and every cell's best correlation near it (lines are read one after another)."""
    lit = flashes.lit_until_s(surface)
    n = len(video.at_s)
    cells = video.cells.reshape(n, -1).astype(np.float64)
    best, best_sum, best_delay_s = np.zeros(cells.shape[1]), 0.0, delay_s
    for lag in delay_s + np.arange(-6, 7) * frame_s / 6:
        middle_s = video.at_s - lag
        inside = (middle_s > flashes.edges_s[0] + video.period_s) & (middle_s < flashes.edges_s[-1] - video.period_s)
        code = light(flashes, lit, middle_s[inside], 0.5 * video.period_s)
        code -= code.mean()
        here = cells[inside] - cells[inside].mean(0)
        spread = (here**2).sum(0)
        r = code @ here / np.sqrt((code @ code) * np.maximum(spread, inside.sum() * 1e-6))
        if (r**2 * (r > IN_WALL)).sum() > best_sum:
            best_sum, best_delay_s = float((r**2 * (r > IN_WALL)).sum()), lag
        best = np.maximum(best, r)
    flicker = best * cells.std(0)
    best[flicker < AS_BRIGHT * np.sort(flicker)[-8:].mean()] = 0  # floor and ceiling throw light back
    return best_delay_s, best.reshape(video.cells.shape[1:])
