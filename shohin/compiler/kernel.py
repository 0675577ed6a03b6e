"""The kernel record: a hand-written implementation of an op, with ports through which fusion enters.

A kernel claims a node (``op`` and ``predicate``) and prints C for it. Its reduction order equals its op's, so its
bits equal those of the derived loops, which stay its oracle. Ports are loop-IR expressions over the *result's*
axes (``loop.Var`` of the op's relation) and ``loop.Name("acc")``; the kernel prints them where it has a value, in
scalar or lane context, through the ``Printer``, and may merge axes (m = n h w): the printer resolves the loads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shohin.core.loop import Expr
from shohin.core.nest import Buffer, KernelCall


@dataclass(frozen=True, kw_only=True)
class PortSpec:
    """Where fusion enters. ``epilogue``: an expression of ``value`` (``acc``), where the kernel has a result; ``last`` is an op
    that ends a chain which enters here. ``load``: operand number ``operand`` may lie nowhere, and is made by rows in scratch
    (``Printer.load``). ``statistic``: reductions over the rows of the result ``value``, taken by chunks as they are
    finished (``Printer.statistic``). ``in_place``: every element is stored once, right after its epilogue, so that what is
    read only there may be written over. ``times``: once per element or per use; ``when``: at which sites (None: all)."""

    name: str
    value: str
    times: str
    last: str = ""
    operand: int = 0
    in_place: bool = False
    when: Callable[[Site], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a kernel may know of the target: vector width in bytes, features, level (``v3``, ``v4``, ``generic`` ...)."""

    level: str
    vector_bytes: int
    features: frozenset[str]
    threads: int


GENERIC = Machine(level="generic", vector_bytes=0, features=frozenset(), threads=1)
"""Plain C: no vector extensions, one thread."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One use of a kernel: its buffers, attributes, ports, by the op's names."""

    call: KernelCall
    operands: tuple[Buffer, ...]
    results: tuple[Buffer, ...]
    machine: Machine

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self.call.attrs

    def port(self, name: str) -> Expr | None:
        return next((p.expr for p in self.call.ports if p.name == name), None)

    def staged(self, k: int) -> bool:
        """Is operand ``k`` made in scratch, by rows?"""
        return any(out.buffer == self.call.operands[k] for nest in self.call.staged for out in nest.outs)

    @property
    def folded(self) -> bool:
        """Are there reductions over the rows of the result?"""
        return bool(self.call.folds)


@dataclass(frozen=True)
class Declined:
    """A no with its reason, for who profiles. It is false, so that conditions read as before:

    >>> rows = 8
    >>> rows <= 4 or Declined(f"{rows} rows, it takes up to 4")
    Declined(why='8 rows, it takes up to 4')
    """

    why: str

    def __bool__(self) -> Literal[False]:
        return False


Verdict = Literal[True] | Declined


class Layout(Protocol):
    """Another form of an operand: the ``kernel`` that makes it (one operand, one result of ``size`` elements a group, the
    attribute ``layout``), and the same in NumPy."""

    @property
    def kernel(self) -> str: ...

    @property
    def groups(self) -> int: ...

    @property
    def size(self) -> int: ...

    def numpy(self, data: Any) -> Any: ...


