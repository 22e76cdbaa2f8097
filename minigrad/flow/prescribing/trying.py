"""mg.flow.prescribe: forks a run for each remedy, and compares the forks seed by seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ... import checks
from ...errors import suggest
from ...nn.module import Module
from ...optim import Adam
from ...optim.optimizers import Optimizer
from ..recording import Recording
from ..verdict import Verdict
from . import known
from .case import Case
from .fork import Run, apart, rebind
from .prescription import Outcome, Prescription, Tried
from .remedies import TABLE
from .remedy import Remedy

HELD = 4  # batches that are set aside to measure on, if none are given


def prescribe(
    model: Module | Callable[[int], Module],
    loss: Callable[..., Any],
    batches: Iterable[Any],
    optimizer: Optimizer | Callable[[Any], Optimizer] | None = None,
    *,
    held: Iterable[Any] | None = None,
    max_norm: float | None = None,
    carry: bool = False,
    remedies: Sequence[str | Remedy] | None = None,
    updates: int = 200,
    seeds: int = 8,
    seconds: float = 60.0,
    progress: Callable[[str, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Prescription:
    """Tries what may help a run, on forks of it, and says what did.

        for seed in range(seeds):
            as it is, and for each remedy:
                a deep copy of model and optimiser; the remedy; `updates` steps on the same batches
                the loss on `held`, and the reach of its gradient
        a remedy helped if more seeds have a lower loss with it than chance would give

    model: stands where the run stands, and stays as it is; or a function (seed) -> Module, for runs
        that have not begun. loss, batches, max_norm, carry: as in mg.train.fit. Of batches as many
        are read as there are updates, and a few more; those of mg.data then stand as before. A seed
        decides their order and what a remedy draws.
    optimizer: the run's, which is copied too; or a function (parameters) -> Optimizer. Adam with a
        rate of 1e-3 if left out.
    held: batches to measure on. If left out, some of `batches` are set aside; if there is only one,
        it is both.
    remedies: their names, or Remedy objects of your own; all if left out. What does not suit the
        net, or is in use already, is not offered. First come those that helped such nets before.
    seeds: 8 can tell of up to 12 remedies. seconds: of all work; it ends with the update that goes
        beyond, and what was not reached is listed. progress: called with the name of what is tried
        and the seed. clock: seconds, as time.perf_counter counts them.
    Raises FlowError where there is nothing to record or to train, ValueError for arguments out of
    range and for names of no remedy.

    >>> import minigrad as mg
    >>> class Net(mg.nn.Module):
    ...     def __init__(self):
    ...         self.rnn = mg.nn.RNN(1, 4, generator=np.random.default_rng(0))
    ...     def forward(self, xs):
    ...         return self.rnn(xs)[0][-1].mean()
    >>> data = [np.ones((20, 2, 1), np.float32)]
    >>> found = prescribe(Net(), lambda net, xs: (net(xs) - 3) ** 2, data, updates=2, seeds=2,
    ...                   remedies=["clip", "forget bias", "larger rate"])
    >>> [t.name for t in found.tried], found.not_offered
    (['clip', 'larger rate'], {'forget bias': 'no cell has a forget gate with a bias'})
    """
    checks.size("prescribe: updates", updates)
    checks.size("prescribe: seeds", seeds)
    checks.number("prescribe: seconds", seconds, 0.0, bounds="()")
    asked = _asked(remedies)
    forks = Forks(seconds, clock, progress)
    drawn = _drawn(batches, updates + (HELD if held is None else 0))
    trained, aside = _divided(drawn, held)
    options: dict[str, Any] = dict(max_norm=max_norm, carry=carry, updates=updates)

    def run_of(made: Module) -> Run:
        return Run(made, _optimizer(optimizer, made), loss, trained, aside, **options)

    if isinstance(model, Module):
        run = run_of(model)
        forks.run_of = lambda seed: run
    else:
        forks.run_of = lambda seed: run_of(model(seed))

    case, recording = forks.stand()
    verdict = recording.verdict
    causes = [cause.name for cause in recording.causes]
    choice = known.ordered(case, causes[0] if causes else "") if asked is None else asked
    reasons = {remedy.name: remedy.missing(case) for remedy in choice}
    offered = [remedy for remedy in choice if not reasons[remedy.name]]
    found = Prescription(
        f"{verdict.kind}, {verdict.reach_words}", case.steps, causes, updates, seeds, seconds,
        not_offered={name: why for name, why in reasons.items() if why},
        held_out=held is not None or len(drawn) > 1,
    )  # fmt: skip
    found.without = forks.outcomes(None, case, seeds)
    for remedy in offered:
        if outcomes := forks.outcomes(remedy, case, seeds):
            whole = len(outcomes) == seeds
            tried = Tried(remedy.name, remedy.code(case), outcomes, found.without, whole)
            found.tried.append(tried)
        else:
            found.not_tried.append(remedy.name)
    found.seconds = forks.spent
    return found.judged()


class _TimeIsOver(Exception):
    """The budget is spent."""


class Forks:
    """Makes forks of runs and follows them until the time is over."""

    run_of: Callable[[int], Run]

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float],
        progress: Callable[[str, int], None] | None,
    ):
        self.seconds, self.clock, self.progress = seconds, clock, progress
        self.began = clock()
        self._runs: dict[int, Run] = {}
        self._before: dict[int, tuple[float, float]] = {}  # seed -> reach, loss
        self._over = False

    @property
    def spent(self) -> float:
        return self.clock() - self.began

    def check(self) -> None:
        """Raises _TimeIsOver if it is."""
        if self._over or self.spent >= self.seconds:
            self._over = True
            raise _TimeIsOver

    def fork(self, seed: int) -> Run:
        if seed not in self._runs:
            self._runs[seed] = self.run_of(seed)
        return self._runs[seed].fork(seed)

    def stand(self) -> tuple[Case, Recording]:
        """Where the run of the first seed stands, and how its gradient flows there."""
        with apart(0):
            run = self.fork(0)
            recording = run.record()
        return Case.of(recording.values(), run.model, run), recording

    def outcomes(self, remedy: Remedy | None, case: Case, seeds: int) -> list[Outcome]:
        """What became of the forks of each seed, as far as the time allowed."""
        found = []
        try:
            for seed in range(seeds):
                if remedy is not None and seed not in self._before:
                    raise _TimeIsOver  # nothing to compare it with
                if self.progress is not None:
                    self.progress("as it is" if remedy is None else remedy.name, seed)
                with apart(seed):
                    found.append(self._outcome(seed, remedy, case))
        except _TimeIsOver:
            self._over = True
        return found

    def _outcome(self, seed: int, remedy: Remedy | None, case: Case) -> Outcome:
        self.check()
        run = self.fork(seed)
        if remedy is None:
            self._before[seed] = reach_of(run), run.measure()
        reach, loss = self._before[seed]
        at_once = reach
        if remedy is not None:
            had = {id(p) for p in run.model.parameters()}
            remedy.apply(run, case, np.random.default_rng([seed, 3]))
            rebind(run.optimizer, run.model, had)
            self.check()
            at_once = reach_of(run)
        goes_on = run.train(self.check)
        self.check()
        loss_after = run.measure() if goes_on else math.inf
        self.check()
        after = reach_of(run) if math.isfinite(loss_after) else math.nan
        return Outcome(seed, reach, at_once, after, loss, loss_after)


def reach_of(run: Run) -> float:
    """The shortest reach through time of the loss that counts, see Verdict.

    inf where none ends within the sequence and it cannot be told where; nan where nothing can be
    told.
    """
    verdicts = [cut.judged for cut in run.record().cuts]
    known = [v.reach if math.isfinite(v.reach) else math.inf for v in verdicts if _is_told(v)]
    return min(known, default=math.nan)


def _is_told(verdict: Verdict) -> bool:
    return not math.isnan(verdict.reach_low)


def _asked(remedies: Sequence[str | Remedy] | None) -> list[Remedy] | None:
    if remedies is None:
        return None
    found: dict[str, Remedy] = {}
    for given in [remedies] if isinstance(remedies, (str, Remedy)) else remedies:
        if isinstance(given, str) and given not in TABLE:
            raise ValueError(
                f"prescribe: there is no remedy {given!r}; {suggest(given, TABLE)}There are "
                f"{', '.join(TABLE)}."
            )
        remedy = TABLE[given] if isinstance(given, str) else given
        if not isinstance(remedy, Remedy):
            raise ValueError(
                f"prescribe: remedies are names or Remedy objects, got {type(remedy).__name__}."
            )
        found[remedy.name] = remedy
    return list(found.values())


def _drawn(batches: Iterable[Any], most: int) -> list[Any]:
    """The first batches, from where they stand; what has a state_dict stands there again."""
    where = getattr(batches, "state_dict", None)
    before = None if where is None else where()
    found = list(islice(iter(batches), most))
    if before is not None:
        batches.load_state_dict(before)  # type: ignore[attr-defined]
    if not found:
        raise ValueError("prescribe: batches gave nothing; expected at least one batch.")
    return found


def _divided(drawn: list[Any], held: Iterable[Any] | None) -> tuple[list[Any], list[Any]]:
    """Batches to train on and to measure on."""
    if held is not None:
        aside = list(islice(iter(held), HELD))
        if not aside:
            raise ValueError("prescribe: held gave nothing; expected at least one batch.")
        return drawn, aside
    if len(drawn) == 1:
        return drawn, drawn
    n = min(HELD, max(len(drawn) // 4, 1))
    return drawn[:-n], drawn[-n:]


def _optimizer(given: Any, model: Module) -> Optimizer:
    """The run's optimiser; given may be a function that makes it."""
    if given is None:
        return Adam(model.parameters())
    made = given if isinstance(given, Optimizer) else given(model.parameters())
    mine = {id(p) for p in model.parameters()}
    if not isinstance(made, Optimizer) or not all(id(p) in mine for p in made.params):
        raise ValueError(
            "prescribe: optimizer is one of mg.optim over the model's own parameters; for a "
            "function (seed) -> model pass a function (parameters) -> optimizer."
        )
    return made
