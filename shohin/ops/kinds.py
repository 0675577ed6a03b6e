"""Kinds: what follows for an op from its kind, so that a record states facts only.

``elementwise``, ``reduction``, ``movement``, ``contraction``, ``generator`` and ``own`` fill an ``Op`` and return a
``Function``: the record together with the Python callable that promotes, broadcasts and binds it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import BuiltinFunctionType
from typing import Any

import numpy as np
from ml_dtypes import iinfo

from shohin.core import dtypes, interp
from shohin.core.axes import Shape, parse
from shohin.core.dtypes import DType
from shohin.core.errors import DtypeError, RecordError, ShapeError
from shohin.core.op import (
    DERIVED,
    EXACT,
    NO_GRADIENT,
    TABLE,
    Attr,
    Aval,
    Dtypes,
    Op,
    Pad,
    Quant,
    Sample,
    Tol,
    get,
    register,
)
from shohin.core.tensor import Tensor, as_tensor
from shohin.ops import qlinear, reference

Array = np.ndarray[Any, Any]
Attrs = Mapping[str, Any]


_FUNCTIONS: dict[str, Function] = {}


class Function:
    """A primitive as users call it. ``op`` is its record."""

    def __init__(self, op: Op, call: Callable[..., Any] | None = None) -> None:
        self.op = op
        self._call = call
        self.__name__, self.__doc__ = op.name, f"{op.doc}\n\nSource: {op.source}"
        _FUNCTIONS[op.name] = self

    def __reduce__(self) -> Any:
        """A copy, or what a pickle is read as, is the function itself: it is its record, which there is once."""
        return _function, (self.op.name,)

    def __call__(self, *operands: Any, **attrs: Any) -> Any:
        if self._call is not None:
            return self._call(*operands, **attrs)
        results = interp.bind(self.op, [as_tensor(o) for o in operands], attrs)
        return results[0] if len(results) == 1 else results

    def __repr__(self) -> str:
        return repr(self.op)


def _function(name: str) -> Function:
    return _FUNCTIONS[name]


# ------------------------------------------------------------------------------------- promotion, broadcast


def coerce(*values: Any) -> list[Tensor]:
    """Tensors of one dtype, as the array API promotes them; Python numbers are weak."""
    pairs: list[tuple[DType, bool]] = []
    for v in values:
        if isinstance(v, Tensor):
            pairs.append((v.dtype, v.weak))
        elif isinstance(v, np.ndarray | np.generic):
            pairs.append((v.dtype, False))
        else:
            pairs.append((dtypes.of_scalar(v), not isinstance(v, bool) or any(isinstance(o, Tensor) and o.dtype == dtypes.bool_ for o in values)))
    dtype = dtypes.promote(*pairs)
    return [_cast(v, dtype) for v in values]


def _cast(value: Any, dtype: DType) -> Tensor:
    if isinstance(value, Tensor):
        if value.dtype == dtype:
            return value
        return interp.bind(CAST[0], [value], {"dtype": dtype})[0]
    if isinstance(value, np.ndarray | np.generic):
        return _cast(as_tensor(value), dtype)
    if dtype in dtypes.INTEGER and isinstance(value, int) and not isinstance(value, bool):
        info = iinfo(dtype)
        if not info.min <= value <= info.max:
            raise DtypeError(f"the Python number {value} does not fit {dtype.name}; write astype(...) on the tensor")
    return interp.current().constant(np.asarray(value).astype(dtype))


CAST: list[Op] = []
BROADCAST: list[Op] = []


def broadcast(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape: sizes of 1 and missing leading dims stretch."""
    shapes = [t.shape for t in tensors]
    if all(s == shapes[0] for s in shapes):
        return list(tensors)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ShapeError(f"shapes {', '.join(map(str, shapes))} do not broadcast") from error
    return [t if t.shape == shape else interp.bind(BROADCAST[0], [t], {"shape": shape})[0] for t in tensors]


def dim_of(axis: int, ndim: int, name: str) -> int:
    """``axis`` as a dim of ``ndim``, counted from the front; one that is not there is an error.

    >>> dim_of(-1, 3, "sort: axis")
    2
    """
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{name} {axis} is out of range for {ndim} dims")
    return axis % ndim


Axis = int | Sequence[int] | None


