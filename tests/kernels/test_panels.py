"""Weights in panels: C, NumPy and what tiles of every width read of them are one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shohin.core import dtypes
from shohin.core.nest import Buffer, KernelCall
from shohin.kernels.panels import PANELS, Panels
from shohin.kernels.tile import TileShape
from tests.kernels import grid
from tests.kernels.harness import MACHINES, MCPU, Case, Compiled, aligned
from tests.kernels.test_kernels import LEVELS, expected, plain, pytestmark, same_bits  # noqa: F401 (skips this file too)


def packed(case: Case) -> Panels | None:
    """Gives the case its weights in panels as a further operand."""
    layout = case.kernel.layout(case.site) if case.kernel.layout else None
    if isinstance(layout, Panels):
        more = Buffer("p", (layout.groups * layout.size,), dtypes.float32, "const")
        case.site = replace(case.site, operands=(*case.site.operands, more))
        case.extra, case.buffers = (*case.extra, more.shape), (*case.buffers, more)
        return layout
    return None


@pytest.mark.parametrize("level", LEVELS)
def test_kernels_read_weights_in_panels(level: str, plain: object, tmp_path: Path) -> None:  # noqa: F811
    cases = [(c, layout) for c in (*grid.convs(level, ("conv2d", "conv2d_dx"))[::3], *grid.matmuls(level)[1::2]) if (layout := packed(c))]
    assert len(cases) > 20
    compiled, rng, wrong = Compiled([c for c, _ in cases], tmp_path / "panels.so", MCPU[level]), np.random.default_rng(0), []
    for i, (case, layout) in enumerate(cases):
        assert case.kernel.shared(case.site) == 0 and case.kernel.phases[0].chunks(case.site) == 0
        arrays = [aligned(s, rng.standard_normal(s)) for s in (*case.shapes, *case.extra[:-1])]
        y = aligned(case.result, np.nan)
        data = layout.numpy(arrays[1])
        compiled.prepare(i, [*arrays, aligned(data.shape, data)], y)()
        if not same_bits(y, expected(plain, case, arrays)):
            wrong.append(f"{case.kernel.name} {case.shapes}")
    assert wrong == []


def layouts() -> list[Panels]:
    """Any channels, both orders of the source, groups, all channels in one."""
    made = []
    for channels in (1, 3, 4, 7, 8, 13, 16, 20, 24, 33, 37, 40, 52, 64, 72, 100):
        made.append(Panels(groups=1, channels=channels, terms=(1, 19), strides=(0, 19, 0, 1)))
        made.append(Panels(groups=2, channels=channels, terms=(1, 19), strides=(19 * channels, 1, 0, channels)))
        made.append(Panels(groups=1, channels=channels, terms=(3, 5), strides=(0, 1, channels, 3 * channels)))
        made.append(Panels(groups=1, channels=channels, terms=(1, 9), strides=(0, 9, 0, 1), whole=True))
    return made


@pytest.mark.parametrize("level", LEVELS)
def test_c_makes_the_panels_that_numpy_makes(level: str, tmp_path: Path) -> None:
    cases = []
    for layout in layouts():
        case = Case.__new__(Case)
        source = Buffer("x0", (layout.groups * layout.count * layout.channels,), dtypes.float32, "input")
        result = Buffer("y", (layout.groups * layout.size,), dtypes.float32, "output")
        call = KernelCall("panels_f32", ("x0",), ("y",), {"layout": layout}, (), "test")
        case.kernel, case.shapes, case.result, case.extra = PANELS, (source.shape,), result.shape, ()
        case.site = type(grid.convs(level)[0].site)(call=call, operands=(source,), results=(result,), machine=MACHINES[level])
        case.buffers = (source, result)
        cases.append(case)
    compiled = Compiled(cases, tmp_path / "layouts.so", MCPU[level])
    for i, case in enumerate(cases):
        x, y = aligned(case.shapes[0], np.arange(np.prod(case.shapes[0]))), aligned(case.result, np.nan)
        compiled.prepare(i, [x], y)()
        assert np.array_equal(y, case.site.attrs["layout"].numpy(x)), case.site.attrs["layout"]


@pytest.mark.parametrize("width", [4, 8, 16])
def test_tiles_of_any_width_find_their_vectors(width: int) -> None:
    """Every vector that a tile reads is the one of its channels, and all channels are read."""
    for layout in layouts():
        x = np.arange(layout.groups * layout.count * layout.channels, dtype=np.float32)
        flat = layout.numpy(x)
        group, channel, outer, inner = layout.strides
        fits = next(w for w in (width, 8, 4, 1) if w <= min(width, layout.channels))
        shape, seen = TileShape(fits, 6, 4 if layout.whole else 2), set()
        for g in range(layout.groups):
            for p in layout.reads(shape):
                for v in range(p.vectors):
                    ends = v and v == p.vectors - 1
                    first = p.stop - fits if ends else p.first + v * fits
                    seen |= set(range(first, first + fits))
                    for t in (0, layout.count - 1):
                        at = g * layout.size + p.base + t * p.ldb + (p.lastb if ends else v * fits)
                        source = g * group + t // layout.terms[1] * outer + t % layout.terms[1] * inner
                        assert np.array_equal(flat[at : at + fits], x[source + channel * np.arange(first, first + fits)])
        assert seen == set(range(layout.channels))
