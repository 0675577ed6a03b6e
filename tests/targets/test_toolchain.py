from __future__ import annotations

import pytest

from shohin.core.errors import BuildError, DeployError
from shohin.targets import toolchain
from shohin.targets.source import read_source
from shohin.targets.toolchain import atomic, call, find_compiler, zig
from tests.targets import small_network


def test_the_default_compiler_is_zig(monkeypatch):
    monkeypatch.delenv("SHOHIN_CC", raising=False)
    assert find_compiler() == zig() and zig().family == "zig"


@pytest.mark.parametrize("text, family", [("gcc", "gcc"), ("cc", "gcc"), ("gcc -pipe", "gcc"), ("zig", "zig")])
def test_shohin_cc_overrides(text, family, monkeypatch):
    monkeypatch.setenv("SHOHIN_CC", text)
    assert find_compiler().family == family
    assert find_compiler("zig").family == "zig"


def test_a_missing_compiler_says_where_it_came_from(monkeypatch):
    monkeypatch.setenv("SHOHIN_CC", "no-such-cc -x")
    with pytest.raises(BuildError, match="SHOHIN_CC='no-such-cc -x' names a command that is not on the PATH"):
        find_compiler()
    with pytest.raises(BuildError, match="cc='other-cc'"):
        find_compiler("other-cc")


def test_without_ziglang(monkeypatch):
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match="ziglang is not installed.*SHOHIN_CC"):
        zig()


def test_flags_of_an_architecture():
    assert zig().architecture("x86_64_v4+avx512vnni") == ("-mcpu=x86_64_v4+avx512vnni",)
    assert find_compiler("gcc").architecture("x86_64_v4+avx512vnni") == ("-march=x86-64-v4", "-mavx512vnni")
    assert find_compiler("gcc").architecture("native") == ("-march=native",)


def test_a_failure_shows_command_and_first_lines(tmp_path):
    (tmp_path / "a.c").write_text("int f(void) { return undeclared; }\n" * 20)
    with pytest.raises(BuildError) as error:
        call([*zig().command, "-c", tmp_path / "a.c", "-o", tmp_path / "a.o"], doing="compiling a")
    message = str(error.value)
    assert message.startswith("compiling a: the compiler failed (exit code 1)\n  command: ")
    assert "undeclared" in message and "more lines" in message and len(message.splitlines()) < 20


def test_a_command_that_does_not_start(tmp_path):
    with pytest.raises(BuildError, match="cannot start .*none"):
        call([tmp_path / "none"], doing="x")


def test_atomic_leaves_all_or_nothing(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError):
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with atomic(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_a_header_is_read(tmp_path):
    source = read_source(small_network.write(tmp_path))
    assert (source.name, source.macro, source.input_size, source.output_size, source.arena_bytes, source.element) == (
        "small", "SMALL", 48, 7, 64, "int8_t")


@pytest.mark.parametrize("old, new, message", [
    ("#define SMALL_ARENA_SIZE 64", "", "no `#define small_ARENA_SIZE <number>`"),
    ("#define SMALL_ARENA_SIZE 64", "#define SMALL_ARENA_SIZE (8*8)", "no `#define small_ARENA_SIZE <number>`"),
    ("const int8_t *in, int8_t *out, void", "const short *in, int8_t *out, void",
     "takes short, expected int8_t or float"),
    ("int small_run", "long small_go", "0 prototypes")])
def test_a_header_that_is_not_an_export_s(old, new, message, tmp_path):
    header = small_network.write(tmp_path) / "network.h"
    header.write_text(header.read_text().replace(old, new))
    with pytest.raises(DeployError, match=message.replace("(", r"\(")):
        read_source(tmp_path)


def test_a_folder_without_a_network(tmp_path):
    with pytest.raises(DeployError, match=r"no network.h: not an artefact's folder"):
        read_source(tmp_path)
