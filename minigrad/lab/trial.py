"""One trial: a cell with certain first weights, trained on a task, and what its gradient does.

    run_trial(Trial("adding", cell="lstm", length=50, seed=1))["solved"]

A trial is data: everything that decides its result is a field, and the same trial gives the same
numbers. Training runs in float32, compiled; gradient flow is measured in float64 on a copy, for a
loss at the last step, before and after.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import MinigradError, suggest
from ..flow import probe
from ..flow.jacobian import singular_values, spectral_radius
from ..nn import init, zoo
from ..nn.layers import Linear
from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..nn.rnn import GRU, LSTM, RNN
from ..optim import SGD, Adam, clip_grad_norm_
from ..tape import no_grad
from ..tensors import Tensor
from .tasks import TASKS, Task, task

Array = np.ndarray
HELD_OUT = 512  # sequences of which the loss is reported
CHECK_EVERY = 50  # updates between two looks whether it is solved
MEASURED = 8  # sequences along which the gradient is followed


class TrialError(MinigradError, ValueError):
    """A trial that cannot be run, and which of its fields is why."""


def _cell(kind: type[Any], **fixed: Any) -> Callable[..., Recurrent]:
    layer = issubclass(kind, Recurrent)

    def make(inputs: int, hidden: int, dtype: Any, generator: np.random.Generator) -> Recurrent:
        options = dict(fixed, dtype=dtype, generator=generator)
        if layer:
            return kind(inputs, hidden, **options)
        return Recurrent(lambda size: kind(size, hidden, **options), inputs)

    return make


CELLS: dict[str, Callable[..., Recurrent]] = {
    "rnn": _cell(RNN),
    "relu": _cell(RNN, nonlinearity="relu"),
    "irnn": _cell(zoo.IRNNCell),
    "lstm": _cell(LSTM),
    "gru": _cell(GRU),
    "peephole": _cell(zoo.PeepholeLSTMCell),
    "coupled": _cell(zoo.CoupledLSTMCell),
    "mingru": _cell(zoo.MinGRUCell),
    "unitary": _cell(zoo.UnitaryCell),
    "layernorm": _cell(zoo.LayerNormLSTMCell),
    "indrnn": _cell(zoo.IndRNNCell),
    "cornn": _cell(zoo.CoRNNCell),
    "lem": _cell(zoo.LEMCell),
    "antisymmetric": _cell(zoo.AntisymmetricRNNCell),
    "cfc": _cell(zoo.CfCCell),
    "slstm": _cell(zoo.SLSTMCell),
}


def _each_gate(fill: Callable[..., None]) -> Callable[[Module, Trial, Any], None]:
    def apply(layer: Module, trial: Trial, generator: np.random.Generator) -> None:
        options = {} if fill is init.identity_ else {"generator": generator}
        init.each_gate_(layer, "weight_hh", fill, **options)

    return apply


INITS: dict[str, Callable[[Module, Any, np.random.Generator], None]] = {
    "default": lambda layer, trial, generator: None,
    "orthogonal": _each_gate(init.orthogonal_),
    "identity": _each_gate(init.identity_),
    "forget1": lambda layer, trial, generator: init.forget_bias_(layer, 1.0),
    "chrono": lambda layer, trial, generator: init.chrono_(layer, max(trial.length, 2), generator),
}


@dataclass(frozen=True)
class Trial:
    """What is trained. max_norm: of the gradient; 0 does not clip. updates: at most; it ends when
    the task is solved. Raises TrialError for a name or a number that makes no sense.

    >>> Trial("adding", cell="lsmt")
    Traceback (most recent call last):
    minigrad.lab.trial.TrialError: trial: cell 'lsmt' is not known; did you mean 'lstm'? ...
    """

    task: str
    cell: str = "lstm"
    init: str = "default"
    length: int = 50
    hidden: int = 64
    seed: int = 0
    updates: int = 1000
    batch: int = 32
    learning_rate: float = 1e-3
    max_norm: float = 1.0
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        for name, known in (("task", TASKS), ("cell", CELLS), ("init", INITS)):
            _known(name, getattr(self, name), known)
        _known("optimizer", self.optimizer, {"adam": 0, "sgd": 0})
        for name, least in (
            ("length", 1),
            ("hidden", 1),
            ("seed", 0),
            ("updates", 0),
            ("batch", 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise TrialError(f"trial: {name} is a whole number from {least} on, got {value!r}.")
        for name, zero in (("learning_rate", False), ("max_norm", True)):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
                raise TrialError(f"trial: {name} is a number above 0, got {value!r}.")
        task(self.task, self.length)  # says if the length is too short


def _known(name: str, value: Any, known: Any) -> None:
    if value in known:
        return
    hint = suggest(str(value), known)
    raise TrialError(f"trial: {name} {value!r} is not known; {hint}There are {', '.join(known)}.")


class Network(Module):
    """A recurrent layer and a linear head, for one trial."""

    def __init__(self, trial: Trial, task: Task, dtype: Any = np.float32):
        generator = np.random.default_rng([trial.seed, 1])
        self.layer = CELLS[trial.cell](task.inputs, trial.hidden, dtype, generator)
        self.layer.scope_name = trial.cell
        try:
            INITS[trial.init](self.layer, trial, generator)
        except ValueError as error:
            raise TrialError(
                f"trial: init {trial.init!r} does not fit {trial.cell!r}: {error}"
            ) from None
        width = self.layer.cells[0].output_size
        self.head = Linear(width, task.outputs, dtype=dtype, generator=generator)
        self.last = task.last

    def forward(self, xs: Array) -> Tensor:
        hs, _ = self.layer(xs)
        return self.head(hs[-1] if self.last else hs)


def run_trial(
    trial: Trial, progress: Callable[[int, float], None] | None = None
) -> dict[str, float | int | str | bool]:
    """Trains one network; returns the trial's fields and what became of it, flat.

    loss, baseline, solved: on sequences that were not trained on. updates_done, diverged: if the
    loss became NaN or Inf. curve_mean: the training loss over the last tenth of the updates.
    reach, half_life, rate, verdict, each _before and _after: of the gradient that travels back
    through time from a loss at the last step; reach is how many steps it takes to lose all but a
    thousandth of it (inf: never, nan: cannot be told).
    sigma_max, radius: of weight_hh before training (the largest over gates), nan without one.
    nonfinite: NaN and Inf among the final weights. seconds: all of it.
    progress(update, loss) is called after every update.
    """
    started = time.perf_counter()
    work = task(trial.task, trial.length)
    network = Network(trial, work)
    before, weights = measure(network, trial, work), recurrent_weights(network.layer)
    found = train(trial, network, work, progress)
    after = measure(network, trial, work)
    return {
        **asdict(trial),
        **found,
        **{f"{name}_before": value for name, value in before.items()},
        **{f"{name}_after": value for name, value in after.items()},
        **weights,
        "seconds": time.perf_counter() - started,
    }


def train(
    trial: Trial,
    network: Network,
    work: Task,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, float | int | bool]:
    """Trains `network` in place, without a look at its gradient flow.

    Returns loss, baseline, solved, updates_done, diverged, curve_mean and nonfinite, as run_trial.
    """
    data = np.random.default_rng([trial.seed, 2])
    held = work.batch(np.random.default_rng([trial.seed, 3]), HELD_OUT)
    optimizer = _optimizer(trial, network)
    losses: list[float] = []
    done, diverged, held_loss = 0, False, evaluate(network, work, held)
    for done in range(1, trial.updates + 1):
        xs, targets = work.batch(data, trial.batch)
        loss = work.loss(network(xs), targets)
        losses.append(float(loss.item()))
        if not math.isfinite(losses[-1]):
            diverged = True
            break
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(network.parameters(), trial.max_norm or math.inf)
        optimizer.step()
        if progress:
            progress(done, losses[-1])
        if done % CHECK_EVERY == 0 or done == trial.updates:
            held_loss = evaluate(network, work, held)
            if work.solved(held_loss):
                break
    bad = sum(int((~np.isfinite(p.numpy())).sum()) for p in network.parameters())
    tail = losses[-max(len(losses) // 10, 1) :]
    return {
        "loss": held_loss, "baseline": work.baseline, "solved": work.solved(held_loss),
        "updates_done": done, "diverged": diverged,
        "curve_mean": float(np.mean(tail)) if tail else math.nan, "nonfinite": bad,
    }  # fmt: skip


def _optimizer(trial: Trial, network: Network) -> Any:
    kind = Adam if trial.optimizer == "adam" else SGD
    return kind(network.parameters(), lr=trial.learning_rate)


def evaluate(network: Network, work: Task, held: tuple[Array, Array]) -> float:
    """The loss on held-out sequences."""
    with no_grad():
        return float(work.loss(network(held[0]), held[1]).item())


def measure(network: Network, trial: Trial, work: Task) -> dict[str, float | str]:
    """Reach, half-life, factor per step and verdict of the recording of a float64 copy."""
    if not all(np.isfinite(p.numpy()).all() for p in network.parameters()):
        return {"reach": math.nan, "half_life": math.nan, "rate": math.nan, "verdict": "broken"}
    twin = Network(trial, work, np.float64)
    twin.load_state_dict(network.state_dict())
    xs, _ = work.batch(np.random.default_rng([trial.seed, 4]), MEASURED)
    verdict = probe(twin.layer, xs.astype(np.float64)).verdict
    return {
        "reach": verdict.reach, "half_life": verdict.half_life, "rate": verdict.rate,
        "verdict": verdict.kind,
    }  # fmt: skip


def recurrent_weights(layer: Recurrent) -> dict[str, float]:
    """The largest singular value and spectral radius of weight_hh, over its gates."""
    if not any(hasattr(m, "weight_hh") for m in layer.modules()):
        return {"sigma_max": math.nan, "radius": math.nan}
    return {
        "sigma_max": float(max(s[0] for s in singular_values(layer).values())),
        "radius": float(max(spectral_radius(layer).values())),
    }
