"""Graph -> Program: which values are stored, which are taken along in a consumer's loops, which kernels claim what.

Fusion is substitution on expressions. A pointwise value lives inside its consumers unless it is an output, feeds a
kernel, or has several readers and costs more than reading it back (``_worth_storing``). A kernel takes the chain of
elementwise ops that alone reads its result as its epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shohin.compiler import derive, once, passes, siblings
from shohin.compiler.attach import SLOW, attached
from shohin.compiler.kernel import Declined, Kernel, Layout, Machine, Site, claim
from shohin.compiler.order import late_nodes
from shohin.compiler.schedule import options_of
from shohin.compiler.slices import sliced
from shohin.core import loop
from shohin.core.dtypes import FLOATING, DType
from shohin.core.graph import Graph, Node, Var
from shohin.core.loop import Expr
from shohin.core.nest import Buffer, KernelCall, Loop, Nest, Out, Port, Program, Step

Read = Callable[[tuple[Expr, ...], "Expr | None", Any], Expr]
CONTROL: dict[str, Callable[[Lowering, Node, list[str]], None]] = {}
"""How ops that hold graphs become steps and jumps (``compiler/steps.py``)."""
CHEAP = 8
"""Operations up to which a value of one large input is computed again rather than stored and read."""
SIDE = 24
"""Operations of a side operand below which a kernel takes it along in its epilogue; random bits count as many."""
LARGEST = 64
"""Nodes of an expression above which a value is stored, so that bodies stay readable to the C compiler."""


@dataclass
class Lowering:
    """The state of one lowering; ``stored`` values have a buffer, the others an expression."""

    graph: Graph
    machine: Machine
    donated: Mapping[Var, Var] = field(default_factory=dict)
    """Outputs that take the memory of inputs."""
    steady: set[Var] = field(default_factory=set)
    """Values that stay what they are between runs: at first some of the inputs."""

    def __post_init__(self) -> None:
        g, self.prefix = self.graph, ""
        self.made: dict[Var, Node] = {v: n for n in g.nodes for v in n.results}
        self.users: dict[Var, list[Node]] = g.users()
        self.outputs = set(g.outputs)
        self.stored: set[Var] = set()
        self.forced: set[Var] = set()
        self.consts: dict[Var, Any] = dict(g.consts)
        self.names: dict[Var, str] = {}
        self.virtual: dict[Var, Read] = {}
        self.buffers: dict[str, Buffer] = {}
        self.steps: list[Step] = []
        self.data: dict[str, Any] = {}
        self.declined: dict[str, str] = {}
        self.size: dict[Var, int] = {}
        self.weight: dict[Var, tuple[int, frozenset[Var]]] = {}
        self.laid_out: dict[tuple[str, Layout], str] = {}

    # -- buffers
    def name(self, v: Var, role: str, name: str | None = None) -> str:
        if v not in self.names:
            self.names[v] = self.prefix + (name or f"t{len(self.names)}")
            self.buffers[self.names[v]] = Buffer(self.names[v], v.shape, v.dtype, role)
        return self.names[v]

    def load(self, v: Var, index: tuple[Expr, ...], pred: Expr | None, pad: Any) -> Expr:
        """The value of ``v`` at ``index``: a literal, an inlined expression, or a load of its buffer."""
        if v in self.consts and self.consts[v].size == 1:
            literal = loop.const(self.consts[v].reshape(()).item(), v.dtype)
            return literal if pred is None else loop.select(pred, literal, loop.const(pad, v.dtype))
        if v in self.virtual:
            return self.virtual[v](index, pred, pad)
        if v in self.names:
            kept = None if pred is None else loop.const(pad, v.dtype).value
            return loop.Load(self.names[v], index, v.dtype, pred, kept)
        if v in self.consts:
            name = self.name(v, "const", f"c{len(self.buffers)}")
            self.data[name] = np.ascontiguousarray(self.consts[v])
            return self.load(v, index, pred, pad)
        node = self.made[v]
        if pred is None:
            return derive.pointwise(node, index, self.at(node))
        guarded = derive.pointwise(node, index, self.at(node, pred))
        return loop.select(pred, guarded, loop.const(pad, v.dtype))

    def at(self, node: Node, guard: Expr | None = None) -> derive.At:
        """How a node's operands are read; inside a guarded value every load stands under the guard too."""

        def read(k: int, index: tuple[Expr, ...], pred: Expr | None = None, pad: Any = None) -> Expr:
            v = node.operands[k]
            reads = {v} if v in self.stored or v not in self.weight else self.weight[v][1]
            if pred is None and all(x in self.consts and self.consts[x].size == 1 for x in reads):
                return self.load(v, index, None, None)  # made of literals: nothing to guard
            both = pred if guard is None else guard if pred is None else guard & pred
            return self.load(node.operands[k], index, both, 0 if pad is None else pad)

        return read

    # -- what is stored
    def decide(self) -> None:
        """Which values get a buffer. In order, so that an expression's weight is known when its readers come."""
        for node in self.graph.nodes:
            for v in node.results:
                self.size[v] = int(np.prod(v.shape, dtype=np.int64))
            if not derive.is_pointwise(node):
                for v in node.results:
                    self.weight[v] = (0, frozenset((v,)))
                self.stored.update(node.results)
                continue
            v = node.results[0]
            ops = 0 if node.op.kind == "movement" or self._packed(v) else SIDE if node.op.kind == "random" or _slow(node, {"div"}) else 1
            reads: set[Var] = set()
            for x in node.operands:
                w, r = (0, frozenset((x,))) if x in self.stored or x not in self.weight else self.weight[x]
                ops += w
                reads |= r
            self.weight[v] = (ops, frozenset(reads))
            if self._worth_storing(node, v, ops, reads):
                self.stored.add(v)



    def _worth_storing(self, node: Node, v: Var, ops: int, reads: set[Var]) -> bool:
        if v in self.outputs or v in self.forced:
            return True
        users = self.users.get(v, [])
        if v in self.steady and ops and any(u.op.kind == "movement" or u.results[0] not in self.steady for u in users):
            return True  # computed once; what only moves it is not stored, since it may be larger
        if node.op.kind == "generator":
            return False
        large = [x for x in reads if x not in self.consts and int(np.prod(x.shape)) * 4 > self.size[v]]
        count = sum(u.operands.count(v) for u in users)
        if ops > LARGEST or _slow(node):
            return count > 1 or ops > LARGEST
        if count <= 1:
            return self._repeated(v, users, ops)
        smaller = all(int(np.prod(x.shape)) * 2 <= self.size[v] for x in reads)
        return not (ops <= CHEAP and (len(large) <= 1 or smaller))

    def _repeated(self, v: Var, users: Sequence[Node], ops: int) -> bool:
        """A single reader that walks the value many times (a broadcast, a contraction's operand) computes it each time."""
        if not users or ops == 0:
            return False
        reader = users[0]
        result = max(int(np.prod(r.shape)) for r in reader.results)
        if reader.op.kind in ("contraction", "window", "control") or reader.op.nest in ("rank", "running", "scatter"):
            return True
        return derive.is_pointwise(reader) and result > 2 * self.size[v] and ops > 2

    # -- the walk
    def run(self) -> Program:
        for k, v in enumerate(self.graph.inputs):
            self.name(v, "input", f"in{k}")
        self.walk()
        outputs = self._outputs()
        first, rest = once.split(self.steps, self.buffers, {self.names[v] for v in self.steady if v in self.graph.inputs})
        buffers = dict(self.buffers)
        steps = attached(siblings.joined(rest), buffers, self.machine, options_of(self.machine))
        ordered = tuple(buffers[n] for n in [*buffers] if n not in outputs) + tuple(buffers[n] for n in outputs)
        return Program(ordered, once.joined(first, steps), self.data, self.declined, len(first))

    def body(self, graph: Graph, inputs: Sequence[Read]) -> list[Read]:
        """Lower another graph in place, its inputs read by ``inputs``; how its outputs are read. All outputs are stored
        before this returns, so that what they came from may be overwritten."""
        inner = Lowering(passes.optimize(graph), self.machine)
        inner.buffers, inner.steps, inner.data, inner.declined = self.buffers, self.steps, self.data, self.declined
        inner.prefix = f"{self.prefix}b{len(self.steps)}_"
        inner.virtual = dict(zip(inner.graph.inputs, inputs, strict=True))
        inner.walk()
        return [inner.kept(v) for v in inner.graph.outputs]

    def kept(self, v: Var) -> Read:
        """How to read a value that stays what it is: an output of a body that is an input or constant is copied first."""
        if v in self.virtual or v not in self.names:
            return self.copied(v.shape, v.dtype, lambda index, pred, pad: self.load(v, index, pred, pad), "copy")
        return lambda index, pred, pad: self.load(v, index, pred, pad)

    def copied(self, shape: tuple[int, ...], dtype: DType, read: Read, place: str) -> Read:
        name = self.temp(shape, dtype)
        self.store(name, read, place)
        return self.reader(name)

    def temp(self, shape: tuple[int, ...], dtype: DType) -> str:
        name = f"{self.prefix}u{len(self.buffers)}"
        self.buffers[name] = Buffer(name, shape, dtype, "temp")
        return name

    def reader(self, name: str) -> Read:
        b = self.buffers[name]
        return lambda index, pred, pad: loop.Load(name, index, b.dtype, pred, None if pred is None else loop.const(pad, b.dtype).value)

    def store(self, name: str, read: Read, place: str, prefix: tuple[Expr, ...] = ()) -> None:
        """``name[prefix, ...] = read(...)``, everywhere."""
        b = self.buffers[name]
        loops = tuple(Loop(f"i{k}", n) for k, n in enumerate(b.shape[len(prefix) :]))
        index = tuple(loop.Var(x.name) for x in loops)
        self.steps.append(Nest(loops, (), (), (Out(name, (*prefix, *index), read(index, None, None)),), "sequence", place))

    def operand(self, v: Var) -> Read:
        return lambda index, pred, pad: self.load(v, index, pred, 0 if pad is None else pad)

    def walk(self) -> None:
        g = self.graph

        if self.steady:
            self._spread()
        self.forced: set[Var] = set()
        claimed: dict[Node, Kernel] = {}
        for node in g.nodes:
            kernel = self._claim(node)
            if isinstance(kernel, Declined):
                self.declined[node.place] = kernel.why
            elif kernel is not None:
                claimed[node] = kernel
                made = node.results if derive.is_pointwise(node) else ()  # else its readers would make it again
                self.forced.update(v for v in (*node.operands, *made) if not self._packed(v))
            if node.op.kind == "call":
                self.forced.update(node.operands)
        self.decide()
        inside: set[Node] = set()
        chains: dict[Node, list[Node]] = {}
        for node in reversed(g.nodes):  # of two producers that meet in a sum, the later one takes it along
            if node in claimed or derive.is_folded(node):
                chains[node] = self._chain(node, claimed.get(node), inside)
                inside.update(chains[node])
        lasts = [(chain or [start])[-1] for start, chain in chains.items()]
        taken = {n: self.donated[n.results[0]] for n in lasts if n.results[0] in self.donated}
        late = late_nodes(g, chains, self.stored, self._roots, taken)
        for node in g.nodes:
            if node not in inside and node not in chains:
                self._emit(node)
            for start in late.get(node, []):
                if start in claimed:
                    self._emit_kernel(start, claimed[start], chains[start])
                else:
                    self._emit_folded(start, chains[start])

    def _roots(self, v: Var) -> frozenset[Var]:
        """The stored values and inputs that ``v`` is read from."""
        return frozenset((v,)) if v in self.stored or v not in self.weight else self.weight[v][1]

    def _spread(self) -> None:
        """What is made of steady values and constants alone is steady."""
        fixed = set(self.consts)
        for node in self.graph.nodes:
            if node.op.kind not in ("random", "control") and all(v in fixed or v in self.steady for v in node.operands):
                (self.steady if any(v in self.steady for v in node.operands) else fixed).update(node.results)

    def _emit(self, node: Node) -> None:
        if derive.is_pointwise(node):
            v = node.results[0]
            if v not in self.stored:
                return
            loops = tuple(Loop(f"i{k}", n) for k, n in enumerate(v.shape))
            index = tuple(loop.Var(x.name) for x in loops)
            value = derive.pointwise(node, index, self.at(node))
            self.steps.append(Nest(loops, (), (), (Out(self.name(v, "temp"), index, value),), "sequence", node.place))
            return
        outs = [self.name(v, "temp") for v in node.results]
        if node.op.kind == "call":
            self._emit_slices(node, outs)
            return
        if node.op.nest == "control":
            CONTROL[node.op.name](self, node, outs)
            return
        self.steps.extend(derive.nests(node, outs, self.at(node), self.temp))

    # -- kernels
    def _claim(self, node: Node) -> Kernel | Declined | None:
        """The kernel of a node, or why none has it; ``None`` where there are none for its op."""
        if node.op.kind not in ("contraction", "window", "indexing", "call"):
            return None
        role = lambda v: self._packed(v) or ("const" if v in self.consts else "temp")
        buffer = lambda v: Buffer("", v.shape, v.dtype, role(v))
        call = KernelCall("", ("",) * len(node.operands), ("",), node.attrs, (), node.place, storage=self._storage(node))
        site = Site(call=call, operands=tuple(map(buffer, node.operands)), results=tuple(map(buffer, node.results)), machine=self.machine)
        found = claim(node.op.name, site)
        return found if found or found.why else None

    def _packed(self, v: Var) -> str:
        """The op that unpacks the value from constants (``Op.kind`` storage), if one does: it is read in its packed form, never stored."""
        while v in self.made and self.made[v].op.kind == "movement" and self.made[v].op.name != "concat":
            v = self.made[v].operands[0]
        node = self.made.get(v)
        return node.op.name if node is not None and node.op.kind == "storage" and node.operands[0] in self.consts else ""

    def _storage(self, node: Node) -> Mapping[str, Any] | None:
        """The attributes of the storage op that unpacks a node's weights as they are read."""
        made = [self.made[v] for v in node.operands[1:2] if v in self.made and self._packed(v)]
        return made[0].attrs if made and made[0].op.kind == "storage" else None

    def _dense(self, v: Var) -> Any:
        """The data of a value that is unpacked from constants; a kernel that packs anew asks for it."""
        if v in self.consts:
            return self.consts[v]
        node = self.made[v]
        return np.ascontiguousarray(node.op.numpy(*map(self._dense, node.operands), **node.attrs))

    def _chain(self, node: Node, kernel: Kernel | None, taken: set[Node]) -> list[Node]:
        """The elementwise ops that follow as sole readers and whose other operands are read at the same place."""
        if kernel is not None and not any(p.name == "epilogue" for p in kernel.ports):
            return []
        chain: list[Node] = []
        v, steady = node.results[0], node.results[0] in self.steady
        while v not in self.outputs and len(self.users.get(v, [])) == 1:
            user = self.users[v][0]
            if steady and user.results[0] not in self.steady:
                break
            if user in taken or user.op.kind != "elementwise" or user.operands.count(v) != 1 or user.results[0].shape != node.results[0].shape:
                break
            if kernel is not None and node.results[0].dtype in FLOATING and (user.results[0].dtype != node.results[0].dtype or _slow(user, {"div"})):
                break
            others = [x for x in user.operands if x is not v]
            if any(not self._plain(x, SIDE if kernel else CHEAP) for x in others):
                break
            chain.append(user)
            v = user.results[0]
            if kernel is not None and any(p.last == user.op.name for p in kernel.ports):
                break
        sizes = [step.results[0].dtype.itemsize for step in (node, *chain)]
        while chain and sizes[-1] > min(sizes):  # stored where it is narrowest; what widens it again is the reader's
            chain.pop()
            sizes.pop()
        return chain

    def _plain(self, x: Var, limit: int) -> bool:
        """A side operand of an epilogue: cheap at every element (inlined movement of stored values, or stored)."""
        ops, _ = (0, None) if x in self.stored or x not in self.weight else self.weight[x]
        return ops < limit

    def _emit_kernel(self, node: Node, kernel: Kernel, chain: Sequence[Node]) -> None:
        ports: tuple[Port, ...] = ()
        if chain:
            where = _coordinates(node)
            ports = (Port("epilogue", self._epilogue(node, chain, where, loop.Name("acc", node.results[0].dtype)), where),)
        storage = self._storage(node)
        self.consts.update({v: self._dense(v) for v in node.operands if self._packed(v)})
        operands = tuple(self._buffer(v) for v in node.operands)
        out = self.name((chain or [node])[-1].results[0], "temp")
        call = KernelCall(kernel.name, operands, (out,), node.attrs, ports, node.place, storage=storage)
        if kernel.pack is not None:
            call = replace(call, operands=(*operands, *map(self._constant, kernel.pack(self._site(call), self.data))))
        self.steps.append(self._laid_out(call, kernel, node.operands[1]) if kernel.layout is not None else call)

    def _laid_out(self, call: KernelCall, kernel: Kernel, v: Var) -> KernelCall:
        """The call with its second operand in the kernel's form as well: of a constant now, of a steady value by a step."""
        layout = kernel.layout(self._site(call)) if kernel.layout and (v in self.consts or v in self.steady) else None
        if layout is None:
            return call
        key = (call.operands[1], layout)
        if key not in self.laid_out:
            if v in self.consts:
                self.laid_out[key] = self._constant(layout.numpy(self.consts[v]))
            else:
                self.laid_out[key] = self.temp((layout.groups * layout.size,), v.dtype)
                self.steps.append(KernelCall(layout.kernel, key[:1], (self.laid_out[key],), {"layout": layout}, (), call.place))
        return replace(call, operands=(*call.operands, self.laid_out[key]))

    def _emit_slices(self, node: Node, outs: Sequence[str]) -> None:
        """A call's body as a program of one slice, that the kernel of this name runs for each."""
        found = sliced(node)
        assert found is not None, f"{node.place}: {node.attrs['name']}"
        inner = Lowering(passes.optimize(found.graph), replace(self.machine, threads=1)).run()
        constants = [b.name for b in inner.buffers if b.role == "const"]
        operands = (*map(self._buffer, node.operands), *(self._constant(inner.data[n]) for n in constants))
        attrs = {"name": node.attrs["name"], "count": found.count, "moves": (*found.moves, *(False for _ in constants)), "program": replace(inner, data={})}
        self.steps.append(KernelCall("slices", operands, tuple(outs), attrs, (), node.place))

    def _site(self, call: KernelCall) -> Site:
        return Site(call=call, operands=tuple(self.buffers[n] for n in call.operands), results=tuple(self.buffers[n] for n in call.results), machine=self.machine)

    def _constant(self, data: Any) -> str:
        """A buffer for constant data that a kernel made."""
        name = f"{self.prefix}c{len(self.buffers)}"
        self.buffers[name] = Buffer(name, data.shape, data.dtype, "const")
        self.data[name] = data
        return name

    def _emit_folded(self, node: Node, chain: Sequence[Node]) -> None:
        """A fold's loops, with the chain applied where its result is stored."""
        out = self.name((chain or [node])[-1].results[0], "temp")
        nest = derive.nests(node, [out], self.at(node), self.temp)[0]
        if chain:
            store = nest.outs[0]
            nest = replace(nest, outs=(replace(store, value=self._epilogue(node, chain, store.index, store.value)),))
        self.steps.append(nest)

    def _epilogue(self, node: Node, chain: Sequence[Node], index: tuple[Expr, ...], value: Expr) -> Expr:
        held = node.results[0]
        for step in chain:
            value = derive.pointwise(step, index, self._through(step, held, value))
            held = step.results[0]
        return value

    def _through(self, step: Node, held: Var, value: Expr) -> derive.At:
        plain = self.at(step)

        def read(k: int, index: tuple[Expr, ...], pred: Expr | None = None, pad: Any = None) -> Expr:
            return value if step.operands[k] is held else plain(k, index, pred, pad)

        return read

    def _buffer(self, v: Var) -> str:
        if v in self.virtual and v not in self.names:
            self.names[v] = self.temp(v.shape, v.dtype)
            self.store(self.names[v], self.virtual.pop(v), "operand")
        if v in self.consts and v not in self.names:
            name = self.name(v, "const", f"c{len(self.buffers)}")
            self.data[name] = np.ascontiguousarray(self.consts[v])
        return self.names[v]

    # -- outputs
    def _outputs(self) -> list[str]:
        """A buffer of role output for each output, in order; what is an input, constant or given twice is copied."""
        names: list[str] = []
        for k, v in enumerate(self.graph.outputs):
            name = self.names.get(v)
            if name is not None and self.buffers[name].role == "temp" and name not in names:
                self.buffers[name] = Buffer(name, v.shape, v.dtype, "output")
                names.append(name)
                continue
            copy = f"out{k}"
            self.buffers[copy] = Buffer(copy, v.shape, v.dtype, "output")
            loops = tuple(Loop(f"i{i}", n) for i, n in enumerate(v.shape))
            index = tuple(loop.Var(x.name) for x in loops)
            self.steps.append(Nest(loops, (), (), (Out(copy, index, self.load(v, index, None, None)),), "sequence", f"output {k}"))
            names.append(copy)
        return names


