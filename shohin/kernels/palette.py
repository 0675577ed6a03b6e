"""int8 convolutions and products whose weights are stored in few bits: numbers of entries of a codebook (``ops/palette``), or
integers (``ops/narrow``).

The weights lie in the order in which ``qconv`` reads them, four channels at a time. Before a pass of channels theirs are unpacked
into scratch; then it is the same code. Constants hold numbers and codebooks only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Kernel, Phase, PortSpec, Printer, Site, Verdict, register
from shohin.kernels import qconv, qdepthwise
from shohin.kernels.common import one_each
from shohin.kernels.instructions import InstructionSet, branches, sets
from shohin.kernels.planes import pack_planes, unpacked
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, pack_dot, shared, tail, up

Array = np.ndarray[Any, Any]
ROOM = 8192
"""Bytes of unpacked weights at a time: 16, 8 or 4 channels. Where 4 are more, the loops read them one by one."""
_HEAD = 4
"""Bytes before the codebooks: how many channels share one."""


@dataclass(frozen=True)
class Form:
    """How weights are stored: ``bits`` a number, ``dim`` weights an entry, codebooks of ``group`` channels (0: integers)."""

    bits: int
    dim: int
    group: int

    @property
    def name(self) -> str:
        return f"palette{self.bits}" + (f"x{self.dim}" if self.dim > 1 else "") if self.group else f"narrow{self.bits}"

    @property
    def book(self) -> int:
        """Bytes of a codebook."""
        return 2**self.bits * self.dim if self.group else 0


def form_of(site: Site) -> Form:
    a = site.call.storage
    assert a is not None
    return Form(a["bits"], a.get("dim", 1), a.get("group", 0))


def _looked_up(form: Form, among: tuple[InstructionSet, ...]) -> str:
    """C that brings 16 weights from numbers at ``own`` and the codebook ``book`` to ``to``."""
    if form.dim > 1:
        each = " ".join(f"to[{form.dim} * i + {d}] = book[{form.dim} * own[i] + {d}];" for d in range(form.dim))
        return f"          for (long i = 0; i < {16 // form.dim}; i++) {{ {each} }}\n"
    plain = "          for (long i = 0; i < 16; i++) to[i] = book[own[i]];\n"
    return branches(among, lambda s: f"          {s.lookup}\n" if s.lookup and form.bits <= 4 else plain, plain)


def _fours(form: Form, among: tuple[InstructionSet, ...]) -> str:
    """C of the function that unpacks ``fours`` times four channels."""
    numbers = unpacked(form.bits, 64 // form.dim, "        ")
    if form.group:
        books = f"""\
    const int8_t *books[4];
    for (long c = 0; c < 4; c++) books[c] = w + {_HEAD} + (channel + c < last ? channel + c : last) / share * {form.book};
