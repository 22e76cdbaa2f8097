"""A JSONL log: one line a record, on the disk as soon as it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..flow.results import to_line


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
    return int(record.get("step", record.get("validation", {}).get("step", 0)))


def whole_lines(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSONL file; a last line that a kill has torn is left out.

    Raises ValueError for any other line that is no JSON.
    """
    lines = Path(path).read_text("utf-8").splitlines()
    found = []
    for k, line in enumerate(lines):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            if k + 1 < len(lines):
                raise ValueError(f"{path}: line {k + 1} is not JSON.") from None
    return found
