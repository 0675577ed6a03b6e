"""Core AI: float networks near, integers equal, by Apple's own interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: .aimodel files are NOT run")

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.core.errors import DeployError
from shohin.core.tensor import as_tensor
from tests.compress import test_twin
from tests.compress.nets import images, quantized
from tests.compress.whole import Of


class Blocks(nn.Module):
    """Residuals, a concat, depthwise layers, pools, a table, a flattened head."""

    def __init__(self) -> None:
        self.stem, self.norm, self.depth = nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.DepthwiseConv2d(12, 3, padding=1)
        self.point, self.side, self.head = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 6, 3, padding=((0, 2), (2, 0))), nn.Linear(18 * 9, 7)

    def forward(self, x):
        x = nn.relu6(self.norm(self.stem(x)))
        x = x + nn.hardswish(self.point(nn.relu(self.depth(x))))
        x = sh.concat([x, sh.sigmoid(self.side(x))], axis=-1)
        x = sh.max_pool2d(x, 2, stride=2)
        return self.head(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize("case", [pytest.param(c, id=c.__name__, marks=[pytest.mark.slow] if k else []) for k, c in enumerate(test_twin.CASES)])
def test_no_integer_differs_on_adversarial_weights(case, tmp_path: Path) -> None:
    net, rng = quantized(0), np.random.default_rng(0)
    case(net, rng)
    net.train().eval()
    x = images(24, seed=3)
    found = sh.CoreAI(sh.to_coreai(net, x[:1], tmp_path / "net.aimodel"))(x)
    wanted = net(as_tensor(x)).numpy()
    assert (found != wanted).sum() == 0 and found.size == wanted.size > 100


def test_blocks_in_float_and_int8(tmp_path: Path) -> None:
    sh.seed(0)
    rng = np.random.default_rng(0)
    net, x = Blocks(), rng.normal(size=(40, 12, 12, 3)).astype(np.float32)
    net(x)
    net.eval()
    whole = sh.CoreAI(sh.to_coreai(net, x[:1], tmp_path / "float.aimodel"))(x)
    np.testing.assert_allclose(whole, net(as_tensor(x)).numpy(), atol=2e-6)
    small = Plan([("*", Quantize())]).apply(net, x)
    path = sh.to_coreai(small, x[:1], tmp_path / "int8.aimodel")
    wild = np.concatenate([x, rng.normal(size=(8, 12, 12, 3)).astype(np.float32) * 1e3, np.zeros((1, 12, 12, 3), np.float32)])  # clips, and one of zeros
    assert (sh.CoreAI(path)(wild) != small(as_tensor(wild)).numpy()).sum() == 0


def test_halves_round_to_even(tmp_path: Path) -> None:
    x = (np.arange(-6, 7) / 2).astype(np.float32)[None]
    path = sh.to_coreai(Of(lambda net, x: sh.round(x)), x, tmp_path / "round.aimodel")
    assert np.array_equal(sh.CoreAI(path)(x)[0], np.rint(x[0]))


def test_what_has_no_rule_is_named_at_once(tmp_path: Path) -> None:
    x = np.ones((1, 4, 6), np.float32)
    with pytest.raises(DeployError, match=r"no rule for .*\(argmax\).*; write them of others"):
        sh.to_coreai(Of(lambda net, x: x.argmax(axis=-1)), x, tmp_path / "net.aimodel")
    with pytest.raises(DeployError, match="no name that ends in .aimodel"):
        sh.to_coreai(nn.ReLU(), x, tmp_path / "net")
    with pytest.raises(DeployError, match="gives 2 outputs, expected one"):
        sh.to_coreai(Of(lambda net, x: (x, x * 2)), x, tmp_path / "net.aimodel")
