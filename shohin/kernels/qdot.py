"""C of the int8 dot products, made from the records of instruction sets: some positions by all result channels.

Operands are runs of 16 bytes: position p reads ``blocks`` of them from each ``rows[r] + offset + p * step``; weights lie
as [channels / 4][runs * blocks][4][16], so that one layout serves all: 16 terms of one channel are one MVE or NEON
vector and one AVX2 vector of int16; of four channels one AVX-512 vector. Sums are integers, so every order gives the same.

Staged (``Dot.staged``) positions lie as [runs * blocks][positions][16] in another form, made once for all channels.
"""

from __future__ import annotations

from shohin.kernels.instructions import Dot, InstructionSet, branches

BLOCK, TILE = 64, 4
"""Channels of a pass; positions of a tile, at most."""


def detect(among: tuple[InstructionSet, ...]) -> str:
    """C that says which of the sets is in force."""
    parts, word = ["/* int8 kernels: one meaning, written for the instructions that the compiler says the target has. */\n"], "#if"
    for s in among:
        flags = "".join(f"#define SHOHIN_Q8_{flag}\n" for flag, have in _flags(s).items() if have)
        flags += f"#define SHOHIN_Q8_COPY16(to, at) {s.copy.format(to='to', at='at')}\n" if s.copy else ""
        parts.append(f"{word} {s.guard} /* {s.doc} */\n#include <{s.header}>\n#define {s.macro}\n{flags}")
        word = "#elif"
    return "".join([*parts, *(["#endif\n"] if among else [])]) + f"""\
#if defined(__GNUC__)
#define SHOHIN_Q8_COPY __builtin_memcpy /* with a constant size: no call, not even with -ffreestanding */
#else
#define SHOHIN_Q8_COPY memcpy
#endif
#if !defined(SHOHIN_Q8_COPY16)
#define SHOHIN_Q8_COPY16(to, at) SHOHIN_Q8_COPY(to, at, 16)
#endif
#if defined(__clang__)
#define SHOHIN_Q8_RELOAD __asm__ volatile("" ::: "memory"); /* else values are kept in registers and sums are not */
#else
#define SHOHIN_Q8_RELOAD
#endif
#define SHOHIN_Q8_BLOCK {BLOCK} /* channels of a pass */
#define SHOHIN_Q8_TILE {TILE} /* positions of a tile, at most */
"""


def staged(among: tuple[InstructionSet, ...]) -> int:
    """Bytes for 16 staged terms of a tile's positions, the most that any of the sets needs."""
    sizes = {"int8_t": 1, "uint8_t": 1, "int16_t": 2}
    return TILE * 16 * max((sizes[s.dot.staged[0]] for s in among if s.dot and s.dot.staged), default=0)


def _flags(s: InstructionSet) -> dict[str, bool]:
    return {"UNSIGNED": s.dot is not None and s.dot.unsigned, "STAGED": s.dot is not None and s.dot.staged is not None}


def _function(name: str, body: str) -> str:
    return f"""\
static void shohin_q8_{name}(const int8_t *const *rows, long offset, long runs, long blocks, long step, const int8_t *w,
                            const int32_t *bias, int32_t *acc, long groups) {{
{body}}}
"""


