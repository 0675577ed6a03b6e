"""The public way to a primitive of one's own: one record, total, and every interpreter takes it from there.

``primitive(...)`` takes the whole record (``core.op.Op``); ``primitive.elementwise``, ``reduction``, ``movement``,
``contraction``, ``generator`` fill in what follows from the kind. Each returns the function that users call.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from shohin.core.errors import RecordError
from shohin.core.op import (
    DERIVED,
    EXACT,
    NO_GRADIENT,
    NO_REVERSE,
    REGISTRY,
    SHARE,
    SHIPPED,
    TABLE,
    Attr,
    Dtypes,
    Op,
    Pad,
    Quant,
    Sample,
    Tol,
    register,
)
from shohin.ops import kinds
from shohin.ops.kinds import Function

_KINDS = ("elementwise", "reduction", "movement", "contraction", "generator")


class Primitive:
    """``sh.primitive``: callable with a whole record, one method a kind, and the words that records are written in.

    >>> import numpy as np
    >>> twice = primitive.elementwise("doc_twice", numpy=lambda x: x + x, body=lambda x: x + x,
    ...                               vjp=lambda x, y, g: g + g, edges=(0.0,), source="arithmetic")
    >>> twice(np.float32([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """

    Attr, Dtypes, Pad, Quant, Sample, Tol = Attr, Dtypes, Pad, Quant, Sample, Tol
    EXACT, SHARE, TABLE = EXACT, SHARE, TABLE
    DERIVED, NO_GRADIENT, NO_REVERSE = DERIVED, NO_GRADIENT, NO_REVERSE

    def __call__(self, **record: Any) -> Function:
        """A primitive from all fields of ``Op``; none has a default, a missing or unknown one is a ``RecordError``."""
        name = record.get("name", "?")
        wanted = [f.name for f in fields(Op)]
        missing = [f for f in wanted if f not in record]
        unknown = [f for f in record if f not in wanted]
        if missing or unknown:
            parts = [f"misses {', '.join(missing)}"] if missing else []
            parts += [f"has no field {', '.join(unknown)}"] if unknown else []
            raise RecordError(
                f"primitive {name!r}: the record {' and '.join(parts)}; write every field (None, NO_GRADIENT or "
                f"Quant.refuse(reason) where it does not apply), or use one of {', '.join(_KINDS)}"
            )
        _free(name)
        return _users(lambda: Function(register(Op(**record))))

    def elementwise(self, name: str, **facts: Any) -> Function:
        """One scalar expression on every element; facts as in ``kinds.elementwise``."""
        _whole(kinds.elementwise, name, facts, ("numpy", "body", "vjp", "source"))
        return _users(lambda: kinds.elementwise(name, **facts))

    def reduction(self, name: str, **facts: Any) -> Function:
        """A fold over dims; facts as in ``kinds.reduction``."""
        _whole(kinds.reduction, name, facts, ("combiner", "identity", "numpy", "vjp", "accepted", "quant", "tol", "source", "doc"))
        return _users(lambda: kinds.reduction(name, **facts))

    def movement(self, name: str, **facts: Any) -> Function:
        """Elements that move; facts as in ``kinds.movement``."""
        _whole(kinds.movement, name, facts, ("attrs", "numpy", "vjp", "samples", "source", "doc"))
        return _users(lambda: kinds.movement(name, **facts))

    def contraction(self, name: str, **facts: Any) -> Function:
        """A sum of products with both its transposes; facts as in ``kinds.contraction``."""
        _whole(kinds.contraction, name, facts, ("axes", "operands", "attrs", "samples", "source", "doc", "quant"))
        return _users(lambda: kinds.contraction(name, **facts))

    def generator(self, name: str, **facts: Any) -> Function:
        """Elements from their positions; facts as in ``kinds.generator``."""
        _whole(kinds.generator, name, facts, ("attrs", "shape", "dtype", "numpy", "nest", "samples", "source", "doc"))
        return _users(lambda: kinds.generator(name, **facts))

    def __repr__(self) -> str:
        return f"<shohin.primitive: {', '.join(_KINDS)}, or a whole record>"


def _users(make: Callable[[], Function]) -> Function:
    """What ``make`` registers is the user's: it may say something else in the next process, under the same name."""
    before = set(REGISTRY)
    made = make()
    for name in set(REGISTRY) - before:
        SHIPPED.pop(name)
    return made


def _free(name: str) -> None:
    if name in REGISTRY:
        raise RecordError(
            f"primitive {name!r}: there is an op of that name already ({REGISTRY[name].doc}); choose another"
        )


def _whole(kind: Callable[..., Function], name: str, facts: dict[str, Any], needed: tuple[str, ...]) -> None:
    missing = [f for f in needed if f not in facts]
    if missing:
        raise RecordError(
            f"primitive {name!r}: missing {', '.join(missing)}; a record has no default that hides a decision"
        )
    known = list(inspect.signature(kind).parameters)[1:]
    for fact in facts:
        if fact not in known:
            near = difflib.get_close_matches(fact, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise RecordError(f"primitive {name!r}: {kind.__name__} has no {fact!r}{hint}")
    _free(name)


primitive = Primitive()

__all__ = ["Primitive", "primitive"]
