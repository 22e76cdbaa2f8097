"""A training run where it stands, and copies of it that go on by themselves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import FlowError, JitError
from ...jitting import Jitted
from ...nn.module import Module
from ...optim import clip_grad_norm_
from ...optim.optimizers import Optimizer
from ...random import default_generator, set_state
from ...tape import no_grad
from ...tensors import Tensor
from ...tree import map_leaves
from ..probes import record
from ..recording import Recording

FEW = 20  # updates for which it takes longer to record a step than to do without


@dataclass
class Run:
    """A model in training: what decides its next steps.

    loss: (model, batch) -> a scalar; with `carry` (model, batch, state) -> (loss, state). batches:
    those it is trained on, in order, again from the first where they end. held: those it is
    measured on, by `asked`, which is the loss that counts whatever a remedy does to `loss`.
    """

    model: Module
    optimizer: Optimizer
    loss: Callable[..., Any]
    batches: Sequence[Any]
    held: Sequence[Any]
    max_norm: float | None = None
    carry: bool = False
    updates: int = 100
    asked: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        self.asked = self.loss

    def fork(self, seed: int) -> Run:
        """A copy with its own model and optimiser, and this seed's order of the batches.

        Where a state is carried from batch to batch they stay in order, and begin elsewhere.
        """
        try:
            model, optimizer = copy.deepcopy((self.model, self.optimizer))
        except Exception as error:
            raise FlowError(
                f"prescribe: {type(self.model).__name__} cannot be copied with copy.deepcopy "
                f"({error}); give it a __deepcopy__, or pass a function (seed) -> model."
            ) from error
        rng = np.random.default_rng([seed, 1])
        n = len(self.batches)
        if self.carry:
            order = (np.arange(n) + (rng.integers(n) if seed else 0)) % n
        else:
            order = rng.permutation(n) if seed else np.arange(n)
        for module in model.modules():
            if isinstance(getattr(module, "generator", None), np.random.Generator):
                module.generator = np.random.default_rng([seed, 2])  # dropout, zoneout
        made = replace(
            self, model=model, optimizer=optimizer, batches=[self.batches[i] for i in order]
        )
        made.asked = self.asked
        return made

    def train(self, told: Callable[[], None]) -> bool:
        """Goes on for `updates` steps, calling told() before each; False if it diverged."""
        self.model.train()
        step, state = Step(self), None
        for k in range(self.updates):
            told()
            if k % len(self.batches) == 0:
                state = None
            value, state = step(self.batches[k % len(self.batches)], state)
            if not math.isfinite(value):
                return False
            if k == 0 and all(p.grad is None for p in self.optimizer.params):
                raise FlowError(
                    "prescribe: the loss has no gradient in the model that it is given; write "
                    "loss(model, batch) such that it calls that model, not another one."
                )
            limit = math.inf if self.max_norm is None else self.max_norm
            clip_grad_norm_(self.optimizer.params, limit)
            self.optimizer.step()
        return True

    def gradients(self, batch: Any, state: Any) -> tuple[Any, Any]:
        """The loss, with gradients, and the state to go on from."""
        self.optimizer.zero_grad()
        value, state = self.loss_of(self.loss, batch, state)
        value.backward()
        return value, state

    def loss_of(self, loss: Callable[..., Any], batch: Any, state: Any = None) -> tuple[Any, Any]:
        """The loss of a batch, and the state to go on from, without its graph."""
        if not self.carry:
            return loss(self.model, batch), None
        value, state = loss(self.model, batch, state)
        return value, map_leaves(lambda t: t.detach(), state)

    def measure(self) -> float:
        """The mean loss over what is held out; inf where it is no number."""
        self.model.eval()
        with no_grad():
            values = [float(self.loss_of(self.asked, b)[0].item()) for b in self.held]
        found = float(np.mean(values))
        return found if math.isfinite(found) else math.inf

    def record(self) -> Recording:
        """How the gradient of the loss that counts flows back, on the first batch held out."""
        self.model.eval()
        with record() as recording:
            self.loss_of(self.asked, self.held[0])[0].backward()
        self.model.zero_grad()
        return recording


class Step:
    """Loss and gradients of a run, under mg.jit (to the same bits) as long as that works.

    Replaying takes a fifth of the time for small nets: 0.2 ms instead of 0.9 for an LSTM of 16
    units over 30 steps of 16 rows (Zen 5).
    """

    def __init__(self, run: Run):
        self.run = run
        worth = run.updates >= FEW
        self.jitted: Jitted | None = Jitted(run.gradients, [run.loss]) if worth else None
        modules = run.model.modules()
        held = [getattr(module, "generator", None) for module in modules]
        self.generators = [g for g in held if isinstance(g, np.random.Generator)]
        self.generators.append(default_generator(None))

    def __call__(self, batch: Any, state: Any) -> tuple[float, Any]:
        if self.jitted is not None:
            before = [g.bit_generator.state for g in self.generators]
            try:
                value, state = self.jitted(batch, state)
                if self.jitted.recorded > max(8, self.jitted.replayed):
                    self.jitted = None  # batches are of too many shapes
                return float(value.item()), state
            except JitError:
                self.jitted = None
                for generator, numbers in zip(self.generators, before, strict=True):
                    generator.bit_generator.state = numbers
        value, state = self.run.gradients(batch, state)
        return float(value.item()), state


@contextmanager
def apart(seed: int) -> Iterator[None]:
    """Random numbers of the default generator are those of `seed`; its own stay as they were."""
    generator = default_generator(None)
    before = generator.bit_generator.state
    kind = type(generator.bit_generator)
    try:
        generator.bit_generator.state = kind(seed).state
        yield
    finally:
        set_state(generator, before)


def rebind(optimizer: Optimizer, model: Module, before: set[int]) -> None:
    """The optimiser of a model whose parts were exchanged.

    It goes on with what it remembers of the parameters that are still there, and begins with those
    that are new, in its first group. before: the ids of all parameters that the model had, as it
    may train a part.
    """
    for k, group in enumerate(optimizer.param_groups):
        kept = {id(p): state for p, state in zip(group.params, group.state, strict=True)}
        now: list[Tensor] = [
            p for p in model.parameters() if id(p) in kept or (k == 0 and id(p) not in before)
        ]
        group.params = now
        group.state = [kept.get(id(p), new) for p, new in zip(now, group._new_state(), strict=True)]
        vars(group).pop("_fused", None)
    optimizer.gather()
