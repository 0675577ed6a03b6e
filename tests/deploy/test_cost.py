"""What a network takes, before anything runs, is what its artefact has."""

from __future__ import annotations

import numpy as np

import shohin as sh
from shohin import nn
from shohin.compress import Palettize, Plan, PruneChannels, Quantize


def test_cost_is_the_artefact_s(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.ReLU(),
        nn.DepthwiseConv2d(8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 36, 4),
    )
    x = np.random.default_rng(0).standard_normal((8, 6, 6, 2)).astype(np.float32)
    macs = {"0": 36 * 8 * 9 * 2, "2": 36 * 8 * 9, "4": 8 * 36 * 4}
    for k, rules in enumerate([[], [("*", Quantize())], [("4", Palettize(bits=2)), ("*", Quantize())]]):
        small = Plan(rules).apply(net, calibration=x)
        found = sh.cost(small, device="cortex-m55")(x)
        art = sh.export(small, x[:1], device="cortex-m55", to=tmp_path / str(k))
        assert (found.flash, found.arena) == (art.flash_bytes, art.arena_bytes)
        assert {p.place: p.macs for p in found.places if p.macs} == macs and found.macs == sum(macs.values())
    assert "4  " in str(found) and f"{found.flash:,} bytes" in str(found)
    half = Plan([("*", PruneChannels(0.5))]).apply(net, calibration=x)
    assert sh.cost(half)(x).macs == 36 * 4 * 9 * 2 + 36 * 4 * 9 + 4 * 36 * 4
