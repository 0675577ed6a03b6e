"""``fit``: it learns, resumes bit for bit, and says clearly what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin import nn, optim
from shohin.data import Dataset
from shohin.train import container, load
from tests.train.conftest import Net, loss_fn, noisy

ROOT = Path(__file__).resolve().parents[2]


def start(seed=0, rule=None):
    sh.seed(seed)
    net = Net()
    return net, (rule or optim.adamw(1e-2)).init(net)


def run(data, folder, epochs=3, *, net=None, opt=None, **settings):
    train, test = data
    if net is None:
        net, opt = start()
    settings = {"augment": noisy, "test": test, "progress": False, **settings}
    history = sh.fit(net, settings.pop("loss", loss_fn), train, opt, epochs, 16, run=folder, **settings)
    return net, opt, history


def bits(*modules):
    return {f"{k}.{p}": c.read().numpy() for k, m in enumerate(modules) for p, c in m.cells().items()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class Killed(BaseException):
    pass


def killer(at):
    """A function that ends the process's work when it is called for the ``at``-th time."""
    left = [at]

    def stop(*_):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return stop


def test_it_learns(data):
    net, opt, history = run(data, None, 8)
    assert history[-1].metric > 0.9 and history[-1].loss < history[0].loss
    assert int(opt.count) == 8 * 4 and len(history) == 8 and net.training
    assert sh.evaluate(net, data[1], nn.accuracy) == history[-1].metric


@pytest.mark.parametrize("at", [1, 2, 4])
def test_killed_and_started_again_gives_the_same_bits(data, tmp_path, monkeypatch, at):
    """Killed when an epoch's checkpoint is about to be written; files, cells and generator agree."""
    whole = run(data, tmp_path / "whole", 4)
    after = sh.random.default.counter.read().tolist()
    stop = killer(at)
    real = container.write
    monkeypatch.setattr(container, "write", lambda *a: (stop(), real(*a))[1])
    with pytest.raises(Killed):
        run(data, tmp_path / "killed", 4)
    monkeypatch.setattr(container, "write", real)
    sh.seed(99)  # whatever the process did before does not matter
    net = Net()
    again = (
        run(data, tmp_path / "killed", 4, net=net, opt=optim.adamw(1e-2).init(net))
        if at > 1
        else run(data, tmp_path / "killed", 4)
    )
    same(bits(*whole[:2]), bits(*again[:2]))
    assert sh.random.default.counter.read().tolist() == after
    for name in ("last", "best"):
        a, b = (container.read(tmp_path / f / f"{name}.safetensors") for f in ("whole", "killed"))
        same(a[0], b[0])
        assert a[1] == b[1]
    strip = lambda h: [(r.epoch, r.step, r.loss, r.metric, r.lr) for r in h]
    assert strip(whole[2]) == strip(again[2]) and whole[2].best_epoch == again[2].best_epoch
    log = [json.loads(line) for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in log] == [1, 2, 3, 4]


SCRIPT = """
import os, sys
import shohin as sh
from shohin import optim
from tests.train.conftest import Net, loss_fn, make_data, noisy
folder, stop = sys.argv[1], int(sys.argv[2])
sh.seed(0)
net = Net()
train, test = make_data()
if stop:
    calls = []
    def dying(*args, f=sh.evaluate):
        calls.append(1)
        return os._exit(9) if len(calls) == stop else f(*args)
    sys.modules["shohin.train.fit"].evaluate = dying
sh.fit(net, loss_fn, train, optim.adamw(1e-2).init(net), 3, 16, augment=noisy, test=test, run=folder)
"""


def test_processes_that_are_killed(tmp_path):
    """The same, with processes that end in the middle without a word."""

    def process(folder, stop):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / folder), str(stop)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == (9 if stop else 0), done.stderr
        return done.stdout

    process("whole", 0)
    process("killed", 2)  # after the training of epoch 2
    assert process("killed", 0).splitlines()[0].startswith("epoch 2/3")
    for name in ("last", "best"):
        a, b = (container.read(tmp_path / f / f"{name}.safetensors") for f in ("whole", "killed"))
        same(a[0], b[0])
        assert a[1] == b[1]


def test_more_epochs_go_on(data, tmp_path):
    whole = run(data, tmp_path / "a", 4)
    run(data, tmp_path / "b", 2)
    same(bits(*whole[:2]), bits(*run(data, tmp_path / "b", 4)[:2]))


