"""An artefact: a folder of C that a device's own compiler builds, and a manifest that says what it is.

    network.h  network.c     the network (the emitter's)
    network.hpp              a C++17 class over it
    CMakeLists.txt           a library, and an example where nothing is cross-compiled; an ESP-IDF component
    Makefile                 the library by any C11 compiler, arm-none-eabi-gcc for a Cortex-M
    example.c                one input of zeros, printed
    manifest.json            inputs, outputs, sizes, kernels, checksums
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shohin.compress.definitions import Grid, dequantize, quantize
from shohin.core.errors import DeployError
from shohin.deploy.layout import Layout
from shohin.deploy.library import HostLibrary, build_library
from shohin.deploy.packed import is_packed, offsets, pack, unpack
from shohin.deploy.page import PAGE, page
from shohin.deploy.templates import files_of
from shohin.targets import get_target
from shohin.targets.elf import Sections
from shohin.targets.source import Source, read_source
from shohin.targets.toolchain import atomic

FORMAT, VERSION = "shohin-artefact", 1
MANIFEST = "manifest.json"
NO_LAYOUT = Layout()
_DTYPES = ("int8", "uint8", "int16", "int32", "float32")
_SUMMED = ("network.c", "network.h")


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """An input or output: ``shape`` without the batch, ``dtype`` ``int8``, ``uint8``, ``int16``, ``int32`` or ``float32``, and for integers
    their grid (none: an index).

    The real value of q is ``(q - zero) * scale``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise DeployError(f"{self.name}: dtype {self.dtype!r}, expected {', '.join(_DTYPES)}")
        if not all(isinstance(d, int) and d > 0 for d in self.shape):
            raise DeployError(f"{self.name}: shape {self.shape!r}, expected positive integers")
        if self.dtype == "float32" and (self.scale, self.zero) != (None, None):
            raise DeployError(f"{self.name}: float32 has no grid, but scale {self.scale!r} and zero {self.zero!r} came")
        if self.dtype == "int8" or self.scale is not None:
            if not isinstance(self.scale, (int, float)) or not 0 < self.scale < math.inf:
                raise DeployError(f"{self.name}: scale {self.scale!r}, expected a positive number")
            if float(np.float32(self.scale)) != self.scale:
                raise DeployError(f"{self.name}: scale {self.scale!r} is not a float32")
            if not isinstance(self.zero, int) or not -128 <= self.zero <= 127:
                raise DeployError(f"{self.name}: zero point {self.zero!r}, expected an integer in [-128, 127]")

    @property
    def grid(self) -> Grid:
        """Its grid; an error if it has none."""
        if self.scale is None or self.zero is None:
            raise DeployError(f"{self.name} is {self.dtype} without a grid")
        return Grid(np.float32(self.scale), self.zero, np.dtype(self.dtype).itemsize * 8)

    def __str__(self) -> str:
        grid = "" if self.scale is None else f", scale {self.scale:.6g}, zero point {self.zero}"
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]{grid}"


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A complete folder. ``sections``: bytes of the network alone, built for ``device``; ``arena_bytes`` exact.

    ``kernels`` are (place, kernel) pairs in the order of the schedule; ``checksums`` sha256 by file; ``layout`` the arena
    over time and the constants by step. Called, it runs on this machine: ``art(x)``.
    """

    name: str
    device: str
    folder: Path
    inputs: tuple[Boundary, ...]
    outputs: tuple[Boundary, ...]
    arena_bytes: int
    sections: Sections
    kernels: tuple[tuple[str, str], ...]
    checksums: tuple[tuple[str, str], ...]
    layout: Layout = field(default=NO_LAYOUT, repr=False)

    @property
    def flash_bytes(self) -> int:
        """Bytes to store: code, constants, initial values of variables."""
        return self.sections.flash

    @property
    def packed(self) -> bool:
        """Does ``NAME_run`` take and give blocks of bytes (``deploy.packed``)?"""
        return is_packed(self.inputs, self.outputs)

    @property
    def source(self) -> Source:
        """The C, as its header describes it."""
        return read_source(self.folder)

    @cached_property
    def library(self) -> HostLibrary:
        """The artefact's C, built for this machine and loaded, when first asked for."""
        with tempfile.TemporaryDirectory(prefix="shohin-call-") as work:
            return build_library(self.folder, work)

    @property
    def remembers(self) -> bool:
        """Does each call go on where the last one ended?"""
        return self.source.state_bytes > 0

    def stream(self) -> Stream:
        """A sequence of its own, from the start: ``step`` by ``step``.

        Raises:
            DeployError: the network remembers nothing.
        """
        if not self.remembers:
            raise DeployError(f"{self.name}: it remembers nothing from call to call; export it with stream= or state=")
        with tempfile.TemporaryDirectory(prefix="shohin-stream-") as work:
            return Stream(self, build_library(self.folder, work))

    def run(self, x: Any) -> np.ndarray:
        """Outputs (n, ...) of the artefact's own dtype, int8 or float32, for float32 inputs (n, ...): its C on this machine.
        Of a network that remembers, inputs and outputs are n steps of one sequence, from its start.

        Raises ``DeployError`` where the inputs have another shape.
        """
        return self.first(self.library.run(self.entries(x, self.library)))

    def first(self, y: np.ndarray) -> np.ndarray:
        """The first output (n, ...) of rows that the C gave."""
        return unpack(y, [(b.shape, b.dtype) for b in self.outputs])[0] if self.packed else y.reshape(len(y), *self.outputs[0].shape)

    def entries(self, x: Any, library: HostLibrary) -> np.ndarray:
        """Rows of the network's own dtype from real inputs (n, ...).

        Raises:
            DeployError: they have another shape, or the network has several inputs.
        """
        entry = self.inputs[0]
        x = np.asarray(x, np.float32 if entry.scale is not None else entry.dtype)
        if x.shape[1:] != entry.shape or len(self.inputs) > 1:
            wanted = "; ".join(f"(n, {', '.join(map(str, b.shape))})" for b in self.inputs)
            raise DeployError(f"{self.name}: the input has shape {x.shape}, expected {wanted}")
        if self.packed:
            return pack([x if entry.scale is None else quantize(x, entry.grid)])
        rows = np.ascontiguousarray(x.reshape(len(x), -1))
        return library.quantize(rows) if entry.dtype == "int8" else rows

    def __call__(self, x: Any) -> np.ndarray:
        """float32 outputs (n, ...) for float32 inputs (n, ...); the integers are those that the device gives.

        >>> import shohin as sh
        >>> art = sh.export(sh.nn.ReLU(), np.zeros((1, 3), np.float32), device="host", to="relu")
        >>> art([[-1.0, 0.0, 2.0]]).tolist()
        [[0.0, 0.0, 2.0]]
        """
        return self.real(self.run(x))

    def real(self, y: np.ndarray) -> np.ndarray:
        """Values of the first output's integers; an index as it is."""
        return y if self.outputs[0].scale is None else dequantize(y, self.outputs[0].grid)

    def __str__(self) -> str:
        width = max((len(place) for place, _ in self.kernels), default=0)
        return "\n".join([
            f"{self.name} for {self.device} in {self.folder}",
            *(f"  input   {b}" for b in self.inputs),
            *(f"  output  {b}" for b in self.outputs),
            f"  flash   {self.flash_bytes:,} bytes: code {self.sections.text:,}, constants {self.sections.rodata:,}, "
            f"initial values {self.sections.data:,}",
            f"  RAM     arena {self.arena_bytes:,} bytes, variables {self.sections.ram:,} bytes; stack not included",
            *(f"  {place:{width}}  {kernel}" for place, kernel in self.kernels)])

    __repr__ = __str__


