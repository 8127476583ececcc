"""Send a camera move as a real tracker would: datagrams at a steady rate, stamped on the house clock.

TRACK is a file (CSV or TUM, see ledvolume/moves.py) or a built-in move, for example
  ledvolume simulate builtin:handheld --to osc+udp://127.0.0.1:9000
  ledvolume simulate "builtin:dolly?amount=1&period=6" --to native+zmq://127.0.0.1:5550 --rate 120
"""

import argparse
import math
import sys
import time
from fractions import Fraction

from ledvolume.camera import CameraSample, LensReading
from ledvolume.clock import SECOND_NS, FrameClock, frame_rate
from ledvolume.commands.quantities import positive
from ledvolume.moves import Move, open_move
from ledvolume.protocols import open_encoder, osc_map
from ledvolume.sources import address, open_sender


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("track", metavar="TRACK", help="a track file, or builtin:handheld, builtin:dolly, builtin:still")
    parser.add_argument("--to", required=True, metavar="URI", help="osc+udp://HOST:PORT or native+zmq://HOST:PORT")
    parser.add_argument("--rate", default="60", metavar="HZ", help="datagrams per second (default 60)")
    parser.add_argument("--seconds", type=positive, metavar="N", help="stop after this time (default: at the track's end)")
    parser.add_argument("--loop", action="store_true", help="start the track again at its end")
    parser.add_argument("--camera", default="camera", metavar="ID", help='camera id to send (default "camera")')
    parser.add_argument("--focal-mm", type=positive, metavar="MM", help="focal length to send (default: none)")
    parser.add_argument("--preset", default="ledvolume", metavar="NAME", help=f"OSC: {', '.join(osc_map.PRESETS)}")


def run(args: argparse.Namespace) -> int:
    move, rate = open_move(args.track), frame_rate(args.rate, "--rate")
    where = address(args.to)
    encode = open_encoder(where.protocol, args.preset if where.protocol == "osc" else None)
    lens = LensReading(focal_length_mm=args.focal_mm)
    seconds = math.inf if args.loop else move.duration_s
    seconds = seconds if args.seconds is None else min(seconds, args.seconds)
    sender = open_sender(args.to)
    try:
        sent, skipped = send(move, sender.send, encode, rate, seconds, args.camera, lens)
    finally:
        sender.close()
    print(f"sent {sent} poses to {args.to}" + (f", {skipped} skipped: this machine was busy" if skipped else ""))
    return 0


def send(move: Move, send_payload, encode, rate: Fraction, seconds: float, camera_id: str, lens: LensReading) -> tuple:
    """Send at exactly `rate`; a moment that was missed is skipped, as its pose would be late. (sent, skipped)"""
    start_ns = time.time_ns()
    clock = FrameClock(rate, start_ns, lead_ns=0)
    sent = 0
    try:
        while True:
            tick = clock.next_tick()
            t = (tick.present_at_ns - start_ns) / SECOND_NS
            if t > seconds:
                break
            looped_t = t % move.duration_s if 0 < move.duration_s < math.inf else t
            stamp_ns = tick.present_at_ns
            for payload in encode(CameraSample(camera_id, stamp_ns, stamp_ns, move.pose_at(looped_t), lens, "simulated")):
                send_payload(payload)
            sent += 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return sent, clock.skipped
