"""The grid of a sweep, from TOML: every combination of the lists in [grid], each with [fixed].

    [grid]
    cell = ["rnn", "lstm"]
    seed = [0, 1, 2]
    [fixed]
    task = "adding"

The last key of [grid] changes fastest. `function = "module:function"` at the top runs something
else than a trial: it is called with a dictionary of the parameters and returns one of results.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...untrusted import read_text, reading, shortly
from .errors import SweepError, unknown

TRIAL = "minigrad.lab.sweep.trials:run"
SECTIONS = ("grid", "fixed", "function")
MOST_RUNS = 100_000
MOST_CONFIG = 4 << 20  # bytes of a configuration
MOST_PARTS = 50  # of a dotted key
_TEXTS = re.compile(r"""["](?:[^"\\\n]++|\\.)*+(?:["]|\\?(?=\n|\Z))|'[^'\n]*+'""")
_KEYS = re.compile(r"""[\w"'-]++(?:[ \t]*+\.[ \t]*+[\w"'-]++)*+""")
EXAMPLE = Path(__file__).with_name("example.toml")


@dataclass(frozen=True)
class Run:
    """One point of the grid. key: a hash of the function and all parameters, its name on disk."""

    key: str
    parameters: dict[str, Any]
    point: dict[str, Any]  # what of it the grid varies

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.point.items())


@dataclass(frozen=True)
class Config:
    """A sweep: what varies, what does not, and the function that is run."""

    grid: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any]
    function: str = TRIAL

    def runs(self) -> list[Run]:
        """All runs in the order of the grid. Raises SweepError for values a trial does not take.

        >>> config = Config({"a": (1, 2), "b": ("x",)}, {"c": 0}, "math:sqrt")
        >>> [str(run) for run in config.runs()]
        ['a=1 b=x', 'a=2 b=x']
        """
        return self._runs

    @cached_property
    def _runs(self) -> list[Run]:
        runs = []
        for values in itertools.product(*self.grid.values()):
            point = dict(zip(self.grid, values))
            parameters = {**self.fixed, **point}
            if self.function == TRIAL:
                from .trials import resolve

                try:
                    parameters = resolve(parameters)
                except SweepError as error:
                    where = "".join(f" {k}={v}" for k, v in point.items())
                    raise SweepError(f"{error} (at{where})") from None
            runs.append(Run(_key(self.function, parameters), parameters, point))
        return runs


