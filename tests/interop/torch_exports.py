"""Networks as PyTorch exports them, run by an interpreter that has it: ``torch_exports.py FOLDER`` writes ``NAME-WAY.onnx`` for each of
``NETS`` and both of its exporters, with random weights, norms' statistics included."""

import sys
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    def __init__(self, c, d, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, d, 3, stride, 1, bias=False), nn.BatchNorm2d(d)
        self.conv2, self.bn2 = nn.Conv2d(d, d, 3, 1, 1, bias=False), nn.BatchNorm2d(d)
        self.down = nn.Sequential(nn.Conv2d(c, d, 1, stride, bias=False), nn.BatchNorm2d(d)) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.down(x))


class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c // 4, 1), nn.ReLU(), nn.Conv2d(c // 4, c, 1), nn.Hardsigmoid())

    def forward(self, x):
        return x * self.layers(x)


class Pooled(nn.Module):
    """Layers, the mean over positions, a linear layer."""

    def __init__(self, c, *layers):
        super().__init__()
        self.body, self.head = nn.Sequential(*layers), nn.Linear(c, 5)

    def forward(self, x):
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.body(x), 1), 1))


class Flat(nn.Module):
    """As VGG: flattened over positions, then linear layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(8, 12, 3), nn.Mish(), nn.AvgPool2d(3, 2, 1))
        self.classifier = nn.Sequential(nn.Linear(12 * 7 * 7, 20), nn.ReLU6(), nn.Dropout(), nn.Linear(20, 4))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class Tokens(nn.Module):
    """A small vision transformer."""

    def __init__(self):
        super().__init__()
        self.patch, self.pos, self.cls = nn.Conv2d(3, 32, 8, 8), nn.Parameter(torch.randn(1, 17, 32)), nn.Parameter(torch.randn(1, 1, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True, norm_first=True)
        self.enc, self.norm, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.LayerNorm(32), nn.Linear(32, 7)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.enc(x))[:, 0])


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        p, q = self.a(x).chunk(2, 1)
        x = torch.cat([p, self.b(q)], 1)
        n, c, h, w = x.shape
        return self.c(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class Hourglass(nn.Module):
    """Down and up again, with the norms, paddings and resizings that such networks have."""

    def __init__(self):
        super().__init__()
        self.a, self.inorm, self.prelu = nn.Conv2d(3, 8, 3, 1, 1), nn.InstanceNorm2d(8, affine=True), nn.PReLU(8)
        self.down, self.up = nn.Conv2d(8, 16, 3, 2, 1), nn.ConvTranspose2d(16, 8, 2, 2)
        self.mix, self.gnorm, self.out = nn.Conv2d(16, 8, 3, 1, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.prelu(self.inorm(self.a(x)))
        d = F.leaky_relu(self.down(F.pad(a, (1, 1, 1, 1), mode="reflect")))[:, :, :16, :16]
        u = self.up(F.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False))[:, :, :32, :32]
        return torch.sigmoid(self.out(self.gnorm(F.elu(self.mix(torch.cat([a, u], 1))))))


class Modern(nn.Module):
    """A block of a ConvNeXt: a layer norm over channels last."""

    def __init__(self):
        super().__init__()
        self.stem, self.dw, self.norm = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16)
        self.p, self.q, self.scale, self.out = nn.Linear(16, 32), nn.Linear(32, 16), nn.Parameter(torch.randn(16)), nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.q(F.gelu(self.p(self.norm(self.dw(x).permute(0, 2, 3, 1))))) * self.scale
        return self.out((x + y.permute(0, 3, 1, 2)).mean((-2, -1)))


class Series(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Linear(6, 8), getattr(nn, kind)(8, 12, 2, batch_first=True, bidirectional=True), nn.Linear(24, 3)

    def forward(self, x):
        return self.out(self.rnn(self.embed(x))[0][:, -1])


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.conv = nn.Embedding(50, 16), nn.Conv1d(16, 24, 3, padding=1)
        self.attention, self.norm, self.out = nn.MultiheadAttention(24, 4, batch_first=True), nn.LayerNorm(24), nn.Linear(24, 4)

    def forward(self, i):
        x = F.gelu(self.conv(self.embed(i).transpose(1, 2)), approximate="tanh").transpose(1, 2)
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.out(self.norm(x + y).amax(1)).log_softmax(-1)


def mobile():
    return Pooled(
        24, nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(), nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16),
        nn.ReLU(), Gate(16), nn.Conv2d(16, 24, 1), nn.Hardswish(), nn.Conv2d(24, 24, 5, 2, 2, groups=24), nn.SiLU(),
    )  # fmt: skip


def residual():
    return Pooled(32, nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Residual(16, 16, 1), Residual(16, 32, 2))


IMAGE, SERIES = (3, 32, 32), (9, 6)
NETS = {
    "residual": (residual, IMAGE), "mobile": (mobile, IMAGE), "flat": (Flat, IMAGE), "tokens": (Tokens, IMAGE), "shuffle": (Shuffle, IMAGE),
    "hourglass": (Hourglass, IMAGE), "modern": (Modern, IMAGE), "lstm": (lambda: Series("LSTM"), SERIES), "gru": (lambda: Series("GRU"), SERIES),
    "rnn": (lambda: Series("RNN"), SERIES), "words": (Words, (11,)),
}  # fmt: skip


def main(folder):
    warnings.filterwarnings("ignore")
    for name, (build, shape) in NETS.items():
        torch.manual_seed(0)
        net = build().eval()
        with torch.no_grad():
            for p in net.parameters():  # no two alike, or the exporter makes them one
                p.add_(0.1 * torch.randn_like(p))
            for m in net.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.running_mean.normal_(), m.running_var.uniform_(0.5, 2)
        x = torch.randint(0, 50, (2, *shape)) if name == "words" else torch.randn(2, *shape)
        script, dynamo = (str(Path(folder, f"{name}-{way}.onnx")) for way in ("script", "dynamo"))
        torch.onnx.export(net, (x,), script, input_names=["x"], dynamo=False, opset_version=17, dynamic_axes={"x": {0: "batch"}})
        torch.onnx.export(net, (x,), dynamo, input_names=["x"], dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)


if __name__ == "__main__":
    main(sys.argv[1])
