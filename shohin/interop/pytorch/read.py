"""An exported program of PyTorch as a ``Foreign`` graph. This module imports torch; only who reads a program imports this one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from shohin.core import dtypes
from shohin.core.dtypes import DType
from shohin.core.errors import ForeignError
from shohin.interop.foreign import Foreign, Input, Node, verify
from shohin.interop.naming import path_of
from shohin.interop.pytorch.table import Extent, Operand

EXAMPLES = "examples"
"""The symbol of the extents that count the examples."""
_LOCAL = frozenset({"device", "pin_memory", "layout", "memory_format", "non_blocking", "requires_grad"})
"""Where and how a tensor lies: nothing of it is left here."""
_WEIGHT = re.compile(r"(.+?)[._](?:weight(?:_[ih]h_l\d+(?:_reverse)?)?|running_mean)$")


def array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor's data."""
    t = tensor.detach().cpu().contiguous()
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16).copy()
    return t.numpy().copy()


def dtype_of(dtype: torch.dtype) -> DType:
    found = {str(d): d for d in dtypes.ANY}.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ForeignError(f"element type {dtype} has no counterpart here")
    return found


def read(program: ExportedProgram) -> Foreign:
    """The program's graph: constants under the names of the module's state, operators at the paths of its modules.

    Raises:
        ForeignError: the program writes its buffers or takes what is not a tensor.
    """
    graph, signature = program.graph_module.graph, program.graph_signature
    state = {**program.constants, **program.state_dict}
    nodes = {n.name: n for n in graph.nodes}
    names: dict[Any, str] = {}
    inputs: list[Input] = []
    constants: dict[str, Any] = {}
    untrained: set[str] = set()
    first: dict[Any, str] = {}
    for spec in signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind is InputKind.USER_INPUT:
            if not isinstance(node.meta.get("val"), torch.Tensor):
                if node.users:
                    raise ForeignError(f"the input {node.name!r} is a number, not a tensor; put it into the module before it is exported")
                continue
            names[node] = node.name
            inputs.append(_input(node))
        elif node.users:
            tensor: Any = state.get(spec.target)
            if not isinstance(tensor, torch.Tensor):
                raise ForeignError(f"{spec.target} is {type(tensor).__name__}, which has no counterpart here")
            name = first.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype) if tensor.numel() else spec.target, str(spec.target))
            names[node] = name
            constants[name] = array(tensor)
            if spec.kind is not InputKind.PARAMETER:
                untrained.add(name)
    written = [str(s.target) for s in signature.output_specs if s.kind is not OutputKind.USER_OUTPUT]
    if written:
        raise ForeignError(f"the module writes {', '.join(written)} when it runs; give such state as an input and return it")
    found: list[Node] = []
    for node in graph.nodes:
        if node.op == "call_function" and node.users:
            made = _node(node, names, constants)
            if made is not None:
                found.append(made)
        elif node.op == "get_attr" and node.users:
            raise ForeignError(f"{node.target} is a part of the program that is run by conditions or loops, which has no counterpart here")
    outputs = tuple(names[nodes[s.arg.name]] for s in signature.output_specs if getattr(s.arg, "name", None) and nodes[s.arg.name] in names)
    return verify(Foreign(inputs=tuple(inputs), constants=constants, nodes=tuple(found), outputs=outputs, version=0, untrained=frozenset(untrained)))


def _input(node: Any) -> Input:
    val = node.meta["val"]
    shape = tuple(n if isinstance(n, int) else EXAMPLES for n in val.shape)
    return Input(name=node.name, shape=shape, dtype=dtype_of(val.dtype))


def operator_name(target: Any) -> str:
    """``conv2d.default``; of functions of Python ``operator.mul``."""
    if isinstance(target, torch._ops.OpOverload):
        name = str(target)
        return name.removeprefix("aten.")
    return f"{str(getattr(target, '__module__', '')).strip('_')}.{getattr(target, '__name__', target)}"


def _node(node: Any, names: dict[Any, str], constants: Mapping[str, Any]) -> Node | None:
    op = operator_name(node.target)
    if op == "operator.getitem":
        names[node] = f"{node.args[0].name}.{node.args[1]}"
        return None
    inputs: list[str] = []

    def plain(v: Any) -> Any:
        if isinstance(v, torch.fx.Node):
            inputs.append(names[v])
            kind = Operand if isinstance(v.meta.get("val"), torch.Tensor) else Extent
            return kind(len(inputs) - 1)
        if isinstance(v, list | tuple):
            return tuple(map(plain, v))
        return dtype_of(v) if isinstance(v, torch.dtype) else v

    args = tuple(map(plain, node.args))
    kwargs = {k: plain(v) for k, v in node.kwargs.items() if k not in _LOCAL}
    val = node.meta.get("val")
    if isinstance(val, list | tuple):
        read_ = {u.args[1] for u in node.users}
        outputs = tuple(f"{node.name}.{k}" if k in read_ else "" for k in range(len(val)))
    else:
        names[node] = node.name
        outputs = (node.name,)
    return Node(op=op, inputs=tuple(inputs), outputs=outputs, attrs={"args": args, "kwargs": kwargs}, place=_place(node, inputs, constants))


def _place(node: Any, inputs: list[str], constants: Mapping[str, Any]) -> str:
    """The path of the layer: of its weights' name if that has the form of one, else of the module that calls it."""
    for name in inputs:
        found = _WEIGHT.match(name) if name in constants else None
        if found:
            return path_of(found[1])
    stack = node.meta.get("nn_module_stack") or {}
    return path_of(str(list(stack.values())[-1][0])) if stack else ""


__all__ = ["EXAMPLES", "array", "dtype_of", "operator_name", "read"]
