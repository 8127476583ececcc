"""Rotations in bulk, for what is linearised: matrices (..., 3, 3) of rotation vectors (..., 3), and back.

Every solved rotation R moves as exp(ω) R: ω is a small turn about the axes of the frame that R leads to.
"""

import numpy as np


def skew(v: np.ndarray) -> np.ndarray:
    """[v]×, (..., 3, 3): [v]× w = v × w."""
    m = np.zeros((*v.shape, 3))
    m[..., 0, 1], m[..., 0, 2], m[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    m[..., 1, 0], m[..., 2, 0], m[..., 2, 1] = v[..., 2], -v[..., 1], v[..., 0]
    return m


def turned(v: np.ndarray) -> np.ndarray:
    """exp([v]×), by Rodrigues' formula."""
    v = np.asarray(v, float)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    k = skew(v)
    a = np.sinc(angle / np.pi)  # sin(x) / x
    b = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos x) / x²
    return np.eye(3) + a * k + b * (k @ k)


def turn_of(rotation: np.ndarray) -> np.ndarray:
    """The logarithm of (..., 3, 3): rotation vectors, |v| ≤ π."""
    m = np.asarray(rotation, float)
    twice_sine = np.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    sine = np.linalg.norm(twice_sine, axis=-1) / 2
    cosine = (np.trace(m, axis1=-2, axis2=-1) - 1) / 2
    angle = np.arctan2(sine, cosine)
    small = sine < 1e-7
    v = twice_sine * (0.5 * np.where(small, 1.0, angle / np.where(small, 1, sine)))[..., None]
    half_turn = small & (cosine < 0)
    if np.any(half_turn):  # R + I = 2 a aᵀ: any column of it that is not 0 is the axis
        columns = m + np.eye(3)
        longest = np.argmax(np.linalg.norm(columns, axis=-2), axis=-1)
        axis = np.take_along_axis(columns, longest[..., None, None], -1)[..., 0]
        axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
        v = np.where(half_turn[..., None], axis * angle[..., None], v)
    return v


def turn_rate(v: np.ndarray) -> np.ndarray:
    """J (..., 3, 3) with log(exp(v) exp(ξ)) = v + J ξ to first order (the inverse right Jacobian)."""
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    k = skew(v)
    safe = np.where(angle < 1e-4, 1.0, angle)
    c = np.where(angle < 1e-4, 1 / 12, (1 - 0.5 * safe / np.tan(0.5 * safe)) / safe**2)
    return np.eye(3) + 0.5 * k + c * (k @ k)


def nearest_rotation(m: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) nearest to a matrix (Kabsch)."""
    u, _, vt = np.linalg.svd(m)
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt


def best_fit(points: np.ndarray, onto: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """R (3, 3) and t (3,) of the rigid motion that takes points (n, 3) nearest onto others, by least squares."""
    w = np.ones(len(points)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    a, b = w @ points, w @ onto
    rotation = nearest_rotation((onto - b).T @ ((points - a) * w[:, None]))
    return rotation, b - rotation @ a