def _key(function: str, parameters: Mapping[str, Any]) -> str:
    """A name that does not depend on the order of the parameters, nor on 1 or 1.0."""
    same = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in parameters.items()
    }
    text = json.dumps([function, same], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> Config:
    """The sweep that a TOML file describes. Raises SweepError with the file and the key."""
    try:
        with reading(path, SweepError, what="configuration of a sweep"):
            return parse(_parsed(_text(path)))
    except SweepError as error:
        said = str(error)
        raise SweepError(said if said.startswith(f"{path}: ") else f"{path}: {said}") from None


def _parsed(text: str) -> dict[str, Any]:
    # tomllib takes the square of the parts of a key: minutes for some kilobytes of `a.a.a...`.
    if any(key[0].count(".") > MOST_PARTS for key in _KEYS.finditer(_TEXTS.sub("q", text))):
        raise SweepError(f"has a key of more than {MOST_PARTS} parts.")
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and integers of thousands of digits
        raise SweepError(f"is not TOML: {error}.") from None


def _text(path: Path) -> str:
    try:
        return read_text(path, MOST_CONFIG)
    except UnicodeDecodeError:
        raise SweepError("is not UTF-8 text.") from None
    except OSError as error:
        raise SweepError(f"cannot be read: {error.strerror or error}.") from None


def parse(content: Mapping[str, Any]) -> Config:
    """A Config from what a TOML file holds. Raises SweepError naming the key and what is known.

    >>> parse({"grid": {"cell": []}, "fixed": {"task": "adding"}})
    Traceback (most recent call last):
    minigrad.lab.sweep.errors.SweepError: [grid]: cell is an empty list; give it a value, ...
    """
    for key in content:
        if key not in SECTIONS:
            raise SweepError(unknown("key", key, SECTIONS) + _place(key))
    function = content.get("function", TRIAL)
    if not isinstance(function, str) or function.count(":") != 1:
        raise SweepError(f'function must be "module:function", got {function!r}.')
    grid, fixed = content.get("grid", {}), content.get("fixed", {})
    for name, section in (("grid", grid), ("fixed", fixed)):
        if not isinstance(section, Mapping):
            raise SweepError(f"{name} must be a section, [{name}], got {section!r}.")
        if function == TRIAL:
            from .trials import check_keys

            check_keys(name, list(section))
    if not grid:
        raise SweepError('[grid] is empty; list what varies there, e.g. cell = ["rnn", "lstm"].')
    for key, values in grid.items():
        _check_list(key, values)
        if key in fixed:
            raise SweepError(f"{key} is in [grid] and in [fixed]; leave it in one of them.")
    for key, value in fixed.items():
        if isinstance(value, list):
            raise SweepError(f"[fixed]: {key} is a list; move it to [grid], or give one value.")
        _check_value("fixed", key, value)
    if (size := math.prod(map(len, grid.values()))) > MOST_RUNS:
        raise SweepError(f"[grid] has {size:,} runs; at most {MOST_RUNS:,}.")
    config = Config({k: tuple(v) for k, v in grid.items()}, dict(fixed), function)
    config.runs()  # every point is checked before the first one runs
    return config


def _place(key: str) -> str:
    from .trials import KEYS

    return f" Put {key} under [grid] or [fixed]." if key in KEYS else ""


def _check_list(key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise SweepError(
            f"[grid]: {key} must be a list, got {values!r}; write {key} = [{_toml(values)}], or "
            "move it to [fixed]."
        )
    if not values:
        raise SweepError(f"[grid]: {key} is an empty list; give it a value, or remove it.")
    if len(values) > MOST_RUNS:
        raise SweepError(f"[grid]: {key} has {len(values):,} values; at most {MOST_RUNS:,}.")
    seen: set[Any] = set()
    for value in values:
        _check_value("grid", key, value)
        if value in seen:
            raise SweepError(f"[grid]: {key} lists {value!r} twice; every run is done once.")
        seen.add(value)


def _check_value(section: str, key: str, value: Any) -> None:
    if not isinstance(value, (str, int, float, bool)):
        kind = type(value).__name__
        raise SweepError(f"[{section}]: {key} takes a number or a text, got a {kind}: {value!r}.")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise SweepError(f"[{section}]: {key} takes a number of 64 bits, got {shortly(value)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise SweepError(f"[{section}]: {key} takes a finite number, got {value}.")


def _toml(value: Any) -> str:
    return json.dumps(value, default=str)


def load(function: str) -> Callable[[dict[str, Any]], Any]:
    """The function that "module:function" names. Raises SweepError if it is not there."""
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # it may be anything that a module does when it is imported
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise SweepError(f"function {function!r} cannot be imported: {why}.") from None
    if not callable(found):
        raise SweepError(f"function {function!r} is no function but a {type(found).__name__}.")
    return found


def difference(old: Config, new: Config) -> str | None:
    """Why results of `old` cannot be continued as `new`: None if `new` has all runs of `old`."""
    has = {run.key for run in new.runs()}
    gone = next((run for run in old.runs() if run.key not in has), None)
    if gone is None:
        return None
    if old.function != new.function:
        return f"function was {old.function}, now {new.function}"
    now = new.runs()[0].parameters  # with the defaults of a trial
    for name, was in gone.parameters.items():
        if name in new.grid:
            if was not in new.grid[name]:
                return f"[grid]: {name} does not list {was}"
        elif now.get(name, "absent") != was:
            return f"{name} was {was}, now {now.get(name, 'absent')}"
    more = [name for name in now if name not in gone.parameters]
    return f"{', '.join(more)} was absent"
