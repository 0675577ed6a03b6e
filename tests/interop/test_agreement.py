"""The networks of the table in docs/import.md, in int8: nothing is left in float, and no integer differs between module, reference and C."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime.quantization")

import shohin as sh
from shohin.compress import Plan, Quantize
from tests.interop.agreement import CASES, noise

TORCH = ("EfficientNet-Lite0", "ResNet-18", "MobileNetV2", "MobileNetV3-small", "small ViT", "Conv1d, GRU, LSTM")
LEAST = {"silero-vad": 8.0, "basic-pitch": 0.0, "recognition of text": 0.0, "detection of text": 0.0}
"""Signal to noise in dB below which something is broken; 10 for the others."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_integer_differs(name, tmp_path):
    if name in TORCH:
        pytest.importorskip("torch")
    case = CASES[name]()
    some, rest = (tuple(x[k] for x in case.inputs) for k in (slice(case.calibrate), slice(case.calibrate, case.calibrate + 8)))
    small = Plan([("*", Quantize(w=8, a=8))]).apply(case.net, calibration=some).eval()
    assert not small._latest().cleared
    y, z = (v if isinstance(v, tuple) else (v,) for v in (small(*rest), case.net(*rest)))
    ratio = noise([t.numpy() for t in z], [t.numpy() for t in y])
    print(f"\n{name}: {ratio:.1f} dB")
    assert ratio > LEAST.get(name, 10.0)
    art = sh.export(small, tuple(x[:1] for x in case.inputs), device="host", to=tmp_path / "art")
    same = sh.compare(small, art, rest, ccs=(None, "gcc"))
    assert same.differing == 0 and same.compared > 0, str(same)
    sh.save(small, tmp_path / "net.safetensors")
    again = sh.load(tmp_path / "net.safetensors")(*(x[:2] for x in rest))
    for a, b in zip(again if isinstance(again, tuple) else (again,), y, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy()[:2])
