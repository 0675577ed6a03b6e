"""What is said of a network that guesses, and of one that fits and answers badly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import shohin as sh
from shohin import nn
from shohin.deploy.measure import Number
from shohin.shipping.doubts import losses


def test_a_network_that_guesses_is_told_so_and_one_that_knows_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 200)
    x = (np.eye(4)[y] * 3 + rng.normal(size=(200, 4)) * 0.3).astype(np.float32)
    net = nn.Linear(4, 4)
    net.weight, net.bias = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    right = sh.ship(net, sh.data.Dataset(x, y), device="host", to=tmp_path / "a", progress=False)
    assert right.doubts == () and right.candidates[0].accuracy is not None and right.candidates[0].accuracy.value > 0.95
    wrong = sh.ship(net, sh.data.Dataset(x[:, ::-1].copy(), y), device="host", to=tmp_path / "b", progress=False)
    assert len(wrong.doubts) == 1 and "always the most frequent label would be" in wrong.doubts[0] and "--mean" in wrong.doubts[0]
    assert wrong.to_json()["doubts"] == list(wrong.doubts)

    whole, best = right.candidates
    bad = replace(best, accuracy=Number(0.4, "measured"))
    assert "--finetune 3" in losses(whole, bad, trainable=True)[0] and losses(whole, best, trainable=True) == []
    unlabelled = replace(bad, accuracy=None, agreement=Number(0.8, "measured"))
    assert losses(replace(whole, accuracy=None), unlabelled, trainable=False) == [
        "int8 fits, and loses 20.0 points of agreement with float32; with labels it can be trained (--finetune)"
    ]
