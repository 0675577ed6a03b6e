"""``distill``: a loss that also asks to answer like a teacher. A transformation of the loss: it goes wherever a loss goes, under
any method, and knows none.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.compress.walk import traced
from shohin.core import dtypes, interp
from shohin.core.errors import DataError, PlanError, ShapeError
from shohin.core.graph import Graph
from shohin.core.module import Module
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import prune, run
from shohin.data.dataset import Dataset
from shohin.nn.functional import log_softmax
from shohin.ops import math, reduce
from shohin.ops.activations import stop_gradient

Loss = Callable[..., Any]


def distill(loss: Loss, teacher: Module | None, *, alpha: float = 0.5, temperature: float = 4.0) -> Distilled:
    """``(1 - alpha) loss(net, x, y) + alpha T^2 KL(softmax(teacher(x) / T) || softmax(net(x) / T))``, the mean over examples.

    Args:
        loss: ``loss(net, x, y)``, a scalar; it calls ``net`` once, and that output (n, classes) is what is compared, not its labels.
        teacher: any module of logits (n, classes): a larger or float network, an imported one. It is a constant: its values are
            those of now, in evaluation mode, and no gradient reaches it. None: the logits are in ``y``, as ``with_logits`` puts them.
        alpha: the teacher's share, in [0, 1].
        temperature: T, positive; the factor T^2 keeps the gradients' size as T changes.

    The teacher sees what the network sees, augmented or not; stored logits are of the examples as they were.

    Source: Hinton, Vinyals and Dean 2015 (arXiv:1503.02531), section 2; KL instead of cross entropy differs by a constant.

    >>> from shohin import nn
    >>> small, large = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> loss = distill(lambda net, x, y: nn.cross_entropy(net(x), y), large, alpha=0.9, temperature=2)
    >>> loss(small, np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])).shape
    ()
    """
    return Distilled(loss, teacher, alpha, temperature)


class Distilled:
    """What ``distill`` returns: ``loss(net, x, y)``; ``str`` of it says all that its values depend on."""

    text = True  # a run's digest takes ``str`` (``train.digest``)

    def __init__(self, loss: Loss, teacher: Module | None, alpha: float, temperature: float) -> None:
        if not callable(loss) or isinstance(loss, Module):
            raise PlanError(f"distill: loss is {type(loss).__name__}, expected a function loss(net, x, y)")
        if teacher is not None and not isinstance(teacher, Module):
            raise PlanError(f"distill: teacher is {type(teacher).__name__}, expected a module of logits, or None for logits in y (with_logits)")
        if not 0 <= alpha <= 1 or not temperature > 0:
            raise PlanError(f"distill: alpha is {alpha} and temperature {temperature}, expected a share in [0, 1] and a positive number")
        self.__wrapped__, self.alpha, self.temperature = loss, float(alpha), float(temperature)
        self._teacher = teacher
        self._values = {} if teacher is None else {cell: np.array(cell.read().numpy()) for cell in teacher.cells().values()}
        self._graphs: dict[Aval, Graph] = {}

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self  # marks a wrapper, which ``jit`` looks through for what the loss looks up

    def __str__(self) -> str:
        values = zlib.crc32(b"".join(a.tobytes() for a in self._values.values()))
        teacher = "stored logits" if self._teacher is None else f"{type(self._teacher).__name__} {values:08x}"
        return f"distill({teacher}, alpha={self.alpha}, temperature={self.temperature})"

    def __call__(self, net: Any, x: Any, y: Any) -> Tensor:
        x, y = as_tensor(x), as_tensor(y)
        if self._teacher is None:
            if y.ndim != 2 or y.dtype not in dtypes.FLOATING or y.shape[1] < 2:
                raise ShapeError(f"distill: y is {y.aval}, expected a label and logits for each example; make the data by with_logits(teacher, data)")
            target, y = y[:, 1:], math.astype(y[:, 0], dtypes.int64)
        else:
            target = self._answer(x)
        seen = _Seen(net)
        hard = self.__wrapped__(seen, x, y)
        if len(seen.outputs) != 1:
            raise PlanError(f"distill: the loss calls net {len(seen.outputs)} times, expected once; its output is what the teacher's is compared with")
        output = seen.outputs[0]
        if not isinstance(output, Tensor) or output.shape != target.shape or output.ndim != 2:
            what = output.aval if isinstance(output, Tensor) else type(output).__name__
            raise ShapeError(f"distill: the network gives {what} and the teacher {target.aval}, expected logits (n, classes) of both")
        return hard * (1 - self.alpha) + divergence(target, output, self.temperature) * (self.alpha * self.temperature**2)

    def _answer(self, x: Tensor) -> Tensor:
        """The teacher's output, of constants and ``x`` alone."""
        if x.aval not in self._graphs:
            assert self._teacher is not None
            token = interp._current.set(interp.BASE)  # no part of the program that asks
            try:
                graph, cells, _ = traced(self._teacher, [x.aval], lambda node: False)
            finally:
                interp._current.reset(token)
            if len(graph.outputs) != 1:
                raise ShapeError(f"distill: the teacher gives {len(graph.outputs)} outputs, expected logits")
            consts = (*graph.consts, *((v, self._values[c]) for v, c in cells.items()))
            self._graphs[x.aval] = prune(Graph(graph.inputs[:1], ("x",), consts, graph.nodes, graph.outputs))
        return stop_gradient(run(self._graphs[x.aval], [stop_gradient(x)], "")[0])


class _Seen:
    """A network whose outputs are noted."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self.outputs: list[Any] = []

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        self.outputs.append(self._net(*args, **keywords))
        return self.outputs[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)


def divergence(target: Any, output: Any, temperature: float) -> Tensor:
    """``KL(softmax(target / T) || softmax(output / T))``, the mean over rows.

    >>> round(float(divergence(np.float32([[0, 0]]), np.float32([[0, 2]]), 2.0)), 4)
    0.1201
    """
    p, q = (log_softmax(as_tensor(v) * (1.0 / temperature)) for v in (target, output))
    return reduce.mean(reduce.sum(math.exp(p) * (p - q), axis=1))


def with_logits(teacher: Module, data: Dataset, *, batch: int = 256) -> Dataset:
    """``data`` whose ``y`` is, for each example, its label and the teacher's logits, float32 (n, 1 + classes), for ``distill(loss, None)``.

    Labels come out of it exactly up to 2^24. The teacher runs once, in evaluation mode.

    >>> from shohin import nn
    >>> data = Dataset(np.eye(3, dtype=np.float32), [0, 1, 1])
    >>> with_logits(nn.Linear(3, 2), data)
    Dataset(3 examples, x float32 [3], y float32 [3])
    """
    if data.y.ndim != 1 or data.y.dtype.kind not in "iu":
        raise DataError(f"with_logits: y is {data.y.dtype}{list(data.y.shape)}, expected integer labels, one an example")
    answer = Distilled(lambda net, x, y: x, teacher, 1.0, 1.0)._answer
    rows = [answer(as_tensor(np.asarray(x, data.x.dtype))).numpy() for x, *_ in data.batches(min(batch, len(data)), shuffle=False)]
    logits = np.concatenate(rows)[: len(data)]
    if logits.ndim != 2:
        raise ShapeError(f"with_logits: the teacher gives {list(logits.shape)}, expected logits (n, classes)")
    return Dataset(data.x, np.concatenate([data.y[:, None].astype(np.float32), logits.astype(np.float32)], axis=1))


__all__ = ["Distilled", "distill", "divergence", "with_logits"]
