"""`minigrad prescribe`: what helps a run? Each remedy is tried on forks of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .arguments import integer, number, size
from .output import say

ROWS, MEASURED = 32, 64  # sequences in a batch of a task of mg.lab: to train on, to measure on
RATE = 1e-3


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "prescribe",
        help="try what helps a run: forks of it, one for each remedy and seed",
        description="Forks a run for each remedy (clipping, another cell, ...), trains the "
        "forks on the same data, and says what lowered the loss in more seeds than chance "
        "would, or that nothing did. Without a task: lists tasks and remedies.",
        epilog="example: minigrad prescribe adding --cell rnn --seeds 4",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    # fmt: off
    option("task", nargs="?", metavar="TASK",
           help="of `minigrad train`, or adding, copy, latch, order; leave it out for the list")
    option("--cell", type=str.lower, metavar="CELL", help="as far as the task has a use for it")
    option("--hidden", type=size(), metavar="N", help="units (default: the task's)")
    option("--seed", type=integer(0), metavar="N", help="of the first run (default: 0)")
    option("--quick", action="store_true", help="of `minigrad train`: its smaller form")
    option("--from", dest="folder", type=Path, metavar="DIR",
           help="a run of `minigrad train` in DIR, where it stands, instead of new ones")
    option("--length", type=size(), metavar="T",
           help="of adding, copy, latch, order: the delay (default: 50)")
    option("--rate", type=number(0.0), metavar="X",
           help="of Adam (default: the task's; in DIR the run's)")
    option("--max-norm", type=number(0.0), metavar="X",
           help="gradients are clipped there (default: the task's; adding, ...: not)")
    option("--remedies", nargs="+", type=_remedy, metavar="NAME",
           help="only these (default: all that suit the net)")
    option("--updates", type=integer(1), default=200, metavar="N",
           help="of every fork (default: %(default)s)")
    option("--seeds", type=integer(1), default=8, metavar="N",
           help="forks for each remedy (default: %(default)s)")
    option("--seconds", type=number(0.0), default=60.0, metavar="S",
           help="budget for all of it; what it does not reach is listed (default: %(default)g)")
    option("--known", action="store_true",
           help="show what helped before: the table that reports take their advice from")
    # fmt: on


def _remedy(text: str) -> str:
    from ..errors import suggest
    from ..flow.prescribing.remedies import TABLE

    name = text.lower().replace("-", " ")
    if name not in TABLE:
        names = ", ".join(n.replace(" ", "-") for n in TABLE)
        raise argparse.ArgumentTypeError(
            f"there is no remedy {text!r}; {suggest(name, TABLE)}there are {names}"
        )
    return name


def run(args: argparse.Namespace) -> int:
    """Prints what helped."""
    from ..flow import prescribe
    from ..lab import tasks as lab

    if args.known:
        say(_known())
        return 0
    if args.task is None:
        say(_list())
        return 0
    what, arguments = (_of_lab if args.task in lab.TASKS else _of_train)(args)
    say(what, flush=True)
    found = prescribe(
        **arguments,
        remedies=args.remedies,
        updates=args.updates,
        seeds=args.seeds,
        seconds=args.seconds,
        progress=_progress(args.seeds),
    )
    say(f"\n{found}")
    return 0


def _progress(seeds: int) -> Callable[[str, int], None] | None:
    """A line that rewrites itself, on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        return None

    def told(name: str, seed: int) -> None:
        say(f"\r{name}: {seed + 1}/{seeds}".ljust(60), end="", file=sys.stderr, flush=True)

    return told


