"""A peer's inference, run by the peers' interpreter: ``peer_infer.py PEER FOLDER THREADS``; ``peer_models`` wrote the folder.

Says hello with its version, then answers ``{"count": n}`` with milliseconds of single inferences (batch 1) and
``{"outputs": path}`` by saving the outputs for all of ``inputs.npy``."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

CLOCK = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter


def torch_frozen(folder, threads, inputs):
    import torch

    torch.set_num_threads(threads)
    net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.load(str(folder / "model.pt")).eval()))
    x = torch.from_numpy(inputs[:1].copy())
    if x.ndim == 4:
        x = x.to(memory_format=torch.channels_last)

    def run(rows=x):
        with torch.inference_mode():
            return net(rows).numpy()

    return torch.__version__, run, lambda a: run(torch.from_numpy(a))


def torch_compile(folder, threads, inputs):
    import torch
    import torch._inductor.config
    from torch_networks import build, load

    torch.set_num_threads(threads)
    torch._inductor.config.freezing = True
    net, shape, _ = build(json.loads((folder / "about.json").read_text())["network"])
    load(net, dict(np.load(folder / "weights.npz")))
    net, x = net.eval(), torch.from_numpy(inputs[:1].copy())
    if len(shape) == 3:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    fast = torch.compile(net)

    def run(rows=x):
        with torch.inference_mode():
            return fast(rows).numpy()

    return torch.__version__, run, lambda a: run(torch.from_numpy(a).contiguous(memory_format=torch.channels_last) if a.ndim == 4 else torch.from_numpy(a))


def onnxruntime(file):
    def make(folder, threads, inputs):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])
        x = inputs[:1].copy()
        return ort.__version__, lambda: session.run(None, {"x": x})[0], lambda a: session.run(None, {"x": a})[0]

    return make


def openvino(file):
    def make(folder, threads, inputs):
        import openvino as ov

        core = ov.Core()
        model = core.read_model(str(folder / file))
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(model, "CPU", config).create_infer_request()
        x = inputs[:1].copy()

        def run(a=x):
            return request.infer([a], share_inputs=True, share_outputs=True)[0]

        return ov.__version__, run, lambda a: run(a).copy()

    return make


def ncnn(folder, threads, inputs):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(folder / "ncnn.param"))
    net.load_model(str(folder / "ncnn.bin"))
    mat_of = lambda a: ncnn.Mat(np.ascontiguousarray(a)).clone()  # a Mat of an array does not keep it alive
    x = mat_of(inputs[0])

    def run(mat=x):
        with net.create_extractor() as ex:
            ex.input("in0", mat)
            return np.array(ex.extract("out0")[1])

    return ncnn.__version__, run, lambda a: run(mat_of(a[0]))[None]


PEERS = {
    "onnxruntime": onnxruntime("model.onnx"), "openvino": openvino("model.onnx"), "ncnn": ncnn,
    "torch-frozen": torch_frozen, "torch-compile": torch_compile,
    "onnxruntime-u8s8": onnxruntime("int8-ort-u8s8.onnx"), "onnxruntime-s8s8": onnxruntime("int8-ort-s8s8.onnx"),
    "openvino-nncf": openvino("int8-ov.xml"),
}  # fmt: skip


def main():
    peer, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    inputs = np.load(folder / "inputs.npy")
    version, run, outputs = PEERS[peer](folder, threads, inputs)
    for _ in range(3):
        run()
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "outputs" in request:
            np.save(request["outputs"], np.concatenate([outputs(inputs[k : k + 1]).reshape(1, -1) for k in range(len(inputs))]))
            print(json.dumps({}), flush=True)
            continue
        ms = []
        for _ in range(request["count"]):
            start = CLOCK()
            run()
            ms.append(1e3 * (CLOCK() - start))
        print(json.dumps({"ms": ms}), flush=True)


if __name__ == "__main__":
    main()
