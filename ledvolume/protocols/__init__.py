"""Tracking protocols: bytes → CameraSample, and back for test senders. No I/O, no clock.

A protocol is one module with `decoder(…) -> Decoder` and `encode(sample, …) -> bytes`, and one line here.
"""

import msgspec

from ledvolume.errors import ConfigError
from ledvolume.protocols import native, osc
from ledvolume.protocols.decoder import Decoder
from ledvolume.protocols.osc_map import OscMap, preset_map

DECODERS = {"osc": osc.decoder, "native": native.decoder}
ENCODERS = {"osc": osc.encode, "native": native.encode}


def open_decoder(
    protocol: str,
    preset: str | None = None,
    osc_map: OscMap | None = None,
    sensor_mm: tuple[float, float] | None = None,
) -> Decoder:
    """A decoder by name. For OSC: of a preset or a map (`load_map`, `as_map`), else of all presets.

    sensor_mm makes fields of view into focal lengths, unless the map has its own.
    """
    if protocol not in DECODERS:
        raise ConfigError(protocol, "protocol", f"one of {', '.join(DECODERS)}", protocol)
    if protocol != "osc":
        if preset or osc_map:
            raise ConfigError(protocol, "map", "no preset and no map: only osc has them", preset or "a map")
        return DECODERS[protocol]()
    if preset and osc_map:
        raise ConfigError("osc", "map", "either a preset or a map", f"{preset} and a map")
    osc_map = osc_map or preset_map(preset or "")
    return osc.decoder(msgspec.structs.replace(osc_map, sensor_mm=osc_map.sensor_mm or sensor_mm))
