from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from shohin.core.errors import TargetError
from shohin.targets import Target, get_target, register_target, target_names
from shohin.targets.board import QemuBoard
from shohin.targets.host import CPU, LEVELS, can_run, host, resolve
from tests.targets import small_network
from tests.targets.emulator import require_emulator

V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V4 = V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"


def cpuinfo(flags: str) -> str:
    return f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: none\n"


def test_every_file_with_a_target_is_registered():
    assert {"host", "cortex-m55", "cortex-m7", "cortex-m4"} <= set(target_names())
    for name in target_names():
        assert get_target(name).name == name


def test_an_unknown_target_names_the_near_and_the_known():
    with pytest.raises(TargetError, match=r"'cortex_m56' is not a known.*Did you mean cortex-m5.*Known: cortex-m4"):
        get_target("cortex_m56")
    with pytest.raises(TargetError, match=r"'zzz' is not a known target. Known:"):
        get_target("zzz")


@pytest.mark.parametrize("name", ["Cortex", "a_b", "a--b", ""])
def test_a_public_name_is_lower_case_with_hyphens(name):
    with pytest.raises(TargetError, match="lower case"):
        register_target(replace(get_target("host"), name=name))


def test_a_name_is_registered_once():
    with pytest.raises(TargetError, match="twice"):
        register_target(replace(get_target("cortex-m55"), doc="another"))
    assert register_target(get_target("cortex-m55")) is get_target("cortex-m55")


@pytest.mark.parametrize("flags, level, vnni", [
    ("sse sse2", "v1", False), (V3, "v3", False), (V3 + " avx_vnni", "v3", True), (V4, "v4", False),
    (V4 + " avx512_vnni", "v4", True), (V4.replace("fma ", ""), "v2", False), ("", "v1", False)])
def test_levels_of_a_cpu(flags, level, vnni):
    cpu = resolve("AMD64", cpuinfo(flags))
    assert (cpu.machine, cpu.model, cpu.level, cpu.vnni) == ("x86_64", "A CPU", level, vnni)


def test_another_machine_has_no_level():
    cpu = resolve("arm64", "Features\t: fp asimd asimddp\n")
    assert (cpu.machine, cpu.level, cpu.vnni) == ("aarch64", "", True)
    assert cpu.key == ("aarch64", "asimd", "asimddp", "fp")


def test_unknown_level_of_a_host():
    with pytest.raises(TargetError, match="level='v9'.*native, v3, v4, vnni"):
        host("v9")


@pytest.mark.skipif(CPU.machine != "x86_64", reason="x86-64 levels")
def test_levels_differ_where_they_should():
    assert len({host(level).mcpu for level in LEVELS}) == len(LEVELS)
    names = {level: {i.name for i in host(level).instructions} for level in ("v3", "v4", "vnni")}
    assert names["v3"] < names["v4"] < names["vnni"] and names["vnni"] - names["v4"] == {"dot4_u8s8"}


def test_a_memory_is_chosen_by_size():
    target = get_target("cortex-m55")
    assert target.memory("ram", 1000, "it").name == "dtcm"
    assert target.memory("ram", 1_000_000, "it").name == "isram"
    with pytest.raises(TargetError, match=r"cortex-m55: it needs 90,000,000 bytes of ram.*dtcm 524,288, isram"):
        target.memory("ram", 90_000_000, "it")


def test_ram_and_flash_of_a_memory_do_not_overlap():
    for name in target_names():
        spans = sorted((m.address, m.address + m.size) for m in get_target(name).memories)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def c_type(kind: tuple[str, int]) -> str:
    return f"{kind[0]}x{kind[1]}" if kind[1] > 1 else f"{kind[0]}_t"


def instruction_network(target: Target, instruction) -> str:
    """C of a network whose input holds the operands and whose output is the result, both as bytes."""
    types = {kind for _, kind in instruction.args} | {instruction.result}
    lines = ["#include <string.h>", '#include "network.h"', f"#include <{instruction.header}>",
             f"#if !({instruction.guard})", "#error the guard does not hold", "#endif"]
    # Names of our own: arm_mve.h has int8x16_t, and a vector of bytes must not be spelled char.
    lines += [f"typedef {d}_t {d}x{n} __attribute__((vector_size({np.dtype(d).itemsize * n})));"
              for d, n in sorted(types) if n > 1]
    lines.append("int small_run(const int8_t *in, int8_t *out, void *arena) {\n(void)arena;")
    offset = 0
    for name, kind in instruction.args:
        size = np.dtype(kind[0]).itemsize * kind[1]
        lines.append(f"{c_type(kind)} {name}; memcpy(&{name}, in + {offset}, {size});")
        offset += size
    expression = instruction.template.format(result=c_type(instruction.result), **{n: n for n, _ in instruction.args})
    lines.append(f"{c_type(instruction.result)} r = {expression}; memcpy(out, &r, sizeof r); return 0;\n}}")
    lines.append("int small_selfcheck(void) { return 0; }\nvoid small_quantize(const float *in, int8_t *out)"
                 "{ (void)in; (void)out; }\nvoid small_dequantize(const int8_t *in, float *out)"
                 "{ (void)in; (void)out; }")
    return "\n".join(lines) + "\n"


def all_instructions():
    levels = [level for level in LEVELS if level == "native" or CPU.machine == "x86_64"]
    targets = [(f"host-{level}-{cc}", host(level, cc=cc)) for level in levels for cc in (None, "gcc")]
    targets += [(name, get_target(name)) for name in target_names() if name != "host"]
    return [pytest.param(target, i, id=f"{name}-{i.name}") for name, target in targets for i in target.instructions]


@pytest.mark.parametrize("target, instruction", all_instructions())
def test_an_instruction_is_what_it_means(target, instruction, tmp_path):
    level = next((level for level, mcpu in LEVELS.items() if mcpu == target.mcpu), "native")
    if isinstance(target.strategy, QemuBoard):
        require_emulator()
    elif not can_run(level):
        pytest.skip(f"this CPU does not run {level}")
    rng = np.random.default_rng(0)
    columns = []
    for _, (dtype, lanes) in instruction.args:
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, (40, lanes), dtype=dtype, endpoint=True)
        values[0], values[1], values[2] = info.min, info.max, 0
        columns.append(values if dtype != "int32" or len(instruction.args) == 2 else values // 4)
    expected = np.stack([np.atleast_1d(instruction.meaning(*row)) for row in zip(*columns)]).view(np.int8)
    inputs = np.concatenate([c.view(np.int8).reshape(40, -1) for c in columns], axis=1)
    folder = small_network.write(tmp_path)
    header = (folder / "network.h").read_text()
    header = header.replace("INPUT_SIZE 48", f"INPUT_SIZE {inputs.shape[1]}")
    (folder / "network.h").write_text(header.replace("OUTPUT_SIZE 7", f"OUTPUT_SIZE {expected.shape[1]}"))
    (folder / "network.c").write_text(instruction_network(target, instruction))
    program = target.strategy.build(target, folder, tmp_path / "out")
    outputs = target.strategy.run(program, inputs, 60.0).outputs
    np.testing.assert_array_equal(outputs.view(instruction.result[0]), expected.view(instruction.result[0]))
