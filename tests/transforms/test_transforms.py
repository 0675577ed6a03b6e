"""What transformations make of a program: derivatives of derivatives, how lanes are absorbed, what a trace keeps."""



import numpy as np
import pytest

import shohin as sh
from shohin.core.graph import walk
from tests.semantics.models import Dense, Net, X

R = np.random.default_rng(0)


def ops_of(f, *args):
    return [n.op.name for n in walk(sh.trace(f)(*args).graph)]


def test_jacobian_and_hessian_of_known_functions(wrap=lambda f: f):
    a = R.uniform(-1, 1, (3, 4)).astype(np.float32)
    x = R.uniform(-1, 1, 4).astype(np.float32)
    np.testing.assert_allclose(sh.jacobian(lambda v: sh.matmul(a, v))(sh.asarray(x)), a, rtol=1e-6)
    h = sh.hessian(lambda v: (sh.matmul(a, v) ** 2).sum())(sh.asarray(x))
    np.testing.assert_allclose(h, 2 * a.T @ a, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        sh.jit(sh.hessian(lambda v: (sh.sin(v) * v).sum()))(x),
        np.diag(2 * np.cos(x) - x * np.sin(x)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_forward_and_reverse_agree():
    f = lambda v: sh.tanh(sh.matmul(v, v)).sum() + (v**3).mean()
    x, d = (sh.asarray(R.uniform(-1, 1, (3, 3)).astype(np.float32)) for _ in range(2))
    np.testing.assert_allclose(sh.jvp(f, (x,), (d,))[1], (sh.grad(f)(x) * d).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "mask, groups",
    [((True, False), 1), ((False, True), 1), ((True, True), 1), ((True, True), 2)],
    ids=["n", "o", "g", "grouped"],
)
def test_lanes_of_a_convolution_are_absorbed(mask, groups):
    """Batched x into n, batched w into o, both into g: one convolution, no loop."""
    x, w = np.ones((2, 5, 5, 2 * groups), np.float32), np.ones((4 * groups, 3, 3, 2), np.float32)
    wide = [np.stack([a] * 3) if m else a for a, m in zip((x, w), mask, strict=True)]
    axes = tuple(0 if m else None for m in mask)
    found = ops_of(lambda x, w: sh.vmap(lambda x, w: sh.conv2d(x, w, groups=groups), in_axes=axes)(x, w), *wide)
    assert found.count("conv2d") == 1 and "scan" not in found


def test_per_example_gradients_of_a_layer_have_no_loop():
    net = Dense()
    found = ops_of(lambda v: sh.vmap(sh.grad(lambda n, v: n(v).sum()), in_axes=(None, 0))(net, v)["weight"], X[:, None])
    assert "scan" not in found


def test_a_predicate_for_each_lane():
    f = lambda v: sh.cond(v > 0, lambda v: v * 2, lambda v: -v, v)
    v = np.float32([-1, 2, -3])
    assert sh.vmap(f)(sh.asarray(v)).tolist() == [1, 4, 3]
    assert sh.vmap(sh.grad(f))(sh.asarray(v)).tolist() == [-1, 2, -1]


def test_lanes_of_a_while_loop_end_each_for_itself():
    f = lambda v: sh.while_loop(lambda s: s < 10.0, lambda s: s * 2, v)
    assert sh.vmap(f)(sh.asarray([1.0, 3.0, 50.0])).tolist() == [16, 12, 50]


def test_checkpoint_keeps_inputs_only():
    """The residuals of a checkpointed call are its inputs: the forward call has no extra result."""
    deep = lambda v: sh.sin(sh.exp(sh.tanh(v)))
    results = {}
    for name, f in (("kept", sh.jit(deep)), ("checkpoint", sh.checkpoint(deep))):
        graph = sh.trace(lambda v, f=f: sh.grad(lambda v: f(v).sum())(v))(X).graph
        results[name] = max((len(n.results) for n in graph.nodes if n.op.kind == "call"), default=0)
        assert any(n.attrs["name"].endswith(".bwd") for n in graph.nodes if n.op.kind == "call") or name == "kept"
    assert results["checkpoint"] <= 2


def test_a_trace_reads_as_text_and_names_its_inputs():
    program = sh.trace(lambda net, v: net(v))(Net().eval(), X)
    text = str(program)
    assert "stem.weight" in text and "@ stem/matmul#0" in text
    assert [c.name for c in program.writes] == ["seen.count"]


def test_a_captured_tensor_is_refused_by_trace():
    t = sh.ones(3)
    with pytest.raises(ValueError, match=r"captures 1 tensors, the first f32\[3\]; pass them as arguments"):
        sh.trace(lambda v: v + t)(X)


def test_gradients_flow_to_every_member_of_a_tree():
    tree = {"a": sh.asarray([1.0, 2.0]), "b": (sh.asarray(3.0), [sh.asarray([4.0])])}
    g = sh.grad(lambda t: (t["a"] * t["b"][0]).sum() + t["b"][1][0].sum())(tree)
    assert g["a"].tolist() == [3, 3] and float(g["b"][0]) == 3 and g["b"][1][0].tolist() == [1]
