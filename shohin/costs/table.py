"""What was observed of steps on one device, kept in a file: the observation itself where there is one, else the model fitted to them."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shohin.core.errors import DeployError
from shohin.costs.model import Model, Observed, fit
from shohin.costs.work import Work

VERSION = 1
NEAREST, NEAR = 4, 0.1
Array = np.ndarray[Any, Any]


def _logs(sizes: tuple[int, ...]) -> Array:
    return np.log1p(np.abs(np.array(sizes, np.float64)))


@dataclass(frozen=True)
class Table:
    """``unit``: instructions or seconds; ``key``: the device or processor that they hold for; ``floor``: the clock's resolution."""

    unit: str
    key: str
    floor: float
    rows: tuple[Observed, ...] = field(default=(), repr=False)

    @cached_property
    def model(self) -> Model:
        return fit(self.rows, self.floor)

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[int, ...]], float]:
        return {(o.work.kind, o.work.sizes): o.took for o in self.rows if o.took >= 4 * self.floor}

    def __call__(self, work: Work) -> tuple[float, bool]:
        """What a step takes, and whether it was observed itself.

        >>> table = Table("instructions", "a", 1.0, (Observed(Work("k", "f", (3,), (1.0,)), 7.0),))
        >>> table(Work("k", "f", (3,), (1.0,)))
        (7.0, True)
        """
        found = self._known.get((work.kind, work.sizes))
        return (self.model(work) * self._near(work), False) if found is None else (found, True)

    def _near(self, work: Work) -> float:
        """How far off the model was for the nearest steps of this kind: compilers unroll and vectorize by thresholds that no sum follows."""
        if work.kind not in self._off:
            return 1.0
        sizes, ratios = self._off[work.kind]
        distance = np.square(sizes - _logs(work.sizes)).sum(1)
        nearest = np.argsort(distance, kind="stable")[:NEAREST]
        weights = 1 / np.square(distance[nearest] + NEAR)
        return float(np.exp((weights * ratios[nearest]).sum() / (weights.sum() + 1.0)))

    @cached_property
    def _off(self) -> dict[str, tuple[Array, Array]]:
        """By kind the logarithms of sizes, and of what was observed over what the model says."""
        by: dict[str, list[Observed]] = {}
        for o in self.rows:
            if o.took >= self.floor and self.model(o.work) > 0:
                by.setdefault(o.work.kind, []).append(o)
        ratios = {kind: np.log([o.took / self.model(o.work) for o in rows]) for kind, rows in by.items()}
        return {kind: (np.array([_logs(o.work.sizes) for o in rows]), ratios[kind]) for kind, rows in by.items()}

    def with_rows(self, rows: Iterable[Observed]) -> Table:
        """These observations too; of a step that was observed before the least value holds: what disturbs a clock only adds."""
        found = {(o.work.kind, o.work.sizes): o for o in self.rows}
        for o in rows:
            old = found.get((o.work.kind, o.work.sizes))
            if old is None or o.took < old.took or old.work.counts != o.work.counts:
                found[o.work.kind, o.work.sizes] = o
        return Table(self.unit, self.key, self.floor, tuple(found.values()))

    def save(self, path: Path) -> None:
        """Written whole, then renamed."""
        names = sorted({n for o in self.rows for n in (o.work.kind, o.work.family)})
        at = {n: k for k, n in enumerate(names)}
        rows = [[at[o.work.kind], at[o.work.family], list(o.work.sizes), [int(c) for c in o.work.counts], o.took] for o in self.rows]
        body = json.dumps({"unit": self.unit, "key": self.key, "floor": self.floor, "names": names, "rows": rows}, separators=(",", ":"))
        whole = json.dumps({"version": VERSION, "checksum": zlib.crc32(body.encode()), "body": body})
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(gzip.compress(whole.encode(), 9, mtime=0))
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> Table:
        """Raises ``DeployError`` where the file is damaged or of another version; ``FileNotFoundError`` where there is none."""
        data = path.read_bytes()
        try:
            whole: dict[str, Any] = json.loads(gzip.decompress(data))
            body = whole["body"]
            if whole["version"] != VERSION or whole["checksum"] != zlib.crc32(body.encode()):
                raise ValueError(f"version {whole['version']}, expected {VERSION}, or another checksum")
            found = json.loads(body)
            names = found["names"]
            rows = tuple(
                Observed(Work(names[kind], names[family], tuple(sizes), tuple(map(float, counts))), float(took))
                for kind, family, sizes, counts, took in found["rows"]
            )
            return cls(found["unit"], found["key"], float(found["floor"]), rows)
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
            raise DeployError(f"the cost table {path} cannot be read: {error}") from error


__all__ = ["Table"]
