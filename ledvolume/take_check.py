"""Is a replay what happened? Where two runs part, the first difference is named: frame, stage of its way, what differs.

    datagrams   the payloads in the take have not the sums that were noted when they came
    camera      the same datagrams, decoded and put into the timeline again, give another request
    picture     the same request, rendered again, gives other code values

A difference of an earlier stage makes those of later ones, so stages are checked in this order.
"""

from collections.abc import Iterator

import msgspec

from ledvolume.clock import Tick
from ledvolume.config import Show
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered
from ledvolume.outputs.wire import crc32
from ledvolume.protocols import open_decoder
from ledvolume.schedule import Inputs, decided
from ledvolume.server import timelines_of
from ledvolume.take import FrameRecord, Take


class Difference(msgspec.Struct, frozen=True):
    """index: of the frame. stage: datagrams, camera or picture. what: in words."""

    index: int
    stage: str
    what: str

    def __str__(self) -> str:
        return f"frame {self.index}, {self.stage}: {self.what}"


def input_differences(take: Take, show: Show) -> Iterator[Difference]:
    """What the datagrams of a take say otherwise than its requests. Decoders and timelines start as they did live."""
    decoders = [open_decoder(source.protocol, **msgspec.structs.asdict(source.reading)) for source in take.sources]
    inputs = Inputs([(None, decoder) for decoder in decoders], timelines_of(show))
    on_air = inputs.timelines[show.stage.rigs[0].camera_id]
    for taken in take.frames():
        yield from _sum_differences(taken.record, taken.datagrams)
        for number, datagram in taken.datagrams:
            inputs.take(number, datagram)
        was = taken.record.request
        tick = Tick(was.index, was.present_at_ns)
        now = decided(on_air, tick, was.decided_at_ns, was.scene, was.quality, was.outer_steps, show.footprint)
        if (now := msgspec.structs.replace(now, cue=was.cue)) != was:  # a cue is an operator's word, not the datagrams'
            yield Difference(was.index, "camera", f"the datagrams give {_first_difference(now, was)}")


class Comparison:
    """Frames that were rendered again against those of the take."""

    def __init__(self, take: Take):
        self._tiles, self._driver = take.tiles, take.facts["driver"]
        self._sums = {frame.record.request.index: frame.record.tiles for frame in take.frames()}

    def difference(self, rendered: Rendered) -> Difference | None:
        """The first tile whose code values are not those that were sent."""
        for name, was in zip(self._tiles, self._sums[rendered.index]):
            if (now := rendered.tile_hashes.get(name)) != was:
                told = "is not there" if now is None else f"CRC-32 {now:08x}, was {was:08x}"
                return Difference(rendered.index, "picture", f"tile {name}: {told}; the take was made on {self._driver}")
        return None


def _sum_differences(record: FrameRecord, datagrams: list) -> Iterator[Difference]:
    index = record.request.index
    if len(datagrams) != len(record.datagrams):
        yield Difference(index, "datagrams", f"{len(datagrams)} in the file, {len(record.datagrams)} came")
        return
    for place, ((_, datagram), was) in enumerate(zip(datagrams, record.datagrams), 1):
        if (now := crc32(datagram.payload)) != was:
            which = f"number {place} of {len(datagrams)}, from {datagram.source}, received at {datagram.received_at_ns}"
            yield Difference(index, "datagrams", f"{which}: CRC-32 {now:08x}, was {was:08x}")


def _first_difference(now: FrameRequest, was: FrameRequest) -> str:
    """`camera.age_ns 12, was 13`: the first field that differs, whatever its depth."""

    def walk(a, b, path: str) -> str | None:
        if isinstance(a, msgspec.Struct) and type(a) is type(b):
            for name in a.__struct_fields__:
                if found := walk(getattr(a, name), getattr(b, name), f"{path}.{name}".lstrip(".")):
                    return found
            return None
        return None if a == b else f"{path} {a}, was {b}"

    return walk(now, was, "") or "another request"
