"""The training loop: what every script would write, once, and resumable to the same bits.

    result = fit(model, loss, batches, Adam(model.parameters(), 1e-3), epochs=5,
                 validate=lambda: {"loss": evaluate(model)}, checkpoint="run.ckpt", resume=True)

What happens in a step is `Run.update`, ten lines; what happens around it is `Run.epochs`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datasets import arrays
from ..errors import JitError, MinigradError
from ..jitting import Jitted
from ..nn.module import Module
from ..optim import clip_grad_norm_
from ..optim.optimizers import Optimizer
from ..random import default_generator, set_state
from ..tape import no_grad
from ..tape import state as switches
from ..tree import map_leaves
from ..untrusted import cause, whole_number
from . import checkpoint as checkpoints
from .log import Log
from .progress import Silent, shown

Array = np.ndarray


class TrainingError(MinigradError, RuntimeError):
    """A run that cannot start, go on, or be resumed, and why."""


@dataclass
class Fitted:
    """What `fit` returns.

    losses: the training loss of every step of this call. history: a dict for each validation:
    "step", "epoch" and what `validate` gave. best: the one with the best metric, or {}. steps,
    epochs: done in all. stopped: "epochs", "steps", "patience" or "diverged". seconds: of this
    call. norms: of the gradients before clipping, for each step of this call. replayed: steps that
    mg.jit replayed; plainly: why it gave up, with jit="auto".
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    epochs: int = 0
    stopped: str = ""
    seconds: float = 0.0
    replayed: int = 0
    plainly: str = ""


def fit(
    model: Module,
    loss: Callable[..., Any],
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    max_norm: float | None = None,
    schedule: Any = None,
    carry: bool = False,
    validate: Callable[[], Mapping[str, float]] | None = None,
    metric: str = "loss",
    larger_is_better: bool = False,
    patience: int | None = None,
    callbacks: Sequence[Callable[[Run], None]] = (),
    checkpoint: str | Path | None = None,
    every: int | None = None,
    resume: bool = False,
    log: str | Path | None = None,
    generators: Sequence[np.random.Generator] = (),
    progress: Any = None,
    jit: bool | str = False,
) -> Fitted:
    """Trains a model until `epochs` or `steps` are done, or validation stops it.

        for epoch in range(epochs):
            for batch in batches:
                value = loss(model, batch)
                optimizer.zero_grad(); value.backward(); clip_grad_norm_(parameters, max_norm)
                optimizer.step(); schedule.step()
            validate()

    loss: (model, batch) -> a scalar Tensor. batches: iterated once for each epoch; with
        `state_dict()` and `load_state_dict()` (mg.data.Batches) it says where it stands and goes on
        from there. What has neither must give the same each time: a run that is resumed skips as
        many as were done. Tensors of other libraries, as a torch DataLoader yields them, come to
        `loss` as NumPy arrays.
    carry: truncated BPTT: loss is (model, batch, state) -> (loss, state), the state cut off from
        the graph between batches and None at the beginning of an epoch.
    validate: () -> numbers by name, run after every epoch without recording and with the model in
        eval mode; `metric` names the one that counts. patience: stop after so many validations
        without a better one. The model ends with its best parameters if there was any validation.
    schedule: of mg.optim, stepped after every update. callbacks: called after each update with the
        Run (`run.step`, `run.loss`, `run.norm`, `run.model`), for instance a gradient-flow Monitor.
    checkpoint: a file, written after every epoch, every `every` steps and at the end. resume: go on
        from it if it is there: parameters, optimiser, schedule, position in the data, carried
        state, random numbers; the run goes on to the same bits. Where it is not there, the run
        starts anew; the log of a run that was killed before its first checkpoint is then kept under
        another name, with a LogWarning. generators: of random numbers that the run uses, beside
        minigrad's default one and those the model holds.
    log: a JSONL file, a line for each update and validation. progress: a function of (Run), None
        for a bar in a terminal or plain lines in a pipe, False for nothing.
    jit: run loss and gradient under mg.jit, to the same bits. "auto": where that works; else steps
        run plainly, and `plainly` of the result says why.
    Raises TrainingError for arguments that make no sense; a loss that is NaN or Inf ends the run
    as "diverged", with the last checkpoint as it was.

    >>> import minigrad as mg
    >>> net = mg.nn.Linear(1, 1, dtype=np.float64, generator=np.random.default_rng(0))
    >>> x = np.linspace(-1, 1, 20)[:, None]
    >>> mse = lambda model, batch: mg.nn.mse_loss(model(batch), 3 * batch + 1)
    >>> fitted = fit(net, mse, [x], mg.optim.SGD(net.parameters(), 0.5), epochs=40, progress=False)
    >>> fitted.steps, round(net.weight.item(), 3), round(net.bias.item(), 3)
    (40, 3.0, 1.0)
    """
    if epochs is None and steps is None:
        raise TrainingError("fit: say how long, epochs= or steps=.")
    for name, value in (("epochs", epochs), ("steps", steps), ("every", every)):
        if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
            raise TrainingError(f"fit: {name} is a whole number from 1 on, got {value!r}.")
    if patience is not None and validate is None:
        raise TrainingError("fit: patience needs validate=, which says whether it gets better.")
    if (resume or every) and checkpoint is None:
        raise TrainingError("fit: resume and every need checkpoint=, the file to keep.")
    if jit not in (True, False, "auto"):
        raise TrainingError(f"fit: jit is True, False or 'auto', got {jit!r}.")
    run = Run(model, loss, batches, optimizer)
    run.jitted, run.auto = (Jitted(run.gradients, [loss]) if jit else None), jit == "auto"
    run.max_norm, run.schedule, run.carry = max_norm, schedule, carry
    run.validate, run.metric, run.sign = validate, metric, 1.0 if larger_is_better else -1.0
    run.patience, run.callbacks = patience, list(callbacks)
    run.checkpoint, run.every = None if checkpoint is None else Path(checkpoint), every
    run.generators = [default_generator(None), *held_generators(model), *generators]
    run.last_epoch, run.last_step = epochs, steps
    run.progress = Silent() if progress is False else progress or shown(epochs, steps)
    if resume and run.checkpoint is not None and run.checkpoint.exists():
        run.load(checkpoints.load(run.checkpoint))
    elif run.checkpoint is not None and run.checkpoint.exists():
        raise TrainingError(
            f"fit: {run.checkpoint} is there already; resume=True goes on from it, or choose "
            f"another file."
        )
    try:
        run.log = Log(log, run.step, resume)
    except (OSError, ValueError) as error:
        raise TrainingError(f"fit: log={str(log)!r} cannot be written: {error}") from None
    try:
        return run.epochs()
    finally:
        run.log.close()


