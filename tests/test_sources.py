"""Sockets in a flood, on many network cards and with many senders. What a socket gives otherwise is in test_protocols.py."""

import socket
import struct
import time

import pytest

from ledvolume import schedule, server
from ledvolume.camera import CameraSample, Lens, Rig
from ledvolume.errors import ConfigError
from ledvolume.network_cards import network_cards, routed_address, sockets_on_port
from ledvolume.pose import Pose
from ledvolume.protocols import open_decoder, open_encoder
from ledvolume.sources import NEWEST_LIMIT, RECEIVE_LIMIT, newest_of_each, open_sender, open_source
from ledvolume.timeline import Timeline

MS = 1_000_000
GROUP = "239.255.77.2"
FITS = 500  # small datagrams, into the queue of a kernel whose net.core.rmem_max nobody has raised


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def close(*sockets) -> None:
    for s in sockets:
        s.close()


def soon(source, count: int) -> list:
    found, end_s = [], time.monotonic() + 5
    while len(found) < count and time.monotonic() < end_s:
        source.wait(0.05)
        found += source.drain()
    return found


# senders oldest first, limit → indexes
NEWEST = {
    "all have room": ("aab", 3, [0, 1, 2]),
    "one sender": ("aaaaa", 2, [3, 4]),
    "the tracker's two among a flood": ("taafaatffffffff".replace("f", "a"), 5, [0, 6, 12, 13, 14]),
    "who has little leaves its room": ("bacccccc", 6, [0, 1, 4, 5, 6, 7]),
    "an even share, and what is left over to nobody in particular": ("aaabbbcc", 6, [1, 2, 4, 5, 6, 7]),
    "more senders than places: the newest": ("abcdef", 3, [3, 4, 5]),
    "nothing": ("", 3, []),
}


@pytest.mark.parametrize(("senders", "limit", "kept"), NEWEST.values(), ids=NEWEST.keys())
def test_of_too_many_datagrams_every_senders_newest_are_kept(senders, limit, kept):
    assert newest_of_each(senders, limit) == kept


def test_in_a_flood_the_renderer_gets_the_newest_and_what_it_passed_over_is_counted():
    source = open_source("osc+udp://127.0.0.1:0")
    sender = open_sender(f"osc+udp://127.0.0.1:{source.port}")
    for k in range(FITS):
        sender.send(b"%d" % k)
    got = [int(d.payload) for d in source.newest()]
    assert got == list(range(FITS - NEWEST_LIMIT, FITS))
    assert (source.received, source.flooded) == (FITS, FITS - NEWEST_LIMIT)
    assert source.newest() == []
    close(source, sender)


def test_a_recorder_loses_nothing_of_a_flood():
    source = open_source("osc+udp://127.0.0.1:0")
    sender = open_sender(f"osc+udp://127.0.0.1:{source.port}")
    for k in range(FITS):
        sender.send(b"%d" % k)
    assert [int(d.payload) for d in soon(source, FITS)] == list(range(FITS))
    assert source.flooded == 0
    close(source, sender)


def test_the_picture_follows_the_tracker_through_a_flood_from_another_program():
    """50 frames at 24 fps in which 2000 datagrams of rubbish arrive each, 48 000 a second, and one pose before them."""
    source = open_source("native+udp://127.0.0.1:0")
    uri = f"native+udp://127.0.0.1:{source.port}"
    tracker, flood, encode = open_sender(uri), open_sender(uri), open_encoder("native")
    timeline = Timeline(Rig("A", Lens(35.0, (36.0, 24.0))))
    inputs = schedule.Inputs([(source, open_decoder("native"))], {"A": timeline})
    took_ms = []
    for k in range(50):
        at_ns = time.time_ns()
        [payload] = encode(CameraSample("A", at_ns, at_ns, Pose(position_m=(0.001 * k, 0.0, 1.6))))
        tracker.send(payload)
        for _ in range(2000):
            flood.send(b"rubbish")
        began_s = time.perf_counter()
        inputs.drain()
        took_ms.append((time.perf_counter() - began_s) * 1e3)
        assert inputs.accepted == k + 1  # this frame's pose has come to the timeline in this frame
    assert source.flooded == source.received - 50 * NEWEST_LIMIT > 0
    assert source.received + source.dropped >= 50 * 2001 - 2000  # the last drops are told with the next datagram
    told = set()
    _, warning = server.refusal_warnings(inputs, told)
    assert "is flooded" in warning and source.senders.most_common(1)[0][0] in warning
    assert server.refusal_warnings(inputs, told) == []
    # a few ms: 2001 x 2.5 µs of receiving, 128 x 3 µs of refusing. The median, as other programs run on this machine too
    assert sorted(took_ms)[25] < 40
    close(tracker, flood)
    inputs.close()


def test_a_drain_for_a_frame_is_bounded_in_any_flood():
    source = open_source("osc+udp://127.0.0.1:0")
    sender = open_sender(f"osc+udp://127.0.0.1:{source.port}")
    for _ in range(2 * RECEIVE_LIMIT):
        sender.send(b"/x")
    source.newest()
    assert source.received <= RECEIVE_LIMIT
    close(source, sender)


