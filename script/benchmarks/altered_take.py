"""A take with one thing in it changed, written anew by the MCAP library: the file itself is whole, and opens as the first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
from mcap.records import Attachment, Channel, DataEnd, Header, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer

from ledvolume.take import FRAMES, FrameRecord

Change = Callable[[McapRecord, str], McapRecord]


def altered(take: Path, to: Path, change: Change) -> Path:
    """change(record, topic): the record that is to be in its place. topic: of a message, else ""."""
    schemas, channels, topics = {0: 0}, {}, {}
    with open(take, "rb") as source, open(to, "wb") as target:
        writer = Writer(target, use_chunking=False)
        for record in StreamReader(source).records:
            record = change(record, topics[record.channel_id] if isinstance(record, Message) else "")
            match record:
                case Header():
                    writer.start(record.profile, record.library)
                case Schema():
                    schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
                case Channel():
                    topics[record.id], schema = record.topic, schemas[record.schema_id]
                    channels[record.id] = writer.register_channel(record.topic, record.message_encoding, schema, record.metadata)
                case Message():
                    channel = channels[record.channel_id]
                    writer.add_message(channel, record.log_time, record.data, record.publish_time, record.sequence)
                case Attachment():
                    writer.add_attachment(record.create_time, record.log_time, record.name, record.media_type, record.data)
                case Metadata():
                    writer.add_metadata(record.name, record.metadata)
                case DataEnd():
                    break
        writer.finish()
    return to


def message_changed(topics: str, number: int, change: Callable[[bytes], bytes]) -> Change:
    """Of the messages whose topic begins so, the one with this number, from 0."""
    left = number

    def changed(record: McapRecord, topic: str) -> McapRecord:
        nonlocal left
        if not topic.startswith(topics) or not topic:
            return record
        left -= 1
        return replace(record, data=change(record.data)) if left == -1 else record

    return changed


def frame_changed(number: int, change: Callable[[FrameRecord], FrameRecord]) -> Change:
    """The record of one frame, counted from 0."""
    decode, encode = msgspec.msgpack.Decoder(FrameRecord).decode, msgspec.msgpack.Encoder().encode
    return message_changed(FRAMES, number, lambda data: encode(change(decode(data))))


def facts_changed(name: str, **facts: str) -> Change:
    """Values of the metadata of this name."""

    def changed(record: McapRecord, topic: str) -> McapRecord:
        if not isinstance(record, Metadata) or record.name != name:
            return record
        return replace(record, metadata={**record.metadata, **facts})

    return changed
