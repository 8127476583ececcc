"""Learn a tracker's axes, signs and units from how the camera moves, and write them into the show file.

  ledvolume wizard freed+udp://0.0.0.0:40000 --show SHOW.toml
  ledvolume wizard osc+udp://0.0.0.0:9000 --show SHOW.toml --camera A --focal-mm 35
  ledvolume wizard psn+udp://236.10.10.10:56565 --moved 1.0 --yes --show SHOW.toml
  ledvolume wizard freed+udp://0.0.0.0:40000 --take take3.mcap --show SHOW.toml

Take the camera in both hands, face the wall, level, and do what the screen says: hold still, right, forward, up, pan left,
tilt up, roll clockwise, zoom in, focus near, and walk to where the lens looks. No key is pressed: it sees when the camera
stands still and when it moves. Do not undo a turn before the next one. What cannot be told is asked again; what was learnt
is proved by decoding the same take, and written after you have seen the difference. Without --show it is printed.
--take does it afterwards, with a recording of this source (`ledvolume record`) in which the motions were done in their order.

Exit status 0 if the mapping was proved (and written, or declined), 1 if it could not be told.
"""

import argparse
import sys
import time
import tomllib
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ledvolume.commands.quantities import positive
from ledvolume.config import Show, convert, load_show, show
from ledvolume.errors import ConfigError, MotionError
from ledvolume.protocols.freed_profile import PROFILES
from ledvolume.recording import DATAGRAMS, Message, TakeReader, source_of
from ledvolume.show_file import ShowFile
from ledvolume.sources import Datagram, UdpSource, ZmqSource, address, open_source
from ledvolume.toml_edit import difference, replace
from ledvolume.wizard.mapping import Facts, Mapping
from ledvolume.wizard.proof import Proof, proof_of
from ledvolume.wizard.session import ASKED, Session
from ledvolume.wizard.show_edit import edited, snippet

SILENT_S = 10.0
BAR = 30


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="SOURCE", help="freed+udp://HOST:PORT, osc+udp://…, psn+udp://…, as in a show file")
    parser.add_argument("--show", metavar="SHOW.toml", type=Path, help="the show file that is to know it")
    parser.add_argument("--camera", metavar="ID", help="the show's camera that is moved (default: its first)")
    parser.add_argument("--profile", metavar="NAME", choices=PROFILES, help=f"FreeD: {', '.join(PROFILES)}; the rest is learnt")
    parser.add_argument("--moved", metavar="M", type=positive, help="how far right and forward really were, by tape, in metres")
    parser.add_argument("--focal-mm", metavar="MM", type=positive, help="the focal length before zooming in, off the lens")
    parser.add_argument("--steps", metavar="STEP,…", help=f"the motions and their order: of {','.join(ASKED)}")
    parser.add_argument("--take", metavar="FILE.mcap", type=Path, help="a recording of these motions, instead of listening")
    parser.add_argument("--seconds", metavar="N", type=positive, default=600.0, help="give up after this time (600)")
    parser.add_argument("--yes", action="store_true", help="write without asking")


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False)
    loaded = load_show(args.show) if args.show else None
    facts = _facts(args, loaded)
    steps = tuple(args.steps.split(",")) if args.steps else None
    if args.take:
        session = _replayed(console, args.take, args.uri, Session(address(args.uri).protocol, facts, steps))
        return _told(console, args, session)
    source = open_source(args.uri)
    try:
        session = _listen(console, source, Session(source.protocol, facts, steps), args.seconds)
        while session.error and "--moved" in str(session.error) and console.is_terminal and sys.stdin.isatty():
            facts = Facts(facts.camera_id, _metres(console), facts.focal_mm, facts.sensor_mm, facts.profile)
            session = _listen(console, source, _again(session, facts, steps), args.seconds)
    finally:
        source.close()
    return _told(console, args, session)


def _told(console: Console, args: argparse.Namespace, session: Session) -> int:
    """Says what was learnt, and has it written."""
    if session.error or session.mapping is None:
        console.print(Text(f"Not told: {session.error or 'it was not done'}. Nothing was written.", "bold red"))
        return 1
    for line in session.mapping.words:
        console.print(f"  {line}", markup=False)
    console.print(_proved(session.proof), markup=False)
    if not args.show:
        console.print(snippet(args.uri, session.mapping), markup=False)
        return 0
    try:
        return _write(console, args, session, session.mapping)
    except MotionError as error:
        console.print(f"{error}", markup=False)
        return 1


def _facts(args: argparse.Namespace, loaded: Show | None) -> Facts:
    profile, sensor_mm, camera_id = args.profile, None, args.camera or "camera"
    if args.profile and address(args.uri).protocol != "freed":
        raise ConfigError(args.uri, "--profile", "nothing: it is for FreeD", args.profile)
    if loaded:
        rigs = {rig.camera_id: rig for rig in loaded.stage.rigs}
        camera_id = args.camera or next(iter(rigs))
        if camera_id not in rigs:
            raise ConfigError(args.show, "--camera", f"one of {', '.join(rigs)}", camera_id)
        sensor_mm = rigs[camera_id].lens.sensor_mm
        if not profile and address(args.uri).protocol == "freed":
            profile = _written_profile(args.show, args.uri)
    return Facts(camera_id, args.moved, args.focal_mm, sensor_mm, profile)


