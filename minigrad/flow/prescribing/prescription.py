"""What prescribe() found: a row for each remedy, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, ClassVar

from .. import tables
from .signs import LEVEL, holm, pairs_needed, tail


@dataclass(frozen=True)
class Outcome:
    """One fork. reach, loss: before; reach_at_once: with the remedy, before a step is done;
    reach_after, loss_after: when all steps are done (inf for a loss that is no number).
    """

    seed: int
    reach: float
    reach_at_once: float
    reach_after: float
    loss: float
    loss_after: float


@dataclass(frozen=True)
class Tried:
    """A remedy and its forks, beside those of the same seeds without it.

    code: what one would write. helps: whether so many lower losses are more than chance, seen among
    all that was tried; hurts: the same for higher ones. whole: whether all seeds were done.
    """

    name: str
    code: str
    outcomes: Sequence[Outcome]
    without: Sequence[Outcome]
    whole: bool = True
    helps: bool = False
    hurts: bool = False

    @cached_property
    def losses(self) -> list[tuple[float, float]]:
        """(with the remedy, without it) for each seed."""
        by_seed = {o.seed: o.loss_after for o in self.without}
        return [(o.loss_after, by_seed[o.seed]) for o in self.outcomes]

    @property
    def lower(self) -> int:
        """Seeds whose loss is lower than without the remedy."""
        return sum(a < b for a, b in self.losses)

    @property
    def higher(self) -> int:
        return sum(a > b for a, b in self.losses)

    @property
    def pairs(self) -> int:
        """Seeds that differ: a sign test leaves ties out."""
        return self.lower + self.higher

    @property
    def p(self) -> float:
        """How often a remedy without effect would lower the loss of so many seeds or more."""
        return tail(self.lower, self.pairs)

    @property
    def ratio(self) -> float:
        """The median of the loss with the remedy over the loss without it; nan if none differ."""
        found = [
            0.0 if math.isinf(b) else a / b if b else math.inf for a, b in self.losses if a != b
        ]
        return median(found) if found else math.nan


@dataclass(repr=False)
class Prescription:
    """What mg.flow.prescribe found; print it, or read it.

    what, causes: the verdict on the run as it stood, over so many steps, and what it was put down
    to. without: the
    forks that go on as they are. tried: those with a remedy. not_tried: remedies that the budget
    did not reach. not_offered: remedy -> why it is none here. seconds: that it took; budget: that
    it was given.
    """

    what: str
    steps: int
    causes: list[str]
    updates: int
    seeds: int
    budget: float
    without: list[Outcome] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)
    not_offered: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    held_out: bool = True

    @property
    def helped(self) -> list[Tried]:
        """The remedies that lowered the loss, most first."""
        return sorted((t for t in self.tried if t.helps), key=lambda t: t.ratio)

    def __getitem__(self, name: str) -> Tried:
        for tried in self.tried:
            if tried.name == name:
                return tried
        raise KeyError(f"{name!r}; tried were {', '.join(repr(t.name) for t in self.tried)}")

    def judged(self) -> Prescription:
        """The same, with what may be said of each remedy among all of them."""
        helps = holm([t.p for t in self.tried])
        hurts = holm([tail(t.higher, t.pairs) for t in self.tried])
        self.tried = [
            Tried(t.name, t.code, t.outcomes, t.without, t.whole, a, b)
            for t, a, b in zip(self.tried, helps, hurts)
        ]
        return self

    @property
    def needed(self) -> int:
        """Seeds that are needed to tell of any remedy among those that were tried."""
        return pairs_needed(len(self.tried))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what, "steps": self.steps, "causes": self.causes, "updates": self.updates,
            "seeds": self.seeds, "budget": self.budget, "seconds": self.seconds,
            "without": [vars(o) for o in self.without],
            "tried": {
                t.name: {
                    "code": t.code, "lower": t.lower, "higher": t.higher, "p": t.p,
                    "helps": t.helps, "hurts": t.hurts, "whole": t.whole,
                    "outcomes": [vars(o) for o in t.outcomes],
                }
                for t in self.tried
            },
            "not_tried": self.not_tried, "not_offered": self.not_offered,
        }  # fmt: skip

    # -- in words

    def __str__(self) -> str:
        head, *rows = self.rows()
        table = tables.table(head, rows, right=range(1, len(head)))
        return "\n".join([self.head(), "", table, "", *self.said()])

    __repr__ = __str__

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def head(self) -> str:
        """The verdict on the run as it stood, and what was done with it."""
        where = "batches held out" if self.held_out else "the batch it is trained on"
        more = [cause for cause in self.causes if not self.what.startswith(cause)]
        causes = f" ({', '.join(more)})" if more else ""
        return (
            f"As it stands: {self.what}{causes}.\n"
            f"{_count(self.updates, 'update')} each, {_count(self.seeds, 'seed')}, the loss on "
            f"{where}; "
            f"{self.seconds:.1f} s of {self.budget:g} s. Medians over seeds:"
        )

    def rows(self) -> list[list[str]]:
        """The head of the table, and a row for the forks without a remedy and for each with one."""
        rows = [["remedy", "reach", "at once", "after", "loss", "after", "lower", "p"]]
        rows.append(self._row("as it is", self.without, "", ""))
        for t in self.tried:
            rows.append(self._row(t.name, t.outcomes, f"{t.lower} of {t.pairs}", f"{t.p:.2g}"))
        return rows

    def _row(self, name: str, outcomes: Sequence[Outcome], lower: str, p: str) -> list[str]:
        def mid(field: str) -> float:
            known = [x for o in outcomes if not math.isnan(x := getattr(o, field))]
            return median(known) if known else math.nan

        beyond = f"> {self.steps}"
        reaches = [_number(mid(f), beyond) for f in ("reach", "reach_at_once", "reach_after")]
        return [name, *reaches, *(_number(mid(f)) for f in ("loss", "loss_after")), lower, p]

    def said(self) -> list[str]:
        """What helped, what did not, what cannot be told, and what was not tried."""
        lines = []
        for t in self.helped:
            lines.append(f"{t.name} helped: {self._evidence(t, 'lower', t.lower)}\n  {t.code}")
        for t in self.tried:
            if t.hurts:
                lines.append(f"{t.name} made it worse: {self._evidence(t, 'higher', t.higher)}")
        open_ = [t.name for t in self.tried if not t.helps and not t.hurts]
        few = self.tried and max(len(t.outcomes) for t in self.tried) < self.needed
        if few:
            lines.append(
                f"With {_count(self.seeds, 'seed')} it cannot be told what helps: among "
                f"{_count(len(self.tried), 'remedy')} that takes at least {self.needed}."
            )
        elif self.tried and not self.helped:
            lines.append("Nothing that was tried helped.")
        if open_ and not few:
            lines.append(f"No difference that could be told from chance: {', '.join(open_)}.")
        if short := [f"{t.name} ({len(t.outcomes)})" for t in self.tried if not t.whole]:
            lines.append(f"Tried with fewer seeds, as the time was over: {', '.join(short)}.")
        if self.not_tried:
            lines.append(f"Not tried, as the time was over: {', '.join(self.not_tried)}.")
        if not self.tried and not self.not_tried:
            lines.append("There is nothing to try.")
        for name, why in self.not_offered.items():
            lines.append(f"Not offered: {name} ({why}).")
        if self.tried:
            lines.append(
                f"lower: seeds whose loss is lower than as it is, ties left out; p: how often "
                f"chance alone would give as many (exact sign test). Called a help where "
                f"all of them together are wrong with at most {LEVEL:g} (Holm)."
            )
        return lines

    @staticmethod
    def _evidence(t: Tried, word: str, count: int) -> str:
        p = tail(count, t.pairs)
        return f"the loss is {word} in {count} of {t.pairs} seeds (p = {p:.2g})."


def _number(x: float, infinite: str = "inf") -> str:
    return "?" if math.isnan(x) else infinite if math.isinf(x) else f"{x:.4g}"


def _count(n: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{n} {what if n == 1 else plural}"
