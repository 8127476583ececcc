"""Sockets: where datagrams come in, and how test senders get them out. First station of a pose on its way to a frame.

An address says protocol, transport and place, and is the same at both ends:

    osc+udp://127.0.0.1:9000         receive on this address (loopback if no host is given, 0.0.0.0 for all interfaces)
    osc+udp://239.135.1.14:9000      join a multicast group; ?interface=10.0.0.7 says on which network card
    native+zmq://10.0.0.5:5550       the receiver's SUB connects to the tracker's PUB, which binds
    native+zmq://*:5550?bind=1       the receiver's SUB binds, and the tracker's PUB connects to it

The renderer drains sockets once a frame, without waiting, and the kernel stamps UDP datagrams as they arrive
(SO_TIMESTAMPNS): Python would stamp them milliseconds late, because OpenGL calls hold the interpreter.
"""

import errno
import ipaddress
import select
import socket
import struct
import time
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ledvolume.errors import ConfigError

LARGEST_DATAGRAM = 65536
DRAIN_LIMIT = 256  # about 4 ms of receiving and decoding: a flood must not eat the frame
RECEIVE_BUFFER_BYTES = 1 << 20  # some 1300 small datagrams: 5 s of a 240 Hz tracker
ZMQ_QUEUE = 1024

# Python's socket module does not name these; values of Linux' asm-generic/socket.h.
SO_TIMESTAMPNS = 35
SO_RXQ_OVFL = 40
_TIMESPEC = struct.Struct("@ll")
_DROPS = struct.Struct("@I")

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
    return Address(uri, protocol, transport, host or "127.0.0.1", port, options)


def open_source(uri: str) -> "UdpSource | ZmqSource":
    """A receiving socket for this address. Raises ConfigError where it cannot be had."""
    return _SOURCES[(where := address(uri)).transport](where)


def open_sender(uri: str) -> "UdpSender | ZmqSender":
    """The other end of `open_source(uri)`: something with `send(payload)` and `close()`."""
    return _SENDERS[(where := address(uri)).transport](where)


class UdpSource:
    """A bound UDP socket. Counts what it received, what the kernel dropped, what came without a kernel stamp."""

    def __init__(self, where: Address):
        self.uri, self.protocol = where.uri, where.protocol
        self.received = self.dropped = self.unstamped = 0
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        for option in (SO_TIMESTAMPNS, SO_RXQ_OVFL):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, 1)
            except OSError:
                pass  # another kernel than Linux: datagrams are stamped here, and counted in `unstamped`
        try:
            if _is_multicast(where.host):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._socket.bind((where.host, where.port))
                interface = socket.inet_aton(where.options.get("interface", "0.0.0.0"))
                membership = socket.inet_aton(where.host) + interface
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            else:
                self._socket.bind((where.host, where.port))
        except OSError as error:
            self._socket.close()
            raise _unusable(where, error) from None
        self.port = self._socket.getsockname()[1]
        self._buffer = bytearray(LARGEST_DATAGRAM)
        self._view = memoryview(self._buffer)

    def drain(self, limit: int = DRAIN_LIMIT) -> list[Datagram]:
        """What has arrived, oldest first, at most `limit`; the rest stays in the kernel. Never waits."""
        datagrams = []
        while len(datagrams) < limit:
            try:
                size, ancillary, _, _ = self._socket.recvmsg_into([self._buffer], 128)
            except BlockingIOError:
                break
            datagrams.append(Datagram(self.uri, bytes(self._view[:size]), self._stamp(ancillary)))
        self.received += len(datagrams)
        return datagrams

    def wait(self, timeout_s: float) -> bool:
        """Sleep until something has arrived; False after the timeout. The renderer never calls this."""
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def close(self) -> None:
        self._socket.close()

    def _stamp(self, ancillary: list) -> int:
        received_at_ns = 0
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                received_at_ns = seconds * 1_000_000_000 + nanoseconds
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                self.dropped = _DROPS.unpack(data)[0]  # since the socket was opened, not since the last datagram
        if not received_at_ns:
            self.unstamped += 1
            received_at_ns = time.time_ns()
        return received_at_ns


class ZmqSource:
    """A SUB socket. A message is one part, or a topic and one part; stamped when drained (ZMQ has no kernel stamp)."""

    def __init__(self, where: Address):
        import zmq

        self.uri, self.protocol, self.port = where.uri, where.protocol, where.port
        self.received = self.dropped = self.unstamped = 0
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = ZMQ_QUEUE
        self._socket.maxmsgsize = LARGEST_DATAGRAM
        self._socket.subscribe(where.options.get("topic", ""))
        self._zmq = zmq
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
            if _is_multicast(where.host) and "interface" in where.options:
                interface = socket.inet_aton(where.options["interface"])
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            socket.getaddrinfo(where.host, where.port)
        except OSError as error:
            self._socket.close()
            raise _unusable(where, error) from None

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


def _is_multicast(host: str) -> bool:
    try:
        return ipaddress.IPv4Address(host).is_multicast
    except ValueError:
        return False


def _unusable(where: Address, error: OSError) -> ConfigError:
    expected = {
        errno.EADDRINUSE: "a free port: another program (or a second server) is using it, see `ss -tulnp`",
        errno.EADDRNOTAVAIL: "an address of this machine (see `ip address`), or 0.0.0.0 for all of them",
        errno.EACCES: "a port from 1024 on, or the right to use lower ones",
    }.get(error.errno, "an address that can be used")
    return ConfigError(where.uri, "address", expected, f"{where.host}:{where.port}: {error.strerror or error}")


_OPTIONS = {"udp": ("interface",), "zmq": ("bind", "topic")}
_SOURCES = {"udp": UdpSource, "zmq": ZmqSource}
_SENDERS = {"udp": UdpSender, "zmq": ZmqSender}
