"""What a receiver has seen of one tile: how many, which are missing, how old. Pure: it reads no clock."""

from collections import deque

import numpy as np

from ledvolume.outputs.wire import ReceivedTile

REMEMBERED = 20_000  # frames that percentiles are taken over: 5 minutes at 60 fps
AGES = ("decided_to_received", "sent_to_received", "present_to_received")


class TileTally:
    """Counts one tile's frames.

    lost: sent, never arrived (gaps in the stream's sequence). skipped: never sent, the server was late (gaps in the
    frame index beyond that). restarts: the server began anew.
    """

    def __init__(self):
        self.frames = self.lost = self.skipped = self.restarts = 0
        self.first: ReceivedTile | None = None
        self.last: ReceivedTile | None = None
        self._ages_ns: dict[str, deque[int]] = {name: deque(maxlen=REMEMBERED) for name in AGES}

    def add(self, tile: ReceivedTile) -> None:
        header = tile.header
        if self.last is None:
            self.first = tile
        else:
            before = self.last.header
            if header.started_at_ns == before.started_at_ns:
                sent = header.sequence - before.sequence
                self.lost += sent - 1
                self.skipped += max(header.request.index - before.request.index - sent, 0)
            else:
                self.restarts += 1
        self.frames += 1
        self.last = tile
        self._ages_ns["decided_to_received"].append(tile.received_at_ns - header.request.decided_at_ns)
        self._ages_ns["sent_to_received"].append(tile.received_at_ns - header.sent_at_ns)
        self._ages_ns["present_to_received"].append(tile.received_at_ns - header.request.present_at_ns)

    def ms(self, name: str) -> dict[str, float]:
        """p50 and p99 in milliseconds. `present_to_received` is negative where the tile was there in time."""
        p50, p99 = np.percentile(self._ages_ns[name], (50, 99)) / 1e6
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}

    def summary(self) -> dict:
        """What `ledvolume tile --json` prints of a tile."""
        if self.last is None:
            return {"frames": 0}
        seconds = (self.last.received_at_ns - self.first.received_at_ns) / 1e9
        return {
            "frames": self.frames,
            "lost": self.lost,
            "skipped": self.skipped,
            "restarts": self.restarts,
            "fps": round((self.frames - 1) / seconds, 2) if seconds > 0 else 0.0,
            "first_index": self.first.header.request.index,
            "last_index": self.last.header.request.index,
            "resolution_px": self.last.header.resolution_px,
            "pixel_format": self.last.header.pixel_format,
            **{f"{name}_ms": self.ms(name) for name in self._ages_ns},
        }
