"""What a crew of workers is to those who hand out frames, and what is said between them. Local processes (local.py) and
Ray's actors (cluster.py) say the same: bytes of msgpack, of types that are named here. No object of Python ever travels.
"""

from typing import Protocol

import msgspec

from ledvolume.errors import CheckpointError, LedvolumeError, OutputError, RenderError, SceneError
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered

_SIMPLE_ERRORS = {error.__name__: error for error in (CheckpointError, SceneError, RenderError, OutputError)}


class Worker(Protocol):
    """What renders in a worker: made once with a spec (a struct) that says everything, then asked for frame after frame."""

    def render(self, request: FrameRequest) -> Rendered: ...

    def close(self) -> None: ...


class Order(msgspec.Struct, frozen=True):
    """How a worker is made: importable names (module:name) of its class and of its spec's type, and the spec as msgpack."""

    worker: str
    spec_type: str
    spec: bytes


class Failure(msgspec.Struct, frozen=True):
    """The worker lives, but could not do a frame. kind: the name of the error's class."""

    kind: str
    words: str


class Death(msgspec.Struct, frozen=True):
    """The worker is no more."""

    how: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker says, once for every frame: one of the two."""

    rendered: Rendered | None = None
    failure: Failure | None = None


class Crew(Protocol):
    """Workers of one kind, by number from 0 to size - 1. One that is not there is started when it is given frames."""

    size: int

    def give(self, worker: int, requests: list[FrameRequest]) -> None:
        """Frames for a worker that has none."""

    def heard(self) -> list[tuple[int, Rendered | Failure | Death]]:
        """Wait until a worker that has frames says something. A worker answers its frames in their order."""

    def close(self) -> None:
        """Let all go, whatever they are doing."""


def order_for(worker_class: type, spec: msgspec.Struct) -> Order:
    """The order that makes `worker_class(spec)` in another process."""
    return Order(_name_of(worker_class), _name_of(type(spec)), msgspec.msgpack.encode(spec))


def encoded(requests: list[FrameRequest]) -> bytes:
    """Frames for `answers`."""
    return msgspec.msgpack.encode(requests)


def heard_in(answer: bytes) -> Rendered | Failure:
    """The one thing that an answer says."""
    said = msgspec.msgpack.decode(answer, type=Answer)
    return said.rendered if said.failure is None else said.failure


def error_of(failure: Failure) -> LedvolumeError:
    """The worker's error, to be raised here."""
    return _SIMPLE_ERRORS.get(failure.kind, LedvolumeError)(failure.words)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
