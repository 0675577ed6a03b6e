"""The direction of imports: who may import whom, no cycles, no imports inside functions, a light ``import shohin``.

The checker reads source files and imports nothing, so it works on a tree that does not run.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "shohin"

# package -> the packages that its modules may import (besides itself)
LAYERS: dict[str, set[str]] = {}


def layer(name: str, *on: str) -> None:
    """A package stands on those named and on all that they stand on."""
    LAYERS[name] = set(on).union(*(LAYERS[below] for below in on))


layer("core")
layer("ops", "core")
layer("transforms", "ops")
layer("compiler", "transforms")  # is handed a target, and kernels through it; imports neither
layer("kernels", "compiler")
layer("targets", "kernels")
layer("data", "core")
layer("nn", "transforms")
layer("optim", "transforms")
layer("train", "nn", "optim", "data", "targets")
layer("compress", "nn", "optim", "data", "targets")
layer("interop", "compress")  # quantized files bring grids
layer("deploy", "train", "compress", "interop")
layer("costs", "deploy")  # models of what deploy measures
layer("search", "costs")  # nobody but cli imports it
layer("shipping", "costs")
layer("report", "shipping")
layer("testing", "deploy")
layer("cli", "search", "report", "testing")

# The namespace itself stands on all, so only what stands above everything may say `import shohin`.
MAY_IMPORT_THE_NAMESPACE = {"cli", "testing"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LAZY = "shohin"  # the one module whose functions may import, through importlib: the table of __getattr__


@dataclass(frozen=True)
class Import:
    source: str  # the module that imports
    target: str  # the module that is imported, a module of shohin
    line: int


@dataclass
class Tree:
    """The modules below a folder and what they import of each other."""

    root: Path

    def __post_init__(self):
        self.files = {self.name(path): path for path in sorted(self.root.rglob("*.py"))}
        self.asts = {name: ast.parse(path.read_text(), str(path)) for name, path in self.files.items()}

    def name(self, path: Path) -> str:
        parts = path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self) -> Iterator[Import]:
        for source, tree in self.asts.items():
            for node in outside_type_checking(tree):
                for target in self.targets(source, node):
                    yield Import(source, target, node.lineno)
            for call in dynamic_imports(tree):
                if imports_its_own_modules(call):
                    own = (name for name in self.files if name.rpartition(".")[0] == source)
                    yield from (Import(source, target, call.lineno) for target in own)

    def targets(self, source: str, node: ast.AST) -> Iterator[str]:
        """The modules of this tree that a statement imports: for `from a import b`, a.b if that is a module, else a."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if self.inside(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = source.split(".")
                if self.files[source].name != "__init__.py":
                    package = package[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, base] if base else package)
            if self.inside(base):
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    is_module = full in self.files or (self.root.parent / full.replace(".", "/")).is_dir()
                    yield full if is_module else base

    def inside(self, name: str) -> bool:
        return name == self.root.name or name.startswith(f"{self.root.name}.")


def outside_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from outside_type_checking(other)
            continue
        yield node
        yield from outside_type_checking(node)


