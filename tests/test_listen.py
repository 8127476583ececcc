"""`ledvolume listen` as operators use it: a process, real sockets, the senders of the standards, pictures, silence."""

import contextlib
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from ledvolume.camera import CameraSample, LensReading
from ledvolume.commands.listen_plot import COLOURS, MOST_POINTS, REFUSED, Track
from ledvolume.network_cards import sockets_on_port
from ledvolume.pose import Pose, pan_tilt_roll
from ledvolume.protocols import open_encoder
from ledvolume.sources import open_sender

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data"
EXACT = 1e-9
MS = 1_000_000
PATIENCE_S = 20
SMOOTHED = 45  # of 255: thin lines are blended with the white below them


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def listening(*arguments: str, ports: tuple[int, ...]):
    """The process, once it has bound its ports."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    process = subprocess.Popen(
        [sys.executable, "-m", "ledvolume", "listen", *arguments], text=True, env=environment, stdout=subprocess.PIPE
    )
    end_s = time.monotonic() + PATIENCE_S
    try:
        while not all(sockets_on_port(port) for port in ports):
            assert process.poll() is None and time.monotonic() < end_s, "it never bound its port"
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def records(process, samples: int) -> list[dict]:
    """Its lines until so many samples have been printed; then it is interrupted, and its last words are added."""
    lines = []
    while sum("camera_id" in line for line in lines) < samples:
        text = process.stdout.readline()
        assert text, f"it ended after {lines}"
        lines.append(json.loads(text))
    time.sleep(0.3)  # what came after the last sample
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    return lines + [json.loads(line) for line in rest.splitlines()]


def send(uri: str, *payloads: bytes) -> None:
    sender = open_sender(uri)
    for payload in payloads:
        sender.send(payload)
    sender.close()


def samples_in(lines: list[dict]) -> list[dict]:
    return [line for line in lines if "camera_id" in line]


def is_turn(record: dict, pan: float, tilt: float, roll: float) -> bool:
    """Whether its quaternion is this turn, in degrees; q and -q are the same."""
    same = np.array(pan_tilt_roll(*map(math.radians, (pan, tilt, roll))))
    return bool(abs(abs(same @ record["wxyz"]) - 1) < EXACT)


# ---- the senders of the standards, over real sockets


def test_every_freed_vector_is_shown_with_the_values_of_an_independent_codec():
    vectors, port = json.loads((DATA / "freed/freed_d1_vectors.json").read_text()), free_port()
    valid, others = [v for v in vectors if v["valid"]], [v for v in vectors if not v["valid"]]
    uri = f"freed+udp://127.0.0.1:{port}"
    with listening(uri, "--json", ports=(port,)) as process:
        send(uri, *(bytes.fromhex(v["hex"]) for v in others + valid))
        lines = records(process, 2 + len(valid))
    two_in_one, shown = samples_in(lines)[:2], samples_in(lines)[2:]
    assert [r["pan_tilt_roll_deg"][0] for r in two_in_one] == pytest.approx([0, -10])  # 0x050000 / 32768 = 10° to the right
    for vector, record in zip(valid, shown, strict=True):
        expected = vector["expect"]
        assert record["camera_id"] == str(expected["ID"])
        assert record["position_m"] == pytest.approx([expected[k] / 1000 for k in "XYZ"], abs=EXACT)
        assert is_turn(record, -expected["Pan"], expected["Tilt"], expected["Roll"]), vector["name"]
        assert record["lens"]["zoom_encoder"] * 0xFFFFFF == pytest.approx(expected["Zoom"])
        assert record["lens"]["focus_encoder"] * 0xFFFFFF == pytest.approx(expected["Focus"])
    [summary] = lines[-1]["summary"]
    assert {k: v["count"] for k, v in summary["refused"].items()} == {"bad-checksum": 1, "wrong-length": 1}
    assert summary["ignored"] == {"D2": 1} and summary["datagrams"] == len(vectors)
    assert "checksum" in summary["refused"]["bad-checksum"]["check"]
    assert {line["reject"] for line in lines if "reject" in line} == {"bad-checksum", "wrong-length"}


def captured() -> list[bytes]:
    """UDP payloads of SMPTE's capture: Ethernet 14 bytes, IPv4 as long as it says, UDP 8."""
    raw, out, at = (DATA / "opentrackio/sender_JSON.pcap").read_bytes(), [], 24
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at + 8)[0]
        ip = raw[at + 16 + 14 : at + 16 + size]
        udp = ip[(ip[0] & 15) * 4 :]
        out.append(udp[8 : struct.unpack_from(">H", udp, 4)[0]])
        at += 16 + size
    return out


