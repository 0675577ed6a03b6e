"""``check_method``: everything that the house's own methods on weights are asked, for one of a user's.

``shape``        the rule gives what its slot expects for a linear layer, a convolution and a depthwise one
``determinism``  twice the same
``amount``       masks: about as many zeros as ``sparsity`` says, and neither none nor all
``idempotence``  masks: the masked weights have the same mask
``gradient``     the loss falls in training, what moves is what the slot says, zeros stay zeros
``ramp``         masks with ``sparsity``: the rule runs inside a compiled step and ends where it ends in eager
``round trip``   saved and loaded, the network gives the same bits
``export``       with ``Quantize`` above it, artefact, module and reference give the same integers
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import shohin as sh
from shohin import nn, optim
from shohin.compress.mask import Mask, Masking
from shohin.compress.plan import Plan
from shohin.compress.quantize import Quantize
from shohin.compress.stats import Stats
from shohin.compress.table import Tabling
from shohin.compress.weights import WeightMethod
from shohin.core.cells import Param
from shohin.core.errors import PlanError
from shohin.core.module import mode
from shohin.testing.conformance import NotApplicable, Problem
from shohin.testing.primitive import Report

Array = np.ndarray[Any, Any]
Finding = tuple[str, str] | NotApplicable
GUESSES = {"sparsity": 0.5}
SIZE = (8, 8, 8)
UPDATES = 6


class _Net(nn.Module):
    """A convolution, a depthwise one, a strided one and a linear layer: every form of weight."""

    def __init__(self) -> None:
        self.stem, self.depthwise = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.down, self.head = nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        x = nn.relu(self.depthwise(nn.relu(self.stem(x))))
        return self.head(nn.relu(self.down(x)).mean(axis=(1, 2)))


def _network() -> _Net:
    sh.seed(0)
    return _Net()


def _data(seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 32)
    x = rng.normal(size=(32, *SIZE)).astype(np.float32) * np.linspace(0.1, 2, SIZE[-1], dtype=np.float32)
    return x + y[:, None, None, None].astype(np.float32) * 0.3, y


def _small(method: WeightMethod, *more: Any) -> Any:
    return Plan([("*", method), *more]).apply(_network(), calibration=_data()[0])


def _effective(net: Any) -> dict[str, Array]:
    """The weights of evaluation."""
    with mode(net, training=False):
        return {f"{path}.weight": layer.weight.numpy() for path, layer in net.modules().items() if path and hasattr(layer, "weight")}


def _masks(net: Any) -> dict[str, Array]:
    return {path: m.mask.numpy() for path, m in net.modules().items() if isinstance(m, Mask)}


def _loss(net: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(net(x), y)


def _train(net: Any, steps: int = UPDATES) -> list[float]:
    opt = optim.sgd(0.05).init(net)

    @sh.jit
    def step(net: Any, opt: Any, x: Any, y: Any) -> Any:
        loss, grads = sh.value_and_grad(_loss)(net, x, y)
        opt.update(net, grads)
        return loss

    x, y = _data()
    net.train()
    return [float(step(net, opt, x, y)) for _ in range(steps)]


# ------------------------------------------------------------------------------------------------- the checks


def _shape(method: WeightMethod) -> Iterator[Finding]:
    before, after = _effective(_network()), _effective(_small(method))
    for place, w in after.items():
        if w.shape != before[place].shape or w.dtype != np.float32:
            yield place, f"the weight is {w.dtype}{list(w.shape)}, expected float32{list(before[place].shape)}"
        if not np.isfinite(w).all():
            yield place, "the weight is not finite"
        if isinstance(method, Masking) and not ((w == before[place]) | (w == 0)).all():
            yield place, "a weight that stays has changed"


def _determinism(method: WeightMethod) -> Iterator[Finding]:
    first, second = _effective(_small(method)), _effective(_small(method))
    for place, w in first.items():
        if not np.array_equal(w, second[place]):
            yield place, "the same network and calibration set give other weights; draw no random numbers, or from a fixed seed"


def _amount(method: WeightMethod) -> Iterator[Finding]:
    if not isinstance(method, Masking):
        yield NotApplicable("its slot is no mask")
        return
    sparsity = vars(method).get("sparsity")
    for place, mask in _masks(_small(method)).items():
        zeros = 1 - mask.mean()
        if sparsity is None and zeros in (0, 1):
            yield place, f"{'no' if zeros == 0 else 'every'} weight is 0"
        elif sparsity is not None:
            room = 1 / max(mask[0].size, 1) + 0.05  # a row has a whole number of zeros
            if abs(zeros - sparsity) > room:
                yield place, f"{zeros:.0%} of the weights are 0, sparsity is {sparsity:.0%}"


def _idempotence(method: WeightMethod) -> Iterator[Finding]:
    if not isinstance(method, Masking):
        yield NotApplicable("its slot is no mask")
        return
    for place, w in _effective(_network()).items():
        rows = w.reshape(len(w), -1)
        drawn = np.random.default_rng(0).uniform(0.1, 2, rows.shape[1]).astype(np.float32)
        stats = Stats(type(method).__name__, {name: np.broadcast_to(drawn, rows.shape) for name in method.stats})
        ask = lambda w, stats=stats: method.judged(sh.asarray(w), stats, vars(method).get("sparsity")).numpy()
        mask = ask(rows)
        if not np.array_equal(mask, ask(np.where(mask, rows, np.float32(0)))):
            yield place, "the masked weights have another mask; of equal scores keep the same ones"


def _gradient(method: WeightMethod) -> Iterator[Finding]:
    small = _small(method)
    before, params = _effective(small), {p: c.read().numpy() for p, c in small.cells(Param).items()}
    losses = _train(small)
    if not np.isfinite(losses).all() or losses[-1] >= losses[0]:
        yield "training", f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g} in {UPDATES} updates"
    still = [p for p, c in small.cells(Param).items() if np.array_equal(c.read().numpy(), params[p])]
    if still:
        yield still[0], "the parameter gets no gradient"
    for place, w in _effective(small).items():
        if isinstance(method, Masking) and (w[before[place] == 0] != 0).any():
            yield place, "a weight that was 0 has moved"
        if isinstance(method, Tabling) and len(np.unique(w[: method.group or len(w)])) > 2**method.bits:
            yield place, f"a group has more than {2**method.bits} values"


def _ramp(method: WeightMethod) -> Iterator[Finding]:
    if not isinstance(method, Masking) or "sparsity" not in vars(method):
        yield NotApplicable("no argument 'sparsity' for a ramp to move")
        return
    small = _small(replace(method, ramp=(0, UPDATES - 2)))
    if any(not m.all() for m in _masks(small).values()):
        yield "start", "there are zeros before the first update"
    _train(small)
    target = _masks(_small(replace(method, ramp=None)))
    for place, mask in _masks(small).items():
        if abs(mask.mean() - target[place].mean()) > 1 / mask[0].size + 0.02:
            yield place, f"{1 - mask.mean():.0%} zeros after the ramp, {1 - target[place].mean():.0%} without one"


def _round_trip(method: WeightMethod) -> Iterator[Finding]:
    small = _small(method)
    _train(small, 2)
    other = _small(method)
    with tempfile.TemporaryDirectory(prefix="shohin-method-") as folder:
        sh.save(small, Path(folder) / "net.safetensors")
        sh.load(Path(folder) / "net.safetensors", other)
    for place, w in _effective(small).items():
        if not np.array_equal(w, _effective(other)[place]):
            yield place, "the loaded network has other weights"


def _export(method: WeightMethod) -> Iterator[Finding]:
    small = _small(method, ("*", Quantize()))
    _train(small, 2)
    small.eval()
    x = _data()[0]
    with tempfile.TemporaryDirectory(prefix="shohin-method-") as folder:
        found = sh.compare(small, sh.export(small, x[:1], device="host", to=folder), x[:8])
    if found.differing:
        yield "host", str(found)


CHECKS: dict[str, Callable[[Any], Iterator[Finding]]] = {
    "shape": _shape, "determinism": _determinism, "amount": _amount, "idempotence": _idempotence, "gradient": _gradient,
    "ramp": _ramp, "round trip": _round_trip, "export": _export,
}  # fmt: skip


def check_method(method: Any, *, skip: Sequence[str] = ()) -> Report:
    """Shape, determinism, gradients, ramp, storage, export of a method on weights, on a small network of every form of weight.

    ``method`` is what ``compress.method`` made, a subclass of ``WeightMethod``, or one with its arguments. A class is made with
    its defaults, and ``sparsity`` 0.5 where that has none. Returns the report, or raises an ``AssertionError`` that holds it.
    ``skip`` names checks to leave out.

    >>> from shohin.compress import Prune
    >>> print(check_method(Prune(0.5, pattern="2:4"), skip=("export", "ramp", "gradient")))
    Prune: passed
      ok       shape
      ok       determinism
      ok       amount
      ok       idempotence
      ok       round trip
      skipped  export: as asked
      skipped  ramp: as asked
      skipped  gradient: as asked
    """
    made = _made(method)
    name = type(made).__name__
    for check in skip:
        if check not in CHECKS:
            raise PlanError(f"check_method: no check {check!r}; there are {', '.join(CHECKS)}")
    passed: list[str] = []
    skipped = [f"{check}: as asked" for check in skip]
    problems: list[Problem] = []
    for check, run in CHECKS.items():
        if check in skip:
            continue
        try:
            found = list(run(made))
        except Exception as error:  # a check that cannot even run is a finding
            found = [("the check itself", f"{type(error).__name__}: {error}")]
        reasons = [f.reason for f in found if isinstance(f, NotApplicable)]
        bad = [Problem(name, check, *f) for f in found if not isinstance(f, NotApplicable)]
        problems += bad
        if reasons and not bad:
            skipped.append(f"{check}: {reasons[0]}")
        elif not bad:
            passed.append(check)
    report = Report(name, tuple(passed), tuple(skipped), tuple(problems))
    if problems:
        raise AssertionError(str(report))
    return report


def _made(method: Any) -> WeightMethod:
    if isinstance(method, WeightMethod):
        return method
    if not (isinstance(method, type) and issubclass(method, WeightMethod)):
        raise PlanError(f"check_method takes a method on weights, made by compress.method or a WeightMethod; got {method!r}")
    needed = [f.name for f in fields(method) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    missing = [name for name in needed if name not in GUESSES]
    if missing:
        given = ", ".join(f"{name}=..." for name in missing)
        raise PlanError(f"check_method: {method.__name__} has no default for {', '.join(missing)}; pass {method.__name__}({given})")
    return method(**{name: GUESSES[name] for name in needed})


__all__ = ["check_method"]
