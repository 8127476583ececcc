"""All datagrams that wait at a UDP socket, by few system calls: Linux' recvmmsg. Under sources.UdpSource, for floods.

A recvmsg from Python takes 2.5 µs where nothing else runs and 20 on a busy machine, and a frame at 24 fps finds 2,100
datagrams of a flood of 50,000 a second. So many at once take 1 µs each, busy or not (measured, two cores): of what came only
the payload and the sender are looked at here. Whoever wants the kernel's stamp calls `control_messages`.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator

import numpy as np

LARGEST_DATAGRAM = 65536
CONTROL_BYTES = 160
NAME_BYTES = 28  # of a sockaddr_in6, the longer kind
AT_ONCE = 128  # of which a buffer for the largest is kept: 8 MB, of which what is never used is never there
MOST_SENDERS = 1024  # whose addresses are kept as text

_CONTROL = struct.Struct("@Nii")
_WORD = struct.calcsize("@N")
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("iovecs", ctypes.c_void_p),
        ("iovec_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr. size: of what was received."""

    _anonymous_ = ("header",)
    _fields_ = [("header", _Msghdr), ("size", ctypes.c_uint32)]


def has_recvmmsg() -> bool:
    """Linux and a few BSDs; macOS and Windows do not have it."""
    return hasattr(_LIBC, "recvmmsg") and hasattr(socket, "MSG_DONTWAIT")


class UdpBatch:
    """Receives from one socket, without waiting."""

    def __init__(self, udp_socket: socket.socket):
        self._fileno = udp_socket.fileno()
        payloads = np.empty((AT_ONCE, LARGEST_DATAGRAM), np.uint8)  # not zeros: pages that nobody writes are none
        self._payloads = memoryview(payloads.reshape(-1))
        self._controls = np.zeros((AT_ONCE, CONTROL_BYTES), np.uint8)
        self._names = np.zeros((AT_ONCE, NAME_BYTES), np.uint8)
        self._iovecs = (_Iovec * AT_ONCE)()
        self._messages = (_Message * AT_ONCE)()
        for i, (iovec, message) in enumerate(zip(self._iovecs, self._messages)):
            iovec.base, iovec.size = payloads[i].ctypes.data, LARGEST_DATAGRAM
            message.name, message.name_size = self._names[i].ctypes.data, NAME_BYTES
            message.iovecs, message.iovec_count = ctypes.addressof(iovec), 1
            message.control, message.control_size = self._controls[i].ctypes.data, CONTROL_BYTES
        self._fresh = bytes(self._messages)
        message_bytes = ctypes.sizeof(_Message)
        self._sizes = np.ndarray(AT_ONCE, np.uint32, self._messages, _Message.size.offset, message_bytes)
        self._senders: dict[bytes, tuple] = {}

    def receive(self, limit: int) -> list[tuple[bytes, bytes, tuple]]:
        """(payload, control, sender) of what has arrived, oldest first, at most `limit`; the sender as recvmsg has it."""
        arrived = []
        while len(arrived) < limit:
            wanted = min(limit - len(arrived), AT_ONCE)
            ctypes.memmove(self._messages, self._fresh, len(self._fresh))  # the kernel has written sizes there
            self._controls.fill(0)
            count = _LIBC.recvmmsg(self._fileno, self._messages, wanted, socket.MSG_DONTWAIT, None)
            if count < 0:
                code = ctypes.get_errno()
                if code == errno.EINTR:
                    continue
                if code not in (errno.EAGAIN, errno.EWOULDBLOCK):
                    raise OSError(code, "recvmmsg")
                break
            arrived += self._arrivals(count)
            if count < wanted:
                break
        return arrived

    def _arrivals(self, count: int) -> list[tuple[bytes, bytes, tuple]]:
        """Of the first `count` places. Written for speed: it runs for every datagram of a flood."""
        payloads, controls, names = self._payloads, self._controls.tobytes(), self._names.tobytes()
        known, sender_of = self._senders.get, self._sender
        return [
            (
                payloads[i * LARGEST_DATAGRAM : i * LARGEST_DATAGRAM + size].tobytes(),
                controls[i * CONTROL_BYTES : (i + 1) * CONTROL_BYTES],
                known(name := names[i * NAME_BYTES : (i + 1) * NAME_BYTES]) or sender_of(name),
            )
            for i, size in enumerate(self._sizes[:count].tolist())
        ]

    def _sender(self, name: bytes) -> tuple:
        if len(self._senders) >= MOST_SENDERS:
            self._senders.clear()
        self._senders[name] = _address(name)
        return self._senders[name]


def control_messages(control: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(level, kind, data) of each, as in the ancillary data of recvmsg."""
    at = 0
    while at + _CONTROL.size <= len(control):
        size, level, kind = _CONTROL.unpack_from(control, at)
        if size < _CONTROL.size:
            break
        yield level, kind, control[at + _CONTROL.size : at + size]
        at += -(-size // _WORD) * _WORD


def _address(name: bytes) -> tuple:
    """sockaddr_in or sockaddr_in6 as Python's sockets have it."""
    [family], port = struct.unpack_from("@H", name), int.from_bytes(name[2:4], "big")
    if family == socket.AF_INET:
        return socket.inet_ntop(family, name[4:8]), port
    flow, scope = int.from_bytes(name[4:8], "big"), struct.unpack_from("@I", name, 24)[0]
    return socket.inet_ntop(socket.AF_INET6, name[8:24]), port, flow, scope