class Run:
    """One call of `fit`: where it stands, and how it goes on."""

    max_norm: float | None
    schedule: Any
    carry: bool
    validate: Callable[[], Mapping[str, float]] | None
    metric: str
    sign: float
    patience: int | None
    callbacks: list[Callable[[Run], None]]
    checkpoint: Path | None
    every: int | None
    generators: list[np.random.Generator]
    last_epoch: int | None
    last_step: int | None
    progress: Any
    log: Log
    jitted: Jitted | None
    auto: bool

    def __init__(self, model: Module, loss: Any, batches: Any, optimizer: Optimizer):
        self.model, self.loss_of, self.batches, self.optimizer = model, loss, batches, optimizer
        self.step = self.epoch = self.position = 0  # position: batches of this epoch that are done
        self.loss, self.norm = math.nan, math.nan
        self.state: Any = None  # carried from batch to batch
        self.best_parameters: dict[str, Array] | None = None
        self.since_best = 0
        self.fitted = Fitted()
        self.jitted, self.auto = None, False

    # -- the loop

    def epochs(self) -> Fitted:
        """All epochs that are left, with validation and checkpoints in between."""
        started = time.perf_counter()
        self.model.train()
        fitted = self.fitted
        while not fitted.stopped:
            if self.last_epoch is not None and self.epoch >= self.last_epoch:
                fitted.stopped = "epochs"
                break
            fitted.stopped = self._one_epoch()
            if fitted.stopped == "diverged":
                break
            if not fitted.stopped:
                self.epoch, self.position, self.state = self.epoch + 1, 0, None
            if self.validate is not None:
                self._validate()
            self.save()
        if self.best_parameters is not None:
            self.model.load_state_dict(self.best_parameters)
        fitted.steps, fitted.epochs = self.step, self.epoch
        fitted.seconds = time.perf_counter() - started
        fitted.replayed += 0 if self.jitted is None else self.jitted.replayed
        self.progress.done(self)
        return fitted

    def _one_epoch(self) -> str:
        """What is left of an epoch; returns why the run ends there, or ""."""
        skip = 0 if hasattr(self.batches, "load_state_dict") else self.position
        for i, batch in enumerate(self.batches):
            if i < skip:
                continue
            if self.last_step is not None and self.step >= self.last_step:
                return "steps"
            self.update(arrays(batch))
            if not math.isfinite(self.loss):
                return "diverged"
            self.position += 1
            if self.every and self.step % self.every == 0:
                self.save()
        if self.position == 0:
            raise TrainingError("fit: batches gave nothing; it is iterated once for each epoch.")
        return "steps" if self.last_step is not None and self.step >= self.last_step else ""

    def update(self, batch: Any) -> None:
        """One step: loss, gradient, clipping, optimiser, schedule."""
        loss = self._loss(batch)
        self.loss = float(loss.item())
        if math.isfinite(self.loss):
            if loss.requires_grad:  # a replay has left the gradients
                self.optimizer.zero_grad()
                loss.backward()
            limit = math.inf if self.max_norm is None else self.max_norm
            self.norm = clip_grad_norm_(self.optimizer.params, limit)
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
        self.step += 1
        self.fitted.losses.append(self.loss)
        self.fitted.norms.append(self.norm)
        self.log.write({"step": self.step, "epoch": self.epoch, "loss": self.loss,
                        "norm": self.norm, "lr": self.optimizer.lr})  # fmt: skip
        for callback in self.callbacks:
            callback(self)
        self.progress(self)

    def _loss(self, batch: Any) -> Any:
        """The loss; under mg.jit the gradients, too. The carried state moves on."""
        if self.jitted is not None and not self._is_watched():
            before = [g.bit_generator.state for g in self.generators]
            try:
                loss, self.state = self.jitted(batch, self.state)
                if self.auto and self.jitted.recorded > max(8, self.jitted.replayed):
                    self._plainly("batches are of too many shapes")
                return loss
            except JitError as error:
                if not self.auto:
                    raise
                for generator, numbers in zip(self.generators, before, strict=True):
                    generator.bit_generator.state = numbers
                self._plainly(str(error))
        loss, state = self._forward(batch, self.state)
        self.state = map_leaves(lambda t: t.detach(), state)
        return loss

    @staticmethod
    def _is_watched() -> bool:
        """Whether somebody looks inside of this step, say a Monitor: then it runs plainly."""
        watched = bool(switches.listeners) or switches.intervening is not None
        return watched or switches.tape is not None or switches.anomaly

    def _plainly(self, why: str) -> None:
        self.fitted.replayed += 0 if self.jitted is None else self.jitted.replayed
        self.jitted, self.fitted.plainly = None, why

    def _forward(self, batch: Any, state: Any) -> tuple[Any, Any]:
        if self.carry:
            loss, state = self.loss_of(self.model, batch, state)
            return loss, state
        return self.loss_of(self.model, batch), None

    def gradients(self, batch: Any, state: Any) -> tuple[Any, Any]:
        """The loss, with gradients, and the state to go on from: what mg.jit replays."""
        self.optimizer.zero_grad()
        loss, state = self._forward(batch, state)
        loss.backward()
        return loss, map_leaves(lambda t: t.detach(), state)

    def _validate(self) -> None:
        assert self.validate is not None
        self.model.eval()
        with no_grad():
            numbers = {name: float(value) for name, value in self.validate().items()}
        self.model.train()
        if self.metric not in numbers:
            raise TrainingError(
                f"fit: validate gave {', '.join(numbers) or 'nothing'}, but metric={self.metric!r}."
            )
        entry = {"step": self.step, "epoch": self.epoch, **numbers}
        self.fitted.history.append(entry)
        self.log.write({"validation": entry})
        best = self.fitted.best.get(self.metric, -self.sign * math.inf)
        if self.sign * numbers[self.metric] > self.sign * best:
            self.fitted.best, self.since_best = entry, 0
            self.best_parameters = {k: v.copy() for k, v in self.model.state_dict().items()}
        else:
            self.since_best += 1
            if self.patience is not None and self.since_best >= self.patience:
                self.fitted.stopped = self.fitted.stopped or "patience"

    # -- going on later

    def save(self) -> None:
        """Writes the checkpoint, if there is one."""
        if self.checkpoint is not None:
            checkpoints.save(self.checkpoint, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        where = getattr(self.batches, "state_dict", None)
        carried = None if self.state is None else _leaves(self.state)
        return {
            "step": self.step, "epoch": self.epoch, "position": self.position,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else _schedule_state(self.schedule),
            "data": None if where is None else where(), "carried": carried,
            "random": [g.bit_generator.state for g in self.generators],
            "history": self.fitted.history, "best": self.fitted.best,
            "best_parameters": self.best_parameters, "since_best": self.since_best,
            "ended": self.fitted.stopped == "patience",
        }  # fmt: skip

    def load(self, tree: dict[str, Any]) -> None:
        """Takes over what state_dict gave.

        Raises TrainingError if it is of another run, or not what state_dict gives. Model,
        optimiser, data and generators are then as they were before.
        """
        before, state = self.state_dict(), self.state
        try:
            self._take(tree)
        except BaseException as error:
            self._take(before)
            self.state = state
            if not isinstance(error, Exception) or isinstance(error, TrainingError):
                raise
            raise TrainingError(
                f"fit: {self.checkpoint} is of another run: {cause(error)}"
            ) from error

    def _take(self, tree: dict[str, Any]) -> None:
        random, best, schedule = tree["random"], tree["best_parameters"], tree["schedule"]
        if len(random) != len(self.generators):
            raise TrainingError(
                f"fit: {self.checkpoint} holds {len(random)} random generators and this run has "
                f"{len(self.generators)}; pass the same generators=."
            )
        if (self.schedule is None) != (schedule is None):
            raise TrainingError(f"fit: {self.checkpoint} and this run differ in their schedule.")
        if best is not None:  # they are taken at the end of the run: must fit, too
            self.model.load_state_dict(best)
        self.model.load_state_dict(tree["model"])
        self.optimizer.load_state_dict(tree["optimizer"])
        self.step, self.epoch, self.position, self.since_best = (
            whole_number(tree[name]) for name in ("step", "epoch", "position", "since_best")
        )
        if self.schedule is not None:
            _load_schedule(self.schedule, schedule)
        if tree["data"] is not None:
            self.batches.load_state_dict(tree["data"])
        for generator, state in zip(self.generators, random, strict=True):
            set_state(generator, state)
        self.state = None if tree["carried"] is None else _tree_of(tree["carried"])
        self.fitted.history = [_validation(entry) for entry in tree["history"]]
        self.fitted.best = _validation(tree["best"]) if tree["best"] else {}
        self.best_parameters = best
        self.fitted.stopped = "patience" if tree["ended"] else ""


def _validation(entry: dict[str, Any]) -> dict[str, Any]:
    """A step and numbers by name, as `validate` gave them. Raises ValueError for anything else."""
    if not isinstance(entry, dict):
        raise ValueError(f"a validation is {type(entry).__name__}; expected numbers by name")
    if not all(isinstance(value, (int, float)) for value in entry.values()):
        raise ValueError("a validation holds what is no number")
    return entry


def held_generators(model: Module) -> list[np.random.Generator]:
    """The random generators that modules hold (a Dropout's, a layer's), each once."""
    found: dict[int, np.random.Generator] = {}
    for module in model.modules():
        generator = getattr(module, "generator", None)
        if isinstance(generator, np.random.Generator):
            found[id(generator)] = generator
    return list(found.values())


def _schedule_state(schedule: Any) -> list[dict[str, float]]:
    """t and base of a schedule and of those it hands over to."""
    found = []
    while schedule is not None:
        found.append({"t": schedule.t, "base": schedule.base})
        schedule = getattr(schedule, "then", None)
    return found


def _load_schedule(schedule: Any, states: list[dict[str, float]]) -> None:
    for state in states:
        if schedule is None:
            raise ValueError("the checkpoint has a schedule of more parts")
        schedule.t, schedule.base = whole_number(state["t"]), float(state["base"])
        schedule = getattr(schedule, "then", None)


def _leaves(state: Any) -> Any:
    """A carried state as dicts and lists of arrays, with what it takes to build it again."""
    if isinstance(state, dict):
        return {"dict": {k: _leaves(v) for k, v in state.items()}}
    if isinstance(state, (tuple, list)):
        kind = type(state)
        named = f"{kind.__module__}:{kind.__qualname__}" if hasattr(state, "_fields") else ""
        return {"items": [_leaves(v) for v in state], "type": named or kind.__name__}
    return {"array": np.array(state.numpy())}


def _tree_of(stored: dict[str, Any]) -> Any:
    from ..nn.cells import LSTMState
    from ..tensors import Tensor

    if "dict" in stored:
        return {k: _tree_of(v) for k, v in stored["dict"].items()}
    if "items" in stored:
        items = [_tree_of(v) for v in stored["items"]]
        if stored["type"] == f"{LSTMState.__module__}:{LSTMState.__qualname__}":
            return LSTMState(*items)
        return items if stored["type"] == "list" else tuple(items)
    return Tensor(stored["array"])
