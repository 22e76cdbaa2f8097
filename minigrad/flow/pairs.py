"""Two recordings of one net side by side: before and after something was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..compile.intervened import Intervened
from ..errors import FlowError
from .layerflow import LayerFlow
from .recording import Recording
from .tables import number, reach, table
from .verdict import Verdict

Array = np.ndarray
NUMBERS = 2, 3, 5  # columns of the table
ROUNDING = 1e3  # eps of a value's size: what differs by less may be the order of a sum


@dataclass(frozen=True)
class Change:
    """What became of one tapped value: `of` "value", or "gradient", of which norms are compared.

    before, after: root mean squares over steps, rows and units (of a gradient the norm of all).
    steps: (T,) the t of each entry, and difference: (T,), the root mean square of after - before
    there. touched: (T,) of bool, where an intervention acted on it in the second recording.
    """

    path: str
    name: str
    of: str
    before: float
    after: float
    steps: Array
    difference: Array
    touched: Array
    eps: float

    @property
    def differs(self) -> Array:
        """(T,) of bool: by more than rounding, a thousand eps of its size."""
        with np.errstate(invalid="ignore"):
            same = self.difference <= ROUNDING * self.eps * max(self.before, self.after)
        return ~same

    @property
    def where(self) -> str:
        """`t = 3 to 7`, the first and the last step that differ; "same"."""
        t = self.steps[self.differs]
        if not t.size:
            return "same"
        return f"t = {t.min()}" if t.size == 1 else f"t = {t.min()} to {t.max()}"


@dataclass
class Comparison:
    """What mg.flow.compare found; print it, draw it (`mg.flow.plots.compare`), or read it.

    before, after: the recordings. changes: of every tapped value of every layer that both have, and
    of the gradient of every state.
    """

    before: Recording
    after: Recording
    names: tuple[str, str] = ("before", "after")
    changes: list[Change] = field(default_factory=list)

    def __getitem__(self, what: tuple[str, str]) -> Change:
        """The change of (path, tap)."""
        for change in self.changes:
            if (change.path, change.name) == what and change.of == "value":
                return change
        known = ", ".join(repr((c.path, c.name)) for c in self.changes if c.of == "value")
        raise KeyError(f"{what!r}; compared are {known}")

    @property
    def verdicts(self) -> dict[str, tuple[Verdict, Verdict]]:
        """Of each cut that both have, before and after."""
        after = {cut.name: cut.verdict for cut in self.after.cuts}
        return {
            cut.name: (cut.verdict, after[cut.name])
            for cut in self.before.cuts
            if cut.name in after
        }

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def rows(self) -> list[list[str]]:
        """The table's head, and its rows."""
        rows = [row for name in self.verdicts for row in self._of_cut(name)]
        for c in self.changes:
            what = c.name if c.of == "value" else f"|dL/d{c.name}|"
            by = number(float(c.difference[c.differs].max())) if c.differs.any() else ""
            rows.append([c.path, what, f"{c.before:.3g}", f"{c.after:.3g}", c.where, by])
        for k in range(len(rows) - 1, 0, -1):
            rows[k][0] = "" if rows[k][0] == rows[k - 1][0] else rows[k][0]
        return [["cut, layer", "", *self.names, "differs at", "most by"], *rows]

    def __str__(self) -> str:
        head, *rows = self.rows()
        return table(head, rows, NUMBERS)

    __repr__ = __str__

    def _of_cut(self, name: str) -> Iterator[list[str]]:
        profiles = [
            next(cut.profile for cut in r.cuts if cut.name == name)
            for r in (self.before, self.after)
        ]
        verdicts = self.verdicts[name]
        for what, words in (
            ("verdict", [v.kind for v in verdicts]),
            ("reach", [reach(v) for v in verdicts]),
            ("|dL/dS| nearest", [number(float(p[0])) if p.size else "-" for p in profiles]),
            ("|dL/dS| farthest", [number(float(p[-1])) if p.size else "-" for p in profiles]),
        ):
            yield [name, what, *words, "", ""]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "names": list(self.names),
            "verdicts": {
                name: [v.to_dict() for v in pair] for name, pair in self.verdicts.items()
            },
            "changes": [
                {
                    "path": c.path, "name": c.name, "of": c.of, "before": c.before,
                    "after": c.after, "steps": c.steps.tolist(),
                    "difference": c.difference.tolist(), "touched": c.touched.tolist(),
                }
                for c in self.changes
            ],
        }  # fmt: skip


