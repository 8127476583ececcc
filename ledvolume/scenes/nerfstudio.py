"""The exact field of a checkpoint, nerfacto's or instant-ngp's: density and colour at any point, in torch, without nerfstudio.

Left behind at the bake: a show never runs this. It is the truth that a bake is made from and verified against; its ray
integrals are in scenes/nerfstudio_rays.py. Formulas: nerfstudio 1.1.5 (fields/nerfacto_field.py, field_components/encodings.py,
field_components/spatial_distortions.py), every quirk kept; what differs with tiny-cuda-nn is in scenes/nerfstudio_layout.py.

Points are in the model frame, `run.model_from_world` of the photographs' frame. On the CPU nerfstudio_field.c computes the
same, several times faster; torch does it on a GPU, without a C compiler, and as the twin. Arrays of the twin are planar:
(features, N).
"""

import math

import numpy as np
import torch

from ledvolume.scenes import nerfstudio_native, nerfstudio_threads
from ledvolume.scenes.checkpoint import NerfstudioRun
from ledvolume.scenes.nerfstudio_config import InstantNgpConfig
from ledvolume.scenes.nerfstudio_layout import Layout, Level
from ledvolume.scenes.nerfstudio_occupancy import OccupancyGrid
from ledvolume.scenes.nerfstudio_tensors import APPEARANCE, GEOMETRY_FEATURES, HARMONICS

CHUNK = 1 << 15  # points at a time and thread: what is made of them stays in the caches (measured, 8k to 128k)
NOTHING = -40.0  # log density outside of the field's box, where nerfstudio has density 0
_HASH_Y, _HASH_Z = 2654435761 - (1 << 32), 805459861  # uint32 primes of instant-ngp as int32: products wrap the same way


class HashGrid:
    """Multi-resolution hash encoding. table (rows, features)."""

    def __init__(self, table: torch.Tensor, levels: list[Level]):
        self.levels = levels
        self.planes = table.T.contiguous()

    def encode(self, p: torch.Tensor) -> torch.Tensor:
        """p (3, n) in 0..1 → (levels · features, n), level-major. Trilinear, one gather of eight corners a plane."""
        features, n = len(self.planes), p.shape[1]
        out = p.new_empty(len(self.levels) * features, n)
        for number, level in enumerate(self.levels):
            q = p * level.scale + level.shift
            corner = q.floor()
            wx, wy, wz = q.sub_(corner)
            x, y, z = corner.to(torch.int32)
            step_y, step_z = (level.side, level.side**2) if level.side else (_HASH_Y, _HASH_Z)
            y, z = y.mul_(step_y), z.mul_(step_z)
            x, y, z = torch.stack([x, x + 1]), torch.stack([y, y + step_y]), torch.stack([z, z + step_z])
            if level.side:
                rows = (x[:, None, None] + (y[:, None] + z)[None]).remainder_(level.entries).view(-1)
            else:
                rows = (x[:, None, None] ^ (y[:, None] ^ z)[None]).bitwise_and_(level.entries - 1).view(-1)
            for feature in range(features):
                plane = self.planes[feature, level.first : level.first + level.entries]
                v = plane.index_select(0, rows).view(2, 2, 2, n)
                v = torch.lerp(v[0], v[1], wx)
                v = torch.lerp(v[0], v[1], wy)
                torch.lerp(v[0], v[1], wz, out=out[number * features + feature])
        return out