def _weights(dot: Dot) -> tuple[str, str, list[str], str]:
    """Of a tile's weights: the head of the loop over tiles, pointers' declarations, addresses of the units, the advance."""
    units = dot.tile // dot.channels
    if dot.tile == 2:  # half of a group, then the other half
        head = "for (long g = 2 * groups, next = 32; g > 0; g--, w += next, next = size - next, bias += 2, acc += 2) {"
        return head, "const int8_t *v = w;", [f"v + {16 * dot.channels * j}" for j in range(units)], "v += 64;"
    if dot.tile == 4:
        head = "for (long g = groups; g > 0; g--, w += size, bias += 4, acc += 4) {"
        return head, "const int8_t *v = w;", [f"v + {16 * dot.channels * j}" for j in range(units)], "v += 64;"
    several = dot.tile // 4  # where fewer are left the last ones are computed twice; what lies behind is never used
    pointers = ", ".join(f"*v{j} = w + (g + {j} < groups ? g + {j} : groups - 1) * size" for j in range(several))
    each = units // several
    where = [f"v{j}" if each == 1 else f"v{j} + {16 * dot.channels * k}" for j in range(several) for k in range(each)]
    head = f"for (long g = 0; g < groups; g += {several}, bias += {dot.tile}, acc += {dot.tile}) {{"
    return head, f"const int8_t {pointers};", where, " ".join(f"v{j} += 64;" for j in range(several))


