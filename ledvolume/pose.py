"""Rigid transforms and similarities. `a_from_b` takes points of frame b to frame a: p_a = R p_b + t.

Frames are listed in docs/frames.md. Quaternions are Hamilton, scalar first (w, x, y, z), unit, w >= 0.
"""

import math

import msgspec
import numpy as np

Vec3 = tuple[float, float, float]
Quat = tuple[float, float, float, float]


class Pose(msgspec.Struct, frozen=True):
    """A rigid transform: rotation `wxyz`, translation `position_m`."""

    wxyz: Quat = (1.0, 0.0, 0.0, 0.0)
    position_m: Vec3 = (0.0, 0.0, 0.0)

    def __matmul__(self, other: "Pose") -> "Pose":
        """a_from_c = a_from_b @ b_from_c."""
        x, y, z = rotate(self.wxyz, other.position_m)
        px, py, pz = self.position_m
        return Pose(canonical(multiply(self.wxyz, other.wxyz)), (px + x, py + y, pz + z))

    def inverse(self) -> "Pose":
        w, x, y, z = self.wxyz
        conjugate = (w, -x, -y, -z)
        tx, ty, tz = rotate(conjugate, self.position_m)
        return Pose(conjugate, (-tx, -ty, -tz))

    def apply(self, point_m: Vec3) -> Vec3:
        x, y, z = rotate(self.wxyz, point_m)
        px, py, pz = self.position_m
        return (px + x, py + y, pz + z)

    def matrix(self) -> np.ndarray:
        """(4, 4) float64, homogeneous."""
        m = np.eye(4)
        m[:3, :3] = rotation_matrix(self.wxyz)
        m[:3, 3] = self.position_m
        return m


class Similarity(msgspec.Struct, frozen=True):
    """p_a = scale · R p_b + t. Only scenes have one: `field_from_stage`, scale in field units per metre."""

    pose: Pose = Pose()
    scale: float = 1.0

    def matrix(self) -> np.ndarray:
        """(4, 4) float64, homogeneous."""
        m = self.pose.matrix()
        m[:3, :3] *= self.scale
        return m


def multiply(a: Quat, b: Quat) -> Quat:
    """Hamilton product: rotate by b, then by a."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def rotate(q: Quat, v: Vec3) -> Vec3:
    """v + 2w(u × v) + 2u × (u × v) for q = (w, u)."""
    w, x, y, z = q
    vx, vy, vz = v
    tx, ty, tz = 2 * (y * vz - z * vy), 2 * (z * vx - x * vz), 2 * (x * vy - y * vx)
    return (
        vx + w * tx + y * tz - z * ty,
        vy + w * ty + z * tx - x * tz,
        vz + w * tz + x * ty - y * tx,
    )


def canonical(q: Quat) -> Quat:
    """Unit length and w >= 0. Raises ValueError for a quaternion without direction."""
    n = math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    if not 1e-9 < n < math.inf:
        raise ValueError(f"quaternion {q} has no direction")
    n = -n if q[0] < 0 else n
    return (q[0] / n, q[1] / n, q[2] / n, q[3] / n)


def pan_tilt_roll(pan_rad: float, tilt_rad: float, roll_rad: float) -> Quat:
    """Intrinsic Z-X-Y, right-hand rule: pan + turns left, tilt + up, roll + clockwise seen from behind (OpenTrackIO)."""
    pan = (math.cos(pan_rad / 2), 0.0, 0.0, math.sin(pan_rad / 2))
    tilt = (math.cos(tilt_rad / 2), math.sin(tilt_rad / 2), 0.0, 0.0)
    roll = (math.cos(roll_rad / 2), 0.0, math.sin(roll_rad / 2), 0.0)
    return canonical(multiply(multiply(pan, tilt), roll))


def pan_tilt_roll_of(q: Quat) -> Vec3:
    """Radians: the inverse of `pan_tilt_roll`. Roll is what is left of the rotation: they compose straight up, too."""
    x, y, z = rotate(q, (0.0, 1.0, 0.0))
    pan, tilt = math.atan2(-x, y), math.atan2(z, math.hypot(x, y))
    w, i, j, k = pan_tilt_roll(pan, tilt, 0.0)
    rest = multiply((w, -i, -j, -k), q)
    return pan, tilt, math.remainder(2 * math.atan2(rest[2], rest[0]), math.tau)


def rotation_matrix(q: Quat) -> np.ndarray:
    """(3, 3) float64 with columns = the axes of the source frame."""
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(rotation: np.ndarray) -> Quat:
    """Unit quaternion of a (3, 3) rotation matrix (Shepperd's method: the largest of w, x, y, z first)."""
    m = np.asarray(rotation, float)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    squares = [1 + trace] + [1 - trace + 2 * m[i, i] for i in range(3)]
    k = int(np.argmax(squares))
    s = math.sqrt(max(squares[k], 0.0)) * 2
    if k == 0:
        q = (s / 4, (m[2, 1] - m[1, 2]) / s, (m[0, 2] - m[2, 0]) / s, (m[1, 0] - m[0, 1]) / s)
    elif k == 1:
        q = ((m[2, 1] - m[1, 2]) / s, s / 4, (m[0, 1] + m[1, 0]) / s, (m[0, 2] + m[2, 0]) / s)
    elif k == 2:
        q = ((m[0, 2] - m[2, 0]) / s, (m[0, 1] + m[1, 0]) / s, s / 4, (m[1, 2] + m[2, 1]) / s)
    else:
        q = ((m[1, 0] - m[0, 1]) / s, (m[0, 2] + m[2, 0]) / s, (m[1, 2] + m[2, 1]) / s, s / 4)
    return canonical(tuple(float(c) for c in q))


def rotation_vector(q: Quat) -> Vec3:
    """Axis times angle in radians, |angle| <= pi (the logarithm of the rotation)."""
    w, x, y, z = canonical(q)
    s = math.sqrt(x * x + y * y + z * z)
    k = 2.0 if s < 1e-12 else 2 * math.atan2(s, w) / s
    return (k * x, k * y, k * z)


def from_rotation_vector(v: Vec3) -> Quat:
    """The inverse of `rotation_vector`."""
    angle = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    k = 0.5 if angle < 1e-12 else math.sin(angle / 2) / angle
    return canonical((math.cos(angle / 2), k * v[0], k * v[1], k * v[2]))


def interpolate(a: Pose, b: Pose, fraction: float) -> Pose:
    """Between a (0) and b (1) at constant velocity; other fractions extrapolate. Rotation is slerp, the short way."""
    aw, ax, ay, az = a.wxyz
    b_from_a = multiply(b.wxyz, (aw, -ax, -ay, -az))
    v = rotation_vector(b_from_a)
    step = from_rotation_vector((v[0] * fraction, v[1] * fraction, v[2] * fraction))
    position = tuple(p + (q - p) * fraction for p, q in zip(a.position_m, b.position_m))
    return Pose(canonical(multiply(step, a.wxyz)), position)
