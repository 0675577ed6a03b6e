"""Every instruction that a set names is what its record says, on the processor, an emulated board or in user mode."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from shohin.kernels.instructions import SETS, Instruction, InstructionSet
from shohin.targets import get_target, target_names
from shohin.targets.board import QemuBoard, build_firmware, run_firmware
from shohin.targets.host import LEVELS, can_run, host
from tests.targets import small_network
from tests.targets.emulator import require_emulator
from tests.targets.user_mode import require_user_mode, run_aarch64

ALL = [pytest.param(s, i, id=f"{s.name}-{i.name}") for s in SETS for i in s.instructions]


def source(instruction: Instruction) -> str:
    """C of a network whose input holds the operands and whose output is the result, both as bytes."""
    lines = ["#include <string.h>", '#include "network.h"', f"#include <{instruction.header}>", f"#if !({instruction.guard})", "#error the guard does not hold", "#endif"]
    lines.append("int small_run(const int8_t *in, int8_t *out, void *arena) {\n(void)arena;")
    offset = 0
    for name, o in instruction.args:
        lines.append(f"{o.c} {name}; memcpy(&{name}, in + {offset}, sizeof {name});")
        offset += np.dtype(o.dtype).itemsize * o.lanes
    lines.append(f"{instruction.result.c} r = {instruction.c(*(name for name, _ in instruction.args))}; memcpy(out, &r, sizeof r); return 0;\n}}")
    lines.append("int small_selfcheck(void) { return 0; }\nvoid small_quantize(const float *in, int8_t *out) { (void)in; (void)out; }\n"
                 "void small_dequantize(const int8_t *in, float *out) { (void)in; (void)out; }")  # fmt: skip
    return "\n".join(lines) + "\n"


def network(instruction: Instruction, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Writes it; random and extreme inputs, and what is to come out."""
    rng, columns = np.random.default_rng(0), []
    for _, o in instruction.args:
        info = np.iinfo(o.dtype)
        values = rng.integers(info.min, info.max, (40, o.lanes), dtype=o.dtype, endpoint=True)
        values[0], values[1], values[2] = info.min, info.max, 0
        columns.append(values // 4 if o.dtype == "int32" else values)
    expected = np.stack([np.atleast_1d(instruction.meaning(*row)) for row in zip(*columns)]).astype(instruction.result.dtype)
    inputs = np.concatenate([c.view(np.int8).reshape(40, -1) for c in columns], axis=1)
    outputs = expected.view(np.int8).reshape(40, -1)
    small_network.write(folder)
    header = (folder / "network.h").read_text().replace("INPUT_SIZE 48", f"INPUT_SIZE {inputs.shape[1]}")
    (folder / "network.h").write_text(header.replace("OUTPUT_SIZE 7", f"OUTPUT_SIZE {outputs.shape[1]}"))
    (folder / "network.c").write_text(source(instruction))
    return inputs, outputs


@pytest.mark.parametrize("s, instruction", ALL)
def test_an_instruction_is_what_it_means(s: InstructionSet, instruction: Instruction, tmp_path: Path) -> None:
    inputs, expected = network(instruction, tmp_path)
    board = next((t for t in map(get_target, target_names()) if t.mcpu == s.mcpu and isinstance(t.strategy, QemuBoard)), None)
    if board is not None:
        require_emulator()
        got = run_firmware(build_firmware(tmp_path, tmp_path / "build", board), inputs, 60).outputs
        np.testing.assert_array_equal(got, expected)
    elif "aarch64" in s.guard:
        require_user_mode()
        np.testing.assert_array_equal(run_aarch64(tmp_path, inputs, s.mcpu), expected)
    else:
        level = next(level for level, mcpu in LEVELS.items() if mcpu == s.mcpu)
        if not can_run(level):
            pytest.skip(f"this CPU does not run {level}")
        for cc in (None, "gcc") if shutil.which("gcc") else (None,):
            target = host(level, cc=cc)
            program = target.strategy.build(target, tmp_path, tmp_path / f"out-{cc}")
            np.testing.assert_array_equal(target.strategy.run(program, inputs, 60.0).outputs, expected)
