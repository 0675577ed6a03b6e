"""A primitive of one's own: the program of api.md, every kind, a whole record, and reports that say what is wrong."""

from dataclasses import fields

import numpy as np
import pytest

import shohin as sh
from shohin.compiler import derive
from shohin.core.errors import AttrError
from shohin.core.op import NESTS, REGISTRY, Op


@pytest.fixture
def registry():
    """Names declared here are free again afterwards."""
    before = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


def hardswish(name, **other):
    facts = {
        "numpy": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "body": lambda x: x * sh.loop.clip(x + 3, 0, 6) / 6,
        "vjp": lambda x, y, g: g * sh.where(x < -3, 0, sh.where(x > 3, 1, (2 * x + 3) / 6)),
        "edges": (-3.0, 3.0),
        "source": "Howard et al. 2019, section 5.2",
    }
    return sh.primitive.elementwise(name, **{**facts, **other})


def test_the_program_of_the_design(registry):
    mine = hardswish("my_hardswish")
    report = sh.testing.check_primitive(mine)
    assert report.problems == () and {"shape", "gradient", "forward", "second", "batching", "body", "compiled"} <= set(
        report.passed
    )
    x = np.linspace(-4, 4, 9).astype(np.float32)
    np.testing.assert_allclose(sh.jit(lambda x: mine(x))(x), x * np.clip(x + 3, 0, 6) / 6, rtol=1e-6, atol=1e-7)
    assert sh.vmap(sh.grad(mine))(sh.asarray(x)).shape == (9,)
    assert repr(mine) == "<op my_hardswish (elementwise)>"


@pytest.mark.parametrize(
    "other, check",
    [
        ({"vjp": lambda x, y, g: g}, "gradient"),
        ({"body": lambda x: x * sh.loop.clip(x + 3, 0, 6) / 5}, "body"),
        ({"numpy": lambda x: (x * np.clip(x + 3, 0, 6) / 6).astype(np.float64)}, "shape"),
        ({"vjp": lambda x, y, g: g * np.asarray(0.5, np.float32)}, "gradient"),
    ],
)
def test_a_wrong_record_is_reported(registry, other, check):
    mine = hardswish("my_wrong", **other)
    with pytest.raises(AssertionError, match=rf"my_wrong: \d+ problems[\s\S]*FAILED +{check}, sample 0"):
        sh.testing.check_primitive(mine)


def test_checks_may_be_left_out_by_name(registry):
    step = hardswish("my_step", numpy=np.rint, body=sh.loop.rint, vjp=lambda x, y, g: g, edges=(0.5, 1.5))
    with pytest.raises(AssertionError):
        sh.testing.check_primitive(step)
    report = sh.testing.check_primitive(step, skip=("gradient", "forward"))
    assert "skipped  gradient: as asked" in str(report)
    with pytest.raises(sh.RecordError, match="no check 'grad'; there are shape"):
        sh.testing.check_primitive(step, skip=("grad",))


def test_a_reduction(registry):
    p = sh.primitive
    norm = p.reduction(
        "my_total", combiner="add", identity=lambda d: 0, numpy=lambda x, axis: np.sum(x, axis=axis, dtype=x.dtype), accepted=frozenset({sh.float32, sh.float64}),
        vjp=lambda x, y, g, axis: sh.broadcast_to(g.reshape(tuple(1 if i in axis else n for i, n in enumerate(x.shape))), x.shape),
        quant=p.Quant.refuse("a test"), tol=p.Tol(64, 1e-5), source="arithmetic", doc="A sum.",
    )  # fmt: skip
    assert sh.testing.check_primitive(norm).problems == ()
    assert norm(sh.ones((2, 3)), axis=(1,)).tolist() == [3, 3]


def kept(y, x, axis):
    return sh.broadcast_to(y.reshape(tuple(1 if i in axis else n for i, n in enumerate(x.shape))), x.shape)