def normalize_axis(axis: Axis, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """``axis`` as a sorted tuple of non-negative dims; ``None`` means all.

    >>> normalize_axis((-1, 0), 3)
    (0, 2)
    """
    given = tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    for a in given:
        if not -ndim <= a < ndim:
            raise ShapeError(f"{name} {a} is out of range for {ndim} dims")
    dims = tuple(sorted(a % ndim for a in given))
    if len(set(dims)) != len(dims):
        raise ShapeError(f"{name} {given} names a dim twice")
    return dims


def reduced(op: Op, x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """A reduction as users call it: over one dim, several or all, which vanish or stay as 1."""
    tensor = as_tensor(x)
    dims = normalize_axis(axis, tensor.ndim, f"{op.name}: axis")
    plain = op.body is itself and op.fin is None
    out = interp.bind(op, [tensor], {"axis": dims})[0] if dims or not plain else tensor
    shape = tuple(1 if i in dims else n for i, n in enumerate(tensor.shape))
    return out.reshape(shape) if keepdims and out.shape != shape else out


def itself(x: Any) -> Any:
    """The body of a plain fold."""
    return x


def names(rank: int, prefix: str = "a") -> list[str]:
    return [f"{prefix}{i}" for i in range(rank)]


# --------------------------------------------------------------------------------------------- dtype rules


def same_dtype(accepted: frozenset[DType], count: int, results: int = 1) -> Dtypes:
    """All operands and results of one dtype; 16-bit floats compute in float32."""
    return Dtypes(
        accepted=(accepted,) * max(count, 1), same=True, result=lambda kinds, attrs: (kinds[0],) * results,
        compute=compute_dtype, accumulator=compute_dtype,
    )  # fmt: skip


def to_dtype(accepted: frozenset[DType], count: int, dtype: DType) -> Dtypes:
    return Dtypes(accepted=(accepted,) * count, same=True, result=lambda kinds, attrs: (dtype,),
                  compute=compute_dtype, accumulator=compute_dtype)  # fmt: skip


def compute_dtype(dtype: DType) -> DType:
    """float16 and bfloat16 compute in float32 and round once."""
    return dtypes.float32 if dtype in (dtypes.float16, dtypes.bfloat16) else dtype


def in_compute(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function evaluated in the compute dtype of its operands, rounded once."""

    def run(*arrays: Array, **attrs: Any) -> Any:
        narrow = [a.dtype for a in arrays if a.dtype in (dtypes.float16, dtypes.bfloat16)]
        if not narrow:
            return function(*arrays, **attrs)
        out = function(*(a.astype(np.float32) if a.dtype in narrow else a for a in arrays), **attrs)
        fix = lambda o: o.astype(narrow[0]) if o.dtype == np.float32 else o
        return tuple(map(fix, out)) if isinstance(out, tuple) else fix(out)

    return run


# ------------------------------------------------------------------------------------------------- kinds


def _operand_count(name: str, body: Callable[..., Any], attrs: Sequence[str] = (), optional: Sequence[str] = ()) -> int:
    """How many operands a body takes: its parameters without default that are not attributes."""
    if isinstance(body, BuiltinFunctionType | np.ufunc | type) or not callable(body):
        raise RecordError(
            f"primitive {name!r}: body is {getattr(body, '__name__', body)!r}, which is not written in Python; write an expression "
            f"of its operands, such as body=lambda x: abs(x) or body=lambda x: sh.loop.exp(x)"
        )
    found = inspect.signature(body).parameters.values()
    every = any(p.kind is p.VAR_KEYWORD for p in found)
    missing = [a for a in attrs if a not in {p.name for p in found} and not every]
    if missing:
        raise RecordError(f"primitive {name!r}: body does not take the attribute {', '.join(missing)}; write it as a parameter of body, numpy and vjp")
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in (*attrs, *optional) for p in found)


def _samples_elementwise(count: int, accepted: frozenset[DType], low: float, high: float, attrs: Mapping[str, Any] = {}) -> Callable[[np.random.Generator], list[Sample]]:
    halved = {a: v / 2 if isinstance(v, float) else v for a, v in attrs.items()}

    def samples(rng: np.random.Generator) -> list[Sample]:
        dtype = next(d for d in (dtypes.float32, dtypes.int32, dtypes.bool_, dtypes.uint32) if d in accepted)

        def draw(shape: Shape) -> Array:
            if dtype == dtypes.bool_:
                return rng.random(shape) < 0.5
            if dtype in dtypes.INTEGER:
                return rng.integers(max(int(low), 0 if dtype in dtypes.UNSIGNED else -9), max(int(high), 9), shape).astype(dtype)
            return rng.uniform(low, high, shape).astype(dtype)

        return [Sample(tuple(draw(s) for _ in range(count)), a) for s, a in (((5,), attrs), ((3, 4), halved), ((), attrs))]

    return samples


def elementwise(name: str, *, numpy: Callable[..., Any], body: Callable[..., Any], vjp: Any, edges: Sequence[Any] = (),
                source: str, doc: str = "", operands: Sequence[str] | None = None, dtypes_: Dtypes | None = None,
                accepted: frozenset[DType] = dtypes.FLOATING, quant: Quant | None = None, tol: Tol | None = None,
                domain: tuple[float, float] = (-3.0, 3.0), samples: Callable[..., Any] | None = None,
                attrs: Mapping[str, Any] = {}) -> Function:  # fmt: skip
    """An op of one scalar expression on every element. ``body`` takes and gives loop-IR expressions; ``vjp`` is one
    rule an operand, ``rule(*operands, result, cotangent)`` (one callable will do for a unary op).

    ``attrs`` holds static attributes with their defaults, ``{"slope": 0.01}``: keywords of the function, and of ``numpy``,
    ``body`` and each rule. Samples take the default, and half of it where it is a float.
    """
    defaults = dict(attrs)
    if any(isinstance(v, Attr) for v in defaults.values()):
        raise RecordError(f"primitive {name!r}: attrs of an elementwise op holds defaults, such as {{'slope': 0.01}}")
    count = _operand_count(name, body, tuple(defaults))
    rules = vjp if isinstance(vjp, tuple) else (vjp,) * count
    op = register(Op(
        name=name, kind="elementwise", doc=doc or f"{name}, element by element.", source=source,
        operands=tuple(operands or names(count, "x")) if count > 1 else ("x",), results=("y",), attrs={a: Attr(type="static") for a in defaults},
        dtypes=dtypes_ or same_dtype(accepted, count),
        axes=lambda shapes, attrs: _pointwise(name, shapes), shape=None, body=body, combiner=None, identity=None, order=None,
        pad=None, fin=None, numpy=in_compute(numpy), vjp=rules, nest="derived", batch=None, alias=True,
        quant=quant or (TABLE if count == 1 else Quant.refuse("a function of several tensors has no table")),
        tol=tol or Tol(4), samples=samples or _samples_elementwise(count, (dtypes_.accepted[0] if dtypes_ else accepted), *domain, defaults),
        edges=tuple(edges),
    ))  # fmt: skip
    return Function(op, lambda *values, **given: interp.bind(op, broadcast(*coerce(*values)), {**defaults, **given})[0])


def _pointwise(name: str, shapes: Sequence[Shape]) -> str:
    if any(s != shapes[0] for s in shapes):
        raise ShapeError(f"{name}: operands have shapes {', '.join(map(str, shapes))}; the graph's ops do not broadcast")
    dims = " ".join(names(len(shapes[0])))
    return f"{', '.join([dims] * len(shapes))} -> {dims}"


def reduction(name: str, *, combiner: str, identity: Callable[[DType], Any], order: str | None = None, numpy: Callable[..., Any],
              vjp: Any, accepted: frozenset[DType], quant: Quant, tol: Tol, source: str, doc: str,
              accumulator: Callable[[DType], DType] = compute_dtype, body: Callable[..., Any] | None = None,
              fin: Callable[..., Any] | None = None, samples: Callable[..., Any] | None = None) -> Function:  # fmt: skip
    """A fold over dims: ``f(x, axis=None, keepdims=False)``. The record's ``axis`` is a sorted tuple; its dims vanish.

    ``body`` makes the term of an element (itself without one; for ``fma`` two factors whose product is added), ``fin`` the
    result of the accumulator: with combiner add, ``body=lambda x: x * x`` and ``fin=lambda s: loop.sqrt(s)`` are the
    norm. Both may take ``axis`` too. ``numpy(x, axis)`` is the whole of it. The order is the design's: ``lanes16`` when
    the innermost dim is reduced, ``chunks8`` otherwise (``fold_order``).
    """
    if body is not None and _operand_count(name, body, optional=("axis",)) != 1:
        raise RecordError(f"primitive {name!r}: the body of a reduction takes one element, body=lambda x: x * x")

    def axes(shapes: Sequence[Shape], attrs: Attrs) -> str:
        dims = names(len(shapes[0]))
        kept = [d for i, d in enumerate(dims) if i not in attrs["axis"]]
        return f"{' '.join(dims)} -> {' '.join(kept)}"

    def drawn(rng: np.random.Generator) -> list[Sample]:
        draw = lambda *s: (rng.random(s) < 0.5) if dtypes.float32 not in accepted else rng.uniform(-2, 2, s).astype(np.float32)
        return [Sample((draw(4, 5),), {"axis": (1,)}), Sample((draw(4, 5, 3),), {"axis": (0, 1)}),
                Sample((draw(37, 3),), {"axis": (0,)}), Sample((draw(3, 35),), {"axis": (0, 1)}), *one_sided(draw(3, 4))]  # fmt: skip

    def one_sided(x: Array) -> list[Sample]:
        """All below zero, all above: an identity that is a value would win there."""
        return [] if x.dtype == dtypes.bool_ else [Sample((s * np.abs(x) + s,), {"axis": (1,)}) for s in (x.dtype.type(-1), x.dtype.type(1))]

    op = register(Op(
        name=name, kind="reduction", doc=doc, source=source, operands=("x",), results=("y",),
        attrs={"axis": Attr(type="dims")}, dtypes=Dtypes(accepted=(accepted,), same=True, result=lambda kinds, attrs: (kinds[0],),
        compute=compute_dtype, accumulator=accumulator), axes=axes, shape=None, body=body or itself, combiner=combiner,
        identity=identity, order=order, pad=None, fin=fin, numpy=in_compute(numpy), vjp=(vjp,), nest="derived", batch=None,
        alias=False, quant=quant, tol=tol, samples=samples or drawn, edges=(),
    ))  # fmt: skip
    return Function(op, lambda x, /, axis=None, keepdims=False: reduced(op, x, axis, keepdims))


def fold_order(rank: int, axis: Sequence[int]) -> str:
    """The order of a reduction of ``axis`` among ``rank`` dims (core.nest): innermost dim -> lanes16, else chunks8."""
    return "lanes16" if rank - 1 in axis else "chunks8"


SHARE = Quant("share")


def movement(name: str, *, attrs: Mapping[str, Attr], numpy: Callable[..., Any], vjp: Any, samples: Callable[..., Any], source: str,
             doc: str, axes: Any = None, shape: Callable[..., Any] | None = None, nest: Any = "derived", pad: Pad | None = None,
             operands: Sequence[str] = ("x",), accepted: frozenset[DType] = dtypes.ANY, quant: Quant = SHARE,
             batch: Callable[..., Any] | None = None) -> Function:  # fmt: skip
    """An op that moves elements and computes nothing. ``nest`` is "derived" from ``axes``, or a function
    ``(coords, load, operand avals, result aval, attrs) -> Expr`` that says which element stands at ``coords``."""
    op = register(Op(
        name=name, kind="movement", doc=doc, source=source, operands=tuple(operands), results=("y",), attrs=attrs,
        dtypes=Dtypes(accepted=(accepted,), same=True, result=lambda kinds, a: (kinds[0],), compute=lambda d: d, accumulator=lambda d: d),
        axes=axes, shape=shape, body=(lambda x: x) if nest == "derived" else None, combiner=None, identity=None, order=None, pad=pad, fin=None,
        numpy=numpy, vjp=vjp if callable(vjp) and operands[-1].startswith("*") else (vjp,) if not isinstance(vjp, tuple) else vjp,
        nest=nest, batch=batch, alias=False, quant=quant, tol=EXACT, samples=samples, edges=(),
    ))  # fmt: skip
    return Function(op)


def contraction(name: str, *, axes: Any, operands: tuple[str, str], attrs: Mapping[str, Attr], samples: Callable[..., Any], source: str,
                doc: str, quant: Quant, transposed_order: tuple[str, str] = ("sequence", "chunks8"), instead: Any = None) -> Function:  # fmt: skip
    """A sum of products, linear in both operands, as a family of three records: the op and its two transposes
    ``<name>_d<operand>``, whose relation follows from the op's. ``transposed_order`` gives their orders of summation. With the
    rule Q2 and no ``quant.integer`` of its own, a fourth one sums its integers: ``q<name>``. ``instead``: ``Quant.instead`` of the
    first transpose."""
    accepted = dtypes.FLOATING | {dtypes.int8, dtypes.int16, dtypes.int32, dtypes.uint8}
    wide = lambda d: dtypes.int32 if d in dtypes.INTEGER else compute_dtype(d)
    kinds = Dtypes(accepted=(accepted, accepted), same=False, compute=compute_dtype, accumulator=wide,
                   result=lambda found, a: (product_dtype(name, found),))  # fmt: skip

    def record(full: str, relation: Any, slots: tuple[str, str], extra: Mapping[str, Attr], order: str, text: str, draw: Callable[..., Any], q: Quant) -> Op:
        return register(Op(
            name=full, kind="contraction", doc=text, source=source, operands=slots, results=("y",), attrs={**attrs, **extra},
            dtypes=kinds, axes=relation, shape=None, body=lambda x, w, **attrs: (x, w), combiner="fma", identity=lambda d: d.type(0), order=order,
            pad=Pad(0, "skip"), fin=None, numpy=in_compute(_evaluator(full)), vjp=(DERIVED, DERIVED), nest="derived", batch=None, alias=False,
            quant=q, tol=Tol(64, 1e-5), samples=draw, edges=(),
        ))  # fmt: skip

    own: list[str | None] = []  # of the fourth record, which is made of this one
    if quant.rule == "Q2 contraction" and quant.integer is None:
        quant = replace(quant, integer=lambda given: own[0] and (own[0], given))
    base = record(name, axes, operands, {}, "sequence", doc, samples, quant)
    relation = lambda shapes, a: parse(axes) if isinstance(axes, str) else parse(axes(shapes, a))
    if not isinstance(axes, str):
        raise RecordError(f"contraction {name}: the relation must be one text, so that its transposes are too")
    for k, operand in enumerate(operands):
        slots = tuple("g" if i == k else o for i, o in enumerate(operands))
        grad = relation((), {}).transpose(k)
        record(f"{name}_d{operand}", grad, slots, {"shape": Attr(type="shape", operand=-1)}, transposed_order[k],  # type: ignore[arg-type]
               f"The gradient of {name} with respect to {operand}: its relation transposed.",
               _transposed_samples(base, k, samples), Quant.refuse("a gradient runs in training only", instead=None if k else instead))  # fmt: skip
    if quant.rule == "Q2 contraction":
        own.append(qlinear.integer_record(base))
    FAMILIES[name] = (name, operands)
    for operand in operands:
        FAMILIES[f"{name}_d{operand}"] = (name, operands)
    return Function(base)


FAMILIES: dict[str, tuple[str, tuple[str, str]]] = {}
"""Op -> (base op, its operands): the three members of a contraction's family."""


def product_dtype(name: str, found: tuple[DType, ...]) -> DType:
    if all(d in dtypes.INTEGER for d in found):
        return dtypes.int32
    if found[0] != found[1]:
        raise DtypeError(f"{name}: operands have dtypes {found[0].name}, {found[1].name}; write .astype(...) on one of them")
    return found[0]


def _evaluator(name: str) -> Callable[..., Any]:
    def run(x: Array, w: Array, **attrs: Any) -> Any:
        return reference.contract(get(name).solve((x.shape, w.shape), attrs), (x, w), np.dtype(product_dtype(name, (x.dtype, w.dtype))))

    return run



def _transposed_samples(base: Op, k: int, samples: Callable[..., Any]) -> Callable[..., Any]:
    def draw(rng: np.random.Generator) -> list[Sample]:
        found = []
        for s in samples(rng):
            out = base.infer([Aval(a.shape, a.dtype) for a in s.operands], s.attrs)[0]
            ops = list(s.operands)
            shape = ops[k].shape
            ops[k] = rng.uniform(-1, 1, out.shape).astype(out.dtype)
            found.append(Sample(tuple(ops), {**s.attrs, "shape": shape}))
        return found

    return draw


def generator(name: str, *, attrs: Mapping[str, Attr], shape: Callable[..., Any], dtype: Callable[[Attrs], DType], numpy: Callable[..., Any],
              nest: Callable[..., Any], samples: Callable[..., Any], source: str, doc: str, tol: Tol = EXACT) -> Function:  # fmt: skip
    """An op without operands: its elements follow from where they stand."""
    op = register(Op(
        name=name, kind="generator", doc=doc, source=source, operands=(), results=("y",), attrs=attrs,
        dtypes=Dtypes(accepted=(dtypes.ANY,), same=False, result=lambda kinds, a: (dtype(a),), compute=lambda d: d, accumulator=lambda d: d),
        axes=None, shape=shape, body=None, combiner=None, identity=None, order=None, pad=None, fin=None, numpy=numpy, vjp=(), nest=nest,
        batch=None, alias=False, quant=Quant("constant"), tol=tol, samples=samples, edges=(),
    ))  # fmt: skip
    return Function(op)


__all__ = ["DERIVED", "NO_GRADIENT", "Function", "broadcast", "coerce", "contraction", "elementwise", "fold_order", "generator", "movement", "names", "reduction"]
