"""A reader of ELF files: as much as is needed to say how many bytes a network takes.

Little-endian ELF, 32 and 64 bits. Source: System V ABI, chapter 4 (object files).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from shohin.core.errors import TargetError

WRITE, ALLOC, EXECUTE, NOBITS, SYMBOLS = 1, 2, 4, 8, 2


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of an ELF file; ``size`` in bytes, ``kind`` and ``flags`` as the file has them."""

    name: str
    kind: int
    flags: int
    address: int
    size: int
    offset: int
    link: int


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Bytes of a program by kind of section.

    ``flash`` is what has to be stored: code, constants, and the initial values of variables. ``ram`` is what is
    reserved at all times: variables with and without an initial value (no arena, no stack).
    """

    text: int
    rodata: int
    data: int
    bss: int

    @property
    def flash(self) -> int:
        return self.text + self.rodata + self.data

    @property
    def ram(self) -> int:
        return self.data + self.bss

    def __str__(self) -> str:
        return (f"{self.flash:,} bytes of flash (code {self.text:,}, constants {self.rodata:,}, "
                f"initial values {self.data:,}), {self.bss:,} bytes of .bss")


def read_sections(path: str | Path) -> tuple[Section, ...]:
    """All sections of an ELF file, in the order of its header table."""
    blob = Path(path).read_bytes()
    if blob[:4] != b"\x7fELF":
        raise TargetError(f"{path}: not an ELF file (it starts with {blob[:4]!r})")
    bits, order = blob[4:6]
    if bits not in (1, 2) or order != 1:
        raise TargetError(f"{path}: class {bits}, byte order {order}: only little-endian ELF of 32 or 64 bits is read")
    try:
        if bits == 1:
            start, = struct.unpack_from("<I", blob, 32)
            size, count, names = struct.unpack_from("<HHH", blob, 46)
            header = struct.Struct("<IIIIIII")
        else:
            start, = struct.unpack_from("<Q", blob, 40)
            size, count, names = struct.unpack_from("<HHH", blob, 58)
            header = struct.Struct("<IIQQQQI")
        rows = [header.unpack_from(blob, start + i * size) for i in range(count)]
        strings = rows[names][4]
        return tuple(
            Section(name=blob[strings + name:blob.index(b"\0", strings + name)].decode(), kind=kind, flags=flags,
                    address=address, size=length, offset=offset, link=link)
            for name, kind, flags, address, offset, length, link in rows)
    except (struct.error, IndexError, ValueError) as error:
        raise TargetError(f"{path}: a truncated or corrupt ELF file ({error})") from error


def sizes(path: str | Path) -> Sections:
    """Bytes of an ELF file's loaded sections by kind.

    A section that is executable counts as code, one without bytes in the file as ``.bss``, another writable one
    as ``.data``, and the rest as constants. What is not loaded (debug information, symbols) does not count.
    """
    total = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for section in read_sections(path):
        if section.flags & ALLOC:
            kind = ("bss" if section.kind == NOBITS else "text" if section.flags & EXECUTE
                    else "data" if section.flags & WRITE else "rodata")
            total[kind] += section.size
    return Sections(**total)
