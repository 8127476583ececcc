"""What a worker does, wherever it is: made by an order, it answers frame after frame. And a worker that is a process of
this machine: `python -m ledvolume.farm.worker FD`, where FD is its end of a pair of sockets. It goes when the other end is
closed, so none outlives who started it.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import msgspec

from ledvolume.errors import LedvolumeError
from ledvolume.farm.crew import Answer, Failure, Order, Worker
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered


class AtWork:
    """Makes the worker when the first frames come, then answers. Nothing that it is asked for raises."""

    def __init__(self, order: Order):
        self._order = order
        self._worker: Worker | None = None

    def answers(self, requests: bytes) -> Iterator[bytes]:
        """An answer for each frame, as soon as it is done; after a failure no more."""
        for request in msgspec.msgpack.decode(requests, type=list[FrameRequest]):
            answer = _answer(lambda request=request: self._made().render(request), request.index)
            yield msgspec.msgpack.encode(answer)
            if answer.failure is not None:
                return

    def _made(self) -> Worker:
        if self._worker is None:
            spec = msgspec.msgpack.decode(self._order.spec, type=_named(self._order.spec_type))
            self._worker = _named(self._order.worker)(spec)
        return self._worker


def _answer(work: Callable[[], Rendered], index: int) -> Answer:
    try:
        return Answer(rendered=work())
    except LedvolumeError as error:
        return Answer(failure=Failure(type(error).__name__, str(error)))
    except Exception as error:  # one of ours: the traceback is for us, the words are for the operator
        traceback.print_exc(file=sys.stderr)
        words = f"frame {index}: {type(error).__name__}: {error}; this should not happen, its traceback is above"
        return Answer(failure=Failure("", words))


def _named(name: str) -> type:
    module, _, kind = name.partition(":")
    return getattr(importlib.import_module(module), kind)


def main(descriptor: int) -> None:
    """An order, then frames, until the other end is closed."""
    connection = Connection(descriptor)
    try:
        at_work = AtWork(msgspec.msgpack.decode(connection.recv_bytes(), type=Order))
        while True:
            for answer in at_work.answers(connection.recv_bytes()):
                connection.send_bytes(answer)
    except (EOFError, OSError):  # who started us wants no more, or is no more
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
