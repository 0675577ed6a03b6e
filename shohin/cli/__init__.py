"""The command line: ``shohin demo`` and its fellows. Every command prints plain text where it is not a terminal.

Exit codes: 0 all is well; 1 an error that was named; 2 wrong usage; 3 nothing meets the budget.
"""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shohin.cli import compress_bench, demo_all, demo_job, diff_job, machine, search_job, ship_job
from shohin.cli import profile as profile_job
from shohin.cli.network_file import KINDS
from shohin.core.errors import BudgetError, ShohinError
from shohin.deploy.budget import Budget
from shohin.nn.models import NETWORKS
from shohin.search.named import STRATEGIES

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Networks that live on a device: train, compress, ship, and believe the numbers.")  # fmt: skip
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _guarded(job: Callable[[], Any], *, json: bool = False) -> None:
    """Errors that Shohin names are printed without a traceback; with ``json`` as ``{"error": ..., "kind": ...}``, unless the
    result that names them is printed already."""
    try:
        job()
    except BudgetError as error:
        if not json:
            console.print("nothing meets the budget:", style="bold", end=" ")
            console.print(str(error), soft_wrap=True, markup=False)
        raise typer.Exit(3) from error
    except ShohinError as error:
        if json:
            print(json_text.dumps({"error": str(error), "kind": type(error).__name__}))
        else:
            console.print("error:", style="bold red", end=" ")
            console.print(str(error), soft_wrap=True, markup=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("stopped; the same command goes on after the last finished epoch or candidate")
        raise typer.Exit(130) from error


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="A small run of every part, in minutes; its table claims nothing.")] = False,
    device: Annotated[str, typer.Option(help="The device that the candidates are exported for.")] = "cortex-m55",
    flash: Annotated[str, typer.Option(help="Flash budget, as 128kB (1 kB = 1,000 bytes).")] = "128kB",
    ram: Annotated[str, typer.Option(help="RAM budget.")] = "96kB",
    run: Annotated[Path, typer.Option(help="Folder of this run; the same folder goes on where it was.")] = Path("runs/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the folder holds.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every method of compression on both networks, one report.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="With --all: training under each method.")] = 2,
) -> None:
    """Train two networks on Fashion-MNIST, quantize them, run them on the host and on an emulated board, and report."""
    folder = run if not quick or str(run) != "runs/demo" else Path("runs/quick")

    def job() -> None:
        config = demo_job.Config(quick=quick, device=device, budget=Budget(flash=flash, ram=ram), folder=folder, fresh=fresh)
        if all:
            demo_all.run(config, console, epochs=epochs)
        else:
            demo_job.run(config, console)

    _guarded(job)


@app.command()
def profile(
    task: Annotated[Path, typer.Argument(help="A Python file that sets task = sh.Task(model, train, test, loss, metric).")],
    inference: Annotated[bool, typer.Option("--inference", help="The network in evaluation mode instead of the training step.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Examples at once.")] = 32,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default all processors.")] = None,
    by: Annotated[str, typer.Option(help="What rows are: step, kernel, layer, or several with commas.")] = "step,kernel",
    top: Annotated[int, typer.Option(min=1, help="How many rows of each.")] = 25,
    repeats: Annotated[int, typer.Option(min=1, help="Runs; medians are shown.")] = 20,
    json: Annotated[Path | None, typer.Option(help="Write all steps to this file.")] = None,
) -> None:
    """Where the time goes: by kernel and place, FLOP, bytes, fraction of the roofline."""
    views = tuple(v.strip() for v in by.split(","))
    config = profile_job.Config(inference=inference, batch=batch, threads=threads, by=views, top=top, repeats=repeats, json=json)
    _guarded(lambda: profile_job.run(task, config, console))


