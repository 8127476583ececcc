"""Reading nerfstudio runs: what is in them is taken, what is wrong with them is said, and nothing of them is executed."""

import json
import math
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ledvolume.errors import CheckpointError
from ledvolume.scenes.checkpoint import MOST_CONFIG_BYTES, read_run

RUN = Path(__file__).parent / "data" / "nerfacto_good"
CHECKPOINT = "nerfstudio_models/step-000001999.ckpt"
TABLE = "_model.field.mlp_base.model.0.hash_table"
HEAD = "_model.field.mlp_head.layers.0.weight"


@pytest.fixture
def run_copy(tmp_path) -> Path:
    """A run of one's own to damage."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


@pytest.mark.parametrize("path", ["", "config.yml", CHECKPOINT])
def test_a_run_is_named_by_its_directory_its_config_or_its_checkpoint(path):
    run = read_run(RUN / path)
    assert (run.method, run.step, run.config.background_color) == ("nerfacto", 1999, "last_sample")
    assert run.path.name == "step-000001999.ckpt" and len(run.sha256) == 64
    assert run.config.average_init_density == 0.5 and run.tensors["field.aabb"].shape == (2, 3)


def test_the_newest_checkpoint_is_taken(run_copy):
    models = run_copy / "nerfstudio_models"
    shutil.copy(run_copy / CHECKPOINT, models / "step-000010000.ckpt")
    shutil.copy(run_copy / CHECKPOINT, models / "step-9000.ckpt")
    assert read_run(run_copy).path.name == "step-000010000.ckpt"


def test_model_from_world_scales_after_turning_and_shifting():
    """x_model = scale · (T · [x; 1]), nerfstudio's own order."""
    run = read_run(RUN)
    said = json.loads((RUN / "dataparser_transforms.json").read_text())
    transform = np.array(said["transform"])
    point = np.array([0.3, -2.0, 1.1])
    expected = said["scale"] * (transform[:, :3] @ point + transform[:, 3])
    np.testing.assert_allclose((run.model_from_world.matrix() @ [*point, 1])[:3], expected, atol=1e-6)


def rewrite(run: Path, change) -> None:
    """Saves the checkpoint anew with its `pipeline` changed in place."""
    tree = torch.load(run / CHECKPOINT, weights_only=True)
    change(tree["pipeline"])
    torch.save(tree, run / CHECKPOINT)


def test_a_run_trained_on_several_gpus_is_read(run_copy):
    def distributed(pipeline):
        for key in list(pipeline):
            pipeline[key.replace("_model.", "_model.module.", 1)] = pipeline.pop(key)

    rewrite(run_copy, distributed)
    assert read_run(run_copy).tensors.keys() == read_run(RUN).tensors.keys()


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_checkpoint_as_training_saves_it_is_read(run_copy, module):
    """With optimizer and scheduler state: np.float64, as numpy 1 and numpy 2 name it, is what torch alone refuses."""
    tree = torch.load(run_copy / CHECKPOINT, weights_only=True)
    tree["schedulers"] = {"fields": {"_last_lr": [np.float64(0.01)], "last_epoch": 3}}
    tree["optimizers"] = {"fields": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(1.0)}]}}
    torch.save(tree, run_copy / CHECKPOINT)
    saved = f"{np.float64(1).__reduce__()[0].__module__}"
    with zipfile.ZipFile(run_copy / CHECKPOINT) as old:
        entries = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(run_copy / CHECKPOINT, "w") as new:
        for name, data in entries:
            new.writestr(name, data.replace(f"c{saved}\n".encode(), f"c{module}\n".encode()))
    assert read_run(run_copy).step == 1999


