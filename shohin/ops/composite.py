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
    """The record: ``body(*tensors, **config)`` gives one tensor or a tuple; ``quant`` as for an op."""

    name: str
    body: Callable[..., Any]
    quant: Quant
    source: str


COMPOSITES: dict[str, Composite] = {}


def composite(name: str, *, quant: Quant, source: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a composite. Positional arguments are tensors (``None`` is left out of the call), keywords its configuration."""

    def declare(body: Callable[..., Any]) -> Callable[..., Any]:
        if name in COMPOSITES:
            raise RecordError(f"composite {name!r} is declared already")
        COMPOSITES[name] = Composite(name=name, body=body, quant=quant, source=source)

        @functools.wraps(body)
        def run(*operands: Any, **config: Any) -> Any:
            if not getattr(interp.current(), "keeps_calls", False):
                return body(*operands, **config)
            return _bind(name, body, operands, config)

        return run

    return declare


def _bind(name: str, body: Callable[..., Any], operands: tuple[Any, ...], config: dict[str, Any]) -> Any:
    given = [k for k, o in enumerate(operands) if o is not None]
    tensors = [as_tensor(operands[k]) for k in given]
    single: list[bool] = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        full: list[Any] = [None] * len(operands)
        for k, t in zip(given, inputs, strict=True):
            full[k] = t
        out = body(*full, **config)
        single.append(isinstance(out, Tensor))
        return [out] if single[-1] else list(out)

    with interp.at(""):
        staged = stage(flat, [t.aval for t in tensors])
    frozen = tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in config.items()))
    attrs = {"name": name, "body": staged.graph, "config": (("operands", tuple(given)), *frozen)}
    with_captures = [*tensors, *staged.operands()]
    results = interp.bind(control.call, with_captures, attrs)
    staged.land(results[len(results) - len(staged.writes) :])
    return results[0] if single[0] else tuple(results[: len(results) - len(staged.writes)])
