"""State dicts of PyTorch into layers of the same names."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import shohin as sh
from shohin import nn


class Net(nn.Module):
    def __init__(self):
        self.features = [nn.Conv2d(3, 4, (3, 2), bias=False), nn.BatchNorm2d(4)]
        self.up = nn.ConvTranspose2d(4, 2, 2)
        self.gru = nn.GRU(2, 3)
        self.fc = nn.Linear(3, 5)


def state(seed=0):
    """As PyTorch would name and shape it."""
    rng = np.random.default_rng(seed)
    shapes = {
        "features.0.weight": (4, 3, 3, 2), "features.1.weight": (4,), "features.1.bias": (4,), "features.1.running_mean": (4,), "features.1.running_var": (4,),
        "up.weight": (4, 2, 2, 2), "up.bias": (2,), "gru.weight_ih_l0": (9, 2), "gru.weight_hh_l0": (9, 3), "gru.bias_ih_l0": (9,), "gru.bias_hh_l0": (9,),
        "fc.weight": (5, 3), "fc.bias": (5,),
    }  # fmt: skip
    return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()} | {"features.1.num_batches_tracked": np.asarray(7)}


def test_all_arrive_and_convolutions_are_turned(tmp_path):
    given = state()
    net = sh.load_state_dict(Net(), given)
    assert np.array_equal(net.features[0].weight.numpy(), given["features.0.weight"].transpose(0, 2, 3, 1))
    assert np.array_equal(net.up.weight.numpy(), given["up.weight"].transpose(0, 2, 3, 1))
    assert np.array_equal(net.gru.weight_hh_l0.numpy(), given["gru.weight_hh_l0"]) and np.array_equal(net.features[1].running_var.numpy(), given["features.1.running_var"])
    save_file(given, tmp_path / "w.safetensors")
    again = sh.load_state_dict(Net(), tmp_path / "w.safetensors")
    assert all(np.array_equal(a.read().numpy(), b.read().numpy()) for a, b in zip(net.cells().values(), again.cells().values()))


def test_all_that_differs_is_said_at_once_and_nothing_is_written():
    given = state()
    del given["fc.bias"], given["up.bias"]
    given |= {"head.weight": np.zeros(3, np.float32), "features.0.weight": np.zeros((4, 3, 2, 3), np.float32)}
    net = Net()
    before = net.fc.weight.numpy().copy()
    with pytest.raises(sh.CheckpointError, match=r"it lacks up\.bias, fc\.bias; it has head\.weight, which.*; features\.0\.weight is float32\[4, 3, 2, 3\], expected float32\[4, 3, 3, 2\]"):
        sh.load_state_dict(net, given)
    assert np.array_equal(before, net.fc.weight.numpy())
    given["features.0.weight"] = state()["features.0.weight"]
    sh.load_state_dict(net, given, partial=True)
    assert np.array_equal(net.fc.weight.numpy(), given["fc.weight"])


def test_types():
    given = {"weight": np.array([[1.5, 2.0]]), "bias": np.zeros(1, np.float16)}
    assert sh.load_state_dict(nn.Linear(2, 1), given).weight.dtype == sh.float32
    with pytest.raises(sh.CheckpointError, match=r"weight is int64\[1, 2\], expected float32"):
        sh.load_state_dict(nn.Linear(2, 1), {**given, "weight": np.array([[1, 2]])})
    with pytest.raises(sh.CheckpointError, match="read it with torch"):
        sh.load_state_dict(nn.Linear(2, 1), "w.pth")
