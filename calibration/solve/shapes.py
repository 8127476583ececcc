"""What a wall surface may be while it is solved: flat panels, an arc, or a cloth. Few unknowns, and no unknown per LED.

A shape knows the pieces of its surface and how their LEDs move with its unknowns; an LED depends on the unknowns of its own
piece alone, which is what keeps the normal equations small. The LED pitch is the maker's: `pitch` is the one factor that all
surfaces share where it is solved (gauge by a measured length), 1 otherwise.

    Panels   columns × rows flat panels, each a rigid body: 6 unknowns each (translation, turn)
    Bow      part of a cylinder, as Arc: 6 and the curvature in 1/m, so that a plane is nothing special
    Cloth    base surface + bicubic B-spline of displacements: 3 for each knot; stiff as its priors say
"""

import numpy as np

from calibration.solve.bow import Bow
from calibration.solve.cloth import Cloth
from calibration.solve.panels import Panels
from calibration.solve.turns import best_fit

Shape = Panels | Bow | Cloth


def fitted(shape: Shape, led_px: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    """The unknowns with which LEDs (n, 2) are nearest to points (n, 3): how a shape starts from another one."""
    spots = shape.spots(led_px)
    values = shape.start()
    values = shape.carried(values, *best_fit(shape.points(values, spots, 1.0), points_m))
    units, indices = shape.units, shape.indices
    for _ in range(20):
        off = points_m - shape.points(values, spots, 1.0)
        by = shape.by_unknowns(values, spots, 1.0, np.broadcast_to(np.eye(3), (len(off), 3, 3)))
        normal, gradient = np.diag(1e-9 / units**2), np.zeros(len(units))
        for piece in np.unique(spots.piece):
            chosen, index = spots.piece == piece, indices[piece]
            j = by[chosen].reshape(-1, shape.width)
            normal[np.ix_(index, index)] += j.T @ j
            gradient[index] += j.T @ off[chosen].ravel()
        step = np.linalg.solve(normal, gradient)
        values = shape.moved(values, step)
        if np.max(np.abs(step / units)) < 1e-7:
            break
    return values
