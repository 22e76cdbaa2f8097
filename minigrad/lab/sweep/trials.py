"""What a run of a sweep is by default: one trial of `minigrad.lab.trial`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from ..tasks import TaskError
from ..trial import CELLS, INITS, Trial, TrialError, run_trial
from .errors import SweepError, unknown

KEYS = tuple(field.name for field in fields(Trial))
SHOWN = ("loss", "solved", "diverged", "reach_before", "reach_after", "updates_done")
BEFORE_REACH = {"reach_before": "half_life_before", "reach_after": "half_life_after"}


def run(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Trains the network that these fields of a Trial describe."""
    results = run_trial(Trial(**parameters))
    return {name: value for name, value in results.items() if name not in KEYS}


def check_keys(section: str, keys: Sequence[str]) -> None:
    """Raises SweepError for a key that is no field of a Trial."""
    for key in keys:
        if key not in KEYS:
            raise SweepError(unknown(f"[{section}]: key", key, KEYS))


def resolve(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of the trial, defaults included. Raises SweepError for a value it does not take.

    >>> resolve({"task": "adding", "length": 10})["cell"]
    'lstm'
    """
    if "task" not in parameters:
        raise SweepError('there is no task; put task = "adding" under [fixed].')
    try:
        return asdict(Trial(**parameters))
    except (TrialError, TaskError) as error:
        raise SweepError(str(error).removeprefix("trial: ")) from None
    except TypeError:
        for name, value in parameters.items():
            if not isinstance(value, (str, int, float)):
                raise SweepError(f"{name} cannot be {value!r}.") from None
        raise


def warm_ups(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One short run for each kernel set, so that workers find compiled kernels on disk."""
    short: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in runs:
        kind = (run["task"], run["cell"], run["optimizer"])
        short.setdefault(kind, dict(run, updates=1, length=min(run["length"], 10)))
    return list(short.values())


__all__ = [
    "BEFORE_REACH", "CELLS", "INITS", "KEYS", "SHOWN", "check_keys", "resolve", "run", "warm_ups",
]  # fmt: skip
