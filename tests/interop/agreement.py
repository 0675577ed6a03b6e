"""How near int8 is to float, beside ONNX Runtime's static int8 on the same data: ``python -m tests.interop.agreement [NAME ...]`` runs the
networks named (all) and writes their rows into docs/import.md. Needs the extra ``onnx`` and, for networks of PyTorch, PyTorch.

ONNX Runtime quantizes with pairs, a scale a channel, in the settings of ``THEIRS``; ours is calibrated in those of ``OURS``. The best of each on
the inputs that are then compared stands in the table, and ours by default. Inputs for calibration and for comparison are different ones of the
same source.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import version_converter
from onnxruntime import quantization

import shohin as sh
from shohin.compress import Plan, Quantize
from shohin.core.errors import ShohinError
from tests.interop.page import PAGE
from tests.interop.pretrained import models
from tests.interop.test_pretrained import audio, pictures, written

Q = quantization
THEIRS: dict[str, Mapping[str, Any]] = {
    f"{name}, {method.name}": {"activation_type": kind, "weight_type": Q.QuantType.QInt8, "per_channel": True, "calibrate_method": method}
    for name, kind in (("int8", Q.QuantType.QInt8), ("uint8", Q.QuantType.QUInt8))
    for method in (Q.CalibrationMethod.MinMax, Q.CalibrationMethod.Percentile)
    if name == "int8" or method is Q.CalibrationMethod.MinMax
}
LAST = {**THEIRS["int8, MinMax"], "per_channel": False}
"""Where none of these works (it fails on biases whose scale is one a channel and too small)."""
OURS = {"minmax": Quantize(), "percentile": Quantize(calibrate="percentile", percentile=99.99), "mse": Quantize(calibrate="mse")}
WORDS = ("SHOHIN", "NOSH", "SON", "OHIO", "HISSON", "ONION", "SHIN", "NINO")


@dataclass(frozen=True)
class Case:
    """A network as a file, as ours, and its inputs (arrays with the examples first); how many calibrate, the rest is compared."""

    path: Path
    net: Any
    inputs: tuple[np.ndarray[Any, Any], ...]
    calibrate: int
    says: str
    names: Sequence[str]
    led: Sequence[int] = ()
    """Where the file has the examples, by input."""


def rapid(file: str, x: Any, calibrate: int, says: str) -> Case:
    path = models("rapidocr-onnxruntime==1.4.4")[file]
    (logits,) = {n.input[0] for n in onnx.load(path).graph.node if n.op_type == "Softmax"} if "cls" in file else {None}
    if logits is not None:
        path = _cut(path, logits)
    return Case(path, sh.from_onnx(path, check=x[:2]), (x,), calibrate, says, _inputs(path))


def _cut(path: Path, name: str) -> Path:
    """The file up to one value."""
    model = onnx.load(path)
    end = next(k for k, n in enumerate(model.graph.node) if name in n.output) + 1
    del model.graph.node[end:], model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    to = Path(tempfile.mkdtemp()) / path.name
    onnx.save(model, to)
    return to


def _inputs(path: Path) -> list[str]:
    return [i.name for i in onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()]


def voice() -> Case:
    path, x = models("silero-vad==6.2.3")["silero_vad_16k_op15.onnx"], audio(16000, 2)
    net = sh.from_onnx(path, shape={"input": (1, 576), "state": (2, 1, 128)}, fixed={"sr": 16000}, examples_first=True)
    frames = np.stack([x[k - 64 : k + 512] for k in range(64, len(x) - 512, 512)])
    states = [np.zeros((2, 128), np.float32)]
    for frame in frames[:-1]:
        states.append(net(frame[None], states[-1][None])[1].numpy()[0])
    order = np.random.default_rng(0).permutation(len(frames))
    return Case(path, net, (frames[order], np.stack(states)[order]), len(frames) // 2, "spoken words, with the state before each frame", ["input", "state"], (0, 1))


def notes() -> Case:
    path, x = models("basic-pitch==0.4.0")["nmp.onnx"], audio(22050, 8)
    x = np.stack([x[k : k + 43844] for k in range(0, len(x) - 43844, 22050)])[:, :, None]
    return Case(path, sh.from_onnx(path, check=x[:1]), (x,), len(x) // 2, "spoken words", _inputs(path))


def kinds() -> Case:
    files = models("magika==1.0.3")
    config = json.loads(files["config.min.json"].read_text())
    folder, found = Path(__file__).parents[2], []
    for file in sorted([*folder.glob("docs/*.md"), *folder.glob("*.toml"), *folder.glob("tests/*/*.py"), *folder.glob("shohin/*/*.py")])[::4]:
        data = np.frombuffer(file.read_bytes().strip(), np.uint8).astype(np.int32)
        tokens = np.full(config["beg_size"] + config["end_size"], config["padding_token"], np.int32)
        tokens[: min(len(data), config["beg_size"])] = data[: config["beg_size"]]
        tokens[len(tokens) - min(len(data), config["end_size"]) :] = data[-config["end_size"] :]
        found.append(tokens)
    x = np.stack(found)[np.random.default_rng(0).permutation(len(found))]
    return Case(files["model.onnx"], sh.from_onnx(files["model.onnx"], check=x[:2]), (x,), len(x) // 2, "files of this repository", _inputs(files["model.onnx"]))


def pytorch(name: str) -> Case:
    import torch

    from tests.interop.test_torch_networks import made

    module, x = made(name)
    says = "photographs of clothes" if name == "efficientnet-lite0" else "photographs of clothes, random weights"
    x = pictures(32, *x.shape[2:]) if x.ndim == 4 else x
    says = says if x.ndim == 4 else "random inputs, random weights"
    path = Path(tempfile.mkdtemp()) / "net.onnx"
    torch.onnx.export(module, (torch.from_numpy(x[:1]),), path, input_names=["x"], dynamo=False, opset_version=17, dynamic_axes={"x": {0: "batch"}})
    return Case(path, sh.from_torch(module, torch.from_numpy(x[:2])), (x,), 16, says, ["x"])


def words() -> Any:
    return lambda height, width: np.concatenate([written(w, height, width) for w in WORDS])


CASES: dict[str, Callable[[], Case]] = {
    "direction of text": lambda: rapid("ch_ppocr_mobile_v2.0_cls_infer.onnx", pictures(32, 48, 96), 16, "photographs of clothes"),
    "detection of text": lambda: rapid("ch_PP-OCRv4_det_infer.onnx", words()(96, 256), 4, "written words"),
    "recognition of text": lambda: rapid("ch_PP-OCRv4_rec_infer.onnx", words()(48, 256), 4, "written words"),
    "silero-vad": voice,
    "basic-pitch": notes,
    "magika": kinds,
    "EfficientNet-Lite0": lambda: pytorch("efficientnet-lite0"),
    "ResNet-18": lambda: pytorch("resnet18"),
    "MobileNetV2": lambda: pytorch("mobilenetv2"),
    "MobileNetV3-small": lambda: pytorch("mobilenetv3"),
    "small ViT": lambda: pytorch("vit"),
    "Conv1d, GRU, LSTM": lambda: pytorch("keywords"),
}


def feeds(case: Case, low: int, high: int) -> list[dict[str, Any]]:
    """Calls of one example, as the file takes them."""
    led = case.led or (0,) * len(case.inputs)
    return [{n: np.expand_dims(x[k], d) for n, x, d in zip(case.names, case.inputs, led)} | _held(case) for k in range(low, high)]


def _held(case: Case) -> dict[str, Any]:
    return {"sr": np.asarray(16000, np.int64)} if "state" in case.names else {}


class Reader(Q.CalibrationDataReader):
    def __init__(self, calls: list[dict[str, Any]]) -> None:
        self.calls = iter(calls)

    def get_next(self) -> Any:
        return next(self.calls, None)


def run(path: Path, calls: list[dict[str, Any]], led: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """All outputs, the examples first."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = [session.run(None, call) for call in calls]
    return [np.concatenate([np.moveaxis(r[k], led[k] if k < len(led) else 0, 0) for r in rows]) for k in range(len(rows[0]))]


