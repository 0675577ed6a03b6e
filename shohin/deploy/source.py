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
from shohin.core.graph import Graph, Var
from shohin.core.nest import KernelCall
from shohin.deploy.layout import Layout, Piece, Stage
from shohin.deploy.packed import ELEMENT, is_packed, layout, offsets, prototype, run_text
from shohin.deploy.streaming import State, reset_text, state_bytes, step_text

_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """scale, zero point and least and largest integer of a boundary: the value of q is (q - zero) * scale."""

    scale: float
    zero: int
    limits: tuple[int, int] = (-128, 127)


@dataclass(frozen=True, kw_only=True)
class Text:
    header: str
    source: str
    arena_bytes: int
    kernels: tuple[tuple[str, str], ...]
    layout: Layout


DEVICE = (("", GENERIC),)
"""Plain loops, and kernels that ask the compiler for instructions themselves."""


def write_c(graph: Graph, name: str, *, machines: Sequence[tuple[str, Machine]] = DEVICE, grids: Sequence[Grid | None] | None = None, device: str = "",
            states: Sequence[State] = ()) -> Text:  # fmt: skip
    """The C of a graph for a batch of one; ``grids`` for the inputs and outputs of integers (None: an index). ``machines``:
    preprocessor conditions and what is written where they hold. The last inputs and outputs are the ``states``, which stay inside.

    Raises ``DeployError`` where an input or output has another dtype, or the name is no C identifier.
    """
    if not _C_NAME.fullmatch(name):
        raise DeployError(f"{name!r} is not a C identifier; pass another name=")
    for v in (*graph.inputs, *graph.outputs):
        if v.dtype not in ELEMENT:
            raise DeployError(f"{name}: an input or output is {v.aval}, expected {', '.join(d.name for d in ELEMENT)}")
    best = passes.optimize(graph)
    variants = [Variant(condition, lower(best, m), m) for condition, m in machines]
    own = lambda vs: vs[: len(vs) - len(states)]
    inputs, outputs = own(graph.inputs), own(graph.outputs)
    both = (*inputs, *outputs)
    values = ["" if g is None else f", value (q - {g.zero}) * {float(np.float32(g.scale))!r}" for g in grids or [None] * len(both)]
    packed, n = is_packed(inputs, outputs), len(inputs)
    x, y = inputs[0], outputs[0]
    if packed:
        names = [*(f"in{k}" for k in range(n)), *(f"out{k}" for k in range(len(outputs)))]
        text = f"Inputs:\n{layout(names[:n], inputs, values)}\nOutputs:\n{layout(names[n:], outputs, values[n:])}"
        element, sizes = "int8_t", tuple(offsets([(v.shape, v.dtype) for v in vs])[-1] for vs in (inputs, outputs))
    else:
        text = f"Input: {x.aval}{values[0]}\nOutput: {y.aval}{values[1]}"
        element, sizes = ELEMENT[x.dtype], (int(np.prod(x.shape)), int(np.prod(y.shape)))
    about = f"{name}{' for ' + device if device else ''}, written by Shohin: {name}_run is the network.\n{text}"
    run = f"{name}_parts" if packed else name
    prefix = f"{name}_net" if states else run
    library = emit_variants(variants, prefix, about=about, header="network.h")
    body = library.text.replace(f"{prefix}_STEP", f"{name}_STEP")
    found = re.search(rf"#define {prefix}_ARENA_BYTES (\d+)\n", body)
    assert found
    arena = int(found[1])
    if states:
        body = re.sub(rf"^int {prefix}_run", f"static int {prefix}_run", body, flags=re.MULTILINE)
        at, n_state = -(-arena // 16) * 16, state_bytes(states)
        arena = at + 2 * n_state
    prototypes = [f"int {name}_run(const {element} *in, {element} *out, void *arena);", f"int {name}_selfcheck(void);"]
    boundaries = [(f"_{names[k]}" if packed else "", v, g, k < n) for k, (v, g) in enumerate(zip(both, grids or (), strict=False)) if g is not None]
    for suffix, v, _, enters in boundaries:
        one = ("const float *in", f"{ELEMENT[v.dtype]} *out") if enters else (f"const {ELEMENT[v.dtype]} *in", "float *out")
        prototypes.append(f"void {name}_{'' if enters else 'de'}quantize{suffix}({', '.join(one)});")
    if packed:
        prototypes.insert(0, f"{prototype(run, inputs, outputs)};")
    if states:
        prototypes.append(f"void {name}_reset(void *arena); /* before the first element of a sequence */")
    guard = f"SHOHIN_{name.upper()}_H"
    note = f"\n   {text.replace(chr(10), chr(10) + '   ')}\n   {name}_run takes and gives them as blocks of bytes, aligned to 16." if packed else f" {x.aval} -> {y.aval}."
    macros = f"#define {name}_STATE_SIZE {2 * n_state}\n#define {name.upper()}_STATE_AT {at}\n" if states else ""
    keeps = f"\n   Each call goes on where the last one ended: what the network remembers lies in the last {name}_STATE_SIZE bytes of the arena, so nothing else may use them." if states else ""
    header = f"""\
/* {name}:{note}{keeps} The arena must be aligned to 16 bytes; functions return 0 when all is well. */
#ifndef {guard}
#define {guard}
#include <stdint.h>
#define {name}_INPUT_SIZE {sizes[0]}
#define {name}_OUTPUT_SIZE {sizes[1]}
#define {name}_ARENA_SIZE {max(arena, 1)}
{macros}#ifdef __cplusplus
extern "C" {{
#endif
{chr(10).join(prototypes)}
#ifdef __cplusplus
}}
#endif
#endif
"""
    source = f'{body}\n{SELFCHECK.replace("NAME", name).replace("ROOTS", ROOTS if "__builtin_sqrtf(" in body else "")}'
    if states:
        source += reset_text(name, states) + step_text(prefix, prototype(run, inputs, outputs), len(inputs), len(outputs), states, name)
    if packed:
        source += run_text(name, inputs, outputs)
    for suffix, v, g, enters in boundaries:
        source += (_quantize if enters else _dequantize)(name + ("_" if enters else "_de") + f"quantize{suffix}", v, g)
    kernels = tuple((s.place, s.kernel if isinstance(s, KernelCall) else "loops") for s in variants[0].program.steps)
    return Text(header=header, source=source, arena_bytes=max(arena, 1), kernels=kernels, layout=_layout(library))


def _layout(library: Library) -> Layout:
    places, memory = library.memory.places, library.memory
    steps = zip(places, memory.live, library.constants, strict=True)
    blocks = sorted(memory.blocks, key=lambda b: (b.first, b.offset))
    return Layout(
        steps=tuple(Stage(place=p, live=n, constants=c) for p, n, c in steps),
        blocks=tuple(Piece(place=places[b.first], offset=b.offset, size=b.size, first=b.first, last=min(b.last, len(places) - 1)) for b in blocks))  # fmt: skip


def _quantize(function: str, v: Var, g: Grid) -> str:
    lo, hi = (float(n - g.zero) for n in g.limits)
    return f"""
/* q = round_half_even(clip(x / s, {g.limits[0]} - z, {g.limits[1]} - z)) + z; NaN gives {g.limits[0]}. The clip comes first, so that adding and
   subtracting 1.5 * 2^23 rounds exactly. */
void {function}(const float *in, {ELEMENT[v.dtype]} *out) {{
  for (long i = 0; i < {int(np.prod(v.shape))}; i++) {{
    float v = in[i] / {_hex(g.scale)};
    v = v > {lo}f ? v : {lo}f;
    v = v < {hi}f ? v : {hi}f;
    const float r = v + 12582912.0f;
    out[i] = ({ELEMENT[v.dtype]})((int32_t)(r - 12582912.0f) + ({g.zero}));
  }}
}}
"""


def _dequantize(function: str, v: Var, g: Grid) -> str:
    return f"""
void {function}(const {ELEMENT[v.dtype]} *in, float *out) {{
  for (long i = 0; i < {int(np.prod(v.shape))}; i++) out[i] = (float)(in[i] - ({g.zero})) * {_hex(g.scale)};
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
  a = 0x1.73e1bcp+0f; b = 0x1.8d5cc4p+0f; r = a / b; if (r != 0x1.df2b18p-1f) return 8; /* quotients and roots that */
  a = 0x1.381688p+0f; b = 0x1.94453cp+0f; r = a / b; if (r != 0x1.8b40bep-1f) return 9; /* estimates miss */
ROOTS  return 0;
}
"""
ROOTS = """\
  a = 0x1.c93e46p+1f; r = __builtin_sqrtf(a); if (r != 0x1.e3d9p+0f) return 10;
  a = 0x1.cb75fp+1f; r = __builtin_sqrtf(a); if (r != 0x1.e504fcp+0f) return 11;
  a = 0x1.30a848p+1f; r = __builtin_sqrtf(a); if (r != 0x1.8af2e6p+0f) return 12;
"""
