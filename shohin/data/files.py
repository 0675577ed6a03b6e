"""Getting the files of a data set: from the cache, else from the first source that has them, checked and atomic.

A *source* is a label and a function ``fetch(files, folder)`` that puts files of the wanted names into a folder or
raises. What it puts there is believed only if its sha256 is the known one; then it is moved into the cache by one
rename, so a cache never holds half a file, even after a crash or with two processes at it.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import os
import shutil
import subprocess
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from shohin.core.errors import DataError

__all__ = ["File", "Source", "cache_dir", "debian_package", "download", "folder", "obtain"]

log = logging.getLogger("shohin.data")

_TIMEOUT_S = 60
_FAILURES = (OSError, EOFError, zlib.error, http.client.HTTPException, subprocess.SubprocessError, DataError)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a data set as it lies in the cache, not compressed by gzip unless its name says so."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where files may come from; ``again``: whether a second try may help (a download, not a folder)."""

    label: str
    fetch: Callable[[Sequence[File], Path], None]
    again: bool = False


def cache_dir() -> Path:
    """The folder for downloaded data sets: ``$SHOHIN_CACHE`` if set, else the user's cache folder for shohin."""
    return Path(os.environ.get("SHOHIN_CACHE") or platformdirs.user_cache_dir("shohin"))


def obtain(data_set: str, files: Sequence[File], sources: Sequence[Source]) -> dict[str, Path]:
    """The paths of all ``files`` in the cache, fetched where they are missing or damaged.

    Raises:
        DataError: no source has them; the message tells all that was tried, and where to put them by hand.
    """
    home = cache_dir() / "datasets" / data_set
    tried: list[str] = []
    missing: list[File] = []
    for file in files:
        fault = _fault(home / file.name, file)
        if fault is not None:
            missing.append(file)
            if fault != "not there":
                tried.append(f"cache: {home / file.name}: {fault}")
                log.warning("%s: %s: %s; fetching it again", data_set, home / file.name, fault)
    if missing and not tried:
        tried.append(f"cache: not in {home}")
    for source in sources:
        for _ in range(2 if source.again else 1):
            if missing:
                missing, faults = _fetch(data_set, source, missing, home)
                tried += [f"{source.label}: {fault}" for fault in faults]
    if missing:
        names = ", ".join(file.name for file in missing)
        raise DataError(
            f"{data_set}: no source has {names}. Tried:\n  - " + "\n  - ".join(tried)
            + f"\nConnect to a network, or put the files (decompressed) into {home} (SHOHIN_CACHE moves it)."
        )  # fmt: skip
    return {file.name: home / file.name for file in files}


def _fetch(data_set: str, source: Source, wanted: Sequence[File], home: Path) -> tuple[list[File], list[str]]:
    """Try one source once: what is still missing, and why."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Beside the files' own place, so that the rename stays on one file system.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as temporary:
            log.info("%s: from %s", data_set, source.label)
            error = None
            try:
                source.fetch(wanted, Path(temporary))
            except _FAILURES as caught:
                error = _reason(caught)
            missing, faults = [], [] if error is None else [error]
            for file in wanted:
                got = Path(temporary, file.name)
                fault = _fault(got, file)
                if fault is None:
                    _sync(got)
                    os.replace(got, home / file.name)
                else:
                    missing.append(file)
                    if error is None or fault != "not there":
                        faults.append(f"{file.name}: {fault}")
            return missing, faults
    except OSError as error:
        return list(wanted), [f"the cache {home} cannot be written: {_reason(error)}"]


def _fault(path: Path, file: File) -> str | None:
    """What is wrong with the file at a path; None if nothing is."""
    try:
        size = path.stat().st_size
        if size < file.size:
            return f"truncated: {size:,} of {file.size:,} bytes"
        if size > file.size:
            return f"too long: {size:,} instead of {file.size:,} bytes"
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return _reason(error)
    return None if digest == file.sha256 else f"corrupt: sha256 is {digest}, expected {file.sha256}"


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _reason(error: BaseException) -> str:
    return f"{error}" if isinstance(error, DataError) else f"{type(error).__name__}: {error}"


# ------------------------------------------------------------------------------------------------------ sources


def folder(path: Path) -> Source:
    """Files that lie in a folder, each plain or as ``NAME.gz``."""

    def fetch(files: Sequence[File], into: Path) -> None:
        if not path.is_dir():
            raise DataError("there is no such folder")
        for file in files:
            _copy_from(path, file, into)

    return Source(label=str(path), fetch=fetch)


def _copy_from(path: Path, file: File, into: Path) -> None:
    plain, packed = path / file.name, path / f"{file.name}.gz"
    if plain.is_file():
        shutil.copyfile(plain, into / file.name)
    elif packed.is_file():
        with gzip.open(packed) as stream, open(into / file.name, "wb") as out:
            shutil.copyfileobj(stream, out)


def download(base: str, suffix: str = "") -> Source:
    """Files at ``base + NAME + suffix``; with the suffix ``.gz`` they are decompressed on the way."""

    def fetch(files: Sequence[File], into: Path) -> None:
        for file in files:
            url = f"{base}{file.name}{suffix}"
            try:
                with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, open(into / file.name, "wb") as out:
                    shutil.copyfileobj(gzip.GzipFile(fileobj=answer) if suffix == ".gz" else answer, out, 1 << 20)
            except _FAILURES as error:
                raise DataError(f"{file.name}{suffix}: {_reason(error)}") from error

    return Source(label=base, fetch=fetch, again=True)


def debian_package(package: str, inside: str) -> Source:
    """Files inside a Debian package, downloaded by apt-get and unpacked by dpkg-deb; needs no root, installs nothing.

    Args:
        package: its name.
        inside: the folder of the files in the package, without a leading slash.
    """

    def fetch(files: Sequence[File], into: Path) -> None:
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise DataError(f"there is no {tool} here")
        with tempfile.TemporaryDirectory(prefix="shohin-") as temporary:
            archive = _apt_download(package, Path(temporary))
            _run(["dpkg-deb", "-x", str(archive), "unpacked"], Path(temporary))
            for file in files:
                _copy_from(Path(temporary, "unpacked", inside), file, into)

    return Source(label=f"Debian package {package}", fetch=fetch)


def _apt_download(package: str, work: Path) -> Path:
    """The package's archive. Where the system's package lists are empty or stale, private ones are fetched."""
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", package]
    try:
        _run(download, work)
    except DataError as first:
        for name in ("lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache"]
        try:
            _run(["apt-get", "-q", "-o", "APT::Sandbox::User=", *private, "update"], work)
            _run([download[0], *private, *download[1:]], work)
        except DataError as second:
            raise DataError(f"{first}; with fresh lists: {second}") from second
    found = sorted(work.glob(f"{package}_*.deb"))
    if not found:
        raise DataError("apt-get download left no archive")
    return found[0]


def _run(command: list[str], work: Path) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", timeout=600)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise DataError(f"`{command[0]} ... {command[-1]}` failed ({done.returncode}): {said}")
