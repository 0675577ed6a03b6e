"""What is here: devices, compilers, emulators."""

from __future__ import annotations

import importlib.util
import json as json_text
import shutil

from rich.console import Console
from rich.table import Table

from shohin.core.errors import ShohinError
from shohin.targets import get_target, target_names
from shohin.targets.host import CPU
from shohin.targets.toolchain import find_compiler, zig
from shohin.targets.wasm32 import chromium, node


def devices(console: Console, *, json: bool = False) -> None:
    """A table of the targets."""
    table = Table("device", "what", "memories", box=None)
    rows = [(t.name, t.doc.strip().splitlines()[0], t.memories) for t in map(get_target, target_names())]
    if json:
        print(json_text.dumps([{"device": n, "what": d, "memories": [vars(m) for m in memories]} for n, d, memories in rows], indent=1))
        return
    for name, what, memories in rows:
        table.add_row(name, what, ", ".join(f"{m.name} {m.size:,} bytes" for m in memories) or "no limits of its own")
    console.print(table)


def doctor(console: Console, *, json: bool = False) -> None:
    """One line a thing."""
    found: list[tuple[str, bool, str]] = [(f"processor {CPU.model} ({CPU.machine} {CPU.level})", True, "")]
    for name, find in (("the bundled C compiler", zig), ("gcc", lambda: find_compiler("gcc"))):
        try:
            find()
            found.append((name, True, ""))
        except ShohinError as error:
            found.append((name, False, str(error)))
    found.append(("QEMU for Cortex-M boards", shutil.which("qemu-system-arm") is not None, "make emulators, or the Debian package qemu-system-arm"))
    try:
        found.append((f"Node for WebAssembly ({node()})", True, ""))
    except ShohinError as error:
        found.append(("Node for WebAssembly", False, str(error)))
    try:
        found.append((f"Chromium for pages of networks ({chromium()})", True, ""))
    except ShohinError as error:
        found.append(("Chromium for pages of networks", False, str(error)))
    for package, extra, use in EXTRAS:
        found.append((f"{package} ({use})", importlib.util.find_spec(package) is not None, f"pip install 'shohin[{extra}]'"))
    if json:
        print(json_text.dumps([{"what": w, "here": ok, "remedy": "" if ok else r} for w, ok, r in found], indent=1))
        return
    for what, ok, remedy in found:
        console.print(f"{'ok      ' if ok else 'missing '}{what}" + ("" if ok else f": {remedy}"), soft_wrap=True, markup=False)


EXTRAS = (("onnx", "onnx", "ONNX files"), ("torch", "torch", "PyTorch networks"), ("PIL", "images", "images as inputs"), ("jinja2", "report", "report.html"),
          ("coreai", "coreai", "Apple's .aimodel"))
