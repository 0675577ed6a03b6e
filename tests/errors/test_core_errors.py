"""Bad input to core, ops and transformations: the type of the error, and that it names op, argument, what came,
what was expected and what to do."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from tests.semantics.models import Counter, Dense, Hidden, X

f32 = lambda *shape: sh.zeros(shape)
x = sh.asarray(X)

SHAPES = [
    (lambda: f32(3) + f32(4), r"shapes \(3,\), \(4,\) do not broadcast"),
    (
        lambda: sh.matmul(f32(2, 3), f32(4, 5)),
        r"matmul: \(2, 3\) and \(4, 5\) do not fit: the inner extents are 3 and 4",
    ),
    (lambda: sh.matmul(f32(), f32(2)), "matmul: operands need at least one dim"),
    (lambda: sh.reshape(f32(2, 3), (4, 2)), r"reshape: \(2, 3\) has 6 elements, \(4, 2\) has 8"),
    (lambda: sh.reshape(f32(2, 3), (-1, -1)), r"reshape: only one extent may be -1, got \(-1, -1\)"),
    (lambda: sh.reshape(f32(2, 3), (-1, 4)), r"reshape: \(2, 3\) does not divide into \(-1, 4\)"),
    (lambda: sh.permute_dims(f32(2, 3), (0, 0)), r"permute_dims: \(0, 0\) is not an order of 2 dims"),
    (lambda: sh.matrix_transpose(f32(2)), "matrix_transpose: needs at least 2 dims, got 1"),
    (lambda: sh.sum(f32(2, 3), axis=2), r"sum: axis 2 is out of range for 2 dims"),
    (lambda: sh.max(f32(2, 3), axis=(0, -2)), r"axis \(0, -2\) names a dim twice"),
    (lambda: sh.argmax(f32(2), axis=3), r"argmax: axis 3 is out of range for 1 dims"),
    (lambda: sh.sort(f32(2), axis=1), r"axis 1 is out of range for 1 dims"),
    (
        lambda: sh.concat([f32(2, 3), f32(2, 4)], axis=0),
        r"concat: operand 1 has shape \(2, 4\), which differs from \(2, 3\) not only in dim 0",
    ),
    (lambda: sh.concat([]), "concat: needs at least one tensor"),
    (lambda: sh.stack([f32(2), f32(3)]), r"concat|stack"),
    (lambda: sh.squeeze(f32(2, 1), 0), r"squeeze: dims \[0\] of \(2, 1\) are not all of size 1"),
    (lambda: sh.pad(f32(2, 2), [(0, 1)]), r"pad: \(\(0, 1\),\) is not a pair of sizes for each of 2 dims"),
    (lambda: sh.broadcast_to(f32(3), (2, 4)), r"broadcast_to: \(3,\) does not broadcast to \(2, 4\)"),
    (lambda: sh.take(f32(2, 2), np.int64([0])), "take: write the axis for a tensor of 2 dims"),
    (lambda: sh.cumulative_sum(f32(2, 2)), "cumulative_sum: write the axis for a tensor of 2 dims"),
    (
        lambda: sh.conv2d(f32(1, 4, 4, 3), f32(2, 3, 3, 4)),
        r"conv2d: x has 3 channels, w \(2, 3, 3, 4\) with groups=1 takes 4",
    ),
    (lambda: sh.conv2d(f32(4, 4, 3), f32(2, 3, 3, 3)), r"conv2d: x and w need 4 dims \(n h w c\).*got \(4, 4, 3\)"),
    (
        lambda: sh.conv2d(f32(1, 2, 2, 1), f32(1, 3, 3, 1)),
        r"conv2d: operand 0 dim 1 is 2, with padding 0\+0 too small for a window of 3",
    ),
    (
        lambda: sh.conv2d(f32(1, 4, 4, 1), f32(1, 3, 3, 1), padding="same", stride=2),
        r"padding='same' needs stride 1.*same_tf",
    ),
    (
        lambda: sh.conv2d(f32(1, 4, 4, 1), f32(1, 3, 3, 1), padding="half"),
        r"padding 'half' is none of 'valid', 'same', 'same_tf'",
    ),
    (lambda: sh.max_pool2d(f32(4, 4), 2), r"max_pool2d: x needs 4 dims \(n h w c\), got \(4, 4\)"),
    (
        lambda: sh.cond(sh.asarray(True), lambda v: v, lambda v: v[0], f32(2)),
        r"cond: one branch gives f32\[2\], the other f32\[\]",
    ),
    (lambda: sh.scan(lambda c, v: (c, v), 0.0, (f32(2), f32(3))), r"scan: leading extents disagree: \[2, 3\]"),
    (lambda: sh.scan(lambda c, v: c, 0.0, f32(2)), r"scan: the body returns \(carry, y\), got Tensor"),
    (lambda: sh.scan(lambda c, v: (c, v), 0.0), "scan: give xs or length="),
]
DTYPES = [
    (
        lambda: sh.exp(sh.arange(3)),
        r"exp: operand x is int64, expected one of bfloat16, float16, float32, float64; write \.astype",
    ),
    (lambda: sh.arange(3) + f32(3), r"int64 and float32 do not promote; write astype"),
    (lambda: sh.zeros(3, dtype=sh.int8) + 1000, r"the Python number 1000 does not fit int8"),
    (lambda: sh.bitwise_and(f32(3), f32(3)), r"bitwise_and: operand x1 is float32, expected one of bool"),
    (lambda: sh.logical_not(f32(3)), r"logical_not: operand x is float32, expected one of bool"),
    (lambda: sh.zeros(3, dtype="int33"), r"'int33' is not a dtype"),
    (
        lambda: sh.matmul(sh.zeros((2, 2), dtype=sh.float16), f32(2, 2).astype(sh.int8)),
        r"float16 and int8 do not promote",
    ),
]
GRADIENTS = [
    (
        lambda: sh.grad(lambda v: v * 2)(x),
        r"grad of <lambda>: it returns f32\[8,3\], expected one floating-point scalar; take \.mean\(\)",
    ),
    (
        lambda: sh.grad(lambda v: v.sum())(sh.arange(3)),
        r"argument 0: the argument is i64\[3\]; only floating-point.*astype",
    ),
    (lambda: sh.grad(lambda v: v.sum(), argnums=2)(x), r"argnums 2 with 1 positional arguments"),
    (lambda: sh.grad(lambda v: 1)("a"), r"argument 0: the argument holds no tensor to differentiate"),
    (lambda: sh.grad(lambda v: v.sum(), wrt=3)(x), r"wrt takes cells \(net\.weight\.cell\).*got int"),
    (lambda: sh.jvp(lambda v: v, (x,), ()), r"jvp: 1 primals but 0 tangents"),
    (lambda: sh.jvp(lambda v: v, (x,), (f32(2),)), r"jvp: the tangent of argument 0 is f32\[2\], expected f32\[8,3\]"),
    (
        lambda: sh.jvp(lambda n: n(x), (Dense(),), ({"nothing": x},)),
        r"jvp: the tangent names 'nothing', which is no trainable path",
    ),
    (lambda: sh.vjp(lambda v: v * 2, x)[1](f32(2)), r"the cotangent is f32\[2\], the output f32\[8,3\]"),
    (
        lambda: sh.value_and_grad(lambda v: v.sum(), aux=True)(x),
        r"with aux=True it returns \(output, extra\), got Tensor",
    ),
]
BATCHES = [
    (
        lambda: sh.vmap(lambda a, b: a + b)(f32(2), f32(3)),
        r"vmap: lanes disagree: 2 \(argument 0\) and 3 \(argument 1\)",
    ),
    (
        lambda: sh.vmap(lambda v: v)(sh.asarray(1.0)),
        r"vmap: argument 0 has shape \(\), which has no axis 0; write in_axes with None",
    ),
    (lambda: sh.vmap(lambda v: v, in_axes=(0, 0))(f32(2)), r"vmap: in_axes has 2 entries for 1 arguments"),
    (lambda: sh.vmap(lambda: 1)(), r"vmap: no argument is batched; give size= or in_axes="),
    (lambda: sh.vmap(lambda v: v, out_axes=None)(f32(2)), r"vmap: out_axes=None, but the result differs between lanes"),
    (
        lambda: sh.vmap(lambda n, v: n(v), in_axes=(1, 0))(Dense(), x),
        r"vmap: argument 0\.weight: cells are batched along axis 0 only",
    ),
]
TRACES = [
    (lambda: sh.jit(lambda v: v if v.sum() > 0 else -v)(x), r"Python branch.*sh\.where or sh\.cond"),
    (lambda: sh.jit(lambda v: float(v.sum()))(x), r"b?a number|concrete value"),
    (lambda: sh.jit(lambda v: np.asarray(v))(x), r"NumPy array"),
    (lambda: sh.scan(lambda c, v: (c, 1.0 if v > 0 else 2.0), 0.0, f32(3)), r"Python branch"),
    (
        lambda: sh.cond(f32(2) > 0, lambda: 1.0, lambda: 2.0),
        r"cond: the predicate is b1\[2\], expected one bool without dims; compare, or reduce with \.any\(\)",
    ),
    (
        lambda: sh.jit(lambda n: n(3))(Dense().cells()["weight"]),
        r"a cell was passed to a compiled function; pass its value or the module",
    ),
]
STATES = [
    (lambda: nn.Buffer(0.0, join="min"), r"join is 'min', expected 'max', 'mean', 'sum' or None"),
    (lambda: nn.Param(nn.Param(0.0)), r"a cell cannot hold a cell; assign it to an attribute to tie it"),
    (
        lambda: setattr(Hidden(), "h", f32(4)),
        r"h: f32\[3\] keeps its shape and dtype; what is written is f32\[4\]. Assign a new Param or Buffer",
    ),
    (
        lambda: setattr(nn.Module(), "t", f32(4)),
        r"Module\.t is a bare tensor; write nn\.Param\(x\).*nn\.Buffer\(x\).*sh\.const\(x\)",
    ),
    (
        lambda: setattr(nn.Module(), "t", {nn.Param(0.0)}),
        r"Module\.t holds a Param where nothing would find it; use a module, list, tuple or dict",
    ),
    (
        lambda: sh.vmap(lambda v: sh.seed(1))(f32(2)),
        r"sh\.seed cannot be called inside vmap; seed outside, or use sh\.random\.key",
    ),
]


@pytest.mark.parametrize(
    "call, message, error",
    [
        (*c, e)
        for cases, e in (
            (SHAPES, sh.ShapeError),
            (DTYPES, sh.DtypeError),
            (GRADIENTS, sh.GradientError),
            (BATCHES, sh.BatchError),
            (TRACES, sh.TraceError),
            (STATES, sh.StateError),
        )
        for c in cases
    ],
)
def test_error(call, message, error):
    with pytest.raises(error, match=message):
        call()


def test_built_in_classes_where_they_fit():
    assert (
        issubclass(sh.ShapeError, ValueError)
        and issubclass(sh.DtypeError, TypeError)
        and issubclass(sh.TraceError, TypeError)
    )
    for name in ("ShapeError", "DtypeError", "CaptureError", "LeakError", "StateError", "GradientError", "BatchError"):
        assert issubclass(getattr(sh, name), sh.ShohinError) and getattr(sh, name).__doc__


@pytest.mark.parametrize(
    "index, message",
    [
        ((0, 0, 0), "too many indices: 3 for a tensor of 2 dims"),
        (9, "index 9 is out of range for dim 0 of extent 8"),
        (np.int64([9]), "take: index 9 is out of range for dim 0 of extent 8"),
    ],
)
def test_indices(index, message):
    with pytest.raises(IndexError, match=message):
        x[index]


def test_a_branch_inside_grad_is_fine_and_inside_jit_is_not():
    f = lambda v: (v * 2).sum() if v.sum() > -1e6 else v.sum()
    assert sh.grad(f)(x).shape == X.shape
    with pytest.raises(sh.TraceError):
        sh.jit(lambda v: sh.grad(f)(v))(x)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'shohin' has no attribute 'sinn'"):
        sh.sinn
    with pytest.raises(AttributeError, match="a tensor has no attribute 'shap'"):
        x.shap
    with pytest.raises(AttributeError, match="'Counter' object has no attribute 'cuont'"):
        Counter().cuont


def test_primitive_errors():
    facts = {"numpy": np.sin, "body": sh.loop.sin, "vjp": lambda v, y, g: g, "source": "a test"}
    with pytest.raises(sh.RecordError, match=r"primitive 'sin': there is an op of that name already.*choose another"):
        sh.primitive.elementwise("sin", **facts)
    with pytest.raises(sh.RecordError, match="primitive 'mine': missing source"):
        sh.primitive.elementwise("mine", **{k: v for k, v in facts.items() if k != "source"})
    with pytest.raises(
        sh.RecordError,
        match=r"primitive 'mine': the record misses kind, doc.* and has no field color; write every field",
    ):
        sh.primitive(name="mine", color=3)


def test_sh_const_is_accepted_where_a_bare_tensor_is_not():
    m = nn.Module()
    m.table = sh.const([1.0, 2.0])
    assert sh.jit(lambda m, v: m.table * v)(m, np.float32([2, 2])).tolist() == [2, 4]
    assert m.cells() == {}
