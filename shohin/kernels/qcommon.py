"""What the int8 kernels share: packed constants, the epilogue's form, C that pads rows and requantizes.

A layer is a table of sizes (``struct shohin_q8_layer``) and a call of a function that all layers share, so code does
not grow with a network. The sums are those of q, not of q - zero: padding is filled with the zero point, so that
``sum (q - zero) w = sum q w - zero sum w`` holds everywhere, and the second term is put into the bias when the constants
are packed. Where the epilogue is ``requant(acc + bias)`` with constants of the channel it is part of the function too;
any other one is printed as a second phase that reads the sums from ``shared``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Phase, Printer, Site, Verdict
from shohin.core import dtypes, loop
from shohin.core.loop import Bin, Cast, Const, Expr, Name, Requant, Var
from shohin.kernels.instructions import InstructionSet, branches, sets
from shohin.kernels.qdot import BLOCK, TILE, detect, dots

Array = np.ndarray[Any, Any]
_ACC_BYTES = (TILE * BLOCK + BLOCK) * 4
"""Sums of a tile, and a bias that one instruction set changes."""
PACKED = ("weights, packed", "bias with the zero point's term", "multipliers")
"""What the constants are that int8 kernels pack."""
LONGEST = 1 << 16
"""Terms of a sum that surely fit: 2^16 * 2^15 in int32."""


def up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Sizes of a layer, the fields of the C struct. A run is ``blocks`` times 16 bytes; ``parts`` runs of ``part`` bytes,
    ``part_step`` apart in each of the kernel's rows, are gathered into a patch of ``patch`` bytes; patch 0: each
    kernel row is a run as it lies. ``slots``: padded rows of ``width`` pixels kept in a ring, 0: rows are read where they lie.
    ``staged``: bytes for a tile's positions in another form (``qdot``)."""

    n: int
    h: int
    w: int
    c: int
    p: int
    q: int
    o: int
    groups: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    top: int
    left: int
    slots: int
    width: int
    blocks: int
    patch: int
    part: int
    part_step: int
    parts: int
    zero: int
    staged: int = 0
    z: int = 0
    lo: int = 0
    hi: int = 0

    @property
    def row(self) -> int:
        return self.width * self.c

    @property
    def scratch(self) -> int:
        """Sums, staged positions, pointers, a tile of patches, a blank row and the ring; reads go up to 15 bytes past a run."""
        pointers = self.kh if self.blocks else up(self.kh * self.kw, 2)
        return _ACC_BYTES + self.staged + up(8 * pointers, 16) + TILE * self.patch + (self.slots + 1) * self.row + 48

    def table(self) -> str:
        """The C initializer; fields that are 0 are left out."""
        text = ", ".join(f".{f.name}={v}" for f in fields(self) if (v := getattr(self, f.name)))
        rows = textwrap.wrap(text, 80, break_on_hyphens=False)
        return "{\n" + "".join(f"    {row.replace('=', ' = ')}\n" for row in rows) + "  }"


@dataclass(frozen=True)
class Close:
    """``requant(acc + bias, M)``: the two as expressions of the channel, and the integers."""

    bias: Expr | None
    M: Expr
    z: int
    lo: int
    hi: int


def close_of(site: Site) -> Close | None:
    """The epilogue, if it has that form and gives int8."""
    port = site.port("epilogue")
    if not isinstance(port, Requant) or port.type != dtypes.int8:
        return None
    if not all(isinstance(e, Const) for e in (port.z, port.lo, port.hi)):
        return None
    terms = _terms(port.acc)
    rest = [t for t in terms if not isinstance(t, Name)]
    if len(rest) + 1 != len(terms) or any(isinstance(e, Name) for t in (*rest, port.M) for e in loop.walk(t)):
        return None
    z, lo, hi = (int(e.value) for e in (port.z, port.lo, port.hi) if isinstance(e, Const))
    return Close(reduce(lambda a, b: a + b, rest) if rest else None, port.M, z, lo, hi)


def _terms(e: Expr) -> list[Expr]:
    """Terms of an int32 sum."""
    if isinstance(e, Cast) and e.dtype == e.a.dtype:
        return _terms(e.a)
    if isinstance(e, Bin) and e.op == "add" and e.dtype == dtypes.int32:
        return [*_terms(e.a), *_terms(e.b)]
    return [e]


