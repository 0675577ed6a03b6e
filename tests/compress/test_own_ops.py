"""A contraction, a pool and a structural op that a user declares quantize by their records alone."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize, integers, lower
from shohin.compress.fake import TERMS
from shohin.core.errors import QuantizationError, RecordError
from shohin.core.op import REGISTRY, Aval
from shohin.ops import kinds

P = sh.primitive


def draw(*shapes, **attrs):
    return lambda rng: [P.Sample(tuple(rng.uniform(-1, 1, s).astype(np.float32) for s in shapes), attrs)]


def conv1d(name, weight, shape):
    return P.contraction(
        name, axes=f"n (l*stride+k~padding) (g i), {weight} -> n l (g o) | g=groups", operands=("x", "w"),
        attrs={"stride": P.Attr(type="static"), "padding": P.Attr(type="static"), "groups": P.Attr(type="extent", axis="g")},
        samples=draw((2, 9, 4), shape, stride=2, padding=(1, 1), groups=2), source="this test", doc="Windows of a series.",
        quant=P.Quant("rule", rule="Q2 contraction"),
    )  # fmt: skip


FIRST, LAST = conv1d("own_conv1d", "(g o) k i", (6, 3, 2)), conv1d("own_conv1d_last", "k i (g o)", (3, 2, 6))
WINDOW = {"kernel": P.Attr(type="static"), "stride": P.Attr(type="static"), "padding": P.Attr(type="static")}


def cut(x, kernel, stride, padding, fill):
    padded = np.pad(x, ((0, 0), padding, (0, 0)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=1)[:, ::stride]


def window1d(name, combiner, identity, pad, reduce, quant):
    """A record without gradient: evaluation and deployment need none."""
    return P(
        name=name, kind="window", doc=f"The {combiner} of each window.", source="this test", operands=("x",), results=("y",), attrs=WINDOW,
        dtypes=kinds.same_dtype(sh.core.dtypes.NUMERIC, 1), axes="n (l*stride+k~padding) c -> n l c | k=kernel", shape=None, body=lambda x: x,
        combiner=combiner, identity=identity, order="sequence", pad=pad, fin=None, vjp=(P.NO_GRADIENT,), nest="derived", batch=None, alias=False,
        quant=quant, tol=P.Tol(16), edges=(), samples=draw((2, 7, 3), kernel=3, stride=2, padding=(1, 1)),
        numpy=lambda x, kernel, stride, padding: reduce(cut(x, kernel, stride, padding, identity(x.dtype)), -1).astype(x.dtype),
    )  # fmt: skip


LOWEST = lambda d: -np.inf if d.kind == "f" else np.iinfo(d).min
SUM = window1d("own_sum1d", "add", lambda d: 0, P.Pad(0, "skip"), np.sum, P.Quant("rule", rule="Q7 average pool"))
MAX = window1d("own_max1d", "max", LOWEST, P.Pad("identity", "multiply"), np.max, P.SHARE)
FLAT = P.movement(
    "own_flat", attrs={"shape": P.Attr(type="shape", operand=-1)}, shape=lambda operands, shape: [shape],
    numpy=lambda x, shape: x.reshape(shape), vjp=lambda x, y, g, shape: g.reshape(x.shape), samples=draw((2, 3, 4), shape=(2, 12)),
    nest=lambda coords, load, avals, result, attrs: load(0, (coords[0], coords[1] // avals[0].shape[2], coords[1] % avals[0].shape[2])),
    source="this test", doc="All dims but the first as one.", quant=P.Quant("share", layout="order"),
)  # fmt: skip


class Series(nn.Module):
    """conv1d with bias and relu, max window, a depthwise conv1d, mean window, flat, a long linear layer."""

    def __init__(self, conv, wide=4):
        rng = np.random.default_rng(0)
        shape = (6, 3, wide // 2) if conv is FIRST else (3, wide // 2, 6)
        self.conv, self.w, self.b = conv, nn.Param(rng.normal(size=shape).astype(np.float32)), nn.Param(np.full(6, 0.1, np.float32))
        self.d = nn.Param(rng.normal(size=(6, 3, 1)).astype(np.float32))
        self.head = nn.Linear(36, 5)

    def forward(self, x):
        y = nn.relu(self.conv(x, self.w, stride=1, padding=(1, 1), groups=2) + self.b)
        y = MAX(y, kernel=3, stride=1, padding=(1, 1))
        y = FIRST(y, self.d, stride=1, padding=(1, 1), groups=6)
        y = SUM(y, kernel=2, stride=2, padding=(0, 0)) / 2.0
        return self.head(FLAT(y, shape=(x.shape[0], 36)))


def quantized(conv):
    x = np.random.default_rng(1).normal(size=(8, 12, 4)).astype(np.float32)
    return Plan([("*", Quantize())]).apply(Series(conv), calibration=x).eval(), x


@pytest.mark.parametrize("conv", [FIRST, LAST], ids=["out first", "out last"])
def test_a_network_of_own_ops_is_a_twin(conv, tmp_path):
    small, x = quantized(conv)
    kinds_ = [s.kind for s in small.program(Aval(x.shape, np.dtype(np.float32)))[0].steps]
    assert kinds_ == ["entry", "contract", "move", "contract", "pool", "move", "contract"]
    module, reference = small.integers(x), integers(small, x)
    assert all(np.array_equal(module[k], reference[k]) for k in reference)
    lowered = lower(small, Aval((1, *x.shape[1:]), np.dtype(np.float32)))
    assert {n.op.name for n in lowered.graph.nodes} >= {f"q{conv.op.name}", "qmatmul", "own_max1d", "own_sum1d"}
    art = sh.export(small, x[:1], device="host", to=tmp_path)
    same = sh.compare(small, art, x)
    assert same.differing == 0 and same.compared > 0


def test_own_records_pass_their_checks():
    for op in (FIRST, LAST):
        assert "compiled" in sh.testing.check_primitive(op).passed
        assert "compiled" in sh.testing.check_primitive(REGISTRY[f"q{op.op.name}"]).passed


def test_long_sums_of_own_contractions_are_exact():
    """Beyond 518 products: cut along the channels where they stand alone, in float64 where groups share their dim."""
    rng = np.random.default_rng(2)
    wide = 400
    for groups in (1, 2):
        x = rng.normal(size=(4, 5, wide)).astype(np.float32)

        class Net(nn.Module):
            def __init__(self, groups):
                self.groups = groups
                self.w = nn.Param(rng.normal(size=(4, 3, wide // groups)).astype(np.float32))

            def forward(self, x):
                return FIRST(x, self.w, stride=1, padding=(1, 1), groups=self.groups)

        small = Plan([("*", Quantize())]).apply(Net(groups), calibration=x).eval()
        step = small.program(Aval(x.shape, np.dtype(np.float32)))[0].steps[-1]
        assert step.terms == 3 * wide // groups > TERMS and step.cut == ((2, 2) if groups == 1 else None)
        reference = integers(small, x)
        assert all(np.array_equal(small.integers(x)[k], reference[k]) for k in reference)


def test_what_a_record_cannot_say_is_refused_with_its_place():
    pairs = P.contraction("own_pairs", axes="n b i, b i o -> n b o", operands=("x", "w"), attrs={}, source="this test",
                          samples=draw((2, 3, 4), (3, 4, 5)), doc="Another matrix for each b.", quant=P.Quant("rule", rule="Q2 contraction"))  # fmt: skip

    class Net(nn.Module):
        def __init__(self):
            self.w = nn.Param(np.ones((3, 4, 5), np.float32))

        def forward(self, x):
            return pairs(x, self.w)

    with pytest.raises(QuantizationError, match=r"/own_pairs#0: .*only sums over all dims of the weight but one"):
        Plan([("*", Quantize())]).apply(Net(), calibration=np.ones((2, 3, 4), np.float32))

    class Empty(nn.Module):
        def forward(self, x):
            return MAX(x, kernel=2, stride=1, padding=(2, 0))

    with pytest.raises(QuantizationError, match=r"/own_max1d#0: .*some windows lie in the padding alone"):
        Plan([("*", Quantize())]).apply(Empty(), calibration=np.ones((2, 3, 4), np.float32))
    with pytest.raises(RecordError, match=r"quant.layout is 'ordr'.*did you mean 'order'"):
        P.elementwise("own_wrong", numpy=np.abs, body=lambda x: x, vjp=lambda x, y, g: g, source="this test", quant=P.Quant("share", layout="ordr"))
    with pytest.raises(RecordError, match="1 operands but 2 quant.signs"):
        P.elementwise("own_wrong", numpy=np.abs, body=lambda x: x, vjp=lambda x, y, g: g, source="this test", quant=P.Quant("rule", rule="Q7 add", signs=(1, -1)))
