"""Results: one list of runs a question in ``bench/results/QUESTION.json``, each run with its machine, versions and date."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import shohin
from shohin.compiler.build import compiler, cpu_features, resolved
from shohin.targets.host import CPU

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the numbers were taken on; ``load`` is the load average, which says whether others used it too."""
    features = cpu_features()
    return {
        "cpu": CPU.model, "level": resolved("native"), "vnni": any("vnni" in f for f in features),
        "system": platform.system(), "python": platform.python_version(), "numpy": np.__version__,
        "compiler": compiler().identity.splitlines()[0], "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=RESULTS.parent)
    return found.stdout.strip() or "unknown"


def without_paths(value: Any) -> Any:
    """Texts without folders of this machine: what peers say when they fail names their files."""
    if isinstance(value, str):
        return re.sub(r"(/[^\s/:'\"]+)+/", "", value)
    if isinstance(value, dict):
        return {k: without_paths(v) for k, v in value.items()}
    return [without_paths(v) for v in value] if isinstance(value, list) else value


def append(question: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Add a run; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{question}.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    runs.append({"date": date, "shohin": shohin.__version__, "commit": commit(), "machine": machine(), **more, "rows": without_paths(rows)})
    path.write_text(json.dumps(runs, indent=1) + "\n")
    return path


def runs(question: str) -> list[dict[str, Any]]:
    """All runs of a question, oldest first."""
    path = RESULTS / f"{question}.json"
    return json.loads(path.read_text()) if path.exists() else []