def noise(real: list[Any], found: list[Any]) -> float:
    """Signal to noise over all outputs, in dB, the mean of them: each counts alike."""
    each = [10 * np.log10(np.square(a, dtype=np.float64).sum() / max(np.square(a - b, dtype=np.float64).sum(), 1e-30)) for a, b in zip(real, found)]
    return float(np.mean(each))


def agree(real: list[Any], found: list[Any]) -> float:
    """How often the largest of the last dim of the first output stands at the same place; of shares that are no distribution: on the same side
    of a half."""
    a, b = real[0], found[0]
    shares = a.min() >= 0 and a.max() <= 1 and not np.allclose(a.sum(-1), 1, atol=1e-3)
    return float(np.mean((a > 0.5) == (b > 0.5)) if shares else np.mean(a.argmax(-1) == b.argmax(-1)))


def _prepared(path: Path, folder: Path) -> Path:
    """The file as ONNX Runtime's guide wants it: of an opset that knows a scale a channel, batch norms folded; as much of that as it can."""
    for version in (17, 13, None):
        for skip in (False, True):
            try:
                model = onnx.load(path)
                if version and model.opset_import[0].version < version:
                    onnx.save(version_converter.convert_version(model, version), folder / "newer.onnx")
                else:
                    onnx.save(model, folder / "newer.onnx")
                Q.shape_inference.quant_pre_process(folder / "newer.onnx", folder / "prepared.onnx", skip_symbolic_shape=True, skip_optimization=skip)
                onnxruntime.InferenceSession(folder / "prepared.onnx", providers=["CPUExecutionProvider"])
                return folder / "prepared.onnx"
            except Exception as error:
                print(f"  not prepared ({version}, {skip}): {str(error)[:120]}")
    return path


