"""The exact field compiled for this CPU: nerfstudio_field.c, built with the machine's C compiler when it is first used.

Measured on the door of Lund, one core: 6.5 million densities a second, torch 2. Without a compiler torch does the same.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from ledvolume.scenes.nerfstudio_layout import Layout, Level

SOURCE = Path(__file__).with_name("nerfstudio_field.c")
OPTIONS = ("-O3", "-std=c11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")

Layer = tuple[torch.Tensor, torch.Tensor]


class _Layer(ctypes.Structure):
    _fields_ = [("inputs", ctypes.c_int32), ("outputs", ctypes.c_int32), ("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class _Level(ctypes.Structure):
    _fields_ = [
        ("scale", ctypes.c_float),
        ("shift", ctypes.c_float),
        ("first", ctypes.c_int64),
        ("entries", ctypes.c_uint32),
        ("side", ctypes.c_uint32),
    ]


class _Field(ctypes.Structure):
    _fields_ = [
        ("levels", ctypes.c_int32),
        ("features", ctypes.c_int32),
        ("contracted", ctypes.c_int32),
        ("level", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("box_low", ctypes.c_float * 3),
        ("box_size", ctypes.c_float * 3),
        ("direction_scale", ctypes.c_float),
        ("direction_shift", ctypes.c_float),
        ("log_initial_density", ctypes.c_float),
        ("nothing", ctypes.c_float),
        ("base", _Layer * 2),
        ("head", _Layer * 3),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled source, or None where no compiler can: then torch has to do. Nothing is left on disk."""
    compilers = [shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name]
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "nerfstudio_field.so"
        for compiler in filter(None, compilers):
            for cpu in (["-march=native"], []):
                command = [compiler, *OPTIONS, *cpu, "-o", str(built), str(SOURCE), "-lm"]
                if subprocess.run(command, capture_output=True).returncode == 0:
                    return ctypes.CDLL(str(built))
    return None


class NativeField:
    """One field in the layout of nerfstudio_field.c. Calls release Python's lock: threads run at once."""

    def __init__(
        self,
        table: torch.Tensor,
        levels: list[Level],
        layout: Layout,
        aabb: torch.Tensor | None,
        log_initial_density: float,
        nothing: float,
        base: list[Layer],
        head: list[Layer],
    ):
        """table (rows, features); aabb None: contracted; head takes harmonics (16), then geometry (15)."""
        self._kept: list[torch.Tensor] = []  # the C structure points into these
        self._levels = (_Level * len(levels))(*((v.scale, v.shift, v.first, v.entries, v.side) for v in levels))
        low, high = (aabb if aabb is not None else torch.zeros(2, 3)).tolist()
        weight, bias = head[0]
        head = [(torch.cat([weight[:, 16:], weight[:, :16]], 1), bias), *head[1:]]
        self._field = _Field(
            len(levels),
            table.shape[1],
            aabb is None,
            ctypes.addressof(self._levels),
            self._pointer(table),
            (ctypes.c_float * 3)(*low),
            (ctypes.c_float * 3)(*(h - l for h, l in zip(high, low))),
            layout.direction_scale,
            layout.direction_shift,
            log_initial_density,
            nothing,
            (_Layer * 2)(*(self._layer(*layer) for layer in base)),
            (_Layer * 3)(*(self._layer(*layer) for layer in head)),
        )

    def _pointer(self, tensor: torch.Tensor) -> int:
        self._kept.append(tensor.to(torch.float32).contiguous())
        return self._kept[-1].data_ptr()

    def _layer(self, weight: torch.Tensor, bias: torch.Tensor) -> _Layer:
        return _Layer(weight.shape[1], weight.shape[0], self._pointer(weight), self._pointer(bias))

    def field_at(
        self,
        x: torch.Tensor,
        directions: torch.Tensor | None,
        log_density: torch.Tensor,
        geometry: torch.Tensor | None,
        logits: torch.Tensor | None,
    ) -> None:
        """Writes log_density (n,), geometry (n, 15), logits of the colour (n, 3); contiguous float32 all of them."""
        self._call("field_at", log_density.shape[0], x, directions, log_density, geometry, logits)

    def colour_at(self, geometry: torch.Tensor, directions: torch.Tensor, logits: torch.Tensor) -> None:
        """Writes logits of the colour (n, 3)."""
        self._call("colour_at", logits.shape[0], geometry, directions, logits)

    def _call(self, name: str, count: int, *arrays: torch.Tensor | None) -> None:
        given = [a for a in arrays if a is not None]
        assert all(a.dtype == torch.float32 and a.is_contiguous() and a.shape[0] == count for a in given), "array layout"
        pointers = [ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays]
        if getattr(library(), name)(ctypes.byref(self._field), ctypes.c_int64(count), *pointers):
            raise MemoryError(f"nerfstudio_field.c: {name}: no memory")
