"""``sh.export``: a network as an artefact that a device's own compiler builds. Complete, or an error that says what is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.definitions import Grid
from shohin.compress.parameters import inline
from shohin.core.errors import DeployError, TargetError
from shohin.core.graph import Var
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import Tensor
from shohin.deploy import source
from shohin.deploy.artefact import Artefact, Boundary, write_artefact
from shohin.deploy.network import Network, between, network, one_each
from shohin.deploy.source import write_c
from shohin.deploy.streaming import State, paired, reach, steps
from shohin.targets import get_target


def export(net: Module, example: Any, *, device: str, to: str | Path, name: str = "network", stream: int | None = None,
           state: Mapping[str, str] | None = None, pre: Callable[..., Any] | None = None, post: Callable[..., Any] | None = None) -> Artefact:  # fmt: skip
    """Writes the folder ``to`` for ``device`` and returns the artefact.

    ``example`` gives the input's shape (its first dim is the batch; the artefact takes one), or is a tuple of examples, one an
    input. A float network exports as float32, one from ``plan.apply`` as integers.

    Args:
        stream: take the sequence (the input's second dim) in steps of so many elements. Convolutions that reach back only and
            loops keep what they need in the arena; the results are those of the whole sequence, integer for integer.
        state: inputs that are fed from outputs, by their names: ``{"x1": "y1"}`` where they are the second ones. They begin as zeros.
        pre: a function of ops that makes the network's inputs of the artefact's (``example``), as ``lambda image: (image.astype(sh.float32) / 255 - 0.5) / 0.2``
            of a uint8 image. It is a part of the program.
        post: a function of ops on the network's real outputs, as ``lambda y: y.argmax(axis=-1)``.

    >>> from shohin import nn
    >>> x = np.ones((1, 4, 2), np.float32)
    >>> art = export(nn.Conv1d(2, 1, 3, padding=(2, 0)), x, device="host", to="conv", stream=1)
    >>> live = art.stream()
    >>> [live.step(x[0, t : t + 1]).shape for t in range(2)]
    [(1, 1), (1, 1)]
    """
    target = get_target(device)
    if not target.float_unit:
        raise TargetError(f"export: device={device!r} has no float unit (float_unit=False), and int8 networks too multiply float32 "
                          f"when they requantize; requantization in integers is not written yet")
    avals = [e.aval if isinstance(e, Tensor) else Aval(np.shape(e), np.asarray(e).dtype) for e in (example if isinstance(example, tuple) else (example,))]
    for a in avals:
        if not a.shape or (len(avals) == 1 and len(a.shape) < 2):
            raise DeployError(f"export: example has shape {a.shape}, expected a batch of inputs")
    ones = avals if pre is not None else one_each(avals)
    ones = [Aval((1, *a.shape[1:]), a.dtype) for a in ones]
    if stream is not None:
        if state is not None or len(ones) > 1 or len(ones[0].shape) < 2 or stream < 1:
            raise DeployError(f"export: stream={stream} takes one input (n, length, ...) and at least one element a step, and no state=; {len(ones)} came, {ones[0]}")
        ones = [Aval((1, stream, *ones[0].shape[2:]), ones[0].dtype)]
    folder = _writable(Path(to))
    states: list[State] = []
    with mode(net, training=False):
        made = network(net, ones) if pre is None and post is None else between(net, ones, pre, post)
        if stream is not None:
            made, states = _stepwise(net, made, ones[0], stream, pre, post)
    if state:
        made, states = paired(made, state)
    text = write_c(made.graph, name, machines=target.machines, grids=[_plain(g) for g in made.grids], device=target.name, states=states)
    (folder / "network.h").write_text(text.header, encoding="utf-8")
    (folder / "network.c").write_text(text.source, encoding="utf-8")
    own = lambda values: values[: len(values) - len(states)]
    return write_artefact(folder, device=target.name, inputs=_boundaries("x", own(made.graph.inputs), made.inputs), outputs=_boundaries("y", own(made.graph.outputs), made.outputs),
                          kernels=text.kernels, layout=text.layout)  # fmt: skip


def _stepwise(net: Module, made: Network, one: Aval, stream: int, pre: Callable[..., Any] | None, post: Callable[..., Any] | None) -> tuple[Network, list[State]]:
    """The step of a network, and its states."""

    def at(n: int) -> Any:
        return inline(between(net, [Aval((1, n, *one.shape[2:]), one.dtype)], pre, post).graph, lambda _: False)

    piece = inline(made.graph, lambda _: False)
    graph, states = steps({stream: piece, (n := reach(piece, stream)): at(n)}, stream)
    return Network(graph=graph, inputs=made.inputs, outputs=made.outputs), states


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DeployError(f"export: cannot write to {folder}: {error.strerror or error}") from error
    return folder


def _plain(g: Grid | None) -> source.Grid | None:
    return None if g is None else source.Grid(scale=float(g.s), zero=int(g.z), limits=g.limits)


def _boundaries(letter: str, values: Sequence[Var], grids: Sequence[Grid | None]) -> tuple[Boundary, ...]:
    grid = lambda g: {} if g is None else {"scale": float(np.float32(g.s)), "zero": int(g.z)}
    names = [letter] if len(values) == 1 else [f"{letter}{k}" for k in range(len(values))]
    return tuple(Boundary(name=n, shape=v.shape[1:] or (1,), dtype=v.dtype.name, **grid(g)) for n, v, g in zip(names, values, grids, strict=True))


__all__ = ["export"]
