"""The memory plan: no two live buffers overlap, in-place only where it is safe, donated inputs, peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shohin.compiler.plan import Block, place, plan
from shohin.compiler.program import compile_program
from shohin.core import dtypes, loop
from shohin.core.errors import IRError
from shohin.core.loop import Expr, Load, Name, Var, const
from shohin.core.nest import Acc, Buffer, Loop, Nest, Out, Program

F32 = dtypes.float32
I, J = Var("i"), Var("j")


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 6)), max_size=40),
    st.sampled_from([16, 64]),
)
def test_live_blocks_never_overlap(spec: list[tuple[int, int, int]], align: int) -> None:
    blocks = [Block(f"b{i}", size * align, first, first + length) for i, (size, first, length) in enumerate(spec)]
    placed = place(blocks)
    assert sorted(b.name for b in placed) == sorted(b.name for b in blocks)
    for i, a in enumerate(placed):
        assert a.offset % align == 0
        for b in placed[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    total = max((b.offset + b.size for b in placed), default=0)
    assert total <= sum(b.size for b in blocks)


def step(to: str, value: Expr, n: int = 8, index: Expr = I) -> Nest:
    return Nest((Loop("i", n),), (), (), (Out(to, (index,), value),), "sequence", f"to {to}")


def load(name: str, index: Expr = I) -> Load:
    return Load(name, (index,), F32)


def buffers(n: int, **roles: str) -> tuple[Buffer, ...]:
    return tuple(Buffer(k, (n,), F32, *([r] if "/" not in r else r.split("/"))) for k, r in roles.items())  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_plans_of_random_programs_compute_the_same(data: st.DataObject) -> None:
    """The planned memory, simulated with NumPy: each temporary is a view of the arena at its offset."""
    count = data.draw(st.integers(1, 12))
    names = ["x"]
    steps = []
    for k in range(count):
        a, b = (data.draw(st.sampled_from(names)) for _ in "ab")
        index = data.draw(st.sampled_from([I, loop.const(7, dtypes.int32) - I]))
        steps.append(step(f"t{k}", load(a) + load(b, index) * 0.5))
        names.append(f"t{k}")
    steps.append(step("y", load(names[-1]) + 1.0))
    made = buffers(8, x="input", y="output", **{f"t{k}": "temp" for k in range(count)})
    program = Program(made, tuple(steps), {})
    p = plan(program, [0] * len(steps), [0] * len(steps))
    arena = np.zeros(max(p.arena_bytes, 1), np.uint8)
    env = {"x": np.arange(8, dtype=np.float32), "y": np.zeros(8, np.float32)}
    plain = {"x": env["x"].copy(), "y": np.zeros(8, np.float32)}
    for k in range(count):
        plain[f"t{k}"] = np.zeros(8, np.float32)
        at = p.offsets.get(f"t{k}", 0)
        env[f"t{k}"] = arena[at : at + 32].view(np.float32) if f"t{k}" in p.offsets else np.zeros(8, np.float32)
    for s in steps:
        for where in (env, plain):
            out = s.outs[0]
            for i in range(8):  # point by point, as the C may do it
                where[out.buffer][i] = loop.evaluate(out.value, {**where, "i": np.int32(i)})
    np.testing.assert_array_equal(env["y"], plain["y"])
    assert p.peak <= p.arena_bytes


def test_in_place_only_at_the_same_index() -> None:
    made = buffers(64, x="input", a="temp", b="temp", c="temp", y="output")
    back = loop.const(63, dtypes.int32) - I
    chain = Program(
        made,
        (
            step("a", load("x") + 1.0, 64),
            step("b", load("a") * 2.0, 64),
            step("c", load("b") * 2.0, 64),
            step("y", load("c"), 64),
        ),
        {},
    )
    p = plan(chain, [0] * 4, [0] * 4)
    assert p.arena_bytes == 256 and len(set(p.offsets.values())) == 1
    turned = Program(
        made,
        (
            step("a", load("x") + 1.0, 64),
            step("b", load("a", back), 64),
            step("c", load("b") * 2.0, 64),
            step("y", load("c"), 64),
        ),
        {},
    )
    assert plan(turned, [0] * 4, [0] * 4).arena_bytes == 512
    assert "a" in str(p) and "arena 256" in str(p)
    x = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(compile_program(chain)(x)[0], (x + 1) * 4)
    np.testing.assert_array_equal(compile_program(turned)(x)[0], (x + 1)[::-1] * 2)


def test_scratch_and_shared_live_for_their_step() -> None:
    made = buffers(64, x="input", a="temp", y="output")
    p = plan(Program(made, (step("a", load("x"), 64), step("y", load("a"), 64)), {}), [1000, 0], [0, 100])
    assert p.live == (1024 + 256, 256 + 128) and p.arena_bytes == 1280


def donated(read: Expr, later: bool) -> Program:
    made = (*buffers(64, w="input", g="input", z="output"), Buffer("v", (64,), F32, "output", "w"))
    first = step("v", read, 64)
    second = step("z", load("w") if later else load("v"), 64)
    return Program(made, (first, second), {})


@pytest.mark.parametrize("case", ["in place", "read later", "other index"])
def test_donated_inputs(case: str) -> None:
    back = load("w", loop.const(63, dtypes.int32) - I)
    program = donated(back if case == "other index" else load("w") - load("g") * 0.5, case == "read later")
    compiled = compile_program(program)
    w, g = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
    old = w.copy()
    compiled.bind([w, g])
    z, v = compiled.run()
    new = old[::-1] if case == "other index" else old - 0.5
    assert v is w
    np.testing.assert_array_equal(w, new)
    np.testing.assert_array_equal(z, old if case == "read later" else new)
    assert (compiled.plan.copies == ()) == (case == "in place")
    before = w.copy()
    compiled.run()  # bound once, run again
    np.testing.assert_array_equal(w, before[::-1] if case == "other index" else before - 0.5)


def test_swapped_inputs() -> None:
    made = (
        *buffers(64, a="input", b="input"),
        Buffer("p", (64,), F32, "output", "a"),
        Buffer("q", (64,), F32, "output", "b"),
    )
    program = Program(made, (step("p", load("b"), 64), step("q", load("a"), 64)), {})
    a, b = np.zeros(64, np.float32), np.ones(64, np.float32)
    compile_program(program)(a, b)
    assert a.min() == 1 and b.max() == 0


def test_a_reduction_that_reads_what_it_overwrites_goes_through_a_copy() -> None:
    made = (
        Buffer("w", (21,), F32, "input"),
        Buffer("g", (5, 21), F32, "input"),
        Buffer("v", (21,), F32, "output", "w"),
    )
    acc = Acc(("s",), "add", (const(0, F32),), (Load("g", (J, I), F32),), (F32,))
    nest = Nest(
        (Loop("i", 21),), (Loop("j", 5),), (acc,), (Out("v", (I,), load("w") - Name("s", F32)),), "sequence", "sgd"
    )
    w, g = np.arange(21, dtype=np.float32), np.ones((5, 21), np.float32)
    compiled = compile_program(Program(made, (nest,), {}))
    compiled(w, g)
    np.testing.assert_array_equal(w, np.arange(21) - 5)
    assert compiled.plan.copies == (("v", "w"),)


def test_errors() -> None:
    made = buffers(8, x="input", a="temp", y="output")
    with pytest.raises(IRError, match="reads a before any step has written it"):
        plan(Program(made, (step("y", load("a")),), {}), [0], [0])
    wrong = (Buffer("x", (8,), F32, "input"), Buffer("y", (9,), F32, "output", "x"))
    with pytest.raises(IRError, match="not an input of the same size"):
        plan(Program(wrong, (step("y", const(0, F32), 9),), {}), [0], [0])
    twice = (*buffers(8, x="input"), Buffer("y", (8,), F32, "output", "x"), Buffer("z", (8,), F32, "output", "x"))
    with pytest.raises(IRError, match="two outputs"):
        plan(Program(twice, (step("y", load("x")), step("z", load("x"))), {}), [0, 0], [0, 0])
    unwritten = (*buffers(8, x="input"), Buffer("y", (8,), F32, "output", "x"))
    with pytest.raises(IRError, match="written by no step"):
        plan(Program(unwritten, (), {}), [], [])
