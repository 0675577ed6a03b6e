"""The files of an artefact beside the network's own: ways to build it, a class for C++, an example."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from shohin.targets.board import FIRMWARE
from shohin.targets.source import Source
from shohin.targets.target import Target
from shohin.targets.wasm32 import GLUE, glue_flags

_CMAKE = """\
# Any C11 compiler builds this: cmake -B build && cmake --build build. Copied into components/ of an ESP-IDF project, this
# folder is a component of it.
if(ESP_PLATFORM)
  idf_component_register(SRCS "network.c" INCLUDE_DIRS ".")
  target_compile_options(${COMPONENT_LIB} PRIVATE -O3 -ffp-contract=off)
  return()
endif()
cmake_minimum_required(VERSION 3.13)
project(@NAME@ C)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(@NAME@ STATIC network.c)
target_include_directories(@NAME@ PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(@NAME@ PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
# Never -ffast-math: the integers are defined to the bit, and @NAME@_selfcheck() notices.
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options(@NAME@ PRIVATE -ffp-contract=off)
endif()

if(UNIX)
  target_link_libraries(@NAME@ PUBLIC m) # gcc calls sqrtf for its errno
endif()
if(NOT CMAKE_CROSSCOMPILING AND CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  add_executable(@NAME@_example example.c)
  set_target_properties(@NAME@_example PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
  target_link_libraries(@NAME@_example PRIVATE @NAME@)
endif()
"""

_MAKEFILE = """\
# make builds lib@NAME@.a@WITH@ and prints its size; CC, AR and SIZE name other tools of that kind.
CROSS  ?= @CROSS@
CC     := $(if $(filter default,$(origin CC)),$(CROSS)gcc,$(CC))
AR     := $(if $(filter default,$(origin AR)),$(CROSS)ar,$(AR))
SIZE   ?= $(CROSS)size
ARCH   ?=@ARCH@
# Never -ffast-math: the integers are defined to the bit, and @NAME@_selfcheck() notices.
CFLAGS ?= -O3 -Wall -Wextra

lib@NAME@.a: network.o
	$(AR) rcs $@ $^
	-$(SIZE) $@

network.o: network.c network.h
	$(CC) $(ARCH) $(CFLAGS) -std=c11 -ffunction-sections -fdata-sections -ffp-contract=off -c $< -o $@

clean:
	rm -f network.o lib@NAME@.a

.PHONY: clean
"""

_HPP = """\
// @NAME@ as a C++17 class. It owns its arena: make it static on a device, and use one object a thread.
#ifndef SHOHIN_@UPPER@_HPP
#define SHOHIN_@UPPER@_HPP
#include <array>
#include <cstddef>
#include <cstdint>
#include "network.h"

namespace shohin {

class @NAME@ {
public:
    static constexpr std::size_t input_size = @MACRO@_INPUT_SIZE;
    static constexpr std::size_t output_size = @MACRO@_OUTPUT_SIZE;
    static constexpr std::size_t arena_size = @MACRO@_ARENA_SIZE;
    using element = @ELEMENT@;
    using input = std::array<element, input_size>;
    using output = std::array<element, output_size>;

    // Is this build's arithmetic the one that the results are defined by?
    [[nodiscard]] static bool sound() noexcept { return @NAME@_selfcheck() == 0; }

@RESET@    // One inference; false where the network refuses, which a sound build never does.
    [[nodiscard]] bool run(const input &in, output &out) noexcept { return @NAME@_run(in.data(), out.data(), arena_.data()) == 0; }
@REAL@
private:
    alignas(64) std::array<unsigned char, arena_size> arena_{};
};

}  // namespace shohin
#endif
"""

_REAL = """\

    using real_input = std::array<float, input_size>;
    using real_output = std::array<float, output_size>;

    // The same from real values to real values.
    [[nodiscard]] bool run(const real_input &in, real_output &out) noexcept
    {
        input q{};
        output r{};
        @NAME@_quantize(in.data(), q.data());
        const bool done = run(q, r);
        if (done) @NAME@_dequantize(r.data(), out.data());
        return done;
    }
"""

_RESET = """\
    @NAME@() noexcept { reset(); }

    // Each call of run goes on where the last one ended; this begins anew.
    void reset() noexcept { @NAME@_reset(arena_.data()); }

"""

_WASM_MAKEFILE = """\
# make builds @NAME@.wasm with the clang of the package ziglang (pip install ziglang), which brings memcpy and memset.
CC     ?= cc
CC     := $(if $(filter default,$(origin CC)),python3 -m ziglang cc,$(CC))
CFLAGS ?= -O3

@NAME@.wasm: network.c network.h wasm.c
	$(CC) -target @TRIPLE@ -mcpu=@CPU@ $(CFLAGS) @FLAGS@ -std=c11 -isystem include -I . network.c wasm.c -Wl,--no-entry -Wl,--gc-sections -Wl,--strip-all -o $@

clean:
	rm -f @NAME@.wasm

.PHONY: clean
"""

_MJS = """\
// @NAME@ in JavaScript: `const net = await load(bytes)`, bytes of @NAME@.wasm (make builds it). No imports, no globals.
export async function load(bytes) {
  const { instance } = await WebAssembly.instantiate(bytes, {});
  const net = instance.exports;
  if (net.selfcheck() !== 0) throw new Error("@NAME@: this engine's arithmetic is not the defined one");
  const view = (Type, at, size) => new Type(net.memory.buffer, at, size);
  const run = (x) => {
    if (x.length !== net.input_size()) throw new RangeError(`@NAME@: ${x.length} elements, expected ${net.input_size()}`);
    view(@TYPED@, net.input(), x.length).set(x);
    if (net.run() !== 0) throw new Error("@NAME@: the network failed");
    return view(@TYPED@, net.output(), net.output_size()).slice();
  };
  net.reset?.();
  @REAL@
}
"""

_MJS_INT8 = """\
// From real values to real values; `integers` is the same on the grids of the header.
  const real = (x) => {
    if (x.length !== net.input_size()) throw new RangeError(`${x.length} elements, expected ${net.input_size()}`);
    view(Float32Array, net.real_input(), x.length).set(x);
    net.quantize();
    if (net.run() !== 0) throw new Error("the network failed");
    net.dequantize();
    return view(Float32Array, net.real_output(), net.output_size()).slice();
  };
  return { integers: run, run: real, reset: () => net.reset?.() };"""
_MJS_FLOAT = "return { run, reset: () => net.reset?.() };"

_EXAMPLE = """\
/* One inference of @NAME@ on an input of zeros. */
#include <stdio.h>
#include "network.h"

/* The arena is all the memory that the network works in: 64-byte aligned on a computer, 16 on a microcontroller. */
static _Alignas(64) unsigned char arena[@MACRO@_ARENA_SIZE + 1];
static float real_in[@MACRO@_INPUT_SIZE], real_out[@MACRO@_OUTPUT_SIZE];
@BUFFERS@
int main(void)
{
    const int check = @NAME@_selfcheck();
    if (check != 0) {
        printf("this build's arithmetic is not the defined one (check %d): look for -ffast-math\\n", check);
        return 1;
    }
@FIRST@@RUN@
    for (int i = 0; i < @MACRO@_OUTPUT_SIZE; ++i) printf("%d: @FORMAT@\\n", i, @VALUES@);
    return 0;
}
"""

_INT8 = {
    "BUFFERS": "static int8_t in[@MACRO@_INPUT_SIZE], out[@MACRO@_OUTPUT_SIZE];\n",
    "RUN": "    @NAME@_quantize(real_in, in);\n"
           "    if (@NAME@_run(in, out, arena) != 0) return 1;\n"
           "    @NAME@_dequantize(out, real_out);",
    "FORMAT": "%d = %g", "VALUES": "(int)out[i], (double)real_out[i]"}
_FLOAT = {
    "BUFFERS": "",
    "RUN": "    if (@NAME@_run(real_in, real_out, arena) != 0) return 1;",
    "FORMAT": "%g", "VALUES": "(double)real_out[i]"}
_PACKED = {
    "BUFFERS": "static _Alignas(16) int8_t in[@MACRO@_INPUT_SIZE], out[@MACRO@_OUTPUT_SIZE];\n",
    "RUN": "    (void)real_in, (void)real_out; /* network.h says where each input and output lies */\n"
           "    if (@NAME@_run(in, out, arena) != 0) return 1;",
    "FORMAT": "%d", "VALUES": "(int)out[i]"}


def _fill(template: str, values: dict[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template)


def cmake_lists(source: Source, target: Target, packed: bool = False) -> str:
    """The text of CMakeLists.txt."""
    del target, packed
    return _fill(_CMAKE, {"NAME": source.name})


def makefile(source: Source, target: Target, packed: bool = False) -> str:
    """The text of Makefile: GNU make, and the compiler of the target's family."""
    cross, arch = "", ""
    if target.triple.startswith("thumb"):
        cross, arch = "arm-none-eabi-", f" -mcpu={target.mcpu.partition('+')[0].replace('_', '-')} -mthumb -mfloat-abi=hard"
    return _fill(_MAKEFILE, {"NAME": source.name, "CROSS": cross, "ARCH": arch, "WITH": f" for {target.name}" if cross else ""})


def header_hpp(source: Source, target: Target, packed: bool = False) -> str:
    """The text of network.hpp."""
    del target
    names = {"NAME": source.name, "MACRO": source.macro, "UPPER": source.name.upper()}
    element = "std::int8_t" if source.dtype == np.int8 else "float"
    real = _fill(_REAL, names) if source.dtype == np.int8 and not packed else ""
    reset = _fill(_RESET, names) if source.state_bytes else ""
    return _fill(_HPP, {**names, "ELEMENT": element, "REAL": real, "RESET": reset})


def example_c(source: Source, target: Target, packed: bool = False) -> str:
    """The text of example.c."""
    del target
    names = {"NAME": source.name, "MACRO": source.macro}
    parts = {key: _fill(text, names) for key, text in (_PACKED if packed else _INT8 if source.dtype == np.int8 else _FLOAT).items()}
    first = f"    {source.name}_reset(arena); /* each call goes on where the last one ended */\n" if source.state_bytes else ""
    return _fill(_EXAMPLE, {**names, **parts, "FIRST": first})


def wasm_c(source: Source, target: Target, packed: bool = False) -> str:
    """The text of wasm.c: the network's buffers and exports."""
    del target
    return "".join(f"#define {flag[2:].replace('=', ' ')}\n" for flag in glue_flags(source)) + GLUE.read_text(encoding="utf-8")


def loader_mjs(source: Source, target: Target, packed: bool = False) -> str:
    """The text of network.mjs."""
    del target
    typed, run = ("Int8Array", _MJS_INT8) if source.quantizes else ("Int8Array" if source.dtype == np.int8 else "Float32Array", _MJS_FLOAT)
    return _fill(_MJS, {"NAME": source.name, "TYPED": typed, "REAL": run})


def wasm_makefile(source: Source, target: Target, packed: bool = False) -> str:
    """The text of Makefile where the library is a WebAssembly module."""
    flags = " ".join(f for f in target.cflags if not f.startswith("-O"))
    return _fill(_WASM_MAKEFILE, {"NAME": source.name, "TRIPLE": target.triple, "CPU": target.mcpu, "FLAGS": flags})


Files = Mapping[str, Callable[[Source, Target, bool], str]]
FILES: Files = {"CMakeLists.txt": cmake_lists, "Makefile": makefile, "network.hpp": header_hpp, "example.c": example_c}
WASM: Files = {
    "Makefile": wasm_makefile, "wasm.c": wasm_c, "network.mjs": loader_mjs,
    **{f"include/{name}": lambda source, target, packed, name=name: (FIRMWARE / "include" / name).read_text(encoding="utf-8") for name in ("math.h", "string.h")},
}  # fmt: skip


def files_of(target: Target) -> Files:
    """What an artefact's folder holds beside the network, by name."""
    return WASM if target.browser else FILES
