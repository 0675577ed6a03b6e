"""Networks and the encoder layer equal PyTorch's with the same weights: outputs, gradients, running statistics, both modes.

In float64 to rounding, which is the check of the formulas. In float32 ours may be no further from float64 than a few times what
PyTorch's own float32 is (and gradients by what one ReLU that flips makes). PyTorch comes from this interpreter or from the benchmarks' (``make bench`` sets it up)."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.nn.models import DSCNN, KeywordTransformer, MobileNetV2, MobileNetV3Small, ResNet8, ResNet20

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "ds-cnn": (lambda: DSCNN(1, 12, kernel_size=(10, 4), padding=(5, 1)), (4, 49, 10, 1), 12),
    "resnet8": (lambda: ResNet8(3, 10), (4, 16, 16, 3), 10),
    "transformer": (KeywordTransformer, (2, 128, 40), 35),
    "layer": (lambda: Wrapped(False), (2, 5, 8), 0),
    "layer norm first": (lambda: Wrapped(True), (2, 5, 8), 0),
    "resnet20": (lambda: ResNet20(3, 10), (4, 16, 16, 3), 10),
    "mobilenetv2-0.35": (lambda: MobileNetV2(3, 10, 0.35, p=0.0), (4, 64, 64, 3), 10),
    "mobilenetv3-small": (lambda: MobileNetV3Small(3, 1000, p=0.0), (4, 64, 64, 3), 1000),
}
SLOW = ("resnet8", "transformer", "resnet20", "mobilenetv2-0.35", "mobilenetv3-small")
each_case = pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES])


class Wrapped(nn.Module):
    def __init__(self, norm_first):
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", norm_first=norm_first)

    def forward(self, x):
        return self.layer(x)


def interpreter():
    if importlib.util.find_spec("torch"):
        return sys.executable
    peers = ROOT / ".venv-peers" / "bin" / "python"
    if peers.exists() and subprocess.run([str(peers), "-c", "import torch"], capture_output=True).returncode == 0:
        return str(peers)
    pytest.skip("PyTorch is neither here nor in .venv-peers, so nothing is compared with it: pip install torch, or make bench")


def made(case):
    build, shape, classes = CASES[case]
    sh.seed(3)
    net = build()
    rng = np.random.default_rng(4)
    for c in net.cells(nn.Param).values():  # biases and norms away from their zeros and ones
        if c.read().ndim == 1:
            c.write(c.read() + rng.uniform(-0.2, 0.2, c.read().shape).astype(np.float32))
    return net, rng.standard_normal(shape).astype(np.float32), rng.integers(0, max(classes, 1), shape[0])


@pytest.fixture(scope="module")
def reference(request, tmp_path_factory):
    """All answers of PyTorch, for the cases that this session has chosen."""
    python, folder = interpreter(), tmp_path_factory.mktemp("torch")
    chosen = {item.callspec.params["case"] for item in request.session.items if item.module is request.module}
    asked = {}
    for case in chosen:
        net, x, y = made(case)
        asked |= {f"{case}|w|{k}": np.asarray(c.read().data) for k, c in net.cells().items()}
        asked |= {f"{case}|x": x, f"{case}|y": y}
    np.savez(folder / "request.npz", **asked)
    command = [python, str(Path(__file__).with_name("torch_reference.py")), str(folder / "request.npz"), str(folder / "answer.npz"), str(ROOT / "bench")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(folder / "answer.npz")


def loss_fn(net, x, y):
    out = net(x)
    return (nn.cross_entropy(out, y) if out.ndim == 2 else (out * out).mean()), out


def answers(case, dtype):
    """What PyTorch's side answers, ours: compiled."""
    net, x, y = made(case)
    for m in net.modules().values():
        for k, v in list(m._entries()):
            if isinstance(v, nn.Param | nn.Buffer):
                setattr(m, k, type(v)(v.read().astype(dtype)))
    x = x.astype(np.dtype(str(dtype)))

    def step(net, x, y):
        (loss, out), grads = sh.value_and_grad(loss_fn, aux=True)(net, x, y)
        return loss, out, grads

    loss, out, grads = sh.jit(step)(net, x, y)
    found = {"loss": loss, "output": out}
    found |= {f"state|{k}": b.read() for k, b in net.cells(nn.Buffer).items()}
    found |= {f"grad|{k}": grads[k] for k in net.cells(nn.Param)}
    net.eval()
    found["eval"] = sh.jit(lambda net, x: net(x))(net, x)
    return {k: np.asarray(v.data) for k, v in found.items()}


def distances(case, found, reference):
    """Of whole arrays from float64's, relative; gradients relative to the largest, since some are zero but for rounding (a bias
    that the next batch norm takes away)."""
    exact = {k: reference[f"{case}|float64|{k}"] for k in found}
    size = {k: np.linalg.norm(e) for k, e in exact.items()}
    largest = max(n for k, n in size.items() if k.startswith("grad"))
    floor = lambda k: 1e-2 * largest if k.startswith("grad") else 1e-30
    return {k: float(np.linalg.norm(v.astype(np.float64).reshape(exact[k].shape) - exact[k]) / max(size[k], floor(k))) for k, v in found.items()}


@each_case
def test_float64_to_rounding(case, reference):
    mine = answers(case, sh.float64)
    assert {k.split("|", 2)[2] for k in reference.files if k.startswith(f"{case}|float64|")} == set(mine)
    worst = distances(case, mine, reference)
    limit = 5e-8 if case == "mobilenetv3-small" else 1e-8  # PyTorch's hardsigmoid has 1/6 of float32 in its gradient
    assert max(worst.values()) < limit, sorted(worst.items(), key=lambda kv: -kv[1])[:5]


@each_case
def test_float32_no_further_than_pytorch(case, reference):
    ours = distances(case, answers(case, sh.float32), reference)
    theirs = distances(case, {k: reference[f"{case}|float32|{k}"] for k in ours}, reference)
    flips = lambda k: 2e-3 if k.startswith("grad") else 0  # a ReLU whose input is all but zero may fall to the other side
    far = {k: (d, theirs[k]) for k, d in ours.items() if d > 4 * theirs[k] + 1e-6 + flips(k)}
    assert not far, far
