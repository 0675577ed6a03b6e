"""The exported C as people read it, and devices that are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import shohin as sh
from shohin.compress import Plan, Quantize
from shohin.core.errors import TargetError
from shohin.nn.models import DSCNN
from shohin.targets import get_target

X = np.random.default_rng(0).normal(0, 1, (8, 12, 10, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    sh.seed(0)
    small = Plan([("*", Quantize())]).apply(DSCNN(depth=1, width=16), calibration=X)
    return sh.export(small, X[:1], device="cortex-m55", to=tmp_path_factory.mktemp("text")).folder


def test_a_banner_says_what_the_file_is(folder):
    banner = (folder / "network.c").read_text().split("*/")[0]
    assert banner.startswith("/* network for cortex-m55")
    assert "Input: i8[1,12,10,1], value (q - " in banner and re.search(r"Arena: [\d,]+ bytes, aligned to 16", banner)
    assert re.search(r"blocks\.0\.depthwise/qconv2d#0 +qconv2d_depthwise +[\d,]+ +i8\[1,6,5,16\] at [\d,]+\n", banner)


def test_constants_and_layers_say_where_they_belong(folder):
    text = (folder / "network.c").read_text()
    for role in ("weights, packed, i8[", "bias with the zero point's term, i32[16]", "multipliers, f32[16]"):
        assert f"/* blocks.0.pointwise: {role}" in text
    assert text.count("static const _Alignas") == len(re.findall(r"^/\* .* \*/\nstatic const _Alignas", text, re.M))
    assert re.search(r"layer = \{\n    \.n = 1, \.h = ", text)
    assert re.search(r"// stem/qconv2d#0: i8\[1,12,10,1\] in0 -> i8\[1,6,5,16\] a \+ \d+\n", text)


def test_nothing_stands_there_that_is_not_run(folder):
    text = (folder / "network.c").read_text()
    run = text[text.index("int network_run("):]
    assert "c < 0" not in run
    for name in re.findall(r"^static void (network_f\d+)\(|^static const .* (network_\w+)\[\]", text, re.M):
        assert re.search(rf"\b{''.join(name)}\b", run)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_gcc_has_nothing_to_say(folder, tmp_path):
    command = ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-c", str(folder / "network.c"), "-o", str(tmp_path / "n.o")]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_a_device_without_a_float_unit_is_refused(tmp_path, monkeypatch):
    soft = replace(get_target("cortex-m4"), float_unit=False)
    monkeypatch.setattr("shohin.deploy.export.get_target", lambda name: soft)
    with pytest.raises(TargetError, match="no float unit.*requantization in integers is not written"):
        sh.export(DSCNN(depth=1, width=4), X[:1], device="cortex-m4", to=tmp_path)


def test_what_a_target_is_written_for_is_what_is_written(tmp_path, monkeypatch):
    host = get_target("host")
    assert [m.vector_bytes for _, m in host.machines] == [64, 32, 0]
    net = DSCNN(depth=1, width=4)
    plain = sh.export(net, X[:1], device="cortex-m55", to=tmp_path / "a")
    monkeypatch.setattr("shohin.deploy.export.get_target", lambda name: replace(get_target(name), machines=host.machines[1:]))
    wide = sh.export(net, X[:1], device="cortex-m55", to=tmp_path / "b")
    assert "vector_size" in (wide.folder / "network.c").read_text() and "vector_size" not in (plain.folder / "network.c").read_text()


def test_programs_print_themselves():
    net = DSCNN(depth=1, width=4)
    net.eval()
    program = sh.jit(lambda n, x: n(x)).lower(net, X)
    assert "stem.weight" in str(program) and "arena" in str(program.compiled) and "qconv2d" not in str(program)
    assert re.fullmatch(r"<compiled: \d+ steps, arena [\d,]+ bytes, \d+ threads>", repr(program.compiled))
    assert "stem/conv2d#0" in str(program.compiled)


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: n.forward, lambda n: lambda x: n(x)])
def test_traced_cells_have_their_paths(wrap):
    text = str(sh.trace(wrap(DSCNN(depth=1, width=4)))(X))
    assert " stem.weight: f32[4,3,3,1]" in text and " weight: " not in text
    assert text.splitlines()[-1].startswith("}  // the last 6 outputs are written to norm.running_mean, ")
