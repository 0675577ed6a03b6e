"""One-shot search: train the weights of all ways at once, then choose among ways that start with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler.jit import jit
from shohin.compress.distill import divergence
from shohin.core import dtypes
from shohin.core.errors import NonFiniteError, StateError
from shohin.core.module import Module, mode
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import random, reduce
from shohin.ops.activations import stop_gradient
from shohin.optim import adamw, one_cycle
from shohin.optim.optimizer import Optimizer
from shohin.search.shared import EXAMPLES, Inherited, Lent, Shared, lent
from shohin.search.strategies import Build, Evolution, Inherit, Setting, Strategy
from shohin.search.ways import Way, drawn, spread
from shohin.train import Task, container, digest
from shohin.train.checkpoint import Position, load_run, read_position, save_run
from shohin.transforms.grad import value_and_grad


@dataclass(frozen=True, kw_only=True)
class OneShot(Strategy):
    """A supernet trained by the sandwich rule with distillation in place; ``then`` proposes ways, which start with its weights.

    A step trains the largest way on the labels, and the smallest and ``samples`` others on the largest one's answers; one update of the
    shared weights by the mean of the losses. The others are drawn anew at each of ``stages``, and a stage is one compiled program: a way that
    is drawn at each step would be compiled at each step, and masks in the largest would cost the largest for each. So after ``stages`` the
    weights have met 2 + stages x samples ways; those between share their channels. ``score`` gets a network that holds the weights, with
    statistics of its own for its batch norms: it may only evaluate, or train on for a little. After each epoch there is a checkpoint.
    Source: Yu et al. 2020 (BigNAS, arXiv:2003.11142), section 3, without its initialization and its decay for the largest alone.
    """

    epochs: int = 10
    stages: int = 5
    samples: int = 2
    rate: float = 3e-3
    batch: int = 64
    then: Strategy = field(default_factory=Evolution)

    def __post_init__(self) -> None:
        if not 1 <= self.stages <= self.epochs or self.samples < 0:
            raise StateError(f"{self}: stages is a number from 1 to epochs, samples from 0 on")

    def prepared(self, setting: Setting) -> tuple[Strategy, Inherit | None]:
        file = trained(self, setting)
        proposer, _ = self.then.prepared(setting)
        return proposer, Inherited(str(file), setting.taught("OneShot").train.x[:EXAMPLES])


class Stage(Module):
    """The networks that one program trains, the largest first."""

    def __init__(self, ways: list[Way]) -> None:
        self.nets = [w.net for w in ways]


def sandwich(task: Task, lend: tuple[Lent, ...]) -> Any:
    """``loss(shared, stage, x, y)``: the mean over the stage's networks, of the task's loss for the first and of the distance from its answers for the rest."""

    def loss(shared: Shared, stage: Stage, x: Any, y: Any) -> Tensor:
        for give, net in zip(lend, stage.nets, strict=True):
            give(shared, net)
        taught = stage.nets[0](x)
        total = task.loss(taught, y)
        target = stop_gradient(taught)
        for net in stage.nets[1:]:
            total = total + apart(target, net(x), y)
        return total / float(len(lend))

    return loss


def apart(target: Tensor, output: Tensor, y: Any) -> Tensor:
    """How far answers are from a teacher's: the divergence of their distributions where ``y`` are classes, else the mean squared difference."""
    if as_tensor(y).dtype in dtypes.INTEGER and output.ndim == 2:
        return divergence(target, output, 1.0)
    return reduce.mean((output - target) * (output - target))


def trained(config: OneShot, setting: Setting) -> Path:
    """The file of the trained weights; a training that was ended goes on at its next epoch."""
    task, folder = setting.taught("OneShot"), setting.folder / "supernet"
    last, done = folder / "last.safetensors", folder / "shared.safetensors"
    of = digest.digest({"config": repr(config), "build": digest.function(setting.build), "data": task.train.digest(), "seed": str(setting.seed)})
    ways = spread(setting.build, setting.seed)
    shared = Shared((w.net, w.trial) for w in ways)
    steps = len(task.train) // config.batch
    if not steps:
        raise StateError(f"OneShot: a batch is {config.batch} examples, and the task has {len(task.train)}; pass a smaller batch=")
    opt = adamw(config.rate).init(shared)
    position = Position(epoch=0, step=0, key=(setting.seed, 1), digest=of)
    folder.mkdir(parents=True, exist_ok=True)
    if last.is_file() and read_position(last).digest == of:
        position = load_run(last, shared, opt)
    else:
        random.seed(setting.seed)
    schedule = one_cycle(config.rate, steps * config.epochs)
    stage, step = -1, None
    nets = None
    for epoch in range(position.epoch, config.epochs):
        if epoch * config.stages // config.epochs != stage:
            stage = epoch * config.stages // config.epochs
            picked = [ways[0], ways[-1], *others(setting.build, setting.seed, stage, config.samples, shared)]
            nets, step = Stage(picked), stepper(task, tuple(lent(w.net, w.trial) for w in picked), schedule)
        assert nets is not None and step is not None
        with mode(nets, training=True):
            batches: Any = task.train.batches(config.batch, key=np.asarray(position.key, np.uint32), epoch=epoch)
            for x, y in batches:
                value = float(step(shared, opt, nets, x, y))
                if not np.isfinite(value):
                    raise NonFiniteError(f"OneShot: the loss is {value} at epoch {epoch + 1}; a smaller rate= than {config.rate:g} may help. Epochs before it stay in {folder}")
        position = Position(epoch=epoch + 1, step=position.step + steps, key=position.key, digest=of)
        save_run(last, shared, opt, position)
    container.write(done, shared.arrays(), {"format": "shohin-shared-1"})
    return done


def stepper(task: Task, lend: tuple[Lent, ...], schedule: Any) -> Any:
    """``step(shared, opt, stage, x, y)``, one program."""
    loss = sandwich(task, lend)

    def step(shared: Shared, opt: Optimizer, nets: Stage, x: Any, y: Any) -> Tensor:
        x, y = as_tensor(x), as_tensor(y)
        value, grads = value_and_grad(loss)(shared, nets, x if task.augment is None else task.augment(x), y)
        opt.update(shared, grads, lr=schedule)
        return value

    return jit(step)


def others(build: Build, seed: int, stage: int, count: int, shared: Shared) -> list[Way]:
    """The ways that a stage draws, the same at each start; those that need weights that nothing shares are drawn again."""
    found: list[Way] = []
    for k in range(20 * count):
        if len(found) == count:
            break
        way = drawn(build, seed, np.random.default_rng([seed, stage, k, 2]))
        if shared.holds(way.net, way.trial):
            found.append(way)
    return found


__all__ = ["OneShot", "Stage", "apart", "others", "sandwich", "trained"]