def constant(e: Expr | None, site: Site, data: Mapping[str, Array]) -> Array | None:
    """Values of ``e`` for all channels, if it is a constant that only they change."""
    shape = site.results[0].shape
    if e is None:
        return np.zeros(shape[-1], np.int32)
    found = loop.walk(e)
    if any(isinstance(x, loop.Load) and x.buffer not in data for x in found):
        return None
    places = {x.name for x in found if isinstance(x, Var)} - {channel(site), "g"}
    if places and site.results[0].size > 1 << 18:
        return None
    env: dict[str, Any] = {name: np.arange(n).reshape(-1, *(1,) * (len(shape) - 1 - k)) for k, (name, n) in enumerate(zip(axes(site), shape))}
    if not places:
        env = {channel(site): env[channel(site)]}
    if len(shape) == 4:
        each = shape[3] // site.attrs["groups"]
        env |= {"g": env["o"] // each, "o": env["o"] % each}
    values = np.broadcast_to(loop.evaluate(e, {**data, **env}), shape).reshape(-1, shape[-1])
    return values[0] if (values == values[0]).all() else None


def axes(site: Site) -> tuple[str, ...]:
    """What a port calls the result's axes."""
    return ("n", "h", "w", "o") if len(site.results[0].shape) == 4 else ("m", "n")


def channel(site: Site) -> str:
    return axes(site)[-1]


def pack_dot(w: Array) -> Array:
    """(channels, runs, terms) -> [channels / 4][runs][terms / 16][4][16], zeros where nothing stands."""
    o, runs, terms = w.shape
    padded = np.zeros((up(o, 4), runs, up(terms, 16)), np.int8)
    padded[:o, :, :terms] = w
    return np.ascontiguousarray(padded.reshape(-1, 4, runs * padded.shape[2] // 16, 16).transpose(0, 2, 1, 3)).reshape(-1)


def pack_channels(values: Array, dtype: Any, groups: int) -> Array:
    """Values of the channels, and zeros up to where whole vectors of 16 read from any group's first one."""
    last = len(values) // groups
    return np.concatenate([values.astype(dtype), np.zeros(up(last, 16) - last, dtype)])


def tail(site: Site, data: Mapping[str, Array], groups: int) -> tuple[Array, ...]:
    """Bias and, if the epilogue is of the usual form, multipliers; ``groups`` of channels are passed one by one."""
    close, w = close_of(site), data[site.operands[1].name]
    offset = (-site.attrs["zero"] * w.reshape(len(w), -1).sum(1, dtype=np.int64)).astype(np.int32)
    if close is not None:
        bias, m = (constant(e, site, data) for e in (close.bias, close.M))
        if bias is not None and m is not None:
            total = (bias.astype(np.int64) + offset).astype(np.int32)
            return pack_channels(total, np.int32, groups), pack_channels(m, np.float32, groups)
    return (pack_channels(offset, np.int32, groups),)


def unsigned_tail(site: Site, data: Mapping[str, Array], shift: int = 128) -> tuple[Array, Array | None]:
    """For operands that come as q + ``shift``: ``bias - (zero + shift) sum(w)`` and, if the epilogue is of the usual form, multipliers."""
    close, w = close_of(site), data[site.operands[1].name]
    offset = -(site.attrs["zero"] + shift) * w.reshape(len(w), -1).sum(1, dtype=np.int64)
    bias, m = (constant(e, site, data) for e in (close.bias, close.M)) if close else (None, None)
    if bias is None or m is None:
        return offset.astype(np.int32), None
    return (bias.astype(np.int64) + offset).astype(np.int32), m


STRUCT = "struct shohin_q8_layer { int32_t " + ", ".join(f.name for f in fields(Layer)) + "; };\n"

_ROWS = """\
/* Rows of the input as a kernel's rows see them: in place, or with their padding in a ring; blank ones are all zero point. */
struct shohin_q8_rows { const int8_t *x; int8_t *blank, *ring; long next; };

"""
_FILL = """\
static void shohin_q8_begin(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, const int8_t *x, int8_t *memory) {
  s->x = x; s->blank = memory; s->ring = memory + l->width * l->c; s->next = 0;
  memset(memory, l->zero, (size_t)((l->slots + 1) * l->width * l->c));
}

/* The rows under result row p; rows come in order. */
static void shohin_q8_rows(const struct shohin_q8_layer *l, struct shohin_q8_rows *s, long p, const int8_t **rows) {
  const long first = p * l->sh - l->top, last = first + (l->kh - 1) * l->dh, size = l->w * l->c;
  if (l->slots) {
    const long room = (l->width - l->left) * l->c;
    for (long r = s->next > first ? s->next : first > 0 ? first : 0; r <= last && r < l->h; s->next = ++r)
      memcpy(s->ring + r % l->slots * l->width * l->c + l->left * l->c, s->x + r * size, (size_t)(size < room ? size : room));
  }
  for (long a = 0; a < l->kh; a++) {
    const long r = first + a * l->dh;
    rows[a] = r < 0 || r >= l->h ? s->blank : l->slots ? s->ring + r % l->slots * l->width * l->c : s->x + r * size;
  }
}

"""
_WIDEN = """\
struct shohin_q8_wide_rows { const int8_t *x; int16_t *blank, *ring; long next; };
static void shohin_q8_widen(int16_t *restrict to, const int8_t *restrict from, size_t n) { for (size_t i = 0; i < n; i++) to[i] = from[i]; }

"""
_FLIP = """\
static void shohin_q8_flip(int8_t *restrict to, const int8_t *restrict from, size_t n) { for (size_t i = 0; i < n; i++) to[i] = (int8_t)(from[i] ^ -128); }

"""


def flipped() -> str:
    """C of the same rows, always in the ring, of q + 128: ``shohin_q8_unsigned_begin`` and ``shohin_q8_unsigned_rows``."""
    text = _FILL.replace("shohin_q8_begin", "shohin_q8_unsigned_begin").replace(" shohin_q8_rows(", " shohin_q8_unsigned_rows(")
    text = text.replace("memcpy(", "shohin_q8_flip(").replace("memset(memory, l->zero,", "memset(memory, l->zero + 128,")
    return f"#ifndef SHOHIN_Q8_FLIP\n#define SHOHIN_Q8_FLIP\n{_FLIP}{text}#endif\n"


def widened() -> str:
    """C of the same rows as int16: ``shohin_q8_wide_begin`` and ``shohin_q8_wide_rows``."""
    text = _FILL.replace("shohin_q8_begin", "shohin_q8_wide_begin").replace("shohin_q8_rows", "shohin_q8_wide_rows").replace("memcpy(", "shohin_q8_widen(")
    text = text.replace("int8_t *memory", "int16_t *memory").replace("const int8_t **rows", "const int16_t **rows")
    text = text.replace(" : s->x + r * size", "").replace(": l->slots ? s->ring", ": s->ring")
    fill = "for (long i = 0; i < (l->slots + 1) * l->width * l->c; i++) memory[i] = (int16_t)l->zero;"
    text = text.replace("memset(memory, l->zero, (size_t)((l->slots + 1) * l->width * l->c));", fill)
    return f"#ifndef SHOHIN_Q8_WIDEN\n#define SHOHIN_Q8_WIDEN\n{_WIDEN}{text}#endif\n"


_PLAIN_REQUANT = """\
  const int32_t z = l->z - 0x4b400000; /* v + 1.5 * 2^23 holds the rounded integer in its low bits */
  for (long i = 0; i < n; i++) {
    union { float f; int32_t i; } bits;
    float v = (float)acc[i] * m[i];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    bits.f = v + 12582912.0f;
    y[i] = (int8_t)(bits.i + z);
  }
"""
_STORE = """\
/* Sums of one position and up to a block of channels to the result: int8 through m, or as they are. */
static void shohin_q8_store(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, void *y, long at, long n) {
  if (m) shohin_q8_requant(l, acc, m, (int8_t *)y + at, n);
  else memcpy((int32_t *)y + at, acc, (size_t)n * sizeof(int32_t));
}
"""


def _requant(among: tuple[InstructionSet, ...]) -> str:
    body = lambda s: s.requant if not s.requant_guard else f"#if {s.requant_guard}\n{s.requant}#else\n{_PLAIN_REQUANT}#endif\n"
    return f"""
/* y = int(rhe(clip(acc * m, lo - z, hi - z))) + z (the clip first, so every conversion rounds alike). acc and m may be
   read to whole vectors of 16, y is not written past n. */
static void shohin_q8_requant(const struct shohin_q8_layer *l, const int32_t *acc, const float *m, int8_t *y, long n) {{
  const float lo = (float)(l->lo - l->z), hi = (float)(l->hi - l->z);
{branches(among, lambda s: body(s) if s.requant else "", _PLAIN_REQUANT)}}}

"""


def common(among: tuple[InstructionSet, ...]) -> str:
    """C that all int8 kernels of a file share, for these sets."""
    return f"#ifndef SHOHIN_Q8\n#define SHOHIN_Q8\n{detect(among)}\n{STRUCT}\n{_ROWS}{_FILL}{_requant(among)}{_STORE}\n{dots(among)}#endif\n"


# ------------------------------------------------------------------------------------------------------ phases


def call(layer: Layer, function: str, site: Site, printer: Printer, name: str, code: str) -> str:
    """C of the first phase: the layer's table and a call of the function that all layers share."""
    printer.helper(common(sets(site.machine)))
    printer.helper(code.lstrip())  # helpers stand in alphabetical order: "#ifndef SHOHIN_Q8" comes first
    direct = _direct(site)
    close = close_of(site) if len(site.operands) == 5 else None
    if close is not None:
        layer = Layer(**{**layer.__dict__, "z": close.z, "lo": close.lo, "hi": close.hi})
    x, _, w, bias, *m = (printer.pointer(b.name) if i != 1 else "" for i, b in enumerate(site.operands))
    y = printer.pointer(site.results[0].name) if direct else "shared"
    return f"""\
static void {name}(void *const *b, char *shared, char *scratch, long chunk, long chunks) {{
  static const struct shohin_q8_layer layer = {layer.table()};
  (void)shared;
  {function}(&layer, {x}, {w}, {bias}, {m[0] if m else "(const float *)0"}, {y}, scratch, chunk, chunks);
}}
"""


def _direct(site: Site) -> bool:
    """Whether the first phase writes the result itself."""
    return len(site.operands) == 5 or site.port("epilogue") is None


def _finish(site: Site, printer: Printer, name: str) -> str:
    """C of the second phase: any epilogue, on the sums in ``shared``."""
    port, result = site.port("epilogue"), site.results[0]
    head = f"static void {name}(void *const *b, char *shared, char *scratch, long chunk, long chunks) {{\n"
    if port is None:  # the first phase has written the sums
        return head + "  (void)b; (void)shared; (void)scratch; (void)chunk; (void)chunks;\n}\n"
    names: dict[str, str] = {}
    step = 1
    each = site.operands[1].shape[0] // site.attrs.get("groups", 1)
    for axis, extent in reversed(list(zip(axes(site), result.shape))):
        text = f"(i / {step} % {extent})" if step > 1 else f"(i % {extent})"
        if axis == "o":
            names.update({"g": f"({text} / {each})", "o": f"({text} % {each})"})
        else:
            names[axis] = text
        step *= extent
    value = printer.scalar(port, {**names, "acc": "((const int32_t *)shared)[i]"})
    return f"""\
{head}  (void)scratch; (void)chunk; (void)chunks;
  for (long i = 0; i < {result.size}; i++) {printer.pointer(result.name)}[i] = {value};
}}
"""


FINISH = Phase(emit=_finish, chunks=lambda site: 0 if _direct(site) else 1)


def shared(site: Site) -> int:
    return 0 if _direct(site) else 4 * site.results[0].size


def is_int8(site: Site, role: str = "const") -> Verdict:
    """int8 operands, weights constant (or what the storage op ``role`` unpacks), sums that fit."""
    q, w = site.operands[:2]
    terms = w.size // max(w.shape[0], 1)
    if not q.dtype == w.dtype == dtypes.int8:
        return Declined(f"{q.dtype.name} and {w.dtype.name}, it takes int8")
    if w.role != role:
        say = lambda role: {"const": "constant", "temp": "computed"}.get(role, f"packed ({role})")
        return Declined(f"the weights are {say(w.role)}, it takes {say(role)} ones")
    if not (terms and q.size and site.results[0].size):
        return Declined("an operand or the result is empty")
    return terms <= LONGEST or Declined(f"sums of {terms} terms, up to {LONGEST} surely fit into int32")