def test_smptes_capture_is_shown_from_its_multicast_group():
    port = free_port()
    uri = f"opentrackio+udp://239.135.1.1:{port}?interface=lo"
    expected = json.loads((DATA / "opentrackio/sender_JSON.decoded.json").read_text())
    with listening(uri, "--json", "--cameras", "1=A", ports=(port,)) as process:
        send(uri, *captured())
        lines = records(process, len(expected))
    for record, value in zip(samples_in(lines), expected, strict=True):
        [transform], stamp, code = value["transforms"], value["timing"]["sampleTimestamp"], value["timing"]["timecode"]
        assert record["position_m"] == pytest.approx([transform["translation"][k] for k in "xyz"], abs=EXACT)
        assert is_turn(record, *(transform["rotation"][k] for k in ("pan", "tilt", "roll")))
        assert record["stamped_at_ns"] == stamp["seconds"] * 10**9 + stamp["nanoseconds"]
        assert record["timecode"] == f"{code['hours']:02}:{code['minutes']:02}:{code['seconds']:02}:{code['frames']:02}"
        assert record["lens"]["focal_length_mm"] == value["lens"]["pinholeFocalLength"]
        assert (record["camera_id"], record["status"]) == ("A", "Optical Good")
    [summary] = lines[-1]["summary"]
    assert summary["joined"] == ["lo"] and summary["interfaces"] == {"lo": 68} and list(summary["senders"].values()) == [68]
    assert summary["cameras"]["A"]["clock"]["kind"] == "source"  # it was captured long ago
    assert not summary["refused"] and not summary["flagged"]


def test_vyvs_packets_are_shown_with_several_sources_at_once():
    psn_port, native_port = free_port(), free_port()
    psn, native = f"psn+udp://236.10.10.10:{psn_port}?interface=lo", f"native+udp://127.0.0.1:{native_port}"
    with listening(psn, native, "--json", ports=(psn_port, native_port)) as process:
        send(psn, (DATA / "psn/info_0.bin").read_bytes(), (DATA / "psn/data_1.bin").read_bytes())
        now_ns = time.time_ns()
        send(native, *open_encoder("native")(CameraSample("B", now_ns, now_ns, Pose(position_m=(4.0, 5.0, 6.0)))))
        lines = records(process, 3)
    by_camera = {record["camera_id"]: record for record in samples_in(lines)}
    # data_1.bin by its bytes (test_psn.py): trackers 1 and 2 at (1.5|3, 2.25, -0.5|-1), turned right by 45° and 90°, 1 and 2 ms
    # after the server's start; tracker 0 is lost. Ours: (x, z, y)
    assert by_camera["1"]["position_m"] == [1.5, -0.5, 2.25] and by_camera["2"]["position_m"] == [3.0, -1.0, 2.25]
    assert by_camera["1"]["pan_tilt_roll_deg"] == pytest.approx([-45, 0, 0], abs=1e-4)
    assert by_camera["2"]["pan_tilt_roll_deg"] == pytest.approx([-90, 0, 0], abs=1e-4)
    assert (by_camera["1"]["stamped_at_ns"], by_camera["1"]["status"]) == (1_000_000, "Tracker 1, validity 0.1")
    assert by_camera["B"]["position_m"] == [4.0, 5.0, 6.0]
    of_psn, of_native = lines[-1]["summary"]
    assert of_psn["refused"]["not-tracked"]["count"] == 1 and list(of_native["cameras"]) == ["B"]


def test_the_sources_of_a_show_are_read_as_the_show_says(tmp_path):
    port = free_port()
    demo = (ROOT / "configs/demo.toml").read_text()
    place = demo.index("[[source]]")
    rest = demo[place + len("[[source]]") :]
    after = rest.find("\n[")
    source = f'[[source]]\nuri = "freed+udp://127.0.0.1:{port}"\nprofile = "z-cam"\ncameras = {{ "3" = "crane" }}\n'
    show = tmp_path / "show.toml"
    show.write_text(demo[:place] + source + (rest[after:] if after >= 0 else ""))
    with listening("--show", str(show), "--json", ports=(port,)) as process:
        lens = LensReading(focal_length_mm=24.0, focus_distance_m=3.0, f_stop=4.0)
        for k in range(3):
            encode = open_encoder("freed", profile="z-cam")
            send(f"freed+udp://127.0.0.1:{port}", *encode(CameraSample("3", 1, 1, Pose(position_m=(k, 2.0, 1.6)), lens)))
        lines = records(process, 3)
    assert [record["position_m"][0] for record in samples_in(lines)] == [0, 1, 2]
    assert {record["camera_id"] for record in samples_in(lines)} == {"crane"}
    assert samples_in(lines)[0]["lens"] == {"focal_length_mm": 24.0, "focus_distance_m": 3.0, "f_stop": 4.0}


# ---- the summary, the picture, silence


