"""Which module may import which: the house's plan, read from the source."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A module imports from lower layers, and where its layer is one package, from its neighbours.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "gpt.errors",
        "gpt.atomic",
        "gpt.byte_size",
        "gpt.download",
        "gpt.dropout",
        "gpt.filters",
        "gpt.rotary",
        "gpt.decode_head",
        "gpt.play",
        "gpt.relay",
    ),
    ("gpt.config", "gpt.device", "gpt.record", "gpt.vocabulary", "gpt.sampling", "gpt.generation", "gpt.listener"),
    (
        "gpt.kv_cache",
        "gpt.logprobs",
        "gpt.piece",
        "gpt.static_cache",
        "gpt.bpe_tokenizer",
        "gpt.character_tokenizer",
        "gpt.gpt2_tokenizer",
        "gpt.completion",
    ),
    ("gpt.attention", "gpt.attention_slow", "gpt.next_token", "gpt.tokenizer"),
    ("gpt.block", "gpt.checkpoint_info"),
    ("gpt.model",),
    ("gpt.checkpoint", "gpt.checkpoint_archive", "gpt.decode_step", "gpt.inspection", "gpt.scoring"),
    ("gpt.compiled.*",),
    ("gpt.graph_step",),
    ("gpt.torch_rows", "gpt.compiled_rows", "gpt.compiler"),
    ("gpt.batch", "gpt.checkpoint_proof"),
    ("gpt.extend",),
    ("gpt.engine", "gpt.checkpoint_store"),
    ("gpt.backends.*",),
    ("gpt.vertex.*",),
    ("gpt.hub.*",),
    ("gpt.api.*",),
    ("gpt.generate", "gpt.checkpoints", "gpt.ui.*"),
    ("app",),
)
# What runs a model is no business of what makes one.
TRAIN_NEVER = (
    "app",
    "gpt.api*",
    "gpt.backends*",
    "gpt.batch",
    "gpt.compile*",
    "gpt.decode_*",
    "gpt.engine",
    "gpt.extend",
    "gpt.generate",
    "gpt.generation",
    "gpt.graph_step",
    "gpt.logprobs",
    "gpt.piece",
    "gpt.relay",
    "gpt.scoring",
    "gpt.static_cache",
    "gpt.torch_rows",
    "gpt.inspection",
    "gpt.ui*",
    "gpt.vertex.backend",
    "gpt.vertex.predictor",
)
# Libraries that only some rooms may know.
CONFINED = {
    "gradio": ("app", "gpt.ui.*", "train.ui.*"),
    "google": ("gpt.vertex.*", "train.vertex.*"),
    "kfp": ("gpt.vertex.*", "train.vertex.*"),
    "huggingface_hub": ("gpt.hub.*",),
    "llvmlite": ("gpt.compiled.*",),
    "numba": ("gpt.compiled.*",),
}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}
UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
LONGEST_FILE = 350
# Modules of packages that are not called after them.
PROVIDES = {
    "numba": ("numba", "llvmlite"),
    "fastapi": ("fastapi", "starlette"),
    "google-cloud-aiplatform": ("google", "requests"),
    "google-cloud-storage": ("google", "requests"),
    "markdown-it-py": ("markdown_it",),
}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for folder in ("gpt", "train") for path in sorted((ROOT / folder).rglob("*.py"))}
FILES["app"] = ROOT / "app.py"
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
# A package's __init__ hands out names; who imports `gpt.model` does not depend on what `gpt` hands out.
MODULES = [name for name in FILES if FILES[name].name != "__init__.py"]


def _imported(name: str) -> Iterator[str]:
    """Every module that a module imports anywhere in its text, also inside functions and for types only."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{name} imports relatively; write the module's whole name"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in FILES else node.module


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _layer(name: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if _matches(name, layer)]
    assert len(found) == 1, (
        f"{name} stands in {len(found)} layers of tests/test_layers.py; give it the one it belongs to"
    )
    return found[0]


def _is_entry_point(name: str) -> bool:
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in TREES[name].body)


def test_modules_import_from_lower_layers_only() -> None:
    wrong = []
    for name in (name for name in MODULES if not name.startswith("train.")):
        package = name.rpartition(".")[0]
        for imported in _imported(name):
            if imported not in MODULES:
                # Through the package's own names an import could reach any layer.
                allowed = imported.split(".")[0] not in ("gpt", "train")
            elif imported.startswith("train."):
                allowed = name == "app"  # which puts the two together
            elif package != "gpt" and package == imported.rpartition(".")[0]:
                allowed = True
            else:
                allowed = _layer(imported) < _layer(name)
            if not allowed:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_train_imports_nothing_that_runs_a_model() -> None:
    names = [name for name in MODULES if name.startswith("train.")]
    assert [
        f"{name} imports {imported}"
        for name in names
        for imported in _imported(name)
        if imported == "gpt" or _matches(imported, TRAIN_NEVER)
    ] == []


def test_imports_have_no_cycle() -> None:
    graph = {name: {imported for imported in _imported(name) if imported in MODULES} for name in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_libraries_are_imported_only_where_they_belong() -> None:
    wrong = []
    for name in FILES:
        for imported in _imported(name):
            rooms = CONFINED.get(imported.split(".")[0])
            if rooms is not None and not _matches(name, rooms):
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_environment_is_read_in_entry_points_only() -> None:
    wrong = []
    for name in (name for name in FILES if not _is_entry_point(name)):
        for node in ast.walk(TREES[name]):
            names: set[str] = set()
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                names = {node.attr}
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                names = {alias.name for alias in node.names}
            if names & ENVIRONMENT:
                wrong.append(f"{name}, line {getattr(node, 'lineno', 0)}")
    assert wrong == []


def test_nothing_is_unpickled() -> None:
    wrong = []
    for name in FILES:
        wrong += [f"{name} imports {imported}" for imported in _imported(name) if imported.split(".")[0] in UNPICKLERS]
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.Call):
                allows = any(keyword.arg == "allow_pickle" for keyword in node.keywords)
                if allows or ast.unparse(node.func) in ("torch.load", "torch.hub.load", "eval", "exec"):
                    wrong.append(f"{name}, line {node.lineno}: {ast.unparse(node)}")
    assert wrong == []


@pytest.mark.parametrize("folder", ["gpt", "train", "tests"])
def test_file_is_one_noun(folder: str) -> None:
    paths = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".js", ".css")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.parametrize("package", ["gpt", "train"])
def test_package_hands_out_names_and_computes_nothing(package: str) -> None:
    code = f"import {package}, sys; print(sorted({{'torch', 'gradio', 'numpy'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_requirements_are_the_libraries_that_are_imported() -> None:
    imported = {library.split(".")[0] for name in FILES for library in _imported(name)}
    imported -= {*sys.stdlib_module_names, "gpt", "train"}
    lines = [
        line
        for name in ("requirements.txt", "requirements-pipeline.txt", "requirements-parquet.txt")
        for line in (ROOT / name).read_text(encoding="utf-8").split()
    ]
    required = dict(line.split("==") for line in lines)  # every one with its exact version
    provided = {module for name in required for module in PROVIDES.get(name, (name.replace("-", "_"),))}
    assert provided == imported