def test_a_zmq_flood_gives_the_newest_too():
    port = free_port()
    source, sender = open_source(f"native+zmq://127.0.0.1:{port}"), open_sender(f"native+zmq://127.0.0.1:{port}")
    while not source.newest():  # PUB drops what it sends before SUB has subscribed
        sender.send(b"hello")
        source.wait(0.02)
    source.wait(0.1)
    source.newest()
    before = source.received
    for k in range(500):
        sender.send(b"%d" % k)
    time.sleep(0.2)
    got = [int(m.payload) for m in source.newest()]
    assert got == list(range(500 - NEWEST_LIMIT, 500))
    assert source.received == before + 500 and source.flooded == 500 - NEWEST_LIMIT
    close(source, sender)


# ---- who sends, and on which card


def test_a_source_knows_who_sends_and_on_which_card_it_arrives():
    source = open_source("osc+udp://127.0.0.1:0")
    sender = open_sender(f"osc+udp://127.0.0.1:{source.port}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(b"/y", ("127.0.0.1", source.port))
        told = f"127.0.0.2:{other.getsockname()[1]}"
    sender.send(b"/x")
    sender.send(b"/x")
    soon(source, 3)
    assert source.senders[told] == 1 and source.senders.total() == 3 and len(source.senders) == 2
    assert source.interfaces == {"lo": 3}
    close(source, sender)


def test_the_list_of_senders_does_not_grow_without_bound():
    source = open_source("osc+udp://127.0.0.1:0")
    for _ in range(70):  # a program that opens a socket for every datagram
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"/x", ("127.0.0.1", source.port))
    soon(source, 70)
    assert source.senders.total() == 70 and len(source.senders) <= 65
    close(source)


def test_an_ipv6_socket_knows_them_too():
    source = open_source("osc+udp://[::1]:0")
    sender = open_sender(f"osc+udp://[::1]:{source.port}")
    sender.send(b"/x")
    soon(source, 1)
    assert source.interfaces == {"lo": 1} and next(iter(source.senders)).startswith("[::1]:")
    close(source, sender)


@pytest.mark.parametrize("interface", ["lo", "127.0.0.1", "all"])
def test_a_group_is_joined_on_a_card_by_its_name_its_address_or_on_all(interface):
    port = free_port()
    source = open_source(f"osc+udp://{GROUP}:{port}?interface={interface}")
    sender = open_sender(f"osc+udp://{GROUP}:{port}?interface=lo")
    sender.send(b"/x")
    [d] = soon(source, 1)
    assert d.payload == b"/x" and "lo" in source.joined and source.interfaces == {"lo": 1}
    if interface != "all":
        assert source.joined == ("lo",)
    close(source, sender)


def test_what_another_program_has_joined_on_another_card_is_not_ours():
    """Linux gives a socket what any program has joined for its group and port; of a card that is named only that card's."""
    port, cards = free_port(), [c for c in network_cards() if c.name != "lo" and c.is_up and c.takes_multicast and c.address]
    on_lo = open_source(f"osc+udp://{GROUP}:{port}?interface=lo")
    for card in cards:  # none on a machine without network
        on_card = open_source(f"osc+udp://{GROUP}:{port}?interface={card.name}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)  # never leaves this machine
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), card.index))
            sender.sendto(b"/x", (GROUP, port))
        [d] = soon(on_card, 1)
        assert d.payload == b"/x" and on_card.interfaces == {card.name: 1}
        assert on_lo.drain() == []
        close(on_card)
    close(on_lo)


def test_without_a_name_the_source_says_which_card_was_chosen():
    ours = routed_address(GROUP)
    if not ours:  # a machine without network: said in words
        with pytest.raises(ConfigError, match="no route to the group"):
            open_source(f"osc+udp://{GROUP}:{free_port()}")
        return
    source = open_source(f"osc+udp://{GROUP}:{free_port()}")
    assert source.joined == tuple(c.name for c in network_cards() if c.address == ours)
    close(source)


WRONG = {
    "no such card": (open_source, f"osc+udp://{GROUP}:9000?interface=eth99", r"lo \(127.0.0.1\).*or all, got 'eth99'"),
    "an address of no card": (open_source, f"osc+udp://{GROUP}:9000?interface=203.0.113.9", "interface=NAME"),
    "to send on all": (open_sender, f"osc+udp://{GROUP}:9000?interface=all", "one network card to send on"),
    "of no group": (open_source, "osc+udp://0.0.0.0:9000?interface=lo", "a multicast group"),
}


@pytest.mark.parametrize(("opened", "uri", "told"), WRONG.values(), ids=WRONG.keys())
def test_a_card_that_cannot_be_had_is_explained(opened, uri, told):
    with pytest.raises(ConfigError, match=told):
        opened(uri)


def test_the_cards_of_this_machine():
    [lo] = [c for c in network_cards() if c.name == "lo"]
    assert (lo.address, lo.is_up, lo.takes_multicast, lo.index) == ("127.0.0.1", True, True, socket.if_nametoindex("lo"))
    source = open_source("osc+udp://127.0.0.1:0")
    sender = open_sender(f"osc+udp://127.0.0.1:{source.port}")
    sender.send(b"/x")
    [after] = [c for c in network_cards() if c.name == "lo"]
    assert after.received > lo.received
    assert sockets_on_port(source.port) == ["127.0.0.1"]
    close(source, sender)
