"""A run's folder: ``config.json``, ``log.jsonl``, ``last.safetensors`` and ``best.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shohin.core.errors import CheckpointError
from shohin.core.module import Module
from shohin.optim import Optimizer
from shohin.train import container
from shohin.train.checkpoint import Position, load_run, read_position, save_run
from shohin.train.digest import PYTHON, differences, digest
from shohin.train.progress import Record

_FILES = ("config.json", "log.jsonl", "last.safetensors", "best.safetensors")


class Run:
    """The folder of one configuration. ``digest`` is what its checkpoints carry."""

    def __init__(self, folder: str | Path, parts: Mapping[str, str], epochs: int, *, fresh: bool) -> None:
        self.folder, self.digest = Path(folder), digest(parts)
        self.last, self.best, self.log = (
            self.folder / n for n in ("last.safetensors", "best.safetensors", "log.jsonl")
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise container.cannot_write(self.folder, error) from error
        for left in self.folder.glob(".*.tmp"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)
        if fresh:
            for name in _FILES:
                (self.folder / name).unlink(missing_ok=True)
        config = self.folder / "config.json"
        if config.exists():
            self._compare(config, parts)
        elif self.last.exists() and read_position(self.last).digest != self.digest:
            raise CheckpointError(
                f"{self.folder} holds another run (it has no config.json to say how it differs); fresh=True starts anew"
            )
        text: dict[str, Any] = {"digest": self.digest, "python": PYTHON, "epochs": epochs, "parts": dict(parts)}
        container.replace(config, [(json.dumps(text, indent=2) + "\n").encode()])

    def _compare(self, config: Path, parts: Mapping[str, str]) -> None:
        try:
            there = json.loads(config.read_text())
            old, python, known = there["parts"], there["python"], there["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{config} cannot be read ({error!r}); fresh=True starts anew") from error
        if known == self.digest:
            return
        said = differences(old, parts, python)
        if said:
            raise CheckpointError(
                f"{self.folder} holds a run that differs in {'; '.join(said)}. Give run= another folder, or "
                "fresh=True to start anew there"
            )
        self.digest = known  # only bytecode of another Python differs

    def resume(self, net: Module, opt: Optimizer) -> tuple[Position | None, list[Record]]:
        """Where the run stands, with ``net``, ``opt`` and the generator as they were then; None at its start."""
        if not self.last.exists():
            self.log.unlink(missing_ok=True)
            return None, []
        position = load_run(self.last, net, opt)
        if position.digest != self.digest:
            raise CheckpointError(
                f"{self.last} is of another run than {self.folder / 'config.json'}; fresh=True starts anew"
            )
        records = [r for r in _records(self.log) if r.epoch <= position.epoch]
        self._rewrite(records)
        return position, records

    def _rewrite(self, records: list[Record]) -> None:
        container.replace(self.log, [(json.dumps(asdict(r)) + "\n").encode() for r in records])

    def save(self, net: Module, opt: Optimizer, position: Position, record: Record, *, best: bool) -> None:
        """An epoch's line, then ``best``, then ``last``: a kill in between repeats the epoch with the same bits."""
        try:
            with open(self.log, "a") as file:
                file.write(json.dumps(asdict(record)) + "\n")
        except OSError as error:
            raise container.cannot_write(self.log, error) from error
        save_run(self.last if not best else self.best, net, opt, position)
        if best:
            self._copy()

    def _copy(self) -> None:
        container.replace(self.last, [self.best.read_bytes()])


def _records(log: Path) -> list[Record]:
    """The whole lines of a log; a last one that was cut off is left out."""
    found: list[Record] = []
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            found.append(Record(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return found


__all__ = ["Run"]
