"""Every example in a docstring of shohin runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import shohin

EXTRAS = {"onnx", "onnxruntime", "torch", "jax", "ray", "coreai", "optuna", "matplotlib", "jinja2", "soundfile", "scipy", "PIL"}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(module.name for module in pkgutil.walk_packages(shohin.__path__, "shohin."))


@pytest.mark.parametrize("name", ["shohin", *(name for name in MODULES if not name.endswith(".__main__"))])
def test_examples(name, tmp_path, monkeypatch):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in EXTRAS:
            pytest.skip(f"{name} needs {error.name}, which is not installed")
        raise
    monkeypatch.chdir(tmp_path)  # an example may write files
    result = doctest.testmod(module, optionflags=FLAGS)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} failed; see the output"
