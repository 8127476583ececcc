"""`ledvolume …` as a process, as somebody types it: how it ends, what it says."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from measure import ROOT

PATIENCE_S = 600.0


def empty_folder(name: str) -> Path:
    """out/figures/NAME, for what a measurement writes. It stays there, to be looked at, until the next time."""
    folder = ROOT / "out" / "figures" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def started(*words: str | Path, limited: Callable[[], None] | None = None) -> subprocess.Popen:
    """In a process group of its own, as a terminal starts it. limited: is called in the process before it begins."""
    return subprocess.Popen(
        [sys.executable, "-m", "ledvolume", *map(str, words)], cwd=ROOT, env=dict(os.environ, PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0, preexec_fn=limited,
    )  # fmt: skip


def ended(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Waits for it; where that is given up, it is killed: Ctrl+C does not come to its group."""
    try:
        output, said = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, said)


def ran(*words: str | Path, limited: Callable[[], None] | None = None) -> subprocess.CompletedProcess:
    """From its beginning to its end."""
    return ended(started(*words, limited=limited))
