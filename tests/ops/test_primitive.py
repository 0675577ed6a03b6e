"""A primitive of one's own: the program of api.md, every kind, a whole record, and reports that say what is wrong."""

from dataclasses import fields

import numpy as np
import pytest

import shohin as sh
from shohin.core.op import REGISTRY, Op


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
