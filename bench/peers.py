"""The peers' environment: PyTorch in a virtual environment of its own, outside the project's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers"
PACKAGES = ("torch==2.13.0", "numpy")


def python() -> Path:
    """The interpreter that has the peers; made at the first call."""
    program = PEERS / "bin" / "python"
    if not (PEERS / ".complete").exists():
        print("setting up the peers (PyTorch) in .venv-peers ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(program), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (PEERS / ".complete").touch()
    return program
