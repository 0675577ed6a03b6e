"""Networks that remember: states that the artefact keeps in its arena between calls, named by the user or found in the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shohin.core.errors import DeployError
from shohin.core.graph import Graph
from shohin.deploy.network import Network
from shohin.deploy.packed import ELEMENT, offsets
from shohin.ops.control import run_numpy
from shohin.transforms.streaming import Stepwise, stepwise

Array = np.ndarray[Any, Any]
STEPS = 4
"""So many steps at least are run beside the whole sequence; more where the states reach further back."""
NEAR = 1e-4
"""By how much float results of another order of summation may differ, of the largest result."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What one state begins with, and where it comes from."""

    first: Array
    place: str


def paired(net: Network, state: Mapping[str, str]) -> tuple[Network, list[State]]:
    """The network with the states' inputs and outputs last, no longer among its grids, and the states.

    ``state`` names pairs of inputs (x0, x1 ...) and outputs (y0, y1 ...).

    Raises:
        DeployError: a name that is none, or a pair of different shapes, dtypes or grids.
    """
    graph = net.graph
    names = [[letter if len(vs) == 1 else f"{letter}{k}" for k in range(len(vs))] for letter, vs in (("x", graph.inputs), ("y", graph.outputs))]
    for side, given, what in zip(names, (list(state), list(state.values())), ("input", "output"), strict=True):
        wrong = [n for n in given if n not in side]
        if wrong or len(set(given)) != len(given):
            raise DeployError(f"export: state names the {what} {(wrong or given)[0]!r}, expected each once of {', '.join(side)}")
        if len(given) == len(side):
            raise DeployError(f"export: every {what} is a state; a network takes and gives something beside them")
    into, out = [names[0].index(a) for a in state], [names[1].index(b) for b in state.values()]
    for a, b in zip(into, out, strict=True):
        x, y, g, h = graph.inputs[a], graph.outputs[b], net.inputs[a], net.outputs[b]
        if x.aval != y.aval or (g is None) != (h is None) or (g is not None and h is not None and (float(g.s), g.z) != (float(h.s), h.z)):
            raise DeployError(f"export: the state {names[0][a]} is {x.aval} on {g}, its new value {names[1][b]} is {y.aval} on {h}; both must be one")
    ins, outs = ([k for k in range(len(vs)) if k not in last] for vs, last in ((graph.inputs, into), (graph.outputs, out)))
    pick = lambda values, at: tuple(values[k] for k in at)
    moved = Graph(pick(graph.inputs, [*ins, *into]), pick(graph.names, [*ins, *into]), graph.consts, graph.nodes, pick(graph.outputs, [*outs, *out]))
    zero = lambda g: 0 if g is None else g.z
    states = [State(first=np.full(graph.inputs[a].shape, zero(net.inputs[a]), graph.inputs[a].dtype), place=names[0][a]) for a in into]
    return Network(graph=moved, inputs=pick(net.inputs, ins), outputs=pick(net.outputs, outs)), states


def steps(at: Mapping[int, Graph], frames: int) -> tuple[Graph, list[State]]:
    """The step of a network over ``frames`` elements of its sequence, checked: run step by step it gives what it gives at once.

    ``at`` has the network's graph for ``frames`` and for a longer sequence of them.

    Raises:
        DeployError: it has no state, or its steps are not the sequence: something looks ahead, or over all of time.
    """
    made = stepwise(at[frames])
    if not made.first:
        raise DeployError(f"export: stream={frames}: the network has no state. Windows that reach back only (padding=(k - 1, 0) of Conv1d) and loops (GRU, LSTM) have one; without, "
                          "leave stream out")  # fmt: skip
    _checked(made, at[max(at)], frames)
    return made.graph, [State(first=a, place=p) for a, p in zip(made.first, made.places, strict=True)]