def theirs(case: Case, folder: Path, real: list[Any]) -> tuple[float, float, str]:
    """The best of ONNX Runtime's settings: signal to noise, agreement, name."""
    found, n = [], len(case.inputs[0])
    prepared = _prepared(case.path, folder)
    for name, settings in {**THEIRS, "int8, MinMax, one scale": LAST}.items():
        if settings is LAST and found:
            break
        try:
            options = {"CalibPercentile": 99.99} if "Percentile" in name else {}
            Q.quantize_static(prepared, folder / "int8.onnx", Reader(feeds(case, 0, case.calibrate)), quant_format=Q.QuantFormat.QDQ, extra_options=options, **settings)
            y = run(folder / "int8.onnx", feeds(case, case.calibrate, n), case.led)
            found.append((noise(real, y), agree(real, y), name))
        except Exception as error:  # what its quantizer cannot do is said, too
            print(f"  {name}: {type(error).__name__}: {str(error)[:200]}")
    print(f"  theirs: {found}", flush=True)
    return max(found, default=(float("nan"), float("nan"), "failed"))


def ours(case: Case, real: list[Any]) -> tuple[dict[str, tuple[float, float]], Any]:
    """Signal to noise and agreement by setting, and the network calibrated by default."""
    some, rest = (tuple(x[k] for x in case.inputs) for k in (slice(case.calibrate), slice(case.calibrate, None)))
    found, default = {}, None
    for name, method in OURS.items():
        try:
            small = Plan([("*", method)]).apply(case.net, calibration=some).eval()
        except ShohinError as error:
            print(f"  {name}: {str(error)[:300]}")
            continue
        y = small(*rest)
        y = [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]
        found[name] = noise(real, y), agree(real, y)
        default = small if default is None else default
    print(f"  ours: {found}", flush=True)
    return found, default


def row(name: str, folder: Path) -> str:
    start = time.time()
    case = CASES[name]()
    n = len(case.inputs[0])
    rest = tuple(x[case.calibrate :] for x in case.inputs)
    y = case.net(*rest)
    real = [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]
    origin = run(case.path, feeds(case, case.calibrate, n), case.led)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(real, origin))
    mine, small = ours(case, real)
    their = theirs(case, folder, real)
    one, few = tuple(x[:1] for x in case.inputs), tuple(x[:8] for x in rest)
    host = sh.export(small, one, device="host", to=folder / "host")
    board = sh.export(small, one, device="cortex-m55", to=folder / "m55")
    same = sh.compare(small, board, few, host=host, ccs=(None, "gcc"), board=1)
    ran = "M55 too" if "cortex-m55" in same.ways else "M55: too large"
    m = sh.measure(host, few, repeats=10)
    best = max(mine, key=lambda k: mine[k][0])
    say = lambda pair: f"{pair[0]:.1f} dB, {pair[1]:.0%}"
    cells = [
        name, f"{case.says}; {case.calibrate} + {n - case.calibrate}", f"{difference:.1e}", say(mine["minmax"]), f"{say(mine[best])} ({best})", f"{say(their)} ({their[2]})",
        f"{same.differing:,} of {same.compared:,} ({ran})", f"{board.flash_bytes / 1024:,.0f} kB", f"{board.arena_bytes / 1024:,.0f} kB", f"{m.latency_ms['median'].value:.2f}",
    ]  # fmt: skip
    print(f"{' | '.join(cells)}  [{time.time() - start:.0f} s]", flush=True)
    return f"| {' | '.join(cells)} |"


START, END = "<!-- agreement -->\n", "<!-- agreement end -->"
HEAD = (
    "| network | inputs (to calibrate + to compare) | float from origin | ours | ours, best | ONNX Runtime, best | differing integers | flash | arena | host, ms |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


def write(rows: Mapping[str, str]) -> None:
    """The rows, and those that stand there of other networks."""
    head, _, rest = PAGE.read_text().partition(START)
    before, _, tail = rest.partition(END)
    known = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines()[2:] if line.startswith("| ")}
    both = {**known, **rows}
    PAGE.write_text(f"{head}{START}{HEAD}{''.join(both[n] + chr(10) for n in CASES if n in both)}{END}{tail}")


def main(names: Sequence[str]) -> None:
    logging.disable(logging.WARNING)
    for name in names or CASES:
        print(name, flush=True)
        with tempfile.TemporaryDirectory(prefix="shohin-agreement-") as folder:
            write({name: row(name, Path(folder))})


if __name__ == "__main__":
    main(sys.argv[1:])
