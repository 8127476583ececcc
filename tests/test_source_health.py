"""What is told of a source: pace, gaps, bursts, frozen poses, clocks, troubles with their advice. And why nothing comes."""

import ast
import re
from pathlib import Path

import pytest
from rich.console import Console

from ledvolume.camera import CameraSample, LensReading
from ledvolume.commands.listen_table import camera_line, clock_words, screen
from ledvolume.network_cards import NetworkCard
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.protocols.advice import WHAT_IT_MEANS, WHAT_TO_CHECK, what_it_means
from ledvolume.silence import Network, reasons
from ledvolume.source_clock import SourceClock
from ledvolume.source_health import MOST_CAMERAS, RECENT, CameraHealth, SourceHealth
from ledvolume.sources import Datagram, address, open_source

ROOT = Path(__file__).resolve().parent.parent
NOW = 1_790_000_000_000_000_000
MS = 1_000_000
S = 1_000_000_000


def fed(arrivals_ms, stamps_ms=None, positions=None) -> CameraHealth:
    """A camera whose samples arrive so; without stamps they count as captured when they arrive."""
    camera = CameraHealth("A")
    for k, at_ms in enumerate(arrivals_ms):
        at_ns, x = NOW + round(at_ms * MS), 0.001 * k if positions is None else positions[k]
        stamp_ns = round(stamps_ms[k] * MS) if stamps_ms else 0
        captured_ns = at_ns - 2 * MS if stamps_ms else at_ns
        camera.add(CameraSample("A", captured_ns, at_ns, Pose(position_m=(x, 0, 0)), stamped_at_ns=stamp_ns))
    return camera


def test_a_steady_camera_has_its_rate_and_nothing_else():
    camera = fed(20 * k for k in range(200))
    assert camera.rate_hz == pytest.approx(50) and camera.jitter_ms == 0
    assert (camera.gaps, camera.missing, camera.bursts, camera.longest_interval_ns) == (0, 0, 0, 20 * MS)
    assert camera.age_ms is None and not camera.is_stamped  # captured on arrival: its age is not known


def test_jitter_is_half_of_what_holds_nine_tenths_of_the_intervals():
    # arrivals alternate 2 ms early and late: intervals of 16 and 24 ms
    camera = fed(20 * k + (2 if k % 2 else -2) for k in range(200))
    assert camera.jitter_ms == pytest.approx(4)


def test_what_was_lost_is_missing():
    camera = fed(20 * k for k in range(200) if k not in (60, 61, 62, 120))
    assert (camera.gaps, camera.missing, camera.longest_interval_ns) == (2, 4, 80 * MS)


def test_what_the_network_held_back_is_late_and_not_missing():
    # samples 60 to 62 come with 63, 0.1 ms apart
    late = {60: 1260.0, 61: 1260.1, 62: 1260.2, 63: 1260.3}
    camera = fed(late.get(k, 20 * k) for k in range(200))
    assert (camera.gaps, camera.missing, camera.bursts) == (0, 0, 3)


def test_with_stamps_a_burst_hides_no_loss():
    """Held back for 80 ms, and one of four was lost: the sender's stamps tell."""
    kept = [k for k in range(200) if k != 61]
    late = {60: 1260.0, 62: 1260.2, 63: 1260.3}
    camera = fed([late.get(k, 20 * k) for k in kept], [5000 + 20 * k for k in kept])
    assert (camera.gaps, camera.missing) == (1, 1)
    assert camera.age_ms == 2


def test_a_senders_clock_that_is_set_is_no_gap():
    camera = fed([20 * k for k in range(200)], [20 * k + (3_600_000 if k >= 100 else 0) for k in range(200)])
    assert (camera.gaps, camera.missing) == (0, 0)


def test_a_pose_that_stays_the_same_to_the_last_bit_is_told():
    decoder = open_decoder("freed")
    health = SourceHealth("freed+udp://:40000", decoder)
    encode = open_encoder("freed")
    for k in range(100):
        x = 0.001 * min(k, 20)
        [payload] = encode(CameraSample("1", NOW, NOW, Pose(position_m=(x, 0, 0))))
        health.add(Datagram("", payload, NOW + 20 * k * MS))
    camera = health.cameras["1"]
    assert camera.unchanged_ns == camera.longest_unchanged_ns == 79 * 20 * MS  # since the 21st, when it last changed
    [words] = health.warnings(camera, NOW + 99 * 20 * MS)
    assert words.startswith("the same pose for 1.6 s") and "FreeD has no word for a lost camera" in words
    [words] = health.warnings(camera, NOW + 99 * 20 * MS + 5 * S)
    assert words == "nothing for 5.0 s"


