"""Light fixtures: from where their light comes, what they are told, and the packets, received on real sockets.

Packets are taken apart here by the byte tables of the standards; two were made by other programs.
"""

import math
import socket
import struct
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_environment import smooth_sky

from ledvolume import fixtures
from ledvolume.camera import Camera, Lens
from ledvolume.colour import linear_from_srgb
from ledvolume.config import load_show
from ledvolume.errors import ConfigError, OutputError
from ledvolume.fixtures import Fixture
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs import open_output
from ledvolume.outputs.dmx import DmxOutput
from ledvolume.outputs.dmx_packets import artdmx_packet, sacn_group, sacn_packet
from ledvolume.pose import Pose
from ledvolume.scenes import bricks
from ledvolume.server import fixture_warnings, open_renderer, serve
from ledvolume.stage import Surface, facing

PATIENCE_S = 10.0
SHOW = """
name = "light"
rate = "20"
[stage]
eye_m = [0.0, 0.0, 1.6]
zone = { min_m = [-0.5, -0.5, 1.1], max_m = [0.5, 0.5, 2.1] }
[[stage.surface]]
name = "wall"
shape = "flat"
centre_m = [0.0, 4.0, 1.6]
size_m = [3.2, 2.4]
resolution_px = [16, 12]
[[camera]]
id = "A"
sensor_mm = [24.0, 16.0]
focal_length_mm = 40.0
[[place]]
name = "sky"
file = "sky.safetensors"
exposure_stops = -1.0
field_from_stage = { scale = 0.2 }
[[fixture]]
name = "key"
position_m = [3.0, 0.0, 1.6]
size_m = [0.1, 0.1]
universe = 1
address = 1
"""


def show_of(folder: Path, fixture: str = "", text: str = SHOW):
    """The show with more lines in its last table."""
    if not (folder / "sky.safetensors").exists():
        bricks.save(folder / "sky.safetensors", smooth_sky())
    (folder / "show.toml").write_text(text + fixture)
    return load_show(folder / "show.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fixtures")


def fixture_of(**changes) -> Fixture:
    surface = Surface("lamp", facing(0.0, (0.0, 1.0, 0.0)), (2.0, 2.0), changes.pop("pixels", (1, 1)))
    return Fixture(**({"surface": surface, "subject_m": (0.0, 0.0, 0.0), "universe": 1, "address": 1} | changes))


# --- from where the light comes


def test_a_fixture_takes_the_mean_over_its_solid_angle():
    """A square of 2 × 2 at distance 1 is a cube's face: 4π/6 sr, and the integral of cos over it is 4/√2 · atan(1/√2) = 1.74084
    (the form factor of a parallel rectangle, times π): the mean of cos is 0.83119."""
    directions, spreads, weights = fixtures.rays(fixture_of())
    assert weights.sum() == pytest.approx(1)
    assert (weights * directions[..., 1]).sum() == pytest.approx(0.83119, rel=1e-3)  # 64 rays
    assert (spreads > 0).all()


def test_a_panel_is_read_from_left_to_right_and_from_the_top_down():
    directions, _, weights = fixtures.rays(fixture_of(pixels=(3, 2)))
    middles = (directions * weights[..., None]).sum(1)
    assert np.sign(np.round(middles[:, 0], 6)).tolist() == [-1, 0, 1, -1, 0, 1]
    assert np.sign(middles[:, 2]).tolist() == [1, 1, 1, -1, -1, -1]


@pytest.mark.parametrize(
    "position_m, direction",
    [
        ((3.0, 0.0, 1.6), (1, 0, 0)),
        ((-2.0, 0.0, 1.6), (-1, 0, 0)),
        ((0.0, -4.0, 1.6), (0, -1, 0)),
        ((0.0, 0.0, 5.0), (0, 0, 1)),
        ((0.0, 3.0, 4.6), (0, math.sqrt(0.5), math.sqrt(0.5))),
    ],
    ids=["right", "left", "behind", "above", "above the wall"],
)
def test_it_gives_the_light_that_comes_from_where_it_hangs(folder, position_m, direction):
    """The sky's codes are 0.5 + 0.4 · direction; one stop down. Small lamps: the light is that of their middle."""
    show = show_of(folder, text=SHOW.replace("[3.0, 0.0, 1.6]", str(list(position_m))))
    renderer = open_renderer(show)
    light = renderer.fixture_light("sky", show.fixtures)["key"]
    renderer.context.release()
    assert light[0] == pytest.approx(0.5 * linear_from_srgb(0.5 + 0.4 * np.array(direction)), abs=0.005)


