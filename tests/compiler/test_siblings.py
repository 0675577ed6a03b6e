"""Reductions over the same elements are one nest; nothing crosses what it depends on."""

from __future__ import annotations

from shohin.compiler.siblings import joined
from shohin.core import dtypes, loop
from shohin.core.loop import Expr, Load, Name, Var, const
from shohin.core.nest import Acc, Jump, Loop, Nest, Out

F32 = dtypes.float32


def load(buffer: str, *index: str) -> Expr:
    return Load(buffer, tuple(map(Var, index)), F32)


def total(out: str, term: Expr, rows: int = 4096) -> Nest:
    acc = Acc(("acc",), "add", (const(0, F32),), (term,), (F32,))
    return Nest((Loop("c", 8),), (Loop("n", rows),), (acc,), (Out(out, (Var("c"),), Name("acc", F32)),), "chunks8", out)


def square(out: str, source: str) -> Nest:
    x = load(source, "n", "c")
    return Nest((Loop("n", 4096), Loop("c", 8)), (), (), (Out(out, (Var("n"), Var("c")), x * x),), "sequence", out)


def test_two_sums_of_one_buffer_are_one_nest_with_results_of_their_own() -> None:
    x = load("x", "n", "c")
    (one,) = joined([total("a", x), total("b", x * load("m", "c"))])
    assert isinstance(one, Nest) and len(one.accs) == 2
    assert [o.buffer for o in one.outs] == ["a", "b"]
    assert one.outs[1].value == Name("acc_1", F32) and one.accs[1].names == ("acc_1",)


def test_a_sum_moves_over_what_it_does_not_depend_on() -> None:
    x = load("x", "n", "c")
    steps = joined([total("a", x), square("y", "x"), total("b", x)])
    assert [s.place for s in steps] == ["a + b", "y"]


def test_a_sum_of_what_came_between_moves_the_other_down() -> None:
    steps = joined([total("a", load("x", "n", "c")), square("y", "x"), total("b", load("x", "n", "c") * load("y", "n", "c"))])
    assert [s.place for s in steps] == ["y", "a + b"]


def test_a_variance_waits_for_its_mean() -> None:
    x = load("x", "n", "c")
    steps = [total("mean", x), total("var", (x - load("mean", "c")) * x)]
    assert joined(steps) == steps


def test_other_elements_other_orders_and_short_sums_stay() -> None:
    x = load("x", "n", "c")
    for other in (total("b", load("z", "n", "c")), total("b", x, 512)):
        assert len(joined([total("a", x), other])) == 2
    assert len(joined([total("a", x, 512), total("b", x, 512)])) == 2


def test_nothing_crosses_a_jump_and_jumps_still_go_where_they_went() -> None:
    x = load("x", "n", "c")
    steps = joined([total("a", x), total("b", x), Jump(5, "flag", True, "skip"), total("c", x), total("d", x), total("e", x)])
    assert [s.place for s in steps] == ["a + b", "skip", "c + d", "e"]
    jump = steps[1]
    assert isinstance(jump, Jump) and steps[jump.to].place == "e"


def test_the_names_of_accumulators_do_not_meet() -> None:
    x = load("x", "n", "c")
    (one,) = joined([total("a", x), total("b", x), total("c", loop.maximum(x, 0.0))])
    assert isinstance(one, Nest)
    assert [n for a in one.accs for n in a.names] == ["acc", "acc_1", "acc_2"]


def mapped(out: str, value: Expr) -> Nest:
    return Nest((Loop("n", 4096), Loop("c", 8)), (), (), (Out(out, (Var("n"), Var("c")), value),), "sequence", out)


def test_functions_of_one_buffer_are_one_nest() -> None:
    x = load("x", "n", "c")
    erf = lambda e: loop.Un("erf", e)
    steps = joined([mapped("a", erf(x)), square("y", "x"), mapped("b", erf(x) * load("g", "n", "c"))])
    assert [s.place for s in steps] == ["a + b", "y"]
    assert [o.buffer for o in steps[0].outs] == ["a", "b"]  # type: ignore[union-attr]


def test_a_function_made_again_far_behind_stays_there() -> None:
    x = load("x", "n", "c")
    between = [square(f"y{k}", "z") for k in range(20)]
    steps = [mapped("a", loop.Un("exp", x)), *between, mapped("b", loop.Un("exp", x))]
    assert joined(list(steps)) == steps


def test_cheap_maps_are_left_to_the_kernels() -> None:
    steps = [square("a", "x"), square("b", "x")]
    assert joined(list(steps)) == steps
