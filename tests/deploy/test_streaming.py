"""Networks that remember: step by step they give the integers of the whole sequence, in C here, on the M55 and in WebAssembly;
functions before and after a network inside its C; what is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize, Quantized, integers
from shohin.core.errors import DeployError
from shohin.core.module import Module
from shohin.core.tensor import as_tensor
from shohin.core.trace import stage
from shohin.deploy.artefact import Artefact
from shohin.deploy.timeline import timeline
from shohin.ops.control import run_numpy
from shohin.targets import get_target
from shohin.transforms.streaming import stepwise
from tests.compress.whole import Of, filled, quantized
from tests.targets.emulator import require_emulator
from tests.targets.test_wasm32 import has_node

LENGTH, FEATURES = 24, 10


class Keywords(Module):
    """A small causal network for spoken words: dilated depthwise blocks with residuals, a causal pooling, a GRU, the last frame's logits or all."""

    def __init__(self, every: bool) -> None:
        self.every, self.stem = every, nn.Conv1d(FEATURES, 16, 3, padding=(2, 0))
        self.norm, self.depth, self.point = nn.BatchNorm1d(16), nn.Conv1d(16, 16, 3, padding=(4, 0), dilation=2, groups=16), nn.Conv1d(16, 16, 1)
        self.cell, self.head = nn.GRU(16, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = nn.relu(self.norm(self.stem(x)))
        x = x + nn.relu(self.point(self.depth(x)))
        x = sh.max_pool2d(x[:, :, None, :], (2, 1), stride=1, padding=((1, 0), (0, 0)))[:, :, 0, :]
        y, _ = self.cell(x)
        return self.head(y if self.every else y[:, -1])


def keywords(every: bool) -> tuple[Quantized, np.ndarray]:
    sh.seed(0)
    x = np.random.default_rng(0).normal(size=(6, LENGTH, FEATURES)).astype(np.float32)
    net = Keywords(every)
    net(x)  # statistics of a batch
    return Plan([("*", Quantize())]).apply(net.eval(), x), x


def at_once(small: Quantized, x: np.ndarray) -> np.ndarray:
    """The integers of the whole sequence, by the reference."""
    return list(integers(small, x).values())[-1]


def on_device(art: Artefact, x: np.ndarray, to: Path) -> np.ndarray:
    target = get_target(art.device)
    return target.strategy.run(target.strategy.build(target, art.folder, to), art.entries(x, art.library), 120).outputs


@pytest.mark.parametrize("frames", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_step_by_step_is_the_sequence_integer_for_integer(frames: int, tmp_path: Path) -> None:
    require_emulator()
    small, x = keywords(every=True)
    art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path, stream=frames)
    assert art.inputs[0].shape == (frames, FEATURES) and art.remembers and art.source.state_bytes > 0
    live, other = art.stream(), art.stream()
    wanted = at_once(small, x[:2])
    for t in range(0, LENGTH, frames):  # two sequences side by side
        for row, stream in enumerate((live, other)):
            assert (stream.integers(x[row, t : t + frames]) == wanted[row, t : t + frames]).all()
    live.reset()
    assert np.array_equal(live.step(x[1, :frames]), small(as_tensor(x[1:2])).numpy()[0, :frames])
    steps = x[0].reshape(-1, frames, FEATURES)
    assert (art.run(steps).reshape(LENGTH, 5) == wanted[0]).all() and (art.run(steps).reshape(LENGTH, 5) == wanted[0]).all()  # each from the start
    assert (on_device(art, steps, tmp_path / "board").reshape(LENGTH, 5) == wanted[0]).all()
    assert len(timeline(art, steps)) == len(art.kernels)
    art.library.run_painted(art.entries(steps, art.library))  # nothing is read that was not written


def test_in_webassembly_too_and_one_output_a_sequence(tmp_path: Path) -> None:
    has_node()
    small, x = keywords(every=False)
    art = sh.export(small, x[:1], device="wasm32", to=tmp_path, stream=2)
    found = on_device(art, x[0].reshape(-1, 2, FEATURES), tmp_path / "node")
    assert (found[-1] == at_once(small, x[:1])[0]).all() and (found == art.run(x[0].reshape(-1, 2, FEATURES))).all()
    assert "reset: () => net.reset" in (tmp_path / "network.mjs").read_text()


def test_a_float_network_streams_and_a_recurrent_layer_of_two_states(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 12, 4)).astype(np.float32)
    net = filled(Of(lambda net, x: net.h(net.c(x)[0]), c=nn.LSTM(4, 6, num_layers=2), h=nn.Linear(6, 2)), rng, 0.5).eval()
    live = sh.export(net, x, device="host", to=tmp_path / "float", stream=1).stream()
    np.testing.assert_allclose(np.concatenate([live.step(x[0, t : t + 1]) for t in range(12)]), net(as_tensor(x)).numpy()[0], atol=1e-5)
    small = quantized(net, x)
    art = sh.export(small, x, device="host", to=tmp_path / "int8", stream=4)
    assert (art.run(x[0].reshape(3, 4, 4)).reshape(12, 2) == at_once(small, x)[0]).all()


