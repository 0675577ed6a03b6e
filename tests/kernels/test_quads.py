"""The int8 kernels of x86 with vectors of bytes: which sites they take, and the same integers with and without each instruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shohin.compiler.kernel import Machine
from shohin.core import dtypes
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.deploy.library import build_library
from shohin.deploy.source import Grid, write_c
from shohin.kernels.instructions.quads import order
from shohin.ops import move, qlinear, quant
from shohin.targets import get_target
from shohin.targets.host import can_run
from tests.kernels.qcases import Cases, kernels, program
from tests.kernels.test_qkernels import GRID, differing, write

WIDE = Machine(level="v4", vector_bytes=64, features=frozenset(), threads=1)
NARROW = Machine(level="v3", vector_bytes=32, features=frozenset(), threads=1)
needs_v4 = pytest.mark.skipif(not can_run("v4"), reason="no AVX-512 here")


def test_they_take_what_the_others_took() -> None:
    cases = Cases(0, 44)
    wide, narrow = (kernels(program(cases.graph(), m)) for m in (WIDE, NARROW))
    assert len(wide) == len(narrow) == len(cases.layers)
    assert set(wide) == {"qconv2d_panels", "qconv2d_columns", "qmatmul_panels", "max_pool2d_int8"}
    assert set(narrow) == {"qconv2d_panels", "qconv2d_columns", "qmatmul_panels", "max_pool2d_int8"}


@pytest.mark.parametrize("vectors, lanes", [(4, 16), (2, 16), (1, 16), (4, 8), (4, 4)])
def test_packing_sorts_the_lanes(vectors: int, lanes: int) -> None:
    """Two packs, each on 128 bits apart, as the processor does them."""
    now = [np.array(v) for v in np.array(order(vectors, lanes)).reshape(vectors, lanes)]
    while len(now) > 1:
        parts = [v.reshape(lanes // 4, -1) for v in now]
        now = [np.concatenate(pair, axis=1).reshape(-1) for pair in zip(parts[::2], parts[1::2])]
    assert now[0].tolist() == list(range(vectors * lanes))


def drawn(seed: int, count: int) -> Cases:
    """Random layers only: without the fixed ones."""
    cases = Cases(seed, 0)
    cases.layers.clear()
    for k in range(count):
        c, o, kernel, groups = cases.draw()
        cases.conv(c, o, kernel, groups, k)
    for k in range(count // 4):
        pick = lambda *values: int(cases.rng.choice(values))
        cases.matmul(pick(1, 5, 13, 25, 31), pick(3, 16, 37, 64, 130), pick(1, 10, 16, 33, 65, 100, 130), k)
    return cases


@needs_v4
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_every_instruction_and_its_replacement_give_the_reference_s_integers(seed: int, tmp_path: Path) -> None:
    cases = drawn(seed, 12 if seed == 1 else 40)
    write(cases, tmp_path, get_target("host").machines[:1] + (("", NARROW),))
    x = cases.inputs(3)
    want = cases.reference(x)
    for level in ("native", "v4", "v3"):
        got, _ = build_library(tmp_path, level=level).run_painted(x)
        assert differing(cases, got, want) == [], level


@needs_v4
@pytest.mark.parametrize("shape", [(300, 13, 70), (64, 1500, 40)])
def test_products_of_several_blocks(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """More positions than are staged at a time, panels of all widths."""
    cases = Cases(0, 0)
    cases.layers.clear()
    cases.matmul(*shape, 1)
    write(cases, tmp_path, (("", WIDE),))
    x = cases.inputs(3)
    assert differing(cases, build_library(tmp_path, level="v4").run(x), cases.reference(x)) == []


@needs_v4
@pytest.mark.parametrize("level", ["native", "v4"])
def test_tables(level: str, tmp_path: Path) -> None:
    """Read twice, so that it would be made twice: it is stored. All values, ends that are no whole vectors."""
    table = np.random.default_rng(0).permutation(np.arange(-128, 128)).astype(np.int8)

    def network(x: Tensor) -> Tensor:
        y = quant.lookup(x, as_tensor(table))
        return move.concat([y, quant.lookup(y[:, 5:], as_tensor(table)), quant.lookup(x[:, :37], as_tensor(table))], axis=1)

    graph = stage(lambda x: [network(x)], [Aval((1, 1001), dtypes.int8)], ["x"]).graph
    assert kernels(program(graph, WIDE)).count("lookup_int8") == 2, "a short one is a loop"
    text = write_c(graph, "net", machines=(("", WIDE),), grids=(Grid(scale=1.0, zero=0), GRID))
    (tmp_path / "network.h").write_text(text.header)
    (tmp_path / "network.c").write_text(text.source)
    x = np.random.default_rng(1).integers(-128, 128, (3, 1001)).astype(np.int8)
    x[0, :256] = np.arange(-128, 128)
    got, _ = build_library(tmp_path, level=level).run_painted(x)
    assert (got == np.concatenate([network(as_tensor(row[None])).numpy() for row in x])).all()


def test_a_row_as_one_run_repeats_its_weights() -> None:
    """24 channels by 64 bytes meet after three vectors: weights of three blocks, not of one a position."""
    w = np.ones((24, 3, 3, 1), np.int8)
    graph = stage(lambda x: [quant.requant(qlinear.qconv2d(x, as_tensor(w), zero=0, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=24),
                                           as_tensor(np.float32(0.01)))], [Aval((1, 9, 9, 24), dtypes.int8)], ["x"]).graph  # fmt: skip
    made = program(graph, WIDE)
    sizes = {b.size for b in made.buffers if b.role == "const" and b.dtype == dtypes.int8}
    assert 3 * 3 * 4 * 64 in sizes