def test_a_finished_run_returns_at_once(data, tmp_path):
    net, opt, history = run(data, tmp_path, 2)
    written = (tmp_path / "last.safetensors").stat().st_mtime_ns
    again = run(data, tmp_path, 2)
    same(bits(net, opt), bits(*again[:2]))
    assert again[2].records == history.records
    assert (tmp_path / "last.safetensors").stat().st_mtime_ns == written


def test_the_folder(data, tmp_path):
    history = run(data, tmp_path / "deep" / "run", 2)[2]
    folder = tmp_path / "deep" / "run"
    assert sorted(p.name for p in folder.iterdir()) == [
        "best.safetensors",
        "config.json",
        "last.safetensors",
        "log.jsonl",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["parts"]["optimizer"] == "adamw(0.01)" and len(config["digest"]) == 32
    best = load(folder / "best.safetensors", Net())
    assert sh.evaluate(best, data[1], nn.accuracy) == history.best.metric


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"augment": None}, "augment"),
        ({"schedule": optim.cosine(0.1, 10)}, r"schedule \(none -> cosine\(0\.1, 10\)\)"),
        ({"loss": lambda net, x, y: 2 * loss_fn(net, x, y)}, "loss"),
        ({"seed": 3}, r"seed \(None -> 3\)"),
    ],
)
def test_another_configuration_is_an_error(data, tmp_path, change, says):
    run(data, tmp_path, 1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(sh.CheckpointError, match=f"differs in .*{says}.*fresh=True"):
        run(data, tmp_path, 1, **change)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    run(data, tmp_path, 1, fresh=True, **change)


def test_another_network_optimizer_or_data_is_an_error(data, tmp_path):
    run(data, tmp_path, 1)
    with pytest.raises(sh.CheckpointError, match=r"optimizer \(adamw\(0\.01\) -> sgd\(0\.1\)\)"):
        net, opt = start(rule=optim.sgd(0.1))
        run(data, tmp_path, 1, net=net, opt=opt)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(sh.CheckpointError, match="network"):
        run(data, tmp_path, 1, net=net, opt=optim.adamw(1e-2).init(net))
    with pytest.raises(sh.CheckpointError, match="data"):
        run((data[0].take(64), data[1]), tmp_path, 1)


def test_the_data_key_comes_from_the_seed(data):
    ends = []
    for first in (0, 0, 1):
        net, opt = start(first)
        ends.append(run(data, None, 1, net=net, opt=opt)[2][0].loss)
    assert ends[0] == ends[1] != ends[2]


def test_a_schedule_overrides_the_rate_in_one_program(data):
    net, opt = start()
    history = run(data, None, 3, net=net, opt=opt, schedule=optim.linear_warmup(0.012, 12))[2]
    rates = [r.lr for r in history]
    assert rates == pytest.approx([0.004, 0.008, 0.012])


def test_frozen_layers_and_modes_are_left_alone(data):
    net, _ = start()
    net.conv.requires_grad_(False)
    net.eval()
    before = net.conv.weight.numpy()
    run(data, None, 1, net=net, opt=optim.adamw(1e-2).init(net))
    np.testing.assert_array_equal(net.conv.weight.numpy(), before)
    assert not net.training and not net.norm.training


def test_nan_stops_and_loses_nothing(data, tmp_path):
    class Counting(Net):
        def __init__(self):
            super().__init__()
            self.count = nn.Buffer(np.zeros((), np.float32))

        def forward(self, x):
            if self.training:
                self.count = self.count + 1 / 4
            return super().forward(x)

    def later(net, x, y):
        value = loss_fn(net, x, y)
        return sh.where(net.count > 1.3, sh.nan, value)

    def fitted():
        sh.seed(0)
        net = Counting()
        return sh.fit(net, later, data[0], optim.adamw(1e-2).init(net), 3, 16, run=tmp_path, progress=False)

    with pytest.raises(
        sh.NonFiniteError, match=r"the loss is nan in epoch 2 of 3, step 2 .*lower the learning rate.*holds epoch 1"
    ):
        fitted()
    kept = (tmp_path / "last.safetensors").read_bytes()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    with pytest.raises(sh.NonFiniteError):  # the resumed run stops at the same place
        fitted()
    assert (tmp_path / "last.safetensors").read_bytes() == kept


def test_a_last_step_that_overflows_is_not_saved(data, tmp_path):
    net, _ = start()
    with pytest.raises(sh.NonFiniteError, match="holds NaN or infinity|the loss is"):
        run(data, tmp_path, 1, net=net, opt=optim.sgd(1e38).init(net))
    assert not (tmp_path / "last.safetensors").exists()


# ------------------------------------------------------------------------------------------- bad surroundings


def damaged(data, tmp_path, change):
    run(data, tmp_path, 1)
    path = tmp_path / "last.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(sh.CheckpointError) as error:
        run(data, tmp_path, 2)
    return str(error.value)


def test_damaged_checkpoints(data, tmp_path):
    assert "truncated" in damaged(data, tmp_path / "a", lambda b: b[:-100])
    assert "truncated" in damaged(data, tmp_path / "b", lambda b: b[:5])
    assert "truncated" in damaged(data, tmp_path / "c", lambda b: b[:500])
    assert "checksum differs" in damaged(data, tmp_path / "d", lambda b: b[:-1] + bytes([b[-1] ^ 1]))
    assert "no safetensors file" in damaged(data, tmp_path / "e", lambda b: b"hello, this is no checkpoint" * 99)


def test_a_damaged_config(data, tmp_path):
    run(data, tmp_path, 1)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(sh.CheckpointError, match=r"config\.json cannot be read.*fresh=True"):
        run(data, tmp_path, 1)


def test_a_folder_that_cannot_be_written(data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(sh.CheckpointError, match="cannot be written"):
        run(data, tmp_path / "file" / "run", 1)
    real = os.replace

    def denied(a, b):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(container.os, "replace", denied)
    with pytest.raises(sh.CheckpointError, match="the folder cannot be written; give run="):
        run(data, tmp_path / "run", 1)
    monkeypatch.setattr(container.os, "replace", real)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_full_disk_keeps_the_last_checkpoint(data, tmp_path, monkeypatch):
    run(data, tmp_path, 1)
    kept = (tmp_path / "last.safetensors").read_bytes()
    real = os.fsync

    def full(fd):
        if os.readlink(f"/proc/self/fd/{fd}").split("/")[-1].startswith(".last"):
            raise OSError(28, "No space left on device")
        return real(fd)

    monkeypatch.setattr(container.os, "fsync", full)
    with pytest.raises(
        sh.CheckpointError, match=r"last\.safetensors cannot be written: the disk is full; .* of before is as it was"
    ):
        run(data, tmp_path, 2)
    monkeypatch.setattr(container.os, "fsync", real)
    assert (tmp_path / "last.safetensors").read_bytes() == kept
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".tmp"]
    same(bits(*run(data, tmp_path, 2)[:2]), bits(*run(data, tmp_path / "other", 2)[:2]))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"net": lambda x: x}, sh.StateError, "net is function"),
        ({"opt": optim.sgd(0.1)}, sh.StateError, r"opt is Transform.*\.init\(net\)"),
        ({"train": np.zeros((3, 3))}, sh.DataError, "train is ndarray"),
        ({"loss": 3}, sh.StateError, "loss is int"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"batch": 1000}, sh.DataError, "a batch of 1000 from 70"),
        ({"test": Dataset(np.zeros((3, 6, 6, 1), np.float32), np.zeros(3))}, sh.DataError, "write metric="),
        ({"loss": lambda net, x, y: net(x)}, sh.GradientError, "expected one floating-point scalar"),
    ],
)
def test_bad_arguments(data, tmp_path, change, error, says):
    net, opt = start()
    given = {
        "net": net,
        "loss": loss_fn,
        "train": data[0],
        "opt": opt,
        "epochs": 1,
        "batch": 16,
        "progress": False,
        **change,
    }
    with pytest.raises(error, match=says):
        sh.fit(**given)


def test_a_line_an_epoch_where_there_is_no_terminal(data, capsys):
    run(data, None, 2, progress=None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[1].startswith("epoch 2/2  loss ") and "  accuracy " in lines[1]


def test_a_bar_in_a_terminal(data, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    run(data, None, 2, progress=None)
    assert "epoch 2/2" in capsys.readouterr().out