def test_each_pixel_of_a_panel_has_its_own(folder):
    """4 m wide, 2 m to the right of a subject that is not the stage's eye: from +Y (left, as seen from there) to -Y."""
    panel = "pixels = [4, 1]\nsubject_m = [1.0, 0.0, 1.6]\n"
    show = show_of(folder, panel, SHOW.replace("[0.1, 0.1]", "[4.0, 0.1]"))
    renderer = open_renderer(show)
    light = renderer.fixture_light("sky", show.fixtures)["key"]
    renderer.context.release()
    at_m = np.array([1.5, 0.5, -0.5, -1.5])
    assert light[:, 1] == pytest.approx(0.5 * linear_from_srgb(0.5 + 0.4 * at_m / np.hypot(at_m, 2)), abs=0.01)


def test_what_fixtures_are_told_is_a_function_of_the_request(folder):
    show = show_of(folder)
    request = FrameRequest(0, 0, 0, Camera(Pose(position_m=(0.0, 0.0, 1.6)), Lens(40.0, (24.0, 16.0)), "measured", 0), "sky")
    later = msgspec.structs.replace(request, index=7, present_at_ns=9)
    pattern = msgspec.structs.replace(request, cue="pattern:white")
    renderer = open_renderer(show)
    first, dark, again = (renderer.render(r) for r in (request, pattern, later))
    other = open_renderer(show)
    elsewhere = other.render(later)
    renderer.context.release()
    other.context.release()
    assert first.universes == again.universes == elsewhere.universes and list(first.universes) == [1]
    # 0.5 · linear(0.9, 0.5, 0.5) = 0.3936, 0.1070: codes 100, 27, 27, give or take the far map's samples
    assert np.abs(np.subtract(list(first.universes[1][:3]), (100, 27, 27))).max() <= 1
    assert not any(first.universes[1][3:]) and dark.universes == {1: bytes(512)}


# --- what they are told


@pytest.mark.parametrize(
    "changes, light, wanted",
    [
        ({}, (0.5, 0.25, 1.0), [0.5, 0.25, 1]),
        ({"channels": "bgr"}, (0.5, 0.25, 1.0), [1, 0.25, 0.5]),
        ({"gain": 2.0}, (0.25, 0.5, 0.75), [0.5, 1, 1]),  # what is too bright is cut off
        ({"gamma": 2.0}, (0.25, 0.81, 0.0), [0.5, 0.9, 0]),
        ({"channels": "rgbw"}, (0.5, 0.25, 1.0), [0.25, 0, 0.75, 0.25]),
        ({"channels": "rgbw"}, (1.5, 1.25, 2.0), [0.5, 0.25, 1, 1]),  # white is full: the others give the rest
        ({"channels": "d"}, (1.0, 0.5, 0.0), [0.2126 + 0.3576]),
        ({"channels": "drgb"}, (0.2, 0.1, 0.05), [0.2, 1, 0.5, 0.25]),
        ({"channels": "drgb"}, (2.0, 1.0, 0.5), [1, 1, 0.5, 0.25]),  # too bright: the colour stays
        ({"channels": "drgb"}, (0, 0, 0), [0, 0, 0, 0]),
        ({"channels": "drgbw"}, (0.2, 0.1, 0.05), [0.2, 0.75, 0.25, 0, 0.25]),
    ],
)
def test_levels(changes, light, wanted):
    assert fixtures.levels(fixture_of(**changes), np.array([light]))[0] == pytest.approx(wanted)


def test_code_values_of_8_and_16_bits():
    """0.5 · 255 + 0.5 = 128; 0.5 · 65535 + 0.5 = 32768 = 0x8000; 1/3 · 65535 = 21845 = 0x5555."""
    light = np.array([[0.5, 1 / 3, 1.0]])
    assert fixtures.slots(fixture_of(), light).tolist() == [[128, 85, 255]]
    assert fixtures.slots(fixture_of(bits=16), light).tobytes() == bytes.fromhex("8000 5555 ffff")


def test_pixels_that_do_not_fit_go_on_in_the_next_universe():
    """170 pixels of three slots are 510; the last two slots stay empty."""
    lamp = fixture_of(pixels=(100, 2), universe=5)
    places = fixtures.patch(lamp)
    assert places[169:171] == [(5, 507), (6, 0)] and places[-1] == (6, 87)
    found = fixtures.universes((lamp,), {"lamp": np.ones((200, 3))})
    assert found == {5: b"\xff" * 510 + b"\0\0", 6: b"\xff" * 90 + bytes(422)}


