"""Trees, tensors and records: structure in and out, value semantics, totality."""

# ruff: noqa: B007

from collections import namedtuple
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shohin as sh
from shohin.core import trees
from shohin.core.errors import AttrError, RecordError, ShapeError
from shohin.core.op import REGISTRY, Op
from shohin.core.trees import Paths

Point = namedtuple("Point", "x y")
leaves = st.floats(allow_nan=False)
nested = st.recursive(
    st.one_of(leaves, st.integers(), st.none(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(Point, inner, inner),
    ),
    max_leaves=12,
)


@given(nested)
def test_flatten_and_back(tree):
    flat, spec = trees.flatten(tree)
    assert trees.unflatten(spec, flat) == tree and spec.size == len(flat)
    again, same = trees.flatten(trees.unflatten(spec, flat))
    assert same == spec and hash(same) == hash(spec) and again == flat


@given(nested)
def test_map_keeps_the_structure(tree):
    assert trees.flatten(trees.map(lambda v: v * 2, tree))[1] == trees.flatten(tree)[1]


def test_map_over_other_structures_is_an_error():
    with pytest.raises(ValueError, match="different structures"):
        trees.map(lambda a, b: a, [1.0], (1.0,))


def test_paths():
    p = Paths({"a.weight": 1, "a.bias": 2, "b": 3})
    assert p.a.weight == 1 and p["a.bias"] == 2 and p.b == 3
    with pytest.raises(AttributeError, match=r"no path 'c'; there are a\.weight"):
        p.c
    assert isinstance(trees.map(lambda v: v, p), Paths)


# ------------------------------------------------------------------------------------------------ tensors


def test_tensors_have_value_semantics():
    x = sh.arange(5)
    y = x
    x[1] = 9
    assert x.tolist() == [0, 9, 2, 3, 4] and y is x
    z = x + 0
    z += 1
    z[0] = 7
    assert x.tolist() == [0, 9, 2, 3, 4]
    a = np.zeros(2, np.float32)
    t = sh.asarray(a)
    a[0] = 1
    n = t.numpy()
    n[1] = 5
    assert t.tolist() == [0, 0]


index = st.one_of(
    st.integers(-4, 3), st.slices(4), st.none(), st.just(Ellipsis), st.lists(st.integers(-4, 3), min_size=1, max_size=3)
)


@given(st.lists(index, min_size=1, max_size=3))
def test_indexing_is_numpys(items):
    if sum(i is Ellipsis for i in items) > 1 or sum(isinstance(i, list) for i in items) > 1:
        return
    a = np.arange(64).reshape(4, 4, 4)
    key = tuple(items)
    plain = tuple(np.asarray(i) if isinstance(i, list) else i for i in key)
    if any(isinstance(i, list) for i in key) and any(isinstance(i, int) for i in key):
        return  # NumPy counts an integer beside a list as an index array; the standard does not
    np.testing.assert_array_equal(sh.asarray(a)[key], a[plain])
    b, t = a.copy(), sh.asarray(a)
    b[plain] = -1
    t[key] = -1
    np.testing.assert_array_equal(t, b)


@pytest.mark.parametrize("op", ["+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", ">", ">="])
def test_operators_on_both_sides(op):
    a, b = np.float32([1, 2, 5]), np.float32([2, 2, 2])
    for left, right in (
        (sh.asarray(a), sh.asarray(b)),
        (sh.asarray(a), b),
        (a, sh.asarray(b)),
        (sh.asarray(a), 2.0),
        (2.0, sh.asarray(b)),
    ):
        found = eval(f"left {op} right")
        assert isinstance(found, sh.Tensor)
        np.testing.assert_allclose(found, eval(f"np.asarray(left) {op} np.asarray(right)"))


def test_a_tensor_is_made_by_asarray_only():
    with pytest.raises(TypeError, match=r"shohin\.asarray"):
        sh.Tensor([1])
    with pytest.raises(TypeError, match="not a regular array"):
        sh.asarray(object())


def test_the_other_direction():
    x = sh.asarray([1.5])
    assert float(x[0]) == 1.5 and int(sh.asarray(3)) == 3 and bool(sh.asarray(True)) and [10, 20][sh.asarray(1)] == 20
    assert np.from_dlpack(x).tolist() == [1.5] and x.device == "cpu" and len(sh.zeros((3, 2))) == 3
    for bad, message in (
        (lambda: float(sh.ones(2)), "without dims"),
        (lambda: len(sh.asarray(1.0)), "no length"),
        (lambda: [1][sh.asarray(0.0)], "integer tensor"),
    ):
        with pytest.raises(TypeError, match=message):
            bad()
    with pytest.raises(ShapeError, match=r"item\(\).*f32\[2\]"):
        sh.ones(2).item()
    with pytest.raises(ValueError, match=r"sh\.export"):
        x.to_device("gpu")


# ------------------------------------------------------------------------------------------------ records


@pytest.mark.parametrize("field", [f.name for f in fields(Op)])
def test_a_missing_field_fails_when_the_record_is_made(field):
    given = {f.name: getattr(REGISTRY["sin"], f.name) for f in fields(Op) if f.name != field}
    with pytest.raises(TypeError, match=field):
        Op(**given)


@pytest.mark.parametrize(
    "change, message",
    [({"doc": " "}, "doc is empty"), ({"axes": None}, "needs axes, or a shape rule"), ({"vjp": ()}, "1 operands but 0 vjp rules; write NO_GRADIENT"),
     ({"axes": "a b"}, "has no '->'")],
)  # fmt: skip
def test_a_record_that_is_not_total(change, message):
    with pytest.raises(RecordError, match=message):
        replace(REGISTRY["sin"], **change)


def test_attributes_are_checked_with_near_names():
    conv = REGISTRY["conv2d"]
    avals = [sh.core.op.Aval((1, 4, 4, 1), sh.float32), sh.core.op.Aval((1, 3, 3, 1), sh.float32)]
    good = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    assert conv.infer(avals, good)[0].shape == (1, 2, 2, 1)
    with pytest.raises(AttrError, match="no attribute 'strides'; did you mean 'stride'"):
        conv.infer(avals, {**good, "strides": 1})
    with pytest.raises(AttrError, match="the attribute 'groups' is missing"):
        conv.infer(avals, {k: v for k, v in good.items() if k != "groups"})
    with pytest.raises(ShapeError, match=r"takes 2 operands \(x, w\), got 1"):
        conv.infer(avals[:1], good)
