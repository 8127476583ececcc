"""OpenTrackIO 1.0.1 as JSON lines (.jsonl): one sample a line, each valid by SMPTE's schema, as they would be sent.

Instants are `timing.sampleTimestamp`; in a file without them, a line's place at `timing.sampleRate` or the rate that is
assumed. A camera is named by its label (static.camera.label) if no other has the same, else by its source number.
"""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.clock import frame_start_ns
from ledvolume.errors import ConfigError, ProtocolError
from ledvolume.protocols.decoder import LONGEST_NAME, NotForUs
from ledvolume.protocols.opentrackio import fields_encoder
from ledvolume.protocols.opentrackio_sample import Static, camera_id_of, camera_sample, schema_fault, static_of
from ledvolume.tracks.track import Assumed, Progress, Track, checked_sample, lines_of, made_track, no_progress

NO_TIME = {"seconds": 0, "nanoseconds": 0}


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """A track. What the schema forbids is noted, and read as far as it can be. Raises ConfigError."""
    samples: list[CameraSample] = []
    statics: dict[str, Static] = {}
    counts: Counter[str] = Counter()
    found: Counter[str] = Counter()
    told: dict[str, str] = {}

    def note(kind: str, text: str) -> None:
        found[kind] += 1
        told.setdefault(kind, text)

    for number, line in lines_of(path, progress):
        key = f"line {number}"
        try:
            fields = msgspec.json.decode(line, type=dict)
            if fault := schema_fault(fields):
                note("not as the schema has it", f"line {number}: {fault}")
            wire_id = camera_id_of(fields)
            statics[wire_id] = static_of(fields, statics.get(wire_id, Static()))
            sample = camera_sample(fields, None, statics[wire_id], note)
        except NotForUs as nothing:
            note("passed over", nothing.kind)
            continue
        except (msgspec.DecodeError, ProtocolError, RecursionError) as error:
            raise ConfigError(path, key, "an OpenTrackIO sample as JSON", str(error)) from None
        sample = _timed(sample, fields, counts[wire_id], assumed, path, key)
        samples.append(checked_sample(sample, path, key))
        counts[wire_id] += 1
    names = _names(statics)
    samples = [msgspec.structs.replace(sample, camera_id=names[sample.camera_id]) for sample in samples]
    return made_track(path, "opentrackio", samples, notes=[f"{found[kind]} × {kind}: {text}" for kind, text in told.items()])


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """One line a sample; the static block in the first of each camera, and every two seconds."""
    fields_of = fields_encoder()
    with open(path, "wb") as file:
        for sample in track.samples:
            if sample.captured_at_ns < 0:
                raise ConfigError(path, "time", "from 0 s on: OpenTrackIO has no other", f"{sample.captured_at_ns / 1e9} s")
            fields = fields_of(msgspec.structs.replace(sample, stamped_at_ns=0))
            if sample.captured_at_ns == 0:
                fields["timing"] |= {"mode": "internal", "sampleTimestamp": NO_TIME}
            file.write(msgspec.json.encode(fields) + b"\n")
    return []


def _timed(sample: CameraSample, fields: dict, index: int, assumed: Assumed, path: Path, key: str) -> CameraSample:
    """The sample at the instant that its line, or its place in the file, says."""
    timing = fields.get("timing") if isinstance(fields.get("timing"), dict) else {}
    at_ns = sample.stamped_at_ns
    if not at_ns and timing.get("sampleTimestamp") != NO_TIME:
        rate = assumed.rate or _rate(timing.get("sampleRate"))
        if rate is None:
            raise ConfigError(path, f"{key}: timing", "a sampleTimestamp or a sampleRate, or else --file-rate", timing)
        at_ns = frame_start_ns(index, rate, 0)
    return msgspec.structs.replace(sample, captured_at_ns=at_ns, received_at_ns=at_ns, stamped_at_ns=0)


def _rate(given: object) -> Fraction | None:
    numerator, denominator = (given.get("num"), given.get("denom")) if isinstance(given, dict) else (None, None)
    if type(numerator) is int and type(denominator) is int and 0 < denominator and 0 < numerator <= 1000 * denominator:
        return Fraction(numerator, denominator)
    return None


def _names(statics: dict[str, Static]) -> dict[str, str]:
    labels = Counter(static.label for static in statics.values())
    names = {}
    for wire_id, static in statics.items():
        is_name = 0 < len(static.label) <= LONGEST_NAME and static.label.isprintable()
        names[wire_id] = static.label if is_name and labels[static.label] == 1 else wire_id
    return names
