"""The folder of a shipment: what it is, and what is finished. Every record is whole or not there, so a run that was ended at
any moment goes on where it was.

    ship.json            what is shipped, by digests (written first)
    candidates/NAME/     recipe.txt (what is made), record.json (written last), network.safetensors, a folder of C a device
    probes.json          sizes of networks that were only exported
    artefact/            the C of the candidate that fits best
    checkpoint.safetensors, result.json, report.html
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shohin.core.errors import CheckpointError, DeployError
from shohin.targets.toolchain import atomic
from shohin.train import digest

NOUNS = {"ship": "shipment"}
HEAD, RECORD, PROBES, RECIPE = "ship.json", "record.json", "probes.json", "recipe.txt"


class Kept:
    """The folder ``path``, made if it is not there.

    Raises:
        DeployError: it holds something else, or a shipment of another network, data or device (``fresh`` replaces that).
    """

    def __init__(self, path: str | Path, parts: Mapping[str, str], *, fresh: bool = False, job: str = "ship") -> None:
        self.path = Path(path)
        head = self.path / HEAD
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            there = sorted(p.name for p in self.path.iterdir())
        except OSError as error:
            raise DeployError(f"{job}: cannot write to {self.path}: {error.strerror}; choose another folder (--out)") from error
        if there and not head.is_file():
            raise DeployError(f"{job}: {self.path} holds something else ({', '.join(there[:3])}); choose another folder (--out)")
        old = _read(head).get("parts", {}) if head.is_file() else parts
        changed = digest.differences(old, parts, digest.PYTHON)
        if changed and not fresh:
            raise DeployError(f"{job}: {self.path} holds another {NOUNS.get(job, job)}, it differs in {'; '.join(changed)}. Choose another folder "
                              "(--out), or begin anew (--fresh)")  # fmt: skip
        if fresh:
            for name in ("candidates", "artefact"):
                shutil.rmtree(self.path / name, ignore_errors=True)
            (self.path / PROBES).unlink(missing_ok=True)
        _write(head, {"format": "shohin-shipment-1", "parts": dict(parts)})

    def folder(self, name: str) -> Path:
        return self.path / "candidates" / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

    def record(self, name: str, make: Callable[[Path], dict[str, Any]], *, recipe: str = "") -> dict[str, Any]:
        """The record of a candidate: the finished one of the same ``recipe``, else made now and kept."""
        home = self.folder(name)
        if not self.has(name, recipe=recipe):
            if (home / RECIPE).is_file() and (home / RECIPE).read_text(encoding="utf-8") != recipe:
                shutil.rmtree(home)
            home.mkdir(parents=True, exist_ok=True)
            with atomic(home / RECIPE) as temporary:
                temporary.write_text(recipe, encoding="utf-8")
            _write(home / RECORD, make(home))
        return {**_read(home / RECORD), "folder": str(home)}  # a shipment may be moved

    def has(self, name: str, *, recipe: str | None = None) -> bool:
        """Is the candidate finished, and of this recipe (None: of any)?"""
        home = self.folder(name)
        if not (home / RECORD).is_file():
            return False
        return recipe is None or not (home / RECIPE).is_file() or (home / RECIPE).read_text(encoding="utf-8") == recipe

    def probe(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Numbers under a name, computed once."""
        path = self.path / PROBES
        found = _read(path) if path.is_file() else {}
        if name not in found:
            found[name] = make()
            _write(path, found)
        return found[name]

    def write(self, name: str, value: Any) -> Path:
        _write(self.path / name, value)
        return self.path / name


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it, and what it says is computed again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no record; remove it, and what it says is computed again")
    return found


def _write(path: Path, value: Any) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


__all__ = ["HEAD", "Kept"]
