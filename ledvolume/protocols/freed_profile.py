"""What a vendor puts into FreeD's numbers: the standard leaves zoom, focus and the spare bytes open, and vendors differ
in signs and axes too. A show says it by name, `profile = "z-cam"`, or in a table:

    [source.profile]
    based_on = "raw"             # a built-in profile; the keys below replace its own
    axes = "x y z"               # our x, y, z (right, forward, up) in the sender's axes
    pan_sign = 1                 # -1: turns the other way than the standard says (there pan + is right); also tilt_, roll_
    position_unit = "mm"         # of what the standard has in mm: m cm mm in ft
    zoom = {means = "focal_length mm", raw = [0, 100], values = [0, 1]}
    focus = {means = "focus_encoder", raw = [0, 65535]}
    spare = [{means = "f_stop", raw = [0, 100], values = [0, 1], bits = [0, 12]}]

A number means one of MEANINGS; raw[0] stands for values[0], raw[1] for values[1], on a straight line (values: 0 to 1 if
left out). bits: the lowest one and how many, where not the whole number counts. Encoders end at 0 and 1, as real ones end
at their stops; what is beyond is counted as a flag. What no lens can be, such as 0 mm, is not reported and counted too.
"""

import math
from typing import Annotated, Literal

import msgspec

from ledvolume.camera import LensReading
from ledvolume.errors import ConfigError
from ledvolume.protocols.axes import named_axes
from ledvolume.protocols.decoder import LENS_RANGES

# meaning: field of LensReading, our unit of the sender's
MEANINGS = {
    "zoom_encoder": ("zoom_encoder", 1.0),
    "focus_encoder": ("focus_encoder", 1.0),
    "iris_encoder": ("iris_encoder", 1.0),
    "focal_length mm": ("focal_length_mm", 1.0),
    "focus_distance m": ("focus_distance_m", 1.0),
    "f_stop": ("f_stop", 1.0),
    "fov_vertical deg": ("focal_length_mm", math.pi / 180),
    "fov_horizontal deg": ("focal_length_mm", math.pi / 180),
    "sequence": ("", 1.0),
    "skip": ("", 1.0),
}
UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
Unit = Literal["m", "cm", "mm", "in", "ft"]
Sign = Literal[-1, 1]


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one number of the wire means. `sequence` counts messages and wraps at its bits."""

    means: str
    raw: tuple[int, int] = (0, 0xFFFFFF)
    values: tuple[float, float] = (0.0, 1.0)
    bits: tuple[Annotated[int, msgspec.Meta(ge=0, le=23)], Annotated[int, msgspec.Meta(ge=1, le=24)]] = (0, 24)

    def cut(self, word: int) -> int:
        """Its bits of the wire's number."""
        return word >> self.bits[0] & (1 << self.bits[1]) - 1

    def value_of(self, word: int) -> float:
        """In the unit of `means`."""
        (raw_a, raw_b), (a, b) = self.raw, self.values
        return a + (self.cut(word) - raw_a) * (b - a) / (raw_b - raw_a)

    def word_of(self, value: float) -> int:
        """The inverse, rounded, in its place; values that do not fit raise ConfigError."""
        (raw_a, raw_b), (a, b) = self.raw, self.values
        raw = round(raw_a + (value - a) * (raw_b - raw_a) / (b - a))
        if not 0 <= raw < 1 << self.bits[1]:
            raise ConfigError("freed", self.means, f"what {self.bits[1]} bits hold by this profile", value)
        return raw << self.bits[0]


class FreedProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one vendor's FreeD is read."""

    axes: str = "x y z"
    pan_sign: Sign = 1
    tilt_sign: Sign = 1
    roll_sign: Sign = 1
    position_unit: Unit = "mm"
    zoom: Number = Number("zoom_encoder")
    focus: Number = Number("focus_encoder")
    spare: tuple[Number, ...] = ()


# raw: every step of 24 bits. z-cam: Z CAM's notes (P2-R1 and others): focal length in 1/100 mm, focus in 1/10 mm, F-number
# and a counter in the spare bits. The others: the ranges of Unreal's LiveLinkFreeD for these makes; which end is far, and
# what a lens reaches of them, differs between models: check with `ledvolume listen`.
PROFILES = {
    "raw": FreedProfile(),
    "z-cam": FreedProfile(
        zoom=Number("focal_length mm", (0, 100), (0.0, 1.0)),
        focus=Number("focus_distance m", (0, 10_000), (0.0, 1.0)),
        spare=(Number("f_stop", (0, 100), (0.0, 1.0), (0, 12)), Number("sequence", bits=(12, 4))),
    ),
    "panasonic": FreedProfile(
        zoom=Number("zoom_encoder", (0x555, 0xFFF), bits=(0, 16)),
        focus=Number("focus_encoder", (0x555, 0xFFF), bits=(0, 16)),
        spare=(Number("iris_encoder", (0x555, 0xFFF), bits=(0, 16)),),
    ),
    "sony": FreedProfile(
        zoom=Number("zoom_encoder", (0, 0x7AC0), bits=(0, 16)),
        focus=Number("focus_encoder", (0x1000, 0xF000), bits=(0, 16)),
        spare=(Number("iris_encoder", (0, 0xFFF), bits=(0, 12)),),
    ),
    "mo-sys": FreedProfile(
        zoom=Number("zoom_encoder", (0, 0xFFFF), bits=(0, 16)), focus=Number("focus_encoder", (0, 0xFFFF), bits=(0, 16))
    ),
}


