"""Programs kept on disk: a warm start goes from the traced graph to bound code without passes, fusion or planning.

The key is the graph before any pass, what is donated, Shohin's own text, the kernels at hand, the compiler and the resolved CPU. An entry
that is missing, corrupt or of another version is made anew; it appears complete or not at all. A graph with a user's
op is not kept: its text has the op's name only.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from shohin.compiler.build import cache_dir, compiler, cpu_features, resolved
from shohin.compiler.kernel import KERNELS
from shohin.compiler.program import Prepared

MAGIC = b"shohin program 1\n"


@lru_cache(maxsize=1)
def own_text() -> str:
    """A digest of every source file that may change what is compiled."""
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for folder in ("core", "ops", "compiler", "kernels"):
        for path in sorted((root / folder).rglob("*.[pch]*")):
            if path.suffix in (".py", ".c", ".h"):
                total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def key_of(digest: str, donated: object, level: str, threads: int) -> str:
    """The name of an entry."""
    parts = (digest, donated, level, resolved(level), sorted(cpu_features()), threads, own_text(), str(compiler()), sorted(KERNELS))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def prepared(key: str, make: Callable[[], Prepared]) -> Prepared:
    """The entry of that key, from disk or made and written."""
    path = cache_dir() / "programs" / f"{key}.bin"
    found = _read(path)
    if found is None:
        found = make()
        _write(path, found)
    return found


def _read(path: Path) -> Prepared | None:
    try:
        raw = path.read_bytes()
        head, body = raw[: len(MAGIC) + 32], raw[len(MAGIC) + 32 :]
        if head != _head(path, body):
            return None
        found = pickle.loads(body)
    except Exception:  # whatever is wrong with it, it is made anew
        return None
    return found if isinstance(found, Prepared) else None


def _head(path: Path, body: bytes) -> bytes:
    """What an entry of this name begins with: one that was copied from another key does not fit."""
    return MAGIC + hashlib.sha256(path.stem.encode() + body).digest()


def _write(path: Path, entry: Prepared) -> None:
    body = pickle.dumps(entry, protocol=5)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as temp:
            whole = Path(temp) / path.name
            whole.write_bytes(_head(path, body) + body)
            whole.replace(path)
    except OSError:  # a cache that cannot be written costs time, nothing else
        return
