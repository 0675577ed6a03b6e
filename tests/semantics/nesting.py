"""Random nestings of transformations around a module with dropout and written buffers."""

import numpy as np

import shohin as sh
from shohin import nn
from shohin.core.op import Quant
from shohin.ops.composite import composite


class Cell(nn.Module):
    """Dropout, a hidden state that carries gradient, and a counter of calls."""

    def __init__(self):
        self.w = nn.Param(np.float32([0.5, -0.7, 0.9]))
        self.h = nn.Buffer(np.float32([0.1, 0.2, -0.3]), join="mean")
        self.calls = nn.Buffer(np.float32(0), join="max")

    def forward(self, v):
        self.calls = self.calls + 1.0
        kept = sh.where(sh.random.bernoulli(0.7, (3,)), v, v * 0.1)
        self.h = sh.tanh(self.w * kept + self.h * 0.5)
        return sh.sin(self.h + v * self.w)


_now = []


@composite("fuzz_call", quant=Quant("inline"), source="tests")
def _call(v):
    return _now[-1](v)


def _composite(f, net, v):
    _now.append(lambda v: f(net, v))
    try:
        return _call(v)
    finally:
        _now.pop()


def _both(f, net, v):
    (_, y), g = sh.value_and_grad(lambda net: (lambda y: ((y * y).sum(), y))(f(net, v)), aux=True)(net)
    return y + g["w"] * 0.1


WRAPS = {
    "grad": lambda f, net, v: sh.grad(lambda u: (f(net, u) ** 2).sum())(v),
    "grad net": _both,
    "jvp": lambda f, net, v: sh.jvp(lambda u: f(net, u), (v,), (v * 0.5 + 1.0,))[1],
    "jvp net": lambda f, net, v: sh.jvp(lambda n: f(n, v), (net,), ({"w": v * 0.3},))[1],
    "vmap": lambda f, net, v: sh.vmap(lambda u: f(net, u))(sh.stack([v, v * 0.5])).mean(axis=0),
    "scan": lambda f, net, v: sh.scan(lambda c, s: (sh.tanh(f(net, c) * s), None), v, sh.asarray([1.0, 0.7]))[0],
    "cond": lambda f, net, v: sh.cond(v.sum() > 0.3, lambda u: f(net, u), lambda u: f(net, u * 0.5) * 2.0, v),
    "checkpoint": lambda f, net, v: sh.checkpoint(f)(net, v),
    "jit": lambda f, net, v: sh.jit(f)(net, v),
    "call": _composite,
}
TRANSPARENT = ("grad", "grad net", "jvp", "jvp net", "checkpoint", "jit", "call")


def draw(seed):
    """The names of one nesting, outermost first."""
    rng = np.random.default_rng(seed)
    return [str(n) for n in rng.choice(list(WRAPS), size=rng.integers(1, 5))]


def nest(names):
    """The function ``(net, v) -> tensor`` of a nesting."""
    f = lambda net, v: net(v)
    for name in reversed(names):
        f = (lambda inner, wrap: lambda net, v: sh.tanh(wrap(inner, net, v)))(f, WRAPS[name])
    return f


def start(k):
    return np.random.default_rng(k).uniform(-1, 1, 3).astype(np.float32)


def calls_of(names):
    """How often the module is called: twice for each scan, once for all the rest."""
    return 2 ** names.count("scan")