FOLDS = {
    "norm2": dict(combiner="add", identity=lambda d: 0, body=lambda x: x * x, fin=lambda s: sh.loop.sqrt(s),
                  numpy=lambda x, axis: np.sqrt(np.sum(x * x, axis=axis, dtype=x.dtype)), vjp=lambda x, y, g, axis: x * kept(g / y, x, axis)),
    "sumsq": dict(combiner="fma", identity=lambda d: 0, body=lambda x: (x, x),
                  numpy=lambda x, axis: np.sum(x * x, axis=axis, dtype=x.dtype), vjp=lambda x, y, g, axis: 2 * x * kept(g, x, axis)),
    "sumabs": dict(combiner="add", identity=lambda d: 0, body=lambda x: abs(x),
                   numpy=lambda x, axis: np.sum(np.abs(x), axis=axis, dtype=x.dtype), vjp=lambda x, y, g, axis: sh.sign(x) * kept(g, x, axis),
                   samples=lambda rng: [sh.primitive.Sample((np.where(np.arange(12) % 3, 1, -1).reshape(3, 4).astype(np.float32) * rng.uniform(1, 2, (3, 4)).astype(np.float32),), {"axis": (1,)})]),
    "absmax": dict(combiner="max", identity=lambda d: 0, body=lambda x: abs(x), numpy=lambda x, axis: np.max(np.abs(x), axis=axis),
                   vjp=lambda x, y, g, axis: sh.where(sh.abs(x) == kept(y, x, axis), sh.sign(x) * kept(g, x, axis), 0 * x)),
    "kept_axis": dict(combiner="add", identity=lambda d: 0, body=lambda x, **attrs: x * (1 + len(attrs["axis"])), fin=lambda s, axis: s + len(axis),
                      numpy=lambda x, axis: np.sum(x * (1 + len(axis)), axis=axis, dtype=x.dtype) + x.dtype.type(len(axis)),
                      vjp=lambda x, y, g, axis: (1 + len(axis)) * kept(g, x, axis)),
}  # fmt: skip


def fold(name, **other):
    p = sh.primitive
    facts = dict(accepted=frozenset({sh.float16, sh.float32, sh.float64}), quant=p.Quant.refuse("a test"), tol=p.Tol(64, 1e-5), source="a test", doc="A fold.")
    return p.reduction(f"my_{name}", **{**facts, **FOLDS.get(name, {}), **other})


@pytest.mark.parametrize("name", FOLDS)
def test_a_reduction_has_a_body_and_a_fin(registry, name):
    mine = fold(name)
    report = sh.testing.check_primitive(mine)
    assert "compiled" in report.passed and "body: the loops that hold it are checked by compiled" in report.skipped
    x = np.random.default_rng(0).uniform(-2, 2, (3, 5, 4)).astype(np.float32)
    for axis, keepdims in ((None, False), (1, False), (-1, True), ((0, 2), True), ((), False)):
        dims = tuple(range(3)) if axis is None else (axis % 3,) if isinstance(axis, int) else axis
        expected = mine.op.numpy(x, axis=dims)
        if keepdims:
            expected = expected.reshape(tuple(1 if i in dims else n for i, n in enumerate(x.shape)))
        run = lambda v, axis=axis, keepdims=keepdims: mine(v, axis=axis, keepdims=keepdims)
        for found in (run(sh.asarray(x)), sh.jit(run)(x), sh.jit(lambda v, run=run: run(v) * 2)(x) / 2):  # the last: a chain behind fin
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    half = x.astype(np.float16)
    np.testing.assert_allclose(sh.jit(lambda v: mine(v, axis=0))(half).numpy(), mine(sh.asarray(half), axis=0).numpy(), rtol=2e-3)


def test_a_copy_of_sum_with_a_body(registry):
    """Review B1: the body was ignored under jit."""
    record = {f.name: getattr(REGISTRY["sum"], f.name) for f in fields(Op)}
    mine = sh.primitive(**{**record, "name": "my_sum", "body": lambda x: abs(x), "numpy": lambda x, axis: np.sum(np.abs(x), axis=axis, dtype=x.dtype)})
    x = np.float32([1, -2, 3, -4])
    assert float(sh.jit(lambda v: mine(v, axis=(0,)))(x)) == float(mine(sh.asarray(x), axis=(0,))) == 10


