"""``sh.ship``: a network, its data, a device and a budget in; candidates measured on what is shipped, the best one out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shohin.compress import Plan
from shohin.core.errors import DataError, StateError
from shohin.core.module import Module
from shohin.data.folder import PLAIN, Reading
from shohin.deploy.budget import Budget
from shohin.deploy.stored import Stored
from shohin.shipping.fitted import Fitted
from shohin.shipping.kept import Kept
from shohin.shipping.planned import Planned
from shohin.shipping.run import Training, parts
from shohin.shipping.shipment import Shipment
from shohin.shipping.subject import JUDGED, subject_of
from shohin.shipping.teller import Teller, teller
from shohin.targets import get_target
from shohin.train import Task


def ship(
    net: Module | Task, data: Any = None, *, device: str = "cortex-m55", flash: Any = None, ram: Any = None, to: str | Path = "shipped",
    plans: Mapping[str, Plan] | None = None, finetune: int = 0, distill: float = 0.0, judged: int = JUDGED, reading: Reading = PLAIN,
    at: Callable[[tuple[int, ...]], Module] | None = None, name: str = "", seed: int = 0, fresh: bool = False, progress: bool | Teller | None = None,
) -> Shipment:  # fmt: skip
    """Quantize, export, measure and compare; over budget, try what would make it fit. All on the artefact itself.

    Args:
        net: a float network (in Python, imported, or of a file), or a ``Task``.
        data: some hundred examples, float32 as the network takes them: a ``Dataset`` (labels: accuracy and training), an
            array, or a path for ``read_folder``. A ``Task`` has its own.
        flash, ram: the budget, in bytes or as ``"128kB"``.
        to: the folder of the shipment. Candidates in it are not made again: a run that was ended goes on.
        plans: plans by name, which are then what is tried, instead of int8 and what would fit.
        finetune: epochs of training for the int8 network (quantization-aware) and for networks that lost channels or
            resolution, or for what each of ``plans`` makes; needs labels.
        distill: the share of the loss, in training, that asks to answer like ``net`` (``compress.distill``).
        judged: at most so many examples judge.
        reading: how files become examples.
        at: ``at(shape)`` gives the network for examples of that shape, where it cannot take them itself (an imported one).
        name: what the network is called in what is printed; by default its class.

    Raises:
        DataError: no data, or data that does not fit, or training without labels; DeployError: ``to`` holds something else; AttrError: a budget that is
            no size; QuantizationError: places without an integer definition, all at once; PlanError: a plan that the network cannot take.

    >>> from shohin import nn
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    >>> found = ship(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), x, device="host", progress=False)
    >>> [c.name for c in found.candidates], found.best.differing.value
    (['float32', 'int8'], 0)
    """
    started = time.perf_counter()
    budget, target, training = Budget(flash=flash, ram=ram), get_target(device), Training(epochs=finetune, distill=distill, seed=seed)
    subject = replace(subject_of(net, data, reading, judged), at=at)
    if finetune and subject.train is None:
        raise DataError("ship: --finetune needs labels: a folder whose subfolders are labels, .npz with x and y, or a task")
    if finetune and isinstance(subject.net, Stored):
        raise StateError("ship: the network of a file without its Python is for evaluation; to train it, give a task file that loads the values "
                         "(sh.load(path, into=net))")
    kept = Kept(to, parts(subject, device, training), fresh=fresh)
    told = progress if isinstance(progress, Teller) else teller(progress)
    shared: dict[str, Any] = {"subject": subject, "budget": budget, "device": target.name, "kept": kept, "training": training, "told": told,
                              "name": name or type(subject.net).__name__}  # fmt: skip
    run = Fitted(**shared) if plans is None else Planned(**shared, given=plans)
    try:
        return run.whole(started)
    finally:
        told.pause()


__all__ = ["Shipment", "ship"]
