"""The other end of `stream://`: tiles as they arrive, in the receiver's own process. Needs no GPU and no show file."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import zmq

from ledvolume.errors import OutputError, ProtocolError
from ledvolume.outputs import wire
from ledvolume.outputs.stream import HEARTBEAT_MS, curve_keys
from ledvolume.outputs.wire import ReceivedTile

QUEUE_MESSAGES = 4


class TileReceiver:
    """Subscribes to `tiles` of the server at `uri`; to all of them if none is named. Connects when it can.

    rejected: how many messages were refused, by reason (parts, header, version, size, crc).
    Option: server_key_file (the server's public CurveZMQ certificate, where it has one).
    """

    def __init__(self, uri: str, tiles: Iterable[str] = (), folder: Path = Path(), *, clock_ns=time.time_ns):
        address = wire.address(uri, frozenset({"server_key_file"}))
        topics = [wire.topic(tile) for tile in tiles]
        self.rejected: Counter[str] = Counter()
        self._clock_ns = clock_ns
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        try:
            self._set_up(address, address.file("server_key_file", folder), topics)
        except (OutputError, zmq.ZMQError) as error:
            self.close()
            raise error if isinstance(error, OutputError) else OutputError(f"{uri}: {error}") from error

    def receive(self, timeout_s: float) -> list[ReceivedTile]:
        """The tiles that have arrived, oldest first; waits for the first. Empty after `timeout_s` without any."""
        received = []
        if self._socket.poll(timeout_s * 1000):
            for _ in range(self._socket.rcvhwm):
                try:
                    parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                received_at_ns = self._clock_ns()
                try:
                    received.append(wire.received_tile([part.buffer for part in parts], received_at_ns))
                except ProtocolError as error:
                    self.rejected[error.reason] += 1
        return received

    def __iter__(self) -> Iterator[ReceivedTile]:
        """Every tile in the order of arrival, without end."""
        while True:
            yield from self.receive(1.0)

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _set_up(self, address: wire.Address, server_key_file: Path | None, topics: list[bytes]) -> None:
        self._socket.ipv6 = ":" in address.host
        self._socket.heartbeat_ivl, self._socket.heartbeat_timeout = HEARTBEAT_MS, 3 * HEARTBEAT_MS
        self._socket.reconnect_ivl, self._socket.reconnect_ivl_max = 100, 1000
        # ZMQ's default of 1000 waiting messages would be gigabytes of old walls.
        self._socket.rcvhwm = QUEUE_MESSAGES * (len(topics) or 64)
        if server_key_file:
            self._socket.curve_serverkey, _ = curve_keys(server_key_file)
            self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
        for topic in topics or [b""]:
            self._socket.subscribe(topic)
        self._socket.connect(address.endpoint)
