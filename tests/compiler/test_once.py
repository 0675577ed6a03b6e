"""What follows from unwritten cells alone is computed once, and again when one of them has changed, whoever changed it."""

from __future__ import annotations

from typing import Any

import numpy as np

import shohin as sh
from shohin import nn
from shohin.core.nest import Jump


class Net(nn.Module):
    """A convolution with its norm, a product, and a weight of which slices are used."""

    def __init__(self) -> None:
        self.conv, self.norm = nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20)
        self.head = nn.Param(np.random.default_rng(0).standard_normal((24, 20)).astype(np.float32))

    def __call__(self, x: Any) -> Any:
        y = sh.relu(self.norm(self.conv(x)))
        y = sh.reshape(y, (-1, 20))
        return y @ self.head[:12].T + y @ self.head[12:].T


def made() -> tuple[Net, np.ndarray]:
    sh.seed(0)
    return Net().eval(), np.random.default_rng(1).standard_normal((1, 8, 8, 3)).astype(np.float32)


def infer(net: Net, x: np.ndarray) -> np.ndarray:
    return np.asarray(sh.jit(lambda net, x: net(x))(net, x).data)


def test_the_program_computes_once_what_stays() -> None:
    net, x = made()
    f = sh.jit(lambda net, x: net(x))
    program = f.lower(net, x).compiled.program
    kept = {b.name for b in program.buffers if b.role == "kept"}
    assert program.once == len(kept) == 4  # panels, two slices turned, the norm's scale
    assert not any(isinstance(s, Jump) for s in program.steps)
    assert np.allclose(f(net, x).data, net(sh.asarray(x)).data, atol=1e-4)


def test_an_assigned_weight_is_seen() -> None:
    net, x = made()
    f = sh.jit(lambda net, x: net(x))
    f(net, x)
    for name in ("weight", "bias"):
        cell = getattr(net.conv, name)
        setattr(net.conv, name, sh.asarray(np.asarray(cell.data) * 0.5 + 0.25))
        assert np.array_equal(f(net, x).data, infer(net, x))
    net.norm.running_var = sh.asarray(np.full(20, 3.0, np.float32))
    assert np.array_equal(f(net, x).data, infer(net, x))
    net.head = net.head * 2
    assert np.array_equal(f(net, x).data, infer(net, x))


def test_a_program_that_writes_in_place_is_seen_whenever_it_was_made() -> None:
    net, x = made()

    def train(net: Net, x: Any) -> None:
        net.conv.weight = net.conv.weight * 0.9
        net.head = net.head - 0.01

    early, f, late = sh.jit(train), sh.jit(lambda net, x: net(x)), sh.jit(train)
    early(net, x)
    for step in (early, late, early, early, late):
        before = f(net, x).data
        assert np.array_equal(before, infer(net, x))
        step(net, x)
        step(net, x)
        after = f(net, x).data
        assert np.array_equal(after, infer(net, x)) and not np.array_equal(before, after)


def test_two_readers_of_one_cell_are_both_told() -> None:
    net, x = made()
    f, g = sh.jit(lambda net, x: net(x)), sh.jit(lambda net, x: net(x) + 0)

    def train(net: Net) -> None:
        net.conv.weight = net.conv.weight * 0.5

    step = sh.jit(train)
    f(net, x), g(net, x)
    step(net)
    first = f(net, x).data
    step(net)
    want = infer(net, x)
    assert np.array_equal(g(net, x).data, want) and np.array_equal(f(net, x).data, want) and not np.array_equal(first, want)


def test_a_loop_beside_what_stays() -> None:
    """Jumps go where they went when steps before them, and in their bodies, are taken out."""
    net, x = made()

    def f(net: Net, x: Any) -> Any:
        def turn(total: Any, row: Any) -> tuple[Any, Any]:
            return total + sh.reshape(row, (1, 20)) @ net.head.T, row
        return sh.scan(turn, sh.zeros((1, 24)), sh.reshape(sh.relu(net.norm(net.conv(x))), (-1, 20)))[0]

    compiled = sh.jit(f)
    for _ in range(3):
        rows = np.maximum(np.asarray(net.norm(net.conv(sh.asarray(x))).data), 0).reshape(-1, 20)
        assert np.allclose(compiled(net, x).data, rows.sum(0) @ np.asarray(net.head.data).T, atol=1e-2)
        net.head = net.head * 1.5
    program = compiled.lower(net, x).compiled.program
    assert program.once and any(isinstance(s, Jump) for s in program.steps)
