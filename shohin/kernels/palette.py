"""int8 convolutions and products whose weights are numbers of entries of a codebook (``ops/palette``).

The numbers lie in the order in which ``qconv`` reads weights, a codebook a channel before them. Before a pass of
channels their weights are unpacked into scratch; then it is the same code. Constants hold numbers and codebooks only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shohin.compiler.kernel import Kernel, Phase, PortSpec, Printer, Site, register
from shohin.core import dtypes
from shohin.kernels import qconv
from shohin.kernels.qcommon import FINISH, LONGEST, PACKED, Layer, call, pack_dot, shared, tail
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
            uint32_t t = $bytes;
            for (long j = 0; j < 8; j++, t >>= $b) to[i + j] = book[t & ($k - 1)];
          }
          for (long i = used - 16 * k; i < 16; i++) to[i] = 0;
        }
  }
}

"""
_GATHER, _CONVOLVE = qconv.CONV.split("#ifndef SHOHIN_Q8_CONVOLVE\n")
_CHANGES = {
    "SHOHIN_Q8_CONVOLVE": "SHOHIN_Q8_PALETTE$b_$pass",
    "shohin_q8_conv(": "shohin_q8_palette$b_$pass(",
    "first += SHOHIN_Q8_BLOCK": "first += $pass",
    "each - first < SHOHIN_Q8_BLOCK ? each - first : SHOHIN_Q8_BLOCK": "each - first < $pass ? each - first : $pass",
    "  int32_t *acc = (int32_t *)scratch;\n": """\
  const long used = l->patch ? l->kh * l->parts * l->part : l->part;
  int8_t *const v = (int8_t *)scratch;
  scratch += $pass / 4 * (l->patch ? 1 : l->kh) * l->blocks * 64;
  int32_t *acc = (int32_t *)scratch;
""",
    "    const int8_t *v = w + (group * ((each + 3) / 4) + first / 4) * size;\n": """\
    const long next = (group * ((each + 3) / 4) + first / 4) * (4 * $k + size / 8 * $b);
    shohin_q8_unpack$b((const uint8_t *)w + next, v, runs, l->blocks, used, fours);
""",
}


def _code(bits: int, channels: int) -> str:
    text = "#ifndef SHOHIN_Q8_CONVOLVE\n" + _CONVOLVE
    for old, new in _CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    each = " | ".join(f"(uint32_t)from[{i}] << {8 * i}" if i else "from[0]" for i in range(bits))
    values = {"$bytes": each, "$k": str(2**bits), "$b": str(bits), "$pass": str(channels)}
    unpack = f"#ifndef SHOHIN_Q8_UNPACK{bits}\n#define SHOHIN_Q8_UNPACK{bits}\n{_UNPACK}#endif\n"
    text = _GATHER + unpack + text
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _size(layer: Layer) -> int:
    """Bytes of the weights of four channels."""
    return (1 if layer.patch else layer.kh) * layer.blocks * 64


def _pass(layer: Layer) -> int:
    """Channels whose weights are unpacked at a time, or 0."""
    return next((n for n in (16, 8, 4) if n // 4 * _size(layer) <= ROOM), 0)


def pack(site: Site, data: Mapping[str, Array]) -> tuple[Array, ...]:
    """For each four channels their codebooks, then their numbers in the order of ``pack_dot``."""
    layer, w = qconv._layer(site), data[site.operands[1].name]
    rows = w.reshape(len(w), -1)
    found = [np.unique(row, return_inverse=True) for row in rows]
    bits = max(1, int(max(len(v) for v, _ in found) - 1).bit_length())
    books = np.zeros((-(-len(w) // 4) * 4, 2**bits), np.int8)
    for book, (values, _) in zip(books, found):
        book[: len(values)] = values
    codes = np.stack([c for _, c in found]).astype(np.int8).reshape(len(w), 1 if layer.patch else layer.kh, -1)
    numbers = pack_numbers(pack_dot(codes).reshape(-1, _size(layer)), bits)
    blob = np.concatenate([books.view(np.uint8).reshape(len(numbers), -1), numbers], axis=1)
    spare = 0 if _pass(layer) == 16 else 16  # whole vectors are read from the first channel of any pass
    more = [np.concatenate([a, np.zeros(spare, a.dtype)]) for a in tail(site, data, 1)]
    return blob.reshape(-1).view(np.int8), *more


def _emit(site: Site, printer: Printer, name: str) -> str:
    layer = qconv._layer(site)
    fours = -(-layer.o // 4)
    bits = next(b for b in (1, 2, 3, 4) if fours * (4 * 2**b + _size(layer) // 8 * b) == site.operands[2].size)
    channels = _pass(layer)
    return call(layer, f"shohin_q8_palette{bits}_{channels}", site, printer, name, _code(bits, channels))


def _claims(site: Site) -> bool:
    q, w = site.operands[:2]
    terms = w.size // max(w.shape[0], 1)
    fits = 0 < terms <= LONGEST and q.size > 0 and site.results[0].size > 0
    kind = q.dtype == w.dtype == dtypes.int8 and w.role == "packed" and site.attrs.get("groups", 1) == 1
    return fits and kind and _pass(qconv._layer(site)) > 0


def _workspace(site: Site) -> int:
    layer = qconv._layer(site)
    return layer.scratch + _pass(layer) // 4 * _size(layer)


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


CONV2D, MATMUL = _kernel("qconv2d"), _kernel("qmatmul")
