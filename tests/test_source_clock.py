"""Stamps of a sender's own clock, placed on the house clock."""

import random

import pytest

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose
from ledvolume.protocols import open_decoder
from ledvolume.protocols.decoder import MOST_CLOCKS
from ledvolume.protocols.native import encode
from ledvolume.source_clock import SourceClock
from ledvolume.sources import Datagram

MS, S = 1_000_000, 1_000_000_000
T0 = 1_790_000_000 * S
BOOTED = 12_345 * S  # what the sender's clock says at T0
SHORTEST_NS = 2 * MS


def link(drift_ppm: float, seconds: float, hertz: float = 100, jitter_ms: float = 5, kind="exponential", seed=1, start_s=0.0):
    """(captured, stamped, received) of a simulated sender; captured is the truth, plus the shortest delay."""
    r, arrived = random.Random(seed), 0
    delay = {"exponential": lambda: r.expovariate(1), "gauss": lambda: abs(r.gauss(0, 1)), "uniform": r.random}[kind]
    for k in range(int(seconds * hertz)):
        since_ns = round((start_s + k / hertz) * S)
        captured = T0 + since_ns + SHORTEST_NS
        arrived = max(captured + round(delay() * jitter_ms * MS), arrived + 1000)
        yield captured, BOOTED + since_ns + round(since_ns * drift_ppm / 1e6), arrived


LINKS = [(drift, hertz, kind) for drift in (0, 100, -200) for hertz in (30, 100) for kind in ("exponential", "gauss", "uniform")]


@pytest.mark.parametrize(("drift", "hertz", "kind"), LINKS)
def test_a_drifting_clock_behind_a_jittering_network_is_followed(drift, hertz, kind):
    clock, last = SourceClock(), 0
    for n, (captured, stamped, received) in enumerate(link(drift, 120, hertz, kind=kind)):
        mapped = clock.captured_at_ns(stamped, received)
        assert last < mapped <= received
        last = mapped
        if n >= 10 * hertz:
            assert abs(mapped - captured) < 0.25 * MS  # the shortest of some hundred delays is itself above 0
        elif n >= hertz:
            assert abs(mapped - captured) < 1 * MS  # 200 ppm of the 3 s that are looked at before the drift is known
    # a clock that runs fast by 100 ppm falls behind in received - stamped
    assert clock.drift_ppm == pytest.approx(-drift, abs=5)
    assert (clock.kind, clock.resets) == ("source", 0)


def test_an_hour_of_drift_is_followed_within_a_fifth_of_a_millisecond():
    clock = SourceClock()
    off = [abs(clock.captured_at_ns(stamped, received) - captured) for captured, stamped, received in link(100, 3600, 30)]
    assert max(off[300:]) < 0.2 * MS  # of 100 ppm · 3600 s = 360 ms


def test_the_first_sample_is_at_its_arrival_and_the_second_in_its_rhythm():
    clock = SourceClock("source")
    assert clock.captured_at_ns(BOOTED, T0) == T0
    # stamped 10 ms later, arrived 25 ms later: 15 ms are delay
    assert clock.captured_at_ns(BOOTED + 10 * MS, T0 + 25 * MS) == T0 + 10 * MS


def test_a_burst_after_a_stall_keeps_the_rhythm_of_its_stamps():
    clock = SourceClock()
    for k in range(1000):
        clock.captured_at_ns(BOOTED + k * 10 * MS, T0 + k * 10 * MS)
    burst = [clock.captured_at_ns(BOOTED + k * 10 * MS, T0 + 11_500 * MS + k) for k in range(1000, 1150)]
    assert burst == pytest.approx([T0 + k * 10 * MS for k in range(1000, 1150)], abs=0.01 * MS)
    assert clock.resets == 0


SET_TO = {"restarted": -12_345 * S, "set back a second": -1 * S, "set ahead a second": 1 * S, "set ahead a day": 86_400 * S}


@pytest.mark.parametrize("step", SET_TO.values(), ids=SET_TO.keys())
def test_a_sender_whose_clock_is_set_is_locked_on_anew(step):
    clock, last = SourceClock(), 0
    for k in range(2000):
        stamped = BOOTED + k * 10 * MS + (step if k >= 1000 else 0)
        mapped = clock.captured_at_ns(stamped, T0 + k * 10 * MS)
        assert last < mapped <= T0 + k * 10 * MS
        last = mapped
    assert clock.resets == 1
    assert mapped == pytest.approx(T0 + 1999 * 10 * MS, abs=0.01 * MS)


