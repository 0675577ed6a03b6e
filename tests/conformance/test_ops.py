"""Every op of the registry, by its own samples and edges: NumPy, finite differences, loops, compiled C."""

import numpy as np
import pytest

import shohin.ops
import shohin.transforms  # noqa: F401  (rules for ops that hold graphs)
from shohin.core.op import DERIVED, NO_GRADIENT, REGISTRY, SHIPPED, Op
from shohin.ops.kinds import FAMILIES
from shohin.testing.compiled import compare
from shohin.testing.conformance import check_op, samples_of

OPS = {name: op for name, op in SHIPPED.items() if op.kind not in ("call", "control") and op.doc}
KINDS = sorted({op.kind for op in OPS.values()})


@pytest.mark.parametrize("name", OPS)
def test_op(name):
    assert [str(p) for p in check_op(OPS[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind):
    """All ops of a kind as one program."""
    assert [str(p) for p in compare([op for op in OPS.values() if op.kind == kind])] == []


def test_every_op_is_there():
    """The list is the registry: a new op is tested by existing, and has samples."""
    assert len(OPS) > 80
    assert [n for n, op in OPS.items() if not samples_of(op)] == []


def test_edges_are_named_where_formulas_break():
    """Every unary elementwise function on floats names edge values."""
    missing = [
        n for n, op in OPS.items()
        if op.kind == "elementwise" and len(op.operands) == 1 and not op.attrs
        and any(d.kind == "f" for d in op.dtypes.accepted[0]) and not op.edges
    ]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("name", OPS)
def test_every_field_says_something(name):
    """No gradient, no quantization, no batching: all said, none left open."""
    op = OPS[name]
    assert op.source.strip() and op.doc.strip()
    assert op.quant.kind in ("table", "share", "rule", "refuse", "clamp", "constant", "inline")
    assert op.quant.kind != "refuse" or op.quant.reason
    if isinstance(op.vjp, tuple) and op.operands and not op.variadic:
        assert all(r is NO_GRADIENT or callable(r) or repr(r) in ("DERIVED", "NO_REVERSE") for r in op.vjp)


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if isinstance(op.vjp, tuple) and DERIVED in op.vjp])
def test_a_derived_vjp_is_the_record_of_that_name(name):
    """conv2d's gradients are conv2d_dx and conv2d_dw: its relation transposed, as kernels claim them."""
    base, operands = FAMILIES[name]
    for k, operand in enumerate(operands):
        grad = REGISTRY[f"{base}_d{operand}"]
        s = samples_of(REGISTRY[base])[0]
        shapes = [a.shape for a in s.operands]
        relation = REGISTRY[base].relation(shapes, s.attrs)
        assert str(relation.transpose(k)) == str(grad.axes)


def test_samples_are_the_same_for_the_same_seed():
    for op in OPS.values():
        for a, b in zip(samples_of(op, 3), samples_of(op, 3), strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a.operands, b.operands, strict=True))


def test_control_ops_hold_graphs():
    control = {n: op for n, op in REGISTRY.items() if op.kind in ("call", "control")}
    assert set(control) == {"call", "scan", "cond", "while_loop"}
    assert all(isinstance(op, Op) and op.nest == "control" for op in control.values())
