"""The command line: ``shohin demo`` and its fellows. Every command prints plain text where it is not a terminal.

Exit codes: 0 all is well; 1 an error that was named; 2 wrong usage; 3 nothing meets the budget.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shohin.cli import demo_job, machine
from shohin.cli import profile as profile_job
from shohin.core.errors import BudgetError, ShohinError
from shohin.deploy.budget import Budget

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Networks that live on a device: train, compress, ship, and believe the numbers.")  # fmt: skip
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def _guarded(job: Callable[[], Any]) -> None:
    """Errors that Shohin names are printed without a traceback."""
    try:
        job()
    except BudgetError as error:
        console.print(f"[bold]nothing meets the budget:[/bold] {error}", markup=True)
        raise typer.Exit(3) from error
    except ShohinError as error:
        console.print(f"[bold red]error:[/bold red] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("stopped; the same command goes on after the last finished epoch")
        raise typer.Exit(130) from error


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="A small run of every part, in minutes; its table claims nothing.")] = False,
    device: Annotated[str, typer.Option(help="The device that the candidates are exported for.")] = "cortex-m55",
    flash: Annotated[str, typer.Option(help="Flash budget, as 128kB (1 kB = 1,000 bytes).")] = "128kB",
    ram: Annotated[str, typer.Option(help="RAM budget.")] = "96kB",
    run: Annotated[Path, typer.Option(help="Folder of this run; the same folder goes on where it was.")] = Path("runs/demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew, whatever the folder holds.")] = False,
) -> None:
    """Train two networks on Fashion-MNIST, quantize them, run them on the host and on an emulated board, and report."""
    folder = run if not quick or str(run) != "runs/demo" else Path("runs/quick")
    _guarded(lambda: demo_job.run(demo_job.Config(quick=quick, device=device, budget=Budget(flash=flash, ram=ram), folder=folder, fresh=fresh), console))


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
def devices() -> None:
    """The devices that networks are exported for."""
    _guarded(lambda: machine.devices(console))


@app.command()
def doctor() -> None:
    """What this machine can build and run, and how to get what is missing."""
    _guarded(lambda: machine.doctor(console))


__all__ = ["app"]
