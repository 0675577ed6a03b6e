"""Programs in C whose every buffer is memory of its own, for gcc's address and undefined-behaviour sanitizers.

An arena hides what reads or writes beyond a buffer; here each operand, constant, result and scratch is allocated with
exactly its bytes, and inputs stand at odd multiples of their element's size.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compiler import ctext
from shohin.compiler.builder import PLACEHOLDER
from shohin.compiler.kernel import Machine
from shohin.compiler.program import emit_step, merge
from shohin.core.nest import Buffer, Program

HEAD = "#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n"
MAIN = """
static FILE *data;
static void *take(long n, long at) {
  char *p = malloc(n + at ? n + at : 1);
  if (fread(p + at, 1, n, data) != (size_t)n) exit(3);
  return p + at;
}
static void *lines(long n) { void *p; if (posix_memalign(&p, 64, n)) exit(3); return p; }
"""


class Exact:
    """Programs, one C function each; a file of their inputs, constants and expected outputs."""

    def __init__(self) -> None:
        self.count = 0
        self._needs: dict[Any, None] = {}
        self._functions: dict[str, str] = {}
        self._parts: list[str] = []
        self._blobs: list[bytes] = []

    def add(self, program: Program, machine: Machine, inputs: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> None:
        """A program, emitted for ``machine``."""
        given, lines = iter(inputs), []
        for b in program.buffers:
            if b.role in ("const", "input"):
                self._blobs.append(np.ascontiguousarray(program.data[b.name] if b.role == "const" else next(given)).tobytes())
                lines.append(f"void *const {b.name} = take({b.nbytes}, {_shift(b)});")
            else:
                lines.append(f"void *const {b.name} = malloc({b.nbytes});")
        buffers = {b.name: b for b in program.buffers}
        for step in (emit_step(s, buffers, machine) for s in program.steps):
            lines.append(f"{{ char *const scratch = lines({step.scratch}), *const shared = lines({step.shared});")
            for function in merge([step]).values():
                self._needs.update(dict.fromkeys(function.needs))
            for piece in step.phases:
                name = f"f{len(self._functions)}_{self.count}"
                text = piece.function.text.replace(PLACEHOLDER, name)
                self._functions[text] = name
                table = ", ".join(piece.function.slots)
                calls = f"for (long c = 0; c < {piece.chunks}; c++) {name}(b, shared, scratch, c, {piece.chunks});"
                lines.append(f"  {{ void *const b[] = {{{table}}}; {calls} }}")
            lines.append("free(scratch); free(shared); }")
        lines.append("int bad = 0;")
        for b, expected in zip([b for b in program.buffers if b.role == "output"], want, strict=True):
            self._blobs.append(np.ascontiguousarray(expected).tobytes())
            assert b.nbytes == len(self._blobs[-1])
            lines.append(f"{{ void *const want = take({b.nbytes}, 0); bad |= memcmp({b.name}, want, {b.nbytes}) != 0; free(want); }}")
        lines += [f"free((char *){b.name} - {_shift(b)});" for b in program.buffers]
        self._parts.append(f"static int case{self.count}(void) {{\n  " + "\n  ".join(lines) + "\n  return bad;\n}\n")
        self.count += 1

    @property
    def text(self) -> str:
        """The C file: before each program its number is printed, after a wrong one its number and ``wrong``."""
        calls = "".join(f'  puts("{i}");\n  if (case{i}()) puts("{i} wrong");\n' for i in range(self.count))
        main = f'int main(int n, char **names) {{\n  setvbuf(stdout, NULL, _IONBF, 0);\n  data = n == 2 ? fopen(names[1], "rb") : NULL;\n{calls}  return 0;\n}}\n'
        return "\n".join([HEAD + ctext.HEADER + ctext.render(self._needs), *self._functions, MAIN, *self._parts, main])

    def failures(self, folder: Path, *flags: str) -> dict[int, str]:
        """What is wrong, by the program's number: its results, or a sanitizer's report, which ends the run."""
        (folder / "batch.c").write_text(self.text)
        (folder / "batch.bin").write_bytes(b"".join(self._blobs))
        sanitize = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=alignment")
        command = ["gcc", "-O1", "-g1", "-std=c11", "-w", "-Wno-psabi", "-ffp-contract=off", "-fno-math-errno", *sanitize, *flags]
        subprocess.run([*command, str(folder / "batch.c"), "-o", str(folder / "batch"), "-lm"], check=True)
        done = subprocess.run([str(folder / "batch"), str(folder / "batch.bin")], capture_output=True, text=True, check=False, timeout=600)
        lines = done.stdout.split("\n")[:-1]
        found = {int(line.split()[0]): "the results are wrong" for line in lines if line.endswith("wrong")}
        if done.stderr or done.returncode:
            found[int(lines[-1].split()[0]) if lines else -1] = done.stderr[:3000] or f"exit status {done.returncode}"
        return found


def _shift(b: Buffer) -> int:
    return b.dtype.itemsize if b.role == "input" else 0
