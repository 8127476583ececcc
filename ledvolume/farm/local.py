"""Workers that are processes of this machine, each at the other end of a pair of sockets (worker.py)."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Pipe, wait

import msgspec

from ledvolume.farm.crew import Death, Failure, Order, encoded, heard_in
from ledvolume.frame import FrameRequest
from ledvolume.offline import Rendered

PATIENCE_S = 2.0  # for the frames under way, once we stop


class LocalCrew:
    """`size` processes that share the cores of this machine."""

    def __init__(self, order: Order, size: int):
        self.size = size
        self._order = msgspec.msgpack.encode(order)
        self._environment = os.environ | worker_environment(size)
        self._workers: dict[int, tuple[subprocess.Popen, Connection]] = {}

    @property
    def process_ids(self) -> dict[int, int]:
        """Of the workers that are there, by their number."""
        return {number: process.pid for number, (process, _) in self._workers.items()}

    def give(self, worker: int, requests: list[FrameRequest]) -> None:
        if worker not in self._workers:
            self._workers[worker] = self._started()
        _, connection = self._workers[worker]
        try:
            connection.send_bytes(encoded(requests))
        except OSError:  # it has died meanwhile: `heard` says so
            pass

    def heard(self) -> list[tuple[int, Rendered | Failure | Death]]:
        number_of = {connection: number for number, (_, connection) in self._workers.items()}
        news = []
        for connection in wait(list(number_of)):
            number = number_of[connection]
            try:
                news.append((number, heard_in(connection.recv_bytes())))
            except (EOFError, OSError):
                news.append((number, Death(self._buried(number))))
        return news

    def close(self) -> None:
        """Frames under way may end; who takes too long is killed. Files appear whole or not at all, so nothing is broken."""
        for _, connection in self._workers.values():
            connection.close()
        end_s = time.monotonic() + PATIENCE_S
        for process, _ in self._workers.values():
            try:
                process.wait(max(end_s - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._workers.clear()

    def _started(self) -> tuple[subprocess.Popen, Connection]:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "ledvolume.farm.worker", str(theirs.fileno())]
        # a group of its own: Ctrl+C is for us, and we end the workers
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=self._environment, stdin=subprocess.DEVNULL, process_group=0
        )
        theirs.close()
        try:
            ours.send_bytes(self._order)
        except OSError:  # as in `give`
            pass
        return process, ours

    def _buried(self, number: int) -> str:
        process, connection = self._workers.pop(number)
        connection.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        return in_words(process.wait())


def worker_environment(workers: int) -> dict[str, str]:
    """Beside our own: modules are found where we find them, and threads are divided."""
    return thread_shares(workers) | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def thread_shares(workers: int, environment: dict[str, str] = os.environ) -> dict[str, str]:
    """Mesa's and OpenMP's threads for each of several workers: together as many as there are cores, or fewer if fewer are
    asked for. Left alone, each would start one for every core. One worker is left alone."""
    if workers == 1:
        return {}
    share = max(1, len(os.sched_getaffinity(0)) // workers)
    asked = {name: environment.get(name, "") for name in ("LP_NUM_THREADS", "OMP_NUM_THREADS")}
    return {name: str(min(share, int(text)) if text.isdecimal() else share) for name, text in asked.items()}


def in_words(exit_status: int) -> str:
    """How a process ended, from Popen.returncode."""
    if exit_status >= 0:
        return f"it ended with exit status {exit_status}"
    name = signal.Signals(-exit_status).name
    return f"killed by {name}" + (": was there enough memory?" if name == "SIGKILL" else "")
