"""Ways to use an artefact: called from Python and PyTorch, built by Make and CMake, from C++, with a clock between its steps."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress.integer import integers
from shohin.core.errors import DeployError
from shohin.deploy.artefact import Artefact, load_artefact
from shohin.deploy.timeline import timeline
from shohin.targets.toolchain import zig
from tests.compress.nets import images, quantized


@pytest.fixture(scope="module")
def net() -> sh.compress.Quantized:
    return quantized(0)


@pytest.fixture(scope="module", params=["cortex-m55", "host"])
def art(net: sh.compress.Quantized, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return sh.export(net, images(1), device=request.param, to=tmp_path_factory.mktemp(request.param))


def test_called_it_gives_the_integers(net: sh.compress.Quantized, art: Artefact) -> None:
    x = images(9, 5)
    expected = list(integers(net, x).values())[-1]
    assert np.array_equal(art.run(x), expected)
    assert np.array_equal(art(x), net.eval()(x).numpy()) and art(x).dtype == np.float32
    assert np.array_equal(load_artefact(art.folder)(x[:2]), art(x[:2]))
    with pytest.raises(DeployError, match=r"shape \(9, 10, 9\), expected \(n, 10, 9, 3\)"):
        art(x[..., 0])


def test_a_float_network(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    found = sh.export(net, x, device="cortex-m55", to=tmp_path)
    np.testing.assert_allclose(found(x), net(x).numpy(), rtol=1e-5, atol=1e-6)


def test_as_a_torch_module(art: Artefact) -> None:
    torch = pytest.importorskip("torch")
    x = images(3, 6)
    found = sh.as_torch(art)(torch.from_numpy(x))
    assert np.array_equal(found.numpy(), art(x)) and "network for" in repr(sh.as_torch(art))


def test_the_layout_is_that_of_the_arena(art: Artefact) -> None:
    found = art.layout
    assert max(b.offset + b.size for b in found.blocks) == art.arena_bytes
    assert 0 < found.peak.live <= art.arena_bytes and found.arena_if(lambda b: 1.0) == found.peak.live
    assert found.arena_if(lambda b: 0.5) == found.peak.live / 2
    for a in found.blocks:
        for b in found.blocks:
            apart = a.last < b.first or b.last < a.first or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
            assert a is b or apart
    weights = sum(found.constants_by_layer().values())
    assert 20_000 < weights <= art.sections.rodata + art.sections.data or art.device == "host"


def test_a_clock_between_the_steps(art: Artefact) -> None:
    found = timeline(art, images(1), repeats=5)
    assert "stem/qconv2d#0" in [t.place for t in found] and len(found) >= 15
    assert all(t.seconds >= 0 for t in found) and sum(t.seconds for t in found) > 0


MAIN = """\
#include <cstdio>
#include "network.hpp"
static shohin::network net;
int main()
{
    shohin::network::input in{};
    shohin::network::output out{};
    shohin::network::real_input real{};
    shohin::network::real_output values{};
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::int8_t>(static_cast<int>(i * 37 % 256) - 128);
    for (std::size_t i = 0; i < real.size(); ++i) real[i] = 0.01f * static_cast<float>(i % 100);
    if (!net.sound() || !net.run(in, out)) return 1;
    for (auto q : out) std::printf("%d\\n", q);
    if (!net.run(real, values)) return 1;
    for (auto v : values) std::printf("%.9g\\n", static_cast<double>(v));
}
"""


def cxx() -> list[list[str]]:
    bundled = [*zig().command[:-1], "c++"]
    return [bundled, *([["g++"]] if shutil.which("g++") else [])]


@pytest.mark.parametrize("compiler", cxx(), ids=["zig", "g++"][: len(cxx())])
def test_a_cpp_program(art: Artefact, compiler: list[str], tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(MAIN)
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-I", str(art.folder)]
    c = [*zig().command] if "c++" in compiler else ["gcc"]
    for command in (
        [*c, *flags[:1], "-std=c11", "-ffp-contract=off", "-c", str(art.folder / "network.c"), "-o", str(tmp_path / "network.o")],
        [*compiler, "-std=c++17", *flags, str(tmp_path / "main.cpp"), str(tmp_path / "network.o"), "-o", str(tmp_path / "main")],
    ):
        subprocess.run(command, check=True, capture_output=True)
    said = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.split()
    n, size = art.source.output_size, art.source.input_size
    q = (np.arange(size) * 37 % 256 - 128).astype(np.int8)
    assert [int(v) for v in said[:n]] == art.library.run(q[None]).reshape(-1).tolist()
    real = (np.float32(0.01) * (np.arange(size) % 100).astype(np.float32)).reshape(1, *art.inputs[0].shape)
    assert np.array_equal(np.asarray(said[n:], np.float64).astype(np.float32), art(real).reshape(-1))


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_builds_a_library(art: Artefact, tmp_path: Path) -> None:
    shutil.copytree(art.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    given: list[str] = []
    if art.device != "host" and not shutil.which("arm-none-eabi-gcc"):  # the bundled clang takes the place of the cross compiler
        target = "thumb-freestanding-eabihf"
        include = Path(sh.__file__).parent / "targets" / "firmware" / "include"
        given = [f"CC={zig().command[0]} cc -target {target} -mcpu=cortex_m55+mve_fp -isystem {include}", "ARCH=", f"AR={zig().command[0]} ar", "SIZE=true"]
    done = subprocess.run(["make", "-C", tmp_path / "copy", *given], capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert (tmp_path / "copy" / "libnetwork.a").stat().st_size > 20_000


def test_an_esp_idf_component(art: Artefact) -> None:
    """Without ESP-IDF: what CMake is asked to do where its variable is set."""
    if not shutil.which("cmake"):
        pytest.skip("there is no cmake here")
    probe = art.folder.parent / f"{art.device}-probe.cmake"
    probe.write_text(
        "set(ESP_PLATFORM 1)\nset(COMPONENT_LIB here)\n"
        "function(idf_component_register)\n  message(\"register ${ARGN}\")\nendfunction()\n"
        "function(target_compile_options)\n  message(\"options ${ARGN}\")\nendfunction()\n"
        f"include({art.folder / 'CMakeLists.txt'})\n"
    )  # fmt: skip
    said = subprocess.run(["cmake", "-P", probe], check=True, capture_output=True, text=True).stderr
    assert "register SRCS;network.c;INCLUDE_DIRS;." in said and "options here;PRIVATE;-O3;-ffp-contract=off" in said
