"""What a tired operator types wrong is refused at once, in words that name it, and never with a traceback."""

import re
from pathlib import Path

import pytest

from ledvolume.cli import main
from ledvolume.commands.quantities import writable_file

DEMO = str(Path(__file__).resolve().parent.parent / "configs" / "demo.toml")
RUN = str(Path(__file__).resolve().parent / "data" / "nerfacto_good")
OSC = "osc+udp://127.0.0.1:0"
STREAM = "stream://127.0.0.1:5999"


@pytest.mark.parametrize(
    "words, told",
    [
        (["serve", DEMO, "--seconds", "nan"], "--seconds: expected a number above 0, got 'nan'"),
        (["serve", DEMO, "--status", "FOLDER"], "--status: expected a file, .* is a folder"),
        (["serve", DEMO, "--status", "FILE/status.json"], "--status: cannot write to .*FILE"),
        (["serve", DEMO, "--rate", "23.976"], "rate: expected frames per second"),
        (["demo", "--seconds", "-2"], "--seconds: expected a number above 0, got '-2'"),
        (["demo", "--out", "FILE"], "--out: cannot write to"),
        (["bake", RUN, "--show", DEMO, "--size", "0"], "--size: expected a number above 0, got '0'"),
        (["bake", RUN, "--show", DEMO, "--table", "12,x"], "--table: expected a number above 0, got 'x'"),
        (["bake", RUN, "--show", DEMO, "--out", "FOLDER"], "--out: expected a file"),
        (["bake", RUN, "--show", DEMO, "--place", "door"], "--place: expected one of .*lund-door.*, got 'door'"),
        (["bake", RUN, "--zone=1,0,0,0,1,1", "--out", "FOLDER/x"], "--zone: expected the lower corner first"),
        (["bake", RUN, "--zone=0,0,0,1,1", "--out", "FOLDER/x"], "--zone: expected six numbers"),
        (["bake", "FILE", "--show", DEMO, "--out", "FOLDER/x"], "expected a nerfstudio run: its folder"),
        (["tile", STREAM, "--verify", "--frames", "0"], "--frames: expected a whole number from 1 on, got '0'"),
        (["tile", STREAM, "--save", "FILE"], "cannot write there"),
        (["tile", f"{STREAM}?server_key_file=FILE.key", "--verify"], "FILE.key: cannot read the key: no such file"),
        (["simulate", "builtin:still", "--to", OSC, "--focal-mm", "-3"], "--focal-mm: expected a number above 0"),
        (["simulate", "builtin:still", "--to", OSC, "--seconds", "0.1"], "address: expected an address that can be used"),
        (
            ["simulate", "FILE", "--to", OSC, "--preset", "unity"],
            "preset: expected one of ledvolume, vmc, vrchat, loled, got 'unity'",
        ),
        (["simulate", "builtin:still", "--to", OSC, "--rate", "track"], "--rate: expected a rate: a built-in move has no"),
        (["simulate", "FILE", "--to", OSC, "--raw"], "FILE: take: expected an MCAP file"),
        (["record", "--out", "FOLDER/x.mcap"], "URI: expected one source or more"),
        (["record", "--show", DEMO, "--clock", "house", "--out", "FOLDER/x.mcap"], "--clock: expected nothing: --show says how"),
        (["record", OSC, "--out", "FILE"], "take: expected a new file: no take is ever written over"),
        (["record", OSC, "--profile", "z-cam", "--out", "FOLDER/x.mcap"], "--profile: expected a source of freed or psn"),
        (["record", "morse+udp://:9", "--out", "FOLDER/x.mcap"], "URI: expected one of the protocols osc"),
        (["listen", OSC, "--sensor", "0,24"], "--sensor: expected width,height in mm"),
        (["listen", OSC, "--count", "1.5"], "--count: expected a whole number from 1 on"),
    ],
    ids=lambda case: " ".join(case[:1] + [Path(word).name for word in case[1:]]) if isinstance(case, list) else "",
)
def test_a_wrong_word_is_named(words, told, tmp_path, capsys):
    (tmp_path / "FILE").touch()
    (tmp_path / "FOLDER").mkdir()
    words = [re.sub("FILE|FOLDER", lambda name: str(tmp_path / name[0]), word) for word in words]
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status == 2 and re.search(told, said), said
    assert "Traceback" not in said


def test_what_is_to_be_written_gets_its_folder(tmp_path):
    assert writable_file(str(tmp_path / "new" / "report.json")) == tmp_path / "new" / "report.json"
    assert (tmp_path / "new").is_dir() and not list((tmp_path / "new").iterdir())
