"""Every operator of PyTorch that is claimed, on recorded programs and PyTorch's results; no torch is needed (``aten_record`` writes them)."""

import numpy as np
import pytest

from shohin.interop.foreign import Foreign, Input, Node
from shohin.interop.importing import bring_in
from shohin.interop.pytorch.extents import NUMBERS
from shohin.interop.pytorch.rules import TABLE
from shohin.interop.pytorch.table import Extent, Operand
from tests.interop.recorded import load

PROGRAMS = load()
OUT = {
    "conv2d circular, core": "written into an empty tensor, part by part", "instance norm, core": "a batch norm by the statistics of the batch",
    "downsample smooth, core": "an overload that only programs have that were taken apart before", "downsample cubic smooth, core": "likewise",
}  # fmt: skip
"""Programs taken apart by PyTorch before they came here, which hold operators that are not claimed; whole they are."""


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in OUT])
def test_equal_to_pytorch(name):
    foreign, inputs, results = PROGRAMS[name]
    net = bring_in(foreign, TABLE, "a record", check=inputs, shape=None, fixed=None, run=lambda given: results)
    got = net(*inputs.values())
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(results)
    for a, b in zip(got, results):
        mine = a.numpy()
        assert (mine.dtype, mine.shape) == (b.dtype, b.shape)
        if b.dtype.kind == "f":
            np.testing.assert_allclose(mine, b, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(b).max(initial=0))))
        else:
            assert np.array_equal(mine, b)


def test_what_is_left_out_is_not_claimed():
    assert all({node.op for node in PROGRAMS[name][0].nodes} - set(TABLE) for name in OUT)


def test_every_operator_has_a_program():
    """But for the arithmetic of extents, which is Python's own (below)."""
    assert set(TABLE) - {node.op for foreign, _, _ in PROGRAMS.values() for node in foreign.nodes} - set(NUMBERS) - {"sym_numel.default"} == set()


@pytest.mark.parametrize("name, values, wanted", [
    ("operator.sub", (7, 2), 5), ("operator.add", (7, 2), 9), ("operator.mul", (7, 2), 14), ("operator.floordiv", (7, 2), 3), ("operator.mod", (7, 2), 1), ("operator.truediv", (7, 2), 3.5),
    ("operator.neg", (7,), -7), ("operator.pow", (7, 2), 49), ("operator.le", (7, 2), False), ("operator.lt", (7, 2), False), ("operator.ge", (7, 2), True), ("operator.gt", (7, 2), True),
    ("operator.eq", (7, 2), False), ("operator.ne", (7, 2), True), ("math.ceil", (2.5,), 3), ("math.floor", (2.5,), 2), ("math.trunc", (-2.5,), -2), ("torch.sym_float", (7,), 7.0),
    ("torch.sym_int", (2.5,), 2), ("torch.sym_max", (7, 2), 7), ("torch.sym_min", (7, 2), 2), ("torch.sym_not", (True,), False), ("torch.sym_sqrt", (9,), 3.0),
])  # fmt: skip
def test_extents(name, values, wanted):
    """A number that follows from a shape, used as a fill."""
    made = Node(op=name, inputs=(), outputs=("n",), attrs={"args": values, "kwargs": {}}, place="")
    fill = Node(op="full.default", inputs=("n",), outputs=("y",), attrs={"args": ((2,), Extent(0)), "kwargs": {}}, place="")
    net = bring_in(Foreign(inputs=(), constants={}, nodes=(made, fill), outputs=("y",), version=0), TABLE, "by hand", check=None, shape=None, fixed=None, run=lambda given: [])
    assert net().tolist() == [wanted, wanted]


def test_the_number_of_elements():
    x = Input(name="x", shape=(2, 3), dtype=np.dtype("float32"))
    nodes = (Node(op="sym_numel.default", inputs=("x",), outputs=("n",), attrs={"args": (Operand(0),), "kwargs": {}}, place=""),
             Node(op="mul.Tensor", inputs=("x", "n"), outputs=("y",), attrs={"args": (Operand(0), Extent(1)), "kwargs": {}}, place=""))  # fmt: skip
    net = bring_in(Foreign(inputs=(x,), constants={}, nodes=nodes, outputs=("y",), version=0), TABLE, "by hand", check=None, shape=None, fixed=None, run=lambda given: [])
    assert net(np.ones((2, 3), np.float32)).tolist() == [[6.0] * 3] * 2
