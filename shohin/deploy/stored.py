"""Files that need no class: ``save`` writes a network's graph beside its cells, ``load`` gives a module that runs it.

The graph is that of evaluation. It is written as traced for two and for three examples; what differs between them grows
with the number of examples, and is set for the number at hand when the network is called. A quantized network comes back
as one, over the graph of its float network: it exports, compares and reports as before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.part import Part
from shohin.compress.quantized import OWN, Quantized
from shohin.compress.report import memory, report
from shohin.compress.steps import Format
from shohin.compress.table import Table
from shohin.compress.walk import kept, traced
from shohin.core import dtypes, trees
from shohin.core.cells import Buffer, Cell, Param
from shohin.core.errors import CheckpointError, IRError, ShapeError, ShohinError
from shohin.core.graph import Graph, Node, Var, parse, to_text, verify
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import run
from shohin.train import checkpoint, container

Array = np.ndarray[Any, Any]
KEY = "program"
SIZES = 2, 3


def save(module: Module, path: str | Path, example: Any = None) -> None:
    """Write a module's cells by path, and its aliases, to one safetensors file; with its graph where its inputs are known.

    They are known of a quantized network, else by ``example`` (an array, or a tuple of arrays, one an input): the file
    then needs no class to be loaded.

    >>> from shohin import nn
    >>> save(nn.Linear(2, 1), "linear.safetensors", example=np.ones((1, 2), np.float32))
    >>> load("linear.safetensors")(np.ones((5, 2), np.float32)).shape
    (5, 1)
    """
    if isinstance(module, Quantized):
        module._renew()
    arrays = {name: cell.read().numpy() for name, cell in module.cells().items()}
    metadata = {"format": "shohin-cells-1", "aliases": json.dumps(module.aliases())}
    if isinstance(module, Quantized) or example is not None:
        metadata[KEY] = json.dumps(_program(module, example))
    container.write(Path(path), arrays, metadata)


def load(path: str | Path, into: Module | None = None) -> Any:
    """The network of a file that holds its graph, for evaluation; with ``into`` the values of any file, or of a run's checkpoint,
    written into its cells by path.

    Raises:
        CheckpointError: a file without a graph and no ``into``, or values of another network.
    """
    if into is not None:
        return checkpoint.load(path, into)
    arrays, metadata = container.read(Path(path))
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} holds values, not the network; write load(path, into=net), or save(net, path, example=x)"
        )
    found = json.loads(metadata[KEY])
    if "refused" in found:
        raise CheckpointError(f"{path} holds no graph: {found['refused']}; write load(path, into=net)")
    try:
        return _restored(found, arrays)
    except (KeyError, TypeError, ValueError, IRError) as error:
        raise CheckpointError(f"{path} is corrupt: its graph cannot be read ({error})") from error


class Stored(Part):
    """A network without its Python, for evaluation: the cells under their paths and the graph that reads them."""

    def __init__(self, graphs: Sequence[Graph], read: Sequence[str], spec: trees.Spec, cells: Mapping[str, Cell], tables: Mapping[str, Sequence[int]]) -> None:
        self._graphs, self._read, self._spec = tuple(graphs), tuple(read), spec
        for path, cell in cells.items():
            *above, name = path.split(".")
            at: Module = self
            for k, part in enumerate(above):
                if part not in at.__dict__:
                    made = Part()
                    made.bits, made.dim = tables.get(".".join(above[: k + 1]), (None, 1))
                    setattr(at, part, made)
                at = at.__dict__[part]
            setattr(at, name, cell)

    @property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Shape of one example, by input."""
        return [v.shape[1:] for v in self._graphs[0].inputs[: len(self._graphs[0].inputs) - len(self._read)]]

    def forward(self, *inputs: Any) -> Any:
        tensors = [as_tensor(x) for x in inputs]
        wanted = self.input_shapes
        if [t.shape[1:] for t in tensors] != wanted or len({t.shape[0] for t in tensors if t.ndim}) > 1:
            shapes = ", ".join(f"(n, {', '.join(map(str, s))})" for s in wanted)
            raise ShapeError(f"the network takes {shapes}, got {', '.join(str(t.shape) for t in tensors)}")
        cache, key = object.__getattribute__(self, "_cache"), ("examples", tensors[0].shape[0])
        graph = cache.get(key) or cache.setdefault(key, for_examples(self._graphs[0], self._graphs[1], key[1]))
        values = run(graph, [*tensors, *(as_tensor(reduce(getattr, p.split("."), self)) for p in self._read)])  # as methods left them
        return trees.unflatten(self._spec, values)


