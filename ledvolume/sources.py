"""Sockets: where datagrams come in, and how test senders get them out. First station of a pose on its way to a frame.

An address says protocol, transport and place, and is the same at both ends:

    osc+udp://127.0.0.1:9000         receive on this address (loopback if no host is given, 0.0.0.0 for all interfaces)
    osc+udp://239.135.1.14:9000      join a multicast group; ?interface=eth1 (or its address) says on which network card,
                                     ?interface=all on all of them; without it the kernel's routes choose
    native+zmq://10.0.0.5:5550       the receiver's SUB connects to the tracker's PUB, which binds
    native+zmq://*:5550?bind=1       the receiver's SUB binds, and the tracker's PUB connects to it

The renderer drains sockets once a frame, without waiting, and the kernel stamps UDP datagrams as they arrive
(SO_TIMESTAMPNS): Python would stamp them milliseconds late, because OpenGL calls hold the interpreter.

In a flood the renderer takes the newest: receiving costs 1 to 2 µs a datagram (udp_batch.py), decoding 4 to 40, so all that waits is received
and only the newest of every sender is decoded. `drain` loses nothing, for recorders and `listen`.
"""

import errno
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Hashable, Sequence
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ledvolume import multicast
from ledvolume.errors import ConfigError
from ledvolume.udp_batch import LARGEST_DATAGRAM, UdpBatch, control_messages, has_recvmmsg

DRAIN_LIMIT = 256
NEWEST_LIMIT = 128  # of OSC 2.4 ms of decoding, of OpenTrackIO 5 ms; 3000 datagrams/s at 24 fps
RECEIVE_LIMIT = 2560  # 4 ms: all that fits into the kernel's queue, so that the newest is among them
# Linux doubles it: 2520 small datagrams, 910 of 1400 bytes; 50 ms of 50 000 a second. net.core.rmem_max may hold it down
RECEIVE_BUFFER_BYTES = 1 << 20
ZMQ_QUEUE = 1024
MOST_SENDERS = 64
OTHERS = "others"

# Python's socket module does not name these; values of Linux' asm-generic/socket.h.
SO_TIMESTAMPNS = 35
SO_RXQ_OVFL = 40
IP_PKTINFO = 8
_TIMESPEC = struct.Struct("@ll")
_DROPS = struct.Struct("@I")
_INDEX = struct.Struct("@i")

_FORMS = "PROTOCOL+udp://HOST:PORT or PROTOCOL+zmq://HOST:PORT, for example osc+udp://127.0.0.1:9000"


class Datagram(msgspec.Struct, frozen=True):
    """What a socket gave, unread. `source` is the address of our socket; what recordings hold."""

    source: str
    payload: bytes
    received_at_ns: int


class Address(msgspec.Struct, frozen=True):
    """A source or destination, taken apart."""

    uri: str
    protocol: str
    transport: str
    host: str
    port: int
    options: dict[str, str] = {}