def test_fixtures_share_a_universe():
    one, two = fixture_of(address=3, channels="d"), fixture_of(address=510, bits=8)
    two = msgspec.structs.replace(two, surface=msgspec.structs.replace(two.surface, name="two"))
    found = fixtures.universes((one, two), {"lamp": np.ones((1, 3)), "two": np.full((1, 3), 0.2)})
    assert found == {1: b"\0\0\xff" + bytes(506) + b"\x33\x33\x33"}
    assert fixtures.overlap((one, two)) == ""


OTHER = """[[fixture]]
name = "fill"
position_m = [-3.0, 0.0, 1.6]
universe = 1
address = 3
"""


@pytest.mark.parametrize(
    "more, words",
    [
        (OTHER, "fixture: expected slots of its own for each, got 'key and fill both at universe 1, address 3'"),
        (OTHER.replace("fill", "key"), "a name of its own"),
        ('channels = "rgx"\n', "fixture[0].channels: expected letters of r, g, b, w, d"),
        ('channels = "rgr"\n', "each once"),
        ("bits = 12\n", "bits"),
        ("pan_deg = 0.0\n", "fixture[0].pan_deg: expected a fixture that the subject does not see edge-on"),
        ("subject_m = [3.0, 0.0, 1.6]\n", "another place than the subject's"),
        ("gain = -1\n", "gain"),
        ("gama = 2\n", "gama"),
    ],
)
def test_what_cannot_be_is_refused(folder, more, words):
    with pytest.raises(ConfigError) as caught:
        show_of(folder, more)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (("address = 1", "address = 511"), "fixture[0].address: expected at most 510"),
        (("address = 1", "address = 0"), "address"),
        (
            ("universe = 1", "universe = 63999\npixels = [171, 1]"),
            "fixture[0].universe: expected universes up to 63999, got 64000",
        ),
    ],
)
def test_addresses_that_are_not_there_are_refused(folder, change, words):
    with pytest.raises(ConfigError) as caught:
        show_of(folder, text=SHOW.replace(*change))
    assert words in str(caught.value)


# --- packets

SLOTS = bytes(i % 251 for i in range(512))
CID = bytes(range(16, 32))
# sacn 1.11.0: DataPacket(CID, "Stage 2, é", 7, SLOTS, priority=120, sequence=200).getBytes()[:126]
SACN_LIBRARY = (
    "001000004153432d45312e3137000000726e00000004101112131415161718191a1b1c1d1e1f"
    "725800000002537461676520322c20c3a9" + 53 * "00" + "780000c8000007720b02a100000001020100"
)
# stupidArtnet 1.6.0: universe 0x1234, 512 slots, sequence 9: packet_header
ARTNET_LIBRARY = "4172742d4e6574000050000e090034120200"


def test_the_packets_are_those_of_other_programs():
    assert sacn_packet(7, SLOTS, 200, cid=CID, source_name="Stage 2, é", priority=120) == bytes.fromhex(SACN_LIBRARY) + SLOTS
    assert artdmx_packet(0x1234, SLOTS, 8) == bytes.fromhex(ARTNET_LIBRARY) + SLOTS  # the ninth: they run from 1


def sacn_fields(packet: bytes) -> dict:
    """By the table of E1.31 §4, octet by octet."""
    assert len(packet) == 638 and packet[:16] == b"\x00\x10\x00\x00ASC-E1.17\x00\x00\x00"
    lengths = (
        struct.unpack_from(">H", packet, 16)[0],
        struct.unpack_from(">H", packet, 38)[0],
        struct.unpack_from(">H", packet, 115)[0],
    )
    assert lengths == (0x7000 + 638 - 16, 0x7000 + 638 - 38, 0x7000 + 638 - 115)
    assert packet[18:22] == b"\0\0\0\4" and packet[40:44] == b"\0\0\0\2" and packet[117:126] == b"\x02\xa1\0\0\0\1\x02\x01\0"
    return {
        "cid": packet[22:38],
        "name": packet[44:108].rstrip(b"\0").decode(),
        "priority": packet[108],
        "sync": packet[109:111],
        "sequence": packet[111],
        "options": packet[112],
        "universe": int.from_bytes(packet[113:115], "big"),
        "slots": packet[126:],
    }


