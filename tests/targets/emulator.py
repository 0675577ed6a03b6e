"""Tests that need QEMU skip loudly without it, and fail if SHOHIN_REQUIRE_EMULATORS=1."""

from __future__ import annotations

import os
import shutil

import pytest

from shohin.targets.board import EMULATOR


def require_emulator() -> None:
    """Skips or fails the running test when the emulator is not installed."""
    if shutil.which(EMULATOR) is None:
        message = f"{EMULATOR} is MISSING: emulated boards are NOT tested. Run `make emulators`"
        if os.environ.get("SHOHIN_REQUIRE_EMULATORS") == "1":
            pytest.fail(message)
        pytest.skip(message)