def _tile(dot: Dot, n: int) -> str:
    """The function for n positions; 0: one position of which every term is ``dot.zero``, in place of x."""
    positions = max(n, 1)
    rows, units = range(0, positions, dot.rows), range(dot.tile // dot.channels)
    head, pointers, where, advance = _weights(dot)
    sums = [
        f"{dot.sum} {', '.join(f'c{p}{j} = ' + dot.start.format(bias=f'bias[{j}]') for j in units)};" for p in rows
    ]
    at = " + i" if dot.terms < 16 else ""
    weights = [dot.w.format(to=f"w{j}", at=where[j] + at) for j in units]
    values, steps = {}, {(p, j): dot.step.format(sum=f"c{p}{j}", x=f"y{p}" if n else dot.zero, w=f"w{j}") for p in rows for j in units}
    for p in rows if n else ():
        here, other = (f"x + {16 * q}" if dot.staged else f"x{q}{at}" for q in (p, min(p + dot.rows, positions) - 1))
        values[p] = dot.x.format(to=f"y{p}", at=here, next=other)
    if dot.staged and n:  # x is an operand in memory, so that all registers hold sums
        inner = [f"{{ {weights[j]} {' '.join(f'{{ {values[p]} {steps[p, j]} }}' for p in rows)} SHOHIN_Q8_RELOAD }}" for j in units]
    else:
        inner = [*weights, *(f"{values.get(p, '')} {' '.join(steps[p, j] for j in units)}".strip() for p in rows)]
    bump = ""
    if not n:
        start = "(void)rows; (void)offset; (void)step;"
    elif dot.staged:
        start, bump = f"const {dot.staged[0]} *x = (const {dot.staged[0]} *)(const void *)rows[r];", f"x += {16 * positions};"
    else:
        start = f"const int8_t {', '.join(f'*x{p} = ' + ('rows[r] + offset' if p == 0 else f'x{p - 1} + step') for p in range(positions))};"
        bump = " ".join(f"x{p} += 16;" for p in range(positions))
    if dot.terms < 16:
        inner = [f"for (long i = 0; i < 16; i += {dot.terms}) {{", *(f"  {line}" for line in inner), "}"]
    close = [
        dot.close.format(*(f"c{p}{j}" for j in units), bias="bias", at=f"acc + {p} * SHOHIN_Q8_BLOCK",
                         next=f"acc + {min(p + dot.rows, positions) - 1} * SHOHIN_Q8_BLOCK")
        for p in rows
    ]  # fmt: skip
    lines = lambda depth, *text: "".join(f"{' ' * depth}{t}\n" for t in text if t)
    return _function(f"dot{n}", (
        lines(2, "const long size = runs * blocks * 64;", "(void)offset; (void)step;" if dot.staged and n else "(void)step;" if n == 1 else "", head)
        + lines(4, pointers, *sums, "long r = 0;", "do {") + lines(6, start, "long k = blocks;", "do {")
        + lines(8, *inner, f"{advance} {bump}") + lines(6, "} while (--k > 0);") + lines(4, "} while (++r < runs);", *close) + lines(2, "}")
    ))  # fmt: skip


_SHIFT = """\
/* bias - 128 * sum(w): what operands that come as q + 128 are to begin with. */
static void shohin_q8_shift(const int8_t *w, const int32_t *bias, int32_t *to, long runs, long blocks, long groups) {
  shohin_q8_dot0((const int8_t *const *)0, 0, runs, blocks, 0, w, bias, to, groups);
  for (long i = 0; i < 4 * groups; i++) to[i] = (int32_t)(2u * (uint32_t)bias[i] - (uint32_t)to[i]);
}
"""
_PLAIN = _function(
    "dot1",
    """\
  (void)step;
  for (long g = 0; g < groups; g++, w += runs * blocks * 64)
  for (long c = 0; c < 4; c++) {
    int32_t sum = bias[4 * g + c];
    const int8_t *v = w + 16 * c;
    for (long r = 0; r < runs; r++) {
      const int8_t *x = rows[r] + offset;
      for (long k = 0; k < blocks; k++, x += 16, v += 64)
        for (long i = 0; i < 16; i++) sum += x[i] * v[i];
    }
    acc[4 * g + c] = sum;
  }
""",
)


def _stage(dot: Dot) -> str:
    """The functions that bring so many positions into the form in which the products take them."""
    assert dot.staged is not None
    kind, made = dot.staged

    def function(n: int) -> str:
        pointers = ", ".join(f"*x{p} = {'rows[r] + offset' if p == 0 else f'x{p - 1} + step'}" for p in range(n))
        steps = "\n      ".join(f"{made.format(at=f'x{p}', to=f'to + {16 * p}')} x{p} += 16;" for p in range(n))
        return f"""\
static void shohin_q8_stage{n}(const int8_t *const *rows, long offset, long runs, long blocks, long step, {kind} *to) {{
  (void)step;
  for (long r = 0; r < runs; r++) {{
    const int8_t {pointers};
    for (long k = blocks; k > 0; k--, to += {16 * n}) {{
      {steps}
    }}
  }}
}}
"""

    cases = "".join(f"    case {n}: shohin_q8_stage{n}(rows, offset, runs, blocks, step, to); break;\n" for n in dot.positions[:-1])
    return f"""{"".join(map(function, dot.positions))}\
/* n positions as [runs * blocks][n][16]. */
static void shohin_q8_stage(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step, {kind} *to) {{
  switch (n) {{
{cases}    default: shohin_q8_stage1(rows, offset, runs, blocks, step, to);
  }}
}}
"""


def _sizes(dot: Dot | None) -> str:
    """The functions for so many positions, the largest first, and the choice between them."""
    positions = dot.positions if dot else (1,)
    functions = [_tile(dot, n) for n in positions] if dot else [_PLAIN]
    if dot and dot.unsigned:
        functions += [_tile(dot, 0), _SHIFT]
    if dot and dot.staged:
        functions.append(_stage(dot))
    tile = "".join(f"left >= {n} ? {n} : " for n in positions[:-1])
    cases = "".join(
        f"    case {n}: shohin_q8_dot{n}(rows, offset, runs, blocks, step, w, bias, acc, groups); break;\n"
        for n in positions[:-1]
    )
    return f"""{dot.helpers if dot else ""}{"".join(functions)}\
/* Positions of the next tile, of those left. */
static long shohin_q8_tile(long left) {{ return {tile}left > 0; }}
static void shohin_q8_dot(long n, const int8_t *const *rows, long offset, long runs, long blocks, long step,
                          const int8_t *w, const int32_t *bias, int32_t *acc, long groups) {{
  switch (n) {{
{cases}    default: shohin_q8_dot1(rows, offset, runs, blocks, step, w, bias, acc, groups);
  }}
}}
"""


def dots(among: tuple[InstructionSet, ...]) -> str:
    """C of ``shohin_q8_dot`` and what belongs to it, a branch a set."""
    return branches(among, lambda s: _sizes(s.dot) if s.dot else "", _sizes(None))
