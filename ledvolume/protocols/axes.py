"""Whose x, y, z? A sender's axes as a show names them, "x -z y": our x, y, z (right, forward, up) in the sender's axes.

A rotation about axis v is, seen in other axes M, one about M·v. Where M mirrors, it turns the other way.
"""

from typing import NamedTuple

from ledvolume.errors import ConfigError
from ledvolume.pose import Vec3


class Axes(NamedTuple):
    """signed: for our x, y, z the index of the sender's axis and its sign. is_mirrored: theirs are left-handed."""

    signed: tuple[tuple[int, float], ...]
    is_mirrored: bool

    def ours(self, v: Vec3) -> Vec3:
        """A vector of the sender's axes in ours."""
        (i, a), (j, b), (k, c) = self.signed
        return (a * v[i], b * v[j], c * v[k])

    def theirs(self, v: Vec3) -> Vec3:
        """The inverse of `ours`."""
        out = [0.0, 0.0, 0.0]
        for value, (index, sign) in zip(v, self.signed):
            out[index] = sign * value
        return tuple(out)

    def turn_ours(self, v: Vec3) -> Vec3:
        """A rotation vector (axis times angle, or the vector part of a quaternion) of the sender's axes in ours."""
        x, y, z = self.ours(v)
        return (-x, -y, -z) if self.is_mirrored else (x, y, z)

    def turn_theirs(self, v: Vec3) -> Vec3:
        """The inverse of `turn_ours`."""
        x, y, z = self.theirs(v)
        return (-x, -y, -z) if self.is_mirrored else (x, y, z)


def named_axes(text: str, file: str, key: str) -> Axes:
    """The axes that a show names. Raises ConfigError."""
    parts = text.split()
    if sorted(part.removeprefix("-") for part in parts) != ["x", "y", "z"]:
        raise ConfigError(file, key, 'each of x y z once, - for the other way, such as "x -z y"', text)
    signed = tuple(("xyz".find(part[-1:]), -1.0 if part.startswith("-") else 1.0) for part in parts)
    permutation_is_odd = tuple(i for i, _ in signed) in ((0, 2, 1), (1, 0, 2), (2, 1, 0))
    return Axes(signed, (signed[0][1] * signed[1][1] * signed[2][1] < 0) != permutation_is_odd)
