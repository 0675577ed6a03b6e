"""A network as commands take it: a task file, an ONNX file, or what ``sh.save`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shohin as sh
from shohin.cli.task_file import load_task
from shohin.core.errors import DataError, DeployError
from shohin.core.module import Module
from shohin.train import Task

KINDS = ".py (sets task), .onnx or .safetensors (of sh.save)"


def load_network(path: Path, *, shape: tuple[int, ...] | None = None, check: Any = None) -> Module | Task:
    """The network of a file; ``shape`` is one example's, ``check`` are inputs on which an imported one is compared with its origin.

    Raises:
        DataError: there is no such file, or it is of another kind; DeployError: a package is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {KINDS}")
    kind = path.suffix.lower()
    if kind == ".py":
        return load_task(path)
    if kind == ".safetensors":
        return sh.load(path)
    if kind != ".onnx":
        raise DataError(f"{path}: expected {KINDS}")
    try:
        importer = sh.from_onnx
    except (AttributeError, ModuleNotFoundError) as error:
        raise DeployError(f"{path}: ONNX files need the package onnx: pip install 'shohin[onnx]' ({error})") from error
    return importer(path, check=check, **({} if shape is None else {"shape": (1, *shape)}))


def numbers(text: str | None, what: str) -> tuple[float, ...] | None:
    """``0.5,0.5,0.5`` as numbers.

    >>> numbers("3,224,224", "shape")
    (3.0, 224.0, 224.0)
    """
    if text is None:
        return None
    try:
        return tuple(float(v) for v in text.replace("x", ",").split(","))
    except ValueError as error:
        raise DataError(f"--{what}: {text!r}, expected numbers with commas, as 3,224,224") from error


def shape_of(text: str | None) -> tuple[int, ...] | None:
    """A shape from text: positive whole numbers."""
    found = numbers(text, "shape")
    if found is not None and any(v != int(v) or v < 1 for v in found):
        raise DataError(f"--shape: {text!r}, expected positive whole numbers, as 3,224,224")
    return None if found is None else tuple(map(int, found))


__all__ = ["KINDS", "load_network", "numbers", "shape_of"]
