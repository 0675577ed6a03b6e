"""Random integer layers in C whose every buffer is memory of its own, for gcc's address and undefined-behaviour sanitizers.

An artefact's arena hides what reads or writes beyond a buffer; here each operand, constant, result and scratch is
allocated with exactly its bytes, and the input stands at an odd address.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shohin.kernels  # noqa: F401 (registers them)
from shohin.compiler import ctext, passes
from shohin.compiler.builder import PLACEHOLDER
from shohin.compiler.kernel import Machine
from shohin.compiler.lowering import lower
from shohin.compiler.program import emit_step, merge
from shohin.core import dtypes, interp
from shohin.core.nest import KernelCall, Program
from shohin.core.op import Aval
from shohin.core.tensor import Tensor, as_tensor
from shohin.core.trace import stage
from shohin.ops import kinds, math, qlinear, quant
from shohin.ops.palette import depalettize, pack

Op = Callable[[Tensor], Tensor]
Layer = tuple[tuple[int, ...], Op, str]
MAIN = """
static FILE *data;
static void *take(long n) { char *p = malloc(n ? n : 1); if (fread(p, 1, n, data) != (size_t)n) exit(3); return p; }
static void *take_odd(long n) { char *p = malloc(n + 1); if (fread(p + 1, 1, n, data) != (size_t)n) exit(3); return p + 1; }
"""


def layer(rng: np.random.Generator) -> Layer:
    """A convolution (plain, in groups, depthwise; palettized or not), a product, with the usual epilogue or another; or a pool."""
    pick = lambda *values: int(rng.choice(values))
    if rng.random() < 0.15:
        m, k, n = pick(1, 2, 5, 40), pick(1, 3, 16, 17, 70), pick(1, 3, 4, 5, 17, 66)
        w, what = weights(rng, (n, k))
        zero, close = pick(-128, 127, -3), epilogue(rng, (m, n), k)
        return (m, k), lambda q: close(qlinear.qmatmul(q, w(), zero=zero)), f"matmul {m} {k} {n} {what}"
    if rng.random() < 0.15:
        return pool(rng)
    groups, kh, kw = pick(1, 1, 1, 2, 3, 5), pick(1, 1, 2, 3, 5), pick(1, 1, 2, 3, 4)
    inside, each = pick(1, 1, 2, 3, 4, 7, 16, 17), pick(1, 1, 2, 3, 4, 5, 16, 23)
    if rng.random() < 0.3:
        groups, inside, each = pick(1, 2, 3, 15, 16, 17, 33, 64, 70), 1, 1
    stride, dilation = (pick(1, 1, 2, 3), pick(1, 1, 2, 3)), (pick(1, 1, 1, 2, 3), pick(1, 1, 1, 2))
    padding = tuple((pick(0, 0, 1, 2, 5), pick(0, 0, 1, 2, 5)) for _ in range(2))
    size = lambda k, d, pad, free: max(1, (k - 1) * d + free - (sum(pad) if rng.random() < 0.5 else 0))
    h, wide = (size(k, d, p, pick(1, 1, 2, 5, 9)) for k, d, p in zip((kh, kw), dilation, padding))
    shape = (pick(1, 1, 2), h, wide, groups * inside)
    out = tuple((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, p, k, d, s in zip((h, wide), padding, (kh, kw), dilation, stride))
    if min(out) < 1:
        return layer(rng)
    w, what = weights(rng, (groups * each, kh, kw, inside))
    zero, close = pick(-128, 127, 0, 3), epilogue(rng, (shape[0], *out, groups * each), kh * kw * inside)
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return shape, lambda q: close(qlinear.qconv2d(q, w(), zero=zero, **attrs)), f"conv {shape} -> {groups * each} {kh}x{kw} {attrs} {what}"


def pool(rng: np.random.Generator) -> Layer:
    """A max pool, some windows of which may lie in the padding altogether."""
    pick = lambda *values: int(rng.choice(values))
    kernel, stride = (pick(1, 2, 3, 5), pick(1, 2, 3)), (pick(1, 2, 3), pick(1, 2, 3))
    padding = tuple((pick(0, 0, 1, 2, 6), pick(0, 0, 1, 2, 6)) for _ in range(2))
    shape = (pick(1, 2), *(max(1, k - sum(p) + pick(0, 1, 4)) for k, p in zip(kernel, padding)), pick(1, 3, 15, 16, 17, 40, 64))
    return shape, lambda q: interp.bind(kinds.get("max_pool2d"), [q], {"kernel": kernel, "stride": stride, "padding": padding})[0], f"max pool {shape} {kernel} {stride} {padding}"


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Callable[[], Tensor], str]:
    bits = int(rng.integers(1, 7))
    if rng.random() < 0.4:
        group = int(rng.choice([1, 2, shape[0]]))
        codes = pack(rng.integers(0, 2**bits, (shape[0], int(np.prod(shape[1:])))), bits)
        book = rng.integers(-127, 128, (-(-shape[0] // group), 2**bits)).astype(np.int8)
        return lambda: depalettize(codes, book, shape=shape, bits=bits, group=group), f"palette {bits}/{group}"
    w = rng.integers(-127, 128, shape).astype(np.int8)
    return lambda: as_tensor(w), "dense"


def epilogue(rng: np.random.Generator, shape: tuple[int, ...], terms: int) -> Op:
    o = shape[-1]
    kind, z = rng.integers(0, 8), int(rng.choice([-128, 127, 0, 5]))
    q_b, M = rng.integers(-5000, 5000, o).astype(np.int32), (rng.uniform(-1, 1, o) / np.sqrt(terms) / 35).astype(np.float32)
    wide = rng.integers(-99, 99, shape).astype(np.int32)
    if kind == 0:
        return lambda acc: acc
    if kind == 1:
        return lambda acc: math.astype(math.minimum(math.maximum(acc + as_tensor(wide), -90), 100), dtypes.int8)
    return lambda acc: quant.requant(acc + as_tensor(q_b), as_tensor(M), z=z, lo=max(-128, min(z, 100)), hi=127)


class Batch:
    """``count`` layers of ``make`` in one C program; ``failures`` runs it and says which layers gave wrong bytes."""

    def __init__(self, seed: int, count: int, machine: Machine, make: Callable[[np.random.Generator], Layer] = layer) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers = [make(self.rng) for _ in range(count)]
        self.machine, self.kernels = machine, set[str]()
        self.text, self.data = self._write()

    def _write(self) -> tuple[str, bytes]:
        needs: dict[Any, None] = {}
        functions: dict[str, str] = {}
        parts, blobs = [], []
        for i, (shape, body, _) in enumerate(self.layers):
            graph = stage(lambda q, body=body: [body(q)], [Aval(shape, dtypes.int8)], ["q"]).graph
            program = lower(passes.optimize(graph), self.machine)
            self.kernels |= {s.kernel for s in program.steps if isinstance(s, KernelCall)}
            q = self.rng.integers(-128, 128, shape).astype(np.int8)
            parts.append(self._case(i, program, q, body(as_tensor(q)).numpy(), functions, needs, blobs))
        calls = "".join(f"  failed |= case{i}();\n" for i in range(len(self.layers)))
        main = f"int main(int n, char **names) {{\n  int failed = n != 2;\n  data = fopen(names[1], \"rb\");\n{calls}  return failed;\n}}\n"
        head = "#include <stdio.h>\n#include <stdlib.h>\n" + ctext.HEADER + ctext.render(needs)
        return "\n".join([head, *functions, MAIN, *parts, main]), b"".join(blobs)

    def _case(self, i: int, program: Program, q: np.ndarray, want: np.ndarray, functions: dict[str, str], needs: dict[Any, None], blobs: list[bytes]) -> str:
        lines = []
        for b in program.buffers:
            kind = {"const": "take", "input": "take_odd"}.get(b.role)
            if kind:
                blobs.append(np.ascontiguousarray(program.data[b.name] if b.role == "const" else q).tobytes())
            lines.append(f"void *const {b.name} = {f'{kind}({b.nbytes})' if kind else f'malloc({b.nbytes})'};")
        buffers = {b.name: b for b in program.buffers}
        for step in (emit_step(s, buffers, self.machine) for s in program.steps):
            lines.append(f"{{ char *const scratch = malloc({step.scratch}), *const shared = malloc({step.shared});")
            for function in merge([step]).values():
                needs.update(dict.fromkeys(function.needs))
            for piece in step.phases:
                name = f"f{len(functions)}_{i}"
                text = piece.function.text.replace(PLACEHOLDER, name)
                functions[text] = name
                table = ", ".join(piece.function.slots)
                calls = f"for (long c = 0; c < {piece.chunks}; c++) {name}(b, shared, scratch, c, {piece.chunks});"
                lines.append(f"  {{ void *const b[] = {{{table}}}; {calls} }}")
            lines.append("free(scratch); free(shared); }")
        out = next(b for b in program.buffers if b.role == "output")
        blobs.append(np.ascontiguousarray(want).tobytes())
        assert out.nbytes == len(blobs[-1])
        lines.append(f"void *const want = take({out.nbytes}); const int bad = memcmp({out.name}, want, {out.nbytes}) != 0;")
        lines.append(f'if (bad) printf("{i}\\n");')
        freed = " ".join(f"free({f'(char *){b.name} - 1' if b.role == 'input' else b.name});" for b in program.buffers)
        return f"static int case{i}(void) {{\n  " + "\n  ".join(lines) + f"\n  {freed} free(want);\n  return bad;\n}}\n"

    def failures(self, folder: Path, *flags: str) -> list[str]:
        """Raises ``AssertionError`` with the sanitizer's report."""
        (folder / "batch.c").write_text(self.text)
        (folder / "batch.bin").write_bytes(self.data)
        sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment")
        command = ["gcc", "-O1", "-g1", "-std=c11", "-w", "-ffp-contract=off", "-fno-math-errno", *sanitize, *flags]
        subprocess.run([*command, str(folder / "batch.c"), "-o", str(folder / "batch"), "-lm"], check=True)
        done = subprocess.run([str(folder / "batch"), str(folder / "batch.bin")], capture_output=True, text=True, check=False, timeout=300)
        assert not done.stderr and done.returncode in (0, 1), done.stderr[:3000] or done.returncode
        return [self.layers[int(k)][2] for k in done.stdout.split()]
