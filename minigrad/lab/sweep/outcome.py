"""The table at the end of a sweep: one line for each point of the grid, over its seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ...flow.tables import table
from .config import TRIAL, Config

OVER = "seed"
MOST = 6  # columns of results, where nobody said which


def summary(config: Config, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean ± standard deviation (n - 1) over seeds; truth values as "2 of 3"."""
    names = [name for name in config.grid if name != OVER]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    counts: dict[tuple[Any, ...], list[int]] = {}
    for run in config.runs():
        point = tuple(run.parameters[name] for name in names)
        row = rows.get(run.key)
        count = counts.setdefault(point, [0, 0])
        members = groups.setdefault(point, [])
        count[1] += 1
        if row is not None and row["status"] == "ok":
            count[0] += 1
            members.append(row["results"])
    shown = columns(config, [r for group in groups.values() for r in group])
    body = [
        [*map(str, point), "{} of {}".format(*counts[point])]
        + [spread([r[name] for r in groups[point] if name in r]) for name in shown]
        for point in groups
    ]
    right = range(len(names) + 1, len(names) + 1 + len(shown))
    return table([*names, "runs", *shown], body, right=list(right))


def columns(config: Config, results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which results the table shows: all are in the CSV."""
    found = dict.fromkeys(
        name
        for result in results
        for name, value in result.items()
        if isinstance(number(value), (int, float)) and name not in config.grid
    )
    if config.function == TRIAL:
        from .trials import BEFORE_REACH, SHOWN

        # A sweep of a time when trials had no reach shows the half-lives that it has.
        older = {name: BEFORE_REACH.get(name, name) for name in SHOWN}
        return [n for name in SHOWN if (n := name if name in found else older[name]) in found]
    return [name for name in found if name not in config.fixed][:MOST]


def spread(values: list[Any]) -> str:
    """
    What is not finite has no mean: it is counted beside the mean of the others.

    >>> spread([1.0, 3.0]), spread([0.25]), spread([True, False]), spread([])
    ('2 ± 1.4', '0.25', '1 of 2', '-')
    >>> spread([1.0, 3.0, float("inf")]), spread([float("inf"), "inf"])
    ('2 ± 1.4, 1 inf', 'inf')
    """
    values = [number(value) for value in values]
    if not values or not all(isinstance(value, (int, float)) for value in values):
        return "-"
    if all(isinstance(value, bool) for value in values):
        return f"{sum(values)} of {len(values)}"
    finite = [value for value in values if math.isfinite(value)]
    others = Counter(str(float(value)) for value in values if not math.isfinite(value))
    if not finite and len(others) == 1:
        return next(iter(others))
    parts = [_mean(finite)] if finite else []
    return ", ".join([*parts, *(f"{count} {name}" for name, count in sorted(others.items()))])


def _mean(values: list[Any]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1 or not math.isfinite(mean):  # the sum may overflow
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {statistics.stdev(values):.2g}"


def number(value: Any) -> Any:
    """nan and inf, which JSON holds as texts, as the numbers they are."""
    return float(value) if value in ("nan", "inf", "-inf") else value


def headline(config: Config, results: Mapping[str, Any]) -> str:
    """The first result, for the line of progress."""
    for name in columns(config, [results])[:1]:
        return f"{name} {spread([results[name]])}"
    return ""
