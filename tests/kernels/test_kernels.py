"""Every kernel, bit for bit against the oracle's plain loops, on odd shapes, at both vector widths."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shohin.compiler.kernel import KERNELS
from shohin.core import dtypes, loop
from shohin.kernels.taps import Segment, segments
from shohin.targets.host import CPU
from tests.kernels import grid
from tests.kernels.harness import FLAGS, MACHINES, MCPU, ORACLE, Case, Compiled, aligned, build, oracle

LEVELS = [level for level in ("v3", "v4") if CPU.machine == "x86_64" and CPU.level >= level]
pytestmark = pytest.mark.skipif(not LEVELS, reason="no AVX2: the harness builds for x86-64 levels only")


def same_bits(got: np.ndarray, want: np.ndarray) -> bool:
    """Equal bits; one NaN is as good as another (which operand's payload survives is the compiler's choice)."""
    nan = np.isnan(got) & np.isnan(want)
    return bool(((got.view(np.uint32) == want.view(np.uint32)) | nan).all())


def expected(library: object, case: Case, arrays: Sequence[np.ndarray]) -> np.ndarray:
    y = oracle(library, case, arrays)  # type: ignore[arg-type]
    if case.port is None:
        return y
    with np.errstate(all="ignore"):
        y = (y + arrays[2]) * arrays[3]
    y = np.where(y > np.float32(-0.25), y, np.float32(-0.25))  # NaN gives the lower bound (docs/quantization.md)
    return np.where(y < np.float32(6), y, np.float32(6))


def check(compiled: Compiled, library: object, special: bool = False) -> list[str]:
    rng, wrong = np.random.default_rng(0), []
    for i, case in enumerate(compiled.cases):
        arrays = [aligned(s, rng.standard_normal(s)) for s in (*case.shapes, *case.extra)]
        if special:  # a skipped tap adds nothing, whatever stands opposite
            for a in arrays[:2]:
                for value in (np.inf, np.nan, -0.0, 1e-38, 3e38):
                    a.reshape(-1)[rng.integers(0, a.size, max(1, a.size // 97))] = value
        want = expected(library, case, arrays)
        for order in (None, lambda n: range(n)[::-1], lambda n: [*range(1, n, 2), *range(0, n, 2)]):
            y = aligned(case.result, np.nan)
            compiled.prepare(i, arrays, y, order)()
            if not same_bits(y, want):
                wrong.append(f"{case.kernel.name} {case.shapes} {dict(case.attrs)}: {np.sum(y != want)} of {y.size}")
                break
    return wrong


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> object:
    return build(ORACLE, tmp_path_factory.mktemp("oracle") / "oracle.so", MCPU["v3"])


@pytest.mark.parametrize("level", LEVELS)
def test_matmul_equals_the_oracle(level: str, plain: object, tmp_path: Path) -> None:
    assert check(Compiled(grid.matmuls(level), tmp_path / "matmul.so", MCPU[level]), plain) == []


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("op", grid.OPS)
def test_few_convolutions_equal_the_oracle(level: str, op: str, plain: object, tmp_path: Path) -> None:
    cases = grid.convs(level, (op,))[2::6]
    assert check(Compiled(cases, tmp_path / "conv.so", MCPU[level]), plain) == []


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("op", grid.OPS)
def test_convolutions_equal_the_oracle(level: str, op: str, plain: object, tmp_path: Path) -> None:
    compiled = Compiled(grid.convs(level, (op,)), tmp_path / "conv.so", MCPU[level])
    assert check(compiled, plain) == []
    assert check(compiled, plain, special=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_gcc_under_sanitizers(level: str, tmp_path: Path) -> None:
    """Plain gcc builds the same text; buffers of exactly the stated sizes are not overrun."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    cases = [*grid.convs(level), *grid.matmuls(level)][:: 1 if level == "v3" else 3]
    main = ["int main(void) {"]
    for i, case in enumerate(cases):
        sizes = [b.nbytes for b in case.buffers] + [case.kernel.shared(case.site), case.kernel.workspace(case.site)]
        main.append("  { void *b[] = {" + ", ".join(f"block({n})" for n in sizes) + "};")
        main.append(f"    all{i}(b, b[{len(sizes) - 2}], b[{len(sizes) - 1}]);")
        main.append(f"    for (int j = 0; j < {len(sizes)}; j++) free(b[j]); }}")
    text = "\n".join(
        [
            "#define _GNU_SOURCE",
            "#include <stdlib.h>",
            Compiled.text(cases),
            "static void *block(size_t n) { void *q; if (posix_memalign(&q, 64, n)) abort(); float *p = q; "
            "for (size_t i = 0; i < n / 4; i++) p[i] = 1.0f; return q; }",
            *main,
            "  return 0;\n}\n",
        ]
    )
    (tmp_path / "all.c").write_text(text)
    march = {"v3": "x86-64-v3", "v4": "x86-64-v4"}[level]
    flags = [f for f in FLAGS if f not in ("-shared", "-nostdlib", "-fPIC")]
    subprocess.run(
        [
            "gcc",
            "-std=gnu11",
            "-O1",
            "-g",
            f"-march={march}",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            *flags,
            str(tmp_path / "all.c"),
            "-o",
            str(tmp_path / "all"),
            "-lm",
        ],
        check=True,
    )
    subprocess.run([str(tmp_path / "all")], check=True)


