"""Options that say how datagrams are to be read, the same for every command that takes a URI: listen, record, simulate.

They make a `protocols.Reading`, as the tables of a show file do: `--map`, `--preset`, `--profile`, `--sensor`, `--clock`,
`--encoding`, `--cameras`.
"""

import argparse
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import msgspec

from ledvolume.commands.quantities import positive
from ledvolume.errors import ConfigError
from ledvolume.protocols import PROTOCOLS, Reading, checked_profile
from ledvolume.protocols.freed_profile import PROFILES
from ledvolume.protocols.opentrackio import Encoding
from ledvolume.protocols.osc_map import PRESETS, load_map, preset_map
from ledvolume.source_clock import MODES
from ledvolume.sources import address

FILE = "command line"


def reading_arguments(parser: argparse.ArgumentParser, is_sender: bool = False) -> None:
    """Declare the options; a sender has no use for --clock and --cameras."""
    group = parser.add_argument_group("how datagrams are made" if is_sender else "how datagrams are read")
    default = "ledvolume" if is_sender else "all"
    which = group.add_mutually_exclusive_group()
    which.add_argument("--map", default="", metavar="FILE.toml", help="OSC: an address map")
    which.add_argument("--preset", default="", metavar="NAME", help=f"OSC: {', '.join(PRESETS)} (default: {default})")
    profiles = f"FreeD: {', '.join(PROFILES)}, or a TOML file; PSN: a TOML file"
    group.add_argument("--profile", default="", metavar="NAME", help=profiles)
    group.add_argument("--encoding", choices=get_args(Encoding), help="OpenTrackIO, as it is sent")
    sensor_argument(group)
    if is_sender:
        parser.set_defaults(clock=None, cameras="")
        return
    group.add_argument("--clock", choices=MODES, help="what the stamps of senders are taken for (default: auto)")
    group.add_argument("--cameras", default="", metavar="WIRE=ID,…", help="cameras that are to be called otherwise")


def sensor_argument(parser) -> None:
    """--sensor alone: makes focal lengths of fields of view, and back."""
    parser.add_argument("--sensor", default="", metavar="W,H", help="sensor in mm, to read fields of view as focal lengths")


def reading_of(args: argparse.Namespace, protocol: str) -> Reading:
    """The reading for one protocol; an option that it does not understand is refused. Raises ConfigError."""
    return readings_of(args, [protocol])[0]


def readings_of(args: argparse.Namespace, protocols: Iterable[str]) -> list[Reading]:
    """One reading for each source; an option is for those that understand it, and for one at least. Raises ConfigError."""
    protocols = list(protocols)
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise ConfigError(FILE, "URI", f"one of the protocols {', '.join(PROTOCOLS)}", protocol)
    for option, keyword in (("map", "osc_map"), ("preset", "osc_map"), ("profile", "profile"), ("encoding", "encoding")):
        given = getattr(args, option)
        if given and not any(keyword in PROTOCOLS[protocol].takes for protocol in protocols):
            able = [name for name, protocol in PROTOCOLS.items() if keyword in protocol.takes]
            raise ConfigError(FILE, f"--{option}", f"a source of {' or '.join(able)}", f"{given}, for {', '.join(protocols)}")
    common = Reading(sensor_mm=sensor_mm(args.sensor), clock=args.clock, cameras=_cameras(args.cameras))
    return [msgspec.structs.replace(common, **_own(args, protocol)) for protocol in protocols]


def sources_of(args: argparse.Namespace, uris: list[str], show_file: str) -> list[tuple[str, Reading]]:
    """Addresses, read as the options say, or those of a show, read as the show says. Raises ConfigError."""
    if bool(uris) == bool(show_file):
        raise ConfigError(FILE, "URI", "one source or more, such as osc+udp://0.0.0.0:9000, or --show", " ".join(uris) or "none")
    if uris:
        return list(zip(uris, readings_of(args, [address(uri).protocol for uri in uris])))
    from ledvolume.config import load_show

    for option in ("map", "preset", "profile", "sensor", "clock", "encoding", "cameras"):
        if given := getattr(args, option):
            raise ConfigError(FILE, f"--{option}", "nothing: --show says how its sources are read", given)
    show = load_show(show_file)
    if not show.sources:
        raise ConfigError(show.file, "source", "at least one [[source]]", "none")
    of_camera = show.stage.rigs[0].lens.sensor_mm
    readings = [msgspec.structs.replace(s.reading, sensor_mm=s.reading.sensor_mm or of_camera) for s in show.sources]
    return [(source.uri, reading) for source, reading in zip(show.sources, readings)]


def sensor_mm(text: str | None) -> tuple[float, float] | None:
    """Width and height of "36,24"; None if nothing was said. Raises ConfigError."""
    if not text:
        return None
    try:
        width_mm, height_mm = (positive(n) for n in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise ConfigError(FILE, "--sensor", "width,height in mm, such as 36,24", text) from None
    return (width_mm, height_mm)


def _own(args: argparse.Namespace, protocol: str) -> dict:
    takes, own = PROTOCOLS[protocol].takes, {}
    if "osc_map" in takes and (args.map or args.preset):
        own["osc_map"] = load_map(args.map) if args.map else preset_map(args.preset)
    if "profile" in takes and args.profile:
        own["profile"] = _profile(args.profile, protocol)
    if "encoding" in takes and args.encoding:
        own["encoding"] = args.encoding
    return own


def _profile(text: str, protocol: str):
    """A built-in profile by name, or one from a TOML file that has its keys at the top level."""
    if not text.endswith(".toml"):
        return checked_profile(protocol, text, FILE, "--profile")
    try:
        table = tomllib.loads(Path(text).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(text, "file", "a TOML file with the keys of a profile", str(error)) from None
    return checked_profile(protocol, table, text, "profile")


def _cameras(text: str) -> dict[str, str] | None:
    if not text:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(wire_id and camera_id for wire_id, _, camera_id in pairs):
        raise ConfigError(FILE, "--cameras", "ids of the wire with ours, such as 1=A,2=B", text)
    return {wire_id: camera_id for wire_id, _, camera_id in pairs}
