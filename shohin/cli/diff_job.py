"""``shohin diff A B X``: what A and B stand for, and the table of places."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import shohin as sh
from shohin.cli.network_file import KINDS, load_network, shape_of
from shohin.compress import Quantized
from shohin.core.errors import DataError, DeployError
from shohin.data.dataset import Dataset
from shohin.data.folder import Reading, read_folder
from shohin.deploy.artefact import MANIFEST, load_artefact
from shohin.shipping.diff import Difference, Way, artefact_way, board_way, diff, module_way, outputs_way, reference_way
from shohin.shipping.kept import HEAD
from shohin.train import Task

WAYS = f"a network ({KINDS}), an artefact's or a shipment's folder, board:FOLDER, reference:FILE, or origin:FILE.onnx"


@dataclass(frozen=True, kw_only=True)
class Config:
    a: str
    b: str
    x: Path
    shape: str | None = None
    limit: int = 16
    json: bool = False


def run(config: Config, console: Console) -> Difference:
    """Compare and print."""
    shape = shape_of(config.shape)
    a, b = (way(text, shape) for text in (config.a, config.b))
    data = read_folder(config.x, Reading(shape=shape, limit=config.limit))
    found = diff(a, b, np.ascontiguousarray(data.x if isinstance(data, Dataset) else data, np.float32))
    if config.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        console.print(str(found), soft_wrap=True, markup=False)
    return found


def way(text: str, shape: tuple[int, ...] | None = None) -> Way:
    """What an argument stands for.

    Raises:
        DataError: it stands for nothing.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix == "board":
        return board_way(load_artefact(_artefact_folder(Path(rest))))
    if colon and prefix == "reference":
        net = load_network(Path(rest))
        if not isinstance(net, Quantized):
            raise DataError(f"diff: {text}: a float network has no integer reference; give a quantized one")
        return reference_way(net)
    if colon and prefix == "origin":
        if not Path(rest).is_file():
            raise DataError(f"diff: {text}: no such file")
        try:
            return outputs_way(sh.onnx_runtime(rest), f"{rest} (ONNX Runtime)")
        except ModuleNotFoundError as error:
            raise DeployError(f"diff: {text}: needs the package {error.name}: pip install onnxruntime") from error
    path = Path(text)
    if path.is_dir():
        art = load_artefact(_artefact_folder(path))
        return artefact_way(art, f"{text} ({art.device}'s C here)")
    if not path.exists():
        raise DataError(f"diff: {text}: no such file or folder; expected {WAYS}")
    net = load_network(path, shape=shape)
    module = net.model if isinstance(net, Task) else net
    return module_way(module, f"{text} ({'quantized' if isinstance(module, Quantized) else 'float'} module)")


def _artefact_folder(path: Path) -> Path:
    """The folder itself, or a shipment's artefact."""
    return path / "artefact" if (path / HEAD).is_file() and not (path / MANIFEST).is_file() else path


__all__ = ["Config", "WAYS", "run", "way"]
