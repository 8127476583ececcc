"""Tracking protocols: bytes → CameraSample, and back for test senders. No I/O, no clock.

A protocol is one module with `decoder(…) -> Decoder` and `encoder(…) -> Encoder`, and one line here. An encoder makes
the datagrams of one sample; it may remember what a real sender remembers, such as a packet number.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError
from ledvolume.protocols import freed, freed_profile, native, opentrackio, osc, psn
from ledvolume.protocols.decoder import Decoder
from ledvolume.protocols.osc_map import OscMap, preset_map
from ledvolume.source_clock import MODES, Mode

Encoder = Callable[[CameraSample], list[bytes]]


class Reading(msgspec.Struct, frozen=True):
    """How a source's datagrams are to be read, beyond what the protocol says. What a protocol does not use is refused.

    osc_map: OSC; None = every preset. sensor_mm (w, h): makes focal lengths of fields of view.
    encoding: OpenTrackIO's sender, json by default. profile: what a vendor does otherwise (freed_profile.py, psn.py).
    clock: what the stamps of senders are taken for, "auto" by default (source_clock.py). cameras: ids of the wire → ids of
    the show. Both are for every protocol that is received.
    """

    osc_map: OscMap | None = None
    sensor_mm: tuple[float, float] | None = None
    clock: Mode | None = None
    cameras: dict[str, str] | None = None
    encoding: opentrackio.Encoding | None = None
    profile: str | dict | freed_profile.FreedProfile | psn.PsnProfile | None = None


class Protocol(NamedTuple):
    """takes: the keywords of Reading that `decoder` and `encoder` understand."""

    decoder: Callable[..., Decoder]
    encoder: Callable[..., Encoder]
    takes: frozenset[str] = frozenset()


PROTOCOLS = {
    "osc": Protocol(osc.decoder, osc.encoder, frozenset({"osc_map", "sensor_mm"})),
    "opentrackio": Protocol(opentrackio.decoder, opentrackio.encoder, frozenset({"encoding"})),
    "freed": Protocol(freed.decoder, freed.encoder, frozenset({"profile", "sensor_mm"})),
    "psn": Protocol(psn.decoder, psn.encoder, frozenset({"profile"})),
    "native": Protocol(native.decoder, native.encoder),
}


def open_decoder(protocol: str, preset: str | None = None, **reading) -> Decoder:
    """A decoder by name. `reading`: keywords of Reading; `preset` stands for the osc_map of that name. Raises ConfigError."""
    found = _found(protocol)
    clock, cameras = reading.pop("clock", None) or "auto", reading.pop("cameras", None) or {}
    if clock not in MODES:
        raise ConfigError(protocol, "clock", f"one of {', '.join(MODES)}", clock)
    decoder = found.decoder(**_understood(protocol, found, preset, reading))
    decoder.clock, decoder.cameras = clock, cameras
    return decoder


def open_encoder(protocol: str, preset: str | None = None, **reading) -> Encoder:
    """What makes datagrams of samples, by name. Raises ConfigError."""
    found = _found(protocol)
    return found.encoder(**_understood(protocol, found, preset, reading))


def checked_profile(protocol: str, profile: str | dict, file: str, key: str):
    """A profile of a show file as a value, for this protocol. Raises ConfigError."""
    checks = {"freed": freed_profile.as_profile, "psn": psn.as_profile}
    if protocol not in checks:
        raise ConfigError(file, key, f"nothing: only {' and '.join(checks)} have profiles", profile)
    return checks[protocol](profile, file, key)


def _found(protocol: str) -> Protocol:
    if protocol not in PROTOCOLS:
        raise ConfigError(protocol, "protocol", f"one of {', '.join(PROTOCOLS)}", protocol)
    return PROTOCOLS[protocol]


def _understood(protocol: str, found: Protocol, preset: str | None, reading: dict) -> dict:
    """The keywords for this protocol. sensor_mm is a fact of the camera: who cannot use it need not."""
    given = {name: value for name, value in reading.items() if value is not None}
    if preset:
        if "osc_map" in given:
            raise ConfigError("osc", "map", "either a preset or a map", f"{preset} and a map")
        if protocol == "osc":
            given["osc_map"] = preset_map(preset)
    if (preset or "osc_map" in given) and protocol != "osc":
        raise ConfigError(protocol, "map", "no preset and no map: only osc has them", preset or "a map")
    for name in given.keys() - found.takes - {"sensor_mm", "clock", "cameras"}:
        raise ConfigError(protocol, name, f"nothing: {protocol} has no {name}", given[name])
    return {name: value for name, value in given.items() if name in found.takes}
