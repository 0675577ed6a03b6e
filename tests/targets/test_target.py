from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from shohin.core.errors import TargetError
from shohin.targets import get_target, register_target, target_names
from shohin.targets.host import CPU, LEVELS, can_run, host, resolve

V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V4 = V3 + " avx512f avx512bw avx512cd avx512dq avx512vl"


def cpuinfo(flags: str) -> str:
    return f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: none\n"


def test_every_file_with_a_target_is_registered():
    assert {"host", "cortex-m55", "cortex-m7", "cortex-m4", "wasm32"} <= set(target_names())
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
    assert {"v3", "v4", "vnni", "avxvnni"} < set(LEVELS)
    assert "(x86_64 v4; x86-64-v4 with 8-bit dot products)" in host("vnni").doc and "x86-64-v3 with" in host("avxvnni").doc


@pytest.mark.parametrize("flags, reached", [(V3, {"v3"}), (V3 + " avx_vnni", {"v3", "avxvnni"}), (V4, {"v3", "v4"}), (V4 + " avx512_vnni", {"v3", "v4", "vnni"})])
def test_a_cpu_runs_the_levels_that_it_has(flags, reached, monkeypatch):
    monkeypatch.setattr("shohin.targets.host.CPU", resolve("x86_64", cpuinfo(flags)))
    assert {level for level in LEVELS if can_run(level)} == reached | {"native"}


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
