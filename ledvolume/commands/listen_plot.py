"""The picture that `ledvolume listen --plot` leaves: for every camera where it was, how steadily it came, and how old.

Memory is bounded: when a track is full, every other point of it is dropped, and from then on so many fewer are kept.
"""

import math
from collections import Counter
from pathlib import Path

import numpy as np

from ledvolume.commands.listen_table import degrees, rate_words
from ledvolume.errors import OutputError
from ledvolume.source_health import BIN_NS, LONGEST_BIN, CameraHealth, News, SourceHealth
from ledvolume.sources import Datagram

MOST_POINTS = 4096
MOST_CAMERAS_DRAWN = 6
LEAST_ROOM = 0.05  # m or degrees above and below: noise of a camera that stands still shall look like noise
COLOURS = ("#d1495b", "#3c8d53", "#2e6fbb")
REFUSED, INK, FAINT = "#c1121f", "#22223b", "#d9d9e3"


class Track:
    """Rows of numbers in time, thinned evenly as they grow."""

    def __init__(self):
        self.rows: list[tuple[float, ...]] = []
        self._every = 1
        self._seen = 0

    def add(self, row: tuple[float, ...]) -> None:
        """One more; it may be passed over."""
        if self._seen % self._every == 0:
            self.rows.append(row)
        self._seen += 1
        if len(self.rows) == MOST_POINTS:
            self.rows = self.rows[::2]
            self._every *= 2

    def columns(self) -> np.ndarray:
        """(columns, rows) float64."""
        return np.array(self.rows, float).T