def artdmx_fields(packet: bytes) -> dict:
    """By the table of ArtDmx in Art-Net 4."""
    assert packet[:12] == b"Art-Net\0" + b"\x00\x50" + b"\x00\x0e"
    assert int.from_bytes(packet[16:18], "big") == len(packet) - 18 == 512
    return {"sequence": packet[12], "universe": packet[14] | packet[15] << 8, "slots": packet[18:]}


def test_sequences_go_round():
    assert sacn_packet(1, SLOTS, 256, cid=CID, source_name="x")[111] == 0
    assert [artdmx_packet(1, SLOTS, n)[12] for n in (0, 253, 254, 255)] == [1, 254, 255, 1]


def test_a_long_name_is_cut_between_characters():
    packet = sacn_packet(1, SLOTS, 0, cid=CID, source_name="é" * 40)
    assert sacn_fields(packet)["name"] == "é" * 31  # 62 of 63 bytes


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: sacn_packet(0, SLOTS, 0, cid=CID, source_name=""), "sACN has 1 to 63999"),
        (lambda: artdmx_packet(32768, SLOTS, 0), "Art-Net has 0 to 32767"),
    ],
)
def test_universes_that_a_protocol_does_not_have(make, words):
    with pytest.raises(OutputError, match=words):
        make()


def test_groups():
    assert (sacn_group(1), sacn_group(256), sacn_group(63999)) == ("239.255.0.1", "239.255.1.0", "239.255.249.255")


# --- on the network


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(PATIENCE_S)
        yield udp


class HandClock:
    """Nanoseconds that go on when they are told to."""

    def __init__(self):
        self.now_ns = 10**9

    def __call__(self) -> int:
        return self.now_ns


def frame_of(universes: dict[int, bytes]) -> Frame:
    camera = Camera(Pose(), Lens(40.0, (24.0, 16.0)), "measured", 0)
    return Frame(FrameRequest(0, 0, 0, camera, "sky"), {}, universes)


def waiting(udp: socket.socket) -> list[bytes]:
    """What lies in a socket; loopback delivers before sendto returns."""
    udp.setblocking(False)
    packets = []
    while True:
        try:
            packets.append(udp.recv(2048))
        except BlockingIOError:
            return packets


def test_sacn_is_received(receiver):
    port = receiver.getsockname()[1]
    with closing(open_output(f"sacn://127.0.0.1:{port}?priority=150")) as output:
        output.send(frame_of({3: SLOTS, 7: SLOTS[::-1]}))
        first, second = (sacn_fields(receiver.recv(2048)) for _ in range(2))
        assert (first["universe"], first["slots"], first["priority"], first["options"]) == (3, SLOTS, 150, 0)
        assert (second["universe"], second["slots"]) == (7, SLOTS[::-1])
        assert first["cid"] == second["cid"] and first["name"].startswith("ledvolume on ") and first["sync"] == b"\0\0"
        assert output.counters() == {"frames": 1, "packets": 2, "failed": 0, "changes": 1}
    farewell = [sacn_fields(packet) for packet in waiting(receiver)]
    assert [(f["universe"], f["options"], f["sequence"]) for f in farewell] == [(u, 0x40, n) for n in (1, 2, 3) for u in (3, 7)]


def test_the_next_server_is_the_same_sender(receiver):
    uri = f"sacn://127.0.0.1:{receiver.getsockname()[1]}"
    cids = set()
    for _ in range(2):
        with closing(open_output(uri)) as output:
            output.send(frame_of({1: SLOTS}))
        cids |= {sacn_fields(packet)["cid"] for packet in waiting(receiver)}
    assert len(cids) == 1


def test_art_net_is_received_and_ends_without_a_word(receiver):
    with closing(open_output(f"artnet://127.0.0.1:{receiver.getsockname()[1]}")) as output:
        output.send(frame_of({0: SLOTS, 0x1234: SLOTS}))
        found = [artdmx_fields(receiver.recv(2048)) for _ in range(2)]
    assert found == [{"sequence": 1, "universe": u, "slots": SLOTS} for u in (0, 0x1234)]
    assert not waiting(receiver)


