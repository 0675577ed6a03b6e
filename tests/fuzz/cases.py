"""Random uses of ops that have kernels: contractions, windows and their gradients, with and without what fuses into them.

A case is data: its ``repr`` makes it again. It has ``arrays()``, is a function of tensors (``outputs``), and may know the
true result and how far a float32 one may lie from it (``truth``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

import shohin as sh
from shohin.core import interp
from shohin.core.tensor import Tensor
from shohin.ops import kinds
from shohin.testing.bounds import gamma, summed
from tests.kernels.memory import layer

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
Pairs = tuple[Pair, Pair]
MOST = (1 << 20, 1 << 20, 1 << 20, 1 << 23)
"""Products of one case at most: the reference in NumPy has no kernels, but tiles have borders that small sizes do not meet."""
BEFORE = ("", "", "scale", "relu6")
AFTER = ("", "", "relu", "residual", "hardswish", "sums")


class Case(Protocol):
    def arrays(self) -> list[Array]: ...
    def outputs(self, *operands: Tensor) -> list[Tensor]: ...
    def truth(self, arrays: Sequence[Array]) -> tuple[Array, Array] | None: ...


def normal(seed: int, shapes: Sequence[tuple[int, ...]], special: bool) -> list[Array]:
    """Standard normal values; ``special``: infinities, NaN, both zeros, subnormal and huge numbers among them."""
    rng = np.random.default_rng(seed)
    made = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    for a in made if special else ():
        for value in (np.inf, np.nan, -0.0, 1e-42, 3e38):
            a.reshape(-1)[rng.integers(0, a.size, max(1, a.size // 97))] = value
    return made


def before(kind: str, x: Tensor, side: Sequence[Tensor]) -> Tensor:
    """What a kernel may make in scratch on its way (port ``load``)."""
    return {"": lambda: x, "scale": lambda: x * side[0] + side[1], "relu6": lambda: sh.minimum(sh.maximum(x * side[0], 0.0), 6.0)}[kind]()


def after(kind: str, y: Tensor, side: Sequence[Tensor]) -> list[Tensor]:
    """A chain that a kernel may take along (port ``epilogue``), or reductions over its rows (``statistic``)."""
    match kind:
        case "relu":
            return [sh.maximum(y + side[0], 0.0)]
        case "residual":
            return [sh.maximum(sh.minimum((y + side[1]) * side[0], 6.0), -0.25)]
        case "hardswish":
            return [y * sh.minimum(sh.maximum(y + 3.0, 0.0), 6.0)]
        case "sums":
            rows = tuple(range(y.ndim - 1))
            return [y, y.sum(axis=rows), (y * side[1]).sum(axis=rows)]
        case _:
            return [y]


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """``op`` on operands of ``shapes``; the first goes through ``before``, the result through ``after``."""

    op: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    result: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    before: str = ""
    after: str = ""
    special: bool = False
    seed: int = 0

    def arrays(self) -> list[Array]:
        c, o = self.shapes[0][-1], self.result[-1]
        return normal(self.seed, [*self.shapes, (c,), (c,), (o,), self.result], self.special)

    def outputs(self, *operands: Tensor) -> list[Tensor]:
        a, b, scale, shift, channel, residual = operands
        y = interp.bind(kinds.get(self.op), [before(self.before, a, (scale, shift)), b], dict(self.attrs))[0]
        return after(self.after, y, (channel, residual))

    def truth(self, arrays: Sequence[Array]) -> tuple[Array, Array] | None:
        if self.before or self.after or self.special:
            return None
        found = summed(kinds.get(self.op), arrays[:2], dict(self.attrs))
        return found.true, found.bound


@dataclass(frozen=True, kw_only=True)
class Pool:
    """``op``: max, mean, and their gradients."""

    op: str
    shape: tuple[int, int, int, int]
    kernel: Pair
    stride: Pair
    padding: Pairs
    special: bool = False
    seed: int = 0

    def arrays(self) -> list[Array]:
        (x,) = normal(self.seed, [self.shape], self.special)
        if "max" in self.op:  # ties
            x = np.round(x)
        y = kinds.get("max_pool2d").numpy(x, **self._attrs)
        return [x, *([y] if self.op == "max_pool2d_dx" else []), *normal(self.seed + 1, [y.shape], self.special)]

    @property
    def _attrs(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}

    def outputs(self, *operands: Tensor) -> list[Tensor]:
        match self.op:
            case "max_pool2d" | "window_sum2d":
                return [interp.bind(kinds.get(self.op), [operands[0]], self._attrs)[0]]
            case "max_pool2d_dx":
                return [interp.bind(kinds.get(self.op), list(operands), self._attrs)[0]]
            case _:
                return [sh.grad(lambda x: (interp.bind(kinds.get("window_sum2d"), [x], self._attrs)[0] * operands[1]).sum())(operands[0])]

    def truth(self, arrays: Sequence[Array]) -> tuple[Array, Array] | None:
        if self.special or self.op == "window_sum2d_dx":
            return None
        op = kinds.get(self.op)
        wide = [a.astype(np.float64) for a in arrays[: len(op.operands)]]
        y = op.numpy(*wide, **self._attrs)
        if self.op == "max_pool2d":
            return y, np.zeros(y.shape)
        return y, gamma(prod(self.kernel)) * op.numpy(*wide[:-1], abs(wide[-1]), **self._attrs)


@dataclass(frozen=True, kw_only=True)
class Integer:
    """A random integer layer (``tests.kernels.memory``): convolution, depthwise, product or pool, palettized or not, requantized."""

    seed: int

    def _made(self) -> tuple[tuple[int, ...], Callable[[Tensor], Tensor]]:
        return layer(np.random.default_rng(self.seed))[:2]

    def arrays(self) -> list[Array]:
        return [np.random.default_rng(self.seed + 1).integers(-128, 128, self._made()[0]).astype(np.int8)]

    def outputs(self, *operands: Tensor) -> list[Tensor]:
        return [self._made()[1](operands[0])]

    def truth(self, arrays: Sequence[Array]) -> tuple[Array, Array] | None:
        y = self._made()[1](sh.asarray(arrays[0])).numpy()
        return y, np.zeros(y.shape)


def draw(rng: np.random.Generator, special: bool) -> Case:
    """One case. A third are convolutions with their gradients, the rest products, depthwise, pools and integer layers."""
    kind = rng.choice(["conv", "conv", "depthwise", "matmul", "pool", "integer"])
    seed = int(rng.integers(0, 2**31))
    if kind == "integer":
        return Integer(seed=seed)
    if kind == "pool":
        return _pool(rng, special, seed)
    ports = {"before": str(rng.choice(BEFORE)), "after": str(rng.choice(AFTER)), "special": special, "seed": seed}
    return _matmul(rng, ports) if kind == "matmul" else _conv(rng, kind == "depthwise", ports)


def pick(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(0, len(values)))]


def _window(rng: np.random.Generator, most: int) -> tuple[Pair, Pair, Pair, Pairs, Pair]:
    """Kernel, stride, dilation, padding, input; each position of the result may lie in the padding."""
    side = lambda: (pick(rng, 1, 1, 2, 3, 3, 4, 5, 7), pick(rng, 1, 1, 1, 2, 2, 3), pick(rng, 1, 1, 1, 2, 3))
    (kh, sh_, dh), (kw, sw, dw) = (side() for _ in range(2))
    kernel = (min(kh, most), min(kw, most))
    padding = tuple((pick(rng, 0, 0, 1, 2, k), pick(rng, 0, 1, 1, k // 2)) for k in kernel)
    sizes = pick(rng, (97, 61), (1, 1), (7, 5), None, None, None, None)
    size = [n if sizes else int(rng.integers(1, 24)) for n in sizes or (0, 0)]
    size = [max(n, (k - 1) * d + 1 - sum(p)) for n, k, d, p in zip(size, kernel, (dh, dw), padding)]
    return kernel, (sh_, sw), (dh, dw), padding, (size[0], size[1])  # type: ignore[return-value]


def _conv(rng: np.random.Generator, depthwise: bool, ports: dict[str, Any]) -> Case:
    kernel, stride, dilation, padding, (h, w) = _window(rng, 7)
    few = False  # positions, so that the weights are read once
    if not depthwise and rng.random() < 0.35:
        kernel, stride, dilation, padding = (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0))
        few = rng.random() < 0.3
        h, w = (1, pick(rng, 1, 1, 2)) if few else (h, w)
    n = pick(rng, 1, 1, 2, 3, 7, 8, 16)
    if depthwise:
        groups = c = o = pick(rng, 2, 3, 8, 13, 16, 31, 32, 37, 64, 100)
    else:
        groups = pick(rng, 1, 1, 1, 1, 2, 3, 5)
        c, o = (groups * pick(rng, 1, 2, 3, 4, 5, 8, 13, 16, 24, 37, 64) for _ in range(2))
        if few:
            n, groups, (c, o) = pick(rng, 1, 2, 4), 1, (pick(rng, 8, 16, 37, 64, 130, 300) for _ in range(2))
    p, q = ((d + sum(pad) - (k - 1) * e - 1) // s + 1 for d, pad, k, e, s in zip((h, w), padding, kernel, dilation, stride))
    if p < 1 or q < 1 or n * p * q * o * prod(kernel) * (c // groups) > pick(rng, *MOST):
        return _conv(rng, depthwise, ports)
    x, y, weights = (n, h, w, c), (n, p, q, o), (o, *kernel, c // groups)
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    op = pick(rng, "conv2d", "conv2d", "conv2d_dx", "conv2d_dw")
    shapes, result = {"conv2d": ((x, weights), y), "conv2d_dx": ((y, weights), x), "conv2d_dw": ((x, y), weights)}[op]
    if op != "conv2d":
        attrs["shape"] = result
    return Contraction(op=op, shapes=shapes, result=result, attrs=tuple(attrs.items()), **ports)


def _matmul(rng: np.random.Generator, ports: dict[str, Any]) -> Case:
    m, k, n = (pick(rng, 1, 2, 3, 4, 5, 7, 13, 16, 17, 31, 37, 64, 97, 130, 300, 1000) for _ in range(3))
    batch = pick(rng, (), (), (), (3,), (2, 3), (1, 7))
    if prod(batch) * m * k * n > pick(rng, *MOST):
        return _matmul(rng, ports)
    ta, tb = bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
    if rng.random() < 0.25:
        m, batch, ta, tb = pick(rng, 1, 1, 2, 3, 4), (), False, True
    a, b = ((*batch, k, m) if ta else (*batch, m, k)), ((*batch, n, k) if tb else (*batch, k, n))
    return Contraction(op="matmul", shapes=(a, b), result=(*batch, m, n), attrs=(("transpose_a", ta), ("transpose_b", tb)), **ports)


def _pool(rng: np.random.Generator, special: bool, seed: int) -> Case:
    op = pick(rng, "max_pool2d", "max_pool2d_dx", "window_sum2d", "window_sum2d_dx")
    kernel, stride, _, padding, (h, w) = _window(rng, 3 if op == "max_pool2d_dx" else 5)
    h, w = (max(n, k - sum(p)) for n, k, p in zip((h, w), kernel, padding))
    shape = (pick(rng, 1, 2, 7), h, w, pick(rng, 1, 3, 13, 16, 37))
    return Pool(op=op, shape=shape, kernel=kernel, stride=stride, padding=padding, special=special, seed=seed)
