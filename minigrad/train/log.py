"""A JSONL log: one line a record, on the disk as soon as it is written."""

from __future__ import annotations

import os
import warnings
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import MinigradError
from ..files import write_whole
from ..flow.results import to_line
from ..untrusted import lines_of, open_regular, parse_json, reading, whole_number


class LogError(MinigradError, ValueError):
    """A file that is no log of training, and the line that is none of its."""


class LogWarning(UserWarning):
    """A log that does not go on seamlessly when a run is resumed, and where its lines are."""


class Log:
    """Writes records to a file, or nowhere if path is None. NaN and Inf become texts.

    step: where a run that is resumed stands. Lines up to there stay; those of steps that it will do
    again, and a line that a kill has torn, go. resume: at step 0, a log of a run that was killed
    before its first checkpoint, or whose checkpoint is lost, is set aside under a free name (`-2`,
    `-3`, ...); otherwise the file must be new at step 0, so that no earlier log is lost. LogWarning
    says what was set aside, or which steps before `step` have no line.
    """

    def __init__(self, path: str | Path | None, step: int = 0, resume: bool = False):
        self.file = None
        if path is None:
            return
        path = Path(path)
        if resume and not step:
            _set_aside(path)
        elif step:
            _cut(path, step)
        self.file = open(path, "a" if step else "x", encoding="utf-8")  # noqa: SIM115

    def write(self, record: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(to_line(record))
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _set_aside(path: Path) -> None:
    """Renames the log of a run that left no checkpoint, where it holds anything."""
    if not path.exists():
        return
    whole_lines(path)  # what is no log is none of this run's
    if path.stat().st_size == 0:  # killed before the first step
        path.unlink()
        return
    _warn(
        f"there is no checkpoint, so the run starts anew; the log of the earlier one is kept as "
        f"{_rename(path)}."
    )


def _rename(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    aside = next(name for name in names if not os.path.lexists(name))
    return path.rename(aside)


def _cut(path: Path, step: int) -> None:
    """Takes the lines after `step` out of a log."""
    lines = whole_lines(path) if path.exists() else []
    kept = [line for line in lines if _step(line) <= step]
    if lines:
        write_whole(path, "".join(map(to_line, kept)).encode())
    aside = ""
    if not lines and path.exists() and path.stat().st_size:
        aside = f" What was there is kept as {_rename(path)}."
    if (last := max(map(_step, kept), default=0)) < step:
        _warn(
            f"the checkpoint is of step {step}, and {path} has no lines of steps {last + 1} to "
            f"{step}; it goes on after them.{aside}"
        )


def _warn(text: str) -> None:
    warnings.warn(f"fit: {text}", LogWarning, stacklevel=5)


def _step(record: dict[str, Any]) -> int:
    validation = record.get("validation", {})
    known = validation if "step" not in record and isinstance(validation, dict) else record
    return whole_number(known.get("step", 0))


def whole_lines(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSONL file; a last line that a kill has torn is left out.

    Raises LogError for any other line that is no record, and for what is no file.
    """
    found = []
    with reading(path, LogError, what="log"), open_regular(path) as file:
        torn = 0
        for number, line in enumerate(lines_of(file), 1):
            if torn:
                raise LogError(f"{path}: line {torn} is not JSON.")
            try:
                record = parse_json(line)
            except ValueError:
                torn = number
                continue
            if not isinstance(record, dict):
                raise LogError(f"{path}: line {number} is no record, {{...}}.")
            found.append(record)
    return found