def test_sacn_multicast_is_received():
    """A group of loopback's own card, as a node joins it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.bind(("", 0))
        node.settimeout(PATIENCE_S)
        group = socket.inet_aton("239.255.3.232") + socket.inet_aton("127.0.0.1")  # universe 1000
        node.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        with closing(open_output(f"sacn://multicast:{node.getsockname()[1]}?interface=lo")) as output:
            output.send(frame_of({1000: SLOTS}))
            assert sacn_fields(node.recv(2048))["universe"] == 1000


@pytest.mark.parametrize("fps, least", [(24, 240), (44, 436), (60, 300), (120, 400)])
def test_no_more_packets_than_dmx_carries(receiver, fps, least):
    """Ten seconds of frames that come up to 2 ms early or late. No frame of a slow show is left out, of a fast one at most
    every second."""
    clock, jitter = HandClock(), np.random.default_rng(1).uniform(-2e6, 2e6, 10 * fps)
    with closing(DmxOutput(f"artnet://127.0.0.1:{receiver.getsockname()[1]}", clock_ns=clock)) as output:
        for n in range(10 * fps):
            clock.now_ns = 10**9 + n * 10**9 // fps + int(jitter[n])
            output.send(frame_of({1: SLOTS}))
        assert least <= output.counters()["packets"] <= min(10 * fps, 441)


def test_after_a_pause_there_is_no_burst(receiver):
    clock = HandClock()
    with closing(DmxOutput(f"artnet://127.0.0.1:{receiver.getsockname()[1]}?rate=10", clock_ns=clock)) as output:
        output.send(frame_of({1: SLOTS}))
        clock.now_ns += 60 * 10**9
        for _ in range(100):  # 100 ms
            output.send(frame_of({1: SLOTS}))
            clock.now_ns += 10**6
        assert output.counters()["packets"] <= 3


def test_a_cable_that_is_out_does_not_stop_the_wall():
    """Port 0 is one that the kernel sends nothing to."""
    with closing(DmxOutput("artnet://127.0.0.1")) as output:
        output._target = ("127.0.0.1", 0)
        output.send(frame_of({1: SLOTS}))
        assert output.counters() == {"frames": 1, "packets": 0, "failed": 1, "changes": 1}


@pytest.mark.parametrize(
    "uri, words",
    [
        ("sacn:", "expected sacn://multicast or sacn://HOST"),
        ("artnet://", "expected artnet://HOST"),
        ("artnet://10.0.0.1?priority=3", "unknown option"),
        ("sacn://10.0.0.1?priority=201", "priority: expected 0 to 200, got '201'"),
        ("sacn://10.0.0.1?rate=60", "rate: expected 1 to 44"),
        ("sacn://10.0.0.1?interface=lo", "interface is for sacn://multicast"),
        ("sacn://multicast?interface=nocard0", "cannot send by that card"),
        ("artnet://10.0.0.1:99999", "out of range"),
        ("artnet://no.such.host.invalid", "cannot find no.such.host.invalid"),
    ],
)
def test_addresses_that_are_refused(uri, words):
    with pytest.raises(OutputError) as caught:
        open_output(uri)
    assert words in str(caught.value)


def test_a_served_show_tells_its_fixtures(folder, receiver):
    """The whole way: show file, scene, OpenGL, packets; two seconds at 20 frames a second."""
    port = receiver.getsockname()[1]
    show = show_of(folder, f'[[output]]\nuri = "sacn://127.0.0.1:{port}"\n')
    packets, done = [], threading.Event()

    def listen():
        receiver.settimeout(0.2)
        while not done.is_set():
            try:
                packets.append(receiver.recv(2048))
            except TimeoutError:
                pass

    listener = threading.Thread(target=listen)
    listener.start()
    said = []
    try:
        summary = serve(show, seconds=2.0, warn=said.append)
    finally:
        done.set()
        listener.join()
    packets += waiting(receiver)
    found = [sacn_fields(packet) for packet in packets]
    assert summary["outputs"][0]["frames"] == summary["frames"] > 5 and summary["outputs"][0]["changes"] == 1
    assert len(found) == summary["frames"] + 3 and [f["options"] for f in found[-3:]] == [0x40] * 3
    assert len({f["slots"] for f in found}) == 1
    assert np.abs(np.subtract(list(found[0]["slots"][:3]), (100, 27, 27))).max() <= 1
    assert [f["sequence"] for f in found] == list(range(len(found)))
    assert not any("fixture" in words for words in said)


def test_fixtures_that_nobody_tells_are_told_of(folder):
    show = show_of(folder)
    [words] = fixture_warnings(show)
    assert words.startswith("the show has 1 light fixtures, and no output")
    lit = msgspec.structs.replace(show, fixtures=(), outputs=("artnet://10.0.0.1",))
    assert "nothing to send" in fixture_warnings(lit)[0]
