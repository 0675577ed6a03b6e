"""``fit``: epochs of one compiled step, with checkpoints from which a run goes on bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler.jit import Jit, jit
from shohin.core import dtypes, interp
from shohin.core.errors import DataError, NonFiniteError, StateError
from shohin.core.module import Module, mode
from shohin.core.philox import key_words
from shohin.core.tensor import Tensor, as_tensor
from shohin.data.dataset import Dataset
from shohin.nn import accuracy
from shohin.ops import random
from shohin.optim import Optimizer
from shohin.train import digest
from shohin.train.checkpoint import Position
from shohin.train.evaluate import evaluate
from shohin.train.progress import Record, reporter
from shohin.train.run import Run
from shohin.transforms.grad import value_and_grad

Function = Callable[..., Any]


@dataclass(frozen=True)
class History:
    """The epochs of a run, one ``Record`` each; ``best_epoch``, counted from 1, has the highest metric (or lowest
    loss)."""

    records: tuple[Record, ...]
    best_epoch: int

    @property
    def best(self) -> Record:
        """The record of ``best_epoch``."""
        return self.records[self.best_epoch - 1]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def __repr__(self) -> str:
        if not self.records:
            return "History(no epochs)"
        last = self.records[-1].line(len(self), "metric")
        return f"History({last}; best epoch {self.best_epoch})"


def fit(net: Module, loss: Function, train: Dataset, opt: Optimizer, epochs: int, batch: int = 64, *,
        schedule: Function | None = None, augment: Function | None = None, test: Dataset | None = None,
        metric: Function | None = None, run: str | Path | None = None, seed: int | None = None, fresh: bool = False,
        progress: bool | None = None) -> History:  # fmt: skip
    """Train ``net`` in place for ``epochs`` epochs.

    Args:
        net: set to training mode, and back to its own afterwards.
        loss: ``loss(net, x, y)``, one scalar. Forward, backward, update and augmentation are one compiled program.
        train: read in the order ``permutation(len(train), data key, epoch)``; the rest that fills no batch is dropped.
        opt: made for ``net``: ``optim.adamw(3e-3).init(net)``.
        schedule: the learning rate as a function of the update count; overrides the optimizer's.
        augment: ``augment(x) -> x``, array operations and ``sh.random`` draws on a batch, compiled into the step.
        test, metric: ``evaluate(net, test, metric)`` after each epoch; the metric is ``nn.accuracy`` for integer
            labels.
        run: a folder for ``config.json``, ``log.jsonl``, ``last.safetensors`` and ``best.safetensors``. If it holds
            this run, the run goes on at the next epoch, bit for bit; if that has all epochs, its state is read and
            nothing is done.
        seed: of the data key; without it the key is drawn from the default generator (``sh.seed``).
        fresh: start anew in ``run``, whatever it holds.
        progress: None shows a bar in a terminal and else a line an epoch; True lines, False nothing.

    Raises:
        NonFiniteError: the loss or a cell is NaN or infinite; checkpoints written before stay.
        CheckpointError: ``run`` holds another run, is corrupt, or cannot be written.

    >>> from shohin import nn, optim
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> net = nn.Linear(1, 1)
    >>> line = lambda net, x, y: nn.mse_loss(net(x), y)
    >>> history = fit(net, line, Dataset(x, 2 * x), optim.sgd(0.5).init(net), 10, 16, seed=0, progress=False)
    >>> len(history), history[-1].loss < 0.01
    (10, True)
    """
    metric = _checked(net, loss, train, opt, epochs, test, metric)
    steps = len(train) // batch if isinstance(batch, int) and batch > 0 else 0
    train.batches(batch)  # a batch that does not fit is an error here, before anything is written
    held, position, records = None, None, []
    if run is not None:
        parts = _parts(net, loss, train, opt, batch, schedule, augment, test, metric, seed)
        held = Run(run, parts, epochs, fresh=fresh)
        position, records = held.resume(net, opt)
    if position is None:
        position = Position(epoch=0, step=0, key=_data_key(seed), digest=held.digest if held else "")
    shown = reporter(progress)(epochs, position.epoch, steps, batch, getattr(metric, "__name__", "metric"))
    if position.epoch >= epochs:
        return History(tuple(records), position.best_epoch)
    step = training_step(loss, schedule=schedule, augment=augment)
    with mode(net, training=True), shown:
        for epoch in range(position.epoch + 1, epochs + 1):
            started, total = time.perf_counter(), 0.0
            batches: Any = train.batches(batch, key=np.asarray(position.key, np.uint32), epoch=epoch - 1)
            for k, (x, y) in enumerate(batches, 1):
                value = float(step(net, opt, x, y))
                if not math.isfinite(value):
                    raise _not_finite(f"the loss is {value}", epoch, epochs, k, opt, held, position)
                total += value
                shown.step(epoch, k, total / k)
            seconds = time.perf_counter() - started
            _all_finite(net, opt, epoch, epochs, steps, held, position)
            score = None if test is None or metric is None else evaluate(net, test, metric)
            record = Record(epoch=epoch, step=position.step + steps, loss=total / steps, metric=score, lr=float(opt.lr),
                            seconds=seconds, samples=steps * batch)  # fmt: skip
            position, better = _next(position, record)
            if held is not None:
                held.save(net, opt, position, record, best=better)
            records.append(record)
            shown.epoch(record)
    return History(tuple(records), position.best_epoch)


def training_step(
    loss: Function, *, schedule: Function | None = None, augment: Function | None = None, threads: int | None = None
) -> Jit:
    """``step(net, opt, x, y)``: forward, backward and update as one program, as ``fit`` runs it; gives the loss.

    >>> from shohin import nn, optim
    >>> step = training_step(lambda net, x, y: nn.mse_loss(net(x), y))
    >>> net = nn.Linear(1, 1)
    >>> step(net, optim.sgd(0.5).init(net), np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)).shape
    ()
    """

    def step(net: Module, opt: Optimizer, x: Any, y: Any) -> Tensor:
        x, y = as_tensor(x), as_tensor(y)
        value, grads = value_and_grad(loss)(net, x if augment is None else augment(x), y)
        opt.update(net, grads, lr=schedule)
        return value

    return jit(step, threads=threads)


def _checked(net: Any, loss: Any, train: Any, opt: Any, epochs: Any, test: Any, metric: Any) -> Function | None:
    if interp.current() is not interp.BASE:
        raise StateError(f"fit: it trains and writes files, so it cannot run inside {interp.current().kind}")
    if not isinstance(net, Module):
        raise StateError(f"fit: net is {type(net).__name__}, expected an nn.Module")
    if not callable(loss):
        raise StateError(f"fit: loss is {type(loss).__name__}, expected a function loss(net, x, y)")
    for name, data in (("train", train), ("test", test)):
        if not isinstance(data, Dataset) and not (name == "test" and data is None):
            raise DataError(f"fit: {name} is {type(data).__name__}, expected a Dataset(x, y)")
    if not isinstance(opt, Optimizer):
        raise StateError(
            f"fit: opt is {type(opt).__name__}, expected an optimizer for this network: optim.adamw(3e-3).init(net)"
        )
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise ValueError(f"fit: epochs is {epochs!r}, expected a whole number of at least 1")
    if metric is None and test is not None:
        if np.dtype(test.y.dtype) not in dtypes.INTEGER:
            raise DataError(
                f"fit: test has labels of {test.y.dtype}, so there is no accuracy; write metric=, one value an example"
            )
        return accuracy
    return metric


def _parts(
    net: Module, loss: Function, train: Dataset, opt: Optimizer, batch: int, schedule: Function | None,
    augment: Function | None, test: Dataset | None, metric: Function | None, seed: int | None,
) -> dict[str, str]:  # fmt: skip
    """What the run's bits depend on (``digest``)."""
    functions = {"loss": loss, "schedule": schedule, "augment": augment, "metric": metric}
    return {
        "network": digest.network(net),
        "data": train.digest(),
        "test": "none" if test is None else test.digest(),
        "optimizer": f"{opt.transform!r}{_rate_code(opt)}",
        "batch": str(batch),
        "seed": str(seed),
        **{name: digest.function(f) for name, f in functions.items()},
    }


