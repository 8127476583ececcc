"""MCAP as a track (recording.py has the file): its samples, or else its datagrams, decoded by the decoder and the reading
with which they were received. What is refused is counted, as it was live; a file that was cut off is read as far as it goes.
"""

from pathlib import Path

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.errors import ConfigError
from ledvolume.protocols import Decoder, open_decoder
from ledvolume.recording import DATAGRAMS, SAMPLES, Channel, Message, TakeReader, TakeWriter, sample_of, source_of
from ledvolume.sources import Datagram
from ledvolume.tracks.track import Assumed, Progress, Track, checked_sample, made_track, no_progress

PROGRESS_EVERY = 4096


def read(path: Path, assumed: Assumed, progress: Progress = no_progress) -> Track:
    """The track of a take. Raises ConfigError where the take has none."""
    reader = TakeReader(path)
    samples: list[CameraSample] = []
    decoded: list[CameraSample] = []
    decoders: dict[str, tuple[str, Decoder]] = {}
    came_from: dict[str, dict[str, None]] = {}
    bad_samples, others = 0, set()
    for number, record in enumerate(reader.records()):
        if number % PROGRESS_EVERY == 0:
            progress(reader.read_bytes / reader.size_bytes)
        if not isinstance(record, Message):
            continue
        if record.channel.topic.startswith(SAMPLES):
            try:
                samples.append(checked_sample(sample_of(record), path, record.channel.topic))
            except (msgspec.DecodeError, ConfigError):
                bad_samples += 1
        elif record.channel.topic.startswith(DATAGRAMS):
            key = record.channel.topic
            if key not in decoders:
                decoders[key] = _opened(record.channel, path, assumed)
            uri, decoder = decoders[key]
            for sample in decoder.decode(Datagram(uri, record.data, record.log_time_ns)):
                decoded.append(sample)
                came_from.setdefault(sample.camera_id, {})[uri] = None
        else:
            others.add(record.channel.topic)
    notes = [*_said_of_the_end(reader), *(_said_of(uri, decoder) for uri, decoder in decoders.values())]
    for camera_id, uris in came_from.items():
        if len(uris) > 1:
            notes.append(f"camera {camera_id} came from {', '.join(uris)}: their samples are mixed")
    if bad_samples:
        notes.append(f"{bad_samples} samples that no camera can have were passed over")
    if others:
        notes.append(f"not a part of the track: {', '.join(sorted(others))}")
    return made_track(path, "mcap", samples or decoded, notes=filter(None, notes))


def write(track: Track, path: Path, assumed: Assumed) -> list[str]:
    """Samples, complete."""
    writer = TakeWriter(path)
    try:
        for number, sample in enumerate(track.samples):
            writer.sample(sample)
            if number % PROGRESS_EVERY == 0:
                writer.flush()
    finally:
        writer.close()
    return []


def _opened(channel: Channel, path: Path, assumed: Assumed) -> tuple[str, Decoder]:
    source = source_of(channel, path)
    reading = msgspec.structs.asdict(source.reading)
    reading["sensor_mm"] = reading["sensor_mm"] or assumed.sensor_mm
    return source.uri, open_decoder(source.protocol, **reading)


def _said_of_the_end(reader: TakeReader) -> list[str]:
    if reader.is_complete:
        return []
    lost = f"{reader.lost_bytes} bytes at its end are lost, all before them is read" if reader.lost_bytes else "nothing is lost"
    return [f"{reader.trouble}: {lost}"]


def _said_of(uri: str, decoder: Decoder) -> str:
    counts = [f"{count} {reason}" for reason, count in decoder.rejects.most_common()]
    counts += [f"{count} ignored ({kind})" for kind, count in decoder.ignored.most_common(5)]
    return f"{uri}: {', '.join(counts)}" if counts else ""
