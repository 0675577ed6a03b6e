"""What a plan did, as a table: by place the rules, bits, zeros, and bytes of the weights before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.compress import definitions
from shohin.compress.freeze import contraction
from shohin.compress.palettize import smallest
from shohin.compress.slots import Method
from shohin.compress.sparse import pays, speed
from shohin.compress.sparse import smallest as without_zeros
from shohin.compress.steps import Contract, Stored, Whole
from shohin.compress.table import Table
from shohin.compress.walk import module_of
from shohin.compress.weights import names, stack
from shohin.core.module import Module
from shohin.core.trace import run

Array = np.ndarray[Any, Any]
_KEY = "_report"


def effective(net: Module) -> dict[str, tuple[str, Module, str, Array]]:
    """The weights by place: (path of the layer, layer, name, value)."""
    found = {}
    for path, layer in net.modules().items():
        for name in names(layer):
            found[f"{path}.{name}" if path else name] = (path, layer, name, getattr(layer, name).numpy())
    return found


def changes(before: Module, after: Module) -> dict[str, list[str]]:
    """By layer's path what became of its weights: sizes, zeros, distinct values; only what differs."""
    old, found = effective(before), {}
    for place, (path, layer, name, w) in effective(after).items():
        texts, was = [], old[_origin(place, old)][3]
        if w.shape != was.shape:
            texts.append(f"{name} {'x'.join(map(str, was.shape))} -> {'x'.join(map(str, w.shape))}")
        if (w == 0).sum() > (was == 0).sum():
            texts.append(f"{(w == 0).mean():.0%} zeros")
        if stack(layer, name) and isinstance(stack(layer, name)[-1], Table):
            texts.append(f"{len(np.unique(w))} values")
        if texts:
            found.setdefault(path, []).extend(texts)
    return found


def _origin(place: str, before: Mapping[str, Any]) -> str:
    """Where the weight at ``place`` stood before: there, or above, if its layer has become several."""
    path, _, name = place.rpartition(".")
    above = [place, *(".".join([*path.split(".")[:k], name]) for k in range(path.count("."), -1, -1))]
    return next((p for p in above if p in before), place)


def remember(small: Module, net: Module, chosen: Mapping[str, Mapping[str, Method]]) -> None:
    """Keep with ``small`` what the report needs of the network before."""
    past = {"bytes": {}, "rules": {}, **memory(net)}
    sizes = {place: w.nbytes for place, (_, _, _, w) in effective(net).items()}
    rules = {
        path: [*past["rules"].get(path, ()), *(m.scheme for m in slots.values())] for path, slots in chosen.items()
    }
    memory(small, {"bytes": {**sizes, **past["bytes"]}, "rules": rules})


def memory(net: Module, value: Any = None) -> Any:
    """What ``remember`` kept with a network, or the ``text`` of a loaded one's report; with ``value`` it is set."""
    fields = object.__getattribute__(net, "__dict__")
    if value is not None:
        fields[_KEY] = value
    return fields.get(_KEY) or {}


def report(net: Module) -> str:
    """A line a weight of what ``plan.apply`` returned: rules, bits, zeros, bytes before and after, widened channels.

    Bytes are those of the weights as an artefact stores them; ``sh.cost`` has the whole.
    """
    past = {"bytes": {}, "rules": {}, **memory(net)}
    if "text" in past:
        return past["text"]
    ints = _integers(net) if hasattr(net, "_latest") else {}  # a Quantized, which imports this module
    rows = [("place", "rule", "bits", "zeros", "bytes before", "after")]
    seen: set[str] = set()
    total = [0, 0]
    for place, (path, layer, name, w) in effective(net).items():
        top = next((s for s in stack(layer, name) if isinstance(s, Table)), None)
        q, wide, own = _of(ints.get(path, []), w.size)
        rules = ", ".join(past["rules"].get(path, ())) or "none"
        masked = any(s.slot == "mask" for s in stack(layer, name))
        if q is not None:
            kept = integer_storage(q, own, top)
        else:
            kept = Storage(8 * w.itemsize, w.nbytes) if top is None else Storage(top.bits, top.nbytes)
        if kept.sparse and q is not None:
            rules += f"; zeros are not stored: {kept.size / q.nbytes:.2f}x bytes, {speed(q)}"
        elif masked and top is None:
            rules += "; zeros are stored like other weights"
        zeros = ((w if q is None else q) == 0).mean()
        origin = _origin(place, past["bytes"])
        was = 0 if origin in seen else past["bytes"].get(origin, w.nbytes)
        seen.add(origin)
        total = [total[0] + was, total[1] + kept.size]
        rules += f"; s_w of {wide} channels widened to hold the bias" if wide else ""
        rows.append((place, rules, str(kept.bits), f"{zeros:.0%}", f"{was:,}", f"{kept.size:,}"))
    rows.append(("all", "", "", "", f"{total[0]:,}", f"{total[1]:,}"))
    widths = [max(len(r[i]) for r in rows) for i in range(6)]
    fit = lambda r: [c.ljust(n) if i < 2 else c.rjust(n) for i, (c, n) in enumerate(zip(r, widths, strict=True))]
    return "\n".join("  ".join(fit(r)).rstrip() for r in rows)


@dataclass(frozen=True)
class Storage:
    """How an artefact holds a weight: bits of an entry, bytes of all, and whether zeros are left out."""

    bits: int
    size: int
    sparse: bool = False


def integer_storage(q: Array, own: int, table: Table | None) -> Storage:
    """The smallest storage of the int8 q (out, ...) of ``own`` bits, whose values come from ``table`` (None: from no table)."""
    small = smallest(q, (1,) if table is None else (1, table.dim)) if own < 8 or table is not None else None
    bits, size = (8, q.nbytes) if small is None else (small.bits, small.nbytes)
    less = without_zeros(q)[1] if (q == 0).any() else size
    return Storage(bits, less, sparse=True) if pays(less, q.nbytes, size) else Storage(bits, size)


def _of(found: Sequence[tuple[Array, int, int]], size: int) -> tuple[Array | None, int, int]:
    """The integers of a weight among those of its layer: the ones of its size, or all if it is used in parts."""
    whole = next((f for f in found if f[0].size == size), None)
    if whole is None and found and sum(f[0].size for f in found) == size:
        parts = [f[0].reshape(len(f[0]), -1) for f in found]
        return np.concatenate(parts), sum(f[1] for f in found), found[0][2]
    return whole or (None, 0, 8)


def _integers(net: Any) -> dict[str, list[tuple[Array, int, int]]]:
    """By layer's path: frozen integers made of parameters, how many channels Q2 widened, their bits."""
    program, grids, own = net._latest(), net.grids(), net.own()
    params = [p.numpy() for p in run(program.params, [c.read() for c in program.cells])]
    found: dict[str, list[tuple[Array, int, int]]] = {}
    for step in program.steps:
        if isinstance(step, Whole | Stored):
            arrays = [a for v in net.quantized.constants[step.place].values() if (a := v.numpy()).dtype == np.int8]
            found.setdefault(module_of(step.place), []).extend((a, 0, 8) for a in arrays)
        if isinstance(step, Contract) and step.weight is not None and step.op is not None:
            x, y = (program.values[k].grid for k in (step.inputs[0], step.output))
            assert x is not None and y is not None
            c = contraction(step, params, grids[x], grids[y], own.get(step.place, definitions.OWN))
            found.setdefault(module_of(step.place), []).append((c.q_w, int(c.widened.sum()), step.bits))
    return found


__all__ = ["Storage", "changes", "effective", "integer_storage", "memory", "remember", "report"]
