"""The exact field of a nerfacto checkpoint: density and colour at any point, in torch, without nerfstudio.

Left behind at the bake: a show never runs this. It is the truth that a bake is made from and verified against; its ray
integrals are in scenes/nerfstudio_rays.py. Formulas: nerfstudio 1.1.5 (fields/nerfacto_field.py, field_components/encodings.py,
field_components/spatial_distortions.py), implementation "torch", every quirk of it kept.

Points are in the model frame, `run.model_from_world` of the photographs' frame. Inside, arrays are planar: (features, N).
"""

import math

import torch

from ledvolume.scenes.checkpoint import GEOMETRY_FEATURES, NerfstudioRun

CHUNK = 1 << 16  # points at a time: a level's table and what is made from it stay in L2 and L3 (measured: 16k to 256k alike)
NOTHING = -40.0  # log density outside of the field's box, where nerfstudio has density 0
_HASH_Y, _HASH_Z = 2654435761 - (1 << 32), 805459861  # uint32 primes of instant-ngp as int32: products wrap the same way


class HashGrid:
    """Multi-resolution hash encoding, implementation "torch": no dense level, corners at floor and floor + 1 of p · resolution.

    table (levels · 2^log2_size, features).
    """

    def __init__(self, table: torch.Tensor, levels: int, base_res: int, max_res: int):
        self.mask = table.shape[0] // levels - 1
        self.resolutions = level_resolutions(levels, base_res, max_res)
        self.planes = table.view(levels, self.mask + 1, -1).permute(0, 2, 1).contiguous()

    def encode(self, p: torch.Tensor) -> torch.Tensor:
        """p (3, n) in 0..1 → (levels · features, n), level-major. Trilinear, one gather of eight corners a plane."""
        levels, features, _ = self.planes.shape
        n = p.shape[1]
        out = p.new_empty(levels * features, n)
        for level, resolution in enumerate(self.resolutions):
            q = p * resolution
            corner = q.floor()
            wx, wy, wz = q.sub_(corner)
            x, y, z = corner.to(torch.int32)
            y, z = y.mul_(_HASH_Y), z.mul_(_HASH_Z)
            x, y, z = torch.stack([x, x + 1]), torch.stack([y, y + _HASH_Y]), torch.stack([z, z + _HASH_Z])
            rows = (x[:, None, None] ^ (y[:, None] ^ z)[None]).bitwise_and_(self.mask).view(-1)
            for feature in range(features):
                v = self.planes[level, feature].index_select(0, rows).view(2, 2, 2, n)
                v = torch.lerp(v[0], v[1], wx)
                v = torch.lerp(v[0], v[1], wy)
                torch.lerp(v[0], v[1], wz, out=out[level * features + feature])
        return out


def level_resolutions(levels: int, base_res: int, max_res: int) -> list[float]:
    """Cells across the cube of each level, whole numbers.

    nerfstudio's power is a float32 one and decides the integer: 16 → 128 in five levels ends at 128, in float64 at 127.
    """
    growth = math.exp((math.log(max_res) - math.log(base_res)) / (levels - 1)) if levels > 1 else 1.0
    return torch.floor(base_res * growth ** torch.arange(levels)).tolist()


