"""Speech Commands v0.02: 105,829 spoken words of one second at 16 kHz, by 2,618 speakers (CC BY 4.0).

Source: Warden, *Speech Commands: a dataset for limited-vocabulary speech recognition*, arXiv:1804.03209.
"""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from shohin.core.errors import DataError
from shohin.data.dataset import Dataset
from shohin.data.files import File, Source, download, obtain

__all__ = ["KEYWORDS", "RATE", "read_archive", "speech_commands"]

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
RATE = 16_000  # samples a second, and the samples of a clip

ARCHIVE = File(name="speech_commands_v0.02.tar.gz", size=2_428_923_189,
               sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58")  # fmt: skip
SOURCES = (
    download("https://storage.googleapis.com/download.tensorflow.org/data/"),
    download("http://download.tensorflow.org/data/"),
)
_LISTS = {"validation_list.txt": 1, "testing_list.txt": 2}


def speech_commands(
    words: Sequence[str] = KEYWORDS, *, sources: Sequence[Source] = SOURCES
) -> tuple[Dataset, Dataset, Dataset]:
    """Speech Commands: waveforms of the given words, in the archive's own split by speaker.

    Args:
        words: the words to keep, which are the classes, in this order.
        sources: where to look when the cache has no valid copy.

    Returns:
        ``(train, validation, test)``: x float32 ``[n, 16000, 1]`` in [-1, 1), shorter clips followed by zeros; y int64.
        64 kB a clip: 2.4 GB for the ten keywords. Reading takes a minute or two.

    Raises:
        DataError: the archive (2.4 GB) cannot be had, or is not what it should be.

    Unlike the paper's task there are no classes "silence" and "unknown": they depend on how they are sampled.

    >>> train, validation, test = speech_commands(("yes", "no"))                    # doctest: +SKIP
    """
    return read_archive(obtain("speech-commands", [ARCHIVE], sources)[ARCHIVE.name], words)


def read_archive(path: Path, words: Sequence[str] = KEYWORDS) -> tuple[Dataset, Dataset, Dataset]:
    """``(train, validation, test)`` from an archive of ``WORD/NAME.wav`` and the two lists of names.

    Raises:
        DataError: a word, list or part has no clips, or a clip is not 16-bit mono at 16 kHz of at most a second.
    """
    clips: dict[str, NDArray[np.int16]] = {}
    part_of: dict[str, int] = {}
    seen: set[str] = set()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                if name.name in _LISTS:
                    seen.add(name.name)
                    part_of |= dict.fromkeys(stream.read().decode().split(), _LISTS[name.name])
                elif name.suffix == ".wav" and name.parent.name in words:
                    clip = f"{name.parent.name}/{name.name}"
                    clips[clip] = _samples(stream.read(), clip)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read as an archive: {error}") from error
    for wanted in _LISTS:
        if wanted not in seen:
            raise DataError(f"{path}: holds no {wanted}, without which the parts cannot be told apart")
    for word in words:
        if not any(clip.startswith(f"{word}/") for clip in clips):
            raise DataError(f"{path}: has no clip of the word {word!r}")
    train, validation, test = (
        _data_set(path, {c: s for c, s in sorted(clips.items()) if part_of.get(c, 0) == part}, words, name)
        for part, name in enumerate(("training", "validation", "test"))
    )
    return train, validation, test


def _samples(content: bytes, clip: str) -> NDArray[np.int16]:
    try:
        with wave.open(io.BytesIO(content)) as sound:
            form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2" if form[1] == 2 else "u1")
    except (wave.Error, EOFError) as error:
        raise DataError(f"{clip}: is no WAV file: {error}") from error
    if form != (1, 2, RATE) or len(samples) > RATE:
        raise DataError(
            f"{clip}: {form[0]} channel(s) of {8 * form[1]} bits at {form[2]} Hz, {len(samples)} samples; expected "
            f"one channel of 16 bits at {RATE} Hz, at most {RATE} samples"
        )
    return samples.astype(np.int16)


def _data_set(path: Path, clips: dict[str, NDArray[np.int16]], words: Sequence[str], part: str) -> Dataset:
    if not clips:
        raise DataError(f"{path}: the {part} part has no clip of {', '.join(words)}")
    x = np.zeros((len(clips), RATE, 1), np.float32)
    for row, samples in zip(x, clips.values(), strict=True):
        row[: len(samples), 0] = samples / np.float32(32768)
    labels = [list(words).index(PurePosixPath(clip).parent.name) for clip in clips]
    return Dataset(x, labels, classes=words)
