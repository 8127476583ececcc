"""Native protocol: a `CameraSample` as a msgpack map, one per ZMQ message (or UDP datagram).

    {"camera_id": "A", "captured_at_ns": 1789000000000000000, "received_at_ns": 0,
     "world_from_tracker": {"wxyz": [1.0, 0.0, 0.0, 0.0], "position_m": [0.0, 0.0, 1.6]},
     "lens": {"focal_length_mm": 35.0, "focus_distance_m": 2.5}, "status": "ok"}

Our axes (X right, Y toward the wall, Z up), metres, house clock. `captured_at_ns` 0: stamped on arrival.
`received_at_ns` of the wire is not believed: the receiver knows better. `lens` and `status` may be left out, and keys
that we do not know are passed over, so that newer senders can talk to older servers.
"""

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.errors import ProtocolError
from ledvolume.protocols.decoder import Decoder, checked
from ledvolume.sources import Datagram

_SAMPLE = msgspec.msgpack.Decoder(CameraSample)
_encode = msgspec.msgpack.Encoder().encode


def decoder() -> Decoder:
    return Decoder("native", _messages_in, _sample_of)


def encoder():
    return lambda sample: [encode(sample)]


def encode(sample: CameraSample) -> bytes:
    """The payload that decodes to this sample."""
    return _encode(sample)


def _messages_in(payload: bytes) -> list[bytes]:
    return [payload]


def _sample_of(message: bytes, datagram: Datagram) -> CameraSample:
    try:
        sample = _SAMPLE.decode(message)
    except msgspec.ValidationError as error:
        raise ProtocolError("native", "bad-fields", str(error), message) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("native", "not-msgpack", str(error), message) from None
    received_at_ns = datagram.received_at_ns
    captured_at_ns = sample.captured_at_ns or received_at_ns
    sample = msgspec.structs.replace(sample, captured_at_ns=captured_at_ns, received_at_ns=received_at_ns)
    return checked(sample, "native", message)
