"""What ``Quantize`` does after the observers have seen the calibration set: ranges, steps of weights, then layer after layer
rounding and bias, then the Params of learned steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compress import adaround, correct, freeze, learned, ranges, sequential
from shohin.compress.calibration import batches
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Contract
from shohin.compress.walk import module_of
from shohin.core.cells import Buffer
from shohin.core.tensor import as_tensor

Rules = Mapping[str, Any]
"""``Quantize`` by module path."""


def refine(net: Quantized, rules: Rules, calibration: Any) -> None:
    """From observed ranges to a frozen network, in evaluation mode."""
    _narrow(net, rules, calibration)
    net.settle()
    program, params = net._latest(), sequential.parameters(net)
    state = net.quantized
    for step in program.steps:
        if not isinstance(step, Contract) or step.op is None or step.weight is None or step.given is not None:
            continue
        rule = rules[module_of(step.place)]
        w = freeze.parts(step, params)[0]
        if rule.calibrate == "mse":
            state.step[step.place] = Buffer(ranges.weight_steps(w, step.bits))
        elif rule.learn:
            state.step[step.place] = Buffer(learned.start(w, step.bits))
    _layers(net, rules, calibration)
    net.learn()
    net.freeze()


def _narrow(net: Quantized, rules: Rules, calibration: Any) -> None:
    """Ranges other than all that occurred, for the grids whose rule says so; an input's is that of the network."""
    state, of = net.quantized, {}
    for grid in state.low:
        place = grid.partition("/")
        rule = rules.get(place[0] if place[1] else "")
        if rule is not None and rule.calibrate != "minmax" and grid not in state.powers:
            of[grid] = rule
    if not of:
        return
    found = {g: ranges.Histogram.empty(state.low[g].item(), state.high[g].item()) for g in of}
    for xs in batches(calibration):
        for grid, value in net.seen(*xs).items():
            if grid in found:
                found[grid].add(value.numpy())
    for grid, rule in of.items():
        low, high = ranges.CHOICES[rule.calibrate](found[grid], rule.percentile, state.bits.get(grid, 8))
        state.low[grid], state.high[grid] = (as_tensor(np.float32(v)) for v in (low, high))


def _layers(net: Quantized, rules: Rules, calibration: Any) -> None:
    """AdaRound and bias correction, where the rules want them."""
    if not any(r.correct or r.rounding == "adaround" for r in rules.values()):
        return
    state = net.quantized
    for layer in sequential.layers(net, calibration):
        step = layer.step
        rule = rules[module_of(step.place)]
        c = sequential.constants(net, step)
        q = c.q_w
        wide = c.s_w.reshape(-1, *(1,) * (q.ndim - 1))
        if rule.rounding == "adaround" and step.op is not None and step.weight is not None:
            q = adaround.choose(layer, c.s_w, step.bits, rule.steps, rule.correct)
            sequential.write(net, step, q.astype(np.float32) * wide, "adaround")
            state.step[step.place] = Buffer(c.s_w)
        if rule.correct:
            state.shift[step.place] = Buffer(correct.shift(layer, q.astype(np.float32) * wide))