def test_memory_is_bounded():
    camera = fed(range(3 * RECENT))
    assert max(len(v) for v in vars(camera).values() if hasattr(v, "__len__") and not isinstance(v, str)) <= RECENT
    health, encode = SourceHealth("native+udp://:1", open_decoder("native")), open_encoder("native")
    for k in range(2 * MOST_CAMERAS):
        [payload] = encode(CameraSample(f"camera {k}", NOW, NOW, Pose()))
        health.add(Datagram("", payload, NOW))
    assert len(health.cameras) == MOST_CAMERAS == health.unlisted


# ---- what is refused


def test_troubles_have_their_newest_text_and_what_to_check():
    health = SourceHealth("osc+udp://:9000", open_decoder("osc"))
    first = health.add(Datagram("", b"garbage", NOW))
    again = health.add(Datagram("", b"more garbage", NOW))
    assert first.reject.reason == again.reject.reason == "not-osc"
    [(what, reason, times, newest, check)] = health.troubles()
    assert (what, reason, times) == ("refused", "not-osc", 2)
    assert "more gar" in newest and check == WHAT_TO_CHECK["not-osc"]


def test_flags_and_strangers_are_news_once():
    health = SourceHealth("opentrackio+udp://:1", open_decoder("opentrackio"))
    bare = b'{"sourceNumber": 1, "transforms": [{"translation": {"x":1,"y":2,"z":3}, "rotation": {"pan":0,"tilt":0,"roll":0}}]}'
    first, second = (health.add(Datagram("", bare, NOW + k * S)) for k in range(2))
    assert set(first.flags) == {"no-header", "no-version"} and second.flags == []
    assert len(second.samples) == 1
    assert {kind for _, kind, *_ in health.troubles()} == {"no-header", "no-version"}


def literals(function_names: set[str], place: dict[str, int]) -> set[str]:
    """String literals of the given argument in calls of these functions, in all protocols."""
    found = set()
    for file in (ROOT / "ledvolume/protocols").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
            if name in function_names and len(node.args) > place[name]:
                argument = node.args[place[name]]
                for one in ast.walk(argument):
                    if (
                        isinstance(one, ast.Constant)
                        and isinstance(one.value, str)
                        and re.fullmatch(r"[a-z][a-z0-9.-]*[a-z0-9]", one.value)
                    ):
                        found.add(one.value)
    return found


def test_for_every_reason_and_flag_of_every_protocol_there_is_advice():
    reasons_told = literals({"ProtocolError", "refuse", "_refuse"}, {"ProtocolError": 1, "refuse": 0, "_refuse": 0})
    assert len(reasons_told) > 25 and "bad-checksum" in reasons_told
    assert not reasons_told - WHAT_TO_CHECK.keys()
    flags = literals({"flag"}, {"flag": 0})
    assert len(flags) > 10
    assert not flags - WHAT_IT_MEANS.keys()
    assert "though it says 1.0.0" in what_it_means("version-1.0.0")


def test_the_manual_names_every_reason():
    manual = (ROOT / "docs/tracking.md").read_text()
    assert not {reason for reason in WHAT_TO_CHECK if f"`{reason}`" not in manual}


# ---- what is shown


def drawn(renderable, width=150) -> str:
    console = Console(record=True, width=width, file=open("/dev/null", "w"))
    console.print(renderable)
    return console.export_text()


@pytest.fixture
def crowd():
    """Three cameras over OSC, one of which has lens and stamps, and some garbage."""
    source = open_source("osc+udp://127.0.0.1:0")
    health, encode = SourceHealth("osc+udp://127.0.0.1:0", open_decoder("osc", "ledvolume")), open_encoder("osc")
    turn = pan_tilt_roll(0.5, -0.25, 0.0)  # 28.65°, -14.32°
    for k in range(100):
        at = NOW + 20 * k * MS
        for name, lens, age in (
            ("A", LensReading(focal_length_mm=35.0), 8 * MS),
            ("B", LensReading(), 0),
            ("[x]", LensReading(), 0),
        ):
            [payload] = encode(CameraSample(name, at - age, at, Pose(turn, (1.0, -2.0 + 0.001 * k, 1.5)), lens))
            health.add(Datagram("", payload, at))
    health.add(Datagram("", b"garbage", NOW))
    yield source, health
    source.close()


