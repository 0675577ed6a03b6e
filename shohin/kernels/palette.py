"""int8 convolutions and products whose weights are numbers of entries of a codebook (``ops/palette``).

The numbers lie in the order in which ``qconv`` reads weights, a codebook a channel before them. Before a pass of
channels their weights are unpacked into scratch; then it is the same code. Constants hold numbers and codebooks only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shohin.compiler.kernel import Declined, Kernel, Phase, PortSpec, Printer, Site, Verdict, register
from shohin.kernels import qconv, qdepthwise
from shohin.kernels.common import one_each
from shohin.kernels.instructions import sets
from shohin.kernels.qcommon import FINISH, PACKED, Layer, call, is_int8, pack_dot, shared, tail, up
from shohin.ops.palette import pack as pack_numbers

Array = np.ndarray[Any, Any]
ROOM = 8192
"""Bytes of unpacked weights at a time: 16, 8 or 4 channels. Where 4 are more, the loops read them one by one."""

_UNPACK = """\
/* Weights of 4 ``fours`` channels from codebooks of $k and numbers of $b bits; behind ``used`` bytes of a run is 0. */
static void shohin_q8_unpack$b(const uint8_t *from, int8_t *to, long runs, long blocks, long used, long fours) {
  for (; fours > 0; fours--) {
    const int8_t *const books = (const int8_t *)from;
    from += 4 * $k;
    for (long r = 0; r < runs; r++)
      for (long k = 0; k < blocks; k++)
        for (long c = 0; c < 4; c++, to += 16) {
          const int8_t *const book = books + c * $k;
          for (long i = 0; i < 16; i += 8, from += $b) {
            $word t = $bytes;
            for (long j = 0; j < 8; j++, t >>= $b) to[i + j] = book[t & ($k - 1)];
          }
          for (long i = used - 16 * k; i < 16; i++) to[i] = 0;
        }
  }
}

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
_BOOKS = """\
    const long next = (group * ((each + 3) / 4) + first / 4) * (4 * $k + size / 8 * $b);
    shohin_q8_unpack$b((const uint8_t *)w + next, v, runs, l->blocks, used, fours);
"""

_DEPTHWISE = """\
#ifndef SHOHIN_Q8_DEPTH_PALETTE$b
#define SHOHIN_Q8_DEPTH_PALETTE$b
/* A depthwise layer whose weights come from codebooks of $k and numbers of $b bits: all of them are unpacked first. */
static void shohin_q8_depthwise_palette$b(const struct shohin_q8_layer *l, const int8_t *x, const int8_t *w, const int32_t *bias,
                                         const float *m, void *y, char *scratch, long chunk, long chunks) {
  const long all = l->kh * l->kw, ld = (l->c + 15) / 16 * 16;
  const uint8_t *from = (const uint8_t *)w + ld * $k;
  int8_t *to = (int8_t *)scratch;
  for (long t = 0; t < all; t++) {
    const int8_t *book = w;
    for (long c = 0; c < ld; c += 8, from += $b) {
      $word numbers = $bytes;
      for (long j = 0; j < 8; j++, book += $k, numbers >>= $b) *to++ = book[numbers & ($k - 1)];
    }
  }
  if (all & 1) memset(to, 0, (size_t)ld);
  shohin_q8_depthwise(l, x, (const int8_t *)scratch, bias, m, y, scratch + (all + (all & 1)) * ld, chunk, chunks);
}
#endif
"""


def _filled(text: str, bits: int, **more: object) -> str:
    """C text with what depends on the bits of a number, 8 of which are read at a time."""
    word = "uint32_t" if bits <= 4 else "uint64_t"
    each = " | ".join(f"({word})from[{i}] << {8 * i}" if i else "from[0]" for i in range(bits))
    values = {"word": word, "bytes": each, "k": 2**bits, "b": bits, **more}
    for name, value in values.items():
        text = text.replace(f"${name}", str(value))
    return text


def _code(bits: int, channels: int) -> str:
    unpack = f"#ifndef SHOHIN_Q8_UNPACK{bits}\n#define SHOHIN_Q8_UNPACK{bits}\n{_UNPACK}#endif\n"
    return _filled(unpack + unpacking(f"shohin_q8_palette{bits}_{channels}", channels, _USED, _BOOKS), bits)


def size_of(layer: Layer) -> int:
    """Bytes of the weights of four channels."""
    return (1 if layer.patch else layer.kh) * layer.blocks * 64


