"""Plain NumPy, in loops where that is clearest: what layers must compute. float64 throughout."""

import math

import numpy as np


def pairs(v):
    return (v, v) if isinstance(v, int) else v


def conv2d(x, w, b, stride=1, padding=0, dilation=1, groups=1):
    (sh, sw), (ph, pw), (dh, dw) = pairs(stride), pairs(padding), pairs(dilation)
    n, h, wd, _ = x.shape
    out, kh, kw, per = w.shape
    x = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    oh, ow = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (wd + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, oh, ow, out))
    for o in range(out):
        g = o // (out // groups)
        for i in range(oh):
            for j in range(ow):
                box = x[:, i * sh : i * sh + dh * kh : dh, j * sw : j * sw + dw * kw : dw, g * per : (g + 1) * per]
                y[:, i, j, o] = (box[:, :kh, :kw] * w[o]).sum((1, 2, 3))
    return y if b is None else y + b


def pool2d(x, k, stride, how):
    n, h, w, c = x.shape
    oh, ow = (h - k) // stride + 1, (w - k) // stride + 1
    y = np.zeros((n, oh, ow, c))
    for i in range(oh):
        for j in range(ow):
            y[:, i, j] = how(x[:, i * stride : i * stride + k, j * stride : j * stride + k], axis=(1, 2))
    return y


def norm(x, axis, eps):
    mean = x.mean(axis, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis, keepdims=True) + eps)


def group_norm(x, groups, eps):
    n, c = x.shape[0], x.shape[-1]
    y = np.empty_like(x)
    for k in range(n):
        for g in range(groups):
            part = np.s_[k, ..., g * (c // groups) : (g + 1) * (c // groups)]
            y[part] = norm(x[part], None, eps)
    return y


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, allowed=None):
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    return softmax(s if allowed is None else np.where(allowed, s, -np.inf)) @ v


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, h, w_ih, w_hh, b_ih, b_hh):
    ys = []
    for t in range(x.shape[1]):
        u, v = x[:, t] @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        (ur, uz, un), (vr, vz, vn) = np.split(u, 3, -1), np.split(v, 3, -1)
        r, z = sigmoid(ur + vr), sigmoid(uz + vz)
        n = np.tanh(un + r * vn)
        h = (1 - z) * n + z * h
        ys.append(h)
    return np.stack(ys, 1), h


def lstm(x, h, c, w_ih, w_hh, b_ih, b_hh):
    ys = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
    return np.stack(ys, 1), h, c


def cross_entropy(x, y, smoothing=0.0):
    logp = np.log(softmax(x))
    target = np.full_like(x, smoothing / x.shape[-1])
    target[np.arange(len(y)), y] += 1 - smoothing
    return -(target * logp).sum(-1)


def gelu(x):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)
