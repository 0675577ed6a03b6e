"""What is tried for a network that is over its budget, in this order: tables, channels, resolution, channels with tables.

Each family stops at its first member that fits: what follows in it is smaller and worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from shohin.compress import Palettize, Plan, PruneChannels, Quantize
from shohin.compress.slots import Method
from shohin.core.errors import ShohinError
from shohin.core.module import mode
from shohin.core.tensor import as_tensor
from shohin.data.dataset import Dataset
from shohin.deploy.budget import Budget
from shohin.deploy.export import export
from shohin.deploy.stored import Stored
from shohin.nn.conv import Conv2d
from shohin.shipping.candidate import Candidate
from shohin.shipping.kept import Kept
from shohin.shipping.subject import Array, Subject

SIXTEENTHS = 16
RESOLUTIONS = (0.75, 0.5)
FIXED = "the network of a file without its Python has fixed sizes; give a task file, or the ONNX file"


@dataclass(frozen=True, kw_only=True)
class Option:
    """``rules`` are those under ``Quantize``; ``subject`` differs where the input does; ``skip`` says why it is not tried."""

    family: str
    name: str
    about: str
    rules: tuple[tuple[str, Method], ...] = ()
    subject: Subject | None = None
    skip: str = ""

    @property
    def plan(self) -> Plan:
        return Plan([*self.rules, ("*", Quantize(w=8, a=8))])


def options(subject: Subject, base: Candidate, budget: Budget, device: str, kept: Kept, fits: Callable[[], bool]) -> Iterator[Option]:
    """The options for a network whose int8 form is ``base``; ``fits()`` says whether the last one that was taken fits."""
    flash_alone = all(o.startswith("flash") for o in base.over(budget))
    extra = base.ram.value - base.arena.value - sum(base.sections[s] for s in ("data", "bss"))
    found = False
    if not flash_alone:
        yield Option(family="tables", name="tables", about="", skip="tables make weights smaller, and the budget is exceeded elsewhere too")
    else:
        for bits in (4, 3, 2):
            yield Option(family="tables", name=f"int8, {bits}-bit tables", about=f"weights of {2**bits} values an output channel by k-means, activations int8",
                         rules=(("*", Palettize(bits=bits, group=1)),))  # fmt: skip
            if fits():
                found = True
                break
    fixed = isinstance(subject.net, Stored)
    channels = Option(family="channels", name="channels", about="", skip=FIXED) if fixed else _channels(subject, budget, device, kept, extra, ())
    yield channels
    found = (not channels.skip and fits()) or found
    for factor in RESOLUTIONS:
        smaller = "the input's size changes activations, and flash alone is exceeded" if flash_alone else FIXED if fixed else _smaller(subject, factor)
        if isinstance(smaller, str):
            yield Option(family="resolution", name=f"input x {factor:g}", about="", skip=smaller)
            break
        size = " x ".join(map(str, smaller.shape))
        yield Option(family="resolution", name=f"int8, input {size}", about=f"inputs averaged down to {size}, the network as it is", subject=smaller)
        if fits():
            found = True
            break
    if not found and not fixed and any(o.startswith("flash") for o in base.over(budget)):
        yield _channels(subject, budget, device, kept, extra, (("*", Palettize(bits=4, group=1)),))


def _channels(subject: Subject, budget: Budget, device: str, kept: Kept, extra: int, rules: tuple[tuple[str, Method], ...]) -> Option:
    """The smallest share of channels whose loss meets the budget, found by bisection on exported sizes."""
    tables = " and 4-bit tables" if rules else ""

    def rules_at(k: int) -> tuple[tuple[str, Method], ...]:
        return (("*", PruneChannels(k / SIXTEENTHS, "l1")), *rules)

    def fits(k: int) -> bool:
        found = kept.probe(f"channels {k}/{SIXTEENTHS}{tables}", lambda: _sizes(rules_at(k), subject, device))
        return not budget.excess(flash=found["flash"], ram=found["ram"] + extra)

    low, high = 0, SIXTEENTHS - 1
    try:
        if not fits(high):
            return Option(family="channels", name=f"channels{tables}", about="",
                          skip=f"even {high / SIXTEENTHS:.0%} fewer channels{tables} are over the budget")  # fmt: skip
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
    except ShohinError as error:
        return Option(family="channels", name=f"channels{tables}", about="", skip=str(error))
    share = f"{100 * high / SIXTEENTHS:g}%"
    return Option(family="channels", name=f"int8, {share} fewer channels{tables}", rules=rules_at(high),
                  about=f"{share} of the channels of each group leave, those with the smallest weights (L1){tables}")  # fmt: skip


def _sizes(rules: tuple[tuple[str, Method], ...], subject: Subject, device: str) -> dict[str, int]:
    """Flash and RAM without the stack of the exported network; its values do not matter, so few inputs calibrate it."""
    small = Plan([*rules, ("*", Quantize(w=8, a=8))]).apply(subject.net, calibration=subject.calibration[:4])
    with TemporaryDirectory(prefix="shohin-probe-") as folder:
        art = export(small, subject.test[:1], device=device, to=Path(folder))
    return {"flash": art.flash_bytes, "ram": art.arena_bytes + art.sections.ram}


def _smaller(subject: Subject, factor: float) -> Subject | str:
    """The subject with inputs of less resolution, or why the network does not take them."""
    axes = _image_axes(subject)
    if axes is None:
        return "the input is no image of a convolutional network"
    shape = subject.test.shape
    sizes = {a: max(1, round(shape[a] * factor)) for a in axes}
    calibration, test = (averaged(x, sizes) for x in (subject.calibration, subject.test))
    net = subject.net
    try:
        net = net if subject.at is None else subject.at(test.shape[1:])
        with mode(net, training=False):
            net(as_tensor(calibration[:1]))
    except (ShohinError, ValueError, TypeError, IndexError) as error:
        return f"the network takes no input of {' x '.join(map(str, test.shape[1:]))} ({str(error).splitlines()[0]})"
    train = subject.train if subject.train is None else Dataset(averaged(subject.train.x, sizes), subject.train.y, subject.train.classes)
    return replace(subject, net=net, calibration=calibration, test=test, train=train)


def _image_axes(subject: Subject) -> tuple[int, int] | None:
    shape = subject.shape
    if len(shape) != 3 or not any(isinstance(m, Conv2d) for m in subject.net.modules().values()):
        return None
    return (2, 3) if shape[0] <= 4 < shape[2] else (1, 2)


def averaged(x: Array, sizes: dict[int, int]) -> Array:
    """x with these axes averaged down to these sizes: each new element is the mean of the old ones that it covers.

    >>> averaged(np.array([[1.0, 3.0, 5.0, 9.0]], np.float32), {1: 2}).tolist()
    [[2.0, 7.0]]
    """
    for axis, size in sizes.items():
        edges = np.linspace(0, x.shape[axis], size + 1)
        at = np.arange(x.shape[axis])
        weights = np.clip(np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at), 0, 1)
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights.T, -1, axis)
    return np.ascontiguousarray(x, np.float32)


__all__ = ["Option", "averaged", "options"]