def _written_profile(file: Path, uri: str) -> str | dict | None:
    """The profile that the show has for this source: what it says of the lens is kept."""
    sources = tomllib.loads(file.read_text()).get("source", [])
    return next((source.get("profile") for source in sources if source.get("uri") == uri), None)


def _listen(console: Console, source: UdpSource | ZmqSource, session: Session, seconds: float) -> Session:
    """Feeds the session until it has nothing more to ask."""
    end_s = time.monotonic() + seconds
    heard_s = told_s = time.monotonic()
    console.print(f"listening on {source.uri}. {session.ask()}", markup=False)
    with Live(console=console, refresh_per_second=8, transient=True, auto_refresh=False) as live:
        while session.asked and (now_s := time.monotonic()) < end_s:
            if not source.wait(min(0.1, end_s - now_s)):
                if now_s - max(heard_s, told_s) > SILENT_S:
                    told_s = now_s
                    console.print(f"nothing has come for {now_s - heard_s:.0f} s: does the tracker send to this address?")
                continue
            heard_s = time.monotonic()
            for datagram in source.drain():
                for line in session.add(datagram):
                    console.print(line, markup=False)
            if console.is_terminal:
                live.update(_bar(session), refresh=True)
    for line in session.end():
        console.print(line, markup=False)
    return session


def _replayed(console: Console, file: Path, uri: str, session: Session) -> Session:
    """Feeds the session what a take has of one source. Raises ConfigError."""
    asked, others = address(uri), set()
    for record in TakeReader(file).records():
        if not (isinstance(record, Message) and record.channel.topic.startswith(DATAGRAMS)):
            continue
        recorded = source_of(record.channel, file).uri
        where = address(recorded)
        if (where.protocol, where.port) != (asked.protocol, asked.port):
            others.add(recorded)
            continue
        for line in session.add(Datagram(recorded, record.data, record.log_time_ns)):
            console.print(line, markup=False)
    if not session.datagrams:
        raise ConfigError(file, "sources", f"datagrams of {uri}", ", ".join(sorted(others)) or "none at all")
    for line in session.end():
        console.print(line, markup=False)
    return session


def _bar(session: Session) -> Text:
    share = min(1.0, session.moved / 4)
    filled = round(share * BAR)
    state = "still" if session.is_still else "moving" if session.motions or session.moved > 1 else "settling"
    return Text.assemble(("█" * filled, "green"), ("·" * (BAR - filled), "dim"), f" {state:9}", (session.ask(), "bold"))


def _again(session: Session, facts: Facts, steps: tuple[str, ...] | None) -> Session:
    """The same take, answered with what is known now."""
    new = Session(session.protocol, facts, steps)
    for datagram in session.datagrams:
        new.add(datagram)
    return new


def _metres(console: Console) -> float:
    while True:
        try:
            return positive(console.input("How far did the camera go to the right and forward, in metres? "))
        except argparse.ArgumentTypeError as error:
            console.print(str(error), markup=False)


def _proved(proof: Proof) -> str:
    refused = f", refused {proof.refused}" if proof.refused else ""
    return f"proof: {proof.poses} poses{refused}: " + "; ".join(shown.in_words() for shown in proof.shown)


def _write(console: Console, args: argparse.Namespace, session: Session, mapping: Mapping) -> int:
    before = args.show.read_text(encoding="utf-8")
    after = edited(before, args.show, args.uri, session.facts.camera_id, mapping)
    _prove_as_show(args, after, session)
    changes = difference(before, after, args.show)
    if not changes:
        console.print(f"{args.show} says so already: nothing to write", markup=False)
        return 0
    console.print(changes, markup=False)
    if not args.yes and not _agrees(console, args.show):
        console.print("nothing was written", markup=False)
        return 0
    replace(args.show, after)
    console.print(f"written to {args.show}", markup=False)
    return 0


def _agrees(console: Console, file: Path) -> bool:
    if not sys.stdin.isatty():
        console.print("say --yes to write it", markup=False)
        return False
    return console.input(f"Write this to {file}? [y/N] ").strip().casefold() in ("y", "yes")


def _prove_as_show(args: argparse.Namespace, text: str, session: Session) -> None:
    """The file as it would be, read as the server reads it, must show the take as it was moved. Raises MotionError."""
    new = show(args.show, convert(args.show, tomllib.loads(text), ShowFile))
    rig = next(rig for rig in new.stage.rigs if rig.camera_id == session.facts.camera_id)
    asked = address(args.uri)
    spec = next(s for s in new.sources if (a := address(s.uri)) and (a.protocol, a.port) == (asked.protocol, asked.port))
    proof = proof_of(
        asked.protocol,
        spec.reading,
        rig.camera_id,
        rig.stage_from_world,
        rig.tracker_from_camera,
        session.datagrams,
        session.motions,
    )
    if proof.wrong:
        raise MotionError(f"{args.show} with this mapping does not show {', '.join(proof.wrong)} as moved; nothing was written")
