"""Multicast groups: on which network cards they are joined, and on which one we send to them. The edge of sources.py.

?interface=eth1        a card by its name
?interface=10.0.0.7    or by its address
?interface=all         every card that is up: on a stage nobody knows which one the tracker is plugged into
none                   the card that the kernel's routes choose, which is often the wrong one: `listen` says which
"""

import ipaddress
import socket
import struct

from ledvolume.errors import ConfigError
from ledvolume.network_cards import network_cards, routed_address

ALL = "all"
IP_MULTICAST_ALL = 49  # Python does not name it; of Linux' in.h
_IP_MREQN = struct.Struct("@4s4si")  # group, address of the card, or its index
_Card = tuple[bytes, int]


def is_group(host: str) -> bool:
    """Whether this is an IPv4 multicast address; the protocols that use groups have no IPv6."""
    try:
        return ipaddress.IPv4Address(host).is_multicast
    except ValueError:
        return False


def join(udp: socket.socket, uri: str, group: str, interface: str | None) -> tuple[str, ...]:
    """Join a group; the names of the cards where it could be. Raises OSError, ConfigError."""
    if interface not in (None, ALL):
        # Linux gives every socket of a port what any program has joined for it: not so from cards that are not named
        udp.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
    joined, failure = [], None
    for name, card in _cards(uri, interface, group).items():
        try:
            membership = _IP_MREQN.pack(socket.inet_aton(group), *card)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            joined.append(name)
        except OSError as error:
            failure = error
    if failure is not None and not joined:
        raise failure
    return tuple(joined)


def send_on(udp: socket.socket, uri: str, interface: str) -> None:
    """What this socket sends to groups leaves by that card. Raises OSError, ConfigError."""
    if interface == ALL:
        raise ConfigError(uri, "interface", "one network card to send on", interface)
    [card] = _cards(uri, interface, "").values()
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _IP_MREQN.pack(bytes(4), *card))


def _cards(uri: str, interface: str | None, group: str) -> dict[str, _Card]:
    """name → (address, index): one of them says the card, neither (zeros) that the kernel chooses. What is sent has the
    address as its own."""
    cards = network_cards()
    expected = f"the name or the address of a network card of this machine, {', '.join(map(str, cards))}, or all"
    if interface is None:
        address = routed_address(group)
        if not address:
            raise ConfigError(uri, "interface", expected, "none given, and this machine has no route to the group")
        return {next((c.name for c in cards if c.address == address), address): (bytes(4), 0)}
    if interface == ALL:
        return {c.name: (bytes(4), c.index) for c in cards if c.is_up and c.takes_multicast}
    for card in cards:
        if interface in (card.name, card.address):
            return {card.name: (socket.inet_aton(card.address or "0.0.0.0"), card.index)}
    try:
        return {interface: (ipaddress.IPv4Address(interface).packed, 0)}  # a card's second address: the kernel knows it
    except ValueError:
        raise ConfigError(uri, "interface", expected, interface) from None
