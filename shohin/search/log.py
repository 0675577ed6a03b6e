"""The log of a search: a header, and a line a finished trial, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shohin.core.errors import CheckpointError, StateError
from shohin.search.records import Record
from shohin.train import digest

LOG = "log.jsonl"


class Log:
    """``log.jsonl``: a first line that says what is searched, then one a trial; a last line cut off is left out."""

    def __init__(self, folder: Path, header: Mapping[str, str], fork: bool) -> None:
        self.path = folder / LOG
        folder.mkdir(parents=True, exist_ok=True)
        lines = _lines(self.path)
        if lines:
            old = lines[0].get("search", {})
            changed = digest.differences(old, header, lines[0].get("python", ""))
            if changed and not fork:
                raise StateError(
                    f"{folder} holds another search, it differs in {'; '.join(changed)}. Pass fork=True to begin anew "
                    "there, or another run="
                )
            if changed:
                kept = folder / f"log-{digest.digest(old)[:8]}.jsonl"
                os.replace(self.path, kept)
                lines = []
        first = {"search": dict(header), "python": digest.PYTHON}
        rows = lines[1:] if lines else []
        self.records = [_record(row) for row in rows]
        self._whole([first if not lines else lines[0], *rows])

    def _whole(self, rows: Iterable[Mapping[str, Any]]) -> None:
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(r) + "\n" for r in rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def append(self, record: Record) -> None:
        self.records.append(record)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    text = path.read_text(encoding="utf-8")
    for k, line in enumerate(text.splitlines(keepends=True)):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if not line.endswith("\n"):
                break  # the process was ended while it wrote
            raise CheckpointError(
                f"{path}: line {k + 1} is not JSON ({error}); restore it or pass another run="
            ) from error
    return found


def _record(row: Mapping[str, Any]) -> Record:
    reports = tuple((int(e), float(v)) for e, v in row.get("reports", ()))
    return Record(**{**row, "path": tuple(row["path"]), "ordered": tuple(row.get("ordered", ())), "reports": reports})


__all__ = ["LOG", "Log"]