def address(uri: str) -> Address:
    """Take a URI apart, refusing what we cannot take literally."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(uri, "address", _FORMS, str(error)) from None
    protocol, plus, transport = parts.scheme.partition("+")
    if not (protocol and plus and transport in _OPTIONS):
        raise ConfigError(uri, "scheme", _FORMS, parts.scheme or uri)
    if port is None or (port == 0 and transport == "zmq"):
        raise ConfigError(uri, "port", _FORMS, parts.netloc)
    if parts.path not in ("", "/"):
        raise ConfigError(uri, "path", "nothing after the port", parts.path)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _OPTIONS[transport]:
            raise ConfigError(uri, "option", f"one of {', '.join(_OPTIONS[transport])}", name)
        if name == "bind" and value not in ("0", "1"):
            raise ConfigError(uri, "bind", "bind=1 (the receiver binds) or bind=0", value)
        if name == "interface" and not multicast.is_group(host):
            raise ConfigError(
                uri, "interface", "a multicast group; to receive on one network card, its address is the host", host
            )
    return Address(uri, protocol, transport, host or "127.0.0.1", port, options)


def open_source(uri: str) -> "UdpSource | ZmqSource":
    """A receiving socket for this address. Raises ConfigError where it cannot be had."""
    return _SOURCES[(where := address(uri)).transport](where)


def open_sender(uri: str) -> "UdpSender | ZmqSender":
    """The other end of `open_source(uri)`: something with `send(payload)` and `close()`."""
    return _SENDERS[(where := address(uri)).transport](where)


def wait_for_any(sources: "Sequence[UdpSource | ZmqSource]", timeout_s: float) -> None:
    """Sleep until something has arrived at one of them, or until the timeout. The renderer never calls this."""
    if len(sources) == 1:
        sources[0].wait(timeout_s)
    elif all(isinstance(source, UdpSource) for source in sources):
        select.select([source.waitable for source in sources], [], [], timeout_s)
    else:
        import zmq

        poller = zmq.Poller()
        for source in sources:
            poller.register(source.waitable, zmq.POLLIN)
        poller.poll(round(timeout_s * 1000))


class UdpSource:
    """A bound UDP socket.

    received: datagrams taken from the kernel. flooded: of them, those that `newest` passed over. dropped: by the kernel,
    whose queue was full. unstamped: that came without a kernel stamp. senders, interfaces: how many came from whom, and on
    which network card. joined: the cards on which the multicast group was joined.
    """

    def __init__(self, where: Address):
        self.uri, self.protocol = where.uri, where.protocol
        self.received = self.flooded = self.dropped = self.unstamped = 0
        self.senders: Counter[str] = Counter()
        self.interfaces: Counter[str] = Counter()
        self.joined: tuple[str, ...] = ()
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        arrival = (socket.IPPROTO_IP, IP_PKTINFO)
        if family == socket.AF_INET6:
            arrival = (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)
        for level, option in ((socket.SOL_SOCKET, SO_TIMESTAMPNS), (socket.SOL_SOCKET, SO_RXQ_OVFL), arrival):
            try:
                self._socket.setsockopt(level, option, 1)
            except OSError:
                pass  # another kernel than Linux: datagrams are stamped here, and counted in `unstamped`
        try:
            if multicast.is_group(where.host):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._socket.bind((where.host, where.port))
                self.joined = multicast.join(self._socket, where.uri, where.host, where.options.get("interface"))
            else:
                self._socket.bind((where.host, where.port))
        except (OSError, ConfigError) as error:
            self._socket.close()
            raise error if isinstance(error, ConfigError) else _unusable(where, error) from None
        self.port = self._socket.getsockname()[1]
        self.waitable = self._socket
        self._batch = UdpBatch(self._socket) if has_recvmmsg() else None
        self._card_names: dict[bytes, str] = {}

    def drain(self, limit: int = DRAIN_LIMIT) -> list[Datagram]:
        """What has arrived, oldest first, at most `limit`; the rest stays in the kernel. Never waits."""
        arrived = self._receive(limit)
        self._count_senders(arrived)
        return [self._datagram(*one) for one in arrived]

    def newest(self, limit: int = NEWEST_LIMIT) -> list[Datagram]:
        """What has arrived, oldest first; if that is more than `limit`, the newest of every sender. Never waits."""
        arrived = self._receive(RECEIVE_LIMIT)
        self._count_senders(arrived)
        if len(arrived) > limit:
            self.flooded += len(arrived) - limit
            arrived = [arrived[i] for i in newest_of_each([sender for _, _, sender in arrived], limit)]
        return [self._datagram(*one) for one in arrived]

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something has arrived; False after the timeout. The renderer never calls this."""
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def close(self) -> None:
        self._socket.close()

    def _receive(self, limit: int) -> list[tuple[bytes, bytes, tuple]]:
        """(payload, control messages, sender) as they come; reading the former is left for those that are wanted."""
        arrived = self._batch.receive(limit) if self._batch else self._receive_one_by_one(limit)
        self.received += len(arrived)
        return arrived

    def _receive_one_by_one(self, limit: int) -> list[tuple[bytes, bytes, tuple]]:
        """On another kernel than Linux, whose control messages we do not read."""
        arrived = []
        try:
            while len(arrived) < limit:
                payload, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
                arrived.append((payload, b"", sender))
        except BlockingIOError:
            pass
        return arrived

    def _count_senders(self, arrived: list[tuple[bytes, bytes, tuple]]) -> None:
        for (host, port, *_), datagrams in Counter(sender for _, _, sender in arrived).items():
            sender = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            known = sender in self.senders or len(self.senders) < MOST_SENDERS
            self.senders[sender if known else OTHERS] += datagrams

    def _datagram(self, payload: bytes, control: bytes, sender: tuple) -> Datagram:
        received_at_ns = 0
        for level, kind, data in control_messages(control):
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                received_at_ns = seconds * 1_000_000_000 + nanoseconds
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                self.dropped = _DROPS.unpack(data)[0]  # since the socket was opened, not since the last datagram
            elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                self.interfaces[self._card_name(data[:4])] += 1
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                self.interfaces[self._card_name(data[16:20])] += 1
        if not received_at_ns:
            self.unstamped += 1
            received_at_ns = time.time_ns()
        return Datagram(self.uri, payload, received_at_ns)

    def _card_name(self, index: bytes) -> str:
        name = self._card_names.get(index)
        if name is None:
            try:
                name = socket.if_indextoname(_INDEX.unpack(index)[0])
            except OSError:
                name = f"card {_INDEX.unpack(index)[0]}"  # unplugged since
            self._card_names[index] = name
        return name