def test_the_table_has_a_row_for_every_camera_and_the_troubles_with_their_advice(crowd):
    text = drawn(screen([crowd], NOW + 99 * 20 * MS, frozenset({"A", "B"}), {}))
    row = next(line for line in text.splitlines() if line.startswith("A "))
    assert re.search(r"\+1\.000 -1\.901 \+1\.500 +\+28\.65 -14\.32 \+0\.00 +50\.0 ± 0\.00 +8\.0 +35\.0 mm +house +100", row)
    assert "[x]: is none of the show's (A, B)" in text  # and not read as markup
    assert "refused not-osc" in text and "another program sends to this port" in text
    assert "nothing for" not in text


def test_a_log_line_says_the_same(crowd):
    _, health = crowd
    line = camera_line(health, health.cameras["A"])
    assert "x +1.000 y -1.901 z +1.500 m" in line and "50.0 Hz ± 0.00 ms" in line and "age 8.0 ms" in line and "1 refused" in line


def test_a_narrow_terminal_loses_no_camera(crowd):
    text = drawn(screen([crowd], NOW, frozenset(), {}), width=80)
    assert all(re.search(rf"^{re.escape(name)} ", text, re.M) for name in ("A", "B", "[x]"))


def test_a_clock_is_told_in_words():
    clock = SourceClock("auto")
    for k in range(100):
        clock.captured_at_ns(20 * k * MS, NOW + 20 * k * MS)  # counts from its start
    assert clock_words(fed([0, 20]), clock) == f"own {NOW / 86_400e9:+.0f} days"
    house = SourceClock("auto")
    house.captured_at_ns(NOW - 3 * MS, NOW)
    assert clock_words(fed([0, 20]), house) == "house-utc +3.0 ms"
    assert clock_words(fed([0, 20]), None) == "on arrival"


# ---- why nothing comes


LO = NetworkCard("lo", 1, "127.0.0.1", True, True, 100)
ETH0 = NetworkCard("eth0", 2, "192.0.2.2", True, True, 5000)
ETH1 = NetworkCard("eth1", 3, "10.0.0.5", True, True, 7)
DOWN = NetworkCard("eth2", 4, "", False, True, 0)


def why(uri: str, joined=(), drops=0, on_port=(), came=0) -> str:
    before = Network((LO, ETH0, ETH1, DOWN))
    eth1 = NetworkCard("eth1", 3, "10.0.0.5", True, True, 7 + came)
    now = Network((LO, ETH0, eth1, DOWN), drops, on_port)
    return "\n".join(reasons(address(uri), address(uri).port, joined, before, now))


def test_a_group_on_the_wrong_card_is_the_first_guess():
    told = why("opentrackio+udp://239.135.1.7:55555", ("eth0",), came=4000)
    assert told.startswith("the group 239.135.1.7 was joined on eth0, which this machine's routes chose")
    assert "eth1 (10.0.0.5) too. Say ?interface=eth1, or ?interface=all" in told
    assert "eth1 (10.0.0.5) 4000" in told and "eth2" not in told
    assert "querier" in told and "firewall" in told
    assert "routes chose" not in why("opentrackio+udp://239.135.1.7:55555?interface=eth0", ("eth0",))


def test_loopback_hears_this_machine_only():
    told = why("osc+udp://:9000")
    assert "programs of this machine only" in told and "firewall" not in told


def test_all_cards_are_named_with_their_addresses():
    assert "192.0.2.2 on eth0, 10.0.0.5 on eth1" in why("osc+udp://0.0.0.0:9000")


def test_the_kernels_filters_and_other_programs_are_named():
    told = why("osc+udp://0.0.0.0:9000", drops=12, on_port=("0.0.0.0", "10.0.0.5"))
    assert "dropped 12 packets" in told and "rp_filter" in told
    assert "another program has port 9000 too, on 10.0.0.5" in told
    assert "another program" not in why("osc+udp://0.0.0.0:9000", on_port=("0.0.0.0",))


def test_a_silent_zmq_source_is_told_who_should_bind():
    assert "PUB socket bound at 10.0.0.9:5550" in why("native+zmq://10.0.0.9:5550")
    assert "connected to this machine" in why("native+zmq://*:5550?bind=1")