class Stream:
    """A sequence that is fed to an artefact step by step; it has an arena of its own, so that several may run side by side."""

    def __init__(self, art: Artefact, library: HostLibrary) -> None:
        self.artefact, self.library = art, library
        library.reset()

    def reset(self) -> None:
        """Back to the start of a sequence."""
        self.library.reset()

    def step(self, x: Any) -> np.ndarray:
        """float32 outputs (...) of the next step, whose inputs are x (...), float32: the artefact's shapes without the batch."""
        return self.artefact.real(self.integers(x))

    def integers(self, x: Any) -> np.ndarray:
        """As ``step``, in the artefact's own dtype."""
        return self.artefact.first(self.library.go_on(self.artefact.entries(np.asarray(x)[None], self.library)))[0]


def _boundaries_fit(source: Source, what: str, size: int, boundaries: tuple[Boundary, ...], packed: bool) -> None:
    if boundaries and packed:
        if offsets([(b.shape, b.dtype) for b in boundaries])[-1] != size or source.dtype != np.int8:
            raise DeployError(f"{source.name}: the {what} {', '.join(map(str, boundaries))} do not make {size} bytes, as network.h says")
        return
    elements = sum(math.prod(b.shape) for b in boundaries)
    dtypes = {b.dtype for b in boundaries}
    if elements != size or dtypes != {source.dtype.name}:
        raise DeployError(f"{source.name}: the {what} {', '.join(map(str, boundaries)) or '(none)'} have {elements} "
                          f"elements of {', '.join(sorted(dtypes)) or 'no dtype'}; "
                          f"network.h says {size} of {source.dtype.name}")


