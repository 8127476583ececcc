"""Why nothing arrives: what an operator is told when a source is silent, from what the kernel says of its network cards.

Pure: what the cards were when listening began and are now, and the kernel's counts, are arguments.
"""

import msgspec

from ledvolume import multicast
from ledvolume.network_cards import NetworkCard, dropped_by_reverse_path, network_cards, sockets_on_port
from ledvolume.sources import Address

LOOPBACK = ("127.0.0.1", "::1")


class Network(msgspec.Struct, frozen=True):
    """The network of this machine at one instant. reverse_path_drops: packets since boot. on_port: addresses of UDP sockets
    at the port in question."""

    cards: tuple[NetworkCard, ...]
    reverse_path_drops: int = 0
    on_port: tuple[str, ...] = ()


def network_now(port: int) -> Network:
    """As the kernel tells it."""
    return Network(network_cards(), dropped_by_reverse_path(), tuple(sockets_on_port(port)))


def reasons(where: Address, port: int, joined: tuple[str, ...], before: Network, now: Network) -> list[str]:
    """What to check, the likeliest first. `joined`: the cards on which a group was joined."""
    if where.transport == "zmq":
        return _of_zmq(where)
    came = {card.name: card.received - _received(before, card.name) for card in now.cards}
    words = []
    if multicast.is_group(where.host):
        words += _of_group(where, port, joined, now, came)
    elif where.host in LOOPBACK:
        words.append(
            f"{where.host} hears programs of this machine only. For a tracker on the network: 0.0.0.0, or a card's address"
        )
    elif where.host == "0.0.0.0":
        ours = ", ".join(f"{card.address} on {card.name}" for card in now.cards if _is_outside(card))
        words.append(f"is the tracker sending to this machine ({ours or 'it has no address on any network'}), to port {port}?")
    else:
        words.append(f"is the tracker sending to {where.host}, to port {port}?")
    if dropped := now.reverse_path_drops - before.reverse_path_drops:
        words.append(
            f"the kernel has dropped {dropped} packets whose sender's address is not of the network of the card they came on:"
            " give the card an address there, or set net.ipv4.conf.CARD.rp_filter to 2"
        )
    others = [host for host in now.on_port if host != where.host]
    if others or (now.on_port.count(where.host) > 1 and not multicast.is_group(where.host)):
        words.append(f"another program has port {port} too, on {', '.join(others) or where.host}: see `ss -ulnp`")
    words.append("packets since listening began: " + ", ".join(f"{card} {came[card.name]}" for card in now.cards if card.is_up))
    if where.host not in LOOPBACK:
        words.append(f"a firewall may drop UDP to port {port}: see `sudo nft list ruleset` or `sudo iptables -L -n`")
    return words


def _of_group(where: Address, port: int, joined: tuple[str, ...], now: Network, came: dict[str, int]) -> list[str]:
    chosen = "" if "interface" in where.options else ", which this machine's routes chose"
    words = [f"the group {where.host} was joined on {', '.join(joined)}{chosen}; is the tracker sending to it, to port {port}?"]
    others = [card for card in now.cards if _is_outside(card) and card.name not in joined]
    if others:
        busiest = max(others, key=lambda card: came[card.name])
        words.append(
            f"packets may arrive on another network card: this machine has {', '.join(map(str, others))} too."
            f" Say ?interface={busiest.name}, or ?interface=all"
        )
    words.append("a switch that snoops IGMP without a querier stops multicast after some minutes: enable the querier")
    return words


def _of_zmq(where: Address) -> list[str]:
    if where.options.get("bind") == "1":
        return [f"has the tracker's PUB socket connected to this machine, port {where.port}? A firewall stops that, too (TCP)"]
    return [
        f"is the tracker's PUB socket bound at {where.host}:{where.port} (TCP)? If it connects to us, add ?bind=1",
        "a subscription by ?topic= hears only what begins with it",
    ]


def _is_outside(card: NetworkCard) -> bool:
    return card.is_up and bool(card.address) and not card.address.startswith("127.")


def _received(network: Network, name: str) -> int:
    return next((card.received for card in network.cards if card.name == name), 0)
