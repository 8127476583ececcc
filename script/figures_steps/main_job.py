"""Figures of step 1, the main job: poses in, a real place rendered for every LED pixel, frames out."""

from collections.abc import Iterable

import numpy as np

from benchmarks import nerfstudio_speed
from benchmarks.fuzz_protocols import fuzz
from measure import ROOT, Row

FIXTURE = ROOT / "tests" / "data" / "nerfacto_good"


def hostile_datagrams() -> Iterable[Row]:
    """10⁵ random and mutated OSC and ZMQ datagrams between the true poses of a still camera"""
    found = fuzz(100_000, seed=1)
    if found["first_exception"]:
        print(f"        first exception: {found['first_exception']}")
    yield Row("hostile datagrams", found["datagrams"], "", ("≥", 100_000))
    yield Row("exceptions that left a decoder", found["exceptions"], "", ("=", 0))
    yield Row("hostile datagrams not counted", found["not_counted"], "", ("=", 0))
    yield Row("times the camera moved on a refused datagram", found["refused_but_moved"], "", ("=", 0))
    # Neither wire has a checksum: a flipped bit can make another valid pose, which moves as a camera may.
    yield Row("times one passed as the camera's own movement", found["moved"])
    yield Row("farthest it then stood from the truth", 1000 * found["farthest_m"], "mm", ("≤", 1000 * found["bound_m"]))


def agreement_with_nerfstudio() -> Iterable[Row]:
    """our exact field, sampled where nerfstudio samples, against nerfstudio's own renders of a real checkpoint"""
    from ledvolume.scenes import nerfstudio

    yield from ()
    raise NotImplementedError(nerfstudio, np)


MEASUREMENTS = (hostile_datagrams, agreement_with_nerfstudio, *nerfstudio_speed.MEASUREMENTS)
