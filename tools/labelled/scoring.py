"""How often the causes that were named are those that are there: counts, intervals, tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Z = 1.959964  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Outcome:
    """One net: what was planted, a line about it, what is true of it, what was said.

    first: where the first NaN or Inf is, (t, row), and first_said; None where there is none.
    """

    plant: str
    about: str
    true: dict[str, bool | None]
    said: tuple[str, ...]
    first: tuple[int, int] | None = None
    evidence: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def missed(self) -> list[str]:
        return [name for name, there in self.true.items() if there and name not in self.said]

    @property
    def false(self) -> list[str]:
        return [name for name in self.said if self.true[name] is False]


@dataclass(frozen=True)
class Score:
    """hits: there and named. missed: there and not named. false: named and not there."""

    hits: int
    missed: int
    false: int
    unclear: int = 0  # nets for which the label is None
    unclear_named: int = 0  # and of these, named

    @property
    def precision(self) -> tuple[float, float, float]:
        return wilson(self.hits, self.hits + self.false)

    @property
    def recall(self) -> tuple[float, float, float]:
        return wilson(self.hits, self.hits + self.missed)


def wilson(k: int, n: int) -> tuple[float, float, float]:
    """(k / n, and the ends of its 95 % interval), Wilson 1927; nan and the whole range for n = 0.

    >>> [round(x, 3) for x in wilson(10, 10)]
    [1.0, 0.722, 1.0]
    """
    if not n:
        return math.nan, 0.0, 1.0
    p, z2 = k / n, Z * Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return p, max(middle - half, 0.0), min(middle + half, 1.0)


def score(outcomes: Iterable[Outcome], name: str) -> Score:
    counts = [0, 0, 0, 0, 0]
    for outcome in outcomes:
        there, named = outcome.true[name], name in outcome.said
        if there is None:
            counts[3] += 1
            counts[4] += named
        elif there:
            counts[0 if named else 1] += 1
        else:
            counts[2] += named
    return Score(*counts)


def table(outcomes: Sequence[Outcome], names: Iterable[str]) -> list[str]:
    """Precision and recall of each cause, and of all together, as a table of Markdown."""
    lines = ["| cause | in | named | missed | false | precision | recall | unclear, named |",
             "|---|--:|--:|--:|--:|---|---|--:|"]  # fmt: skip
    every = [score(outcomes, name) for name in names]
    total = Score(*(sum(part) for part in zip(*(vars(s).values() for s in every))))
    for name, s in [*zip(names, every), ("all causes", total)]:
        lines.append(
            f"| {name} | {s.hits + s.missed} | {s.hits} | {s.missed} | {s.false} | "
            f"{_interval(s.precision)} | {_interval(s.recall)} | {s.unclear}, {s.unclear_named} |"
        )
    return lines


def confusion(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[str]:
    """Planted x named: nets of which it was said, and after a + those of which it is not true."""
    lines = [
        f"| planted | nets | {' | '.join(names)} | nothing |",
        f"|---|--:|{'--:|' * (len(names) + 1)}",
    ]
    for plant in dict.fromkeys(o.plant for o in outcomes):
        those = [o for o in outcomes if o.plant == plant]
        cells = []
        for name in names:
            said = [o for o in those if name in o.said]
            false = sum(o.true[name] is False for o in said)
            cells.append(f"{len(said) - false or ''}" + f" +{false}" * bool(false))
        nothing = sum(not o.said for o in those)
        lines.append(f"| {plant} | {len(those)} | {' | '.join(cells)} | {nothing or ''} |")
    return lines


def _interval(found: tuple[float, float, float]) -> str:
    p, low, high = found
    return "-" if math.isnan(p) else f"{p:.2f} ({low:.2f} to {high:.2f})"
