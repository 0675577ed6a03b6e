"""A few hundred random cases, every kernel among them; and that the fuzzer notices a fault, and what it prints repeats it."""

from __future__ import annotations

import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from shohin.compiler.kernel import KERNELS, Phase, Printer, Site
from tests.fuzz import __main__ as command
from tests.fuzz.cases import Contraction, Integer, Pool
from tests.fuzz.run import Batch, Outcome, batch, calls, run, run_sanitized

pytestmark = pytest.mark.skipif(not command.LEVELS, reason="no AVX2: the fuzzer compiles for x86-64 levels only")

DEVICES = {"qconv2d_tiles", "qmatmul_tiles", "qconv2d_dot", "qmatmul_dot", "qconv2d_depthwise"}
"""Kernels that these levels' C has not; ``tests/kernels/test_memory`` draws them."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))


@pytest.mark.parametrize("number", range(6))
def test_random_cases(number: int, cache: None) -> None:
    found = run(batch(2, number, 50, command.LEVELS))
    assert list(found.failures) == [] and found.along > 3 and len(found.kernels) > 8


def test_every_kernel_is_drawn() -> None:
    """A new kernel that no case reaches is not fuzzed: teach ``cases.draw`` its shapes. (Those of no op are the lowering's.)"""
    assert {step.kernel for number in range(6) for step in calls(batch(2, number, 50, command.LEVELS))} == {name for name, kernel in KERNELS.items() if kernel.op} - DEVICES


def test_a_batch_is_the_same_whenever_it_is_drawn() -> None:
    one, two = (batch(3, 7, 20, ("v3", "v4")) for _ in range(2))
    assert one == two != batch(3, 8, 20, ("v3", "v4"))
    assert eval(repr(one), {"Batch": Batch, "Contraction": Contraction, "Integer": Integer, "Pool": Pool}) == one


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Contraction:
    """A product, and a kernel for it that takes one term too few."""
    kernel = KERNELS["matmul_vector_f32"]
    real = kernel.phases[0]

    def emit(site: Site, printer: Printer, name: str) -> str:
        return re.sub(r"K = (\d+)", lambda k: f"K = {int(k[1]) - 1}", real.emit(site, printer, name), count=1)

    monkeypatch.setitem(KERNELS, kernel.name, replace(kernel, phases=(Phase(emit=emit, chunks=real.chunks),)))
    attrs = (("transpose_a", False), ("transpose_b", True))
    return Contraction(op="matmul", shapes=((2, 32), (48, 32)), result=(2, 48), attrs=attrs, seed=5)


def test_a_fault_is_found_and_the_program_printed_repeats_it(cache: None, fault: Contraction) -> None:
    sound = batch(2, 0, 3, ("v3",)).cases
    found = run(Batch((*sound, fault), "v3", 1))
    assert found.kernels["matmul_vector_f32"] == 1
    (text,) = found.failures
    assert "elements are not the loops'" in text
    lines = textwrap.dedent(text.partition("\n")[2]).replace("print(", "again = (")
    names: dict[str, Outcome] = {}
    exec(lines, names)
    assert names["again"].failures == found.failures


GCC = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed: the sanitizers do NOT run")


@GCC
@pytest.mark.slow
def test_random_cases_under_sanitizers(cache: None) -> None:
    assert run_sanitized(batch(4, 0, 50, ("v3",), strange=0)).failures == ()


@GCC
def test_a_write_beyond_scratch_is_found(cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = KERNELS["conv2d_vector_f32"]
    monkeypatch.setitem(KERNELS, kernel.name, replace(kernel, workspace=lambda site: kernel.workspace(site) - 4))
    attrs = (("stride", (1, 1)), ("padding", ((0, 0), (0, 0))), ("dilation", (1, 1)), ("groups", 1))
    case = Contraction(op="conv2d", shapes=((2, 1, 1, 32), (50, 1, 1, 32)), result=(2, 1, 1, 50), attrs=attrs, after="relu")
    (text,) = run_sanitized(Batch((case,), "v3", 1)).failures
    assert "ERROR: AddressSanitizer" in text and f"run_sanitized(Batch(({case!r},)" in text


def test_a_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[int] = []

    def fake(b: Batch) -> Outcome:
        ran.append(len(b.cases))
        return Outcome({"k": 2}, 1, ("wrong",) if len(ran) == 2 else ())

    monkeypatch.setattr(command, "run", fake)
    monkeypatch.setenv("SHOHIN_CACHE", "")  # the command sets its own
    log = tmp_path / "log.jsonl"
    ask = ["--seed", "3", "--log", str(log), "--cases"]
    assert command.main([*ask, "120"]) == 1 and ran == [50, 50, 50]
    log.write_text(log.read_text() + '{"batch": 3, "ca')  # it was killed while it wrote
    assert command.main([*ask, "200"]) == 1 and len(ran) == 4
    assert capsys.readouterr().out.splitlines()[-2:] == ["200 cases, 1 failures; 4 nests were taken along", "       8 k"]


def test_a_program_that_does_not_compile_is_a_failure() -> None:
    def broken(b: Batch) -> Outcome:
        raise RuntimeError("no compiler")

    assert command.tried(batch(1, 1, 2, ("v3",)), broken).failures[0].startswith("RuntimeError: no compiler\n    Batch(")
