"""``evaluate`` and ``Task``."""

import numpy as np
import pytest

import shohin as sh
from shohin import nn
from shohin.data import Dataset
from shohin.train import Task
from tests.train.conftest import Net


@pytest.mark.parametrize("batch", [1, 7, 30, 256])
def test_it_is_the_mean_over_all_examples(data, batch):
    sh.seed(0)
    net, test = Net(), data[1]
    net.train()
    statistics = net.norm.running_mean.numpy()
    found = sh.evaluate(net, test, nn.accuracy, batch=batch)
    assert net.training and np.array_equal(net.norm.running_mean.numpy(), statistics)
    with sh.mode(net, training=False):
        assert found == pytest.approx((net(test.x).numpy().argmax(1) == test.y).mean())


def test_padding_does_not_count_even_if_it_is_nan():
    data = Dataset(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))
    inverse = lambda output, y: (1 / output).mean(axis=-1)
    assert sh.evaluate(nn.Identity(), data, inverse, batch=2) == 1.0


def test_compiled_once(data):
    net = Net()
    for _ in range(3):
        sh.evaluate(net, data[1], nn.accuracy, batch=8)
    (program,) = object.__getattribute__(net, "_cache")["evaluate"].values()
    assert program.traces == ["first call"]


def test_errors(data):
    with pytest.raises(sh.ShapeError, match=r"accuracy_mean gave f32\[\] for 8 examples"):

        def accuracy_mean(output, y):
            return nn.accuracy(output, y).mean()

        sh.evaluate(Net(), data[1], accuracy_mean, batch=8)
    with pytest.raises(sh.StateError, match="net is function"):
        sh.evaluate(lambda x: x, data[1], nn.accuracy)
    with pytest.raises(sh.DataError, match="data is tuple"):
        sh.evaluate(Net(), (1, 2), nn.accuracy)


def test_a_task_is_checked(data):
    train, test = data
    task = Task(Net(), train, test, nn.cross_entropy, nn.accuracy)
    assert task.inputs == (6, 6, 1) and task.augment is None
    assert float(task.loss_fn(task.model, train.x[:4], train.y[:4])) > 0
    with pytest.raises(sh.DataError, match="test is tuple"):
        Task(Net(), train, (1, 2), nn.cross_entropy, nn.accuracy)
    with pytest.raises(sh.StateError, match="model is"):
        Task(print, train, test, nn.cross_entropy, nn.accuracy)
    with pytest.raises(sh.StateError, match="metric is"):
        Task(Net(), train, test, nn.cross_entropy, 0.5)
    with pytest.raises(sh.DataError, match="inputs is"):
        Task(Net(), train, test, nn.cross_entropy, nn.accuracy, inputs=(1,))
    with pytest.raises(AttributeError):
        task.train = test
