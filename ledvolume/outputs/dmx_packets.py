"""DMX over a network, as bytes: sACN (ANSI E1.31-2018) and Art-Net 4 (ArtDmx). No sockets, no clock.

An own implementation: the libraries there are send from threads of their own, and a thread does not run while a frame is
drawn. The tests hold packets that two of them (sacn 1.11.0, stupidArtnet 1.6.0) make of the same values.
"""

import struct

from ledvolume.errors import OutputError

SACN_PORT, ARTNET_PORT = 5568, 6454
SACN_UNIVERSES, ARTNET_UNIVERSES = range(1, 64000), range(0, 32768)
STREAM_TERMINATED = 0x40
ARTNET_VERSION = 14

# E1.31 tables 4-1, 5-2 to 5-8, all big-endian: root layer, framing layer, DMP layer. Lengths have 0x7 as their upper four bits
# and count from their own field on.
_ROOT = struct.Struct(">HH12sHI16s")
_FRAMING = struct.Struct(">HI64sBHBBH")
_DMP = struct.Struct(">HBBHHHB")
_ARTDMX = struct.Struct("<8sHBBBBHBB")


def sacn_packet(
    universe: int, slots: bytes, sequence: int, *, cid: bytes, source_name: str, priority: int = 100, is_terminated: bool = False
) -> bytes:
    """E1.31 data packet: 126 bytes and the slots, after start code 0. cid: 16 bytes that name the sender for good."""
    _check("sACN", universe, SACN_UNIVERSES)
    size = 126 + len(slots)
    name = source_name.encode()[:63].decode(errors="ignore").encode()  # null-terminated in 64 bytes
    options = STREAM_TERMINATED if is_terminated else 0
    return b"".join(
        (
            _ROOT.pack(0x10, 0, b"ASC-E1.17\0\0\0", 0x7000 | size - 16, 4, cid),
            _FRAMING.pack(0x7000 | size - 38, 2, name, priority, 0, sequence & 255, options, universe),
            _DMP.pack(0x7000 | size - 115, 2, 0xA1, 0, 1, 1 + len(slots), 0),
            slots,
        )
    )


def artdmx_packet(universe: int, slots: bytes, sequence: int) -> bytes:
    """ArtDmx: 18 bytes and the slots, of which there is an even number. universe: the 15 bits of the Port-Address, Net,
    Sub-Net and Universe. Sequence numbers run from 1 to 255; 0 would switch the receivers' sorting off."""
    _check("Art-Net", universe, ARTNET_UNIVERSES)
    sub_uni_and_net = universe  # low byte first, as the field before: SubUni, then Net
    header = _ARTDMX.pack(
        b"Art-Net\0", 0x5000, 0, ARTNET_VERSION, sequence % 255 + 1, 0, sub_uni_and_net, len(slots) >> 8, len(slots) & 255
    )
    return header + slots


def sacn_group(universe: int) -> str:
    """The multicast group of a universe (E1.31 §9.3.1)."""
    _check("sACN", universe, SACN_UNIVERSES)
    return f"239.255.{universe >> 8}.{universe & 255}"


def _check(protocol: str, universe: int, known: range) -> None:
    if universe not in known:
        raise OutputError(f"universe {universe} of a fixture: {protocol} has {known.start} to {known.stop - 1}")
