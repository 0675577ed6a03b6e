"""The peers' environment: PyTorch and the inference engines in a virtual environment of their own, outside the project's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
PACKAGES = ("torch==2.13.0", "numpy", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "ncnn", "pnnx", "coremltools", "torchao")


def python() -> Path:
    """The interpreter that has the peers; made at the first call, and anew when ``PACKAGES`` change."""
    program = PEERS / "bin" / "python"
    stamp = PEERS / f".complete-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:8]}"
    if not stamp.exists():
        print(f"setting up the peers ({', '.join(PACKAGES)}) in .venv-peers ...", flush=True)
        if not program.exists():
            subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(program), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        stamp.touch()
    return program


def versions() -> dict[str, str]:
    """Installed versions by package."""
    text = subprocess.run([str(python()), "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True).stdout
    found = dict(line.split("==", 1) for line in text.split() if "==" in line)
    return {p.partition("==")[0]: found[p.partition("==")[0]] for p in PACKAGES}
