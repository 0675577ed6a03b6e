"""Networks with several inputs and outputs, a state among them, and what is joined to activations: 0 integers differ."""

import numpy as np

import shohin as sh
from shohin import nn
from shohin.compress import Plan, Quantize

rng = np.random.default_rng(3)


def shipped(net, x, folder):
    """The quantized network, compared, saved and loaded."""
    xs = x if isinstance(x, tuple) else (x,)
    small = Plan([("*", Quantize(w=8, a=8))]).apply(net, calibration=x).eval()
    art = sh.export(small, tuple(v[:1] for v in xs), device="host", to=folder / "art")
    same = sh.compare(small, art, x)
    assert same.differing == 0 and same.compared > 0, str(same)
    sh.save(small, folder / "net.safetensors")
    few = tuple(v[:2] for v in xs)
    for a, b in zip(leaves(sh.load(folder / "net.safetensors")(*few)), leaves(small(*few))):
        np.testing.assert_array_equal(a, b)
    return small


def leaves(found):
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


def noise(a, b):
    """Signal to noise in dB."""
    return 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum())


class Tokens(nn.Module):
    """A class token before the rest, positions added."""

    def __init__(self):
        self.token, self.positions = nn.Param(rng.normal(size=(1, 1, 8)).astype(np.float32)), nn.Param(rng.normal(size=(1, 6, 8)).astype(np.float32))
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = sh.concat([sh.broadcast_to(self.token, (x.shape[0], 1, 8)), x], axis=1) + self.positions
        return self.fc(x)[:, :2]


def test_a_parameter_is_part_of_a_concat(tmp_path):
    net, x = Tokens(), rng.normal(size=(9, 5, 8)).astype(np.float32)
    small = shipped(net, x, tmp_path)
    assert noise(net(x).numpy(), small(x).numpy()) > 30


class Frame(nn.Module):
    """One step of an LSTM whose state, h and c, goes in and out as one value."""

    def __init__(self):
        self.lstm, self.fc = nn.LSTM(6, 8), nn.Linear(8, 3)

    def forward(self, x, state):
        h, c = (sh.permute_dims(state[:, k : k + 1], (1, 0, 2)) for k in (0, 1))
        y, (h, c) = self.lstm(sh.expand_dims(x, axis=1), (h, c))
        return self.fc(y[:, 0]), sh.permute_dims(sh.concat([h, c], axis=0), (1, 0, 2))


def test_a_state_in_one_value_keeps_16_bits(tmp_path):
    net = Frame()
    frames, state, states = rng.normal(size=(40, 6)).astype(np.float32) * 3, np.zeros((1, 2, 8), np.float32), []
    for x in frames:
        states.append(state[0])
        state = net(x[None], state)[1].numpy()
    small = shipped(net, (frames, np.stack(states)), tmp_path)
    bits = {name: g.bits for name, g in small.grids().items()}
    assert bits["input1"] == 16 and bits["/concat#0"] == 16
    ours, theirs, s, t = [], [], *np.zeros((2, 1, 2, 8), np.float32)
    for x in frames:  # handed on, by each its own
        (a, s), (b, t) = small(x[None], s), net(x[None], t)
        s, t = s.numpy(), t.numpy()
        ours.append(a.numpy())
        theirs.append(b.numpy())
    assert noise(np.stack(theirs), np.stack(ours)) > 25