def write_artefact(folder: str | Path, *, device: str, inputs: tuple[Boundary, ...], outputs: tuple[Boundary, ...],
                   kernels: tuple[tuple[str, str], ...] = (), layout: Layout = NO_LAYOUT) -> Artefact:
    """Completes a folder that holds ``network.c`` and ``network.h``, and returns the artefact.

    Compiles the network for ``device`` to learn its sections. The manifest is written last, so a folder with a
    manifest is complete. Raises ``DeployError`` where the boundaries contradict the header, ``BuildError`` where the C
    does not compile.
    """
    source = read_source(folder)
    _boundaries_fit(source, "inputs", source.input_size, inputs, is_packed(inputs, outputs))
    _boundaries_fit(source, "outputs", source.output_size, outputs, is_packed(inputs, outputs))
    target = get_target(device)
    (source.folder / MANIFEST).unlink(missing_ok=True)
    sections = target.strategy.sections(target, source.folder)
    for file, text in files_of(target).items():
        _write(source.folder / file, text(source, target, is_packed(inputs, outputs)))
    artefact = Artefact(
        name=source.name, device=device, folder=source.folder, inputs=inputs, outputs=outputs,
        arena_bytes=source.arena_bytes, sections=sections, kernels=kernels, layout=layout,
        checksums=tuple((file, _checksum(source.folder / file)) for file in _SUMMED))
    if target.browser:
        network = {"inputs": [asdict(b) for b in inputs], "outputs": [asdict(b) for b in outputs]}
        _write(source.folder / PAGE, page(source.folder, target, source.name, network))
    _write(source.folder / MANIFEST, json.dumps(_to_json(artefact), indent=2) + "\n")
    return artefact


def load_artefact(folder: str | Path) -> Artefact:
    """Reads an artefact back and checks it against its files.

    Raises ``DeployError`` where the manifest is missing, corrupt or of another version, or where the C was changed.
    """
    folder = Path(folder).resolve()
    path = folder / MANIFEST
    if not path.is_file():
        raise DeployError(f"{folder}: no {MANIFEST}: not an artefact's folder, or an export that did not finish; "
                          f"export again")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: not JSON ({error}); export again") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DeployError(f"{path}: not a manifest of an artefact: \"format\" is not {FORMAT!r}")
    if data.get("version") != VERSION:
        raise DeployError(f"{path}: version {data.get('version')!r}, this Shohin reads version {VERSION}; export again")
    try:
        artefact = _from_json(folder, data)
    except KeyError as error:
        raise DeployError(f"{path}: the entry {error} is missing; export again") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DeployError(f"{path}: an entry has the wrong form ({error}); export again") from error
    _verify(path, artefact)
    return artefact


def _verify(path: Path, artefact: Artefact) -> None:
    for file, expected in artefact.checksums:
        if not (artefact.folder / file).is_file():
            raise DeployError(f"{path}: {file} is missing beside it; export again")
        found = _checksum(artefact.folder / file)
        if found != expected:
            raise DeployError(f"{path}: {file} was changed after export (sha256 {found[:12]}..., the manifest says "
                              f"{expected[:12]}...); its numbers no longer hold, export again")
    source = artefact.source
    if (source.name, source.arena_bytes) != (artefact.name, artefact.arena_bytes):
        raise DeployError(f"{path}: name and arena ({artefact.name}, {artefact.arena_bytes}) are not those of "
                          f"network.h ({source.name}, {source.arena_bytes}); export again")
    _boundaries_fit(source, "inputs", source.input_size, artefact.inputs, artefact.packed)
    _boundaries_fit(source, "outputs", source.output_size, artefact.outputs, artefact.packed)


def _to_json(artefact: Artefact) -> dict[str, Any]:
    return {
        "format": FORMAT, "version": VERSION, "name": artefact.name, "device": artefact.device,
        "inputs": [asdict(b) for b in artefact.inputs], "outputs": [asdict(b) for b in artefact.outputs],
        "arena_bytes": artefact.arena_bytes, "flash_bytes": artefact.flash_bytes, "sections": asdict(artefact.sections),
        "kernels": [list(pair) for pair in artefact.kernels], "layout": artefact.layout.to_json(),
        "sha256": dict(artefact.checksums)}


def _from_json(folder: Path, data: dict[str, Any]) -> Artefact:
    def boundaries(rows: list[dict[str, Any]]) -> tuple[Boundary, ...]:
        return tuple(Boundary(**{**row, "shape": tuple(row["shape"])}) for row in rows)

    sums = {file: str(data["sha256"][file]) for file in _SUMMED}
    return Artefact(
        name=str(data["name"]), device=str(data["device"]), folder=folder, inputs=boundaries(data["inputs"]),
        outputs=boundaries(data["outputs"]), arena_bytes=int(data["arena_bytes"]),
        sections=Sections(**data["sections"]),
        kernels=tuple((str(place), str(kernel)) for place, kernel in data["kernels"]),
        layout=Layout.from_json(data.get("layout", {"steps": (), "blocks": ()})), checksums=tuple(sums.items()))


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
