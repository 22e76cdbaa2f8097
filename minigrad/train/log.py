"""A JSONL log: one line a record, on the disk as soon as it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import MinigradError
from ..files import write_whole
from ..flow.results import to_line
from ..untrusted import lines_of, open_regular, parse_json, reading, whole_number


class LogError(MinigradError, ValueError):
    """A file that is no log of training, and the line that is none of its."""


class Log:
    """Writes records to a file, or nowhere if path is None. NaN and Inf become texts.

    step: where a run that is resumed stands. Lines up to there stay; those of steps that it will do
    again, and a line that a kill has torn, go. At step 0 the file must be new, so that no earlier
    log is lost.
    """

    def __init__(self, path: str | Path | None, step: int = 0):
        self.file = None
        if path is None:
            return
        path = Path(path)
        if step and path.exists():
            kept = [line for line in whole_lines(path) if _step(line) <= step]
            write_whole(path, "".join(map(to_line, kept)).encode())
        self.file = open(path, "a" if step else "x", encoding="utf-8")  # noqa: SIM115

    def write(self, record: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(to_line(record))
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


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
