"""How much a network suffers where one place is compressed: of its outputs on calibration data, or of its weights alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shohin.compress import freeze, sequential
from shohin.compress.calibration import batches
from shohin.compress.gradients import gradients
from shohin.compress.quantized import Quantized
from shohin.compress.steps import Contract
from shohin.compress.walk import module_of
from shohin.core import trees
from shohin.core.cells import Param
from shohin.core.errors import PlanError
from shohin.core.module import Module, mode
from shohin.core.op import Aval
from shohin.core.tensor import as_tensor

Array = np.ndarray[Any, Any]
Loss = Callable[[Quantized], float]
"""What a compressed network loses against the network that it was."""


def kl(net: Module, calibration: Any) -> Loss:
    """sum_k p_k log(p_k / q_k) in nats, mean of the examples: p, q the distributions of ``net`` and of the compressed network. Rows that
    are no distribution are taken for logits.

    Raises:
        PlanError: the output is not (examples, classes).
    """
    wanted = _outputs(net, calibration)
    if len(wanted) != 1 or wanted[0].ndim != 2 or wanted[0].shape[1] < 2:
        shapes = ", ".join(str(("n", *y.shape[1:])) for y in wanted)
        raise PlanError(f"mixed: by='kl' compares distributions, the output is {shapes}, expected (examples, classes); write by='noise'")
    p = _log(wanted[0])
    return lambda small: float((np.exp(p) * (p - _log(_outputs(small, calibration)[0]))).sum(1).mean())


def noise(net: Module, calibration: Any) -> Loss:
    """sum (y - y')^2 / sum y^2, the reciprocal of the signal to noise ratio of the output; mean of several outputs."""
    wanted = _outputs(net, calibration)
    power = [max(float(np.square(y).sum()), 1e-30) for y in wanted]

    def loss(small: Quantized) -> float:
        found = _outputs(small, calibration)
        return float(np.mean([np.square(y - z).sum() / w for y, z, w in zip(wanted, found, power, strict=True)]))

    return loss


def fisher(net: Module, calibration: Any) -> Loss:
    """sum over the layers of mean g^2 times sum (w' - w)^2: twice the loss to second order where the Hessian is the mean squared
    gradient of a layer's weights, alike for all of them. Nothing is evaluated after the gradients: cheap, and blind to what methods
    make of a layer's output (AdaRound's weights are further off than the nearest).

    Source: Dong et al. 2020 (HAWQ-V2, arXiv:1911.03852), section 3.1, whose mean trace of the Hessian is here the diagonal Fisher
    information, from gradients of batches of 64 rather than of single examples, which scales all places alike.
    """
    total: dict[str, float] = {}
    for found in gradients(net, calibration, "mixed(by='fisher')"):
        for path, g in found.items():
            total[path] = total.get(path, 0.0) + float(np.square(g).mean())
    weights = {path for path, cell in net.cells(Param).items() if len(cell.shape) > 1}
    gain: dict[str, float] = {}
    for path in weights & total.keys():
        place = path.rpartition(".")[0]
        gain[place] = max(gain.get(place, 0.0), total[path])
    whole = Quantized(net, [Aval(x.shape, x.dtype) for x in next(batches(calibration))])
    made = sequential.parameters(whole)
    before = {step.place: freeze.parts(step, made)[0] for step in contractions(whole)}

    def loss(small: Quantized) -> float:
        found = 0.0
        for step in contractions(small):
            c = sequential.constants(small, step)
            w = c.q_w * c.s_w.reshape(-1, *(1,) * (c.q_w.ndim - 1))
            found += gain.get(module_of(step.place), 0.0) * float(np.square(w - before[step.place]).sum())
        return found

    return loss


LOSSES: dict[str, Callable[[Module, Any], Loss]] = {"kl": kl, "noise": noise, "fisher": fisher}


def contractions(net: Quantized) -> list[Contract]:
    """The steps with a weight of the network's own."""
    return [s for s in net._latest().steps if isinstance(s, Contract) and s.op is not None and s.weight is not None]


def _outputs(net: Module, calibration: Any) -> list[Array]:
    with mode(net, training=False):
        found = [[as_tensor(t).numpy() for t in trees.flatten(net(*map(as_tensor, xs)))[0]] for xs in batches(calibration)]
    return [np.concatenate(parts).astype(np.float64) for parts in zip(*found, strict=True)]


def _log(y: Array) -> Array:
    if (y >= 0).all() and np.allclose(y.sum(1), 1, atol=0.05):  # a row of int8 probabilities need not sum to 1
        y = np.log(np.maximum(y, 1e-4))
    y = y - y.max(1, keepdims=True)
    return y - np.log(np.exp(y).sum(1, keepdims=True))


__all__ = ["LOSSES", "Loss", "contractions", "fisher", "kl", "noise"]