def test_padding_skips_the_body(registry):
    """A window that hangs over the edge has no terms there; body(0) = 1 would count."""
    record = {f.name: getattr(REGISTRY["window_sum2d"], f.name) for f in fields(Op)}
    plain = record["numpy"]
    mine = sh.primitive(**{
        **record, "name": "my_window", "body": lambda x: x * 0 + 1, "fin": lambda s: s * 3, "vjp": (sh.primitive.NO_GRADIENT,),
        "numpy": lambda x, **attrs: plain(np.ones_like(x), **attrs) * x.dtype.type(3),
    })  # fmt: skip
    assert sh.testing.check_primitive(mine, skip=("gradient", "forward", "second")).problems == ()


def test_padding_skips_the_factors(registry):
    record = {f.name: getattr(REGISTRY["window_sum2d"], f.name) for f in fields(Op)}
    plain = record["numpy"]
    mine = sh.primitive(**{
        **record, "name": "my_window", "combiner": "fma", "body": lambda x: (x + 1, x + 1), "vjp": (sh.primitive.NO_GRADIENT,),
        "numpy": lambda x, **attrs: plain((x + 1) * (x + 1), **attrs),
    })  # fmt: skip
    assert sh.testing.check_primitive(mine, skip=("gradient", "forward", "second")).problems == ()


def test_a_changed_record_is_compiled_anew(registry):
    """Programs on disk are found by the names of ops; a user's record may change between two processes."""
    before = dict(REGISTRY)
    for factor in (2, 3):
        mine = fold("sumabs", body=lambda x, k=factor: x * k, numpy=lambda x, axis, k=factor: np.sum(x * k, axis=axis, dtype=x.dtype))
        assert float(sh.jit(lambda v, mine=mine: mine(v))(np.ones(4, np.float32))) == 4 * factor
        REGISTRY.clear()
        REGISTRY.update(before)


def test_a_running_fold_keeps_its_combiner(registry):
    record = {f.name: getattr(REGISTRY["cumsum"], f.name) for f in fields(Op)}
    mine = sh.primitive(**{
        **record, "name": "my_running", "combiner": "mul", "identity": lambda d: 1, "body": lambda x: 1 + abs(x), "vjp": (sh.primitive.NO_GRADIENT,),
        "numpy": lambda x, axis: np.cumprod(1 + np.abs(x), axis=axis, dtype=x.dtype),
    })  # fmt: skip
    assert sh.testing.check_primitive(mine, skip=("gradient", "forward", "second")).problems == ()


def test_a_test_on_floats_counts_in_integers(registry):
    record = {f.name: getattr(REGISTRY["sum"], f.name) for f in fields(Op)}
    d = record["dtypes"]
    counts = sh.primitive.Dtypes(accepted=d.accepted, same=True, result=lambda found, a: (sh.int64,), compute=d.compute, accumulator=lambda k: sh.core.dtypes.int64)
    mine = sh.primitive(**{
        **record, "name": "my_count", "dtypes": counts, "body": lambda x: x > 0.5, "vjp": (sh.primitive.NO_GRADIENT,), "tol": sh.primitive.EXACT,
        "numpy": lambda x, axis: np.sum(x > 0.5, axis=axis, dtype=np.int64),
    })  # fmt: skip
    assert sh.testing.check_primitive(mine).problems == ()


def test_bodies_that_do_not_fit(registry):
    with pytest.raises(sh.RecordError, match="my_sumabs': body is 'abs', which is not written in Python; write .* body=lambda x: abs"):
        fold("sumabs", body=abs)
    with pytest.raises(sh.RecordError, match="the body of a reduction takes one element"):
        fold("sumabs", body=lambda a, b: a * b)
    with pytest.raises(sh.RecordError, match="reduction has no 'finn'; did you mean 'fin'"):
        fold("sumabs", finn=lambda x: x)
    pairs = fold("sumabs", body=lambda x: (x, x))
    with pytest.raises(sh.RecordError, match="the body of a fold by add gives tuple, expected one expression"):
        sh.jit(pairs)(np.ones(3, np.float32))
    single = fold("sumsq", body=lambda x: x * x)
    with pytest.raises(sh.RecordError, match="combiner fma needs a body that gives two factors"):
        sh.jit(single)(np.ones(3, np.float32))