"""
        each = f"""\
        for (long c = 0; c < 4; c++, to += 16) {{
          const int8_t *const book = books[c];
          const uint8_t *const own = n + {16 // form.dim} * c;
{_looked_up(form, among)}\
          for (long i = used - 16 * k; i < 16; i++) to[i] = 0;
        }}
"""
        begin = "  const long share = (uint8_t)w[0] | (long)(uint8_t)w[1] << 8 | (long)(uint8_t)w[2] << 16;\n"
    else:
        half = 2 ** (form.bits - 1)
        books, begin = "", "  (void)w; (void)channel; (void)last; (void)used;\n"
        each = f"        for (long i = 0; i < 64; i++) to[i] = (int8_t)((n[i] ^ {half}) - {half});\n        to += 64;\n"
    return f"""\
/* Weights of 4 ``fours`` channels from ``channel`` on, from their numbers; behind ``used`` bytes of a run is 0. */
static void shohin_q8_unpack_{form.name}(const int8_t *w, const uint8_t *from, int8_t *to, long channel, long last, long runs,
                                        long blocks, long used, long fours) {{
{begin}\
  for (; fours > 0; fours--, channel += 4) {{
{books}\
    for (long r = 0; r < runs; r++)
      for (long k = 0; k < blocks; k++) {{
        uint8_t n[{64 // form.dim}];
{numbers}{each}\
      }}
  }}
}}

"""


_GATHER, _CONVOLVE = qconv.CONV.split("#ifndef SHOHIN_Q8_CONVOLVE\n")


def unpacking(function: str, channels: int, begin: str, unpack: str) -> str:
    """C of the convolution, called ``function``, whose weights the text ``unpack`` brings to ``v`` before each pass of ``channels``;
    the text ``begin`` stands before the passes."""
    text = "#ifndef SHOHIN_Q8_CONVOLVE\n" + _CONVOLVE
    changes = {
        "SHOHIN_Q8_CONVOLVE": function.upper(),
        "shohin_q8_conv(": f"{function}(",
        "first += SHOHIN_Q8_BLOCK": f"first += {channels}",
        "each - first < SHOHIN_Q8_BLOCK ? each - first : SHOHIN_Q8_BLOCK": f"each - first < {channels} ? each - first : {channels}",
        "  int32_t *acc = (int32_t *)scratch;\n": f"""\
{begin}\
  int8_t *const v = (int8_t *)scratch;
  scratch += {channels // 4} * (l->patch ? 1 : l->kh) * l->blocks * 64;
  int32_t *acc = (int32_t *)scratch;
""",
        "    const int8_t *v = w + (group * ((each + 3) / 4) + first / 4) * size;\n": unpack,
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return _GATHER + text


_USED = "  const long used = l->patch ? l->kh * l->parts * l->part : l->part;\n"


def _depthwise(form: Form) -> str:
    """C of a depthwise layer whose weights are all unpacked first."""
    numbers = unpacked(form.bits, 16, "      ")
    half = 2 ** (form.bits - 1)
    value = f"w[{_HEAD} + (c + i < l->c ? c + i : l->c - 1) / share * {form.book} + n[i]]" if form.group else f"(int8_t)((n[i] ^ {half}) - {half})"
    begin = f"""\
  const long share = (uint8_t)w[0] | (long)(uint8_t)w[1] << 8 | (long)(uint8_t)w[2] << 16;
  const uint8_t *from = (const uint8_t *)w + {_HEAD} + (l->c + share - 1) / share * {form.book};
""" if form.group else "  const uint8_t *from = (const uint8_t *)w;\n"
    return f"""\
#ifndef SHOHIN_Q8_DEPTH_{form.name.upper()}
#define SHOHIN_Q8_DEPTH_{form.name.upper()}
/* A depthwise layer whose weights are unpacked first, 16 channels of a tap at a time. */
static void shohin_q8_depthwise_{form.name}(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                                         const float *m, void *y, char *scratch, long chunk, long chunks) {{
  const long all = l->kh * l->kw, ld = (l->c + 15) / 16 * 16;
{begin}\
  int8_t *to = (int8_t *)scratch;
  for (long t = 0; t < all; t++)
    for (long c = 0; c < ld; c += 16, to += 16) {{
      uint8_t n[16];
{numbers}\
      for (long i = 0; i < 16; i++) to[i] = {value};
    }}
  if (all & 1) memset(to, 0, (size_t)ld);
  shohin_q8_depthwise(l, x, (const int8_t *)scratch, bias, m, y, scratch + (all + (all & 1)) * ld, chunk, chunks);
}}
#endif
"""


def _code(form: Form, layer: Layer, channels: int, among: tuple[InstructionSet, ...]) -> str:
    guard, books = f"SHOHIN_Q8_UNPACK_{form.name.upper()}", f"{_HEAD} + (l->o + share_ - 1) / share_ * {form.book}" if form.group else "0"
    share = "    const long share_ = (uint8_t)w[0] | (long)(uint8_t)w[1] << 8 | (long)(uint8_t)w[2] << 16;\n" if form.group else ""
    unpack = f"""\
{share}\
    const uint8_t *const numbers = (const uint8_t *)w + {books} + (group * ((each + 3) / 4) + first / 4) * (size / {8 * form.dim} * {form.bits});
    shohin_q8_unpack_{form.name}(w, numbers, v, o, l->o - 1, runs, l->blocks, used, fours);
"""
    convolve = unpacking(f"shohin_q8_{form.name}_{channels}", channels, _USED, unpack)
    return f"#ifndef {guard}\n#define {guard}\n{_fours(form, among)}#endif\n" + convolve


def size_of(layer: Layer) -> int:
    """Bytes of the weights of four channels, unpacked."""
    return (1 if layer.patch else layer.kh) * layer.blocks * 64


def _pass(layer: Layer) -> int:
    """Channels whose weights are unpacked at a time, or 0."""
    return next((n for n in (16, 8, 4) if n // 4 * size_of(layer) <= ROOM), 0)


def _coded(w: Array, form: Form) -> tuple[list[Array], Array]:
    """The head and codebooks, and the numbers (out, terms / dim), of w (out, ..., innermost)."""
    if not form.group:
        return [], w.reshape(len(w), -1) & (2**form.bits - 1)
    words = np.ascontiguousarray(w).view(f"u{form.dim}").reshape(len(w), -1)
    books, numbers = [np.array([form.group & 255, form.group >> 8 & 255, form.group >> 16, 0], np.uint8)], np.zeros(words.shape, np.uint8)
    for k in range(0, len(w), form.group):
        entries, codes = np.unique(words[k : k + form.group], return_inverse=True)
        book = np.zeros(2**form.bits, words.dtype)
        book[: len(entries)] = entries
        books.append(book.view(np.uint8))
        numbers[k : k + form.group] = codes.reshape(-1, words.shape[1])
    return books, numbers


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """Codebooks, then for each four channels their numbers in the order of ``pack_dot``."""
    layer, w, form = qconv._layer(site), data[site.operands[1].name], form_of(site)
    each, runs = layer.o // layer.groups, 1 if layer.patch else layer.kh
    books, numbers = _coded(w, form)
    spread = np.repeat(numbers.astype(np.int8), form.dim, axis=1)  # numbers as the weights lie, every dim-th of which is kept
    blocks = np.concatenate([pack_dot(g.reshape(each, runs, -1)).reshape(-1, 64)[:, :: form.dim] for g in np.split(spread, layer.groups)])
    blob = np.concatenate([*books, pack_planes(blocks.view(np.uint8).astype(np.int64), form.bits).reshape(-1), np.zeros(16 if form.group else 0, np.uint8)])
    spare = 0 if _pass(layer) == 16 else 16  # whole vectors are read from the first channel of any pass
    more = [np.concatenate([a, np.zeros(spare, a.dtype)]) for a in tail(site, data, layer.groups)]
    return blob.view(np.int8), *more


def _emit(site: Site, printer: Printer, name: str) -> str:
    layer, form, among = qconv._layer(site), form_of(site), sets(site.machine)
    channels = _pass(layer)
    return call(layer, f"shohin_q8_{form.name}_{channels}", site, printer, name, _code(form, layer, channels, among))


def _unpacks(site: Site) -> Verdict:
    """int8, and weights of a storage that it knows."""
    role = site.operands[1].role if len(site.operands) > 1 else ""
    fits = is_int8(site, role if role in ("depalettize", "widen") else "depalettize")
    return fits and (site.call.storage is not None or Declined("the weights are moved after they are unpacked"))


def _claims(site: Site) -> Verdict:
    fits = _unpacks(site)
    if fits and "groups" in site.attrs and one_each(site, site.operands[0], site.results[0]):
        return Declined("one group a channel, which the depthwise kernel takes")
    return fits and (_pass(qconv._layer(site)) > 0 or Declined("four unpacked channels are larger than its scratch"))


def _workspace(site: Site) -> int:
    layer = qconv._layer(site)
    return layer.scratch + _pass(layer) // 4 * size_of(layer)


def _kernel(op: str) -> Kernel:
    return register(
        Kernel(
            name=f"{op}_palette",
            op=op,
            doc="some channels at a time unpacked from few bits, then runs of 16 bytes",
            predicate=_claims,
            ports=(PortSpec(name="epilogue", value="acc", times="once per element", last="requant"),),
            phases=(Phase(emit=_emit, chunks=qconv._chunks), FINISH),
            workspace=_workspace,
            shared=shared,
            order="sequence",
            flops=lambda site: 2.0 * site.results[0].size * (site.operands[1].size // site.operands[1].shape[0]),
            pack=pack,
            packed=("codebooks and numbers, packed", *PACKED[1:]),
        )
    )


def _pack_depthwise(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """The codebooks, then the numbers as [taps][channels], in blocks of 16 channels."""
    form, w = form_of(site), data[site.operands[1].name]
    books, numbers = _coded(w, form)
    codes = np.zeros((numbers.shape[1], up(len(w), 16)), np.int64)
    codes[:, : len(w)] = numbers.T
    blob = np.concatenate([*books, pack_planes(codes.reshape(-1, 16), form.bits).reshape(-1)]).astype(np.uint8)
    return blob.view(np.int8), *tail(site, data, 1)


def _emit_depthwise(site: Site, printer: Printer, name: str) -> str:
    form = form_of(site)
    code = qdepthwise.code(sets(site.machine)) + _depthwise(form)
    return call(qdepthwise._layer(site), f"shohin_q8_depthwise_{form.name}", site, printer, name, code)


DEPTHWISE = register(
    replace(
        qdepthwise.DEPTHWISE,
        name="qconv2d_depthwise_palette",
        doc="weights unpacked from few bits, then as the dense one",
        predicate=lambda site: _unpacks(site) and one_each(site, site.operands[0], site.results[0]),
        phases=(Phase(emit=_emit_depthwise, chunks=qdepthwise.DEPTHWISE.phases[0].chunks), FINISH),
        workspace=lambda site: qdepthwise._layer(site).scratch + up(site.operands[1].size // site.operands[1].shape[0], 2) * up(site.operands[1].shape[0], 16),
        pack=_pack_depthwise,
        packed=("codebooks and numbers, packed", *PACKED[1:]),
    )
)
CONV2D, MATMUL = _kernel("qconv2d"), _kernel("qmatmul")