class Plot:
    """Takes what `listen` takes, and draws it at the end."""

    def __init__(self):
        self._tracks: dict[tuple[str, str], Track] = {}  # by source and camera
        self._refused: dict[str, Track] = {}
        self._start_ns = 0

    def add(self, health: SourceHealth, datagram: Datagram, news: News) -> None:
        """The next datagram of a source."""
        self._start_ns = self._start_ns or datagram.received_at_ns
        t = (datagram.received_at_ns - self._start_ns) / 1e9
        for sample in news.samples:
            key = (health.uri, sample.camera_id)
            if key not in self._tracks:
                if len(self._tracks) == MOST_CAMERAS_DRAWN:
                    continue
                self._tracks[key] = Track()
            clock = health.clock_of(sample.camera_id)
            age_ms = (sample.received_at_ns - sample.captured_at_ns) / 1e6
            offset_ms = clock.offset_ns / 1e6 if clock is not None and clock.kind == "source" else math.nan
            row = (t, *sample.world_from_tracker.position_m, *degrees(sample), age_ms, offset_ms)
            self._tracks[key].add(row)
        if news.reject is not None:
            self._refused.setdefault(health.uri, Track()).add((t,))

    def save(self, file: Path, listened: list) -> None:
        """Write the picture. Raises OutputError."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        drawn = [(health, key) for _, health in listened for key in self._tracks if key[0] == health.uri]
        figure = Figure(figsize=(13, 1.0 + 6.0 * max(len(drawn), 1)), dpi=110, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        if not drawn:
            refused = sum((health.decoder.rejects for _, health in listened), Counter())
            words = f"no samples came; {refused.total()} messages were refused" if refused else "nothing came"
            figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=16, color=INK)
        blocks = figure.subfigures(max(len(drawn), 1), 1, squeeze=False)[:, 0]
        for block, (health, key) in zip(blocks, drawn):
            refused = self._refused.get(health.uri, Track()).columns()
            _draw(block, health, health.cameras[key[1]], self._tracks[key].columns(), refused[0] if refused.size else ())
        try:
            figure.savefig(file)
        except (OSError, ValueError) as error:
            raise OutputError(f"{file}: cannot write the picture: {error}") from error


def _draw(block, health: SourceHealth, camera: CameraHealth, track: np.ndarray, refused) -> None:
    t, position, rotation, age_ms, offset_ms = track[0], track[1:4], track[4:7], track[7], track[8]
    (above_left, above_right), (below_left, below_right) = block.subplots(2, 2)
    hz, _, jitter = rate_words(camera).partition(" ± ")
    title = f"{camera.camera_id}   {camera.samples} samples, {hz} Hz ± {jitter} ms"
    if camera.missing:
        title += f", {camera.missing} missing in {camera.gaps} gaps"
    block.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    block.text(0.01, 0.955, health.uri, fontsize=9, color="#6c6c80", va="top")
    _lines(above_left, t, position, ("x", "y", "z"), "position, m")
    _lines(below_left, t, np.degrees(np.unwrap(np.radians(rotation))), ("pan", "tilt", "roll"), "rotation, °")
    _intervals(above_right, camera)
    _ages(below_right, camera, t, age_ms, offset_ms)
    for axes in (above_left, below_left, below_right):
        if len(refused):
            rug = axes.get_xaxis_transform()
            axes.plot(
                refused,
                np.full(len(refused), 0.02),
                "|",
                color=REFUSED,
                markersize=10,
                markeredgewidth=1.8,
                transform=rug,
                label="refused",
            )
        axes.set_xlabel("seconds")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right", frameon=False, ncols=4, fontsize=9)
    for axes in (above_left, above_right, below_left, below_right):
        axes.grid(color=FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)


def _lines(axes, t, values, names, label: str) -> None:
    for name, colour, line in zip(names, COLOURS, values):
        axes.plot(t, line, color=colour, linewidth=1.2, label=name)
    axes.set_ylabel(label)
    low, high = float(np.min(values)), float(np.max(values))
    room = max(0.15 * (high - low), LEAST_ROOM)
    axes.set_ylim(low - room, high + room)


def _intervals(axes, camera: CameraHealth) -> None:
    """Histogram of what lies between arrivals, up to three times the usual; the rest is told in words."""
    bin_ms = BIN_NS / 1e6
    axes.set_xlabel("between arrivals, ms")
    axes.set_ylabel("times")
    if not camera.intervals:
        return
    ordered = sorted(camera.intervals.elements()) if camera.samples < MOST_POINTS else None
    usual_bin = ordered[len(ordered) // 2] if ordered else camera.intervals.most_common(1)[0][0]
    most_bin = max(3 * usual_bin, 10)
    within = {k: n for k, n in camera.intervals.items() if k <= most_bin}
    axes.bar([(k + 0.5) * bin_ms for k in within], within.values(), width=bin_ms, color="#5b6cb3", edgecolor="#5b6cb3")
    axes.set_xlim(0, (most_bin + 1) * bin_ms)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.axvline((usual_bin + 0.5) * bin_ms, color=INK, linewidth=0.8, linestyle=":")
    beyond = sum(n for k, n in camera.intervals.items() if k > most_bin)
    words = f"longest {camera.longest_interval_ns / 1e6:.1f} ms" + (f"; {beyond} beyond the picture" if beyond else "")
    if camera.intervals[LONGEST_BIN]:
        words += f"; {camera.intervals[LONGEST_BIN]} of a second or more"
    axes.text(0.98, 0.95, words, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK)


def _ages(axes, camera: CameraHealth, t, age_ms, offset_ms) -> None:
    axes.set_ylabel("age at arrival, ms")
    if not camera.is_stamped:
        words = "no stamps: captured when they arrive,\nso their age cannot be told"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="#6c6c80")
        axes.set_xlim(t[0], max(t[-1], t[0] + 1e-3))
        axes.set_yticks([])
        return
    axes.plot(t, age_ms, ".", color="#5b6cb3", markersize=2.5, label="age")
    axes.margins(y=0.2)
    known = np.isfinite(offset_ms)
    if known.any():
        right = axes.twinx()
        first_ms = offset_ms[known][0]
        right.plot(t[known], offset_ms[known] - first_ms, color="#e09f3e", linewidth=1.2)
        right.set_ylabel(f"clock offset, ms from {first_ms / 1e3:.3f} s", color="#b87a1d", fontsize=9)
        right.spines["top"].set_visible(False)
