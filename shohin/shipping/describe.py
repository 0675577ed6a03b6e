"""A network as text: places, shapes, parameters, multiply-adds, and how near it is to its origin."""

from __future__ import annotations

from collections.abc import Mapping

from shohin.compress import Plan
from shohin.core.errors import QuantizationError, ShohinError
from shohin.deploy.cost import places_of
from shohin.deploy.values import float_values
from shohin.shipping.subject import Subject


def description(subject: Subject, head: str, plans: Mapping[str, Plan]) -> str:
    """A line a layer in the order of execution, and what each plan does where, with its reasons; ``net.imported`` is printed
    where the network was imported.

    Raises:
        QuantizationError: the only plan cannot be carried out; all places at once.
    """
    net, shape = subject.net, subject.shape
    modules, cells = net.modules(), net.cells()
    last: dict[str, tuple[int, ...]] = {}
    ops: dict[str, list[str]] = {}
    for place, value in float_values(net, subject.test[:1]).items():
        path, _, op = place.partition("/")
        if path in modules and path:
            last[path] = value.shape[1:]
            ops.setdefault(path, []).append(op.partition("#")[0])
    macs = {p.place: p.macs for p in places_of(net, (1, *shape))}
    rows = [("place", "does", "result", "parameters", "multiply-adds")]
    for path, result in last.items():
        own = sum(int(c.read().size) for p, c in cells.items() if p.rpartition(".")[0] == path)
        does = ", ".join(dict.fromkeys(ops[path]))
        rows.append((path, does if len(does) < 44 else f"{does[:40]} ...", " x ".join(map(str, result)), f"{own:,}" if own else "", f"{macs[path]:,}" if macs.get(path) else ""))
    total = sum(int(c.read().size) for c in cells.values())
    rows.append(("all", "", "", f"{total:,}", f"{sum(macs.values()):,}"))
    widths = [max(len(r[k]) for r in rows) for k in range(5)]
    lines = [" ".join([*(c.ljust(w) for c, w in zip(r[:3], widths)), *(c.rjust(w + 2) for c, w in zip(r[3:], widths[3:]))]).rstrip() for r in rows]
    origin = getattr(net, "imported", None)
    told = []
    for name, plan in plans.items():
        try:
            reasons = plan.explain(net, subject.calibration[:2])
            refused = [line for line in reasons.splitlines() if line.startswith("refused: ")]
            if refused:
                raise QuantizationError("\n".join(line.removeprefix("refused: ") for line in refused))
        except ShohinError as error:
            if len(plans) == 1:
                raise
            reasons = f"cannot be carried out: {error}"
        told += ["", *([name] if len(plans) > 1 else []), f"{plan}", reasons]
    first = f"{head}: input {' x '.join(map(str, shape))}"
    return "\n".join([first, *([] if origin is None else [str(origin)]), *lines, *told, ""])


__all__ = ["description"]