class NerfactoField:
    """The field of a run. Public methods take and return row-major float32, any N; density is of model units.

    `background`: what a ray shows beyond its samples: last_sample (the colour of the farthest one), white or black.
    """

    def __init__(self, run: NerfstudioRun, device: str | torch.device = "cpu"):
        config, t = run.config, {k: v.to(device) for k, v in run.tensors.items()}
        self.config = config
        self.device = torch.device(device)
        self.background = "black" if config.background_color == "random" else config.background_color
        self._log_initial_density = math.log(config.average_init_density)
        self._aabb = None if not config.disable_scene_contraction else t["field.aabb"]
        self._grid = HashGrid(
            t["field.mlp_base.model.0.hash_table"], int(t["field.num_levels"]), config.base_res, int(t["field.max_res"])
        )
        self._base = [_layer(t, f"field.mlp_base.model.1.layers.{i}") for i in range(2)]
        self._head = [_layer(t, f"field.mlp_head.layers.{i}") for i in range(3)]
        # The appearance vector is the same for all points at inference: it goes into the first layer's bias.
        weight, bias = self._head[0]
        appearance = t.get("field.embedding_appearance.embedding.weight")
        if appearance is not None and config.use_average_appearance_embedding:
            bias = bias + weight[:, 16 + GEOMETRY_FEATURES :] @ appearance.mean(0)[:, None]
        self._head[0] = (weight[:, : 16 + GEOMETRY_FEATURES].contiguous(), bias)
        self._proposals = [_Proposal(t, i, network.base_res) for i, network in enumerate(config.proposal_networks)]

    @torch.no_grad()
    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        """x (N, 3) → (N,): log of the density, NOTHING outside of the field's box. No colour is computed."""
        first, (weight, bias) = self._base[0], self._base[1]
        out = x.new_empty(x.shape[0])
        for part, into in zip(x.split(CHUNK), out.split(CHUNK)):
            p, inside = self._unit(part, self._aabb)
            hidden = torch.addmm(first[1], first[0], self._grid.encode(p)).relu_()
            into.copy_(self._masked((weight[0] @ hidden).add_(bias[0]), inside))
        return out

    @torch.no_grad()
    def density_and_geometry(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, 3) → log density (N,) and the features (N, 15) that the colour is computed from."""
        log_density, geometry = x.new_empty(x.shape[0]), x.new_empty(x.shape[0], GEOMETRY_FEATURES)
        for part, into, features in zip(x.split(CHUNK), log_density.split(CHUNK), geometry.split(CHUNK)):
            into_density, into_features = self._geometry(part)
            into.copy_(into_density)
            features.copy_(into_features.T)
        return log_density, geometry

    @torch.no_grad()
    def colour(self, geometry: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """geometry (N, 15), unit directions (N, 3) → (N, 3) in 0..1, encoded as the training photographs are."""
        out = geometry.new_empty(geometry.shape[0], 3)
        for features, part, into in zip(geometry.split(CHUNK), directions.split(CHUNK), out.split(CHUNK)):
            into.copy_(self._colour(features.T, part).T)
        return out

    @torch.no_grad()
    def query(self, x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (N, 3), unit directions (N, 3) → log density (N,) and colour (N, 3)."""
        log_density, rgb = x.new_empty(x.shape[0]), x.new_empty(x.shape[0], 3)
        for part, along, into, colours in zip(*(a.split(CHUNK) for a in (x, directions, log_density, rgb))):
            density, features = self._geometry(part)
            into.copy_(density)
            colours.copy_(self._colour(features, along).T)
        return log_density, rgb

    @torch.no_grad()
    def proposal_density(self, i: int, x: torch.Tensor) -> torch.Tensor:
        """x (N, 3) → (N,): density of proposal iteration i's network, 0 outside of the box."""
        proposal = self._proposals[min(i, len(self._proposals) - 1)]
        parts = []
        for part in x.split(CHUNK):
            p, inside = self._unit(part, self._aabb if self._aabb is None else proposal.aabb)
            parts.append(self._masked(proposal.raw(p), inside).exp_().mul_(inside))
        return torch.cat(parts) if parts else x.new_empty(0)

    def _geometry(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p, inside = self._unit(x, self._aabb)
        raw = _network(self._grid.encode(p), self._base)
        return self._masked(raw[0], inside), raw[1:]

    def _colour(self, features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        # nerfstudio's torch encoding takes (d + 1) / 2 as it is, and does not map it back to -1..1.
        harmonics = harmonics_16((directions + 1) / 2)
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

    def __init__(self, t: dict[str, torch.Tensor], i: int, base_res: int):
        prefix = f"proposal_networks.{i}."
        self.aabb = t[prefix + "aabb"]
        self.grid = HashGrid(
            t[prefix + "encoding.hash_table"], int(t[prefix + "num_levels"]), base_res, int(t[prefix + "max_res"])
        )
        linear = prefix + "linear"
        names = [linear] if linear + ".weight" in t else [f"{prefix}mlp_base.1.layers.{k}" for k in range(2)]
        self.layers = [_layer(t, name) for name in names]

    def raw(self, p: torch.Tensor) -> torch.Tensor:
        return _network(self.grid.encode(p), self.layers)[0]


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
