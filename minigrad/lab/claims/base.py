"""What a claim is: who said what, how it is measured, and what would count as holding.

A claim is a module with one `CLAIM`. Its criteria are code in `judge`, written before the stored
run was made; a verdict is never anything but `judge` of the numbers, so stored results can be
judged again at any time.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import MinigradError
from ..tasks import task
from ..trial import Network, Trial, train

Data = dict[str, Any]  # "rows": flat dicts, the CSV; and what else the figure needs; all JSON
Tell = Callable[[str], None]
RESULTS = Path(__file__).parent / "results"


class ClaimError(MinigradError, ValueError):
    """A claim that does not exist, or has no stored result."""


@dataclass(frozen=True)
class Source:
    """A paper. abstract_only: nothing but its abstract was read."""

    authors: str
    year: int
    title: str
    abstract_only: bool = False

    @property
    def short(self) -> str:
        """As in a text: `Bengio et al. 1994`."""
        names = [name.split()[-1] for name in re.split(r",| and ", self.authors) if name.strip()]
        many = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return f"{many} {self.year}"

    def says(self, what: str, place: str) -> str:
        """What it says, and where in it: a figure, a table, an equation, a section, the abstract.

        >>> Source("A. Author", 2000, "On it").says("it is so", "Fig. 2")
        'it is so (Author 2000, Fig. 2)'
        """
        return f"{what} ({self.short}, {place})"

    def __str__(self) -> str:
        note = "; only its abstract was read" if self.abstract_only else ""
        return f'{self.authors}, "{self.title}", {self.year}{note}'


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    paper: what a source says, and where (`Source.says`); "" if none says it. here: what was
    measured. asked: the criterion in words. holds: whether it is met. expected: what minigrad
    expects on grounds of its own; it is in nobody else's mouth.
    """

    what: str
    paper: str
    here: str
    asked: str
    holds: bool
    expected: str = ""


@dataclass(frozen=True)
class Claim:
    """A published claim.

    full, quick: settings of its two forms; `seeds` is the number of seeds, from the first on.
    scale: what is smaller here than in the paper.
    measure(settings, first_seed, tell): the numbers; `tell` takes a line of progress.
    judge(data): the comparison. draw(data, figure): the picture. chart(data, blocks): for a
    terminal, in the signs `blocks`. revised: how many criteria were changed after a full run had
    failed them; `scale` tells the history.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    scale: str
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    measure: Callable[[Mapping[str, Any], int, Tell], Data]
    judge: Callable[[Data], list[Row]]
    draw: Callable[[Data, Any], None]
    chart: Callable[[Data, str], str]
    revised: int = 0


def verdict(rows: Sequence[Row]) -> str:
    """`reproduces` if every criterion is met, `in part` if some are, or `does not reproduce`."""
    met = sum(row.holds for row in rows)
    return "reproduces" if met == len(rows) > 0 else "in part" if met else "does not reproduce"


def run(claim: Claim, quick: bool = False, seed: int = 0, tell: Tell | None = None) -> Data:
    """Measures and judges a claim; returns everything that is stored, ready for JSON.

    The numbers in `data` depend on the settings and the seed only.
    """
    settings = dict(claim.quick if quick else claim.full)
    started = time.perf_counter()
    data = claim.measure(settings, seed, tell or (lambda line: None))
    seconds = time.perf_counter() - started
    rows = claim.judge(data)
    return {
        "claim": claim.name,
        "form": "quick" if quick else "full",
        "command": command(claim.name, quick, seed),
        "settings": settings,
        "seeds": list(range(seed, seed + settings["seeds"])),
        "verdict": verdict(rows),
        "comparison": [asdict(row) for row in rows],
        "seconds": round(seconds, 1),
        "machine": machine(),
        "versions": versions(),
        "data": data,
    }


def command(name: str, quick: bool, seed: int) -> str:
    """What makes the same numbers again."""
    return f"minigrad experiment {name}{' --quick' if quick else ''} --seed {seed}"


def machine() -> str:
    """In words: `2-core AMD EPYC`."""
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{os.cpu_count()}-core {model or platform.machine()}"


def versions() -> dict[str, str]:
    """Of what made the numbers."""
    package = sys.modules[__name__.partition(".")[0]]  # the layer above, which is there by now
    return {
        "minigrad": str(getattr(package, "__version__", "")),
        "numpy": np.__version__,
        "numba": version("numba"),
        "python": platform.python_version(),
    }


def trained(
    settings: Mapping[str, Any],
    seed: int,
    tell: Tell,
    prepare: Callable[[Network], dict[str, Any]] | None = None,
    **fields: Any,
) -> tuple[dict[str, Any], Network]:
    """One row (the fields that vary, loss, solved, updates, ...) and the network.

    settings["trial"] holds the fields that are the same for all. prepare(network) may change the
    first weights, or measure them; what it returns goes into the row.
    """
    trial = Trial(**{**settings["trial"], **fields, "seed": seed})
    work = task(trial.task, trial.length)
    network = Network(trial, work)
    extra = prepare(network) if prepare else {}
    found = train(trial, network, work)
    row = {
        **fields, **extra, "seed": seed, "loss": found["loss"], "baseline": found["baseline"],
        "solved": found["solved"], "updates": found["updates_done"], "diverged": found["diverged"],
    }  # fmt: skip
    words = ", ".join(f"{name} {value}" for name, value in {**fields, **extra}.items())
    solved = "solved" if row["solved"] else "not solved"
    tell(f"{words}, seed {seed}: {solved}, loss {row['loss']:.3g} after {row['updates']} updates")
    return row, network


def share(rows: Sequence[Mapping[str, Any]], field: str = "solved", **where: Any) -> float:
    """Share of the rows with these values of which `field` is true; nan if there are none.

    >>> share([{"T": 5, "solved": True}, {"T": 9, "solved": False}], T=5)
    1.0
    """
    chosen = [row[field] for row in rows if all(row[k] == v for k, v in where.items())]
    return float(np.mean(chosen)) if chosen else float("nan")


def column(rows: Sequence[Mapping[str, Any]], field: str, **where: Any) -> np.ndarray:
    """The values of `field` in the rows with these values."""
    return np.array([row[field] for row in rows if all(row[k] == v for k, v in where.items())])


def span(values: np.ndarray, form: str) -> str:
    """From the least to the largest; one number if both read alike.

    >>> span(np.array([0.31, 0.28]), ".2f"), span(np.array([0.281, 0.284]), ".2f")
    ('0.28 to 0.31', '0.28')
    """
    ends = [format(float(value), form) for value in (values.min(), values.max())]
    return " to ".join(dict.fromkeys(ends))


def different(rows: Sequence[Mapping[str, Any]], field: str) -> list[Any]:
    """The values of `field`, each once, in the order in which they come."""
    return list(dict.fromkeys(row[field] for row in rows))
