"""Composites: plain functions whose name and boundary survive in a trace as a ``call`` with a body.

Every interpreter's default is to run the body. Under a trace the call is kept, so that quantization sees it and a
target's kernel may claim it by name and ``config``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shohin.core import interp
from shohin.core.errors import RecordError
from shohin.core.op import Quant
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import control


@dataclass(frozen=True, kw_only=True)
class Composite:
    """The record: ``body(*tensors, **config)`` gives one tensor or a tuple; ``quant`` as for an op.

    ``slices``: how many last dims of its operands and results are one of many independent slices. ``recompute``: its backward
    pass makes its values anew from the operands instead of keeping them.
    """

    name: str
    body: Callable[..., Any]
    quant: Quant
    source: str
    slices: int | None
    recompute: bool

    @property
    def kept(self) -> bool:
        """Is a call recorded here? Where a trace is current, and where one stands behind derivatives of a call that recomputes."""
        frame = interp.current()
        while self.recompute and frame.differentiates and frame.parent is not None:
            frame = frame.parent
        return frame.keeps_calls


COMPOSITES: dict[str, Composite] = {}


def composite(
    name: str, *, quant: Quant, source: str, slices: int | None = None, recompute: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a composite. Positional arguments are tensors (``None`` is left out of the call), keywords its configuration."""

    def declare(body: Callable[..., Any]) -> Callable[..., Any]:
        if name in COMPOSITES:
            raise RecordError(f"composite {name!r} is declared already")
        record = Composite(name=name, body=body, quant=quant, source=source, slices=slices, recompute=recompute)
        COMPOSITES[name] = record

        @functools.wraps(body)
        def run(*operands: Any, **config: Any) -> Any:
            return _bind(record, operands, config) if record.kept else body(*operands, **config)

        return run

    return declare


def _bind(record: Composite, operands: tuple[Any, ...], config: dict[str, Any]) -> Any:
    given = [k for k, o in enumerate(operands) if o is not None]
    tensors = [as_tensor(operands[k]) for k in given]
    single: list[bool] = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        full: list[Any] = [None] * len(operands)
        for k, t in zip(given, inputs, strict=True):
            full[k] = t
        out = record.body(*full, **config)
        single.append(isinstance(out, Tensor))
        return [out] if single[-1] else list(out)

    with interp.at(""):
        staged = stage(flat, [t.aval for t in tensors])
    frozen = tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in config.items()))
    how = (("checkpoint", True),) if record.recompute else ()
    where = (("slices", record.slices),) if record.slices is not None else ()
    attrs = {"name": record.name, "body": staged.graph, "config": (("operands", tuple(given)), *frozen, *how, *where)}
    with_captures = [*tensors, *staged.operands()]
    results = interp.bind(control.call, with_captures, attrs)
    staged.land(results[len(results) - len(staged.writes) :])
    return results[0] if single[0] else tuple(results[: len(results) - len(staged.writes)])
