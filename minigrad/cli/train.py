"""`minigrad train TASK` and `minigrad eval TASK CHECKPOINT`: the tasks on real data."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from .arguments import integer, number, size
from .output import say

OPTIONS = ("cell", "hidden", "epochs", "seed", "merge", "series")


def add(commands: Any) -> None:
    """Declares the two commands and their arguments."""
    _add_train(commands)
    _add_eval(commands)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train one of the tasks on real data, beside its baselines",
        description="Trains a recurrent net on real data and prints its metric on unseen data "
        "beside what needs no network. Stopped or killed at any moment, --resume goes on to the "
        "same bits. Without a task: lists them.",
        epilog="example: minigrad train names --cell gru --quick --out names",
    )
    parser.set_defaults(run=run_train)
    option = parser.add_argument
    # fmt: off
    option("task", nargs="?", metavar="TASK", help="what to learn; leave it out for the list")
    option("--cell", type=str.lower, metavar="CELL",
           help="rnn, lstm, gru or bilstm, as far as the task has a use for it")
    option("--hidden", type=size(), metavar="N", help="units (default: the task's)")
    option("--merge", choices=("concat", "sum", "mean", "mul"),
           help="how the two directions of a BiLSTM become one (default: concat)")
    option("--series", metavar="NAME", help="which series the task forecast learns")
    option("--epochs", type=integer(1), metavar="N", help="passes over the data")
    option("--seed", type=integer(0), metavar="N", help="of weights and order (default: 0)")
    option("--quick", action="store_true", help="smaller and shorter: under 20 s")
    option("--out", type=Path, metavar="DIR",
           help="new folder for model, log and result (default: minigrad-TASK, or -2, -3, ...)")
    option("--resume", action="store_true", help="go on with the run in DIR")
    option("--compare", action="store_true",
           help="train every cell at equal parameters, a BiLSTM for every merge, and compare")
    option("--runs", type=integer(1), metavar="N",
           help="with --compare: seeds for each cell (default: 3)")
    _sampling(option)
    # fmt: on


def _add_eval(commands: Any) -> None:
    parser = commands.add_parser(
        "eval",
        help="evaluate what `minigrad train` stored",
        description="Prints the metric of a stored model again, beside its baselines; with --text "
        "or --sample what the model makes of your own input instead.",
        epilog="example: minigrad eval names names --sample 5",
    )
    parser.set_defaults(run=run_eval)
    option = parser.add_argument
    # fmt: off
    option("task", metavar="TASK", help="the task that was trained")
    option("checkpoint", type=Path, metavar="CHECKPOINT", help="its model.ckpt, or their folder")
    option("--text", metavar="TEXT",
           help="your own input: what to read, or how a sample begins")
    option("--seed", type=integer(0), metavar="N", help="of the samples (default: 0)")
    _sampling(option)
    # fmt: on


def _sampling(option: Any) -> None:
    # fmt: off
    option("--sample", type=integer(1), metavar="N", help="print N texts drawn from the model")
    option("--temperature", type=number(0.0), default=0.8, metavar="X",
           help="of samples: below 1 bolder, above 1 more varied (default: %(default)s)")
    option("--top-k", type=integer(1), metavar="K",
           help="draw only among the K most probable symbols")
    # fmt: on


def run_train(args: argparse.Namespace) -> int:
    """Trains, prints the table, writes the folder."""
    from .. import tasks
    from ..flow.results import free_name
    from ..tape import no_grad
    from ..tasks import running

    if args.task is None:
        say(_list())
        return 0
    kind = tasks.find(args.task)
    _check_sampling(kind, args)
    asked = {name: getattr(args, name) for name in OPTIONS}
    if args.compare:
        return _compare(kind, args, asked)
    if args.runs:
        raise tasks.TaskError(f"{kind.name}: --runs goes with --compare.")
    if args.resume:
        out = args.out or Path(f"minigrad-{kind.name}")
        task = running.resume(kind, asked | {"quick": args.quick or None}, out)
    else:
        out = args.out or free_name(Path(f"minigrad-{kind.name}"))
        task = running.start(kind, kind.choose(**asked, quick=args.quick), out)
    started = time.perf_counter()
    settings = task.settings
    say(f"{kind.name}, {kind.kind}. {task.about()}")
    say(
        f"{settings.cell}, {settings.hidden} units, {task.parameters():,} parameters; "
        f"{settings.epochs} epochs, seed {settings.seed}.",
        flush=True,
    )
    try:
        result = running.train(task, out)
    except KeyboardInterrupt:
        again = shlex.join(["minigrad", "train", kind.name, "--out", str(out), "--resume"])
        say(f"\nminigrad train: stopped; go on with `{again}`", file=sys.stderr)
        return 130
    say(f"\n{running.summary(task, result)}")
    if not result.beaten:
        say("It does not beat its baselines.")
    with no_grad():
        _show(task.examples())
        if args.sample:
            _show(_samples(task, args, ""))
        names = [running.MODEL, running.LOG, running.RESULT, *_drawn(task, out)]
    say(f"\nWrote {', '.join(names)} to {out} in {time.perf_counter() - started:.1f} s.")
    return 0


def _compare(kind: Any, args: argparse.Namespace, asked: dict[str, Any]) -> int:
    """Trains every cell, prints the table, writes comparison.json."""
    from ..flow.results import free_name
    from ..tasks import TaskError, comparing, running

    for option in ("resume", "cell", "merge", "sample"):
        if getattr(args, option):
            raise TaskError(f"{kind.name}: --compare trains every cell; it takes no --{option}.")
    comparing.check(kind)
    settings = kind.choose(**asked, quick=args.quick)
    out, runs = args.out or free_name(Path(f"minigrad-{kind.name}-cells")), args.runs or 3
    running.check_new(out)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    say(f"{kind.name}: {kind.metric} on the test part, {runs} seeds.", flush=True)

    def told(row: Any) -> None:
        seconds = time.perf_counter() - started
        say(f"  {row.name}: {kind.shown(sum(row.values) / runs)} ({seconds:.0f} s)",
              file=sys.stderr, flush=True)  # fmt: skip

    try:
        rows = comparing.compare(kind, settings, runs, out, told)
    except KeyboardInterrupt:
        say(f"\nminigrad train: stopped; {out} has the cells that were done.", file=sys.stderr)
        return 130
    say(f"\n{comparing.shown(kind, rows)}")
    say(
        "\nhalf-life: steps in which |dL/dh_t| of a loss at the last step halves, after training "
        "(forward / reverse)."
    )
    say(f"Wrote {comparing.COMPARISON} to {out} in {time.perf_counter() - started:.1f} s.")
    return 0


def run_eval(args: argparse.Namespace) -> int:
    """Prints the metric of a stored model, or what it makes of the user's input."""
    from .. import tasks
    from ..tape import no_grad
    from ..tasks import running

    kind = tasks.find(args.task)
    _check_sampling(kind, args)
    if args.text is not None and not kind.reads:
        raise tasks.TaskError(f"{kind.name}: it has no use for --text.")
    task, stored = running.stored_task(kind, args.checkpoint)
    with no_grad():
        if args.sample:
            say("\n".join(_samples(task, args, args.text or "")))
        elif args.text is not None:
            say("\n".join(task.read(args.text)))
        else:
            result = running.measure(task, stored["steps"], stored["epochs"], stored["seconds"])
            say(running.summary(task, result))
            if result.value != stored["value"]:
                say(f"When it was trained: {task.shown(stored['value'])}.")
            _show(task.examples())
    return 0


def _drawn(task: Any, out: Path) -> list[str]:
    """Pictures are an extra: without matplotlib the run is as good."""
    from ..tasks.alignments import MissingPlotError

    try:
        names: list[str] = task.draw(out)
    except MissingPlotError as error:
        say(f"minigrad train: {error}", file=sys.stderr)
        return []
    return names


def _check_sampling(kind: Any, args: argparse.Namespace) -> None:
    """Before minutes of training, not after."""
    from ..tasks import TaskError

    if args.sample and not kind.samples:
        raise TaskError(f"{kind.name}: it writes no text, so there is nothing to --sample.")


def _samples(task: Any, args: argparse.Namespace, begin: str) -> list[str]:
    from ..tasks.running import generator_of

    generator = generator_of(args.seed)
    found: list[str] = task.sample(args.sample, args.temperature, args.top_k, generator, begin)
    return found


def _show(lines: list[str]) -> None:
    if lines:
        say("\n" + "\n".join(lines))


def _list() -> str:
    from ..flow.tables import table
    from ..tasks import TASKS

    rows = [(task.name, task.kind, task.title) for task in TASKS.values()]
    return table(("task", "kind", "what"), rows)
