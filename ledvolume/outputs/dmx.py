"""`sacn://HOST` and `artnet://HOST`: what light fixtures are told, with every frame.

    sacn://multicast                      each universe to its own group, 239.255.x.y; ?interface=eth1 says by which card
    sacn://10.0.0.20                      to one device
    artnet://10.0.0.20                    to one node; artnet://2.255.255.255 or another broadcast address: to all of a network

Options: interface (of multicast), priority (sACN, 0 to 200, default 100), rate (at most so many packets a second and universe,
default and most 44: what DMX itself can carry). A frame that comes too soon for that is not sent; the next one says all that
it has said. Values that do not change are sent again all the same: a lamp that was just plugged in, or missed a packet, is
right a frame later. A packet is handed to the kernel without waiting; one that it does not take is counted.
"""

import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ledvolume.clock import SECOND_NS
from ledvolume.errors import ConfigError, OutputError
from ledvolume.frame import Frame
from ledvolume.multicast import send_on
from ledvolume.outputs.dmx_packets import ARTNET_PORT, SACN_PORT, artdmx_packet, sacn_group, sacn_packet

RATE_MOST = 44
MULTICAST = "multicast"
FAREWELLS = 3  # E1.31 §6.2.6: a source that goes says so three times


class DmxOutput:
    """Sends `Frame.universes`. Raises OutputError for an address that cannot be sent to, and for a universe that its
    protocol does not have."""

    def __init__(self, uri: str, folder: Path = Path(), *, clock_ns: Callable[[], int] = time.monotonic_ns):
        self.uri, self._clock_ns = uri, clock_ns
        self._is_sacn = uri.startswith("sacn:")
        host, port, options = _address(uri, self._is_sacn)
        self._interval_ns = SECOND_NS // _number(uri, options, "rate", 1, RATE_MOST, RATE_MOST)
        self._priority = _number(uri, options, "priority", 0, 200, 100)
        self._target = None if self._is_sacn and host == MULTICAST else (_resolved(uri, host), port)
        self._port = port
        # E1.31 §5.6: the same as long as this machine sends; other programs on it have others
        self._cid = uuid.uuid5(uuid.NAMESPACE_URL, f"ledvolume/{uuid.getnode():012x}").bytes
        self._source_name = f"ledvolume on {socket.gethostname()}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            if "interface" in options:
                send_on(self._socket, uri, options["interface"])
        except (OSError, ConfigError) as error:
            self._socket.close()
            raise OutputError(f"{uri}: cannot send by that card: {error}") from error
        self._sent: dict[int, bytes] = {}
        self._next_ns = 0
        self._sequence = self._frames = self._packets = self._failed = self._changes = 0

    def send(self, frame: Frame) -> None:
        """The universes of a frame, if the last ones were sent long enough ago."""
        now_ns = self._clock_ns()
        if now_ns < self._next_ns or not frame.universes:
            return
        # from when it was due: frames that come a little early and a little late are all sent
        self._next_ns = max(self._next_ns, now_ns - self._interval_ns // 2) + self._interval_ns
        self._send_all(frame.universes)
        self._changes += self._sent != frame.universes
        self._sent = frame.universes
        self._frames += 1

    def counters(self) -> dict[str, int]:
        """Frames and packets sent, those that the kernel did not take (no route, no room), how often values changed."""
        return {"frames": self._frames, "packets": self._packets, "failed": self._failed, "changes": self._changes}

    def close(self) -> None:
        """sACN receivers are told that no more will come; Art-Net has no word for it, and its nodes hold what they have."""
        for _ in range(FAREWELLS if self._is_sacn else 0):
            self._send_all(self._sent, is_terminated=True)
        self._socket.close()

    def _send_all(self, universes: dict[int, bytes], is_terminated: bool = False) -> None:
        for universe, slots in universes.items():
            if self._is_sacn:
                packet = sacn_packet(
                    universe,
                    slots,
                    self._sequence,
                    cid=self._cid,
                    source_name=self._source_name,
                    priority=self._priority,
                    is_terminated=is_terminated,
                )
            else:
                packet = artdmx_packet(universe, slots, self._sequence)
            try:
                self._socket.sendto(packet, self._target or (sacn_group(universe), self._port))
                self._packets += 1
            except OSError:  # a cable that is out must not stop the wall
                self._failed += 1
        self._sequence += 1


def _address(uri: str, is_sacn: bool) -> tuple[str, int, dict[str, str]]:
    scheme, expected = ("sacn", "sacn://multicast or sacn://HOST") if is_sacn else ("artnet", "artnet://HOST")
    try:
        parts = urlsplit(uri)
        port = parts.port or (SACN_PORT if is_sacn else ARTNET_PORT)
    except ValueError as error:
        raise OutputError(f"{uri}: {error}; expected {expected}") from error
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"rate", "interface", "priority"} if is_sacn else {"rate"}
    if parts.scheme != scheme or not parts.hostname or parts.path.strip("/"):
        raise OutputError(f"{uri}: expected {expected}")
    if unknown := options.keys() - known:
        raise OutputError(f"{uri}: unknown option {sorted(unknown)}; known here: {sorted(known)}")
    if "interface" in options and parts.hostname != MULTICAST:
        raise OutputError(f"{uri}: interface is for sacn://multicast; the route to {parts.hostname} chooses the card")
    return parts.hostname, port, options


def _number(uri: str, options: dict[str, str], option: str, least: int, most: int, default: int) -> int:
    text = options.get(option, str(default))
    if not (text.isdecimal() and least <= int(text) <= most):
        raise OutputError(f"{uri}: {option}: expected {least} to {most}, got {text!r}")
    return int(text)


def _resolved(uri: str, host: str) -> str:
    """The IPv4 address of a host, looked up once: never while the show runs."""
    try:
        return socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0]
    except OSError as error:
        raise OutputError(f"{uri}: cannot find {host}: {error.strerror or error}. Write its IPv4 address") from error
