"""The whole job on this machine: server, a simulated operator's camera over OSC, receivers of all tiles, each its own process.

  ledvolume demo
  ledvolume demo --seconds 60 --rate 24 --show configs/demo.toml --out out/demo

Writes summary.json, contact-sheet.png and through-the-lens.mp4 into --out. Exit status 0 if every tile arrived, no message
was damaged and the lens check holds.
"""

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from ledvolume import contact_sheet, lens_check
from ledvolume.colour import srgb_from_linear
from ledvolume.commands.quantities import positive, writable_folder
from ledvolume.config import Show, load_show
from ledvolume.errors import OutputError
from ledvolume.frame import Frame, FrameRequest
from ledvolume.outputs.images import saved_frames
from ledvolume.outputs.video import VideoWriter
from ledvolume.pose import Pose
from ledvolume.render.context import create_context
from ledvolume.render.renderer import REFINEMENT_CLASSES, Renderer
from ledvolume.server import open_renderer

SHOW = Path(__file__).resolve().parents[2] / "configs" / "demo.toml"
TILES_PER_RECEIVER = 2
OPERATOR_HZ = 60
RATE_WITH_GPU = "24"
FILM_FPS = 12  # received frames that are kept for looking at, at most
LENS_CHECKS = 12
LEAST_DB = 34.0
PATIENCE_S = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=positive, default=20.0, metavar="N", help="how long the show runs (default 20)")
    parser.add_argument("--show", type=Path, default=SHOW, metavar="SHOW.toml", help="default: configs/demo.toml")
    parser.add_argument("--out", type=writable_folder, default="out/demo", metavar="DIR", help="default: out/demo")
    parser.add_argument("--rate", metavar="FPS", help=f"frames per second; default: the show's, {RATE_WITH_GPU} with a GPU")


