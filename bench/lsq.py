"""Learned steps against min-max steps at few bits, on one of the demo's networks: ``python bench/lsq.py NET.safetensors ds-cnn 2 20000 1``
(a float network that ``sh.save`` wrote, its name, bits of weights, training images, epochs)."""

import sys

import shohin as sh
from shohin import nn, optim
from shohin.cli.demo_job import Config, tasks
from shohin.compress import Plan, Quantize


def main() -> None:
    path, name, bits, images, epochs = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    task = tasks(Config())[0][name]
    sh.load(path, into=task.model)
    data, steps = task.train.take(images), images // 64 * epochs
    print(name, "float", float(sh.evaluate(task.model, task.test, nn.accuracy)), flush=True)
    for rule in (Quantize(w=bits), Quantize(w=bits, learn=True), Quantize(w=bits, calibrate="mse", learn=True)):
        net = Plan([("*", rule)]).apply(task.model, calibration=task.train.take(256))
        opt = optim.adamw(1e-3, weight_decay=0.0).init(net)
        sh.fit(net, task.loss_fn, data, opt, epochs, schedule=optim.cosine(1e-3, steps), progress=False)
        print(f"{rule.scheme:60} {float(sh.evaluate(net, task.test, nn.accuracy)):.4f}", flush=True)


if __name__ == "__main__":
    main()