class Touch:
    """Unpickled, it makes a file: the proof that code ran."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["inside a checkpoint", "a plain pickle"])
def test_a_hostile_checkpoint_executes_nothing(run_copy, tmp_path, form):
    sentinel = tmp_path / "it-ran"
    if form == "a plain pickle":
        (run_copy / CHECKPOINT).write_bytes(pickle.dumps(Touch(sentinel)))
    else:
        torch.save({"step": 1, "pipeline": {}, "surprise": Touch(sentinel)}, run_copy / CHECKPOINT)
    with pytest.raises(CheckpointError, match=r"step-000001999\.ckpt"):
        read_run(run_copy)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "tag",
    [
        "logging: !!python/object/apply:os.system ['touch {sentinel}']",
        "data: !!python/object/new:subprocess.check_call [['touch', '{sentinel}']]",
        "data: !!python/object/apply:nerfstudio.utils.scripts.run_command ['touch {sentinel}']",
        "viewer: !!python/module:antigravity ''",
    ],
    ids=["apply", "new", "a function of nerfstudio's", "module"],
)
def test_a_config_that_calls_executes_nothing_and_is_refused(run_copy, tmp_path, tag):
    sentinel = tmp_path / "it-ran"
    config = run_copy / "config.yml"
    config.write_text(config.read_text().replace("vis: tensorboard", tag.format(sentinel=sentinel)))
    before = set(sys.modules)
    with pytest.raises(CheckpointError, match="config.yml.*would run code"):
        read_run(run_copy)
    assert not sentinel.exists() and "antigravity" not in set(sys.modules) - before


def test_names_and_calls_that_nerfstudio_writes_are_plain_data(run_copy):
    """Enumerations, as depth-nerfacto's, and classes; not imported."""
    lines = [
        "depth_loss_type: !!python/object/apply:nerfstudio.model_components.losses.DepthLossType",
        "- 1",
        "vis: !!python/name:this.s ''",
    ]
    config = run_copy / "config.yml"
    config.write_text(config.read_text().replace("vis: tensorboard", "\n".join(lines)))
    before = set(sys.modules)
    assert read_run(run_copy).method == "nerfacto"
    assert "this" not in set(sys.modules) - before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 6000, "RecursionError"),
        ("a: *nowhere", "not YAML"),
        ("- 1\n- 2", "expected a mapping"),
        ("method_name: nerfacto", "pipeline.model"),
        ("#" * (MOST_CONFIG_BYTES + 1), "expected at most"),
        ("? !!python/object:x.Y {a: 1}\n: 2", "not YAML"),
    ],
    ids=["deep", "bad alias", "a list", "no model", "huge", "unhashable key"],
)
def test_a_config_that_is_none_gives_one_clear_error(run_copy, text, said):
    (run_copy / "config.yml").write_text(text)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_run(run_copy)
    assert "config.yml" in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("base_res: 16", "base_res: huge", r"`int`.*base_res"),
        ("base_res: 16", "base_res: -4", "base_res"),
        ("far_plane: 1000.0", "far_plane: .inf", "far_plane is inf"),
        ("far_plane: 1000.0", "far_plane: .nan", "far_plane"),
        ("average_init_density: 0.5", "average_init_density: 0", "average_init_density"),
        ("num_proposal_iterations: 2", "num_proposal_iterations: 3", "3 proposal iterations"),
        ("background_color: last_sample", "background_color: plaid", "background_color"),
        ("num_nerf_samples_per_ray: 16", "num_nerf_samples_per_ray: 99999999", "num_nerf_samples_per_ray"),
        ("nerfstudio.models.nerfacto.NerfactoModel", "nerfstudio.models.splatfacto.SplatfactoModel", "train nerfacto"),
        ("nerfstudio.models.nerfacto.NerfactoModel", "nerfstudio.models.tensorf.TensoRFModel", "'TensoRFModel' is not supported"),
    ],
)
def test_a_setting_out_of_range_is_named(run_copy, old, new, said):
    config = run_copy / "config.yml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=said):
        read_run(run_copy)


DAMAGES = {
    "missing": (lambda p: p.pop(TABLE), r"mlp_base\.model\.0\.hash_table: expected a tensor, got nothing"),
    "shape": (lambda p: p.update({HEAD: p[HEAD][:, 1:].clone()}), r"layers\.0\.weight: expected 32×39 floats, got \(32, 38\)"),
    "table": (lambda p: p.update({TABLE: p[TABLE][:-1].clone()}), "hash_table: expected 65536×2 floats"),
    "kind": (lambda p: p.update({HEAD: p[HEAD].long()}), "layers.0.weight: expected 32×39 floats, got .* int64"),
    "nan": (lambda p: p[TABLE][3].fill_(math.nan), r"hash_table: expected finite numbers, got 2 NaN or Inf"),
    "inf": (lambda p: p[HEAD][0, 0].fill_(math.inf), "expected finite numbers"),
    "levels": (lambda p: p["_model.field.num_levels"].fill_(10**9), "num_levels: expected an integer from 1 to"),
    "table bits": (lambda p: p["_model.field.log2_hashmap_size"].fill_(60), "log2_hashmap_size: expected an integer from 1 to"),
    "posing": (lambda p: p.update({TABLE: torch.zeros(1, 1).expand(65536, 2)}), "hash_table: expected 65536×2 floats"),
    "box": (lambda p: p["_model.field.aabb"].zero_(), "aabb: expected a box"),
    "tcnn": (
        lambda p: p.update({"_model.field.mlp_base.model.params": torch.zeros(9)}),
        r"mlp_base\.model\.params: expected \d+ floats \(8 levels of 2 features and hidden_dim 32\), got 9",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_gives_one_clear_error(run_copy, damage, said):
    rewrite(run_copy, damage)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_run(run_copy)
    assert "step-000001999.ckpt" in str(caught.value)


@pytest.mark.parametrize("cut", [0, 100, 700_000])
def test_a_checkpoint_cut_short_gives_one_clear_error(run_copy, cut):
    checkpoint = run_copy / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_run(run_copy)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.yml", "config.yml: missing"),
        (CHECKPOINT, "no checkpoint, expected nerfstudio_models"),
        ("dataparser_transforms.json", "dataparser_transforms.json: missing"),
    ],
)
def test_a_missing_file_is_named(run_copy, missing, said):
    (run_copy / missing).unlink()
    with pytest.raises(CheckpointError, match=said):
        read_run(run_copy)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such file or directory"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"transform": [[1]], "scale": 1}',
        '{"transform": "x", "scale": 1}',
        '{"scale": 0}',
        "[" * 6000,
        "MIRRORED",
        "SCALED",
    ],
    ids=["empty", "no keys", "1x1", "text", "no transform", "deep", "mirrored", "not rigid"],
)
def test_a_transform_that_is_none_gives_one_clear_error(run_copy, text):
    bad = {"MIRRORED": np.diag([1.0, 1, -1]), "SCALED": np.eye(3) * 2}.get(text)
    if bad is not None:
        text = json.dumps({"transform": np.c_[bad, np.zeros(3)].tolist(), "scale": 1.0})
    (run_copy / "dataparser_transforms.json").write_text(text)
    with pytest.raises(CheckpointError, match="dataparser_transforms.json"):
        read_run(run_copy)