def _rate_code(opt: Optimizer) -> str:
    rate = opt.transform.rate
    return f" {digest.function(rate)}" if callable(rate) else ""


def _data_key(seed: int | None) -> tuple[int, int]:
    words = np.asarray(key_words(seed)) if seed is not None else random.default.bits((2,)).numpy()
    return int(words[0]), int(words[1])


def _next(position: Position, record: Record) -> tuple[Position, bool]:
    """The position after an epoch, and whether it is the best so far."""
    score = record.metric if record.metric is not None else -record.loss
    better = position.best is None or score > position.best
    best, at = (score, record.epoch) if better else (position.best, position.best_epoch)
    return Position(
        epoch=record.epoch, step=record.step, key=position.key, digest=position.digest, best=best, best_epoch=at
    ), better


def _all_finite(
    net: Module, opt: Optimizer, epoch: int, epochs: int, step: int, held: Run | None, position: Position
) -> None:
    for module, name in ((net, "network"), (opt, "optimizer")):
        for path, cell in module.cells().items():
            if cell.dtype in dtypes.FLOATING and not np.isfinite(cell.read().data).all():
                raise _not_finite(
                    f"{path} of the {name} holds NaN or infinity", epoch, epochs, step, opt, held, position
                )


def _not_finite(
    what: str, epoch: int, epochs: int, step: int, opt: Optimizer, held: Run | None, position: Position
) -> NonFiniteError:
    kept = f". {held.last} holds epoch {position.epoch}" if held is not None and position.epoch else ""
    return NonFiniteError(
        f"fit: {what} in epoch {epoch} of {epochs}, step {step} (learning rate {float(opt.lr):.3g}); "
        "lower the learning rate, "
        "put optim.clip_by_global_norm(1.0) before the rule in optim.chain, or look for a log or a "
        f"division of zero{kept}"
    )


__all__ = ["History", "evaluate", "fit", "training_step"]
