"""The page of a network, in headless Chromium: the integers of C here and of Node, from arrays, an image and a sound."""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import re
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize
from shohin.core.errors import EmulatorMissing
from shohin.deploy.artefact import Artefact
from shohin.targets import get_target, wasm32
from tests.targets.test_wasm32 import has_node


def chromium() -> str:
    try:
        return wasm32.chromium()
    except EmulatorMissing as error:
        if os.environ.get("SHOHIN_REQUIRE_EMULATORS") == "1":
            raise
        pytest.skip(f"the page is NOT run: {error}")


def in_browser(art: Artefact, program: str, to: Path) -> object:
    """What the asynchronous JavaScript ``program`` returns at the end of the page of ``art``."""
    page = (art.folder / "index.html").read_text()
    assert not re.search(r"(src|href)\s*=|https?://", page)  # nothing is loaded
    reply = "fetch('/found', {method: 'POST', body: JSON.stringify(found)})"
    text = f"{page}\n<script>(async () => {{ let found; try {{ found = await (async () => {{ {program} }})(); }} catch (e) {{ found = {{error: String(e)}}; }} {reply}; }})();</script>"
    found: queue.Queue[bytes] = queue.Queue()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404), self.send_header("Content-Type", "text/html"), self.end_headers()
            self.wfile.write(text.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            found.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204), self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={to / 'profile'}"]
    browser = subprocess.Popen([chromium(), *flags, f"http://127.0.0.1:{server.server_port}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return json.loads(found.get(timeout=90))
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()


def blob(data: bytes) -> str:
    return f"new Blob([Uint8Array.from(atob('{base64.b64encode(data).decode()}'), (c) => c.charCodeAt(0))])"


def npy(x: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def exported(net: nn.Module, x: np.ndarray, to: Path, **more: object) -> Artefact:
    small = Plan([("*", Quantize())]).apply(net.eval(), x)
    return sh.export(small, more.pop("example", x[:1]), device="wasm32", to=to, **more)  # type: ignore[arg-type]


def in_node(art: Artefact, x: np.ndarray, to: Path) -> np.ndarray:
    has_node()
    target = get_target("wasm32")
    return art.first(target.strategy.run(target.strategy.build(target, art.folder, to), art.entries(x, art.library), 60).outputs)


def test_an_image_and_arrays(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    sh.seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 12, 12, 3)).astype(np.float32)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.DepthwiseConv2d(8, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 4))
    art = exported(net, x, tmp_path / "art")
    pixels = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    found = in_browser(art, f"""
        const numbers = await take({blob(npy(x))}, "x.npy");
        $("mean").value = "0.5, 0.4, 0.3"; $("std").value = "0.25";
        const picture = await take({blob(png.getvalue())}, "picture.png");
        const rows = $("results").rows.length, said = $("said").textContent;
        let refused = ""; try {{ await take({blob(npy(x[:1, :5]))}, "x.npy"); }} catch (e) {{ refused = e.message; }}
        return {{ numbers: numbers.map((y) => [...y]), picture: [...picture[0]], rows, said, refused, kind: $("said").className }};
    """, tmp_path)  # fmt: skip
    assert isinstance(found, dict) and "error" not in found, found
    assert np.array_equal(found["numbers"], art.run(x)) and np.array_equal(art.run(x), in_node(art, x, tmp_path))
    real = ((pixels / np.float64(255) - [0.5, 0.4, 0.3]) / 0.25).astype(np.float32)
    assert np.array_equal(found["picture"], art.run(real[None])[0])
    assert found["rows"] == 4 and "ms an inference, measured in this browser" in found["said"]
    assert found["kind"] == "error" and "expected a multiple of 432" in found["refused"]


def test_bytes_in_a_class_out_with_channels_first(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    sh.seed(1)
    rng = np.random.default_rng(1)
    images = (rng.random((16, 1, 10, 10)) * np.linspace(1, 255, 16)[:, None, None, None]).astype(np.uint8)
    pre = lambda image: sh.moveaxis(image.astype(sh.float32) / 255.0 - 0.5, 1, -1)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(16, 8, bias=False))
    art = exported(net, pre(sh.asarray(images)).numpy(), tmp_path / "art", example=images[:1], pre=pre, post=lambda y: y.argmax(axis=-1))
    colours = rng.integers(0, 256, (10, 10, 3)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(colours).save(png, "PNG")
    found = in_browser(art, f"return {{ all: (await take({blob(npy(images))}, 'x.npy')).map((y) => [...y]), one: [...(await take({blob(png.getvalue())}))[0]] }};", tmp_path)
    assert isinstance(found, dict) and "error" not in found, found
    assert np.array_equal(found["all"], art.run(images).reshape(-1, 1)) and len(set(art.run(images).reshape(-1).tolist())) > 1
    gray = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.array_equal(found["one"], art.run(gray[None, None]).reshape(-1))


def test_a_sound_through_a_network_that_remembers(tmp_path: Path) -> None:
    sh.seed(2)
    rng = np.random.default_rng(2)
    sound = (np.sin(np.arange(1600) / 7) * np.linspace(0, 0.8, 1600) + rng.normal(size=1600) * 0.02).astype(np.float32)
    net = nn.Sequential(nn.Conv1d(1, 8, 8, stride=4, padding=(7, 0)), nn.ReLU(), nn.Conv1d(8, 3, 3, padding=(2, 0)))
    x = sound.reshape(1, -1, 1)
    art = exported(net, x, tmp_path / "art", stream=160)
    # 32-bit floats, so that no decoder rounds: RIFF, format 3
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 16000, 64000, 4, 32)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", 4 * sound.size) + sound.tobytes()
    wav = struct.pack("<4sI", b"RIFF", len(body)) + body
    found = in_browser(art, f"return (await take({blob(wav)}, 'sound.wav')).map((y) => [...y]);", tmp_path)
    assert not isinstance(found, dict), found
    wanted = art.run(x.reshape(10, 160, 1))
    assert np.array_equal(np.asarray(found).reshape(wanted.shape), wanted) and np.array_equal(in_node(art, x.reshape(10, 160, 1), tmp_path), wanted)