def _slow(node: Node, but: Container[str] = ()) -> bool:
    """Does the body hold a function that costs tens of operations? Such a value is never computed twice, and in loops of its own:
    in a kernel's epilogue its constants crowd the registers (erf: 3.5 times as long)."""
    body, op = node.op.body, node.op
    if body is None or op.kind != "elementwise":
        return False
    names = [loop.Name(f"x{i}", op.dtypes.compute(v.dtype)) for i, v in enumerate(node.operands)]
    return any(isinstance(e, loop.Un | loop.Bin) and e.op in SLOW and e.op not in but for e in loop.walk(body(*names, **node.attrs)))


def _coordinates(node: Node) -> tuple[Expr, ...]:
    """The result's coordinates as a kernel's ports know them: the relation's axes; a window by its first axis; the inner
    part of a channel product is ``o``, whatever the operand calls it."""
    solved = node.op.solve([v.shape for v in node.operands], node.attrs)
    coords: list[Expr] = []
    for d in solved.relation.results[0]:
        if d.kind != "product":
            coords.append(loop.Var(d.axes[0]))
            continue
        groups, each = d.axes[0], solved.extents[d.axes[1]]
        if solved.extents[groups] == 1:
            coords.append(loop.Var("o"))
        elif each == 1:
            coords.append(loop.Var(groups))
        else:
            coords.append(loop.Var(groups) * each + loop.Var("o"))
    return tuple(coords)


def lower(graph: Graph, machine: Machine, donated: Mapping[int, int] | None = None, steady: Sequence[int] = ()) -> Program:
    """The program of a flat graph. ``donated``: output number -> input number whose memory it takes; ``steady``: the numbers of
    the inputs that stay what they are between most runs."""
    taken = {graph.outputs[o]: graph.inputs[i] for o, i in (donated or {}).items()}
    program = Lowering(graph, machine, taken, {graph.inputs[k] for k in steady}).run()
    if not donated:
        return program
    inputs = [b for b in program.buffers if b.role == "input"]
    outputs = [b for b in program.buffers if b.role == "output"]
    renamed = {outputs[o].name: Buffer(outputs[o].name, outputs[o].shape, outputs[o].dtype, "output", inputs[i].name) for o, i in donated.items()}
    return replace(program, buffers=tuple(renamed.get(b.name, b) for b in program.buffers))


__all__ = ["lower"]