@app.command()
def ship(
    model: Annotated[Path, typer.Argument(help=f"The float network: {KINDS}.")],
    data: Annotated[Path | None, typer.Option(help="Inputs: a folder (subfolders are labels), .npy, .npz, or images. A task brings its own.")] = None,
    device: Annotated[str, typer.Option(help="The device (shohin devices).")] = "cortex-m55",
    flash: Annotated[str | None, typer.Option(help="Flash budget, as 128kB (1 kB = 1,000 bytes).")] = None,
    ram: Annotated[str | None, typer.Option(help="RAM budget.")] = None,
    finetune: Annotated[int, typer.Option(min=0, help="Epochs of training with the integers' rounding; needs labels.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the shipment; the same command goes on where it was.")] = Path("shipped"),
    shape: Annotated[str | None, typer.Option(help="Shape of one example, as 3,224,224, where the network leaves it open.")] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Fit images of other sizes instead of refusing them.")] = False,
    mean: Annotated[str | None, typer.Option(help="Of pixels in [0, 1], one or one a channel: (pixel - mean) / std.")] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
    limit: Annotated[int, typer.Option(min=2, help="Most files read, evenly spread.")] = 2000,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever shipment the folder holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")] = False,
) -> None:
    """Quantize a network, fit it to a device, and believe the numbers: all are those of what is shipped."""
    config = ship_job.Config(model=model, data=data, device=device, flash=flash, ram=ram, finetune=finetune, out=out, shape=shape, resize=resize,
                             mean=mean, std=std, limit=limit, fresh=fresh, json=json)  # fmt: skip
    _guarded(lambda: ship_job.run(config, console), json=json)


