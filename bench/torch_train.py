"""PyTorch's training step, run by the peers' interpreter: ``torch_train.py NETWORK BATCH THREADS MODE``.

Modes: eager, channels_last, compile (on channels_last). Says hello with its version, then answers ``{"count": n}`` with
milliseconds, and ``{"memory": true}`` with the growth of its peak resident memory since a step of a tiny network."""

import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch_networks import build

CLOCK = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter


def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key))


def warm_up():
    """A step of a tiny network, so that libraries are in memory before the baseline is read."""
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, groups=8))
    opt = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    F.cross_entropy(torch.nn.Linear(8, 3)(net(torch.randn(2, 4, 8, 8)).mean((2, 3))), torch.tensor([0, 1])).backward()
    opt.step()


def main():
    name, batch, threads, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    warm_up()
    before = status("VmRSS")
    net, shape, classes = build(name)
    x, y = torch.randn(batch, *shape), torch.randint(0, classes, (batch,))
    if mode != "eager" and len(shape) == 3:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    opt = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    loss_of = lambda x, y: F.cross_entropy(net(x), y)
    if mode == "compile":
        loss_of = torch.compile(loss_of)

    def step():
        opt.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        opt.step()
        return loss.item()

    start = time.perf_counter()
    step()
    print(json.dumps({"torch": torch.__version__, "first_s": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "memory" in request:
            print(json.dumps({"bytes": status("VmHWM") - before}), flush=True)
            continue
        ms = []
        for _ in range(request["count"]):
            start = CLOCK()
            step()
            ms.append(1e3 * (CLOCK() - start))
        print(json.dumps({"ms": ms}), flush=True)


if __name__ == "__main__":
    main()