def _pass(layer: Layer) -> int:
    """Channels whose weights are unpacked at a time, or 0."""
    return next((n for n in (16, 8, 4) if n // 4 * size_of(layer) <= ROOM), 0)


def _found(w: Array) -> tuple[list[tuple[Array, Array]], int]:
    """Each channel's values and their numbers, and the bits of a number."""
    found = [np.unique(row, return_inverse=True) for row in w.reshape(len(w), -1)]
    return found, max(1, int(max(len(v) for v, _ in found) - 1).bit_length())


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """For each four channels their codebooks, then their numbers in the order of ``pack_dot``."""
    layer, w = qconv._layer(site), data[site.operands[1].name]
    each, runs = layer.o // layer.groups, 1 if layer.patch else layer.kh
    found, bits = _found(w)
    blobs = []
    for first in range(0, layer.o, each):
        books = np.zeros((-(-each // 4) * 4, 2**bits), np.int8)
        for book, (values, _) in zip(books, found[first : first + each]):
            book[: len(values)] = values
        codes = np.stack([c for _, c in found[first : first + each]]).astype(np.int8).reshape(each, runs, -1)
        numbers = pack_numbers(pack_dot(codes).reshape(-1, size_of(layer)), bits)
        blobs.append(np.concatenate([books.view(np.uint8).reshape(len(numbers), -1), numbers], axis=1).reshape(-1))
    spare = 0 if _pass(layer) == 16 else 16  # whole vectors are read from the first channel of any pass
    more = [np.concatenate([a, np.zeros(spare, a.dtype)]) for a in tail(site, data, layer.groups)]
    return np.concatenate(blobs).view(np.int8), *more


def _emit(site: Site, printer: Printer, name: str) -> str:
    layer = qconv._layer(site)
    fours = layer.groups * -(-layer.o // layer.groups // 4)
    bits = next(b for b in range(1, 9) if fours * (4 * 2**b + size_of(layer) // 8 * b) == site.operands[2].size)
    channels = _pass(layer)
    return call(layer, f"shohin_q8_palette{bits}_{channels}", site, printer, name, _code(bits, channels))


def _claims(site: Site) -> Verdict:
    fits = is_int8(site, "depalettize")
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
            doc="some channels at a time unpacked from numbers and codebooks, then runs of 16 bytes",
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
    """The codebooks of whole vectors of channels, then the numbers as [taps][channels]."""
    (found, bits), ld = _found(data[site.operands[1].name]), up(site.operands[1].shape[0], 16)
    books = np.zeros((ld, 2**bits), np.int8)
    codes = np.zeros((site.operands[1].size // len(found), ld), np.int8)
    for c, (values, numbers) in enumerate(found):
        books[c, : len(values)], codes[:, c] = values, numbers.reshape(-1)
    blob = np.concatenate([books.view(np.uint8).reshape(-1), pack_numbers(codes, bits).reshape(-1)])
    return blob.view(np.int8), *tail(site, data, 1)


def _emit_depthwise(site: Site, printer: Printer, name: str) -> str:
    layer = qdepthwise._layer(site)
    ld = up(layer.c, 16)
    bits = next(b for b in range(1, 9) if ld * 2**b + layer.kh * layer.kw * (ld // 8) * b == site.operands[2].size)
    code = qdepthwise.code(sets(site.machine)) + _filled(_DEPTHWISE, bits)
    return call(layer, f"shohin_q8_depthwise_palette{bits}", site, printer, name, code)


DEPTHWISE = register(
    replace(
        qdepthwise.DEPTHWISE,
        name="qconv2d_depthwise_palette",
        doc="weights unpacked from numbers and codebooks, then as the dense one",
        predicate=lambda site: is_int8(site, "depalettize") and one_each(site, site.operands[0], site.results[0]),
        phases=(Phase(emit=_emit_depthwise, chunks=qdepthwise.DEPTHWISE.phases[0].chunks), FINISH),
        workspace=lambda site: qdepthwise._layer(site).scratch + up(site.operands[1].size // site.operands[1].shape[0], 2) * up(site.operands[1].shape[0], 16),
        pack=_pack_depthwise,
        packed=("codebooks and numbers, packed", *PACKED[1:]),
    )
)
CONV2D, MATMUL = _kernel("qconv2d"), _kernel("qmatmul")
