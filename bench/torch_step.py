"""PyTorch's side of ``train_step``: run by the peers' interpreter; reads `NETWORK STEPS` lines, answers milliseconds."""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class DSCNN(nn.Module):
    def __init__(self, c=64):
        super().__init__()
        layers = [nn.Conv2d(1, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(c, c, 3, 1, 1, groups=c, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
            layers += [nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(c, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.a, self.b = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.c, self.d = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.s = nn.Conv2d(i, o, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.d(self.c(F.relu(self.b(self.a(x))))) + self.s(x))


class ResNet8(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    print(torch.__version__, flush=True)
    steps = {}
    for name, build in (("resnet8", ResNet8), ("ds-cnn", DSCNN)):
        net = build().to(memory_format=torch.channels_last)
        opt = torch.optim.AdamW(net.parameters(), 1e-3)
        x = torch.randn(64, 1, 28, 28).to(memory_format=torch.channels_last)
        y = torch.randint(0, 10, (64,))

        def step(net=net, opt=opt, x=x, y=y):
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()

        steps[name] = step
    for line in sys.stdin:
        name, count = line.split()
        times = []
        for _ in range(int(count)):
            start = time.perf_counter()
            steps[name]()
            times.append(1e3 * (time.perf_counter() - start))
        print(*times, flush=True)


if __name__ == "__main__":
    main()
