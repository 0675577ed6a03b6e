"""``shohin profile`` as a person meets it: tables, the file of all steps, and what goes wrong."""

import json

import pytest
from typer.testing import CliRunner

from shohin.cli import app

RUN = CliRunner()
TASK = """
import numpy as np
import shohin as sh
from shohin import nn
from shohin.data import Dataset

rng = np.random.default_rng(0)
data = Dataset(rng.standard_normal((16, 8, 8, 2)).astype(np.float32), rng.integers(0, 3, 16))
net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(8, 3))
task = sh.Task(net, data, data, nn.cross_entropy, nn.accuracy)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "task.py"
    path.write_text(TASK)
    return path


def test_a_training_step(file, tmp_path):
    out = RUN.invoke(app, ["profile", str(file), "--batch", "8", "--threads", "1", "--repeats", "2", "--top", "4", "--json", str(tmp_path / "p.json")])
    assert out.exit_code == 0, out.output
    assert "training step (AdamW), batch 8" in out.output and "by step" in out.output and "by kernel" in out.output and "more," in out.output
    rows = json.loads((tmp_path / "p.json").read_text())
    assert {"0/conv2d#0", "0'/conv2d_dw#0"} <= {r["place"] for r in rows} and all(r["bytes"] > 0 for r in rows)


def test_an_inference_by_layer(file):
    out = RUN.invoke(app, ["profile", str(file), "--inference", "--batch", "1", "--by", "layer", "--threads", "1", "--repeats", "2"])
    assert out.exit_code == 0, out.output
    assert "inference, batch 1" in out.output and "by layer" in out.output and "conv2d_dw" not in out.output


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (None, (), "no such file"),
        ("x = 1", (), "sets no task"),
        ("task = 3", (), "sets task to a int"),
        (TASK, ("--by", "colour"), "--by colour is none of step, kernel, layer"),
    ],
)
def test_errors(text, arguments, said, tmp_path):
    path = tmp_path / "task.py"
    if text is not None:
        path.write_text(text)
    out = RUN.invoke(app, ["profile", str(path), *arguments])
    assert out.exit_code == 1 and said in " ".join(out.output.split())


def test_a_kernel_that_declined_is_named_with_its_reason(tmp_path):
    path = tmp_path / "task.py"
    path.write_text(TASK.replace("nn.Conv2d(2, 8, 3, padding=1)", "nn.Conv2d(2, 8, 3, padding=1, groups=2)"))
    out = RUN.invoke(app, ["profile", str(path), "--inference", "--batch", "1", "--threads", "1", "--repeats", "1"])
    assert "conv2d_direct_f32: 2 groups of 1 channels, it takes 4 or more in each" in " ".join(out.output.split())
