"""PyTorch's answers, run by an interpreter that has it: ``torch_reference.py REQUEST.npz ANSWER.npz FOLDER_OF_torch_networks``.

The request holds, by case, ``CASE|w|NAME`` (weights by our names, channels last), ``CASE|x`` and ``CASE|y``. The answer holds for
float64 and float32 ``CASE|DTYPE|output``, ``loss``, ``eval`` and ``grad|NAME``, ``state|NAME``, laid out as ours."""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def last(t):
    a = t.detach().numpy()
    return np.ascontiguousarray(np.moveaxis(a, 1, -1)) if a.ndim == 4 else a


def first(a):
    return np.ascontiguousarray(np.moveaxis(a, -1, 1)) if a.ndim == 4 else a


class Layer(nn.Module):
    """PyTorch's own encoder layer, to be compared under its names."""

    def __init__(self, norm_first):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first)

    def forward(self, x):
        return self.layer(x)


def made(case, networks):
    if case.startswith("layer"):
        return Layer(case == "layer norm first")
    return networks.build(case)[0]


def answers(case, weights, x, y, dtype, networks):
    net = made(case, networks).to(dtype)
    networks.load(net, {k: w.astype(np.float64 if dtype == torch.float64 else np.float32) for k, w in weights.items()})
    x = torch.from_numpy(first(x)).to(dtype)
    net.train()
    out = net(x)
    loss = F.cross_entropy(out, torch.from_numpy(y)) if out.ndim == 2 else (out * out).mean()
    loss.backward()
    found = {"output": last(out), "loss": loss.detach().numpy()}
    found |= {f"grad|{k}": last(p.grad) for k, p in net.named_parameters()}
    found |= {f"state|{k}": last(b) for k, b in net.named_buffers() if not k.endswith("num_batches_tracked")}
    net.eval()
    with torch.no_grad():
        found["eval"] = last(net(x))
    return found


def main():
    sys.path.insert(0, sys.argv[3])
    import torch_networks as networks

    torch.set_num_threads(1)
    request, answer = np.load(sys.argv[1]), {}
    for case in {k.split("|")[0] for k in request.files}:
        weights = {k.split("|")[2]: request[k] for k in request.files if k.startswith(f"{case}|w|")}
        for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
            for k, v in answers(case, weights, request[f"{case}|x"], request[f"{case}|y"], dtype, networks).items():
                answer[f"{case}|{name}|{k}"] = v
    np.savez(sys.argv[2], **answer)


if __name__ == "__main__":
    main()
