"""Networks that people use, on real inputs: equal to what ONNX Runtime makes of them, to float rounding."""

import json

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.interop.importing import turns
from tests.interop.pretrained import models, speech

pytestmark = pytest.mark.slow


def audio(rate, seconds):
    """Spoken words at a rate, by linear interpolation; as long as asked for, said again and again."""
    soundfile = pytest.importorskip("soundfile")
    x, own = soundfile.read(speech(), dtype="float32")
    x = x.mean(axis=1)
    x = np.interp(np.arange(int(len(x) * rate / own)) * own / rate, np.arange(len(x)), x).astype(np.float32)
    return np.resize(x, int(rate * seconds))


def pictures(count, height, width):
    """Photographs of clothes side by side, as colour images from -1 to 1."""
    x = sh.data.fashion_mnist()[1].take(count * 8).x
    rows = np.asarray(x).reshape(count, 8, 28, 28).transpose(0, 2, 1, 3).reshape(count, 28, 8 * 28)
    rows = (rows - rows.min()) / (rows.max() - rows.min()) * 2 - 1
    big = sh.nn.resize(sh.asarray(rows.astype(np.float32)), {1: height, 2: width}, mode="linear").numpy()
    return np.repeat(big[:, None], 3, axis=1)


def close(net, relative):
    """The worst difference, against the largest result."""
    said = net.imported.facts["check"]
    assert "ONNX Runtime" in said
    print(f"\n{net.imported}")
    assert net.imported.difference <= relative * float(said.rpartition(" ")[2]), said


def test_direction_of_text():
    path = models("rapidocr-onnxruntime==1.4.4")["ch_ppocr_mobile_v2.0_cls_infer.onnx"]
    net = sh.from_onnx(path, check=pictures(2, 48, 192))
    close(net, 1e-5)
    assert len(turns(net._programs[0])) == 1  # at the input
    kinds = [type(m) for m in net.modules().values()]
    assert kinds.count(nn.DepthwiseConv2d) == 11 and kinds.count(nn.BatchNorm2d) == 35 and kinds.count(nn.Linear) == 1
    assert {s.call.__name__ for s in net._programs[0].steps if callable(s.call)} >= {"hardswish"}


def test_direction_of_text_in_int8(tmp_path):
    """The classifier's logits, quantized and as C: 0 integers differ."""
    path = models("rapidocr-onnxruntime==1.4.4")["ch_ppocr_mobile_v2.0_cls_infer.onnx"]
    x = pictures(16, 48, 96)
    (logits,) = {n.input[0] for n in onnx.load(path).graph.node if n.op_type == "Softmax"}
    net = sh.from_onnx(path, check=x[:2], outputs=[logits])
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=x)
    a, b = net(x).numpy(), small.eval()(x).numpy()
    print(f"\nsignal to noise {10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()):.1f} dB")
    assert ((a - b) ** 2).sum() < 0.1 * (a**2).sum()
    art = sh.export(small, x[:1], device="host", to=tmp_path / "art")
    assert sh.compare(small, art, x[:4]).differing == 0


GLYPHS = {  # 5 x 7
    "S": "01110100010100000100000101000101110", "H": "10001100011000111111100011000110001", "O": "01110100011000110001100011000101110",
    "I": "01110001000010000100001000010001110", "N": "10001110011010110011100011000110001",
}  # fmt: skip


def written(word, height, width):
    """A word in black on white, letters 35 pixels high with soft edges."""
    rows = np.concatenate([np.pad(np.array([int(c) for c in GLYPHS[w]]).reshape(7, 5), ((0, 0), (1, 1))) for w in word], axis=1)
    wide = np.kron(rows, np.ones((2, 2))).astype(np.float32)
    big = sh.nn.resize(sh.asarray(wide), {0: 35, 1: 5 * rows.shape[1]}, mode="linear").numpy()
    x, top = np.zeros((height, width), np.float32), (height - 35) // 2
    x[top : top + 35, 8 : 8 + big.shape[1]] = big
    return np.repeat((1 - 2 * x)[None, None], 3, axis=1).astype(np.float32)


def test_recognition_of_text():
    path = models("rapidocr-onnxruntime==1.4.4")["ch_PP-OCRv4_rec_infer.onnx"]
    x = written("SHOHIN", 48, 256)
    net = sh.from_onnx(path, check=x)
    close(net, 5e-5)
    assert [type(m) for m in net.modules().values()].count(nn.LayerNorm) == 5
    letters = {p.key: p.value for p in onnx.load(path).metadata_props}["character"].split("\n")
    best = net(x).numpy()[0].argmax(axis=-1)
    assert "".join(letters[k - 1] for k, before in zip(best, [0, *best]) if k and k != before) == "SHOHIN"


def test_detection_of_text():
    path = models("rapidocr-onnxruntime==1.4.4")["ch_PP-OCRv4_det_infer.onnx"]
    x = written("SHOHIN", 128, 256)
    net = sh.from_onnx(path, check=x)
    close(net, 1e-4)
    assert len(turns(net._programs[0])) == 1
    found = net(x).numpy()[0, 0] > 0.5
    assert found[60:68, 40:180].mean() > 0.9 and not found[:30].any() and not found[:, 240:].any()


