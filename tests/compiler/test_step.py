"""A whole training step as one program: the same bits on 1 and 2 threads and at v3 and native, and its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import shohin as sh
from shohin import jit, nn, optim
from shohin.nn.models import DSCNN, ResidualBlock
from shohin.targets.host import can_run

RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((3, 9, 11, 3)).astype(np.float32), np.array([1, 0, 3])


class Small(nn.Module):
    """Odd sizes on purpose: 9 x 11 images, 13 channels, a batch of 3."""

    def __init__(self) -> None:
        self.stem = nn.Conv2d(3, 13, 3, padding=1)
        self.block = ResidualBlock(13, 26, 2)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(26, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.drop(self.block(sh.relu(self.stem(x))).mean(axis=(1, 2))))


def step(net: Any, opt: Any, x: Any, y: Any) -> Any:
    loss, grads = sh.value_and_grad(lambda net, x, y: nn.cross_entropy(net(x), y))(net, x, y)
    opt.update(net, grads)
    return loss


def trained(build: Any, x: Any, **how: Any) -> list[bytes]:
    sh.seed(3)
    net = build()
    opt = optim.adamw(1e-2).init(net)
    compiled = jit(step, **how)
    losses = [np.asarray(compiled(net, opt, x, Y)) for _ in range(3)]
    return [a.tobytes() for a in losses] + [c.read().numpy().tobytes() for m in (net, opt) for c in m.cells().values()]


@pytest.mark.parametrize("build", [Small, lambda: DSCNN(3, 5, width=13, depth=1)], ids=["residual", "separable"])
def test_bits_do_not_depend_on_threads_or_vectors(build: Any) -> None:
    expected = trained(build, X, level="v3", threads=1)
    assert trained(build, X, level="v3", threads=2) == expected
    for level in ("v4", "native"):
        if level == "native" or can_run("v4"):
            assert trained(build, X, level=level, threads=2) == expected, level


def test_compiled_equals_eager_to_rounding() -> None:
    results = []
    for run in (step, jit(step)):
        sh.seed(3)
        net = Small()
        opt = optim.sgd(1e-2).init(net)
        loss = [float(run(net, opt, X, Y)) for _ in range(2)]
        results.append((loss, {p: c.read().numpy() for p, c in net.cells().items()}))
    (a, cells_a), (b, cells_b) = results
    np.testing.assert_allclose(a, b, rtol=2e-4)
    for path, value in cells_a.items():
        np.testing.assert_allclose(value, cells_b[path], rtol=2e-3, atol=2e-4, err_msg=path)


def test_a_value_in_somebodys_hands_does_not_change() -> None:
    sh.seed(0)
    net = nn.Linear(2, 2)
    opt = optim.sgd(0.5).init(net)
    x = np.ones((3, 2), np.float32)
    compiled = jit(lambda net, opt, x: opt.update(net, sh.grad(lambda net, x: (net(x) ** 2).sum())(net, x)))
    compiled(net, opt, x)
    held, before = net.weight, net.weight.numpy()
    compiled(net, opt, x)
    assert np.array_equal(held.numpy(), before)
    assert not np.array_equal(net.weight.numpy(), before)


def test_donated_cells_stay_where_they_are() -> None:
    net = nn.Linear(2, 2)
    opt = optim.sgd(0.5).init(net)
    x = np.ones((3, 2), np.float32)
    compiled = jit(lambda net, opt, x: opt.update(net, sh.grad(lambda net, x: (net(x) ** 2).sum())(net, x)))
    compiled(net, opt, x)
    cell = net.cells()["weight"]
    where = cell.stored().payload.ctypes.data
    compiled(net, opt, x)
    assert cell.stored().payload.ctypes.data == where