def _of_lab(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """New runs of a task of mg.lab: each seed draws first weights."""
    from ..lab.tasks import task
    from ..lab.trial import Network, Trial
    from ..optim import Adam
    from ..tasks import TaskError

    for option, given in (("--from", args.folder), ("--quick", args.quick)):
        if given:
            raise TaskError(f"{args.task}: {option} is of the tasks of `minigrad train`.")
    trial = Trial(
        args.task, args.cell or "lstm", length=args.length or 50, hidden=args.hidden or 64,
        seed=args.seed or 0, learning_rate=args.rate or RATE, max_norm=args.max_norm or 0.0,
    )  # fmt: skip
    work = task(trial.task, trial.length)
    draw, aside = (np.random.default_rng([trial.seed, k]) for k in (2, 3))
    what = (
        f"{trial.task}, {work.steps} steps; {trial.cell}, {trial.hidden} units; Adam at "
        f"{trial.learning_rate:g}. Always saying the same: {work.baseline:.3g}."
    )
    return what, {
        "model": lambda seed: Network(replace(trial, seed=trial.seed + seed), work),
        "loss": lambda model, batch: work.loss(model(batch[0]), batch[1]),
        "batches": (work.batch(draw, ROWS) for _ in range(args.updates)),
        "held": [work.batch(aside, MEASURED) for _ in range(4)],
        "optimizer": lambda parameters: Adam(parameters, trial.learning_rate),
        "max_norm": trial.max_norm or None,
    }


def _of_train(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Runs of a task on real data: one that was begun, where it stands, or new ones."""
    from .. import tasks

    if args.length:
        raise tasks.TaskError(f"{args.task}: --length is of adding, copy, latch and order.")
    kind = _find(args.task)
    asked = {name: getattr(args, name) for name in ("cell", "hidden", "seed")}
    begun, where, model, optimizer = (_new if args.folder is None else _begun)(kind, asked, args)
    settings = begun.settings
    what = f"{kind.name}, {kind.kind}; {settings.cell}, {settings.hidden} units; {where}."
    return what, {
        "model": model,
        "loss": begun.loss,
        "batches": begun.batches,
        "optimizer": optimizer,
        "max_norm": args.max_norm or kind.max_norm,
        "carry": kind.carry,
    }


def _new(kind: Any, asked: dict[str, Any], args: argparse.Namespace) -> tuple[Any, ...]:
    """(the task, in words, seed -> model, parameters -> optimiser)"""
    from ..optim import Adam

    settings = kind.choose(**asked, quick=args.quick)

    def model(seed: int) -> Any:
        return kind(replace(settings, seed=settings.seed + seed)).model

    def optimizer(parameters: Any) -> Adam:
        return Adam(parameters, args.rate or kind.rate)

    return kind(settings), "new runs", model, optimizer


def _begun(kind: Any, asked: dict[str, Any], args: argparse.Namespace) -> tuple[Any, ...]:
    """(the task, in words, the model where it stands, its optimiser)"""
    from ..tasks import running

    task = running.resume(kind, asked | {"quick": args.quick or None}, args.folder)
    updates, optimizer = running.standing(task, args.folder)
    if args.rate:
        optimizer.lr = args.rate
    return task, f"the run in {args.folder} after {updates:,} updates", task.model, optimizer


def _find(name: str) -> Any:
    """The task of `minigrad train`; TaskError names all tasks, those of mg.lab too."""
    from .. import tasks
    from ..errors import suggest
    from ..lab import tasks as lab

    if name not in tasks.TASKS:
        every = [*tasks.TASKS, *lab.TASKS]
        hint = suggest(name, every)
        raise tasks.TaskError(f"there is no task {name!r}; {hint}Tasks: {', '.join(every)}.")
    return tasks.find(name)


def _list() -> str:
    from ..flow.prescribing.remedies import TABLE
    from ..lab import tasks as lab
    from ..tasks import TASKS

    return (
        f"Tasks: {', '.join([*lab.TASKS, *TASKS])}.\n"
        f"Remedies: {', '.join(name.replace(' ', '-') for name in TABLE)}."
    )


def _known() -> str:
    from ..flow.prescribing import known
    from ..flow.tables import table

    stored = known.about()
    pairs = dict.fromkeys((row["cause"], row["cell"]) for row in stored["rows"])
    lines = [
        (row.cause, row.cell, row.remedy, f"{row.lower} of {row.pairs}", f"{row.ratio:.2f}",
         "helps" if row.helps else "")
        for pair in pairs for row in known.rows(*pair)
    ]  # fmt: skip
    head = ("cause", "cell", "remedy", "lower", "loss", "")
    return (
        f"{table(head, lines, right=(3, 4))}\n\n"
        f"lower: pairs of runs of a seed in which the loss is lower with the remedy; loss: with it "
        f"over without it, the median.\nMade by `{stored['command']}`: {stored['settings']}"
    )
