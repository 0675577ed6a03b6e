"""Devices. Every file here that defines ``TARGET`` is one: a new device is a new file, and no other change."""

from __future__ import annotations

import importlib
import pkgutil

from shohin.targets.target import (
    Memory,
    RunResult,
    Strategy,
    Target,
    get_target,
    register_target,
    target_names,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Memory", "RunResult", "Strategy", "Target", "get_target", "register_target", "target_names"]
