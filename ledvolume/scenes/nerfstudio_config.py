"""config.yml of a nerfstudio run as plain data: what rendering needs of it, checked for type and range.

nerfstudio itself reads the file with an unsafe loader: a run from a stranger runs the stranger's code. Here tags are never
resolved, and one that would call a stranger's function is refused. Names and defaults are nerfstudio's own
(`pipeline.model`): models/nerfacto.py and models/instant_ngp.py of 1.1.5.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import yaml
from msgspec import Meta

from ledvolume.errors import CheckpointError

MOST_CONFIG_BYTES = 1 << 20
MOST_WIDTH = 1024
KINDS = "nerfacto, depth-nerfacto or instant-ngp"

Count = Annotated[int, Meta(ge=1, le=1 << 16)]
Width = Annotated[int, Meta(ge=1, le=MOST_WIDTH)]
Length = Annotated[float, Meta(gt=0)]


class ProposalConfig(msgspec.Struct, frozen=True):
    """One entry of `proposal_net_args_list`. Level count and table size are read from the tensors instead."""

    base_res: Count = 16
    features_per_level: Annotated[int, Meta(ge=1, le=8)] = 2
    use_linear: bool = False
    hidden_dim: Width = 16


class NerfactoConfig(msgspec.Struct, frozen=True):
    """What the tensors of a nerfacto or depth-nerfacto do not say. The widths only tiny-cuda-nn's tensors do not say."""

    near_plane: Length = 0.05
    far_plane: Length = 1000.0
    background_color: Literal["last_sample", "random", "black", "white"] = "last_sample"
    base_res: Count = 16
    features_per_level: Annotated[int, Meta(ge=1, le=8)] = 2
    hidden_dim: Width = 64
    hidden_dim_color: Width = 64
    num_proposal_samples_per_ray: tuple[Count, ...] = (256, 96)
    num_nerf_samples_per_ray: Count = 48
    num_proposal_iterations: Annotated[int, Meta(ge=0, le=8)] = 2
    use_same_proposal_network: bool = False
    proposal_net_args_list: tuple[ProposalConfig, ...] = (ProposalConfig(), ProposalConfig())
    proposal_initial_sampler: Literal["piecewise", "uniform"] = "piecewise"
    use_average_appearance_embedding: bool = True
    disable_scene_contraction: bool = False
    average_init_density: Length = 1.0  # absent before 1.0.3
    eval_num_rays_per_chunk: Annotated[int, Meta(ge=1)] = 32768

    def __post_init__(self):
        _check_planes(self)
        if not math.isfinite(self.average_init_density):
            raise ValueError(f"average_init_density is {self.average_init_density}, expected a finite number")
        if len(self.num_proposal_samples_per_ray) < self.num_proposal_iterations or not self.proposal_net_args_list:
            raise ValueError(f"{self.num_proposal_iterations} proposal iterations need as many sample counts and a network")

    @property
    def proposal_networks(self) -> tuple[ProposalConfig, ...]:
        """One per network in the checkpoint; nerfstudio repeats the last entry of a list that is too short."""
        count = 1 if self.use_same_proposal_network else self.num_proposal_iterations
        entries = self.proposal_net_args_list
        return tuple(entries[min(i, len(entries) - 1)] for i in range(count))


class InstantNgpConfig(msgspec.Struct, frozen=True):
    """The same for nerfstudio's instant-ngp, whose field is nerfacto's with these sizes and without a proposal network.

    Its appearance switch is inverted: use_appearance_embedding=False makes 32 numbers a photograph. At inference they are
    zeros either way, and whether they exist the tensors say.
    """

    near_plane: Length = 0.05
    far_plane: Length = 1000.0
    background_color: Literal["random", "black", "white"] = "random"
    cone_angle: Annotated[float, Meta(ge=0, le=1)] = 0.004
    render_step_size: Length | None = None  # model units; None: a thousandth of the scene box's diagonal
    disable_scene_contraction: bool = False

    base_res: ClassVar[int] = 16
    features_per_level: ClassVar[int] = 2
    hidden_dim: ClassVar[int] = 64
    hidden_dim_color: ClassVar[int] = 64
    average_init_density: ClassVar[float] = 1.0
    use_average_appearance_embedding: ClassVar[bool] = False
    proposal_initial_sampler: ClassVar[str] = "piecewise"  # where the converged integral looks first
    proposal_networks: ClassVar[tuple[ProposalConfig, ...]] = ()

    def __post_init__(self):
        _check_planes(self)


ModelConfig = NerfactoConfig | InstantNgpConfig


def _check_planes(config: ModelConfig) -> None:
    for key in ("near_plane", "far_plane"):
        if not math.isfinite(getattr(config, key)):
            raise ValueError(f"{key} is {getattr(config, key)}, expected a finite number")
    if config.far_plane <= config.near_plane:
        raise ValueError(f"far_plane {config.far_plane} is not beyond near_plane {config.near_plane}")


class PlainLoader(yaml.SafeLoader):
    """YAML whose Python tags are taken as the plain value under them; a `python/name` as the name it says.

    A tag that calls is refused, unless it calls what nerfstudio writes: paths, its enumerations, numbers of numpy.
    """


CALLS = ("object/apply:", "object/new:", "module:")
NERFSTUDIO_CALLS = re.compile(
    r"(pathlib|nerfstudio|ledvolume)\.(\w+\.)*[A-Z]\w*|collections\.OrderedDict|numpy\.(_?core\.multiarray\.scalar|dtype)"
)


def _plain(loader: PlainLoader, tag: str, node: yaml.Node) -> Any:
    called = tag.partition(":")[2]
    if tag.startswith(CALLS) and not NERFSTUDIO_CALLS.fullmatch(called):
        raise yaml.constructor.ConstructorError(problem=f"!!python/{tag[:80]} would run code, which no run needs: not opened")
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return called if tag.startswith("name:") else loader.construct_scalar(node)


PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def plain_yaml(path: Path) -> dict[str, Any]:
    """config.yml as dicts, lists and scalars; no object of it is built, no name of it imported."""
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, expected at most {MOST_CONFIG_BYTES}")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not YAML that nerfstudio writes: {type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: expected a mapping with method_name and pipeline, got {type(tree).__name__}")
    return tree


MODELS = {"NerfactoModel": NerfactoConfig, "DepthNerfactoModel": NerfactoConfig, "NGPModel": InstantNgpConfig}


def model_config(tree: dict[str, Any], path: Path) -> tuple[str, ModelConfig]:
    """Method name and checked model settings."""
    method = tree.get("method_name")
    pipeline = tree.get("pipeline")
    model = pipeline.get("model") if isinstance(pipeline, dict) else None
    if not isinstance(method, str) or not isinstance(model, dict):
        raise CheckpointError(
            f"{path}: method_name and pipeline.model: expected text and a mapping, got {method!r} and {type(model).__name__}"
        )
    kind = str(model.get("_target", "")).rpartition(".")[2]
    if kind not in MODELS:
        hint = " (splats have no density to bake: train nerfacto on the same photographs)" if kind == "SplatfactoModel" else ""
        raise CheckpointError(
            f"{path}: method_name: {method[:80]!r} with model {kind[:80] or 'unknown'!r} is not supported, expected {KINDS}{hint}"
        )
    try:
        return method, msgspec.convert({k: v for k, v in model.items() if isinstance(k, str)}, MODELS[kind])
    except (msgspec.ValidationError, RecursionError) as error:
        raise CheckpointError(f"{path}: pipeline.model: {error}") from None
