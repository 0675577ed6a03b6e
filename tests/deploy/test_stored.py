"""A network comes back from its file without its class: the same bits, the same artefact, for any number of examples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, Prune, Quantize, integers
from shohin.core.errors import CheckpointError, IRError, PlanError, ShapeError, StateError
from shohin.deploy.stored import for_examples
from shohin.train import container
from tests.compress.nets import images, quantized, trained


def test_a_float_network_runs_without_its_class(tmp_path):
    net = trained()
    sh.save(net, tmp_path / "net.safetensors", example=images(1))
    other = sh.load(tmp_path / "net.safetensors")
    net.eval()
    for n in (1, 2, 5, 17):
        x = images(n, n)
        np.testing.assert_array_equal(other(x).numpy(), net(x).numpy())
    assert set(other.cells()) == set(net.cells()) and not other.training
    np.testing.assert_array_equal(sh.jit(lambda net, x: net(x))(other, images(3)).numpy(), sh.jit(lambda net, x: net(x))(net, images(3)).numpy())


def test_a_quantized_network_is_one_again(tmp_path):
    net, x = quantized(), images(6)
    sh.save(net, tmp_path / "net.safetensors")
    other = sh.load(tmp_path / "net.safetensors")
    mine, found, reference = net.integers(x), other.integers(x), integers(other, x)
    assert mine.keys() == found.keys() and all(np.array_equal(mine[k], found[k]) and np.array_equal(mine[k], reference[k]) for k in mine)
    assert other.report() == net.report() and "widened" not in other.report()
    art, again = (sh.export(m, x[:1], device="host", to=tmp_path / name) for m, name in ((net, "a"), (other, "b")))
    assert sh.compare(other, art, x).differing == sh.compare(net, again, x).differing == 0
    assert art.flash_bytes == again.flash_bytes
    sh.save(other, tmp_path / "twice.safetensors")  # and once more
    once = sh.load(tmp_path / "twice.safetensors").integers(x)
    assert all(np.array_equal(mine[k], once[k]) for k in mine)


def test_masks_palettes_and_few_bits_come_back(tmp_path):
    sh.seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(16, 4))
    rules = [("*", Quantize(w=4)), ("2", Palettize(bits=2)), ("2", Prune(0.5)), ("5", None)]
    x = images(8)
    small = Plan(rules).apply(net, calibration=x)
    small.train()
    small.cells()["0.weight"].write(small.cells()["0.weight"].read() * 1.5)  # save freezes what has changed
    sh.save(small, tmp_path / "net.safetensors")
    other = sh.load(tmp_path / "net.safetensors")
    small.eval()
    assert all(np.array_equal(a, b) for a, b in zip(small.integers(x).values(), other.integers(x).values(), strict=True))
    np.testing.assert_array_equal(small(x).numpy(), other(x).numpy())
    assert other.report() == small.report()


def test_a_packed_artefact_stays_packed(tmp_path):
    sh.seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.GlobalAvgPool(), nn.Linear(32, 4))
    x = images(8)
    small = Plan([("*", Quantize()), ("2", Palettize(bits=2))]).apply(net, calibration=x).eval()
    sh.save(small, tmp_path / "net.safetensors")
    sizes = [sh.export(m, x[:1], device="host", to=tmp_path / "art").flash_bytes for m in (small, sh.load(tmp_path / "net.safetensors"))]
    assert sizes[0] == sizes[1]


def test_another_process_needs_no_class(tmp_path):
    net, x = quantized(), images(4)
    sh.save(net, tmp_path / "net.safetensors")
    np.save(tmp_path / "x.npy", x)
    code = "import numpy as np, shohin as sh; net = sh.load('net.safetensors'); np.save('y.npy', net(np.load('x.npy')).numpy())"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), net(x).numpy())


def test_structures_and_values_of_their_own(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            self.body = [nn.Linear(3, 4), {"a": nn.Linear(4, 2)}]

        def forward(self, x, y):
            h = nn.relu(self.body[0](x)) + y
            return {"out": (self.body[1]["a"](h), None), "h": [h]}

    net, x, y = Two(), np.ones((2, 3), np.float32), np.full((2, 4), 2, np.float32)
    sh.save(net, tmp_path / "two.safetensors", example=(x, y))
    other = sh.load(tmp_path / "two.safetensors")
    a, b = net.eval()(x, y), other(x, y)
    np.testing.assert_array_equal(a["out"][0].numpy(), b["out"][0].numpy())
    assert b["out"][1] is None and isinstance(b["out"], tuple) and isinstance(b["h"], list)
    with pytest.raises(ShapeError, match=r"takes \(n, 3\), \(n, 4\), got \(2, 5\), \(2, 4\)"):
        other(np.ones((2, 5), np.float32), y)
    with pytest.raises(StateError, match="no trainable parameter"):
        sh.optim.sgd(0.1).init(other)


def test_what_a_file_does_not_hold_says_why(tmp_path):
    path = tmp_path / "net.safetensors"
    sh.save(nn.Linear(3, 4), path)
    with pytest.raises(CheckpointError, match=r"holds values, not the network; write load\(path, into=net\), or save\(net, path, example=x\)"):
        sh.load(path)

    class Odd(nn.Module):
        def forward(self, x):
            return x * (1.0 / x.shape[0])

    sh.save(Odd(), path, example=np.ones((1, 3), np.float32))
    with pytest.raises(CheckpointError, match="holds no graph: IRError: .*examples"):
        sh.load(path)
    sh.save(nn.Linear(3, 4), path, example=np.ones((1, 3), np.float32))
    arrays, metadata = container.read(path)
    program = json.loads(metadata["program"])
    program["graphs"][0] = program["graphs"][0].replace("matmul", "matmool")
    container.write(path, arrays, {**metadata, "program": json.dumps(program)})
    with pytest.raises(CheckpointError, match="is corrupt: its graph cannot be read"):
        sh.load(path)
    with pytest.raises(PlanError, match="already quantized"):
        sh.save(quantized(), path)
        Plan([("*", Quantize())]).apply(sh.load(path), calibration=images(2))


def test_a_loaded_float_network_quantizes_like_the_original(tmp_path):
    net, x = trained(), images(16)
    sh.save(net, tmp_path / "net.safetensors", example=x)
    plan = Plan([("*", Quantize())])
    a, b = (plan.apply(m, calibration=x).eval().integers(x) for m in (net, sh.load(tmp_path / "net.safetensors")))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_programs_that_differ_in_more_than_the_number_are_refused():
    two, three, four = (sh.trace(lambda x: sh.sum(x * x, axis=0))(np.ones((n, 3), np.float32)).graph for n in (2, 3, 4))
    assert str(for_examples(two, three, 4)) == str(four)
    other = sh.trace(lambda x: sh.sum(x + x, axis=0))(np.ones((3, 3), np.float32)).graph
    with pytest.raises(IRError, match="have other ops"):
        for_examples(two, other, 4)


def test_a_loaded_network_takes_methods(tmp_path):
    """What a method makes of a weight is what the saved graph reads."""
    net, x = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)), np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    sh.save(net, tmp_path / "net.safetensors", example=x)
    for rules in ([("*", Palettize(bits=2))], [("*", Prune(0.5))], [("*", Palettize(bits=2, group=1)), ("*", Quantize())]):
        loaded, own = (Plan(rules).apply(n, calibration=x).eval()(x).numpy() for n in (sh.load(tmp_path / "net.safetensors"), net))
        np.testing.assert_allclose(loaded, own, rtol=1e-5, atol=1e-6)
