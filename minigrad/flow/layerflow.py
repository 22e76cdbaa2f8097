"""What one recorded layer received from the loss, and what its gates did, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from ..errors import FlowError
from ..norms import row_norms
from . import credit, weights
from .advising import advice, reason
from .credit import Credit
from .cuts import Cut, aligned, cannot_tell
from .replaying import Replay
from .verdict import Thresholds, Verdict, judge, plural

if TYPE_CHECKING:
    from .jacobian import Jacobians

Array = np.ndarray
V = TypeVar("V")
FORWARD_ONLY = "forward only"  # what is said of a call that no gradient reached
STILL = 1e-3  # a unit that moves by less than this share of its largest value is dead


@dataclass
class Activation:
    """One tapped value over time, arrays of shape (T,) in order of computation.

    mean: over units and the rows that take part, nan where none does. saturation: share of units
    in the flat ends of the sigmoid or tanh that made the value, and slope: mean derivative of that
    function there; both nan for other values.
    """

    mean: Array
    saturation: Array
    slope: Array


class Nonfinite(NamedTuple):
    """How many NaN and Inf: among a tapped value's elements, and among the norms that arrived."""

    values: int
    gradients: int


class Lazy(Mapping[str, V]):
    """A mapping whose values are made when they are first read."""

    def __init__(self, makers: Mapping[str, Callable[[], V]]):
        self._makers = dict(makers)
        self._made: dict[str, V] = {}

    def __getitem__(self, name: str) -> V:
        if name not in self._made:
            if name not in self._makers:
                raise KeyError(f"{name!r}; known are {', '.join(map(repr, self._makers))}")
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(repr=False)
class LayerFlow:
    """One layer and direction: what its states received from the loss, in order of computation.

    path: its scope. steps: the t of each entry (T,). norms: name -> |dL/d(name_t)| over batch and
    units (T,), zero where no gradient arrived. per_sample: the same for each row of the batch (T,
    B). activations: name -> Activation for every tapped value. tiny: smallest normal number of the
    dtype. values: name -> the tapped value itself (T, B, n), nan at steps or rows that have none.
    nonfinite: name -> how many NaN and Inf. heard: gradients that came step by step (a tape).
    scope: the path without numbers of calls. wants: whether it ran where gradients are recorded.
    arrived: whether any gradient came back to it. last_alone: gives norms as in per_sample of the
    last output that is read, alone; {} where no other is. untold: says why it
    cannot be told what the steps carry, "" if it can. cut: gives that through all its states.
    elsewhere: whether the net is of another framework, and takes no advice in minigrad's words.

    What follows is computed when it is read, by running the layer again (see replaying.py); it
    needs a layer of `mg.nn` or `mg.scan`, and FlowError says so where a loop was written by hand:
    `gradients`, `inputs`, `weights`, `jacobians()`.
    """

    path: str
    steps: Array
    norms: Mapping[str, Array]
    per_sample: Mapping[str, Array]
    activations: Mapping[str, Activation]
    tiny: float = 0.0
    thresholds: Thresholds = field(default_factory=Thresholds)
    values: Mapping[str, Array] = field(default_factory=dict)
    nonfinite: Mapping[str, Nonfinite] = field(default_factory=dict)
    heard: Mapping[str, Array] = field(default_factory=dict)
    replay: Replay | None = None
    scope: str = ""
    wants: bool = True
    arrived: bool = True
    last_alone: Callable[[], Mapping[str, Array]] = dict
    untold: Callable[[], str] = str
    cut: Callable[[], Cut] | None = None
    elsewhere: bool = False

    @property
    def forward_only(self) -> bool:
        """Whether nothing came back to this call: a validation pass, or no loss that reads it."""
        return not self.arrived

    @property
    def reverse(self) -> bool:
        """Whether the layer reads the sequence from its end."""
        return self.steps.size > 1 and bool(self.steps[0] > self.steps[-1])

    @property
    def first(self) -> bool:
        """Whether it is the first call of its layer."""
        return "#" not in self.path

    def profile(self, name: str = "h") -> Array:
        """|dL/d(name_t)| by lag, (lags,): how the gradient travels back from the loss.

        Lag 0 is a row's last step, in order of computation, that a gradient reached; padding is
        none. Where the loss or a layer above reads many steps, `norms` are sums of all that comes
        from later, which hide whether any of it has come far; then the profile is that of the
        layer's last output alone, as if nothing else were read (see walking.py).
        """
        rows = self._alone.get(name, self.per_sample.get(name, self.norms[name][:, None]))
        real = np.ones(rows.shape, dtype=bool) if self.real is None else self.real
        return aligned(rows[None], real, self.begins).profile

    @property
    def real(self) -> Array | None:
        """(T, B) of bool: the steps that are no padding. None of a loop written by hand."""
        return None if self.replay is None else self.replay.real

    @property
    def taking_part(self) -> Array:
        """(T,) of bool: the steps that are no padding of every row."""
        real = self.real
        return np.ones(len(self.steps), bool) if real is None else np.any(real, axis=1)

    def own_steps(self, numbers: Array) -> Array:
        """Of numbers by step those of steps at which a row takes part."""
        there = self.taking_part
        return numbers if len(numbers) != len(there) or there.all() else numbers[there]

    def own_values(self, name: str) -> Array:
        """A tapped value of the rows that take part, (steps and rows, n)."""
        values, real = self.values[name], self.real
        if real is not None and values.shape[:2] == real.shape:
            return values[real]
        return values.reshape(-1, values.shape[-1])

    @property
    def begins(self) -> Array | None:
        """(T, B) of bool: the steps where an episode begins, and no state goes on; or None."""
        return None if self.replay is None else self.replay.begins

    @property
    def at_outputs(self) -> Array | None:
        """|what came to the outputs from outside|, (T,), by t. None if nothing did, or a loop
        written by hand does not tell.
        """
        parts = [] if self.replay is None else self.replay.y_gradients.values()
        sizes = [row_norms(np.asarray(g, np.float64).reshape(len(g), -1)) for g in parts]
        return row_norms(np.stack(sizes, axis=1)) if sizes else None

    @property
    def read_at_many_steps(self) -> bool:
        """Whether gradients come in at more than one step of a row (False where not known)."""
        return bool(self._alone)

    @cached_property
    def _alone(self) -> Mapping[str, Array]:
        return self.last_alone() if self.arrived else {}

    # -- what the gates did

    @cached_property
    def keeps(self) -> dict[str, int]:
        """The gates that decide how long the state lasts: +1 if it stays where they are open."""
        cell = self.replay.own_cell if self.replay else None
        found = dict(getattr(cell, "keeps", {"f": +1}))
        if any(sign > 0 for sign in found.values()):  # an LSTM's i writes, but does not erase
            found = {name: sign for name, sign in found.items() if sign > 0}
        return {name: sign for name, sign in found.items() if name in self.activations}

    @property
    def time_constants(self) -> dict[str, Array]:
        """name -> steps for which the state is kept, (T,): 1 / (1 - f), f the gate's mean there.

        A gate that overwrites instead of keeping (update="write") counts as 1 / z. (Tallec and
        Ollivier 2018: the memory of a gated net is of the order of these.)
        """
        with np.errstate(divide="ignore"):
            return {
                name: 1.0 / np.maximum(_open(self.activations[name].mean, sign), 0.0)
                for name, sign in self.keeps.items()
            }

    @property
    def unit_time_constants(self) -> dict[str, Array]:
        """The same for each unit, (n,), from its mean over steps and rows."""
        with np.errstate(divide="ignore"):
            return {
                name: 1.0 / np.maximum(_open(np.nanmean(self.own_values(name), 0), sign), 0.0)
                for name, sign in self.keeps.items()
                if name in self.values
            }

    @property
    def dead(self) -> dict[str, Array]:
        """name -> (n,), units that do nothing: no step and no row moves them by a thousandth.

        A ReLU that is always zero, a tanh or a gate stuck at its end. One step of one row cannot
        tell, and calls none dead; nor is a unit that overflows, or is NaN at any step.
        """
        return {name: self.dead_units(name) for name in self.values}

    def dead_units(self, name: str) -> Array:
        """The same of one tapped value, (n,)."""
        flat = self.own_values(name)
        with np.errstate(invalid="ignore", over="ignore"):
            whole = bool(np.isfinite(flat.sum(dtype=np.float64)))
        if not whole and (name not in self.nonfinite or not self.nonfinite[name].values):
            flat = flat[~np.isnan(flat).any(axis=1)]  # rows that a step does not have
        return _dead(flat)

    # -- what is computed by running the layer again

    @cached_property
    def gradients(self) -> Mapping[str, Array]:
        """name -> dL/d(value_t) of every tapped value, gates too, (T, B, n).

        Of a loop written by hand only those of the states.
        """
        if self.replay is None and self.heard:
            return self.heard
        found = self._again("gradients").detail.gradients
        return {name: g.reshape(len(g), -1, g.shape[-1]) for name, g in found.items()}

    @property
    def input_gradients(self) -> Mapping[str, Array]:
        """leaf of xs ("" if there is one) -> dL/dx_t by way of this layer and direction, (T, B, I).

        Masks that a layer draws for its cell are no inputs.
        """
        return self._again("input_gradients").detail.inputs

    @property
    def inputs(self) -> Array | None:
        """|dL/dx_t| by way of this layer and direction, (T, B); None if x holds no floats."""
        parts = list(self.input_gradients.values())
        if not parts:
            return None
        wide = [np.asarray(g, np.float64).reshape(*g.shape[:2], -1) for g in parts]
        joined = np.concatenate(wide, axis=2)
        return row_norms(joined).reshape(joined.shape[:2])

    @cached_property
    def weights(self) -> Mapping[str, weights.WeightFlow]:
        """name -> the norms of its gradient's terms by step and by lag, and their sum.

        `weight_terms` has the terms themselves.
        """
        replay = self._again("weights")
        if self.forward_only:
            none = np.zeros(replay.steps)
            zero = weights.nothing(replay).items()
            return {name: weights.WeightFlow(none, none, terms.sum(axis=0)) for name, terms in zero}
        return weights.flows(replay)

    def weight_terms(self, by: str = "step", row: int | None = None) -> dict[str, Array]:
        """name -> the terms of dL/dW, (T, *shape): one for each step, or for each lag.

        by: "step" in order of computation, or "lag": how many steps a gradient travelled from an
        output to the use of the weight. Both add up to dL/dW; the first K lags are what BPTT
        truncated after K steps would give. A call that no gradient reached adds zeros; those of all
        calls of a layer add up to the weight's .grad. row: those of one sample of the batch alone.
        """
        replay = self._apart("weight_terms", by)
        if row is not None and not -replay.rows <= row < replay.rows:
            raise ValueError(f"weight_terms: row {row} of a batch of {replay.rows}.")
        if self.forward_only:
            return weights.nothing(replay)
        if row is not None:
            return credit.of_row(replay, by, row % replay.rows)
        return weights.terms(replay) if by == "step" else weights.parts(replay)

    def credit(self, by: str = "step") -> Credit:
        """What each step of each sample, or each lag of it, adds to the gradient of every weight.

        by: as in `weight_terms`, whose terms these are the norms and the shares of. Computed by a
        small compiled step for each of T * B, a millisecond or so.

        >>> import minigrad as mg
        >>> rnn = mg.nn.RNN(2, 2, generator=np.random.default_rng(0), dtype=np.float64)
        >>> found = mg.flow.probe(rnn, np.ones((9, 4, 2)))["rnn/l0/fwd"].credit("lag")
        >>> shares = found.shares["weight_hh_l0"]
        >>> shares.shape, round(float(shares.sum()), 9)
        ((9, 4), 1.0)
        """
        replay = self._apart("credit", by)
        of = credit.none if self.forward_only else credit.measured
        return of(replay, by, self.path, self.steps)

    def _apart(self, what: str, by: str) -> Replay:
        if by not in ("step", "lag"):
            raise ValueError(f"{what}: by must be 'step' or 'lag', got {by!r}.")
        return self._again(what)

    def jacobians(self) -> Jacobians:
        """The Jacobians dS_t/dS_{t-1} along what was recorded; see `mg.flow.jacobians`."""
        from .jacobian import jacobians

        replay = self._again("jacobians")
        with replay.restored():
            return jacobians(replay.cell, replay.init, replay.xs, reverse=replay.reverse)

    def _again(self, what: str) -> Replay:
        if self.replay is None:
            raise FlowError(
                f"{what}: {self.path or 'this recording'} cannot be run again, since its loop was "
                f"written by hand (or record() was told replay=False); use a layer of mg.nn, or "
                f"mg.scan."
            )
        return self.replay

    # -- verdicts

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """One for each state: how the gradient travels back along it, why, and what to try."""
        found = {n: self.judged(n) for n in self.norms}
        if self.forward_only:
            return found
        return {n: v.because(self.why, advice(self, v.kind)) for n, v in found.items()}

    @cached_property
    def why(self) -> str:
        """What its gates and the Jacobians of its steps say about the factor per step, in words."""
        return reason(self)

    def judged(self, name: str) -> Verdict:
        """The verdict on one state, without the reasons and the advice, which cost more."""
        if self.forward_only:
            why = "no gradient arrived" if self.wants else "it ran under no_grad"
            return Verdict("none", f"{FORWARD_ONLY}, {why}", np.nan, 0)
        profile = self.profile(name)
        if why := self.untold():
            return cannot_tell(profile, why)
        return judge(profile, self.thresholds, self.tiny)

    @cached_property
    def verdict(self) -> Verdict:
        """On all that its states carry together (see cuts.py); of which `verdicts` are parts."""
        if self.arrived and self.cut is not None:
            return self.cut().verdict
        verdicts = self.verdicts
        return verdicts.get("h") or next(iter(verdicts.values()))

    def __repr__(self) -> str:
        states = ", ".join(self.norms)
        return f"<LayerFlow {self.path or 'network'}: {states} at {plural(self.steps.size)}>"

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def to_dict(self) -> dict[str, Any]:
        """All but per_sample and what would run the layer again, for JSON."""
        return {
            "path": self.path,
            "forward_only": self.forward_only,
            "steps": self.steps.tolist(),
            "norms": {name: x.tolist() for name, x in self.norms.items()},
            "activations": {
                name: {"mean": a.mean.tolist(), "saturation": a.saturation.tolist()}
                for name, a in self.activations.items()
            },
            "verdicts": {name: v.to_dict() for name, v in self.verdicts.items()},
        }


def _open(mean: Array, sign: int) -> Array:
    return 1.0 - mean if sign > 0 else mean


def _dead(flat: Array) -> Array:
    """(rows, n) -> (n,), which columns are finite and do not move."""
    if len(flat) < 2:
        return np.zeros(flat.shape[-1], dtype=bool)
    high, low = flat.max(axis=0).astype(np.float64), flat.min(axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        still: Array = high - low <= STILL * np.maximum(np.abs(high), np.abs(low))
    return still & np.isfinite(high) & np.isfinite(low)  # what overflows has moved
