"""Rules of the house that no linter knows: who may import whom, what every shader and public function must have."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import moderngl
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(p for folder in ("ledvolume", "calibration", "script") for p in (ROOT / folder).rglob("*.py"))
PRODUCT = [p for p in SOURCES if p.relative_to(ROOT).parts[0] != "script"]
COMMANDS = sorted(p for p in (ROOT / "script").iterdir() if p.is_file() and not p.suffix)
SHADERS = sorted((ROOT / "ledvolume" / "render" / "shaders").glob("*.glsl"))

MAY_CALL_OPENGL = re.compile(r"ledvolume/(render/.*|outputs/window)\.py")
MAY_IMPORT_TORCH = re.compile(r"ledvolume/scenes/(nerfstudio\w*|checkpoint|bake\w*)\.py|script/.*")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "handler"}


def name_of(path: Path) -> str:
    """The file as the rules and the test ids name it: relative to the checkout, with slashes."""
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> set[str]:
    """Top-level names of every absolute import in a file, those inside functions and `if TYPE_CHECKING` too."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def calls_in(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def importers_of(*modules: str) -> set[str]:
    return {name_of(p) for p in SOURCES if imports_of(p) & set(modules)}


def test_an_opengl_that_runs_compute_shaders_is_here():
    context = moderngl.create_context(standalone=True, backend="egl", require=430)
    values = context.buffer(reserve=16)
    shader = context.compute_shader(
        "#version 430 core\nlayout(local_size_x = 4) in;\nlayout(std430, binding = 0) buffer B { uint v[]; };\n"
        "void main() { v[gl_GlobalInvocationID.x] = 3u * gl_GlobalInvocationID.x; }"
    )
    values.bind_to_storage_buffer(0)
    shader.run(1)
    assert [int.from_bytes(values.read()[i : i + 4], sys.byteorder) for i in range(0, 16, 4)] == [0, 3, 6, 9]
    context.release()


def test_only_render_and_the_window_call_opengl():
    importers = importers_of("moderngl", "glcontext", "glfw")
    assert not {name for name in importers if not MAY_CALL_OPENGL.fullmatch(name) and not name.startswith("script/")}


def test_only_what_reads_checkpoints_imports_torch():
    wrong = {name for name in importers_of("torch", "nerfstudio") if not MAY_IMPORT_TORCH.fullmatch(name)}
    assert not wrong


def test_ledvolume_never_imports_calibration():
    assert not {name for name in importers_of("calibration") if name.startswith("ledvolume/")}


@pytest.mark.parametrize("module", ["ledvolume.cli", "ledvolume.server"])
def test_the_running_server_is_imported_without_torch(module):
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("shader", SHADERS, ids=lambda p: p.name)
def test_every_shader_is_used(shader):
    """Named in Python by its stem, or included by another shader; a pattern such as f"field_{kind}" counts for its kinds."""
    texts = [p.read_text() for p in PRODUCT] + [p.read_text() for p in SHADERS if p != shader]
    kind = re.fullmatch(r"field_(\w+)", shader.stem)
    assert any(re.search(rf"""["'\s/]{shader.stem}(\.glsl)?["']""", text) for text in texts) or (
        kind and (ROOT / "ledvolume" / "scenes" / f"{kind[1]}.py").exists() and any('f"field_{' in text for text in texts)
    ), f"nothing loads {shader.name}"


@pytest.mark.parametrize("shader", SHADERS, ids=lambda p: p.name)
def test_every_shader_says_what_it_does(shader):
    assert shader.read_text().lstrip().startswith(("//", "/*"))


def test_no_module_has_a_name_that_says_nothing():
    assert not {name_of(p) for p in SOURCES if p.stem in SAYS_NOTHING}


@pytest.mark.parametrize("source", PRODUCT, ids=name_of)
def test_modules_and_public_functions_say_what_they_are(source):
    """Module, public classes and public functions at module level; but not a function of two lines, which says it itself,
    nor the entry points that every command has (`main`, `arguments`, `run`): those are told by their module."""
    tree = tree_of(source)
    public = [
        node
        for node in tree.body
        if (isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(node.body) > 2))
        and not node.name.startswith("_")
        and node.name not in {"main", "arguments", "run"}
    ]
    undocumented = [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree) or not tree.body, "the module does not say what it is"
    assert not undocumented, f"without a docstring: {undocumented}"


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_nothing_that_is_read_can_run_code(source):
    """No pickle, no YAML with Python objects, no torch.load without weights_only=True, no eval or exec."""
    tree = tree_of(source)
    assert not imports_of(source) & {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    loaders = {node.name for node in tree.body if isinstance(node, ast.ClassDef) and derives_from_safe_loader(node)}
    for call in calls_in(tree):
        said = ast.unparse(call.func)
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert said not in {"eval", "exec", "yaml.unsafe_load", "yaml.full_load"}, f"line {call.lineno}"
        if said == "torch.load":
            assert options.get("weights_only") == "True", f"line {call.lineno}: {ast.unparse(call)}"
        if said == "yaml.load":
            loader = options.get("Loader", ast.unparse(call.args[1]) if len(call.args) > 1 else "")
            assert loader in loaders | {"yaml.SafeLoader"}, f"line {call.lineno}: {ast.unparse(call)}"
        if said in {"np.load", "numpy.load"}:
            assert options.get("allow_pickle", "False") == "False", f"line {call.lineno}: {ast.unparse(call)}"


def derives_from_safe_loader(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith("SafeLoader") for base in node.bases)


def test_what_the_readme_says_to_run_is_there():
    readme = (ROOT / "README.md").read_text()
    told = set(re.findall(r"\bscript/[a-z_]+|\bconfigs/[\w./-]+\w|\bdocs/[\w./-]+\w", readme))
    assert not {path for path in told if not (ROOT / path).exists()}


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_commands_can_be_run_as_they_are(command):
    assert command.stat().st_mode & 0o111 and command.read_text().startswith("#!/usr/bin/env ")


def test_the_commands_that_the_project_promises_are_there():
    assert {"bootstrap", "test", "bench", "figures"} <= {p.name for p in COMMANDS}


def test_locks_name_no_address_and_pin_every_package_with_a_hash():
    for lock in ROOT.glob("*.lock"):
        text = lock.read_text()
        assert "://" not in text
        pins = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.M | re.S)
        assert pins and all("==" in pin and "--hash=sha256:" in pin for pin in pins)


def test_lock_and_bootstrap_agree_on_torch():
    asked = re.search(r"^TORCH=(\S+)$", (ROOT / "script" / "bootstrap").read_text(), re.M)[1]
    assert f'"torch=={asked}' in (ROOT / "script" / "lock").read_text()
