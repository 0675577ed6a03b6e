"""A network written by hand against the contract of exported C, and its integer reference in NumPy.

Two fully connected layers, 48 -> 20 -> 7, int8, requantized as in docs/quantization.md Q3; the hidden layer lives in the arena.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

INPUT, HIDDEN, OUTPUT, ARENA = 48, 20, 7, 64
IN_SCALE, IN_ZERO, OUT_SCALE, OUT_ZERO, HIDDEN_ZERO = np.float32(0.03125), 3, np.float32(0.1), -5, -128
_RNG = np.random.default_rng(20)
W1 = _RNG.integers(-127, 128, (HIDDEN, INPUT), dtype=np.int8)
W2 = _RNG.integers(-127, 128, (OUTPUT, HIDDEN), dtype=np.int8)
B1 = _RNG.integers(-20000, 20000, HIDDEN, dtype=np.int32)
B2 = _RNG.integers(-20000, 20000, OUTPUT, dtype=np.int32)
M1 = (0.0005 + 0.001 * _RNG.random(HIDDEN)).astype(np.float32)
M2 = (0.0005 + 0.001 * _RNG.random(OUTPUT)).astype(np.float32)


def requant(acc: np.ndarray, m: np.ndarray, z: int) -> np.ndarray:
    """int8 from int32: rhe(clip(float32(acc) m, -128 - z, 127 - z)) + z."""
    value = np.clip(acc.astype(np.float32) * m, np.float32(-128 - z), np.float32(127 - z))
    return (np.rint(value).astype(np.int32) + z).astype(np.int8)


def reference(x: np.ndarray) -> np.ndarray:
    """Outputs int8 (n, 7) for int8 (n, 48)."""
    hidden = requant((x.astype(np.int32) - IN_ZERO) @ W1.T.astype(np.int32) + B1, M1, HIDDEN_ZERO)
    return requant((hidden.astype(np.int32) - HIDDEN_ZERO) @ W2.T.astype(np.int32) + B2, M2, OUT_ZERO)


def quantize(x: np.ndarray) -> np.ndarray:
    """int8 from float32 (docs/quantization.md Q1)."""
    return (np.rint(np.clip(x / IN_SCALE, -128 - IN_ZERO, 127 - IN_ZERO)).astype(np.int32) + IN_ZERO).astype(np.int8)


def dequantize(q: np.ndarray) -> np.ndarray:
    """float32 from int8."""
    return (q.astype(np.int32) - OUT_ZERO).astype(np.float32) * OUT_SCALE


def inputs(n: int) -> np.ndarray:
    """Rows of random int8, the first two at both ends of the range."""
    x = np.random.default_rng(n).integers(-128, 128, (n, INPUT)).astype(np.int8)
    x[:1], x[1:2] = -128, 127
    return x


def _array(c: str, name: str, values: np.ndarray) -> str:
    text = ", ".join(float(v).hex() + "f" if values.dtype == np.float32 else str(v) for v in values.ravel())
    return f"static const {c} {name}[{values.size}] = {{{text}}};\n"


HEADER = f"""#ifndef SMALL_H
#define SMALL_H
#include <stdint.h>
#define SMALL_INPUT_SIZE {INPUT}
#define SMALL_OUTPUT_SIZE {OUTPUT}
#define SMALL_ARENA_SIZE {ARENA}
int small_run(const int8_t *in, int8_t *out, void *arena);
void small_quantize(const float *in, int8_t *out);
void small_dequantize(const int8_t *in, float *out);
int small_selfcheck(void);
#endif
"""

BODY = """#include <string.h>
#include "network.h"
static int8_t requant(int32_t acc, float m, int32_t z)
{
    const float lo = (float)(-128 - z), hi = (float)(127 - z);
    float v = (float)acc * m;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (int8_t)((int32_t)((v + 12582912.0f) - 12582912.0f) + z);
}

static void layer(const int8_t *in, int32_t n, int32_t z_in, const int8_t *w, const int32_t *b, const float *m,
                  int8_t *out, int32_t outputs, int32_t z_out)
{
    for (int32_t o = 0; o < outputs; ++o) {
        int32_t acc = b[o];
        for (int32_t i = 0; i < n; ++i) acc += ((int32_t)in[i] - z_in) * w[o * n + i];
        out[o] = requant(acc, m[o], z_out);
    }
}

int small_run(const int8_t *in, int8_t *out, void *arena)
{
    int8_t *hidden = arena;
    @BEFORE@
    layer(in, SMALL_INPUT_SIZE, @IN_ZERO@, W1, B1, M1, hidden, @HIDDEN@, -128);
    layer(hidden, @HIDDEN@, -128, W2, B2, M2, out, SMALL_OUTPUT_SIZE, @OUT_ZERO@);
    return 0;
}

void small_quantize(const float *in, int8_t *out)
{
    for (int32_t i = 0; i < SMALL_INPUT_SIZE; ++i) {
        const float lo = -128 - @IN_ZERO@, hi = 127 - @IN_ZERO@;
        float v = in[i] / @IN_SCALE@;
        v = v > lo ? v : lo;
        v = v < hi ? v : hi;
        out[i] = (int8_t)((int32_t)((v + 12582912.0f) - 12582912.0f) + @IN_ZERO@);
    }
}

void small_dequantize(const int8_t *in, float *out)
{
    for (int32_t i = 0; i < SMALL_OUTPUT_SIZE; ++i) out[i] = (float)(in[i] - @OUT_ZERO@) * @OUT_SCALE@;
}

int small_selfcheck(void)
{
    volatile float a = 0x1.000002p+0f, b = -0x1.000004p+0f, half = 2.5f;
    const float magic = 12582912.0f;
    if ((half + magic) - magic != 2.0f) return 1;
    volatile float product = a * a;
    if (a * a + b != product + b) return 2;
    return @CHECK@;
}
"""


def write(folder: Path, *, before: str = "", check: str = "0", arena: int = ARENA) -> Path:
    """Writes network.c and network.h; ``before`` is C put in front of the first layer, to break things."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"BEFORE": before, "CHECK": check, "HIDDEN": HIDDEN, "IN_ZERO": IN_ZERO, "OUT_ZERO": OUT_ZERO,
             "IN_SCALE": float(IN_SCALE).hex() + "f", "OUT_SCALE": float(OUT_SCALE).hex() + "f"}
    body = BODY
    for name, value in names.items():
        body = body.replace(f"@{name}@", str(value))
    weights = (_array("int8_t", "W1", W1) + _array("int8_t", "W2", W2) + _array("int32_t", "B1", B1)
               + _array("int32_t", "B2", B2) + _array("float", "M1", M1) + _array("float", "M2", M2))
    (folder / "network.h").write_text(HEADER.replace(f"SMALL_ARENA_SIZE {ARENA}", f"SMALL_ARENA_SIZE {arena}"))
    (folder / "network.c").write_text(body.replace('#include "network.h"\n', '#include "network.h"\n' + weights))
    return folder
