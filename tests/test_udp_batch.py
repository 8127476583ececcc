"""recvmmsg against Python's own recvmsg: the same datagrams, senders and control messages."""

import contextlib
import socket

import pytest

from ledvolume.udp_batch import AT_ONCE, LARGEST_DATAGRAM, UdpBatch, control_messages

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
SO_TIMESTAMPNS, SO_RXQ_OVFL, IP_PKTINFO = 35, 40, 8
KINDS = {
    socket.AF_INET: ((socket.SOL_SOCKET, SO_TIMESTAMPNS), (socket.SOL_SOCKET, SO_RXQ_OVFL), (socket.IPPROTO_IP, IP_PKTINFO)),
    socket.AF_INET6: ((socket.SOL_SOCKET, SO_TIMESTAMPNS), (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)),
}


@pytest.fixture(params=LOOPBACK, ids=["IPv4", "IPv6"])
def ends(request):
    """Two receivers that are set up alike, two senders."""
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket(request.param, socket.SOCK_DGRAM)) for _ in range(4)]
        for one in sockets:
            one.bind((LOOPBACK[request.param], 0))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            for level, kind in KINDS[request.param]:
                one.setsockopt(level, kind, 1)
        yield sockets[:2], sockets[2:]


def send(receivers, senders, payloads) -> None:
    for i, payload in enumerate(payloads):
        for receiver in receivers:
            senders[i % 2].sendto(payload, receiver.getsockname())


def one_by_one(receiver: socket.socket) -> list:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            payload, ancillary, _, sender = receiver.recvmsg(LARGEST_DATAGRAM, 256)
            found.append((payload, ancillary, sender))
    return found


def test_it_receives_what_recvmsg_does(ends):
    (a, b), senders = ends
    payloads = [b"", b"\0", *(bytes([k % 251]) * k for k in range(1, 400)), b"x" * 65507]
    send((a, b), senders, payloads)
    found, expected = UdpBatch(a).receive(10_000), one_by_one(b)
    assert [payload for payload, _, _ in found] == payloads
    assert [sender for _, _, sender in found] == [sender for _, _, sender in expected]
    for (_, control, _), (_, ancillary, _) in zip(found, expected, strict=True):
        kinds = [(level, kind, len(data)) for level, kind, data in control_messages(control)]
        assert kinds == [(level, kind, len(data)) for level, kind, data in ancillary] and len(kinds) >= 2


def test_the_kernels_stamps_rise_and_its_other_words_are_the_same(ends):
    (a, b), senders = ends
    send((a, b), senders, [b"x"] * 20)
    found, expected = UdpBatch(a).receive(100), one_by_one(b)
    stamps = []
    for (_, control, _), (_, ancillary, _) in zip(found, expected, strict=True):
        words = {(level, kind): data for level, kind, data in control_messages(control)}
        stamps.append(words.pop((socket.SOL_SOCKET, SO_TIMESTAMPNS)))
        others = [(level, kind, data) for level, kind, data in ancillary if kind != SO_TIMESTAMPNS]
        assert [(level, kind, data) for (level, kind), data in words.items()] == others
    assert stamps == sorted(stamps, key=lambda s: (int.from_bytes(s[:8], "little"), int.from_bytes(s[8:], "little")))


@pytest.mark.parametrize("limit", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE])
def test_it_takes_no_more_than_it_is_asked_for_and_in_order(ends, limit):
    (a, _), senders = ends
    payloads = [k.to_bytes(2, "big") for k in range(2 * AT_ONCE + 9)]
    send((a,), senders, payloads)
    batch = UdpBatch(a)
    first, rest = batch.receive(limit), batch.receive(10_000)
    assert len(first) == limit and [p for p, _, _ in first + rest] == payloads
    assert batch.receive(10) == []


@pytest.mark.parametrize("control", [b"", b"\1", bytes(16), b"\xff" * 16, b"\x10" + bytes(15) + b"\x03"])
def test_control_messages_that_are_none_end(control):
    assert len(list(control_messages(control))) <= 1


def test_an_error_of_the_socket_is_raised(ends):
    (a, _), _ = ends
    batch = UdpBatch(a)
    a.close()
    with pytest.raises(OSError):
        batch.receive(1)
