"""What helped small nets on the tasks of mg.lab: the table that reports take their advice from.

prescriptions.json says which command made it and with which settings. A row counts, for a cause
and a kind of cell, in how many pairs of runs of a seed the loss was lower with a remedy than
without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .case import Case, kind_of
from .remedies import TABLE
from .remedy import Remedy
from .signs import holm, tail

FILE = Path(__file__).with_name("prescriptions.json")


@dataclass(frozen=True)
class Row:
    """cause, cell, remedy: names. lower, higher: pairs. ratio: median loss with over without."""

    cause: str
    cell: str
    remedy: str
    lower: int
    higher: int
    ratio: float
    helps: bool = False

    @property
    def pairs(self) -> int:
        return self.lower + self.higher

    @property
    def share(self) -> float:
        """Of the pairs; a half where there is none."""
        return self.lower / self.pairs if self.pairs else 0.5


@cache
def about() -> dict[str, Any]:
    """The table as it is stored: command, settings, rows."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


@cache
def rows(cause: str, cell: str) -> tuple[Row, ...]:
    """What was tried for this cause in this kind of cell, best first; () if nothing was."""
    found = [
        Row(cause, cell, r["remedy"], r["lower"], r["higher"], float(r["ratio"]))
        for r in about()["rows"]
        if (r["cause"], r["cell"]) == (cause, cell)
    ]
    helps = holm([tail(row.lower, row.pairs) for row in found])
    judged = [Row(**(vars(row) | {"helps": h})) for row, h in zip(found, helps)]
    return tuple(sorted(judged, key=lambda row: (not row.helps, -row.share, row.ratio)))


def like(cell: Any, cause: str) -> tuple[Row, ...]:
    """The rows of this kind of cell, or else of the nearest that it is a variant of."""
    kinds = [kind_of(cell), *(kind.__name__ for kind in type(cell).__mro__)]
    return next((found for kind in kinds if (found := rows(cause, kind))), ())


def helpful(case: Case, cause: str) -> list[tuple[Remedy, Row]]:
    """The remedies that helped the cause in such cells and can be tried on these, best first."""
    if not case.cells:
        return []
    return [
        (TABLE[row.remedy], row)
        for row in like(case.cells[-1], cause)
        if row.helps and row.remedy in TABLE and not TABLE[row.remedy].missing(case)
    ]


def ordered(case: Case, cause: str) -> list[Remedy]:
    """All remedies, those first that did best where the cause was the same."""
    known = like(case.cells[-1], cause) if case.cells else ()
    first = [TABLE[row.remedy] for row in known if row.remedy in TABLE and row.share >= 0.5]
    return first + [remedy for remedy in TABLE.values() if remedy not in first]
