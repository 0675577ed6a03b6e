"""Writes one network for every peer, run by the peers' interpreter: ``peer_models.py NETWORK FOLDER``.

Reads ``weights.npz`` (by our names) and ``inputs.npy`` (channels first) from the folder; writes ``model.onnx``, ``model.pt``
(traced), ``ncnn.param`` and ``ncnn.bin``, ``int8-ort.onnx`` (static QDQ) and ``int8-ov.xml`` (NNCF). Says in one JSON line
which of them failed and why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch_networks import build, load


def guarded(job, name, failed):
    try:
        job()
    except Exception as error:  # whatever a peer raises is a note in the table, not the end of the benchmark
        failed[name] = f"{type(error).__name__}: {error}"[:500]


def to_onnx(net, x, folder):
    torch.onnx.export(net, (x,), str(folder / "model.onnx"), dynamo=False, opset_version=17, input_names=["x"], output_names=["y"])


def to_ncnn(folder, shape):
    tool = Path(sys.executable).with_name("pnnx")
    done = subprocess.run([str(tool), "model.pt", f"inputshape=[{','.join(map(str, shape))}]", "ncnnparam=ncnn.param", "ncnnbin=ncnn.bin", "fp16=0"],
                          cwd=folder, capture_output=True, text=True)  # fmt: skip
    if not (folder / "ncnn.param").exists():
        raise RuntimeError((done.stderr + done.stdout)[-300:])


def int8_ort(folder, inputs):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rows = iter(inputs)

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"x": row[None]}

    quant_pre_process(str(folder / "model.onnx"), str(folder / "pre.onnx"))
    for name, activation in (("int8-ort-u8s8", QuantType.QUInt8), ("int8-ort-s8s8", QuantType.QInt8)):
        quantize_static(str(folder / "pre.onnx"), str(folder / f"{name}.onnx"), Reader(), quant_format=QuantFormat.QDQ,
                        activation_type=activation, weight_type=QuantType.QInt8, per_channel=True)  # fmt: skip


def int8_openvino(folder, inputs):
    import nncf
    import openvino as ov

    model = ov.Core().read_model(str(folder / "model.onnx"))
    data = nncf.Dataset([row[None] for row in inputs])
    ov.save_model(nncf.quantize(model, data, subset_size=len(inputs)), str(folder / "int8-ov.xml"), compress_to_fp16=False)


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    os.environ["OMP_NUM_THREADS"] = "2"
    inputs = np.load(folder / "inputs.npy")
    net, shape, _ = build(name)
    load(net, dict(np.load(folder / "weights.npz")))
    net.eval()
    failed = {}
    with torch.inference_mode():
        x = torch.from_numpy(inputs[:1].copy())
        np.save(folder / "expected.npy", net(torch.from_numpy(inputs)).numpy())
        torch.jit.trace(net, x).save(str(folder / "model.pt"))
        guarded(lambda: to_onnx(net, x, folder), "onnx", failed)
    guarded(lambda: to_ncnn(folder, (1, *shape)), "ncnn", failed)
    if len(shape) == 3 and "onnx" not in failed:
        guarded(lambda: int8_ort(folder, inputs), "int8-ort", failed)
        guarded(lambda: int8_openvino(folder, inputs), "int8-ov", failed)
    print(json.dumps({"failed": failed}), flush=True)


if __name__ == "__main__":
    main()
