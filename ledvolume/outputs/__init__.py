"""Where frames go. An output is a URI in the show file and an object with three methods:

    send(frame: Frame)                hand the frame over; a live output never waits
    counters() -> dict[str, int]      what went out, for the live line and the summary
    close()                           send what is under way, then let go

A new one is a module and a line in OUTPUTS.
"""

from pathlib import Path
from typing import Protocol

from ledvolume.errors import OutputError
from ledvolume.frame import Frame
from ledvolume.outputs.cues import CuesOutput
from ledvolume.outputs.dmx import DmxOutput
from ledvolume.outputs.images import ImagesOutput
from ledvolume.outputs.stream import StreamOutput


class Output(Protocol):
    """What the server's loop needs of an output."""

    uri: str

    def send(self, frame: Frame) -> None: ...

    def counters(self) -> dict[str, int]: ...

    def close(self) -> None: ...


OUTPUTS = {
    "stream": StreamOutput,
    "images": ImagesOutput,
    "cues": CuesOutput,
    "sacn": DmxOutput,
    "artnet": DmxOutput,
}
"""URI scheme → constructor of (uri, folder)."""


def open_output(uri: str, folder: Path = Path()) -> Output:
    """The output that `uri` names. Relative files in it are relative to `folder`, the show's."""
    scheme = uri.partition(":")[0]
    if scheme not in OUTPUTS:
        raise OutputError(f"{uri}: unknown kind of output {scheme!r}; expected one of {', '.join(sorted(OUTPUTS))}")
    return OUTPUTS[scheme](uri, folder)