def for_examples(two: Graph, three: Graph, n: int) -> Graph:
    """The graph for n examples, from those for two and three: every whole number that differs grows with n.

    Raises:
        IRError: they differ in more than that, or the program does not hold for n.
    """
    new: dict[Var, Var] = {}

    def number(a: Any, b: Any) -> Any:
        if a == b and type(a) is type(b):
            return a
        if type(a) is int and type(b) is int:
            return a + (b - a) * (n - 2)
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(map(number, a, b))
        if isinstance(a, Graph) and isinstance(b, Graph):
            return graph(a, b)
        raise IRError(f"the programs for two and three examples have {a!r} and {b!r}")

    def var(a: Var, b: Var) -> Var:
        if a not in new:
            new[a] = Var(number(a.shape, b.shape), a.dtype)
        return new[a]

    def graph(a: Graph, b: Graph) -> Graph:
        if [x.op for x in a.nodes] != [x.op for x in b.nodes] or len(a.consts) != len(b.consts):
            raise IRError("the programs for two and three examples have other ops")
        for (_, x), (_, y) in zip(a.consts, b.consts, strict=True):
            if not np.array_equal(x, y):
                raise IRError("a constant depends on the number of examples")
        inputs = tuple(map(var, a.inputs, b.inputs))
        consts = tuple((var(v, w), x) for (v, x), (w, _) in zip(a.consts, b.consts, strict=True))
        nodes = tuple(
            Node(x.op, tuple(map(var, x.operands, y.operands)), {k: number(v, y.attrs[k]) for k, v in x.attrs.items()},
                 tuple(map(var, x.results, y.results)), x.place)
            for x, y in zip(a.nodes, b.nodes, strict=True)
        )  # fmt: skip
        return Graph(inputs, a.names, consts, nodes, tuple(map(var, a.outputs, b.outputs)))

    return verify(graph(two, three))


# --------------------------------------------------------------------------------------------- to and from text


def _program(module: Module, example: Any) -> dict[str, Any]:
    """What ``load`` needs, as JSON; or why there is none."""
    net, avals = module, _avals(example)
    more: dict[str, Any] = {}
    if isinstance(module, Quantized):
        net, avals = module._net, list(module._example)
        more = {"cleared": list(module._cleared), "formats": {path: asdict(f) for path, f in module._formats.items()}}
    try:
        with mode(module, training=False):
            made = [traced(net, [Aval((n, *a.shape[1:]), a.dtype) for a in avals], kept) for n in SIZES]
        paths = {id(cell): path for path, cell in net.cells().items()}
        reads = [[paths[id(c)] for c in cells.values()] for _, cells, _ in made]
        if reads[0] != reads[1]:
            raise IRError("the programs for two and three examples read other cells")
        for_examples(made[0][0], made[1][0], 1)
        texts, structure = [to_text(graph) for graph, _, _ in made], _structure(made[0][2])
        for text in texts:
            parse(text)
    except (ShohinError, ValueError, TypeError, KeyError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    params = [path for path, cell in net.cells().items() if isinstance(cell, Param)]
    tables = {path: [m.bits, m.dim] for path, m in net.modules().items() if isinstance(m, Table | Part) and m.bits}
    return {
        "graphs": texts, "reads": reads[0], "structure": structure, "params": params, "tables": tables,
        "inputs": [[list(a.shape), a.dtype.name] for a in avals], "report": {"text": report(module)}, **more,
    }  # fmt: skip


def _avals(example: Any) -> list[Aval]:
    arrays = example if isinstance(example, tuple) else () if example is None else (example,)
    found = [a.aval if isinstance(a, Tensor) else Aval(np.asarray(a).shape, np.asarray(a).dtype) for a in arrays]
    if any(not a.shape for a in found):
        raise ShapeError("save: an example has a leading dim of examples, (n, ...)")
    return found


def _restored(found: Mapping[str, Any], arrays: Mapping[str, Array]) -> Module:
    own = {p: a for p, a in arrays.items() if not ("formats" in found and p.startswith(f"{OWN}."))}
    cells: dict[str, Cell] = {p: Param(a, requires_grad=False) if p in found["params"] else Buffer(a) for p, a in own.items()}
    net: Module = Stored([parse(t) for t in found["graphs"]], found["reads"], _spec(found["structure"]), cells, found["tables"])
    if "formats" in found:
        formats = {path: Format(**f) for path, f in found["formats"].items()}
        avals = [Aval(tuple(shape), dtypes.as_dtype(dtype)) for shape, dtype in found["inputs"]]
        net = Quantized.restored(net, avals, found["cleared"], formats, {p[len(OWN) + 1 :]: a for p, a in arrays.items() if p not in own})
    memory(net, found["report"])
    return net.eval()


def _structure(spec: trees.Spec) -> Any:
    plain = spec.value is None or isinstance(spec.value, bool | int | str)
    if spec.kind not in ("leaf", "static", "list", "tuple", "dict") or not plain or any(not isinstance(k, str) for k in spec.keys):
        raise IRError(f"the network returns a {spec.kind} ({spec.value or spec.keys}), which a file does not hold")
    return [spec.kind, list(spec.keys), [_structure(c) for c in spec.children], spec.value]


def _spec(found: Any) -> trees.Spec:
    kind, keys, children, value = found
    return trees.Spec(kind, tuple(keys), tuple(map(_spec, children)), value)


__all__ = ["Stored", "for_examples", "load", "save"]
