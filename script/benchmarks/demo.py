"""The two commands on a fresh machine: a clone without .venv, script/demo, then script/test. What the demo says is checked."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from measure import ROOT, Row

CLONE = ROOT / "out" / "fresh-clone"
SUMMARY_KEYS = {
    "renderer", "tiles", "led_px", "frames", "frames_late", "fps", "poses_received", "tiles_received", "crc_errors",
    "pose_to_send_ms", "lens_check_db",
}  # fmt: skip
FILES = ("summary.json", "contact-sheet.png", "through-the-lens.mp4")


def clone() -> Path:
    """HEAD, as a newcomer gets it: no .venv, nothing built."""
    shutil.rmtree(CLONE, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth", "1", f"file://{ROOT}", CLONE], check=True)
    return CLONE


def run(command: Path, log: str) -> tuple[int, float]:
    """Exit status and seconds. What it printed is in out/figures/LOG."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment["PATH"] = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not p.startswith(str(ROOT)))
    path = ROOT / "out" / "figures" / log
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with path.open("wb") as output:
        status = subprocess.run([command], cwd=command.parents[1], env=environment, stdout=output, stderr=output).returncode
    return status, time.perf_counter() - started


def fresh_demo() -> Iterable[Row]:
    """a fresh clone without .venv: script/demo alone, and what it wrote"""
    folder = clone()
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and ".git" not in p.relative_to(folder).parts)
    yield Row("checkout", size / 1e6, "MB", ("≤", 60))
    status, seconds = run(folder / "script" / "demo", "fresh-demo.log")
    yield Row("script/demo in a fresh clone, exit status", status, "", ("=", 0))
    yield Row("it took, with its set-up", seconds, "s")
    out = folder / "out" / "demo"
    yield Row("files it should have written and did not", sum(not (out / name).is_file() for name in FILES), "", ("=", 0))
    summary = json.loads((out / "summary.json").read_text())
    yield Row("keys missing in summary.json", len(SUMMARY_KEYS - summary.keys()), "", ("=", 0))
    yield Row("tiles without a frame", sum(n == 0 for n in summary["frames_of_tile"].values()), "", ("=", 0))
    yield Row("crc errors", summary["crc_errors"], "", ("=", 0))
    yield Row("lens check, median over the run", summary["lens_check_db"], "dB", ("≥", 34))
    yield Row("lens check of a wall drawn without tracking", summary["lens_check_without_tracking_db"], "dB")
    yield Row("frames per second, asked for", float(summary["rate"]), "")
    yield Row("frames per second", summary["fps"], "")
    yield Row("frames late", summary["frames_late"], f"of {summary['frames']}")
    yield Row("pose to send, median", summary["pose_to_send_ms"]["p50"], "ms")
    yield Row("pose to send, p99", summary["pose_to_send_ms"]["p99"], "ms")


def fresh_tests() -> Iterable[Row]:
    """a fresh clone without .venv: script/test alone"""
    status, seconds = run(clone() / "script" / "test", "fresh-test.log")
    yield Row("script/test in a fresh clone, exit status", status, "", ("=", 0))
    yield Row("script/test took, with its set-up", seconds / 60, "min", ("≤", 40))
    shutil.rmtree(CLONE, ignore_errors=True)


MEASUREMENTS = (fresh_demo, fresh_tests)