class Printer(Protocol):
    """Prints loop-IR expressions as C. ``names`` binds variables and names to C text; ``merged`` binds one C
    variable to several axes, outermost first, with their extents. ``like`` binds one to all axes of a tensor
    but that of lanes: what lies like the tensor is read there, by a text without extents."""

    def pointer(self, buffer: str) -> str:
        """C text of a typed pointer to the buffer's first element (``float *``, ``const int8_t *`` ...)."""
        ...

    def scalar(self, expr: Expr, names: Mapping[str, str], merged: Mapping[str, tuple[tuple[str, int], ...]] | None = None,
               like: Mapping[str, tuple[tuple[str, int], ...]] | None = None) -> str:  # fmt: skip
        """C text of one value."""
        ...

    def lanes(self, expr: Expr, names: Mapping[str, str], lane: str, width: int,
              merged: Mapping[str, tuple[tuple[str, int], ...]] | None = None,
              like: Mapping[str, tuple[tuple[str, int], ...]] | None = None) -> str:  # fmt: skip
        """C text of ``width`` values for consecutive ``lane``; names bound to vectors are vectors of that width."""
        ...

    def vector(self, dtype: Any, width: int) -> str:
        """The name of a vector type (declared in the prelude)."""
        ...

    def helper(self, text: str) -> None:
        """C that stands before the functions, once a file."""
        ...

    def require(self, needs: Iterable[tuple[str, ...]]) -> None:
        """What functions need that were printed apart and stand in this text."""
        ...

    def load(self, buffer: str, name: str) -> str:
        """C of the function ``name(b, to, from, upto)`` that writes rows ``from`` to ``upto`` of a staged operand to ``to``;
        empty for one that lies in memory."""
        ...

    def statistic(self, name: str) -> str:
        """C of the function ``name(b, shared, chunk, from, upto)`` that takes rows of the result into the reductions of chunk
        ``chunk`` of eight: in order, whole blocks of 32 from the chunk's first row, or up to its end; empty without any."""
        ...


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Each phase's ``emit(site, printer, name)`` gives C for
    ``static void name(void *const *b, char *shared, char *scratch, long chunk, long chunks)``, which does piece ``chunk`` of ``chunks``; ``b`` holds the program's buffers. ``chunks(site)`` is how many pieces
    (independent, run in any order on any thread); ``scratch`` is ``workspace(site)`` bytes per thread slot, ``shared``
    is ``shared(site)`` bytes for all chunks and phases (partials); both 64-byte aligned, in the arena. Several ``phases`` run one after another with a barrier between (a reduction's partials).
    ``pack(site, data)`` turns constants (arrays by buffer) into new ones at compile time: further operands, in its order;
    ``packed`` says what they are, for readers of the C. ``layout(site)``: the form in which operand 1 is read, if it is not read
    as it lies. Where that operand is a constant, or stays what it is between runs, it is brought into this form beforehand and
    comes as a further operand. ``unpacks``: the storage ops whose packed constants it reads in place of operand 1, in the form that
    ``layout`` gives them by ``KernelCall.storage``.
    """

    name: str
    op: str
    doc: str
    predicate: Callable[[Site], Verdict]
    ports: tuple[PortSpec, ...]
    phases: tuple[Phase, ...]
    workspace: Callable[[Site], int]
    shared: Callable[[Site], int]
    order: str
    flops: Callable[[Site], float]
    pack: Callable[[Site, Mapping[str, Any]], tuple[Any, ...]] | None = None
    packed: tuple[str, ...] = ()
    layout: Callable[[Site], Layout | None] | None = None
    unpacks: tuple[str, ...] = ()

    def takes(self, port: str, site: Site, operand: int = 0) -> bool:
        """Has the kernel this port (for this operand), at this site?"""
        return any(p.name == port and p.operand == operand and (p.when is None or p.when(site)) for p in self.ports)


@dataclass(frozen=True, kw_only=True)
class Phase:
    emit: Callable[[Site, Printer, str], str]
    chunks: Callable[[Site], int]


PLAIN = frozenset({"input", "output", "const", "temp", "kept"})
"""Roles of buffers that lie as they are read."""
KERNELS: dict[str, Kernel] = {}


def register(kernel: Kernel) -> Kernel:
    """Put a kernel into the table; later ones of the same op are tried first."""
    KERNELS[kernel.name] = kernel
    return kernel


def _reads(kernel: Kernel, site: Site) -> Verdict:
    """Operands that a storage op (then their role) unpacks are for kernels that unpack it, or that pack anew and look themselves."""
    packed = {b.role for b in site.operands} - PLAIN
    if not packed or kernel.pack is not None:
        return True
    if not packed.issubset(kernel.unpacks):
        return Declined("the weights are packed, it takes dense ones")
    return site.call.storage is not None or Declined("the weights are moved after they are unpacked")


def claim(op: str, site: Site) -> Kernel | Declined:
    """The kernel for this site; or who declined it and why, and the derived loops do it."""
    reasons: dict[str, list[str]] = {}
    for kernel in reversed(list(KERNELS.values())):
        if kernel.op == op:
            verdict = _reads(kernel, site) and kernel.predicate(site)
            if verdict:
                return kernel
            why = verdict.why if isinstance(verdict, Declined) else "no reason is given"
            reasons.setdefault(why, []).append(kernel.name)
    return Declined("; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items()))
