"""A `ledvolume listen --json` process, what is sent to it over loopback, and what it says of that."""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable

from ledvolume.sources import open_sender
from measure import ROOT

PATIENCE_S = 20.0
OF_A_DATAGRAM = {"camera_id", "reject", "ignored"}  # one of these is in a line that speaks of one
LINE_S = 5.0  # a datagram on loopback and its line take milliseconds; a busy machine takes longer


class Listener:
    """`ledvolume listen URI --json` on a free port of loopback. protocol: as in "freed+udp"; more: further arguments.

    Heard are samples, refusals and what is ignored; what it says of the sender's habits and of silence is not.
    """

    def __init__(self, protocol: str, *more: str):
        self.port = free_udp_port()
        self.uri = f"{protocol}://127.0.0.1:{self.port}"
        environment = dict(os.environ, PYTHONUNBUFFERED="1")
        command = [sys.executable, "-m", "ledvolume", "listen", self.uri, "--json", *more]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[dict] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        wait_until_bound(self.port, self._process)
        self._sender = open_sender(self.uri)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_) -> None:
        self._sender.close()
        self._process.terminate()
        self._process.wait(PATIENCE_S)

    def answers(self, payloads: Iterable[bytes], lines: int = 1) -> list[dict]:
        """Send these datagrams; the next `lines` things that it says, or as many as come in time."""
        for payload in payloads:
            self._sender.send(payload)
        return self.said(lines)

    def said(self, lines: int) -> list[dict]:
        """The next `lines` things that it says, or as many as come in time."""
        found, deadline_s = [], time.monotonic() + LINE_S
        while len(found) < lines:
            try:
                found.append(self._lines.get(timeout=max(deadline_s - time.monotonic(), 0.001)))
            except queue.Empty:
                break
        return found

    def more_said(self) -> int:
        """How many lines nobody has asked for; waits a moment for them."""
        time.sleep(0.2)
        return self._lines.qsize()

    def _read(self) -> None:
        for line in self._process.stdout:
            said = json.loads(line)
            if OF_A_DATAGRAM & said.keys():
                self._lines.put(said)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_bound(port: int, process: subprocess.Popen, host: str = "127.0.0.1") -> None:
    """Until the process has opened its UDP port. Raises RuntimeError where it does not."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{' '.join(process.args)}: did not open its port, exit status {process.poll()}")
