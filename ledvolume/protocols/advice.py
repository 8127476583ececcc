"""What to check when a decoder refuses (ProtocolError.reason) or flags what it takes: in words for people on set.

The one place for these words, for `listen` and `serve`; docs/tracking.md has the same in short. Tests look that none is missing.
"""

_OTHER = "another program sends to this port, or the sender is broken; is the protocol of the address right?"
_MAP = "the sender's message is not what the map says: its arguments, their order and types"
_LOST = "the tracker has lost the camera and says so"
_DAMAGED = "damaged on the way, or the sender computes the checksum otherwise"

WHAT_TO_CHECK = {
    **dict.fromkeys(("empty", "truncated", "unparsable"), _OTHER),
    **dict.fromkeys(("not-osc", "bad-bundle", "bad-address", "bad-type-tags", "not-msgpack"), _OTHER),
    **dict.fromkeys(("not-freed", "wrong-length", "not-opentrackio", "not-json", "not-cbor", "bad-length", "not-psn"), _OTHER),
    **dict.fromkeys(("argument-count", "argument-type"), _MAP),
    "bad-fields": "a field is missing or of another type: another program, or a sender of another version",
    "not-finite": f"{_LOST} with NaN",
    "not-tracked": f"{_LOST}: validity 0",
    "no-position": f"{_LOST}, or sends no position",
    "not-a-rotation": "the quaternion is not of length 1: its order, or Euler angles in its place",
    "too-far": "more than 10 km: are millimetres sent as metres?",
    "bad-stamp": 'its clock is not the house clock: PTP, or clock = "source" (listen: --clock source)',
    "bad-lens": "out of the range of any lens: the unit, or the order of the arguments",
    "bad-camera-id": "no name, or one of more than 64 characters",
    "incomplete-pose": "a part of a pose in several messages was lost, or is never sent",
    "too-many-cameras": "parts of poses under ever new names: does the * of the map name the camera?",
    "bad-checksum": _DAMAGED,
    "bad-encoding": "OpenTrackIO's header says neither JSON nor CBOR",
    "bad-source-number": "OpenTrackIO counts sources from 1 to 200: set one in the tracker",
    "bad-transform": "a transform without numbers for translation and rotation",
    "lost-segment": "a part of a sample was lost in the network, or two senders of segments share a group and port",
    "too-large": "a sample of more than 64 kB",
    "no-header": "a PosiStageNet packet without its header",
    "bad-version": "PosiStageNet 1: set the sender to version 2",
    "bad-orientation": "no axis times an angle: are these degrees, or Euler angles?",
    "bad-name": "a tracker's name that is no UTF-8",
}

WHAT_IT_MEANS = {
    "sequence-gap": "messages were lost on the way, or came out of order",
    "lens-out-of-range": "the profile's range of raw numbers is not this lens': see the numbers at both ends of the ring",
    "lens-value": "that value is left out, the pose is used",
    "distortion": "the distortion is left out, the pose is used",
    "status": "the status is left out, the pose is used",
    "timecode": "the timecode is left out, the pose is used",
    "sample-timestamp": "taken as captured when it arrived",
    "scale": "a transform's scale is not applied",
    "schema-invalid": "SMPTE's schema forbids something in it; it is used all the same",
    "no-header": "bare JSON without OpenTrackIO's header is taken",
    "checksum-1.0.0": "the checksum of OpenTrackIO 1.0.0 is taken",
    "no-version": "read as OpenTrackIO 1.0.1",
    "not-locked": "the tracker has lost its sync: genlock, or the PTP leader",
    "more-than-a-turn": "are these degrees? PosiStageNet has radians",
}


def what_to_check(reason: str) -> str:
    """What to look at when messages are refused for this reason."""
    return WHAT_TO_CHECK.get(reason, "docs/tracking.md says what to check")


def what_it_means(flag: str) -> str:
    """What was done about messages with this flag."""
    if flag.startswith("version-"):
        return f"read as OpenTrackIO 1.0.1, though it says {flag.removeprefix('version-')}"
    return WHAT_IT_MEANS.get(flag, "docs/tracking.md says what it means")
