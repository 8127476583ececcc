"""How fast nerfstudio's own renderer draws rays of the shipped place on this machine's CPU.

nerfstudio runs in its own process and environment (.venv-train, made on first use) with the thread count, waiting
and chunk size that suit it best, so that what we compare ourselves with is not held back.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from measure import ROOT, Row

DOOR = ROOT / "configs" / "places" / "lund-door"


def door_rays(columns: int = 96, rows: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Origins and unit directions, (N, 3) float32 in the field's frame: from the middle of the photographers, at the door.

    60° wide, looking along the field's +Y, as the photographs do.
    """
    half = np.tan(np.radians(30))
    x, z = np.meshgrid(np.linspace(-half, half, columns), np.linspace(half, -half, rows) * rows / columns)
    directions = np.stack([x, np.ones_like(x), z], -1).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return np.zeros_like(directions, dtype=np.float32), directions.astype(np.float32)


def stock_render(origins: np.ndarray, directions: np.ndarray, run: Path = DOOR) -> dict:
    """nerfstudio on these rays (N, 3) of the field's frame: {n_rays, best: {rays_per_s, seconds, threads, chunk,
    waiting}, tried: […], rgb (N, 3) float32}. Directions need not be unit."""
    subprocess.run([ROOT / "script" / "bootstrap", "--train"], check=True)
    counts = [n for n in (1, 2, 4, 8, 16) if n <= (os.cpu_count() or 1)]
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "rays.npz", origins=origins, directions=directions)
        # Threads that spin while they wait gain a little on an idle machine and lose a lot on a busy one.
        runs = [stock_process(run, Path(folder), counts, "PASSIVE"), stock_process(run, Path(folder), counts[1:], "ACTIVE")]
        rgb = np.load(Path(folder) / "rgb.npy")
    tried = [t for r in runs for t in r["tried"]]
    return {"n_rays": len(rgb), "best": max(tried, key=lambda t: t["rays_per_s"]), "tried": tried, "rgb": rgb}


def stock_process(run: Path, folder: Path, thread_counts: list[int], waiting: str) -> dict:
    """What nerfstudio_stock.py says of folder/rays.npz, its picture in folder/rgb.npy. waiting: OpenMP's wait policy."""
    if not thread_counts:
        return {"tried": []}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    environment |= {"OMP_WAIT_POLICY": waiting, "PYTHONWARNINGS": "ignore"}
    command = [ROOT / ".venv-train" / "bin" / "python", Path(__file__).with_name("nerfstudio_stock.py"), run]
    command += [folder / "rays.npz", "--save", folder / "rgb.npy", "--threads", ",".join(map(str, thread_counts))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"nerfstudio's renderer stopped with exit code {done.returncode}; its words are above")
    said = json.loads(done.stdout.splitlines()[-1])
    return said | {"tried": [t | {"waiting": waiting.lower()} for t in said["tried"]]}


def speed_rows(stock: dict) -> Iterable[Row]:
    """The row of the best, after saying what was tried."""
    for tried in stock["tried"]:
        how = f"{tried['threads']} threads, {tried['waiting']} waiting, {tried['chunk']} rays a chunk"
        print(f"        {how}: {tried['rays_per_s']:.0f} rays/s")
    best = stock["best"]
    yield Row(f"nerfstudio's own renderer ({best['threads']} threads)", best["rays_per_s"], "rays/s")


def nerfstudio_alone() -> Iterable[Row]:
    """nerfstudio's own renderer on the shipped place, CPU, best of thread counts and chunk sizes"""
    yield from speed_rows(stock_render(*door_rays()))


MEASUREMENTS = (nerfstudio_alone,)