def reach(graph: Graph, frames: int) -> int:
    """Elements of a sequence, a multiple of ``frames``, that a check needs: more than all states together hold."""
    back = sum(max(a.shape[k] for k in range(a.ndim)) for a in stepwise(graph).first)
    return frames * max(STEPS, -(-min(back, 64) // frames) + 2)


def _checked(made: Stepwise, whole: Graph, frames: int) -> None:
    rng = np.random.default_rng(0)
    x = whole.inputs[0]
    data = rng.integers(-128, 128, x.shape).astype(x.dtype) if x.dtype.kind == "i" else rng.normal(size=x.shape).astype(x.dtype)
    wanted = run_numpy(whole, [data])
    states: list[Array] = list(made.first)
    count = len(whole.outputs)
    for t in range(0, x.shape[1], frames):
        now = run_numpy(made.graph, [data[:, t : t + frames], *states])
        states = now[count:]
        for y, all_ in zip(now[:count], wanted, strict=True):
            along = [k for k in range(all_.ndim) if y.shape[k] != all_.shape[k]] if y.ndim == all_.ndim else [-1, -1]
            if len(along) > 1 or (along and all_.shape[along[0]] * frames != y.shape[along[0]] * x.shape[1]):
                raise _parts(f"an output is {y.shape} for {frames} elements and {all_.shape} for {x.shape[1]}", frames)
            if not along:  # one a sequence: the last step's
                if t + frames < x.shape[1]:
                    continue
                part = all_
            else:
                size = y.shape[along[0]]
                part = np.take(all_, range(t // frames * size, t // frames * size + size), along[0])
            most = 0.0 if y.dtype.kind == "i" else NEAR * float(np.abs(all_).max() + 1e-30)
            if np.abs(part.astype(np.float64) - y.astype(np.float64)).max() > most:
                raise _parts(f"the results of elements {t} to {t + frames - 1} differ from those of the sequence at once", frames)


def _parts(what: str, frames: int) -> DeployError:
    return DeployError(f"export: stream={frames}: {what}. The network looks ahead or over all of its sequence (padding at the end or on both sides, a mean over time, a reversed loop), or "
                       "its strides do not divide the step; pad with (k - 1, 0), read the last element, or take a multiple of the strides")  # fmt: skip


# ------------------------------------------------------------------------------------------------- C


def state_bytes(states: Sequence[State]) -> int:
    """Bytes of all states, each aligned."""
    return offsets([(s.first.shape, s.first.dtype) for s in states])[-1]


def reset_text(name: str, states: Sequence[State]) -> str:
    """C of ``NAME_reset``: the states that lie at the end of the arena, before the first step."""
    lines, tables = [], []
    for k, (s, at) in enumerate(zip(states, offsets([(s.first.shape, s.first.dtype) for s in states]), strict=False)):
        element, flat = ELEMENT[s.first.dtype], s.first.reshape(-1)
        value = f"{float(flat[0]).hex()}f" if s.first.dtype.kind == "f" else str(int(flat[0]))
        if (flat != flat[0]).any():
            text = ", ".join(f"{float(v).hex()}f" if s.first.dtype.kind == "f" else str(int(v)) for v in flat)
            tables.append(f"static const {element} {name}_first{k}[{flat.size}] = {{{text}}};\n")
            value = f"{name}_first{k}[i]"
        lines.append(f"  for (long i = 0; i < {flat.size}; i++) (({element} *)(void *)(state + {at}))[i] = {value}; /* {s.place} */")
    body = "\n".join(lines)
    return f"\n{''.join(tables)}void {name}_reset(void *arena) {{\n  unsigned char *const state = (unsigned char *)arena + {name.upper()}_STATE_AT;\n{body}\n}}\n"


def step_text(prefix: str, prototype: str, inputs: int, outputs: int, states: Sequence[State], name: str) -> str:
    """C of the function that runs the network ``prefix`` on what is no state, and keeps the new states for the next call."""
    sizes = [(s.first.shape, s.first.dtype) for s in states]
    at, n = offsets(sizes), state_bytes(states)
    given = [f"in{k}" for k in range(inputs)] + [f"(const {ELEMENT[d]} *)(const void *)(state + {at[k]})" for k, (_, d) in enumerate(sizes)]
    made = [f"out{k}" for k in range(outputs)] + [f"({ELEMENT[d]} *)(void *)(state + {n + at[k]})" for k, (_, d) in enumerate(sizes)]
    return f"""
{prototype} {{
  unsigned char *const state = (unsigned char *)arena + {name.upper()}_STATE_AT;
  const int status = {prefix}_run({', '.join([*given, *made])}, arena);
  if (status == 0) for (long i = 0; i < {n}; i++) state[i] = state[i + {n}];
  return status;
}}
"""


__all__ = ["State", "paired", "reach", "reset_text", "state_bytes", "step_text", "steps"]
