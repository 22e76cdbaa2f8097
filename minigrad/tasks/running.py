"""Training a task into a folder, and evaluating what was stored there.

    DIR/run.json        the task and its settings, written first: what --resume goes on with
    DIR/training.ckpt   where training stands: parameters, optimiser, position in the data
    DIR/log.jsonl       a line for every update and validation
    DIR/model.ckpt      the trained model with its settings: what `minigrad eval` reads
    DIR/result.json     the metric beside its baselines

Every file but the log, which grows line by line, appears whole or not at all.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files import is_empty, write_whole
from ..flow.results import to_json
from ..flow.tables import table
from ..interop.base import version
from ..optim import Adam
from ..tape import no_grad
from ..train import checkpoint as checkpoints
from ..train.log import whole_lines
from ..train.loop import fit
from ..untrusted import cause, read_json, reading, shortly, whole_number
from .base import Settings, Task, TaskError

RUN, TRAINING, LOG, MODEL, RESULT = (
    "run.json", "training.ckpt", "log.jsonl", "model.ckpt", "result.json",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a trained task reached. value, baselines: `metric` on the test part."""

    task: str
    kind: str
    settings: dict[str, Any]
    metric: str
    unit: str
    larger_is_better: bool
    value: float
    baselines: dict[str, float]
    references: dict[str, float]
    numbers: dict[str, float]
    parameters: int
    steps: int
    epochs: int
    seconds: float

    @property
    def beaten(self) -> bool:
        """Whether the value is better than that of every baseline."""
        sign = 1 if self.larger_is_better else -1
        return all(sign * self.value > sign * other for other in self.baselines.values())

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {
            "beats_its_baselines": self.beaten,
            "minigrad": version(),
            "python": platform.python_version(),
        }


def train(task: Task, folder: Path, progress: Any = None) -> Result:
    """Trains into `folder`, which `start` or `resume` has prepared; goes on if it was begun.

    Raises TaskError if training diverges; the folder then keeps its last good checkpoint.
    """
    if not (folder / TRAINING).exists():  # killed before the end of its first epoch
        (folder / LOG).unlink(missing_ok=True)
    seconds = _seconds(folder / LOG)
    fitted = fit(
        task.model,
        task.loss,
        task.batches,
        Adam(task.model.parameters(), task.rate),
        epochs=task.settings.epochs,
        max_norm=task.max_norm,
        carry=task.carry,
        validate=task.validate,
        patience=task.patience,
        checkpoint=folder / TRAINING,
        resume=True,
        log=folder / LOG,
        progress=progress,
        jit="auto",
    )
    if fitted.stopped == "diverged":
        raise TaskError(
            f"{task.name}: the loss is no longer a number at step {fitted.steps}; {folder} keeps "
            f"the last good checkpoint. Try another --seed or --cell."
        )
    with open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": fitted.steps, "seconds": fitted.seconds}) + "\n")
    result = measure(task, fitted.steps, fitted.epochs, seconds + fitted.seconds)
    stored = {
        "task": task.name,
        "settings": task.settings.to_dict(),
        "model": task.model.state_dict(),
        "extra": task.extra(),
        "result": result.to_dict(),
    }
    checkpoints.save(folder / MODEL, stored)
    write_whole(folder / RESULT, to_json(result.to_dict()).encode())
    return result


def measure(task: Task, steps: int, epochs: int, seconds: float) -> Result:
    """The metric and the baselines of a model as it is."""
    task.model.eval()
    with no_grad():
        numbers = {name: float(value) for name, value in task.test().items()}
    return Result(
        task=task.name,
        kind=task.kind,
        settings=task.settings.to_dict(),
        metric=task.metric,
        unit=task.unit,
        larger_is_better=task.larger_is_better,
        value=numbers[task.metric],
        baselines=task.baselines(),
        references=task.references(),
        numbers=numbers,
        parameters=task.parameters(),
        steps=steps,
        epochs=epochs,
        seconds=seconds,
    )


def check_new(folder: Path) -> None:
    """Raises TaskError unless a run can begin in `folder`: it is empty, or not there yet."""
    if folder.is_dir() and not is_empty(folder):
        if (folder / RUN).is_file():
            raise TaskError(
                f"{folder}: holds an earlier run; --resume goes on with it, or choose a new folder."
            )
        raise TaskError(f"{folder}: this folder is not empty; choose a new one.")
    if folder.exists() and not folder.is_dir():
        raise TaskError(f"{folder}: this is a file; choose a new folder.")


def start(kind: type[Task], settings: Settings, folder: Path) -> Task:
    """A task and a new folder for it. Raises TaskError if the folder holds anything."""
    check_new(folder)
    task = kind(settings)  # before anything is written: data may be missing
    folder.mkdir(parents=True, exist_ok=True)
    run = {"task": kind.name, "settings": settings.to_dict(), "minigrad": version()}
    write_whole(folder / RUN, to_json(run).encode())
    return task


