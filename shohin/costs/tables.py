"""The tables at hand: boards' are in the package, the host's is measured once a processor and kept in the user's cache."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import platformdirs

from shohin.compress.plan import Plan
from shohin.compress.quantize import Quantize
from shohin.core.errors import DeployError, ShohinError
from shohin.costs.model import Observed
from shohin.costs.observe import observe
from shohin.costs.samples import sample
from shohin.costs.table import Table
from shohin.targets import get_target
from shohin.targets.board import QemuBoard
from shohin.targets.host import CPU

_LOG = logging.getLogger("shohin")
HOST_NETWORKS = 24
SECONDS_FLOOR, INSTRUCTIONS_FLOOR = 2e-7, 500.0


def board_path(device: str) -> Path:
    """Where the package keeps a board's observations."""
    return Path(__file__).parent / "observed" / f"{device}.json.gz"


def host_path() -> Path:
    """Where this processor's observations are kept: ``SHOHIN_CACHE``, or the user's cache folder."""
    root = Path(os.environ.get("SHOHIN_CACHE") or platformdirs.user_cache_dir("shohin"))
    return root / "costs" / f"host-{_cpu()}.json.gz"


def _cpu() -> str:
    return hashlib.sha256("\n".join((CPU.model, *CPU.key)).encode()).hexdigest()[:16]


@functools.cache
def board_table(device: str) -> Table | None:
    """Instructions by step of an emulated board, or None for a device without a table.

    Raises ``DeployError`` where the package's file is damaged.
    """
    target = get_target(device)
    path = board_path(target.name)
    return Table.load(path) if isinstance(target.strategy, QemuBoard) and path.is_file() else None


def host_table(*, measure: bool) -> Table | None:
    """Seconds by step on this processor; where there is none, None, or with ``measure`` a table of sample networks, which takes a minute or
    two, once. A damaged one is left with a warning, and measured again the same way."""
    path = host_path()
    try:
        return _loaded(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        pass
    except DeployError as error:
        warnings.warn(f"{error}; it is measured again", RuntimeWarning, stacklevel=2)
    if not measure:
        return None
    _LOG.info("measuring kernels on this processor, once: %d sample networks, a minute or two", HOST_NETWORKS)
    table = observed("host", range(HOST_NETWORKS))
    table.save(path)
    return table


@functools.lru_cache(4)
def _loaded(path: Path, changed: int) -> Table:
    return Table.load(path)


def learn(rows: Iterable[Observed]) -> None:
    """Keep what was timed on this host."""
    table = host_table(measure=True)
    assert table is not None
    table.with_rows(rows).save(host_path())


def observed(device: str, seeds: Iterable[int], told: Callable[[int, int], object] = lambda seed, steps: None) -> Table:
    """A table of sample networks, int8 on a board, int8 and float32 on the host; those that a device refuses are logged and left out."""
    host = device == "host"
    table = Table("seconds", _cpu(), SECONDS_FLOOR) if host else Table("instructions", device, INSTRUCTIONS_FLOOR)
    rows: list[Observed] = []
    for seed in seeds:
        net, x = sample(seed)
        small = Plan([("*", Quantize())]).apply(net, calibration=x)
        for each in (small, net) if host else (small,):
            try:
                found = observe(each, (np.ascontiguousarray(x),), device)
            except ShohinError as error:
                _LOG.warning("sample network %d on %s: %s", seed, device, error)
                continue
            rows += found
            told(seed, len(found))
    return table.with_rows(rows)


__all__ = ["board_path", "board_table", "host_path", "host_table", "learn", "observed"]
