"""An ONNX file as a ``Foreign`` graph. This module imports the package ``onnx``; only who reads a file imports this one."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import external_data_helper, helper, inliner, numpy_helper
from onnx.onnx_ml_pb2 import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from shohin.core import dtypes
from shohin.core.errors import ForeignError
from shohin.interop.foreign import Dim, Foreign, Input, Node, verify
from shohin.interop.naming import path_of
from shohin.interop.onnx.table import DTYPES

OPSETS = range(7, 29)
_OWN = ("", "ai.onnx")
_WEIGHT = re.compile(r"(.+?)[./](?:weight|kernel|gamma|scale|W|w_0|weight_ih_l0|running_mean)(?:[:_]\d+)?$")

DTYPES.update({code: np.dtype(helper.tensor_dtype_to_np_dtype(code)) for code in (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.INT16,
    TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.BOOL,
    TensorProto.INT4, TensorProto.UINT4)})  # fmt: skip


def load(source: Any) -> ModelProto:
    """The model of a path, of bytes, or itself, with its external data.

    Raises:
        ForeignError: no such file, not an ONNX file, a damaged one, or one whose external data is not beside it.
    """
    if isinstance(source, ModelProto):
        return source
    if isinstance(source, bytes):
        return _parsed(source, "the bytes")
    path = Path(source)
    try:
        model = _parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise ForeignError(f"{path}: {error.strerror or error}") from error
    for tensor in external_data_helper._get_all_tensors(model):
        if external_data_helper.uses_external_data(tensor):
            try:
                external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = TensorProto.DEFAULT
            except Exception as error:
                where = next((e.value for e in tensor.external_data if e.key == "location"), "?")
                raise ForeignError(f"{path}: the data of {tensor.name!r} lies in {where!r}, which cannot be read ({error}); put that file beside it") from error
    return model


def ending(model: ModelProto, outputs: Sequence[str]) -> ModelProto:
    """The model with other outputs."""
    known = {n for node in model.graph.node for n in node.output} | {v.name for v in model.graph.input}
    for name in outputs:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            raise ForeignError(f"outputs: the file has no value {name!r}" + (f"; near: {', '.join(near)}" if near else ""))
    found = ModelProto()
    found.CopyFrom(model)
    del found.graph.output[:]
    found.graph.output.extend(ValueInfoProto(name=name) for name in outputs)
    return found


def _parsed(data: bytes, where: str) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ForeignError(f"{where}: not an ONNX file, or a damaged one ({error})") from error
    if not model.graph.node and not model.graph.output:
        raise ForeignError(f"{where}: not an ONNX file, or a damaged one: it holds no graph")
    return model


def read(model: ModelProto) -> Foreign:
    """The model's graph.

    Raises:
        ForeignError: an opset that is not known, or a graph that contradicts itself.
    """
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:
            raise ForeignError(f"its functions cannot be inlined: {error}") from error
    versions = [o.version for o in model.opset_import if o.domain in _OWN]
    if not versions or versions[0] not in OPSETS:
        raise ForeignError(f"opset {versions[0] if versions else 'none'} is not known; {OPSETS.start} to {OPSETS.stop - 1} are")
    try:
        return verify(_graph(model.graph, versions[0], {}))
    except (TypeError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        if isinstance(error, ForeignError):
            raise
        raise ForeignError(f"the file is damaged: {type(error).__name__}: {error}") from error


def _graph(graph: GraphProto, version: int, outer: Mapping[str, Any]) -> Foreign:
    constants = {t.name: _array(t) for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        raise ForeignError(f"{sparse.values.name!r} is a sparse tensor, which has no counterpart here; store it dense")
    inputs = tuple(_input(v, k) for k, v in enumerate(graph.input) if v.name not in constants)
    seen, scopes = {**outer, **constants}, [_scope(proto) for proto in graph.node]
    calls = Counter(module for module, _ in {s for s in scopes if s})
    nodes = []
    for proto, scope in zip(graph.node, scopes):
        if proto.op_type == "Constant" and proto.domain in _OWN and len(proto.output) == 1:
            constants[proto.output[0]] = seen[proto.output[0]] = _constant(proto)
        else:
            module, call = scope or ("", "")
            known = path_of(module if calls[module] == 1 else f"{module}.{call}") if scope else ""
            nodes.append(_node(proto, version, seen, known))
    return Foreign(inputs=inputs, constants=constants, nodes=tuple(nodes), outputs=tuple(v.name for v in graph.output), version=version)


def _input(value: ValueInfoProto, k: int) -> Input:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
        raise ForeignError(f"the input {value.name!r} is not a tensor of numbers")
    if not kind.HasField("shape"):
        raise ForeignError(f"the input {value.name!r} has no shape in the file; give its rank there")
    dims: list[Dim] = []
    for d, dim in enumerate(kind.shape.dim):
        known = dim.HasField("dim_value") and dim.dim_value > 0
        named = dim.dim_param if dim.dim_param not in ("", "?") else f"?{value.name}.{d}"
        dims.append(dim.dim_value if known else named)
    return Input(name=value.name, shape=tuple(dims), dtype=DTYPES[kind.elem_type])


def _array(tensor: TensorProto) -> Any:
    dims = tuple(tensor.dims)
    count = 1
    for n in dims:
        count *= n
    if min(dims, default=0) < 0 or count > 1 << 31:
        raise ForeignError(f"the constant {tensor.name!r} has shape {dims}, which is taken for a damaged file")
    if tensor.data_type == TensorProto.STRING:
        raise ForeignError(f"the constant {tensor.name!r} holds text, which has no counterpart here")
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:
        raise ForeignError(f"the constant {tensor.name!r} of shape {dims} cannot be read ({error}); the file is damaged") from error
    if array.dtype not in dtypes.ANY:
        raise ForeignError(f"the constant {tensor.name!r} is of dtype {array.dtype}, which has no counterpart here")
    return array


def _constant(proto: NodeProto) -> Any:
    for a in proto.attribute:
        if a.name == "value":
            return _array(a.t)
        if a.name in ("value_float", "value_floats"):
            return np.asarray(a.f if a.name == "value_float" else list(a.floats), np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.asarray(a.i if a.name == "value_int" else list(a.ints), np.int64)
    raise ForeignError(f"the constant {proto.output[0]!r} is of a kind that has no counterpart here")


def _scope(proto: NodeProto) -> tuple[str, str] | None:
    """The module and the call in it that PyTorch's exporter made a node of, where it says so."""
    found = next((p.value for p in proto.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
    names = re.findall(r"'([^']*)'", found)
    return (names[-2], names[-1]) if len(names) > 1 else None


def _node(proto: NodeProto, version: int, constants: Mapping[str, Any], scope: str) -> Node:
    attrs: dict[str, Any] = {}
    for a in proto.attribute:
        attrs[a.name] = _attribute(a, version, constants)
    op = proto.op_type if proto.domain in _OWN else f"{proto.domain}.{proto.op_type}"
    return Node(op=op, inputs=tuple(proto.input), outputs=tuple(proto.output), attrs=attrs, place=_place(proto, constants, scope))


def _attribute(a: AttributeProto, version: int, constants: Mapping[str, Any]) -> Any:
    if a.type == AttributeProto.GRAPH:
        return _graph(a.g, version, constants)
    if a.type == AttributeProto.TENSOR:
        return _array(a.t)
    if a.type in (AttributeProto.FLOAT, AttributeProto.INT):
        return _decimal(a.f) if a.type == AttributeProto.FLOAT else a.i
    if a.type == AttributeProto.STRING:
        return a.s.decode(errors="replace")
    if a.type in (AttributeProto.FLOATS, AttributeProto.INTS):
        return tuple(map(_decimal, a.floats)) if a.type == AttributeProto.FLOATS else tuple(a.ints)
    if a.type == AttributeProto.STRINGS:
        return tuple(s.decode(errors="replace") for s in a.strings)
    raise ForeignError(f"attribute {a.name!r} is of a kind that has no counterpart here")


def _decimal(x: float) -> float:
    """The shortest number of which x is the nearest float32, as it was written: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(x)))


def _place(proto: NodeProto, constants: Mapping[str, Any], scope: str) -> str:
    """The path of the layer: of its weights' name if that has the form of one, else the scope, else the node's name without
    the operator."""
    for name in proto.input:
        found = _WEIGHT.match(name) if name in constants else None
        if found and not name.startswith("onnx::"):
            return path_of(found[1])
    if scope:
        return scope
    named = proto.name.rpartition("/")
    own = named[0] if named[1] and re.fullmatch(rf"{re.escape(proto.op_type)}(_\d+)?", named[2]) else proto.name
    return path_of(own)


__all__ = ["OPSETS", "ending", "load", "read"]
