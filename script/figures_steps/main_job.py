"""Figures of step 1, the main job: poses in, a real place rendered for every LED pixel, frames out."""

from collections.abc import Iterable

import numpy as np

from benchmarks import nerfstudio_speed
from measure import ROOT, Row

FIXTURE = ROOT / "tests" / "data" / "nerfacto_good"


def hostile_datagrams() -> Iterable[Row]:
    """10⁵ random and mutated OSC and ZMQ datagrams: what leaves the decoders, and whether the camera moves"""
    from benchmarks.fuzz_protocols import fuzz

    yield from ()
    raise NotImplementedError(fuzz)


def agreement_with_nerfstudio() -> Iterable[Row]:
    """our exact field, sampled where nerfstudio samples, against nerfstudio's own renders of a real checkpoint"""
    from ledvolume.scenes import nerfstudio

    yield from ()
    raise NotImplementedError(nerfstudio, np)


MEASUREMENTS = (hostile_datagrams, agreement_with_nerfstudio, *nerfstudio_speed.MEASUREMENTS)
