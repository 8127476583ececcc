"""How nerfstudio's two implementations lay out one field, and all in which they differ: plain torch, and tiny-cuda-nn.

Whatever the layout, the rest of the program sees levels of one table, layers with biases, and how the harmonics take a
direction; `unpacked` makes them of tiny-cuda-nn's flat vectors. A checkpoint of the one cannot be given to the other.
Sources: nerfstudio 1.1.5 (field_components/encodings.py, mlp.py), tiny-cuda-nn (encodings/grid.h, common_device.h,
encodings/identity.h, networks/fully_fused_mlp.cu). tiny-cuda-nn computes in half precision, this in single.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

ODD_HARMONICS = [1, 3, 5, 7, 9, 11, 13, 15]  # tiny-cuda-nn's have the other sign
ALIGNMENTS = (16, 8)  # a matrix is padded to these: every build today, CutlassMLP of old builds


@dataclass(frozen=True)
class Level:
    """One level of a hash grid: lattice points where p · scale + shift is whole, p in 0..1.

    Its rows of the table are `first` to first + entries. side: lattice points a side where they are all there, row
    x + y · side + z · side² modulo entries; 0 where they are hashed, entries then a power of two.
    """

    scale: float
    shift: float
    first: int
    entries: int
    side: int = 0


@dataclass(frozen=True)
class Layout:
    """levels(count, base_res, max_res, log2_size); the harmonics are those of direction · scale + shift, signs positive."""

    name: str
    levels: Callable[[int, int, int, int], list[Level]]
    direction_scale: float
    direction_shift: float


def torch_levels(count: int, base_res: int, max_res: int, log2_size: int) -> list[Level]:
    """Every level is hashed, also where its lattice would fit."""
    resolutions = level_resolutions(count, base_res, max_res)
    return [Level(resolution, 0.0, i << log2_size, 1 << log2_size) for i, resolution in enumerate(resolutions)]


def tcnn_levels(count: int, base_res: int, max_res: int, log2_size: int) -> list[Level]:
    """A level whose lattice fits into the table is dense and takes no more than it needs, in eights; numbers are float32."""
    log2_growth = np.log2(np.float32(_growth(count, base_res, max_res)))
    levels, first = [], 0
    for i in range(count):
        scale = np.exp2(np.float32(i) * log2_growth) * np.float32(base_res) - np.float32(1)
        side = math.ceil(scale) + 1
        entries = min(_padded(side**3, 8), 1 << log2_size)
        levels.append(Level(float(scale), 0.5, first, entries, side if side**3 <= entries else 0))
        first += entries
    return levels


# nerfstudio hands both (d + 1) / 2; tiny-cuda-nn maps it back to d, torch takes it as it is.
TORCH = Layout("torch", torch_levels, 0.5, 0.5)
TINY_CUDA_NN = Layout("tiny-cuda-nn", tcnn_levels, 1.0, 0.0)


def level_resolutions(count: int, base_res: int, max_res: int) -> list[float]:
    """Cells across the cube of each level, whole numbers.

    nerfstudio's power is a float32 one and decides the integer: 16 → 128 in five levels ends at 128, in float64 at 127.
    """
    return torch.floor(base_res * _growth(count, base_res, max_res) ** torch.arange(count)).tolist()


def _growth(count: int, base_res: int, max_res: int) -> float:
    return math.exp((math.log(max_res) - math.log(base_res)) / (count - 1)) if count > 1 else 1.0


def packed_lengths(widths: list[int]) -> list[int]:
    """How long the vector of a network with layers of these widths (input, hidden…, output) may be, by alignment."""
    return [sum(a * b for a, b in _matrices(widths, alignment)) for alignment in ALIGNMENTS]


def unpacked(params: torch.Tensor, widths: list[int], padding: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight (out, in) and bias (out,) of each layer of a flat vector of one of the `packed_lengths`.

    There are no biases: inputs are filled up with `padding` (1 before a network, 0 behind a grid), whose weights are one.
    """
    alignment = ALIGNMENTS[packed_lengths(widths).index(len(params))]
    layers, start = [], 0
    for (rows, columns), inputs, outputs in zip(_matrices(widths, alignment), widths, widths[1:]):
        matrix = params[start : start + rows * columns].view(rows, columns)[:outputs]
        layers.append((matrix[:, :inputs].contiguous(), padding * matrix[:, inputs:].sum(1)))
        start += rows * columns
    return layers


def _matrices(widths: list[int], alignment: int) -> list[tuple[int, int]]:
    """Rows and columns: the first input and the last output are padded, hidden widths never are."""
    ends = [_padded(widths[0], alignment), *widths[1:-1], _padded(widths[-1], alignment)]
    return list(zip(ends[1:], ends))


def _padded(count: int, alignment: int) -> int:
    return -(-count // alignment) * alignment
