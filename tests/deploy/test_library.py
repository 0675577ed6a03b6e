from __future__ import annotations

import shutil

import numpy as np
import pytest

from shohin.core.errors import BuildError, DeployError, TargetError
from shohin.deploy.library import HostLibrary, build_library
from shohin.targets.host import CPU, can_run
from tests.targets import small_network

LEVELS = ("native", "v3") if CPU.machine == "x86_64" else ("native",)
FLOAT_HEADER = """#include <stdint.h>
#define twice_INPUT_SIZE 5
#define twice_OUTPUT_SIZE 5
#define twice_ARENA_SIZE 0u /* bytes */
int twice_run(const float *in, float *out, void *arena);
int twice_selfcheck(void);
"""
FLOAT_BODY = """#include "network.h"
int twice_run(const float *in, float *out, void *arena)
{
    (void)arena;
    for (int i = 0; i < 5; ++i) out[i] = 2.0f * in[i];
    return 0;
}
int twice_selfcheck(void) { return 0; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_library(small_network.write(tmp_path_factory.mktemp("small")))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cc", ["zig", "gcc"])
def test_integers_are_the_reference_s(cc, level, tmp_path):
    if not can_run(level):
        pytest.skip(f"this CPU does not run {level}")
    if cc == "gcc" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    library = build_library(small_network.write(tmp_path), level=level, cc=cc)
    assert library.path == tmp_path / "build" / f"{level}-{cc}" / "small.so"
    x = small_network.inputs(500)
    np.testing.assert_array_equal(library.run(x), small_network.reference(x))
    outputs, used = library.run_painted(x)
    np.testing.assert_array_equal(outputs, small_network.reference(x))
    assert used == small_network.HIDDEN


@pytest.mark.parametrize("cc", ["zig", "gcc"])
def test_no_warnings(cc, tmp_path, monkeypatch):
    monkeypatch.setattr("shohin.targets.native.WARNINGS", ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"))
    build_library(small_network.write(tmp_path), cc=cc)


def test_shape_of_a_batch_and_other_inputs(library):
    x = small_network.inputs(6)
    assert library.run(x.reshape(6, 4, 12)).shape == (6, 7)
    assert library.run(x[:0]).shape == (0, 7)
    np.testing.assert_array_equal(library.run(x[::2]), small_network.reference(x[::2]))
    with pytest.raises(DeployError, match="dtype float64, expected int8"):
        library.run(np.zeros((1, 48)))
    with pytest.raises(DeployError, match=r"shape \(48,\)"):
        library.run(np.zeros(48, np.int8))


def test_quantize_and_dequantize(library):
    x = np.random.default_rng(1).normal(0, 3, (100, 48)).astype(np.float32)
    x[0, :4] = np.nan, np.inf, -np.inf, 0.5 * small_network.IN_SCALE
    q = library.quantize(x)
    with np.errstate(invalid="ignore"):
        expected = small_network.quantize(np.where(np.isnan(x), -np.inf, x))
    np.testing.assert_array_equal(q, expected)
    y = library.run(q)
    np.testing.assert_array_equal(library.dequantize(y), small_network.dequantize(y))


def test_a_run_of_many_inputs_is_the_runs_of_each(library):
    x = small_network.inputs(3_000)
    np.testing.assert_array_equal(library.run(x)[::500], np.concatenate([library.run(one[None]) for one in x[::500]]))


def test_latency(library):
    latency = library.latency(small_network.inputs(1), repeats=50)
    assert 0 < latency.median <= latency.p95
    assert "measured on" in str(latency) and "50 repeats" in str(latency)
    with pytest.raises(TargetError, match="at least one"):
        library.latency(small_network.inputs(2)[:0])


def test_latency_of_a_known_wait(tmp_path):
    # A counter in a register: one in memory (volatile) runs in two modes, six times apart, as the CPU forwards stores.
    wait = 'for (uint32_t i = 0; i < %d; ++i) __asm__ volatile("" : "+r"(i));'
    short, long = (build_library(small_network.write(tmp_path / str(n), before=wait % n)) for n in (100_000, 400_000))
    x = small_network.inputs(1)
    ratios = [long.latency(x, 20).median / short.latency(x, 20).median for _ in range(5)]
    assert 3 < np.median(ratios) < 5, ratios


def test_a_float_network(tmp_path):
    (tmp_path / "network.h").write_text(FLOAT_HEADER)
    (tmp_path / "network.c").write_text(FLOAT_BODY)
    library = build_library(tmp_path)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    outputs, used = library.run_painted(x)
    np.testing.assert_array_equal(outputs, 2 * x)
    assert used == 0
    with pytest.raises(TargetError, match="nothing to quantize"):
        library.quantize(x)


@pytest.mark.parametrize("before, message", [
    ("hidden[64] = 1;", "wrote outside its arena of 64 bytes"),
    ("hidden[-1] = 1;", "wrote outside its arena of 64 bytes"),
    ("out[0] = hidden[40]; if (in[0] == 127) { out[0] = hidden[40]; return 0; }", "the output of input 1 depends on"),
    ("if (in[0] == 127) return 1;", "small_run failed for input 1"),
])
def test_a_broken_network_is_an_error(before, message, tmp_path):
    if "return 0" in before:  # the rest of the output has to be written for input 1 alone to differ
        before = "for (int32_t i = 0; i < 7; ++i) out[i] = 0; " + before
    library = build_library(small_network.write(tmp_path, before=before))
    with pytest.raises(TargetError, match=message):
        library.run_painted(small_network.inputs(3))


def test_a_rebuilt_network_is_the_new_one(tmp_path):
    x = small_network.inputs(3)
    first = build_library(small_network.write(tmp_path))
    small_network.write(tmp_path, before="if (in[0] != 1000) { for (int32_t i = 0; i < 7; ++i) out[i] = 1; return 0; }")
    second = build_library(tmp_path)
    assert second.path == first.path
    np.testing.assert_array_equal(second.run(x), 1)
    np.testing.assert_array_equal(first.run(x), small_network.reference(x))


def test_a_failed_selfcheck(tmp_path):
    with pytest.raises(TargetError, match="small_selfcheck returned 3, expected 0"):
        build_library(small_network.write(tmp_path, check="3"))


def test_fast_math_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("shohin.targets.native.WARNINGS", ("-ffast-math",))
    with pytest.raises(TargetError, match="arithmetic is not the defined one"):
        build_library(small_network.write(tmp_path), cc="gcc")


def test_an_object_of_another_header(tmp_path):
    library = build_library(small_network.write(tmp_path))
    small_network.write(tmp_path, arena=128)
    with pytest.raises(DeployError, match=r"built with sizes .*\(48, 7, 64, 1\), the header says \(48, 7, 128, 1\)"):
        HostLibrary(library.path, tmp_path)


def test_a_file_that_is_not_a_library(tmp_path):
    small_network.write(tmp_path)
    (tmp_path / "x.so").write_text("no")
    with pytest.raises(DeployError, match="cannot be loaded"):
        HostLibrary(tmp_path / "x.so", tmp_path)


def test_a_failed_build_leaves_nothing(tmp_path):
    folder = small_network.write(tmp_path / "a", before="nonsense;")
    with pytest.raises(BuildError, match=r"(?s)compiling small for host.*command: .*network.c.*nonsense"):
        build_library(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_compiler(tmp_path):
    with pytest.raises(BuildError, match="no-such-cc"):
        build_library(small_network.write(tmp_path), cc="no-such-cc")


def test_shohin_cc(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CC", "gcc")
    assert build_library(small_network.write(tmp_path)).path.parent.name == "native-gcc"


def test_sections_of_a_host_build(library):
    assert library.sections.rodata >= small_network.W1.nbytes and library.sections.text > 100
