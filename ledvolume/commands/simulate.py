"""Send a camera move as a real tracker would: any track or built-in move, over any protocol, stamped on the house clock.

  ledvolume simulate builtin:handheld --to osc+udp://127.0.0.1:9000
  ledvolume simulate "builtin:dolly?amount=1&period=6" --to native+zmq://127.0.0.1:5550 --rate 120
  ledvolume simulate take3.mcap --to freed+udp://127.0.0.1:40000 --profile z-cam --rate track
  ledvolume simulate take3.mcap --raw --to osc+udp://127.0.0.1:9000

TRACK is a file of any format of `ledvolume convert`, or a built-in move (ledvolume/moves.py). Its lens values and timecodes
are sent with its poses, of all its cameras or of --camera. It is resampled to --rate on an exact clock; --rate track sends
each sample at its own instant. --raw sends the datagrams of a take again, byte for byte, as they came.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from typing import NamedTuple

import msgspec

from ledvolume.camera import CameraSample
from ledvolume.clock import LONGEST_SLEEP_NS, SECOND_NS, FrameClock, frame_rate
from ledvolume.commands.quantities import positive
from ledvolume.commands.reading import FILE, reading_arguments, reading_of
from ledvolume.commands.track_files import assumed_of, open_track, track_arguments
from ledvolume.errors import ConfigError
from ledvolume.moves import open_move
from ledvolume.protocols import Encoder, open_encoder
from ledvolume.recording import DATAGRAMS, Message, TakeReader, source_of
from ledvolume.sources import address, open_sender
from ledvolume.tracks import Track
from ledvolume.tracks.resample import playing

Send = Callable[[bytes], None]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("track", metavar="TRACK", help="a track file, or builtin:handheld, builtin:dolly, builtin:still")
    parser.add_argument("--to", required=True, metavar="URI", help="PROTOCOL+udp://HOST:PORT or native+zmq://HOST:PORT")
    parser.add_argument("--rate", default="60", metavar="HZ", help="samples per second (default 60), or track: its own instants")
    parser.add_argument("--seconds", type=positive, metavar="N", help="stop after this time (default: at the track's end)")
    parser.add_argument("--loop", action="store_true", help="start the track again at its end")
    parser.add_argument("--focal-mm", type=positive, metavar="MM", help="focal length to send (default: the track's)")
    parser.add_argument("--raw", action="store_true", help="send the datagrams of a take as they are")
    parser.add_argument("--source", metavar="URI", help="--raw: only those that came from this address (see `record`)")
    track_arguments(parser)
    reading_arguments(parser, is_sender=True)


def run(args: argparse.Namespace) -> int:
    where = address(args.to)
    if args.raw:
        return _run_raw(args, where.protocol)
    rate = None if args.rate == "track" else frame_rate(args.rate, "--rate")
    encode = open_encoder(where.protocol, **msgspec.structs.asdict(reading_of(args, where.protocol)))
    if args.track.startswith("builtin:"):
        scene = _of_move(args.track, args.camera or "camera")
        if rate is None:
            raise ConfigError(FILE, "--rate", "a rate: a built-in move has no instants of its own", "track")
    else:
        track = open_track(args.track, args, assumed_of(args))
        for note in track.notes:
            print(note, file=sys.stderr)
        scene = _of_track(track)
    if args.focal_mm:
        scene = _with_focal(scene, args.focal_mm)
    seconds = math.inf if args.loop else scene.duration_ns / SECOND_NS
    seconds = seconds if args.seconds is None else min(seconds, args.seconds)
    sender = open_sender(args.to)
    try:
        sent, skipped = send(scene, sender.send, encode, rate, seconds, args.loop)
    finally:
        sender.close()
    print(f"sent {sent} poses to {args.to}" + (f", {skipped} skipped: this machine was busy" if skipped else ""))
    return 0


class Scene(NamedTuple):
    """What is sent: samples_at(ns since the begin), and instants of its own, each with its sample. duration_ns may be inf."""

    samples_at: Callable[[int], list[CameraSample]]
    own: tuple[CameraSample, ...]
    duration_ns: float


def send(scene: Scene, send_payload: Send, encode: Encoder, rate: Fraction | None, seconds: float, is_looped: bool) -> tuple:
    """Send at exactly `rate`, or at the track's own instants if None. A frame that was missed is skipped, as its poses would
    be late; a track's own sample is sent late instead. Returns (sent, skipped)."""
    start_ns = time.time_ns()
    sent, clock = 0, FrameClock(rate or Fraction(1), start_ns, lead_ns=0)
    try:
        for at_ns, samples in _frames(scene, clock, is_looped) if rate else _own_instants(scene, start_ns, is_looped):
            if at_ns - start_ns > seconds * SECOND_NS:
                break
            for sample in samples:
                stamped = msgspec.structs.replace(sample, captured_at_ns=at_ns, received_at_ns=at_ns, stamped_at_ns=0)
                for payload in encode(stamped):
                    send_payload(payload)
                sent += 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return sent, clock.skipped


