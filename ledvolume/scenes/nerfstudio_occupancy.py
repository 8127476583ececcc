"""instant-ngp's occupancy grid: where its field counts. nerfacc keeps it while training; what it does not hold is not shown.

Beyond the outermost box, and in cells that training found empty, the field itself answers with what it was never taught.
Source: nerfacc 0.5.2 (estimators/occ_grid.py, csrc/grid.cu).
"""

import torch


class OccupancyGrid:
    """Boxes around boxes, each of the same number of cells; the innermost box that a point is in decides.

    boxes (levels, 6): low and high corner; cells (levels, x, y, z) bool. step_size: nerfstudio's march, model units.
    """

    def __init__(self, boxes: torch.Tensor, cells: torch.Tensor, step_size: float):
        self.low, self.high = boxes.view(-1, 2, 3).unbind(1)
        self.cells, self.step_size = cells, step_size

    def holds(self, x: torch.Tensor) -> torch.Tensor:
        """x (n, 3) → (n,) bool."""
        held = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        count = torch.tensor(self.cells.shape[1:], device=x.device)
        for low, high, cells in reversed(list(zip(self.low, self.high, self.cells))):
            inside = ((x >= low) & (x < high)).all(1).nonzero()[:, 0]
            i, j, k = ((x[inside] - low) / (high - low) * count).long().minimum(count - 1).T
            held[inside] = cells[i, j, k]
        return held

    def reach(self, origins: torch.Tensor) -> float:
        """Distance from these origins (n, 3) within which every ray has left the outermost box."""
        farthest = torch.maximum((origins - self.low[-1]).abs(), (origins - self.high[-1]).abs())
        return float(farthest.norm(dim=1).max())
