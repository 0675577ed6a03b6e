"""The container, and cells by path."""

import numpy as np
import pytest
from safetensors import safe_open

import shohin as sh
from shohin import nn, optim
from shohin.train import Position, container, load, load_run, save, save_run

HERE = Position(epoch=1, step=2, key=(3, 4), digest="d", best=0.1, best_epoch=1)


def arrays():
    rng = np.random.default_rng(0)
    kinds = [
        sh.float32,
        sh.float64,
        sh.float16,
        sh.bfloat16,
        sh.int8,
        sh.uint8,
        sh.int16,
        sh.int64,
        sh.uint32,
        sh.bool,
        sh.int4,
        sh.uint2,
    ]
    return {d.name: rng.integers(0, 3, (2, 3)).astype(d) for d in kinds} | {
        "scalar": np.array(1.5, np.float32),
        "none": np.zeros((0, 3)),
    }


def test_every_dtype_comes_back(tmp_path):
    container.write(tmp_path / "a", arrays(), {"who": "me"})
    found, text = container.read(tmp_path / "a")
    assert text["who"] == "me"
    for name, a in arrays().items():
        assert found[name].dtype == a.dtype and found[name].shape == a.shape
        np.testing.assert_array_equal(found[name], a)
    with pytest.raises(sh.CheckpointError, match="cannot hold"):
        container.write(tmp_path / "b", {"z": np.zeros(1, complex)}, {})


def test_the_library_reads_it(tmp_path):
    container.write(tmp_path / "a.safetensors", {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"who": "me"})
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata()["who"] == "me"
        np.testing.assert_array_equal(file.get_tensor("x"), np.arange(6).reshape(2, 3))


def test_save_and_load(tmp_path):
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    save(a, tmp_path / "a")
    assert load(tmp_path / "a", b) is b
    np.testing.assert_array_equal(a.weight.numpy(), b.weight.numpy())
    with pytest.raises(sh.CheckpointError, match="into=net"):
        load(tmp_path / "a")
    with pytest.raises(sh.CheckpointError, match="cannot be read"):
        load(tmp_path / "nothing", b)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: nn.Linear(3, 2, bias=False), "it holds bias, which the network lacks"),
        (lambda: nn.Linear(4, 2), r"weight is float32\[2, 3\] there and f32\[2,4\] here"),
        (lambda: nn.Sequential(nn.Linear(3, 2)), "it lacks 0.weight, 0.bias"),
    ],
)
def test_another_network_changes_nothing(tmp_path, other, says):
    save(nn.Linear(3, 2), tmp_path / "a")
    net = other()
    before = [c.read().numpy() for c in net.cells().values()]
    with pytest.raises(sh.CheckpointError, match=says):
        load(tmp_path / "a", net)
    for c, b in zip(net.cells().values(), before, strict=True):
        np.testing.assert_array_equal(c.read().numpy(), b)


def test_ties_are_part_of_a_network(tmp_path):
    class Tied(nn.Module):
        def __init__(self, tie):
            self.a = nn.Linear(2, 2, bias=False)
            self.b = nn.Linear(2, 2, bias=False)
            if tie:
                self.b.weight = self.a.weight

    save(Tied(True), tmp_path / "a")
    assert container.read(tmp_path / "a")[0].keys() == {"a.weight"}
    load(tmp_path / "a", Tied(True))
    with pytest.raises(sh.CheckpointError, match="lacks b.weight"):
        load(tmp_path / "a", Tied(False))


def test_a_run_is_all_or_nothing(tmp_path):
    sh.seed(5)
    net = nn.Linear(3, 2)
    opt = optim.adam(0.1).init(net)
    sh.random.uniform((9,))
    save_run(tmp_path / "a", net, opt, HERE)
    state = sh.random.default.counter.read().tolist()
    sh.seed(6)
    assert load_run(tmp_path / "a", net, opt) == HERE
    assert sh.random.default.counter.read().tolist() == state
    other = optim.sgd(0.1).init(net)
    before = net.weight.numpy()
    net.weight = net.weight * 0
    with pytest.raises(sh.CheckpointError, match=r"belongs to the optimizer adam\(0\.1\), this one is sgd\(0\.1\)"):
        load_run(tmp_path / "a", net, other)
    assert abs(net.weight.numpy()).max() == 0 and abs(before).max() > 0
    save(net, tmp_path / "b")
    with pytest.raises(sh.CheckpointError, match="no checkpoint of a run"):
        load_run(tmp_path / "b", net, opt)