class ZmqSource:
    """A SUB socket. A message is one part, or a topic and one part; stamped when drained (ZMQ has no kernel stamp)."""

    def __init__(self, where: Address):
        import zmq

        self.uri, self.protocol, self.port = where.uri, where.protocol, where.port
        self.received = self.flooded = self.dropped = self.unstamped = 0
        self.senders: Counter[str] = Counter()  # ZMQ tells neither
        self.interfaces: Counter[str] = Counter()
        self.joined: tuple[str, ...] = ()
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = ZMQ_QUEUE
        self._socket.maxmsgsize = LARGEST_DATAGRAM
        self._socket.subscribe(where.options.get("topic", ""))
        self._zmq = zmq
        self.waitable = self._socket
        _attach(self._socket, where, is_binding=where.options.get("bind") == "1")

    def drain(self, limit: int = DRAIN_LIMIT) -> list[Datagram]:
        """What has arrived, oldest first, at most `limit`; the rest stays queued. Never waits."""
        datagrams = []
        while len(datagrams) < limit:
            try:
                parts = self._socket.recv_multipart(flags=self._zmq.NOBLOCK)
            except self._zmq.Again:
                break
            datagrams.append(Datagram(self.uri, parts[-1], time.time_ns()))
        self.received += len(datagrams)
        self.unstamped += len(datagrams)
        return datagrams

    def newest(self, limit: int = NEWEST_LIMIT) -> list[Datagram]:
        """What has arrived, oldest first, of more than `limit` the newest. Never waits."""
        arrived = self.drain(RECEIVE_LIMIT)
        self.flooded += max(len(arrived) - limit, 0)
        return arrived[-limit:]

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something has arrived; False after the timeout. The renderer never calls this."""
        return bool(self._socket.poll(int(timeout_s * 1000)))

    def close(self) -> None:
        self._socket.close()


class UdpSender:
    """Sends datagrams; nobody listening is no error, as on a real network."""

    def __init__(self, where: Address):
        self._socket = socket.socket(socket.AF_INET6 if ":" in where.host else socket.AF_INET, socket.SOCK_DGRAM)
        self._where, self._destination = where, (where.host, where.port)
        try:
            if "interface" in where.options:
                multicast.send_on(self._socket, where.uri, where.options["interface"])
            socket.getaddrinfo(where.host, where.port)
        except (OSError, ConfigError) as error:
            self._socket.close()
            raise error if isinstance(error, ConfigError) else _unusable(where, error) from None

    def send(self, payload: bytes) -> None:
        try:
            self._socket.sendto(payload, self._destination)
        except OSError as error:
            raise _unusable(self._where, error) from None

    def close(self) -> None:
        self._socket.close()


class ZmqSender:
    """A PUB socket: binds, unless the address says that the receiver does. Never waits for a slow receiver."""

    def __init__(self, where: Address):
        import zmq

        self._socket = zmq.Context.instance().socket(zmq.PUB)
        self._socket.linger = 200
        _attach(self._socket, where, is_binding=where.options.get("bind") != "1")

    def send(self, payload: bytes) -> None:
        self._socket.send(payload)

    def close(self) -> None:
        self._socket.close()


def _attach(zmq_socket, where: Address, is_binding: bool) -> None:
    import zmq

    host = f"[{where.host}]" if ":" in where.host else where.host
    endpoint = f"tcp://{'127.0.0.1' if host == '*' and not is_binding else host}:{where.port}"
    try:
        zmq_socket.ipv6 = ":" in where.host
        zmq_socket.bind(endpoint) if is_binding else zmq_socket.connect(endpoint)
    except zmq.ZMQError as error:
        zmq_socket.close()
        raise _unusable(where, OSError(error.errno, error.strerror)) from None


def newest_of_each(senders: Sequence[Hashable], limit: int) -> list[int]:
    """Indexes of at most `limit` of these datagrams, rising: the newest of every sender, as many of each as of any other
    that has so many. So a flood from one of them, or a broken tracker, leaves the others their places."""
    counts = Counter(senders)
    room, quota = limit, len(senders)
    for place, count in enumerate(sorted(counts.values())):
        quota = max(room // (len(counts) - place), 1)
        if count > quota:
            break
        room, quota = room - count, count
    kept: list[int] = []
    taken: Counter = Counter()
    for i in range(len(senders) - 1, -1, -1):
        if taken[senders[i]] < quota:
            taken[senders[i]] += 1
            kept.append(i)
            if len(kept) == limit:
                break
    return kept[::-1]


def _unusable(where: Address, error: OSError) -> ConfigError:
    expected = {
        errno.EADDRINUSE: "a free port: another program (or a second server) is using it, see `ss -tulnp`",
        errno.EADDRNOTAVAIL: "an address of this machine (see `ip address`), or 0.0.0.0 for all of them",
        errno.EACCES: "a port from 1024 on, or the right to use lower ones",
        errno.ENODEV: "a network card of this machine for the group: ?interface=NAME, see `ip address`",
        errno.ENETUNREACH: "a network that this machine has a route to; for a multicast group ?interface=NAME, see `ip route`",
    }.get(error.errno, "an address that can be used")
    return ConfigError(where.uri, "address", expected, f"{where.host}:{where.port}: {error.strerror or error}")


_OPTIONS = {"udp": ("interface",), "zmq": ("bind", "topic")}
_SOURCES = {"udp": UdpSource, "zmq": ZmqSource}
_SENDERS = {"udp": UdpSender, "zmq": ZmqSender}
