"""The network cards of this machine, and what the kernel says of datagrams that never reach us. For sources and `listen`.

Packets that arrive on another card than the one where their group was joined are the commonest reason for silence on a
stage, and the second is a filter of the kernel that nobody has set on purpose. Linux tells of both under /proc.
"""

import fcntl
import socket
import struct
from pathlib import Path

import msgspec

SIOCGIFFLAGS, SIOCGIFADDR = 0x8913, 0x8915
IFF_UP, IFF_LOOPBACK, IFF_MULTICAST = 0x1, 0x8, 0x1000
_PROC = Path("/proc/net")


class NetworkCard(msgspec.Struct, frozen=True):
    """address: its first IPv4 address, "" without one. received: packets since the card came up, not only ours."""

    name: str
    index: int
    address: str = ""
    is_up: bool = False
    takes_multicast: bool = False
    received: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.address or 'no IPv4 address'})"


def network_cards() -> tuple[NetworkCard, ...]:
    """Those of this machine, now; loopback is one."""
    received = _packets_received()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        found = []
        for index, name in socket.if_nameindex():
            [flags] = struct.unpack("H", _asked(asker, SIOCGIFFLAGS, name)[:2] or bytes(2))
            address = _asked(asker, SIOCGIFADDR, name)[4:8]
            found.append(
                NetworkCard(
                    name,
                    index,
                    socket.inet_ntoa(address) if address else "",
                    bool(flags & IFF_UP),
                    bool(flags & (IFF_MULTICAST | IFF_LOOPBACK)),
                    received.get(name, 0),
                )
            )
    return tuple(found)


def routed_address(host: str) -> str:
    """Our address on the card that the kernel's routes choose for this host or group; "" if it has no route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.connect((host, 9))
        except OSError:
            return ""
        return asker.getsockname()[0]


def dropped_by_reverse_path() -> int:
    """Packets that the kernel has dropped since boot because it would not answer their sender by the card they came on
    (rp_filter): a tracker whose address does not belong to the card's network."""
    names, values = [], []
    for line in _lines(_PROC / "netstat"):
        if line.startswith("TcpExt:"):
            names, values = values, line.split()
    return int(dict(zip(names, values)).get("IPReversePathFilter", 0))


def sockets_on_port(port: int) -> list[str]:
    """The addresses that UDP sockets of this machine are bound to at this port, ours too; "0.0.0.0" takes all."""
    found = []
    for line in _lines(_PROC / "udp")[1:]:
        host, _, at = line.split()[1].partition(":")
        if int(at, 16) == port:
            found.append(socket.inet_ntoa(struct.pack("=I", int(host, 16))))
    return found


def _asked(asker: socket.socket, request: int, name: str) -> bytes:
    """The second half of ifreq, what the kernel answers; b"" where it has no answer."""
    try:
        return fcntl.ioctl(asker, request, struct.pack("16s24x", name.encode()[:15]))[16:]
    except OSError:
        return b""


def _packets_received() -> dict[str, int]:
    counts = {}
    for line in _lines(_PROC / "dev")[2:]:
        name, _, numbers = line.partition(":")
        counts[name.strip()] = int(numbers.split()[1])
    return counts


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []  # another kernel than Linux, or a container that hides it
