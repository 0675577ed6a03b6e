"""What is here: devices, compilers, emulators."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.table import Table

from shohin.core.errors import ShohinError
from shohin.targets import get_target, target_names
from shohin.targets.host import CPU
from shohin.targets.toolchain import find_compiler, zig


def devices(console: Console) -> None:
    """A table of the targets."""
    table = Table("device", "what", "memories", box=None)
    for name in target_names():
        t = get_target(name)
        memories = ", ".join(f"{m.name} {m.size:,} bytes" for m in t.memories) or "the host's"
        table.add_row(name, t.doc.strip().splitlines()[0], memories)
    console.print(table)


def doctor(console: Console) -> None:
    """One line a thing."""
    def line(ok: bool, what: str, remedy: str = "") -> None:
        console.print(f"{'ok      ' if ok else 'missing '}{what}" + ("" if ok else f": {remedy}"))

    line(True, f"processor {CPU.key}")
    for name, find in (("the bundled C compiler", zig), ("gcc", lambda: find_compiler("gcc"))):
        try:
            find()
            line(True, name)
        except ShohinError as error:
            line(False, name, str(error))
    line(shutil.which("qemu-system-arm") is not None, "QEMU for Cortex-M boards", "make emulators, or the Debian package qemu-system-arm")
