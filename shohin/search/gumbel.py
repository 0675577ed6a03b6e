"""Search by gradient: the choices of one network are probabilities, trained with what they cost on the device in the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler.jit import Jit, jit
from shohin.core.cells import Buffer, Param
from shohin.core.errors import NonFiniteError, StateError
from shohin.core.module import Module, mode
from shohin.core.tensor import Tensor, as_tensor
from shohin.data.dataset import Dataset
from shohin.nn import relu, softmax
from shohin.ops import math, random, reduce
from shohin.optim import adamw
from shohin.optim.optimizer import Optimizer
from shohin.search.expected import Prices
from shohin.search.relaxed import Space, relaxed
from shohin.search.shared import EXAMPLES, Inherited, Shared
from shohin.search.strategies import Inherit, Setting, Strategy, Tried
from shohin.train import Task, container, digest
from shohin.train.checkpoint import Position, load_run, read_position, save_run
from shohin.transforms.grad import value_and_grad


@dataclass(frozen=True, kw_only=True)
class Learned(Strategy):
    """Draws choices by probabilities that were learned; the first trial takes the most likely ones.

    >>> Learned(probabilities={"op": (0.2, 0.8)}).propose([], np.random.default_rng(0))
    {'op': 1}
    """

    probabilities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def propose(self, tried: Sequence[Tried], rng: np.random.Generator) -> Mapping[str, int]:
        if not tried:
            return {name: int(np.argmax(p)) for name, p in self.probabilities.items()}
        return {name: int(rng.choice(len(p), p=np.asarray(p) / np.sum(p))) for name, p in self.probabilities.items()}


@dataclass(frozen=True, kw_only=True)
class Gumbel(Strategy):
    """Trains a network in which choices are mixtures, and the mixtures with it; trials are drawn by what was learned, and start with its weights.

    The options of a choice are weighed by g = softmax((theta + G) / tau), G of the Gumbel distribution: a ``choice`` is the sum of its
    options' results, a ``repeat`` passes by a block with the weight of the counts before it, a width or window weighs the channels and taps
    that an option has. Weights learn on ``share`` of the data. From epoch ``warmup`` on theta learns on the rest, from
    loss + strength x sum over limits of e + e^2, e = max(0, E[cost] / limit - 1): E[cost] is expected under softmax(theta), of prices of
    options where all others are the most likely ones (``expected.py``), asked anew before each epoch. tau falls from ``hot`` to ``cold``.
    What Python alone sees cannot be weighed: a ``pick`` that changes more than sizes, and ``bits``, train with the last option and are left to chance.
    A layer that mixes channels without weights (layer norm) sees those that are weighed by 0 too. All is one program.
    Source: Wu et al. 2019 (FBNet, arXiv:1812.03443), equations 2 to 7, where the cost multiplies the loss and has no limit; Wan et al. 2020
    (FBNetV2, arXiv:2004.05565), section 3.1, for widths.
    """

    epochs: int = 8
    warmup: int = 2
    share: float = 0.8
    rate: float = 3e-3
    pace: float = 15.0
    batch: int = 64
    strength: float = 4.0
    hot: float = 5.0
    cold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.epochs or not 0 < self.share < 1 or not 0 < self.cold <= self.hot:
            raise StateError(f"{self}: expected 0 <= warmup < epochs, 0 < share < 1 and 0 < cold <= hot")

    def prepared(self, setting: Setting) -> tuple[Strategy, Inherit | None]:
        file, learned = trained(self, setting)
        return learned, Inherited(str(file), setting.taught("Gumbel").train.x[:EXAMPLES])


class Mixture(Module):
    """Weights and choices: ``theta`` by choice is ``pace`` times its Param, so that one rate of Adam serves both. ``base`` (limits,) and
    ``adds`` (options, limits) are prices; ``on`` is 0 while the choices rest."""

    base: Any
    adds: Any

    def __init__(self, shared: Shared, counts: Mapping[str, int], limits: int, pace: float) -> None:
        self.shared, self.pace = shared, pace
        self.thetas = Thetas(counts)
        self.tau, self.on = Buffer(np.float32(1)), Buffer(np.float32(0))
        self.base = Buffer(np.zeros(limits, np.float32))
        self.adds = {name: Buffer(np.zeros((n, limits), np.float32)) for name, n in counts.items()}

    def gates(self) -> dict[str, Tensor]:
        """g, drawn."""
        noise = lambda n: -math.log(-math.log(math.clip(random.uniform((n,)), 1e-6, 1 - 1e-6)))
        return {name: softmax((theta * self.pace + noise(theta.shape[0])) / self.tau) for name, theta in self.thetas.by.items()}

    def likely(self) -> dict[str, Tensor]:
        """softmax(theta)."""
        return {name: softmax(theta * self.pace) for name, theta in self.thetas.by.items()}

    def price(self) -> Tensor:
        """sum over limits of e + e^2."""
        shares: Tensor = self.base
        for name, p in self.likely().items():
            shares = shares + reduce.sum(p.reshape((-1, 1)) * self.adds[name], axis=0)
        over = relu(shares - 1.0)
        return reduce.sum(over + over * over)

    def priced(self, base: Any, adds: Mapping[str, Any]) -> None:
        """Take over prices."""
        self.base = as_tensor(base)
        for name, value in adds.items():
            self.adds[name] = as_tensor(value)


class Thetas(Module):
    """One Param a choice."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.by = {name: Param(np.zeros(n, np.float32)) for name, n in counts.items()}


