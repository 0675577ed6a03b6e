"""The graph IR: text and back over random graphs, control flow and constants; the verifier's refusals."""

# ruff: noqa: B023

from dataclasses import replace

import numpy as np
import pytest

import shohin as sh
from shohin.core.errors import AttrError, IRError, ShohinError
from shohin.core.graph import Graph, Node, Var, parse, to_text, verify, walk
from shohin.core.op import get
from shohin.ops.control import run_numpy
from tests.semantics.nesting import Cell, draw, nest, start


def graph_of(f, *args):
    return sh.trace(f)(*args).graph


def random_graph(seed):
    """Values of mixed dtypes through random ops, with constants and several results."""
    rng = np.random.default_rng(seed)

    def f(x, i):
        values, whole = [x, x * np.float32(rng.normal())], [i, i + int(rng.integers(1, 5))]
        for _ in range(int(rng.integers(1, 9))):
            a, b = (values[int(k)] for k in rng.integers(0, len(values), 2))
            values.append([
                lambda: a + b, lambda: sh.exp(-abs(a)), lambda: sh.where(a > b, a, b), lambda: sh.pad(a, [(0, 1), (1, 0)], 0.5)[:-1, 1:],
                lambda: sh.matmul(a, b, transpose_b=True) @ b, lambda: sh.flip(a, axis=1), lambda: a[::1, ::-1],
                lambda: a + np.linspace(0, 1, 4).astype(np.float32), lambda: a.astype(sh.float16).astype(sh.float32),
                lambda: a - a.max(axis=1, keepdims=True), lambda: sh.take(a, sh.argsort(a, axis=1)[0], axis=1), lambda: a * float("inf"),
            ][int(rng.integers(0, 12))]())  # fmt: skip
            whole.append(whole[-1] ^ 3)
        return values[-1], {"i": whole[-1], "bool": values[-1] > 0}

    return f


@pytest.mark.parametrize("seed", range(40))
def test_text_and_back(seed):
    g = graph_of(random_graph(seed), sh.asarray(np.linspace(-1, 1, 12).reshape(3, 4)), sh.arange(3))
    again = verify(parse(to_text(g)))
    assert to_text(again) == to_text(g) and again.digest == g.digest
    values = [np.linspace(-2, 1, 12).reshape(3, 4).astype(np.float32), np.arange(3)]
    for a, b in zip(run_numpy(g, values), run_numpy(again, values), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(0, 40, 3))
def test_text_and_back_with_control_flow(seed):
    """Bodies of scan, cond, checkpoint and composites, nested."""
    g = graph_of(lambda net, v: nest(draw(seed))(net, v), Cell(), sh.asarray(start(seed)))
    verify(g)
    assert to_text(parse(to_text(g))) == to_text(g)
    assert len(list(walk(g))) >= len(g.nodes)


def test_the_short_form_is_for_reading():
    g = graph_of(lambda x: x + np.arange(20, dtype=np.float32), np.zeros(20, np.float32))
    assert "<20 values, min 0.0, max 19.0>" in str(g) and "add(" in str(g) and "@ /add#0" in str(g)
    with pytest.raises(IRError, match=r"line \d+: expected data in full"):
        parse(str(g))


def test_places_do_not_change_the_digest():
    net = Cell()
    a = graph_of(lambda net, v: net(v), net, start(0))
    moved = replace(a, nodes=tuple(replace(n, place="elsewhere") for n in a.nodes), _digest=[])
    assert moved.digest == a.digest
    b = graph_of(lambda net, v: net(v) * 2.0, net, start(0))
    assert b.digest != a.digest


@pytest.mark.parametrize("value", ["it's", 'a "quote"', "back\\slash", "(", "}", "a,b", "", "  @ not a place", "ü"])
def test_strings_in_attributes(value):
    x = Var((2,), sh.float32)
    body = Graph((x,), ("x",), (), (), (x,))
    y = Var((2,), sh.float32)
    node = Node(
        get("call"),
        (x,),
        {"name": value, "body": body, "config": (("k", value), ("n", None), ("f", float("inf")))},
        (y,),
        "p",
    )
    g = Graph((x,), ("x",), (), (node,), (y,))
    again = parse(to_text(g))
    assert again.nodes[0].attrs["name"] == value and to_text(again) == to_text(g)


# ---------------------------------------------------------------------------------------------- the verifier

X, Y, Z = (Var((2,), sh.float32) for _ in range(3))
ADD = Node(get("add"), (X, X), {}, (Y,), "here/add#0")


def test_a_good_graph_verifies():
    assert verify(Graph((X,), ("x",), (), (ADD,), (Y,)))


@pytest.mark.parametrize(
    "graph, message",
    [
        (Graph((X, X), ("a", "b"), (), (), (X,)), "input: a value is defined twice"),
        (Graph((X,), ("a", "b"), (), (), (X,)), "1 inputs but 2 names"),
        (
            Graph((X,), ("x",), (), (replace(ADD, operands=(X, Z)),), (Y,)),
            r"add @ here/add#0: an operand is used before it is defined",
        ),
        (Graph((X,), ("x",), (), (ADD, ADD), (Y,)), r"add @ here/add#0: a value is defined twice"),
        (Graph((X,), ("x",), (), (ADD,), (Z,)), "an output is not defined"),
        (
            Graph((X,), ("x",), ((Z, np.zeros(3, np.float32)),), (), (X,)),
            r"a constant is f32\[2\], its data float32\[3\]",
        ),
        (
            Graph((X,), ("x",), (), (replace(ADD, results=(Var((3,), sh.float32),)),), (X,)),
            r"results are f32\[3\], its record says f32\[2\]",
        ),
        (Graph((X,), ("x",), (), (replace(ADD, attrs={"axis": 1}),), (X,)), r"add: no attribute 'axis'"),
        (
            Graph((X,), ("x",), (), (replace(ADD, op=get("bitwise_and")),), (X,)),
            r"bitwise_and: operand x1 is float32, expected one of",
        ),
    ],
)
def test_what_does_not_verify(graph, message):
    with pytest.raises(ShohinError, match=message):
        verify(graph)


@pytest.mark.parametrize(
    "text, message",
    [
        ("graph(%0 x: f32[2]) {\n  return %1\n}", r"line 2: expected a defined value instead of %1"),
        ("graph(%0 x: f99[2]) {\n  return %0\n}", r"line 1: expected a dtype"),
        (
            "graph(%0 x: f32[2]) {\n  %0: f32[2] = add(%0, %0)  @ p\n  return %0\n}",
            r"line 2: expected a fresh value instead of %0",
        ),
        ("graph(%0 x: f32[2]) {\n  %1: f32[2] = const 0x00\n  return %1\n}", r"line 2: expected data for f32\[2\]"),
        ("graph() {\n  return \n} more", "expected the end"),
        ("nonsense", "line 1"),
    ],
)
def test_what_does_not_parse(text, message):
    with pytest.raises(IRError, match=message):
        parse(text)


def test_an_unknown_op_names_near_ones():
    with pytest.raises(AttrError, match="no op 'ad'; near: .*add"):
        parse("graph(%0 x: f32[2]) {\n  %1: f32[2] = ad(%0, %0)  @ p\n  return %1\n}")


def test_attributes_are_frozen_plain_data():
    node = replace(ADD, attrs={"x": [1]})
    with pytest.raises(IRError, match="attribute of type list"):
        to_text(Graph((X,), ("x",), (), (node,), (Y,)))