def test_equal_layers_print_equal_text() -> None:
    for op in grid.OPS:
        one, two = (grid.convs("v3", (op,))[6] for _ in range(2))
        assert one.text("k", {}) == two.text("k", {})


def test_all_kernels_are_registered_and_tested() -> None:
    ours = {name for name, k in KERNELS.items() if name.endswith("_f32") and k.op}
    used = {case.kernel.name for case in [*grid.convs("v4"), *grid.matmuls("v4")]}
    assert (
        used
        == ours
        == {
            "matmul_f32",
            "matmul_vector_f32",
            "conv2d_vector_f32",
            "conv2d_pointwise_f32",
            "conv2d_dx_pointwise_f32",
            "conv2d_direct_f32",
            "conv2d_dx_direct_f32",
            "conv2d_dw_f32",
            "conv2d_depthwise_f32",
            "conv2d_dx_depthwise_f32",
            "conv2d_dw_depthwise_f32",
        }
    )


@pytest.mark.parametrize("level", ["v3", "v4"])
def test_weight_gradients_come_in_eight_chunks(level: str) -> None:
    for case in grid.convs(level, ("conv2d_dw",)):
        first = case.kernel.phases[0].chunks(case.site)
        assert case.kernel.order == "chunks8" and first in (8, 8 * case.attrs["groups"])
        assert case.kernel.shared(case.site) >= 8 * 4 * int(np.prod(case.result))


@pytest.mark.parametrize("transposed", [False, True])
def test_segments_cover_every_position_once_with_its_taps(transposed: bool) -> None:
    for size, k, s, d, lo in itertools.product((1, 5, 8, 13), (1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 3), (0, 1, 4)):
        other = (size + lo + 1 - (k - 1) * d - 1) // s + 1
        if other < 1:
            continue
        result, source = (size, other) if transposed else (other, size)
        seen: dict[int, list[tuple[int, int]]] = {}
        for seg in segments(result, source, k, s, d, lo, transposed=transposed):
            assert isinstance(seg, Segment)
            for p in range(seg.length):
                at = seg.start + p * seg.step
                assert at not in seen
                seen[at] = [
                    (seg.tap + j * seg.tap_step, seg.source + p * seg.source_step + j * seg.tap_source)
                    for j in range(seg.taps)
                ]
        assert sorted(seen) == list(range(result))
        for p, taps in seen.items():
            pairs = [
                (t, q)
                for t in range(k)
                for q in range(source)
                if (q * s + t * d - lo == p if transposed else p * s + t * d - lo == q)
            ]
            assert taps == pairs


def test_what_is_not_claimed() -> None:
    """Doubles, empty results and targets without vectors are left to the derived loops."""
    case = grid.convs("v3", ("conv2d",))[6]
    site = case.site
    replace = lambda **k: type(site)(
        **{**{f: getattr(site, f) for f in ("call", "operands", "results", "machine")}, **k}
    )
    bare = type(site.machine)(level="generic", vector_bytes=0, features=frozenset(), threads=1)
    wide = tuple(type(b)(b.name, b.shape, dtypes.float64, b.role) for b in site.operands)
    for other in (replace(machine=bare), replace(operands=wide)):
        assert not any(k.predicate(other) for k in KERNELS.values() if k.op == "conv2d")
    assert isinstance(loop.Name("acc", dtypes.float32), loop.Expr) and MACHINES["v3"].vector_bytes == 32
