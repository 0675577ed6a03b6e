"""Speech Commands' reader on a small archive in its format."""

import io
import tarfile
import wave

import numpy as np
import pytest

from shohin.core.errors import DataError
from shohin.data.speech_commands import read_archive, speech_commands


def wav(samples, rate=16_000, width=2, channels=1):
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(np.asarray(samples, f"<i{width}").tobytes())
    return out.getvalue()


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def files():
    made = {
        f"{word}/{who}_nohash_{i}.wav": wav(np.full(length, value))
        for word, value in (("yes", 1), ("no", 2))
        for who, length in (("ann", 16_000), ("bob", 9_000), ("cat", 16_000))
        for i in range(2)
    }
    made["tree/ann_nohash_0.wav"] = wav([1, 2])
    made["_background_noise_/hum.wav"] = wav(np.zeros(50_000))
    bob = [name for name in made if "bob" in name]
    made["validation_list.txt"] = "\n".join(bob).encode()
    made["testing_list.txt"] = b"no/cat_nohash_0.wav\nyes/cat_nohash_1.wav\n"
    return made


def test_reads_words_in_the_archives_own_parts(tmp_path, files):
    train, validation, test = read_archive(archive(tmp_path / "a", files), ("yes", "no"))
    assert [len(part) for part in (train, validation, test)] == [6, 4, 2]
    assert train.x.shape == (6, 16_000, 1) and train.x.dtype == np.float32 and train.classes == ("yes", "no")
    for part in (train, validation, test):  # the value of a sample tells the word
        assert np.array_equal(part.x[:, 0, 0] * 32768, part.y + 1)
    assert not validation.x[:, 9_000:].any() and validation.x[:, 8_999].all()
    assert sorted(test.y) == [0, 1]


def test_refuses(tmp_path, files):
    def read(changes, words=("yes", "no")):
        merged = {name: content for name, content in {**files, **changes}.items() if content is not None}
        read_archive(archive(tmp_path / "a", merged), words)

    with pytest.raises(DataError, match="no clip of the word 'maybe'"):
        read({}, ("yes", "maybe"))
    with pytest.raises(DataError, match="the validation part has no clip of tree"):
        read({}, ("tree",))
    with pytest.raises(DataError, match="holds no testing_list.txt"):
        read({"testing_list.txt": None})
    with pytest.raises(DataError, match=r"yes/eve.wav: 1 channel\(s\) of 16 bits at 8000 Hz, 2 samples; expected"):
        read({"yes/eve.wav": wav([1, 2], rate=8000)})
    with pytest.raises(DataError, match="yes/eve.wav: .* 16001 samples"):
        read({"yes/eve.wav": wav(np.zeros(16_001))})
    with pytest.raises(DataError, match="yes/eve.wav: is no WAV file"):
        read({"yes/eve.wav": b"RIFF"})


def test_without_any_source_the_error_is_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOHIN_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"speech-commands: no source has speech_commands_v0.02.tar.gz"):
        speech_commands(sources=())
