"""Tracking protocols: bytes → CameraSample, and back for test senders. No I/O, no clock.

A protocol is one module with `decoder(…) -> Decoder` and `encode(sample, …) -> bytes`, and one line here.
"""

from pathlib import Path

from ledvolume.errors import ConfigError
from ledvolume.protocols import native, osc, osc_map
from ledvolume.protocols.decoder import Decoder

DECODERS = {"osc": osc.decoder, "native": native.decoder}
ENCODERS = {"osc": osc.encode, "native": native.encode}


def open_decoder(
    protocol: str,
    preset: str = "",
    map_file: str | Path = "",
    sensor_mm: tuple[float, float] | None = None,
) -> Decoder:
    """A decoder by name. For OSC: a preset or a map file, otherwise all presets; `sensor_mm` makes fields of view
    into focal lengths, unless the map file has its own."""
    if protocol not in DECODERS:
        raise ConfigError(protocol, "protocol", f"one of {', '.join(DECODERS)}", protocol)
    if protocol != "osc":
        if preset or map_file:
            raise ConfigError(protocol, "map", "presets and maps only for osc", preset or str(map_file))
        return DECODERS[protocol]()
    if preset and map_file:
        raise ConfigError("osc", "map", "either a preset or a map file", f"{preset} and {map_file}")
    if not map_file:
        return osc.decoder(osc_map.preset_map(preset, sensor_mm))
    from_file = osc_map.load_map(map_file)
    return osc.decoder(osc_map.OscMap(from_file.messages, from_file.sensor_mm or sensor_mm))
