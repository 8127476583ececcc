"""`stream://HOST:PORT`: frames to tile receivers, over ZMQ. The last step of a frame in the server's process.

Latest wins. Each receiver has a queue of `queue_frames` frames; what does not fit is dropped for that receiver alone,
and `send` never waits. Tiles that nobody subscribed to are neither checksummed nor sent.

Pixels above 64 KiB are sent from where they lie: nothing may write to `Frame.images` after `send`. Give each frame a
buffer of its own (a fresh 25 MB costs 0.4 ms more than a reused one); ZMQ lets go of it when the last receiver has it,
which for a stalled receiver is seconds later.

Options: secret_key_file (the server's CurveZMQ certificate), insecure=yes (no keys: a closed network), queue_frames.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq
import zmq.auth

from ledvolume.errors import OutputError
from ledvolume.frame import Frame
from ledvolume.outputs import wire

HEARTBEAT_MS = 2000
LINGER_MS = 300
QUEUE_FRAMES = 2
COPIED_BELOW = 65536  # bytes: less than this is copied faster than it is lent and given back


class _Tile(NamedTuple):
    """What messages of one tile have in common, as long as its images look like this."""

    shape: tuple[int, ...]
    dtype: np.dtype
    topic: bytes
    header_piece: bytes
    has_receiver: bool


class StreamOutput:
    """Publishes every frame to whoever listens. `uri` is the bound address (port 0: the one the system gave)."""

    def __init__(self, uri: str, folder: Path = Path(), *, clock_ns=time.time_ns):
        address = wire.address(uri, frozenset({"secret_key_file", "insecure", "queue_frames"}))
        key_file = address.file("secret_key_file", folder)
        if not (address.is_loopback or key_file or address.options.get("insecure") == "yes"):
            raise OutputError(
                f"{uri}: refused, it would show the wall to everyone who reaches this machine. Make keys with "
                "`python -c \"import zmq.auth; zmq.auth.create_certificates('keys', 'stream')\"` and add "
                "?secret_key_file=keys/stream.key_secret; on a closed network add ?insecure=yes instead"
            )
        self._queue_frames = _queue_frames(address)
        self._clock_ns, self._started_at_ns = clock_ns, clock_ns()
        self._context = zmq.Context()
        # XPUB, not PUB: the same on the wire, but it also says who listens to what.
        self._socket = self._context.socket(zmq.XPUB)
        try:
            _set_up(self._socket, address, key_file)
        except (OutputError, zmq.ZMQError) as error:
            self._context.destroy(linger=0)
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{uri}: cannot listen there: {error}. Is another server running?") from error
        # pyzmq's own wrapper around this costs 0.3 us a part; 256 tiles are 768 parts a frame.
        self._send = super(zmq.Socket, self._socket).send
        self.uri = "stream" + self._socket.last_endpoint.decode().removeprefix("tcp")
        self._subscriptions: set[bytes] = set()
        self._tiles: dict[str, _Tile] = {}
        self._frames = self._messages = self._bytes = 0

    def send(self, frame: Frame) -> None:
        """Hand every tile that has a receiver to ZMQ; never waits. Raises OutputError for pixels without a format."""
        images, tiles = frame.images, self._tiles
        if self._drain_subscriptions() or images.keys() != tiles.keys():
            tiles.clear()
            self._socket.sndhwm = self._queue_frames * max(len(images), 1)
        shared = wire.frame_piece(self._started_at_ns, self._frames, self._clock_ns(), frame.request)
        send, more = self._send, zmq.SNDMORE
        messages = sent_bytes = 0
        for name, image in images.items():
            tile = tiles.get(name)
            # `is not`: NumPy's own types are single objects, and another one only costs a new tile_piece
            if tile is None or tile.dtype is not image.dtype or tile.shape != image.shape:
                tile = tiles[name] = self._tile(name, image)
            if tile.has_receiver:
                # All that can raise comes before the first part: half a message would swallow the next one.
                header, size = wire.header(shared, tile.header_piece, image), image.nbytes
                send(tile.topic, more)
                send(header, more)
                send(image, 0, size < COPIED_BELOW)
                messages += 1
                sent_bytes += size
        self._frames += 1
        self._messages += messages
        self._bytes += sent_bytes

    def counters(self) -> dict[str, int]:
        """Frames, tile messages and pixel bytes handed to ZMQ; how many tiles of the last frame have a receiver."""
        listened = sum(tile.has_receiver for tile in self._tiles.values())
        return {"frames": self._frames, "messages": self._messages, "bytes": self._bytes, "tiles_listened": listened}

    def close(self) -> None:
        """Receivers that keep up get the last frames; the others are waited for LINGER_MS in all."""
        self._context.destroy(linger=LINGER_MS)

    def _drain_subscriptions(self) -> bool:
        """Whether who listens to what has changed since the last frame. A message is 1 or 0, then a topic's start."""
        has_changed = False
        while self._socket.get(zmq.EVENTS) & zmq.POLLIN:
            message = self._socket.recv()
            if message[:1] == b"\1":
                self._subscriptions.add(message[1:])
            elif message[:1] == b"\0":
                self._subscriptions.discard(message[1:])
            has_changed = True
        return has_changed

    def _tile(self, name: str, image: np.ndarray) -> _Tile:
        topic = wire.topic(name)
        has_receiver = any(topic.startswith(start) for start in self._subscriptions)
        return _Tile(image.shape, image.dtype, topic, wire.tile_piece(name, image), has_receiver)


def _set_up(socket: zmq.Socket, address: wire.Address, key_file: Path | None) -> None:
    socket.linger = 0
    socket.ipv6 = ":" in address.host
    socket.maxmsgsize = 4096  # inbound: subscriptions, nothing else
    # Who is silent for three beats (stopped, unplugged) is disconnected and its queue freed; it reconnects by itself.
    socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT_MS, 3 * HEARTBEAT_MS
    if key_file:
        _, secret = curve_keys(key_file)
        if secret is None:
            raise OutputError(f"{key_file}: has no secret key; expected the .key_secret file of the pair")
        socket.curve_server, socket.curve_secretkey = True, secret
    socket.bind(address.endpoint)


def _queue_frames(address: wire.Address) -> int:
    text = address.options.get("queue_frames", str(QUEUE_FRAMES))
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise OutputError(f"{address.uri}: queue_frames: expected 1 to 100, got {text!r}")
    return int(text)


def curve_keys(file: Path) -> tuple[bytes, bytes | None]:
    """(public, secret or None) of a CurveZMQ certificate as `zmq.auth.create_certificates` writes them."""
    if not file.is_file():
        raise OutputError(f"{file}: cannot read the key: no such file (docs/protocol.md, Security, says how keys are made)")
    try:
        return zmq.auth.load_certificate(file)
    except (OSError, ValueError) as error:
        raise OutputError(f"{file}: cannot read the key: {error}") from error
