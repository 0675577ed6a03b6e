"""Weights of few values, after training and trained, on one of the demo's networks: ``python bench/tables.py NET.safetensors
resnet8 2 1 12800 1`` (a float network that ``sh.save`` wrote, its name, bits of a number, weights of an entry, training images, epochs).
Where an entry's weights do not divide a layer's innermost dim, the layer has values of 2 bits."""

import sys

import shohin as sh
from shohin import nn, optim
from shohin.cli.demo_job import Config, tasks
from shohin.compress import DKM, FisherPalettize, Palettize, Plan


def main() -> None:
    path, name, bits, dim, images, epochs = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
    task = tasks(Config())[0][name]
    sh.load(path, into=task.model)
    data, steps, calibration = task.train.take(images), images // 64 * epochs, task.train.take(256)
    right = lambda net: 100 * float(sh.evaluate(net, task.test, nn.accuracy))
    print(f"{name} float: {right(task.model):.2f}", flush=True)
    shapes = {place: m.weight.shape for place, m in task.model.modules().items() if hasattr(m, "weight")}
    odd = [place for place, shape in shapes.items() if len(shape) > 1 and shape[-1] % dim]
    for method in (Palettize, FisherPalettize, DKM):
        rule = method(bits=bits, dim=dim)
        net = Plan([("*", rule), *((place, method(bits=2)) for place in odd)]).apply(task.model, calibration=calibration)
        before = right(net)
        sh.fit(net, task.loss_fn, data, optim.adamw(1e-3, weight_decay=0.0).init(net), epochs, schedule=optim.cosine(1e-3, steps), progress=False)
        print(f"{rule!r:75} {before:.2f} trained {right(net):.2f}", flush=True)


if __name__ == "__main__":
    main()