def test_states_that_are_named(tmp_path: Path) -> None:
    """A network that takes and gives its state itself; zeros are its start."""
    rng = np.random.default_rng(2)
    net = filled(Of(lambda net, x, h: (lambda y, h: (net.head(y[:, -1]), h))(*net.cell(x, h)), cell=nn.GRU(6, 8), head=nn.Linear(8, 3)), rng, 0.4)
    x, h = rng.normal(size=(4, 20, 6)).astype(np.float32), np.zeros((1, 4, 8), np.float32)
    small = quantized(net, x[:1], h[:, :1])
    art = sh.export(small, (x[:1, :1], h[:, :1]), device="host", to=tmp_path, state={"x1": "y1"})
    assert [b.name for b in (*art.inputs, *art.outputs)] == ["x", "y"] and not art.packed
    wanted = [q for q in integers(small, x[:1], h[:, :1]).values() if q.dtype == np.int8 and q.shape == (1, 3)][-1]
    assert (art.run(x[0][:, None])[-1] == wanted[0]).all()
    for state, said in (({"x2": "y1"}, "'x2', expected each once of x0, x1"), ({"x0": "y0"}, "both must be one"), ({"x0": "y0", "x1": "y1"}, "every input is a state")):
        with pytest.raises(DeployError, match=said):
            sh.export(small, (x[:1, :1], h[:, :1]), device="host", to=tmp_path, state=state)


@pytest.mark.parametrize(("what", "net", "said"), [
    ("looks ahead", lambda net, x: net.same(x), "the results of elements . to . differ"),
    ("over all of time", lambda net, x: net.causal(x).mean(axis=1), "the results of elements|differ"),
    ("reversed", lambda net, x: net.back(net.causal(x))[0], "differ from those of the sequence at once"),
    ("strides", lambda net, x: net.strided(x), "strides do not divide the step"),
    ("no state", lambda net, x: nn.relu(x), "the network has no state"),
])  # fmt: skip
def test_what_is_no_stream_is_refused(what: str, net, said: str, tmp_path: Path) -> None:
    layers = {"same": nn.Conv1d(3, 3, 3, padding=(2, 1)), "causal": nn.Conv1d(3, 3, 3, padding=(2, 0)), "back": nn.GRU(3, 2, bidirectional=True),
              "strided": nn.Conv1d(3, 3, 2, stride=2, padding=(1, 0))}  # fmt: skip
    if what == "looks ahead":
        net = lambda net, x: net.causal(net.same(x)[:, : x.shape[1]])
    with pytest.raises(DeployError, match=said):
        sh.export(Of(net, **layers).eval(), np.zeros((1, 8, 3), np.float32), device="host", to=tmp_path, stream=1)


