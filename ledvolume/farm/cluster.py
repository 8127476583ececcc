"""Workers that are actors of a Ray cluster (docs.ray.io; the extra `cluster`): of one that runs, by its address, or of one
that is started on this machine for the job. Every machine of it has ledvolume installed, and the show and the output folder
under the same paths.

The local one listens on the loopback address only, without a dashboard, and tells nobody of itself.
"""

import logging
import os
import socket

import msgspec

from ledvolume.errors import ConfigError, RenderError
from ledvolume.farm.crew import Death, Failure, Order, encoded, heard_in
from ledvolume.farm.local import worker_environment
from ledvolume.farm.worker import AtWork
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered

# On Linux, too, Ray's name for "one machine only": it then takes 127.0.0.1 for its address, and its servers listen there
# and nowhere else. (`_node_ip_address="127.0.0.1"` does not: Ray takes that for any address of this machine.)
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
MOST_WORDS = 200
PATIENCE_S = 5.0


class RayCrew:
    """`size` actors, each with a processor core, and with a GPU where the cluster has any; 0: as many as it has of these."""

    def __init__(self, order: Order, size: int, address: str):
        self._ray = _connected(address, size)
        self._order = msgspec.msgpack.encode(order)
        cores, gpus = (int(self._ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU"))
        self.size = size or gpus or cores
        self._actor = self._ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=0)(_Actor)
        self._actors: dict[int, object] = {}
        self._answers: dict[int, object] = {}

    def give(self, worker: int, requests: list[FrameRequest]) -> None:
        if worker not in self._actors:
            self._actors[worker] = self._actor.remote(self._order)
        answers = self._actors[worker].answers.options(num_returns="streaming")
        self._answers[worker] = answers.remote(encoded(requests))

    def heard(self) -> list[tuple[int, Rendered | Failure | Death]]:
        number_of = {answers: number for number, answers in self._answers.items()}
        ready, _ = self._ray.wait(list(number_of), num_returns=1)
        return [(number_of[answers], news) for answers in ready for news in self._next(number_of[answers])]

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()

    def _next(self, number: int) -> list[Rendered | Failure | Death]:
        try:
            return [heard_in(self._ray.get(next(self._answers[number])))]
        except StopIteration:  # all of its frames are answered
            del self._answers[number]
            return []
        except self._ray.exceptions.RayError as error:
            del self._actors[number], self._answers[number]
            return [Death(f"gone by Ray's account: {' '.join(str(error).split())[:MOST_WORDS]}")]


class _Actor:
    """A worker in Ray's process; bytes in, bytes out."""

    def __init__(self, order: bytes):
        self._at_work = AtWork(msgspec.msgpack.decode(order, type=Order))

    def answers(self, requests: bytes):
        yield from self._at_work.answers(requests)


def _connected(address: str, size: int):
    """The module `ray`, connected. Raises ConfigError where Ray is not installed, RenderError where there is no cluster."""
    host, _, port = address.rpartition(":")
    if address != "local" and not (host and port.isdecimal() and int(port) < 65536):
        raise ConfigError("command line", "--ray", '"local", or host:port of a cluster\'s head', address)
    # Ray reads these when it is imported
    os.environ |= QUIET | (LOOPBACK_ONLY if address == "local" or host in ("127.0.0.1", "localhost") else {})
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ConfigError("--ray", "Ray", "the extra `cluster`: pip install 'ledvolume[cluster]'", "no module `ray`") from None
    try:
        if address == "local":
            size = size or len(os.sched_getaffinity(0))
            ray.init(
                address="local", num_cpus=size, include_dashboard=False,
                runtime_env={"env_vars": worker_environment(size)}, log_to_driver=False, logging_level=logging.ERROR,
            )  # fmt: skip
        else:
            socket.create_connection((host, int(port)), PATIENCE_S).close()  # Ray itself would try for minutes
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        said = " ".join(str(error).split())[:MOST_WORDS]
        raise RenderError(f"--ray {address}: no Ray cluster there, or one with another token (RAY_AUTH_TOKEN): {said}") from error
    return ray