def stepper(space: Space, task: Task, strength: float, limits: int) -> Jit:
    """``step(mixture, opt, net, x, y, other x, other y)``: weights by the first batch, choices by the second; the mean loss of both."""

    def loss(part: Module, mixture: Mixture, net: Module, x: Any, y: Any) -> Tensor:
        space.set(mixture.shared, net, mixture.gates())
        return task.loss(net(x), y)

    def priced(part: Module, mixture: Mixture, net: Module, x: Any, y: Any) -> Tensor:
        value = loss(part, mixture, net, x, y)
        return value + mixture.price() * strength if limits else value

    def step(mixture: Mixture, opt: Optimizer, net: Module, x: Any, y: Any, other: Any, truth: Any) -> Tensor:
        x = as_tensor(x) if task.augment is None else task.augment(as_tensor(x))
        value, weights = value_and_grad(loss)(mixture.shared, mixture, net, x, as_tensor(y))
        second, thetas = value_and_grad(priced)(mixture.thetas, mixture, net, as_tensor(other), as_tensor(truth))
        grads = {f"shared.{p}": weights[p] for p in mixture.shared.cells(Param)} | {f"thetas.{p}": thetas[p] * mixture.on for p in mixture.thetas.cells(Param)}
        opt.update(mixture, grads)
        return (value + second) * 0.5

    return jit(step)


def trained(config: Gumbel, setting: Setting) -> tuple[Path, Learned]:
    """The file of the trained weights, and what was learned of the choices; a training that was ended goes on at its next epoch."""
    task, folder = setting.taught("Gumbel"), setting.folder / "gumbel"
    last, done = folder / "last.safetensors", folder / "shared.safetensors"
    limits = len(setting.budget.limits())
    parts = {"config": repr(config), "build": digest.function(setting.build), "data": task.train.digest(), "seed": str(setting.seed), "budget": str(setting.budget)}
    of = digest.digest(parts)
    space = relaxed(setting.build, setting.seed)
    if not space.counts:
        raise StateError("Gumbel: nothing in this space can be weighed; write t.choice, t.width, t.repeat or t.kernel where build picks")
    mixture = Mixture(space.shared, space.counts, limits, config.pace)
    own, rest = task.train.split(config.share, key=setting.seed)
    steps = len(own) // config.batch
    if min(len(own), len(rest)) < config.batch:
        raise StateError(f"Gumbel: {len(own)} examples for weights and {len(rest)} for choices, a batch is {config.batch}; pass a smaller batch=")
    opt = adamw(config.rate, weight_decay=0.0).init(mixture)
    position = Position(epoch=0, step=0, key=(setting.seed, 2), digest=of)
    folder.mkdir(parents=True, exist_ok=True)
    if last.is_file() and read_position(last).digest == of:
        position = load_run(last, mixture, opt)
    else:
        random.seed(setting.seed)
    step, prices = stepper(space, task, config.strength, limits), Prices(setting) if limits else None
    for epoch in range(position.epoch, config.epochs):
        mixture.tau = as_tensor(np.float32(config.hot * (config.cold / config.hot) ** (epoch / (config.epochs - 1))) if config.epochs > 1 else np.float32(config.cold))
        mixture.on = as_tensor(np.float32(epoch >= config.warmup))
        if prices is not None and epoch >= config.warmup:
            mixture.priced(*prices.around(space.counts, {n: int(np.argmax(p.numpy())) for n, p in mixture.likely().items()}))
        others = _forever(rest, config.batch, position.key, epoch)
        with mode(space.net, training=True):
            batches: Any = own.batches(config.batch, key=np.asarray(position.key, np.uint32), epoch=epoch)
            for x, y in batches:
                value = float(step(mixture, opt, space.net, x, y, *next(others)))
                if not np.isfinite(value):
                    raise NonFiniteError(f"Gumbel: the loss is {value} at epoch {epoch + 1}; a smaller rate= than {config.rate:g} may help. Epochs before it stay in {folder}")
        position = Position(epoch=epoch + 1, step=position.step + steps, key=position.key, digest=of)
        save_run(last, mixture, opt, position)
    container.write(done, mixture.shared.arrays(), {"format": "shohin-shared-1"})
    return done, Learned(probabilities={n: tuple(float(v) for v in p.numpy()) for n, p in mixture.likely().items()})


def _forever(data: Dataset, batch: int, key: tuple[int, int], epoch: int) -> Iterator[tuple[Any, Any]]:
    while True:
        batches: Any = data.batches(batch, key=np.asarray(key, np.uint32), epoch=epoch)
        yield from batches


__all__ = ["Gumbel", "Learned", "Mixture", "stepper", "trained"]
