"""Other toolkits' post-training compression of one float network, run by the peers' interpreter: ``peer_compress.py NETWORK FOLDER``.

Reads ``weights.npz`` (by our names), ``calibration.npy``, ``test.npy`` (channels first) and ``labels.npy`` from the folder, and says one
JSON line a side: accuracy on the test examples, bytes of what it stores (``how``: the files as they lie, or computed), median milliseconds
of one example on one thread; or why there is none."""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch_networks import DSCNN, ResNet, load

NETWORKS = {"ds-cnn": lambda: DSCNN(1, 10, kernel_size=(3, 3), padding=(1, 1)), "resnet8": lambda: ResNet((1, 1, 1), channels=1)}
REPEATS, BATCH = 200, 200


def median_ms(run, x):
    for _ in range(10):
        run(x)
    found = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run(x)
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found)


def accuracy(run, x, y, batch=BATCH):
    outputs = np.concatenate([np.asarray(run(x[k : k + batch])) for k in range(0, len(x), batch)])
    return float((outputs.argmax(-1) == y).mean())


class Work:
    """The float network and its data, in the forms that the sides take."""

    def __init__(self, name, folder):
        self.folder = folder
        self.net = NETWORKS[name]()
        load(self.net, dict(np.load(folder / "weights.npz")))
        self.net.eval()
        self.calibration, self.x, self.y = (np.load(folder / f"{n}.npy") for n in ("calibration", "test", "labels"))
        self.onnx = folder / "model.onnx"
        torch.onnx.export(self.net, (torch.from_numpy(self.x[:1]),), str(self.onnx), dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
                          dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})  # fmt: skip

    def row(self, run, files=None, size=None, one=True):
        stored = sum(f.stat().st_size for f in files) if files else size
        return {"accuracy": accuracy(run, self.x, self.y), "flash": int(stored), "how": "file" if files else "computed", "ms": median_ms(run, self.x[:1]) if one else None}


def onnx_session(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda a: session.run(None, {"x": a})[0]


def ort_float(work):
    return work.row(onnx_session(work.onnx), [work.onnx])


def ort_int8(activation, method):
    def side(work):
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.rows = iter(work.calibration)

            def get_next(self):
                row = next(self.rows, None)
                return None if row is None else {"x": row[None]}

        before, path = work.folder / "pre.onnx", work.folder / f"ort-{activation}-{method}.onnx"
        quant_pre_process(str(work.onnx), str(before))
        quantize_static(str(before), str(path), Reader(), quant_format=QuantFormat.QDQ, activation_type=getattr(QuantType, activation), weight_type=QuantType.QInt8, per_channel=True,
                        calibrate_method=getattr(CalibrationMethod, method))  # fmt: skip
        return work.row(onnx_session(path), [path])

    return side


def nncf_openvino(work):
    import nncf
    import openvino as ov

    core = ov.Core()
    made = nncf.quantize(core.read_model(str(work.onnx)), nncf.Dataset([row[None] for row in work.calibration]), subset_size=len(work.calibration))
    path = work.folder / "nncf.xml"
    ov.save_model(made, str(path), compress_to_fp16=False)
    request = core.compile_model(made, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}).create_infer_request()
    return work.row(lambda a: request.infer([a])[0].copy(), [path, path.with_suffix(".bin")])


def coreml_palettes(bits):
    def side(work):
        import copy

        from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig

        config = PostTrainingPalettizerConfig.from_dict({"global_config": {"n_bits": bits, "granularity": "per_tensor"}})
        small = PostTrainingPalettizer(copy.deepcopy(work.net), config).compress(num_kmeans_workers=1)
        taken = [m.weight for m in small.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        few = [w for w in taken if len(torch.unique(w)) <= 2**bits]
        rest = sum(t.numel() for t in work.net.state_dict().values() if t.is_floating_point()) - sum(w.numel() for w in few)
        size = sum(w.numel() * bits / 8 + 4 * 2**bits for w in few) + 4 * rest
        with torch.inference_mode():
            found = work.row(lambda a: small(torch.from_numpy(a)).numpy(), size=size, one=False)
        return {**found, "note": f"weights only, {len(few)} of {len(taken)} layers; runs on Apple's devices, so there is no time"}

    return side


def torchao_int8(work):
    import copy

    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    small = copy.deepcopy(work.net)
    quantize_(small, Int8DynamicActivationInt8WeightConfig())
    linear = [m for m in small.modules() if isinstance(m, torch.nn.Linear)]
    weights = sum(m.weight.numel() for m in linear)
    rest = sum(t.numel() for t in work.net.state_dict().values() if t.is_floating_point()) - weights
    with torch.inference_mode():
        found = work.row(lambda a: small(torch.from_numpy(a)).numpy(), size=4 * rest + weights + 4 * sum(m.out_features for m in linear))
    return {**found, "note": f"it takes linear layers only: {len(linear)} here, {weights:,} weights; the convolutions stay float32"}


SIDES = {
    "onnxruntime float32": ort_float,
    "onnxruntime int8 u8s8": ort_int8("QUInt8", "MinMax"), "onnxruntime int8 s8s8": ort_int8("QInt8", "MinMax"), "onnxruntime int8 entropy": ort_int8("QUInt8", "Entropy"),
    "nncf + openvino int8": nncf_openvino,
    "coremltools 4-bit palettes": coreml_palettes(4), "coremltools 2-bit palettes": coreml_palettes(2),
    "torchao int8": torchao_int8,
}  # fmt: skip


def main():
    torch.set_num_threads(1)
    work = Work(sys.argv[1], Path(sys.argv[2]))
    for name in sys.argv[3:] or SIDES:
        try:
            found = SIDES[name](work)
        except Exception as error:  # whatever a peer raises is a row that says so, not the end of the benchmark
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps({"side": name, **found}), flush=True)


if __name__ == "__main__":
    main()