def steady(uri: str, stop_after: int, rate_hz: float = 100.0, without: tuple[int, ...] = ()) -> None:
    """A camera that moves, at its rate, without some of its samples, and with a bad datagram every 20."""
    sender, encode, start_s = open_sender(uri), open_encoder("native"), time.monotonic()
    for k in range(stop_after):
        time.sleep(max(start_s + k / rate_hz - time.monotonic(), 0))
        now_ns = time.time_ns()
        pose = Pose(pan_tilt_roll(0.2 * math.sin(k / 20), 0.1, 0.0), (0.5 * math.sin(k / 30), -2.0, 1.6))
        if k not in without:
            # stamped on the rate, as a tracker does it, and not when this process was let run
            stamp_ns = now_ns - round((time.monotonic() - start_s - k / rate_hz) * 1e9)
            [payload] = encode(CameraSample("A", stamp_ns, stamp_ns, pose, LensReading(focal_length_mm=35.0)))
            sender.send(payload)
        if k % 20 == 10:
            sender.send(b"rubbish")
    sender.close()


def test_at_the_end_it_says_what_was_missing_and_leaves_a_picture(tmp_path):
    port, picture = free_port(), tmp_path / "pictures" / "listen.png"
    uri = f"native+udp://127.0.0.1:{port}"
    with listening(uri, "--plot", str(picture), ports=(port,)) as process:
        steady(uri, 200, without=(100, 101, 150))
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert f"listening on {uri}" in told
    assert "refused native: bad-fields" in told and "check: a field is missing or of another type" in told
    assert "3 samples missing in 2 gaps" in told and "197, 3 missing" in told
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.width > 1000 and image.height > 500
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in (*COLOURS, REFUSED):  # x y z, pan tilt roll, and what was refused, are drawn
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.count_nonzero(np.abs(pixels.astype(int) - rgb).max(axis=1) < SMOOTHED) > 100, colour
    assert np.mean((pixels == 255).all(axis=1)) > 0.5


def test_a_picture_of_nothing_says_so(tmp_path):
    picture = tmp_path / "listen.png"
    port = free_port()
    with listening(f"osc+udp://:{port}", "--plot", str(picture), "--seconds", "0.1", ports=()) as process:
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    with Image.open(picture) as image:
        assert np.asarray(image.convert("L")).min() < 80  # words on white


def test_silence_is_told_with_what_to_check():
    port = free_port()
    with listening(f"psn+udp://236.10.10.10:{port}?interface=lo", "--seconds", "3.2", ports=(port,)) as process:
        told, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "nothing has come. What to check" in told
    assert f"the group 236.10.10.10 was joined on lo; is the tracker sending to it, to port {port}?" in told
    assert "lo (127.0.0.1)" in told


def test_every_so_often_a_summary_for_programs():
    port = free_port()
    uri = f"native+udp://127.0.0.1:{port}"
    with listening(uri, "--json", "--every", "0.5", "--seconds", "1.8", ports=(port,)) as process:
        steady(uri, 60)
        told, _ = process.communicate(timeout=PATIENCE_S)
    summaries = [line["summary"][0] for line in map(json.loads, told.splitlines()) if "summary" in line]
    assert len(summaries) >= 3
    counts = [summary["cameras"].get("A", {"samples": 0})["samples"] for summary in summaries]
    assert counts == sorted(counts) and counts[-1] == 60
    assert summaries[-1]["cameras"]["A"]["rate_hz"] == pytest.approx(100, rel=0.1)


def test_a_track_of_the_picture_is_thinned_evenly_and_bounded():
    track = Track()
    for k in range(5 * MOST_POINTS):
        track.add((float(k),))
    [times] = track.columns()
    assert MOST_POINTS / 4 <= len(times) < MOST_POINTS
    assert set(np.diff(times)) == {8.0}  # thinned three times: at 4096, 8192 and 16384 of 20480
    assert times[0] == 0 and times[-1] > 5 * MOST_POINTS - 9


def test_samples_are_records_that_other_programs_can_read():
    """What `--json` prints of a sample is a CameraSample, and more: nothing of it is lost."""
    port = free_port()
    uri = f"native+udp://127.0.0.1:{port}"
    sample = CameraSample("A", 0, 0, Pose((1.0, 0.0, 0.0, 0.0), (1.0, 2.0, 3.0)), LensReading(35.0, 2.5), "ok", 0, "01:02:03:04")
    with listening(uri, "--json", ports=(port,)) as process:
        send(uri, *open_encoder("native")(sample))
        [record] = samples_in(records(process, 1))
    pose = {"wxyz": record["wxyz"], "position_m": record["position_m"]}
    again = msgspec.convert(record | {"world_from_tracker": pose}, CameraSample)
    assert again == msgspec.structs.replace(sample, captured_at_ns=again.captured_at_ns, received_at_ns=again.received_at_ns)
    assert again.captured_at_ns == again.received_at_ns and abs(time.time_ns() - again.captured_at_ns) < 60_000 * MS
