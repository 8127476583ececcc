"""Every error that ledvolume raises on purpose.

    LedvolumeError
    ├── ConfigError        a show, stage or scene file: file, key path, expected, got
    ├── ProtocolError      a datagram that is not what its protocol says: protocol, reason, payload
    ├── MotionError        a camera that did not move as the wizard asked: steps to ask again
    ├── CalibrationError   photographs that do not say where things are: what was seen, what to do
    ├── CheckpointError    a nerfstudio run that cannot be read, or not safely
    ├── SceneError         a baked scene that cannot be loaded or does not fit its header
    ├── RenderError        no usable OpenGL, a shader that does not compile, a limit of the driver
    └── OutputError        frames cannot be sent or received

The most specific one is raised, with the value seen and the value expected, in words for people on set.
"""


class LedvolumeError(Exception):
    """Base of all errors that carry a message for the operator."""


class ConfigError(LedvolumeError):
    """A configuration file that says something we cannot take literally."""

    def __init__(self, file, key: str, expected: str, got: object):
        self.file, self.key, self.expected, self.got = str(file), key, expected, got
        super().__init__(f"{file}: {key}: expected {expected}, got {got!r}")


class ProtocolError(LedvolumeError):
    """A datagram that cannot be decoded. `reason` is a short stable word for counting (`truncated`, `bad-address`)."""

    def __init__(self, protocol: str, reason: str, message: str, payload: bytes = b""):
        self.protocol, self.reason, self.message, self.payload = protocol, reason, message, payload
        super().__init__(f"{protocol}: {reason}: {message}")


class MotionError(LedvolumeError):
    """Motions that do not say what they were asked for. `steps`: those to do again; none if doing them again cannot help."""

    def __init__(self, message: str, steps: tuple[str, ...] = ()):
        self.steps = steps
        super().__init__(message)


class CalibrationError(LedvolumeError):
    """Photographs, matches or a stage that cannot be calibrated from. The message says what was seen and what to do."""


class CheckpointError(LedvolumeError):
    """A nerfstudio run directory that cannot be read."""


class SceneError(LedvolumeError):
    """A baked scene that cannot be loaded."""


class RenderError(LedvolumeError):
    """OpenGL is missing, too old or refused what was asked of it."""


class OutputError(LedvolumeError):
    """Frames cannot be sent or received."""