class NerfactoField:
    """The field of a run. Takes and returns float32 on `device`, any N; density is of model units.

    `background`: what a ray shows beyond its samples: last_sample (the colour of the farthest one), white or black.
    `occupancy`: instant-ngp's, None for others.
    `native`: computed by nerfstudio_field.c; asked for, it still is not on a GPU or without a C compiler.
    """

    def __init__(self, run: NerfstudioRun, device: str | torch.device = "cpu", native: bool = True):
        config, t = run.config, {k: v.to(device) for k, v in run.tensors.items()}
        self.config = config
        self.device = torch.device(device)
        self.background = "black" if config.background_color == "random" else config.background_color
        self._log_initial_density = math.log(config.average_init_density)
        self._aabb = t["field.aabb"] if config.disable_scene_contraction else None
        self._layout = run.layout
        table = t["field.mlp_base.model.0.hash_table"]
        self._grid = HashGrid(table, _levels(t, "field.", run.layout, config.base_res))
        self._base = [_layer(t, f"field.mlp_base.model.1.layers.{i}") for i in range(2)]
        self._head = [_layer(t, f"field.mlp_head.layers.{i}") for i in range(3)]
        # The appearance vector is the same for all points at inference: it goes into the first layer's bias.
        weight, bias = self._head[0]
        appearance = t.get(APPEARANCE)
        if appearance is not None and config.use_average_appearance_embedding:
            bias = bias + weight[:, HARMONICS + GEOMETRY_FEATURES :] @ appearance.mean(0)[:, None]
        self._head[0] = (weight[:, : HARMONICS + GEOMETRY_FEATURES].contiguous(), bias)
        self._proposals = [_Proposal(t, i, run.layout, network.base_res) for i, network in enumerate(config.proposal_networks)]
        self.occupancy = _occupancy(t, config) if "occupancy_grid.binaries" in t else None
        self._native = None
        if native and self.device.type == "cpu" and nerfstudio_native.library():
            self._native = nerfstudio_native.NativeField(
                table, self._grid.levels, run.layout, self._aabb, self._log_initial_density, NOTHING, self._base, self._head
            )

    @property
    def native(self) -> bool:
        return self._native is not None

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        """x (N, 3) → (N,): log of the density, NOTHING outside of the field's box or its occupied cells. No colour is computed."""
        return self._evaluate(x, None, False)[0]

    def density_and_geometry(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, 3) → log density (N,) and the features (N, 15) that the colour is computed from."""
        log_density, geometry, _ = self._evaluate(x, None, True)
        return log_density, geometry

    def query(self, x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, 3), unit directions (N, 3) → log density (N,) and colour (N, 3) in 0..1."""
        log_density, _, rgb = self._evaluate(x, directions, False)
        return log_density, rgb

    @torch.no_grad()
    def colour(self, geometry: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """geometry (N, 15), unit directions (N, 3) → (N, 3) in 0..1, encoded as the training photographs are."""
        geometry, directions = geometry.contiguous(), directions.contiguous()
        rgb = geometry.new_empty(len(geometry), 3)

        def work(part: slice) -> None:
            if self._native:
                self._native.colour_at(geometry[part], directions[part], rgb[part])
                rgb[part].sigmoid_()
            else:
                rgb[part] = self._colour(geometry[part].T, directions[part]).T

        nerfstudio_threads.each(work, _parts(len(geometry)))
        return rgb

    @torch.no_grad()
    def proposal_density(self, i: int, x: torch.Tensor) -> torch.Tensor:
        """x (N, 3) → (N,): density of proposal iteration i's network, 0 outside of the box."""
        proposal = self._proposals[min(i, len(self._proposals) - 1)]
        parts = []
        for part in x.split(CHUNK):
            p, inside = self._unit(part, self._aabb if self._aabb is None else proposal.aabb)
            parts.append(self._masked(proposal.raw(p), inside).exp_().mul_(inside))
        return torch.cat(parts) if parts else x.new_empty(0)

    @torch.no_grad()
    def _evaluate(
        self, x: torch.Tensor, directions: torch.Tensor | None, with_geometry: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log density, geometry where asked for, colour where there are directions."""
        x = x.contiguous()
        directions = None if directions is None else directions.contiguous()
        log_density = x.new_empty(len(x))
        geometry = x.new_empty(len(x), GEOMETRY_FEATURES) if with_geometry else None
        rgb = None if directions is None else x.new_empty(len(x), 3)

        def work(part: slice) -> None:
            if self._native:
                arrays = (directions, log_density, geometry, rgb)
                self._native.field_at(x[part], *(None if a is None else a[part] for a in arrays))
                if rgb is not None:
                    rgb[part].sigmoid_()
            else:
                compute(part)
            if self.occupancy:
                log_density[part].masked_fill_(~self.occupancy.holds(x[part]), NOTHING)

        def compute(part: slice) -> None:
            p, inside = self._unit(x[part], self._aabb)
            (weight, bias), encoding = self._base[1], self._grid.encode(p)
            needed = 1 if geometry is None and rgb is None else 1 + GEOMETRY_FEATURES
            raw = _network(encoding, [self._base[0], (weight[:needed], bias[:needed])])
            log_density[part] = self._masked(raw[0], inside)
            if geometry is not None:
                geometry[part] = raw[1:].T
            if rgb is not None:
                rgb[part] = self._colour(raw[1:], directions[part]).T

        nerfstudio_threads.each(work, _parts(len(x)))
        return log_density, geometry, rgb

    def _colour(self, features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        harmonics = harmonics_16(directions * self._layout.direction_scale + self._layout.direction_shift)
        return _network(torch.cat([harmonics, features]), self._head).sigmoid_()

    def _masked(self, raw: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return torch.where(inside, raw + self._log_initial_density, NOTHING)

    def _unit(self, x: torch.Tensor, aabb: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """x (n, 3) → p (3, n) in 0..1 and inside (n,). No box: contracted, infinity to a cube (L∞ norm) of -2..2."""
        x = x.T.contiguous()
        if aabb is None:
            reach = torch.maximum(torch.maximum(x[0].abs(), x[1].abs()), x[2].abs())
            p = (torch.where(reach < 1, x, (2 - 1 / reach) * (x / reach)) + 2) / 4
        else:
            p = (x - aabb[0][:, None]) / (aabb[1] - aabb[0])[:, None]
        inside = ((p > 0) & (p < 1)).all(0)
        return p.mul_(inside), inside


class _Proposal:
    """One proposal network: a small hash grid and one output."""

    def __init__(self, t: dict[str, torch.Tensor], i: int, layout: Layout, base_res: int):
        prefix = f"proposal_networks.{i}."
        self.aabb = t[prefix + "aabb"]
        self.grid = HashGrid(t[prefix + "encoding.hash_table"], _levels(t, prefix, layout, base_res))
        linear = prefix + "linear"
        names = [linear] if linear + ".weight" in t else [f"{prefix}mlp_base.1.layers.{k}" for k in range(2)]
        self.layers = [_layer(t, name) for name in names]

    def raw(self, p: torch.Tensor) -> torch.Tensor:
        return _network(self.grid.encode(p), self.layers)[0]


def _levels(t: dict[str, torch.Tensor], prefix: str, layout: Layout, base_res: int) -> list[Level]:
    count, max_res, log2_size = (int(t[prefix + name]) for name in ("num_levels", "max_res", "log2_hashmap_size"))
    return layout.levels(count, base_res, max_res, log2_size)


def _occupancy(t: dict[str, torch.Tensor], config: InstantNgpConfig) -> OccupancyGrid:
    scene = t["scene_aabb"]
    step = config.render_step_size or float((scene[3:] - scene[:3]).norm()) / 1000
    return OccupancyGrid(t["occupancy_grid.aabbs"], t["occupancy_grid.binaries"], step)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


def _layer(t: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (out, in) and bias (out, 1), for planar arrays."""
    return t[name + ".weight"], t[name + ".bias"][:, None]


def _network(values: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Linear layers with ReLU between them."""
    for weight, bias in layers[:-1]:
        values = torch.addmm(bias, weight, values).relu_()
    return torch.addmm(layers[-1][1], layers[-1][0], values)


def harmonics_16(d: torch.Tensor) -> torch.Tensor:
    """d (N, 3) → (16, N): real spherical harmonics to degree 3, nerfstudio's order and (positive) signs."""
    x, y, z = d.T.contiguous()
    xx, yy, zz = x * x, y * y, z * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479177387814),
            0.4886025119029199 * y,
            0.4886025119029199 * z,
            0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            1.0925484305920792 * y * z,
            0.9461746957575601 * zz - 0.31539156525251999,
            1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
            0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            0.4570457994644658 * y * (5 * zz - 1),
            0.3731763325901154 * z * (5 * zz - 3),
            0.4570457994644658 * x * (5 * zz - 1),
            1.445305721320277 * z * (xx - yy),
            0.5900435899266435 * x * (xx - 3 * yy),
        ]
    )


def tensor(array: np.ndarray) -> torch.Tensor:
    """Any float array as this module takes it: contiguous float32."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