def package_of(module: str) -> str:
    """`core` for shohin.core.op; the empty string for the namespace and for modules right below it."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else ""


def wrong_directions(tree: Tree) -> list[str]:
    found = []
    for name, path in tree.files.items():
        parts = name.split(".")
        is_package = len(parts) > 2 or path.name == "__init__.py"
        if len(parts) > 1 and is_package and parts[1] not in LAYERS:
            found.append(f"{name}: the package {parts[1]!r} has no layer; name one in tests/test_imports.py")
    for i in tree.imports():
        source, target = package_of(i.source), package_of(i.target)
        if source == "":
            continue  # the namespace stands on all
        if target == "":
            if source not in MAY_IMPORT_THE_NAMESPACE:
                found.append(f"{i.source}:{i.line} imports {i.target}, which stands on everything")
        elif target != source and target not in LAYERS[source]:
            below = ", ".join(sorted(LAYERS[source])) or "nothing"
            found.append(f"{i.source}:{i.line} imports {i.target}; {source} may import {below}")
    return found


def cycles(tree: Tree) -> list[str]:
    """One line for each cycle found by a depth-first walk."""
    edges: dict[str, set[str]] = {name: set() for name in tree.files}
    for i in tree.imports():
        if i.target in edges and i.target != i.source:
            edges[i.source].add(i.target)
    found, done, path = [], set(), []

    def visit(name: str) -> None:
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
            return
        if name in done:
            return
        path.append(name)
        for target in sorted(edges[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in sorted(edges):
        visit(name)
    return found


def inside_functions(tree: Tree) -> list[str]:
    found = []
    for name, root in tree.asts.items():
        for function in ast.walk(root):
            if isinstance(function, FUNCTIONS):
                for node in ast.walk(function):
                    if isinstance(node, (ast.Import, ast.ImportFrom)):
                        found.append(f"{name}:{node.lineno} imports inside {function.name}()")
        inside = {id(n) for f in ast.walk(root) if isinstance(f, FUNCTIONS) for n in ast.walk(f)}
        for node in dynamic_imports(root):
            if name != LAZY and not (imports_its_own_modules(node) and id(node) not in inside):
                found.append(f"{name}:{node.lineno} calls import_module; only the table in shohin/__init__.py may")
    return sorted(set(found))


def dynamic_imports(root: ast.AST) -> Iterator[ast.Call]:
    names = ("__import__", "importlib.import_module", "import_module")
    return (n for n in ast.walk(root) if isinstance(n, ast.Call) and ast.unparse(n.func) in names)


def imports_its_own_modules(call: ast.Call) -> bool:
    """`import_module(f"{__name__}.x")`: a package that imports all of its own modules, as the devices are found."""
    return bool(call.args) and ast.unparse(call.args[0]).startswith(("f'{__name__}.", 'f"{__name__}.'))


@pytest.fixture(scope="module")
def tree():
    return Tree(ROOT)


def test_directions(tree):
    assert wrong_directions(tree) == []


def test_no_cycles(tree):
    assert cycles(tree) == []


def test_no_imports_inside_functions(tree):
    assert inside_functions(tree) == []


def test_importing_shohin_is_light():
    """A program that trains needs no compiler, terminal or importer until it asks for one."""
    heavy = {
        "ziglang", "typer", "rich", "onnx", "torch", "jax", "matplotlib", "jinja2", "optuna", "ray", "scipy", "pytest",
        "hypothesis", "safetensors.torch",
    }  # fmt: skip
    code = "import sys, shohin; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    assert heavy & set(done.stdout.split()) == set()


# ------------------------------------------------------------------------------------------ the checker, checked


DISCOVERY = """
import importlib, pkgutil
for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
"""


def make(tmp_path: Path, **sources: str) -> Tree:
    """A tree of `core__op="..."` -> shohin/core/op.py, with an empty __init__.py in each package unless given."""
    root = tmp_path / "shohin"
    for key, source in {"_init": "", **sources}.items():
        path = root.joinpath(*key.replace("_init", "__init__").split("__")).with_suffix(".py")
        if key.endswith("_init"):
            path = root.joinpath(*[p for p in key[: -len("_init")].split("__") if p], "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        (path.parent / "__init__.py").touch()
    return Tree(root)


@pytest.mark.parametrize(
    "sources",
    [
        {"core__op": "import shohin.ops.math", "ops__math": ""},
        {"core__op": "from shohin.ops import math", "ops__math": ""},
        {"core__op": "from shohin import ops", "ops__math": ""},
        {"core__op": "from ..ops.math import exp", "ops__math": ""},
        {"core__op": "from shohin import Tensor"},
        {"core__op": "import shohin as sh"},
        {"core__op": "try:\n    import shohin.nn\nexcept ImportError:\n    pass", "nn__layer": ""},
        {"compiler__jit": "from shohin.targets import host", "targets__host": ""},
        {"compiler__jit": "from shohin.kernels.gemm import gemm", "kernels__gemm": ""},
        {"data__set": "from shohin.ops import math", "ops__math": ""},
        {"deploy__export": "from shohin.search import space", "search__space": ""},
        {"misc__odd": ""},
    ],
)
def test_a_wrong_direction_is_found(tmp_path, sources):
    assert len(wrong_directions(make(tmp_path, **sources))) >= 1


@pytest.mark.parametrize(
    "sources",
    [
        {"ops__math": "from shohin.core.op import Op", "core__op": ""},
        {"ops__a": "from . import b\nfrom .b import k\nfrom ..core import op", "ops__b": "", "core__op": ""},
        {"targets__host": "from shohin.kernels import gemm", "kernels__gemm": "import numpy"},
        {"core__op": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shohin.ops import a", "ops__a": ""},
        {"targets_init": DISCOVERY, "targets__host": "from shohin.targets import base", "targets__base": ""},
        {"_init": "from shohin.ops.math import exp", "ops__math": ""},
        {"cli__main": "import shohin as sh"},
        {"train__fit": "import shohin.data.set\nfrom shohin.targets import host", "data__set": "", "targets__host": ""},
    ],
)  # fmt: skip
def test_a_right_direction_passes(tmp_path, sources):
    tree = make(tmp_path, **sources)
    assert (wrong_directions(tree), cycles(tree), inside_functions(tree)) == ([], [], [])


def test_a_cycle_is_found(tmp_path):
    sources = {"a": "from shohin.core.b import x", "b": "import shohin.core.c", "c": "from . import a"}
    tree = make(tmp_path, **{f"core__{name}": source for name, source in sources.items()})
    assert cycles(tree) == ["shohin.core.a -> shohin.core.b -> shohin.core.c -> shohin.core.a"]


def test_a_cycle_through_discovery_is_found(tmp_path):
    tree = make(tmp_path, targets_init=DISCOVERY, targets__host="from shohin.targets import Target")
    assert cycles(tree) == ["shohin.targets -> shohin.targets.host -> shohin.targets"]


def test_a_cycle_through_a_package_is_found(tmp_path):
    tree = make(tmp_path, core_init="from shohin.core.a import x", core__a="from shohin.core import y")
    assert cycles(tree) == ["shohin.core -> shohin.core.a -> shohin.core"]


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import numpy",
        "class A:\n    async def f(self):\n        if x:\n            from os import path",
        "import importlib\ndef f():\n    return importlib.import_module('torch')",
        "x = __import__('torch')",
        "import importlib\nx = importlib.import_module('torch')",
        "import importlib\ndef f(name):\n    importlib.import_module(f'{__name__}.{name}')",
    ],
)
def test_an_import_inside_a_function_is_found(tmp_path, source):
    assert len(inside_functions(make(tmp_path, core__a=source))) == 1


def test_the_lazy_table_may_import(tmp_path):
    source = "import importlib\ndef __getattr__(name):\n    return importlib.import_module(name)"
    assert inside_functions(make(tmp_path, _init=source)) == []
