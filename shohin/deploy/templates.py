"""The files of an artefact beside the network's own: a CMake project and an example."""

from __future__ import annotations

import re

import numpy as np

from shohin.targets.source import Source

_CMAKE = """\
# Any C11 compiler builds this: cmake -B build && cmake --build build
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
@RUN@
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


def cmake_lists(source: Source) -> str:
    """The text of CMakeLists.txt."""
    return _fill(_CMAKE, {"NAME": source.name})


def example_c(source: Source, packed: bool = False) -> str:
    """The text of example.c."""
    names = {"NAME": source.name, "MACRO": source.macro}
    parts = {key: _fill(text, names) for key, text in (_PACKED if packed else _INT8 if source.dtype == np.int8 else _FLOAT).items()}
    return _fill(_EXAMPLE, {**names, **parts})