@pytest.mark.parametrize(
    "field, value, text",
    [
        ("nest", "own", "nest is 'own', expected one of derived, control, arg, moments, running, rank, scatter, last or an index function"),
        ("nest", "derive", "did you mean 'derived'"),
        ("combiner", "plus", "combiner is 'plus', expected one of add, mul, max, min, or, and, fma, moments or None"),
        ("order", "lanes8", "order is 'lanes8', expected one of sequence, lanes16, chunks8 or None"),
        ("quant", sh.primitive.Quant("tabel"), "quant.kind is 'tabel', expected one of .*did you mean 'table'"),
        ("nest", "rank", "nest 'rank' does not read a body"),
    ],
)
def test_a_word_that_no_record_knows(field, value, text):
    record = {f.name: getattr(REGISTRY["sum"], f.name) for f in fields(Op)}
    with pytest.raises(sh.RecordError, match=f"op 'my_sum': .*{text}"):
        sh.primitive(**{**record, "name": "my_sum", field: value})


def test_a_fin_that_nothing_reads():
    record = {f.name: getattr(REGISTRY["tanh"], f.name) for f in fields(Op)}
    with pytest.raises(sh.RecordError, match="fin is read only for nest 'derived' with a combiner"):
        sh.primitive(**{**record, "name": "my_tanh", "fin": lambda s: s})


def test_static_attributes(registry):
    p = sh.primitive
    facts = dict(
        numpy=lambda x, lo, hi: np.where(x < lo, lo * x, np.minimum(x, np.asarray(hi, x.dtype))), body=lambda x, lo, hi: sh.loop.select(x < lo, x * lo, sh.loop.minimum(x, hi)),
        vjp=lambda x, y, g, lo, hi: sh.where(x < lo, lo * g, sh.where(x < hi, g, 0 * g)), edges=(0.25, 1.5), source="a test",
    )  # fmt: skip
    mine = p.elementwise("my_band", attrs={"lo": 0.3, "hi": 1.5}, **facts)
    assert sh.testing.check_primitive(mine).problems == ()
    x = sh.asarray([-1.0, 1.0, 3.0])
    np.testing.assert_allclose(mine(x).numpy(), [-0.3, 1.0, 1.5])
    np.testing.assert_allclose(sh.jit(lambda v: mine(v, lo=0.5, hi=2.0))(x).numpy(), [-0.5, 1.0, 2.0])
    with pytest.raises(AttrError, match="my_band: no attribute 'low'; did you mean 'lo'"):
        mine(x, low=1.0)
    two = p.elementwise("my_mix", numpy=lambda a, b, t: a + (b - a) * np.asarray(t, a.dtype), body=lambda a, b, t: a + (b - a) * t, attrs={"t": 0.5},
                        vjp=(lambda a, b, y, g, t: g * (1 - t), lambda a, b, y, g, t: g * t), edges=(0.0, 1.0), source="a test")  # fmt: skip
    assert two.op.operands == ("x0", "x1") and sh.testing.check_primitive(two).problems == ()
    with pytest.raises(sh.RecordError, match="body does not take the attribute up"):
        p.elementwise("my_other", attrs={"up": 1.0}, **facts)
    with pytest.raises(sh.RecordError, match="attrs of an elementwise op holds defaults"):
        p.elementwise("my_other", attrs={"lo": p.Attr(type="static"), "hi": 1.0}, **facts)


def test_an_elementwise_declaration_that_does_not_fit(registry):
    for body in (abs, np.abs, float, None):
        with pytest.raises(sh.RecordError, match="which is not written in Python; write an expression"):
            hardswish("my_other", body=body)
    with pytest.raises(sh.RecordError, match="elementwise has no 'tolerance'; "):
        hardswish("my_other", tolerance=3)
    offset = 3
    assert hardswish("my_closed", body=lambda x, o=offset: x * sh.loop.clip(x + o, 0, 6) / 6).op.operands == ("x",)