def run(args: argparse.Namespace) -> int:
    rate = args.rate or (None if renders_in_software() else RATE_WITH_GPU)
    show = load_show(args.show, **({"rate": rate} if rate else {}))
    for name in ("summary.json", "contact-sheet.png", "through-the-lens.mp4", "server.json"):
        (args.out / name).unlink(missing_ok=True)
    received = args.out / "received"
    shutil.rmtree(received, ignore_errors=True)
    received.mkdir(parents=True)
    every = max(1, round(show.rate / FILM_FPS))
    with Processes() as processes:
        server, receivers = play(processes, show, rate, args.seconds, args.out, every)
    say("the show is over; photographing the wall through the lens")
    frames = [frame for frame in saved_frames(received) if len(frame.images) == len(show.stage.tiles)]
    if not frames:
        raise OutputError(f"{received}: no frame arrived whole at the receivers; see {args.out}/*.log")
    summary = summary_of(server, receivers)
    summary |= pictures(show, frames, summary, every, args.out)
    (args.out / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
    shutil.rmtree(received)
    return judge(summary, show, args.out)


def play(processes: "Processes", show: Show, rate: str | None, seconds: float, out: Path, every: int) -> tuple[dict, list]:
    """Run the show; returns the server's last status and the receivers' summaries. Raises OutputError if one failed."""
    status_file = out / "server.json"
    serve = ["serve", str(show.file), "--seconds", f"{seconds}", "--status", str(status_file)]
    serve += ["--source", "osc+udp://127.0.0.1:0", "--output", "stream://127.0.0.1:0", *(["--rate", rate] if rate else [])]
    server = processes.start("server", serve, log=None)  # its live line is the demo's
    status = wait_for_status(server, status_file)
    pose_port, stream = status["sources"][0]["uri"], status["outputs"][0]["uri"]
    names = [tile.name for tile in show.stage.tiles]
    receivers = []
    for first in range(0, len(names), TILES_PER_RECEIVER):
        chosen = [word for name in names[first : first + TILES_PER_RECEIVER] for word in ("--tile", name)]
        command = ["tile", stream, *chosen, "--save-raw", str(out / "received"), "--every", str(every), "--json"]
        log = out / f"receiver-{first // TILES_PER_RECEIVER + 1}.log"
        receivers.append((processes.start("a receiver", command, log, stdout=subprocess.PIPE), log))
    processes.start("the operator", operator(show, pose_port), out / "operator.log")
    try:
        code = server.wait(seconds + PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise OutputError(f"the server did not end {PATIENCE_S:.0f} s after its time") from None
    if code:
        raise OutputError(f"the server failed with exit status {code}; its words are above")
    time.sleep(0.3)  # the last frame may still be on its way
    summaries = []
    for receiver, log in receivers:
        receiver.send_signal(signal.SIGTERM)
        text, _ = receiver.communicate(timeout=PATIENCE_S)
        if not text.strip():
            raise OutputError(f"a receiver failed with exit status {receiver.returncode}: {log.read_text()[-2000:]}")
        summaries.append(json.loads(text))
    return json.loads(status_file.read_text()), summaries


def operator(show: Show, uri: str) -> list[str]:
    """The command that simulates a camera in somebody's hands in front of the wall, and sends its poses to this address."""
    x, y, z = show.stage.zone.centre_m
    wall = show.stage.surfaces[0].stage_from_surface.position_m
    reach_m = 0.75 * (show.stage.zone.max_m[0] - x)
    move = f"builtin:handheld?at={x},{y},{z}&look={wall[0]},{wall[1]},{z}&amount={reach_m:.3f}"
    return ["simulate", move, "--to", uri, "--rate", str(OPERATOR_HZ), "--camera", show.stage.rigs[0].camera_id]


def summary_of(server: dict, receivers: list[dict]) -> dict:
    """The keys of summary.json that server and receivers know."""
    tiles = {name: tile for receiver in receivers for name, tile in receiver["tiles"].items()}
    kept = "renderer rate tiles led_px frames frames_late frames_skipped fps poses_received poses_refused pose_to_send_ms"
    kept += " frame_ms render_ms python_ms tracking frames_outside_zone outer_steps"
    kept += " frames_covered frames_not_covered prediction_off_mm prediction_off_deg"
    return {
        **{key: server[key] for key in kept.split()},
        "tiles_received": sum(receiver["frames"] for receiver in receivers),
        "tiles_lost": sum(receiver["lost"] for receiver in receivers),
        "crc_errors": sum(receiver["crc_errors"] for receiver in receivers),
        "messages_refused": sum(sum(receiver["rejected"].values()) for receiver in receivers),
        "frames_of_tile": {name: tile["frames"] for name, tile in tiles.items()},
        "receivers": len(receivers),
    }


def pictures(show: Show, frames: list[Frame], summary: dict, every: int, out: Path) -> dict:
    """Lens check over the run, contact sheet and film; returns what they add to the summary."""
    renderer = open_renderer(show)
    spec = show.places[show.start]
    credit = spec.credit or renderer.places[show.start].scene.header.credit
    stage, overscan = show.stage, show.footprint.overscan
    chosen = frames[:: max(1, len(frames) // LENS_CHECKS)]
    checks = {frame.request.index: lens_check.check(frame, stage, renderer, show.footprint) for frame in chosen}
    decibels = [check.db for check in checks.values()]
    median_db = statistics.median(decibels)

    best = max(chosen, key=lambda frame: parallax_m(show, frame))  # where a fixed eye would be most wrong
    camera = best.request.camera
    untracked = lens_check.check(fixed_eye(renderer, best.request), stage, renderer, show.footprint, camera, judged_by=camera)
    fine_px = lens_check.camera_resolution(stage, camera, led_per_px=0.4)
    photographed, _, _ = lens_check.rephotograph(stage, best.images, camera, fine_px, across=1)
    direct = renderer.view(best.request.scene, camera, fine_px)
    x, y, z = camera.stage_from_camera.position_m
    facts = [
        f"{summary['tiles']} tiles, {summary['led_px']} LED pixels, {summary['fps']} frames per second on {summary['renderer']}",
        f"this frame: {best.request.index}, camera at x {x:+.2f}, y {y:+.2f}, z {z:.2f} m",
        f"over the run: lens check {median_db:.1f} dB (median), pose to send {summary['pose_to_send_ms']['p50']:.0f} ms",
    ]
    wall = contact_sheet.wall_picture(stage, best.images, camera, overscan, 1010)
    check = checks[best.request.index]
    shown = srgb_from_linear(photographed), srgb_from_linear(direct)
    sheet = contact_sheet.contact_sheet(f"ledvolume · {show.name}", facts, credit, wall, *shown, check, untracked)
    sheet.save(out / "contact-sheet.png")
    renderer.context.release()
    film(show, frames, every, credit, out / "through-the-lens.mp4")
    return {
        "lens_check_db": round(median_db, 2),
        "lens_check_worst_db": round(min(decibels), 2),
        "lens_check_frames": len(decibels),
        "lens_check_without_tracking_db": round(untracked.db, 2),
    }


def film(show: Show, frames: list[Frame], every: int, credit: str, path: Path) -> None:
    """The kept frames at the speed at which they were shown; a frame that is missing stands as it stood on the wall."""
    with VideoWriter(path, contact_sheet.FILM_PX, show.rate / every) as video:
        shown_until = frames[0].request.index
        for frame in frames:
            picture = contact_sheet.through_the_lens(show, frame, credit)
            while shown_until <= frame.request.index:
                video.write(picture)
                shown_until += every


def fixed_eye(renderer: Renderer, request: FrameRequest) -> Frame:
    """The wall as it would be without tracking: drawn for the stage's eye everywhere."""
    away = Pose((0.0, 0.0, 0.0, 1.0), (0.0, -1e3, 0.0))
    nowhere = msgspec.structs.replace(request.camera, stage_from_camera=away)
    return renderer.render(msgspec.structs.replace(request, camera=nowhere, outer_steps=REFINEMENT_CLASSES))


def parallax_m(show: Show, frame: Frame) -> float:
    """How far the camera stands from the stage's fixed eye, seen from the wall."""
    (x, _, z), (ex, _, ez) = frame.request.camera.stage_from_camera.position_m, show.stage.eye_m
    return ((x - ex) ** 2 + (z - ez) ** 2) ** 0.5


def judge(summary: dict, show: Show, out: Path) -> int:
    """Say how it went and what to try next; returns the exit status."""
    latency = summary["pose_to_send_ms"]
    troubles = []
    silent = [name for name, count in summary["frames_of_tile"].items() if not count]
    if silent or summary["crc_errors"] or summary["messages_refused"]:
        troubles.append(
            f"tiles without a frame: {silent or 'none'}, crc errors: {summary['crc_errors']}, messages refused: "
            f"{summary['messages_refused']}; see {out}/receiver-*.log"
        )
    if not summary["poses_received"]:
        troubles.append(f"no pose of the simulated operator arrived; see {out}/operator.log")
    if not summary["lens_check_db"] >= LEAST_DB:
        troubles.append(f"lens check {summary['lens_check_db']} dB, expected ≥ {LEAST_DB}: the picture is not frustum-correct")
    say(
        f"{summary['frames']} frames ({summary['frames_late']} late), {summary['tiles_received']} tiles received, "
        f"{summary['crc_errors']} damaged · pose to send p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms · "
        f"lens check {summary['lens_check_db']} dB (fixed eye: {summary['lens_check_without_tracking_db']} dB)"
    )
    say(f"look at {out}/contact-sheet.png and {out}/through-the-lens.mp4; all numbers are in {out}/summary.json")
    for trouble in troubles:
        print(f"ledvolume demo: FAILED: {trouble}", file=sys.stderr)
    if not troubles:
        print(what_next(show))
    return 1 if troubles else 0


def what_next(show: Show) -> str:
    """Three commands, as they can be typed here."""
    here = Path.cwd()
    program, file = Path(sys.executable).parent / "ledvolume", show.file
    if file.is_relative_to(here):
        file = file.relative_to(here)
    if program.is_relative_to(here):
        program = program.relative_to(here)
    x, y, z = show.stage.zone.centre_m
    source = show.sources[0].uri if show.sources else "osc+udp://127.0.0.1:9000"
    output = show.outputs[0] if show.outputs else "stream://127.0.0.1:5560"
    move = f'"builtin:dolly?at={x:g},{y:g},{z:g}&look={x:g},{y + 4:g},{z:g}&amount=0.35"'
    return (
        "\nWhat to try next, each in a terminal of its own:\n"
        f"  {program} serve {file}\n"
        f"  {program} simulate {move} --to {source} --camera {show.stage.rigs[0].camera_id}\n"
        f"  {program} tile {output} --tile {show.stage.tiles[0].name} --save out/tiles --every 10"
    )


def renders_in_software() -> bool:
    """Whether OpenGL here is Mesa's software renderer."""
    context = create_context()
    name = context.info["GL_RENDERER"]
    context.release()
    return any(software in name.lower() for software in ("llvmpipe", "softpipe", "swrast"))


def wait_for_status(server: subprocess.Popen, file: Path) -> dict:
    """The server's first status: its sockets are open. Raises OutputError if it ends or says nothing."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not file.exists():
        if server.poll() is not None:
            raise OutputError(f"the server ended with exit status {server.returncode}; its words are above")
        if time.monotonic() > deadline_s:
            raise OutputError(f"the server said nothing for {PATIENCE_S:.0f} s")
        time.sleep(0.02)
    return json.loads(file.read_text())


class Processes:
    """Commands of ours as processes, all of them ended when the block is left."""

    def __init__(self):
        self._started: list[subprocess.Popen] = []

    def start(self, name: str, command: list[str], log: Path | None, stdout=subprocess.DEVNULL) -> subprocess.Popen:
        """`ledvolume COMMAND…`; what it says goes to `log`, or to our own terminal."""
        full = [sys.executable, "-m", "ledvolume", *command]
        stderr = None if log is None else open(log, "wb")
        try:
            process = subprocess.Popen(full, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        except OSError as error:
            raise OutputError(f"{name} cannot be started: {error}") from error
        finally:
            if stderr:
                stderr.close()
        self._started.append(process)
        return process

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
        for process in self._started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def say(words: str) -> None:
    print(words, flush=True)
