"""``method``: a compression method of one's own from one function, which is its rule; its slot supplies the rest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import field, fields, make_dataclass
from typing import Any

from shohin.compress.mask import Masking
from shohin.compress.stats import known
from shohin.compress.table import Tabling
from shohin.core.errors import PlanError

SHELLS: dict[str, Any] = {"mask": Masking, "table": Tabling}


def method(*, slot: str, stats: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Make a method of ``function(w, stats, *, ...)``. Its keywords are the method's fields, beside the slot's own.

    ``mask``: w (out, terms) is a row an output channel; the function returns a bool of that shape, true for weights that stay.
    The slot's fields are ``ramp`` and ``straight``; a ramp moves the keyword ``sparsity``, then a traced number, so that the
    function must be written in ops. ``table``: w (n,) are the weights of a group; the function returns as many values as its
    keyword ``entries`` says. The slot's fields are ``bits``, ``group`` and ``dim``, with which w is (n, dim) and values are (entries, dim).

    ``stats`` names what is collected on the calibration set; each is of the shape of w: ``input_norm``, the L2 norm of the input
    channel, ``input_max``, its largest magnitude, ``fisher``, the mean squared gradient of the loss (``compress.fisher``).

    >>> import shohin as sh
    >>> @method(slot="mask")
    ... def by_row(w, stats, *, sparsity):
    ...     return abs(w) > sh.quantile(abs(w), sparsity, axis=-1, keepdims=True)
    >>> by_row(sparsity=0.5, ramp=(0, 100))
    by_row(ramp=(0, 100), straight=False, sparsity=0.5)
    """

    def declare(function: Callable[..., Any]) -> Any:
        name = function.__name__
        if slot not in SHELLS:
            raise PlanError(f"{name}: a method of a function fills one of the slots {', '.join(SHELLS)}, not {slot!r}")
        shell, given = SHELLS[slot], list(inspect.signature(function).parameters.values())
        if len(given) < 2 or any(p.kind != p.KEYWORD_ONLY for p in given[2:]) or any(p.kind == p.KEYWORD_ONLY for p in given[:2]):
            raise PlanError(f"{name}{inspect.signature(function)}: write def {name}(w, stats, *, ...), options after the star")
        taken = {*shell.supplied, *(f.name for f in fields(shell))}
        own = [
            (p.name, Any, field(kw_only=True) if p.default is p.empty else field(default=p.default, kw_only=True))
            for p in given[2:]
            if p.name not in taken
        ]
        wanted = known(name, stats)
        space = {
            **shell.of(function), "stats": wanted, "needs_calibration": bool(wanted), "__doc__": function.__doc__,
            "__module__": function.__module__, "__qualname__": function.__qualname__,
        }  # fmt: skip
        return make_dataclass(name, own, bases=(shell,), namespace=space, frozen=True)

    return declare


__all__ = ["SHELLS", "method"]
