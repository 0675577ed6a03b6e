"""From a module to its exported program, and running the module: what needs torch beside reading the program."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram, default_decompositions, export
from torch.utils import _pytree as pytree

from shohin.core.errors import ForeignError
from shohin.interop.pytorch.read import operator_name
from shohin.interop.pytorch.rules import TABLE

Array = np.ndarray[Any, Any]
Example = tuple[tuple[Any, ...], dict[str, Any]]


def called_with(example: Any) -> Example:
    """An example as positional and named arguments, on the CPU: a tensor or array, a tuple of them, or a dict by name."""
    tensors = pytree.tree_map(lambda v: torch.from_numpy(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v, example)
    if isinstance(tensors, Mapping):
        return (), dict(tensors)
    return (tuple(tensors) if isinstance(tensors, tuple | list) else (tensors,)), {}


def exported(module: torch.nn.Module, example: Example) -> ExportedProgram:
    """The program for any number of examples if it can be, else for those at hand.

    Raises:
        ForeignError: torch.export refuses; what it says.
    """
    leaves = [v for v in pytree.tree_leaves(example) if isinstance(v, torch.Tensor) and v.ndim]
    n = leaves[0].shape[0] if leaves else 0
    several = pytree.tree_map(lambda v: torch.cat([v, v]) if _counts(v, 1) else v, example) if n == 1 else example
    count = 2 if n == 1 else n
    shapes = pytree.tree_map(lambda v: {0: Dim.AUTO} if _counts(v, count) else None, several)
    if n:
        try:
            return _exported(module, several, shapes[1] or shapes[0])
        except Exception:  # whatever stands in the way of it, the program for these examples says it better
            pass
    try:
        return _exported(module, example, None)
    except Exception as error:
        raise ForeignError(f"torch.export cannot export it: {type(error).__name__}: {error}") from error


def _counts(v: Any, n: int) -> bool:
    return isinstance(v, torch.Tensor) and v.ndim > 0 and v.shape[0] == n


def _exported(module: torch.nn.Module, example: Example, shapes: Any) -> ExportedProgram:
    with evaluating(module), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return lowered(export(module, example[0], example[1], dynamic_shapes=shapes, strict=False))


def lowered(program: ExportedProgram) -> ExportedProgram:
    """What the table does not know is taken apart; what it knows stays whole."""
    parts = default_decompositions()
    for op in [op for op in parts if operator_name(op) in TABLE]:
        parts.pop(op)
    return program.run_decompositions(parts)


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode, each part of it as it was afterwards."""
    before = {m: m.training for m in module.modules()}
    try:
        for m in before:  # an exported program's module has no eval()
            m.training = False
        yield
    finally:
        for m, training in before.items():
            m.training = training


class Origin:
    """The module as PyTorch runs it, by the names of the program's inputs."""

    name = "PyTorch"

    def __init__(self, module: torch.nn.Module, example: Example, names: Sequence[str]) -> None:
        self._module, self._names = module, names
        self._leaves, self._spec = pytree.tree_flatten(example)

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        given = iter([torch.from_numpy(np.ascontiguousarray(inputs[n])) for n in self._names])
        args, kwargs = pytree.tree_unflatten([next(given) if isinstance(v, torch.Tensor) else v for v in self._leaves], self._spec)
        with evaluating(self._module), torch.no_grad():
            found = self._module(*args, **kwargs)
        return [v.numpy() for v in pytree.tree_leaves(found) if isinstance(v, torch.Tensor)]


__all__ = ["Origin", "called_with", "evaluating", "exported", "lowered"]