def test_reordered_datagrams_are_no_restart():
    clock = SourceClock()
    for k in [k ^ 1 for k in range(1000)]:
        assert clock.captured_at_ns(BOOTED + k * 10 * MS, T0 + max(k, k ^ 1) * 10 * MS) <= T0 + max(k, k ^ 1) * 10 * MS
    assert clock.resets == 0


KINDS = {
    # stamped - received; what auto takes it for; what is mapped - received
    "UTC, 5 ms old": (-5 * MS, "house-utc", -5 * MS),
    "UTC, 3 ms ahead": (3 * MS, "house-utc", 3 * MS),
    "TAI as PTP gives it, 5 ms old": (37 * S - 5 * MS, "house-tai", -5 * MS),
    "30 s ahead is no known clock": (30 * S - 5 * MS, "source", 0),
    "3 s old": (-3 * S, "source", 0),
    "since boot": (BOOTED - T0, "source", 0),
}


@pytest.mark.parametrize(("ahead", "kind", "mapped"), KINDS.values(), ids=KINDS.keys())
def test_a_clock_is_named_by_its_stamps(ahead, kind, mapped):
    clock = SourceClock()
    for k in range(10):
        received = T0 + k * 10 * MS
        assert clock.captured_at_ns(received + ahead, received) == received + mapped
    assert (clock.kind, clock.resets) == (kind, 0)
    assert clock.offset_ns == -ahead


def test_one_bad_stamp_of_a_house_clock_is_passed_over_and_three_are_another_clock():
    clock = SourceClock()
    for k in range(10):
        clock.captured_at_ns(T0 + k * MS, T0 + k * MS)
    assert clock.captured_at_ns(17, T0 + 10 * MS) == T0 + 10 * MS
    assert clock.captured_at_ns(T0 + 9 * MS, T0 + 11 * MS) == T0 + 9 * MS
    for k in range(12, 15):
        clock.captured_at_ns(BOOTED + k * MS, T0 + k * MS)
    assert (clock.kind, clock.resets) == ("source", 1)


def test_arrival_ignores_stamps():
    assert SourceClock("arrival").captured_at_ns(BOOTED, T0) == T0


def datagram(camera_id: str, stamped: int, received: int, captured: int = 0) -> Datagram:
    return Datagram("", encode(CameraSample(camera_id, captured, 0, Pose(), stamped_at_ns=stamped)), received)


def test_the_decoder_follows_each_sender_by_itself():
    decoder = open_decoder("native", cameras={"1": "A"})
    for k in range(100):
        for wire_id, booted in (("1", BOOTED), ("B", 5 * S)):
            (sample,) = decoder.decode(datagram(wire_id, booted + k * 10 * MS, T0 + k * 10 * MS + k % 2 * MS))
    assert sample.captured_at_ns == T0 + 990 * MS
    assert {name: clock.offset_ns for name, clock in decoder.clocks.items()} == {"1": T0 - BOOTED, "B": T0 - 5 * S}
    (renamed,) = decoder.decode(datagram("1", 0, T0 + S))
    assert (renamed.camera_id, renamed.captured_at_ns) == ("A", T0 + S)


def test_stamps_on_the_house_clock_stay_as_the_protocol_gave_them():
    (sample,) = open_decoder("native").decode(datagram("A", BOOTED, T0, captured=T0 - 7 * MS))
    assert sample.captured_at_ns == T0 - 7 * MS


def test_a_stamp_that_is_told_to_be_of_the_house_and_is_not_is_refused():
    decoder = open_decoder("native", clock="house")
    assert decoder.decode(datagram("A", T0 - 3 * S, T0)) == []
    assert decoder.rejects == {"bad-stamp": 1}
    (sample,) = decoder.decode(datagram("B", T0 + 37 * S - MS, T0))
    assert sample.captured_at_ns == T0 - MS


def test_a_mode_that_is_none_is_explained():
    with pytest.raises(ConfigError, match="one of auto, house, source, arrival"):
        open_decoder("native", clock="ptp")


def test_senders_without_end_take_no_memory_without_end():
    decoder = open_decoder("native")
    for k in range(2 * MOST_CLOCKS):
        assert decoder.decode(datagram(str(k), BOOTED, T0 + k))[0].captured_at_ns == T0 + k
    assert len(decoder.clocks) == MOST_CLOCKS
