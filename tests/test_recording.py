"""A take holds what came, byte for byte, and gives back all of it up to where it was cut."""

import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import fastjsonschema
import msgspec
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from ledvolume.camera import CameraSample, LensReading
from ledvolume.cli import main
from ledvolume.errors import ConfigError
from ledvolume.pose import Pose
from ledvolume.protocols import Reading, open_decoder, open_encoder
from ledvolume.protocols.freed_profile import PROFILES
from ledvolume.protocols.osc_map import preset_map
from ledvolume.protocols.psn import PsnProfile
from ledvolume.recording import (
    Attachment,
    Message,
    Metadata,
    TakeReader,
    TakeWriter,
    reading_from_json,
    reading_to_json,
    sample_of,
    source_of,
)
from ledvolume.sources import Datagram, open_sender
from ledvolume.tracks import load_track

ROOT = Path(__file__).resolve().parent.parent
NOW = 1_789_000_000_123_456_789
URI = "freed+udp://127.0.0.1:40000"
READING = Reading(profile=PROFILES["z-cam"], clock="arrival", cameras={"1": "A"}, sensor_mm=(36.0, 24.0))
SAMPLE = CameraSample(
    "A", NOW - 5_000_000, NOW, Pose((0.8, 0.0, 0.0, 0.6), (1.0, -2.0, 1.5)), LensReading(focal_length_mm=35.0), "ok"
)


def small_take(path: Path, has_sample: bool = True) -> list:
    """Two sources, a file, facts, a sample; what a reader must find, in order, after the writer's own facts."""
    writer = TakeWriter(path)
    freed = writer.source(URI, "freed", READING)
    native = writer.source("native+zmq://127.0.0.1:5550", "native")
    datagrams = [(freed, b"\xd1" * 29), (native, b"\x00"), (freed, b"\xff" * 7), (native, b"")]
    for step, (source, payload) in enumerate(datagrams):
        writer.datagram(source, Datagram("", payload, NOW + step))
    writer.attach("show.toml", b'name = "x"\n', "application/toml", NOW)
    writer.metadata("take", {"scene": "12", "take": "3"})
    if has_sample:  # its schema has more bytes than all the rest
        writer.sample(SAMPLE)
    writer.flush()
    writer.close()
    found = [(f"/datagrams/{0 if source == freed else 1}", payload) for source, payload in datagrams]
    return [*found, "show.toml", "take", *([("/samples/A", msgspec.json.encode(SAMPLE))] if has_sample else [])]


def told(record: Message | Attachment | Metadata):
    return (record.channel.topic, record.data) if isinstance(record, Message) else record.name


def read(path: Path) -> tuple[list, TakeReader]:
    reader = TakeReader(path)
    return [told(record) for record in reader.records()][1:], reader


def record_ends(data: bytes) -> list[int]:
    """Where each record of the file ends, by MCAP's framing: opcode u8, length u64, little-endian, after 8 bytes of magic."""
    ends, at = [], 8
    while at + 9 <= len(data) - 8:
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
        ends.append(at)
    return ends


# ---- what is written is read


def test_a_take_gives_back_what_was_put_in_in_its_order(tmp_path):
    expected = small_take(tmp_path / "a.mcap")
    found, reader = read(tmp_path / "a.mcap")
    assert found == expected
    assert reader.is_complete and reader.lost_bytes == 0 and reader.trouble == ""


def test_a_message_says_where_it_is_from_how_it_was_read_and_when(tmp_path):
    small_take(tmp_path / "a.mcap")
    messages = [record for record in TakeReader(tmp_path / "a.mcap").records() if isinstance(record, Message)]
    source = source_of(messages[0].channel)
    assert (source.uri, source.protocol, source.reading) == (URI, "freed", READING)
    assert [message.log_time_ns for message in messages[:4]] == [NOW, NOW + 1, NOW + 2, NOW + 3]
    assert sample_of(messages[4]) == SAMPLE
    assert (messages[4].log_time_ns, messages[4].publish_time_ns) == (SAMPLE.received_at_ns, SAMPLE.captured_at_ns)