def as_profile(profile: str | dict | FreedProfile | None, file: str = "freed", key: str = "profile") -> FreedProfile:
    """A profile by name, or from a table of a show file, checked. Raises ConfigError."""
    profile = "raw" if profile is None else profile
    if isinstance(profile, str) and profile in PROFILES:
        return PROFILES[profile]
    if not isinstance(profile, dict | FreedProfile):
        raise ConfigError(file, key, f"one of {', '.join(PROFILES)}, or a table", profile)
    if isinstance(profile, dict):
        changes = dict(profile)
        base = changes.pop("based_on", "raw")
        if not isinstance(base, str) or base not in PROFILES:
            raise ConfigError(file, f"{key}.based_on", f"one of {', '.join(PROFILES)}", base)
        try:
            profile = msgspec.convert(msgspec.to_builtins(PROFILES[base]) | changes, FreedProfile)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `$")
            raise ConfigError(file, key + where.rstrip("`"), f"a FreeD profile (docs/tracking.md): {message}", changes) from None
    named_axes(profile.axes, file, f"{key}.axes")
    _check(profile.zoom, file, f"{key}.zoom", 24)
    _check(profile.focus, file, f"{key}.focus", 24)
    for i, number in enumerate(profile.spare):
        _check(number, file, f"{key}.spare[{i}]", 16)
    return profile


def lens_values(profile: FreedProfile, zoom: int, focus: int, spare: int, sensor_mm, flag) -> LensReading:
    """What the three numbers of a message say of the lens. `flag(kind, text)` hears of what they cannot mean."""
    fields: dict[str, float] = {}
    for number, word in ((profile.zoom, zoom), (profile.focus, focus), *((number, spare) for number in profile.spare)):
        field, unit = MEANINGS[number.means]
        if not field:
            continue
        value = number.value_of(word) * unit
        if number.means.startswith("fov"):
            if sensor_mm is None:
                continue
            side_mm = sensor_mm[number.means.startswith("fov_vertical")]
            value = side_mm / 2 / math.tan(value / 2) if 0 < value < math.pi else 0.0
        lowest, highest = LENS_RANGES[field]
        if not lowest <= value <= highest:
            flag("lens-out-of-range", f"{number.means}: {number.cut(word)} of the wire is outside {number.raw} of the profile")
            if not field.endswith("_encoder"):
                continue
            value = min(max(value, lowest), highest)
        fields[field] = value
    return LensReading(**fields)


def lens_words(profile: FreedProfile, lens: LensReading, sensor_mm, sequence: int) -> tuple[int, int, int]:
    """zoom, focus and spare of the wire that say this lens; what it does not report is 0. Raises ConfigError."""
    words = []
    for numbers in ((profile.zoom,), (profile.focus,), profile.spare):
        word = 0
        for number in numbers:
            field, unit = MEANINGS[number.means]
            if number.means == "sequence":
                word |= number.cut(sequence << number.bits[0]) << number.bits[0]
            if not field:
                continue
            value = getattr(lens, field)
            if value is not None and number.means.startswith("fov"):
                side_mm = sensor_mm and sensor_mm[number.means.startswith("fov_vertical")]
                value = 2 * math.atan(side_mm / 2 / value) if side_mm else None
            if value is not None:
                word |= number.word_of(value / unit)
        words.append(word)
    return tuple(words)


def sequence_of(profile: FreedProfile, spare: int) -> tuple[int, int] | None:
    """(the message's number, where it wraps), if the profile has one."""
    for number in profile.spare:
        if number.means == "sequence":
            return number.cut(spare), 1 << number.bits[1]
    return None


def _check(number: Number, file: str, key: str, width: int) -> None:
    if number.means not in MEANINGS:
        raise ConfigError(file, f"{key}.means", f"one of {', '.join(MEANINGS)}", number.means)
    if number.means == "sequence" and (width != 16 or number.bits[1] > 16):
        raise ConfigError(file, f"{key}.means", "a sequence in some bits of the spare bytes only", number)
    if number.raw[0] == number.raw[1] or number.values[0] == number.values[1]:
        raise ConfigError(file, key, "two different raw numbers, two different values", (number.raw, number.values))
    if not all(map(math.isfinite, number.values)) or max(map(abs, number.raw)) > 1 << 24:
        raise ConfigError(file, key, "finite values, raw numbers of 24 bits", (number.raw, number.values))
    if number.bits != (0, 24) and sum(number.bits) > width:
        raise ConfigError(file, f"{key}.bits", f"[lowest bit, how many] within {width} bits", number.bits)
