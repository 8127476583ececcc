"""A million mutated datagrams for each wire: nothing raises, each is counted, memory stays where it was.

    python -m benchmarks.million WIRE N      one wire alone, as JSON

As in the server: the garbage collector is off, so that a cycle that a refusal leaves behind would be seen. The datagrams are
those of fuzz_protocols.py, which also judges what they do to a camera; here a thousandth are true ones, which must be read.
"""

import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import psutil

from benchmarks.fuzz_protocols import HOSTILE, SENSOR_MM, START_NS, STILL, WIRES, fuzz
from ledvolume.camera import CameraSample, LensReading
from ledvolume.protocols import open_decoder
from ledvolume.sources import Datagram
from measure import Row

DATAGRAMS = 1_000_000
TRUE_EVERY = 1000
EVERY_NS = 1_000_000
WARM_UP = 0.1  # of the datagrams: by then every bounded memory of the decoders is full
AT_A_TIME = 2


def million() -> Iterable[Row]:
    """10⁶ mutated datagrams for each of seven wires, two processes at a time, with the collector off"""
    with ThreadPoolExecutor(AT_A_TIME) as workers:
        results = list(workers.map(in_a_process, WIRES))
    for name, found in zip(WIRES, results):
        if found["first_exception"]:
            print(f"        {name}, first exception: {found['first_exception']}")
        print(f"        {name}: {found['seconds']:.0f} s; accepted {found['accepted']}, refused {found['rejects']}")
        yield Row(f"{name}: mutated datagrams", found["datagrams"], "", ("≥", DATAGRAMS))
        yield Row(f"{name}: exceptions that left the decoder", found["exceptions"], "", ("=", 0))
        yield Row(f"{name}: not counted", found["not_counted"], "", ("=", 0))
        yield Row(f"{name}: true ones in between that were not read", found["true_not_read"], f"of {found['true']}", ("=", 0))
        yield Row(f"{name}: memory grew after the first tenth by", found["grew_mb"], "MB", ("≤", 5))


def hostile_cameras() -> Iterable[Row]:
    """10⁵ random and mutated datagrams of all protocols between the true poses of a still camera"""
    found = fuzz(100_000, seed=2)
    if found["first_exception"]:
        print(f"        first exception: {found['first_exception']}")
    yield Row("hostile datagrams into timelines", found["datagrams"], "", ("≥", 100_000))
    yield Row("exceptions that left decoder or timeline", found["exceptions"], "", ("=", 0))
    yield Row("times the camera moved on a refused datagram", found["refused_but_moved"], "", ("=", 0))
    yield Row("farthest that one which passed moved it", 1000 * found["farthest_m"], "mm", ("≤", 1000 * found["bound_m"]))


def in_a_process(name: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.million", name, str(DATAGRAMS)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def decoded(name: str, n: int) -> dict:
    """Counts, and how many MB the process grew by after its warm-up."""
    protocol, encode = WIRES[name]
    r, decoder = random.Random(name), open_decoder(protocol, sensor_mm=SENSOR_MM, cameras={"1": "camera"})
    hostile = HOSTILE[protocol]
    out = dict(datagrams=0, exceptions=0, not_counted=0, true=0, true_not_read=0, first_exception=None)
    process, resident = psutil.Process(), []
    started_s, now_ns, counted = time.perf_counter(), START_NS, 0
    gc.collect()
    gc.disable()
    for index in range(n):
        now_ns += EVERY_NS
        if index % TRUE_EVERY == 0:
            real = encode(CameraSample("camera", now_ns, now_ns, STILL, LensReading(35.0, 3.0), "ok"))
            out["true"] += 1
            out["true_not_read"] += len(decoder.decode(Datagram("fuzz", real, now_ns))) != 1
            counted = decoder.accepted + decoder.rejects.total() + decoder.ignored.total()
            if index >= n * WARM_UP:
                resident.append(process.memory_info().rss)
        payload = r.choice(hostile)(r, real)
        try:
            decoder.decode(Datagram("fuzz", payload, now_ns))
        except Exception as error:
            out["exceptions"] += 1
            out["first_exception"] = out["first_exception"] or f"{error!r} on {payload.hex()}"
        before, counted = counted, decoder.accepted + decoder.rejects.total() + decoder.ignored.total()
        out["not_counted"] += counted == before
        out["datagrams"] += 1
    grew_mb = (max(resident) - resident[0]) / 1e6
    counts = {"accepted": decoder.accepted, "rejects": dict(decoder.rejects)}
    return {**out, **counts, "grew_mb": grew_mb, "seconds": time.perf_counter() - started_s}


MEASUREMENTS = (million, hostile_cameras)

if __name__ == "__main__":
    print(json.dumps(decoded(sys.argv[1], int(sys.argv[2]))))