def test_the_mcap_library_reads_a_take(tmp_path):
    expected = small_take(tmp_path / "a.mcap")
    with open(tmp_path / "a.mcap", "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = [(channel.topic, message.data) for _, channel, message in reader.iter_messages(log_time_order=False)]
        summary = reader.get_summary()
        [attachment] = reader.iter_attachments()
    assert found == [what for what in expected if isinstance(what, tuple)]
    assert summary.statistics.message_count == 5 and summary.statistics.channel_count == 3
    assert (attachment.name, attachment.data) == ("show.toml", b'name = "x"\n')


def test_samples_are_valid_by_the_schema_that_lies_beside_them(tmp_path):
    small_take(tmp_path / "a.mcap")
    with open(tmp_path / "a.mcap", "rb") as file:
        [(schema, _, message)] = make_reader(file).iter_messages(topics=["/samples/A"])
    assert schema.encoding == "jsonschema" and b"$ref" not in schema.data
    validate = fastjsonschema.compile(msgspec.json.decode(schema.data))
    validate(msgspec.json.decode(message.data))
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate({"camera_id": "A"})


@pytest.mark.parametrize("compression", CompressionType, ids=lambda c: c.name.lower())
def test_chunks_and_topics_of_other_programs_are_read_or_passed_over(tmp_path, compression):
    out = BytesIO()
    writer = Writer(out, chunk_size=200, compression=compression)
    writer.start()
    facts = {"uri": "osc+udp://:9000", "protocol": "osc", "reading": "{}"}
    ours = writer.register_channel("/datagrams/0", "application/octet-stream", 0, facts)
    other = writer.register_channel("/lidar", "cdr", 0)
    for step in range(20):
        writer.add_message(ours, NOW + step, bytes([step]) * 30, NOW)
        writer.add_message(other, NOW + step, b"?" * 50, NOW)
    writer.finish()
    (tmp_path / "a.mcap").write_bytes(out.getvalue())
    reader = TakeReader(tmp_path / "a.mcap")
    found = [record for record in reader.records() if record.channel.topic == "/datagrams/0"]
    assert [message.data for message in found] == [bytes([step]) * 30 for step in range(20)]
    assert reader.is_complete
    # a flipped byte is noticed, in a chunk by its checksum; what came before is kept
    bad = bytearray(out.getvalue())
    bad[len(bad) // 3] ^= 0xFF
    (tmp_path / "a.mcap").write_bytes(bad)
    reader = TakeReader(tmp_path / "a.mcap")
    assert 0 < len(list(reader.records())) < 40
    assert not reader.is_complete and reader.trouble


@pytest.mark.parametrize(
    ("protocol", "reading"),
    [
        ("freed", READING),
        ("freed", Reading()),
        ("osc", Reading(osc_map=preset_map("vmc", (24.0, 18.0)), clock="source")),
        ("psn", Reading(profile=PsnProfile(axes="x -z y", camera_id="name"))),
        ("opentrackio", Reading(encoding="cbor", cameras={"7": "B"})),
    ],
)
def test_a_reading_comes_back_as_it_was(protocol, reading):
    assert reading_from_json(reading_to_json(reading), protocol, "take", "/datagrams/0") == reading


@pytest.mark.parametrize(
    ("text", "protocol", "message"),
    [
        ("[]", "osc", "reading: expected a reading as JSON"),
        ("{", "osc", "reading: expected a reading as JSON"),
        ('{"lens": 3}', "osc", "unknown field `lens`"),
        ('{"profile": "fast"}', "freed", "profile: expected one of raw"),
        ('{"osc_map": {"messages": []}}', "osc", "messages"),
    ],
)
def test_a_reading_that_makes_no_sense_is_explained(text, protocol, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        reading_from_json(text, protocol, "take.mcap", "/datagrams/0")


# ---- what is cut or damaged


def test_a_take_that_is_cut_anywhere_gives_back_all_whole_records_before(tmp_path):
    expected = small_take(tmp_path / "a.mcap", has_sample=False)
    data = (tmp_path / "a.mcap").read_bytes()
    ends, whole = record_ends(data), tmp_path / "cut.mcap"
    # records in the file: header, our facts, then those of `small_take`, channels and schemas among them
    kinds = [data[8]] + [data[end] for end in ends[:-1]]
    data_kinds = {5: True, 9: True, 12: True}  # message, attachment, metadata
    for size in range(8, len(data)):
        whole.write_bytes(data[:size])
        found, reader = read(whole)
        last = max((end for end in ends if end <= size), default=8)
        count = sum(kind in data_kinds for kind, end in zip(kinds, ends) if end <= size)
        assert found == expected[: max(count - 1, 0)], size
        assert not reader.is_complete and reader.trouble
        is_in_footer = size > ends[-1] - 1  # the footer is nothing without the magic bytes after it
        assert reader.lost_bytes == size - (ends[-2] if is_in_footer else last), size


@pytest.mark.parametrize(
    "data", [b"", b"\x89MCAP0\r", b"time_s,x,y\n0,0,0\n", b"\0" * 100], ids=["empty", "short", "csv", "zeros"]
)
def test_what_is_no_take_is_refused(tmp_path, data):
    (tmp_path / "a.mcap").write_bytes(data)
    with pytest.raises(ConfigError, match="expected an MCAP file"):
        TakeReader(tmp_path / "a.mcap")


def test_flipped_bytes_raise_nothing(tmp_path):
    expected = small_take(tmp_path / "a.mcap", has_sample=False)
    data, r = (tmp_path / "a.mcap").read_bytes(), random.Random(1)
    for _ in range(1000):
        bad = bytearray(data)
        for _ in range(r.randint(1, 4)):
            bad[r.randrange(8, len(bad))] = r.randrange(256)
        (tmp_path / "b.mcap").write_bytes(bad)
        reader = TakeReader(tmp_path / "b.mcap")
        assert len(list(reader.records())) <= len(expected) + 1
        assert reader.is_complete or reader.trouble


def test_a_take_is_never_written_over(tmp_path):
    small_take(tmp_path / "a.mcap")
    with pytest.raises(ConfigError, match="no take is ever written over"):
        TakeWriter(tmp_path / "a.mcap")
    assert read(tmp_path / "a.mcap")[1].is_complete


WRITES_FOR_EVER = """
import sys, time
from ledvolume.recording import TakeWriter
from ledvolume.sources import Datagram
writer = TakeWriter(sys.argv[1])
source = writer.source("osc+udp://:9000", "osc")
for n in range(10**9):
    writer.datagram(source, Datagram("", n.to_bytes(8, "big") * 20, n))
    writer.flush()
    print(n, flush=True)
"""


def test_kill_9_loses_nothing_that_was_flushed(tmp_path):
    words = [sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path / "a.mcap")]
    writer = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = [int(writer.stdout.readline()) for _ in range(200)]
    writer.send_signal(signal.SIGKILL)
    said += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    found, reader = read(tmp_path / "a.mcap")
    assert len(found) >= len(said) >= 200
    assert [int.from_bytes(data[:8], "big") for _, data in found] == list(range(len(found)))
    assert not reader.is_complete


FILLS_THE_DISK = """
import resource, sys
from ledvolume.errors import OutputError
from ledvolume.recording import TakeWriter
from ledvolume.sources import Datagram
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
writer = TakeWriter(sys.argv[1])
source = writer.source("osc+udp://:9000", "osc")
try:
    for n in range(1000):
        writer.datagram(source, Datagram("", bytes(100), n))
        writer.flush()
except OutputError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_what_was_written_is_read(tmp_path):
    words = [sys.executable, "-c", FILLS_THE_DISK, str(tmp_path / "a.mcap")]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "File too large after 4000 bytes: what is there can be read" in said
    found, reader = read(tmp_path / "a.mcap")
    assert len(found) > 20 and 0 < reader.lost_bytes < 140


# ---- the command


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def recording(*words: str) -> subprocess.Popen:
    """`ledvolume record`, which listens by the time that this returns."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "ledvolume", "record", *words]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("to "):
            break
    return process


def test_what_sockets_give_is_recorded_and_converts_to_what_was_sent(tmp_path, capsys):
    osc, freed = f"osc+udp://127.0.0.1:{free_port()}", f"freed+udp://127.0.0.1:{free_port()}"
    take = str(tmp_path / "take.mcap")
    recorder = recording(osc, freed, "--profile", "z-cam", "--out", take)
    to_osc, to_freed = open_sender(osc), open_sender(freed)
    encode_osc, encode_freed = open_encoder("osc"), open_encoder("freed", profile="z-cam")
    sent = []
    for step in range(40):
        at_ns = time.time_ns()
        lens = LensReading(focal_length_mm=24.0 + step)
        a = CameraSample("A", at_ns, at_ns, Pose((0.8, 0.0, 0.0, 0.6), (step / 8, -2.0, 1.5)), lens)
        seven = CameraSample("7", at_ns, at_ns, Pose((0.8, 0.0, 0.0, 0.6), (step / 8, 2.0, 1.5)), lens)
        for sender, payloads in ((to_osc, encode_osc(a)), (to_freed, encode_freed(seven))):
            for payload in payloads:
                sender.send(payload)
        sent.append(a)
        time.sleep(0.005)
    to_osc.send(b"/no")
    time.sleep(0.3)
    recorder.send_signal(signal.SIGINT)
    told = recorder.stderr.read()
    assert recorder.wait(timeout=10) == 0
    assert "41 datagrams" in told and "40 poses, 1 refused" in told
    found, reader = read(Path(take))
    assert reader.is_complete
    # byte for byte
    of_osc = [what[1] for what in found if what[0] == "/datagrams/0"]
    assert of_osc == [payload for a in sent for payload in encode_osc(a)] + [b"/no"]
    assert main(["convert", take, str(tmp_path / "a.csv"), "--camera", "A"]) == 0
    assert f"{osc}: 1 " in capsys.readouterr().out
    track = load_track(tmp_path / "a.csv")
    assert [s.captured_at_ns for s in track.samples] == [a.captured_at_ns for a in sent]
    assert [s.world_from_tracker.position_m for s in track.samples] == [a.world_from_tracker.position_m for a in sent]
    # floats of 32 bits on the wire
    assert [s.lens.focal_length_mm for s in track.samples] == pytest.approx([24.0 + step for step in range(40)], rel=1e-7)
    # the other camera through the profile that the take remembers: 1/64 mm, focal lengths of 1/100 mm, stamped on arrival
    seven = load_track(take).of_camera("7").samples
    assert [s.world_from_tracker.position_m[0] for s in seven] == [round(step / 8 * 64_000) / 64_000 for step in range(40)]
    assert [s.lens.focal_length_mm for s in seven] == [24.0 + step for step in range(40)]
    assert all(s.captured_at_ns == s.received_at_ns for s in seven)


def test_record_takes_the_sources_of_a_show_and_the_show_with_them(tmp_path):
    port = free_port()
    text = (ROOT / "configs" / "demo.toml").read_text()
    show = tmp_path / "my.toml"
    places = ROOT / "configs" / "places"
    show.write_text(text.replace('"places/', f'"{places}/').replace("osc+udp://127.0.0.1:9000", f"osc+udp://127.0.0.1:{port}"))
    recorder = recording("--show", str(show), "--out", str(tmp_path / "take.mcap"), "--seconds", "1.5")
    sender = open_sender(f"osc+udp://127.0.0.1:{port}")
    for payload in open_encoder("osc")(SAMPLE):
        sender.send(payload)
    recorder.stderr.read()
    assert recorder.wait(timeout=10) == 0
    records = list(TakeReader(tmp_path / "take.mcap").records())
    [attached] = [record for record in records if isinstance(record, Attachment)]
    assert (attached.name, attached.data) == ("my.toml", show.read_bytes())
    [message] = [record for record in records if isinstance(record, Message)]
    assert source_of(message.channel).uri == f"osc+udp://127.0.0.1:{port}"


def test_a_take_is_decoded_as_it_was_live(tmp_path):
    """The same decoder, the same reading, the same arrival: the same samples, refusals included."""
    encode, live = open_encoder("freed", profile="z-cam"), open_decoder("freed", **msgspec.structs.asdict(READING))
    writer = TakeWriter(tmp_path / "a.mcap")
    source, expected = writer.source(URI, "freed", READING), []
    for step in range(30):
        [payload] = encode(CameraSample("1", NOW, NOW, Pose(position_m=(step / 100, 0.0, 1.0)), LensReading(f_stop=2.8)))
        datagram = Datagram(URI, payload[:-1] if step == 10 else payload, NOW + step * 20_000_000)
        writer.datagram(source, datagram)
        expected += live.decode(datagram)
    writer.close()
    track = load_track(tmp_path / "a.mcap")
    assert len(expected) == 29 and track.cameras == ("A",)
    assert list(track.samples) == expected
    assert track.notes == (f"{URI}: 1 wrong-length",)


def test_a_take_that_was_cut_is_converted_and_said(tmp_path, capsys):
    writer = TakeWriter(tmp_path / "b.mcap")
    for step in range(20):
        writer.sample(msgspec.structs.replace(SAMPLE, captured_at_ns=NOW + step * 10**7, received_at_ns=NOW + step * 10**7))
    writer.flush()
    data = (tmp_path / "b.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[:-5])
    assert main(["convert", str(tmp_path / "cut.mcap"), str(tmp_path / "c.csv")]) == 0
    told = capsys.readouterr().out
    assert "camera A, 19 samples in 0.180 s" in told
    assert re.search(r"cut off in a record: \d+ bytes at its end are lost, all before them is read", told)
    writer.close()