def test_what_did_not_run_is_not_ok(registry):
    step = hardswish("my_straight", numpy=np.rint, body=sh.loop.rint, vjp=lambda x, y, g: g, edges=(0.5,), tol=sh.primitive.Tol(0, slope=False))
    report = sh.testing.check_primitive(step)
    assert "gradient: a straight-through gradient is not the derivative" in report.skipped and "gradient" not in report.passed
    assert "nest: the loops are derived, not an index function" in report.skipped
    for name, check, reason in (("take", "body", "the record has no body"), ("argsort", "nest", "the loops are rank"), ("iota", "batching", "no operands"), ("iota", "second", "no sample")):
        report = sh.testing.check_primitive(name)
        assert check not in report.passed
        assert any(t.startswith(f"{check}: ") and reason in t for t in report.skipped), report


def test_a_batching_that_is_always_refused_is_skipped(registry):
    def refuse(operands, mask, size, attrs):
        raise sh.BatchError("my_alone: write a loop")

    record = {f.name: getattr(REGISTRY["tanh"], f.name) for f in fields(Op)}
    report = sh.testing.check_primitive(sh.primitive(**{**record, "name": "my_alone", "batch": refuse}))
    assert "batching: my_alone: write a loop" in report.skipped


def test_the_forms_of_loops_are_those_that_the_compiler_has():
    assert {"derived", "control", *derive._SPECIAL} == set(NESTS)


def test_a_contraction_brings_its_gradients(registry):
    p = sh.primitive
    mine = p.contraction(
        "my_product", axes="n k, o k -> n o", operands=("x", "w"), attrs={}, source="arithmetic", doc="Rows with rows.", quant=p.Quant.refuse("a test"),
        samples=lambda rng: [p.Sample((rng.uniform(-1, 1, (3, 4)).astype(np.float32), rng.uniform(-1, 1, (5, 4)).astype(np.float32)), {})],
    )  # fmt: skip
    for name in ("my_product", "my_product_dx", "my_product_dw"):
        assert sh.testing.check_primitive(name).problems == ()
    g = sh.grad(lambda w: mine(sh.ones((3, 4)), w).sum())(sh.ones((5, 4)))
    assert g.tolist() == np.full((5, 4), 3.0).tolist()


def test_a_movement_and_a_generator(registry):
    p = sh.primitive
    turn = p.movement(
        "my_turn", attrs={}, axes="a b -> b a", numpy=lambda x: x.T, vjp=lambda x, y, g: turn(g), source="geometry", doc="Rows and columns exchanged.",
        samples=lambda rng: [p.Sample((rng.uniform(-1, 1, (3, 4)).astype(np.float32),), {})],
    )  # fmt: skip
    assert sh.testing.check_primitive(turn).problems == ()
    ramp = p.generator(
        "my_ramp", attrs={"shape": p.Attr(type="shape", operand=-1)}, shape=lambda operands, shape: [shape], dtype=lambda a: sh.float32,
        numpy=lambda shape: np.broadcast_to(np.arange(shape[-1], dtype=np.float32), shape), source="counting", doc="0, 1, 2 ...",
        nest=lambda coords, load, avals, result, attrs: sh.loop.cast(coords[-1], sh.float32), samples=lambda rng: [p.Sample((), {"shape": (2, 3)})],
    )  # fmt: skip
    assert sh.testing.check_primitive(ramp).problems == ()


def test_a_whole_record(registry):
    record = {f.name: getattr(REGISTRY["tanh"], f.name) for f in fields(Op)}
    mine = sh.primitive(**{**record, "name": "my_tanh"})
    assert sh.testing.check_primitive(mine).problems == ()
    assert float(mine(sh.asarray(0.5))) == float(sh.tanh(sh.asarray(0.5)))


def test_every_kind_is_listed():
    assert "elementwise" in repr(sh.primitive) and callable(sh.primitive)
