"""Small modules for the rules: a linear layer, dropout, batch norm, a hidden state, tied weights."""

import numpy as np

import shohin as sh
from shohin import nn

X = np.linspace(-1, 1, 8 * 3).reshape(8, 3).astype(np.float32)


class Dense(nn.Module):
    def __init__(self, n_in=3, n_out=3, seed=0):
        rng = np.random.default_rng(seed)
        self.weight = nn.Param(rng.uniform(-1, 1, (n_out, n_in)).astype(np.float32))
        self.bias = nn.Param(np.zeros(n_out, np.float32))

    def forward(self, x):
        return sh.matmul(x, self.weight, transpose_b=True) + self.bias


class Counter(nn.Module):
    """Counts its calls in a buffer and passes x on."""

    def __init__(self):
        self.count = nn.Buffer(np.zeros((), np.float32))

    def forward(self, x):
        self.count = self.count + 1.0
        return x


class Hidden(nn.Module):
    """h' = tanh(w x + u h): the state lives in a buffer and carries its gradient inside a frame."""

    def __init__(self, n=3):
        rng = np.random.default_rng(1)
        self.w = nn.Param(rng.uniform(-1, 1, (n,)).astype(np.float32))
        self.u = nn.Param(rng.uniform(-1, 1, (n,)).astype(np.float32))
        self.h = nn.Buffer(np.zeros(n, np.float32))

    def forward(self, x):
        self.h = sh.tanh(self.w * x + self.u * self.h)
        return self.h


class Dropout(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        return sh.where(sh.random.bernoulli(0.5, x.shape), x * 2.0, 0.0)


class Norm(nn.Module):
    """Batch norm without the fine print: running mean of the batch's means."""

    def __init__(self, n=3):
        self.gamma = nn.Param(np.ones(n, np.float32))
        self.mean = nn.Buffer(np.zeros(n, np.float32))

    def forward(self, x):
        if not self.training:
            return (x - self.mean) * self.gamma
        m = x.mean(axis=0)
        self.mean = self.mean * 0.9 + m * 0.1
        return (x - m) * self.gamma


class Net(nn.Module):
    """All of them: stem, norm, dropout, a list of blocks, a counter."""

    def __init__(self, depth=2):
        self.stem = Dense(seed=2)
        self.norm = Norm()
        self.drop = Dropout()
        self.body = [Dense(seed=3 + k) for k in range(depth)]
        self.seen = Counter()

    def forward(self, x):
        x = self.seen(self.drop(self.norm(self.stem(x))))
        for layer in self.body:
            x = sh.tanh(layer(x))
        return x


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self):
        self.emb = Dense(seed=5)
        self.head = Dense(seed=6)
        self.head.weight = self.emb.weight

    def forward(self, x):
        return self.head(self.emb(x))


def loss_fn(net, x):
    y = net(x)
    return (y * y).mean()


def state_of(net):
    """Every cell's value by path, as NumPy."""
    return {path: cell.read().numpy() for path, cell in net.cells().items()}


def same(a, b, tol=1e-5):
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_allclose(a[path], b[path], rtol=tol, atol=tol, err_msg=path)
