"""A pure graph as the two C files of an artefact: ``network.h`` and ``network.c``.

The body is the compiler's (``compiler.library``); here are its header, the boundary functions of docs/quantization.md Q1, and the
self-check of Q11.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shohin.compiler.execute import passes
from shohin.compiler.kernel import GENERIC, Machine
from shohin.compiler.library import Library, Variant, emit_variants
from shohin.compiler.lowering import lower
from shohin.core.errors import DeployError
from shohin.core.graph import Graph
from shohin.core.nest import KernelCall
from shohin.deploy.layout import Layout, Piece, Stage

_ELEMENT = {np.dtype(np.int8): "int8_t", np.dtype(np.float32): "float"}
_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """scale and zero point of an int8 boundary: the value of q is (q - zero) * scale."""

    scale: float
    zero: int


@dataclass(frozen=True, kw_only=True)
class Text:
    header: str
    source: str
    arena_bytes: int
    kernels: tuple[tuple[str, str], ...]
    layout: Layout


DEVICE = (("", GENERIC),)
"""Plain loops, and kernels that ask the compiler for instructions themselves."""


def write_c(graph: Graph, name: str, *, machines: Sequence[tuple[str, Machine]] = DEVICE, grids: tuple[Grid, Grid] | None = None, device: str = "") -> Text:
    """The C of a graph with one input and one output for a batch of one; ``grids`` for int8 boundaries. ``machines``:
    preprocessor conditions and what is written where they hold.

    Raises ``DeployError`` where the graph has other inputs, or the name is no C identifier.
    """
    if not _C_NAME.fullmatch(name):
        raise DeployError(f"{name!r} is not a C identifier; pass another name=")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise DeployError(f"{name}: an artefact has one input and one output, this network has {len(graph.inputs)} and {len(graph.outputs)}")
    (x,), (y,) = graph.inputs, graph.outputs
    if x.dtype not in _ELEMENT or y.dtype != x.dtype:
        raise DeployError(f"{name}: the boundary is {x.aval} -> {y.aval}, expected int8 or float32 on both sides")
    best = passes.optimize(graph)
    variants = [Variant(condition, lower(best, m), m) for condition, m in machines]
    values = ["", ""] if grids is None else [f", value (q - {g.zero}) * {float(np.float32(g.scale))!r}" for g in grids]
    about = f"{name}{' for ' + device if device else ''}, written by Shohin: {name}_run is the network.\nInput: {x.aval}{values[0]}\nOutput: {y.aval}{values[1]}"
    library = emit_variants(variants, name, about=about, header="network.h")
    body = library.text
    found = re.search(rf"#define {name}_ARENA_BYTES (\d+)\n", body)
    assert found
    arena = int(found[1])
    element = _ELEMENT[x.dtype]
    sizes = (int(np.prod(x.shape)), int(np.prod(y.shape)))
    prototypes = [f"int {name}_run(const {element} *in, {element} *out, void *arena);", f"int {name}_selfcheck(void);"]
    if grids is not None:
        prototypes += [f"void {name}_quantize(const float *in, int8_t *out);", f"void {name}_dequantize(const int8_t *in, float *out);"]
    guard = f"SHOHIN_{name.upper()}_H"
    header = f"""\
/* {name}: {x.aval} -> {y.aval}. The arena must be aligned to 16 bytes; functions return 0 when all is well. */
#ifndef {guard}
#define {guard}
#include <stdint.h>
#define {name}_INPUT_SIZE {sizes[0]}
#define {name}_OUTPUT_SIZE {sizes[1]}
#define {name}_ARENA_SIZE {max(arena, 1)}
#ifdef __cplusplus
extern "C" {{
#endif
{chr(10).join(prototypes)}
#ifdef __cplusplus
}}
#endif
#endif
"""
    source = f'{body}\n{SELFCHECK.replace("NAME", name)}'
    if grids is not None:
        source += _boundary(name, sizes, grids)
    kernels = tuple((s.place, s.kernel if isinstance(s, KernelCall) else "loops") for s in variants[0].program.steps)
    return Text(header=header, source=source, arena_bytes=max(arena, 1), kernels=kernels, layout=_layout(library))


def _layout(library: Library) -> Layout:
    places, memory = library.memory.places, library.memory
    steps = zip(places, memory.live, library.constants, strict=True)
    blocks = sorted(memory.blocks, key=lambda b: (b.first, b.offset))
    return Layout(
        steps=tuple(Stage(place=p, live=n, constants=c) for p, n, c in steps),
        blocks=tuple(Piece(place=places[b.first], offset=b.offset, size=b.size, first=b.first, last=min(b.last, len(places) - 1)) for b in blocks))  # fmt: skip


def _boundary(name: str, sizes: tuple[int, int], grids: tuple[Grid, Grid]) -> str:
    (a, b) = grids
    return f"""
/* q = round_half_even(clip(x / s, -128 - z, 127 - z)) + z; NaN gives -128. The clip comes first, so that adding and
   subtracting 1.5 * 2^23 rounds exactly. */
void {name}_quantize(const float *in, int8_t *out) {{
  for (long i = 0; i < {sizes[0]}; i++) {{
    float v = in[i] / {_hex(a.scale)};
    v = v > {float(-128 - a.zero)}f ? v : {float(-128 - a.zero)}f;
    v = v < {float(127 - a.zero)}f ? v : {float(127 - a.zero)}f;
    const float r = v + 12582912.0f;
    out[i] = (int8_t)((int32_t)(r - 12582912.0f) + ({a.zero}));
  }}
}}

void {name}_dequantize(const int8_t *in, float *out) {{
  for (long i = 0; i < {sizes[1]}; i++) out[i] = (float)(in[i] - ({b.zero})) * {_hex(b.scale)};
}}
"""


def _hex(value: float) -> str:
    return f"{float(np.float32(value)).hex()}f"


SELFCHECK = """
#if (defined __FLT_EVAL_METHOD__ && __FLT_EVAL_METHOD__ != 0) || defined __FAST_MATH__
#error "this network's integers need plain float arithmetic: build without -ffast-math and with FLT_EVAL_METHOD 0"
#endif

/* Is this build's arithmetic the one that the integers are defined by? 0, or the number of the test that fails. */
int NAME_selfcheck(void) {
  volatile float magic = 12582912.0f, a, b, c, r;
  a = 0.5f; r = (a + magic) - magic; if (r != 0.0f) return 1;       /* ties to even */
  a = 1.5f; r = (a + magic) - magic; if (r != 2.0f) return 2;
  a = -2.5f; r = (a + magic) - magic; if (r != -2.0f) return 3;
  a = 16777217.0f / 3.0f; b = 3.0f; r = 5.0f / b; if (r != 0x1.aaaaaap+0f) return 4; /* a true division */
  a = 0x1.000002p+0f; b = 0x1.fffffcp-1f; c = -1.0f; r = a * b; r = r + c; if (r != 0.0f) return 5; /* no contraction */
  a = 1.0f; b = 0x1p-24f; r = a + b; if (r != 1.0f) return 6;       /* round to nearest */
  r = -a - b; if (r != -1.0f) return 7;
  return 0;
}
"""