@pytest.mark.parametrize("name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_op18_ifless.onnx"])
def test_voice(name):
    """Frame by frame, the state handed on: the decisions, too, are those of the origin."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path, x = models("silero-vad==6.2.3")[name], audio(16000, 1.5)
    net = sh.from_onnx(path, shape={"input": (1, 576), "state": (2, 1, 128)}, fixed={"sr": 16000})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    state, theirs, heard = np.zeros((2, 1, 128), np.float32), np.zeros((2, 1, 128), np.float32), []
    worst = 0.0
    for k in range(64, len(x) - 512, 512):
        frame = x[None, k - 64 : k + 512]
        p, state = net(frame, state)
        q, theirs = session.run(None, {"input": frame, "state": theirs, "sr": np.asarray(16000, np.int64)})
        worst = max(worst, abs(p.item() - q.item()))
        heard.append(float(q[0, 0]) > 0.5)
    print(f"\n{name}: worst difference of {len(heard)} frames {worst:.2g}, {sum(heard)} with a voice\n{net.imported}")
    assert worst < 1e-5 and any(heard)


def test_voice_in_int8(tmp_path):
    """Calibrated on frames and the states that come before them: 0 integers differ, and the state is handed on for all frames."""
    x = audio(16000, 1.5)
    net = sh.from_onnx(models("silero-vad==6.2.3")["silero_vad_16k_op15.onnx"], shape={"input": (1, 576), "state": (2, 1, 128)}, fixed={"sr": 16000}, examples_first=True)
    frames = np.stack([x[k - 64 : k + 512] for k in range(64, len(x) - 512, 512)])

    def heard(run):
        state, voice, states = np.zeros((1, 2, 128), np.float32), [], []
        for frame in frames:
            states.append(state[0])
            p, state = run(frame[None], state)
            state = state.numpy()
            voice.append(p.item())
        return np.array(voice), np.stack(states)

    theirs, states = heard(net)
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=(frames, states)).eval()
    ours, _ = heard(small)
    print(f"\nworst difference of {len(frames)} probabilities {np.abs(ours - theirs).max():.3f}, same decision {np.mean((ours > 0.5) == (theirs > 0.5)):.0%}")
    assert np.mean((ours > 0.5) == (theirs > 0.5)) > 0.7  # the root of powers on 8 bits costs most (docs/import.md)
    art = sh.export(small, (frames[:1], states[:1]), device="host", to=tmp_path)
    same = sh.compare(small, art, (frames, states))
    print(same)
    assert same.differing == 0


def test_voice_as_a_sequence():
    path, x = models("silero-vad==6.2.3")["silero_vad_16k_sequence.onnx"], audio(16000, 1.5)
    frames = np.stack([x[k - 64 : k + 512] for k in range(64, len(x) - 512, 512)])
    zero = np.zeros((1, 1, 128), np.float32)
    net = sh.from_onnx(path, check=(frames, zero, zero))
    close(net, 1e-5)
    assert nn.LSTM in [type(m) for m in net.modules().values()]


def test_voice_as_a_sequence_in_int8(tmp_path):
    """Calibrated by whole calls, a series and its state; shipped for one frame a call."""
    path, x = models("silero-vad==6.2.3")["silero_vad_16k_sequence.onnx"], audio(16000, 1.5)
    frames = np.stack([x[k - 64 : k + 512] for k in range(64, len(x) - 512, 512)])
    zero = np.zeros((1, 1, 128), np.float32)
    net = sh.from_onnx(path, check=(frames, zero, zero))
    states = [tuple(t.numpy() for t in net(frames[: 4 * k], zero, zero)[1:]) for k in (1, 2)]
    calls = [(frames, zero, zero), *((frames[4 * k : 4 * k + 8], *s) for k, s in enumerate(states, 1))]
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=calls).eval()
    art = sh.export(small, (frames[:1], zero, zero), device="host", to=tmp_path)
    for k, s in enumerate(states, 1):
        same = sh.compare(small, art, (frames[4 * k : 4 * k + 1], *s))
        assert same.differing == 0 and same.compared > 0, str(same)


def test_notes():
    path = models("basic-pitch==0.4.0")["nmp.onnx"]
    net = sh.from_onnx(path, check=np.resize(audio(22050, 2), 43844)[None, :, None])
    close(net, 5e-4)  # it takes logarithms of powers near zero
    assert not turns(net._programs[0])


def test_kinds_of_files():
    """A Python file comes out as Python."""
    files = models("magika==1.0.3")
    config = json.loads(files["config.min.json"].read_text())
    with open(__file__, "rb") as stream:
        data = np.frombuffer(stream.read().strip(), np.uint8).astype(np.int32)
    tokens = np.full((2, config["beg_size"] + config["end_size"]), config["padding_token"], np.int32)
    tokens[0, : config["beg_size"]] = data[: config["beg_size"]]
    tokens[0, -config["end_size"] :] = data[-config["end_size"] :]
    net = sh.from_onnx(files["model.onnx"], check=tokens)
    close(net, 1e-5)
    scores = net(tokens).numpy()[0]
    assert config["target_labels_space"][int(scores.argmax())] == "python" and scores.max() > 0.9
