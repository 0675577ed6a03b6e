"""A page for browsers: the network as WebAssembly within one file, run on an image, a sound or an array that a person gives it."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shohin.targets.target import Target

PAGE = "index.html"
TEMPLATE = Path(__file__).parent / "page.html"


def page(folder: Path, target: Target, name: str, network: Mapping[str, Any]) -> str:
    """The text of ``index.html``: self-contained, without links. The module is built for it; ``network`` has ``inputs`` and
    ``outputs`` as the manifest has them."""
    with tempfile.TemporaryDirectory(prefix="shohin-page-") as work:
        module = target.strategy.build(target, folder, Path(work)).path.read_bytes()
    safe = json.dumps(network).replace("<", "\\u003c")  # a name must not end the script
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.replace("@NAME@", name).replace("@NETWORK@", safe).replace("@WASM@", base64.b64encode(module).decode("ascii"))


__all__ = ["PAGE", "page"]