@app.command()
def compress(
    model: Annotated[Path, typer.Argument(help=f"The float network: {KINDS}.")],
    plan: Annotated[list[Path] | None, typer.Option(help="A plan as TOML; give several to compare them.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="A rule of a plan, as '*: Quantize(w=4)' or '@Conv2d: Prune(sparsity=0.5)'; several make one plan.")] = None,
    data: Annotated[Path | None, typer.Option(help="Inputs: a folder (subfolders are labels), .npy, .npz, or images. A task brings its own.")] = None,
    device: Annotated[str, typer.Option(help="The device (shohin devices).")] = "cortex-m55",
    flash: Annotated[str | None, typer.Option(help="Flash budget, as 128kB (1 kB = 1,000 bytes).")] = None,
    ram: Annotated[str | None, typer.Option(help="RAM budget.")] = None,
    finetune: Annotated[int, typer.Option(min=0, help="Epochs of training under each plan; needs labels.")] = 0,
    distill: Annotated[float, typer.Option(min=0, max=1, help="Share of the loss, in training, that asks to answer like the float network.")] = 0.0,
    out: Annotated[Path, typer.Option(help="Folder of the result; the same command goes on where it was.")] = Path("compressed"),
    shape: Annotated[str | None, typer.Option(help="Shape of one example, as 3,224,224, where the network leaves it open.")] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Fit images of other sizes instead of refusing them.")] = False,
    mean: Annotated[str | None, typer.Option(help="Of pixels in [0, 1], one or one a channel: (pixel - mean) / std.")] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
    limit: Annotated[int, typer.Option(min=2, help="Most files read, evenly spread.")] = 2000,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever the folder holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")] = False,
) -> None:
    """Apply plans of one's own to a network, and compare what they make: measured on the artefacts, with a report."""
    config = ship_job.Config(model=model, data=data, device=device, flash=flash, ram=ram, finetune=finetune, out=out, shape=shape, resize=resize,
                             mean=mean, std=std, limit=limit, fresh=fresh, json=json, planned=True, plans=tuple(plan or ()), rules=tuple(rule or ()),
                             distill=distill)  # fmt: skip
    _guarded(lambda: ship_job.run(config, console), json=json)


@app.command()
def search(
    task: Annotated[Path, typer.Argument(help="A Python file that sets task = sh.Task(...) and has build(t), perhaps score(net).")],
    device: Annotated[str, typer.Option(help="The device (shohin devices).")] = "cortex-m55",
    flash: Annotated[str | None, typer.Option(help="Flash budget, as 32kB (1 kB = 1,000 bytes).")] = None,
    ram: Annotated[str | None, typer.Option(help="RAM budget.")] = None,
    instructions: Annotated[float | None, typer.Option(help="Instructions an inference, as 20e6.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many candidates; more of them go on where fewer ended.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Training of a candidate, where the file has no score.")] = 1,
    rate: Annotated[float, typer.Option(help="Its highest learning rate.")] = 3e-3,
    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = "evolution",
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that try candidates at once.")] = 1,
    cluster: Annotated[str | None, typer.Option(help="ray: the workers are spread over a Ray cluster.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the search; the same command goes on where it was.")] = Path("searched"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever search the folder holds; its log is kept.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")] = False,
) -> None:
    """Try what build(t) can be, keep what fits the device, and show the front as it grows."""
    def job() -> None:
        config = search_job.Config(task=task, device=device, budget=Budget(flash=flash, ram=ram, instructions=instructions), trials=trials, epochs=epochs, rate=rate,
                                   strategy=strategy, seed=seed, workers=workers, cluster=cluster, out=out, fresh=fresh, json=json)  # fmt: skip
        search_job.run(config, console)

    _guarded(job, json=json)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help=f"{diff_job.WAYS[0].upper()}{diff_job.WAYS[1:]}.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    x: Annotated[Path, typer.Argument(help="Inputs: .npy (n, ...), .npz, or a folder.")],
    shape: Annotated[str | None, typer.Option(help="Shape of one example, for images and networks that leave it open.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most examples.")] = 16,
    json: Annotated[bool, typer.Option("--json", help="The rows as JSON on stdout.")] = False,
) -> None:
    """Where two ways to run a network part first, and the signal to noise at every place that they share."""
    config = diff_job.Config(a=a, b=b, x=x, shape=shape, limit=limit, json=json)
    _guarded(lambda: diff_job.run(config, console), json=json)


@app.command()
def devices(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """The devices that networks are exported for."""
    _guarded(lambda: machine.devices(console, json=json), json=json)


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """What this machine can build and run, and how to get what is missing."""
    _guarded(lambda: machine.doctor(console, json=json), json=json)


bench = typer.Typer(no_args_is_help=True, help="Benchmarks that say more than one run does.")
app.add_typer(bench, name="bench")


@bench.command(name="compress")
def bench_compress(
    task: Annotated[list[str] | None, typer.Argument(help="Task files, or fashion-mnist (the default) with the demo's networks.")] = None,
    network: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(NETWORKS)}; several.")] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Names of plans (one a method by default); several.")] = None,
    budget: Annotated[list[float] | None, typer.Option(help="Fractions of the float artefact's flash; 1 is no budget; several.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds; intervals are over them; several.")] = None,
    track: Annotated[list[str] | None, typer.Option(help="closed: calibration alone; open: with training; both by default.")] = None,
    device: Annotated[str, typer.Option(help="The device that artefacts are for.")] = "cortex-m55",
    float_epochs: Annotated[int, typer.Option(min=1, help="Training of the float networks.")] = 10,
    epochs: Annotated[int, typer.Option(min=1, help="Training under a plan, on the open track.")] = 2,
    images: Annotated[int, typer.Option(min=0, help="Only so many images of fashion-mnist; 0 is all.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the rows; the same command goes on where it was.")] = Path("runs/bench-compress"),
) -> None:
    """Methods of compression beside each other: task x network x plan x budget x seed; CSV and pictures with intervals."""
    config = compress_bench.Config(tasks=tuple(task or (compress_bench.FASHION,)), networks=tuple(network or NETWORKS), plans=tuple(plan or ()), budgets=tuple(budget or (1.0,)),
                                   seeds=tuple(seed or (0,)), tracks=tuple(track or compress_bench.TRACKS), device=device, float_epochs=float_epochs, epochs=epochs,
                                   images=images, workers=workers, folder=out)  # fmt: skip
    _guarded(lambda: compress_bench.run(config, console))


__all__ = ["app"]