def resume(kind: type[Task], asked: Mapping[str, Any], folder: Path) -> Task:
    """The task that was begun in `folder`, with its settings; only the epochs may be others.

    asked: settings given this time. Raises TaskError if they or the task differ.
    """
    if not (folder / RUN).exists():
        raise TaskError(f"{folder}: there is no run to resume in it (no {RUN}).")
    with reading(folder / RUN, TaskError):
        try:
            run = read_json(folder / RUN)
            name, stored = run["task"], Settings.from_dict(run["settings"])
        except (ValueError, TypeError, KeyError) as error:
            raise TaskError(
                f"{folder / RUN}: this is not what `minigrad train` writes ({cause(error)})."
            ) from None
    if name != kind.name:
        raise TaskError(f"{folder}: holds a run of {shortly(name)}, not of {kind.name!r}.")
    kind.check(stored)
    for option, value in asked.items():
        kept = getattr(stored, option)
        if option != "epochs" and value is not None and value != kept:
            raise TaskError(
                f"{folder}: was begun with {option} = {kept}, not {value}; leave it out to "
                f"go on, or choose a new folder."
            )
    return kind(replace(stored, epochs=asked.get("epochs") or stored.epochs))


def standing(task: Task, folder: Path) -> tuple[int, Adam]:
    """(updates that are done, the optimiser) of the run that was begun in `folder`.

    The task's model and data stand where the run stands then. Raises TaskError or CheckpointError
    where there is none.
    """
    tree = checkpoints.load(folder / TRAINING)
    optimizer = Adam(task.model.parameters(), task.rate)
    with reading(folder / TRAINING, TaskError, what=f"run of the task {task.name}"):
        task.model.load_state_dict(tree["model"])
        optimizer.load_state_dict(tree["optimizer"])
        if tree["data"] is not None:
            task.batches.load_state_dict(tree["data"])  # type: ignore[attr-defined]
        return whole_number(tree["step"]), optimizer


def stored_task(kind: type[Task], path: Path) -> tuple[Task, dict[str, Any]]:
    """(the task with its trained model, the result as it was stored) of a model.ckpt.

    Raises TaskError or CheckpointError for any other file, saying what it is.
    """
    path = path / MODEL if path.is_dir() else path
    tree = checkpoints.load(path)
    if "optimizer" in tree:
        raise TaskError(
            f"{path}: this is where a training stands; give the {MODEL} that is beside it when "
            f"training has ended."
        )
    if not {"task", "settings", "model", "extra", "result"} <= set(tree):
        raise TaskError(f"{path}: this checkpoint holds no task of `minigrad train`.")
    if tree["task"] != kind.name:
        named = tree["task"] if isinstance(tree["task"], str) else "another"
        raise TaskError(f"{path}: holds the task {named!r}; run `minigrad eval {named} {path}`.")
    with reading(path, TaskError, ImportError, what=f"model of the task {kind.name}"):
        task = kind(kind.check(Settings.from_dict(tree["settings"])), tree["extra"])
        task.model.load_state_dict(tree["model"])
        result = _result(tree["result"])
    task.model.eval()
    return task, result


def _result(stored: Any) -> dict[str, Any]:
    """What of a stored result is shown again. Raises ValueError unless it is numbers."""
    for name in ("steps", "epochs", "seconds", "value"):
        if isinstance(stored[name], bool) or not isinstance(stored[name], (int, float)):
            raise ValueError(f"its {name} is {shortly(stored[name])}; expected a number")
    return dict(stored)


def summary(task: Task, result: Result) -> str:
    """The metric and the baselines as a table, best first; references stand in parentheses."""
    settings = task.settings
    name = settings.cell + (f", {settings.merge}" if settings.merge != "concat" else "")
    others = {f"({other})": value for other, value in result.references.items()}
    rows = [(name, result.value), *result.baselines.items(), *others.items()]
    rows.sort(key=lambda row: -row[1] if result.larger_is_better else row[1])
    lines = [(name, task.shown(value)) for name, value in rows]
    shown = table((task.name, f"{task.metric}, test part"), lines, right=[1])
    return shown + ("\nIn parentheses: for comparison, not a baseline." if others else "")


def _seconds(log: Path) -> float:
    """What earlier calls took, as far as they ended."""
    if not log.exists():
        return 0.0
    with reading(log, TaskError, what="log of `minigrad train`"):
        return sum(float(line.get("seconds", 0.0)) for line in whole_lines(log))


def generator_of(seed: int | None) -> np.random.Generator:
    """For samples: seeded, so that the same command writes the same text."""
    return np.random.default_rng(0 if seed is None else seed)