def compare(
    before: Recording, after: Recording, names: tuple[str, str] = ("before", "after")
) -> Comparison:
    """Two recordings of the same net on the same steps: verdicts, and where tapped values differ.

    The second may have run inside `mg.flow.intervene`, with other weights, or on other inputs; a
    gradient must have come back in both. Raises FlowError where they have no layer in common, or
    steps and rows that do not fit.

    >>> import minigrad as mg
    >>> rnn = mg.nn.RNN(1, 3, dtype=np.float64, generator=np.random.default_rng(0))
    >>> before = mg.flow.probe(rnn, np.ones((6, 1, 1)))
    >>> with mg.flow.intervene("h", patch=0.0, steps=2):
    ...     after = mg.flow.probe(rnn, np.ones((6, 1, 1)))
    >>> compare(before, after)["rnn/l0/fwd", "h"].where
    't = 2 to 5'
    """
    for recording in (before, after):
        if not isinstance(recording, Recording):
            raise FlowError(
                f"compare: expected two Recordings, got a {type(recording).__name__}; "
                f"`with mg.flow.record() as rec` makes one."
            )
    changes = [
        change
        for path, first in before.items()
        if path in after
        for change in _changes(path, first, after[path])
    ]
    if not changes:
        raise FlowError(
            f"compare: the recordings have no layer in common: {', '.join(before)} and "
            f"{', '.join(after)}."
        )
    return Comparison(before, after, names, changes)


def _changes(path: str, before: LayerFlow, after: LayerFlow) -> Iterator[Change]:
    if not np.array_equal(before.steps, after.steps):
        raise FlowError(
            f"compare: {path or 'the network'} has {before.steps.size} steps in one recording and "
            f"{after.steps.size} in the other, or in another order; record both on the same steps."
        )
    touched = changed_steps(after)
    order = np.argsort(before.steps, kind="stable")
    steps = before.steps[order]
    nowhere = np.zeros(len(steps), bool)
    tables: list[tuple[str, str, Any, Any]] = [
        (name, "value", a, after.values[name])
        for name, a in before.values.items()
        if name in after.values
    ]
    tables += [
        (name, "gradient", a[..., None], after.per_sample[name][..., None])
        for name, a in before.per_sample.items()
        if name in after.per_sample
    ]
    for name, of, a, b in tables:
        if a.shape != b.shape:
            raise FlowError(
                f"compare: {name} of {path or 'the network'} is {list(a.shape)}, (T, B, n), in one "
                f"recording and {list(b.shape)} in the other."
            )
        eps = float(np.finfo(before.values[name].dtype).eps)
        x, y = (np.asarray(v[order], np.float64) for v in (a, b))
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.where(np.isnan(x) & np.isnan(y), 0.0, y - x)
        size = 1.0 if of == "value" else np.sqrt(x.size)
        yield Change(
            path, name, of, size * _rms(x), size * _rms(y), steps, _each_rms(apart),
            touched.get(name, nowhere), eps,
        )  # fmt: skip


def changed_steps(layer: LayerFlow) -> dict[str, Array]:
    """tap -> (T,) of bool, in order of t: where an intervention acted."""
    cell: Any = layer.replay.cell if layer.replay is not None else None
    while cell is not None and type(cell) is not Intervened:
        cell = getattr(cell, "cell", None)
    return {} if cell is None else dict(cell.touched)


def _rms(x: Array) -> float:
    known = x[~np.isnan(x)]
    with np.errstate(over="ignore"):
        peak = float(np.max(np.abs(known), initial=0.0))
        return peak * float(np.sqrt(np.mean((known / peak) ** 2))) if 0 < peak < np.inf else peak


def _each_rms(x: Array) -> Array:
    """(T, ...) -> (T,); nan where one is NaN."""
    flat = x.reshape(len(x), -1)
    peak = np.max(np.abs(flat), axis=1, initial=0.0, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scaled = np.where(peak > 0, flat / peak, flat)
        return peak[:, 0] * np.sqrt(np.mean(scaled**2, axis=1)) if flat.shape[1] else peak[:, 0]
