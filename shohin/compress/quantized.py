"""The quantized network: a module with the original cells under their paths, and the integers that they stand for.

``quantized`` holds what was added, by place: observers (``low``, ``high``), grids (``scale``, ``zero``) and the frozen
``constants``. In training mode the forward pass makes integers from the current weights; in evaluation mode it reads
the constants, which leaving training mode renews if a weight, statistic or scale has changed since (Q4).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.compress import definitions, learned, operators, regions
from shohin.compress.definitions import Grid
from shohin.compress.fake import Fake, Scale
from shohin.compress.freeze import freeze
from shohin.compress.report import report
from shohin.compress.steps import Contract, Format, Norm, Program, Step, Whole, places_of
from shohin.compress.table import Table
from shohin.compress.walk import module_of, walk
from shohin.core import dtypes, interp, trees
from shohin.core.cells import Buffer, Cell, Param
from shohin.core.errors import DtypeError, PlanError, QuantizationError, StateError
from shohin.core.graph import Graph
from shohin.core.module import _MODE_HOOKS, Module
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import Trace, prune, run
from shohin.ops import math, reduce

Array = np.ndarray[Any, Any]
OWN = "quantized"
assert regions and operators  # their rules are what walk goes by


class State(Module):
    """What quantization adds to a network, by place."""

    def __init__(self, program: Program) -> None:
        self.powers = tuple(program.probes)
        fixed = program.fixed
        grids = list(dict.fromkeys((*program.observed, *fixed, *program.probes)))
        free = [g for g in grids if g not in fixed]
        self.bits = {v.grid: v.bits for v in program.values if v.bits != 8} | {g: p.bits for g, p in program.probes.items()}
        self.low = {g: Buffer(np.zeros((), np.float32), join=None) for g in free}
        self.high = {g: Buffer(np.zeros((), np.float32), join="max") for g in free}
        self.scale = {g: Buffer(np.asarray(fixed.get(g, (1.0, 0))[0], np.float32)) for g in grids}
        self.zero = {g: Buffer(np.asarray(fixed.get(g, (1.0, 0))[1], np.int32)) for g in grids}
        given = [s for s in program.steps if isinstance(s, Contract) and s.given is not None]
        self.step: dict[str, Any] = {s.place: Buffer(np.broadcast_to(np.asarray(s.given, np.float32), (s.channels,)).copy()) for s in given}
        self.shift: dict[str, Any] = {}
        self.grid_gain: dict[str, Any] = {}
        self.step_gain: dict[str, Any] = {}
        self.counts = learned.grids(program, lambda path: True)
        self.constants: dict[str, dict[str, Any]] = {}
        self.tables: Mapping[str, tuple[int, int]] = {}

    def grid(self, name: str) -> Scale:
        """A grid as it stands, with the gradient of a learned step."""
        s: Any = self.scale[name]
        z, bits = math.astype(self.zero[name], dtypes.float32), self.bits.get(name, 8)
        if name in self.grid_gain:
            s = learned.gained(s, self.grid_gain[name], self.counts[name], definitions.LIMITS[bits][1] - z)
        return Scale(s, z, bits)

    def own(self, program: Program) -> dict[str, definitions.Own]:
        """What contractions have of their own in Q2, by place."""
        found: dict[str, definitions.Own] = {}
        for s in program.steps:
            share = self._share(s)
            if s.place in self.step or s.place in self.shift or share > 1:
                step = self.step.get(s.place)
                if step is not None and s.place in self.step_gain and isinstance(s, Contract):
                    step = learned.gained(step, self.step_gain[s.place], s.terms, float(definitions.most(s.bits)))
                found[s.place] = definitions.Own(step, self.shift.get(s.place), share)
        return found

    def _share(self, step: Step) -> int:
        """How many neighbouring output channels have one codebook."""
        group, rows = self.tables.get(module_of(step.place), (1, 0))
        if not isinstance(step, Contract) or not rows:
            return 1
        return step.channels if group == rows else group if step.axis == 0 else 1


class Quantized(Module):
    """A network whose activations and weights are integers. Made by ``Plan.apply``.

    Calling it gives float32 (the outputs' integers minus zero point, times scale); ``integers`` gives all places.
    """

    unkeyed = frozenset({"_frozen"})

    def __init__(self, net: Module, example: Sequence[Aval], cleared: Sequence[str] = (), formats: Mapping[str, Format] = {}) -> None:
        for name, entry in net._entries():
            if name == OWN:
                raise PlanError(f"the network has an attribute {OWN!r} of its own; rename it before applying a plan")
            self.__dict__[name] = entry
        self._net, self._cleared, self._example, self._frozen = net, tuple(cleared), tuple(example), 0
        self._formats = {path: f for path, f in formats.items() if f != Format()}
        program, _ = self.program(*self._example)
        if program.refused:
            raise QuantizationError("\n".join(program.refused))
        self.quantized = State(program)
        self.quantized.tables = {path.rpartition(".")[0]: (m.group, m.shape[0]) for path, m in net.modules().items() if isinstance(m, Table)}

    @classmethod
    def restored(cls, net: Module, example: Sequence[Aval], cleared: Sequence[str], formats: Mapping[str, Format], arrays: Mapping[str, Array]) -> Quantized:
        """A frozen network again, from the arrays of its ``State`` by path; nothing is computed anew (Q4)."""
        made = cls(net, example, cleared, formats)
        constants: dict[str, dict[str, Any]] = {}
        for path, array in arrays.items():
            if path.startswith("constants."):
                place, _, name = path.removeprefix("constants.").rpartition(".")
                constants.setdefault(place, {})[name] = Buffer(array)
        made.quantized.constants = constants
        for kind in ("step", "shift", "grid_gain", "step_gain"):
            mine = {p.removeprefix(f"{kind}."): Buffer(a) for p, a in arrays.items() if p.startswith(f"{kind}.")}
            setattr(made.quantized, kind, mine)
        cells = made.quantized.cells()
        if cells.keys() != arrays.keys():
            raise KeyError(", ".join(sorted(cells.keys() ^ arrays.keys())[:4]))
        for path, cell in cells.items():
            cell.store(Tensor._make(np.array(arrays[path]), None, None, None))
        object.__setattr__(made, "_frozen", made._digest())
        return made

    # -- the program
    def format(self, module: str) -> Format:
        """What the plan says about the integers of the layer at that path."""
        return self._formats.get(module, Format())

    def weight_bits(self, module: str) -> int:
        """The width of the weights' integers of the layer at that path."""
        return self.format(module).w

    def _stays_float(self, module: str) -> bool:
        return module in self._cleared

    def program(self, *avals: Aval) -> tuple[Program, trees.Spec]:
        """Its steps for inputs of these shapes."""
        cache = object.__getattribute__(self, "_cache")
        key = ("program", avals, tuple(id(c) for _, c in self._net.named(Cell)))
        if key not in cache:
            cache[key] = walk(self._net, avals, self._stays_float, self.format)
        return cache[key]

    def forward(self, *inputs: Any) -> Any:
        fake, spec = self._fake(inputs)
        fake.run([as_tensor(x) for x in inputs])
        return trees.unflatten(spec, [fake.real(k) for k in fake.program.outputs])

    def _fake(self, inputs: Sequence[Any]) -> tuple[Fake, trees.Spec]:
        tensors = [as_tensor(x) for x in inputs]
        for t, example in zip(tensors, self._example, strict=False):
            wanted = example.dtype if example.dtype in dtypes.INTEGER else np.dtype(dtypes.float32)
            if t.dtype != wanted:
                raise DtypeError(f"a quantized network takes {wanted.name}, got {t.aval}; write x.astype(sh.{wanted.name})")
        program, spec = self.program(*(t.aval for t in tensors))
        state = self.quantized
        needed = {v.grid for v in program.values if v.grid is not None} | program.probes.keys()
        grids = {g: state.grid(g) for g in needed}
        constants = {p: dict(c.items()) for p, c in state.constants.items()}
        params = run(program.params, [c.read() for c in program.cells], "") if self._needs_params(program) else []
        moving = tuple(state.grid_gain) if self.training else ()
        return Fake(program, grids, constants, params, self.training, self._owner, state.own(program), moving, interp.place()), spec

    def _needs_params(self, program: Program) -> bool:
        return self.training or bool(program.cleared) or any(isinstance(s, Whole) for s in program.steps)

    def _owner(self, norm: Norm) -> tuple[bool, float]:
        owner = self._net.modules().get(norm.module, self._net)
        mine = owner.training if owner is not self._net else self.training
        return mine, float(getattr(owner, "momentum", 0.1))

    # -- integers
    def integers(self, *inputs: Any) -> dict[str, Array]:
        """int8 by place, the input under ``input``, from float32 inputs, in the current mode."""
        fake, _ = self._fake(inputs)
        with self._standing():
            values = fake.run([as_tensor(x) for x in inputs])
        found: dict[str, Array] = {}
        for k, place in places_of(fake.program).items():
            q, value = values[k].concrete(), fake.program.values[k]
            if value.grid is not None:
                found[place] = q.astype(f"int{value.bits}") if q.dtype == np.float32 else q
        return found

    def grids(self) -> dict[str, Grid]:
        found = {g: self.quantized.grid(g) for g in self.quantized.scale}
        return {g: Grid(np.float32(s.s.item()), int(s.z.item()), s.bits) for g, s in found.items()}

    def own(self) -> dict[str, definitions.Own]:
        """What contractions have of their own in Q2, by place, as they stand."""
        found = self.quantized.own(self._latest())
        return {p: replace(o, **{n: v.numpy() for n, v in vars(o).items() if isinstance(v, Tensor)}) for p, o in found.items()}

    def learn(self) -> None:
        """Make Params of the steps that the plan wants trained."""
        state, program = self.quantized, self._latest()
        wanted = lambda path: self.format(path).learn
        state.grid_gain = {g: Param(np.zeros((), np.float32)) for g in learned.grids(program, wanted)}
        state.step_gain = {s.place: Param(np.zeros(s.channels, np.float32)) for s in learned.layers(program, wanted)}

    def report(self) -> str:
        """By place: rules, bits, zeros, bytes before and after (``compress.report``)."""
        return report(self)

    # -- calibration
    def observe(self, *inputs: Any) -> None:
        """Widen the observers by the ranges of the float network on these inputs (evaluation mode, no rounding)."""
        state = self.quantized
        for name, value in self.seen(*inputs).items():
            state.low[name] = math.minimum(state.low[name], reduce.min(value))
            state.high[name] = math.maximum(state.high[name], reduce.max(value))

    def seen(self, *inputs: Any) -> dict[str, Tensor]:
        """By grid, the values of the float network whose range makes it."""
        tensors = [as_tensor(x) for x in inputs]
        program, _ = self.program(*(t.aval for t in tensors))
        free = [g for g in program.observed if g not in program.fixed]
        whole = program.graph
        wanted = (*(program.observed[g] for g in free), *(v for p in program.probes.values() for v in (*p.operands, *p.results)))
        graph = prune(Graph(whole.inputs, whole.names, whole.consts, whole.nodes, wanted))
        values = run(graph, [*tensors, *(c.read() for c in program.cells)])
        seen = dict(zip(wanted, values, strict=True))
        probed = [p.see([seen[v] for v in p.operands], [seen[v] for v in p.results]) for p in program.probes.values()]
        return dict(zip((*free, *program.probes), (*values[: len(free)], *probed), strict=True))

    def settle(self) -> None:
        """Grids from the observers (Q1), then ``freeze``."""
        state = self.quantized
        for name in state.low:
            low, high = state.low[name].numpy(), state.high[name].numpy()
            bits = state.bits.get(name, 8)
            power = name in state.powers
            g = definitions.power_grid(np.maximum(-low, high), bits, name) if power else definitions.grid(low, high, name, bits)
            state.scale[name], state.zero[name] = as_tensor(np.asarray(g.s)), as_tensor(np.asarray(g.z, np.int32))
        self.freeze()

    # -- freezing, Q4
    def _sources(self) -> dict[str, Any]:
        """All cells that the constants follow from."""
        own = (f"{OWN}.constants.", f"{OWN}.low.", f"{OWN}.high.")
        return {path: cell for path, cell in self.cells().items() if not path.startswith(own)}

    def freeze(self) -> None:
        """Compute q_w, q_b, M, m, lo, hi and the tables from weights, statistics and grids, and store them."""
        self._refuse_inside()
        program = self._latest()
        token = interp._current.set(interp.BASE)
        try:
            params = run(program.params, [c.stored() for c in program.cells])
            found = freeze(program, [p.data for p in params], self.grids(), self.own())
        finally:
            interp._current.reset(token)
        self._store(found)
        object.__setattr__(self, "_frozen", self._digest())

    def _latest(self) -> Program:
        cache = object.__getattribute__(self, "_cache")
        keys = [k for k in cache if isinstance(k, tuple) and k[0] == "program"]
        if not keys:
            return self.program(*self._example)[0]
        return cache[keys[-1]][0]

    def _store(self, found: Mapping[str, Mapping[str, Array]]) -> None:
        state = self.quantized
        if not state.constants:
            state.constants = {p: {n: Buffer(a) for n, a in c.items()} for p, c in found.items()}
            return
        for place, constants in found.items():
            for name, array in constants.items():
                cell = dict.__getitem__(dict.__getitem__(state.constants, place), name)
                cell.store(Tensor._make(np.array(array), None, None, None))

    def _digest(self) -> int:
        total = 0
        for cell in self._sources().values():
            total = zlib.crc32(np.ascontiguousarray(cell.stored().data).tobytes(), total)
        return total

    def _renew(self) -> None:
        if not self.quantized.constants:
            return
        self._refuse_inside()
        if self._digest() != self._frozen:
            self.freeze()

    def _refuse_inside(self) -> None:
        """A compiled program is traced once and could not renew constants at its later calls."""
        frame: interp.Frame | None = interp.current()
        while frame is not None and frame.parent is not None:
            if isinstance(frame, Trace) or any(c in frame.written for c in self._sources().values()):
                raise StateError(
                    f"a quantized network leaves training mode inside {frame.kind}, where its constants cannot be "
                    "renewed; write net.eval(), or `with sh.mode(net, training=False)`, around the call instead"
                )
            frame = frame.parent


def _leaving_training(module: Module, training: bool) -> None:
    if not training and isinstance(module, Quantized):
        try:
            module._renew()
        except Exception:  # it stays in training mode, so that the next attempt looks again
            object.__setattr__(module, "_training", True)
            raise


_MODE_HOOKS.append(_leaving_training)