def test_states_of_windows_begin_with_what_they_find_outside() -> None:
    """The zero point of integers, the least integer of a maximum, the value of a padding."""
    x = np.arange(12, dtype=np.int8).reshape(1, 6, 1, 2)
    pads = lambda x: [sh.pad(x, ((0, 0), (2, 0), (0, 0), (0, 0)), value=3)[:, :-2], sh.max_pool2d(x, (3, 1), stride=1, padding=((2, 0), (0, 0)))]
    whole, step = (stage(pads, [as_tensor(x[:, :n]).aval]).graph for n in (6, 2))
    made = stepwise(step)
    assert [set(a.reshape(-1).tolist()) for a in made.first] == [{3}, {-128}]
    states, found = list(made.first), []
    for t in (0, 2, 4):
        *now, a, b = run_numpy(made.graph, [x[:, t : t + 2], *states])
        states, found = [a, b], [*found, now]
    for one, parts in zip(run_numpy(whole, [x]), zip(*found, strict=True), strict=True):
        assert (np.concatenate(parts, 1) == one).all()


@pytest.mark.slow
def test_the_c_class_and_the_example_remember(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the C++ class is NOT built")
    small, x = keywords(every=False)
    art = sh.export(small, x[:1], device="host", to=tmp_path, stream=2)
    rows = art.entries(x[0].reshape(-1, 2, FEATURES), art.library)
    (tmp_path / "main.cpp").write_text(f"""
#include <cstdio>
#include "network.hpp"
static const signed char rows[{len(rows)}][{rows.shape[1]}] = {{{", ".join("{" + ", ".join(map(str, r)) + "}" for r in rows.tolist())}}};
int main() {{
  static shohin::network net;
  for (int turn = 0; turn < 2; ++turn) {{
    net.reset();
    shohin::network::output out{{}};
    for (const auto &row : rows) {{
      shohin::network::input in{{}};
      for (unsigned i = 0; i < in.size(); ++i) in[i] = row[i];
      if (!net.run(in, out)) return 1;
    }}
    for (int v : out) std::printf("%d ", v);
  }}
}}
""")
    strict = ["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(["gcc", "-std=c11", *strict, "-c", "network.c"], cwd=tmp_path, check=True)
    subprocess.run(["g++", "-std=c++17", *strict, "main.cpp", "network.o", "-lm", "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    assert list(map(int, said)) == [*art.run(x[0].reshape(-1, 2, FEATURES))[-1].tolist()] * 2
    subprocess.run(["gcc", "-std=c11", *strict, "example.c", "network.c", "-lm", "-o", "example"], cwd=tmp_path, check=True)
    assert subprocess.run(["./example"], cwd=tmp_path, capture_output=True).returncode == 0


# ------------------------------------------------------------------------------------------ before and after


@pytest.mark.parametrize("device", ["host", "cortex-m55"])
def test_bytes_of_an_image_in_a_class_out(device: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (12, 14, 14, 1)).astype(np.uint8)
    real = lambda image: (image.astype(sh.float32) / 255.0 - 0.286) / 0.353
    pre = lambda image: nn.resize_bilinear(real(image), (7, 7))
    sh.seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 4)).eval()
    x = pre(as_tensor(images)).numpy()
    small = Plan([("*", Quantize())]).apply(net, x)
    art = sh.export(small, images[:1], device=device, to=tmp_path, pre=pre, post=lambda y: y.argmax(axis=-1))
    assert (art.inputs[0].dtype, art.inputs[0].shape, art.outputs[0].dtype) == ("uint8", (14, 14, 1), "int32")
    wanted = small(as_tensor(x)).numpy().argmax(-1)
    assert (art.run(images).reshape(-1) == wanted).all() and len(set(wanted.tolist())) > 1
    if device != "host":
        require_emulator()
        assert (on_device(art, images, tmp_path / "board").view(np.int32)[:, 0] == wanted).all()


def test_only_before_or_only_after(tmp_path: Path) -> None:
    sh.seed(0)
    net, x = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).eval(), np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    small = Plan([("*", Quantize())]).apply(net, x)
    after = sh.export(small, x[:1], device="host", to=tmp_path / "a", post=nn.softmax)
    assert after.inputs[0].dtype == "int8" and after.outputs[0].dtype == "float32"
    np.testing.assert_allclose(after.run(x), nn.softmax(small(as_tensor(x))).numpy(), rtol=1e-5)
    before = sh.export(small, x[:1], device="host", to=tmp_path / "b", pre=lambda x: x * 2.0)
    assert before.inputs[0].dtype == "float32" and before.outputs[0].dtype == "int8"
    assert np.array_equal(before(x), small(as_tensor(x * 2)).numpy())