def _frames(scene: Scene, clock: FrameClock, is_looped: bool) -> Iterator[tuple[int, list[CameraSample]]]:
    while True:
        tick = clock.next_tick()
        since_ns = tick.present_at_ns - clock.epoch_ns
        if is_looped and scene.duration_ns < math.inf:
            since_ns = since_ns % scene.duration_ns if scene.duration_ns else 0
        yield tick.present_at_ns, scene.samples_at(since_ns)


def _own_instants(scene: Scene, start_ns: int, is_looped: bool) -> Iterator[tuple[int, list[CameraSample]]]:
    first_ns = scene.own[0].captured_at_ns
    # the second round begins a mean step after the end of the first
    period_ns = scene.duration_ns + max(scene.duration_ns // max(len(scene.own) - 1, 1), 1)
    for lap in count() if is_looped else range(1):
        for sample in scene.own:
            at_ns = start_ns + lap * period_ns + sample.captured_at_ns - first_ns
            _sleep_until(at_ns)
            yield at_ns, [sample]


def _of_move(track: str, camera_id: str) -> Scene:
    move = open_move(track)
    still = CameraSample(camera_id, 0, 0, move.pose_at(0.0), status="simulated")

    def samples_at(since_ns: int) -> list[CameraSample]:
        return [msgspec.structs.replace(still, world_from_tracker=move.pose_at(since_ns / SECOND_NS))]

    return Scene(samples_at, (), math.inf)


def _of_track(track: Track) -> Scene:
    cameras, first_ns = playing(track).values(), track.samples[0].captured_at_ns

    def samples_at(since_ns: int) -> list[CameraSample]:
        at_ns = first_ns + since_ns
        return [camera.at(at_ns) for camera in cameras if camera.begins_at_ns <= at_ns <= camera.ends_at_ns]

    return Scene(samples_at, track.samples, track.duration_ns)


def _with_focal(scene: Scene, focal_mm: float) -> Scene:
    def changed(sample: CameraSample) -> CameraSample:
        return msgspec.structs.replace(sample, lens=msgspec.structs.replace(sample.lens, focal_length_mm=focal_mm))

    return scene._replace(
        samples_at=lambda since_ns: [changed(sample) for sample in scene.samples_at(since_ns)],
        own=tuple(map(changed, scene.own)),
    )


def _run_raw(args: argparse.Namespace, protocol: str) -> int:
    if args.rate != "60" or args.camera or args.focal_mm:
        raise ConfigError(FILE, "--raw", "no --rate, --camera or --focal-mm: datagrams are sent as they are", "one of them")
    reader = TakeReader(args.track)
    sender = open_sender(args.to)
    seconds = math.inf if args.seconds is None else args.seconds
    sent = sent_bytes = 0
    try:
        for at_ns, payload in _raw_instants(reader, protocol, args.source, args.loop, seconds):
            _sleep_until(at_ns)
            sender.send(payload)
            sent, sent_bytes = sent + 1, sent_bytes + len(payload)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        sender.close()
    if not args.seconds and not reader.is_complete and reader.trouble:
        print(f"{args.track}: {reader.trouble}: {reader.lost_bytes} bytes lost", file=sys.stderr)
    if not sent:
        found = f"only from {args.source}" if args.source else "none in the take"
        raise ConfigError(args.track, "datagrams", f"some of {protocol}", found)
    print(f"sent {sent} datagrams, {sent_bytes} bytes to {args.to}")
    return 0


def _raw_instants(
    reader: TakeReader, protocol: str, uri: str | None, is_looped: bool, seconds: float
) -> Iterator[tuple[int, bytes]]:
    """(when to send, payload) in the order of the file, which is that of their arrival."""
    start_ns = time.time_ns()
    last_ns = start_ns
    for _ in count() if is_looped else range(1):
        first_ns, begin_ns, sent = None, last_ns, 0
        for message in _datagrams(reader, protocol, uri):
            first_ns = message.log_time_ns if first_ns is None else first_ns
            at_ns = begin_ns + message.log_time_ns - first_ns
            if at_ns - start_ns > seconds * SECOND_NS:
                return
            last_ns, sent = max(last_ns, at_ns), sent + 1
            yield at_ns, message.data
        if not sent:
            return
        last_ns += max((last_ns - begin_ns) // max(sent - 1, 1), SECOND_NS // 1000)


def _datagrams(reader: TakeReader, protocol: str, uri: str | None) -> Iterator[Message]:
    wanted: dict[str, bool] = {}
    for record in reader.records():
        if not (isinstance(record, Message) and record.channel.topic.startswith(DATAGRAMS)):
            continue
        topic = record.channel.topic
        if topic not in wanted:
            source = source_of(record.channel, reader.path)
            wanted[topic] = source.protocol == protocol and uri in (None, source.uri)
        if wanted[topic]:
            yield record


def _sleep_until(instant_ns: int) -> None:
    while (remaining_ns := instant_ns - time.time_ns()) > 0:
        time.sleep(min(remaining_ns, LONGEST_SLEEP_NS) / SECOND_NS)
